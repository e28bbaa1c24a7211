//! Conversations of TCP as a capture holds them, written segment by segment.
//!
//! A [`Talk`] keeps the sequence numbers of both sides, so that a usual exchange needs no numbers; what is
//! unusual says its own, counted as tcpdump counts: 0 is the SYN, 1 the first byte. Frames are numbered from 1,
//! as Wireshark does.

use std::net::SocketAddr;

use trace::model::Side;
use trace::model::Side::{Client, Server};

use super::wire::{Wrap, ip_packet, tcp_segment};

/// What one frame of a capture holds, and how it got there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Since 1970.
    pub(crate) at_ns: u64,
    /// Which conversation it belongs to, counted from 0.
    pub(crate) connection: usize,
    pub(crate) content: Content,
    /// What stands between the link layer and the IP packet, from the outside in.
    pub(crate) wraps: Vec<Wrap>,
    /// By which interface it was seen.
    pub(crate) interface: usize,
    /// No more of it was captured.
    pub(crate) snap_bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Segment(Segment),
    /// A whole IP packet that is no TCP segment.
    Other(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: Side,
    /// Of the client and of the server.
    pub(crate) ends: [SocketAddr; 2],
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    /// As in a TCP header.
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// Of the IP packet; two of one side are never the same unless they are one packet.
    pub(crate) identification: u16,
}

impl Segment {
    pub(crate) fn source(&self) -> SocketAddr {
        self.ends[self.from as usize]
    }

    pub(crate) fn destination(&self) -> SocketAddr {
        self.ends[1 - self.from as usize]
    }
}

impl Frame {
    pub(crate) fn segment(&self) -> Option<&Segment> {
        match &self.content {
            Content::Segment(segment) => Some(segment),
            Content::Other(_) => None,
        }
    }

    /// The IP packet in it.
    pub(crate) fn packet(&self) -> Vec<u8> {
        match &self.content {
            Content::Segment(it) => ip_packet(
                it.source().ip(),
                it.destination().ip(),
                6,
                it.identification,
                &tcp_segment(it),
            ),
            Content::Other(packet) => packet.clone(),
        }
    }
}

pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
pub(crate) const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const S: u64 = 1_000 * MS;

/// The largest segment is 1,460 bytes.
pub(crate) const MSS: &[u8] = &[2, 4, 0x05, 0xb4];
/// The same, selective acknowledgements, and windows in units of 128 bytes.
pub(crate) const USUAL: &[u8] = &[2, 4, 0x05, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7];

/// By the letters of tcpdump: `S`, `S.`, `P.`, `F.`, `R`; `E` and `W` are ECE and CWR, `U` is URG.
pub(crate) fn flags(letters: &str) -> u8 {
    let bit = |letter| match letter {
        'F' => 1,
        'S' => 2,
        'R' => 4,
        'P' => 8,
        '.' => 16,
        'U' => 32,
        'E' => 64,
        'W' => 128,
        other => panic!("no flag {other}"),
    };
    letters.chars().map(bit).sum()
}

/// A conversation, or several one after another.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    pub(crate) frames: Vec<Frame>,
    ends: [SocketAddr; 2],
    /// The number of the SYN of each side.
    first: [u32; 2],
    /// The number that each side sends next.
    next: [u32; 2],
    windows: [u16; 2],
    /// Of the segment that comes next.
    options: Vec<u8>,
    /// Of the SYNs of [`Talk::open`].
    offers: &'static [u8],
    wraps: Vec<Wrap>,
    connection: usize,
    now_ns: u64,
    /// Before the next frame; a millisecond, unless [`Talk::wait`] says otherwise.
    wait_ns: u64,
    packets: [u16; 2],
}

impl Talk {
    pub(crate) fn new() -> Self {
        Talk::between("10.0.0.1:40000", "10.0.0.2:8000")
    }

    pub(crate) fn between(client: &str, server: &str) -> Self {
        let end = |text: &str| text.parse().expect("an address and a port");
        Talk {
            frames: Vec::new(),
            ends: [end(client), end(server)],
            first: [1_000, 5_000],
            next: [1_000, 5_000],
            windows: [502, 509],
            options: Vec::new(),
            offers: USUAL,
            wraps: Vec::new(),
            connection: 0,
            now_ns: 1_700_000_000 * S,
            wait_ns: MS,
            packets: [100, 20_000],
        }
    }

