//! `loadgen rank`: one ranking of servers over several workloads.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::Usage;
use crate::selection::{Selection, evidence};
use lab::compare::Metric;
use lab::compare::ranking::{LeftOut, Ranking};
use report::{ranking, rows};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folders of sets; several are combined as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// Also show reference servers, unranked
    #[arg(long)]
    references: bool,
    /// List the workloads that are left out, with the reasons; JSON always has them
    #[arg(long)]
    left_out: bool,
}

/// By default, ranks by CPU.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        sets,
        selection,
        references,
        left_out,
    } = arguments;
    let mut evidence = evidence(&sets)?;
    selection.apply(&mut [&mut evidence])?;
    if !evidence.servers.iter().any(|it| evidence.competes(it)) {
        let message = "the floor is not ranked, and there is no other server";
        return Err(Usage(message.to_owned()).into());
    }
    let metrics = selection.metrics(&evidence, vec![Metric::Cpu])?;
    let rankings: Vec<Ranking> = (metrics.iter())
        .flat_map(|&metric| evidence.rankings(metric, references))
        .collect();
    selection.print(
        || ranking::document(&evidence, &rankings, left_out),
        Head {
            provenance: rows::Provenance::of(&evidence),
            rankings: rankings.iter().map(Basis::of).collect(),
        },
        &rows::rank(&evidence, &rankings),
    )?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Head<'a> {
    #[serde(flatten)]
    provenance: rows::Provenance<'a>,
    rankings: Vec<Basis<'a>>,
}

/// The workloads behind a ranking.
#[derive(Serialize)]
struct Basis<'a> {
    metric: &'static str,
    r#loop: Option<&'static str>,
    workloads: &'a [String],
    left_out: &'a [LeftOut],
}

impl<'a> Basis<'a> {
    fn of(ranking: &'a Ranking) -> Self {
        Basis {
            metric: ranking.metric.name(),
            r#loop: ranking.only.map(lab::compare::Loop::as_str),
            workloads: &ranking.workloads,
            left_out: &ranking.left_out,
        }
    }
}
