//! The floor: one thread and one mio `Poll`, as in the event loop, but no HTTP. It counts blank lines and
//! sends a constant for each, so that what it costs is what the kernel charges for a request: nobody can
//! serve one for less with these system calls. Every other server is given as a multiple of it.
//!
//! Not a server to use: it does not see methods, fields or bodies, has no timeouts, and its answer has no
//! `Date`. It has no row among the architectures, and does not have to pass their suite.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use host::{ACCEPT_BACKOFF, AcceptError, Host, accept_error};
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use slab::Slab;

/// Serves until the host is stopped and what had arrived by then is answered.
///
/// # Errors
///
/// When the poll cannot be set up or waited for.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    host.closes(&listener)?;
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    // Kept here as well, for a waker dropped takes its unseen event with it.
    let waker = Arc::new(Waker::new(poll.registry(), STOP)?);
    host.on_stop({
        let waker = Arc::clone(&waker);
        // Fails only if the poll is gone, and the loop with it.
        move || waker.wake().unwrap_or_default()
    });

    let mut floor = Floor {
        host,
        registry: poll.registry().try_clone()?,
        peers: Slab::new(),
        input: vec![0; BUFFER_BYTES],
        answers: ANSWER.repeat(ANSWERS_MAX),
    };
    let mut events = Events::with_capacity(1024);
    let mut accept_again: Option<Duration> = None;
    let mut drained = false;
    while !drained || !floor.peers.is_empty() {
        match poll.poll(&mut events, accept_again) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        let mut acceptable = accept_again.is_some();
        for event in &events {
            match event.token() {
                LISTENER => acceptable = true,
                STOP => {
                    floor.drain();
                    drained = true;
                }
                Token(key) => floor.advance(key, event.is_read_closed()),
            }
        }
        accept_again = match acceptable && !drained {
            true => floor.accept(&listener),
            false => None,
        };
    }
    Ok(())
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";

/// Answers written in one go at the most.
const ANSWERS_MAX: usize = 256;

const BUFFER_BYTES: usize = 16 * 1024;

/// What ends the head of a request.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// Beyond every key of a slab.
const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

/// Connections accepted before those which are here have their turn.
const ACCEPTS_PER_TURN: usize = 64;

struct Floor<'a> {
    host: &'a Host,
    registry: Registry,
    peers: Slab<Peer>,
    input: Vec<u8>,
    /// As many answers as are written in one go.
    answers: Vec<u8>,
}

struct Peer {
    stream: TcpStream,
    /// How many bytes of a blank line the input so far ends with, 0 to 3.
    matched: usize,
    /// Bytes of answers not written yet. They are all the same, so a number will do.
    owed: usize,
    /// The peer has said all.
    ended: bool,
}

impl Floor<'_> {
    /// Takes connections from the accept queue; says when to do so again if there may be more.
    fn accept(&mut self, listener: &mio::net::TcpListener) -> Option<Duration> {
        for _ in 0..ACCEPTS_PER_TURN {
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) => match accept_error(&error) {
                    AcceptError::ConnectionGone => {}
                    AcceptError::NothingWaits | AcceptError::NotListening => return None,
                    AcceptError::OutOfResources => return Some(ACCEPT_BACKOFF),
                },
            }
        }
        Some(Duration::ZERO)
    }

    fn welcome(&mut self, mut stream: TcpStream) {
        self.host.counters.accepted();
        let slot = self.peers.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        match (self.registry).register(&mut stream, Token(slot.key()), interest) {
            Ok(()) => _ = slot.insert(Peer::new(stream)),
            // The kernel has no memory for it; the peer sees a closed connection.
            Err(_) => self.host.counters.closed(),
        }
    }

    /// Reads and writes as far as that goes without waiting.
    fn advance(&mut self, key: usize, is_read_closed: bool) {
        // An event of this turn may concern a peer that another event of this turn has ended.
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let outcome = peer
            .read(&mut self.input, is_read_closed)
            .and_then(|()| peer.write(&self.answers));
        if outcome.is_err() || (peer.ended && peer.owed == 0) {
            self.peers.remove(key);
            self.host.counters.closed();
        }
    }

    /// The stop signal: whoever stood in the accept queue is let in, what has arrived is answered, and
    /// nothing else is waited for.
    fn drain(&mut self) {
        for stream in self.host.queue().into_iter().flatten() {
            if stream.set_nonblocking(true).is_ok() {
                self.welcome(TcpStream::from_std(stream));
            }
        }
        let keys: Vec<usize> = self.peers.iter().map(|(key, _)| key).collect();
        for key in keys {
            // From here on a read returns what is there, then 0.
            self.peers[key].stream.shutdown(Shutdown::Read).ok();
            self.advance(key, true);
        }
    }
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        Peer {
            stream,
            matched: 0,
            owed: 0,
            ended: false,
        }
    }

    /// Reads until the socket is empty, and owes an answer for each blank line. `is_read_closed`: the end
    /// will be read, and no further event will announce it.
    fn read(&mut self, input: &mut [u8], is_read_closed: bool) -> io::Result<()> {
        while !self.ended {
            match self.stream.read(input) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.owed += self.blank_lines(&input[..n]) * ANSWER.len();
                    // A read that leaves room has emptied the socket: no need to be told EAGAIN.
                    if n < input.len() && !is_read_closed {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn blank_lines(&mut self, mut input: &[u8]) -> usize {
        let mut found = 0;
        // One that the read before has begun.
        while self.matched > 0 && !input.is_empty() {
            self.matched = match input[0] {
                byte if byte == BLANK_LINE[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            input = &input[1..];
            if self.matched == BLANK_LINE.len() {
                (self.matched, found) = (0, 1);
            }
        }
        if input.is_empty() {
            return found;
        }
        let mut after_last = 0;
        for at in memmem::find_iter(input, BLANK_LINE) {
            after_last = at + BLANK_LINE.len();
            found += 1;
        }
        let begun = |&length: &usize| input[after_last..].ends_with(&BLANK_LINE[..length]);
        self.matched = (1..BLANK_LINE.len()).rev().find(begun).unwrap_or(0);
        found
    }

    /// Writes what is owed, as far as the socket takes it; an event tells when it takes more.
    fn write(&mut self, answers: &[u8]) -> io::Result<()> {
        while self.owed > 0 {
            // The rest of one that was cut, then whole ones.
            let start = (ANSWER.len() - self.owed % ANSWER.len()) % ANSWER.len();
            let end = answers.len().min(start + self.owed);
            match self.stream.write(&answers[start..end]) {
                Ok(n) => self.owed -= n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
