//! The largest rate that meets a service level objective: `p99<5ms`.
//!
//! A closed loop cannot show it, because it requests less from a slow server. So each step offers a
//! rate in open loop, and is judged by response times from the intended sends; [`search`] chooses
//! the rates. This module touches no socket and no clock: the caller runs the plans.

mod json;
mod objective;
pub mod search;
#[cfg(any(test, feature = "fixture"))]
pub mod simulated;

use std::time::Duration;

use engine::figures::{thousands, time};
use engine::plan::{Limit, Pace, Plan, Rate};
use engine::record::{Kind, Outcome, Record};
use engine::steady;
use engine::steady::What;
use engine::verdict;
use engine::verdict::{CLIENT_BUSY_MAX, STEADY_FROM, Status, Verdict};

pub use json::Document;
pub use objective::{Measure, Objective, Slo};
pub use search::{Found, Phase};

/// A search for the largest rate at which a server meets an objective.
#[derive(Debug, Clone)]
pub struct Search {
    slo: Slo,
    plan: Plan,
    arrivals: fn(Rate) -> Pace,
    /// Duration of the confirming run, and the maximum for any step.
    longest: Duration,
    bounds: search::Bounds,
}

/// The result of a search.
#[derive(Debug)]
pub struct Report<C> {
    /// All steps, in order.
    pub steps: Vec<Step>,
    /// How the search ended.
    pub ending: Ending,
    /// The last confirming run, if there was one.
    pub confirming: Option<Confirmation<C>>,
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// With an answer, which may be that no rate meets the objective.
    Found(Found),
    /// The user interrupted it.
    Interrupted,
    /// At this rate per second no connection could be established, for this reason.
    Unreachable(f64, String),
}

/// A confirming run, and the caller's information about it: its cost to the server.
#[derive(Debug)]
pub struct Confirmation<C> {
    /// The plan of the run.
    pub plan: Plan,
    /// What the run saw.
    pub outcome: Outcome,
    /// Whether the run can be believed.
    pub verdict: Verdict,
    /// The cost as returned by `drive`.
    pub cost: C,
}

/// One run at one rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The purpose of the run.
    pub phase: Phase,
    /// Requests due per second.
    pub rate_per_s: f64,
    /// Requests per second that were sent in time and answered.
    pub achieved_per_s: Option<f64>,
    /// The counted time.
    pub duration: Duration,
    /// Each objective with its measured value; the implied objective about errors comes last.
    pub values: Vec<Value>,
    /// Whether all objectives were met.
    pub held: Held,
    /// The reason if not, in plain words.
    pub reason: Option<String>,
    /// Requests waited for a free connection for more than half of their response time.
    pub wanted_connections: bool,
    /// Whether the run can be believed at all.
    pub verdict: Status,
}

/// Whether the objectives were met at a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Every objective was met, at the offered rate.
    Met,
    /// The server missed an objective.
    Missed,
    /// The run does not describe the server, because the generator was too slow or ran out of a
    /// resource.
    Limited,
}

/// The measured value of an objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// The objective.
    pub objective: Objective,
    /// The value in the objective's unit; absent if the sample is too small.
    pub value: Option<f64>,
}

/// The minimum duration of a step: in a shorter one, a single pause of server or machine would
/// decide.
pub const STEP_MIN: Duration = Duration::from_secs(2);
/// The minimum duration of a step as a multiple of the longest limit, so that a growing queue can
/// be recognized.
pub const STEP_LIMITS: f64 = 20.0;
/// The default rate of the first step.
pub const START_PER_S: f64 = 1000.0;
/// The default precision.
pub const PRECISION: f64 = 0.02;
/// The lowest rate that is tried.
pub const FLOOR_PER_S: f64 = 1.0;
/// The generator's own lag, as a share of the limit, from which on it excuses a missed objective.
const LAG_SHARE_MIN: f64 = 0.1;

impl Search {
    /// A search with `plan`, whose pace and limit are replaced; its limit is the duration of the
    /// confirming run. Begins at `start` or at [`START_PER_S`].
    ///
    /// # Errors
    ///
    /// In plain words, if the plan cannot show whether `slo` is met.
    pub fn new(
        slo: Slo,
        plan: Plan,
        arrivals: fn(Rate) -> Pace,
        start: Option<Rate>,
        precision: f64,
    ) -> Result<Self, String> {
        let Limit::For(longest) = plan.limit else {
            return Err(format!(
                "{slo}: the confirming run needs a duration (-d 10s)"
            ));
        };
        if plan.pipeline > 1 {
            return Err(format!(
                "{slo}: in open loop a request waits for a free connection; leave out --pipeline"
            ));
        }
        let timeout_ns = plan.timeout.as_nanos() as f64;
        if slo.longest_ns() >= timeout_ns {
            return Err(format!(
                "{slo}: no answer is awaited after --timeout {:?}; make it longer than the objective",
                plan.timeout
            ));
        }
        let needed = samples_wanted(&slo);
        let floor = (needed / longest.as_secs_f64()).ceil().max(FLOOR_PER_S);
        let start = start.map(Rate::per_s);
        if floor > Rate::MAX_PER_S || start.is_some_and(|start| start < floor) {
            let rate = start.unwrap_or(Rate::MAX_PER_S);
            return Err(format!(
                "{slo} needs {} requests in a run: at {}/s use -d {}s",
                thousands(needed as u64),
                rate_text(rate),
                (needed / rate).ceil()
            ));
        }
        Ok(Search {
            bounds: search::Bounds {
                start: start.unwrap_or(START_PER_S).max(floor),
                floor,
                ceiling: Rate::MAX_PER_S,
                precision,
            },
            slo,
            plan,
            arrivals,
            longest,
        })
    }

