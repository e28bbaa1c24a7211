//! Scenarios, and what is right to say of each: whatever tshark says, and without it.

use trace::model::Side::{Client, Server};

use super::builder::{Frame, GET, HELLO, MS, MSS, S, Talk, USUAL};
use super::wire::{Link, Magic, Order, Pcapng, Wrap, icmp_error, ip_packet, pcap, udp};

/// Makes a file of frames.
type Write = fn(&[Frame]) -> Vec<u8>;

/// A capture, and what is right to say of it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<Frame>,
    /// Makes a file of frames, where that is not a usual one.
    write: Option<Write>,
    /// Of the frames with any, in the words of [`super::tshark::NAMES`].
    pub(crate) remarks: Vec<(usize, &'static [&'static str])>,
    /// Names that tshark does not have, and that a frame must be given too.
    pub(crate) called: Vec<(usize, &'static str)>,
    /// Frames that carry a segment of which a reader says nothing, such as a copy of another.
    pub(crate) untold: Vec<usize>,
    /// How each connection ends, by the kinds of the JSON; nothing where another test looks at it.
    pub(crate) endings: &'static [&'static str],
    /// Kinds of the phases of the first connection.
    pub(crate) phases: &'static [&'static str],
    /// Words that one of the notes has.
    pub(crate) noted: &'static str,
}

impl Scenario {
    fn remark(mut self, frame: usize, names: &'static [&'static str]) -> Self {
        self.remarks.push((frame, names));
        self
    }

    fn called(mut self, frame: usize, name: &'static str) -> Self {
        self.called.push((frame, name));
        self
    }

    fn ends(mut self, endings: &'static [&'static str]) -> Self {
        self.endings = endings;
        self
    }

    fn phases(mut self, phases: &'static [&'static str]) -> Self {
        self.phases = phases;
        self
    }

    fn untold(mut self, frames: impl IntoIterator<Item = usize>) -> Self {
        self.untold.extend(frames);
        self
    }

    fn noted(mut self, words: &'static str) -> Self {
        self.noted = words;
        self
    }

    fn file(mut self, write: Write) -> Self {
        self.write = Some(write);
        self
    }

    /// These frames, all of them or not, in a file of its kind.
    pub(crate) fn written(&self, frames: &[Frame]) -> Vec<u8> {
        let usual =
            |frames: &[Frame]| pcap(frames, Link::Ethernet, Order::Little, Magic::Microseconds);
        self.write.unwrap_or(usual)(frames)
    }

    /// IPv4 and segments alone, in a usual file: it can share one with others.
    pub(crate) fn is_usual(&self) -> bool {
        let is_usual = |frame: &Frame| frame.segment().is_some_and(|it| it.source().is_ipv4());
        self.write.is_none() && self.frames.iter().all(is_usual)
    }

    /// What is right to say of this frame, counted from 1.
    pub(crate) fn remarks_of(&self, frame: usize) -> Vec<&'static str> {
        let of = self.remarks.iter().filter(|(number, _)| *number == frame);
        of.flat_map(|(_, names)| names.iter().copied()).collect()
    }
}

fn row(name: &'static str, talk: Talk) -> Scenario {
    Scenario {
        name,
        frames: talk.frames,
        write: None,
        remarks: Vec::new(),
        called: Vec::new(),
        untold: Vec::new(),
        endings: &[],
        phases: &[],
        noted: "",
    }
}

/// Of one that duplicate ACKs asked for.
const FAST: &[&str] = &["retransmission", "fast-retransmission"];
/// Of one that was acknowledged before.
const SPURIOUS: &[&str] = &["retransmission", "spurious-retransmission"];

/// A connection of ten frames.
fn usual() -> Talk {
    Talk::new().open().exchange().close(Client)
}

fn bytes(count: usize) -> Vec<u8> {
    vec![b'x'; count]
}

/// The head of an answer of `count` bytes, and so many of its bytes.
fn answer(count: usize, first: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n");
    [head.as_bytes(), &bytes(first)].concat()
}

