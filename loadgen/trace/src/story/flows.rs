//! Groups packets into connections and finds the client of each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::model::{Endpoints, Packet, Record};

/// The packets of one connection.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) endpoints: Endpoints,
    /// Positions in the record, sorted by time.
    pub(super) packets: Vec<usize>,
    /// An earlier connection used the same ports.
    pub(super) reuses_ports: bool,
}

/// The connections, ordered by first packet. A SYN on reused ports begins a new connection.
pub(super) fn flows(record: &Record) -> Vec<Flow> {
    let mut open: HashMap<(SocketAddr, SocketAddr), usize> = HashMap::new();
    let mut gathered: Vec<Gathered> = Vec::new();
    for (at, packet) in record.packets.iter().enumerate() {
        let (source, destination) = (packet.source, packet.destination);
        let ends = (source.min(destination), source.max(destination));
        let current = open.get(&ends).copied();
        let current = match current {
            Some(current) if !gathered[current].ended_before(packet) => current,
            earlier => {
                gathered.push(Gathered {
                    reuses_ports: earlier.is_some(),
                    ..Gathered::default()
                });
                open.insert(ends, gathered.len() - 1);
                gathered.len() - 1
            }
        };
        gathered[current].take(at, packet);
    }
    let flow = |gathered: Gathered| {
        let packets = gathered.packets.iter().map(|&at| &record.packets[at]);
        Flow {
            endpoints: endpoints(packets, record.server),
            packets: gathered.packets,
            reuses_ports: gathered.reuses_ports,
        }
    };
    gathered.into_iter().map(flow).collect()
}

/// The facts that decide whether a SYN belongs to an existing connection.
#[derive(Debug, Default)]
struct Gathered {
    packets: Vec<usize>,
    reuses_ports: bool,
    /// Senders of a SYN without ACK, and its sequence number.
    opening: Vec<(SocketAddr, u32)>,
    /// Senders of a SYN+ACK, its sequence number, and the number it acknowledges.
    answering: Vec<(SocketAddr, u32, u32)>,
    /// The sequence number of each side's first segment that is not a SYN.
    first: Vec<(SocketAddr, u32)>,
    /// Anything other than SYNs without ACK was captured.
    answered: bool,
}

impl Gathered {
    /// Further SYN+ACKs are ignored; a capture may contain any number.
    const ANSWERS_MAX: usize = 16;

    fn ended_before(&self, packet: &Packet) -> bool {
        if !packet.flags.syn || packet.flags.rst {
            return false;
        }
        if packet.flags.ack {
            return self.answers_another(packet);
        }
        if self.belongs_to_answer(packet) {
            return false;
        }
        let again = self.opening.contains(&(packet.source, packet.sequence));
        let sent_one = self.opening.iter().any(|(by, _)| *by == packet.source);
        // A repeated SYN, or the SYN of a peer that opens at the same time (RFC 9293 §3.5, figure
        // 7).
        !again && (self.answered || sent_one)
    }

    /// Whether a SYN appears after the segments that it precedes: the SYN+ACK acknowledges it, or
    /// its side's first segment continues it.
    fn belongs_to_answer(&self, syn: &Packet) -> bool {
        let behind = syn.sequence.wrapping_add(1);
        let fits = |number: u32| number.wrapping_sub(behind) <= syn.payload_bytes;
        let is_asked_for = (self.answering.iter())
            .any(|&(by, _, acknowledged)| by == syn.destination && fits(acknowledged));
        let is_continued =
            (self.first.iter()).any(|&(by, number)| by == syn.source && fits(number));
        let has_opened = self.opening.iter().any(|(by, _)| *by == syn.source);
        !has_opened && (is_asked_for || is_continued)
    }

    /// Whether a SYN+ACK without a captured SYN has different numbers from the one before.
    fn answers_another(&self, packet: &Packet) -> bool {
        let numbers = (packet.source, packet.sequence, packet.acknowledgement);
        let has_asked = self.opening.iter().any(|(by, _)| *by == packet.destination);
        let mut own = self
            .answering
            .iter()
            .filter(|it| it.0 == packet.source)
            .peekable();
        !has_asked && own.peek().is_some() && own.all(|it| it.1 != numbers.1 && it.2 != numbers.2)
    }

    fn take(&mut self, at: usize, packet: &Packet) {
        self.packets.push(at);
        let flags = packet.flags;
        let numbers = (packet.source, packet.sequence);
        match (flags.syn, flags.ack) {
            (true, false) if !self.opening.contains(&numbers) => self.opening.push(numbers),
            (true, false) => {}
            (true, true) => {
                let answer = (packet.source, packet.sequence, packet.acknowledgement);
                if self.answering.len() < Self::ANSWERS_MAX && !self.answering.contains(&answer) {
                    self.answering.push(answer);
                }
            }
            (false, _) => {
                if !self.first.iter().any(|(by, _)| *by == packet.source) {
                    self.first.push(numbers);
                }
            }
        }
        self.answered |= !flags.syn || flags.ack;
    }
}

/// The sender of the SYN is the client. If the SYN was not captured, these decide, in order: the
/// SYN+ACK, a known listening address, the direction of HTTP messages, and last the port that is
/// not ephemeral.
fn endpoints<'a>(
    packets: impl Iterator<Item = &'a Packet> + Clone,
    server: Option<SocketAddr>,
) -> Endpoints {
    let by_source = |packet: &Packet| Endpoints {
        client: packet.source,
        server: packet.destination,
    };
    let by_destination = |packet: &Packet| Endpoints {
        client: packet.destination,
        server: packet.source,
    };
    let mut all = packets.clone();
    let syn = packets
        .clone()
        .find(|packet| packet.flags.syn && !packet.flags.rst);
    if let Some(packet) = syn {
        return if packet.flags.ack {
            by_destination(packet)
        } else {
            by_source(packet)
        };
    }
    for packet in packets {
        let serves = |end: SocketAddr| server.is_some_and(|server| listens(server, end));
        if serves(packet.destination) || is_request(&packet.payload) {
            return by_source(packet);
        }
        if serves(packet.source) || packet.payload.starts_with(b"HTTP/") {
            return by_destination(packet);
        }
    }
    match all.next() {
        Some(packet) if packet.source.port() < packet.destination.port() => by_destination(packet),
        Some(packet) => by_source(packet),
        None => unreachable!("a connection has packets"),
    }
}

/// Whether a listener accepts connections to this address.
pub(super) fn listens(listener: SocketAddr, end: SocketAddr) -> bool {
    let (address, to) = (listener.ip().to_canonical(), end.ip().to_canonical());
    listener.port() == end.port() && (address.is_unspecified() || address == to)
}

/// Normalizes an address: IPv4-mapped IPv6 becomes IPv4.
pub(super) fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// A placeholder for a client whose port is not known.
pub(super) fn nobody(server: SocketAddr) -> SocketAddr {
    let unspecified = match server.ip() {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    SocketAddr::new(unspecified, 0)
}

fn is_request(payload: &[u8]) -> bool {
    let method = payload.iter().take_while(|byte| byte.is_ascii_uppercase());
    let method = method.count();
    let line = payload.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    (3..=10).contains(&method)
        && payload.get(method) == Some(&b' ')
        && line.windows(6).any(|window| window == b" HTTP/")
}
