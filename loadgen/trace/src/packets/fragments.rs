//! Reassembles fragmented IP packets (RFC 791 §3.2, RFC 8200 §4.5). etherparse can do this too, but
//! only for fragments that were captured completely.

use std::collections::HashMap;
use std::net::IpAddr;

use super::layers::{Ends, Payload, Piece};

/// Packets with missing fragments.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    pending: HashMap<Key, Pending>,
    /// Packets that were abandoned for a later one with the same identification.
    given_up: Vec<Pending>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

#[derive(Debug)]
struct Pending {
    begun_ns: u64,
    parts: Vec<Part>,
    /// The end of the packet, once its last fragment is known.
    end: Option<usize>,
    /// The packet is complete: fragments that follow within a moment are copies, as from a second
    /// interface.
    is_done: bool,
}

#[derive(Debug)]
struct Part {
    /// Index of the frame that contains the fragment.
    frame: usize,
    ends: Ends,
    protocol: u8,
    offset: usize,
    /// Length on the wire.
    bytes: usize,
    data: Vec<u8>,
}

/// A reassembled packet, or the first fragment of an incomplete one.
#[derive(Debug)]
pub(super) struct Whole {
    /// Index of the frame that contains the first fragment.
    pub(super) frame: usize,
    ends: Ends,
    protocol: u8,
    bytes: usize,
    /// The data captured without a gap.
    data: Vec<u8>,
}

impl Whole {
    pub(super) fn payload(&self) -> Payload<'_> {
        Payload {
            ends: self.ends,
            protocol: self.protocol,
            data: &self.data,
            bytes: Some(self.bytes),
        }
    }
}

/// Fragments that arrive later belong to another packet (RFC 791 suggests 15 s, RFC 8200 60 s).
const TOGETHER_NS: u64 = 60_000_000_000;
/// For this long after a packet, the same fragments are copies.
const COPIES_NS: u64 = 1_000_000_000;
/// The limit of fragments per packet, which bounds the work whatever the capture contains.
const PARTS_MAX: usize = 2048;
/// The longest possible fragmented IP packet.
const PACKET_BYTES_MAX: usize = u16::MAX as usize;

impl Fragments {
    /// Adds a fragment; returns the packet if it is complete now.
    pub(super) fn take(
        &mut self,
        frame: usize,
        at_ns: u64,
        payload: &Payload<'_>,
        piece: Piece,
    ) -> Option<Whole> {
        let bytes = payload.bytes?;
        if piece.offset + bytes > PACKET_BYTES_MAX {
            return None;
        }
        let Ends {
            source,
            destination,
            ..
        } = payload.ends;
        let key = Key {
            source,
            destination,
            protocol: payload.protocol,
            identification: piece.identification,
        };
        let fresh = || Pending {
            begun_ns: at_ns,
            parts: Vec::new(),
            end: None,
            is_done: false,
        };
        let pending = self.pending.entry(key).or_insert_with(fresh);
        let together_ns = match pending.is_done {
            true => COPIES_NS,
            false => TOGETHER_NS,
        };
        if at_ns.abs_diff(pending.begun_ns) > together_ns {
            self.given_up.push(std::mem::replace(pending, fresh()));
        }
        if pending.is_done || pending.parts.len() >= PARTS_MAX {
            return None;
        }
        pending.parts.push(Part {
            frame,
            ends: payload.ends,
            protocol: payload.protocol,
            offset: piece.offset,
            bytes,
            data: payload.data.to_vec(),
        });
        if !piece.more {
            pending.end = Some(piece.offset + bytes);
        }
        let whole = pending.whole()?;
        *pending = Pending {
            is_done: true,
            ..fresh()
        };
        Some(whole)
    }

    /// The first fragments of incomplete packets, and the number of incomplete packets.
    pub(super) fn unfinished(self) -> (Vec<Whole>, usize) {
        let left: Vec<Pending> = (self.pending.into_values())
            .chain(self.given_up)
            .filter(|pending| !pending.parts.is_empty())
            .collect();
        let count = left.len();
        let mut firsts: Vec<Whole> = (left.into_iter())
            .filter_map(|pending| pending.parts.into_iter().find(|part| part.offset == 0))
            .map(|part| Whole {
                frame: part.frame,
                ends: part.ends,
                protocol: part.protocol,
                bytes: part.bytes,
                data: part.data,
            })
            .collect();
        firsts.sort_by_key(|first| first.frame);
        (firsts, count)
    }
}

impl Pending {
    fn whole(&self) -> Option<Whole> {
        let end = self.end?;
        let came: usize = self.parts.iter().map(|part| part.bytes).sum();
        if came < end {
            return None;
        }
        let mut order: Vec<&Part> = self.parts.iter().collect();
        order.sort_by_key(|part| part.offset);
        let first = *order.first().filter(|part| part.offset == 0)?;
        let (mut data, mut next, mut is_whole) = (Vec::new(), 0, true);
        for part in order {
            if part.offset > next {
                return None;
            }
            let fresh = part.data.get(next - part.offset..).unwrap_or_default();
            if is_whole {
                data.extend_from_slice(fresh);
            }
            next = next.max(part.offset + part.bytes);
            is_whole = is_whole && data.len() == next;
        }
        (next >= end).then(|| Whole {
            frame: first.frame,
            ends: first.ends,
            protocol: first.protocol,
            bytes: end,
            data: {
                data.truncate(end);
                data
            },
        })
    }
}
