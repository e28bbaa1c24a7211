//! Two sets, before and after: what changed, how surely, and what could not be compared.

use serde::Serialize;

use super::document::Document;
use super::grid::Grid;
use super::table::Shown;
use super::{direction, plural};
use engine::figures::figure;
use engine::figures::{count, percent_set};
use lab::compare::diff::{Basis, Change, Diff, Outcome};
use lab::compare::{Evidence, Metric, titled};

/// So that a table has 80 columns in text, with names of 21 characters.
const WORD_WIDTH: usize = 19;

/// One table for each metric and basis, and their sum.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Before.
    pub old: &'a Evidence,
    /// After.
    pub new: &'a Evidence,
    /// One for each metric that was asked for.
    pub diffs: &'a [Diff],
    /// The share by which a value may be worse: 0.05 for 5%.
    pub threshold: f64,
}

/// The sum of all tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sum {
    /// Cells that could be compared.
    #[serde(rename = "cells_compared")]
    pub compared: usize,
    /// Of these, the ones that differ, whichever way.
    #[serde(rename = "cells_told_apart")]
    pub told_apart: usize,
    /// Of these, the ones that are certainly worse by more than the threshold.
    pub regressions: usize,
    /// How many would differ by chance alone, at most, if nothing had changed.
    #[serde(rename = "cells_told_apart_by_chance_max")]
    pub by_chance: f64,
}

/// What could not be compared by a metric, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LeftOut<'a> {
    /// By which.
    pub metric: &'static str,
    /// A server, a workload, or a server under a workload.
    pub what: &'a str,
    /// Why not.
    pub reason: &'a str,
}

impl Report<'_> {
    /// The sum of all tables.
    pub fn sum(&self) -> Sum {
        let sum = |of: fn(&Diff) -> usize| self.diffs.iter().map(of).sum::<usize>();
        let compared = sum(|diff| diff.changes.len());
        Sum {
            compared,
            told_apart: sum(Diff::told_apart),
            regressions: sum(Diff::regressions),
            by_chance: compared as f64 / 20.0,
        }
    }

    /// What could not be compared.
    pub fn left_out(&self) -> Vec<LeftOut<'_>> {
        let of = |diff| {
            let Diff {
                metric, left_out, ..
            }: &Diff = diff;
            left_out.iter().map(|it| LeftOut {
                metric: metric.name(),
                what: &it.what,
                reason: &it.reason,
            })
        };
        self.diffs.iter().flat_map(of).collect()
    }

    /// A line for each reason.
    fn left_out_lines(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for left_out in self.left_out() {
            let what = match self.diffs.len() {
                1 => left_out.what.to_owned(),
                _ => format!("{} ({})", left_out.what, left_out.metric),
            };
            match reasons
                .iter_mut()
                .find(|(reason, _)| *reason == left_out.reason)
            {
                Some((_, all)) => all.push(what),
                None => reasons.push((left_out.reason, vec![what])),
            }
        }
        let line = |(reason, all): (&str, Vec<String>)| format!("{reason}: {}", all.join("; "));
        reasons.into_iter().map(line).collect()
    }

    /// For any format.
    pub fn document(&self, shown: &Shown) -> Document {
        let mut document = Document::default();
        let sides = [("old", self.old), ("new", self.new)];
        let sides = sides.map(|(which, side)| {
            let (set, rounds) = (side.sets.join(", "), plural(side.rounds, "round"));
            let date = side.started.get(..10).unwrap_or(&side.started);
            format!(
                "{which}: {set}, {rounds} of {date}, revision {}",
                side.build.summary()
            )
        });
        document.list("Compared:", sides.to_vec());
        for diff in self.diffs {
            for (basis, only, changes) in diff.tables() {
                let mut title = titled(diff.metric, only);
                if basis == Basis::OfFloor {
                    title += ", divided by the floor";
                }
                let grid = self.grid(diff.metric, &changes, shown);
                document.table(&title, direction(diff.metric), grid);
            }
            if !diff.drift.is_empty() {
                let title = format!("{}: the floor", diff.metric.title());
                let note = match diff.metric.is_memory() {
                    true => "for comparison",
                    false => "the machine's drift",
                };
                document.table(&title, note, drift(&diff.drift));
            }
        }
        document.paragraph(
            "Medians, and new divided by old with its 95% interval; the rounds of each set are resampled \
             separately. An interval that holds 1 shows no difference, which does not prove that there is \
             none.",
        );
        if let Some(all) = shown.fold(self.old).and_then(|fold| fold.all) {
            document.paragraph(format!(
                "Where no difference is shown, servers are only counted: {all} shows them."
            ));
        }
        document.list("Not compared:", self.left_out_lines());
        document.paragraph(self.sum().text(self.threshold));
        document
    }

    fn grid(&self, metric: Metric, changes: &[&Change], shown: &Shown) -> Grid {
        let header = ["", "old", "new", "new/old", "95% interval", ""];
        let mut grid = Grid::new(header, 1).with_remarks(WORD_WIDTH);
        let fold = shown.fold(self.old);
        let is_shown = |change: &Change| {
            let is_quiet = matches!(change.outcome, Outcome::NoDifference | Outcome::NotResolved);
            fold.is_none() || !is_quiet || shown.also.contains(&change.server)
        };
        for under in changes.chunk_by(|one, other| one.workload == other.workload) {
            grid.gap();
            grid.heading(&under[0].workload);
            for change in under.iter().filter(|change| is_shown(change)) {
                let compared = [change.old.compared.value, change.new.compared.value];
                let word = word(change.outcome, metric, self.threshold);
                let cells = [format!("  {}", change.server)].into_iter();
                grid.row(cells.chain(figures(change, compared)).chain([word]));
            }
            for outcome in [Outcome::NoDifference, Outcome::NotResolved] {
                let is_counted = |change: &&&Change| change.outcome == outcome && !is_shown(change);
                let counted = under.iter().filter(is_counted).count();
                if counted > 0 {
                    let mut cells = vec![String::new(); header.len()];
                    cells[0] = format!("  {}", count(counted as u64, "server"));
                    cells[header.len() - 1] = word(outcome, metric, self.threshold);
                    grid.row(cells);
                }
            }
        }
        grid
    }
}

