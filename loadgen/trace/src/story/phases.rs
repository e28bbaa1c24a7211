//! Divides a connection into phases and explains each.

use super::endings::{TIME_WAIT_S, bytes, duration, full_queue, is_write, reason};
use super::states::other;
use super::subject::Subject;
use super::timeline::{Item, Thing, happening};
use super::why::{call as why_of_call, silence, whys};
use super::{Ending, EndingKind, Event, Happening, Part, Phase, PhaseKind, Segment};
use crate::model::{Call, Record, Side, State, What};

/// A pause this long becomes an event of its own.
const SILENCE_NS: u64 = 100_000_000;

/// The phase before the first connection; `None` if nothing was seen.
pub(super) fn listening(record: &Record, items: &[Item<'_>]) -> Option<Phase> {
    if items.is_empty() {
        return None;
    }
    let calls = |name: &str| {
        items.iter().find_map(|item| match &item.what {
            Thing::Call { call, .. } if call.name == name => Some(*call),
            _ => None,
        })
    };
    let sockets = items.iter().filter_map(|item| match &item.what {
        Thing::Sockets(snapshot) => Some(&snapshot.sockets),
        _ => None,
    });
    let listener = sockets.flatten().find(|socket| {
        let wanted = record
            .server
            .is_none_or(|server| server.port() == socket.local.port());
        socket.remote.is_none() && wanted
    });
    let backlog = calls("listen")
        .map(|call| call.arguments[1] & u64::from(u32::MAX))
        .or(listener.map(|socket| u64::from(socket.send_queue)));
    let begins = calls("listen").is_some();
    let mut text = Vec::new();
    if begins {
        text.push(
            "socket() creates a socket, bind() gives it an address, listen() makes the kernel complete handshakes for it."
                .to_owned(),
        );
    }
    text.push(match backlog {
        // Linux drops a SYN only when more connections than the backlog wait, so one more than the
        // backlog fits.
        Some(backlog) => format!(
            "From now on the kernel completes handshakes by itself: finished connections wait in the accept queue \
             until accept() takes them. With a backlog of {}, {} of them can wait.",
            backlog,
            backlog.saturating_add(1)
        ),
        None if listener.is_some() => "No connection yet.".to_owned(),
        None => "No listening socket was seen.".to_owned(),
    });
    if let Some(queued) = listener.map(|it| it.receive_queue).filter(|it| *it > 0) {
        text.push(format!("Already waiting in the accept queue: {queued}."));
    }
    let mut said = Vec::new();
    let events = items.iter().filter_map(|item| {
        let why = why_of_call(item).filter(|why| {
            let new = !said.contains(why);
            said.push(why);
            new
        });
        let mut what = happening(item, None)?;
        // The registers contain only a pointer to the address.
        if let (Thing::Call { call, .. }, Happening::Call(line)) = (&item.what, &mut what)
            && call.name == "bind"
            && calls("listen").is_some_and(|listen| listen.arguments[0] == call.arguments[0])
            && let Some(server) = record.server
        {
            line.arguments = format!("{}, {server}", line.arguments);
        }
        Some(Event {
            at_ns: item.at_ns,
            what,
            why: why.map(str::to_owned),
        })
    });
    Some(Phase {
        kind: PhaseKind::Listening,
        heading: if begins {
            "The server begins to listen".to_owned()
        } else if listener.is_some() {
            "The server listens".to_owned()
        } else {
            "Before the connection".to_owned()
        },
        events: events.collect(),
        explanation: text.join(" "),
    })
}

/// Divides one connection into phases.
pub(super) fn phases(
    record: &Record,
    subject: &Subject<'_>,
    calls: &[&Call],
    items: &[Item<'_>],
    ending: &Ending,
) -> Vec<Phase> {
    let cuts = cuts(subject, items);
    let reason = reason(record, subject, calls);
    let whys = whys(record, subject, items, reason.as_ref());
    let total = subject.messages.requests();
    let (mut requests, mut responses) = (0, 0);
    let mut phases = Vec::new();
    for (number, &(from, kind)) in cuts.iter().enumerate() {
        let to = cuts.get(number + 1).map_or(items.len(), |(to, _)| *to);
        let part = Passage {
            record,
            subject,
            items: &items[from..to],
            ending,
        };
        let first = requests + 1;
        let first_response = responses + 1;
        match kind {
            PhaseKind::Request => {
                let begun = &subject.messages.requests_begun[requests..];
                requests += part.begun(Side::Client, begun);
            }
            PhaseKind::Response => {
                let begun = &subject.messages.responses_begun[responses..];
                responses += part.begun(Side::Server, begun);
            }
            _ => {}
        }
        let heading = match kind {
            PhaseKind::Request | PhaseKind::Response if part.is_in_tunnel(kind) => {
                part.tunnel_heading(kind)
            }
            PhaseKind::Request | PhaseKind::Response if subject.messages.protocol.is_some() => {
                part.foreign_heading(kind)
            }
            PhaseKind::Request => counted("request", first, requests, total),
            // If the head was not captured, the request determines the response.
            PhaseKind::Response if subject.messages.responses_begun.len() < total => {
                counted("response", requests.max(1), requests.max(1), total)
            }
            PhaseKind::Response if responses < first_response && part.is_interim() => {
                "An interim response".to_owned()
            }
            PhaseKind::Response => {
                let total = subject.messages.responses_begun.len();
                counted("response", first_response, responses, total)
            }
            _ => part.heading(kind),
        };
        let mut events = Vec::new();
        for at in from..to {
            let item = &items[at];
            events.extend(happening(item, Some(subject)).map(|what| Event {
                at_ns: item.at_ns,
                what,
                why: whys[at].clone(),
            }));
            let next = items.get(at + 1);
            let quiet_ns = next.map_or(0, |next| next.at_ns - item.at_ns);
            if quiet_ns >= SILENCE_NS && !record.lacks_times {
                events.push(Event {
                    at_ns: item.at_ns,
                    what: Happening::Silence(quiet_ns),
                    why: silence(subject, next).map(str::to_owned),
                });
            }
        }
        phases.push(Phase {
            kind,
            heading,
            explanation: part.explanation(kind),
            events,
        });
    }
    phases
}

/// Positions at which phases begin.
fn cuts(subject: &Subject<'_>, items: &[Item<'_>]) -> Vec<(usize, PhaseKind)> {
    let segment = |item: &Item<'_>| match &item.what {
        Thing::Segment(number) => Some(&subject.segments[*number]),
        _ => None,
    };
    let close = close_at(subject, items);
    let mut cuts: Vec<(usize, PhaseKind)> = Vec::new();
    let seen_syn = subject.packets.is_empty() || subject.packets.iter().any(|it| it.flags.syn);
    if seen_syn {
        cuts.push((0, PhaseKind::Handshake));
    }
    // Bytes that the client sends during the handshake become a request only once there is a
    // connection.
    let established = subject.was_established();
    for (at, item) in items.iter().enumerate() {
        if Some(at) == close {
            cuts.push((at, PhaseKind::Close));
            break;
        }
        let begins = match (&item.what, segment(item)) {
            (_, Some(it))
                if it.packet.payload_bytes > 0
                    && !it.retransmission
                    && !it.packet.flags.rst
                    && it.counts() =>
            {
                Some(it.from)
            }
            (
                Thing::Call {
                    call,
                    part,
                    own: true,
                },
                _,
            ) if is_write(call) && *part != Part::Leave && call.result.is_none_or(|it| it > 0) => {
                Some(call.side)
            }
            (Thing::Moment(What::Sent(_)), _) => Some(Side::Client),
            (Thing::Moment(What::Received(_)), _) => Some(Side::Server),
            _ => None,
        };
        let kind = match begins.filter(|_| established || !seen_syn) {
            Some(Side::Client) => PhaseKind::Request,
            Some(Side::Server) => PhaseKind::Response,
            None => continue,
        };
        if cuts.last().is_none_or(|(_, last)| *last != kind) {
            cuts.push((at, kind));
        }
    }
    // Everything before the first cut belongs to the first phase.
    match cuts.first_mut() {
        Some(first) => first.0 = 0,
        None => cuts.push((
            0,
            if established {
                PhaseKind::Request
            } else {
                PhaseKind::Handshake
            },
        )),
    }
    if cuts
        .last()
        .is_some_and(|(_, kind)| *kind == PhaseKind::Close)
    {
        let last = items.iter().rposition(|item| match &item.what {
            Thing::Segment(_) => true,
            Thing::State(change) => change.old != State::TimeWait,
            Thing::Call { own, .. } => *own,
            Thing::Moment(what) => !matches!(what, What::Info(_)),
            Thing::Sockets(_) => false,
            Thing::Icmp(_) => true,
        });
        let after = last.map_or(items.len(), |last| last + 1);
        let waits = [Side::Client, Side::Server]
            .into_iter()
            .any(|side| subject.was_in(side, State::TimeWait));
        if (waits || after < items.len()) && cuts.last().is_some_and(|(at, _)| *at < after) {
            cuts.push((after, PhaseKind::Aftermath));
        }
    }
    cuts
}

