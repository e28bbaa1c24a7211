//! `loadgen report`: sets as Markdown with its pictures, or as a page.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::selection::evidence;
use crate::report::latencies::Latencies;
use crate::report::pictures::{self, Picture};
use crate::report::{html, markdown};
use crate::set::write_atomically;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folders of sets; several are taken together as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    /// Markdown file to renew between its lines `<!-- loadgen:begin -->` and `<!-- loadgen:end -->`,
    /// instead of printing; pictures that it links to go into the folder `pictures/` beside it
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
    let metrics = evidence.metrics();
    let Some(path) = splice else {
        print!("{}", markdown::report(&evidence, &metrics, &[], &command));
        return Ok(ExitCode::SUCCESS);
    };
    let pictures = pictures::all(&evidence);
    let link = |it: &Picture| (format!("{PICTURES}/{}", it.file), it.alt.clone());
    let links: Vec<(String, String)> = pictures.iter().map(link).collect();
    let text = markdown::report(&evidence, &metrics, &links, &command);
    let file = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let spliced = markdown::splice(&file, &text).with_context(|| path.display().to_string())?;
    let folder = path.with_file_name(PICTURES);
    if !pictures.is_empty() {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    for picture in &pictures {
        write_if_new(&folder.join(&picture.file), &picture.svg)?;
    }
    // The text comes last: whatever it links to is there.
    write_if_new(&path, &spliced)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder beside the Markdown file that they are written to.
const PICTURES: &str = "pictures";

/// Leaves a file alone that says the same already.
fn write_if_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    Ok(write_atomically(path, text)?)
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
