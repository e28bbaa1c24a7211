//! The send/receive loop: threads that each handle a share of the connections.
//!
//! A run has three parts: the warm-up, the counted time, and the drain. During the drain, requests
//! that were due before the end are still sent and awaited, so that the slowest are not cut off.
//! Idle connections are opened before the run and closed after it.

mod connection;
mod idle;
mod live;
mod pacer;
mod pulse;
mod requests;
mod schedule;
mod timer;
mod unasked;
mod worker;

use std::io;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::affinity;
use crate::contention;
use crate::cpu_time::CpuTime;
use crate::latency;
use crate::plan::{Close, Limit, Pace, Plan};
use crate::ports;
use crate::record::{ClientCost, Outcome, Record, Serial, latency_histogram};
use crate::response::Response;
use crate::silence;

use connection::{Connection, State};
use idle::Idle;
pub use live::Live;
use live::Mailbox;
use worker::Worker;

/// A moment of a run, reported to an observer.
#[derive(Debug, Clone, Copy)]
pub enum Moment<'a> {
    /// This many idle connections are open and served: none, half, or all of those requested. No other
    /// connection exists yet. Reported only if the plan has idle connections and no failure occurred.
    Idle(usize),
    /// The warm-up is over: requests count from here on. Without a warm-up, no connection exists yet.
    Begin(Live<'a>),
    /// Reported several times a second.
    Tick(&'a Tick<'a>),
    /// The run's time is over, or all requests are answered. Requests in flight are awaited; no
    /// connection has been closed yet because of the end.
    End(Live<'a>),
}

/// The progress of a run.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// Time since the start, including the warm-up.
    pub elapsed: Duration,
    /// Time since the previous report.
    pub interval: Duration,
    /// Responses within the interval, including the warm-up.
    pub interval_responses: u64,
    /// The number of all responses.
    pub live: Live<'a>,
    /// Counted requests that are answered so far.
    pub responses: u64,
    /// Errors so far.
    pub errors: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Response times of the counted requests, in nanoseconds.
    pub response: &'a hdrhistogram::Histogram<u64>,
}

/// Runs `plan`. Ends early if `interrupted` becomes true, with what was seen until then.
///
/// # Errors
///
/// If the generator itself cannot run: no poll, no thread, or CPUs that it cannot be pinned to.
/// Failures of the server are in the record.
pub fn run(plan: &Plan, interrupted: &AtomicBool) -> io::Result<Outcome> {
    run_observed(plan, interrupted, &mut |_| {})
}

