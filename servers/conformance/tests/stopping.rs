//! How servers stop: without clients, with clients, and under load.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use engine::plan::{ConnectionLife, Limit, Pace, Plan, Rate};
use engine::record::{Kind, Phase, Record};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::client::Expected::{Hello, Refusal};
use crate::client::{GET, LAST_GET};
use crate::subject::{Counters, Running, SOON, Subject, in_time, unless_stalled};
use crate::{each, trial};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    let mut trials = each(
        subject,
        &[
            ("SIGTERM with nobody there", alone),
            ("SIGINT is SIGTERM", by_interrupt),
            ("SIGTERM closes idle connections", while_idle),
            ("SIGTERM lets a request be completed", within_a_request),
            (
                "SIGTERM does not wait long for the rest of a request",
                within_a_request_for_ever,
            ),
            (
                "SIGTERM answers what waits in the accept queue",
                with_a_queue,
            ),
            ("SIGTERM refuses others", refuses_others),
            (
                "SIGTERM ends within --grace whatever a client does",
                within_grace,
            ),
            ("a second SIGTERM ends at once", twice),
        ],
    );
    let keep_alive = Plan {
        connections: 64,
        ..load()
    };
    let ten_requests = Plan {
        connections: 32,
        life: ConnectionLife::Requests(10),
        ..load()
    };
    let new_connections = Plan {
        connections: 16,
        life: ConnectionLife::Requests(1),
        ..load()
    };
    let server_closes = Plan {
        requests: vec![LAST_GET.to_vec()],
        server_closes: true,
        ..new_connections.clone()
    };
    let pipelined = Plan {
        connections: 16,
        pipeline: 16,
        ..load()
    };
    let open_loop = Plan {
        connections: 16,
        pace: Pace::Poisson(Rate::per_second(3000.0).expect("is a rate")),
        // Requests that are due after the server has ended are never sent, so a long wait would be useless.
        drain: Duration::from_millis(300),
        ..load()
    };
    let under_load = [
        ("keep-alive", keep_alive),
        ("ten requests a connection", ten_requests),
        ("new connections", new_connections),
        ("new connections that the server closes", server_closes),
        ("pipelined", pipelined),
        ("open loop", open_loop),
    ];
    trials.extend(under_load.into_iter().map(|(what, plan)| {
        let subject = subject.clone();
        let name = format!("{}::SIGTERM under load, {what}", subject.name());
        trial(name, move || under_load_at_any_time(&subject, &plan))
    }));
    trials
}

fn alone(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let address = server.address();
    ensure!(address.port() != 0, "the ready line names {address}");
    server.greet()?;
    let counters = server.stop()?;
    ensure!(
        (counters.accepted, counters.closed, counters.requests) == (1, 1, 1),
        "{counters:?}"
    );
    ensure!(
        TcpStream::connect(address).is_err(),
        "somebody still listens"
    );
    Ok(())
}

fn by_interrupt(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    server.signal(Signal::SIGINT)?;
    server.wait(SOON)?;
    server.stop()?;
    Ok(())
}

fn while_idle(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut client = server.connect()?;
    client.send(GET)?;
    client.expect(Hello, None)?;
    let counters = server.stop()?;
    client.expect_end()?;
    ensure!(counters.requests == 1, "{counters:?}");
    Ok(())
}

/// How long a stopping server waits for a request, or for the rest of one.
const DRAIN_TIME: Duration = Duration::from_secs(1);

fn within_a_request(subject: &Subject) -> Result<()> {
    unless_stalled(|| {
        let server = subject.start(&[])?;
        let mut client = server.connect()?;
        client.send(&GET[..10])?;
        let since = Instant::now();
        server.begin_to_stop()?;
        client.send(&GET[10..])?;
        in_time(since, DRAIN_TIME / 2, client.expect(Hello, Some("close")))?;
        client.expect_end()?;
        drop(client);
        server.wait(SOON)?;
        let counters = server.stop()?;
        ensure!(counters.requests == 1, "{counters:?}");
        Ok(())
    })
}

fn within_a_request_for_ever(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut client = server.connect()?;
    client.send(&GET[..10])?;
    server.counters_become(|counters| counters.open == 1)?;
    server.signal(Signal::SIGTERM)?;
    client.expect(Refusal(408), Some("close"))?;
    client.expect_end()?;
    drop(client);
    server.wait(SOON)?;
    server.stop()?;
    Ok(())
}

