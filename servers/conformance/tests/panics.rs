//! A panic while a connection is served ends that connection, and nothing else.

use std::iter;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::client::Expected::Hello;
use crate::client::{Client, GET, Reply};
use crate::each;
use crate::subject::{Counters, Running, SOON, Subject};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    each(
        subject,
        &[
            ("a panic ends its own connection alone", alone),
            ("fifty panics", many),
            ("panics behind good requests", pipelined),
            ("no panic unless it is asked for", not_asked_for),
        ],
    )
}

/// A request that makes a server started with `--panics` panic.
const PANIC: &[u8] = b"GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Other clients are connected before, during and after the panic; some in the middle of a request.
fn alone(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--panics"])?;
    let mut others = Vec::new();
    if subject.serves_all_at_once() {
        for sent in 0..GET.len() {
            let mut client = server.connect()?;
            client.send(&GET[..sent])?;
            others.push((client, sent));
        }
    }
    panics(&server, PANIC)?;
    for (client, sent) in &mut others {
        client.send(&GET[*sent..])?;
        client
            .expect(Hello, None)
            .context("open before the panic")?;
    }
    server.greet().context("after the panic")?;
    for (client, _) in &mut others {
        client.send(GET)?;
        client
            .expect(Hello, None)
            .context("open before the panic")?;
    }
    let requests = 2 * others.len() as u64 + 1;
    let accepted = others.len() as u64 + 2;
    drop(others);
    let counters = has_panicked(server, 1)?;
    ensure!(counters.requests == requests, "{counters:?}");
    ensure!(counters.accepted == accepted, "{counters:?}");
    Ok(())
}

/// Panics cost neither threads nor places of `--max-connections`.
fn many(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--panics", "--max-connections", "4"])?;
    for _ in 0..50 {
        panics(&server, PANIC)?;
    }
    server.greet()?;
    let counters = has_panicked(server, 50)?;
    ensure!(counters.requests == 1, "{counters:?}");
    Ok(())
}

fn pipelined(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--panics"])?;
    // The first request is answered before the panic.
    let mut client = server.connect()?;
    client.send(GET)?;
    client.expect(Hello, None)?;
    client.send(PANIC)?;
    ends_without_an_answer(&mut client)?;
    // Requests that arrive together may share a write, which the panic prevents.
    let mut client = server.connect()?;
    client.send(&[GET, GET, PANIC, GET].concat())?;
    let answers = iter::from_fn(|| Some(client.reply(false, SOON)))
        .map_while(Result::ok)
        .take_while(|reply| *reply == Reply::Answer(200));
    let answers = answers.count();
    ensure!(answers <= 2, "{answers} answers");
    server.greet()?;
    has_panicked(server, 2)?;
    Ok(())
}

fn not_asked_for(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut client = server.connect()?;
    client.send(PANIC)?;
    client.expect(Hello, None)?;
    drop(client);
    let counters = server.stop()?;
    ensure!(counters.panics == 0, "{counters:?}");
    Ok(())
}

fn panics(server: &Running, request: &[u8]) -> Result<()> {
    let mut client = server.connect()?;
    client.send(request)?;
    ends_without_an_answer(&mut client)
}

fn ends_without_an_answer(client: &mut Client) -> Result<()> {
    let reply = client.reply(false, SOON)?;
    ensure!(reply == Reply::End, "{reply:?} to a request that panics");
    Ok(())
}

/// Checks that the server goes on, counts this many panics, and stops in good order.
fn has_panicked(server: Running, panics: u64) -> Result<Counters> {
    let counters = server.counters_become(|counters| counters.panics == panics)?;
    ensure!(counters.panics == panics, "{counters:?}");
    server.stop_loudly()
}
