//! The states of both ends, according to RFC 9293.
//!
//! There are two sources. [`derive`] applies the rules of §3.10 to the segments: a segment changes
//! its sender, and on arrival its receiver. [`merge`] compares the result with what the kernel
//! reported.

use std::net::SocketAddr;

use super::{Origin, StateChange};
use crate::model::{Change, Packet, Side, State};
use crate::sequence::{Arrived, later};
pub(super) use crate::sequence::{before, end_of};

/// Whether RFC 9293 allows a transition: figure 5 and its notes, §3.10.7, and a RST or an abort
/// from any state.
pub(super) fn arrow(old: State, new: State) -> bool {
    use State::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived,
        SynSent, TimeWait,
    };
    match (old, new) {
        (Closed, Closed) => false,
        (_, Closed) => true,
        (Closed, to) => matches!(to, Listen | SynSent),
        (Listen, to) => matches!(to, SynReceived | SynSent),
        (SynSent, to) => matches!(to, SynReceived | Established),
        (SynReceived, to) => matches!(to, Established | FinWait1 | CloseWait | Listen),
        (Established, to) => matches!(to, FinWait1 | CloseWait),
        (FinWait1, to) => matches!(to, FinWait2 | Closing | TimeWait),
        (FinWait2 | Closing, to) => matches!(to, TimeWait),
        (CloseWait, to) => matches!(to, LastAck),
        (LastAck | TimeWait, _) => false,
    }
}

/// A state change that follows from a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Derived {
    /// Position of the segment in the connection.
    pub(super) packet: usize,
    pub(super) side: Side,
    pub(super) old: State,
    pub(super) new: State,
    pub(super) origin: Origin,
}

/// How a segment affects its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// As RFC 9293 specifies.
    Counts,
    /// Not at all: it lies outside the window.
    Nothing,
    /// The sender acts on it, but the receiver ignores it.
    Ignored,
}

/// What follows from the segments of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Derivation {
    pub(super) changes: Vec<Derived>,
    /// FINs of client and server that were not captured but that an acknowledgement most likely
    /// covers.
    pub(super) unseen_fins: [Option<UnseenFin>; 2],
}

/// A FIN that only its acknowledgement reveals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnseenFin {
    /// Position of the segment that acknowledges it.
    pub(super) packet: usize,
    /// The number after it.
    pub(super) number: u32,
}

/// Derives the states of both ends from the segments of one connection; `effects` says how each one
/// counts.
///
/// A captured segment is assumed to be sent and to arrive at once. That holds on a loopback
/// interface; elsewhere the far end changes later, or earlier, by the transit time.
///
/// An acknowledgement also reveals segments that were not captured: a SYN, a SYN+ACK or bytes.
pub(super) fn derive(client: SocketAddr, packets: &[&Packet], effects: &[Effect]) -> Derivation {
    let mut machine = Machine::new(client, packets, effects);
    for (at, effect) in effects.iter().enumerate() {
        match effect {
            Effect::Counts => machine.step(at),
            Effect::Ignored => machine.leaves(at),
            Effect::Nothing => {}
        }
    }
    Derivation {
        changes: machine.changes,
        unseen_fins: machine.unseen_fins,
    }
}

struct Machine<'a> {
    client: SocketAddr,
    packets: &'a [&'a Packet],
    effects: &'a [Effect],
    /// For each segment, the next one from client and from server that counts, with ACK and without
    /// RST.
    following: Vec<[Option<usize>; 2]>,
    /// The ends of client and server.
    ends: [End; 2],
    unseen_fins: [Option<UnseenFin>; 2],
    /// Further changes depend on a FIN that was not captured.
    is_likely: bool,
    changes: Vec<Derived>,
}

/// One end, and the stream that it sends.
#[derive(Debug, Clone)]
struct End {
    state: State,
    /// It sent a SYN on its own initiative.
    active: bool,
    /// Sequence number of its SYN.
    syn: Option<u32>,
    /// The number after its FIN, which acknowledges the FIN.
    fin: Option<u32>,
    /// Payload bytes of its SYN.
    syn_bytes: u32,
    /// What has arrived of its stream.
    arrived: Arrived,
}

