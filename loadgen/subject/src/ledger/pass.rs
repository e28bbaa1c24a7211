use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::{Counters, Counts, Error};
use engine::drive::{Live, Moment};

/// Counts a server's operations while a load runs, following the load's moments.
///
/// The load should continue until the pass [is over](Pass::is_over): at the end of a load
/// connections close, which belongs to no request.
#[derive(Debug)]
pub struct Pass {
    stage: Stage,
    at_least: AtLeast,
}

/// The minimum extent of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtLeast {
    /// The minimum time.
    pub time: Duration,
    /// The minimum number of responses.
    pub responses: u64,
}

/// At most one response in so many may have come while the counters were started and stopped.
const UNCERTAIN_ONE_IN: u64 = 25;

#[derive(Debug)]
enum Stage {
    /// Before the end of the warm-up, which is not counted.
    Before(Counters),
    Counting {
        counters: Counters,
        since: Instant,
        /// The responses when the first and when the last counter started. On a busy machine there may be many between.
        first: RangeInclusive<u64>,
    },
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
    /// Responses that came while the counters were started and stopped, which may or may not belong to the count.
    pub uncertain: u64,
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
        }
    }

    /// Must be called at every moment of the load.
    pub fn on(&mut self, moment: Moment<'_>) {
        match moment {
            Moment::Idle(_) => {}
            Moment::Begin(live) => self.begin(live),
            Moment::Tick(tick) => {
                if let Stage::Counting { since, first, .. } = &self.stage
                    && since.elapsed() >= self.at_least.time
                    && tick.live.responses() - first.end()
                        >= (self.at_least.responses).max(2 * UNCERTAIN_ONE_IN * width(first))
                {
                    self.end(tick.live);
                }
            }
            Moment::End(live) => self.end(live),
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
    pub fn finish(self) -> Result<Counted, Error> {
        match self.stage {
            Stage::Over(counted) => counted,
            Stage::Before(_) | Stage::Counting { .. } | Stage::Never => Ok(Counted {
                responses: 0,
                uncertain: 0,
                counts: Counts::default(),
            }),
        }
    }

    fn begin(&mut self, live: Live<'_>) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Never) {
            Stage::Before(mut counters) => {
                let start = live.responses();
                match counters.begin() {
                    Ok(()) => Stage::Counting {
                        counters,
                        since: Instant::now(),
                        first: start..=live.responses(),
                    },
                    Err(error) => Stage::Over(Err(error)),
                }
            }
            stage => stage,
        };
    }

    fn end(&mut self, live: Live<'_>) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Never) {
            Stage::Counting {
                mut counters,
                first,
                ..
            } => {
                let start = live.responses();
                let stopped = counters.stop();
                let last = start..=live.responses();
                Stage::Over(stopped.and_then(|()| Counted::between(counters, &first, &last)))
            }
            stage => stage,
        };
    }
}

impl Counted {
    /// Whether the counts belong to the responses: on a busy machine, another program may have kept this one from its
    /// CPU while it started or stopped the counters.
    pub fn is_certain(&self) -> bool {
        self.uncertain * UNCERTAIN_ONE_IN <= self.responses
    }

    fn between(
        counters: Counters,
        first: &RangeInclusive<u64>,
        last: &RangeInclusive<u64>,
    ) -> Result<Self, Error> {
        let middle = |range: &RangeInclusive<u64>| range.start() + width(range) / 2;
        let (responses, uncertain) = (middle(last) - middle(first), width(first) + width(last));
        Ok(Counted {
            responses,
            uncertain,
            counts: counters.read()?,
        })
    }
}

fn width(range: &RangeInclusive<u64>) -> u64 {
    range.end() - range.start()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_belong_to_other_responses_are_not_certain() {
        for (responses, uncertain, is_certain) in [
            (0, 0, true),
            (0, 1, false),
            (300, 0, true),
            (300, 12, true),
            (300, 13, false),
            (10, 297, false),
        ] {
            let counted = Counted {
                responses,
                uncertain,
                counts: Counts::default(),
            };
            assert_eq!(counted.is_certain(), is_certain, "{counted:?}");
        }
    }
}
