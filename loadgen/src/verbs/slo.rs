//! `loadgen run --slo`: the largest rate that meets an objective, step by step.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::Usage;
use crate::output::{self, Stderr, Stdout, write_json};
use engine::plan::{Pace, Plan, Rate};
use engine::record::Outcome;
use lab::slo;
use lab::slo::{Document, Ending, Search, Slo};
use report::slo as report;
use subject::process::ServerCost;

/// Flattened into the options of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Find the largest rate that meets this, such as 'p99<5ms,errors<=0.1%' (the default error limit; may be
    /// omitted). The search starts at --rate, or 1000/s. Each step takes 2 s, 20 times the limit, or as long
    /// as the percentile needs (p99: 381 requests), but no longer than -d; a run of -d confirms the result
    #[arg(long, value_name = "OBJECTIVES")]
    slo: Option<Slo>,
    /// Precision of that rate [default: 2%]
    #[arg(long, value_name = "PERCENT", value_parser = precision, requires = "slo")]
    slo_precision: Option<f64>,
}

/// What a search takes from the command line, besides the objective.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// A URL, or a server's name and its URL.
    pub(crate) target: &'a str,
    /// Its pace is ignored; its limit is the duration of the confirming run.
    pub(crate) plan: &'a Plan,
    /// The first rate to try.
    pub(crate) rate: Option<Rate>,
    /// [`Pace::Constant`] or [`Pace::Poisson`].
    pub(crate) arrivals: fn(Rate) -> Pace,
    /// Where the JSON goes: a file, or `-` for stdout instead of the table.
    pub(crate) json: Option<&'a Path>,
}

/// Drives a plan and returns what it cost the server, if known.
pub(crate) type Drive<'a> = dyn FnMut(&Plan) -> anyhow::Result<(Outcome, Option<ServerCost>)> + 'a;

/// The JSON of a run, as `run --json` writes it.
pub(crate) type ToJson<'a> =
    dyn Fn(slo::Confirmation<Option<ServerCost>>) -> anyhow::Result<serde_json::Value> + 'a;

impl Options {
    /// The objective, if one is given.
    pub(crate) fn objective(&self) -> Option<&Slo> {
        self.slo.as_ref()
    }

    /// Searches and prints. Exit code 0 if a rate was found and confirmed.
    ///
    /// # Errors
    ///
    /// [`Usage`] if the plan cannot show whether the objective is met; those of `drive`; if no connection can be
    /// established, or the JSON cannot be written.
    pub(crate) fn run(
        &self,
        slo: &Slo,
        request: &Request<'_>,
        drive: &mut Drive<'_>,
        to_json: &ToJson<'_>,
    ) -> anyhow::Result<ExitCode> {
        let mut stdout = Stdout::default();
        let out: &mut dyn Write = match output::is_stdout(request.json) {
            false => &mut stdout,
            // At a terminal, the progress of the search is still visible.
            true if io::stderr().is_terminal() => &mut Stderr,
            true => &mut io::sink(),
        };
        let search = self.search(slo, request)?;
        let code = run(&search, request, drive, to_json, out)?;
        stdout.end()?;
        Ok(code)
    }

    fn search(&self, slo: &Slo, request: &Request<'_>) -> anyhow::Result<Search> {
        let search = Search::new(
            slo.clone(),
            request.plan.clone(),
            request.arrivals,
            request.rate,
            self.slo_precision.unwrap_or(slo::PRECISION),
        );
        Ok(search.map_err(Usage)?)
    }
}

