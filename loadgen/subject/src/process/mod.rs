//! A server as a process: started, waited for until it can accept, stopped, reaped.
//!
//! In the `run` command of a [`Server`], `{addr}` is the address to listen on as HOST:PORT, `{host}`
//! and `{port}` are its halves, and `{empty_dir}` is a fresh folder that is removed with the
//! [`Target`]. A server that tells its address in a ready line picks its port itself (port 0);
//! otherwise, and when `{port}` is asked for, a free one is picked here, just before the start.
//!
//! **What belongs to a server** is the process that is started, which gets a process group of its own, and
//! all that it starts in turn, whichever session or group that goes to: a process in between
//! (`keeper`) inherits its orphans. These are the processes whose cost is counted ([`Processes`]). A server
//! that makes itself a daemon, so that the process that was started exits with 0, runs as long as one of
//! those that it left listens at its address.
//!
//! **Nothing outlives its target.** All of these processes are killed when the [`Target`] is dropped, and
//! when this process ends, be that by SIGKILL. What cannot be killed is named. Only what a server asks
//! somebody else to start, such as a service manager or a container engine, is out of reach; when it is
//! somebody else who answers at the address, the server has not started ([`Error::Foreign`]), or what was
//! measured is not its own ([`Target::owner`]).
//!
//! Every wait ends when the user interrupts, and says on stderr what it waits for when it is long.

mod command;
mod cost;
mod keeper;
mod memory;
mod network;
mod owner;
mod pipe;
mod probe;
mod proc;
mod processes;
mod threads;
mod waiting;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sched::sched_setaffinity;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use tempfile::TempDir;

pub use command::{VERSION_WITHIN, build, version};
pub use cost::{CostError, Sampler, ServerCost};
pub use memory::{IdleCost, Memory};
pub use owner::Owner;
pub use probe::{HELLO, ProbeError, probe};
pub use processes::Processes;

use crate::catalogue::{Ready, Server};
use crate::placeholders::fill;
use engine::affinity::cpu_set;
use engine::{foreign, signals};
use keeper::Kept;
use pipe::Output;
use waiting::Waiting;

/// How long a server may take until it can accept.
pub const READY_WITHIN: Duration = Duration::from_secs(10);

/// With how many free ports a server is started that is told its port, where others take them before it does.
const PORTS_TRIED_MAX: u32 = 3;

/// How long a server may take to stop after SIGTERM: its own 5 s, and a margin.
pub const STOP_WITHIN: Duration = Duration::from_secs(6);

/// How long it may take when the user has interrupted.
const INTERRUPTED_STOP_WITHIN: Duration = Duration::from_millis(500);

