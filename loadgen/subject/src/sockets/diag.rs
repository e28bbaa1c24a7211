//! Requests to `sock_diag(7)` and its answers.
//!
//! `netlink-packet-sock-diag` writes the requests and parses the named parts of the answers. It
//! drops some information about timers, and leaves `struct tcp_info` as bytes; both are parsed
//! here.

use std::io::{self, ErrorKind};
use std::mem::offset_of;
use std::net::SocketAddr;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, Parseable as _,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::Socket as Netlink;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::libc::tcp_info;

use super::canonical;
use crate::sockets::{Info, Socket, State, Timer};

/// How many times a list is requested again if the kernel reports that its tables changed
/// meanwhile.
const TRIES: usize = 5;

/// All TCP sockets whose local and remote address satisfy `wanted`.
pub(super) fn dump(wanted: impl Fn(SocketAddr, SocketAddr) -> bool) -> io::Result<Vec<Socket>> {
    dump_of(&(StateFlags::all(), ExtensionFlags::INFO), wanted)
}

/// The matching sockets that listen, or are connected and not closed on this side; without their
/// figures.
pub(super) fn dump_serving(
    wanted: impl Fn(SocketAddr, SocketAddr) -> bool,
) -> io::Result<Vec<Socket>> {
    let states = StateFlags::LISTEN | StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT;
    dump_of(&(states, ExtensionFlags::empty()), wanted)
}

fn dump_of(
    what: &(StateFlags, ExtensionFlags),
    wanted: impl Fn(SocketAddr, SocketAddr) -> bool,
) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for any in [SocketId::new_v4(), SocketId::new_v6()] {
        let mut answers = ask(&any, NLM_F_DUMP, what)?;
        for _ in 1..TRIES {
            if !answers.interrupted {
                break;
            }
            answers = ask(&any, NLM_F_DUMP, what)?;
        }
        let wanted = |answer: &&Answer| {
            let (local, remote) = answer.addresses();
            wanted(local, remote)
        };
        let of = answers.answers.iter().filter(wanted);
        sockets.extend(of.filter_map(Answer::socket));
    }
    Ok(sockets)
}

/// The figures of the connection between these addresses.
pub(super) fn info(local: SocketAddr, remote: SocketAddr) -> io::Result<Info> {
    let interface_id = match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(local) => local.scope_id(),
    };
    let (local, remote) = (canonical(local), canonical(remote));
    let id = SocketId {
        source_address: local.ip(),
        source_port: local.port(),
        destination_address: remote.ip(),
        destination_port: remote.port(),
        interface_id,
        // Any interface.
        cookie: [0xff; 8],
    };
    let answers = ask(&id, 0, &(StateFlags::all(), ExtensionFlags::INFO))?.answers;
    let info = answers.first().and_then(Answer::info);
    info.ok_or_else(|| ErrorKind::NotConnected.into())
}

/// An answer of the kernel.
#[derive(Debug, Default)]
struct Answers {
    answers: Vec<Answer>,
    /// The kernel's tables changed, so something may be missing.
    interrupted: bool,
}

fn ask(
    id: &SocketId,
    flags: u16,
    (states, extensions): &(StateFlags, ExtensionFlags),
) -> io::Result<Answers> {
    let mut socket = Netlink::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;

    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family: if id.source_address.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        },
        protocol: IPPROTO_TCP,
        extensions: extensions.clone(),
        states: states.clone(),
        socket_id: id.clone(),
    });
    let mut message = NetlinkMessage::new(header, request.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Answers::default();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let is_complete = answers.take(&datagram)?;
        // A request for a list is answered by several messages and an end, a request for one socket
        // by one message.
        if is_complete || flags & NLM_F_DUMP == 0 {
            return Ok(answers);
        }
    }
}

impl Answers {
    /// Parses the messages of a datagram; returns whether the last one was among them.
    fn take(&mut self, datagram: &[u8]) -> io::Result<bool> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = NetlinkMessage::<Answer>::deserialize(rest).map_err(invalid)?;
            self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => self.answers.push(answer),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Overrun(_) => {
                    return Err(io::Error::other("the list of sockets was cut short"));
                }
                _ => {}
            }
            // Each message begins at a multiple of four bytes.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(false)
    }
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// A socket in the list.
#[derive(Debug)]
struct Answer {
    response: InetResponse,
    timer: Option<Timer>,
}

