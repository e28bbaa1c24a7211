//! Response times of a server under a workload, all rounds as one distribution: percentiles of rounds must not be
//! averaged, but histograms can be added.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{Evidence, Log, Metric};
use crate::hlog;
use engine::record::latency_histogram;

/// Histograms of nanoseconds by server and workload.
#[derive(Debug, Clone, Default)]
pub struct Latencies(BTreeMap<(String, String), Histogram<u64>>);

impl Latencies {
    /// The response times of this evidence. Adds up the rounds that count, or all that were measured if none counts.
    pub fn of(evidence: &Evidence) -> Self {
        let mut all = Latencies::default();
        for log in &evidence.logs {
            all.add(log, evidence);
        }
        all
    }

    fn add(&mut self, log: &Log, evidence: &Evidence) {
        let mut shown = BTreeMap::new();
        // A log was checked when its set was opened: what cannot be decoded is a line that a kill has cut off.
        for interval in hlog::intervals(&log.bytes).flatten() {
            let rounds = shown.entry(interval.workload).or_insert_with(|| {
                // Chosen by latency: a client-bound round says nothing about it.
                evidence.rounds_shown(&log.server, interval.workload, Metric::P50)
            });
            let round = interval.round + log.rounds_before;
            if interval.kind == "response"
                && rounds.contains(&round)
                && let Ok(histogram) = interval.histogram()
            {
                self.insert(&log.server, interval.workload, &histogram);
            }
        }
    }

    /// Adds the response times of one more round.
    pub fn insert(&mut self, server: &str, workload: &str, histogram: &Histogram<u64>) {
        let key = (server.to_owned(), workload.to_owned());
        let sum = self.0.entry(key).or_insert_with(latency_histogram);
        // No response time reaches the maximum of the histogram.
        for bucket in histogram.iter_recorded() {
            let ns = histogram.median_equivalent(bucket.value_iterated_to());
            sum.saturating_record_n(ns, bucket.count_at_value());
        }
    }

    /// The histogram of that server under that workload, if it was recorded.
    pub fn get(&self, server: &str, workload: &str) -> Option<&Histogram<u64>> {
        self.0.get(&(server.to_owned(), workload.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::record::record_ns;

    /// Not the mean of their percentiles, and whatever digits each of them has.
    #[test]
    fn rounds_become_one_distribution() {
        let mut latencies = Latencies::default();
        let mut quick = Histogram::new_with_bounds(1, 1_000_000_000, 2).unwrap();
        quick.record_n(10_000, 900).unwrap();
        let mut slow = latency_histogram();
        for _ in 0..100 {
            record_ns(&mut slow, 1_000_000);
        }
        latencies.insert("a", "w", &quick);
        latencies.insert("a", "w", &slow);
        let all = latencies.get("a", "w").unwrap();
        assert_eq!(all.len(), 1_000);
        let us = |p| all.value_at_percentile(p) as f64 / 1e3;
        assert!((us(89.0) - 10.0).abs() < 0.1, "{}", us(89.0));
        assert!((us(95.0) - 1_000.0).abs() < 5.0, "{}", us(95.0));
        assert!(latencies.get("a", "v").is_none());
    }
}
