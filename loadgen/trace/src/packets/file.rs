//! Capture files: pcap and pcapng, as tcpdump and Wireshark write them. The intact part of a
//! damaged file is read; a length in the file is never trusted before the bytes are there.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use thiserror::Error;

use super::reading::{BadHeader, Reading};
use super::{Capture, Link, pcap, pcapng};
use engine::destination;

/// Why a capture file could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file does not exist or is not readable.
    #[error("cannot read the capture file {name}")]
    Io {
        /// Name of the file.
        name: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file has no bytes.
    #[error("{0} is empty; a capture file has a header even where nothing was captured")]
    Empty(String),
    /// The file's format is unknown.
    #[error(
        "{0} is not a capture file: expected pcap or pcapng, as `tcpdump -w` and Wireshark write them \
         (`editcap -F pcap` converts other kinds)"
    )]
    NotACapture(String),
    /// The file was written by another capture program.
    #[error("{0} is {1}, which is not supported; convert it: `editcap -F pcap {0} OUT.pcap`")]
    Foreign(String, &'static str),
    /// The file contains a program's printed output instead of captured packets.
    #[error("{0} is text, not a capture file; `tcpdump -w FILE` and `tshark -w FILE` write one")]
    Text(String),
    /// The file is compressed.
    #[error(
        "{0} is compressed; unpack it first: `{1} < {word} | loadgen trace --read -`",
        word = engine::shell::quoted(.0)
    )]
    Compressed(String, &'static str),
    /// The file ends before the first packet.
    #[error("{0} is cut short: it ends in the middle of its header")]
    CutHeader(String),
    /// The first block is invalid.
    #[error("{0} begins like a capture file, but its header is invalid: the file is damaged")]
    Damaged(String),
}

/// Files are read up to this size; a larger capture can no longer be examined connection by
/// connection.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Reads a capture file; `-` is standard input.
///
/// A truncated or damaged file yields the frames before the damage, and a note.
///
/// # Errors
///
/// If the file does not exist or is not a capture file.
pub fn read(path: &Path) -> Result<Capture, ReadError> {
    if path == Path::new("-") {
        return read_from(io::stdin().lock(), "standard input");
    }
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => read_from(file, &name),
        Err(source) => Err(ReadError::Io { name, source }),
    }
}

/// Reads a capture from any source; errors refer to it as `name`.
///
/// # Errors
///
/// If the source cannot be read or is not a capture.
pub fn read_from(mut source: impl Read, name: &str) -> Result<Capture, ReadError> {
    let io_error = |source| ReadError::Io {
        name: name.to_owned(),
        source,
    };
    // The format is checked before the rest is read, which may be endless.
    let mut bytes = Vec::new();
    (source.by_ref().take(MAGIC_BYTES).read_to_end(&mut bytes)).map_err(io_error)?;
    let format = CaptureFormat::of(&bytes, name)?;
    (source
        .take(FILE_BYTES_MAX + 1 - MAGIC_BYTES)
        .read_to_end(&mut bytes))
    .map_err(io_error)?;
    let mut reading = Reading::default();
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bytes.truncate(FILE_BYTES_MAX as usize);
        reading.limit = Some(format!("{} MiB", FILE_BYTES_MAX >> 20));
    }
    let begun = match format {
        CaptureFormat::Pcap(kind) => kind.read(&bytes, &mut reading),
        CaptureFormat::Pcapng => pcapng::read(&bytes, &mut reading),
    };
    match begun {
        Ok(()) => {
            reading.stops_at_the_limit();
            Ok(reading.capture)
        }
        Err(BadHeader::Cut) => Err(ReadError::CutHeader(name.to_owned())),
        Err(BadHeader::Senseless) => Err(ReadError::Damaged(name.to_owned())),
    }
}

enum CaptureFormat {
    Pcap(pcap::Kind),
    Pcapng,
}

/// Length of the longest magic number below.
const MAGIC_BYTES: u64 = 16;

