//! One run in the formats of services that track figures over time: github-action-benchmark and Bencher.

use std::collections::BTreeMap;

use serde::Serialize;

use super::screen::{with_arguments, workload};
use engine::figures::{bytes, percent, thousands};
use engine::latency::{interval, percentile};
use engine::plan::{Close, Pace};
use lab::run::Run;

/// A figure of github-action-benchmark's `customSmallerIsBetter` and `customBiggerIsBetter`.
///
/// <https://github.com/benchmark-action/github-action-benchmark#examples>
#[derive(Debug, Serialize)]
pub struct Entry {
    name: String,
    unit: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

/// Bencher Metric Format: benchmark, measure, metric.
///
/// <https://bencher.dev/docs/reference/bencher-metric-format/>
pub type Bencher = BTreeMap<String, BTreeMap<&'static str, Metric>>;

/// A figure of Bencher, in the unit of its measure.
#[derive(Debug, Serialize)]
pub struct Metric {
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_value: Option<f64>,
}

/// Percentiles of the response time that are tracked: each with its name here and in Bencher.
/// Every project of Bencher has a measure `latency`, in nanoseconds.
const PERCENTILES: [(f64, &str, &str); 4] = [
    (50.0, "p50", "latency"),
    (90.0, "p90", "latency-p90"),
    (99.0, "p99", "latency-p99"),
    (99.9, "p99.9", "latency-p99-9"),
];

/// Figures of which smaller is better: response times, errors, the server's CPU time. A file holds only these or
/// only those of which bigger is better, because the action treats all of a file alike. A percentile is missing if the
/// sample is too small for it.
pub fn github_smaller_is_better(run: &Run<'_>) -> Vec<Entry> {
    let response = &run.outcome.record.response;
    let mut entries = Vec::new();
    for (p, name, _) in PERCENTILES {
        let Some(value) = percentile(response, p) else {
            continue;
        };
        let (low, high) = interval(response, run.n_effective(), p);
        let range = match high {
            Some(high) => format!("{low} to {high}"),
            None => format!("{low} or more"),
        };
        let name = format!("response {name}");
        entries.push(entry(run, &name, "µs", value, Some(range)));
    }
    let errors = run.outcome.record.errors_count();
    entries.push(entry(run, "errors", "errors", errors as f64, None));
    if let Some(cpu_us) = server_cpu_us(run) {
        entries.push(entry(run, "server CPU", "µs/request", cpu_us, None));
    }
    entries
}

/// Figures of which bigger is better: rates.
pub fn github_bigger_is_better(run: &Run<'_>) -> Vec<Entry> {
    let rate = |name, unit, rate: Option<f64>| {
        rate.map(|rate| entry(run, name, unit, round(rate, 10.0), None))
    };
    let requests = rate("throughput", "requests/s", run.requests_per_s());
    let connections = rate("connections", "connections/s", run.connections_per_s());
    // Where connections stay open, their rate says nothing.
    let new_ones = run.plan.life.requests() > 0;
    let connections = connections.filter(|_| new_ones);
    requests.into_iter().chain(connections).collect()
}

/// All figures, each under its own measure.
pub fn bencher(run: &Run<'_>) -> Bencher {
    let response = &run.outcome.record.response;
    let ns = |us: f64| (us * 1e3).round();
    let alone = |value| Metric {
        value,
        lower_value: None,
        upper_value: None,
    };
    let mut measures = BTreeMap::new();
    for (p, _, measure) in PERCENTILES {
        if let Some(value) = percentile(response, p) {
            let (low, high) = interval(response, run.n_effective(), p);
            let metric = Metric {
                value: ns(value),
                lower_value: Some(ns(low)),
                upper_value: high.map(ns),
            };
            measures.insert(measure, metric);
        }
    }
    if let Some(rate) = run.requests_per_s() {
        measures.insert("throughput", alone(round(rate, 10.0)));
    }
    let errors = run.outcome.record.errors_count();
    measures.insert("errors", alone(errors as f64));
    if let Some(cpu_us) = server_cpu_us(run) {
        measures.insert("server-cpu", alone(ns(cpu_us)));
    }
    BTreeMap::from([(name(run), measures)])
}

fn entry(
    run: &Run<'_>,
    what: &str,
    unit: &'static str,
    value: f64,
    range: Option<String>,
) -> Entry {
    Entry {
        name: format!("{}: {what}", name(run)),
        unit,
        value,
        range,
        extra: extra(run),
    }
}

/// Server and load: the same name for every run of the same kind, because services track a figure by its name.
fn name(run: &Run<'_>) -> String {
    let who = (run.server).map(|server| with_arguments(server, run.server_args));
    let who = who.or_else(|| run.urls.first().cloned());
    let mut parts = vec![who.unwrap_or_default()];
    parts.push(match run.plan.pace {
        Pace::Closed => "closed loop".to_owned(),
        Pace::Constant(rate) => format!("constant {rate}"),
        Pace::Poisson(rate) => format!("Poisson {rate}"),
    });
    parts.push(format!("-c {}", run.plan.connections));
    match run.plan.idle {
        0 => {}
        n => parts.push(format!("--idle {n}")),
    }
    match run.plan.life.requests() {
        0 => {}
        n => parts.push(format!("-k {n}")),
    }
    match run.plan.pipeline {
        1 => {}
        n => parts.push(format!("-p {n}")),
    }
    if run.plan.close == Close::Rst {
        parts.push("--close rst".to_owned());
    }
    parts.join(", ")
}

/// Further facts, for people.
fn extra(run: &Run<'_>) -> String {
    let record = &run.outcome.record;
    let mut lines = vec![
        format!("verdict: {}", run.verdict.status.as_str()),
        workload(run),
        format!("{} responses", thousands(record.counts.responses)),
        format!(
            "generator: loadgen {}, busiest thread {}",
            env!("CARGO_PKG_VERSION"),
            (run.outcome.client.busiest_thread).map_or("-".to_owned(), percent)
        ),
    ];
    lines.extend(run.verdict.reasons.iter().cloned());
    if let Some(cost) = run.server_cost {
        lines.push(format!("server memory: {}", bytes(cost.rss_bytes_max)));
    }
    lines.join("\n")
}

fn server_cpu_us(run: &Run<'_>) -> Option<f64> {
    let responses = run.outcome.record.counts.answered_in_window;
    let cost = run.server_cost.filter(|_| responses > 0)?;
    Some(round(cost.cpu_s() * 1e6 / responses as f64, 1000.0))
}

fn round(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::plan::Close;
    use lab::fixture::Example;

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string_pretty(value).unwrap()
    }

