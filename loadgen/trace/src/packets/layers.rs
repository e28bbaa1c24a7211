//! Finds the TCP header in a frame, through everything that may precede it: VLAN tags, MPLS labels,
//! PPP, tunnels. etherparse parses the IP headers. The other layers are parsed here because
//! etherparse knows few of them and gives up after three VLAN tags.

use std::borrow::Cow;
use std::net::IpAddr;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, ip_number};

use super::Link;

/// Why a frame yields no TCP segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Unread {
    /// The frame contains another protocol: UDP, ICMP, ARP.
    NotTcp,
    /// An ICMP error about a TCP segment.
    Icmp,
    /// The frame may contain a segment, but the layer with this name is not decoded.
    NotDecoded(Cow<'static, str>),
    /// A fragment of an IP packet with other fragments missing.
    Fragment,
    /// The frame ends within the headers.
    TooShort,
}

/// Facts from an IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// The identification of IPv4; IPv6 has one only in fragments.
    pub(super) identification: Option<u16>,
    pub(super) hops: u8,
    /// Length of the header with its extensions.
    pub(super) header_bytes: usize,
}

/// The payload of an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    pub(super) ends: Ends,
    /// The protocol, as numbered by IANA.
    pub(super) protocol: u8,
    /// The captured part.
    pub(super) data: &'a [u8],
    /// Length on the wire; `None` if the IP header is longer than the packet it describes.
    pub(super) bytes: Option<usize>,
}

/// Position of a fragment in its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The same in all fragments of a packet.
    pub(super) identification: u32,
    /// Offset in bytes.
    pub(super) offset: usize,
    /// More fragments follow.
    pub(super) more: bool,
}

/// The innermost packet of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner<'a> {
    /// TCP or ICMP, by its protocol.
    Tcp(Payload<'a>),
    Fragment(Payload<'a>, Piece),
}

/// Finds the innermost packet of a frame of which `missing` bytes were not captured.
pub(super) fn in_frame(link: Link, data: &[u8], missing: usize) -> Result<Inner<'_>, Unread> {
    let layer = match link {
        Link::Null | Link::Loop => Layer::Family,
        Link::Ethernet => Layer::Ethernet,
        Link::Ip(_) => Layer::Ip,
        Link::LinuxCooked => Layer::Cooked {
            bytes: 16,
            protocol_at: 14,
        },
        Link::LinuxCooked2 => Layer::Cooked {
            bytes: 20,
            protocol_at: 0,
        },
        Link::Ppp(_) => Layer::Ppp,
        Link::PppDirection => Layer::PppDirection,
        Link::Pppoe => Layer::Pppoe,
        Link::CiscoHdlc => Layer::CiscoHdlc,
        Link::Mpls => Layer::Mpls,
        Link::Nflog => Layer::Nflog,
        Link::Other(number) => return Err(Unread::NotDecoded(link_name(number))),
    };
    peel(layer, data, missing)
}

