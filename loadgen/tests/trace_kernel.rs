//! Tracing with the kernel's tracepoints, held against an exchange whose calls and states are known.

mod skipped;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;
use socket2::{Domain, Socket, Type};
use trace::kernel::{Error, Traced, Tracer, Watch, describe, descriptor, makes_descriptor, result};
use trace::model::{Call, Change, Side, State};

use skipped::skipped;

/// Set in processes that are to serve.
const SERVE: &str = "LOADGEN_TEST_TRACED";

/// Not a test of its own: one connection at a time, which is closed behind the answer.
#[test]
#[ignore = "run by other tests"]
fn serve() {
    if std::env::var(SERVE).is_err() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"world").unwrap();
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "serve", "--nocapture"])
            .env(SERVE, "")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness speaks first.
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("listening on ")?.1.parse().unwrap()))
            .unwrap();
        Server { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// `hello`, `world`, the server's FIN, then ours; and who did that.
fn exchange(address: SocketAddr) -> (SocketAddr, u32) {
    let mut stream = TcpStream::connect(address).unwrap();
    let local = stream.local_addr().unwrap();
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"world");
    assert_eq!(stream.read(&mut answer).unwrap(), 0);
    (local, tid())
}

fn tid() -> u32 {
    gettid().as_raw().cast_unsigned()
}

fn now_ns() -> u64 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    now.as_nanos().try_into().unwrap()
}

