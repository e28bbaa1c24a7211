//! The output of other programs, within a time limit.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use engine::{foreign, signals};

/// How long one program may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that is read of an answer; the names of a million files fit.
const BYTES_MAX: u64 = 256 << 20;

/// The time limit for all questions together, and whether the user has interrupted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience<'a> {
    pub(super) deadline: Instant,
    pub(super) interrupted: &'a AtomicBool,
}

impl Patience<'_> {
    /// Why there is no time left, if there is none.
    pub(super) fn end(&self) -> Option<&'static str> {
        match (
            self.interrupted.load(Relaxed) || signals::interrupted(),
            Instant::now() >= self.deadline,
        ) {
            (true, _) => Some("interrupted"),
            (false, true) => Some("it took too long"),
            (false, false) => None,
        }
    }
}

/// What a program prints, if it succeeds.
pub(super) fn output(folder: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    // Labels are searched by their English names.
    command
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C");
    let patience = Patience {
        deadline: Instant::now() + PATIENCE,
        interrupted: &AtomicBool::new(false),
    };
    let output = ask(&mut command, patience).ok()?;
    Some(String::from_utf8_lossy(&output).trim().to_owned())
}

/// What a command prints, if it succeeds in time. It leads its own process group, which is killed
/// otherwise.
///
/// # Errors
///
/// One line with the reason: the text on stderr, if any.
pub(super) fn ask(command: &mut Command, patience: Patience<'_>) -> Result<Vec<u8>, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let group = Pid::from_raw(child.id().cast_signed());
    let readers = read(child.stdout.take().expect("is piped"))
        .and_then(|stdout| Ok((stdout, read(child.stderr.take().expect("is piped"))?)));
    let (stdout, stderr) = readers.map_err(|error| {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
        error.to_string()
    })?;
    let mut pause = Duration::from_micros(500);
    let answer = loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                // A process that it has left behind may hold its pipes open.
                let rest = |text: &Receiver<Vec<u8>>| {
                    text.recv_timeout(patience.deadline.saturating_duration_since(Instant::now()))
                };
                break match (rest(&stdout), rest(&stderr)) {
                    (Ok(output), _) if status.success() => Ok(output),
                    (Ok(_), Ok(said)) => Err(first_line(&said, &status.to_string())),
                    _ => Err("it left a process behind that is still running".to_owned()),
                };
            }
            Err(error) => break Err(error.to_string()),
        }
        if let Some(why) = patience.end() {
            break Err(why.to_owned());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    if answer.is_err() {
        // It was not reaped yet, or has left others: the ID still refers to its group.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }
    answer
}

fn read(from: impl Read + Send + 'static) -> std::io::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = channel();
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.take(BYTES_MAX).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    })?;
    Ok(receiver)
}

fn first_line(said: &[u8], or: &str) -> String {
    let text = foreign::text(said);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    foreign::quoted(line.unwrap_or(or))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, patience: Duration) -> Result<String, String> {
        let mut command = Command::new("sh");
        let patience = Patience {
            deadline: Instant::now() + patience,
            interrupted: &AtomicBool::new(false),
        };
        ask(command.args(["-c", script]), patience)
            .map(|output| String::from_utf8_lossy(&output).into_owned())
    }

    #[test]
    fn answers_and_none() {
        let long = Duration::from_secs(60);
        assert_eq!(sh("echo yes; echo no >&2", long), Ok("yes\n".to_owned()));
        assert_eq!(
            sh("echo; echo 'no: \u{1b}x' >&2; exit 3", long),
            Err("no: \\u{1b}x".to_owned())
        );
        assert_eq!(sh("exit 3", long), Err("exit status: 3".to_owned()));
        let error = ask(
            &mut Command::new("/no/such/program"),
            Patience {
                deadline: Instant::now() + long,
                interrupted: &AtomicBool::new(false),
            },
        );
        assert!(error.is_err());
    }

    /// A program that hangs, and processes that it leaves behind, are not waited for but killed.
    #[test]
    fn it_is_not_waited_for() {
        let short = Duration::from_millis(300);
        for script in ["sleep 1000", "sleep 1000 & exit 0"] {
            let begun = Instant::now();
            assert!(sh(script, short).is_err(), "{script}");
            assert!(begun.elapsed() < Duration::from_secs(500), "{script}");
        }
    }
}
