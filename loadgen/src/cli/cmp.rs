//! `loadgen cmp`: servers side by side.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::Usage;
use crate::compare::{Evidence, Metric};
use crate::report::{markdown, table};
use crate::set::Set;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folders of sets; several are taken together as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    /// What to compare, one table each [default: cpu,throughput,p99, and idle-memory where connections were idle]
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metric: Vec<Metric>,
    /// How to print it
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a terminal of 80 columns
    Text,
    /// For a file, with whole intervals
    Markdown,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        sets,
        metric,
        format,
    } = arguments;
    let evidence = evidence(&sets)?;
    let metrics = if metric.is_empty() {
        evidence.metrics()
    } else {
        metric
    };
    match format {
        Format::Text => print!("{}", table::text(&evidence, &metrics, table::WIDTH)),
        Format::Markdown => print!("{}", markdown::tables_with_legend(&evidence, &metrics)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens sets and takes them together.
pub(super) fn evidence(paths: &[PathBuf]) -> anyhow::Result<Evidence> {
    let mut seen = BTreeSet::new();
    let mut sets = Vec::new();
    for path in paths {
        let set = Set::open(path)?;
        if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            return Err(Usage(format!("{} is given twice", path.display())).into());
        }
        sets.push(set);
    }
    Ok(Evidence::of(sets)?)
}
