//! The facts of a trace, before any interpretation.
//!
//! All times are nanoseconds of one clock: `CLOCK_MONOTONIC` in a live trace, the time since 1970
//! in a capture file. Only differences are meaningful.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
pub use subject::sockets::{Holder, Info, Socket, State, Timer};

/// Everything that was seen of a few connections.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// In file order, or sorted by time.
    pub packets: Vec<Packet>,
    /// Some packets have no timestamp, so times between them are meaningless.
    pub lacks_times: bool,
    /// ICMP errors about TCP segments, sorted by time.
    pub errors: Vec<IcmpError>,
    /// State changes reported by the kernel, sorted by time.
    pub changes: Vec<Change>,
    /// System calls, sorted by entry.
    pub calls: Vec<Call>,
    /// Lists of sockets, sorted by time.
    pub snapshots: Vec<Snapshot>,
    /// What the client saw, sorted by time.
    pub moments: Vec<Moment>,
    /// What the kernel's list of sockets showed of `TIME-WAIT`; `None` for a file, or where the
    /// list is not available.
    pub time_waits: Option<TimeWaits>,
    /// The address that the server listens on, if known.
    pub server: Option<SocketAddr>,
    /// Which sources were available.
    pub sources: Sources,
    /// Notes about the record as a whole: a truncated file, lost events.
    pub notes: Vec<String>,
}

/// Where the facts come from; a missing source carries the reason in plain words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// An interface or a capture file.
    pub packets: Source,
    /// `sock:inet_sock_set_state`.
    pub changes: Source,
    /// `raw_syscalls`.
    pub calls: Source,
    /// `sock_diag`.
    pub sockets: Source,
}

/// Whether one source was available.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The source was watched.
    Seen,
    /// The source was not requested, or cannot exist: a file has no system calls.
    #[default]
    None,
    /// The source is not permitted or not available: why, and what to do.
    Missing(String),
}

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The end that connects.
    Client,
    /// The end that accepts.
    Server,
}

impl Side {
    /// Lower case: `client` or `server`.
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
    /// Address of the end that connects.
    pub client: SocketAddr,
    /// Address of the end that accepts.
    pub server: SocketAddr,
}

/// A captured TCP segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Capture time, in ns.
    pub at_ns: u64,
    /// Name of the interface, such as `lo`; some file formats do not record it.
    pub interface: Option<String>,
    /// Address of the sender.
    pub source: SocketAddr,
    /// Address of the receiver.
    pub destination: SocketAddr,
    /// Identification field of the IPv4 header; `None` for IPv6.
    pub identification: Option<u16>,
    /// Hops that are left (TTL or hop limit).
    pub hops: u8,
    /// Total length of the IP packet, header included, as stated in the header.
    pub ip_bytes: u32,
    /// Flags of the TCP header.
    pub flags: Flags,
    /// Sequence number, as on the wire.
    pub sequence: u32,
    /// Acknowledgement number, as on the wire; meaningless without ACK.
    pub acknowledgement: u32,
    /// Window field, as on the wire: not scaled.
    pub window: u16,
    /// Options of the TCP header, in header order.
    pub options: Vec<TcpOption>,
    /// The options after these could not be parsed.
    pub malformed_options: bool,
    /// Payload length in bytes, computed from the IP header.
    pub payload_bytes: u32,
    /// The captured part of the payload.
    pub payload: Vec<u8>,
}

/// An ICMP error: a router or host reports a TCP segment that it did not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpError {
    /// Capture time, in ns.
    pub at_ns: u64,
    /// The router or host that reports the error.
    pub by: IpAddr,
    /// Why the segment was not delivered.
    pub why: Undelivered,
    /// Sender of the segment.
    pub source: SocketAddr,
    /// Destination of the segment.
    pub destination: SocketAddr,
    /// Sequence number of the segment, as on the wire.
    pub sequence: u32,
}

/// Why a segment was not delivered (RFC 792, RFC 4443).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Undelivered {
    /// No route to the network.
    NetworkUnreachable,
    /// The host does not answer in its network.
    HostUnreachable,
    /// The host does not support TCP.
    ProtocolUnreachable,
    /// No listener on the port, or a filter pretends so.
    PortUnreachable,
    /// A filter rejects the segment.
    Prohibited,
    /// The segment exceeds the MTU of a link on the path.
    FragmentationNeeded,
    /// The segment took too many hops.
    TimeExceeded,
    /// The segment was fragmented, and a fragment was missing.
    ReassemblyTimeExceeded,
    /// A header field was not understood.
    ParameterProblem,
}

