//! Whether a server serves few peers at a time, so that others may wait in vain. The soak finds this out by trying,
//! because it soaks servers of any kind.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use crate::answer::{After, Expected};
use crate::connection::{Connection, Room};
use crate::peers::BEHAVIOURS;
use crate::tally::End;
use crate::world::World;

/// Whether this many silent connections keep a server from answering one more until they close. It is tried
/// several times, because a stall of the machine could look the same.
pub(crate) async fn starves(world: &Rc<World>, connections: usize) -> Result<bool, End> {
    const TRIES: usize = 3;
    const SOON: Duration = Duration::from_secs(1);
    for _ in 0..TRIES {
        let mut silent = Vec::new();
        while silent.len() < connections {
            // Connecting takes long if the accept queue is full.
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

/// Makes a request on a new connection.
pub(crate) async fn ask(world: &Rc<World>) -> Result<(), End> {
    let behaviour = &BEHAVIOURS[0];
    let mut connection = Connection::open(world, behaviour, Room::Usual).await?;
    connection
        .send_late(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    connection.answer(Expected::Hello, After::Closes).await?;
    connection.end().await
}