/// An opened connection whose answer begins with a segment of 1,000 bytes: five frames, the next number of the
/// server is 1001.
fn downloading() -> Talk {
    let first = answer(5_959, 959);
    assert_eq!(first.len(), 1_000);
    Talk::new().open().client("P.", GET).server(".", &first)
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    [
        handshakes(),
        messages(),
        losses(),
        windows(),
        resets(),
        reuses(),
        numbers(),
        faults(),
        links(),
        wrappings(),
        files(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn handshakes() -> Vec<Scenario> {
    let syn = || Talk::new().options(USUAL).client("S", b"");
    vec![
        row("the client closes first", usual()).ends(&["closed"]),
        row(
            "the server closes first",
            Talk::new().open().exchange().close(Server),
        )
        .ends(&["closed"]),
        row(
            "IPv6",
            Talk::between("[2001:db8::1]:40000", "[2001:db8::2]:8000")
                .open()
                .exchange()
                .close(Client),
        )
        .ends(&["closed"]),
        row(
            "the last ACK of the handshake carries the request",
            (syn().options(USUAL).server("S.", b"").client("P.", GET))
                .server("P.", HELLO)
                .client("F.", b"")
                .server("F.", b"")
                .client(".", b""),
        )
        .ends(&["closed"]),
        row(
            "congestion notification is agreed upon",
            (Talk::new().options(USUAL).client("SEW", b""))
                .options(USUAL)
                .server("S.E", b"")
                .client(".", b"")
                .exchange()
                .close(Client),
        )
        .ends(&["closed"]),
        row(
            "a SYN is sent again",
            (syn()
                .wait(S)
                .again(1)
                .options(USUAL)
                .server("S.", b"")
                .client(".", b""))
            .exchange()
            .close(Client),
        )
        .called(2, "syn-retransmission")
        .remark(2, &["retransmission"])
        .ends(&["closed"]),
        row(
            "a SYN+ACK is sent again",
            (syn()
                .options(USUAL)
                .server("S.", b"")
                .wait(S)
                .again(2)
                .client(".", b""))
            .exchange()
            .close(Client),
        )
        .called(3, "syn-ack-retransmission")
        .remark(3, &["retransmission"])
        .ends(&["closed"]),
        row(
            "a SYN comes again behind its SYN+ACK",
            (syn()
                .options(USUAL)
                .server("S.", b"")
                .again(1)
                .client(".", b""))
            .exchange()
            .close(Client),
        )
        .called(3, "syn-retransmission")
        .remark(3, &["retransmission"])
        .ends(&["closed"]),
        row(
            "a SYN stands in the file behind its SYN+ACK",
            usual().swap_in_file(1, 2),
        )
        .ends(&["closed"]),
        row("a SYN is captured behind its SYN+ACK", usual().swap(1, 2))
            .called(2, "late-syn")
            .ends(&["closed"]),
        row(
            "a SYN is sent again with fewer options",
            (syn().wait(S).options(MSS).at(Client, 0, 0, "S", b""))
                .options(MSS)
                .server("S.", b"")
                .client(".", b"")
                .exchange()
                .close(Client),
        )
        .remark(2, &["retransmission"])
        .ends(&["closed"]),
        row("nobody listens", syn().server("R.", b""))
            .called(2, "refused")
            .ends(&["refused"]),
        row(
            "no answer to three SYNs",
            syn().wait(S).again(1).wait(2 * S).again(1),
        )
        .remark(2, &["retransmission"])
        .remark(3, &["retransmission"])
        .ends(&["no-answer"]),
        row("no answer to a single SYN", syn()).ends(&["unknown"]),
        row("ICMP says that the port is closed", {
            let about = syn().frames[0].packet();
            syn().other(icmp_error("10.0.0.2", 3, 3, &about))
        }),
        row("ICMP says that it is prohibited", {
            let about = syn().frames[0].packet();
            (syn().other(icmp_error("10.9.9.9", 3, 13, &about)))
                .wait(S)
                .again(1)
        })
        .remark(3, &["retransmission"]),
        row("ICMPv6 says that the port is closed", {
            let syn = Talk::between("[2001:db8::1]:40000", "[2001:db8::2]:8000")
                .options(USUAL)
                .client("S", b"");
            let about = syn.frames[0].packet();
            syn.other(icmp_error("2001:db8::2", 1, 4, &about))
        }),
        row(
            "both open at the same time",
            (syn().options(USUAL).server("S", b""))
                .at(Client, 0, 1, "S.", b"")
                .at(Server, 0, 1, "S.", b"")
                .exchange()
                .close(Client),
        )
        .called(2, "simultaneous-open")
        .remark(3, &["retransmission"])
        .remark(4, &["retransmission"])
        .ends(&["closed"]),
        row("Fast Open: data in the SYN", fast_open(GET.len() as u32))
            .called(1, "fast-open")
            .called(2, "fast-open-accepted")
            .ends(&["closed"]),
        row("Fast Open: the SYN's data is not taken", {
            let again = fast_open(0).client("P.", GET);
            again.server("P.", HELLO).client(".", b"").close(Client)
        })
        .called(1, "fast-open")
        .called(2, "fast-open-refused")
        .remark(4, &["retransmission"])
        .ends(&["closed"]),
        row(
            "Fast Open: a cookie is asked for",
            (Talk::new().options(&[34, 2]).client("S", b""))
                .options(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8])
                .server("S.", b"")
                .client(".", b"")
                .exchange()
                .close(Client),
        )
        .called(1, "fast-open-request")
        .ends(&["closed"]),
        row(
            "a SYN is answered by an ACK of an old connection",
            // RFC 9293 §3.5.1, figure 9.
            (Talk::new().open().exchange())
                .next_on_the_same_ports(90_000, 5_000)
                .client("S", b"")
                .at(Server, 44, 0, ".", b"")
                .at(Client, 0, 0, "R", b""),
        )
        .remark(8, &["ports-reused"]),
    ]
}

/// A SYN with a cookie and a request, of which so many bytes are acknowledged.
fn fast_open(taken: u32) -> Talk {
    const COOKIE: &[u8] = &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let syn = Talk::new()
        .options(&[MSS, COOKIE].concat())
        .at(Client, 0, 0, "S", GET);
    let talk = syn
        .numbered(1_000 + 1 + taken, 5_000)
        .options(MSS)
        .server("S.", b"");
    let talk = talk.client(".", b"");
    match taken {
        0 => talk,
        _ => talk.server("P.", HELLO).client(".", b"").close(Client),
    }
}

fn messages() -> Vec<Scenario> {
    const PAIR: [&str; 2] = ["request", "response"];
    let ended = |name, talk: Talk| row(name, talk.close(Client)).ends(&["closed"]);
    let opened = || Talk::new().open();
    let head = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    let of_head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
    let none = b"HTTP/1.1 204 No Content\r\n\r\n";
    let unchanged = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n";
    let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let connect = b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n";
    let upgrade =
        b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let switched =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let two: &'static [&str] = &[
        "handshake",
        "request",
        "response",
        "request",
        "response",
        "close",
        "aftermath",
    ];
    assert_eq!(two[1..3], PAIR);
    vec![
        ended(
            "two requests, one connection",
            opened().exchange().exchange(),
        )
        .phases(two),
        ended("HEAD, then GET", opened().ask(head, of_head).exchange()).phases(two),
        ended("204, then GET", opened().ask(GET, none).exchange()).phases(two),
        ended("304, then GET", opened().ask(GET, unchanged).exchange()).phases(two),
        ended(
            "POST waits for 100",
            (opened().ask(post, b"HTTP/1.1 100 Continue\r\n\r\n")).ask(b"hello", HELLO),
        ),
        ended(
            "CONNECT opens a tunnel",
            (opened().ask(connect, b"HTTP/1.1 200 OK\r\n\r\n"))
                .client("P.", b"\x16\x03\x01\x00\x05hello")
                .server("P.", b"\x15\x03\x01\x00\x02\x02\x28"),
        ),
        ended(
            "101 switches to another protocol",
            (opened().ask(upgrade, switched))
                .client("P.", b"\x81\x05hello")
                .server("P.", b"\x81\x05hello"),
        ),
        ended(
            "an answer in two chunks",
            (opened().ask(GET, chunked))
                .server("P.", b"3\r\nyou\r\n0\r\n\r\n")
                .client(".", b""),
        ),
        ended(
            "two requests in one segment",
            opened().ask(&[GET, GET].concat(), &[HELLO, HELLO].concat()),
        ),
        row(
            "the close ends the answer",
            opened()
                .ask(GET, b"HTTP/1.0 200 OK\r\n\r\nhello")
                .close(Server),
        )
        .ends(&["closed"]),
        row(
            "the client closes its half, then the answer comes",
            (opened()
                .client("P.", GET)
                .client("F.", b"")
                .server(".", b""))
            .server("P.", HELLO)
            .client(".", b"")
            .server("F.", b"")
            .client(".", b""),
        )
        .ends(&["closed"]),
        row(
            "both close at the same time",
            (opened().exchange().client("F.", b""))
                .at(Server, 44, 28, "F.", b"")
                .at(Client, 29, 45, ".", b"")
                .at(Server, 45, 29, ".", b""),
        )
        .called(9, "simultaneous-close")
        .ends(&["simultaneous"]),
        row("the server does not close its half", {
            opened().exchange().client("F.", b"").server(".", b"")
        })
        .ends(&["half-closed"]),
        row("a tunnel of bytes that are no HTTP", {
            opened().ask(b"SSH-2.0-OpenSSH_9.2\r\n", b"SSH-2.0-OpenSSH_9.2\r\n")
        }),
        row(
            "urgent data",
            opened().exchange().client("PU.", b"!").server(".", b""),
        ),
    ]
}

fn losses() -> Vec<Scenario> {
    let full = bytes(1_000);
    vec![
        row(
            "a segment is sent again after a timeout",
            (Talk::new().open().client("P.", GET).wait(300 * MS).again(4))
                .server(".", b"")
                .server("P.", HELLO)
                .client(".", b"")
                .close(Client),
        )
        .remark(5, &["retransmission"])
        .ends(&["closed"]),
        row(
            "three duplicate ACKs and a fast retransmission",
            (downloading().client(".", b"").server(".", &full).unseen())
                .server(".", &full)
                .at(Client, 28, 1_001, ".", b"")
                .server(".", &full)
                .at(Client, 28, 1_001, ".", b"")
                .server("P.", &full)
                .at(Client, 28, 1_001, ".", b"")
                .at(Server, 1_001, 28, ".", &full)
                .client(".", b""),
        )
        .remark(7, &["lost-segment"])
        .remark(8, &["duplicate-ack"])
        .remark(10, &["duplicate-ack"])
        .remark(12, &["duplicate-ack"])
        .remark(13, FAST),
        row(
            "the lost segment was captured before it was lost",
            (downloading().client(".", b"").server(".", &full))
                .server(".", &full)
                .at(Client, 28, 1_001, ".", b"")
                .server(".", &full)
                .at(Client, 28, 1_001, ".", b"")
                .server("P.", &full)
                .at(Client, 28, 1_001, ".", b"")
                .again(7)
                .client(".", b""),
        )
        .remark(9, &["duplicate-ack"])
        .remark(11, &["duplicate-ack"])
        .remark(13, &["duplicate-ack"])
        .remark(14, FAST),
        row(
            "what was acknowledged is sent again",
            Talk::new()
                .open()
                .exchange()
                .wait(300 * MS)
                .again(6)
                .client(".", b""),
        )
        .remark(8, SPURIOUS)
        .remark(9, &["duplicate-ack"]),
        row(
            "two segments overtake each other",
            (downloading().server(".", &full).server("P.", &full))
                .client(".", b"")
                .swap(6, 7),
        )
        .remark(6, &["lost-segment"])
        .remark(7, &["out-of-order"]),
        row(
            "a segment was not captured, and is acknowledged",
            (downloading().server(".", &full).unseen().client(".", b""))
                .server("P.", &full)
                .client(".", b""),
        )
        .remark(6, &["ack-of-unseen"])
        .remark(7, &["lost-segment"]),
        row(
            "a segment was not captured, and comes before the next ACK",
            (downloading().server(".", &full).unseen())
                .server("P.", &full)
                .client(".", b""),
        )
        .remark(6, &["lost-segment"])
        .remark(7, &["ack-of-unseen"]),
        row("a FIN is sent again", {
            let talk = Talk::new().open().exchange().client("F.", b"");
            let talk = talk.wait(300 * MS).again(8).server("F.", b"");
            talk.client(".", b"")
        })
        .called(9, "fin-retransmission")
        .remark(9, &["retransmission"])
        .ends(&["closed"]),
        row("a FIN comes before the data it follows", {
            let talk = Talk::new().open().client("P.", GET).server(".", b"");
            let talk = talk.server("P.", HELLO).server("F.", b"").swap(6, 7);
            talk.client(".", b"").client("F.", b"").server(".", b"")
        })
        .remark(6, &["lost-segment"])
        .remark(7, &["out-of-order"])
        .ends(&["closed"]),
        row("a FIN is lost and sent again with its data", {
            let talk = Talk::new().open().client("P.", GET).server(".", b"");
            let talk = talk.server("P.", HELLO).server("F.", b"").wait(300 * MS);
            let talk = talk.at(Server, 1, 28, "FP.", HELLO).client(".", b"");
            talk.client("F.", b"").server(".", b"")
        })
        .remark(8, &["retransmission"])
        .ends(&["closed"]),
        row("the last ACK is lost", {
            let talk = Talk::new().open().exchange().close(Client);
            talk.wait(300 * MS).again(9).again(10)
        })
        .remark(11, &["retransmission"])
        .remark(12, &["duplicate-ack"])
        .ends(&["closed"]),
        row("two segments are sent again as one", {
            let talk = downloading().server(".", &full).wait(300 * MS);
            let both = [answer(5_959, 959), bytes(1_000)].concat();
            talk.at(Server, 1, 28, ".", &both).client(".", b"")
        })
        .remark(7, &["retransmission"]),
        row("one segment is sent again as two", {
            let first = answer(5_959, 959);
            let talk = downloading().wait(300 * MS);
            let talk = talk.at(Server, 1, 28, ".", &first[..500]);
            talk.at(Server, 501, 28, ".", &first[500..])
                .client(".", b"")
        })
        .remark(6, &["retransmission"])
        .remark(7, &["retransmission"]),
        row("old bytes and new ones in one segment", {
            let talk = downloading().client(".", b"").wait(300 * MS);
            talk.at(Server, 501, 28, ".", &full)
                .at(Client, 28, 1_501, ".", b"")
        })
        .remark(7, &["retransmission"]),
        row("a duplicate is reported by D-SACK", {
            let talk = Talk::new().open().exchange().wait(300 * MS).again(6);
            let first = 5_001_u32.to_be_bytes();
            let behind = 5_044_u32.to_be_bytes();
            let sack = [&[1, 1, 5, 10][..], &first, &behind].concat();
            talk.options(&sack).client(".", b"")
        })
        .remark(8, SPURIOUS)
        .remark(9, &["duplicate-ack"]),
        row("selective acknowledgements name a gap", {
            let talk = downloading()
                .client(".", b"")
                .server(".", &full)
                .server("P.", &full);
            let first = 7_001_u32.to_be_bytes();
            let behind = 8_001_u32.to_be_bytes();
            let sack = [&[1, 1, 5, 10][..], &first, &behind].concat();
            let talk = talk.options(&sack).at(Client, 28, 1_001, ".", b"");
            talk.wait(300 * MS).again(7).client(".", b"")
        })
        .remark(9, &["duplicate-ack"])
        .remark(10, &["retransmission"]),
        row("two ACKs say the same, and nothing is missing", {
            let talk = Talk::new().open().exchange();
            talk.client(".", b"").close(Client)
        })
        .remark(8, &["duplicate-ack"])
        .ends(&["closed"]),
        row("only every second segment is acknowledged", {
            let talk = downloading().server(".", &full).client(".", b"");
            talk.server(".", &full).server("P.", &full).client(".", b"")
        }),
        row("a retransmission is lost too", {
            let talk = Talk::new().open().client("P.", GET);
            let talk = talk.wait(300 * MS).again(4).wait(600 * MS).again(4);
            talk.wait(1_200 * MS).again(4).server(".", b"")
        })
        .remark(5, &["retransmission"])
        .remark(6, &["retransmission"])
        .remark(7, &["retransmission"]),
        row("data is sent again, and nobody answers any more", {
            let talk = Talk::new().open().exchange().client("P.", GET);
            talk.wait(300 * MS).again(8).wait(600 * MS).again(8)
        })
        .remark(9, &["retransmission"])
        .remark(10, &["retransmission"]),
    ]
}

fn windows() -> Vec<Scenario> {
    let probed = || {
        let talk = Talk::new().open().exchange();
        let quiet = |talk: Talk| {
            let talk = talk.wait(15 * S).at(Server, 43, 28, ".", b"");
            talk.at(Client, 28, 44, ".", b"")
        };
        quiet(quiet(talk))
    };
    // The client takes 2,000 bytes and no more.
    let filled = || {
        let talk = Talk::new()
            .offering(MSS)
            .window(Client, 2_000)
            .open()
            .client("P.", GET);
        let talk = talk
            .server(".", &answer(5_959, 959))
            .server("P.", &bytes(1_000));
        talk.window(Client, 0).client(".", b"")
    };
    vec![
        row("keep-alive probes are answered", probed().close(Client))
            .remark(8, &["keep-alive"])
            .remark(9, &["keep-alive-ack"])
            .remark(10, &["keep-alive"])
            .remark(11, &["keep-alive-ack"])
            .ends(&["closed"]),
        row("a keep-alive probe carries a byte", {
            let talk = Talk::new().open().exchange().wait(15 * S);
            let talk = talk
                .at(Server, 43, 28, ".", b"o")
                .at(Client, 28, 44, ".", b"");
            talk.close(Client)
        })
        .remark(8, &["keep-alive"])
        .remark(9, &["keep-alive-ack"])
        .ends(&["closed"]),
        row("nobody answers the keep-alive probes", {
            let talk = Talk::new().open().exchange();
            let talk = talk.wait(15 * S).at(Server, 43, 28, ".", b"");
            let talk = talk.wait(15 * S).at(Server, 43, 28, ".", b"");
            talk.wait(15 * S).at(Server, 44, 28, "R.", b"")
        })
        .remark(8, &["keep-alive"])
        .remark(9, &["keep-alive"])
        .ends(&["reset"]),
        row("the client asks whether the server is there", {
            let talk = Talk::new().open().exchange().wait(45 * S);
            talk.at(Client, 27, 44, ".", b"")
                .at(Server, 44, 28, ".", b"")
        })
        .remark(8, &["keep-alive"])
        .remark(9, &["keep-alive-ack"]),
        row("a window is closed and opened again", {
            let talk = filled().wait(300 * MS).window(Client, 2_000);
            let talk = talk.client(".", b"").server("P.", &bytes(1_000));
            talk.client(".", b"")
        })
        .remark(6, &["window-full"])
        .remark(7, &["zero-window"])
        .remark(8, &["window-update"]),
        row("a closed window is probed by one byte", {
            let talk = filled().wait(300 * MS).at(Server, 2_001, 28, ".", b"x");
            let talk = talk.client(".", b"").wait(300 * MS).window(Client, 2_000);
            let talk = talk.client(".", b"").server("P.", &bytes(1_000));
            talk.client(".", b"")
        })
        .remark(6, &["window-full"])
        .remark(7, &["zero-window"])
        .remark(8, &["zero-window-probe"])
        .remark(9, &["zero-window", "zero-window-probe-ack"])
        .remark(10, &["window-update"]),
        row("a closed window is probed as Linux does, without a byte", {
            let talk = filled().wait(300 * MS).at(Server, 2_000, 28, ".", b"");
            let talk = talk.client(".", b"").wait(300 * MS).window(Client, 2_000);
            talk.client(".", b"")
                .server("P.", &bytes(1_000))
                .client(".", b"")
        })
        .remark(6, &["window-full"])
        .remark(7, &["zero-window"])
        .remark(8, &["keep-alive", "zero-window-probe"])
        .remark(9, &["zero-window", "zero-window-probe-ack"])
        .remark(10, &["window-update"]),
        row("a window only grows", {
            let talk = downloading().client(".", b"").window(Client, 900);
            talk.client(".", b"")
                .server("P.", &bytes(1_000))
                .client(".", b"")
        })
        .remark(7, &["window-update"]),
        row("a window shrinks", {
            let talk = downloading().client(".", b"").window(Client, 100);
            talk.client(".", b"")
                .server("P.", &bytes(1_000))
                .client(".", b"")
        })
        .remark(7, &["window-update"]),
        row("windows of a gigabyte", {
            const SCALED: &[u8] = &[2, 4, 5, 0xb4, 1, 3, 3, 14];
            let talk = Talk::new()
                .offering(SCALED)
                .window(Client, 65_535)
                .window(Server, 65_535);
            talk.open().exchange().close(Client)
        })
        .ends(&["closed"]),
        row("only one side offers to scale windows", {
            let talk = Talk::new()
                .options(USUAL)
                .client("S", b"")
                .options(MSS)
                .server("S.", b"");
            talk.client(".", b"").exchange().close(Client)
        })
        .ends(&["closed"]),
        row("the client stops to read, and gives up", {
            filled().wait(5 * S).client("R.", b"")
        })
        .remark(6, &["window-full"])
        .remark(7, &["zero-window"])
        .ends(&["reset"]),
    ]
}

fn resets() -> Vec<Scenario> {
    let exchanged = || Talk::new().open().exchange();
    vec![
        row("the client aborts", exchanged().client("R.", b""))
            .called(8, "abort")
            .ends(&["reset"]),
        row("the server has not read all", {
            let talk = Talk::new().open().client("P.", GET).client("P.", GET);
            talk.server("P.", HELLO).server("R.", b"")
        })
        .ends(&["reset"]),
        row("data comes after the server has closed", {
            let talk = exchanged().server("F.", b"").client(".", b"");
            talk.client("P.", GET).at(Server, 45, 0, "R", b"")
        })
        .called(11, "reset-after-close")
        .ends(&["reset"]),
        row("a RST outside the window changes nothing", {
            let talk = exchanged().at(Client, 40_000_000, 44, "R", b"");
            talk.exchange().close(Client)
        })
        .called(8, "outside-window")
        .ends(&["closed"]),
        row("a RST in the window but not next is challenged", {
            let talk = exchanged().at(Client, 1_000, 44, "R", b"");
            talk.server(".", b"").exchange().close(Client)
        })
        .remark(9, &["duplicate-ack"])
        .called(8, "reset-ignored")
        .called(9, "challenge-ack")
        .ends(&["closed"]),
        row(
            "both send a RST",
            exchanged().client("R.", b"").at(Server, 44, 28, "R.", b""),
        )
        .ends(&["reset"]),
        row("the server knows nothing of the connection", {
            // It was started anew.
            exchanged()
                .wait(S)
                .client("P.", GET)
                .at(Server, 44, 0, "R", b"")
        })
        .called(9, "reset-of-unknown")
        .ends(&["reset"]),
        row("a RST answers the SYN+ACK", {
            let talk = Talk::new().options(USUAL).client("S", b"").options(USUAL);
            talk.server("S.", b"").at(Client, 1, 0, "R", b"")
        })
        .ends(&["reset"]),
        row("a RST in TIME-WAIT", usual().at(Client, 29, 0, "R", b"")),
    ]
}

fn reuses() -> Vec<Scenario> {
    let first = || Talk::new().open().exchange().close(Client);
    vec![
        row("the same ports again, after a minute", {
            let talk = first()
                .wait(70 * S)
                .next_on_the_same_ports(300_000, 700_000);
            talk.open().exchange().close(Client)
        })
        .remark(11, &["ports-reused"])
        .ends(&["closed", "closed"]),
        row("the same ports again, while TIME-WAIT lasts", {
            let talk = Talk::new().open().exchange().close(Server);
            let talk = talk.next_on_the_same_ports(300_000, 700_000);
            talk.open().exchange().close(Server)
        })
        .remark(11, &["ports-reused"])
        .ends(&["closed", "closed"]),
        row("the same ports again, and the first was never closed", {
            let talk = Talk::new().open().exchange();
            let talk = talk.next_on_the_same_ports(300_000, 700_000);
            talk.open().exchange().close(Client)
        })
        .remark(8, &["ports-reused"])
        .ends(&["open", "closed"]),
        row("a late FIN of the connection before", {
            let late = first().frames[8].clone();
            let talk = first().next_on_the_same_ports(300_000, 700_000).open();
            let mut talk = talk.exchange().close(Client);
            let at_ns = talk.frames[15].at_ns + MS / 2;
            talk.frames.insert(
                16,
                Frame {
                    at_ns,
                    connection: 1,
                    ..late
                },
            );
            talk
        })
        .called(17, "outside-window")
        .remark(11, &["ports-reused"])
        .ends(&["closed", "closed"]),
        row("a refused port is asked again", {
            let talk = Talk::new()
                .options(USUAL)
                .client("S", b"")
                .server("R.", b"");
            let talk = talk.wait(S).next_on_the_same_ports(300_000, 700_000);
            talk.open().exchange().close(Client)
        })
        .remark(3, &["ports-reused"])
        .ends(&["refused", "closed"]),
        row("two connections of two ports", {
            let talk = first().next_from(40_001);
            talk.open().exchange().close(Client)
        })
        .ends(&["closed", "closed"]),
        row("two connections at the same time", {
            let one = Talk::new().open().exchange().close(Client);
            let other = Talk::new()
                .next_from(40_001)
                .open()
                .exchange()
                .close(Server);
            let mut both = one.clone();
            both.frames = (one.frames.into_iter().zip(other.frames))
                .flat_map(|(a, mut b)| {
                    b.at_ns += MS / 2;
                    [a, b]
                })
                .collect();
            both
        })
        .ends(&["closed", "closed"]),
    ]
}

fn numbers() -> Vec<Scenario> {
    let wraps = || Talk::new().numbered(u32::MAX - 10, u32::MAX - 20);
    let full = bytes(1_000);
    const TIMES: &[u8] = &[
        2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
    ];
    let stamp = |value: u32, echo: u32| -> Vec<u8> {
        [
            &[1, 1, 8, 10][..],
            &value.to_be_bytes(),
            &echo.to_be_bytes(),
        ]
        .concat()
    };
    vec![
        row(
            "sequence numbers wrap around",
            wraps().open().exchange().close(Client),
        )
        .ends(&["closed"]),
        row("the SYN has the last number of all", {
            let talk = Talk::new().numbered(u32::MAX, u32::MAX);
            talk.open().exchange().close(Client)
        })
        .ends(&["closed"]),
        row("a segment across the wrap is sent again", {
            let talk = wraps().open().client("P.", GET).wait(300 * MS).again(4);
            talk.server(".", b"")
                .server("P.", HELLO)
                .client(".", b"")
                .close(Client)
        })
        .remark(5, &["retransmission"])
        .ends(&["closed"]),
        row("a gap across the wrap", {
            let talk = Talk::new()
                .numbered(1_000, u32::MAX - 1_500)
                .open()
                .client("P.", GET);
            let talk = talk
                .server(".", &answer(5_959, 959))
                .server(".", &full)
                .unseen();
            talk.server("P.", &full).client(".", b"")
        })
        .remark(6, &["lost-segment"])
        .remark(7, &["ack-of-unseen"]),
        row("numbers around the middle", {
            let talk = Talk::new().numbered(0x7fff_fff0, 0x7fff_fff8);
            talk.open().exchange().close(Client)
        })
        .ends(&["closed"]),
        row("timestamps on every segment", {
            let talk = Talk::new().options(TIMES).client("S", b"").options(TIMES);
            let talk = talk
                .server("S.", b"")
                .options(&stamp(2, 1))
                .client(".", b"");
            let talk = talk.options(&stamp(3, 1)).client("P.", GET);
            let talk = talk.options(&stamp(4, 3)).server("P.", HELLO);
            talk.options(&stamp(5, 4)).client(".", b"")
        }),
        row("options of an unknown kind", {
            let talk = Talk::new().options(&[253, 6, 1, 2, 3, 4, 2, 4, 5, 0xb4]);
            let talk = talk
                .client("S", b"")
                .options(MSS)
                .server("S.", b"")
                .client(".", b"");
            talk.exchange().close(Client)
        })
        .ends(&["closed"]),
        row("options whose length is wrong", {
            let talk = Talk::new().options(&[2, 9, 5, 0xb4]).client("S", b"");
            let talk = talk.options(MSS).server("S.", b"").client(".", b"");
            talk.exchange().close(Client)
        })
        .ends(&["closed"]),
    ]
}

fn faults() -> Vec<Scenario> {
    vec![
        row("96 bytes of each frame", {
            let talk = Talk::new().open().ask(GET, &answer(1_000, 1_000));
            talk.close(Client).snapped(96)
        })
        .ends(&["closed"])
        .noted("cut"),
        row("headers alone", usual().snapped(54))
            .ends(&["closed"])
            .noted("cut"),
        row(
            "not even the whole TCP header",
            usual().snapped(14 + 20 + 13),
        )
        .untold(1..=10),
        row("only what the client sends", usual().without(Server)),
        row("only what the server sends", usual().without(Client)),
        row("it begins with the SYN+ACK", usual().begin_at(2)).ends(&["closed"]),
        row("it begins with the request", usual().begin_at(4)).ends(&["closed"]),
        row("it begins in the midst of the answer", {
            let talk = downloading()
                .server(".", &bytes(1_000))
                .server("P.", &bytes(1_000));
            talk.client(".", b"").begin_at(6)
        }),
        row("it begins with the close", usual().begin_at(8)).ends(&["closed"]),
        row("it begins with the second FIN", usual().begin_at(9)),
        row("it ends after the request", usual().until_frame(4)),
        row(
            "it ends in the midst of the answer",
            downloading().client(".", b""),
        ),
        row("it ends with the first FIN", usual().until_frame(8)),
        row("it ends before the last ACK", usual().until_frame(9)),
        row("the ACK of the handshake is missing", usual().drop_frame(3)).ends(&["closed"]),
        row("the SYN+ACK is missing", usual().drop_frame(2)),
        row("the request is missing", usual().drop_frame(4))
            .remark(4, &["ack-of-unseen"])
            .remark(6, &["lost-segment"]),
        row("the answer is missing", usual().drop_frame(6))
            .remark(6, &["ack-of-unseen"])
            .remark(8, &["lost-segment"]),
        row("frames stand in the wrong order", {
            usual().swap_in_file(4, 5).swap_in_file(8, 9)
        })
        .ends(&["closed"]),
        row("a mirror port shows every packet twice", {
            (1..=10).fold(usual(), |talk, number| {
                talk.seen_again(2 * number - 1, 2_000)
            })
        })
        .untold((1..=10).map(|number| 2 * number))
        .ends(&["closed"]),
        row(
            "two interfaces show every packet",
            usual().seen_on_two_interfaces(2_000),
        )
        .untold((1..=10).map(|number| 2 * number))
        .ends(&["closed"])
        .file(|frames| {
            let file = Pcapng::new(Order::Little);
            let file = file
                .interface(Link::Ethernet, &[])
                .interface(Link::Ethernet, &[]);
            file.packets(frames).bytes
        }),
        row(
            "another of two bonded interfaces sends the request again, IPv6",
            {
                let talk = Talk::between("[2001:db8::1]:40000", "[2001:db8::2]:8000");
                (talk.open().client("P.", GET).wait(250 * MS).again(4))
                    .on_interface(5, 1)
                    .server(".", b"")
                    .server("P.", HELLO)
                    .client(".", b"")
                    .close(Client)
            },
        )
        .remark(5, &["retransmission"])
        .ends(&["closed"])
        .file(|frames| {
            let file = Pcapng::new(Order::Little);
            let named = |name: &[u8]| [file.option(2, name), file.option(0, &[])].concat();
            let (first, second) = (named(b"eth0"), named(b"eth1"));
            let file = file.interface(Link::Ethernet, &first);
            file.interface(Link::Ethernet, &second)
                .packets(frames)
                .bytes
        }),
        row("an interface and what it is bridged to, tagged", {
            let talk = usual().seen_on_two_interfaces(2_000);
            (1..=10).fold(talk, |talk, number| {
                talk.frame_within(2 * number, &[Wrap::Vlan(0x8100)])
            })
        })
        .untold((1..=10).map(|number| 2 * number))
        .ends(&["closed"])
        .file(|frames| {
            let file = Pcapng::new(Order::Little);
            let file = file
                .interface(Link::Ethernet, &[])
                .interface(Link::Ethernet, &[]);
            file.packets(frames).bytes
        }),
        row("an offload put ten segments together", {
            let talk = Talk::new().open().ask(GET, &answer(14_559, 14_559));
            talk.close(Client)
        })
        .ends(&["closed"]),
        row("a segment of more than 64 KiB, whose length is 0", {
            let talk = Talk::new().open().ask(GET, &answer(99_959, 99_959));
            talk.close(Client)
        })
        .ends(&["closed"]),
        row(
            "the clock steps back",
            usual().clock_steps(6, -3 * S as i64),
        )
        .ends(&["closed"]),
        row(
            "the clock steps back by a day",
            usual().clock_steps(8, -86_400 * S as i64),
        )
        .ends(&["closed"]),
        row(
            "the clock steps forward",
            usual().clock_steps(6, 3_600 * S as i64),
        )
        .ends(&["closed"]),
        row("another protocol in between", {
            let [from, to] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().expect("an address"));
            let dns = ip_packet(from, to, 17, 9, &udp(53, b"what?"));
            let talk = Talk::new().open().other(dns);
            talk.exchange().close(Client)
        })
        .ends(&["closed"])
        .noted("not TCP"),
    ]
}

