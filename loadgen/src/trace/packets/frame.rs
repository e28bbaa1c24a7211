//! The TCP segment in a frame. Frames are what anyone may have sent or written: whatever they hold, the worst
//! that comes of it is that there is no segment.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket, ip_number};

use super::super::model::{Flags, Packet, TcpOption};
use super::{Frame, Link};

impl Frame {
    /// The TCP segment in it. None where there is no whole TCP header: another protocol, a fragment of an IP
    /// packet that is not the first, a frame of which too little was captured.
    pub fn packet(&self) -> Option<Packet> {
        let sliced = self.sliced()?;
        let ip = Ip::of(&sliced)?;
        let ip_bytes = ip.bytes(self);
        // By hand, because etherparse refuses a header whose options were cut off.
        let (header, rest) = ip.payload.split_first_chunk::<TCP_HEADER_BYTES>()?;
        let header_bytes = usize::from(header[12] >> 4) * 4;
        let option_bytes = header_bytes.checked_sub(TCP_HEADER_BYTES)?;
        let payload_bytes = ip_bytes.checked_sub(ip.header_bytes + header_bytes)?;
        // Options that were not captured cannot be read, no more than those that make no sense.
        let captured = &rest[..option_bytes.min(rest.len())];
        let (options, complete) = options(captured);
        let payload = rest.get(option_bytes..).unwrap_or_default();
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let long =
            |at| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Some(Packet {
            at_ns: self.at_ns,
            interface: self.interface.clone(),
            source: SocketAddr::new(ip.source, word(0)),
            destination: SocketAddr::new(ip.destination, word(2)),
            identification: ip.identification,
            hops: ip.hops,
            ip_bytes: u32::try_from(ip_bytes).ok()?,
            flags: flags(header[13]),
            sequence: long(4),
            acknowledgement: long(8),
            window: word(14),
            options,
            malformed_options: !complete || captured.len() < option_bytes,
            payload_bytes: u32::try_from(payload_bytes).ok()?,
            // Ethernet frames are padded to a least length.
            payload: payload[..payload.len().min(payload_bytes)].to_vec(),
        })
    }

    fn sliced(&self) -> Option<LaxSlicedPacket<'_>> {
        let data = &self.data[..];
        let cooked = |header_bytes: usize, protocol_at: usize| {
            let (header, rest) = data.split_at_checked(header_bytes)?;
            let protocol = u16::from_be_bytes([header[protocol_at], header[protocol_at + 1]]);
            Some(LaxSlicedPacket::from_ether_type(EtherType(protocol), rest))
        };
        match self.link {
            Link::Ethernet => LaxSlicedPacket::from_ethernet(data).ok(),
            Link::LinuxCooked => cooked(16, 14),
            Link::LinuxCooked2 => cooked(20, 0),
            Link::Ip(_) => LaxSlicedPacket::from_ip(data).ok(),
            Link::Null | Link::Loop => {
                let (family, rest) = data.split_first_chunk::<4>()?;
                // The byte order is that of a machine unknown; the numbers are too small to be mistaken.
                let family = u32::from_be_bytes(*family).min(u32::from_le_bytes(*family));
                let is_ip = LOOPBACK_FAMILIES.contains(&family);
                is_ip.then(|| LaxSlicedPacket::from_ip(rest).ok()).flatten()
            }
            Link::Other(_) => None,
        }
    }
}

const TCP_HEADER_BYTES: usize = 20;

/// `AF_INET`; `AF_INET6` of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
const LOOPBACK_FAMILIES: [u32; 5] = [2, 10, 24, 28, 30];

/// What both versions of IP have.
struct Ip<'a> {
    source: IpAddr,
    destination: IpAddr,
    identification: Option<u16>,
    hops: u8,
    /// Of the whole packet, where the header tells.
    stated_bytes: Option<usize>,
    /// Of the header with its extensions.
    header_bytes: usize,
    /// As far as it was captured.
    payload: &'a [u8],
}

