//! Comparisons of servers from sets: medians over rounds, ratios to the best, and their intervals.
//! Pure functions.
//!
//! The unit of evidence is the round: requests within a round are not independent, and freshly
//! started processes settle at different values. So a value is the median over rounds, a ratio is
//! the median of the ratios within each round, and their 95% intervals come from resampling rounds.
//! Two servers are different only if the interval of their ratio does not contain 1; statistical
//! ties share a rank.

pub mod diff;
mod latencies;
mod metric;
pub mod ranking;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use latencies::Latencies;
pub use metric::{Metric, Units};

pub use crate::estimate::Estimate;
use crate::estimate::estimate;
use crate::set::ledger_rows;
use crate::set::{Campaign, Cell, Set};
use engine::foreign;
use engine::plan::{Pace, Rate};
use engine::verdict::Status;
use subject::catalogue::Workload;
use subject::machine::{Build, Machine};

/// One set, or several compatible ones: measurements on one machine with one build.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Names of the sets.
    pub sets: Vec<String>,
    /// The commands that measured them.
    pub commands: Vec<String>,
    /// When the first set began, UTC.
    pub started: String,
    /// Names of the servers, in the order of the sets.
    pub servers: Vec<String>,
    /// The workloads, in the order of the sets.
    pub workloads: Vec<Workload>,
    /// The number of rounds in all sets; some may be incomplete.
    pub rounds: u32,
    /// The cells of all sets; rounds of different sets have different numbers.
    pub cells: Vec<Cell>,
    /// Cells that were requested but are not measured yet.
    pub missing: usize,
    /// The machine.
    pub machine: Machine,
    /// The build.
    pub build: Build,
    /// The additional arguments of every server.
    pub server_args: Vec<String>,
    /// The server that is the floor.
    pub floor: Option<String>,
    /// The servers that are references.
    pub references: Vec<String>,
    /// The groups of each server that has some.
    pub server_groups: BTreeMap<String, Vec<String>>,
    /// Counts from separate passes, of all sets.
    pub ledger: Vec<ledger_rows::Row>,
    /// The interval logs of all sets, from which [`Latencies`] are made.
    pub logs: Vec<Log>,
    /// Unimportant differences between the sets, and differences that cannot be excluded.
    pub remarks: Vec<String>,
}

/// The histograms of one server in one set.
#[derive(Debug, Clone)]
pub struct Log {
    /// Name of the server.
    pub server: String,
    /// Rounds of the sets before this one, which its own rounds follow.
    pub rounds_before: u32,
    /// The lines of an interval log, checked.
    pub bytes: Vec<u8>,
}

fn logs_behind(rounds_before: u32, logs: BTreeMap<String, Vec<u8>>) -> impl Iterator<Item = Log> {
    logs.into_iter().map(move |(server, bytes)| Log {
        server,
        rounds_before,
        bytes,
    })
}

/// Sets that must not be combined in one table.
#[derive(Debug, thiserror::Error)]
#[error("{one} and {other} cannot be combined: {}", differences.join("; "))]
pub struct Mixed {
    one: String,
    other: String,
    differences: Vec<String>,
}

impl Evidence {
    /// Combines sets, in this order.
    ///
    /// # Errors
    ///
    /// If they have different machines, builds or workloads, or one is a copy of another.
    ///
    /// # Panics
    ///
    /// Without any set.
    pub fn of(sets: Vec<Set>) -> Result<Self, Mixed> {
        if let Some(mixed) = copies(&sets) {
            return Err(mixed);
        }
        let mut sets = sets.into_iter();
        let first = sets.next().expect("one set at least");
        let mut all = Evidence {
            sets: vec![first.name()],
            commands: vec![first.campaign.command.clone()],
            started: first.campaign.started.clone(),
            missing: first.missing().len(),
            servers: first.campaign.servers,
            workloads: first.campaign.workloads,
            rounds: first.campaign.rounds,
            cells: first.cells,
            machine: first.machine,
            build: first.build,
            server_args: first.campaign.server_args,
            floor: first.campaign.floor,
            references: first.campaign.references,
            server_groups: first.campaign.server_groups,
            ledger: first.ledger,
            logs: logs_behind(0, first.logs).collect(),
            remarks: Vec::new(),
        };
        for set in sets {
            all.add(set)?;
        }
        Ok(all)
    }

