//! Many servers in a table: they stand in rows, a group of workloads in columns. The podium, the floor and the
//! servers of others are shown; the rest is folded below them.

use super::{compared, connections_of, described};
use crate::chart::{Findings, Load, LoadShape, count, rate_of};
use crate::direction;
use crate::grid::{Cell, Detail, Fold, Grid, Kind, Server};
use crate::rows::Role;
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

/// How rows of servers are folded, where there are many; `which` says what the folded ones have in common.
pub(super) fn fold(findings: &Findings, which: &'static str) -> Option<Fold> {
    is_large(findings).then_some(Fold {
        noun: "server",
        which,
        all: None,
    })
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
    pub(super) grid: Grid,
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
        let head = workloads.iter().map(|it| described(it, head(it)));
        let mut grid = Grid::new([Cell::from("server")].into_iter().chain(head), 1)
            .of_kind(Kind::Group)
            .folded(fold(findings, ""));
        let rank = |server: &str, it: &Workload| findings.entry(metric, &it.name, server)?.rank;
        let mut servers: Vec<&String> = evidence.servers.iter().collect();
        servers.sort_by_cached_key(|server| {
            let ranks = workloads.iter().map(|it| rank(server, it).unwrap_or(last));
            (
                !competes(findings, server),
                ranks.map(u64::from).sum::<u64>(),
            )
        });
        for server in servers {
            let cells = workloads.iter().map(|it| {
                let leads = is_on_podium(findings, metric, &it.name, server);
                compared(findings, metric, &it.name, server, Detail::Short, leads)
            });
            grid.row_kept(
                [Cell::Server(Server::of(evidence, server))]
                    .into_iter()
                    .chain(cells),
                !competes(findings, server),
            );
        }
        Table {
            title: format!("{}, {}", metric.title(), direction(metric)),
            grid,
        }
    }
}

/// Whether a server is ranked beside the others.
pub(super) fn competes(findings: &Findings, server: &str) -> bool {
    Role::of(findings.evidence, server) == Role::Ranked
}

/// Whether a server stands on the podium of a workload.
pub(super) fn is_on_podium(
    findings: &Findings,
    metric: Metric,
    workload: &str,
    server: &str,
) -> bool {
    let entry = findings.entry(metric, workload, server);
    entry.is_some_and(|it| it.rank.is_some_and(|rank| rank <= PODIUM))
}
