//! The counters of a server's threads.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use perf_event::events::{Event, Software, Tracepoint};
use perf_event::{Builder, Counter, ReadFormat};

use super::tracefs::{Numbers, PARANOID, refused};
use super::{Counts, EVENTS, Error, OTHER};
use crate::process::Processes;

/// The tracepoints of this machine, found and permitted; to be kept while servers are counted.
#[derive(Debug)]
pub struct Tracepoints {
    numbers: Numbers,
    /// One on each, which counts nothing. The kernel takes tens of milliseconds to be sure that the last
    /// user of a tracepoint is gone; as long as these are there, that is nobody else.
    _held: Vec<Held>,
}

impl Tracepoints {
    /// Finds them, and mounts `tracefs` where it is not and this process may.
    ///
    /// # Errors
    ///
    /// When counting is not permitted, with what to do; when the kernel has none.
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

/// In the order of [`EVENTS`].
const SOFTWARE: [Software; EVENTS.len()] = [
    Software::CONTEXT_SWITCHES,
    Software::CPU_MIGRATIONS,
    Software::PAGE_FAULTS,
];

/// How often the threads are looked up again, when some came or went while counters were put on them.
const TRIES: usize = 20;

/// Counts what all threads of a server do between [`begin`](Counters::begin) and
/// [`end`](Counters::end), those that begin or end meanwhile included.
#[derive(Debug)]
pub struct Counters {
    names: Vec<&'static str>,
    threads: Vec<Thread>,
}

/// Those of one thread and of all that it starts.
struct Thread {
    /// Of all system calls. Leads the group: while it stands, the others do.
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
    /// Puts counters on every thread of these processes, or of the group that a process leads with all that
    /// it has started; they stand until [`begin`](Counters::begin). To be called while they are at rest.
    ///
    /// # Errors
    ///
    /// When it is not permitted, with what to do; when there is no such process; when their threads come and go
    /// all the time.
    pub fn attach(
        tracepoints: &Tracepoints,
        processes: impl Into<Processes>,
    ) -> Result<Self, Error> {
        let numbers = &tracepoints.numbers;
        let processes = processes.into();
        for _ in 0..TRIES {
            let tids = threads_of(processes)?;
            allow_files(tids.len() * (1 + numbers.calls.len() + SOFTWARE.len()));
            let attached = tids.iter().map(|&tid| Thread::attach(tid, numbers));
            match attached.collect::<Result<Vec<_>, _>>() {
                // One that was started meanwhile is counted with its parent, or it is not: nobody knows.
                Ok(threads) if threads_of(processes)? == tids => {
                    let names = numbers.calls.iter().map(|(name, _)| *name).collect();
                    return Ok(Counters { names, threads });
                }
                Ok(_) => {}
                // It has just ended.
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

    /// From now on all is counted.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn begin(&mut self) -> Result<(), Error> {
        for thread in &mut self.threads {
            thread.all_calls.enable()?;
        }
        Ok(())
    }

    /// Stops, and tells what was counted since [`begin`](Counters::begin).
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn end(mut self) -> Result<Counts, Error> {
        for thread in &mut self.threads {
            thread.all_calls.disable()?;
        }
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

/// Of what this thread, and all that it starts, does on any CPU.
fn builder(event: impl Event, tid: i32) -> Builder<'static> {
    let mut builder = Builder::new(event);
    builder
        .observe_pid(tid)
        .any_cpu()
        .inherit(true)
        // Switches and system calls happen within the kernel.
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

/// Raises the limit of open files where need be, and where that is allowed; where it is not, opening them
/// fails and says so.
pub fn allow_files(more: usize) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && soft < more as u64 + engine::limits::FILES_RESERVED
    {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap_or_default();
    }
}
