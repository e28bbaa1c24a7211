//! When requests are sent: at once in closed loop, by a schedule in open loop. The loop of a thread asks its pacer
//! and does what it says; a pacer touches no socket.

mod closed_loop;
mod open_loop;

use std::io;

use mio::{Events, Poll, Registry};

use super::connection::{Connection, State};
use super::{Share, Shared};
use crate::plan::{Pace, Plan};
use crate::record::Record;
use closed_loop::ClosedLoop;
use open_loop::OpenLoop;

/// Decides when the requests of one thread are sent.
#[expect(clippy::large_enum_variant, reason = "there is one for each thread")]
pub(super) enum Pacer {
    Closed(ClosedLoop),
    /// Constant or Poisson arrivals.
    Open(OpenLoop),
}

/// What to do for a request that is due.
pub(super) enum Step {
    /// Send it on a connection; it was due at `intended`.
    Send { slot: usize, intended: u64 },
    /// Open a connection.
    Open(usize),
}

/// What a connection that can take requests gets.
pub(super) enum Offer {
    /// So many at once.
    Now(u64),
    /// Some, when they are due or there is room.
    Later,
    /// None any more, and nothing is in flight on it.
    NothingMore,
}

impl Pacer {
    pub(super) fn new(shared: &Shared<'_>, share: Share, registry: &Registry) -> io::Result<Self> {
        Ok(match shared.plan.pace {
            Pace::Closed => Pacer::Closed(ClosedLoop {
                budget: share.requests,
            }),
            Pace::Constant(_) | Pace::Poisson(_) => {
                Pacer::Open(OpenLoop::new(shared, share, registry)?)
            }
        })
    }

    /// Requests are due by a schedule, whatever became of those before.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Pacer::Open(_))
    }

    /// In which state a place begins: in closed loop it gets a socket at once, in open loop when a request is due.
    pub(super) fn first_state(&self) -> State {
        match self {
            Pacer::Closed(_) => State::Waiting(0),
            Pacer::Open(_) => State::Empty,
        }
    }

    /// Whether a new socket would have anything to send.
    pub(super) fn wants_socket(&self, is_over: bool) -> bool {
        match self {
            Pacer::Closed(closed_loop) => closed_loop.budget > 0 && !is_over,
            // It is opened for a request that was due before the end.
            Pacer::Open(_) => true,
        }
    }

    /// The next thing to do for what is due; nothing in closed loop, where requests follow answers.
    #[inline]
    pub(super) fn step(
        &mut self,
        connections: &mut [Connection],
        shared: &Shared<'_>,
    ) -> Option<Step> {
        match self {
            Pacer::Closed(_) => None,
            Pacer::Open(open_loop) => open_loop.step(connections, shared.now(), shared.end()),
        }
    }

    /// A connection was established, with `outstanding` requests in flight on all.
    pub(super) fn established(
        &mut self,
        plan: &Plan,
        slot: usize,
        connection: &mut Connection,
        times: Times,
        outstanding: u64,
    ) -> Offer {
        if let Pacer::Open(open_loop) = self {
            open_loop.connected();
        }
        self.offer(plan, slot, connection, times, outstanding)
    }

    /// A connection can take requests: it was established, or responses came on it.
    #[inline]
    pub(super) fn offer(
        &mut self,
        plan: &Plan,
        slot: usize,
        connection: &mut Connection,
        times: Times,
        outstanding: u64,
    ) -> Offer {
        match self {
            Pacer::Closed(closed_loop) => {
                closed_loop.offer(plan, connection, times.is_over(), times.counts())
            }
            Pacer::Open(open_loop) => {
                if connection.in_flight.is_empty() && connection.closing_since.is_none() {
                    open_loop.may_await_nothing(outstanding);
                    open_loop.is_free(slot, connection, times.now);
                }
                Offer::Later
            }
        }
    }

    /// A connection was closed. Says whether its place gets a new socket at once.
    pub(super) fn vacated(
        &mut self,
        slot: usize,
        connection: &mut Connection,
        shared: &Shared<'_>,
        outstanding: u64,
    ) -> bool {
        match self {
            Pacer::Closed(_) => true,
            Pacer::Open(open_loop) => {
                open_loop.may_await_nothing(outstanding);
                open_loop.vacated(slot, connection, shared.now());
                false
            }
        }
    }

    /// Sees to it that the next request is sent when it is due. Returns until when to wait for events, at the latest
    /// `until`; none when it has waited, and filled `events`, itself.
    pub(super) fn wait(
        &mut self,
        shared: &Shared<'_>,
        poll: &mut Poll,
        events: &mut Events,
        until: u64,
    ) -> io::Result<Option<u64>> {
        match self {
            Pacer::Closed(_) => Ok(Some(until)),
            Pacer::Open(open_loop) => open_loop.wait(shared, poll, events, until),
        }
    }

    /// The thread has slept.
    pub(super) fn woken(&mut self, shared: &Shared<'_>) {
        if let Pacer::Open(open_loop) = self {
            open_loop.woken(shared.now());
        }
    }

    /// Since when something is awaited, if anything was last heard at `heard` and it is `now`.
    pub(super) fn awaited_since(&self, heard: u64, now: u64, outstanding: u64) -> u64 {
        match self {
            // There is always a request in flight, or a connection being made for one.
            Pacer::Closed(closed_loop) if outstanding > 0 || closed_loop.budget > 0 => heard,
            Pacer::Closed(_) => now,
            Pacer::Open(open_loop) => open_loop.awaited.unwrap_or(now),
        }
    }

    /// Whether it has nothing to send before the end: the number of requests of the plan has been sent.
    pub(super) fn is_spent(&self) -> bool {
        match self {
            Pacer::Closed(closed_loop) => closed_loop.budget == 0,
            Pacer::Open(_) => false,
        }
    }

    /// Whether requests are due before the end and not sent.
    pub(super) fn has_to_send(&self, end: u64) -> bool {
        match self {
            Pacer::Closed(_) => false,
            Pacer::Open(open_loop) => open_loop.has_to_send(end),
        }
    }

    /// Counts what was due and never sent. Returns for how many seconds the thread spun.
    pub(super) fn finish(
        &mut self,
        record: &mut Record,
        connections: &[Connection],
        times: Times,
    ) -> f64 {
        let Pacer::Open(open_loop) = self else {
            return 0.0;
        };
        let spun_s = open_loop.finish(record, times.begin, times.end, times.now);
        // An open loop lists the connections that it needed.
        let mut used = connections.iter().map(|connection| connection.used);
        (record.responses_by_connection).retain(|_| used.next().unwrap_or(true));
        spun_s
    }
}

/// The time that counts, and now; nanoseconds since the start of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) now: u64,
}

impl Times {
    /// A request that is meant to be sent now is not sent any more.
    #[inline]
    pub(super) fn is_over(self) -> bool {
        self.now >= self.end
    }

    /// A request that is meant to be sent now counts.
    #[inline]
    pub(super) fn counts(self) -> bool {
        self.now >= self.begin
    }
}
