//! Many servers in a table: they stand in rows, a group of workloads in columns. The podium, the floor and the
//! servers of others are shown; the rest is folded below them.

use super::{Value, connections_of};
use crate::chart::style::Style;
use crate::chart::{Findings, Load, LoadShape, count, rate_of};
use crate::direction;
use lab::compare::Metric;
use subject::catalogue::Workload;

/// More servers than this stand in rows.
const SERVERS_IN_COLUMNS: usize = 6;
/// So many workloads fit beside each other on a screen.
const COLUMNS: usize = 9;
/// The ranks of a podium.
const PODIUM: u32 = 3;

/// Whether there are too many servers for columns.
pub(super) fn is_large(findings: &Findings) -> bool {
    findings.evidence.servers.len() > SERVERS_IN_COLUMNS
}

/// Rows of which some are folded.
#[derive(Debug)]
pub(super) struct Folded<T> {
    pub(super) shown: Vec<T>,
    pub(super) rest: Vec<T>,
}

impl<T> Folded<T> {
    /// All of them, unless there are so many that some are folded.
    pub(super) fn of(findings: &Findings, rows: Vec<T>, is_shown: impl Fn(&T) -> bool) -> Self {
        let (mut shown, mut rest): (Vec<T>, Vec<T>) = match is_large(findings) {
            true => rows.into_iter().partition(is_shown),
            false => (rows, Vec::new()),
        };
        // A line that says that one more is folded takes its room.
        if rest.len() == 1 || shown.is_empty() {
            shown.append(&mut rest);
        }
        Folded { shown, rest }
    }
}

/// Workloads of one shape, or the single ones of several shapes.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: String,
    /// The one to lead with, and further ones.
    pub(super) tables: Vec<Table>,
}

/// Servers under a group of workloads by one metric.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) title: String,
    /// Workloads, each with what it differs in from the others.
    pub(super) head: Vec<(String, String)>,
    pub(super) rows: Folded<Row>,
}

/// A server under a group of workloads.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) server: String,
    pub(super) hue: usize,
    /// What it is, if it does not compete.
    pub(super) role: &'static str,
    pub(super) values: Vec<Value>,
}

/// Every workload in one group.
pub(super) fn all(findings: &Findings) -> Vec<Group> {
    let (series, singles): (Vec<Load>, Vec<Load>) =
        (Load::all(findings.evidence).into_iter()).partition(|load| load.workloads.len() > 1);
    let mut groups: Vec<Group> = Vec::new();
    let head = |it: &Workload| match it.pace.rate() {
        Some(_) => format!("{}/s", count(rate_of(it))),
        None => connections_of(it),
    };
    for loads in packed(&series) {
        let titles: Vec<String> = loads.iter().map(Load::title).collect();
        let workloads: Vec<&Workload> = (loads.iter())
            .flat_map(|it| it.workloads.iter().copied())
            .collect();
        for part in parts(&workloads) {
            groups.push(Group::of(findings, capital(&titles.join("; ")), part, head));
        }
    }
    for is_open in [false, true] {
        let alike = singles
            .iter()
            .filter(|it| it.rate_per_s.is_some() == is_open);
        let alike: Vec<&Workload> = alike.flat_map(|it| it.workloads.iter().copied()).collect();
        let title = if is_open {
            "Others in open loop"
        } else {
            "Others in closed loop"
        };
        for part in parts(&alike) {
            groups.push(Group::of(findings, title.to_owned(), part, |it| {
                format!("{}, {}", connections_of(it), LoadShape::of(it).title())
            }));
        }
    }
    groups
}

/// Neighbours that fit into one table together, as long as all are in closed loop or all in open loop.
fn packed<'a, 'b>(loads: &'b [Load<'a>]) -> Vec<&'b [Load<'a>]> {
    let mut packed = Vec::new();
    let mut begin = 0;
    for end in 1..=loads.len() {
        let columns = |loads: &[Load]| loads.iter().map(|it| it.workloads.len()).sum::<usize>();
        let fits = loads.get(end).is_some_and(|next| {
            columns(&loads[begin..=end]) <= COLUMNS
                && next.rate_per_s.is_some() == loads[begin].rate_per_s.is_some()
        });
        if !fits {
            packed.push(&loads[begin..end]);
            begin = end;
        }
    }
    packed
}

