//! A peer's connection. This module judges everything that goes wrong on it, for all behaviours.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::answer::{self, After, Expected, Read};
use crate::peers::{Behaviour, Nature};
use crate::tally::{End, Fault, Kind, abridged};
use crate::world::{Stage, World};

/// A peer's connection, from connect to close.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    world: Rc<World>,
    behaviour: &'static Behaviour,
    stage: watch::Receiver<Stage>,
    opened: Instant,
    /// When the peer last sent something or read an answer; the server's idle time began about then.
    active: Instant,
    /// The last bytes sent since everything was answered, for reports of faults.
    sent: Vec<u8>,
    is_answered: bool,
    /// Bytes received and not yet read as an answer.
    unread: Vec<u8>,
    /// Total bytes received.
    bytes_received: u64,
}

/// The size of a peer's receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Usual,
    /// Room for a few answers, in small segments. That keeps the server's buffers small too, so that a peer that
    /// does not read blocks the server soon.
    Narrow,
}

/// The outcome of a read.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Bytes,
    End,
    /// Nothing came in time.
    Nothing,
}

/// How a wait for the next turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The time has come.
    Until,
    /// The server closed the connection, as it may when it is idle.
    Closed,
    /// The soak has entered another stage.
    Stage(Stage),
}

impl Connection {
    pub(crate) async fn open(
        world: &Rc<World>,
        behaviour: &'static Behaviour,
        room: Room,
    ) -> Result<Self, End> {
        let opened = Instant::now();
        let connect = async { socket(world, room)?.connect(world.address).await };
        let stream = match timeout_at(opened + world.times.patience, connect).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let stream = stream.map_err(|error| not_connected(world, opened, &error))?;
        Ok(Connection {
            stream,
            world: Rc::clone(world),
            behaviour,
            stage: world.stage.subscribe(),
            opened,
            active: Instant::now(),
            sent: Vec::new(),
            is_answered: false,
            unread: Vec::new(),
            bytes_received: 0,
        })
    }

