//! One run as JSON, schema version 1: times in microseconds unless a name says otherwise, rates per
//! second, an absent measure `null` and never 0.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::latency::Latency;
use crate::plan::{Limit, Pace, Plan};
use crate::record::{ClientCost, Kind, Outcome, Phase};
use crate::target::ServerCost;
use crate::verdict::Verdict;

/// The version of the schema; it grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// One run.
#[derive(Debug, Serialize)]
pub struct Run {
    schema: u32,
    version: &'static str,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    plan: PlanFacts,
    verdict: Verdict,
    duration_s: f64,
    requests: u64,
    responses: u64,
    good: u64,
    in_flight_at_end: u64,
    /// Requests due by a schedule and never sent: there is none in closed loop.
    unsent: Option<u64>,
    warmup_requests: u64,
    connections_opened: u64,
    connections_open_max: u64,
    bytes_received: u64,
    requests_per_s: Option<f64>,
    connections_per_s: Option<f64>,
    latency_us: Latencies,
    errors: Vec<Error>,
    status: BTreeMap<u16, u64>,
    fairness: Fairness,
    client: ClientCost,
    server_cost: Option<ServerCost>,
}

#[derive(Debug, Serialize)]
struct PlanFacts {
    connections: usize,
    threads: usize,
    requests_per_connection: u64,
    pipeline: usize,
    pace: Pace,
    duration_s: Option<f64>,
    requests: Option<u64>,
    warmup_s: f64,
    timeout_s: f64,
}

#[derive(Debug, Serialize)]
struct Latencies {
    response: Option<Latency>,
    service: Option<Latency>,
    connect: Option<Latency>,
    first_byte: Option<Latency>,
    lag: Option<Latency>,
}

#[derive(Debug, Serialize)]
struct Error {
    phase: Phase,
    kind: Kind,
    count: u64,
}

/// How evenly the connections were served.
#[derive(Debug, Serialize)]
pub struct Fairness {
    /// Jain's index over responses per connection: 1 when all got the same, 1/n when one got all
    /// (Jain, Chiu and Hawe 1984).
    pub jain: Option<f64>,
    /// Connections without a single response.
    pub connections_never_served: u64,
    /// Age of the oldest request without a response when the run ended, milliseconds.
    pub oldest_unanswered_ms: Option<f64>,
    /// Responses per connection; a connection opened anew counts on.
    pub requests_per_connection: Option<Spread>,
}

/// Least, middle and most.
#[derive(Debug, Serialize)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// The middle.
    pub p50: u64,
    /// The most.
    pub max: u64,
}

impl Fairness {
    /// Of what was seen in a run.
    pub fn of(outcome: &Outcome) -> Self {
        let mut counts = outcome.record.responses_by_connection.clone();
        counts.sort_unstable();
        let sum: f64 = counts.iter().map(|&count| count as f64).sum();
        let squares: f64 = counts.iter().map(|&count| (count as f64).powi(2)).sum();
        let oldest = outcome.record.oldest_unanswered;
        Fairness {
            jain: (squares > 0.0).then(|| sum * sum / (counts.len() as f64 * squares)),
            connections_never_served: counts.iter().filter(|&&count| count == 0).count() as u64,
            oldest_unanswered_ms: oldest.map(|age| age.as_secs_f64() * 1e3),
            requests_per_connection: match counts[..] {
                [min, .., max] => Some((min, max)),
                [only] => Some((only, only)),
                [] => None,
            }
            .map(|(min, max)| Spread {
                min,
                p50: counts[(counts.len() - 1) / 2],
                max,
            }),
        }
    }
}

impl Run {
    /// All about one run. `target` is the URL, `server` its name in the catalogue if it has one.
    pub fn new(
        target: String,
        server: Option<String>,
        plan: &Plan,
        outcome: &Outcome,
        verdict: Verdict,
        server_cost: Option<ServerCost>,
    ) -> Self {
        let record = &outcome.record;
        let duration_s = outcome.duration.as_secs_f64();
        let rate = |count: u64| (duration_s > 0.0).then(|| count as f64 / duration_s);
        let latency = |histogram: &hdrhistogram::Histogram<u64>| {
            (!histogram.is_empty()).then(|| Latency::of(histogram))
        };
        Run {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            target,
            server,
            plan: PlanFacts {
                connections: plan.connections,
                threads: plan.threads,
                requests_per_connection: plan.life.requests(),
                pipeline: plan.pipeline,
                pace: plan.pace,
                duration_s: match plan.limit {
                    Limit::For(duration) => Some(duration.as_secs_f64()),
                    Limit::Requests(_) | Limit::Until(_) => None,
                },
                requests: match plan.limit {
                    Limit::For(_) | Limit::Until(_) => None,
                    Limit::Requests(requests) => Some(requests),
                },
                warmup_s: plan.warmup.as_secs_f64(),
                timeout_s: plan.timeout.as_secs_f64(),
            },
            verdict,
            duration_s,
            requests: record.requests,
            responses: record.responses,
            good: record.good,
            in_flight_at_end: record.in_flight_at_end,
            unsent: None,
            warmup_requests: record.warmup_requests,
            connections_opened: record.connections_opened,
            connections_open_max: record.connections_open_max,
            bytes_received: record.bytes_received,
            requests_per_s: rate(record.responses),
            connections_per_s: rate(record.connections_opened),
            latency_us: Latencies {
                response: latency(&record.response),
                // In closed loop a request is meant to be sent when it is sent.
                service: latency(&record.response),
                connect: latency(&record.connect),
                first_byte: latency(&record.first_byte),
                lag: None,
            },
            errors: (record.errors.iter())
                .map(|(&(phase, kind), &count)| Error { phase, kind, count })
                .collect(),
            status: record.status.clone(),
            fairness: Fairness::of(outcome),
            client: outcome.client.clone(),
            server_cost,
        }
    }
}
