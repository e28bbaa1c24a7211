//! `loadgen doctor`: is this machine fit to measure, and what to change.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::common::print;
use crate::doctor::{self, Status};
use crate::report::doctor as report;

#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(super) struct Arguments {
    /// End with exit code 1 when there is a warning
    #[arg(long)]
    strict: bool,
    /// Write the findings as JSON to a file, or to stdout (-) instead of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
}

const ABOUT: &str = "\
It looks for about half a second, needs no privilege and changes nothing. What
a warning is about can spoil numbers, or keeps something from being measured;
below it stands what mends it. Commands last until the next boot, or, for
limits and CPUs, as long as the shell they are given to.

Exit code 0, or 1 with --strict when there is a warning.";

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let examination = doctor::examine();
    let text = report::text(&examination);
    match &arguments.json {
        Some(path) if path.as_os_str() == "-" => {
            print(
                io::stdout(),
                &(serde_json::to_string_pretty(&examination)? + "\n"),
            )?;
        }
        Some(path) => {
            fs::write(path, serde_json::to_string_pretty(&examination)? + "\n")
                .with_context(|| format!("writing {}", path.display()))?;
            print(anstream::stdout(), &text)?;
        }
        None => print(anstream::stdout(), &text)?,
    }
    Ok(match examination.count(Status::Warn) {
        1.. if arguments.strict => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}
