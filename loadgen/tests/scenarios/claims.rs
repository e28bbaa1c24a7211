//! What a trace holds for certain, so that it can be asked whether less of a capture makes it say more.

use std::collections::BTreeSet;

use trace::model::{Record, Source, State};
use trace::output::tcpdump;
use trace::packets;
use trace::story::{Connection, EndingKind, Happening, Origin, Segment, tell};

use super::table::Scenario;

/// Of each connection, in the order in which they begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    connections: Vec<Of>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Of {
    /// Each segment that went by, as it was on the wire, and the names that were given to it.
    segments: BTreeSet<String>,
    remarks: BTreeSet<String>,
    /// States that a side is said to have reached.
    states: BTreeSet<String>,
    /// That it is over, whoever ended it and how.
    is_over: bool,
}

impl Claims {
    /// What is told of the first frames of a scenario.
    pub(crate) fn of(scenario: &Scenario, frames: usize) -> Self {
        let bytes = scenario.written(&scenario.frames[..frames]);
        Claims::of_file(&bytes).expect("it is a capture file")
    }

    /// What is told of a file; nothing where it is too short to be one.
    pub(crate) fn of_file(bytes: &[u8]) -> Option<Self> {
        let capture = packets::read_from(bytes, "a scenario").ok()?;
        let (packets, notes) = capture.packets();
        let mut record = Record {
            packets,
            notes,
            ..Record::default()
        };
        record.sources.packets = Source::Seen;
        Some(Claims {
            connections: tell(&record).connections.iter().map(Of::new).collect(),
        })
    }

    /// What is claimed here and not there.
    pub(crate) fn beyond(&self, other: &Claims) -> Vec<String> {
        let nothing = Of::default();
        let mut more = Vec::new();
        for (number, of) in self.connections.iter().enumerate() {
            let theirs = other.connections.get(number).unwrap_or(&nothing);
            more.extend(of.segments.difference(&theirs.segments).cloned());
            more.extend(of.remarks.difference(&theirs.remarks).cloned());
            more.extend(of.states.difference(&theirs.states).cloned());
            if of.is_over && !theirs.is_over {
                more.push(format!("connection {} is over", number + 1));
            }
        }
        more
    }
}

impl Of {
    fn new(connection: &Connection) -> Self {
        let events = connection.phases.iter().flat_map(|phase| &phase.events);
        let segments = events.filter_map(|event| match &event.what {
            Happening::Segment(segment) => Some(segment),
            _ => None,
        });
        let mut of = Of::default();
        for segment in segments {
            let name = name(segment);
            let remarks = segment.remarks.iter();
            of.remarks
                .extend(remarks.map(|remark| format!("{name}: {}", remark.name())));
            of.segments.insert(name);
        }
        // CLOSED is where every side begins, too.
        let reached = connection
            .states
            .iter()
            .filter(|it| it.new != State::Closed && it.origin != Origin::Likely);
        of.states = reached
            .map(|it| format!("{} in {}", it.side.name(), it.new))
            .collect();
        of.is_over = matches!(
            connection.ending.kind,
            EndingKind::Closed(_)
                | EndingKind::Simultaneous
                | EndingKind::Refused
                | EndingKind::Reset(_)
        );
        of
    }
}

/// Copies of a segment differ in their time.
fn name(segment: &Segment) -> String {
    let packet = &segment.packet;
    let (from, to) = (packet.source, packet.destination);
    format!(
        "{} {from} to {to}: {}",
        packet.at_ns,
        tcpdump::line(segment)
    )
}
