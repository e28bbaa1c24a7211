//! Explains once, in the notes, how gaps in a capture limit the conclusions.

use super::subject::Subject;
use super::{Remark, Segment};
use crate::model::{Side, TcpOption};
use engine::figures::count;

const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// One note for each kind of gap.
pub(super) fn notes(subjects: &[Subject<'_>]) -> Vec<String> {
    let captured: Vec<&Subject<'_>> = subjects
        .iter()
        .filter(|it| !it.segments.is_empty())
        .collect();
    let of = |is: fn(&Subject<'_>) -> bool| captured.iter().filter(|it| is(it)).count();
    let connections = |few: usize, verb: [&str; 2]| {
        let (all, number) = (captured.len(), usize::from(few != 1));
        match all {
            1 => format!("The connection {}", verb[0]),
            _ => format!(
                "{few} of {} {}",
                count(all as u64, "connection"),
                verb[number]
            ),
        }
    };
    let mut notes = Vec::new();
    let one_sided = of(is_one_sided);
    if one_sided > 0 {
        notes.push(format!(
            "{} in one direction only. The other side's actions follow from the acknowledgements of this one, or are \
             marked as likely; what the other side did not do is not known.",
            connections(one_sided, ["was captured", "were captured"])
        ));
    }
    let late = of(begins_late);
    if late > 0 {
        notes.push(format!(
            "{} before the capture: its SYN is missing. HTTP or, as a likely guess, the ports show which side is the \
             client; the earlier part is assumed to have gone well; windows are shown unscaled, so the true ones may \
             be larger.",
            connections(late, ["begins", "begin"])
        ));
    }
    let gaps: u64 = captured.iter().map(|it| gaps(it)).sum();
    if gaps > 0 {
        notes.push(format!(
            "Segments are missing in {}: the capture missed them, or they were lost before it. The trace claims nothing \
             about their contents beyond what acknowledgements prove.",
            count(gaps, "place")
        ));
    }
    let large: u64 = captured.iter().map(|it| larger_than_allowed(it)).sum();
    if large > 0 {
        notes.push(format!(
            "{} larger than the MSS of the receiver: captured before the network card split {}, or after it merged {} \
             (offloading). How many segments were on the wire is not known.",
            match large {
                1 => "1 segment is".to_owned(),
                many => format!("{} are", count(many, "segment")),
            },
            if large == 1 { "it" } else { "them" },
            if large == 1 { "it" } else { "them" },
        ));
    }
    notes
}

/// Whether the captured side acknowledges something of an uncaptured side.
fn is_one_sided(subject: &Subject<'_>) -> bool {
    let acknowledges = |it: &Segment| it.packet.flags.ack && !it.packet.flags.rst && it.counts();
    SIDES.iter().any(|side| !subject.captured(*side)) && subject.segments.iter().any(acknowledges)
}

fn begins_late(subject: &Subject<'_>) -> bool {
    !subject.segments.iter().any(|it| it.packet.flags.syn)
}

/// Counts gaps once: the acknowledgement of a gap and the segment after it report the same one.
fn gaps(subject: &Subject<'_>) -> u64 {
    let count = |remark| {
        let with = (subject.segments.iter()).filter(|it| it.remarks.contains(&remark));
        with.count() as u64
    };
    count(Remark::LostSegment).max(count(Remark::AckOfUnseen))
}

fn larger_than_allowed(subject: &Subject<'_>) -> u64 {
    let offered = SIDES.map(|side| {
        let mut syns =
            (subject.segments.iter()).filter(|it| it.from == side && it.packet.flags.syn);
        let options = syns.next().map_or(&[][..], |syn| &syn.packet.options[..]);
        options.iter().find_map(|option| match option {
            TcpOption::MaximumSegmentSize(bytes) => Some(u32::from(*bytes)),
            _ => None,
        })
    });
    let is_large = |it: &&Segment| {
        offered[1 - it.from as usize].is_some_and(|bytes| it.packet.payload_bytes > bytes)
    };
    subject.segments.iter().filter(is_large).count() as u64
}