/// The first item of the close: a FIN, a RST, or the call that caused it; no data flows after it.
fn close_at(subject: &Subject<'_>, items: &[Item<'_>]) -> Option<usize> {
    if !subject.was_established() {
        return None;
    }
    let segments = || {
        items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| match &item.what {
                Thing::Segment(number) => Some((at, &subject.segments[*number])),
                _ => None,
            })
    };
    let ends = |it: &Segment| (it.packet.flags.fin || it.packet.flags.rst) && it.counts();
    let fresh = |it: &Segment| {
        it.counts() && it.packet.payload_bytes > 0 && !it.retransmission && !it.packet.flags.rst
    };
    let first = segments().find(|(_, it)| ends(it));
    let flows_until = match first {
        // A client that closes its half may still receive the response.
        Some((_, it)) if it.from == Side::Client && it.packet.flags.fin => {
            let until = first.map(|(at, _)| at);
            segments()
                .rfind(|(at, it)| fresh(it) && (it.from == Side::Server || Some(*at) <= until))
        }
        Some((end, _)) => segments().rfind(|(at, it)| fresh(it) && *at <= end),
        None => segments().rfind(|(_, it)| fresh(it)),
    };
    let from = match flows_until {
        Some((at, _)) => at + 1,
        None if !subject.packets.is_empty() => 0,
        None => {
            let flows = |item: &Item<'_>| {
                matches!(
                    item.what,
                    Thing::Moment(
                        What::Connected | What::Sent(_) | What::Received(_) | What::Answered(_)
                    )
                )
            };
            items.iter().rposition(flows)? + 1
        }
    };
    (from..items.len()).find(|&at| match &items[at].what {
        Thing::Segment(number) => ends(&subject.segments[*number]),
        Thing::State(change) => {
            matches!(change.new, State::FinWait1 | State::LastAck | State::Closed)
        }
        Thing::Call { call, part, own } => {
            *own && *part != Part::Leave && matches!(call.name, "close" | "shutdown")
        }
        Thing::Moment(what) => matches!(
            what,
            What::EndOfFile | What::ShutDown | What::Closed | What::Failed(..)
        ),
        Thing::Sockets(_) | Thing::Icmp(_) => false,
    })
}

