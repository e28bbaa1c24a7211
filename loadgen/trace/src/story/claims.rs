//! What the story says, and does not say, about captures that are written segment by segment.

use std::net::SocketAddr;

use super::{Connection, EndingKind, Happening, Origin, Segment, Story, labels, tell};
use crate::model::Side::{Client, Server};
use crate::model::{Flags, IcmpError, Packet, Record, Side, Source, State, TcpOption, Undelivered};

const MS: u64 = 1_000_000;
/// Sequence numbers of the SYNs; the server's wrap soon.
const FIRST: [u32; 2] = [1000, u32::MAX - 20];
const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Modifies a talk or a packet.
type Change<T> = fn(&mut T);

fn ends() -> [SocketAddr; 2] {
    [
        SocketAddr::from(([10, 0, 0, 1], 40_000)),
        SocketAddr::from(([10, 0, 0, 2], 8000)),
    ]
}

/// Writes packets, a millisecond apart; numbers count from the SYN of each side.
#[derive(Clone)]
struct Talk {
    packets: Vec<Packet>,
    first: [u32; 2],
    next: [u32; 2],
    at_ns: u64,
}

impl Talk {
    fn new() -> Self {
        Talk {
            packets: Vec::new(),
            first: FIRST,
            next: [0; 2],
            at_ns: 1_700_000_000_000 * MS,
        }
    }

    /// `line` is `C` or `S` and flags in tcpdump's notation.
    fn at(&mut self, line: &str, sequence: u32, acknowledgement: u32, payload: &[u8]) -> &mut Self {
        let (who, letters) = line.split_once(' ').expect("a side and flags");
        let own = usize::from(who == "S");
        self.at_ns += MS;
        let flags = Flags {
            fin: letters.contains('F'),
            syn: letters.contains('S'),
            rst: letters.contains('R'),
            psh: letters.contains('P'),
            ack: letters.contains('.'),
            ..Flags::default()
        };
        let options = match flags.syn {
            true => vec![
                TcpOption::MaximumSegmentSize(1460),
                TcpOption::WindowScale(7),
            ],
            false => Vec::new(),
        };
        self.packets.push(Packet {
            at_ns: self.at_ns,
            interface: None,
            source: ends()[own],
            destination: ends()[1 - own],
            identification: Some(self.packets.len() as u16 + 1),
            hops: 64,
            ip_bytes: 40 + payload.len() as u32,
            flags,
            sequence: self.first[own].wrapping_add(sequence),
            acknowledgement: match flags.ack {
                true => self.first[1 - own].wrapping_add(acknowledgement),
                false => 0,
            },
            window: 502,
            options,
            malformed_options: false,
            payload_bytes: payload.len() as u32,
            payload: payload.to_vec(),
        });
        self
    }

    /// Adds the next segment of a side.
    fn send(&mut self, line: &str, payload: &[u8]) -> &mut Self {
        let own = usize::from(line.starts_with('S'));
        let letters = &line[2..];
        self.at(line, self.next[own], self.next[1 - own], payload);
        let takes = ['S', 'F']
            .iter()
            .filter(|it| letters.contains(**it))
            .count();
        self.next[own] += payload.len() as u32 + takes as u32;
        self
    }

    fn open(&mut self) -> &mut Self {
        self.send("C S", b"").send("S S.", b"").send("C .", b"")
    }

    fn exchange(&mut self) -> &mut Self {
        (self.send("C P.", GET).send("S .", b""))
            .send("S P.", HELLO)
            .send("C .", b"")
    }

    fn close(&mut self) -> &mut Self {
        self.send("C F.", b"").send("S F.", b"").send("C .", b"")
    }

    fn wait(&mut self, ns: u64) -> &mut Self {
        self.at_ns += ns;
        self
    }

    /// Modifies the last packet.
    fn but(&mut self, change: impl FnOnce(&mut Packet)) -> &mut Self {
        change(self.packets.last_mut().expect("there is one"));
        self
    }

    fn again(&mut self, number: usize) -> &mut Self {
        let mut packet = self.packets[number].clone();
        self.at_ns += MS;
        packet.at_ns = self.at_ns;
        packet.identification = Some(self.packets.len() as u16 + 1);
        self.packets.push(packet);
        self
    }

    fn tell(&self) -> Story {
        story(&self.packets)
    }
}

fn talk() -> Talk {
    Talk::new()
}

fn opened() -> Talk {
    let mut talk = talk();
    talk.open();
    talk
}

fn asked() -> Talk {
    let mut talk = opened();
    talk.exchange();
    talk
}

fn ended() -> Talk {
    let mut talk = asked();
    talk.close();
    talk
}

fn story(packets: &[Packet]) -> Story {
    let mut record = Record {
        packets: packets.to_vec(),
        ..Record::default()
    };
    record.sources.packets = Source::Seen;
    tell(&record)
}

