//! System calls and changes of state, as the kernel's tracepoints tell them.
//!
//! Tracepoints are sampled on every CPU, for all processes, because what is to be traced may not be there
//! yet: a server that is started under the trace shows its `socket`, `bind` and `listen`. Who was meant is
//! told at the [end](Tracer::end).
//!
//! **Tracing disturbs.** As long as it lasts, every system call of this machine takes a slower path.

mod describe;
mod events;
mod format;
mod rings;

use std::io;
use std::path::Path;

pub use describe::{describe, descriptor, makes_descriptor, result};

use super::model::{Call, Change};
use events::Layout;
use rings::Drain;
use subject::ledger;
use subject::ledger::tracefs;

/// Tracing processes that are none of ours needs more than counting them does.
const PARANOID: i8 = -1;

/// The kernel's tracepoints, while they are recorded.
#[derive(Debug)]
pub struct Tracer {
    drain: Drain,
}

/// Who and what was meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch {
    /// The client's threads.
    pub client_tids: Vec<u32>,
    /// The server's processes, all there were.
    pub server_pids: Vec<u32>,
    /// Changes of state are those of sockets with one of these ports, at either end.
    pub ports: Vec<u16>,
    /// All system calls, and not only those that have to do with sockets, waiting and threads.
    pub all_calls: bool,
}

/// What they did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traced {
    /// In the order of time. The local port of a client's first one is 0 where the trace ends before its
    /// SYN is answered: only then has the kernel told it.
    pub changes: Vec<Change>,
    /// In the order of their entry.
    pub calls: Vec<Call>,
    /// Events that there was no room for. Where there are any, what is missing may be anybody's.
    pub lost: u64,
}

/// Why nothing can be traced. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel lets this user not see tracepoints, or not those of other processes.
    #[error("tracing system calls is not permitted ({cause}): run as root, or {advice}")]
    NotPermitted {
        /// What was refused.
        cause: String,
        /// What to do.
        advice: String,
    },
    /// It has no such tracepoints.
    #[error("tracing system calls is not possible: {0}")]
    NotSupported(String),
    /// The kernel refused for another reason.
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
    /// Of something that root may.
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
    /// Begins: what is done from its return on is recorded. Mounts `tracefs` where it is not and this
    /// process may.
    ///
    /// # Errors
    ///
    /// When tracing is not permitted, with what to do; when the kernel has no such tracepoints.
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

    /// Ends it, and tells what those who are watched did until now.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn end(self, watch: &Watch) -> Result<Traced, Error> {
        Ok(self.drain.stop()?.seen_by(watch))
    }
}
