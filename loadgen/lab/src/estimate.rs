//! Medians over the rounds of a set, with their intervals. Intervals within a single run are in
//! `engine::latency::interval`.

pub use crate::median::median;
use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};

/// A median over rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// 95% interval; `None` with a single round.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// The distance of the interval's farther end, as a share of the value; `None` without an
    /// interval, or if the value is zero.
    pub fn spread(&self) -> Option<f64> {
        let (low, high) = self.interval?;
        let spread = (self.value - low).max(high - self.value) / self.value;
        (self.value > 0.0 && spread.is_finite()).then_some(spread)
    }

    /// The factor between the middle of the interval and its ends.
    fn factor(&self) -> Option<f64> {
        let (low, high) = self.interval?;
        Some((high / low).sqrt()).filter(|factor| !factor.is_nan())
    }

    /// Whether the value is known to within a factor of 2 on either side, or has no interval.
    pub fn is_narrow(&self) -> bool {
        self.factor().is_none_or(|factor| factor <= FACTOR_MAX)
    }

    /// For a ratio: whether its interval is informative. An interval that contains 1 and extends
    /// from less than half its middle to more than twice its middle does not show which of the two
    /// is better, or by how much.
    pub fn is_resolved(&self) -> bool {
        self.tells_apart() || self.is_narrow()
    }

    /// For a ratio: whether its interval lies entirely on one side of 1.
    pub fn tells_apart(&self) -> bool {
        let sides = |(low, high): (f64, f64)| low > 1.0 || high < 1.0;
        self.interval.is_some_and(sides)
    }
}

/// If an interval is wider than this factor on either side of its middle and contains 1, it neither
/// shows nor excludes a difference: architectures seldom differ by more.
pub const FACTOR_MAX: f64 = 2.0;

/// Enough resamples that the shown digits of an interval do not depend on the seed.
const RESAMPLES: usize = 4_000;

/// The error rate on both sides together.
const ALPHA: f64 = 0.05;

/// From this number of values on, their range contains the median in at least 95 of 100 cases: 1 -
/// 2^(1 - 6) = 0.969.
const ROUNDS_FOR_RANGE: usize = 6;

/// The median and its 95% interval: the expanded percentile bootstrap (Hesterberg, *What teachers
/// should know about the bootstrap*, 2015), which corrects for the narrowness of the plain one with
/// few values. With fewer than six values, even their range is too narrow, and the interval
/// is widened to that of Student's t of their logarithms if that is wider. Equal numbers always
/// give the same interval.
///
/// `None` without values.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
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

/// The median of `new` divided by that of `old`, whose rounds were not measured together and so
/// form no pairs, and its 95% interval. It is computed as in [`estimate`], but each side is
/// resampled separately. With fewer than six rounds on either side it is widened
/// to the t interval of the logarithms if that is wider.
///
/// `None` without values on both sides, or if a value is not above zero.
pub fn unpaired(old: &[f64], new: &[f64]) -> Option<Estimate> {
    unpaired_resampled(old, new, RESAMPLES)
}

fn unpaired_resampled(old: &[f64], new: &[f64], resamples: usize) -> Option<Estimate> {
    let rounds = old.len().min(new.len());
    let is_positive = |values: &[f64]| values.iter().all(|&value| value > 0.0);
    if rounds == 0 || !is_positive(old) || !is_positive(new) {
        return None;
    }
    let value = median(&mut new.to_vec()) / median(&mut old.to_vec());
    let interval = (rounds > 1).then(|| {
        let mut random = fastrand::Rng::with_seed(1979);
        let (mut old_sample, mut new_sample) = (old.to_vec(), new.to_vec());
        let ratios = (0..resamples).map(|_| {
            old_sample.fill_with(|| old[random.usize(..old.len())]);
            new_sample.fill_with(|| new[random.usize(..new.len())]);
            median(&mut new_sample) / median(&mut old_sample)
        });
        let (low, high) = ends(ratios.collect(), old.len() + new.len() - 1);
        if rounds < ROUNDS_FOR_RANGE {
            let (t_low, t_high) = two_sided_t(old, new);
            (low.min(t_low), high.max(t_high))
        } else {
            (low, high)
        }
    });
    Some(Estimate { value, interval })
}

