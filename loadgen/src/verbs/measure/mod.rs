//! `loadgen measure`: every server under every workload, in rounds, recorded as a set.

mod progress;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::Usage;
use crate::common::{Cpus, duration, interruption, pinning, require_files};
use crate::output::{Written, print, say};
use crate::outputs::calibration;
use engine::contention::are_apart;
use engine::destination;
use engine::limits::ROUNDS_MAX;
use engine::shell::quoted_path;
use lab::calibration::Calibration;
use lab::compare::{Evidence, Mixed};
use lab::experiment::campaign::{self, Request, Rounds};
use lab::experiment::{Ended, Experiment, rounds, time_of_all};
use lab::set;
use lab::set::{Campaign, Key, Set, Writer};
use progress::ExperimentProgress;
use report::{aa, markdown, table};
use subject::catalogue::Catalogue;
use subject::machine::{Build, Machine, Pinning};
use subject::process;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Servers by name or group (such as `core`) [default: all except references]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    servers: Vec<String>,
    /// Workloads by name, group (such as `curated`) or glob (such as 'open-*') [default: the group `default`]
    #[arg(long, value_name = "X,Y", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Number of rounds, up to 1,000; each measures every cell once. `auto`: 6, and more until the leading
    /// ratios are precise enough [default: 6, with --quick 3]
    #[arg(long, value_name = "N|auto", value_parser = rounds_from)]
    rounds: Option<Rounds>,
    /// With --rounds auto: how far the interval of the leading ratio (CPU per request of the second-best server
    /// to that of the best) may reach from it in each workload [default: 3%]
    #[arg(long, value_name = "PERCENT", value_parser = rounds::precision)]
    precision: Option<f64>,
    /// With --rounds auto: start no round that would end later than this [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time_limit: Option<Duration>,
    /// Measure one server as two, to see how often they differ by chance
    #[arg(long, value_name = "SERVER", conflicts_with = "servers")]
    aa: Option<String>,
    /// Shorter cells and fewer rounds: less than a minute for our servers, with wider intervals
    #[arg(long)]
    quick: bool,
    /// Folder in which the folder of the set is created [default: results/ of the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue a set that was interrupted or killed: measure only what is missing
    #[arg(
        long,
        value_name = "SET",
        conflicts_with_all = ["servers", "workloads", "rounds", "precision", "time_limit", "aa", "quick", "out", "seed", "calibration", "no_ledger", "pin_server", "pin_client", "server_arg"]
    )]
    resume: Option<PathBuf>,
    /// Seed for the cell order [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Use existing binaries; do not build
    #[arg(long)]
    no_build: bool,
    /// Do not count system calls and memory per connection after the rounds
    #[arg(long)]
    no_ledger: bool,
    /// The generator's limits on this machine, written by `loadgen calibrate --json FILE`; kept with the set
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

/// `auto`, or a number from 1 to [`ROUNDS_MAX`].
fn rounds_from(text: &str) -> Result<Rounds, String> {
    match text {
        "auto" => Ok(Rounds::Auto),
        count => match count.parse::<u32>() {
            Ok(count @ 1..=ROUNDS_MAX) => Ok(Rounds::Count(count)),
            _ => Err(format!(
                "expected a number from 1 to {ROUNDS_MAX}, or `auto`"
            )),
        },
    }
}

