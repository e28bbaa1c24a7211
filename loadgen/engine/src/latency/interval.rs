//! Confidence intervals for the percentiles of one run.
//!
//! The intervals use order statistics: with 95% confidence, the `q`-quantile of `n` independent
//! samples lies between those of rank `nq - 1.96 sqrt(nq(1-q))` and `nq + 1.96 sqrt(nq(1-q))`,
//! whatever their distribution (Le Boudec, Performance Evaluation of Computer and Communication
//! Systems, §2.2.2). Consecutive responses share a queue and are not independent, so `n` is the
//! number of independent samples that would carry the same information.
//!
//! These intervals say how well a run knows *itself*. Another run, with another server process, may
//! settle elsewhere; in a comparison each run is one sample. Intervals over the rounds of a set are
//! in `lab::estimate`.

use hdrhistogram::Histogram;

use super::{samples_needed, us};
use crate::plan::Precision;
use crate::record::Serial;

/// The quantile of the standard normal distribution: 95% lie within this many standard deviations.
const Z_95: f64 = 1.96;

/// The number of independent samples equivalent to `n` samples of a series: `n(1-rho)/(1+rho)`, as
/// for a first-order autoregressive series, where rho is the correlation of each sample with the
/// next. A negative rho counts as 0.
pub fn effective_size(n: u64, serial: &Serial) -> f64 {
    worth(n, serial.autocorrelation())
}

fn worth(n: u64, autocorrelation: Option<f64>) -> f64 {
    let rho = autocorrelation.unwrap_or(0.0).clamp(0.0, 1.0);
    let n = n as f64;
    (n * (1.0 - rho) / (1.0 + rho)).clamp(n.min(1.0), n)
}

/// The 95% interval of a percentile (0 to 100, exclusive) of a histogram of nanoseconds, in
/// microseconds. The upper end is absent if it would exceed the largest sample.
pub fn interval(
    histogram: &Histogram<u64>,
    n_effective: f64,
    percentile: f64,
) -> (f64, Option<f64>) {
    let q = percentile / 100.0;
    let reach = Z_95 * (q * (1.0 - q) / n_effective).sqrt();
    // A bucket represents all values in it, so the interval extends to the edges of its buckets.
    let low = histogram.lowest_equivalent(histogram.value_at_quantile((q - reach).max(0.0)));
    let high = (q + reach <= 1.0).then(|| histogram.value_at_quantile(q + reach));
    (us(low as f64), high.map(|high| us(high as f64)))
}

/// The largest distance of the ends of [`interval`] from the percentile, as a share of it; `None`
/// if the interval has no upper end, or with fewer samples than [`samples_needed`].
pub fn half_width(histogram: &Histogram<u64>, n_effective: f64, percentile: f64) -> Option<f64> {
    let (low, high) = interval(histogram, n_effective, percentile);
    let value = us(histogram.value_at_percentile(percentile) as f64);
    let enough = histogram.len() >= samples_needed(percentile);
    high.filter(|_| enough)
        .map(|high| (high - value).max(value - low) / value)
}