impl Undelivered {
    /// Lower case, as printed: `port unreachable`.
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

/// Flags of a TCP header (RFC 9293 §3.1, RFC 3168).
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
    /// The largest segment that the sender accepts, in bytes.
    MaximumSegmentSize(u16),
    /// The sender's windows are to be shifted by this many bits (RFC 7323).
    WindowScale(u8),
    /// The sender accepts selective acknowledgements (RFC 2018).
    SackPermitted,
    /// Ranges that have arrived beyond a gap.
    Sack(Vec<(u32, u32)>),
    /// The sender's clock, and the latest value it saw of the peer's (RFC 7323).
    Timestamps {
        /// TSval
        value: u32,
        /// TSecr
        echo: u32,
    },
    /// Any other option: its kind and its data.
    Other(u8, Vec<u8>),
}

/// A change of state reported by the kernel. The kernel does not report the minisockets that
/// represent a connection in `SYN-RECEIVED` and `TIME-WAIT`: a server's socket goes from `LISTEN`
/// to `SYN-RECEIVED` when the last ACK of the handshake arrives, and `TIME-WAIT` is reported as
/// `CLOSED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Time of the change, in ns.
    pub at_ns: u64,
    /// Local address of the socket.
    pub local: SocketAddr,
    /// Address of the peer; the unspecified address with port 0 if there is no peer.
    pub remote: SocketAddr,
    /// Kernel address of the socket, which identifies it.
    pub socket: u64,
    /// The state before.
    pub old: State,
    /// The state after.
    pub new: State,
}

/// A system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Entry time, in ns; `None` if the trace began during the call.
    pub entered_ns: Option<u64>,
    /// Return time, in ns; `None` if the trace ended during the call.
    pub left_ns: Option<u64>,
    /// The side whose process made the call.
    pub side: Side,
    /// Process ID.
    pub pid: u32,
    /// Thread ID.
    pub tid: u32,
    /// Name of the call, such as `recvfrom`.
    pub name: &'static str,
    /// The argument registers on entry.
    pub arguments: [u64; 6],
    /// The return value: a result, or a negated error number.
    pub result: Option<i64>,
}

/// All sockets at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When the kernel's answer arrived, in ns. Everything it shows happened earlier: the kernel
    /// walks its tables for some hundred microseconds before it answers.
    pub at_ns: u64,
    /// Name of the moment: `before`, `connected`, `answered` or `closed`.
    pub moment: &'static str,
    /// Listeners first, then connections.
    pub sockets: Vec<Socket>,
}

/// Sockets in `TIME-WAIT`, as the kernel listed them from the start of the trace until all was
/// quiet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeWaits {
    /// Local and remote address of each connection that was ever listed.
    pub listed: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Local addresses of all listed sockets, in any state: these ends are on this machine.
    pub here: BTreeSet<SocketAddr>,
    /// How often the kernel had no room for a `TIME-WAIT` entry meanwhile, system-wide
    /// (`TCPTimeWaitOverflow` in `/proc/net/netstat`).
    pub overflows: Option<u64>,
    /// How many entries fit (`net.ipv4.tcp_max_tw_buckets`).
    pub room: Option<u64>,
}

/// An event on the client's side, noted by the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Time of the event, in ns.
    pub at_ns: u64,
    /// Number of the connection, counted from 0.
    pub connection: usize,
    /// The client thread, which makes one connection after another.
    pub tid: u32,
    /// The client's address, once it has one.
    pub local: Option<SocketAddr>,
    /// The event itself.
    pub what: What,
}

/// Events that a client can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The client asks for a connection.
    Connecting,
    /// The connection is established.
    Connected,
    /// The client has written this many bytes of a request.
    Sent(usize),
    /// This many bytes of a response have arrived.
    Received(usize),
    /// A response is complete; its status.
    Answered(u16),
    /// The server closed the connection.
    EndOfFile,
    /// The response is complete, but the server has not closed within
    /// [`GRACE`](super::client::GRACE) although the client asked it to.
    KeptOpen,
    /// The client shuts down its sending side.
    ShutDown,
    /// The client closes the connection.
    Closed,
    /// The client gives up: the failed call (`connect`, `send`, `recv`), and the error in plain
    /// words.
    Failed(&'static str, String),
    /// `tcp_info` of the connection at this moment.
    Info(Info),
}
