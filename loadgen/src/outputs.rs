//! Where the outcome of a run goes, and in which format.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};

use super::Usage;
use super::common::speaks_utf8;
use super::output::{self, Written, say};
use ::report::{hgrm, screen, tracking};
use engine::plan::Close;
use lab::calibration::Calibration;
use lab::hlog;
use lab::json;
use lab::run::Run;
use subject::machine::{Machine, Pinning};

#[derive(Debug, Args)]
pub(crate) struct Outputs {
    /// Format: text, bencher; for github-action-benchmark: github (smaller is better) or github-bigger
    #[arg(
        long,
        value_name = "FORM",
        default_value = "text",
        hide_possible_values = true
    )]
    format: TrackerFormat,
    /// Write everything as JSON to a file, or to stdout (-) instead of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// Write histograms as an HdrHistogram V2 log, in nanoseconds
    #[arg(long, value_name = "FILE|-")]
    hlog: Option<PathBuf>,
    /// Write response times as HdrHistogram percentiles, in ms
    #[arg(long, value_name = "FILE|-")]
    hgrm: Option<PathBuf>,
    /// The generator's limits on this machine, written by `loadgen calibrate --json FILE`: they go into the
    /// JSON, and you are warned if the run comes close to them
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TrackerFormat {
    Text,
    Github,
    GithubBigger,
    Bencher,
}

impl Outputs {
    /// Checks the options before anything starts.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        let files = self.files();
        output::check(&files)?;
        let printed = files.iter().find(|(_, path)| output::is_stdout(*path));
        match printed {
            Some((option, _)) if self.format != TrackerFormat::Text => Err(Usage(format!(
                "{option} - and --format both write to stdout: give {option} a file"
            ))),
            _ => Ok(()),
        }
    }

    /// Where the JSON goes, if requested; `-` is stdout.
    pub(crate) fn json(&self) -> Option<&Path> {
        self.json.as_deref()
    }

    /// Whether an output is requested that only a single run has, and a search does not.
    pub(crate) fn is_about_one_run(&self) -> bool {
        self.format != TrackerFormat::Text || self.hlog.is_some() || self.hgrm.is_some()
    }

    /// The calibration given on the command line.
    pub(crate) fn calibration(&self) -> anyhow::Result<Option<Calibration>> {
        let Some(path) = &self.calibration else {
            return Ok(None);
        };
        calibration(path).map(Some)
    }

    fn files(&self) -> [(&'static str, Option<&Path>); 3] {
        [
            ("--json", self.json.as_deref()),
            ("--hlog", self.hlog.as_deref()),
            ("--hgrm", self.hgrm.as_deref()),
        ]
    }

    /// Prints and writes all requested output. `started` is when the first counted request was due.
    pub(crate) fn write(&self, run: &Run<'_>, started: SystemTime) -> anyhow::Result<()> {
        let mut written = Written::default();
        // If one of the files is stdout, nothing else may go there.
        if !self
            .files()
            .iter()
            .any(|(_, path)| output::is_stdout(*path))
        {
            written.add(output::print_styled(&self.text(run)?));
        }
        if let Some(path) = &self.json {
            written.add(output::write(path, json_text(run)?));
        }
        if let Some(path) = &self.hlog {
            written.add(output::write(path, interval_log(run, started)?));
        }
        if let Some(path) = &self.hgrm {
            let mut text = Vec::new();
            hgrm::write(&mut text, &run.outcome.record.response)?;
            text.extend_from_slice(label(run).as_bytes());
            written.add(output::write(path, text));
        }
        written.end()
    }

    fn text(&self, run: &Run<'_>) -> anyhow::Result<String> {
        let json = match self.format {
            TrackerFormat::Text => {
                let text = screen::text(run);
                return Ok(match speaks_utf8() {
                    true => text,
                    false => screen::ascii(&text),
                });
            }
            TrackerFormat::Github => {
                serde_json::to_string_pretty(&tracking::github_smaller_is_better(run))
            }
            TrackerFormat::GithubBigger => {
                serde_json::to_string_pretty(&tracking::github_bigger_is_better(run))
            }
            TrackerFormat::Bencher => serde_json::to_string_pretty(&tracking::bencher(run)),
        };
        Ok(json? + "\n")
    }
}

/// Reads a calibration, and warns if it was made on another machine.
pub(crate) fn calibration(path: &Path) -> anyhow::Result<Calibration> {
    let calibration = Calibration::read(path).map_err(|error| Usage(error.to_string()))?;
    let here = Machine::here(engine::affinity::own_cpus().len(), Pinning::default());
    for difference in calibration.fits(&here) {
        say!(
            "warning: {} was calibrated elsewhere: {difference}",
            path.display()
        );
    }
    Ok(calibration)
}

fn json_text(run: &Run<'_>) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&json::Run::of(run))? + "\n")
}

/// A fact that every output must state, as a comment for histogram files.
fn label(run: &Run<'_>) -> &'static str {
    match run.plan.close {
        Close::Fin => "",
        Close::Rst => "#[Connections were reset, not closed (--close rst)]\n",
    }
}

/// One interval, the whole run, for each kind of latency.
fn interval_log(run: &Run<'_>, started: SystemTime) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    hlog::write_head(&mut out, started)?;
    out.extend_from_slice(label(run).as_bytes());
    for (tag, histogram) in run.outcome.record.histograms() {
        let length = run.outcome.duration;
        hlog::append(&mut out, Duration::ZERO, length, tag, histogram)?;
    }
    Ok(out)
}
