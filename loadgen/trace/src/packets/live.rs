//! Captures the traffic on all interfaces (packet(7)), without a library.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::io::{self, IoSliceMut, PipeReader, PipeWriter};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use thiserror::Error;

use super::reading::FRAME_BYTES_MAX;
use super::{Capture, Frame, Link};
use engine::figures::count;

/// The captured ports: a segment is kept if it comes from or goes to one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(BTreeSet<u16>);

impl<I: IntoIterator<Item = u16>> From<I> for Ports {
    fn from(ports: I) -> Self {
        Self(ports.into_iter().collect())
    }
}

/// Why capturing is not possible, and what would help.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Missing(String);

/// A running capture.
///
/// A frame on the loopback interface passes twice, out and in, and is kept once. So is a frame that
/// passes a bridge and one of its interfaces.
#[derive(Debug)]
pub struct Live {
    socket: Arc<Socket>,
    /// All ports that were ever requested.
    ports: BTreeSet<u16>,
    clocks_ns: i64,
    seen: Arc<AtomicUsize>,
    running: Option<(JoinHandle<Taken>, PipeWriter)>,
}

/// Size of the buffer in which frames wait before they are read.
const BUFFER_BYTES: usize = 32 << 20;
/// The longest frame, without the header that is added to some.
const BYTES_MAX: usize = FRAME_BYTES_MAX - ETHERNET_HEADER_BYTES;
/// The limit of a capture that nobody ends.
const CAPTURE_BYTES_MAX: usize = 256 << 20;

impl Live {
    /// Listens to all interfaces for TCP from and to these ports; without ports, nothing is
    /// captured.
    ///
    /// # Errors
    ///
    /// If capturing is not permitted, or this system has no packet sockets.
    pub fn open(ports: Ports) -> Result<Self, Missing> {
        // packet(7) requires network byte order.
        const ALL_PROTOCOLS: i32 = (nix::libc::ETH_P_ALL as u16).to_be() as i32;
        let socket = Socket::new(
            Domain::PACKET,
            Type::RAW,
            Some(Protocol::from(ALL_PROTOCOLS)),
        )
        .map_err(|error| Missing::because(&error))?;
        Self::set_up(socket, ports).map_err(|error| Missing::because(&error))
    }

    fn set_up(socket: Socket, ports: Ports) -> io::Result<Self> {
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        // Only CAP_NET_ADMIN allows more than the system's limit.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            socket.set_recv_buffer_size(BUFFER_BYTES)?;
        }
        // Frames from before the filter was set are irrelevant.
        socket.attach_filter(&filter(&BTreeSet::new()))?;
        while socket
            .recv_with_flags(&mut [], nix::libc::MSG_DONTWAIT)
            .is_ok()
        {}
        let mut live = Self {
            socket: Arc::new(socket),
            ports: BTreeSet::new(),
            clocks_ns: epoch_offset_ns(),
            seen: Arc::default(),
            running: None,
        };
        live.set_ports(ports)?;
        wait_for_stamps();
        Ok(live)
    }

    /// Changes the ports: the port of a server is known only once it has started. Captured frames
    /// are kept.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the filter.
    pub fn set_ports(&mut self, ports: Ports) -> io::Result<()> {
        self.socket.attach_filter(&filter(&ports.0))?;
        self.ports.extend(ports.0);
        Ok(())
    }

    /// Starts a thread that reads frames. Until then they wait in the buffer, as far as it goes.
    ///
    /// # Errors
    ///
    /// If no thread or pipe can be created.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.running.is_none() {
            // Nothing is ever written to the pipe: closing it is the signal.
            let (stop, writer) = io::pipe()?;
            let (socket, seen) = (Arc::clone(&self.socket), Arc::clone(&self.seen));
            let thread = thread::Builder::new()
                .name("capture".into())
                .spawn(move || {
                    let mut taken = Taken::default();
                    let mut buffer = vec![0; BYTES_MAX];
                    while wait(&socket, &stop) {
                        taken.take_all(&socket, &mut buffer, &seen);
                    }
                    taken.take_all(&socket, &mut buffer, &seen);
                    taken
                })?;
            self.running = Some((thread, writer));
        }
        Ok(())
    }

    /// The number of frames read so far.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::Acquire)
    }

    /// Ends the capture. It contains everything that passed an interface before this call; frames
    /// that an interface has not delivered yet are not awaited.
    pub fn end(mut self) -> Capture {
        let mut notes = Vec::new();
        let taken = match self.running.take() {
            Some((thread, stop)) => {
                drop(stop);
                thread.join().unwrap_or_else(|_| {
                    notes.push("the capture broke down: its frames are lost".to_owned());
                    Taken::default()
                })
            }
            None => {
                let mut taken = Taken::default();
                taken.take_all(&self.socket, &mut vec![0; BYTES_MAX], &self.seen);
                taken
            }
        };
        let moved_ms = (epoch_offset_ns() - self.clocks_ns) / 1_000_000;
        if moved_ms != 0 {
            notes.push(format!(
                "the system's clock was set by {moved_ms} ms during the capture: packet times may be off by up to \
                 that amount"
            ));
        }
        taken.capture(&self.ports, self.clocks_ns, notes)
    }
}

