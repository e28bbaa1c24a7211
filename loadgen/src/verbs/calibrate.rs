//! `loadgen calibrate`: the limits of the generator on this machine, measured against a server that costs
//! almost nothing, and compared with other generators on request.

use std::cell::Cell;
use std::env;
use std::io::{self, IsTerminal as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::common::{Cpus, count, duration, interruption, pinning, require_files};
use crate::output::{self, Written, say};
use engine::cpu_time::CpuTime;
use engine::drive;
use engine::drive::Moment;
use engine::http_url::HttpUrl;
use engine::latency::percentile;
use engine::plan::{ConnectionLife, Limit, Pace, Plan, Rate};
use engine::record::Outcome;
use engine::verdict;
use engine::verdict::Status;
use lab::against;
use lab::against::{Generator, Load, Program, Run};
use lab::calibration::{
    Calibration, Ceiling, LAG_RATE_PER_S, Latency, Round, Setup, Standing, thousandths,
};
use lab::responder::Counts;
use subject::catalogue::{Ready, Server, Serves};
use subject::machine::{Machine, Pinning};
use subject::process;
use subject::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Number of rounds; each measures everything once
    #[arg(long, value_name = "N", default_value = "3", value_parser = count::<NonZeroU32>)]
    rounds: NonZeroU32,
    /// Counted time of each measurement
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    duration: Duration,
    /// The same as -d 500ms, for a first look
    #[arg(long, conflicts_with = "duration")]
    quick: bool,
    /// Also measure other generators, in the same rounds and for whole seconds: wrk, oha, h2load, hey or ab, if
    /// installed
    #[arg(
        long,
        value_name = "wrk,oha,..",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    against: Vec<Program>,
    /// Write the calibration as JSON to a file, or to stdout (-) instead of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// CPUs of the responder [default: the first half]
    #[arg(long, value_name = "CPUS")]
    pin_server: Option<Cpus>,
    /// CPUs of the generator; its thread uses the first [default: those that are not the responder's]
    #[arg(long, value_name = "CPUS")]
    pin_client: Option<Cpus>,
}

const DURATION_QUICK: Duration = Duration::from_millis(500);

/// The same for both ceilings and for all generators.
const CONNECTIONS: usize = 64;

/// The maximum warm-up; otherwise it is a quarter of the counted time.
const WARMUP_MAX: Duration = Duration::from_millis(500);

