//! Responses whose outcome is known (RFC 9112), whole and in pieces: how the bytes were split must not be
//! seen in what comes of them, over sockets and in memory.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use engine::drive;
use engine::plan::{ConnectionLife, Limit, Plan};
use engine::record::{Kind, Phase, Record};
use engine::response::{Asked, Expected, Reader, Taken};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// What comes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    /// It is whole, with this status and as long a body, and the connection may be used again.
    Whole(u16, u64),
    /// The same, and it is the last of its connection.
    Last(u16, u64),
    /// Not HTTP/1.
    Malformed,
    /// The peer closed before it was whole: within the body, or before.
    Short,
    Early,
}

use Is::{Early, Last, Malformed, Short, Whole};

/// What the requests are.
const GET: &str = "GET";

struct Row {
    name: &'static str,
    method: &'static str,
    /// What is sent for all requests together; then the server closes.
    wire: Vec<u8>,
    outcomes: &'static [Is],
}

fn row(
    name: &'static str,
    method: &'static str,
    wire: impl AsRef<[u8]>,
    outcomes: &'static [Is],
) -> Row {
    let wire = wire.as_ref().to_vec();
    Row {
        name,
        method,
        wire,
        outcomes,
    }
}

/// A 200 with these lines between status line and body.
fn ok(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    ok("Transfer-Encoding: chunked", body)
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn rows() -> Vec<Row> {
    let five: &[Is] = &[Whole(200, 5)];
    let five_of = |name, lines: &str| row(name, GET, ok(lines, "hello"), five);
    let broken = |name, lines: &str| row(name, GET, ok(lines, "hello"), &[Malformed]);
    let hello_in_chunks = |name, body: &str| row(name, GET, chunked(body), five);
    let broken_chunk = |name, body: &str| row(name, GET, chunked(body), &[Malformed]);
    vec![
        // Folded lines (§5.2).
        five_of("folded by a blank", "X: one\r\n two\r\nContent-Length: 5"),
        five_of("folded by a tab", "X: one\r\n\ttwo\r\nContent-Length: 5"),
        five_of(
            "folded twice",
            "X: one\r\n two\r\n  three\r\nContent-Length: 5",
        ),
        five_of("folded by a lone LF", "X: one\n two\r\nContent-Length: 5"),
        five_of("a fold of blanks", "X: one\r\n  \r\nContent-Length: 5"),
        five_of(
            "a fold of blanks at the end",
            "Content-Length: 5\r\n\t \r\n ",
        ),
        five_of(
            "a fold with a colon",
            "X: one\r\n Content-Length: 9\r\nContent-Length: 5",
        ),
        five_of("a folded length", "Content-Length:\r\n 5"),
        five_of("a folded list of lengths", "Content-Length: 5,\r\n\t5"),
        broken("a length that goes on", "Content-Length: 5\r\n 5"),
        five_of("a fold of the status line", "Content-Length: 5").folded_status(),
        row(
            "a folded coding",
            GET,
            ok(
                "Transfer-Encoding: gzip,\r\n chunked",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            five,
        ),
        row(
            "a folded Connection",
            GET,
            ok("Connection: x,\r\n close\r\nContent-Length: 5", "hello"),
            &[Last(200, 5)],
        ),
        broken("a fold before the colon", "Content-Length\r\n : 5"),
        // Blanks before the colon (§5.1), and CR that end no line (§2.2).
        five_of("a blank before the colon", "Content-Length : 5"),
        five_of("a tab before the colon", "Content-Length\t: 5"),
        five_of("no blank behind the colon", "Content-Length:5"),
        five_of("a CR for a blank", "X: a\rb\r\nContent-Length:\r5\r"),
        broken("a CR within a number", "Content-Length: 5\r5"),
        broken("a CR before the last line", "Content-Length: 5\r\n\r"),
        // Line ends and empty lines (§2.2, §9.2).
        row(
            "lone LF",
            GET,
            "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
            five,
        ),
        row("an empty line before", GET, format!("\r\n{HELLO}"), five),
        row(
            "many empty lines before",
            GET,
            format!("\r\n\n\r\n{HELLO}"),
            five,
        ),
        row("a CR before", GET, format!("\r{HELLO}"), &[Malformed]),
        row(
            "empty lines between",
            GET,
            format!("{HELLO}\r\n{HELLO}\n\r\n{HELLO}"),
            &[Whole(200, 5), Whole(200, 5), Whole(200, 5)],
        ),
        row(
            "empty lines around an interim response",
            GET,
            format!("\r\nHTTP/1.1 100 Continue\r\n\r\n\r\n{HELLO}"),
            five,
        ),
        // The status line (§4).
        row(
            "no reason",
            GET,
            "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
            five,
        ),
        row(
            "an empty reason",
            GET,
            "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
            five,
        ),
        row("two digits", GET, "HTTP/1.1 20 OK\r\n\r\n", &[Malformed]),
        row("four digits", GET, "HTTP/1.1 2000 OK\r\n\r\n", &[Malformed]),
        row(
            "a blank before",
            GET,
            " HTTP/1.1 200 OK\r\n\r\n",
            &[Malformed],
        ),
        row("HTTP/2", GET, "HTTP/2 200 OK\r\n\r\n", &[Malformed]),
        row("a banner", GET, "SSH-2.0-OpenSSH_9.9\r\n", &[Malformed]),
        row(
            "a TLS alert",
            GET,
            b"\x15\x03\x03\x00\x02\x02\x46",
            &[Malformed],
        ),
        row(
            "an HTTP/2 preface",
            GET,
            b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64",
            &[Malformed],
        ),
        row("a body alone", GET, "<html></html>", &[Malformed]),
        broken("no colon", "Content-Length: 5\r\nno colon"),
        row(
            "no colon, nor more",
            GET,
            "HTTP/1.1 200 OK\r\nno colon\r\n",
            &[Malformed],
        ),
        row("cut in the status line", GET, "HTTP/1.1 20", &[Early]),
        row(
            "cut in the head",
            GET,
            "HTTP/1.1 200 OK\r\nContent-Le",
            &[Early],
        ),
        row(
            "cut before the last line",
            GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            &[Early],
        ),
        row("nothing", GET, "", &[Early]),
        // How long the body is (§6.3).
        five_of("equal lengths", "Content-Length: 5\r\nContent-Length: 5"),
        five_of("a list of equal lengths", "Content-Length: 5, 5,5"),
        five_of("a list with empty elements", "Content-Length: ,5, ,"),
        five_of(
            "equal but for zeros",
            "Content-Length: 5\r\nContent-Length: 0005",
        ),
        broken("unequal lengths", "Content-Length: 5\r\nContent-Length: 6"),
        broken("a list of unequal lengths", "Content-Length: 5, 6"),
        broken("an empty length", "Content-Length: "),
        broken("a signed length", "Content-Length: +5"),
        broken("too large a length", "Content-Length: 18446744073709551616"),
        row(
            "the largest length",
            GET,
            ok("Content-Length: 18446744073709551615", "hello"),
            &[Short],
        ),
        row(
            "a short body",
            GET,
            ok("Content-Length: 6", "hello"),
            &[Short],
        ),
        row(
            "to the end",
            GET,
            "HTTP/1.1 200 OK\r\n\r\nhello",
            &[Last(200, 5)],
        ),
        row(
            "to the end, empty",
            GET,
            "HTTP/1.1 200 OK\r\n\r\n",
            &[Last(200, 0)],
        ),
        row(
            "HEAD",
            "HEAD",
            ok("Content-Length: 5", ""),
            &[Whole(200, 0)],
        ),
        row(
            "HEAD, whatever it says",
            "HEAD",
            ok("Content-Length: x\r\nTransfer-Encoding: chunked", ""),
            &[Whole(200, 0)],
        ),
        row(
            "two HEAD",
            "HEAD",
            [
                ok("Content-Length: 5", ""),
                ok("Transfer-Encoding: chunked", ""),
            ]
            .concat(),
            &[Whole(200, 0), Whole(200, 0)],
        ),
        row("head in lower case", "head", HELLO, five),
        row(
            "204",
            GET,
            "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
            &[Whole(204, 0)],
        ),
        row(
            "304",
            GET,
            "HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n",
            &[Whole(304, 0)],
        ),
        row(
            "205",
            GET,
            "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n",
            &[Whole(205, 0)],
        ),
        row(
            "interim responses",
            GET,
            format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n b\r\n\r\n{HELLO}"
            ),
            five,
        ),
        row(
            "interim responses without end",
            GET,
            "HTTP/1.1 102 Processing\r\n\r\n".repeat(101),
            &[Malformed],
        ),
        row(
            "101",
            GET,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\n\x01\x02 not HTTP",
            &[Last(101, 0)],
        ),
        row(
            "101 after 100",
            GET,
            "HTTP/1.1 100 \r\n\r\nHTTP/1.1 101 \r\n\r\n",
            &[Last(101, 0)],
        ),
        row(
            "CONNECT",
            "CONNECT",
            ok("Content-Length: 5", "220 tunnel"),
            &[Last(200, 0)],
        ),
        row(
            "CONNECT refused",
            "CONNECT",
            "HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nhello",
            &[Whole(302, 5)],
        ),
        // Whether the connection persists (§9.3).
        row(
            "close",
            GET,
            ok("Connection: Close\r\nContent-Length: 5", "hello"),
            &[Last(200, 5)],
        ),
        row(
            "close in a second field",
            GET,
            ok(
                "Connection: x\r\ncontent-length: 5\r\nCONNECTION:close",
                "hello",
            ),
            &[Last(200, 5)],
        ),
        row(
            "HTTP/1.0",
            GET,
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            &[Last(200, 5)],
        ),
        row(
            "HTTP/1.0 that persists",
            GET,
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
            five,
        ),
        row(
            "HTTP/1.0 in chunks",
            GET,
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            &[Last(200, 5)],
        ),
        // Codings (§6.1) and chunks (§7.1).
        hello_in_chunks("chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        hello_in_chunks("zeros before a size", "0005\r\nhello\r\n0000\r\n\r\n"),
        hello_in_chunks("blanks behind a size", "5 \t\r\nhello\r\n0 \r\n\r\n"),
        hello_in_chunks(
            "extensions",
            "5;a;b=\"c;d \\\" : \" ; e=f\r\nhello\r\n0;x\r\n\r\n",
        ),
        hello_in_chunks("trailers", "5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
        hello_in_chunks(
            "a folded trailer",
            "5\r\nhello\r\n0\r\nA: b\r\n c\r\n\t\r\n\r\n",
        ),
        hello_in_chunks("trailers by lone LF", "5\r\nhello\r\n0\r\nA: b\n\n"),
        broken_chunk(
            "a trailer without a colon",
            "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        ),
        broken_chunk("a size by a lone LF", "5\nhello\r\n0\r\n\r\n"),
        broken_chunk("no size", "\r\nhello\r\n0\r\n\r\n"),
        broken_chunk("a size that is no number", "five\r\nhello"),
        broken_chunk("more than a size", "5 6\r\nhello"),
        broken_chunk("too large a size", "10000000000000005\r\nhello"),
        broken_chunk("data behind a chunk", "5\r\nhello!\r\n0\r\n\r\n"),
        broken_chunk("data that ends by a lone LF", "5\r\nhello\n0\r\n\r\n"),
        row(
            "the largest size",
            GET,
            chunked("ffffffffffffffff\r\nhello"),
            &[Short],
        ),
        row("cut in a size", GET, chunked("5"), &[Short]),
        row(
            "cut in a trailer",
            GET,
            chunked("5\r\nhello\r\n0\r\nA: b"),
            &[Short],
        ),
        row(
            "chunks and a length",
            GET,
            ok(
                "Content-Length: 9\r\nTransfer-Encoding: chunked",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            five,
        ),
        row(
            "chunks and a length that is no number",
            GET,
            ok(
                "Content-Length: x\r\nTransfer-Encoding: Chunked",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            five,
        ),
        row(
            "two fields of codings",
            GET,
            ok(
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: ,chunked,",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            five,
        ),
        row(
            "another coding last",
            GET,
            ok(
                "Transfer-Encoding: chunked, gzip\r\nContent-Length: 2",
                "hello",
            ),
            &[Last(200, 5)],
        ),
        broken("chunked with a parameter", "Transfer-Encoding: chunked;q=1"),
        // One behind the other.
        row(
            "all kinds of bodies",
            GET,
            format!(
                "{HELLO}HTTP/1.1 204 No\r\n\r\n{}HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n{HELLO}",
                chunked("5\r\nhello\r\n0\r\n\r\n")
            ),
            &[
                Whole(200, 5),
                Whole(204, 0),
                Whole(200, 5),
                Whole(404, 0),
                Whole(200, 5),
            ],
        ),
        row(
            "the second is malformed",
            GET,
            format!("{HELLO}HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
            &[Whole(200, 5), Malformed],
        ),
    ]
}

impl Row {
    /// With lines behind its status line that belong to no field (§2.2).
    fn folded_status(mut self) -> Self {
        let behind = self
            .wire
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(0)
            + 1;
        let ignored = b" Content-Length: 9\r\n\tno colon\r\n";
        self.wire.splice(behind..behind, ignored.iter().copied());
        self
    }

    fn asked(&self) -> Asked {
        Asked::by(self.method.as_bytes())
    }
}

/// What a reader makes of pieces, then the end of the connection; not beyond the last response that is due.
fn read<'a>(asked: Asked, due: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Is> {
    let expected = Arc::new(Expected::Text(b"hello".to_vec()));
    let mut reader = Reader::new(false).expecting(Some(&expected));
    reader.answers(asked);
    let mut found = Vec::new();
    for mut piece in pieces {
        while found.len() < due {
            match reader.take(piece) {
                Taken::Complete(response, used) => {
                    assert!(used <= piece.len(), "more than it was given");
                    let (status, length) = (response.status, response.body_bytes);
                    found.push(match response.persists {
                        true => Whole(status, length),
                        false => Last(status, length),
                    });
                    if !response.persists {
                        return found;
                    }
                    piece = &piece[used..];
                }
                Taken::Incomplete => break,
                Taken::Malformed => {
                    let misread = reader.misread().expect("what is malformed");
                    assert!(misread.bytes.len() <= 64);
                    found.push(Malformed);
                    return found;
                }
            }
        }
    }
    if found.len() < due {
        let in_body = reader.in_body();
        found.push(match reader.end() {
            Some(response) => Last(response.status, response.body_bytes),
            None if in_body => Short,
            None => Early,
        });
    }
    found
}

#[test]
fn a_reader_finds_what_is_right() {
    for row in rows() {
        let due = row.outcomes.len();
        let found = read(row.asked(), due, [&row.wire[..]]);
        assert_eq!(
            found,
            row.outcomes,
            "{}: {}",
            row.name,
            row.wire.escape_ascii()
        );
    }
}

#[test]
fn a_reader_finds_the_same_at_every_cut() {
    for row in rows() {
        let due = row.outcomes.len();
        let bytewise = read(row.asked(), due, row.wire.chunks(1));
        assert_eq!(bytewise, row.outcomes, "{}, byte by byte", row.name);
        for cut in 0..row.wire.len() {
            let (first, second) = row.wire.split_at(cut);
            let found = read(row.asked(), due, [first, second]);
            assert_eq!(found, row.outcomes, "{}, cut at {cut}", row.name);
        }
    }
}

/// The limits are those of a head, of the line of a chunk's size, of a trailer section; not of what one read
/// brings.
#[test]
fn limits_are_by_size() {
    const KIB64: usize = 64 << 10;
    let filled = |before: &str, behind: &str, length: usize| {
        let filler = "x".repeat(length - before.len() - behind.len());
        format!("{before}{filler}{behind}")
    };
    let head = |length| filled("HTTP/1.1 204 No\r\nX: ", "\r\n\r\n", length);
    let lines = |length: usize| {
        let line = "X: y\r\n";
        let first = filled(
            "HTTP/1.1 204 No\r\nX: ",
            "\r\n",
            50 + (length - 52) % line.len(),
        );
        format!(
            "{first}{}\r\n",
            line.repeat((length - 2 - first.len()) / line.len())
        )
    };
    let size = |length| chunked(&filled("0;", "\r\n", length)) + "\r\n";
    let trailer = |length| chunked("0\r\n") + &filled("X:", "\r\n\r\n", length);
    let rows = [
        ("head", head(KIB64), Whole(204, 0)),
        ("too long a head", head(KIB64 + 1), Malformed),
        ("lines", lines(KIB64), Whole(204, 0)),
        ("too many lines", lines(KIB64 + 1), Malformed),
        ("empty lines", "\r\n".repeat(KIB64), Malformed),
        (
            "two heads",
            format!("HTTP/1.1 100 C\r\n\r\n{}", head(KIB64)),
            Whole(204, 0),
        ),
        ("a size", size(KIB64 - 10), Whole(200, 0)),
        ("too long a size", size(KIB64 + 10), Malformed),
        ("a trailer", trailer(KIB64 - 10), Whole(200, 0)),
        ("too long a trailer", trailer(KIB64 + 10), Malformed),
    ];
    for (name, wire, outcome) in rows {
        for piece in [usize::MAX, KIB64 - 1, KIB64 / 2, 4096, 977] {
            let found = read(Asked::Content, 1, wire.as_bytes().chunks(piece));
            assert_eq!(found, [outcome], "{name}, in pieces of {piece}");
        }
    }
}

/// What a run makes of it: how often each status came, what went wrong, how long the bodies were.
type Outcome = (Vec<(u16, u64)>, Vec<((Phase, Kind), u64)>);

/// What a run must make of so many connections.
fn due(row: &Row, connections: u64) -> Outcome {
    let (mut status, mut errors) = (
        std::collections::BTreeMap::new(),
        std::collections::BTreeMap::new(),
    );
    for is in row.outcomes {
        let mut error = |phase, kind| *errors.entry((phase, kind)).or_insert(0) += connections;
        match is {
            Whole(code, length) | Last(code, length) => {
                *status.entry(*code).or_insert(0) += connections;
                if *code >= 400 {
                    error(Phase::Body, Kind::BadStatus);
                } else if *length != 5 {
                    error(Phase::Body, Kind::WrongBody);
                }
            }
            Malformed => error(Phase::Body, Kind::Malformed),
            Short => error(Phase::Body, Kind::ShortBody),
            Early if row.wire.is_empty() => error(Phase::FirstByte, Kind::ClosedEarly),
            Early => error(Phase::Body, Kind::ClosedEarly),
        }
    }
    (status.into_iter().collect(), errors.into_iter().collect())
}

/// Over real sockets: each connection of a run gets the same bytes, cut at another place.
#[test]
fn a_run_counts_the_same_at_every_cut() {
    let rows = rows();
    let next = std::sync::atomic::AtomicUsize::new(0);
    // Most of the time they wait for each other.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(row) =
                    rows.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let cuts: Vec<usize> = (0..=row.wire.len()).collect();
                    // So many connections are opened in one go.
                    for cuts in cuts.chunks(100) {
                        let outcome = run(row, Pieces::Cut(cuts));
                        assert_eq!(
                            outcome,
                            due(row, cuts.len() as u64),
                            "{}, {cuts:?}",
                            row.name
                        );
                    }
                    let outcome = run(row, Pieces::Bytes);
                    assert_eq!(outcome, due(row, 1), "{}, byte by byte", row.name);
                }
            });
        }
    });
}

#[derive(Clone, Copy)]
enum Pieces<'a> {
    /// One connection for each place, cut there.
    Cut(&'a [usize]),
    /// One connection, byte by byte.
    Bytes,
}

fn run(row: &Row, pieces: Pieces<'_>) -> Outcome {
    let connections = match pieces {
        Pieces::Cut(cuts) => cuts.len(),
        Pieces::Bytes => 1,
    };
    let requests = row.outcomes.len();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let request = format!("{} / HTTP/1.1\r\nHost: test\r\n\r\n", row.method);
    let record: Record = thread::scope(|scope| {
        let length = request.len() * requests;
        let server = scope.spawn(move || serve(&listener, row, pieces, length));
        let plan = Plan {
            connections,
            head_only: row.method == "HEAD",
            expect: Some(Arc::new(Expected::Text(b"hello".to_vec()))),
            pipeline: requests,
            life: ConnectionLife::Requests(requests as u64),
            limit: Limit::Requests((connections * requests) as u64),
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(60),
            ..Plan::new(address, request.clone().into_bytes())
        };
        let outcome = drive::run(&plan, &AtomicBool::new(false)).expect("the generator can run");
        server
            .join()
            .expect("no panic")
            .expect("the server can serve");
        outcome.record
    });
    assert_eq!(
        record.counts.connections_opened, connections as u64,
        "{}",
        row.name
    );
    (
        record.status.into_iter().collect(),
        record.errors.into_iter().collect(),
    )
}

/// Takes all requests of all connections, then answers them at the same time, so that it is waited once
/// between two pieces.
fn serve(listener: &TcpListener, row: &Row, pieces: Pieces<'_>, length: usize) -> io::Result<()> {
    /// Long enough, mostly, for the other side to have read what came before; if not, nothing is wrong.
    const PAUSE: Duration = Duration::from_millis(3);
    let connections = match pieces {
        Pieces::Cut(cuts) => cuts.len(),
        Pieces::Bytes => 1,
    };
    let mut streams = Vec::new();
    for _ in 0..connections {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.read_exact(&mut vec![0; length])?;
        streams.push(stream);
    }
    // The client may have closed already.
    let write = |stream: &mut TcpStream, bytes: &[u8]| {
        let _ = stream.write_all(bytes);
    };
    match pieces {
        Pieces::Bytes => {
            for byte in row.wire.chunks(1) {
                write(&mut streams[0], byte);
                thread::sleep(Duration::from_micros(20));
            }
        }
        Pieces::Cut(cuts) => {
            for (stream, &cut) in streams.iter_mut().zip(cuts) {
                write(stream, &row.wire[..cut]);
            }
            thread::sleep(PAUSE);
            for (stream, &cut) in streams.iter_mut().zip(cuts) {
                write(stream, &row.wire[cut..]);
            }
        }
    }
    for mut stream in streams {
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    Ok(())
}

/// Pieces of responses, and of what is none, put together at random. Prints how many splits were tried;
/// `PROPTEST_CASES` says of how many inputs.
#[test]
fn no_split_is_seen_in_the_outcome() {
    /// Of each input.
    const SPLITS: u64 = 250;
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let tried = std::cell::Cell::new(0u64);
    let outcome = runner.run(&(inputs(), any::<u64>()), |((asked, input), seed)| {
        let whole = read(asked, usize::MAX, [&input[..]]);
        let bytewise = read(asked, usize::MAX, input.chunks(1));
        prop_assert_eq!(&whole, &bytewise, "byte by byte: {}", input.escape_ascii());
        let mut random = fastrand::Rng::with_seed(seed);
        let mut cuts = Vec::new();
        for _ in 0..SPLITS {
            random_cuts(&mut cuts, input.len(), &mut random);
            let pieces = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]);
            let found = read(asked, usize::MAX, pieces);
            prop_assert_eq!(
                &whole,
                &found,
                "cut at {:?}: {}",
                cuts,
                input.escape_ascii()
            );
        }
        tried.set(tried.get() + SPLITS + 1);
        Ok(())
    });
    println!("{} splits tried", tried.get());
    if let Err(error) = outcome {
        panic!("{error}\n{runner}");
    }
}

