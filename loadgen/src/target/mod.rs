//! A server as a process: started, waited for until it can accept, stopped, reaped.
//!
//! In the `run` command of a [`Server`], `{addr}` is the address to listen on as HOST:PORT, `{host}`
//! and `{port}` are its halves, and `{empty_dir}` is a fresh folder that is removed with the
//! [`Target`]. A server that tells its address in a ready line picks its port itself (port 0);
//! otherwise, and when `{port}` is asked for, a free one is picked here, just before the start.
//!
//! The process gets a process group of its own, so that a Ctrl-C on the terminal does not reach it and
//! all that it starts can be ended with it. No server outlives its target: it is killed when the
//! [`Target`] is dropped, and by the kernel when the thread that started it ends, be that by SIGKILL.
//! **So [`Target::start`] must be called on a thread that lives as long as the target**, such as the
//! main thread. (The kernel's part covers the process itself, not what it has started in turn.)

mod build;
mod cost;
mod memory;
mod network;
mod pipe;
mod probe;
mod threads;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::sched_setaffinity;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid, getppid};
use tempfile::TempDir;

pub use build::{build, version};
pub(crate) use cost::members;
pub use cost::{Sampler, ServerCost};
pub use memory::{IdleCost, Memory};
pub use probe::{ProbeError, probe};

use crate::catalogue::{Ready, Server};
use crate::machine::cpu_set;
use pipe::Tail;

/// How long a server may take until it can accept.
pub const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long a server may take to stop after SIGTERM: its own 5 s, and a margin.
pub const STOP_WITHIN: Duration = Duration::from_secs(6);

/// A server that runs.
#[derive(Debug)]
pub struct Target {
    name: String,
    address: SocketAddr,
    child: Child,
    stderr: Tail,
    reaped: bool,
    /// Removed when the target is dropped.
    _empty_dir: Option<TempDir>,
}

/// How to start a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// CPUs that it may run on; empty for those of the calling thread.
    pub cpus: Vec<usize>,
    /// Further arguments, behind those of its command.
    pub arguments: Vec<String>,
    /// How long it may take until it can accept.
    pub ready_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cpus: Vec::new(),
            arguments: Vec::new(),
            ready_within: READY_WITHIN,
        }
    }
}

/// What became of a server.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// It was still there when its time to stop was over, and was killed.
    pub killed: bool,
    /// The last of what it wrote on stderr, at most 8 KiB, without what was taken before.
    pub stderr: String,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exited with status {code}")?,
            (None, Some(signal)) => match Signal::try_from(signal) {
                Ok(signal) => write!(f, "was ended by {signal}")?,
                Err(_) => write!(f, "was ended by signal {signal}")?,
            },
            (None, None) => f.write_str("ended")?,
        }
        let stderr = one_line(&self.stderr);
        if !stderr.is_empty() {
            write!(f, ": {stderr}")?;
        }
        Ok(())
    }
}

/// Why a server did not start, or was not built. Each is one line that names the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program.
    #[error("starting {server}: {program} not found; {hint}")]
    NotFound {
        /// Name of the server.
        server: String,
        /// As in its command.
        program: String,
        /// What to try.
        hint: String,
    },
    /// The operating system refused.
    #[error("starting {server}: {action}: {cause}")]
    Io {
        /// Name of the server.
        server: String,
        /// What was tried.
        action: String,
        /// Why not.
        cause: io::Error,
    },
    /// A placeholder that means nothing.
    #[error("starting {server}: {message}")]
    Placeholder {
        /// Name of the server.
        server: String,
        /// Which one, and those there are.
        message: String,
    },
    /// It ended before it was ready.
    #[error("starting {server}: it {ended} before it could accept")]
    Died {
        /// Name of the server.
        server: String,
        /// With its status and stderr.
        ended: Ended,
    },
    /// It was not ready in time, and was killed.
    #[error(
        "starting {server}: not ready after {} s: {waited_for}{}",
        within.as_secs_f64(),
        stderr_note(stderr)
    )]
    NotReady {
        /// Name of the server.
        server: String,
        /// How long it had.
        within: Duration,
        /// What did not come.
        waited_for: String,
        /// The last of its stderr.
        stderr: String,
    },
    /// Its first line on stdout is not the ready line.
    #[error(
        "starting {server}: its first line on stdout should be `listening on ADDRESS:PORT`, \
         but is {line:?}"
    )]
    ReadyLine {
        /// Name of the server.
        server: String,
        /// What it said instead, or its beginning.
        line: String,
    },
    /// Its build failed.
    #[error("building {server}: `{command}` {status}{}", stderr_note(tail))]
    Build {
        /// Name of the server.
        server: String,
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last of its output.
        tail: String,
    },
}

