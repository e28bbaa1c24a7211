//! Requests and answers on open connections, with a peer that is awake.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::clock::{Stopwatch, us_each};
use super::pair::{Client, both, connected};
use super::{ANSWER_BYTES, CONNECTIONS, PIPELINE, Primitive, REQUEST_BYTES, Samples};
use subject::machine::Pinning;

/// Rounds of each kind.
const ROUNDS: usize = 40;

/// What the client sends in a round.
#[derive(Clone, Copy)]
struct Round {
    first: usize,
    connections: usize,
    requests: usize,
}

fn rounds() -> impl Iterator<Item = Round> {
    let kinds = |n: usize| {
        [
            (0, CONNECTIONS, 1),
            (0, CONNECTIONS, PIPELINE),
            (n % CONNECTIONS, 1, 1),
        ]
    };
    (0..ROUNDS)
        .flat_map(kinds)
        .map(|(first, connections, requests)| Round {
            first,
            connections,
            requests,
        })
}

/// One side sends requests on all connections; the other learns of them from one poll, and reads
/// and answers one after the other, while the first side receives the answers, awake.
pub(super) fn measure(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    let (ours, theirs) = connected(CONNECTIONS)?;
    let mut client = Client::new(theirs)?;
    let taken = both(
        pinning,
        |clients, _| {
            let mut server = Server::new(ours)?;
            let mut taken = Vec::new();
            for (step, round) in (1..).zip(rounds()) {
                clients.wait_for(step)?;
                taken.push((round, server.serve(round)?));
            }
            let wakes = server.wakes()?;
            Ok((taken, wakes))
        },
        |_, clients| {
            for (step, round) in (1..).zip(rounds()) {
                client.ask(round.first..round.first + round.connections, round.requests)?;
                clients.reach(step);
                client.collect(round.connections * round.requests)?;
            }
            Ok(())
        },
    )?;
    let (taken, wakes) = taken;
    let of = |connections: usize, requests: usize| {
        taken.iter().filter_map(move |(round, took)| {
            let is_it = round.connections == connections && round.requests == requests;
            is_it.then_some(took)
        })
    };
    for took in of(CONNECTIONS, 1) {
        samples.add(Primitive::Receive, took.receive);
        samples.add(Primitive::Send, took.send);
    }
    let (receive, send) = (
        samples.median(Primitive::Receive),
        samples.median(Primitive::Send),
    );
    let further_kib = |each: usize| ((PIPELINE - 1) * each) as f64 / 1024.0;
    for took in of(CONNECTIONS, PIPELINE) {
        let more = took.receive - receive;
        samples.add(Primitive::ReceiveKib, more / further_kib(REQUEST_BYTES));
        let more = took.send - send;
        samples.add(Primitive::SendKib, more / further_kib(ANSWER_BYTES));
    }
    // A line through two points: one event, and as many as there are connections.
    for (one, all) in of(1, 1).zip(of(CONNECTIONS, 1)) {
        let event = (all.wait - one.wait) / (CONNECTIONS - 1) as f64;
        samples.add(Primitive::EpollEvent, event);
        samples.add(Primitive::EpollWait, one.wait - event);
    }
    for us in wakes {
        samples.add(Primitive::WakerWrite, us);
    }
    Ok(())
}

/// The server's side: mio, as in the event loop.
struct Server {
    poll: Poll,
    events: Events,
    streams: Vec<mio::net::TcpStream>,
    stopwatch: Stopwatch,
    buffer: Vec<u8>,
    answers: Vec<u8>,
}

/// Microseconds for the wait as a whole, and for each receive and send.
struct Took {
    wait: f64,
    receive: f64,
    send: f64,
}

impl Server {
    fn new(streams: Vec<TcpStream>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let register = |(slot, stream): (usize, TcpStream)| {
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            (poll.registry()).register(&mut stream, Token(slot), Interest::READABLE)?;
            io::Result::Ok(stream)
        };
        let streams = streams.into_iter().enumerate().map(register);
        Ok(Server {
            streams: streams.collect::<io::Result<_>>()?,
            poll,
            events: Events::with_capacity(1024),
            stopwatch: Stopwatch::new()?,
            buffer: vec![0; 64 * 1024],
            answers: vec![b'a'; ANSWER_BYTES * PIPELINE],
        })
    }

    fn serve(&mut self, round: Round) -> io::Result<Took> {
        let (poll, events) = (&mut self.poll, &mut self.events);
        let ((), wait) = (self.stopwatch).time(|| poll.poll(events, Some(Duration::ZERO)))?;
        let streams = &mut self.streams[round.first..round.first + round.connections];
        let answers = &self.answers[..round.requests * ANSWER_BYTES];
        let (mut receive, mut send) = (Duration::ZERO, Duration::ZERO);
        // Alternately, as in servers: each evicts the other's code from the caches.
        for stream in streams {
            let (_, took) = self.stopwatch.time(|| stream.read(&mut self.buffer))?;
            receive += took;
            let ((), took) = self.stopwatch.time(|| stream.write_all(answers))?;
            send += took;
        }
        Ok(Took {
            wait: us_each(wait, 1),
            receive: us_each(receive, round.connections),
            send: us_each(send, round.connections),
        })
    }

    /// Writes to the eventfd with which other threads interrupt a poll.
    fn wakes(&self) -> io::Result<Vec<f64>> {
        const WRITES: usize = 50;
        let waker = Waker::new(self.poll.registry(), Token(CONNECTIONS))?;
        let write = |_| {
            let write_all = || (0..WRITES).try_for_each(|_| waker.wake());
            let ((), took) = self.stopwatch.time(write_all)?;
            Ok(us_each(took, WRITES))
        };
        (0..ROUNDS).map(write).collect()
    }
}
