//! The counters that a running server prints on SIGUSR1: they match exactly what clients did.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use engine::plan::{ConnectionLife, Limit, Plan};
use libtest_mimic::Trial;

use crate::client::Expected::{Head, Hello, Options, Refusal};
use crate::client::{Expected, GET, LAST_GET};
use crate::subject::{Running, Subject, Timeouts};
use crate::{each, hostile};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    each(
        subject,
        &[
            ("answers are counted by status", answers),
            ("timeouts are counted by kind", timeouts),
            ("counts as loadgen does, while it runs", load),
        ],
    )
}

/// One connection for each request that ends it, then one connection, left open, with all requests that keep it.
fn answers(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--header-timeout", "300ms"])?;
    let long = |n: usize| "x".repeat(n);
    let last: &[(String, u16)] = &[
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), 408),
        (post("Content-Length: 2000000"), 413),
        (format!("GET /{} HTTP/1.1\r\n\r\n", long(9_000)), 414),
        (post("Content-Length: 1\r\nExpect: a miracle"), 417),
        ("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 421),
        (post(&format!("A: {}", long(17_000))), 431),
        (post("Transfer-Encoding: gzip, chunked"), 501),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
    ];
    for (request, status) in last {
        let mut client = server.connect()?;
        client.send(request.as_bytes())?;
        client.expect(Refusal(*status), Some("close"))?;
        client.expect_end()?;
    }
    let kept: &[(&[u8], Expected)] = &[
        (GET, Hello),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", Head),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Options),
        (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal(405)),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal(501)),
    ];
    let mut client = server.connect()?;
    for (request, answer) in kept {
        client.send(request)?;
        client.expect(*answer, None)?;
    }

    let closed = last.len() as u64;
    let counters = server.counters_become(|counters| counters.closed == closed)?;
    let statuses = last.iter().map(|(_, status)| *status);
    let mut responses = BTreeMap::new();
    for status in statuses.chain(kept.iter().map(|(_, answer)| answer.status())) {
        *responses.entry(status).or_insert(0) += 1;
    }
    ensure!(
        counters.responses == responses,
        "{responses:?}, {counters:?}"
    );
    ensure!(counters.open == 1, "{counters:?}");
    let limits = &counters.limits;
    ensure!(
        (limits.request_line, limits.head, limits.body) == (1, 1, 1),
        "{counters:?}"
    );
    ensure!(
        (limits.connections, limits.files, limits.threads) == (0, 0, 0),
        "{counters:?}"
    );
    let missed = Timeouts {
        header: 1,
        ..Timeouts::default()
    };
    ensure!(counters.timeouts == missed, "{counters:?}");

    drop(client);
    let at_end = server.stop()?;
    ensure!(at_end.responses == responses, "{responses:?}, {at_end:?}");
    ensure!(at_end.accepted == closed + 1, "{at_end:?}");
    Ok(())
}

/// The head of a POST with this header line.
fn post(line: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")
}

/// Each timeout is counted when it occurs, and not earlier.
fn timeouts(subject: &Subject) -> Result<()> {
    // Clients that close after their answer must have time for that, even on a busy machine.
    let server = subject.start(&[
        "--idle-timeout",
        "500ms",
        "--header-timeout",
        "300ms",
        "--linger-timeout",
        "1m",
    ])?;
    let mut missed = Timeouts::default();
    has_missed(&server, missed)?;

    server.connect()?.expect_end()?;
    missed.idle += 1;
    has_missed(&server, missed)?;

    let mut client = server.connect()?;
    client.send(&GET[..10])?;
    client.expect(Refusal(408), Some("close"))?;
    missed.header += 1;
    has_missed(&server, missed)?;
    drop(client);

    let mut client = server.connect()?;
    client.send(post("Content-Length: 1").as_bytes())?;
    client.expect(Refusal(408), Some("close"))?;
    missed.body += 1;
    has_missed(&server, missed)?;
    drop(client);

    hostile::reads_nothing(server.address())?;
    missed.write += 1;
    has_missed(&server, missed)?;
    server.stop()?;

    let server = subject.start(&["--linger-timeout", "300ms"])?;
    let mut client = server.connect()?;
    client.send(LAST_GET)?;
    client.expect(Hello, Some("close"))?;
    client.expect_reset()?;
    let lingered = Timeouts {
        linger: 1,
        ..Timeouts::default()
    };
    has_missed(&server, lingered)?;
    server.stop()?;
    Ok(())
}

fn has_missed(server: &Running, missed: Timeouts) -> Result<()> {
    let counters = server.counters_become(|counters| counters.timeouts == missed);
    counters.with_context(|| format!("{missed:?} expected"))?;
    Ok(())
}

/// The counters after a run of the generator, while the server runs on.
fn load(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut requests = 0;
    let mut connections = 0;
    for life in [ConnectionLife::KeepAlive, ConnectionLife::Requests(3)] {
        let plan = Plan {
            connections: 4,
            life,
            limit: Limit::Requests(1000),
            warmup: Duration::ZERO,
            ..Plan::new(server.address(), GET.to_vec())
        };
        let seen = engine::drive::run(&plan, &AtomicBool::new(false))?.record;
        ensure!(
            seen.errors.is_empty() && seen.counts.good == 1000,
            "{:?}",
            seen.errors
        );
        requests += seen.counts.requests;
        connections += seen.counts.connections_opened;
        let counters = server.counters_become(|counters| counters.closed == connections)?;
        ensure!(
            counters.accepted == connections,
            "{connections}, {counters:?}"
        );
        ensure!(
            counters.responses == BTreeMap::from([(200, requests)]),
            "{requests}, {counters:?}"
        );
    }
    server.stop()?;
    Ok(())
}