impl Missing {
    fn because(error: &io::Error) -> Self {
        let program = std::env::current_exe();
        let program = program.map_or("$(which loadgen)".into(), |path| path.display().to_string());
        Self(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => format!(
                "capturing packets requires root or CAP_NET_RAW: `sudo setcap cap_net_raw+ep {program}`"
            ),
            _ => format!("packets cannot be captured here: no packet socket ({error})"),
        })
    }
}

/// Waits for a frame, or until the other end of the pipe is closed.
fn wait(socket: &Socket, stop: &PipeReader) -> bool {
    let mut sources = [
        PollFd::new(socket.as_fd(), PollFlags::POLLIN),
        PollFd::new(stop.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut sources, PollTimeout::NONE) {
        Ok(_) => sources[1].revents().is_none_or(|events| events.is_empty()),
        Err(error) => error == Errno::EINTR,
    }
}

/// The kernel's count of frames that did not fit into the buffer, since the socket was made. Each frame reports it as
/// of its own arrival, so that it is unknown for the very end of a capture.
#[derive(Debug, Default)]
struct Dropped {
    /// By the first frame. That one found the buffer empty, so that all of these came before the filter was set, and
    /// nobody asked for them.
    before: Option<u32>,
    /// By the latest frame.
    now: u32,
}

impl Dropped {
    /// What a frame reports: nothing while the count is 0.
    fn reported(&mut self, count: Option<u32>) {
        self.now = count.unwrap_or(self.now);
        self.before.get_or_insert(self.now);
    }

    /// Frames that are missing in the capture.
    fn lost(&self) -> u32 {
        self.now.wrapping_sub(self.before.unwrap_or(0))
    }
}

/// What was read from the socket.
#[derive(Debug, Default)]
struct Taken {
    /// Their times are since 1970.
    frames: Vec<Frame>,
    bytes: usize,
    /// Names of the interfaces, by index.
    names: HashMap<usize, Option<String>>,
    dropped: Dropped,
    /// Frames after the limit was reached.
    left_out: usize,
    /// Hardware types whose link-layer header is unknown.
    strange: BTreeSet<u16>,
}

impl Taken {
    /// Reads until the socket is empty.
    fn take_all(&mut self, socket: &Socket, buffer: &mut [u8], seen: &AtomicUsize) {
        loop {
            match self.take(socket, buffer) {
                Ok(()) => seen.fetch_add(1, Ordering::AcqRel),
                // One interface went down; others continue.
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(_) => return,
            };
        }
    }

    fn take(&mut self, socket: &Socket, buffer: &mut [u8]) -> nix::Result<()> {
        let mut control = cmsg_space!(TimeSpec, u32);
        let mut parts = [IoSliceMut::new(buffer)];
        // With MSG_TRUNC the returned length is that of the whole frame, even if it was cut.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let message =
            recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let (mut stamp, mut dropped) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(time) => stamp = Some(time),
                ControlMessageOwned::RxqOvfl(count) => dropped = Some(count),
                _ => {}
            }
        }
        self.dropped.reported(dropped);
        let (bytes, address) = (message.bytes, message.address);
        let Some(address) = address else {
            return Ok(());
        };
        let data = &buffer[..bytes.min(BYTES_MAX)];
        if self.bytes + data.len() > CAPTURE_BYTES_MAX {
            self.left_out += 1;
            return Ok(());
        }
        self.bytes += data.len();
        let at_ns = ns(stamp.unwrap_or_else(|| now(ClockId::CLOCK_REALTIME)));
        let interface = self
            .names
            .entry(address.ifindex())
            .or_insert_with_key(|index| {
                let name = nix::net::if_::if_indextoname(u32::try_from(*index).ok()?).ok()?;
                name.into_string().ok()
            });
        let Some(header) = missing_header(address, data) else {
            self.strange.insert(address.hatype());
            return Ok(());
        };
        self.frames.push(Frame {
            at_ns: at_ns.cast_unsigned(),
            interface: interface.clone(),
            link: Link::Ethernet,
            data: [&header, data].concat(),
            original_bytes: u32::try_from(bytes + header.len()).unwrap_or(u32::MAX),
        });
        Ok(())
    }

    fn capture(self, ports: &BTreeSet<u16>, clocks_ns: i64, mut notes: Vec<String>) -> Capture {
        match self.dropped.lost() {
            0 => {}
            lost => notes.push(format!(
                "{} lost: they arrived faster than they could be read (a trace is meant for one connection or a \
                 few at a time)",
                if lost == 1 { "1 frame was".into() } else { format!("{lost} frames were") }
            )),
        }
        if self.left_out > 0 {
            notes.push(format!(
                "{} left out after the first {} MiB",
                count(self.left_out as u64, "frame"),
                CAPTURE_BYTES_MAX >> 20
            ));
        }
        for kind in &self.strange {
            notes.push(format!(
                "frames of an interface of hardware type {kind} are left out: its header is not known"
            ));
        }
        let mut frames = self.frames;
        // The filter passes IPv6 packets with extension headers whatever their ports.
        frames.retain(|frame| {
            frame.packet().is_some_and(|packet| {
                [packet.source, packet.destination]
                    .iter()
                    .any(|end| ports.contains(&end.port()))
            })
        });
        // Two CPUs may deliver in another order than they stamped.
        frames.sort_by_key(|frame| frame.at_ns);
        let mut frames = without_copies(frames);
        for frame in &mut frames {
            frame.at_ns = frame.at_ns.saturating_add_signed(-clocks_ns);
        }
        Capture {
            frames,
            without_time: 0,
            notes,
            epoch_offset_ns: clocks_ns,
        }
    }
}

