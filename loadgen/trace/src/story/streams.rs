//! The bytes of each direction of a connection, in order, as far as they were captured.

use crate::model::Packet;

/// One direction. Positions count from its first byte and do not wrap.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    /// Sequence number of the first byte.
    base: u32,
    runs: Vec<Run>,
    /// Positions at which segments begin, sorted.
    starts: Vec<u64>,
    /// For each segment in capture order: its position, its length, and the number it acknowledges.
    segments: Vec<(u64, u64, Option<u32>)>,
    /// Bytes that went by, each counted once.
    bytes: u64,
    end: u64,
}

/// Consecutive bytes, either all captured or all missing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    at: u64,
    end: u64,
    what: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Bytes {
    Captured(Vec<u8>),
    Missing(Missing),
}

/// Why bytes that were sent are not in the capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// A segment was captured, but only its beginning (snap length).
    CutOff,
    /// No segment with these bytes was captured.
    Unseen,
}

/// The largest window (RFC 7323 §2.3): a segment farther ahead does not belong to this connection.
const WINDOW_MAX: u64 = 1 << 30;

impl Stream {
    /// Assembles one side's segments. The other side's acknowledgements reveal segments that were
    /// not captured, including a FIN.
    pub(super) fn of(packets: &[&Packet], peer: &[&Packet], unseen_fin: bool) -> Self {
        let carries = |packet: &&&Packet| packet.payload_bytes > 0 && !packet.flags.rst;
        let syn = packets.iter().find(|packet| packet.flags.syn);
        let base = match (syn, packets.iter().find(carries)) {
            (Some(syn), _) => syn.sequence.wrapping_add(1),
            // Segments may be out of order: the lowest number is the start.
            (None, Some(first)) => (packets.iter().filter(carries))
                .map(|packet| packet.sequence)
                .min_by_key(|number| number.wrapping_sub(first.sequence) as i32)
                .unwrap_or(first.sequence),
            (None, None) => return Self::default(),
        };
        let mut stream = Stream {
            base,
            ..Self::default()
        };
        let mut pieces: Vec<(u64, u64, &[u8])> = Vec::new();
        for packet in packets.iter().filter(carries) {
            let first = packet.sequence.wrapping_add(u32::from(packet.flags.syn));
            // The segment lies before the start, like a keep-alive probe.
            let Some(at) = stream.place(first) else {
                continue;
            };
            let bytes = u64::from(packet.payload_bytes);
            let acknowledges = packet.flags.ack.then_some(packet.acknowledgement);
            stream.segments.push((at, bytes, acknowledges));
            pieces.push((at, at + bytes, &packet.payload));
        }
        pieces.sort_by_key(|(at, ..)| *at);
        stream.starts = pieces.iter().map(|(at, ..)| *at).collect();
        stream.starts.dedup();
        stream.fill(&pieces);
        stream.end_by(packets, peer, unseen_fin);
        stream
    }

    /// Assembles the pieces. Where copies overlap, one may supply what another lacks.
    fn fill(&mut self, pieces: &[(u64, u64, &[u8])]) {
        // The captured bytes, each once.
        let mut captured: Vec<Run> = Vec::new();
        let mut next = 0;
        for (at, _, data) in pieces {
            let end = at + data.len() as u64;
            let from = next.max(*at);
            if end <= from {
                continue;
            }
            let fresh = &data[(from - at) as usize..];
            match captured.last_mut() {
                Some(Run {
                    end: last,
                    what: Bytes::Captured(bytes),
                    ..
                }) if *last == from => {
                    bytes.extend_from_slice(fresh);
                    *last = end;
                }
                _ => captured.push(Run {
                    at: from,
                    end,
                    what: Bytes::Captured(fresh.to_vec()),
                }),
            }
            next = end;
        }
        // The bytes that were sent, captured or not.
        let mut wire: Vec<(u64, u64)> = Vec::new();
        for &(at, end, _) in pieces {
            match wire.last_mut() {
                Some((_, last)) if at <= *last => *last = end.max(*last),
                _ => wire.push((at, end)),
            }
        }
        self.bytes = wire.iter().map(|(at, end)| end - at).sum();
        let mut captured = captured.into_iter().peekable();
        let mut at = 0;
        for (from, to) in wire {
            self.miss(at, from, Missing::Unseen);
            at = from;
            while let Some(run) = captured.next_if(|run| run.at < to) {
                self.miss(at, run.at, Missing::CutOff);
                at = run.end;
                self.runs.push(run);
            }
            self.miss(at, to, Missing::CutOff);
            at = to;
        }
        self.end = at;
    }

