//! Compares the same servers in two sets, possibly of two builds: what became more or less
//! expensive.
//!
//! Rounds of two sets were not measured together, so they form no pairs, and the machine is seldom
//! the same twice. If both sets contain the floor, each value is divided by the floor's within its
//! round, and the quotients are compared: a slowdown of both cancels.

use serde::Serialize;

use super::{Column, Estimate, Evidence, Loop, Metric, ratios};
use crate::estimate::unpaired;
use engine::plan::Pace;
use subject::catalogue::Workload;

/// Two sets compared by one metric, server by server and workload by workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    /// The metric.
    pub metric: Metric,
    /// The changes, in the order of the old set.
    pub changes: Vec<Change>,
    /// What could not be compared, and why.
    pub left_out: Vec<LeftOut>,
    /// The change of the floor itself: the drift of the machine, not a change of a server.
    pub drift: Vec<Change>,
}

/// One server under one workload, before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Name of the server.
    pub server: String,
    /// Name of the workload.
    pub workload: String,
    /// The pace of the workload.
    pub pace: Pace,
    /// The basis of the comparison.
    pub basis: Basis,
    /// The old side.
    pub old: Side,
    /// The new side.
    pub new: Side,
    /// New divided by old, on that basis.
    pub ratio: Estimate,
    /// The conclusion.
    pub outcome: Outcome,
}

/// A server under a workload in one set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// The value as measured.
    pub value: Estimate,
    /// The compared value: the measured one or the multiple of the floor.
    pub compared: Estimate,
    /// Rounds behind `compared`.
    pub rounds: usize,
    /// Rounds that were tried.
    pub rounds_all: usize,
}

/// The basis of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Multiples of the floor, computed within each round: free of the machine's drift.
    OfFloor,
    /// Values as measured: they contain the drift of the machine between the sets.
    AsMeasured,
}

/// The conclusion from an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All of the interval is worse by more than the threshold.
    Regression,
    /// All of the interval is worse, but not all of it by more than the threshold.
    Worse,
    /// The interval contains "equal".
    NoDifference,
    /// The interval contains "equal", and is too wide to be informative.
    NotResolved,
    /// All of the interval is better.
    Better,
}

impl Outcome {
    /// Draws the conclusion. `threshold` is the share by which a value may be worse: 0.05 for 5%.
    fn of(ratio: &Estimate, metric: Metric, threshold: f64) -> Self {
        let Some((low, high)) = ratio.interval.filter(|_| ratio.tells_apart()) else {
            return match ratio.is_resolved() {
                true => Outcome::NoDifference,
                false => Outcome::NotResolved,
            };
        };
        let (is_worse, is_beyond) = match metric.less_is_better() {
            true => (low > 1.0, low > 1.0 + threshold),
            false => (high < 1.0, high < 1.0 - threshold),
        };
        match (is_worse, is_beyond) {
            (_, true) => Outcome::Regression,
            (true, false) => Outcome::Worse,
            (false, false) => Outcome::Better,
        }
    }
}

/// Something that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// A server, a workload, or a server under a workload.
    pub what: String,
    /// The reason.
    pub reason: String,
}

impl Diff {
    /// Compares what both sets contain. `threshold` is the share by which a value may be worse:
    /// 0.05 for 5%.
    pub fn of(old: &Evidence, new: &Evidence, metric: Metric, threshold: f64) -> Self {
        let mut diff = Diff {
            metric,
            changes: Vec::new(),
            left_out: Vec::new(),
            drift: Vec::new(),
        };
        for (mine, theirs, reason) in [
            (&old.servers, &new.servers, "only in the old set"),
            (&new.servers, &old.servers, "only in the new set"),
        ] {
            for server in mine.iter().filter(|it| !theirs.contains(it)) {
                diff.leave_out(server, reason);
            }
        }
        for workload in old.workloads.iter().filter(|it| metric.says(it)) {
            let theirs = new.workloads.iter().find(|it| it.name == workload.name);
            match theirs {
                Some(theirs) if workload.asks_the_same(theirs) => {
                    diff.compare(old, new, workload, threshold);
                }
                Some(theirs) => {
                    let fields = workload.differences(theirs).join(", ");
                    let reason = format!("different load under the same name ({fields})");
                    diff.leave_out(&workload.name, &reason);
                }
                None => diff.leave_out(&workload.name, "only in the old set"),
            }
        }
        let is_new = |it: &&Workload| !old.workloads.iter().any(|mine| mine.name == it.name);
        for workload in new.workloads.iter().filter(is_new) {
            diff.leave_out(&workload.name, "only in the new set");
        }
        diff
    }

