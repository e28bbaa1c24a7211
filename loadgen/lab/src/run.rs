//! One run with everything known about it, from which each form of output is made.

use hdrhistogram::Histogram;

use crate::calibration::Calibration;
use engine::latency;
use engine::latency::Latency;
use engine::plan::{Pace, Plan};
use engine::record::Outcome;
use engine::verdict::Verdict;
use subject::process::ServerCost;

/// A finished run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The requested URLs, in rotation; at least one.
    pub urls: &'a [String],
    /// Name of the server in the catalogue, if it has one.
    pub server: Option<&'a str>,
    /// Arguments that the server got beyond its command in the catalogue.
    pub server_args: &'a [String],
    /// The plan.
    pub plan: &'a Plan,
    /// What was seen.
    pub outcome: &'a Outcome,
    /// Whether the figures can be believed.
    pub verdict: &'a Verdict,
    /// What the server consumed, if it was started for this run.
    pub server_cost: Option<&'a ServerCost>,
    /// The calibrated limits of the generator on this machine.
    pub calibration: Option<&'a Calibration>,
}

impl<'a> Run<'a> {
    /// Whether requests are due by a schedule.
    pub fn is_open_loop(&self) -> bool {
        self.plan.pace != Pace::Closed
    }

    /// Responses per second of the counted time, whenever their requests were sent; `None` if that
    /// time was too short.
    pub fn requests_per_s(&self) -> Option<f64> {
        self.per_s(self.outcome.record.counts.answered_in_window)
    }

    /// New connections per second; `None` if the counted time was too short.
    pub fn connections_per_s(&self) -> Option<f64> {
        self.per_s(self.outcome.record.counts.connections_in_time)
    }

    fn per_s(&self, count: u64) -> Option<f64> {
        let seconds = self.outcome.duration.as_secs_f64();
        (!self.outcome.is_too_short()).then(|| count as f64 / seconds)
    }

    /// Time from the intended send to the last byte; `None` without a sample.
    pub fn response(&self) -> Option<Latency> {
        self.series(&self.outcome.record.response)
    }

    /// Time from the actual send to the last byte; `None` without a sample. In closed loop the
    /// intended send is the actual send.
    pub fn service(&self) -> Option<Latency> {
        match self.is_open_loop() {
            true => self.series(&self.outcome.record.service),
            false => self.response(),
        }
    }

    fn series(&self, histogram: &Histogram<u64>) -> Option<Latency> {
        let serial = &self.outcome.record.serial;
        let n_effective = latency::effective_size(histogram.len(), serial);
        let says = !histogram.is_empty() && !self.outcome.is_cut_short();
        says.then(|| Latency::with_intervals(histogram, n_effective))
    }

    /// The number of independent response times equivalent to those of the run.
    pub fn n_effective(&self) -> f64 {
        let record = &self.outcome.record;
        latency::effective_size(record.response.len(), &record.serial)
    }
}
