//! Idle connections besides those of a run, to measure what they cost the others.
//!
//! Each makes one request and receives the answer, because a server's idle connections usually have
//! a request behind them: their buffers have been used. This is finished before the run begins.
//! During the run nothing waits for them and nothing runs for them; the kernel keeps what arrives
//! on them until the end.

use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::plan::Plan;
use crate::ports;
use crate::record;
use crate::record::{Fault, Kind, Phase};
use crate::response::{Asked, Reader, Taken};

use super::Moment;
use super::connection::{close, connect, kind_of};

/// The idle connections of a plan. Dropping them closes them.
pub(super) struct Idle<'a> {
    plan: &'a Plan,
    poll: Poll,
    sources: Vec<IpAddr>,
    /// By token; the entry of a failed connection is empty.
    peers: Vec<Option<Peer>>,
    /// The number of connections that are not answered yet.
    opening: usize,
    buffer: Vec<u8>,
    seen: record::Idle,
}

struct Peer {
    stream: TcpStream,
    state: State,
}

enum State {
    Connecting,
    /// This many bytes of the request are sent, and the answer is being read.
    Asked(usize, Box<Reader>),
    /// Answered, and still open as far as is known.
    Idle,
    /// Closed by the server.
    Closed,
}

/// Connections opened at once: more could overflow the server's accept queue.
const OPENING_MAX: usize = 64;
const EVENTS: usize = 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// After this long without an answer, the server is assumed to serve no more connections.
const STALLED: Duration = Duration::from_secs(5);

/// Interval between checks whether the user wants to stop.
const TICK: Duration = Duration::from_millis(100);