fn run(
    search: &Search,
    request: &Request<'_>,
    drive: &mut Drive<'_>,
    to_json: &ToJson<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<ExitCode> {
    out.write_all(report::head(search, request.target).as_bytes())?;
    let mut number = 0;
    let mut report = search.run(drive, |step| {
        number += 1;
        out.write_all(report::row(search, number, step).as_bytes())?;
        Ok(out.flush()?)
    })?;
    if let Ending::Unreachable(..) = report.ending {
        anyhow::bail!("{}", report::conclusion(search, &report).trim_end());
    }
    writeln!(out)?;
    out.write_all(report::conclusion(search, &report).as_bytes())?;
    if let Some(path) = request.json {
        let confirming = report.confirming.take().map(to_json).transpose()?;
        let document = Document::new(search.slo(), request.plan.close, &report, confirming);
        write_json(path, &document)?;
    }
    Ok(match report.is_confirmed() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// A share of 0.1% to 50%.
fn precision(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim();
    match percent.parse() {
        Ok(percent) if (0.1..=50.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("expected 0.1% to 50%, such as 2%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches as _};

    use super::*;
    use lab::slo::simulated;
    use lab::slo::simulated::Simulated;

    fn parsed(line: &[&str]) -> Result<Options, String> {
        let command = Options::augment_args(Command::new("run").no_binary_name(true));
        let matches = command.try_get_matches_from(line);
        let matches = matches.map_err(|error| error.to_string())?;
        Options::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line() {
        let arguments = parsed(&["--slo", "p99<5ms", "--slo-precision", "1%"]).unwrap();
        assert_eq!(arguments.objective(), Some(&"p99<5ms".parse().unwrap()));
        assert_eq!(arguments.slo_precision, Some(0.01));
        assert_eq!(parsed(&[]).unwrap().objective(), None);
        for (line, message) in [
            (
                &["--slo", "p99"][..],
                "expected an objective such as 'p99<5ms'",
            ),
            (&["--slo-precision", "1%"], "--slo <OBJECTIVES>"),
            (
                &["--slo", "p99<5ms", "--slo-precision", "0%"],
                "expected 0.1% to 50%",
            ),
            (
                &["--slo", "p99<5ms", "--slo-precision", "x"],
                "expected 0.1% to 50%",
            ),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(message), "{line:?}: {error}");
        }
    }

    /// Searches with a simulated server; returns how it ended and what was printed.
    fn searched(
        arguments: &[&str],
        request: &Request<'_>,
        spoil: &dyn Fn(usize, &mut Outcome),
    ) -> (anyhow::Result<ExitCode>, String) {
        let arguments = parsed(arguments).unwrap();
        let slo = arguments.objective().unwrap();
        let mut driven = 0;
        let mut out = Vec::new();
        let code = arguments.search(slo, request).and_then(|search| {
            let drive = &mut |plan: &Plan| {
                let mut outcome = Simulated::default().drive(driven, plan);
                spoil(driven, &mut outcome);
                driven += 1;
                Ok((outcome, None))
            };
            let to_json = &|run: slo::Confirmation<Option<ServerCost>>| {
                let duration_s = run.outcome.duration.as_secs_f64();
                Ok(serde_json::json!({"pace": run.plan.pace, "duration_s": duration_s}))
            };
            run(&search, request, drive, to_json, &mut out)
        });
        (code, String::from_utf8(out).unwrap())
    }

    fn request<'a>(plan: &'a Plan, json: Option<&'a Path>) -> Request<'a> {
        Request {
            target: "http://127.0.0.1:8000/",
            plan,
            rate: Rate::per_second(20_000.0),
            arrivals: Pace::Poisson,
            json,
        }
    }

    #[test]
    fn a_table_and_json() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("slo.json");
        let plan = simulated::search("p99<5ms").plan().clone();
        let request = request(&plan, Some(&file));
        let (code, text) = searched(&["--slo", "p99<5ms"], &request, &|_, _| {});
        assert_eq!(code.unwrap(), ExitCode::SUCCESS);
        assert!(
            text.contains("   1  double      20,000     20,000"),
            "{text}"
        );
        assert!(text.contains("p99<5ms holds up to 40,"), "{text}");
        let json = std::fs::read_to_string(&file).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["slo"], "p99<5ms");
        assert_eq!(json["confirmed"], true);
        let rate = json["rate_per_s"].as_f64().unwrap();
        assert!((40_000.0..=41_100.0).contains(&rate), "{rate}");
        assert_eq!(json["run"]["pace"], format!("poisson:{rate}/s"));
        assert_eq!(json["run"]["duration_s"], 10.0);
        let steps = json["steps"].as_array().unwrap();
        assert_eq!(steps[0]["rate"], 20_000.0);
        assert_eq!(steps[steps.len() - 1]["phase"], "confirm");
    }

    #[test]
    fn what_is_not_confirmed_is_no_success() {
        let plan = simulated::search("p99<5ms").plan().clone();
        let request = request(&plan, None);
        let (code, text) = searched(&["--slo", "p99<10us"], &request, &|_, _| {});
        assert_eq!(code.unwrap(), ExitCode::FAILURE);
        assert!(
            text.contains("p99<10us is not met, not even at 44/s"),
            "{text}"
        );

        let interrupt = |driven, outcome: &mut Outcome| outcome.interrupted = driven == 1;
        let (code, text) = searched(&["--slo", "p99<5ms"], &request, &interrupt);
        assert_eq!(code.unwrap(), ExitCode::FAILURE);
        assert!(
            text.contains("interrupted; p99<5ms was met at 20,000/s"),
            "{text}"
        );

        let gone = |driven, outcome: &mut Outcome| {
            if driven == 1 {
                outcome.record = engine::record::Record::new(64);
            }
        };
        let (code, text) = searched(&["--slo", "p99<5ms"], &request, &gone);
        let error = code.unwrap_err().to_string();
        assert_eq!(error, "not reached at 40,000/s: no response at all");
        assert_eq!(text.lines().count(), 5, "{text}");
    }

    #[test]
    fn what_cannot_be_searched_for_is_wrong_usage() {
        let plan = simulated::search("p99<5ms").plan().clone();
        let request = request(&plan, None);
        let (code, text) = searched(&["--slo", "p99<60s"], &request, &|_, _| {});
        let error = code.unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        assert_eq!(text, "");
    }
}