impl NetlinkDeserializable for Answer {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let response = InetResponse::parse(payload)?;
        let timer = timer(payload, response.header.state);
        Ok(Answer { response, timer })
    }
}

impl Answer {
    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let id = &self.response.header.socket_id;
        let local = SocketAddr::new(id.source_address, id.source_port);
        let remote = SocketAddr::new(id.destination_address, id.destination_port);
        (canonical(local), canonical(remote))
    }

    /// The socket; `None` if its state is unknown to this program.
    fn socket(&self) -> Option<Socket> {
        let header = &self.response.header;
        let state = State::from_linux(header.state.into())?;
        let (local, remote) = self.addresses();
        let connected = state != State::Listen;
        Some(Socket {
            holders: Vec::new(),
            local,
            remote: connected.then_some(remote),
            state,
            receive_queue: header.recv_queue,
            send_queue: header.send_queue,
            timer: self.timer,
            inode: header.inode,
            info: self.info().filter(|_| connected),
        })
    }

    fn info(&self) -> Option<Info> {
        let bytes = self
            .response
            .nlas
            .iter()
            .find_map(|attribute| match attribute {
                Nla::TcpInfo(bytes) => Some(bytes),
                _ => None,
            })?;
        Some(Info {
            rtt_us: word(bytes, offset_of!(tcp_info, tcpi_rtt))?,
            rto_us: word(bytes, offset_of!(tcp_info, tcpi_rto))?,
            congestion_window: word(bytes, offset_of!(tcp_info, tcpi_snd_cwnd))?,
            retransmitted: word(bytes, offset_of!(tcp_info, tcpi_total_retrans))?,
            mss_bytes: word(bytes, offset_of!(tcp_info, tcpi_snd_mss))?,
        })
    }
}