fn drift(changes: &[Change]) -> Grid {
    let header = ["", "old", "new", "new/old", "95% interval"];
    let mut grid = Grid::new(header, 1);
    for change in changes {
        let values = [change.old.value.value, change.new.value.value];
        let cells = [change.workload.clone()].into_iter();
        grid.row(cells.chain(figures(change, values)));
    }
    grid
}

fn figures(change: &Change, [old, new]: [f64; 2]) -> [String; 4] {
    let interval = match change.ratio.interval {
        Some((low, high)) => format!("{}–{}", ratio(low), ratio(high)),
        None => "one round".to_owned(),
    };
    [
        figure(old),
        figure(new),
        ratio(change.ratio.value),
        interval,
    ]
}

/// With one digit more than other figures, because changes of a few percent matter.
fn ratio(value: f64) -> String {
    match value {
        ..9.9995 => format!("{value:.3}"),
        _ => figure(value),
    }
}

/// What an outcome is called in a table.
fn word(outcome: Outcome, metric: Metric, threshold: f64) -> String {
    let (worse, better) = match metric {
        Metric::Cpu => ("dearer", "cheaper"),
        Metric::Rss | Metric::IdleMemory => ("more", "less"),
        _ => ("slower", "faster"),
    };
    match outcome {
        Outcome::Regression => "regression".to_owned(),
        Outcome::Worse => format!("{worse}, not certainly by {}", percent_set(threshold)),
        Outcome::NoDifference => "no difference shown".to_owned(),
        Outcome::NotResolved => "not resolved".to_owned(),
        Outcome::Better => better.to_owned(),
    }
}

impl Sum {
    fn text(&self, threshold: f64) -> String {
        let Sum {
            compared,
            told_apart,
            regressions,
            by_chance,
        } = self;
        let cells = plural((*compared).try_into().unwrap_or(u32::MAX), "cell");
        format!(
            "{cells} compared, {told_apart} differ, of which {regressions} are certainly worse by more than {}. If \
             nothing had changed, at most {by_chance:.1} would differ by chance (5%).",
            percent_set(threshold)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::WIDTH;
    use lab::fixture;

    /// Of many servers, those with a difference have a row; the others are counted by what is said of them.
    #[test]
    fn many_servers_are_counted_where_no_difference_is_shown() {
        let mut old = fixture::many_servers();
        old.workloads.truncate(1);
        let mut new = old.clone();
        for cell in &mut new.cells {
            let factor = match cell.server.as_str() {
                "hyper" => 1.5,
                "event-loop" => 0.5,
                _ => 1.0,
            };
            cell.server_cpu_us_per_request = cell.server_cpu_us_per_request.map(|us| us * factor);
        }
        let diffs = [Diff::of(&old, &new, Metric::Cpu, 0.05)];
        let report = Report {
            old: &old,
            new: &new,
            diffs: &diffs,
            threshold: 0.05,
        };
        let text = report.document(&Shown::podium("--all")).text(WIDTH);
        let (_, table) = text.split_once("\n keep-alive-1\n").unwrap();
        let (table, rest) = table.split_once("\n\n").unwrap();
        let rows: Vec<Vec<&str>> = (table.lines())
            .map(|line| line.split_ascii_whitespace().collect())
            .collect();
        let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(names, ["event-loop", "hyper", "19"], "{text}");
        assert_eq!(rows[2].join(" "), "19 servers no difference shown");
        assert!(rest.contains("`--all` shows them"), "{text}");
        let all = report.document(&Shown::default()).text(WIDTH);
        assert!(all.contains("reuseport-loops") && !all.contains("19 servers"));
    }
}