/// One to eight places to cut at, between both ends.
fn random_cuts(cuts: &mut Vec<usize>, length: usize, random: &mut fastrand::Rng) {
    cuts.clear();
    cuts.push(0);
    for _ in 0..random.usize(1..=8) {
        cuts.push(random.usize(0..=length));
    }
    cuts.push(length);
    cuts.sort_unstable();
}

/// The method of the requests, and up to four responses, each right or with some bytes changed.
fn inputs() -> impl Strategy<Value = (Asked, Vec<u8>)> {
    let wires: Vec<Vec<u8>> = rows().into_iter().map(|row| row.wire).collect();
    let known = proptest::sample::select(wires);
    let response = prop_oneof![
        2 => known.clone(),
        2 => composed(),
        1 => (known, changes()).prop_map(|(wire, changes)| changed(wire, &changes)),
        1 => (composed(), changes()).prop_map(|(wire, changes)| changed(wire, &changes)),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    let asked = prop_oneof![
        6 => Just(Asked::Content),
        1 => Just(Asked::Head),
        1 => Just(Asked::Connect),
    ];
    let wire = proptest::collection::vec(response, 1..4);
    (asked, wire.prop_map(|responses| responses.concat()))
}

/// A head of lines that say much of a body, and something behind it.
fn composed() -> impl Strategy<Value = Vec<u8>> {
    let line = proptest::sample::select(vec![
        "Content-Length: 5\r\n",
        "Content-Length: 5\n",
        "content-length:0\r\n",
        "Content-Length : 5, 5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: gzip,\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "X: y\r\n",
        " folded: 5\r\n",
        "\tchunked\r\n",
        " 5\n",
        " \r\n",
        "\r\n",
        "\n",
        "\r",
        "no colon\r\n",
        ": no name\r\n",
        "X: a\rb\r\n",
    ]);
    let start = proptest::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n",
        "HTTP/1.1 101 Switching\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 408 Timeout\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "\r",
    ]);
    let body = proptest::sample::select(vec![
        "\r\n",
        "\r\nhello",
        "\nhello\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "\r\n5;a=\"b\"\r\nhello\r\n00\r\nA: b\r\n c\r\n\r\n",
        "\r\n5\nhello",
        "\r\n0\r\n\n",
        "\r\nfffffffffffffffff\r\n",
        "",
    ]);
    (start, proptest::collection::vec(line, 0..4), body)
        .prop_map(|(start, lines, body)| [start, &lines.concat(), body].concat().into_bytes())
}

/// Where a byte is replaced, by which, and whether it is put in or taken out instead.
type Changes = Vec<(prop::sample::Index, u8, u8)>;

fn changes() -> impl Strategy<Value = Changes> {
    let byte = prop_oneof![
        3 => proptest::sample::select(b"\r\n \t:;,0159aHf\"".to_vec()),
        1 => any::<u8>(),
    ];
    proptest::collection::vec((any::<prop::sample::Index>(), byte, 0..3u8), 1..4)
}

fn changed(mut wire: Vec<u8>, changes: &Changes) -> Vec<u8> {
    for (index, byte, how) in changes {
        if wire.is_empty() {
            break;
        }
        let at = index.index(wire.len());
        match how {
            0 => wire[at] = *byte,
            1 => wire.insert(at, *byte),
            _ => drop(wire.remove(at)),
        }
    }
    wire
}