    /// The objective.
    pub fn slo(&self) -> &Slo {
        &self.slo
    }

    /// The plan on which the steps are based.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How requests arrive: the pace of the first step.
    pub fn arrivals(&self) -> Pace {
        self.pace(self.bounds.start)
    }

    fn pace(&self, rate_per_s: f64) -> Pace {
        (self.arrivals)(Rate::per_second(rate_per_s).expect("the bounds are rates"))
    }

    /// The precision, as a share of the rate.
    pub fn precision(&self) -> f64 {
        self.bounds.precision
    }

    /// The lowest rate that is tried: below it, the longest run has too few requests.
    pub fn floor_per_s(&self) -> f64 {
        self.bounds.floor
    }

    /// Duration of the confirming run.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// Searches, running each plan with `drive` and reporting each step to `on_step`.
    ///
    /// # Errors
    ///
    /// Those of `drive` and `on_step`.
    pub fn run<C, E>(
        &self,
        mut drive: impl FnMut(&Plan) -> Result<(Outcome, C), E>,
        mut on_step: impl FnMut(&Step) -> Result<(), E>,
    ) -> Result<Report<C>, E> {
        let mut steps = Vec::new();
        let mut confirming = None;
        let found = search::find(&self.bounds, &mut |phase, rate_per_s| {
            let plan = self.plan_of(phase, rate_per_s, steps.len());
            let (outcome, cost) = drive(&plan).map_err(Stop::Failed)?;
            let verdict = verdict::judge(&plan, &outcome);
            if outcome.interrupted {
                return Err(Stop::Early(Ending::Interrupted));
            }
            if let Some(reason) = unreachable(&outcome.record, &verdict) {
                return Err(Stop::Early(Ending::Unreachable(rate_per_s, reason)));
            }
            let step = self.step(phase, rate_per_s, &outcome, &verdict);
            on_step(&step).map_err(Stop::Failed)?;
            let held = step.held;
            steps.push(step);
            if phase == Phase::Confirm {
                confirming = Some(Confirmation {
                    plan,
                    outcome,
                    verdict,
                    cost,
                });
            }
            Ok(held)
        });
        let ending = match found {
            Ok(found) => Ending::Found(found),
            Err(Stop::Early(ending)) => ending,
            Err(Stop::Failed(error)) => return Err(error),
        };
        Ok(Report {
            steps,
            ending,
            confirming,
        })
    }

    /// The plan for a rate.
    fn plan_of(&self, phase: Phase, rate_per_s: f64, index: usize) -> Plan {
        // Requests unanswered at the end of the drain must be older than the limit; otherwise they
        // would count as answered within it.
        let longest = Duration::from_nanos(self.slo.longest_ns() as u64);
        Plan {
            pace: self.pace(rate_per_s),
            limit: Limit::For(match phase {
                Phase::Confirm => self.longest,
                _ => self.step_duration(rate_per_s),
            }),
            drain: self.plan.drain.max(longest + Duration::from_millis(100)),
            seed: self.plan.seed.wrapping_add(index as u64),
            ..self.plan.clone()
        }
    }

    /// The duration of a step before the confirming run.
    pub fn step_duration(&self, rate_per_s: f64) -> Duration {
        let seconds = STEP_MIN
            .as_secs_f64()
            .max(samples_wanted(&self.slo) / rate_per_s)
            .max(STEP_LIMITS * self.slo.longest_ns() / 1e9);
        Duration::from_secs_f64(seconds).min(self.longest)
    }

