//! Capture files: pcap in both byte orders and both resolutions, and pcapng, as tcpdump and Wireshark write
//! them. What a damaged file still holds is read; lengths in it are never believed before the bytes are there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapParser, PcapWriter};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::{ENHANCED_PACKET_BLOCK, PACKET_BLOCK, SIMPLE_PACKET_BLOCK};
use pcap_file::pcapng::{Block, PcapNgParser};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use thiserror::Error;

use super::{Capture, Frame, Link};
use crate::report::run::count;

/// Why nothing could be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file is not there or may not be read.
    #[error("cannot read the capture file {name}")]
    Io {
        /// Its name.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// Nothing at all.
    #[error("{0} is empty; a capture file has a header even where nothing was captured")]
    Empty(String),
    /// Another kind of file.
    #[error(
        "{0} is no capture file: expected pcap or pcapng, as `tcpdump -w` and Wireshark write them \
         (`editcap -F pcap` makes it of other kinds)"
    )]
    NotACapture(String),
    /// One that has to be unpacked first.
    #[error("{0} is compressed; unpack it first: `{1} < {0} | loadgen trace --read -`")]
    Compressed(String, &'static str),
    /// It ends before the first packet could come.
    #[error("{0} is cut short: it ends in the midst of the header of a capture file")]
    CutHeader(String),
    /// Its first block makes no sense.
    #[error("{0} begins like a capture file, but its header makes no sense: it is damaged")]
    Damaged(String),
}

/// Of a file, more is not read: a capture of that size is no longer looked at connection by connection.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Of frames, since an empty one takes memory too.
const FRAMES_MAX: usize = 2_000_000;
/// The longest frame that tcpdump and Wireshark take for one.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 10;
/// The longest block of a pcapng file that Wireshark takes for one.
const BLOCK_BYTES_MAX: usize = 16 << 20;

/// Reads a capture file; `-` is standard input.
///
/// A file that is cut short or damaged gives the frames that come before, and a note.
///
/// # Errors
///
/// There is no such file, or it is no capture file.
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

/// Reads a capture from anything; errors call it by this name.
///
/// # Errors
///
/// As for [`read`].
pub fn read_from(mut source: impl Read, name: &str) -> Result<Capture, ReadError> {
    let io_error = |source| ReadError::Io {
        name: name.to_owned(),
        source,
    };
    // Looked at before the rest is waited for, which may be endless.
    let mut bytes = Vec::new();
    (source.by_ref().take(MAGIC_BYTES).read_to_end(&mut bytes)).map_err(io_error)?;
    let format = Format::of(&bytes, name)?;
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
        Format::Pcap => reading.pcap(&bytes),
        Format::Pcapng => reading.pcapng(&bytes),
    };
    match begun {
        Ok(()) => {
            reading.stops_at_the_limit();
            Ok(reading.capture)
        }
        Err(PcapError::IncompleteBuffer) => Err(ReadError::CutHeader(name.to_owned())),
        Err(_) => Err(ReadError::Damaged(name.to_owned())),
    }
}

enum Format {
    Pcap,
    Pcapng,
}

const MAGIC_BYTES: u64 = 4;

impl Format {
    fn of(magic: &[u8], name: &str) -> Result<Self, ReadError> {
        match magic {
            [] => Err(ReadError::Empty(name.to_owned())),
            // Most significant byte first, then last; microseconds, then nanoseconds.
            b"\xa1\xb2\xc3\xd4" | b"\xa1\xb2\x3c\x4d" | b"\xd4\xc3\xb2\xa1"
            | b"\x4d\x3c\xb2\xa1" => Ok(Format::Pcap),
            b"\x0a\x0d\x0d\x0a" => Ok(Format::Pcapng),
            [0x1f, 0x8b, ..] => Err(ReadError::Compressed(name.to_owned(), "zcat")),
            b"\x28\xb5\x2f\xfd" => Err(ReadError::Compressed(name.to_owned(), "zstdcat")),
            b"\x04\x22\x4d\x18" => Err(ReadError::Compressed(name.to_owned(), "lz4cat")),
            _ => Err(ReadError::NotACapture(name.to_owned())),
        }
    }
}

/// A file that is being read.
#[derive(Default)]
struct Reading {
    capture: Capture,
    /// Of a section of a pcapng file.
    interfaces: Vec<Interface>,
    /// Blocks that were left out.
    not_understood: usize,
    /// What of the file was taken, when not all.
    limit: Option<String>,
}

