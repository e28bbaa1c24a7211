//! Reports as text: servers as columns, and below them the failures.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::peers::{BEHAVIOURS, Behaviour};
use crate::report::{Levels, Report};
use crate::tally::OfBehaviour;

/// The usual width of a terminal.
const WIDTH: usize = 80;

/// The most servers in one table, which then has 79 columns.
const LABEL_WIDTH: usize = 18;
const SERVER_WIDTH: usize = 11;
const SERVERS_MAX: usize = (WIDTH - LABEL_WIDTH) / (SERVER_WIDTH + 1);

/// The tables, the failures and the verdict.
pub(crate) fn text(reports: &[Report]) -> String {
    let mut out = String::new();
    for some in reports.chunks(SERVERS_MAX) {
        out += &table(some);
        out.push('\n');
    }
    for report in reports.iter().filter(|report| !report.passed) {
        out += &failures(report);
        out.push('\n');
    }
    let (passed, failed): (Vec<&Report>, Vec<&Report>) =
        reports.iter().partition(|report| report.passed);
    for (verdict, of) in [("passed", passed), ("FAILED", failed)] {
        let names: Vec<&str> = of.iter().map(|report| report.server.as_str()).collect();
        if !names.is_empty() {
            out += &wrapped(&format!("{verdict}: {}", names.join(", ")), "");
        }
    }
    out
}