/// The 95% t interval of the ratio of the middles, by the logarithms of positive values, at least
/// two on each side. Welch's, because one side may have the single outlier, or Student's with one
/// variance for both if that is wider, because the two rounds of a short side may agree by chance.
fn two_sided_t(old: &[f64], new: &[f64]) -> (f64, f64) {
    let (old_mean, old_variance) = log_moments(old);
    let (new_mean, new_variance) = log_moments(new);
    let (old_n, new_n) = (old.len() as f64, new.len() as f64);
    let (old_part, new_part) = (old_variance / old_n, new_variance / new_n);
    let welch = old_part + new_part;
    let welch_freedom =
        welch.powi(2) / (old_part.powi(2) / (old_n - 1.0) + new_part.powi(2) / (new_n - 1.0));
    let freedom = old_n + new_n - 2.0;
    let pooled = (old_variance * (old_n - 1.0) + new_variance * (new_n - 1.0)) / freedom;
    let half = |variance: f64, freedom: f64| match StudentsT::new(0.0, 1.0, freedom) {
        Ok(t) if variance > 0.0 => t.inverse_cdf(1.0 - ALPHA / 2.0) * variance.sqrt(),
        // All values are equal.
        _ => 0.0,
    };
    let half = half(welch, welch_freedom).max(half(pooled / old_n + pooled / new_n, freedom));
    let difference = new_mean - old_mean;
    ((difference - half).exp(), (difference + half).exp())
}

/// The mean and the variance of the logarithms.
fn log_moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let logs = || values.iter().map(|value| value.ln());
    let mean = logs().sum::<f64>() / n;
    let variance = logs().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance)
}

/// The ends of the interval among medians of resamples of `values` values.
fn ends(mut medians: Vec<f64>, values: usize) -> (f64, f64) {
    medians.sort_by(f64::total_cmp);
    let cut = (expanded_tail(values) * medians.len() as f64) as usize;
    (medians[cut], medians[medians.len() - 1 - cut])
}

/// The tail to cut off at each end, so that the interval of `n` values is as wide as Student's t
/// interval.
fn expanded_tail(n: usize) -> f64 {
    let n = n as f64;
    let quantile = StudentsT::new(0.0, 1.0, n - 1.0)
        .map(|t| t.inverse_cdf(1.0 - ALPHA / 2.0))
        .expect("two values leave one degree of freedom");
    Normal::standard().cdf(-(n / (n - 1.0)).sqrt() * quantile)
}

