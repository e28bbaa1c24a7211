//! The course of one soak: the mix for its time, quiet, and the mix again with SIGTERM.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use subject::catalogue::Server;
use subject::process::{Ended, Options, Target};
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::counters;
use crate::crowd::Crowd;
use crate::few::{ask, starves};
use crate::memory::Memory;
use crate::peers::{BEHAVIOURS, Behaviour};
use crate::process::Sample;
use crate::progress::{Moment, Progress};
use crate::report::{At, Levels, Report, Stop};
use crate::tally::End;
use crate::world::{Stage, Times, World};

/// The parameters of a soak.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Duration of the mix.
    pub time: Duration,
    /// Peers alive at any time.
    pub connections: usize,
    /// Requests per second over all well-behaved peers.
    pub rate_per_s: f64,
    /// Seed of the random choices.
    pub seed: u64,
    /// Only these behaviours; all if it is empty.
    pub only: Vec<&'static Behaviour>,
    /// Peers that give up are no fault, whatever the server is seen to do.
    pub may_starve: bool,
    /// `--idle-timeout` of our servers.
    pub idle_timeout: Duration,
    /// `--header-timeout` of our servers.
    pub header_timeout: Duration,
    /// `--grace` of our servers.
    pub grace: Duration,
    /// How long a peer waits for an answer or a close.
    pub patience: Duration,
    /// Further arguments for our servers.
    pub arguments: Vec<String>,
}

/// The idle time that servers of others are assumed to allow. They may allow much more, and then take longer to
/// notice that all peers have left.
const FOREIGN_TIMEOUT: Duration = Duration::from_secs(10);
const FOREIGN_SETTLE: Duration = Duration::from_secs(90);

/// Soaks one server. The calling thread must outlive the server, see [`subject::process`].
pub fn soak(server: &Server, root: &Path, plan: &Plan, progress: &Progress) -> Report {
    let mut report = Report {
        server: server.name.clone(),
        ..Report::default()
    };
    if let Err(error) = start(server, root, plan, progress, &mut report) {
        report.failures.push(format!("start: {error:#}"));
    }
    report.passed = report.failures.is_empty();
    progress.over(report.passed);
    report
}

fn start(
    server: &Server,
    root: &Path,
    plan: &Plan,
    progress: &Progress,
    report: &mut Report,
) -> Result<()> {
    let ours = server.is_ours();
    let mut server = server.clone();
    let times = match ours {
        true => Times {
            idle: plan.idle_timeout,
            header: plan.header_timeout,
            grace: plan.grace,
            patience: plan.patience,
        },
        false => Times {
            idle: FOREIGN_TIMEOUT,
            header: FOREIGN_TIMEOUT,
            grace: plan.grace,
            patience: plan.patience,
        },
    };
    if ours {
        let time = |time: Duration| humantime::format_duration(time).to_string();
        let limits = [
            ("--idle-timeout", time(times.idle)),
            ("--header-timeout", time(times.header)),
            ("--grace", time(times.grace)),
        ];
        for (option, value) in limits {
            server.run.extend([option.to_owned(), value]);
        }
        server.run.extend(plan.arguments.iter().cloned());
    }
    let target = Target::start(&server, root, &Options::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a runtime for the peers")?;
    let world = World::new(target.address(), ours, times, plan.rate_per_s);
    let mut course = Course {
        pid: target.pid(),
        target: Some(target),
        plan,
        progress,
        crowd: Crowd::new(&Rc::new(world), plan.connections, &plan.only, plan.seed),
        report,
    };
    LocalSet::new().block_on(&runtime, async {
        if course.until_stop().await == Alive::Yes {
            course.stop().await;
        } else {
            course.died();
        }
    });
    Ok(())
}

struct Course<'a> {
    /// `None` once the process is reaped.
    target: Option<Target>,
    pid: u32,
    plan: &'a Plan,
    progress: &'a Progress,
    crowd: Crowd,
    report: &'a mut Report,
}

/// Whether the server still runs.
#[derive(Debug, PartialEq, Eq)]
enum Alive {
    Yes,
    No,
}