/// As few parts as there must be, of about the same size.
fn parts<'a, 'b>(workloads: &'b [&'a Workload]) -> impl Iterator<Item = &'b [&'a Workload]> {
    let parts = workloads.len().div_ceil(COLUMNS).max(1);
    workloads.chunks(workloads.len().div_ceil(parts).max(1))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|it| it.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

impl Group {
    fn of(
        findings: &Findings,
        title: String,
        workloads: &[&Workload],
        head: impl Fn(&Workload) -> String,
    ) -> Self {
        let is_open = workloads.iter().all(|it| it.pace.rate().is_some());
        let metrics: &[Metric] = match is_open {
            true => &[Metric::P99, Metric::P50, Metric::Cpu],
            false => &[
                Metric::Cpu,
                Metric::Throughput,
                Metric::P99,
                Metric::IdleMemory,
            ],
        };
        let tables = metrics.iter().filter_map(|&metric| {
            let says: Vec<&Workload> = (workloads.iter().copied())
                .filter(|it| findings.row(metric, &it.name).is_some())
                .collect();
            (!says.is_empty()).then(|| Table::of(findings, metric, &says, &head))
        });
        Group {
            title,
            tables: tables.collect(),
        }
    }
}

impl Table {
    fn of(
        findings: &Findings,
        metric: Metric,
        workloads: &[&Workload],
        head: &impl Fn(&Workload) -> String,
    ) -> Self {
        let evidence = findings.evidence;
        let last = u32::try_from(evidence.servers.len()).unwrap_or(u32::MAX);
        let mut rows: Vec<((u8, u64), bool, Row)> = Vec::new();
        for server in &evidence.servers {
            let entry = |it: &&Workload| findings.entry(metric, &it.name, server);
            let ranks = workloads.iter().map(|it| entry(it).and_then(|it| it.rank));
            let role = role(findings, server);
            let sum: u64 = ranks
                .clone()
                .map(|rank| u64::from(rank.unwrap_or(last)))
                .sum();
            let is_shown = !role.is_empty() || ranks.flatten().any(|rank| rank <= PODIUM);
            let row = Row {
                server: server.clone(),
                hue: Style::of(evidence, server).hue,
                role,
                values: (workloads.iter())
                    .map(|it| Value::short(findings, metric, &it.name, server))
                    .collect(),
            };
            rows.push(((u8::from(!row.role.is_empty()), sum), is_shown, row));
        }
        rows.sort_by_key(|(order, ..)| *order);
        let folded = Folded::of(findings, rows, |(_, is_shown, _)| *is_shown);
        let bare = |rows: Vec<(_, _, Row)>| rows.into_iter().map(|(.., row)| row).collect();
        Table {
            title: format!("{}, {}", metric.title(), direction(metric)),
            head: workloads
                .iter()
                .map(|it| (it.name.clone(), head(it)))
                .collect(),
            rows: Folded {
                shown: bare(folded.shown),
                rest: bare(folded.rest),
            },
        }
    }
}

/// What a server is that does not compete.
pub(super) fn role(findings: &Findings, server: &str) -> &'static str {
    match (
        findings.evidence.is_floor(server),
        findings.evidence.competes(server),
    ) {
        (true, _) => "floor",
        (_, false) => "reference",
        _ => "",
    }
}

/// Whether a server stands on the podium of a workload by one of these metrics.
pub(super) fn is_on_podium(
    findings: &Findings,
    metrics: &[Metric],
    workload: &str,
    server: &str,
) -> bool {
    let ranks = metrics
        .iter()
        .filter_map(|&it| findings.entry(it, workload, server)?.rank);
    ranks.min().is_some_and(|rank| rank <= PODIUM)
}
