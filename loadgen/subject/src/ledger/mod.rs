//! What the kernel counts of a server while it works: its system calls by name, and what happens to its
//! threads.
//!
//! Counters of `perf_event_open(2)` on tracepoints count every one; nothing is sampled, so nothing can be
//! lost. Threads and processes that a counted thread starts are counted with it. All counters of a thread
//! form a group that runs or stands as its leader does, so that all cover the same time.
//!
//! **Counting disturbs.** Every system call takes a slower path, every switch between threads takes the
//! counters off one and puts them on the other, and every new thread gets its own. So what is counted here
//! says how often, and never how fast.

mod counters;
mod pass;
pub mod tracefs;

use std::collections::BTreeMap;
use std::io;

pub use counters::allow_files;
pub use counters::{Counters, Tracepoints};
pub use pass::{AtLeast, Counted, Pass};

use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A system call.
    Call,
    /// Something that happens to threads.
    Event,
    /// Memory of the server while so many idle connections are open; nothing was answered.
    Memory,
}

/// Names of events.
pub const EVENTS: [&str; 3] = ["context-switches", "cpu-migrations", "page-faults"];

/// Names of memory: [`bytes`](crate::process::Memory::bytes) and
/// [`kernel_bytes`](crate::process::Memory::kernel_bytes).
pub const MEMORY: [&str; 2] = ["server-bytes", "kernel-bytes"];

/// How often what happened, over all threads of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// System calls by name; those that have no counter of their own together as [`OTHER`].
    pub calls: BTreeMap<String, u64>,
    /// One for each of [`EVENTS`].
    pub events: BTreeMap<String, u64>,
}

/// Stands for the system calls that have no counter of their own.
pub const OTHER: &str = "other";

impl Counts {
    /// As rows of `ledger.csv`: what did not happen is left out of the calls; all events are there.
    pub fn rows(&self) -> impl Iterator<Item = (Kind, &str, u64)> {
        let calls = self.calls.iter().filter(|(_, count)| **count > 0);
        let calls = calls.map(|(name, &count)| (Kind::Call, name.as_str(), count));
        let event = |name: &'static str| {
            let count = self.events.get(name).copied().unwrap_or(0);
            (Kind::Event, name, count)
        };
        calls.chain(EVENTS.map(event))
    }
}

/// Why nothing can be counted. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel lets this user not see tracepoints or not count.
    #[error("counting system calls is not permitted ({cause}): run as root, or {advice}")]
    NotPermitted {
        /// What was refused.
        cause: String,
        /// What to do.
        advice: String,
    },
    /// It has no such tracepoints.
    #[error("counting system calls is not possible: {0}")]
    NotSupported(String),
    /// The process to be counted is gone, or the kernel refused for another reason.
    #[error("counting system calls: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether it would be the same for every server on this machine.
    pub fn concerns_all(&self) -> bool {
        matches!(self, Error::NotPermitted { .. } | Error::NotSupported(_))
    }
}
