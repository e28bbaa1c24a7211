//! The buffers into which the kernel writes what happens, and the thread that empties them.

use std::collections::HashMap;
use std::os::fd::AsRawFd as _;
use std::thread::{self, JoinHandle};
use std::{fs, io};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::errno::Errno;
use perf_event::data::Record;
use perf_event::events::Tracepoint;
use perf_event::{Builder, Clock, ReadFormat, SampleFlag, Sampler};

use super::events::{Event, Kind, Layout, StateChange};
use crate::machine::CpuList;

/// One that holds some ten thousand system calls. At the rate of a busy CPU that is a tenth of a second,
/// within which the thread has its turn.
const RING_BYTES_MAX: usize = 4 << 20;
/// Of any.
const RING_BYTES_MIN: usize = 64 << 10;
/// Of all together, on a machine with many CPUs.
const RINGS_BYTES: usize = 128 << 20;

/// Events that are kept of one process. A process that is traced has a few hundred; a neighbour that does not
/// stop calling is not to fill the memory.
const EVENTS_PER_PROCESS_MAX: usize = 1 << 17;

const STOP: Token = Token(usize::MAX);

/// The thread that empties the buffers.
#[derive(Debug)]
pub(super) struct Drain {
    waker: Waker,
    /// Until it is stopped.
    thread: Option<JoinHandle<io::Result<Gathered>>>,
}

/// All that was written into them.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Of any socket, in no order.
    pub(super) changes: Vec<StateChange>,
    /// By process.
    pub(super) processes: HashMap<u32, Process>,
    /// Events for which there was no room in a buffer, whosoever they were.
    pub(super) lost: u64,
}

/// What one process did.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// In no order.
    pub(super) events: Vec<Event>,
    /// Those beyond what is kept.
    pub(super) lost: u64,
}

impl Drain {
    /// Opens and enables the tracepoints on every CPU.
    pub(super) fn start(layout: Layout) -> io::Result<Self> {
        let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
        let CpuList(cpus) = (online.trim().parse())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut rings = Vec::new();
        for kind in [Kind::Exit, Kind::Enter, Kind::Change] {
            for &cpu in &cpus {
                match Ring::open(kind, &layout, cpu, cpus.len()) {
                    Ok(ring) => rings.push(ring),
                    // It was switched off just now.
                    Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let poll = Poll::new()?;
        for (index, ring) in rings.iter().enumerate() {
            let fd = ring.sampler.as_raw_fd();
            let registry = poll.registry();
            registry.register(&mut SourceFd(&fd), Token(index), Interest::READABLE)?;
        }
        let waker = Waker::new(poll.registry(), STOP)?;
        for ring in &mut rings {
            ring.sampler.enable()?;
        }
        let thread = thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || run(poll, rings, &layout))?;
        Ok(Drain {
            waker,
            thread: Some(thread),
        })
    }

    /// Disables and closes them.
    pub(super) fn stop(mut self) -> io::Result<Gathered> {
        self.join()
    }

    fn join(&mut self) -> io::Result<Gathered> {
        let Some(thread) = self.thread.take() else {
            return Ok(Gathered::default());
        };
        self.waker.wake()?;
        match thread.join() {
            Ok(gathered) => gathered,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        // Nobody asks for what was gathered.
        self.join().map(drop).unwrap_or_default();
    }
}

fn run(mut poll: Poll, mut rings: Vec<Ring>, layout: &Layout) -> io::Result<Gathered> {
    let mut gathered = Gathered::default();
    let mut events = Events::with_capacity(64);
    while !events.iter().any(|event| event.token() == STOP) {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for ring in &mut rings {
            ring.empty(layout, &mut gathered)?;
        }
    }
    for ring in &mut rings {
        ring.sampler.disable()?;
    }
    for ring in &mut rings {
        ring.empty(layout, &mut gathered)?;
    }
    Ok(gathered)
}

/// Of one tracepoint on one CPU.
struct Ring {
    kind: Kind,
    sampler: Sampler,
}

impl Ring {
    fn open(kind: Kind, layout: &Layout, cpu: usize, cpus: usize) -> io::Result<Self> {
        let share = (RINGS_BYTES / 2 / cpus).clamp(RING_BYTES_MIN, RING_BYTES_MAX);
        let mut bytes = match kind {
            Kind::Enter | Kind::Exit => share,
            // There are fewer of them by far.
            Kind::Change => share / 4,
        };
        loop {
            let counter = Builder::new(Tracepoint::with_id(layout.id(kind)))
                .any_pid()
                .one_cpu(cpu)
                .include_kernel()
                .read_format(ReadFormat::empty())
                .sample_period(1)
                .sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::RAW)
                .clockid(Clock::MONOTONIC)
                .wakeup_watermark(bytes / 4)
                .enabled(false)
                .build()?;
            match counter.sampled(bytes) {
                Ok(sampler) => return Ok(Ring { kind, sampler }),
                // There is not so much memory, or it may not be locked.
                Err(_) if bytes > RING_BYTES_MIN => bytes /= 4,
                Err(error) => return Err(error),
            }
        }
    }

    fn empty(&mut self, layout: &Layout, gathered: &mut Gathered) -> io::Result<()> {
        while let Some(record) = self.sampler.next_record() {
            match record.parse_record().map_err(io::Error::other)? {
                Record::Sample(sample) => {
                    let fields = (sample.time(), sample.pid(), sample.tid(), sample.raw());
                    let (Some(at_ns), Some(pid), Some(tid), Some(raw)) = fields else {
                        return Err(malformed());
                    };
                    match self.kind {
                        Kind::Change => {
                            let change = layout.change(at_ns, raw).ok_or_else(malformed)?;
                            gathered.changes.push(change);
                        }
                        Kind::Enter | Kind::Exit => {
                            let event = layout.call(self.kind, at_ns, tid, raw);
                            let event = event.ok_or_else(malformed)?;
                            gathered.processes.entry(pid).or_default().keep(event);
                        }
                    }
                }
                Record::Lost(lost) => gathered.lost += lost.lost,
                // None was asked for.
                _ => {}
            }
        }
        Ok(())
    }
}

impl Process {
    fn keep(&mut self, event: Event) {
        match self.events.len() < EVENTS_PER_PROCESS_MAX {
            true => self.events.push(event),
            false => self.lost += 1,
        }
    }
}

fn malformed() -> io::Error {
    let message = "a record of a tracepoint is shorter than its format says";
    io::Error::new(io::ErrorKind::InvalidData, message)
}
