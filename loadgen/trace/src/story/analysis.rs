//! Names the segments of a connection: retransmissions, duplicate ACKs, probes, windows.
//!
//! The definitions are those of Wireshark's TCP analysis, so both tools agree about a capture.
//! There are two differences, because this analysis remembers which bytes went by. Bytes seen
//! before are always a retransmission, however soon they come again. A single byte that was not
//! acknowledged yet is a retransmission, not a keep-alive.

use super::Segment;
use super::remark::Remark;
use crate::model::{Packet, Side, TcpOption};
use crate::sequence::{Arrived, Scale, at_most, before, end_of, later, length, offered_scale};

/// A segment that follows later ones within this time was overtaken on the path, not retransmitted.
/// Applies as long as no round trip was measured.
const REORDERING_NS: u64 = 3_000_000;

/// A retransmission this soon after a duplicate ACK is an answer to it.
const FAST_NS: u64 = 20_000_000;

/// A retransmission after this many duplicate ACKs is a fast retransmission.
const DUPLICATES_OF_FAST: u32 = 2;

/// Adds the remarks to the segments of one connection, which are in order.
pub(super) fn remark(segments: &mut [Segment]) {
    let mut analysis = Analysis {
        later: Later::of(segments),
        ..Analysis::default()
    };
    for at in 0..segments.len() {
        segments[at].remarks = analysis.take(segments, at);
    }
}

/// What follows a segment, which decides whether the segment was accepted.
#[derive(Debug, Default)]
struct Later {
    /// For each position, the highest acknowledgement of client and server from there on,
    /// unwrapped.
    highest: Vec<[Option<i64>; 2]>,
    /// The last segment of client and server that is not a RST.
    last: [usize; 2],
}

impl Later {
    fn of(segments: &[Segment]) -> Self {
        let mut unwrapped: [Option<i64>; 2] = [None; 2];
        let mut last = [0; 2];
        let mut highest: Vec<[Option<i64>; 2]> = (segments.iter().enumerate())
            .map(|(at, segment)| {
                let (side, packet) = (segment.from as usize, &segment.packet);
                let mut own = [None; 2];
                if !packet.flags.rst {
                    last[side] = at;
                }
                if packet.flags.ack && !packet.flags.rst {
                    let number = unwrap(unwrapped[side].unwrap_or(0), packet.acknowledgement);
                    unwrapped[side] = Some(number);
                    own[side] = Some(number);
                }
                own
            })
            .collect();
        for at in (1..highest.len()).rev() {
            let [client, server] = highest[at];
            let before = &mut highest[at - 1];
            *before = [before[0].max(client), before[1].max(server)];
        }
        Later { highest, last }
    }

    /// Whether `side` acknowledges `number` at or after segment `at`.
    fn acknowledges(&self, at: usize, side: usize, number: u32) -> bool {
        self.highest[at][side].is_some_and(|highest| highest >= unwrap(highest, number))
    }
}

/// The unwrapped position of `number` that is nearest to `near`.
fn unwrap(near: i64, number: u32) -> i64 {
    near + i64::from(number.wrapping_sub(near as u32).cast_signed())
}

#[derive(Debug, Default)]
struct Analysis {
    /// What client and server send.
    ways: [Way; 2],
    /// Time from the first SYN to the ACK that ends the handshake.
    first_rtt_ns: Option<u64>,
    opened_ns: Option<u64>,
    later: Later,
}

/// What a challenge ACK answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Challenge {
    OfSyn,
    OfReset,
}

