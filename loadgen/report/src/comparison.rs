//! What is said beside the tables of a comparison: legends, medians in detail, what is not compared and why.

use super::document::{Document, Piece};
use engine::figures::{count, figure};
use engine::latency::{TOO_FEW, samples_needed};
use lab::compare::{Blank, Entry, Estimate, Evidence, Fault, Metric, Standing};

/// The warning of a set whose cells are not all measured.
pub const INCOMPLETE: &str = "Incomplete";

/// An estimate with its whole interval.
pub(crate) fn with_interval(estimate: &Estimate, unit: &str) -> String {
    let value = figure(estimate.value);
    match estimate.interval {
        Some((low, high)) => format!("{value}{unit} ({}–{})", figure(low), figure(high)),
        None => format!("{value}{unit}"),
    }
}

/// The note behind the title of a table.
pub(crate) fn direction(metric: Metric) -> &'static str {
    match metric.less_is_better() {
        true => "less is better",
        false => "more is better",
    }
}

/// Explains the figures in tables of servers, then lists what was not compared and why.
pub(crate) fn legend(evidence: &Evidence, metrics: &[Metric]) -> Document {
    let mut document = medians(evidence, metrics);
    document.append(exclusions(evidence, metrics));
    document
}

/// What *not resolved* means, for figures and for ranks.
pub(crate) const NOT_RESOLVED: &str = "A ratio is not resolved when its interval holds 1 and its upper end is more than four \
                            times its lower end: that server has no rank. Where no other ratio is resolved, the \
                            first server has no rank either.";

/// Explains the figures.
pub(crate) fn medians(evidence: &Evidence, metrics: &[Metric]) -> Document {
    let mut document = Document::default();
    let text = |text: &str| Piece::Text(text.to_owned());
    let rounds = plural(evidence.rounds, "round");
    let mut pieces = vec![Piece::Text(format!(
        "Medians over {rounds}, below them the ratio to the best, round by round"
    ))];
    pieces.extend(match evidence.rounds {
        0 | 1 => vec![text(
            ". One round gives no interval and cannot tell servers apart.",
        )],
        _ => vec![
            text(", each with its 95% interval over rounds"),
            Piece::Intervals,
            text("."),
        ],
    });
    pieces.push(text(
        " #1 is the rank; statistical ties share a rank (#1=).",
    ));
    let entries = |metric: Metric| {
        let rows = evidence.compare(metric).rows.into_iter();
        rows.flat_map(|row| row.entries)
    };
    let entries: Vec<(Metric, Entry)> = (metrics.iter())
        .flat_map(|&metric| entries(metric).map(move |entry| (metric, entry)))
        .collect();
    if entries.iter().any(|(_, entry)| entry.is_unresolved) {
        pieces.push(Piece::Text(format!(" {NOT_RESOLVED}")));
    }
    let lacking = |metric: &Metric| {
        let mut its = entries.iter().filter(|(its, _)| its == metric);
        its.any(|(_, entry)| is_too_few(entry, *metric))
    };
    for metric in metrics.iter().filter(|metric| lacking(metric)) {
        let samples = samples_needed(metric.percentile().unwrap_or_default());
        pieces.push(Piece::Text(format!(
            " {}: fewer than the {} that {} needs.",
            capitalized(TOO_FEW),
            count(samples, "sample"),
            metric.name()
        )));
    }
    if evidence.floor.is_some() && metrics.contains(&Metric::Cpu) {
        pieces.extend([text(" "), Piece::Floor]);
    }
    document.pieces(pieces);
    if evidence.missing > 0 {
        let missing = plural(evidence.missing.try_into().unwrap_or(u32::MAX), "cell");
        document.warning(INCOMPLETE, format!("{missing} not measured."));
    }
    document.list(
        "Different in the sets, or unknown in one of them:",
        evidence.remarks.clone(),
    );
    document
}

/// Lists what was not compared, and why.
pub(crate) fn exclusions(evidence: &Evidence, metrics: &[Metric]) -> Document {
    let mut document = Document::default();
    let lines = |blanks: Vec<Blank>| {
        let lines = blanks.iter().map(|it| {
            let said = format!("{}: {}", it.metric.name(), it.reason);
            (it.workload.as_str(), it.server.as_str(), said)
        });
        by_workload(lines, ", ")
    };
    document.list(
        "Blank, because there is no value:",
        lines(evidence.blanks(metrics)),
    );
    document.list(SPARSE, lines(evidence.sparse(metrics)));
    let faults = evidence.faults();
    for (heading, items) in Faults::sorted(&faults).paragraphs() {
        document.list(heading, items);
    }
    document
}

/// The text of a cell without a value.
pub(crate) fn absent(entry: &Entry, metric: Metric) -> String {
    match entry.standing {
        Standing::Missing => "-".to_owned(),
        Standing::Failed => "failed".to_owned(),
        _ if metric.percentile().is_some() => TOO_FEW.to_owned(),
        // The reason stands below the table.
        _ => String::new(),
    }
}

