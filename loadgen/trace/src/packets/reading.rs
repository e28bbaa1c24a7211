//! What the readers of pcap and pcapng share: limits, byte orders, and how reading ended.

use super::Capture;

/// Frames are limited too, since even an empty one takes memory.
const FRAMES_MAX: usize = 2_000_000;
/// The longest frame that tcpdump and Wireshark accept.
pub(super) const FRAME_BYTES_MAX: usize = 256 << 10;

/// Why a file header is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// The file ends within the header.
    Cut,
    /// The header contradicts itself.
    Senseless,
}

/// The byte order of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    #[default]
    Little,
}

impl Order {
    pub(super) fn long(self, bytes: [u8; 4]) -> u32 {
        match self {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        }
    }

    pub(super) fn double(self, bytes: [u8; 8]) -> u64 {
        match self {
            Order::Big => u64::from_be_bytes(bytes),
            Order::Little => u64::from_le_bytes(bytes),
        }
    }

    /// Reads a number of four bytes from a record that may be truncated.
    pub(super) fn number(self, record: &[u8], at: usize) -> Option<u32> {
        Some(self.long(*record.get(at..)?.first_chunk()?))
    }

    /// Reads a number of two bytes from a record that may be truncated.
    pub(super) fn short_number(self, record: &[u8], at: usize) -> Option<u16> {
        let bytes = *record.get(at..)?.first_chunk()?;
        Some(match self {
            Order::Big => u16::from_be_bytes(bytes),
            Order::Little => u16::from_le_bytes(bytes),
        })
    }
}

/// A file while it is being read.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) capture: Capture,
    /// The part of the file that was read, if not all of it.
    pub(super) limit: Option<String>,
}

impl Reading {
    pub(super) fn note(&mut self, note: String) {
        self.capture.notes.push(note);
    }

    pub(super) fn has_room(&mut self) -> bool {
        let has_room = self.capture.frames.len() < FRAMES_MAX;
        if !has_room {
            self.limit = Some(format!("{FRAMES_MAX} packets"));
            self.stops_at_the_limit();
        }
        has_room
    }

    pub(super) fn ends_in_the_midst(&mut self) {
        if self.limit.is_some() {
            return self.stops_at_the_limit();
        }
        let read = self.capture.frames.len();
        self.note(format!(
            "the file ends in the middle of packet {}; {read} could be read",
            read + 1
        ));
    }

    pub(super) fn is_damaged(&mut self) {
        let read = self.capture.frames.len();
        self.note(format!(
            "the file is damaged at packet {}; {read} could be read",
            read + 1
        ));
    }

    pub(super) fn stops_at_the_limit(&mut self) {
        if let Some(limit) = self.limit.take() {
            self.note(format!(
                "the file is large: only its first {limit} were read; `tcpdump -r FILE -w SMALLER 'tcp port \
                 8000'` extracts the relevant packets"
            ));
        }
    }
}
