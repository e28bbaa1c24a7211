//! `loadgen measure`: every server under every workload, in rounds, recorded as a set.

use std::env;
use std::io::{self, IsTerminal as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::Usage;
use super::common::{Cpus, interruption, pinning, quoted, require_files};
use super::meter::Meter;
use super::outputs::calibration;
use crate::catalogue::{self, Catalogue, Server, Workload};
use crate::compare::Evidence;
use crate::drive::{self, Moment};
use crate::machine::{self, Build, CpuTime, Machine, Pinning};
use crate::plan::{ConnectionLife, Limit, Plan};
use crate::record::Record;
use crate::report::{markdown, table};
use crate::set::{self, Campaign, Cell, Key, Set, Writer};
use crate::target::{self, Target};
use crate::verdict::{self, Status};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Servers by name [default: all that are no references]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    servers: Vec<String>,
    /// Workloads by name [default: all]
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    workloads: Vec<String>,
    /// How often every cell is measured [default: 5, with --quick 3]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroU32>,
    /// Shorter cells and fewer rounds: under a minute for our servers, with wider intervals
    #[arg(long)]
    quick: bool,
    /// Where the folder of the set is created [default: results/ of the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with a set that was interrupted
    #[arg(
        long,
        value_name = "SET",
        conflicts_with_all = ["servers", "workloads", "rounds", "quick", "out", "seed", "calibration", "pin_server", "pin_client", "server_arg"]
    )]
    resume: Option<PathBuf>,
    /// Of the order in which cells are measured [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Measure what is built already
    #[arg(long)]
    no_build: bool,
    /// What the generator can do on this machine, as `loadgen calibrate --json FILE` has written it; kept
    /// with the set
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// CPUs of the server [default: the first half]
    #[arg(long, value_name = "CPUS")]
    pin_server: Option<Cpus>,
    /// CPUs of the generator [default: those that are not the server's]
    #[arg(long, value_name = "CPUS")]
    pin_client: Option<Cpus>,
    /// One more argument for every server; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    server_arg: Vec<String>,
}

const ROUNDS: u32 = 5;
const ROUNDS_QUICK: u32 = 3;

/// What `--quick` makes of each duration and warm-up.
const QUICK_SCALE: f64 = 0.4;

/// What a cell takes beside its load: start, probe, stop, reap, write.
const CELL_OVERHEAD: Duration = Duration::from_millis(50);

/// What an idle connection takes to be opened, served and closed, in round figures.
const IDLE_OVERHEAD: Duration = Duration::from_micros(100);

/// How long a connect or an answer may take. Longer than any cell: whoever is starved is counted as
/// never served when the time is up, and not as an error of its own.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long the requests of a cell are waited for after its end. Starved ones would take for ever.
const DRAIN: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Everything that can be wrong is found before anything is built.
    let here = env::current_dir().context("finding the current folder")?;
    let catalogue = Catalogue::find(&here).map_err(|error| Usage(error.to_string()))?;
    let cpus = machine::own_cpus();
    let no_build = arguments.no_build;
    let calibration = arguments.calibration.as_deref().map(calibration);
    let calibration = calibration.transpose()?;
    let (job, pinning) = match &arguments.resume {
        Some(path) => {
            let set = Set::open(path)?;
            let pinning = set.machine.pinning.clone();
            (Job::Resume(Box::new(set)), pinning)
        }
        None => {
            let parent = arguments.out.clone();
            let parent = parent.unwrap_or_else(|| catalogue.root.join("results"));
            set::check_parent(&parent)?;
            let (server, client) = (&arguments.pin_server, &arguments.pin_client);
            let pinning = pinning(server.as_ref(), client.as_ref(), &cpus);
            (Job::New(parent, campaign(arguments, &catalogue)?), pinning)
        }
    };
    let campaign = job.campaign().clone();
    let servers = servers(&campaign.servers, &catalogue)?;
    for workload in &campaign.workloads {
        require_files(workload.connections, workload.idle)?;
    }
    let cells = job.cells();
    if let (Job::Resume(set), true) = (&job, cells.is_empty()) {
        eprintln!("{} is complete", set.path.display());
        return finish(&set.path, false);
    }

    let interrupted = interruption()?;
    if !no_build {
        for server in &servers {
            target::build(server, &catalogue.root)?;
            if interrupted.load(Relaxed) {
                anyhow::bail!("interrupted before anything was measured");
            }
        }
    }
    let machine = Machine::here(cpus.len(), pinning);
    let build = Build::here(&catalogue.root, &servers);
    let writer = job.writer(&campaign, &machine, &build)?;
    if let Some(calibration) = &calibration {
        writer.keep(calibration)?;
    }
    announce(&campaign, &cells, &machine, &writer);

    // The servers get CPUs of their own; all threads of this process share what is left.
    if !machine.pinning.client.is_empty() {
        machine::pin_thread(&machine.pinning.client).context("pinning the generator")?;
    }
    let laboratory = Laboratory {
        root: &catalogue.root,
        servers: &servers,
        campaign: &campaign,
        machine,
        cpus: cpus.len(),
        interrupted: &interrupted,
    };
    let path = writer.path().to_owned();
    laboratory.measure(&cells, writer)?;
    finish(&path, interrupted.load(Relaxed))
}

