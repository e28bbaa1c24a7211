//! One run as text for a terminal of 80 columns; it fits one screen.

use std::fmt::Write as _;

use anstyle::AnsiColor;

use super::format::text::WIDTH as COLUMNS;
use super::spectrum;
use engine::fairness::Fairness;
use engine::figures::{bytes, count, per_s, percent, thousands, time};
use engine::latency::{Latency, TOO_FEW, half_width, interval, percentile};
use engine::plan::{Close, Limit, Pace};
use engine::record::Unsolicited;
use engine::verdict::Status;
use lab::run::Run;

/// The outcome of a run. It has colours; the caller removes them where they are not wanted.
pub fn text(run: &Run<'_>) -> String {
    let mut page = Page::default();
    asked(&mut page, run);
    page.gap();
    counts(&mut page, run);
    page.gap();
    latency(&mut page, run);
    page.gap();
    let spectrum = match run.outcome.is_cut_short() {
        true => Vec::new(),
        false => spectrum::draw(&run.outcome.record.response),
    };
    for line in &spectrum {
        page.line(line);
    }
    if !spectrum.is_empty() {
        page.gap();
    }
    faults(&mut page, run);
    costs(&mut page, run);
    verdict(&mut page, run);
    page.0
}

/// The same for a terminal that shows only ASCII.
pub fn ascii(text: &str) -> String {
    let text = text.replace('µ', "u").replace('±', "+-").replace('·', ".");
    text.chars().map(spectrum::ascii).collect()
}

/// Where the figures of [`Page::fact`] begin.
const NAMES: usize = 15;
/// A space at which lines do not break.
const NO_BREAK: char = '\u{a0}';

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn gap(&mut self) {
        self.line("");
    }

    /// Wrapped text; it does not break at [`NO_BREAK`].
    fn wrapped(&mut self, first: &str, rest: &str, text: &str) {
        let options = textwrap::Options::new(COLUMNS)
            .initial_indent(first)
            .subsequent_indent(rest)
            // An option that is broken cannot be copied.
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        self.line(&textwrap::fill(text, options).replace(NO_BREAK, " "));
    }

    /// A name, its figure, and what there is to say about it.
    fn fact(&mut self, name: &str, figure: &str, more: &str) {
        let first = format!("{name:<NAMES$}{figure:>12}   ");
        match more {
            "" => self.line(first.trim_end()),
            more => self.wrapped(&first, &" ".repeat(NAMES + 15), more),
        }
    }

    /// A name, and what there is to say about it.
    fn note(&mut self, name: &str, text: &str) {
        self.wrapped(&format!("{name:<NAMES$}"), &" ".repeat(NAMES), text);
    }
}

/// The target and the load.
fn asked(page: &mut Page, run: &Run<'_>) {
    let url = match run.urls {
        [] => String::new(),
        [url] => url.clone(),
        [first, rest @ ..] => format!("{first} and {} more in turn", rest.len()),
    };
    let whom = match run.server {
        Some(server) => format!("{} at {url}", with_arguments(server, run.server_args)),
        None => url,
    };
    page.wrapped("", "  ", &whom);
    page.wrapped("", "", &workload(run));
    if run.outcome.ended_in_warmup() {
        page.line("stopped by the user during the warm-up: nothing was counted");
    } else if run.outcome.interrupted {
        let took = match run.outcome.is_cut_short() {
            true => time(run.outcome.duration.as_secs_f64() * 1e6),
            false => format!("{:.1} s", run.outcome.duration.as_secs_f64()),
        };
        page.line(&format!("stopped early by the user after {took}"));
    }
}

