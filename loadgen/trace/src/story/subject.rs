//! Collects everything that is known of one connection, before the story is written.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::analysis::remark;
use super::flows::{Flow, canonical, flows, listens, nobody};
use super::http::{self, Messages};
use super::states::{Derivation, Derived, Effect, UnseenFin, arrow, derive, end_of, merge, other};
use super::time_wait;
use super::{Origin, Relative, Remark, Segment, StateChange};
use crate::model::{
    Change, Endpoints, IcmpError, Moment, Packet, Record, Side, Snapshot, Socket, Source, State,
    What,
};

/// All times are those of the record.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) endpoints: Endpoints,
    pub(super) packets: Vec<&'a Packet>,
    pub(super) segments: Vec<Segment>,
    /// State changes of both ends that follow from segments, whatever else is known.
    pub(super) derived: Vec<Derived>,
    /// FINs of client and server that only an acknowledgement proves.
    pub(super) unseen_fins: [Option<UnseenFin>; 2],
    pub(super) states: Vec<StateChange>,
    pub(super) moments: Vec<&'a Moment>,
    captured: [bool; 2],
    pub(super) messages: Messages,
    /// ICMP errors about this connection's segments.
    pub(super) errors: Vec<&'a IcmpError>,
    /// Sides that should be in TIME-WAIT although their kernel listed no such socket.
    pub(super) refuted: Vec<Side>,
    /// State changes that the kernel reported, of client and server.
    told: [Vec<Change>; 2],
}

impl<'a> Subject<'a> {
    fn new(endpoints: Endpoints) -> Self {
        Subject {
            endpoints,
            packets: Vec::new(),
            segments: Vec::new(),
            derived: Vec::new(),
            unseen_fins: [None; 2],
            states: Vec::new(),
            moments: Vec::new(),
            captured: [false; 2],
            messages: Messages::default(),
            errors: Vec::new(),
            refuted: Vec::new(),
            told: Default::default(),
        }
    }

    fn of_flow(record: &'a Record, copies: &[u32], flow: &Flow) -> Self {
        let packets: Vec<&Packet> = flow.packets.iter().map(|&at| &record.packets[at]).collect();
        let mut numbering = Relative::new(flow.endpoints.client);
        let mut segments: Vec<Segment> = packets.iter().map(|it| numbering.segment(it)).collect();
        remark(&mut segments);
        if flow.reuses_ports
            && let Some(first) = segments.first_mut()
        {
            first.remarks.insert(0, Remark::PortsReused);
        }
        for (segment, &at) in segments.iter_mut().zip(&flow.packets) {
            segment.copies = copies.get(at).copied().unwrap_or(0);
        }
        let effects: Vec<Effect> = segments.iter().map(Segment::effect).collect();
        let by = |end: SocketAddr| -> Vec<&Packet> {
            (packets.iter().zip(&effects))
                .filter(|(it, effect)| it.source == end && **effect == Effect::Counts)
                .map(|(it, _)| *it)
                .collect()
        };
        let (client, server) = (by(flow.endpoints.client), by(flow.endpoints.server));
        let Derivation {
            mut changes,
            unseen_fins,
        } = derive(flow.endpoints.client, &packets, &effects);
        if flow.endpoints.client == flow.endpoints.server {
            // In a connection to itself, segments drive two state machines; the shared socket
            // follows one until its own SYN arrives.
            changes.retain(|it| {
                it.side == Side::Client && matches!(it.new, State::SynSent | State::Established)
            });
        }
        let captured = [Side::Client, Side::Server]
            .map(|side| segments.iter().any(|it| it.from == side && it.counts()));
        let messages = Messages::of(&client, &server, unseen_fins.map(|fin| fin.is_some()));
        Subject {
            segments,
            captured,
            unseen_fins,
            messages,
            derived: changes,
            packets,
            ..Subject::new(flow.endpoints)
        }
    }

