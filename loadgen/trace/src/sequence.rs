//! Sequence numbers and windows: they wrap, and they are scaled (RFC 9293 §3.4, RFC 7323 §2).

use super::model::{Packet, TcpOption};

/// Whether sequence number `a` comes before `b`. Numbers wrap, so the shorter distance decides.
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Whether sequence number `a` equals `b` or comes before it.
pub fn at_most(a: u32, b: u32) -> bool {
    !before(b, a)
}

/// The later of two sequence numbers.
pub fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

/// Sequence numbers that a segment occupies: its bytes, and one each for SYN and FIN.
pub fn length(packet: &Packet) -> u32 {
    let flags = packet.flags;
    (packet.payload_bytes)
        .wrapping_add(u32::from(flags.syn))
        .wrapping_add(u32::from(flags.fin))
}

/// The sequence number after a segment.
pub fn end_of(packet: &Packet) -> u32 {
    packet.sequence.wrapping_add(length(packet))
}

/// Whether a receiver that expects `next` and offers `window` accepts a segment: part of it, or its
/// position if it is empty, lies in the window (RFC 9293 §3.10.7.4, first check).
pub fn is_acceptable(first: u32, length: u32, next: u32, window: u32) -> bool {
    let within = |number: u32| number.wrapping_sub(next) < window;
    match (length, window) {
        (0, 0) => first == next,
        (0, _) => within(first),
        (_, 0) => false,
        (length, _) => within(first) || within(first.wrapping_add(length - 1)),
    }
}

/// How far a stream has arrived without a gap, and what has arrived beyond a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrived {
    edge: Option<u32>,
    /// Ranges beyond a gap; adjacent ranges are merged.
    beyond: Vec<(u32, u32)>,
}

impl Arrived {
    /// The sequence number up to which nothing is missing; `None` before anything has arrived.
    pub fn edge(&self) -> Option<u32> {
        self.edge
    }

    /// Records that these numbers arrived; the first range defines the start of the stream.
    pub fn arrives(&mut self, first: u32, behind: u32) {
        let edge = *self.edge.get_or_insert(first);
        if !before(edge, first) {
            self.advance_to(behind);
        } else if first != behind {
            match self.beyond.iter_mut().rfind(|it| it.1 == first) {
                Some(range) => range.1 = behind,
                None => self.beyond.push((first, behind)),
            }
        }
    }

    /// Everything before this number has arrived; ranges that become adjacent are merged.
    pub fn advance_to(&mut self, number: u32) {
        let mut edge = self.edge.map_or(number, |edge| later(edge, number));
        while let Some(at) = (self.beyond.iter())
            .position(|&(first, behind)| !before(edge, first) && before(edge, behind))
        {
            edge = self.beyond.swap_remove(at).1;
        }
        self.beyond.retain(|&(_, behind)| before(edge, behind));
        self.edge = Some(edge);
    }
}

/// What is known about window scaling in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scale {
    /// The SYN was not captured: true windows may be up to 16,384 times as large.
    #[default]
    Unknown,
    /// Windows are shifted by this many bits; 0 where one side did not offer scaling.
    Bits(u8),
}

impl Scale {
    /// The largest shift that RFC 7323 §2.3 allows.
    const BITS_MAX: u8 = 14;

    /// The scaling that two SYNs agree on; an outer `None` is a SYN that was not captured. Both
    /// must offer scaling, so one SYN without the option decides both directions.
    pub fn agreed(own: Option<Option<u8>>, peer: Option<Option<u8>>) -> Self {
        match (own, peer) {
            (Some(None), _) | (_, Some(None)) => Scale::Bits(0),
            (Some(Some(bits)), Some(Some(_))) => Scale::Bits(bits.min(Self::BITS_MAX)),
            _ => Scale::Unknown,
        }
    }

    /// The largest window possible when the scaling is unknown.
    pub fn largest_window_bytes(packet: &Packet) -> u32 {
        u32::from(packet.window) << Self::BITS_MAX
    }

    /// A window in bytes, if its scaling is known. The window of a SYN is never scaled.
    pub fn window_bytes(self, packet: &Packet) -> Option<u32> {
        let window = u32::from(packet.window);
        match self {
            _ if packet.flags.syn => Some(window),
            Scale::Bits(bits) => Some(window << bits),
            Scale::Unknown => None,
        }
    }
}

/// The shift that the sender of a SYN offers for its windows.
pub fn offered_scale(packet: &Packet) -> Option<u8> {
    packet.options.iter().find_map(|option| match option {
        TcpOption::WindowScale(bits) => Some(*bits),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap() {
        let rows = [
            (0, 1, true),
            (1, 0, false),
            (5, 5, false),
            (u32::MAX, 0, true),
            (0, u32::MAX, false),
            (u32::MAX - 10, 10, true),
            (0x7fff_ffff, 0xffff_fffe, true),
        ];
        for (a, b, expected) in rows {
            assert_eq!(before(a, b), expected, "{a} {b}");
            assert_eq!(at_most(a, b), expected || a == b, "{a} {b}");
            assert_eq!(later(a, b), if expected { b } else { a });
        }
    }

    /// The four rows of the table in RFC 9293 §3.10.7.4, also across the wrap.
    #[test]
    fn the_window_decides_what_is_acceptable() {
        for next in [1000, u32::MAX, u32::MAX - 2, 0] {
            let at = |offset: i64| next.wrapping_add(offset as u32);
            let rows = [
                (0, 0, 0, true),
                (1, 0, 0, false),
                (-1, 0, 0, false),
                (0, 0, 10, true),
                (9, 0, 10, true),
                (10, 0, 10, false),
                (-1, 0, 10, false),
                (0, 1, 0, false),
                (0, 5, 10, true),
                (-5, 5, 10, false),
                (-5, 6, 10, true),
                (9, 100, 10, true),
                (10, 100, 10, false),
            ];
            for (offset, length, window, expected) in rows {
                let is = is_acceptable(at(offset), length, next, window);
                assert_eq!(is, expected, "{offset} {length} {window} at {next}");
            }
        }
    }

    #[test]
    fn gaps_are_filled_in_any_order() {
        for start in [0, u32::MAX - 3] {
            let at = |offset: u32| start.wrapping_add(offset);
            let mut arrived = Arrived::default();
            let steps = [
                (0, 2, 2),
                (4, 6, 2),
                (6, 8, 2),
                (10, 12, 2),
                (1, 3, 3),
                (3, 4, 8),
                (8, 9, 9),
                (5, 6, 9),
                (9, 10, 12),
            ];
            for (first, behind, edge) in steps {
                arrived.arrives(at(first), at(behind));
                assert_eq!(
                    arrived.edge(),
                    Some(at(edge)),
                    "{first} to {behind} from {start}"
                );
            }
        }
    }

    #[test]
    fn both_sides_must_offer_scaling() {
        let rows = [
            (None, None, Scale::Unknown),
            (Some(Some(7)), None, Scale::Unknown),
            (None, Some(Some(7)), Scale::Unknown),
            (Some(None), None, Scale::Bits(0)),
            (None, Some(None), Scale::Bits(0)),
            (Some(Some(7)), Some(None), Scale::Bits(0)),
            (Some(Some(7)), Some(Some(3)), Scale::Bits(7)),
            (Some(Some(15)), Some(Some(3)), Scale::Bits(14)),
        ];
        for (own, peer, expected) in rows {
            assert_eq!(Scale::agreed(own, peer), expected, "{own:?} {peer:?}");
        }
    }
}