/// A server and its arguments.
pub fn with_arguments(server: &str, arguments: &[String]) -> String {
    let words = [server]
        .into_iter()
        .chain(arguments.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

/// The load, in a sentence.
pub fn workload(run: &Run<'_>) -> String {
    let (plan, outcome) = (run.plan, run.outcome);
    let mut parts = match plan.pace {
        Pace::Closed => vec!["closed loop".to_owned()],
        Pace::Constant(rate) => vec![format!("open loop, constant {}/s", per_s(rate.per_s()))],
        Pace::Poisson(rate) => vec![format!(
            "open loop, Poisson {}/s (seed {})",
            per_s(rate.per_s()),
            plan.seed
        )],
    };
    let up_to = if run.is_open_loop() { "up to " } else { "" };
    let connections = count(plan.connections as u64, "connection");
    let idle = match plan.idle {
        0 => String::new(),
        idle => format!(" + {} idle", thousands(idle as u64)),
    };
    parts.push(format!("{up_to}{connections}{idle}"));
    parts.push(count(plan.threads as u64, "thread"));
    parts.push(match plan.life.requests() {
        0 => "keep-alive".to_owned(),
        n => format!("{} on each", count(n, "request")),
    });
    if plan.pipeline > 1 {
        parts.push(format!("{} in flight on each", plan.pipeline));
    }
    if plan.server_closes {
        parts.push("closed by the server".to_owned());
    }
    if plan.close == Close::Rst {
        parts.push("connections are reset, not closed".to_owned());
    }
    if let Limit::Until(precision) = plan.limit {
        let most = plan_seconds(precision.at_most.as_secs_f64());
        parts.push(format!(
            "until p{}±{} is known, {most} at most",
            precision.percentile,
            percent(precision.within)
        ));
    }
    let mut text = parts.join(", ");
    let seconds = outcome.duration.as_secs_f64();
    let took = match plan.limit {
        Limit::For(_) => "",
        Limit::Requests(_) | Limit::Until(_) => "took ",
    };
    let exact = match seconds {
        0.01.. | 0.0 => format!("{seconds:.2} s"),
        _ => time(seconds * 1e6),
    };
    write!(text, ", {took}{exact}").expect("writing to a String cannot fail");
    if !plan.warmup.is_zero() {
        write!(
            text,
            " after {} of warm-up ({} not counted)",
            plan_seconds(plan.warmup.as_secs_f64()),
            count(outcome.record.counts.warmup_requests, "request")
        )
        .expect("writing to a String cannot fail");
    }
    text
}

/// Rates and counts.
fn counts(page: &mut Page, run: &Run<'_>) {
    let record = &run.outcome.record;
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), per_s);
    page.fact("requests/s", &rate(run.requests_per_s()), &answered(run));
    page.fact(
        "connections/s",
        &rate(run.connections_per_s()),
        &format!(
            "{} opened, at most {} at once",
            thousands(record.counts.connections_opened),
            thousands(record.counts.connections_open_max)
        ),
    );
    if let Some(idle) = &run.outcome.idle {
        let asked = run.plan.idle as u64;
        let what = match (idle.served < asked, idle.closed_by_server) {
            (true, _) => format!("of {} connections were served", thousands(asked)),
            (false, 0) => "connections, served once, all open to the end".to_owned(),
            (false, n) => format!(
                "connections, served once, {} closed by the server",
                thousands(n)
            ),
        };
        page.fact("idle", &thousands(idle.served), &what);
    }
    let mut came = vec![
        ("responses", record.counts.responses),
        ("good", record.counts.good),
    ];
    let left = [
        ("in flight", record.counts.in_flight_at_end),
        ("unsent", record.counts.unsent),
    ];
    came.extend(left.into_iter().filter(|(_, count)| *count > 0));
    let came = came
        .iter()
        .map(|(name, count)| together(&format!("{name} {}", thousands(*count))));
    let came: Vec<_> = came.collect();
    page.fact(
        "requests",
        &thousands(record.counts.requests),
        &came.join(", "),
    );
    if record.counts.lower_bounds > 0 {
        page.fact(
            "lower bounds",
            &thousands(record.counts.lower_bounds),
            "never answered; counted with the time they waited",
        );
    }
    page.fact("received", &bytes(record.counts.bytes_received), "");
}

/// The rate asked for, and answers in the measured time that belong to the warm-up.
fn answered(run: &Run<'_>) -> String {
    let record = &run.outcome.record;
    let mut parts = Vec::new();
    if let Some(rate) = run.plan.pace.rate() {
        parts.push(format!("{} asked for", per_s(rate.per_s())));
    }
    if run.outcome.is_too_short() {
        parts.push("the run was too short for a rate".to_owned());
    } else if run.is_open_loop()
        && 20 * record.counts.answered_of_warmup > record.counts.answered_in_window
    {
        // A few were in flight when the warm-up was over, as a few are at the end.
        parts.push(format!(
            "{} of {} answers in that time are to warm-up requests",
            thousands(record.counts.answered_of_warmup),
            thousands(record.counts.answered_in_window)
        ));
    }
    parts.join("; ")
}