/// Finds the innermost packet in an IP payload.
pub(super) fn in_payload(payload: Payload<'_>, missing: usize) -> Result<Inner<'_>, Unread> {
    let walk = Walk {
        ends: payload.ends,
        protocol: payload.protocol,
        at: 0,
        end: payload.bytes.unwrap_or(0),
    };
    match walk.extensions(payload.data)? {
        Inner::Tcp(payload) => match carried(&payload)? {
            None => Ok(Inner::Tcp(payload)),
            Some((layer, data)) => peel(layer, data, missing),
        },
        fragment @ Inner::Fragment(..) => Ok(fragment),
    }
}

/// The next layer of a frame.
#[derive(Debug, Clone, Copy)]
enum Layer {
    Ethernet,
    /// An EtherType, or a length (IEEE 802.3) followed by LLC.
    EtherType(u16),
    /// LLC (IEEE 802.2).
    Llc,
    /// An address family, in an unknown machine's byte order.
    Family,
    /// Linux cooked: a header of this length, with an EtherType at this offset.
    Cooked {
        bytes: usize,
        protocol_at: usize,
    },
    Pppoe,
    Ppp,
    /// PPP after a byte for the direction.
    PppDirection,
    CiscoHdlc,
    Mpls,
    /// The log of Linux's netfilter: attributes, one of which is the packet.
    Nflog,
    Ip,
}

/// A limit that no real network reaches.
const LAYERS_MAX: usize = 64;

fn peel(mut layer: Layer, mut data: &[u8], missing: usize) -> Result<Inner<'_>, Unread> {
    for _ in 0..LAYERS_MAX {
        (layer, data) = match layer {
            Layer::Ethernet => {
                let (header, rest) = split::<14>(data)?;
                (Layer::EtherType(short(header, 12)), rest)
            }
            Layer::EtherType(number) => ether_type(number, data)?,
            Layer::Llc => llc(data)?,
            Layer::Family => {
                let (family, rest) = split::<4>(data)?;
                // The numbers are small, so the byte order is unambiguous.
                let family = u32::from_be_bytes(*family).min(u32::from_le_bytes(*family));
                match LOOPBACK_FAMILIES.contains(&family) {
                    true => (Layer::Ip, rest),
                    false => return Err(Unread::NotTcp),
                }
            }
            Layer::Cooked { bytes, protocol_at } => {
                let (header, rest) = data.split_at_checked(bytes).ok_or(Unread::TooShort)?;
                match short(header, protocol_at) {
                    LINUX_802_2 => (Layer::Llc, rest),
                    // Novell raw frames, and link types without EtherTypes (CAN, IrDA).
                    0..=0xff => return Err(Unread::NotTcp),
                    number => (Layer::EtherType(number), rest),
                }
            }
            Layer::Pppoe => {
                let (header, rest) = split::<6>(data)?;
                match header[1] {
                    0 => (Layer::Ppp, rest),
                    _ => return Err(Unread::NotTcp),
                }
            }
            Layer::PppDirection => (Layer::Ppp, data.get(1..).ok_or(Unread::TooShort)?),
            Layer::Ppp => ppp(data)?,
            Layer::CiscoHdlc => {
                let (header, rest) = split::<4>(data)?;
                (Layer::EtherType(short(header, 2)), rest)
            }
            Layer::Mpls => mpls(data)?,
            Layer::Nflog => (Layer::Ip, nflog(data)?),
            Layer::Ip => match ip(data, missing)? {
                Inner::Tcp(payload) => match carried(&payload)? {
                    None => return Ok(Inner::Tcp(payload)),
                    Some(next) => next,
                },
                fragment @ Inner::Fragment(..) => return Ok(fragment),
            },
        };
    }
    Err(Unread::NotDecoded("more than 64 layers of headers".into()))
}

/// `AF_INET`, and the values of `AF_INET6` in Linux, NetBSD and OpenBSD, FreeBSD, and macOS.
const LOOPBACK_FAMILIES: [u32; 5] = [2, 10, 24, 28, 30];

/// Linux's substitute for an EtherType before LLC (`ETH_P_802_2`).
const LINUX_802_2: u16 = 4;

/// Values up to this one are lengths, not types (IEEE 802.3 §3.2.6).
const LENGTH_MAX: u16 = 1500;

