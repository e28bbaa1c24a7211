//! One server measured as two: how often the rounds show a difference where there is none.

use super::document::Document;
use super::format::text::WIDTH;
use super::grid::Grid;
use engine::figures::percent;
use statrs::distribution::{Binomial, DiscreteCDF as _};

use lab::compare::{Estimate, Evidence, Metric, Row};

/// The metrics that are compared, each with the head of its column.
const METRICS: [(Metric, &str); 4] = [
    (Metric::Cpu, "CPU/request"),
    (Metric::Throughput, "requests/s"),
    (Metric::P50, "p50"),
    (Metric::P99, "p99"),
];

/// How often a comparison of two of the same kind may show a difference.
const ERROR: f64 = 0.05;

/// Counts of comparisons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All that were possible.
    pub comparisons: u64,
    /// Of these, those that show a difference.
    pub different: u64,
}

impl Count {
    /// How many differences chance produces at most in 19 of 20 such measurements, if each comparison errs in 5 of 100.
    pub fn by_chance(self) -> u64 {
        match Binomial::new(ERROR, self.comparisons) {
            Ok(binomial) if self.comparisons > 0 => binomial.inverse_cdf(1.0 - ERROR),
            _ => 0,
        }
    }
}

/// For every workload and metric the ratio of one half to the other, whether it shows a difference, and how
/// often it does. `evidence` is a measurement of `server` as two.
pub fn text(evidence: &Evidence, server: &str) -> String {
    let mut count = Count::default();
    let rows: Vec<Vec<Row>> = (METRICS.iter())
        .map(|(metric, _)| evidence.compare(*metric).rows)
        .collect();
    let header = [""].into_iter().chain(METRICS.map(|(_, name)| name));
    let mut grid = Grid::new(header, 1).wide(0);
    for (at, workload) in evidence.workloads.iter().enumerate() {
        let ratios = rows.iter().map(|rows| ratio(&rows[at]));
        let cells: Vec<String> = ratios
            .map(|ratio| match ratio {
                Some(ratio) => {
                    count.comparisons += 1;
                    count.different += u64::from(ratio.tells_apart());
                    entry(&ratio)
                }
                None => "-".to_owned(),
            })
            .collect();
        grid.row([workload.name.clone()].into_iter().chain(cells));
    }
    let Count {
        comparisons,
        different,
    } = count;
    let share = match comparisons {
        0 => String::new(),
        _ => format!(" ({})", percent(different as f64 / comparisons as f64)),
    };
    let mut document = Document::default();
    let title = format!(
        "A/A: {server} measured as two, the second divided by the first, round by round; * marks a difference"
    );
    document.table(&title, "", grid);
    document.paragraph(format!(
        "{different} of {comparisons} comparisons{share} show a difference between the server and itself. Each \
         errs in 5% of cases, so up to {} of {comparisons} can be chance.",
        count.by_chance(),
    ));
    document.text(WIDTH)
}

/// The second half divided by the first; `None` where they are not compared.
fn ratio(row: &Row) -> Option<Estimate> {
    let [first, second] = &row.entries[..] else {
        return None;
    };
    match (first.is_base, second.is_base) {
        (true, _) => second.ratio,
        (_, true) => first.ratio.map(|ratio| Estimate {
            value: 1.0 / ratio.value,
            interval: ratio.interval.map(|(low, high)| (1.0 / high, 1.0 / low)),
        }),
        _ => None,
    }
}

fn entry(ratio: &Estimate) -> String {
    let mark = if ratio.tells_apart() { "*" } else { " " };
    match ratio.spread() {
        Some(spread) => format!("{:.3} ±{:.1}%{mark}", ratio.value, spread * 100.0),
        None => format!("{:.3}{mark}", ratio.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::verdict::Status;
    use lab::fixture::{cell, evidence};
    use lab::set::Cell;

    #[test]
    fn what_chance_may_do() {
        for (comparisons, expected) in [(0, 0), (16, 2), (80, 7), (100, 9)] {
            let count = Count {
                comparisons,
                different: 0,
            };
            assert_eq!(count.by_chance(), expected, "of {comparisons}");
        }
    }

    /// Two that are alike, two that are not, and two of which the generator was the limit.
    #[test]
    fn of_three_workloads() {
        let noise = [0.99, 1.02, 1.0, 0.97, 1.01, 1.03];
        let mut cells = Vec::new();
        for (round, noise) in (1..).zip(noise) {
            for (workload, factor) in [("alike", 1.0), ("different", 1.2), ("bound", 1.0)] {
                for (server, cpu) in [("s.a", 8.0), ("s.b", 8.0 * noise * factor)] {
                    let verdict = match workload {
                        "bound" => Status::ClientBound,
                        _ => Status::Valid,
                    };
                    cells.push(Cell {
                        verdict: Some(verdict),
                        ..cell(server, workload, round, cpu)
                    });
                }
            }
        }
        let evidence = evidence(&["s.a", "s.b"], &["alike", "different", "bound"], cells);
        insta::assert_snapshot!(text(&evidence, "s"));
    }
}