const ETHERNET_HEADER_BYTES: usize = 14;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

/// The header that turns a frame into an Ethernet frame: nothing, or a header without addresses.
/// `None` if the frame begins with a header of another kind.
fn missing_header(address: LinkAddr, data: &[u8]) -> Option<Vec<u8>> {
    if matches!(address.hatype(), ARPHRD_ETHER | ARPHRD_LOOPBACK) {
        return Some(Vec::new());
    }
    let version = data.first()? >> 4;
    // The kernel supplies the protocol in network byte order.
    let protocol = address.protocol().to_ne_bytes();
    let begins_with_ip = matches!(
        (u16::from_be_bytes(protocol), version),
        (ETHERTYPE_IPV4, 4) | (ETHERTYPE_IPV6, 6)
    );
    begins_with_ip.then(|| [&[0; ETHERNET_HEADER_BYTES - 2], &protocol[..]].concat())
}

/// Drops copies that pass a second interface within a moment, as on a bridge: the IP packets are
/// identical. A retransmitted segment has another identification (IPv4) or timestamp (RFC 7323), or
/// arrives later.
fn without_copies(frames: Vec<Frame>) -> Vec<Frame> {
    const MOMENT_NS: u64 = 1_000_000;
    let several: HashSet<_> = frames.iter().map(|frame| &frame.interface).collect();
    if several.len() < 2 {
        return frames;
    }
    let mut kept: Vec<Frame> = Vec::with_capacity(frames.len());
    let mut recent: VecDeque<usize> = VecDeque::new();
    for frame in frames {
        while recent
            .front()
            .is_some_and(|&at| kept[at].at_ns + MOMENT_NS < frame.at_ns)
        {
            recent.pop_front();
        }
        let is_copy = recent.iter().any(|&at| {
            let before = &kept[at];
            before.interface != frame.interface
                && before.data.get(ETHERNET_HEADER_BYTES..)
                    == frame.data.get(ETHERNET_HEADER_BYTES..)
        });
        if !is_copy {
            recent.push_back(kept.len());
            kept.push(frame);
        }
    }
    kept
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The target of a filter's jump: the next instruction, or a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum To {
    Next,
    Begin,
    Protocol,
    Ipv4,
    Ipv6,
    Ipv6Tcp,
    Ports,
    Drop,
    Keep,
}

