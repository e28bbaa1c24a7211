//! Servers in one order over several workloads, and what that order is made from.

use super::document::Document;
use super::grid::Grid;
use super::{plural, with_interval};
use lab::compare::ranking::{LeftOut, Ranking};
use lab::compare::{Estimate, Evidence, rank_mark, titled};

/// For a terminal.
pub fn text(evidence: &Evidence, rankings: &[Ranking], width: usize) -> String {
    document(evidence, rankings).text(width)
}

/// For a file.
pub fn markdown(evidence: &Evidence, rankings: &[Ranking]) -> String {
    document(evidence, rankings).markdown()
}

fn document(evidence: &Evidence, rankings: &[Ranking]) -> Document {
    let mut document = Document::default();
    for ranking in rankings {
        let title = titled(ranking.metric, ranking.only);
        let mean = "geometric mean of ratios to the best";
        match ranking.places.is_empty() {
            true => document.paragraph(format!("{title}: no workload that all completed")),
            false => document.table(&title, mean, grid(ranking)),
        }
        let taken = plural(
            ranking.workloads.len().try_into().unwrap_or(u32::MAX),
            "workload",
        );
        let taken = format!("Over {taken} that all who are ranked completed:");
        if !ranking.workloads.is_empty() {
            document.list(&taken, vec![ranking.workloads.join(", ")]);
        }
        document.list("Left out:", ranking.left_out.iter().map(left_out).collect());
        if let Some((servers, workloads)) = ranking.obstacles() {
            document.paragraph(format!(
                "Without {} it would be {} more: say who is to be ranked (--servers).",
                servers.join(", "),
                plural(workloads.try_into().unwrap_or(u32::MAX), "workload"),
            ));
        }
    }
    document.paragraph(format!(
        "Each workload weighs the same. The mean is taken within each round; what is shown is the median \
         over {}, with its 95% interval. Who is not told apart from the first of a rank shares it (=); whose \
         interval holds 1 and whose upper end is more than four times its lower is not resolved, and has no rank. Where that \
         holds for all others, the first has none either.",
        plural(evidence.rounds, "round")
    ));
    document
}

fn grid(ranking: &Ranking) -> Grid {
    let has_floor = ranking.places.iter().any(|place| place.of_floor.is_some());
    let mut header = vec!["rank", "server", "ratio (95% interval)"];
    header.extend(has_floor.then_some("of the floor"));
    let mut grid = Grid::new(header.into_iter().map(str::to_owned).collect(), 2);
    for place in &ranking.places {
        let estimate = |estimate: &Option<Estimate>, unit| match estimate {
            Some(estimate) => with_interval(estimate, unit),
            None => String::new(),
        };
        let sharing = (ranking.places.iter()).filter(|other| other.rank == place.rank);
        let rank = place.rank.map(|rank| rank_mark(rank, sharing.count() > 1));
        let mut row = vec![
            rank.unwrap_or_default(),
            place.server.clone(),
            match place.is_unresolved {
                true => format!("not resolved: {}", estimate(&place.ratio, "x")),
                false => estimate(&place.ratio, "x"),
            },
        ];
        row.extend(has_floor.then(|| estimate(&place.of_floor, "")));
        grid.row(row);
    }
    grid
}

/// Those who stopped for the same reason stand together.
fn left_out(left_out: &LeftOut) -> String {
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
