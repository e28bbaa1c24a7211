//! What this machine charges for a server's operations: system calls, context switches, threads,
//! packets on loopback. Each is measured separately, as CPU time of the executing thread, under the
//! conditions of a server in a set: this side pinned like the server, the other side like the
//! generator, and [`CONNECTIONS`] connections in turn instead of a single one that stays in the
//! caches.
//!
//! The CPU clock of the thread (`CLOCK_THREAD_CPUTIME_ID`) is used, as for servers. So work that is
//! charged to another thread is charged in the same way here: a send pays for the delivery of its
//! data, and a woken thread does not pay for the time until it runs.

mod calls;
mod clock;
mod connections;
mod exchange;
mod pair;
mod threads;
mod waits;

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::estimate::median;
use subject::machine::{Machine, Pinning};

/// Version of the file; it grows when a key changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// The number of connections, as in most workloads.
pub const CONNECTIONS: usize = 64;

/// Length of a request: the generator's is `GET / HTTP/1.1` and a `Host`.
pub const REQUEST_BYTES: usize = 41;

/// Length of an answer, similar to the servers'.
pub const ANSWER_BYTES: usize = 130;

/// Requests per read and answers per write when the price of length is measured.
const PIPELINE: usize = 16;

/// How often all experiments are repeated, so that a disturbance of a second does not affect only
/// one.
const PASSES: usize = 3;

/// An operation with a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Primitive {
    /// A system call that does almost nothing: `getppid`.
    BareCall,
    /// `sched_yield` without another runnable thread.
    Yield,
    /// The first touch of a page of memory.
    PageFault,
    /// `recv` of one request that has already arrived.
    Receive,
    /// Each further KiB of a `recv`.
    ReceiveKib,
    /// `recv` that returns 0 because the peer has closed.
    ReceiveEnd,
    /// `send` of one answer to a peer that is awake, including delivery.
    Send,
    /// Each further KiB of a `send`.
    SendKib,
    /// The extra cost of a `send` if the peer sleeps and its CPU is idle.
    WakePeer,
    /// `epoll_wait` that returns immediately, without the cost of its events.
    EpollWait,
    /// Each event of an `epoll_wait`.
    EpollEvent,
    /// `epoll_ctl` that adds a connection.
    EpollAdd,
    /// `epoll_ctl` that removes a connection.
    EpollRemove,
    /// `write` to an eventfd, which wakes a waiting thread.
    WakerWrite,
    /// The extra cost of a `recv` if the thread waits, its CPU goes idle, and the input wakes it.
    SwitchIdle,
    /// The extra cost of a `recv` if the thread waits and the input interrupts other threads that
    /// run meanwhile.
    Switch,
    /// `futex` that wakes a thread on the same CPU.
    FutexWake,
    /// `futex` that wakes a thread on another, idle CPU.
    FutexWakeRemote,
    /// `futex` that waits, including the context switch to another thread.
    FutexWait,
    /// A thread from its creation to its end, without its context switches and page faults.
    Thread,
    /// `accept4` of a waiting connection.
    Accept,
    /// `accept4` on an empty queue.
    AcceptNothing,
    /// The extra cost of a connection's first `recv` and `send`.
    FirstExchange,
    /// `close` of a connection that the peer has closed.
    Close,
    /// `shutdown` of the sending side.
    Shutdown,
    /// `setsockopt`.
    SetOption,
}

impl Primitive {
    /// The title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Primitive::BareCall => "bare system call (getppid)",
            Primitive::Yield => "sched_yield, no other thread",
            Primitive::PageFault => "page fault, first touch",
            Primitive::Receive => "recv of an available request",
            Primitive::ReceiveKib => "recv, each further KiB",
            Primitive::ReceiveEnd => "recv that returns 0",
            Primitive::Send => "send of an answer, peer awake",
            Primitive::SendKib => "send, each further KiB",
            Primitive::WakePeer => "send, more if the peer sleeps",
            Primitive::EpollWait => "epoll_wait, returns immediately",
            Primitive::EpollEvent => "epoll_wait, each event",
            Primitive::EpollAdd => "epoll_ctl, add",
            Primitive::EpollRemove => "epoll_ctl, remove",
            Primitive::WakerWrite => "write to an eventfd",
            Primitive::SwitchIdle => "context switch, from and to idle",
            Primitive::Switch => "context switch between threads",
            Primitive::FutexWake => "futex wake, same CPU",
            Primitive::FutexWakeRemote => "futex wake, other CPU",
            Primitive::FutexWait => "futex wait, including the switch",
            Primitive::Thread => "thread, creation to end",
            Primitive::Accept => "accept4",
            Primitive::AcceptNothing => "accept4 on an empty queue",
            Primitive::FirstExchange => "first request of a connection, extra",
            Primitive::Close => "close",
            Primitive::Shutdown => "shutdown",
            Primitive::SetOption => "setsockopt",
        }
    }
}

/// The cost of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU microseconds: the median.
    pub us: f64,
    /// The lower quartile.
    pub us_p25: f64,
    /// The upper quartile.
    pub us_p75: f64,
    /// The number of samples, each of which is the mean of several operations.
    pub samples: usize,
}

