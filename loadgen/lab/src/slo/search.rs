//! Finds the rate at which an objective stops being met, with few runs, although single runs
//! mislead: a stall of the machine spoils one, luck saves another.

use super::Held;

/// The range and precision of a search. Rates are per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The first rate.
    pub start: f64,
    /// The lowest rate worth a run.
    pub floor: f64,
    /// The highest rate.
    pub ceiling: f64,
    /// The share by which the result may lie below the true rate.
    pub precision: f64,
}

/// The purpose of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Upwards, each rate twice the one before, until one is not met.
    Double,
    /// Downwards, each rate half of the one before, until one is met.
    Halve,
    /// Between a rate that is met and one that is not.
    Bisect,
    /// At the rate found, for longer.
    Confirm,
}

impl Phase {
    /// The name in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Double => "double",
            Phase::Halve => "halve",
            Phase::Bisect => "bisect",
            Phase::Confirm => "confirm",
        }
    }
}

/// The result of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The largest rate that was met, per second; `None` if none was.
    pub rate_per_s: Option<f64>,
    /// Whether the confirming run met it too.
    pub confirmed: bool,
    /// The lowest rate above it that was not met, and how. `None` only if the ceiling was met.
    pub not_met: Option<(f64, Held)>,
}

impl Found {
    /// Whether the generator prevented a higher rate, so that the server can do more than this.
    pub fn limited_by_generator(&self) -> bool {
        !matches!(self.not_met, Some((_, Held::Missed)))
    }
}

/// Confirming runs, each at a lower rate than the one before, until it is given up.
pub const CONFIRMATIONS_MAX: u32 = 6;

/// Searches for the largest rate at which `run` returns [`Held::Met`]. `run` gets the rate and its
/// purpose.
///
/// The rate is doubled until it is not met, or halved until it is; then the range between is
/// bisected, and the result is confirmed. If the confirmation fails, it is tried again slightly
/// lower, each time by twice as much: what short runs did not see may lie anywhere below. A rate is
/// rejected if two of at most three runs fail.
///
/// # Errors
///
/// Those of `run`.
pub fn find<E>(
    bounds: &Bounds,
    run: &mut dyn FnMut(Phase, f64) -> Result<Held, E>,
) -> Result<Found, E> {
    let mut bracket = Bracket::default();
    bracket.open(bounds, bounds.start, run)?;
    let edge = bracket.not_met;
    bracket.narrow(bounds, run)?;
    // If everything in between was met, the upper edge itself is doubtful: by chance it would be
    // this close to the true rate once in some thirty searches, but a machine that stalled at that
    // moment always causes it.
    if let (Some(met), Some((rate, _))) = (bracket.met, edge)
        && bracket.not_met == edge
        && rate > met * (1.0 + bounds.precision / 2.0)
        && run(Phase::Double, rate)? == Held::Met
    {
        bracket.met = Some(rate);
        bracket.not_met = None;
        if rate < bounds.ceiling {
            bracket.open(bounds, (rate * 2.0).min(bounds.ceiling), run)?;
        }
        bracket.narrow(bounds, run)?;
    }
    bracket.confirm(bounds, run)
}

/// The largest rate that is met and the lowest above it that is not, as far as known.
#[derive(Debug, Clone, Copy, Default)]
struct Bracket {
    met: Option<f64>,
    not_met: Option<(f64, Held)>,
}

impl Bracket {
    /// From `start` upwards or downwards, until both are known, if both exist.
    fn open<E>(
        &mut self,
        bounds: &Bounds,
        start: f64,
        run: &mut dyn FnMut(Phase, f64) -> Result<Held, E>,
    ) -> Result<(), E> {
        let mut phase = Phase::Double;
        let mut rate = start;
        loop {
            match believed(phase, rate, run)? {
                Held::Met => {
                    self.met = Some(rate);
                    if self.not_met.is_some() || rate >= bounds.ceiling {
                        return Ok(());
                    }
                    rate = (rate * 2.0).min(bounds.ceiling);
                }
                held => {
                    self.not_met = Some((rate, held));
                    if self.met.is_some() || rate <= bounds.floor {
                        return Ok(());
                    }
                    phase = Phase::Halve;
                    rate = (rate / 2.0).max(bounds.floor);
                }
            }
        }
    }

