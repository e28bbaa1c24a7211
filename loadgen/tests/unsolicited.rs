//! What servers say without having been asked, how they end connections, and what they say that is no HTTP:
//! each is counted and named for what it is.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use engine::drive;
use engine::plan::{Limit, Pace, Plan, Rate};
use engine::record::{Closes, Kind, Outcome, Phase, Unsolicited};
use engine::verdict::{Status, Verdict, judge};
use socket2::SockRef;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
const TIMEOUT_408: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Gives each connection, with its number, to `converse`, on a thread of its own.
fn server<F>(converse: F) -> SocketAddr
where
    F: Fn(&mut TcpStream, u64) -> io::Result<()> + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in (0..).zip(listener.incoming()) {
            let converse = converse.clone();
            // What a client does to its connection is its own affair.
            thread::spawn(move || {
                let mut stream = stream?;
                stream.set_nodelay(true)?;
                converse(&mut stream, number)
            });
        }
    });
    address
}

fn request(stream: &mut TcpStream) -> io::Result<()> {
    stream.read_exact(&mut [0; REQUEST.len()])
}

fn plan(target: SocketAddr, requests: u64) -> Plan {
    Plan {
        connections: 1,
        limit: Limit::Requests(requests),
        warmup: Duration::ZERO,
        ..Plan::new(target, REQUEST.to_vec())
    }
}

fn run(plan: &Plan) -> (Outcome, Verdict) {
    let outcome = drive::run(plan, &AtomicBool::new(false)).unwrap();
    let verdict = judge(plan, &outcome);
    (outcome, verdict)
}

/// How a server ends what it says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    Closes,
    Resets,
    Stays,
}

/// By then a generator that does not get its CPU at once has read the answer, too. Much less than the time between
/// two requests.
const UNTIL_READ: Duration = Duration::from_millis(500);

/// Two requests, with a long pause between them, in which the server says something.
fn between_requests(said: &'static [u8], piece: usize, then: Then) -> Outcome {
    let address = server(move |stream, _| {
        while request(stream).is_ok() {
            stream.write_all(HELLO)?;
            thread::sleep(UNTIL_READ);
            for piece in said.chunks(piece) {
                stream.write_all(piece)?;
                thread::sleep(Duration::from_millis(1));
            }
            match then {
                Then::Closes => return Ok(()),
                Then::Resets => return SockRef::from(&*stream).set_linger(Some(Duration::ZERO)),
                Then::Stays => {}
            }
        }
        Ok(())
    });
    let rate = Rate::per_second(0.5).unwrap();
    run(&Plan {
        pace: Pace::Constant(rate),
        ..plan(address, 2)
    })
    .0
}

#[test]
fn what_is_said_between_requests_costs_none() {
    use Then::{Closes, Resets, Stays};
    type Count = fn(&Unsolicited) -> u64;
    let status = |_: u16| -> Count { |said| said.status.values().sum() };
    let (empty, other, resets): (Count, Count, Count) = (
        |said| said.empty_lines,
        |said| said.other,
        |said| said.resets,
    );
    const ALL: usize = usize::MAX;
    const UNTIL_CLOSE: &[u8] = b"HTTP/1.0 408 Request Timeout\r\n\r\nToo slow";
    const UNAVAILABLE: &[u8] =
        b"\r\nHTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    type Row<'a> = (&'a [u8], usize, Then, Option<Count>, Option<u16>);
    let rows: &[Row<'_>] = &[
        (b"", ALL, Closes, None, None),
        (b"", ALL, Resets, Some(resets), None),
        (TIMEOUT_408, ALL, Closes, Some(status(408)), Some(408)),
        (TIMEOUT_408, 1, Closes, Some(status(408)), Some(408)),
        (TIMEOUT_408, ALL, Stays, Some(status(408)), Some(408)),
        (TIMEOUT_408, ALL, Resets, Some(status(408)), Some(408)),
        (UNTIL_CLOSE, ALL, Closes, Some(status(408)), Some(408)),
        (UNTIL_CLOSE, 7, Stays, Some(status(408)), Some(408)),
        (UNAVAILABLE, 5, Closes, Some(status(503)), Some(503)),
        (
            b"HTTP/1.1 400 Bad\r\nContent-Le",
            ALL,
            Closes,
            Some(status(400)),
            Some(400),
        ),
        // An interim response is one too, whatever stays away behind it.
        (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            ALL,
            Stays,
            Some(status(100)),
            Some(100),
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
            9,
            Closes,
            Some(status(103)),
            Some(103),
        ),
        (b"HTTP/1.1 40", ALL, Closes, Some(other), None),
        (b"\r\n", ALL, Closes, Some(empty), None),
        (b"\r\n", ALL, Stays, Some(empty), None),
        (
            b"\x15\x03\x03\x00\x02\x01\x00",
            ALL,
            Closes,
            Some(other),
            None,
        ),
        (
            b"\x15\x03\x03\x00\x02\x01\x00",
            1,
            Closes,
            Some(other),
            None,
        ),
        (b"Goodbye.\n", ALL, Stays, Some(other), None),
        (&[0xff; 100], ALL, Closes, Some(other), None),
    ];
    thread::scope(|scope| {
        for (said, piece, then, count, status) in rows {
            scope.spawn(move || {
                let record = between_requests(said, *piece, *then).record;
                let name = format!("\"{}\" by {piece}, {then:?}", said.escape_ascii());
                assert_eq!(
                    (record.counts.good, record.counts.responses),
                    (2, 2),
                    "{name}"
                );
                assert_eq!(record.errors_count(), 0, "{name}: {:?}", record.errors);
                let unsolicited = &record.unsolicited;
                // The second time, the run may be over before.
                let counted = count.map_or(0, |count| count(unsolicited));
                let least = u64::from(count.is_some());
                assert!((least..=2).contains(&counted), "{name}: {unsolicited:?}");
                assert_eq!(unsolicited.count(), counted, "{name}: {unsolicited:?}");
                let by_status = unsolicited.status.keys().next().copied();
                assert_eq!(by_status, *status, "{name}: {unsolicited:?}");
                assert_eq!(
                    unsolicited.misread.is_some(),
                    unsolicited.other > 0,
                    "{name}"
                );
                let is_kept = *then == Stays && unsolicited.empty_lines > 0;
                let opened = if is_kept { 1 } else { 2 };
                assert_eq!(record.counts.connections_opened, opened, "{name}");
            });
        }
    });
}