impl<'a> Machine<'a> {
    fn new(client: SocketAddr, packets: &'a [&'a Packet], effects: &'a [Effect]) -> Self {
        let counted = || {
            (packets.iter().zip(effects)).filter_map(|(packet, effect)| {
                (*effect == Effect::Counts && !packet.flags.rst).then_some(*packet)
            })
        };
        let from_start = counted().any(|it| it.flags.syn);
        let of_server = |it: &Packet| it.source != client;
        let both = counted().any(|it| of_server(it) && it.flags.syn && !it.flags.ack);
        // An end that sends an ACK has received a SYN+ACK.
        let listens = counted().any(|it| it.flags.ack && (of_server(it) || !it.flags.syn));
        let end = |state| End {
            state,
            active: false,
            syn: None,
            fin: None,
            syn_bytes: 0,
            arrived: Arrived::default(),
        };
        let (at_client, at_server) = match (from_start, both || !listens) {
            // The capture began later: what it does not show is assumed to have gone well.
            (false, _) => (State::Established, State::Established),
            // There is no listener, whether both open at once (figure 7) or the SYN is refused.
            (true, true) => (State::Closed, State::Closed),
            (true, false) => (State::Closed, State::Listen),
        };
        Machine {
            client,
            packets,
            effects,
            following: following(client, packets, effects),
            ends: [end(at_client), end(at_server)],
            unseen_fins: unseen_fins(client, packets, effects),
            is_likely: false,
            changes: Vec::new(),
        }
    }

    fn side(&self, packet: &Packet) -> Side {
        if packet.source == self.client {
            Side::Client
        } else {
            Side::Server
        }
    }

    fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    fn state(&self, side: Side) -> State {
        self.end(side).state
    }

    fn go(&mut self, packet: usize, side: Side, new: State) {
        let old = std::mem::replace(&mut self.end_mut(side).state, new);
        debug_assert!(arrow(old, new), "{old} -> {new}");
        self.changes.push(Derived {
            packet,
            side,
            old,
            new,
            origin: match self.is_likely {
                true => Origin::Likely,
                false => Origin::Derived,
            },
        });
    }

    /// The sender of a RST that the receiver ignores is gone all the same, if it sends nothing
    /// more.
    fn leaves(&mut self, at: usize) {
        let sender = self.side(self.packets[at]);
        let is_last = self.following[at][sender as usize].is_none();
        let is_open = !matches!(
            self.state(sender),
            State::Closed | State::Listen | State::SynSent
        );
        if is_last && is_open {
            self.go(at, sender, State::Closed);
        }
    }

    fn step(&mut self, at: usize) {
        let packet = self.packets[at];
        let sender = self.side(packet);
        if packet.flags.rst {
            self.reset(at, packet, sender);
            return;
        }
        self.implied(at, packet, sender);
        self.sent(at, packet, sender);
        self.arrived(at, packet, other(sender));
        self.finish(at, sender);
    }

    /// What a segment's acknowledgement implies about earlier segments that were not captured.
    fn implied(&mut self, at: usize, packet: &Packet, sender: Side) {
        let (flags, receiver) = (packet.flags, other(sender));
        if !flags.ack {
            return;
        }
        if flags.syn {
            // The segment answers a SYN.
            if self.state(receiver) == State::Closed && self.end(receiver).syn.is_none() {
                let end = self.end_mut(receiver);
                end.syn = Some(packet.acknowledgement.wrapping_sub(1));
                end.active = true;
                self.go(at, receiver, State::SynSent);
            }
            return;
        }
        match (self.state(sender), self.state(receiver)) {
            // The segment answers a SYN+ACK.
            (State::SynSent, State::Listen) if self.end(receiver).syn.is_none() => {
                self.end_mut(receiver).syn = Some(packet.acknowledgement.wrapping_sub(1));
                self.go(at, receiver, State::SynReceived);
                self.go(at, sender, State::Established);
            }
            // A SYN+ACK preceded it, and the answer to that.
            (State::Listen, State::SynSent) if self.acknowledges_syn(packet, receiver) => {
                self.end_mut(sender).syn = Some(packet.sequence.wrapping_sub(1));
                self.go(at, sender, State::SynReceived);
                self.go(at, receiver, State::Established);
                self.go(at, sender, State::Established);
            }
            (State::SynReceived, State::Established) if self.has_heard_more(packet, receiver) => {
                self.go(at, sender, State::Established);
            }
            _ => {}
        }
    }

    /// Whether an end that answered a SYN shows that it received more than the SYN.
    fn has_heard_more(&self, packet: &Packet, peer: Side) -> bool {
        let end = self.end(peer);
        let opening = end
            .syn
            .map(|syn| syn.wrapping_add(1).wrapping_add(end.syn_bytes));
        let acknowledges = opening.is_some_and(|opening| before(opening, packet.acknowledgement));
        // With Fast Open, a server may write immediately.
        acknowledges || (packet.payload_bytes > 0 && end.syn_bytes == 0)
    }

    /// What a segment implies about its sender.
    fn sent(&mut self, at: usize, packet: &Packet, side: Side) {
        let flags = packet.flags;
        let end = self.end_mut(side);
        if flags.syn {
            end.syn = Some(packet.sequence);
            end.syn_bytes = packet.payload_bytes;
            end.active |= !flags.ack;
            match (flags.ack, end.state) {
                (false, State::Closed | State::Listen) => {
                    self.go(at, side, State::SynSent);
                    // The peer's own SYN was already on its way (figure 7).
                    if self.end(other(side)).syn.is_some() {
                        self.go(at, side, State::SynReceived);
                    }
                }
                // The SYN that it answers was not captured.
                (true, State::Listen) => self.go(at, side, State::SynReceived),
                _ => {}
            }
        }
        if flags.ack {
            // Everything it acknowledges has arrived, even if it was not captured.
            (self.end_mut(other(side)).arrived).advance_to(packet.acknowledgement);
            self.closes_unseen(at, packet, other(side));
            let peer_fin = self.end(other(side)).fin;
            if peer_fin.is_some_and(|fin| !before(packet.acknowledgement, fin)) {
                self.finish(at, side);
            }
        }
        if flags.fin {
            let behind = end_of(packet);
            self.end_mut(side).fin = Some(behind);
            match self.state(side) {
                State::SynReceived | State::Established => self.go(at, side, State::FinWait1),
                State::CloseWait => self.go(at, side, State::LastAck),
                _ => {}
            }
        }
    }

    /// A FIN that only this acknowledgement reveals.
    fn closes_unseen(&mut self, at: usize, packet: &Packet, side: Side) {
        let unseen = self.unseen_fins[side as usize];
        if unseen.is_none_or(|it| it.packet != at) {
            return;
        }
        self.is_likely = true;
        self.end_mut(side).fin = Some(packet.acknowledgement);
        match self.state(side) {
            State::SynReceived | State::Established => self.go(at, side, State::FinWait1),
            State::CloseWait => self.go(at, side, State::LastAck),
            _ => {}
        }
    }

    /// What the arrival of a segment does at the receiver: first the SYN, then the ACK, then the
    /// FIN (§3.10.7).
    fn arrived(&mut self, at: usize, packet: &Packet, side: Side) {
        let flags = packet.flags;
        match self.state(side) {
            State::Listen if flags.syn && !flags.ack && self.is_answered(at) => {
                self.go(at, side, State::SynReceived);
            }
            State::SynSent if flags.syn && flags.ack && self.acknowledges_syn(packet, side) => {
                self.go(at, side, State::Established);
            }
            State::SynSent if flags.syn && !flags.ack => self.go(at, side, State::SynReceived),
            _ => {}
        }
        (self.end_mut(other(side)).arrived).arrives(packet.sequence, end_of(packet));
        if flags.ack {
            let covers = self
                .end(side)
                .fin
                .is_some_and(|fin| !before(packet.acknowledgement, fin));
            match self.state(side) {
                State::SynReceived
                    if self.acknowledges_syn(packet, side) && !self.is_dropped(at, side) =>
                {
                    self.go(at, side, State::Established);
                }
                State::FinWait1 if covers => self.go(at, side, State::FinWait2),
                State::Closing if covers => self.go(at, side, State::TimeWait),
                State::LastAck if covers => self.go(at, side, State::Closed),
                _ => {}
            }
        }
        self.finish(at, side);
    }

    /// The peer's FIN counts once everything before it has arrived. A segment sent after that
    /// acknowledges it; so if the next segment does not, the FIN was still on its way when that
    /// segment was sent (figure 13).
    fn finish(&mut self, at: usize, side: Side) {
        let peer = self.end(other(side));
        let (Some(fin), Some(arrived)) = (peer.fin, peer.arrived.edge()) else {
            return;
        };
        let next = self.following[at][side as usize];
        let on_its_way = next.is_some_and(|next| before(self.packets[next].acknowledgement, fin));
        if before(arrived, fin) || on_its_way {
            return;
        }
        match self.state(side) {
            State::Established => {
                self.go(at, side, State::CloseWait);
                // No segment shows whether the FIN arrived first or crossed the other side's FIN.
                if next.is_none() && !self.has_acknowledged(at, side, fin) {
                    self.last_is_likely();
                }
            }
            // The acknowledgement of its own FIN was not captured either.
            State::FinWait1 if self.unseen_fins[other(side) as usize].is_some() => {
                self.go(at, side, State::FinWait2);
                self.go(at, side, State::TimeWait);
            }
            State::FinWait1 => self.go(at, side, State::Closing),
            State::FinWait2 => self.go(at, side, State::TimeWait),
            _ => {}
        }
    }

    fn has_acknowledged(&self, at: usize, side: Side, number: u32) -> bool {
        let packet = self.packets[at];
        self.side(packet) == side && packet.flags.ack && !before(packet.acknowledgement, number)
    }

    fn last_is_likely(&mut self) {
        if let Some(last) = self.changes.last_mut() {
            last.origin = Origin::Likely;
        }
    }

    fn reset(&mut self, at: usize, packet: &Packet, sender: Side) {
        // A client in SYN-SENT sends such a RST in answer to a wrong acknowledgement, and continues
        // (§3.10.7.3).
        if !matches!(
            self.state(sender),
            State::Closed | State::Listen | State::SynSent
        ) {
            self.go(at, sender, State::Closed);
        }
        let side = other(sender);
        match self.state(side) {
            State::Closed | State::Listen => {}
            State::SynSent => {
                if packet.flags.ack && self.acknowledges_syn(packet, side) {
                    self.go(at, side, State::Closed);
                }
            }
            // §3.10.7.4: a passive open returns to LISTEN.
            State::SynReceived if !self.end(side).active => self.go(at, side, State::Listen),
            _ => {
                let expected = self.end(sender).arrived.edge();
                self.go(at, side, State::Closed);
                // Only older systems accept a number other than the next one (RFC 5961).
                if expected.is_some_and(|expected| before(expected, packet.sequence)) {
                    self.last_is_likely();
                }
            }
        }
    }

    /// Whether a segment acknowledges this end's SYN, and nothing that this end has not sent.
    fn acknowledges_syn(&self, packet: &Packet, side: Side) -> bool {
        let end = self.end(side);
        end.syn
            .is_some_and(|syn| before(syn, packet.acknowledgement))
    }

    /// Whether the next SYN+ACK answers this SYN: a server that drops a SYN keeps no state.
    fn is_answered(&self, at: usize) -> bool {
        let syn = self.packets[at];
        let later = self.packets[at + 1..].iter().zip(&self.effects[at + 1..]);
        for (packet, _) in later.filter(|(_, effect)| **effect == Effect::Counts) {
            if packet.source == syn.source && packet.flags.syn {
                return false;
            }
            if packet.source == syn.destination {
                return packet.flags.syn && packet.flags.ack && !packet.flags.rst;
            }
        }
        false
    }

    /// Whether the server dropped this ACK of a SYN+ACK, for example because its accept queue was
    /// full: the SYN+ACK is repeated before the server sends anything else.
    fn is_dropped(&self, at: usize, side: Side) -> bool {
        let next = self.packets[at + 1..]
            .iter()
            .find(|packet| self.side(packet) == side)
            // A side in a simultaneous open still has to send its SYN+ACK.
            .filter(|_| !self.end(side).active);
        next.is_some_and(|packet| {
            packet.flags.syn && packet.flags.ack && Some(packet.sequence) == self.end(side).syn
        })
    }
}

