//! Whether a run's numbers can be believed, and what to try if not.
//!
//! Four gates guard the numbers of a server, in this order:
//!
//! 1. The probe: `subject::process::probe` requests `/` once before the load, and expects the
//!    agreed answer from the server alone.
//! 2. Each answer: [`crate::response`] checks every response during the load; [`crate::drive`]
//!    counts a wrong one as an error, which the verdict judges.
//! 3. Death or a failed stop: `subject::process` reports whether the server ended during the load
//!    or did not stop after it.
//! 4. The verdict: [`judge`] and [`judge_cell`] look for reasons not to believe the recorded
//!    numbers, errors included.
//!
//! In a `measure`, a failure at gate 1 or 3 fails the cell without a verdict; in a `run` with its
//! own server, such a death makes the verdict invalid.

use std::cmp::Reverse;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::figures::{count, thousands, time};
use crate::heard;
use crate::latency::{effective_size, percentile, precise_enough, samples_needed};
use crate::plan::{Close, ConnectionLife, Limit, Pace, Plan, Rate};
use crate::record::{Fault, Kind, Outcome, Phase, Record, SLOW_CONNECT};
use crate::silence::overlap_ns;
use crate::steady;
use crate::steady::{Change, What};

/// A status, and in plain words the reasons for any status but `valid`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether the numbers can be believed.
    pub status: Status,
    /// Why they cannot.
    pub reasons: Vec<String>,
    /// What to try, one piece of advice for each reason.
    pub advice: Vec<String>,
    /// Remarks that cast no doubt on the numbers.
    pub notes: Vec<String>,
}

/// Whether a run's numbers can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The numbers describe the server.
    Valid,
    /// The numbers describe the generator, which was the bottleneck.
    ClientBound,
    /// The numbers cannot be compared with anything.
    Invalid,
}

impl Status {
    /// The status as written in JSON and CSV.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Valid => "valid",
            Status::ClientBound => "client-bound",
            Status::Invalid => "invalid",
        }
    }
}