    /// Bisects until the two are close enough.
    fn narrow<E>(
        &mut self,
        bounds: &Bounds,
        run: &mut dyn FnMut(Phase, f64) -> Result<Held, E>,
    ) -> Result<(), E> {
        while let (Some(met), Some((above, _))) = (self.met, self.not_met)
            && above > met * (1.0 + bounds.precision)
        {
            let rate = between(met, above, bounds.precision);
            match believed(Phase::Bisect, rate, run)? {
                Held::Met => self.met = Some(rate),
                held => self.not_met = Some((rate, held)),
            }
        }
        Ok(())
    }

    /// Confirms the result with a run at the rate that is met, or a few at lower rates.
    fn confirm<E>(
        mut self,
        bounds: &Bounds,
        run: &mut dyn FnMut(Phase, f64) -> Result<Held, E>,
    ) -> Result<Found, E> {
        let mut step_down = (2.0 * bounds.precision).clamp(0.02, 0.05);
        let mut rate = self.met;
        let mut confirmed = false;
        for _ in 0..CONFIRMATIONS_MAX {
            let Some(offered) = rate else { break };
            let held = run(Phase::Confirm, offered)?;
            if held == Held::Met {
                confirmed = true;
                self.met = rate;
                break;
            }
            self.not_met = Some((offered, held));
            let lower = rounded(offered * (1.0 - step_down), bounds.precision);
            step_down = (2.0 * step_down).min(0.5);
            rate = (bounds.floor <= lower && lower < offered).then_some(lower);
        }
        Ok(Found {
            rate_per_s: self.met,
            confirmed,
            not_met: self.not_met,
        })
    }
}

/// A single good run is enough, since the confirming run checks it; a bad one is repeated, and
/// believed if two of three agree. If all three differ, the one limited by the generator is taken,
/// which claims the least.
fn believed<E>(
    phase: Phase,
    rate: f64,
    run: &mut dyn FnMut(Phase, f64) -> Result<Held, E>,
) -> Result<Held, E> {
    let first = run(phase, rate)?;
    if first == Held::Met {
        return Ok(first);
    }
    let second = run(phase, rate)?;
    if second == first {
        return Ok(first);
    }
    let third = run(phase, rate)?;
    match third == first || third == second {
        true => Ok(third),
        false => Ok(Held::Limited),
    }
}

/// The geometric mean, rounded as far as the precision allows.
fn between(met: f64, above: f64, precision: f64) -> f64 {
    let mean = (met * above).sqrt();
    let round = rounded(mean, precision);
    match met < round && round < above {
        true => round,
        false => mean,
    }
}

