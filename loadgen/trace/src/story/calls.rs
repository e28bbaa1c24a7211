//! Which connection a system call belongs to.
//!
//! Descriptor numbers are reused, so each life of a descriptor is tracked: from the call that
//! creates it to its `close`. A snapshot says which socket a life refers to; where there is none,
//! the order in which connections came about decides.

use crate::kernel::{descriptor, makes_descriptor};
use crate::model::{Call, Endpoints, Record, Side, What};

use super::flows::canonical;

/// The object of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// A connection, by number.
    Connection(usize),
    /// A listener, or a socket that was never connected.
    Listener,
    /// No socket: a wait for events, or thread creation.
    None,
    /// `accept`: the listener on entry, the connection on return.
    Accepted(usize),
}

/// What is known about a connection when calls are attributed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) endpoints: Endpoints,
    /// Time of the first segment, or of the first event if there are no segments.
    pub(super) begun_ns: u64,
    /// Time when the handshake is complete, so that the server may accept.
    pub(super) ready_ns: Option<u64>,
}

/// The object of each call; `None` for calls about files and other unrelated things.
pub(super) fn attribute(record: &Record, connections: &[Known]) -> Vec<Option<About>> {
    let mut lives = Lives {
        record,
        connections,
        lives: Vec::new(),
        accepted: vec![false; connections.len()],
        connected: vec![false; connections.len()],
    };
    lives.learn();
    (record.calls.iter())
        .map(|call| lives.about(call))
        .collect()
}

/// One life of a descriptor.
#[derive(Debug, Clone, Copy)]
struct Life {
    side: Side,
    pid: u32,
    fd: i32,
    from_ns: u64,
    until_ns: u64,
    about: Option<About>,
}

struct Lives<'a> {
    record: &'a Record,
    connections: &'a [Known],
    lives: Vec<Life>,
    accepted: Vec<bool>,
    connected: Vec<bool>,
}

