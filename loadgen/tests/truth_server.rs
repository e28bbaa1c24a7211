//! The test server is what it claims to be, as plain sockets see it: who tests a generator against it
//! need not ask which of the two is wrong.

mod truth;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use truth::answer::{Fault, Framing};
use truth::delay::{Delay, Stall};
use truth::statistics::{ANDERSON_DARLING_1_PERCENT, anderson_darling_exponential, quantile};
use truth::{Options, Server, Serves, WhenAskedToClose};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const CLOSING: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\nconnection: Close\r\n\r\n";
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
const MS: Duration = Duration::from_millis(1);

fn start(options: Options) -> Server {
    Server::start(options).unwrap()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// How what was read ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Closed,
    Reset,
    StaysOpen,
}

/// Sends `request` and reads until nothing more comes for a while.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> (Vec<u8>, End) {
    stream.write_all(request).unwrap();
    stream.set_read_timeout(Some(200 * MS)).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (seen, End::Closed),
            Ok(n) => seen.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return (seen, End::StaysOpen);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return (seen, End::Reset);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends a request and waits for the usual answer.
fn hello(stream: &mut TcpStream) {
    stream.write_all(REQUEST).unwrap();
    let mut answer = vec![0; HELLO.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(
        answer.escape_ascii().to_string(),
        HELLO.escape_ascii().to_string()
    );
}

#[test]
fn delays_have_the_quantiles_they_claim() {
    for (text, p50_us, p90_us, p99_us) in [
        ("fixed:5ms", 5_000.0, 5_000.0, 5_000.0),
        ("uniform:1ms..9ms", 5_000.0, 8_200.0, 8_920.0),
        ("bimodal:1ms,20ms,0.05", 1_000.0, 1_000.0, 20_000.0),
        // ln 2, ln 10 and ln 100.
        ("exponential:5ms", 3_465.7, 11_512.9, 23_025.9),
    ] {
        let delay: Delay = text.parse().unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let mut draws: Vec<u64> = (0..100_000).map(|_| delay.draw_ns(&mut random)).collect();
        draws.sort_unstable();
        for (p, us) in [(0.5, p50_us), (0.9, p90_us), (0.99, p99_us)] {
            let claimed = delay.quantile(p).as_nanos() as f64 / 1e3;
            assert!(
                (claimed / us - 1.0).abs() < 1e-4,
                "{text}: p{p} is {claimed}"
            );
            let drawn = quantile(&draws, p) as f64 / 1e3;
            assert!(
                (drawn / us - 1.0).abs() < 0.02,
                "{text}: p{p} of draws is {drawn}"
            );
        }
    }
    for wrong in [
        "",
        "5ms",
        "fixed:",
        "uniform:5ms",
        "uniform:9ms..1ms",
        "bimodal:1ms,2ms,3",
    ] {
        assert!(wrong.parse::<Delay>().is_err(), "{wrong:?}");
    }
}

#[test]
fn a_stall_holds_all_that_is_due_in_it_to_its_end() {
    let stall: Stall = "200ms/1s".parse().unwrap();
    let ms = |at: u64| stall.release_ns(at * 1_000_000) / 1_000_000;
    for (due, released) in [
        (0, 0),
        (799, 799),
        (800, 1000),
        (999, 1000),
        (1000, 1000),
        (3900, 4000),
    ] {
        assert_eq!(ms(due), released);
    }
    assert!("1s/200ms".parse::<Stall>().is_err());
}

#[test]
fn the_statistic_tells_exponential_from_other_gaps() {
    // By the formula, term by term.
    let of_five = anderson_darling_exponential(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!((of_five - 0.688_633_568).abs() < 1e-6, "{of_five}");

    let mut random = fastrand::Rng::with_seed(1);
    let mut sample = |n: usize, draw: fn(f64) -> f64| -> Vec<f64> {
        (0..n).map(|_| draw(random.f64())).collect()
    };
    let exponential = |u: f64| -(1.0 - u).ln();
    let rejected = (0..4_000)
        .filter(|_| {
            anderson_darling_exponential(&sample(50, exponential)) > ANDERSON_DARLING_1_PERCENT
        })
        .count();
    // 40 are expected, give or take 6.
    assert!((20..60).contains(&rejected), "{rejected} of 4000");
    for other in [
        |u: f64| 0.9 + 0.2 * u,
        |u: f64| u,
        // A tenth of the gaps is missing its start.
        |u: f64| (-(1.0 - u).ln()).max(0.1),
    ] {
        let statistic = anderson_darling_exponential(&sample(5_000, other));
        assert!(statistic > ANDERSON_DARLING_1_PERCENT, "{statistic}");
    }
}

#[test]
fn answers_in_every_framing() {
    for framing in Framing::ALL {
        let server = start(Options {
            framing,
            ..Options::default()
        });
        let (answer, end) = exchange(&mut connect(&server), REQUEST);
        let text = String::from_utf8(answer).unwrap();
        let (starts, ends) = match framing {
            Framing::Interim => (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early",
                "\r\n\r\nhello world",
            ),
            Framing::Chunked => (
                "HTTP/1.1 200 OK\r\n",
                "8;a=b\r\nlo world\r\n0\r\nX-Trailer: end\r\n\r\n",
            ),
            _ => ("HTTP/1.1 200 OK\r\n", "\r\n\r\nhello world"),
        };
        assert!(text.starts_with(starts) && text.ends_with(ends), "{text}");
        let until_close = framing == Framing::UntilClose;
        assert_eq!(
            text.contains("Content-Length"),
            !until_close && framing != Framing::Chunked
        );
        assert_eq!(end == End::Closed, until_close, "{framing:?}");
        let truth = server.stop();
        assert_eq!(
            (truth.connections, truth.requests, truth.responses),
            (1, 1, 1)
        );
    }
}

#[test]
fn misbehaves_as_told_and_only_when_told() {
    for (fault, answer, end) in [
        (Fault::Reset, "", End::Reset),
        (Fault::Close, "", End::Closed),
        (
            Fault::CloseInHead,
            "HTTP/1.1 200 OK\r\nContent-Le",
            End::Closed,
        ),
        (
            Fault::ShortBody,
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello",
            End::Closed,
        ),
        (
            Fault::Malformed,
            "220 mail.example.com ESMTP\r\n\r\n",
            End::StaysOpen,
        ),
        (
            Fault::Status503,
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 11\r\n\r\nhello world",
            End::StaysOpen,
        ),
        (
            Fault::WrongBody,
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\njello world",
            End::StaysOpen,
        ),
        (
            Fault::OtherLength,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            End::StaysOpen,
        ),
        (
            Fault::ExtraBytes,
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world!",
            End::StaysOpen,
        ),
        (Fault::Hang, "", End::StaysOpen),
    ] {
        let server = start(Options {
            faults: vec![fault],
            fault_every: 3,
            ..Options::default()
        });
        let mut stream = connect(&server);
        hello(&mut stream);
        hello(&mut stream);
        let seen = exchange(&mut stream, REQUEST);
        let seen = (String::from_utf8(seen.0).unwrap(), seen.1);
        assert_eq!(seen, (answer.to_owned(), end), "{fault:?}");
        drop(stream);
        hello(&mut connect(&server));
        let truth = server.stop();
        assert_eq!(truth.requests, 4);
        assert_eq!(
            truth.responses,
            3 + u64::from(fault.responds()),
            "{fault:?}"
        );
        assert_eq!(truth.faults.get(&fault), Some(&1));
        assert_eq!(truth.faults_count(), 1);
        assert_eq!(truth.connections, 2);
    }
}

#[test]
fn kinds_of_misbehaviour_take_turns() {
    let server = start(Options {
        faults: vec![Fault::Status503, Fault::WrongBody, Fault::OtherLength],
        fault_every: 10,
        ..Options::default()
    });
    let mut stream = connect(&server);
    let (seen, _) = exchange(&mut stream, &REQUEST.repeat(100));
    let seen = String::from_utf8(seen).unwrap();
    assert_eq!(seen.matches("HTTP/1.1").count(), 100);
    assert_eq!(seen.matches(" 503 ").count(), 4);
    assert_eq!(seen.matches("jello").count(), 3);
    assert_eq!(seen.matches("Length: 5").count(), 3);
    drop(stream);
    let truth = server.stop();
    assert_eq!((truth.requests, truth.responses), (100, 100));
    let counts: Vec<u64> = truth.faults.into_values().collect();
    assert_eq!(counts, [4, 3, 3]);
}

#[test]
fn closes_when_asked_to_as_it_was_told() {
    for (when_asked_to_close, says, end) in [
        (WhenAskedToClose::Closes, true, End::Closed),
        (WhenAskedToClose::ClosesUnannounced, false, End::Closed),
        (WhenAskedToClose::Ignores, false, End::StaysOpen),
    ] {
        let server = start(Options {
            when_asked_to_close,
            ..Options::default()
        });
        let mut stream = connect(&server);
        hello(&mut stream);
        let (answer, ended) = exchange(&mut stream, CLOSING);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nhello world"));
        assert_eq!(answer.contains("Connection: close"), says);
        assert_eq!(ended, end);
    }
}

#[test]
fn reads_requests_in_pieces_with_bodies_and_pipelined() {
    let server = start(Options::default());
    let mut stream = connect(&server);
    for &byte in REQUEST {
        stream.write_all(&[byte]).unwrap();
    }
    let with_body = b"POST / HTTP/1.1\r\ncontent-length:  7\r\n\r\n\r\n\r\nabc";
    let (seen, _) = exchange(&mut stream, &[with_body, REQUEST].concat());
    assert_eq!(seen, HELLO.repeat(3));
    drop(stream);
    assert_eq!(server.stop().requests, 3);
}

#[test]
fn holds_each_request_for_its_delay_and_says_by_how_much_more() {
    let server = start(Options {
        delay: Delay::Uniform(MS, 5 * MS),
        seed: 7,
        ..Options::default()
    });
    let mut stream = connect(&server);
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..100 {
        let sent = Instant::now();
        hello(&mut stream);
        seen.push(sent.elapsed().as_nanos() as u64);
    }
    drop(stream);
    let truth = server.stop();
    let mut random = fastrand::Rng::with_seed(7);
    assert_eq!(truth.answers.len(), 100);
    for (answer, seen) in truth.answers.iter().zip(seen) {
        let drawn = Delay::Uniform(MS, 5 * MS).draw_ns(&mut random);
        assert_eq!(answer.drawn_ns, drawn);
        assert_eq!(answer.meant_ns, drawn);
        assert!(answer.held_ns >= drawn && answer.held_ns < seen);
    }
    // Usually some 50 µs; a timer in whole milliseconds would make it half of one.
    let late = quantile(&truth.late_ns(), 0.25);
    assert!(late < 400_000, "{late} ns too late");
}

#[test]
fn answers_keep_their_order_and_abandoned_ones_do_not_come() {
    let server = start(Options {
        delay: Delay::Bimodal(MS, 50 * MS, 0.5),
        ..Options::default()
    });
    let mut stream = connect(&server);
    let mut abandoned = connect(&server);
    abandoned.write_all(&REQUEST.repeat(20)).unwrap();
    drop(abandoned);
    let (seen, _) = exchange(&mut stream, &REQUEST.repeat(20));
    assert_eq!(seen, HELLO.repeat(20));
    drop(stream);
    let truth = server.stop();
    assert_eq!(truth.requests, 40);
    assert!((20..40).contains(&truth.responses), "{}", truth.responses);
    assert!(
        truth
            .answers
            .iter()
            .any(|answer| answer.meant_ns > answer.drawn_ns)
    );
}

#[test]
fn stalls_when_it_should() {
    let server = start(Options {
        stall: Some(Stall {
            every: 200 * MS,
            lasts: 100 * MS,
        }),
        ..Options::default()
    });
    let mut stream = connect(&server);
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    while start.elapsed() < 400 * MS {
        let sent = Instant::now();
        hello(&mut stream);
        longest = longest.max(sent.elapsed());
    }
    drop(stream);
    let truth = server.stop();
    let held = truth.held_ns();
    let stalled = held.iter().filter(|&&held| held > 80_000_000).count();
    assert!((1..=3).contains(&stalled), "{stalled} times");
    assert!(longest > 80 * MS, "{longest:?}");
    for (arrived, answer) in truth.arrivals_ns.iter().zip(&truth.answers) {
        let due = arrived + answer.meant_ns;
        assert!(due % 200_000_000 < 100_000_000);
    }
}

#[test]
fn serves_the_first_connections_only() {
    for (serves, accepted) in [(Serves::FirstAndAccepts(2), 4), (Serves::First(2), 2)] {
        let server = start(Options {
            serves,
            ..Options::default()
        });
        let mut streams: Vec<TcpStream> = (0..4).map(|_| connect(&server)).collect();
        hello(&mut streams[0]);
        hello(&mut streams[1]);
        for starving in &mut streams[2..] {
            assert_eq!(exchange(starving, REQUEST), (Vec::new(), End::StaysOpen));
        }
        drop(streams);
        let truth = server.stop();
        assert_eq!(truth.connections, accepted, "{serves:?}");
        assert_eq!(truth.requests, 2);
    }
}

#[test]
fn accepts_slowly_from_a_short_queue() {
    let server = start(Options {
        backlog: 1,
        accept_every: 50 * MS,
        ..Options::default()
    });
    let start = Instant::now();
    let mut streams: Vec<TcpStream> = (0..4).map(|_| connect(&server)).collect();
    // Who comes when the queue is full comes again after a second.
    assert!(start.elapsed() > 900 * MS, "{:?}", start.elapsed());
    streams.iter_mut().for_each(hello);
    assert!(start.elapsed() > 900 * MS + 50 * MS);
    drop(streams);
    assert_eq!(server.stop().connections, 4);
}

#[test]
fn stopping_reads_what_was_sent_and_does_not_wait_for_ever() {
    let server = start(Options {
        accept_every: Duration::from_secs(3600),
        ..Options::default()
    });
    let mut open = connect(&server);
    hello(&mut open);
    // In the queue, sent and closed: it is all known in the end.
    for _ in 0..3 {
        connect(&server).write_all(REQUEST).unwrap();
    }
    let start = Instant::now();
    let truth = server.stop();
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!((truth.connections, truth.requests), (4, 4));
    assert_eq!(truth.connections_open_max, 4);
}
