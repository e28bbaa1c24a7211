//! Finds the TCP segment in a frame. A frame may contain anything that someone sent or wrote; the
//! worst result is that no segment is found.

use std::net::SocketAddr;

use super::super::model::{Flags, IcmpError, Packet, TcpOption};
use super::Frame;
use super::fragments::Fragments;
use super::icmp;
use super::layers::{Inner, Payload, Unread, in_frame, in_payload, is_icmp};

impl Frame {
    /// The TCP segment. `None` without a complete TCP header: another protocol, a later IP
    /// fragment, a frame that was cut too short.
    pub fn packet(&self) -> Option<Packet> {
        let mut inner = in_frame(self.link, &self.data, self.missing_bytes()).ok()?;
        for _ in 0..FRAGMENTED_MAX {
            inner = match inner {
                Inner::Tcp(payload) => return self.segment(&payload).ok(),
                Inner::Fragment(payload, piece) if piece.offset == 0 => {
                    in_payload(payload, self.missing_bytes()).ok()?
                }
                Inner::Fragment(..) => return None,
            };
        }
        None
    }

    /// The TCP segment of the frame with this index in a capture; a fragmented segment is returned
    /// with its last fragment.
    pub(super) fn packet_of(
        &self,
        number: usize,
        fragments: &mut Fragments,
    ) -> Result<Packet, Unread> {
        let missing = self.missing_bytes();
        let mut inner = in_frame(self.link, &self.data, missing)?;
        let mut whole;
        for _ in 0..FRAGMENTED_MAX {
            let (payload, piece) = match inner {
                Inner::Tcp(payload) => return self.segment(&payload),
                Inner::Fragment(payload, piece) => (payload, piece),
            };
            whole =
                (fragments.take(number, self.at_ns, &payload, piece)).ok_or(Unread::Fragment)?;
            inner = in_payload(whole.payload(), 0)?;
        }
        Err(Unread::Fragment)
    }

    /// The ICMP error about a TCP segment.
    pub fn icmp_error(&self) -> Option<IcmpError> {
        let inner = in_frame(self.link, &self.data, self.missing_bytes()).ok()?;
        let Inner::Tcp(ip) = inner else { return None };
        let quote = icmp::quote(ip.protocol, ip.data)?;
        Some(IcmpError {
            at_ns: self.at_ns,
            by: ip.ends.source,
            why: quote.why,
            source: quote.source,
            destination: quote.destination,
            sequence: quote.sequence,
        })
    }

    /// The number of bytes on the wire that were not captured.
    fn missing_bytes(&self) -> usize {
        (self.original_bytes as usize).saturating_sub(self.data.len())
    }

    /// Parses the payload of an IP packet as TCP.
    pub(super) fn segment(&self, ip: &Payload<'_>) -> Result<Packet, Unread> {
        if is_icmp(ip.protocol) {
            return Err(match icmp::quote(ip.protocol, ip.data) {
                Some(_) => Unread::Icmp,
                None => Unread::NotTcp,
            });
        }
        // By hand, because etherparse rejects a header with truncated options.
        let (header, rest) =
            (ip.data.split_first_chunk::<TCP_HEADER_BYTES>()).ok_or(Unread::TooShort)?;
        let header_bytes = usize::from(header[12] >> 4) * 4;
        let lengths = || {
            let option_bytes = header_bytes.checked_sub(TCP_HEADER_BYTES)?;
            let payload_bytes = ip.bytes?.checked_sub(header_bytes)?;
            let ip_bytes = ip.bytes?.checked_add(ip.ends.header_bytes)?;
            Some((
                option_bytes,
                u32::try_from(payload_bytes).ok()?,
                u32::try_from(ip_bytes).ok()?,
            ))
        };
        // Contradictory lengths do not belong to a segment.
        let (option_bytes, payload_bytes, ip_bytes) = lengths().ok_or(Unread::NotTcp)?;
        // Options that were not captured are as unreadable as malformed ones.
        let captured = &rest[..option_bytes.min(rest.len())];
        let (options, complete) = options(captured);
        let payload = rest.get(option_bytes..).unwrap_or_default();
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let long =
            |at| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Ok(Packet {
            at_ns: self.at_ns,
            interface: self.interface.clone(),
            source: SocketAddr::new(ip.ends.source, word(0)),
            destination: SocketAddr::new(ip.ends.destination, word(2)),
            identification: ip.ends.identification,
            hops: ip.ends.hops,
            ip_bytes,
            flags: flags(header[13]),
            sequence: long(4),
            acknowledgement: long(8),
            window: word(14),
            options,
            malformed_options: !complete || captured.len() < option_bytes,
            payload_bytes,
            payload: payload[..payload.len().min(payload_bytes as usize)].to_vec(),
        })
    }
}

const TCP_HEADER_BYTES: usize = 20;

/// The depth of nested tunnels that may each fragment the packet.
const FRAGMENTED_MAX: usize = 4;

fn flags(bits: u8) -> Flags {
    let is_set = |bit: u8| bits & (1 << bit) != 0;
    Flags {
        fin: is_set(0),
        syn: is_set(1),
        rst: is_set(2),
        psh: is_set(3),
        ack: is_set(4),
        urg: is_set(5),
        ece: is_set(6),
        cwr: is_set(7),
    }
}

/// Parses options up to the end, the end-of-list option, or a malformed one; returns whether all
/// were parsed. (etherparse stops at unknown kinds.)
fn options(mut bytes: &[u8]) -> (Vec<TcpOption>, bool) {
    let mut options = Vec::new();
    while let [kind, rest @ ..] = bytes {
        match kind {
            0 => {
                options.push(TcpOption::Other(0, Vec::new()));
                break;
            }
            1 => {
                options.push(TcpOption::Nop);
                bytes = rest;
            }
            kind => {
                let length = rest.first().map_or(0, |length| usize::from(*length));
                let Some(data) = bytes.get(2..length) else {
                    return (options, false);
                };
                options.push(option(*kind, data));
                bytes = &bytes[length..];
            }
        }
    }
    (options, true)
}

