//! TCP sockets as the kernel lists them.

use std::net::SocketAddr;

use serde::Serialize;

/// States of a connection (RFC 9293 §3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum State {
    /// There is no connection.
    Closed,
    /// A server waits for connections.
    Listen,
    /// A client has sent its SYN.
    SynSent,
    /// Both SYNs were sent, the last ACK has not arrived. Linux: `SYN_RECV`, `NEW_SYN_RECV`.
    SynReceived,
    /// Data flows.
    Established,
    /// This end closed first; its FIN is not acknowledged yet.
    FinWait1,
    /// This end closed first; its FIN is acknowledged, the peer's has not arrived.
    FinWait2,
    /// The peer closed first.
    CloseWait,
    /// Both ends closed at the same time.
    Closing,
    /// This end closed last and waits for the last acknowledgement.
    LastAck,
    /// This end closed first and both are done; it waits so that late segments cannot reach a new
    /// connection on the same ports.
    TimeWait,
}

impl State {
    /// The name in RFC 9293 and Linux: `FIN-WAIT-1`.
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "CLOSED",
            State::Listen => "LISTEN",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        }
    }

    /// Converts Linux's number (`include/net/tcp_states.h`).
    pub fn from_linux(number: i32) -> Option<Self> {
        Some(match number {
            1 => State::Established,
            2 => State::SynSent,
            // SYN_RECV is the state of a socket, NEW_SYN_RECV of a request that is not a socket
            // yet.
            3 | 12 => State::SynReceived,
            4 => State::FinWait1,
            5 => State::FinWait2,
            6 => State::TimeWait,
            7 => State::Closed,
            8 => State::CloseWait,
            9 => State::LastAck,
            10 => State::Listen,
            11 => State::Closing,
            _ => return None,
        })
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A TCP socket in the kernel's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The processes that hold the socket; empty if its program has closed it, or if we may not
    /// know.
    pub holders: Vec<Holder>,
    /// The local address.
    pub local: SocketAddr,
    /// The peer's address; `None` for a listener.
    pub remote: Option<SocketAddr>,
    /// The state of the connection.
    pub state: State,
    /// Bytes received but not read; for a listener, connections in the accept queue.
    pub receive_queue: u32,
    /// Bytes sent but not acknowledged; for a listener, the limit of the accept queue (backlog).
    pub send_queue: u32,
    /// The running timer.
    pub timer: Option<Timer>,
    /// The inode; 0 if there is none, as in `TIME-WAIT`.
    pub inode: u32,
    /// The kernel's figures about the path.
    pub info: Option<Info>,
}

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name of its program (`/proc/PID/comm`).
    pub command: String,
    /// The process ID.
    pub pid: u32,
    /// The descriptor.
    pub fd: i32,
}

/// A timer of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// The kind: `retransmit`, `keepalive`, `time-wait`, `zero-window probe`, `delayed ACK`.
    pub kind: &'static str,
    /// Time until it expires, counted from the snapshot.
    pub left_ms: u32,
    /// How often it has expired already.
    pub tries: u8,
}

/// Figures from `struct tcp_info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Info {
    /// Smoothed round-trip time.
    pub rtt_us: u32,
    /// Retransmission timeout.
    pub rto_us: u32,
    /// Congestion window, in segments.
    pub congestion_window: u32,
    /// Retransmitted segments, in total.
    pub retransmitted: u32,
    /// The largest segment that is sent, in bytes.
    pub mss_bytes: u32,
}