/// The time that a generator may take in addition to its load: to start, connect and report.
const AGAINST_MARGIN: Duration = Duration::from_secs(20);

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let cpus = engine::affinity::own_cpus();
    let (server, client) = (&arguments.pin_server, &arguments.pin_client);
    let pinning = pinning(server.as_ref(), client.as_ref(), &cpus);
    require_files(CONNECTIONS, 0)?;
    output::check(&[("--json", arguments.json.as_deref())])?;
    let mut contenders = contenders(&arguments.against)?;
    let interrupted = interruption()?;
    announce(&pinning);

    let machine = Machine::here(cpus.len(), pinning);
    // The responder has CPUs of its own; all threads of this process share the rest.
    if !machine.pinning.client.is_empty() {
        engine::affinity::pin_thread(&machine.pinning.client).context("pinning the generator")?;
    }
    let mut bench = Bench {
        responder: responder()?,
        machine,
        duration: match arguments.quick {
            true => DURATION_QUICK,
            false => arguments.duration,
        },
        rounds: arguments.rounds.get(),
        interrupted: &interrupted,
    };
    let cpu_time = CpuTime::now();
    let rounds = bench.measure(&mut contenders)?;
    let rounds_done = rounds.len();
    anyhow::ensure!(
        rounds_done > 0,
        "interrupted before the first round was complete"
    );
    bench.machine.steal_percent =
        cpu_time.and_then(|since| CpuTime::now()?.steal_percent_since(&since));

    let is_complete = rounds_done == bench.rounds as usize;
    let failed = contenders.iter().any(|contender| contender.failed);
    let calibration = bench.calibration(rounds, contenders);
    let mut written = Written::default();
    if !output::is_stdout(arguments.json.as_deref()) {
        written.add(output::print(report::calibration::text(&calibration)));
    }
    match &arguments.json {
        Some(path) if is_complete => written.add(output::write_json(path, &calibration)),
        Some(_) => say!("interrupted: no record of these rounds was written"),
        None if is_complete => {}
        None => say!("interrupted"),
    }
    written.end()?;
    Ok(match is_complete && !failed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// A generator that is compared with loadgen, or loadgen itself, and its runs so far.
struct Contender {
    generator: Generator,
    runs: Vec<Run>,
    /// It failed, and is not run again.
    failed: bool,
}

/// Loadgen first, then the installed ones of `programs`; empty if none is installed.
fn contenders(programs: &[Program]) -> anyhow::Result<Vec<Contender>> {
    let mut found: Vec<Generator> = Vec::new();
    for (index, &program) in programs.iter().enumerate() {
        if programs[..index].contains(&program) {
            continue;
        }
        match Generator::find(program) {
            Some(generator) => found.push(generator),
            None => say!(
                "SKIPPED: {} is not installed ({})",
                program.name(),
                program.install()
            ),
        }
    }
    if !found.is_empty() {
        found.insert(0, Generator::own().context("finding this program")?);
    }
    let contender = |generator| Contender {
        generator,
        runs: Vec::new(),
        failed: false,
    };
    Ok(found.into_iter().map(contender).collect())
}

/// This program as a server like any other.
fn responder() -> anyhow::Result<Server> {
    let own = env::current_exe().context("finding this program")?;
    let own = own
        .to_str()
        .context("the path of this program is not UTF-8")?;
    Ok(Server {
        name: "the responder".to_owned(),
        about: "answers a constant".to_owned(),
        build: None,
        run: [own, "responder", "--listen", "{addr}"]
            .map(str::to_owned)
            .to_vec(),
        version: None,
        ready: Ready::Line,
        reference: false,
        floor: false,
        groups: Vec::new(),
        serves: Serves::All,
        thread_per_connection: false,
    })
}

fn announce(pinning: &Pinning) {
    if pinning.server.is_empty() || pinning.client.is_empty() {
        say!(
            "warning: responder and generator are not pinned apart, because there is no second CPU, and take \
             CPU time from each other"
        );
    }
    if cfg!(debug_assertions) {
        say!("warning: this is a debug build of loadgen, so the generator is slow");
    }
}

/// Everything that a measurement needs.
struct Bench<'a> {
    responder: Server,
    machine: Machine,
    duration: Duration,
    rounds: u32,
    interrupted: &'a AtomicBool,
}

/// CPU time of the responder within a span of time.
#[derive(Debug, Clone, Copy, Default)]
struct ResponderCost {
    cpu_s: f64,
    span_s: f64,
}

