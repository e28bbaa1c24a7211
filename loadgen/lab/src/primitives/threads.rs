//! Creating threads, and threads that wake each other.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use super::clock::{Stopwatch, process_cpu, spin, thread_cpu, us_each};
use super::pair::{alone, both, pin};
use super::{Primitive, Samples};
use subject::machine::Pinning;

pub(super) fn measure(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    creation(pinning, samples)?;
    wakes(pinning, samples)?;
    wakes_remote(pinning, samples)
}

/// Threads created as in thread-per-connection, each of which does nothing.
fn creation(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    const ROUNDS: usize = 20;
    const THREADS: usize = 16;
    const STACK_BYTES: usize = 128 * 1024;
    let counted = [Primitive::PageFault, Primitive::Switch].map(|it| samples.median(it));
    let taken = alone(pinning, || {
        let mut taken = Vec::new();
        for _ in 0..ROUNDS {
            let (before, begin) = (getrusage(UsageWho::RUSAGE_SELF)?, process_cpu()?);
            thread::scope(|scope| {
                let start = |_| {
                    let thread = thread::Builder::new().stack_size(STACK_BYTES);
                    thread.spawn_scoped(scope, || ()).map(drop)
                };
                (0..THREADS).try_for_each(start)
            })?;
            // The last one may still be exiting.
            thread::sleep(Duration::from_micros(200));
            let (after, end) = (getrusage(UsageWho::RUSAGE_SELF)?, process_cpu()?);
            let faults = after.minor_page_faults() - before.minor_page_faults();
            let switches = after.voluntary_context_switches() - before.voluntary_context_switches()
                + after.involuntary_context_switches()
                - before.involuntary_context_switches();
            let counts = [faults, switches].map(|count| count as f64 / THREADS as f64);
            let elsewhere = counts[0] * counted[0] + counts[1] * counted[1];
            taken.push(us_each(end - begin, THREADS) - elsewhere);
        }
        Ok(taken)
    })?;
    for us in taken {
        samples.add(Primitive::Thread, us);
    }
    Ok(())
}

/// Many threads wait on the CPU of the thread that wakes them all.
fn wakes(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    const ROUNDS: usize = 10;
    const THREADS: usize = 32;
    let (stop, woken) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (wakes, waits) = alone(pinning, || {
        thread::scope(|scope| {
            let start = |_| {
                let wait = || wait_again_and_again(&stop, &woken);
                thread::Builder::new().spawn_scoped(scope, wait)
            };
            let threads: Vec<_> = (0..THREADS).map(start).collect();
            if threads.iter().any(Result::is_err) {
                // Threads that were started must not wait forever.
                stop.store(true, SeqCst);
                let started = threads.iter().flatten();
                started.for_each(|it| it.thread().unpark());
            }
            let threads: Vec<_> = threads.into_iter().collect::<io::Result<_>>()?;
            let wake_all = || threads.iter().for_each(|it| it.thread().unpark());
            let stopwatch = Stopwatch::new()?;
            let mut wakes = Vec::new();
            for round in 0..=ROUNDS {
                // They run while this thread sleeps.
                let patience = Instant::now() + Duration::from_secs(5);
                while woken.load(SeqCst) < round * THREADS && Instant::now() < patience {
                    thread::sleep(Duration::from_micros(100));
                }
                thread::sleep(Duration::from_millis(1));
                if round == ROUNDS {
                    stop.store(true, SeqCst);
                    wake_all();
                } else {
                    let ((), took) = stopwatch.time(|| {
                        wake_all();
                        Ok(())
                    })?;
                    wakes.push(us_each(took, THREADS));
                }
            }
            let join = |it: thread::ScopedJoinHandle<'_, _>| it.join().expect("it does not panic");
            let waits = threads.into_iter().map(join);
            Ok((wakes, waits.collect::<io::Result<Vec<f64>>>()?))
        })
    })?;
    for us in wakes {
        samples.add(Primitive::FutexWake, us);
    }
    for us in waits {
        samples.add(Primitive::FutexWait, us);
    }
    Ok(())
}

/// Returns what a wait costs the waiting thread, including the context switch, in microseconds.
fn wait_again_and_again(stop: &AtomicBool, woken: &AtomicUsize) -> io::Result<f64> {
    let mut waits = 0;
    let begin = thread_cpu()?;
    while !stop.load(SeqCst) {
        thread::park();
        woken.fetch_add(1, SeqCst);
        waits += 1;
    }
    Ok(us_each(thread_cpu()? - begin, waits.max(1)))
}

/// One thread waits on the client's idle CPU, and is woken from the server's.
fn wakes_remote(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    const ROUNDS: u64 = 100;
    const FALLS_ASLEEP: Duration = Duration::from_micros(50);
    let (sleeper, stop) = (std::sync::OnceLock::<Thread>::new(), AtomicBool::new(false));
    let taken = both(
        pinning,
        |clients, _| {
            let stopwatch = Stopwatch::new()?;
            let wake = |round: u64| {
                clients.wait_for(round)?;
                spin(FALLS_ASLEEP);
                let thread = sleeper.get().expect("it is set before the first turn");
                if round == ROUNDS {
                    stop.store(true, SeqCst);
                }
                let ((), took) = stopwatch.time(|| {
                    thread.unpark();
                    Ok(())
                })?;
                Ok(us_each(took, 1))
            };
            (1..=ROUNDS).map(wake).collect::<io::Result<Vec<f64>>>()
        },
        |_, clients| {
            pin(&pinning.client)?;
            sleeper.get_or_init(thread::current);
            let mut round = 0;
            while !stop.load(SeqCst) {
                round += 1;
                clients.reach(round);
                thread::park_timeout(Duration::from_secs(1));
            }
            Ok(())
        },
    )?;
    for us in taken {
        samples.add(Primitive::FutexWakeRemote, us);
    }
    Ok(())
}
