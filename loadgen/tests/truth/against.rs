//! A generator held against a server: runs, and what must agree in every one of them.

use std::io::{self, Write as _};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use engine::drive;
use engine::plan::{Limit, Pace, Plan, Rate};
use engine::record::{Kind, Outcome, Phase};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::answer::Fault;
use super::{Options, Server, Truth};

pub(crate) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Starts a server, runs the plan that `plan` makes for its address, and stops it.
pub(crate) fn run(options: Options, plan: impl FnOnce(Plan) -> Plan) -> (Plan, Outcome, Truth) {
    let server = Server::start(options).expect("a server can listen on a free port");
    let plan = plan(Plan {
        connections: 4,
        warmup: Duration::ZERO,
        ..Plan::new(server.address(), REQUEST.to_vec())
    });
    let outcome = drive::run(&plan, &AtomicBool::new(false)).expect("the generator can run");
    (plan, outcome, server.stop())
}

pub(crate) fn constant(per_s: f64) -> Pace {
    Pace::Constant(Rate::per_second(per_s).expect("a rate within bounds"))
}

pub(crate) fn poisson(per_s: f64) -> Pace {
    Pace::Poisson(Rate::per_second(per_s).expect("a rate within bounds"))
}

pub(crate) fn lasting(ms: u64) -> Limit {
    Limit::For(Duration::from_millis(ms))
}

/// How the generator must count a fault.
pub(crate) fn counted_as(fault: Fault) -> (Phase, Kind) {
    match fault {
        Fault::Reset => (Phase::FirstByte, Kind::Reset),
        Fault::Close => (Phase::FirstByte, Kind::ClosedEarly),
        Fault::CloseInHead => (Phase::Body, Kind::ClosedEarly),
        Fault::ShortBody => (Phase::Body, Kind::ShortBody),
        Fault::Malformed => (Phase::Body, Kind::Malformed),
        Fault::Status503 => (Phase::Body, Kind::BadStatus),
        Fault::WrongBody | Fault::OtherLength => (Phase::Body, Kind::WrongBody),
        Fault::ExtraBytes => (Phase::Close, Kind::Malformed),
        Fault::Hang => (Phase::FirstByte, Kind::Timeout),
    }
}

/// Whether such an error means that a request got no response.
fn costs_a_request((phase, kind): (Phase, Kind)) -> bool {
    !matches!(phase, Phase::Connect | Phase::Close)
        && !matches!(kind, Kind::BadStatus | Kind::WrongBody)
}

/// What must agree, whatever the server did: the books of the generator with each other and with the
/// server's. Of the requests sent, the server never read `unread`.
pub(crate) fn books_balance(plan: &Plan, outcome: &Outcome, truth: &Truth, unread: u64) {
    let record = &outcome.record;
    let context = format!(
        "\n{plan:?}\nrequests {}, responses {}, good {}, in flight {}, due {}, unsent {}, \
         lower bounds {}, warm-up {}, errors {:?}",
        record.counts.requests,
        record.counts.responses,
        record.counts.good,
        record.counts.in_flight_at_end,
        record.counts.due,
        record.counts.unsent,
        record.counts.lower_bounds,
        record.counts.warmup_requests,
        record.errors,
    );
    let sum = |test: &dyn Fn((Phase, Kind)) -> bool| -> u64 {
        let errors = record.errors.iter().filter(|&(&error, _)| test(error));
        errors.map(|(_, count)| count).sum()
    };
    let lost = sum(&costs_a_request);
    let faulty = sum(&|(_, kind)| matches!(kind, Kind::BadStatus | Kind::WrongBody));

    let idle = outcome.idle.as_ref();
    assert_eq!(
        record.counts.requests
            + record.counts.warmup_requests
            + idle.map_or(0, |idle| idle.requests),
        truth.requests + unread,
        "requests sent, and read by the server{context}"
    );
    assert_eq!(
        record.counts.requests,
        record.counts.responses + record.counts.in_flight_at_end + lost,
        "requests, and what became of them{context}"
    );
    assert_eq!(
        record.counts.good,
        record.counts.responses - faulty,
        "good ones{context}"
    );
    assert!(
        record.counts.responses <= truth.responses,
        "responses{context}"
    );
    match plan.pace.rate() {
        None => assert_eq!(
            (record.counts.due, record.counts.unsent),
            (0, 0),
            "{context}"
        ),
        Some(_) => assert_eq!(
            record.counts.due,
            record.counts.requests + record.counts.unsent,
            "due{context}"
        ),
    }
    assert!(
        record.counts.sent_in_time <= record.counts.requests,
        "{context}"
    );
    assert!(
        record.counts.responses_in_time <= record.counts.responses,
        "{context}"
    );

    for (name, histogram, count) in [
        (
            "response",
            &record.response,
            record.counts.responses + record.counts.lower_bounds,
        ),
        // What was never sent has none.
        (
            "service",
            &record.service,
            record.counts.responses + record.counts.lower_bounds - record.counts.unsent,
        ),
        ("first byte", &record.first_byte, record.counts.responses),
    ] {
        assert_eq!(histogram.len(), count, "samples of {name}{context}");
    }
    if plan.pace.rate().is_some() {
        for (name, histogram) in [("lag", &record.lag), ("lag of its own", &record.lag_own)] {
            assert_eq!(
                histogram.len(),
                record.counts.requests,
                "samples of {name}{context}"
            );
        }
        for p in [0.5, 0.9, 0.99, 0.999, 1.0] {
            assert!(
                record.lag_own.value_at_quantile(p) <= record.lag.value_at_quantile(p),
                "its own lag is part of the lag{context}"
            );
        }
    }
    let timeouts = sum(&|error| error.1 == Kind::Timeout && costs_a_request(error));
    assert_eq!(
        record.counts.lower_bounds,
        record.counts.in_flight_at_end + record.counts.unsent + timeouts,
        "lower bounds{context}"
    );
    let by_status: u64 = record.status.values().sum();
    assert_eq!(by_status, record.counts.responses, "by status{context}");
    // Those that came while it drained are in no connection's share.
    let by_connection: u64 = record.responses_by_connection.iter().sum();
    let late = record.counts.responses.checked_sub(by_connection);
    let late = late.expect("connections have no more than all responses");
    if plan.pace.rate().is_none() {
        let in_flight_max = (plan.connections * plan.pipeline) as u64;
        assert!(late <= in_flight_max, "{late} by no connection{context}");
    }
    assert!(
        record.counts.connections_open_max <= plan.connections as u64,
        "{context}"
    );
    assert!(
        record.counts.connections_in_time <= record.counts.connections_opened,
        "{context}"
    );
}