fn segments(connection: &Connection) -> Vec<&Segment> {
    (connection.phases.iter())
        .flat_map(|phase| &phase.events)
        .filter_map(|event| match &event.what {
            Happening::Segment(segment) => Some(segment),
            _ => None,
        })
        .collect()
}

/// The only connection of the story.
#[track_caller]
fn only(story: &Story) -> &Connection {
    let [connection] = &story.connections[..] else {
        panic!("{} connections", story.connections.len())
    };
    connection
}

fn states(connection: &Connection, side: Side) -> Vec<State> {
    let own = connection.states.iter().filter(|it| it.side == side);
    own.map(|change| change.new).collect()
}

/// `number: labels` for each segment that has labels.
fn named(story: &Story) -> Vec<String> {
    let segments = story.connections.iter().flat_map(segments);
    (segments.enumerate())
        .filter(|(_, segment)| !segment.remarks.is_empty())
        .map(|(number, segment)| format!("{number}: {}", labels(&segment.remarks)))
        .collect()
}

#[test]
fn segments_are_called_by_their_names() {
    let rows: Vec<(&str, Talk, &[&str])> = vec![
        ("nothing to say", ended(), &[]),
        (
            "keep-alive probes without a byte, and with one that was acknowledged",
            {
                let mut talk = asked();
                let (client, server) = (talk.next[0], talk.next[1]);
                talk.wait(15_000 * MS)
                    .at("S .", server - 1, client, b"")
                    .at("C .", client, server, b"")
                    .wait(15_000 * MS)
                    .at("S .", server - 1, client, b"\0")
                    .at("C .", client, server, b"")
                    .close();
                talk
            },
            &[
                "7: keep-alive",
                "8: keep-alive ACK",
                "9: keep-alive",
                "10: keep-alive ACK",
            ],
        ),
        (
            "one byte that nobody has acknowledged comes again",
            {
                let mut talk = opened();
                talk.send("C P.", b"x").wait(300 * MS).again(3);
                talk
            },
            &["4: retransmission"],
        ),
        (
            "a window of zero, its probes and how it opens",
            {
                let mut talk = asked();
                talk.send("C .", b"").but(|it| it.window = 0);
                let (client, server) = (talk.next[0], talk.next[1]);
                talk.wait(200 * MS)
                    .at("S .", server, client, b"x")
                    .at("C .", client, server, b"")
                    .but(|it| it.window = 0)
                    .wait(400 * MS)
                    .at("S .", server - 1, client, b"")
                    .at("C .", client, server, b"")
                    .but(|it| it.window = 0)
                    .wait(400 * MS)
                    .at("C .", client, server, b"");
                talk
            },
            &[
                "7: zero window",
                "8: zero-window probe",
                "9: zero window, zero-window probe ACK",
                "10: keep-alive, zero-window probe",
                "11: zero window, zero-window probe ACK",
                "12: window update",
            ],
        ),
        (
            "the window is filled to the last byte",
            {
                let mut talk = opened();
                talk.but(|it| it.window = 8).send("S .", &[b'x'; 1024]);
                talk
            },
            &["3: window full"],
        ),
        (
            "duplicate ACKs, a fast retransmission, and a spurious one",
            {
                let mut talk = opened();
                talk.send("C P.", GET).send("S .", HELLO).send("C .", b"");
                let (client, server) = talk.next.into();
                talk.at("S .", server + 10, client, b"0123456789");
                for _ in 0..3 {
                    talk.at("C .", client, server, b"");
                }
                talk.at("S .", server, client, b"0123456789")
                    .at("C .", client, server + 20, b"")
                    .wait(300 * MS)
                    .at("S .", server, client, b"0123456789");
                talk
            },
            &[
                "6: previous segment not captured",
                "7: duplicate ACK 1",
                "8: duplicate ACK 2",
                "9: duplicate ACK 3",
                "10: fast retransmission",
                "12: spurious retransmission",
            ],
        ),
        (
            "segments overtake each other",
            {
                let mut talk = opened();
                let next = talk.next[0];
                talk.at("C .", next + 5, 1, b"world")
                    .but(|it| it.at_ns -= MS)
                    .at("C P.", next, 1, b"hello")
                    .but(|it| it.at_ns -= 2 * MS - 1000);
                talk
            },
            &["3: previous segment not captured", "4: out of order"],
        ),
        (
            "an acknowledgement of what was not captured, said once",
            {
                let mut talk = asked();
                let (client, server) = talk.next.into();
                talk.at("C .", client, server + 100, b"")
                    .at("S .", server + 100, client, b"more")
                    .at("C .", client, server + 104, b"");
                talk
            },
            &[
                "7: acknowledges a segment not captured",
                "8: previous segment not captured",
            ],
        ),
        (
            "a SYN, a SYN+ACK and a FIN are sent again",
            {
                let mut talk = talk();
                talk.send("C S", b"").wait(1000 * MS).again(0);
                talk.send("S S.", b"").wait(1000 * MS).again(2);
                talk.send("C .", b"")
                    .send("C F.", b"")
                    .wait(300 * MS)
                    .again(5);
                talk
            },
            &[
                "1: SYN retransmission",
                "3: SYN+ACK retransmission",
                "6: FIN retransmission",
            ],
        ),
        (
            "both open, and both close, at once",
            {
                let mut talk = talk();
                talk.send("C S", b"").at("S S", 0, 0, b"");
                talk.at("C S.", 0, 1, b"").at("S S.", 0, 1, b"");
                talk.next = [1, 1];
                talk.at("C F.", 1, 1, b"").at("S F.", 1, 1, b"");
                talk.at("C .", 2, 2, b"").at("S .", 2, 2, b"");
                talk
            },
            &[
                "1: simultaneous open",
                "2: retransmission",
                "3: retransmission",
                "5: simultaneous close",
            ],
        ),
        (
            "Fast Open, with data that is taken",
            {
                let mut talk = talk();
                let cookie = TcpOption::Other(34, vec![7; 8]);
                talk.send("C S", GET).but(|it| it.options.push(cookie));
                talk.send("S S.", b"").send("C .", b"");
                talk
            },
            &["0: Fast Open", "1: Fast Open accepted"],
        ),
        (
            "Fast Open, with data that is sent again",
            {
                let mut talk = talk();
                let cookie = TcpOption::Other(34, vec![7; 8]);
                talk.send("C S", GET).but(|it| it.options.push(cookie));
                talk.next[0] = 1;
                talk.send("S S.", b"").send("C P.", GET);
                talk
            },
            &[
                "0: Fast Open",
                "1: Fast Open not accepted",
                "2: retransmission",
            ],
        ),
        (
            "a SYN asks for a cookie",
            {
                let mut talk = talk();
                let cookie = TcpOption::Other(34, Vec::new());
                talk.send("C S", b"").but(|it| it.options.push(cookie));
                talk
            },
            &["0: Fast Open cookie request"],
        ),
        (
            "a SYN stands behind its SYN+ACK",
            {
                let mut talk = ended();
                let (a, b) = (talk.packets[0].at_ns, talk.packets[1].at_ns);
                talk.packets.swap(0, 1);
                (talk.packets[0].at_ns, talk.packets[1].at_ns) = (a, b);
                talk
            },
            &["1: late SYN"],
        ),
    ];
    for (name, talk, expected) in rows {
        assert_eq!(named(&talk.tell()), expected, "{name}");
    }
}

