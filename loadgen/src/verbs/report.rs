//! `loadgen report`: sets as Markdown with its pictures, or as a page.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::Usage;
use crate::output::{self, Written};
use crate::selection::{keep_workloads, open, together};
use engine::shell::{quoted, quoted_path};
use lab::compare::Evidence;
use lab::compare::Latencies;
use lab::set::Set;
use report::front::{self, Front, Part};
use report::pictures;
use report::pictures::Picture;
use report::situations::Recorded;
use report::{html, markdown};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folders of sets, the oldest first; several are combined as more rounds of the same
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    /// Markdown file to renew instead of printing; `-` reads stdin and writes stdout, without pictures
    ///
    /// Only the text between its markers is replaced. Each marker is a line of its own:
    ///
    /// `<!-- loadgen:begin -->` to `<!-- loadgen:end -->`: the tables. Several sets must be of one machine
    /// and build.
    ///
    /// `<!-- loadgen:picture -->` to `<!-- loadgen:picture:end -->`: CPU per request under every workload,
    /// from the set with the most workloads.
    ///
    /// `<!-- loadgen:which-one -->` to `<!-- loadgen:which-one:end -->`: which server to take in which
    /// situation. The sets may be of several machines; where they disagree, the row says so.
    ///
    /// `<!-- loadgen:ranks -->` to `<!-- loadgen:ranks:end -->`: a row for each server, a column for each machine.
    ///
    /// Pictures go into the folder `pictures/` beside the file. README.md of this repository has the last
    /// three parts, results/README.md the first; each shows the command that renews it.
    #[arg(long, value_name = "FILE|-")]
    splice: Option<PathBuf>,
    /// Workloads in the Markdown text: names, groups, or patterns such as 'keep-alive*' [default: all];
    /// pictures and the page always have all
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Write a page, one file that a browser opens without a network: answers in words, ranks, charts of
    /// latency, throughput, CPU and system calls, verdicts, the machine; - is stdout
    #[arg(long, value_name = "FILE|-")]
    html: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (html, splice) = (arguments.html.as_deref(), arguments.splice.as_deref());
    output::check(&[("--html", html), ("--splice", splice)])?;
    let sets = open(&arguments.sets)?;
    let file = splice.map(|path| File::read(path, &arguments));
    // Sets of several machines have no tables in common, but may have a front page.
    let needs_tables = html.is_some() || !matches!(&file, Some(Ok(file)) if !file.has_tables());
    let evidence = match needs_tables {
        true => Some(together(sets.clone())?),
        false => None,
    };
    let mut written = Written::default();
    if let (Some(path), Some(evidence)) = (html, &evidence) {
        let latencies = Latencies::of(evidence);
        let command = command(&arguments.sets, &[], Some(("--html", path)));
        let page = html::page(evidence, &latencies, &command);
        written.add(output::write(path, page));
    }
    let mut shown = evidence.clone();
    if let Some(shown) = &mut shown {
        keep_workloads(&mut [shown], &arguments.workloads)?;
    }
    match (file, &evidence, &shown) {
        (Some(file), _, _) => {
            let tables = evidence.as_ref().zip(shown.as_ref());
            written.add(file.and_then(|file| file.renew(sets, tables)));
        }
        (None, _, Some(shown)) if html.is_none() => {
            let command = command(&arguments.sets, &arguments.workloads, None);
            let text = markdown::report(shown, &shown.metrics(), &[], &command);
            written.add(output::print(text));
        }
        _ => {}
    }
    written.end()?;
    Ok(ExitCode::SUCCESS)
}

/// A Markdown file with parts to renew; `-` is stdin, renewed to stdout, without a folder for pictures.
struct File<'a> {
    path: &'a Path,
    text: String,
    arguments: &'a Arguments,
}

impl<'a> File<'a> {
    fn read(path: &'a Path, arguments: &'a Arguments) -> anyhow::Result<Self> {
        let name = path.display();
        let text = match output::is_stdout(Some(path)) {
            true => io::read_to_string(io::stdin()).context("reading stdin")?,
            false => {
                // A pipe or a device has no text to renew.
                let is_file = fs::metadata(path)
                    .with_context(|| format!("reading {name}"))?
                    .is_file();
                anyhow::ensure!(
                    is_file,
                    "{name} is not a regular file, so no part of it can be renewed"
                );
                fs::read_to_string(path).with_context(|| format!("reading {name}"))?
            }
        };
        Ok(File {
            path,
            text,
            arguments,
        })
    }

    /// Whether the tables are part of it. They are if it has no marker at all.
    fn has_tables(&self) -> bool {
        Part::of(&self.text).is_empty() || markdown::has_marker(&self.text)
    }

