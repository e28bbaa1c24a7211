//! The generator against servers whose truth is known: what they did is what it must have seen.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use engine::drive::{self, Moment};
use engine::plan::{ConnectionLife, Limit, Plan};
use engine::record::{Kind, Outcome, Phase};
use engine::verdict::{Status, judge};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const HELLO_AND_CLOSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// What a server did.
#[derive(Default)]
struct Truth {
    connections: AtomicU64,
    requests: AtomicU64,
}

/// Gives each connection to `converse`, on a thread of its own, for as long as the test runs.
fn server<F>(converse: F) -> (SocketAddr, Arc<Truth>)
where
    F: Fn(&mut TcpStream, &Truth) -> io::Result<()> + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let truth = Arc::new(Truth::default());
    let seen = Arc::clone(&truth);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (converse, seen) = (converse.clone(), Arc::clone(&seen));
            seen.connections.fetch_add(1, SeqCst);
            // What a client does to its connection is its own affair.
            thread::spawn(move || converse(&mut stream?, &seen));
        }
    });
    (address, truth)
}

/// Waits for a whole request; `None` when the client has closed.
fn request(stream: &mut TcpStream, truth: &Truth) -> Option<()> {
    let mut request = vec![0; REQUEST.len()];
    stream.read_exact(&mut request).ok()?;
    assert_eq!(request, REQUEST);
    truth.requests.fetch_add(1, SeqCst);
    Some(())
}

/// A server that gives the same answer to every request.
fn answers(answer: &'static [u8]) -> (SocketAddr, Arc<Truth>) {
    server(move |stream, truth| {
        while request(stream, truth).is_some() {
            stream.write_all(answer)?;
        }
        Ok(())
    })
}

fn plan(target: SocketAddr, requests: u64) -> Plan {
    Plan {
        connections: 4,
        limit: Limit::Requests(requests),
        warmup: Duration::ZERO,
        ..Plan::new(target, REQUEST.to_vec())
    }
}

fn run(plan: &Plan) -> Outcome {
    drive::run(plan, &AtomicBool::new(false)).unwrap()
}

fn errors(outcome: &Outcome, phase: Phase, kind: Kind) -> u64 {
    let errors = &outcome.record.errors;
    errors.get(&(phase, kind)).copied().unwrap_or_default()
}

#[test]
fn sends_as_many_requests_as_asked_for() {
    for (requests, connections, threads, life, pipeline) in [
        (1, 1, 1, 0, 1),
        (1000, 4, 1, 0, 1),
        (1001, 7, 3, 0, 1),
        (1000, 4, 2, 1, 1),
        (1000, 4, 1, 7, 1),
        (1000, 4, 1, 0, 16),
        (1000, 3, 1, 10, 4),
        (3, 8, 1, 0, 1),
    ] {
        let (address, truth) = answers(HELLO);
        let plan = Plan {
            connections,
            threads,
            life: ConnectionLife::from_requests(life),
            pipeline,
            ..plan(address, requests)
        };
        let outcome = run(&plan);
        let record = &outcome.record;
        let name = format!("{plan:?}");
        assert_eq!(record.counts.requests, requests, "{name}");
        assert_eq!(record.counts.responses, requests, "{name}");
        assert_eq!(record.counts.good, requests, "{name}");
        assert_eq!(truth.requests.load(SeqCst), requests, "{name}");
        assert_eq!(record.status.get(&200), Some(&requests), "{name}");
        assert_eq!(record.response.len(), requests, "{name}");
        assert_eq!(record.errors_count(), 0, "{name}");
        assert_eq!(record.counts.in_flight_at_end, 0, "{name}");
        assert_eq!(
            record.counts.bytes_received,
            requests * HELLO.len() as u64,
            "{name}"
        );
        assert!(
            record.counts.connections_open_max <= connections as u64,
            "{name}"
        );
        let by_connection: u64 = record.responses_by_connection.iter().sum();
        assert_eq!(by_connection, requests, "{name}");
        assert_eq!(record.responses_by_connection.len(), connections, "{name}");
    }
}

#[test]
fn a_new_connection_for_every_request_is_one() {
    let (address, truth) = answers(HELLO);
    let outcome = run(&Plan {
        life: ConnectionLife::Requests(1),
        ..plan(address, 500)
    });
    assert_eq!(outcome.record.counts.connections_opened, 500);
    assert_eq!(outcome.record.connect.len(), 500);
    assert_eq!(truth.connections.load(SeqCst), 500);
}

#[test]
fn counts_for_the_time_asked_for_and_not_the_warm_up() {
    // On a busy machine, no request may be sent in a short warm-up.
    for warmup_ms in [200, 1_000, 5_000] {
        let (address, truth) = answers(HELLO);
        let outcome = run(&Plan {
            limit: Limit::For(Duration::from_millis(300)),
            warmup: Duration::from_millis(warmup_ms),
            ..plan(address, 0)
        });
        let counts = &outcome.record.counts;
        assert!(outcome.duration >= Duration::from_millis(300));
        assert_eq!(counts.requests, counts.responses + counts.in_flight_at_end);
        assert!(counts.in_flight_at_end <= 4);
        // Those in flight may or may not have reached the server.
        let sent = counts.warmup_requests + counts.requests;
        let seen = truth.requests.load(SeqCst);
        assert!(seen <= sent && seen + 4 >= sent, "{seen} of {sent}");
        if counts.warmup_requests > 0 {
            return;
        }
    }
    panic!("no request is sent during the warm-up");
}

