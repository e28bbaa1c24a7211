//! The cost of a connection on the accepting side, from the accept queue to the close.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Poll, Token};
use socket2::SockRef;

use super::clock::{Stopwatch, us_each};
use super::pair::{Client, both, connect, listener};
use super::{ANSWER_BYTES, CONNECTIONS, Primitive, REQUEST_BYTES, Samples};
use subject::machine::Pinning;

const ROUNDS: u64 = 20;

/// In one of this many rounds the server first shuts down its sending side.
const SHUTDOWN_EVERY: u64 = 4;

/// The client connects and sends a request on all connections at once, and closes them when they
/// are answered. So a request has arrived when its connection is accepted, as with the generator.
pub(super) fn measure(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    let listener = listener()?;
    let address: SocketAddr = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener);
    let taken = both(
        pinning,
        |clients, servers| {
            let stopwatch = Stopwatch::new()?;
            let mut taken = Vec::new();
            for round in 0..ROUNDS {
                clients.wait_for(2 * round + 1)?;
                let mut served = Served::accept(&stopwatch, &listener)?;
                served.exchange()?;
                let shuts = round % SHUTDOWN_EVERY == 0;
                if shuts {
                    served.shut()?;
                }
                clients.wait_for(2 * round + 2)?;
                // Closing a connection that this side has shut down costs something else.
                let counts = |it: &(Primitive, f64)| {
                    let at_end = [
                        Primitive::ReceiveEnd,
                        Primitive::EpollRemove,
                        Primitive::Close,
                    ];
                    !shuts || !at_end.contains(&it.0)
                };
                taken.extend(served.close()?.into_iter().filter(counts));
                servers.reach(round + 1);
            }
            Ok(taken)
        },
        |servers, clients| {
            for round in 0..ROUNDS {
                servers.wait_for(round)?;
                let mut client = Client::new(connect(address, CONNECTIONS)?)?;
                client.ask(0..CONNECTIONS, 1)?;
                clients.reach(2 * round + 1);
                client.collect(CONNECTIONS)?;
                drop(client);
                clients.reach(2 * round + 2);
            }
            Ok(())
        },
    )?;
    let later = samples.median(Primitive::Receive) + samples.median(Primitive::Send);
    for (primitive, us) in taken {
        let elsewhere = match primitive {
            Primitive::FirstExchange => later,
            _ => 0.0,
        };
        samples.add(primitive, us - elsewhere);
    }
    Ok(())
}

/// The connections of a round.
struct Served<'a> {
    laps: Laps<'a>,
    poll: Poll,
    streams: Vec<TcpStream>,
}

impl<'a> Served<'a> {
    fn accept(stopwatch: &'a Stopwatch, listener: &TcpListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut laps = Laps::new(stopwatch);
        let mut streams = Vec::new();
        for slot in 0..CONNECTIONS {
            let (mut stream, _) = laps.time(Primitive::Accept, || listener.accept())?;
            laps.time(Primitive::EpollAdd, || {
                (poll.registry()).register(&mut stream, Token(slot), Interest::READABLE)
            })?;
            laps.time(Primitive::SetOption, || {
                SockRef::from(&stream).set_read_timeout(Some(Duration::from_secs(10)))
            })?;
            streams.push(stream);
        }
        let in_vain = || match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("another program connects to this one")),
        };
        for _ in 0..CONNECTIONS {
            laps.time(Primitive::AcceptNothing, in_vain)?;
        }
        Ok(Served {
            laps,
            poll,
            streams,
        })
    }

    fn exchange(&mut self) -> io::Result<()> {
        let mut request = [0; REQUEST_BYTES];
        for stream in &mut self.streams {
            self.laps.time(Primitive::FirstExchange, || {
                stream.read_exact(&mut request)?;
                stream.write_all(&[b'a'; ANSWER_BYTES])
            })?;
        }
        Ok(())
    }

    fn shut(&mut self) -> io::Result<()> {
        for stream in &self.streams {
            self.laps
                .time(Primitive::Shutdown, || stream.shutdown(Shutdown::Write))?;
        }
        Ok(())
    }

    /// Receives the end of each connection, and closes it. Returns the costs.
    fn close(self) -> io::Result<Vec<(Primitive, f64)>> {
        let Served {
            mut laps,
            poll,
            streams,
        } = self;
        let mut buffer = [0; 4096];
        for mut stream in streams {
            laps.time(Primitive::ReceiveEnd, || stream.read(&mut buffer))?;
            laps.time(Primitive::EpollRemove, || {
                poll.registry().deregister(&mut stream)
            })?;
            laps.time(Primitive::Close, || {
                drop(stream);
                Ok(())
            })?;
        }
        Ok(laps.us_each())
    }
}

/// Operations done several times, the kinds alternating as in a server.
struct Laps<'a> {
    stopwatch: &'a Stopwatch,
    taken: BTreeMap<Primitive, (Duration, usize)>,
}

impl<'a> Laps<'a> {
    fn new(stopwatch: &'a Stopwatch) -> Self {
        Laps {
            stopwatch,
            taken: BTreeMap::new(),
        }
    }

    fn time<T>(
        &mut self,
        primitive: Primitive,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let (made, took) = self.stopwatch.time(work)?;
        let (sum, count) = self.taken.entry(primitive).or_default();
        *sum += took;
        *count += 1;
        Ok(made)
    }

    fn us_each(self) -> Vec<(Primitive, f64)> {
        let each = |(primitive, (sum, count))| (primitive, us_each(sum, count));
        self.taken.into_iter().map(each).collect()
    }
}
