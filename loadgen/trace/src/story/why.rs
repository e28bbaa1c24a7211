//! The short explanation beside a line, where a beginner would ask. Each appears once per
//! connection.

use super::endings::{Reason, full_queue, is_read};
use super::states::{before, end_of, other};
use super::subject::Subject;
use super::timeline::{Item, Thing};
use super::{Origin, Part, Remark, Segment, StateChange};
use crate::model::{Call, Record, Side, State, Undelivered};

/// The longest explanation, in characters.
pub(super) const WHY_MAX: usize = 100;

/// The explanations of a connection's items, by position.
pub(super) fn whys(
    record: &Record,
    subject: &Subject<'_>,
    items: &[Item<'_>],
    reason: Option<&Reason>,
) -> Vec<Option<String>> {
    let scene = Scene {
        record,
        subject,
        items,
        reason,
        pasts: pasts(&subject.segments),
    };
    let mut said: Vec<&'static str> = Vec::new();
    (0..items.len())
        .map(|at| {
            let text = scene.why(at)?;
            debug_assert!(text.chars().count() <= WHY_MAX, "{text}");
            if said.contains(&text) {
                return None;
            }
            said.push(text);
            Some(text.to_owned())
        })
        .collect()
}

struct Scene<'a> {
    record: &'a Record,
    subject: &'a Subject<'a>,
    items: &'a [Item<'a>],
    reason: Option<&'a Reason>,
    /// For each segment, what came before it.
    pasts: Vec<Past>,
}

/// The segments before a given one, for client and server.
#[derive(Debug, Clone, Copy, Default)]
struct Past {
    last: [Option<usize>; 2],
    /// The last segment with an ACK.
    acknowledging: [Option<usize>; 2],
    /// The last segment with a payload.
    carrying: [Option<usize>; 2],
    /// The first FIN.
    fin: [Option<usize>; 2],
    reset: bool,
}

/// Computed in one pass: a capture may have many segments.
fn pasts(segments: &[Segment]) -> Vec<Past> {
    let mut past = Past::default();
    (segments.iter().enumerate())
        .map(|(number, segment)| {
            let before = past;
            let (side, packet) = (segment.from as usize, &segment.packet);
            past.last[side] = Some(number);
            if packet.flags.ack {
                past.acknowledging[side] = Some(number);
            }
            if packet.payload_bytes > 0 {
                past.carrying[side] = Some(number);
            }
            if packet.flags.fin {
                past.fin[side].get_or_insert(number);
            }
            past.reset |= packet.flags.rst;
            before
        })
        .collect()
}