#[test]
fn what_is_old_or_foreign_changes_nothing() {
    let rows: Vec<(&str, Change<Talk>)> = vec![
        ("a FIN from before the SYN", |talk| {
            talk.at("S F.", 0, 30, b"")
                .but(|it| it.sequence = FIRST[1].wrapping_sub(5_000));
        }),
        ("a FIN beyond the window", |talk| {
            talk.at("C F.", 900_000, 1, b"");
        }),
        ("a RST beyond the window", |talk| {
            talk.at("C R", 900_000, 0, b"");
        }),
        ("a RST of bytes that were acknowledged", |talk| {
            talk.at("C R", 2, 0, b"");
        }),
        ("data that acknowledges what comes before the SYN", |talk| {
            let next = talk.next[0];
            talk.at("C P.", next, 0, b"foreign")
                .but(|it| it.acknowledgement -= 70_000);
        }),
        ("a SYN+ACK of another connection", |talk| {
            talk.at("S S.", 7_000, 1, b"");
        }),
    ];
    for (name, strange) in rows {
        let mut talk = asked();
        strange(&mut talk);
        let story = talk.close().tell();
        let connection = only(&story);
        assert_eq!(
            connection.ending.kind,
            EndingKind::Closed(Client),
            "{name}: {}",
            connection.ending.explanation
        );
        let plain = ended().tell();
        for side in [Client, Server] {
            assert_eq!(
                states(connection, side),
                states(only(&plain), side),
                "{name}"
            );
        }
        let outside = segments(connection)
            .iter()
            .filter(|it| !it.counts())
            .count();
        assert_eq!(outside, 1, "{name}: {:?}", named(&story));
        let why = &connection.ending.explanation;
        assert!(why.contains("lies outside the window"), "{name}: {why}");
    }
}