impl Reading {
    /// An error is one of the header.
    fn pcap(&mut self, bytes: &[u8]) -> Result<(), PcapError> {
        let (mut rest, parser) = PcapParser::new(bytes)?;
        let header = parser.header();
        let link = Link::from_number(u32::from(header.datalink));
        let fraction_ns = match header.ts_resolution {
            TsResolution::MicroSecond => 1_000,
            TsResolution::NanoSecond => 1,
        };
        while !rest.is_empty() && self.has_room() {
            // The raw packet, because the other is refused when a frame was longer than the snap length.
            match parser.next_raw_packet(rest) {
                Ok((after, packet)) if packet.data.len() <= FRAME_BYTES_MAX => {
                    let seconds_ns = u64::from(packet.ts_sec) * NS_PER_S;
                    let fraction_ns = u64::from(packet.ts_frac) * fraction_ns;
                    self.capture.frames.push(Frame {
                        at_ns: seconds_ns + fraction_ns,
                        interface: None,
                        link,
                        data: packet.data.into_owned(),
                        original_bytes: packet.orig_len.max(packet.incl_len),
                    });
                    rest = after;
                }
                Err(PcapError::IncompleteBuffer)
                    if number(rest, 8, header.endianness)
                        .is_none_or(|bytes| bytes as usize <= FRAME_BYTES_MAX) =>
                {
                    self.ends_in_the_midst();
                    break;
                }
                _ => {
                    self.is_damaged();
                    break;
                }
            }
        }
        Ok(())
    }

    /// An error is one of the header.
    fn pcapng(&mut self, bytes: &[u8]) -> Result<(), PcapError> {
        let (mut rest, mut parser) = PcapNgParser::new(bytes)?;
        while !rest.is_empty() && self.has_room() {
            let endianness = parser.section().endianness;
            let kind = number(rest, 0, endianness).unwrap_or_default();
            // Only those that are needed are taken apart: the crate panics at others that are damaged.
            let is_packet =
                [PACKET_BLOCK, SIMPLE_PACKET_BLOCK, ENHANCED_PACKET_BLOCK].contains(&kind);
            if is_packet && let Ok((after, block)) = parser.next_block(rest) {
                self.block(&block, endianness);
                rest = after;
                continue;
            }
            match parser.next_raw_block(rest) {
                Ok((after, _)) => {
                    // The block is sound, but not what it holds: its length leads to the next.
                    self.not_understood += usize::from(is_packet);
                    self.interfaces.truncate(parser.interfaces().len());
                    let added = &parser.interfaces()[self.interfaces.len()..];
                    self.interfaces.extend(added.iter().map(Interface::of));
                    rest = after;
                }
                Err(PcapError::IncompleteBuffer)
                    if number(rest, 4, endianness).is_none_or(|bytes| {
                        (rest.len()..BLOCK_BYTES_MAX).contains(&(bytes as usize))
                    }) =>
                {
                    self.ends_in_the_midst();
                    break;
                }
                Err(_) => {
                    self.is_damaged();
                    break;
                }
            }
        }
        if self.not_understood > 0 {
            let blocks = count(self.not_understood as u64, "block");
            self.capture
                .notes
                .push(format!("{blocks} of the file could not be understood"));
        }
        Ok(())
    }

    fn block(&mut self, block: &Block<'_>, endianness: Endianness) {
        let (interface, ticks, original_bytes, data) = match block {
            Block::EnhancedPacket(packet) => {
                // The crate takes the ticks for nanoseconds, whatever the interface says of them.
                let ticks = u64::try_from(packet.timestamp.as_nanos()).unwrap_or(u64::MAX);
                (
                    packet.interface_id,
                    Some(ticks),
                    packet.original_len,
                    &packet.data[..],
                )
            }
            Block::Packet(packet) => {
                // Two numbers, of which the crate makes one: its halves are the wrong way round.
                let ticks = match endianness {
                    Endianness::Big => packet.timestamp,
                    Endianness::Little => packet.timestamp.rotate_left(32),
                };
                (
                    packet.interface_id.into(),
                    Some(ticks),
                    packet.original_len,
                    &packet.data[..],
                )
            }
            Block::SimplePacket(packet) => {
                // Padding is told from data by the lengths alone.
                let snap_bytes = self.interfaces.first().map_or(0, |first| first.snap_bytes);
                let snap_bytes = if snap_bytes == 0 {
                    u32::MAX
                } else {
                    snap_bytes
                };
                let bytes = packet.original_len.min(snap_bytes) as usize;
                (
                    0,
                    None,
                    packet.original_len,
                    &packet.data[..packet.data.len().min(bytes)],
                )
            }
            _ => return,
        };
        let interface = self.interfaces.get(interface as usize);
        let Some(interface) = interface.filter(|_| data.len() <= FRAME_BYTES_MAX) else {
            self.not_understood += 1;
            return;
        };
        // A simple packet has no time: it is that of the one before.
        let last_ns = self.capture.frames.last().map_or(0, |frame| frame.at_ns);
        self.capture.frames.push(Frame {
            at_ns: ticks.map_or(last_ns, |ticks| interface.clock.ns(ticks)),
            interface: interface.name.clone(),
            link: interface.link,
            data: data.to_vec(),
            original_bytes: original_bytes.max(data.len() as u32),
        });
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.capture.frames.len() < FRAMES_MAX;
        if !has_room {
            self.limit = Some(format!("{FRAMES_MAX} packets"));
            self.stops_at_the_limit();
        }
        has_room
    }