/// The connections that were opened, and accepted.
pub(crate) fn connections_agree(outcome: &Outcome, truth: &Truth) {
    let idle = outcome.idle.as_ref();
    assert_eq!(
        outcome.record.counts.connections_opened + idle.map_or(0, |idle| idle.connections),
        truth.connections,
        "connections"
    );
}

/// What the server did wrong, and nothing else, is what the generator counted, but for what it did to
/// requests still in flight.
pub(crate) fn faults_agree(outcome: &Outcome, truth: &Truth) {
    let record = &outcome.record;
    let mut expected = std::collections::BTreeMap::new();
    for (&fault, &count) in &truth.faults {
        *expected.entry(counted_as(fault)).or_insert(0) += count;
    }
    let errors = record.errors.keys().chain(expected.keys());
    let missing: u64 = errors
        .map(|error| {
            let counted = record.errors.get(error).copied().unwrap_or_default();
            let done = expected.get(error).copied().unwrap_or_default();
            assert!(
                counted <= done,
                "{error:?}: {counted} counted, {done} done: {truth:?}"
            );
            done - counted
        })
        .sum();
    assert!(
        missing <= record.counts.in_flight_at_end,
        "{missing} faults are missing, {} requests were in flight: {:?}, {:?}",
        record.counts.in_flight_at_end,
        record.errors,
        truth.faults,
    );
}

const SLEEPS: usize = 2_000;

/// How many sleeps of a millisecond take twice as long or more on a machine at rest; 0 if it is not at rest, which says
/// nothing. A host that stops this machine for some milliseconds shows in no other figure.
fn late_sleeps() -> usize {
    /// Of all CPUs.
    const BUSY_MAX: f64 = 0.2;
    const SLEEP: Duration = Duration::from_millis(1);
    let is_late = |_: &usize| {
        let since = Instant::now();
        thread::sleep(SLEEP);
        since.elapsed() >= 2 * SLEEP
    };
    let before = CpuTimes::now();
    let late = (0..SLEEPS).filter(is_late).count();
    match CpuTimes::now().busy_since(&before) {
        Some(busy) if busy <= BUSY_MAX => late,
        _ => 0,
    }
}

