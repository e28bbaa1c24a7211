//! One thread, one mio `Poll`, readiness events. A connection costs no thread, and no buffer while it is
//! idle; nothing blocks but the wait for all of them together. One core is all it uses.
//!
//! Readiness is edge-triggered: an event says that something *became* ready, once. What was ready and
//! not used up must be remembered here, for no second event will say so.

#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use host::{ACCEPT_BACKOFF, AcceptError, Deadlines, Host, accept_error};
use http1::{Connection, Next, Now, Scratch};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

/// Serves until the host is stopped and every connection accepted by then is over.
///
/// # Errors
///
/// When the poll cannot be set up or waited for.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    let mut server = EventLoop::new(listener, host)?;
    let mut events = Events::with_capacity(1024);
    while server.has_work() {
        server.wait(&mut events)?;
        let now = host::now();
        for event in &events {
            match event.token() {
                LISTENER => server.acceptable = true,
                STOP => server.drain(now),
                Token(key) => server.ready(key, event, now),
            }
        }
        server.accept(now);
        server.expire(now);
    }
    Ok(())
}

/// Beyond every key of a slab.
const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

/// Connections accepted and reads done for one connection before others have their turn.
const ACCEPTS_PER_TURN: usize = 64;
const READS_PER_TURN: usize = 16;

struct EventLoop<'a> {
    host: &'a Host,
    poll: Poll,
    /// Kept, for a waker dropped takes its unseen event with it.
    _waker: Arc<Waker>,
    /// `None` once the server is stopping and the accept queue is empty.
    listener: Option<mio::net::TcpListener>,
    /// Connections may stand in the accept queue.
    acceptable: bool,
    /// Files had run out; nothing is accepted before this.
    accept_after: Option<Instant>,
    /// As many connections are open as there may be, which has been counted.
    full: bool,
    /// The stop signal has been heard: the accept queue is emptied, and then the listener closed.
    draining: bool,
    peers: Slab<Peer>,
    deadlines: Deadlines,
    /// What the one peer that is served at a time reads into and writes from.
    scratch: Scratch,
}

struct Peer {
    stream: TcpStream,
    connection: Connection,
    /// Input may stand in the socket.
    readable: bool,
    /// The peer shut its side: input ends with a read of 0 that no further event will announce.
    ends: bool,
    /// Events for writing are asked for as well, because once the socket took no more.
    watches_writing: bool,
}

enum Fate {
    Keep,
    Close,
}

