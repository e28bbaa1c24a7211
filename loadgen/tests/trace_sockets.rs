//! The kernel's list of sockets, held against sockets whose state is known.

mod skipped;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use engine::ports::TIME_WAIT;
use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{Domain, Type};
use subject::sockets;
use subject::sockets::{fin_timeout_s, holders};
use trace::model::{Socket, State};

use skipped::skipped;

sockopt_impl!(
    /// Connections are not there before they have data, for so many seconds.
    DeferAccept,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32
);

/// One that waits for connections, of which so many may wait for `accept`.
fn listen(backlog: i32) -> TcpListener {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}

/// Both ends of a connection, which is no longer in the listener's queue.
fn pair() -> (TcpStream, TcpStream) {
    let listener = listen(8);
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// The list for this port, without what earlier users of the port have left in `TIME-WAIT`.
fn list(port: u16) -> Vec<Socket> {
    let mut sockets = sockets::list(&[port]).unwrap();
    sockets.retain(|socket| socket.state != State::TimeWait);
    sockets
}

/// The list for this port, as soon as it fulfils this; what was sent needs a moment to arrive.
fn list_until(port: u16, fulfilled: impl Fn(&[Socket]) -> bool) -> Vec<Socket> {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let sockets = list(port);
        if fulfilled(&sockets) {
            return sockets;
        }
        assert!(Instant::now() < patience, "{sockets:#?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The one with this local address that is no listener.
fn of(sockets: &[Socket], local: SocketAddr) -> Option<&Socket> {
    let mut connections = sockets.iter().filter(|socket| socket.remote.is_some());
    connections.find(|socket| socket.local == local)
}

fn state_of(sockets: &[Socket], local: SocketAddr) -> Option<State> {
    of(sockets, local).map(|socket| socket.state)
}

#[test]
fn a_listener_tells_its_backlog_and_its_queue() {
    let listener = listen(7);
    let address = listener.local_addr().unwrap();
    let sockets = list(address.port());
    let [empty] = &sockets[..] else {
        panic!("{sockets:#?}");
    };
    assert_eq!(empty.state, State::Listen);
    assert_eq!((empty.local, empty.remote), (address, None));
    assert_eq!((empty.receive_queue, empty.send_queue), (0, 7));
    assert_eq!((empty.timer, empty.info), (None, None));

    let clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    let sockets = list_until(address.port(), |sockets| sockets[0].receive_queue == 3);
    assert_eq!(sockets.len(), 1 + 3 + 3);
    assert_eq!(sockets[0].state, State::Listen);
    for client in &clients {
        let local = client.local_addr().unwrap();
        assert_eq!(state_of(&sockets, local), Some(State::Established));
    }
    // Nobody has those that are not accepted.
    let waiting: Vec<&Socket> = (sockets[1..].iter())
        .filter(|socket| socket.local == address)
        .collect();
    assert_eq!(waiting.len(), 3);
    assert!(waiting.iter().all(|socket| socket.inode == 0));
    listener.accept().unwrap();
    list_until(address.port(), |sockets| sockets[0].receive_queue == 2);
}

#[test]
fn unread_bytes_are_in_a_queue() {
    let (mut client, server) = pair();
    let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    client.write_all(&[0; 1234]).unwrap();
    let sockets = list_until(local.port(), |sockets| {
        of(sockets, remote).is_some_and(|socket| socket.receive_queue > 0)
    });
    let [one, other] = [local, remote].map(|end| of(&sockets, end).unwrap());
    assert_eq!(sockets.len(), 2, "{sockets:#?}");
    assert_eq!((one.remote, other.remote), (Some(remote), Some(local)));
    for socket in [one, other] {
        assert_eq!(socket.state, State::Established);
        let info = socket.info.unwrap();
        assert!(info.rtt_us > 0 && info.rtt_us < 10_000_000, "{info:?}");
        // Linux waits for 200 ms at least.
        assert!(info.rto_us >= 200_000, "{info:?}");
        assert!(info.congestion_window >= 2, "{info:?}");
        assert!(info.mss_bytes >= 536, "{info:?}");
    }
    assert_eq!(other.receive_queue, 1234);
    assert_eq!(one.receive_queue, 0);

    let info = sockets::info_of(&client).unwrap();
    assert_eq!(info.mss_bytes, one.info.unwrap().mss_bytes);
    drop(server);
}

#[test]
fn a_half_closed_connection() {
    let (client, mut server) = pair();
    let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    client.shutdown(Shutdown::Write).unwrap();
    let sockets = list_until(local.port(), |sockets| {
        state_of(sockets, local) == Some(State::FinWait2)
            && state_of(sockets, remote) == Some(State::CloseWait)
    });
    // As long as the program has it, it may wait for ever.
    assert_eq!(of(&sockets, local).unwrap().timer, None);
    // The FIN counts until it is read.
    assert_eq!(of(&sockets, remote).unwrap().receive_queue, 1);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    list_until(local.port(), |sockets| {
        of(sockets, remote).is_some_and(|socket| socket.receive_queue == 0)
    });

    // When the program closes it, it does not.
    drop(client);
    let sockets = list_until(local.port(), |sockets| {
        of(sockets, local).is_some_and(|socket| socket.timer.is_some())
    });
    let orphan = of(&sockets, local).unwrap();
    assert_eq!(orphan.state, State::FinWait2);
    let limit_ms = fin_timeout_s().unwrap() * 1000;
    let left_ms = orphan.timer.unwrap().left_ms;
    assert!(left_ms > 0 && left_ms <= limit_ms, "{left_ms}");
    assert_eq!(orphan.timer.unwrap().kind, "FIN timeout");
    drop(server);
}

#[test]
fn who_closes_first_holds_time_wait() {
    let (client, server) = pair();
    let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    drop(server);
    list_until(local.port(), |sockets| {
        state_of(sockets, local) == Some(State::CloseWait)
    });
    drop(client);
    list_until(local.port(), <[Socket]>::is_empty);
    let sockets = sockets::list(&[local.port()]).unwrap();
    let last =
        (sockets.iter()).find(|socket| (socket.local, socket.remote) == (remote, Some(local)));
    let last = last.unwrap();
    assert_eq!(last.state, State::TimeWait);
    assert_eq!((last.inode, last.info), (0, None));
    let timer = last.timer.unwrap();
    assert_eq!(timer.kind, "time-wait");
    // The kernel counts in ticks.
    let left = Duration::from_millis(timer.left_ms.into());
    assert!(left <= TIME_WAIT + Duration::from_millis(20), "{timer:?}");
    assert!(left > TIME_WAIT - Duration::from_secs(20), "{timer:?}");
}

#[test]
fn a_syn_without_room_is_sent_again() {
    // A queue of 0 holds one connection.
    let listener = listen(0);
    let address = listener.local_addr().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    list_until(address.port(), |sockets| sockets[0].receive_queue == 1);
    let second = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    second.set_nonblocking(true).unwrap();
    second.connect(&address.into()).unwrap_err();
    let local = second.local_addr().unwrap().as_socket().unwrap();
    let sockets = list_until(address.port(), |sockets| {
        of(sockets, local).is_some_and(|socket| socket.timer.is_some())
    });
    let waiting = of(&sockets, local).unwrap();
    assert_eq!(waiting.state, State::SynSent);
    assert_eq!(waiting.timer.unwrap().kind, "retransmit");
    // The SYN is not acknowledged.
    assert_eq!(waiting.send_queue, 1);
}

#[test]
fn a_handshake_that_is_not_over() {
    let listener = listen(8);
    setsockopt(&listener, DeferAccept, &20).unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let local = client.local_addr().unwrap();
    // The server acts as if the last ACK were lost.
    let sockets = list_until(address.port(), |sockets| of(sockets, address).is_some());
    let half_open = of(&sockets, address).unwrap();
    assert_eq!(half_open.state, State::SynReceived);
    assert_eq!(half_open.remote, Some(local));
    assert_eq!((half_open.inode, half_open.info), (0, None));
    assert_eq!(half_open.timer.unwrap().kind, "retransmit");
    assert_eq!(state_of(&sockets, local), Some(State::Established));
    client.write_all(b"!").unwrap();
    list_until(address.port(), |sockets| {
        state_of(sockets, address) == Some(State::Established)
    });
}

#[test]
fn sockets_are_held_by_processes() {
    let (client, server) = pair();
    let port = client.local_addr().unwrap().port();
    let copy = server.try_clone().unwrap();
    let pid = std::process::id();
    for pids in [None, Some(&[pid][..])] {
        let mut sockets = list(port);
        holders(pids, &mut sockets);
        for (stream, fds) in [
            (&client, [client.as_raw_fd(); 2]),
            (&server, [server.as_raw_fd(), copy.as_raw_fd()]),
        ] {
            let socket = of(&sockets, stream.local_addr().unwrap()).unwrap();
            // A child that another test starts has our descriptors for a moment.
            let ours = socket.holders.iter().filter(|holder| holder.pid == pid);
            let found: BTreeSet<i32> = ours.clone().map(|holder| holder.fd).collect();
            assert_eq!(found, fds.into());
            for holder in ours {
                assert!(!holder.command.is_empty());
            }
        }
    }
    let mut sockets = list(port);
    holders(Some(&[]), &mut sockets);
    assert!(sockets.iter().all(|socket| socket.holders.is_empty()));
}

#[test]
fn both_families() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
        skipped("there is no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let targets = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    let clients = targets.map(|target| TcpStream::connect(target).unwrap());
    let accepted = [(); 2].map(|()| listener.accept().unwrap());
    let sockets = list(port);
    assert_eq!(sockets.len(), 1 + 2 + 2, "{sockets:#?}");
    assert_eq!(sockets[0].local, listener.local_addr().unwrap());
    for (client, target) in clients.iter().zip(targets) {
        let local = client.local_addr().unwrap();
        // That of the server's socket is one of IPv4 where its peer's is.
        assert_eq!(of(&sockets, target).unwrap().remote, Some(local));
        assert_eq!(of(&sockets, local).unwrap().remote, Some(target));
        assert!(sockets::info_of(client).unwrap().rtt_us > 0);
    }
    for (server, _) in &accepted {
        assert!(sockets::info_of(server).unwrap().rtt_us > 0);
    }
}

#[test]
fn other_ports_are_left_out() {
    let [one, other] = [listen(1), listen(1)];
    let [one, other] = [one, other].map(|listener| (listener.local_addr().unwrap(), listener));
    let listening = |ports: &[u16]| -> BTreeSet<SocketAddr> {
        let sockets = sockets::list(ports).unwrap();
        let listeners = sockets
            .iter()
            .filter(|socket| socket.state == State::Listen);
        listeners.map(|socket| socket.local).collect()
    };
    let both = [one.0, other.0];
    assert_eq!(listening(&[one.0.port()]), [one.0].into());
    assert_eq!(listening(&both.map(|address| address.port())), both.into());
    assert_eq!(sockets::list(&[]).unwrap(), []);
}