/// A reading of the server's CPU time at the beginning comes before the cost of the first request.
#[test]
fn without_a_warm_up_nothing_has_happened_at_the_beginning() {
    let (address, truth) = answers(HELLO);
    let mut at_begin = None;
    let outcome = drive::run_observed(
        &plan(address, 500),
        &AtomicBool::new(false),
        &mut |moment| {
            if let Moment::Begin(live) = moment {
                // Time enough for all requests, if threads were running.
                thread::sleep(Duration::from_millis(100));
                at_begin = Some((truth.connections.load(SeqCst), live.responses()));
            }
        },
    );
    assert_eq!(at_begin, Some((0, 0)));
    assert_eq!(outcome.unwrap().record.counts.good, 500);
}

#[test]
fn keeps_as_many_requests_in_flight_as_asked_for() {
    const DEPTH: usize = 8;
    // Answers only when the whole batch is there: anything less would wait for ever.
    let (address, _) = server(|stream, truth| {
        loop {
            for _ in 0..DEPTH {
                if request(stream, truth).is_none() {
                    return Ok(());
                }
            }
            stream.write_all(&HELLO.repeat(DEPTH))?;
        }
    });
    let outcome = run(&Plan {
        pipeline: DEPTH,
        ..plan(address, 4 * 10 * DEPTH as u64)
    });
    assert_eq!(outcome.record.counts.good, 320);
}

#[test]
fn latency_is_what_the_server_takes() {
    const DELAY: Duration = Duration::from_millis(20);
    let (address, _) = server(|stream, truth| {
        while request(stream, truth).is_some() {
            stream.write_all(&HELLO[..10])?;
            thread::sleep(DELAY);
            stream.write_all(&HELLO[10..])?;
        }
        Ok(())
    });
    let outcome = run(&plan(address, 40));
    let record = &outcome.record;
    assert!(record.response.min() >= DELAY.as_nanos() as u64 * 999 / 1000);
    assert!(record.first_byte.min() < DELAY.as_nanos() as u64);
    assert_eq!(record.first_byte.len(), 40);
}

#[test]
fn odd_framing_is_no_error() {
    for (answer, ends) in [
        (&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n"[..], false),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", true),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", true),
        (HELLO_AND_CLOSE, true),
    ] {
        for piece in [usize::MAX, 7, 1] {
            let (address, _) = server(move |stream, truth| {
                stream.set_nodelay(true)?;
                while request(stream, truth).is_some() {
                    for piece in answer.chunks(piece) {
                        stream.write_all(piece)?;
                    }
                    if ends {
                        break;
                    }
                }
                Ok(())
            });
            let outcome = run(&plan(address, 50));
            let name = format!("{} in pieces of {piece}", answer.escape_ascii());
            assert_eq!(outcome.record.counts.good, 50, "{name}: {:?}", outcome.record.errors);
            assert_eq!(outcome.record.errors_count(), 0, "{name}");
            let opened = if ends { 50 } else { 4 };
            assert_eq!(outcome.record.counts.connections_opened, opened, "{name}");
        }
    }
}

#[test]
fn what_goes_wrong_is_counted_by_phase_and_kind() {
    type Converse = fn(&mut TcpStream, &Truth) -> io::Result<()>;
    let cases: [(&str, Converse, Phase, Kind, u64); 7] = [
        (
            "closes without an answer",
            |stream, truth| {
                request(stream, truth);
                Ok(())
            },
            Phase::FirstByte,
            Kind::ClosedEarly,
            12,
        ),
        (
            "closes within an answer",
            |stream, truth| {
                request(stream, truth);
                stream.write_all(&HELLO[..HELLO.len() - 1])
            },
            Phase::Body,
            Kind::ShortBody,
            12,
        ),
        (
            "resets",
            |stream, _| {
                // Closed with a request unread, the kernel sends a reset.
                stream.peek(&mut [0])?;
                Ok(())
            },
            Phase::FirstByte,
            Kind::Reset,
            12,
        ),
        (
            "speaks another protocol",
            |stream, truth| {
                request(stream, truth);
                stream.write_all(b"220 mail.example.com ESMTP\r\n")?;
                thread::sleep(Duration::from_millis(50));
                Ok(())
            },
            Phase::Body,
            Kind::Malformed,
            12,
        ),
        (
            "does not find it",
            |stream, truth| {
                while request(stream, truth).is_some() {
                    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
                }
                Ok(())
            },
            Phase::Body,
            Kind::BadStatus,
            12,
        ),
        (
            "changes its answer",
            |stream, truth| {
                request(stream, truth);
                stream.write_all(HELLO)?;
                while request(stream, truth).is_some() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbye")?;
                }
                Ok(())
            },
            Phase::Body,
            Kind::WrongBody,
            8,
        ),
        (
            "never answers",
            |stream, truth| {
                request(stream, truth);
                thread::sleep(Duration::from_secs(10));
                Ok(())
            },
            Phase::FirstByte,
            Kind::Timeout,
            12,
        ),
    ];
    thread::scope(|scope| {
        for (name, converse, phase, kind, count) in cases {
            scope.spawn(move || {
                let (address, _) = server(converse);
                let plan = Plan {
                    timeout: Duration::from_millis(200),
                    ..plan(address, 12)
                };
                let outcome = run(&plan);
                let record = &outcome.record;
                assert_eq!(
                    errors(&outcome, phase, kind),
                    count,
                    "{name}: {:?}",
                    record.errors
                );
                assert_eq!(record.errors_count(), count, "{name}: {:?}", record.errors);
                assert_eq!(record.counts.requests, 12, "{name}");
                assert_eq!(judge(&plan, &outcome).status, Status::Invalid, "{name}");
            });
        }
    });
}

