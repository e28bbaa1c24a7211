use std::time::{Duration, Instant};

use super::{Counters, Counts, Error};
use engine::drive::Moment;

/// Counts a server's operations while a load runs, following the load's moments.
///
/// The load should continue until the pass [is over](Pass::is_over): at the end of a load
/// connections close, which belongs to no request.
/// belongs to no request.
#[derive(Debug)]
pub struct Pass {
    stage: Stage,
    at_least: AtLeast,
    /// The responses at the last reported moment.
    responses: u64,
}

/// The minimum extent of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtLeast {
    /// The minimum time.
    pub time: Duration,
    /// The minimum number of responses.
    pub responses: u64,
}

#[derive(Debug)]
enum Stage {
    /// Before the end of the warm-up, which is not counted.
    Before(Counters),
    /// Counting since this time, and since this number of responses.
    Counting(Counters, Instant, u64),
    Over(Result<Counted, Error>),
    /// The load never ran.
    Never,
}

/// The result of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Responses during the count. It includes requests in flight at the start and excludes those
    /// in flight at the end: the two balance.
    pub responses: u64,
    /// How often each operation happened.
    pub counts: Counts,
}

impl Pass {
    /// A pass with attached, stopped counters. It counts from the end of the warm-up until a
    /// progress report shows that it has enough, or the load ends.
    pub fn new(counters: Counters, at_least: AtLeast) -> Self {
        Pass {
            stage: Stage::Before(counters),
            at_least,
            responses: 0,
        }
    }

    /// Must be called at every moment of the load.
    pub fn on(&mut self, moment: Moment<'_>) {
        match moment {
            Moment::Idle(_) => {}
            Moment::Begin => self.begin(),
            Moment::Tick(progress) => {
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

    /// Whether the pass has counted enough.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
    }

    /// The result.
    ///
    /// # Errors
    ///
    /// If the kernel reports an error.
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