/// A table of percentiles, and their intervals.
fn latency(page: &mut Page, run: &Run<'_>) {
    let record = &run.outcome.record;
    if run.outcome.is_cut_short() {
        page.line("latency        not shown: the run was stopped too soon");
        return;
    }
    if record.response.is_empty() {
        page.line("latency        nothing was answered");
        return;
    }
    page.line(&format!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "latency", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    ));
    for (name, histogram) in record.histograms() {
        let name = match name {
            "lag_own" => "own lag",
            "first_byte" => "first byte",
            name => name,
        };
        page.line(&row(name, &Latency::of(histogram)));
    }
    page.note("95% intervals", &intervals(run));
    if let Limit::Until(precision) = run.plan.limit {
        let p = precision.percentile;
        let half = half_width(&record.response, run.n_effective(), p);
        let known = match half {
            Some(half) => format!("p{p} is known to ±{}", percent(half)),
            None => format!("p{p} has no upper bound yet"),
        };
        let asked = percent(precision.within);
        page.note("precision", &format!("{known}, asked for ±{asked}"));
    }
}

fn row(name: &str, latency: &Latency) -> String {
    let value = |value: Option<f64>| value.map_or("-".to_owned(), time);
    let mut row = format!("{name:<10} {:>8}", value(latency.mean));
    for percentile in [
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p99_9,
        latency.p99_99,
    ] {
        let text = percentile.map_or_else(|| TOO_FEW.to_owned(), time);
        write!(row, " {text:>8}").expect("writing to a String cannot fail");
    }
    format!("{row} {:>8}", value(latency.max))
}

/// `p50 1.21 to 1.23 ms, p99 3.10 to 3.52 ms, effective n 4,231`.
fn intervals(run: &Run<'_>) -> String {
    let response = &run.outcome.record.response;
    let n_effective = run.n_effective();
    let mut parts = Vec::new();
    for p in [50.0, 99.0] {
        if percentile(response, p).is_none() {
            continue;
        }
        let (low, high) = interval(response, n_effective, p);
        parts.push(match high.map(|high| (time(low), time(high))) {
            None => format!("p{p} {} or more", time(low)),
            Some((low, high)) => match (low.split_once(' '), high.split_once(' ')) {
                (Some((number, unit)), Some((_, same))) if unit == same => {
                    format!("p{p} {number} to {high}")
                }
                _ => format!("p{p} {low} to {high}"),
            },
        });
    }
    parts.push(format!("effective n {}", thousands(n_effective as u64)));
    parts.join(", ")
}

/// What the server sent on idle connections.
fn unsolicited(page: &mut Page, unsolicited: &Unsolicited) {
    if unsolicited.count() == 0 {
        return;
    }
    let mut parts: Vec<_> = (unsolicited.status.iter())
        .map(|(status, &count)| (status.to_string(), count))
        .collect();
    let others = [
        ("empty lines", unsolicited.empty_lines),
        ("resets", unsolicited.resets),
        ("other bytes", unsolicited.other),
    ];
    let others = others.into_iter().filter(|(_, count)| *count > 0);
    parts.extend(others.map(|(name, count)| (name.to_owned(), count)));
    let parts: Vec<_> = (parts.iter())
        .map(|(name, count)| together(&format!("{name}: {}", thousands(*count))))
        .collect();
    let more = match &unsolicited.misread {
        Some(misread) => format!(" ({misread})"),
        None => String::new(),
    };
    page.fact(
        "unsolicited",
        &thousands(unsolicited.count()),
        &format!(
            "on idle connections, not counted as errors: {}{more}",
            parts.join("; ")
        ),
    );
}

