//! What is measured, for people, as text on a terminal and as Markdown, and for programs that follow it.

pub mod calibration;
pub(crate) mod chart;
pub mod doctor;
#[cfg(test)]
pub(crate) mod fixture;
pub mod hgrm;
pub mod html;
pub mod latencies;
pub mod markdown;
pub mod pictures;
pub mod run;
pub mod slo;
mod spectrum;
pub mod table;
pub mod tracking;

use crate::compare::{Entry, Fault, Metric, Standing};
use crate::latency::samples_needed;

/// Three significant digits, with `k` or `M` for thousands or millions.
pub(crate) fn figure(value: f64) -> String {
    let (value, unit) = match value {
        999_500.0.. => (value / 1e6, "M"),
        // What would be rounded to 1000 is written as 1.00k.
        999.5.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    match value {
        ..9.995 => format!("{value:.2}{unit}"),
        ..99.95 => format!("{value:.1}{unit}"),
        _ => format!("{value:.0}{unit}"),
    }
}

/// What stands for a value that is not there.
fn absent(entry: &Entry, metric: Metric) -> String {
    match (entry.standing, metric.percentile()) {
        (Standing::Missing, _) => "-".to_owned(),
        (Standing::Failed, _) => "failed".to_owned(),
        (_, Some(p)) => format!("n<{}", samples_needed(p)),
        (_, None) => "n/a".to_owned(),
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

    /// Headings, each with its lines, where there are any. `escape` fits a reason into the format.
    fn paragraphs(&self, escape: fn(&str) -> String) -> Vec<(&'static str, Vec<String>)> {
        let with_reason = |fault: &&Fault| {
            let reason = escape(&fault.reason);
            format!(
                "{}, {}: {reason} ({})",
                fault.workload,
                fault.server,
                rounds(fault)
            )
        };
        let mut paragraphs = vec![
            (EXCLUDED, self.excluded.iter().map(with_reason).collect()),
            (CLIENT_BOUND, self.client_bound_lines()),
            (LEFT_OUT, self.left_out.iter().map(with_reason).collect()),
        ];
        paragraphs.retain(|(_, lines): &(_, Vec<String>)| !lines.is_empty());
        paragraphs
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

const EXCLUDED: &str = "Not valid or failed, so not compared:";
const CLIENT_BOUND: &str = "Client-bound: the generator was the bottleneck and the server can do more. Only \
                            CPU time is compared; where such a server leads, no ratio is given:";
const LEFT_OUT: &str = "† Without the rounds that do not count:";

fn plural(count: u32, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        for (value, expected) in [
            (0.0, "0.00"),
            (7.814, "7.81"),
            (9.996, "10.0"),
            (45.25, "45.2"),
            (391.4, "391"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (142_318.0, "142k"),
            (999_600.0, "1.00M"),
            (1_234_567.0, "1.23M"),
        ] {
            assert_eq!(figure(value), expected, "for {value}");
        }
    }
}