    /// The number of differences in either direction.
    pub fn told_apart(&self) -> usize {
        let is_told_apart = |change: &&Change| {
            !matches!(change.outcome, Outcome::NoDifference | Outcome::NotResolved)
        };
        self.changes.iter().filter(is_told_apart).count()
    }

    /// The number of changes that are certainly worse by more than the threshold.
    pub fn regressions(&self) -> usize {
        let is_regression = |change: &&Change| change.outcome == Outcome::Regression;
        self.changes.iter().filter(is_regression).count()
    }

    /// The changes grouped into tables: by basis, and by loop if that matters.
    pub fn tables(&self) -> Vec<(Basis, Option<Loop>, Vec<&Change>)> {
        let mut tables: Vec<(Basis, Option<Loop>, Vec<&Change>)> = Vec::new();
        for change in &self.changes {
            let only = (self.metric.depends_on_pace()).then(|| Loop::of(change.pace));
            let table = (tables.iter_mut())
                .find(|(basis, its_loop, _)| (*basis, *its_loop) == (change.basis, only));
            match table {
                Some((_, _, changes)) => changes.push(change),
                None => tables.push((change.basis, only, vec![change])),
            }
        }
        tables
    }

    fn leave_out(&mut self, what: &str, reason: &str) {
        self.left_out.push(LeftOut {
            what: what.to_owned(),
            reason: reason.to_owned(),
        });
    }

    fn compare(&mut self, old: &Evidence, new: &Evidence, workload: &Workload, threshold: f64) {
        let metric = self.metric;
        let floors = (old.floor.as_ref().zip(new.floor.as_ref()))
            .map(|(old_floor, new_floor)| {
                let floor = |side: &Evidence, floor| side.column(floor, &workload.name, metric);
                (floor(old, old_floor), floor(new, new_floor))
            })
            .filter(|(old, new)| old.is_compared() && new.is_compared());
        for server in old.servers.iter().filter(|it| new.servers.contains(it)) {
            let side = |side: &Evidence| side.column(server, &workload.name, metric);
            let (old_column, new_column) = (side(old), side(new));
            let faults = [("old", old, &old_column), ("new", new, &new_column)];
            let fault = faults.into_iter().find(|(_, _, it)| !it.is_compared());
            if let Some((which, side, column)) = fault {
                let reason = side.reason(server, &workload.name, metric, column);
                let reason = format!("{reason}, in the {which} set");
                self.leave_out(&format!("{}, {server}", workload.name), &reason);
                continue;
            }
            // There is no value at all.
            let empty = (faults.into_iter()).find(|(_, _, it)| it.by_round.is_empty());
            if let Some((which, _, column)) = empty {
                let reason = format!(
                    "a value in 0 of {} rounds only, in the {which} set",
                    column.rounds_all
                );
                self.leave_out(&format!("{}, {server}", workload.name), &reason);
                continue;
            }
            let is_floor = old.is_floor(server) || new.is_floor(server);
            let of_floor = floors.as_ref().filter(|_| !is_floor && !metric.is_memory());
            let sides = of_floor.and_then(|(old_floor, new_floor)| {
                let old = multiples(&old_column, old_floor)?;
                Some((Basis::OfFloor, old, multiples(&new_column, new_floor)?))
            });
            let (basis, old_values, new_values) = sides.unwrap_or_else(|| {
                let values = |column: &Column| column.by_round.values().copied().collect();
                (Basis::AsMeasured, values(&old_column), values(&new_column))
            });
            let ratio = unpaired(&old_values, &new_values);
            let sides = side_of(&old_column, &old_values).zip(side_of(&new_column, &new_values));
            let (Some(ratio), Some((old_side, new_side))) = (ratio, sides) else {
                self.leave_out(
                    &format!("{}, {server}", workload.name),
                    "it has zero values",
                );
                continue;
            };
            let changes = match is_floor {
                true => &mut self.drift,
                false => &mut self.changes,
            };
            changes.push(Change {
                server: server.clone(),
                workload: workload.name.clone(),
                pace: workload.pace,
                basis,
                old: old_side,
                new: new_side,
                ratio,
                outcome: Outcome::of(&ratio, metric, threshold),
            });
        }
    }
}

