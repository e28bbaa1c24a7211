//! The send/receive loop: threads, each with its own share of the connections.

mod connection;
mod worker;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{Limit, Plan};
use crate::record::{ClientCost, Outcome, Record};

pub(crate) use connection::SOURCES;
use worker::Worker;

/// Tells an observer where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The warm-up is over: from here on requests count.
    Begin,
    /// The run is over; its connections may still be open.
    End,
}

/// Runs `plan`. Ends early when `interrupted` becomes true, with what was seen until then.
///
/// # Errors
///
/// When the generator itself cannot run: no poll, no thread, CPUs that cannot be pinned to. What goes
/// wrong with the server is in the record.
pub fn run(plan: &Plan, interrupted: &AtomicBool) -> io::Result<Outcome> {
    run_observed(plan, interrupted, &mut |_| {})
}

/// [`run`], calling `on` at the moments named, on the calling thread, which otherwise sleeps.
///
/// # Errors
///
/// As [`run`].
pub fn run_observed(
    plan: &Plan,
    interrupted: &AtomicBool,
    on: &mut dyn FnMut(Moment),
) -> io::Result<Outcome> {
    let shared = Shared::new(plan, interrupted);
    let (done, all_done) = mpsc::channel();
    let parts = thread::scope(|scope| {
        let mut first_slot = 0;
        let threads: Vec<_> = (0..plan.threads)
            .map(|index| {
                let share = Share {
                    index,
                    first_slot,
                    connections: part(plan.connections as u64, plan.threads, index) as usize,
                    requests: match plan.limit {
                        Limit::For(_) => u64::MAX,
                        Limit::Requests(all) => part(all, plan.threads, index),
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
            // Those which did start must not go on alone.
            .inspect_err(|_| shared.failed.store(true, Relaxed))?;
        drop(done);

        let mut running = threads.len();
        let mut wait_until = |time: Option<Instant>| {
            while running > 0 {
                let wait = time.map(|time| time.saturating_duration_since(Instant::now()));
                let event = match wait {
                    Some(wait) => all_done.recv_timeout(wait).is_ok(),
                    None => all_done.recv().is_ok(),
                };
                match event {
                    true => running -= 1,
                    false => return,
                }
            }
        };
        wait_until(Some(shared.begin));
        on(Moment::Begin);
        wait_until(shared.end);
        on(Moment::End);
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect::<io::Result<Vec<Part>>>()
    })?;
    Ok(merge(plan, parts, shared.is_interrupted()))
}

/// What all threads know.
struct Shared<'a> {
    plan: &'a Plan,
    interrupted: &'a AtomicBool,
    /// A thread could not start or run; the others end.
    failed: AtomicBool,
    /// A connection was established by some thread.
    reached: AtomicBool,
    start: Instant,
    /// From when on requests count.
    begin: Instant,
    /// `None` when the run ends with its last request.
    end: Option<Instant>,
}

impl<'a> Shared<'a> {
    fn new(plan: &'a Plan, interrupted: &'a AtomicBool) -> Self {
        let start = Instant::now();
        let begin = start + plan.warmup;
        Shared {
            plan,
            interrupted,
            failed: AtomicBool::new(false),
            reached: AtomicBool::new(false),
            start,
            begin,
            end: match plan.limit {
                Limit::For(duration) => Some(begin + duration),
                Limit::Requests(_) => None,
            },
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }
}

/// What one thread has to do of a plan.
#[derive(Debug, Clone, Copy)]
struct Share {
    index: usize,
    /// Number of its first connection among all.
    first_slot: usize,
    connections: usize,
    requests: u64,
}

/// What one thread comes back with.
struct Part {
    record: Record,
    duration: Duration,
    cost: ClientCost,
}

/// The part of `all` that falls to thread `index` of `threads`; the first ones share the remainder.
fn part(all: u64, threads: usize, index: usize) -> u64 {
    let (threads, index) = (threads as u64, index as u64);
    all / threads + u64::from(index < all % threads)
}

fn merge(plan: &Plan, parts: Vec<Part>, interrupted: bool) -> Outcome {
    let mut record = Record::new(0);
    let mut duration = Duration::ZERO;
    let mut client = ClientCost {
        cpus: (!plan.cpus.is_empty()).then(|| plan.cpus.clone()),
        ..ClientCost::default()
    };
    for part in parts {
        record.merge(part.record);
        duration = duration.max(part.duration);
        client.cpu_user_s += part.cost.cpu_user_s;
        client.cpu_system_s += part.cost.cpu_system_s;
        client.context_switches += part.cost.context_switches;
        client.busiest_thread = client.busiest_thread.max(part.cost.busiest_thread);
    }
    Outcome {
        record,
        duration,
        interrupted,
        client,
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
