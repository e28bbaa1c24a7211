//! Names for segments, beyond their flags. The names are stable.

/// A name for what a segment is or does. Most names and definitions are those of tshark's
/// `tcp.analysis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Remark {
    /// The same bytes, SYN or FIN went by before, or are acknowledged already. A more specific name
    /// below may accompany it.
    Retransmission,
    /// A retransmission requested by the duplicate ACKs just before it (RFC 5681 §3.2).
    FastRetransmission,
    /// A retransmission of bytes that were acknowledged before.
    SpuriousRetransmission,
    /// A retransmission of a SYN.
    SynRetransmission,
    /// A retransmission of a SYN+ACK.
    SynAckRetransmission,
    /// A retransmission of a FIN.
    FinRetransmission,
    /// The segment arrives after its successors, too soon to be a retransmission.
    OutOfOrder,
    /// Bytes between the previous segment and this one were not captured.
    LostSegment,
    /// The segment acknowledges bytes that were not captured.
    AckOfUnseen,
    /// An ACK without news (RFC 5681 §2); the number counts from 1.
    DuplicateAck(u32),
    /// At most one byte, one number below the next: asks whether the peer is still there (RFC 9293
    /// §3.8.4).
    KeepAlive,
    /// The answer to a keep-alive.
    KeepAliveAck,
    /// The sender accepts no more bytes for now.
    ZeroWindow,
    /// One byte into a window of zero: asks whether it has opened (RFC 9293 §3.8.6.1).
    ZeroWindowProbe,
    /// The answer to a zero-window probe: the window is still zero.
    ZeroWindowProbeAck,
    /// The segment only changes the window.
    WindowUpdate,
    /// The segment fills the receiver's window to the last byte.
    WindowFull,
    /// A SYN on ports that an earlier connection used.
    PortsReused,
    /// A SYN captured after the SYN+ACK that answers it.
    LateSyn,
    /// A SYN that crosses the other side's (RFC 9293 §3.5, figure 7).
    SimultaneousOpen,
    /// A FIN that crosses the other side's (RFC 9293 §3.6, figure 13).
    SimultaneousClose,
    /// A SYN that asks for a Fast Open cookie (RFC 7413).
    FastOpenRequest,
    /// A SYN with data and a cookie (RFC 7413).
    FastOpen,
    /// The SYN+ACK acknowledges the data in the SYN.
    FastOpenAccepted,
    /// The SYN+ACK does not acknowledge the data in the SYN, so it is sent again after the
    /// handshake.
    FastOpenRefused,
    /// Its numbers lie outside the window: an old or foreign segment without effect.
    OutsideWindow,
    /// A RST that the receiver ignores because its number is not the expected one (RFC 9293
    /// §3.10.7.4, RFC 5961).
    ResetIgnored,
    /// An ACK that answers a SYN or RST that may be forged (RFC 5961).
    ChallengeAck,
    /// A RST that answers a SYN: nobody listens.
    Refused,
    /// A RST that answers bytes received after the program had closed.
    ResetAfterClose,
    /// A RST that answers a segment of a connection unknown to the host.
    ResetOfUnknown,
    /// A RST sent by a closing program: bytes were unread, or `SO_LINGER` has a time of 0.
    Abort,
    /// A RST that a middlebox most likely sent: its TTL differs from its supposed sender's.
    ResetInjected,
}

impl Remark {
    /// The name for programs: `duplicate-ack`.
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

    /// The label for people, after the segment: `duplicate ACK 2`. `None` if the flags or the
    /// explanation say it already.
    pub fn label(self) -> Option<String> {
        let label = match self {
            Remark::Retransmission => "retransmission",
            Remark::FastRetransmission => "fast retransmission",
            Remark::SpuriousRetransmission => "spurious retransmission",
            Remark::SynRetransmission => "SYN retransmission",
            Remark::SynAckRetransmission => "SYN+ACK retransmission",
            Remark::FinRetransmission => "FIN retransmission",
            Remark::OutOfOrder => "out of order",
            Remark::LostSegment => "previous segment not captured",
            Remark::AckOfUnseen => "acknowledges a segment not captured",
            Remark::DuplicateAck(number) => return Some(format!("duplicate ACK {number}")),
            Remark::KeepAlive => "keep-alive",
            Remark::KeepAliveAck => "keep-alive ACK",
            Remark::ZeroWindow => "zero window",
            Remark::ZeroWindowProbe => "zero-window probe",
            Remark::ZeroWindowProbeAck => "zero-window probe ACK",
            Remark::WindowUpdate => "window update",
            Remark::WindowFull => "window full",
            Remark::PortsReused => "ports reused",
            Remark::LateSyn => "late SYN",
            Remark::SimultaneousOpen => "simultaneous open",
            Remark::SimultaneousClose => "simultaneous close",
            Remark::FastOpenRequest => "Fast Open cookie request",
            Remark::FastOpen => "Fast Open",
            Remark::FastOpenAccepted => "Fast Open accepted",
            Remark::FastOpenRefused => "Fast Open not accepted",
            Remark::OutsideWindow => "outside the window: old or foreign",
            Remark::ResetIgnored => "reset ignored",
            Remark::ChallengeAck => "challenge ACK",
            Remark::ResetInjected => "reset from the path, likely",
            // The flags show it, and the reason stands beside the line.
            Remark::Refused | Remark::ResetAfterClose | Remark::ResetOfUnknown | Remark::Abort => {
                return None;
            }
        };
        Some(label.to_owned())
    }

