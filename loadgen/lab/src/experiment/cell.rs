//! The measurement of one cell: a fresh server under one workload, in one round.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::drive;
use engine::drive::Moment;
use engine::http_url::HttpUrl;
use engine::plan::Plan;
use engine::record::Record;
use engine::response::Expected;
use engine::verdict;
use subject::catalogue::Workload;
use subject::process;
use subject::process::Target;
use subject::session::Session;

use super::{Experiment, now};
use crate::set;
use crate::set::{Cell, Key, Writer};

/// The time limit for a connect or a response. It is longer than any cell: a starved connection is counted as never
/// served at the end, not as an error.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long the requests of a cell are awaited after its end. Starved ones would take forever.
const DRAIN: Duration = Duration::from_millis(100);

/// A cell, with the data for its histograms.
pub(super) struct Measured {
    cell: Cell,
    record: Option<Record>,
    begin: SystemTime,
    duration: Duration,
}

impl Experiment<'_> {
    /// Measures one cell with a fresh process; `None` if the user interrupts.
    pub(super) fn cell(&self, key: &Key) -> Option<Measured> {
        let server = (self.servers.iter()).find(|server| server.name == key.server);
        let server = server.expect("the campaign's servers were looked up");
        let workload = self
            .campaign
            .workload(&key.workload)
            .expect("it is the campaign's");
        let (started, begin) = (now(), SystemTime::now());
        let failed = |error: &dyn Display| {
            Some(Measured {
                cell: Cell::failed(key, started.clone(), &error.to_string()),
                record: None,
                begin,
                duration: Duration::ZERO,
            })
        };

        let session = match Session::start(server, self.root, &self.options()) {
            Ok(session) => session,
            Err(process::Error::Interrupted { .. }) => return None,
            Err(error) => return failed(&error),
        };
        if let Err(error) = session.probe() {
            return match self.is_interrupted() {
                true => None,
                false => failed(&error),
            };
        }
        let plan = self.plan(workload, session.target());
        let mut meter = session.meter();
        let mut begin = begin;
        let mut outcome = drive::run_observed(&plan, self.interrupted, &mut |moment| {
            if let Moment::Begin(_) = moment {
                begin = SystemTime::now();
            }
            meter.on(moment);
        });
        let metered = meter.finish(outcome.as_mut().ok(), plan.pipeline);
        let (_, ended) = session.end();
        if self.is_interrupted() {
            return None;
        }
        let outcome = match (ended, outcome, metered.fault) {
            (Err(fault), ..) | (_, Ok(_), Some(fault)) => {
                return failed(&format_args!("it {fault}"));
            }
            (_, Err(error), _) => return failed(&format_args!("running the load: {error}")),
            (Ok(()), Ok(outcome), None) => outcome,
        };
        let cost = metered.cost.as_ref();
        let used_by_others = cost.and_then(|cost| cost.cpus_used_by_others);
        let mut verdict = verdict::judge_cell(&plan, &outcome, used_by_others);
        // These do not question what the generator saw, but the cell must state why it has no cost.
        verdict.reasons.extend(metered.unknown);
        Some(Measured {
            cell: Cell::measured(key, started, &outcome, cost, &verdict),
            begin,
            duration: outcome.duration,
            record: Some(outcome.record),
        })
    }

    /// The options for starting the servers of this experiment.
    pub(super) fn options(&self) -> process::Options {
        process::Options {
            cpus: self.machine.pinning.server.clone(),
            arguments: self.campaign.server_args.clone(),
            ..process::Options::default()
        }
    }

    /// The plan of a workload for a server, with threads on the CPUs of the generator.
    pub(super) fn plan(&self, workload: &Workload, target: &Target) -> Plan {
        let address = target.address();
        let cpus = self.machine.pinning.client.clone();
        let threads = if cpus.is_empty() {
            self.cpus
        } else {
            cpus.len()
        };
        Plan {
            threads: threads.clamp(1, workload.connections),
            drain: DRAIN,
            timeout: TIMEOUT,
            expect: Some(hello()),
            expect_status: Some(HELLO_STATUS),
            cpus,
            ..workload.plan(Plan::new(address, HttpUrl::at(address).get("")))
        }
    }
}

/// The status that every response of every run must have.
pub(super) const HELLO_STATUS: u16 = 200;

/// The body that every response of every run must have.
pub(super) fn hello() -> Arc<Expected> {
    Arc::new(Expected::Text(process::HELLO.as_bytes().to_vec()))
}

/// Writes a cell. If its histograms cannot be written, it is written as failed, which takes little space. Returns the
/// cell as recorded.
pub(super) fn record(writer: &mut Writer, measured: &Measured) -> Result<Cell, set::Error> {
    let Measured {
        cell,
        record,
        begin,
        duration,
    } = measured;
    let histograms = record.as_ref().map(Record::histograms).unwrap_or_default();
    let Err(error) = writer.append(cell, &histograms, *begin, *duration) else {
        return Ok(cell.clone());
    };
    if histograms.is_empty() {
        return Err(error);
    }
    let cause = match error {
        // The path belongs to this machine, not into a record.
        set::Error::Io { cause, .. } => cause.to_string(),
        error => error.to_string(),
    };
    let error = format!("its histograms could not be written: {cause}");
    let failed = Cell::failed(&cell.key(), cell.started.clone(), &error);
    writer.append(&failed, &[], *begin, *duration)?;
    Ok(failed)
}