/// A new set, or one to go on with.
enum Job {
    New(PathBuf, Campaign),
    Resume(Box<Set>),
}

impl Job {
    fn campaign(&self) -> &Campaign {
        match self {
            Job::New(_, campaign) => campaign,
            Job::Resume(set) => &set.campaign,
        }
    }

    fn cells(&self) -> Vec<Key> {
        match self {
            Job::New(_, campaign) => campaign.cells(),
            Job::Resume(set) => set.missing(),
        }
    }

    fn writer(
        self,
        campaign: &Campaign,
        machine: &Machine,
        build: &Build,
    ) -> anyhow::Result<Writer> {
        match self {
            Job::New(parent, _) => Ok(Writer::create(&parent, campaign, machine, build)?),
            Job::Resume(set) => {
                let mut differences = set.machine.differences(machine);
                differences.extend(set.build.differences(build));
                anyhow::ensure!(
                    differences.is_empty(),
                    "{} cannot be resumed here, it was measured with another: {}",
                    set.path.display(),
                    differences.join("; ")
                );
                Ok(Writer::resume(&set)?)
            }
        }
    }
}

fn campaign(arguments: Arguments, catalogue: &Catalogue) -> Result<Campaign, Usage> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u32(..));
    let command = command(&arguments, seed);
    let mut servers = arguments.servers;
    if servers.is_empty() {
        let ours = catalogue.servers.iter().filter(|server| !server.reference);
        servers.extend(ours.map(|server| server.name.clone()));
    }
    without_repetition(&mut servers);
    let mut names = arguments.workloads;
    if names.is_empty() {
        names.extend(
            catalogue
                .workloads
                .iter()
                .map(|workload| workload.name.clone()),
        );
    }
    without_repetition(&mut names);
    let servers_that = |is: &dyn Fn(&Server) -> bool| -> Vec<String> {
        let known = servers
            .iter()
            .filter_map(|name| catalogue.server(name).ok());
        let names = known.filter(|server| is(server));
        names.map(|server| server.name.clone()).collect()
    };
    let floor = servers_that(&|server| server.floor).into_iter().next();
    let references = servers_that(&|server| server.reference);
    let workload = |name: &String| {
        let workload = catalogue.workload(name)?;
        Ok(if arguments.quick {
            quick(workload)
        } else {
            workload.clone()
        })
    };
    let workloads = names.iter().map(workload).collect::<Result<_, _>>();
    let rounds = if arguments.quick {
        ROUNDS_QUICK
    } else {
        ROUNDS
    };
    Ok(Campaign {
        schema: set::SCHEMA,
        command,
        started: now(),
        seed,
        rounds: arguments.rounds.map_or(rounds, NonZeroU32::get),
        servers,
        floor,
        references,
        server_args: arguments.server_arg,
        workloads: workloads.map_err(|error: catalogue::Error| Usage(error.to_string()))?,
    })
}

/// The command that does the same again, wherever its set may go.
fn command(arguments: &Arguments, seed: u32) -> String {
    let mut command = "loadgen measure".to_owned();
    if !arguments.servers.is_empty() {
        command += &format!(" --servers {}", arguments.servers.join(","));
    }
    if !arguments.workloads.is_empty() {
        command += &format!(" --workloads {}", arguments.workloads.join(","));
    }
    if let Some(rounds) = arguments.rounds {
        command += &format!(" --rounds {rounds}");
    }
    for (name, given) in [
        ("--quick", arguments.quick),
        ("--no-build", arguments.no_build),
    ] {
        if given {
            command += &format!(" {name}");
        }
    }
    for (name, cpus) in [
        ("--pin-server", &arguments.pin_server),
        ("--pin-client", &arguments.pin_client),
    ] {
        if let Some(Cpus(cpus)) = cpus {
            let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
            command += &format!(" {name} {}", cpus.join(","));
        }
    }
    for argument in &arguments.server_arg {
        command += &format!(" --server-arg={}", quoted(argument));
    }
    command + &format!(" --seed {seed}")
}