    /// Time of the first event.
    pub(super) fn begun_ns(&self) -> u64 {
        let packet = self.packets.first().map(|packet| packet.at_ns);
        let told = self.told.iter().flatten().map(|change| change.at_ns).min();
        let moment = self.moments.first().map(|moment| moment.at_ns);
        let state = self.states.iter().map(|change| change.at_ns).min();
        let all = [packet, told, moment, state];
        all.into_iter().flatten().min().unwrap_or(0)
    }

    /// Time from which the server may accept the connection.
    pub(super) fn ready_ns(&self) -> Option<u64> {
        let established = self
            .states
            .iter()
            .find(|it| it.side == Side::Server && it.new == State::Established);
        established.map(|change| change.at_ns)
    }

    /// The side with this local address.
    pub(super) fn side(&self, local: SocketAddr, remote: SocketAddr) -> Option<Side> {
        let ends = (canonical(local), canonical(remote));
        let client = canonical(self.endpoints.client);
        let server = canonical(self.endpoints.server);
        if ends == (client, server) {
            Some(Side::Client)
        } else if ends == (server, client) {
            Some(Side::Server)
        } else {
            None
        }
    }

    /// The connection's sockets in a snapshot.
    pub(super) fn sockets<'s>(
        &'s self,
        snapshot: &'s Snapshot,
    ) -> impl Iterator<Item = (Side, &'s Socket)> {
        (snapshot.sockets.iter())
            .filter_map(|socket| Some((self.side(socket.local, socket.remote?)?, socket)))
    }

    /// ICMP errors that TCP accepts.
    pub(super) fn errors_that_count(&self) -> impl Iterator<Item = &'a IcmpError> {
        (self.errors.iter().copied()).filter(|error| self.quotes_what_was_under_way(error))
    }

    /// Whether an ICMP error quotes a number that its receiver had sent and that was not
    /// acknowledged yet. Other errors are old or forged (RFC 5927 §4.1), and Linux ignores them.
    pub(super) fn quotes_what_was_under_way(&self, error: &IcmpError) -> bool {
        let earlier = || self.packets.iter().filter(|it| it.at_ns <= error.at_ns);
        let sent = || earlier().filter(|it| it.source == error.source);
        let Some(first) = sent().next() else {
            return true;
        };
        // Later numbers are larger as long as they do not wrap.
        let place = |number: u32| number.wrapping_sub(first.sequence).cast_signed();
        let acknowledged = (earlier())
            .filter(|it| it.source == error.destination && it.flags.ack && !it.flags.rst)
            .map(|it| place(it.acknowledgement));
        let begun = sent().map(|it| place(it.sequence)).min().unwrap_or(0);
        let end = sent().map(|it| place(end_of(it))).max().unwrap_or(0);
        let (from, to) = match acknowledged.max() {
            Some(acknowledged) => (acknowledged, end.max(acknowledged)),
            None => (begun, end),
        };
        (from..=to).contains(&place(error.sequence))
    }

    /// State changes of one side.
    pub(super) fn states_of(&self, side: Side) -> impl Iterator<Item = &StateChange> {
        self.states.iter().filter(move |change| change.side == side)
    }

    /// Whether one side was ever in a state.
    pub(super) fn was_in(&self, side: Side, state: State) -> bool {
        self.states_of(side).any(|change| change.new == state)
    }

    /// Whether a segment of this side was captured that belongs to the connection.
    pub(super) fn captured(&self, side: Side) -> bool {
        self.captured[side as usize] || (self.is_one_socket() && self.captured.contains(&true))
    }

    /// Whether the socket is connected to itself: all segments are the client's and the server's at
    /// once.
    pub(super) fn is_one_socket(&self) -> bool {
        self.endpoints.client == self.endpoints.server
    }

    /// Whether data could flow: the handshake was completed, or the capture began after it.
    pub(super) fn was_established(&self) -> bool {
        let begins = |side| self.states_of(side).next().map(|change| change.old);
        let seen_syn = self.packets.iter().any(|packet| packet.flags.syn);
        self.was_in(Side::Client, State::Established)
            || (!self.packets.is_empty() && !seen_syn)
            || [Side::Client, Side::Server]
                .into_iter()
                .any(|side| begins(side) == Some(State::Established))
    }
}