fn ether_type(number: u16, data: &[u8]) -> Result<(Layer, &[u8]), Unread> {
    Ok(match number {
        ..=LENGTH_MAX => (Layer::Llc, data),
        0x0800 | 0x86dd => (Layer::Ip, data),
        // VLAN tags: IEEE 802.1Q and 802.1ad, and an older type for the outer tag.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => {
            let (tag, rest) = split::<4>(data)?;
            (Layer::EtherType(short(tag, 2)), rest)
        }
        // A provider backbone tag (IEEE 802.1ah) in front of the customer's whole frame.
        0x88e7 => (Layer::Ethernet, split::<4>(data)?.1),
        0x8847 | 0x8848 => (Layer::Mpls, data),
        0x8864 => (Layer::Pppoe, data),
        0x880b => (Layer::Ppp, data),
        // Jumbo frames with LLC.
        0x8870 => (Layer::Llc, data),
        // Ethernet within another layer.
        0x6558 => (Layer::Ethernet, data),
        0x88e5 => return Err(not_decoded("MACsec")),
        0x894f => return Err(not_decoded("NSH")),
        0x22f3 => return Err(not_decoded("TRILL")),
        0x8903 => return Err(not_decoded("FabricPath")),
        0x8909 => return Err(not_decoded("Cisco MetaData")),
        0x4305 => return Err(not_decoded("batman-adv")),
        0xdada => return Err(not_decoded("a DSA tag of Marvell")),
        // HSR (IEC 62439-3), the redundancy tag of IEEE 802.1CB, and Cisco's VN-Tag: the next
        // EtherType is at the end of the tag.
        0x892f | 0xf1c1 | 0x8926 => {
            let (tag, rest) = split::<6>(data)?;
            (Layer::EtherType(short(tag, 4)), rest)
        }
        _ => return Err(Unread::NotTcp),
    })
}

fn llc(data: &[u8]) -> Result<(Layer, &[u8]), Unread> {
    match data {
        // SNAP (RFC 1042), and its translation by bridges (IEEE 802.1H).
        [0xaa, 0xaa, 3, 0, 0, 0 | 0xf8, high, low, rest @ ..] => {
            Ok((Layer::EtherType(u16::from_be_bytes([*high, *low])), rest))
        }
        [0x06, 0x06, 3, rest @ ..] => Ok((Layer::Ip, rest)),
        [0xaa, 0xaa, 3, ..] if data.len() < 8 => Err(Unread::TooShort),
        _ => Err(Unread::NotTcp),
    }
}