    fn step(&self, phase: Phase, rate_per_s: f64, outcome: &Outcome, verdict: &Verdict) -> Step {
        let record = &outcome.record;
        let values = self.slo.all().map(|objective| Value {
            objective,
            value: objective.measure.of(record),
        });
        let values: Vec<Value> = values.collect();
        let judgement = match verdict::idle_missing(&self.plan, outcome) {
            // The load differed from the requested one.
            Some((reason, _)) => {
                let fault = outcome.idle.as_ref().and_then(|idle| idle.fault);
                let own = fault.is_some_and(|fault| is_own(fault.kind));
                Err((if own { Held::Limited } else { Held::Missed }, reason))
            }
            None => judge(phase, outcome, &values, verdict),
        };
        let (held, reason) = match judgement {
            Ok(()) => (Held::Met, None),
            Err((held, reason)) => (held, Some(reason)),
        };
        let seconds = outcome.duration.as_secs_f64();
        Step {
            phase,
            rate_per_s,
            achieved_per_s: (seconds > 0.0)
                .then(|| record.counts.answered_in_window as f64 / seconds),
            duration: outcome.duration,
            values,
            held,
            reason,
            wanted_connections: wanted_connections(record),
            verdict: verdict.status,
        }
    }
}

impl<C> Report<C> {
    /// The largest rate that was met so far, per second.
    pub fn rate_per_s(&self) -> Option<f64> {
        match &self.ending {
            Ending::Found(found) => found.rate_per_s,
            Ending::Interrupted | Ending::Unreachable(..) => {
                let met = self.steps.iter().filter(|step| step.held == Held::Met);
                met.map(|step| step.rate_per_s).max_by(f64::total_cmp)
            }
        }
    }

    /// Whether the confirming run met the objectives.
    pub fn is_confirmed(&self) -> bool {
        matches!(&self.ending, Ending::Found(found) if found.confirmed)
    }

    /// Whether the server can do more than the result, or may be able to.
    pub fn is_limited_by_generator(&self) -> bool {
        matches!(&self.ending, Ending::Found(found) if found.limited_by_generator())
    }
}

impl Value {
    /// Whether the value meets the objective.
    pub fn is_met(&self) -> bool {
        self.value
            .is_some_and(|value| self.objective.is_met_by(value))
    }

    /// The value as a share of the limit: 1 at the limit.
    pub fn share_of_limit(&self) -> f64 {
        match self.value {
            Some(value) if value == self.objective.limit => 1.0,
            Some(value) => value / self.objective.limit,
            None => f64::INFINITY,
        }
    }

    /// The figure alone: `4.10 ms`, `0.02%`, `too few`.
    pub fn text(&self) -> String {
        match (self.value, self.objective.measure) {
            (Some(percent), Measure::Errors) => percent_text(percent),
            (Some(ns), _) => time(ns / 1e3),
            (None, Measure::Percentile(_)) => engine::latency::TOO_FEW.to_owned(),
            (None, _) => "-".to_owned(),
        }
    }

    /// The value and by how much it exceeds the limit: `p99 6.20 ms, 24% above 5ms`.
    fn excess(&self) -> String {
        let limit = self.objective.limit_text();
        let by = match self.share_of_limit() {
            share if share == f64::INFINITY => return self.too_few(),
            share if share < 1.01 => "just above".to_owned(),
            share if share < 2.0 => format!("{:.0}% above", (share - 1.0) * 100.0),
            share if share < 10.0 => format!("{share:.1} times"),
            share => format!("{} times", thousands(share.round() as u64)),
        };
        format!("{} {}, {by} {limit}", self.objective.measure, self.text())
    }

    fn too_few(&self) -> String {
        match self.value {
            // The limit is zero.
            Some(_) => format!("{} {}", self.objective.measure, self.text()),
            None => format!("too few answers for {}", self.objective.measure),
        }
    }
}

enum Stop<E> {
    Early(Ending),
    Failed(E),
}

/// Why no connection could be established, if none could; a lack of ports or files on the
/// generator's side does not count.
fn unreachable(record: &Record, verdict: &Verdict) -> Option<String> {
    let none = record.counts.connections_open_max == 0 && record.counts.responses == 0;
    (none && own_errors(record) == 0).then(|| match verdict.reasons.first() {
        Some(reason) => reason.clone(),
        None => "no connection could be established".to_owned(),
    })
}

