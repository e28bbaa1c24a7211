//! What was read from the rings, before anything is made of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;

/// The limit of events per process. A traced process has a few hundred; another process that calls
/// without pause must not fill the memory.
const EVENTS_PER_PROCESS_MAX: usize = 1 << 17;

/// One half of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at_ns: u64,
    pub(super) tid: u32,
    /// The number of the call; on return, -1 if the kernel has forgotten it.
    pub(super) number: i64,
    pub(super) half: Half,
}

/// Which half of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// The entry, with the arguments.
    Enter([u64; 6]),
    /// The return, with the result.
    Exit(i64),
}

/// A socket of any protocol changes its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateChange {
    pub(super) at_ns: u64,
    pub(super) protocol: u16,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) socket: u64,
    pub(super) old: i32,
    pub(super) new: i32,
}

/// Everything that was written into the rings.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// State changes of all sockets, unordered.
    pub(super) changes: Vec<StateChange>,
    /// The events of each process.
    pub(super) processes: HashMap<u32, Process>,
    /// Events of any process that did not fit into a ring.
    pub(super) lost: u64,
}

/// The events of one process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Unordered.
    pub(super) events: Vec<Event>,
    /// Events beyond the limit.
    pub(super) lost: u64,
}

impl Gathered {
    pub(super) fn keep(&mut self, within: &Range<u64>) {
        self.changes.retain(|change| within.contains(&change.at_ns));
        for process in self.processes.values_mut() {
            process.events.retain(|event| within.contains(&event.at_ns));
        }
    }
}

impl Process {
    pub(super) fn push(&mut self, event: Event) {
        match self.events.len() < EVENTS_PER_PROCESS_MAX {
            true => self.events.push(event),
            false => self.lost += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ns: u64) -> Event {
        Event {
            at_ns,
            tid: 1,
            number: 0,
            half: Half::Exit(0),
        }
    }

    #[test]
    fn a_process_that_does_not_stop_calling() {
        let mut process = Process::default();
        for at_ns in 0..EVENTS_PER_PROCESS_MAX as u64 + 3 {
            process.push(event(at_ns));
        }
        assert_eq!(process.events.len(), EVENTS_PER_PROCESS_MAX);
        assert_eq!(process.lost, 3);
    }

    #[test]
    fn what_lies_outside_the_trace_is_dropped() {
        let mut process = Process::default();
        for at_ns in [9, 10, 19, 20] {
            process.push(event(at_ns));
        }
        let mut gathered = Gathered {
            processes: HashMap::from([(1, process)]),
            ..Gathered::default()
        };
        gathered.keep(&(10..20));
        let times: Vec<u64> = (gathered.processes[&1].events.iter())
            .map(|event| event.at_ns)
            .collect();
        assert_eq!(times, [10, 19]);
    }
}
