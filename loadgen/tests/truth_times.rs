//! Times and rates against servers whose truth is known. One test after another, each up to three times:
//! on a machine whose CPUs are all busy with something else, no time is what it should be.

mod truth;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use engine::plan::{ConnectionLife, Limit, Plan, Rate};
use engine::record::Outcome;
use engine::verdict::{Status, judge};
use hdrhistogram::Histogram;

use truth::against::{
    attempts, between, books_balance, close, connections_agree, constant, lasting, poisson, run,
};
use truth::delay::{Delay, Stall};
use truth::statistics::{ANDERSON_DARLING_1_PERCENT, anderson_darling_exponential, quantile};
use truth::{Options, Truth};

const MS: Duration = Duration::from_millis(1);

/// Only one of these tests runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs, and what must hold however busy the machine is.
fn sound_run(options: Options, plan: impl FnOnce(Plan) -> Plan) -> (Plan, Outcome, Truth) {
    let (plan, outcome, truth) = run(options, plan);
    books_balance(&plan, &outcome, &truth, 0);
    connections_agree(&outcome, &truth);
    assert_eq!(
        outcome.record.errors_count(),
        0,
        "{:?}",
        outcome.record.errors
    );
    (plan, outcome, truth)
}

fn delays() -> [Delay; 4] {
    [
        Delay::Fixed(50 * MS),
        Delay::Uniform(20 * MS, 80 * MS),
        Delay::Bimodal(30 * MS, 150 * MS, 0.05),
        Delay::Exponential(40 * MS),
    ]
}

/// The quantiles in `histogram` are those of the times for which the server held the requests: the delays
/// that it drew, and what it was late.
fn held_so_long(name: &str, histogram: &Histogram<u64>, truth: &Truth) -> anyhow::Result<()> {
    let held = truth.held_ns();
    for p in [0.5, 0.9, 0.99] {
        let name = format!("p{} of {name}", 100.0 * p);
        let (got, held) = (histogram.value_at_quantile(p), quantile(&held, p));
        // However busy the machine: nobody has an answer before it is sent.
        assert!(got >= held, "{name} is {got} ns, the server took {held} ns");
        close(&name, got, held)?;
    }
    Ok(())
}

#[test]
fn closed_loop_sees_the_delays() {
    let _alone = alone();
    for delay in delays() {
        attempts(&format!("{delay:?} in closed loop"), |_| {
            let options = Options {
                delay,
                ..Options::default()
            };
            let (_, outcome, truth) = sound_run(options, |plan| Plan {
                connections: 16,
                limit: lasting(1_500),
                ..plan
            });
            held_so_long("response", &outcome.record.response, &truth)?;
            held_so_long("service", &outcome.record.service, &truth)
        });
    }
}

#[test]
fn open_loop_sees_the_delays() {
    let _alone = alone();
    for (delay, pace) in delays().into_iter().zip([
        constant(500.0),
        poisson(500.0),
        constant(500.0),
        poisson(500.0),
    ]) {
        attempts(&format!("{delay:?} at {pace}"), |_| {
            let options = Options {
                delay,
                ..Options::default()
            };
            let (_, outcome, truth) = sound_run(options, |plan| Plan {
                connections: 128,
                pace,
                limit: lasting(1_000),
                ..plan
            });
            held_so_long("response", &outcome.record.response, &truth)?;
            held_so_long("service", &outcome.record.service, &truth)
        });
    }
}

fn stalls() -> Options {
    Options {
        stall: Some(Stall {
            every: 1_000 * MS,
            lasts: 200 * MS,
        }),
        ..Options::default()
    }
}

