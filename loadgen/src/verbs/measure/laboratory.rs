//! Cell after cell, each with a fresh server, written as soon as it is measured.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use super::progress::Progress;
use super::{about_the_whole, auto};
use crate::meter::Meter;
use engine::cpu_time::CpuTime;
use engine::drive;
use engine::drive::Moment;
use engine::http_url::HttpUrl;
use engine::limits::ROUNDS_MAX;
use engine::plan::{ConnectionLife, Limit, Plan};
use engine::record::Record;
use engine::response::Expected;
use engine::verdict;
use lab::compare::Evidence;
use lab::set;
use lab::set::{Campaign, Cell, Key, Lock, Set, Writer};
use report::markdown;
use subject::catalogue::{Server, Workload};
use subject::machine::Machine;
use subject::process;
use subject::process::Target;

/// What a cell takes beside its load: start, probe, stop, reap, write.
const CELL_OVERHEAD: Duration = Duration::from_millis(50);

/// What an idle connection takes to be opened, served and closed, in round figures.
const IDLE_OVERHEAD: Duration = Duration::from_micros(100);

/// How long a connect or an answer may take. Longer than any cell: whoever is starved is counted as
/// never served when the time is up, and not as an error of its own.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long the requests of a cell are waited for after its end. Starved ones would take for ever.
const DRAIN: Duration = Duration::from_millis(100);

/// All that a cell needs.
pub(super) struct Laboratory<'a> {
    pub(super) root: &'a Path,
    pub(super) servers: &'a [Server],
    pub(super) campaign: Campaign,
    pub(super) machine: Machine,
    /// CPUs there are, pinned or not.
    pub(super) cpus: usize,
    pub(super) interrupted: &'a AtomicBool,
}

/// How a measure came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Complete,
    /// By the user.
    Interrupted,
    /// By itself, but something could not be written.
    NotRecorded,
}

/// A cell with what the record holds beside it.
struct Measured {
    cell: Cell,
    record: Option<Record>,
    begin: SystemTime,
    duration: Duration,
}

