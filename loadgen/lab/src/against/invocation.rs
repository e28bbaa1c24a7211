//! Runs a load generator as a process, and reads its CPU time from the kernel.

use std::io::{self, Read};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, killpg};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use engine::foreign;
use subject::process;

/// The result of a process.
#[derive(Debug)]
pub struct Ended {
    /// User and system CPU time of the process and of the processes that it reaped, in seconds.
    pub cpu_s: f64,
    /// Everything it printed on stdout, up to 4 MiB.
    pub stdout: String,
    /// How it ended, if not with 0, and its last output; in words that begin with "it".
    pub failure: Option<String>,
}

/// Why a process has no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
    /// It could not be run to its end; the reason in words that begin with "it".
    #[error("{0}")]
    Failed(String),
}

/// Runs `command`, a path and its arguments, on these CPUs (all if empty), and waits for its end.
/// It is killed with all processes that it has started if `interrupted` becomes true, if it takes
/// longer than `within`, and if the calling thread ends.
///
/// The CPU time is right only if no other thread of this process reaps children meanwhile.
///
/// # Errors
///
/// If it cannot be started, is interrupted, or takes too long.
pub fn run(
    command: &[String],
    cpus: &[usize],
    within: Duration,
    interrupted: &AtomicBool,
) -> Result<Ended, Failure> {
    /// Polling this rarely costs the generator nothing measurable.
    const POLL: Duration = Duration::from_millis(10);

    let failed = |what: &str, error: io::Error| Failure::Failed(format!("{what}: {error}"));
    let mut child = process::spawn(command, Path::new("/"), cpus)
        .map_err(|error| failed("it cannot be started", error))?;
    let readers = reader(child.stdout.take().expect("is piped"))
        .and_then(|stdout| Ok((stdout, reader(child.stderr.take().expect("is piped"))?)));
    let (stdout, stderr) = readers.map_err(|error| {
        end_group(&child);
        let _ = child.wait();
        failed("its output cannot be read", error)
    })?;
    let deadline = Instant::now() + within;
    let failure = loop {
        if has_ended(&child) {
            break None;
        }
        if interrupted.load(Relaxed) {
            break Some(Failure::Interrupted);
        }
        if Instant::now() >= deadline {
            let seconds = within.as_secs_f64();
            break Some(Failure::Failed(format!("it took longer than {seconds} s")));
        }
        thread::sleep(POLL);
    };
    // Kills the rest of its group, which holds the pipes, before its ID can be reused.
    end_group(&child);
    // The kernel adds the time of a child to this sum when it is reaped, and not before.
    let before = children_cpu_s();
    let status = child
        .wait()
        .map_err(|error| failed("waiting for it", error))?;
    let cpu_s = children_cpu_s() - before;
    let text = |reader: JoinHandle<String>| reader.join().unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    if let Some(failure) = failure {
        return Err(failure);
    }
    let failure = (!status.success()).then(|| {
        let said = [&stderr, &stdout].into_iter().find_map(|output| {
            let line = output.lines().rfind(|line| !line.trim().is_empty())?;
            Some(format!(": {}", foreign::quoted(line.trim())))
        });
        format!("it ended with {status}{}", said.unwrap_or_default())
    });
    Ok(Ended {
        cpu_s,
        stdout,
        failure,
    })
}

fn end_group(child: &Child) {
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
}

fn has_ended(child: &Child) -> bool {
    // WNOWAIT does not reap the process, so its ID and its group's stay taken.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let id = Id::Pid(Pid::from_raw(child.id().cast_signed()));
    !matches!(waitid(id, flags), Ok(WaitStatus::StillAlive))
}

/// Reads a pipe to its end, so that its writer never waits, and keeps the start.
fn reader(mut pipe: impl Read + Send + 'static) -> io::Result<JoinHandle<String>> {
    const BYTES_MAX: u64 = 4 << 20;
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        // Missing output is noticed when it is parsed.
        let _ = pipe.by_ref().take(BYTES_MAX).read_to_end(&mut bytes);
        let _ = io::copy(&mut pipe, &mut io::sink());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// CPU time of all reaped children, in seconds.
fn children_cpu_s() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
        return 0.0;
    };
    let time = usage.user_time() + usage.system_time();
    time.num_microseconds() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    const PLENTY: Duration = Duration::from_secs(20);
    static NEVER: AtomicBool = AtomicBool::new(false);

    #[test]
    fn cpu_time_and_output() {
        let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; echo no >&2";
        let ended = run(&shell(busy), &[], PLENTY, &NEVER).unwrap();
        assert_eq!(ended.stdout, "done\n");
        assert_eq!(ended.failure, None);
        // No exact comparison: other tests reap children at the same time.
        assert!(ended.cpu_s > 0.005, "{ended:?}");
    }

    #[test]
    fn more_output_than_a_pipe_holds() {
        let ended = run(&shell("head -c 300000 /dev/zero"), &[], PLENTY, &NEVER).unwrap();
        assert_eq!(ended.stdout.len(), 300_000);
    }

    #[test]
    fn failures() {
        let rows = [
            (
                shell("echo one; echo two >&2; exit 3"),
                "it ended with exit status: 3: two",
            ),
            (
                shell("echo one; exit 1"),
                "it ended with exit status: 1: one",
            ),
        ];
        for (command, expected) in rows {
            let ended = run(&command, &[], PLENTY, &NEVER).unwrap();
            assert_eq!(ended.failure.as_deref(), Some(expected));
        }
        let nobody = ["/no/such/program".to_owned()];
        assert_eq!(
            run(&nobody, &[], PLENTY, &NEVER).unwrap_err().to_string(),
            "it cannot be started: No such file or directory (os error 2)"
        );
        let late = run(&shell("sleep 100"), &[], Duration::from_millis(100), &NEVER);
        assert_eq!(late.unwrap_err().to_string(), "it took longer than 0.1 s");
    }

    /// Includes a process that the program started, which would hold its output open otherwise.
    #[test]
    fn an_interrupted_one_is_killed() {
        let start = Instant::now();
        let interrupted = AtomicBool::new(true);
        let failure = run(&shell("sleep 100 & sleep 100"), &[], PLENTY, &interrupted);
        assert!(matches!(failure, Err(Failure::Interrupted)), "{failure:?}");
        assert!(start.elapsed() < PLENTY);
    }
}
