//! Answers that the client reads slowly or not at all. The server stops reading that client's requests instead
//! of buffering, and no answer is lost, cut or out of order.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::client::Expected::{Head, Hello, Options, Refusal};
use crate::client::{Client, Expected, GET};
use crate::each;
use crate::hostile::connect;
use crate::subject::{Running, SOON, Subject, eventually};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    each(
        subject,
        &[
            ("10,000 requests, then their answers", asks_first),
            ("a client that reads slowly loses nothing", reads_slowly),
            ("10,000 requests and nobody reads", never_reads),
        ],
    )
}

/// This many requests in random order, of all kinds that keep the connection open, with their answers.
fn mixed(count: usize) -> (Vec<u8>, Vec<Expected>) {
    let kinds: [(&[u8], Expected); 5] = [
        (GET, Hello),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", Head),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Options),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            Refusal(405),
        ),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal(501)),
    ];
    let mut requests = Vec::new();
    let mut answers = Vec::new();
    let mut state: u32 = 1;
    for _ in 0..count {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (request, answer) = kinds[(state >> 16) as usize % kinds.len()];
        requests.extend_from_slice(request);
        answers.push(answer);
    }
    (requests, answers)
}

/// Checks that the server has counted exactly these answers.
fn has_answered(server: Running, answers: &[Expected]) -> Result<()> {
    let mut by_status = BTreeMap::new();
    for answer in answers {
        *by_status.entry(answer.status()).or_insert(0) += 1;
    }
    let counters = server.stop()?;
    ensure!(
        counters.responses == by_status,
        "{by_status:?}, {counters:?}"
    );
    Ok(())
}

/// The client reads no answer until the server takes no more requests.
fn asks_first(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    server.greet()?;
    let before = server.memory_kib()?;
    let (requests, answers) = mixed(10_000);
    let mut client = server.connect()?;
    let mut sender = client.sender()?;
    thread::scope(|scope| {
        let sent = scope.spawn(move || sender.write_all(&requests));
        let since = Instant::now();
        while !sent.is_finished() && since.elapsed() < Duration::from_millis(300) {
            thread::sleep(Duration::from_millis(5));
        }
        let most = server.memory_kib()?;
        ensure!(
            most <= before + subject.peers_kib_max(1),
            "{before} KiB before, {most} KiB with 10,000 requests sent"
        );
        for (at, &answer) in answers.iter().enumerate() {
            client
                .expect(answer, None)
                .with_context(|| format!("answer {at}"))?;
        }
        sent.join().expect("no sender panics").context("sending")
    })?;
    drop(client);
    let greeting = [Hello];
    has_answered(server, &[&answers[..], &greeting].concat())
}

/// The client has room for a few answers only, so that the server writes them in parts. Signals interrupt the
/// server, so that the parts end anywhere.
fn reads_slowly(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let (requests, answers) = mixed(2_000);
    let mut client = Client::connect_narrow(server.address())?;
    let mut sender = client.sender()?;
    thread::scope(|scope| {
        let sent = scope.spawn(move || sender.write_all(&requests));
        for (at, &answer) in answers.iter().enumerate() {
            if at % 20 == 0 {
                server.signal(Signal::SIGSTOP)?;
                server.signal(Signal::SIGCONT)?;
                thread::sleep(Duration::from_millis(1));
            }
            client
                .expect(answer, None)
                .with_context(|| format!("answer {at}"))?;
        }
        sent.join().expect("no sender panics").context("sending")
    })?;
    drop(client);
    has_answered(server, &answers)
}

/// Many such peers at once, if the server serves all: each costs a bounded amount of memory, in the server and in
/// the kernel.
fn never_reads(subject: &Subject) -> Result<()> {
    let peers = match subject.serves_all_at_once() {
        true => 200,
        false => 1,
    };
    let server = subject.start(&["--idle-timeout", "1s"])?;
    server.greet()?;
    let before = server.memory_kib()?;
    let mut stalled = (0..peers)
        .map(|_| Stalled::connect(&server))
        .collect::<Result<Vec<_>>>()?;
    let (mut most, mut most_queued) = (before, 0);
    let since = Instant::now();
    loop {
        stalled.iter_mut().for_each(Stalled::send);
        let counters = server.counters()?;
        if counters.timeouts.write == peers {
            break;
        }
        ensure!(
            since.elapsed() < 4 * SOON,
            "not all are dropped: {counters:?}"
        );
        most = most.max(server.memory_kib()?);
        most_queued = queued_kib(&server)?.into_iter().fold(most_queued, u64::max);
        if subject.serves_all_at_once() {
            server.greet().context("beside peers that do not read")?;
        }
        thread::sleep(Duration::from_millis(20));
    }
    server.greet()?;
    eventually(|| {
        let left = queued_kib(&server)?;
        ensure!(left.is_empty(), "the kernel still holds {left:?} KiB");
        Ok(())
    })?;
    let counters = server.stop()?;
    ensure!(counters.timeouts.write == peers, "{counters:?}");
    ensure!(
        most <= before + subject.peers_kib_max(peers),
        "{before} KiB before, up to {most} KiB with {peers} such peers"
    );
    ensure!(
        most_queued <= QUEUED_KIB_MAX,
        "{most_queued} KiB in the kernel for one of them"
    );
    Ok(())
}

/// The most bytes of one peer's requests and answers that the kernel may hold.
const QUEUED_KIB_MAX: u64 = 256;

/// The bytes of unread requests and answers that the kernel holds, for each of the server's connections that has
/// any, including closed ones.
fn queued_kib(server: &Running) -> Result<Vec<u64>> {
    let port = format!(":{:04X}", server.address().port());
    let sockets = fs::read_to_string("/proc/net/tcp")?;
    let mut queued = Vec::new();
    for socket in sockets.lines().skip(1) {
        // The columns are: number, local and remote address, state, bytes to send and to receive.
        let fields: Vec<&str> = socket.split_ascii_whitespace().collect();
        if fields[1].ends_with(&port) && fields[3] != LISTEN {
            let (to_send, to_receive) = fields[4].split_once(':').context("two queues")?;
            let bytes = u64::from_str_radix(to_send, 16)? + u64::from_str_radix(to_receive, 16)?;
            queued.extend((bytes > 0).then_some(bytes >> 10));
        }
    }
    Ok(queued)
}

/// The state of a listening socket in /proc/net/tcp; its queue holds connections to be accepted.
const LISTEN: &str = "0A";

/// The request with the largest answer for its length.
const SHORTEST: &[u8] = b"GET / HTTP/1.1\nHost:\n\n";

/// A peer that sends 10,000 requests, or as many as the server takes, and reads no answer.
struct Stalled {
    stream: TcpStream,
    requests: Vec<u8>,
    sent: usize,
}

impl Stalled {
    fn connect(server: &Running) -> Result<Self> {
        let stream = connect(server.address())?;
        stream.set_nonblocking(true)?;
        Ok(Stalled {
            stream,
            requests: SHORTEST.repeat(10_000),
            sent: 0,
        })
    }

    /// Sends as much as the server takes now.
    fn send(&mut self) {
        while let Ok(n @ 1..) = self.stream.write(&self.requests[self.sent..]) {
            self.sent += n;
        }
    }
}