impl Laboratory<'_> {
    /// Measures these cells one after another, and then as many further rounds as the campaign wants, until
    /// the user interrupts.
    pub(super) fn measure(
        mut self,
        mut cells: Vec<Key>,
        mut writer: Writer,
    ) -> anyhow::Result<Ended> {
        let mut progress = Progress::start(&self.campaign, &cells);
        let begin = Spent::before(&self.campaign, &cells);
        let mut is_recorded = true;
        loop {
            is_recorded &= self.cells(&cells, &mut writer, &mut progress)?;
            if self.is_interrupted() {
                break;
            }
            match self.further_round(&writer, &begin) {
                Ok(further) if further.is_empty() => break,
                Ok(further) => cells = further,
                Err(error) => {
                    progress.note(&format!("no further round: {error:#}"));
                    is_recorded = false;
                    break;
                }
            }
            progress.extend(&cells);
        }
        progress.clear(self.is_interrupted());
        if !self.is_interrupted() {
            is_recorded &= self.count(&writer)?;
        }
        Ok(match (self.is_interrupted(), is_recorded) {
            (true, _) => Ended::Interrupted,
            (false, true) => Ended::Complete,
            (false, false) => Ended::NotRecorded,
        })
    }

    /// Measures these cells; tells whether all that was measured could be written.
    fn cells(
        &mut self,
        cells: &[Key],
        writer: &mut Writer,
        progress: &mut Progress,
    ) -> anyhow::Result<bool> {
        let cpu_time = CpuTime::now();
        let mut is_recorded = true;
        for (index, key) in cells.iter().enumerate() {
            progress.begin(key);
            if let Some(measured) = self.cell(key) {
                match record(writer, &measured) {
                    Ok(cell) => progress.end(&cell),
                    Err(error) => {
                        progress.lose(key, &error);
                        is_recorded = false;
                    }
                }
            }
            let interrupted = self.is_interrupted();
            let ends_round = cells
                .get(index + 1)
                .is_none_or(|next| next.round != key.round);
            if (interrupted || ends_round)
                && let Err(error) = self.summarize(cpu_time.as_ref(), writer)
            {
                // What a summary is made of is on the disk, and it is written again after each round.
                progress.note(&format!("the summary is not renewed: {error:#}"));
                is_recorded &= index + 1 < cells.len();
            }
            if interrupted {
                break;
            }
        }
        Ok(is_recorded)
    }

    /// The cells of one more round, once the plan says that there is one; none when enough is known, or the
    /// time is over.
    fn further_round(&mut self, writer: &Writer, spent: &Spent) -> anyhow::Result<Vec<Key>> {
        if !auto::goes_on(&self.campaign) {
            return Ok(Vec::new());
        }
        let evidence = Evidence::of(vec![Set::open(writer.path())?])?;
        let mut next = self.campaign.clone();
        next.rounds += 1;
        let mut cells = next.cells();
        cells.retain(|key| key.round == next.rounds);
        let Some(limits) = &mut next.auto else {
            return Ok(Vec::new());
        };
        let is_known = auto::wide(&evidence, limits.precision).is_empty();
        let is_most = next.rounds > ROUNDS_MAX;
        if is_known
            || is_most
            || spent.with(time_of_all(&cells, &self.campaign)) > limits.time_limit
        {
            limits.ended = true;
            next.rounds -= 1;
            cells.clear();
        }
        writer.renew_plan(&next, cells.len())?;
        self.campaign = next;
        if cells.is_empty() {
            // It says now that this is all.
            self.summarize(None, writer)?;
        }
        Ok(cells)
    }

    /// Renews what is said about the set as a whole.
    pub(super) fn summarize(
        &mut self,
        since: Option<&CpuTime>,
        writer: &Writer,
    ) -> anyhow::Result<()> {
        let steal = since.and_then(|since| CpuTime::now()?.steal_percent_since(since));
        let set = Set::open(writer.path())?;
        self.machine.steal_percent = match (set.machine.steal_percent, steal) {
            (Some(earlier), Some(now)) => Some(earlier.max(now)),
            (earlier, now) => now.or(earlier),
        };
        writer.write_machine(&self.machine)?;
        let set = Set {
            machine: self.machine.clone(),
            ..set
        };
        writer.write_readme(&readme(set)?)?;
        Ok(())
    }

    /// Measures one cell with a fresh process; `None` when the user interrupts.
    fn cell(&self, key: &Key) -> Option<Measured> {
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

        let options = process::Options {
            cpus: self.machine.pinning.server.clone(),
            arguments: self.campaign.server_args.clone(),
            ..process::Options::default()
        };
        let target = match Target::start(server, self.root, &options) {
            Ok(target) => target,
            Err(process::Error::Interrupted { .. }) => return None,
            Err(error) => return failed(&error),
        };
        if let Err(error) = target.probe() {
            return match self.is_interrupted() {
                true => None,
                false => failed(&error),
            };
        }
        let plan = self.plan(workload, &target);
        let mut meter = Meter::new(Some(&target), true, &options.cpus);
        let mut begin = begin;
        let mut outcome = drive::run_observed(&plan, self.interrupted, &mut |moment| {
            if let Moment::Begin = moment {
                begin = SystemTime::now();
            }
            meter.on(moment);
        });
        let metered = meter.finish(outcome.as_mut().ok(), plan.pipeline);
        let died = target.has_ended();
        let ended = target.stop(process::STOP_WITHIN);
        if self.is_interrupted() {
            return None;
        }
        if died {
            return failed(&format_args!("it {ended} during the run"));
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return failed(&format_args!("running the load: {error}")),
        };
        if ended.killed {
            let seconds = process::STOP_WITHIN.as_secs();
            return failed(&format_args!(
                "it did not stop within {seconds} s of SIGTERM"
            ));
        }
        if !ended.left.is_empty() {
            let left = ended.left.join(", ");
            return failed(&format_args!(
                "it cannot be killed: process {left} still runs"
            ));
        }
        if let Some(fault) = metered.fault {
            return failed(&format_args!("it {fault}"));
        }
        let mut verdict = verdict::judge_cell(
            &plan,
            &outcome,
            metered
                .cost
                .as_ref()
                .and_then(|cost| cost.cpus_used_by_others),
        );
        // No doubt about what the generator saw, but the cell has to say why it has no cost.
        verdict.reasons.extend(metered.unknown);
        Some(Measured {
            cell: Cell::measured(key, started, &outcome, metered.cost.as_ref(), &verdict),
            begin,
            duration: outcome.duration,
            record: Some(outcome.record),
        })
    }

    pub(super) fn plan(&self, workload: &Workload, target: &Target) -> Plan {
        let cpus = self.machine.pinning.client.clone();
        let cpus_count = if cpus.is_empty() {
            self.cpus
        } else {
            cpus.len()
        };
        let address = target.address();
        Plan {
            connections: workload.connections,
            idle: workload.idle,
            threads: cpus_count.clamp(1, workload.connections),
            life: ConnectionLife::from_requests(workload.requests_per_connection),
            pipeline: workload.pipeline,
            pace: workload.pace,
            limit: Limit::For(workload.duration),
            warmup: workload.warmup,
            drain: DRAIN,
            timeout: TIMEOUT,
            expect: Some(hello()),
            expect_status: Some(HELLO_STATUS),
            cpus,
            ..Plan::new(address, HttpUrl::at(address).get(""))
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }
}

