//! What a run costs a server that was started for it, read at the moments of the run.

use crate::fault::Fault;
use crate::process::{CostError, IdleCost, Memory, Owner, Sampler, ServerCost, Target};
use engine::contention::{CpuTimes, are_apart, own_cpu_s};
use engine::drive::Moment;
use engine::record::Outcome;

/// Of one run. A server that is gone has no cost; that it ended is found and said elsewhere.
pub struct Meter<'a> {
    target: &'a Target,
    memory: Option<Vec<Memory>>,
    sampler: Option<Sampler>,
    cost: Option<Result<ServerCost, CostError>>,
    /// Who answered, by the end of the run, when all of its connections were still there.
    owner: Option<Owner>,
    /// That the server is pinned to; none when it is not.
    cpus: Vec<usize>,
    begin: Option<Times>,
    end: Option<Times>,
}

/// What the server's CPUs did so far, and what the generator used of any, seconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    cpus: CpuTimes,
    own_s: f64,
}

impl Times {
    fn now(cpus: &[usize]) -> Option<Self> {
        Some(Times {
            cpus: CpuTimes::of(cpus)?,
            own_s: own_cpu_s(),
        })
    }
}

/// What a run cost a server, or why that is not known.
#[derive(Debug, Default)]
pub struct Metered {
    /// What it cost.
    pub cost: Option<ServerCost>,
    /// Why there is no cost, where there should be one.
    pub unknown: Option<String>,
    /// It was not the server that answered.
    pub fault: Option<Fault>,
}

impl<'a> Meter<'a> {
    /// `is_fresh`: the server has had no idle connections yet. What another run has left to it would not be
    /// seen to grow.
    pub(crate) fn new(target: &'a Target, is_fresh: bool, cpus: &[usize]) -> Self {
        Meter {
            target,
            memory: is_fresh.then(Vec::new),
            sampler: None,
            cost: None,
            owner: None,
            cpus: cpus.to_vec(),
            begin: None,
            end: None,
        }
    }

    /// Reads what is due at a moment of the run; to be called at each.
    pub fn on(&mut self, moment: Moment<'_>) {
        let target = self.target;
        match moment {
            Moment::Idle(connections) => {
                // With a reading missing, the others do not say what is asked.
                if let Some(mut memory) = self.memory.take()
                    && let Ok(now) = Memory::settled(target.processes(), connections as u64)
                {
                    memory.push(now);
                    self.memory = Some(memory);
                }
            }
            Moment::Begin => {
                self.begin = Times::now(&self.cpus);
                match Sampler::start(target.processes()) {
                    Ok(sampler) => self.sampler = Some(sampler),
                    Err(error) => self.cost = Some(Err(error.into())),
                }
            }
            Moment::Progress(_) => {}
            Moment::End => {
                self.end = Times::now(&self.cpus);
                if let Some(sampler) = self.sampler.take() {
                    self.cost = Some(sampler.finish());
                }
                self.owner = Some(target.owner());
            }
        }
    }

    /// When the run had this outcome, or none, with so many requests in flight on a connection. Others have not
    /// used what the server has on CPUs of the generator: that is taken off.
    pub fn finish(self, mut outcome: Option<&mut Outcome>, pipeline: usize) -> Metered {
        let responses = (outcome.as_ref()).map_or(0, |outcome| outcome.record.answered_in_window);
        if let Some(Owner::Others(others)) = self.owner {
            return Metered {
                fault: Some(Fault::Foreign(others)),
                ..Metered::default()
            };
        }
        let cost = match self.cost {
            None => return Metered::default(),
            Some(Err(error)) => {
                return Metered {
                    unknown: Some(format!("no CPU time: {error}")),
                    ..Metered::default()
                };
            }
            Some(Ok(cost)) => cost,
        };
        if !cost.can_have_answered(responses, pipeline) {
            let why = match self.owner {
                Some(Owner::Unknown(why)) => format!(", and who did is unknown: {why}"),
                _ => String::new(),
            };
            return Metered {
                unknown: Some(format!(
                    "no CPU time: the processes of the server used {:.1} ms, in which they cannot have \
                     given {responses} responses{why}",
                    cost.cpu_s() * 1e3
                )),
                ..Metered::default()
            };
        }
        let client_cpus = outcome.as_ref().and_then(|it| it.client.cpus.clone());
        let are_apart = are_apart(&self.cpus, &client_cpus.unwrap_or_default());
        let used_by_others = self.end.zip(self.begin).and_then(|(end, begin)| {
            let own_s = match are_apart {
                true => 0.0,
                false => end.own_s - begin.own_s,
            };
            end.cpus.used_by_others(begin.cpus, cost.cpu_s() + own_s)
        });
        if !are_apart && let Some(outcome) = &mut outcome {
            outcome.client.contention.take_off(cost.cpu_s());
        }
        let memory = self.memory.filter(|memory| !memory.is_empty());
        Metered {
            cost: Some(ServerCost {
                idle: memory.map(IdleCost::of),
                cpus_used_by_others: used_by_others,
                ..cost
            }),
            ..Metered::default()
        }
    }
}