fn option(kind: u8, data: &[u8]) -> TcpOption {
    let long = |bytes: &[u8; 4]| u32::from_be_bytes(*bytes);
    match (kind, data) {
        (2, &[high, low]) => TcpOption::MaximumSegmentSize(u16::from_be_bytes([high, low])),
        (3, &[bits]) => TcpOption::WindowScale(bits),
        (4, &[]) => TcpOption::SackPermitted,
        (5, data) if data.len() % 8 == 0 => {
            let (numbers, _) = data.as_chunks::<4>();
            let (blocks, _) = numbers.as_chunks::<2>();
            TcpOption::Sack(
                blocks
                    .iter()
                    .map(|[from, to]| (long(from), long(to)))
                    .collect(),
            )
        }
        (8, &[a, b, c, d, e, f, g, h]) => TcpOption::Timestamps {
            value: long(&[a, b, c, d]),
            echo: long(&[e, f, g, h]),
        },
        _ => TcpOption::Other(kind, data.to_vec()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use etherparse::{PacketBuilder, TcpOptionElement};
    use proptest::prelude::*;

    use super::super::{Capture, Link};
    use super::*;

    /// A frame of these bytes.
    pub(in super::super) fn frame(link: Link, data: Vec<u8>) -> Frame {
        let original_bytes = data.len() as u32;
        Frame {
            at_ns: 7,
            interface: None,
            link,
            data,
            original_bytes,
        }
    }

    const CLIENT: u16 = 40000;
    const SERVER: u16 = 8000;
    const PAYLOAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    /// A request from client to server over IPv4, from the IP header on.
    fn ipv4() -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([127, 0, 0, 1], [127, 0, 0, 2], 64)
            .tcp(CLIENT, SERVER, 1000, 512)
            .ack(2000)
            .psh()
            .options(&[
                TcpOptionElement::Noop,
                TcpOptionElement::Noop,
                TcpOptionElement::Timestamp(11, 12),
            ])
            .unwrap()
            .write(&mut bytes, PAYLOAD)
            .unwrap();
        bytes
    }

    fn ipv6() -> Vec<u8> {
        let (source, mut destination) = ([0; 16], [0; 16]);
        destination[15] = 1;
        let mut bytes = Vec::new();
        PacketBuilder::ipv6(source, destination, 33)
            .tcp(CLIENT, SERVER, 1000, 512)
            .syn()
            .write(&mut bytes, &[])
            .unwrap();
        bytes
    }

    /// `ipv6` with these extension headers inserted; each contains its successor's number.
    fn extended(extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = ipv6();
        let mut middle = Vec::new();
        for (at, (_, body)) in extensions.iter().enumerate() {
            middle.push(extensions.get(at + 1).map_or(6, |next| next.0));
            middle.extend_from_slice(body);
        }
        bytes[6] = extensions[0].0;
        let length = u16::from_be_bytes([bytes[4], bytes[5]]) + middle.len() as u16;
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
        bytes.splice(40..40, middle);
        bytes
    }

    fn with(prefix: &[u8], ip: &[u8]) -> Vec<u8> {
        [prefix, ip].concat()
    }

    const MACS: [u8; 12] = [0; 12];

    #[test]
    fn every_link_layer() {
        let (v4, v6) = (ipv4(), ipv6());
        let ethernet = |types: &[u8], ip: &[u8]| with(&[&MACS, types].concat(), ip);
        let cooked = |protocol: [u8; 2], ip: &[u8]| with(&[&[0; 14], &protocol[..]].concat(), ip);
        let cooked2 = |protocol: [u8; 2], ip: &[u8]| with(&[&protocol[..], &[0; 18]].concat(), ip);
        let rows = [
            ("Ethernet", Link::Ethernet, ethernet(&[8, 0], &v4), true),
            (
                "Ethernet, IPv6",
                Link::Ethernet,
                ethernet(&[0x86, 0xdd], &v6),
                false,
            ),
            (
                "VLAN",
                Link::Ethernet,
                ethernet(&[0x81, 0, 0, 5, 8, 0], &v4),
                true,
            ),
            (
                "VLAN in VLAN",
                Link::Ethernet,
                ethernet(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd], &v6),
                false,
            ),
            (
                "padded",
                Link::Ethernet,
                [ethernet(&[8, 0], &v4), vec![0; 9]].concat(),
                true,
            ),
            ("cooked", Link::LinuxCooked, cooked([8, 0], &v4), true),
            (
                "cooked, IPv6",
                Link::LinuxCooked,
                cooked([0x86, 0xdd], &v6),
                false,
            ),
            ("cooked 2", Link::LinuxCooked2, cooked2([8, 0], &v4), true),
            (
                "cooked 2, IPv6",
                Link::LinuxCooked2,
                cooked2([0x86, 0xdd], &v6),
                false,
            ),
            ("raw", Link::Ip(101), v4.clone(), true),
            ("raw, IPv6", Link::Ip(229), v6.clone(), false),
            ("NULL", Link::Null, with(&[2, 0, 0, 0], &v4), true),
            (
                "NULL, the other byte order",
                Link::Null,
                with(&[0, 0, 0, 2], &v4),
                true,
            ),
            (
                "NULL, IPv6 of macOS",
                Link::Null,
                with(&[30, 0, 0, 0], &v6),
                false,
            ),
            ("LOOP", Link::Loop, with(&[0, 0, 0, 24], &v6), false),
        ];
        for (what, link, data, is_v4) in rows {
            let packet = frame(link, data)
                .packet()
                .unwrap_or_else(|| panic!("{what}"));
            let hops = if is_v4 { 64 } else { 33 };
            assert_eq!(packet.source.port(), CLIENT, "{what}");
            assert_eq!(packet.destination.port(), SERVER, "{what}");
            assert_eq!((packet.hops, packet.at_ns), (hops, 7), "{what}");
            assert_eq!(packet.sequence, 1000, "{what}");
            let (ip_bytes, payload) = if is_v4 {
                (v4.len(), PAYLOAD)
            } else {
                (v6.len(), &[][..])
            };
            assert_eq!(packet.ip_bytes as usize, ip_bytes, "{what}");
            assert_eq!(packet.payload, payload, "{what}");
            assert_eq!(packet.payload_bytes as usize, payload.len(), "{what}");
        }
    }

    fn tunnel(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        bytes.extend([1, 1, 1, 1, 2, 2, 2, 2]);
        bytes.extend_from_slice(payload);
        let length = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&length);
        bytes
    }

    fn tunnel6(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16).to_be_bytes();
        let head = [0x60, 0, 0, 0, length[0], length[1], protocol, 64];
        [&head[..], &[1; 32], payload].concat()
    }

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let ports = [1_u16, port].map(u16::to_be_bytes).concat();
        let length = (payload.len() as u16 + 8).to_be_bytes();
        tunnel(17, &[&ports[..], &length, &[0, 0], payload].concat())
    }

    /// Every encapsulation that may surround a segment.
    fn encapsulations() -> Vec<(&'static str, Link, Vec<u8>)> {
        let (v4, v6) = (ipv4(), ipv6());
        let typed =
            |number: u16, rest: &[u8]| with(&[&MACS[..], &number.to_be_bytes()].concat(), rest);
        let inner = typed(0x0800, &v4);
        let over_ip = |protocol: u8, header: &[u8], rest: &[u8]| {
            typed(0x0800, &tunnel(protocol, &[header, rest].concat()))
        };
        let over_udp = |port: u16, header: &[u8], rest: &[u8]| {
            typed(0x0800, &udp(port, &[header, rest].concat()))
        };
        let tags = |number: usize| {
            typed(
                0x8100,
                &[&[0, 5, 0x81, 0].repeat(number - 1), &[0, 5, 8, 0][..], &v4].concat(),
            )
        };
        let label = [0, 1, 1, 64];
        let gre = |flags: u16, protocol: u16, fields: usize, rest: &[u8]| {
            let numbers = [flags, protocol].map(u16::to_be_bytes).concat();
            over_ip(47, &[&numbers[..], &vec![0; fields]].concat(), rest)
        };
        let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
        use Link::Ethernet as E;
        vec![
            ("3 VLAN tags", E, tags(3)),
            ("4 VLAN tags", E, tags(4)),
            ("20 VLAN tags", E, tags(20)),
            (
                "the older outer tag",
                E,
                typed(0x9100, &with(&[0, 5, 0x81, 0, 0, 6, 8, 0], &v4)),
            ),
            (
                "a provider backbone",
                E,
                typed(0x88e7, &with(&[0, 0, 0, 1], &inner)),
            ),
            (
                "LLC and SNAP",
                E,
                typed(v4.len() as u16 + 8, &with(&snap, &v4)),
            ),
            ("LLC", E, typed(v4.len() as u16 + 3, &with(&[6, 6, 3], &v4))),
            (
                "SNAP in a VLAN",
                E,
                typed(0x8100, &with(&[&[0, 5, 0, 80], &snap[..]].concat(), &v4)),
            ),
            ("MPLS", E, typed(0x8847, &with(&label, &v4))),
            ("MPLS, IPv6", E, typed(0x8847, &with(&label, &v6))),
            (
                "a stack of labels",
                E,
                typed(
                    0x8847,
                    &[&[0, 1, 0, 64].repeat(7)[..], &label, &v4].concat(),
                ),
            ),
            (
                "a pseudowire with a control word",
                E,
                typed(0x8847, &[&label[..], &[0; 4], &inner].concat()),
            ),
            (
                "a pseudowire without",
                E,
                typed(0x8848, &with(&label, &inner)),
            ),
            (
                "PPPoE",
                E,
                typed(0x8864, &with(&[0x11, 0, 0, 1, 0, 72, 0, 0x21], &v4)),
            ),
            (
                "PPPoE, a protocol of one byte",
                E,
                typed(0x8864, &with(&[0x11, 0, 0, 1, 0, 71, 0x21], &v4)),
            ),
            (
                "PPPoE, IPv6",
                E,
                typed(0x8864, &with(&[0x11, 0, 0, 1, 0, 62, 0, 0x57], &v6)),
            ),
            ("PPP", Link::Ppp(9), with(&[0xff, 3, 0, 0x21], &v4)),
            ("PPP without address", Link::Ppp(50), with(&[0, 0x21], &v4)),
            ("PPP of pppd", Link::Ppp(166), with(&[1, 3, 0, 0x21], &v4)),
            (
                "PPP with MPLS",
                Link::Ppp(9),
                with(&[&[0xff, 3, 2, 0x81][..], &label].concat(), &v4),
            ),
            (
                "PPP with a direction",
                Link::PppDirection,
                with(&[1, 0xff, 3, 0, 0x21], &v4),
            ),
            (
                "PPPoE alone",
                Link::Pppoe,
                with(&[0x11, 0, 0, 1, 0, 72, 0, 0x21], &v4),
            ),
            ("Cisco HDLC", Link::CiscoHdlc, with(&[0x0f, 0, 8, 0], &v4)),
            (
                "Cisco HDLC as PPP",
                Link::Ppp(50),
                with(&[0x8f, 0, 0x86, 0xdd], &v6),
            ),
            ("labels alone", Link::Mpls, with(&label, &v4)),
            ("IP in IP", E, over_ip(4, &[], &v4)),
            ("IPv6 in IPv4", E, over_ip(41, &[], &v6)),
            ("IPv4 in IPv6", E, typed(0x86dd, &tunnel6(4, &v4))),
            ("IPv6 in IPv6", E, typed(0x86dd, &tunnel6(41, &v6))),
            ("EtherIP", E, over_ip(97, &[0x30, 0], &inner)),
            ("MPLS in IP", E, over_ip(137, &label, &v4)),
            ("GRE", E, gre(0, 0x0800, 0, &v4)),
            ("GRE, IPv6", E, gre(0, 0x86dd, 0, &v6)),
            ("GRE with a key", E, gre(0x2000, 0x0800, 4, &v4)),
            ("GRE with everything", E, gre(0xb000, 0x0800, 12, &v4)),
            ("GRE, bridged", E, gre(0x2000, 0x6558, 4, &inner)),
            (
                "GRE, PPTP",
                E,
                gre(0x3001, 0x880b, 8, &with(&[0xff, 3, 0, 0x21], &v4)),
            ),
            ("GRE, MPLS", E, gre(0, 0x8847, 0, &with(&label, &v4))),
            (
                "GRE over IPv6",
                E,
                typed(0x86dd, &tunnel6(47, &with(&[0, 0, 8, 0], &v4))),
            ),
            ("ERSPAN I", E, gre(0, 0x88be, 0, &inner)),
            (
                "ERSPAN II",
                E,
                gre(
                    0x1000,
                    0x88be,
                    4,
                    &with(&[0x10, 1, 0, 0, 0, 0, 0, 0], &inner),
                ),
            ),
            (
                "ERSPAN III",
                E,
                gre(
                    0x1000,
                    0x22eb,
                    4,
                    &with(&[0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &inner),
                ),
            ),
            (
                "VXLAN",
                E,
                over_udp(4789, &[8, 0, 0, 0, 0, 0, 1, 0], &inner),
            ),
            (
                "VXLAN in a VLAN",
                E,
                typed(
                    0x8100,
                    &with(
                        &[0, 5, 8, 0],
                        &udp(4789, &with(&[8, 0, 0, 0, 0, 0, 1, 0], &tags(2))),
                    ),
                ),
            ),
            (
                "VXLAN-GPE",
                E,
                over_udp(4790, &[12, 0, 0, 1, 0, 0, 1, 0], &v4),
            ),
            (
                "Geneve",
                E,
                over_udp(6081, &[0, 0, 0x65, 0x58, 0, 0, 1, 0], &inner),
            ),
            (
                "Geneve with options",
                E,
                over_udp(6081, &[1, 0, 0x65, 0x58, 0, 0, 1, 0, 1, 3, 1, 0], &inner),
            ),
            ("MPLS in UDP", E, over_udp(6635, &label, &v4)),
            (
                "cooked, VLAN",
                Link::LinuxCooked,
                with(&[&[0; 14], &[0x81, 0, 0, 5, 8, 0][..]].concat(), &v4),
            ),
            (
                "cooked 2, VLAN",
                Link::LinuxCooked2,
                with(&[&[0x81, 0], &[0; 18][..], &[0, 5, 8, 0]].concat(), &v4),
            ),
            (
                "cooked, LLC",
                Link::LinuxCooked,
                with(&[&[0; 14], &[0, 4][..], &snap].concat(), &v4),
            ),
            (
                "a tunnel in a tunnel in a tunnel",
                E,
                over_ip(4, &[], &tunnel(47, &with(&[0, 0, 8, 0], &tunnel(4, &v4)))),
            ),
            ("HSR", E, typed(0x892f, &with(&[0, 0x40, 0, 1, 8, 0], &v4))),
            (
                "a redundancy tag",
                E,
                typed(0xf1c1, &with(&[0, 0, 0, 9, 8, 0], &v4)),
            ),
            (
                "a VN-Tag and a VLAN",
                E,
                typed(0x8926, &with(&[0x80, 1, 0, 2, 0x81, 0, 0, 5, 8, 0], &v4)),
            ),
            (
                "VXLAN on the port of Linux",
                E,
                over_udp(8472, &[8, 0, 0, 0, 0, 0, 1, 0], &inner),
            ),
            (
                "GTP-U",
                E,
                over_udp(2152, &[0x30, 0xff, 0, 70, 0, 0, 0, 1], &v4),
            ),
            (
                "GTP-U with an extension",
                E,
                over_udp(
                    2152,
                    &[0x34, 0xff, 0, 78, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 9, 0],
                    &v4,
                ),
            ),
            (
                "L2TP",
                E,
                over_udp(1701, &[0, 2, 0, 1, 0, 1, 0xff, 3, 0, 0x21], &v4),
            ),
            (
                "L2TP with a length and numbers",
                E,
                over_udp(
                    1701,
                    &[0x48, 2, 0, 86, 0, 1, 0, 1, 0, 1, 0, 0, 0xff, 3, 0, 0x21],
                    &v4,
                ),
            ),
            ("Teredo", E, over_udp(3544, &[], &v6)),
            (
                "netfilter's log, most significant byte first",
                Link::Nflog,
                with(
                    &[
                        &[2, 0, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0],
                        &[0, (v4.len() + 4) as u8, 0, 9][..],
                    ]
                    .concat(),
                    &v4,
                ),
            ),
            (
                "netfilter's log",
                Link::Nflog,
                with(
                    &[
                        &[2, 0, 0, 0, 5, 0, 10, 0, 0, 0, 0, 0],
                        &[(v4.len() + 4) as u8, 0, 9, 0][..],
                    ]
                    .concat(),
                    &v4,
                ),
            ),
        ]
    }

    #[test]
    fn every_encapsulation() {
        let (v4, v6) = (ipv4(), ipv6());
        for (what, link, data) in encapsulations() {
            let packet = frame(link, data).packet();
            let packet = packet.unwrap_or_else(|| panic!("{what}"));
            assert_eq!(
                (packet.source.port(), packet.sequence),
                (CLIENT, 1000),
                "{what}"
            );
            let is_v4 = packet.source.is_ipv4();
            let (bytes, payload) = if is_v4 {
                (v4.len(), PAYLOAD)
            } else {
                (v6.len(), &[][..])
            };
            assert_eq!(
                (packet.ip_bytes as usize, &packet.payload[..]),
                (bytes, payload),
                "{what}"
            );
        }
    }

    /// A file with all frames, each from its own interface.
    fn pcapng(frames: &[(&str, Link, Vec<u8>)]) -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let mut body = body.to_vec();
            body.resize(body.len().next_multiple_of(4), 0);
            let length = (body.len() as u32 + 12).to_le_bytes();
            [&kind.to_le_bytes(), &length, &body[..], &length].concat()
        };
        let section = [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
        let mut file = block(0x0a0d_0d0a, &[section, [0xff; 8]].concat());
        for (_, link, _) in frames {
            file.extend(block(
                1,
                &[link.number().to_le_bytes(), [0; 2], [0; 2], [4, 0]].concat(),
            ));
        }
        for (number, (_, _, data)) in frames.iter().enumerate() {
            let length = data.len() as u32;
            let numbers = [number as u32, 0, 0, length, length].map(u32::to_le_bytes);
            file.extend(block(6, &[&numbers.concat(), &data[..]].concat()));
        }
        file
    }

    #[test]
    fn tshark_reads_the_same_in_every_encapsulation() {
        use std::io::{Write as _, stderr};

        /// Encapsulations that tshark 4.0 does not decode.
        const ONLY_OURS: [&str; 5] = [
            // tshark assumes the file's byte order, which is another here.
            "netfilter's log, most significant byte first",
            // tshark knows only the other port.
            "VXLAN on the port of Linux",
            // tshark guesses at pseudowires only on request.
            "a pseudowire with a control word",
            // Link types without a name in tshark.
            "PPP of pppd",
            "labels alone",
        ];
        let frames = encapsulations();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&pcapng(&frames)).unwrap();
        let capture = super::super::read(file.path()).unwrap();
        assert_eq!(
            (capture.frames.len(), &capture.notes[..]),
            (frames.len(), &[][..])
        );
        let tshark = std::process::Command::new("tshark")
            .env("WIRESHARK_CONFIG_DIR", "/nonexistent")
            .args(["-n", "-T", "fields", "-e", "tcp.srcport", "-r"])
            .arg(file.path())
            .output();
        let Ok(output) = tshark else {
            // This is printed even if the test passes.
            let _ = writeln!(
                stderr(),
                "SKIPPED: tshark is not installed: encapsulations are not compared"
            );
            return;
        };
        let theirs = String::from_utf8(output.stdout).unwrap();
        let theirs: Vec<bool> = theirs.lines().map(|line| !line.trim().is_empty()).collect();
        assert_eq!(theirs.len(), frames.len());
        for (number, (what, ..)) in frames.iter().enumerate() {
            let ours = capture.frames[number].packet().is_some();
            let agrees = ours == theirs[number] || (ours && ONLY_OURS.contains(what));
            assert!(agrees, "{what}: tshark sees {}", theirs[number]);
        }
    }

    /// An encapsulation that is not decoded is named, and not reported as something else.
    #[test]
    fn what_is_not_decoded_is_named() {
        let typed = |number: u16| with(&[&MACS[..], &number.to_be_bytes()].concat(), &[0; 60]);
        let over_udp = |port: u16| udp(port, &[0; 60]);
        let ppp = |number: u16| with(&number.to_be_bytes(), &[0; 60]);
        let ip = Link::Ip(101);
        let rows = [
            (Link::Other(105), vec![0; 60]),
            (Link::Other(127), vec![0; 60]),
            (Link::Other(220), vec![0; 60]),
            (Link::Other(4242), vec![0; 60]),
            (Link::Ethernet, typed(0x88e5)),
            (Link::Ethernet, typed(0x4305)),
            (Link::Ethernet, typed(0xdada)),
            (
                Link::Ethernet,
                with(&[&MACS[..], &[0x88, 0x47, 0, 1, 1, 64]].concat(), &[0; 60]),
            ),
            (Link::Ppp(9), ppp(0x003d)),
            (Link::Ppp(9), ppp(0x002d)),
            (ip, tunnel(50, &[0; 60])),
            (ip, tunnel(115, &[0; 60])),
            (ip, tunnel(47, &[0x40; 60])),
            (ip, over_udp(2152)),
            (ip, over_udp(1701)),
            (ip, over_udp(3544)),
            // A frame that is certainly not TCP is reported as such.
            (ip, over_udp(53)),
            (ip, over_udp(8472)),
            (ip, tunnel(1, &[0; 60])),
            (Link::Ethernet, typed(0x0806)),
            (Link::Ethernet, typed(0x8863)),
            (Link::Ppp(9), ppp(0xc021)),
            (Link::LinuxCooked, vec![0; 60]),
            (ip, tunnel(6, &[0; 19])),
        ];
        let notes = rows.map(|(link, data)| {
            let capture = Capture {
                frames: vec![frame(link, data)],
                ..Capture::default()
            };
            let (packets, notes) = capture.packets();
            assert_eq!(packets, []);
            notes.join("; ")
        });
        insta::assert_snapshot!(notes.join("\n"), @r"
        1 of 1 frame is not understood: IEEE 802.11 (link type 105), not decoded
        1 of 1 frame is not understood: IEEE 802.11 with a radiotap header (link type 127), not decoded
        1 of 1 frame is not understood: USB (link type 220), not decoded
        1 of 1 frame is not understood: an unknown link layer (link type 4242), not decoded
        1 of 1 frame is not understood: MACsec, not decoded
        1 of 1 frame is not understood: batman-adv, not decoded
        1 of 1 frame is not understood: a DSA tag of Marvell, not decoded
        1 of 1 frame is not understood: a pseudowire over MPLS, not decoded
        1 of 1 frame is not understood: multilink PPP, not decoded
        1 of 1 frame is not understood: TCP headers compressed by PPP, not decoded
        1 of 1 frame is not understood: ESP, not decoded
        1 of 1 frame is not understood: L2TPv3, not decoded
        1 of 1 frame is not understood: GRE with source routes, not decoded
        1 of 1 frame is not understood: GTP-U, not decoded
        1 of 1 frame is not understood: L2TP, not decoded
        1 of 1 frame is not understood: Teredo, not decoded
        1 of 1 frame is not TCP
        1 of 1 frame is not TCP
        1 of 1 frame is not TCP
        1 of 1 frame is not TCP
        1 of 1 frame is not TCP
        1 of 1 frame is not TCP
        1 of 1 frame is not TCP
        1 of 1 frame ends within the headers: no segment can be read from it
        ");
    }

    /// An IPv4 packet in fragments of at most `bytes` bytes.
    fn pieces(whole: &[u8], bytes: usize) -> Vec<Vec<u8>> {
        let (header, payload) = whole.split_at(20);
        let chunks = payload.chunks(bytes);
        let count = chunks.len();
        chunks
            .enumerate()
            .map(|(number, chunk)| {
                let mut piece = with(header, chunk);
                let length = (piece.len() as u16).to_be_bytes();
                piece[2..4].copy_from_slice(&length);
                piece[6] = if number + 1 < count { 0x20 } else { 0 };
                piece[7] = (number * bytes / 8) as u8;
                piece
            })
            .collect()
    }

    fn read(frames: Vec<Frame>) -> (Vec<Packet>, Vec<String>) {
        Capture {
            frames,
            ..Capture::default()
        }
        .packets()
    }

    #[test]
    fn fragments_are_put_together() {
        let whole = ipv4();
        let expected = frame(Link::Ip(101), whole.clone()).packet().unwrap();
        let frames: Vec<Frame> = (pieces(&whole, 24).into_iter())
            .map(|piece| frame(Link::Ip(101), piece))
            .collect();
        assert_eq!(frames.len(), 3);
        let of = |order: &[usize]| read(order.iter().map(|&at| frames[at].clone()).collect());
        // In any order, and with copies.
        for order in [
            &[0, 1, 2][..],
            &[2, 1, 0],
            &[1, 0, 2],
            &[0, 0, 1, 1, 2, 2],
            &[0, 1, 2, 0, 1, 2],
        ] {
            assert_eq!(of(order), (vec![expected.clone()], vec![]), "{order:?}");
        }
        // Without all fragments, the first is read if it contains the whole header.
        let (packets, notes) = of(&[1, 2]);
        assert_eq!((packets.len(), notes.len()), (0, 1));
        let first = frame(Link::Ip(101), pieces(&whole, 40).swap_remove(0));
        let (packets, notes) = read(vec![first]);
        assert_eq!((packets[0].sequence, packets[0].payload_bytes), (1000, 8));
        assert_eq!(
            notes,
            [
                "1 IP packet came in fragments, and some fragments are missing: at most the first fragment is shown"
            ]
        );
        // A truncated fragment: what follows cannot be joined to what came before.
        let mut cut = frames.clone();
        cut[1].data.truncate(30);
        let (packets, _) = read(cut);
        assert_eq!(packets[0].payload_bytes, expected.payload_bytes);
        assert_eq!(packets[0].payload, PAYLOAD[..24 + 10 - 32]);
        // Fragments in a tunnel, and a fragmented tunnel packet.
        let tunnelled = frames
            .iter()
            .map(|it| frame(Link::Ip(101), tunnel(4, &it.data)));
        assert_eq!(read(tunnelled.collect()).0, std::slice::from_ref(&expected));
        let cut_up = pieces(&tunnel(4, &whole), 32).into_iter();
        let cut_up = cut_up.map(|piece| frame(Link::Ip(101), piece));
        assert_eq!(read(cut_up.collect()).0, [expected]);
    }

    #[test]
    fn fragments_of_ipv6_are_put_together() {
        let whole = ipv6();
        let expected = frame(Link::Ip(101), whole.clone()).packet().unwrap();
        let frames = [(0, 1, 40..48), (8, 1, 48..56), (16, 0, 56..60)].map(|(at, more, part)| {
            let mut piece = whole[..40].to_vec();
            piece[6] = 44;
            piece[4..6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
            piece.extend([6, 0, 0, at | more, 0, 0, 0, 9]);
            piece.extend_from_slice(&whole[part]);
            frame(Link::Ip(101), piece)
        });
        let (packets, notes) = read(frames.to_vec());
        assert_eq!(notes, [""; 0]);
        assert_eq!(packets[0].sequence, expected.sequence);
        assert_eq!(packets[0].flags, expected.flags);
    }

    #[test]
    fn what_is_no_segment() {
        let udp = |mut ip: Vec<u8>, at: usize| {
            ip[at] = 17;
            ip
        };
        let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut ip = ipv4();
            edit(&mut ip);
            ip
        };
        let later = [0_u8, 0, 8, 0, 0, 0, 1];
        let rows = [
            ("nothing", Link::Ip(101), vec![]),
            ("UDP", Link::Ip(101), udp(ipv4(), 9)),
            ("UDP over IPv6", Link::Ip(101), udp(ipv6(), 6)),
            ("a later fragment", Link::Ip(101), edited(&|ip| ip[7] = 100)),
            (
                "a later fragment, IPv6",
                Link::Ip(101),
                extended(&[(44, &later)]),
            ),
            (
                "an IP header of 16 bytes",
                Link::Ip(101),
                edited(&|ip| ip[0] = 0x44),
            ),
            ("IP of version 5", Link::Ip(101), edited(&|ip| ip[0] = 0x55)),
            (
                "a TCP header of 16 bytes",
                Link::Ip(101),
                edited(&|ip| ip[32] = 0x40),
            ),
            (
                "a TCP header beyond the packet",
                Link::Ip(101),
                edited(&|ip| ip[3] = 41),
            ),
            (
                "an IP length below its header",
                Link::Ip(101),
                edited(&|ip| ip[3] = 19),
            ),
            (
                "ARP",
                Link::Ethernet,
                with(&[&MACS[..], &[8, 6]].concat(), &[0; 28]),
            ),
            ("AppleTalk", Link::Null, with(&[16, 0, 0, 0], &ipv4())),
            ("a link layer unknown", Link::Other(195), ipv4()),
        ];
        for (what, link, data) in rows {
            assert_eq!(frame(link, data).packet(), None, "{what}");
        }
    }

    #[test]
    fn ipv6_extensions() {
        let hop_by_hop = (0, &[0, 1, 4, 0, 0, 0, 0][..]);
        let routing = (43, &[0; 7][..]);
        let first_fragment = (44, &[0, 0, 1, 0, 0, 0, 1][..]);
        let destination = (60, &[0, 1, 4, 0, 0, 0, 0][..]);
        for extensions in [
            &[hop_by_hop][..],
            &[routing],
            &[first_fragment],
            &[destination],
            &[hop_by_hop, routing, first_fragment, destination],
        ] {
            let data = extended(extensions);
            let packet = frame(Link::Ip(101), data.clone())
                .packet()
                .expect("a segment");
            assert_eq!(packet.destination.port(), SERVER);
            assert_eq!(
                (packet.ip_bytes as usize, packet.payload_bytes),
                (data.len(), 0)
            );
        }
    }

    #[test]
    fn lengths_that_do_not_fit_into_the_header() {
        // A segment to be split by the interface: its length is 0, and the frame's length applies.
        let payload = vec![b'x'; 100_000];
        let mut v4 = ipv4();
        v4[2..4].fill(0);
        v4.extend_from_slice(&payload);
        let packet = frame(Link::Ip(101), v4.clone()).packet().unwrap();
        assert_eq!(packet.payload_bytes as usize, PAYLOAD.len() + payload.len());
        assert_eq!(packet.payload.len(), PAYLOAD.len() + payload.len());
        assert_eq!(packet.ip_bytes as usize, v4.len());
        // Only a part was captured.
        let mut cut = frame(
            Link::Ethernet,
            with(&[&MACS[..], &[8, 0]].concat(), &v4[..60]),
        );
        cut.original_bytes = 14 + v4.len() as u32;
        let packet = cut.packet().unwrap();
        assert_eq!(packet.payload_bytes as usize, PAYLOAD.len() + payload.len());
        assert_eq!(packet.ip_bytes as usize, v4.len());
        // A jumbogram (RFC 2675).
        let mut v6 = extended(&[(0, &[0, 0xc2, 4, 0, 1, 0x86, 0xbc])]);
        v6[4..6].fill(0);
        v6.extend_from_slice(&payload);
        let packet = frame(Link::Ip(101), v6.clone()).packet().unwrap();
        assert_eq!(
            (packet.ip_bytes as usize, packet.payload.len()),
            (v6.len(), payload.len())
        );
    }

    #[test]
    fn a_frame_cut_short_tells_what_its_headers_tell() {
        let whole = ipv4();
        for bytes in 0..=whole.len() {
            let cut = Frame {
                original_bytes: whole.len() as u32,
                ..frame(Link::Ip(101), whole[..bytes].to_vec())
            };
            let Some(packet) = cut.packet() else {
                assert!(bytes < 40, "the headers are there with {bytes} bytes");
                continue;
            };
            assert!(bytes >= 40);
            assert_eq!(packet.payload_bytes as usize, PAYLOAD.len());
            assert_eq!(packet.payload, PAYLOAD[..bytes.saturating_sub(52)]);
            assert_eq!(packet.malformed_options, bytes < 52, "{bytes}");
            let options = [(40, 0), (41, 1), (42, 2), (51, 2), (52, 3)];
            for (_, options) in options.iter().filter(|(at, _)| *at == bytes) {
                assert_eq!(packet.options.len(), *options, "{bytes}");
            }
        }
    }

    #[test]
    fn every_option() {
        use TcpOption::*;
        let rows: [(&[u8], &[TcpOption], bool); 16] = [
            (&[], &[], true),
            (&[1, 1], &[Nop, Nop], true),
            (&[2, 4, 5, 180], &[MaximumSegmentSize(1460)], true),
            (&[3, 3, 7, 0], &[WindowScale(7), Other(0, vec![])], true),
            (&[4, 2], &[SackPermitted], true),
            (
                &[5, 10, 0, 0, 0, 1, 0, 0, 0, 9],
                &[Sack(vec![(1, 9)])],
                true,
            ),
            (&[5, 2], &[Sack(vec![])], true),
            (
                &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
                &[Timestamps { value: 1, echo: 2 }],
                true,
            ),
            (&[34, 6, 1, 2, 3, 4], &[Other(34, vec![1, 2, 3, 4])], true),
            (&[0, 9, 9], &[Other(0, vec![])], true),
            // Lengths that do not match the option kind.
            (&[2, 3, 1], &[Other(2, vec![1])], true),
            (&[5, 6, 1, 2, 3, 4], &[Other(5, vec![1, 2, 3, 4])], true),
            // Lengths that exceed the header.
            (&[1, 2], &[Nop], false),
            (&[1, 2, 0, 0], &[Nop], false),
            (&[1, 2, 1, 0], &[Nop], false),
            (&[8, 10, 0, 0, 0, 1, 0, 0, 0], &[], false),
        ];
        for (bytes, expected, complete) in rows {
            assert_eq!(options(bytes), (expected.to_vec(), complete), "{bytes:?}");
        }
    }

    pub(in super::super) fn any_link() -> impl Strategy<Value = Link> {
        prop_oneof![
            Just(Link::Null),
            Just(Link::Ethernet),
            Just(Link::Ip(101)),
            Just(Link::Loop),
            Just(Link::LinuxCooked),
            Just(Link::LinuxCooked2),
            Just(Link::Ppp(9)),
            Just(Link::PppDirection),
            Just(Link::Pppoe),
            Just(Link::CiscoHdlc),
            Just(Link::Mpls),
            Just(Link::Nflog),
            any::<u16>().prop_map(Link::Other),
        ]
    }

    /// A frame with a segment, a few changed bytes, and a truncated end.
    fn damaged() -> impl Strategy<Value = (Link, Vec<u8>)> {
        let v4 = || ipv4().into_iter();
        let frames = vec![
            (
                Link::Ethernet,
                MACS.into_iter()
                    .chain([8, 0])
                    .chain(v4())
                    .collect::<Vec<u8>>(),
            ),
            (
                Link::Ethernet,
                MACS.into_iter()
                    .chain([0x81, 0, 0, 5, 8, 0])
                    .chain(v4())
                    .collect(),
            ),
            (
                Link::LinuxCooked,
                [0; 14].into_iter().chain([8, 0]).chain(v4()).collect(),
            ),
            (
                Link::LinuxCooked2,
                [0x86, 0xdd]
                    .into_iter()
                    .chain([0; 18])
                    .chain(ipv6())
                    .collect(),
            ),
            (Link::Null, [2, 0, 0, 0].into_iter().chain(v4()).collect()),
            (Link::Ip(101), ipv4()),
            (Link::Ip(101), ipv6()),
            (
                Link::Ip(101),
                extended(&[(0, &[0, 1, 4, 0, 0, 0, 0]), (44, &[0, 0, 1, 0, 0, 0, 1])]),
            ),
            (Link::Ip(101), tunnel(4, &tunnel6(41, &ipv6()))),
            (
                Link::Ip(101),
                tunnel(
                    47,
                    &with(
                        &[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                        &ipv4(),
                    ),
                ),
            ),
            (
                Link::Ip(101),
                udp(
                    4789,
                    &with(
                        &[&[8, 0, 0, 0, 0, 0, 1, 0], &MACS[..], &[8, 0]].concat(),
                        &ipv4(),
                    ),
                ),
            ),
            (
                Link::Ip(101),
                udp(6081, &with(&[1, 0, 8, 0, 0, 0, 1, 0, 1, 3, 1, 0], &ipv4())),
            ),
            (Link::Ip(101), pieces(&ipv4(), 24).swap_remove(0)),
            (Link::Mpls, with(&[0, 1, 0, 64, 0, 1, 1, 64], &ipv4())),
            (Link::Ppp(9), with(&[0xff, 3, 0, 0x21], &ipv4())),
            (
                Link::Ip(101),
                udp(
                    2152,
                    &with(
                        &[0x34, 0xff, 0, 110, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0, 9, 0],
                        &ipv4(),
                    ),
                ),
            ),
            (
                Link::Ip(101),
                udp(
                    1701,
                    &with(
                        &[
                            0x4a, 2, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0xff, 3, 0, 0x21,
                        ],
                        &ipv4(),
                    ),
                ),
            ),
            (
                Link::Nflog,
                with(
                    &[2, 0, 0, 0, 5, 0, 10, 0, 0, 0, 0, 0, 100, 0, 9, 0],
                    &ipv4(),
                ),
            ),
            (Link::Pppoe, with(&[0x11, 0, 0, 1, 0, 9, 0, 0x21], &ipv4())),
            (
                Link::CiscoHdlc,
                with(&[0x0f, 0, 0x81, 0, 0, 5, 8, 0], &ipv4()),
            ),
        ];
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        (
            prop::sample::select(frames),
            changes,
            any::<prop::sample::Index>(),
            any::<bool>(),
        )
            .prop_map(|((link, mut data), changes, cut, is_cut)| {
                for (at, value) in changes {
                    let at = at.index(data.len());
                    data[at] = value;
                }
                if is_cut {
                    data.truncate(cut.index(data.len() + 1));
                }
                (link, data)
            })
    }

    /// Properties that hold for any segment.
    fn holds_together(frame: &Frame) -> Result<(), TestCaseError> {
        if let Some(packet) = frame.packet() {
            prop_assert!(packet.payload.len() as u64 <= u64::from(packet.payload_bytes));
            prop_assert!(packet.payload.len() < frame.data.len());
            prop_assert!(packet.payload_bytes < packet.ip_bytes);
            let lines = crate::output::tcpdump::lines(&[packet.clone(), packet]);
            prop_assert!(lines.iter().all(|line| !line.contains(['\n', '\x1b'])));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(
            link in any_link(),
            data in prop::collection::vec(any::<u8>(), 0..200),
            longer in any::<u32>(),
        ) {
            let original_bytes = longer.max(data.len() as u32);
            holds_together(&Frame { original_bytes, ..frame(link, data) })?;
        }

        /// Fragments of one packet and of others, in any order, truncated and damaged.
        #[test]
        fn any_fragments_are_taken(
            parts in prop::collection::vec((0_u8..6, any::<bool>(), 0..40_usize, 0..3_u8, 0..40_usize), 0..30),
        ) {
            let frames = parts.into_iter().map(|(offset, more, bytes, identification, cut)| {
                let mut data = tunnel(6, &vec![0x50; bytes]);
                data[5] = identification;
                data[6] = if more { 0x20 } else { 0 };
                data[7] = offset;
                let original_bytes = data.len() as u32;
                data.truncate(data.len().saturating_sub(cut).max(1));
                Frame { original_bytes, ..frame(Link::Ip(101), data) }
            });
            let frames: Vec<Frame> = frames.collect();
            let count = frames.len();
            let (packets, _) = read(frames);
            prop_assert!(packets.len() <= count);
            for packet in packets {
                prop_assert!(packet.payload.len() as u64 <= u64::from(packet.payload_bytes));
            }
        }

        #[test]
        fn a_damaged_frame_is_taken((link, data) in damaged(), longer in any::<u16>()) {
            let original_bytes = (data.len() as u32).max(longer.into());
            holds_together(&Frame { original_bytes, ..frame(link, data) })?;
        }
    }
}