/// Multiples of the floor in the rounds in which both count; `None` if these are half of the server's rounds or
/// fewer, or yield no interval although the server's rounds would.
fn multiples(server: &Column, floor: &Column) -> Option<Vec<f64>> {
    let multiples: Vec<f64> = ratios(server, floor).into_values().collect();
    let enough = 2 * multiples.len() > server.by_round.len();
    (enough && (multiples.len() > 1 || server.by_round.len() == 1)).then_some(multiples)
}

fn side_of(column: &Column, compared: &[f64]) -> Option<Side> {
    Some(Side {
        value: column.estimate()?,
        compared: super::estimate(compared)?,
        rounds: compared.len(),
        rounds_all: column.rounds_all,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cell, evidence};
    use crate::set::Cell;
    use engine::verdict::Status;

    /// Six rounds of a server and the floor under `w`, on a machine that is slower by the factor `machine`.
    fn side(server_us: f64, machine: f64) -> Evidence {
        let noise = [1.0, 0.98, 1.02, 1.01, 0.99, 1.0];
        let mut cells = Vec::new();
        for (round, noise) in (1..).zip(noise) {
            // The machine also drifts within a set.
            let machine = machine * (1.0 + f64::from(round) / 20.0);
            cells.push(cell("a", "w", round, server_us * noise * machine));
            cells.push(cell("floor", "w", round, 4.0 * machine));
        }
        let mut side = evidence(&["a", "floor"], &["w"], cells);
        side.floor = Some("floor".to_owned());
        side
    }

    #[test]
    fn drift_of_the_machine_is_no_change() {
        let diff = Diff::of(&side(8.0, 1.0), &side(8.0, 1.5), Metric::Cpu, 0.05);
        let [change] = &diff.changes[..] else {
            panic!("{diff:?}");
        };
        assert_eq!(
            (change.basis, change.outcome),
            (Basis::OfFloor, Outcome::NoDifference)
        );
        assert!((change.ratio.value - 1.0).abs() < 1e-9, "{change:?}");
        assert!((change.old.compared.value - 2.0).abs() < 1e-9, "{change:?}");
        let [drift] = &diff.drift[..] else {
            panic!("{diff:?}");
        };
        assert!((drift.ratio.value - 1.5).abs() < 1e-9, "{drift:?}");
        assert_eq!((diff.told_apart(), diff.regressions()), (0, 0));
    }

    #[test]
    fn a_change_shows_through_drift() {
        for (factor, expected) in [
            (1.2, Outcome::Regression),
            (1.05, Outcome::Worse),
            (1.0, Outcome::NoDifference),
            (0.8, Outcome::Better),
        ] {
            let diff = Diff::of(&side(8.0, 1.2), &side(8.0 * factor, 0.9), Metric::Cpu, 0.05);
            assert_eq!(diff.changes[0].outcome, expected, "{factor}: {diff:?}");
        }
    }

    #[test]
    fn without_the_floor_values_are_compared_as_measured() {
        let mut old = side(8.0, 1.0);
        old.floor = None;
        let diff = Diff::of(&old, &side(8.0, 1.5), Metric::Cpu, 0.05);
        let change = &diff.changes[0];
        assert_eq!(
            (change.basis, change.outcome),
            (Basis::AsMeasured, Outcome::Regression)
        );
    }

    #[test]
    fn outcomes() {
        let ratio = |low: f64, high: f64| Estimate {
            value: f64::midpoint(low, high),
            interval: Some((low, high)),
        };
        for (ratio, of_cpu, of_rate) in [
            (ratio(1.06, 1.2), Outcome::Regression, Outcome::Better),
            (ratio(1.04, 1.2), Outcome::Worse, Outcome::Better),
            (
                ratio(0.99, 1.2),
                Outcome::NoDifference,
                Outcome::NoDifference,
            ),
            (
                ratio(0.03, 43.0),
                Outcome::NotResolved,
                Outcome::NotResolved,
            ),
            (ratio(0.9, 0.96), Outcome::Better, Outcome::Worse),
            (ratio(0.8, 0.94), Outcome::Better, Outcome::Regression),
        ] {
            assert_eq!(Outcome::of(&ratio, Metric::Cpu, 0.05), of_cpu, "{ratio:?}");
            assert_eq!(
                Outcome::of(&ratio, Metric::Throughput, 0.05),
                of_rate,
                "{ratio:?}"
            );
        }
        let single = Estimate {
            value: 2.0,
            interval: None,
        };
        assert_eq!(
            Outcome::of(&single, Metric::Cpu, 0.05),
            Outcome::NoDifference
        );
    }

    #[test]
    fn what_cannot_be_compared_has_its_reason() {
        let with = |cell: Cell, verdict, reasons: &str| Cell {
            verdict: Some(verdict),
            reasons: Some(reasons.to_owned()),
            ..cell
        };
        let cells = |bound: Status| {
            let mut cells = Vec::new();
            for round in 1..=2 {
                for server in ["a", "b", "gone"] {
                    cells.push(cell(server, "other", round, 1.0));
                    cells.push(cell(server, "former", round, 1.0));
                }
                cells.push(with(cell("a", "w", round, 1.0), bound, "busy"));
                cells.push(with(cell("b", "w", round, 1.0), Status::Invalid, "starved"));
            }
            cells
        };
        let workloads = ["w", "other", "former"];
        let old = evidence(&["a", "b", "gone"], &workloads, cells(Status::ClientBound));
        let mut new = evidence(&["a", "b"], &["w", "other"], cells(Status::Valid));
        new.workloads[1].connections += 1;
        let diff = Diff::of(&old, &new, Metric::Throughput, 0.05);
        assert_eq!(diff.changes, []);
        let left_out: Vec<(&str, &str)> = (diff.left_out.iter())
            .map(|it| (it.what.as_str(), it.reason.as_str()))
            .collect();
        assert_eq!(
            left_out,
            [
                ("gone", "only in the old set"),
                ("w, a", "client-bound, in the old set"),
                ("w, b", "not valid: starved, in the old set"),
                (
                    "other",
                    "different load under the same name (connections: 64 and 65)"
                ),
                ("former", "only in the old set"),
            ]
        );
        // The cost of a request is still the server's.
        let diff = Diff::of(&old, &new, Metric::Cpu, 0.05);
        assert_eq!(diff.changes.len(), 1);
        let diff = Diff::of(&new, &new, Metric::P99_9, 0.05);
        let reason = "a value in 0 of 2 rounds only, in the old set";
        assert!(
            diff.left_out.iter().any(|it| it.reason == reason),
            "{diff:?}"
        );
    }

    /// Latency in open loop differs in kind.
    #[test]
    fn loops_stand_apart() {
        let cells = |workload| (1..=2).map(move |round| cell("a", workload, round, 1.0));
        let mut side = evidence(&["a"], &["w", "o"], cells("w").chain(cells("o")).collect());
        side.workloads[1].pace = "constant:5000/s".parse().unwrap();
        for (metric, expected) in [(Metric::P99, 2), (Metric::Cpu, 1)] {
            let diff = Diff::of(&side, &side, metric, 0.05);
            assert_eq!(diff.changes.len(), 2);
            assert_eq!(diff.tables().len(), expected, "{metric:?}");
        }
    }
}
