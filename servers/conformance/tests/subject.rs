//! A server under test, as a process.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use subject::catalogue::{Server, Serves};
use subject::process;
use subject::process::{Options, Target};

use crate::client::{Client, Expected, GET};

/// The longest that a server may take for anything, unless it was told to wait.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// Repeats an attempt until it succeeds, which must be soon.
pub(crate) fn eventually<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + 2 * SOON;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            outcome => return outcome,
        }
    }
}

/// Repeats an attempt that failed only because the machine stalled for longer than a server's timeout.
pub(crate) fn unless_stalled(attempt: impl Fn() -> Result<()>) -> Result<()> {
    for _ in 0..9 {
        match attempt() {
            Err(error) if error.is::<Stalled>() => {}
            outcome => return outcome,
        }
    }
    attempt()
}

/// Marks a failure as [`Stalled`] if more than `time` has passed since `since`.
pub(crate) fn in_time<T>(since: Instant, time: Duration, outcome: Result<T>) -> Result<T> {
    match outcome {
        Err(error) if since.elapsed() > time => Err(error.context(Stalled)),
        outcome => outcome,
    }
}

/// The machine stalled, so that an attempt shows nothing.
#[derive(Debug)]
pub(crate) struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too late to tell")
    }
}

/// A server of `benches/servers.toml`.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    server: Server,
    root: PathBuf,
}

impl Subject {
    pub(crate) fn new(server: Server, root: &Path) -> Self {
        let root = root.to_owned();
        Subject { server, root }
    }

    pub(crate) fn name(&self) -> &str {
        &self.server.name
    }

    pub(crate) fn build(&self) -> Result<()> {
        Ok(process::build(&self.server, &self.root)?)
    }

    /// Starts the server on a free port, with further arguments.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<Running> {
        self.start_under(&[], arguments)
    }

    /// Starts the server through another command that executes it, such as `prlimit`.
    pub(crate) fn start_under(&self, prefix: &[&str], arguments: &[&str]) -> Result<Running> {
        let mut server = self.server.clone();
        if !prefix.is_empty() {
            server.run[0] = self
                .root
                .join(&server.run[0])
                .to_string_lossy()
                .into_owned();
            server
                .run
                .splice(0..0, prefix.iter().copied().map(String::from));
        }
        server
            .run
            .extend(arguments.iter().copied().map(String::from));
        let target = Target::start(&server, &self.root, &Options::default())?;
        Ok(Running { target })
    }

    /// Runs the server's program with only these arguments, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.root.join(&self.server.run[0]));
        output(command.args(arguments))
    }

    /// Whether every connection is served, whatever the others do.
    pub(crate) fn serves_all_at_once(&self) -> bool {
        self.server.serves == Serves::All
    }

    /// Whether the server accepts a connection only when the one before is closed.
    pub(crate) fn converses_in_turn(&self) -> bool {
        self.server.serves == Serves::One
    }

    /// Whether the server makes a thread for each connection.
    pub(crate) fn makes_threads(&self) -> bool {
        self.server.thread_per_connection
    }

    /// The most memory in KiB that this many peers may cost the server, whatever they do. For each peer that is half
    /// a head of 16 KiB or answers of 32 KiB, 16 KiB of other state, and a stack if it has a thread. The constant
    /// is for memory that the server allocates once and keeps.
    pub(crate) fn peers_kib_max(&self, peers: u64) -> u64 {
        let each = if self.makes_threads() { 72 } else { 48 };
        128 + peers * each
    }

    pub(crate) fn has_threads(&self) -> Result<bool> {
        let help = self.run(&["--help"])?;
        Ok(String::from_utf8_lossy(&help.stdout).contains("--threads"))
    }
}

/// Runs a command to its end, which must come soon.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {command:?}"))?;
    let deadline = Instant::now() + 2 * SOON;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            None => {
                child.kill()?;
                bail!("{command:?} does not end");
            }
        }
    };
    // The process has ended, so its output fits into the pipes.
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child
        .stdout
        .take()
        .context("is piped")?
        .read_to_end(&mut stdout)?;
    child
        .stderr
        .take()
        .context("is piped")?
        .read_to_end(&mut stderr)?;
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    target: Target,
}

/// The counters that a server prints when it stops, and on SIGUSR1.
#[derive(Debug, Deserialize)]
pub(crate) struct Counters {
    pub(crate) accepted: u64,
    pub(crate) closed: u64,
    pub(crate) open: u64,
    pub(crate) panics: u64,
    pub(crate) requests: u64,
    /// By status code.
    pub(crate) responses: BTreeMap<u16, u64>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
}

/// How often each limit refused or delayed something.
#[derive(Debug, Deserialize)]
pub(crate) struct Limits {
    pub(crate) connections: u64,
    pub(crate) files: u64,
    pub(crate) threads: u64,
    pub(crate) request_line: u64,
    pub(crate) head: u64,
    pub(crate) body: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Timeouts {
    pub(crate) idle: u64,
    pub(crate) header: u64,
    pub(crate) body: u64,
    pub(crate) write: u64,
    pub(crate) linger: u64,
}

impl Counters {
    /// Parses one line, and checks that its numbers are consistent.
    pub(crate) fn parse(line: &str) -> Result<Counters> {
        let counters: Counters = serde_json::from_str(line)
            .with_context(|| format!("counters expected on stderr: {line}"))?;
        let agrees = counters.accepted == counters.closed + counters.open
            && counters.requests == counters.responses.values().sum::<u64>();
        ensure!(agrees, "{counters:?}");
        Ok(counters)
    }