impl Target {
    /// Starts `server` in `root` and waits until it can accept. See the module for the thread that
    /// this must be called on.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or is not ready in time; it is no longer there then.
    pub fn start(server: &Server, root: &Path, options: &Options) -> Result<Self, Error> {
        let io_error = |action: &str, cause| Error::Io {
            server: server.name.clone(),
            action: action.to_owned(),
            cause,
        };
        let asks_for = |placeholder| server.run.iter().any(|arg| arg.contains(placeholder));
        let empty_dir = asks_for("{empty_dir}")
            .then(|| tempfile::Builder::new().prefix("loadgen-").tempdir())
            .transpose()
            .map_err(|error| io_error("creating an empty folder", error))?;
        let port = if server.ready == Ready::Connect || asks_for("{port}") {
            free_port().map_err(|error| io_error("looking for a free port", error))?
        } else {
            0
        };
        let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let empty_dir_path = empty_dir.as_ref().map(TempDir::path);
        let mut run = server
            .run
            .iter()
            .map(|arg| fill(arg, asked, empty_dir_path.unwrap_or(Path::new(""))))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|message| Error::Placeholder {
                server: server.name.clone(),
                message,
            })?;
        run.extend_from_slice(&options.arguments);

        let mut child = spawn(&run, root, &options.cpus).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound {
                server: server.name.clone(),
                program: run[0].clone(),
                hint: match &server.build {
                    Some(build) => format!("is it built? try `{}`", build.join(" ")),
                    None => "is it installed?".to_owned(),
                },
            },
            _ => io_error(&run[0], error),
        })?;
        let stdout = child.stdout.take().expect("is piped");
        let stderr = child.stderr.take().expect("is piped");
        let mut target = Target {
            name: server.name.clone(),
            address: asked,
            stderr: Tail::of(stderr, None),
            child,
            reaped: false,
            _empty_dir: empty_dir,
        };
        let first_line = pipe::first_line(stdout);
        target.wait_until_ready(server.ready, &first_line, options.ready_within)?;
        Ok(target)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process, which leads its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself; [`stop`](Target::stop) tells how.
    pub fn has_ended(&self) -> bool {
        // WNOWAIT leaves it unreaped, so that its id, which is its group's too, stays taken.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.reaped
            || !matches!(
                waitid(Id::Pid(self.group()), flags),
                Ok(WaitStatus::StillAlive)
            )
    }

    /// What it has written on stderr since this was last called, at most the last 8 KiB;
    /// [`Ended::stderr`] holds the rest.
    pub fn take_stderr(&self) -> String {
        self.stderr.take()
    }

    /// Asks it to stop (SIGTERM), waits up to `within`, kills what is left of its process group, and
    /// reaps it.
    pub fn stop(mut self, within: Duration) -> Ended {
        let _ = kill(self.group(), Signal::SIGTERM);
        let deadline = Instant::now() + within;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        let killed = !self.has_ended();
        self.reap(killed)
    }

    fn wait_until_ready(
        &mut self,
        ready: Ready,
        first_line: &mpsc::Receiver<String>,
        within: Duration,
    ) -> Result<(), Error> {
        const POLL: Duration = Duration::from_millis(5);
        let deadline = Instant::now() + within;
        loop {
            match ready {
                Ready::Line => match first_line.recv_timeout(POLL) {
                    Ok(line) => match listening_on(&line) {
                        Some(address) => {
                            self.address = address;
                            return Ok(());
                        }
                        None => {
                            return Err(Error::ReadyLine {
                                server: self.name.clone(),
                                line,
                            });
                        }
                    },
                    Err(RecvTimeoutError::Timeout) => {}
                    // It closed its stdout; if it ended, that is said below.
                    Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
                },
                Ready::Connect => {
                    let answer = TcpStream::connect_timeout(&self.address, POLL);
                    if answer.is_ok() && !self.has_ended() {
                        return Ok(());
                    }
                    thread::sleep(POLL);
                }
            }
            if self.has_ended() {
                return Err(Error::Died {
                    server: self.name.clone(),
                    ended: self.reap(false),
                });
            }
            if Instant::now() >= deadline {
                let waited_for = match ready {
                    Ready::Line => "no line `listening on ADDRESS:PORT` on stdout".to_owned(),
                    Ready::Connect => format!("{} does not answer", self.address),
                };
                return Err(Error::NotReady {
                    server: self.name.clone(),
                    within,
                    waited_for,
                    stderr: self.reap(true).stderr,
                });
            }
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Kills what there is of its process group, the leader included, and reaps the leader.
    fn reap(&mut self, killed: bool) -> Ended {
        let _ = killpg(self.group(), Signal::SIGKILL);
        let status = self
            .child
            .wait()
            .expect("the child is ours, and not reaped");
        self.reaped = true;
        Ended {
            status,
            killed,
            stderr: self.stderr.finish(),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.reaped {
            self.reap(true);
        }
    }
}

/// Starts a command in `root` with pipes for its output, in a process group of its own, on these CPUs if
/// there are any. The kernel kills it when the calling thread ends.
pub(crate) fn spawn(run: &[String], root: &Path, cpus: &[usize]) -> io::Result<Child> {
    let mut command = program(&run[0], root);
    command
        .args(&run[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let affinity = (!cpus.is_empty()).then(|| cpu_set(cpus)).transpose()?;
    let parent = getpid();
    let in_child = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before that.
        if getppid() != parent {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let Some(affinity) = &affinity {
            sched_setaffinity(Pid::from_raw(0), affinity)?;
        }
        Ok(())
    };
    // Only the process itself can ask to die with its parent, so this must run between fork and exec.
    // SAFETY: it makes three system calls, all async-signal-safe, and allocates nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(in_child);
    }
    command.spawn()
}

/// A command that runs in `root`, where a program with a `/` in its name is looked for too.
fn program(name: &str, root: &Path) -> Command {
    let mut command = if name.contains('/') {
        Command::new(root.join(name))
    } else {
        Command::new(name)
    };
    command.current_dir(root);
    command
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// The address of a ready line, one that can be connected to.
fn listening_on(line: &str) -> Option<SocketAddr> {
    let mut address: SocketAddr = line
        .trim_end()
        .strip_prefix("listening on ")?
        .parse()
        .ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    (address.port() != 0).then_some(address)
}

const PLACEHOLDERS: [&str; 4] = ["addr", "host", "port", "empty_dir"];

/// `argument` with its placeholders filled in. Braces around anything but one lower-case word stand
/// for themselves, and so does `${word}`, for a shell.
fn fill(argument: &str, address: SocketAddr, empty_dir: &Path) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = argument;
    while let Some(open) = rest.find('{') {
        let (before, from_open) = rest.split_at(open);
        filled.push_str(before);
        let word = from_open[1..].split_once('}').map(|(word, _)| word);
        let is_word = |word: &&str| {
            !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')
        };
        match word.filter(is_word).filter(|_| !before.ends_with('$')) {
            Some(word) => {
                match word {
                    "addr" => filled.push_str(&address.to_string()),
                    "host" => filled.push_str(&address.ip().to_string()),
                    "port" => filled.push_str(&address.port().to_string()),
                    "empty_dir" => filled.push_str(&empty_dir.to_string_lossy()),
                    _ => {
                        return Err(format!(
                            "`run` has an unknown placeholder {{{word}}}; known: {{{}}}",
                            PLACEHOLDERS.join("}, {")
                        ));
                    }
                }
                rest = &from_open[word.len() + 2..];
            }
            None => {
                filled.push('{');
                rest = &from_open[1..];
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Whether all placeholders of `argument` are known; the error names the first that is not.
pub(crate) fn check_placeholders(argument: &str) -> Result<(), String> {
    fill(argument, SocketAddr::from(([0, 0, 0, 0], 0)), Path::new("")).map(drop)
}

/// The last lines of some output, as one.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

fn stderr_note(stderr: &str) -> String {
    match one_line(stderr) {
        line if line.is_empty() => line,
        line => format!(": {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_lines() {
        let rows = [
            ("listening on 127.0.0.1:80", Some("127.0.0.1:80")),
            ("listening on 127.0.0.1:80\r\n", Some("127.0.0.1:80")),
            ("listening on 0.0.0.0:80", Some("127.0.0.1:80")),
            ("listening on [::]:80", Some("[::1]:80")),
            ("listening on 127.0.0.1:0", None),
            ("listening on localhost:80", None),
            ("Listening on 127.0.0.1:80", None),
            ("", None),
        ];
        for (line, expected) in rows {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(listening_on(line), expected, "for {line:?}");
        }
    }

    #[test]
    fn placeholders() {
        let rows = [
            ("{addr}", Ok("127.0.0.1:80")),
            ("--bind={host} -p {port}.", Ok("--bind=127.0.0.1 -p 80.")),
            ("'{empty_dir}/x'", Ok("'/tmp/e/x'")),
            ("{ print $1 } {} {A} {", Ok("{ print $1 } {} {A} {")),
            ("${home}{port}", Ok("${home}80")),
            ("{{port}}", Ok("{80}")),
            (
                "{prt}",
                Err(
                    "`run` has an unknown placeholder {prt}; known: {addr}, {host}, {port}, {empty_dir}",
                ),
            ),
        ];
        for (argument, expected) in rows {
            let address = "127.0.0.1:80".parse().unwrap();
            let filled = fill(argument, address, Path::new("/tmp/e"));
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(filled, expected, "for {argument:?}");
        }
    }
}
