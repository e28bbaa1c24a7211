//! Segments from an interface or from a capture file, and into one.
//!
//! [`Live`] listens to all interfaces, [`read`] takes a file: both make a [`Capture`] of [`Frame`]s, which
//! [`write()`](fn@write) puts into a file, and of which [`Capture::packets`] makes what a trace is made of.
//! [`Relative`] numbers the packets of a connection; [`line()`] says a segment in tcpdump's words.

mod file;
mod frame;
mod line;
mod live;

pub use file::{ReadError, read, read_from, write};
pub use line::{Relative, line, tcpdump_lines};
pub use live::{Live, Missing, Ports};

use super::model::Packet;

/// Frames from an interface or a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capture {
    /// In the order in which they were captured.
    pub frames: Vec<Frame>,
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
    /// Another that is not understood here.
    Other(u16),
}

impl Capture {
    /// The TCP segments among the frames, in the order of time, and what is to be said of the others.
    pub fn packets(&self) -> (Vec<Packet>, Vec<String>) {
        let mut packets: Vec<Packet> = self.frames.iter().filter_map(Frame::packet).collect();
        // Where times are equal the order of the capture stands.
        packets.sort_by_key(|packet| packet.at_ns);
        let notes = self.frame_notes(packets.len());
        (packets, notes)
    }

    fn frame_notes(&self, understood: usize) -> Vec<String> {
        let mut notes = self.notes.clone();
        let all = self.frames.len();
        let mut unknown: Vec<u16> = (self.frames.iter())
            .filter_map(|frame| match frame.link {
                Link::Other(number) => Some(number),
                _ => None,
            })
            .collect();
        unknown.sort_unstable();
        for frames in unknown.chunk_by(|a, b| a == b) {
            notes.push(format!(
                "{} a link layer that is not understood here (link type {}; Ethernet, Linux cooked, raw IP and \
                 loopback are)",
                some_of(frames.len(), all, ["has", "have"]),
                frames[0]
            ));
        }
        let others = all - unknown.len() - understood;
        if others > 0 {
            notes.push(format!("{} no TCP", some_of(others, all, ["is", "are"])));
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

/// `1 of 5 frames is`
fn some_of(count: usize, all: usize, verb: [&str; 2]) -> String {
    format!(
        "{count} of {} {}",
        crate::report::run::count(all as u64, "frame"),
        verb[usize::from(count != 1)]
    )
}
