//! An HTTP/1.1 server whose truth is known: it delays, stalls and misbehaves exactly as told, and
//! records what it did, for a load generator to be held against.
//!
//! One thread, one mio poll and a timer (`serve`); so it holds 10,000 connections, delays to some tens
//! of microseconds and sleeps in between.

// Each test binary, and the example, uses its own part of this.
#![allow(dead_code)]

pub(crate) mod against;
pub(crate) mod answer;
pub(crate) mod delay;
mod serve;
pub(crate) mod statistics;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use answer::{Fault, Framing};
use delay::{Delay, Stall};
use serve::Serve;

/// A server that runs on a thread of its own until it is stopped or dropped.
pub(crate) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Arc<mio::Waker>,
    thread: Option<JoinHandle<io::Result<Truth>>>,
}

/// How a server behaves.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    /// Of `listen(2)`; the accept queue holds one more.
    pub(crate) backlog: i32,
    /// Least time between two accepts.
    pub(crate) accept_every: Duration,
    pub(crate) serves: Serves,
    /// From when a request came to when it is answered. Answers to pipelined requests keep their
    /// order, so that one may wait for the one before it.
    pub(crate) delay: Delay,
    pub(crate) seed: u64,
    pub(crate) stall: Option<Stall>,
    /// These take turns at every [`Options::fault_every`]th request.
    pub(crate) faults: Vec<Fault>,
    pub(crate) fault_every: u64,
    pub(crate) framing: Framing,
    pub(crate) when_asked_to_close: WhenAskedToClose,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            backlog: 4096,
            accept_every: Duration::ZERO,
            serves: Serves::All,
            delay: Delay::Fixed(Duration::ZERO),
            seed: 0,
            stall: None,
            faults: Vec::new(),
            fault_every: 100,
            framing: Framing::Length,
            when_asked_to_close: WhenAskedToClose::Closes,
        }
    }
}

/// Which connections are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    All,
    /// So many; the others are accepted and never read.
    FirstAndAccepts(u64),
    /// So many; the others are not even accepted.
    First(u64),
}

/// What becomes of a connection whose request says `Connection: close` (RFC 9112 §9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WhenAskedToClose {
    /// The answer says so too, and the server closes after it.
    Closes,
    /// The server closes, and its answer says nothing.
    ClosesUnannounced,
    /// It stays open, as if nothing had been asked.
    Ignores,
}

/// What a server did.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Most of them open at once.
    pub(crate) connections_open_max: u64,
    /// Requests read to their end, whatever became of them.
    pub(crate) requests: u64,
    /// Whole responses that the kernel took, those with a wrong status or body or with bytes too many
    /// included.
    pub(crate) responses: u64,
    /// Misbehaviour, by kind, once it was done.
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// When each request came, nanoseconds since the start; of the first [`Truth::KEPT`].
    pub(crate) arrivals_ns: Vec<u64>,
    /// How long each answer without fault took; of the first [`Truth::KEPT`].
    pub(crate) answers: Vec<Answered>,
}

impl Truth {
    /// So much is kept for each request at the most, so that a server can run for days.
    pub(crate) const KEPT: usize = 1_000_000;

    pub(crate) fn faults_count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How long requests were held, in order of length.
    pub(crate) fn held_ns(&self) -> Vec<u64> {
        let mut held: Vec<u64> = self.answers.iter().map(|answer| answer.held_ns).collect();
        held.sort_unstable();
        held
    }

    /// By how much more than they should have been, in order of length: the lateness of the server.
    pub(crate) fn late_ns(&self) -> Vec<u64> {
        let late = |answer: &Answered| answer.held_ns.saturating_sub(answer.meant_ns);
        let mut late: Vec<u64> = self.answers.iter().map(late).collect();
        late.sort_unstable();
        late
    }
}

/// The times of one answer, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    /// When its request came, since the start of the server.
    pub(crate) arrived_ns: u64,
    /// The delay that was drawn for it.
    pub(crate) drawn_ns: u64,
    /// From when its request came to when it was to be sent: the delay drawn, and what a stall or
    /// the answer before it added.
    pub(crate) meant_ns: u64,
    /// From when its request came to when it was sent.
    pub(crate) held_ns: u64,
}

impl Server {
    /// Listens, and starts to serve.
    pub(crate) fn start(options: Options) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (serve, address, waker) = Serve::new(options, Arc::clone(&stop))?;
        let thread = thread::Builder::new()
            .name("truth-server".to_owned())
            .spawn(move || serve.run())?;
        Ok(Server {
            address,
            stop,
            waker: Arc::new(waker),
            thread: Some(thread),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the server once all clients have closed their connections, or after two seconds: what
    /// they sent has been read by then, but is answered no more. Returns what it did.
    pub(crate) fn stop(mut self) -> Truth {
        self.signal();
        let thread = self.thread.take().expect("it is taken only here");
        match thread.join() {
            Ok(outcome) => outcome.expect("the poll of a server works"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn signal(&self) {
        self.stop.store(true, Ordering::SeqCst);
        // It fails when the thread has ended already.
        self.waker.wake().unwrap_or_default();
    }
}

/// Nobody wants to know what it did.
impl Drop for Server {
    fn drop(&mut self) {
        self.signal();
    }
}
