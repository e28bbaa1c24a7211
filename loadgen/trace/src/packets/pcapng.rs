//! The newer capture format (draft-ietf-opsawg-pcapng): many kinds of blocks, of which a few are
//! needed.
//!
//! The parser is written by hand, because a reader must skip blocks and options that it does not
//! understand. The available crates parse every block, and lose a packet because of a comment in
//! another character set.

use super::reading::{BadHeader, FRAME_BYTES_MAX, Order, Reading};
use super::{Frame, Link};
use engine::figures::count;

/// The type of a section header; it reads the same in both byte orders.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
/// The obsolete packet block.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// The shortest section header, and the shortest block.
const SECTION_BYTES_MIN: usize = 28;
const BLOCK_BYTES_MIN: usize = 12;
/// The longest block that Wireshark accepts.
const BLOCK_BYTES_MAX: usize = 16 << 20;

/// Reads all packets of all sections.
pub(super) fn read(bytes: &[u8], reading: &mut Reading) -> Result<(), BadHeader> {
    let mut section = Section {
        order: order(bytes)?,
        ..Section::default()
    };
    let mut rest = bytes;
    while !rest.is_empty() && reading.has_room() {
        if rest.iter().all(|byte| *byte == 0) {
            reading.note(format!(
                "the file ends with {} of zeros and no packets in them",
                count(rest.len() as u64, "byte")
            ));
            break;
        }
        let is_first = rest.len() == bytes.len();
        // The section's byte order may differ from the previous section's.
        if rest.starts_with(&SECTION.to_be_bytes()) && !is_first {
            match order(rest) {
                Ok(order) => section.begin(order),
                Err(BadHeader::Cut) => {
                    reading.ends_in_the_midst();
                    break;
                }
                Err(BadHeader::Senseless) => {
                    reading.is_damaged();
                    break;
                }
            }
        }
        match section.cut_off(rest) {
            Cut::Block(block, after) => {
                section.take(&block, reading);
                rest = after;
            }
            Cut::Incomplete if is_first => return Err(BadHeader::Cut),
            Cut::Senseless if is_first => return Err(BadHeader::Senseless),
            Cut::Incomplete => {
                reading.ends_in_the_midst();
                break;
            }
            Cut::Senseless => {
                reading.is_damaged();
                break;
            }
        }
    }
    section.tell(reading);
    Ok(())
}

/// The byte order of a section, from the magic number in its header.
fn order(header: &[u8]) -> Result<Order, BadHeader> {
    let magic = header.get(8..12).ok_or(BadHeader::Cut)?;
    match magic {
        [0x1a, 0x2b, 0x3c, 0x4d] => Ok(Order::Big),
        [0x4d, 0x3c, 0x2b, 0x1a] => Ok(Order::Little),
        _ => Err(BadHeader::Senseless),
    }
}

struct Block<'a> {
    kind: u32,
    body: &'a [u8],
}

/// The result of extracting the next block from a file.
enum Cut<'a> {
    /// The block, and the rest of the file.
    Block(Block<'a>, &'a [u8]),
    /// The file ends within the block.
    Incomplete,
    /// The block's lengths are invalid.
    Senseless,
}

/// State that is reset at the start of each section.
#[derive(Default)]
struct Section {
    order: Order,
    interfaces: Vec<Interface>,
    /// Packets that could not be parsed, in all sections.
    not_understood: usize,
    /// Blocks whose two lengths differ, in all sections.
    of_two_lengths: usize,
    /// Packets that the capturing program missed, in all sections.
    dropped: u64,
}

impl Section {
    fn begin(&mut self, order: Order) {
        self.order = order;
        self.interfaces.clear();
    }

