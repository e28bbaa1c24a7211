//! The order of captured packets, and which packets are the same one captured more than once.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::model::{Call, Packet, Record};
use crate::sequence::{at_most, before, end_of, length};
use engine::figures::count;

use super::endings::duration;

/// A record in order, with each packet once.
pub(super) struct Ordered<'a> {
    pub(super) record: Cow<'a, Record>,
    /// For each packet, the number of additional captures; empty if every packet was captured once.
    pub(super) copies: Vec<u32>,
    /// Notes about order and copies.
    pub(super) notes: Vec<String>,
}

/// Most records are already in order and are not copied.
pub(super) fn ordered(record: &Record) -> Ordered<'_> {
    let mut notes = Vec::new();
    let mut record = in_order(record, &mut notes);
    let copies = match find_copies(&record.packets) {
        Some(copies) => {
            let dropped = copies.iter().filter(|it| **it == Copies::OfAnother).count() as u64;
            notes.push(format!(
                "{} a second time, on another interface or both on input and on output: each packet is shown once.",
                match dropped {
                    1 => "1 packet was captured".to_owned(),
                    many => format!("{} were captured", count(many, "packet")),
                }
            ));
            drop_copies(record.to_mut(), &copies)
        }
        None => Vec::new(),
    };
    Ordered {
        record,
        copies,
        notes,
    }
}

fn in_order<'a>(record: &'a Record, notes: &mut Vec<String>) -> Cow<'a, Record> {
    let entry = |call: &Call| call.entered_ns.or(call.left_ns);
    let is_in_order = record.packets.is_sorted_by_key(|packet| packet.at_ns)
        && record.changes.is_sorted_by_key(|change| change.at_ns)
        && record.calls.is_sorted_by_key(entry)
        && record.snapshots.is_sorted_by_key(|snapshot| snapshot.at_ns)
        && record.moments.is_sorted_by_key(|moment| moment.at_ns);
    let clocks = Clocks::of(&record.packets);
    if is_in_order && clocks.is_one() {
        return Cow::Borrowed(record);
    }
    let mut record = record.clone();
    // A live trace has a single clock.
    let is_of_file = record.changes.is_empty()
        && record.calls.is_empty()
        && record.snapshots.is_empty()
        && record.moments.is_empty();
    if is_of_file {
        notes.extend(clocks.correct(&mut record.packets));
    }
    record.packets.sort_by_key(|packet| packet.at_ns);
    record.changes.sort_by_key(|change| change.at_ns);
    record.calls.sort_by_key(entry);
    record.snapshots.sort_by_key(|snapshot| snapshot.at_ns);
    record.moments.sort_by_key(|moment| moment.at_ns);
    Cow::Owned(record)
}

/// Each interface has its own clock, or may have.
struct Clocks {
    /// The packets of each interface, in file order.
    lanes: Vec<Vec<usize>>,
}

impl Clocks {
    fn of(packets: &[Packet]) -> Self {
        let mut numbers: HashMap<Option<&str>, usize> = HashMap::new();
        let mut lanes: Vec<Vec<usize>> = Vec::new();
        for (at, packet) in packets.iter().enumerate() {
            let next = lanes.len();
            let lane = *numbers.entry(packet.interface.as_deref()).or_insert(next);
            if lane == next {
                lanes.push(Vec::new());
            }
            lanes[lane].push(at);
        }
        Clocks { lanes }
    }

    fn is_one(&self) -> bool {
        self.lanes.len() <= 1
    }