    /// The meaning in at most 100 characters, where the flags do not show it.
    pub(super) fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Remark::FastRetransmission => {
                "sent again before any timer ran out: duplicate ACKs asked for it (RFC 5681)"
            }
            Remark::SpuriousRetransmission => {
                "sent again although it was acknowledged: the ACK was lost, or came too late"
            }
            Remark::FinRetransmission => "the FIN is sent again: it was not acknowledged in time",
            Remark::Retransmission => "sent again: it was not acknowledged in time",
            Remark::OutOfOrder => "later bytes went by before these: segments overtook each other",
            Remark::LostSegment => {
                "bytes before these were not captured: lost on the way, or missed by the capture"
            }
            Remark::AckOfUnseen => {
                "acknowledges bytes that are not in the capture, so the capture missed them"
            }
            Remark::DuplicateAck(_) => "a duplicate ACK: it repeats which byte it expects next",
            Remark::KeepAlive => {
                "a keep-alive probe: is the peer still there? (RFC 9293 section 3.8.4)"
            }
            Remark::KeepAliveAck => "answers the keep-alive probe: the peer is still there",
            Remark::ZeroWindow => {
                "a window of zero: its receive buffer is full, the program does not read"
            }
            Remark::ZeroWindowProbe => {
                "a zero-window probe: has the window opened? (RFC 9293 section 3.8.6.1)"
            }
            Remark::ZeroWindowProbeAck => "answers the zero-window probe: the buffer is still full",
            Remark::WindowUpdate => "a window update: bytes were read, so there is room again",
            Remark::WindowFull => {
                "fills the receiver's window to the last byte: the sender must wait"
            }
            Remark::PortsReused => "a new connection on ports that were used before",
            Remark::LateSyn => {
                "belongs before the SYN+ACK that acknowledges it: captured late, or out of order"
            }
            Remark::SimultaneousOpen => "both sides connected at once: the SYNs crossed",
            Remark::FastOpenRequest => {
                "asks for a Fast Open cookie for its next connection (RFC 7413)"
            }
            Remark::FastOpen => "Fast Open: its cookie allows data in the SYN (RFC 7413)",
            Remark::FastOpenAccepted => {
                "also acknowledges the data in the SYN: Fast Open saved a round trip"
            }
            Remark::FastOpenRefused => {
                "acknowledges only the SYN: its data is sent again after the handshake"
            }
            Remark::OutsideWindow => {
                "not part of this connection: old, or sent by a stranger; it has no effect"
            }
            Remark::ResetIgnored => {
                "not the expected number: the receiver sends a challenge ACK and carries on (RFC 5961)"
            }
            Remark::ChallengeAck => {
                "a challenge ACK: only the real peer can answer it with the right RST (RFC 5961)"
            }
            Remark::ResetInjected => {
                "its TTL differs from its supposed sender's: a middlebox most likely sent it"
            }
            Remark::ResetOfUnknown => {
                "the kernel does not know this connection and answers the segment with a RST"
            }
            Remark::SynRetransmission
            | Remark::SynAckRetransmission
            | Remark::SimultaneousClose
            | Remark::Refused
            | Remark::ResetAfterClose
            | Remark::Abort => return None,
        })
    }

    fn is_special_retransmission(self) -> bool {
        matches!(
            self,
            Remark::FastRetransmission
                | Remark::SpuriousRetransmission
                | Remark::SynRetransmission
                | Remark::SynAckRetransmission
                | Remark::FinRetransmission
        )
    }
}

/// All labels of a segment, joined: `zero window, zero-window probe ACK`; may be empty.
pub fn labels(remarks: &[Remark]) -> String {
    let has_special = remarks.iter().any(|it| it.is_special_retransmission());
    let labels: Vec<String> = (remarks.iter())
        .filter(|it| **it != Remark::Retransmission || !has_special)
        .filter_map(|it| it.label())
        .collect();
    labels.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_special_name_stands_for_the_general_one() {
        let rows: [(&[Remark], &str); 5] = [
            (&[], ""),
            (&[Remark::Retransmission], "retransmission"),
            (
                &[Remark::Retransmission, Remark::FastRetransmission],
                "fast retransmission",
            ),
            (
                &[Remark::ZeroWindow, Remark::ZeroWindowProbeAck],
                "zero window, zero-window probe ACK",
            ),
            (&[Remark::DuplicateAck(3)], "duplicate ACK 3"),
        ];
        for (remarks, expected) in rows {
            assert_eq!(labels(remarks), expected);
        }
    }
}