    #[test]
    fn for_github_action_benchmark() {
        let example = Example::open_with_faults();
        insta::assert_snapshot!(json(&github_smaller_is_better(&example.run())));
    }

    #[test]
    fn rates_for_github_action_benchmark() {
        let example = Example::new_connections();
        insta::assert_snapshot!(json(&github_bigger_is_better(&example.run())));
    }

    #[test]
    fn for_bencher() {
        let example = Example::closed();
        insta::assert_snapshot!(json(&bencher(&example.run())));
    }

    #[test]
    fn a_run_without_answers_has_no_percentiles() {
        let example = Example::unanswered();
        let entries = github_smaller_is_better(&example.run());
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert!(entries[0].name.ends_with(": errors"), "{entries:?}");
    }

    #[test]
    fn another_load_has_another_name() {
        let mut example = Example::closed();
        example.plan.idle = 5_000;
        example.server_args = vec!["--idle-timeout=10m".to_owned()];
        assert_eq!(
            name(&example.run()),
            "event-loop --idle-timeout=10m, closed loop, -c 64, --idle 5000"
        );
    }

    #[test]
    fn resets_are_named() {
        let mut example = Example::closed();
        assert!(!name(&example.run()).contains("rst"));
        example.plan.close = Close::Rst;
        assert!(name(&example.run()).ends_with("--close rst"));
        let extra = extra(&example.run());
        assert!(extra.contains("reset, not closed"), "{extra}");
    }
}
