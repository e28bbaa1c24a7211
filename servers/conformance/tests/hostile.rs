//! Hostile peers: the server drops each in time, each costs little memory, and no other client notices.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use socket2::{Domain, Socket, Type};

use crate::client::GET;
use crate::each;
use crate::subject::{Running, SOON, Stalled, Subject, Timeouts, in_time, unless_stalled};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    each(subject, &[("hostile peers are dropped", dropped)])
}

/// What a hostile peer does until the server closes the connection.
struct Hostile {
    name: &'static str,
    begins: &'static [u8],
    /// Sent again and again.
    goes_on: &'static [u8],
    pace: Pace,
    /// What the server counts for this peer.
    misses: fn(&mut Timeouts),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Sends a little at a time.
    Trickles,
    /// Sends as much as the server takes.
    Floods,
    /// Sends as much as the server takes, and reads the answers a byte at a time.
    FloodsAndReads,
}
use Pace::{Floods, FloodsAndReads, Trickles};

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

const READS_NOTHING: Hostile = Hostile {
    name: "reads nothing",
    begins: b"",
    goes_on: GET,
    pace: Floods,
    misses: |missed| missed.write += 1,
};

const HOSTILE: &[Hostile] = &[
    READS_NOTHING,
    Hostile {
        name: "reads a byte at a time",
        begins: b"",
        goes_on: GET,
        pace: FloodsAndReads,
        misses: |missed| missed.write += 1,
    },
    Hostile {
        name: "trickles empty lines",
        begins: b"",
        goes_on: b"\r\n",
        pace: Trickles,
        misses: |missed| missed.idle += 1,
    },
    Hostile {
        name: "trickles halves of empty lines",
        begins: b"\r",
        goes_on: b"\n\r",
        pace: Trickles,
        misses: |missed| missed.idle += 1,
    },
    Hostile {
        name: "floods with empty lines",
        begins: b"",
        goes_on: b"\r\n",
        pace: Floods,
        misses: |missed| missed.idle += 1,
    },
    Hostile {
        name: "trickles a request line",
        begins: b"GET /",
        goes_on: b"a",
        pace: Trickles,
        misses: refused_for_head,
    },
    Hostile {
        name: "trickles header lines",
        begins: b"GET / HTTP/1.1\r\nHost: a\r\n",
        goes_on: b"A: b\r\n",
        pace: Trickles,
        misses: refused_for_head,
    },
    Hostile {
        name: "trickles a body",
        begins: b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
        goes_on: b"a",
        pace: Trickles,
        misses: refused_for_body,
    },
    Hostile {
        name: "trickles a chunk's size",
        begins: CHUNKED,
        goes_on: b"0",
        pace: Trickles,
        misses: refused_for_body,
    },
    Hostile {
        name: "trickles a chunk's extensions",
        begins: b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1",
        goes_on: b";a=b",
        pace: Trickles,
        misses: refused_for_body,
    },
    Hostile {
        name: "trickles chunks",
        begins: CHUNKED,
        goes_on: b"1\r\na\r\n",
        pace: Trickles,
        misses: refused_for_body,
    },
    Hostile {
        name: "trickles trailers",
        begins: b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        goes_on: b"A: b\r\n",
        pace: Trickles,
        misses: refused_for_body,
    },
    Hostile {
        name: "floods with header lines",
        begins: b"GET / HTTP/1.1\r\nHost: a\r\n",
        goes_on: b"A: b\r\n",
        pace: Floods,
        misses: |missed| missed.linger += 1,
    },
    Hostile {
        name: "floods with chunks",
        begins: CHUNKED,
        goes_on: b"1\r\na\r\n",
        pace: Floods,
        misses: |missed| missed.linger += 1,
    },
    Hostile {
        name: "floods after its last answer",
        begins: b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        goes_on: b"a",
        pace: Floods,
        misses: |missed| missed.linger += 1,
    },
];

/// The peer goes on sending after the 408, so the linger timeout passes too.
fn refused_for_head(missed: &mut Timeouts) {
    missed.header += 1;
    missed.linger += 1;
}

fn refused_for_body(missed: &mut Timeouts) {
    missed.body += 1;
    missed.linger += 1;
}

