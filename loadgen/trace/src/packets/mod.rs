//! Segments captured from an interface or read from a capture file, and written to one.
//!
//! [`Live`] listens to all interfaces, and [`read`] reads a file: both make a [`Capture`] of
//! [`Frame`]s. [`write()`](fn@write) writes it to a file; [`Capture::packets`] extracts the TCP
//! segments, from which a trace is made.

mod file;
mod fragments;
mod frame;
mod icmp;
mod layers;
mod live;
mod pcap;
mod pcapng;
mod reading;

pub use file::{ReadError, read, read_from, write};
pub use live::{Live, Missing, Ports};

use std::collections::BTreeMap;

use super::model::{IcmpError, Packet};
use fragments::Fragments;
use layers::{Unread, in_payload};

/// Frames from an interface or a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    /// In capture order.
    pub frames: Vec<Frame>,
    /// The number of frames without a timestamp; each has the time of the frame before it.
    pub without_time: usize,
    /// Notes about the frames: a truncated file, lost frames.
    pub notes: Vec<String>,
    /// Added to the frames' times, gives ns since 1970: 0 for a file, the difference of the two
    /// clocks for a live capture.
    pub epoch_offset_ns: i64,
}

/// A frame on an interface, from the link-layer header on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Capture time in ns: `CLOCK_MONOTONIC` for a live capture, time since 1970 for a file.
    pub at_ns: u64,
    /// Name of the interface, such as `lo`; most files do not record it.
    pub interface: Option<String>,
    /// The link-layer header at the start of the data.
    pub link: Link,
    /// The captured part of the frame.
    pub data: Vec<u8>,
    /// Length on the wire.
    pub original_bytes: u32,
}

/// The link-layer header, as numbered in <https://www.tcpdump.org/linktypes.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// `NULL`: the address family, in the byte order of the capturing machine.
    Null,
    /// `ETHERNET`
    Ethernet,
    /// `RAW`, `IPV4`, `IPV6`: no header, the IP packet comes first. The number is kept because
    /// several exist.
    Ip(u16),
    /// `LOOP`: the address family, most significant byte first.
    Loop,
    /// `LINUX_SLL`: written by older versions of `tcpdump -i any`.
    LinuxCooked,
    /// `LINUX_SLL2`: written by current versions of `tcpdump -i any`.
    LinuxCooked2,
    /// `PPP`, `PPP_HDLC`
    Ppp(u16),
    /// `PPP_WITH_DIR`: PPP after a byte for the direction.
    PppDirection,
    /// `PPP_ETHER`: PPPoE without an Ethernet header.
    Pppoe,
    /// `C_HDLC`: Cisco HDLC.
    CiscoHdlc,
    /// `MPLS`: a stack of labels.
    Mpls,
    /// `NFLOG`: written by netfilter's log.
    Nflog,
    /// A link type that is not decoded.
    Other(u16),
}

impl Capture {
    /// The TCP segments in the frames, in frame order, and notes about the other frames.
    pub fn packets(&self) -> (Vec<Packet>, Vec<String>) {
        let (packets, unread) = self.read_packets();
        let notes = self.frame_notes(&unread);
        (packets, notes)
    }

    /// The ICMP errors about TCP segments, in frame order.
    pub fn errors(&self) -> Vec<IcmpError> {
        self.frames.iter().filter_map(Frame::icmp_error).collect()
    }

    /// The segments in frame order, and the frames without a segment, by reason.
    fn read_packets(&self) -> (Vec<Packet>, UnreadFrames) {
        let mut fragments = Fragments::default();
        let mut unread = UnreadFrames::default();
        let mut packets: Vec<(usize, Packet)> = Vec::new();
        for (number, frame) in self.frames.iter().enumerate() {
            match frame.packet_of(number, &mut fragments) {
                Ok(packet) => packets.push((number, packet)),
                Err(Unread::Fragment | Unread::Icmp) => {}
                Err(why) => *unread.frames.entry(why).or_default() += 1,
            }
        }
        let (firsts, incomplete) = fragments.unfinished();
        unread.incomplete = incomplete;
        // The first fragment contains the header, which is better than nothing.
        for first in firsts {
            let frame = &self.frames[first.frame];
            if let Ok(layers::Inner::Tcp(payload)) = in_payload(first.payload(), 0)
                && let Ok(packet) = frame.segment(&payload)
            {
                packets.push((first.frame, packet));
            }
        }
        packets.sort_by_key(|(number, _)| *number);
        let packets = packets.into_iter().map(|(_, packet)| packet).collect();
        (packets, unread)
    }

    fn frame_notes(&self, unread: &UnreadFrames) -> Vec<String> {
        let mut notes = self.notes.clone();
        let all = self.frames.len();
        let (mut not_tcp, mut cut_off) = (0, 0);
        for (why, &frames) in &unread.frames {
            match why {
                Unread::NotTcp | Unread::Fragment | Unread::Icmp => not_tcp += frames,
                Unread::TooShort => cut_off += frames,
                Unread::NotDecoded(name) => notes.push(format!(
                    "{} not understood: {name}, not decoded",
                    some_of(frames, all, ["is", "are"])
                )),
            }
        }
        if not_tcp > 0 {
            notes.push(format!("{} not TCP", some_of(not_tcp, all, ["is", "are"])));
        }
        if cut_off > 0 {
            notes.push(format!(
                "{} within the headers: no segment can be read from {}",
                some_of(cut_off, all, ["ends", "end"]),
                if cut_off == 1 { "it" } else { "them" }
            ));
        }
        if unread.incomplete > 0 {
            notes.push(format!(
                "{} came in fragments, and some fragments are missing: at most the first fragment is shown",
                engine::figures::count(unread.incomplete as u64, "IP packet")
            ));
        }
        let cut: Vec<usize> = (self.frames.iter())
            .filter(|frame| (frame.data.len() as u64) < u64::from(frame.original_bytes))
            .map(|frame| frame.data.len())
            .collect();
        if let Some(longest) = cut.iter().max() {
            notes.push(format!(
                "{} cut to at most {longest} bytes: the payload that {} carried is incomplete (`tcpdump -s 0` keeps whole \
                 frames)",
                some_of(cut.len(), all, ["is", "are"]),
                if cut.len() == 1 { "it" } else { "they" }
            ));
        }
        notes
    }
}

/// Frames without a segment, counted by reason.
#[derive(Debug, Default)]
struct UnreadFrames {
    frames: BTreeMap<Unread, usize>,
    /// IP packets with missing fragments.
    incomplete: usize,
}

/// A share of all frames, with a verb: `1 of 5 frames is`.
fn some_of(count: usize, all: usize, verb: [&str; 2]) -> String {
    format!(
        "{count} of {} {}",
        engine::figures::count(all as u64, "frame"),
        verb[usize::from(count != 1)]
    )
}