impl Course<'_> {
    /// All that comes before SIGTERM.
    async fn until_stop(&mut self) -> Alive {
        if let Err(end) = self.begin().await {
            self.fail("start", &told(&end));
            return Alive::No;
        }
        let alive = self.mix().await;
        self.judge_peers();
        if alive == Alive::No {
            return Alive::No;
        }
        self.judge_memory();
        self.quiet().await;
        self.mix_again().await;
        self.alive()
    }

    /// Checks that the server answers, samples it before the first peer, and finds out whether silent peers keep it
    /// from serving others.
    async fn begin(&mut self) -> Result<(), End> {
        self.progress.say("begins");
        let world = Rc::clone(self.crowd.world());
        ask(&world).await?;
        let before = self.settle().await;
        self.report.files.before = before.files;
        self.report.threads.before = before.threads;
        let starves = starves(&world, self.plan.connections).await?;
        self.report.starves = Some(starves);
        world.may_starve.set(starves || self.plan.may_starve);
        Ok(())
    }

    /// Runs the mix of peers for its time, or until the server is gone.
    async fn mix(&mut self) -> Alive {
        let Course {
            target,
            pid,
            plan,
            progress,
            crowd,
            report,
        } = self;
        let has_ended = || target.as_ref().is_none_or(Target::has_ended);
        let world = Rc::clone(crowd.world());
        let begin = Instant::now();
        let first = Sample::of(*pid).unwrap_or_default();
        let samples = &mut report.samples;
        let watch = async {
            let every = (plan.time / 100).clamp(Duration::from_millis(50), Duration::from_secs(1));
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while begin.elapsed() < plan.time && !has_ended() {
                ticks.tick().await;
                let Ok(sample) = Sample::of(*pid) else {
                    continue;
                };
                let elapsed = begin.elapsed();
                samples.push(At {
                    s: elapsed.as_secs_f64(),
                    sample,
                });
                let tally = world.tally.borrow();
                progress.show(Moment {
                    elapsed,
                    time: plan.time,
                    answers: tally.answers(),
                    gave_up: tally.sum(|of| of.gave_up),
                    faults: tally.faults(),
                    sample,
                });
            }
        };
        crowd.mix(watch).await;
        report.time_s = begin.elapsed().as_secs_f64();
        let last = report.samples.last().map_or(first, |at| at.sample);
        report.cpu_s = (last.cpu_ticks.saturating_sub(first.cpu_ticks)) as f64 / 100.0;
        let most = |of: fn(&Sample) -> u64| {
            let all = report.samples.iter().map(|at| of(&at.sample));
            all.max().unwrap_or_default()
        };
        report.files.max = most(|sample| sample.files);
        report.threads.max = most(|sample| sample.threads);
        self.alive()
    }

    /// Lets all peers leave. Then none of their resources may be left.
    async fn quiet(&mut self) {
        self.progress.say("all peers leave");
        let world = Rc::clone(self.crowd.world());
        world.stage.send_replace(Stage::Leaving);
        let leave = async { while self.crowd.one_leaves().await {} };
        // A peer waits for its patience at most, but may have several steps to wait for.
        if timeout(3 * world.times.patience, leave).await.is_err() {
            self.fail(
                "soak",
                &format!("{} peers do not leave", self.crowd.alive()),
            );
        }
        let sample = self.settle().await;
        self.report.files.after = sample.files;
        self.report.threads.after = sample.threads;
        let ours = world.ours;
        if let Some(failure) = not_back("descriptors", &self.report.files) {
            self.report.failures.push(failure);
        }
        // Servers of others may keep threads.
        let threads = not_back("threads", &self.report.threads).filter(|_| ours);
        self.report.failures.extend(threads);

        sleep(QUIET).await;
        if let Ok(later) = Sample::of(self.pid) {
            let ticks = later.cpu_ticks - sample.cpu_ticks;
            if ticks > QUIET_TICKS_MAX {
                let time = ticks * 10;
                self.fail(
                    "quiet",
                    &format!("{time} ms of CPU time in {QUIET:?} with nobody there"),
                );
            }
            self.report.quiet = Some(later);
        }
    }

    /// Runs the mix again, so that SIGTERM meets a complete crowd, or until the server is gone.
    async fn mix_again(&mut self) {
        self.progress.say("the mix again, then SIGTERM");
        self.crowd.world().stage.send_replace(Stage::Mix);
        let again = (self.plan.time / 20).clamp(AGAIN_MIN, AGAIN_MAX);
        let target = self.target.as_ref();
        self.crowd.mix(ended_or_after(target, again)).await;
    }

    /// Sends SIGTERM to the crowd's server, and watches it end.
    async fn stop(&mut self) {
        let world = Rc::clone(self.crowd.world());
        let (answers, refused) = {
            let tally = world.tally.borrow();
            (tally.answers(), tally.sum(|of| of.refused))
        };

        let since = Instant::now();
        world.stage.send_replace(Stage::Stopping(since));
        let _ = kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGTERM);
        let deadline = since + world.times.grace + STOP_MARGIN;
        // Some peers come after the signal.
        let target = self.target.as_ref();
        self.crowd.mix(ended_or_after(target, NEWCOMERS)).await;
        while !self.has_ended() && Instant::now() < deadline {
            let _ = timeout(LOOK_EVERY, self.one_leaves()).await;
        }
        let took = since.elapsed();
        let in_time = self.has_ended();
        // Their connections are closed, which ends these peers.
        let found_out = Instant::now() + world.times.patience;
        while self.crowd.honest() > 0 && Instant::now() < found_out {
            let _ = timeout(Duration::from_millis(100), self.one_leaves()).await;
        }
        let tally = world.tally.borrow();
        let stop = Stop {
            took_s: took.as_secs_f64(),
            ended: String::new(),
            answers: tally.answers() - answers,
            refused: tally.sum(|of| of.refused) - refused,
        };
        drop(tally);
        self.judge_peers();
        self.judge_stop(stop, in_time);
    }

    async fn one_leaves(&mut self) {
        if !self.crowd.one_leaves().await {
            std::future::pending::<()>().await;
        }
    }

    /// What the peers have seen so far.
    fn judge_peers(&mut self) {
        let world = Rc::clone(self.crowd.world());
        let tally = world.tally.borrow();
        self.report.take(&tally);
        self.report
            .failures
            .retain(|failure| !failure.starts_with("peers: "));
        for Behaviour { name, .. } in &BEHAVIOURS {
            let Some(of) = tally.by_behaviour.get(name) else {
                continue;
            };
            for (kind, faults) in &of.faults {
                let count = faults.count;
                self.fail("peers", &format!("{name}: {kind} {count} x"));
            }
        }
        if tally.answers() == 0 && self.plan.only.is_empty() {
            self.fail("peers", "nobody was answered");
        }
    }

    fn judge_memory(&mut self) {
        let samples = self.report.samples.iter();
        let samples: Vec<(Duration, u64)> = samples
            .map(|at| (Duration::from_secs_f64(at.s), at.sample.rss_anon_kib))
            .collect();
        let Some(memory) = Memory::of(&samples, self.plan.time) else {
            return self.fail("memory", "too few samples to judge it");
        };
        if !memory.is_bounded() {
            self.fail(
                "memory",
                &format!(
                    "RssAnon grew by {:.1}%, from {} KiB to {} KiB, where {} KiB are allowed",
                    memory.growth_percent, memory.early_kib, memory.late_kib, memory.allowed_kib
                ),
            );
        }
        self.report.memory = Some(memory);
    }

    fn judge_stop(&mut self, mut stop: Stop, in_time: bool) {
        let ours = self.crowd.world().ours;
        // Connections may be open when the grace period is over.
        let cut_off = stop.took_s + 0.5 >= self.plan.grace.as_secs_f64();
        let ended = self.reap();
        stop.ended = match (in_time, ended.status.code()) {
            (true, Some(code)) => format!("exit status {code}"),
            (true, None) => ended.status.to_string(),
            (false, _) => "did not end".to_owned(),
        };
        if ours && !in_time {
            let took = stop.took_s;
            self.fail("stop", &format!("still there {took:.1} s after SIGTERM"));
        } else if ours && ended.status.code() != Some(0) {
            self.fail("stop", &format!("{} after SIGTERM", stop.ended));
        }
        self.report.stop = Some(stop);
        let (counters, rest) = counters::parse(&ended.stderr);
        if ours && !rest.is_empty() {
            self.fail("stderr", &rest.escape_default().to_string());
        }
        match &counters {
            Some(counters) => {
                for found in counters::contradictions(counters, &self.report.statuses) {
                    self.fail("counters", &found);
                }
                let left = counters["open"]
                    .as_u64()
                    .filter(|&open| open > 0 && !cut_off);
                if let Some(open) = left {
                    self.fail(
                        "counters",
                        &format!("open {open} before the end of the grace period"),
                    );
                }
            }
            None if ours && in_time => self.fail("counters", "none on stderr"),
            None => {}
        }
        self.report.counters = counters;
    }

    /// Handles a server that ended, or stopped answering, before it was told to stop.
    fn died(&mut self) {
        let by_itself = self.has_ended();
        let ended = self.reap();
        if by_itself {
            self.fail("death", &format!("it {ended} under load"));
        }
    }

    fn has_ended(&self) -> bool {
        self.target.as_ref().is_none_or(Target::has_ended)
    }

    fn alive(&self) -> Alive {
        match self.has_ended() {
            true => Alive::No,
            false => Alive::Yes,
        }
    }

    /// Ends the process if it still runs, and returns how it ended.
    fn reap(&mut self) -> Ended {
        let target = self.target.take().expect("is reaped once");
        target.stop(Duration::from_millis(500))
    }

    fn fail(&mut self, check: &str, what: &str) {
        self.report.failures.push(format!("{check}: {what}"));
    }

    /// Waits until descriptors and threads have returned to their number before the first peer, but no longer than
    /// the server may need to notice that all peers have left.
    async fn settle(&self) -> Sample {
        let world = self.crowd.world();
        let deadline = Instant::now()
            + match world.ours {
                true => world.times.idle + SETTLE,
                false => FOREIGN_SETTLE,
            };
        let before = (self.report.files.before, self.report.threads.before);
        let mut last = Sample::default();
        let mut unchanged = 0;
        loop {
            sleep(Duration::from_millis(50)).await;
            let sample = Sample::of(self.pid).unwrap_or_default();
            let threads_are_back = sample.threads <= before.1 || !world.ours;
            let is_back = sample.files <= before.0 && threads_are_back;
            let same = (sample.files, sample.threads) == (last.files, last.threads);
            unchanged = if same { unchanged + 1 } else { 0 };
            last = sample;
            let is_first = before == (0, 0) && unchanged >= 4;
            if is_first || is_back || Instant::now() >= deadline {
                return sample;
            }
        }
    }
}

