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
        let (ip, payload, fragment_offset) = match sliced.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let extension = ip.extensions().auth.map_or(0, |auth| auth.slice().len());
                let facts = Ip {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    hops: header.ttl(),
                    stated_bytes: Some(usize::from(header.total_len())).filter(|bytes| *bytes > 0),
                    header_bytes: header.slice().len() + extension,
                    payload: ip.payload().payload,
                };
                (facts, ip.payload(), header.fragments_offset())
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let payload_bytes = Some(usize::from(header.payload_length()));
                let facts = Ip {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    hops: header.hop_limit(),
                    stated_bytes: (payload_bytes.filter(|bytes| *bytes > 0))
                        .map(|bytes| header.slice().len() + bytes),
                    header_bytes: header.slice().len() + ip.extensions().slice().len(),
                    payload: ip.payload().payload,
                };
                let offset =
                    (ip.extensions().clone().into_iter()).find_map(|extension| match extension {
                        Ipv6ExtensionSlice::Fragment(fragment) => Some(fragment.fragment_offset()),
                        _ => None,
                    });
                (facts, ip.payload(), offset.unwrap_or_default())
            }
            LaxNetSlice::Arp(_) => return None,
        };
        // What follows in a later fragment is no header.
        (payload.ip_number == ip_number::TCP && fragment_offset.value() == 0).then_some(ip)
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
