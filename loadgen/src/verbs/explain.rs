//! `loadgen explain`: predicted against measured.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::output::{self, say, to_stderr};
use crate::selection::{self, Names, evidence};
use ::report::explain as report;
use ::report::format::TableFormat;
use engine::affinity::own_cpus;
use lab::compare::Evidence;
use lab::explain::explain;
use lab::primitives;
use lab::primitives::Primitives;
use subject::machine::Machine;

#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(crate) struct Arguments {
    /// Folders of sets; several are combined as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    #[command(flatten)]
    names: Names,
    /// Use the prices in this file, written by an earlier `--json`, instead of measuring them
    #[arg(long, value_name = "FILE")]
    primitives: Option<PathBuf>,
    /// Write everything as JSON to a file, or to stdout (-) instead of the tables
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// Also print the items of each sum, and the price list
    #[arg(long)]
    items: bool,
    /// Output format
    #[arg(long, default_value = "text", value_parser = for_people())]
    format: TableFormat,
}

const ABOUT: &str = "\
It measures, in about 5 seconds, what a system call, a context switch, a thread,
a connection, a request and a response cost on loopback on this machine, with
both sides pinned as in the set. It multiplies these prices by the counts in the
set's ledger and compares each sum with the measured CPU time.

Use the machine of the set, as quiet as it was then. `loadgen measure` counts
the ledger if run as root.";

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.json.as_deref();
    output::check(&[("--json", json)])?;
    let mut evidence = evidence(&arguments.sets)?;
    let (servers, workloads) = arguments.names.chosen(&[&mut evidence])?;
    require_ledger(&evidence)?;
    let primitives = match &arguments.primitives {
        Some(path) => read(path)?,
        None => measure(&evidence)?,
    };
    warn_of_differences(&evidence.machine, &primitives.machine);
    let explanation = explain(&evidence, primitives, |server, workload| {
        servers.contains(server) && workloads.contains(workload)
    });
    let mut written = output::Written::default();
    if !output::is_stdout(json) {
        let document = report::document(&explanation, arguments.items);
        let rows: &[()] = &[];
        let text = (arguments.format).render(|| document, selection::width(), (), rows)?;
        written.add(output::print(text));
    }
    if let Some(path) = json {
        written.add(output::write_json(path, &explanation));
    }
    written.end()?;
    Ok(ExitCode::SUCCESS)
}

/// The formats for people; programs use `--json`.
fn for_people() -> impl TypedValueParser<Value = TableFormat> {
    let formats = TableFormat::value_variants().iter();
    let formats = formats.filter(|format| format.is_for_people());
    let names = formats.filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(names)
        .map(|name| TableFormat::from_str(&name, false).expect("one of these names"))
}

fn require_ledger(evidence: &Evidence) -> anyhow::Result<()> {
    if evidence.ledger.iter().any(|row| row.error.is_none()) {
        return Ok(());
    }
    let set = evidence.sets.join(", ");
    match evidence.ledger.iter().find_map(|row| row.error.as_deref()) {
        Some(error) => anyhow::bail!(
            "{set}: no system calls were counted: {error}; measure a set where that is permitted, as root: \
             loadgen measure"
        ),
        None => anyhow::bail!(
            "{set} has no ledger.csv, so there are no system calls to add up; measure a set as root, which \
             counts them: loadgen measure"
        ),
    }
}

fn read(path: &Path) -> anyhow::Result<Primitives> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    // `--json` writes them beside the explanation.
    let own = json.get("primitives").unwrap_or(&json).clone();
    let primitives: Primitives =
        serde_json::from_value(own).with_context(|| format!("{}: primitives", path.display()))?;
    primitives
        .check()
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    Ok(primitives)
}

fn measure(evidence: &Evidence) -> anyhow::Result<Primitives> {
    let pinning = evidence.machine.pinning.clone();
    let cpus = own_cpus();
    let needed = pinning.server.iter().chain(&pinning.client);
    if let Some(missing) = needed.into_iter().find(|cpu| !cpus.contains(cpu)) {
        anyhow::bail!(
            "the set was measured on CPU {missing}, which is not available here, only {cpus:?}; measure on \
             its machine, and use `--primitives FILE` elsewhere"
        );
    }
    let machine = Machine::here(cpus.len(), pinning);
    let started = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let shows = io::stderr().is_terminal();
    if !shows {
        say!("measuring the prices of this machine ...");
    }
    let primitives = primitives::measure(machine, started.to_string(), |share| {
        if shows {
            let percent = share * 100.0;
            to_stderr(format_args!(
                "\rmeasuring the prices of this machine ... {percent:>3.0}%"
            ));
        }
    });
    if shows {
        say!();
    }
    primitives.context("measuring the prices of this machine")
}

/// Prices of another machine explain little, so the reader must be told.
fn warn_of_differences(set: &Machine, here: &Machine) {
    let differences = set.likeness(here).differences;
    if !differences.is_empty() {
        say!(
            "loadgen: warning: the primitives are of another machine than the set, so the residuals say \
             little: {}",
            differences.join("; ")
        );
    }
}
