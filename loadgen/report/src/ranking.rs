//! Servers in one order over several workloads, and what that order is made from.

use super::document::Document;
use super::grid::{Cell, Grid, Server};
use super::{NOT_RESOLVED, plural, with_interval};
use engine::figures::listed;
use lab::compare::ranking::{LeftOut, Ranking};
use lab::compare::{Estimate, Evidence, rank_mark, titled};

/// For any format. With `left_out`, lists what was left out and why; otherwise one line says how much it is.
pub fn document(evidence: &Evidence, rankings: &[Ranking], left_out: bool) -> Document {
    let mut document = Document::default();
    for ranking in rankings {
        let title = titled(ranking.metric, ranking.only);
        let mean = "geometric mean of ratios to the best";
        match ranking.places.is_empty() {
            true => document.paragraph(format!(
                "{title}: no workload that every ranked server completed"
            )),
            false => document.table(&title, mean, grid(evidence, ranking)),
        }
        let taken = workloads(ranking.workloads.len());
        let taken = format!("Over {taken} that every ranked server completed:");
        if !ranking.workloads.is_empty() {
            document.list(&taken, vec![ranking.workloads.join(", ")]);
        }
        match (left_out, ranking.left_out.len()) {
            (_, 0) => {}
            (true, _) => {
                let lines = ranking.left_out.iter().map(left_out_line);
                document.list("Left out:", lines.collect());
            }
            (false, 1) => document.paragraph("1 workload is left out: `--left-out` says why."),
            (false, n) => document.paragraph(format!(
                "{} are left out: `--left-out` lists them.",
                workloads(n)
            )),
        }
        if let Some((servers, n)) = ranking.obstacles() {
            document.paragraph(format!(
                "Leaving out {} adds {}: use `--servers`.",
                listed(servers),
                workloads(n),
            ));
        }
    }
    let mut legend = format!(
        "Each workload weighs the same. The mean is taken within each round; what is shown is the median over {}, \
         with its 95% interval. Statistical ties share a rank (=).",
        plural(evidence.rounds, "round")
    );
    let places = || rankings.iter().flat_map(|ranking| &ranking.places);
    if places().any(|place| place.is_unresolved) {
        legend += &format!(" {NOT_RESOLVED}");
    }
    document.paragraph(legend);
    document
}

fn workloads(count: usize) -> String {
    engine::figures::count(count as u64, "workload")
}

fn grid(evidence: &Evidence, ranking: &Ranking) -> Grid {
    let has_floor = ranking.places.iter().any(|place| place.of_floor.is_some());
    let mut header = vec!["rank", "server", "ratio (95% interval)"];
    header.extend(has_floor.then_some("of the floor"));
    let mut grid = Grid::new(header, 2);
    for place in &ranking.places {
        let estimate = |estimate: &Option<Estimate>, unit| match estimate {
            Some(estimate) => with_interval(estimate, unit),
            None => String::new(),
        };
        let sharing = (ranking.places.iter()).filter(|other| other.rank == place.rank);
        let rank = place.rank.map(|rank| rank_mark(rank, sharing.count() > 1));
        let mut row = vec![
            Cell::from(rank.unwrap_or_default()),
            Cell::Server(Server::of(evidence, &place.server)),
            Cell::from(match place.is_unresolved {
                true => format!("not resolved: {}", estimate(&place.ratio, "x")),
                false => estimate(&place.ratio, "x"),
            }),
        ];
        row.extend(has_floor.then(|| Cell::from(estimate(&place.of_floor, ""))));
        grid.row(row);
    }
    grid
}

/// Servers that stopped for the same reason stand together.
fn left_out_line(left_out: &LeftOut) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for stopped in &left_out.stopped {
        match reasons
            .iter_mut()
            .find(|(reason, _)| *reason == stopped.reason)
        {
            Some((_, servers)) => servers.push(&stopped.server),
            None => reasons.push((&stopped.reason, vec![&stopped.server])),
        }
    }
    let reasons = reasons
        .iter()
        .map(|(reason, servers)| format!("{}: {reason}", servers.join(", ")));
    let all: Vec<String> = (left_out.reason.map(str::to_owned).into_iter())
        .chain(reasons)
        .collect();
    format!("{}: {}", left_out.workload, all.join("; "))
}