/// For each segment, the next one from client and from server that counts, with ACK and without
/// RST.
fn following(
    client: SocketAddr,
    packets: &[&Packet],
    effects: &[Effect],
) -> Vec<[Option<usize>; 2]> {
    let mut next = [None; 2];
    let mut following = vec![next; packets.len()];
    for (at, packet) in packets.iter().enumerate().rev() {
        following[at] = next;
        if effects[at] == Effect::Counts && packet.flags.ack && !packet.flags.rst {
            next[usize::from(packet.source != client)] = Some(at);
        }
    }
    following
}

/// Finds FINs that were not captured. The other side's last acknowledgement reveals one if it
/// exceeds everything captured or acknowledged before by a single number, which a FIN occupies.
fn unseen_fins(
    client: SocketAddr,
    packets: &[&Packet],
    effects: &[Effect],
) -> [Option<UnseenFin>; 2] {
    #[derive(Default)]
    struct Stream {
        has_fin: bool,
        /// The stream is known up to here without the last acknowledgement.
        known: Option<u32>,
        acknowledged: Option<UnseenFin>,
    }
    let mut streams: [Stream; 2] = Default::default();
    for (at, packet) in packets.iter().enumerate() {
        if effects[at] != Effect::Counts || packet.flags.rst {
            continue;
        }
        let own = usize::from(packet.source != client);
        let behind = end_of(packet);
        let stream = &mut streams[own];
        stream.has_fin |= packet.flags.fin;
        stream.known = Some(stream.known.map_or(behind, |it| later(it, behind)));
        let (true, number) = (packet.flags.ack, packet.acknowledgement) else {
            continue;
        };
        let peers = &mut streams[1 - own];
        let last = peers.acknowledged;
        if last.is_none_or(|last| before(last.number, number)) {
            if let Some(last) = last {
                peers.known = Some(peers.known.map_or(last.number, |it| later(it, last.number)));
            }
            peers.acknowledged = Some(UnseenFin { packet: at, number });
        }
    }
    streams.map(|stream| {
        let by_one = |it: &UnseenFin| {
            stream
                .known
                .is_some_and(|known| known.wrapping_add(1) == it.number)
        };
        stream
            .acknowledged
            .filter(by_one)
            .filter(|_| !stream.has_fin)
    })
}

