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

    /// For people, behind the segment: `duplicate ACK 2`. None of what a more special remark beside it says.
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
            // The flags say it, and the reason stands beside them.
            Remark::Refused | Remark::ResetAfterClose | Remark::ResetOfUnknown | Remark::Abort => {
                return None;
            }
        };
        Some(label.to_owned())
    }

    /// What it means, in at most 100 characters, where the flags do not tell it.
    pub(super) fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Remark::FastRetransmission => {
                "sent again before any timer ran out: duplicate ACKs asked for it (RFC 5681)"
            }
            Remark::SpuriousRetransmission => {
                "sent again although it was acknowledged: the ACK was lost, or came too late"
            }
            Remark::FinRetransmission => {
                "the FIN is sent again: no acknowledgement of it came in time"
            }
            Remark::Retransmission => "sent again: no acknowledgement of it came in time",
            Remark::OutOfOrder => "later bytes went by before these: segments overtook each other",
            Remark::LostSegment => {
                "bytes before these were not captured: lost on the way, or missed by the capture"
            }
            Remark::AckOfUnseen => {
                "acknowledges bytes that are not in the capture, so the capture missed them"
            }
            Remark::DuplicateAck(_) => "a duplicate ACK: it says again which byte it waits for",
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
            Remark::PortsReused => "another connection begins on ports that were used before",
            Remark::LateSyn => {
                "belongs before the SYN+ACK that acknowledges it: captured late, or out of order"
            }
            Remark::SimultaneousOpen => "both sides asked at once: the SYNs crossed",
            Remark::FastOpenRequest => {
                "asks for a Fast Open cookie, for its next connection (RFC 7413)"
            }
            Remark::FastOpen => "Fast Open: its cookie lets data go with the SYN (RFC 7413)",
            Remark::FastOpenAccepted => {
                "acknowledges the data of the SYN too: Fast Open saved a round trip"
            }
            Remark::FastOpenRefused => {
                "acknowledges the SYN only: its data is sent again after the handshake"
            }
            Remark::OutsideWindow => {
                "no part of this connection: an older one on these ports, or a stranger; changes nothing"
            }
            Remark::ResetIgnored => {
                "not the next number: a receiver answers with a challenge ACK, and goes on (RFC 5961)"
            }
            Remark::ChallengeAck => {
                "a challenge ACK: only a true peer can answer with the right RST (RFC 5961)"
            }
            Remark::ResetInjected => {
                "its TTL is not that of its supposed sender: likely somebody on the way has sent it"
            }
            Remark::ResetOfUnknown => {
                "its kernel knows no such connection, and answers the segment with a RST"
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

/// All that people are told behind a segment: `zero window, zero-window probe ACK`; empty where that is nothing.
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