/// Errors, and how evenly connections were served.
fn faults(page: &mut Page, run: &Run<'_>) {
    let record = &run.outcome.record;
    if record.errors.is_empty() {
        page.line("errors         none");
    }
    for ((phase, kind), count) in &record.errors {
        page.fact("errors", &thousands(*count), &format!("{phase}: {kind}"));
    }
    if record.counts.close_ignored > 0 {
        page.fact(
            "close ignored",
            &thousands(record.counts.close_ignored),
            "connections that the server was asked to close and kept open",
        );
    }
    unsolicited(page, &record.unsolicited);
    let statuses = record.status.iter();
    let statuses: Vec<_> = statuses
        .map(|(status, count)| together(&format!("{status}: {}", thousands(*count))))
        .collect();
    if !statuses.is_empty() {
        page.note("status", &statuses.join("; "));
    }
    let fairness = Fairness::of(run.outcome);
    if let Some(spread) = &fairness.requests_per_connection
        && record.counts.responses > 0
    {
        let range = match spread.min == spread.max {
            true => "responses each".to_owned(),
            false => format!("to {} responses", thousands(spread.max)),
        };
        let jain = fairness.jain;
        page.fact(
            "by connection",
            &thousands(spread.min),
            &format!(
                "{range}; {} never served; Jain {}",
                thousands(fairness.connections_never_served),
                jain.map_or("-".to_owned(), |jain| format!("{jain:.3}"))
            ),
        );
    }
}

/// What it cost the server and the generator.
fn costs(page: &mut Page, run: &Run<'_>) {
    let outcome = run.outcome;
    let cpu = |cpu_s: f64| match outcome.record.counts.answered_in_window {
        _ if outcome.is_too_short() => "-".to_owned(),
        0 => "-".to_owned(),
        responses => time(cpu_s * 1e6 / responses as f64),
    };
    if let Some(cost) = run.server_cost {
        page.fact(
            "server CPU",
            &cpu(cost.cpu_s()),
            &format!(
                "per request; {}; at most {}",
                bytes(cost.rss_bytes_max),
                count(cost.threads_max, "thread")
            ),
        );
    }
    if let Some(idle) = run.server_cost.and_then(|cost| cost.idle.as_ref())
        && let Some(server) = idle.bytes_per_connection
        && let Some(kernel) = idle.kernel_bytes_per_connection
    {
        let kernel = signed_bytes(kernel);
        page.fact(
            "idle memory",
            &signed_bytes(server),
            &format!("for each idle connection; kernel stacks and page tables: {kernel}"),
        );
    }
    let client = &outcome.client;
    let mut about = vec!["per request".to_owned()];
    if let Some(busy) = client.busiest_thread {
        about.push(format!("busiest thread {}", percent(busy)));
    }
    if let Some(waited) = client.longest_waiting_thread.filter(|it| *it >= 0.001) {
        about.push(format!("waited for a CPU {}", percent(waited)));
    }
    if client.spin_s >= 0.005 {
        about.push(format!("spun {:.2} s", client.spin_s));
    }
    page.fact(
        "client CPU",
        &cpu(client.cpu_s() - client.spin_s),
        &about.join("; "),
    );
    if let Some(quota) = client.contention.cpu_quota {
        let stopped = match (
            client.contention.throttled_times,
            client.contention.throttled_s,
        ) {
            (Some(times), Some(seconds)) if times > 0 => format!(
                "; stopped {}, {} in all",
                count(times, "time"),
                time(seconds * 1e6)
            ),
            _ => String::new(),
        };
        let text = format!("CPUs that the control group may use{stopped}");
        page.fact("CPU quota", &format!("{quota}"), &text);
    }
    if let Some(steal) = outcome.steal.filter(|steal| *steal >= 0.001) {
        let text = "of all CPU time went to other guests of this host";
        page.fact("steal", &percent(steal), text);
    }
}

fn verdict(page: &mut Page, run: &Run<'_>) {
    let verdict = run.verdict;
    let style = match verdict.status {
        Status::Valid => AnsiColor::Green.on_default(),
        Status::ClientBound => AnsiColor::Yellow.on_default().bold(),
        Status::Invalid => AnsiColor::Red.on_default().bold(),
    };
    let status = verdict.status.as_str();
    page.line(&format!("{:<NAMES$}{style}{status}{style:#}", "verdict"));
    let bullet = |mark: &str| format!("{:NAMES$}{mark}", "");
    for (index, reason) in verdict.reasons.iter().enumerate() {
        page.wrapped(&bullet("- "), &bullet("  "), reason);
        if let Some(advice) = verdict.advice.get(index).filter(|text| !text.is_empty()) {
            page.wrapped(&bullet("  -> "), &bullet("     "), advice);
        }
    }
    for note in &verdict.notes {
        page.note("note", note);
    }
}