impl Bench<'_> {
    /// Measures the requested number of rounds, or fewer if the user interrupts; returns the complete ones.
    fn measure(&self, contenders: &mut [Contender]) -> anyhow::Result<Vec<Round>> {
        let progress = CalibrationProgress::start(self, contenders.len());
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            match self.round(number, contenders, &order, &progress) {
                Ok(round) => rounds.push(round),
                // The interruption is the reason for the failure.
                Err(_) if self.interrupted.load(Relaxed) => break,
                Err(error) => return Err(error),
            }
            // So that none is first, or follows the same one, in every round.
            if !order.is_empty() {
                order.rotate_left(1);
            }
        }
        for contender in contenders {
            contender.runs.truncate(rounds.len());
        }
        Ok(rounds)
    }

    /// Makes every measurement once, each against a fresh responder.
    fn round(
        &self,
        number: u32,
        contenders: &mut [Contender],
        order: &[usize],
        progress: &CalibrationProgress,
    ) -> anyhow::Result<Round> {
        let begin = |what| progress.begin(&format!("round {number} of {}: {what}", self.rounds));
        let mut doubts = Vec::new();
        begin("requests/s");
        let requests = self.requests(&mut doubts)?;
        begin("connections/s");
        let connections = self.connections(&mut doubts)?;
        begin("response time");
        let latency_us = self.latency(&mut doubts)?;
        begin("lag");
        let lag_us = self.lag(&mut doubts)?;
        for &index in order {
            let contender = &mut contenders[index];
            if contender.failed {
                continue;
            }
            let program = contender.generator.program;
            begin(program.name());
            match self.against(&contender.generator) {
                Ok(run) => contender.runs.push(run),
                Err(error) if program == Program::Loadgen || self.interrupted.load(Relaxed) => {
                    return Err(error.context(program.name()));
                }
                // The others do not depend on it.
                Err(error) => {
                    contender.failed = true;
                    progress.say(&format!("{} failed: {error:#}", program.name()));
                }
            }
        }
        Ok(Round {
            requests,
            connections,
            latency_us,
            lag_us,
            doubts,
        })
    }

    /// The ceiling with keep-alive connections.
    fn requests(&self, doubts: &mut Vec<String>) -> anyhow::Result<Ceiling> {
        self.ceiling("requests/s", ConnectionLife::KeepAlive, doubts)
    }

    /// The ceiling with a new connection for every request.
    fn connections(&self, doubts: &mut Vec<String>) -> anyhow::Result<Ceiling> {
        self.ceiling("connections/s", ConnectionLife::Requests(1), doubts)
    }

    /// Response times without other load.
    fn latency(&self, doubts: &mut Vec<String>) -> anyhow::Result<Latency> {
        let responder = self.start()?;
        let plan = Plan {
            connections: 1,
            ..self.plan(&responder)
        };
        let (outcome, _) = self.drive("response time", responder, &plan, doubts)?;
        Ok(latency(&outcome.record.response))
    }

    /// The lateness of requests at a moderate rate.
    fn lag(&self, doubts: &mut Vec<String>) -> anyhow::Result<Latency> {
        let responder = self.start()?;
        let rate = Rate::per_second(LAG_RATE_PER_S).context("a rate")?;
        let plan = Plan {
            pace: Pace::Constant(rate),
            ..self.plan(&responder)
        };
        let (outcome, _) = self.drive("lag", responder, &plan, doubts)?;
        Ok(latency(&outcome.record.lag_own))
    }

    fn ceiling(
        &self,
        what: &str,
        life: ConnectionLife,
        doubts: &mut Vec<String>,
    ) -> anyhow::Result<Ceiling> {
        let responder = self.start()?;
        let plan = Plan {
            life,
            ..self.plan(&responder)
        };
        let (outcome, used) = self.drive(what, responder, &plan, doubts)?;
        let per_s = outcome.record.counts.responses as f64 / outcome.duration.as_secs_f64();
        let client = &outcome.client;
        let client_cpu_s = client.cpu_s();
        let client_busy = client_cpu_s / outcome.duration.as_secs_f64();
        let responder_busy = used.cpu_s / used.span_s;
        Ok(Ceiling {
            per_s: thousandths(per_s),
            client_cpu_us: thousandths(client_busy * 1e6 / per_s),
            floor_cpu_us: thousandths(responder_busy * 1e6 / per_s),
            client_busy: thousandths(client_busy),
            floor_busy: thousandths(responder_busy),
        })
    }

    /// One run of a generator, the requests counted by the responder.
    fn against(&self, generator: &Generator) -> anyhow::Result<Run> {
        let responder = self.start()?;
        let load = Load {
            url: HttpUrl::at(responder.target().address()).to_string(),
            connections: CONNECTIONS,
            seconds: self.seconds(),
        };
        let within = Duration::from_secs(load.seconds) + AGAINST_MARGIN;
        let command = generator.command(&load);
        let ended = against::run(&command, &self.cpu(), within, self.interrupted)?;
        let counts = stop(responder)?;
        let claim = match (generator.claim(&ended.stdout), ended.failure) {
            (Ok(claim), None) => claim,
            // That it does not trust its figures, on a machine that is not quiet, does not make its CPU
            // time wrong.
            (Ok(claim), Some(_)) if generator.program == Program::Loadgen => claim,
            (_, Some(failure)) | (Err(failure), None) => anyhow::bail!(failure),
        };
        anyhow::ensure!(
            counts.requests > 0,
            "the responder has not seen a request of it"
        );
        Ok(Run {
            client_cpu_s: ended.cpu_s,
            requests: counts.requests,
            claim,
        })
    }

    /// The time of one run of a generator, in whole seconds.
    fn seconds(&self) -> u64 {
        self.duration.as_secs_f64().ceil() as u64
    }

    fn start(&self) -> anyhow::Result<Session> {
        let options = process::Options {
            cpus: self.machine.pinning.server.clone(),
            ..process::Options::default()
        };
        // This is the main thread, which lives as long as the process, as a target demands.
        Ok(Session::start(&self.responder, Path::new("/"), &options)?)
    }

    /// The CPU of the generator's thread; empty if it is not pinned.
    fn cpu(&self) -> Vec<usize> {
        let cpus = &self.machine.pinning.client;
        cpus.first().copied().into_iter().collect()
    }

    fn plan(&self, responder: &Session) -> Plan {
        let address = responder.target().address();
        Plan {
            connections: CONNECTIONS,
            limit: Limit::For(self.duration),
            warmup: self.warmup(),
            cpus: self.cpu(),
            ..Plan::new(address, HttpUrl::at(address).get(""))
        }
    }

    fn warmup(&self) -> Duration {
        (self.duration / 4).min(WARMUP_MAX)
    }

    /// Drives the plan against the responder, and stops the responder. Problems that a busy machine can cause go
    /// to `doubts`.
    fn drive(
        &self,
        what: &str,
        responder: Session,
        plan: &Plan,
        doubts: &mut Vec<String>,
    ) -> anyhow::Result<(Outcome, ResponderCost)> {
        let used = || {
            let clock = clock_getcpuclockid(Pid::from_raw(responder.target().pid().cast_signed()));
            let used: Duration = clock.and_then(ClockId::now).ok()?.into();
            Some((used, Instant::now()))
        };
        let (mut begin, mut end) = (None, None);
        let outcome = drive::run_observed(plan, self.interrupted, &mut |moment| match moment {
            Moment::Begin(_) => begin = used(),
            Moment::Idle(_) | Moment::Tick(_) => {}
            Moment::End(_) => end = used(),
        })
        .context("running the load")?;
        stop(responder)?;
        anyhow::ensure!(!outcome.interrupted, "interrupted");
        let verdict = verdict::judge(plan, &outcome);
        if verdict.status == Status::Invalid {
            let reasons = verdict.reasons.join("; ");
            let record = &outcome.record;
            anyhow::ensure!(
                record.counts.responses > 0 && record.errors_count() == 0,
                "measuring {what}: {reasons}"
            );
            doubts.push(format!("{what}: {reasons}"));
        }
        let (begin, end) = begin.zip(end).context("the responder has no CPU time")?;
        let cost = ResponderCost {
            cpu_s: end.0.saturating_sub(begin.0).as_secs_f64(),
            span_s: (end.1 - begin.1).as_secs_f64(),
        };
        Ok((outcome, cost))
    }

    fn calibration(self, rounds: Vec<Round>, contenders: Vec<Contender>) -> Calibration {
        let setup = Setup {
            date: date(),
            duration_s: self.duration.as_secs_f64(),
            connections: CONNECTIONS,
            machine: self.machine,
        };
        let mut calibration = Calibration::of(setup, rounds);
        let loadgens = contenders.first().map(|loadgen| loadgen.runs.clone());
        let loadgens = loadgens.unwrap_or_default();
        for contender in contenders.into_iter().filter(|it| !it.failed) {
            let Generator {
                program, version, ..
            } = contender.generator;
            let standing = Standing::of(program.name(), version, contender.runs, &loadgens);
            calibration.against.extend(standing);
        }
        calibration
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    Latency {
        p50: percentile(histogram, 50.0),
        p99: percentile(histogram, 99.0),
    }
}