fn ppp(data: &[u8]) -> Result<(Layer, &[u8]), Unread> {
    // Cisco HDLC has the same link type (<https://www.tcpdump.org/linktypes.html>).
    if let [0x0f | 0x8f, 0, ..] = data {
        return Ok((Layer::CiscoHdlc, data));
    }
    // Address and control may be omitted; pppd replaces the address with the direction.
    let data = match data {
        [0xff | 0 | 1, 3, rest @ ..] => rest,
        data => data,
    };
    // A one-byte protocol is odd (RFC 1661 §2).
    let (protocol, rest) = match data {
        [low, rest @ ..] if low & 1 == 1 => (u16::from(*low), rest),
        [high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
        _ => return Err(Unread::TooShort),
    };
    Ok(match protocol {
        0x0021 | 0x0057 => (Layer::Ip, rest),
        0x0281 | 0x0283 => (Layer::Mpls, rest),
        0x002d | 0x002f => return Err(not_decoded("TCP headers compressed by PPP")),
        0x003d => return Err(not_decoded("multilink PPP")),
        0x00fb | 0x00fd => return Err(not_decoded("compressed PPP")),
        0x0053 | 0x0055 => return Err(not_decoded("encrypted PPP")),
        _ => return Err(Unread::NotTcp),
    })
}

/// A label stack does not say what follows it (RFC 4928 §3); the next four bits usually do.
fn mpls(data: &[u8]) -> Result<(Layer, &[u8]), Unread> {
    let mut rest = data;
    loop {
        let (label, after) = split::<4>(rest)?;
        rest = after;
        let is_last = label[2] & 1 == 1;
        if is_last {
            break;
        }
    }
    let first = *rest.first().ok_or(Unread::TooShort)?;
    let ethernet_at = |at: usize| {
        let header = rest.get(at..at + 14)?;
        let known = [0x0800, 0x86dd, 0x8100, 0x88a8, 0x8847, 0x8864];
        known.contains(&short(header, 12)).then(|| &rest[at..])
    };
    match first >> 4 {
        4 if is_ipv4(rest) => Ok((Layer::Ip, rest)),
        6 if rest.get(6).is_none_or(|next| *next != 0xff) && ethernet_at(0).is_none() => {
            Ok((Layer::Ip, rest))
        }
        // An Ethernet pseudowire, with or without a control word (RFC 4448 §4.6).
        _ => match ethernet_at(4).or_else(|| ethernet_at(0)) {
            Some(frame) => Ok((Layer::Ethernet, frame)),
            None => Err(not_decoded("a pseudowire over MPLS")),
        },
    }
}

/// Finds the packet's attribute. Numbers are in the byte order of the capturing machine; attribute
/// kinds are small and never 0, so the byte order is unambiguous.
fn nflog(data: &[u8]) -> Result<&[u8], Unread> {
    const PAYLOAD: u16 = 9; // NFULA_PAYLOAD
    let (_, mut rest) = split::<4>(data)?;
    let (first, _) = split::<4>(rest)?;
    let number_of = match first[2] {
        0 => u16::from_be_bytes,
        _ => u16::from_le_bytes,
    };
    loop {
        let (header, _) = split::<4>(rest)?;
        let number = |at: usize| number_of([header[at], header[at + 1]]);
        let bytes = usize::from(number(0));
        if number(2) == PAYLOAD {
            return Ok(&rest[4..bytes.clamp(4, rest.len())]);
        }
        rest = rest
            .get(bytes.max(4).next_multiple_of(4)..)
            .ok_or(Unread::TooShort)?;
    }
}

fn is_ipv4(data: &[u8]) -> bool {
    let header_bytes = data.first().map_or(0, |first| usize::from(first & 15) * 4);
    let total_bytes = data.get(2..4).map_or(0, |length| short(length, 0).into());
    header_bytes >= 20 && (total_bytes == 0 || total_bytes >= header_bytes)
}

/// Parses an IP packet. Its payload is called TCP until its protocol is checked; it may be a
/// fragment.
fn ip(data: &[u8], missing: usize) -> Result<Inner<'_>, Unread> {
    let whole_bytes = data.len() + missing;
    match data.first().ok_or(Unread::TooShort)? >> 4 {
        4 => {
            let header = match Ipv4HeaderSlice::from_slice(data) {
                Ok(header) => header,
                Err(_) if data.len() < 20 || is_ipv4(data) => return Err(Unread::TooShort),
                Err(_) => return Err(Unread::NotTcp),
            };
            let stated_bytes = stated(header.total_len(), 0);
            let walk = Walk {
                ends: Ends {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    identification: Some(header.identification()),
                    hops: header.ttl(),
                    header_bytes: header.slice().len(),
                },
                protocol: header.protocol().0,
                at: header.slice().len(),
                end: stated_bytes.unwrap_or(whole_bytes),
            };
            let piece = Piece {
                identification: header.identification().into(),
                offset: header.fragments_offset().byte_offset().into(),
                more: header.more_fragments(),
            };
            match piece.offset > 0 || piece.more {
                true => Ok(Inner::Fragment(walk.payload(data)?, piece)),
                false => walk.extensions(data),
            }
        }
        6 => {
            let header = Ipv6HeaderSlice::from_slice(data).map_err(|_| Unread::TooShort)?;
            let stated_bytes = stated(header.payload_length(), header.slice().len());
            let walk = Walk {
                ends: Ends {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    identification: None,
                    hops: header.hop_limit(),
                    header_bytes: header.slice().len(),
                },
                protocol: header.next_header().0,
                at: header.slice().len(),
                end: stated_bytes.unwrap_or(whole_bytes),
            };
            walk.extensions(data)
        }
        _ => Err(Unread::NotTcp),
    }
}

/// The length stated in a header; 0 means that it does not fit: a segment to be split by the
/// interface (TSO) or a jumbogram (RFC 2675). The packet then extends to the end of the frame.
fn stated(bytes: u16, more: usize) -> Option<usize> {
    (bytes > 0).then(|| usize::from(bytes) + more)
}

/// A walk through the headers of an IP packet.
struct Walk {
    ends: Ends,
    /// The protocol of the next header.
    protocol: u8,
    /// Offset of the next header.
    at: usize,
    /// The end of the packet, whether captured or not.
    end: usize,
}

