//! A constant number of peers: when one leaves, another comes.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::peers::{BEHAVIOURS, Behaviour, Nature};
use crate::tally::End;
use crate::world::World;

/// All peers of one server.
pub(crate) struct Crowd {
    world: Rc<World>,
    size: usize,
    rng: Rng,
    kinds: Vec<Of>,
    alive: JoinSet<(usize, Result<(), End>)>,
}

/// One behaviour in the crowd.
struct Of {
    behaviour: &'static Behaviour,
    alive: usize,
}

impl Crowd {
    /// An empty crowd of these behaviours; of all, if `only` is empty.
    pub(crate) fn new(
        world: &Rc<World>,
        size: usize,
        only: &[&'static Behaviour],
        seed: u64,
    ) -> Self {
        let chosen = |behaviour: &&'static Behaviour| {
            let mut only = only.iter().map(|one| one.name);
            only.len() == 0 || only.any(|name| name == behaviour.name)
        };
        let kinds = BEHAVIOURS.iter().filter(chosen);
        Crowd {
            world: Rc::clone(world),
            size,
            rng: Rng::with_seed(seed),
            kinds: (kinds.map(|behaviour| Of {
                behaviour,
                alive: 0,
            }))
            .collect(),
            alive: JoinSet::new(),
        }
    }

    pub(crate) fn world(&self) -> &Rc<World> {
        &self.world
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.len()
    }

    /// The number of well-behaved peers alive.
    pub(crate) fn honest(&self) -> usize {
        let honest = (self.kinds.iter()).filter(|of| of.behaviour.nature == Nature::Honest);
        honest.map(|of| of.alive).sum()
    }

    /// Keeps the crowd at its size until `end`.
    pub(crate) async fn mix(&mut self, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            while self.alive.len() < self.size {
                self.welcome();
            }
            tokio::select! {
                () = &mut end => return,
                _ = self.one_leaves() => {}
            }
        }
    }

    /// Waits for a peer to leave; false if there is none.
    pub(crate) async fn one_leaves(&mut self) -> bool {
        let Some(over) = self.alive.join_next().await else {
            return false;
        };
        let (kind, outcome) = over.expect("no peer panics or is aborted");
        let of = &mut self.kinds[kind];
        of.alive -= 1;
        let mut tally = self.world.tally.borrow_mut();
        tally.over(of.behaviour.name, outcome);
        true
    }

    /// Starts a peer of a behaviour that is rarer than its share. So the shares are those of living peers, however
    /// long their lives are.
    fn welcome(&mut self) {
        let shares: u32 = self.kinds.iter().map(|of| of.behaviour.share).sum();
        let missing = |of: &Of| {
            let due = f64::from(of.behaviour.share) / f64::from(shares) * (self.size as f64);
            (due - of.alive as f64).max(0.0)
        };
        let missing: Vec<f64> = self.kinds.iter().map(missing).collect();
        let mut at = self.rng.f64() * missing.iter().sum::<f64>();
        let kind = missing.iter().position(|missing| {
            at -= missing;
            at < 0.0
        });
        let kind = kind.unwrap_or_else(|| self.rng.usize(..self.kinds.len()));
        let of = &mut self.kinds[kind];
        of.alive += 1;
        let life = of.behaviour.live(&self.world, self.rng.fork());
        self.alive.spawn_local(async move { (kind, life.await) });
    }
}