#[test]
fn resets_are_told_by_their_cause() {
    let rows: Vec<(&str, Talk, EndingKind, &str)> = vec![
        (
            "nobody listens",
            {
                let mut talk = talk();
                talk.send("C S", b"").at("S R.", 0, 1, b"");
                talk
            },
            EndingKind::Refused,
            "Nobody listens",
        ),
        (
            "bytes come after the close",
            {
                let mut talk = asked();
                talk.send("S F.", b"").send("C .", b"").send("C P.", GET);
                let number = talk.next[1];
                talk.at("S R", number, 0, b"");
                talk
            },
            EndingKind::Reset(Server),
            "had closed the connection already",
        ),
        (
            "a host that has started anew",
            {
                let mut talk = asked();
                talk.wait(60_000 * MS).send("C P.", GET);
                let number = talk.next[1];
                talk.at("S R", number, 0, b"");
                talk
            },
            EndingKind::Reset(Server),
            "half-open",
        ),
        (
            "unread bytes",
            {
                let mut talk = opened();
                talk.send("C P.", GET).send("S .", b"").send("S R.", b"");
                talk
            },
            EndingKind::Reset(Server),
            "unread in the receive buffer",
        ),
        (
            "a middlebox",
            {
                let mut talk = opened();
                talk.send("C P.", GET)
                    .send("S R.", b"")
                    .but(|it| it.hops = 117);
                talk
            },
            EndingKind::Reset(Server),
            "a middlebox",
        ),
        (
            "keep-alive probes without an answer",
            {
                let mut talk = asked();
                let (client, server) = talk.next.into();
                for _ in 0..3 {
                    talk.wait(15_000 * MS).at("S .", server - 1, client, b"");
                }
                talk.at("S R.", server, client, b"");
                talk
            },
            EndingKind::Reset(Server),
            "none of the last keep-alive probes",
        ),
        (
            "a RST that answers a SYN, and nothing else",
            {
                let mut talk = talk();
                talk.send("C S", b"")
                    .at("S R.", 0, 1, b"")
                    .but(|it| it.sequence = 0);
                talk.packets.remove(0);
                talk
            },
            EndingKind::Reset(Server),
            "most likely nobody listens",
        ),
        (
            "one side of a reset",
            {
                let mut talk = asked();
                talk.send("S R.", b"");
                talk.packets.retain(|it| it.source == ends()[1]);
                talk
            },
            EndingKind::Reset(Server),
            "segments were not captured",
        ),
    ];
    for (name, talk, kind, because) in rows {
        let story = talk.tell();
        let ending = &only(&story).ending;
        assert_eq!(ending.kind, kind, "{name}: {}", ending.explanation);
        assert!(
            ending.explanation.contains(because),
            "{name}: {}",
            ending.explanation
        );
    }
}

/// RFC 5961: the receiver sends a challenge ACK, and the connection continues.
#[test]
fn a_reset_that_is_not_the_next_is_challenged() {
    let mut talk = asked();
    let (client, server) = talk.next.into();
    talk.at("C R", client + 100, 0, b"")
        .at("S .", server, client, b"");
    let story = talk.exchange().close().tell();
    let connection = only(&story);
    assert_eq!(connection.ending.kind, EndingKind::Closed(Client));
    assert_eq!(
        named(&story),
        ["7: reset ignored", "8: duplicate ACK 1, challenge ACK"]
    );
    assert!(connection.ending.explanation.contains("RFC 5961"));
}

/// RFC 9293 figure 9: an old connection answers a SYN with an ACK; the client resets it and sends
/// the SYN again.
#[test]
fn a_half_open_connection_is_found_by_a_syn() {
    let mut talk = asked();
    let old = talk.next;
    talk.first = [FIRST[0] + 500_000, FIRST[1]];
    talk.at("C S", 0, 0, b"");
    let (first, acknowledged) = (FIRST[1].wrapping_add(old[1]), FIRST[0] + old[0]);
    talk.at("S .", old[1], 0, b"").but(|it| {
        it.sequence = first;
        it.acknowledgement = acknowledged;
    });
    talk.at("C R", 0, 0, b"")
        .but(|it| it.sequence = acknowledged);
    talk.wait(1000 * MS).at("C S", 0, 0, b"");
    talk.first[1] = 70_000;
    talk.at("S S.", 0, 1, b"").at("C .", 1, 1, b"");
    talk.next = [1, 1];
    let story = talk.exchange().close().tell();
    assert_eq!(story.connections.len(), 2);
    let second = &story.connections[1];
    assert_eq!(
        second.ending.kind,
        EndingKind::Closed(Client),
        "{}",
        second.ending.explanation
    );
    let names: Vec<String> = segments(second)
        .iter()
        .map(|it| labels(&it.remarks))
        .collect();
    assert_eq!(names[..2], ["ports reused", "challenge ACK"]);
}

#[test]
fn one_direction_tells_of_the_other() {
    use State::{
        CloseWait, Closed, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent,
    };
    let first = [SynSent, Established, FinWait1, FinWait2, State::TimeWait];
    let rows = [
        (
            Client,
            first.to_vec(),
            vec![SynReceived, Established, CloseWait, LastAck, Closed],
            "cover 43 bytes from the server and most likely its FIN",
        ),
        (
            Server,
            first.to_vec(),
            vec![SynReceived, Established, CloseWait, LastAck],
            "cover 18 bytes from the client and most likely its FIN",
        ),
    ];
    for (side, client, server, because) in rows {
        let mut talk = ended();
        talk.packets.retain(|it| it.source == ends()[side as usize]);
        let story = talk.tell();
        let connection = only(&story);
        let why = &connection.ending.explanation;
        assert!(why.contains(because), "{side:?}: {why}");
        assert!(!why.contains("has not closed"), "{side:?}: {why}");
        assert_eq!(connection.ending.kind, EndingKind::Closed(Client), "{why}");
        assert_eq!(states(connection, Client), client, "{side:?}");
        let of_server = states(connection, Server);
        assert_eq!(of_server, server, "{side:?}");
        let last = connection.states.last().expect("there are states");
        assert_eq!(last.origin, Origin::Likely, "{side:?}");
        let noted = story
            .notes
            .iter()
            .filter(|it| it.contains("in one direction only"));
        assert_eq!(noted.count(), 1, "{:?}", story.notes);
    }
}

