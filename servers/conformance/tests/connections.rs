//! How connections end, and that no client can harm another (9112 §9).

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::client::Expected::{Continue, Hello, Refusal};
use crate::client::GET;
use crate::each;
use crate::subject::{Running, SOON, Subject, Timeouts, in_time, unless_stalled};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    each(
        subject,
        &[
            ("a half-closed client gets its answer", half_closed),
            (
                "a half-closed client gets all its answers",
                half_closed_and_pipelined,
            ),
            (
                "a refusal is readable though the client goes on sending",
                refused_while_sending,
            ),
            (
                "the last answer is readable though more was sent",
                closed_while_sending,
            ),
            ("100 Continue when a client waits for it", continues),
            ("clients that close at once", closes_at_once),
            (
                "clients that close within a request",
                closes_within_a_request,
            ),
            ("clients that reset", resets),
            ("an idle connection is closed", idle),
            (
                "a connection idle after an answer is closed",
                idle_after_an_answer,
            ),
            ("a head that trickles is refused", trickling_head),
            ("a body that trickles is refused", trickling_body),
            ("a client that does not close is dropped", never_closes),
        ],
    )
}

/// The timeout that tests wait for. Everything else must be much faster.
const SHORT: &str = "300ms";
const SHORT_TIME: Duration = Duration::from_millis(300);

/// Checks that something took `SHORT_TIME`, and not much longer. `since` is before the server can have started the
/// time: this client may learn only much later that it has.
fn takes_a_short_time(since: Instant) -> Result<()> {
    let time = since.elapsed();
    // The server's clock may be coarse.
    let range = SHORT_TIME * 9 / 10..SHORT_TIME + SOON;
    ensure!(
        range.contains(&time),
        "after {time:?} instead of {SHORT_TIME:?}"
    );
    Ok(())
}

fn half_closed(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut client = server.connect()?;
    client.send(GET)?;
    client.end()?;
    client.expect(Hello, None)?;
    client.expect_end()?;
    server.stop()?;
    Ok(())
}

fn half_closed_and_pipelined(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut client = server.connect()?;
    client.send(&GET.repeat(500))?;
    client.end()?;
    for _ in 0..500 {
        client.expect(Hello, None)?;
    }
    client.expect_end()?;
    server.stop()?;
    Ok(())
}

fn refused_while_sending(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--linger-timeout", "1m"])?;
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\n\r\n")?;
    for _ in 0..20 {
        client
            .send(&[b'x'; 10_000])
            .context("a reset while the refusal is on its way")?;
        thread::sleep(Duration::from_millis(5));
    }
    client.expect(Refusal(400), Some("close"))?;
    client.expect_end()?;
    drop(client);
    server.greet()?;
    server.stop()?;
    Ok(())
}

fn closed_while_sending(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--linger-timeout", "1m"])?;
    let mut client = server.connect()?;
    let last = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".as_bytes();
    client.send(&[last, &GET.repeat(1000)].concat())?;
    thread::sleep(Duration::from_millis(50));
    client.expect(Hello, Some("close"))?;
    client.expect_end()?;
    drop(client);
    server.stop()?;
    Ok(())
}

fn continues(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut client = server.connect()?;
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")?;
    client.expect(Continue, None)?;
    client.send(b"abc")?;
    client.expect(Refusal(405), None)?;
    client.send(GET)?;
    client.expect(Hello, None)?;
    drop(client);
    server.stop()?;
    Ok(())
}

fn closes_at_once(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    for _ in 0..50 {
        server.connect()?;
    }
    server.greet()?;
    let counters = server.stop()?;
    ensure!(
        counters.accepted == 51 && counters.closed == 51,
        "{counters:?}"
    );
    ensure!(counters.requests == 1, "{counters:?}");
    Ok(())
}

fn closes_within_a_request(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    for end in 1..GET.len() {
        server.connect()?.send(&GET[..end])?;
    }
    server
        .connect()?
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na")?;
    server.greet()?;
    let counters = server.stop()?;
    ensure!(counters.requests == 1, "{counters:?}");
    Ok(())
}

fn resets(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    for sent in [
        &b""[..],
        &GET[..10],
        GET,
        &GET.repeat(2000),
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        for pause in [Duration::ZERO, Duration::from_millis(5)] {
            let mut client = server.connect()?;
            client.send(sent)?;
            thread::sleep(pause);
            client.reset()?;
            server.greet()?;
        }
    }
    server.stop()?;
    Ok(())
}

fn idle(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--idle-timeout", SHORT])?;
    let since = Instant::now();
    let mut client = server.connect()?;
    client.expect_end()?;
    takes_a_short_time(since)?;
    ends_with(server, |missed| missed.idle)
}

fn idle_after_an_answer(subject: &Subject) -> Result<()> {
    unless_stalled(|| {
        let server = subject.start(&["--idle-timeout", SHORT])?;
        let mut since = Instant::now();
        let mut client = server.connect()?;
        for _ in 0..3 {
            thread::sleep(SHORT_TIME / 2);
            let sent = Instant::now();
            let answered = client.send(GET).and_then(|()| client.expect(Hello, None));
            in_time(since, SHORT_TIME * 9 / 10, answered).context("not idle for too long")?;
            since = sent;
        }
        client.expect_end()?;
        takes_a_short_time(since)?;
        ends_with(server, |missed| missed.idle)
    })
}

fn trickling_head(subject: &Subject) -> Result<()> {
    trickling(
        subject,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ",
        |missed| missed.header,
    )
}

fn trickling_body(subject: &Subject) -> Result<()> {
    trickling(
        subject,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n",
        |missed| missed.body,
    )
}

/// A steady trickle of bytes does not extend the deadline of the whole head.
fn trickling(subject: &Subject, begin: &[u8], kind: fn(&Timeouts) -> u64) -> Result<()> {
    unless_stalled(|| {
        let server = subject.start(&["--header-timeout", SHORT])?;
        let mut client = server.connect()?;
        let since = Instant::now();
        client.send(begin)?;
        while since.elapsed() < SHORT_TIME * 8 / 10 {
            client.send(b"b")?;
            let silence = client.expect_silence(Duration::from_millis(20));
            in_time(since, SHORT_TIME * 9 / 10, silence)?;
        }
        // From here on the server may refuse it at any time, whatever the bytes are.
        while since.elapsed() < SHORT_TIME + SOON / 2
            && client.expect_silence(Duration::from_millis(20)).is_ok()
        {
            client.send(b"b")?;
        }
        client.expect(Refusal(408), Some("close"))?;
        client.expect_end()?;
        takes_a_short_time(since)?;
        drop(client);
        ends_with(server, kind)
    })
}

/// A refused client that leaves its side open occupies the server for the linger time, not longer.
fn never_closes(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--linger-timeout", SHORT])?;
    let mut client = server.connect()?;
    client.send(b"GET / HTTP/1.1\r\n\r\n")?;
    client.expect(Refusal(400), Some("close"))?;
    client.expect_end()?;
    client.expect_reset()?;
    ends_with(server, |missed| missed.linger)
}

/// Checks that the server still serves, stops in good order, and counted these timeouts.
fn ends_with(server: Running, kind: fn(&Timeouts) -> u64) -> Result<()> {
    server.greet()?;
    let counters = server.stop()?;
    ensure!(kind(&counters.timeouts) == 1, "{counters:?}");
    Ok(())
}
