//! How a connection ended, and why.

use std::net::SocketAddr;

use super::states::{Derived, before, end_of, other};
use super::subject::Subject;
use super::time_wait::{was_listed, why_not};
use super::{Ending, EndingKind, Remark, Segment};
use crate::kernel::descriptor;
use crate::model::{Call, Flags, IcmpError, Record, Side, Socket, State, Undelivered, What};
use engine::figures::{count, time};
use engine::ports::TIME_WAIT;

/// [`TIME_WAIT`] in seconds, for sentences.
pub(super) const TIME_WAIT_S: u64 = TIME_WAIT.as_secs();

/// A side that closes without a response after this much silence has given up.
const PATIENCE_NS: u64 = 1_000_000_000;

/// The ending of a connection. `calls` are the calls about this connection.
pub(super) fn ending(record: &Record, subject: &Subject<'_>, calls: &[&Call]) -> Ending {
    let scene = Scene {
        record,
        subject,
        calls,
    };
    let (kind, mut sentences) = scene.ending();
    sentences.extend(scene.ignored());
    sentences.retain(|sentence| !sentence.is_empty());
    Ending {
        kind,
        explanation: sentences.join(" "),
    }
}

/// Why a side sent its RST, if known: in full, and in at most 100 characters.
pub(super) struct Reason {
    pub(super) long: String,
    pub(super) short: &'static str,
}

/// The reason for the first RST.
pub(super) fn reason(record: &Record, subject: &Subject<'_>, calls: &[&Call]) -> Option<Reason> {
    let scene = Scene {
        record,
        subject,
        calls,
    };
    let resets = |it: &Segment| it.packet.flags.rst && it.counts();
    let rst = subject.segments.iter().position(resets)?;
    Some(scene.reason(rst))
}

/// How many connections wait in the accept queue and how many may, if a snapshot shows that it is
/// full.
pub(super) fn full_queue(record: &Record, subject: &Subject<'_>) -> Option<(u32, u32)> {
    let port = subject.endpoints.server.port();
    let sockets = record.snapshots.iter().flat_map(|it| &it.sockets);
    let full = |socket: &&Socket| {
        socket.remote.is_none()
            && socket.state == State::Listen
            && socket.local.port() == port
            && socket.receive_queue > socket.send_queue
    };
    let socket = sockets.clone().find(full)?;
    Some((socket.receive_queue, socket.send_queue))
}

struct Scene<'a> {
    record: &'a Record,
    subject: &'a Subject<'a>,
    calls: &'a [&'a Call],
}

