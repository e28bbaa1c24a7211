//! Peers that cost a server time, within what its limits allow and beyond. It owes them the end.
//!
//! Servers that are not ours may have longer limits: from them a slow peer walks away after a while.

use std::time::Duration;

use tokio::time::Instant;

use super::{GET, Peer};
use crate::answer::{After, Expected};
use crate::connection::{Connection, Room};
use crate::tally::{End, Kind};

/// How long a slow peer stays with a server that is not ours.
const STAY: Duration = Duration::from_secs(5);

pub(super) async fn head_trickles(peer: Peer) -> Result<(), End> {
    trickle(peer, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await
}

pub(super) async fn body_trickles(peer: Peer) -> Result<(), End> {
    let begin = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
    trickle(peer, begin).await
}

/// A byte now and then: the deadline is that of the whole, and the answer 408 (9110 §15.5.9).
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

/// Requests until the server is blocked by the answers that nobody reads.
pub(super) async fn reads_nothing(mut peer: Peer) -> Result<(), End> {
    /// Ten times what it takes to fill the buffers on the way.
    const BYTES_MAX: usize = 512 << 10;
    let mut connection = peer.connect_with(1, Room::Narrow).await?;
    // Time without progress counts from the last answer taken, and a blocked send may have it twice.
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

/// One answer, which is here long before it is read: the server's close must not destroy it.
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

/// More answers than the buffers on the way hold. The server may drop the peer; until then all that comes
/// is right.
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

/// The server has said its last word and closed its side; the peer keeps its own open.
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

/// How often a slow peer looks whether it was dropped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What ours wait for a peer to close at the end.
const LINGER: Duration = Duration::from_secs(1);

/// Until when the server must have lost its own.
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
