//! A search as JSON: rates per second, times in microseconds; an absent value is `null`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Held, Measure, Phase, Report, Slo, Step};
use crate::json::SCHEMA;
use engine::plan::Close;
use engine::verdict::Status;

/// A whole search.
#[derive(Debug, Serialize)]
pub struct Document {
    schema: u32,
    slo: String,
    /// How connections were closed.
    close: Close,
    /// The largest rate that was met.
    rate_per_s: Option<f64>,
    /// Whether the server may be capable of more.
    limited_by_generator: bool,
    confirmed: bool,
    steps: Vec<StepFacts>,
    /// The confirming run.
    run: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct StepFacts {
    phase: Phase,
    rate: f64,
    achieved: Option<f64>,
    duration_s: f64,
    /// By measure and unit: `p99_us`, `p99_9_us`, `errors_percent`.
    values: BTreeMap<String, Option<f64>>,
    met: bool,
    limited_by_generator: bool,
    reason: Option<String>,
    verdict: Status,
}

impl Document {
    /// Everything about a search; `run` is the confirming run as JSON.
    pub fn new<C>(
        slo: &Slo,
        close: Close,
        report: &Report<C>,
        run: Option<serde_json::Value>,
    ) -> Self {
        Document {
            schema: SCHEMA,
            slo: slo.to_string(),
            close,
            rate_per_s: report.rate_per_s(),
            limited_by_generator: report.is_limited_by_generator(),
            confirmed: report.is_confirmed(),
            steps: report.steps.iter().map(StepFacts::of).collect(),
            run,
        }
    }
}

impl StepFacts {
    fn of(step: &Step) -> Self {
        let values = step.values.iter().map(|value| {
            let name = value.objective.measure.to_string().replace('.', "_");
            match value.objective.measure {
                Measure::Errors => (format!("{name}_percent"), value.value),
                _ => (format!("{name}_us"), value.value.map(|ns| ns.round() / 1e3)),
            }
        });
        StepFacts {
            phase: step.phase,
            rate: step.rate_per_s,
            achieved: step.achieved_per_s,
            duration_s: step.duration.as_secs_f64(),
            values: values.collect(),
            met: step.held == Held::Met,
            limited_by_generator: step.held == Held::Limited,
            reason: step.reason.clone(),
            verdict: step.verdict,
        }
    }
}
