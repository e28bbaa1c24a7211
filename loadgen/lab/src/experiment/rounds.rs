//! Rounds without a fixed number (`measure --rounds auto`): further rounds until the leading ratios are precise enough.
//!
//! The *width* of the intervals ends the rounds, not their position: stopping as soon as a difference shows would
//! find one by chance.

use std::time::Duration;

use crate::compare::{Estimate, Evidence, Metric, Row, Standing};
use crate::set::{Auto, Campaign};
use engine::plan::plain_number;

/// With this many values, their range is an interval of at least 95% for the median.
pub const ROUNDS_MIN: u32 = 6;

/// The default for how far the interval of a leading ratio may reach from it.
pub const PRECISION: f64 = 0.03;

/// The default time limit for all rounds together.
pub const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Whether further rounds may follow.
pub fn goes_on(campaign: &Campaign) -> bool {
    campaign.auto.as_ref().is_some_and(|auto| !auto.ended)
}

/// A precision as on command lines: `3%`.
pub fn precision(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(plain_number);
    let percent = percent.filter(|percent| (0.1..=100.0).contains(percent));
    let precision = percent.map(|percent| percent / 100.0);
    precision.ok_or_else(|| "expected a share from 0.1% to 100%, such as 3%".to_owned())
}

/// Formats a share for [`precision`].
pub fn percent(share: f64) -> String {
    format!("{}%", (share * 1e4).round() / 1e2)
}

/// The leading ratio of a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Leading {
    /// Name of the workload.
    pub workload: String,
    best: String,
    second: String,
    ratio: Estimate,
}

impl Leading {
    fn is_known_within(&self, precision: f64) -> bool {
        self.ratio.spread().is_some_and(|it| it <= precision)
    }
}

/// The leading ratio of each workload that has one: CPU per request of the server with the second-best median to that
/// of the best, round by round, among compared servers that are not references.
fn leading(evidence: &Evidence) -> Vec<Leading> {
    let leading = |row: Row| {
        // A ratio that is not resolved has no rank, but needs further rounds most.
        let compared = || {
            (row.entries.iter().zip(&evidence.servers)).filter(|(entry, server)| {
                entry.standing == Standing::Ranked
                    && entry.ratio.is_some()
                    && evidence.competes(server)
            })
        };
        let best = compared().find(|(entry, _)| entry.is_base)?;
        let others = compared().filter(|(entry, _)| !entry.is_base);
        let value =
            |entry: &crate::compare::Entry| entry.value.map_or(f64::INFINITY, |it| it.value);
        let second = others.min_by(|(a, _), (b, _)| value(a).total_cmp(&value(b)))?;
        Some(Leading {
            workload: row.workload,
            best: best.1.clone(),
            second: second.1.clone(),
            ratio: second.0.ratio?,
        })
    };
    let rows = evidence.compare(Metric::Cpu).rows;
    rows.into_iter().filter_map(leading).collect()
}

/// The leading ratios that are not known to within `precision`.
pub fn wide(evidence: &Evidence, precision: f64) -> Vec<Leading> {
    let mut leading = leading(evidence);
    leading.retain(|leading| !leading.is_known_within(precision));
    leading
}

/// The outcome, as a paragraph of lines.
pub fn outcome(evidence: &Evidence, auto: &Auto) -> String {
    let all = leading(evidence);
    let wide = wide(evidence, auto.precision);
    let mut out = format!(
        "Rounds: {}. CPU per request of the second to the best is known to within {} in\n{} of {} \
         workloads{}\n",
        evidence.rounds,
        percent(auto.precision),
        all.len() - wide.len(),
        evidence.workloads.len(),
        match (wide.is_empty(), auto.ended) {
            (true, _) => ".".to_owned(),
            (false, true) => format!(
                "; another round would have passed the limit of {}:",
                humantime::format_duration(auto.time_limit)
            ),
            (false, false) => " so far:".to_owned(),
        }
    );
    for it in wide {
        let spread = match it.ratio.spread() {
            Some(spread) => format!(" ±{:.1}%", spread * 100.0),
            None => String::new(),
        };
        let (workload, ratio) = (it.workload, it.ratio.value);
        out += &format!(
            "  {workload}: {} to {}, {ratio:.3}x{spread}\n",
            it.second, it.best
        );
    }
    let has_none = |name: &&str| all.iter().all(|it| it.workload != **name);
    let names = evidence.workloads.iter().map(|it| it.name.as_str());
    let without: Vec<&str> = names.filter(has_none).collect();
    if !without.is_empty() {
        out += &format!(
            "No such ratio, because fewer than two servers are compared, in:\n  {}\n",
            without.join(", ")
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cell, evidence};

    #[test]
    fn precisions() {
        for (text, expected) in [
            ("3%", Some(0.03)),
            ("0.5%", Some(0.005)),
            ("100%", Some(1.0)),
            ("3", None),
            ("0%", None),
            ("-1%", None),
            ("x%", None),
        ] {
            assert_eq!(precision(text).ok(), expected, "{text}");
        }
        assert_eq!(percent(0.03), "3%");
        assert_eq!(percent(0.005), "0.5%");
    }

    /// Of two workloads one is known well enough; the floor and those behind the second do not count.
    #[test]
    fn what_is_not_known_well_enough_is_named() {
        let noise = [0.9, 1.1, 1.0, 0.95, 1.05, 1.0];
        let mut cells = Vec::new();
        for (round, noise) in (1..).zip(noise) {
            for (server, cpu) in [("floor", 5.0), ("a", 8.0), ("b", 9.0), ("c", 20.0)] {
                cells.push(cell(server, "steady", round, cpu * noise));
                let own = if server == "b" { noise } else { 1.0 };
                cells.push(cell(server, "noisy", round, cpu * own));
            }
        }
        let workloads = ["steady", "noisy", "nobody"];
        let mut evidence = evidence(&["floor", "c", "b", "a"], &workloads, cells);
        evidence.floor = Some("floor".to_owned());
        let wide: Vec<String> = (wide(&evidence, 0.03).into_iter())
            .map(|it| it.workload)
            .collect();
        assert_eq!(wide, ["noisy"]);
        let mut auto = Auto {
            precision: 0.03,
            time_limit: TIME_LIMIT,
            ended: true,
        };
        insta::assert_snapshot!(outcome(&evidence, &auto));
        auto.precision = 0.2;
        insta::assert_snapshot!(outcome(&evidence, &auto));
        // What is not resolved has no rank, and is known least of all.
        for (round, wild) in (1..).zip([0.1, 30.0, 0.2, 50.0, 0.1, 80.0]) {
            for cell in &mut evidence.cells {
                if cell.server == "b" && cell.round == round {
                    cell.server_cpu_us_per_request = Some(8.0 * wild);
                }
            }
        }
        evidence.servers.retain(|server| server != "c");
        let (workloads, seconds): (Vec<String>, Vec<String>) = (leading(&evidence)
            .into_iter()
            .map(|it| (it.workload, it.second)))
        .unzip();
        assert_eq!(
            (workloads, seconds),
            (
                vec!["steady".to_owned(), "noisy".to_owned()],
                vec!["b".to_owned(); 2]
            )
        );
        // One server has no second.
        evidence.servers.truncate(2);
        assert_eq!(leading(&evidence), []);
    }
}
