//! `loadgen doctor`: whether this machine is fit to measure, and what to change.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::output;
use lab::doctor;
use lab::doctor::Status;
use report::doctor as report;

#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(crate) struct Arguments {
    /// Exit with code 1 if there is a warning
    #[arg(long)]
    strict: bool,
    /// Write the findings as JSON to a file, or to stdout (-) instead of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
}

const ABOUT: &str = "\
The check takes about half a second, needs no privileges and changes nothing. A
warning names something that can distort numbers or prevents a measurement, and
the fix stands below it. A fix lasts until the next boot; for limits and CPUs,
as long as the shell in which it is entered.

Exit code 0, or 1 with --strict if there is a warning.";

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let json = arguments.json.as_deref();
    output::check(&[("--json", json)])?;
    let examination = doctor::examine();
    let mut written = output::Written::default();
    if !output::is_stdout(json) {
        written.add(output::print_styled(&report::text(&examination)));
    }
    if let Some(path) = json {
        written.add(output::write_json(path, &examination));
    }
    written.end()?;
    Ok(match examination.count(Status::Warn) {
        1.. if arguments.strict => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}
