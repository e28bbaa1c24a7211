//! Servers side by side: a table for each metric, with workloads as rows and servers as columns; with more servers
//! than can stand side by side, servers as rows and workloads as columns.

use super::document::Document;
use super::grid::{Blocks, Cell, Compared, Detail, Fold, Grid, Load, Server};
use super::{direction, legend};
use lab::compare::{Comparison, Evidence, Loop, Metric, Row};

pub use super::format::text::WIDTH;

/// This many servers fit side by side in 80 columns.
const SIDE_BY_SIDE: usize = 6;

/// With more servers than that, ranks up to this one are shown.
const PODIUM: u32 = 3;

/// Every entry fits the last width, and six of that width fit 80 columns.
const BLOCKS: Blocks = Blocks {
    margin: 1,
    name: 12,
    name_min: 12,
    figures: &[12, 11, 10],
};

/// Which of many servers have a row: the first three under each workload, the floor, and those asked for by name.
/// Six servers or fewer are all shown.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Asked for by name, beside the others.
    pub also: Vec<String>,
    /// An option or a command that shows all; `None` if all are shown anyway.
    pub fold: Option<String>,
}

impl Shown {
    /// The first three and the floor; `all`, an option or a command, shows all.
    pub fn podium(all: &str) -> Self {
        Shown {
            also: Vec::new(),
            fold: Some(format!("`{all}`")),
        }
    }

    /// `None` where nothing is folded.
    pub(crate) fn fold(&self, evidence: &Evidence) -> Option<Fold> {
        let all = self.fold.clone().filter(|_| is_many(evidence))?;
        Some(Fold {
            noun: "server",
            which: "",
            all: Some(all),
        })
    }

    pub(crate) fn is_kept(&self, evidence: &Evidence, server: &String) -> bool {
        evidence.is_floor(server) || self.also.contains(server)
    }
}

/// Whether there are too many servers to show side by side.
pub(crate) fn is_many(evidence: &Evidence) -> bool {
    evidence.servers.len() > SIDE_BY_SIDE
}

/// A table for each metric, or one for each loop, for a terminal, then what their marks mean.
pub fn text(evidence: &Evidence, metrics: &[Metric], shown: &Shown, width: usize) -> String {
    document(evidence, metrics, shown).text(width)
}

/// The same for any format.
pub fn document(evidence: &Evidence, metrics: &[Metric], shown: &Shown) -> Document {
    let mut document = tables(evidence, metrics, shown, false);
    document.append(legend(evidence, metrics));
    document
}

/// The tables alone. `anchored`: other places can link to a workload as `#cpu-keep-alive`.
pub(crate) fn tables(
    evidence: &Evidence,
    metrics: &[Metric],
    shown: &Shown,
    anchored: bool,
) -> Document {
    let mut document = Document::default();
    for comparison in metrics.iter().flat_map(|&metric| evidence.tables(metric)) {
        let grid = match is_many(evidence) {
            true => servers_as_rows(evidence, &comparison, shown, anchored),
            false => servers_as_columns(&comparison, anchored),
        };
        document.table(&comparison.title(), direction(comparison.metric), grid);
    }
    document
}

fn servers_as_columns(comparison: &Comparison, anchored: bool) -> Grid {
    let servers = comparison.servers.iter().cloned().map(Cell::Name);
    let mut grid = Grid::new([Cell::from("")].into_iter().chain(servers), 1).in_blocks(BLOCKS);
    for row in &comparison.rows {
        let entries = (0..row.entries.len()).map(|server| entry(comparison, row, server, true));
        let load = load(comparison, row, anchored);
        grid.gap();
        grid.row([load].into_iter().chain(entries));
    }
    grid
}

fn servers_as_rows(
    evidence: &Evidence,
    comparison: &Comparison,
    shown: &Shown,
    anchored: bool,
) -> Grid {
    let loads = (comparison.rows.iter()).map(|row| load(comparison, row, anchored));
    let mut grid = Grid::new([Cell::from("")].into_iter().chain(loads), 1)
        .in_blocks(BLOCKS)
        .folded(shown.fold(evidence));
    let podiums: Vec<Vec<bool>> = (comparison.rows.iter())
        .map(|row| podium(evidence, comparison, row))
        .collect();
    for (index, server) in comparison.servers.iter().enumerate() {
        let rows = comparison.rows.iter().zip(&podiums);
        let entries = rows.map(|(row, podium)| entry(comparison, row, index, podium[index]));
        let name = Cell::Server(Server::of(evidence, server));
        grid.gap();
        grid.row_kept(
            [name].into_iter().chain(entries),
            shown.is_kept(evidence, server),
        );
    }
    grid
}

/// Which servers are among the first three under a workload: by rank, or if no server has a rank by value.
fn podium(evidence: &Evidence, comparison: &Comparison, row: &Row) -> Vec<bool> {
    if row.entries.iter().any(|entry| entry.rank.is_some()) {
        let leads = |rank: Option<u32>| rank.is_some_and(|rank| rank <= PODIUM);
        return row.entries.iter().map(|entry| leads(entry.rank)).collect();
    }
    let mut order: Vec<(f64, usize)> = (row.entries.iter().enumerate())
        .filter(|&(server, _)| evidence.competes(&comparison.servers[server]))
        .filter_map(|(server, entry)| Some((entry.value?.value, server)))
        .collect();
    order.sort_by(|one, other| one.0.total_cmp(&other.0));
    if !comparison.metric.less_is_better() {
        order.reverse();
    }
    order.truncate(PODIUM as usize);
    (0..row.entries.len())
        .map(|server| order.iter().any(|&(_, leads)| leads == server))
        .collect()
}