/// The 95% interval of the middle by Student's t of the logarithms; `None` if there is none.
fn students_t(values: &[f64]) -> Option<(f64, f64)> {
    if values.iter().any(|&value| value <= 0.0) {
        return None;
    }
    let n = values.len() as f64;
    let (mean, variance) = log_moments(values);
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let half = t.inverse_cdf(1.0 - ALPHA / 2.0) * (variance / n).sqrt();
    Some(((mean - half).exp(), (mean + half).exp()))
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

    /// Equal rounds: 3% noise and, with neighbours, an occasional outlier.
    struct Rounds {
        random: chacha20::ChaCha8Rng,
        dice: fastrand::Rng,
        /// The number of outliers among 100 rounds.
        disturbed: u32,
    }

    impl Rounds {
        fn new(disturbed: u32) -> Self {
            use chacha20::rand_core::SeedableRng as _;
            Rounds {
                random: chacha20::ChaCha8Rng::seed_from_u64(7),
                dice: fastrand::Rng::with_seed(7),
                disturbed,
            }
        }

        fn take(&mut self, rounds: usize) -> Vec<f64> {
            let round = |_| {
                let noise = match self.dice.u32(..100) < self.disturbed {
                    true => 0.5,
                    false => 0.03,
                };
                let noise = LogNormal::new(0.0, noise).expect("a deviation");
                noise.sample(&mut self.random)
            };
            (0..rounds).map(round).collect()
        }
    }

    /// The share of 1,000 trials in which `trial` calls equal things different.
    fn share_told_apart(mut trial: impl FnMut() -> Option<Estimate>) -> f64 {
        const TRIALS: u32 = 1_000;
        let told_apart = |_: &u32| trial().expect("there are values").tells_apart();
        (0..TRIALS).filter(told_apart).count() as f64 / f64::from(TRIALS)
    }

    /// 0.05, plus two standard errors of that share among 1,000.
    const SELDOM: f64 = 0.064;

    /// Equal servers are called different in at most 5 of 100 cases, however few rounds there are
    /// and even with an occasional outlier, as on a machine with neighbours.
    #[test]
    fn the_same_is_seldom_called_different() {
        let mut source = Rounds::new(10);
        for rounds in [2, 3, 5, 6, 7, 10, 15] {
            let share = share_told_apart(|| resampled(&source.take(rounds), 300));
            assert!(share < SELDOM, "{share} with {rounds} rounds");
        }
    }

    /// The error rate also holds for rounds that form no pairs, and for sides of different length.
    #[test]
    fn the_same_in_two_sets_is_seldom_called_different() {
        for disturbed in [0, 10] {
            let mut source = Rounds::new(disturbed);
            for (old, new) in [
                (2, 2),
                (3, 3),
                (5, 5),
                (6, 6),
                (10, 10),
                (2, 10),
                (5, 3),
                (10, 6),
            ] {
                let share = share_told_apart(|| {
                    unpaired_resampled(&source.take(old), &source.take(new), 300)
                });
                assert!(
                    share <= ALPHA,
                    "{share} with {old} and {new} rounds, {disturbed}% disturbed"
                );
            }
        }
    }

    /// A real difference is found: 10% with 3% noise.
    #[test]
    fn what_differs_is_told_apart() {
        let ratios = [1.07, 1.12, 1.1, 1.13, 1.08, 1.1];
        assert!(estimate(&ratios).unwrap().tells_apart());
        assert!(estimate(&ratios[..4]).unwrap().tells_apart());
    }

    /// Over two sets, three rounds on a side find a difference of a third, but not of a tenth.
    #[test]
    fn what_differs_between_sets_is_told_apart() {
        let old = [1.0, 0.98, 1.02, 1.01, 0.99, 1.0];
        for (rounds, factor, expected) in [
            (6, 1.1, true),
            (5, 1.1, true),
            (3, 1.33, true),
            (2, 1.02, false),
        ] {
            let new = old.map(|value| value * factor);
            let estimate = unpaired(&old[..rounds], &new[..rounds]).unwrap();
            assert!((estimate.value / factor - 1.0).abs() < 1e-9);
            assert_eq!(estimate.tells_apart(), expected, "{rounds}: {estimate:?}");
        }
    }

    /// Either different, or narrow enough to show that the difference is small.
    #[test]
    fn what_an_interval_says() {
        for (value, interval, resolved, spread) in [
            (1.0, None, true, None),
            (1.1, Some((0.9, 1.3)), true, Some(0.2)),
            (1.3, Some((0.7, 2.7)), true, Some(1.1)),
            (2.32, Some((0.03, 43.0)), false, Some(17.5)),
            (1.0, Some((0.4, 2.5)), false, Some(1.5)),
            (3.0, Some((1.2, 43.0)), true, Some(13.3)),
            (0.5, Some((0.01, 0.9)), true, Some(1.0)),
            (1.0, Some((0.0, 3.0)), false, Some(2.0)),
            (1.0, Some((0.5, f64::INFINITY)), false, None),
            (0.0, Some((0.0, 0.0)), true, None),
        ] {
            let estimate = Estimate { value, interval };
            assert_eq!(estimate.is_resolved(), resolved, "{estimate:?}");
            let rounded = estimate.spread().map(|it| (it * 10.0).round() / 10.0);
            assert_eq!(rounded, spread, "{estimate:?}");
        }
    }

    #[test]
    fn sides_without_an_interval() {
        assert_eq!(unpaired(&[], &[1.0]), None);
        assert_eq!(unpaired(&[1.0, 0.0], &[1.0, 1.0]), None);
        assert_eq!(unpaired(&[2.0, 2.0, 2.0], &[3.0]).unwrap().interval, None);
        let alike = unpaired(&[2.0, 2.0], &[3.0, 3.0]).unwrap();
        let (low, high) = alike.interval.unwrap();
        assert!(alike.value == 1.5 && high - low < 1e-9, "{alike:?}");
    }
}