/// Whether a run has reached the requested precision and may end.
pub fn precise_enough(histogram: &Histogram<u64>, n_effective: f64, precision: &Precision) -> bool {
    half_width(histogram, n_effective, precision.percentile)
        .is_some_and(|half| half <= precision.within)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chacha20::ChaCha8Rng;
    use chacha20::rand_core::SeedableRng as _;
    use rand_distr::{Distribution as _, Exp1, StandardNormal};

    use super::*;
    use crate::record::{latency_histogram, record_ns};

    #[test]
    fn bounds_are_order_statistics() {
        let mut histogram = latency_histogram();
        for ns in 1..=1000 {
            record_ns(&mut histogram, ns * 1000);
        }
        // Ranks 900 -+ 1.96 sqrt(1000 * 0.9 * 0.1) = 881.4 and 918.6; buckets are 0.1% wide.
        let (low, high) = interval(&histogram, 1000.0, 90.0);
        assert!((low - 882.0).abs() < 1.0, "{low}");
        assert!((high.unwrap() - 919.0).abs() < 1.0, "{high:?}");
        // Equivalent to a quarter of the samples: twice as wide.
        let (low, high) = interval(&histogram, 250.0, 90.0);
        assert!((low - 863.0).abs() < 1.0, "{low}");
        assert!((high.unwrap() - 938.0).abs() < 1.0, "{high:?}");
        let half = half_width(&histogram, 250.0, 90.0).unwrap();
        assert!((half - 38.0 / 900.0).abs() < 0.002, "{half}");
    }

    #[test]
    fn there_is_no_upper_end_beyond_the_sample() {
        for (percentile, needed) in [(50.0, 4), (90.0, 35), (99.0, 381), (99.9, 3_838)] {
            let mut histogram = latency_histogram();
            histogram.record_n(1_000, needed - 1).unwrap();
            let few = (needed - 1) as f64;
            assert_eq!(interval(&histogram, few, percentile), (1.0, None));
            assert_eq!(half_width(&histogram, few, percentile), None);
            histogram.record(1_000).unwrap();
            let enough = needed as f64;
            let whole = interval(&histogram, enough, percentile);
            assert_eq!(whole, (1.0, Some(1.0)), "p{percentile}");
            assert_eq!(half_width(&histogram, enough, percentile), Some(0.0));
            // The same number of samples, but each repeats what the previous one said.
            let same = worth(needed, Some(0.5));
            assert_eq!(interval(&histogram, same, percentile).1, None);
        }
    }

    #[test]
    fn sizes() {
        for (n, rho, expected) in [
            (1000, None, 1000.0),
            (1000, Some(0.0), 1000.0),
            (1000, Some(-0.5), 1000.0),
            (1000, Some(0.5), 1000.0 / 3.0),
            (1000, Some(1.0), 1.0),
            (0, Some(0.5), 0.0),
        ] {
            assert_eq!(worth(n, rho), expected, "{n} {rho:?}");
        }
    }

    #[test]
    fn enough_is_enough() {
        let mut histogram = latency_histogram();
        for ns in 1..=10_000 {
            record_ns(&mut histogram, ns * 1000);
        }
        let precision = |percentile, within| Precision {
            percentile,
            within,
            at_most: Duration::from_secs(60),
        };
        // The interval of the median extends 98 ranks to either side of rank 5,000.
        assert!(precise_enough(&histogram, 1e4, &precision(50.0, 0.022)));
        assert!(!precise_enough(&histogram, 1e4, &precision(50.0, 0.018)));
        assert!(!precise_enough(&histogram, 1e3, &precision(50.0, 0.022)));
        assert!(!precise_enough(&histogram, 1e4, &precision(99.99, 0.5)));
        let nothing = latency_histogram();
        assert!(!precise_enough(&nothing, 0.0, &precision(50.0, 0.5)));
    }

    /// In how many of 1,000 samples the interval contains the true value, in nanoseconds.
    fn coverage(
        percentile: f64,
        truth_ns: f64,
        mut sample: impl FnMut(&mut Histogram<u64>) -> f64,
    ) -> f64 {
        let mut histogram = latency_histogram();
        let holds = |_: &u32| {
            histogram.reset();
            let n_effective = sample(&mut histogram);
            let (low, high) = interval(&histogram, n_effective, percentile);
            let truth = truth_ns / 1000.0;
            low <= truth && high.is_some_and(|high| truth <= high)
        };
        f64::from((0..1000).filter(holds).count() as u32) / 1000.0
    }

    /// A mean response time, in nanoseconds.
    const MEAN_NS: f64 = 1e6;

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for (percentile, n) in [(50.0, 300), (90.0, 500), (99.0, 2000)] {
            let truth = -MEAN_NS * (1.0_f64 - percentile / 100.0).ln();
            let share = coverage(percentile, truth, |histogram| {
                for _ in 0..n {
                    let x: f64 = Exp1.sample(&mut random);
                    record_ns(histogram, (x * MEAN_NS) as u64);
                }
                f64::from(n)
            });
            assert!((0.93..=0.97).contains(&share), "p{percentile}: {share}");
        }
    }

    /// Response times whose logarithms form a first-order autoregressive series of variance 1.
    fn correlated(random: &mut ChaCha8Rng, phi: f64, n: u32, mut push: impl FnMut(f64)) {
        let mut x: f64 = StandardNormal.sample(random);
        for _ in 0..n {
            let step: f64 = StandardNormal.sample(random);
            x = phi * x + (1.0 - phi * phi).sqrt() * step;
            push(x);
        }
    }

    #[test]
    fn correlated_samples_count_for_fewer() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        for phi in [0.2, 0.5, 0.9] {
            let n = 20_000;
            let mut serial = Serial::default();
            correlated(&mut random, phi, n, |x| serial.push(x));
            let size = effective_size(n.into(), &serial);
            let expected = f64::from(n) * (1.0 - phi) / (1.0 + phi);
            assert!(
                (0.85..1.15).contains(&(size / expected)),
                "phi {phi}: {size} for {expected}"
            );
        }
    }

    /// With the total number of samples, the interval would miss the true value far too often.
    #[test]
    fn intervals_of_correlated_samples_hold_the_truth() {
        let (phi, n) = (0.8, 1000);
        let mut random = ChaCha8Rng::seed_from_u64(13);
        let mut share = |heed_correlation: bool| {
            coverage(50.0, MEAN_NS, |histogram| {
                let mut serial = Serial::default();
                correlated(&mut random, phi, n, |x| {
                    let ns = x.exp() * MEAN_NS;
                    serial.push(ns);
                    record_ns(histogram, ns as u64);
                });
                let rho = serial.autocorrelation().filter(|_| heed_correlation);
                worth(n.into(), rho)
            })
        };
        let (heeding, ignoring) = (share(true), share(false));
        assert!((0.90..=0.97).contains(&heeding), "{heeding}");
        assert!(ignoring < 0.75, "{ignoring}");
    }
}
