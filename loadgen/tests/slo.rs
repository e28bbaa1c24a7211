//! The search for the largest rate, over real sockets, against a server whose capacity is known.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use engine::drive;
use engine::plan::{Limit, Pace, Plan, Rate};
use lab::slo::{Ending, Held, Phase, Report, Search, Step};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A server that works on one request after another, for this time each, whatever connections they come
/// on, for as long as the test runs.
fn one_at_a_time(service: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let free_at = Arc::new(Mutex::new(Instant::now()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let free_at = Arc::clone(&free_at);
            thread::spawn(move || converse(stream?, service, &free_at));
        }
    });
    address
}

/// The time that a request takes is reckoned, not slept, so that a thread that wakes late delays its own
/// answer and does not lower the capacity.
fn converse(
    mut stream: TcpStream,
    service: Duration,
    free_at: &Mutex<Instant>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = vec![0; REQUEST.len()];
    loop {
        stream.read_exact(&mut request)?;
        let done_at = {
            let mut free_at = free_at.lock().unwrap();
            *free_at = (*free_at).max(Instant::now()) + service;
            *free_at
        };
        thread::sleep(done_at.saturating_duration_since(Instant::now()));
        stream.write_all(HELLO)?;
    }
}

fn search(slo: &str, target: SocketAddr, arrivals: fn(Rate) -> Pace) -> Search {
    let plan = Plan {
        connections: 32,
        limit: Limit::For(Duration::from_secs(1)),
        warmup: Duration::from_millis(100),
        drain: Duration::from_millis(100),
        ..Plan::new(target, REQUEST.to_vec())
    };
    let start = Rate::per_second(250.0);
    Search::new(slo.parse().unwrap(), plan, arrivals, start, 0.1).unwrap()
}

fn run(search: &Search) -> (Report<()>, Vec<Step>) {
    let mut told = Vec::new();
    let never = AtomicBool::new(false);
    let report = search.run(
        |plan| drive::run(plan, &never).map(|outcome| (outcome, ())),
        |step| {
            told.push(step.clone());
            Ok(())
        },
    );
    (report.unwrap(), told)
}

#[test]
fn the_capacity_of_a_server_is_found() {
    let address = one_at_a_time(Duration::from_millis(1));
    // Half a second too much work, at 1.5 times the capacity, is far beyond the limit; a stall of less
    // than a tenth of a step is borne.
    let (report, told) = run(&search("p90<50ms", address, Pace::Constant));
    let steps = &report.steps;
    assert_eq!(steps, &told);
    let Ending::Found(found) = report.ending else {
        panic!("{:?}", report.ending);
    };
    assert!(found.confirmed, "{steps:#?}");
    let rate = found.rate_per_s.unwrap();
    // It cannot be more, but for the 50 ms by which the server may be behind after a second.
    assert!((250.0..=1100.0).contains(&rate), "{rate} {steps:#?}");
    let (above, held) = found.not_met.unwrap();
    assert!(rate < above && held != Held::Met, "{found:?}");

    let first = &steps[0];
    assert_eq!((first.phase, first.rate_per_s), (Phase::Double, 250.0));
    let too_much = |step: &Step| step.rate_per_s >= 1200.0;
    assert!(steps.iter().any(too_much));
    for step in steps.iter().filter(|step| too_much(step)) {
        assert_ne!(step.held, Held::Met, "{step:?}");
        assert!(step.achieved_per_s.unwrap() <= 1100.0, "{step:?}");
    }
    let last = steps.last().unwrap();
    assert_eq!((last.phase, last.held), (Phase::Confirm, Held::Met));
    let confirming = report.confirming.unwrap();
    assert_eq!(confirming.plan.pace.rate().unwrap().per_s(), rate);
    assert!((confirming.outcome.record.counts.due as f64 - rate).abs() <= 1.0);
}

#[test]
fn what_no_rate_meets_is_given_up() {
    // Each answer takes longer than is allowed.
    let address = one_at_a_time(Duration::from_millis(5));
    let (report, _) = run(&search("p50<1ms", address, Pace::Poisson));
    assert_eq!(report.rate_per_s(), None);
    assert!(!report.is_limited_by_generator(), "{:#?}", report.steps);
    let last = report.steps.last().unwrap();
    assert_eq!(last.rate_per_s, 10.0);
    assert_eq!(last.held, Held::Missed);
    assert!(
        last.reason.as_ref().unwrap().starts_with("p50 "),
        "{last:?}"
    );
}

#[test]
fn a_server_that_is_not_there_ends_the_search() {
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap();
    let (report, _) = run(&search("p90<50ms", address, Pace::Constant));
    assert!(report.steps.is_empty());
    match report.ending {
        Ending::Unreachable(_, reason) => assert!(reason.contains("nobody listens"), "{reason}"),
        ending => panic!("{ending:?}"),
    }
}
