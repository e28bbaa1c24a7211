//! Bytes of headers and of capture files, by hand: what the reader under test is built on has no part in it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::builder::{Frame, Segment};

/// Something that carries an IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrap {
    /// A tag with this protocol (0x8100 customer, 0x88a8 service, 0x9100 QinQ before the standard).
    Vlan(u16),
    /// Four bytes, then the type of what follows: HSR, VN-Tag, the redundancy tag.
    Tag(u16),
    /// So many labels.
    Mpls(usize),
    /// A session of PPP over Ethernet.
    Pppoe,
    /// An IPv4 packet around it: IP-in-IP, or 6in4.
    Ip4,
    /// An IPv6 packet around it.
    Ip6,
    /// Generic routing encapsulation, without options.
    Gre,
    /// With a key and a sequence number.
    GreKeyed,
    /// An Ethernet frame in UDP.
    Vxlan,
    /// The same by its successor, with an option.
    Geneve,
    /// A length instead of an ether type, then LLC and SNAP.
    Snap,
}

const OUTER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
];
const OUTER_6: [&str; 2] = ["2001:db8:1::1", "2001:db8:1::2"];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

fn ether_type(packet: &[u8]) -> u16 {
    match packet.first().map(|byte| byte >> 4) {
        Some(6) => IPV6,
        _ => IPV4,
    }
}

/// The ether type and all that comes after it.
pub(crate) fn wrapped(packet: Vec<u8>, wraps: &[Wrap]) -> (u16, Vec<u8>) {
    let mut kind = ether_type(&packet);
    let mut bytes = packet;
    for wrap in wraps.iter().rev() {
        (kind, bytes) = around(wrap, kind, &bytes);
    }
    (kind, bytes)
}

fn around(wrap: &Wrap, kind: u16, bytes: &[u8]) -> (u16, Vec<u8>) {
    let outer = |protocol: u8, payload: &[u8]| ip_packet(OUTER[0], OUTER[1], protocol, 7, payload);
    let inner = if kind == IPV6 { 41 } else { 4 };
    match wrap {
        Wrap::Vlan(protocol) => {
            let tag = [0x00, 42, (kind >> 8) as u8, kind as u8];
            (*protocol, [&tag[..], bytes].concat())
        }
        Wrap::Tag(protocol) => {
            let tag = [0, 0, 0, 5, (kind >> 8) as u8, kind as u8];
            (*protocol, [&tag[..], bytes].concat())
        }
        Wrap::Mpls(labels) => {
            let label = |number: usize| {
                let is_last = u32::from(number + 1 == *labels);
                ((16 + number as u32) << 12 | is_last << 8 | 64).to_be_bytes()
            };
            let labels: Vec<u8> = (0..*labels).flat_map(label).collect();
            (0x8847, [&labels, bytes].concat())
        }
        Wrap::Pppoe => {
            let ppp: u16 = if kind == IPV6 { 0x0057 } else { 0x0021 };
            let length = (bytes.len() + 2) as u16;
            let head = [0x1100, 1, length, ppp].map(u16::to_be_bytes).concat();
            (0x8864, [&head, bytes].concat())
        }
        Wrap::Ip4 => (IPV4, outer(inner, bytes)),
        Wrap::Ip6 => {
            let [from, to] = OUTER_6.map(|text| text.parse().expect("an address"));
            (IPV6, ip_packet(from, to, inner, 7, bytes))
        }
        Wrap::Gre => {
            let head = [0, kind].map(u16::to_be_bytes).concat();
            (IPV4, outer(47, &[&head, bytes].concat()))
        }
        Wrap::GreKeyed => {
            let head = [0x3000, kind, 0, 99, 0, 1].map(u16::to_be_bytes).concat();
            (IPV4, outer(47, &[&head, bytes].concat()))
        }
        Wrap::Vxlan => {
            let head = [8, 0, 0, 0, 0, 0, 7, 0];
            let frame = [&head, &ethernet(kind, bytes)[..]].concat();
            (IPV4, outer(17, &udp(4789, &frame)))
        }
        Wrap::Geneve => {
            let head = [1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 0];
            (
                IPV4,
                outer(
                    17,
                    &udp(6081, &[&head, &ethernet(kind, bytes)[..]].concat()),
                ),
            )
        }
        Wrap::Snap => {
            let head = [0xaa, 0xaa, 3, 0, 0, 0, (kind >> 8) as u8, kind as u8];
            let all = [&head, bytes].concat();
            (all.len() as u16, all)
        }
    }
}

pub(crate) fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let head = [50_000, port, length, 0].map(u16::to_be_bytes).concat();
    [&head, payload].concat()
}

fn ethernet(kind: u16, bytes: &[u8]) -> Vec<u8> {
    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    [&ADDRESSES, &kind.to_be_bytes()[..], bytes].concat()
}