    fn miss(&mut self, at: u64, end: u64, why: Missing) {
        if at < end {
            let what = Bytes::Missing(why);
            self.runs.push(Run { at, end, what });
        }
    }

    /// Determines the stream's length from a FIN or from acknowledgements.
    fn end_by(&mut self, packets: &[&Packet], peer: &[&Packet], unseen_fin: bool) {
        let fins = packets.iter().filter(|it| it.flags.fin).filter_map(|it| {
            let after = it.sequence.wrapping_add(it.payload_bytes);
            self.place(after.wrapping_add(u32::from(it.flags.syn)))
        });
        let acknowledged = (peer.iter().filter(|it| it.flags.ack && !it.flags.rst))
            .filter_map(|it| self.place(it.acknowledgement))
            .filter(|place| *place <= self.end + WINDOW_MAX);
        let end = match fins.filter(|place| *place <= self.end + WINDOW_MAX).max() {
            Some(fin) => fin,
            // The last number may belong to a FIN that was not captured.
            None => match acknowledged.max() {
                Some(place) if unseen_fin => place.saturating_sub(1),
                Some(place) if place > self.end + 1 => place,
                _ => self.end,
            },
        };
        self.miss(self.end, end, Missing::Unseen);
        self.end = end.max(self.end);
    }

    /// The position of a sequence number; `None` if it lies before the start.
    pub(super) fn place(&self, number: u32) -> Option<u64> {
        let distance = number.wrapping_sub(self.base);
        // The candidate nearest to the captured range, since streams may exceed 4 GiB.
        let seen = self.segments.last().map_or(0, |(at, ..)| *at);
        let turns = seen & !u64::from(u32::MAX);
        let place = turns + u64::from(distance);
        const TURN: u64 = 1 << 32;
        match place {
            place if place + TURN / 2 < seen => Some(place + TURN),
            place if place > seen + TURN / 2 => place.checked_sub(TURN),
            place => Some(place),
        }
    }

    /// The sequence number of a position.
    pub(super) fn number(&self, at: u64) -> u32 {
        self.base.wrapping_add(at as u32)
    }

    /// Bytes that went by, each counted once.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The position after the last byte that was sent.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether some bytes are in no captured segment.
    pub(super) fn has_unseen(&self) -> bool {
        let is_unseen = |run: &Run| run.what == Bytes::Missing(Missing::Unseen);
        self.runs.iter().any(is_unseen)
    }

    fn run(&self, at: u64) -> Option<&Run> {
        let number = self.runs.partition_point(|run| run.end <= at);
        self.runs.get(number).filter(|run| run.at <= at)
    }

    /// The captured bytes from a position to the next gap.
    pub(super) fn text(&self, at: u64) -> &[u8] {
        match self.run(at) {
            Some(Run {
                at: begun,
                what: Bytes::Captured(bytes),
                ..
            }) => &bytes[(at - begun) as usize..],
            _ => &[],
        }
    }

    /// Why the text from a position goes no further; `None` at the end of the stream.
    pub(super) fn missing_after(&self, at: u64) -> Option<Missing> {
        let end = at + self.text(at).len() as u64;
        match self.run(end)?.what {
            Bytes::Missing(why) => Some(why),
            Bytes::Captured(_) => None,
        }
    }

