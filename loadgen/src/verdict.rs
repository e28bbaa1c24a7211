//! Whether a run's numbers can be believed, and what to try when not.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::heard;
use crate::latency::{effective_size, precise_enough, samples_needed};
use crate::plan::{Close, ConnectionLife, Limit, Pace, Plan};
use crate::record::{Fault, Kind, Outcome, Phase};
use crate::report::run::{thousands, time};
use crate::steady::{self, Change, What};

/// A status, and the reasons for anything but `valid`, in plain words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether to believe.
    pub status: Status,
    /// Why not.
    pub reasons: Vec<String>,
    /// What to try, one for each reason.
    pub advice: Vec<String>,
    /// What is worth knowing and no reason for doubt.
    pub notes: Vec<String>,
}

/// Whether a run's numbers can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// They say something about the server.
    Valid,
    /// They say something about the generator, which was the bottleneck.
    ClientBound,
    /// They say nothing that can be compared.
    Invalid,
}

impl Status {
    /// As in JSON and CSV.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Valid => "valid",
            Status::ClientBound => "client-bound",
            Status::Invalid => "invalid",
        }
    }
}

impl Verdict {
    /// Nothing to object to.
    pub fn valid() -> Self {
        Verdict {
            status: Status::Valid,
            reasons: Vec::new(),
            advice: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a reason why the run is no better than `status`, and what to try.
    pub fn object(&mut self, status: Status, reason: String, advice: impl Into<String>) {
        self.status = self.status.max(status);
        self.reasons.push(reason);
        self.advice.push(advice.into());
    }
}

/// Share of a thread's time from which on the generator is the bottleneck.
pub(crate) const CLIENT_BUSY_MAX: f64 = 0.95;
/// Share of the response time's p99 that the generator's own lag may have at its p99...
const LAG_SHARE_MAX: f64 = 0.1;
/// ... once it is so long, nanoseconds.
const LAG_NS_MAX: u64 = 100_000;
/// Share of the requests that are due that may not be sent in time.
const MISSED_SHARE_MAX: f64 = 0.01;
/// Share of requests that may fail.
const ERROR_SHARE_MAX: f64 = 0.001;
/// By how much Little's law may be off.
const LITTLE_MAX: f64 = 0.05;
/// Share of the time that the hypervisor may take.
const STEAL_MAX: f64 = 0.05;

/// Shorter runs are not looked at for steadiness: whatever the machine does in a moment would be one.
pub(crate) const STEADY_FROM: Duration = Duration::from_secs(1);

/// Judges the outcome of `plan`.
pub fn judge(plan: &Plan, outcome: &Outcome) -> Verdict {
    let mut verdict = Verdict::valid();
    let answered = outcome.record.responses > 0;
    if !answered {
        silence(plan, outcome, &mut verdict);
    }
    errors(plan, outcome, &mut verdict);
    if let Some((reason, advice)) = idle_missing(plan, outcome) {
        verdict.object(Status::Invalid, reason, advice);
    }
    if answered {
        match plan.pace {
            Pace::Closed => closed_loop(plan, outcome, &mut verdict),
            Pace::Constant(_) | Pace::Poisson(_) => open_loop(plan, outcome, &mut verdict),
        }
        sample(plan, outcome, &mut verdict);
        steadiness(plan, outcome, &mut verdict);
    }
    generator(outcome, &mut verdict);
    notes(plan, outcome, &mut verdict);
    verdict
}

/// There was no response.
fn silence(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    if let Some((reason, advice)) = heard::on_silence(record) {
        verdict.object(Status::Invalid, reason, advice);
        return;
    }
    let refused = record.errors.get(&(Phase::Connect, Kind::Refused));
    let (reason, advice) = match (record.connections_open_max, refused) {
        (0, Some(times)) => (
            format!(
                "nobody listens at {}: connection refused {times} times",
                plan.target
            ),
            "Start the server, or look at the port.",
        ),
        // What is sent first is what was due first.
        _ if record.requests == 0 && record.due > 0 => (
            format!(
                "the rate was missed: of {} requests that were due none was sent, as the server still had \
                 those of the warm-up",
                thousands(record.due)
            ),
            "The server cannot take this rate, or needs more connections (-c).",
        ),
        _ => (
            "no response at all".to_owned(),
            "Ask it once by hand: curl -v, with the same URL.",
        ),
    };
    verdict.object(Status::Invalid, reason, advice);
}

fn errors(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    let errors = record.errors_count();
    let attempts = record.requests.max(errors);
    let worst = record
        .errors
        .iter()
        .max_by_key(|&(key, count)| (count, Reverse(key)));
    let Some(((phase, kind), count)) = worst else {
        return;
    };
    if record.responses == 0 || errors as f64 <= ERROR_SHARE_MAX * attempts as f64 {
        return;
    }
    let reason = format!(
        "{errors} errors for {} requests, {count} of them {phase}: {kind}",
        record.requests
    );
    match heard::on_errors(plan, record, *phase, *kind) {
        Some((more, advice)) => {
            verdict.object(Status::Invalid, format!("{reason} ({more})"), advice);
        }
        None => verdict.object(Status::Invalid, reason, advice_on(plan, *phase, *kind)),
    }
}

/// What to try against most errors of a kind.
fn advice_on(plan: &Plan, phase: Phase, kind: Kind) -> &'static str {
    match (phase, kind) {
        (_, Kind::AddressExhausted) => {
            "Spread the connections over more addresses: --source, or fewer of them per second."
        }
        (_, Kind::TooManyFiles) => {
            "Raise the limit of open files (ulimit -n), or use fewer connections."
        }
        (Phase::Connect, Kind::Refused) => "See whether the server is still there.",
        (Phase::Connect, Kind::Timeout) => {
            "The server does not accept: see its backlog (net.core.somaxconn), or use fewer \
             connections (-c)."
        }
        (_, Kind::Timeout) => "Allow more time (--timeout), or ask for less (-c, --rate).",
        (_, Kind::BadStatus) => {
            "See whether URL, method and header fields are what the server wants."
        }
        (_, Kind::WrongBody) if plan.expect.is_none() => {
            "If its answers may differ in length, say what they must be: --expect-body."
        }
        _ => "See the server's log for why.",
    }
}

/// Why there were fewer idle connections than asked for, if so, and what to try.
pub(crate) fn idle_missing(plan: &Plan, outcome: &Outcome) -> Option<(String, &'static str)> {
    let idle = outcome.idle.as_ref()?;
    let asked = thousands(plan.idle as u64);
    let served = thousands(idle.served);
    let reason = format!("only {served} of {asked} idle connections were served and left open");
    if let Some(Fault { phase, kind }) = idle.fault {
        let advice = match (phase, kind) {
            (Phase::Close, Kind::ClosedEarly) => {
                "The server closes connections with its answer: see whether it keeps any alive."
            }
            (Phase::FirstByte, Kind::Timeout) => {
                "It serves no more at once: it holds on to a connection until that is over, or is at a \
                 limit (of ours: --max-connections). Use fewer (--idle)."
            }
            (phase, kind) => advice_on(plan, phase, kind),
        };
        return Some((format!("{reason} ({phase}: {kind})"), advice));
    }
    if idle.served < plan.idle as u64 {
        return Some((reason, "The run was ended before the others were opened."));
    }
    let closed = thousands(idle.closed_by_server);
    (idle.closed_by_server > 0).then(|| {
        let advice = "Raise the server's idle timeout (of ours: --server-arg=--idle-timeout=10m), or \
                      run for less long.";
        let reason = format!("the server closed {closed} of {asked} idle connections");
        (reason, advice)
    })
}

fn closed_loop(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    let asked = plan.connections as u64;
    let in_flight_max = asked * plan.pipeline as u64;
    // A run of few requests leaves some connections without one by its own plan.
    let enough = match plan.limit {
        Limit::Requests(requests) => requests >= in_flight_max,
        Limit::For(_) | Limit::Until(_) => record.requests >= asked,
    };
    if record.connections_open_max < asked && enough {
        verdict.object(
            Status::Invalid,
            format!(
                "only {} of {asked} connections were established",
                record.connections_open_max
            ),
            "Use fewer connections, or look at the server's backlog and limit of open files.",
        );
        return;
    }
    let by_connection = &record.responses_by_connection;
    let unserved = by_connection.iter().filter(|&&count| count == 0).count();
    if unserved > 0 && enough {
        let reason = format!(
            "starved: {unserved} of {} connections were never served",
            by_connection.len()
        );
        let advice = "Throughput and latency are those of the few who were served. Use no more \
                      connections than the server serves at once, or close them now and then (-k 10).";
        verdict.object(Status::Invalid, reason, advice);
        return;
    }
    if let Limit::Requests(_) = plan.limit {
        return;
    }
    // Little's law: requests in flight = throughput x mean time in flight. Requests that were in flight
    // when the time began are missing in it, those in flight at the end are in it with all of their
    // time. Both balance but for chance, which is of the order of what is left of one of them.
    let duration_ns = outcome.duration.as_secs_f64() * 1e9;
    let in_flight = record.busy_ns as f64 / duration_ns;
    let (mean, deviation) = (record.response.mean(), record.response.stdev());
    let left_ns = (mean * mean + deviation * deviation) / mean;
    // A connection that is being made has no request in flight, nor has one that a thread of the generator is
    // about to close and replace, which it does one at a time.
    let being_made = match plan.life {
        ConnectionLife::KeepAlive => 0.0,
        ConnectionLife::Requests(_) => {
            let connecting_ns = record.connections_in_time as f64 * record.connect.mean();
            (connecting_ns / duration_ns + plan.threads as f64) * plan.pipeline as f64
        }
    };
    let expected = in_flight_max as f64;
    let tolerance = LITTLE_MAX + left_ns / duration_ns;
    let is_off = in_flight > expected * (1.0 + tolerance)
        || in_flight + being_made < expected * (1.0 - tolerance);
    if is_off {
        let reason = format!(
            "Little's law is off: {in_flight:.1} requests were in flight on average, \
             {in_flight_max} should have been"
        );
        let advice = "Connections were lost or stood idle; see the errors, and run for longer.";
        verdict.object(Status::Invalid, reason, advice);
    }
}

fn open_loop(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    let lag_own = record.lag_own.value_at_quantile(0.99);
    let response = record.response.value_at_quantile(0.99);
    let late = lag_own > LAG_NS_MAX && lag_own as f64 > LAG_SHARE_MAX * response as f64;
    if late {
        verdict.object(
            Status::ClientBound,
            format!(
                "the generator was late: at p99 {} of a response time of {} is its own lag",
                time(lag_own as f64 / 1e3),
                time(response as f64 / 1e3)
            ),
            "Give it a CPU of its own (--pin-client), more threads, or a lower rate.",
        );
    }
    if falls_behind(outcome) {
        let sent = record.sent_in_time as f64 / outcome.duration.as_secs_f64();
        let rate = plan.pace.rate().map_or(0.0, crate::plan::Rate::per_s);
        let reason = format!(
            "the rate was missed: {} of {} requests per second were sent",
            thousands(sent.round() as u64),
            thousands(rate.round() as u64)
        );
        let generator = late || outcome.client.busiest_thread > CLIENT_BUSY_MAX;
        match generator {
            true => verdict.object(
                Status::ClientBound,
                reason,
                "The generator could not: more threads (-t), if there are CPUs for them.",
            ),
            false => verdict.object(
                Status::Invalid,
                reason,
                format!(
                    "All {} connections were busy: the server cannot take this rate, or needs more \
                     of them (-c).",
                    plan.connections
                ),
            ),
        }
    }
}

/// Whether requests were not sent in time, because there were always others to be sent before them. A
/// stall at the very end delays some too; in a run that cannot keep up, half of all requests wait for
/// half as long as the last of them do.
pub(crate) fn falls_behind(outcome: &Outcome) -> bool {
    let record = &outcome.record;
    let missed = (record.due - record.sent_in_time) as f64 / record.due as f64;
    let behind_ns = missed * outcome.duration.as_nanos() as f64;
    missed > MISSED_SHARE_MAX && record.lag.value_at_quantile(0.5) as f64 > behind_ns / 4.0
}

fn sample(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let needed = samples_needed(99.0);
    let responses = outcome.record.responses;
    if responses < needed {
        verdict.object(
            Status::Invalid,
            format!(
                "the sample is too small: {responses} responses, {needed} are needed for a p99"
            ),
            "Run for longer (-d), or send more requests (-n).",
        );
    }
    if let Limit::Until(precision) = plan.limit
        && !outcome.interrupted
    {
        let histogram = &outcome.record.response;
        let n_effective = effective_size(histogram.len(), &outcome.record.serial);
        if !precise_enough(histogram, n_effective, &precision) {
            let (p, asked) = (precision.percentile, precision.within * 100.0);
            verdict.object(
                Status::Invalid,
                format!("p{p} is not known to within {asked}%, as was asked for"),
                "Allow more time (--max-duration), or be content with less.",
            );
        }
    }
}

fn steadiness(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    if outcome.duration < STEADY_FROM {
        return;
    }
    let what = match plan.pace {
        Pace::Closed => What::Throughput,
        Pace::Constant(_) | Pace::Poisson(_) => What::Response,
    };
    let series = &outcome.record.series;
    let figures = |change: Change| match what {
        What::Throughput => format!(
            "{} requests per second, then {}",
            thousands(change.before.round() as u64),
            thousands(change.after.round() as u64)
        ),
        What::Response => format!(
            "a mean response time of {}, then of {}",
            time(change.before / 1e3),
            time(change.after / 1e3)
        ),
    };
    if let Some(change) = steady::drift(series, outcome.duration, what) {
        verdict.object(
            Status::Invalid,
            format!("not steady: the halves of the run differ, {}", figures(change)),
            "Run for longer, with a longer warm-up; if it goes on, the server or the machine changes.",
        );
    } else if let Some(change) = steady::warming(series, outcome.duration, what) {
        verdict.notes.push(format!(
            "The beginning of the run differs from the rest ({}): try a longer --warmup.",
            figures(change)
        ));
    }
}

fn generator(outcome: &Outcome, verdict: &mut Verdict) {
    let busy = outcome.client.busiest_thread;
    if busy > CLIENT_BUSY_MAX {
        verdict.object(
            Status::ClientBound,
            format!(
                "the generator's busiest thread was busy {:.0}% of the time",
                busy * 100.0
            ),
            "The server can do more than this: use more threads (-t), if there are CPUs for them.",
        );
    }
    if let Some(steal) = outcome.steal.filter(|&steal| steal > STEAL_MAX) {
        verdict.object(
            Status::Invalid,
            format!(
                "the hypervisor took {:.0}% of the CPUs' time",
                steal * 100.0
            ),
            "Measure when the host is quieter, or elsewhere.",
        );
    }
}

fn notes(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    let mut note = |text: String| verdict.notes.push(text);
    if plan.close == Close::Rst {
        note(
            "Connections were reset, not closed: no TIME_WAIT, and less work for the kernel."
                .to_owned(),
        );
    }
    if record.close_ignored > 0 {
        note(format!(
            "The server ignores `Connection: close`: {} connections were still open {} ms after \
             their answer.",
            record.close_ignored,
            crate::drive::CLOSE_WITHIN.as_millis()
        ));
    }
    if let (Some(text), true) = (heard::note(record), record.responses > 0) {
        note(text);
    }
    if record.lower_bounds > 0 && record.responses > 0 {
        note(format!(
            "{} of the response times are lower bounds: those requests were not answered.",
            thousands(record.lower_bounds)
        ));
    }
    let oldest = record
        .oldest_unanswered
        .filter(|&age| age > Duration::from_secs(1));
    if let (Some(age), true) = (oldest, record.responses > 0) {
        note(format!(
            "The oldest unanswered request has waited for {:.1} s.",
            age.as_secs_f64()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Precision, Rate};
    use crate::record::{ClientCost, Idle, Record, record_ns};

    const SECONDS: u64 = 10;
    const CONNECTIONS: u64 = 10;

    /// Ten connections, answered in a millisecond each time.
    fn closed() -> (Plan, Outcome) {
        let plan = Plan {
            connections: CONNECTIONS as usize,
            ..Plan::new("127.0.0.1:80".parse().unwrap(), Vec::new())
        };
        let responses = CONNECTIONS * SECONDS * 1000;
        let mut record = Record::new(CONNECTIONS as usize);
        record.requests = responses;
        record.responses = responses;
        record.good = responses;
        record.connections_open_max = CONNECTIONS;
        record.busy_ns = responses * 1_000_000;
        record.responses_by_connection.fill(responses / CONNECTIONS);
        record.response.record_n(1_000_000, responses).unwrap();
        for n in 0..responses {
            record.series.push(n * 100_000, 1_000_000);
        }
        let outcome = Outcome {
            record,
            duration: Duration::from_secs(SECONDS),
            interrupted: false,
            idle: None,
            client: ClientCost {
                busiest_thread: 0.5,
                ..ClientCost::default()
            },
            steal: Some(0.001),
        };
        (plan, outcome)
    }

    /// The same with connections that are replaced: three are being made at any time.
    fn churning() -> (Plan, Outcome) {
        let (mut plan, mut outcome) = closed();
        plan.life = ConnectionLife::from_requests(1);
        outcome.record.connections_in_time = 3_000 * SECONDS;
        outcome.record.connect.record_n(1_000_000, 100).unwrap();
        (plan, outcome)
    }

    /// The same, sent by a schedule.
    fn open() -> (Plan, Outcome) {
        let (mut plan, mut outcome) = closed();
        plan.pace = Pace::Constant(Rate::per_second(10_000.0).unwrap());
        let record = &mut outcome.record;
        record.due = record.requests;
        record.sent_in_time = record.requests;
        record.lag.record_n(20_000, record.requests).unwrap();
        record.lag_own.record_n(20_000, record.requests).unwrap();
        (plan, outcome)
    }

    fn idle(served: u64, closed_by_server: u64, fault: Option<Fault>) -> Option<Idle> {
        Some(Idle {
            connections: served,
            requests: served,
            served,
            closed_by_server,
            fault,
        })
    }

    #[test]
    fn good_runs_are_valid() {
        for (plan, outcome) in [closed(), open()] {
            assert_eq!(judge(&plan, &outcome), Verdict::valid());
        }
    }

    #[test]
    fn faults_are_told_with_what_to_try() {
        use Status::{ClientBound, Invalid, Valid};
        type Run = fn() -> (Plan, Outcome);
        type Change = fn(&mut Plan, &mut Outcome);
        let cases: &[(Run, Change, Status, &str)] = &[
            (
                closed,
                |_, o| o.record = Record::new(10),
                Invalid,
                "no response at all",
            ),
            (
                open,
                |_, o| {
                    o.record = Record::new(10);
                    (o.record.due, o.record.unsent) = (5_000, 5_000);
                },
                Invalid,
                "the rate was missed: of 5,000 requests that were due none was sent, as the server still had \
                 those of the warm-up",
            ),
            (
                closed,
                |_, o| {
                    o.record = Record::new(10);
                    o.record.errors(Phase::Connect, Kind::Refused, 7);
                },
                Invalid,
                "nobody listens at 127.0.0.1:80: connection refused 7 times",
            ),
            (
                closed,
                |_, o| o.record.errors(Phase::Body, Kind::BadStatus, 101),
                Invalid,
                "101 errors for 100000 requests, 101 of them body: bad status",
            ),
            (
                closed,
                |_, o| o.record.errors(Phase::Body, Kind::BadStatus, 100),
                Valid,
                "",
            ),
            (
                closed,
                |_, o| o.record.connections_open_max = 9,
                Invalid,
                "only 9 of 10 connections were established",
            ),
            (
                closed,
                |_, o| o.record.responses_by_connection[3] = 0,
                Invalid,
                "starved: 1 of 10 connections were never served",
            ),
            (
                closed,
                |_, o| o.record.busy_ns = o.record.busy_ns / 100 * 94,
                Invalid,
                "Little's law is off: 9.4 requests were in flight on average, 10 should have been",
            ),
            (
                closed,
                |_, o| o.record.busy_ns = o.record.busy_ns / 100 * 96,
                Valid,
                "",
            ),
            // Three are being made, and one is in the hands of the generator.
            (
                churning,
                |_, o| o.record.busy_ns = o.record.busy_ns / 100 * 57,
                Valid,
                "",
            ),
            (
                churning,
                |_, o| o.record.busy_ns = o.record.busy_ns / 100 * 53,
                Invalid,
                "Little's law is off: 5.3 requests were in flight on average, 10 should have been",
            ),
            (
                closed,
                |_, o| {
                    o.record.responses = 380;
                    o.record.requests = 380;
                },
                Invalid,
                "the sample is too small: 380 responses, 381 are needed for a p99",
            ),
            (
                closed,
                |_, o| o.record.series.slices.truncate(500),
                Invalid,
                "not steady: the halves of the run differ, 10,000 requests per second, then 0",
            ),
            (
                open,
                |_, o| {
                    let half = o.record.series.slices.len() / 2;
                    let later = &mut o.record.series.slices[half..];
                    later.iter_mut().for_each(|slice| slice.response_ns *= 2);
                },
                Invalid,
                "not steady: the halves of the run differ, a mean response time of 1.00 ms, then of 2.00 ms",
            ),
            (
                closed,
                |_, o| o.client.busiest_thread = 0.96,
                ClientBound,
                "the generator's busiest thread was busy 96% of the time",
            ),
            (
                closed,
                |_, o| o.steal = Some(0.06),
                Invalid,
                "the hypervisor took 6% of the CPUs' time",
            ),
            (
                open,
                |p, o| {
                    p.limit = Limit::Until(Precision {
                        percentile: 99.0,
                        within: 0.05,
                        at_most: o.duration,
                    });
                    o.record.response.record_n(9_000_000, 1_000).unwrap();
                },
                Invalid,
                "p99 is not known to within 5%, as was asked for",
            ),
            (
                open,
                |_, o| o.record.lag_own.record_n(300_000, 2_000).unwrap(),
                ClientBound,
                "the generator was late: at p99 300 µs of a response time of 1.00 ms is its own lag",
            ),
            (
                open,
                |_, o| {
                    o.record.sent_in_time = 80_000;
                    o.record.lag = crate::record::latency_histogram();
                    record_ns(&mut o.record.lag, 1_000_000_000);
                },
                Invalid,
                "the rate was missed: 8,000 of 10,000 requests per second were sent",
            ),
            (
                closed,
                |p, o| {
                    p.idle = 10_000;
                    o.idle = idle(10_000, 9_998, None);
                },
                Invalid,
                "the server closed 9,998 of 10,000 idle connections",
            ),
            (
                open,
                |p, o| {
                    p.idle = 10_000;
                    let (phase, kind) = (Phase::FirstByte, Kind::Timeout);
                    o.idle = idle(1, 0, Some(Fault { phase, kind }));
                },
                Invalid,
                "only 1 of 10,000 idle connections were served and left open (first byte: timeout)",
            ),
            (
                closed,
                |p, o| {
                    p.idle = 10_000;
                    o.idle = idle(1_000, 0, None);
                },
                Invalid,
                "only 1,000 of 10,000 idle connections were served and left open",
            ),
            (
                closed,
                |p, o| {
                    p.idle = 10_000;
                    o.idle = idle(10_000, 0, None);
                },
                Valid,
                "",
            ),
            // Two hundred milliseconds of stall at the very end.
            (open, |_, o| o.record.sent_in_time = 98_000, Valid, ""),
            (
                open,
                |_, o| {
                    o.record.sent_in_time = 80_000;
                    record_ns(&mut o.record.lag, 1_000_000_000);
                    o.record.lag = o.record.lag.clone() - o.record.lag_own.clone();
                    o.client.busiest_thread = 0.99;
                },
                ClientBound,
                "the rate was missed: 8,000 of 10,000 requests per second were sent",
            ),
        ];
        for (base, change, status, reason) in cases {
            let (mut plan, mut outcome) = base();
            change(&mut plan, &mut outcome);
            let verdict = judge(&plan, &outcome);
            assert_eq!(verdict.status, *status, "{reason}: {verdict:?}");
            let first = verdict.reasons.first().map_or("", String::as_str);
            assert_eq!(first, *reason);
            assert_eq!(verdict.reasons.len(), verdict.advice.len());
            assert!(verdict.advice.iter().all(|advice| advice.ends_with('.')));
        }
    }

    #[test]
    fn notes_are_no_reasons() {
        let (mut plan, mut outcome) = closed();
        plan.close = Close::Rst;
        plan.life = ConnectionLife::Requests(1);
        outcome.record.close_ignored = 3;
        outcome.record.lower_bounds = 4;
        outcome.record.oldest_unanswered = Some(Duration::from_millis(1500));
        let verdict = judge(&plan, &outcome);
        assert_eq!(verdict.status, Status::Valid);
        let starts = [
            "Connections were reset",
            "The server ignores",
            "4 of",
            "The oldest",
        ];
        assert_eq!(verdict.notes.len(), starts.len());
        for (note, start) in verdict.notes.iter().zip(starts) {
            assert!(note.starts_with(start), "{note}");
        }
    }
}
