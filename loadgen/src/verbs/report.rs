//! `loadgen report`: sets as Markdown with its pictures, or as a page.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::output::{self, Written};
use crate::selection::{evidence, keep_workloads};
use engine::shell::{quoted, quoted_path};
use lab::compare::Evidence;
use report::latencies::Latencies;
use report::pictures;
use report::pictures::Picture;
use report::{html, markdown};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folders of sets; several are taken together as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    /// Markdown file to renew between its lines `<!-- loadgen:begin -->` and `<!-- loadgen:end -->`,
    /// instead of printing; pictures that it links to go into the folder `pictures/` beside it. `-` renews
    /// stdin to stdout, without pictures
    #[arg(long, value_name = "FILE|-")]
    splice: Option<PathBuf>,
    /// Workloads in the Markdown text: names, groups, or patterns such as 'keep-alive*' [default: all];
    /// pictures and the page always have all
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Page to write, in one file that opens in a browser without a network: answers in words, ranks,
    /// charts of latency, throughput, CPU and system calls, verdicts, the machine; - is stdout
    #[arg(long, value_name = "FILE|-")]
    html: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (html, splice) = (arguments.html.as_deref(), arguments.splice.as_deref());
    output::check(&[("--html", html), ("--splice", splice)])?;
    let evidence = evidence(&arguments.sets)?;
    let mut shown = evidence.clone();
    keep_workloads(&mut shown, &arguments.workloads)?;
    let mut written = Written::default();
    if let Some(path) = html {
        let latencies = Latencies::read(&arguments.sets, &evidence)?;
        let command = command(&arguments.sets, &[], Some(("--html", path)));
        written.add(output::write(
            path,
            html::page(&evidence, &latencies, &command),
        ));
    }
    let command = |made| command(&arguments.sets, &arguments.workloads, made);
    match splice {
        Some(path) => written.add(renew(
            path,
            &evidence,
            &shown,
            &command(Some(("--splice", path))),
        )),
        None if html.is_some() => {}
        None => {
            let text = markdown::report(&shown, &shown.metrics(), &[], &command(None));
            written.add(output::print(text));
        }
    }
    written.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Renews a Markdown file with its pictures; `-` is stdin, renewed to stdout, which has no folder for pictures.
fn renew(path: &Path, evidence: &Evidence, shown: &Evidence, command: &str) -> anyhow::Result<()> {
    let name = path.display().to_string();
    let (file, pictures) = match output::is_stdout(Some(path)) {
        true => (
            io::read_to_string(io::stdin()).context("reading stdin")?,
            Vec::new(),
        ),
        false => {
            // A pipe or a device has no text to be renewed.
            let is_file = fs::metadata(path)
                .with_context(|| format!("reading {name}"))?
                .is_file();
            anyhow::ensure!(
                is_file,
                "{name} is not a regular file, so no part of it can be renewed"
            );
            let file = fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
            (file, pictures::all(evidence))
        }
    };
    let link = |it: &Picture| (format!("{PICTURES}/{}", it.file), it.alt.clone());
    let links: Vec<(String, String)> = pictures.iter().map(link).collect();
    let text = markdown::report(shown, &shown.metrics(), &links, command);
    let spliced = markdown::splice(&file, &text).with_context(|| name)?;
    let folder = path.with_file_name(PICTURES);
    if !pictures.is_empty() {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    for picture in &pictures {
        write_if_new(&folder.join(&picture.file), &picture.svg)?;
    }
    // The text comes last, so that everything it links to exists.
    match output::is_stdout(Some(path)) {
        true => output::print(spliced),
        false => write_if_new(path, &spliced),
    }
}

/// The folder beside the Markdown file that they are written to.
const PICTURES: &str = "pictures";

/// Does not write a file that already has this text.
fn write_if_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    output::write(path, text)
}

/// The command that makes this text, as typed in the current folder.
fn command(sets: &[PathBuf], workloads: &[String], made: Option<(&str, &Path)>) -> String {
    let here = env::current_dir().unwrap_or_default();
    // The location of the repository on this machine is private.
    let relative = |path: &Path| quoted_path(path.strip_prefix(&here).unwrap_or(path));
    let mut words = vec!["loadgen".to_owned(), "report".to_owned()];
    words.extend(sets.iter().map(|set| relative(set)));
    if !workloads.is_empty() {
        words.extend(["--workloads".to_owned(), quoted(workloads.join(","))]);
    }
    if let Some((option, path)) = made {
        words.extend([option.to_owned(), relative(path)]);
    }
    words.join(" ")
}
