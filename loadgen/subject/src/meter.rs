//! The cost of a run for a server that was started for it, read at the moments of the run.

use crate::fault::Fault;
use crate::process::{CostError, IdleCost, Memory, Owner, Sampler, ServerCost, Target};
use engine::contention::{CpuTimes, are_apart, own_cpu_s};
use engine::drive::Moment;
use engine::record::Outcome;

/// A meter for one run. A server that has ended has no cost; its end is detected and reported elsewhere.
pub struct Meter<'a> {
    target: &'a Target,
    memory: Option<Vec<Memory>>,
    sampler: Option<Sampler>,
    cost: Option<Result<ServerCost, CostError>>,
    /// Who answered, determined at the end of the run while all of its connections were still open.
    owner: Option<Owner>,
    /// The CPUs that the server is pinned to; empty if it is not pinned.
    cpus: Vec<usize>,
    begin: Option<Times>,
    end: Option<Times>,
}

/// What the server's CPUs did so far, and the CPU time of the generator on any CPU, in seconds.
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

/// What a run cost a server, or why that is unknown.
#[derive(Debug, Default)]
pub struct Metered {
    /// The cost.
    pub cost: Option<ServerCost>,
    /// Why the cost is unknown, although there should be one.
    pub unknown: Option<String>,
    /// Another process than the server answered.
    pub fault: Option<Fault>,
}

impl<'a> Meter<'a> {
    /// `is_fresh`: the server has not had idle connections yet. Memory that an earlier run left to it would not grow again.
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

    /// Takes the readings for a moment of the run; must be called at each moment.
    pub fn on(&mut self, moment: Moment<'_>) {
        let target = self.target;
        match moment {
            Moment::Idle(connections) => {
                // If a reading is missing, the others are useless.
                if let Some(mut memory) = self.memory.take()
                    && let Ok(now) = Memory::settled(target.processes(), connections as u64)
                {
                    memory.push(now);
                    self.memory = Some(memory);
                }
            }
            Moment::Begin(_) => {
                self.begin = Times::now(&self.cpus);
                match Sampler::start(target.processes()) {
                    Ok(sampler) => self.sampler = Some(sampler),
                    Err(error) => self.cost = Some(Err(error.into())),
                }
            }
            Moment::Tick(_) => {}
            Moment::End(_) => {
                self.end = Times::now(&self.cpus);
                if let Some(sampler) = self.sampler.take() {
                    self.cost = Some(sampler.finish());
                }
                self.owner = Some(target.owner());
            }
        }
    }

    /// Finishes after a run with this outcome, if any, and this many requests in flight on a connection. If the server used
    /// CPUs of the generator, that time is deducted from what other processes used there.
    pub fn finish(self, mut outcome: Option<&mut Outcome>, pipeline: usize) -> Metered {
        let responses =
            (outcome.as_ref()).map_or(0, |outcome| outcome.record.counts.answered_in_window);
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
                Some(Owner::Unknown(why)) => format!(", and it is unknown who answered: {why}"),
                _ => String::new(),
            };
            return Metered {
                unknown: Some(format!(
                    "no CPU time: the processes of the server used {:.1} ms, too little for {responses} \
                     responses{why}",
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
