use std::time::{Duration, Instant};

use super::{Counters, Counts, Error};
use crate::drive::Moment;

/// Counts a server while a load runs, told of its moments.
///
/// It stops before the load does: when that ends, connections end too, which belongs to no request.
#[derive(Debug)]
pub struct Pass {
    stage: Stage,
    at_least: Duration,
    /// By the last that was told.
    responses: u64,
}

#[derive(Debug)]
enum Stage {
    /// The warm-up is not counted.
    Before(Counters),
    /// Since then, and since so many responses.
    Counting(Counters, Instant, u64),
    Over(Result<Counted, Error>),
    /// The load never ran.
    Never,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Responses that came meanwhile. What was in flight at the begin is among them, what was at the end is
    /// not: the two balance.
    pub responses: u64,
    /// How often what happened.
    pub counts: Counts,
}

impl Pass {
    /// With counters that stand. It counts from the end of the warm-up on, at least so long if the load
    /// lasts so long, and then until progress is told.
    pub fn new(counters: Counters, at_least: Duration) -> Self {
        Pass {
            stage: Stage::Before(counters),
            at_least,
            responses: 0,
        }
    }

    /// To be called at every moment of the load.
    pub fn on(&mut self, moment: Moment<'_>) {
        match moment {
            Moment::Idle(_) => {}
            Moment::Begin => self.begin(),
            Moment::Progress(progress) => {
                self.responses = progress.responses_all;
                if let Stage::Counting(_, since, _) = &self.stage
                    && since.elapsed() >= self.at_least
                {
                    self.end();
                }
            }
            Moment::End => self.end(),
        }
    }

    /// What was counted.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn finish(mut self) -> Result<Counted, Error> {
        self.end();
        match self.stage {
            Stage::Over(counted) => counted,
            _ => Ok(Counted {
                responses: 0,
                counts: Counts::default(),
            }),
        }
    }

    fn begin(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Never) {
            Stage::Before(mut counters) => match counters.begin() {
                Ok(()) => Stage::Counting(counters, Instant::now(), self.responses),
                Err(error) => Stage::Over(Err(error)),
            },
            stage => stage,
        };
    }

    fn end(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Never) {
            Stage::Counting(counters, _, since) => {
                let counts = counters.end();
                Stage::Over(counts.map(|counts| Counted {
                    responses: self.responses - since,
                    counts,
                }))
            }
            stage => stage,
        };
    }
}