/// What went by in one direction.
#[derive(Debug, Clone, Default)]
struct Way {
    /// Sequence number of the SYN, if captured.
    syn: Option<u32>,
    /// Payload bytes of the SYN.
    syn_bytes: u32,
    /// The number after the FIN.
    fin: Option<u32>,
    /// This side has sent bytes after the other side's FIN.
    sent_since_fin: bool,
    /// Remaining hops (TTL) of this side's segments.
    hops: Option<u8>,
    /// The number after the furthest segment, and when that segment was captured.
    next: Option<u32>,
    furthest_ns: u64,
    /// The ranges that were captured.
    arrived: Arrived,
    /// The last acknowledgement sent, and when.
    acknowledgement: Option<u32>,
    acknowledged_ns: u64,
    /// The highest acknowledgement sent.
    acknowledged: Option<u32>,
    /// The first number that the other side must not send yet.
    right_edge: Option<u32>,
    /// Ranges beyond a gap that the last segment acknowledged.
    sacked: Vec<(u32, u32)>,
    duplicates: u32,
    /// The last window, as on the wire.
    window: Option<u16>,
    /// The window scale offered in the SYN; the outer `None` means that the SYN was not captured.
    offer: Option<Option<u8>>,
    last: Probe,
}

/// Whether a segment is a keep-alive probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    None,
    KeepAlive,
    ZeroWindow,
}

impl Analysis {
    fn take(&mut self, segments: &[Segment], at: usize) -> Vec<Remark> {
        let segment = &segments[at];
        let packet = &segment.packet;
        let (own, peer) = match segment.from {
            Side::Client => (0, 1),
            Side::Server => (1, 0),
        };
        let mut remarks = Vec::new();
        let challenge = self.challenges(segments, at);
        if challenge == Some(Challenge::OfSyn) {
            return vec![Remark::ChallengeAck];
        }
        let is_outside = self.is_outside(segments, at);
        if packet.flags.rst {
            self.reset(segments, at, is_outside, &mut remarks);
            return remarks;
        }
        if is_outside {
            return vec![Remark::OutsideWindow];
        }
        if packet.flags.syn {
            self.opens(own, peer, packet, &mut remarks);
        }
        if packet.flags.fin && self.fins_cross(own, peer, packet) {
            remarks.push(Remark::SimultaneousClose);
        }
        self.measure_rtt(segment);
        let probe = self.windows_and_probes(own, peer, packet, &mut remarks);
        self.acknowledges_unseen(peer, packet, &mut remarks);
        if probe == Probe::None && length(packet) > 0 {
            self.sent_again(own, peer, segment, &mut remarks);
        }
        let scale = Scale::agreed(self.ways[own].offer, self.ways[peer].offer);
        if challenge == Some(Challenge::OfReset) {
            remarks.push(Remark::ChallengeAck);
        }
        let peer_has_closed = self.ways[peer].fin.is_some();
        let way = &mut self.ways[own];
        way.sent_since_fin |= peer_has_closed && packet.payload_bytes > 0;
        way.goes_by(packet, probe, scale);
        remarks
    }

    /// Records a SYN and compares it with the other side's.
    fn opens(&mut self, own: usize, peer: usize, packet: &Packet, remarks: &mut Vec<Remark>) {
        let (way, other) = (&self.ways[own], &self.ways[peer]);
        let is_first = way.syn.is_none();
        let behind = packet.sequence.wrapping_add(1);
        if packet.flags.ack {
            if other.syn_bytes > 0 && is_first {
                let end = other.syn.map(|syn| syn.wrapping_add(1));
                remarks.push(match end == Some(packet.acknowledgement) {
                    true => Remark::FastOpenRefused,
                    false => Remark::FastOpenAccepted,
                });
            }
        } else {
            let is_answered = (other.acknowledged)
                .is_some_and(|it| it.wrapping_sub(behind) <= packet.payload_bytes);
            match other.syn {
                Some(_) if is_first && is_answered => remarks.push(Remark::LateSyn),
                Some(_) if is_first && other.acknowledged.is_none() => {
                    remarks.push(Remark::SimultaneousOpen);
                }
                _ => {}
            }
            match (fast_open_cookie_bytes(packet), packet.payload_bytes) {
                (Some(0), _) => remarks.push(Remark::FastOpenRequest),
                (Some(_), 1..) => remarks.push(Remark::FastOpen),
                _ => {}
            }
        }
        let way = &mut self.ways[own];
        way.offer = Some(offered_scale(packet));
        way.syn = Some(packet.sequence);
        way.syn_bytes = packet.payload_bytes;
    }