/// A 408 answers a request on a new connection. On one that was used before, it has crossed with it.
#[test]
fn a_408_may_have_crossed_with_a_request() {
    for (answered, unasked, error) in [
        (0, 0, (Phase::Body, Kind::BadStatus)),
        (1, 1, (Phase::FirstByte, Kind::ClosedEarly)),
    ] {
        let address = server(move |stream, number| {
            for _ in 0..if number == 0 { answered } else { 9 } {
                request(stream)?;
                stream.write_all(HELLO)?;
            }
            request(stream)?;
            stream.write_all(TIMEOUT_408)
        });
        let (outcome, _) = run(&plan(address, answered + 3));
        let record = &outcome.record;
        assert_eq!(record.counts.good, answered + 2, "{answered}");
        assert_eq!(record.unsolicited.count(), unasked, "{answered}");
        let errors: Vec<_> = record.errors.iter().collect();
        assert_eq!(errors, [(&error, &1)], "{answered}");
    }
}

/// Empty lines are counted, not the pieces in which they come.
#[test]
fn empty_lines_are_counted_one_by_one() {
    thread::scope(|scope| {
        for piece in [1, 2, 3, 5, 8] {
            scope.spawn(move || {
                let outcome = between_requests(b"\r\n\r\n\n\r\n", piece, Then::Closes);
                // The run may be over before they come the second time.
                let lines = outcome.record.unsolicited.empty_lines;
                assert!((4..=8).contains(&lines), "{lines} by {piece}");
            });
        }
    });
}

/// Behind a response that ends its connection, in the same segment.
#[test]
fn what_is_behind_the_last_response_is_named_for_what_it_is() {
    for (behind, by_status, lines, errors) in [
        (&b"HTTP/1.1 103 Early Hints\r\n\r\n"[..], Some(103), 0, 0),
        (TIMEOUT_408, Some(408), 0, 0),
        (b"\r\n\n", None, 2, 0),
        (b"more", None, 0, 1),
    ] {
        let address = server(move |stream, _| {
            request(stream)?;
            stream.write_all(&[LAST, behind].concat())
        });
        let record = run(&plan(address, 1)).0.record;
        let unsolicited = &record.unsolicited;
        let name = behind.escape_ascii();
        assert_eq!(record.counts.good, 1, "{name}");
        assert_eq!(record.errors_count(), errors, "{name}: {:?}", record.errors);
        let status = unsolicited.status.keys().next().copied();
        assert_eq!(status, by_status, "{name}");
        assert_eq!(unsolicited.empty_lines, lines, "{name}");
    }
}