impl<'a> Idle<'a> {
    /// Opens the idle connections of `plan` and makes a request on each. Reports to `on` before the
    /// first, after half of them and after the last. `None` if the plan has none. A failure ends
    /// the opening early and is reported by [`Idle::look`].
    ///
    /// # Errors
    ///
    /// If no poll can be created.
    pub(super) fn open(
        plan: &'a Plan,
        interrupted: &AtomicBool,
        on: &mut dyn FnMut(Moment<'_>),
    ) -> io::Result<Option<Self>> {
        if plan.idle == 0 {
            return Ok(None);
        }
        let mut idle = Idle {
            plan,
            poll: Poll::new()?,
            sources: ports::sources(plan),
            peers: Vec::new(),
            opening: 0,
            buffer: vec![0; BUFFER_BYTES],
            seen: record::Idle::default(),
        };
        on(Moment::Idle(0));
        let parts = [plan.idle / 2, plan.idle];
        for part in parts.into_iter().filter(|&part| part > 0) {
            if !idle.open_until(part, interrupted)? {
                break;
            }
            on(Moment::Idle(part));
        }
        Ok(Some(idle))
    }

    /// What has happened to the connections so far.
    ///
    /// # Errors
    ///
    /// If the poll fails.
    pub(super) fn look(&mut self) -> io::Result<record::Idle> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            if events.is_empty() {
                return Ok(self.seen.clone());
            }
            for event in &events {
                self.ready(event);
            }
        }
    }

    /// Opens connections up to a total of `all`, and returns whether all of them were served.
    fn open_until(&mut self, all: usize, interrupted: &AtomicBool) -> io::Result<bool> {
        let within = self.plan.timeout.min(STALLED);
        let mut events = Events::with_capacity(EVENTS);
        let mut progress = (Instant::now(), self.seen.served);
        while self.seen.served < all as u64 && !interrupted.load(Relaxed) {
            while self.opening < OPENING_MAX && self.peers.len() < all && !self.has_failed() {
                self.connect();
            }
            if self.has_failed() {
                break;
            }
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                self.ready(event);
            }
            let now = Instant::now();
            if self.seen.served > progress.1 {
                progress = (now, self.seen.served);
            } else if now - progress.0 > within {
                self.fail(self.waits_in(), Kind::Timeout);
            }
        }
        let complete = self.seen.served >= all as u64;
        if !complete {
            self.give_up();
        }
        Ok(complete)
    }

    fn has_failed(&self) -> bool {
        self.seen.fault.is_some()
    }

    /// The phase of the connection that has waited longest.
    fn waits_in(&self) -> Phase {
        let mut states = self.peers.iter().flatten().map(|peer| &peer.state);
        let asked = states.find_map(|state| match state {
            State::Connecting => Some(Phase::Connect),
            State::Asked(sent, _) if *sent < self.plan.requests[0].len() => Some(Phase::Send),
            State::Asked(_, reader) if reader.in_body() => Some(Phase::Body),
            State::Asked(..) => Some(Phase::FirstByte),
            State::Idle | State::Closed => None,
        });
        asked.unwrap_or(Phase::Connect)
    }

    /// Records a fault. The first one ends the opening, so only that one is reported.
    fn fail(&mut self, phase: Phase, kind: Kind) {
        self.seen.fault.get_or_insert(Fault { phase, kind });
    }

    /// Closes connections that were not served.
    fn give_up(&mut self) {
        for place in &mut self.peers {
            let Some(peer) = place.take_if(|peer| peer.is_opening()) else {
                continue;
            };
            // The server may have accepted a connection without a report of it here.
            if matches!(peer.state, State::Connecting) && peer.stream.peer_addr().is_ok() {
                self.seen.connections += 1;
            }
            close(peer.stream, self.plan.close);
        }
        self.opening = 0;
    }

    fn connect(&mut self) {
        let index = self.peers.len();
        let sources = &self.sources;
        let source = (!sources.is_empty()).then(|| sources[index % sources.len()]);
        let opened = connect(self.plan, source).and_then(|(mut stream, connected)| {
            // The first event shows whether the connection is established.
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut stream, Token(index), interest)?;
            Ok((stream, connected))
        });
        match opened {
            Ok((stream, connected)) => {
                let state = State::Connecting;
                self.peers.push(Some(Peer { stream, state }));
                self.opening += 1;
                if connected {
                    self.established(index);
                }
            }
            Err(error) => self.fail(Phase::Connect, kind_of(&error)),
        }
    }

    fn ready(&mut self, event: &Event) {
        let index = event.token().0;
        let Some(peer) = &mut self.peers[index] else {
            return;
        };
        if matches!(peer.state, State::Connecting) {
            if event.is_error() {
                let error = peer.stream.take_error().unwrap_or_else(Some);
                self.fail(Phase::Connect, error.map_or(Kind::Other, |it| kind_of(&it)));
            } else if event.is_writable() {
                self.established(index);
            }
            return;
        }
        if event.is_writable() {
            self.send(index);
        }
        let ends = event.is_read_closed() || event.is_error();
        if event.is_readable() || ends {
            self.receive(index);
        }
        if let Some(peer) = &mut self.peers[index]
            && ends
            && matches!(peer.state, State::Idle)
        {
            peer.state = State::Closed;
            self.seen.closed_by_server += 1;
        }
    }

    fn established(&mut self, index: usize) {
        let Some(peer) = &mut self.peers[index] else {
            return;
        };
        self.seen.connections += 1;
        let mut reader = Reader::new(self.plan.head_only).expecting(self.plan.expect.as_ref());
        if !self.plan.head_only {
            reader.answers(Asked::of_request(&self.plan.requests[0]));
        }
        peer.state = State::Asked(0, Box::new(reader));
        self.send(index);
    }

    fn send(&mut self, index: usize) {
        let request = &self.plan.requests[0];
        let Some(Peer { stream, state }) = &mut self.peers[index] else {
            return;
        };
        let State::Asked(sent, _) = state else {
            return;
        };
        while *sent < request.len() {
            match stream.write(&request[*sent..]) {
                Ok(n) => {
                    *sent += n;
                    self.seen.requests += u64::from(*sent == request.len());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.fail(Phase::Send, kind_of(&error)),
            }
        }
    }

    /// Reads everything that is available.
    fn receive(&mut self, index: usize) {
        let Some(Peer { stream, state }) = &mut self.peers[index] else {
            return;
        };
        let State::Asked(_, reader) = state else {
            return;
        };
        let end = loop {
            let read = match stream.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                read => read,
            };
            let in_body = reader.in_body();
            match read {
                Ok(0) if reader.end().is_some() => break Err((Phase::Close, Kind::ClosedEarly)),
                Ok(0) if in_body => break Err((Phase::Body, Kind::ShortBody)),
                Ok(0) => break Err((Phase::FirstByte, Kind::ClosedEarly)),
                Ok(n) => match reader.take(&self.buffer[..n]) {
                    // Empty lines between responses are skipped (RFC 9112 §9.2). After a switch,
                    // another protocol follows.
                    Taken::Complete(response, used)
                        if !response.switches && !self.buffer[used..n].trim_ascii().is_empty() =>
                    {
                        break Err((Phase::Close, Kind::Malformed));
                    }
                    Taken::Complete(response, _)
                        if self
                            .plan
                            .expect_status
                            .is_some_and(|it| it != response.status) =>
                    {
                        break Err((Phase::Body, Kind::BadStatus));
                    }
                    Taken::Complete(response, _) if !response.as_expected => {
                        break Err((Phase::Body, Kind::WrongBody));
                    }
                    Taken::Complete(response, _) if response.persists || response.switches => {
                        break Ok(());
                    }
                    Taken::Complete(..) => break Err((Phase::Close, Kind::ClosedEarly)),
                    Taken::Incomplete => {}
                    Taken::Malformed => break Err((Phase::Body, Kind::Malformed)),
                },
                Err(error) if in_body => break Err((Phase::Body, kind_of(&error))),
                Err(error) => break Err((Phase::FirstByte, kind_of(&error))),
            }
        };
        match end {
            Ok(()) => {
                *state = State::Idle;
                self.opening -= 1;
                self.seen.served += 1;
            }
            Err((phase, kind)) => self.fail(phase, kind),
        }
    }
}

impl Peer {
    fn is_opening(&self) -> bool {
        matches!(self.state, State::Connecting | State::Asked(..))
    }
}

/// Closes the connections in the same way as the plan's other connections.
impl Drop for Idle<'_> {
    fn drop(&mut self) {
        for peer in self.peers.drain(..).flatten() {
            close(peer.stream, self.plan.close);
        }
    }
}