    /// Sends all bytes, unless the server may have closed the idle connection by now.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.active.elapsed() > self.world.idle_safely() {
            return Err(End::Late);
        }
        self.send_late(bytes).await
    }

    /// Sends all bytes, even if it is late.
    pub(crate) async fn send_late(&mut self, bytes: &[u8]) -> Result<(), End> {
        const SENT_KEPT: usize = 4 << 10;
        self.active = Instant::now();
        if std::mem::take(&mut self.is_answered) {
            self.sent.clear();
        }
        self.sent.extend_from_slice(bytes);
        let excess = self.sent.len().saturating_sub(SENT_KEPT);
        self.sent.drain(..excess);
        let until = self.active + self.patience();
        match timeout_at(until, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.judge(Kind::Reset, &format!("sending: {error}"))),
            Err(_) => Err(self.judge(Kind::NoAnswer, "sending: nothing is taken")),
        }
    }

    /// Sends what the socket takes at once; 0 means that it is full.
    ///
    /// # Errors
    ///
    /// If the server has dropped the connection.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            outcome => outcome,
        }
    }

    /// Shuts the peer's side.
    pub(crate) async fn half_close(&mut self) -> Result<(), End> {
        let outcome = self.stream.shutdown().await;
        outcome.map_err(|error| self.judge(Kind::Reset, &format!("shutting: {error}")))
    }

    /// Reads the next answer, which must be `expected`. Returns whether the connection stays open after it.
    pub(crate) async fn answer(&mut self, expected: Expected, after: After) -> Result<bool, End> {
        let head_only = expected == Expected::HelloHead;
        let mut until = Instant::now() + self.patience();
        loop {
            match answer::read(&self.unread, head_only) {
                Read::Whole(answer, used) => {
                    let is_final = answer.status >= 200;
                    if is_final {
                        self.world.tally.borrow_mut().saw(answer.status);
                    }
                    if !self.world.ours && !is_final && expected != Expected::Continue {
                        self.unread.drain(..used);
                        continue; // Servers of others may send interim answers (9110 §15.2).
                    }
                    let stays = answer
                        .check(expected, after, self.world.rules())
                        .map_err(|why| self.judge(Kind::WrongAnswer, &why))?;
                    self.unread.drain(..used);
                    self.active = Instant::now();
                    self.is_answered = is_final;
                    if is_final {
                        let mut tally = self.world.tally.borrow_mut();
                        tally.answered(self.behaviour.name);
                    }
                    return Ok(stays);
                }
                Read::Wrong(why) => return Err(self.judge(Kind::WrongAnswer, &why)),
                Read::Incomplete => {}
            }
            match self.receive(until).await? {
                // An answer that has begun is waited for to its end.
                Found::Bytes => until = Instant::now() + self.patience(),
                Found::End => {
                    let why = format!("the end came before {expected:?}");
                    return Err(self.judge(Kind::EarlyEnd, &why));
                }
                Found::Nothing => {
                    let why = format!("{expected:?} did not come in {:?}", self.patience());
                    return Err(self.judge(Kind::NoAnswer, &why));
                }
            }
        }
    }

    /// Reads all complete answers that have arrived. Each must be the expected one. Returns how many there were.
    pub(crate) fn answers_here(&mut self, expected: Expected) -> Result<usize, End> {
        let (mut answers, mut at) = (0, 0);
        let outcome = loop {
            match answer::read(&self.unread[at..], false) {
                Read::Whole(answer, used) => {
                    self.world.tally.borrow_mut().saw(answer.status);
                    let rules = self.world.rules();
                    if let Err(why) = answer.check(expected, After::Stays, rules) {
                        break Err(why);
                    }
                    answers += 1;
                    at += used;
                }
                Read::Incomplete => break Ok(()),
                Read::Wrong(why) => break Err(why),
            }
        };
        self.unread.drain(..at);
        match outcome {
            Ok(()) => Ok(answers),
            Err(why) => Err(self.judge(Kind::WrongAnswer, &why)),
        }
    }

    /// Expects an orderly close: all bytes are read, and then comes the end, not a reset.
    pub(crate) async fn end(&mut self) -> Result<(), End> {
        if self.unread.is_empty() {
            let until = Instant::now() + self.patience();
            match self.receive(until).await? {
                Found::End => return Ok(()),
                Found::Nothing => {
                    let why = format!("still open after {:?}", self.patience());
                    return Err(self.judge(Kind::NotClosed, &why));
                }
                Found::Bytes => {}
            }
        }
        Err(self.judge(Kind::BytesTooMany, "the end must come"))
    }

    /// Waits between two requests, until the given time. Nothing may come except the end, and that only if the
    /// connection may have been idle for too long or the server is stopping.
    pub(crate) async fn wait(&mut self, until: Instant) -> Result<Waited, End> {
        if !self.unread.is_empty() {
            return Err(self.judge(Kind::BytesTooMany, "nothing was asked for"));
        }
        let mut stage = self.stage.clone();
        let found = tokio::select! {
            found = self.receive(until) => found?,
            changed = stage.changed() => {
                changed.expect("the world outlives its peers");
                let now = *stage.borrow_and_update();
                self.stage = stage;
                return Ok(Waited::Stage(now));
            }
        };
        match found {
            Found::Nothing => Ok(Waited::Until),
            Found::Bytes => Err(self.judge(Kind::BytesTooMany, "nothing was asked for")),
            Found::End if self.active.elapsed() >= self.world.idle_safely() => Ok(Waited::Closed),
            Found::End if self.is_stopping() => Ok(Waited::Closed),
            Found::End => {
                let idle = self.active.elapsed();
                Err(self.judge(
                    Kind::EarlyEnd,
                    &format!("closed between requests, {idle:?} after the last"),
                ))
            }
        }
    }

    /// Whether unread bytes have come; waits for them until the given time.
    pub(crate) async fn has_answer(&mut self, until: Instant) -> Result<bool, End> {
        Ok(!self.unread.is_empty() || self.receive(until).await? != Found::Nothing)
    }

    /// Reads at most this many bytes without checking them; 0 is the end.
    ///
    /// # Errors
    ///
    /// A reset, or no bytes until the given time.
    pub(crate) async fn take(&mut self, max: usize, until: Instant) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let max = max.min(buffer.len());
        let n = match timeout_at(until, self.stream.read(&mut buffer[..max])).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        self.bytes_received += n as u64;
        self.unread.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    /// Whether the server has sent anything, read or not.
    pub(crate) fn is_served(&self) -> bool {
        let peeked = SockRef::from(&self.stream).peek(&mut [std::mem::MaybeUninit::uninit()]);
        self.bytes_received > 0 || peeked.is_ok_and(|n| n > 0)
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        // This fails if the server has closed already.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// What a fault of this kind means in the present stage, with a description of what led to it.
    pub(crate) fn judge(&self, kind: Kind, why: &str) -> End {
        let unserved = self.bytes_received == 0;
        if let Stage::Stopping(since) = self.world.stage() {
            let is_cut_off = since.elapsed() + CUT_OFF_MARGIN >= self.world.times.grace;
            if !self.world.ours || self.behaviour.nature == Nature::Slow {
                return End::Left;
            }
            if unserved && self.opened >= since {
                return End::Refused;
            }
            if unserved && self.world.may_starve() && is_cut_off {
                return End::GaveUp;
            }
        }
        if unserved && self.world.may_starve() {
            let is_in_vain = match kind {
                Kind::NoAnswer | Kind::NotDropped => true,
                Kind::Reset => self.world.has_overflowed(),
                _ => false,
            };
            if is_in_vain {
                return End::GaveUp;
            }
        }
        let stopping = match self.world.stage() {
            Stage::Stopping(since) => format!(", {:.1?} after SIGTERM", since.elapsed()),
            Stage::Mix | Stage::Leaving => String::new(),
        };
        let story = format!(
            "{why}; {:.1?} after connecting{stopping}; sent {}; received {} and {} bytes before",
            self.opened.elapsed(),
            abridged(&self.sent),
            abridged(&self.unread),
            self.bytes_received - self.unread.len() as u64,
        );
        End::Fault(Fault { kind, story })
    }

    fn patience(&self) -> Duration {
        self.world.times.patience
    }

    fn is_stopping(&self) -> bool {
        matches!(self.world.stage(), Stage::Stopping(_))
    }

    /// Reads once.
    async fn receive(&mut self, until: Instant) -> Result<Found, End> {
        let leaves = self.world.may_starve() && self.bytes_received == 0;
        let mut stage = self.stage.clone();
        let left = async move {
            match leaves {
                // A peer that may wait in vain stops waiting when it is asked to leave.
                true => stage
                    .wait_for(|stage| *stage == Stage::Leaving)
                    .await
                    .is_ok(),
                false => std::future::pending().await,
            }
        };
        // `read_buf` gives an empty Vec room for only 64 bytes.
        self.unread.reserve(READ_BYTES);
        let outcome = tokio::select! {
            biased; // Bytes that have arrived are in time.
            outcome = self.stream.read_buf(&mut self.unread) => outcome,
            () = sleep_until(until) => return Ok(Found::Nothing),
            _ = left => return Err(End::Left),
        };
        match outcome {
            Ok(0) => Ok(Found::End),
            Ok(n) => {
                self.bytes_received += n as u64;
                Ok(Found::Bytes)
            }
            Err(error) => Err(self.judge(Kind::Reset, &format!("reading: {error}"))),
        }
    }
}

