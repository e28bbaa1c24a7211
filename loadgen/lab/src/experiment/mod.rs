//! The experiment: every server under every workload, in rounds. Each cell has a fresh server and is written as soon
//! as it is measured. Passes that count system calls and memory follow.
//!
//! - [`campaign`]: what is measured, determined before anything starts;
//! - `cell`: the measurement of one cell; `passes`: the counts of the ledger;
//! - [`rounds`]: whether a further round follows.
//!
//! Progress is reported to an [`Observer`]; nothing is printed here.

pub mod campaign;
mod cell;
mod passes;
pub mod rounds;

use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use engine::cpu_time::CpuTime;
use engine::limits::ROUNDS_MAX;
use subject::catalogue::{Server, Workload};
use subject::machine::Machine;

use crate::compare::{Evidence, Mixed};
use crate::set;
use crate::set::ledger_rows::{PassKey, Row};
use crate::set::{Campaign, Cell, Key, Set, Writer};

/// The time of a cell in addition to its load: start, probe, stop, reap, write.
const CELL_OVERHEAD: Duration = Duration::from_millis(50);

/// The approximate time to open, serve and close an idle connection.
const IDLE_OVERHEAD: Duration = Duration::from_micros(100);

/// Everything that an experiment needs.
pub struct Experiment<'a> {
    /// The root of the repository, in which commands run.
    pub root: &'a Path,
    /// The servers of the campaign, by their names in it.
    pub servers: &'a [Server],
    /// What is measured.
    pub campaign: Campaign,
    /// The machine it is measured on.
    pub machine: Machine,
    /// The number of CPUs, pinned or not.
    pub cpus: usize,
    /// Set by the user's signal: the running cell is abandoned.
    pub interrupted: &'a AtomicBool,
    /// Writes the README of a set.
    pub readme: &'a dyn Fn(Set) -> Result<String, Mixed>,
}

/// Receives the progress of an experiment.
pub trait Observer {
    /// Further cells will be measured.
    fn cells(&mut self, cells: &[Key]);
    /// A cell begins.
    fn cell_begins(&mut self, key: &Key);
    /// A cell is recorded.
    fn cell_ends(&mut self, cell: &Cell);
    /// A cell was measured but could not be written.
    fn cell_is_lost(&mut self, key: &Key, error: &dyn Display);
    /// All cells are done, or the user has interrupted.
    fn cells_end(&mut self, is_interrupted: bool);
    /// This many passes of the ledger follow.
    fn passes(&mut self, passes: usize);
    /// A pass begins; the first has number 1.
    fn pass_begins(&mut self, number: usize, pass: &PassKey);
    /// The rows of a pass are recorded.
    fn pass_ends(&mut self, number: usize, pass: &PassKey, rows: &[Row]);
    /// All passes are done, or the user has interrupted.
    fn passes_end(&mut self);
    /// Something that the user should know.
    fn note(&mut self, text: &str);
}

/// How an experiment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is complete.
    Complete,
    /// The user interrupted it.
    Interrupted,
    /// It was not interrupted, but something could not be written.
    NotRecorded,
}

/// The reason that an experiment cannot continue, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The set cannot be read or written.
    #[error(transparent)]
    Set(#[from] set::Error),
    /// The parts of the set cannot be combined.
    #[error(transparent)]
    Mixed(#[from] Mixed),
}

impl Experiment<'_> {
    /// Measures these cells one after another, then the further rounds of the campaign, then counts the ledger. Stops
    /// early if the user interrupts.
    ///
    /// # Errors
    ///
    /// If the set as a whole cannot be read or written. A single cell that cannot be written is reported to the
    /// observer, and the measurement continues.
    pub fn measure(
        mut self,
        mut cells: Vec<Key>,
        mut writer: Writer,
        observer: &mut dyn Observer,
    ) -> Result<Ended, Error> {
        let begin = Spent::before(&self.campaign, &cells);
        let mut is_recorded = true;
        loop {
            observer.cells(&cells);
            is_recorded &= self.cells(&cells, &mut writer, observer);
            if self.is_interrupted() {
                break;
            }
            match self.further_round(&writer, &begin) {
                Ok(further) if further.is_empty() => break,
                Ok(further) => cells = further,
                Err(error) => {
                    observer.note(&format!("no further round: {error}"));
                    is_recorded = false;
                    break;
                }
            }
        }
        observer.cells_end(self.is_interrupted());
        if !self.is_interrupted() {
            is_recorded &= self.count(&writer, observer)?;
        }
        Ok(match (self.is_interrupted(), is_recorded) {
            (true, _) => Ended::Interrupted,
            (false, true) => Ended::Complete,
            (false, false) => Ended::NotRecorded,
        })
    }

    /// Measures these cells; returns whether everything measured could be written.
    fn cells(&mut self, cells: &[Key], writer: &mut Writer, observer: &mut dyn Observer) -> bool {
        let cpu_time = CpuTime::now();
        let mut is_recorded = true;
        for (index, key) in cells.iter().enumerate() {
            observer.cell_begins(key);
            if let Some(measured) = self.cell(key) {
                match cell::record(writer, &measured) {
                    Ok(cell) => observer.cell_ends(&cell),
                    Err(error) => {
                        observer.cell_is_lost(key, &error);
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
                // Its data are on disk, and it is written again after each round.
                observer.note(&format!("the summary could not be updated: {error}"));
                is_recorded &= index + 1 < cells.len();
            }
            if interrupted {
                break;
            }
        }
        is_recorded
    }

    /// Adds one more round to the plan and returns its cells; none if the ratios are precise enough or the time is
    /// over.
    fn further_round(&mut self, writer: &Writer, spent: &Spent) -> Result<Vec<Key>, Error> {
        if !rounds::goes_on(&self.campaign) {
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
        let is_known = rounds::wide(&evidence, limits.precision).is_empty();
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
            // The summary now states that no further round follows.
            self.summarize(None, writer)?;
        }
        Ok(cells)
    }

    /// Updates the description of the set as a whole.
    fn summarize(&mut self, since: Option<&CpuTime>, writer: &Writer) -> Result<(), Error> {
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
        writer.write_readme(&(self.readme)(set)?)?;
        Ok(())
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }
}

/// The time that a campaign has taken.
struct Spent {
    /// The planned time of what earlier processes measured; the time between processes does not count.
    before: Duration,
    since: Instant,
}

impl Spent {
    /// The state before these cells are measured.
    fn before(campaign: &Campaign, cells: &[Key]) -> Self {
        let all = time_of_all(&campaign.cells(), campaign);
        Spent {
            before: all.saturating_sub(time_of_all(cells, campaign)),
            since: Instant::now(),
        }
    }

    /// The time so far plus `more`.
    fn with(&self, more: Duration) -> Duration {
        self.before + self.since.elapsed() + more
    }
}

/// The planned time of these cells.
pub fn time_of_all(cells: &[Key], campaign: &Campaign) -> Duration {
    let workloads = cells
        .iter()
        .filter_map(|key| campaign.workload(&key.workload));
    workloads.map(time_of).sum()
}

/// The planned time of a cell of this workload.
pub fn time_of(workload: &Workload) -> Duration {
    let idle = u32::try_from(workload.idle).unwrap_or(u32::MAX);
    workload.warmup + workload.duration + IDLE_OVERHEAD.saturating_mul(idle) + CELL_OVERHEAD
}

/// The time in UTC, rounded to milliseconds.
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond)
        .unwrap_or(now)
        .to_string()
}