fn quick(workload: &Workload) -> Workload {
    let scale = |time: Duration| {
        // To the millisecond, so that it reads well in the record.
        Duration::from_millis((time.as_secs_f64() * QUICK_SCALE * 1e3).ceil() as u64)
    };
    Workload {
        duration: scale(workload.duration),
        warmup: scale(workload.warmup),
        ..workload.clone()
    }
}

fn servers(names: &[String], catalogue: &Catalogue) -> Result<Vec<Server>, Usage> {
    names
        .iter()
        .map(|name| catalogue.server(name).cloned())
        .collect::<Result<_, _>>()
        .map_err(|error| Usage(error.to_string()))
}

fn announce(campaign: &Campaign, cells: &[Key], machine: &Machine, writer: &Writer) {
    let time: Duration = cells.iter().map(|key| time_of(key, campaign)).sum();
    eprintln!(
        "{} cells ({} servers x {} workloads x {} rounds): about {}",
        cells.len(),
        campaign.servers.len(),
        campaign.workloads.len(),
        campaign.rounds,
        humantime::format_duration(Duration::from_secs(time.as_secs() + 1))
    );
    let Pinning { server, client } = &machine.pinning;
    match server.is_empty() || client.is_empty() {
        true => eprintln!(
            "warning: server and generator are not pinned apart, and take CPU time from each other"
        ),
        false => eprintln!("server on CPUs {server:?}, generator on CPUs {client:?}"),
    }
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build of loadgen, and a slow generator");
    }
    eprintln!("recording in {}", writer.path().display());
}

fn time_of(key: &Key, campaign: &Campaign) -> Duration {
    let load = campaign.workload(&key.workload);
    let time = |load: &Workload| {
        let idle = u32::try_from(load.idle).unwrap_or(u32::MAX);
        load.warmup + load.duration + IDLE_OVERHEAD.saturating_mul(idle)
    };
    load.map_or(Duration::ZERO, time) + CELL_OVERHEAD
}

/// All that a cell needs.
struct Laboratory<'a> {
    root: &'a Path,
    servers: &'a [Server],
    campaign: &'a Campaign,
    machine: Machine,
    /// CPUs there are, pinned or not.
    cpus: usize,
    interrupted: &'a AtomicBool,
}

/// A cell with what the record holds beside it.
struct Measured {
    cell: Cell,
    record: Option<Record>,
    begin: SystemTime,
    duration: Duration,
}

impl Laboratory<'_> {
    /// Measures these cells one after another, until the user interrupts.
    fn measure(mut self, cells: &[Key], mut writer: Writer) -> anyhow::Result<()> {
        let cpu_time = CpuTime::now();
        let progress = Progress::start(cells, self.campaign);
        for (index, key) in cells.iter().enumerate() {
            progress.begin(key);
            if let Some(measured) = self.cell(key)? {
                let histograms = measured.record.as_ref().map(Record::histograms);
                writer.append(
                    &measured.cell,
                    &histograms.unwrap_or_default(),
                    measured.begin,
                    measured.duration,
                )?;
                progress.end(&measured.cell, time_of(key, self.campaign));
            }
            let interrupted = self.interrupted.load(Relaxed);
            let ends_round = cells
                .get(index + 1)
                .is_none_or(|next| next.round != key.round);
            if interrupted || ends_round {
                self.summarize(cpu_time.as_ref(), &writer)?;
            }
            if interrupted {
                break;
            }
        }
        progress.clear();
        Ok(())
    }

    /// Renews what is said about the set as a whole.
    fn summarize(&mut self, since: Option<&CpuTime>, writer: &Writer) -> anyhow::Result<()> {
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
        writer.write_readme(&markdown::readme(&Evidence::of(vec![set])?))?;
        Ok(())
    }

    /// Measures one cell with a fresh process; `None` when the user interrupts.
    fn cell(&self, key: &Key) -> anyhow::Result<Option<Measured>> {
        let server = (self.servers.iter()).find(|server| server.name == key.server);
        let server = server.expect("the campaign's servers were looked up");
        let workload = self
            .campaign
            .workload(&key.workload)
            .expect("it is the campaign's");
        let (started, begin) = (now(), SystemTime::now());
        let failed = |error: String| {
            Ok(Some(Measured {
                cell: Cell::failed(key, started.clone(), &error),
                record: None,
                begin,
                duration: Duration::ZERO,
            }))
        };

        let options = target::Options {
            cpus: self.machine.pinning.server.clone(),
            arguments: self.campaign.server_args.clone(),
            ..target::Options::default()
        };
        // This is the main thread, which lives as long as the process, as a target demands.
        let target = match Target::start(server, self.root, &options) {
            Ok(target) => target,
            Err(error) => return failed(error.to_string()),
        };
        if let Err(error) = target::probe(target.address()) {
            return failed(error.to_string());
        }
        let plan = self.plan(workload, &target);
        let mut meter = Meter::new(Some(target.pid()), true);
        let mut begin = begin;
        let outcome = drive::run_observed(&plan, self.interrupted, &mut |moment| {
            if let Moment::Begin = moment {
                begin = SystemTime::now();
            }
            meter.on(moment);
        });
        let cost = meter.finish();
        let outcome = outcome.context("running the load")?;
        let died = target.has_ended();
        let ended = target.stop(target::STOP_WITHIN);
        if self.interrupted.load(Relaxed) {
            return Ok(None);
        }
        if died {
            return failed(format!("it {ended} during the run"));
        }
        if ended.killed {
            let seconds = target::STOP_WITHIN.as_secs();
            return failed(format!("it did not stop within {seconds} s of SIGTERM"));
        }
        let verdict = verdict::judge(&plan, &outcome);
        Ok(Some(Measured {
            cell: Cell::measured(key, started, &outcome, cost.as_ref(), &verdict),
            begin,
            duration: outcome.duration,
            record: Some(outcome.record),
        }))
    }

    fn plan(&self, workload: &Workload, target: &Target) -> Plan {
        let cpus = self.machine.pinning.client.clone();
        let cpus_count = if cpus.is_empty() {
            self.cpus
        } else {
            cpus.len()
        };
        let address = target.address();
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
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
            cpus,
            ..Plan::new(address, request.into_bytes())
        }
    }
}

