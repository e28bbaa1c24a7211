//! Relative sequence numbers, scaled windows and repeated bytes: turns packets into segments.

use std::net::SocketAddr;

use super::Segment;
use crate::model::{Flags, Packet, Side, TcpOption};

/// The numbering of one connection: turns its packets, in order, into segments.
#[derive(Debug, Clone)]
pub struct Relative {
    client: SocketAddr,
    /// The directions of client and server.
    directions: [Direction; 2],
}

/// What is known about the bytes of one direction.
#[derive(Debug, Clone, Default)]
struct Direction {
    /// The number from which relative ones count.
    base: Option<u32>,
    /// The number of the last SYN.
    syn: Option<u32>,
    /// The window scale in its SYN, if captured.
    scale: Option<Option<u8>>,
    seen: Seen,
    /// The highest acknowledgement from the other side.
    acknowledged: Option<u32>,
}

impl Relative {
    /// The numbering of the connection that this client opened.
    pub fn new(client: SocketAddr) -> Self {
        Self {
            client,
            directions: Default::default(),
        }
    }

    /// Numbers the next packet.
    pub fn segment(&mut self, packet: &Packet) -> Segment {
        let from = if packet.source == self.client {
            Side::Client
        } else {
            Side::Server
        };
        let (own, peer) = match from {
            Side::Client => (0, 1),
            Side::Server => (1, 0),
        };
        let Flags {
            fin, syn, rst, ack, ..
        } = packet.flags;
        if syn {
            self.begin(own, packet);
        }
        // tcpdump counts from the first segment with an ACK, and shows that one's absolute number.
        let (mut first, mut acknowledgement) = (packet.sequence, packet.acknowledgement);
        if ack {
            match (self.directions[own].base, self.directions[peer].base) {
                (Some(own_base), Some(peer_base)) if !syn => {
                    first = first.wrapping_sub(own_base);
                    acknowledgement = acknowledgement.wrapping_sub(peer_base);
                }
                _ => {
                    self.directions[own].base = Some(packet.sequence);
                    self.directions[peer].base = Some(packet.acknowledgement.wrapping_sub(1));
                }
            }
        }
        // The payload of a RST does not belong to the stream.
        let length = packet
            .payload_bytes
            .saturating_add(u32::from(syn))
            .saturating_add(u32::from(fin));
        let retransmission = !rst && self.directions[own].goes_by(packet, length);
        if ack {
            self.directions[peer].acknowledged = Some(packet.acknowledgement);
        }
        let end = first
            .wrapping_add(packet.payload_bytes)
            .wrapping_add(u32::from(syn))
            .wrapping_add(u32::from(fin));
        Segment {
            from,
            packet: packet.clone(),
            sequence: (first, end),
            acknowledgement: ack.then_some(acknowledgement),
            window_bytes: u32::from(packet.window) << self.window_shift(own, syn),
            retransmission,
            copies: 0,
            remarks: Vec::new(),
            http: first_line(&packet.payload),
        }
    }

    /// Restarts a direction at a new SYN. A SYN that opens a connection restarts the other
    /// direction too: the ports are reused.
    fn begin(&mut self, own: usize, packet: &Packet) {
        if self.directions[own].syn != Some(packet.sequence) {
            let renew = |direction: &mut Direction| {
                *direction = Direction {
                    base: direction.base,
                    ..Direction::default()
                };
            };
            renew(&mut self.directions[own]);
            if !packet.flags.ack {
                // A peer that opens at the same time also sends a SYN.
                let peer = &mut self.directions[1 - own];
                if peer.acknowledged.is_some() || peer.seen.edge != peer.seen.start + 1 {
                    renew(peer);
                }
            }
        }
        let offer = packet.options.iter().find_map(|option| match option {
            TcpOption::WindowScale(bits) => Some(*bits),
            _ => None,
        });
        self.directions[own].syn = Some(packet.sequence);
        self.directions[own].scale = Some(offer);
    }

