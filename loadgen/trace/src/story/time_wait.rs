//! Whether the kernel kept a connection in `TIME-WAIT`, according to its list of sockets. The
//! segments say that it should, but the kernel's table may be full.

use super::StateChange;
use super::flows::canonical;
use super::states::other;
use crate::model::{Endpoints, Record, Side, State, TimeWaits};
use engine::figures::count;

/// Whether this side's kernel listed the connection in `TIME-WAIT`; `None` if not known, as for a
/// file or for an end on another machine.
pub(super) fn was_listed(record: &Record, endpoints: Endpoints, side: Side) -> Option<bool> {
    let time_waits = record.time_waits.as_ref()?;
    let of = |side: Side| match side {
        Side::Client => canonical(endpoints.client),
        Side::Server => canonical(endpoints.server),
    };
    let (local, remote) = (of(side), of(other(side)));
    let is_here = local.ip().is_loopback() || time_waits.here.contains(&local);
    is_here.then(|| time_waits.listed.contains(&(local, remote)))
}

/// Corrects sides for which the list refutes `TIME-WAIT`: they went to `CLOSED` at once. Returns
/// these sides.
pub(super) fn refute(
    record: &Record,
    endpoints: Endpoints,
    states: &mut Vec<StateChange>,
) -> Vec<Side> {
    let mut refuted = Vec::new();
    for side in [Side::Client, Side::Server] {
        let of_side = |it: &StateChange| it.side == side;
        let waits = |it: &StateChange| of_side(it) && it.new == State::TimeWait;
        if was_listed(record, endpoints, side) != Some(false) || !states.iter().any(waits) {
            continue;
        }
        refuted.push(side);
        states.retain(|it| !(of_side(it) && it.old == State::TimeWait));
        for change in states.iter_mut().filter(|it| waits(it)) {
            change.new = State::Closed;
        }
    }
    refuted
}

/// Why there was no `TIME-WAIT`, as far as the kernel says: `: it has no room for more (...)`.
pub(super) fn why_not(record: &Record) -> String {
    match &record.time_waits {
        Some(TimeWaits {
            overflows: Some(overflows @ 1..),
            room,
            ..
        }) => {
            let room = room.map_or(String::new(), |room| {
                format!("net.ipv4.tcp_max_tw_buckets is {room}, and ")
            });
            format!(
                ": it had no room for one ({room}TCPTimeWaitOverflow rose by {overflows}), and closed the connection \
                 at once"
            )
        }
        _ => ", and does not say why".to_owned(),
    }
}

/// A note for the whole trace.
pub(super) fn note(record: &Record, refuted: usize) -> Option<String> {
    (refuted > 0).then(|| {
        format!(
            "according to the segments, {} should end in TIME-WAIT, but the kernel listed no such socket{}",
            count(refuted as u64, "connection"),
            why_not(record)
        )
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::Origin;
    use super::*;

    fn end(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn endpoints() -> Endpoints {
        Endpoints {
            client: end(40_000),
            server: end(80),
        }
    }

    fn record(listed: &[(SocketAddr, SocketAddr)], overflows: Option<u64>) -> Record {
        Record {
            time_waits: Some(TimeWaits {
                listed: listed.iter().copied().collect(),
                overflows,
                room: Some(0),
                ..TimeWaits::default()
            }),
            ..Record::default()
        }
    }

    fn states() -> Vec<StateChange> {
        let passed = [
            State::Established,
            State::FinWait1,
            State::FinWait2,
            State::TimeWait,
            State::Closed,
        ];
        let change = |pair: &[State]| StateChange {
            at_ns: 1,
            side: Side::Server,
            old: pair[0],
            new: pair[1],
            origin: Origin::Derived,
        };
        passed.windows(2).map(change).collect()
    }

    #[test]
    fn what_the_kernel_does_not_list_it_does_not_keep() {
        let refuted = |record: &Record| {
            let mut states = states();
            let refuted = refute(record, endpoints(), &mut states);
            let last = states.last().unwrap();
            (!refuted.is_empty(), states.len(), last.old, last.new)
        };
        let kept = (false, 4, State::TimeWait, State::Closed);
        let gone = (true, 3, State::FinWait2, State::Closed);
        assert_eq!(refuted(&record(&[(end(80), end(40_000))], Some(0))), kept);
        assert_eq!(refuted(&record(&[], Some(1))), gone);
        // An entry of another connection.
        assert_eq!(refuted(&record(&[(end(80), end(40_001))], Some(0))), gone);
        // A file does not show the socket list.
        assert_eq!(refuted(&Record::default()), kept);
    }

    #[test]
    fn an_end_elsewhere_is_not_listed_here() {
        let far = SocketAddr::from(([192, 0, 2, 1], 80));
        let endpoints = Endpoints {
            server: far,
            ..endpoints()
        };
        let mut record = record(&[], Some(1));
        assert_eq!(was_listed(&record, endpoints, Side::Server), None);
        assert_eq!(was_listed(&record, endpoints, Side::Client), Some(false));
        record.time_waits.as_mut().unwrap().here.insert(far);
        assert_eq!(was_listed(&record, endpoints, Side::Server), Some(false));
    }

    #[test]
    fn a_full_table_is_named() {
        let full = note(&record(&[], Some(2)), 2).unwrap();
        assert_eq!(
            full,
            "according to the segments, 2 connections should end in TIME-WAIT, but the kernel listed no such socket: it \
             had no room for one (net.ipv4.tcp_max_tw_buckets is 0, and TCPTimeWaitOverflow rose by 2), and closed \
             the connection at once"
        );
        let unknown = note(&record(&[], Some(0)), 1).unwrap();
        assert!(
            unknown.ends_with("listed no such socket, and does not say why"),
            "{unknown}"
        );
        assert_eq!(note(&record(&[], Some(1)), 0), None);
    }
}
