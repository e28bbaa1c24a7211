//! A search for the largest rate within an objective, as text: a row for each step while it goes on,
//! then the result.

use std::fmt::Write as _;
use std::time::Duration;

use super::format::text::WIDTH as COLUMNS;
use engine::figures::{count, percent_set, thousands};
use engine::plan::{Close, ConnectionLife, Pace};
use lab::slo::{Ending, Found, Held, Report, Search, Step, Value, rate_text};

/// Objectives that have a column each; of more, a row shows the one closest to its limit.
const VALUES_MAX: usize = 2;

/// The objective, and the heads of the columns.
pub fn head(search: &Search, target: &str) -> String {
    let slo = search.slo();
    let plan = search.plan();
    let connections = count(plan.connections as u64, "connection");
    let threads = count(plan.threads as u64, "thread");
    let mut text = paragraph(&format!("the largest rate with {slo} at {target}"));
    let arrivals = match search.arrivals() {
        Pace::Poisson(_) => "Poisson",
        Pace::Constant(_) | Pace::Closed => "constant",
    };
    let precision = percent_set(search.precision());
    let life = match plan.life {
        ConnectionLife::KeepAlive => String::new(),
        ConnectionLife::Requests(n) => format!(", {} on each", count(n, "request")),
    };
    let idle = match plan.idle {
        0 => String::new(),
        idle => format!(" + {} idle", thousands(idle as u64)),
    };
    let close = match plan.close {
        Close::Fin => "",
        Close::Rst => "; connections are reset, not closed (--close rst)",
    };
    text += &paragraph(&format!(
        "open loop, {arrivals} arrivals, at most {connections}{idle}{life}, {threads}, to {precision}{close}"
    ));
    text.push('\n');
    write!(text, "step  phase   {:>10} {:>10}", "rate/s", "achieved/s").expect(INFALLIBLE);
    match slo.named().len() {
        ..=VALUES_MAX => {
            for objective in slo.named() {
                write!(text, " {:>8}", objective.measure.to_string()).expect(INFALLIBLE);
            }
        }
        _ => write!(text, " {:>15}", "closest").expect(INFALLIBLE),
    }
    text + "  result    verdict\n"
}

/// A step, the `number`th; below it why it was not met, where the columns do not show it.
pub fn row(search: &Search, number: usize, step: &Step) -> String {
    let mut text = format!(
        "{number:>4}  {:<7} {:>10} {:>10}",
        step.phase.as_str(),
        rate_text(step.rate_per_s),
        step.achieved_per_s.map_or("-".to_owned(), rate_text)
    );
    match search.slo().named().len() {
        // The default one about errors comes after those that were named.
        named @ ..=VALUES_MAX => {
            for value in &step.values[..named] {
                write!(text, " {:>8}", value.text()).expect(INFALLIBLE);
            }
        }
        _ => {
            let share = Value::share_of_limit;
            let closest = (step.values.iter()).max_by(|a, b| share(a).total_cmp(&share(b)));
            let closest = closest.map_or("-".to_owned(), with_name);
            write!(text, " {closest:>15}").expect(INFALLIBLE);
        }
    }
    let result = match step.held {
        Held::Met => "met",
        Held::Missed => "missed",
        Held::Limited => "generator",
    };
    writeln!(text, "  {result:<9} {}", step.verdict.as_str()).expect(INFALLIBLE);
    let named = &step.values[..search.slo().named().len()];
    match &step.reason {
        Some(reason) if step.held == Held::Limited || named.iter().all(Value::is_met) => {
            let options = textwrap::Options::new(COLUMNS)
                .initial_indent(INDENT)
                .subsequent_indent(INDENT);
            text + &textwrap::fill(reason, options) + "\n"
        }
        _ => text,
    }
}

/// The result in a sentence, then why no higher rate was found.
pub fn conclusion<C>(search: &Search, report: &Report<C>) -> String {
    let slo = search.slo();
    let found = match &report.ending {
        Ending::Found(found) => found,
        Ending::Interrupted => {
            return paragraph(&match report.rate_per_s() {
                Some(rate) => format!(
                    "interrupted; {slo} was met at {}/s, which is not confirmed",
                    rate_text(rate)
                ),
                None => format!("interrupted before {slo} was met at any rate"),
            });
        }
        Ending::Unreachable(rate, reason) => {
            return paragraph(&format!("not reached at {}/s: {reason}", rate_text(*rate)));
        }
    };
    let mut text = paragraph(&answer(search, report, found));
    let Some((rate, held)) = found.not_met else {
        return text;
    };
    // The last run at that rate with the result that decided.
    let last = |step: &&Step| step.rate_per_s == rate && step.held == held;
    let Some(step) = report.steps.iter().rev().find(last) else {
        return text;
    };
    if let Some(reason) = &step.reason {
        text += &paragraph(&format!("At {}/s: {reason}.", rate_text(rate)));
    }
    if held == Held::Missed && step.wanted_connections {
        let connections = search.plan().connections;
        text += &paragraph(&format!(
            "At that rate requests spent most of their time waiting for a free connection. If the server \
             can answer more than {connections} at once, raise -c."
        ));
    }
    if held == Held::Limited {
        let advice =
            "The server may do more: give the generator more threads (-t), or its own machine.";
        text += &paragraph(advice);
    }
    text
}