pub(crate) fn tcp_segment(segment: &Segment) -> Vec<u8> {
    let mut options = segment.options.clone();
    options.resize(options.len().next_multiple_of(4), 0);
    let words = 5 + options.len() / 4;
    let mut bytes = Vec::new();
    bytes.extend(segment.source().port().to_be_bytes());
    bytes.extend(segment.destination().port().to_be_bytes());
    bytes.extend(segment.sequence.to_be_bytes());
    bytes.extend(segment.acknowledgement.to_be_bytes());
    bytes.extend([(words as u8) << 4, segment.flags]);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&options);
    bytes.extend(&segment.payload);
    let pseudo = pseudo_header(segment.source(), segment.destination(), bytes.len());
    let sum = checksum(&[pseudo, bytes.clone()].concat());
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn pseudo_header(source: SocketAddr, destination: SocketAddr, length: usize) -> Vec<u8> {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut bytes = [address(source.ip()), address(destination.ip())].concat();
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, 6]);
    bytes
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub(crate) fn ip_packet(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut head = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            head.extend([0x45, 0]);
            // As far as it fits: what is longer was put together by an offload, and says 0.
            let length = u16::try_from(20 + payload.len()).unwrap_or(0);
            head.extend(length.to_be_bytes());
            head.extend(identification.to_be_bytes());
            head.extend([0x40, 0, 64, protocol, 0, 0]);
            head.extend(source.octets());
            head.extend(destination.octets());
            let sum = checksum(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            head.extend([0x60, 0, 0, 0]);
            head.extend((payload.len() as u16).to_be_bytes());
            head.extend([protocol, 64]);
            head.extend(source.octets());
            head.extend(destination.octets());
        }
        _ => panic!("both addresses are of one kind"),
    }
    [&head, payload].concat()
}

/// An ICMP error about this packet, from `by`.
pub(crate) fn icmp_error(by: &str, kind: u8, code: u8, about: &[u8]) -> Vec<u8> {
    let by: IpAddr = by.parse().expect("an address");
    let is_6 = about[0] >> 4 == 6;
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    // All of the header and the first eight bytes behind it, as RFC 792 asks for.
    let quoted = if is_6 { 40 + 20 } else { 20 + 8 };
    message.extend(&about[..quoted.min(about.len())]);
    let to = match is_6 {
        true => IpAddr::from(<[u8; 16]>::try_from(&about[8..24]).expect("16 bytes")),
        false => IpAddr::from(<[u8; 4]>::try_from(&about[12..16]).expect("4 bytes")),
    };
    if !is_6 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    ip_packet(by, to, if is_6 { 58 } else { 1 }, 1, &message)
}

/// The link layers that captures begin with, by their numbers in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Ethernet,
    Raw,
    RawIp4,
    RawIp6,
    Null,
    NullSwapped,
    Loop,
    Cooked,
    Cooked2,
    Ppp,
}

impl Link {
    pub(crate) fn number(self) -> u16 {
        match self {
            Link::Null | Link::NullSwapped => 0,
            Link::Ethernet => 1,
            Link::Ppp => 9,
            Link::Raw => 101,
            Link::Loop => 108,
            Link::Cooked => 113,
            Link::RawIp4 => 228,
            Link::RawIp6 => 229,
            Link::Cooked2 => 276,
        }
    }

    /// The whole frame.
    pub(crate) fn frame(self, frame: &Frame) -> Vec<u8> {
        let (kind, bytes) = wrapped(frame.packet(), &frame.wraps);
        let kind_bytes = kind.to_be_bytes();
        let family: u32 = if kind == IPV6 { 30 } else { 2 };
        match self {
            Link::Ethernet => ethernet(kind, &bytes),
            Link::Raw | Link::RawIp4 | Link::RawIp6 => bytes,
            Link::Null => [&family.to_le_bytes()[..], &bytes].concat(),
            Link::NullSwapped | Link::Loop => [&family.to_be_bytes()[..], &bytes].concat(),
            Link::Cooked => {
                let head = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
                [&head, &kind_bytes[..], &bytes].concat()
            }
            Link::Cooked2 => {
                let head = [0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
                [&kind_bytes, &head[..], &bytes].concat()
            }
            Link::Ppp => {
                let ppp: u16 = if kind == IPV6 { 0x0057 } else { 0x0021 };
                [&[0xff, 3], &ppp.to_be_bytes()[..], &bytes].concat()
            }
        }
    }
}

/// The order of the bytes of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Big,
    Little,
}

impl Order {
    fn number<const N: usize>(self, mut bytes: [u8; N]) -> [u8; N] {
        if self == Order::Little {
            bytes.reverse();
        }
        bytes
    }

    pub(crate) fn short(self, number: u16) -> [u8; 2] {
        self.number(number.to_be_bytes())
    }

