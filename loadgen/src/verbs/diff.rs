//! `loadgen diff`: the same servers in two sets.

use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;

use clap::Args;
use serde::Serialize;

use crate::Usage;
use crate::output::say;
use crate::selection::{Selection, evidence};
use lab::compare::diff::{Basis, Diff};
use lab::compare::{Evidence, Metric};
use report::diff::{LeftOut, Report, Sum};
use report::{rows, table};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder of the set before the change
    old: PathBuf,
    /// Folder of the set after it
    new: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// How much worse a value may become; if it is certainly more, that is a regression (exit code 1)
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    threshold: f64,
    /// Compare sets of different machines anyway
    #[arg(long)]
    across_machines: bool,
}

/// By default, compares CPU.
///
/// Exit code 1 means a certain regression. Anything that prevents a comparison counts as wrong usage, exit
/// code 2. (If the comparison cannot be printed, the exit code is 1, as for every verb.)
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        old,
        new,
        selection,
        threshold,
        across_machines,
    } = arguments;
    let mut old = evidence(slice::from_ref(&old)).map_err(unusable)?;
    let mut new = evidence(slice::from_ref(&new)).map_err(unusable)?;
    let likeness = old.machine.likeness(&new.machine);
    let differences = likeness.differences;
    if !differences.is_empty() && !across_machines {
        return Err(Usage(format!(
            "{} and {} are of different machines: {}; measure both on one machine, or use --across-machines",
            old.sets[0],
            new.sets[0],
            differences.join("; ")
        ))
        .into());
    }
    selection.apply(&mut [&mut old, &mut new])?;
    let shown = selection.shown(&mut old, &[])?;
    let metrics = selection.metrics(&old, vec![Metric::Cpu])?;
    let diffs: Vec<Diff> = (metrics.iter())
        .map(|&metric| Diff::of(&old, &new, metric, threshold))
        .collect();
    warn(&old, &new, &differences, &diffs);
    for remark in &likeness.remarks {
        note(remark);
    }
    let report = Report {
        old: &old,
        new: &new,
        diffs: &diffs,
        threshold,
    };
    let sum = report.sum();
    selection.print(
        || report.document(&shown),
        Head {
            old: rows::Provenance::of(&old),
            new: rows::Provenance::of(&new),
            machine_differences: &differences,
            threshold,
            sum,
            left_out: report.left_out(),
        },
        &rows::diff(&old, &diffs),
    )?;
    if sum.compared == 0 {
        return Err(Usage(format!(
            "no cell of {} and {} could be compared",
            old.sets[0], new.sets[0]
        ))
        .into());
    }
    Ok(match sum.regressions {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// An error that prevents a comparison.
fn unusable(error: anyhow::Error) -> anyhow::Error {
    match error.is::<Usage>() {
        true => error,
        false => Usage(format!("{error:#}")).into(),
    }
}

#[derive(Serialize)]
struct Head<'a> {
    old: rows::Provenance<'a>,
    new: rows::Provenance<'a>,
    machine_differences: &'a [String],
    threshold: f64,
    #[serde(flatten)]
    sum: Sum,
    left_out: Vec<LeftOut<'a>>,
}

/// Warns of everything that weakens the comparison.
fn warn(old: &Evidence, new: &Evidence, differences: &[String], diffs: &[Diff]) {
    for difference in differences {
        warning(&format!("different machines: {difference}"));
    }
    if old.server_args != new.server_args {
        warning(&format!(
            "servers were started with different arguments (--server-arg): {:?}, then {:?}",
            old.server_args, new.server_args
        ));
    }
    if old.floor != new.floor && old.floor.is_some() && new.floor.is_some() {
        warning("the sets have different floors, so multiples of the floor cannot be compared");
    }
    for diff in diffs {
        let is_exposed = |basis: Basis| basis == Basis::AsMeasured && !diff.metric.is_memory();
        let exposed = diff
            .changes
            .iter()
            .filter(|it| is_exposed(it.basis))
            .count();
        if exposed > 0 {
            warning(&format!(
                "{}: {exposed} of {} cells are compared as measured, because the floor does \
                 not count there in both sets; a machine can drift by 20% or more between sets, and that drift is \
                 included",
                diff.metric.title(),
                diff.changes.len()
            ));
        }
        let single = diff.changes.iter().any(|it| it.ratio.interval.is_none());
        if single {
            warning(&format!(
                "{}: one round gives no interval and cannot show a difference; measure more \
                 (--rounds)",
                diff.metric.title()
            ));
        }
    }
}

/// Prints a fact that changes no figure but should be known.
fn note(text: &str) {
    say!("{}", textwrap::fill(&format!("note: {text}"), table::WIDTH));
}

fn warning(text: &str) {
    say!(
        "{}",
        textwrap::fill(&format!("warning: {text}"), table::WIDTH)
    );
}

/// `5%` as 0.05.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a percentage such as 5%")?;
    match text.ends_with('%') {
        _ if !(0.0..100.0).contains(&number) => Err("must be from 0% to below 100%".to_owned()),
        true => Ok(number / 100.0),
        false => Err(format!(
            "a threshold is in percent; did you mean {number}%?"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_in_percent() {
        for (text, expected) in [
            ("5%", Ok(0.05)),
            ("0%", Ok(0.0)),
            ("2.5%", Ok(0.025)),
            ("5", Err("did you mean 5%?")),
            ("100%", Err("below 100%")),
            ("-1%", Err("from 0%")),
            ("NaN%", Err("from 0%")),
            ("much", Err("such as 5%")),
        ] {
            match (percent(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(message)) => assert!(found.contains(message), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
