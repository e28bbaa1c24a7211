//! The older capture format (draft-ietf-opsawg-pcap): a header and records.

use std::io;

use super::reading::{BadHeader, FRAME_BYTES_MAX, Order, Reading};
use super::{Frame, Link};

/// Length of the file header.
const HEADER_BYTES: usize = 24;
const NS_PER_S: u64 = 1_000_000_000;

/// The variant of pcap, by its magic number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    order: Order,
    /// Nanoseconds per unit of a timestamp's fraction.
    fraction_ns: u64,
    /// Length of a record header.
    record_bytes: usize,
}

impl Kind {
    pub(super) fn of(magic: [u8; 4]) -> Option<Self> {
        let of = |order: Order| {
            let (fraction_ns, record_bytes) = match order.long(magic) {
                0xa1b2_c3d4 => (1_000, 16),
                0xa1b2_3c4d => (1, 16),
                // The variant of Alexey Kuznetsov: interface, protocol and direction follow the
                // lengths.
                0xa1b2_cd34 => (1_000, 24),
                _ => return None,
            };
            Some(Kind {
                order,
                fraction_ns,
                record_bytes,
            })
        };
        of(Order::Big).or_else(|| of(Order::Little))
    }

    /// Reads all complete records.
    pub(super) fn read(self, bytes: &[u8], reading: &mut Reading) -> Result<(), BadHeader> {
        let order = self.order;
        let header = bytes.get(..HEADER_BYTES).ok_or(BadHeader::Cut)?;
        let number = |record: &[u8], at: usize| order.number(record, at).unwrap_or_default();
        let minor = order.short_number(header, 6).unwrap_or_default();
        // The upper half of the field is the length of the frame check sequence.
        let link = Link::from_number(number(header, 20));
        let mut rest = &bytes[HEADER_BYTES..];
        while !rest.is_empty() && reading.has_room() {
            let Some(record) = rest.get(..self.record_bytes) else {
                reading.ends_in_the_midst();
                break;
            };
            let (mut captured, mut original) = (number(record, 8), number(record, 12));
            // Before version 2.3 the lengths are in the other order; in 2.3, in either.
            if minor < 3 || (minor == 3 && captured > original) {
                (captured, original) = (original, captured);
            }
            let captured_bytes = captured as usize;
            if captured_bytes > FRAME_BYTES_MAX {
                reading.is_damaged();
                break;
            }
            let end = self.record_bytes + captured_bytes;
            let Some(data) = rest.get(self.record_bytes..end) else {
                reading.ends_in_the_midst();
                break;
            };
            let seconds_ns = u64::from(number(record, 0)) * NS_PER_S;
            reading.capture.frames.push(Frame {
                at_ns: seconds_ns + u64::from(number(record, 4)) * self.fraction_ns,
                interface: None,
                link,
                data: data.to_vec(),
                original_bytes: original.max(captured),
            });
            rest = &rest[end..];
        }
        Ok(())
    }
}

/// A file header in the byte order of this machine, with times in ns.
pub(super) fn header(link: u16) -> Vec<u8> {
    let version = [2_u16, 4].map(u16::to_ne_bytes).concat();
    // Time zone and accuracy are unknown.
    let numbers = [0, 0, FRAME_BYTES_MAX as u32, link.into()].map(u32::to_ne_bytes);
    [
        &0xa1b2_3c4d_u32.to_ne_bytes()[..],
        &version,
        &numbers.concat(),
    ]
    .concat()
}

/// The record header of a frame captured at this time since 1970.
pub(super) fn record_header(at_ns: u64, frame: &Frame) -> io::Result<Vec<u8>> {
    let late = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a time after 2106 does not fit",
        )
    };
    let seconds = u32::try_from(at_ns / NS_PER_S).map_err(|_| late())?;
    let long = || io::Error::new(io::ErrorKind::InvalidInput, "a frame is too long");
    let bytes = u32::try_from(frame.data.len()).map_err(|_| long())?;
    let numbers = [
        seconds,
        (at_ns % NS_PER_S) as u32,
        bytes,
        frame.original_bytes,
    ];
    Ok(numbers.map(u32::to_ne_bytes).concat())
}
