//! Summaries of histograms for people and programs: in microseconds, with only those percentiles
//! that the sample supports.

mod interval;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde::Serialize;

pub use interval::{effective_size, half_width, interval, precise_enough};

/// Summary of a histogram, times in microseconds. Figures that the sample is too small to support
/// are absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Number of samples.
    pub count: u64,
    /// The minimum; absent without samples, like mean, standard deviation and maximum.
    pub min: Option<f64>,
    /// The mean, computed from the histogram's buckets.
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
    /// The number of independent samples that would carry the same information, see
    /// [`effective_size`]; if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_effective: Option<f64>,
    /// 95% intervals of the percentiles; present together with the effective size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// HdrHistogram V2 with DEFLATE, in base64. Its values are whole microseconds, unlike those of the
    /// histogram it was made from: rounded to the nearest, at least 1, with 3 significant digits.
    pub histogram: String,
}

/// 95% intervals of percentiles, each with a lower and an upper end; the upper end is absent if the
/// sample does not bound it. An absent percentile has no interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intervals {
    /// Interval of the median.
    pub p50: Option<Interval>,
    /// Interval of the 90th percentile.
    pub p90: Option<Interval>,
    /// Interval of the 99th percentile.
    pub p99: Option<Interval>,
    /// Interval of the 99.9th percentile.
    pub p99_9: Option<Interval>,
    /// Interval of the 99.99th percentile.
    pub p99_99: Option<Interval>,
}

/// Lower and upper end, in microseconds.
pub type Interval = (f64, Option<f64>);

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
            n_effective: None,
            intervals: None,
            histogram: export_us(histogram),
        }
    }

    /// Summarises a histogram with intervals, for samples equivalent to `n_effective` independent
    /// ones.
    pub fn with_intervals(histogram: &Histogram<u64>, n_effective: f64) -> Self {
        let interval_of =
            |p: f64| percentile(histogram, p).map(|_| interval(histogram, n_effective, p));
        Latency {
            n_effective: Some((n_effective * 10.0).round() / 10.0),
            intervals: Some(Intervals {
                p50: interval_of(50.0),
                p90: interval_of(90.0),
                p99: interval_of(99.0),
                p99_9: interval_of(99.9),
                p99_99: interval_of(99.99),
            }),
            ..Latency::of(histogram)
        }
    }
}

/// The `p`th percentile (0 to 100, exclusive) of a histogram of nanoseconds, in microseconds;
/// `None` below [`samples_needed`].
pub fn percentile(histogram: &Histogram<u64>, p: f64) -> Option<f64> {
    (histogram.len() >= samples_needed(p)).then(|| us(histogram.value_at_percentile(p) as f64))
}

/// The smallest number of samples that bounds the `p`th percentile (0 to 100, exclusive) from
/// above: 381 for p99.
///
/// By order statistics, its 95% interval ends at rank `np + 1.96 sqrt(np(1-p))`, which must be among
/// the `n` samples.
pub fn samples_needed(p: f64) -> u64 {
    (1.96_f64.powi(2) * p / (100.0 - p)).ceil() as u64
}

/// What stands for a percentile that the sample is too small for: see [`samples_needed`].
pub const TOO_FEW: &str = "too few";

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
    fn as_json_with_intervals() {
        let mut histogram = latency_histogram();
        for ns in 1..=400_u64 {
            record_ns(&mut histogram, ns * 1_000);
        }
        let json = |n_effective| {
            let json = serde_json::to_value(Latency::with_intervals(&histogram, n_effective));
            let json = json.unwrap();
            (
                json["n_effective"].to_string(),
                json["intervals"].to_string(),
            )
        };
        let intervals = r#"{"p50":[180.992,220.031],"p90":[348.928,372.223],"p99":[392.96,400.127],"p99_9":null,"p99_99":null}"#;
        assert_eq!(json(400.0), ("400.0".to_owned(), intervals.to_owned()));
        // Equivalent to a third of the samples: wider, and p99 has no upper end.
        let intervals = r#"{"p50":[166.912,234.111],"p90":[339.968,381.183],"p99":[389.888,null],"p99_9":null,"p99_99":null}"#;
        assert_eq!(
            json(400.0 / 3.0),
            ("133.3".to_owned(), intervals.to_owned())
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
        /// The exported histogram contains the same samples, to half a microsecond and 3 digits.
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
