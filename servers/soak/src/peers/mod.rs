//! The peers that visit a server: a table of behaviours, and how each of them lives.

mod honest;
mod rude;
mod slow;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, Room};
use crate::tally::End;
use crate::world::{Stage, World};

/// One kind of peer.
pub struct Behaviour {
    /// Short name, as on the command line.
    pub name: &'static str,
    /// How many of a thousand living peers have this behaviour.
    pub share: u32,
    /// What the server owes such a peer.
    pub nature: Nature,
    /// What such a peer does, in one line.
    pub about: &'static str,
    live: fn(Peer) -> Life,
}

/// What a server owes to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// The correct answer to every request, even while the server is stopping.
    Honest,
    /// Nothing, because the peer leaves in the middle of a request or an answer.
    Rude,
    /// A close when a timeout has passed.
    Slow,
}

pub(crate) type Life = Pin<Box<dyn Future<Output = Result<(), End>>>>;

/// All behaviours.
pub static BEHAVIOURS: [Behaviour; 20] = {
    use Nature::{Honest, Rude, Slow};
    macro_rules! row {
        ($name:literal, $share:literal, $nature:ident, $live:path, $about:literal) => {
            Behaviour {
                name: $name,
                share: $share,
                nature: $nature,
                about: $about,
                live: |peer| Box::pin($live(peer)),
            }
        };
    }
    [
        row!(
            "keep-alive",
            400,
            Honest,
            honest::keep_alive,
            "many requests, one at a time, then closes"
        ),
        row!(
            "one-request",
            80,
            Honest,
            honest::one_request,
            "one request, then closes"
        ),
        row!(
            "says-close",
            70,
            Honest,
            honest::says_close,
            "one request with `Connection: close`"
        ),
        row!(
            "http-1.0",
            50,
            Honest,
            honest::one_dot_zero,
            "a request or a few of HTTP/1.0"
        ),
        row!(
            "half-close",
            100,
            Honest,
            honest::half_close,
            "shuts its side behind its requests"
        ),
        row!(
            "pipelined",
            20,
            Honest,
            honest::pipelined,
            "bursts of requests"
        ),
        row!(
            "bytewise",
            10,
            Honest,
            honest::bytewise,
            "a request byte by byte"
        ),
        row!(
            "post",
            15,
            Honest,
            honest::post,
            "a body, mostly in chunks, then GET"
        ),
        row!(
            "head-options",
            15,
            Honest,
            honest::head_options,
            "HEAD, OPTIONS and GET in turns"
        ),
        row!(
            "malformed",
            40,
            Honest,
            honest::malformed,
            "what must be refused with 400"
        ),
        row!(
            "resets-at-once",
            20,
            Rude,
            rude::resets_at_once,
            "connects and resets"
        ),
        row!(
            "resets-within",
            20,
            Rude,
            rude::resets_within,
            "resets within a request"
        ),
        row!(
            "resets-unread",
            30,
            Rude,
            rude::resets_unread,
            "resets with answers unread"
        ),
        row!(
            "closes-within",
            30,
            Rude,
            rude::closes_within,
            "closes within a request"
        ),
        row!(
            "head-trickles",
            20,
            Slow,
            slow::head_trickles,
            "never ends its head"
        ),
        row!(
            "body-trickles",
            15,
            Slow,
            slow::body_trickles,
            "never ends its body"
        ),
        row!("silent", 20, Slow, slow::silent, "never sends anything"),
        row!(
            "reads-nothing",
            15,
            Slow,
            slow::reads_nothing,
            "asks much and reads nothing"
        ),
        row!(
            "reads-slowly",
            15,
            Slow,
            slow::reads_slowly,
            "reads a byte a second"
        ),
        row!(
            "never-closes",
            15,
            Slow,
            slow::never_closes,
            "stays after the last answer"
        ),
    ]
};

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Behaviour {
    pub(crate) fn live(&'static self, world: &Rc<World>, rng: Rng) -> Life {
        (self.live)(Peer {
            behaviour: self,
            stage: world.stage.subscribe(),
            world: Rc::clone(world),
            rng,
        })
    }
}

/// One peer's life.
#[derive(Debug)]
pub(crate) struct Peer {
    behaviour: &'static Behaviour,
    world: Rc<World>,
    stage: watch::Receiver<Stage>,
    rng: Rng,
}

impl Peer {
    /// Connects when the turn comes to send this many requests at once.
    async fn connect(&mut self, requests: u32) -> Result<Connection, End> {
        self.connect_with(requests, Room::Usual).await
    }

    async fn connect_with(&mut self, requests: u32, room: Room) -> Result<Connection, End> {
        let pace = match self.behaviour.nature {
            Nature::Honest => &self.world.turns,
            Nature::Rude | Nature::Slow => &self.world.misdeeds,
        };
        let turn = pace.take(requests, Instant::now());
        self.rest_until(turn).await?;
        Connection::open(&self.world, self.behaviour, room).await
    }

    /// Does nothing for this long, or until the peer is asked to leave.
    async fn rest(&mut self, time: Duration) -> Result<(), End> {
        self.rest_until(Instant::now() + time).await
    }

    async fn rest_until(&mut self, until: Instant) -> Result<(), End> {
        tokio::select! {
            () = sleep_until(until) => Ok(()),
            _ = self.stage.wait_for(|stage| *stage == Stage::Leaving) => Err(End::Left),
        }
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from_ms..=to_ms))
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn shares_make_a_whole() {
        let of = |nature| {
            let rows = BEHAVIOURS.iter().filter(move |row| row.nature == nature);
            rows.map(|row| row.share).sum::<u32>()
        };
        assert_eq!(
            of(Nature::Honest) + of(Nature::Rude) + of(Nature::Slow),
            1000
        );
        assert_eq!((of(Nature::Rude), of(Nature::Slow)), (100, 100));
        let names: BTreeSet<&str> = BEHAVIOURS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), BEHAVIOURS.len());
    }
}