/// If the other side and a FIN are missing, the ending is not known.
#[test]
fn what_was_not_captured_is_not_claimed() {
    let rows: Vec<(&str, Talk, EndingKind, &str)> = vec![
        (
            "one direction, closed by that side",
            {
                let mut talk = asked();
                talk.send("C F.", b"");
                talk.packets.retain(|it| it.source == ends()[0]);
                talk
            },
            EndingKind::Unknown,
            "is not known",
        ),
        (
            "one direction, in the midst",
            {
                let mut talk = asked();
                talk.packets.drain(..3);
                talk.packets.retain(|it| it.source == ends()[1]);
                talk
            },
            EndingKind::Unknown,
            "Only the server's side was captured",
        ),
        (
            "the capture ends with the FIN",
            {
                let mut talk = asked();
                talk.send("C F.", b"");
                talk
            },
            EndingKind::HalfClosed(Client),
            "is not known",
        ),
        (
            "the FIN was acknowledged, and nothing more",
            {
                let mut talk = asked();
                talk.send("C F.", b"").send("S .", b"");
                talk
            },
            EndingKind::HalfClosed(Client),
            "has not closed by the end of the record",
        ),
        (
            "one answer is missing, which an acknowledgement covers",
            {
                let mut talk = ended();
                talk.packets.remove(8);
                talk
            },
            EndingKind::Closed(Client),
            "The server's FIN was not captured",
        ),
        (
            "a window of zero at the end",
            {
                let mut talk = asked();
                talk.send("C .", b"").but(|it| it.window = 0);
                talk
            },
            EndingKind::Open,
            "the client's window was zero",
        ),
    ];
    for (name, talk, kind, because) in rows {
        let story = talk.tell();
        let ending = &only(&story).ending;
        assert_eq!(ending.kind, kind, "{name}: {}", ending.explanation);
        assert!(
            ending.explanation.contains(because),
            "{name}: {}",
            ending.explanation
        );
    }
}

#[test]
fn weaknesses_of_a_capture_are_said_once() {
    let rows: Vec<(&str, Talk, &str)> = vec![
        (
            "it begins late",
            {
                let mut talk = ended();
                talk.packets.drain(..3);
                talk
            },
            "its SYN is missing",
        ),
        (
            "segments are larger than the MSS",
            {
                let mut talk = opened();
                talk.send("C P.", &[b'x'; 4000]);
                talk
            },
            "1 segment is larger than the MSS",
        ),
        (
            "segments are missing",
            {
                let mut talk = ended();
                talk.packets.remove(3);
                talk
            },
            "Segments are missing in 1 place",
        ),
        (
            "the clock is set back in the handshake",
            {
                let mut talk = ended();
                talk.packets[1..]
                    .iter_mut()
                    .for_each(|it| it.at_ns -= 500 * MS);
                talk
            },
            "Timestamps go back once in the file, by up to 499 ms",
        ),
        (
            "the clock is set back before a long silence",
            {
                let mut talk = ended();
                talk.packets[4..]
                    .iter_mut()
                    .for_each(|it| it.at_ns -= 500 * MS);
                talk.packets[5..]
                    .iter_mut()
                    .for_each(|it| it.at_ns += 15_000 * MS);
                talk
            },
            "Timestamps go back once in the file",
        ),
        (
            "a packet is written late",
            {
                let mut talk = ended();
                talk.packets.swap(3, 4);
                talk
            },
            "1 packet stands after later ones in the file",
        ),
    ];
    for (name, talk, because) in rows {
        let story = talk.tell();
        let connection = only(&story);
        let noted = story.notes.iter().filter(|it| it.contains(because)).count();
        assert_eq!(noted, 1, "{name}: {:?}", story.notes);
        if talk.packets.len() > 4 {
            let ending = &connection.ending;
            assert_eq!(
                ending.kind,
                EndingKind::Closed(Client),
                "{name}: {}",
                ending.explanation
            );
        }
    }
    assert_eq!(ended().tell().notes, Vec::<String>::new());
}