/// Tries up to three times what depends on the machine having time. What there is to say of a failure is
/// seen even when the test passes in the end.
///
/// When each failure came while other processes, or the hypervisor, had so much of the CPUs that it proves
/// nothing, or on a machine that wakes sleepers late even at rest, that is said and the test goes on: a build
/// that runs at the same time, or a noisy host, must not make anybody look for a fault that does not exist.
pub(crate) fn attempts(name: &str, mut attempt: impl FnMut(usize) -> anyhow::Result<()>) {
    const ATTEMPTS: usize = 3;
    /// Of all CPUs; it is next to nothing on a machine that does nothing else.
    const OTHERS_MAX: f64 = 0.2;
    /// Of all CPUs; with more, the generator itself calls a run invalid.
    const STOLEN_MAX: f64 = 0.05;
    /// Of [`SLEEPS`]. With more, a p99 of some thousand requests is the machine's.
    const LATE_MAX: usize = 1;
    let mut proves = false;
    for number in 0..ATTEMPTS {
        let before = CpuTimes::now();
        let Err(why) = attempt(number) else {
            return;
        };
        let taken = CpuTimes::now().taken_since(&before);
        let late = late_sleeps();
        let is_quiet =
            taken.is_none_or(|taken| taken.others <= OTHERS_MAX && taken.stolen <= STOLEN_MAX);
        proves |= is_quiet && late <= LATE_MAX;
        let taken = taken.unwrap_or_default();
        say(&format!(
            "ATTEMPT {} OF {ATTEMPTS} FAILED: {name}: {why:#} (others had {:.0}% of the CPUs, the hypervisor \
             {:.0}%; at rest, {late} of {SLEEPS} sleeps of 1 ms took 2 ms or more)",
            number + 1,
            taken.others * 100.0,
            taken.stolen * 100.0
        ));
    }
    assert!(!proves, "{name}: failed {ATTEMPTS} times, see above");
    say(&format!(
        "SKIPPED: {name}: this machine was too busy with something else, or stood still, see above"
    ));
}

/// Not by a macro, whose output would be captured.
fn say(text: &str) {
    writeln!(io::stderr(), "{text}").unwrap_or_default();
}

/// What the CPUs have done so far, seconds.
struct CpuTimes {
    /// Unless the system does not tell.
    all: Option<AllCpus>,
    /// This process.
    own: f64,
}

struct AllCpus {
    /// Idle or not.
    total: f64,
    /// At work for some process.
    busy: f64,
    /// Taken by the hypervisor.
    stolen: f64,
}

/// Shares of all CPUs that this process could not have.
#[derive(Clone, Copy, Default)]
struct Taken {
    /// What other processes had.
    others: f64,
    /// What the hypervisor had. It may be counted as time of this process as well.
    stolen: f64,
}

impl CpuTimes {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace();
        // user, nice, system, idle, iowait, irq, softirq, steal; in hundredths of a second (proc(5)).
        let ticks: Vec<f64> = fields.skip(1).take(8).flat_map(str::parse).collect();
        let all = (ticks.len() == 8).then(|| {
            let total = ticks.iter().sum::<f64>();
            AllCpus {
                total: total / 100.0,
                busy: (total - ticks[3] - ticks[4] - ticks[7]) / 100.0,
                stolen: ticks[7] / 100.0,
            }
        });
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
        let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
        CpuTimes {
            all,
            own: seconds(usage.user_time()) + seconds(usage.system_time()),
        }
    }

    /// The share of all CPUs that any process had.
    fn busy_since(&self, before: &Self) -> Option<f64> {
        let (all, earlier) = (self.all.as_ref()?, before.all.as_ref()?);
        Some((all.busy - earlier.busy) / (all.total - earlier.total))
    }

    fn taken_since(&self, before: &Self) -> Option<Taken> {
        let (all, earlier) = (self.all.as_ref()?, before.all.as_ref()?);
        let total = all.total - earlier.total;
        let others = all.busy - earlier.busy - (self.own - before.own);
        Some(Taken {
            others: (others / total).max(0.0),
            stolen: (all.stolen - earlier.stolen) / total,
        })
    }
}

/// Whether `got` is `expected` within 3% or 200 µs; both in nanoseconds.
///
/// # Panics
///
/// When it is less than that: a machine that is too busy makes times longer, never shorter.
pub(crate) fn close(name: &str, got: u64, expected: u64) -> anyhow::Result<()> {
    between(name, got, expected, expected)
}

/// The same for two bounds.
pub(crate) fn between(name: &str, got: u64, least: u64, most: u64) -> anyhow::Result<()> {
    let tolerance = |expected: u64| (expected * 3 / 100).max(200_000);
    let ms = |ns: u64| ns as f64 / 1e6;
    let what = format!(
        "{name} is {:.3} ms, should be {:.3} to {:.3} ms, give or take {:.3} ms",
        ms(got),
        ms(least),
        ms(most),
        ms(tolerance(most))
    );
    assert!(got + tolerance(least) >= least, "{what}");
    anyhow::ensure!(got <= most + tolerance(most), "{what}");
    Ok(())
}