    fn add(&mut self, set: Set) -> Result<(), Mixed> {
        let machine = self.machine.likeness(&set.machine);
        let build = self.build.likeness(&set.build);
        let mut differences = [machine.differences, build.differences].concat();
        let remarks = [machine.remarks, build.remarks].concat();
        for mine in &self.workloads {
            let theirs = set.campaign.workload(&mine.name);
            let differing = theirs.map(|theirs| mine.differences(theirs));
            if let Some(fields) = differing.filter(|fields| !fields.is_empty()) {
                let fields = fields.join(", ");
                differences.push(format!("workload {}: different load ({fields})", mine.name));
            }
        }
        if self.server_args != set.campaign.server_args {
            differences.push("servers: different arguments (--server-arg)".to_owned());
        }
        differences.extend(self.differing_roles(&set.campaign));
        if !differences.is_empty() {
            return Err(Mixed {
                one: self.sets[0].clone(),
                other: set.name(),
                differences,
            });
        }
        for remark in remarks {
            let remark = format!("{} and {}: {remark}", self.sets[0], set.name());
            self.remarks.push(remark);
        }
        self.missing += set.missing().len();
        self.sets.push(set.name());
        self.commands.push(set.campaign.command);
        self.started = self.started.clone().min(set.campaign.started);
        for server in set.campaign.servers {
            if !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
        for workload in set.campaign.workloads {
            if !self.workloads.iter().any(|mine| mine.name == workload.name) {
                self.workloads.push(workload);
            }
        }
        self.floor = self.floor.take().or(set.campaign.floor);
        self.references.extend(set.campaign.references);
        for (server, groups) in set.campaign.server_groups {
            let all = self.server_groups.entry(server).or_default();
            for group in groups {
                if !all.contains(&group) {
                    all.push(group);
                }
            }
        }
        self.ledger.extend(set.ledger);
        self.build.servers.extend(set.build.servers);
        let before = self.rounds;
        self.logs.extend(logs_behind(before, set.logs));
        self.rounds += set.campaign.rounds;
        self.cells.extend(set.cells.into_iter().map(|cell| Cell {
            round: cell.round + before,
            ..cell
        }));
        Ok(())
    }

    /// Compares floor and references, which must be the same in all sets.
    fn differing_roles(&self, other: &Campaign) -> Vec<String> {
        let mut differences = Vec::new();
        if let (Some(mine), Some(theirs)) = (&self.floor, &other.floor)
            && mine != theirs
        {
            differences.push(format!("floor: {mine:?} and {theirs:?}"));
        }
        for server in self.servers.iter().filter(|it| other.servers.contains(it)) {
            let mine = role(server, self.floor.as_ref(), &self.references);
            let theirs = role(server, other.floor.as_ref(), &other.references);
            if mine != theirs {
                differences.push(format!("role of {server}: {mine} and {theirs}"));
            }
        }
        differences
    }

    /// Restricts comparisons and output to these servers and workloads. The floor is still used for
    /// multiples.
    pub fn keep(&mut self, server: impl Fn(&String) -> bool, workload: impl Fn(&Workload) -> bool) {
        self.servers.retain(server);
        self.workloads.retain(workload);
    }

    /// Compares each server under each workload by one metric.
    pub fn compare(&self, metric: Metric) -> Comparison {
        self.comparison(metric, None)
    }

    /// The comparison as shown: workloads in closed and open loop in separate tables if the metric
    /// differs in kind between them.
    pub fn tables(&self, metric: Metric) -> Vec<Comparison> {
        let loops = match metric.depends_on_pace() {
            true => vec![Some(Loop::Closed), Some(Loop::Open)],
            false => vec![None],
        };
        let tables = loops.into_iter().map(|only| self.comparison(metric, only));
        tables.filter(|table| !table.rows.is_empty()).collect()
    }

    fn comparison(&self, metric: Metric, only: Option<Loop>) -> Comparison {
        let is_shown = |workload: &&Workload| {
            metric.says(workload) && only.is_none_or(|only| only == Loop::of(workload.pace))
        };
        let rows = self.workloads.iter().filter(is_shown).map(|workload| {
            let columns: Vec<Column> = (self.servers.iter())
                .map(|server| self.column(server, &workload.name, metric))
                .collect();
            let floor = (self.floor.as_ref())
                .filter(|_| metric == Metric::Cpu)
                .map(|floor| self.column(floor, &workload.name, metric));
            Row {
                workload: workload.name.clone(),
                rate: workload.pace.rate(),
                connections: workload.connections,
                idle: workload.idle,
                entries: entries(&columns, floor.as_ref(), metric),
            }
        });
        Comparison {
            metric,
            only,
            floor: self.servers.iter().position(|server| self.is_floor(server)),
            servers: self.servers.clone(),
            rows: rows.collect(),
        }
    }

    /// The metrics of the summary, the most important first.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![Metric::Cpu, Metric::Throughput, Metric::P99];
        if self.workloads.iter().any(|workload| workload.idle > 0) {
            metrics.push(Metric::IdleMemory);
        }
        metrics
    }

