//! What the verbs that compare share: which sets, servers, workloads and metrics, and how it is printed.

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
use report::run::ascii;
use report::table::{self, Shown};
use subject::names::{Named, chosen};

/// Which servers and workloads.
#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Only these servers: names, groups (such as `core`), or patterns such as 'thread-*'
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    servers: Vec<String>,
    /// Only these workloads: names, groups, or patterns such as 'keep-alive*'
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    workloads: Vec<String>,
}

/// What is compared, and how it is printed.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    names: Names,
    /// What to compare: metrics that go together
    #[arg(
        long,
        value_name = "UNITS",
        value_delimiter = ',',
        conflicts_with = "metric"
    )]
    units: Vec<Units>,
    /// What to compare, one by one [default of cmp: cpu, throughput, p99, and idle-memory where connections
    /// were idle; of diff and rank: cpu]
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metric: Vec<Metric>,
    /// How to print it
    #[arg(long, default_value = "text")]
    format: TableFormat,
    /// Columns of the tables, at least 40 [default: the terminal's, or 80]
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(40..))]
    width: Option<u16>,
}

impl Names {
    /// The servers and the workloads in `sides` that were asked for; all where none was.
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
    /// Leaves in `sides` what was asked for: what one of them has is enough.
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

    /// What was asked for, or else `default`, as far as a workload says something about it.
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
                false => say!("SKIPPED: {}: no workload here has it", metric.title()),
            }
        }
        match metrics.is_empty() {
            true => Err(Usage("there is nothing to compare by".to_owned())),
            false => Ok(metrics),
        }
    }

    /// Prints in the format that was asked for. `rows` are all of it, for programs; `head` is what stands
    /// before them in JSON.
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

    /// Which of many servers have a row: all that were asked for, or else the first few and those that `also`
    /// names.
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

/// Columns of the terminal that is printed to.
pub(crate) fn width() -> usize {
    match terminal_size::terminal_size_of(io::stdout()) {
        Some((terminal_size::Width(columns), _)) => usize::from(columns).max(40),
        None => table::WIDTH,
    }
}

/// Leaves only the workloads that were asked for: what one of `sides` has is enough.
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

/// The names of the workloads in `sides` that `patterns` ask for.
fn workloads(sides: &[&mut Evidence], patterns: &[String]) -> Result<BTreeSet<String>, Usage> {
    let all = sides.iter().flat_map(|side| &side.workloads);
    let all = distinct(all.map(|workload| Named {
        name: &workload.name,
        groups: &workload.groups,
    }));
    chosen("workload", patterns, &all, &place(sides)).map_err(Usage)
}

/// Where names were looked for.
fn place(sides: &[&mut Evidence]) -> String {
    let sets = sides.iter().flat_map(|side| &side.sets);
    let sets: Vec<&str> = sets.map(String::as_str).collect();
    sets.join(", ")
}

/// Each name once, where it stands first.
fn distinct<'a>(all: impl Iterator<Item = Named<'a>>) -> Vec<Named<'a>> {
    let mut seen = BTreeSet::new();
    all.filter(|it| seen.insert(it.name)).collect()
}

/// Opens sets, each given once.
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

/// Takes opened sets together.
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

/// Opens sets and takes them together.
pub(crate) fn evidence(paths: &[PathBuf]) -> anyhow::Result<Evidence> {
    together(open(paths)?)
}