/// One connection is open, which is the limit, and others wait with their requests sent.
fn with_a_queue(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--max-connections", "1"])?;
    let first = server.connect()?;
    server.counters_become(|counters| counters.open == 1)?;
    let mut waiting = [server.connect()?, server.connect()?];
    for client in &mut waiting {
        client.send(GET)?;
    }
    server.begin_to_stop()?;
    drop(first);
    for mut client in waiting {
        client
            .expect(Hello, Some("close"))
            .context("a client in the accept queue")?;
        client.expect_end()?;
    }
    server.wait(SOON)?;
    let counters = server.stop()?;
    ensure!(counters.requests == 2, "{counters:?}");
    Ok(())
}

/// New clients are refused while the server still waits for an old one.
fn refuses_others(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--grace", "1m", "--linger-timeout", "50s"])?;
    // This client was refused and does not close, so the server lingers.
    let mut client = server.connect()?;
    client.send(b"\n\n \n")?;
    client.expect(Refusal(400), Some("close"))?;
    server.signal(Signal::SIGTERM)?;
    is_refused(server.address())?;
    ensure!(!server.has_ended(), "the server has not waited");
    drop(client);
    server.wait(SOON)?;
    server.stop()?;
    Ok(())
}

/// Waits until connections are refused, which must be soon.
fn is_refused(address: SocketAddr) -> Result<()> {
    let since = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, SOON) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(()),
            _ if since.elapsed() < SOON => {}
            outcome => bail!("{outcome:?} instead of a refusal"),
        }
    }
}

fn within_grace(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--grace", "300ms"])?;
    let _client = server.stall()?;
    let since = Instant::now();
    let (status, stderr) = server.terminate()?;
    let time = since.elapsed();
    ensure!(time < SOON, "after {time:?}");
    ensure!(status == 0, "exit status {status}: {stderr}");
    let counters = Counters::parse(stderr.trim_end())?;
    ensure!(counters.open == 1, "not cut off: {counters:?}");
    Ok(())
}

fn twice(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--grace", "1m"])?;
    let _client = server.stall()?;
    server.begin_to_stop()?;
    let (status, stderr) = server.terminate()?;
    ensure!(
        status == 128 + Signal::SIGTERM as i32,
        "exit status {status}: {stderr}"
    );
    Ok(())
}

/// A closed loop without end.
fn load() -> Plan {
    Plan {
        limit: Limit::For(10 * SOON),
        warmup: Duration::ZERO,
        timeout: 2 * SOON,
        ..Plan::new(([127, 0, 0, 1], 0).into(), GET.to_vec())
    }
}

/// Clients notice the stop only by the `Connection: close` of an answer, whether it comes early or late in the
/// load.
fn under_load_at_any_time(subject: &Subject, plan: &Plan) -> Result<()> {
    for requests in [1, 400, 2000] {
        let server = subject.start(&[])?;
        let (seen, counters) = stopped_under_load(server, plan, requests)
            .with_context(|| format!("stopped after {requests} requests"))?;
        let mut errors = seen.errors.clone();
        errors.remove(&(Phase::Connect, Kind::Refused));
        // Requests that were sent before the last answer was read get no answer (9112 §9.3.2).
        let lost = match plan.pipeline {
            1 => 0,
            _ => errors
                .remove(&(Phase::FirstByte, Kind::ClosedEarly))
                .unwrap_or(0),
        };
        let ok = errors.is_empty()
            && seen.counts.responses >= requests
            && seen.counts.good == seen.counts.responses
            && seen.counts.requests == seen.counts.responses + lost
            && seen.counts.responses == counters.requests;
        ensure!(
            ok,
            "stopped after {requests} requests, {} sent, {} answered, errors {:?}; {counters:?}",
            seen.counts.requests,
            seen.counts.responses,
            seen.errors
        );
    }
    Ok(())
}

/// Sends SIGTERM after this many requests. Returns what the generator saw and what the server counted.
fn stopped_under_load(server: Running, plan: &Plan, requests: u64) -> Result<(Record, Counters)> {
    let plan = Plan {
        target: server.address(),
        ..plan.clone()
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| engine::drive::run(&plan, &over));
        let stopped = server
            .counters_become(|counters| counters.requests >= requests)
            .and_then(|_| server.stop());
        over.store(true, SeqCst);
        let seen = load.join().expect("the generator does not panic")?;
        Ok((seen.record, stopped?))
    })
}
