//! Tables of a terminal: servers as columns, workloads as rows, no wider than asked for.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::run::thousands;
use super::{Faults, absent, figure, plural};
use crate::compare::{Comparison, Entry, Evidence, Metric, Standing};

/// Columns of a terminal that nobody has widened.
pub const WIDTH: usize = 80;

/// Each with a blank before it, and one behind the first: with five servers a table has 79 columns.
const WORKLOAD_WIDTH: usize = 12;
const SERVER_WIDTH: usize = 12;

/// A table for each metric, then what the marks in them mean. Servers for which `width` leaves no room
/// stand in a further table below.
pub fn text(evidence: &Evidence, metrics: &[Metric], width: usize) -> String {
    let mut out = String::new();
    for &metric in metrics {
        let comparison = evidence.compare(metric);
        let servers_max = (width.saturating_sub(WORKLOAD_WIDTH + 2) / (SERVER_WIDTH + 1)).max(1);
        let direction = if metric.less_is_better() {
            "less"
        } else {
            "more"
        };
        out += &format!("{} ({direction} is better)\n\n", metric.title());
        for first in (0..comparison.servers.len()).step_by(servers_max) {
            let last = (first + servers_max).min(comparison.servers.len());
            out += &table(&comparison, first..last);
            out.push('\n');
        }
    }
    out += &legend(evidence, width);
    out
}

