//! Faults of a server that invalidate its figures.

use crate::process::STOP_WITHIN;

/// Why a server's figures do not count, in words that follow the server's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ended before it was asked to.
    #[error("{0} during the run")]
    Died(String),
    /// It was still running when the time to stop was over, and was killed.
    #[error("did not stop within {} s of SIGTERM", STOP_WITHIN.as_secs())]
    NotStopped,
    /// These of its processes still run: `NUMBER (COMMAND), ...`.
    #[error("cannot be killed: process {0} still runs")]
    NotKilled(String),
    /// These processes, not started by loadgen, answered at its address: `NUMBER (COMMAND), ...`.
    #[error(
        "did not answer alone: process {0} has sockets at its address, and was not started by loadgen"
    )]
    Foreign(String),
}

impl Fault {
    /// What to try.
    pub fn advice(&self) -> &'static str {
        match self {
            Fault::Died(_) => "Start it by hand, and see what it prints.",
            Fault::NotStopped => {
                "Let it end after SIGTERM once its connections are over: a server that must be killed may have \
                 lost requests."
            }
            Fault::NotKilled(_) => {
                "End that process before you measure anything else on this machine."
            }
            Fault::Foreign(_) => "Stop that process, or let the server listen elsewhere.",
        }
    }
}
