//! Waiting in `recv`, as blocking servers do: alone on the CPU, and with other threads that use it
//! meanwhile.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use super::clock::{Stopwatch, thread_cpu, us_each};
use super::pair::{Client, both, connected};
use super::{ANSWER_BYTES, CONNECTIONS, Primitive, Samples};
use subject::machine::Pinning;

/// One thread with one request in flight: while one side works the other sleeps, with its CPU idle,
/// and is woken by what it receives.
pub(super) fn measure_alone(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    const REQUESTS: usize = 4 * CONNECTIONS;
    let (ours, theirs) = connected(CONNECTIONS)?;
    let mut client = Client::new(theirs)?;
    let taken = both(
        pinning,
        |_, _| {
            let stopwatch = Stopwatch::new()?;
            let mut buffer = [0; 4096];
            let serve = |request: usize| {
                let mut stream = &ours[request % CONNECTIONS];
                let (_, receive) = stopwatch.time(|| stream.read(&mut buffer))?;
                let ((), send) = stopwatch.time(|| stream.write_all(&[b'a'; ANSWER_BYTES]))?;
                Ok((us_each(receive, 1), us_each(send, 1)))
            };
            (0..REQUESTS).map(serve).collect::<io::Result<Vec<_>>>()
        },
        |_, _| {
            for request in 0..REQUESTS {
                let slot = request % CONNECTIONS;
                client.ask(slot..slot + 1, 1)?;
                client.sleep_for(1)?;
            }
            Ok(())
        },
    )?;
    let [receive, send] = [Primitive::Receive, Primitive::Send].map(|it| samples.median(it));
    for (receiving, sending) in taken {
        samples.add(Primitive::SwitchIdle, receiving - receive);
        samples.add(Primitive::WakePeer, sending - send);
    }
    Ok(())
}

/// One thread per connection with a request in flight on each: others run while one waits.
pub(super) fn measure_among_others(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    const ROUNDS: usize = 6;
    const REQUESTS: usize = 20 * CONNECTIONS;
    let others = [Primitive::Receive, Primitive::Send].map(|it| samples.median(it));
    let wake = samples.median(Primitive::WakePeer);
    for _ in 0..ROUNDS {
        let (server, sleeps) = converse(pinning, REQUESTS)?;
        let waits = us_each(server.cpu, REQUESTS) - others[0] - others[1];
        let per_request = |count: u64| count as f64 / REQUESTS as f64;
        // Each sleep of the other side cost a wake-up.
        let waits = waits - per_request(sleeps) * wake;
        let switches = per_request(server.switches.max(1));
        samples.add(Primitive::Switch, waits / switches);
    }
    Ok(())
}

/// What the threads of a server have used.
#[derive(Default)]
struct Used {
    cpu: Duration,
    switches: u64,
}

/// Returns what the server used, and how often the client slept.
fn converse(pinning: &Pinning, requests: usize) -> io::Result<(Used, u64)> {
    let (ours, theirs) = connected(CONNECTIONS)?;
    let mut sleeps = 0;
    let used = both(
        pinning,
        |_, _| {
            thread::scope(|scope| {
                // Pinned like the thread that starts them.
                let serve = |stream: TcpStream| {
                    thread::Builder::new().spawn_scoped(scope, move || answer_all(&stream))
                };
                let threads: Vec<_> = ours.into_iter().map(serve).collect::<io::Result<_>>()?;
                let mut all = Used::default();
                for thread in threads {
                    let used = thread.join().expect("it does not panic")?;
                    all.cpu += used.cpu;
                    all.switches += used.switches;
                }
                Ok(all)
            })
        },
        |_, _| {
            let mut client = Client::new(theirs)?;
            let before = switches()?;
            client.converse(requests)?;
            sleeps = switches()? - before;
            Ok(())
        },
    )?;
    Ok((used, sleeps))
}

/// Serves one connection until its peer closes it.
fn answer_all(mut stream: &TcpStream) -> io::Result<Used> {
    let mut buffer = [0; 4096];
    let (cpu, before) = (thread_cpu()?, switches()?);
    while stream.read(&mut buffer)? > 0 {
        stream.write_all(&[b'a'; ANSWER_BYTES])?;
    }
    Ok(Used {
        cpu: thread_cpu()? - cpu,
        switches: switches()? - before,
    })
}

/// Context switches of the calling thread so far.
fn switches() -> io::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let all = usage.voluntary_context_switches() + usage.involuntary_context_switches();
    Ok(all.try_into().unwrap_or(0))
}