    /// The numbers of the SYNs.
    pub(crate) fn numbered(mut self, client: u32, server: u32) -> Self {
        self.first = [client, server];
        self.next = self.first;
        self
    }

    /// The options of both SYNs.
    pub(crate) fn offering(mut self, offers: &'static [u8]) -> Self {
        self.offers = offers;
        self
    }

    /// All later frames are wrapped like this.
    pub(crate) fn within(mut self, wraps: &[Wrap]) -> Self {
        self.wraps = wraps.to_vec();
        self
    }

    /// The next frame comes so much later, instead of a millisecond.
    pub(crate) fn wait(mut self, ns: u64) -> Self {
        self.wait_ns = ns;
        self
    }

    /// What this side announces from now on, not scaled.
    pub(crate) fn window(mut self, side: Side, window: u16) -> Self {
        self.windows[side as usize] = window;
        self
    }

    /// Options of the next segment.
    pub(crate) fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// A segment at numbers of its own.
    pub(crate) fn at(self, side: Side, seq: u32, ack: u32, letters: &str, payload: &[u8]) -> Self {
        let sequence = self.first[side as usize].wrapping_add(seq);
        let acknowledgement = self.first[1 - side as usize].wrapping_add(ack);
        self.push(side, sequence, acknowledgement, letters, payload)
    }

    fn push(
        mut self,
        from: Side,
        sequence: u32,
        acknowledgement: u32,
        letters: &str,
        payload: &[u8],
    ) -> Self {
        let flags = flags(letters);
        let identification = &mut self.packets[from as usize];
        *identification += 1;
        let segment = Segment {
            from,
            ends: self.ends,
            sequence,
            acknowledgement: if flags & 16 == 0 { 0 } else { acknowledgement },
            flags,
            window: self.windows[from as usize],
            options: std::mem::take(&mut self.options),
            payload: payload.to_vec(),
            identification: *identification,
        };
        self.append(Content::Segment(segment))
    }

    fn append(mut self, content: Content) -> Self {
        self.now_ns += std::mem::replace(&mut self.wait_ns, MS);
        self.frames.push(Frame {
            at_ns: self.now_ns,
            connection: self.connection,
            content,
            wraps: self.wraps.clone(),
            interface: 0,
            snap_bytes: usize::MAX,
        });
        self
    }

    /// A whole IP packet of something else.
    pub(crate) fn other(self, packet: Vec<u8>) -> Self {
        self.append(Content::Other(packet))
    }

    /// The next segment of this side.
    pub(crate) fn send(mut self, side: Side, letters: &str, payload: &[u8]) -> Self {
        let (sequence, acknowledgement) = (self.next[side as usize], self.next[1 - side as usize]);
        let counted = u32::from(letters.contains('S')) + u32::from(letters.contains('F'));
        let length = payload.len() as u32 + counted;
        self.next[side as usize] = sequence.wrapping_add(length);
        self.push(side, sequence, acknowledgement, letters, payload)
    }

    pub(crate) fn client(self, letters: &str, payload: &[u8]) -> Self {
        self.send(Client, letters, payload)
    }

    pub(crate) fn server(self, letters: &str, payload: &[u8]) -> Self {
        self.send(Server, letters, payload)
    }

    /// The three-way handshake: three frames.
    pub(crate) fn open(self) -> Self {
        let offers = self.offers;
        (self.options(offers).client("S", b""))
            .options(offers)
            .server("S.", b"")
            .client(".", b"")
    }

    /// A request, its ACK, an answer, its ACK: four frames.
    pub(crate) fn exchange(self) -> Self {
        self.ask(GET, HELLO)
    }

    pub(crate) fn ask(self, request: &[u8], answer: &[u8]) -> Self {
        (self.client("P.", request).server(".", b""))
            .server("P.", answer)
            .client(".", b"")
    }

    /// FIN, FIN, ACK: three frames.
    pub(crate) fn close(self, first: Side) -> Self {
        let last = other(first);
        (self.send(first, "F.", b"").send(last, "F.", b"")).send(first, ".", b"")
    }

