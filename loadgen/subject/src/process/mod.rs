//! A server as a process: started, ready, stopped, reaped.
//!
//! In the `run` command of a [`Server`], `{addr}` is the listening address as HOST:PORT, `{host}`
//! and `{port}` are its parts, and `{empty_dir}` is a fresh folder that is removed with the
//! [`Target`]. A server with a ready line picks its own port (port 0). For other servers, and if
//! the command contains `{port}`, a free port is picked here just before the start.
//!
//! **The processes of a server** are the started process, which gets its own process group, and
//! everything that it starts in turn, in whatever session or group: an intermediate process
//! (`keeper`) inherits orphans. The cost of these processes is counted ([`Processes`]). If a server
//! becomes a daemon, so that the started process exits with 0, it counts as running as long as one
//! of its remaining processes listens at its address.
//!
//! **Nothing outlives its target.** All of these processes are killed when the [`Target`] is
//! dropped and when this process ends, even by SIGKILL. Processes that cannot be killed are named.
//! Only processes that a server asks another program to start, such as a service manager or a
//! container engine, are out of reach. If such a process answers at the address, the server has not
//! started ([`Error::Foreign`]), or the measurement is not of the server ([`Target::owner`]).
//!
//! Every wait ends when the user interrupts, and a long wait says on stderr what it waits for.

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

/// How many free ports are tried for a server that is given its port, if other programs take the
/// port first.
const PORTS_TRIED_MAX: u32 = 3;

/// How long a server may take to stop after SIGTERM: its own 5 s, plus a margin.
pub const STOP_WITHIN: Duration = Duration::from_secs(6);

/// How long a server may take to stop if the user has interrupted.
const INTERRUPTED_STOP_WITHIN: Duration = Duration::from_millis(500);

/// A running server.
#[derive(Debug)]
pub struct Target {
    name: String,
    address: SocketAddr,
    kept: Kept,
    stdout: Output,
    stderr: Output,
    /// The empty folder, removed when the target is dropped.
    _empty_dir: Option<TempDir>,
}

/// Options for starting a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The CPUs that the server may run on; empty for those of the calling thread.
    pub cpus: Vec<usize>,
    /// Arguments to append to the server's command.
    pub arguments: Vec<String>,
    /// How long the server may take until it can accept.
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

/// How a server ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit status. For a daemon, the status of its first crashed process, if any.
    pub status: ExitStatus,
    /// The server was still running after its time to stop, and was killed.
    pub killed: bool,
    /// The end of its stderr, at most 8 KiB, without what was taken earlier.
    pub stderr: String,
    /// The end of its stdout, at most 8 KiB, without the first line.
    pub stdout: String,
    /// Its processes that could not be killed, as `NUMBER (COMMAND)`.
    pub left: Vec<String>,
    /// Another program killed the server's keeper process, so how the server ended is unknown.
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
        // A server that gives up may give the reason on stdout; otherwise stdout has only its usual
        // output.
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

/// Why a server was not started or built, in one line that names the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program does not exist.
    #[error("starting {server}: {program} not found; {hint}")]
    NotFound {
        /// Name of the server.
        server: String,
        /// The program as written in the command.
        program: String,
        /// What to try.
        hint: String,
    },
    /// The operating system refused an action.
    #[error("starting {server}: {action}: {cause}")]
    Io {
        /// Name of the server.
        server: String,
        /// The action that was tried.
        action: String,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A command contains an unknown placeholder.
    #[error("starting {server}: {message}")]
    Placeholder {
        /// Name of the server.
        server: String,
        /// The placeholder, and the known ones.
        message: String,
    },
    /// The server ended before it was ready.
    #[error("starting {server}: it {ended} before it could accept")]
    Died {
        /// Name of the server.
        server: String,
        /// Its exit status and stderr.
        ended: Ended,
    },
    /// The server was not ready in time, and was killed.
    #[error(
        "starting {server}: not ready after {} s: {waited_for}{}",
        within.as_secs_f64(),
        stderr_note(stderr)
    )]
    NotReady {
        /// Name of the server.
        server: String,
        /// The time limit.
        within: Duration,
        /// What did not happen.
        waited_for: String,
        /// The end of its stderr.
        stderr: String,
    },
    /// The first line on stdout is not a ready line.
    #[error(
        "starting {server}: its first line on stdout should be `listening on ADDRESS:PORT`, \
         but is \"{}\"{}",
        foreign::quoted(line),
        port_note(line)
    )]
    ReadyLine {
        /// Name of the server.
        server: String,
        /// The line it printed instead, possibly shortened.
        line: String,
    },
    /// Other processes answer at the server's address.
    #[error(
        "starting {server}: {address} is served by a process that loadgen did not start: {others}; stop it, or \
         use another port"
    )]
    Foreign {
        /// Name of the server.
        server: String,
        /// The address that it claims to listen on.
        address: SocketAddr,
        /// The other processes, as `NUMBER (COMMAND), ...`.
        others: String,
    },
    /// The user interrupted a wait.
    #[error("{action} {server}: interrupted")]
    Interrupted {
        /// Name of the server.
        server: String,
        /// What was going on.
        action: &'static str,
    },
    /// The server's build failed.
    #[error("building {server}: `{command}` {status}{}", stderr_note(tail))]
    Build {
        /// Name of the server.
        server: String,
        /// The build command.
        command: String,
        /// How the command ended.
        status: ExitStatus,
        /// The end of its output.
        tail: String,
    },
}