fn answer<C>(search: &Search, report: &Report<C>, found: &Found) -> String {
    let slo = search.slo();
    let limited = found.limited_by_generator();
    let longest = seconds(search.longest());
    let Some(rate) = found.rate_per_s else {
        let floor = rate_text(search.floor_per_s());
        let below = match search.floor_per_s() {
            lab::slo::FLOOR_PER_S => "",
            _ => "; a longer -d can test lower rates",
        };
        return match limited {
            true => format!(
                "nothing can be said of {slo}: the generator was the limit even at {floor}/s{below}"
            ),
            false => format!("{slo} is not met, not even at {floor}/s{below}"),
        };
    };
    let text = rate_text(rate);
    if !found.confirmed {
        return format!(
            "not confirmed: {slo} was met at {text}/s for {}, but in no run of {longest} at that rate or \
             a lower one",
            seconds(search.step_duration(rate))
        );
    }
    // The confirming run is the last.
    let values = report.steps.last().map(|step| {
        let named = step.values.iter().take(slo.named().len());
        named.map(with_name).collect::<Vec<_>>().join(", ")
    });
    let confirmed = format!("confirmed over {longest}: {}", values.unwrap_or_default());
    match limited {
        true => format!(
            "{slo} holds up to at least {text}/s: the generator was the limit ({confirmed})"
        ),
        false => format!("{slo} holds up to {text}/s ({confirmed})"),
    }
}

/// `p99 4.10 ms`.
fn with_name(value: &Value) -> String {
    format!("{} {}", value.objective.measure, value.text())
}

/// `10 s`, `1.5 s`.
fn seconds(duration: Duration) -> String {
    let text = format!("{:.1}", duration.as_secs_f64());
    format!("{} s", text.trim_end_matches(".0"))
}

fn paragraph(text: &str) -> String {
    textwrap::fill(text, COLUMNS) + "\n"
}

/// Up to the column of the phases.
const INDENT: &str = "      ";
const INFALLIBLE: &str = "writing to a String cannot fail";

#[cfg(test)]
mod tests {
    use super::*;
    use lab::slo::simulated;
    use lab::slo::simulated::Simulated;

    /// All that is printed.
    fn printed(slo: &str, server: &Simulated) -> String {
        let search = simulated::search(slo);
        let report = server.run(&search);
        let rows = (1..).zip(&report.steps);
        let rows: String = rows.map(|(n, step)| row(&search, n, step)).collect();
        let head = head(&search, "http://127.0.0.1:8000/");
        let text = format!("{head}{rows}\n{}", conclusion(&search, &report));
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "too wide: {line}");
        }
        text
    }

    #[test]
    fn a_search_step_by_step() {
        let server = Simulated {
            stalled: vec![3],
            ..Simulated::default()
        };
        insta::assert_snapshot!(printed("p99<5ms", &server));
    }

    #[test]
    fn a_search_that_the_generator_limits() {
        let server = Simulated {
            generator_per_s: 30_000.0,
            ..Simulated::default()
        };
        insta::assert_snapshot!(printed("p99.99<=5ms,max<50ms", &server));
    }

    #[test]
    fn a_search_for_more_than_fits_in_columns() {
        let slo = "p50<1ms,p99<5ms,p99.9<20ms,errors<1%";
        insta::assert_snapshot!(printed(slo, &Simulated::default()));
    }

    #[test]
    fn what_is_never_met_is_said() {
        for (slo, server, generator, answer) in [
            (
                "p99<5ms",
                20.0,
                1e12,
                "p99<5ms is not met, not even at 44/s; a longer -d can test lower rates\n\
                 At 44/s: only 200 of 440 requests were sent in time.\n\
                 At that rate requests spent most of their time waiting for a free connection. If\n\
                 the server can answer more than 64 at once, raise -c.\n",
            ),
            (
                "p50<5ms",
                0.5,
                1e12,
                "p50<5ms is not met, not even at 1/s\n\
                 At 1/s: only 5 of 10 requests were sent in time.\n",
            ),
            (
                "p99<5ms",
                1e6,
                20.0,
                "nothing can be said of p99<5ms: the generator was the limit even at 44/s; a\n\
                 longer -d can test lower rates\n",
            ),
        ] {
            let server = Simulated {
                capacity_per_s: server,
                generator_per_s: generator,
                ..Simulated::default()
            };
            let text = printed(slo, &server);
            let (_, end) = text.split_once("\n\n").unwrap();
            let (_, end) = end.split_once("\n\n").unwrap();
            assert!(end.starts_with(answer), "{end}");
        }
    }

    #[test]
    fn what_ended_early_is_said() {
        let search = simulated::search("p99<5ms");
        let mut report = Simulated::default().run(&search);
        report.steps.truncate(2);
        report.ending = Ending::Interrupted;
        assert_eq!(
            conclusion(&search, &report),
            "interrupted; p99<5ms was met at 2,000/s, which is not confirmed\n"
        );
        report.steps.clear();
        assert_eq!(
            conclusion(&search, &report),
            "interrupted before p99<5ms was met at any rate\n"
        );
        report.ending = Ending::Unreachable(4000.0, "nobody listens".to_owned());
        assert_eq!(
            conclusion(&search, &report),
            "not reached at 4,000/s: nobody listens\n"
        );
    }

    #[test]
    fn what_long_runs_do_not_confirm_is_not_claimed() {
        let search = simulated::search("p99<5ms");
        let mut report = Simulated::default().run(&search);
        report.ending = Ending::Found(Found {
            rate_per_s: Some(41_200.0),
            confirmed: false,
            not_met: None,
        });
        assert_eq!(
            conclusion(&search, &report),
            "not confirmed: p99<5ms was met at 41,200/s for 2 s, but in no run of 10 s at\n\
             that rate or a lower one\n"
        );
    }
}
