//! A server under test, as a process.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use loadgen::catalogue::Server;
use loadgen::target::{self, Options, Target};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::client::{Client, Expected, GET};

/// No server here has a reason to take longer for anything that it is not told to wait for.
pub(crate) const SOON: Duration = Duration::from_secs(5);

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
        Ok(target::build(&self.server, &self.root)?)
    }

    /// Starts it on a free port, with further arguments.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<Running> {
        self.start_under(&[], arguments)
    }

    /// Starts it by another command that replaces itself with the one it is given, such as `prlimit`.
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

    /// Runs its program with these arguments alone, up to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.root.join(&self.server.run[0]));
        output(command.args(arguments))
    }

    pub(crate) fn has_threads(&self) -> Result<bool> {
        let help = self.run(&["--help"])?;
        Ok(String::from_utf8_lossy(&help.stdout).contains("--threads"))
    }
}

/// Runs a command up to its end, which must come soon.
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
    // It said less than a pipe holds, or it would not have ended.
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

/// A server that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    target: Target,
}

/// What a server says of itself when it stops, and on SIGUSR1.
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

/// What was refused or put off by a limit.
#[derive(Debug, Deserialize)]
pub(crate) struct Limits {
    pub(crate) connections: u64,
    pub(crate) files: u64,
    pub(crate) threads: u64,
    pub(crate) request_line: u64,
    pub(crate) head: u64,
    pub(crate) body: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Timeouts {
    pub(crate) idle: u64,
    pub(crate) header: u64,
    pub(crate) body: u64,
    pub(crate) write: u64,
    pub(crate) linger: u64,
}

impl Counters {
    /// Reads one line, which must agree with itself.
    pub(crate) fn parse(line: &str) -> Result<Counters> {
        let counters: Counters = serde_json::from_str(line)
            .with_context(|| format!("counters expected on stderr: {line}"))?;
        let agrees = counters.accepted == counters.closed + counters.open
            && counters.requests == counters.responses.values().sum::<u64>();
        ensure!(agrees, "{counters:?}");
        Ok(counters)
    }
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        self.target.address()
    }

    pub(crate) fn connect(&self) -> Result<Client> {
        Client::connect(self.address())
    }

    /// Says hello on a new connection, as a server in good health does.
    pub(crate) fn greet(&self) -> Result<()> {
        let mut client = self.connect()?;
        client.send(GET)?;
        client.expect(Expected::Hello, None).context("a new client")
    }

    /// A client that reads no answers, with the server blocked in sending it more.
    pub(crate) fn stall(&self) -> Result<Client> {
        let mut client = Client::connect_narrow(self.address())?;
        client.send_until_blocked()?;
        // A blocked send is not woken for every bit of room that the kernel finds later, but once woken
        // it takes it: woken a few times, it finds none.
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

    /// Waits until the process has ended.
    pub(crate) fn wait(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while !self.target.has_ended() {
            ensure!(Instant::now() < deadline, "still there after {within:?}");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Sends SIGTERM, and waits for the exit status and what stands on stderr.
    pub(crate) fn terminate(self, within: Duration) -> Result<(i32, String)> {
        let ended = self.target.stop(within);
        ensure!(
            !ended.killed,
            "still there {within:?} after SIGTERM: {ended}"
        );
        let status = ended.status.code().with_context(|| ended.to_string())?;
        Ok((status, ended.stderr))
    }

    /// Sends SIGTERM: it must exit soon with status 0 and its counters alone on stderr.
    pub(crate) fn stop(self) -> Result<Counters> {
        let (status, stderr) = self.terminate(SOON / 2)?;
        ensure!(status == 0, "exit status {status}: {stderr}");
        Counters::parse(stderr.strip_suffix('\n').unwrap_or(&stderr))
    }

    /// CPU time used so far, in clock ticks (/proc/PID/stat; a second has 100).
    pub(crate) fn cpu_ticks(&self) -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.target.pid()))?;
        // The name in parentheses may hold anything; utime and stime are the 12th and 13th after it.
        let (_, rest) = stat.rsplit_once(')').context("a name in /proc/PID/stat")?;
        let times = rest.split_ascii_whitespace().skip(11).take(2);
        times.map(|ticks| Ok(ticks.parse::<u64>()?)).sum()
    }
}