    /// The next segment after a position whose text satisfies `begins`.
    pub(super) fn next_segment(&self, at: u64, begins: fn(&[u8]) -> bool) -> Option<u64> {
        let first = self.starts.partition_point(|start| *start <= at);
        let mut later = self.starts[first..].iter().copied();
        later.find(|start| begins(self.text(*start)))
    }

    /// What the first segment with this byte acknowledges.
    pub(super) fn acknowledges(&self, at: u64) -> Option<u32> {
        let holds = |(from, bytes, _): &&(u64, u64, _)| (*from..from + bytes).contains(&at);
        self.segments.iter().find(holds)?.2
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::Flags;

    /// A segment of `bytes` bytes, of which `payload` was captured.
    pub(in super::super) fn segment(sequence: u32, bytes: u32, payload: &[u8]) -> Packet {
        let end = SocketAddr::from(([127, 0, 0, 1], 8000));
        Packet {
            at_ns: 0,
            interface: None,
            source: end,
            destination: end,
            identification: None,
            hops: 64,
            ip_bytes: 40 + bytes,
            flags: Flags {
                ack: true,
                ..Flags::default()
            },
            sequence,
            acknowledgement: 0,
            window: 64,
            options: Vec::new(),
            malformed_options: false,
            payload_bytes: bytes,
            payload: payload.to_vec(),
        }
    }

    fn stream(packets: &[Packet]) -> Stream {
        Stream::of(&packets.iter().collect::<Vec<_>>(), &[], false)
    }

    fn whole(sequence: u32, payload: &[u8]) -> Packet {
        segment(sequence, payload.len() as u32, payload)
    }

    #[test]
    fn segments_in_any_order_are_one_text() {
        let pieces = [whole(10, b"abc"), whole(13, b"def"), whole(16, b"g")];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let stream = stream(&order.map(|at| pieces[at].clone()));
            assert_eq!(stream.text(0), b"abcdefg");
            assert_eq!((stream.bytes(), stream.end()), (7, 7));
        }
        // Sent again with other boundaries; around the end of the number range.
        let again = [
            whole(u32::MAX, b"abc"),
            whole(0, b"bcde"),
            whole(u32::MAX, b"a"),
        ];
        let stream = stream(&again);
        assert_eq!((stream.text(0), stream.bytes()), (&b"abcde"[..], 5));
        assert_eq!(stream.number(3), 2);
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        let stream = stream(&[
            segment(0, 10, b"abc"),
            whole(20, b"xyz"),
            segment(23, 5, b""),
        ]);
        assert_eq!(stream.text(0), b"abc");
        assert_eq!(stream.text(5), b"");
        assert_eq!(stream.text(21), b"yz");
        assert_eq!(stream.missing_after(0), Some(Missing::CutOff));
        assert_eq!(stream.missing_after(12), Some(Missing::Unseen));
        assert_eq!(stream.missing_after(20), Some(Missing::CutOff));
        assert_eq!(stream.missing_after(28), None);
        assert_eq!((stream.bytes(), stream.end()), (18, 28));
        assert!(stream.has_unseen());
        // One copy supplies what the other lacks.
        let filled = super::Stream::of(
            &[&segment(0, 5, b"ab"), &segment(0, 5, b"abcd")],
            &[],
            false,
        );
        assert_eq!(filled.text(0), b"abcd");
    }

    #[test]
    fn fins_and_acknowledgements_tell_of_what_was_not_captured() {
        let mut fin = whole(30, b"");
        fin.flags.fin = true;
        let ended = stream(&[whole(0, b"abc"), fin]);
        assert_eq!((ended.end(), ended.bytes()), (30, 3));
        assert!(ended.has_unseen());
        let acknowledged = |number: u32| {
            let mut ack = whole(0, b"");
            ack.acknowledgement = number;
            Stream::of(&[&whole(0, b"abc")], &[&ack], false).end()
        };
        assert_eq!(acknowledged(2), 3);
        assert_eq!(acknowledged(4), 3);
        assert_eq!(acknowledged(40), 40);
        assert_eq!(acknowledged(0x8000_0000), 3);
    }
}