    /// Makes the times of each interface increase in file order, and aligns the interfaces by the
    /// packets that they captured in common.
    fn correct(&self, packets: &mut [Packet]) -> Vec<String> {
        let mut notes = Vec::new();
        let mut steps = Steps::default();
        for lane in &self.lanes {
            steps.forward(lane, packets);
        }
        if steps.count > 0 {
            notes.push(format!(
                "Timestamps go back {} in the file, by up to {}: the clock was set back, or packets were \
                written late. The file order is kept; the time that passed there is not known.",
                match steps.count {
                    1 => "once".to_owned(),
                    times => count(times, "time"),
                },
                duration(steps.longest_ns)
            ));
        }
        if steps.late > 0 {
            notes.push(format!(
                "{} after later ones in the file, as a capture with several queues writes them: sequence numbers and \
                timestamps agree on the order, and the trace shows them in that order.",
                match steps.late {
                    1 => "1 packet stands".to_owned(),
                    many => format!("{} stand", count(many, "packet")),
                }
            ));
        }
        let reference = (0..self.lanes.len()).max_by_key(|&lane| self.lanes[lane].len());
        let mut apart_ns = 0;
        for lane in (0..self.lanes.len()).filter(|&lane| Some(lane) != reference) {
            let reference = &self.lanes[reference.unwrap_or_default()];
            let ahead_ns = ahead_ns(packets, reference, &self.lanes[lane]).unwrap_or(0);
            for &at in &self.lanes[lane] {
                packets[at].at_ns = packets[at].at_ns.saturating_add_signed(-ahead_ns);
            }
            apart_ns = ahead_ns.unsigned_abs().max(apart_ns);
        }
        const WORTH_SAYING_NS: u64 = 100_000;
        if apart_ns >= WORTH_SAYING_NS {
            notes.push(format!(
                "The clocks of the interfaces differ by {}, judging by the packets that several of them captured: the \
                times shown are those of the interface with the most packets.",
                duration(apart_ns)
            ));
        }
        notes
    }
}

/// Where timestamps go back.
#[derive(Default)]
struct Steps {
    /// Packets that were merely written late.
    late: u64,
    count: u64,
    longest_ns: u64,
}

impl Steps {
    /// Processes one interface. A packet that was written late, as its sequence numbers show, keeps
    /// its time and is moved to its place. Otherwise the file order is kept: a single early packet
    /// gets the time of the packet before it; where the clock was set back, all later times are
    /// shifted.
    fn forward(&mut self, lane: &[usize], packets: &mut [Packet]) {
        /// If the clock was set back, this many following packets show it.
        const LOOK_AHEAD: usize = 3;
        let mut moved_ns = 0u64;
        let mut last_ns = 0;
        for (position, &at) in lane.iter().enumerate() {
            let time = |at: usize, moved_ns: u64| packets[at].at_ns.saturating_add(moved_ns);
            let mut at_ns = time(at, moved_ns);
            if at_ns < last_ns && is_written_late(packets, &lane[..position], at, at_ns) {
                self.late += 1;
                packets[at].at_ns = at_ns;
                continue;
            }
            if at_ns < last_ns {
                let back_ns = last_ns - at_ns;
                self.count += 1;
                self.longest_ns = self.longest_ns.max(back_ns);
                let mut next = lane[position + 1..].iter().take(LOOK_AHEAD);
                if !next.any(|&next| time(next, moved_ns) >= last_ns) {
                    moved_ns = moved_ns.saturating_add(back_ns);
                }
                at_ns = last_ns;
            }
            packets[at].at_ns = at_ns;
            last_ns = at_ns;
        }
    }
}

/// Whether a packet belongs before some of its predecessors in the file, by sequence numbers, and
/// after none of them.
fn is_written_late(packets: &[Packet], before: &[usize], at: usize, at_ns: u64) -> bool {
    const LOOK_BACK: usize = 16;
    let packet = &packets[at];
    let of_same = |other: &Packet| {
        let ends = (other.source, other.destination);
        ends == (packet.source, packet.destination) || ends == (packet.destination, packet.source)
    };
    let overtaken = (before.iter().rev().take(LOOK_BACK))
        .map(|&at| &packets[at])
        .filter(|other| other.at_ns > at_ns && of_same(other));
    let mut is_before_some = false;
    for other in overtaken {
        if precedes(other, packet) {
            return false;
        }
        is_before_some |= precedes(packet, other);
    }
    is_before_some
}

/// Whether sequence numbers prove that packet `a` was sent before packet `b` of the same
/// connection.
fn precedes(a: &Packet, b: &Packet) -> bool {
    if a.source == b.source {
        let is_behind = before(a.sequence, b.sequence);
        let acknowledges_more = before(a.acknowledgement, b.acknowledgement);
        return is_behind || (a.sequence == b.sequence && acknowledges_more);
    }
    // One acknowledges what the other carries.
    length(a) > 0 && b.flags.ack && at_most(end_of(a), b.acknowledgement)
}

