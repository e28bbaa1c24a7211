//! Whether memory grows: compares a late stretch of the soak with an early one.

use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

/// The growth of heap and stacks (RssAnon).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Memory {
    /// Median over the early stretch.
    pub(crate) early_kib: u64,
    /// Median over the late stretch.
    pub(crate) late_kib: u64,
    /// The growth from early to late, in percent of early; negative if memory shrank.
    pub(crate) growth_percent: f64,
    /// The most that `late_kib` may be.
    pub(crate) allowed_kib: u64,
}

/// The stretches, as shares of the time. The early one begins when the crowd is complete and the first peer of
/// each behaviour has left: about minute 2 of 10.
const EARLY: Range<f64> = 0.15..0.25;
const LATE: Range<f64> = 0.90..1.01;

/// In a soak shorter than this the early stretch is not settled, because the first slow peers are still there.
const SETTLED: Duration = Duration::from_secs(120);

impl Memory {
    /// Computes the growth from samples of a soak that took `time`; `None` if a stretch has no sample.
    pub(crate) fn of(samples: &[(Duration, u64)], time: Duration) -> Option<Self> {
        let within = |shares: &Range<f64>| {
            let stretch = time.mul_f64(shares.start)..time.mul_f64(shares.end);
            let samples = samples.iter().filter(|(at, _)| stretch.contains(at));
            median(samples.map(|&(_, kib)| kib).collect())
        };
        let (early_kib, late_kib) = (within(&EARLY)?, within(&LATE)?);
        let growth = late_kib as f64 - early_kib as f64;
        Some(Memory {
            early_kib,
            late_kib,
            growth_percent: 100.0 * growth / (early_kib.max(1) as f64),
            allowed_kib: allowed_kib(early_kib, time),
        })
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.late_kib <= self.allowed_kib
    }
}

/// The growth that is allowed: 5%, plus an amount by which a small process may grow by chance. A short soak finds
/// only fast leaks.
fn allowed_kib(early_kib: u64, time: Duration) -> u64 {
    match time >= SETTLED {
        true => (early_kib * 105 / 100).max(early_kib + 256),
        false => early_kib * 150 / 100 + 2048,
    }
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(time_s: u64, kib_at: impl Fn(u64) -> u64) -> Memory {
        let samples: Vec<_> = (0..time_s)
            .map(|s| (Duration::from_secs(s), kib_at(s)))
            .collect();
        Memory::of(&samples, Duration::from_secs(time_s)).unwrap()
    }

    #[test]
    fn what_grows_is_told_from_what_only_warms_up() {
        let warm_up = of(600, |s| 10_000.min(100 + s * 200));
        assert_eq!((warm_up.early_kib, warm_up.late_kib), (10_000, 10_000));
        assert!(warm_up.is_bounded());
        let leak = of(600, |s| 10_000 + s * 2);
        assert!(!leak.is_bounded(), "{leak:?}");
        assert!((leak.growth_percent - 8.7).abs() < 0.3, "{leak:?}");
        let drift = of(600, |s| 10_000 + s / 2);
        assert!(drift.is_bounded(), "{drift:?}");
        let spike = of(600, |s| if s == 580 { 1_000_000 } else { 10_000 });
        assert!(spike.is_bounded());
    }

    #[test]
    fn next_to_nothing_may_double() {
        assert!(of(600, |s| 100 + s / 3).is_bounded());
        assert!(!of(600, |s| 100 + s).is_bounded());
    }

    #[test]
    fn a_short_soak_tells_fast_leaks_only() {
        assert!(of(20, |s| 1000 + s * 100).is_bounded());
        assert!(!of(20, |s| 1000 + s * 1000).is_bounded());
        assert_eq!(Memory::of(&[], Duration::from_secs(20)), None);
    }
}
