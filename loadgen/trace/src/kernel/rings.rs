//! The ring buffers that the kernel writes events into, and the thread that empties them.

use std::os::fd::AsRawFd as _;
use std::sync::mpsc::{self, Receiver};
use std::{fs, io, thread};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::errno::Errno;
use perf_event::data::Record;
use perf_event::events::Tracepoint;
use perf_event::{Builder, Clock, ReadFormat, SampleFlag, Sampler};

use super::events::{Kind, Layout};
use super::gathered::Gathered;
use crate::clock::now_ns;
use engine::affinity::CpuList;
use engine::limits::{FILES_RESERVED, raise_files};

/// The largest ring. It holds some ten thousand system calls: a tenth of a second of a busy CPU,
/// during which the thread gets its turn.
const RING_BYTES_MAX: usize = 4 << 20;
/// The smallest ring.
const RING_BYTES_MIN: usize = 64 << 10;
/// The limit for all rings together, on a machine with many CPUs.
const RINGS_BYTES: usize = 128 << 20;

/// A record has a header of 8 bytes, two numbers, a time, and the event's data.
const RECORD_BYTES_MIN: usize = 32;

const STOP: Token = Token(usize::MAX);

/// The thread that empties the rings.
#[derive(Debug)]
pub(super) struct Drain {
    waker: Waker,
    gathered: Receiver<io::Result<Gathered>>,
    begun_ns: u64,
}

impl Drain {
    /// Opens and enables the tracepoints on every CPU.
    pub(super) fn start(layout: Layout) -> io::Result<Self> {
        let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
        let CpuList(cpus) = (online.trim().parse())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let kinds = [Kind::Exit, Kind::Enter, Kind::Change];
        // Should they not suffice, opening a ring fails with its own message.
        _ = raise_files((kinds.len() * cpus.len()) as u64 + FILES_RESERVED);
        let mut rings = Vec::new();
        for kind in kinds {
            for &cpu in &cpus {
                match Ring::open(kind, &layout, cpu, cpus.len()) {
                    Ok(ring) => rings.push(ring),
                    // The tracepoint was switched off just now.
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
        let (sender, gathered) = mpsc::sync_channel(1);
        // The thread ends by itself: see `stop`.
        let run = move || {
            let result = run(poll, &mut rings, &layout);
            // The receiver is gone if the trace was abandoned.
            sender.send(result).unwrap_or_default();
            drop(rings);
        };
        thread::Builder::new().name("trace".to_owned()).spawn(run)?;
        Ok(Drain {
            waker,
            gathered,
            begun_ns: now_ns(),
        })
    }

    /// Everything that happened since the start. The kernel takes a tenth of a second to release
    /// the last user of a tracepoint. Only the thread waits for that; if the process ends earlier,
    /// it waits too.
    pub(super) fn stop(self) -> io::Result<Gathered> {
        let within = self.begun_ns..now_ns();
        self.waker.wake()?;
        let gathered = self.gathered.recv().map_err(io::Error::other)?;
        // Events outside this period come from the setup of the trace itself.
        gathered.map(|mut gathered| {
            gathered.keep(&within);
            gathered
        })
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.waker.wake().unwrap_or_default();
    }
}

/// Empties the rings until told to stop.
fn run(mut poll: Poll, rings: &mut [Ring], layout: &Layout) -> io::Result<Gathered> {
    let mut gathered = Gathered::default();
    let mut events = Events::with_capacity(64);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if events.iter().any(|event| event.token() == STOP) {
            break;
        }
        for ring in &mut *rings {
            ring.take(layout, &mut gathered)?;
        }
    }
    // Once the rings are disabled, they can be emptied completely.
    for ring in &mut *rings {
        ring.sampler.disable()?;
    }
    for ring in &mut *rings {
        ring.take(layout, &mut gathered)?;
        // The kernel counted every event, whether it fit into the ring or not.
        gathered.lost += ring.sampler.read()?.saturating_sub(ring.samples);
    }
    Ok(gathered)
}

/// The ring of one tracepoint on one CPU.
struct Ring {
    kind: Kind,
    sampler: Sampler,
    /// The number of samples read.
    samples: u64,
}

impl Ring {
    fn open(kind: Kind, layout: &Layout, cpu: usize, cpus: usize) -> io::Result<Self> {
        let share = (RINGS_BYTES / 2 / cpus).clamp(RING_BYTES_MIN, RING_BYTES_MAX);
        let mut bytes = match kind {
            Kind::Enter | Kind::Exit => share,
            // State changes are far rarer than calls.
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
                Ok(sampler) => {
                    return Ok(Ring {
                        kind,
                        sampler,
                        samples: 0,
                    });
                }
                // Not enough memory, or not enough lockable memory.
                Err(_) if bytes > RING_BYTES_MIN => bytes /= 4,
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads everything in the ring, but at most its capacity: it may be filled as fast as it is
    /// emptied.
    fn take(&mut self, layout: &Layout, gathered: &mut Gathered) -> io::Result<()> {
        for _ in 0..RING_BYTES_MAX / RECORD_BYTES_MIN {
            let Some(record) = self.sampler.next_record() else {
                break;
            };
            // Other records report lost samples; the counter is more accurate.
            let Record::Sample(sample) = record.parse_record().map_err(io::Error::other)? else {
                continue;
            };
            self.samples += 1;
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
                    gathered.processes.entry(pid).or_default().push(event);
                }
            }
        }
        Ok(())
    }
}

fn malformed() -> io::Error {
    let message = "a record of a tracepoint is shorter than its format says";
    io::Error::new(io::ErrorKind::InvalidData, message)
}