impl Verdict {
    /// A verdict without reasons or notes.
    pub fn valid() -> Self {
        Verdict {
            status: Status::Valid,
            reasons: Vec::new(),
            advice: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a reason why the run is at best `status`, and what to try.
    pub fn object(&mut self, status: Status, reason: String, advice: impl Into<String>) {
        self.status = self.status.max(status);
        self.reasons.push(reason);
        self.advice.push(advice.into());
    }
}

/// The generator is the bottleneck if one of its threads is busy for more than this share of the
/// time.
pub const CLIENT_BUSY_MAX: f64 = 0.95;
/// The generator is late if its own lag at p99 exceeds this share of the response time's p99, and
/// [`LAG_NS_MAX`].
const LAG_SHARE_MAX: f64 = 0.1;
/// The generator is late only if its own lag at p99 exceeds this many nanoseconds; see
/// [`LAG_SHARE_MAX`].
const LAG_NS_MAX: u64 = 100_000;
/// The share of due requests that may miss their time.
const MISSED_SHARE_MAX: f64 = 0.01;
/// The share of requests that may fail.
const ERROR_SHARE_MAX: f64 = 0.001;
/// The tolerated relative deviation from Little's law.
const LITTLE_MAX: f64 = 0.05;
/// The share of CPU time that the hypervisor may give to others.
const STEAL_MAX: f64 = 0.05;
/// In a shorter time, CPU shares and lateness mean nothing: a single hiccup of the machine would
/// dominate them.
const SHARES_FROM: Duration = Duration::from_millis(100);
/// The share of its time that a thread of the generator may wait for a CPU in closed loop, where
/// reading an answer late also delays the next request. In open loop, the generator's own lag shows
/// how much the waiting mattered.
const WAITING_MAX: f64 = 0.10;
/// The share of the time for which the generator may be stopped; see [`STOPPED_S_MIN`].
const STOPPED_MAX: f64 = 0.05;
/// Stops of fewer seconds in total are ignored: a machine may cause them by chance.
const STOPPED_S_MIN: f64 = 0.1;
/// The share of the time for which a CPU quota may stop the generator's control group.
const THROTTLED_MAX: f64 = 0.02;
/// The share of the server's or the generator's CPUs that other processes may use.
const OTHERS_MAX: f64 = 0.10;
/// The share of the time that a single silence of the server may take while something is awaited.
const SILENCE_MAX: f64 = 0.15;
/// The share of the time that all silences of the server may take together.
const SILENT_MAX: f64 = 0.25;
/// Shorter silences (nanoseconds) occur on any machine now and then and do not count, except for
/// [`SHORT_SILENCE_NS_MIN`].
const SILENCE_NS_MIN: u64 = 100_000_000;
/// In closed loop, where percentiles may not show them, silences of at least this many nanoseconds
/// add up, such as those of a CPU quota. A generator that is stopped for this long notices, so such
/// a stop is not blamed on the server.
const SHORT_SILENCE_NS_MIN: u64 = 30_000_000;
/// The share of the connections' time that may pass in requests too few for a percentile to show.
const HUNG_MAX: f64 = 0.10;
/// The share of due requests that may be sent after the end, or never, no matter how long the
/// others waited.
const LATE_SHARE_MAX: f64 = 0.10;
/// The share of connects that may be slow.
const SLOW_CONNECT_MAX: f64 = 0.01;

/// Shorter runs are not checked for steadiness: a momentary effect of the machine would dominate
/// them.
pub const STEADY_FROM: Duration = Duration::from_secs(1);

/// Judges the outcome of `plan`. Causes come before their consequences among the reasons.
pub fn judge(plan: &Plan, outcome: &Outcome) -> Verdict {
    let mut verdict = Verdict::valid();
    let reached = outcome.record.counts.connections_opened > 0 || outcome.record.errors.is_empty();
    if outcome.is_cut_short() && reached {
        cut_short(plan, outcome, &mut verdict);
        return verdict;
    }
    let answered = outcome.record.counts.responses > 0;
    kept_from_running(outcome, &mut verdict);
    match answered {
        true => busy(plan, outcome, &mut verdict),
        // A busy generator does not matter here: no request was due.
        false => silence(plan, outcome, &mut verdict),
    }
    // A standstill causes timeouts, so timeouts are reported after it. Other errors, such as those
    // of a dead server, cause a standstill and are reported before it.
    let timed_out = worst_error(outcome).is_some_and(|(_, kind, _)| kind == Kind::Timeout);
    if !timed_out {
        errors(plan, outcome, &mut verdict);
    }
    if answered {
        standstill(plan, outcome, &mut verdict);
    }
    if timed_out {
        errors(plan, outcome, &mut verdict);
    }
    if let Some((reason, advice)) = idle_missing(plan, outcome) {
        verdict.object(Status::Invalid, reason, advice);
    }
    if answered {
        match plan.pace {
            Pace::Closed => closed_loop(plan, outcome, &mut verdict),
            Pace::Constant(_) | Pace::Poisson(_) => open_loop(plan, outcome, &mut verdict),
        }
        precision(plan, outcome, &mut verdict);
        steadiness(plan, outcome, &mut verdict);
    }
    steal(outcome, &mut verdict);
    slow_connects(plan, outcome, &mut verdict);
    notes(plan, outcome, &mut verdict);
    verdict
}

/// Judges a cell of a set. A cell is compared with others, so it must meet two more conditions: the
/// sample must support a p99, and other processes must not have used the server's CPUs (see
/// [`server_cpus`]).
pub fn judge_cell(plan: &Plan, outcome: &Outcome, used_by_others: Option<f64>) -> Verdict {
    let mut verdict = judge(plan, outcome);
    let needed = samples_needed(99.0);
    let responses = outcome.record.counts.responses;
    if (1..needed).contains(&responses) {
        verdict.notes.retain(|note| !note.starts_with(WITHHELD));
        verdict.object(
            Status::Invalid,
            format!(
                "the sample is too small: {responses} responses, {needed} are needed for a p99"
            ),
            "Run for longer (-d), or send more requests (-n).",
        );
    }
    server_cpus(used_by_others, &mut verdict);
    verdict
}

/// Judges whether a server had its CPUs to itself, from the share of their time that other
/// processes used, if known.
pub fn server_cpus(used_by_others: Option<f64>, verdict: &mut Verdict) {
    if let Some(others) = used_by_others.filter(|&others| others > OTHERS_MAX) {
        // Most other anomalies follow from this one.
        verdict.status = Status::Invalid;
        verdict.reasons.insert(
            0,
            format!(
                "other processes used {:.0}% of the server's CPUs",
                others * 100.0
            ),
        );
        let advice = "Reserve these CPUs for the server: find out what else runs on them (top), and run only one \
         measurement at a time.";
        verdict.advice.insert(0, advice.to_owned());
    }
}

/// The user ended the run before it could show anything.
fn cut_short(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    let warmup = time(plan.warmup.as_secs_f64() * 1e6);
    let answered = count(record.counts.warmup_responses, "request");
    let reason = match outcome.ended_in_warmup() {
        true => format!(
            "ended before the {warmup} warm-up was over, so nothing counts; {answered} of the warm-up \
             {} answered",
            if record.counts.warmup_responses == 1 {
                "was"
            } else {
                "were"
            }
        ),
        false => {
            let after = time(outcome.duration.as_secs_f64() * 1e6);
            let warmup = match plan.warmup {
                Duration::ZERO => String::new(),
                _ => format!(
                    ", and {} during the warm-up before it",
                    thousands(record.counts.warmup_responses)
                ),
            };
            format!(
                "ended after {after}, too soon to show anything; {} answered in that time{warmup}",
                match record.counts.answered_in_window {
                    1 => "1 request was".to_owned(),
                    n => format!("{} requests were", thousands(n)),
                }
            )
        }
    };
    verdict.object(Status::Invalid, reason, "Let the run finish.");
}

/// There was no response during the counted time.
fn silence(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    if let Some((reason, advice)) = heard::on_silence(record) {
        verdict.object(Status::Invalid, reason, advice);
        return;
    }
    let refused = record.errors.get(&(Phase::Connect, Kind::Refused));
    let (reason, advice) = match (record.counts.connections_open_max, refused) {
        (0, Some(&times)) => (
            format!(
                "nobody listens at {}: connection refused {}",
                plan.target,
                count(times, "time")
            ),
            "Start the server, or check the port.",
        ),
        _ if record.counts.answered_in_window > 0 => leftovers(plan, outcome),
        _ => nothing_came(plan, outcome),
    };
    verdict.object(Status::Invalid, reason, advice);
}

/// Explains that nothing was answered during the counted time, and what to try.
fn nothing_came(plan: &Plan, outcome: &Outcome) -> (String, &'static str) {
    let record = &outcome.record;
    let error = worst_error(outcome).map(|(phase, kind, times)| {
        (
            format!(": {} {phase}: {kind}", thousands(times)),
            advice_on(plan, phase, kind),
        )
    });
    let answered = record.counts.warmup_responses;
    let connects_wait = record.counts.connecting_at_end > 0;
    // Requests are sent in the order in which they are due.
    let none_sent = record.counts.requests == 0 && record.counts.due > 0;
    let busy_with_warmup = none_sent && !connects_wait && record.oldest_unanswered.is_some();
    if answered == 0 && error.is_none() && busy_with_warmup {
        let reason = format!(
            "the rate was missed: none of the {} requests due could be sent: the server was still busy with \
             warm-up requests",
            thousands(record.counts.due)
        );
        let advice = "The server cannot sustain this rate, or needs more connections (-c).";
        return (reason, advice);
    }
    let (what, advice) = match error {
        Some(error) => error,
        None if answered == 0 && connects_wait => (
            format!(
                ": {} not accepted",
                match record.counts.connecting_at_end {
                    1 => "1 connection was".to_owned(),
                    n => format!("{} connections were", thousands(n)),
                }
            ),
            advice_on(plan, Phase::Connect, Kind::Timeout),
        ),
        None if answered == 0 => (
            String::new(),
            "Send one request by hand: curl -v with the same URL.",
        ),
        None if was_stopped(outcome) => (
            String::new(),
            "The generator was stopped and received nothing meanwhile: run it again without interruption.",
        ),
        None if outcome.duration.as_nanos() <= u128::from(record.answered_ns_max) => (
            format!(
                " during the {} that count",
                time(outcome.duration.as_secs_f64() * 1e6)
            ),
            "Run for longer than one answer takes (-d).",
        ),
        None => (
            String::new(),
            "Find out what stopped the server (its log, a lock, a limit on requests), and run again.",
        ),
    };
    (heard::none_answered(record) + &what, advice)
}

/// Everything answered during the counted time had been sent, or was due, before it.
fn leftovers(plan: &Plan, outcome: &Outcome) -> (String, &'static str) {
    let record = &outcome.record;
    let answers = count(record.counts.answered_of_warmup, "answer");
    let achieved = record.counts.answered_in_window as f64 / outcome.duration.as_secs_f64();
    let is_missed = |rate: &Rate| achieved < (1.0 - MISSED_SHARE_MAX) * rate.per_s();
    match plan.pace.rate().filter(is_missed) {
        Some(rate) => {
            let reason = format!(
                "the rate was missed: {} of {} requests per second were answered, all of them left over from the \
                 warm-up",
                thousands(achieved.round() as u64),
                thousands(rate.per_s().round() as u64)
            );
            let advice = "The server cannot sustain this rate, or needs more connections (-c).";
            (reason, advice)
        }
        None => (
            format!(
                "no request sent during the {} that count was answered; {answers} arrived, all to requests of the \
                 warm-up",
                time(outcome.duration.as_secs_f64() * 1e6)
            ),
            "Run for longer than one answer takes (-d).",
        ),
    }
}

/// The most frequent error.
fn worst_error(outcome: &Outcome) -> Option<(Phase, Kind, u64)> {
    let errors = outcome.record.errors.iter();
    let worst = errors.max_by_key(|&(key, count)| (count, Reverse(key)));
    worst.map(|(&(phase, kind), &count)| (phase, kind, count))
}

fn errors(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    let errors = record.errors_count();
    let attempts = record.counts.requests.max(errors);
    let Some((phase, kind, count)) = worst_error(outcome) else {
        return;
    };
    if record.counts.responses == 0 || errors as f64 <= ERROR_SHARE_MAX * attempts as f64 {
        return;
    }
    let reason = format!(
        "{errors} errors for {} requests, {count} of them {phase}: {kind}",
        record.counts.requests
    );
    match heard::on_errors(plan, record, phase, kind) {
        Some((more, advice)) => {
            verdict.object(Status::Invalid, format!("{reason} ({more})"), advice);
        }
        None => verdict.object(Status::Invalid, reason, advice_on(plan, phase, kind)),
    }
}

/// What to try against most errors of a kind.
fn advice_on(plan: &Plan, phase: Phase, kind: Kind) -> &'static str {
    match (phase, kind) {
        (_, Kind::AddressExhausted) => {
            "Spread the connections over more source addresses (--source), or open fewer per second."
        }
        (_, Kind::TooManyFiles) => {
            "Raise the limit on open files (ulimit -n), or use fewer connections."
        }
        (Phase::Connect, Kind::Refused) => "Check that the server is still running.",
        (Phase::Connect, Kind::Timeout) => {
            "The server does not accept connections: check its backlog (net.core.somaxconn), or use fewer \
             connections (-c)."
        }
        (_, Kind::Timeout) => "Allow more time (--timeout), or reduce the load (-c, --rate).",
        (_, Kind::BadStatus) => "Check that the server accepts this URL, method and header fields.",
        (_, Kind::WrongBody) if plan.expect.is_none() => {
            "If answers may differ in length, state the expected body: --expect-body."
        }
        _ => "Look for the reason in the server's log.",
    }
}

/// Why there were fewer idle connections than requested, if so, and what to try.
pub fn idle_missing(plan: &Plan, outcome: &Outcome) -> Option<(String, &'static str)> {
    let idle = outcome.idle.as_ref()?;
    let asked = thousands(plan.idle as u64);
    let served = thousands(idle.served);
    let reason = format!("only {served} of {asked} idle connections were served and left open");
    if let Some(Fault { phase, kind }) = idle.fault {
        let advice = match (phase, kind) {
            (Phase::Close, Kind::ClosedEarly) => {
                "The server closes connections after its answer: check that it supports keep-alive."
            }
            (Phase::FirstByte, Kind::Timeout) => {
                "The server does not serve more connections at once: it stays with one until it is over, or has \
                 reached a limit (for ours: --max-connections). Use fewer (--idle)."
            }
            (phase, kind) => advice_on(plan, phase, kind),
        };
        return Some((format!("{reason} ({phase}: {kind})"), advice));
    }
    if idle.served < plan.idle as u64 {
        return Some((reason, "The run ended before the others were opened."));
    }
    let closed = thousands(idle.closed_by_server);
    (idle.closed_by_server > 0).then(|| {
        let advice = "Raise the server's idle timeout (for ours: --server-arg=--idle-timeout=10m), or shorten \
         the run.";
        let reason = format!("the server closed {closed} of {asked} idle connections");
        (reason, advice)
    })
}

fn closed_loop(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    let asked = plan.connections as u64;
    let in_flight_max = asked * plan.pipeline as u64;
    // A short run leaves some connections without a request by its own plan.
    let enough = match plan.limit {
        Limit::Requests(requests) => requests >= in_flight_max,
        Limit::For(_) | Limit::Until(_) => record.counts.requests >= asked,
    };
    if record.counts.connections_open_max < asked && enough {
        verdict.object(
            Status::Invalid,
            format!(
                "only {} of {asked} connections were established",
                record.counts.connections_open_max
            ),
            "Use fewer connections, or check the server's backlog and its limit on open files.",
        );
        return;
    }
    let unserved = unserved(record);
    if unserved > 0 && enough {
        let reason = format!(
            "starved: {unserved} of {} connections were never served",
            record.responses_by_connection.len()
        );
        let advice = "Throughput and latency describe only the connections that were served. Use no more connections \
         than the server serves at once, or close them now and then (-k 10).";
        verdict.object(Status::Invalid, reason, advice);
        return;
    }
    if let Limit::Requests(_) = plan.limit {
        return;
    }
    // Little's law: requests in flight = throughput x mean time in flight. The sum misses requests
    // in flight at the start, and counts those in flight at the end for their whole time. Both
    // errors balance except for chance, whose size is about one of them.
    let duration_ns = outcome.duration.as_secs_f64() * 1e9;
    let in_flight = record.busy_ns as f64 / duration_ns;
    let (mean, deviation) = (record.response.mean(), record.response.stdev());
    let left_ns = (mean * mean + deviation * deviation) / mean;
    // A connection that is being opened has no request in flight. Neither does one that a generator
    // thread is about to close and replace, which it does one at a time.
    let being_made = match plan.life {
        ConnectionLife::KeepAlive => 0.0,
        ConnectionLife::Requests(_) => {
            let connecting_ns = record.counts.connections_in_time as f64 * record.connect.mean();
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
        let advice = "Connections were lost or idle: look at the errors, and run for longer.";
        verdict.object(Status::Invalid, reason, advice);
    }
}

/// The number of connections without a single response.
fn unserved(record: &Record) -> usize {
    let by_connection = record.responses_by_connection.iter();
    by_connection.filter(|&&count| count == 0).count()
}

fn open_loop(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    if outcome.duration < SHARES_FROM && record.counts.unsent == 0 {
        return;
    }
    let late = lateness(outcome);
    if let Some(reason) = &late {
        verdict.object(
            Status::ClientBound,
            reason.clone(),
            "Give the generator its own CPUs (--pin-client) or more threads, or lower the rate.",
        );
    }
    if falls_behind(outcome) {
        let sent = record.counts.sent_in_time as f64 / outcome.duration.as_secs_f64();
        let rate = plan.pace.rate().map_or(0.0, Rate::per_s);
        let reason = format!(
            "the rate was missed: {} of {} requests per second were sent",
            thousands(sent.round() as u64),
            thousands(rate.round() as u64)
        );
        let busy = late.is_some() || outcome.client.busiest() > CLIENT_BUSY_MAX;
        match busy || was_stopped(outcome) {
            true if !busy => verdict.object(
                Status::Invalid,
                reason,
                "The generator was stopped and could not send: run it again without interruption.",
            ),
            true => verdict.object(
                Status::ClientBound,
                reason,
                "The generator is too slow: use more threads (-t), if there are CPUs for them.",
            ),
            false => verdict.object(
                Status::Invalid,
                reason,
                format!(
                    "All {} connections were busy: the server cannot sustain this rate, or needs more \
                     of them (-c).",
                    plan.connections
                ),
            ),
        }
    }
}

/// Whether the generator sent requests late, at the highest percentile that the sample supports.
fn lateness(outcome: &Outcome) -> Option<String> {
    let record = &outcome.record;
    let of_both = |p: f64| percentile(&record.lag_own, p).zip(percentile(&record.response, p));
    let percentiles = [99.0, 90.0, 50.0].into_iter();
    let (p, (lag_us, response_us)) = percentiles.filter_map(|p| Some((p, of_both(p)?))).next()?;
    let late = lag_us * 1e3 > LAG_NS_MAX as f64 && lag_us > LAG_SHARE_MAX * response_us;
    late.then(|| {
        format!(
            "the generator was late: at p{p} {} of a response time of {} is its own lag",
            time(lag_us),
            time(response_us)
        )
    })
}

/// Whether requests missed their time because others always had to be sent first. A stall at the
/// very end also delays some requests. If a run cannot keep up, half of all requests wait at least
/// half as long as the last one. The wait does not matter if many requests were late or never sent:
/// those before a server's stall were in time.
pub fn falls_behind(outcome: &Outcome) -> bool {
    let record = &outcome.record;
    let share = |count: u64| count as f64 / record.counts.due as f64;
    let missed = share(record.counts.due - record.counts.sent_in_time);
    let behind_ns = missed * outcome.duration.as_nanos() as f64;
    let waited = record.lag.value_at_quantile(0.5) as f64 > behind_ns / 4.0;
    let late = missed > LATE_SHARE_MAX || share(record.counts.unsent) > MISSED_SHARE_MAX;
    missed > MISSED_SHARE_MAX && (waited || late)
}

fn precision(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    if let Limit::Until(precision) = plan.limit
        && !outcome.interrupted
    {
        let histogram = &outcome.record.response;
        let n_effective = effective_size(histogram.len(), &outcome.record.serial);
        if !precise_enough(histogram, n_effective, &precision) {
            let (p, asked) = (precision.percentile, precision.within * 100.0);
            verdict.object(
                Status::Invalid,
                format!("p{p} is not known to within {asked}%, as requested"),
                "Allow more time (--max-duration), or request less precision.",
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
            "Run for longer, with a longer warm-up; if the drift persists, the server or the machine is changing.",
        );
    } else if verdict.status != Status::Invalid
        && let Some(change) = steady::warming(series, outcome.duration, what)
    {
        verdict.notes.push(format!(
            "The beginning of the run differs from the rest ({}): try a longer --warmup.",
            figures(change)
        ));
    }
}

/// Whether the generator was stopped for long enough to matter.
fn was_stopped(outcome: &Outcome) -> bool {
    let stopped_s = outcome.client.stopped_s;
    stopped_s >= STOPPED_S_MIN && stopped_s > STOPPED_MAX * outcome.duration.as_secs_f64()
}

/// Judges whether the generator was stopped, or throttled by a quota.
fn kept_from_running(outcome: &Outcome, verdict: &mut Verdict) {
    let client = &outcome.client;
    let seconds = outcome.duration.as_secs_f64();
    if was_stopped(outcome) {
        let how = match client.run_delay_s {
            Some(_) => "it was stopped, or the machine was suspended",
            None => "it was stopped, or had no CPU",
        };
        verdict.object(
            Status::Invalid,
            format!(
                "the generator stood still for {} of {}: {how}",
                time(client.stopped_s.min(seconds) * 1e6),
                time(seconds * 1e6)
            ),
            "Run it again without interruption: no SIGSTOP, no debugger, no suspended machine.",
        );
    }
    let contention = &client.contention;
    let throttled_s = contention.throttled_s.unwrap_or(0.0);
    if let Some(quota) = contention.cpu_quota
        && throttled_s > THROTTLED_MAX * seconds
    {
        verdict.object(
            Status::ClientBound,
            format!(
                "a quota of {quota} CPUs stopped the generator's control group {}, for {} in total",
                count(contention.throttled_times.unwrap_or(0), "time"),
                time(throttled_s * 1e6)
            ),
            "Raise the quota (the group's cpu.max, a container's --cpus), or measure outside it.",
        );
    }
}

/// Whether the generator waited for a CPU after wake-ups long enough to affect response times. A
/// thread that serves idle connections now and then may wait for any length of time.
fn waits_matter(outcome: &Outcome) -> bool {
    let client = &outcome.client;
    let Some(delay_s) = client.run_delay_s else {
        return true;
    };
    let each_ns = delay_s * 1e9 / client.context_switches.max(1) as f64;
    each_ns > WAITING_MAX * outcome.record.response.mean()
}

/// Judges whether the generator had the CPUs that it needed.
fn busy(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let client = &outcome.client;
    let (busy, waited) = (
        client.busiest_thread.unwrap_or(0.0),
        client.longest_waiting_thread.unwrap_or(0.0),
    );
    let waits = waited > WAITING_MAX && plan.pace == Pace::Closed && waits_matter(outcome);
    if outcome.duration >= SHARES_FROM && (client.busiest() > CLIENT_BUSY_MAX || waits) {
        let reason = format!(
            "the generator's busiest thread was busy {:.0}% of the time",
            busy * 100.0
        );
        let alone = busy > CLIENT_BUSY_MAX && waited < WAITING_MAX;
        match alone {
            true => verdict.object(
                Status::ClientBound,
                reason,
                "The server can do more: use more threads (-t), if there are CPUs for them.",
            ),
            false => verdict.object(
                Status::ClientBound,
                format!(
                    "{reason}, and a thread waited for a CPU for {:.0}%",
                    waited * 100.0
                ),
                "Reserve the generator's CPUs for it: find out what else runs on them (top), run only one \
                 measurement at a time, and pin the generator (--pin-client).",
            ),
        }
    }
    if let Some(others) = client.contention.cpus_used_by_others
        && others > OTHERS_MAX
        && client.run_delay_s.is_none()
    {
        verdict.object(
            Status::ClientBound,
            format!(
                "other processes used {:.0}% of the generator's CPUs",
                others * 100.0
            ),
            "Reserve these CPUs for the generator, and run only one measurement at a time.",
        );
    }
}

fn steal(outcome: &Outcome, verdict: &mut Verdict) {
    if let Some(steal) = outcome.steal.filter(|&steal| steal > STEAL_MAX)
        && outcome.duration >= SHARES_FROM
    {
        verdict.object(
            Status::Invalid,
            format!("the hypervisor took {:.0}% of the CPU time", steal * 100.0),
            "Measure when the host is less busy, or on another machine.",
        );
    }
}

/// Judges whether the server stood still, for all connections or for some.
fn standstill(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    // Starved connections are also unanswered, but starvation is reported separately.
    let starved = plan.pace == Pace::Closed && unserved(&outcome.record) > 0;
    let some = || never_answered(outcome).or_else(|| hung(plan, outcome));
    let found = silences(plan, outcome).or_else(|| if starved { None } else { some() });
    let Some(reason) = found else {
        return;
    };
    let few = matches!(plan.limit, Limit::Requests(_))
        && outcome.record.counts.responses < samples_needed(99.0)
        && outcome.record.counts.in_flight_at_end == 0;
    if few {
        // Everything requested was answered, and the table shows the longest wait.
        verdict.notes.push(format!("{}.", capitalized(&reason)));
    } else {
        let advice = "Find out what stopped the server (its log, a lock, garbage collection, a debugger, a quota), \
         and run again.";
        verdict.object(Status::Invalid, reason, advice);
    }
}

/// Nothing arrived for a large part of the time although answers were awaited and usually take less
/// long.
fn silences(plan: &Plan, outcome: &Outcome) -> Option<String> {
    let silences = outcome.record.silences.as_ref()?;
    let pauses = &outcome.client.pauses;
    let short_ones_count = plan.pace == Pace::Closed && outcome.duration >= STEADY_FROM;
    let of_the_server = |(from, to): (u64, u64)| {
        let silent_ns = to - from;
        // The generator was stopped and could not receive anything.
        let deaf_ns = overlap_ns(from, to, pauses.iter().copied());
        let counts = match silent_ns >= SILENCE_NS_MIN {
            true => deaf_ns < silent_ns / 2,
            false => short_ones_count && silent_ns >= SHORT_SILENCE_NS_MIN && deaf_ns == 0,
        };
        counts.then_some(silent_ns)
    };
    let usual = Usual::new(plan, outcome);
    let silences = silences.times().filter_map(of_the_server);
    let silences: Vec<u64> = silences.filter(|&ns| !usual.is(ns)).collect();
    let longest_ns = silences.iter().copied().max()?;
    let all_ns: u64 = silences.iter().sum();
    let window_ns = outcome.duration.as_nanos() as f64;
    let share = all_ns as f64 / window_ns;
    if longest_ns as f64 <= SILENCE_MAX * window_ns && share <= SILENT_MAX {
        return None;
    }
    let times = match silences.len() {
        1 => String::new(),
        n => format!(
            " in {n} silences, the longest of {}",
            time(longest_ns as f64 / 1e3)
        ),
    };
    Some(format!(
        "the server stood still: it sent nothing for {} of {} ({:.0}%){times}",
        time(all_ns as f64 / 1e3),
        time(window_ns / 1e3),
        share * 100.0
    ))
}

/// The usual waits for a server, with which its silences are compared.
struct Usual {
    answers: Times,
    connects: Times,
    in_flight_max: u64,
}

impl Usual {
    fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let (service, lower_bounds) = service(&outcome.record);
        Usual {
            answers: Times::new(service, lower_bounds),
            connects: Times::new(&outcome.record.connect, 0),
            in_flight_max: (plan.connections * plan.pipeline) as u64,
        }
    }

    /// Whether a silence of this length is usual because answers, or connects, take as long: half
    /// of them do, or more than a percentile hides and three silences explain.
    fn is(&self, silent_ns: u64) -> bool {
        let is_usual_in = |times: &Times| {
            let (long, all) = (times.at_least(silent_ns / 2), times.answered);
            long > 0 && (2 * long >= all || (long > 3 * self.in_flight_max && 100 * long >= all))
        };
        is_usual_in(&self.answers) || is_usual_in(&self.connects)
    }
}

/// A histogram prepared for fast counting of values above a limit.
struct Times {
    /// For each bucket, its longest value and the number of values up to it.
    counts: Vec<(u64, u64)>,
    /// The number of completed requests; the others count as the longest.
    answered: u64,
}

impl Times {
    fn new(histogram: &Histogram<u64>, unanswered: u64) -> Self {
        let mut all = 0;
        let buckets = histogram.iter_recorded().map(|bucket| {
            all += bucket.count_at_value();
            (
                histogram.highest_equivalent(bucket.value_iterated_to()),
                all,
            )
        });
        Times {
            counts: buckets.collect(),
            answered: histogram.len().saturating_sub(unanswered),
        }
    }

    /// The number of completed requests that took at least this many nanoseconds.
    fn at_least(&self, ns: u64) -> u64 {
        let shorter = self.counts.partition_point(|&(highest, _)| highest < ns);
        let shorter = shorter.checked_sub(1).map_or(0, |last| self.counts[last].1);
        self.answered.saturating_sub(shorter)
    }
}

/// The times of requests since they were sent, and how many of them are incomplete.
fn service(record: &Record) -> (&Histogram<u64>, u64) {
    match record.service.is_empty() {
        true => (&record.response, record.counts.lower_bounds),
        false => (
            &record.service,
            record
                .counts
                .lower_bounds
                .saturating_sub(record.counts.unsent),
        ),
    }
}

/// Requests have waited for long although no answer took nearly as long, so they will never be
/// answered.
fn never_answered(outcome: &Outcome) -> Option<String> {
    let record = &outcome.record;
    let age_ns = record.oldest_unanswered?.as_nanos() as u64;
    let window_ns = outcome.duration.as_nanos() as f64;
    let is_long = age_ns >= SILENCE_NS_MIN && age_ns as f64 > SILENCE_MAX * window_ns;
    // The generator may have been stopped past the end and left answers unread.
    let sent = (window_ns as u64).saturating_sub(age_ns);
    let deaf_ns = overlap_ns(sent, u64::MAX, outcome.client.pauses.iter().copied());
    if !is_long || deaf_ns > age_ns / 2 || record.answered_ns_max >= age_ns / 2 {
        return None;
    }
    Some(format!(
        "{} not answered: the oldest has waited for {}, the longest of those that were answered took {}",
        match record.counts.in_flight_at_end {
            0 | 1 => "a request was".to_owned(),
            n => format!("{} requests were", thousands(n)),
        },
        time(age_ns as f64 / 1e3),
        time(record.answered_ns_max as f64 / 1e3)
    ))
}

/// In closed loop: connections stood still in so few requests that no percentile shows them.
fn hung(plan: &Plan, outcome: &Outcome) -> Option<String> {
    if plan.pace != Pace::Closed {
        return None;
    }
    let window_ns = outcome.duration.as_nanos() as f64;
    // No request takes longer than the timeout; those pipelined behind another end with it, after
    // slightly less.
    let timeout_ns = 0.9 * plan.timeout.as_nanos() as f64;
    let long_ns = (SILENCE_MAX * window_ns).min(timeout_ns);
    let long_ns = long_ns.max(SILENCE_NS_MIN as f64) as u64;
    let (service, _) = service(&outcome.record);
    let long = service
        .iter_recorded()
        .skip_while(|it| it.value_iterated_to() < long_ns);
    let long = long.map(|it| (it.count_at_value(), it.value_iterated_to()));
    let (requests, ns) = long.fold((0, 0.0), |(requests, ns), (count, value)| {
        (requests + count, ns + count as f64 * value as f64)
    });
    // Shorter pauses of the generator cannot explain requests of this length.
    let pauses = outcome.client.pauses.iter().map(|(from, to)| to - from);
    let pauses_ns: u64 = pauses.filter(|&pause_ns| pause_ns > long_ns / 2).sum();
    let share = ns / (window_ns * (plan.connections * plan.pipeline) as f64);
    let shows = 100 * requests >= service.len() || pauses_ns > long_ns / 2;
    (share > HUNG_MAX && !shows).then(|| {
        format!(
            "connections stood still: {} took {} or longer and hold {:.0}% of their time, too few for a \
             percentile to show",
            count(requests, "request"),
            time(long_ns as f64 / 1e3),
            (share * 100.0).min(100.0)
        )
    })
}

/// Judges connects whose SYN had to be sent again because the accept queue is full. Everything else
/// follows from that, so it comes first.
fn slow_connects(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    let slow_ns = SLOW_CONNECT.as_nanos() as u64;
    let pending = record.counts.connecting_slowly_at_end;
    let timed_out = match plan.timeout >= SLOW_CONNECT {
        true => record.errors.get(&(Phase::Connect, Kind::Timeout)),
        false => None,
    };
    let timed_out = timed_out.copied().unwrap_or(0);
    let done = record.connect.count_between(slow_ns, record.connect.high());
    let slow = done + pending + timed_out;
    let all = record.connect.len() + record.counts.connecting_at_end + timed_out;
    if slow == 0 || (slow as f64) <= SLOW_CONNECT_MAX * all as f64 {
        return;
    }
    let done_ns = if done > 0 { record.connect.max() } else { 0 };
    let longest = [
        Duration::from_nanos(done_ns),
        record.oldest_connecting.unwrap_or_default(),
        if timed_out > 0 {
            plan.timeout
        } else {
            Duration::ZERO
        },
    ];
    let longest = longest.into_iter().max().unwrap_or_default();
    let took = match done + timed_out {
        0 => "have waited for",
        _ => "took",
    };
    let mut unfinished = Vec::new();
    if timed_out > 0 {
        unfinished.push(format!("{} timed out", thousands(timed_out)));
    }
    if pending > 0 && pending < slow {
        unfinished.push(format!("{} still wait", thousands(pending)));
    }
    let unfinished = match unfinished.is_empty() {
        true => String::new(),
        false => format!(" ({})", unfinished.join(", ")),
    };
    let answers = match percentile(&record.response, 50.0) {
        Some(median_us) if plan.pace == Pace::Closed => {
            format!("; half of the answers took {} or less", time(median_us))
        }
        _ => String::new(),
    };
    let reason = format!(
        "connects take seconds: {} of {} {took} {:.1} s or longer, up to {:.1} s{unfinished}{answers}. The accept queue was full, \
         or segments were lost: SYNs were sent again after 1, 3, 7 s",
        thousands(slow),
        thousands(all),
        SLOW_CONNECT.as_secs_f64(),
        longest.as_secs_f64()
    );
    let advice = "The server accepts too slowly: raise its backlog (listen(2), net.core.somaxconn), or use fewer \
     connections (-c).";
    // Response times of a closed loop do not include the connect.
    let hidden = plan.pace == Pace::Closed && plan.life != ConnectionLife::KeepAlive;
    match hidden || !verdict.reasons.is_empty() {
        true => {
            let status = if hidden {
                Status::Invalid
            } else {
                verdict.status
            };
            verdict.status = verdict.status.max(status);
            verdict.reasons.insert(0, reason);
            verdict.advice.insert(0, advice.to_owned());
        }
        false => verdict.notes.push(format!("{}.", capitalized(&reason))),
    }
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(characters).collect()
}

/// The start of the note that says why percentiles are missing.
const WITHHELD: &str = "Too few responses";

/// A single note about everything that a small or short run cannot show.
fn withheld(outcome: &Outcome) -> Option<String> {
    // Unanswered requests are samples too, with their age, but not responses.
    let samples = outcome.record.response.len();
    let responses = outcome.record.counts.responses;
    let percentiles = [(99.0, "p99"), (90.0, "p90"), (50.0, "p50")].into_iter();
    let mut missing = percentiles.filter(|(p, _)| samples < samples_needed(*p));
    let (p, name) = missing.next_back().filter(|_| responses > 0)?;
    let rate = match outcome.is_too_short() {
        true => format!(
            ", and the time is too short for a rate ({})",
            time(outcome.duration.as_secs_f64() * 1e6)
        ),
        false => String::new(),
    };
    Some(format!(
        "{WITHHELD} for percentiles from {name} on: {} of the {} needed{rate}; they are left out.",
        thousands(responses),
        samples_needed(p)
    ))
}

fn notes(plan: &Plan, outcome: &Outcome, verdict: &mut Verdict) {
    let record = &outcome.record;
    // A note must not repeat what a reason already quotes.
    let misread = record.misread.as_ref().map(ToString::to_string);
    let is_said = record.unsolicited.misread.is_none()
        && misread.is_some_and(|it| verdict.reasons.iter().any(|reason| reason.contains(&it)));
    let mut note = |text: String| verdict.notes.push(text);
    if plan.close == Close::Rst {
        note(
            "Connections were reset, not closed: this avoids TIME_WAIT and saves the kernel work."
                .to_owned(),
        );
    }
    if record.counts.close_ignored > 0 {
        note(format!(
            "The server ignores `Connection: close`: {} connections were still open {} ms after \
             their answer.",
            record.counts.close_ignored,
            crate::drive::CLOSE_WITHIN.as_millis()
        ));
    }
    if let Some(text) = heard::note(record)
        && record.counts.responses > 0
        && !is_said
    {
        note(text);
    }
    if let Some(withheld) = withheld(outcome) {
        note(withheld);
    }
    if let Some(others) = outcome.client.contention.cpus_used_by_others
        && others > OTHERS_MAX
    {
        note(format!(
            "Other processes used {:.0}% of the generator's CPU time.",
            others * 100.0
        ));
    }
    if record.counts.lower_bounds > 0 && record.counts.responses > 0 {
        note(format!(
            "{} of the response times are lower bounds, since the requests were not answered.",
            thousands(record.counts.lower_bounds)
        ));
    }
    let oldest = record
        .oldest_unanswered
        .filter(|&age| age > Duration::from_secs(1));
    if let (Some(age), true) = (oldest, record.counts.responses > 0) {
        note(format!(
            "The oldest unanswered request has waited for {:.1} s.",
            age.as_secs_f64()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Precision;
    use crate::record::{ClientCost, Idle, Record, record_ns};
    use crate::silence::Silences;

    const SECONDS: u64 = 10;
    const CONNECTIONS: u64 = 10;

    /// Ten connections; every answer takes a millisecond.
    fn closed() -> (Plan, Outcome) {
        let plan = Plan {
            connections: CONNECTIONS as usize,
            ..Plan::new("127.0.0.1:80".parse().unwrap(), Vec::new())
        };
        let responses = CONNECTIONS * SECONDS * 1000;
        let mut record = Record::new(CONNECTIONS as usize);
        record.counts.requests = responses;
        record.counts.responses = responses;
        record.counts.good = responses;
        record.counts.connections_open_max = CONNECTIONS;
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
                busiest_thread: Some(0.5),
                ..ClientCost::default()
            },
            steal: Some(0.001),
        };
        (plan, outcome)
    }

    /// Ten connections that are replaced: three are being opened at any time.
    fn churning() -> (Plan, Outcome) {
        let (mut plan, mut outcome) = closed();
        plan.life = ConnectionLife::from_requests(1);
        outcome.record.counts.connections_in_time = 3_000 * SECONDS;
        outcome.record.connect.record_n(1_000_000, 100).unwrap();
        (plan, outcome)
    }

    /// Ten connections in open loop.
    fn open() -> (Plan, Outcome) {
        let (mut plan, mut outcome) = closed();
        plan.pace = Pace::Constant(Rate::per_second(10_000.0).unwrap());
        let record = &mut outcome.record;
        record.counts.due = record.counts.requests;
        record.counts.sent_in_time = record.counts.requests;
        record.lag.record_n(20_000, record.counts.requests).unwrap();
        record
            .lag_own
            .record_n(20_000, record.counts.requests)
            .unwrap();
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
                    (o.record.counts.due, o.record.counts.unsent) = (5_000, 5_000);
                    o.record.oldest_unanswered = Some(Duration::from_secs(3));
                },
                Invalid,
                "the rate was missed: none of the 5,000 requests due could be sent: the server was still \
                 busy with warm-up requests",
            ),
            (
                closed,
                |_, o| {
                    o.record = Record::new(10);
                    o.record.errors(Phase::Connect, Kind::Refused, 7);
                    o.client.busiest_thread = Some(0.1);
                    o.client.longest_waiting_thread = Some(0.3);
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
                |_, o| o.record.counts.connections_open_max = 9,
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
            // Three are being opened, and the generator is about to replace one.
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
                |_, o| o.client.busiest_thread = Some(0.96),
                ClientBound,
                "the generator's busiest thread was busy 96% of the time",
            ),
            (
                closed,
                |_, o| o.steal = Some(0.06),
                Invalid,
                "the hypervisor took 6% of the CPU time",
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
                "p99 is not known to within 5%, as requested",
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
                    o.record.counts.sent_in_time = 80_000;
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
            // A stall of two hundred milliseconds at the very end.
            (
                open,
                |_, o| o.record.counts.sent_in_time = 98_000,
                Valid,
                "",
            ),
            (
                open,
                |_, o| {
                    o.record.counts.sent_in_time = 80_000;
                    record_ns(&mut o.record.lag, 1_000_000_000);
                    o.record.lag = o.record.lag.clone() - o.record.lag_own.clone();
                    o.client.busiest_thread = Some(0.99);
                },
                ClientBound,
                "the generator's busiest thread was busy 99% of the time",
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

    fn seconds(from: f64, to: f64) -> (u64, u64) {
        ((from * 1e9) as u64, (to * 1e9) as u64)
    }

    /// Makes nothing arrive in these periods, in seconds, although something is awaited.
    fn silent(outcome: &mut Outcome, times: &[(f64, f64)]) {
        let mut silences = Silences::default();
        for (from, to) in times {
            let (from, to) = seconds(*from, *to);
            silences.push(from, to, from);
        }
        outcome.record.silences = Some(silences);
    }

    /// The reasons for a run with these silences, and its status.
    fn judged(
        base: fn() -> (Plan, Outcome),
        change: impl FnOnce(&mut Plan, &mut Outcome),
    ) -> (Status, String) {
        let (mut plan, mut outcome) = base();
        change(&mut plan, &mut outcome);
        let verdict = judge(&plan, &outcome);
        assert_eq!(verdict.reasons.len(), verdict.advice.len());
        (verdict.status, verdict.reasons.join("; "))
    }

    #[test]
    fn a_server_that_stands_still_is_seen_once_it_is_long_enough() {
        type Times = &'static [(f64, f64)];
        let regular: Times = &[(0.2, 0.9), (1.2, 1.9), (2.2, 2.9), (3.2, 3.9)];
        let rows: [(Times, &str); 8] = [
            (&[], ""),
            (&[(2.0, 3.4)], ""),
            (
                &[(2.0, 3.6)],
                "the server stood still: it sent nothing for 1.60 s of 10.0 s (16%)",
            ),
            // At the start and at the end.
            (
                &[(0.0, 8.0)],
                "the server stood still: it sent nothing for 8.00 s of 10.0 s (80%)",
            ),
            (
                &[(4.0, 10.0)],
                "the server stood still: it sent nothing for 6.00 s of 10.0 s (60%)",
            ),
            (&regular[..3], ""),
            (
                regular,
                "the server stood still: it sent nothing for 2.80 s of 10.0 s (28%) in 4 silences, \
                 the longest of 700 ms",
            ),
            // A machine pauses this long now and then.
            (&[(0.1, 0.19), (1.1, 1.19), (2.1, 2.19)], ""),
        ];
        for base in [closed, open] {
            for (times, reason) in rows {
                let (status, reasons) = judged(base, |_, o| silent(o, times));
                assert_eq!(reasons, reason, "{times:?}");
                let expected = [Status::Invalid, Status::Valid][usize::from(reason.is_empty())];
                assert_eq!(status, expected, "{times:?}");
            }
        }
    }

    /// Stops as by a CPU quota: a number of stops of this many milliseconds each, in ten seconds.
    /// All ten connections wait for each of them.
    fn stop_and_go(outcome: &mut Outcome, stops: u64, ms: f64, others: u64) {
        let every = SECONDS as f64 / stops as f64;
        let times = (0..stops).map(|n| n as f64 * every);
        let times: Vec<_> = times.map(|from| (from, from + ms / 1e3)).collect();
        silent(outcome, &times);
        let response = &mut outcome.record.response;
        response.clear();
        response.record_n(1_000_000, others).unwrap();
        let ns = (ms * 1e6) as u64;
        response.record_n(ns, stops * CONNECTIONS).unwrap();
    }

    #[test]
    fn many_short_stops_are_a_standstill_of_a_closed_loop() {
        type Run = fn() -> (Plan, Outcome);
        for (base, stops, ms, is_valid) in [
            (closed as Run, 90, 90.0, false),
            (closed, 90, 31.0, false),
            (closed, 60, 31.0, true),
            // Any machine causes such stops.
            (closed, 100, 29.0, true),
            // The percentiles show them.
            (open, 90, 90.0, true),
            (closed, 40, 150.0, false),
        ] {
            let (status, reasons) = judged(base, |_, o| stop_and_go(o, stops, ms, 100_000));
            assert_eq!(status == Status::Valid, is_valid, "{stops} {ms}: {reasons}");
            let said = format!(" in {stops} silences");
            assert!(is_valid || reasons.contains(&said), "{reasons}");
        }
        // One in twenty answers takes this long, which the p99 shows: all of them fell into step.
        let (status, reasons) = judged(closed, |_, o| stop_and_go(o, 90, 50.0, 17_000));
        assert_eq!((status, reasons), (Status::Valid, String::new()));
        // The generator was late.
        let (_, reasons) = judged(closed, |_, o| {
            stop_and_go(o, 90, 90.0, 100_000);
            let times = o.record.silences.as_ref().unwrap().times();
            o.client.pauses = times.map(|(from, to)| (to - (to - from) / 3, to)).collect();
            o.client.stopped_s = 3.0;
        });
        assert_eq!(
            reasons,
            "the generator stood still for 3.00 s of 10.0 s: it was stopped, or had no CPU"
        );
    }

    /// However short a run is, a silence of less than a tenth of a second does not count.
    #[test]
    fn short_runs_are_judged_by_their_silences_too() {
        for (ms, silent_ms, is_valid) in [
            (300, 90.0, true),
            (300, 110.0, false),
            (1_200, 170.0, true),
            (1_200, 190.0, false),
        ] {
            let (status, reasons) = judged(closed, |_, o| {
                o.duration = Duration::from_millis(ms);
                o.record.busy_ns = CONNECTIONS * ms * 1_000_000;
                o.record.series = Default::default();
                silent(o, &[(0.1, 0.1 + silent_ms / 1e3)]);
            });
            assert_eq!(
                status == Status::Valid,
                is_valid,
                "{ms} {silent_ms}: {reasons}"
            );
        }
    }

    /// Adds answers that took this long to 100,000 answers of a millisecond, or replaces these.
    #[test]
    fn a_server_whose_answers_take_long_does_not_stand_still() {
        for (others, long, ns, is_valid) in [
            // Each takes two seconds: the time between two answers.
            (0, 50, 2_000_000_000, true),
            // One in a hundred does, which the p99 shows.
            (3_000, 31, 2_000_000_000, true),
            (3_000, 29, 2_000_000_000, false),
            // Each connection waits once, when the server stands still.
            (100_000, CONNECTIONS, 2_000_000_000, false),
            // They are too short to explain the silence.
            (0, 50, 900_000_000, false),
        ] {
            let (status, reasons) = judged(open, |_, o| {
                o.record.response.clear();
                o.record.response.record_n(1_000_000, others).unwrap();
                o.record.response.record_n(ns, long).unwrap();
                silent(o, &[(2.0, 4.0)]);
            });
            let stood_still = reasons.contains("stood still");
            assert_eq!(
                !stood_still, is_valid,
                "{long} of {others}: {status:?} {reasons}"
            );
        }
    }

    #[test]
    fn a_generator_that_stood_still_is_not_laid_to_the_server() {
        let stopped = |stopped_s: f64, delay_s: Option<f64>| {
            judged(closed, |_, o| {
                silent(o, &[(2.0, 4.0)]);
                o.client.pauses = vec![seconds(2.0, 4.0)];
                o.client.stopped_s = stopped_s;
                o.client.run_delay_s = delay_s;
            })
        };
        let how = "the generator stood still for 2.00 s of 10.0 s: it was stopped, or the machine was suspended";
        assert_eq!(stopped(2.0, Some(0.0)), (Status::Invalid, how.to_owned()));
        let how = "the generator stood still for 2.00 s of 10.0 s: it was stopped, or had no CPU";
        assert_eq!(stopped(2.0, None), (Status::Invalid, how.to_owned()));
        // Half a second out of ten is not much.
        assert_eq!(stopped(0.49, Some(0.0)), (Status::Valid, String::new()));
        // The generator was stopped for too short a part of the silence.
        let (status, reasons) = judged(closed, |_, o| {
            silent(o, &[(2.0, 6.0)]);
            o.client.pauses = vec![seconds(2.0, 3.9)];
        });
        assert_eq!(status, Status::Invalid);
        assert!(reasons.starts_with("the server stood still"), "{reasons}");
    }

    #[test]
    fn requests_that_are_never_answered_are_seen() {
        for (age_ms, longest_ms, is_valid) in [
            (1_490, 10, true),
            (1_510, 10, false),
            // Answers take nearly as long.
            (1_510, 800, true),
        ] {
            let (status, reasons) = judged(closed, |_, o| {
                o.record.counts.in_flight_at_end = 3;
                o.record.oldest_unanswered = Some(Duration::from_millis(age_ms));
                o.record.answered_ns_max = longest_ms * 1_000_000;
            });
            assert_eq!(status == Status::Valid, is_valid, "{age_ms}: {reasons}");
            let reason = "3 requests were not answered: the oldest has waited for 1.51 s, the longest of those \
                          that were answered took 10.0 ms";
            assert!(is_valid || reasons == reason, "{reasons}");
        }
        // The generator was stopped across the end, or long before these were sent.
        for (pause, is_valid) in [(seconds(9.9, 11.9), true), (seconds(2.0, 4.0), false)] {
            let (_, reasons) = judged(closed, |_, o| {
                o.record.counts.in_flight_at_end = 4;
                o.record.oldest_unanswered = Some(Duration::from_secs(2));
                o.record.answered_ns_max = 1_000_000;
                o.client.pauses = vec![pause];
            });
            assert_eq!(!reasons.contains("not answered"), is_valid, "{reasons}");
        }
    }

    /// With the default timeout no request takes 15% of a run of a minute.
    #[test]
    fn requests_that_hang_until_their_timeout_are_seen() {
        for (timeouts, is_valid) in [(30, true), (143, false)] {
            let (status, reasons) = judged(closed, |p, o| {
                o.duration = Duration::from_secs(60);
                o.record.busy_ns *= 6;
                o.record.series = Default::default();
                p.connections = 32;
                o.record.counts.connections_open_max = 32;
                p.timeout = Duration::from_secs(5);
                o.record.busy_ns = 32 * 60 * 1_000_000_000;
                o.record.counts.requests *= 5;
                o.record.response.record_n(1_000_000, 300_000).unwrap();
                o.record.counts.lower_bounds = timeouts;
                o.record.errors(Phase::FirstByte, Kind::Timeout, timeouts);
                // Half of them were pipelined after others.
                o.record
                    .response
                    .record_n(4_900_000_000, timeouts / 2)
                    .unwrap();
                let others = timeouts - timeouts / 2;
                o.record.response.record_n(5_003_000_000, others).unwrap();
            });
            let said =
                format!("connections stood still: {timeouts} requests took 4.50 s or longer");
            assert_eq!(reasons.contains(&said), !is_valid, "{status:?} {reasons}");
        }
    }

    #[test]
    fn connections_that_stand_still_are_seen_when_no_percentile_shows_them() {
        // Some of ten connections wait this long in a run of ten seconds.
        for (hung, ms, answered, is_valid) in [
            (5, 1_900, 100_000, true),
            (5, 2_100, 100_000, false),
            (10, 1_400, 100_000, true),
            // The p99 shows it.
            (5, 2_100, 400, true),
        ] {
            let (status, reasons) = judged(closed, |_, o| {
                o.record.response.clear();
                o.record.response.record_n(1_000_000, answered).unwrap();
                o.record.response.record_n(ms * 1_000_000, hung).unwrap();
            });
            let seen =
                reasons.contains("connections stood still: 5 requests took 1.50 s or longer");
            assert_eq!(!seen, is_valid, "{hung} for {ms}: {status:?} {reasons}");
        }
    }

    /// A stopped generator could not send.
    #[test]
    fn a_rate_that_a_stopped_generator_missed_is_not_laid_to_the_server() {
        let (mut plan, mut outcome) = open();
        plan.connections = 4;
        outcome.record.counts.sent_in_time = 70_000;
        outcome.client.stopped_s = 3.0;
        let verdict = judge(&plan, &outcome);
        assert_eq!(verdict.status, Status::Invalid);
        assert!(
            verdict.reasons[1].starts_with("the rate was missed"),
            "{verdict:?}"
        );
        assert!(
            verdict.advice[1].starts_with("The generator"),
            "{verdict:?}"
        );
        // Two threads may have been stopped for longer than the run, or the record may be
        // imprecise.
        outcome.client.stopped_s = 12.0;
        let reasons = judge(&plan, &outcome).reasons;
        assert!(reasons[0].contains("for 10.0 s of 10.0 s"), "{reasons:?}");
    }

    #[test]
    fn what_was_due_and_never_sent_is_missed() {
        for (sent_in_time, unsent, is_valid) in [
            (98_000, 1_000, true),
            (98_000, 1_100, false),
            (91_000, 0, true),
            (89_000, 0, false),
        ] {
            let (status, reasons) = judged(open, |_, o| {
                o.record.counts.sent_in_time = sent_in_time;
                o.record.counts.unsent = unsent;
            });
            assert_eq!(status == Status::Valid, is_valid, "{reasons}");
            assert!(
                is_valid || reasons.starts_with("the rate was missed"),
                "{reasons}"
            );
        }
    }

    #[test]
    fn who_waits_for_a_cpu_is_busy() {
        type Base = fn() -> (Plan, Outcome);
        let rows: [(Base, f64, f64, f64, &str); 6] = [
            (closed, 0.52, 0.94, 0.09, ""),
            (
                closed,
                0.52,
                0.96,
                0.44,
                "the generator's busiest thread was busy 52% of the time, and a thread waited for a CPU for 44%",
            ),
            // Each answer was read late.
            (
                closed,
                0.5,
                0.62,
                0.12,
                "the generator's busiest thread was busy 50% of the time, and a thread waited for a CPU for 12%",
            ),
            // The lag shows how late it was.
            (open, 0.5, 0.62, 0.12, ""),
            (
                open,
                0.5,
                0.97,
                0.47,
                "the generator's busiest thread was busy 50% of the time, and a thread waited for a CPU for 47%",
            ),
            (
                closed,
                0.96,
                0.97,
                0.01,
                "the generator's busiest thread was busy 96% of the time",
            ),
        ];
        for (base, busy, wanting, waiting, reason) in rows {
            let (status, reasons) = judged(base, |_, o| {
                o.client.busiest_thread = Some(busy);
                o.client.busiest_thread_wanting = Some(wanting);
                o.client.longest_waiting_thread = Some(waiting);
            });
            assert_eq!(reasons, reason);
            let expected = [Status::ClientBound, Status::Valid][usize::from(reason.is_empty())];
            assert_eq!(status, expected, "{reason}");
        }
    }

    /// A hiccup of the machine would dominate so short a time.
    #[test]
    fn a_time_too_short_for_shares_is_not_judged_by_them() {
        for (base, ms, is_valid) in [
            (closed as fn() -> _, 99, true),
            (closed, 100, false),
            (open, 99, true),
            (open, 100, false),
        ] {
            let (status, reasons) = judged(base, |_, o| {
                o.duration = Duration::from_millis(ms);
                o.record.busy_ns = CONNECTIONS * ms * 1_000_000;
                o.record.counts.sent_in_time = 0;
                o.client.busiest_thread = Some(1.0);
                o.steal = Some(0.2);
            });
            assert_eq!(status == Status::Valid, is_valid, "{ms}: {reasons}");
        }
    }

    #[test]
    fn a_quota_and_other_processes_are_named() {
        let throttled = |seconds: f64, quota| {
            judged(closed, |_, o| {
                let contention = &mut o.client.contention;
                contention.cpu_quota = quota;
                contention.throttled_times = Some(18);
                contention.throttled_s = Some(seconds);
            })
        };
        let reason = "a quota of 0.6 CPUs stopped the generator's control group 18 times, for 720 ms in total";
        assert_eq!(
            throttled(0.72, Some(0.6)),
            (Status::ClientBound, reason.to_owned())
        );
        assert_eq!(throttled(0.19, Some(0.6)).0, Status::Valid);

        let others = |share: f64, delay_s| {
            judged(closed, |_, o| {
                o.client.contention.cpus_used_by_others = Some(share);
                o.client.run_delay_s = delay_s;
            })
        };
        // If the kernel reports how long the generator waited, that value counts.
        assert_eq!(others(0.4, Some(0.0)).0, Status::Valid);
        let reason = "other processes used 40% of the generator's CPUs";
        assert_eq!(others(0.4, None), (Status::ClientBound, reason.to_owned()));
        assert_eq!(others(0.09, None).0, Status::Valid);
    }

    #[test]
    fn a_server_that_shares_its_cpus_is_no_cell_to_compare() {
        let (plan, outcome) = closed();
        for (others, reasons) in [
            (None, &[] as &[&str]),
            (Some(0.09), &[]),
            (
                Some(0.48),
                &["other processes used 48% of the server's CPUs"],
            ),
        ] {
            let verdict = judge_cell(&plan, &outcome, others);
            assert_eq!(verdict.reasons, reasons, "{others:?}");
            let expected = [Status::Invalid, Status::Valid][usize::from(reasons.is_empty())];
            assert_eq!(verdict.status, expected);
        }
    }

    /// A run of this many requests without faults.
    fn few(requests: u64) -> (Plan, Outcome) {
        let (mut plan, mut outcome) = closed();
        plan.limit = Limit::Requests(requests);
        let record = &mut outcome.record;
        (
            record.counts.requests,
            record.counts.responses,
            record.counts.good,
        ) = (requests, requests, requests);
        record.response.clear();
        record.response.record_n(1_000_000, requests).unwrap();
        outcome.duration = Duration::from_millis(requests.max(2));
        (plan, outcome)
    }

    #[test]
    fn few_requests_are_valid_and_one_note_says_what_is_left_out() {
        for (requests, note) in [
            (381, None),
            (
                380,
                Some(
                    "Too few responses for percentiles from p99 on: 380 of the 381 needed; they are left out.",
                ),
            ),
            (
                34,
                Some(
                    "Too few responses for percentiles from p90 on: 34 of the 35 needed; they are left out.",
                ),
            ),
            (
                1,
                Some(
                    "Too few responses for percentiles from p50 on: 1 of the 4 needed; they are left out.",
                ),
            ),
        ] {
            let (plan, outcome) = few(requests);
            let verdict = judge(&plan, &outcome);
            assert_eq!(
                (verdict.status, &verdict.reasons[..]),
                (Status::Valid, &[][..])
            );
            assert_eq!(verdict.notes, note.into_iter().collect::<Vec<_>>());
            // A cell is compared with others, so it must have a p99.
            let cell = judge_cell(&plan, &outcome, None);
            let expected = [Status::Invalid, Status::Valid][usize::from(note.is_none())];
            assert_eq!(cell.status, expected);
            if requests == 380 {
                let reason = "the sample is too small: 380 responses, 381 are needed for a p99";
                assert_eq!(cell.reasons, [reason]);
            }
        }
        // Requests that timed out are samples but not responses.
        let (plan, mut outcome) = few(5);
        outcome.record.lower_bound(5_000_000_000, None, 195);
        let notes = judge(&plan, &outcome).notes;
        let note = "Too few responses for percentiles from p99 on: 5 of the 381 needed; they are left out.";
        assert_eq!(notes[0], note);
        outcome.record.counts.responses = 0;
        let notes = judge(&plan, &outcome).notes;
        assert!(
            !notes.iter().any(|note| note.starts_with(WITHHELD)),
            "{notes:?}"
        );
        let (plan, mut outcome) = few(1);
        outcome.duration = Duration::from_micros(213);
        let verdict = judge(&plan, &outcome);
        assert_eq!(verdict.status, Status::Valid);
        let note = "Too few responses for percentiles from p50 on: 1 of the 4 needed, and the time is too short \
                    for a rate (213 µs); they are left out.";
        assert_eq!(verdict.notes, [note]);
    }

    /// The first answer of many servers takes long.
    #[test]
    fn few_requests_that_were_all_answered_are_valid_however_long_one_took() {
        for (requests, is_valid) in [(5, true), (380, true), (381, false)] {
            let (plan, mut outcome) = few(requests);
            outcome.duration = Duration::from_millis(700);
            silent(&mut outcome, &[(0.0, 0.5)]);
            let verdict = judge(&plan, &outcome);
            assert_eq!(verdict.status == Status::Valid, is_valid, "{verdict:?}");
            let said = "he server stood still: it sent nothing for 500 ms of 700 ms (71%)";
            let all = [verdict.reasons, verdict.notes].concat().join(" ");
            assert!(all.contains(said), "{all}");
        }
    }

    /// A generator that is seldom woken may wait for a CPU each time without affecting a response
    /// time.
    #[test]
    fn a_wait_matters_when_response_times_show_it() {
        for (switches, is_valid) in [
            (1_000_000, true),
            (13_000, true),
            (11_000, false),
            (0, false),
        ] {
            let (status, reasons) = judged(closed, |_, o| {
                o.client.longest_waiting_thread = Some(0.12);
                o.client.run_delay_s = Some(1.2);
                o.client.context_switches = switches;
            });
            assert_eq!(status == Status::Valid, is_valid, "{switches}: {reasons}");
        }
    }

    #[test]
    fn no_percentile_is_quoted_that_is_withheld() {
        // All of the few requests were late.
        for (requests, quoted) in [(400, "at p99"), (380, "at p90"), (34, "at p50"), (3, "")] {
            let (status, reasons) = judged(open, |_, o| {
                let record = &mut o.record;
                record.response.clear();
                record.response.record_n(1_000_000, requests).unwrap();
                record.lag_own.clear();
                record.lag_own.record_n(900_000, requests).unwrap();
            });
            assert!(reasons.contains(quoted), "{requests}: {reasons}");
            assert_eq!(status == Status::Valid, quoted.is_empty(), "{reasons}");
        }
    }

    #[test]
    fn a_run_that_ended_in_its_warm_up_says_so() {
        let ended = |duration: Duration, change: fn(&mut Record)| {
            judged(closed, move |p, o| {
                p.warmup = Duration::from_secs(1);
                o.interrupted = true;
                o.duration = duration;
                o.record = Record::new(10);
                o.record.counts.connections_opened = 1;
                o.record.counts.warmup_responses = 30;
                change(&mut o.record);
            })
        };
        let (status, reason) = ended(Duration::ZERO, |_| {});
        assert_eq!(status, Status::Invalid);
        assert_eq!(
            reason,
            "ended before the 1.00 s warm-up was over, so nothing counts; 30 requests of the warm-up were \
             answered"
        );
        let (status, reason) = ended(Duration::from_millis(3), |record| {
            record.counts.answered_in_window = 1;
            record.counts.responses = 1;
        });
        assert_eq!(status, Status::Invalid);
        assert_eq!(
            reason,
            "ended after 3.00 ms, too soon to show anything; 1 request was answered in that time, and \
             30 during the warm-up before it"
        );
        // There was no server.
        let (_, reason) = ended(Duration::ZERO, |record| {
            record.counts.connections_opened = 0;
            record.errors(Phase::Connect, Kind::Refused, 7);
        });
        assert!(reason.starts_with("nobody listens"), "{reason}");
        // Long enough.
        let (_, reason) = ended(Duration::from_millis(100), |_| {});
        assert_eq!(
            reason,
            "30 requests of the warm-up were answered, none since"
        );
    }

    #[test]
    fn answers_left_over_from_the_warm_up_are_said() {
        let left = |base: fn() -> (Plan, Outcome)| {
            judged(base, |_, o| {
                o.record = Record::new(10);
                o.record.counts.due = 30_000;
                o.record.counts.answered_in_window = 2_200;
                o.record.counts.answered_of_warmup = 2_200;
            })
        };
        let reason = "the rate was missed: 220 of 10,000 requests per second were answered, all of them left \
                      over from the warm-up";
        assert_eq!(left(open), (Status::Invalid, reason.to_owned()));
        let reason = "no request sent during the 10.0 s that count was answered; 2,200 answers arrived, all \
                      to requests of the warm-up";
        assert_eq!(left(closed), (Status::Invalid, reason.to_owned()));
        // A server that keeps up, although an answer takes longer than the run.
        let (status, reasons) = judged(open, |_, o| {
            o.record = Record::new(10);
            o.record.counts.due = 100_000;
            o.record.counts.answered_in_window = 99_500;
            o.record.counts.answered_of_warmup = 99_500;
        });
        assert_eq!(status, Status::Invalid);
        let reason =
            "no request sent during the 10.0 s that count was answered; 99,500 answers arrived";
        assert!(reasons.starts_with(reason), "{reasons}");
    }

    #[test]
    fn what_happened_is_named_where_nothing_was_answered() {
        type Change = fn(&mut Plan, &mut Outcome);
        let rows: [(Change, &str, &str); 10] = [
            (
                |_, o| o.record.counts.warmup_responses = 3_000,
                "3,000 requests of the warm-up were answered, none since",
                "what stopped the server",
            ),
            (
                |_, o| {
                    o.record.counts.warmup_responses = 1;
                    o.record.errors(Phase::Connect, Kind::Refused, 28);
                    o.record.counts.connections_open_max = 4;
                },
                "1 request of the warm-up was answered, none since: 28 connect: refused",
                "still running",
            ),
            // Whether or not requests of the warm-up are in flight.
            (
                |_, o| {
                    o.record.counts.warmup_responses = 60;
                    o.record.counts.due = 500;
                    o.record.oldest_unanswered = Some(Duration::from_secs(3));
                },
                "60 requests of the warm-up were answered, none since",
                "what stopped the server",
            ),
            (
                |_, o| {
                    o.duration = Duration::from_micros(1);
                    o.record.counts.warmup_responses = 60;
                    o.record.answered_ns_max = 90_000;
                },
                "60 requests of the warm-up were answered, none since during the 1.00 µs that count",
                "Run for longer",
            ),
            (
                |_, o| {
                    o.record.counts.warmup_responses = 60;
                    o.client.stopped_s = 9.0;
                },
                "60 requests of the warm-up were answered, none since",
                "without interruption",
            ),
            (
                |p, o| {
                    p.timeout = Duration::from_millis(500);
                    o.record.errors(Phase::Connect, Kind::Timeout, 47);
                },
                "no response at all: 47 connect: timeout",
                "does not accept",
            ),
            (
                |_, o| o.record.errors(Phase::Body, Kind::ShortBody, 5),
                "no response at all: 5 body: short body",
                "log",
            ),
            (
                |_, o| o.record.errors(Phase::Body, Kind::Timeout, 5),
                "no response at all: 5 body: timeout",
                "--timeout",
            ),
            // The server never accepts, so no request could be sent.
            (
                |_, o| {
                    o.record.counts.due = 500;
                    o.record.counts.connecting_at_end = 8;
                },
                "no response at all: 8 connections were not accepted",
                "does not accept",
            ),
            (|_, _| {}, "no response at all", "curl -v"),
        ];
        for (change, reason, advice) in rows {
            let (mut plan, mut outcome) = open();
            outcome.record = Record::new(10);
            change(&mut plan, &mut outcome);
            let verdict = judge(&plan, &outcome);
            assert_eq!(verdict.status, Status::Invalid);
            assert_eq!(verdict.reasons.last().unwrap(), reason);
            assert!(
                verdict.advice.last().unwrap().contains(advice),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn connects_that_take_seconds_are_named_first() {
        let slow = |o: &mut Outcome, slow: u64, all: u64| {
            o.record.connect.clear();
            o.record.connect.record_n(50_000, all - slow).unwrap();
            o.record.connect.record_n(3_070_000_000, slow).unwrap();
        };
        let (status, reasons) = judged(closed, |_, o| {
            slow(o, 12, 64);
            o.record.responses_by_connection[3] = 0;
        });
        assert_eq!(status, Status::Invalid);
        let cause = "connects take seconds: 12 of 64 took 0.9 s or longer, up to 3.1 s; half of the answers took \
                     1.00 ms or less. The accept queue was full, or segments were lost: SYNs were sent again \
                     after 1, 3, 7 s; starved";
        assert!(reasons.starts_with(cause), "{reasons}");
        // Without consequences, it is only a note.
        let (mut plan, mut outcome) = closed();
        slow(&mut outcome, 12, 64);
        let verdict = judge(&plan, &outcome);
        assert_eq!(verdict.status, Status::Valid);
        assert!(
            verdict.notes[0].starts_with("Connects take seconds"),
            "{verdict:?}"
        );
        // Response times of a closed loop do not include connects.
        plan.life = ConnectionLife::Requests(1);
        assert_eq!(judge(&plan, &outcome).status, Status::Invalid);
        // One in a hundred may be lost.
        slow(&mut outcome, 1, 100);
        assert_eq!(judge(&plan, &outcome), Verdict::valid());
        // Connects still in progress, of which some have just begun.
        let (_, reasons) = judged(closed, |_, o| {
            o.record.counts.connections_open_max = 3;
            o.record.counts.connecting_at_end = 7;
            o.record.counts.connecting_slowly_at_end = 4;
            o.record.oldest_connecting = Some(Duration::from_secs(2));
        });
        let cause =
            "connects take seconds: 4 of 7 have waited for 0.9 s or longer, up to 2.0 s; half";
        assert!(reasons.starts_with(cause), "{reasons}");
        // Abandoned connects; with a shorter timeout, none of them is known to be slow.
        for (timeout, is_said) in [(5, true), (0, false)] {
            let (_, reasons) = judged(closed, |p, o| {
                p.timeout = Duration::from_millis(timeout * 1000 + 500);
                slow(o, 1, 50);
                o.record.errors(Phase::Connect, Kind::Timeout, 20);
                o.record.counts.connecting_at_end = 30;
                o.record.counts.connecting_slowly_at_end = 10;
                o.record.oldest_connecting = Some(Duration::from_secs(4));
                o.record.counts.connections_open_max = 3;
            });
            let cause = "connects take seconds: 31 of 100 took 0.9 s or longer, up to 5.5 s (20 timed out, 10 \
                         still wait)";
            assert_eq!(reasons.starts_with(cause), is_said, "{reasons}");
        }
    }

    #[test]
    fn notes_are_no_reasons() {
        let (mut plan, mut outcome) = closed();
        plan.close = Close::Rst;
        plan.life = ConnectionLife::Requests(1);
        outcome.record.counts.close_ignored = 3;
        outcome.record.counts.lower_bounds = 4;
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