/// An empty line before a response is no part of it.
#[test]
fn an_empty_line_is_no_first_byte() {
    let address = server(|stream, number| {
        request(stream)?;
        stream.write_all(b"\r\n")?;
        thread::sleep(Duration::from_millis(60));
        match number {
            0 => Ok(()),
            _ => stream.write_all(HELLO),
        }
    });
    let record = run(&plan(address, 2)).0.record;
    let errors: Vec<_> = record.errors.keys().collect();
    assert_eq!(errors, [&(Phase::FirstByte, Kind::ClosedEarly)]);
    assert_eq!(record.counts.good, 1);
    let first_byte_ns = record.first_byte.min();
    assert!(first_byte_ns >= 50_000_000, "{first_byte_ns}");
}

/// One that crossed says nothing about connections that close without a word.
#[test]
fn one_408_explains_no_other_closes() {
    for (each, said) in [(40, false), (1, true)] {
        let address = server(move |stream, number| {
            request(stream)?;
            stream.write_all(HELLO)?;
            request(stream)?;
            match number % each {
                0 => stream.write_all(TIMEOUT_408),
                _ => Ok(()),
            }
        });
        let (outcome, verdict) = run(&plan(address, if each == 1 { 2 } else { 60 }));
        let crossed = outcome.record.unsolicited.crossed;
        assert_eq!(crossed, 1);
        let words = verdict.reasons.join("\n");
        let is_said = words.contains(
            "timed out waiting for a request (408) once while requests were on their way",
        );
        assert_eq!(is_said, said, "{words}");
    }
}

