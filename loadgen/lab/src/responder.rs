//! The responder: the generator's built-in server, which parses nothing and answers a constant. A
//! request costs it about what the kernel charges every server; a generator is measured against it.
//!
//! One thread, one mio `Poll`, readiness events, edge-triggered. It counts the ends of request
//! heads, wherever a read may cut them, and owes one answer for each. A body with an empty line
//! would count as another request: this server is only for `GET`.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

/// What the responder did, printed as one line of JSON when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Complete requests, each of which was owed an answer.
    pub requests: u64,
}

/// Serves until something is written to the other end of `stop`, or that end is closed. Connections
/// accepted or waiting by then, and requests sent by then, are still served, within 4 seconds.
///
/// # Errors
///
/// If the poll cannot be set up or fails.
pub fn serve(listener: TcpListener, stop: UnixStream) -> io::Result<Counts> {
    let mut responder = Responder::new(listener, stop)?;
    let mut events = Events::with_capacity(1024);
    while responder.has_work() {
        responder.wait(&mut events)?;
        for event in &events {
            match event.token() {
                LISTENER => responder.acceptable = true,
                STOP => responder.drain(),
                Token(key) => responder.ready(key, event),
            }
        }
        responder.accept();
    }
    Ok(responder.counts)
}

/// A listening socket with a long accept queue.
///
/// # Errors
///
/// Those of `socket`, `setsockopt`, `bind` and `listen`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit the option. Answers are written as a whole, so Nagle's algorithm
    // could only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    // std's listener would use a backlog of 128.
    socket.listen(4096)?;
    Ok(socket.into())
}

/// The answer. `ab` treats a connection as kept alive only if the answer says so.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 11\r\n\r\nhello world";

/// The maximum number of answers in one write.
const ANSWERS_MAX: usize = 256;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// A token greater than any file descriptor.
const LISTENER: Token = Token(usize::MAX - 1);
const STOP: Token = Token(usize::MAX - 2);

/// The number of accepts, or of reads from one connection, before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
const READS_PER_TURN: usize = 16;

const BUFFER_BYTES: usize = 64 << 10;

/// How long accepting pauses after files or memory have run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);

/// How long a peer may take to read its answers once the responder is stopping. A server has 5 s.
const GRACE: Duration = Duration::from_secs(4);

struct Responder {
    poll: Poll,
    /// `None` once the responder is stopping and the accept queue is empty.
    listener: Option<mio::net::TcpListener>,
    /// Connections may wait in the accept queue.
    acceptable: bool,
    /// Files had run out; nothing is accepted before this time.
    accept_after: Option<Instant>,
    /// When to end at the latest, once it is stopping.
    ends_at: Option<Instant>,
    /// By file descriptor: small numbers that the kernel reuses.
    peers: Vec<Option<Peer>>,
    open: usize,
    desk: Desk,
    counts: Counts,
    /// Kept open for the event it is registered for.
    _stop: mio::net::UnixStream,
}

