use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::response::Status;

/// What a peer did not do in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// No byte of a next request.
    Idle,
    /// A head begun and not completed.
    Header,
    /// A body begun and not completed.
    Body,
    /// An answer not taken.
    Write,
    /// A closed connection not closed by the peer.
    Linger,
}

impl Timeout {
    /// All there are.
    pub const ALL: [Timeout; 5] = [
        Timeout::Idle,
        Timeout::Header,
        Timeout::Body,
        Timeout::Write,
        Timeout::Linger,
    ];
}

/// Answers by status and timeouts by kind, counted where they arise and readable from any thread.
#[derive(Debug, Default)]
pub struct Tally {
    responses: [AtomicU64; Status::ALL.len()],
    timeouts: [AtomicU64; Timeout::ALL.len()],
}

impl Tally {
    /// Final answers with each status code that this server has, refusals among them; those not yet
    /// taken by the peer too.
    pub fn responses(&self) -> impl Iterator<Item = (u16, u64)> {
        let count = |status: Status| self.responses[status as usize].load(Relaxed);
        Status::ALL
            .map(|status| (status.code(), count(status)))
            .into_iter()
    }

    /// Connections whose time was up for this reason.
    pub fn timeouts(&self, timeout: Timeout) -> u64 {
        self.timeouts[timeout as usize].load(Relaxed)
    }

    pub(crate) fn answered(&self, status: Status) {
        self.responses[status as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn timed_out(&self, timeout: Timeout) {
        self.timeouts[timeout as usize].fetch_add(1, Relaxed);
    }
}
