//! When the requests of an open loop are due: in nanoseconds, fixed before the run starts, whatever
//! the server does.
//!
//! A schedule is a rule, not a list, so a run of any length takes the same memory. All threads
//! follow the same schedule, and each takes every `threads`th arrival. Together they form one
//! process, which for a given seed does not depend on the number of threads.

use chacha20::ChaCha8Rng;
use chacha20::rand_core::SeedableRng as _;
use rand_distr::{Distribution as _, Exp1};

use crate::plan::{Pace, Rate};

/// The arrivals of one thread, in order.
#[derive(Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    /// The number of threads: each takes one of this many arrivals.
    threads: u64,
    next: u64,
}

impl Schedule {
    /// The share of thread `index` of `threads`; `None` in closed loop, which has no schedule.
    pub(super) fn new(pace: Pace, seed: u64, index: usize, threads: usize) -> Option<Self> {
        let mut arrivals = Arrivals::new(pace, seed)?;
        let next = arrivals.skip_to(index as u64);
        Some(Schedule {
            arrivals,
            threads: threads as u64,
            next,
        })
    }

    /// When the next arrival is due, in nanoseconds since the start of the run.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Advances to the following arrival, and returns the one that was next.
    pub(super) fn advance(&mut self) -> u64 {
        let due = self.next;
        self.next = self.arrivals.skip_to(self.threads - 1);
        due
    }
}

/// The end of a run of `requests` arrivals from `begin` on: when the first arrival that no longer
/// counts is due. In nanoseconds since the start.
pub(super) fn end_after(pace: Pace, seed: u64, begin: u64, requests: u64) -> Option<u64> {
    let mut arrivals = Arrivals::new(pace, seed)?;
    let mut counted = 0;
    loop {
        let due = arrivals.skip_to(0);
        if due >= begin {
            if counted == requests {
                return Some(due);
            }
            counted += 1;
        }
        if let (Arrivals::Constant { index, .. }, true) = (&mut arrivals, counted == 1) {
            *index += requests - counted;
            counted = requests;
        }
    }
}

#[derive(Debug)]
enum Arrivals {
    /// Arrival `index` is due after this many gaps; adding up gaps would drift.
    Constant { gap_ns: f64, index: u64 },
    /// Independent, exponentially distributed gaps. The random generator's sequence is the same on
    /// every machine and in every version.
    Poisson {
        gap_ns: f64,
        at_ns: f64,
        rng: Box<ChaCha8Rng>,
    },
}

impl Arrivals {
    fn new(pace: Pace, seed: u64) -> Option<Self> {
        let gap_ns = |rate: Rate| 1e9 / rate.per_s();
        match pace {
            Pace::Closed => None,
            Pace::Constant(rate) => Some(Arrivals::Constant {
                gap_ns: gap_ns(rate),
                index: 0,
            }),
            Pace::Poisson(rate) => Some(Arrivals::Poisson {
                gap_ns: gap_ns(rate),
                at_ns: 0.0,
                rng: Box::new(ChaCha8Rng::seed_from_u64(seed)),
            }),
        }
    }

    /// Skips arrivals and returns the next one.
    fn skip_to(&mut self, left_out: u64) -> u64 {
        match self {
            Arrivals::Constant { gap_ns, index } => {
                let due = (*index + left_out) as f64 * *gap_ns;
                *index += left_out + 1;
                due.round() as u64
            }
            Arrivals::Poisson { gap_ns, at_ns, rng } => {
                for _ in 0..=left_out {
                    let gap: f64 = Exp1.sample(rng);
                    *at_ns += gap * *gap_ns;
                }
                at_ns.round() as u64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn arrivals(pace: &str, seed: u64, threads: usize, count: usize) -> Vec<u64> {
        let pace = pace.parse().unwrap();
        let mut parts: Vec<_> = (0..threads)
            .map(|index| Schedule::new(pace, seed, index, threads).unwrap())
            .collect();
        (0..count)
            .map(|n| {
                let part = &mut parts[n % threads];
                let next = part.next();
                assert_eq!(part.advance(), next);
                next
            })
            .collect()
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        assert_eq!(
            arrivals("constant:3/s", 0, 1, 7),
            [
                0, 333333333, 666666667, 1000000000, 1333333333, 1666666667, 2000000000
            ]
        );
        let day = arrivals("constant:7/s", 0, 1, 7 * 86_400 + 1);
        assert_eq!(day.last(), Some(&(86_400 * SECOND)));
    }

    #[test]
    fn threads_share_one_schedule() {
        for pace in ["constant:12345/s", "poisson:12345/s"] {
            let alone = arrivals(pace, 7, 1, 5000);
            assert!(alone.is_sorted());
            for threads in [2, 3, 8] {
                assert_eq!(arrivals(pace, 7, threads, 5000), alone, "{pace}, {threads}");
            }
        }
    }

    #[test]
    fn a_seed_repeats_its_arrivals() {
        let first = arrivals("poisson:1000/s", 1, 1, 1000);
        assert_eq!(first, arrivals("poisson:1000/s", 1, 1, 1000));
        assert_ne!(first, arrivals("poisson:1000/s", 2, 1, 1000));
        // A seed must keep its meaning across versions of the libraries.
        assert_eq!(first[..3], [446903, 603604, 1818402]);
    }

    #[test]
    fn runs_of_so_many_requests_end_before_the_next() {
        for pace in ["constant:1000/s", "constant:7/s", "poisson:1000/s"] {
            for (begin, requests) in [(0, 1), (0, 500), (SECOND / 3, 1), (SECOND, 777)] {
                let parsed = pace.parse().unwrap();
                let end = end_after(parsed, 5, begin, requests).unwrap();
                let counted = arrivals(pace, 5, 1, 10_000)
                    .into_iter()
                    .filter(|due| (begin..end).contains(due))
                    .count();
                assert_eq!(counted as u64, requests, "{pace} from {begin}");
            }
        }
    }

    /// Anderson-Darling against the exponential distribution with its mean estimated from the sample;
    /// 1.959 is the 1% point of the modified statistic (Stephens, JASA 69, 1974, case 3 of the
    /// exponential).
    #[test]
    fn poisson_gaps_are_exponential() {
        for seed in 1..=5 {
            let due = arrivals("poisson:5000/s", seed, 1, 20_001);
            let mut gaps: Vec<f64> = due.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
            gaps.sort_by(f64::total_cmp);
            let n = gaps.len() as f64;
            let mean = gaps.iter().sum::<f64>() / n;
            assert!((mean / 200_000.0 - 1.0).abs() < 0.03, "{mean}");
            let below = |gap: f64| -(-gap / mean).exp_m1();
            let sum: f64 = (0..gaps.len())
                .map(|i| {
                    let from_top = gaps[gaps.len() - 1 - i];
                    (2 * i + 1) as f64 * (below(gaps[i].max(0.5)).ln() - from_top / mean)
                })
                .sum();
            let statistic = (-n - sum / n) * (1.0 + 0.6 / n);
            assert!(statistic < 1.959, "seed {seed}: {statistic}");
        }
    }
}