/// Says so where tracing is not permitted.
fn begin() -> Option<Tracer> {
    match Tracer::begin() {
        Ok(tracer) => Some(tracer),
        Err(error @ (Error::NotPermitted { .. } | Error::NotSupported(_))) => {
            skipped(&error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs a scenario until no call is lost, as on a busy machine the kernel's buffers may lose some. A scenario returns the
/// number of lost calls and what it saw; `None` where tracing is not permitted.
fn without_loss<T>(scenario: impl Fn() -> Option<(u64, T)>) -> Option<T> {
    const ATTEMPTS: usize = 10;
    for _ in 0..ATTEMPTS {
        let (lost, seen) = scenario()?;
        if lost == 0 {
            return Some(seen);
        }
    }
    panic!("calls are lost in each of {ATTEMPTS} attempts");
}

/// Calls of one side about its TCP sockets, as `listen(3, 128) = 0`, with descriptors named by their order.
fn about_sockets(traced: &Traced, side: Side) -> Vec<String> {
    let mut open: Vec<i32> = Vec::new();
    let mut lines = Vec::new();
    for call in traced.calls.iter().filter(|call| call.side == side) {
        let makes_socket = call.name == "socket" && describe(call).starts_with("AF_INET,");
        let about = descriptor(call).filter(|fd| open.contains(fd));
        // The standard library asks for flags when it is built for debugging.
        if !makes_socket && (about.is_none() || call.name == "fcntl") {
            continue;
        }
        let arguments = match about {
            Some(fd) => describe(call).replacen(&fd.to_string(), &label(&open, fd), 1),
            None => describe(call),
        };
        let mut outcome = result(call).unwrap_or("?".to_owned());
        if let Some(made) = makes_descriptor(call) {
            open.push(made);
            outcome = label(&open, made);
        }
        lines.push(format!("{}({arguments}) = {outcome}", call.name));
    }
    lines
}

fn label(open: &[i32], fd: i32) -> String {
    let index = open.iter().rposition(|&other| other == fd).unwrap();
    ["first", "second", "third"][index].to_owned()
}

fn states(changes: &[Change], local: SocketAddr, remote: SocketAddr) -> Vec<(State, State)> {
    let of = |change: &&Change| change.local == local && change.remote == remote;
    let of = changes.iter().filter(of);
    of.map(|change| (change.old, change.new)).collect()
}

fn check_times(traced: &Traced, (begin_ns, end_ns): (u64, u64)) {
    assert!(traced.changes.is_sorted_by_key(|change| change.at_ns));
    assert!(traced.calls.is_sorted_by_key(|call| call.entered_ns));
    let within = begin_ns..=end_ns;
    for change in &traced.changes {
        assert!(within.contains(&change.at_ns), "{change:?} in {within:?}");
    }
    for call in &traced.calls {
        let times = call.entered_ns.into_iter().chain(call.left_ns);
        assert!(times.is_sorted(), "{call:?}");
        for time in [call.entered_ns, call.left_ns].into_iter().flatten() {
            assert!(within.contains(&time), "{call:?} in {within:?}");
        }
    }
    let threads: BTreeSet<u32> = traced.calls.iter().map(|call| call.tid).collect();
    for tid in threads {
        let calls: Vec<&Call> = traced.calls.iter().filter(|call| call.tid == tid).collect();
        for pair in calls.windows(2) {
            let follows = pair[0].left_ns <= pair[1].entered_ns;
            assert!(follows, "one within the other: {pair:?}");
        }
    }
}

#[test]
fn an_exchange_with_a_process() {
    let scenario = || {
        let begin_ns = now_ns();
        let tracer = begin()?;
        let server = Server::start();
        let address = server.address;
        let client = thread::spawn(move || exchange(address));
        let (local, client) = client.join().unwrap();
        // When the server answers this one, it is done with the first.
        exchange(server.address);
        let watch = Watch {
            client_tids: vec![client],
            server_pids: vec![server.child.id()],
            ports: vec![server.address.port()],
            all_calls: false,
        };
        let traced = tracer.end(&watch).unwrap();
        let times = (begin_ns, now_ns());
        Some((traced.lost, (traced, times, local, address)))
    };
    let Some((traced, times, local, address)) = without_loss(scenario) else {
        return;
    };
    check_times(&traced, times);

    use State::*;
    let listening = SocketAddr::from(([0, 0, 0, 0], 0));
    for (name, local, remote, expected) in [
        ("listener", address, listening, vec![(Closed, Listen)]),
        (
            "client",
            local,
            address,
            vec![
                (Closed, SynSent),
                (SynSent, Established),
                (Established, CloseWait),
                (CloseWait, LastAck),
                (LastAck, Closed),
            ],
        ),
        (
            "server",
            address,
            local,
            vec![
                (Listen, SynReceived),
                (SynReceived, Established),
                (Established, FinWait1),
                (FinWait1, FinWait2),
                (FinWait2, Closed),
            ],
        ),
    ] {
        assert_eq!(states(&traced.changes, local, remote), expected, "{name}");
    }
    assert_eq!(
        about_sockets(&traced, Side::Client),
        [
            "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0) = first",
            "connect(first) = 0",
            "getsockname(first) = 0",
            "sendto(first, 5 bytes, MSG_NOSIGNAL) = 5",
            "recvfrom(first, 5 bytes) = 5",
            "recvfrom(first, 5 bytes) = 0",
            "close(first) = 0",
        ]
    );
    let calls = about_sockets(&traced, Side::Server);
    assert_eq!(
        calls[..9],
        [
            "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0) = first",
            "setsockopt(first, SOL_SOCKET, SO_REUSEADDR) = 0",
            "bind(first) = 0",
            "listen(first, 128) = 0",
            "getsockname(first) = 0",
            "accept4(first, SOCK_CLOEXEC) = second",
            "recvfrom(second, 5 bytes) = 5",
            "sendto(second, 5 bytes, MSG_NOSIGNAL) = 5",
            "close(second) = 0",
        ]
    );
}

#[test]
fn calls_that_the_trace_cuts() {
    let scenario = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::channel();
        let acceptor = thread::spawn(move || {
            sender.send(tid()).unwrap();
            listener.accept().unwrap();
            listener.accept().unwrap();
        });
        let acceptor_tid = receiver.recv().unwrap();
        wait_for_sleep(acceptor_tid);
        let traced = begin().map(|tracer| {
            let first = TcpStream::connect(address).unwrap();
            // It has returned from the first when the kernel has nothing left in the accept queue, and sleeps.
            while queued(address) > 0 {
                thread::sleep(Duration::from_millis(1));
            }
            wait_for_sleep(acceptor_tid);
            let watch = Watch {
                client_tids: vec![acceptor_tid],
                ..Watch::default()
            };
            let traced = tracer.end(&watch).unwrap();
            drop((first, TcpStream::connect(address).unwrap()));
            traced
        });
        if traced.is_none() {
            TcpStream::connect(address).unwrap();
            TcpStream::connect(address).unwrap();
        }
        acceptor.join().unwrap();
        traced.map(|traced| (traced.lost, traced))
    };
    let Some(traced) = without_loss(scenario) else {
        return;
    };
    let accepts: Vec<&Call> = (traced.calls.iter())
        .filter(|call| call.name == "accept4")
        .collect();
    let [before, after] = accepts[..] else {
        panic!("{accepts:?}");
    };
    assert_eq!(before.entered_ns, None);
    assert!(before.left_ns.is_some() && makes_descriptor(before).is_some());
    assert_eq!(describe(before), "");
    assert!(after.entered_ns > before.left_ns);
    assert_eq!((after.left_ns, after.result), (None, None));
    assert_eq!(result(after), None);
}

/// Until the kernel says that it waits.
fn wait_for_sleep(tid: u32) {
    let stat = format!("/proc/self/task/{tid}/stat");
    while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
        thread::sleep(Duration::from_millis(1));
    }
}

/// How many connections wait for `accept`.
fn queued(address: SocketAddr) -> u32 {
    let sockets = subject::sockets::list(&[address.port()]).unwrap();
    let listeners = sockets
        .iter()
        .filter(|socket| socket.state == State::Listen);
    listeners.map(|socket| socket.receive_queue).sum()
}

#[test]
fn two_at_once() {
    let scenario = || {
        let server = Server::start();
        let address = server.address;
        let one = begin()?;
        let other = begin().unwrap();
        let exchange = || thread::spawn(move || exchange(address)).join().unwrap();
        let (_, first) = exchange();
        let watch = |client| Watch {
            client_tids: vec![client],
            server_pids: vec![],
            ports: vec![address.port()],
            all_calls: false,
        };
        let one = one.end(&watch(first)).unwrap();
        // The other goes on.
        let (local, second) = exchange();
        let mut both = watch(first);
        both.client_tids.push(second);
        let other = other.end(&both).unwrap();
        let lost = one.lost + other.lost;
        Some((lost, (one, other, first, local, address)))
    };
    let Some((one, other, first, local, address)) = without_loss(scenario) else {
        return;
    };
    assert!(!one.calls.is_empty());
    let (of_first, of_second): (Vec<Call>, Vec<Call>) =
        (other.calls.into_iter()).partition(|call| call.tid == first);
    let names = |calls: &[Call]| -> Vec<_> {
        let whole = calls.iter().filter(|call| call.name != "exit");
        whole.map(|call| (call.name, call.tid)).collect()
    };
    assert_eq!(names(&of_first), names(&one.calls));
    assert_eq!(of_second.len(), of_first.len());
    assert_eq!(states(&other.changes, local, address).len(), 5);
    assert_eq!(states(&one.changes, local, address), []);
}

/// Of a busy machine, the kernel's buffers may lose calls: then that is told, and the next attempt calls more
/// slowly.
#[test]
fn many_calls_are_all_there() {
    /// More than a buffer holds, and fewer than are kept of a process.
    const CALLS: usize = 50_000;
    /// The first is a busy server's rate; a build without optimisation reads no more than that.
    const PAUSES_MS: [u64; 5] = [10, 20, 40, 80, 160];
    let work = |pause| {
        let mut zero = std::fs::File::open("/dev/zero").unwrap();
        for call in 1..=CALLS {
            zero.read_exact(&mut [0; 7]).unwrap();
            if call % 1000 == 0 {
                thread::sleep(pause);
            }
        }
        tid()
    };
    for pause in PAUSES_MS.map(Duration::from_millis) {
        let Some(tracer) = begin() else { return };
        let worker = thread::spawn(move || work(pause)).join().unwrap();
        let watch = Watch {
            client_tids: vec![worker],
            all_calls: true,
            ..Watch::default()
        };
        let traced = tracer.end(&watch).unwrap();
        let is_read = |call: &&Call| call.name == "read" && call.arguments[2] == 7;
        let reads: Vec<&Call> = traced.calls.iter().filter(is_read).collect();
        assert!(reads.len() <= CALLS);
        if traced.lost > 0 {
            continue;
        }
        assert_eq!(reads.len(), CALLS);
        assert!(reads.iter().all(|call| call.result == Some(7)));
        assert!(traced.calls.iter().any(|call| call.name == "openat"));
        return;
    }
    panic!("calls are lost in each of {} attempts", PAUSES_MS.len());
}

#[test]
fn a_refused_connection() {
    let scenario = || {
        let tracer = begin()?;
        // Bound, so that nobody else gets the port, and not listening.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        bound.bind(&any.into()).unwrap();
        let address = bound.local_addr().unwrap().as_socket().unwrap();
        let connect = move || {
            TcpStream::connect(address).unwrap_err();
            tid()
        };
        let client = thread::spawn(connect).join().unwrap();
        let watch = Watch {
            client_tids: vec![client],
            ports: vec![address.port()],
            ..Watch::default()
        };
        let traced = tracer.end(&watch).unwrap();
        Some((traced.lost, (traced, address)))
    };
    let Some((traced, address)) = without_loss(scenario) else {
        return;
    };
    use State::*;
    let changes: Vec<_> = (traced.changes.iter())
        .filter(|change| change.remote == address)
        .map(|change| (change.old, change.new))
        .collect();
    assert_eq!(changes, [(Closed, SynSent), (SynSent, Closed)]);
    let first = (traced.changes.iter()).find(|change| change.new == SynSent);
    assert_ne!(first.unwrap().local.port(), 0);
    assert!(
        about_sockets(&traced, Side::Client)
            .contains(&"connect(first) = -1 ECONNREFUSED".to_owned())
    );
}

#[test]
fn addresses_are_those_of_the_packets() {
    let scenario = || {
        let tracer = begin()?;
        let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
            skipped("there is no IPv6");
            return None;
        };
        let port = listener.local_addr().unwrap().port();
        // A socket of IPv6 takes connections of IPv4 as well.
        let targets = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ];
        let clients = targets.map(|target| {
            let client = TcpStream::connect(target).unwrap();
            let local = client.local_addr().unwrap();
            listener.accept().unwrap();
            local
        });
        let watch = Watch {
            ports: vec![port],
            ..Watch::default()
        };
        let traced = tracer.end(&watch).unwrap();
        Some((traced.lost, (traced, clients, targets)))
    };
    let Some((traced, clients, targets)) = without_loss(scenario) else {
        return;
    };
    for (client, target) in clients.into_iter().zip(targets) {
        for (local, remote, first) in [
            (client, target, (State::Closed, State::SynSent)),
            (target, client, (State::Listen, State::SynReceived)),
        ] {
            assert_eq!(states(&traced.changes, local, remote)[0], first, "{local}");
        }
    }
}
