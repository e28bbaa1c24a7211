//! Peers that leave in the middle of a request or an answer. The server owes them nothing; other peers must not
//! notice.

use super::{GET, Peer};
use crate::tally::End;

/// A request with a body, which a peer cuts off anywhere.
const POST: &[u8] =
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\nhello hello hello he";

pub(super) async fn resets_at_once(mut peer: Peer) -> Result<(), End> {
    let connection = peer.connect(1).await?;
    if peer.rng.bool() {
        let time = peer.between(0, 20);
        peer.rest(time).await?;
    }
    connection.reset();
    Ok(())
}

pub(super) async fn resets_within(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    let part = part_of_a_request(&mut peer);
    let _ = connection.push(part);
    let time = peer.between(0, 20);
    peer.rest(time).await?;
    connection.reset();
    Ok(())
}

pub(super) async fn resets_unread(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    let requests = GET.repeat(peer.rng.usize(1..=50));
    let _ = connection.push(&requests);
    let time = peer.between(0, 20);
    peer.rest(time).await?;
    connection.reset();
    Ok(())
}

pub(super) async fn closes_within(mut peer: Peer) -> Result<(), End> {
    let mut connection = peer.connect(1).await?;
    let part = part_of_a_request(&mut peer);
    let _ = connection.push(part);
    let time = peer.between(0, 20);
    peer.rest(time).await
}

/// A random prefix, neither empty nor complete.
fn part_of_a_request(peer: &mut Peer) -> &'static [u8] {
    let request = if peer.rng.bool() { GET } else { POST };
    &request[..peer.rng.usize(1..request.len())]
}
