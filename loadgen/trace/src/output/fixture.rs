//! Invented stories, for the tests of the library and of the page.
//!
//! The figures resemble those of a trace on loopback.

use std::net::SocketAddr;

use trace::model::{
    Endpoints, Flags, Holder, Info, Packet, Side, Snapshot, Socket, State, TcpOption, Timer,
};
use trace::story::{
    CallLine, Connection, Ending, EndingKind, Event, Happening, Origin, Part, Phase, PhaseKind,
    Remark, Segment, StateChange, Story,
};

use Side::{Client, Server};

/// The heading above the stories.
pub(crate) fn heading() -> trace::output::Heading {
    trace::output::Heading {
        title: "One request, seen whole".to_owned(),
        target: "iterative at http://127.0.0.1:8000/".to_owned(),
        lines: vec!["loadgen trace iterative, on Linux 6.18".to_owned()],
    }
}

/// The addresses of a connection from port 40000 + `number`.
fn endpoints(number: u16) -> Endpoints {
    Endpoints {
        client: SocketAddr::from(([127, 0, 0, 1], 40_000 + number)),
        server: SocketAddr::from(([127, 0, 0, 1], 8000)),
    }
}

const ISN_CLIENT: u32 = 3_053_812_901;
const ISN_SERVER: u32 = 905_224_816;

/// Writes the events of a connection, each a little later than the one before.
struct Teller {
    endpoints: Endpoints,
    at_ns: u64,
    events: Vec<Event>,
    phases: Vec<Phase>,
    states: Vec<StateChange>,
}

impl Teller {
    fn new(number: u16, at_us: u64) -> Self {
        Teller {
            endpoints: endpoints(number),
            at_ns: at_us * 1000,
            events: Vec::new(),
            phases: Vec::new(),
            states: Vec::new(),
        }
    }

    fn event(&mut self, what: Happening) -> &mut Self {
        let at_ns = self.at_ns;
        self.events.push(Event {
            at_ns,
            what,
            why: None,
        });
        self.at_ns += 3_200;
        self
    }

    /// Time of the previous event.
    fn why(&mut self, why: &str) -> &mut Self {
        assert!(why.chars().count() <= 100, "{why}");
        self.events.last_mut().expect("there is one").why = Some(why.to_owned());
        self
    }

    fn wait_us(&mut self, us: u64) -> &mut Self {
        self.at_ns += us * 1000;
        self
    }

    fn call(
        &mut self,
        side: Side,
        name: &'static str,
        arguments: &str,
        (part, result): (Part, Option<&str>),
    ) -> &mut Self {
        self.event(Happening::Call(CallLine {
            side,
            tid: if side == Client { 4100 } else { 4242 },
            name,
            arguments: arguments.to_owned(),
            part,
            result: result.map(str::to_owned),
            took_ns: result.map(|_| 2_900),
            peer: None,
        }))
    }

    fn state(&mut self, side: Side, old: State, new: State, origin: Origin) -> &mut Self {
        let change = StateChange {
            at_ns: self.at_ns,
            side,
            old,
            new,
            origin,
        };
        self.states.push(change);
        self.event(Happening::State(change))
    }

    /// `flags` in tcpdump's notation; `http` is the first line of the payload.
    fn segment(
        &mut self,
        from: Side,
        flags: &str,
        sequence: (u32, u32),
        acknowledgement: Option<u32>,
        http: Option<&str>,
    ) -> &mut Self {
        let has = |flag: char| flags.contains(flag);
        let flags = Flags {
            fin: has('F'),
            syn: has('S'),
            rst: has('R'),
            psh: has('P'),
            ack: has('.'),
            ..Flags::default()
        };
        let clock = u32::try_from(self.at_ns / 1_000_000).unwrap_or(u32::MAX);
        let timestamps = TcpOption::Timestamps {
            value: 1_200_417_003 + clock,
            echo: if flags.ack { 1_200_417_003 } else { 0 },
        };
        let options = match (flags.syn, flags.rst) {
            (_, true) => Vec::new(),
            (true, _) => vec![
                TcpOption::MaximumSegmentSize(65_495),
                TcpOption::SackPermitted,
                timestamps,
                TcpOption::Nop,
                TcpOption::WindowScale(7),
            ],
            _ => vec![TcpOption::Nop, TcpOption::Nop, timestamps],
        };
        let Endpoints { client, server } = self.endpoints;
        let (source, destination, isn, isn_of_peer) = match from {
            Client => (client, server, ISN_CLIENT, ISN_SERVER),
            Server => (server, client, ISN_SERVER, ISN_CLIENT),
        };
        let header_bytes = if flags.syn { 60 } else { 52 };
        let payload_bytes = match flags.syn || flags.fin {
            true => 0,
            false => sequence.1 - sequence.0,
        };
        let window = if flags.syn { 65_495 } else { 512 };
        let packet = Packet {
            at_ns: self.at_ns,
            interface: Some("lo".to_owned()),
            source,
            destination,
            identification: None,
            hops: 64,
            ip_bytes: header_bytes + payload_bytes,
            flags,
            sequence: if flags.syn {
                sequence.0
            } else {
                isn.wrapping_add(sequence.0)
            },
            acknowledgement: match acknowledgement {
                None => 0,
                Some(number) if number > ISN_CLIENT => number,
                Some(number) => number + isn_of_peer,
            },
            window,
            options,
            malformed_options: false,
            payload_bytes,
            payload: http.unwrap_or_default().as_bytes().to_vec(),
        };
        self.event(Happening::Segment(Segment {
            from,
            window_bytes: if flags.syn {
                65_495
            } else {
                u32::from(window) << 7
            },
            packet,
            sequence,
            acknowledgement,
            retransmission: false,
            copies: 0,
            remarks: Vec::new(),
            http: http.map(str::to_owned),
        }))
    }