    fn ends_in_the_midst(&mut self) {
        if self.limit.is_some() {
            return self.stops_at_the_limit();
        }
        let read = self.capture.frames.len();
        let note = format!(
            "the file ends in the midst of packet {}; {read} could be read",
            read + 1
        );
        self.capture.notes.push(note);
    }

    fn is_damaged(&mut self) {
        let read = self.capture.frames.len();
        let note = format!(
            "the file is damaged at packet {}; {read} could be read",
            read + 1
        );
        self.capture.notes.push(note);
    }

    fn stops_at_the_limit(&mut self) {
        if let Some(limit) = self.limit.take() {
            let note = format!(
                "the file is large: only its first {limit} were read; `tcpdump -r FILE -w SMALLER 'tcp port \
                 8000'` takes out what is asked for"
            );
            self.capture.notes.push(note);
        }
    }
}

/// A number in a record that may not be all there.
fn number(record: &[u8], at: usize, endianness: Endianness) -> Option<u32> {
    let bytes = record.get(at..)?.first_chunk::<4>()?;
    Some(match endianness {
        Endianness::Big => u32::from_be_bytes(*bytes),
        Endianness::Little => u32::from_le_bytes(*bytes),
    })
}

/// What is to be known of an interface that a pcapng file describes.
struct Interface {
    name: Option<String>,
    link: Link,
    clock: Clock,
    /// As far as frames were captured; 0 is all of them.
    snap_bytes: u32,
}

impl Interface {
    fn of(described: &InterfaceDescriptionBlock<'_>) -> Self {
        /// Each frame has the name.
        const NAME_CHARS_MAX: usize = 64;
        // Microseconds, where nothing is said.
        let mut clock = Clock {
            resolution: 6,
            offset_s: 0,
        };
        let mut name = None;
        for option in &described.options {
            match option {
                InterfaceDescriptionOption::IfName(text) => {
                    name = Some(text.chars().take(NAME_CHARS_MAX).collect());
                }
                InterfaceDescriptionOption::IfTsResol(resolution) => clock.resolution = *resolution,
                InterfaceDescriptionOption::IfTsOffset(offset) => {
                    clock.offset_s = offset.cast_signed();
                }
                _ => {}
            }
        }
        let link = Link::from_number(u32::from(described.linktype));
        Self {
            name,
            link,
            clock,
            snap_bytes: described.snaplen,
        }
    }
}

const NS_PER_S: u64 = 1_000_000_000;

/// What the ticks of an interface's times are (`if_tsresol`, `if_tsoffset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clock {
    /// An exponent of 10, or with the highest bit of 2: so many ticks a second.
    resolution: u8,
    offset_s: i64,
}

impl Clock {
    /// Times that do not fit are the first or the last that do.
    fn ns(self, ticks: u64) -> u64 {
        let exponent = u32::from(self.resolution & 0x7f);
        // Less than 2^94.
        let scaled = u128::from(ticks) * u128::from(NS_PER_S);
        let ns = match self.resolution & 0x80 {
            0 => 10_u128
                .checked_pow(exponent)
                .map_or(0, |per_s| scaled / per_s),
            _ => scaled >> exponent,
        };
        let offset_ns = i128::from(self.offset_s) * i128::from(NS_PER_S);
        let ns = ns.cast_signed() + offset_ns;
        u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
    }
}

impl Link {
    /// By the number in a file.
    fn from_number(number: u32) -> Self {
        // The upper half of the field holds other things (length of the frame check sequence).
        match (number & 0xffff) as u16 {
            0 => Link::Null,
            1 => Link::Ethernet,
            // 12 and 14 were taken over from the numbers that BSDs have.
            number @ (12 | 14 | 101 | 228 | 229) => Link::Ip(number),
            108 => Link::Loop,
            113 => Link::LinuxCooked,
            276 => Link::LinuxCooked2,
            number => Link::Other(number),
        }
    }

