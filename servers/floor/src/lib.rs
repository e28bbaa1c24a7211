//! The floor: one thread and one mio `Poll`, as in the event loop, but no HTTP. It counts blank lines and sends
//! a constant answer for each, so its cost is what the kernel charges for a request: with these system calls no
//! server can do it for less. The cost of every other server is given as a multiple of it.
//!
//! It is not a server to use: it ignores methods, fields and bodies, has no timeouts, and its answer has no
//! `Date`. It is not ranked among the architectures and need not pass their suite.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Instant;

use host::{Accept, Door, Guest, Host};
use memchr::memmem;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use slab::Slab;

/// Serves until the host is stopped and the requests that had arrived by then are answered.
///
/// # Errors
///
/// When the poll cannot be set up or waited for.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    let mut door = Some(Door::nonblocking(listener, host)?);
    let mut poll = Poll::new()?;
    if let Some(door) = &door {
        let mut door = SourceFd(&door.as_raw_fd());
        poll.registry()
            .register(&mut door, DOOR, Interest::READABLE)?;
    }
    let waker = Waker::new(poll.registry(), STOP)?;
    // This fails only after the poll is dropped, when the loop has ended.
    host.on_stop(move || waker.wake().unwrap_or_default());

    let mut floor = Floor {
        host,
        registry: poll.registry().try_clone()?,
        peers: Slab::new(),
        input: vec![0; BUFFER_BYTES],
        answers: ANSWER.repeat(ANSWERS_MAX),
    };
    let mut events = Events::with_capacity(1024);
    // The accept queue may hold connections.
    let mut acceptable = false;
    let mut accept_at: Option<Instant> = None;
    while door.is_some() || !floor.peers.is_empty() {
        let timeout = accept_at.map(|at| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            match event.token() {
                DOOR => acceptable = true,
                STOP => {
                    floor.drain();
                    acceptable = true; // Until the door is closed.
                }
                Token(key) => floor.advance(key, event.is_read_closed()),
            }
        }
        accept_at = floor.accept(&mut door, &mut acceptable);
    }
    Ok(())
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";

/// The most answers in one write.
const ANSWERS_MAX: usize = 256;

const BUFFER_BYTES: usize = 16 * 1024;

/// The end of a request's head.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// These tokens are larger than any key of a slab.
const DOOR: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

/// How many connections are accepted before open ones get their turn.
const ACCEPTS_PER_TURN: usize = 64;

struct Floor<'a> {
    host: &'a Host,
    registry: Registry,
    peers: Slab<Peer>,
    input: Vec<u8>,
    /// `ANSWERS_MAX` answers, from which every write takes a part.
    answers: Vec<u8>,
}

struct Peer {
    stream: TcpStream,
    /// How many bytes of a blank line the input ends with so far, 0 to 3.
    matched: usize,
    /// Bytes of answers not written yet. All answers are the same, so the number is enough.
    owed: usize,
    /// The peer has shut its side and all input is read.
    ended: bool,
    _guest: Guest,
}

impl Floor<'_> {
    /// Accepts connections. Returns when to accept again, even without an event.
    fn accept(&mut self, open: &mut Option<Door>, acceptable: &mut bool) -> Option<Instant> {
        for _ in 0..ACCEPTS_PER_TURN {
            let door = open.as_mut().filter(|_| *acceptable)?;
            match door.accept() {
                Accept::Guest(stream, guest) => self.welcome(stream, guest),
                Accept::Nobody => *acceptable = false,
                // The turn that closes a connection tries again.
                Accept::Full => return None,
                Accept::Later(at) => return Some(at),
                Accept::Closed => *open = None,
            }
        }
        Some(Instant::now())
    }

    fn welcome(&mut self, stream: std::net::TcpStream, guest: Guest) {
        let mut stream = TcpStream::from_std(stream);
        let slot = self.peers.vacant_entry();
        let key = slot.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if (self.registry.register(&mut stream, Token(key), interest)).is_err() {
            // The kernel has no memory for the registration; the peer sees a closed connection.
            return;
        }
        slot.insert(Peer::new(stream, guest));
        if self.host.drain_until().is_some() {
            self.end(key);
        }
    }

    /// Reads and writes as far as possible without waiting.
    fn advance(&mut self, key: usize, is_read_closed: bool) {
        // An earlier event of this turn may have closed this peer.
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let outcome = peer
            .read(&mut self.input, is_read_closed)
            .and_then(|()| peer.write(&self.answers));
        if outcome.is_err() || (peer.ended && peer.owed == 0) {
            self.peers.remove(key);
        }
    }

    /// Handles the stop signal: ends every connection.
    fn drain(&mut self) {
        let keys: Vec<usize> = self.peers.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.end(key);
        }
    }

    /// Answers what has arrived, and waits for nothing else.
    fn end(&mut self, key: usize) {
        // Reads now return what has arrived, then 0.
        self.peers[key].stream.shutdown(Shutdown::Read).ok();
        self.advance(key, true);
    }
}

impl Peer {
    fn new(stream: TcpStream, guest: Guest) -> Self {
        Peer {
            stream,
            matched: 0,
            owed: 0,
            ended: false,
            _guest: guest,
        }
    }

    /// Reads until the socket is empty, and adds an answer to `owed` for each blank line. `is_read_closed` means
    /// that the input ends and no further event announces that.
    fn read(&mut self, input: &mut [u8], is_read_closed: bool) -> io::Result<()> {
        while !self.ended {
            match self.stream.read(input) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.owed += self.blank_lines(&input[..n]) * ANSWER.len();
                    // A read that does not fill the buffer has emptied the socket; another one would only
                    // return EAGAIN.
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
        // A blank line that began in the read before.
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

    /// Writes what is owed until the socket is full; an event tells when there is room again.
    fn write(&mut self, answers: &[u8]) -> io::Result<()> {
        while self.owed > 0 {
            // The rest of an answer that was cut, then whole answers.
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