/// Whether all objectives were met, or what prevented it.
///
/// A met objective stays met even if the verdict doubts the run: response times include the
/// generator's own lag, and every other doubt has its own objective or makes response times longer.
fn judge(
    phase: Phase,
    outcome: &Outcome,
    values: &[Value],
    verdict: &Verdict,
) -> Result<(), (Held, String)> {
    let record = &outcome.record;
    let busy = outcome.client.busiest();
    let unmet = match errors(record, values) {
        Some(unmet) => Some(unmet),
        None => lateness(outcome).or_else(|| excess(record, values)),
    };
    match unmet {
        // It is not known what the server would have done for a faster generator.
        Some((Held::Missed, reason)) if verdict.status == Status::ClientBound => {
            let doubt = verdict.reasons.first().unwrap_or(&reason);
            Err((Held::Limited, doubt.clone()))
        }
        Some((Held::Missed, reason)) if busy > CLIENT_BUSY_MAX => {
            let busy = format!("the generator's busiest thread {:.0}% busy", busy * 100.0);
            Err((Held::Limited, format!("{reason}; {busy}")))
        }
        Some(unmet) => Err(unmet),
        // A slowly growing queue would miss the objective eventually.
        None if phase == Phase::Confirm => match growth(outcome) {
            Some(reason) => Err((Held::Missed, reason)),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// Whether too many requests failed.
fn errors(record: &Record, values: &[Value]) -> Option<(Held, String)> {
    let errors = values
        .iter()
        .find(|value| !value.objective.measure.is_time());
    let unmet = errors.filter(|errors| !errors.is_met());
    match unmet {
        Some(_) if own_errors(record) > 0 => Some((
            Held::Limited,
            "the generator ran out of local ports or open files".to_owned(),
        )),
        _ if record.counts.responses == 0 => Some((Held::Missed, "no response at all".to_owned())),
        Some(errors) => Some((Held::Missed, errors.excess())),
        None => None,
    }
}

/// Whether the rate was not offered, because requests could not be sent in time.
fn lateness(outcome: &Outcome) -> Option<(Held, String)> {
    let record = &outcome.record;
    if !verdict::falls_behind(outcome) {
        return None;
    }
    let own = record.lag_own.mean() > record.lag.mean() / 2.0;
    let held = if own { Held::Limited } else { Held::Missed };
    let reason = format!(
        "only {} of {} requests were sent in time",
        thousands(record.counts.sent_in_time),
        thousands(record.counts.due)
    );
    Some((held, reason))
}

/// Whether a limit was exceeded.
fn excess(record: &Record, values: &[Value]) -> Option<(Held, String)> {
    let unmet = || values.iter().filter(|value| !value.is_met());
    let worst = unmet().max_by(|a, b| a.share_of_limit().total_cmp(&b.share_of_limit()))?;
    if !unmet().all(|value| is_excused(value, record)) {
        return Some((Held::Missed, worst.excess()));
    }
    let lag_ns = worst.objective.measure.of_times(&record.lag_own);
    let lag = time(lag_ns.unwrap_or_default() / 1e3);
    let reason = format!("{}, {lag} of it the generator's own lag", worst.excess());
    Some((Held::Limited, reason))
}

/// Whether response times grow over time.
fn growth(outcome: &Outcome) -> Option<String> {
    if outcome.duration < STEADY_FROM {
        return None;
    }
    let series = &outcome.record.series;
    let change = steady::drift(series, outcome.duration, What::Response)?;
    (change.after > change.before).then(|| {
        format!(
            "not steady, the mean response time grew from {} to {}",
            time(change.before / 1e3),
            time(change.after / 1e3)
        )
    })
}

/// Whether the generator's own lag made the difference.
fn is_excused(value: &Value, record: &Record) -> bool {
    let objective = value.objective;
    let lag = objective.measure.of_times(&record.lag_own);
    let (Some(ns), Some(lag)) = (value.value, lag) else {
        return false;
    };
    lag > LAG_SHARE_MIN * objective.limit && objective.is_met_by(ns - lag)
}

/// Errors because the generator ran out of a resource.
fn own_errors(record: &Record) -> u64 {
    let errors = record.errors.iter().filter(|((_, kind), _)| is_own(*kind));
    errors.map(|(_, count)| count).sum()
}

fn is_own(kind: Kind) -> bool {
    matches!(kind, Kind::AddressExhausted | Kind::TooManyFiles)
}

fn wanted_connections(record: &Record) -> bool {
    let p99 = |histogram: &hdrhistogram::Histogram<u64>| histogram.value_at_percentile(99.0);
    let waited = p99(&record.lag).saturating_sub(p99(&record.lag_own));
    2 * waited > p99(&record.response)
}

/// The number of requests that a run should have. Random arrivals fall short of their expectation
/// by more than this margin once in a thousand runs.
fn samples_wanted(slo: &Slo) -> f64 {
    let needed = slo.samples_needed() as f64;
    (needed + 3.0 * needed.sqrt()).ceil()
}

/// A rate as printed: `41,200`, `62.5`, `1`.
pub fn rate_text(rate_per_s: f64) -> String {
    match rate_per_s {
        ..99.95 => {
            let text = format!("{rate_per_s:.1}");
            text.trim_end_matches(".0").to_owned()
        }
        _ => thousands(rate_per_s.round() as u64),
    }
}

fn percent_text(percent: f64) -> String {
    match percent {
        0.0 => "0%".to_owned(),
        ..0.01 => "<0.01%".to_owned(),
        ..10.0 => format!("{percent:.2}%"),
        _ => format!("{percent:.1}%"),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::simulated::{Simulated, search};
    use super::*;
    use engine::record::{Fault, Idle, Phase as ErrorPhase, record_ns};

    #[test]
    fn the_largest_rate_of_a_queue_is_found() {
        for (slo, q, limit_s) in [
            ("p99<5ms", 0.99, 5e-3),
            ("p99.9<=1ms", 0.999, 1e-3),
            ("p50<300us", 0.5, 300e-6),
            ("p99<500ms", 0.99, 0.5),
        ] {
            for capacity_per_s in [10_000.0, 42_000.0, 150_000.0] {
                let server = Simulated {
                    capacity_per_s,
                    ..Simulated::default()
                };
                let report = server.run(&search(slo));
                let truth = server.truth_per_s(q, limit_s);
                let rate = report.rate_per_s().unwrap();
                let name = format!("{slo} of {capacity_per_s}/s: {rate} for {truth}");
                assert!(report.is_confirmed(), "{name}");
                assert!(!report.is_limited_by_generator(), "{name}");
                // A long limit allows a queue to grow for such a short time.
                assert!((truth * 0.95..=truth * 1.02).contains(&rate), "{name}");
                assert!(report.steps.len() <= 40, "{name}: {}", report.steps.len());
            }
        }
    }

    #[test]
    fn all_of_several_must_hold() {
        let server = Simulated::default();
        let rate = |slo| server.run(&search(slo)).rate_per_s().unwrap();
        let (p50, p99) = (rate("p50<100us"), rate("p99<5ms"));
        assert!(p50 < p99);
        assert_eq!(rate("p99<5ms and p50<100us"), p50);
    }

    #[test]
    fn errors_are_held_to_a_limit_even_when_nobody_says() {
        let server = Simulated {
            errors: 0.002,
            ..Simulated::default()
        };
        let report = server.run(&search("p99<5ms"));
        assert_eq!(report.rate_per_s(), None);
        let step = &report.steps[0];
        assert_eq!(step.held, Held::Missed);
        assert_eq!(step.reason.as_deref(), Some("errors 0.20%, 2.0 times 0.1%"));
        // A plan that tolerates them gets an answer.
        let report = server.run(&search("p99<5ms,errors<1%"));
        assert!(report.is_confirmed());
    }

    #[test]
    fn stalls_of_the_machine_are_borne() {
        let server = Simulated {
            stalled: vec![0, 3, 7, 15],
            ..Simulated::default()
        };
        let report = server.run(&search("p99<5ms"));
        let truth = server.truth_per_s(0.99, 5e-3);
        let rate = report.rate_per_s().unwrap();
        assert!(report.is_confirmed());
        assert!((truth * 0.94..=truth).contains(&rate), "{rate} for {truth}");
    }

    #[test]
    fn where_the_generator_ends_the_rate_is_a_lower_bound() {
        let server = Simulated {
            generator_per_s: 30_000.0,
            ..Simulated::default()
        };
        let report = server.run(&search("p99<5ms"));
        assert!(report.is_confirmed() && report.is_limited_by_generator());
        let rate = report.rate_per_s().unwrap();
        assert!((29_000.0..=30_300.0).contains(&rate), "{rate}");
        let limited = |step: &&Step| step.held == Held::Limited;
        assert!(report.steps.iter().any(|step| limited(&step)));
        assert!(report.steps.iter().all(|step| step.held != Held::Missed));
    }

    #[test]
    fn steps_last_as_long_as_the_sample_needs() {
        let duration = |slo, rate| search(slo).step_duration(rate).as_secs_f64();
        for (slo, rate, expected_s) in [
            ("p99<5ms", 1_000.0, 2.0),
            // 381 plus three standard deviations.
            ("p99<5ms", 100.0, 4.4),
            // Enough requests that a single error stays below the limit.
            ("errors<0.01%", 2_000.0, 5.15),
            ("p99.9<5ms", 1_000.0, 4.024),
            ("p99<200ms", 1_000.0, 4.0),
            ("p99<2s", 1_000.0, 10.0),
            ("max<5ms", 1.0, 4.0),
        ] {
            assert_eq!(duration(slo, rate), expected_s, "{slo} at {rate}/s");
        }
        assert_eq!(search("p99<5ms").floor_per_s(), 44.0);
        assert_eq!(search("p50<5ms").floor_per_s(), 1.0);
        // If a run at 1,000/s would be too short, the search begins higher.
        let report = Simulated::default().run(&search("p99.99<5ms"));
        assert_eq!(report.steps[0].rate_per_s, 3_901.0);
        assert!(report.is_confirmed());
    }

    #[test]
    fn answers_older_than_the_limit_are_waited_for() {
        let drain = |slo: &str| {
            let search = search(slo);
            let plan = search.plan_of(Phase::Double, 1000.0, 0);
            assert_eq!(plan.pace.to_string(), "constant:1000/s");
            plan.drain
        };
        assert_eq!(drain("p99<5ms"), Duration::from_secs(1));
        assert_eq!(drain("p99<2s,p50<1ms"), Duration::from_millis(2100));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let new = |slo: &str, limit, start: Option<f64>| {
            let plan = Plan {
                limit,
                ..search("p99<5ms").plan
            };
            let start = start.map(|start| Rate::per_second(start).unwrap());
            let slo = slo.parse().unwrap();
            Search::new(slo, plan, Pace::Poisson, start, PRECISION).map(drop)
        };
        let ten = Limit::For(Duration::from_secs(10));
        for (refused, message) in [
            (
                new("p99<5ms", Limit::Requests(1000), None),
                "p99<5ms: the confirming run needs a duration (-d 10s)",
            ),
            (
                new("p99<5s", ten, None),
                "p99<5s: no answer is awaited after --timeout 5s; make it longer than the objective",
            ),
            (
                new("p99<5ms", ten, Some(10.0)),
                "p99<5ms needs 440 requests in a run: at 10/s use -d 44s",
            ),
            (
                new("p99.9999999999<5ms", ten, None),
                "p99.9999999999<5ms needs 3,841,",
            ),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.starts_with(message), "{refused}");
        }
        let pipelined = Plan {
            pipeline: 2,
            ..search("p99<5ms").plan
        };
        let slo = "p99<5ms".parse().unwrap();
        let refused = Search::new(slo, pipelined, Pace::Poisson, None, PRECISION);
        assert!(refused.unwrap_err().ends_with("leave out --pipeline"));
        assert_eq!(new("p99<5ms", ten, Some(100.0)), Ok(()));
    }

    /// A run at 1000/s with a 99th percentile of 10 ms, of which the generator caused this much.
    fn outcome(lag_ms: u64, lag_own_ms: u64) -> Outcome {
        let search = search("p99<5ms");
        let plan = search.plan_of(Phase::Double, 1000.0, 0);
        let mut outcome = Simulated::default().drive(0, &plan);
        let record = &mut outcome.record;
        for (histogram, ms) in [
            (&mut record.response, 10),
            (&mut record.lag, lag_ms),
            (&mut record.lag_own, lag_own_ms),
        ] {
            histogram.clear();
            for _ in 0..1000 {
                record_ns(histogram, ms * 1_000_000);
            }
        }
        outcome
    }

    fn judged(slo: &str, outcome: &Outcome, verdict: &Verdict) -> (Held, String) {
        let step = search(slo).step(Phase::Double, 1000.0, outcome, verdict);
        (step.held, step.reason.unwrap_or_default())
    }

    fn verdict(status: Status) -> Verdict {
        Verdict {
            status,
            reasons: vec!["a reason".to_owned()],
            advice: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whatever the response times were, the load was not the requested one.
    #[test]
    fn without_its_idle_connections_nothing_is_met() {
        let mut search = search("p99<11ms");
        search.plan.idle = 100;
        let fault = |kind| {
            let phase = ErrorPhase::Connect;
            Some(Fault { phase, kind })
        };
        for (served, closed_by_server, fault, held) in [
            (100, 0, None, Held::Met),
            (100, 1, None, Held::Missed),
            (50, 0, fault(Kind::Refused), Held::Missed),
            (50, 0, fault(Kind::TooManyFiles), Held::Limited),
        ] {
            let mut outcome = outcome(0, 0);
            outcome.idle = Some(Idle {
                served,
                closed_by_server,
                fault,
                ..Idle::default()
            });
            let valid = verdict(Status::Valid);
            let step = search.step(Phase::Double, 1000.0, &outcome, &valid);
            assert_eq!(step.held, held, "{outcome:?}");
            assert_eq!(step.reason.is_none(), held == Held::Met);
        }
    }

    #[test]
    fn a_miss_is_laid_to_whom_it_belongs() {
        let valid = verdict(Status::Valid);
        for (slo, lag_ms, lag_own_ms, held, reason) in [
            ("p99<11ms", 0, 0, Held::Met, ""),
            ("p99<5ms", 0, 0, Held::Missed, "p99 10.0 ms, 2.0 times 5ms"),
            ("p99<8ms", 0, 0, Held::Missed, "p99 10.0 ms, 25% above 8ms"),
            (
                "p99<100us",
                0,
                0,
                Held::Missed,
                "p99 10.0 ms, 100 times 100us",
            ),
            (
                "p99<10ms",
                0,
                0,
                Held::Missed,
                "p99 10.0 ms, just above 10ms",
            ),
            (
                "p99<8ms,mean<5ms",
                0,
                0,
                Held::Missed,
                "mean 10.0 ms, 100% above 5ms",
            ),
            // It would be met without the generator's lag,
            (
                "p99<8ms",
                3,
                3,
                Held::Limited,
                "p99 10.0 ms, 25% above 8ms, 3.00 ms of it the generator's own lag",
            ),
            // or not even then;
            ("p99<8ms", 1, 1, Held::Missed, "p99 10.0 ms, 25% above 8ms"),
            (
                "p99<8ms,p50<5ms",
                3,
                3,
                Held::Missed,
                "p50 10.0 ms, 2.0 times 5ms",
            ),
            // Lag that the server caused is not the generator's.
            ("p99<8ms", 9, 0, Held::Missed, "p99 10.0 ms, 25% above 8ms"),
        ] {
            let outcome = outcome(lag_ms, lag_own_ms);
            assert_eq!(
                judged(slo, &outcome, &valid),
                (held, reason.to_owned()),
                "{slo}, {lag_ms} ms of lag, {lag_own_ms} ms of its own"
            );
        }
    }

    #[test]
    fn a_rate_that_was_not_sent_is_not_met() {
        let valid = verdict(Status::Valid);
        let mut late = outcome(50, 0);
        late.record.counts.sent_in_time = 1_900;
        let reason = "only 1,900 of 2,000 requests were sent in time".to_owned();
        assert_eq!(
            judged("p99<1s", &late, &valid),
            (Held::Missed, reason.clone())
        );
        let mut late = outcome(50, 40);
        late.record.counts.sent_in_time = 1_900;
        assert_eq!(judged("p99<1s", &late, &valid), (Held::Limited, reason));
        // A stall at the end, which delayed no other request.
        let mut late = outcome(5, 0);
        late.record.counts.sent_in_time = 1_900;
        assert_eq!(judged("p99<1s", &late, &valid).0, Held::Met);
        late.record.counts.sent_in_time = 1_990;
        assert_eq!(judged("p99<1s", &late, &valid).0, Held::Met);
    }

    #[test]
    fn errors_are_laid_to_whom_they_belong() {
        let valid = verdict(Status::Valid);
        for (kind, held, reason) in [
            (Kind::Reset, Held::Missed, "errors 2.50%, 25 times 0.1%"),
            (
                Kind::AddressExhausted,
                Held::Limited,
                "the generator ran out of local ports or open files",
            ),
        ] {
            let mut outcome = outcome(0, 0);
            outcome.record.errors(ErrorPhase::Connect, kind, 50);
            assert_eq!(
                judged("p99<1s", &outcome, &valid),
                (held, reason.to_owned()),
                "{kind}"
            );
        }
        let mut silent = outcome(0, 0);
        silent.record.counts.responses = 0;
        silent.record.response.clear();
        let reason = "no response at all".to_owned();
        assert_eq!(judged("p99<1s", &silent, &valid), (Held::Missed, reason));
        let mut few = outcome(0, 0);
        few.record.response.clear();
        record_ns(&mut few.record.response, 1_000);
        let reason = "too few answers for p99".to_owned();
        assert_eq!(judged("p99<1s", &few, &valid), (Held::Missed, reason));
    }

    #[test]
    fn a_miss_is_not_laid_to_the_server_where_the_generator_could_not_keep_up() {
        let of = |slo, busy, status| {
            let mut outcome = outcome(0, 0);
            outcome.client.busiest_thread = Some(busy);
            judged(slo, &outcome, &verdict(status))
        };
        let missed = "p99 10.0 ms, 2.0 times 5ms".to_owned();
        let busy = format!("{missed}; the generator's busiest thread 97% busy");
        for (slo, busy, status, held, reason) in [
            ("p99<5ms", 0.5, Status::Valid, Held::Missed, &missed),
            ("p99<5ms", 0.5, Status::Invalid, Held::Missed, &missed),
            ("p99<5ms", 0.97, Status::Invalid, Held::Limited, &busy),
            (
                "p99<5ms",
                0.5,
                Status::ClientBound,
                Held::Limited,
                &"a reason".to_owned(),
            ),
            // A met objective stays met, whatever the verdict says.
            (
                "p99<1s",
                0.97,
                Status::ClientBound,
                Held::Met,
                &String::new(),
            ),
            ("p99<1s", 0.5, Status::Invalid, Held::Met, &String::new()),
        ] {
            assert_eq!(
                of(slo, busy, status),
                (held, reason.clone()),
                "{slo}, {busy}, {status:?}"
            );
        }
    }

    #[test]
    fn a_queue_that_grows_is_not_confirmed() {
        let mut outcome = outcome(0, 0);
        for ms in 0..2000_u64 {
            let series = &mut outcome.record.series;
            series.push(ms * 1_000_000, 1_000_000 + ms * 1_000);
        }
        let search = search("p99<1s");
        let held = |phase| {
            let step = search.step(phase, 1000.0, &outcome, &verdict(Status::Valid));
            (step.held, step.reason)
        };
        assert_eq!(held(Phase::Bisect), (Held::Met, None));
        let reason = "not steady, the mean response time grew from 1.50 ms to 2.50 ms";
        assert_eq!(
            held(Phase::Confirm),
            (Held::Missed, Some(reason.to_owned()))
        );
    }

    #[test]
    fn waiting_for_a_connection_is_told_from_waiting_for_an_answer() {
        for (lag_ms, lag_own_ms, wanted) in [(0, 0, false), (9, 0, true), (9, 8, false)] {
            let record = outcome(lag_ms, lag_own_ms).record;
            assert_eq!(wanted_connections(&record), wanted, "{lag_ms} {lag_own_ms}");
        }
    }

    #[test]
    fn a_search_ends_with_an_interruption_or_a_server_that_is_gone() {
        let run = |spoil: fn(&mut Outcome)| {
            let search = search("p99<5ms");
            let (mut driven, mut told) = (0, 0);
            let report = search.run(
                |plan| {
                    let mut outcome = Simulated::default().drive(driven, plan);
                    driven += 1;
                    if driven == 3 {
                        spoil(&mut outcome);
                    }
                    Ok::<_, Infallible>((outcome, ()))
                },
                |_| {
                    told += 1;
                    Ok(())
                },
            );
            let report = report.unwrap();
            assert_eq!((driven, told, report.steps.len()), (3, 2, 2));
            assert_eq!(report.rate_per_s(), Some(2000.0));
            assert!(!report.is_confirmed() && report.confirming.is_none());
            report.ending
        };
        assert_eq!(
            run(|outcome| outcome.interrupted = true),
            Ending::Interrupted
        );
        let gone = run(|outcome| {
            outcome.record = Record::new(64);
            outcome
                .record
                .errors(ErrorPhase::Connect, Kind::Refused, 12);
        });
        let reason = "nobody listens at 127.0.0.1:8000: connection refused 12 times";
        assert_eq!(gone, Ending::Unreachable(4000.0, reason.to_owned()));

        let error = search("p99<5ms").run(|_| Err::<(Outcome, ()), _>("no poll"), |_| Ok(()));
        assert_eq!(error.unwrap_err(), "no poll");
        let drive = |plan: &Plan| Ok((Simulated::default().drive(0, plan), ()));
        let error = search("p99<5ms").run(drive, |_| Err("no paper"));
        assert_eq!(error.unwrap_err(), "no paper");
    }

    #[test]
    fn as_json() {
        let report = Simulated::default().run(&search("p99.9<5ms"));
        let run = serde_json::json!({"schema": 1});
        let document = Document::new(
            search("p99.9<5ms").slo(),
            engine::plan::Close::Fin,
            &report,
            Some(run),
        );
        let json = serde_json::to_value(document).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["slo"], "p99.9<5ms");
        assert_eq!(json["rate_per_s"], report.rate_per_s().unwrap());
        assert_eq!(json["limited_by_generator"], false);
        assert_eq!(json["confirmed"], true);
        assert_eq!(json["run"]["schema"], 1);
        assert_eq!(json["steps"].as_array().unwrap().len(), report.steps.len());
        let mut first = json["steps"][0].clone();
        let p999 = first["values"]["p99_9_us"].take();
        assert!((180.0..200.0).contains(&p999.as_f64().unwrap()), "{p999}");
        assert_eq!(
            first.to_string(),
            r#"{"achieved":1000.0,"duration_s":4.024,"limited_by_generator":false,"met":true,"phase":"double","rate":1000.0,"reason":null,"values":{"errors_percent":0.0,"p99_9_us":null},"verdict":"valid"}"#
        );
    }

    #[test]
    fn figures_read_well() {
        for (rate, text) in [
            (1.0, "1"),
            (31.25, "31.2"),
            (99.97, "100"),
            (125.0, "125"),
            (41_200.0, "41,200"),
        ] {
            assert_eq!(rate_text(rate), text);
        }
        for (percent, text) in [
            (0.0, "0%"),
            (0.001, "<0.01%"),
            (0.1, "0.10%"),
            (25.0, "25.0%"),
        ] {
            assert_eq!(percent_text(percent), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the server, the generator and the limit: the rate found is met, the rate above
        /// is not, and there are few steps.
        #[test]
        fn any_queue(
            capacity_log in 2.7..6.0_f64,
            generator_log in 3.0..7.0_f64,
            limit_ms in 1..50_u32,
            stalled in prop::collection::vec(0..40_usize, 0..2),
        ) {
            let server = Simulated {
                capacity_per_s: 10_f64.powf(capacity_log),
                generator_per_s: 10_f64.powf(generator_log),
                stalled,
                errors: 0.0,
            };
            let search = search(&format!("p99<{limit_ms}ms"));
            let report = server.run(&search);
            prop_assert!(report.steps.len() <= 60);
            let truth = server.truth_per_s(0.99, f64::from(limit_ms) / 1e3);
            let reach = truth.min(server.generator_per_s);
            match report.rate_per_s() {
                Some(rate) => {
                    // Times are known to a thousandth. Confirming runs fail at most twice, because
                    // of what short runs did not see and because of a stall: steps down of 4% and
                    // of 8%.
                    let digits = 0.002 * server.capacity_per_s;
                    prop_assert!(rate <= reach * 1.02 + digits, "{rate} for {reach}");
                    prop_assert!(rate >= reach * 0.97 * 0.96 * 0.92 - digits, "{rate} for {reach}");
                    prop_assert!(report.is_confirmed());
                }
                None => prop_assert!(reach < search.floor_per_s() * 1.1, "none for {reach}"),
            }
        }
    }
}