/// Text that is not broken into lines.
fn together(text: &str) -> String {
    text.replace(' ', &NO_BREAK.to_string())
}

/// `10 s`, `0.25 s`.
fn plan_seconds(seconds: f64) -> String {
    format!("{} s", (seconds * 1000.0).round() / 1000.0)
}

/// Memory may shrink.
fn signed_bytes(n: f64) -> String {
    let sign = if n <= -0.5 { "-" } else { "" };
    format!("{sign}{}", bytes(n.abs().round() as u64))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anstream::adapter::strip_str;

    use super::*;
    use engine::plan::{ConnectionLife, Precision};
    use engine::record::Idle;
    use engine::response::{Misread, Rule};
    use lab::fixture::Example;
    use subject::process::IdleCost;

    /// The text of a run, which must fit a screen.
    fn screen(example: &Example) -> String {
        let text = strip_str(&text(&example.run())).to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
            assert_eq!(line, line.trim_end(), "{line:?}");
        }
        assert!(!text.contains("\n\n\n"), "{text}");
        text
    }

    #[test]
    fn closed_and_valid() {
        let text = screen(&Example::closed());
        assert!(text.lines().count() <= 34, "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn open_with_queueing_and_errors() {
        insta::assert_snapshot!(screen(&Example::open_with_faults()));
    }

    #[test]
    fn new_connections_that_are_reset() {
        insta::assert_snapshot!(screen(&Example::new_connections()));
    }

    #[test]
    fn what_nobody_asked_for() {
        let mut example = Example::closed();
        let unsolicited = &mut example.outcome.record.unsolicited;
        unsolicited.status.extend([(408, 1_234), (503, 5)]);
        (unsolicited.empty_lines, unsolicited.resets) = (2, 3);
        unsolicited.other = 7;
        let alert = b"\x15\x03\x03\0\x02\x01\0";
        unsolicited.misread = Some(Misread::new(Rule::StatusLine, alert));
        let text = screen(&example);
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let line = "unsolicited 1,251 on idle connections, not counted as errors: 408: 1,234; 503: 5; empty lines: 2; \
                    resets: 3; other bytes: 7 (a TLS alert, \"\\x15\\x03\\x03\\x00\\x02\\x01\\x00\")";
        assert!(words.join(" ").contains(line), "{text}");
    }

    #[test]
    fn nothing_answered() {
        insta::assert_snapshot!(screen(&Example::unanswered()));
    }

    #[test]
    fn the_verdict_stands_out() {
        let text = text(&Example::unanswered().run());
        assert!(text.contains("\u{1b}[31minvalid\u{1b}[0m\n"), "{text:?}");
    }

    #[test]
    fn ended_early() {
        let mut example = Example::closed();
        example.outcome.interrupted = true;
        example.outcome.duration = Duration::from_millis(3_210);
        let text = screen(&example);
        assert!(
            text.contains("stopped early by the user after 3.2 s"),
            "{text}"
        );
    }

    #[test]
    fn ended_too_soon_to_say_anything() {
        for (duration, line) in [
            (Duration::ZERO, "stopped by the user during the warm-up"),
            (
                Duration::from_millis(3),
                "stopped early by the user after 3.00 ms",
            ),
        ] {
            let mut example = Example::closed();
            example.outcome.interrupted = true;
            example.outcome.duration = duration;
            example.outcome.client.has_no_shares();
            let text = screen(&example);
            assert!(text.contains(line), "{text}");
            assert!(text.contains("latency        not shown"), "{text}");
            for figure in ["p99", "busiest", "%"] {
                assert!(!text.contains(figure), "{figure}: {text}");
            }
            let run = example.run();
            assert_eq!(
                (run.requests_per_s(), run.connections_per_s()),
                (None, None)
            );
            assert_eq!((run.response(), run.service()), (None, None));
        }
    }

    #[test]
    fn what_is_left_over_from_the_warm_up_is_said() {
        let mut example = Example::open_with_faults();
        let record = &mut example.outcome.record;
        record.counts.answered_in_window = 2_200;
        record.counts.answered_of_warmup = 2_150;
        let text = screen(&example);
        assert!(text.contains("requests/s              220"), "{text}");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = "2,150 of 2,200 answers in that time are to warm-up requests";
        assert!(text.contains(said), "{text}");
        example.outcome.record.counts.answered_of_warmup = 64;
        assert!(!screen(&example).contains("to requests of the warm-up"));
    }

    #[test]
    fn until_it_is_known() {
        let mut example = Example::closed();
        let precision = |percentile| Precision {
            percentile,
            within: 0.05,
            at_most: Duration::from_secs(60),
        };
        example.plan.limit = Limit::Until(precision(99.0));
        let text = screen(&example);
        assert!(text.contains("until p99±5% is known, 60 s"), "{text}");
        assert!(
            text.contains("p99 is known to ±0.5%, asked for ±5%"),
            "{text}"
        );
        example.plan.limit = Limit::Until(precision(99.9999));
        let text = screen(&example);
        assert!(text.contains("p99.9999 has no upper bound yet"), "{text}");
    }

    /// Whatever was asked for stands at the top.
    #[test]
    fn what_was_asked_for() {
        let mut example = Example::open_with_faults();
        for expected in [
            "http://127.0.0.1:8000/ and 1 more in turn",
            "open loop, Poisson 5,000/s (seed 3141592), up to 64 connections, 2 threads",
        ] {
            let text = screen(&example);
            assert!(text.contains(expected), "{text}");
        }
        example.plan.pace = Pace::Constant("0.5/s".parse().unwrap());
        example.plan.connections = 1;
        example.plan.life = ConnectionLife::Requests(1);
        example.plan.server_closes = true;
        let text = workload(&example.run());
        let expected = "open loop, constant 0.50/s, up to 1 connection, 2 threads, \
                        1 request on each, closed by the server, 10.00 s after 1 s of warm-up";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn idle_connections() {
        let mut example = Example::closed();
        example.server_args = ["--idle-timeout", "10m"].map(str::to_owned).to_vec();
        example.plan.idle = 10_000;
        let cost = example.cost.as_mut().unwrap();
        cost.idle = Some(IdleCost {
            bytes_per_connection: Some(4_700.4),
            kernel_bytes_per_connection: Some(-100.0),
            memory: Vec::new(),
        });
        for (served, closed_by_server, figures) in [
            (
                10_000,
                0,
                "idle 10,000 connections, served once, all open to the end",
            ),
            (
                10_000,
                9_998,
                "idle 10,000 connections, served once, 9,998 closed by the server",
            ),
            (1, 0, "idle 1 of 10,000 connections were served"),
        ] {
            example.outcome.idle = Some(Idle {
                served,
                closed_by_server,
                ..Idle::default()
            });
            let text = screen(&example);
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for expected in [
                "event-loop --idle-timeout 10m at http://",
                "closed loop, 64 connections + 10,000 idle, 1 thread",
                "idle memory 4.6 KiB for each idle connection; kernel stacks and page tables: -100 B",
                figures,
            ] {
                assert!(text.contains(expected), "{expected}: {text}");
            }
        }
        // Where it is not known, nothing is said of it.
        example.cost.as_mut().unwrap().idle = Some(IdleCost::default());
        assert!(!screen(&example).contains("idle memory"));
    }

    /// Numbers and words as long as they come.
    #[test]
    fn long_lines_are_broken() {
        let mut example = Example::open_with_faults();
        example.urls[0] = format!("http://127.0.0.1:8000/{}", "long".repeat(30));
        let record = &mut example.outcome.record;
        for count in [
            &mut record.counts.requests,
            &mut record.counts.responses,
            &mut record.counts.good,
            &mut record.counts.in_flight_at_end,
            &mut record.counts.unsent,
            &mut record.counts.lower_bounds,
            &mut record.counts.close_ignored,
            &mut record.counts.connections_opened,
        ] {
            *count = 123_456_789_012;
        }
        for status in 200..230 {
            record.status.insert(status, 1_234_567);
        }
        let text = screen(&example);
        assert!(text.contains("unsent 123,456,789,012"), "{text}");
    }

    #[test]
    fn in_ascii_for_terminals_that_know_nothing_else() {
        for example in [Example::closed(), Example::open_with_faults()] {
            let text = ascii(&screen(&example));
            assert!(text.is_ascii(), "{text}");
            assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        }
    }
}
