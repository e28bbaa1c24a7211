//! `loadgen cmp`: servers side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::selection::{Selection, evidence};
use crate::report::{markdown, rows, table};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folders of sets; several are taken together as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    #[command(flatten)]
    selection: Selection,
}

/// By default by CPU, throughput, p99, and idle memory where connections were idle.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { sets, selection } = arguments;
    let mut evidence = evidence(&sets)?;
    selection.apply(&mut [&mut evidence])?;
    let metrics = selection.metrics(&evidence, evidence.metrics())?;
    selection.print(
        || table::text(&evidence, &metrics, table::WIDTH),
        || markdown::tables_with_legend(&evidence, &metrics),
        rows::Provenance::of(&evidence),
        &rows::cmp(&evidence, &metrics),
    )?;
    Ok(ExitCode::SUCCESS)
}