impl Scene<'_> {
    fn why(&self, at: usize) -> Option<&'static str> {
        match &self.items[at].what {
            Thing::Segment(number) => self.segment(*number),
            Thing::State(change) => match (change.new, change.origin) {
                (State::SynReceived, Origin::Derived) if change.side == Side::Server => {
                    Some("a request socket represents it in the kernel; no program knows of it yet")
                }
                (State::CloseWait, _) => Some(
                    "the peer has closed; this side stays here until its own program closes too",
                ),
                // The state passes at once if the same segment brings the peer's FIN.
                (State::FinWait2, _) if self.lasts(change) => {
                    Some("its FIN is acknowledged; now it waits for the peer's FIN")
                }
                (State::Closing, _) => {
                    Some("the FINs crossed: the peer's FIN arrived before the ACK of its own")
                }
                (State::TimeWait, _) => Some(
                    "for 60 s, so that late segments cannot reach a new connection on the same ports",
                ),
                _ => None,
            },
            Thing::Call { .. } => call(&self.items[at]),
            Thing::Sockets(snapshot) if matches!(snapshot.moment, "connected" | "answered") => {
                Some("the client of this trace waits while the sockets are listed")
            }
            Thing::Icmp(error) if !self.subject.quotes_what_was_under_way(error) => Some(
                "old or foreign: it quotes a number that is not in flight, so TCP ignores it (RFC 5927)",
            ),
            Thing::Icmp(error) => Some(match error.why {
                Undelivered::FragmentationNeeded => {
                    "the segment exceeds the MTU of a link on the path: the sender must send smaller ones"
                }
                Undelivered::TimeExceeded => "its TTL reached 0: most likely a routing loop",
                Undelivered::ReassemblyTimeExceeded => {
                    "the segment came in fragments, and one of them was missing"
                }
                Undelivered::ParameterProblem => {
                    "the host that reports it does not understand a header field"
                }
                Undelivered::Prohibited => "a filter on the path or at the server rejects it",
                _ => {
                    "no RST: a router or the host's own kernel reports that nothing receives the segment"
                }
            }),
            Thing::Sockets(_) | Thing::Moment(_) => None,
        }
    }

    fn lasts(&self, change: &StateChange) -> bool {
        let next = self
            .subject
            .states_of(change.side)
            .find(|it| it.old == change.new);
        next.is_none_or(|next| next.at_ns > change.at_ns)
    }

    fn segment(&self, number: usize) -> Option<&'static str> {
        let segments = &self.subject.segments;
        let segment = &segments[number];
        let past = self.pasts[number];
        let (own, peer) = (segment.from as usize, other(segment.from) as usize);
        let flags = segment.packet.flags;
        if let Some(meaning) = self.by_remark(segment) {
            return Some(meaning);
        }
        if flags.rst {
            return self
                .reason
                .filter(|_| !past.reset)
                .map(|reason| reason.short);
        }
        if flags.syn && flags.ack {
            return Some(
                if segment.retransmission && past.acknowledging[own].is_none() {
                    "its SYN again, now with an ACK of the other's: both sides connected at once"
                } else if segment.retransmission {
                    "sent again: the ACK was lost, or dropped because the accept queue is full"
                } else {
                    "the kernel answers; the server's program is not involved yet"
                },
            );
        }
        if flags.syn {
            return Some(
                match (
                    segment.retransmission,
                    full_queue(self.record, self.subject),
                ) {
                    (false, _) => "asks for a connection and announces its first sequence number",
                    (true, Some(_)) => {
                        "sent again: the accept queue was full, so the kernel dropped the SYN"
                    }
                    (true, None) => {
                        "sent again: no answer came; a full accept queue or a filter drops SYNs"
                    }
                },
            );
        }
        let covers =
            |it: &Segment| flags.ack && !before(segment.packet.acknowledgement, end_of(&it.packet));
        // No earlier segment of its side acknowledged this.
        let acknowledged =
            past.acknowledging[own].map(|number| segments[number].packet.acknowledgement);
        let news =
            flags.ack && acknowledged.is_none_or(|it| before(it, segment.packet.acknowledgement));
        if flags.fin {
            return Some(match past.fin[peer].map(|number| &segments[number]) {
                Some(fin) if covers(fin) && news => {
                    "acknowledges the FIN and closes the other half, in one segment"
                }
                Some(fin) if covers(fin) => {
                    "closes the other half: neither side will send anything more"
                }
                Some(_) => "sent before the peer's FIN arrived: both close at once",
                None => "FIN: this side will send nothing more; it may still receive",
            });
        }
        if segment.packet.payload_bytes > 0 {
            let request = past.carrying[peer].map(|number| end_of(&segments[number].packet));
            let rides = request.is_some_and(|end| acknowledged.is_none_or(|it| before(it, end)));
            return match (segment.from, rides && news) {
                (Side::Server, true) => {
                    Some("also acknowledges the request: the response carries the delayed ACK")
                }
                _ if flags.psh => {
                    Some("PSH: the sender has nothing more for now; pass the data to the program")
                }
                _ => None,
            };
        }
        self.pure_ack(number, news)
    }

    /// Explains a segment that carries only an acknowledgement and a window.
    fn pure_ack(&self, number: usize, news: bool) -> Option<&'static str> {
        let segments = &self.subject.segments;
        let segment = &segments[number];
        let past = self.pasts[number];
        let of = |number: Option<usize>| number.map(|number| &segments[number]);
        if !segment.packet.flags.ack {
            return None;
        }
        let previous = of(past.last[segment.from as usize]);
        let peer = of(past.last[other(segment.from) as usize])?;
        let opens = previous.is_some_and(|it| it.packet.flags.syn);
        if opens && peer.packet.flags.syn && peer.packet.flags.ack {
            let at_ns = segment.packet.at_ns;
            let accepting = self.record.calls.iter().any(|call| {
                matches!(call.name, "accept" | "accept4")
                    && call.side == Side::Server
                    && call.entered_ns.is_none_or(|entered_ns| entered_ns <= at_ns)
                    && call.left_ns.is_none_or(|left_ns| left_ns > at_ns)
            });
            let dropped = segments[number + 1..]
                .iter()
                .find(|it| it.from == other(segment.from))
                .is_some_and(|it| it.packet.flags.syn);
            return Some(match (dropped, accepting) {
                (true, _) => {
                    "the client's handshake is complete, but the server drops this ACK: its accept queue is full"
                }
                (_, true) => {
                    "complete: the connection enters the accept queue, where accept() already waits"
                }
                _ => {
                    "complete: the connection waits in the accept queue until the server calls accept()"
                }
            });
        }
        let fin = of(past.fin[other(segment.from) as usize]);
        if fin
            .is_some_and(|fin| news && !before(segment.packet.acknowledgement, end_of(&fin.packet)))
        {
            return Some("acknowledges the FIN, which counts as one byte");
        }
        if news {
            return Some(
                "from the kernel: the bytes have arrived; the program may not have read them yet",
            );
        }
        None
    }

    /// The meaning of the last remark that has one, since special remarks come last. The first RST
    /// is left out: its reason explains it better.
    fn by_remark(&self, segment: &Segment) -> Option<&'static str> {
        let is_reason = |it: &Remark| *it == Remark::ResetOfUnknown && self.reason.is_some();
        (segment.remarks.iter().rev())
            .filter(|it| !is_reason(it))
            .filter(|it| !(segment.packet.flags.syn && **it == Remark::Retransmission))
            .find_map(|it| it.meaning())
    }
}