/// Runs `plan` like [`run`] and calls `on` at each [`Moment`], on the calling thread, which sleeps
/// otherwise.
///
/// # Errors
///
/// The same as for [`run`].
pub fn run_observed(
    plan: &Plan,
    interrupted: &AtomicBool,
    on: &mut dyn FnMut(Moment<'_>),
) -> io::Result<Outcome> {
    let mut idle = Idle::open(plan, interrupted, on)?;
    // Without a warm-up, the first readings are taken before there is anything to miss.
    let begun = (plan.warmup.is_zero()).then(|| Begun::now(plan, Live::default(), on));
    // The time of the run starts here.
    let shared = Shared::new(plan);
    let (done, all_done) = mpsc::channel();
    thread::scope(|scope| {
        let mut first_slot = 0;
        let threads: Vec<_> = (0..plan.threads)
            .map(|index| {
                let share = Share {
                    index,
                    first_slot,
                    connections: part(plan.connections as u64, plan.threads, index) as usize,
                    requests: match (plan.pace, plan.limit) {
                        (Pace::Closed, Limit::Requests(all)) => part(all, plan.threads, index),
                        // The end of the run limits the progress.
                        _ => u64::MAX,
                    },
                };
                first_slot += share.connections;
                let (done, shared) = (done.clone(), &shared);
                thread::Builder::new()
                    .name(format!("load-{index}"))
                    .spawn_scoped(scope, move || {
                        let part = Worker::new(shared, share).and_then(Worker::run);
                        if part.is_err() {
                            shared.failed.store(true, Relaxed);
                        }
                        // The receiver is gone only if the caller panics.
                        done.send(()).unwrap_or_default();
                        part
                    })
            })
            .collect::<io::Result<_>>()
            // Threads that did start must not continue alone.
            .inspect_err(|_| shared.failed.store(true, Relaxed))?;
        drop(done);

        let mut watch = Watch {
            shared: &shared,
            interrupted,
            all_done,
            running: threads.len(),
            response: latency_histogram(),
            checked_at: 0,
            last: (0, 0),
        };
        let begun = begun.unwrap_or_else(|| {
            watch.until(&|shared| shared.begin, on);
            Begun::now(plan, Live::of(&shared.mailboxes), on)
        });
        watch.until(&|shared| shared.end(), on);
        let cpu_at_end = CpuTime::now();
        let contention = begun.contention.finish();
        on(Moment::End(Live::of(&shared.mailboxes)));
        shared.end_told.store(true, Relaxed);
        let idle = idle.as_mut().map(Idle::look);
        watch.drain();
        let interrupted = watch.ended_early();

        let parts = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect::<io::Result<Vec<Part>>>()?;
        let parts = parts.into_iter().map(|part| part.disconnected(plan.close));
        let parts: Vec<Part> = parts.collect();
        // Reports that threads left since the last tick.
        for mailbox in &shared.mailboxes {
            mailbox.fetch(&mut watch.response, |_| {});
        }
        let steal = cpu_at_end.zip(begun.cpu).and_then(|(end, begin)| {
            end.steal_percent_since(&begin)
                .map(|percent| percent / 100.0)
        });
        let mut outcome = Outcome {
            interrupted,
            idle: idle.transpose()?,
            steal,
            ..merge(&shared, parts, &watch.response)
        };
        outcome.client.contention = contention;
        if outcome.is_too_short() {
            outcome.client.has_no_shares();
        }
        Ok(outcome)
    })
}

/// The readings at [`Moment::Begin`].
struct Begun {
    cpu: Option<CpuTime>,
    contention: contention::Watch,
}

impl Begun {
    fn now(plan: &Plan, live: Live<'_>, on: &mut dyn FnMut(Moment<'_>)) -> Self {
        let begun = Begun {
            cpu: CpuTime::now(),
            contention: contention::Watch::start(&plan.cpus),
        };
        on(Moment::Begin(live));
        begun
    }
}

/// The calling thread, which watches the others.
struct Watch<'a> {
    shared: &'a Shared<'a>,
    interrupted: &'a AtomicBool,
    all_done: mpsc::Receiver<()>,
    /// The number of threads that are not done.
    running: usize,
    /// Response times of the counted requests, as far as threads have reported them.
    response: Histogram<u64>,
    /// The number of samples at the last check of the precision.
    checked_at: u64,
    /// The time of the last progress report, and the responses by then.
    last: (u64, u64),
}

/// How long to wait for a server that was asked to close.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_millis(100);

/// Interval between progress reports.
const TICK: Duration = Duration::from_millis(200);

/// The precision is checked again after the sample has grown by this factor: frequent checks would
/// find a precise sample by chance.
const GROWTH: f64 = 1.25;