pub(super) fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

/// Merges the derived states of one side with the kernel's reports; returns a note if they
/// disagree.
///
/// What `sock:inet_sock_set_state` reports on Linux 6.18:
///
/// - The client closes: it enters FIN-WAIT-1 during `close`, the server enters CLOSE-WAIT right
///   after. When the ACK arrives, the kernel reports FIN-WAIT-1 -> FIN-WAIT-2 and at once
///   FIN-WAIT-2 -> CLOSED, long before the server closes: no process holds the socket any more, so
///   a minisocket replaces it, whose changes are not reported. After `shutdown`, with the socket
///   still open, FIN-WAIT-2 -> CLOSED is reported when the server's FIN arrives; this is really
///   TIME-WAIT. CLOSE-WAIT -> LAST-ACK -> CLOSED are reported as they happen.
/// - `close` after `shutdown` reports FIN-WAIT-1 -> FIN-WAIT-1, which is not a change.
/// - The server closes: the same with the sides exchanged.
/// - Both close at once: FIN-WAIT-1 -> CLOSING -> CLOSED at both ends. The latter is really
///   TIME-WAIT.
/// - A RST: ESTABLISHED -> CLOSED at both ends, whether because of unread data or of SO_LINGER; a
///   refused connection: SYN-SENT -> CLOSED.
/// - The handshake: the client's CLOSED -> SYN-SENT is reported before it has a port. The server's
///   LISTEN -> SYN-RECEIVED and SYN-RECEIVED -> ESTABLISHED are reported together when the last ACK
///   arrives.
pub(super) fn merge(
    derived: &[StateChange],
    told: &[Change],
    side: Side,
    peer_last_ack_ns: Option<u64>,
) -> (Vec<StateChange>, Option<String>) {
    if told.is_empty() {
        return (derived.to_vec(), None);
    }
    let into = |state: State| derived.iter().find(|change| change.new == state);
    let mut merged: Vec<StateChange> = Vec::new();
    if let Some(received) = into(State::SynReceived)
        && told[0].old == State::SynReceived
    {
        merged.push(*received);
    }
    for change in told.iter().filter(|change| change.old != change.new) {
        let mut next = StateChange {
            at_ns: change.at_ns,
            side,
            old: change.old,
            new: change.new,
            origin: Origin::Kernel,
        };
        match (change.old, change.new) {
            (State::Listen, State::SynReceived) => {
                if let Some(received) = into(State::SynReceived) {
                    next.at_ns = next.at_ns.min(received.at_ns);
                    next.origin = Origin::Derived;
                }
            }
            (State::FinWait2 | State::Closing, State::Closed) => {
                let seen = into(State::TimeWait).map(|change| change.at_ns);
                let reset = derived.iter().find(|it| {
                    it.new == State::Closed && it.old != State::TimeWait && seen.is_none()
                });
                if let Some(reset) = reset {
                    next.at_ns = next.at_ns.max(reset.at_ns);
                    next.origin = reset.origin;
                } else if let Some(at_ns) = seen.or(peer_last_ack_ns.filter(|_| derived.is_empty()))
                {
                    next.new = State::TimeWait;
                    next.origin = Origin::Derived;
                    if change.old == State::FinWait2 {
                        next.at_ns = next.at_ns.max(at_ns);
                    }
                } else if change.old == State::Closing {
                    next.new = State::TimeWait;
                    next.origin = Origin::Derived;
                } else {
                    // The socket is an orphan, still in FIN-WAIT-2.
                    continue;
                }
            }
            _ => {}
        }
        merged.push(next);
    }
    // A RST that arrives in TIME-WAIT, or the observed end of TIME-WAIT.
    if merged.last().is_some_and(|it| it.new == State::TimeWait) {
        merged.extend(derived.iter().find(|it| it.old == State::TimeWait));
    }
    let mut at_ns = 0;
    for change in &mut merged {
        at_ns = change.at_ns.max(at_ns);
        change.at_ns = at_ns;
    }
    let linked = merged.windows(2).all(|pair| pair[0].new == pair[1].old);
    if !linked || !merged.iter().all(|it| arrow(it.old, it.new)) {
        let note = format!(
            "The kernel's reports of the {}'s states have gaps; the states shown follow from the segments.",
            side.name()
        );
        return (derived.to_vec(), Some(note));
    }
    let same = (merged.iter().zip(derived)).all(|(a, b)| (a.old, a.new) == (b.old, b.new));
    let note = (!same).then(|| {
        format!(
            "The segments imply other states for the {} than the kernel reported; the kernel's are shown.",
            side.name()
        )
    });
    (merged, note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Flags, Packet};
    use Side::{Client, Server};
    use State::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived,
        SynSent, TimeWait,
    };

    /// Each line: `C` or `S`, flags in tcpdump's notation, relative sequence and acknowledgement
    /// numbers, bytes.
    fn packets(lines: &[&str]) -> Vec<Packet> {
        let (client, server) = ends();
        (lines.iter().enumerate())
            .map(|(at, line)| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [who, flags, seq, ack, bytes] = words[..] else {
                    panic!("{line}")
                };
                let number = |text: &str| text.parse::<u32>().unwrap_or(0);
                // The numbers wrap in the middle of the connection.
                let (own, peer) = match who {
                    "C" => (u32::MAX - 1, u32::MAX - 5),
                    _ => (u32::MAX - 5, u32::MAX - 1),
                };
                Packet {
                    at_ns: at as u64 * 1000,
                    interface: None,
                    source: if who == "C" { client } else { server },
                    destination: if who == "C" { server } else { client },
                    identification: None,
                    hops: 64,
                    ip_bytes: 52 + number(bytes),
                    flags: Flags {
                        fin: flags.contains('F'),
                        syn: flags.contains('S'),
                        rst: flags.contains('R'),
                        psh: flags.contains('P'),
                        ack: flags.contains('.'),
                        ..Flags::default()
                    },
                    sequence: own.wrapping_add(number(seq)),
                    acknowledgement: if ack == "-" {
                        0
                    } else {
                        peer.wrapping_add(number(ack))
                    },
                    window: 64,
                    options: Vec::new(),
                    malformed_options: false,
                    payload_bytes: number(bytes),
                    payload: vec![b'x'; number(bytes) as usize],
                }
            })
            .collect()
    }

    fn ends() -> (SocketAddr, SocketAddr) {
        (
            SocketAddr::from(([127, 0, 0, 1], 40000)),
            SocketAddr::from(([127, 0, 0, 1], 8000)),
        )
    }

    /// All states of both ends, including the first.
    #[track_caller]
    fn check(case: &str, lines: &[&str], client: &[State], server: &[State]) {
        let packets = packets(lines);
        let packets: Vec<&Packet> = packets.iter().collect();
        let derived = derive(ends().0, &packets, &vec![Effect::Counts; packets.len()]).changes;
        for (side, expected) in [(Client, client), (Server, server)] {
            let own = derived.iter().filter(|it| it.side == side);
            let mut states: Vec<State> = own.clone().take(1).map(|it| it.old).collect();
            states.extend(own.map(|it| it.new));
            assert_eq!(states, expected, "{case}: {side:?}");
        }
    }

    const HANDSHAKE: [&str; 3] = ["C S 0 - 0", "S S. 0 1 0", "C . 1 1 0"];

    fn after_handshake<'a>(lines: &[&'a str]) -> Vec<&'a str> {
        [&HANDSHAKE, lines].concat()
    }

    const OPENED_CLIENT: [State; 3] = [Closed, SynSent, Established];
    const OPENED_SERVER: [State; 3] = [Listen, SynReceived, Established];

    #[track_caller]
    fn check_opened(case: &str, lines: &[&str], client: &[State], server: &[State]) {
        let client = [&OPENED_CLIENT, client].concat();
        let server = [&OPENED_SERVER, server].concat();
        check(case, &after_handshake(lines), &client, &server);
    }

    #[test]
    fn handshakes_are_those_of_rfc_9293() {
        check(
            "figure 6: basic",
            &HANDSHAKE,
            &OPENED_CLIENT,
            &OPENED_SERVER,
        );
        check(
            "figure 7: simultaneous open",
            &["C S 0 - 0", "S S 0 - 0", "C S. 0 1 0", "S S. 0 1 0"],
            &[Closed, SynSent, SynReceived, Established],
            &[Closed, SynSent, SynReceived, Established],
        );
        check(
            "section 3.10.7.1 and .3: a SYN to a port where nobody listens",
            &["C S 0 - 0", "S R. 0 1 0"],
            &[Closed, SynSent, Closed],
            &[],
        );
        check(
            "section 3.10.7.3: a RST that does not acknowledge the SYN is dropped",
            &["C S 0 - 0", "S R. 0 0 0"],
            &[Closed, SynSent],
            &[],
        );
        check(
            "section 3.8.1: a SYN that was dropped is sent again",
            &["C S 0 - 0", "C S 0 - 0", "S S. 0 1 0", "C . 1 1 0"],
            &OPENED_CLIENT,
            &OPENED_SERVER,
        );
        check(
            "a dropped last ACK: the SYN+ACK comes again",
            &["C S 0 - 0", "S S. 0 1 0", "C . 1 1 0", "S S. 0 1 0"],
            &OPENED_CLIENT,
            &[Listen, SynReceived],
        );
        check(
            "section 3.10.7.4: a RST sends a passive open back to LISTEN",
            &["C S 0 - 0", "S S. 0 1 0", "C R 1 - 0"],
            &[Closed, SynSent, Established, Closed],
            &[Listen, SynReceived, Listen],
        );
        check(
            "section 3.10.7.4: data in place of the last ACK",
            &["C S 0 - 0", "S S. 0 1 0", "C P. 1 1 5"],
            &OPENED_CLIENT,
            &OPENED_SERVER,
        );
    }

    #[test]
    fn closes_are_those_of_rfc_9293() {
        let first = [FinWait1, FinWait2, TimeWait];
        let last = [CloseWait, LastAck, Closed];
        check_opened(
            "figure 12: normal, by the client",
            &["C F. 1 1 0", "S . 1 2 0", "S F. 1 2 0", "C . 2 2 0"],
            &first,
            &last,
        );
        check_opened(
            "figure 12: normal, by the server",
            &["S F. 1 1 0", "C . 1 2 0", "C F. 1 2 0", "S . 2 2 0"],
            &last,
            &first,
        );
        check_opened(
            "figure 13: simultaneous",
            &["C F. 1 1 0", "S F. 1 1 0", "C . 2 2 0", "S . 2 2 0"],
            &[FinWait1, Closing, TimeWait],
            &[FinWait1, Closing, TimeWait],
        );
        check_opened(
            "figure 13, the ACKs the other way around",
            &["S F. 1 1 0", "C F. 1 1 0", "C . 2 2 0", "S . 2 2 0"],
            &[FinWait1, Closing, TimeWait],
            &[FinWait1, Closing, TimeWait],
        );
        check_opened(
            "section 3.3.2, note 2: the FIN acknowledges ours, three segments",
            &["C F. 1 1 0", "S F. 1 2 0", "C . 2 2 0"],
            &first,
            &last,
        );
        check_opened(
            "section 3.6, case 1: half-close, and data flows on",
            &[
                "C F. 1 1 0",
                "S . 1 2 0",
                "S P. 1 2 100",
                "C . 2 101 0",
                "S F. 101 2 0",
                "C . 2 102 0",
            ],
            &first,
            &last,
        );
        check_opened(
            "section 3.10.7.4: a FIN with data is acknowledged only beyond both",
            &[
                "C FP. 1 1 10",
                "S . 1 11 0",
                "S . 1 12 0",
                "S F. 1 12 0",
                "C . 12 2 0",
            ],
            &first,
            &last,
        );
        check_opened(
            "section 3.10.7.4: an ACK of older bytes is no ACK of the FIN",
            &["C P. 1 1 5", "C F. 6 1 0", "S . 1 6 0"],
            &[FinWait1],
            &[CloseWait],
        );
        check_opened(
            "section 3.10.8: a FIN sent again changes nothing",
            &[
                "C F. 1 1 0",
                "C F. 1 1 0",
                "S . 1 2 0",
                "S F. 1 2 0",
                "S F. 1 2 0",
                "C . 2 2 0",
                "C . 2 2 0",
            ],
            &first,
            &last,
        );
        check_opened(
            "section 3.10.7.4, eighth: a FIN beyond a gap waits for what is missing",
            &["C F. 6 1 0", "S . 1 1 0", "C P. 1 1 5", "S . 1 7 0"],
            &[FinWait1, FinWait2],
            &[CloseWait],
        );
        check_opened(
            "section 3.6: the last ACK is missing",
            &["S F. 1 1 0", "C F. 1 2 0"],
            &[CloseWait, LastAck],
            &first,
        );
    }

    #[test]
    fn resets_are_those_of_rfc_9293() {
        check_opened(
            "section 3.5.3: in ESTABLISHED",
            &["S R. 1 1 0"],
            &[Closed],
            &[Closed],
        );
        check_opened(
            "in FIN-WAIT-2 and CLOSE-WAIT",
            &["S F. 1 1 0", "C . 1 2 0", "C P. 1 2 9", "S R 2 - 0"],
            &[CloseWait, Closed],
            &[FinWait1, FinWait2, Closed],
        );
        check_opened(
            "in FIN-WAIT-1",
            &["S F. 1 1 0", "S R. 2 1 0"],
            &[CloseWait, Closed],
            &[FinWait1, Closed],
        );
        check_opened(
            "in CLOSING",
            &["C F. 1 1 0", "S F. 1 1 0", "C R 2 - 0"],
            &[FinWait1, Closing, Closed],
            &[FinWait1, Closing, Closed],
        );
        check_opened(
            "in TIME-WAIT",
            &["C F. 1 1 0", "S F. 1 2 0", "S R 2 - 0"],
            &[FinWait1, FinWait2, TimeWait, Closed],
            &[CloseWait, LastAck, Closed],
        );
    }

    #[test]
    fn a_capture_that_begins_later_knows_the_close() {
        check(
            "no handshake",
            &[
                "S P. 1 1 9",
                "C . 1 10 0",
                "S F. 10 1 0",
                "C F. 1 11 0",
                "S . 11 2 0",
            ],
            &[Established, CloseWait, LastAck, Closed],
            &[Established, FinWait1, FinWait2, TimeWait],
        );
    }

    fn told(at_ns: u64, old: State, new: State) -> Change {
        let (client, server) = ends();
        Change {
            at_ns,
            local: client,
            remote: server,
            socket: 1,
            old,
            new,
        }
    }

    fn derived(states: &[State]) -> Vec<StateChange> {
        (states.windows(2).enumerate())
            .map(|(at, pair)| StateChange {
                at_ns: (at as u64 + 1) * 100,
                side: Client,
                old: pair[0],
                new: pair[1],
                origin: Origin::Derived,
            })
            .collect()
    }

    #[track_caller]
    fn check_merged(
        case: &str,
        by_segments: &[State],
        changes: &[Change],
        expected: &[(u64, State, Origin)],
        noted: bool,
    ) {
        let (merged, note) = merge(&derived(by_segments), changes, Client, None);
        let merged: Vec<_> = merged
            .iter()
            .map(|it| (it.at_ns, it.new, it.origin))
            .collect();
        assert_eq!(merged, expected, "{case}");
        assert_eq!(note.is_some(), noted, "{case}: {note:?}");
    }

    #[test]
    fn the_kernel_is_believed_but_for_the_small_sockets() {
        use Origin::{Derived, Kernel};
        check_merged(
            "an orphan, told as closed before the peer's FIN came at 500",
            &[Closed, SynSent, Established, FinWait1, FinWait2, TimeWait],
            &[
                told(90, Closed, SynSent),
                told(210, SynSent, Established),
                told(290, Established, FinWait1),
                told(295, FinWait1, FinWait1),
                told(410, FinWait1, FinWait2),
                told(411, FinWait2, Closed),
            ],
            &[
                (90, SynSent, Kernel),
                (210, Established, Kernel),
                (290, FinWait1, Kernel),
                (410, FinWait2, Kernel),
                (500, TimeWait, Derived),
            ],
            false,
        );
        check_merged(
            "an orphan whose peer has not closed",
            &[Established, FinWait1, FinWait2],
            &[
                told(10, Established, FinWait1),
                told(20, FinWait1, FinWait2),
                told(21, FinWait2, Closed),
            ],
            &[(10, FinWait1, Kernel), (20, FinWait2, Kernel)],
            false,
        );
        check_merged(
            "both at once",
            &[Established, FinWait1, Closing, TimeWait],
            &[
                told(10, Established, FinWait1),
                told(20, FinWait1, Closing),
                told(30, Closing, Closed),
            ],
            &[
                (10, FinWait1, Kernel),
                (20, Closing, Kernel),
                (30, TimeWait, Derived),
            ],
            false,
        );
        check_merged(
            "a server: the request socket was there at 100",
            &[Listen, SynReceived, Established],
            &[
                told(220, Listen, SynReceived),
                told(221, SynReceived, Established),
            ],
            &[(100, SynReceived, Derived), (221, Established, Kernel)],
            false,
        );
        check_merged(
            "it says otherwise",
            &[Established, FinWait1],
            &[told(10, Established, Closed)],
            &[(10, Closed, Kernel)],
            true,
        );
        check_merged(
            "it has a gap",
            &[Established, FinWait1],
            &[told(10, Established, FinWait1), told(20, Closing, Closed)],
            &[(100, FinWait1, Derived)],
            true,
        );
    }
}
