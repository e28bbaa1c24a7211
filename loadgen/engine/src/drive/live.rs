//! What threads tell while they run. Each leaves its response times of the last moments in a mailbox,
//! from which the observer takes them: a histogram changes hands, nothing is copied or waited for on the
//! thread that sends.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::record::{Serial, latency_histogram};

/// What one thread saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) errors: u64,
    pub(super) connections_open: u64,
    /// Of all response times so far.
    pub(super) serial: Serial,
}

/// Between one thread and the observer.
pub(super) struct Mailbox {
    content: Mutex<Content>,
    /// Responses so far, those of the warm-up included; up to date at any time.
    responses: AtomicU64,
}

struct Content {
    tally: Tally,
    /// Response times since the observer last looked.
    full: Option<Histogram<u64>>,
    /// An empty one to go on with; there is none while `full` waits.
    spare: Option<Histogram<u64>>,
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Mailbox {
            content: Mutex::new(Content {
                tally: Tally::default(),
                full: None,
                spare: Some(latency_histogram()),
            }),
            responses: AtomicU64::new(0),
        }
    }

    /// Tells how many responses there are, which only its thread does.
    #[inline]
    pub(super) fn tell_responses(&self, responses: u64) {
        self.responses.store(responses, Relaxed);
    }

    pub(super) fn responses(&self) -> u64 {
        self.responses.load(Relaxed)
    }

    /// Leaves what was seen, unless the observer is just looking: then the next time will do.
    pub(super) fn leave(&self, tally: Tally, response: &mut Histogram<u64>) {
        let Ok(mut content) = self.content.try_lock() else {
            return;
        };
        content.tally = tally;
        if let Some(spare) = content.spare.take() {
            content.full = Some(std::mem::replace(response, spare));
        }
    }

    /// Adds the response times left to `all`, and calls `see` with the rest.
    pub(super) fn fetch(&self, all: &mut Histogram<u64>, see: impl FnOnce(&Tally)) {
        let full = {
            // A thread that panicked while it held the lock ends the run; until then its tally will do.
            let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
            see(&content.tally);
            content.full.take()
        };
        let Some(mut full) = full else {
            return;
        };
        all.add(&full).expect("both have the same bounds");
        full.reset();
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.spare = Some(full);
    }
}
