//! Two sides that take turns: one in place of the server, whose CPU time is measured, and one in place of the
//! generator.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::{ANSWER_BYTES, PIPELINE, REQUEST_BYTES};
use engine::affinity::pin_thread;
use subject::machine::Pinning;

/// Longer than any step takes on a machine that is not stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one side waits for until the other has come so far. It waits awake: a wait in the kernel would be
/// something else to measure.
#[derive(Debug)]
pub(super) struct Turn {
    reached: AtomicU64,
    over: AtomicBool,
    /// Both sides may have to share a CPU.
    shared: bool,
}

impl Turn {
    fn new(shared: bool) -> Self {
        Turn {
            reached: AtomicU64::new(0),
            over: AtomicBool::new(false),
            shared,
        }
    }

    pub(super) fn reach(&self, step: u64) {
        self.reached.store(step, SeqCst);
    }

    pub(super) fn wait_for(&self, step: u64) -> io::Result<()> {
        let begin = Instant::now();
        let mut looked = 0_u32;
        loop {
            // Looked at first: who ends well has come to its last step before.
            let over = self.over.load(SeqCst);
            if self.reached.load(SeqCst) >= step {
                return Ok(());
            }
            if over {
                return Err(io::Error::other(
                    "the other side of a measurement has failed",
                ));
            }
            looked += 1;
            if looked.is_multiple_of(1024) {
                if begin.elapsed() > PATIENCE {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        "the other side of a measurement does not get on",
                    ));
                }
                // Not where it need not be: another program would leave the caches cold.
                if self.shared {
                    thread::yield_now();
                }
            }
            std::hint::spin_loop();
        }
    }
}

/// Ends the waiting of the other side when this one ends, however it does.
struct Over<'a>(&'a [&'a Turn]);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        for turn in self.0 {
            turn.over.store(true, SeqCst);
        }
    }
}

/// Runs two sides, each on its CPUs: `server` gets the turn that `client` has come to, and the other way round.
pub(super) fn both<T: Send>(
    pinning: &Pinning,
    server: impl FnOnce(&Turn, &Turn) -> io::Result<T> + Send,
    client: impl FnOnce(&Turn, &Turn) -> io::Result<()> + Send,
) -> io::Result<T> {
    let is_apart = |cpu: &usize| !pinning.client.contains(cpu);
    let shared = pinning.server.is_empty() || !pinning.server.iter().all(is_apart);
    let (servers, clients) = (Turn::new(shared), Turn::new(shared));
    thread::scope(|scope| {
        let client = thread::Builder::new().spawn_scoped(scope, || {
            let _over = Over(&[&clients]);
            pin(&pinning.client)?;
            client(&servers, &clients)
        })?;
        let server = thread::Builder::new().spawn_scoped(scope, || {
            let _over = Over(&[&servers]);
            pin(&pinning.server)?;
            server(&clients, &servers)
        });
        let server = server.inspect_err(|_| {
            // The client must not wait for it.
            drop(Over(&[&servers]));
        })?;
        let served = server.join().expect("neither side panics");
        let asked = client.join().expect("neither side panics");
        // Who fails first makes the other fail, and knows the reason.
        match (served, asked) {
            (Ok(made), Ok(())) => Ok(made),
            (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
            (Err(one), Err(other)) => Err(match one.kind() {
                ErrorKind::Other => other,
                _ => one,
            }),
        }
    })
}

/// Runs `server` alone, on the server's CPUs.
pub(super) fn alone<T: Send>(
    pinning: &Pinning,
    server: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let server = thread::Builder::new().spawn_scoped(scope, || {
            pin(&pinning.server)?;
            server()
        })?;
        server.join().expect("it does not panic")
    })
}

pub(super) fn pin(cpus: &[usize]) -> io::Result<()> {
    if !cpus.is_empty() {
        pin_thread(cpus)?;
    }
    Ok(())
}

