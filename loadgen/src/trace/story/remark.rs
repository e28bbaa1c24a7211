//! What a segment is called beyond its flags, by names that stay the same.

/// A name for what a segment is or does. Most are those of tshark's `tcp.analysis`, by its definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Remark {
    /// The same bytes, SYN or FIN went by before, or an acknowledgement covers them already. One of the more
    /// special names below may stand beside it.
    Retransmission,
    /// A retransmission that the duplicate ACKs just before it asked for (RFC 5681 §3.2).
    FastRetransmission,
    /// A retransmission of what had been acknowledged before.
    SpuriousRetransmission,
    /// A retransmission of a SYN.
    SynRetransmission,
    /// A retransmission of a SYN+ACK.
    SynAckRetransmission,
    /// A retransmission of a FIN.
    FinRetransmission,
    /// It comes after segments that follow it, too soon to have been sent again.
    OutOfOrder,
    /// What comes between the segment before and this one was not captured.
    LostSegment,
    /// It acknowledges bytes that were not captured.
    AckOfUnseen,
    /// Number this of the ACKs that say nothing new (RFC 5681 §2).
    DuplicateAck(u32),
    /// At most one byte, one number below the next: asks whether the peer is still there (RFC 9293 §3.8.4).
    KeepAlive,
    /// The answer to that.
    KeepAliveAck,
    /// Its sender takes no more bytes for now.
    ZeroWindow,
    /// One byte into a window of zero: asks whether it has opened (RFC 9293 §3.8.6.1).
    ZeroWindowProbe,
    /// The answer to that: still none.
    ZeroWindowProbeAck,
    /// Nothing but another window.
    WindowUpdate,
    /// It fills the window of the receiver to the last byte.
    WindowFull,
    /// A SYN on ports that a connection before it had.
    PortsReused,
    /// A SYN that stands after the SYN+ACK that answers it.
    LateSyn,
    /// A SYN that crosses that of the other side (RFC 9293 §3.5, figure 7).
    SimultaneousOpen,
    /// A FIN that crosses that of the other side (RFC 9293 §3.6, figure 13).
    SimultaneousClose,
    /// A SYN that asks for a Fast Open cookie (RFC 7413).
    FastOpenRequest,
    /// A SYN with data and a cookie (RFC 7413).
    FastOpen,
    /// The SYN+ACK acknowledges the data of the SYN.
    FastOpenAccepted,
    /// The SYN+ACK does not acknowledge the data of the SYN: it is sent again after the handshake.
    FastOpenRefused,
    /// Its numbers lie outside the window: it changes nothing, as old or foreign segments do.
    OutsideWindow,
    /// A RST that is ignored, because its number is not the next one (RFC 9293 §3.10.7.4, RFC 5961).
    ResetIgnored,
    /// An ACK in answer to a SYN or a RST that may be forged (RFC 5961).
    ChallengeAck,
    /// A RST in answer to a SYN: nobody listens.
    Refused,
    /// A RST in answer to bytes that came after the program had closed.
    ResetAfterClose,
    /// A RST in answer to a segment of a connection that its sender does not know.
    ResetOfUnknown,
    /// A RST with which a program ends the connection: bytes unread, or `SO_LINGER` with a time of 0.
    Abort,
    /// A RST that somebody on the way has most likely sent: its TTL is not that of its supposed sender.
    ResetInjected,
}

impl Remark {
    /// For programs: `duplicate-ack`.
    pub fn name(self) -> &'static str {
        match self {
            Remark::Retransmission => "retransmission",
            Remark::FastRetransmission => "fast-retransmission",
            Remark::SpuriousRetransmission => "spurious-retransmission",
            Remark::SynRetransmission => "syn-retransmission",
            Remark::SynAckRetransmission => "syn-ack-retransmission",
            Remark::FinRetransmission => "fin-retransmission",
            Remark::OutOfOrder => "out-of-order",
            Remark::LostSegment => "lost-segment",
            Remark::AckOfUnseen => "ack-of-unseen",
            Remark::DuplicateAck(_) => "duplicate-ack",
            Remark::KeepAlive => "keep-alive",
            Remark::KeepAliveAck => "keep-alive-ack",
            Remark::ZeroWindow => "zero-window",
            Remark::ZeroWindowProbe => "zero-window-probe",
            Remark::ZeroWindowProbeAck => "zero-window-probe-ack",
            Remark::WindowUpdate => "window-update",
            Remark::WindowFull => "window-full",
            Remark::PortsReused => "ports-reused",
            Remark::LateSyn => "late-syn",
            Remark::SimultaneousOpen => "simultaneous-open",
            Remark::SimultaneousClose => "simultaneous-close",
            Remark::FastOpenRequest => "fast-open-request",
            Remark::FastOpen => "fast-open",
            Remark::FastOpenAccepted => "fast-open-accepted",
            Remark::FastOpenRefused => "fast-open-refused",
            Remark::OutsideWindow => "outside-window",
            Remark::ResetIgnored => "reset-ignored",
            Remark::ChallengeAck => "challenge-ack",
            Remark::Refused => "refused",
            Remark::ResetAfterClose => "reset-after-close",
            Remark::ResetOfUnknown => "reset-of-unknown",
            Remark::Abort => "abort",
            Remark::ResetInjected => "reset-injected",
        }
    }
}