impl Responder {
    fn new(listener: TcpListener, stop: UnixStream) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        stop.set_nonblocking(true)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        let mut stop = mio::net::UnixStream::from_std(stop);
        let poll = Poll::new()?;
        (poll.registry()).register(&mut listener, LISTENER, Interest::READABLE)?;
        (poll.registry()).register(&mut stop, STOP, Interest::READABLE)?;
        Ok(Responder {
            poll,
            listener: Some(listener),
            acceptable: true,
            accept_after: None,
            ends_at: None,
            peers: Vec::new(),
            open: 0,
            desk: Desk::new(),
            counts: Counts::default(),
            _stop: stop,
        })
    }

    fn has_work(&self) -> bool {
        let time_is_up = self.ends_at.is_some_and(|end| Instant::now() >= end);
        (self.listener.is_some() || self.open > 0) && !time_is_up
    }

    /// Sleeps until something is ready, or until it is time to accept again or to end.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = match (
            self.acceptable && self.listener.is_some(),
            self.accept_after,
        ) {
            (true, None) => Some(Duration::ZERO),
            (_, after) => {
                let next = [after, self.ends_at].into_iter().flatten().min();
                next.map(|next| next.saturating_duration_since(Instant::now()))
            }
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// Accepts connections, but not so many that existing ones would wait.
    fn accept(&mut self) {
        if let Some(after) = self.accept_after {
            if Instant::now() < after {
                return;
            }
            self.accept_after = None;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let (true, Some(listener)) = (self.acceptable, &self.listener) else {
                return;
            };
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.acceptable = false;
                        if self.ends_at.is_some() {
                            self.listener = None;
                        }
                    }
                    // That connection failed; the next may succeed.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    // Usually files or memory have run out. The connection stays in the queue and
                    // its event is spent, so it must be tried again, but not at once, which would
                    // spin.
                    _ => {
                        self.accept_after = Some(Instant::now() + ACCEPT_BACKOFF);
                        return;
                    }
                },
            }
        }
    }

    fn welcome(&mut self, mut stream: TcpStream) {
        self.counts.accepted += 1;
        let key = stream.as_raw_fd() as usize;
        let registry = self.poll.registry();
        if (registry.register(&mut stream, Token(key), Interest::READABLE)).is_err() {
            return; // The kernel has no memory for it; the peer sees a closed connection.
        }
        if key >= self.peers.len() {
            self.peers.resize_with(key + 1, || None);
        }
        self.peers[key] = Some(Peer::new(stream));
        self.open += 1;
        if self.ends_at.is_some() {
            self.drain_peer(key);
        }
    }

    fn ready(&mut self, key: usize, event: &Event) {
        // An event of this turn may concern a peer that another event of this turn has closed.
        if let Some(peer) = &mut self.peers[key] {
            peer.readable |= event.is_readable();
            peer.ends |= event.is_read_closed();
            peer.blocked &= !event.is_writable();
            self.advance(key);
        }
    }

    /// Handles a peer as far as possible without waiting.
    fn advance(&mut self, key: usize) {
        let Some(peer) = &mut self.peers[key] else {
            return;
        };
        let requests = &mut self.counts.requests;
        let goes_on = peer.advance(self.poll.registry(), &mut self.desk, requests);
        // A peer's error ends its own connection and nothing else.
        if !goes_on.unwrap_or(false) {
            self.peers[key] = None;
            self.open -= 1;
        }
    }

    /// Handles the stop signal: requests that have arrived are answered, on open connections and on
    /// those in the accept queue; nothing else is awaited.
    fn drain(&mut self) {
        if self.ends_at.is_none() {
            self.ends_at = Some(Instant::now() + GRACE);
            self.acceptable = true;
            (0..self.peers.len()).for_each(|key| self.drain_peer(key));
        }
    }

    fn drain_peer(&mut self, key: usize) {
        if let Some(peer) = &mut self.peers[key] {
            // From here on a read returns what is available, then 0.
            peer.stream.shutdown(Shutdown::Read).unwrap_or_default();
            (peer.readable, peer.ends) = (true, true);
            self.advance(key);
        }
    }
}

/// State shared by all peers.
struct Desk {
    head_end: Finder<'static>,
    /// As many answers as are written at once.
    answers: Vec<u8>,
    input: Vec<u8>,
}

impl Desk {
    fn new() -> Self {
        Desk {
            head_end: Finder::new(HEAD_END),
            answers: ANSWER.repeat(ANSWERS_MAX),
            input: vec![0; BUFFER_BYTES],
        }
    }
}