/// The price list of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Primitives {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it was measured, UTC.
    pub started: String,
    /// The machine, with the pinning of both sides.
    pub machine: Machine,
    /// The cost of every primitive.
    pub costs: BTreeMap<Primitive, Cost>,
}

impl Primitives {
    /// The price in microseconds.
    ///
    /// # Panics
    ///
    /// If it was not measured, which [`measure`] and [`Primitives::check`] exclude.
    pub fn us(&self, primitive: Primitive) -> f64 {
        self.costs[&primitive].us
    }

    /// Checks whether a file that was read can be used.
    ///
    /// # Errors
    ///
    /// A description of the fault.
    pub fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!(
                "it has schema {}, this program reads schema {SCHEMA}",
                self.schema
            ));
        }
        let missing = ALL.iter().find(|it| !self.costs.contains_key(it));
        match missing {
            Some(missing) => Err(format!("the cost of `{}` is missing", missing.title())),
            None => Ok(()),
        }
    }
}

/// All primitives, in table order.
pub const ALL: [Primitive; 26] = [
    Primitive::BareCall,
    Primitive::Yield,
    Primitive::PageFault,
    Primitive::Receive,
    Primitive::ReceiveKib,
    Primitive::ReceiveEnd,
    Primitive::Send,
    Primitive::SendKib,
    Primitive::WakePeer,
    Primitive::EpollWait,
    Primitive::EpollEvent,
    Primitive::EpollAdd,
    Primitive::EpollRemove,
    Primitive::WakerWrite,
    Primitive::SwitchIdle,
    Primitive::Switch,
    Primitive::FutexWake,
    Primitive::FutexWakeRemote,
    Primitive::FutexWait,
    Primitive::Thread,
    Primitive::Accept,
    Primitive::AcceptNothing,
    Primitive::FirstExchange,
    Primitive::Close,
    Primitive::Shutdown,
    Primitive::SetOption,
];

/// Measures all primitives on this machine, with both sides pinned as in `machine`. Takes some
/// seconds; `progress` receives the completed share, from 0 to 1.
///
/// # Errors
///
/// If CPUs may not be used, or sockets or threads cannot be created.
pub fn measure(
    machine: Machine,
    started: String,
    mut progress: impl FnMut(f64),
) -> io::Result<Primitives> {
    type Experiment = fn(&Pinning, &mut Samples) -> io::Result<()>;
    // The order matters: later experiments subtract what earlier ones measured.
    let experiments: [Experiment; 6] = [
        calls::measure,
        exchange::measure,
        waits::measure_alone,
        waits::measure_among_others,
        threads::measure,
        connections::measure,
    ];
    let mut samples = Samples::default();
    let steps = PASSES * experiments.len();
    for step in 0..steps {
        progress(step as f64 / steps as f64);
        experiments[step % experiments.len()](&machine.pinning, &mut samples)?;
    }
    progress(1.0);
    Ok(Primitives {
        schema: SCHEMA,
        started,
        machine,
        costs: samples.costs(),
    })
}

/// Samples in microseconds, by primitive.
#[derive(Debug, Default)]
struct Samples(BTreeMap<Primitive, Vec<f64>>);

impl Samples {
    fn add(&mut self, primitive: Primitive, us: f64) {
        self.0.entry(primitive).or_default().push(us);
    }

    /// The median of a primitive that another experiment measured.
    fn median(&self, primitive: Primitive) -> f64 {
        median(&mut self.0[&primitive].clone())
    }

    fn costs(self) -> BTreeMap<Primitive, Cost> {
        let cost = |(primitive, mut samples): (Primitive, Vec<f64>)| {
            samples.sort_by(f64::total_cmp);
            let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
            // A difference of two measurements may be negative by chance, and then counts as zero.
            let cost = Cost {
                us: at(0.5).max(LEAST_US),
                us_p25: at(0.25).max(LEAST_US),
                us_p75: at(0.75).max(LEAST_US),
                samples: samples.len(),
            };
            (primitive, cost)
        };
        self.0.into_iter().map(cost).collect()
    }
}

/// A tenth of a nanosecond: no primitive is free.
const LEAST_US: f64 = 1e-4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_primitive_has_a_name_of_its_own() {
        let titles: BTreeSet<&str> = ALL.into_iter().map(Primitive::title).collect();
        assert_eq!(titles.len(), ALL.len());
        assert_eq!(ALL.into_iter().collect::<BTreeSet<_>>().len(), ALL.len());
    }

    #[test]
    fn costs_are_medians_with_quartiles() {
        let rows: [(&[f64], [f64; 3]); 4] = [
            (&[2.0], [2.0, 2.0, 2.0]),
            (&[5.0, 1.0, 3.0, 2.0, 4.0], [2.0, 3.0, 4.0]),
            (&[-1.0, -2.0, 3.0], [LEAST_US, LEAST_US, 3.0]),
            (&[1.0, 1.0, 1.0, 900.0], [1.0, 1.0, 1.0]),
        ];
        for (values, [us_p25, us, us_p75]) in rows {
            let mut samples = Samples::default();
            for &value in values {
                samples.add(Primitive::Send, value);
            }
            let cost = samples.costs()[&Primitive::Send];
            let expected = Cost {
                us,
                us_p25,
                us_p75,
                samples: values.len(),
            };
            assert_eq!(cost, expected, "{values:?}");
        }
    }
}
