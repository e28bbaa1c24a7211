//! State that all peers of one server share.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::Rules;
use crate::pace::Pace;
use crate::tally::Tally;

/// The server as its peers know it, and their results so far.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    /// Whether the server is ours and keeps the whole contract; others keep that of `benches/servers.toml`.
    pub(crate) ours: bool,
    /// Whether the server serves few at a time, so that peers may wait in vain for a first byte.
    pub(crate) may_starve: Cell<bool>,
    pub(crate) times: Times,
    /// Turns for requests of well-behaved peers.
    pub(crate) turns: Pace,
    /// Turns for lives of all other peers.
    pub(crate) misdeeds: Pace,
    pub(crate) stage: watch::Sender<Stage>,
    pub(crate) tally: RefCell<Tally>,
    source: Cell<u8>,
    overflows_before: u64,
}

/// The limits that the server was started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) idle: Duration,
    pub(crate) header: Duration,
    /// The longest time from the stop signal to the exit.
    pub(crate) grace: Duration,
    /// How long a peer waits for an answer or a close: far longer than any server needs, even on a busy machine.
    pub(crate) patience: Duration,
}

/// The stage of a soak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Peers come and go.
    Mix,
    /// Peers finish what they have begun, and leave.
    Leaving,
    /// The server was sent SIGTERM at that time, with peers around it.
    Stopping(Instant),
}

/// How many loopback addresses connections come from, in turn. Each has about 28,000 ports, and a connection that
/// the peer closes first keeps its port in TIME_WAIT for a minute.
const SOURCES: u8 = 32;

impl World {
    pub(crate) fn new(address: SocketAddr, ours: bool, times: Times, rate_per_s: f64) -> Self {
        let now = Instant::now();
        World {
            address,
            ours,
            may_starve: Cell::new(false),
            times,
            turns: Pace::new(rate_per_s, now),
            misdeeds: Pace::new((rate_per_s / 4.0).max(1.0), now),
            stage: watch::Sender::new(Stage::Mix),
            tally: RefCell::default(),
            source: Cell::new(0),
            overflows_before: accept_queue_overflows(),
        }
    }

    /// Whether an accept queue has been full, as happens to a server that serves few at a time. The kernel then
    /// drops the last segment of a handshake, and may later reset a connection that the server never had.
    pub(crate) fn has_overflowed(&self) -> bool {
        accept_queue_overflows() > self.overflows_before
    }

    /// The source address of the next connection.
    pub(crate) fn next_source(&self) -> SocketAddr {
        let source = self.source.get();
        self.source.set((source + 1) % SOURCES);
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2 + source), 0))
    }

    pub(crate) fn may_starve(&self) -> bool {
        self.may_starve.get()
    }

    pub(crate) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    pub(crate) fn rules(&self) -> Rules {
        match (self.ours, self.stage()) {
            (false, _) => Rules::Foreign,
            (true, Stage::Stopping(_)) => Rules::OursStopping,
            (true, _) => Rules::Ours,
        }
    }

    /// How long a peer may keep a connection idle before the server may close it, with a margin in case either is
    /// late.
    pub(crate) fn idle_safely(&self) -> Duration {
        self.times.idle.mul_f64(0.75)
    }

    /// How long a peer may take for a head before the server may refuse it, with a margin in case either is late.
    pub(crate) fn header_safely(&self) -> Duration {
        self.times.header.mul_f64(0.75)
    }
}

/// How often accept queues were full, over all sockets of the network namespace (`ListenOverflows` in
/// /proc/net/netstat); 0 if the kernel does not report it.
fn accept_queue_overflows() -> u64 {
    let netstat = std::fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let mut counters = names.split(' ').zip(values.split(' '));
    let found = counters.find(|(name, _)| *name == "ListenOverflows");
    found
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default()
}