/// How long, after its idle timeout, our server may take to notice that all peers have left: some connections
/// linger, and some wait in queues although they are dead.
const SETTLE: Duration = Duration::from_secs(8);

/// How long the quiet server is watched, and how much CPU time in ticks it may use: enough for some timers, not for
/// a loop.
const QUIET: Duration = Duration::from_secs(1);
const QUIET_TICKS_MAX: u64 = 10;

/// Duration of the mix before SIGTERM.
const AGAIN_MIN: Duration = Duration::from_millis(1500);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// How often the soak checks whether the server has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long new peers keep coming after SIGTERM.
const NEWCOMERS: Duration = Duration::from_millis(300);

/// How long the exit may take after the grace period on a busy machine.
const STOP_MARGIN: Duration = Duration::from_secs(1);

/// Completes when the server has ended, after `time` at the latest.
async fn ended_or_after(target: Option<&Target>, time: Duration) {
    let since = Instant::now();
    while !target.is_none_or(Target::has_ended) && since.elapsed() < time {
        sleep(LOOK_EVERY).await;
    }
}

fn not_back(what: &str, levels: &Levels) -> Option<String> {
    let Levels { before, after, .. } = levels;
    (after > before)
        .then(|| format!("{what}: {after} when all peers had left, {before} before the first came"))
}

fn told(end: &End) -> String {
    match end {
        End::Fault(fault) => format!("{}: {}", fault.kind, fault.story),
        other => format!("{other:?}"),
    }
}
