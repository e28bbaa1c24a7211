use std::time::{Duration, Instant};

use super::{Counters, Counts, Error};
use engine::drive::Moment;

/// Counts a server while a load runs, told of its moments.
///
/// The load should go on until it [is over](Pass::is_over): when a load ends, connections end too, which
/// belongs to no request.
#[derive(Debug)]
pub struct Pass {
    stage: Stage,
    at_least: AtLeast,
    /// By the last that was told.
    responses: u64,
}

/// How long it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtLeast {
    /// For so long...
    pub time: Duration,
    /// ... and so many responses.
    pub responses: u64,
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
    /// With counters that stand. It counts from the end of the warm-up on until progress is told that is
    /// enough, or the load ends.
    pub fn new(counters: Counters, at_least: AtLeast) -> Self {
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
                if let Stage::Counting(_, since, responses) = &self.stage
                    && since.elapsed() >= self.at_least.time
                    && self.responses - responses >= self.at_least.responses
                {
                    self.end();
                }
            }
            Moment::End => self.end(),
        }
    }

    /// Whether it has counted all that it was to count.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
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