    /// Renews the file and its pictures. `tables`: all evidence, and the part of it that the text shows.
    fn renew(self, sets: Vec<Set>, tables: Option<(&Evidence, &Evidence)>) -> anyhow::Result<()> {
        let Arguments {
            sets: folders,
            workloads,
            ..
        } = self.arguments;
        let is_stdout = output::is_stdout(Some(self.path));
        let name = self.path.display().to_string();
        let command = command(folders, workloads, Some(("--splice", self.path)));
        let mut pictures = Vec::new();
        let mut text = self.text.clone();
        if let Some((evidence, shown)) = tables.filter(|_| self.has_tables()) {
            if !is_stdout {
                pictures = pictures::all(evidence);
            }
            let link = |it: &Picture| (format!("{PICTURES}/{}", it.file), it.alt.clone());
            let links: Vec<(String, String)> = pictures.iter().map(link).collect();
            let report = markdown::report(shown, &shown.metrics(), &links, &command);
            text = markdown::splice(&text, &report).with_context(|| name.clone())?;
        }
        let parts = Part::of(&text);
        if !parts.is_empty() {
            front::check(&text).with_context(|| name.clone())?;
            let recorded = self.recorded(sets)?;
            let front = Front::of(&recorded);
            let mut picture = front
                .picture()
                .filter(|_| !is_stdout && parts.contains(&Part::Picture));
            // The picture of the tables covers all sets.
            let same = (pictures.iter())
                .find(|it| picture.as_ref().is_some_and(|mine| mine.file == it.file));
            match same {
                Some(same) => picture = Some(same.clone()),
                None => pictures.extend(picture.clone()),
            }
            let shown = picture.as_ref().map(|it| (PICTURES, it));
            text = front.splice(&text, &command, shown).with_context(|| name)?;
        }
        let folder = self.path.with_file_name(PICTURES);
        if !pictures.is_empty() {
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        for picture in &pictures {
            write_if_new(&folder.join(&picture.file), &picture.svg)?;
        }
        // The text comes last, so that everything it links to exists.
        match is_stdout {
            true => output::print(text),
            false => write_if_new(self.path, &text),
        }
    }

    /// Each set on its own, with the links to it from this file.
    fn recorded(&self, sets: Vec<Set>) -> anyhow::Result<Vec<Recorded>> {
        let mut seen = BTreeSet::new();
        let mut recorded = Vec::new();
        for (set, path) in sets.into_iter().zip(&self.arguments.sets) {
            let origin = (set.campaign.started.clone(), set.campaign.seed);
            if !seen.insert(origin) {
                let path = engine::foreign::path(path);
                let message = format!("{path} is a copy of another set, and would count twice");
                return Err(Usage(message).into());
            }
            let name = set.name();
            let folder = self.link_to(path);
            let beside = path.canonicalize().unwrap_or_else(|_| path.clone());
            let beside = beside.parent().map(|it| it.join(README));
            let tables = beside
                .and_then(|it| Some((self.link_to(&it), fs::read_to_string(&it).ok()?)))
                .filter(|(_, text)| text.contains(&format!("`{name}`")));
            recorded.push(Recorded {
                evidence: together(vec![set])?,
                readme: format!("{folder}/{README}"),
                tables,
            });
        }
        let mut sides: Vec<&mut Evidence> =
            recorded.iter_mut().map(|it| &mut it.evidence).collect();
        keep_workloads(&mut sides, &self.arguments.workloads)?;
        Ok(recorded)
    }

    /// A path, relative to this file, for a link in it.
    fn link_to(&self, path: &Path) -> String {
        let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let here = match output::is_stdout(Some(self.path)) {
            true => env::current_dir().unwrap_or_default(),
            false => absolute(self.path)
                .parent()
                .map_or_else(PathBuf::new, Path::to_owned),
        };
        let path = absolute(path);
        let above = (here.ancestors()).position(|it| path.starts_with(it));
        let Some((above, rest)) = above.and_then(|above| {
            let common = here.ancestors().nth(above)?;
            Some((above, path.strip_prefix(common).ok()?))
        }) else {
            return path.display().to_string();
        };
        let link: PathBuf = ["..".as_ref()]
            .repeat(above)
            .into_iter()
            .chain([rest])
            .collect::<PathBuf>();
        link.display().to_string().replace(' ', "%20")
    }
}

/// The description of a folder.
const README: &str = "README.md";

/// The folder for pictures, beside the Markdown file.
const PICTURES: &str = "pictures";

/// Writes a file, unless it already has this text.
fn write_if_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    output::write(path, text)
}

/// The command that generates this text, as typed in the current folder.
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
