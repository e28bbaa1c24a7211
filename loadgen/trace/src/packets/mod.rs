//! Segments from an interface or from a capture file, and into one.
//!
//! [`Live`] listens to all interfaces, [`read`] takes a file: both make a [`Capture`] of [`Frame`]s, which
//! [`write()`](fn@write) puts into a file, and of which [`Capture::packets`] makes what a trace is made of.
//! [`Relative`] numbers the packets of a connection; [`line()`] says a segment in tcpdump's words.

mod file;
mod fragments;
mod frame;
mod icmp;
mod layers;
mod line;
mod live;
mod pcap;
mod pcapng;

pub use file::{ReadError, read, read_from, write};
pub use line::{Relative, line, tcpdump_lines};
pub use live::{Live, Missing, Ports};

use std::collections::BTreeMap;

use super::model::{IcmpError, Packet};
use fragments::Fragments;
use layers::{Unread, in_payload};

/// Frames from an interface or a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    /// In the order in which they were captured.
    pub frames: Vec<Frame>,
    /// So many of them have no time of their own, but that of the frame before.
    pub without_time: usize,
    /// What is to be said of them: that a file is cut short, that frames were lost.
    pub notes: Vec<String>,
    /// What is to be added to the frames' times to have ns since 1970: 0 for a file, the distance of the two
    /// clocks for a live capture.
    pub epoch_offset_ns: i64,
}

/// What went over an interface, from the header of the link layer on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// When, in ns: `CLOCK_MONOTONIC` of a live capture, since 1970 of a file.
    pub at_ns: u64,
    /// `lo`; most files do not tell.
    pub interface: Option<String>,
    /// What the data begins with.
    pub link: Link,
    /// As far as it was captured.
    pub data: Vec<u8>,
    /// How long it was on the wire.
    pub original_bytes: u32,
}

/// The header of the link layer, by the numbers of <https://www.tcpdump.org/linktypes.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Link {
    /// `NULL`: the address family in the byte order of the machine that captured.
    Null,
    /// `ETHERNET`
    Ethernet,
    /// `RAW`, `IPV4`, `IPV6`: none, the IP header comes first. The number is kept, since there are several.
    Ip(u16),
    /// `LOOP`: the address family, most significant byte first.
    Loop,
    /// `LINUX_SLL`: what `tcpdump -i any` wrote for long.
    LinuxCooked,
    /// `LINUX_SLL2`: what it writes now.
    LinuxCooked2,
    /// `PPP`, `PPP_HDLC`
    Ppp(u16),
    /// `PPP_WITH_DIR`: the direction first.
    PppDirection,
    /// `PPP_ETHER`: PPPoE without an Ethernet header.
    Pppoe,
    /// `C_HDLC`: Cisco's.
    CiscoHdlc,
    /// `MPLS`: a stack of labels.
    Mpls,
    /// `NFLOG`: what netfilter logs.
    Nflog,
    /// Another that is not understood here.
    Other(u16),
}

impl Capture {
    /// The TCP segments among the frames, in the order of the frames, and what is to be said of the others.
    pub fn packets(&self) -> (Vec<Packet>, Vec<String>) {
        let (packets, unread) = self.read_packets();
        let notes = self.frame_notes(&unread);
        (packets, notes)
    }

    /// What routers and hosts say of TCP segments, in the order of the frames.
    pub fn errors(&self) -> Vec<IcmpError> {
        self.frames.iter().filter_map(Frame::icmp_error).collect()
    }

    /// In the order of the frames; and how many gave none, by their reasons.
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
        // The first fragment has the header: that is better than nothing.
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
            notes.push(format!("{} no TCP", some_of(not_tcp, all, ["is", "are"])));
        }
        if cut_off > 0 {
            notes.push(format!(
                "{} before the headers do: no segment can be read from {}",
                some_of(cut_off, all, ["ends", "end"]),
                if cut_off == 1 { "it" } else { "them" }
            ));
        }
        if unread.incomplete > 0 {
            notes.push(format!(
                "{} came in fragments of which some are missing: at most the first of them is shown",
                engine::figures::count(unread.incomplete as u64, "IP packet")
            ));
        }
        let cut: Vec<usize> = (self.frames.iter())
            .filter(|frame| (frame.data.len() as u64) < u64::from(frame.original_bytes))
            .map(|frame| frame.data.len())
            .collect();
        if let Some(longest) = cut.iter().max() {
            notes.push(format!(
                "{} cut to at most {longest} bytes: not all of what {} carried is known (`tcpdump -s 0` keeps whole \
                 frames)",
                some_of(cut.len(), all, ["is", "are"]),
                if cut.len() == 1 { "it" } else { "they" }
            ));
        }
        notes
    }
}

/// Frames that gave no segment.
#[derive(Debug, Default)]
struct UnreadFrames {
    frames: BTreeMap<Unread, usize>,
    /// IP packets in fragments that are not all there.
    incomplete: usize,
}

/// `1 of 5 frames is`
fn some_of(count: usize, all: usize, verb: [&str; 2]) -> String {
    format!(
        "{count} of {} {}",
        engine::figures::count(all as u64, "frame"),
        verb[usize::from(count != 1)]
    )
}