fn table(comparison: &Comparison, columns: std::ops::Range<usize>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let names = &comparison.servers[columns.clone()];
    let header: Vec<String> = names
        .iter()
        .map(|name| at_hyphens(name, SERVER_WIDTH))
        .collect();
    let rule = "─".repeat(SERVER_WIDTH);
    table.add_row([String::new()].into_iter().chain(header));
    table.add_row(
        ["─".repeat(WORKLOAD_WIDTH)]
            .into_iter()
            .chain(names.iter().map(|_| rule.clone())),
    );
    for row in &comparison.rows {
        let entries = &row.entries[columns.clone()];
        let entries = entries
            .iter()
            .map(|entry| entry_text(entry, comparison.metric));
        let mut name = at_hyphens(&row.workload, WORKLOAD_WIDTH);
        if let Some(rate) = row.rate {
            name += &format!("\nopen loop,\n{rate}");
        }
        if row.idle > 0 {
            let idle = thousands(row.idle as u64);
            name += &format!("\n{} conns +\n{idle} idle", row.connections);
        }
        table.add_row([name].into_iter().chain(entries));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((1, 0));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

/// Two lines: the value, and how it compares.
fn entry_text(entry: &Entry, metric: Metric) -> String {
    let with_spread = |text: String, spread: Option<f64>| match spread {
        Some(spread) if spread >= 9.995 => format!("{text} ±{spread:.0}x"),
        Some(spread) => format!("{text} ±{:.0}%", spread * 100.0),
        None => text,
    };
    let value = match &entry.value {
        Some(value) => with_spread(figure(value.value), value.spread()),
        None => absent(entry, metric),
    };
    let standing = match (entry.standing, &entry.ratio) {
        (Standing::NotValid, _) => "not valid".to_owned(),
        (Standing::ClientBound, _) => "client-bound".to_owned(),
        _ if entry.is_best => "best".to_owned(),
        (_, Some(ratio)) => with_spread(format!("{:.2}x", ratio.value), ratio.spread()),
        (_, None) => String::new(),
    };
    let mark = if entry.left_out > 0 { "†" } else { "" };
    format!("{value}\n{standing}{mark}")
}

fn legend(evidence: &Evidence, width: usize) -> String {
    let faults = evidence.faults();
    let faults = Faults::sorted(&faults);
    let mut out = wrapped(
        &format!(
            "Medians over {}, and below them the ratio to the best by rounds. \
             ± is the farther end of the bootstrap interval over rounds (nominally 95%; few \
             rounds make it the range of what was seen).",
            plural(evidence.rounds, "round")
        ),
        "",
        width,
    );
    if evidence.missing > 0 {
        let missing = plural(evidence.missing.try_into().unwrap_or(u32::MAX), "cell");
        out += &wrapped(&format!("Incomplete: {missing} not measured."), "", width);
    }
    for (heading, items) in faults.paragraphs(str::to_owned) {
        out.push('\n');
        out += &wrapped(heading, "", width);
        out.extend(items.iter().map(|item| wrapped(item, "  ", width)));
    }
    out
}

/// `text` in lines of at most `width`; the first begins with `indent`, the others with two blanks more
/// if there is one.
pub(super) fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut line = indent.to_owned();
    for word in text.split(' ') {
        let used = line.chars().count();
        if used > indent.len() && used + 1 + word.chars().count() > width {
            lines += &(line + "\n");
            line = indent.repeat(2);
        } else if !line.trim().is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &line + "\n"
}

/// `name` in lines of at most `width`, broken behind hyphens where there are any.
pub(super) fn at_hyphens(name: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for part in name.split_inclusive('-') {
        let line = lines.last_mut().expect("there is one at least");
        if line.is_empty() || line.len() + part.len() <= width {
            line.push_str(part);
        } else {
            lines.push(part.to_owned());
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn five_servers_fit_80_columns() {
        let evidence = fixture::five_servers();
        let text = text(&evidence, &evidence.metrics(), WIDTH);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_does_not_fit_stands_below() {
        insta::assert_snapshot!(text(&fixture::five_servers(), &[Metric::Cpu], 60));
    }

    #[test]
    fn a_workload_in_open_loop_says_so() {
        let mut evidence = fixture::five_servers();
        evidence.workloads[1].pace = "poisson:5000/s".parse().unwrap();
        let text = text(&evidence, &[Metric::P99], WIDTH);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let row = ["ten-requests", "open loop,", "5000/s"];
        let is_row = |lines: &[&str]| lines.iter().zip(row).all(|(line, it)| line.starts_with(it));
        assert_eq!(
            lines.windows(3).filter(|lines| is_row(lines)).count(),
            1,
            "{text}"
        );
        assert_eq!(text.matches("open loop").count(), 1, "{text}");
    }

    #[test]
    fn idle_connections_stand_beside_the_name() {
        let mut evidence = fixture::five_servers();
        evidence.workloads[1].idle = 100_000;
        for cell in &mut evidence.cells {
            cell.server_bytes_per_idle_connection = Some(4_700.0);
        }
        let text = text(&evidence, &evidence.metrics(), WIDTH);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        let (others, memory) = text
            .split_once("Bytes of memory per idle connection")
            .unwrap();
        for (table, count) in [(others, 3), (memory, 1)] {
            let lines: Vec<&str> = table.lines().map(str::trim_start).collect();
            let row = ["ten-requests", "64 conns +", "100,000 idle"];
            let is_row =
                |lines: &[&str]| lines.iter().zip(row).all(|(line, it)| line.starts_with(it));
            let found = lines.windows(3).filter(|lines| is_row(lines)).count();
            assert_eq!(found, count, "{text}");
        }
        let (memory, _) = memory.split_once("Medians over").unwrap();
        assert!(
            memory.contains("4.70k") && !memory.contains("keep-alive"),
            "{memory}"
        );
    }

    #[test]
    fn names_break_behind_hyphens() {
        for (name, expected) in [
            ("event-loop", "event-loop"),
            ("thread-per-connection", "thread-per-\nconnection"),
            ("python-http-server", "python-http-\nserver"),
            ("averyveryverylongname", "averyveryverylongname"),
        ] {
            assert_eq!(at_hyphens(name, 12), expected);
        }
    }

    #[test]
    fn wrapping() {
        assert_eq!(
            wrapped("a bb ccc dddd", "  ", 8),
            "  a bb\n    ccc\n    dddd\n"
        );
        assert_eq!(wrapped("a bb ccc dddd", "", 8), "a bb ccc\ndddd\n");
    }
}
