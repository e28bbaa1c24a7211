//! Whether a server serves few peers at a time, so that others may wait in vain: found by looking, so that
//! no list of names need be kept.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use crate::answer::{After, Expected};
use crate::connection::{Connection, Room};
use crate::peers::BEHAVIOURS;
use crate::tally::End;
use crate::world::World;

/// Whether so many silent connections keep a server from answering one more, until they close. This is what
/// tells a server that serves few at a time, whatever it is called; one try could be a hiccup of the
/// machine.
pub(crate) async fn starves(world: &Rc<World>, connections: usize) -> Result<bool, End> {
    const TRIES: usize = 3;
    const SOON: Duration = Duration::from_secs(1);
    for _ in 0..TRIES {
        let mut silent = Vec::new();
        while silent.len() < connections {
            // Where the accept queue is full, connecting itself takes long.
            let one = Connection::open(world, &BEHAVIOURS[0], Room::Usual);
            match timeout(SOON / 2, one).await {
                Ok(one) => silent.push(one?),
                Err(_) => break,
            }
        }
        let asked = timeout(SOON, ask(world)).await;
        drop(silent);
        match asked {
            Ok(answered) => {
                answered?;
                return Ok(false);
            }
            Err(_) => ask(world).await?,
        }
    }
    Ok(true)
}

/// Says hello on a new connection.
pub(crate) async fn ask(world: &Rc<World>) -> Result<(), End> {
    let behaviour = &BEHAVIOURS[0];
    let mut connection = Connection::open(world, behaviour, Room::Usual).await?;
    connection
        .send_late(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    connection.answer(Expected::Hello, After::Closes).await?;
    connection.end().await
}
