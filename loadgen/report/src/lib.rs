//! What is measured, for people, as text on a terminal, as Markdown, as a page and as pictures, and for programs
//! that track results.
//!
//! **May know:** the lab, and through it the engine and the subject.
//!
//! **Deliberately absent:** measuring and judging. Every figure that stands in a table was computed in the `lab`
//! crate; what is decided here is how it looks. Nothing is read here but the sets that are given, and nothing is
//! printed: what comes out is text.

// These macros panic when nobody can be written to.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod aa;
pub mod calibration;
pub mod chart;
pub mod diff;
pub mod doctor;
mod document;
pub mod explain;
pub mod front;
mod grid;
pub mod hgrm;
pub mod html;
pub mod latencies;
pub mod ledger;
pub mod markdown;
pub mod pictures;
pub mod ranking;
pub mod rows;
pub mod run;
pub mod situations;
pub mod slo;
mod spectrum;
pub mod table;
pub mod tracking;

use self::document::Document;
use engine::figures::figure;
use engine::latency::samples_needed;
use lab::compare::{Entry, Estimate, Evidence, Fault, Metric, Standing};

/// What stands where cells are missing.
pub const INCOMPLETE: &str = "Incomplete";

/// An estimate with its whole interval.
fn with_interval(estimate: &Estimate, unit: &str) -> String {
    let value = figure(estimate.value);
    match estimate.interval {
        Some((low, high)) => format!("{value}{unit} ({}–{})", figure(low), figure(high)),
        None => format!("{value}{unit}"),
    }
}

/// Behind a heading.
fn direction(metric: Metric) -> &'static str {
    match metric.less_is_better() {
        true => "less is better",
        false => "more is better",
    }
}

/// How a format writes figures.
struct Marks {
    /// Behind "with its 95% interval over rounds".
    interval: &'static str,
    /// A sentence about multiples of the floor.
    floor: &'static str,
}

/// What the figures of tables of servers are, and what was not compared and why.
fn legend(evidence: &Evidence, metrics: &[Metric], marks: &Marks) -> Document {
    let mut document = medians(evidence, metrics, marks);
    document.append(exclusions(evidence, metrics));
    document
}

/// What the figures are.
fn medians(evidence: &Evidence, metrics: &[Metric], marks: &Marks) -> Document {
    let mut document = Document::default();
    let rounds = plural(evidence.rounds, "round");
    let mut text =
        format!("Medians over {rounds}, below them the ratio to the best, round by round");
    text += &match evidence.rounds {
        0 | 1 => ". One round makes no interval, and tells nobody apart.".to_owned(),
        _ => format!(
            ", each with its 95% interval over rounds{}.",
            marks.interval
        ),
    };
    text += " #1 is the rank; who is not told apart from the first of a rank shares it (#1=).";
    let has_unresolved = metrics.iter().any(|&metric| {
        let rows = evidence.compare(metric).rows.into_iter();
        rows.flat_map(|row| row.entries)
            .any(|entry| entry.is_unresolved)
    });
    if has_unresolved {
        text += " A ratio is not resolved when its interval holds 1 and its upper end is more than four \
                 times its lower: its server has no rank. Where that holds for all others, the first has none either.";
    }
    if evidence.floor.is_some() && metrics.contains(&Metric::Cpu) {
        text += " ";
        text += marks.floor;
    }
    document.paragraph(text);
    if evidence.missing > 0 {
        let missing = plural(evidence.missing.try_into().unwrap_or(u32::MAX), "cell");
        document.warning(INCOMPLETE, format!("{missing} not measured."));
    }
    document.list(
        "Not known to be the same, or not the same, in all sets:",
        evidence.remarks.clone(),
    );
    document
}

/// What was not compared, and why.
fn exclusions(evidence: &Evidence, metrics: &[Metric]) -> Document {
    let mut document = Document::default();
    let blanks = evidence.blanks(metrics).into_iter().map(|it| {
        let (metric, reason) = (it.metric.name(), it.reason);
        format!("{}, {}, {metric}: {reason}", it.workload, it.server)
    });
    document.list("Blank, as there is no value:", blanks.collect());
    let sparse = evidence.sparse(metrics).into_iter().map(|it| {
        let (metric, reason) = (it.metric.name(), it.reason);
        format!("{}, {}, {metric}: {reason}", it.workload, it.server)
    });
    document.list(SPARSE, sparse.collect());
    let faults = evidence.faults();
    for (heading, items) in Faults::sorted(&faults).paragraphs() {
        document.list(heading, items);
    }
    document
}

/// What stands for a value that is not there.
fn absent(entry: &Entry, metric: Metric) -> String {
    match (entry.standing, metric.percentile()) {
        (Standing::Missing, _) => "-".to_owned(),
        (Standing::Failed, _) => "failed".to_owned(),
        (_, Some(p)) => format!("n<{}", samples_needed(p)),
        // The reason stands below the table.
        (_, None) => String::new(),
    }
}

/// `2 of 5 rounds`, `all 5 rounds`, `its only round`.
fn rounds(fault: &Fault) -> String {
    match (fault.rounds, fault.rounds_all) {
        (1, 1) => "its only round".to_owned(),
        (some, all) if some == all => format!("all {all} rounds"),
        (some, all) => format!("{some} of {all} rounds"),
    }
}

/// Faults by what came of them.
#[derive(Default)]
struct Faults<'a> {
    /// Not compared by anything.
    excluded: Vec<&'a Fault>,
    /// Compared by CPU only.
    client_bound: Vec<&'a Fault>,
    /// Compared without some rounds.
    left_out: Vec<&'a Fault>,
}

impl<'a> Faults<'a> {
    fn sorted(faults: &'a [Fault]) -> Self {
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
    fn paragraphs(&self) -> Vec<(&'static str, Vec<String>)> {
        let with_reason = |fault: &&Fault| {
            format!(
                "{}, {}: {} ({})",
                fault.workload,
                fault.server,
                fault.reason,
                rounds(fault)
            )
        };
        vec![
            (EXCLUDED, self.excluded.iter().map(with_reason).collect()),
            (CLIENT_BOUND, self.client_bound_lines()),
            (LEFT_OUT, self.left_out.iter().map(with_reason).collect()),
        ]
    }

    /// A line for each workload that has client-bound servers.
    fn client_bound_lines(&self) -> Vec<String> {
        let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
        for fault in &self.client_bound {
            let server = format!("{} ({})", fault.server, rounds(fault));
            match lines.last_mut() {
                Some((workload, servers)) if *workload == fault.workload => servers.push(server),
                _ => lines.push((&fault.workload, vec![server])),
            }
        }
        let line = |(workload, servers): (&str, Vec<String>)| {
            format!("{workload}: {}", servers.join(", "))
        };
        lines.into_iter().map(line).collect()
    }
}

const SPARSE: &str = "Not compared, as half of the rounds or more have no value:";
const EXCLUDED: &str = "Not valid or failed, so not compared:";
const CLIENT_BOUND: &str = "Client-bound: the generator was the bottleneck and the server can do more. Only \
                            CPU time and memory are compared; where such a server leads, no ratio is given:";
const LEFT_OUT: &str = "† Without the rounds that do not count:";

fn plural(count: u32, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