impl Scene<'_> {
    fn segments(&self) -> &[Segment] {
        &self.subject.segments
    }

    fn ending(&self) -> (EndingKind, Vec<String>) {
        if self.segments().is_empty() {
            return self.by_moments();
        }
        if self.subject.is_one_socket() {
            return self.with_itself();
        }
        if !self.subject.was_established()
            && let Some(ending) = self.handshake_failed()
        {
            return ending;
        }
        let fin = |side: Side| {
            let fins = |it: &Segment| it.from == side && it.packet.flags.fin && it.counts();
            let unseen = self.subject.unseen_fins[side as usize];
            (self.segments().iter().position(fins)).or(unseen.map(|fin| fin.packet))
        };
        let rst = self.closing_reset();
        let fins = (fin(Side::Client), fin(Side::Server));
        match (fins, rst) {
            ((client, server), Some(rst))
                if [client, server]
                    .iter()
                    .any(|fin| fin.is_none_or(|fin| fin > rst)) =>
            {
                self.reset(rst)
            }
            ((Some(client), Some(server)), _) => self.closed(client, server),
            ((Some(fin), None), _) => self.half_closed(Side::Client, fin),
            ((None, Some(fin)), _) => self.half_closed(Side::Server, fin),
            ((None, None), _) => self.open(),
        }
    }

    /// A client whose kernel chose the very port that the client connects to receives its own SYN
    /// (RFC 9293 §3.5, figure 7).
    fn with_itself(&self) -> (EndingKind, Vec<String>) {
        let has = |is: fn(Flags) -> bool| {
            (self.segments().iter()).any(|it| it.counts() && is(it.packet.flags))
        };
        let kind = match () {
            () if has(|flags| flags.rst) => EndingKind::Reset(Side::Client),
            () if has(|flags| flags.fin) => EndingKind::Simultaneous,
            () => EndingKind::Open,
        };
        let text = format!(
            "The socket at {} is connected to itself: both ends are one socket, and it receives what it sends. \
             Most likely there was no listener, and the kernel gave the client the very port that it connects to.",
            self.subject.endpoints.client
        );
        (kind, vec![text])
    }

    /// The first RST that ends its receiver's or its sender's connection.
    fn closing_reset(&self) -> Option<usize> {
        let ends = |it: &&Derived| matches!(it.new, State::Closed | State::Listen);
        let resets = |at: &usize| {
            let segment = &self.segments()[*at];
            segment.packet.flags.rst && segment.counts()
        };
        let ends = self.subject.derived.iter().filter(ends);
        ends.map(|change| change.packet).filter(resets).min()
    }

    /// Explains segments on the same ports that do not belong to the connection.
    fn ignored(&self) -> Vec<String> {
        let outside = |it: &&Segment| it.remarks.contains(&Remark::OutsideWindow);
        let outside: Vec<&Segment> = self.segments().iter().filter(outside).collect();
        let mut text = Vec::new();
        if let [first, ..] = outside[..] {
            let name = flags(first.packet.flags);
            text.push(match outside.len() {
                1 => format!(
                    "A {name} from the {} lies outside the window: it is old, most likely from an earlier connection on \
                     these ports, or foreign, and has no effect.",
                    first.from.name()
                ),
                many => format!(
                    "{many} segments, the first a {name} from the {}, lie outside the window: they are old, most likely \
                     from an earlier connection on these ports, or foreign, and have no effect.",
                    first.from.name()
                ),
            });
        }
        let challenged = |it: &&Segment| it.remarks.first() == Some(&Remark::ResetIgnored);
        if let Some(rst) = self.segments().iter().find(challenged) {
            text.push(format!(
                "A RST from the {} was ignored: its number lies in the window but is not the next one, so its receiver \
                 sends a challenge ACK to check that the RST is genuine (RFC 5961).",
                rst.from.name()
            ));
        }
        text
    }

    fn handshake_failed(&self) -> Option<(EndingKind, Vec<String>)> {
        let server = self.subject.endpoints.server;
        let ends = |it: &&IcmpError| it.why != Undelivered::FragmentationNeeded;
        if let Some(error) = self.subject.errors_that_count().find(ends) {
            return Some((EndingKind::Unreachable, vec![unreachable(error, server)]));
        }
        let syns = |it: &&Segment| it.from == Side::Client && it.packet.flags.syn;
        let syns: Vec<&Segment> = self.segments().iter().filter(syns).collect();
        let first = syns.first()?;
        let answer = (self.segments().iter()).find(|it| it.from == Side::Server && it.counts());
        match answer {
            Some(answer) if answer.packet.flags.rst => Some((
                EndingKind::Refused,
                vec![format!(
                    "Nobody listens at {server}: the kernel there answers the SYN with a RST, and connect() fails at \
                     once with ECONNREFUSED (connection refused). The server's program is not involved. Is it \
                     running, and on this address and port?"
                )],
            )),
            Some(_) => None,
            None => {
                let last = syns.last()?;
                let over_ns = last.packet.at_ns - first.packet.at_ns;
                let failed = (self.subject.moments.iter())
                    .any(|it| matches!(it.what, What::Failed("connect", _)));
                if syns.len() < 2 && !failed {
                    return Some((
                        EndingKind::Unknown,
                        [
                            Some("One SYN, and no answer to it before the record ends."),
                            (self.subject.errors_that_count().count() > 0).then_some(TOO_LARGE),
                        ]
                        .into_iter()
                        .flatten()
                        .map(str::to_owned)
                        .collect(),
                    ));
                }
                let within = match self.record.lacks_times {
                    true => String::new(),
                    false => format!(" within {}", duration(over_ns)),
                };
                let mut text = vec![format!(
                    "{}{within}, and no answer, not even a RST: either something on the path drops SYNs (a filter), the \
                     host does not exist, or the server's accept queue is full.",
                    match syns.len() {
                        1 => "One SYN".to_owned(),
                        count => format!("{count} SYNs"),
                    }
                )];
                if self.subject.errors_that_count().count() > 0 {
                    text.push(TOO_LARGE.to_owned());
                }
                text.push(match full_queue(self.record, self.subject) {
                    Some((waiting, backlog)) => format!(
                        "Here the accept queue is full ({waiting} waiting, with a backlog of {backlog}), so the kernel drops \
                         each SYN, and the client has to ask again."
                    ),
                    None => "The client asks again after a second, a few times, then after 2 s, 4 s and so on, until \
                             connect() fails with ETIMEDOUT after about two minutes, or the program gives up earlier."
                        .to_owned(),
                });
                Some((EndingKind::NoAnswer, text))
            }
        }
    }

    fn reset(&self, rst: usize) -> (EndingKind, Vec<String>) {
        let segment = &self.segments()[rst];
        let side = segment.from;
        let reason = self.reason(rst);
        if segment.remarks.contains(&Remark::ResetInjected) {
            let text = format!(
                "A RST that claims to come from the {} ends the connection. {}",
                side.name(),
                reason.long
            );
            return (EndingKind::Reset(side), vec![text]);
        }
        let text = vec![
            self.cut(side).unwrap_or_default(),
            format!("The {} ends the connection with a RST.", side.name()),
            reason.long,
            match self.was_done(other(side)) {
                true => "Bytes still in flight to the client are lost; it had its response by then, and none of its \
                 calls failed. Neither side holds TIME-WAIT."
                    .to_owned(),
                false => format!(
                    "Bytes still in flight to the {} are lost: its recv() fails with ECONNRESET (connection \
                     reset by peer). Neither side holds TIME-WAIT.",
                    other(side).name()
                ),
            },
        ];
        (EndingKind::Reset(side), text)
    }

    /// Whether the client itself reported a response and no failure.
    fn was_done(&self, side: Side) -> bool {
        let tells = |is: fn(&What) -> bool| self.subject.moments.iter().any(|it| is(&it.what));
        side == Side::Client
            && tells(|what| matches!(what, What::Answered(_)))
            && !tells(|what| matches!(what, What::Failed(..)))
    }

    fn reason(&self, rst: usize) -> Reason {
        let segment = &self.segments()[rst];
        let side = segment.from;
        let (who, peer) = (side.name(), other(side).name());
        let before = &self.segments()[..rst];
        if segment.remarks.contains(&Remark::ResetInjected) {
            let usual = before.iter().rfind(|it| it.from == side && it.counts());
            return Reason {
                long: format!(
                    "Most likely a middlebox such as a firewall sent it: it has {} hops left, while the other segments of \
                     the {who} have {}.",
                    segment.packet.hops,
                    usual.map_or(0, |it| it.packet.hops)
                ),
                short: "most likely not from its supposed sender: its TTL differs",
            };
        }
        if before.is_empty() && segment.packet.flags.ack && segment.packet.sequence == 0 {
            return Reason {
                long: "Its number is 0, so it answers a segment without an ACK, such as a SYN, which was not captured: \
                 most likely nobody listens there."
                    .to_owned(),
                short: "its number is 0: it answers a SYN that was not captured, so likely nobody listens",
            };
        }
        if before.is_empty() {
            return Reason {
                long: "The segment that it answers was sent before the capture began.".to_owned(),
                short: "the segment that it answers was sent before the capture began",
            };
        }
        if !self.subject.was_established() && side == Side::Server {
            return Reason {
                long: format!("Nobody listens at {}.", self.subject.endpoints.server),
                short: "nobody listens on this port: the kernel refuses",
            };
        }
        let answers_without_ack =
            (before.last()).is_some_and(|it| it.from != side && !it.packet.flags.ack);
        if answers_without_ack && segment.packet.flags.ack && segment.packet.sequence == 0 {
            return Reason {
                long: "Its number is 0, so it answers a segment without an ACK that belongs to no connection: a kernel \
                 answers like this where nobody listens (RFC 9293 §3.10.7.1)."
                    .to_owned(),
                short: "the kernel answers a segment without an ACK where nobody listens",
            };
        }
        let own_fin = before
            .iter()
            .position(|it| it.from == side && it.packet.flags.fin);
        if let Some(fin) = own_fin {
            let late: u64 = before[fin..]
                .iter()
                .filter(|it| it.from == other(side))
                .map(|it| u64::from(it.packet.payload_bytes))
                .sum();
            if late > 0 {
                return Reason {
                    long: format!(
                        "It had closed the connection already when {} more came from the {peer}. No program is left that \
                         could read them, and the kernel reports that with a RST.",
                        bytes(late)
                    ),
                    short: "bytes arrived for a closed socket: no program can read them any more",
                };
            }
        }
        let probes = |it: &&Segment| it.from == side && it.remarks.contains(&Remark::KeepAlive);
        let unanswered = before.iter().rev().take_while(|it| it.from == side);
        if unanswered.filter(probes).count() > 1 {
            return Reason {
                long: format!(
                    "The {peer} answered none of the last keep-alive probes, so the kernel gives up the connection."
                ),
                short: "no keep-alive probe was answered: the kernel gives up the connection",
            };
        }
        if segment.remarks.contains(&Remark::ResetOfUnknown) {
            let had_asked = before
                .iter()
                .any(|it| it.from == side && it.packet.flags.syn);
            let over_ns = segment.packet.at_ns.saturating_sub(before[0].packet.at_ns);
            if had_asked && over_ns < PATIENCE_NS {
                return Reason {
                    long: format!(
                        "It has no ACK flag, and its number is what the {peer}'s segment acknowledged: a kernel answers like \
                         this if it does not know the connection. The {who} sent its SYN without a socket, like programs \
                         that scan ports, or has discarded the socket since."
                    ),
                    short: "the kernel answers a segment of a connection that it does not know",
                };
            }
            return Reason {
                long: format!(
                    "It has no ACK flag, and its number is what the {peer}'s segment acknowledged: a kernel answers like \
                     this if it does not know the connection. The {who} closed it long ago or was restarted, while the \
                     {peer} still had it open (a half-open connection)."
                ),
                short: "the kernel answers a segment of a connection that it does not know",
            };
        }
        if !self.subject.captured(other(side)) {
            return Reason {
                long: format!(
                    "The {peer}'s segments were not captured, so it is not known whether any of its bytes were unread: \
                     unread bytes, or SO_LINGER with a time of 0, are the likely reason."
                ),
                short: "bytes left unread, or SO_LINGER with a time of 0: the other side was not captured",
            };
        }
        let sent: u64 = self.subject.messages.bytes(other(side));
        if let Some(unread) = self.unread(side, segment.packet.at_ns, sent) {
            return Reason {
                long: format!(
                    "It closed its socket while {} of the {peer}'s {} were unread: RFC 2525 §2.17 asks for a RST then, \
                     since a FIN would pretend that all was well.",
                    bytes(unread),
                    bytes(sent)
                ),
                short: "closed with unread bytes in its receive buffer: a RST instead of a FIN",
            };
        }
        let linger = self.calls.iter().any(|call| {
            call.side == side
                && call.name == "setsockopt"
                && call.arguments[1] == SOL_SOCKET
                && call.arguments[2] == SO_LINGER
        });
        if linger || self.reads(side).is_some_and(|read| read >= sent) {
            return Reason {
                long: format!(
                    "Everything from the {peer} was read{}: with a time of 0 in SO_LINGER, close() discards unsent bytes \
                     and aborts the connection.",
                    if linger {
                        ", and SO_LINGER was set"
                    } else {
                        ""
                    }
                ),
                short: "an abort: SO_LINGER with a time of 0 makes close() send a RST",
            };
        }
        if sent == 0 {
            return Reason {
                long: format!(
                    "The {peer} had sent nothing, so nothing was unread: the {who} aborts the connection, as close() does \
                     with a time of 0 in SO_LINGER."
                ),
                short: "an abort: SO_LINGER with a time of 0 makes close() send a RST",
            };
        }
        // Segments alone leave two possible reasons.
        let messages = &self.subject.messages;
        let body_unread = side == Side::Server && messages.request_has_body;
        let all_answered = side == Side::Client
            && messages.cut.is_none()
            && messages.unknown.is_none()
            && messages.responses > 0
            && messages.responses >= messages.requests();
        if all_answered {
            return Reason {
                long: "Segments do not show why. The response is complete, so most likely everything was read, and \
                 close() aborted because of SO_LINGER with a time of 0. Otherwise close() was called with unread \
                 bytes."
                    .to_owned(),
                short: "most likely an abort: SO_LINGER with a time of 0 makes close() send a RST",
            };
        }
        let hint = if body_unread {
            ", a request with a body, which servers often leave unread"
        } else {
            ""
        };
        Reason {
            long: format!(
                "Its kernel had acknowledged {} from the {peer}{hint}. Most likely some of them were still unread in the \
                 receive buffer when the {who} closed or its process ended: then the kernel sends a RST instead of a \
                 FIN. The alternative is SO_LINGER with a time of 0.",
                bytes(sent)
            ),
            short: "most likely closed with unread bytes in its receive buffer: a RST instead of a FIN",
        }
    }

    /// How many of the peer's bytes a side has not read when it closes, if any; by its calls or by
    /// a snapshot.
    fn unread(&self, side: Side, at_ns: u64, sent: u64) -> Option<u64> {
        if let Some(read) = self.reads(side) {
            return sent.checked_sub(read).filter(|unread| *unread > 0);
        }
        let before = (self.record.snapshots.iter()).rfind(|it| it.at_ns <= at_ns)?;
        let mut own = self
            .subject
            .sockets(before)
            .filter(|(of, _)| *of == side)
            .map(|(_, socket)| u64::from(socket.receive_queue));
        own.next().filter(|unread| *unread > 0)
    }

    /// How many bytes a side has read, if its calls were traced.
    fn reads(&self, side: Side) -> Option<u64> {
        let own = self.calls.iter().filter(|call| call.side == side);
        let own: Vec<&&Call> = own.collect();
        if own.is_empty() {
            return None;
        }
        let reads = own.iter().filter(|call| is_read(call));
        let bytes = reads.filter_map(|call| u64::try_from(call.result?).ok());
        Some(bytes.sum())
    }

    fn closed(&self, client: usize, server: usize) -> (EndingKind, Vec<String>) {
        let segments = self.segments();
        let first = if client < server {
            Side::Client
        } else {
            Side::Server
        };
        let (earlier, later) = (client.min(server), client.max(server));
        if let Some(side) = [Side::Client, Side::Server]
            .into_iter()
            .find(|side| self.subject.unseen_fins[*side as usize].is_some())
        {
            return self.closed_unseen(side, client, server);
        }
        let (fin, ack) = (&segments[earlier].packet, &segments[later].packet);
        let crossed = !ack.flags.ack || before(ack.acknowledgement, end_of(fin));
        if crossed {
            let hold = match self.subject.refuted.is_empty() {
                true => format!("and both hold TIME-WAIT for {TIME_WAIT_S} s."),
                false => format!(
                    "and both should hold TIME-WAIT, but the kernel listed no such socket{}.",
                    why_not(self.record)
                ),
            };
            return (
                EndingKind::Simultaneous,
                vec![format!(
                    "Both sides closed at once: their FINs crossed, each sent before the other's arrived. Both pass through \
                     CLOSING, {hold}"
                )],
            );
        }
        let (who, peer) = (first.name(), other(first).name());
        let holds = match first {
            _ if was_listed(self.record, self.subject.endpoints, first) == Some(false) => format!(
                "The {who} closed first, so it should hold TIME-WAIT, but the kernel listed no such socket{}.",
                why_not(self.record)
            ),
            Side::Client => format!(
                "The {who} closed first, so it holds TIME-WAIT, for {TIME_WAIT_S} s on Linux; the {peer} keeps no \
                 state."
            ),
            Side::Server => format!(
                "The {who} closed first, so it holds TIME-WAIT, for {TIME_WAIT_S} s on Linux: a busy server that closes \
                 first keeps one TIME-WAIT socket for each connection of the last minute."
            ),
        };
        let unfinished =
            !self.subject.was_in(first, State::TimeWait) && !self.subject.refuted.contains(&first);
        let last = if unfinished {
            "The last acknowledgement was not captured."
        } else {
            ""
        };
        if let Some(text) = self.lost_patience(first, earlier) {
            return (EndingKind::Silent, vec![text, holds, last.to_owned()]);
        }
        let half = self.half_close(first, earlier);
        let text = vec![
            self.cut(first).unwrap_or_default(),
            half.unwrap_or_default(),
            holds,
            last.to_owned(),
        ];
        (EndingKind::Closed(first), text)
    }

    /// The ending when both sides have closed and only an acknowledgement reveals one of the FINs.
    fn closed_unseen(
        &self,
        unseen: Side,
        client: usize,
        server: usize,
    ) -> (EndingKind, Vec<String>) {
        let seen = other(unseen);
        let (unseen_at, seen_at) = match unseen {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        // The FIN that acknowledges the other was sent second.
        let first = if unseen_at <= seen_at { unseen } else { seen };
        let (who, peer) = (unseen.name(), seen.name());
        let missing = match self.subject.captured(unseen) {
            true => format!("The {who}'s FIN was not captured."),
            false => format!("The {who}'s side was not captured."),
        };
        let covers = match self.acknowledged_bytes(seen) {
            Some(n) => format!("{} from the {who} and most likely its FIN", bytes(n)),
            None => format!("most likely the {who}'s FIN"),
        };
        (
            EndingKind::Closed(first),
            vec![
                missing,
                format!(
                    "The {peer}'s acknowledgements cover {covers}: the last of them advances by a single number, which a FIN \
                     occupies. So both sides have closed, the {} first; it most likely holds TIME-WAIT, for \
                     {TIME_WAIT_S} s on Linux.",
                    first.name()
                ),
            ],
        )
    }

    /// How many bytes of the other side this side has acknowledged, if the handshake was captured.
    fn acknowledged_bytes(&self, by: Side) -> Option<u64> {
        let acknowledging = |it: &&Segment| {
            it.from == by && it.packet.flags.ack && !it.packet.flags.rst && it.counts()
        };
        let mut all = self.segments().iter().filter(acknowledging);
        let opens = self
            .segments()
            .iter()
            .any(|it| it.from == by && it.packet.flags.syn);
        let first = all.next().filter(|_| opens)?.packet.acknowledgement;
        let highest = all
            .map(|it| it.packet.acknowledgement.wrapping_sub(first))
            .max()?;
        let fin = self.subject.unseen_fins[other(by) as usize].is_some();
        Some(u64::from(highest).saturating_sub(u64::from(fin)))
    }

    /// Explains that the client closed after waiting long, or until its timeout, for a response.
    fn lost_patience(&self, first: Side, fin: usize) -> Option<String> {
        let segments = self.segments();
        let request = segments[..fin]
            .iter()
            .rfind(|it| it.from == Side::Client && it.packet.payload_bytes > 0)?;
        let waited_ns = segments[fin].packet.at_ns - request.packet.at_ns;
        let answered = segments.iter().any(|it| {
            it.from == Side::Server
                && it.packet.at_ns >= request.packet.at_ns
                && it.packet.payload_bytes > 0
        });
        let is_timeout = |what: &What| matches!(what, What::Failed(_, error) if error == "timeout");
        let moments = &self.subject.moments;
        let long = waited_ns >= PATIENCE_NS || moments.iter().any(|it| is_timeout(&it.what));
        let knows = self.subject.captured(Side::Server);
        let long = long && !self.record.lacks_times;
        (first == Side::Client && knows && !answered && long).then(|| {
            format!(
                "No response came for {}, and the client closed: its program had a timeout. TCP has none for a peer \
                 that acknowledges but sends nothing.",
                duration(waited_ns)
            )
        })
    }

    /// Explains bytes that the other side sent after the first FIN.
    fn half_close(&self, first: Side, fin: usize) -> Option<String> {
        let more: u64 = self.segments()[fin..]
            .iter()
            .filter(|it| it.from == other(first) && !it.retransmission)
            .map(|it| u64::from(it.packet.payload_bytes))
            .sum();
        (more > 0).then(|| {
            format!(
                "The {} closed only its half (shutdown): {} came from the {} after its FIN.",
                first.name(),
                bytes(more),
                other(first).name()
            )
        })
    }

    /// Explains that the server ended in the middle of a response.
    fn cut(&self, by: Side) -> Option<String> {
        let of = self.subject.messages.cut?.text();
        let who = match by {
            Side::Server => {
                let closed = (self.calls.iter())
                    .any(|it| it.side == Side::Server && matches!(it.name, "close" | "shutdown"));
                let seen = self.calls.iter().any(|it| it.side == Side::Server);
                match (seen, closed) {
                    (true, false) => {
                        "The server's process ended without calling close(), so the kernel closed the connection."
                    }
                    (true, true) => "The server closed.",
                    (false, _) => {
                        "Most likely the server's process ended, and the kernel closed the connection."
                    }
                }
            }
            Side::Client => "The client did not wait for the rest.",
        };
        Some(format!("The response is cut short: {of}. {who}"))
    }

    fn half_closed(&self, side: Side, fin: usize) -> (EndingKind, Vec<String>) {
        let (who, peer) = (side.name(), other(side).name());
        if !self.subject.captured(other(side)) {
            return (EndingKind::Unknown, self.one_sided(side, Some(fin)));
        }
        let patience = self.lost_patience(side, fin);
        let goes_on = self.segments()[fin..]
            .iter()
            .any(|it| it.from != side && it.counts());
        if !goes_on && patience.is_none() {
            let text = format!(
                "The {who} has sent its FIN, and nothing from the {peer} was captured after it: it is not known whether \
                 the {peer} has received the FIN and closed too.",
            );
            return (
                EndingKind::HalfClosed(side),
                vec![self.cut(side).unwrap_or_default(), text],
            );
        }
        let kind = match patience {
            Some(_) => EndingKind::Silent,
            None => EndingKind::HalfClosed(side),
        };
        (
            kind,
            vec![
                patience.unwrap_or_default(),
                self.cut(side).unwrap_or_default(),
                self.half_close(side, fin).unwrap_or_default(),
                format!(
                    "The {who} has sent its FIN; the {peer} has not closed by the end of the record. The {peer} stays in \
                     CLOSE-WAIT until its program calls close(), and the {who} in {}.",
                    (self.subject.states_of(side).last()).map_or(State::FinWait2, |last| last.new)
                ),
            ],
        )
    }

    /// The ending when only one side was captured.
    fn one_sided(&self, side: Side, fin: Option<usize>) -> Vec<String> {
        let (who, peer) = (side.name(), other(side).name());
        let got = match self.acknowledged_bytes(side) {
            Some(n) if n > 0 => format!(
                "According to the {who}'s acknowledgements, {} came from the {peer}.",
                bytes(n)
            ),
            _ => String::new(),
        };
        let closed = match fin {
            Some(_) => format!(
                "The {who} has sent its FIN; it is not known whether the {peer} has received it and closed too."
            ),
            None => format!(
                "The {who} has not closed by the end of the record; whether the {peer} has is not known."
            ),
        };
        vec![format!("Only the {who}'s side was captured."), got, closed]
    }

    /// The ending when the receiver's window is closed, or the peer does not respond, at the end of
    /// the record.
    fn stuck(&self) -> Option<(EndingKind, String)> {
        let counted = || self.segments().iter().filter(|it| it.counts());
        let last = counted().next_back()?;
        let (who, peer) = (last.from.name(), other(last.from).name());
        let knows = self.subject.captured(other(last.from));
        let asks = |it: &&Segment| {
            let has = |remark| it.remarks.contains(&remark);
            it.from == last.from && (has(Remark::KeepAlive) || has(Remark::ZeroWindowProbe))
        };
        let probes = counted().rev().take_while(asks).count();
        if probes > 1 && knows {
            return Some((
                EndingKind::Silent,
                format!(
                    "The last {probes} probes of the {who} were not answered: the {peer} is gone, or something on the path \
                     drops segments."
                ),
            ));
        }
        let closed = [Side::Client, Side::Server].into_iter().find(|side| {
            let mut own = counted().rev().filter(|it| it.from == *side);
            own.next()
                .is_some_and(|it| it.packet.window == 0 && it.packet.flags.ack)
        })?;
        let (who, peer) = (closed.name(), other(closed).name());
        Some((
            EndingKind::Open,
            format!(
                "The connection was open when the record ended, and the {who}'s window was zero: its receive buffer was \
                 full, its program did not read, and the {peer} had to wait."
            ),
        ))
    }

    fn open(&self) -> (EndingKind, Vec<String>) {
        let segments = self.segments();
        let unseen = [Side::Client, Side::Server]
            .into_iter()
            .find(|side| !self.subject.captured(*side));
        if let Some(unseen) = unseen {
            return (EndingKind::Unknown, self.one_sided(other(unseen), None));
        }
        if let Some((kind, text)) = self.stuck() {
            return (kind, vec![text]);
        }
        let again = segments.iter().rev().take_while(|it| it.retransmission);
        let again = again.count();
        if again >= 2 {
            let last = &segments[segments.len() - 1];
            let who = last.from.name();
            return (
                EndingKind::Silent,
                vec![format!(
                    "The {who} sends the same bytes again and again, {again} times by the end of the record, and no answer \
                     arrives: the other side is gone, or something on the path drops its segments."
                )],
            );
        }
        if segments.iter().any(|it| it.packet.flags.syn) {
            let text = "Neither side has closed the connection by the end of the record.";
            return (EndingKind::Open, vec![text.to_owned()]);
        }
        let text = "The record begins and ends in the middle of this connection.";
        (EndingKind::Unknown, vec![text.to_owned()])
    }

    /// What can be said about TIME-WAIT at the side that closed first, without segments.
    fn likely_holds(&self, side: Side) -> String {
        match was_listed(self.record, self.subject.endpoints, side) {
            Some(true) => format!("so it holds TIME-WAIT, for {TIME_WAIT_S} s on Linux."),
            Some(false) => format!(
                "so it should hold TIME-WAIT, but the kernel listed no such socket{}.",
                why_not(self.record)
            ),
            None => format!(
                "so it most likely holds TIME-WAIT, for {TIME_WAIT_S} s on Linux: the list of sockets was not available."
            ),
        }
    }

    /// The ending without segments: what the client saw.
    fn by_moments(&self) -> (EndingKind, Vec<String>) {
        let moments = &self.subject.moments;
        let ending = moments.iter().find_map(|moment| match &moment.what {
            What::Failed("connect", error) if error.contains("refused") => Some((
                EndingKind::Refused,
                format!(
                    "connect() fails with {error}: nobody listens at {}. Is the server running, and on this address and port?",
                    self.subject.endpoints.server
                ),
            )),
            What::Failed("connect", error) => Some((
                EndingKind::NoAnswer,
                format!("connect() fails with {error}: there was no answer."),
            )),
            What::Failed(at, error) if error.contains("reset") => Some((
                EndingKind::Reset(Side::Server),
                format!("{at}() fails with {error}: the server sent a RST instead of a FIN."),
            )),
            What::Failed(at, error) => Some((
                EndingKind::Silent,
                format!("The client gives up at {at}(): {error}."),
            )),
            What::EndOfFile => Some((
                EndingKind::Closed(Side::Server),
                format!(
                    "The server closed first (recv() returned 0 bytes), {}",
                    self.likely_holds(Side::Server)
                ),
            )),
            What::Closed | What::ShutDown => Some((
                EndingKind::Closed(Side::Client),
                format!("The client closed first, {}", self.likely_holds(Side::Client)),
            )),
            _ => None,
        });
        if let Some((kind, text)) = ending {
            return (kind, vec![text]);
        }
        let wait = |side| self.subject.was_in(side, State::TimeWait);
        match (wait(Side::Client), wait(Side::Server)) {
            (true, true) => (
                EndingKind::Simultaneous,
                vec!["Both sides hold TIME-WAIT: they closed at once.".to_owned()],
            ),
            (true, false) | (false, true) => {
                let side = if wait(Side::Client) {
                    Side::Client
                } else {
                    Side::Server
                };
                let text = format!("The {} holds TIME-WAIT: it closed first.", side.name());
                (EndingKind::Closed(side), vec![text])
            }
            _ if moments.is_empty() => (
                EndingKind::Unknown,
                vec![
                    "No segment of the connection was seen, so it is not known how it ended."
                        .to_owned(),
                ],
            ),
            _ => (
                EndingKind::Open,
                vec!["The client has not closed the connection.".to_owned()],
            ),
        }
    }
}

