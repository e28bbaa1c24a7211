//! `loadgen report`: sets as Markdown with its pictures, or as a page.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::selection::{evidence, keep_workloads};
use crate::report::latencies::Latencies;
use crate::report::pictures::{self, Picture};
use crate::report::{html, markdown};
use crate::set::write_atomically;
use crate::shell::{quoted, quoted_path};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folders of sets; several are taken together as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    /// Markdown file to renew between its lines `<!-- loadgen:begin -->` and `<!-- loadgen:end -->`,
    /// instead of printing; pictures that it links to go into the folder `pictures/` beside it
    #[arg(long, value_name = "FILE")]
    splice: Option<PathBuf>,
    /// Workloads in the Markdown text: names, groups, or patterns such as 'keep-alive*' [default: all];
    /// pictures and page are of all
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Page to write, in one file that opens in a browser without a network: answers in words, ranks,
    /// charts of latency, throughput, CPU and system calls, verdicts, the machine
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let evidence = evidence(&arguments.sets)?;
    let mut shown = evidence.clone();
    keep_workloads(&mut shown, &arguments.workloads)?;
    if let Some(path) = &arguments.html {
        let latencies = Latencies::read(&arguments.sets, &evidence)?;
        let command = command(&arguments.sets, &[], Some(("--html", path)));
        write_atomically(path, &html::page(&evidence, &latencies, &command))?;
        if arguments.splice.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let splice = arguments.splice.as_deref();
    let command = command(
        &arguments.sets,
        &arguments.workloads,
        splice.map(|path| ("--splice", path)),
    );
    let Some(path) = splice else {
        let metrics = shown.metrics();
        print!("{}", markdown::report(&shown, &metrics, &[], &command));
        return Ok(ExitCode::SUCCESS);
    };
    let pictures = pictures::all(&evidence);
    let link = |it: &Picture| (format!("{PICTURES}/{}", it.file), it.alt.clone());
    let links: Vec<(String, String)> = pictures.iter().map(link).collect();
    let text = markdown::report(&shown, &shown.metrics(), &links, &command);
    let file = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let spliced = markdown::splice(&file, &text).with_context(|| path.display().to_string())?;
    let folder = path.with_file_name(PICTURES);
    if !pictures.is_empty() {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    for picture in &pictures {
        write_if_new(&folder.join(&picture.file), &picture.svg)?;
    }
    // The text comes last: whatever it links to is there.
    write_if_new(path, &spliced)?;
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
fn command(sets: &[PathBuf], workloads: &[String], made: Option<(&str, &Path)>) -> String {
    let here = env::current_dir().unwrap_or_default();
    // Where somebody keeps the repository is nobody's business.
    let relative = |path: &Path| quoted_path(path.strip_prefix(&here).unwrap_or(path));
    let mut words = vec!["loadgen".to_owned(), "report".to_owned()];
    words.extend(sets.iter().map(|set| relative(set)));
    if !workloads.is_empty() {
        words.extend(["--workloads".to_owned(), quoted(&workloads.join(","))]);
    }
    if let Some((option, path)) = made {
        words.extend([option.to_owned(), relative(path)]);
    }
    words.join(" ")
}
