//! `loadgen cmp`: servers side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::selection::{Selection, evidence};
use report::{rows, table};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folders of sets; several are combined as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    /// Show the cost of a request by cause: CPU time, system calls by name, switches, faults; and the memory of
    /// an idle connection. CSV and JSON have the counts of the set's ledger.csv
    #[arg(long, conflicts_with_all = ["units", "metric"])]
    ledger: bool,
    /// Also show these servers: names or patterns such as 'thread-*'. With more than six servers, tables show
    /// only the first three ranks and the floor
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        conflicts_with = "servers"
    )]
    also: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// By default, compares CPU, throughput, p99, and idle memory if connections were idle.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        sets,
        ledger,
        also,
        selection,
    } = arguments;
    let mut evidence = evidence(&sets)?;
    selection.apply(&mut [&mut evidence])?;
    let shown = selection.shown(&mut evidence, &also)?;
    if ledger {
        if evidence.ledger.is_empty() {
            let sets = evidence.sets.join(", ");
            anyhow::bail!("{sets}: no ledger; `loadgen measure` without --no-ledger makes one");
        }
        selection.print(
            || report::ledger_table::document(&evidence, &shown),
            rows::Provenance::of(&evidence),
            &report::ledger_table::rows(&evidence),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let metrics = selection.metrics(&evidence, evidence.metrics())?;
    selection.print(
        || table::document(&evidence, &metrics, &shown),
        rows::Provenance::of(&evidence),
        &rows::cmp(&evidence, &metrics),
    )?;
    Ok(ExitCode::SUCCESS)
}