impl Lives<'_> {
    fn learn(&mut self) {
        // A call's new descriptor exists from its return; a closed one is gone from the entry of
        // `close`.
        let mut calls: Vec<(u64, &Call)> = (self.record.calls.iter())
            .filter_map(|call| {
                let at_ns = if makes_descriptor(call).is_some() {
                    call.left_ns.or(call.entered_ns)
                } else {
                    call.entered_ns.or(call.left_ns)
                };
                Some((at_ns?, call))
            })
            .collect();
        calls.sort_by_key(|(at_ns, _)| *at_ns);
        for (at_ns, call) in calls {
            if let Some(made) = makes_descriptor(call) {
                let about = match call.name {
                    "accept" | "accept4" => {
                        self.listens(call, at_ns);
                        self.accepted(call, made, at_ns).map(About::Connection)
                    }
                    "socket" => self.held(call, made, at_ns, u64::MAX),
                    _ => descriptor(call)
                        .and_then(|fd| self.find(call, fd, at_ns))
                        .and_then(|life| self.lives[life].about),
                };
                self.end(call, made, at_ns);
                self.lives.push(Life {
                    side: call.side,
                    pid: call.pid,
                    fd: made,
                    from_ns: at_ns,
                    until_ns: u64::MAX,
                    about,
                });
                continue;
            }
            let Some(fd) = descriptor(call) else {
                continue;
            };
            match call.name {
                "close" => self.end(call, fd, at_ns),
                "listen" => self.listens(call, at_ns),
                "connect" if call.side == Side::Client => self.connects(call, fd, at_ns),
                _ => {}
            }
        }
    }

    fn end(&mut self, call: &Call, fd: i32, at_ns: u64) {
        let same = |life: &&mut Life| {
            (life.side, life.pid, life.fd) == (call.side, call.pid, fd) && life.until_ns == u64::MAX
        };
        if let Some(life) = self.lives.iter_mut().rev().find(same) {
            life.until_ns = at_ns;
        }
    }

    /// Marks the descriptor of a call as a listener, whether it was known before or not.
    fn listens(&mut self, call: &Call, at_ns: u64) {
        let Some(fd) = descriptor(call) else {
            return;
        };
        match self.find(call, fd, at_ns) {
            Some(life) => self.lives[life].about = Some(About::Listener),
            None => self.lives.push(Life {
                side: call.side,
                pid: call.pid,
                fd,
                from_ns: 0,
                until_ns: u64::MAX,
                about: Some(About::Listener),
            }),
        }
    }

    fn connects(&mut self, call: &Call, fd: i32, at_ns: u64) {
        let known = self.find(call, fd, at_ns);
        if known.is_some_and(|life| matches!(self.lives[life].about, Some(About::Connection(_)))) {
            return;
        }
        let held =
            self.remembered(call, at_ns)
                .or_else(|| match self.held(call, fd, at_ns, u64::MAX) {
                    Some(About::Connection(number)) => Some(number),
                    _ => None,
                });
        // The SYN goes out during the call; the clocks of two sources may differ a little.
        let from_ns = at_ns.saturating_sub(CLOCKS_DIFFER_NS);
        let next = (0..self.connections.len())
            .find(|&it| !self.connected[it] && self.connections[it].begun_ns >= from_ns);
        let Some(number) = held.or(next) else {
            return;
        };
        self.connected[number] = true;
        let about = Some(About::Connection(number));
        match known {
            Some(life) => self.lives[life].about = about,
            None => self.lives.push(Life {
                side: call.side,
                pid: call.pid,
                fd,
                from_ns: at_ns,
                until_ns: u64::MAX,
                about,
            }),
        }
    }

    /// The connection that a client thread was working on, by its own notes.
    fn remembered(&self, call: &Call, at_ns: u64) -> Option<usize> {
        let moments = &self.record.moments;
        let begun = moments
            .iter()
            .rfind(|it| it.tid == call.tid && it.what == What::Connecting && it.at_ns <= at_ns)?;
        let mut same = moments
            .iter()
            .filter(|it| it.connection == begun.connection);
        let local = canonical(same.find_map(|it| it.local)?);
        let is_it = |known: &Known| canonical(known.endpoints.client) == local;
        self.connections.iter().rposition(is_it)
    }

    fn accepted(&mut self, call: &Call, fd: i32, at_ns: u64) -> Option<usize> {
        let held = match self.held(call, fd, at_ns, u64::MAX) {
            Some(About::Connection(number)) if !self.accepted[number] => Some(number),
            _ => None,
        };
        let by_ns = at_ns.saturating_add(CLOCKS_DIFFER_NS);
        let waiting = (0..self.connections.len()).filter(|&it| !self.accepted[it]);
        let first = waiting
            .filter_map(|it| Some((self.connections[it].ready_ns?, it)))
            .filter(|(ready_ns, _)| *ready_ns <= by_ns)
            .min();
        let number = held.or(first.map(|(_, number)| number))?;
        self.accepted[number] = true;
        Some(number)
    }

    /// What the first relevant snapshot in a period says about a descriptor.
    fn held(&self, call: &Call, fd: i32, from_ns: u64, until_ns: u64) -> Option<About> {
        let next_ns = (self.record.calls.iter())
            .filter(|other| {
                (other.pid, other.name) == (call.pid, "close") && descriptor(other) == Some(fd)
            })
            .filter_map(|other| other.entered_ns)
            .find(|&closed_ns| closed_ns >= from_ns)
            .unwrap_or(u64::MAX)
            .min(until_ns);
        let snapshots = self.record.snapshots.iter();
        let within = snapshots.filter(|it| it.at_ns >= from_ns && it.at_ns <= next_ns);
        for socket in within.flat_map(|snapshot| &snapshot.sockets) {
            if !(socket.holders.iter()).any(|holder| (holder.pid, holder.fd) == (call.pid, fd)) {
                continue;
            }
            let Some(remote) = socket.remote else {
                return Some(About::Listener);
            };
            let (local, remote) = (canonical(socket.local), canonical(remote));
            let found = self.connections.iter().rposition(|known| {
                let client = canonical(known.endpoints.client);
                let server = canonical(known.endpoints.server);
                match call.side {
                    Side::Client => (client, server) == (local, remote),
                    Side::Server => (server, client) == (local, remote),
                }
            });
            if let Some(number) = found {
                return Some(About::Connection(number));
            }
        }
        None
    }

    /// The life of a descriptor at a given time. A child process shares its parent's.
    fn find(&self, call: &Call, fd: i32, at_ns: u64) -> Option<usize> {
        let alive = |life: &Life| {
            life.fd == fd
                && life.side == call.side
                && life.from_ns <= at_ns
                && at_ns <= life.until_ns
        };
        let own = |life: &Life| life.pid == call.pid && alive(life);
        let lives = &self.lives;
        (lives.iter().rposition(own)).or_else(|| lives.iter().rposition(alive))
    }

    fn about(&self, call: &Call) -> Option<About> {
        let at_ns = call.entered_ns.or(call.left_ns)?;
        let of = |fd: i32, at_ns: u64| {
            self.find(call, fd, at_ns)
                .and_then(|life| self.lives[life].about)
        };
        if let Some(made) = makes_descriptor(call) {
            let about = of(made, call.left_ns.unwrap_or(at_ns));
            return match (call.name, about) {
                ("accept" | "accept4", Some(About::Connection(number))) => {
                    Some(About::Accepted(number))
                }
                ("accept" | "accept4" | "socket", None) => Some(About::Listener),
                (_, about) => about,
            };
        }
        match descriptor(call) {
            Some(fd) => of(fd, at_ns)
                .or_else(|| self.held(call, fd, 0, u64::MAX))
                .or({
                    // These calls exist only for sockets, even if the socket is unknown.
                    match call.name {
                        "accept" | "accept4" | "bind" | "listen" => Some(About::Listener),
                        _ => None,
                    }
                }),
            // The call returned without a recorded entry: the trace began during it.
            None if matches!(call.name, "accept" | "accept4") => Some(About::Listener),
            None => WAITS.contains(&call.name).then_some(About::None),
        }
    }
}

/// Two sources may disagree about the order of a segment and a call by this much.
const CLOCKS_DIFFER_NS: u64 = 1_000_000;

/// Calls that are not about a socket but show how a program is built.
const WAITS: [&str; 18] = [
    "clone",
    "clone3",
    "epoll_create1",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "exit",
    "exit_group",
    "fork",
    "futex",
    "io_uring_enter",
    "io_uring_setup",
    "poll",
    "ppoll",
    "pselect6",
    "sched_yield",
    "select",
    "vfork",
];
