//! Counts against servers whose truth is known: what the generator reports is what the server did, to
//! the last request.

mod truth;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use engine::plan::{ConnectionLife, Limit, Pace, Plan};
use engine::record::{Kind, Phase};
use engine::response::Expected;
use engine::verdict::{Status, judge};

use socket2::{Domain, Socket, Type};
use truth::against::{
    books_balance, connections_agree, constant, counted_as, faults_agree, lasting, poisson, run,
};
use truth::answer::{BODY, Fault, Framing};
use truth::delay::Delay;
use truth::{Options, Serves, WhenAskedToClose};

const MS: Duration = Duration::from_millis(1);

fn hello() -> Option<Arc<Expected>> {
    Some(Arc::new(Expected::Text(BODY.to_vec())))
}

/// Checks all cases at the same time, most of which they wait.
fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let check = &check;
            scope.spawn(move || check(case));
        }
    });
}

/// Every hundredth request.
fn misbehaves(fault: Fault) -> Options {
    Options {
        faults: vec![fault],
        fault_every: 100,
        ..Options::default()
    }
}

#[test]
fn each_misbehaviour_in_a_number_of_requests() {
    for fault in Fault::ALL {
        let (plan, outcome, truth) = run(misbehaves(fault), |plan| Plan {
            limit: Limit::Requests(2_000),
            expect: hello(),
            timeout: 100 * MS,
            ..plan
        });
        books_balance(&plan, &outcome, &truth, 0);
        connections_agree(&outcome, &truth);
        assert_eq!(truth.requests, 2_000, "{fault:?}");
        assert_eq!(truth.faults.get(&fault), Some(&20), "{fault:?}");
        let errors: Vec<_> = outcome.record.errors.into_iter().collect();
        assert_eq!(errors, [(counted_as(fault), 20)], "{fault:?}");
    }
}

#[test]
fn each_misbehaviour_in_a_time() {
    for fault in Fault::ALL {
        let (plan, outcome, truth) = run(misbehaves(fault), |plan| Plan {
            limit: lasting(200),
            expect: hello(),
            timeout: 50 * MS,
            ..plan
        });
        books_balance(&plan, &outcome, &truth, 0);
        connections_agree(&outcome, &truth);
        faults_agree(&outcome, &truth);
        assert!(truth.faults_count() > 0, "{fault:?}");
        assert_eq!(judge(&plan, &outcome).status, Status::Invalid, "{fault:?}");
    }
}

#[test]
fn each_misbehaviour_in_open_loop() {
    at_once(Fault::ALL.into_iter().enumerate(), |(turn, fault)| {
        let (plan, outcome, truth) = run(misbehaves(fault), |plan| Plan {
            connections: 16,
            pace: [constant(1_000.0), poisson(1_000.0)][turn % 2],
            limit: Limit::Requests(600),
            expect: hello(),
            timeout: 100 * MS,
            ..plan
        });
        books_balance(&plan, &outcome, &truth, 0);
        connections_agree(&outcome, &truth);
        assert_eq!(outcome.record.counts.due, 600, "{fault:?}");
        assert_eq!(truth.requests, 600, "{fault:?}");
        let errors: Vec<_> = outcome.record.errors.into_iter().collect();
        assert_eq!(errors, [(counted_as(fault), 6)], "{fault:?}");
    });
}

#[test]
fn all_misbehaviour_at_once() {
    for (pace, threads) in [(Pace::Closed, 1), (Pace::Closed, 2), (constant(4_000.0), 1)] {
        let options = Options {
            faults: Fault::ALL.to_vec(),
            fault_every: 10,
            ..Options::default()
        };
        let (plan, outcome, truth) = run(options, |plan| Plan {
            connections: 16,
            threads,
            pace,
            limit: Limit::Requests(4_000),
            expect: hello(),
            timeout: 100 * MS,
            ..plan
        });
        books_balance(&plan, &outcome, &truth, 0);
        connections_agree(&outcome, &truth);
        faults_agree(&outcome, &truth);
        assert_eq!(outcome.record.counts.in_flight_at_end, 0);
        assert!(
            truth.faults.values().all(|&count| count == 40),
            "{:?}",
            truth.faults
        );
        assert_eq!(truth.faults.len(), Fault::ALL.len());
        assert_eq!(outcome.record.errors_count(), 400);
    }
}