    /// Every server and workload with a round that failed or was not valid.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for workload in &self.workloads {
            for server in &self.servers {
                let cells: Vec<&Cell> = self.cells_of(server, &workload.name).collect();
                let is_bad = |cell: &&&Cell| cell.verdict != Some(Status::Valid);
                let bad: Vec<_> = cells.iter().copied().filter(|cell| is_bad(&cell)).collect();
                let Some(first) = bad.first() else {
                    continue;
                };
                faults.push(Fault {
                    workload: workload.name.clone(),
                    server: server.clone(),
                    reason: (first.error.clone())
                        .or_else(|| first.reasons.clone())
                        .unwrap_or_default(),
                    rounds: bad.len(),
                    rounds_all: cells.len(),
                    standing: standing(&cells, Metric::Throughput),
                });
            }
        }
        faults
    }

    /// Missing figures of these metrics in cells that count, each with its reason.
    pub fn blanks(&self, metrics: &[Metric]) -> Vec<Blank> {
        let mut blanks = Vec::new();
        for &metric in metrics {
            for workload in self.workloads.iter().filter(|it| metric.says(it)) {
                for server in &self.servers {
                    let column = self.column(server, &workload.name, metric);
                    let is_blank = column.by_round.is_empty() && metric.percentile().is_none();
                    if is_blank && column.standing == Standing::Ranked {
                        let said =
                            |cell: &Cell| cell.error.clone().or_else(|| cell.reasons.clone());
                        let said = self.cells_of(server, &workload.name).find_map(said);
                        blanks.push(Blank {
                            metric,
                            workload: workload.name.clone(),
                            server: server.clone(),
                            reason: said.unwrap_or_else(|| metric.missing().to_owned()),
                        });
                    }
                }
            }
        }
        blanks
    }

    /// Figures of these metrics from too few rounds to be compared, each with the number of rounds.
    pub fn sparse(&self, metrics: &[Metric]) -> Vec<Blank> {
        let mut sparse = Vec::new();
        for &metric in metrics {
            for workload in self.workloads.iter().filter(|it| metric.says(it)) {
                for server in &self.servers {
                    let reason = self.column(server, &workload.name, metric).sparse();
                    sparse.extend(reason.map(|reason| Blank {
                        metric,
                        workload: workload.name.clone(),
                        server: server.clone(),
                        reason,
                    }));
                }
            }
        }
        sparse
    }

    /// Why a server under a workload is not compared by this metric.
    fn reason(&self, server: &str, workload: &str, metric: Metric, column: &Column) -> String {
        if let Some(reason) = column.sparse() {
            return reason;
        }
        let standing = column.standing;
        let said = |cell: &Cell| match metric.counts(cell.verdict) {
            true => None,
            false => cell.error.clone().or_else(|| cell.reasons.clone()),
        };
        let reason = self.cells_of(server, workload).find_map(said);
        let word = match standing {
            Standing::Ranked => "no value",
            // The word alone is enough.
            Standing::ClientBound => return "client-bound".to_owned(),
            Standing::NotValid => "not valid",
            Standing::Failed => "failed",
            Standing::Missing => "not measured",
        };
        match reason {
            Some(reason) => format!("{word}: {reason}"),
            None => word.to_owned(),
        }
    }

    /// Whether a server is the floor.
    pub fn is_floor(&self, server: &str) -> bool {
        self.floor.as_deref() == Some(server)
    }

    /// Whether a server is ranked. If none of ours was measured, all are.
    pub fn competes(&self, server: &str) -> bool {
        let is_ours = |server: &String| !self.is_floor(server) && !self.references.contains(server);
        let has_ours = self.servers.iter().any(is_ours);
        is_ours(&server.to_owned()) || (!has_ours && !self.is_floor(server))
    }

    /// The rounds behind the figure of a server under a workload.
    pub fn rounds_shown(&self, server: &str, workload: &str, metric: Metric) -> BTreeSet<u32> {
        let column = self.column(server, workload, metric);
        column.by_round.into_keys().collect()
    }

    /// A server's value divided by another's, round by round; absent unless both are compared. Of a server by
    /// itself it is 1.
    pub fn ratio(
        &self,
        server: &str,
        to: &str,
        workload: &str,
        metric: Metric,
    ) -> Option<Estimate> {
        let [of, to] = [server, to].map(|name| self.column(name, workload, metric));
        (of.is_compared() && to.is_compared())
            .then(|| ratio(&of, &to))
            .flatten()
    }

    fn cells_of<'a>(
        &'a self,
        server: &'a str,
        workload: &'a str,
    ) -> impl Iterator<Item = &'a Cell> {
        self.cells
            .iter()
            .filter(move |cell| cell.server == server && cell.workload == workload)
    }

    fn column(&self, server: &str, workload: &str, metric: Metric) -> Column {
        let cells: Vec<&Cell> = self.cells_of(server, workload).collect();
        let standing = standing(&cells, metric);
        let shown = |cell: &&&Cell| match standing {
            Standing::Ranked => metric.counts(cell.verdict),
            Standing::ClientBound => cell.verdict != Some(Status::Invalid),
            Standing::NotValid | Standing::Failed | Standing::Missing => true,
        };
        let value = |cell: &&Cell| Some((cell.round, metric.of(cell)?));
        Column {
            competes: self.competes(server),
            standing,
            left_out: cells
                .iter()
                .filter(|cell| !metric.counts(cell.verdict))
                .count(),
            by_round: cells.iter().filter(shown).filter_map(value).collect(),
            rounds_all: cells.len(),
        }
    }
}

/// Two sets with the same rounds, which would count twice.
fn copies(sets: &[Set]) -> Option<Mixed> {
    let origin = |set: &Set| (set.campaign.started.clone(), set.campaign.seed);
    let mut seen: BTreeMap<_, &Set> = BTreeMap::new();
    sets.iter().find_map(|set| {
        let first = seen.insert(origin(set), set)?;
        let (started, seed) = origin(set);
        Some(Mixed {
            one: foreign::path(&first.path),
            other: foreign::path(&set.path),
            differences: vec![format!(
                "they are the same measurement, which began {started} with seed {seed}"
            )],
        })
    })
}