/// Explains a system call, whatever comes before it.
pub(super) fn call(item: &Item<'_>) -> Option<&'static str> {
    let Thing::Call { call, part, .. } = &item.what else {
        return None;
    };
    const EAGAIN: i64 = -11;
    const EINPROGRESS: i64 = -115;
    let leaves = *part != Part::Enter;
    let result = call.result.filter(|_| leaves);
    match (call.name, result) {
        ("socket", _) if *part != Part::Leave => {
            Some("a descriptor for a socket; nothing is sent yet")
        }
        ("bind", _) if *part != Part::Leave => Some("the socket gets its address and port"),
        ("listen", _) if *part != Part::Leave => {
            Some("from now on the kernel answers SYNs by itself; the number is the backlog")
        }
        ("setsockopt", _)
            if *part != Part::Leave && call.arguments[1] == 1 && call.arguments[2] == 2 =>
        {
            Some("SO_REUSEADDR: bind() even while old connections are in TIME-WAIT")
        }
        ("accept" | "accept4", None) => Some("waits until a connection is in the accept queue"),
        ("accept" | "accept4", Some(EAGAIN)) if has_waited(call) => {
            Some("timed out (SO_RCVTIMEO): no connection came")
        }
        ("accept" | "accept4", Some(EAGAIN)) => Some("the accept queue is empty"),
        ("accept" | "accept4", Some(0..)) => Some("takes a connection out of the accept queue"),
        ("connect", Some(0)) => Some("returns as soon as the SYN+ACK arrives"),
        ("connect", Some(EINPROGRESS)) if has_waited(call) => Some(
            "timed out (SO_SNDTIMEO); the kernel keeps sending SYNs until the socket is closed",
        ),
        ("connect", Some(EINPROGRESS)) => {
            Some("does not wait: the handshake continues in the background")
        }
        (_, Some(0)) if is_read(call) && call.arguments[2] > 0 => {
            Some("0 bytes: end of file, the peer has closed its half")
        }
        (_, Some(EAGAIN)) if is_read(call) && has_waited(call) => {
            Some("timed out (SO_RCVTIMEO): nothing arrived")
        }
        (_, Some(EAGAIN)) if is_read(call) => {
            Some("nothing has arrived yet, and the call does not wait")
        }
        ("write" | "sendto" | "sendmsg" | "writev", Some(1..)) => {
            Some("the bytes are in the kernel's send buffer; they may not have arrived yet")
        }
        ("shutdown", _) if *part != Part::Leave => {
            Some("closes the sending half: a FIN goes out; reading continues")
        }
        ("close", _) if *part != Part::Leave && call.side == Side::Client => {
            Some("the client is done with the socket; the kernel handles the rest")
        }
        ("close", _) if *part != Part::Leave => {
            Some("the server is done with the socket; the kernel handles the rest")
        }
        _ => None,
    }
}

/// Whether a call returned nothing after waiting: the socket has a timeout rather than being
/// non-blocking.
fn has_waited(call: &Call) -> bool {
    const AT_ONCE_NS: u64 = 1_000_000;
    call.entered_ns
        .zip(call.left_ns)
        .is_some_and(|(entered_ns, left_ns)| left_ns.saturating_sub(entered_ns) > AT_ONCE_NS)
}

/// Explains a closed window from either side: the sender waits for it, or the receiver reopens it.
fn closed_window(before: &[Segment], segment: &Segment) -> Option<&'static str> {
    let is_closed = |side: Side| {
        let mut own = before
            .iter()
            .rev()
            .filter(|it| it.from == side && it.counts());
        let last = own.next().map(|it| &it.packet);
        last.is_some_and(|it| it.flags.ack && !it.flags.rst && it.window == 0)
    };
    if is_closed(other(segment.from)) {
        return Some("the receiver's window is closed: the sender must wait until it opens");
    }
    let opens = is_closed(segment.from) && segment.packet.window > 0;
    opens.then_some("its window is closed: the buffer is full until the program reads")
}

