//! What tests need of statistics.

/// The smallest of `sorted` that a share `p` of them, 0 < p <= 1, does not exceed.
pub(crate) fn quantile(sorted: &[u64], p: f64) -> u64 {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The statistic of Anderson and Darling of a sample against the exponential distribution whose mean is
/// estimated from it, with the correction for its size: A² (1 + 0.6/n) (Stephens 1974, "EDF Statistics
/// for Goodness of Fit and Some Comparisons", section 4 and table 1.2).
pub(crate) fn anderson_darling_exponential(sample: &[f64]) -> f64 {
    let n = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / n;
    let mut sorted: Vec<f64> = sample.iter().map(|x| x / mean).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    // With z = 1 - exp(-x): ln z of the i-th from below, and ln(1 - z) = -x of the i-th from above.
    // A time of nothing has probability nothing; the clock's grain made it so.
    let ln_z = |x: f64| (-(-x.max(1e-9)).exp_m1()).ln();
    let sum: f64 = (sorted.iter().zip(sorted.iter().rev()))
        .zip(0..)
        .map(|((&low, &high), i)| f64::from(2 * i + 1) * (ln_z(low) - high))
        .sum();
    (-n - sum / n) * (1.0 + 0.6 / n)
}

/// What [`anderson_darling_exponential`] exceeds for 1 in 100 samples that are exponential (Stephens 1974).
pub(crate) const ANDERSON_DARLING_1_PERCENT: f64 = 1.959;