/// The connections, ordered by time; the listeners' state changes; and notes.
pub(super) fn subjects<'a>(
    record: &'a Record,
    copies: &[u32],
) -> (Vec<Subject<'a>>, Vec<StateChange>, Vec<String>) {
    let mut notes = Vec::new();
    let mut subjects: Vec<Subject<'_>> = (flows(record).iter())
        .map(|flow| Subject::of_flow(record, copies, flow))
        .collect();
    let listeners = assign_changes(record, &mut subjects);
    notes.extend(assign_errors(record, &mut subjects));
    assign_moments(record, &mut subjects);
    for subject in &mut subjects {
        subject.states = states(record, subject, &mut notes);
        subject.refuted = time_wait::refute(record, subject.endpoints, &mut subject.states);
    }
    let refuted = subjects.iter().filter(|it| !it.refuted.is_empty());
    notes.extend(time_wait::note(record, refuted.count()));
    subjects.sort_by_key(Subject::begun_ns);
    notes.dedup();
    let messages: Vec<&Messages> = subjects.iter().map(|it| &it.messages).collect();
    notes.extend(http::notes(&messages));
    (subjects, listeners, notes)
}

/// Assigns state changes to connections by socket: a client's first change has no port yet.
fn assign_changes(record: &Record, subjects: &mut Vec<Subject<'_>>) -> Vec<StateChange> {
    let mut lives: Vec<Vec<Change>> = Vec::new();
    let mut current: HashMap<u64, usize> = HashMap::new();
    for change in &record.changes {
        let begins = matches!(
            (change.old, change.new),
            (State::Closed, State::SynSent | State::Listen) | (State::Listen, State::SynReceived)
        );
        let life = match current.get(&change.socket) {
            Some(&life) if !begins => life,
            _ => {
                lives.push(Vec::new());
                current.insert(change.socket, lives.len() - 1);
                lives.len() - 1
            }
        };
        lives[life].push(*change);
    }
    let mut listeners = Vec::new();
    for life in lives {
        let of_listener = |it: &Change| it.remote.port() == 0 && it.local.port() != 0;
        if life.iter().all(of_listener) {
            listeners.extend(life.iter().map(|change| StateChange {
                at_ns: change.at_ns,
                side: Side::Server,
                old: change.old,
                new: change.new,
                origin: Origin::Kernel,
            }));
            continue;
        }
        let Some(named) = (life.iter()).find(|it| it.local.port() != 0 && it.remote.port() != 0)
        else {
            continue;
        };
        let at_ns = life[0].at_ns;
        let ours = |it: &Subject<'_>| it.side(named.local, named.remote).is_some();
        let (early, all) = (
            subjects
                .iter()
                .rposition(|it| ours(it) && it.begun_ns() <= at_ns.saturating_add(SKEW_NS)),
            subjects.iter().position(ours),
        );
        let number = early.or(all).unwrap_or_else(|| {
            let connects = life[0].new == State::SynSent;
            let listens_there = record.server.is_some_and(|it| listens(it, named.remote));
            let (client, server) = if connects || listens_there {
                (named.local, named.remote)
            } else {
                (named.remote, named.local)
            };
            subjects.push(Subject::new(Endpoints {
                client: canonical(client),
                server: canonical(server),
            }));
            subjects.len() - 1
        });
        let side = subjects[number].side(named.local, named.remote);
        let told = &mut subjects[number].told[side.map_or(0, |side| side as usize)];
        told.extend(life);
    }
    listeners
}