/// How far the clock of one interface is ahead of another's: the median over the packets that both
/// captured. `None` if these may be segments that were sent again through the other interface.
fn ahead_ns(packets: &[Packet], reference: &[usize], lane: &[usize]) -> Option<i64> {
    /// Retransmitted segments follow their originals after unrelated times; this many copies must
    /// agree.
    const AGREEING_MIN: usize = 3;
    let mut seen: HashMap<Key, Vec<usize>> = HashMap::new();
    for &at in reference.iter().rev() {
        seen.entry(Key::of(&packets[at])).or_default().push(at);
    }
    let mut distances: Vec<i64> = Vec::new();
    let mut is_certain = false;
    for &at in lane {
        // The first on one interface corresponds to the first on the other.
        if let Some(of) = seen.get_mut(&Key::of(&packets[at])).and_then(Vec::pop)
            && is_same(&packets[of], &packets[at])
        {
            is_certain |= is_one_by_header(&packets[of], &packets[at]);
            distances.push(
                packets[at]
                    .at_ns
                    .wrapping_sub(packets[of].at_ns)
                    .cast_signed(),
            );
        }
    }
    distances.sort_unstable();
    let median_ns = *distances.get(distances.len() / 2)?;
    let tolerance_ns = AT_ONCE_NS.max(median_ns.unsigned_abs() / 20);
    let agree = |distance: &&i64| distance.abs_diff(median_ns) <= tolerance_ns;
    let agreeing = distances.iter().filter(agree).count();
    let are_most = agreeing >= AGREEING_MIN && agreeing > lane.len() / 2;
    (is_certain || are_most).then_some(median_ns)
}

/// Whether the IP headers show that one packet was captured twice. A sender that repeats a segment
/// over a path of the same length gives it another identification, unless it never sets one.
fn is_one_by_header(a: &Packet, b: &Packet) -> bool {
    let has_identification = a.identification.is_some_and(|it| it != 0);
    (has_identification && a.identification == b.identification) || a.hops != b.hops
}

/// The quickly compared part of what two captures of one packet have in common.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    source: SocketAddr,
    destination: SocketAddr,
    identification: Option<u16>,
    sequence: u32,
    acknowledgement: u32,
    window: u16,
    payload_bytes: u32,
}

impl Key {
    fn of(packet: &Packet) -> Self {
        Key {
            source: packet.source,
            destination: packet.destination,
            identification: packet.identification,
            sequence: packet.sequence,
            acknowledgement: packet.acknowledgement,
            window: packet.window,
            payload_bytes: packet.payload_bytes,
        }
    }
}

/// The remaining comparison of two captures with the same key.
fn is_same(a: &Packet, b: &Packet) -> bool {
    let common = a.payload.len().min(b.payload.len());
    a.flags == b.flags && a.options == b.options && a.payload[..common] == b.payload[..common]
}

/// Whether a packet is the original or a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    /// The first capture, followed by this many copies.
    Again(u32),
    /// A copy of an earlier packet.
    OfAnother,
}

/// Classifies each packet; `None` if there is no copy at all.
fn find_copies(packets: &[Packet]) -> Option<Vec<Copies>> {
    let mut finder = CopyFinder {
        captured_twice: captured_twice(packets),
        ..CopyFinder::default()
    };
    let copies: Vec<Copies> = (0..packets.len())
        .map(|at| finder.take(packets, at))
        .collect();
    if !copies.contains(&Copies::OfAnother) {
        return None;
    }
    let mut copies = copies;
    for (at, times) in finder.times {
        copies[at] = Copies::Again(times);
    }
    Some(copies)
}

/// Address pairs of which several interfaces captured most segments, and more than a few.
fn captured_twice(packets: &[Packet]) -> HashSet<(SocketAddr, SocketAddr)> {
    const SEGMENTS_MIN: usize = 3;
    let Some(first) = packets.first() else {
        return HashSet::new();
    };
    if packets.iter().all(|it| it.interface == first.interface) {
        return HashSet::new();
    }
    let mut first: HashMap<Key, (&Option<String>, bool)> = HashMap::new();
    for packet in packets {
        let (interface, is_elsewhere) =
            (first.entry(Key::of(packet))).or_insert((&packet.interface, false));
        *is_elsewhere |= **interface != packet.interface;
    }
    let mut counts: HashMap<(SocketAddr, SocketAddr), (usize, usize)> = HashMap::new();
    for (key, (_, is_elsewhere)) in first {
        let (all, elsewhere) = counts.entry((key.source, key.destination)).or_default();
        *all += 1;
        *elsewhere += usize::from(is_elsewhere);
    }
    let are_most =
        |(all, elsewhere): (usize, usize)| elsewhere >= SEGMENTS_MIN && elsewhere > all / 2;
    (counts.into_iter())
        .filter(|(_, counted)| are_most(*counted))
        .map(|(ends, _)| ends)
        .collect()
}