/// Enough digits to distinguish rates that are half the precision apart: 3 for 2%.
fn rounded(rate: f64, precision: f64) -> f64 {
    let digits = (1.0 - (precision / 2.0).log10()).ceil();
    let unit = 10_f64.powf(rate.log10().floor() + 1.0 - digits);
    match unit {
        1.0.. => (rate / unit).round() * unit,
        // Keeps 31.2 exact: a tenth has no exact binary form, ten has.
        _ => (rate * (1.0 / unit).round()).round() / (1.0 / unit).round(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        start: 1000.0,
        floor: 1.0,
        ceiling: 1e9,
        precision: 0.02,
    };

    /// The runs of a search, in order.
    type Runs = Vec<(Phase, f64, Held)>;

    fn search(bounds: &Bounds, mut server: impl FnMut(Phase, f64) -> Held) -> (Found, Runs) {
        let mut runs = Runs::new();
        let found = find::<Infallible>(bounds, &mut |phase, rate| {
            let held = server(phase, rate);
            runs.push((phase, rate, held));
            Ok(held)
        });
        (found.unwrap(), runs)
    }

    /// A server that meets its objective up to a rate, and a generator that can offer up to a rate.
    fn steps(server: f64, generator: f64) -> impl FnMut(Phase, f64) -> Held {
        move |_, rate| match rate {
            _ if rate > generator => Held::Limited,
            _ if rate > server => Held::Missed,
            _ => Held::Met,
        }
    }

    /// The limit of runs for a search that converges: three for each doubling, halving and
    /// bisection, plus the confirmations.
    fn runs_max(bounds: &Bounds, truth: f64) -> usize {
        let truth = truth.clamp(bounds.floor, bounds.ceiling);
        let octaves = (truth / bounds.start).log2().abs().ceil() as usize + 2;
        let bisections = (2_f64.ln() / (1.0 + bounds.precision).ln()).log2().ceil() as usize + 2;
        3 * (octaves + bisections) + CONFIRMATIONS_MAX as usize
    }

    #[test]
    fn a_step_at_a_known_rate_is_found() {
        for truth in [
            1.0, 1.5, 37.0, 999.0, 1000.0, 1001.0, 1999.0, 2000.0, 41_237.0, 3e6,
        ] {
            let (found, runs) = search(&BOUNDS, steps(truth, 1e12));
            let rate = found.rate_per_s.unwrap();
            assert!(found.confirmed, "{truth}");
            assert!(!found.limited_by_generator(), "{truth}");
            assert!(rate <= truth && truth < rate * 1.02, "{rate} for {truth}");
            assert!(runs.len() <= runs_max(&BOUNDS, truth), "{runs:?}");
        }
    }

    #[test]
    fn the_runs_of_a_search_in_order() {
        let (_, runs) = search(&BOUNDS, steps(3_100.0, 1e12));
        let told: Vec<String> = runs
            .iter()
            .map(|(phase, rate, held)| format!("{} {rate} {held:?}", phase.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                "double 1000 Met",
                "double 2000 Met",
                "double 4000 Missed",
                "double 4000 Missed",
                "bisect 2830 Met",
                "bisect 3360 Missed",
                "bisect 3360 Missed",
                "bisect 3080 Met",
                "bisect 3220 Missed",
                "bisect 3220 Missed",
                "bisect 3150 Missed",
                "bisect 3150 Missed",
                "bisect 3110 Missed",
                "bisect 3110 Missed",
                "confirm 3080 Met",
            ]
        );
    }

    #[test]
    fn a_rate_too_high_to_begin_with_is_halved() {
        let (found, runs) = search(&BOUNDS, steps(100.0, 1e12));
        let phases: Vec<Phase> = runs.iter().map(|run| run.0).collect();
        assert_eq!(phases[..2], [Phase::Double; 2]);
        assert_eq!(phases[2..9], [Phase::Halve; 7]);
        assert_eq!(phases[9], Phase::Bisect);
        assert!((98.0..=100.0).contains(&found.rate_per_s.unwrap()));
    }

    #[test]
    fn what_is_never_met_is_given_up_at_the_floor() {
        let (found, runs) = search(&BOUNDS, steps(0.0, 1e12));
        assert_eq!((found.rate_per_s, found.confirmed), (None, false));
        assert_eq!(found.not_met, Some((1.0, Held::Missed)));
        // 1000, 500, ..., 1.95, 1: each twice.
        assert_eq!(runs.len(), 2 * 11);

        let (found, _) = search(&BOUNDS, steps(0.0, 0.0));
        assert_eq!(found.rate_per_s, None);
        assert!(found.limited_by_generator());
    }

    #[test]
    fn what_the_generator_limits_is_marked() {
        // The generator's ceiling is below the server's, and is found as precisely.
        let (found, _) = search(&BOUNDS, steps(1e12, 50_000.0));
        let rate = found.rate_per_s.unwrap();
        assert!(found.confirmed && found.limited_by_generator());
        assert!((49_000.0..=50_000.0).contains(&rate), "{rate}");

        // The generator's ceiling is above, and was met on the way up: the server was the limit
        // nevertheless.
        let (found, runs) = search(&BOUNDS, steps(50_000.0, 60_000.0));
        assert!(runs.iter().any(|run| run.2 == Held::Limited));
        assert!(!found.limited_by_generator());
        assert!((49_000.0..=50_000.0).contains(&found.rate_per_s.unwrap()));

        // Everything is met.
        let bounds = Bounds {
            ceiling: 5000.0,
            ..BOUNDS
        };
        let (found, _) = search(&bounds, steps(1e12, 1e12));
        assert_eq!(found.rate_per_s, Some(5000.0));
        assert_eq!(found.not_met, None);
        assert!(found.limited_by_generator());
    }

    #[test]
    fn one_bad_run_of_three_is_not_believed() {
        for (runs, held) in [
            (&[Held::Met][..], Held::Met),
            (&[Held::Missed, Held::Missed], Held::Missed),
            (&[Held::Limited, Held::Limited], Held::Limited),
            (&[Held::Missed, Held::Met, Held::Met], Held::Met),
            (&[Held::Missed, Held::Met, Held::Missed], Held::Missed),
            (&[Held::Limited, Held::Met, Held::Met], Held::Met),
            (&[Held::Limited, Held::Missed, Held::Missed], Held::Missed),
            (&[Held::Missed, Held::Limited, Held::Met], Held::Limited),
        ] {
            let mut rest = runs.iter();
            let told = believed::<Infallible>(Phase::Bisect, 1.0, &mut |_, _| {
                Ok(*rest.next().expect("no more runs than needed"))
            });
            assert_eq!(told, Ok(held), "{runs:?}");
            assert!(rest.next().is_none(), "{runs:?}: fewer runs than needed");
        }
    }

    #[test]
    fn one_stall_on_the_way_does_not_mislead() {
        for stalled in 0..20 {
            let (mut truth, mut run) = (steps(41_237.0, 1e12), 0);
            let (found, _) = search(&BOUNDS, |phase, rate| {
                run += 1;
                match run - 1 == stalled {
                    true => Held::Missed,
                    false => truth(phase, rate),
                }
            });
            let rate = found.rate_per_s.unwrap();
            assert!(found.confirmed);
            // In the confirming run, the stall would have cost one step down.
            assert!(
                (41_237.0 * 0.98 * 0.95..=41_237.0).contains(&rate),
                "{rate}"
            );
        }
    }

    #[test]
    fn an_edge_that_was_a_stall_is_looked_at_again() {
        // A stall of several seconds, at 8,000/s.
        let (mut truth, mut run) = (steps(41_237.0, 1e12), 0);
        let (found, runs) = search(&BOUNDS, |phase, rate| {
            run += 1;
            match run {
                4..=5 => Held::Missed,
                _ => truth(phase, rate),
            }
        });
        let rate = found.rate_per_s.unwrap();
        assert!((41_237.0 * 0.98..=41_237.0).contains(&rate), "{rate}");
        assert!(found.confirmed);
        assert!(runs.len() <= runs_max(&BOUNDS, rate), "{runs:?}");
    }

    #[test]
    fn a_confirmation_that_fails_is_tried_lower_and_not_for_ever() {
        // Short runs meet it up to 41,000/s, long ones up to 38,000/s.
        let (found, runs) = search(&BOUNDS, |phase, rate| match phase {
            Phase::Confirm if rate > 38_000.0 => Held::Missed,
            _ if rate > 41_000.0 => Held::Missed,
            _ => Held::Met,
        });
        let rate = found.rate_per_s.unwrap();
        assert!(found.confirmed);
        assert!((36_000.0..=38_000.0).contains(&rate), "{rate}");
        let (above, _) = found.not_met.unwrap();
        assert!(rate < above && above <= rate / 0.91, "{above}");
        let confirming = |runs: &Runs| {
            runs.iter()
                .filter(|run| run.0 == Phase::Confirm)
                .map(|run| run.1)
                .collect::<Vec<_>>()
        };
        assert!(confirming(&runs).len() > 1);
        assert!(confirming(&runs).is_sorted_by(|a, b| a > b));

        // Long runs never meet it.
        let (found, runs) = search(&BOUNDS, |phase, rate| match phase {
            Phase::Confirm => Held::Missed,
            _ if rate > 41_000.0 => Held::Missed,
            _ => Held::Met,
        });
        assert!(!found.confirmed);
        assert!((40_100.0..=41_000.0).contains(&found.rate_per_s.unwrap()));
        assert_eq!(confirming(&runs).len(), CONFIRMATIONS_MAX as usize);
    }

    #[test]
    fn a_search_ends_when_a_run_fails() {
        let mut runs = 0;
        let found = find(&BOUNDS, &mut |_, _| {
            runs += 1;
            match runs {
                3 => Err("gone"),
                _ => Ok(Held::Met),
            }
        });
        assert_eq!(found, Err("gone"));
        assert_eq!(runs, 3);
    }

    #[test]
    fn rates_are_round() {
        for (rate, precision, round) in [
            (38_973.4, 0.02, 39_000.0),
            (41_249.0, 0.02, 41_200.0),
            (41_249.0, 0.01, 41_250.0),
            (31.25, 0.02, 31.3),
            (1.2345, 0.02, 1.23),
            (1.2345, 0.5, 1.2),
        ] {
            assert_eq!(rounded(rate, precision), round, "{rate} at {precision}");
        }
        // There is no round rate in between.
        assert_eq!(between(100.1, 100.9, 0.02), (100.1_f64 * 100.9).sqrt());
    }

    proptest! {
        /// Whatever the true rate, the start and the precision: it is found in few runs, and
        /// reported.
        #[test]
        fn any_step_is_found(
            truth_log in 0.1..8.0_f64,
            start_log in 0.0..6.0_f64,
            precision in 0.001..0.5_f64,
            generator_log in 0.1..8.0_f64,
        ) {
            let [truth, start, generator] =
                [truth_log, start_log, generator_log].map(|log| 10_f64.powf(log));
            let bounds = Bounds { start, precision, ..BOUNDS };
            let reach = truth.min(generator);
            let (found, runs) = search(&bounds, steps(truth, generator));
            let rate = found.rate_per_s.unwrap();
            prop_assert!(found.confirmed);
            prop_assert!(rate <= reach && reach <= rate * (1.0 + precision), "{rate} for {reach}");
            prop_assert!(runs.len() <= runs_max(&bounds, reach), "{} runs", runs.len());
            prop_assert_eq!(found.limited_by_generator(), {
                let (above, _) = found.not_met.unwrap();
                above > generator
            });
            prop_assert_eq!(runs.last().unwrap().0, Phase::Confirm);
        }

        /// Runs near the edge depend on luck, the more so the nearer; the rate found is near too.
        #[test]
        fn noise_is_borne(truth in 10.0..1e6_f64, noise in 0.0..0.1_f64, seed: u64) {
            let mut luck = fastrand::Rng::with_seed(seed);
            let (found, runs) = search(&BOUNDS, |_, rate| {
                let shift = 1.0 + noise * (2.0 * luck.f64() - 1.0);
                if rate * shift > truth { Held::Missed } else { Held::Met }
            });
            let rate = found.rate_per_s.unwrap();
            let near = truth * (1.0 - noise) * 0.8..=truth / (1.0 - noise);
            prop_assert!(near.contains(&rate), "{rate} for {truth}");
            prop_assert!(runs.len() <= runs_max(&BOUNDS, rate), "{} runs", runs.len());
        }

        /// A server or machine that answers by pure chance: the search ends, and its result was
        /// observed.
        #[test]
        fn flapping_ends(seed: u64, p_met in 0.0..=1.0_f64, p_limited in 0.0..=1.0_f64) {
            let mut luck = fastrand::Rng::with_seed(seed);
            let (found, runs) = search(&BOUNDS, |_, _| match () {
                () if luck.f64() < p_met => Held::Met,
                () if luck.f64() < p_limited => Held::Limited,
                () => Held::Missed,
            });
            prop_assert!(runs.len() <= 3 * (20 + 8 + 8) + 6, "{} runs", runs.len());
            for (_, rate, _) in &runs {
                prop_assert!((1.0..=1e9).contains(rate));
            }
            if let Some(rate) = found.rate_per_s {
                prop_assert!(runs.iter().any(|run| run.1 == rate && run.2 == Held::Met));
            }
            if found.confirmed {
                let (phase, rate, held) = runs[runs.len() - 1];
                prop_assert_eq!((phase, held), (Phase::Confirm, Held::Met));
                prop_assert_eq!(Some(rate), found.rate_per_s);
            }
        }
    }
}