fn links() -> Vec<Scenario> {
    fn all_little(frames: &[Frame], link: Link) -> Vec<u8> {
        pcap(frames, link, Order::Little, Magic::Nanoseconds)
    }
    let usual_6 = || {
        Talk::between("[::1]:40000", "[::1]:8000")
            .open()
            .exchange()
            .close(Client)
    };
    let ended = |name, talk, write| row(name, talk).ends(&["closed"]).file(write);
    vec![
        ended("raw IP", usual(), |it| all_little(it, Link::Raw)),
        ended("raw IPv4", usual(), |it| all_little(it, Link::RawIp4)),
        ended("raw IPv6", usual_6(), |it| all_little(it, Link::RawIp6)),
        ended("a loopback of BSD", usual(), |it| {
            all_little(it, Link::Null)
        }),
        ended("a loopback of BSD, in the other order", usual(), |it| {
            all_little(it, Link::NullSwapped)
        }),
        ended("a loopback of OpenBSD, IPv6", usual_6(), |it| {
            all_little(it, Link::Loop)
        }),
        ended("Linux, any interface", usual(), |it| {
            all_little(it, Link::Cooked)
        }),
        ended("Linux, any interface, version 2", usual(), |it| {
            all_little(it, Link::Cooked2)
        }),
        row("PPP", usual()).file(|it| all_little(it, Link::Ppp)),
    ]
}