#[test]
fn a_body_is_wrong_by_its_length_alone_when_nothing_is_expected() {
    for (fault, errors) in [(Fault::WrongBody, 0), (Fault::OtherLength, 20)] {
        let (plan, outcome, truth) = run(misbehaves(fault), |plan| Plan {
            limit: Limit::Requests(2_000),
            ..plan
        });
        books_balance(&plan, &outcome, &truth, 0);
        assert_eq!(outcome.record.errors_count(), errors, "{fault:?}");
    }
}

#[test]
fn odd_framing_is_valid() {
    for framing in Framing::ALL {
        for pace in [Pace::Closed, constant(2_000.0)] {
            let options = Options {
                framing,
                ..Options::default()
            };
            let (plan, outcome, truth) = run(options, |plan| Plan {
                pace,
                limit: Limit::Requests(500),
                expect: hello(),
                ..plan
            });
            books_balance(&plan, &outcome, &truth, 0);
            connections_agree(&outcome, &truth);
            assert_eq!(
                outcome.record.counts.good, 500,
                "{framing:?} {:?}",
                outcome.record.errors
            );
            assert_eq!(outcome.record.errors_count(), 0, "{framing:?}");
            if framing == Framing::UntilClose {
                assert_eq!(truth.connections, 500);
            }
        }
    }
}

#[test]
fn books_balance_in_every_kind_of_run() {
    for pace in [Pace::Closed, constant(1_000.0), poisson(1_000.0)] {
        for life in [0, 1, 7] {
            let kinds = [
                (lasting(100), 1),
                (lasting(100), 4),
                (Limit::Requests(100), 1),
                (Limit::Requests(100), 4),
            ];
            at_once(kinds, |(limit, pipeline)| {
                every_kind(pace, life, limit, pipeline);
            });
        }
    }
}

fn every_kind(pace: Pace, life: u64, limit: Limit, pipeline: usize) {
    let options = Options {
        delay: Delay::Uniform(Duration::ZERO, 4 * MS),
        ..Options::default()
    };
    let (plan, outcome, truth) = run(options, |plan| Plan {
        connections: 32,
        threads: 2,
        warmup: 100 * MS,
        life: ConnectionLife::from_requests(life),
        pace,
        limit,
        pipeline,
        ..plan
    });
    books_balance(&plan, &outcome, &truth, 0);
    connections_agree(&outcome, &truth);
    assert_eq!(
        outcome.record.errors_count(),
        0,
        "{plan:?}: {:?}",
        outcome.record.errors
    );
    assert!(outcome.record.counts.warmup_requests > 0, "{plan:?}");
    match limit {
        Limit::Requests(all) => assert_eq!(outcome.record.counts.requests, all, "{plan:?}"),
        _ => assert!(outcome.record.counts.responses > 0, "{plan:?}"),
    }
}

#[test]
fn an_open_loop_of_so_many_requests_sends_so_many() {
    for (pace, requests, threads) in [
        (constant(1_000.0), 300, 1),
        (poisson(1_000.0), 300, 1),
        (constant(1_000.0), 301, 2),
        (poisson(1_000.0), 301, 2),
        (constant(100.0), 1, 1),
    ] {
        let (plan, outcome, truth) = run(Options::default(), |plan| Plan {
            threads,
            pace,
            limit: Limit::Requests(requests),
            ..plan
        });
        books_balance(&plan, &outcome, &truth, 0);
        connections_agree(&outcome, &truth);
        let record = &outcome.record;
        assert_eq!(truth.requests, requests, "{pace}");
        assert_eq!(
            (record.counts.due, record.counts.good, record.counts.unsent),
            (requests, requests, 0),
            "{pace}"
        );
    }
}