/// Assigns each ICMP error to the last connection between its addresses that had begun.
fn assign_errors<'a>(record: &'a Record, subjects: &mut [Subject<'a>]) -> Vec<String> {
    let mut notes = Vec::new();
    if record.errors.is_empty() {
        return notes;
    }
    let mut between: HashMap<(SocketAddr, SocketAddr), Vec<usize>> = HashMap::new();
    for (number, subject) in subjects.iter().enumerate() {
        let Endpoints { client, server } = subject.endpoints;
        for ends in [(client, server), (server, client)] {
            between.entry(ends).or_default().push(number);
        }
    }
    for error in &record.errors {
        let numbers = between.get(&(error.source, error.destination));
        let begun = |number: &&usize| {
            let first = subjects[**number].packets.first();
            first.is_some_and(|packet| packet.at_ns <= error.at_ns)
        };
        if let Some(&number) = numbers.and_then(|it| it.iter().rfind(begun).or(it.first())) {
            subjects[number].errors.push(error);
        } else {
            notes.push(format!(
                "ICMP from {}: {}, about a segment from {} to {}, which was not captured.",
                error.by,
                error.why.name(),
                error.source,
                error.destination
            ));
        }
    }
    notes.dedup();
    notes
}

/// The clocks of two sources may differ by this much.
const SKEW_NS: u64 = 1_000_000;

fn assign_moments<'a>(record: &'a Record, subjects: &mut Vec<Subject<'a>>) {
    let mut connections: Vec<(usize, Vec<&Moment>)> = Vec::new();
    for moment in &record.moments {
        match connections
            .iter_mut()
            .find(|(number, _)| *number == moment.connection)
        {
            Some((_, moments)) => moments.push(moment),
            None => connections.push((moment.connection, vec![moment])),
        }
    }
    for (_, moments) in connections {
        let at_ns = moments[0].at_ns;
        let local = moments
            .iter()
            .find_map(|moment| moment.local)
            .map(canonical);
        let fits = |it: &Subject<'_>| {
            let by_address = local.is_none_or(|local| canonical(it.endpoints.client) == local);
            by_address && it.moments.is_empty() && it.begun_ns() >= at_ns.saturating_sub(SKEW_NS)
        };
        let number = match (subjects.iter().position(fits), record.server) {
            (Some(number), _) => number,
            (None, Some(server)) => {
                subjects.push(Subject::new(Endpoints {
                    client: local.unwrap_or_else(|| nobody(server)),
                    server,
                }));
                subjects.len() - 1
            }
            (None, None) => continue,
        };
        subjects[number].moments = moments;
    }
}

/// The state changes of a connection, from the kernel and from segments; without either, from the
/// client's notes and the snapshots.
fn states(record: &Record, subject: &Subject<'_>, notes: &mut Vec<String>) -> Vec<StateChange> {
    let sides = [Side::Client, Side::Server];
    let mut states: Vec<StateChange> = Vec::new();
    for side in sides {
        let told = &subject.told[side as usize];
        let peers = &subject.told[other(side) as usize];
        let mut derived = timed(&subject.derived, &subject.packets, side);
        if told.is_empty() && !peers.is_empty() && sees_both(record, subject) {
            // The last ACK was dropped, so the kernel created no socket: the request remains a
            // request.
            derived.truncate(match side {
                Side::Client => usize::MAX,
                Side::Server => (derived.iter())
                    .position(|it| it.old == State::SynReceived)
                    .unwrap_or(usize::MAX),
            });
        }
        let last_ack_ns = (peers.iter())
            .find(|it| it.new == State::LastAck)
            .map(|it| it.at_ns);
        let (merged, note) = merge(&derived, told, side, last_ack_ns);
        notes.extend(note);
        let unseen = merged.is_empty() && subject.packets.is_empty();
        states.extend(if unseen {
            from_client(record, subject, side)
        } else {
            merged
        });
    }
    for side in sides {
        let last = states.iter().rfind(|it| it.side == side).copied();
        if let Some(end) = last.and_then(|last| end_of_time_wait(record, subject, last)) {
            states.push(end);
        }
    }
    states.sort_by_key(|change| change.at_ns);
    states
}