/// A listener with what the servers of the catalogue set, which its connections inherit.
pub(super) fn listener() -> io::Result<TcpListener> {
    const BUFFER_BYTES: usize = 64 * 1024;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(BUFFER_BYTES)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Connections to a listener, in the generator's place.
pub(super) fn connect(to: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let connect = |_| {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    (0..count).map(connect).collect()
}

/// Connections between two ends: the server's, which block, and the generator's.
pub(super) fn connected(count: usize) -> io::Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let listener = listener()?;
    let theirs = connect(listener.local_addr()?, count)?;
    let ours = (0..count).map(|_| Ok(listener.accept()?.0));
    Ok((ours.collect::<io::Result<_>>()?, theirs))
}

/// The end of the generator: it hears of answers as the generator does, from one poll for all connections.
pub(super) struct Client {
    poll: Poll,
    events: Events,
    streams: Vec<mio::net::TcpStream>,
    requests: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn new(streams: Vec<TcpStream>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let register = |(slot, stream): (usize, TcpStream)| {
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            (poll.registry()).register(&mut stream, Token(slot), Interest::READABLE)?;
            io::Result::Ok(stream)
        };
        let streams = streams.into_iter().enumerate().map(register);
        Ok(Client {
            streams: streams.collect::<io::Result<_>>()?,
            poll,
            events: Events::with_capacity(1024),
            requests: vec![b'r'; REQUEST_BYTES * PIPELINE],
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Sends so many requests on each of these connections, in one go.
    pub(super) fn ask(&mut self, slots: Range<usize>, requests: usize) -> io::Result<()> {
        for stream in &mut self.streams[slots] {
            stream.write_all(&self.requests[..requests * REQUEST_BYTES])?;
        }
        Ok(())
    }

    /// Takes so many answers, without ever waiting for them.
    pub(super) fn collect(&mut self, answers: usize) -> io::Result<()> {
        self.take(answers, Some(Duration::ZERO))
    }

    /// Sleeps until there are answers, and takes so many.
    pub(super) fn sleep_for(&mut self, answers: usize) -> io::Result<()> {
        self.take(answers, Some(PATIENCE))
    }

    /// Has one request in flight on each connection until so many are answered: whoever gets an answer asks
    /// again at once, and when there is none this side sleeps, as the generator does.
    pub(super) fn converse(&mut self, answers: usize) -> io::Result<()> {
        self.ask(0..self.streams.len(), 1)?;
        let (mut asked, mut missing) = (self.streams.len(), answers);
        while missing > 0 {
            self.poll.poll(&mut self.events, Some(PATIENCE))?;
            if self.events.is_empty() {
                return Err(no_answers());
            }
            for event in &self.events {
                let stream = &mut self.streams[event.token().0];
                match stream.read(&mut self.buffer) {
                    // An answer is too short to come in parts.
                    Ok(_) => missing -= 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error),
                }
                if asked < answers {
                    asked += 1;
                    stream.write_all(&self.requests[..REQUEST_BYTES])?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, answers: usize, wait: Option<Duration>) -> io::Result<()> {
        let begin = Instant::now();
        let mut missing = answers * ANSWER_BYTES;
        while missing > 0 {
            self.poll.poll(&mut self.events, wait)?;
            for event in &self.events {
                match self.streams[event.token().0].read(&mut self.buffer) {
                    Ok(n) => missing = missing.saturating_sub(n),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            if self.events.is_empty() && begin.elapsed() > PATIENCE {
                return Err(no_answers());
            }
        }
        Ok(())
    }
}

fn no_answers() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "answers on loopback do not arrive")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever waits for the other side is not left waiting when that fails, and the reason is told.
    #[test]
    fn a_side_that_fails_ends_the_other() {
        let broken = || io::Error::new(ErrorKind::ConnectionReset, "broken");
        let nowhere = Pinning::default();
        let server = both::<()>(
            &nowhere,
            |_, _| Err(broken()),
            |servers, _| servers.wait_for(1),
        );
        let client = both(
            &nowhere,
            |clients, _| clients.wait_for(1),
            |_, _| Err(broken()),
        );
        for outcome in [server, client] {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }

    /// The last step is one too, though nobody is there any more who has come to it.
    #[test]
    fn a_side_that_ends_has_come_to_its_last_step() {
        for _ in 0..200 {
            let outcome = both(
                &Pinning::default(),
                |clients, _| clients.wait_for(1),
                |_, clients| {
                    clients.reach(1);
                    Ok(())
                },
            );
            outcome.unwrap();
        }
    }

    #[test]
    fn sides_take_turns() {
        let sum = both(
            &Pinning::default(),
            |clients, servers| {
                let mut sum = 0;
                for step in 1..=100 {
                    clients.wait_for(step)?;
                    sum += step;
                    servers.reach(step);
                }
                Ok(sum)
            },
            |servers, clients| {
                for step in 1..=100 {
                    clients.reach(step);
                    servers.wait_for(step)?;
                }
                Ok(())
            },
        );
        assert_eq!(sum.unwrap(), 5050);
    }
}