    /// The last segment went by where nobody captured, or was lost.
    pub(crate) fn unseen(mut self) -> Self {
        self.frames.pop();
        self
    }

    /// The segment of this frame is sent once more, in a new packet.
    pub(crate) fn again(mut self, number: usize) -> Self {
        let mut segment = self.segment(number).clone();
        let identification = &mut self.packets[segment.from as usize];
        *identification += 1;
        segment.identification = *identification;
        self.append(Content::Segment(segment))
    }

    fn segment(&self, number: usize) -> &Segment {
        let frame = &self.frames[number - 1];
        frame.segment().expect("the frame has a segment")
    }

    /// Another conversation on the same ports, from these numbers on.
    pub(crate) fn next_on_the_same_ports(mut self, client: u32, server: u32) -> Self {
        self.connection += 1;
        self.numbered(client, server)
    }

    /// Another conversation, with a client of another port.
    pub(crate) fn next_from(mut self, port: u16) -> Self {
        self.connection += 1;
        self.ends[0].set_port(port);
        self.next = self.first;
        self
    }

    // What can go wrong with a capture.

    /// This frame was not captured.
    pub(crate) fn drop_frame(mut self, number: usize) -> Self {
        self.frames.remove(number - 1);
        self
    }

    /// Two frames overtake each other on the way.
    pub(crate) fn swap(mut self, one: usize, other: usize) -> Self {
        let times = [one, other].map(|number| self.frames[number - 1].at_ns);
        self.frames.swap(one - 1, other - 1);
        self.frames[one - 1].at_ns = times[0];
        self.frames[other - 1].at_ns = times[1];
        self
    }

    /// Two frames are written in the wrong order, each with its own time.
    pub(crate) fn swap_in_file(mut self, one: usize, other: usize) -> Self {
        self.frames.swap(one - 1, other - 1);
        self
    }

    /// The very same packet is seen once more, so much later.
    pub(crate) fn seen_again(mut self, number: usize, after_ns: u64) -> Self {
        let mut copy = self.frames[number - 1].clone();
        copy.at_ns += after_ns;
        self.frames.insert(number, copy);
        self
    }

    /// Every packet is seen on another interface too, so much later.
    pub(crate) fn seen_on_two_interfaces(mut self, after_ns: u64) -> Self {
        let both = |frame: Frame| {
            let mut copy = frame.clone();
            copy.at_ns += after_ns;
            copy.interface = 1;
            [frame, copy]
        };
        self.frames = self.frames.into_iter().flat_map(both).collect();
        self
    }

    /// What one side sends was not captured.
    pub(crate) fn without(mut self, side: Side) -> Self {
        let sent = |frame: &Frame| frame.segment().is_some_and(|it| it.from == side);
        self.frames.retain(|frame| !sent(frame));
        self
    }

    /// The capture begins with this frame.
    pub(crate) fn begin_at(mut self, number: usize) -> Self {
        self.frames.drain(..number - 1);
        self
    }

    /// The capture ends with this frame.
    pub(crate) fn until_frame(mut self, number: usize) -> Self {
        self.frames.truncate(number);
        self
    }

    /// No more than so many bytes of each frame were captured.
    pub(crate) fn snapped(mut self, bytes: usize) -> Self {
        for frame in &mut self.frames {
            frame.snap_bytes = bytes;
        }
        self
    }

    /// From this frame on the clock is so much later, or earlier.
    pub(crate) fn clock_steps(mut self, number: usize, by_ns: i64) -> Self {
        for frame in &mut self.frames[number - 1..] {
            frame.at_ns = frame.at_ns.saturating_add_signed(by_ns);
        }
        self
    }

    /// This frame came by another interface.
    pub(crate) fn on_interface(mut self, number: usize, interface: usize) -> Self {
        self.frames[number - 1].interface = interface;
        self
    }

    /// This frame is wrapped like this.
    pub(crate) fn frame_within(mut self, number: usize, wraps: &[Wrap]) -> Self {
        self.frames[number - 1].wraps = wraps.to_vec();
        self
    }
}

fn other(side: Side) -> Side {
    match side {
        Client => Server,
        Server => Client,
    }
}
