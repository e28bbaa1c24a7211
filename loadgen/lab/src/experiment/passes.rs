//! The ledger: passes in which system calls are counted and memory is read. They follow the rounds and use their own
//! servers, so that they do not affect any cell.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use engine::drive;
use engine::drive::Moment;
use engine::http_url::HttpUrl;
use engine::limits;
use engine::plan::{Limit, Pace, Plan};
use engine::record::{Idle, Outcome};
use subject::ledger::{AtLeast, Counters, Pass, Tracepoints};
use subject::process::{Memory, Target};
use subject::session::Session;

use super::cell::{HELLO_STATUS, hello};
use super::{Error, Experiment, Observer, now};
use crate::set::ledger_rows::{self, PassKey, Row};
use crate::set::{Set, Writer};

/// The warm-up of a pass, and the time added for each connection: attaching counters to a new thread takes time.
const WARMUP: Duration = Duration::from_millis(100);
const WARMUP_OF_EACH: Duration = Duration::from_millis(1);

/// The minimum duration of a pass ...
const COUNTED: Duration = Duration::from_millis(300);

/// ... and its minimum number of responses for each request in flight in a closed loop: requests in flight at the
/// start and at the end are counted only in part ...
const RESPONSES_OF_EACH: usize = 50;

/// ... and its maximum duration.
const LOAD_MAX: Duration = Duration::from_secs(3);

/// Idle connections while memory is read. Half of them would suffice to show one page for each connection, although
/// about a thousand pages come and go.
const IDLE: usize = 1_000;

/// How long one of them waits to be served. A server that does not serve it at once never will.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The share of failed requests above which the counts do not describe an answered request.
const ERRORS_MAX: f64 = 0.01;

/// How often a server is counted while the machine is too busy.
const ATTEMPTS: usize = 10;

impl Experiment<'_> {
    /// Counts what is missing in the ledger. Stops early if the user interrupts. Returns whether everything counted could
    /// be written.
    pub(super) fn count(
        &mut self,
        writer: &Writer,
        observer: &mut dyn Observer,
    ) -> Result<bool, Error> {
        let mut passes = Set::open(writer.path())?.missing_passes();
        if passes.is_empty() {
            return Ok(true);
        }
        let mut tracepoints = None;
        if passes.iter().any(|pass| pass.workload.is_some()) {
            match Tracepoints::open() {
                Ok(found) => tracepoints = Some(found),
                Err(error) => {
                    observer.note(&format!("warning: no system calls in the ledger: {error}"));
                    writer.append_ledger(&[ledger_rows::impossible(now(), &error.to_string())])?;
                    passes.retain(|pass| pass.workload.is_none());
                }
            }
        }
        observer.passes(passes.len());
        let mut is_recorded = true;
        for (number, pass) in (1..).zip(&passes) {
            observer.pass_begins(number, pass);
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
                Ok(()) => observer.pass_ends(number, pass, &rows),
                Err(error) => {
                    observer.note(&format!("NOT RECORDED: {error}"));
                    is_recorded = false;
                }
            }
        }
        observer.passes_end();
        self.summarize(None, writer)?;
        Ok(is_recorded)
    }

    /// Counts system calls and events of one server under one workload; again if this machine was too busy. The error is
    /// the reason that there are none.
    fn count_calls(
        &self,
        key: &PassKey,
        workload: &str,
        tracepoints: &Tracepoints,
        started: &str,
    ) -> Result<Vec<Row>, String> {
        for _ in 0..ATTEMPTS {
            if let Some(rows) = self.count_calls_once(key, workload, tracepoints, started)? {
                return Ok(rows);
            }
            if self.is_interrupted() {
                return Err("interrupted".to_owned());
            }
        }
        Err(format!(
            "other programs kept loadgen from its CPU while it started and stopped the counters, {ATTEMPTS} times"
        ))
    }

    /// `None` if the counts may belong to other responses than those that were counted.
    fn count_calls_once(
        &self,
        key: &PassKey,
        workload: &str,
        tracepoints: &Tracepoints,
        started: &str,
    ) -> Result<Option<Vec<Row>>, String> {
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
            if !counted.is_certain() {
                return Ok(None);
            }
            let record = &outcome.record;
            let share = counted.responses as f64 / record.counts.responses.max(1) as f64;
            let connections = (record.counts.connections_in_time as f64 * share).round() as u64;
            Ok(Some(key.counted(
                started,
                (counted.responses, connections),
                counted.counts.rows(),
            )))
        })
    }

    /// Reads the memory of one server with increasing numbers of idle connections. The error is the reason that there is
    /// none.
    fn read_memory(&self, key: &PassKey, started: &str) -> Result<Vec<Row>, String> {
        limits::allow_files(1, IDLE)?;
        self.served(key, |target| {
            let address = target.address();
            let plan = Plan {
                connections: 1,
                idle: IDLE,
                // No other load: the run ends at once.
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

    /// Starts a server, calls `work` with it, and stops it.
    fn served<T>(
        &self,
        key: &PassKey,
        work: impl FnOnce(&Target) -> Result<T, String>,
    ) -> Result<T, String> {
        let server = (self.servers.iter()).find(|server| server.name == key.server);
        let server = server.ok_or("there is no such server")?;
        let session = Session::start(server, self.root, &self.options());
        let session = session.map_err(|error| error.to_string())?;
        session.probe().map_err(|error| error.to_string())?;
        let done = work(session.target());
        let is_alone = session.is_alone();
        let (_, ended) = session.end();
        match ended.and(is_alone) {
            Err(fault) => Err(format!("it {fault}")),
            Ok(()) => done,
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

/// Checks that the counts describe what a request costs. Starved connections cost nothing, so the counts describe the
/// others.
fn check(outcome: &Outcome, responses: u64) -> Result<(), String> {
    let record = &outcome.record;
    let errors = record.errors_count();
    if responses == 0 {
        return Err("nothing was answered".to_owned());
    }
    if errors as f64 > ERRORS_MAX * record.counts.responses as f64 {
        return Err(format!(
            "{errors} errors in {} responses",
            record.counts.responses
        ));
    }
    Ok(())
}