struct Peer {
    stream: TcpStream,
    heads: Heads,
    /// Bytes of answers that the peer has yet to be sent. All answers are equal, so a number
    /// suffices, and a peer that does not read costs no memory.
    owed: usize,
    /// The socket may have input.
    readable: bool,
    /// The peer shut down its side: input ends with a read of 0 that no further event will
    /// announce.
    ends: bool,
    /// That read has happened.
    over: bool,
    /// The socket accepts no more bytes for now.
    blocked: bool,
    /// Write events are requested too, because the socket once accepted no more bytes.
    watches_writing: bool,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        Peer {
            stream,
            heads: Heads::default(),
            owed: 0,
            readable: false,
            ends: false,
            over: false,
            blocked: false,
            watches_writing: false,
        }
    }

    /// Reads and answers. Returns whether the connection continues.
    fn advance(
        &mut self,
        registry: &Registry,
        desk: &mut Desk,
        requests: &mut u64,
    ) -> io::Result<bool> {
        for _ in 0..READS_PER_TURN {
            if !self.readable {
                break;
            }
            match self.stream.read(&mut desk.input) {
                Ok(0) => (self.readable, self.over) = (false, true),
                Ok(n) => {
                    // A read that does not fill the buffer has emptied the socket: no need for an
                    // EAGAIN.
                    self.readable = n == desk.input.len() || self.ends;
                    let heads = self.heads.count(&desk.input[..n], &desk.head_end);
                    *requests += heads as u64;
                    self.owed += heads * ANSWER.len();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        self.answer(registry, desk)?;
        if self.readable {
            // Registering again repeats the edge, after the others' turn.
            self.register(registry)?;
        }
        Ok(!self.over || self.owed > 0)
    }

    /// Writes the owed answers, as far as the socket accepts them.
    fn answer(&mut self, registry: &Registry, desk: &Desk) -> io::Result<()> {
        while self.owed > 0 && !self.blocked {
            match self.stream.write(&desk.answers[next_part(self.owed)]) {
                Ok(n) => self.owed -= n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    if !self.watches_writing {
                        self.watches_writing = true;
                        self.register(registry)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        let interest = match self.watches_writing {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        let token = Token(self.stream.as_raw_fd() as usize);
        registry.reregister(&mut self.stream, token, interest)
    }
}

/// The range, within repeated answers, of the next bytes when `owed` are left: the rest of a partly
/// sent answer, then whole ones.
fn next_part(owed: usize) -> std::ops::Range<usize> {
    let start = (ANSWER.len() - owed % ANSWER.len()) % ANSWER.len();
    start..(start + owed).min(ANSWERS_MAX * ANSWER.len())
}

/// Finds the ends of request heads in bytes that arrive in pieces.
#[derive(Debug, Default)]
struct Heads {
    /// How much of an end the bytes so far end with, 0 to 3.
    matched: usize,
}

impl Heads {
    /// The number of heads that end in `input`, which `head_end` searches.
    fn count(&mut self, mut input: &[u8], head_end: &Finder) -> usize {
        let mut heads = 0;
        // An end that began in the previous piece.
        while self.matched > 0 {
            let Some((&byte, rest)) = input.split_first() else {
                return heads;
            };
            input = rest;
            self.matched = match byte {
                _ if byte == HEAD_END[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == HEAD_END.len() {
                (self.matched, heads) = (0, heads + 1);
            }
        }
        while let Some(at) = head_end.find(input) {
            input = &input[at + HEAD_END.len()..];
            heads += 1;
        }
        let begun = |&length: &usize| input.ends_with(&HEAD_END[..length]);
        self.matched = (1..HEAD_END.len()).rev().find(begun).unwrap_or(0);
        heads
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(pieces: &[&[u8]]) -> usize {
        let finder = Finder::new(HEAD_END);
        let mut heads = Heads::default();
        pieces.iter().map(|piece| heads.count(piece, &finder)).sum()
    }

    #[test]
    fn ends_of_heads() {
        let rows: [(&[&[u8]], usize); 10] = [
            (&[b""], 0),
            (&[b"GET / HTTP/1.1\r\n\r\n"], 1),
            (&[b"GET / HTTP/1.1\r\nA: b\r\n\r"], 0),
            (&[b"\r\n\r\n\r\n"], 1),
            (&[b"\r\n\r\n\r\n\r\n"], 2),
            (&[b"\r\n\r", b"\n"], 1),
            (&[b"\r\n\r", b"\r\n\r\n"], 1),
            (&[b"\r", b"\r", b"\n", b"\r", b"\n", b"\r\n"], 1),
            (&[b"\r\n", b"", b"\r\nx\r\n\r", b"\nx"], 2),
            (&[b"\r\nx", b"\r\n"], 0),
        ];
        for (pieces, expected) in rows {
            assert_eq!(count(pieces), expected, "for {pieces:?}");
        }
    }

    proptest! {
        /// However the bytes are split, the count equals that of a simple search in the whole.
        #[test]
        fn pieces_count_like_the_whole(
            whole in prop::collection::vec(prop::sample::select(b"\r\n\r\nx".to_vec()), 0..60),
            cuts in prop::collection::vec(0..60_usize, 0..6),
        ) {
            let mut expected = 0;
            let mut rest = &whole[..];
            while !rest.is_empty() {
                let is_end = rest.starts_with(HEAD_END);
                expected += usize::from(is_end);
                rest = &rest[if is_end { HEAD_END.len() } else { 1 }..];
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect();
            prop_assert_eq!(count(&pieces), expected);
        }
    }

    /// Whatever the sizes of the writes, the output is a sequence of answers.
    #[test]
    fn parts_make_whole_answers() {
        let desk = Desk::new();
        let answers = 3 * ANSWERS_MAX + 1;
        let mut owed = answers * ANSWER.len();
        let mut written = Vec::new();
        for taken in (1..).map(|n| n * 7 % 1000 + 1) {
            let part = &desk.answers[next_part(owed)];
            assert!(!part.is_empty());
            let taken = taken.min(part.len());
            written.extend_from_slice(&part[..taken]);
            owed -= taken;
            if owed == 0 {
                break;
            }
        }
        assert_eq!(written, ANSWER.repeat(answers));
    }
}
