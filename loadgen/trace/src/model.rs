//! What was seen, before anything is made of it.
//!
//! All times are nanoseconds of one clock: `CLOCK_MONOTONIC` of a live trace, the time since 1970 of a
//! capture file. Only differences have a meaning.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
pub use subject::sockets::{Holder, Info, Socket, State, Timer};

/// All that was seen of a few connections.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// In the order of the file, or of time.
    pub packets: Vec<Packet>,
    /// Some of them have no time of their own, so that times between them have no meaning.
    pub lacks_times: bool,
    /// Errors about TCP segments, in the order of time.
    pub errors: Vec<IcmpError>,
    /// As the kernel told them, in the order of time.
    pub changes: Vec<Change>,
    /// In the order of their entry.
    pub calls: Vec<Call>,
    /// In the order of time.
    pub snapshots: Vec<Snapshot>,
    /// What the client saw by itself, in the order of time.
    pub moments: Vec<Moment>,
    /// What the kernel's list of sockets showed of `TIME-WAIT`; absent of a file, or where there is no list.
    pub time_waits: Option<TimeWaits>,
    /// Where the server listens, if that is known.
    pub server: Option<SocketAddr>,
    /// Which of these there could be.
    pub sources: Sources,
    /// What is to be said of the record as a whole: a file that is cut short, events that were lost.
    pub notes: Vec<String>,
}

/// Where the facts come from; a source that is missing tells why in plain words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The interface or a file.
    pub packets: Source,
    /// `sock:inet_sock_set_state`.
    pub changes: Source,
    /// `raw_syscalls`.
    pub calls: Source,
    /// `sock_diag`.
    pub sockets: Source,
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// It was looked at.
    Seen,
    /// It was not asked for, or cannot be: a file has no calls.
    #[default]
    None,
    /// It is not permitted, or there is none here: why, and what to do.
    Missing(String),
}

/// Who of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Who connects.
    Client,
    /// Who accepts.
    Server,
}

impl Side {
    /// `client`
    pub fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

/// The addresses of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoints {
    /// Of who connects.
    pub client: SocketAddr,
    /// Of who accepts.
    pub server: SocketAddr,
}

/// A TCP segment as it went by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When, in ns.
    pub at_ns: u64,
    /// `lo`; files may not tell.
    pub interface: Option<String>,
    /// Who sent it.
    pub source: SocketAddr,
    /// Whom to.
    pub destination: SocketAddr,
    /// The number that its sender has given to the IP packet; none in IPv6.
    pub identification: Option<u16>,
    /// Hops it may still take (TTL or hop limit).
    pub hops: u8,
    /// Bytes of the IP packet, its header included, as the header says.
    pub ip_bytes: u32,
    /// Of the TCP header.
    pub flags: Flags,
    /// As on the wire.
    pub sequence: u32,
    /// As on the wire; without meaning where ACK is not set.
    pub acknowledgement: u32,
    /// As on the wire, not scaled.
    pub window: u16,
    /// In the order of the header.
    pub options: Vec<TcpOption>,
    /// Options that follow those could not be read.
    pub malformed_options: bool,
    /// Bytes of payload that the segment has, by the length in the IP header.
    pub payload_bytes: u32,
    /// Those that were captured.
    pub payload: Vec<u8>,
}

/// What a router or a host says of a TCP segment that it does not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpError {
    /// When, in ns.
    pub at_ns: u64,
    /// Who says it.
    pub by: IpAddr,
    /// What.
    pub why: Undelivered,
    /// Who sent the segment.
    pub source: SocketAddr,
    /// Whom to.
    pub destination: SocketAddr,
    /// The number of the segment, as on the wire.
    pub sequence: u32,
}

/// Why a segment is not delivered (RFC 792, RFC 4443).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Undelivered {
    /// No way leads there.
    NetworkUnreachable,
    /// No such host answers in its network.
    HostUnreachable,
    /// The host does not know TCP.
    ProtocolUnreachable,
    /// Nobody listens, or a filter says so.
    PortUnreachable,
    /// A filter rejects it.
    Prohibited,
    /// It is larger than a network on the way takes.
    FragmentationNeeded,
    /// It went over too many hops.
    TimeExceeded,
    /// It came in fragments, of which one was missing.
    ReassemblyTimeExceeded,
    /// Something in its headers is not understood.
    ParameterProblem,
}

impl Undelivered {
    /// `port unreachable`
    pub fn name(self) -> &'static str {
        match self {
            Undelivered::NetworkUnreachable => "network unreachable",
            Undelivered::HostUnreachable => "host unreachable",
            Undelivered::ProtocolUnreachable => "protocol unreachable",
            Undelivered::PortUnreachable => "port unreachable",
            Undelivered::Prohibited => "administratively prohibited",
            Undelivered::FragmentationNeeded => "fragmentation needed (packet too big)",
            Undelivered::TimeExceeded => "time exceeded: too many hops",
            Undelivered::ReassemblyTimeExceeded => "fragment reassembly time exceeded",
            Undelivered::ParameterProblem => "parameter problem",
        }
    }
}

