//! Calls each segment of a connection by its name: retransmissions, duplicate ACKs, probes, windows.
//!
//! The definitions are those of Wireshark's TCP analysis, so that both tools say the same of a capture. They
//! differ in two places, since this one remembers which bytes went by: bytes seen before are always a
//! retransmission, however soon they come again; and a single byte that nobody has acknowledged yet is a
//! retransmission, not a keep-alive.

use super::Segment;
use super::remark::Remark;
use crate::trace::model::{Packet, Side, TcpOption};
use crate::trace::sequence::{Scale, at_most, before, end_of, later, length, offered_scale};

/// Segments that come so soon after those they precede were overtaken on the way, as long as no round trip was
/// measured.
const REORDERING_NS: u64 = 3_000_000;

/// A retransmission that comes so soon after a duplicate ACK answers it.
const FAST_NS: u64 = 20_000_000;

/// Duplicate ACKs from which on a retransmission is a fast one.
const DUPLICATES_OF_FAST: u32 = 2;

/// Gives each segment its remarks. Segments are those of one connection, in order.
pub(super) fn remark(segments: &mut [Segment]) {
    let mut analysis = Analysis::default();
    for segment in segments {
        segment.remarks = analysis.take(segment);
    }
}

#[derive(Debug, Default)]
struct Analysis {
    /// What client and server send.
    ways: [Way; 2],
    /// From the first SYN to the ACK that ends the handshake.
    first_rtt_ns: Option<u64>,
    opened_ns: Option<u64>,
}

/// What went by in one direction.
#[derive(Debug, Clone, Default)]
struct Way {
    /// The number behind the furthest segment, and when it went by.
    next: Option<u32>,
    furthest_ns: u64,
    /// The number up to which nothing is missing.
    unbroken: Option<u32>,
    /// The last acknowledgement that it carried, and when.
    acknowledgement: Option<u32>,
    acknowledged_ns: u64,
    /// Ranges that its last segment acknowledged beyond a gap.
    sacked: Vec<(u32, u32)>,
    duplicates: u32,
    /// As on the wire.
    window: Option<u16>,
    /// The one of its SYN, of which the outer `None` is not captured.
    offer: Option<Option<u8>>,
    last: Probe,
}

/// Whether a segment asks whether the peer is still there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    None,
    KeepAlive,
    ZeroWindow,
}

impl Analysis {
    fn take(&mut self, segment: &Segment) -> Vec<Remark> {
        let packet = &segment.packet;
        let (own, peer) = match segment.from {
            Side::Client => (0, 1),
            Side::Server => (1, 0),
        };
        if packet.flags.syn {
            self.ways[own].offer = Some(offered_scale(packet));
        }
        self.measure_rtt(segment);
        let mut remarks = Vec::new();
        let probe = self.windows_and_probes(own, peer, packet, &mut remarks);
        self.acknowledges_unseen(peer, packet, &mut remarks);
        if probe == Probe::None && length(packet) > 0 && !packet.flags.rst {
            self.sent_again(own, peer, segment, &mut remarks);
        }
        self.ways[own].goes_by(packet, probe);
        remarks
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

    /// What is said by segments that carry little: probes, their answers, windows, ACKs once more.
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
        if way.next.is_some_and(|next| before(next, first)) && !flags.rst {
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
            // The probe that Linux sends into a window of zero has the form of a keep-alive.
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

    /// A segment without payload at the place where the next byte would be.
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
            // Some receivers take the one byte all the same.
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
        let (true, Some(unbroken), Some(next)) = (packet.flags.ack, other.unbroken, other.next)
        else {
            return;
        };
        if before(unbroken, packet.acknowledgement) {
            remarks.push(Remark::AckOfUnseen);
            // Said once of each gap.
            other.unbroken = Some(later(next, packet.acknowledgement));
        }
    }

    /// Whether a segment that takes numbers has taken its place before, or comes late.
    fn sent_again(&self, own: usize, peer: usize, segment: &Segment, remarks: &mut Vec<Remark>) {
        let (way, other, packet) = (&self.ways[own], &self.ways[peer], &segment.packet);
        let (first, behind) = (packet.sequence, end_of(packet));
        let Some(next) = way.next.filter(|next| before(first, *next)) else {
            return;
        };
        // It begins with the byte of a zero-window probe, and goes on.
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
    /// Ranges were acknowledged beyond a gap, and this segment lies in the gap.
    fn misses(&self, first: u32, behind: u32) -> bool {
        let holds = |&(from, to): &(u32, u32)| at_most(from, first) && at_most(behind, to);
        let is_beyond = (self.acknowledgement).is_some_and(|it| at_most(it, first));
        is_beyond && !self.sacked.is_empty() && !self.sacked.iter().any(holds)
    }

    fn goes_by(&mut self, packet: &Packet, probe: Probe) {
        self.last = probe;
        let behind = end_of(packet);
        // A probe into a window of zero is most likely not taken; its byte comes again.
        if probe != Probe::ZeroWindow && !packet.flags.rst {
            if self.next.is_none_or(|next| before(next, behind)) {
                self.next = Some(behind);
                self.furthest_ns = packet.at_ns;
            }
            if self.unbroken.is_none_or(|it| at_most(packet.sequence, it)) {
                self.unbroken = Some(self.unbroken.map_or(behind, |it| later(it, behind)));
            }
        }
        if packet.flags.rst || !packet.flags.ack {
            return;
        }
        let again = self.acknowledgement == Some(packet.acknowledgement);
        let is_bare = length(packet) == 0 && self.window == Some(packet.window);
        if !(again && is_bare) {
            self.duplicates = 0;
        }
        self.acknowledgement = Some(packet.acknowledgement);
        self.acknowledged_ns = packet.at_ns;
        self.window = Some(packet.window);
        self.sacked.clear();
        for option in &packet.options {
            if let TcpOption::Sack(ranges) = option {
                self.sacked.extend(ranges);
            }
        }
    }

    /// A byte was taken that was held for one that is not.
    fn advance_to(&mut self, number: u32) {
        self.next = self.next.map(|next| later(next, number));
        self.unbroken = self.unbroken.map(|unbroken| later(unbroken, number));
    }
}