/// Explains a SYN that exceeds the MTU of a link on the path.
const TOO_LARGE: &str = "According to ICMP (fragmentation needed), the SYN exceeds the MTU of a link on the path, \
 such as a tunnel.";

/// What an ICMP error says about a SYN, and its consequence on Linux.
fn unreachable(error: &IcmpError, server: SocketAddr) -> String {
    let by = match error.by == server.ip() {
        true => "the server's host".to_owned(),
        false => format!("{}, on the path,", error.by),
    };
    let (meaning, errno) = match error.why {
        Undelivered::NetworkUnreachable => ("no route leads to its network", "ENETUNREACH"),
        Undelivered::HostUnreachable => ("no such host answers in its network", "EHOSTUNREACH"),
        Undelivered::ProtocolUnreachable => ("the host does not support TCP", "ENOPROTOOPT"),
        Undelivered::PortUnreachable => ("most likely a filter rejects it", "ECONNREFUSED"),
        Undelivered::Prohibited => ("a filter rejects it", "EHOSTUNREACH"),
        Undelivered::TimeExceeded => ("most likely a routing loop", "EHOSTUNREACH"),
        Undelivered::ReassemblyTimeExceeded => (
            "it came in fragments, and one of them was missing",
            "EHOSTUNREACH",
        ),
        Undelivered::ParameterProblem => ("a header field is not understood", "EPROTO"),
        Undelivered::FragmentationNeeded => ("it is too large", "EMSGSIZE"),
    };
    format!(
        "The SYN does not reach {server}: {by} reports by ICMP `{}`: {meaning}. On Linux connect() fails at once \
         with {errno}. There is no RST: the server's TCP is not involved.",
        error.why.name()
    )
}