    /// Extracts the next block. Its length is stored before and after it, so that files can be read
    /// backwards.
    fn cut_off<'a>(&mut self, rest: &'a [u8]) -> Cut<'a> {
        let (Some(kind), Some(length)) = (self.order.number(rest, 0), self.order.number(rest, 4))
        else {
            return Cut::Incomplete;
        };
        let length = length as usize;
        let bytes_min = match kind {
            SECTION => SECTION_BYTES_MIN,
            _ => BLOCK_BYTES_MIN,
        };
        if !(bytes_min..=BLOCK_BYTES_MAX).contains(&length) {
            return Cut::Senseless;
        }
        let ends_at = |end: usize| {
            let behind = (end.checked_sub(4)).and_then(|at| self.order.number(rest, at));
            behind.is_some_and(|behind| behind as usize == length)
        };
        // Some programs do not count the padding that they write.
        let padded = length.next_multiple_of(4);
        let end = match [length, padded].into_iter().find(|end| ends_at(*end)) {
            Some(end) => end,
            // The length is impossible for a block, so the file is damaged rather than truncated.
            None if length != padded => return Cut::Senseless,
            None if length > rest.len() => return Cut::Incomplete,
            // One of the lengths is wrong: the first is trusted if another block follows.
            None if self.begins_block(&rest[length..]) => {
                self.of_two_lengths += 1;
                length
            }
            None => return Cut::Senseless,
        };
        let block = Block {
            kind,
            body: &rest[8..end - 4],
        };
        Cut::Block(block, &rest[end..])
    }

    fn begins_block(&self, rest: &[u8]) -> bool {
        let length = self.order.number(rest, 4);
        rest.is_empty()
            || rest.starts_with(&SECTION.to_be_bytes())
            || length.is_some_and(|length| {
                length % 4 == 0 && (BLOCK_BYTES_MIN..=rest.len()).contains(&(length as usize))
            })
    }

    fn take(&mut self, block: &Block<'_>, reading: &mut Reading) {
        let packet = match block.kind {
            INTERFACE => {
                let interface = Interface::of(block.body, self.order);
                self.interfaces.push(interface);
                return;
            }
            STATISTICS => return self.statistics(block.body),
            ENHANCED_PACKET => self.enhanced(block.body),
            PACKET => self.obsolete(block.body),
            SIMPLE_PACKET => self.simple(block.body),
            // Names, secrets, a journal, or company extensions: such blocks contain no packets.
            _ => return,
        };
        let has_time = packet.as_ref().is_some_and(|packet| packet.ticks.is_some());
        let frame = packet.and_then(|packet| self.frame(packet, reading));
        match frame {
            Some(frame) => {
                reading.capture.frames.push(frame);
                reading.capture.without_time += usize::from(!has_time);
            }
            None => self.not_understood += 1,
        }
    }

    fn enhanced<'a>(&self, body: &'a [u8]) -> Option<Packet<'a>> {
        let number = |at| self.order.number(body, at);
        Some(Packet {
            interface: number(0)?,
            ticks: Some(u64::from(number(4)?) << 32 | u64::from(number(8)?)),
            original_bytes: number(16)?,
            data: body.get(20..)?.get(..number(12)? as usize)?,
        })
    }

    fn obsolete<'a>(&self, body: &'a [u8]) -> Option<Packet<'a>> {
        let number = |at| self.order.number(body, at);
        Some(Packet {
            interface: self.order.short_number(body, 0)?.into(),
            ticks: Some(u64::from(number(4)?) << 32 | u64::from(number(8)?)),
            original_bytes: number(16)?,
            data: body.get(20..)?.get(..number(12)? as usize)?,
        })
    }

    fn simple<'a>(&self, body: &'a [u8]) -> Option<Packet<'a>> {
        let original_bytes = self.order.number(body, 0)?;
        let data = body.get(4..)?;
        // Only the lengths distinguish padding from data.
        let snap_bytes = match self.interfaces.first()?.snap_bytes {
            0 => u32::MAX,
            bytes => bytes,
        };
        let bytes = original_bytes.min(snap_bytes) as usize;
        Some(Packet {
            interface: 0,
            ticks: None,
            original_bytes,
            data: &data[..data.len().min(bytes)],
        })
    }

    fn frame(&self, packet: Packet<'_>, reading: &Reading) -> Option<Frame> {
        let interface = self.interfaces.get(packet.interface as usize)?;
        // A simple packet has no timestamp: it gets that of the packet before it.
        let last_ns = reading.capture.frames.last().map_or(0, |frame| frame.at_ns);
        let data = packet.data;
        (data.len() <= FRAME_BYTES_MAX).then(|| Frame {
            at_ns: packet.ticks.map_or(last_ns, |it| interface.clock.ns(it)),
            interface: interface.name.clone(),
            link: interface.link,
            data: data.to_vec(),
            original_bytes: packet.original_bytes.max(data.len() as u32),
        })
    }

    /// Counts packets that were dropped before they could be written.
    fn statistics(&mut self, body: &[u8]) {
        const BY_INTERFACE: u16 = 5;
        const BY_SYSTEM: u16 = 7;
        for (code, value) in options(body.get(12..).unwrap_or_default(), self.order) {
            if let (BY_INTERFACE | BY_SYSTEM, Some(&bytes)) = (code, value.first_chunk()) {
                self.dropped = self.dropped.saturating_add(self.order.double(bytes));
            }
        }
    }

    fn tell(&self, reading: &mut Reading) {
        if self.not_understood > 0 {
            let blocks = count(self.not_understood as u64, "block");
            reading.note(format!("{blocks} of the file could not be parsed"));
        }
        let without_time = reading.capture.without_time;
        if without_time > 0 {
            reading.note(format!(
                "{} of the file {} no timestamp and {} shown at the time of the packet before: durations are not known",
                count(without_time as u64, "packet"),
                if without_time == 1 { "has" } else { "have" },
                if without_time == 1 { "is" } else { "are" },
            ));
        }
        if self.of_two_lengths > 0 {
            reading.note(format!(
                "{} of the file contradicts itself: its two lengths differ, and the first was used",
                count(self.of_two_lengths as u64, "block")
            ));
        }
        if self.dropped > 0 {
            reading.note(format!(
                "{} dropped by the system or the interface while the file was written: segments are missing",
                match self.dropped {
                    1 => "1 frame was".to_owned(),
                    frames => format!("{} were", count(frames, "frame")),
                }
            ));
        }
    }
}

