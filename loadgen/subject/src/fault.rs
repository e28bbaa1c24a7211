//! What a server may do that makes its figures worthless.

use crate::process::STOP_WITHIN;

/// Why a server's figures do not count, in words that follow its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ended before it was asked to.
    #[error("{0} during the run")]
    Died(String),
    /// It was still there when its time to stop was over, and was killed.
    #[error("did not stop within {} s of SIGTERM", STOP_WITHIN.as_secs())]
    NotStopped,
    /// Processes of it, as `NUMBER (COMMAND), ...`.
    #[error("cannot be killed: process {0} still runs")]
    NotKilled(String),
    /// Processes that loadgen did not start, as `NUMBER (COMMAND), ...`, answered at its address.
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
                "End that process before anything else is measured on this machine."
            }
            Fault::Foreign(_) => "Stop that process, or let the server listen elsewhere.",
        }
    }
}
