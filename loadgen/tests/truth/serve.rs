//! The loop of a server: one thread, one poll, and a heap of answers by the time when they are due.
//!
//! A poll waits in whole milliseconds, so a timerfd wakes it, which is exact to what the scheduler
//! gives. When a request came is told by the kernel (SO_TIMESTAMPNS), however late this thread reads it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, ErrorKind, IoSliceMut, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::cmsg_space;
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::answer::Fault;
use super::{Answered, Options, Serves, Truth, WhenAskedToClose};

/// Times are nanoseconds since the start.
pub(super) struct Serve {
    options: Options,
    start: Instant,
    stop: Arc<AtomicBool>,
    poll: Poll,
    timer: TimerFd,
    /// When the timer goes off, if it does.
    timer_at: Option<u64>,
    listener: TcpListener,
    /// There may be connections to accept.
    acceptable: bool,
    accept_at: u64,
    /// By tokens, which are never used again.
    connections: HashMap<usize, Connection>,
    next_token: usize,
    due: BinaryHeap<Reverse<Due>>,
    random: fastrand::Rng,
    buffer: Vec<u8>,
    control: Vec<u8>,
    answer: Vec<u8>,
    answer_and_close: Vec<u8>,
    truth: Truth,
}

struct Connection {
    stream: TcpStream,
    /// Never read.
    ignored: bool,
    /// Of a request that has not come whole.
    input: Vec<u8>,
    /// What the kernel has not taken yet.
    output: Vec<u8>,
    /// Whole answers among that.
    unwritten: u64,
    /// Closed once that is written.
    closing: bool,
    /// A request was not answered, so those after it are not either.
    hangs: bool,
    /// When the last answer so far is due: none overtakes it.
    last_due: u64,
}

/// An answer to come. The order is that of time, then of requests.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    request: u64,
    token: usize,
    arrived: u64,
    drawn: u64,
    asked_to_close: bool,
    fault: Option<Fault>,
}

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const TIMER: Token = Token(2);
const FIRST_CONNECTION: usize = 3;

/// How long a server that is stopped waits for its clients to close.
const STOP_WITHIN: Duration = Duration::from_secs(2);

