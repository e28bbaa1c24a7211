//! `loadgen report`: sets as Markdown with its pictures, or as a page.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::cmp::evidence;
use crate::report::latencies::Latencies;
use crate::report::{html, markdown};
use crate::set::write_atomically;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folders of sets; several are taken together as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    /// Markdown file to renew between its lines `<!-- loadgen:begin -->` and `<!-- loadgen:end -->`,
    /// instead of printing
    #[arg(long, value_name = "FILE")]
    splice: Option<PathBuf>,
    /// Page to write, in one file that opens in a browser without a network: answers in words, ranks,
    /// charts of latency, throughput, CPU and system calls, verdicts, the machine
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { sets, splice, html } = arguments;
    let evidence = evidence(&sets)?;
    if let Some(path) = &html {
        let latencies = Latencies::read(&sets, &evidence)?;
        let command = command(&sets, "--html", Some(path));
        write_atomically(path, &html::page(&evidence, &latencies, &command))?;
        if splice.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let command = command(&sets, "--splice", splice.as_deref());
    let text = markdown::report(&evidence, &evidence.metrics(), &command);
    let Some(path) = splice else {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    };
    let file = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let spliced = markdown::splice(&file, &text).with_context(|| path.display().to_string())?;
    if spliced != file {
        write_atomically(&path, &spliced)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The command that makes this text, as typed in the current folder.
fn command(sets: &[PathBuf], option: &str, file: Option<&Path>) -> String {
    let here = env::current_dir().unwrap_or_default();
    // Where somebody keeps the repository is nobody's business.
    let relative = |path: &Path| {
        path.strip_prefix(&here)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let mut words = vec!["loadgen".to_owned(), "report".to_owned()];
    words.extend(sets.iter().map(|set| relative(set)));
    if let Some(path) = file {
        words.extend([option.to_owned(), relative(path)]);
    }
    words.join(" ")
}