fn drop_copies(record: &mut Record, copies: &[Copies]) -> Vec<u32> {
    let mut of_each = copies.iter();
    (record.packets).retain(|_| of_each.next() != Some(&Copies::OfAnother));
    (copies.iter())
        .filter_map(|it| match it {
            Copies::Again(times) => Some(*times),
            Copies::OfAnother => None,
        })
        .collect()
}

/// Distinguishes a packet that was captured twice from one that was sent twice.
#[derive(Default)]
struct CopyFinder {
    latest: HashMap<Key, usize>,
    captured_twice: HashSet<(SocketAddr, SocketAddr)>,
    directions: HashMap<(SocketAddr, SocketAddr), Direction>,
    /// Position of the latest connection's SYN, by client and server address.
    begun: HashMap<(SocketAddr, SocketAddr), usize>,
    /// Additional captures of each packet.
    times: HashMap<usize, u32>,
    /// The other interfaces that captured each packet.
    elsewhere: HashMap<usize, Vec<usize>>,
}

/// What is known of the packets in one direction.
#[derive(Default)]
struct Direction {
    last: Option<usize>,
    last_was_copied: bool,
    /// Different packets share an identification, so it proves nothing.
    has_same_identification: bool,
}

impl CopyFinder {
    fn take(&mut self, packets: &[Packet], at: usize) -> Copies {
        let packet = &packets[at];
        let ends = (packet.source, packet.destination);
        let back = (packet.destination, packet.source);
        let answered = self.directions.get(&back).and_then(|it| it.last);
        let direction = self.directions.entry(ends).or_default();
        let earlier = self.latest.get(&Key::of(packet)).copied();
        let begun = |ends| self.begun.get(ends).copied().unwrap_or(0);
        let begun = begun(&ends).max(begun(&back));
        // A segment that comes again in a later connection arrived late; it is not a copy.
        let earlier = earlier.filter(|&of| of >= begun && is_same(&packets[of], packet));
        if let Some(of) = earlier {
            let on = self.elsewhere.entry(of).or_default();
            let is_new_interface = packets[of].interface != packet.interface
                && !on
                    .iter()
                    .any(|&it| packets[it].interface == packet.interface);
            // Nothing else was captured between these two.
            let follows = direction.last == Some(of) && answered.is_none_or(|it| it < of);
            let was_copied = direction.last_was_copied;
            let tells = !direction.has_same_identification
                && packet.identification.is_some_and(|it| it != 0);
            let has_other_hops = packets[of].hops != packet.hops;
            let apart_ns = packet.at_ns.saturating_sub(packets[of].at_ns);
            let is_copy = match () {
                () if is_new_interface => {
                    let is_certain = tells || has_other_hops || self.captured_twice.contains(&ends);
                    apart_ns < if is_certain { ELSEWHERE_NS } else { AT_ONCE_NS }
                }
                () if has_other_hops || tells => apart_ns < RETRANSMISSION_NS,
                () => {
                    let is_no_answer = length(packet) > 0 || was_copied;
                    follows && is_no_answer && apart_ns < AT_ONCE_NS
                }
            };
            if is_copy {
                on.push(at);
                *self.times.entry(of).or_default() += 1;
                return Copies::OfAnother;
            }
        }
        if let Some(last) = direction.last {
            let same = packets[last].identification == packet.identification;
            direction.has_same_identification |= same && packet.identification.is_some();
            direction.last_was_copied = self.times.contains_key(&last);
        }
        direction.last = Some(at);
        if packet.flags.syn && !packet.flags.ack {
            self.begun.insert(ends, at);
        }
        self.latest.insert(Key::of(packet), at);
        Copies::Again(0)
    }
}

/// A packet takes less than this from one interface to another.
const ELSEWHERE_NS: u64 = 1_000_000_000;

/// No retransmission timer is shorter than this.
const RETRANSMISSION_NS: u64 = 200_000_000;

/// No sender repeats a segment this soon.
const AT_ONCE_NS: u64 = 1_000_000;