/// Why the server was silent before it sent something, although the last bytes were its own.
fn unasked(subject: &Subject<'_>, number: usize) -> &'static str {
    let before = &subject.segments[..number];
    let carries = |it: &&Segment| it.packet.payload_bytes > 0 && it.counts();
    if !before.iter().any(|it| carries(&it)) {
        return "no request yet: the server sends first";
    }
    let is_status = |it: &Segment| it.from == Side::Server && it.http.is_some();
    if !is_status(&subject.segments[number]) {
        return "the server pauses before it sends the rest";
    }
    let is_asked = |begun: &&u32| {
        (before.iter().filter(carries)).any(|it| {
            it.from == Side::Client
                && begun.wrapping_sub(it.packet.sequence) < it.packet.payload_bytes
        })
    };
    let asked = subject
        .messages
        .requests_begun
        .iter()
        .filter(is_asked)
        .count();
    let answers = (before.iter()).filter(|it| is_status(it) && !it.retransmission);
    match asked > answers.count() {
        true => "the server takes this long to answer",
        false => "the connection is idle: the server sends without a request",
    }
}

/// Why nothing happens for so long before an item.
pub(super) fn silence(subject: &Subject<'_>, item: Option<&Item<'_>>) -> Option<&'static str> {
    match &item?.what {
        Thing::Segment(number) => {
            let segments = &subject.segments;
            let segment = &segments[*number];
            let flags = segment.packet.flags;
            let last = segments[..*number].last()?;
            let has_payload = |it: &Segment| it.packet.payload_bytes > 0;
            let request_open = segments[..*number].iter().rfind(|it| has_payload(it));
            let unanswered = request_open.is_some_and(|it| it.from == Side::Client);
            if !flags.syn
                && !flags.rst
                && let Some(why) = closed_window(&segments[..*number], segment)
            {
                return Some(why);
            }
            if segment.retransmission && flags.syn {
                return Some(
                    "the SYN is sent again after a second, a few times; then after 2 s, 4 s and so on",
                );
            }
            if segment.retransmission {
                return Some(
                    "no ACK arrives; the segment is sent again when the retransmission timer expires",
                );
            }
            if flags.fin || flags.rst {
                return Some(match (segment.from, unanswered) {
                    (Side::Client, true) => "no answer comes until the client gives up",
                    (Side::Server, true) => "the server has a request and does not answer it",
                    _ => "the connection is idle",
                });
            }
            if has_payload(segment) {
                return match (segment.from, last.from, unanswered) {
                    (Side::Server, _, true) => Some("the server takes this long to answer"),
                    (Side::Server, _, false) => Some(unasked(subject, *number)),
                    (Side::Client, Side::Client, true) => {
                        Some("the client pauses before it sends the rest")
                    }
                    (Side::Client, ..) => Some("the client waits before it sends a request"),
                };
            }
            (has_payload(last) && last.from != segment.from).then_some(
                "a delayed ACK: it waits for data to carry it, up to 40 ms (longer on some systems)",
            )
        }
        Thing::State(change) if change.old == State::TimeWait => {
            Some("TIME-WAIT lasts 60 s on Linux")
        }
        _ => None,
    }
}
