//! One run, with all that is known of it: what each form of output is made from.

use hdrhistogram::Histogram;

use crate::calibration::Calibration;
use engine::latency;
use engine::latency::Latency;
use engine::plan::{Pace, Plan};
use engine::record::Outcome;
use engine::verdict::Verdict;
use subject::process::ServerCost;

/// A run that is over.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// What was requested, in turn; at least one.
    pub urls: &'a [String],
    /// Name of the server in the catalogue, if it has one.
    pub server: Option<&'a str>,
    /// What it was handed beside its command in the catalogue.
    pub server_args: &'a [String],
    /// What was asked for.
    pub plan: &'a Plan,
    /// What was seen.
    pub outcome: &'a Outcome,
    /// Whether to believe it.
    pub verdict: &'a Verdict,
    /// What the server consumed, if it was started for this.
    pub server_cost: Option<&'a ServerCost>,
    /// What the generator can do on this machine, as it was calibrated.
    pub calibration: Option<&'a Calibration>,
}

impl<'a> Run<'a> {
    /// Requests are due by a schedule.
    pub fn is_open_loop(&self) -> bool {
        self.plan.pace != Pace::Closed
    }

    /// What was answered per second of the time that counts, whenever it was sent; absent when that time was
    /// too short.
    pub fn requests_per_s(&self) -> Option<f64> {
        self.per_s(self.outcome.record.answered_in_window)
    }

    /// New connections per second; absent when the time was too short.
    pub fn connections_per_s(&self) -> Option<f64> {
        self.per_s(self.outcome.record.connections_in_time)
    }

    fn per_s(&self, count: u64) -> Option<f64> {
        let seconds = self.outcome.duration.as_secs_f64();
        (!self.outcome.is_too_short()).then(|| count as f64 / seconds)
    }

    /// From the intended send to the last byte; absent without a sample.
    pub fn response(&self) -> Option<Latency> {
        self.series(&self.outcome.record.response)
    }

    /// From the actual send to the last byte; absent without a sample. In closed loop a request is meant
    /// to be sent when it is sent.
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

    /// Independent response times that would say as much as those of the run.
    pub fn n_effective(&self) -> f64 {
        let record = &self.outcome.record;
        latency::effective_size(record.response.len(), &record.serial)
    }
}
