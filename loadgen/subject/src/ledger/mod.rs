//! What the kernel counts while a server works: its system calls by name, and events of its
//! threads.
//!
//! Counters of `perf_event_open(2)` on tracepoints count every occurrence: nothing is sampled, so
//! nothing can be lost. Threads and processes that a counted thread starts are counted with it. All
//! counters of a thread form a group that starts and stops with its leader, so all cover the same
//! time.
//!
//! **Counting disturbs.** Every system call takes a slower path, every thread switch moves the
//! counters, and every new thread gets its own. So these counts say how often something happens,
//! and never how fast.

mod counters;
mod pass;
pub mod tracefs;

use std::collections::BTreeMap;
use std::io;

pub use counters::{Counters, Tracepoints};
pub use pass::{AtLeast, Counted, Pass};

use serde::{Deserialize, Serialize};

/// The kinds of counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A system call.
    Call,
    /// An event of a thread.
    Event,
    /// Memory of the server with a number of idle connections open; not related to responses.
    Memory,
}

/// The names of events.
pub const EVENTS: [&str; 3] = ["context-switches", "cpu-migrations", "page-faults"];

/// The names of memory counts: [`bytes`](crate::process::Memory::bytes) and
/// [`kernel_bytes`](crate::process::Memory::kernel_bytes).
pub const MEMORY: [&str; 2] = ["server-bytes", "kernel-bytes"];

/// How often each operation happened, over all threads of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// System calls by name; those without their own counter are summed up as [`OTHER`].
    pub calls: BTreeMap<String, u64>,
    /// One count for each of [`EVENTS`].
    pub events: BTreeMap<String, u64>,
}

/// The name for all system calls without their own counter.
pub const OTHER: &str = "other";

impl Counts {
    /// The rows of `ledger.csv`: calls that did not happen are left out; all events are listed.
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

/// Why counting is not possible, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not let this user see tracepoints or count.
    #[error("counting system calls is not permitted ({cause}): run as root, or {advice}")]
    NotPermitted {
        /// What was refused.
        cause: String,
        /// What to do.
        advice: String,
    },
    /// The kernel has no such tracepoints.
    #[error("counting system calls is not possible: {0}")]
    NotSupported(String),
    /// The process is gone, or the kernel refused for another reason.
    #[error("counting system calls: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether the error would be the same for every server on this machine.
    pub fn concerns_all(&self) -> bool {
        matches!(self, Error::NotPermitted { .. } | Error::NotSupported(_))
    }
}