    /// The shift of a window (RFC 7323 §2): only if both sides offered scaling, never for a SYN,
    /// and never more than 14.
    fn window_shift(&self, own: usize, syn: bool) -> u8 {
        match (self.directions[own].scale, self.directions[1 - own].scale) {
            (Some(Some(shift)), Some(Some(_))) if !syn => shift.min(14),
            _ => 0,
        }
    }
}

impl Direction {
    /// Records a segment; returns whether part of it went by before.
    fn goes_by(&mut self, packet: &Packet, length: u32) -> bool {
        if length == 0 {
            return false;
        }
        // A keep-alive probe may carry the last byte that the peer acknowledged (RFC 9293 §3.8.4).
        let Flags { fin, syn, .. } = packet.flags;
        let next = packet.sequence.wrapping_add(1);
        if length == 1 && !fin && !syn && self.acknowledged == Some(next) && self.seen.ends_at(next)
        {
            return false;
        }
        self.seen.add(packet.sequence, length)
    }
}

/// Which bytes of a direction went by. Positions are unwrapped sequence numbers.
#[derive(Debug, Clone, Default)]
struct Seen {
    start: i64,
    /// The position after the last byte seen; equal to the start if there is none.
    edge: i64,
    /// Gaps before the edge, sorted.
    holes: Vec<(i64, i64)>,
}

impl Seen {
    /// The limit of separate gaps, which bounds the memory whatever the capture contains.
    const HOLES_MAX: usize = 1024;

    /// Whether this number follows the last byte seen.
    fn ends_at(&self, number: u32) -> bool {
        self.edge as u32 == number
    }

    /// Adds bytes; returns whether some of them went by before.
    fn add(&mut self, number: u32, length: u32) -> bool {
        if self.edge == self.start {
            self.start = i64::from(number);
            self.edge = self.start + i64::from(length);
            return false;
        }
        // The nearest position with this number: windows are far smaller than half the number
        // range.
        let distance = number.wrapping_sub(self.edge as u32) as i32;
        let from = self.edge + i64::from(distance);
        let to = from + i64::from(length);
        let mut fresh = (to - self.edge.max(from)).max(0);
        // Bytes before the first seen: the capture began in the middle, and these arrived late.
        fresh += (self.start.min(to) - from).max(0);
        let mut holes = Vec::new();
        for &(hole_from, hole_to) in &self.holes {
            let filled = (hole_from.max(from), hole_to.min(to));
            if filled.0 >= filled.1 {
                holes.push((hole_from, hole_to));
                continue;
            }
            fresh += filled.1 - filled.0;
            if hole_from < filled.0 {
                holes.push((hole_from, filled.0));
            }
            if filled.1 < hole_to {
                holes.push((filled.1, hole_to));
            }
        }
        if from > self.edge {
            holes.push((self.edge, from));
        }
        if to < self.start {
            holes.insert(0, (to, self.start));
        }
        holes.truncate(Self::HOLES_MAX);
        self.holes = holes;
        self.start = self.start.min(from);
        self.edge = self.edge.max(to);
        fresh < i64::from(length)
    }
}