/// A server answers at once, but for the last S = 0.2 s of each T = 1 s, in which it answers nothing; what
/// came in them it answers at their end. Requests are meant to be sent at a constant rate over a whole
/// number of periods, so their phase x is uniform in [0, T). A request of phase x takes
///
/// - no time at all, R = 0, when x < T - S;
/// - R = T - x otherwise, which is uniform in (0, S].
///
/// So P(R <= r) = (T - S)/T + r/T for 0 <= r <= S, and the quantile is
/// `R(p) = max(0, pT - (T - S)) = max(0, p - 0.8) s`: p50 is 0, p90 is 100 ms, p99 is 190 ms and p99.9 is
/// 199 ms. It does not matter whether the requests wait in the server or, for want of a connection, in the
/// generator: it counts from when they were meant to be sent.
fn stalled_quantile(p: f64) -> u64 {
    ((p - 0.8).max(0.0) * 1e9).round() as u64
}

/// The same, as far as the server can tell: from when each request was meant to be sent, `gap_ns` after the
/// one before, to when it was answered; in order of length, without the first so many. Nobody is as fast
/// as the closed form has it: what a stall has held is answered one after another.
fn stalled_in_truth(truth: &Truth, gap_ns: u64, without: usize) -> Vec<u64> {
    let mut answers = truth.answers.clone();
    answers.sort_unstable_by_key(|answer| answer.arrived_ns);
    let meant = || (0..).map(|number| number * gap_ns);
    // The schedule starts when no request came before it was meant to be sent, and one came just then.
    let starts = answers.iter().zip(meant());
    let starts = starts.map(|(answer, meant)| answer.arrived_ns - meant);
    let start = starts.min().expect("there are requests");
    let mut took: Vec<u64> = (answers.iter().zip(meant()).skip(without))
        .map(|(answer, meant)| answer.arrived_ns + answer.held_ns - start - meant)
        .collect();
    took.sort_unstable();
    took
}

#[test]
fn constant_rate_sees_a_stall_in_full() {
    /// What a request takes, of all who handle it one after another.
    const EACH_NS: u64 = 30_000;
    const RATE: u64 = 1_000;
    let _alone = alone();
    for (connections, seconds) in [(256, 4), (8, 2)] {
        attempts(&format!("a stall over {connections} connections"), |_| {
            let (_, outcome, truth) = sound_run(stalls(), |plan| Plan {
                connections,
                pace: constant(RATE as f64),
                warmup: 200 * MS,
                limit: lasting(1_000 * seconds),
                ..plan
            });
            let record = &outcome.record;
            assert_eq!(record.counts.due, RATE * seconds);
            let took = stalled_in_truth(&truth, 1_000_000_000 / RATE, 200);
            for p in [0.5, 0.9, 0.99, 0.999] {
                let name = format!("p{}", 100.0 * p);
                let (got, form) = (record.response.value_at_quantile(p), stalled_quantile(p));
                close(&format!("{name}, by the server,"), got, quantile(&took, p))?;
                // Those that a stall held before it are answered before it.
                let before = match form {
                    0 => 0,
                    _ => (200_000_000 - form) * RATE / 1_000_000_000,
                };
                between(&name, got, form, form + before * EACH_NS)?;
            }
            Ok(())
        });
    }
}

#[test]
fn closed_loop_omits_most_of_a_stall() {
    let _alone = alone();
    let (_, closed, _) = sound_run(stalls(), |plan| Plan {
        connections: 8,
        limit: lasting(1_000),
        ..plan
    });
    let (_, open, _) = sound_run(stalls(), |plan| Plan {
        connections: 8,
        pace: constant(1_000.0),
        limit: lasting(1_000),
        ..plan
    });
    // All that the closed loop sees of a stall is one request on each connection.
    assert!(closed.record.response.value_at_quantile(0.99) < 100_000_000);
    assert!(closed.record.response.max() >= 150_000_000);
    assert!(open.record.response.value_at_quantile(0.99) >= 150_000_000);
    for p in [0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
        let [service, response] = [&open.record.service, &open.record.response]
            .map(|histogram| histogram.value_at_quantile(p));
        assert!(service <= response, "p{}", 100.0 * p);
    }
}

