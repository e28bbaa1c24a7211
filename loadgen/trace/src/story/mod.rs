//! What happened, in order, and why. Every output format is made from the [`Story`].

mod analysis;
mod calls;
#[cfg(test)]
mod claims;
mod endings;
mod flows;
mod http;
mod order;
mod phases;
mod relative;
mod remark;
mod states;
mod streams;
mod subject;
mod tell;
mod time_wait;
mod timeline;
mod weak;
mod why;

use std::net::SocketAddr;

pub use relative::Relative;
pub(crate) use relative::{METHODS, token};
pub use remark::{Remark, labels};
pub use tell::tell;

use self::states::Effect;
use super::model::{Endpoints, IcmpError, Info, Packet, Side, Snapshot, State};

/// A whole trace.
#[derive(Debug, Clone)]
pub struct Story {
    /// Time of the first event, in ns of the record's clock. All other times count from it.
    pub origin_ns: u64,
    /// What came before the first connection, such as the server's `listen`; may be empty.
    pub prologue: Vec<Phase>,
    /// The connections, ordered by their first packets or calls.
    pub connections: Vec<Connection>,
    /// Events after the first connection began that belong to no connection, such as other calls of
    /// the server.
    pub others: Vec<Event>,
    /// What the reader should know about the record: lost events, missing sources.
    pub notes: Vec<String>,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The addresses of both ends.
    pub endpoints: Endpoints,
    /// Sorted by time; each phase begins where the one before it ends.
    pub phases: Vec<Phase>,
    /// How the connection ended, and why.
    pub ending: Ending,
    /// State changes of both ends, sorted by time.
    pub states: Vec<StateChange>,
    /// Times between the events of this connection are meaningless.
    pub lacks_times: bool,
}

/// A part of a connection, with its own heading.
#[derive(Debug, Clone)]
pub struct Phase {
    /// The kind of phase.
    pub kind: PhaseKind,
    /// In plain words: `The three-way handshake`.
    pub heading: String,
    /// One to three sentences that explain the phase, with the figures of this trace.
    pub explanation: String,
    /// Sorted by time. Empty for an aftermath in which nothing was seen.
    pub events: Vec<Event>,
}

/// The kinds of phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PhaseKind {
    /// The server creates a socket and listens.
    Listening,
    /// SYN, SYN+ACK, ACK; or whatever answered the SYN.
    Handshake,
    /// Bytes from the client.
    Request,
    /// Bytes from the server.
    Response,
    /// FINs or a RST.
    Close,
    /// After the last segment: `TIME-WAIT`.
    Aftermath,
}

/// One line of the story.
#[derive(Debug, Clone)]
pub struct Event {
    /// Time since the origin, in ns; never negative.
    pub at_ns: u64,
    /// What happened.
    pub what: Happening,
    /// The reason or the meaning, in at most 100 characters.
    pub why: Option<String>,
}

/// The kinds of events.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A captured segment.
    Segment(Segment),
    /// A state change of one end.
    State(StateChange),
    /// Entry of a system call, its return, or both when nothing happened in between.
    Call(CallLine),
    /// The sockets at this moment.
    Sockets(Snapshot),
    /// The kernel's `tcp_info`.
    Info(Info),
    /// An ICMP error: a router or host did not deliver a segment.
    Icmp(IcmpError),
    /// What the client saw, in plain words; only where no better source covers it.
    Moment(String),
    /// Nothing happens for this many ns, for example while a timer runs.
    Silence(u64),
}

/// A segment with readable numbers.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The sender.
    pub from: Side,
    /// The segment as captured.
    pub packet: Packet,
    /// The first sequence number and the one after the last, relative to the first number of its
    /// side; a SYN has its absolute number.
    pub sequence: (u32, u32),
    /// Acknowledgement number, relative to the first number of the other side.
    pub acknowledgement: Option<u32>,
    /// Window in bytes, scaled as agreed in the handshake.
    pub window_bytes: u32,
    /// The same bytes were captured before.
    pub retransmission: bool,
    /// Number of additional captures of the same packet, for example on a second interface.
    pub copies: u32,
    /// Names for what the segment is: a keep-alive, a duplicate ACK.
    pub remarks: Vec<Remark>,
    /// The first line of an HTTP message in the payload: `GET / HTTP/1.1`, `HTTP/1.1 200 OK`.
    pub http: Option<String>,
}

impl Segment {
    /// Whether the segment belongs to this connection, rather than being ignored as part of
    /// another.
    pub fn counts(&self) -> bool {
        self.effect() == Effect::Counts
    }

    fn effect(&self) -> Effect {
        let has = |remark| self.remarks.contains(&remark);
        match () {
            () if has(Remark::OutsideWindow) || has(Remark::ChallengeAck) => Effect::Nothing,
            () if has(Remark::ResetIgnored) => Effect::Ignored,
            () => Effect::Counts,
        }
    }
}

/// A state change of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// Time since the origin, in ns.
    pub at_ns: u64,
    /// The end that changes.
    pub side: Side,
    /// The state before.
    pub old: State,
    /// The state after.
    pub new: State,
    /// How the change is known.
    pub origin: Origin,
}

/// How a change of state is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel reported it.
    Kernel,
    /// It follows from the segments (RFC 9293 §3.10).
    Derived,
    /// Likely from the captured segments; the segments that would prove it were not captured.
    Likely,
}

/// A line for a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLine {
    /// The side whose process made the call.
    pub side: Side,
    /// Thread ID.
    pub tid: u32,
    /// Name of the call, such as `recvfrom`.
    pub name: &'static str,
    /// In the style of strace, as far as known: `4, 1024 bytes`.
    pub arguments: String,
    /// Which half of the call the line shows.
    pub part: Part,
    /// Result, on return: `38`, `-1 ECONNRESET`.
    pub result: Option<String>,
    /// Duration in ns, on return.
    pub took_ns: Option<u64>,
    /// Peer of the socket, if known.
    pub peer: Option<SocketAddr>,
}

/// The part of a call that a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole call: nothing else happened during it.
    Whole,
    /// The entry; something happens before the call returns.
    Enter,
    /// The return.
    Leave,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The kind of ending.
    pub kind: EndingKind,
    /// One or more sentences: what happened and why.
    pub explanation: String,
}

/// The ways in which a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndingKind {
    /// It was open when the record ended.
    Open,
    /// Not known: the capture begins or ends in the middle of the connection.
    Unknown,
    /// FINs in both directions; this side sent the first and holds `TIME-WAIT`.
    Closed(Side),
    /// Both sides sent a FIN before they saw the other's.
    Simultaneous,
    /// A RST answered the SYN.
    Refused,
    /// An ICMP error answered the SYN.
    Unreachable,
    /// No answer to the SYN, although it was sent again.
    NoAnswer,
    /// A RST from this side ended an established connection.
    Reset(Side),
    /// This side has closed its half; the other has not.
    HalfClosed(Side),
    /// Nothing more arrived until one side gave up.
    Silent,
}
