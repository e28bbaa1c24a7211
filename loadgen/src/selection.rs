//! Shared by the verbs that compare: the choice of sets, servers, workloads and metrics, and printing.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Usage;
use super::common::speaks_utf8;
use super::output::{print_styled, say};
use engine::foreign;
use lab::compare::{Evidence, Metric, Units};
use lab::set::Set;
use report::document::Document;
use report::format::TableFormat;
use report::screen::ascii;
use report::table::{self, Shown};
use subject::names::{Named, chosen};

/// The choice of servers and workloads.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Only these servers: names, groups (such as `core`), or patterns such as 'thread-*'
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    servers: Vec<String>,
    /// Only these workloads: names, groups, or patterns such as 'keep-alive*'
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    workloads: Vec<String>,
}

/// What to compare, and how to print it.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    names: Names,
    /// What to compare: groups of related metrics
    #[arg(
        long,
        value_name = "UNITS",
        value_delimiter = ',',
        conflicts_with = "metric"
    )]
    units: Vec<Units>,
    /// What to compare: single metrics [default for cmp: cpu, throughput, p99, and idle-memory if connections
    /// were idle; for diff and rank: cpu]
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metric: Vec<Metric>,
    /// Output format
    #[arg(long, default_value = "text")]
    format: TableFormat,
    /// Width of the tables in columns, at least 40 [default: that of the terminal, or 80]
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(40..))]
    width: Option<u16>,
}

impl Names {
    /// The requested servers and workloads among those in `sides`; all if none was requested.
    pub(crate) fn chosen(
        &self,
        sides: &[&mut Evidence],
    ) -> Result<(BTreeSet<String>, BTreeSet<String>), Usage> {
        let servers = sides.iter().flat_map(|side| {
            side.servers.iter().map(|name| Named {
                name,
                groups: side.server_groups.get(name).map_or(&[], Vec::as_slice),
            })
        });
        let servers = distinct(servers);
        let servers = chosen("server", &self.servers, &servers, &place(sides)).map_err(Usage)?;
        let workloads = workloads(sides, &self.workloads)?;
        Ok((servers, workloads))
    }
}

impl Selection {
    /// Removes from `sides` what was not requested. A requested name must occur in at least one side.
    pub(crate) fn apply(&self, sides: &mut [&mut Evidence]) -> Result<(), Usage> {
        let (servers, workloads) = self.names.chosen(sides)?;
        for side in sides {
            side.keep(
                |server| servers.contains(server),
                |workload| workloads.contains(&workload.name),
            );
        }
        Ok(())
    }

    /// The requested metrics, or else `default`, without those that no workload has.
    pub(crate) fn metrics(
        &self,
        evidence: &Evidence,
        default: Vec<Metric>,
    ) -> Result<Vec<Metric>, Usage> {
        let of_units = self.units.iter().flat_map(|units| units.metrics());
        let mut asked: Vec<Metric> = self.metric.iter().chain(of_units).copied().collect();
        if asked.is_empty() {
            asked = default;
        }
        let mut metrics = Vec::new();
        for metric in asked {
            if metrics.contains(&metric) {
                continue;
            }
            match evidence.workloads.iter().any(|it| metric.says(it)) {
                true => metrics.push(metric),
                false => say!("SKIPPED: {}: no workload has this metric", metric.title()),
            }
        }
        match metrics.is_empty() {
            true => Err(Usage("no metric is left to compare".to_owned())),
            false => Ok(metrics),
        }
    }

    /// Prints in the requested format. `rows` are all figures, for programs; `head` precedes them in JSON.
    pub(crate) fn print(
        &self,
        document: impl FnOnce() -> Document,
        head: impl Serialize,
        rows: &[impl Serialize],
    ) -> anyhow::Result<()> {
        let width = self.width.map_or_else(width, usize::from);
        let mut text = self.format.render(document, width, head, rows)?;
        if self.format == TableFormat::Text && !speaks_utf8() {
            text = ascii(&text);
        }
        print_styled(&text)
    }

    /// Which servers have a row: all requested ones, or else the first few and those that `also` names.
    pub(crate) fn shown(&self, evidence: &mut Evidence, also: &[String]) -> Result<Shown, Usage> {
        if !self.names.servers.is_empty() {
            return Ok(Shown::default());
        }
        let mut shown = Shown::podium("--servers '*'");
        if !also.is_empty() {
            let names = Names {
                servers: also.to_vec(),
                workloads: Vec::new(),
            };
            let (servers, _) = names.chosen(&[evidence])?;
            shown.also = servers.into_iter().collect();
        }
        Ok(shown)
    }
}

/// The width of the terminal in columns.
pub(crate) fn width() -> usize {
    match terminal_size::terminal_size_of(io::stdout()) {
        Some((terminal_size::Width(columns), _)) => usize::from(columns).max(40),
        None => table::WIDTH,
    }
}

/// Keeps only the requested workloads. A requested name must occur in at least one of `sides`.
pub(crate) fn keep_workloads(
    sides: &mut [&mut Evidence],
    patterns: &[String],
) -> Result<(), Usage> {
    let workloads = workloads(sides, patterns)?;
    for side in sides {
        side.keep(|_| true, |workload| workloads.contains(&workload.name));
    }
    Ok(())
}

/// The names of the workloads in `sides` that match `patterns`.
fn workloads(sides: &[&mut Evidence], patterns: &[String]) -> Result<BTreeSet<String>, Usage> {
    let all = sides.iter().flat_map(|side| &side.workloads);
    let all = distinct(all.map(|workload| Named {
        name: &workload.name,
        groups: &workload.groups,
    }));
    chosen("workload", patterns, &all, &place(sides)).map_err(Usage)
}

/// The sets in which names were looked up.
fn place(sides: &[&mut Evidence]) -> String {
    let sets = sides.iter().flat_map(|side| &side.sets);
    let sets: Vec<&str> = sets.map(String::as_str).collect();
    sets.join(", ")
}

/// Removes repeated names; the first occurrence stays.
fn distinct<'a>(all: impl Iterator<Item = Named<'a>>) -> Vec<Named<'a>> {
    let mut seen = BTreeSet::new();
    all.filter(|it| seen.insert(it.name)).collect()
}

/// Opens sets; none may be given twice.
pub(crate) fn open(paths: &[PathBuf]) -> anyhow::Result<Vec<Set>> {
    let mut seen = BTreeSet::new();
    let mut sets = Vec::new();
    for path in paths {
        let set = Set::open(path)?;
        if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            return Err(Usage(format!("{} is given twice", foreign::path(path))).into());
        }
        for remark in &set.cut_off {
            say!(
                "{}",
                textwrap::fill(&format!("note: {remark}"), table::WIDTH)
            );
        }
        sets.push(set);
    }
    Ok(sets)
}

/// Combines opened sets.
pub(crate) fn together(sets: Vec<Set>) -> anyhow::Result<Evidence> {
    let evidence = Evidence::of(sets)?;
    for remark in &evidence.remarks {
        say!(
            "{}",
            textwrap::fill(&format!("note: {remark}"), table::WIDTH)
        );
    }
    Ok(evidence)
}

/// Opens sets and combines them.
pub(crate) fn evidence(paths: &[PathBuf]) -> anyhow::Result<Evidence> {
    together(open(paths)?)
}