impl Arguments {
    /// The requested measurement, without the place where it is recorded.
    fn request(&self) -> Request {
        let cpus = |cpus: &Option<Cpus>| cpus.as_ref().map(|Cpus(cpus)| cpus.clone());
        Request {
            servers: self.servers.clone(),
            workloads: self.workloads.clone(),
            rounds: self.rounds,
            precision: self.precision,
            time_limit: self.time_limit,
            aa: self.aa.clone(),
            quick: self.quick,
            no_build: self.no_build,
            no_ledger: self.no_ledger,
            pin_server: cpus(&self.pin_server),
            pin_client: cpus(&self.pin_client),
            server_args: self.server_arg.clone(),
            seed: self.seed,
        }
    }
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // All errors in the request are found before anything is built.
    let here = env::current_dir().context("finding the current folder")?;
    let catalogue = Catalogue::find(&here).map_err(|error| Usage(error.to_string()))?;
    let cpus = engine::affinity::own_cpus();
    let no_build = arguments.no_build;
    let calibration = arguments.calibration.as_deref().map(calibration);
    let calibration = calibration.transpose()?;
    let (job, pinning) = match &arguments.resume {
        Some(path) => {
            let (set, lock) = locked(path)?;
            let pinning = set.machine.pinning.clone();
            (Job::Resume(Box::new(set), lock), pinning)
        }
        None => {
            let parent = arguments.out.clone();
            let parent = parent.unwrap_or_else(|| catalogue.root.join("results"));
            if destination::is_stdout(&parent) {
                let message = "--out takes a folder: a set cannot go to stdout (for a folder named -, write ./-)";
                return Err(Usage(message.to_owned()).into());
            }
            set::check_parent(&parent)?;
            let (server, client) = (&arguments.pin_server, &arguments.pin_client);
            let pinning = pinning(server.as_ref(), client.as_ref(), &cpus);
            let campaign = campaign::campaign(arguments.request(), &catalogue);
            let campaign = campaign.map_err(|error| Usage(error.to_string()))?;
            let new = New {
                parent,
                campaign,
                calibration,
            };
            (Job::New(Box::new(new)), pinning)
        }
    };
    let campaign = job.campaign().clone();
    let servers = campaign::servers(&campaign, &catalogue);
    let servers = servers.map_err(|error| Usage(error.to_string()))?;
    for workload in &campaign.workloads {
        require_files(workload.connections, workload.idle)?;
    }
    let cells = job.cells();
    let is_complete = cells.is_empty() && !rounds::goes_on(&campaign);
    let job = match job {
        Job::Resume(set, lock) if is_complete && set.missing_passes().is_empty() => {
            say!("{} is complete", set.path.display());
            renew_readme(&set, lock)?;
            return finish(&set.path, Ended::Complete);
        }
        job => job,
    };

    let interrupted = interruption()?;
    if !no_build {
        // Two halves of one server are built once.
        let is_another = |at: usize| servers[..at].iter().all(|it| it.build != servers[at].build);
        for at in (0..servers.len()).filter(|&at| is_another(at)) {
            match process::build(&servers[at], &catalogue.root) {
                // The interruption is reported below.
                Err(process::Error::Interrupted { .. }) => break,
                built => built?,
            }
        }
    }
    let machine = Machine::here(cpus.len(), pinning);
    let versions = (servers.iter())
        .map(|server| (server.clone(), process::version(server, &catalogue.root)))
        .collect::<Vec<_>>();
    let build = Build::here(
        &catalogue.root,
        &versions,
        &set::is_own_output,
        &interrupted,
    );
    if interrupted.load(Relaxed) {
        anyhow::bail!("interrupted before anything was measured");
    }
    let writer = job.writer(&machine, &build)?;
    announce(&campaign, &cells, &machine, &build, &writer);

    // The servers have CPUs of their own; all threads of this process share the rest.
    if !machine.pinning.client.is_empty() {
        engine::affinity::pin_thread(&machine.pinning.client).context("pinning the generator")?;
    }
    let experiment = Experiment {
        root: &catalogue.root,
        servers: &servers,
        campaign,
        machine,
        cpus: cpus.len(),
        interrupted: &interrupted,
        readme: &readme,
    };
    let path = writer.path().to_owned();
    let mut progress = ExperimentProgress::start(&experiment.campaign, &cells);
    let ended = experiment.measure(cells, writer, &mut progress)?;
    finish(&path, ended)
}

