//! What threads report while they run. Each leaves its latest response times in a mailbox, from
//! which the observer takes them: the histogram changes owner, so the sending thread does not copy
//! or wait.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::record::{Serial, latency_histogram};

/// Reads the number of responses while a run goes on. A busy machine may report a [`Moment`](super::Moment) late; an
/// observer that takes another reading then reads the responses right beside it.
#[derive(Clone, Copy, Default)]
pub struct Live<'a>(&'a [Mailbox]);

impl<'a> Live<'a> {
    pub(super) fn of(mailboxes: &'a [Mailbox]) -> Self {
        Live(mailboxes)
    }

    /// Responses so far, including the warm-up, but for those that threads are just handling.
    pub fn responses(&self) -> u64 {
        self.0.iter().map(Mailbox::responses).sum()
    }
}

impl fmt::Debug for Live<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.responses()).finish()
    }
}

/// The tally of one thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) errors: u64,
    pub(super) connections_open: u64,
    /// Of all response times so far.
    pub(super) serial: Serial,
}

/// A mailbox between one thread and the observer.
pub(super) struct Mailbox {
    content: Mutex<Content>,
    /// Responses so far, including the warm-up; always up to date.
    responses: AtomicU64,
}

struct Content {
    tally: Tally,
    /// Response times since the observer last collected them.
    full: Option<Histogram<u64>>,
    /// An empty histogram to continue with; `None` while `full` waits.
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

    /// Publishes the number of responses; only the mailbox's own thread does this.
    #[inline]
    pub(super) fn tell_responses(&self, responses: u64) {
        self.responses.store(responses, Relaxed);
    }

    pub(super) fn responses(&self) -> u64 {
        self.responses.load(Relaxed)
    }

    /// Leaves the tally, unless the observer is collecting at this moment; then it is left next
    /// time.
    pub(super) fn leave(&self, tally: Tally, response: &mut Histogram<u64>) {
        let Ok(mut content) = self.content.try_lock() else {
            return;
        };
        content.tally = tally;
        if let Some(spare) = content.spare.take() {
            content.full = Some(std::mem::replace(response, spare));
        }
    }

    /// Adds the mailbox's response times to `all`, and calls `see` with the tally.
    pub(super) fn fetch(&self, all: &mut Histogram<u64>, see: impl FnOnce(&Tally)) {
        let full = {
            // A thread that panicked while holding the lock ends the run; its tally is good enough
            // until then.
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
