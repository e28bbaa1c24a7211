//! One thread, one mio `Poll`, readiness events. A connection costs no thread, and no buffer while it is
//! idle. The thread blocks only to wait for events of all connections together. It uses one core.
//!
//! Readiness is edge-triggered: an event says once that something *became* ready. The loop must remember what
//! is ready and not used up, because no second event reports it.

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

/// Serves until the host is stopped and all connections are closed.
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
        // Last, because this turn may have closed connections and made room.
        server.accept(now);
    }
    Ok(())
}

/// These tokens are larger than any key of a slab.
const DOOR: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

/// How many connections are accepted, and how many reads one connection may do, before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
const READS_PER_TURN: usize = 16;

struct EventLoop<'a> {
    host: &'a Host,
    poll: Poll,
    /// `None` when the server is stopping and the accept queue is empty.
    door: Option<Door>,
    /// The accept queue may hold connections.
    acceptable: bool,
    /// When to accept again, even without an event.
    accept_at: Option<Instant>,
    peers: Slab<(Peer, Guest)>,
    deadlines: Deadlines,
    /// Buffers for the peer that is being served; one set is enough for one thread.
    scratch: Scratch,
}

struct Peer {
    stream: TcpStream,
    connection: Connection,
    /// The socket may hold input.
    readable: bool,
    /// The peer shut its side: input ends with a read of 0, and no further event announces that.
    ends: bool,
    /// Events for writing are enabled too, because the socket was full once.
    watches_writing: bool,
}

impl<'a> EventLoop<'a> {
    fn new(listener: TcpListener, host: &'a Arc<Host>) -> io::Result<Self> {
        let door = Door::nonblocking(listener, host)?;
        let poll = Poll::new()?;
        (poll.registry()).register(&mut SourceFd(&door.as_raw_fd()), DOOR, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), STOP)?;
        // This fails only after the poll is dropped, when the loop has ended.
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

    /// Sleeps until an event or the next deadline.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let next = [self.deadlines.next(), self.accept_at];
        let next = next.into_iter().flatten().min();
        let timeout = next.map(|next| next.saturating_duration_since(Instant::now()));
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// Accepts connections, up to a limit so that open ones do not wait long.
    fn accept(&mut self, now: Now) {
        self.accept_at = None;
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(door) = self.door.as_mut().filter(|_| self.acceptable) else {
                return;
            };
            match door.accept() {
                Accept::Guest(stream, guest) => self.welcome(stream, guest, now),
                Accept::Nobody => self.acceptable = false,
                // The turn that closes a connection tries again.
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
            // The kernel has no memory for the registration; the peer sees a closed connection.
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
        // An earlier event of this turn may have closed this peer.
        if let Some((peer, _)) = self.peers.get_mut(key) {
            peer.readable |= event.is_readable();
            peer.ends |= event.is_read_closed();
            self.advance(key, now);
        }
    }

    /// Serves a peer as far as possible without waiting.
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
        // An error or a panic ends this connection and nothing else.
        self.peers.remove(key);
    }

    /// Handles the deadlines that have passed.
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

    /// Handles the stop signal: tells every connection that its next answer is the last, and lets the loop accept
    /// what is in the accept queue.
    fn drain(&mut self, now: Now) {
        self.acceptable = true; // Until the door is closed.
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
                // Registering again triggers a new edge, which comes after the turn of the others.
                Next::Read if reads == READS_PER_TURN => return self.register(registry, token),
                Next::Read => {
                    reads += 1;
                    let room = scratch.space().len();
                    self.stream.read(scratch.space()).map(|n| {
                        // A read that does not fill the buffer has emptied the socket; another one would only
                        // return EAGAIN.
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