/// A set to resume, locked so that no other process writes it.
fn locked(path: &Path) -> anyhow::Result<(Set, set::Lock)> {
    // Reports a folder that is not a set before locking it.
    Set::open(path)?;
    let lock = set::Lock::take(path).map_err(|error| match error {
        set::Error::Busy { .. } => Usage(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    // Read again, because it may have grown before it was locked.
    let set = Set::open(path)?;
    for remark in &set.cut_off {
        say!("warning: {remark}; it is measured again");
    }
    Ok((set, lock))
}

/// A new set, or one to resume.
enum Job {
    New(Box<New>),
    Resume(Box<Set>, set::Lock),
}

struct New {
    parent: PathBuf,
    campaign: Campaign,
    calibration: Option<Calibration>,
}

impl Job {
    fn campaign(&self) -> &Campaign {
        match self {
            Job::New(new) => &new.campaign,
            Job::Resume(set, _) => &set.campaign,
        }
    }

    fn cells(&self) -> Vec<Key> {
        match self {
            Job::New(new) => new.campaign.cells(),
            Job::Resume(set, _) => set.missing(),
        }
    }

    fn writer(self, machine: &Machine, build: &Build) -> anyhow::Result<Writer> {
        match self {
            Job::New(new) => {
                let (parent, calibration) = (&new.parent, new.calibration.as_ref());
                let campaign = &new.campaign;
                let writer =
                    Writer::create_calibrated(parent, campaign, machine, build, calibration);
                Ok(writer?)
            }
            Job::Resume(set, lock) => {
                let (of_machine, of_build) =
                    (set.machine.likeness(machine), set.build.likeness(build));
                let differences = [of_machine.differences, of_build.differences].concat();
                for remark in [of_machine.remarks, of_build.remarks].concat() {
                    say!("warning: {}: {remark}", set.path.display());
                }
                anyhow::ensure!(
                    differences.is_empty(),
                    "{} cannot be resumed here; these differ: {}",
                    set.path.display(),
                    differences.join("; ")
                );
                Ok(Writer::resume_locked(&set, lock)?)
            }
        }
    }
}

fn announce(campaign: &Campaign, cells: &[Key], machine: &Machine, build: &Build, writer: &Writer) {
    say!(
        "{} cells ({} servers x {} workloads x {} rounds{}): about {}",
        cells.len(),
        campaign.servers.len(),
        campaign.workloads.len(),
        campaign.rounds,
        if rounds::goes_on(campaign) {
            " or more"
        } else {
            ""
        },
        progress::time(time_of_all(cells, campaign))
    );
    let Pinning { server, client } = &machine.pinning;
    match are_apart(server, client) {
        false => say!(
            "warning: server and generator are not pinned apart, and take CPU time from each other"
        ),
        true => say!("server on CPUs {server:?}, generator on CPUs {client:?}"),
    }
    if let Some(lack) = build.lacks() {
        say!("warning: {lack}");
    }
    if cfg!(debug_assertions) {
        say!("warning: this is a debug build of loadgen, so the generator is slow");
    }
    say!("recording in {}", writer.path().display());
}

/// Shows the recorded set, and how to resume it if it is incomplete.
fn finish(path: &Path, ended: Ended) -> anyhow::Result<ExitCode> {
    let set = Set::open(path)?;
    let failed = set.cells.iter().any(|cell| cell.error.is_some());
    let incomplete =
        !set.missing().is_empty() || !set.missing_passes().is_empty() || ended != Ended::Complete;
    let campaign = set.campaign.clone();
    let mut printed = Written::default();
    if set.cells.is_empty() {
        say!("nothing was measured");
    } else {
        let evidence = Evidence::of(vec![set])?;
        let metrics = evidence.metrics();
        let all = format!("loadgen cmp {} --servers '*'", quoted_path(path));
        let shown = table::Shown::podium(&all);
        let text = table::text(&evidence, &metrics, &shown, crate::selection::width());
        printed.add(print(text + &about_the_whole(&evidence, &campaign)));
    }
    say!("recorded in {}", path.display());
    if incomplete {
        let why = match ended {
            Ended::Interrupted => "interrupted",
            Ended::NotRecorded => "incomplete, because not everything could be written",
            Ended::Complete => "incomplete",
        };
        say!(
            "{why}; to go on: loadgen measure --resume {}",
            quoted_path(path)
        );
    }
    // The set is recorded even if its table could not be printed.
    printed.end()?;
    Ok(match failed || incomplete {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// What is reported about a set besides its tables: whether the rounds sufficed, how often the halves of one
/// server differed. Paragraphs, each preceded by an empty line.
fn about_the_whole(evidence: &Evidence, campaign: &Campaign) -> String {
    let mut out = String::new();
    if let Some(auto) = &campaign.auto {
        out += &format!("\n{}", rounds::outcome(evidence, auto));
    }
    if let Some(server) = &campaign.aa {
        out += &format!("\n{}", aa::text(evidence, server));
    }
    out
}

/// Writes the README of a complete set if the process was killed before it could; otherwise changes nothing.
fn renew_readme(set: &Set, lock: set::Lock) -> anyhow::Result<()> {
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
fn readme(set: Set) -> Result<String, Mixed> {
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
