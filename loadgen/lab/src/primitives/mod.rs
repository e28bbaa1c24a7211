//! What this machine charges for the things that servers do to the kernel: system calls, context switches,
//! threads, packets on loopback. Each is measured by itself, in CPU time of the thread that does it, under
//! the conditions of a server in a set: pinned where the server was, the other side pinned where the
//! generator was, and [`CONNECTIONS`] connections in turn instead of one whose memory stays in the caches.
//!
//! What is measured is the CPU clock of the thread (`CLOCK_THREAD_CPUTIME_ID`), as for servers. So what one
//! side does that is charged to the other is charged here as it is there: a send pays for the delivery of
//! what it sends, and a thread that is woken does not pay for the time until it runs.

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

/// Version of the file; it grows when a key changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// As many as the curated workloads have.
pub const CONNECTIONS: usize = 64;

/// Length of a request: the generator's is `GET / HTTP/1.1` and a `Host`.
pub const REQUEST_BYTES: usize = 41;

/// Length of an answer, about that of the servers'.
pub const ANSWER_BYTES: usize = 130;

/// Requests in one read and answers in one write, where the price of length is measured.
const PIPELINE: usize = 16;

/// All experiments are gone through so often, that a disturbance of a second does not hit one alone.
const PASSES: usize = 3;

/// Something that has a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Primitive {
    /// A system call that does next to nothing: `getppid`.
    BareCall,
    /// `sched_yield` with nobody to yield to.
    Yield,
    /// The first touch of a page of memory.
    PageFault,
    /// `recv` of one request that is there already.
    Receive,
    /// What each further KiB adds to that.
    ReceiveKib,
    /// `recv` that returns 0, as the peer has closed.
    ReceiveEnd,
    /// `send` of one answer to a peer that is awake, its delivery included.
    Send,
    /// What each further KiB adds to that.
    SendKib,
    /// What it adds to a `send` when the peer sleeps and its CPU is idle.
    WakePeer,
    /// `epoll_wait` that returns at once, without what its events take.
    EpollWait,
    /// What each event adds to that.
    EpollEvent,
    /// `epoll_ctl` that adds a connection.
    EpollAdd,
    /// `epoll_ctl` that removes one.
    EpollRemove,
    /// `write` to an eventfd, by which a waiting thread is woken.
    WakerWrite,
    /// A thread waits for input, its CPU goes idle, and the input wakes it: what that adds to its `recv`.
    SwitchIdle,
    /// As above, but other threads run meanwhile, which the input interrupts.
    Switch,
    /// `futex` that wakes a thread on the same CPU.
    FutexWake,
    /// `futex` that wakes a thread on another CPU, which is idle.
    FutexWakeRemote,
    /// `futex` that waits, the context switch to another thread included.
    FutexWait,
    /// A thread from its creation to its end, without its context switches and page faults.
    Thread,
    /// `accept4` of a connection that waits.
    Accept,
    /// `accept4` that finds none.
    AcceptNothing,
    /// What the first `recv` and `send` of a connection take more than later ones.
    FirstExchange,
    /// `close` of a connection that the peer has closed.
    Close,
    /// `shutdown` of the sending side.
    Shutdown,
    /// `setsockopt`.
    SetOption,
}

impl Primitive {
    /// For tables.
    pub fn title(self) -> &'static str {
        match self {
            Primitive::BareCall => "bare system call (getppid)",
            Primitive::Yield => "sched_yield, nobody else there",
            Primitive::PageFault => "page fault, first touch",
            Primitive::Receive => "recv of a request that is there",
            Primitive::ReceiveKib => "recv, each further KiB",
            Primitive::ReceiveEnd => "recv that returns 0",
            Primitive::Send => "send of an answer, peer awake",
            Primitive::SendKib => "send, each further KiB",
            Primitive::WakePeer => "send, more if the peer sleeps",
            Primitive::EpollWait => "epoll_wait that need not wait",
            Primitive::EpollEvent => "epoll_wait, each event",
            Primitive::EpollAdd => "epoll_ctl, add",
            Primitive::EpollRemove => "epoll_ctl, remove",
            Primitive::WakerWrite => "write to an eventfd",
            Primitive::SwitchIdle => "context switch, from and to idle",
            Primitive::Switch => "context switch between threads",
            Primitive::FutexWake => "futex wake, same CPU",
            Primitive::FutexWakeRemote => "futex wake, other CPU",
            Primitive::FutexWait => "futex wait, its switch included",
            Primitive::Thread => "thread, creation to end",
            Primitive::Accept => "accept4",
            Primitive::AcceptNothing => "accept4 that finds nothing",
            Primitive::FirstExchange => "first request of a connection, more",
            Primitive::Close => "close",
            Primitive::Shutdown => "shutdown",
            Primitive::SetOption => "setsockopt",
        }
    }
}

/// What one costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU microseconds: the median.
    pub us: f64,
    /// The quartile below.
    pub us_p25: f64,
    /// The quartile above.
    pub us_p75: f64,
    /// How many samples they are of, each the mean of several.
    pub samples: usize,
}

/// The price list of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Primitives {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When, UTC.
    pub started: String,
    /// Where; whose pinning was the server's and the generator's.
    pub machine: Machine,
    /// All of them.
    pub costs: BTreeMap<Primitive, Cost>,
}

impl Primitives {
    /// Microseconds.
    ///
    /// # Panics
    ///
    /// When it was not measured, which [`measure`] and [`Primitives::check`] exclude.
    pub fn us(&self, primitive: Primitive) -> f64 {
        self.costs[&primitive].us
    }

    /// Whether a file that was read can be used.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!(
                "it is of schema {}, this program reads {SCHEMA}",
                self.schema
            ));
        }
        let missing = ALL.iter().find(|it| !self.costs.contains_key(it));
        match missing {
            Some(missing) => Err(format!("it has no cost of `{}`", missing.title())),
            None => Ok(()),
        }
    }
}

/// Every primitive, in the order of tables.
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

/// Measures all of them on this machine, with both sides where `machine` has them pinned. Takes some
/// seconds; `progress` hears how far it is, from 0 to 1.
///
/// # Errors
///
/// When CPUs may not be used, or sockets or threads are refused.
pub fn measure(
    machine: Machine,
    started: String,
    mut progress: impl FnMut(f64),
) -> io::Result<Primitives> {
    type Experiment = fn(&Pinning, &mut Samples) -> io::Result<()>;
    // In this order: later ones take away what earlier ones have found.
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

/// Microseconds by primitive.
#[derive(Debug, Default)]
struct Samples(BTreeMap<Primitive, Vec<f64>>);

impl Samples {
    fn add(&mut self, primitive: Primitive, us: f64) {
        self.0.entry(primitive).or_default().push(us);
    }

    /// Of something that another experiment has measured.
    fn median(&self, primitive: Primitive) -> f64 {
        median(&mut self.0[&primitive].clone())
    }

    fn costs(self) -> BTreeMap<Primitive, Cost> {
        let cost = |(primitive, mut samples): (Primitive, Vec<f64>)| {
            samples.sort_by(f64::total_cmp);
            let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
            // What is the difference of two can come out below nothing by chance, and costs nothing then.
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

/// A tenth of a nanosecond: nothing has no price.
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
