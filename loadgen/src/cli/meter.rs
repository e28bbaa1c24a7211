//! What a run costs a server that was started for it, read at the moments of the run.

use crate::drive::Moment;
use crate::target::{IdleCost, Memory, Sampler, ServerCost};

/// Of one run. A server that is gone has no cost; that it ended is found and said elsewhere.
pub(super) struct Meter {
    /// Of the server; absent when somebody else started it.
    pid: Option<u32>,
    memory: Option<Vec<Memory>>,
    sampler: Option<Sampler>,
    cost: Option<ServerCost>,
}

impl Meter {
    /// `is_fresh`: the server has had no idle connections yet. What another run has left to it would not be
    /// seen to grow.
    pub(super) fn new(pid: Option<u32>, is_fresh: bool) -> Self {
        Meter {
            pid,
            memory: is_fresh.then(Vec::new),
            sampler: None,
            cost: None,
        }
    }

    pub(super) fn on(&mut self, moment: Moment<'_>) {
        let Some(pid) = self.pid else {
            return;
        };
        match moment {
            Moment::Idle(connections) => {
                // With a reading missing, the others do not say what is asked.
                if let Some(mut memory) = self.memory.take()
                    && let Ok(now) = Memory::settled(pid, connections as u64)
                {
                    memory.push(now);
                    self.memory = Some(memory);
                }
            }
            Moment::Begin => self.sampler = Sampler::start(pid).ok(),
            Moment::Progress(_) => {}
            Moment::End => {
                let sampler = self.sampler.take();
                self.cost = sampler.and_then(|sampler| sampler.finish().ok());
            }
        }
    }

    pub(super) fn finish(self) -> Option<ServerCost> {
        let memory = self.memory.filter(|memory| !memory.is_empty());
        let cost = self.cost?;
        Some(ServerCost {
            idle: memory.map(IdleCost::of),
            ..cost
        })
    }
}