/// A classic BPF program that passes TCP from and to these ports (socket(7), `SO_ATTACH_FILTER`;
/// offsets from `linux/filter.h`). It addresses the packet from the IP header on, so it works for
/// all kinds of interfaces.
fn filter(ports: &BTreeSet<u16>) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const LOAD_HALF_AFTER_X: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
    const X_IS: u16 = 0x01; // BPF_LDX | BPF_IMM
    const X_IS_IPV4_HEADER: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const IF_ANY: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const IP: u32 = 0xfff0_0000; // SKF_NET_OFF
    const PROTOCOL: u32 = 0xffff_f000; // SKF_AD_OFF + SKF_AD_PROTOCOL
    const DIRECTION: u32 = PROTOCOL + 4; // SKF_AD_PKTTYPE
    const HARDWARE: u32 = PROTOCOL + 28; // SKF_AD_HATYPE
    const OUTGOING: u32 = 4; // PACKET_OUTGOING
    const FRAGMENT_OFFSET: u32 = 0x1fff;
    const IPV6_HEADER_BYTES: u32 = 40;
    const TCP: u32 = 6;
    /// Hop-by-hop options, routing, fragment, authentication, destination options: only a program
    /// with loops could find what follows them.
    const EXTENSIONS: [u32; 5] = [0, 43, 44, 51, 60];
    /// A jump spans at most 255 instructions. With more ports, all TCP passes and is sorted later.
    const PORTS_MAX: usize = 100;

    let then = |code: u16, k: u32| (code, k, To::Next, To::Next);
    let if_port: Vec<_> = match ports.len() {
        0..=PORTS_MAX => ports
            .iter()
            .map(|port| (IF_EQUAL, (*port).into(), To::Keep, To::Next))
            .collect(),
        _ => vec![(IF_EQUAL, 0, To::Keep, To::Keep)],
    };
    let blocks = [
        // A frame that leaves by the loopback interface also arrives there, and is kept then.
        (
            To::Begin,
            vec![
                then(LOAD_WORD, HARDWARE),
                (IF_EQUAL, ARPHRD_LOOPBACK.into(), To::Next, To::Protocol),
                then(LOAD_WORD, DIRECTION),
                (IF_EQUAL, OUTGOING, To::Drop, To::Protocol),
            ],
        ),
        (
            To::Protocol,
            vec![
                then(LOAD_WORD, PROTOCOL),
                (IF_EQUAL, ETHERTYPE_IPV4.into(), To::Ipv4, To::Next),
                (IF_EQUAL, ETHERTYPE_IPV6.into(), To::Ipv6, To::Drop),
            ],
        ),
        (
            To::Ipv4,
            vec![
                then(LOAD_BYTE, IP + 9),
                (IF_EQUAL, TCP, To::Next, To::Drop),
                then(LOAD_HALF, IP + 6),
                (IF_ANY, FRAGMENT_OFFSET, To::Drop, To::Next),
                then(X_IS_IPV4_HEADER, IP),
                (IF_EQUAL, 0, To::Ports, To::Ports),
            ],
        ),
        (
            To::Ipv6,
            [
                then(LOAD_BYTE, IP + 6),
                (IF_EQUAL, TCP, To::Ipv6Tcp, To::Next),
            ]
            .into_iter()
            .chain(EXTENSIONS.map(|kind| (IF_EQUAL, kind, To::Keep, To::Next)))
            .chain([(IF_EQUAL, 0, To::Drop, To::Drop)])
            .collect(),
        ),
        (To::Ipv6Tcp, vec![then(X_IS, IPV6_HEADER_BYTES)]),
        (
            To::Ports,
            [
                &[then(LOAD_HALF_AFTER_X, IP)],
                &if_port[..],
                &[then(LOAD_HALF_AFTER_X, IP + 2)],
                &if_port,
            ]
            .concat(),
        ),
        (To::Drop, vec![then(RETURN, 0)]),
        (To::Keep, vec![then(RETURN, u32::MAX)]),
    ];
    let mut starts = HashMap::new();
    let mut instructions = Vec::new();
    for (label, block) in blocks {
        starts.insert(label, instructions.len());
        instructions.extend(block);
    }
    let jump = |from: usize, to: To| match to {
        To::Next => 0,
        block => u8::try_from(starts[&block] - from - 1).expect("blocks lie ahead, and near"),
    };
    (instructions.iter().enumerate())
        .map(|(at, &(code, k, yes, no))| SockFilter::new(code, jump(at, yes), jump(at, no), k))
        .collect()
}

fn now(clock: ClockId) -> TimeSpec {
    clock_gettime(clock).expect("a clock that every Linux has")
}

