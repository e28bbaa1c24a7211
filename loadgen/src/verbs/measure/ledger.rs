//! The ledger: passes in which system calls are counted and memory is read. They come after the rounds and
//! have servers of their own, so that no figure of a cell knows of them.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::laboratory::{HELLO_STATUS, Laboratory, hello, now};
use crate::common::require_files;
use crate::output::say;
use engine::drive;
use engine::drive::Moment;
use engine::http_url::HttpUrl;
use engine::plan::{Limit, Pace, Plan};
use engine::record::{Idle, Outcome};
use lab::set::ledger;
use lab::set::ledger::{PassKey, Row};
use lab::set::{Set, Writer};
use subject::ledger::{AtLeast, Counters, Pass, Tracepoints};
use subject::process;
use subject::process::{Memory, Owner, Target};

/// The warm-up of a pass, and what is added for each connection: a thread that is counted takes its time to
/// begin.
const WARMUP: Duration = Duration::from_millis(100);
const WARMUP_OF_EACH: Duration = Duration::from_millis(1);

/// How long a pass counts...
const COUNTED: Duration = Duration::from_millis(300);

/// ... and longer where that brings fewer responses for each request in flight in a closed loop: what is in
/// flight at the begin and at the end is counted in parts...
const RESPONSES_OF_EACH: usize = 50;

/// ... but no longer than this.
const LOAD_MAX: Duration = Duration::from_secs(3);

/// Idle connections while memory is read. Twice as many as would show a page for each connection among some
/// thousand pages that come and go.
const IDLE: usize = 1_000;

/// How long one of them waits to be served. A server that does not serve them at once never will.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Failed requests among the answered, above which counts say nothing of a request that is answered.
const ERRORS_MAX: f64 = 0.01;

impl Laboratory<'_> {
    /// Counts what the ledger lacks, until the user interrupts; tells whether all that was counted could be
    /// written.
    pub(super) fn count(&mut self, writer: &Writer) -> anyhow::Result<bool> {
        let mut passes = Set::open(writer.path())?.missing_passes();
        if passes.is_empty() {
            return Ok(true);
        }
        let mut tracepoints = None;
        if passes.iter().any(|pass| pass.workload.is_some()) {
            match Tracepoints::open() {
                Ok(found) => tracepoints = Some(found),
                Err(error) => {
                    say!("warning: no system calls in the ledger: {error}");
                    writer.append_ledger(&[ledger::impossible(now(), &error.to_string())])?;
                    passes.retain(|pass| pass.workload.is_none());
                }
            }
        }
        let progress = Progress::start(passes.len());
        let mut is_recorded = true;
        for (index, pass) in passes.iter().enumerate() {
            progress.begin(index, pass);
            let started = now();
            let rows = match (&pass.workload, &tracepoints) {
                (Some(workload), Some(tracepoints)) => {
                    self.count_calls(pass, workload, tracepoints, &started)
                }
                _ => self.read_memory(pass, &started),
            };
            if self.is_interrupted() {
                break;
            }
            let rows = rows.unwrap_or_else(|error| vec![pass.failed(started, &error)]);
            match writer.append_ledger(&rows) {
                Ok(()) => progress.end(index, pass, &rows),
                Err(error) => {
                    progress.note(&format!("NOT RECORDED: {error}"));
                    is_recorded = false;
                }
            }
        }
        progress.clear();
        self.summarize(None, writer)?;
        Ok(is_recorded)
    }

    /// System calls and events of one server under one workload. The error says why there are none.
    fn count_calls(
        &self,
        key: &PassKey,
        workload: &str,
        tracepoints: &Tracepoints,
        started: &str,
    ) -> Result<Vec<Row>, String> {
        let workload = self.campaign.workload(workload);
        let workload = workload.ok_or("there is no such workload")?;
        self.served(key, |target| {
            let counters = Counters::attach(tracepoints, target.processes());
            let counters = counters.map_err(|error| error.to_string())?;
            let connections = u32::try_from(workload.connections).unwrap_or(u32::MAX);
            let plan = Plan {
                limit: Limit::For(LOAD_MAX),
                warmup: WARMUP + WARMUP_OF_EACH.saturating_mul(connections),
                ..self.plan(workload, target)
            };
            let in_flight = match plan.pace {
                Pace::Closed => plan.connections * plan.pipeline,
                _ => 1,
            };
            let at_least = AtLeast {
                time: COUNTED,
                responses: (in_flight * RESPONSES_OF_EACH) as u64,
            };
            let mut pass = Pass::new(counters, at_least);
            let enough = AtomicBool::new(false);
            let outcome = load(&plan, &enough, &mut |moment| {
                pass.on(moment);
                enough.store(pass.is_over() || self.is_interrupted(), Relaxed);
            })?;
            if let Some(idle) = &outcome.idle {
                all_served(idle, plan.idle)?;
            }
            let counted = pass.finish().map_err(|error| error.to_string())?;
            check(&outcome, counted.responses)?;
            let record = &outcome.record;
            let share = counted.responses as f64 / record.responses.max(1) as f64;
            let connections = (record.connections_in_time as f64 * share).round() as u64;
            Ok(key.counted(
                started,
                (counted.responses, connections),
                counted.counts.rows(),
            ))
        })
    }

    /// Memory of one server with more and more idle connections. The error says why there is none.
    fn read_memory(&self, key: &PassKey, started: &str) -> Result<Vec<Row>, String> {
        require_files(1, IDLE).map_err(|error| error.to_string())?;
        self.served(key, |target| {
            let address = target.address();
            let plan = Plan {
                connections: 1,
                idle: IDLE,
                // Nobody is to be served beside them.
                limit: Limit::For(Duration::from_millis(1)),
                warmup: Duration::ZERO,
                drain: Duration::ZERO,
                timeout: IDLE_TIMEOUT,
                expect: Some(hello()),
                expect_status: Some(HELLO_STATUS),
                ..Plan::new(address, HttpUrl::at(address).get(""))
            };
            let mut readings = Vec::new();
            let outcome = load(&plan, self.interrupted, &mut |moment| {
                if let Moment::Idle(connections) = moment {
                    readings.push(Memory::settled(target.processes(), connections as u64));
                }
            })?;
            let idle = outcome.idle.as_ref().ok_or("no idle connections")?;
            all_served(idle, IDLE)?;
            let readings: io::Result<Vec<Memory>> = readings.into_iter().collect();
            let readings = readings.map_err(|error| format!("reading its memory: {error}"))?;
            Ok(key.read(started, &readings))
        })
    }

    /// Starts a server, lets `work` have it, and stops it.
    fn served<T>(
        &self,
        key: &PassKey,
        work: impl FnOnce(&Target) -> Result<T, String>,
    ) -> Result<T, String> {
        let server = (self.servers.iter()).find(|server| server.name == key.server);
        let server = server.ok_or("there is no such server")?;
        let options = process::Options {
            cpus: self.machine.pinning.server.clone(),
            arguments: self.campaign.server_args.clone(),
            ..process::Options::default()
        };
        let target = Target::start(server, self.root, &options);
        let target = target.map_err(|error| error.to_string())?;
        target.probe().map_err(|error| error.to_string())?;
        let done = work(&target);
        let owner = target.owner();
        let died = target.has_ended();
        let ended = target.stop(process::STOP_WITHIN);
        match (died, owner) {
            (true, _) => Err(format!("it {ended} during the pass")),
            (false, Owner::Others(others)) => Err(format!(
                "process {others}, which loadgen did not start, has sockets at its address"
            )),
            (false, Owner::Server | Owner::Unknown(_)) => done,
        }
    }
}