/// The number of a message among all: `Request 2 of 3`.
fn counted(what: &str, first: usize, last: usize, total: usize) -> String {
    if total <= 1 && last <= 1 {
        return format!("The {what}");
    }
    let mut title = what.to_owned();
    title[..1].make_ascii_uppercase();
    match last {
        last if last < first => format!("The {what}, continued"),
        last if last == first => format!("{title} {first} of {total}"),
        last => format!("{title}s {first} to {last} of {total}"),
    }
}

/// The side that sends a request or a response.
fn sender(kind: PhaseKind) -> Side {
    match kind {
        PhaseKind::Request => Side::Client,
        _ => Side::Server,
    }
}

/// One phase while its heading and explanation are written.
struct Passage<'a> {
    record: &'a Record,
    subject: &'a Subject<'a>,
    items: &'a [Item<'a>],
    ending: &'a Ending,
}

impl Passage<'_> {
    fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.items.iter().filter_map(|item| match &item.what {
            Thing::Segment(number) => Some(&self.subject.segments[*number]),
            _ => None,
        })
    }

    /// How many messages of this side, of those at `numbers`, begin in this phase.
    fn begun(&self, side: Side, numbers: &[u32]) -> usize {
        let begins = |number: &&u32| {
            (self.segments().filter(|it| it.from == side)).any(|it| {
                let first = (it.packet.sequence).wrapping_add(u32::from(it.packet.flags.syn));
                number.wrapping_sub(first) < it.packet.payload_bytes
            })
        };
        numbers.iter().take_while(begins).count()
    }

    /// Whether everything the server sends here is interim.
    fn is_interim(&self) -> bool {
        let carries = |it: &&Segment| it.from == Side::Server && it.packet.payload_bytes > 0;
        let first = self
            .segments()
            .find(carries)
            .and_then(|it| it.http.as_deref());
        first.is_some_and(|line| line.starts_with("HTTP/1.1 1"))
    }

    /// Whether this phase's first bytes come after the end of HTTP.
    fn is_in_tunnel(&self, kind: PhaseKind) -> bool {
        let Some(tunnel) = self.subject.messages.tunnel else {
            return false;
        };
        let side = sender(kind);
        let carries = |it: &&Segment| it.from == side && it.packet.payload_bytes > 0;
        self.segments().find(carries).is_some_and(|it| {
            let place = it.packet.sequence.wrapping_sub(tunnel.from[side as usize]);
            place.cast_signed() >= 0
        })
    }

    fn tunnel_heading(&self, kind: PhaseKind) -> String {
        let tunnel = self.subject.messages.tunnel;
        let what = match tunnel.is_some_and(|it| it.is_connected) {
            true => "Bytes in the tunnel",
            false => "Bytes of another protocol",
        };
        format!("{what}, from the {}", sender(kind).name())
    }

    /// A heading for bytes that are not HTTP/1.
    fn foreign_heading(&self, kind: PhaseKind) -> String {
        let from = sender(kind);
        let what = self.subject.messages.protocol.unwrap_or("Bytes");
        let mut heading = format!("{what} from the {}", from.name());
        heading[..1].make_ascii_uppercase();
        heading
    }

    fn lasted_ns(&self) -> u64 {
        match (self.items.first(), self.items.last()) {
            (Some(first), Some(last)) => last.at_ns - first.at_ns,
            _ => 0,
        }
    }

    fn heading(&self, kind: PhaseKind) -> String {
        match kind {
            PhaseKind::Handshake if self.subject.was_established() => "The three-way handshake",
            PhaseKind::Handshake => match self.ending.kind {
                EndingKind::Refused => "The connection is refused",
                EndingKind::NoAnswer => "No answer to the SYN",
                EndingKind::Unreachable => "The SYN is not delivered",
                _ => "The handshake, unfinished",
            },
            PhaseKind::Close => self.close_heading(),
            PhaseKind::Aftermath => {
                let waits = [Side::Client, Side::Server]
                    .into_iter()
                    .any(|side| self.subject.was_in(side, State::TimeWait));
                if waits {
                    "Aftermath: TIME-WAIT"
                } else {
                    "Aftermath"
                }
            }
            PhaseKind::Listening | PhaseKind::Request | PhaseKind::Response => "The exchange",
        }
        .to_owned()
    }

    fn close_heading(&self) -> &'static str {
        let closing = self
            .segments()
            .filter(|it| it.packet.flags.fin || it.packet.payload_bytes == 0);
        match self.ending.kind {
            EndingKind::Reset(_) => "The close, by a reset",
            EndingKind::Simultaneous => "The simultaneous close",
            EndingKind::HalfClosed(_) => "The close of one half",
            EndingKind::Closed(_) | EndingKind::Silent if !self.subject.segments.is_empty() => {
                let fins = self.segments().filter(|it| it.packet.flags.fin).count();
                match (fins, closing.count()) {
                    (2, 3) => "The close, in three segments",
                    (2, _) => "The four-way close",
                    _ => "The close",
                }
            }
            _ => "The close",
        }
    }

    fn explanation(&self, kind: PhaseKind) -> String {
        match kind {
            PhaseKind::Listening => String::new(),
            PhaseKind::Handshake => self.handshake(),
            PhaseKind::Request => self.data(Side::Client),
            PhaseKind::Response => self.data(Side::Server),
            PhaseKind::Close => self.close(),
            PhaseKind::Aftermath => self.aftermath(),
        }
    }

    fn handshake(&self) -> String {
        if self.subject.packets.is_empty() {
            return format!(
                "The client requests a connection to {}; without packets, only the client's side is visible.",
                self.subject.endpoints.server
            );
        }
        let syns = |side| {
            self.segments()
                .filter(move |it| it.from == side && it.packet.flags.syn)
        };
        let count = syns(Side::Client).count();
        let mut text = Vec::new();
        if self.subject.was_established() {
            text.push(
                "SYN, SYN+ACK, ACK: each side announces its first sequence number, and the other acknowledges it. The \
                 kernels do this by themselves: the server's program need not have called accept() yet."
                    .to_owned(),
            );
            let open = syns(Side::Client).next().map(|it| it.packet.at_ns);
            let established = (self.subject.states_of(Side::Client))
                .find(|change| change.new == State::Established && !self.record.lacks_times);
            if let Some((open_ns, change)) = open.zip(established) {
                text.push(format!(
                    "The client may send after one round trip: {} here.",
                    duration(change.at_ns.saturating_sub(open_ns))
                ));
            }
        } else {
            text.push(self.ending.explanation.clone());
        }
        if count > 1 && self.subject.was_established() {
            text.push(match full_queue(self.record, self.subject) {
                Some((waiting, backlog)) => format!(
                    "The SYN was sent {count} times: the accept queue was full ({waiting} waiting, with a backlog of \
                     {backlog}), and a kernel drops SYNs while the queue is full."
                ),
                None => format!(
                    "The SYN was sent {count} times: the first was lost, or the server's kernel dropped it because the \
                     accept queue was full; the client asks again after 1 s."
                ),
            });
        }
        let answered_at = self.segments().position(|it| {
            let flags = it.packet.flags;
            it.from == Side::Client && flags.ack && !flags.syn && !flags.rst
        });
        let last_at = (self.segments().enumerate())
            .filter(|(_, it)| it.from == Side::Server && it.packet.flags.syn)
            .map(|(at, _)| at)
            .last();
        let is_dropped = answered_at.is_some_and(|answered| last_at > Some(answered));
        if syns(Side::Server).count() > 1 && !is_dropped {
            text.push("The SYN+ACK was sent again: no ACK had arrived by then.".to_owned());
        }
        if syns(Side::Server).count() > 1 && is_dropped {
            text.push(
                "The SYN+ACK was sent again although the client's ACK was captured: the server dropped that ACK, as \
                 it does while its accept queue is full. The client has a connection that the server does not \
                 have yet."
                    .to_owned(),
            );
        }
        text.join(" ")
    }

    fn data(&self, side: Side) -> String {
        let carry = || {
            self.segments()
                .filter(move |it| it.from == side && it.packet.payload_bytes > 0)
        };
        let fresh = carry().filter(|it| !it.retransmission);
        let sum: u64 = fresh.map(|it| u64::from(it.packet.payload_bytes)).sum();
        let again = carry().filter(|it| it.retransmission).count();
        let first = carry().next();
        let mut text = Vec::new();
        if first.is_some() {
            let line = first
                .and_then(|it| it.http.as_deref())
                .map_or(String::new(), |line| format!(", beginning with {line}"));
            let count = carry().count();
            let segments = match count {
                1 => "one segment".to_owned(),
                count => format!("{count} segments"),
            };
            text.push(format!(
                "{} from the {} in {segments}{line}.",
                bytes(sum),
                side.name()
            ));
            if side == Side::Server && count > 1 && sum < u64::from(u16::MAX) {
                let writes = self.writes(side);
                text.push(match writes {
                    Some(1) | None if count == 2 && self.head_alone() => {
                        "The head and the body travel separately: the program writes them with two calls, and each becomes \
                         a separate segment."
                            .to_owned()
                    }
                    Some(writes) if writes > 1 => format!("The program wrote it in {writes} calls."),
                    _ => String::new(),
                });
            }
            if let Some(protocol) = self.subject.messages.protocol {
                text.push(format!(
                    "This is {protocol}, not HTTP/1: the trace does not parse it."
                ));
            }
            if side == Side::Server
                && !self.is_in_tunnel(PhaseKind::Response)
                && let Some(waited_ns) = self.answered_after()
            {
                text.push(format!(
                    "The response begins {} after the end of the request.",
                    duration(waited_ns)
                ));
            }
            if again > 0 {
                text.push(format!("Retransmitted segments among them: {again}."));
            }
        } else {
            text.push(match side {
                Side::Client => "The client hands its request to the kernel.".to_owned(),
                Side::Server => "The server's response reaches the client.".to_owned(),
            });
        }
        if side == Side::Client
            && self
                .segments()
                .any(|it| it.from == Side::Client && it.packet.flags.fin)
        {
            text.push(
                "With the request the client closes its half: its FIN announces that no further request follows, and \
                 the other direction stays open for the response."
                    .to_owned(),
            );
        }
        text.retain(|sentence| !sentence.is_empty());
        text.join(" ")
    }

    fn writes(&self, side: Side) -> Option<usize> {
        let writes = self.items.iter().filter(|item| {
            matches!(&item.what, Thing::Call { call, part, own: true }
                if call.side == side && is_write(call) && *part != Part::Leave)
        });
        Some(writes.count()).filter(|count| *count > 0)
    }

    /// Whether the server's first segment ends where the head of its response ends.
    fn head_alone(&self) -> bool {
        (self
            .segments()
            .find(|it| it.from == Side::Server && it.packet.payload_bytes > 0))
        .is_some_and(|it| it.packet.payload.ends_with(b"\r\n\r\n"))
    }

    fn answered_after(&self) -> Option<u64> {
        if self.record.lacks_times {
            return None;
        }
        let segments = &self.subject.segments;
        let carries = |side| move |it: &&Segment| it.from == side && it.packet.payload_bytes > 0;
        let numbers = self.items.iter().filter_map(|item| match item.what {
            Thing::Segment(number) => Some(number),
            _ => None,
        });
        let first = numbers
            .clone()
            .find(|&it| carries(Side::Server)(&&segments[it]))?;
        let request = segments[..first].iter().rfind(carries(Side::Client))?;
        let first = &segments[first];
        Some(first.packet.at_ns - request.packet.at_ns)
    }

    fn close(&self) -> String {
        let first = self
            .segments()
            .find(|it| it.packet.flags.fin)
            .map(|it| it.from);
        match (self.ending.kind, first) {
            _ if self.subject.packets.is_empty() => {
                "Without packets, FINs are invisible; what the client's calls reveal about them is shown."
                    .to_owned()
            }
            (EndingKind::Closed(_) | EndingKind::Silent, Some(first)) => {
                let (who, peer) = (first.name(), other(first).name());
                let closing = self
                    .segments()
                    .filter(|it| it.packet.payload_bytes == 0)
                    .count();
                let how = if closing == 3 {
                    format!(
                        "A FIN and its ACK close each half. Three segments are enough here: the {peer}'s FIN also acknowledges \
                         the {who}'s, so no separate ACK was needed."
                    )
                } else {
                    format!(
                        "A FIN and its ACK close each half: first the {who}'s, then the {peer}'s, once the {peer}'s program \
                         has read to the end and closes as well."
                    )
                };
                let waited = self.between_fins().map_or(String::new(), |ns| {
                    format!(" The {peer}'s FIN came {} after the {who}'s.", duration(ns))
                });
                format!("{how}{waited}")
            }
            (EndingKind::Reset(side), _) => format!(
                "A RST instead of a FIN: the {} discards the connection at once, and the {} must do the same. Nothing \
                 is acknowledged, and neither side waits for anything.",
                side.name(),
                other(side).name()
            ),
            (EndingKind::Simultaneous, _) => format!(
                "Each side sent its FIN before the other's arrived{}; each acknowledges the other's.",
                self.between_fins()
                    .map_or(String::new(), |ns| format!(", {} apart", duration(ns)))
            ),
            (EndingKind::HalfClosed(side), _) => format!(
                "The {} closes its half with a FIN. The other half stays open until the {} closes as well.",
                side.name(),
                other(side).name()
            ),
            _ => self.ending.explanation.clone(),
        }
    }

    fn between_fins(&self) -> Option<u64> {
        if self.record.lacks_times {
            return None;
        }
        let mut fins = self
            .segments()
            .filter(|it| it.packet.flags.fin && !it.retransmission);
        let (first, second) = (fins.next()?, fins.next()?);
        Some(second.packet.at_ns - first.packet.at_ns)
    }

    fn aftermath(&self) -> String {
        let waits = |side| self.subject.was_in(side, State::TimeWait);
        let lasted = self.items.iter().find_map(|item| match &item.what {
            Thing::State(change) if change.old == State::TimeWait => Some(change),
            _ => None,
        });
        let why = format!(
            "TIME-WAIT lasts {TIME_WAIT_S} s on Linux, a constant of the kernel; tcp_fin_timeout is unrelated: it \
             limits orphans in FIN-WAIT-2. During TIME-WAIT, late segments of this connection cannot reach a \
             new connection on the same ports, and a lost last ACK can be repeated."
        );
        match (waits(Side::Client), waits(Side::Server)) {
            (true, true) => format!("Both closed at once, so both hold TIME-WAIT. {why}"),
            (false, false) => "Neither side keeps any state.".to_owned(),
            (client, _) => {
                let side = if client { Side::Client } else { Side::Server };
                let seen = lasted.map_or(String::new(), |_| {
                    format!(" It was seen to end after {}.", duration(self.lasted_ns()))
                });
                let who = side.name();
                format!(
                    "The {who} closed first, so the {who}'s kernel keeps the connection in TIME-WAIT. {why}{seen}"
                )
            }
        }
    }
}