/// The role of a server in a set.
fn role(server: &String, floor: Option<&String>, references: &[String]) -> &'static str {
    match () {
        () if floor == Some(server) => "the floor",
        () if references.contains(server) => "a reference",
        () => "ranked",
    }
}

/// A comparison of every server under every workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The metric.
    pub metric: Metric,
    /// The loop of its workloads, if restricted to one.
    pub only: Option<Loop>,
    /// The servers, as columns.
    pub servers: Vec<String>,
    /// The column of the floor, if present.
    pub floor: Option<usize>,
    /// One row per workload.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// The heading of the table.
    pub fn title(&self) -> String {
        titled(self.metric, self.only)
    }
}

/// The title of a metric, with its loop if restricted to one.
pub fn titled(metric: Metric, only: Option<Loop>) -> String {
    match only {
        Some(only) => format!("{}, {} loop", metric.title(), only.as_str()),
        None => metric.title().to_owned(),
    }
}

/// What determines when a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// The server's answers.
    Closed,
    /// A schedule.
    Open,
}

impl Loop {
    /// The loop of a pace.
    pub fn of(pace: Pace) -> Self {
        match pace {
            Pace::Closed => Loop::Closed,
            Pace::Constant(_) | Pace::Poisson(_) => Loop::Open,
        }
    }

    /// The word used in headings.
    pub fn as_str(self) -> &'static str {
        match self {
            Loop::Closed => "closed",
            Loop::Open => "open",
        }
    }
}

/// All servers under one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name of the workload.
    pub workload: String,
    /// The rate in open loop; do not compare such latency with that of a closed loop.
    pub rate: Option<Rate>,
    /// Connections open at once.
    pub connections: usize,
    /// Additional idle connections.
    pub idle: usize,
    /// One entry per server, in column order.
    pub entries: Vec<Entry>,
}

impl Row {
    /// The rank of one entry as printed: `#2`, or `#1=` for a tie.
    pub fn rank_mark(&self, column: usize) -> Option<String> {
        let rank = self.entries[column].rank?;
        let sharing = self
            .entries
            .iter()
            .filter(|it| it.rank == Some(rank))
            .count();
        Some(rank_mark(rank, sharing > 1))
    }
}

/// A rank as printed.
pub fn rank_mark(rank: u32, is_shared: bool) -> String {
    format!("#{rank}{}", if is_shared { "=" } else { "" })
}

/// One server under one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Whether it is compared.
    pub standing: Standing,
    /// The median over the rounds that count; absent if none has a value.
    pub value: Option<Estimate>,
    /// The ratio of its value to the best, for compared entries.
    pub ratio: Option<Estimate>,
    /// The ratio of its value to the floor's, if there is a floor and the metric is CPU.
    pub of_floor: Option<Estimate>,
    /// The rank from 1, among our compared servers; statistical ties with the first of a rank share
    /// it. Absent if no server is the best.
    pub rank: Option<u32>,
    /// The reference of the ratios: no compared entry is better, and no client-bound one.
    pub is_base: bool,
    /// It is the reference and has the first rank: no other is better, as far as that is resolved.
    pub is_best: bool,
    /// Half of its rounds or more have no value: it is shown, but neither ranked nor compared.
    pub is_sparse: bool,
    /// Its ratio is too uncertain to be informative, and it has no rank.
    pub is_unresolved: bool,
    /// Rounds of a compared entry that do not count.
    pub left_out: usize,
    /// Rounds behind the value.
    pub rounds: usize,
    /// Rounds that were tried.
    pub rounds_all: usize,
}

/// Whether an entry is compared with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// More than half of its rounds count; the others are left out.
    #[serde(rename = "compared")]
    Ranked,
    /// Shown, but the generator was the bottleneck in too many rounds.
    ClientBound,
    /// Shown, but too many rounds were not valid.
    NotValid,
    /// No round could be measured.
    Failed,
    /// Not tried.
    Missing,
}

/// Why rounds of a server under a workload were not valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Name of the workload.
    pub workload: String,
    /// Name of the server.
    pub server: String,
    /// The reason of the first such round.
    pub reason: String,
    /// The number of rounds that failed or were not valid.
    pub rounds: usize,
    /// The number of all rounds.
    pub rounds_all: usize,
    /// The resulting standing where only valid rounds count.
    pub standing: Standing,
}

/// A figure that is missing or not compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Blank {
    /// The metric.
    pub metric: Metric,
    /// Name of the workload.
    pub workload: String,
    /// Name of the server.
    pub server: String,
    /// The reason.
    pub reason: String,
}

/// The rounds of a server under a workload that count.
#[derive(Clone)]
struct Column {
    /// Neither the floor nor a reference.
    competes: bool,
    standing: Standing,
    left_out: usize,
    by_round: BTreeMap<u32, f64>,
    rounds_all: usize,
}

impl Column {
    fn is_compared(&self) -> bool {
        self.standing == Standing::Ranked && self.sparse().is_none()
    }