    fn fins_cross(&self, own: usize, peer: usize, packet: &Packet) -> bool {
        let is_first = self.ways[own].fin != Some(end_of(packet));
        let other = self.ways[peer].fin;
        is_first && other.is_some_and(|fin| packet.flags.ack && before(packet.acknowledgement, fin))
    }

    /// Recognizes a challenge ACK: an ACK from an older connection between the same ports where a
    /// SYN+ACK is expected, or an ACK in response to a RST or SYN that may be forged.
    fn challenges(&self, segments: &[Segment], at: usize) -> Option<Challenge> {
        let segment = &segments[at];
        let (packet, own) = (&segment.packet, segment.from as usize);
        let flags = packet.flags;
        if !flags.ack || flags.syn || flags.rst || flags.fin || packet.payload_bytes > 0 {
            return None;
        }
        let (way, other) = (&self.ways[own], &self.ways[1 - own]);
        let last = at.checked_sub(1).map(|last| &segments[last])?;
        let asked = last.from != segment.from;
        let opens = last.packet.flags.syn && !last.packet.flags.ack;
        let unanswered = way.next.is_none() && other.syn.is_some();
        let is_of_another = (other.syn).is_some_and(|syn| {
            packet.acknowledgement.wrapping_sub(syn.wrapping_add(1)) > other.syn_bytes
        });
        let in_window = last.remarks == [Remark::ResetIgnored];
        match () {
            () if asked && opens && unanswered && is_of_another => Some(Challenge::OfSyn),
            () if asked && in_window && way.next == Some(packet.sequence) => {
                Some(Challenge::OfReset)
            }
            () => None,
        }
    }

    /// Whether the receiver cannot use anything in a segment (RFC 9293 §3.10.7.4), as far as is
    /// known. A segment that continues the stream, or is acknowledged later, was not outside the
    /// window.
    fn is_outside(&self, segments: &[Segment], at: usize) -> bool {
        let segment = &segments[at];
        let (packet, own) = (&segment.packet, segment.from as usize);
        let (way, other) = (&self.ways[own], &self.ways[1 - own]);
        let (flags, first) = (packet.flags, packet.sequence);
        if flags.syn && !flags.ack {
            return false;
        }
        let is_before_start = way.syn.is_some_and(|syn| before(first, syn));
        let is_other_start = flags.syn && way.syn.is_some_and(|syn| syn != first);
        let answers_none =
            flags.ack && (other.syn).is_some_and(|syn| at_most(packet.acknowledgement, syn));
        if is_before_start || is_other_start || answers_none {
            return true;
        }
        let Some(next) = way.next.filter(|next| *next != first) else {
            return false;
        };
        if self.later.acknowledges(at, 1 - own, first.wrapping_add(1)) && !flags.rst {
            return false;
        }
        // The receiver's last window may not have been captured, so only a FIN or a RST is held to
        // the last captured one.
        const SLACK: u32 = 1 << 16;
        let slack = if flags.fin || flags.rst { 0 } else { SLACK };
        let is_beyond = before(next, first)
            && (other.right_edge)
                .is_some_and(|right_edge| at_most(right_edge.wrapping_add(slack), first));
        let is_old_reset = flags.rst && other.acknowledged.is_some_and(|it| before(first, it));
        is_beyond || is_old_reset || self.is_island(segments, at, next)
    }

    /// Far from all that went by, and the next segment of this side is not.
    fn is_island(&self, segments: &[Segment], at: usize, next: u32) -> bool {
        /// Without known scaling, no window is this large.
        const FAR: u32 = 1 << 20;
        const LOOK_AHEAD: usize = 32;
        let is_far =
            |number: u32| number.wrapping_sub(next) > FAR && next.wrapping_sub(number) > FAR;
        let segment = &segments[at];
        let goes_on_near = || {
            let mut following = segments[at + 1..].iter().take(LOOK_AHEAD);
            following
                .find(|it| it.from == segment.from)
                .is_some_and(|it| !is_far(it.packet.sequence))
        };
        is_far(segment.packet.sequence) && goes_on_near()
    }