/// A packet captured twice is one packet; a segment sent twice is two.
#[test]
fn copies_are_one_packet() {
    let plain = ended();
    let copy = |packet: &Packet, change: Change<Packet>| {
        let mut copy = packet.clone();
        copy.at_ns += 20_000;
        change(&mut copy);
        copy
    };
    let rows: Vec<(&str, Change<Packet>)> = vec![
        ("a mirror port", |_| {}),
        ("another interface", |it| {
            it.interface = Some("eth1".to_owned());
        }),
        ("behind a router", |it| it.hops -= 1),
        ("without identification", |it| it.identification = None),
        ("another interface whose clock is 40 ms behind", |it| {
            it.interface = Some("eth1".to_owned());
            it.at_ns -= 40 * MS;
        }),
    ];
    for (name, change) in rows {
        let mut packets = Vec::new();
        for packet in &plain.packets {
            let copied = copy(packet, change);
            let mut packet = packet.clone();
            packet.identification = copied.identification;
            packets.extend([packet, copied]);
        }
        let story = story(&packets);
        let connection = only(&story);
        let told = segments(connection);
        let copies: Vec<u32> = told.iter().map(|it| it.copies).collect();
        assert_eq!(copies, [1; 10], "{name}: {:?}", named(&story));
        assert!(
            told.iter().all(|it| it.remarks.is_empty()),
            "{name}: {:?}",
            named(&story)
        );
        assert_eq!(connection.ending.kind, EndingKind::Closed(Client), "{name}");
        let noted = story
            .notes
            .iter()
            .any(|it| it.contains("10 packets were captured a second time"));
        assert!(noted, "{name}: {:?}", story.notes);
    }
    let mut half = Vec::new();
    for (number, packet) in plain.packets.iter().enumerate() {
        half.push(packet.clone());
        half.extend((number % 2 == 0).then(|| copy(packet, |_| {})));
    }
    assert_eq!(
        segments(only(&story(&half))).len(),
        10,
        "half of them twice"
    );
    let mut sent_twice = opened();
    sent_twice.send("C P.", GET).wait(300 * MS).again(3);
    assert_eq!(segments(only(&sent_twice.tell())).len(), 5);
}

/// Duplicates packets as a bond of two interfaces does. Without an identification the two cannot be
/// told apart.
#[test]
fn a_segment_may_be_sent_again_by_another_interface() {
    for identification in [None, Some(0), Some(1)] {
        for again_after_ns in [20 * MS, 250 * MS] {
            let mut talk = opened();
            talk.send("C P.", GET).wait(again_after_ns).again(3);
            talk.but(|it| it.interface = Some("eth1".to_owned()));
            (talk.send("S .", b"").send("S P.", HELLO).send("C .", b"")).close();
            for packet in &mut talk.packets {
                packet.identification = match identification {
                    Some(1) => packet.identification,
                    other => other,
                };
            }
            let story = talk.tell();
            assert_eq!(named(&story), ["4: retransmission"], "{identification:?}");
            assert_eq!(story.notes, Vec::<String>::new(), "{identification:?}");
        }
    }
}

/// A second interface captures all packets a few milliseconds later.
#[test]
fn copies_without_identification_may_take_their_time() {
    let mut packets = Vec::new();
    for packet in ended().packets {
        let mut first = packet;
        first.identification = None;
        let mut copy = first.clone();
        copy.at_ns += 20 * MS;
        copy.interface = Some("eth1".to_owned());
        packets.extend([first, copy]);
    }
    packets.sort_by_key(|it| it.at_ns);
    let story = story(&packets);
    assert_eq!(segments(only(&story)).len(), 10);
    assert_eq!(named(&story), Vec::<String>::new());
}

#[test]
fn ports_are_used_again() {
    let mut talk = ended();
    let late = talk.packets[8].clone();
    talk.first = [FIRST[0] + 300_000, 700_000];
    talk.next = [0, 0];
    talk.open().exchange();
    // The FIN of the previous connection arrives late.
    talk.at("S F.", 0, 0, b"").but(|it| {
        it.sequence = late.sequence;
        it.acknowledgement = late.acknowledgement;
    });
    let story = talk.close().tell();
    assert_eq!(story.connections.len(), 2);
    for connection in &story.connections {
        assert_eq!(connection.ending.kind, EndingKind::Closed(Client));
    }
    assert_eq!(
        named(&story),
        ["10: ports reused", "17: outside the window: old or foreign"]
    );
}

