//! ICMP (RFC 792) and ICMPv6 (RFC 4443) errors about TCP segments that routers and hosts could not
//! deliver. The messages quote the beginning of the segment.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, ip_number};

use super::super::model::Undelivered;

/// The kind of error, and the quoted segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quote {
    pub(super) why: Undelivered,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) sequence: u32,
}

/// The quote in an ICMP message over IPv4 or IPv6; `None` if it is not an error about a TCP
/// segment.
pub(super) fn quote(protocol: u8, message: &[u8]) -> Option<Quote> {
    let (&[kind, code, ..], quoted) = message.split_first_chunk::<HEADER_BYTES>()?;
    let why = match protocol {
        1 => of_version_4(kind, code)?,
        58 => of_version_6(kind, code)?,
        _ => return None,
    };
    let (source, destination, segment): (IpAddr, IpAddr, &[u8]) = match quoted.first()? >> 4 {
        4 => {
            let header = Ipv4HeaderSlice::from_slice(quoted).ok()?;
            if header.protocol() != ip_number::TCP || header.fragments_offset().value() != 0 {
                return None;
            }
            let segment = quoted.get(header.slice().len()..)?;
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                segment,
            )
        }
        6 => {
            let header = Ipv6HeaderSlice::from_slice(quoted).ok()?;
            if header.next_header() != ip_number::TCP {
                return None;
            }
            let segment = quoted.get(header.slice().len()..)?;
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                segment,
            )
        }
        _ => return None,
    };
    // RFC 792 requires at least this much to be quoted.
    let (&[a, b, c, d, sequence @ ..], _) = segment.split_first_chunk::<8>()?;
    Some(Quote {
        why,
        source: SocketAddr::new(source, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([c, d])),
        sequence: u32::from_be_bytes(sequence),
    })
}

const HEADER_BYTES: usize = 8;

fn of_version_4(kind: u8, code: u8) -> Option<Undelivered> {
    Some(match (kind, code) {
        (3, 0 | 6 | 11) => Undelivered::NetworkUnreachable,
        (3, 1 | 5 | 7 | 8 | 12) => Undelivered::HostUnreachable,
        (3, 2) => Undelivered::ProtocolUnreachable,
        (3, 3) => Undelivered::PortUnreachable,
        (3, 4) => Undelivered::FragmentationNeeded,
        (3, 9 | 10 | 13..=15) => Undelivered::Prohibited,
        (3, _) => Undelivered::HostUnreachable,
        (11, 1) => Undelivered::ReassemblyTimeExceeded,
        (11, _) => Undelivered::TimeExceeded,
        (12, _) => Undelivered::ParameterProblem,
        _ => return None,
    })
}

fn of_version_6(kind: u8, code: u8) -> Option<Undelivered> {
    Some(match (kind, code) {
        (1, 0) => Undelivered::NetworkUnreachable,
        (1, 1 | 5 | 6) => Undelivered::Prohibited,
        (1, 4) => Undelivered::PortUnreachable,
        (1, _) => Undelivered::HostUnreachable,
        (2, _) => Undelivered::FragmentationNeeded,
        (3, 1) => Undelivered::ReassemblyTimeExceeded,
        (3, _) => Undelivered::TimeExceeded,
        (4, 1) => Undelivered::ProtocolUnreachable,
        (4, _) => Undelivered::ParameterProblem,
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message that quotes the first 8 bytes of a segment with sequence number 7, from port 40000
    /// to port 8000.
    pub(crate) fn message(kind: u8, code: u8, is_v4: bool) -> Vec<u8> {
        let mut bytes = vec![kind, code, 0, 0, 0, 0, 0, 0];
        if is_v4 {
            bytes.extend([0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
            bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        } else {
            bytes.extend([0x60, 0, 0, 0, 0, 20, 6, 64]);
            for last in [1, 2] {
                bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
        }
        bytes.extend([0x9c, 0x40, 0x1f, 0x40, 0, 0, 0, 7]);
        bytes
    }

    #[test]
    fn errors_quote_the_segment_that_they_are_about() {
        use Undelivered::{
            FragmentationNeeded, HostUnreachable, NetworkUnreachable, ParameterProblem,
            PortUnreachable, Prohibited, ProtocolUnreachable, ReassemblyTimeExceeded, TimeExceeded,
        };
        let rows = [
            (1, 3, 0, Some(NetworkUnreachable)),
            (1, 3, 1, Some(HostUnreachable)),
            (1, 3, 2, Some(ProtocolUnreachable)),
            (1, 3, 3, Some(PortUnreachable)),
            (1, 3, 4, Some(FragmentationNeeded)),
            (1, 3, 13, Some(Prohibited)),
            (1, 11, 0, Some(TimeExceeded)),
            (1, 11, 1, Some(ReassemblyTimeExceeded)),
            (1, 12, 0, Some(ParameterProblem)),
            (1, 0, 0, None),
            (1, 8, 0, None),
            (58, 1, 0, Some(NetworkUnreachable)),
            (58, 1, 1, Some(Prohibited)),
            (58, 1, 3, Some(HostUnreachable)),
            (58, 1, 4, Some(PortUnreachable)),
            (58, 2, 0, Some(FragmentationNeeded)),
            (58, 3, 0, Some(TimeExceeded)),
            (58, 3, 1, Some(ReassemblyTimeExceeded)),
            (58, 4, 0, Some(ParameterProblem)),
            (58, 4, 1, Some(ProtocolUnreachable)),
            (58, 128, 0, None),
            (17, 3, 3, None),
        ];
        for (protocol, kind, code, expected) in rows {
            let found = quote(protocol, &message(kind, code, protocol != 58));
            assert_eq!(found.map(|it| it.why), expected, "{protocol} {kind} {code}");
            if let Some(found) = found {
                let ports = (found.source.port(), found.destination.port());
                assert_eq!((ports, found.sequence), ((40_000, 8000), 7));
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_no_tcp_is_no_quote() {
        let whole = message(3, 3, true);
        for length in 0..whole.len() {
            assert_eq!(quote(1, &whole[..length]), None, "{length}");
        }
        let mut udp = whole.clone();
        udp[8 + 9] = 17;
        assert_eq!(quote(1, &udp), None);
        let mut later_fragment = whole;
        later_fragment[8 + 7] = 1;
        assert_eq!(quote(1, &later_fragment), None);
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(protocol in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            let _ = quote(protocol, &bytes);
        }
    }
}