/// A server that runs.
#[derive(Debug)]
pub struct Target {
    name: String,
    address: SocketAddr,
    kept: Kept,
    stdout: Output,
    stderr: Output,
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
    /// Its exit status; of one that became a daemon, that of the process that crashed, if one did.
    pub status: ExitStatus,
    /// It was still there when its time to stop was over, and was killed.
    pub killed: bool,
    /// The last of what it wrote on stderr, at most 8 KiB, without what was taken before.
    pub stderr: String,
    /// The last of what it wrote on stdout, at most 8 KiB, without its first line.
    pub stdout: String,
    /// Processes of it that could not be killed, as `NUMBER (COMMAND)`.
    pub left: Vec<String>,
    /// Somebody killed the process that looks after it. How it ended itself is unknown then.
    pub lost: bool,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status.code(), self.status.signal()) {
            _ if self.lost => {
                f.write_str("was killed because its loadgen-keeper process was killed")?;
            }
            (Some(code), _) => write!(f, "exited with status {code}")?,
            (None, Some(signal)) => match Signal::try_from(signal) {
                Ok(signal) => write!(f, "was ended by {signal}")?,
                Err(_) => write!(f, "was ended by signal {signal}")?,
            },
            (None, None) => f.write_str("ended")?,
        }
        let mut said = foreign::last_words(&self.stderr);
        // Who gives up by itself may say why on stdout; otherwise that is what it says anyway.
        if said.is_empty() && self.status.code().is_some_and(|code| code != 0) {
            said = foreign::last_words(&self.stdout);
        }
        if !said.is_empty() {
            write!(f, ": {said}")?;
        }
        if !self.left.is_empty() {
            write!(f, "; still running: {}", self.left.join(", "))?;
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
         but is \"{}\"{}",
        foreign::quoted(line),
        port_note(line)
    )]
    ReadyLine {
        /// Name of the server.
        server: String,
        /// What it said instead, or its beginning.
        line: String,
    },
    /// Somebody else answers at its address.
    #[error(
        "starting {server}: {address} is served by what loadgen did not start: process {others}; stop that, \
         or use another port"
    )]
    Foreign {
        /// Name of the server.
        server: String,
        /// Where it says to listen.
        address: SocketAddr,
        /// Who does, as `NUMBER (COMMAND), ...`.
        others: String,
    },
    /// The user did not want to wait.
    #[error("{action} {server}: interrupted")]
    Interrupted {
        /// Name of the server.
        server: String,
        /// What was under way.
        action: &'static str,
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
    /// Starts `server` in `root` and waits until it can accept.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, is not ready in time, or somebody else answers at its address; when
    /// the user interrupts. It is no longer there then.
    pub fn start(server: &Server, root: &Path, options: &Options) -> Result<Self, Error> {
        let is_port_ours = server.ready == Ready::Connect || asks_for(server, "{port}");
        if !is_port_ours {
            return Target::start_at(0, server, root, options);
        }
        // Between our choice and the server's bind(2), somebody else may take the port.
        let mut starts_left = PORTS_TRIED_MAX;
        loop {
            let port = free_port().map_err(|cause| Error::Io {
                server: server.name.clone(),
                action: "looking for a free port".to_owned(),
                cause,
            })?;
            starts_left -= 1;
            match Target::start_at(port, server, root, options) {
                Err(error) if starts_left > 0 && was_taken(port, &error) => {}
                outcome => return outcome,
            }
        }
    }

    /// [`start`](Target::start), with this port in its command; 0 for one that it picks itself.
    fn start_at(port: u16, server: &Server, root: &Path, options: &Options) -> Result<Self, Error> {
        let io_error = |action: &str, cause| Error::Io {
            server: server.name.clone(),
            action: action.to_owned(),
            cause,
        };
        let empty_dir = asks_for(server, "{empty_dir}")
            .then(|| tempfile::Builder::new().prefix("loadgen-").tempdir())
            .transpose()
            .map_err(|error| io_error("creating an empty folder", error))?;
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

        let mut command = program(&run[0], root);
        command.args(&run[1..]);
        let mut kept =
            Kept::start(&mut command, &options.cpus).map_err(|error| match error.kind() {
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
        let reading = |error| io_error("reading its output", error);
        let (stdout, stderr) = kept.output();
        let (stdout, stderr) = stdout.zip(stderr).expect("both are piped");
        let (stdout, first_line) = Output::with_first_line(stdout).map_err(reading)?;
        let stderr = Output::of(stderr, pipe::Keep::End, None).map_err(reading)?;
        let mut target = Target {
            name: server.name.clone(),
            address: asked,
            kept,
            stdout,
            stderr,
            _empty_dir: empty_dir,
        };
        target.wait_until_ready(server.ready, &first_line, options.ready_within)?;
        target.kept.remember();
        match target.owner() {
            Owner::Others(others) => Err(Error::Foreign {
                server: server.name.clone(),
                address: target.address,
                others,
            }),
            Owner::Server | Owner::Unknown(_) => Ok(target),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process that was started, which leads a process group.
    pub fn pid(&self) -> u32 {
        self.kept.leader().as_raw().cast_unsigned()
    }

    /// That process and all that it has started.
    pub fn processes(&self) -> Processes {
        self.kept.processes()
    }

    /// Asks for `/` once and makes sure that the answer is `hello world`, and that it came from this server.
    ///
    /// # Errors
    ///
    /// When it is anything else.
    pub fn probe(&self) -> Result<(), ProbeError> {
        // Who serves connections is seen while one is open, which is not sure to be so at the end of a run.
        let _answered = probe::ask(self.address)?;
        self.kept.remember();
        match self.owner() {
            Owner::Others(others) => Err(ProbeError::Foreign(others)),
            Owner::Server | Owner::Unknown(_) => Ok(()),
        }
    }

    /// Who answers at its address: who listens there, and has the connections that were accepted.
    pub fn owner(&self) -> Owner {
        owner::owner(self.address, self.processes())
    }

    /// Whether it has ended by itself; [`stop`](Target::stop) tells how. One that has made itself a daemon
    /// has not as long as it listens.
    pub fn has_ended(&self) -> bool {
        match self.kept.status() {
            _ if self.kept.is_lost() => true,
            None => false,
            Some(status) => {
                !status.success() || !owner::is_listening(self.address, self.processes())
            }
        }
    }

    /// What it has written on stderr since this was last called, at most the last 8 KiB;
    /// [`Ended::stderr`] holds the rest.
    pub fn take_stderr(&self) -> String {
        self.stderr.take()
    }

    /// Asks it to stop (SIGTERM), waits up to `within`, and kills what is left of it. When the user has
    /// interrupted, the wait is short.
    pub fn stop(mut self, within: Duration) -> Ended {
        const POLL: Duration = Duration::from_millis(2);
        let what = format!("{} to stop", self.name);
        let mut waiting = Waiting::begin(&what);
        let is_daemon = self.kept.status().is_some_and(|status| status.success());
        self.kept.terminate();
        let mut was_interrupted = None;
        let killed = loop {
            // Whoever outlives the process that was asked is not asked again.
            let is_over = match is_daemon {
                true => self.kept.is_over(),
                false => self.kept.status().is_some() || self.kept.is_lost(),
            };
            if is_over {
                break false;
            }
            let elapsed = waiting.elapsed();
            if signals::interrupted() {
                was_interrupted.get_or_insert(elapsed);
            }
            let limit =
                was_interrupted.map_or(within, |at| within.min(at + INTERRUPTED_STOP_WITHIN));
            if elapsed >= limit {
                break true;
            }
            waiting.go_on(Some(within));
            thread::sleep(POLL);
        };
        self.end(killed)
    }

    fn wait_until_ready(
        &mut self,
        ready: Ready,
        first_line: &mpsc::Receiver<String>,
        within: Duration,
    ) -> Result<(), Error> {
        const POLL: Duration = Duration::from_millis(5);
        let what = format!("{} to be ready", self.name);
        let mut waiting = Waiting::begin(&what);
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
                    if answer.is_ok() && !self.is_gone() {
                        return Ok(());
                    }
                    thread::sleep(POLL);
                }
            }
            if self.is_gone() {
                return Err(Error::Died {
                    server: self.name.clone(),
                    ended: self.end(false),
                });
            }
            if signals::interrupted() {
                return Err(Error::Interrupted {
                    server: self.name.clone(),
                    action: "starting",
                });
            }
            if waiting.elapsed() >= within {
                let waited_for = match ready {
                    Ready::Line => "no line `listening on ADDRESS:PORT` on stdout".to_owned(),
                    Ready::Connect => format!("{} does not answer", self.address),
                };
                let ended = self.end(true);
                return Err(Error::NotReady {
                    server: self.name.clone(),
                    within,
                    waited_for,
                    stderr: ended.stderr,
                });
            }
            waiting.go_on(Some(within));
        }
    }

    /// Whether it will never be ready: it has failed, or nothing of it is left. What it has left behind when
    /// it ended with 0 may be a daemon that is about to listen.
    fn is_gone(&mut self) -> bool {
        match self.kept.status() {
            None => self.kept.is_lost(),
            Some(status) => !status.success() || self.kept.is_over(),
        }
    }

    /// Kills what there is of it.
    fn end(&mut self, killed: bool) -> Ended {
        let crashed = self.kept.crashed();
        let by_itself = self.kept.status();
        let left = self.kept.end();
        let status = self.kept.status().unwrap_or_default();
        Ended {
            status: match by_itself {
                Some(status) if status.success() => crashed.unwrap_or(status),
                _ => status,
            },
            killed,
            stderr: self.stderr.finish(),
            stdout: self.stdout.finish(),
            left,
            lost: self.kept.is_lost() && by_itself.is_none_or(|status| status.success()),
        }
    }
}

/// Starts a command in `root` with pipes for its output, in a process group of its own, on these CPUs if
/// there are any. The kernel kills it when the calling thread ends.
pub fn spawn(run: &[String], root: &Path, cpus: &[usize]) -> io::Result<Child> {
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

/// Whether a server did not start because its port is somebody else's by now.
fn was_taken(port: u16, error: &Error) -> bool {
    match error {
        Error::Foreign { .. } => true,
        Error::Died { .. } => {
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        }
        _ => false,
    }
}

fn asks_for(server: &Server, placeholder: &str) -> bool {
    server.run.iter().any(|arg| arg.contains(placeholder))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// The address of a ready line, one that can be connected to.
fn listening_on(line: &str) -> Option<SocketAddr> {
    let mut address = address_of(line)?;
    // An IPv6 socket that talks IPv4 is listed by its address of IPv4.
    address.set_ip(address.ip().to_canonical());
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    (address.port() != 0).then_some(address)
}

fn address_of(line: &str) -> Option<SocketAddr> {
    let address = line.trim_end().strip_prefix("listening on ")?;
    address.parse().ok()
}

/// What is wrong with a line that looks like a ready line.
fn port_note(line: &str) -> &'static str {
    match address_of(line) {
        Some(address) if address.port() == 0 => {
            ": 0 asks for any port, the line must tell which one it became"
        }
        _ => "",
    }
}

fn stderr_note(stderr: &str) -> String {
    match foreign::last_words(stderr) {
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
            ("listening on [::ffff:127.0.0.1]:80", Some("127.0.0.1:80")),
            ("listening on [::ffff:0.0.0.0]:80", Some("127.0.0.1:80")),
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
}