#[test]
fn an_overloaded_server_is_not_spared() {
    let options = Options {
        delay: Delay::Fixed(10 * MS),
        ..Options::default()
    };
    let (plan, outcome, truth) = run(options, |plan| Plan {
        connections: 1,
        pace: constant(200.0),
        limit: lasting(2_000),
        drain: 200 * MS,
        ..plan
    });
    books_balance(&plan, &outcome, &truth, 0);
    connections_agree(&outcome, &truth);
    let record = &outcome.record;
    assert_eq!(record.counts.due, 400);
    // One after another: 100 each second at the most, also while it drains.
    assert!(record.counts.requests <= 221, "{}", record.counts.requests);
    let achieved = record.counts.responses_in_time as f64 / outcome.duration.as_secs_f64();
    assert!(achieved > 70.0 && achieved <= 101.0, "{achieved}/s");
    assert!(record.counts.unsent >= 179, "{}", record.counts.unsent);
    // The queue grows by half a second each second; what was never sent is as old as the run and its
    // drain make it.
    let longest = Duration::from_nanos(record.response.max());
    assert!(
        longest >= 1_000 * MS && longest <= 2_300 * MS,
        "{longest:?}"
    );
    assert!(record.service.value_at_quantile(0.5) < 20_000_000);
    assert!(record.lag.max() >= 900_000_000);
    assert!(record.lag_own.value_at_quantile(0.5) < 5_000_000);
    let verdict = judge(&plan, &outcome);
    assert_eq!(verdict.status, Status::Invalid, "{verdict:?}");
}

#[test]
fn connections_never_served_are_told() {
    for serves in [Serves::FirstAndAccepts(3), Serves::First(3)] {
        let options = Options {
            serves,
            delay: Delay::Fixed(MS),
            ..Options::default()
        };
        let (plan, outcome, truth) = run(options, |plan| Plan {
            connections: 8,
            limit: lasting(300),
            drain: 100 * MS,
            ..plan
        });
        // Each of the other five sent one request.
        books_balance(&plan, &outcome, &truth, 5);
        let record = &outcome.record;
        assert_eq!(record.counts.in_flight_at_end, 5);
        assert_eq!(record.counts.connections_opened, 8);
        let by_connection = &record.responses_by_connection;
        assert_eq!(by_connection.len(), 8);
        assert_eq!(by_connection.iter().filter(|&&count| count == 0).count(), 5);
        assert!(record.oldest_unanswered >= Some(300 * MS));
        assert!(record.response.max() >= 300_000_000);
        let verdict = judge(&plan, &outcome);
        assert_eq!(verdict.status, Status::Invalid);
        let reasons = verdict.reasons.join("\n");
        assert!(
            reasons.contains("5 of 8 connections were never served"),
            "{reasons}"
        );
    }
}

#[test]
fn a_short_accept_queue_shows_in_the_time_to_connect() {
    let options = Options {
        backlog: 1,
        accept_every: 10 * MS,
        delay: Delay::Fixed(MS),
        ..Options::default()
    };
    let (plan, outcome, truth) = run(options, |plan| Plan {
        connections: 8,
        limit: lasting(3_000),
        ..plan
    });
    books_balance(&plan, &outcome, &truth, 0);
    connections_agree(&outcome, &truth);
    let record = &outcome.record;
    assert_eq!(record.counts.connections_opened, 8);
    assert_eq!(record.connect.len(), 8);
    // The queue holds two. Who finds it full tries again after a second, with all the others: the kernel
    // then tells them all that they are connected, and some of them it serves only when they have sent
    // their request for the second or third time.
    assert!(
        record.connect.min() < 500_000_000,
        "{} ns",
        record.connect.min()
    );
    assert!(
        record.connect.max() >= 900_000_000,
        "{} ns",
        record.connect.max()
    );
    assert!(
        record
            .responses_by_connection
            .iter()
            .all(|&count| count > 0)
    );
}