impl Serve {
    pub(super) fn new(
        options: Options,
        stop: Arc<AtomicBool>,
    ) -> io::Result<(Self, SocketAddr, Waker)> {
        let domain = Domain::for_address(options.listen);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // The sockets accepted inherit it.
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        socket.bind(&options.listen.into())?;
        socket.listen(options.backlog)?;
        let mut listener = TcpListener::from_std(socket.into());
        let address = listener.local_addr()?;

        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let timer_fd = timer.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&timer_fd), TIMER, Interest::READABLE)?;
        let serve = Serve {
            start: Instant::now(),
            stop,
            poll,
            timer,
            timer_at: None,
            listener,
            acceptable: true,
            accept_at: 0,
            connections: HashMap::new(),
            next_token: FIRST_CONNECTION,
            due: BinaryHeap::new(),
            random: fastrand::Rng::with_seed(options.seed),
            buffer: vec![0; 64 * 1024],
            control: cmsg_space!(TimeSpec),
            answer: options.framing.answer(false),
            answer_and_close: options.framing.answer(true),
            truth: Truth::default(),
            options,
        };
        Ok((serve, address, waker))
    }

    pub(super) fn run(mut self) -> io::Result<Truth> {
        let mut events = Events::with_capacity(1024);
        while !self.stopped() {
            self.answer_due();
            self.accept();
            self.set_timer()?;
            self.wait(&mut events, None)?;
        }
        self.drain(&mut events)?;
        Ok(self.truth)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Reads what clients sent before they closed, and answers nothing.
    fn drain(&mut self, events: &mut Events) -> io::Result<()> {
        self.options.accept_every = Duration::ZERO;
        self.accept_at = 0;
        let end = Instant::now() + STOP_WITHIN;
        loop {
            self.acceptable = true;
            self.accept();
            let left = end.saturating_duration_since(Instant::now());
            let all_closed = self.connections.values().all(|c| c.ignored);
            if all_closed || left.is_zero() {
                return Ok(());
            }
            self.wait(events, Some(left))?;
        }
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        for event in &*events {
            match event.token() {
                LISTENER => self.acceptable = true,
                TIMER => self.timer_at = None,
                WAKER => {}
                Token(token) => {
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.read(token);
                    }
                    if event.is_writable() {
                        self.flush(token);
                    }
                }
            }
            self.answer_due();
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Lets the timer go off when something is next due.
    fn set_timer(&mut self) -> io::Result<()> {
        let accept_at = self.acceptable.then_some(self.accept_at);
        let answer_at = self.due.peek().map(|Reverse(due)| due.at);
        let next = [accept_at, answer_at].into_iter().flatten().min();
        if let Some(at) = next
            && self.timer_at.is_none_or(|set| at < set)
        {
            // Of nothing, it would not go off at all.
            let left = at.saturating_sub(self.now()).max(1);
            let left = TimeSpec::from_duration(Duration::from_nanos(left));
            self.timer
                .set(Expiration::OneShot(left), TimerSetTimeFlags::empty())?;
            self.timer_at = Some(at);
        }
        Ok(())
    }

    fn accept(&mut self) {
        while self.acceptable {
            let now = self.now();
            let accepted = self.truth.connections;
            if now < self.accept_at {
                return;
            }
            let ignored = match self.options.serves {
                Serves::First(all) if accepted >= all => {
                    self.acceptable = false;
                    return;
                }
                Serves::FirstAndAccepts(all) => accepted >= all,
                Serves::All | Serves::First(_) => false,
            };
            match self.listener.accept() {
                Ok((stream, _)) => {
                    self.accept_at = now + self.options.accept_every.as_nanos() as u64;
                    self.accepted(stream, ignored);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.acceptable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // No file is free: some time later there may be one.
                Err(_) => self.accept_at = now + 10_000_000,
            }
        }
    }

    fn accepted(&mut self, mut stream: TcpStream, ignored: bool) {
        let token = self.next_token;
        self.next_token += 1;
        self.truth.connections += 1;
        // Without it, an answer in pieces would wait for the client's delayed acknowledgement.
        stream.set_nodelay(true).unwrap_or_default();
        if !ignored {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry
                .register(&mut stream, Token(token), interest)
                .expect("an open socket can be polled");
        }
        let connection = Connection {
            stream,
            ignored,
            input: Vec::new(),
            output: Vec::new(),
            unwritten: 0,
            closing: false,
            hangs: false,
            last_due: 0,
        };
        self.connections.insert(token, connection);
        let open = self.connections.len() as u64;
        self.truth.connections_open_max = self.truth.connections_open_max.max(open);
    }

    /// Takes the requests that have come on a connection.
    fn read(&mut self, token: usize) {
        loop {
            let Some(connection) = self.connections.get_mut(&token) else {
                return;
            };
            match receive(&connection.stream, &mut self.buffer, &mut self.control) {
                Ok((0, _)) => break,
                Ok((n, age)) => {
                    let arrived = self.start.elapsed().saturating_sub(age);
                    let arrived = arrived.as_nanos() as u64;
                    connection.input.extend_from_slice(&self.buffer[..n]);
                    self.requests(token, arrived);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // The client has closed. What it did not wait for, it is not given.
        self.connections.remove(&token);
    }

    fn requests(&mut self, token: usize, arrived: u64) {
        let connection = self.connections.get_mut(&token).expect("it was just read");
        let mut used = 0;
        while let Some(request) = Request::parse(&connection.input[used..]) {
            used += request.bytes;
            self.truth.requests += 1;
            if self.truth.arrivals_ns.len() < Truth::KEPT {
                self.truth.arrivals_ns.push(arrived);
            }
            if connection.hangs {
                continue;
            }
            let number = self.truth.requests;
            let every = self.options.fault_every;
            let turn = number.is_multiple_of(every).then(|| number / every - 1);
            let faults = &self.options.faults;
            let fault = turn.and_then(|turn| faults.get(turn as usize % faults.len().max(1)));
            if fault == Some(&Fault::Hang) {
                connection.hangs = true;
                *self.truth.faults.entry(Fault::Hang).or_default() += 1;
                continue;
            }
            let drawn = self.options.delay.draw_ns(&mut self.random);
            let mut at = (arrived + drawn).max(connection.last_due);
            if let Some(stall) = self.options.stall {
                at = stall.release_ns(at);
            }
            connection.last_due = at;
            self.due.push(Reverse(Due {
                at,
                request: number,
                token,
                arrived,
                drawn,
                asked_to_close: request.asks_to_close,
                fault: fault.copied(),
            }));
        }
        connection.input.drain(..used);
    }

    /// Sends what is due by now.
    fn answer_due(&mut self) {
        while let Some(Reverse(due)) = self.due.peek() {
            if due.at > self.now() || self.stopped() {
                return;
            }
            let Some(Reverse(due)) = self.due.pop() else {
                return;
            };
            self.answer(due);
        }
    }

    fn answer(&mut self, due: Due) {
        // Taken before the write, within which the client may have it already.
        let now = self.now();
        let Some(connection) = self.connections.get_mut(&due.token) else {
            return;
        };
        if connection.closing {
            return;
        }
        let asked = due
            .asked_to_close
            .then_some(self.options.when_asked_to_close);
        let (answer, closes) = match (due.fault, asked) {
            (Some(fault), _) => {
                *self.truth.faults.entry(fault).or_default() += 1;
                let obeys = matches!(asked, Some(asked) if asked != WhenAskedToClose::Ignores);
                (fault.bytes(), fault.closes() || obeys)
            }
            (None, Some(WhenAskedToClose::Closes)) => (&self.answer_and_close[..], true),
            (None, Some(WhenAskedToClose::ClosesUnannounced)) => (&self.answer[..], true),
            (None, _) => {
                let closes = self.options.framing == super::Framing::UntilClose;
                (&self.answer[..], closes)
            }
        };
        if due.fault == Some(Fault::Reset) {
            // Closed with no time to linger, a socket sends a reset.
            let socket = SockRef::from(&connection.stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap_or_default();
        }
        connection.unwritten += u64::from(due.fault.is_none_or(Fault::responds));
        connection.closing = closes;
        connection.output.extend_from_slice(answer);
        self.flush(due.token);
        if due.fault.is_none() && self.truth.answers.len() < Truth::KEPT {
            self.truth.answers.push(Answered {
                arrived_ns: due.arrived,
                drawn_ns: due.drawn,
                meant_ns: due.at - due.arrived,
                held_ns: now - due.arrived,
            });
        }
    }

    /// Writes what the kernel takes, and closes the connection if that was all that was left of it.
    fn flush(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let piece = self.options.framing.piece();
        let mut written = 0;
        while written < connection.output.len() {
            let rest = &connection.output[written..];
            match connection.stream.write(&rest[..piece.min(rest.len())]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.output.drain(..written);
                    return;
                }
                Err(_) => {
                    self.connections.remove(&token);
                    return;
                }
            }
        }
        connection.output.clear();
        self.truth.responses += std::mem::take(&mut connection.unwritten);
        if connection.closing {
            self.connections.remove(&token);
        }
    }
}

/// Reads, and says how long ago the last of it came; no time where the kernel does not tell.
fn receive(
    stream: &TcpStream,
    buffer: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, Duration)> {
    let mut buffers = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::empty();
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(control), flags)?;
    let age = message.cmsgs()?.find_map(|content| match content {
        ControlMessageOwned::ScmTimestampns(time) => {
            let came = UNIX_EPOCH + Duration::from(time);
            SystemTime::now().duration_since(came).ok()
        }
        _ => None,
    });
    Ok((message.bytes, age.unwrap_or_default()))
}

/// What matters of a request.
struct Request {
    bytes: usize,
    asks_to_close: bool,
}

impl Request {
    /// The request at the start of `input`, once it is whole, with a body of the length it gives.
    fn parse(input: &[u8]) -> Option<Self> {
        let head = memmem::find(input, b"\r\n\r\n")?;
        let mut request = Request {
            bytes: head + 4,
            asks_to_close: false,
        };
        for line in input[..head].split(|&byte| byte == b'\n').skip(1) {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"connection") {
                request.asks_to_close = value.eq_ignore_ascii_case(b"close");
            } else if name.eq_ignore_ascii_case(b"content-length") {
                let length: usize = std::str::from_utf8(value).ok()?.parse().ok()?;
                request.bytes += length;
            }
        }
        (request.bytes <= input.len()).then_some(request)
    }
}
