//! One thread, one mio `Poll`, readiness events. A connection costs no thread, and no buffer while it is
//! idle; nothing blocks but the wait for all of them together. One core is all it uses.
//!
//! Readiness is edge-triggered: an event says that something *became* ready, once. What was ready and
//! not used up must be remembered here, for no second event will say so.

#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Instant;

use host::{Accept, Deadlines, Door, Guest, Host};
use http1::{Connection, Next, Now, Scratch};
use mio::event::Event;
use mio::net::TcpStream;
use mio::unix::SourceFd;
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
    while server.door.is_some() || !server.peers.is_empty() {
        server.wait(&mut events)?;
        let now = host::now();
        for event in &events {
            match event.token() {
                DOOR => server.acceptable = true,
                STOP => server.drain(now),
                Token(key) => server.ready(key, event, now),
            }
        }
        server.expire(now);
        // Last, so that it finds the room that this turn has made.
        server.accept(now);
    }
    Ok(())
}

/// Beyond every key of a slab.
const DOOR: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

/// Connections accepted and reads done for one connection before others have their turn.
const ACCEPTS_PER_TURN: usize = 64;
const READS_PER_TURN: usize = 16;

struct EventLoop<'a> {
    host: &'a Host,
    poll: Poll,
    /// `None` once the server stops and the accept queue is empty.
    door: Option<Door>,
    /// Connections may stand in the accept queue.
    acceptable: bool,
    /// When to try the door again, whatever the events are.
    accept_at: Option<Instant>,
    peers: Slab<(Peer, Guest)>,
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

impl<'a> EventLoop<'a> {
    fn new(listener: TcpListener, host: &'a Arc<Host>) -> io::Result<Self> {
        let door = Door::nonblocking(listener, host)?;
        let poll = Poll::new()?;
        (poll.registry()).register(&mut SourceFd(&door.as_raw_fd()), DOOR, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), STOP)?;
        // Fails only if the poll is gone, and the loop with it.
        host.on_stop(move || waker.wake().unwrap_or_default());
        Ok(EventLoop {
            host,
            poll,
            door: Some(door),
            acceptable: true,
            accept_at: Some(Instant::now()),
            peers: Slab::new(),
            deadlines: Deadlines::default(),
            scratch: host.scratch(),
        })
    }

    /// Sleeps until something is ready or the next deadline has come.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let next = [self.deadlines.next(), self.accept_at];
        let next = next.into_iter().flatten().min();
        let timeout = next.map(|next| next.saturating_duration_since(Instant::now()));
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// Takes connections from the accept queue, not so many that those which are here would wait.
    fn accept(&mut self, now: Now) {
        self.accept_at = None;
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = self.door.as_mut().filter(|_| self.acceptable) else {
                return;
            };
            match door.accept() {
                Accept::Guest(stream, guest) => self.welcome(stream, guest, now),
                Accept::Nobody => self.acceptable = false,
                // Tried again in the turn that closes a connection.
                Accept::Full => return,
                Accept::Later(at) => return self.accept_at = Some(at),
                Accept::Closed => self.door = None,
            }
        }
        self.accept_at = Some(now.instant);
    }

    fn welcome(&mut self, stream: std::net::TcpStream, guest: Guest, now: Now) {
        let mut stream = TcpStream::from_std(stream);
        let slot = self.peers.vacant_entry();
        let registry = self.poll.registry();
        if (registry.register(&mut stream, Token(slot.key()), Interest::READABLE)).is_err() {
            // The kernel has no memory for it; the peer sees a closed connection.
            return;
        }
        let mut connection = Connection::new(&self.scratch, now);
        self.host.tell_stop(&mut connection, &self.scratch, now);
        self.deadlines.watch(slot.key(), connection.deadline());
        let peer = Peer {
            stream,
            connection,
            readable: false,
            ends: false,
            watches_writing: false,
        };
        slot.insert((peer, guest));
    }

    fn ready(&mut self, key: usize, event: &Event, now: Now) {
        // An event of this turn may concern a peer that another event of this turn has ended.
        if let Some((peer, _)) = self.peers.get_mut(key) {
            peer.readable |= event.is_readable();
            peer.ends |= event.is_read_closed();
            self.advance(key, now);
        }
    }

    /// Lets a peer go as far as it can without waiting.
    fn advance(&mut self, key: usize, now: Now) {
        let (peer, guest) = &mut self.peers[key];
        let (registry, scratch) = (self.poll.registry(), &mut self.scratch);
        let advance = || peer.advance(scratch, registry, Token(key), now);
        match guest.contain(advance) {
            Some(Ok(())) if peer.connection.next() != Next::Close => {
                return self.deadlines.watch(key, peer.connection.deadline());
            }
            Some(Err(error)) => host::note_failure(&mut peer.connection, scratch, &error, now),
            Some(Ok(())) | None => {}
        }
        // What a peer does wrong, or makes go wrong here, ends its own connection and nothing else.
        self.peers.remove(key);
    }

    /// Ends what has waited too long.
    fn expire(&mut self, now: Now) {
        while let Some(key) = self.deadlines.pop_due(now.instant) {
            let Some((peer, _)) = self.peers.get_mut(key) else {
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
        self.acceptable = true; // Until the door says that it is closed.
        let keys: Vec<usize> = self.peers.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = &mut self.peers[key].0.connection;
            self.host.tell_stop(connection, &self.scratch, now);
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
    ) -> io::Result<()> {
        let mut reads = 0;
        loop {
            let connection = &mut self.connection;
            let outcome = match connection.next() {
                Next::Read if !self.readable => return Ok(()),
                // Registering anew makes the edge come again, after the others' turn.
                Next::Read if reads == READS_PER_TURN => return self.register(registry, token),
                Next::Read => {
                    reads += 1;
                    let room = scratch.space().len();
                    self.stream.read(scratch.space()).map(|n| {
                        // A read that leaves room has emptied the socket: no need to be told EAGAIN.
                        self.readable = n == room || self.ends;
                        connection.received(scratch, n, now);
                    })
                }
                Next::Write => (self.stream.write(connection.output()))
                    .map(|n| connection.sent(scratch, n, now)),
                Next::ShutdownWrite => (self.stream.shutdown(Shutdown::Write))
                    .map(|()| connection.write_is_shut(scratch, now)),
                Next::Close => return Ok(()),
            };
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if connection.next() == Next::Read {
                        self.readable = false;
                    } else if !self.watches_writing {
                        self.watches_writing = true;
                        self.register(registry, token)?;
                    }
                    return Ok(());
                }
                outcome => outcome?,
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
