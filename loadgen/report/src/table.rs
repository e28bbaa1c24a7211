//! Tables of a terminal: servers as columns, workloads as rows, no wider than asked for.

use super::grid::Grid;
use super::{Marks, absent, direction, figure, legend};
use engine::figures::thousands;
use lab::compare::{Comparison, Evidence, Loop, Metric, Row, Standing};

/// Columns of a terminal that nobody has widened.
pub const WIDTH: usize = 80;

/// With a blank before it, as every column.
const WORKLOAD_WIDTH: usize = 12;
/// The widest that lets all servers stand side by side is taken, or else the first. What an entry says fits
/// into the last, with which six servers have room in 80 columns.
const SERVER_WIDTHS: [usize; 3] = [12, 11, 10];

const MARKS: Marks = Marks {
    interval: " (± is its farther end)",
    floor: "1.25fl is a multiple of the floor's.",
};

/// A table for each metric, or one for each loop, then what the marks in them mean. Servers for which `width`
/// leaves no room stand in a further table below.
pub fn text(evidence: &Evidence, metrics: &[Metric], width: usize) -> String {
    let mut out = String::new();
    for comparison in metrics.iter().flat_map(|&metric| evidence.tables(metric)) {
        let room = width.saturating_sub(WORKLOAD_WIDTH + 1);
        let servers_max = |server_width: usize| (room / (server_width + 1)).max(1);
        let servers = comparison.servers.len();
        let server_width = (SERVER_WIDTHS.into_iter())
            .find(|&server_width| servers_max(server_width) >= servers)
            .unwrap_or(SERVER_WIDTHS[0]);
        let title = comparison.title();
        let title = format!("{title} ({})", direction(comparison.metric));
        out += &wrapped(&title, "", width);
        out.push('\n');
        for first in (0..servers).step_by(servers_max(server_width)) {
            let last = (first + servers_max(server_width)).min(servers);
            out += &table(&comparison, first..last, server_width);
            out.push('\n');
        }
    }
    out + &legend(evidence, metrics, &MARKS).text(width)
}

fn table(comparison: &Comparison, columns: std::ops::Range<usize>, width: usize) -> String {
    let names = comparison.servers[columns.clone()].iter();
    let names = names.map(|name| at_hyphens(name, width));
    let mut grid = Grid::new([String::new()].into_iter().chain(names).collect(), 1).at_least(width);
    for row in &comparison.rows {
        let mut name = at_hyphens(&row.workload, WORKLOAD_WIDTH);
        if let Some(rate) = row.rate {
            // In a table of open loops alone its title says so.
            name += match comparison.only {
                Some(Loop::Open) => "\n",
                _ => "\nopen loop,\n",
            };
            name += &rate.to_string();
        }
        if row.idle > 0 {
            let idle = thousands(row.idle as u64);
            name += &format!("\n{} conns +\n{idle} idle", row.connections);
        }
        let entries = columns.clone().map(|column| {
            let is_floor = comparison.floor == Some(column);
            entry_text(row, column, is_floor, comparison.metric, width)
        });
        grid.gap();
        grid.row([name].into_iter().chain(entries).collect());
    }
    grid.text()
}

/// Three lines: the value, how it compares, and the rank with the multiple of the floor.
fn entry_text(row: &Row, column: usize, is_floor: bool, metric: Metric, width: usize) -> String {
    let entry = &row.entries[column];
    let with_spread = |text: String, spread: Option<f64>| match spread {
        // The number itself says nothing any more.
        Some(spread) if spread >= 999.5 => format!("{text} ±>999x"),
        Some(spread) if spread >= 0.995 => format!("{text} ±{spread:.0}x"),
        Some(spread) => format!("{text} ±{:.0}%", spread * 100.0),
        None => text,
    };
    let value = match &entry.value {
        Some(value) => with_spread(figure(value.value), value.spread()),
        None => absent(entry, metric),
    };
    let compared = match (entry.standing, &entry.ratio) {
        (Standing::NotValid, _) => "not valid".to_owned(),
        // It has no rank, so that there is room below.
        (Standing::ClientBound, _) => at_hyphens("client-bound", width),
        _ if entry.is_sparse => match width >= "too few rounds".len() {
            true => "too few rounds".to_owned(),
            false => "too few\nrounds".to_owned(),
        },
        _ if entry.is_best => "best".to_owned(),
        (_, Some(ratio)) if entry.is_unresolved => {
            let words = match width >= "not resolved".len() {
                true => "not resolved",
                false => "not\nresolved",
            };
            let ratio = with_spread(format!("{}x", figure(ratio.value)), ratio.spread());
            format!("{words}\n{ratio}")
        }
        (_, Some(ratio)) => with_spread(format!("{}x", figure(ratio.value)), ratio.spread()),
        (_, None) => String::new(),
    };
    let of_floor = entry.of_floor.filter(|_| !is_floor);
    let of_floor = of_floor.map(|of_floor| format!("{}fl", figure(of_floor.value)));
    let below: Vec<String> = row.rank_mark(column).into_iter().chain(of_floor).collect();
    let mut lines = vec![value, compared, below.join(" ")];
    lines.retain(|line| !line.is_empty());
    if entry.left_out > 0 && !lines.is_empty() {
        // Behind what is compared, if anything is.
        let compared = lines.len().min(2) - 1;
        lines[compared] = marked(&lines[compared], width);
    }
    lines.join("\n")
}

/// `text` with a mark behind it, or before its spread if that is how it fits into `width`.
fn marked(text: &str, width: usize) -> String {
    match text.chars().count() < width {
        true => format!("{text}†"),
        false => text.replacen(" ±", "†±", 1),
    }
}

/// `text` in lines of at most `width`; the first begins with `indent`, the others with two blanks more
/// if there is one.
pub fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let further = indent.repeat(2);
    let options = textwrap::Options::new(width)
        .initial_indent(indent)
        .subsequent_indent(&further)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(text, options) + "\n"
}

/// `name` in lines of at most `width`, broken behind hyphens where there are any.
pub fn at_hyphens(name: &str, width: usize) -> String {
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
    use lab::fixture;

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

    /// With their ranks, and multiples of the floor; what is in open loop stands in a table of its own where
    /// that matters.
    #[test]
    fn six_servers_fit_80_columns() {
        let evidence = fixture::with_floor();
        let text = text(&evidence, &evidence.metrics(), WIDTH);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
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
    fn marks_take_no_room() {
        for (text, expected) in [
            ("best", "best†"),
            ("2.62x ±4%", "2.62x ±4%†"),
            ("2.62x ±14%", "2.62x†±14%"),
        ] {
            assert_eq!(marked(text, 10), expected);
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
