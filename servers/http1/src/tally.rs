use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::response::Status;

/// Which deadline a peer missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// The peer sent no byte of a next request.
    Idle,
    /// The peer began a head and did not complete it.
    Header,
    /// The peer began a body and did not complete it.
    Body,
    /// The peer did not read an answer.
    Write,
    /// The peer did not close after the last answer.
    Linger,
}

impl Timeout {
    /// All kinds.
    pub const ALL: [Timeout; 5] = [
        Timeout::Idle,
        Timeout::Header,
        Timeout::Body,
        Timeout::Write,
        Timeout::Linger,
    ];
}

/// Counts answers by status and timeouts by kind. Any thread may read it.
#[derive(Debug, Default)]
pub struct Tally {
    responses: [AtomicU64; Status::ALL.len()],
    timeouts: [AtomicU64; Timeout::ALL.len()],
}

impl Tally {
    /// The number of final answers with each status code of this server, including refusals and answers that the
    /// peer has not read yet.
    pub fn responses(&self) -> impl Iterator<Item = (u16, u64)> {
        let count = |status: Status| self.responses[status as usize].load(Relaxed);
        Status::ALL
            .map(|status| (status.code(), count(status)))
            .into_iter()
    }

    /// The number of timeouts of this kind.
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
