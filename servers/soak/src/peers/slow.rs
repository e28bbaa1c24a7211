//! Peers that cost a server time, within its limits and beyond them. The server must drop those beyond them.
//!
//! Servers of others may have longer limits, so a slow peer leaves them after a while.

use std::time::Duration;

use tokio::time::Instant;

use super::{GET, Peer};
use crate::answer::{After, Expected};
use crate::connection::{Connection, Room};
use crate::tally::{End, Kind};

/// How long a slow peer stays with a server of others.
const STAY: Duration = Duration::from_secs(5);

pub(super) async fn head_trickles(peer: Peer) -> Result<(), End> {
    trickle(peer, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await
}

pub(super) async fn body_trickles(peer: Peer) -> Result<(), End> {
    let begin = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    trickle(peer, begin).await
}

/// Sends a byte now and then. The deadline of the whole head does not move, and the answer is 408 (9110 §15.5.9).
async fn trickle(mut peer: Peer, begin: &[u8]) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    let until = patience(&peer, peer.world.times.header);
    connection.send_late(begin).await?;
    loop {
        let pause = peer.between(50, 400);
        peer.rest(Duration::ZERO).await?;
        if connection.has_answer(Instant::now() + pause).await? {
            break;
        }
        if Instant::now() >= until {
            return not_dropped(&peer, &connection, "it may trickle on");
        }
        connection.send_late(b"x").await?;
    }
    if !peer.world.ours {
        return Ok(());
    }
    connection
        .answer(Expected::Refusal(408), After::Closes)
        .await?;
    connection.end().await
}

pub(super) async fn silent(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    let until = patience(&peer, peer.world.times.idle);
    loop {
        peer.rest(Duration::ZERO).await?;
        let now = Instant::now();
        if now >= until {
            return not_dropped(&peer, &connection, "it may stay silent");
        }
        if connection.has_answer(now + LOOK_EVERY).await? {
            return connection.end().await;
        }
    }
}

/// Sends requests and reads no answers, until the server is blocked.
pub(super) async fn reads_nothing(mut peer: Peer) -> Result<(), End> {
    /// Ten times as many as fill all buffers between server and peer.
    const BYTES_MAX: usize = 512 << 10;
    let mut connection = peer.connect_with(1, Room::Narrow).await?;
    // The timeout counts from the last byte taken, and a blocked send may run it twice.
    let until = patience(&peer, 2 * peer.world.times.idle);
    let requests = GET.repeat(50);
    let mut sent = 0;
    while Instant::now() < until {
        while sent < BYTES_MAX {
            match connection.push(&requests[sent % GET.len()..]) {
                Ok(0) => break,
                Ok(n) => sent += n,
                Err(_) => return Ok(()),
            }
        }
        if sent >= BYTES_MAX && connection.push(b"\r\n").is_err() {
            return Ok(());
        }
        peer.rest(LOOK_EVERY).await?;
    }
    if peer.world.may_starve() && !connection.is_served() {
        return Err(End::GaveUp);
    }
    not_dropped(&peer, &connection, "it may read nothing")
}

pub(super) async fn reads_slowly(mut peer: Peer) -> Result<(), End> {
    match peer.rng.bool() {
        true => reads_one_slowly(peer).await,
        false => reads_many_slowly(peer).await,
    }
}

/// Reads an answer long after it has arrived: the server's close must not destroy it.
async fn reads_one_slowly(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    connection
        .send_late(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    for _ in 0..peer.rng.u32(1..=6) {
        let until = Instant::now() + peer.world.times.patience;
        match connection.take(1, until).await {
            Ok(1..) => {}
            Ok(0) => return Err(connection.judge(Kind::EarlyEnd, "an answer read bytewise")),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                return Err(connection.judge(Kind::NoAnswer, "an answer read bytewise"));
            }
            Err(error) => return Err(connection.judge(Kind::Reset, &error.to_string())),
        }
        peer.rest(Duration::from_secs(1)).await?;
    }
    connection.answer(Expected::Hello, After::Closes).await?;
    connection.end().await
}

/// Asks for more answers than the buffers hold. The server may drop the peer; until then all answers must be
/// correct.
async fn reads_many_slowly(mut peer: Peer) -> Result<(), End> {
    const REQUESTS: usize = 2000;
    let mut connection = peer.connect_with(1, Room::Narrow).await?;
    let requests = GET.repeat(REQUESTS);
    let mut sent = 0;
    for _ in 0..peer.rng.u32(3..=8) {
        while sent < requests.len() {
            match connection.push(&requests[sent..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => sent += n,
            }
        }
        peer.rest(Duration::from_secs(1)).await?;
        let _ = connection.take(1, Instant::now() + LOOK_EVERY).await;
    }
    if peer.world.may_starve() && !connection.is_served() {
        return Err(End::GaveUp);
    }
    let until = patience(&peer, 2 * peer.world.times.idle);
    let mut answers = 0;
    loop {
        peer.rest(Duration::ZERO).await?;
        let taken = connection.take(4096, Instant::now() + LOOK_EVERY).await;
        answers += connection.answers_here(Expected::Hello)?;
        match taken {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                if answers >= REQUESTS || !peer.world.ours {
                    return Ok(());
                }
                if Instant::now() >= until {
                    return not_dropped(&peer, &connection, "it may read slowly");
                }
            }
            Ok(1..) => {}
            Ok(0) | Err(_) => return Ok(()),
        }
    }
}

/// Keeps its side open after the server has sent the last answer and shut its own side.
pub(super) async fn never_closes(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    connection
        .send_late(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    connection.answer(Expected::Hello, After::Closes).await?;
    connection.end().await?;
    let until = patience(&peer, LINGER);
    while Instant::now() < until {
        peer.rest(LOOK_EVERY).await?;
        if connection.push(b"x").is_err() {
            return Ok(());
        }
    }
    not_dropped(&peer, &connection, "it may stay after the last answer")
}

/// How often a slow peer checks whether it was dropped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The linger timeout of our servers.
const LINGER: Duration = Duration::from_secs(1);

/// The time by which a server must have lost patience.
fn patience(peer: &Peer, limit: Duration) -> Instant {
    Instant::now()
        + if peer.world.ours {
            limit + peer.world.times.patience
        } else {
            STAY
        }
}

fn not_dropped(peer: &Peer, connection: &Connection, why: &str) -> Result<(), End> {
    match peer.world.ours {
        true => Err(connection.judge(Kind::NotDropped, why)),
        false => Ok(()),
    }
}
