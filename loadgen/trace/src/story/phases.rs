//! Which lines belong together, and what is said of them.

use super::endings::{TIME_WAIT_S, bytes, duration, full_queue, is_write, reason};
use super::states::other;
use super::subject::Subject;
use super::timeline::{Item, Thing, happening};
use super::why::{call as why_of_call, silence, whys};
use super::{Ending, EndingKind, Event, Happening, Part, Phase, PhaseKind, Segment};
use crate::model::{Call, Record, Side, State, What};

/// From so long on, that nothing happens is an event.
const SILENCE_NS: u64 = 100_000_000;

/// What came before the first connection; none if that was nothing.
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
            "socket() makes a socket, bind() gives it an address, listen() lets the kernel take connections for it."
                .to_owned(),
        );
    }
    text.push(match backlog {
        // Linux drops a SYN when more than the backlog wait, and not when as many do.
        Some(backlog) => format!(
            "Handshakes are the kernel's work from now on: connections that are complete wait in the accept queue \
             until accept() takes them. The backlog of {} lets {} of them wait.",
            backlog,
            backlog.saturating_add(1)
        ),
        None if listener.is_some() => "Nothing of a connection yet.".to_owned(),
        None => "No socket that listens was seen.".to_owned(),
    });
    if let Some(queued) = listener.map(|it| it.receive_queue).filter(|it| *it > 0) {
        text.push(format!("{queued} wait in it already."));
    }
    let mut said = Vec::new();
    let events = items.iter().filter_map(|item| {
        let why = why_of_call(item).filter(|why| {
            let new = !said.contains(why);
            said.push(why);
            new
        });
        let mut what = happening(item, None)?;
        // A register holds only where the address is.
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

/// One connection, cut into phases.
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
            // Where a head was not captured, a request tells which response it is.
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

/// Where phases begin.
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
    // Where in the handshake the client already writes, it is a request only once there is a connection.
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
    // What comes before belongs to the first phase.
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

/// The first line of the close: a FIN or a RST, or the call it came from, after which nothing flows any more.
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
        // A client that closes its half may still get its answer.
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

/// `Request 2 of 3`
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

/// Whose bytes a request or a response is.
fn sender(kind: PhaseKind) -> Side {
    match kind {
        PhaseKind::Request => Side::Client,
        _ => Side::Server,
    }
}

/// One phase of a connection.
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

    /// How many messages of this side begin here, of those at these numbers.
    fn begun(&self, side: Side, numbers: &[u32]) -> usize {
        let begins = |number: &&u32| {
            (self.segments().filter(|it| it.from == side)).any(|it| {
                let first = (it.packet.sequence).wrapping_add(u32::from(it.packet.flags.syn));
                number.wrapping_sub(first) < it.packet.payload_bytes
            })
        };
        numbers.iter().take_while(begins).count()
    }

    /// All that the server sends here is interim.
    fn is_interim(&self) -> bool {
        let carries = |it: &&Segment| it.from == Side::Server && it.packet.payload_bytes > 0;
        let first = self
            .segments()
            .find(carries)
            .and_then(|it| it.http.as_deref());
        first.is_some_and(|line| line.starts_with("HTTP/1.1 1"))
    }

    /// The first bytes of this phase come behind the last of HTTP.
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

    /// Of bytes that are not HTTP/1.
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
            EndingKind::Simultaneous => "The close, by both at once",
            EndingKind::HalfClosed(_) => "The close, of one half",
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
                "The client asks for a connection to {}; without packets only the client's side of it is seen.",
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
                "SYN, SYN+ACK, ACK: each side says from which number it counts its bytes, and hears that the other \
                 has got it. The kernels do it by themselves: the server's program need not have called accept() yet."
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
                    "The SYN was sent {count} times: the accept queue was full, with {waiting} in it where the backlog \
                     is {backlog}, and then a kernel drops SYNs."
                ),
                None => format!(
                    "The SYN was sent {count} times: the first got lost, or the server's accept queue was \
                     full, in which case its kernel drops SYNs; 1 s later the client asks again."
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
            text.push("The SYN+ACK was sent again: no ACK of it had come by then.".to_owned());
        }
        if syns(Side::Server).count() > 1 && is_dropped {
            text.push(
                "The SYN+ACK was sent again although the client's ACK went by: the server dropped that ACK, as \
                 it does while its accept queue is full; the client believes in a connection that the server \
                 does not have yet."
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
                        "The head and the body go separately: the program writes them by two calls, and each \
                         becomes a segment of its own."
                            .to_owned()
                    }
                    Some(writes) if writes > 1 => format!("The program wrote it in {writes} calls."),
                    _ => String::new(),
                });
            }
            if let Some(protocol) = self.subject.messages.protocol {
                text.push(format!("This is {protocol}, not HTTP/1: it is not read."));
            }
            if side == Side::Server
                && !self.is_in_tunnel(PhaseKind::Response)
                && let Some(waited_ns) = self.answered_after()
            {
                text.push(format!(
                    "It begins {} after the end of the request.",
                    duration(waited_ns)
                ));
            }
            if again > 0 {
                text.push(format!(
                    "{again} of the segments went by before: sent again."
                ));
            }
        } else {
            text.push(match side {
                Side::Client => "The client hands its request to the kernel.".to_owned(),
                Side::Server => "The server's answer reaches the client.".to_owned(),
            });
        }
        if side == Side::Client
            && self
                .segments()
                .any(|it| it.from == Side::Client && it.packet.flags.fin)
        {
            text.push(
                "The client closes its half with it: a FIN says that no further request will come, and the \
                 other direction stays open for the answer."
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

    /// The first segment of the server ends with the head of its response.
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
                "FINs go by unseen without packets; what the client's calls tell of them is shown."
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
                        "Each half is closed by a FIN and its ACK. Here three segments do: the {peer}'s FIN acknowledges the \
                         {who}'s as well, so that no ACK of its own was needed."
                    )
                } else {
                    format!(
                        "Each half is closed by a FIN and its ACK: the {who} first, then the {peer}, when its program \
                         has read to the end and closes as well."
                    )
                };
                let waited = self.between_fins().map_or(String::new(), |ns| {
                    format!(" The {peer}'s FIN came {} after the {who}'s.", duration(ns))
                });
                format!("{how}{waited}")
            }
            (EndingKind::Reset(side), _) => format!(
                "A RST in place of a FIN: the {} does away with the connection at once, and so must the {}. Nothing \
                 is acknowledged, and nobody waits for anything.",
                side.name(),
                other(side).name()
            ),
            (EndingKind::Simultaneous, _) => format!(
                "Each side sent its FIN before it had seen the other's{}; each acknowledges the other's.",
                self.between_fins()
                    .map_or(String::new(), |ns| format!(", {} apart", duration(ns)))
            ),
            (EndingKind::HalfClosed(side), _) => format!(
                "The {} closes its half by a FIN. The other half stays open until the {} closes as well.",
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
            "TIME-WAIT lasts {TIME_WAIT_S} s on Linux, a constant of the kernel; tcp_fin_timeout is not it, but how \
             long an orphan waits in FIN-WAIT-2. Meanwhile a late segment of this connection cannot be taken \
             for one of a later connection between the same ports, and a lost last ACK can be given again."
        );
        match (waits(Side::Client), waits(Side::Server)) {
            (true, true) => format!("Both closed at once, so both hold TIME-WAIT. {why}"),
            (false, false) => "Nothing is left of it.".to_owned(),
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