#[test]
fn rates_are_kept() {
    let _alone = alone();
    for (pace, connections, threads, life) in [
        (constant(5_000.0), 128, 1, 0),
        (constant(20_000.0), 512, 1, 0),
        (constant(5_000.0), 128, 2, 0),
        (constant(500.0), 64, 1, 1),
    ] {
        attempts(&format!("{pace}, {threads} threads"), |_| {
            // Some time for the generator to be late in, without making a difference.
            let options = Options {
                delay: Delay::Fixed(5 * MS),
                ..Options::default()
            };
            let (plan, outcome, truth) = sound_run(options, |plan| Plan {
                connections,
                threads,
                life: ConnectionLife::from_requests(life),
                pace,
                warmup: 200 * MS,
                limit: lasting(2_000),
                ..plan
            });
            let record = &outcome.record;
            let rate = pace.rate().map_or(0.0, Rate::per_s);
            assert_eq!(record.counts.due, (2.0 * rate) as u64, "at {pace}");
            assert_eq!(record.counts.unsent, 0);
            assert_eq!(outcome.duration, 2_000 * MS);
            if life == 1 {
                assert_eq!(truth.connections, truth.requests);
            }
            let mut counts = vec![record.counts.sent_in_time, record.counts.responses_in_time];
            if life == 1 {
                counts.push(record.counts.connections_in_time);
            }
            let verdict = judge(&plan, &outcome);
            ensure!(
                verdict.status == Status::Valid,
                "{}",
                verdict.reasons.join("; ")
            );
            // Whoever says that it is valid has kept it.
            for count in counts {
                let achieved = count as f64 / outcome.duration.as_secs_f64();
                assert!(
                    (achieved / rate - 1.0).abs() <= 0.005,
                    "achieved {achieved}/s"
                );
            }
            Ok(())
        });
    }
}

#[test]
fn poisson_arrivals_are_exponential_on_the_wire() {
    let _alone = alone();
    // The lower the rate, the less it matters how late the machine is.
    const ATTEMPTS: [(f64, u64); 3] = [(500.0, 5_000), (250.0, 2_000), (100.0, 1_000)];
    attempts("Poisson arrivals", |attempt| {
        let (rate, arrivals) = ATTEMPTS[attempt];
        let (_, outcome, mut truth) = sound_run(Options::default(), |plan| Plan {
            connections: 64,
            pace: poisson(rate),
            seed: 1,
            limit: Limit::Requests(arrivals),
            ..plan
        });
        assert_eq!(outcome.record.counts.due, arrivals);
        // They were read in another order where two came at once.
        truth.arrivals_ns.sort_unstable();
        let gaps: Vec<f64> = (truth.arrivals_ns.windows(2))
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let per_s = gaps.len() as f64 / (gaps.iter().sum::<f64>() / 1e9);
        // Four standard deviations of the mean of so many gaps.
        let off = 4.0 / (arrivals as f64).sqrt();
        assert!(
            (per_s / rate - 1.0).abs() < off,
            "{per_s} per second, not {rate}"
        );
        let statistic = anderson_darling_exponential(&gaps);
        // Not even with every CPU busy is the last attempt so far off.
        let last = attempt + 1 == ATTEMPTS.len();
        assert!(
            !last || statistic < 10.0 * ANDERSON_DARLING_1_PERCENT,
            "{statistic}"
        );
        ensure!(
            statistic < ANDERSON_DARLING_1_PERCENT,
            "at {rate} per second, the statistic of Anderson and Darling is {statistic:.3}"
        );
        Ok(())
    });
}

#[test]
fn the_wait_for_a_connection_is_no_lag_of_the_generator() {
    let _alone = alone();
    attempts("lag", |_| {
        let options = Options {
            delay: Delay::Fixed(20 * MS),
            ..Options::default()
        };
        // Two connections can take 100 per second: with 80 that come at random there is often a queue.
        let (_, outcome, _) = sound_run(options, |plan| Plan {
            connections: 2,
            pace: poisson(80.0),
            seed: 1,
            limit: lasting(1_500),
            ..plan
        });
        let record = &outcome.record;
        assert!(record.lag.value_at_quantile(0.9) > 10_000_000);
        let own = record.lag_own.value_at_quantile(0.9);
        ensure!(own < 1_000_000, "p90 of its own lag is {own} ns");
        Ok(())
    });
}
