//! Comparisons for programs: one row for each figure, the same in CSV and JSON.
//!
//! Headers are stable: columns are only added at the end. A missing figure is empty in CSV and
//! `null` in JSON, never 0.

use serde::Serialize;

use engine::plan::Pace;
use lab::compare::diff::{Basis, Change, Diff, Outcome};
use lab::compare::ranking::Ranking;
use lab::compare::{Estimate, Evidence, Loop, Metric, Standing};
use subject::machine::{Build, Machine};

/// Version of what is printed as JSON; it grows when a key changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Where the figures come from.
#[derive(Debug, Serialize)]
pub struct Provenance<'a> {
    /// Names of the sets.
    pub sets: &'a [String],
    /// The commands that measured them.
    pub commands: &'a [String],
    /// When the first began, UTC.
    pub started: &'a str,
    /// Cells that were asked for and not measured.
    pub cells_missing: usize,
    /// Where.
    pub machine: &'a Machine,
    /// What.
    pub build: &'a Build,
    /// Differences that change no figure, and facts that are unknown in some set.
    pub remarks: &'a [String],
}

impl<'a> Provenance<'a> {
    /// The provenance of all figures of this evidence.
    pub fn of(evidence: &'a Evidence) -> Self {
        Provenance {
            sets: &evidence.sets,
            commands: &evidence.commands,
            started: &evidence.started,
            cells_missing: evidence.missing,
            machine: &evidence.machine,
            build: &evidence.build,
            remarks: &evidence.remarks,
        }
    }
}

/// Of which kind a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// One of ours; or any server, if none of ours is there.
    Ranked,
    /// What every server pays.
    Floor,
    /// A server of others, for reference.
    Reference,
}

impl Role {
    pub(crate) fn of(evidence: &Evidence, server: &str) -> Self {
        match (evidence.is_floor(server), evidence.competes(server)) {
            (true, _) => Role::Floor,
            (false, true) => Role::Ranked,
            (false, false) => Role::Reference,
        }
    }
}

/// One server under one workload by one metric: a row of `cmp`.
#[derive(Debug, Serialize)]
pub struct CmpRow<'a> {
    workload: &'a str,
    /// `closed`, or how an open loop is driven.
    pace: Pace,
    connections: usize,
    idle: usize,
    server: &'a str,
    role: Role,
    metric: &'static str,
    unit: &'static str,
    value: Option<f64>,
    value_low: Option<f64>,
    value_high: Option<f64>,
    ratio_to_best: Option<f64>,
    ratio_to_best_low: Option<f64>,
    ratio_to_best_high: Option<f64>,
    of_floor: Option<f64>,
    of_floor_low: Option<f64>,
    of_floor_high: Option<f64>,
    rank: Option<u32>,
    standing: Standing,
    /// Rounds that the value comes from.
    rounds: usize,
    /// Rounds that were tried and excluded.
    rounds_left_out: usize,
    /// Whether its ratio says anything; absent where there is none.
    resolved: Option<bool>,
}

/// Rows of `cmp`, by metric, workload and server.
pub fn cmp<'a>(evidence: &'a Evidence, metrics: &[Metric]) -> Vec<CmpRow<'a>> {
    let mut rows = Vec::new();
    for &metric in metrics {
        let workloads = evidence.workloads.iter().filter(|it| metric.says(it));
        for (workload, row) in workloads.zip(evidence.compare(metric).rows) {
            let entries = evidence.servers.iter().zip(row.entries);
            rows.extend(entries.map(|(server, entry)| CmpRow {
                workload: &workload.name,
                pace: workload.pace,
                connections: workload.connections,
                idle: workload.idle,
                server,
                role: Role::of(evidence, server),
                metric: metric.name(),
                unit: metric.unit(),
                value: value(entry.value),
                value_low: low(entry.value),
                value_high: high(entry.value),
                ratio_to_best: value(entry.ratio),
                ratio_to_best_low: low(entry.ratio),
                ratio_to_best_high: high(entry.ratio),
                of_floor: value(entry.of_floor),
                of_floor_low: low(entry.of_floor),
                of_floor_high: high(entry.of_floor),
                rank: entry.rank,
                standing: entry.standing,
                rounds: entry.rounds,
                rounds_left_out: entry.rounds_all - entry.rounds,
                resolved: entry.ratio.map(|_| !entry.is_unresolved),
            }));
        }
    }
    rows
}

