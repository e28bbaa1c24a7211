use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http1::{Connection, Timeout};

/// What happened so far. Requests are added when their connection ends, so that counting costs
/// nothing while one is served.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    closed: AtomicU64,
    shed: AtomicU64,
    requests: AtomicU64,
    timeouts: [AtomicU64; 4],
}

impl Counters {
    /// A connection was taken from the accept queue.
    pub fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// An accepted connection was closed unserved for want of a thread.
    pub fn shed(&self) {
        self.shed.fetch_add(1, Relaxed);
    }

    /// A connection's time was up.
    pub fn timed_out(&self, timeout: Timeout) {
        self.timeouts[timeout as usize].fetch_add(1, Relaxed);
    }

    /// A connection is over.
    pub fn closed(&self, connection: &Connection) {
        self.closed.fetch_add(1, Relaxed);
        self.requests.fetch_add(connection.requests(), Relaxed);
    }

    /// One line of JSON on stderr.
    pub(crate) fn print(&self) {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        let timeout = |kind: Timeout| of(&self.timeouts[kind as usize]);
        eprintln!(
            "{{\"accepted\":{},\"closed\":{},\"shed\":{},\"requests\":{},\"timeouts\":\
             {{\"idle\":{},\"request\":{},\"write\":{},\"linger\":{}}}}}",
            of(&self.accepted),
            of(&self.closed),
            of(&self.shed),
            of(&self.requests),
            timeout(Timeout::Idle),
            timeout(Timeout::Request),
            timeout(Timeout::Write),
            timeout(Timeout::Linger),
        );
    }
}