    /// Sends the previous segment once more.
    fn again(&mut self) -> &mut Self {
        let mut event = self.events.last().expect("there is one").clone();
        event.at_ns = self.at_ns;
        if let Happening::Segment(segment) = &mut event.what {
            segment.retransmission = true;
            segment.remarks = vec![Remark::Retransmission];
            segment.packet.at_ns = self.at_ns;
        }
        self.events.push(event);
        self.at_ns += 3_200;
        self
    }

    fn sockets(&mut self, moment: &'static str, sockets: Vec<Socket>) -> &mut Self {
        let at_ns = self.at_ns;
        self.event(Happening::Sockets(Snapshot {
            at_ns,
            moment,
            sockets,
        }))
    }

    fn phase(&mut self, kind: PhaseKind, heading: &str, explanation: &str) -> &mut Self {
        self.phases.push(Phase {
            kind,
            heading: heading.to_owned(),
            explanation: explanation.to_owned(),
            events: std::mem::take(&mut self.events),
        });
        self
    }

    fn end(&mut self, kind: EndingKind, explanation: &str) -> Connection {
        assert!(self.events.is_empty(), "every event has a phase");
        Connection {
            endpoints: self.endpoints,
            phases: std::mem::take(&mut self.phases),
            ending: Ending {
                kind,
                explanation: explanation.to_owned(),
            },
            states: std::mem::take(&mut self.states),
            lacks_times: false,
        }
    }
}

fn whole(result: &str) -> (Part, Option<&str>) {
    (Part::Whole, Some(result))
}

fn leaves(result: &str) -> (Part, Option<&str>) {
    (Part::Leave, Some(result))
}

const ENTERS: (Part, Option<&str>) = (Part::Enter, None);

fn holder(command: &str, pid: u32, fd: i32) -> Vec<Holder> {
    vec![Holder {
        command: command.to_owned(),
        pid,
        fd,
    }]
}

fn listener(waiting: u32) -> Socket {
    Socket {
        holders: holder("iterative", 4242, 3),
        local: endpoints(0).server,
        remote: None,
        state: State::Listen,
        receive_queue: waiting,
        send_queue: 4096,
        timer: None,
        inode: 71_002,
        info: None,
    }
}

const INFO: Info = Info {
    rtt_us: 23,
    rto_us: 204_000,
    congestion_window: 10,
    retransmitted: 0,
    mss_bytes: 32_768,
};

fn of_client(number: u16, state: State) -> Socket {
    let ends = endpoints(number);
    Socket {
        holders: holder("loadgen", 4100, 5),
        local: ends.client,
        remote: Some(ends.server),
        state,
        receive_queue: 0,
        send_queue: 0,
        timer: None,
        inode: 71_010,
        info: Some(INFO),
    }
}

fn of_server(number: u16, state: State) -> Socket {
    let ends = endpoints(number);
    Socket {
        holders: holder("iterative", 4242, 4),
        local: ends.server,
        remote: Some(ends.client),
        info: None,
        inode: 71_011,
        ..of_client(number, state)
    }
}

