//! When requests are sent: at once in closed loop, by a schedule in open loop. The loop of a thread follows its pacer;
//! a pacer uses no sockets.

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

/// The next action for a request that is due.
pub(super) enum Step {
    /// Send it on a connection; it was due at `intended`.
    Send { slot: usize, intended: u64 },
    /// Open a connection.
    Open(usize),
}

/// The requests for a connection that can take some.
pub(super) enum Offer {
    /// This many now.
    Now(u64),
    /// Some later, when they are due or there is room.
    Later,
    /// None ever again, and none is in flight on it.
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

    /// Whether requests are due by a schedule, regardless of earlier ones.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Pacer::Open(_))
    }

    /// The first state of a slot: in closed loop it gets a socket at once, in open loop when a request is due.
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
            // The socket is opened for a request that was due before the end.
            Pacer::Open(_) => true,
        }
    }

    /// The next action for requests that are due; `None` in closed loop, where requests follow responses.
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

    /// A connection was established; `outstanding` requests are in flight on all connections together.
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

    /// A connection can take requests: it was established, or responses arrived on it.
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

    /// A connection was closed. Returns whether its slot gets a new socket at once.
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

    /// Ensures that the thread is awake when the next request is due. Returns until when to wait for events, at most
    /// `until`; `None` if this method has waited and filled `events` itself.
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

    /// The thread has woken up.
    pub(super) fn woken(&mut self, shared: &Shared<'_>) {
        if let Pacer::Open(open_loop) = self {
            open_loop.woken(shared.now());
        }
    }

    /// Since when something is awaited, if something last arrived at `heard`.
    pub(super) fn awaited_since(&self, heard: u64, now: u64, outstanding: u64) -> u64 {
        match self {
            // There is always a request in flight, or a connection being opened for one.
            Pacer::Closed(closed_loop) if outstanding > 0 || closed_loop.budget > 0 => heard,
            Pacer::Closed(_) => now,
            Pacer::Open(open_loop) => open_loop.awaited.unwrap_or(now),
        }
    }

    /// Whether the planned number of requests has been sent, so that nothing more is sent before the end.
    pub(super) fn is_spent(&self) -> bool {
        match self {
            Pacer::Closed(closed_loop) => closed_loop.budget == 0,
            Pacer::Open(_) => false,
        }
    }

    /// Whether there are requests due before the end that are not sent.
    pub(super) fn has_to_send(&self, end: u64) -> bool {
        match self {
            Pacer::Closed(_) => false,
            Pacer::Open(open_loop) => open_loop.has_to_send(end),
        }
    }

    /// Counts requests that were due and never sent. Returns the seconds for which the thread spun.
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
        // In open loop, only connections that were needed are listed.
        let mut used = connections.iter().map(|connection| connection.used);
        (record.responses_by_connection).retain(|_| used.next().unwrap_or(true));
        spun_s
    }
}

/// The counted time and the present, in nanoseconds since the start of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) now: u64,
}

impl Times {
    /// A request due now is no longer sent.
    #[inline]
    pub(super) fn is_over(self) -> bool {
        self.now >= self.end
    }

    /// A request due now counts.
    #[inline]
    pub(super) fn counts(self) -> bool {
        self.now >= self.begin
    }
}
