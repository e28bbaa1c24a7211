//! Doors: who is let in, who waits, and that a stop loses nobody, however many doors a host has.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use host::blocking::{converse, incoming};
use host::{Accept, Door, Guest, Host, Settings};
use http1::Connection;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const SOON: Duration = Duration::from_secs(10);

fn host(settings: Settings) -> (Arc<Host>, TcpListener, SocketAddr) {
    let host = Arc::new(Host::new(settings));
    let listener = host::listen((Ipv4Addr::LOCALHOST, 0).into(), &host.settings).unwrap();
    let address = listener.local_addr().unwrap();
    (host, listener, address)
}

/// Settings of an architecture with several listening sockets.
fn sharing() -> Settings {
    Settings {
        reuse_port: true,
        ..Settings::default()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, SOON).unwrap()
}

/// Accepts until there is somebody.
fn guest(door: &mut Door) -> (TcpStream, Guest) {
    let deadline = Instant::now() + SOON;
    loop {
        match door.accept() {
            Accept::Guest(stream, guest) => return (stream, guest),
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    }
}

/// Accepts until the door is closed.
fn guests(mut door: Door) -> Vec<(TcpStream, Guest)> {
    let mut guests = Vec::new();
    loop {
        match door.accept() {
            Accept::Guest(stream, guest) => guests.push((stream, guest)),
            Accept::Closed => return guests,
            other => panic!("{other:?}"),
        }
    }
}

#[track_caller]
fn assert_counted(host: &Host, counted: &str) {
    let counters = host.counters.to_string();
    assert!(counters.contains(counted), "{counted} in {counters}");
}

/// All stand in the accept queues of two doors when the server stops, more than may be open.
#[test]
fn two_doors_are_drained_at_a_stop() {
    let settings = Settings {
        connections_max: 3,
        ..sharing()
    };
    let (host, first, address) = host(settings);
    let second = host.listen_again(&first).unwrap();
    assert_eq!(second.local_addr().unwrap(), address);
    let doors = [first, second].map(|listener| Door::nonblocking(listener, &host).unwrap());
    let clients: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    host.stop();
    let inside = doors.map(guests);
    assert!(inside.iter().all(|guests| !guests.is_empty()), "{inside:?}");
    assert_eq!(inside.iter().flatten().count(), clients.len());
    assert_counted(&host, r#""accepted":100,"closed":0,"open":100"#);
    drop(inside);
    assert_counted(&host, r#""accepted":100,"closed":100,"open":0"#);
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// Clients come without a pause while two doors, each with a thread, are served and stopped.
#[test]
fn a_stop_of_two_doors_loses_nobody() {
    for _ in 0..5 {
        let (host, first, address) = host(sharing());
        let second = host.listen_again(&first).unwrap();
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for listener in [first, second] {
                let host = &host;
                scope.spawn(move || incoming(listener, host).for_each(converse));
            }
            let client = || {
                // Only who is not let in at all may go unanswered.
                while let Ok(mut stream) = TcpStream::connect_timeout(&address, SOON) {
                    stream.set_read_timeout(Some(SOON)).unwrap();
                    stream.write_all(REQUEST).unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).unwrap();
                    assert!(answer.ends_with("hello world"), "{answer:?}");
                    answered.fetch_add(1, SeqCst);
                }
            };
            for _ in 0..8 {
                scope.spawn(client);
            }
            while answered.load(SeqCst) < 200 {
                thread::sleep(Duration::from_millis(1));
            }
            host.stop();
        });
        let answered = answered.load(SeqCst);
        assert_counted(
            &host,
            &format!(r#""accepted":{answered},"closed":{answered},"open":0"#),
        );
        assert_counted(&host, &format!(r#""responses":{{"200":{answered}}}"#));
    }
}

/// A door that is opened while the server stops is emptied all the same.
#[test]
fn a_door_opened_after_the_stop_is_drained() {
    let (host, listener, address) = host(Settings::default());
    let client = connect(address);
    host.stop();
    assert_eq!(guests(Door::nonblocking(listener, &host).unwrap()).len(), 1);
    drop(client);
}

#[test]
fn further_listeners_must_be_asked_for() {
    let (host, listener, _) = host(Settings::default());
    let error = host.listen_again(&listener).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// `--max-connections` goes for all doors together. A place that is given back wakes who was turned away.
#[test]
fn a_full_house_wakes_who_waits() {
    let settings = Settings {
        connections_max: 2,
        ..sharing()
    };
    let (host, first, address) = host(settings);
    let second = host.listen_again(&first).unwrap();
    let mut doors = [first, second].map(|listener| Door::nonblocking(listener, &host).unwrap());
    let woken = Arc::new(AtomicUsize::new(0));
    doors[0].on_room({
        let woken = Arc::clone(&woken);
        move || _ = woken.fetch_add(1, SeqCst)
    });
    let mut clients = Vec::new();
    let mut inside = Vec::new();
    while inside.len() < 2 {
        clients.push(connect(address));
        let accepted = doors.iter_mut().map(Door::accept);
        inside.extend(accepted.filter_map(|accepted| match accepted {
            Accept::Guest(stream, guest) => Some((stream, guest)),
            _ => None,
        }));
    }
    for door in &mut doors {
        assert!(matches!(door.accept(), Accept::Full));
        assert!(matches!(door.accept(), Accept::Full));
    }
    // Once a door, not once a try.
    assert_counted(&host, r#""limits":{"connections":2,"#);
    assert_eq!(woken.load(SeqCst), 0);
    inside.pop();
    inside.pop();
    assert_eq!(woken.load(SeqCst), 1, "woken once, and the other door not");
    assert!(matches!(doors[0].accept(), Accept::Nobody));

    // A stop wakes as well, and nobody has to wait for a place after it.
    clients.push(connect(address));
    clients.push(connect(address));
    let mut inside = Vec::new();
    for _ in 0..2 {
        let deadline = Instant::now() + SOON;
        inside.push(loop {
            let accepted = doors.iter_mut().map(Door::accept);
            let mut guests = accepted.filter_map(|accepted| match accepted {
                Accept::Guest(stream, guest) => Some((stream, guest)),
                _ => None,
            });
            if let Some(guest) = guests.next() {
                break guest;
            }
            assert!(Instant::now() < deadline);
        });
    }
    clients.extend((0..20).map(|_| connect(address)));
    assert!(matches!(doors[0].accept(), Accept::Full));
    host.stop();
    assert_eq!(woken.load(SeqCst), 2);
    assert_eq!(doors.map(guests).iter().flatten().count(), 20);
}

/// A guest is counted once, however its connection ends.
#[test]
fn guests_count_what_becomes_of_them() {
    let (host, listener, address) = host(Settings::default());
    let mut door = Door::nonblocking(listener, &host).unwrap();
    assert!(matches!(door.accept(), Accept::Nobody));
    let _clients = [(); 3].map(|()| connect(address));
    let (_first, mut caught) = guest(&mut door);
    let (_second, dropped) = guest(&mut door);
    let (_third, quiet) = guest(&mut door);
    assert_eq!(caught.contain(|| 7), Some(7));
    assert_eq!(caught.contain(|| -> u8 { panic!("of a test") }), None);
    assert_counted(&host, r#""accepted":3,"closed":0,"open":3,"panics":0"#);
    drop(caught);
    assert_counted(&host, r#""closed":1,"open":2,"panics":1"#);
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _guest = dropped;
        panic!("of a test");
    }));
    assert!(unwound.is_err());
    assert_counted(&host, r#""closed":2,"open":1,"panics":2"#);
    drop(quiet);
    assert_counted(&host, r#""closed":3,"open":0,"panics":2"#);
}

/// TCP_USER_TIMEOUT is a timeout for writing where an answer waits to be sent, and nowhere else.
#[test]
fn the_kernels_timeout_is_a_timeout_for_writing() {
    let (host, ..) = host(Settings::default());
    let mut scratch = host.scratch();
    let failed = |kind: ErrorKind, writes: bool, scratch: &mut http1::Scratch| {
        let mut connection = Connection::new(scratch, host::now());
        if writes {
            scratch.space()[..REQUEST.len()].copy_from_slice(REQUEST);
            connection.received(scratch, REQUEST.len(), host::now());
        }
        host::note_failure(&mut connection, scratch, &kind.into(), host::now());
    };
    failed(ErrorKind::TimedOut, false, &mut scratch);
    failed(ErrorKind::ConnectionReset, true, &mut scratch);
    assert_counted(
        &host,
        r#""timeouts":{"idle":0,"header":0,"body":0,"write":0,"linger":0}"#,
    );
    failed(ErrorKind::TimedOut, true, &mut scratch);
    assert_counted(
        &host,
        r#""timeouts":{"idle":0,"header":0,"body":0,"write":1,"linger":0}"#,
    );
}