/// The timer in a `struct inet_diag_msg`: the third byte is its kind, the fourth how often it has
/// expired; when it expires follows the addresses.
fn timer(message: &[u8], state: u8) -> Option<Timer> {
    const EXPIRES: usize = 52;
    let kind = match (*message.get(2)?, State::from_linux(state.into())) {
        (1, _) => "retransmit",
        (2, _) => "keepalive",
        // This orphan waits for the peer's FIN, not for late segments.
        (3, Some(State::FinWait2)) => "FIN timeout",
        (3, _) => "time-wait",
        (4, _) => "zero-window probe",
        _ => return None,
    };
    Some(Timer {
        kind,
        left_ms: word(message, EXPIRES)?,
        tries: *message.get(3)?,
    })
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    const NLM_F_MULTI: u16 = 2;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((16 + payload.len() as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_MULTI).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A `struct inet_diag_msg` of `127.0.0.1:80` with peer `127.0.0.2:40000`.
    fn socket(state: u8, timer: u8) -> Vec<u8> {
        let mut bytes = vec![AF_INET, state, timer, 3];
        bytes.extend(80_u16.to_be_bytes());
        bytes.extend(40_000_u16.to_be_bytes());
        for last in [1, 2] {
            bytes.extend([127, 0, 0, last]);
            bytes.extend([0; 12]);
        }
        bytes.extend([0; 12]);
        for number in [4321_u32, 5, 6, 1000, 777] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes
    }

    /// Appends attributes: one of an unknown kind, and the start of a `struct tcp_info`.
    fn with_info(info_bytes: usize) -> Vec<u8> {
        let mut bytes = socket(1, 0);
        bytes.extend([8, 0, 250, 0, 1, 2, 3, 4]);
        bytes.extend((4 + info_bytes as u16).to_ne_bytes());
        bytes.extend([2, 0]);
        bytes.extend((0..info_bytes).map(|index| index as u8));
        bytes
    }

    fn taken(datagram: &[u8]) -> io::Result<(Answers, bool)> {
        let mut answers = Answers::default();
        let is_complete = answers.take(datagram)?;
        Ok((answers, is_complete))
    }

    #[test]
    fn a_list_of_several_messages() {
        let datagram = [
            message(SOCK_DIAG_BY_FAMILY, 0, &socket(1, 1)),
            message(SOCK_DIAG_BY_FAMILY, 0, &socket(6, 3)),
            // The attribute's length is not a multiple of four bytes.
            message(
                SOCK_DIAG_BY_FAMILY,
                0,
                &[socket(10, 0), vec![5, 0, 8, 0, 1]].concat(),
            ),
            message(NLMSG_DONE, 0, &[0; 4]),
        ];
        let (answers, is_complete) = taken(&datagram.concat()).unwrap();
        assert!(is_complete && !answers.interrupted);
        let found: Vec<Socket> = answers.answers.iter().filter_map(Answer::socket).collect();
        let local = SocketAddr::from(([127, 0, 0, 1], 80));
        let remote = SocketAddr::from(([127, 0, 0, 2], 40_000));
        let timer = |kind| Timer {
            kind,
            left_ms: 4321,
            tries: 3,
        };
        let expected = [
            (State::Established, Some(remote), Some(timer("retransmit"))),
            (State::TimeWait, Some(remote), Some(timer("time-wait"))),
            (State::Listen, None, None),
        ]
        .map(|(state, remote, timer)| Socket {
            holders: Vec::new(),
            local,
            remote,
            state,
            receive_queue: 5,
            send_queue: 6,
            timer,
            inode: 777,
            info: None,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn timers_by_number() {
        for (number, state, kind) in [
            (0, 1, None),
            (1, 1, Some("retransmit")),
            (2, 1, Some("keepalive")),
            (3, 6, Some("time-wait")),
            (3, 5, Some("FIN timeout")),
            (4, 1, Some("zero-window probe")),
            (9, 1, None),
        ] {
            let found = timer(&socket(state, number), state);
            assert_eq!(found.map(|timer| timer.kind), kind, "{number} in {state}");
        }
    }

    #[test]
    fn figures_of_tcp_are_where_the_kernel_has_them() {
        // The offsets are unchanged since Linux 2.6.
        let expected = Info {
            rto_us: u32::from_ne_bytes([8, 9, 10, 11]),
            mss_bytes: u32::from_ne_bytes([16, 17, 18, 19]),
            rtt_us: u32::from_ne_bytes([68, 69, 70, 71]),
            congestion_window: u32::from_ne_bytes([80, 81, 82, 83]),
            retransmitted: u32::from_ne_bytes([100, 101, 102, 103]),
        };
        // Later kernels have more fields, earlier ones may have fewer.
        for (bytes, expected) in [(104, Some(expected)), (248, Some(expected)), (96, None)] {
            let datagram = message(SOCK_DIAG_BY_FAMILY, 0, &with_info(bytes));
            let (answers, is_complete) = taken(&datagram).unwrap();
            assert!(!is_complete);
            assert_eq!(answers.answers[0].info(), expected, "{bytes}");
        }
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let errno = |number: i32| number.to_ne_bytes();
        let code = |datagram: &[u8]| taken(datagram).unwrap_err().raw_os_error();
        let refused = message(NLMSG_ERROR, 0, &[&errno(-1)[..], &[0; 16]].concat());
        assert_eq!(code(&refused), Some(1));
        assert_eq!(code(&message(NLMSG_DONE, 0, &errno(-12))), Some(12));
        let changed = message(NLMSG_DONE, NLM_F_DUMP_INTR, &errno(0));
        assert!(taken(&changed).unwrap().0.interrupted);
        let whole = message(SOCK_DIAG_BY_FAMILY, 0, &with_info(104));
        for cut in [1, 15, 16, 40, whole.len() - 1] {
            let error = taken(&whole[..cut]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(
            kind in prop_oneof![Just(SOCK_DIAG_BY_FAMILY), Just(NLMSG_ERROR), Just(NLMSG_DONE), any::<u16>()],
            info_bytes in 0_usize..120,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = message(kind, 0, &with_info(info_bytes));
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Ok((answers, _)) = taken(&bytes) {
                for answer in &answers.answers {
                    answer.socket();
                }
            }
        }
    }
}