/// About the most bytes in one read.
const READ_BYTES: usize = 4096;

/// How long before the end of the grace period a server that serves few at a time may cut off peers that still
/// wait.
const CUT_OFF_MARGIN: Duration = Duration::from_millis(500);

fn socket(world: &World, room: Room) -> io::Result<TcpSocket> {
    let domain = Domain::for_address(world.address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if room == Room::Narrow {
        socket.set_recv_buffer_size(4096)?;
        socket.set_send_buffer_size(64 << 10)?;
        socket.set_tcp_mss(536)?;
    }
    if world.address.ip().is_loopback() && world.address.is_ipv4() {
        // The port is chosen in connect, when the remote end is known, so that connections to different ends
        // can share a port.
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&world.next_source().into())?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn not_connected(world: &World, since: Instant, error: &io::Error) -> End {
    let timed_out = error.kind() == io::ErrorKind::TimedOut;
    match world.stage() {
        Stage::Stopping(_) => End::Refused,
        Stage::Leaving if timed_out && world.may_starve() => End::Left,
        _ if timed_out && world.may_starve() => End::GaveUp,
        _ => End::Fault(Fault {
            kind: Kind::NoConnection,
            story: format!("connecting: {error}, after {:.1?}", since.elapsed()),
        }),
    }
}