    /// Why it is not compared although its rounds count: half of them or more have no value. A
    /// percentile that few rounds support would be that of the rounds with the most samples.
    fn sparse(&self) -> Option<String> {
        let (some, all) = (self.by_round.len(), self.rounds_all);
        let is_sparse = self.standing == Standing::Ranked && some > 0 && 2 * some <= all;
        is_sparse.then(|| format!("a value in {some} of {all} rounds only"))
    }

    fn estimate(&self) -> Option<Estimate> {
        estimate(&self.by_round.values().copied().collect::<Vec<_>>())
    }
}

fn standing(cells: &[&Cell], metric: Metric) -> Standing {
    let count = |wanted: &dyn Fn(Option<Status>) -> bool| {
        cells.iter().filter(|cell| wanted(cell.verdict)).count()
    };
    let counting = count(&|verdict| metric.counts(verdict));
    let usable = count(&|verdict| matches!(verdict, Some(Status::Valid | Status::ClientBound)));
    let failed = cells.iter().filter(|cell| cell.error.is_some()).count();
    match cells.len() {
        0 => Standing::Missing,
        all if failed == all => Standing::Failed,
        all if 2 * counting > all => Standing::Ranked,
        all if 2 * usable > all => Standing::ClientBound,
        _ => Standing::NotValid,
    }
}

fn entries(columns: &[Column], floor: Option<&Column>, metric: Metric) -> Vec<Entry> {
    let values: Vec<Option<Estimate>> = columns.iter().map(Column::estimate).collect();
    let is_compared = |index: &usize| columns[*index].is_compared();
    let goodness = |index: &usize| {
        values[*index].map(|estimate| match metric.less_is_better() {
            true => -estimate.value,
            false => estimate.value,
        })
    };
    // From the best to the worst.
    let mut order: Vec<usize> = (0..columns.len())
        .filter(|index| columns[*index].competes && is_compared(index) && values[*index].is_some())
        .collect();
    let by_goodness = |a: &usize, b: &usize| {
        (goodness(b).partial_cmp(&goodness(a))).expect("medians are numbers")
    };
    order.sort_by(by_goodness);
    // A client-bound value is only a bound: its server can do better still. So no server below it
    // is the best.
    let outruns = |other: &usize, index: &usize| {
        let other_is_bound = columns[*other].standing == Standing::ClientBound;
        other_is_bound && columns[*other].competes && goodness(other) > goodness(index)
    };
    // A server that leads by chance, with an unknown value, must not be the reference for others.
    let narrow =
        (order.iter().copied()).find(|&index| values[index].is_some_and(|value| value.is_narrow()));
    let leads = |index: &usize| {
        narrow.is_none_or(|narrow| {
            let ratio = ratio(&columns[*index], &columns[narrow]);
            narrow == *index || ratio.is_some_and(|ratio| ratio.is_resolved())
        })
    };
    let first = order.iter().position(leads).unwrap_or_default();
    let best = (order.get(first).copied())
        .filter(|best| !(0..columns.len()).any(|other| outruns(&other, best)));
    let ranks = match best {
        Some(_) => ranks(&order, first, |a, b| ratio(&columns[b], &columns[a])),
        None => BTreeMap::new(),
    };
    let entry = |index: usize| {
        let column = &columns[index];
        let compared_with = |other: Option<&Column>| {
            let other = other.filter(|other| column.is_compared() && other.is_compared())?;
            ratio(column, other)
        };
        let ratio = compared_with(best.map(|best| &columns[best]));
        let rank = ranks.get(&index).copied();
        let has_lost_its_rank = best.is_some() && rank.is_none() && order.contains(&index);
        Entry {
            standing: column.standing,
            value: values[index],
            ratio,
            of_floor: compared_with(floor),
            rank,
            is_base: best == Some(index),
            is_best: best == Some(index) && rank.is_some(),
            is_sparse: column.sparse().is_some(),
            is_unresolved: has_lost_its_rank || ratio.is_some_and(|it| !it.is_resolved()),
            left_out: match column.standing {
                Standing::Ranked => column.left_out,
                _ => 0,
            },
            rounds: column.by_round.len(),
            rounds_all: column.rounds_all,
        }
    };
    (0..columns.len()).map(entry).collect()
}

/// The ratio of two columns, round by round.
fn ratio(of: &Column, to: &Column) -> Option<Estimate> {
    estimate(&ratios(of, to).into_values().collect::<Vec<_>>())
}

/// The ratios of all rounds that both columns have.
fn ratios(of: &Column, to: &Column) -> BTreeMap<u32, f64> {
    let ratio = |(round, value): (&u32, &f64)| {
        // Memory need not grow at all.
        let ratio = Some(value / to.by_round.get(round)?).filter(|ratio| ratio.is_finite())?;
        Some((*round, ratio))
    };
    of.by_round.iter().filter_map(ratio).collect()
}

