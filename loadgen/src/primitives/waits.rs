//! Waiting in `recv`, as blocking servers do: alone on the CPU, and with others that take it meanwhile.

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::clock::{spin, thread_cpu, us_each};
use super::pair::{Client, Turn, both, connected};
use super::{CONNECTIONS, Primitive, Samples};
use crate::machine::Pinning;

/// Until the server is asleep for sure.
const FALLS_ASLEEP: Duration = Duration::from_micros(50);

/// One thread waits for a request on one connection after the other; each comes when it sleeps.
pub(super) fn measure_idle(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    const ROUNDS: usize = 5;
    let (ours, theirs) = connected(CONNECTIONS)?;
    let mut client = Client::new(theirs)?;
    let taken = both(
        pinning,
        |_, servers| {
            let mut buffer = [0; 4096];
            let mut round = |number: usize| {
                let begin = thread_cpu()?;
                for (slot, mut stream) in ours.iter().enumerate() {
                    stream.read(&mut buffer)?;
                    servers.reach((number * CONNECTIONS + slot + 1) as u64);
                }
                Ok(us_each(thread_cpu()? - begin, CONNECTIONS))
            };
            (0..ROUNDS)
                .map(&mut round)
                .collect::<io::Result<Vec<f64>>>()
        },
        |servers, _| {
            for request in 0..ROUNDS * CONNECTIONS {
                servers.wait_for(request as u64)?;
                spin(FALLS_ASLEEP);
                let slot = request % CONNECTIONS;
                client.ask(slot..slot + 1, 1)?;
            }
            Ok(())
        },
    )?;
    let receive = samples.median(Primitive::Receive);
    for us in taken {
        samples.add(Primitive::SwitchIdle, us - receive);
    }
    Ok(())
}

/// A thread waits on each connection; requests come on all of them at once, so that the CPU goes from
/// one thread to the next.
pub(super) fn measure_busy(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    const ROUNDS: usize = 8;
    let (ours, theirs) = connected(CONNECTIONS)?;
    let mut client = Client::new(theirs)?;
    let taken = both(
        pinning,
        |_, servers| {
            let taken = Mutex::new(vec![Duration::ZERO; ROUNDS]);
            thread::scope(|scope| {
                let serve = |stream: TcpStream| {
                    let taken = &taken;
                    // Pinned as the thread that starts them.
                    scope.spawn(move || receive_all(&stream, servers, taken))
                };
                let threads: Vec<_> = ours.into_iter().map(serve).collect();
                let join = |thread: thread::ScopedJoinHandle<'_, io::Result<()>>| {
                    thread.join().expect("it does not panic")
                };
                threads.into_iter().try_for_each(join)
            })?;
            Ok(taken.into_inner().expect("nothing panics under this lock"))
        },
        |servers, _| {
            for burst in 0..ROUNDS * BURSTS {
                servers.wait_for((burst * CONNECTIONS) as u64)?;
                client.ask(0..CONNECTIONS, 1)?;
            }
            Ok(())
        },
    )?;
    let receive = samples.median(Primitive::Receive);
    // The first round has the start of the threads in it.
    for round in &taken[1..] {
        let us = us_each(*round, BURSTS * CONNECTIONS);
        samples.add(Primitive::Switch, us - receive);
    }
    Ok(())
}

/// Requests on each connection in a round.
const BURSTS: usize = 10;

fn receive_all(
    mut stream: &TcpStream,
    servers: &Turn,
    taken: &Mutex<Vec<Duration>>,
) -> io::Result<()> {
    let rounds = taken.lock().expect("nothing panics under this lock").len();
    let mut buffer = [0; 4096];
    let mut before = thread_cpu()?;
    for round in 0..rounds {
        for _ in 0..BURSTS {
            stream.read(&mut buffer)?;
            servers.advance();
        }
        let now = thread_cpu()?;
        taken.lock().expect("nothing panics under this lock")[round] += now - before;
        before = now;
    }
    Ok(())
}