fn load(comparison: &Comparison, row: &Row, anchored: bool) -> Cell {
    let metric = comparison.metric.name();
    Cell::Workload(Load {
        name: row.workload.clone(),
        anchor: anchored.then(|| format!("{metric}-{}", row.workload)),
        described_at: None,
        note: String::new(),
        rate: row.rate,
        is_titled: comparison.only == Some(Loop::Open),
        connections: row.connections,
        idle: row.idle,
    })
}

fn entry(comparison: &Comparison, row: &Row, server: usize, leads: bool) -> Cell {
    Cell::Compared(Box::new(Compared {
        entry: row.entries[server].clone(),
        rank: row.rank_mark(server),
        is_floor: comparison.floor == Some(server),
        metric: comparison.metric,
        leads,
        detail: Detail::Whole,
    }))
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::text::at_hyphens;
    use crate::grid::Line;
    use lab::fixture;

    #[test]
    fn five_servers_fit_80_columns() {
        let evidence = fixture::five_servers();
        let text = text(&evidence, &evidence.metrics(), &Shown::default(), WIDTH);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_does_not_fit_stands_below() {
        insta::assert_snapshot!(text(
            &fixture::five_servers(),
            &[Metric::Cpu],
            &Shown::default(),
            60
        ));
    }

    /// With their ranks, and multiples of the floor; what is in open loop stands in a table of its own where
    /// that matters.
    #[test]
    fn six_servers_fit_80_columns() {
        let evidence = fixture::with_floor();
        let text = text(&evidence, &evidence.metrics(), &Shown::default(), WIDTH);
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
        let text = text(&evidence, &evidence.metrics(), &Shown::default(), WIDTH);
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

    /// The rows of servers in each table below a title.
    fn servers_in(text: &str, title: &str) -> Vec<Vec<String>> {
        let evidence = fixture::many_servers();
        let (_, tables) = text.split_once(title).unwrap();
        let (tables, _) = tables.split_once("less is better").unwrap_or((tables, ""));
        let first_line = |server: &String| at_hyphens(server, 12).lines().next().map(str::to_owned);
        let tables = tables.split("────\n").skip(1).map(|table| {
            let shown = (evidence.servers.iter()).filter(|server| {
                let first = first_line(server);
                table.lines().any(|line| {
                    let name: Option<String> = line.get(1..14).map(|name| name.trim().to_owned());
                    name == first
                })
            });
            shown.cloned().collect()
        });
        tables.collect()
    }

    /// Servers are rows, the first three of each workload, the floor and who was asked for; the others are counted.
    #[test]
    fn twenty_two_servers_fold_to_a_podium() {
        let evidence = fixture::many_servers();
        let document = document(&evidence, &[Metric::Cpu], &Shown::podium("--all"));
        for width in [80, 200] {
            let text = document.text(width);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{line}");
            }
            insta::assert_snapshot!(format!("many_servers_in_{width}_columns"), text);
        }
    }

    /// Of the many servers.
    fn two_workloads() -> Evidence {
        let mut evidence = fixture::many_servers();
        evidence.workloads.truncate(2);
        evidence
    }

    #[test]
    fn who_was_asked_for_is_not_folded() {
        let evidence = two_workloads();
        let print = |also: &[&str]| {
            let shown = Shown {
                also: also.iter().map(|&name| name.to_owned()).collect(),
                ..Shown::podium("--all")
            };
            text(&evidence, &[Metric::Cpu], &shown, WIDTH)
        };
        let without = servers_in(&print(&[]), "less is better");
        let hidden = |table: &Vec<String>| !table.contains(&"nginx".to_owned());
        assert!(without.iter().all(hidden), "{without:?}");
        assert!(without.iter().all(|table| table.len() < 16), "{without:?}");
        let with = servers_in(&print(&["nginx"]), "less is better");
        for (one, other) in without.iter().zip(&with) {
            assert_eq!(other.len(), one.len() + 1);
            assert!(!hidden(other), "{other:?}");
        }
    }

    /// Every rank up to the third has its row, and who is folded has none of these under the workloads shown.
    #[test]
    fn the_podium_of_every_workload_is_shown() {
        let evidence = fixture::many_servers();
        let comparison = evidence.compare(Metric::Cpu);
        let grid = servers_as_rows(&evidence, &comparison, &Shown::podium("--all"), false);
        for (at, row) in comparison.rows.iter().enumerate() {
            let (part, folded) = grid.part(1 + at..2 + at);
            let first = (row.entries.iter()).filter(|it| it.rank.is_some_and(|rank| rank <= 3));
            let first = match first.count() {
                0 => 3,
                n => n,
            };
            let rows = part
                .lines
                .iter()
                .filter(|line| matches!(line, Line::Row { .. }));
            // The floor has a row too.
            assert_eq!(rows.count(), first + 1, "{}", row.workload);
            assert_eq!(folded, evidence.servers.len() - first - 1);
        }
    }

    #[test]
    fn all_servers_where_all_were_asked_for() {
        let evidence = two_workloads();
        let all = text(&evidence, &[Metric::Cpu], &Shown::default(), WIDTH);
        for table in servers_in(&all, "less is better") {
            assert_eq!(table.len(), evidence.servers.len());
        }
        assert!(!all.contains("more server"), "{all}");
    }

    #[test]
    fn twenty_two_servers_in_markdown() {
        let evidence = fixture::many_servers();
        let shown = Shown::podium("loadgen cmp SET --servers '*'");
        insta::assert_snapshot!(document(&evidence, &[Metric::Cpu], &shown).markdown());
    }
}