pub(crate) fn is_too_few(entry: &Entry, metric: Metric) -> bool {
    entry.value.is_none() && absent(entry, metric) == TOO_FEW
}

pub(crate) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// `2 of 5 rounds`, `all 5 rounds`, `its only round`.
pub(crate) fn rounds(fault: &Fault) -> String {
    match (fault.rounds, fault.rounds_all) {
        (1, 1) => "its only round".to_owned(),
        (some, all) if some == all => format!("all {all} rounds"),
        (some, all) => format!("{some} of {all} rounds"),
    }
}

/// Faults by their consequence.
#[derive(Default)]
pub(crate) struct Faults<'a> {
    /// Not compared by anything.
    excluded: Vec<&'a Fault>,
    /// Compared by CPU only.
    client_bound: Vec<&'a Fault>,
    /// Compared without some rounds.
    left_out: Vec<&'a Fault>,
}

impl<'a> Faults<'a> {
    pub(crate) fn sorted(faults: &'a [Fault]) -> Self {
        let mut sorted = Faults::default();
        for fault in faults {
            match fault.standing {
                Standing::Ranked => sorted.left_out.push(fault),
                Standing::ClientBound => sorted.client_bound.push(fault),
                _ => sorted.excluded.push(fault),
            }
        }
        sorted
    }

    /// Headings, each with its lines.
    pub(crate) fn paragraphs(&self) -> Vec<(&'static str, Vec<String>)> {
        let with_reason = |faults: &[&'a Fault]| {
            let lines = faults.iter().map(|fault| {
                let said = format!("{} ({})", fault.reason, rounds(fault));
                (fault.workload.as_str(), fault.server.as_str(), said)
            });
            by_workload(lines, ": ")
        };
        vec![
            (EXCLUDED, with_reason(&self.excluded)),
            (CLIENT_BOUND, self.client_bound_lines()),
            (LEFT_OUT, with_reason(&self.left_out)),
        ]
    }

    /// A line for each workload that has client-bound servers.
    fn client_bound_lines(&self) -> Vec<String> {
        let mut lines: Vec<(&str, BySaid<'_>)> = Vec::new();
        for fault in &self.client_bound {
            if lines.last().is_none_or(|(its, _)| *its != fault.workload) {
                lines.push((&fault.workload, BySaid::default()));
            }
            let (_, servers) = lines.last_mut().expect("there is one at least");
            servers.add(&fault.server, rounds(fault));
        }
        let line = |(workload, servers): (&str, BySaid<'_>)| {
            let said = servers.0.iter();
            let said = said.map(|(said, servers)| format!("{} ({said})", servers.join(", ")));
            format!("{workload}: {}", said.collect::<Vec<_>>().join("; "))
        };
        lines.into_iter().map(line).collect()
    }
}

/// Statements about servers, each with all servers that it applies to.
#[derive(Default)]
pub(crate) struct BySaid<'a>(Vec<(String, Vec<&'a str>)>);

impl<'a> BySaid<'a> {
    fn add(&mut self, server: &'a str, said: String) {
        match self.0.iter_mut().find(|(its, _)| *its == said) {
            Some((_, servers)) => servers.push(server),
            None => self.0.push((said, vec![server])),
        }
    }
}

/// `keep-alive, iterative, thread-pool: starved`: a line for each workload and statement, with all servers that it
/// applies to.
pub(crate) fn by_workload<'a>(
    said: impl Iterator<Item = (&'a str, &'a str, String)>,
    before: &str,
) -> Vec<String> {
    let mut workloads: Vec<(&str, BySaid<'_>)> = Vec::new();
    for (workload, server, said) in said {
        if workloads.last().is_none_or(|(its, _)| *its != workload) {
            workloads.push((workload, BySaid::default()));
        }
        let (_, servers) = workloads.last_mut().expect("there is one at least");
        servers.add(server, said);
    }
    let lines = |(workload, servers): (&str, BySaid<'_>)| -> Vec<String> {
        let line = |(said, servers): &(String, Vec<&str>)| {
            format!("{workload}, {}{before}{said}", servers.join(", "))
        };
        servers.0.iter().map(line).collect()
    };
    workloads.into_iter().flat_map(lines).collect()
}

pub(crate) const SPARSE: &str = "Not compared, because half of the rounds or more have no value:";
pub(crate) const EXCLUDED: &str = "Not compared, because they failed or were not valid:";
pub(crate) const CLIENT_BOUND: &str = "Client-bound: the generator was the bottleneck, so the server can do more. Only CPU time \
                            and memory are compared; where such a server leads, no ratio is given:";
pub(crate) const LEFT_OUT: &str = "† Some rounds excluded:";

pub(crate) fn plural(n: u32, noun: &str) -> String {
    count(n.into(), noun)
}
