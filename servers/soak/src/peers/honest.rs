//! Peers that keep the rules, or break them in a way that must be answered. Each must get all its answers, correct
//! to the byte.

use std::time::Duration;

use tokio::time::Instant;

use super::{GET, Peer};
use crate::answer::{After, Expected};
use crate::connection::{Connection, Waited};
use crate::tally::{End, Kind};
use crate::world::Stage;

use Expected::{Continue, Hello, HelloHead, Options, Refusal};

pub(super) async fn keep_alive(mut peer: Peer) -> Result<(), End> {
    // Bounded, so that peers of a server that serves few at a time make room for others.
    let requests = peer.rng.u32(2..=50);
    let mut connection = peer.connect(1).await?;
    for number in 0..requests {
        if number > 0 && !next_turn(&mut peer, &mut connection, 1).await? {
            return Ok(());
        }
        connection.send(&get(&mut peer)).await?;
        if !connection.answer(Hello, After::Stays).await? {
            return connection.end().await;
        }
    }
    Ok(())
}

pub(super) async fn one_request(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    connection.send(&get(&mut peer)).await?;
    match connection.answer(Hello, After::Stays).await? {
        true => Ok(()),
        false => connection.end().await,
    }
}

pub(super) async fn says_close(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    connection
        .send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    connection.answer(Hello, After::Closes).await?;
    connection.end().await
}

pub(super) async fn one_dot_zero(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    for _ in 0..peer.rng.u32(0..4) {
        connection
            .send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .await?;
        if !connection.answer(Hello, After::KeepAlive).await? {
            return connection.end().await;
        }
        if !next_turn(&mut peer, &mut connection, 1).await? {
            return Ok(());
        }
    }
    connection.send(b"GET / HTTP/1.0\r\n\r\n").await?;
    connection.answer(Hello, After::Closes).await?;
    connection.end().await
}

pub(super) async fn half_close(mut peer: Peer) -> Result<(), End> {
    let requests = match peer.rng.bool() {
        true => 1,
        false => peer.rng.u32(2..=8),
    };
    let mut connection = peer.connect(requests).await?;
    connection.send(&GET.repeat(requests as usize)).await?;
    if peer.rng.bool() {
        let time = peer.between(0, 5);
        peer.rest(time).await?;
    }
    connection.half_close().await?;
    for _ in 0..requests {
        if !connection.answer(Hello, After::Stays).await? {
            break;
        }
    }
    connection.end().await
}

pub(super) async fn pipelined(mut peer: Peer) -> Result<(), End> {
    let bursts = peer.rng.u32(1..=5);
    let burst = peer.rng.u32(2..=32);
    let mut connection = peer.connect(burst).await?;
    for number in 0..bursts {
        if number > 0 && !next_turn(&mut peer, &mut connection, burst).await? {
            return Ok(());
        }
        let requests = GET.repeat(burst as usize);
        // Most of these cuts are inside a request.
        let (first, rest) = requests.split_at(peer.rng.usize(1..=requests.len()));
        connection.send(first).await?;
        connection.send(rest).await?;
        for _ in 0..burst {
            if !connection.answer(Hello, After::Stays).await? {
                // Requests after the last answer are not answered (9112 §9.6).
                return connection.end().await;
            }
        }
    }
    Ok(())
}

pub(super) async fn bytewise(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    let begin = Instant::now();
    for byte in GET {
        if begin.elapsed() > peer.world.header_safely() {
            return Err(End::Late);
        }
        connection.send(&[*byte]).await?;
        let time = peer.between(0, 15);
        tokio::time::sleep(time).await;
    }
    match connection.answer(Hello, After::Stays).await? {
        true => Ok(()),
        false => connection.end().await,
    }
}

pub(super) async fn post(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(2).await?;
    let refused = Refusal(405);
    // Servers of others may read the body, refuse it at once, or close.
    let waits = peer.world.ours && peer.rng.u32(0..3) == 0;
    let stays = if waits {
        connection
            .send(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            )
            .await?;
        connection.answer(Continue, After::Stays).await?;
        connection.send(b"hello").await?;
        connection.answer(refused, After::Stays).await?
    } else {
        connection
            .send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await?;
        for _ in 0..peer.rng.usize(0..5) {
            let size = peer.rng.usize(1..2000);
            let mut chunk = format!("{size:x}\r\n").into_bytes();
            chunk.extend(std::iter::repeat_n(b'x', size));
            chunk.extend(b"\r\n");
            connection.send(&chunk).await?;
        }
        connection.send(b"0\r\n\r\n").await?;
        connection.answer(refused, After::Stays).await?
    };
    if !stays {
        return connection.end().await;
    }
    connection.send(GET).await?;
    match connection.answer(Hello, After::Stays).await? {
        true => Ok(()),
        false => connection.end().await,
    }
}