/// The first line of a payload that begins like an HTTP/1 message (RFC 9112 §3, §4), safe for a
/// terminal.
fn first_line(payload: &[u8]) -> Option<String> {
    const SHOWN_CHARS_MAX: usize = 200;
    let end = memchr::memchr(b'\n', payload);
    let line = &payload[..end.unwrap_or(payload.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_status = matches!(
        line,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b' ', a, b, c, rest @ ..]
            if [a, b, c].iter().all(|digit| digit.is_ascii_digit())
                && rest.first().is_none_or(|byte| *byte == b' ')
    );
    let is_request = token(line).is_some_and(|method| {
        let rest = &line[method.len()..];
        let is_method = method
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || b"-_".contains(byte));
        let whole = end.is_some()
            && memchr::memmem::rfind(rest, b" HTTP/").is_some_and(|at| at + 9 == rest.len());
        // A request line that continues in the next segment has no version yet.
        let begun = end.is_none() && METHODS.iter().any(|known| known.as_bytes() == method);
        is_method && rest.starts_with(b" ") && (whole || begun)
    });
    (is_status || is_request).then(|| {
        let text = String::from_utf8_lossy(line);
        let shown = text.chars().take(SHOWN_CHARS_MAX);
        let mut shown: String = shown
            .map(|c| {
                if c.is_control() {
                    char::REPLACEMENT_CHARACTER
                } else {
                    c
                }
            })
            .collect();
        if text.chars().count() > SHOWN_CHARS_MAX {
            shown.push('…');
        }
        shown
    })
}

/// The first word of a text.
pub(crate) fn token(text: &[u8]) -> Option<&[u8]> {
    const TOKEN_BYTES_MAX: usize = 128;
    let bytes = text
        .iter()
        .take_while(|byte| byte.is_ascii_graphic())
        .count();
    let ends_well = text
        .get(bytes)
        .is_none_or(|byte| matches!(byte, b' ' | b'\t'..=b'\r'));
    (1..TOKEN_BYTES_MAX)
        .contains(&bytes)
        .then_some(&text[..bytes])
        .filter(|_| ends_well)
}

