//! A median over rounds, and how sure it is.

use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};

/// A median over rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// 95% interval; absent with a single round.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// The farther end of the interval, as a share of the value.
    pub fn spread(&self) -> Option<f64> {
        let (low, high) = self.interval?;
        Some((self.value - low).max(high - self.value) / self.value)
    }

    /// Of a ratio: whether its interval lies wholly on one side of 1.
    pub fn tells_apart(&self) -> bool {
        let sides = |(low, high): (f64, f64)| low > 1.0 || high < 1.0;
        self.interval.is_some_and(sides)
    }
}

/// Often enough that the ends of an interval do not depend on the seed in the digits that are shown.
const RESAMPLES: usize = 4_000;

/// Error on both sides together.
const ALPHA: f64 = 0.05;

/// Values from which their range holds the median in at least 95 of 100 cases: 1 - 2^(1 - 6) = 0.969.
const ROUNDS_FOR_RANGE: usize = 6;

/// The median and its 95% interval: the expanded percentile bootstrap (Hesterberg, *What teachers should
/// know about the bootstrap*, 2015), which makes up for the narrowness of the plain one with few values.
/// Below [`ROUNDS_FOR_RANGE`] not even their range would do, and the interval is widened to that of
/// Student's t of their logarithms where that is wider. The same numbers give the same interval always.
///
/// `None` without values.
pub(crate) fn estimate(values: &[f64]) -> Option<Estimate> {
    resampled(values, RESAMPLES)
}

fn resampled(values: &[f64], resamples: usize) -> Option<Estimate> {
    if values.is_empty() {
        return None;
    }
    let mut sample = values.to_vec();
    let value = median(&mut sample);
    let interval = (values.len() > 1).then(|| {
        let mut random = fastrand::Rng::with_seed(1979);
        let medians = (0..resamples).map(|_| {
            sample.fill_with(|| values[random.usize(..values.len())]);
            median(&mut sample)
        });
        let (low, high) = ends(medians.collect(), values.len());
        match students_t(values) {
            Some((t_low, t_high)) if values.len() < ROUNDS_FOR_RANGE => {
                (low.min(t_low), high.max(t_high))
            }
            _ => (low, high),
        }
    });
    Some(Estimate { value, interval })
}

/// The ends of the interval among medians of resamples of so many values.
fn ends(mut medians: Vec<f64>, values: usize) -> (f64, f64) {
    medians.sort_by(f64::total_cmp);
    let cut = (expanded_tail(values) * medians.len() as f64) as usize;
    (medians[cut], medians[medians.len() - 1 - cut])
}

/// What is cut off at each end, so that a sample of `n` is as wide as Student's t would have it.
fn expanded_tail(n: usize) -> f64 {
    let n = n as f64;
    let quantile = StudentsT::new(0.0, 1.0, n - 1.0)
        .map(|t| t.inverse_cdf(1.0 - ALPHA / 2.0))
        .expect("two values leave one degree of freedom");
    Normal::standard().cdf(-(n / (n - 1.0)).sqrt() * quantile)
}

/// 95% interval of the middle by Student's t of the logarithms; `None` where there are none.
fn students_t(values: &[f64]) -> Option<(f64, f64)> {
    if values.iter().any(|&value| value <= 0.0) {
        return None;
    }
    let n = values.len() as f64;
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let half = t.inverse_cdf(1.0 - ALPHA / 2.0) * (variance / n).sqrt();
    Some(((mean - half).exp(), (mean + half).exp()))
}

/// Of at least one value; sorts them.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_distr::{Distribution as _, LogNormal};

    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [
            (vec![3.0], 3.0),
            (vec![4.0, 1.0], 2.5),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 3.0, 2.0, 1.0], 2.5),
        ] {
            assert_eq!(estimate(&values).unwrap().value, expected, "for {values:?}");
        }
        assert_eq!(estimate(&[]), None);
        assert_eq!(estimate(&[3.0]).unwrap().interval, None);
        assert!(!estimate(&[3.0]).unwrap().tells_apart());
    }

    proptest! {
        #[test]
        fn intervals_hold_the_median(values in prop::collection::vec(0.1..1e6_f64, 2..12)) {
            let estimate = estimate(&values).unwrap();
            let (low, high) = estimate.interval.unwrap();
            let min = values.iter().copied().fold(f64::INFINITY, f64::min);
            let max = values.iter().copied().fold(0.0, f64::max);
            prop_assert!(low <= estimate.value && estimate.value <= high);
            if values.len() >= ROUNDS_FOR_RANGE {
                prop_assert!(min <= low && high <= max);
            } else {
                prop_assert!(low <= min && max <= high);
            }
        }
    }

    /// Two of the same kind are called different in at most 5 of 100 cases, however few rounds there are and
    /// even if now and then one round is far off, as on a machine with neighbours.
    #[test]
    fn the_same_is_seldom_called_different() {
        use rand_chacha::ChaCha8Rng;
        use rand_chacha::rand_core::SeedableRng as _;
        const TRIALS: u32 = 1_000;
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut dice = fastrand::Rng::with_seed(7);
        let (quiet, wild) = (
            LogNormal::new(0.0, 0.03).unwrap(),
            LogNormal::new(0.0, 0.5).unwrap(),
        );
        for rounds in [2, 3, 5, 6, 7, 10, 15] {
            let mut different = 0;
            for _ in 0..TRIALS {
                let mut ratio = || {
                    let disturbed = dice.u32(..10) == 0;
                    (if disturbed { wild } else { quiet }).sample(&mut random)
                };
                let ratios: Vec<f64> = (0..rounds).map(|_| ratio()).collect();
                different += u32::from(resampled(&ratios, 500).unwrap().tells_apart());
            }
            let share = f64::from(different) / f64::from(TRIALS);
            // Two standard errors of a share of 0.05 of 1,000 are 0.014.
            assert!(share < 0.064, "{share} with {rounds} rounds");
        }
    }

    /// What differs is found: 10% with a noise of 3%.
    #[test]
    fn what_differs_is_told_apart() {
        let ratios = [1.07, 1.12, 1.1, 1.13, 1.08, 1.1];
        assert!(estimate(&ratios).unwrap().tells_apart());
        assert!(estimate(&ratios[..4]).unwrap().tells_apart());
    }
}