impl Walk {
    fn payload<'a>(&self, data: &'a [u8]) -> Result<Payload<'a>, Unread> {
        if data.len() < self.at {
            return Err(Unread::TooShort);
        }
        // Short Ethernet frames are padded to the minimum length.
        let captured = data.get(self.at..self.end.min(data.len()));
        Ok(Payload {
            ends: self.ends,
            protocol: self.protocol,
            data: captured.unwrap_or_default(),
            bytes: self.end.checked_sub(self.at),
        })
    }

    /// Skips IPv6 extension headers. By hand, because etherparse reads beyond the end of truncated
    /// ones.
    fn extensions(mut self, data: &[u8]) -> Result<Inner<'_>, Unread> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const AUTHENTICATION: u8 = 51;
        const DESTINATION: u8 = 60;
        const MOBILITY: u8 = 135;
        const HOST_IDENTITY: u8 = 139;
        const SHIM6: u8 = 140;
        const EXTENSIONS_MAX: usize = 64;
        let is_v6 = self.ends.source.is_ipv6();
        for _ in 0..EXTENSIONS_MAX {
            let rest = data.get(self.at..).unwrap_or_default();
            let length = || rest.get(1).map(|length| usize::from(*length));
            let bytes = match self.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6 if is_v6 => {
                    (length().ok_or(Unread::TooShort)? + 1) * 8
                }
                AUTHENTICATION => (length().ok_or(Unread::TooShort)? + 2) * 4,
                FRAGMENT if is_v6 => 8,
                _ => return Ok(Inner::Tcp(self.payload(data)?)),
            };
            let header = rest.get(..bytes).ok_or(Unread::TooShort)?;
            let is_fragment = self.protocol == FRAGMENT;
            self.protocol = header[0];
            self.ends.header_bytes += bytes;
            self.at += bytes;
            if is_fragment {
                let place = short(header, 2);
                let piece = Piece {
                    identification: u32::from_be_bytes([
                        header[4], header[5], header[6], header[7],
                    ]),
                    offset: usize::from(place & !7),
                    more: place & 1 == 1,
                };
                // A fragment header in an unfragmented packet (RFC 6946).
                if piece.offset > 0 || piece.more {
                    return Ok(Inner::Fragment(self.payload(data)?, piece));
                }
            }
        }
        Err(not_decoded("more than 64 extension headers of IP"))
    }
}

/// Whether a protocol number is ICMP or ICMPv6.
pub(super) fn is_icmp(protocol: u8) -> bool {
    protocol == ip_number::ICMP.0 || protocol == ip_number::IPV6_ICMP.0
}

/// The layer inside an IP payload; `None` if that is TCP.
fn carried<'a>(payload: &Payload<'a>) -> Result<Option<(Layer, &'a [u8])>, Unread> {
    const UDP: u8 = 17;
    const GRE: u8 = 47;
    let data = payload.data;
    Ok(Some(match payload.protocol {
        // ICMP may be an error about a segment.
        number if number == ip_number::TCP.0 || is_icmp(number) => return Ok(None),
        4 | 41 | 94 => (Layer::Ip, data),
        UDP => udp(data)?,
        GRE => gre(data)?,
        50 => return Err(not_decoded("ESP")),
        55 => return Err(not_decoded("minimal encapsulation (RFC 2004)")),
        // EtherIP (RFC 3378)
        97 => (Layer::Ethernet, split::<2>(data)?.1),
        108 => return Err(not_decoded("IPComp")),
        115 => return Err(not_decoded("L2TPv3")),
        137 => (Layer::Mpls, data),
        _ => return Err(Unread::NotTcp),
    }))
}