    /// Names a RST: its likely sender, its reason, and whether it is obeyed.
    fn reset(&self, segments: &[Segment], at: usize, is_outside: bool, remarks: &mut Vec<Remark>) {
        let segment = &segments[at];
        let (packet, own) = (&segment.packet, segment.from as usize);
        let (way, other) = (&self.ways[own], &self.ways[1 - own]);
        let first = packet.sequence;
        if is_outside {
            remarks.extend([Remark::OutsideWindow, Remark::ResetIgnored]);
        } else if way.next.is_some_and(|next| before(next, first)) && self.later.last[1 - own] > at
        {
            remarks.push(Remark::ResetIgnored);
        }
        if way.hops.is_some_and(|hops| hops != packet.hops) {
            remarks.push(Remark::ResetInjected);
        }
        let is_next = way.next.is_none_or(|next| at_most(first, next));
        if !remarks.is_empty() || !is_next {
            return;
        }
        let answers = at
            .checked_sub(1)
            .map(|last| &segments[last])
            .filter(|it| it.from != segment.from);
        let is_bare = !packet.flags.ack;
        let peer_sent_since_fin = way.fin.is_some() && other.sent_since_fin;
        remarks.push(match way.next {
            None if packet.flags.ack && other.syn.is_some() => Remark::Refused,
            // A port without a listener answers like this (RFC 9293 §3.10.7.1).
            None if packet.flags.ack
                && packet.sequence == 0
                && answers.is_some_and(|it| !it.packet.flags.ack) =>
            {
                Remark::Refused
            }
            _ if peer_sent_since_fin => Remark::ResetAfterClose,
            _ if is_bare && answers.is_some_and(|it| it.packet.acknowledgement == first) => {
                Remark::ResetOfUnknown
            }
            _ => Remark::Abort,
        });
    }

    fn measure_rtt(&mut self, segment: &Segment) {
        let (at_ns, flags) = (segment.packet.at_ns, segment.packet.flags);
        if flags.syn && !flags.ack {
            self.opened_ns.get_or_insert(at_ns);
        } else if !flags.syn && flags.ack && segment.from == Side::Client {
            let seen_both = self.ways.iter().all(|way| way.offer.is_some());
            if let Some(opened_ns) = self.opened_ns.filter(|_| seen_both) {
                self.first_rtt_ns
                    .get_or_insert(at_ns.saturating_sub(opened_ns));
            }
        }
    }

    /// Names segments that carry little or nothing: probes and their answers, window updates,
    /// duplicate ACKs.
    fn windows_and_probes(
        &mut self,
        own: usize,
        peer: usize,
        packet: &Packet,
        remarks: &mut Vec<Remark>,
    ) -> Probe {
        let (way, other) = (&self.ways[own], &self.ways[peer]);
        let flags = packet.flags;
        let is_plain = !flags.syn && !flags.fin && !flags.rst;
        let (first, bytes) = (packet.sequence, packet.payload_bytes);
        if is_plain && packet.window == 0 {
            remarks.push(Remark::ZeroWindow);
        }
        if way.next.is_some_and(|next| before(next, first)) {
            remarks.push(Remark::LostSegment);
        }
        let meets_closed = other.window == Some(0);
        if is_plain && bytes == 1 && way.next == Some(first) && meets_closed {
            remarks.push(Remark::ZeroWindowProbe);
            return Probe::ZeroWindow;
        }
        let behind = first.wrapping_add(1);
        let is_acknowledged = (other.acknowledgement).is_none_or(|it| at_most(behind, it));
        if is_plain && way.next == Some(behind) && (bytes == 0 || bytes == 1 && is_acknowledged) {
            remarks.push(Remark::KeepAlive);
            // A Linux zero-window probe looks like a keep-alive.
            if meets_closed {
                remarks.push(Remark::ZeroWindowProbe);
                return Probe::ZeroWindow;
            }
            return Probe::KeepAlive;
        }
        if is_plain && bytes > 0 && self.fills_window(peer, packet) {
            remarks.push(Remark::WindowFull);
        }
        if is_plain && bytes == 0 && flags.ack && way.next == Some(first) {
            self.acknowledges_again(own, peer, packet, remarks);
        }
        Probe::None
    }