/// Stops the responder, which then reports its counts.
fn stop(responder: Session) -> anyhow::Result<Counts> {
    let (ended, fault) = responder.end();
    fault.map_err(|fault| anyhow::anyhow!("the responder {fault}"))?;
    let counts = ended.stderr.lines().last().unwrap_or_default();
    (serde_json::from_str(counts).ok())
        .filter(|_| ended.status.success())
        .with_context(|| format!("the responder {ended}"))
}

fn date() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// A progress bar with the current measurement, if stderr is a terminal.
struct CalibrationProgress {
    bar: Option<ProgressBar>,
    /// When the current measurement began.
    since: Cell<Instant>,
}

impl CalibrationProgress {
    fn start(bench: &Bench, contenders: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let own = 4 * (bench.warmup() + bench.duration);
            let others = Duration::from_secs(bench.seconds()) * contenders as u32;
            let bar = ProgressBar::new(((own + others) * bench.rounds).as_millis() as u64);
            let template = "{wide_bar} {msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("a valid template"));
            bar
        });
        CalibrationProgress {
            bar,
            since: Cell::new(Instant::now()),
        }
    }

    fn begin(&self, what: &str) {
        let past = self.since.replace(Instant::now()).elapsed();
        if let Some(bar) = &self.bar {
            bar.inc(past.as_millis() as u64);
            bar.set_message(what.to_owned());
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{line}")),
            None => say!("{line}"),
        }
    }
}

impl Drop for CalibrationProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
