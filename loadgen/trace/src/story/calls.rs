//! Which connection a system call is about.
//!
//! A descriptor is a number that is given away again, so what counts is one life of it: from the call that made
//! it to the `close`. What a life stands for is told by who holds which socket in a snapshot, else by the order
//! in which connections came about.

use crate::kernel::{descriptor, makes_descriptor};
use crate::model::{Call, Endpoints, Record, Side, What};

use super::flows::canonical;

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// A connection, by its number.
    Connection(usize),
    /// A listener, or a socket of which nothing came.
    Listener,
    /// No socket: a wait for events, a thread.
    None,
    /// `accept`, which is about the listener on entry, and about the connection when it is left.
    Accepted(usize),
}

/// What is known of a connection when calls are attributed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) endpoints: Endpoints,
    /// Its first segment, or what there is instead.
    pub(super) begun_ns: u64,
    /// The handshake is complete: the server may accept it.
    pub(super) ready_ns: Option<u64>,
}

/// For each call of the record; `None` of those that are about files and other things.
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
        // What a call makes is there when it is left, and what it ends is gone when it is entered.
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

    /// Makes a listener of the descriptor that a call is about, known before or not.
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
        // The SYN goes out within the call; clocks of two sources may differ a little.
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

    /// Which connection the thread of a client was at, as it noted down itself.
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

    /// What a snapshot between two moments says of a descriptor; the first that says anything.
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

    /// The life of a descriptor at a time. A child has its parent's.
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
                    // These are of sockets only, even if nobody knows of which.
                    match call.name {
                        "accept" | "accept4" | "bind" | "listen" => Some(About::Listener),
                        _ => None,
                    }
                }),
            // Left without its entry: the trace began within it.
            None if matches!(call.name, "accept" | "accept4") => Some(About::Listener),
            None => WAITS.contains(&call.name).then_some(About::None),
        }
    }
}

/// By so much two sources may disagree about the order of a segment and a call.
const CLOCKS_DIFFER_NS: u64 = 1_000_000;

/// Calls that are about no socket and yet say how a program is built.
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
