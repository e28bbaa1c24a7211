//! TCP sockets as the kernel lists them.

use std::net::SocketAddr;

use serde::Serialize;

/// States of a connection (RFC 9293 §3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum State {
    /// There is none.
    Closed,
    /// A server waits for connections.
    Listen,
    /// A client has sent its SYN.
    SynSent,
    /// Both SYNs are there, the last ACK is not. Linux: `SYN_RECV`, `NEW_SYN_RECV`.
    SynReceived,
    /// Data flows.
    Established,
    /// Closed first; the FIN is not acknowledged yet.
    FinWait1,
    /// Closed first; the FIN is acknowledged, the peer's has not come.
    FinWait2,
    /// The peer closed first.
    CloseWait,
    /// Both closed at the same time.
    Closing,
    /// Closed last; waits for the last acknowledgement.
    LastAck,
    /// Closed first, all is done; waits so that no late segment reaches a later connection.
    TimeWait,
}

impl State {
    /// As in RFC 9293 and in Linux: `FIN-WAIT-1`.
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

    /// By the number that Linux has for it (`include/net/tcp_states.h`).
    pub fn from_linux(number: i32) -> Option<Self> {
        Some(match number {
            1 => State::Established,
            2 => State::SynSent,
            // SYN_RECV of a socket, NEW_SYN_RECV of a request that is no socket yet.
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

/// A socket as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Who holds it; nobody, where the program has closed it or we may not know.
    pub holders: Vec<Holder>,
    /// Its own address.
    pub local: SocketAddr,
    /// Its peer; none of a listener.
    pub remote: Option<SocketAddr>,
    /// Its state.
    pub state: State,
    /// Bytes received and not read; of a listener, connections in the accept queue.
    pub receive_queue: u32,
    /// Bytes sent and not acknowledged; of a listener, how long the accept queue may get (backlog).
    pub send_queue: u32,
    /// The timer that runs.
    pub timer: Option<Timer>,
    /// 0 where there is none: `TIME-WAIT`.
    pub inode: u32,
    /// What TCP knows of the path.
    pub info: Option<Info>,
}

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name (`/proc/PID/comm`).
    pub command: String,
    /// Its number.
    pub pid: u32,
    /// The descriptor.
    pub fd: i32,
}

/// A timer of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// `retransmit`, `keepalive`, `time-wait`, `zero-window probe`, `delayed ACK`.
    pub kind: &'static str,
    /// When it runs out, from the time of the snapshot.
    pub left_ms: u32,
    /// How often it has run out already.
    pub tries: u8,
}

/// Of `struct tcp_info`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Info {
    /// Smoothed round-trip time.
    pub rtt_us: u32,
    /// Retransmission timeout.
    pub rto_us: u32,
    /// Congestion window, in segments.
    pub congestion_window: u32,
    /// Segments that were sent again, in total.
    pub retransmitted: u32,
    /// Largest segment that is sent, in bytes.
    pub mss_bytes: u32,
}