fn load(
    plan: &Plan,
    enough: &AtomicBool,
    on: &mut dyn FnMut(Moment<'_>),
) -> Result<Outcome, String> {
    let outcome = drive::run_observed(plan, enough, on);
    outcome.map_err(|error| format!("running the load: {error}"))
}

fn all_served(idle: &Idle, asked: usize) -> Result<(), String> {
    match idle.fault {
        Some(fault) => Err(format!(
            "only {} of {asked} idle connections were served: {} {}",
            idle.served, fault.phase, fault.kind
        )),
        None => Ok(()),
    }
}

/// Whether what was counted says what a request takes. Connections that were starved take nothing: it says so
/// of the others.
fn check(outcome: &Outcome, responses: u64) -> Result<(), String> {
    let record = &outcome.record;
    let errors = record.errors_count();
    if responses == 0 {
        return Err("nothing was answered".to_owned());
    }
    if errors as f64 > ERRORS_MAX * record.responses as f64 {
        return Err(format!("{errors} errors in {} responses", record.responses));
    }
    Ok(())
}

/// A bar on a terminal, a line for each pass elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    passes: usize,
}

impl Progress {
    fn start(passes: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(passes as u64);
            let style = ProgressStyle::with_template("{wide_bar} {msg}");
            bar.set_style(style.expect("a valid template"));
            bar
        });
        Progress { bar, passes }
    }

    fn begin(&self, index: usize, pass: &PassKey) {
        if let Some(bar) = &self.bar {
            bar.set_position(index as u64);
            let (number, passes) = (index + 1, self.passes);
            bar.set_message(format!("ledger {number} of {passes}: {}", name(pass)));
        }
    }

    fn end(&self, index: usize, pass: &PassKey, rows: &[Row]) {
        let (number, passes) = (index + 1, self.passes);
        let width = passes.to_string().len();
        let line = format!(
            "[{number:>width$}/{passes}] ledger {}: {}",
            name(pass),
            outcome(rows)
        );
        let failed = rows.iter().any(|row| row.error.is_some());
        if failed || self.bar.is_none() {
            self.note(&line);
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say!("{text}"),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn name(pass: &PassKey) -> String {
    let workload = pass.workload.as_deref().unwrap_or("memory");
    format!("{} {workload}", pass.server)
}

/// `3.31 system calls per request`, `300 B and 8192 B for each idle connection`.
fn outcome(rows: &[Row]) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    if let Some(error) = &first.error {
        return format!("none: {error}");
    }
    if let Some(pass) = ledger::Pass::of(rows, &first.server, &first.workload) {
        return format!("{:.2} system calls per request", pass.calls_per_request());
    }
    let cost = ledger::idle_cost(rows, &first.server).unwrap_or_default();
    let bytes = |slope: Option<f64>| slope.map_or("-".to_owned(), |slope| format!("{slope:.0} B"));
    format!(
        "{} for each idle connection, and {} of the kernel",
        bytes(cost.bytes_per_connection),
        bytes(cost.kernel_bytes_per_connection)
    )
}