/// A server that serves so many requests on each connection; the number may depend on that of the connection.
fn limited(limit: fn(u64) -> u64, announces: bool) -> SocketAddr {
    server(move |stream, number| {
        let limit = limit(number);
        for served in 1..=limit {
            request(stream)?;
            stream.write_all(if announces && served == limit {
                LAST
            } else {
                HELLO
            })?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        // With requests unread a reset would destroy responses.
        stream.read_to_end(&mut Vec::new()).map(drop)
    })
}

#[test]
fn the_limit_of_a_connection_is_named() {
    let closes = |connections, responses_min, responses_max| Closes {
        connections,
        responses_min,
        responses_max,
    };
    type Row = (fn(u64) -> u64, bool, usize, Kind, u64, u64, &'static str);
    let rows: [Row; 5] = [
        (
            |_| 10,
            true,
            4,
            Kind::BehindClose,
            10,
            10,
            "after 10 responses",
        ),
        (
            |number| 10 + number % 3,
            true,
            8,
            Kind::BehindClose,
            10,
            12,
            "after 10 to 12 responses",
        ),
        (|_| 1, true, 2, Kind::BehindClose, 1, 1, "after 1 response "),
        (
            |_| 10,
            false,
            4,
            Kind::ClosedEarly,
            10,
            10,
            "after 10 responses",
        ),
        (
            |_| 25,
            false,
            1,
            Kind::ClosedEarly,
            25,
            25,
            "after 25 responses",
        ),
    ];
    for (limit, announces, pipeline, kind, min, max, words) in rows {
        let address = limited(limit, announces);
        let (outcome, verdict) = run(&Plan {
            pipeline,
            ..plan(address, 300)
        });
        let record = &outcome.record;
        let name = format!("{words}, {kind}: {:?}", record.errors);
        let errors: Vec<_> = record.errors.keys().collect();
        assert_eq!(errors, [&(Phase::FirstByte, kind)], "{name}");
        assert_eq!(
            record.counts.responses + record.errors_count(),
            300,
            "{name}"
        );
        let (seen, others) = match announces {
            true => (record.closes_announced, record.closes_unannounced),
            false => (record.closes_unannounced, record.closes_announced),
        };
        assert_eq!(seen, closes(seen.connections, min, max), "{name}");
        assert!(seen.connections > 2, "{name}");
        assert_eq!(others, Closes::default(), "{name}");
        let at = verdict
            .reasons
            .iter()
            .position(|reason| reason.contains(words));
        let advice = &verdict.advice[at.unwrap_or_else(|| panic!("{name}: {verdict:?}"))];
        assert!(advice.contains(&format!("-k {min}")), "{advice}");

        // As advised, nothing is lost.
        let address = limited(limit, announces);
        let (outcome, _) = run(&Plan {
            pipeline,
            life: engine::plan::ConnectionLife::from_requests(min),
            ..plan(address, 300)
        });
        assert_eq!(outcome.record.counts.good, 300, "{name}");
    }
}

/// Connections that end at random are no limit, nor is a single one.
#[test]
fn no_limit_is_made_up() {
    type Row = (fn(u64) -> u64, bool, usize, u64);
    let rows: [Row; 3] = [
        (|number| 3 + number * 7 % 11, false, 1, 100),
        (|number| 3 + number * 7 % 11, true, 4, 100),
        (|_| 9, true, 4, 12),
    ];
    for (limit, announces, pipeline, requests) in rows {
        // An announcement costs nothing when all that was sent is answered before it is read.
        let mut runs = (0..100).map(|_| {
            let address = limited(limit, announces);
            run(&Plan {
                pipeline,
                ..plan(address, requests)
            })
        });
        let lost = runs.find(|(outcome, _)| outcome.record.errors_count() > 0);
        let (_, verdict) = lost.expect("requests are lost now and then");
        let words = verdict.reasons.join("\n") + &verdict.advice.join("\n");
        assert!(!words.contains("-k "), "{words}");
        assert_eq!(words.contains("(-p 1)"), announces, "{words}");
    }
}

/// Behind a switch the connection is not HTTP any more: that announces no close.
#[test]
fn a_switch_of_protocols_is_no_close() {
    let address = server(|stream, _| {
        request(stream)?;
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let (outcome, verdict) = run(&Plan {
        pipeline: 2,
        ..plan(address, 20)
    });
    let record = &outcome.record;
    assert_eq!(record.closes_announced, Closes::default());
    assert_eq!(record.counts.protocol_switches, 10);
    let words = verdict.reasons.join("\n");
    assert!(
        words.contains("switched the connection to another protocol"),
        "{words}"
    );
}

/// Idle connections end up in a tunnel, as those of the run.
#[test]
fn idle_connections_are_served_by_a_success_of_connect() {
    const CONNECT: &[u8] = b"CONNECT / HTTP/1.1\r\nHost: test\r\n";
    let address = server(|stream, _| {
        stream.read_exact(&mut [0; CONNECT.len() + 2])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let (outcome, _) = run(&Plan {
        idle: 2,
        limit: Limit::Requests(4),
        warmup: Duration::ZERO,
        connections: 1,
        ..Plan::new(address, [CONNECT, b"\r\n"].concat())
    });
    assert_eq!(outcome.record.counts.good, 4);
    let idle = outcome.idle.unwrap();
    assert_eq!((idle.served, idle.fault), (2, None));
}

#[test]
fn what_is_no_http_is_named_and_quoted() {
    let rows: &[(&[u8], &str, &str)] = &[
        (
            b"\x15\x03\x03\0\x02\x02\x46",
            r#"a TLS alert, "\x15\x03\x03\x00\x02\x02F""#,
            "TLS",
        ),
        (
            b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64",
            r#"an HTTP/2 SETTINGS frame, "\x00\x00\x06\x04"#,
            "HTTP/2",
        ),
        (
            b"SSH-2.0-OpenSSH_9.9\r\n",
            r#"an SSH banner, "SSH-2.0-OpenSSH_9.9\r\n""#,
            "port",
        ),
        (
            b"<html>\x1b[31m</html>",
            r#"HTML or XML without a head, as in HTTP/0.9, "<html>\x1b[31m"#,
            "HTTP/0.9",
        ),
        (
            b"<html></html>",
            r#"as in HTTP/0.9, "<html></html>""#,
            "HTTP/0.9",
        ),
        (
            b"HTTP/1.1 200 OK\r\nServer: x\r\nno colon\r\n\r\n",
            r#"a header field without a colon, "no colon\r\n"#,
            "curl -v",
        ),
    ];
    for (said, words, advises) in rows {
        let address = server(move |stream, _| {
            request(stream)?;
            stream.write_all(said)?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        });
        let (outcome, verdict) = run(&plan(address, 3));
        assert_eq!(verdict.status, Status::Invalid);
        let errors: Vec<_> = outcome.record.errors.into_iter().collect();
        assert_eq!(errors, [((Phase::Body, Kind::Malformed), 3)]);
        // Before it may stand that the generator had no CPU to itself.
        let mut reasons = verdict.reasons.iter().zip(&verdict.advice);
        let said = reasons.find(|(reason, _)| reason.contains(words));
        let (_, advice) = said.unwrap_or_else(|| panic!("{words}: {verdict:?}"));
        assert!(advice.contains(advises), "{words}: {advice}");
    }
    // Beside good responses.
    let address = server(|stream, _| {
        request(stream)?;
        stream.write_all(HELLO)?;
        request(stream)?;
        stream.write_all(b"250 OK\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let (outcome, verdict) = run(&plan(address, 20));
    assert_eq!(
        (outcome.record.counts.good, outcome.record.errors_count()),
        (10, 10)
    );
    let reasons = verdict.reasons.join("\n");
    assert!(
        reasons.contains(r#"(SMTP, NNTP, FTP), "250 OK\r\n""#),
        "{reasons}"
    );
}
