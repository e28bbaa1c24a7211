//! Whether a run was steady: the same at its end as at its start, after a sufficient warm-up. The
//! figures of an unsteady run do not describe any state of the server.

use std::time::Duration;

use crate::record::Series;

/// A change during a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The property that changed.
    pub what: What,
    /// The value in the earlier part: responses per second, or a mean response time in nanoseconds.
    pub before: f64,
    /// The value in the later part.
    pub after: f64,
}

/// The property that is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Responses per second.
    Throughput,
    /// Mean response time.
    Response,
}

/// The number of parts of equal length that a run is divided into.
const BLOCKS: usize = 20;

/// A change is reported only if it exceeds this share of the earlier value.
const THROUGHPUT_SHARE: f64 = 0.20;
const RESPONSE_SHARE: f64 = 0.25;
/// A change of response times is reported only if it exceeds this many nanoseconds.
const RESPONSE_NS: f64 = 100_000.0;
/// A change is reported only if it exceeds this many standard errors: one run in a thousand by
/// chance, with twenty parts.
const STANDARD_ERRORS: f64 = 4.0;

/// How the second half of a run differs from the first, if the difference is certain. In closed
/// loop `what` is the throughput, in open loop, where the plan fixes the throughput, the mean response time.
pub fn drift(series: &Series, duration: Duration, what: What) -> Option<Change> {
    let values = blocks(series, duration, what)?;
    let (first, second) = values.split_at(BLOCKS / 2);
    let (before, variance_before) = mean_and_variance(first);
    let (after, variance_after) = mean_and_variance(second);
    let halves = (BLOCKS / 2) as f64;
    let error = ((variance_before + variance_after) / halves).sqrt();
    let certain = (after - before).abs() > STANDARD_ERRORS * error;
    (certain && is_large(what, before, after)).then_some(Change {
        what,
        before,
        after,
    })
}

/// How the first twentieth of a run differs from the rest, if it is far outside: the warm-up was
/// too short.
pub fn warming(series: &Series, duration: Duration, what: What) -> Option<Change> {
    let values = blocks(series, duration, what)?;
    let (after, variance) = mean_and_variance(&values[1..]);
    let before = values[0];
    let certain = (after - before).abs() > STANDARD_ERRORS * variance.sqrt();
    (certain && is_large(what, after, before)).then_some(Change {
        what,
        before,
        after,
    })
}

fn is_large(what: What, before: f64, after: f64) -> bool {
    let change = (after - before).abs();
    match what {
        What::Throughput => change > THROUGHPUT_SHARE * before,
        What::Response => change > RESPONSE_NS && change > RESPONSE_SHARE * before,
    }
}

/// The values of the [`BLOCKS`] parts of a run; `None` if the run is too short, or a part contains
/// no response whose time is needed.
fn blocks(series: &Series, duration: Duration, what: What) -> Option<Vec<f64>> {
    // The last slice may extend past the end.
    let whole = (duration.as_nanos() / u128::from(series.width_ns)) as usize;
    let each = whole / BLOCKS;
    if each == 0 {
        return None;
    }
    let mut slices = series.slices.clone();
    slices.resize(whole.max(slices.len()), crate::record::Slice::default());
    let seconds = (each as u64 * series.width_ns) as f64 / 1e9;
    let block = |slices: &[crate::record::Slice]| {
        let responses: u64 = slices.iter().map(|slice| slice.responses).sum();
        let response_ns: u64 = slices.iter().map(|slice| slice.response_ns).sum();
        match what {
            What::Throughput => Some(responses as f64 / seconds),
            What::Response => (responses > 0).then(|| response_ns as f64 / responses as f64),
        }
    };
    slices.chunks(each).take(BLOCKS).map(block).collect()
}

/// Mean and unbiased variance.
fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, squares / (n - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: u64 = 4;
    const DURATION: Duration = Duration::from_secs(SECONDS);

    /// A run in which a response at `t` (0 to 1) takes `response_us(t)`, and they follow each other so that
    /// there are `rate(t)` of them in a second.
    fn series(rate: impl Fn(f64) -> f64, response_us: impl Fn(f64) -> f64) -> Series {
        let mut series = Series::default();
        let (mut at, end) = (0.0, SECONDS as f64);
        let mut random = fastrand::Rng::with_seed(1);
        while at < end {
            let t = at / end;
            series.push((at * 1e9) as u64, (response_us(t) * 1e3) as u64);
            at += 2.0 * random.f64() / rate(t);
        }
        series
    }

    #[test]
    fn steady_runs_are_steady() {
        let stalls = |t: f64| {
            if (t * 40.0).fract() < 0.2 {
                100_000.0
            } else {
                100.0
            }
        };
        for series in [
            series(|_| 1e4, |_| 100.0),
            series(|_| 1e3, stalls),
            series(|t| 1e4 * (1.0 + 0.05 * t), |t| 100.0 + 10.0 * t),
        ] {
            for what in [What::Throughput, What::Response] {
                assert_eq!(drift(&series, DURATION, what), None);
                assert_eq!(warming(&series, DURATION, what), None);
            }
        }
    }

    #[test]
    fn slowly_slower_is_not_steady() {
        let series = series(|t| 1e4 * (1.0 - 0.5 * t), |t| 1_000.0 * (1.0 + t));
        let change = drift(&series, DURATION, What::Throughput).unwrap();
        assert!((change.before / 8_750.0 - 1.0).abs() < 0.05, "{change:?}");
        assert!((change.after / 6_250.0 - 1.0).abs() < 0.05, "{change:?}");
        let change = drift(&series, DURATION, What::Response).unwrap();
        assert!(
            (change.after / change.before - 1.4).abs() < 0.05,
            "{change:?}"
        );
    }

    #[test]
    fn a_cold_beginning_is_seen() {
        let series = series(|_| 1e4, |t| if t < 0.04 { 5_000.0 } else { 200.0 });
        let change = warming(&series, DURATION, What::Response).unwrap();
        assert!(change.before > 10.0 * change.after, "{change:?}");
    }

    #[test]
    fn short_runs_say_nothing() {
        let series = series(|_| 1e4, |_| 100.0);
        assert_eq!(
            drift(&series, Duration::from_millis(150), What::Throughput),
            None
        );
        assert_eq!(drift(&Series::default(), DURATION, What::Response), None);
    }
}