/// Ranks of columns in this order, from element `first` on. A column that ties with the first of a
/// rank shares it, and the next rank counts all before it (1, 1, 3). A column whose ratio to that
/// first one is not resolved has no rank. If that holds for all others, the first has none either.
pub fn ranks(
    order: &[usize],
    first: usize,
    ratio: impl Fn(usize, usize) -> Option<Estimate>,
) -> BTreeMap<usize, u32> {
    let mut ranks = BTreeMap::new();
    let mut leader: Option<(usize, u32)> = None;
    for &index in &order[first..] {
        let ratio = leader.and_then(|(leader, _)| ratio(leader, index));
        if ratio.is_some_and(|ratio| !ratio.is_resolved()) {
            continue;
        }
        let shared = leader.filter(|_| !ratio.is_some_and(|ratio| ratio.tells_apart()));
        let place = ranks.len() as u32 + 1;
        let (_, rank) = *leader.insert(shared.unwrap_or((index, place)));
        ranks.insert(index, rank);
    }
    if ranks.len() == 1 && order.len() > 1 {
        ranks.clear();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cell, evidence};

    #[test]
    fn the_ratio_of_any_two() {
        let cells = (1..=4).flat_map(|round| {
            [("a", 10.0), ("b", 20.0), ("c", 40.0)]
                .map(|(server, us)| cell(server, "w", round, us * f64::from(round)))
        });
        let mut evidence = evidence(&["a", "b", "c"], &["w"], cells.collect());
        let ratio = |evidence: &Evidence, server, to| {
            let ratio = evidence.ratio(server, to, "w", Metric::Cpu);
            ratio.map(|it| it.value)
        };
        assert_eq!(ratio(&evidence, "c", "b"), Some(2.0));
        assert_eq!(ratio(&evidence, "b", "c"), Some(0.5));
        assert_eq!(ratio(&evidence, "b", "b"), Some(1.0));
        assert_eq!(ratio(&evidence, "b", "nobody"), None);
        for cell in &mut evidence.cells {
            if cell.server == "b" {
                cell.verdict = Some(Status::Invalid);
            }
        }
        assert_eq!(ratio(&evidence, "c", "b"), None, "it is not compared");
    }

    /// A machine that slows down by half between rounds changes values, not ratios.
    #[test]
    fn ratios_are_taken_within_rounds() {
        let cells = (1..=4).flat_map(|round| {
            let slow = f64::from(round);
            [
                cell("a", "w", round, 10.0 * slow),
                cell("b", "w", round, 20.0 * slow),
            ]
        });
        let comparison = evidence(&["a", "b"], &["w"], cells.collect()).compare(Metric::Cpu);
        let [a, b] = &comparison.rows[0].entries[..] else {
            panic!("{comparison:?}");
        };
        assert!(a.is_best && !b.is_best);
        let ratio = b.ratio.unwrap();
        assert_eq!((ratio.value, ratio.interval), (2.0, Some((2.0, 2.0))));
        assert_eq!(a.value.unwrap().value, 25.0);
        assert!(a.value.unwrap().spread().unwrap() > 0.3);
    }

    /// A value from one of six rounds has no interval, and would look certain.
    #[test]
    fn values_in_few_rounds_are_not_ranked() {
        let mut cells = Vec::new();
        for round in 1..=6 {
            cells.push(cell("often", "w", round, 800.0 + f64::from(round)));
            cells.push(cell("other", "w", round, 900.0 + f64::from(round)));
            let mut rare = cell("rare", "w", round, 8.0);
            rare.server_cpu_us_per_request = (round == 3).then_some(8.0);
            cells.push(rare);
        }
        let evidence = evidence(&["rare", "often", "other"], &["w"], cells);
        let row = &evidence.compare(Metric::Cpu).rows[0];
        let marks: Vec<_> = (0..3).map(|column| row.rank_mark(column)).collect();
        assert_eq!(marks, [None, Some("#1".to_owned()), Some("#2".to_owned())]);
        let rare = &row.entries[0];
        assert!(rare.is_sparse && rare.ratio.is_none() && rare.value.is_some());
        assert!(row.entries[1].is_best);
        let sparse = evidence.sparse(&[Metric::Cpu, Metric::Throughput]);
        assert_eq!(sparse.len(), 1);
        assert_eq!(sparse[0].reason, "a value in 1 of 6 rounds only");
        let rankings = evidence.rankings(Metric::Cpu, false);
        let stopped = &rankings[0].left_out[0].stopped;
        assert_eq!(stopped[0].reason, "a value in 1 of 6 rounds only");
    }

    #[test]
    fn a_single_round_is_enough_for_a_set_of_one() {
        let cells = vec![cell("a", "w", 1, 8.0), cell("b", "w", 1, 9.0)];
        let comparison = evidence(&["a", "b"], &["w"], cells).compare(Metric::Cpu);
        let entries = &comparison.rows[0].entries;
        assert!(entries.iter().all(|it| !it.is_sparse && it.ratio.is_some()));
    }

    #[test]
    fn only_valid_cells_compete() {
        let bad = |mut cell: Cell| {
            cell.verdict = Some(Status::Invalid);
            cell.reasons = Some("starved".to_owned());
            cell
        };
        let fail = |mut cell: Cell| {
            cell.verdict = None;
            cell.server_cpu_us_per_request = None;
            cell.error = Some("died".to_owned());
            cell
        };
        let mut cells = Vec::new();
        for round in 1..=3 {
            cells.push(cell("sound", "w", round, 10.0));
            cells.push(bad(cell("starving", "w", round, 1.0)));
            cells.push(fail(cell("dead", "w", round, 1.0)));
            // The bad round is not part of its value.
            let value = cell("mostly", "w", round, if round == 2 { 1.0 } else { 12.0 });
            cells.push(if round == 2 { bad(value) } else { value });
        }
        let names = ["sound", "starving", "dead", "mostly", "absent"];
        let evidence = evidence(&names, &["w"], cells);
        let comparison = evidence.compare(Metric::Cpu);
        let summary: Vec<_> = comparison.rows[0]
            .entries
            .iter()
            .map(|entry| {
                let value = entry.value.map(|estimate| estimate.value);
                let ratio = entry.ratio.map(|estimate| estimate.value);
                (entry.standing, value, ratio, entry.is_best, entry.left_out)
            })
            .collect();
        assert_eq!(
            summary,
            [
                (Standing::Ranked, Some(10.0), Some(1.0), true, 0),
                (Standing::NotValid, Some(1.0), None, false, 0),
                (Standing::Failed, None, None, false, 0),
                (Standing::Ranked, Some(12.0), Some(1.2), false, 1),
                (Standing::Missing, None, None, false, 0),
            ]
        );
        let faults: Vec<_> = (evidence.faults().into_iter())
            .map(|fault| (fault.server, fault.reason, fault.rounds, fault.rounds_all))
            .collect();
        let fault =
            |server: &str, reason: &str, rounds| (server.to_owned(), reason.to_owned(), rounds, 3);
        assert_eq!(
            faults,
            [
                fault("starving", "starved", 3),
                fault("dead", "died", 3),
                fault("mostly", "starved", 1),
            ]
        );
    }

    /// The generator's limit says nothing about throughput, and no server below it is the best.
    #[test]
    fn client_bound_cells_compete_for_cpu_only() {
        let cells = vec![
            cell("a", "w", 1, 10.0),
            Cell {
                verdict: Some(Status::ClientBound),
                ..cell("b", "w", 1, 5.0)
            },
        ];
        let evidence = evidence(&["a", "b"], &["w"], cells);
        let summary = |metric| -> Vec<_> {
            let entries = evidence.compare(metric).rows.remove(0).entries;
            (entries.into_iter())
                .map(|entry| (entry.standing, entry.ratio.map(|r| r.value), entry.is_best))
                .collect()
        };
        assert_eq!(
            summary(Metric::Cpu),
            [
                (Standing::Ranked, Some(2.0), false),
                (Standing::Ranked, Some(1.0), true),
            ]
        );
        assert_eq!(
            summary(Metric::Throughput),
            [
                (Standing::Ranked, None, false),
                (Standing::ClientBound, None, false),
            ]
        );
    }

    /// Memory is read before the generator has anything to do. Memory that does not grow makes no
    /// ratio.
    #[test]
    fn idle_memory_is_that_of_workloads_with_idle_connections() {
        let holds = |cell: Cell, bytes: f64| Cell {
            server_bytes_per_idle_connection: Some(bytes),
            verdict: Some(Status::ClientBound),
            ..cell
        };
        let cells = vec![
            holds(cell("a", "w", 1, 1.0), 4_000.0),
            holds(cell("b", "w", 1, 1.0), 6_000.0),
            cell("a", "v", 1, 1.0),
            cell("b", "v", 1, 1.0),
        ];
        let mut evidence = evidence(&["a", "b"], &["w", "v"], cells);
        assert!(!evidence.metrics().contains(&Metric::IdleMemory));
        evidence.workloads[0].idle = 5_000;
        assert!(evidence.metrics().contains(&Metric::IdleMemory));
        let rows = evidence.compare(Metric::IdleMemory).rows;
        assert_eq!((rows.len(), rows[0].idle), (1, 5_000));
        let ratios = |rows: &[Row]| -> Vec<_> {
            let entries = rows[0].entries.iter();
            entries
                .map(|entry| entry.ratio.map(|it| it.value))
                .collect()
        };
        assert_eq!(ratios(&rows), [Some(1.0), Some(1.5)]);
        evidence.cells[0].server_bytes_per_idle_connection = Some(0.0);
        let rows = evidence.compare(Metric::IdleMemory).rows;
        assert_eq!(ratios(&rows), [None, None]);
    }

    /// The floor and references are shown alongside, and never win.
    #[test]
    fn only_ours_are_ranked() {
        let mut cells = Vec::new();
        for round in 1..=6 {
            let drift = 1.0 + f64::from(round) / 10.0;
            for (server, cpu) in [("floor", 4.0), ("theirs", 4.5), ("a", 5.0), ("b", 10.0)] {
                cells.push(cell(server, "w", round, cpu * drift));
            }
        }
        let mut evidence = evidence(&["floor", "theirs", "a", "b"], &["w"], cells);
        evidence.floor = Some("floor".to_owned());
        evidence.references = vec!["theirs".to_owned()];
        let value = |estimate: Option<Estimate>| estimate.map(|it| (it.value * 1e6).round() / 1e6);
        let summary = |evidence: &Evidence, metric| -> Vec<_> {
            let entries = evidence.compare(metric).rows.remove(0).entries;
            (entries.into_iter())
                .map(|it| (it.rank, value(it.ratio), value(it.of_floor)))
                .collect()
        };
        assert_eq!(
            summary(&evidence, Metric::Cpu),
            [
                (None, Some(0.8), Some(1.0)),
                (None, Some(0.9), Some(1.125)),
                (Some(1), Some(1.0), Some(1.25)),
                (Some(2), Some(2.0), Some(2.5)),
            ]
        );
        assert!(
            summary(&evidence, Metric::P99)
                .iter()
                .all(|it| it.2.is_none())
        );
        evidence.servers.truncate(2);
        assert_eq!(
            summary(&evidence, Metric::Cpu),
            [
                (None, Some(0.888_889), Some(1.0)),
                (Some(1), Some(1.0), Some(1.125))
            ]
        );
    }

    /// Overlap with the first of a rank decides, not with the neighbour.
    #[test]
    fn who_is_not_told_apart_shares_a_rank() {
        let noise = [0.97, 1.04, 1.0, 0.99, 1.03, 0.98];
        let mut cells = Vec::new();
        for (round, noise) in (1..).zip(noise) {
            cells.push(cell("a", "w", round, 10.0));
            cells.push(cell("b", "w", round, 10.1 * noise));
            cells.push(cell("c", "w", round, 12.0 * noise));
            cells.push(cell("d", "w", round, 12.1));
        }
        let evidence = evidence(&["d", "c", "b", "a"], &["w"], cells);
        let entries = evidence.compare(Metric::Cpu).rows.remove(0).entries;
        let ranks: Vec<_> = entries.into_iter().map(|entry| entry.rank).collect();
        assert_eq!(ranks, [Some(3), Some(3), Some(1), Some(1)]);
    }

    /// Values that vary widely over rounds.
    const WILD: [f64; 6] = [1.0, 40.0, 0.3, 12.0, 0.2, 60.0];

    /// An uninformative interval gives no rank, and such a server must not be the reference for
    /// others.
    #[test]
    fn what_is_not_resolved_shares_no_rank() {
        for scale in [1.0, 10.0] {
            let mut cells = Vec::new();
            for (round, wild) in (1..).zip(WILD) {
                cells.push(cell("a", "w", round, 10.0));
                cells.push(cell("b", "w", round, 10.01));
                cells.push(cell("wild", "w", round, wild * scale));
                cells.push(cell("c", "w", round, 20.0));
            }
            let evidence = evidence(&["wild", "a", "b", "c"], &["w"], cells);
            let entries = evidence.compare(Metric::Cpu).rows.remove(0).entries;
            let ranks: Vec<_> = entries
                .iter()
                .map(|it| (it.rank, it.is_unresolved))
                .collect();
            let expected = [
                (None, true),
                (Some(1), false),
                (Some(2), false),
                (Some(3), false),
            ];
            assert_eq!(ranks, expected, "{scale}");
            assert!(entries[1].is_best, "{scale}");
            // The only other server is unknown, so the first is not known to be better.
            let two = Evidence {
                servers: vec!["wild".to_owned(), "a".to_owned()],
                ..evidence
            };
            let entries = two.compare(Metric::Cpu).rows.remove(0).entries;
            for entry in &entries {
                assert_eq!((entry.rank, entry.is_best), (None, false), "{scale}");
                assert!(entry.is_unresolved, "{scale}");
            }
            assert!(entries[1].is_base, "{scale}");
        }
    }

    /// A figure of zero is missing, and has its reason.
    #[test]
    fn blanks_have_reasons() {
        let nothing = |round| Cell {
            requests_per_s: Some(0.0),
            server_cpu_us_per_request: Some(0.0),
            ..cell("a", "w", round, 1.0)
        };
        let silent = |round| Cell {
            server_cpu_us_per_request: None,
            reasons: Some("CPU time of another process".to_owned()),
            ..cell("b", "w", round, 1.0)
        };
        let cells = vec![nothing(1), nothing(2), silent(1), silent(2)];
        let evidence = evidence(&["a", "b"], &["w"], cells);
        let entries = evidence.compare(Metric::Cpu).rows.remove(0).entries;
        assert!(
            entries
                .iter()
                .all(|it| it.value.is_none() && it.ratio.is_none())
        );
        let blanks = evidence.blanks(&[Metric::Cpu, Metric::Throughput, Metric::P99]);
        let blanks: Vec<_> = (blanks.iter())
            .map(|it| (it.server.as_str(), it.metric.name(), it.reason.as_str()))
            .collect();
        assert_eq!(
            blanks,
            [
                ("a", "cpu", Metric::Cpu.missing()),
                ("b", "cpu", "CPU time of another process"),
                ("a", "throughput", Metric::Throughput.missing()),
            ]
        );
    }

    #[test]
    fn more_is_better_for_throughput() {
        let cells = vec![cell("a", "w", 1, 10.0), cell("b", "w", 1, 20.0)];
        let comparison = evidence(&["a", "b"], &["w"], cells).compare(Metric::Throughput);
        let best: Vec<_> = comparison.rows[0]
            .entries
            .iter()
            .map(|entry| entry.is_best)
            .collect();
        // The fixture's throughput falls as its CPU per request grows.
        assert_eq!(best, [true, false]);
        assert_eq!(comparison.rows[0].entries[1].ratio.unwrap().value, 0.5);
    }
}
