//! The progress of an experiment: a bar and two lines on a terminal; elsewhere a line for each cell and pass.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::common::speaks_utf8;
use crate::output::say;
use engine::verdict::Status;
use lab::experiment::{Observer, time_of};
use lab::set::ledger_rows::{self, PassKey, Row};
use lab::set::{Campaign, Cell, Key};
use report::table;

/// Drawn only between cells, so that it takes no time from the running generator.
pub(super) struct ExperimentProgress {
    bar: Option<ProgressBar>,
    /// The planned time of a cell of each workload.
    times: BTreeMap<String, Duration>,
    /// Cells of the set, including those of an earlier process.
    cells: usize,
    cells_done: usize,
    /// The planned time of the cells of this process: of all, and of those that are done.
    planned: Duration,
    planned_done: Duration,
    since: Instant,
    /// The outcome of the last cell.
    last: Option<String>,
    /// The number of passes of the ledger.
    passes: usize,
}

/// Below this measured time, the plan predicts the rest better than the experience so far.
const EXPERIENCE_MIN: Duration = Duration::from_secs(10);

impl ExperimentProgress {
    /// For a campaign of which these cells are left.
    pub(super) fn start(campaign: &Campaign, cells: &[Key]) -> Self {
        let bar = bar("{wide_bar} {prefix}\n{msg}");
        let times = campaign.workloads.iter();
        let cells_done = campaign.cells().len() - cells.len();
        ExperimentProgress {
            bar,
            times: times.map(|it| (it.name.clone(), time_of(it))).collect(),
            cells: cells_done,
            cells_done,
            planned: Duration::ZERO,
            planned_done: Duration::ZERO,
            since: Instant::now(),
            last: None,
            passes: 0,
        }
    }

    fn count(&mut self, key: &Key) {
        self.cells_done += 1;
        self.planned_done += self.time_of(key);
        if let Some(bar) = &self.bar {
            bar.set_position(self.planned_done.as_millis() as u64);
        }
    }

    fn line(&self, key: &Key, outcome: &str) -> String {
        let (done, cells, left) = (self.cells_done, self.cells, time(self.left()));
        let width = cells.to_string().len();
        let Key {
            server,
            workload,
            round,
        } = key;
        format!(
            "[{done:>width$}/{cells}, {left} left] round {round} {server} {workload}: {outcome}"
        )
    }

    fn time_of(&self, key: &Key) -> Duration {
        self.times.get(&key.workload).copied().unwrap_or_default()
    }

    /// The planned time that is left, corrected by the experience so far.
    fn left(&self) -> Duration {
        let left = self.planned - self.planned_done;
        match self.planned_done > EXPERIENCE_MIN {
            true => {
                left.mul_f64(self.since.elapsed().as_secs_f64() / self.planned_done.as_secs_f64())
            }
            false => left,
        }
    }
}

impl Observer for ExperimentProgress {
    fn cells(&mut self, cells: &[Key]) {
        self.cells += cells.len();
        self.planned += cells.iter().map(|key| self.time_of(key)).sum();
        if let Some(bar) = &self.bar {
            bar.set_length(self.planned.as_millis() as u64);
        }
    }

    fn cell_begins(&mut self, key: &Key) {
        let Some(bar) = &self.bar else { return };
        let (number, cells, left) = (self.cells_done + 1, self.cells, time(self.left()));
        bar.set_prefix(format!("cell {number} of {cells}, {left} left"));
        let now = format!("now  {}, {}, round {}", key.server, key.workload, key.round);
        let lines = [Some(now), self.last.clone()].into_iter().flatten();
        let lines: Vec<String> = lines.map(|line| shortened(&line, table::WIDTH)).collect();
        bar.set_message(lines.join("\n"));
        bar.tick();
    }

    fn cell_ends(&mut self, cell: &Cell) {
        self.count(&cell.key());
        let outcome = outcome(cell);
        let line = self.line(&cell.key(), &outcome);
        match &self.bar {
            Some(bar) if cell.error.is_some() => bar.println(line),
            Some(_) => {}
            None => say!("{line}"),
        }
        self.last = Some(format!(
            "last {}, {}: {outcome}",
            cell.server, cell.workload
        ));
    }

    fn cell_is_lost(&mut self, key: &Key, error: &dyn Display) {
        self.count(key);
        let line = self.line(key, &format!("NOT RECORDED: {error}"));
        self.note(&line);
    }