impl<'a> EventLoop<'a> {
    fn new(listener: TcpListener, host: &'a Host) -> io::Result<Self> {
        host.closes(&listener)?;
        listener.set_nonblocking(true)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        let poll = Poll::new()?;
        (poll.registry()).register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), STOP)?);
        host.on_stop({
            let waker = Arc::clone(&waker);
            // Fails only if the poll is gone, and the loop with it.
            move || waker.wake().unwrap_or_default()
        });
        Ok(EventLoop {
            host,
            poll,
            _waker: waker,
            listener: Some(listener),
            acceptable: true,
            accept_after: None,
            full: false,
            draining: false,
            peers: Slab::new(),
            deadlines: Deadlines::default(),
            scratch: host.scratch(),
        })
    }

    fn has_work(&self) -> bool {
        self.listener.is_some() || !self.peers.is_empty()
    }

    /// Sleeps until something is ready or the next deadline has come.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = if self.can_accept() && self.accept_after.is_none() {
            Some(Duration::ZERO)
        } else {
            let next = [self.deadlines.next(), self.accept_after];
            let next = next.into_iter().flatten().min();
            next.map(|next| next.saturating_duration_since(Instant::now()))
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// A connection may wait, and there is room for it. A server that stops makes no more wait.
    fn can_accept(&self) -> bool {
        let has_room = self.peers.len() < self.host.settings.connections_max;
        self.acceptable && self.listener.is_some() && (has_room || self.draining)
    }

    /// Takes connections from the accept queue, not so many that those which are here would wait.
    fn accept(&mut self, now: Now) {
        if self.accept_after.is_some_and(|after| now.instant < after) {
            return;
        }
        self.accept_after = None;
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else {
                return;
            };
            if !self.can_accept() {
                if self.acceptable && !self.full {
                    self.full = true;
                    self.host.counters.full();
                }
                return;
            }
            self.full = false;
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream, now),
                Err(error) => match accept_error(&error) {
                    AcceptError::ConnectionGone => {}
                    AcceptError::OutOfResources => {
                        self.host.counters.out_of_files();
                        self.accept_after = Some(now.instant + ACCEPT_BACKOFF);
                        return;
                    }
                    AcceptError::NothingWaits | AcceptError::NotListening => {
                        self.acceptable = false;
                        if self.draining {
                            self.listener = None;
                        }
                    }
                },
            }
        }
    }

    fn welcome(&mut self, mut stream: TcpStream, now: Now) {
        self.host.counters.accepted();
        let slot = self.peers.vacant_entry();
        let token = Token(slot.key());
        let registry = self.poll.registry();
        if registry
            .register(&mut stream, token, Interest::READABLE)
            .is_err()
        {
            // The kernel has no memory for it; the peer sees a closed connection.
            return self.host.counters.closed();
        }
        let mut connection = Connection::new(&self.scratch, now);
        if let Some(until) = self.host.drain_until() {
            connection.drain(&self.scratch, until, now);
        }
        self.deadlines.watch(slot.key(), connection.deadline());
        slot.insert(Peer {
            stream,
            connection,
            readable: false,
            ends: false,
            watches_writing: false,
        });
    }

    fn ready(&mut self, key: usize, event: &Event, now: Now) {
        // An event of this turn may concern a peer that another event of this turn has ended.
        if let Some(peer) = self.peers.get_mut(key) {
            peer.readable |= event.is_readable();
            peer.ends |= event.is_read_closed();
            self.advance(key, now);
        }
    }

    /// Lets a peer go as far as it can without waiting.
    fn advance(&mut self, key: usize, now: Now) {
        let peer = &mut self.peers[key];
        let (registry, scratch) = (self.poll.registry(), &mut self.scratch);
        let fate = catch_unwind(AssertUnwindSafe(|| {
            peer.advance(scratch, registry, Token(key), now)
        }));
        match fate {
            Ok(Ok(Fate::Keep)) => self.deadlines.watch(key, peer.connection.deadline()),
            // What a peer does wrong, or makes go wrong here, ends its own connection and nothing else.
            Ok(Ok(Fate::Close)) => self.close(key),
            Ok(Err(error)) => {
                // The kernel's own limit for answers that nobody takes.
                if error.kind() == io::ErrorKind::TimedOut && peer.connection.next() == Next::Write
                {
                    peer.connection.timed_out(scratch, now);
                }
                self.close(key);
            }
            Err(_) => {
                self.host.counters.panicked();
                self.close(key);
            }
        }
    }

    fn close(&mut self, key: usize) {
        self.peers.remove(key);
        self.host.counters.closed();
    }

    /// Ends what has waited too long.
    fn expire(&mut self, now: Now) {
        while let Some(key) = self.deadlines.pop_due(now.instant) {
            let Some(peer) = self.peers.get_mut(key) else {
                continue;
            };
            if peer.connection.deadline() <= now.instant {
                peer.connection.timed_out(&mut self.scratch, now);
            }
            self.advance(key, now);
        }
    }

    /// The stop signal: those who stood in the accept queue are let in, nobody else is, and all hear that
    /// their next answer is the last.
    fn drain(&mut self, now: Now) {
        for stream in self.host.queue().into_iter().flatten() {
            if stream.set_nonblocking(true).is_ok() {
                self.welcome(TcpStream::from_std(stream), now);
            }
        }
        self.draining = true;
        self.acceptable = true; // Until it says that there are no more.
        let Some(until) = self.host.drain_until() else {
            return;
        };
        let keys: Vec<usize> = self.peers.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.peers[key].connection.drain(&self.scratch, until, now);
            self.advance(key, now);
        }
    }
}

impl Peer {
    fn advance(
        &mut self,
        scratch: &mut Scratch,
        registry: &mio::Registry,
        token: Token,
        now: Now,
    ) -> io::Result<Fate> {
        let mut reads = 0;
        loop {
            let outcome = match self.connection.next() {
                Next::Read if !self.readable => return Ok(Fate::Keep),
                Next::Read if reads == READS_PER_TURN => {
                    // Registering anew makes the edge come again, after the others' turn.
                    self.register(registry, token)?;
                    return Ok(Fate::Keep);
                }
                Next::Read => {
                    reads += 1;
                    let space = scratch.space();
                    let room = space.len();
                    self.stream.read(space).map(|n| {
                        // A read that leaves room has emptied the socket: no need to be told EAGAIN.
                        self.readable = n == room || self.ends;
                        self.connection.received(scratch, n, now);
                    })
                }
                Next::Write => {
                    let output = self.connection.output();
                    (self.stream.write(output)).map(|n| self.connection.sent(scratch, n, now))
                }
                Next::ShutdownWrite => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.connection.write_is_shut(scratch, now);
                    Ok(())
                }
                Next::Close => return Ok(Fate::Close),
            };
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.connection.next() {
                        Next::Read => self.readable = false,
                        _ if self.watches_writing => {}
                        _ => {
                            self.watches_writing = true;
                            self.register(registry, token)?;
                        }
                    }
                    return Ok(Fate::Keep);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn register(&mut self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        let interest = match self.watches_writing {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        registry.reregister(&mut self.stream, token, interest)
    }
}
