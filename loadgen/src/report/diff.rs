//! Two sets, before and after: what changed, how surely, and what could not be compared.

use serde::Serialize;

use super::document::Document;
use super::grid::Grid;
use super::table::{at_hyphens, wrapped};
use super::{direction, figure, plural};
use crate::compare::diff::{Basis, Change, Diff, Outcome};
use crate::compare::{Evidence, Metric, titled};

/// Of columns that are broken into lines.
#[derive(Clone, Copy)]
struct Widths {
    workload: usize,
    server: usize,
    word: usize,
}

impl Widths {
    /// With figures of five columns and intervals of twelve, a table of 80 columns.
    const TEXT: Self = Widths {
        workload: 14,
        server: 12,
        word: 19,
    };
    const ANY: Self = Widths {
        workload: usize::MAX,
        server: usize::MAX,
        word: usize::MAX,
    };
}

/// One table for each metric and basis, and what they come to.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Before.
    pub old: &'a Evidence,
    /// After.
    pub new: &'a Evidence,
    /// By the metrics that were asked for.
    pub diffs: &'a [Diff],
    /// The share by which a value may be worse: 0.05 for 5%.
    pub threshold: f64,
}

/// What all tables come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sum {
    /// Cells that could be compared.
    #[serde(rename = "cells_compared")]
    pub compared: usize,
    /// Of these, the ones that were told apart, whichever way.
    #[serde(rename = "cells_told_apart")]
    pub told_apart: usize,
    /// Of these, the ones that are worse by more than the threshold for certain.
    pub regressions: usize,
    /// How many would be told apart by chance alone, at the most, if nothing had changed.
    #[serde(rename = "cells_told_apart_by_chance_max")]
    pub by_chance: f64,
}

/// What could not be compared by a metric, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LeftOut<'a> {
    /// By which.
    pub metric: &'static str,
    /// A server, a workload, or the one under the other.
    pub what: &'a str,
    /// Why not.
    pub reason: &'a str,
}

impl Report<'_> {
    /// What they come to.
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

    /// For a terminal.
    pub fn text(&self, width: usize) -> String {
        self.document(Widths::TEXT).text(width)
    }

    /// For a file.
    pub fn markdown(&self) -> String {
        self.document(Widths::ANY).markdown()
    }

    fn document(&self, widths: Widths) -> Document {
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
                    title += ", as multiples of the floor's";
                }
                let grid = self.grid(diff.metric, &changes, widths);
                document.table(&title, direction(diff.metric), grid);
            }
            if !diff.drift.is_empty() {
                let changes: Vec<&Change> = diff.drift.iter().collect();
                let title = format!("{}: the floor itself", diff.metric.title());
                document.table(&title, "the machine's drift", drift(&changes, widths));
            }
        }
        document.paragraph(
            "Medians, and new divided by old with its 95% interval; rounds of both sets are resampled \
             apart. An interval that holds 1 shows no difference, which is not the same as showing that \
             there is none.",
        );
        let line = |it: &LeftOut<'_>| match self.diffs.len() {
            1 => format!("{}: {}", it.what, it.reason),
            _ => format!("{} ({}): {}", it.what, it.metric, it.reason),
        };
        document.list("Not compared:", self.left_out().iter().map(line).collect());
        document.paragraph(self.sum().text(self.threshold));
        document
    }

    fn grid(&self, metric: Metric, changes: &[&Change], widths: Widths) -> Grid {
        let mut grid =
            Grid::new(header(&["old", "new", "new/old", "95% interval", ""]), 2).with_remarks(1);
        let mut above = "";
        for change in changes {
            let word = word(change.outcome, metric, self.threshold);
            let compared = [change.old.compared.value, change.new.compared.value];
            let word = wrapped(&word, "", widths.word).trim_end().to_owned();
            let is_first = above != change.workload;
            if is_first {
                grid.gap();
            }
            let mut row = cells(change, is_first, compared, widths);
            row.push(word);
            grid.row(row);
            above = &change.workload;
        }
        grid
    }
}

fn drift(changes: &[&Change], widths: Widths) -> Grid {
    let mut grid = Grid::new(header(&["old", "new", "drift", "95% interval"]), 2);
    for change in changes {
        let values = [change.old.value.value, change.new.value.value];
        grid.row(cells(change, true, values, widths));
    }
    grid
}

fn header(figures: &[&str]) -> Vec<String> {
    let names = ["workload", "server"];
    names
        .iter()
        .chain(figures)
        .map(|&name| name.to_owned())
        .collect()
}

fn cells(change: &Change, is_first: bool, [old, new]: [f64; 2], widths: Widths) -> Vec<String> {
    let workload = match is_first {
        true => at_hyphens(&change.workload, widths.workload),
        false => String::new(),
    };
    let interval = match change.ratio.interval {
        Some((low, high)) => format!("{}–{}", ratio(low), ratio(high)),
        None => "one round".to_owned(),
    };
    vec![
        workload,
        at_hyphens(&change.server, widths.server),
        figure(old),
        figure(new),
        ratio(change.ratio.value),
        interval,
    ]
}

/// With a digit more than other figures, as what is looked for is a few percent.
fn ratio(value: f64) -> String {
    match value {
        ..9.9995 => format!("{value:.3}"),
        _ => figure(value),
    }
}

/// What an outcome is called.
fn word(outcome: Outcome, metric: Metric, threshold: f64) -> String {
    let (worse, better) = match metric {
        Metric::Cpu => ("dearer", "cheaper"),
        Metric::Rss | Metric::IdleMemory => ("more", "less"),
        _ => ("slower", "faster"),
    };
    match outcome {
        Outcome::Regression => "regression".to_owned(),
        Outcome::Worse => format!("{worse}, not surely by {}", percent(threshold)),
        Outcome::NoDifference => "no difference shown".to_owned(),
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
            "{cells} compared, {told_apart} told apart, of which {regressions} worse by more than {} for \
             certain. If nothing had changed, chance would tell apart {by_chance:.1} at the most (5%).",
            percent(threshold)
        )
    }
}

fn percent(share: f64) -> String {
    format!("{}%", (share * 1e4).round() / 1e2)
}