#[test]
fn icmp_answers_a_syn() {
    use Undelivered::{
        FragmentationNeeded, HostUnreachable, ParameterProblem, PortUnreachable, Prohibited,
        ReassemblyTimeExceeded, TimeExceeded,
    };
    let rows = [
        (PortUnreachable, EndingKind::Unreachable, "ECONNREFUSED"),
        (HostUnreachable, EndingKind::Unreachable, "EHOSTUNREACH"),
        (Prohibited, EndingKind::Unreachable, "a filter rejects it"),
        (TimeExceeded, EndingKind::Unreachable, "a routing loop"),
        (
            ReassemblyTimeExceeded,
            EndingKind::Unreachable,
            "it came in fragments, and one of them was missing",
        ),
        (ParameterProblem, EndingKind::Unreachable, "EPROTO"),
        (FragmentationNeeded, EndingKind::NoAnswer, "exceeds the MTU"),
    ];
    for (why, kind, because) in rows {
        let mut talk = talk();
        talk.send("C S", b"").wait(1000 * MS).again(0);
        let [client, server] = ends();
        let record = Record {
            packets: talk.packets.clone(),
            errors: vec![IcmpError {
                at_ns: talk.packets[0].at_ns + MS,
                by: "10.0.0.254".parse().expect("an address"),
                why,
                source: client,
                destination: server,
                sequence: FIRST[0],
            }],
            ..Record::default()
        };
        let story = tell(&record);
        let connection = only(&story);
        let ending = &connection.ending;
        assert_eq!(ending.kind, kind, "{why:?}: {}", ending.explanation);
        assert!(
            ending.explanation.contains(because),
            "{why:?}: {}",
            ending.explanation
        );
        let events = connection.phases.iter().flat_map(|phase| &phase.events);
        let shown = events.filter(|it| matches!(it.what, Happening::Icmp(_)));
        assert_eq!(shown.count(), 1, "{why:?}");
    }
}

#[test]
fn icmp_about_a_number_that_is_not_under_way_decides_nothing() {
    let error = |at_ns: u64, sequence: u32| IcmpError {
        at_ns,
        by: "10.0.0.254".parse().expect("an address"),
        why: Undelivered::HostUnreachable,
        source: ends()[0],
        destination: ends()[1],
        sequence,
    };
    let mut asked = talk();
    asked.send("C S", b"").wait(1000 * MS).again(0);
    for (sequence, kind) in [
        (FIRST[0], EndingKind::Unreachable),
        (1, EndingKind::NoAnswer),
        (FIRST[0] - 1, EndingKind::NoAnswer),
        (FIRST[0] + 2, EndingKind::NoAnswer),
    ] {
        let record = Record {
            packets: asked.packets.clone(),
            errors: vec![error(asked.packets[0].at_ns + MS, sequence)],
            ..Record::default()
        };
        let story = tell(&record);
        let connection = only(&story);
        assert_eq!(connection.ending.kind, kind, "{sequence}");
        let events = connection.phases.iter().flat_map(|phase| &phase.events);
        let shown = events.filter(|it| matches!(it.what, Happening::Icmp(_)));
        let whys: Vec<bool> = shown
            .map(|it| {
                it.why
                    .as_ref()
                    .is_some_and(|why| why.starts_with("old or foreign"))
            })
            .collect();
        assert_eq!(whys, [kind == EndingKind::NoAnswer], "{sequence}");
    }
}

#[test]
fn silences_have_their_reasons() {
    let mut timed_out = opened();
    let timeout = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    timed_out.wait(10_000 * MS).send("S P.", timeout);
    let mut idle = opened();
    idle.exchange().wait(10_000 * MS).send("S P.", timeout);
    let mut slow = opened();
    (slow.send("C P.", GET).wait(2_000 * MS)).send("S P.", HELLO);
    let mut pipelined = opened();
    (pipelined.send("C P.", &GET.repeat(2)).send("S P.", HELLO))
        .wait(2_000 * MS)
        .send("S P.", HELLO);
    let mut rest = opened();
    (rest.send("C P.", GET).send("S P.", &HELLO[..40])).wait(2_000 * MS);
    rest.send("S P.", &HELLO[40..]);
    let mut closed = opened();
    (closed.send("C P.", GET).send("S .", &HELLO[..40])).send("C .", b"");
    closed.but(|it| it.window = 0);
    let mut probed = closed.clone();
    (probed.wait(2_000 * MS)).send("S .", &HELLO[40..41]);
    (closed.wait(2_000 * MS)).send("C .", b"");
    for (name, talk, expected) in [
        ("408", timed_out, "no request yet: the server sends first"),
        (
            "408 after an answer",
            idle,
            "the connection is idle: the server sends without a request",
        ),
        ("slow", slow, "the server takes this long to answer"),
        (
            "pipelined",
            pipelined,
            "the server takes this long to answer",
        ),
        (
            "in parts",
            rest,
            "the server pauses before it sends the rest",
        ),
        (
            "a closed window is probed",
            probed,
            "the receiver's window is closed: the sender must wait until it opens",
        ),
        (
            "a closed window opens",
            closed,
            "its window is closed: the buffer is full until the program reads",
        ),
    ] {
        let story = talk.tell();
        let events = (only(&story).phases.iter()).flat_map(|phase| &phase.events);
        let silences = events.filter(|it| matches!(it.what, Happening::Silence(_)));
        let whys: Vec<&str> = silences.filter_map(|it| it.why.as_deref()).collect();
        assert_eq!(whys, [expected], "{name}");
    }
}

