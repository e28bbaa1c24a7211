//! A histogram of nanoseconds as figures for people and programs: microseconds, and only those
//! percentiles that the sample supports.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde::Serialize;

/// Summary of a histogram; times in microseconds. A figure that the sample is too small to support is
/// absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Samples.
    pub count: u64,
    /// Absent, like mean, deviation and maximum, when there is no sample.
    pub min: Option<f64>,
    /// Of the samples, by their buckets.
    pub mean: Option<f64>,
    /// Standard deviation of the samples.
    pub stddev: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// 99.9th percentile.
    pub p99_9: Option<f64>,
    /// 99.99th percentile.
    pub p99_99: Option<f64>,
    /// Largest sample.
    pub max: Option<f64>,
    /// HdrHistogram V2 with DEFLATE, in base64. Its values are whole microseconds, unlike those of the
    /// histogram it was made from: rounded to the nearest, at least 1, with 3 significant digits.
    pub histogram: String,
}

impl Latency {
    /// Summarises a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let any = |ns: f64| (!histogram.is_empty()).then(|| us(ns));
        Latency {
            count: histogram.len(),
            min: any(histogram.min() as f64),
            mean: any(histogram.mean()),
            stddev: any(histogram.stdev()),
            p50: percentile(histogram, 50.0),
            p90: percentile(histogram, 90.0),
            p99: percentile(histogram, 99.0),
            p99_9: percentile(histogram, 99.9),
            p99_99: percentile(histogram, 99.99),
            max: any(histogram.max() as f64),
            histogram: export_us(histogram),
        }
    }
}

/// The `p`th percentile (0 to 100, not included) of a histogram of nanoseconds, in microseconds; absent
/// below [`samples_needed`].
pub fn percentile(histogram: &Histogram<u64>, p: f64) -> Option<f64> {
    (histogram.len() >= samples_needed(p)).then(|| us(histogram.value_at_percentile(p) as f64))
}

/// The smallest number of samples that bounds the `p`th percentile (0 to 100, not included) from above:
/// 381 for p99.
///
/// By order statistics, its 95% interval ends at rank `np + 1.96 sqrt(np(1-p))`, which must be among
/// the `n` samples.
pub fn samples_needed(p: f64) -> u64 {
    (1.96_f64.powi(2) * p / (100.0 - p)).ceil() as u64
}

/// How many independent samples are worth as much as `n` that depend on each other.
pub fn effective_size(n: u64, serial: &crate::record::Serial) -> f64 {
    let rho = serial.autocorrelation().unwrap_or(0.0).max(0.0);
    n as f64 * (1.0 - rho) / (1.0 + rho)
}

/// Placeholder until statistics land.
pub fn precise_enough(_: &Histogram<u64>, _: f64, _: &crate::plan::Precision) -> bool {
    false
}

/// Nanoseconds as microseconds, to the nanosecond.
fn us(ns: f64) -> f64 {
    ns.round() / 1000.0
}

fn export_us(histogram: &Histogram<u64>) -> String {
    let max_us = (histogram.high() / 1000).max(2);
    let mut in_us = Histogram::<u64>::new_with_bounds(1, max_us, 3).expect("bounds are valid");
    for bucket in histogram.iter_recorded() {
        let value_us = (histogram.median_equivalent(bucket.value_iterated_to()) + 500) / 1000;
        in_us.saturating_record_n(value_us.max(1), bucket.count_at_value());
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(&in_us, &mut bytes)
        .expect("writing to memory does not fail");
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use hdrhistogram::serialization::Deserializer;
    use proptest::prelude::*;

    use super::*;
    use crate::record::{latency_histogram, record_ns};

    #[test]
    fn samples_that_percentiles_need() {
        for (p, needed) in [
            (50.0, 4),
            (90.0, 35),
            (99.0, 381),
            (99.9, 3_838),
            (99.99, 38_413),
        ] {
            assert_eq!(samples_needed(p), needed, "for p{p}");
            let mut histogram = latency_histogram();
            histogram.record_n(1_000, needed - 1).unwrap();
            assert_eq!(percentile(&histogram, p), None, "for p{p}");
            histogram.record(1_000).unwrap();
            assert_eq!(percentile(&histogram, p), Some(1.0), "for p{p}");
        }
    }

    #[test]
    fn as_json() {
        let mut histogram = latency_histogram();
        for ns in 1..=100_u64 {
            record_ns(&mut histogram, ns * 1_000);
        }
        let mut json = serde_json::to_value(Latency::of(&histogram)).unwrap();
        let encoded = json["histogram"].take();
        assert!(
            encoded.as_str().unwrap().starts_with("HISTFAAA"),
            "{encoded}"
        );
        assert_eq!(
            json.to_string(),
            r#"{"count":100,"histogram":null,"max":100.031,"mean":50.504,"min":1.0,"p50":50.015,"p90":90.047,"p99":null,"p99_9":null,"p99_99":null,"stddev":28.866}"#
        );
    }

    #[test]
    fn of_nothing() {
        let latency = Latency::of(&latency_histogram());
        assert_eq!(latency.count, 0);
        assert_eq!((latency.min, latency.mean, latency.p50), (None, None, None));
    }

    fn import(encoded: &str) -> Histogram<u64> {
        let bytes = STANDARD.decode(encoded).unwrap();
        Deserializer::new()
            .deserialize(&mut Cursor::new(bytes))
            .unwrap()
    }

    proptest! {
        /// The exported histogram holds the same samples, to half a microsecond and 3 digits.
        #[test]
        fn export_keeps_samples(samples in prop::collection::vec(1..4_000_000_000_u64, 1..50)) {
            let mut histogram = latency_histogram();
            for &ns in &samples {
                record_ns(&mut histogram, ns);
            }
            let exported = import(&export_us(&histogram));
            prop_assert_eq!(exported.len(), histogram.len());
            let max_us = *samples.iter().max().unwrap() as f64 / 1000.0;
            prop_assert!((exported.max() as f64 - max_us).abs() <= 1.0 + 0.002 * max_us);
        }
    }
}
