//! What happened, in order, and why: what every way of printing a trace is made of.

mod analysis;
mod calls;
#[cfg(test)]
mod claims;
mod endings;
mod flows;
mod http;
mod order;
mod phases;
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

pub use remark::{Remark, labels};
pub use tell::tell;

use self::states::Effect;
use super::model::{Endpoints, IcmpError, Info, Packet, Side, Snapshot, State};

/// A whole trace.
#[derive(Debug, Clone)]
pub struct Story {
    /// The first event, in ns of the record's clock. Times below count from it.
    pub origin_ns: u64,
    /// What came before the first connection, such as a server that begins to listen; may be empty.
    pub prologue: Vec<Phase>,
    /// Each connection, in the order of their first packets or calls.
    pub connections: Vec<Connection>,
    /// What belongs to no connection, after the first one began: other calls of the server.
    pub others: Vec<Event>,
    /// What the reader is to know of the record: lost events, sources that are missing.
    pub notes: Vec<String>,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Between whom.
    pub endpoints: Endpoints,
    /// In the order of time; each begins where the one before ends.
    pub phases: Vec<Phase>,
    /// How it ended, and why.
    pub ending: Ending,
    /// The states of both ends, in the order of time.
    pub states: Vec<StateChange>,
    /// Times between its events have no meaning.
    pub lacks_times: bool,
}

/// A part of a connection with a heading of its own.
#[derive(Debug, Clone)]
pub struct Phase {
    /// Which one.
    pub kind: PhaseKind,
    /// In plain words: `The three-way handshake`.
    pub heading: String,
    /// One to three sentences that explain it, with this trace's own figures.
    pub explanation: String,
    /// In the order of time. Empty of an aftermath in which nothing was seen.
    pub events: Vec<Event>,
}

/// What a phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PhaseKind {
    /// The server asks for a socket and listens.
    Listening,
    /// SYN, SYN+ACK, ACK; or what came of a SYN.
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

/// One line.
#[derive(Debug, Clone)]
pub struct Event {
    /// Since the origin, in ns; negative times do not occur.
    pub at_ns: u64,
    /// What.
    pub what: Happening,
    /// Why, or what it means, in at most 100 characters.
    pub why: Option<String>,
}

/// What can happen.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A segment went by.
    Segment(Segment),
    /// An end changes its state.
    State(StateChange),
    /// A program enters a call, leaves it, or both with nothing in between.
    Call(CallLine),
    /// The sockets at this moment.
    Sockets(Snapshot),
    /// TCP's own figures.
    Info(Info),
    /// A router or a host says that it does not deliver a segment.
    Icmp(IcmpError),
    /// What the client saw, in plain words, where there is nothing better.
    Moment(String),
    /// Time passes without any event, such as a timer that runs: for so many ns.
    Silence(u64),
}

/// A segment with numbers a person can follow.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Who sent it.
    pub from: Side,
    /// As it went by.
    pub packet: Packet,
    /// Its first sequence number and the one after its last, relative to the first of its side as tcpdump
    /// counts: a SYN shows the number itself.
    pub sequence: (u32, u32),
    /// Relative as well.
    pub acknowledgement: Option<u32>,
    /// In bytes, scaled as agreed upon in the handshake.
    pub window_bytes: u32,
    /// The same bytes went by before.
    pub retransmission: bool,
    /// How often it was captured beyond the first time, as on two interfaces.
    pub copies: u32,
    /// What it is called: a keep-alive, a duplicate ACK.
    pub remarks: Vec<Remark>,
    /// What its payload begins with, when that is HTTP: `GET / HTTP/1.1`, `HTTP/1.1 200 OK`.
    pub http: Option<String>,
}

impl Segment {
    /// It is a part of this connection, and not ignored as one of another.
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

/// A change of state of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// Since the origin, in ns.
    pub at_ns: u64,
    /// Which end.
    pub side: Side,
    /// The state before.
    pub old: State,
    /// The state after.
    pub new: State,
    /// How it is known.
    pub origin: Origin,
}

/// How a change of state is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel told it.
    Kernel,
    /// It follows from the segments (RFC 9293 §3.10).
    Derived,
    /// It is likely by the segments that there are: others, which would show it, were not captured.
    Likely,
}

/// A line of a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLine {
    /// Whose.
    pub side: Side,
    /// Thread.
    pub tid: u32,
    /// `recvfrom`
    pub name: &'static str,
    /// As strace shows them, as far as they are known: `4, 1024 bytes`.
    pub arguments: String,
    /// Which half of the call.
    pub part: Part,
    /// What came out, on leaving: `38`, `-1 ECONNRESET`.
    pub result: Option<String>,
    /// How long it took, on leaving, in ns.
    pub took_ns: Option<u64>,
    /// The socket it is about, if the peer is known.
    pub peer: Option<SocketAddr>,
}

/// Half of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it: nothing else happened meanwhile.
    Whole,
    /// It begins here, and something happens before it ends.
    Enter,
    /// It ends here.
    Leave,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Which way.
    pub kind: EndingKind,
    /// One or more sentences: what happened and why.
    pub explanation: String,
}

/// The ways in which a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndingKind {
    /// It was open when the record ended.
    Open,
    /// The capture begins or ends in the midst of it, so that nobody knows.
    Unknown,
    /// FINs in both directions; this side's came first, and it holds `TIME-WAIT`.
    Closed(Side),
    /// Both sent a FIN before they saw the other's.
    Simultaneous,
    /// A RST answered the SYN.
    Refused,
    /// An ICMP error answered the SYN.
    Unreachable,
    /// No answer to the SYN, though it was sent again.
    NoAnswer,
    /// A RST from this side in the midst of it.
    Reset(Side),
    /// This side has closed its half, the other has not.
    HalfClosed(Side),
    /// Nothing more came until somebody lost patience.
    Silent,
}