/// A bar with the time that is left on a terminal, a line for each cell elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    cells: usize,
    done: std::cell::Cell<usize>,
}

impl Progress {
    fn start(cells: &[Key], campaign: &Campaign) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let all: Duration = cells.iter().map(|key| time_of(key, campaign)).sum();
            let bar = ProgressBar::new(all.as_millis() as u64);
            let template = "{wide_bar} {msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
            bar
        });
        Progress {
            bar,
            cells: cells.len(),
            done: std::cell::Cell::new(0),
        }
    }

    fn begin(&self, key: &Key) {
        if let Some(bar) = &self.bar {
            // Known better beforehand than from how fast it went so far: every cell has its time.
            let left = bar.length().unwrap_or(0).saturating_sub(bar.position());
            bar.set_message(format!(
                "round {}: {}, {}; {} left",
                key.round,
                key.server,
                key.workload,
                humantime::format_duration(Duration::from_secs(left.div_ceil(1000)))
            ));
        }
    }

    fn end(&self, cell: &Cell, time: Duration) {
        let done = self.done.get() + 1;
        self.done.set(done);
        let line = format!("[{done:>3}/{}] {}", self.cells, line_of(cell));
        match &self.bar {
            Some(bar) => {
                bar.inc(time.as_millis() as u64);
                if cell.error.is_some() {
                    bar.println(line);
                }
            }
            None => eprintln!("{line}"),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line_of(cell: &Cell) -> String {
    let name = format!(
        "round {} {:<21} {:<14}",
        cell.round, cell.server, cell.workload
    );
    if let Some(error) = &cell.error {
        return format!("{name} failed: {error}");
    }
    let figure = |value: Option<f64>, digits| match value {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let mut line = format!(
        "{name} {:>7} us CPU {:>7}/s",
        figure(cell.server_cpu_us_per_request, 2),
        figure(cell.requests_per_s, 0)
    );
    match (cell.verdict, &cell.reasons) {
        (Some(Status::Invalid), Some(reasons)) => line += &format!(" invalid: {reasons}"),
        (Some(Status::ClientBound), _) => line += " client-bound",
        _ => {}
    }
    line
}

/// Shows what stands in the set, and says how to go on with it if it is incomplete.
fn finish(path: &Path, interrupted: bool) -> anyhow::Result<ExitCode> {
    let set = Set::open(path)?;
    let failed = set.cells.iter().any(|cell| cell.error.is_some());
    let incomplete = !set.missing().is_empty();
    if set.cells.is_empty() {
        eprintln!("nothing was measured");
    } else {
        let evidence = Evidence::of(vec![set])?;
        let metrics = evidence.metrics();
        print!("{}", table::text(&evidence, &metrics, table::WIDTH));
    }
    eprintln!("recorded in {}", path.display());
    if incomplete {
        let why = if interrupted {
            "interrupted"
        } else {
            "incomplete"
        };
        eprintln!(
            "{why}; to go on: loadgen measure --resume {}",
            path.display()
        );
    }
    Ok(match failed || incomplete {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn without_repetition(names: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond)
        .unwrap_or(now)
        .to_string()
}