fn wrappings() -> Vec<Scenario> {
    let within = |wraps: &[Wrap]| Talk::new().within(wraps).open().exchange().close(Client);
    let ended = |name, wraps: &[Wrap]| row(name, within(wraps)).ends(&["closed"]);
    let six = |wraps: &[Wrap]| {
        let talk = Talk::between("[2001:db8::1]:40000", "[2001:db8::2]:8000").within(wraps);
        talk.open().exchange().close(Client)
    };
    vec![
        ended("a VLAN", &[Wrap::Vlan(0x8100)]),
        ended("QinQ", &[Wrap::Vlan(0x88a8), Wrap::Vlan(0x8100)]),
        ended(
            "QinQ before the standard",
            &[Wrap::Vlan(0x9100), Wrap::Vlan(0x8100)],
        ),
        ended(
            "five tags",
            &[
                Wrap::Vlan(0x88a8),
                Wrap::Vlan(0x8100),
                Wrap::Vlan(0x8100),
                Wrap::Vlan(0x8100),
                Wrap::Vlan(0x8100),
            ],
        ),
        ended("a VN-Tag", &[Wrap::Tag(0x8926)]),
        ended("a redundancy tag", &[Wrap::Tag(0xf1c1)]),
        ended("MPLS", &[Wrap::Mpls(1)]),
        ended(
            "three labels of MPLS, in a VLAN",
            &[Wrap::Vlan(0x8100), Wrap::Mpls(3)],
        ),
        ended("PPPoE", &[Wrap::Pppoe]),
        ended("PPPoE in a VLAN", &[Wrap::Vlan(0x8100), Wrap::Pppoe]),
        ended("IP in IP", &[Wrap::Ip4]),
        ended("IP in IP in IP", &[Wrap::Ip4, Wrap::Ip4]),
        ended("IPv4 in IPv6", &[Wrap::Ip6]),
        row("IPv6 in IPv4", six(&[Wrap::Ip4])).ends(&["closed"]),
        ended("GRE", &[Wrap::Gre]),
        ended("GRE with a key", &[Wrap::GreKeyed]),
        row("IPv6 in GRE", six(&[Wrap::Gre])).ends(&["closed"]),
        ended("VXLAN", &[Wrap::Vxlan]),
        ended("a VLAN in VXLAN", &[Wrap::Vxlan, Wrap::Vlan(0x8100)]),
        row("Geneve", within(&[Wrap::Geneve])),
        row("SNAP", within(&[Wrap::Snap])),
        row("only the answer went through a tunnel", {
            usual().frame_within(6, &[Wrap::Gre])
        })
        .ends(&["closed"]),
    ]
}