pub(super) async fn head_options(mut peer: Peer) -> Result<(), End> {
    let rows: [(&[u8], Expected); 4] = [
        (b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", HelloHead),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", Options),
        (b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n", Options),
        (GET, Hello),
    ];
    let mut connection = peer.connect(1).await?;
    for number in 0..peer.rng.u32(2..=6) {
        if number > 0 && !next_turn(&mut peer, &mut connection, 1).await? {
            return Ok(());
        }
        let (request, expected) = rows[peer.rng.usize(..rows.len())];
        connection.send(request).await?;
        if !connection.answer(expected, After::Stays).await? {
            return connection.end().await;
        }
    }
    Ok(())
}

/// Malformed requests. Each must be refused with 400 (RFC 9112 §2.2, §3, §5, §6; RFC 9110 §5.5, §7.2, §8.6).
const MALFORMED: [&[u8]; 10] = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / http/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnothing\r\n",
];

pub(super) async fn malformed(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    let request = MALFORMED[peer.rng.usize(..MALFORMED.len())];
    if peer.world.ours {
        // The peer must be able to read the refusal, even if it goes on sending at once or a little later.
        let more = b"x".repeat(peer.rng.usize(1..20_000));
        match peer.rng.u32(0..4) {
            0 => connection.send(&[request, &more].concat()).await?,
            1 => {
                connection.send(request).await?;
                let time = peer.between(0, 10);
                peer.rest(time).await?;
                connection.send(&more).await?;
            }
            _ => connection.send(request).await?,
        }
        connection.answer(Refusal(400), After::Closes).await?;
        return connection.end().await;
    }
    connection.send(request).await?;
    // Servers of others may accept the request.
    connection.answer(Refusal(400), After::Stays).await?;
    Ok(())
}

/// A GET in one of several forms, sometimes as long as that of a browser with many cookies.
fn get(peer: &mut Peer) -> Vec<u8> {
    match peer.rng.u32(0..20) {
        0 => {
            let line = format!("X-Padding: {}\r\n", "p".repeat(1000));
            let lines = line.repeat(peer.rng.usize(1..=7));
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
        }
        1..=4 => b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\nUser-Agent: soak\r\nAccept: */*\r\n\r\n"
            .to_vec(),
        _ => GET.to_vec(),
    }
}

/// Waits between two requests on an open connection; false means that the peer should close it.
///
/// The peer chooses the pause, so that the connection is not idle for too long. Its requests still use up turns, so
/// that peers that have yet to connect wait longer. There is no pause if turns are left over, as when only a few
/// peers are served at a time.
///
/// If the server is told to stop meanwhile, it must still answer one request on the connection. Some peers send it
/// soon; the others wait for the server to close.
async fn next_turn(
    peer: &mut Peer,
    connection: &mut Connection,
    requests: u32,
) -> Result<bool, End> {
    let now = Instant::now();
    if let Stage::Stopping(since) = peer.world.stage() {
        return one_more(peer, connection, since).await;
    }
    let pause = match peer.world.turns.wait(now).is_zero() {
        true => Duration::ZERO,
        false => peer
            .world
            .times
            .idle
            .min(PAUSE_MAX)
            .mul_f64(0.2 + 0.45 * peer.rng.f64()),
    };
    peer.world.turns.take(requests, now);
    match connection.wait(now + pause).await? {
        Waited::Until => Ok(true),
        Waited::Closed | Waited::Stage(Stage::Leaving) => Ok(false),
        Waited::Stage(Stage::Stopping(since)) => one_more(peer, connection, since).await,
        Waited::Stage(Stage::Mix) => Ok(true),
    }
}

/// The longest pause, if the idle timeout does not limit it.
const PAUSE_MAX: Duration = Duration::from_secs(2);

async fn one_more(
    peer: &mut Peer,
    connection: &mut Connection,
    since: Instant,
) -> Result<bool, End> {
    if peer.rng.bool() {
        let until = since + peer.world.times.grace + Duration::from_secs(1);
        return match connection.wait(until).await? {
            Waited::Until => Err(connection.judge(
                Kind::NotClosed,
                "idle and open after the server was to stop",
            )),
            Waited::Closed | Waited::Stage(_) => Ok(false),
        };
    }
    let time = peer.between(0, 500);
    let soon = connection.wait(Instant::now() + time).await?;
    // The server closes idle connections a second after the signal; a later request could cross that close.
    Ok(soon == Waited::Until && since.elapsed() < Duration::from_millis(700))
}