#[test]
fn connections_that_could_not_be_had_are_told() {
    let options = Options {
        backlog: 1,
        accept_every: Duration::from_secs(3_600),
        delay: Delay::Fixed(MS),
        ..Options::default()
    };
    let (plan, outcome, truth) = run(options, |plan| Plan {
        connections: 32,
        limit: lasting(500),
        drain: 100 * MS,
        ..plan
    });
    books_balance(&plan, &outcome, &truth, 0);
    connections_agree(&outcome, &truth);
    // One is accepted, two wait in the queue.
    let opened = outcome.record.counts.connections_opened;
    assert!((2..=3).contains(&opened), "{opened}");
    let verdict = judge(&plan, &outcome);
    assert_eq!(verdict.status, Status::Invalid);
    let reasons = verdict.reasons.join("\n");
    assert!(
        reasons.contains(&format!("{opened} of 32 connections")),
        "{reasons}"
    );
}

#[test]
fn a_closed_port_is_refused_and_nothing_is_sent() {
    // Bound and not listening: nobody else gets the port.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let closed = socket.local_addr().unwrap().as_socket().unwrap();
    for pace in [Pace::Closed, constant(1_000.0), poisson(1_000.0)] {
        let start = Instant::now();
        let (plan, outcome, truth) = run(Options::default(), |plan| Plan {
            target: closed,
            pace,
            limit: lasting(60_000),
            ..plan
        });
        assert!(start.elapsed() < Duration::from_secs(20), "{pace}");
        books_balance(&plan, &outcome, &truth, 0);
        let record = &outcome.record;
        assert_eq!(
            (record.counts.requests, record.counts.connections_opened),
            (0, 0),
            "{pace}"
        );
        let refused = record.errors.get(&(Phase::Connect, Kind::Refused));
        assert!(refused > Some(&0), "{pace}: {:?}", record.errors);
        assert_eq!(record.errors.len(), 1, "{pace}: {:?}", record.errors);
        let verdict = judge(&plan, &outcome);
        assert_eq!(verdict.status, Status::Invalid);
        assert!(verdict.reasons[0].contains("nobody listens"), "{verdict:?}");
    }
}

#[test]
fn a_server_that_does_not_close_when_asked_is_told() {
    for (when_asked_to_close, ignored) in [
        (WhenAskedToClose::Closes, 0..=0),
        (WhenAskedToClose::ClosesUnannounced, 0..=0),
        // It is not waited for so often when it never does.
        (WhenAskedToClose::Ignores, 1..=40),
    ] {
        for pace in [Pace::Closed, constant(500.0)] {
            let options = Options {
                when_asked_to_close,
                ..Options::default()
            };
            let (plan, outcome, truth) = run(options, |plan| Plan {
                requests: vec![
                    b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_vec(),
                ],
                server_closes: true,
                life: ConnectionLife::Requests(1),
                pace,
                limit: Limit::Requests(40),
                expect: hello(),
                ..plan
            });
            books_balance(&plan, &outcome, &truth, 0);
            connections_agree(&outcome, &truth);
            let record = &outcome.record;
            assert!(
                ignored.contains(&record.counts.close_ignored),
                "{when_asked_to_close:?} {pace}: {}",
                record.counts.close_ignored
            );
            assert_eq!(
                (record.counts.good, truth.connections),
                (40, 40),
                "{when_asked_to_close:?}"
            );
        }
    }
}

#[test]
fn many_new_connections_go_without_error() {
    let (plan, outcome, truth) = run(Options::default(), |plan| Plan {
        connections: 64,
        life: ConnectionLife::Requests(1),
        limit: Limit::Requests(20_000),
        ..plan
    });
    books_balance(&plan, &outcome, &truth, 0);
    connections_agree(&outcome, &truth);
    assert_eq!(
        outcome.record.counts.good, 20_000,
        "{:?}",
        outcome.record.errors
    );
    assert_eq!(truth.connections, 20_000);
    assert_eq!(outcome.record.errors_count(), 0);
}