impl Target {
    /// Starts `server` in `root` and waits until it can accept.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or is not ready in time; if another process answers at its
    /// address; if the user interrupts. The server has been removed by then.
    /// the user interrupts. It is no longer there then.
    pub fn start(server: &Server, root: &Path, options: &Options) -> Result<Self, Error> {
        let is_port_ours = server.ready == Ready::Connect || asks_for(server, "{port}");
        if !is_port_ours {
            return Target::start_at(0, server, root, options);
        }
        // Another program may take the port between our choice and the server's bind(2).
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

    /// Starts the server like [`start`](Target::start), with this port in its command; 0 if it
    /// picks its own.
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

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The started process, which leads a process group.
    pub fn pid(&self) -> u32 {
        self.kept.leader().as_raw().cast_unsigned()
    }

    /// The started process and everything that it has started.
    pub fn processes(&self) -> Processes {
        self.kept.processes()
    }

    /// Requests `/` once, and checks that the answer is `hello world` and that this server sent it.
    ///
    /// # Errors
    ///
    /// If the answer is anything else.
    pub fn probe(&self) -> Result<(), ProbeError> {
        // The owner of a connection can be seen only while it is open, and at the end of a run none
        // may be.
        let _answered = probe::ask(self.address)?;
        self.kept.remember();
        match self.owner() {
            Owner::Others(others) => Err(ProbeError::Foreign(others)),
            Owner::Server | Owner::Unknown(_) => Ok(()),
        }
    }

    /// The processes that answer at the server's address: those that listen there or hold accepted
    /// connections.
    pub fn owner(&self) -> Owner {
        owner::owner(self.address, self.processes())
    }

    /// Whether the server has ended by itself; [`stop`](Target::stop) says how. A daemon has not
    /// ended as long as it listens.
    pub fn has_ended(&self) -> bool {
        match self.kept.status() {
            _ if self.kept.is_lost() => true,
            None => false,
            Some(status) => {
                !status.success() || !owner::is_listening(self.address, self.processes())
            }
        }
    }

    /// What the server has written to stderr since the last call, at most the last 8 KiB;
    /// [`Ended::stderr`] contains the rest.
    pub fn take_stderr(&self) -> String {
        self.stderr.take()
    }

    /// Asks the server to stop (SIGTERM), waits up to `within`, and kills what is left. If the user
    /// has interrupted, the wait is short.
    pub fn stop(mut self, within: Duration) -> Ended {
        const POLL: Duration = Duration::from_millis(2);
        let what = format!("{} to stop", self.name);
        let mut waiting = Waiting::begin(&what);
        let is_daemon = self.kept.status().is_some_and(|status| status.success());
        self.kept.terminate();
        let mut was_interrupted = None;
        let killed = loop {
            // Processes that outlive the one that was asked are not asked again.
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
                    // The server closed its stdout; if it ended, that is reported below.
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

    /// Whether the server will never be ready: it failed, or none of its processes is left. After
    /// an exit with 0, the processes left behind may be a daemon that is about to listen.
    fn is_gone(&mut self) -> bool {
        match self.kept.status() {
            None => self.kept.is_lost(),
            Some(status) => !status.success() || self.kept.is_over(),
        }
    }

    /// Kills everything that is left of the server.
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

/// Starts a command in `root` with pipes for its output, in its own process group, on these CPUs if
/// given. The kernel kills it when the calling thread ends.
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
        // The parent may have ended earlier.
        if getppid() != parent {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let Some(affinity) = &affinity {
            sched_setaffinity(Pid::from_raw(0), affinity)?;
        }
        Ok(())
    };
    // Only the process itself can ask to die with its parent, so this must run between fork and
    // exec. SAFETY: it makes three system calls, all async-signal-safe, and allocates nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(in_child);
    }
    command.spawn()
}

/// A command that runs in `root`; a program whose name contains `/` is also looked up there.
fn program(name: &str, root: &Path) -> Command {
    let mut command = if name.contains('/') {
        Command::new(root.join(name))
    } else {
        Command::new(name)
    };
    command.current_dir(root);
    command
}

/// Whether a server did not start because another program took its port.
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

/// The address in a ready line, in a form that can be connected to.
fn listening_on(line: &str) -> Option<SocketAddr> {
    let mut address = address_of(line)?;
    // An IPv6 socket that serves IPv4 is listed with its IPv4 address.
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

/// What is wrong with a line that resembles a ready line.
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