    pub(crate) fn long(self, number: u32) -> [u8; 4] {
        self.number(number.to_be_bytes())
    }
}

/// Which pcap file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Magic {
    Microseconds,
    Nanoseconds,
    /// By Alexey Kuznetzov's libpcap: records have an interface, a protocol and a kind too.
    Modified,
}

pub(crate) fn pcap(frames: &[Frame], link: Link, order: Order, magic: Magic) -> Vec<u8> {
    let (number, unit_ns) = match magic {
        Magic::Microseconds => (0xa1b2_c3d4, 1_000),
        Magic::Nanoseconds => (0xa1b2_3c4d, 1),
        Magic::Modified => (0xa1b2_cd34, 1_000),
    };
    let mut out = order.long(number).to_vec();
    out.extend([order.short(2), order.short(4)].concat());
    out.extend(
        [0, 0, 262_144, u32::from(link.number())]
            .map(|it| order.long(it))
            .concat(),
    );
    for frame in frames {
        let data = link.frame(frame);
        let captured = data.len().min(frame.snap_bytes);
        let (seconds, rest_ns) = (frame.at_ns / 1_000_000_000, frame.at_ns % 1_000_000_000);
        let numbers = [
            seconds as u32,
            (rest_ns / unit_ns) as u32,
            captured as u32,
            data.len() as u32,
        ];
        out.extend(numbers.map(|it| order.long(it)).concat());
        if magic == Magic::Modified {
            out.extend(order.long(2));
            out.extend(order.short(0x0800));
            out.extend([0, 0]);
        }
        out.extend(&data[..captured]);
    }
    out
}

/// A pcapng file, block by block.
#[derive(Debug, Clone)]
pub(crate) struct Pcapng {
    order: Order,
    pub(crate) bytes: Vec<u8>,
    links: Vec<Link>,
}

impl Pcapng {
    pub(crate) fn new(order: Order) -> Self {
        let file = Pcapng {
            order,
            bytes: Vec::new(),
            links: Vec::new(),
        };
        file.section(&[])
    }

    /// A new section, without interfaces.
    pub(crate) fn section(mut self, options: &[u8]) -> Self {
        let order = self.order;
        let mut body = order.long(0x1a2b_3c4d).to_vec();
        body.extend([order.short(1), order.short(0)].concat());
        body.extend([0xff; 8]);
        body.extend(options);
        self.links.clear();
        self.block(0x0a0d_0d0a, &body)
    }

    pub(crate) fn interface(mut self, link: Link, options: &[u8]) -> Self {
        self.links.push(link);
        let mut body = self.order.short(link.number()).to_vec();
        body.extend([0, 0]);
        body.extend(self.order.long(262_144));
        body.extend(options);
        self.block(1, &body)
    }

    /// With its option, padded.
    pub(crate) fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [self.order.short(code), self.order.short(value.len() as u16)].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Enhanced packet blocks with times in microseconds.
    pub(crate) fn packets(mut self, frames: &[Frame]) -> Self {
        for frame in frames {
            self = self.packet(frame, frame.at_ns / 1_000, &[]);
        }
        self
    }

    /// An enhanced packet block with so many ticks.
    pub(crate) fn packet(self, frame: &Frame, ticks: u64, options: &[u8]) -> Self {
        let order = self.order;
        let data = self.links[frame.interface].frame(frame);
        let captured = data.len().min(frame.snap_bytes);
        let numbers = [
            frame.interface as u32,
            (ticks >> 32) as u32,
            ticks as u32,
            captured as u32,
            data.len() as u32,
        ];
        let mut body = numbers.map(|it| order.long(it)).concat();
        body.extend(&data[..captured]);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(options);
        self.block(6, &body)
    }

    /// A simple packet block, which has no time.
    pub(crate) fn simple_packet(self, frame: &Frame) -> Self {
        let data = self.links[0].frame(frame);
        let mut body = self.order.long(data.len() as u32).to_vec();
        body.extend(&data);
        self.block(3, &body)
    }

    /// The packet block that came before the enhanced one.
    pub(crate) fn obsolete_packet(self, frame: &Frame) -> Self {
        let order = self.order;
        let data = self.links[frame.interface].frame(frame);
        let ticks = frame.at_ns / 1_000;
        let mut body = [order.short(frame.interface as u16), order.short(0xffff)].concat();
        let length = data.len() as u32;
        let numbers = [(ticks >> 32) as u32, ticks as u32, length, length];
        body.extend(numbers.map(|it| order.long(it)).concat());
        body.extend(&data);
        self.block(2, &body)
    }

    pub(crate) fn block(mut self, kind: u32, body: &[u8]) -> Self {
        let padded = body.len().next_multiple_of(4);
        let length = self.order.long((padded + 12) as u32);
        self.bytes.extend(self.order.long(kind));
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend(length);
        self
    }
}
