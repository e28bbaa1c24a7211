use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use slab::Slab;

use crate::lock;

/// The `--max-connections` places for connections, and the doors that wait for a free one.
#[derive(Default)]
pub(crate) struct Room {
    taken: AtomicUsize,
    /// Some waiter waits. Kept outside the mutex, so that `leave` usually does not lock.
    awaited: AtomicBool,
    waiters: Mutex<Slab<Waiter>>,
}

struct Waiter {
    waits: bool,
    wake: Wake,
}

pub(crate) type Wake = Box<dyn Fn() + Send>;

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (f.debug_struct("Room").field("taken", &self.taken)).finish_non_exhaustive()
    }
}

impl Room {
    /// Takes a place unless `max` are taken.
    pub(crate) fn enter(&self, max: usize) -> bool {
        // `taken` never exceeds `max`, not even briefly: that could turn away another door.
        let one_more = |taken| (taken < max).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, one_more).is_ok()
    }

    /// Takes a place unless `max` are taken; then wakes the waiter once a place is free, or at once if
    /// `is_stopping`.
    pub(crate) fn enter_or_wait(
        &self,
        max: usize,
        waiter: usize,
        is_stopping: impl Fn() -> bool,
    ) -> bool {
        let mut waiters = lock(&self.waiters);
        self.awaited.store(true, SeqCst);
        // A connection that left before `awaited` was set has freed a place; one that leaves later wakes.
        let is_in = self.enter(max);
        if !is_in && is_stopping() {
            (waiters[waiter].wake)();
        } else {
            waiters[waiter].waits = !is_in;
        }
        is_in
    }

    /// Gives a place back.
    pub(crate) fn leave(&self) {
        self.taken.fetch_sub(1, SeqCst);
        if self.awaited.load(SeqCst) {
            self.wake_waiters();
        }
    }

    pub(crate) fn wake_waiters(&self) {
        let mut waiters = lock(&self.waiters);
        self.awaited.store(false, SeqCst);
        for (_, waiter) in waiters.iter_mut() {
            if std::mem::take(&mut waiter.waits) {
                (waiter.wake)();
            }
        }
    }

    pub(crate) fn add_waiter(&self, wake: Wake) -> usize {
        lock(&self.waiters).insert(Waiter { waits: false, wake })
    }

    pub(crate) fn remove_waiter(&self, waiter: usize) {
        lock(&self.waiters).remove(waiter);
    }
}
