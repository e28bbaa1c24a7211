//! Closed loop: a request is sent as soon as the one before it is answered or, with pipelining, as soon as there is
//! room for it.

use super::super::connection::Connection;
use super::Offer;
use crate::plan::{ConnectionLife, Plan};

/// The state of a thread in closed loop.
pub(in crate::drive) struct ClosedLoop {
    /// The number of counted requests that may still be sent.
    pub(super) budget: u64,
}

impl ClosedLoop {
    /// The number of requests to send on a connection now, within the limit of requests in flight on it. If they are
    /// counted (`counts`), they are deducted from the budget.
    #[inline]
    pub(super) fn offer(
        &mut self,
        plan: &Plan,
        connection: &Connection,
        is_over: bool,
        counts: bool,
    ) -> Offer {
        if !connection.unsent.is_empty() || connection.closing_since.is_some() {
            return Offer::Later;
        }
        let room = plan.pipeline as u64 - connection.in_flight_count();
        let life = match plan.life {
            ConnectionLife::KeepAlive => u64::MAX,
            ConnectionLife::Requests(all) => all - connection.sent,
        };
        let count = match is_over {
            false => room.min(life).min(self.budget),
            true => 0,
        };
        if count == 0 {
            return match connection.in_flight.is_empty() {
                true => Offer::NothingMore,
                false => Offer::Later,
            };
        }
        if counts {
            self.budget -= count;
        }
        Offer::Now(count)
    }
}
