//! Response times of a server under a workload, all rounds as one distribution: percentiles of rounds must not be
//! averaged, but histograms can be added.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use engine::record::latency_histogram;
use lab::compare::{Evidence, Metric};
use lab::hlog;
use lab::set;
use lab::set::{Error, Set};

/// Histograms of nanoseconds by server and workload.
#[derive(Debug, Clone, Default)]
pub struct Latencies(BTreeMap<(String, String), Histogram<u64>>);

impl Latencies {
    /// Reads the response times of these sets, which must be those of the evidence, in its order. Adds up the rounds
    /// that count, or all that were measured if none counts.
    ///
    /// # Errors
    ///
    /// When a log cannot be read or is damaged. A missing log has no histograms.
    pub fn read(sets: &[PathBuf], evidence: &Evidence) -> Result<Self, Error> {
        let mut all = Latencies::default();
        let mut rounds_before = 0;
        for path in sets {
            let campaign = Set::open(path)?.campaign;
            for server in &campaign.servers {
                all.add(path, server, rounds_before, evidence)?;
            }
            rounds_before += campaign.rounds;
        }
        Ok(all)
    }

    fn add(
        &mut self,
        set: &Path,
        server: &str,
        rounds_before: u32,
        evidence: &Evidence,
    ) -> Result<(), Error> {
        let path = set.join(format!("{server}.hlog"));
        let Some(log) = set::bytes_of(&path)? else {
            return Ok(());
        };
        let damaged = |message: String| Error::Damaged {
            path: path.clone(),
            line: None,
            column: None,
            message,
        };
        let mut shown = BTreeMap::new();
        for interval in hlog::intervals(&log) {
            let interval = interval.map_err(damaged)?;
            let rounds = shown.entry(interval.workload).or_insert_with(|| {
                // Chosen by latency: a client-bound round says nothing about it.
                evidence.rounds_shown(server, interval.workload, Metric::P50)
            });
            if interval.kind == "response" && rounds.contains(&(interval.round + rounds_before)) {
                let histogram = interval.histogram().map_err(damaged)?;
                self.insert(server, interval.workload, &histogram);
            }
        }
        Ok(())
    }

    /// Adds the response times of one more round.
    pub(crate) fn insert(&mut self, server: &str, workload: &str, histogram: &Histogram<u64>) {
        let key = (server.to_owned(), workload.to_owned());
        let sum = self.0.entry(key).or_insert_with(latency_histogram);
        // No response time reaches the maximum of the histogram.
        for bucket in histogram.iter_recorded() {
            let ns = histogram.median_equivalent(bucket.value_iterated_to());
            sum.saturating_record_n(ns, bucket.count_at_value());
        }
    }

    /// The histogram of that server under that workload, if it was recorded.
    pub fn of(&self, server: &str, workload: &str) -> Option<&Histogram<u64>> {
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
        let all = latencies.of("a", "w").unwrap();
        assert_eq!(all.len(), 1_000);
        let us = |p| all.value_at_percentile(p) as f64 / 1e3;
        assert!((us(89.0) - 10.0).abs() < 0.1, "{}", us(89.0));
        assert!((us(95.0) - 1_000.0).abs() < 5.0, "{}", us(95.0));
        assert!(latencies.of("a", "v").is_none());
    }
}
