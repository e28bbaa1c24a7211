//! Two sides that take turns: one in place of the server, whose CPU time is measured, and one in
//! place of the generator.

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

/// Longer than any step takes unless the machine is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes one side wait until the other has reached a step. It waits awake: a wait in the kernel
/// would be another operation.
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
            // Checked first: a side that ends regularly has reached its last step before.
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
                        "the other side of a measurement makes no progress",
                    ));
                }
                // Only if necessary: another program would leave the caches cold.
                if self.shared {
                    thread::yield_now();
                }
            }
            std::hint::spin_loop();
        }
    }
}

/// Ends the wait of the other side when this one ends, in any way.
struct Over<'a>(&'a [&'a Turn]);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        for turn in self.0 {
            turn.over.store(true, SeqCst);
        }
    }
}

/// Runs two sides, each on its CPUs: `server` gets the turn that `client` advances, and vice versa.
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
        // The side that fails first makes the other fail, and knows the reason.
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

/// A listener with the options of the catalogue's servers, which its connections inherit.
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

/// Connections to a listener, on the generator's side.
pub(super) fn connect(to: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let connect = |_| {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    (0..count).map(connect).collect()
}

/// Connections between the server's ends, which block, and the generator's.
pub(super) fn connected(count: usize) -> io::Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let listener = listener()?;
    let theirs = connect(listener.local_addr()?, count)?;
    let ours = (0..count).map(|_| Ok(listener.accept()?.0));
    Ok((ours.collect::<io::Result<_>>()?, theirs))
}

/// The generator's end: like the generator, it learns of answers from one poll for all connections.
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

    /// Sends this many requests at once on each of these connections.
    pub(super) fn ask(&mut self, slots: Range<usize>, requests: usize) -> io::Result<()> {
        for stream in &mut self.streams[slots] {
            stream.write_all(&self.requests[..requests * REQUEST_BYTES])?;
        }
        Ok(())
    }

    /// Receives this many answers, without ever sleeping.
    pub(super) fn collect(&mut self, answers: usize) -> io::Result<()> {
        self.take(answers, Some(Duration::ZERO))
    }

    /// Sleeps until there are answers, and receives this many.
    pub(super) fn sleep_for(&mut self, answers: usize) -> io::Result<()> {
        self.take(answers, Some(PATIENCE))
    }

    /// Keeps one request in flight on each connection until this many are answered: each answer
    /// triggers the next request at once, and without answers this side sleeps, like the generator.
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
                    // An answer is too short to arrive in parts.
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

    /// A side that waits for the other does not wait on if that fails, and the reason is reported.
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

    /// The last step counts too, although the side that reached it has ended.
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