    /// Removes the bar. After an interruption it stays: the terminal has probably printed `^C` at the cursor,
    /// so the position of the bar is unknown.
    fn cells_end(&mut self, is_interrupted: bool) {
        match self.bar.take() {
            Some(bar) if is_interrupted => {
                bar.set_draw_target(ProgressDrawTarget::hidden());
                say!();
            }
            Some(bar) => bar.finish_and_clear(),
            None => {}
        }
    }

    fn passes(&mut self, passes: usize) {
        self.bar = bar("{wide_bar} {msg}");
        self.passes = passes;
        if let Some(bar) = &self.bar {
            bar.set_length(passes as u64);
        }
    }

    fn pass_begins(&mut self, number: usize, pass: &PassKey) {
        if let Some(bar) = &self.bar {
            bar.set_position(number as u64 - 1);
            let passes = self.passes;
            bar.set_message(format!("ledger {number} of {passes}: {}", name(pass)));
        }
    }

    fn pass_ends(&mut self, number: usize, pass: &PassKey, rows: &[Row]) {
        let passes = self.passes;
        let width = passes.to_string().len();
        let line = format!(
            "[{number:>width$}/{passes}] ledger {}: {}",
            name(pass),
            counted(rows)
        );
        let failed = rows.iter().any(|row| row.error.is_some());
        if failed || self.bar.is_none() {
            self.note(&line);
        }
    }

    fn passes_end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say!("{text}"),
        }
    }
}

/// A bar, if stderr is a terminal.
fn bar(template: &str) -> Option<ProgressBar> {
    io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template(template).expect("a valid template");
        bar.set_style(match speaks_utf8() {
            true => style,
            false => style.progress_chars("##-"),
        });
        bar
    })
}

/// In whole seconds, rounded up, as in `2m 5s`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1000) as u64;
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// The outcome of a cell: `7.66 us CPU, 130512/s, valid`.
fn outcome(cell: &Cell) -> String {
    if let Some(error) = &cell.error {
        return format!("failed: {error}");
    }
    let figure = |value: Option<f64>, digits| match value {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let verdict = cell.verdict.map_or("", Status::as_str);
    let reasons = match (cell.verdict, &cell.reasons) {
        (Some(Status::Invalid), Some(reasons)) => format!(": {reasons}"),
        _ => String::new(),
    };
    format!(
        "{} us CPU, {}/s, {verdict}{reasons}",
        figure(cell.server_cpu_us_per_request, 2),
        figure(cell.requests_per_s, 0)
    )
}

fn name(pass: &PassKey) -> String {
    let workload = pass.workload.as_deref().unwrap_or("memory");
    format!("{} {workload}", pass.server)
}

/// What a pass counted: `3.31 system calls per request`, `300 B and 8192 B for each idle connection`.
fn counted(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    if let Some(error) = &first.error {
        return format!("none: {error}");
    }
    if let Some(pass) = ledger_rows::Pass::of(rows, &first.server, &first.workload) {
        return format!("{:.2} system calls per request", pass.calls_per_request());
    }
    let cost = ledger_rows::idle_cost(rows, &first.server).unwrap_or_default();
    let bytes = |slope: Option<f64>| slope.map_or("-".to_owned(), |slope| format!("{slope:.0} B"));
    format!(
        "{} for each idle connection, and {} in the kernel",
        bytes(cost.bytes_per_connection),
        bytes(cost.kernel_bytes_per_connection)
    )
}

/// Shortens a line to at most this many characters.
fn shortened(line: &str, width: usize) -> String {
    match line.chars().count() > width {
        true => line.chars().take(width - 3).chain("...".chars()).collect(),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::fixture::cell;

    #[test]
    fn outcomes_are_one_line() {
        let valid = cell("event-loop", "keep-alive", 1, 7.664);
        let invalid = Cell {
            verdict: Some(Status::Invalid),
            reasons: Some("starved: 63 of 64 connections were never served".to_owned()),
            server_cpu_us_per_request: None,
            ..valid.clone()
        };
        let failed = Cell::failed(&valid.key(), String::new(), "it died");
        for (cell, expected) in [
            (valid, "7.66 us CPU, 130480/s, valid"),
            (
                invalid,
                "- us CPU, 130480/s, invalid: starved: 63 of 64 connections were never served",
            ),
            (failed, "failed: it died"),
        ] {
            assert_eq!(outcome(&cell), expected);
        }
        assert_eq!(shortened("12345", 5), "12345");
        assert_eq!(shortened("123456", 5), "12...");
        assert_eq!(time(Duration::from_millis(60_001)), "1m 1s");
    }
}