/// The methods of RFC 9110 and WebDAV that tcpdump knows.
pub(crate) const METHODS: [&str; 38] = [
    "BASELINE-CONTROL",
    "BCOPY",
    "BDELETE",
    "BMOVE",
    "BPROPFIND",
    "BPROPPATCH",
    "CCM_POST",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCOL",
    "MKWORKSPACE",
    "MOVE",
    "NOTIFY",
    "OPTIONS",
    "POLL",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "REPORT",
    "RPC_CONNECT",
    "SEARCH",
    "SUBSCRIBE",
    "TRACE",
    "UNCHECKOUT",
    "UNLOCK",
    "UNSUBSCRIBE",
    "UPDATE",
    "VERSION-CONTROL",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tcpdump::line;

    const CLIENT: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40000);
    const SERVER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8000);

    /// A packet by notation: `C P. 100 7 5` is client, flags, sequence number, payload bytes,
    /// acknowledgement.
    fn packet(text: &str) -> Packet {
        let mut words = text.split(' ');
        let from_client = words.next() == Some("C");
        let letters = words.next().unwrap();
        let is_set = |letter| letters.contains(letter);
        let sequence = words.next().unwrap().parse().unwrap();
        let length = words.next().map_or(0, |bytes| bytes.parse().unwrap());
        let acknowledgement = words.next().map_or(0, |number| number.parse().unwrap());
        let (source, destination) = if from_client {
            (CLIENT, SERVER)
        } else {
            (SERVER, CLIENT)
        };
        Packet {
            at_ns: 0,
            interface: None,
            source,
            destination,
            identification: None,
            hops: 64,
            ip_bytes: 40 + length,
            flags: Flags {
                fin: is_set('F'),
                syn: is_set('S'),
                rst: is_set('R'),
                psh: is_set('P'),
                ack: is_set('.'),
                ..Flags::default()
            },
            sequence,
            acknowledgement,
            window: 512,
            options: vec![],
            malformed_options: false,
            payload_bytes: length,
            payload: vec![b'x'; length as usize],
        }
    }

    #[test]
    fn retransmissions() {
        // Each conversation, and which of its segments repeat bytes.
        let rows: [(&str, &[&str], &[usize]); 16] = [
            (
                "nothing twice",
                &[
                    "C S 9",
                    "S S. 5 0 10",
                    "C . 10 0 6",
                    "C P. 10 7 6",
                    "S . 6 0 17",
                ],
                &[],
            ),
            (
                "a SYN",
                &["C S 9", "C S 9", "C S 9", "S S. 5 0 10", "S S. 5 0 10"],
                &[1, 2, 4],
            ),
            ("a segment", &["C P. 10 7 6", "C P. 10 7 6"], &[1]),
            (
                "a part",
                &["C P. 10 7 6", "C P. 13 7 6", "C P. 20 1 6"],
                &[1],
            ),
            ("more than before", &["C P. 10 7 6", "C P. 10 9 6"], &[1]),
            (
                "a FIN",
                &["C F. 10 0 6", "C F. 10 0 6", "C F. 10 0 6"],
                &[1, 2],
            ),
            ("a FIN with data", &["C PF. 10 7 6", "C F. 17 0 6"], &[1]),
            (
                "what was overtaken",
                &["C . 10 1 6", "C . 12 1 6", "C . 11 1 6", "C . 11 1 6"],
                &[3],
            ),
            (
                "two gaps",
                &[
                    "C . 1 1", "C . 3 1", "C . 5 1", "C . 4 1", "C . 2 1", "C . 1 5",
                ],
                &[5],
            ),
            ("across a gap", &["C . 1 1", "C . 3 1", "C . 2 2"], &[2]),
            (
                "what came before all that",
                &["C . 10 5", "C . 2 3", "C . 5 5", "C . 4 1"],
                &[3],
            ),
            (
                "acknowledgements",
                &["C . 10 0 6", "C . 10 0 6", "C . 10 0 7"],
                &[],
            ),
            (
                "a keepalive, with and without a byte",
                &[
                    "C P. 10 7 6",
                    "S . 6 0 17",
                    "C . 16 0 6",
                    "C . 16 1 6",
                    "C . 16 1 6",
                ],
                &[],
            ),
            (
                "one byte that was not acknowledged",
                &["C P. 10 1 6", "C P. 10 1 6"],
                &[1],
            ),
            (
                "ports used again",
                &["C S 9", "S R. 0 0 10", "C S 3", "S S. 5 0 4", "C . 4 0 6"],
                &[],
            ),
            (
                "around the end of the numbers",
                &[
                    "C P. 4294967290 10 6",
                    "C P. 4 5 6",
                    "C P. 4294967290 10 6",
                    "C P. 9 5 6",
                ],
                &[2],
            ),
        ];
        for (what, conversation, expected) in rows {
            let mut numbering = Relative::new(CLIENT);
            let again: Vec<usize> = (conversation.iter().enumerate())
                .filter(|(_, text)| numbering.segment(&packet(text)).retransmission)
                .map(|(number, _)| number)
                .collect();
            assert_eq!(again, expected, "{what}");
        }
    }

    #[test]
    fn both_directions_are_kept_apart() {
        let mut numbering = Relative::new(CLIENT);
        for text in [
            "C P. 10 7 10",
            "S P. 10 7 17",
            "C P. 17 7 17",
            "S P. 17 7 24",
        ] {
            let segment = numbering.segment(&packet(text));
            assert!(!segment.retransmission);
            assert_eq!(
                segment.from,
                if text.starts_with('C') {
                    Side::Client
                } else {
                    Side::Server
                }
            );
        }
    }

    #[test]
    fn numbers_as_tcpdump_counts_them() {
        let mut numbering = Relative::new(CLIENT);
        let lines: Vec<String> = [
            "C S 305",
            "S S. 7000 0 306",
            "C . 306 0 7001",
            "C P. 306 77 7001",
            "S . 7001 0 383",
            "S FP. 7001 50 383",
            "C F. 383 0 7052",
            "S R 7052",
        ]
        .iter()
        .map(|text| line(&numbering.segment(&packet(text))))
        .collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        Flags [S], seq 305, win 512, length 0
        Flags [S.], seq 7000, ack 306, win 512, length 0
        Flags [.], ack 1, win 512, length 0
        Flags [P.], seq 1:78, ack 1, win 512, length 77
        Flags [.], ack 78, win 512, length 0
        Flags [FP.], seq 1:51, ack 78, win 512, length 50
        Flags [F.], seq 78, ack 52, win 512, length 0
        Flags [R], seq 7052, win 512, length 0
        ");
        let end = |text| Relative::new(CLIENT).segment(&packet(text)).sequence;
        assert_eq!(end("C S 305"), (305, 306));
        assert_eq!(end("C PF. 305 7"), (305, 313));
    }

    #[test]
    fn windows() {
        let syn = |text, scale: Option<u8>| {
            let mut packet = packet(text);
            packet.options.extend(scale.map(TcpOption::WindowScale));
            packet
        };
        let windows = |client: Option<u8>, server: Option<u8>| {
            let mut numbering = Relative::new(CLIENT);
            [
                syn("C S 1", client),
                syn("S S. 1 0 2", server),
                packet("C . 2 0 2"),
                packet("S . 2 0 2"),
            ]
            .map(|packet| numbering.segment(&packet).window_bytes)
        };
        assert_eq!(windows(Some(7), Some(1)), [512, 512, 65536, 1024]);
        assert_eq!(windows(Some(7), None), [512, 512, 512, 512]);
        assert_eq!(windows(None, Some(7)), [512, 512, 512, 512]);
        // A larger shift than RFC 7323 allows.
        assert_eq!(windows(Some(255), Some(0))[2], 512 << 14);
        // The handshake was not captured.
        assert_eq!(
            Relative::new(CLIENT)
                .segment(&packet("C . 2 0 2"))
                .window_bytes,
            512
        );
    }

    #[test]
    fn first_lines() {
        let rows: [(&[u8], Option<&str>); 20] = [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Some("GET / HTTP/1.1")),
            (b"GET / HTTP/1.1\n", Some("GET / HTTP/1.1")),
            (b"HTTP/1.1 200 OK\r\n\r\nhello", Some("HTTP/1.1 200 OK")),
            (b"HTTP/1.0 404\r\n", Some("HTTP/1.0 404")),
            (b"HTTP/1.1 200 O", Some("HTTP/1.1 200 O")),
            (b"OPTIONS * HTTP/1.1\r\n", Some("OPTIONS * HTTP/1.1")),
            (b"BREW /pot HTTP/1.1\r\n", Some("BREW /pot HTTP/1.1")),
            (
                b"GET /a/long/path/that/goes",
                Some("GET /a/long/path/that/goes"),
            ),
            (
                b"GET /\x1b[31m HTTP/1.1\r\n",
                Some("GET /\u{fffd}[31m HTTP/1.1"),
            ),
            (b"GET /\xff HTTP/1.1\r\n", Some("GET /\u{fffd} HTTP/1.1")),
            (b"", None),
            (b"hello world", None),
            (b"GET", None),
            (b"GETS it done\r\n", None),
            (b"BREW /pot", None),
            (b"GET / FTP/1.1\r\n", None),
            (b"HTTP/1.1 20\r\n", None),
            (b"HTTP/1.1 2000\r\n", None),
            (b"\r\nGET / HTTP/1.1\r\n", None),
            (b"\x16\x03\x01\x02\x00", None),
        ];
        for (payload, expected) in rows {
            let text = String::from_utf8_lossy(payload);
            assert_eq!(first_line(payload).as_deref(), expected, "{text}");
        }
        let long = [b"GET /", &[b'a'; 4000][..], b" HTTP/1.1\r\n"].concat();
        assert_eq!(first_line(&long).unwrap().chars().count(), 201);
    }

    #[test]
    fn gaps_are_forgotten_rather_than_filling_the_memory() {
        let mut seen = Seen::default();
        for number in 0..10_000 {
            assert!(!seen.add(number * 10, 1));
        }
        assert_eq!(seen.holes.len(), Seen::HOLES_MAX);
    }
}
