//! Open loop: requests are sent when they are due, regardless of earlier ones.
//!
//! A request uses the connection that has been free for the longest time, so that all connections take turns. If
//! none is free, another one is opened, up to the limit of the plan. At the limit, the request waits. The queue is
//! the part of the schedule between the last request due and the last one sent, so it takes no memory. The wait
//! counts, because the response time starts when the request is due.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use mio::{Events, Poll, Registry, Token};
use nix::sys::resource::{UsageWho, getrusage};

use crate::record::Record;

use super::super::connection::Connection;
use super::super::schedule::Schedule;
use super::super::timer::Timer;
use super::super::{Share, Shared};
use super::Step;

/// The state of a thread in open loop. Times are nanoseconds since the start of the run.
pub(in crate::drive) struct OpenLoop {
    /// The requests that are not due yet.
    due: Schedule,
    /// The requests that are not sent yet.
    next: Schedule,
    /// The number of requests that are due and not sent.
    queued: u64,
    /// When the last request of the queue was due.
    last_due: u64,
    /// Since when there are unanswered requests, due or in flight; `None` if there are none.
    pub(super) awaited: Option<u64>,
    /// Connections that can take a request; the one that has been free for the longest time comes first. Some may
    /// have been closed meanwhile.
    idle: VecDeque<usize>,
    /// Slots without a socket.
    empty: VecDeque<usize>,
    /// The number of sockets being opened, each for a request that is due.
    connecting: u64,
    timer: Timer,
    /// How long before a request is due the thread is woken.
    early: u64,
    /// When another thread last took the CPU while this one spun.
    preempted_at: Option<u64>,
    /// Involuntary context switches at the last check.
    preemptions: i64,
    spun_ns: u64,
}

/// A sleeping thread wakes up late: by some microseconds on a quiet machine, by a millisecond on a busy one. So it
/// asks to be woken early, by its earlier lateness, and then spins until the request is due. These are the bounds,
/// in nanoseconds.
const EARLY_MIN: u64 = 60_000;
const EARLY_MAX: u64 = 1_000_000;

/// One part in this many of it is forgotten each time: after a hundred times, nine tenths are still remembered.
const FORGETTING: u64 = 1024;

/// A longer gap between two readings of the clock means that something else ran in between. If that was another
/// thread, which spinning would keep from its work, this thread does not spin for a while.
const GAP_NS: u64 = 100_000;
const SPIN_PAUSE_NS: u64 = 100_000_000;

impl OpenLoop {
    pub(super) fn new(shared: &Shared<'_>, share: Share, registry: &Registry) -> io::Result<Self> {
        let plan = shared.plan;
        // Two readers of one schedule: a seed gives both the same arrivals.
        let schedule = || {
            Schedule::new(plan.pace, plan.seed, share.index, plan.threads)
                .expect("a closed loop has another pacer")
        };
        Ok(OpenLoop {
            due: schedule(),
            next: schedule(),
            queued: 0,
            last_due: 0,
            awaited: None,
            idle: VecDeque::new(),
            empty: (0..share.connections).collect(),
            connecting: 0,
            timer: Timer::new(registry, Token(share.connections))?,
            early: EARLY_MIN,
            preempted_at: None,
            preemptions: 0,
            spun_ns: 0,
        })
    }

    /// Ensures that the thread is awake when the next request is due: sets the timer and returns until when to wait
    /// for events. If the request is due very soon, spins, fills `events` and returns `None`.
    pub(super) fn wait(
        &mut self,
        shared: &Shared<'_>,
        poll: &mut Poll,
        events: &mut Events,
        until: u64,
    ) -> io::Result<Option<u64>> {
        let due = self.due.next();
        let nobody_is_free = self.idle.is_empty() && self.empty.is_empty();
        if nobody_is_free || due >= shared.end() {
            return Ok(Some(until));
        }
        let now = shared.now();
        let paused = |at: u64| now < at + SPIN_PAUSE_NS;
        if !shared.spin || self.preempted_at.is_some_and(paused) {
            self.timer.set(now, due)?;
            return Ok(Some(until));
        }
        if due > now + self.early {
            self.timer.set(now, due - self.early)?;
            return Ok(Some(until));
        }
        self.spin(shared, poll, events, due)?;
        self.forget();
        Ok(None)
    }