/// How long the server waits for the next request of a client, hostile or honest.
const IDLE: &str = "500ms";
const IDLE_TIME: Duration = Duration::from_millis(500);

/// Runs the peers all at once if the server serves all, together with honest ones; else one after another.
fn dropped(subject: &Subject) -> Result<()> {
    unless_stalled(|| {
        let server = subject.start(&[
            "--idle-timeout",
            IDLE,
            "--header-timeout",
            "300ms",
            "--linger-timeout",
            "200ms",
        ])?;
        let mut slowest = Duration::ZERO;
        let mut greet = || {
            let since = Instant::now();
            let outcome = server.greet();
            slowest = slowest.max(since.elapsed());
            in_time(since, IDLE_TIME * 9 / 10, outcome)
        };
        greet()?;
        let before = server.memory_kib()?;
        let at_once = match subject.serves_all_at_once() {
            true => HOSTILE.len(),
            false => 1,
        };
        let mut most = before;
        for some in HOSTILE.chunks(at_once) {
            thread::scope(|scope| -> Result<()> {
                let attacks: Vec<_> = some
                    .iter()
                    .map(|hostile| attack(scope, hostile, &server))
                    .collect();
                while !attacks.iter().all(ScopedJoinHandle::is_finished) {
                    if subject.serves_all_at_once() {
                        greet().context("while hostile peers are there")?;
                    }
                    most = most.max(server.memory_kib()?);
                    thread::sleep(Duration::from_millis(5));
                }
                for attack in attacks {
                    attack.join().expect("no peer panics")?;
                }
                Ok(())
            })?;
            greet().context("after hostile peers")?;
        }
        ensure!(
            most <= before + subject.peers_kib_max(at_once as u64),
            "{before} KiB before, up to {most} KiB while {at_once} hostile peers were there"
        );
        let counters = server.stop()?;
        let mut missed = Timeouts::default();
        for hostile in HOSTILE {
            (hostile.misses)(&mut missed);
        }
        match counters.timeouts == missed {
            true => Ok(()),
            // An honest client may have been idle for too long.
            false if slowest > IDLE_TIME * 9 / 10 => bail!(Stalled),
            false => bail!("{missed:?}, {counters:?}"),
        }
    })
}

/// Sends requests and reads no answer until the server has closed the connection.
pub(crate) fn reads_nothing(address: SocketAddr) -> Result<()> {
    READS_NOTHING.attack(address)
}

fn attack<'scope>(
    scope: &'scope Scope<'scope, '_>,
    hostile: &'static Hostile,
    server: &Running,
) -> ScopedJoinHandle<'scope, Result<()>> {
    let address = server.address();
    scope.spawn(move || {
        hostile
            .attack(address)
            .with_context(|| format!("a peer that {}", hostile.name))
    })
}

impl Hostile {
    /// Goes on until the server closes the connection, which must be soon.
    fn attack(&self, address: SocketAddr) -> Result<()> {
        let mut peer = connect(address)?;
        peer.write_all(self.begins)?;
        let flood = self.goes_on.repeat((64 << 10) / self.goes_on.len());
        let since = Instant::now();
        let mut at = 0;
        while since.elapsed() < 2 * SOON {
            let outcome = match self.pace {
                Trickles => {
                    thread::sleep(Duration::from_millis(10));
                    peer.write(self.goes_on)
                }
                Floods => peer.write(&flood[at..]),
                FloodsAndReads => {
                    ended(peer.read(&mut [0])).and_then(|()| peer.write(&flood[at..]))
                }
            };
            match outcome {
                Ok(n) => at = (at + n) % self.goes_on.len(),
                Err(error) if is_timeout(&error) => {}
                Err(_) => return Ok(()),
            }
        }
        bail!("is not dropped");
    }
}

/// Reads some bytes; the end of the stream is an error too.
fn ended(read: io::Result<usize>) -> io::Result<()> {
    match read {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if !is_timeout(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Connects with a receive buffer for only a few unread answers.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    (socket.connect_timeout(&address.into(), SOON)).context("connecting")?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_millis(10)))?;
    socket.set_write_timeout(Some(Duration::from_millis(10)))?;
    Ok(socket.into())
}

pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
