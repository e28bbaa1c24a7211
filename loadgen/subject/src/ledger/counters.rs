//! Counters on the threads of a server.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};

use engine::limits::{FILES_RESERVED, raise_files};
use nix::errno::Errno;
use perf_event::events::{Event, Software, Tracepoint};
use perf_event::{Builder, Counter, ReadFormat};

use super::tracefs::{Numbers, PARANOID, refused};
use super::{Counts, EVENTS, Error, OTHER};
use crate::process::Processes;

/// The tracepoints of this machine, available and permitted; keep this while servers are counted.
#[derive(Debug)]
pub struct Tracepoints {
    numbers: Numbers,
    /// One counter on each tracepoint, which counts nothing. The kernel takes tens of milliseconds to release the last
    /// user of a tracepoint; while these exist, no other counter is the last.
    _held: Vec<Held>,
}

impl Tracepoints {
    /// Finds the tracepoints, and mounts `tracefs` if it is not mounted and this process may mount
    /// it.
    ///
    /// # Errors
    ///
    /// If counting is not permitted (the error says what to do), or the kernel has no such
    /// tracepoints.
    pub fn open() -> Result<Self, Error> {
        let numbers = Numbers::find()?;
        let all = numbers.calls.iter().map(|&(_, number)| number);
        let hold = |number| {
            let mut builder = Builder::new(Tracepoint::with_id(number));
            let counter = builder.include_kernel().enabled(false).build();
            counter.map(Held).map_err(|error| refused(&error, PARANOID))
        };
        let held = all.chain([numbers.all_calls]).map(hold);
        Ok(Tracepoints {
            _held: held.collect::<Result<_, _>>()?,
            numbers,
        })
    }
}

struct Held(#[expect(dead_code, reason = "it is there to be open")] Counter);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

/// Software events in the order of [`EVENTS`].
const SOFTWARE: [Software; EVENTS.len()] = [
    Software::CONTEXT_SWITCHES,
    Software::CPU_MIGRATIONS,
    Software::PAGE_FAULTS,
];

/// How many times the threads are looked up again if some came or went while counters were
/// attached.
const TRIES: usize = 20;

/// Counts the operations of all threads of a server between [`begin`](Counters::begin) and
/// [`end`](Counters::end), including threads that start or end meanwhile.
#[derive(Debug)]
pub struct Counters {
    names: Vec<&'static str>,
    threads: Vec<Thread>,
}

/// The counters of one thread and of everything that it starts.
struct Thread {
    /// Counts all system calls. It leads the group: while it is stopped, so are the others.
    all_calls: Counter,
    calls: Vec<Counter>,
    events: Vec<Counter>,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread").finish_non_exhaustive()
    }
}

impl Counters {
    /// Attaches stopped counters to every thread of these processes, or of the group that a process
    /// leads with everything that it has started. Call this while they are at rest; counting starts
    /// with [`begin`](Counters::begin).
    ///
    /// # Errors
    ///
    /// If counting is not permitted (the error says what to do), if there is no such process, or if
    /// its threads keep coming and going.
    pub fn attach(
        tracepoints: &Tracepoints,
        processes: impl Into<Processes>,
    ) -> Result<Self, Error> {
        let numbers = &tracepoints.numbers;
        let processes = processes.into();
        for _ in 0..TRIES {
            let tids = threads_of(processes)?;
            let files = tids.len() * (1 + numbers.calls.len() + SOFTWARE.len());
            // Should they not suffice, opening a counter fails with its own message.
            _ = raise_files(files as u64 + FILES_RESERVED);
            let attached = tids.iter().map(|&tid| Thread::attach(tid, numbers));
            match attached.collect::<Result<Vec<_>, _>>() {
                // A thread that started meanwhile may or may not be counted with its parent.
                Ok(threads) if threads_of(processes)? == tids => {
                    let names = numbers.calls.iter().map(|(name, _)| *name).collect();
                    return Ok(Counters { names, threads });
                }
                Ok(_) => {}
                // The thread has just ended.
                Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(refused(&error, PARANOID));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Io(io::Error::other(
            "threads of the server came and went before there was any load",
        )))
    }

    /// Starts counting.
    ///
    /// # Errors
    ///
    /// If the kernel reports an error.
    pub fn begin(&mut self) -> Result<(), Error> {
        for thread in &mut self.threads {
            thread.all_calls.enable()?;
        }
        Ok(())
    }

    /// Stops counting.
    ///
    /// # Errors
    ///
    /// If the kernel reports an error.
    pub fn stop(&mut self) -> Result<(), Error> {
        for thread in &mut self.threads {
            thread.all_calls.disable()?;
        }
        Ok(())
    }

    /// Stops counting, and returns the counts since [`begin`](Counters::begin).
    ///
    /// # Errors
    ///
    /// If the kernel reports an error.
    pub fn end(mut self) -> Result<Counts, Error> {
        self.stop()?;
        self.read()
    }

    /// Returns the counts between [`begin`](Counters::begin) and [`stop`](Counters::stop).
    ///
    /// # Errors
    ///
    /// If the kernel reports an error.
    pub fn read(mut self) -> Result<Counts, Error> {
        let mut counts = Counts::default();
        let mut other = 0;
        for thread in &mut self.threads {
            let mut named = 0;
            for (name, counter) in self.names.iter().zip(&mut thread.calls) {
                let count = counter.read()?;
                named += count;
                *counts.calls.entry((*name).to_owned()).or_default() += count;
            }
            other += thread.all_calls.read()?.saturating_sub(named);
            for (name, counter) in EVENTS.iter().zip(&mut thread.events) {
                *counts.events.entry((*name).to_owned()).or_default() += counter.read()?;
            }
        }
        counts.calls.insert(OTHER.to_owned(), other);
        Ok(counts)
    }
}

impl Thread {
    fn attach(tid: i32, numbers: &Numbers) -> io::Result<Self> {
        let mut all_calls = builder(Tracepoint::with_id(numbers.all_calls), tid)
            .enabled(false)
            .build()?;
        let mut member =
            |mut builder: Builder<'static>| builder.enabled(true).build_with_group(&mut all_calls);
        let calls = (numbers.calls.iter())
            .map(|&(_, id)| member(builder(Tracepoint::with_id(id), tid)))
            .collect::<io::Result<_>>()?;
        let events = (SOFTWARE.into_iter())
            .map(|event| member(builder(event, tid)))
            .collect::<io::Result<_>>()?;
        Ok(Thread {
            all_calls,
            calls,
            events,
        })
    }
}

/// A builder of counters for this thread, and everything that it starts, on any CPU.
fn builder(event: impl Event, tid: i32) -> Builder<'static> {
    let mut builder = Builder::new(event);
    builder
        .observe_pid(tid)
        .any_cpu()
        .inherit(true)
        // Switches and system calls happen inside the kernel.
        .include_kernel()
        .read_format(ReadFormat::empty());
    builder
}

/// All threads of these processes.
fn threads_of(processes: Processes) -> io::Result<BTreeSet<i32>> {
    let mut tids = BTreeSet::new();
    for pid in processes.members()? {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        tids.extend(tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse::<i32>().ok()));
    }
    Ok(tids)
}
