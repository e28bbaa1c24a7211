//! What every server must do, over real sockets: one table of [`cases`] with three ways to send each, then trials
//! of their [`connections`] and [`processes`], and foreign [`clients`]. The same table is checked against other
//! people's servers, the [`peers`].
//!
//! The servers are those of `benches/servers.toml`. Each trial starts its server anew on a free port. A name on the
//! command line selects trials, as with any test, and only the servers of selected trials are built:
//! `cargo test --package conformance -- event-loop`.

mod backpressure;
mod cases;
mod client;
mod clients;
mod connections;
mod counters;
mod faults;
mod hostile;
mod overload;
mod panics;
mod peers;
mod processes;
mod rules;
mod slowhttptest;
mod stopping;
mod subject;
mod traced;

use std::path::Path;
use std::process::ExitCode;
use std::thread;

use ::subject::catalogue::Catalogue;
use anyhow::Context as _;
use libtest_mimic::{Arguments, Completion, Trial};

use peers::Peers;
use subject::Subject;

/// How many trials run at once for each CPU, unless `--test-threads` says otherwise: most of the time they wait for
/// timeouts of the servers.
const TRIALS_PER_CPU: usize = 4;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    let cpus = thread::available_parallelism()?.get();
    arguments.test_threads.get_or_insert(TRIALS_PER_CPU * cpus);
    let catalogue = Catalogue::find(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    let peers = Peers::start(&catalogue);
    let mut trials = rules::trials(&catalogue);
    trials.extend(peers.trials());
    for server in catalogue.servers.iter().filter(|server| server.is_ours()) {
        let subject = Subject::new(server.clone(), &catalogue.root);
        let of_subject = trials_of(&subject);
        let is_selected = |trial| !arguments.is_filtered_out(trial);
        if !arguments.list && of_subject.iter().any(is_selected) {
            eprintln!("building {} ...", subject.name());
            subject.build().context("building a server to test")?;
        }
        trials.extend(of_subject);
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// All trials of one server.
fn trials_of(subject: &Subject) -> Vec<Trial> {
    let mut trials: Vec<Trial> = cases::trials(subject).collect();
    trials.extend(connections::trials(subject));
    trials.extend(backpressure::trials(subject));
    trials.extend(hostile::trials(subject));
    trials.extend(overload::trials(subject));
    trials.extend(faults::trials(subject));
    trials.extend(counters::trials(subject));
    trials.extend(panics::trials(subject));
    trials.extend(processes::trials(subject));
    trials.extend(slowhttptest::trials(subject));
    trials.extend(stopping::trials(subject));
    trials.extend(clients::trials(subject));
    trials.extend(traced::trials(subject));
    trials
}

/// The body of a trial.
type Body = fn(&Subject) -> anyhow::Result<()>;

/// Makes a trial of `subject` from each name and body.
fn each(subject: &Subject, trials: &[(&str, Body)]) -> Vec<Trial> {
    let trials = trials.iter().map(|&(name, body)| {
        let subject = subject.clone();
        trial(format!("{}::{name}", subject.name()), move || {
            body(&subject)
        })
    });
    trials.collect()
}

/// Makes a trial that passes or fails.
fn trial<F>(name: String, body: F) -> Trial
where
    F: FnOnce() -> anyhow::Result<()> + Send + 'static,
{
    Trial::test(name, || body().map_err(|error| format!("{error:#}").into()))
}

/// Makes a trial that may be impossible on this machine. It then says why and counts as ignored.
fn trial_if_possible<F>(name: String, body: F) -> Trial
where
    F: FnOnce() -> anyhow::Result<Possible> + Send + 'static,
{
    Trial::ignorable_test(name.clone(), move || match body() {
        Ok(Possible::Held) => Ok(Completion::Completed),
        Ok(Possible::Not(reason)) => {
            eprintln!("SKIPPED: {name}: {reason}");
            Ok(Completion::ignored_with(reason))
        }
        Err(error) => Err(format!("{error:#}").into()),
    })
}

/// Whether a trial was possible.
enum Possible {
    Held,
    Not(String),
}