fn listening() -> Vec<Phase> {
    let mut teller = Teller::new(0, 0);
    teller
        .call(Server, "socket", "AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0", whole("3"))
        .call(Server, "bind", "3, 127.0.0.1:8000", whole("0"))
        .call(Server, "listen", "3, 4096", whole("0"))
        .why("from here on the kernel answers SYNs by itself")
        .state(Server, State::Closed, State::Listen, Origin::Kernel)
        .call(Server, "accept4", "3", ENTERS)
        .why("nobody is there yet: the server sleeps")
        .sockets("before", vec![listener(0)])
        .phase(
            PhaseKind::Listening,
            "The server listens",
            "The server asks for a socket, gives it the address 127.0.0.1:8000 and lets connections come: up to \
             4096 of them wait in the accept queue until it takes them.",
        );
    teller.phases
}

fn handshake(teller: &mut Teller) {
    teller
        .call(Client, "socket", "AF_INET, SOCK_STREAM, IPPROTO_TCP", whole("5"))
        .call(Client, "connect", "5, 127.0.0.1:8000", ENTERS)
        .state(Client, State::Closed, State::SynSent, Origin::Kernel)
        .segment(Client, "S", (ISN_CLIENT, ISN_CLIENT + 1), None, None)
        .why("connect sends it: the number from which the client counts, and what it can do")
        .state(Server, State::Listen, State::SynReceived, Origin::Derived)
        .segment(Server, "S.", (ISN_SERVER, ISN_SERVER + 1), Some(ISN_CLIENT + 1), None)
        .why("the kernel answers; the program knows nothing yet")
        .state(Client, State::SynSent, State::Established, Origin::Kernel)
        .segment(Client, ".", (1, 1), Some(1), None)
        .state(Server, State::SynReceived, State::Established, Origin::Kernel)
        .call(Client, "connect", "", leaves("0"))
        .call(Server, "accept4", "", leaves("4"))
        .why("it takes the connection from the accept queue")
        .sockets(
            "connected",
            vec![
                listener(0),
                of_client(0, State::Established),
                of_server(0, State::Established),
            ],
        )
        .phase(
            PhaseKind::Handshake,
            "The three-way handshake",
            "Both sides tell each other the number from which they count their bytes, and acknowledge the \
             other's: SYN, SYN+ACK, ACK. It took 9.6 µs.",
        );
}

fn exchange(teller: &mut Teller, sent: u32, got: u32) {
    let (request, response) = (sent + 78, got + 91);
    teller
        .call(Client, "sendto", "5, 78 bytes", whole("78"))
        .segment(
            Client,
            "P.",
            (sent, request),
            Some(got),
            Some("GET / HTTP/1.1"),
        )
        .segment(Server, ".", (got, got), Some(request), None)
        .why("the kernel acknowledges by itself, before the program has read")
        .call(Server, "recvfrom", "4, 4096 bytes", whole("78"))
        .phase(
            PhaseKind::Request,
            "The request",
            "78 bytes in one segment.",
        );
    teller
        .call(Server, "sendto", "4, 91 bytes", whole("91"))
        .segment(
            Server,
            "P.",
            (got, response),
            Some(request),
            Some("HTTP/1.1 200 OK"),
        )
        .segment(Client, ".", (request, request), Some(response), None)
        .call(Client, "recvfrom", "5, 65536 bytes", whole("91"))
        .event(Happening::Info(INFO))
        .phase(
            PhaseKind::Response,
            "The response",
            "91 bytes, head and body together, since the server calls send once.",
        );
}

fn close_by_server(teller: &mut Teller, sent: u32, got: u32) {
    teller
        .call(Server, "shutdown", "4, SHUT_WR", whole("0"))
        .state(Server, State::Established, State::FinWait1, Origin::Kernel)
        .segment(Server, "F.", (got, got + 1), Some(sent), None)
        .why("no more will come from the server; FIN counts as a byte")
        .state(Client, State::Established, State::CloseWait, Origin::Kernel)
        .segment(Client, ".", (sent, sent), Some(got + 1), None)
        .state(Server, State::FinWait1, State::FinWait2, Origin::Kernel)
        .call(Client, "recvfrom", "5, 65536 bytes", whole("0"))
        .why("0 bytes: the end of the stream")
        .call(Client, "close", "5", whole("0"))
        .state(Client, State::CloseWait, State::LastAck, Origin::Kernel)
        .segment(Client, "F.", (sent, sent + 1), Some(got + 1), None)
        .state(Server, State::FinWait2, State::TimeWait, Origin::Derived)
        .segment(Server, ".", (got + 1, got + 1), Some(sent + 1), None)
        .state(Client, State::LastAck, State::Closed, Origin::Kernel)
        .phase(
            PhaseKind::Close,
            "The four-way close",
            "Each side ends its own direction with a FIN, and acknowledges the other's. The server's came first.",
        );
    let waiting = Socket {
        holders: Vec::new(),
        timer: Some(Timer {
            kind: "time-wait",
            left_ms: 59_900,
            tries: 0,
        }),
        inode: 0,
        ..of_server(0, State::TimeWait)
    };
    teller
        .wait_us(100)
        .sockets("closed", vec![listener(0), waiting])
        .event(Happening::Silence(60_000_000_000))
        .wait_us(60_000_000)
        .state(Server, State::TimeWait, State::Closed, Origin::Derived)
        .why("60 s are over: a constant of Linux, whatever 2 MSL would be")
        .phase(
            PhaseKind::Aftermath,
            "TIME-WAIT",
            "The side that closed first keeps the pair of addresses for a while, so that a segment that comes late \
             can not reach a later connection.",
        );
}