fn files() -> Vec<Scenario> {
    const ETHERNET: Link = Link::Ethernet;
    let ended = |name, write| row(name, usual()).ends(&["closed"]).file(write);
    vec![
        ended("pcap, most significant byte first", |it| {
            pcap(it, ETHERNET, Order::Big, Magic::Microseconds)
        }),
        ended("pcap in nanoseconds, most significant byte first", |it| {
            pcap(it, ETHERNET, Order::Big, Magic::Nanoseconds)
        }),
        ended("pcap with the modified magic", |it| {
            pcap(it, ETHERNET, Order::Little, Magic::Modified)
        }),
        ended("pcapng", |it| {
            Pcapng::new(Order::Little)
                .interface(ETHERNET, &[])
                .packets(it)
                .bytes
        }),
        ended("pcapng, most significant byte first", |it| {
            Pcapng::new(Order::Big)
                .interface(ETHERNET, &[])
                .packets(it)
                .bytes
        }),
        ended("pcapng in nanoseconds", |it| {
            let file = Pcapng::new(Order::Little);
            let unit = [file.option(9, &[9]), file.option(0, &[])].concat();
            let file = file.interface(ETHERNET, &unit);
            let packet = |file: Pcapng, frame: &Frame| file.packet(frame, frame.at_ns, &[]);
            it.iter().fold(file, packet).bytes
        }),
        ended("option lists without an end", |it| {
            let file = Pcapng::new(Order::Little);
            let options = [file.option(2, b"eth0"), file.option(9, &[6])].concat();
            let comment = file.option(1, b"a comment");
            let file = file.interface(ETHERNET, &options);
            let packet =
                |file: Pcapng, frame: &Frame| file.packet(frame, frame.at_ns / 1_000, &comment);
            it.iter().fold(file, packet).bytes
        }),
        ended(
            "a name, a description and a comment in bytes that are not UTF-8",
            |it| {
                let file = Pcapng::new(Order::Little);
                let options = [
                    file.option(2, b"eth\xff\xfe"),
                    file.option(3, b"\xe9t\xe9"),
                    file.option(1, b"\xc3"),
                    file.option(0, &[]),
                ];
                file.interface(ETHERNET, &options.concat())
                    .packets(it)
                    .bytes
            },
        ),
        ended("time zones of any kind", |it| {
            let file = Pcapng::new(Order::Big);
            let zone = file.option(10, &[0xff, 0xff, 0xff, 0xff]);
            let file = file.interface(ETHERNET, &zone);
            let zone = file.option(10, &3_600_u32.to_be_bytes());
            file.interface(ETHERNET, &zone).packets(it).bytes
        }),
        ended("options of an unknown kind, and custom ones", |it| {
            let file = Pcapng::new(Order::Little);
            let options = [
                file.option(2_988, &[0, 0, 0x80, 1, b'h', b'i']),
                file.option(777, b"future"),
                file.option(0, &[]),
            ]
            .concat();
            let file = file.interface(ETHERNET, &options);
            let packet =
                |file: Pcapng, frame: &Frame| file.packet(frame, frame.at_ns / 1_000, &options);
            it.iter().fold(file, packet).bytes
        }),
        ended("blocks of an unknown kind, and custom ones", |it| {
            let file = Pcapng::new(Order::Little).block(0x0bad, b"unknown");
            let mut file = file.interface(ETHERNET, &[]);
            let private = [32_473_u32.to_le_bytes(), *b"data"].concat();
            for frame in it {
                file = file
                    .block(0x0000_0bad, &private)
                    .block(0x4000_0bad, &private);
                file = file.packet(frame, frame.at_ns / 1_000, &[]);
            }
            file.bytes
        }),
        ended("names, statistics and secrets among the packets", |it| {
            let file = Pcapng::new(Order::Little).interface(ETHERNET, &[]);
            let names = [&[1, 0, 6, 0, 10, 0, 0, 2][..], b"x\0", &[0, 0, 0, 0, 0, 0]].concat();
            let secrets = [&b"KSLT"[..], &4_u32.to_le_bytes(), b"none"].concat();
            let statistics = [0_u8; 12];
            let file = file.block(4, &names).block(10, &secrets);
            file.packets(it).block(5, &statistics).bytes
        }),
        ended("packet blocks of the kind before", |it| {
            let file = Pcapng::new(Order::Little).interface(ETHERNET, &[]);
            it.iter().fold(file, Pcapng::obsolete_packet).bytes
        }),
        ended("packets without a time", |it| {
            let file = Pcapng::new(Order::Little).interface(ETHERNET, &[]);
            it.iter().fold(file, Pcapng::simple_packet).bytes
        })
        .noted("10 packets of the file have no time"),
        row("several link types in one file", {
            (1..=10)
                .step_by(2)
                .fold(usual(), |talk, number| talk.on_interface(number, 1))
        })
        .ends(&["closed"])
        .file(|it| {
            let file = Pcapng::new(Order::Little).interface(ETHERNET, &[]);
            file.interface(Link::Cooked, &[]).packets(it).bytes
        }),
        row("one interface has a link layer that nobody knows", {
            Talk::new().open().exchange().close(Client)
        })
        .ends(&["closed"])
        .file(|it| {
            let file = Pcapng::new(Order::Little).interface(ETHERNET, &[]);
            // USER0, which anybody may use for anything.
            let file = file.block(1, &[147, 0, 0, 0, 0, 0, 4, 0]);
            file.packets(it).bytes
        }),
        ended("two sections", |it| {
            let (first, second) = it.split_at(it.len() / 2);
            let file = Pcapng::new(Order::Little)
                .interface(ETHERNET, &[])
                .packets(first);
            file.section(&[])
                .interface(ETHERNET, &[])
                .packets(second)
                .bytes
        }),
        ended("two sections of both byte orders", |it| {
            let (first, second) = it.split_at(it.len() / 2);
            let little = Pcapng::new(Order::Little)
                .interface(ETHERNET, &[])
                .packets(first);
            let big = Pcapng::new(Order::Big)
                .interface(ETHERNET, &[])
                .packets(second);
            [little.bytes, big.bytes].concat()
        }),
    ]
}