/// One server under one workload by one metric in two sets: a row of `diff`.
#[derive(Debug, Serialize)]
pub struct DiffRow<'a> {
    workload: &'a str,
    pace: Pace,
    server: &'a str,
    role: Role,
    metric: &'static str,
    unit: &'static str,
    old: f64,
    new: f64,
    /// What `ratio` is of: `of-floor` or `as-measured`.
    basis: Basis,
    /// New divided by old, on that basis.
    ratio: f64,
    ratio_low: Option<f64>,
    ratio_high: Option<f64>,
    old_compared: f64,
    new_compared: f64,
    /// Absent for the floor itself, whose ratio is the machine's drift.
    outcome: Option<Outcome>,
    old_rounds: usize,
    old_rounds_left_out: usize,
    new_rounds: usize,
    new_rounds_left_out: usize,
}

/// Rows of `diff`: what could be compared, then the floor.
pub fn diff<'a>(old: &Evidence, diffs: &'a [Diff]) -> Vec<DiffRow<'a>> {
    let row = |metric: Metric, change: &'a Change, outcome: Option<Outcome>| DiffRow {
        workload: &change.workload,
        pace: change.pace,
        server: &change.server,
        role: Role::of(old, &change.server),
        metric: metric.name(),
        unit: metric.unit(),
        old: digits(change.old.value.value),
        new: digits(change.new.value.value),
        basis: change.basis,
        ratio: digits(change.ratio.value),
        ratio_low: low(Some(change.ratio)),
        ratio_high: high(Some(change.ratio)),
        old_compared: digits(change.old.compared.value),
        new_compared: digits(change.new.compared.value),
        outcome,
        old_rounds: change.old.rounds,
        old_rounds_left_out: change.old.rounds_all - change.old.rounds,
        new_rounds: change.new.rounds,
        new_rounds_left_out: change.new.rounds_all - change.new.rounds,
    };
    let rows = diffs.iter().flat_map(|diff| {
        let changes = diff.changes.iter();
        let changes = changes.map(move |change| row(diff.metric, change, Some(change.outcome)));
        let drift = diff.drift.iter();
        changes.chain(drift.map(move |change| row(diff.metric, change, None)))
    });
    rows.collect()
}

/// One server by one metric over several workloads: a row of `rank`.
#[derive(Debug, Serialize)]
pub struct RankRow<'a> {
    metric: &'static str,
    /// `closed` or `open`, where the metric is not the same thing in both.
    r#loop: Option<&'static str>,
    server: &'a str,
    role: Role,
    rank: Option<u32>,
    ratio_to_best: Option<f64>,
    ratio_to_best_low: Option<f64>,
    ratio_to_best_high: Option<f64>,
    of_floor: Option<f64>,
    of_floor_low: Option<f64>,
    of_floor_high: Option<f64>,
    /// How many workloads the mean is over.
    workloads: usize,
    /// Whether its ratio says anything; absent where there is none.
    resolved: Option<bool>,
}

/// Rows of `rank`, by metric, from the best on.
pub fn rank<'a>(evidence: &Evidence, rankings: &'a [Ranking]) -> Vec<RankRow<'a>> {
    let rows = rankings.iter().flat_map(|ranking| {
        ranking.places.iter().map(|place| RankRow {
            metric: ranking.metric.name(),
            r#loop: ranking.only.map(Loop::as_str),
            server: &place.server,
            role: Role::of(evidence, &place.server),
            rank: place.rank,
            ratio_to_best: value(place.ratio),
            ratio_to_best_low: low(place.ratio),
            ratio_to_best_high: high(place.ratio),
            of_floor: value(place.of_floor),
            of_floor_low: low(place.of_floor),
            of_floor_high: high(place.of_floor),
            workloads: ranking.workloads.len(),
            resolved: place.ratio.map(|_| !place.is_unresolved),
        })
    });
    rows.collect()
}

fn value(estimate: Option<Estimate>) -> Option<f64> {
    finite(estimate?.value)
}

fn low(estimate: Option<Estimate>) -> Option<f64> {
    finite(estimate?.interval?.0)
}

fn high(estimate: Option<Estimate>) -> Option<f64> {
    finite(estimate?.interval?.1)
}

/// Infinity is left out.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then(|| digits(value))
}

/// Six significant digits: the rest is noise.
fn digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    format!("{value:.5e}")
        .parse()
        .expect("a number was written")
}