fn table(reports: &[Report]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let names = reports
        .iter()
        .map(|report| at_hyphens(&report.server, SERVER_WIDTH));
    table.add_row([String::new()].into_iter().chain(names));
    let rule = "─".repeat(SERVER_WIDTH);
    let rules = reports.iter().map(|_| rule.clone());
    table.add_row(["─".repeat(LABEL_WIDTH)].into_iter().chain(rules));
    let mut row = |label: &str, cell: &dyn Fn(&Report) -> String| {
        let cells = reports.iter().map(cell);
        table.add_row([label.to_owned()].into_iter().chain(cells));
    };
    row("", &|report| {
        (if report.passed { "passed" } else { "FAILED" }).to_owned()
    });
    row("few at a time", &|report| match report.starves {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "-".to_owned(),
    });
    row("answers", &|report| thousands(report.sum(|of| of.answers)));
    row("lives", &|report| thousands(report.sum(|of| of.lives)));
    row("  gave up", &|report| {
        thousands(report.sum(|of| of.gave_up))
    });
    row("  late themselves", &|report| {
        thousands(report.sum(|of| of.late))
    });
    row("  with a fault", &|report| thousands(report.faults()));
    row("RssAnon KiB early", &|report| {
        memory(report, |memory| thousands(memory.early_kib))
    });
    row("RssAnon KiB late", &|report| {
        memory(report, |memory| thousands(memory.late_kib))
    });
    row("  grown by", &|report| {
        memory(report, |memory| format!("{:+.1}%", memory.growth_percent))
    });
    row("RssAnon KiB quiet", &|report| match report.quiet {
        Some(sample) => thousands(sample.rss_anon_kib),
        None => "-".to_owned(),
    });
    type Of = fn(&Report) -> Levels;
    let levels: [(&str, Of); 2] = [
        ("descriptors before", |report| report.files),
        ("threads before", |report| report.threads),
    ];
    for (before, of) in levels {
        row(before, &|report| thousands(of(report).before));
        row("  most", &|report| thousands(of(report).max));
        row("  when all left", &|report| thousands(of(report).after));
    }
    row("CPU s", &|report| format!("{:.1}", report.cpu_s));
    row("SIGTERM to end, s", &|report| {
        stop(report, |stop| format!("{:.2}", stop.took_s))
    });
    row("  answers", &|report| {
        stop(report, |stop| thousands(stop.answers))
    });
    row("  refused", &|report| {
        stop(report, |stop| thousands(stop.refused))
    });
    for timeout in ["idle", "header", "body", "request", "write", "linger"] {
        let of = |report: &Report| report.counters.as_ref()?["timeouts"][timeout].as_u64();
        if reports.iter().any(|report| of(report).is_some()) {
            row(&format!("timeouts, {timeout}"), &|report| {
                of(report).map_or("-".to_owned(), thousands)
            });
        }
    }
    row("lives by kind", &|_| String::new());
    for Behaviour { name, .. } in &BEHAVIOURS {
        if reports.iter().any(|report| report.peers.contains_key(name)) {
            row(&format!("  {name}"), &|report| {
                let of = report.peers.get(name);
                of.map_or("-".to_owned(), |of: &OfBehaviour| thousands(of.lives))
            });
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((1, 0));
    }
    if let Some(labels) = table.column_mut(0) {
        labels.set_padding((0, 0));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

fn memory(report: &Report, text: fn(&crate::memory::Memory) -> String) -> String {
    report.memory.as_ref().map_or("-".to_owned(), text)
}

fn stop(report: &Report, text: fn(&crate::report::Stop) -> String) -> String {
    report.stop.as_ref().map_or("-".to_owned(), text)
}

/// The failures, each with the first examples of what peers saw.
fn failures(report: &Report) -> String {
    let mut out = format!("{} FAILED:\n", report.server);
    for failure in &report.failures {
        out += &wrapped(failure, "  ");
    }
    for (name, of) in &report.peers {
        for (kind, faults) in &of.faults {
            for example in &faults.examples {
                out += &wrapped(&format!("{name}, {kind}: {example}"), "    ");
            }
        }
    }
    out
}

fn wrapped(text: &str, indent: &str) -> String {
    let further = format!("{indent}  ");
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(indent)
        .subsequent_indent(&further);
    textwrap::fill(text, options) + "\n"
}

/// Breaks a name that is too wide into several lines, after hyphens.
fn at_hyphens(name: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for part in name.split_inclusive('-') {
        match lines.last_mut() {
            Some(line) if line.is_empty() || line.len() + part.len() <= width => {
                line.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines.join("\n")
}

/// Formats `1234567` as `1,234,567`.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tally::{Faults, Kind};

    fn report(server: &str) -> Report {
        let all = BEHAVIOURS.iter().map(|behaviour| {
            let of = OfBehaviour {
                lives: 1_234_567,
                ..OfBehaviour::default()
            };
            (behaviour.name, of)
        });
        Report {
            server: server.to_owned(),
            passed: true,
            peers: all.collect(),
            files: Levels {
                before: 10,
                max: 1_007,
                after: 10,
            },
            ..Report::default()
        }
    }

    #[test]
    fn five_servers_fit_a_terminal() {
        let names = [
            "iterative",
            "thread-per-connection",
            "thread-pool",
            "event-loop",
            "python-http-server",
            "nginx",
        ];
        let reports: Vec<Report> = names.map(report).into_iter().collect();
        let text = text(&reports);
        for line in text.lines() {
            assert!(line.chars().count() < 80, "{line}");
        }
        assert!(text.contains("\n  http-1.0 "), "{text}");
        assert!(text.contains("1,234,567"), "{text}");
        assert!(text.contains("  most                   1,007 "), "{text}");
    }

    #[test]
    fn what_failed_is_told_with_examples() {
        let mut failed = report("event-loop");
        failed.passed = false;
        failed.failures = vec!["peers: half-close: reset 12 x".to_owned()];
        let faults = Faults {
            count: 12,
            examples: vec!["sent `GET`".to_owned()],
        };
        failed.peers.entry("half-close").or_default().faults =
            BTreeMap::from([(Kind::Reset, faults)]);
        let text = text(&[failed, report("iterative")]);
        let end = "event-loop FAILED:\n  peers: half-close: reset 12 x\n    half-close, reset: sent \
                   `GET`\n\npassed: iterative\nFAILED: event-loop\n";
        assert!(text.ends_with(end), "{text}");
    }
}