fn udp(data: &[u8]) -> Result<(Layer, &[u8]), Unread> {
    let (header, rest) = split::<8>(data)?;
    let ports = [short(header, 0), short(header, 2)];
    let is = |port: u16| ports.contains(&port);
    if is(4789) {
        // VXLAN (RFC 7348): without this flag the frame belongs to no network.
        let (header, rest) = split::<8>(rest)?;
        return match header[0] & 8 {
            0 => Err(Unread::NotTcp),
            _ => Ok((Layer::Ethernet, rest)),
        };
    }
    // Linux used VXLAN before a port was assigned, and still defaults to this one; others use it
    // too.
    if is(8472)
        && let Some(([8, 0, 0, 0, .., 0], rest)) = rest.split_first_chunk::<8>()
    {
        return Ok((Layer::Ethernet, rest));
    }
    if is(4790) {
        let (header, rest) = split::<8>(rest)?;
        return match header[3] {
            1 | 2 => Ok((Layer::Ip, rest)),
            3 => Ok((Layer::Ethernet, rest)),
            _ => Err(not_decoded("VXLAN-GPE")),
        };
    }
    if is(6081) {
        // Geneve (RFC 8926)
        let (header, rest) = split::<8>(rest)?;
        let options_bytes = usize::from(header[0] & 0x3f) * 4;
        let rest = rest.get(options_bytes..).ok_or(Unread::TooShort)?;
        return Ok((Layer::EtherType(short(header, 2)), rest));
    }
    if is(6635) {
        return Ok((Layer::Mpls, rest));
    }
    if is(1701) {
        return l2tp(rest);
    }
    if is(2152) {
        return gtp(rest);
    }
    // Teredo (RFC 4380), unless it begins with an authentication or origin header.
    if is(3544) && rest.first().is_some_and(|first| first >> 4 == 6) {
        return Ok((Layer::Ip, rest));
    }
    let tunnels = [
        (3544, "Teredo"),
        (4341, "LISP"),
        (4500, "ESP in UDP"),
        (5247, "CAPWAP"),
        (6080, "GUE"),
        (51820, "WireGuard"),
    ];
    match tunnels.into_iter().find(|(port, _)| is(*port)) {
        Some((_, name)) => Err(not_decoded(name)),
        None => Err(Unread::NotTcp),
    }
}

/// L2TP (RFC 2661 §3.1).
fn l2tp(data: &[u8]) -> Result<(Layer, &[u8]), Unread> {
    const CONTROL: u16 = 0x8000;
    const LENGTH: u16 = 0x4000;
    const SEQUENCE: u16 = 0x0800;
    const OFFSET: u16 = 0x0200;
    let (header, mut rest) = split::<2>(data)?;
    let flags = short(header, 0);
    if flags & 15 != 2 {
        return Err(not_decoded("L2TP"));
    }
    if flags & CONTROL != 0 {
        return Err(Unread::NotTcp);
    }
    for (flag, bytes) in [(LENGTH, 2), (0, 4), (SEQUENCE, 4)] {
        if flag == 0 || flags & flag != 0 {
            rest = rest.get(bytes..).ok_or(Unread::TooShort)?;
        }
    }
    if flags & OFFSET != 0 {
        let (header, after) = split::<2>(rest)?;
        let bytes = usize::from(short(header, 0));
        rest = after.get(bytes..).ok_or(Unread::TooShort)?;
    }
    Ok((Layer::Ppp, rest))
}

/// GTP-U (3GPP TS 29.281 §5).
fn gtp(data: &[u8]) -> Result<(Layer, &[u8]), Unread> {
    const PACKET: u8 = 0xff;
    let (header, mut rest) = split::<8>(data)?;
    if header[0] >> 4 != 3 {
        return Err(not_decoded("GTP-U"));
    }
    if header[1] != PACKET {
        return Err(Unread::NotTcp);
    }
    if header[0] & 7 != 0 {
        let (fields, after) = split::<4>(rest)?;
        rest = after;
        let mut next = fields[3];
        while header[0] & 4 != 0 && next != 0 {
            let bytes = usize::from(*rest.first().ok_or(Unread::TooShort)?) * 4;
            let extension = rest.get(..bytes).ok_or(Unread::TooShort)?;
            next = *extension.last().ok_or(Unread::NotTcp)?;
            rest = &rest[bytes..];
        }
    }
    Ok((Layer::Ip, rest))
}