fn ns(time: TimeSpec) -> i64 {
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

/// Difference between the time since 1970 and `CLOCK_MONOTONIC`. Of several readings, the least
/// interrupted one counts.
fn epoch_offset_ns() -> i64 {
    const READINGS: usize = 20;
    let reading = || {
        let before_ns = ns(now(ClockId::CLOCK_MONOTONIC));
        let epoch_ns = ns(now(ClockId::CLOCK_REALTIME));
        let window_ns = ns(now(ClockId::CLOCK_MONOTONIC)) - before_ns;
        (window_ns, epoch_ns - before_ns - window_ns / 2)
    };
    (0..READINGS)
        .map(|_| reading())
        .min_by_key(|(window_ns, _)| *window_ns)
        .map_or(0, |best| best.1)
}

/// Waits until the kernel stamps packets on arrival. It starts to do so a moment after the first
/// request, which takes longer on a busy machine; until then, a packet's time is the time of
/// reading.
fn wait_for_stamps() {
    const AT_MOST: Duration = Duration::from_secs(1);
    const AGAIN_AFTER: Duration = Duration::from_millis(1);
    let probe = || -> io::Result<bool> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(socket.local_addr()?)?;
        socket.set_read_timeout(Some(Duration::from_millis(10)))?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        socket.send(&[0])?;
        let sent_ns = ns(now(ClockId::CLOCK_REALTIME));
        thread::sleep(Duration::from_micros(100));
        let mut control = cmsg_space!(TimeSpec);
        let message = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut [],
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        Ok(message.cmsgs()?.any(|control| {
            matches!(control, ControlMessageOwned::ScmTimestampns(time) if ns(time) <= sent_ns)
        }))
    };
    let begun = Instant::now();
    while begun.elapsed() < AT_MOST {
        match probe() {
            Ok(true) => return,
            Ok(false) => {}
            // The probe has not arrived yet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Without a loopback interface there is nothing to measure and nothing to wait for.
            Err(_) => return,
        }
        thread::sleep(AGAIN_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(interface: &str, at_ns: u64, data: &str) -> Frame {
        Frame {
            at_ns,
            interface: Some(interface.to_owned()),
            link: Link::Ethernet,
            // Each interface has its own link-layer addresses.
            data: format!("{interface:<ETHERNET_HEADER_BYTES$}{data}").into_bytes(),
            original_bytes: 0,
        }
    }

    #[test]
    fn what_was_dropped_before_the_filter_is_not_lost() {
        for (counts, lost) in [
            (&[][..], 0),
            (&[None, None], 0),
            (&[None, Some(3), Some(3)], 3),
            (&[Some(406), Some(406)], 0),
            (&[Some(406), Some(407)], 1),
            (&[Some(u32::MAX), Some(1)], 2),
        ] {
            let mut dropped = Dropped::default();
            for &count in counts {
                dropped.reported(count);
            }
            assert_eq!(dropped.lost(), lost, "{counts:?}");
        }
    }

    #[test]
    fn what_passes_two_interfaces_is_kept_once() {
        let frames = vec![
            on("br0", 1_000, "SYN"),
            on("veth0", 1_500, "SYN"),
            on("veth0", 2_000, "SYN+ACK"),
            on("br0", 2_500, "SYN+ACK"),
            on("br0", 3_000, "SYN"),
            on("br0", 900_000, "ACK"),
            on("veth0", 3_000_000, "ACK"),
        ];
        let kept: Vec<u64> = without_copies(frames)
            .iter()
            .map(|frame| frame.at_ns)
            .collect();
        // Sent again on the same interface, or much later, the packet is not a copy.
        assert_eq!(kept, [1_000, 2_000, 3_000, 900_000, 3_000_000]);
    }

    #[test]
    fn the_clocks_keep_their_distance() {
        let distance_ns = epoch_offset_ns();
        let real_ns = ns(now(ClockId::CLOCK_REALTIME));
        let monotonic_ns = ns(now(ClockId::CLOCK_MONOTONIC));
        // The batches are read one after the other, with arbitrary pauses.
        assert!(monotonic_ns + distance_ns >= real_ns - 10_000_000);
        assert!((epoch_offset_ns() - distance_ns).abs() < 10_000_000);
    }

    #[test]
    fn a_filter_fits_any_number_of_ports() {
        for ports in [0, 1, 99, 100, 101, 1000, 65535] {
            // Construction panics if a jump is too long.
            let filter = filter(&(0..ports).collect());
            assert!(filter.len() < 256, "{ports}");
        }
    }

    #[test]
    fn what_would_help_is_told_in_a_line() {
        let missing = Missing::because(&io::Error::from_raw_os_error(nix::libc::EPERM)).to_string();
        assert!(
            missing.contains("`sudo setcap cap_net_raw+ep "),
            "{missing}"
        );
        let missing = Missing::because(&io::Error::from_raw_os_error(nix::libc::EAFNOSUPPORT));
        assert!(
            missing.to_string().contains("Address family not supported"),
            "{missing}"
        );
        assert!(!missing.to_string().contains('\n'));
    }
}