impl Watch<'_> {
    /// Watches until a time that may move, or until all threads are done. Progress is reported
    /// last.
    fn until(&mut self, time: &dyn Fn(&Shared<'_>) -> u64, on: &mut dyn FnMut(Moment<'_>)) {
        let mut is_told = false;
        loop {
            let left = time(self.shared).saturating_sub(self.shared.now());
            if left == 0 || self.running == 0 {
                break;
            }
            self.wait(TICK.min(Duration::from_nanos(left)));
            if self.interrupted.load(Relaxed) {
                self.shared.end_by(self.shared.now());
            }
            self.tick(on);
            is_told = true;
        }
        if !is_told {
            self.tick(on);
        }
    }

    /// Waits for the requests in flight, or for an interruption.
    fn drain(&mut self) {
        while self.running > 0 {
            self.wait(TICK);
            if self.interrupted.load(Relaxed) && !self.ended_early() {
                self.shared.enough.store(true, Relaxed);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        match self.all_done.recv_timeout(time) {
            Ok(()) => self.running -= 1,
            Err(RecvTimeoutError::Timeout) => {}
            // The remaining threads have panicked; joining them reports it.
            Err(RecvTimeoutError::Disconnected) => self.running = 0,
        }
    }

    fn ended_early(&self) -> bool {
        self.interrupted.load(Relaxed) && self.shared.end() < self.shared.planned_end
    }

    fn tick(&mut self, on: &mut dyn FnMut(Moment<'_>)) {
        let (mut errors, mut connections_open) = (0, 0);
        let mut serial = Serial::default();
        for mailbox in &self.shared.mailboxes {
            mailbox.fetch(&mut self.response, |tally| {
                errors += tally.errors;
                connections_open += tally.connections_open;
                serial.merge(tally.serial);
            });
        }
        let live = Live::of(&self.shared.mailboxes);
        let responses = live.responses();
        let now = self.shared.now();
        let (last, last_responses) = std::mem::replace(&mut self.last, (now, responses));
        on(Moment::Tick(&Tick {
            elapsed: Duration::from_nanos(now),
            interval: Duration::from_nanos(now - last),
            interval_responses: responses - last_responses,
            live,
            responses: self.response.len(),
            errors,
            connections_open,
            response: &self.response,
        }));
        if let Limit::Until(precision) = self.shared.plan.limit
            && self.response.len() as f64 >= GROWTH * self.checked_at as f64
            && !self.response.is_empty()
        {
            self.checked_at = self.response.len();
            let n_effective = latency::effective_size(self.response.len(), &serial);
            if latency::precise_enough(&self.response, n_effective, &precision) {
                self.shared.end_by(now);
            }
        }
    }
}

/// State shared by all threads. Times are nanoseconds since the start.
struct Shared<'a> {
    plan: &'a Plan,
    start: Instant,
    /// The time from which requests count.
    begin: u64,
    /// The time up to which requests count; `u64::MAX` if the run ends with its last request.
    end: AtomicU64,
    planned_end: u64,
    /// How long answers are awaited after the end.
    drain: u64,
    /// Answers are not awaited any longer.
    enough: AtomicBool,
    /// [`Moment::End`] was reported: connections that are no longer needed may be closed.
    end_told: AtomicBool,
    /// A thread could not start or run; the others end.
    failed: AtomicBool,
    /// At least one connection was established.
    reached: AtomicBool,
    /// The local addresses that connections use in turn; empty if the kernel chooses.
    sources: Vec<IpAddr>,
    /// For each request in the rotation, the length of its first response body.
    lengths: Vec<OnceLock<u64>>,
    /// One mailbox for each thread.
    mailboxes: Vec<Mailbox>,
    /// Each thread has its own CPU to spin on.
    spin: bool,
}

impl<'a> Shared<'a> {
    fn new(plan: &'a Plan) -> Self {
        let begin = nanoseconds(plan.warmup);
        let planned_end = match plan.limit {
            Limit::For(duration) => begin.saturating_add(nanoseconds(duration)),
            Limit::Until(precision) => begin.saturating_add(nanoseconds(precision.at_most)),
            Limit::Requests(requests) => {
                schedule::end_after(plan.pace, plan.seed, begin, requests).unwrap_or(u64::MAX)
            }
        };
        Shared {
            plan,
            begin,
            end: AtomicU64::new(planned_end),
            planned_end,
            drain: nanoseconds(plan.drain),
            enough: AtomicBool::new(false),
            end_told: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            reached: AtomicBool::new(false),
            sources: ports::sources(plan),
            lengths: plan.requests.iter().map(|_| OnceLock::new()).collect(),
            mailboxes: (0..plan.threads).map(|_| Mailbox::new()).collect(),
            spin: has_own_cpus(plan),
            start: Instant::now(),
        }
    }

    #[inline]
    fn now(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }

    #[inline]
    fn end(&self) -> u64 {
        self.end.load(Relaxed)
    }

    /// Ends the run at `time`, unless it ends earlier.
    fn end_by(&self, time: u64) {
        self.end.fetch_min(time, Relaxed);
    }

    /// Whether a body is as long as the first one for the same request; meaningless if another
    /// expectation is set.
    fn has_usual_length(&self, request: usize, response: Response) -> bool {
        self.plan.expect.is_some()
            || *self.lengths[request].get_or_init(|| response.body_bytes) == response.body_bytes
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether each thread can have a CPU to itself: the threads are pinned, by us or by the process
/// that started us, to enough CPUs, or there is one more CPU than threads.
fn has_own_cpus(plan: &Plan) -> bool {
    let allowed = affinity::own_cpus().len();
    let online = affinity::online_cpus().unwrap_or(allowed);
    match plan.cpus.len() {
        0 if allowed < online => allowed >= plan.threads,
        0 => allowed > plan.threads,
        cpus => cpus >= plan.threads && online > cpus,
    }
}

/// One thread's share of a plan.
#[derive(Debug, Clone, Copy)]
struct Share {
    index: usize,
    /// The number of the thread's first connection among all connections.
    first_slot: usize,
    connections: usize,
    requests: u64,
}

/// The result of one thread.
struct Part {
    record: Record,
    /// When the thread was done, in nanoseconds since the start.
    finished: u64,
    /// The connections, which stay open until [`Moment::End`] was reported, so that closing them
    /// costs the server nothing before that.
    connections: Vec<Connection>,
    cost: ClientCost,
    /// The period that the cost covers.
    span: Duration,
}

impl Part {
    fn disconnected(mut self, close: Close) -> Self {
        for connection in self.connections.drain(..) {
            if let State::Open(stream) = connection.state {
                connection::close(stream, close);
            }
        }
        self
    }
}

/// The share of `all` for thread `index` of `threads`; the first threads share the remainder.
fn part(all: u64, threads: usize, index: usize) -> u64 {
    let (threads, index) = (threads as u64, index as u64);
    all / threads + u64::from(index < all % threads)
}

/// Merges the threads' results; `response` holds the response times that were reported earlier.
fn merge(shared: &Shared<'_>, parts: Vec<Part>, response: &Histogram<u64>) -> Outcome {
    let finished = parts.iter().map(|part| part.finished).max().unwrap_or(0);
    let end = shared.end().min(finished);
    let duration = Duration::from_nanos(end.saturating_sub(shared.begin));
    let cpus = &shared.plan.cpus;
    let mut record = Record::new(0);
    let mut client = ClientCost {
        cpus: (!cpus.is_empty()).then(|| cpus.clone()),
        ..ClientCost::default()
    };
    let mut pauses = Vec::new();
    let most = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    };
    for Part {
        record: part,
        cost,
        span,
        ..
    } in parts
    {
        record.merge(part);
        client.cpu_user_s += cost.cpu_user_s;
        client.cpu_system_s += cost.cpu_system_s;
        client.spin_s += cost.spin_s;
        client.context_switches += cost.context_switches;
        let worked_s = cost.cpu_s() - cost.spin_s;
        client.stopped_s = client.stopped_s.max(cost.stopped_s);
        pauses.extend(cost.pauses);
        if let Some(delay_s) = cost.run_delay_s {
            *client.run_delay_s.get_or_insert_default() += delay_s;
        }
        if span.is_zero() {
            continue;
        }
        let share = |seconds: f64| (seconds / span.as_secs_f64()).clamp(0.0, 1.0);
        client.busy_by_thread.push(share(worked_s));
        client.busiest_thread = most(client.busiest_thread, Some(share(worked_s)));
        let wanted = cost.run_delay_s.map(|delay_s| share(worked_s + delay_s));
        client.busiest_thread_wanting = most(client.busiest_thread_wanting, wanted);
        let waited = cost.run_delay_s.map(share);
        client.longest_waiting_thread = most(client.longest_waiting_thread, waited);
    }
    client.pauses = silence::union(pauses);
    record
        .response
        .add(response)
        .expect("both have the same bounds");
    if shared.plan.pace == Pace::Closed {
        // In closed loop, the intended send time is the actual send time.
        record.service = record.response.clone();
    }
    Outcome {
        record,
        duration,
        interrupted: false,
        idle: None,
        client,
        steal: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_differ_by_one_at_most() {
        for (all, threads) in [(10, 3), (3, 3), (64, 1), (7, 4), (1_000_003, 7)] {
            let parts: Vec<u64> = (0..threads)
                .map(|index| part(all, threads, index))
                .collect();
            assert_eq!(parts.iter().sum::<u64>(), all);
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1);
        }
    }
}
