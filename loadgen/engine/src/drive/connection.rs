//! One of a plan's connections: a slot that holds one socket after another.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use mio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::plan::{Close, ConnectionLife, Plan};
use crate::record::{Kind, Phase};
use crate::response::{Asked, Reader};

/// A connection of a plan. Times are nanoseconds since the start of the run.
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) reader: Reader,
    /// Unanswered requests, in the order in which they were sent.
    pub(super) in_flight: VecDeque<Sent>,
    /// The part of the last requests that the socket has not accepted yet.
    pub(super) unsent: Range<usize>,
    /// When the first byte of the current response arrived.
    pub(super) first_byte_at: Option<u64>,
    /// Requests sent and answered on the current socket.
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// The time since which the generator waits for the server to close, as requested.
    pub(super) closing_since: Option<u64>,
    /// The time since which part of an unsolicited message is pending.
    pub(super) unasked_since: Option<u64>,
    /// The time since which the connection could take a request: it was established, the previous
    /// request was answered, or its slot became free.
    pub(super) free_since: u64,
    /// How late the generator opened the current socket; valid until its first request is sent.
    pub(super) opened_late: u64,
    /// In open loop: the connection is in the queue of free ones.
    pub(super) idle: bool,
    /// The slot has held a socket before.
    pub(super) used: bool,
    /// Failures since the last response.
    failures: u32,
    cannot_connect: bool,
}

pub(super) enum State {
    /// Connecting since this time.
    Connecting(TcpStream, u64),
    Open(TcpStream),
    /// To be opened again at this time.
    Waiting(u64),
    /// In closed loop: no more requests to send. In open loop: not needed now.
    Empty,
}

/// Requests that were sent together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// The intended send time.
    pub(super) intended: u64,
    /// The actual send time.
    pub(super) at: u64,
    pub(super) count: u64,
    /// The number of the first request in the rotation.
    pub(super) number: usize,
    /// Whether the requests count: their intended send time lies between the warm-up and the end.
    pub(super) counts: bool,
}

impl Connection {
    pub(super) fn new(plan: &Plan, state: State) -> Self {
        let mut reader = Reader::new(plan.head_only).expecting(plan.expect.as_ref());
        if !plan.head_only {
            reader.answers(Asked::of_request(&plan.requests[0]));
        }
        Connection {
            state,
            reader,
            in_flight: VecDeque::new(),
            unsent: 0..0,
            first_byte_at: None,
            sent: 0,
            answered: 0,
            closing_since: None,
            unasked_since: None,
            free_since: 0,
            opened_late: 0,
            idle: false,
            used: false,
            failures: 0,
            cannot_connect: false,
        }
    }

    /// Prepares the slot for a new socket.
    pub(super) fn reset(&mut self) {
        self.reader.reset();
        self.in_flight.clear();
        self.unsent = 0..0;
        self.first_byte_at = None;
        self.sent = 0;
        self.answered = 0;
        self.closing_since = None;
        self.unasked_since = None;
        self.idle = false;
    }

    /// The phase of the current exchange.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Connecting(..) | State::Waiting(_) => Phase::Connect,
            _ if !self.unsent.is_empty() => Phase::Send,
            _ if self.in_flight.is_empty() => Phase::Close,
            _ if self.first_byte_at.is_some() => Phase::Body,
            _ => Phase::FirstByte,
        }
    }

    /// The time since which the connection waits for the peer, if it does.
    pub(super) fn waits_since(&self) -> Option<u64> {
        match self.state {
            State::Connecting(_, since) => Some(since),
            _ => self.in_flight.front().map(|sent| sent.at),
        }
    }

    pub(super) fn in_flight_count(&self) -> u64 {
        self.in_flight.iter().map(|sent| sent.count).sum()
    }

    /// Records a response: whatever failed before, the server works.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether its last attempt to connect failed.
    pub(super) fn cannot_connect(&self) -> bool {
        self.cannot_connect && matches!(self.state, State::Waiting(_))
    }

    /// Whether the slot has neither held a socket nor failed to get one so far.
    pub(super) fn is_first_try(&self) -> bool {
        !self.used && self.failures == 0
    }

    /// How long to wait before the next attempt after a failure in `phase`: longer with each
    /// consecutive failure, but a connection that was lost in use is replaced at once.
    pub(super) fn back_off(&mut self, phase: Phase) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(1);
        self.failures = self.failures.saturating_add(1);
        self.cannot_connect = phase == Phase::Connect;
        match self.failures {
            1 if phase != Phase::Connect => Duration::ZERO,
            n => LONGEST.min(SHORTEST * (1 << n.min(10))),
        }
    }
}

/// Starts to connect from `source`, or from an address that the kernel chooses. Returns whether the
/// connection is already established.
pub(super) fn connect(plan: &Plan, source: Option<IpAddr>) -> io::Result<(TcpStream, bool)> {
    let target = plan.target;
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    if plan.life != ConnectionLife::Requests(1) {
        // Nagle's algorithm could hold back a request that follows another.
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(source) = source {
        // The kernel chooses the port when the whole connection is known, not now for the address
        // alone.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    let connected = match socket.connect(&target.into()) {
        Ok(()) => true,
        // On loopback the handshake is already complete here: the answer to the SYN arrived while
        // connect held the socket, and was processed when it released the socket.
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {
            socket.peer_addr().is_ok()
        }
        Err(error) => return Err(error),
    };
    Ok((TcpStream::from_std(socket.into()), connected))
}

/// Closes a connection. By default that sends a FIN, and the generator's side enters TIME_WAIT.
pub(super) fn close(stream: TcpStream, close: Close) {
    if close == Close::Rst {
        // If this fails, the connection closes with a FIN, which is no worse.
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap_or_default();
    }
}

/// Classifies an error of the operating system.
pub(super) fn kind_of(error: &io::Error) -> Kind {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Kind::Refused,
        Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED) => Kind::Reset,
        Some(Errno::ETIMEDOUT) => Kind::Timeout,
        Some(Errno::EADDRNOTAVAIL) => Kind::AddressExhausted,
        Some(Errno::EMFILE | Errno::ENFILE) => Kind::TooManyFiles,
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Kind::Unreachable,
        _ => Kind::Other,
    }
}