impl<'a> Ip<'a> {
    /// Of a packet that carries the beginning of a TCP segment.
    fn of(sliced: &LaxSlicedPacket<'a>) -> Option<Self> {
        let net = sliced.net.as_ref()?;
        // Of extension headers that end too early etherparse reads on beyond the end when they are gone through.
        // They are whole where TCP comes after them, and only there.
        net.ip_payload_ref()
            .filter(|payload| payload.ip_number == ip_number::TCP)?;
        let (ip, is_later_fragment) = match net {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let extension = ip.extensions().auth.map_or(0, |auth| auth.slice().len());
                let facts = Ip {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    identification: Some(header.identification()),
                    hops: header.ttl(),
                    stated_bytes: Some(usize::from(header.total_len())).filter(|bytes| *bytes > 0),
                    header_bytes: header.slice().len() + extension,
                    payload: ip.payload().payload,
                };
                (facts, header.fragments_offset().value() != 0)
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let payload_bytes = Some(usize::from(header.payload_length()));
                let facts = Ip {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    identification: None,
                    hops: header.hop_limit(),
                    stated_bytes: (payload_bytes.filter(|bytes| *bytes > 0))
                        .map(|bytes| header.slice().len() + bytes),
                    header_bytes: header.slice().len() + ip.extensions().slice().len(),
                    payload: ip.payload().payload,
                };
                let is_later = ip.extensions().clone().into_iter().any(|extension| {
                    matches!(
                        extension,
                        Ipv6ExtensionSlice::Fragment(fragment) if fragment.fragment_offset().value() != 0
                    )
                });
                (facts, is_later)
            }
            LaxNetSlice::Arp(_) => return None,
        };
        // What follows in a later fragment is no header.
        (!is_later_fragment).then_some(ip)
    }

    /// Of the whole packet, its header included.
    fn bytes(&self, frame: &Frame) -> usize {
        // A length of 0 stands for one that does not fit: a segment that the interface will cut up (TSO), or a
        // jumbogram (RFC 2675). The payload then goes on to the end of the frame.
        self.stated_bytes.unwrap_or_else(|| {
            let missing = (frame.original_bytes as usize).saturating_sub(frame.data.len());
            self.header_bytes + self.payload.len() + missing
        })
    }
}

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

/// Reads options up to the end, to the option that says so, or to one that makes no sense; whether that is all
/// of them. (etherparse stops at kinds that it does not know.)
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

    /// `ipv6` with these extension headers between; each is told its successor.
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
        // A segment for the interface to cut up: the length is 0, or that of the frame is all there is.
        let payload = vec![b'x'; 100_000];
        let mut v4 = ipv4();
        v4[2..4].fill(0);
        v4.extend_from_slice(&payload);
        let packet = frame(Link::Ip(101), v4.clone()).packet().unwrap();
        assert_eq!(packet.payload_bytes as usize, PAYLOAD.len() + payload.len());
        assert_eq!(packet.payload.len(), PAYLOAD.len() + payload.len());
        assert_eq!(packet.ip_bytes as usize, v4.len());
        // Of which a part was captured.
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
            // Lengths that are not those of the kind.
            (&[2, 3, 1], &[Other(2, vec![1])], true),
            (&[5, 6, 1, 2, 3, 4], &[Other(5, vec![1, 2, 3, 4])], true),
            // Lengths that lead nowhere.
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
            any::<u16>().prop_map(Link::Other),
        ]
    }

    /// A frame that holds a segment, with a few of its bytes changed and its end cut off.
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

    /// What holds of any segment, whatever it came from.
    fn holds_together(frame: &Frame) -> Result<(), TestCaseError> {
        if let Some(packet) = frame.packet() {
            prop_assert!(packet.payload.len() as u64 <= u64::from(packet.payload_bytes));
            prop_assert!(packet.payload.len() < frame.data.len());
            prop_assert!(packet.payload_bytes < packet.ip_bytes);
            let lines = super::super::tcpdump_lines(&[packet.clone(), packet]);
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

        #[test]
        fn a_damaged_frame_is_taken((link, data) in damaged(), longer in any::<u16>()) {
            let original_bytes = (data.len() as u32).max(longer.into());
            holds_together(&Frame { original_bytes, ..frame(link, data) })?;
        }
    }
}