/// Without a status that is expected, any below 400 is good.
#[test]
fn a_status_may_be_expected() {
    let moved = b"HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nthere";
    for (expect_status, wrong) in [(None, 0), (Some(302), 0), (Some(200), 12)] {
        let (address, _) = answers(moved);
        let outcome = run(&Plan {
            expect_status,
            ..plan(address, 12)
        });
        let record = &outcome.record;
        assert_eq!(errors(&outcome, Phase::Body, Kind::BadStatus), wrong);
        assert_eq!(
            (record.errors_count(), record.counts.good),
            (wrong, 12 - wrong)
        );
        assert_eq!(record.status.get(&302), Some(&12), "{expect_status:?}");
    }
}

#[test]
fn nobody_listening_is_found_out_fast() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let plan = Plan {
        limit: Limit::For(Duration::from_secs(60)),
        warmup: Duration::from_secs(60),
        ..plan(address, 0)
    };
    let start = Instant::now();
    let outcome = run(&plan);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(errors(&outcome, Phase::Connect, Kind::Refused) >= 4);
    let verdict = judge(&plan, &outcome);
    assert_eq!(verdict.status, Status::Invalid);
    assert!(verdict.reasons[0].contains("nobody listens"), "{verdict:?}");
}

#[test]
fn a_server_that_goes_away_ends_a_run_that_counts_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        request(&mut stream, &Truth::default());
        stream.write_all(HELLO).unwrap();
    });
    let outcome = run(&Plan {
        connections: 1,
        timeout: Duration::from_millis(300),
        ..plan(address, 1000)
    });
    assert_eq!(outcome.record.counts.good, 1);
    assert!(errors(&outcome, Phase::Connect, Kind::Refused) > 0);
}

#[test]
fn starved_connections_are_noticed() {
    // One connection after another, each for as long as its client likes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while request(&mut stream, &Truth::default()).is_some() {
                if stream.write_all(HELLO).is_err() {
                    break;
                }
            }
        }
    });
    let plan = Plan {
        limit: Limit::For(Duration::from_millis(300)),
        drain: Duration::ZERO,
        ..plan(address, 0)
    };
    let outcome = run(&plan);
    let verdict = judge(&plan, &outcome);
    assert_eq!(verdict.status, Status::Invalid);
    // On a busy machine the generator may have waited for its CPU too.
    let own = |reason: &&String| !reason.starts_with("the generator's busiest thread");
    let reasons: Vec<&String> = verdict.reasons.iter().filter(own).collect();
    assert_eq!(reasons, ["starved: 3 of 4 connections were never served"]);
    // The one who is served may have its last answer, or not.
    assert!((3..=4).contains(&outcome.record.counts.in_flight_at_end));
    // With a number of requests instead of a time, everybody's turn comes.
    let outcome = run(&self::plan(address, 100));
    assert_eq!(outcome.record.counts.good, 100);
}

#[test]
fn an_interrupted_run_says_so_and_keeps_what_it_saw() {
    let (address, _) = answers(HELLO);
    let plan = Plan {
        // So many that the one which the generator has in its hands is no large part of them.
        connections: 64,
        limit: Limit::For(Duration::from_secs(60)),
        ..plan(address, 0)
    };
    let interrupted = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let run = scope.spawn(|| drive::run(&plan, &interrupted).unwrap());
        thread::sleep(Duration::from_millis(200));
        interrupted.store(true, SeqCst);
        run.join().unwrap()
    });
    assert!(outcome.interrupted);
    assert!(outcome.record.counts.good > 0);
    assert!(outcome.duration < Duration::from_secs(30));
    // What was seen is right, and only less than was asked for.
    let verdict = judge(&plan, &outcome);
    assert_ne!(verdict.status, Status::Invalid, "{verdict:?}");
}