#[test]
fn phases_are_headed_by_what_is_in_them() {
    let headings = |talk: &Talk| -> Vec<String> {
        let story = talk.tell();
        let phases = only(&story).phases.iter();
        phases.map(|it| it.heading.clone()).skip(1).collect()
    };
    let head = b"HEAD / HTTP/1.1\r\n\r\n";
    let mut pipelined = opened();
    pipelined.send("C P.", &[head, GET].concat());
    pipelined.send("S P.", &[&HELLO[..38], HELLO].concat());
    assert_eq!(
        headings(&pipelined),
        ["Requests 1 to 2 of 2", "Responses 1 to 2 of 2"]
    );
    let mut in_turn = opened();
    in_turn.exchange().exchange();
    assert_eq!(
        headings(&in_turn),
        [
            "Request 1 of 2",
            "Response 1 of 2",
            "Request 2 of 2",
            "Response 2 of 2"
        ]
    );
    let mut interim = opened();
    interim.send(
        "C P.",
        b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    (interim.send("S P.", b"HTTP/1.1 100 Continue\r\n\r\n")).send("C P.", b"hi");
    interim.send("S P.", HELLO);
    assert_eq!(
        headings(&interim),
        [
            "The request",
            "An interim response",
            "The request",
            "The response"
        ]
    );
    for (request, answer, what) in [
        (
            &b"CONNECT x:443 HTTP/1.1\r\n\r\n"[..],
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            "Bytes in the tunnel",
        ),
        (
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "Bytes of another protocol",
        ),
    ] {
        let mut talk = opened();
        (talk.send("C P.", request).send("S P.", answer)).send("C P.", GET);
        (talk.send("S P.", HELLO).send("C .", b"")).close();
        let of = |who| format!("{what}, from the {who}");
        let expected = ["The request", "The response", &of("client"), &of("server")];
        assert_eq!(headings(&talk)[..4], expected);
    }
}

#[test]
fn a_socket_that_is_connected_to_itself_has_no_other_side() {
    let mut talk = talk();
    talk.at("C S", 0, 0, b"").at("C S.", 0, 1, b"");
    (talk.at("C .", 1, 1, b"").at("C P.", 1, 1, b"hello")).at("C .", 6, 6, b"");
    talk.at("C F.", 6, 6, b"").at("C .", 7, 7, b"");
    for packet in &mut talk.packets {
        packet.destination = packet.source;
        if packet.flags.ack {
            let acknowledged = packet.acknowledgement.wrapping_sub(FIRST[1]);
            packet.acknowledgement = FIRST[0].wrapping_add(acknowledged);
        }
    }
    let story = talk.tell();
    let ending = &only(&story).ending;
    assert_eq!(ending.kind, EndingKind::Simultaneous);
    assert!(
        ending.explanation.contains("both ends are one socket"),
        "{}",
        ending.explanation
    );
    assert_eq!(story.notes, Vec::<String>::new());
    let events = only(&story).phases.iter().flat_map(|phase| &phase.events);
    let of_server =
        events.filter(|it| matches!(&it.what, Happening::State(it) if it.side == Server));
    assert_eq!(of_server.count(), 0);
}

#[test]
fn without_times_nothing_is_said_of_how_long_it_took() {
    let mut talk = opened();
    (talk.exchange().wait(500 * MS)).close();
    let [timed, timeless] = [false, true].map(|lacks_times| {
        let record = Record {
            packets: talk.packets.clone(),
            lacks_times,
            ..Record::default()
        };
        let story = tell(&record);
        let connection = only(&story);
        let events = connection.phases.iter().flat_map(|phase| &phase.events);
        let silences = events
            .filter(|it| matches!(it.what, Happening::Silence(_)))
            .count();
        let texts: Vec<&str> = (connection.phases.iter())
            .map(|phase| &phase.explanation[..])
            .filter(|text| text.contains(" ms"))
            .collect();
        (silences, texts.len())
    });
    assert_eq!((timed, timeless), ((1, 3), (0, 0)));
}

/// Port scanners send segments that no socket sends; the kernel alone answers.
#[test]
fn scans_meet_no_program() {
    let mut null = talk();
    null.at("C ", 0, 0, b"").at("S R.", 0, 0, b"");
    null.but(|it| it.sequence = 0);
    let mut xmas = talk();
    xmas.at("C FP", 0, 0, b"").at("S R.", 0, 1, b"");
    xmas.but(|it| it.sequence = 0);
    let mut syn = talk();
    (syn.send("C S", b"").send("S S.", b"")).at("C R", 1, 0, b"");
    for (name, talk, because) in [
        ("null", null, "where nobody listens (RFC 9293 §3.10.7.1)"),
        ("xmas", xmas, "where nobody listens (RFC 9293 §3.10.7.1)"),
        ("syn", syn, "programs that scan ports"),
    ] {
        let story = talk.tell();
        let text = &only(&story).ending.explanation;
        assert!(text.contains(because), "{name}: {text}");
        assert!(!text.contains("SO_LINGER"), "{name}: {text}");
    }
}
