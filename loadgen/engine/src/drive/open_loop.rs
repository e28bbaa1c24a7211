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

use crate::record::record_ns;

use super::connection::Connection;
use super::schedule::Schedule;
use super::timer::Timer;
use super::worker::Worker;
use super::{Share, Shared};

/// What a thread knows in open loop. Times are nanoseconds since the start of the run.
pub(super) struct OpenLoop {
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
    pub(super) fn new(
        shared: &Shared<'_>,
        share: Share,
        registry: &Registry,
    ) -> io::Result<Option<Self>> {
        let plan = shared.plan;
        let Some(schedule) = Schedule::new(plan.pace, plan.seed, share.index, plan.threads) else {
            return Ok(None);
        };
        Ok(Some(OpenLoop {
            due: schedule.clone(),
            next: schedule,
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
        }))
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
    fn step(&mut self, connections: &mut [Connection], now: u64, end: u64) -> Option<Step> {
        loop {
            if self.queued > 0 {
                while let Some(slot) = self.idle.pop_front() {
                    if std::mem::take(&mut connections[slot].idle) {
                        self.queued -= 1;
                        return Some(Step::Send(slot, self.next.advance()));
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
}

enum Step {
    /// Send the request due at this time on a connection.
    Send(usize, u64),
    /// Open a connection.
    Open(usize),
}

impl Worker<'_> {
    /// Sends what is due, as far as connections are free for it.
    #[inline]
    pub(super) fn send_due(&mut self) {
        while let Some(open_loop) = &mut self.open_loop {
            let now = self.shared.now();
            match open_loop.step(&mut self.connections, now, self.shared.end()) {
                Some(Step::Send(slot, intended)) => self.send_late(slot, intended),
                Some(Step::Open(slot)) => self.open(slot),
                None => return,
            }
        }
    }

    /// Sends the request that was due at `intended`.
    fn send_late(&mut self, slot: usize, intended: u64) {
        let now = self.now();
        let lag = now - intended;
        let connection = &mut self.connections[slot];
        let possible_at = intended.max(connection.free_since);
        let own = std::mem::take(&mut connection.opened_late) + (now - possible_at);
        let counts = intended >= self.begin;
        if counts {
            record_ns(&mut self.record.lag, lag);
            record_ns(&mut self.record.lag_own, own.min(lag));
            self.record.sent_in_time += u64::from(now < self.end());
        }
        self.write(slot, 1, intended, now, counts);
    }

    /// A connection for a request that is due has been established.
    pub(super) fn connected(&mut self, slot: usize) {
        if let Some(open_loop) = &mut self.open_loop {
            open_loop.connecting -= 1;
        }
        self.is_free(slot, self.connections[slot].free_since);
    }

    /// Responses have come on a connection.
    pub(super) fn answered(&mut self, slot: usize, now: u64) {
        let connection = &self.connections[slot];
        if connection.in_flight.is_empty() && connection.closing_since.is_none() {
            self.is_free(slot, now);
        }
    }

    fn is_free(&mut self, slot: usize, now: u64) {
        self.may_await_nothing();
        let connection = &mut self.connections[slot];
        connection.free_since = now;
        connection.idle = true;
        if let Some(open_loop) = &mut self.open_loop {
            open_loop.idle.push_back(slot);
        }
    }

    /// A connection has been closed.
    pub(super) fn vacated(&mut self, slot: usize) {
        self.may_await_nothing();
        self.connections[slot].free_since = self.now();
        if let Some(open_loop) = &mut self.open_loop {
            open_loop.empty.push_back(slot);
        }
    }

    /// A connection has become free, by which the last request may have come to its end.
    fn may_await_nothing(&mut self) {
        if let Some(open_loop) = &mut self.open_loop
            && open_loop.queued == 0
            && self.outstanding == 0
        {
            open_loop.awaited = None;
        }
    }

    /// Whether there are requests due before the end and not sent. Some may not be in the queue yet, when
    /// this thread did not run at the end.
    pub(super) fn has_to_send(&self) -> bool {
        self.open_loop.as_ref().is_some_and(|open_loop| {
            open_loop.queued > 0 || open_loop.due.next() < self.shared.end()
        })
    }

    /// Counts what was due before `end` and is still not sent `now`. Returns for how many seconds the
    /// thread spun.
    pub(super) fn finish_open_loop(&mut self, end: u64, now: u64) -> f64 {
        let Some(open_loop) = &mut self.open_loop else {
            return 0.0;
        };
        while open_loop.next.next() < end {
            let intended = open_loop.next.advance();
            if intended >= self.begin {
                self.record.unsent += 1;
                self.record.lower_bound(now - intended, None, 1);
            }
        }
        self.record.due = self.record.requests + self.record.unsent;
        let mut used = self.connections.iter().map(|connection| connection.used);
        let by_connection = &mut self.record.responses_by_connection;
        by_connection.retain(|_| used.next().unwrap_or(true));
        open_loop.spun_ns as f64 / 1e9
    }
}