/// Whether the kernel reports both ends, so both are on this machine.
fn sees_both(record: &Record, subject: &Subject<'_>) -> bool {
    let here = subject.endpoints.server.ip().to_canonical().is_loopback();
    record.sources.changes == Source::Seen && here
}

fn timed(derived: &[Derived], packets: &[&Packet], side: Side) -> Vec<StateChange> {
    let mut at_ns = 0;
    (derived.iter().filter(|change| change.side == side))
        .map(|change| {
            at_ns = packets[change.packet].at_ns.max(at_ns);
            StateChange {
                at_ns,
                side,
                old: change.old,
                new: change.new,
                origin: change.origin,
            }
        })
        .collect()
}

/// State changes that follow from the client's calls, and from snapshots of either end.
fn from_client(record: &Record, subject: &Subject<'_>, side: Side) -> Vec<StateChange> {
    let mut points: Vec<(u64, State)> = Vec::new();
    if side == Side::Client {
        let mut ended = false;
        for moment in &subject.moments {
            let state = match moment.what {
                What::Connecting => State::SynSent,
                What::Connected => State::Established,
                What::EndOfFile => {
                    ended = true;
                    State::CloseWait
                }
                What::ShutDown | What::Closed if ended => State::LastAck,
                What::ShutDown | What::Closed => State::FinWait1,
                What::Failed("connect", _) => State::Closed,
                What::Failed(_, ref error) if error.contains("reset") => State::Closed,
                _ => continue,
            };
            points.push((moment.at_ns, state));
        }
    }
    let snapshots = record.snapshots.iter();
    points.extend(snapshots.flat_map(|snapshot| {
        (subject.sockets(snapshot))
            .filter(|(of, _)| *of == side)
            .map(|(_, socket)| (snapshot.at_ns, socket.state))
    }));
    points.sort_by_key(|(at_ns, _)| *at_ns);
    let mut state = match side {
        Side::Client => State::Closed,
        Side::Server => State::Listen,
    };
    let mut changes = Vec::new();
    for (at_ns, to) in points {
        for new in way(state, to) {
            changes.push(StateChange {
                at_ns,
                side,
                old: state,
                new,
                origin: Origin::Derived,
            });
            state = new;
        }
    }
    changes
}

/// The shortest path from one state to another; empty if there is none.
fn way(from: State, to: State) -> Vec<State> {
    let mut ways = vec![vec![from]];
    for _ in 0..5 {
        if let Some(way) = ways.iter().find(|way| way.last() == Some(&to)) {
            return way[1..].to_vec();
        }
        ways = (ways.iter())
            .flat_map(|way| {
                let last = *way.last().unwrap_or(&from);
                ALL.into_iter()
                    .filter(move |&next| arrow(last, next))
                    .map(|next| [way.as_slice(), &[next]].concat())
            })
            .collect();
    }
    Vec::new()
}

const ALL: [State; 11] = [
    State::Closed,
    State::Listen,
    // If two paths are equally long, the server's is chosen.
    State::SynReceived,
    State::SynSent,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

/// The end of `TIME-WAIT`: a snapshot that shows the minisocket, followed by one that does not.
fn end_of_time_wait(
    record: &Record,
    subject: &Subject<'_>,
    last: StateChange,
) -> Option<StateChange> {
    if last.new != State::TimeWait {
        return None;
    }
    let shows = |snapshot: &&Snapshot| {
        (subject.sockets(snapshot))
            .any(|(side, socket)| side == last.side && socket.state == State::TimeWait)
    };
    let mut after = (record.snapshots.iter()).filter(|it| it.at_ns >= last.at_ns);
    let seen = after.clone().rfind(shows)?;
    let gone = after.find(|snapshot| snapshot.at_ns > seen.at_ns)?;
    Some(StateChange {
        at_ns: gone.at_ns,
        old: State::TimeWait,
        new: State::Closed,
        origin: Origin::Derived,
        ..last
    })
}
