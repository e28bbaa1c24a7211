//! How long each end was in each state.

use crate::model::{Side, State};
use crate::story::{Connection, Origin};

/// A period that an end spent in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) side: Side,
    pub(super) state: State,
    /// Time since the origin of the story.
    pub(super) from_ns: u64,
    /// `None` if the state outlasts the trace.
    pub(super) for_ns: Option<u64>,
    /// How the start is known.
    pub(super) origin: Origin,
}

/// All periods, the client's first, sorted by time. Time before the first change is left out
/// because its start is unknown. Empty if times are meaningless.
pub(super) fn held(connection: &Connection) -> Vec<Held> {
    if connection.lacks_times {
        return Vec::new();
    }
    let of = |side: Side| {
        let changes: Vec<_> = (connection.states.iter())
            .filter(|it| it.side == side)
            .collect();
        let held: Vec<Held> = (changes.iter().enumerate())
            .filter(|(_, change)| change.new != State::Closed)
            .map(|(index, change)| Held {
                side,
                state: change.new,
                from_ns: change.at_ns,
                for_ns: (changes.get(index + 1))
                    .map(|next| next.at_ns.saturating_sub(change.at_ns)),
                origin: change.origin,
            })
            .collect();
        held
    };
    [Side::Client, Side::Server]
        .into_iter()
        .flat_map(of)
        .collect()
}

/// The sides that enter `TIME-WAIT`.
pub(super) fn holders_of_time_wait(connection: &Connection) -> Vec<Side> {
    let mut sides: Vec<Side> = (connection.states.iter())
        .filter(|it| it.new == State::TimeWait)
        .map(|it| it.side)
        .collect();
    sides.sort();
    sides.dedup();
    sides
}
