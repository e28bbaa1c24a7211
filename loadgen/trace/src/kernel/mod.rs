//! System calls and state changes, reported by the kernel's tracepoints.
//!
//! Tracepoints are sampled on every CPU, for all processes, because the traced process may not
//! exist yet: a server that is started under the trace shows its `socket`, `bind` and `listen`. The
//! processes of interest are named at the [end](Tracer::end).
//!
//! **Tracing disturbs.** While it lasts, every system call on this machine takes a slower path.

mod describe;
mod events;
mod format;
mod gathered;
mod rings;

use std::io;
use std::path::Path;

pub use describe::{describe, descriptor, makes_descriptor, result};

use super::model::{Call, Change};
use events::Layout;
use rings::Drain;
use subject::ledger;
use subject::ledger::tracefs;

/// Tracing other users' processes requires a lower level than counting them.
const PARANOID: i8 = -1;

/// Running tracepoints.
#[derive(Debug)]
pub struct Tracer {
    drain: Drain,
}

/// What to extract from the recorded events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch {
    /// Threads of the client.
    pub client_tids: Vec<u32>,
    /// All processes of the server.
    pub server_pids: Vec<u32>,
    /// State changes count if the socket has one of these ports, at either end.
    pub ports: Vec<u16>,
    /// Whether to keep all system calls, not only those about sockets, waiting and threads.
    pub all_calls: bool,
}

/// The events of the watched processes and ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traced {
    /// Sorted by time. The local port of a client's first change is 0 if the trace ends before its
    /// SYN is answered: the kernel reports the port only then.
    pub changes: Vec<Change>,
    /// Sorted by entry.
    pub calls: Vec<Call>,
    /// Events that did not fit. If there are any, the missing ones may belong to any process.
    pub lost: u64,
}

/// Why tracing is not possible, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not let this user see tracepoints, or not those of other processes.
    #[error("tracing system calls is not permitted ({cause}): run as root, or {advice}")]
    NotPermitted {
        /// What was refused.
        cause: String,
        /// What to do.
        advice: String,
    },
    /// The kernel has no such tracepoints.
    #[error("tracing system calls is not possible: {0}")]
    NotSupported(String),
    /// The kernel failed for another reason.
    #[error("tracing system calls: {0}")]
    Io(#[from] io::Error),
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Self {
        match error {
            ledger::Error::NotPermitted { cause, advice } => Error::NotPermitted { cause, advice },
            ledger::Error::NotSupported(why) => Error::NotSupported(why),
            ledger::Error::Io(error) => Error::Io(error),
        }
    }
}

impl Error {
    /// The error for an operation that root may perform.
    fn new(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => tracefs::refused(&error, PARANOID).into(),
            io::ErrorKind::NotFound => Error::NotSupported(format!(
                "this kernel lacks sock:inet_sock_set_state or raw_syscalls ({error})"
            )),
            _ => Error::Io(error),
        }
    }
}

impl Tracer {
    /// Starts recording; everything after its return is recorded. Mounts `tracefs` if it is not
    /// mounted and this process may mount it.
    ///
    /// # Errors
    ///
    /// If tracing is not permitted (the error says what to do), or if the kernel has no such
    /// tracepoints.
    pub fn begin() -> Result<Self, Error> {
        let events = tracefs::events(PARANOID)?;
        Tracer::begin_within(&events).map_err(Error::new)
    }

    fn begin_within(events: &Path) -> io::Result<Self> {
        let layout = Layout::read(events)?;
        Ok(Tracer {
            drain: Drain::start(layout)?,
        })
    }

    /// Stops recording, and returns the events of the watched processes and ports.
    ///
    /// # Errors
    ///
    /// If the kernel reports an error.
    pub fn end(self, watch: &Watch) -> Result<Traced, Error> {
        Ok(self.drain.stop()?.seen_by(watch))
    }
}