const BY_SERVER: &str = "The server closed first, so it holds TIME-WAIT; nothing was lost.";

/// One request with all sources available; the server closes first.
pub(crate) fn normal() -> Story {
    let mut teller = Teller::new(0, 120);
    handshake(&mut teller);
    exchange(&mut teller, 1, 1);
    close_by_server(&mut teller, 79, 92);
    Story {
        origin_ns: 5_000_000_000,
        prologue: listening(),
        connections: vec![teller.end(EndingKind::Closed(Server), BY_SERVER)],
        others: Vec::new(),
        notes: Vec::new(),
    }
}

/// Two calls send head and body of the response; the client closes first.
pub(crate) fn two_writes() -> Story {
    let mut teller = Teller::new(0, 120);
    handshake(&mut teller);
    teller
        .call(Client, "sendto", "5, 78 bytes", whole("78"))
        .segment(Client, "P.", (1, 79), Some(1), Some("GET / HTTP/1.1"))
        .call(Server, "recvfrom", "4, 8192 bytes", whole("78"))
        .phase(
            PhaseKind::Request,
            "The request",
            "78 bytes in one segment.",
        );
    teller
        .call(Server, "sendto", "4, 155 bytes", whole("155"))
        .segment(Server, "P.", (1, 156), Some(79), Some("HTTP/1.0 200 OK"))
        .segment(Client, ".", (79, 79), Some(156), None)
        .call(Client, "recvfrom", "5, 65536 bytes", whole("155"))
        .call(Server, "sendto", "4, 11 bytes", whole("11"))
        .segment(Server, "P.", (156, 167), Some(79), None)
        .segment(Client, ".", (79, 79), Some(167), None)
        .call(Client, "recvfrom", "5, 65536 bytes", whole("11"))
        .phase(
            PhaseKind::Response,
            "The response",
            "166 bytes in two segments, since the server calls send twice.",
        );
    teller
        .call(Client, "close", "5", whole("0"))
        .state(Client, State::Established, State::FinWait1, Origin::Kernel)
        .segment(Client, "F.", (79, 80), Some(167), None)
        .state(Server, State::Established, State::CloseWait, Origin::Kernel)
        .call(Server, "close", "4", whole("0"))
        .state(Server, State::CloseWait, State::LastAck, Origin::Kernel)
        .segment(Server, "F.", (167, 168), Some(80), None)
        .state(Client, State::FinWait1, State::TimeWait, Origin::Derived)
        .segment(Client, ".", (80, 80), Some(168), None)
        .state(Server, State::LastAck, State::Closed, Origin::Kernel)
        .phase(
            PhaseKind::Close,
            "The close",
            "The server's FIN acknowledges the client's: three segments.",
        );
    Story {
        origin_ns: 5_000_000_000,
        prologue: listening(),
        connections: vec![teller.end(
            EndingKind::Closed(Client),
            "The client closed first, so it holds TIME-WAIT.",
        )],
        others: Vec::new(),
        notes: Vec::new(),
    }
}

/// Nobody listens.
pub(crate) fn refused() -> Story {
    let mut teller = Teller::new(0, 0);
    teller
        .call(Client, "connect", "5, 127.0.0.1:8000", ENTERS)
        .state(Client, State::Closed, State::SynSent, Origin::Kernel)
        .segment(Client, "S", (ISN_CLIENT, ISN_CLIENT + 1), None, None)
        .segment(Server, "R.", (0, 0), Some(ISN_CLIENT + 1), None)
        .why("no socket listens there, so the kernel of the other side refuses")
        .state(Client, State::SynSent, State::Closed, Origin::Kernel)
        .call(Client, "connect", "", leaves("-1 ECONNREFUSED"))
        .event(Happening::Moment(
            "connect failed: Connection refused".to_owned(),
        ))
        .phase(
            PhaseKind::Handshake,
            "No handshake",
            "The SYN was answered with a RST.",
        );
    Story {
        origin_ns: 7_000,
        prologue: Vec::new(),
        connections: vec![teller.end(
            EndingKind::Refused,
            "Refused: no socket listens at 127.0.0.1:8000, which the kernel there says with a RST.",
        )],
        others: Vec::new(),
        notes: Vec::new(),
    }
}

