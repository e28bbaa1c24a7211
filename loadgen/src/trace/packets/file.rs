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
use pcap_file::pcapng::{Block, PcapNgParser};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use thiserror::Error;

use super::{Capture, Frame, Link, counted};

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
    #[error("{0} begins like a capture file, but its header is damaged: {1}")]
    Damaged(String, String),
}

/// Of a file, more is not read: a capture of that size is no longer looked at connection by connection.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Of frames, since an empty one takes memory too.
const FRAMES_MAX: usize = 2_000_000;
/// The longest frame that tcpdump and Wireshark take for one.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 10;

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
        Ok(()) => Ok(reading.capture),
        Err(PcapError::IncompleteBuffer) => Err(ReadError::CutHeader(name.to_owned())),
        Err(error) => Err(ReadError::Damaged(name.to_owned(), error.to_string())),
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
    /// Blocks of a pcapng file that were left out.
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
                Err(PcapError::IncompleteBuffer) if stated_bytes(rest, header.endianness) => {
                    self.ends_in_the_midst();
                    break;
                }
                _ => {
                    self.is_damaged("its length makes no sense");
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
            match parser.next_block(rest) {
                Ok((after, block)) => {
                    self.block(&block, &parser);
                    rest = after;
                }
                // A block may be sound and its contents not: its length leads to the next.
                Err(error) => match parser.next_raw_block(rest) {
                    Ok((after, _)) => {
                        self.not_understood += 1;
                        rest = after;
                    }
                    Err(PcapError::IncompleteBuffer) => {
                        self.ends_in_the_midst();
                        break;
                    }
                    Err(_) => {
                        self.is_damaged(&error.to_string());
                        break;
                    }
                },
            }
        }
        if self.not_understood > 0 {
            let blocks = counted(self.not_understood, "block");
            self.capture
                .notes
                .push(format!("{blocks} of the file could not be understood"));
        }
        Ok(())
    }

    fn block(&mut self, block: &Block<'_>, parser: &PcapNgParser) {
        let last_ns = self.capture.frames.last().map_or(0, |frame| frame.at_ns);
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
                let ticks = match parser.section().endianness {
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
                // Padding is not told from data.
                let bytes = packet.data.len().min(packet.original_len as usize);
                (0, None, packet.original_len, &packet.data[..bytes])
            }
            _ => return,
        };
        let described = parser.interfaces().get(interface as usize);
        let Some(described) = described.filter(|_| data.len() <= FRAME_BYTES_MAX) else {
            self.not_understood += 1;
            return;
        };
        let captured = match (block, described.snaplen) {
            (Block::SimplePacket(_), 1..) => &data[..data.len().min(described.snaplen as usize)],
            _ => data,
        };
        self.capture.frames.push(Frame {
            at_ns: ticks.map_or(last_ns, |ticks| Clock::of(described).ns(ticks)),
            interface: described.options.iter().find_map(|option| match option {
                InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                _ => None,
            }),
            link: Link::from_number(u32::from(described.linktype)),
            data: captured.to_vec(),
            original_bytes: original_bytes.max(captured.len() as u32),
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

    fn is_damaged(&mut self, how: &str) {
        let read = self.capture.frames.len();
        let note = format!(
            "the file is damaged at packet {} ({how}); {read} could be read",
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

/// Whether a record that is not all there has a length that a frame may have.
fn stated_bytes(record: &[u8], endianness: Endianness) -> bool {
    let Some(length) = record.get(8..12).and_then(|bytes| bytes.first_chunk::<4>()) else {
        return true;
    };
    let length = match endianness {
        Endianness::Big => u32::from_be_bytes(*length),
        Endianness::Little => u32::from_le_bytes(*length),
    };
    length as usize <= FRAME_BYTES_MAX
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
    fn of(interface: &InterfaceDescriptionBlock<'_>) -> Self {
        // Microseconds, where nothing is said.
        let mut clock = Clock {
            resolution: 6,
            offset_s: 0,
        };
        for option in &interface.options {
            match option {
                InterfaceDescriptionOption::IfTsResol(resolution) => clock.resolution = *resolution,
                InterfaceDescriptionOption::IfTsOffset(offset) => {
                    clock.offset_s = offset.cast_signed();
                }
                _ => {}
            }
        }
        clock
    }

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