const SOL_SOCKET: u64 = 1;
const SO_LINGER: u64 = 13;

/// Whether a call takes bytes out of a receive buffer.
pub(super) fn is_read(call: &Call) -> bool {
    const PEEK: u64 = 2;
    let flags = match call.name {
        "recvfrom" => call.arguments[3],
        "recvmsg" => call.arguments[2],
        _ => 0,
    };
    let reads = matches!(call.name, "read" | "readv" | "recvfrom" | "recvmsg");
    reads && flags & PEEK == 0 && descriptor(call).is_some()
}

/// Whether a call hands bytes to the kernel.
pub(super) fn is_write(call: &Call) -> bool {
    matches!(
        call.name,
        "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile"
    )
}

/// The flags in words: `SYN+ACK`, `FIN+ACK`; `segment` if only ACK is set.
fn flags(flags: Flags) -> &'static str {
    match () {
        () if flags.syn && flags.ack => "SYN+ACK",
        () if flags.syn => "SYN",
        () if flags.rst => "RST",
        () if flags.fin => "FIN",
        () => "segment",
    }
}

/// A number of bytes in words: `1 byte`, `12,345 bytes`.
pub(super) fn bytes(n: u64) -> String {
    count(n, "byte")
}

/// A duration with a fitting unit: `85.0 µs`, `1.02 s`.
pub(super) fn duration(ns: u64) -> String {
    time(ns as f64 / 1e3)
}