/// The status that every answer of every run must have.
pub(super) const HELLO_STATUS: u16 = 200;

/// What every body of every run must be.
pub(super) fn hello() -> Arc<Expected> {
    Arc::new(Expected::Text(process::HELLO.as_bytes().to_vec()))
}

/// Writes a cell; one whose histograms cannot be written becomes a failed one, for which there is room.
/// Returns the cell as it stands in the set.
fn record(writer: &mut Writer, measured: &Measured) -> Result<Cell, lab::set::Error> {
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
        lab::set::Error::Io { cause, .. } => cause.to_string(),
        error => error.to_string(),
    };
    let error = format!("its histograms could not be written: {cause}");
    let failed = Cell::failed(&cell.key(), cell.started.clone(), &error);
    writer.append(&failed, &[], *begin, *duration)?;
    Ok(failed)
}

/// Writes the README of a complete set that was killed before it could say so; others stay as they are.
pub(super) fn renew_readme(set: &Set, lock: Lock) -> anyhow::Result<()> {
    let is_of_all = |text: String| {
        let has_ledger = set.ledger.is_empty() || text.contains(markdown::LEDGER);
        has_ledger && !text.contains(report::INCOMPLETE)
    };
    if std::fs::read_to_string(set.path.join("README.md")).is_ok_and(is_of_all) {
        return Ok(());
    }
    let writer = Writer::resume_locked(set, lock)?;
    Ok(writer.write_readme(&readme(set.clone())?)?)
}

/// The README of a set.
fn readme(set: Set) -> anyhow::Result<String> {
    let campaign = set.campaign.clone();
    let files = set::files_in(&set.path);
    let evidence = Evidence::of(vec![set])?;
    let mut text = markdown::readme(&evidence, &files);
    let about = about_the_whole(&evidence, &campaign);
    if !about.is_empty() {
        text += &format!("\n## The whole\n\n```text{about}```\n");
    }
    Ok(text)
}

/// The time that a campaign has taken.
struct Spent {
    /// What was measured before this process took it up, by the time that it takes by plan: what passed in
    /// between is not its own.
    before: Duration,
    since: Instant,
}

impl Spent {
    /// Before these cells are measured.
    fn before(campaign: &Campaign, cells: &[Key]) -> Self {
        let all = time_of_all(&campaign.cells(), campaign);
        Spent {
            before: all.saturating_sub(time_of_all(cells, campaign)),
            since: Instant::now(),
        }
    }

    /// So far and with so much more.
    fn with(&self, more: Duration) -> Duration {
        self.before + self.since.elapsed() + more
    }
}

/// What these cells take by plan.
pub(super) fn time_of_all(cells: &[Key], campaign: &Campaign) -> Duration {
    let workloads = cells
        .iter()
        .filter_map(|key| campaign.workload(&key.workload));
    workloads.map(time_of).sum()
}

/// What a cell of this workload takes by plan.
pub(super) fn time_of(workload: &Workload) -> Duration {
    let idle = u32::try_from(workload.idle).unwrap_or(u32::MAX);
    workload.warmup + workload.duration + IDLE_OVERHEAD.saturating_mul(idle) + CELL_OVERHEAD
}

pub(super) fn now() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond)
        .unwrap_or(now)
        .to_string()
}