/// GRE (RFC 2784, RFC 2890); version 1 carries PPP (RFC 2637).
fn gre(data: &[u8]) -> Result<(Layer, &[u8]), Unread> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGEMENT: u16 = 0x0080;
    let (header, rest) = split::<4>(data)?;
    let (flags, protocol) = (short(header, 0), short(header, 2));
    if flags & ROUTING != 0 {
        return Err(not_decoded("GRE with source routes"));
    }
    let is_version_1 = flags & 7 == 1;
    let fields = [
        flags & CHECKSUM != 0,
        flags & KEY != 0,
        flags & SEQUENCE != 0,
        is_version_1 && flags & ACKNOWLEDGEMENT != 0,
    ];
    let bytes = fields.iter().filter(|is_there| **is_there).count() * 4;
    let rest = rest.get(bytes..).ok_or(Unread::TooShort)?;
    match protocol {
        // A PPTP acknowledgement without payload.
        0x880b if flags & SEQUENCE == 0 => Err(Unread::NotTcp),
        // ERSPAN, a copied frame: type I has no header, type II has one.
        0x88be if flags & SEQUENCE == 0 => Ok((Layer::Ethernet, rest)),
        0x88be => Ok((Layer::Ethernet, split::<8>(rest)?.1)),
        // ERSPAN type III, with 8 more bytes if a flag says so.
        0x22eb => {
            let (header, rest) = split::<12>(rest)?;
            match header[11] & 1 {
                0 => Ok((Layer::Ethernet, rest)),
                _ => Ok((Layer::Ethernet, split::<8>(rest)?.1)),
            }
        }
        // WCCP: the header of version 2 cannot be mistaken for an IP header.
        0x883e if rest.first().is_some_and(|first| first >> 4 == 4) => Ok((Layer::Ip, rest)),
        0x883e => Ok((Layer::Ip, split::<4>(rest)?.1)),
        protocol => Ok((Layer::EtherType(protocol), rest)),
    }
}

fn not_decoded(name: &'static str) -> Unread {
    Unread::NotDecoded(name.into())
}

fn split<const N: usize>(data: &[u8]) -> Result<(&[u8; N], &[u8]), Unread> {
    data.split_first_chunk().ok_or(Unread::TooShort)
}

/// The 16-bit number at this offset, which must exist.
fn short(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

/// Names of link types that capture programs commonly write: `IEEE 802.11 (link type 105)`.
fn link_name(number: u16) -> Cow<'static, str> {
    let name = match number {
        3 => "AX.25",
        6 => "Token Ring",
        7 | 129 => "ARCNET",
        8 => "SLIP",
        10 => "FDDI",
        100 | 106 | 123 => "ATM",
        105 => "IEEE 802.11",
        107 => "Frame Relay",
        114 => "LocalTalk",
        117 => "pflog",
        119 => "IEEE 802.11 with a Prism header",
        122 => "Fibre Channel",
        127 => "IEEE 802.11 with a radiotap header",
        138 => "IEEE 1394",
        143 | 273 => "DOCSIS",
        144 => "IrDA",
        147..=162 => "a private link type",
        163 => "IEEE 802.11 with an AVS header",
        187 | 201 | 254 => "Bluetooth",
        186 | 189 | 220 | 249 | 266 | 288 | 292..=295 => "USB",
        192 => "PPI",
        195 | 215 | 230 | 283 => "IEEE 802.15.4",
        197 => "ERF",
        203 => "LAPD",
        224 | 225 => "Fibre Channel",
        227 => "CAN",
        231 => "D-Bus",
        240 | 241 => "netANALYZER",
        242 => "IP over InfiniBand",
        243 => "MPEG-2",
        247 => "InfiniBand",
        248 => "SCTP",
        251 | 256 | 272 => "Bluetooth Low Energy",
        252 => "exported PDUs of Wireshark",
        253 => "netlink",
        258 => "PKTAP",
        271 => "vsock",
        274 => "Ethernet with preamble",
        _ => "an unknown link layer",
    };
    format!("{name} (link type {number})").into()
}