impl CaptureFormat {
    fn of(magic: &[u8], name: &str) -> Result<Self, ReadError> {
        if magic.is_empty() {
            return Err(ReadError::Empty(name.to_owned()));
        }
        if let Some(kind) = (magic.first_chunk::<4>()).and_then(|magic| pcap::Kind::of(*magic)) {
            return Ok(CaptureFormat::Pcap(kind));
        }
        if magic.starts_with(b"\x0a\x0d\x0d\x0a") {
            return Ok(CaptureFormat::Pcapng);
        }
        let begins = |(start, _): &&(&[u8], &'static str)| magic.starts_with(start);
        if let Some((_, tool)) = PACKERS.iter().find(begins) {
            return Err(ReadError::Compressed(name.to_owned(), tool));
        }
        if let Some((_, kind)) = FOREIGN.iter().find(begins) {
            return Err(ReadError::Foreign(name.to_owned(), kind));
        }
        if is_erf(magic) {
            let kind = "most likely an ERF file of an Endace card";
            return Err(ReadError::Foreign(name.to_owned(), kind));
        }
        let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
        Err(match magic.len() >= 4 && magic.iter().all(is_text) {
            true => ReadError::Text(name.to_owned()),
            false => ReadError::NotACapture(name.to_owned()),
        })
    }
}

/// Compression formats, and the commands that decompress to standard output.
const PACKERS: [(&[u8], &str); 8] = [
    (b"\x1f\x8b", "zcat"),
    // compress(1), used by old versions of `tcpdump -z`.
    (b"\x1f\x9d", "zcat"),
    (b"\x28\xb5\x2f\xfd", "zstdcat"),
    (b"\x04\x22\x4d\x18", "lz4cat"),
    (b"BZh", "bzcat"),
    (b"\xfd7zXZ\0", "xzcat"),
    (b"LZIP", "lzip -dc"),
    (b"PK\x03\x04", "funzip"),
];

/// Capture formats of other programs, which Wireshark reads.
const FOREIGN: [(&[u8], &str); 13] = [
    (b"snoop\0\0\0", "a snoop file (RFC 1761)"),
    (b"btsnoop\0", "a btsnoop file (Bluetooth)"),
    (b"RTSS", "a Network Monitor 1 file"),
    (b"GMBU", "a Network Monitor 2 file"),
    (b"TRSNIFF data    ", "a Sniffer file (DOS)"),
    (b"XCP\0", "a Sniffer file (Windows)"),
    (b"iptrace ", "an iptrace file (AIX)"),
    (b"\x05VNF", "a Visual Networks file"),
    (b"\xaa\xaa\xaa\xaa", "a 5View file"),
    (b"\0\0\x02\0\x12\x05\0\x10", "a K12 file"),
    (b"\x54\x52\x00\x64\x00", "a nettl file (HP-UX)"),
    (b"ObserverPktBuffe", "an Observer file"),
    (b"\x7fver", "an OmniPeek file"),
];

/// Whether a file is ERF. It has no magic number, so the first record must be plausible: a time in
/// this century, a known type, consistent lengths.
fn is_erf(record: &[u8]) -> bool {
    const FIRST_S: u32 = 946_684_800; // 2000-01-01
    const TYPE_MAX: u8 = 48;
    const HEADER_BYTES: u16 = 16;
    let &[
        _,
        _,
        _,
        _,
        a,
        b,
        c,
        d,
        kind,
        _,
        high,
        low,
        lost,
        _,
        wire_high,
        wire_low,
    ] = record
    else {
        return false;
    };
    let seconds = u32::from_le_bytes([a, b, c, d]);
    let record_bytes = u16::from_be_bytes([high, low]);
    let wire_bytes = u16::from_be_bytes([wire_high, wire_low]);
    (FIRST_S..u32::MAX).contains(&seconds)
        && (1..=TYPE_MAX).contains(&(kind & 0x7f))
        && record_bytes > HEADER_BYTES
        && record_bytes % 8 == 0
        && lost == 0
        && wire_bytes > 0
}

impl Link {
    /// The link type with this number in a file.
    pub(super) fn from_number(number: u32) -> Self {
        // The upper half of the field has other uses (length of the frame check sequence).
        match (number & 0xffff) as u16 {
            0 => Link::Null,
            1 => Link::Ethernet,
            number @ (9 | 50 | 166) => Link::Ppp(number),
            // 12 and 14 are numbers from the BSDs.
            number @ (12 | 14 | 101 | 228 | 229) => Link::Ip(number),
            51 => Link::Pppoe,
            104 => Link::CiscoHdlc,
            108 => Link::Loop,
            113 => Link::LinuxCooked,
            204 => Link::PppDirection,
            219 => Link::Mpls,
            239 => Link::Nflog,
            276 => Link::LinuxCooked2,
            number => Link::Other(number),
        }
    }