    /// Parses the line of a server that has stopped; no connection may be open.
    fn at_end(line: &str) -> Result<Counters> {
        let counters = Counters::parse(line)?;
        ensure!(counters.open == 0, "cut off: {counters:?}");
        Ok(counters)
    }
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        self.target.address()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.target.pid()
    }

    pub(crate) fn connect(&self) -> Result<Client> {
        Client::connect(self.address())
    }

    /// Checks that the server answers on a new connection.
    pub(crate) fn greet(&self) -> Result<()> {
        let mut client = self.connect()?;
        client.send(GET)?;
        client.expect(Expected::Hello, None).context("a new client")
    }

    /// Makes a client that reads no answers, so that the server blocks in sending.
    pub(crate) fn stall(&self) -> Result<Client> {
        let mut client = Client::connect_narrow(self.address())?;
        client.send_until_blocked()?;
        // The kernel may free a little room later without waking the blocked send. Signals wake it, and it uses
        // that room; after a few times there is none left.
        for _ in 0..3 {
            self.signal(Signal::SIGSTOP)?;
            thread::sleep(Duration::from_millis(20));
            self.signal(Signal::SIGCONT)?;
            client.send_until_blocked()?;
        }
        Ok(client)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.target.pid().cast_signed());
        kill(pid, signal).context("sending a signal")
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.target.has_ended()
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while !self.has_ended() {
            ensure!(Instant::now() < deadline, "still there after {within:?}");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Sends SIGTERM, and returns when the server has handled it.
    pub(crate) fn begin_to_stop(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        // If both signals are pending, SIGUSR1 may be handled first; a second SIGUSR1 is handled after SIGTERM.
        self.counters()?;
        self.counters()?;
        Ok(())
    }

    /// Sends SIGTERM, and waits for the exit status and stderr.
    pub(crate) fn terminate(self) -> Result<(i32, String)> {
        let ended = self.target.stop(2 * SOON);
        ensure!(!ended.killed, "still there after SIGTERM: {ended}");
        let status = ended.status.code().with_context(|| ended.to_string())?;
        Ok((status, ended.stderr))
    }

    /// Sends SIGTERM. The server must exit with status 0 and print only its counters on stderr, and `--grace` must
    /// not cut off a connection.
    pub(crate) fn stop(self) -> Result<Counters> {
        let stderr = self.stderr_of_stop()?;
        Counters::at_end(stderr.strip_suffix('\n').unwrap_or(&stderr))
    }

    /// Like [`stop`](Self::stop), but other lines may precede the counters on stderr.
    pub(crate) fn stop_loudly(self) -> Result<Counters> {
        let stderr = self.stderr_of_stop()?;
        Counters::at_end(stderr.lines().next_back().context("nothing on stderr")?)
    }

    fn stderr_of_stop(self) -> Result<String> {
        let (status, stderr) = self.terminate()?;
        ensure!(status == 0, "exit status {status}: {stderr}");
        Ok(stderr)
    }

    /// Sends SIGUSR1 and reads the counters that it prints.
    pub(crate) fn counters(&self) -> Result<Counters> {
        self.target.take_stderr();
        self.signal(Signal::SIGUSR1)?;
        let mut said = String::new();
        let line = eventually(|| {
            said += &self.target.take_stderr();
            let mut lines = said.split_inclusive('\n');
            let line = lines.find(|line| line.starts_with('{') && line.ends_with('\n'));
            line.map(str::to_owned)
                .with_context(|| format!("no counters after SIGUSR1: {said:?}"))
        })?;
        Counters::parse(line.trim_end())
    }

    /// Waits until `so` is true of the server's counters.
    pub(crate) fn counters_become(&self, so: impl Fn(&Counters) -> bool) -> Result<Counters> {
        eventually(|| {
            let counters = self.counters()?;
            ensure!(so(&counters), "{counters:?}");
            Ok(counters)
        })
    }

    /// The server's own resident memory in KiB: heap and stacks, without the program itself and without the
    /// kernel's socket buffers.
    pub(crate) fn memory_kib(&self) -> Result<u64> {
        // The numbers in /proc/PID/status are updated only now and then.
        let maps = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.target.pid()))?;
        let line = maps
            .lines()
            .find_map(|line| line.strip_prefix("Anonymous:"));
        let kib = line.context("no Anonymous in /proc/PID/smaps_rollup")?;
        Ok(kib.trim().trim_end_matches(" kB").parse()?)
    }

    /// CPU time used so far, in clock ticks (/proc/PID/stat; a second has 100).
    pub(crate) fn cpu_ticks(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.target.pid()))?;
        // The name in parentheses may hold anything; utime and stime are the 12th and 13th after it.
        let (_, rest) = stat.rsplit_once(')').context("a name in /proc/PID/stat")?;
        let times = rest.split_ascii_whitespace().skip(11).take(2);
        times.map(|ticks| Ok(ticks.parse::<u64>()?)).sum()
    }
}
