//! The progress of a run: two lines on a terminal, redrawn several times a second.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::common::speaks_utf8;
use super::output::say;
use engine::drive;
use engine::drive::Moment;
use engine::figures::{per_s, thousands, time};
use engine::plan::{Limit, Plan};
use report::screen::ascii;

/// Draws to stderr if that is a terminal.
pub(crate) struct RunProgress<'a> {
    plan: &'a Plan,
    interrupted: &'a AtomicBool,
    bar: Option<ProgressBar>,
}

/// The resolution of the bar.
const STEPS: u64 = 10_000;

impl<'a> RunProgress<'a> {
    pub(crate) fn start(plan: &'a Plan, interrupted: &'a AtomicBool) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(STEPS);
            let style = ProgressStyle::with_template("{wide_bar} {prefix}\n{msg}");
            let style = style.expect("a valid template");
            bar.set_style(match speaks_utf8() {
                true => style,
                false => style.progress_chars("##-"),
            });
            bar.set_prefix("starting");
            bar.tick();
            bar
        });
        RunProgress {
            plan,
            interrupted,
            bar,
        }
    }

    /// Shows the progress at a moment of the run.
    pub(crate) fn on(&self, moment: Moment<'_>) {
        let Some(bar) = self.bar.as_ref().filter(|_| !self.is_interrupted()) else {
            return;
        };
        match moment {
            Moment::Idle(open) => {
                let (open, all) = (thousands(open as u64), thousands(self.plan.idle as u64));
                bar.set_prefix(format!("{open} of {all} idle connections"));
            }
            Moment::Begin(_) => {}
            Moment::Tick(progress) => {
                let (share, left) = stand(self.plan, progress);
                let shown = |text: String| match speaks_utf8() {
                    true => text,
                    false => ascii(&text),
                };
                bar.set_message(shown(figures(progress)));
                bar.set_prefix(shown(left));
                bar.set_position((share.clamp(0.0, 1.0) * STEPS as f64) as u64);
            }
            Moment::End(_) => {
                bar.set_position(STEPS);
                bar.set_prefix("waiting for requests in flight");
            }
        }
    }

    /// Removes the bar. After an interruption it stays: the terminal has probably printed `^C` at the cursor,
    /// so the position of the bar is unknown.
    pub(crate) fn clear(self) {
        match &self.bar {
            Some(bar) if self.is_interrupted() => {
                bar.set_draw_target(ProgressDrawTarget::hidden());
                say!();
            }
            Some(bar) => bar.finish_and_clear(),
            None => {}
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }
}

/// The completed share of the run, 0 to 1, and what is left.
fn stand(plan: &Plan, progress: &drive::Tick<'_>) -> (f64, String) {
    let counted = progress.elapsed.saturating_sub(plan.warmup);
    let elapsed = progress.elapsed.as_secs_f64();
    let of_time = |limit: Duration| {
        let whole = (plan.warmup + limit).as_secs_f64();
        (elapsed / whole, (whole - elapsed).max(0.0).ceil())
    };
    let (share, left) = match plan.limit {
        Limit::For(duration) => {
            let (share, seconds) = of_time(duration);
            (share, format!("{seconds:.0} s left"))
        }
        Limit::Until(precision) => {
            let (share, seconds) = of_time(precision.at_most);
            let (percentile, percent) = (precision.percentile, precision.within * 100.0);
            let left = format!("until p{percentile}±{percent}%, at most {seconds:.0} s");
            (share, left)
        }
        Limit::Requests(requests) => {
            let (done, all) = (progress.responses, requests);
            let left = format!("{} of {}", thousands(done), thousands(all));
            (done as f64 / all as f64, left)
        }
    };
    match counted.is_zero() && !plan.warmup.is_zero() {
        true => (share, "warming up".to_owned()),
        false => (share, left),
    }
}

/// `152,004/s   p50 410 µs   p99 1.20 ms   errors 0   connections 64`
fn figures(progress: &drive::Tick<'_>) -> String {
    let seconds = progress.interval.as_secs_f64();
    let rate = match seconds > 0.0 {
        true => per_s((progress.interval_responses as f64 / seconds).round()),
        false => "-".to_owned(),
    };
    let response = progress.response;
    let percentile = |p| match response.is_empty() {
        true => "-".to_owned(),
        false => time(response.value_at_percentile(p) as f64 / 1e3),
    };
    // In columns of fixed width, so that the figures do not jump.
    format!(
        "{rate:>9}/s   p50 {:<7}   p99 {:<7}   errors {:<5}   connections {}",
        percentile(50.0),
        percentile(99.0),
        thousands(progress.errors),
        thousands(progress.connections_open)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::plan::Precision;
    use engine::record::{latency_histogram, record_ns};

    fn shown(limit: Limit, warmup_s: u64, elapsed_ms: u64) -> (f64, String, String) {
        let mut response = latency_histogram();
        for ms in 1..=100 {
            record_ns(&mut response, ms * 1_000_000);
        }
        let progress = drive::Tick {
            elapsed: Duration::from_millis(elapsed_ms),
            interval: Duration::from_millis(250),
            interval_responses: 1_250,
            live: drive::Live::default(),
            responses: 25_000,
            errors: 3,
            connections_open: 64,
            response: &response,
        };
        let mut plan = Plan::new("127.0.0.1:80".parse().unwrap(), Vec::new());
        plan.limit = limit;
        plan.warmup = Duration::from_secs(warmup_s);
        let (share, left) = stand(&plan, &progress);
        (share, left, figures(&progress))
    }

    #[test]
    fn what_is_left() {
        let ten = Limit::For(Duration::from_secs(10));
        let until = Limit::Until(Precision {
            percentile: 99.9,
            within: 0.05,
            at_most: Duration::from_secs(60),
        });
        for (limit, warmup_s, elapsed_ms, share, left) in [
            (ten, 0, 0, 0.0, "10 s left"),
            (ten, 0, 2_500, 0.25, "8 s left"),
            (ten, 0, 11_000, 1.1, "0 s left"),
            (ten, 2, 600, 0.05, "warming up"),
            (ten, 2, 6_000, 0.5, "6 s left"),
            (until, 0, 15_000, 0.25, "until p99.9±5%, at most 45 s"),
            (
                Limit::Requests(100_000),
                0,
                15_000,
                0.25,
                "25,000 of 100,000",
            ),
        ] {
            let (found, text, _) = shown(limit, warmup_s, elapsed_ms);
            assert!((found - share).abs() < 1e-9, "{found} for {share}");
            assert_eq!(text, left);
        }
    }

    #[test]
    fn figures_fit_a_terminal() {
        let (_, _, figures) = shown(Limit::Requests(1), 0, 1);
        let expected = "    5,000/s   p50 50.0 ms   p99 99.0 ms   errors 3       connections 64";
        assert_eq!(figures, expected);
        assert!(figures.chars().count() < 80);
    }
}