/// Of a TCP header (RFC 9293 §3.1, RFC 3168).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are bits of the header")]
pub struct Flags {
    /// FIN
    pub fin: bool,
    /// SYN
    pub syn: bool,
    /// RST
    pub rst: bool,
    /// PSH
    pub psh: bool,
    /// ACK
    pub ack: bool,
    /// URG
    pub urg: bool,
    /// ECE
    pub ece: bool,
    /// CWR
    pub cwr: bool,
}

/// An option of a TCP header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpOption {
    /// Padding.
    Nop,
    /// The largest segment that the sender takes, in bytes.
    MaximumSegmentSize(u16),
    /// By how many bits its windows are to be shifted (RFC 7323).
    WindowScale(u8),
    /// It takes selective acknowledgements (RFC 2018).
    SackPermitted,
    /// Ranges that have arrived beyond a gap.
    Sack(Vec<(u32, u32)>),
    /// Its clock, and what it last saw of the peer's (RFC 7323).
    Timestamps {
        /// TSval
        value: u32,
        /// TSecr
        echo: u32,
    },
    /// Any other: its kind and its data.
    Other(u8, Vec<u8>),
}

/// A change of state as the kernel told it. It tells nothing of the small sockets that stand for a
/// connection in `SYN-RECEIVED` and in `TIME-WAIT`: a server's goes from `LISTEN` to `SYN-RECEIVED` when the
/// last ACK of the handshake is there, and `TIME-WAIT` is told as `CLOSED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When, in ns.
    pub at_ns: u64,
    /// Whose socket.
    pub local: SocketAddr,
    /// Its peer; the unspecified address with port 0 where it has none.
    pub remote: SocketAddr,
    /// Which socket, by its address in the kernel.
    pub socket: u64,
    /// The state before.
    pub old: State,
    /// The state after.
    pub new: State,
}

/// A system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When it was entered, in ns; absent where the trace began within it.
    pub entered_ns: Option<u64>,
    /// When it was left; absent where the trace ended within it.
    pub left_ns: Option<u64>,
    /// Whose.
    pub side: Side,
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// `recvfrom`
    pub name: &'static str,
    /// As registers held them on entry.
    pub arguments: [u64; 6],
    /// What it returned: a value, or minus an error number.
    pub result: Option<i64>,
}

/// Sockets at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When the kernel's answer was there, in ns. All that it shows happened before; the kernel had gone through
    /// its tables for some hundred microseconds until then.
    pub at_ns: u64,
    /// Which moment, in plain words: `before`, `connected`, `answered`, `closed`.
    pub moment: &'static str,
    /// Listeners first, then connections.
    pub sockets: Vec<Socket>,
}

/// Sockets in `TIME-WAIT`, as the kernel listed them while the trace looked and until all was quiet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeWaits {
    /// Local and remote address of each that was ever listed.
    pub listed: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Local addresses of all sockets that were listed in any state: these ends are on this machine.
    pub here: BTreeSet<SocketAddr>,
    /// How often the kernel had no room for one meanwhile, whoever's it was (`TCPTimeWaitOverflow` in
    /// `/proc/net/netstat`).
    pub overflows: Option<u64>,
    /// For how many there is room (`net.ipv4.tcp_max_tw_buckets`).
    pub room: Option<u64>,
}

/// Something that the client saw by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When, in ns.
    pub at_ns: u64,
    /// Of which connection, counted from 0.
    pub connection: usize,
    /// The thread that saw it, which makes one connection after another.
    pub tid: u32,
    /// Its address, as soon as it has one.
    pub local: Option<SocketAddr>,
    /// What.
    pub what: What,
}

/// What a client can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It asks for a connection.
    Connecting,
    /// It has one.
    Connected,
    /// It has handed over a request of so many bytes.
    Sent(usize),
    /// Bytes of an answer came in.
    Received(usize),
    /// An answer is complete; its status.
    Answered(u16),
    /// The server closed the connection.
    EndOfFile,
    /// The answer is complete, and the server has not closed within [`GRACE`](super::client::GRACE), though it
    /// was asked to.
    KeptOpen,
    /// It closes its half of the connection.
    ShutDown,
    /// It closes the connection.
    Closed,
    /// It gives up: what it was at (`connect`, `send`, `recv`), and the error in plain words.
    Failed(&'static str, String),
    /// `tcp_info` of the connection at this moment.
    Info(Info),
}