/// Three requests on one connection, the second retransmitted; and what the server does outside it.
pub(crate) fn kept_alive() -> Story {
    let mut teller = Teller::new(1, 0);
    handshake(&mut teller);
    exchange(&mut teller, 1, 1);
    teller
        .call(Client, "sendto", "5, 78 bytes", whole("78"))
        .segment(Client, "P.", (79, 157), Some(92), Some("GET / HTTP/1.1"))
        .wait_us(204_000)
        .again()
        .why("no acknowledgement came within the retransmission timeout of 204 ms")
        .phase(
            PhaseKind::Request,
            "The second request",
            "78 bytes, which had to be sent twice.",
        );
    exchange(&mut teller, 157, 183);
    let others = Teller::new(1, 300)
        .call(Server, "futex", "FUTEX_WAIT", whole("0"))
        .events
        .clone();
    Story {
        origin_ns: 7_000,
        prologue: listening(),
        connections: vec![teller.end(
            EndingKind::Open,
            "Nobody has closed it: it is kept for further requests.",
        )],
        others,
        notes: vec!["The trace lost 3 events of the server.".to_owned()],
    }
}

/// Two connections; the second begins before the first is over.
pub(crate) fn two_connections() -> Story {
    let mut story = normal();
    let mut teller = Teller::new(1, 150);
    handshake(&mut teller);
    exchange(&mut teller, 1, 1);
    teller
        .call(Server, "close", "4", whole("0"))
        .segment(Server, "R.", (92, 92), Some(79), None)
        .why("close with bytes that nobody has read sends a RST")
        .state(Server, State::Established, State::Closed, Origin::Kernel)
        .state(Client, State::Established, State::Closed, Origin::Kernel)
        .call(Client, "recvfrom", "5, 65536 bytes", whole("-1 ECONNRESET"))
        .phase(PhaseKind::Close, "A reset", "There is no FIN.");
    story.connections.push(teller.end(
        EndingKind::Reset(Server),
        "The server reset the connection.",
    ));
    story
}

/// What can be seen without privileges: the client's own notes and the sockets. Some fields contain
/// text that a stranger may have written.
pub(crate) fn unprivileged() -> Story {
    let mut teller = Teller::new(0, 0);
    let mut moment = |text: &str| {
        teller.event(Happening::Moment(text.to_owned()));
    };
    moment("asks for a connection");
    moment("has a connection");
    let mut hostile = of_server(0, State::Established);
    hostile.holders[0].command = "<script>alert(1)</script>\u{1b}[31m".to_owned();
    teller
        .sockets(
            "connected",
            vec![listener(2), of_client(0, State::Established), hostile],
        )
        .phase(
            PhaseKind::Handshake,
            "The three-way handshake",
            "connect returned after 41.0 µs.",
        );
    teller
        .event(Happening::Moment("sent 78 bytes".to_owned()))
        .event(Happening::Info(INFO))
        .phase(PhaseKind::Request, "The request", "78 bytes.");
    teller
        .event(Happening::Moment(
            "the answer is complete: HTTP/1.1 200 <script>alert(2)</script>; # \u{1b}[2J"
                .to_owned(),
        ))
        .phase(PhaseKind::Response, "The response", "91 bytes.");
    Story {
        origin_ns: 7_000,
        prologue: Vec::new(),
        connections: vec![teller.end(EndingKind::Unknown, "Without packets nobody knows who closed first.")],
        others: Vec::new(),
        notes: vec![
            "As root, or with CAP_NET_RAW and CAP_PERFMON, this would also show every packet, every change \
             of state and the system calls of both programs."
                .to_owned(),
        ],
    }
}

/// All stories, with their names.
pub(crate) fn all() -> Vec<(&'static str, Story)> {
    vec![
        ("normal", normal()),
        ("two-writes", two_writes()),
        ("refused", refused()),
        ("kept-alive", kept_alive()),
        ("two-connections", two_connections()),
        ("unprivileged", unprivileged()),
    ]
}