    /// The thread was woken by an event or its timer.
    pub(super) fn woken(&mut self, now: u64) {
        if let Some(late) = self.timer.late(now) {
            self.forget();
            self.early = self.early.max((late + late / 4).min(EARLY_MAX));
        }
    }

    fn forget(&mut self) {
        self.early = EARLY_MIN.max(self.early - self.early / FORGETTING);
    }

    /// Waits for events until `due` without sleeping.
    fn spin(
        &mut self,
        shared: &Shared<'_>,
        poll: &mut Poll,
        events: &mut Events,
        due: u64,
    ) -> io::Result<()> {
        let start = shared.now();
        let mut last = start;
        loop {
            match poll.poll(events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                outcome => outcome?,
            }
            let now = shared.now();
            if now - last > GAP_NS && self.was_preempted() {
                self.preempted_at = Some(now);
            }
            if !events.is_empty() || now >= due || self.preempted_at == Some(now) {
                if start >= shared.begin && now < shared.end() {
                    self.spun_ns += now - start;
                }
                return Ok(());
            }
            last = now;
        }
    }

    /// Whether another thread has taken the CPU since the last call. Interrupts and the hypervisor do not count.
    fn was_preempted(&mut self) -> bool {
        let usage = getrusage(UsageWho::RUSAGE_THREAD);
        let preemptions = usage.map_or(0, |usage| usage.involuntary_context_switches());
        std::mem::replace(&mut self.preemptions, preemptions) != preemptions
    }

    /// The next action for requests that are due.
    pub(super) fn step(
        &mut self,
        connections: &mut [Connection],
        now: u64,
        end: u64,
    ) -> Option<Step> {
        loop {
            if self.queued > 0 {
                while let Some(slot) = self.idle.pop_front() {
                    if std::mem::take(&mut connections[slot].idle) {
                        self.queued -= 1;
                        return Some(Step::Send {
                            slot,
                            intended: self.next.advance(),
                        });
                    }
                }
            }
            if self.queued > self.connecting
                && let Some(slot) = self.empty.pop_front()
            {
                self.connecting += 1;
                let possible_at = self.last_due.max(connections[slot].free_since);
                connections[slot].opened_late = now.saturating_sub(possible_at);
                return Some(Step::Open(slot));
            }
            if self.due.next() > now || self.due.next() >= end {
                return None;
            }
            self.last_due = self.due.advance();
            self.awaited.get_or_insert(self.last_due);
            self.queued += 1;
        }
    }

    /// A connection for a request that is due was established.
    pub(super) fn connected(&mut self) {
        self.connecting -= 1;
    }

    /// A connection can take a request: it joins the end of the queue of free connections.
    pub(super) fn is_free(&mut self, slot: usize, connection: &mut Connection, now: u64) {
        connection.free_since = now;
        connection.idle = true;
        self.idle.push_back(slot);
    }

    /// A connection was closed: its slot stays empty until a request needs it.
    pub(super) fn vacated(&mut self, slot: usize, connection: &mut Connection, now: u64) {
        connection.free_since = now;
        self.empty.push_back(slot);
    }

    /// A connection became free; `outstanding` requests are in flight on all. If there are none, and none is queued,
    /// nothing is awaited any longer.
    pub(super) fn may_await_nothing(&mut self, outstanding: u64) {
        if self.queued == 0 && outstanding == 0 {
            self.awaited = None;
        }
    }

    /// Whether there are requests due before the end that are not sent. Some may not be in the queue yet, if this
    /// thread did not run at the end.
    pub(super) fn has_to_send(&self, end: u64) -> bool {
        self.queued > 0 || self.due.next() < end
    }

    /// Counts requests that were due between `begin` and `end` and are still not sent. Returns the seconds for which
    /// the thread spun.
    pub(super) fn finish(&mut self, record: &mut Record, begin: u64, end: u64, now: u64) -> f64 {
        while self.next.next() < end {
            let intended = self.next.advance();
            if intended >= begin {
                record.counts.unsent += 1;
                record.lower_bound(now - intended, None, 1);
            }
        }
        record.counts.due = record.counts.requests + record.counts.unsent;
        self.spun_ns as f64 / 1e9
    }
}
