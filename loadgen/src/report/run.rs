//! One run as text for a terminal of 80 columns.

use std::fmt::Write as _;

use crate::json::Fairness;
use crate::latency::{Latency, samples_needed};
use crate::plan::{Limit, Plan};
use crate::record::Outcome;
use crate::target::ServerCost;
use crate::verdict::Verdict;

/// The outcome of a run, some twenty lines.
pub fn text(
    url: &str,
    server: Option<&str>,
    plan: &Plan,
    outcome: &Outcome,
    verdict: &Verdict,
    cost: Option<&ServerCost>,
) -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    let record = &outcome.record;
    let seconds = outcome.duration.as_secs_f64();
    let rate = |count: u64| match seconds > 0.0 {
        true => thousands((count as f64 / seconds).round() as u64),
        false => "-".to_owned(),
    };

    line(&match server {
        Some(server) => format!("{server} at {url}"),
        None => url.to_owned(),
    });
    line(&workload(plan, outcome));
    line("");
    line(&format!("requests/s     {:>12}", rate(record.responses)));
    line(&format!(
        "connections/s  {:>12}",
        rate(record.connections_opened)
    ));
    line(&format!(
        "requests       {:>12}   responses {}, good {}, in flight {}",
        thousands(record.requests),
        thousands(record.responses),
        thousands(record.good),
        thousands(record.in_flight_at_end),
    ));
    line(&format!(
        "received       {:>12}",
        bytes(record.bytes_received)
    ));
    line("");

    line(&format!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "latency", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"
    ));
    for (name, histogram) in [
        ("response", &record.response),
        ("first byte", &record.first_byte),
        ("connect", &record.connect),
    ] {
        let latency = Latency::of(histogram);
        let mut row = format!(
            "{name:<10} {:>8}",
            latency.mean.map_or("-".to_owned(), time)
        );
        for (value, p) in [
            (latency.p50, 50.0),
            (latency.p90, 90.0),
            (latency.p99, 99.0),
            (latency.p99_9, 99.9),
            (latency.p99_99, 99.99),
        ] {
            let text = value.map_or_else(|| format!("n<{}", samples_needed(p)), time);
            write!(row, " {text:>8}").expect("writing to a String cannot fail");
        }
        line(&format!(
            "{row} {:>8}",
            latency.max.map_or("-".to_owned(), time)
        ));
    }
    line("");

    if record.errors.is_empty() {
        line("errors         none");
    }
    for ((phase, kind), count) in &record.errors {
        line(&format!(
            "errors         {:>12}   {phase}: {kind}",
            thousands(*count)
        ));
    }
    for (status, count) in record.status.iter().filter(|(status, _)| **status != 200) {
        line(&format!("status {status}     {:>12}", thousands(*count)));
    }
    let fairness = Fairness::of(outcome);
    if let Some(spread) = &fairness.requests_per_connection {
        line(&format!(
            "by connection  {:>12}   to {} responses; {} never served; Jain {}",
            thousands(spread.min),
            thousands(spread.max),
            fairness.connections_never_served,
            fairness
                .jain
                .map_or("-".to_owned(), |jain| format!("{jain:.3}")),
        ));
    }
    let cpu = |cpu_s: f64| match record.responses {
        0 => "-".to_owned(),
        responses => format!("{:.2} µs", cpu_s * 1e6 / responses as f64),
    };
    if let Some(cost) = cost {
        line(&format!(
            "server CPU     {:>12}   per request; {:.1} MiB; threads at most: {}",
            cpu(cost.cpu_s()),
            cost.rss_bytes_max as f64 / f64::from(1 << 20),
            cost.threads_max
        ));
    }
    let client = &outcome.client;
    line(&format!(
        "client CPU     {:>12}   per request; its busiest thread was busy {:.0}%",
        cpu(client.cpu_user_s + client.cpu_system_s),
        client.busiest_thread * 100.0
    ));
    line(&format!("verdict        {}", verdict.status.as_str()));
    let indent = "               ";
    let options = textwrap::Options::new(COLUMNS)
        .initial_indent(indent)
        .subsequent_indent(indent);
    let reasons = verdict.reasons.iter().map(String::as_str);
    for text in reasons.chain(verdict.advice.iter().map(String::as_str)) {
        line(&textwrap::fill(text, &options));
    }
    out
}

/// Of the terminals that this is made for.
const COLUMNS: usize = 80;

/// What was asked for, in a sentence.
fn workload(plan: &Plan, outcome: &Outcome) -> String {
    let count = |n: u64, one: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{} {one}s", thousands(n)),
    };
    let mut text = format!(
        "closed loop, {}, {}, ",
        count(plan.connections as u64, "connection"),
        count(plan.threads as u64, "thread")
    );
    text.push_str(&match plan.life.requests() {
        0 => "keep-alive".to_owned(),
        n => format!("{} on each", count(n, "request")),
    });
    if plan.pipeline > 1 {
        write!(text, ", {} in flight", plan.pipeline).expect("writing to a String cannot fail");
    }
    let seconds = outcome.duration.as_secs_f64();
    write!(text, ", {seconds:.2} s").expect("writing to a String cannot fail");
    if let (false, Limit::Requests(_)) = (outcome.interrupted, plan.limit) {
        return text;
    }
    if !plan.warmup.is_zero() {
        let warmup = outcome.record.warmup_requests;
        write!(
            text,
            "\nafter {:.2} s of warm-up ({} not counted)",
            plan.warmup.as_secs_f64(),
            count(warmup, "request")
        )
        .expect("writing to a String cannot fail");
    }
    text
}

/// Microseconds with three digits and a unit.
pub(crate) fn time(us: f64) -> String {
    let (value, unit) = match us {
        ..1e3 => (us, "µs"),
        1e3..1e6 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    match value {
        ..10.0 => format!("{value:.2} {unit}"),
        10.0..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// `1,234,567`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (n.max(1).ilog2() / 10).min(4);
    match power {
        0 => format!("{n} B"),
        _ => format!(
            "{:.1} {}",
            n as f64 / f64::from(1 << 10).powi(power as i32),
            UNITS[power as usize]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        for (us, text) in [
            (0.5, "0.50 µs"),
            (12.34, "12.3 µs"),
            (999.0, "999 µs"),
            (1234.0, "1.23 ms"),
            (5_000_000.0, "5.00 s"),
        ] {
            assert_eq!(time(us), text);
        }
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(n), text);
        }
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }
}