    fn fills_window(&self, peer: usize, packet: &Packet) -> bool {
        let (other, way) = (&self.ways[peer], &self.ways[1 - peer]);
        let Scale::Bits(bits) = Scale::agreed(other.offer, way.offer) else {
            return false;
        };
        let right_edge = other
            .acknowledgement
            .zip(other.window)
            .map(|(from, window)| from.wrapping_add(u32::from(window) << bits));
        right_edge == Some(end_of(packet))
    }

    /// Names a segment without payload at the position of the next byte.
    fn acknowledges_again(
        &mut self,
        own: usize,
        peer: usize,
        packet: &Packet,
        remarks: &mut Vec<Remark>,
    ) {
        let asked = self.ways[peer].last;
        let way = &mut self.ways[own];
        let same_window = way.window == Some(packet.window);
        let again = way.acknowledgement == Some(packet.acknowledgement);
        if asked == Probe::ZeroWindow && packet.window == 0 && same_window {
            // Some receivers accept the one byte anyway.
            let takes = (way.acknowledgement)
                .is_some_and(|it| it.wrapping_add(1) == packet.acknowledgement);
            if again || takes {
                remarks.push(Remark::ZeroWindowProbeAck);
                if takes {
                    self.ways[peer].advance_to(packet.acknowledgement);
                }
                return;
            }
        }
        if !again || packet.window == 0 {
            return;
        }
        match (same_window, asked) {
            (false, _) if way.window.is_some() => remarks.push(Remark::WindowUpdate),
            (true, Probe::KeepAlive) => remarks.push(Remark::KeepAliveAck),
            (true, _) => {
                way.duplicates += 1;
                remarks.push(Remark::DuplicateAck(way.duplicates));
            }
            _ => {}
        }
    }

    fn acknowledges_unseen(&mut self, peer: usize, packet: &Packet, remarks: &mut Vec<Remark>) {
        let other = &mut self.ways[peer];
        let edge = other.arrived.edge();
        let is_beyond = edge.is_some_and(|edge| before(edge, packet.acknowledgement));
        if packet.flags.ack && is_beyond {
            remarks.push(Remark::AckOfUnseen);
            // Reported once for each gap.
            other.arrived.advance_to(packet.acknowledgement);
        }
    }

    /// Names a segment that repeats an earlier one or arrives late.
    fn sent_again(&self, own: usize, peer: usize, segment: &Segment, remarks: &mut Vec<Remark>) {
        let (way, other, packet) = (&self.ways[own], &self.ways[peer], &segment.packet);
        let (first, behind) = (packet.sequence, end_of(packet));
        let Some(next) = way.next.filter(|next| before(first, *next)) else {
            return;
        };
        // It begins with the byte of a zero-window probe and continues.
        if packet.payload_bytes > 1
            && first.wrapping_add(1) == next
            && way.last == Probe::ZeroWindow
        {
            return;
        }
        let acknowledged = other.acknowledgement;
        let since = |then_ns: u64| packet.at_ns.saturating_sub(then_ns);
        let asked_for = other.duplicates >= DUPLICATES_OF_FAST
            && since(other.acknowledged_ns) < FAST_NS
            && (acknowledged == Some(first) || other.misses(first, behind));
        let was_acknowledged = packet.payload_bytes > 0
            && acknowledged.is_some_and(|acknowledged| at_most(behind, acknowledged));
        let overtaken = since(way.furthest_ns) < self.first_rtt_ns.unwrap_or(REORDERING_NS)
            && behind != next
            && !segment.retransmission;
        let special = match () {
            () if asked_for => Remark::FastRetransmission,
            () if was_acknowledged => Remark::SpuriousRetransmission,
            () if overtaken => {
                remarks.push(Remark::OutOfOrder);
                return;
            }
            // It acknowledges the other side's SYN, which crossed this side's.
            () if packet.flags.syn && packet.flags.ack && way.acknowledgement.is_none() => {
                remarks.push(Remark::Retransmission);
                return;
            }
            () if packet.flags.syn && packet.flags.ack => Remark::SynAckRetransmission,
            () if packet.flags.syn => Remark::SynRetransmission,
            () if packet.flags.fin => Remark::FinRetransmission,
            () => {
                remarks.push(Remark::Retransmission);
                return;
            }
        };
        remarks.extend([Remark::Retransmission, special]);
    }
}