    pub(super) fn number(self) -> u16 {
        match self {
            Link::Null => 0,
            Link::Ethernet => 1,
            Link::Ip(number) | Link::Ppp(number) | Link::Other(number) => number,
            Link::Pppoe => 51,
            Link::CiscoHdlc => 104,
            Link::Loop => 108,
            Link::LinuxCooked => 113,
            Link::PppDirection => 204,
            Link::Mpls => 219,
            Link::Nflog => 239,
            Link::LinuxCooked2 => 276,
        }
    }
}

/// Writes a capture as a pcap file, with times in ns since 1970, to any [`destination`].
///
/// # Errors
///
/// If the file cannot be written, or if the frames have different link layers: a pcap file has only
/// one.
pub fn write(path: &Path, capture: &Capture) -> io::Result<()> {
    let mut bytes = Vec::new();
    write_to(&mut bytes, capture)?;
    destination::write(path, &bytes)
}

fn write_to(file: impl Write, capture: &Capture) -> io::Result<()> {
    let link = capture
        .frames
        .first()
        .map_or(Link::Ethernet, |frame| frame.link);
    if let Some(other) = capture.frames.iter().find(|frame| frame.link != link) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a pcap file cannot hold frames of different link types ({} and {})",
                link.number(),
                other.link.number()
            ),
        ));
    }
    let mut file = BufWriter::new(file);
    file.write_all(&pcap::header(link.number()))?;
    for frame in &capture.frames {
        let at_ns = frame.at_ns.saturating_add_signed(capture.epoch_offset_ns);
        file.write_all(&pcap::record_header(at_ns, frame)?)?;
        file.write_all(&frame.data)?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::super::Frame;
    use super::super::frame::tests::frame;
    use super::*;

    /// Writes numbers in one of the two byte orders.
    #[derive(Debug, Clone, Copy)]
    enum Writing {
        Big,
        Little,
    }
    use Writing::{Big, Little};

    impl Writing {
        fn of(self, mut bytes: Vec<u8>) -> Vec<u8> {
            if matches!(self, Little) {
                bytes.reverse();
            }
            bytes
        }

        fn short(self, number: u16) -> Vec<u8> {
            self.of(number.to_be_bytes().to_vec())
        }

        fn long(self, number: u32) -> Vec<u8> {
            self.of(number.to_be_bytes().to_vec())
        }
    }

    const MICRO: u32 = 0xa1b2_c3d4;
    const NANO: u32 = 0xa1b2_3c4d;

    fn pcap_header(order: Writing, magic: u32, link: u32) -> Vec<u8> {
        let numbers = [0, 0, 96, link].map(|number| order.long(number));
        [
            order.long(magic),
            order.short(2),
            order.short(4),
            numbers.concat(),
        ]
        .concat()
    }

    fn record(order: Writing, time: (u32, u32), original_bytes: u32, data: &[u8]) -> Vec<u8> {
        let numbers = [time.0, time.1, data.len() as u32, original_bytes];
        [&numbers.map(|number| order.long(number)).concat(), data].concat()
    }

    fn block(order: Writing, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = body.len().next_multiple_of(4) - body.len();
        let length = order.long((12 + body.len() + padding) as u32);
        [
            &order.long(kind),
            &length,
            body,
            &[0; 3][..padding],
            &length,
        ]
        .concat()
    }

    fn section(order: Writing) -> Vec<u8> {
        let body = [
            order.long(0x1a2b_3c4d),
            order.short(1),
            order.short(0),
            vec![0xff; 8],
        ];
        block(order, 0x0a0d_0d0a, &body.concat())
    }

    fn options(order: Writing, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (code, value) in options {
            bytes.extend([order.short(*code), order.short(value.len() as u16)].concat());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.extend([0; 4]);
        bytes
    }

    fn interface(order: Writing, link: u16, about: &[(u16, &[u8])]) -> Vec<u8> {
        let body = [
            order.short(link),
            vec![0; 2],
            order.long(0),
            options(order, about),
        ]
        .concat();
        block(order, 1, &body)
    }

    fn enhanced(order: Writing, interface: u32, ticks: u64, data: &[u8]) -> Vec<u8> {
        let length = data.len() as u32;
        let numbers = [
            interface,
            (ticks >> 32) as u32,
            ticks as u32,
            length,
            length + 4,
        ];
        let mut body = [&numbers.map(|number| order.long(number)).concat(), data].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(options(order, &[(1, b"a comment")]));
        block(order, 6, &body)
    }

    fn obsolete(order: Writing, interface: u16, ticks: u64, data: &[u8]) -> Vec<u8> {
        let length = data.len() as u32;
        let numbers = [(ticks >> 32) as u32, ticks as u32, length, length];
        let numbers = numbers.map(|number| order.long(number)).concat();
        block(
            order,
            2,
            &[&order.short(interface), &[0; 2][..], &numbers, data].concat(),
        )
    }

    fn simple(order: Writing, data: &[u8]) -> Vec<u8> {
        block(order, 3, &[&order.long(data.len() as u32), data].concat())
    }

    fn read_bytes(bytes: &[u8]) -> Result<Capture, ReadError> {
        read_from(bytes, "FILE")
    }

    #[test]
    fn pcap_in_both_byte_orders_and_resolutions() {
        for order in [Big, Little] {
            for (magic, fraction, fraction_ns) in [(MICRO, 7, 7_000), (NANO, 7, 7)] {
                let file = [
                    pcap_header(order, magic, 1),
                    record(order, (1_700_000_000, fraction), 2000, b"cut off"),
                    record(order, (1_700_000_001, 0), 0, b""),
                ];
                let capture = read_bytes(&file.concat()).unwrap();
                let [first, second] = &capture.frames[..] else {
                    panic!("{order:?}")
                };
                assert_eq!(first.at_ns, 1_700_000_000_000_000_000 + fraction_ns);
                // A frame may be longer on the wire than the file's snap length.
                assert_eq!(
                    (&first.data[..], first.original_bytes),
                    (&b"cut off"[..], 2000)
                );
                assert_eq!((first.link, &first.interface), (Link::Ethernet, &None));
                assert_eq!((second.data.len(), second.original_bytes), (0, 0));
                assert_eq!((capture.notes, capture.epoch_offset_ns), (vec![], 0));
            }
        }
    }

    #[test]
    fn link_types() {
        for (number, link) in [
            (0, Link::Null),
            (1, Link::Ethernet),
            (12, Link::Ip(12)),
            (14, Link::Ip(14)),
            (101, Link::Ip(101)),
            (108, Link::Loop),
            (113, Link::LinuxCooked),
            (228, Link::Ip(228)),
            (229, Link::Ip(229)),
            (276, Link::LinuxCooked2),
            (9, Link::Ppp(9)),
            (50, Link::Ppp(50)),
            (51, Link::Pppoe),
            (104, Link::CiscoHdlc),
            (204, Link::PppDirection),
            (219, Link::Mpls),
            (239, Link::Nflog),
            (195, Link::Other(195)),
            // The link type includes the length of a frame check sequence.
            (0x2400_0001, Link::Ethernet),
        ] {
            assert_eq!(Link::from_number(number), link);
            assert_eq!(u32::from(link.number()), number & 0xffff);
        }
    }

    #[test]
    fn pcapng_of_several_interfaces_and_sections() {
        for order in [Big, Little] {
            let file = [
                section(order),
                interface(order, 1, &[(2, b"lo"), (9, &[9])]),
                interface(order, 276, &[(2, b"eth0")]),
                interface(
                    order,
                    101,
                    &[
                        (9, &[0x80 | 10]),
                        (14, &order.of(3_u64.to_be_bytes().to_vec())),
                    ],
                ),
                enhanced(order, 0, 1_700_000_000_123_456_789, b"nano"),
                enhanced(order, 1, 1_700_000_000_123_456, b"micro, by default"),
                enhanced(order, 2, 1024 + 512, b"1/1024"),
                obsolete(order, 0, (1 << 32) + 5, b"obsolete"),
                simple(order, b"simple"),
                block(order, 0x0bad, b"some other block"),
                enhanced(order, 9, 1, b"of no interface"),
                section(Big),
                interface(Big, 113, &[]),
                enhanced(Big, 0, 3, b"of another section"),
            ];
            let capture = read_bytes(&file.concat()).unwrap();
            let frames: Vec<_> = (capture.frames.iter())
                .map(|frame| {
                    let data = std::str::from_utf8(&frame.data).unwrap();
                    (frame.at_ns, frame.interface.as_deref(), frame.link, data)
                })
                .collect();
            assert_eq!(
                frames,
                [
                    (
                        1_700_000_000_123_456_789,
                        Some("lo"),
                        Link::Ethernet,
                        "nano"
                    ),
                    (
                        1_700_000_000_123_456_000,
                        Some("eth0"),
                        Link::LinuxCooked2,
                        "micro, by default"
                    ),
                    (4_500_000_000, None, Link::Ip(101), "1/1024"),
                    ((1 << 32) + 5, Some("lo"), Link::Ethernet, "obsolete"),
                    ((1 << 32) + 5, Some("lo"), Link::Ethernet, "simple"),
                    (3_000, None, Link::LinuxCooked, "of another section"),
                ]
            );
            assert_eq!(
                capture.notes,
                [
                    "1 block of the file could not be parsed",
                    "1 packet of the file has no timestamp and is shown at the time of the packet before: durations are not known"
                ]
            );
        }
    }

    /// An option written exactly as given, as a faulty program may have written it.
    fn raw_option(code: u16, length: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [Little.short(code), Little.short(length), value.to_vec()].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A section, an interface and two packets with these options, and blocks between the packets.
    fn with_options(section: &[u8], interface: &[u8], packet: &[u8], between: &[u8]) -> Vec<u8> {
        let head = [
            Little.long(0x1a2b_3c4d),
            vec![1, 0, 0, 0],
            vec![0xff; 8],
            section.to_vec(),
        ];
        let described = [vec![1, 0, 0, 0], Little.long(96), interface.to_vec()].concat();
        let enhanced = |ticks: u8| {
            let numbers = [0, 0, ticks.into(), 4, 4].map(|number| Little.long(number));
            let body = [&numbers.concat(), &b"data"[..], packet].concat();
            block(Little, 6, &body)
        };
        [
            block(Little, 0x0a0d_0d0a, &head.concat()),
            block(Little, 1, &described),
            enhanced(1),
            between.to_vec(),
            enhanced(2),
        ]
        .concat()
    }

    #[test]
    fn what_is_not_understood_costs_no_packet() {
        let option = |code: u16, value: &[u8]| raw_option(code, value.len() as u16, value);
        let end = [0; 4];
        let interface_rows = [
            ("none", vec![]),
            ("an end alone", end.to_vec()),
            ("no end", option(2, b"eth0")),
            ("a length beyond the block", raw_option(2, 400, b"eth0")),
            ("half an option", vec![2, 0]),
            (
                "an end with a length",
                [&option(2, b"x")[..], &[0, 0, 9, 0]].concat(),
            ),
            (
                "a time zone of 4 bytes",
                [&option(10, &[0, 0, 14, 16])[..], &end].concat(),
            ),
            ("a time zone of 1 byte", option(10, &[1])),
            ("no time zone", option(10, &[])),
            ("a name in Windows-1252", option(2, b"R\xe9seau")),
            ("a name of nothing", option(2, b"")),
            ("a description in GBK", option(3, b"\xb1\xbe\xb5\xd8")),
            ("a speed of 4 bytes", option(8, &[0, 0, 0, 1])),
            ("a speed of 3 bytes", option(8, &[0, 0, 1])),
            ("a filter of nothing", option(11, b"")),
            ("a filter of a kind unknown", option(11, &[9, 0xff, 0xfe])),
            (
                "addresses too short",
                [option(4, &[1]), option(5, &[2]), option(6, &[3])].concat(),
            ),
            ("no resolution", option(9, &[])),
            ("an offset of 4 bytes", option(14, &[1, 0, 0, 0])),
            ("a check sequence of 2 bytes", option(13, &[4, 0])),
            ("an operating system in Latin-1", option(12, b"\xae")),
            ("an option unknown", option(0x7abc, &[0xff; 30])),
            ("a custom one without a number", option(2988, &[1])),
        ];
        for (what, options) in interface_rows {
            two_packets(what, &with_options(&[], &options, &[], &[]));
        }
        let other_rows = [
            (
                "a comment in Latin-1",
                [&option(1, b"caf\xe9")[..], &end].concat(),
            ),
            ("a comment with an escape sequence", option(1, b"\x1b[2J")),
            ("flags of 2 bytes", option(2, &[1, 0])),
            ("a hash of nothing", option(3, &[])),
            ("a count of 2 bytes", option(4, &[1, 0])),
            (
                "custom text in Latin-1",
                [&option(2988, &[217, 126, 0, 0, 0xe9])[..], &end].concat(),
            ),
            ("a length beyond the block", raw_option(1, 0xffff, b"x")),
            ("no end", option(2, &[1, 0, 0, 0])),
        ];
        for (what, options) in other_rows {
            two_packets(what, &with_options(&[], &[], &options, &[]));
            two_packets(what, &with_options(&options, &[], &[], &[]));
        }
        let blocks = [
            (
                "names",
                4,
                &b"\x01\0\x05\0\x01\x02\x03\x04x\0\0\0\0\0\0\0"[..],
            ),
            ("names that are damaged", 4, b"\x01\0\xff\0\x01"),
            ("statistics", 5, &[0; 12]),
            ("statistics of nothing", 5, b""),
            ("statistics of an interface unknown", 5, &[9; 12]),
            ("a journal", 9, b"__REALTIME_TIMESTAMP=\xff\n"),
            ("secrets", 10, b"LSKT\xff\xff\xff\xff"),
            ("a custom block", 0x0bad, b""),
            ("a custom block, not to be copied", 0x4000_0bad, &[1; 40]),
            ("of a company", 0x8000_0001, &[1; 8]),
            ("a kind unknown", 0x0102_0304, &[0xff; 13]),
        ];
        for (what, kind, body) in blocks {
            two_packets(
                what,
                &with_options(&[], &[], &[], &block(Little, kind, body)),
            );
        }
    }

    fn two_packets(what: &str, file: &[u8]) {
        let capture = read_bytes(file).unwrap_or_else(|error| panic!("{what}: {error}"));
        let data: Vec<&[u8]> = capture.frames.iter().map(|it| &it.data[..]).collect();
        assert_eq!(data, [b"data", b"data"], "{what}");
        assert_eq!(capture.frames[1].at_ns, 2_000, "{what}");
        assert_eq!(capture.notes, [""; 0], "{what}");
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let notes = |file: Vec<u8>| {
            let capture = read_bytes(&file).unwrap();
            (capture.frames.len(), capture.notes.join("; "))
        };
        let mut other_length = with_options(&[], &[], &[], &[]);
        let last_of_first = other_length.len() - 36 - 4;
        other_length[last_of_first] = 99;
        let mut not_counted = with_options(&[], &[], &[], &[]);
        let padded = [
            &Little.long(0x0bad),
            &Little.long(15),
            &b"xyz"[..],
            &[0],
            &Little.long(15),
        ];
        not_counted.extend(padded.concat());
        not_counted.extend(simple(Little, b"more"));
        let zeros = [with_options(&[], &[], &[], &[]), vec![0; 4096]].concat();
        let drops = [
            vec![0; 12],
            raw_option(4, 8, &[9, 0, 0, 0, 0, 0, 0, 0]),
            raw_option(5, 8, &[7, 0, 0, 0, 0, 0, 0, 0]),
            raw_option(7, 8, &[2, 0, 0, 0, 0, 0, 0, 0]),
        ];
        let dropped = with_options(&[], &[], &[], &block(Little, 5, &drops.concat()));
        // The interface description is too short to contain the link type.
        let short = [section(Little), block(Little, 1, &[]), simple(Little, b"x")].concat();
        let seen = [other_length, not_counted, zeros, dropped, short].map(notes);
        let lines = seen.map(|(frames, notes)| format!("{frames} {notes}"));
        insta::assert_snapshot!(lines.join("\n"), @r"
        2 1 block of the file contradicts itself: its two lengths differ, and the first was used
        3 1 packet of the file has no timestamp and is shown at the time of the packet before: durations are not known
        2 the file ends with 4,096 bytes of zeros and no packets in them
        2 9 frames were dropped by the system or the interface while the file was written: segments are missing
        1 1 packet of the file has no timestamp and is shown at the time of the packet before: durations are not known
        ");
    }

    #[test]
    fn pcap_of_other_makes() {
        // Records in Kuznetsov's variant are 8 bytes longer.
        for order in [Big, Little] {
            let record = |number: u8| {
                let lengths = [number.into(), 5, 4, 40].map(|number| order.long(number));
                [&lengths.concat()[..], &[0, 0, 0, 2, 8, 0, 0, 0], b"data"].concat()
            };
            let file = [pcap_header(order, 0xa1b2_cd34, 1), record(1), record(2)].concat();
            let frames = read_bytes(&file).unwrap().frames;
            let seen: Vec<_> = (frames.iter())
                .map(|it| (it.at_ns, &it.data[..], it.original_bytes))
                .collect();
            assert_eq!(
                seen,
                [
                    (1_000_005_000, &b"data"[..], 40),
                    (2_000_005_000, b"data", 40)
                ]
            );
        }
        // Old versions store the two lengths in the other order, or in either.
        for (minor, lengths) in [(2, [40, 4]), (3, [40, 4]), (3, [4, 40]), (4, [4, 40])] {
            let mut file = pcap_header(Little, MICRO, 1);
            file[6] = minor;
            let numbers = [1, 5, lengths[0], lengths[1]].map(|number| Little.long(number));
            file.extend([&numbers.concat()[..], b"data"].concat());
            let frames = read_bytes(&file).unwrap().frames;
            assert_eq!(
                (&frames[0].data[..], frames[0].original_bytes),
                (&b"data"[..], 40)
            );
        }
        // More bytes were captured than the file's limit allows, or than the frame had.
        let file = [
            pcap_header(Little, MICRO, 1),
            record(Little, (1, 0), 7, &[1; 200]),
        ];
        let frames = read_bytes(&file.concat()).unwrap().frames;
        assert_eq!((frames[0].data.len(), frames[0].original_bytes), (200, 200));
    }

    fn whole_pcap() -> Vec<u8> {
        let record = |number: u8| record(Little, (number.into(), 0), 60, &[number; 30]);
        [
            pcap_header(Little, NANO, 1),
            record(1),
            record(2),
            record(3),
        ]
        .concat()
    }

    fn whole_pcapng() -> Vec<u8> {
        let packet = |number: u8| enhanced(Little, 0, number.into(), &[number; 30]);
        let description = interface(Little, 1, &[(2, b"lo"), (9, &[9])]);
        [
            section(Little),
            description,
            packet(1),
            packet(2),
            packet(3),
        ]
        .concat()
    }

    #[test]
    fn a_file_cut_short_gives_what_comes_before() {
        for (whole, header_bytes) in [(whole_pcap(), 24), (whole_pcapng(), 28)] {
            let all = read_bytes(&whole).unwrap().frames;
            assert_eq!(all.len(), 3);
            let mut counts = Vec::new();
            for bytes in 0..whole.len() {
                let capture = match read_bytes(&whole[..bytes]) {
                    Ok(capture) => capture,
                    Err(error) => {
                        assert!(bytes < header_bytes, "{bytes}: {error}");
                        continue;
                    }
                };
                assert!(bytes >= header_bytes, "{bytes}");
                let read = capture.frames.len();
                assert_eq!(capture.frames, all[..read]);
                let note = format!(
                    "the file ends in the middle of packet {}; {read} could be read",
                    read + 1
                );
                assert!(
                    capture.notes.is_empty() || capture.notes == [note],
                    "{:?}",
                    capture.notes
                );
                counts.push((read, capture.notes.len()));
            }
            // Between two packets, a truncation cannot be recognized.
            counts.dedup();
            assert_eq!(
                counts.iter().filter(|(_, notes)| *notes == 0).count(),
                3 + usize::from(header_bytes == 28)
            );
            assert_eq!(
                counts.iter().filter(|(_, notes)| *notes == 1).count(),
                3 + usize::from(header_bytes == 28)
            );
        }
    }

    #[test]
    fn damage_is_told() {
        let mut pcap = whole_pcap();
        pcap[24 + 46 + 8..24 + 46 + 12].copy_from_slice(&Little.long(300_000));
        let capture = read_bytes(&pcap).unwrap();
        assert_eq!(capture.frames.len(), 1);
        let mut pcapng = whole_pcapng();
        let second = pcapng.len() - 2 * enhanced(Little, 0, 1, &[1; 30]).len();
        pcapng[second + 4] = 0xff;
        let damaged = read_bytes(&pcapng).unwrap();
        assert_eq!(damaged.frames.len(), 1);
        // The outer lengths are valid, the inner ones are not.
        let bad = |kind, body: &[u8]| block(Little, kind, body);
        let file = [
            section(Little),
            interface(Little, 1, &[]),
            bad(6, &[0; 8]),
            simple(Little, b"x"),
        ];
        let within = read_bytes(&file.concat()).unwrap();
        assert_eq!(within.frames.len(), 1);
        // A name without padding, on which pcap-file would panic.
        let file = [
            section(Little),
            bad(4, &[0, 0, 1, 0]),
            bad(4, &[1, 0, 5, 0, 1, 2, 3, 4, 5]),
        ];
        let name = read_bytes(&file.concat()).unwrap();
        insta::assert_snapshot!(
            [capture.notes, damaged.notes, within.notes, name.notes].concat().join("\n"),
                    @r"
    the file is damaged at packet 2; 1 could be read
    the file is damaged at packet 2; 1 could be read
    1 block of the file could not be parsed
    1 packet of the file has no timestamp and is shown at the time of the packet before: durations are not known
    "
        );
    }

    #[test]
    fn what_is_no_capture_is_told() {
        let files: [&[u8]; 17] = [
            b"",
            b"\xd4\xc3\xb2",
            b"\xd4\xc3\xb2\xa1",
            b"\x0a\x0d\x0d\x0a",
            &[b"\x0a\x0d\x0d\x0a", &[0; 60][..]].concat(),
            b"\x01\x02\x03\x04\x05",
            b"GET / HTTP/1.1\r\n",
            "12:00:00 IP h\u{f6}he.80 > x.1: Flags [S]\n".as_bytes(),
            b"\x1f\x8b\x08\x00",
            b"\x1f\x9d\x90\x00",
            b"\x28\xb5\x2f\xfd\x00",
            b"\xfd7zXZ\0\0\x04",
            b"BZh91AY&SY",
            b"snoop\0\0\0\0\0\0\x02",
            b"RTSS\x01\x01\x01\0",
            b"GMBU\0\x02\x01\0",
            b"\0\0\0\x80\0\x10\x53\x65\x02\x04\0\x58\0\0\0\x42",
        ];
        let errors: Vec<String> = files
            .iter()
            .map(|file| read_bytes(file).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        FILE is empty; a capture file has a header even where nothing was captured
        FILE is not a capture file: expected pcap or pcapng, as `tcpdump -w` and Wireshark write them (`editcap -F pcap` converts other kinds)
        FILE is cut short: it ends in the middle of its header
        FILE is cut short: it ends in the middle of its header
        FILE begins like a capture file, but its header is invalid: the file is damaged
        FILE is not a capture file: expected pcap or pcapng, as `tcpdump -w` and Wireshark write them (`editcap -F pcap` converts other kinds)
        FILE is text, not a capture file; `tcpdump -w FILE` and `tshark -w FILE` write one
        FILE is text, not a capture file; `tcpdump -w FILE` and `tshark -w FILE` write one
        FILE is compressed; unpack it first: `zcat < FILE | loadgen trace --read -`
        FILE is compressed; unpack it first: `zcat < FILE | loadgen trace --read -`
        FILE is compressed; unpack it first: `zstdcat < FILE | loadgen trace --read -`
        FILE is compressed; unpack it first: `xzcat < FILE | loadgen trace --read -`
        FILE is compressed; unpack it first: `bzcat < FILE | loadgen trace --read -`
        FILE is a snoop file (RFC 1761), which is not supported; convert it: `editcap -F pcap FILE OUT.pcap`
        FILE is a Network Monitor 1 file, which is not supported; convert it: `editcap -F pcap FILE OUT.pcap`
        FILE is a Network Monitor 2 file, which is not supported; convert it: `editcap -F pcap FILE OUT.pcap`
        FILE is most likely an ERF file of an Endace card, which is not supported; convert it: `editcap -F pcap FILE OUT.pcap`
        ");
        let endless = read_from(io::repeat(0), "/dev/zero").unwrap_err();
        assert!(matches!(endless, ReadError::NotACapture(_)));
        let missing = read(Path::new("/nonexistent/x.pcap")).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot read the capture file /nonexistent/x.pcap"
        );
    }

    #[test]
    fn frames_that_are_no_segments_are_counted() {
        let mut cut = frame(Link::Ethernet, vec![0; 60]);
        cut.original_bytes = 61;
        let capture = Capture {
            frames: vec![
                frame(Link::Other(195), vec![]),
                frame(Link::Other(195), vec![]),
                frame(Link::Other(105), vec![]),
                frame(Link::Ethernet, vec![0; 60]),
                cut,
            ],
            without_time: 0,
            notes: vec!["what the file said".to_owned()],
            epoch_offset_ns: 0,
        };
        let (packets, notes) = capture.packets();
        assert_eq!(packets, []);
        insta::assert_snapshot!(notes.join("\n"), @r"
    what the file said
    1 of 5 frames is not understood: IEEE 802.11 (link type 105), not decoded
    2 of 5 frames are not understood: IEEE 802.15.4 (link type 195), not decoded
    2 of 5 frames are not TCP
    1 of 5 frames is cut to at most 60 bytes: the payload that it carried is incomplete (`tcpdump -s 0` keeps whole frames)
    ");
        assert_eq!(Capture::default().packets().1, [""; 0]);
    }

    fn one_frame() -> Capture {
        Capture {
            frames: vec![frame(Link::Ethernet, b"frame".to_vec())],
            without_time: 0,
            notes: vec![],
            epoch_offset_ns: 1_700_000_000_000_000_000,
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pcap");
        for capture in [one_frame(), Capture::default()] {
            write(&path, &capture).unwrap();
            let read = read(&path).unwrap();
            assert_eq!(read.frames.len(), capture.frames.len());
            for (read, written) in read.frames.iter().zip(&capture.frames) {
                assert_eq!(read.at_ns, 1_700_000_000_000_000_007);
                assert_eq!(read.data, written.data);
            }
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn a_file_stands_when_another_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pcap");
        fs::write(&path, "of value").unwrap();
        let mut capture = one_frame();
        // The time exceeds the field for seconds.
        capture.frames.push(Frame {
            at_ns: u64::MAX,
            ..capture.frames[0].clone()
        });
        write(&path, &capture).unwrap_err();
        capture.frames[1] = frame(Link::Null, vec![]);
        let error = write(&path, &capture).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a pcap file cannot hold frames of different link types (1 and 0)"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "of value");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_and_devices_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("x.pcap"), folder.path().join("link"));
        write(&path, &Capture::default()).unwrap();
        symlink("x.pcap", &link).unwrap();
        write(&link, &one_frame()).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read(&path).unwrap().frames.len(), 1);
        write(Path::new("/dev/null"), &one_frame()).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    /// Properties that hold for any readable file.
    fn holds_together(file: &[u8]) -> Result<(), TestCaseError> {
        if let Ok(capture) = read_bytes(file) {
            let bytes: usize = capture.frames.iter().map(|frame| frame.data.len()).sum();
            prop_assert!(bytes <= file.len(), "no data comes from nowhere");
            prop_assert!(capture.frames.len() <= file.len() / 16);
            let (packets, _) = capture.packets();
            prop_assert!(packets.len() <= capture.frames.len());
        }
        Ok(())
    }

    fn magic() -> impl Strategy<Value = Vec<u8>> {
        let section_of = |order: Writing| [&section(order), &interface(order, 1, &[])[..]].concat();
        prop::sample::select(vec![
            vec![],
            pcap_header(Big, MICRO, 1),
            pcap_header(Little, NANO, 276),
            vec![0xd4, 0xc3, 0xb2, 0xa1],
            vec![0x0a, 0x0d, 0x0d, 0x0a],
            section_of(Big),
            section_of(Little),
        ])
    }

    /// A block of a known kind with an arbitrary body.
    fn any_block() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![1_u32..10, Just(0x0a0d_0d0a), any::<u32>()];
        (
            kind,
            prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..80),
        )
            .prop_map(|(kind, body)| block(Little, kind, &body))
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(
            begin in magic(),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            holds_together(&[begin, rest].concat())?;
        }

        #[test]
        fn any_blocks_are_taken(blocks in prop::collection::vec(any_block(), 0..6)) {
            let description = interface(Little, 1, &[]);
            holds_together(&[section(Little), description, blocks.concat()].concat())?;
        }

        #[test]
        fn a_damaged_file_is_taken(
            is_pcapng in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let mut file = if is_pcapng { whole_pcapng() } else { whole_pcap() };
            for (at, value) in changes {
                let at = at.index(file.len());
                file[at] = value;
            }
            if is_cut {
                file.truncate(cut.index(file.len() + 1));
            }
            holds_together(&file)?;
        }
    }
}