/// What the three kinds of packet blocks have in common.
struct Packet<'a> {
    interface: u32,
    ticks: Option<u64>,
    original_bytes: u32,
    data: &'a [u8],
}

/// The description of an interface.
struct Interface {
    name: Option<String>,
    link: Link,
    clock: Clock,
    /// The length to which frames were cut; 0 is unlimited.
    snap_bytes: u32,
}

impl Interface {
    /// Parses a description; missing parts get their defaults.
    fn of(body: &[u8], order: Order) -> Self {
        const NAME: u16 = 2;
        const RESOLUTION: u16 = 9;
        const OFFSET: u16 = 14;
        // Microseconds are the default.
        let mut clock = Clock {
            resolution: 6,
            offset_s: 0,
        };
        let mut name = None;
        for (code, value) in options(body.get(8..).unwrap_or_default(), order) {
            match (code, value) {
                (NAME, text) => name = name_of(text),
                (RESOLUTION, [resolution, ..]) => clock.resolution = *resolution,
                (OFFSET, value) => {
                    if let Some(&bytes) = value.first_chunk() {
                        clock.offset_s = order.double(bytes).cast_signed();
                    }
                }
                _ => {}
            }
        }
        // The block is too short for a link type.
        let number = order.short_number(body, 0).unwrap_or(u16::MAX);
        Self {
            name,
            link: Link::from_number(number.into()),
            clock,
            snap_bytes: order.number(body, 4).unwrap_or(0),
        }
    }
}

/// Makes an interface name printable: it may be in any character set and contain escape sequences.
fn name_of(text: &[u8]) -> Option<String> {
    /// Names are limited because each frame carries one.
    const NAME_CHARS_MAX: usize = 64;
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut shown = String::new();
    for character in String::from_utf8_lossy(text).chars().take(NAME_CHARS_MAX) {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    Some(shown).filter(|name| !name.is_empty())
}

/// The options of a block, up to the end mark, the end of the block, or an option that exceeds the
/// block.
fn options(bytes: &[u8], order: Order) -> impl Iterator<Item = (u16, &[u8])> {
    const END: u16 = 0;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let code = order.short_number(rest, 0).filter(|code| *code != END)?;
        let bytes = usize::from(order.short_number(rest, 2)?);
        let value = rest.get(4..4 + bytes)?;
        rest = rest
            .get(4 + bytes.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((code, value))
    })
}

const NS_PER_S: u64 = 1_000_000_000;

/// The units of an interface's timestamps (`if_tsresol`, `if_tsoffset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clock {
    /// Exponent of the ticks per second: of 10, or of 2 if the highest bit is set.
    resolution: u8,
    offset_s: i64,
}

impl Clock {
    /// Converts ticks to ns since 1970; times out of range are clamped.
    fn ns(self, ticks: u64) -> u64 {
        let exponent = u32::from(self.resolution & 0x7f);
        // The product is less than 2^94.
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn names_are_fit_for_a_terminal() {
        for (bytes, shown) in [
            (&b"eth0"[..], Some("eth0")),
            (b"eth0\0\0\0\0", Some("eth0")),
            (b"", None),
            (b"\0", None),
            (b"R\xe9seau", Some("R\u{fffd}seau")),
            (b"\x1b[31m\r\n", Some("\\u{1b}[31m\\r\\n")),
            ("höhe".as_bytes(), Some("höhe")),
        ] {
            assert_eq!(name_of(bytes).as_deref(), shown);
        }
        assert_eq!(name_of(&[b'x'; 1000]).map(|name| name.len()), Some(64));
    }
}
