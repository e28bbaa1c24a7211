//! Captures that tcpdump recorded (`fixtures/trace/README.md`) are explained correctly.

use std::path::Path;

use trace::model::{Record, Side, State};
use trace::output::tcpdump;
use trace::packets;
use trace::story::{Connection, EndingKind, Happening, PhaseKind, Segment, Story, tell};

use PhaseKind::{Aftermath, Close, Handshake, Request, Response};
use Side::{Client, Server};
use State::{
    CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, SynReceived, SynSent,
    TimeWait,
};

fn story(name: &str) -> Story {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/trace")
        .join(name)
        .with_extension("pcap");
    let capture = packets::read(&path).expect("the fixture can be read");
    let (packets, notes) = capture.packets();
    let count = packets.len();
    let story = tell(&Record {
        packets,
        notes,
        ..Record::default()
    });
    let told: usize = story.connections.iter().map(|it| segments(it).len()).sum();
    assert_eq!(told, count, "{name}: each segment once");
    assert_eq!(story.notes, Vec::<String>::new(), "{name}");
    story
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

fn states(connection: &Connection, side: Side) -> Vec<State> {
    let own = connection.states.iter().filter(|it| it.side == side);
    own.map(|change| change.new).collect()
}

/// What a fixture with one connection must come to.
struct Case {
    name: &'static str,
    ending: EndingKind,
    /// Words of its explanation.
    because: &'static str,
    client: &'static [State],
    server: &'static [State],
    phases: &'static [PhaseKind],
}

const FIRST: [State; 5] = [SynSent, Established, FinWait1, FinWait2, TimeWait];
const FIRST_SERVER: [State; 5] = [SynReceived, Established, FinWait1, FinWait2, TimeWait];
const LAST: [State; 5] = [SynSent, Established, CloseWait, LastAck, Closed];
const LAST_SERVER: [State; 5] = [SynReceived, Established, CloseWait, LastAck, Closed];

const CASES: [Case; 12] = [
    Case {
        name: "python-http-server",
        ending: EndingKind::Closed(Server),
        because: "The server closed first, so it holds TIME-WAIT",
        client: &LAST,
        server: &FIRST_SERVER,
        phases: &[Handshake, Request, Response, Close, Aftermath],
    },
    Case {
        name: "keep-alive",
        ending: EndingKind::Closed(Client),
        because: "The client closed first, so it holds TIME-WAIT",
        client: &FIRST,
        server: &LAST_SERVER,
        phases: &[
            Handshake, Request, Response, Request, Response, Request, Response, Close, Aftermath,
        ],
    },
    Case {
        name: "half-close",
        ending: EndingKind::Closed(Client),
        because: "51 bytes came from the server after its FIN",
        client: &FIRST,
        server: &LAST_SERVER,
        phases: &[Handshake, Request, Response, Close, Aftermath],
    },
    Case {
        name: "half-closed",
        ending: EndingKind::HalfClosed(Client),
        because: "The server stays in CLOSE-WAIT",
        client: &[SynSent, Established, FinWait1, FinWait2],
        server: &[SynReceived, Established, CloseWait],
        phases: &[Handshake, Request, Response],
    },
    Case {
        name: "simultaneous-close",
        ending: EndingKind::Simultaneous,
        because: "both hold TIME-WAIT",
        client: &[SynSent, Established, FinWait1, Closing, TimeWait],
        server: &[SynReceived, Established, FinWait1, Closing, TimeWait],
        phases: &[Handshake, Close, Aftermath],
    },
    Case {
        name: "abort",
        ending: EndingKind::Reset(Client),
        because: "SO_LINGER",
        client: &[SynSent, Established, Closed],
        server: &[SynReceived, Established, Closed],
        phases: &[Handshake, Request, Response, Close],
    },
    Case {
        name: "unread-data",
        ending: EndingKind::Reset(Server),
        because: "still unread in the receive buffer",
        client: &[SynSent, Established, Closed],
        server: &[SynReceived, Established, Closed],
        phases: &[Handshake, Request, Response, Close],
    },
    Case {
        name: "late-data",
        ending: EndingKind::Reset(Server),
        because: "closed the connection already when 40 bytes more came",
        client: &[SynSent, Established, CloseWait, Closed],
        server: &[SynReceived, Established, FinWait1, FinWait2, Closed],
        phases: &[Handshake, Request, Response, Close],
    },
    Case {
        name: "killed",
        ending: EndingKind::Closed(Server),
        because: "its head promises 100,000 bytes, but 400 bytes arrived. Most likely the server's process ended",
        client: &LAST,
        server: &FIRST_SERVER,
        phases: &[Handshake, Request, Response, Close, Aftermath],
    },
    Case {
        name: "silent",
        ending: EndingKind::Silent,
        because: "No response came for 1.50 s, and the client closed",
        client: &FIRST,
        server: &LAST_SERVER,
        phases: &[Handshake, Request, Close, Aftermath],
    },
    Case {
        name: "refused",
        ending: EndingKind::Refused,
        because: "Nobody listens at 127.0.0.1:8000",
        client: &[SynSent, Closed],
        server: &[],
        phases: &[Handshake],
    },
    Case {
        name: "no-answer",
        ending: EndingKind::NoAnswer,
        because: "2 SYNs within 1.01 s, and no answer",
        client: &[SynSent],
        server: &[],
        phases: &[Handshake],
    },
];

#[test]
fn recorded_connections_end_as_they_did() {
    for case in CASES {
        let story = story(case.name);
        let [connection] = &story.connections[..] else {
            panic!("{}: one connection", case.name)
        };
        assert_eq!(connection.endpoints.server.port(), 8000, "{}", case.name);
        assert_eq!(connection.ending.kind, case.ending, "{}", case.name);
        let why = &connection.ending.explanation;
        assert!(why.contains(case.because), "{}: {why}", case.name);
        assert_eq!(states(connection, Client), case.client, "{}", case.name);
        assert_eq!(states(connection, Server), case.server, "{}", case.name);
        let phases: Vec<PhaseKind> = connection.phases.iter().map(|it| it.kind).collect();
        assert_eq!(phases, case.phases, "{}", case.name);
    }
}

/// It speaks HTTP/1.0, writes head and body by two calls, and closes first.
#[test]
fn pythons_server_is_explained_line_by_line() {
    let story = story("python-http-server");
    let connection = &story.connections[0];
    let response = &connection.phases[2];
    let carry = |it: &&Segment| it.packet.payload_bytes > 0;
    let of_response: Vec<&Segment> = (response.events.iter())
        .filter_map(|event| match &event.what {
            Happening::Segment(segment) => Some(segment),
            _ => None,
        })
        .filter(carry)
        .collect();
    let [head, body] = of_response[..] else {
        panic!("the response has two segments")
    };
    assert_eq!(head.http.as_deref(), Some("HTTP/1.0 200 OK"));
    assert_eq!((head.from, head.sequence), (Server, (1, 186)));
    assert_eq!((body.from, body.sequence), (Server, (186, 198)));
    insta::assert_snapshot!(outline(&story));
}

/// The second SYN is dropped, sent again after 1 s, and answered then.
#[test]
fn a_full_accept_queue_drops_a_syn() {
    let story = story("accept-queue-full");
    let [first, second] = &story.connections[..] else {
        panic!("two connections")
    };
    let syns = |it: &Connection| {
        let syns = segments(it)
            .into_iter()
            .filter(|it| it.from == Client && it.packet.flags.syn);
        syns.count()
    };
    assert_eq!((syns(first), syns(second)), (1, 2));
    assert_eq!(states(second, Client), FIRST);
    assert_eq!(states(second, Server), LAST_SERVER);
    let received = second.states.iter().find(|it| it.new == SynReceived);
    let asked = second.states.iter().find(|it| it.new == SynSent);
    let waited_ns = received.expect("it was answered").at_ns - asked.expect("it asked").at_ns;
    assert!(
        waited_ns > 900_000_000,
        "the SYN that was dropped made no state"
    );
    insta::assert_snapshot!(outline(&story));
}

/// All text, without the segments themselves.
fn outline(story: &Story) -> String {
    let mut lines = Vec::new();
    for connection in &story.connections {
        for phase in &connection.phases {
            lines.push(format!("# {}\n{}", phase.heading, phase.explanation));
            for event in &phase.events {
                let what = match &event.what {
                    Happening::Segment(it) => tcpdump::line(it)
                        .split(", options")
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                    Happening::State(it) => format!("{} -> {}", it.old, it.new),
                    Happening::Silence(ns) => format!("({} ms)", ns / 1_000_000),
                    other => panic!("a file has no {other:?}"),
                };
                let side = match &event.what {
                    Happening::Segment(it) => format!("{:?}", it.from),
                    Happening::State(it) => format!("{:?}", it.side),
                    _ => String::new(),
                };
                let why = event
                    .why
                    .as_deref()
                    .map_or(String::new(), |it| format!("  | {it}"));
                lines.push(format!("{:>10} {side:6} {what}{why}", event.at_ns / 1000));
            }
        }
        lines.push(format!(
            "# Ending: {:?}\n{}",
            connection.ending.kind, connection.ending.explanation
        ));
    }
    lines.join("\n")
}