    fn number(self) -> u16 {
        match self {
            Link::Null => 0,
            Link::Ethernet => 1,
            Link::Ip(number) | Link::Other(number) => number,
            Link::Loop => 108,
            Link::LinuxCooked => 113,
            Link::LinuxCooked2 => 276,
        }
    }
}

/// Writes a capture as a pcap file with times in ns since 1970; `-` is standard output.
///
/// A file that is there already is replaced once all is written, and stands as it was when that fails.
///
/// # Errors
///
/// It cannot be written, or its frames have different link layers, of which a pcap file has but one.
pub fn write(path: &Path, capture: &Capture) -> io::Result<()> {
    if path == Path::new("-") {
        return write_to(io::stdout().lock(), capture);
    }
    // A pipe, a terminal or /dev/null is written to, not replaced; what a link points to is.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        return write_to(OpenOptions::new().write(true).open(target)?, capture);
    }
    let folder = match target.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    // Readable as any new file is, which the umask decides.
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .prefix(".loadgen-")
        .tempfile_in(folder)?;
    write_to(&mut file, capture)?;
    file.persist(target)?;
    Ok(())
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
                "frames of different link types ({} and {}) do not go into one pcap file",
                link.number(),
                other.link.number()
            ),
        ));
    }
    let header = PcapHeader {
        snaplen: FRAME_BYTES_MAX as u32,
        datalink: DataLink::from(u32::from(link.number())),
        ts_resolution: TsResolution::NanoSecond,
        endianness: Endianness::native(),
        ..PcapHeader::default()
    };
    let mut file = BufWriter::new(file);
    let mut writer = PcapWriter::with_header(&mut file, header).map_err(io_error)?;
    for frame in &capture.frames {
        let at = Duration::from_nanos(frame.at_ns.saturating_add_signed(capture.epoch_offset_ns));
        let packet = PcapPacket::new(at, frame.original_bytes, &frame.data);
        writer.write_packet(&packet).map_err(io_error)?;
    }
    file.flush()
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidInput, error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::super::frame::tests::frame;
    use super::*;

    /// Numbers in one of both byte orders.
    #[derive(Debug, Clone, Copy)]
    enum Order {
        Big,
        Little,
    }
    use Order::{Big, Little};

    impl Order {
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

    fn pcap_header(order: Order, magic: u32, link: u32) -> Vec<u8> {
        let numbers = [0, 0, 96, link].map(|number| order.long(number));
        [
            order.long(magic),
            order.short(2),
            order.short(4),
            numbers.concat(),
        ]
        .concat()
    }

    fn record(order: Order, time: (u32, u32), original_bytes: u32, data: &[u8]) -> Vec<u8> {
        let numbers = [time.0, time.1, data.len() as u32, original_bytes];
        [&numbers.map(|number| order.long(number)).concat(), data].concat()
    }

    fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
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

    fn section(order: Order) -> Vec<u8> {
        let body = [
            order.long(0x1a2b_3c4d),
            order.short(1),
            order.short(0),
            vec![0xff; 8],
        ];
        block(order, 0x0a0d_0d0a, &body.concat())
    }

    fn options(order: Order, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (code, value) in options {
            bytes.extend([order.short(*code), order.short(value.len() as u16)].concat());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.extend([0; 4]);
        bytes
    }

    fn interface(order: Order, link: u16, about: &[(u16, &[u8])]) -> Vec<u8> {
        let body = [
            order.short(link),
            vec![0; 2],
            order.long(0),
            options(order, about),
        ]
        .concat();
        block(order, 1, &body)
    }

    fn enhanced(order: Order, interface: u32, ticks: u64, data: &[u8]) -> Vec<u8> {
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

    fn obsolete(order: Order, interface: u16, ticks: u64, data: &[u8]) -> Vec<u8> {
        let length = data.len() as u32;
        let numbers = [(ticks >> 32) as u32, ticks as u32, length, length];
        let numbers = numbers.map(|number| order.long(number)).concat();
        block(
            order,
            2,
            &[&order.short(interface), &[0; 2][..], &numbers, data].concat(),
        )
    }

    fn simple(order: Order, data: &[u8]) -> Vec<u8> {
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
                // Longer on the wire than the snap length of the file, which is nothing special.
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
            (195, Link::Other(195)),
            // With the length of a frame check sequence.
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
                ["1 block of the file could not be understood"]
            );
        }
    }

    #[test]
    fn resolutions() {
        let ns = |resolution, offset_s, ticks| {
            Clock {
                resolution,
                offset_s,
            }
            .ns(ticks)
        };
        assert_eq!(ns(0, 0, 3), 3_000_000_000);
        assert_eq!(ns(3, 0, 3), 3_000_000);
        assert_eq!(ns(9, 0, 3), 3);
        assert_eq!(ns(12, 0, 3_999), 3);
        assert_eq!(ns(127, 0, u64::MAX), 0);
        assert_eq!(ns(0x80, 0, 3), 3_000_000_000);
        assert_eq!(ns(0x80 | 32, 0, 3 << 31), 1_500_000_000);
        assert_eq!(ns(0xff, 0, u64::MAX), 0);
        assert_eq!(ns(6, -1, 3_000_000), 2_000_000_000);
        assert_eq!(ns(6, i64::MIN, 3), 0);
        assert_eq!(ns(0, i64::MAX, u64::MAX), u64::MAX);
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
                    "the file ends in the midst of packet {}; {read} could be read",
                    read + 1
                );
                assert!(
                    capture.notes.is_empty() || capture.notes == [note],
                    "{:?}",
                    capture.notes
                );
                counts.push((read, capture.notes.len()));
            }
            // Between two packets nobody can tell.
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
        // Sound from outside, wrong within.
        let bad = |kind, body: &[u8]| block(Little, kind, body);
        let file = [
            section(Little),
            interface(Little, 1, &[]),
            bad(6, &[0; 8]),
            simple(Little, b"x"),
        ];
        let within = read_bytes(&file.concat()).unwrap();
        assert_eq!(within.frames.len(), 1);
        // A name without its padding, at which pcap-file would panic.
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
    1 block of the file could not be understood
    "
        );
    }

    #[test]
    fn what_is_no_capture_is_told() {
        let files: [&[u8]; 8] = [
            b"",
            b"\xd4\xc3\xb2",
            b"\xd4\xc3\xb2\xa1",
            b"\x0a\x0d\x0d\x0a",
            &[b"\x0a\x0d\x0d\x0a", &[0; 60][..]].concat(),
            b"GET / HTTP/1.1\r\n",
            b"\x1f\x8b\x08\x00",
            b"\x28\xb5\x2f\xfd\x00",
        ];
        let errors: Vec<String> = files
            .iter()
            .map(|file| read_bytes(file).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
    FILE is empty; a capture file has a header even where nothing was captured
    FILE is no capture file: expected pcap or pcapng, as `tcpdump -w` and Wireshark write them (`editcap -F pcap` makes it of other kinds)
    FILE is cut short: it ends in the midst of the header of a capture file
    FILE is cut short: it ends in the midst of the header of a capture file
    FILE begins like a capture file, but its header makes no sense: it is damaged
    FILE is no capture file: expected pcap or pcapng, as `tcpdump -w` and Wireshark write them (`editcap -F pcap` makes it of other kinds)
    FILE is compressed; unpack it first: `zcat < FILE | loadgen trace --read -`
    FILE is compressed; unpack it first: `zstdcat < FILE | loadgen trace --read -`
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
            notes: vec!["what the file said".to_owned()],
            epoch_offset_ns: 0,
        };
        let (packets, notes) = capture.packets();
        assert_eq!(packets, []);
        insta::assert_snapshot!(notes.join("\n"), @r"
    what the file said
    1 of 5 frames has a link layer that is not understood here (link type 105; Ethernet, Linux cooked, raw IP and loopback are)
    2 of 5 frames have a link layer that is not understood here (link type 195; Ethernet, Linux cooked, raw IP and loopback are)
    2 of 5 frames are no TCP
    1 of 5 frames is cut to at most 60 bytes: not all of what it carried is known (`tcpdump -s 0` keeps whole frames)
    ");
        assert_eq!(Capture::default().packets().1, [""; 0]);
    }

    fn one_frame() -> Capture {
        Capture {
            frames: vec![frame(Link::Ethernet, b"frame".to_vec())],
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
        // So late that the field for seconds is too small.
        capture.frames.push(Frame {
            at_ns: u64::MAX,
            ..capture.frames[0].clone()
        });
        write(&path, &capture).unwrap_err();
        capture.frames[1] = frame(Link::Null, vec![]);
        let error = write(&path, &capture).unwrap_err();
        assert_eq!(
            error.to_string(),
            "frames of different link types (1 and 0) do not go into one pcap file"
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

    /// What holds of any file that can be read at all.
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
        let section_of = |order: Order| [&section(order), &interface(order, 1, &[])[..]].concat();
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

    /// A block of a kind that is known, with any body.
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