impl Way {
    /// Whether a segment lies in a gap before ranges that were acknowledged.
    fn misses(&self, first: u32, behind: u32) -> bool {
        let holds = |&(from, to): &(u32, u32)| at_most(from, first) && at_most(behind, to);
        let is_beyond = (self.acknowledgement).is_some_and(|it| at_most(it, first));
        is_beyond && !self.sacked.is_empty() && !self.sacked.iter().any(holds)
    }

    fn goes_by(&mut self, packet: &Packet, probe: Probe, scale: Scale) {
        self.last = probe;
        self.hops = Some(packet.hops);
        let behind = end_of(packet);
        if packet.flags.fin {
            self.fin = Some(behind);
        }
        // The probe into a zero window was most likely not accepted; its byte is sent again.
        if probe != Probe::ZeroWindow {
            if self.next.is_none_or(|next| before(next, behind)) {
                self.next = Some(behind);
                self.furthest_ns = packet.at_ns;
            }
            self.arrived.arrives(packet.sequence, behind);
        }
        if !packet.flags.ack {
            return;
        }
        let again = self.acknowledgement == Some(packet.acknowledgement);
        let is_bare = length(packet) == 0 && self.window == Some(packet.window);
        if !(again && is_bare) {
            self.duplicates = 0;
        }
        let number = packet.acknowledgement;
        let window_bytes =
            (scale.window_bytes(packet)).unwrap_or(Scale::largest_window_bytes(packet));
        let right_edge = number.wrapping_add(window_bytes);
        self.right_edge = Some(
            self.right_edge
                .map_or(right_edge, |it| later(it, right_edge)),
        );
        self.acknowledged = Some(self.acknowledged.map_or(number, |it| later(it, number)));
        self.acknowledgement = Some(number);
        self.acknowledged_ns = packet.at_ns;
        self.window = Some(packet.window);
        self.sacked.clear();
        for option in &packet.options {
            if let TcpOption::Sack(ranges) = option {
                self.sacked.extend(ranges);
            }
        }
    }

    /// A byte that looked like a probe was accepted as data.
    fn advance_to(&mut self, number: u32) {
        self.next = self.next.map(|next| later(next, number));
        self.arrived.advance_to(number);
    }
}

/// Length of a SYN's Fast Open cookie; 0 for a cookie request (RFC 7413 §4.1, and the experimental
/// form).
fn fast_open_cookie_bytes(packet: &Packet) -> Option<usize> {
    const FAST_OPEN: u8 = 34;
    const EXPERIMENTAL: u8 = 254;
    const MAGIC: [u8; 2] = [0xf9, 0x89];
    packet.options.iter().find_map(|option| match option {
        TcpOption::Other(FAST_OPEN, cookie) => Some(cookie.len()),
        TcpOption::Other(EXPERIMENTAL, data) => data.strip_prefix(&MAGIC).map(<[u8]>::len),
        _ => None,
    })
}
