//! One of the connections of a plan: a place that holds one socket after another.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::time::Duration;

use mio::net::TcpStream;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, Socket, Type};

use crate::plan::{ConnectionLife, Plan};
use crate::record::{Kind, Phase};
use crate::response::Reader;

/// Times are nanoseconds since the start of the run.
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) reader: Reader,
    /// Requests not yet answered, in the order in which they were sent.
    pub(super) in_flight: VecDeque<Sent>,
    /// What the socket has not taken yet of the requests last sent.
    pub(super) unsent: Range<usize>,
    /// When the first byte of the response now being read came.
    pub(super) first_byte_at: Option<u64>,
    /// Requests sent and answered on the present socket.
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// How long the present socket took to connect, until that was recorded.
    pub(super) connect_ns: Option<u64>,
    /// Failures since the last response.
    failures: u32,
    cannot_connect: bool,
}

pub(super) enum State {
    Connecting(TcpStream, u64),
    Open(TcpStream),
    /// Opened anew at this time.
    Waiting(u64),
    /// No more requests to send.
    Finished,
}

/// Requests sent in one go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: u64,
    pub(super) count: u64,
}

impl Connection {
    pub(super) fn new(head_only: bool) -> Self {
        Connection {
            state: State::Waiting(0),
            reader: Reader::new(head_only),
            in_flight: VecDeque::new(),
            unsent: 0..0,
            first_byte_at: None,
            sent: 0,
            answered: 0,
            connect_ns: None,
            failures: 0,
            cannot_connect: false,
        }
    }

    /// Makes it ready for a new socket.
    pub(super) fn reset(&mut self) {
        self.reader.reset();
        self.in_flight.clear();
        self.unsent = 0..0;
        self.first_byte_at = None;
        self.sent = 0;
        self.answered = 0;
        self.connect_ns = None;
    }

    /// The phase of the exchange that is going on.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Connecting(..) | State::Waiting(_) => Phase::Connect,
            _ if !self.unsent.is_empty() => Phase::Send,
            _ if self.in_flight.is_empty() => Phase::Close,
            _ if self.first_byte_at.is_some() => Phase::Body,
            _ => Phase::FirstByte,
        }
    }

    /// Since when it has waited for the peer, if it waits.
    pub(super) fn waits_since(&self) -> Option<u64> {
        match self.state {
            State::Connecting(_, since) => Some(since),
            _ => self.in_flight.front().map(|sent| sent.at),
        }
    }

    pub(super) fn in_flight_count(&self) -> u64 {
        self.in_flight.iter().map(|sent| sent.count).sum()
    }

    /// A response has come: whatever failed before, the server works.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Its last attempt to connect has failed.
    pub(super) fn cannot_connect(&self) -> bool {
        self.cannot_connect && matches!(self.state, State::Waiting(_))
    }

    /// How long to wait before the next attempt after a failure in `phase`: the longer the more have
    /// failed, but a connection lost in use is replaced at once.
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

/// Starts to connect the connection that has number `slot` in the plan. Says whether it is established
/// already.
pub(super) fn connect(plan: &Plan, slot: usize) -> io::Result<(TcpStream, bool)> {
    let target = plan.target;
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    if plan.life != ConnectionLife::Requests(1) {
        // Where a request may follow another, Nagle's algorithm could hold it back.
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(source) = source(plan, slot) {
        // The port is chosen with the whole connection in view, not now for the address alone.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&source.into())?;
    }
    let connected = match socket.connect(&target.into()) {
        Ok(()) => true,
        // On loopback the handshake is over by now all the same: the answer to the SYN came while
        // connect held the socket, and was taken in when it let go.
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {
            socket.peer_addr().is_ok()
        }
        Err(error) => return Err(error),
    };
    Ok((TcpStream::from_std(socket.into()), connected))
}

/// Loopback addresses that new connections come from in turn.
pub(crate) const SOURCES: usize = 32;

/// Where connections to loopback come from when each carries few requests: one address has some 28,000
/// ports, and a closed connection keeps its port in TIME_WAIT.
fn source(plan: &Plan, slot: usize) -> Option<SocketAddr> {
    match (plan.target, plan.life) {
        (SocketAddr::V4(target), ConnectionLife::Requests(_)) if target.ip().is_loopback() => {
            let last = 1 + (slot % SOURCES) as u8;
            Some(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0).into())
        }
        _ => None,
    }
}

/// Sorts an error of the operating system.
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
