//! Open loop: requests are sent when they are due, whatever became of those before.
//!
//! A request takes the connection that has been free for the longest time, so that all take turns.
//! When none is free, one more is opened, up to the number of the plan. When that is reached too, the
//! request waits: the queue is the stretch of the schedule between what is due and what is sent, so it
//! takes no memory, and the wait counts because the response time runs from when the request was due.

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

/// What a thread knows in open loop. Times are nanoseconds since the start of the run.
pub(in crate::drive) struct OpenLoop {
    /// What is not due yet.
    due: Schedule,
    /// What is not sent yet.
    next: Schedule,
    /// Due and not sent.
    queued: u64,
    /// When the last of these was due.
    last_due: u64,
    /// Since when something was due or in flight and not answered; absent while there is nothing.
    pub(super) awaited: Option<u64>,
    /// Connections that can take a request, the one that is free for the longest time first. Some may
    /// have been closed since.
    idle: VecDeque<usize>,
    /// Places without a socket.
    empty: VecDeque<usize>,
    /// Sockets being opened, each for a request that is due.
    connecting: u64,
    timer: Timer,
    /// How much earlier than a request is due to be woken.
    early: u64,
    /// When another thread last took the CPU while this one spun, and how often that has happened.
    preempted_at: Option<u64>,
    preemptions: i64,
    spun_ns: u64,
}

/// A thread that sleeps is woken late, by some microseconds on a quiet machine and by a millisecond on
/// a busy one. So it asks to be woken early, by as much as it has been late before, and looks at the clock
/// from then on until it is time. Within these bounds, nanoseconds.
const EARLY_MIN: u64 = 60_000;
const EARLY_MAX: u64 = 1_000_000;

/// What is forgotten of it each time: the worst of a hundred times is remembered.
const FORGETTING: u64 = 1024;

/// A longer gap between two looks at the clock means that something else ran in between. When that was
/// another thread, which a spinning one keeps from its work, it is not spun for a while.
const GAP_NS: u64 = 100_000;
const SPIN_PAUSE_NS: u64 = 100_000_000;

impl OpenLoop {
    pub(super) fn new(shared: &Shared<'_>, share: Share, registry: &Registry) -> io::Result<Self> {
        let plan = shared.plan;
        // Two readers of one schedule: a seed gives both the same arrivals.
        let schedule = || {
            Schedule::new(plan.pace, plan.seed, share.index, plan.threads)
                .expect("in closed loop there is another pacer")
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

    /// Sees to it that the next request is sent when it is due: arms the timer and returns until when to
    /// wait for events, or, when it is due very soon, fills `events` itself.
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

    /// The thread has slept, until an event or its timer woke it.
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

    /// Whether another thread has taken the CPU since this was last asked; an interrupt and a hypervisor
    /// that takes it do not count.
    fn was_preempted(&mut self) -> bool {
        let usage = getrusage(UsageWho::RUSAGE_THREAD);
        let preemptions = usage.map_or(0, |usage| usage.involuntary_context_switches());
        std::mem::replace(&mut self.preemptions, preemptions) != preemptions
    }

    /// The next thing to do for what is due.
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

    /// A connection for a request that is due has been established.
    pub(super) fn connected(&mut self) {
        self.connecting -= 1;
    }

    /// A connection can take a request: it stands at the end of the queue of those that can.
    pub(super) fn is_free(&mut self, slot: usize, connection: &mut Connection, now: u64) {
        connection.free_since = now;
        connection.idle = true;
        self.idle.push_back(slot);
    }

    /// A connection has been closed: its place is empty until a request needs it.
    pub(super) fn vacated(&mut self, slot: usize, connection: &mut Connection, now: u64) {
        connection.free_since = now;
        self.empty.push_back(slot);
    }

    /// A connection has become free with so many requests in flight on all: the last one may have come to its end.
    pub(super) fn may_await_nothing(&mut self, outstanding: u64) {
        if self.queued == 0 && outstanding == 0 {
            self.awaited = None;
        }
    }

    /// Whether requests are due before the end and not sent. Some may not be in the queue yet, when this thread did
    /// not run at the end.
    pub(super) fn has_to_send(&self, end: u64) -> bool {
        self.queued > 0 || self.due.next() < end
    }

    /// Counts what was due between `begin` and `end` and is still not sent `now`. Returns for how many seconds the
    /// thread spun.
    pub(super) fn finish(&mut self, record: &mut Record, begin: u64, end: u64, now: u64) -> f64 {
        while self.next.next() < end {
            let intended = self.next.advance();
            if intended >= begin {
                record.unsent += 1;
                record.lower_bound(now - intended, None, 1);
            }
        }
        record.due = record.requests + record.unsent;
        self.spun_ns as f64 / 1e9
    }
}
