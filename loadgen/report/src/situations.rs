//! Situations of a reader who chooses a server, and what recorded sets say about each.
//!
//! The page of one set and the front page of the repository ask the same questions: who is first, who starves
//! connections, which rates are held. The front page asks several sets. Sets of different machines or builds
//! never share a table: each set ranks its own servers, and the ranks are compared.

use std::collections::BTreeSet;

use engine::figures::{figure, listed, thousands};
use engine::foreign::in_markdown as escaped;
use lab::compare::{Entry, Estimate, Evidence, Metric, Standing};
use subject::catalogue::Workload;

use crate::chart::ledger_bars::Costs;
use crate::chart::{Findings, Load, REACHED, count, rate_of, reached};

/// Ours by rank.
pub(crate) struct Podium<'a> {
    /// Those that share the first rank, the best median first.
    pub(crate) first: Vec<(&'a String, &'a Entry)>,
    /// Those behind them, by rank.
    pub(crate) behind: Vec<(&'a String, &'a Entry)>,
    /// Those that compete and have no rank, though they were measured.
    pub(crate) unranked: Vec<(&'a String, &'a Entry)>,
}

impl<'a> Podium<'a> {
    /// Under that workload.
    pub(crate) fn of(findings: &'a Findings, metric: Metric, workload: &str) -> Self {
        let mut ranked: Vec<_> = (findings.entries(metric, workload))
            .filter(|(server, _)| findings.evidence.competes(server))
            .collect();
        let unranked = (ranked.iter().copied())
            .filter(|(_, entry)| entry.rank.is_none() && entry.standing != Standing::Missing)
            .collect();
        ranked.retain(|(_, entry)| entry.rank.is_some());
        let order = |entry: &Entry| {
            let value = entry.value.map_or(f64::INFINITY, |it| it.value);
            (
                entry.rank,
                if metric.less_is_better() {
                    value
                } else {
                    -value
                },
            )
        };
        ranked.sort_by(|(_, a), (_, b)| {
            let (a, b) = (order(a), order(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        });
        let (first, behind) = ranked
            .into_iter()
            .partition(|(_, entry)| entry.rank == Some(1));
        Podium {
            first,
            behind,
            unranked,
        }
    }

    /// The names on the first rank, or why there are none.
    pub(crate) fn names(&self) -> String {
        match self.first.is_empty() {
            false => few(self.first.iter().map(|(server, _)| server.as_str())),
            true if self.is_hidden() => "not decided: the generator was the bottleneck".to_owned(),
            true => "no server can be compared".to_owned(),
        }
    }

    /// Whether there would be a first if the generator had been faster.
    pub(crate) fn is_hidden(&self) -> bool {
        (self.unranked.iter())
            .any(|(_, entry)| matches!(entry.standing, Standing::ClientBound | Standing::Ranked))
    }

    /// How far ahead the first are: the ratio of the next to the best.
    pub(crate) fn lead(&self) -> String {
        match self.behind.first() {
            Some((server, entry)) => match &entry.ratio {
                Some(ratio) => format!("{server} has {}", times(ratio)),
                None => String::new(),
            },
            None if self.first.len() > 1 => "statistical tie".to_owned(),
            None => String::new(),
        }
    }
}

/// A list that stays a sentence, however many names there are.
pub(crate) fn few<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len() {
        ..=6 => listed(names),
        more => format!("{} and {} more", names[..4].join(", "), more - 4),
    }
}

/// `1.09x (1.06–1.12)`.
pub(crate) fn times(ratio: &lab::compare::Estimate) -> String {
    let two = |value: f64| format!("{value:.2}");
    match ratio.interval {
        Some((low, high)) => format!("{}x ({}–{})", two(ratio.value), two(low), two(high)),
        None => format!("{}x", two(ratio.value)),
    }
}

/// The workloads under which a server left connections without an answer, and how many.
pub(crate) fn starved<'a>(findings: &'a Findings, server: &str) -> Vec<(&'a Workload, f64)> {
    (findings.evidence.workloads.iter())
        .filter_map(|workload| {
            let never = Costs::of(findings, server, &workload.name).never_served?;
            (never > 0.0).then_some((workload, never))
        })
        .collect()
}

/// The rates of an open loop, and who held them.
pub(crate) struct Rates<'a> {
    /// The rate by whose p99 servers can be ranked: where most are compared; of such rates the highest.
    pub(crate) decided: Option<&'a Workload>,
    /// Ours that held a rate, each with the highest one.
    pub(crate) held: Vec<(&'a String, &'a Workload)>,
}

impl<'a> Rates<'a> {
    /// Absent where no load was offered at several rates.
    pub(crate) fn of(findings: &'a Findings) -> Option<Self> {
        let evidence = findings.evidence;
        let load = Load::all(evidence)
            .into_iter()
            .find(|load| load.rate_per_s.is_some() && load.workloads.len() > 1)?;
        let holds = |server: &String, workload: &Workload| {
            let entry = findings.entry(Metric::P99, &workload.name, server);
            entry.is_some_and(|it| it.standing == Standing::Ranked)
                && reached(evidence, server, workload)
                    .is_some_and(|it| it >= REACHED * rate_of(workload))
        };
        let ours = evidence.servers.iter().filter(|it| evidence.competes(it));
        let held: Vec<(&String, &Workload)> = ours
            .filter_map(|server| {
                let last = load.workloads.iter().rev().find(|it| holds(server, it))?;
                Some((server, *last))
            })
            .collect();
        let is_decided =
            |it: &&Workload| !Podium::of(findings, Metric::P99, &it.name).first.is_empty();
        let held_by = |it: &&Workload| held.iter().filter(|(server, _)| holds(server, it)).count();
        let decided = (load.workloads.iter().copied())
            .filter(is_decided)
            .max_by_key(held_by);
        Some(Rates { decided, held })
    }
}

/// A set that is asked, and where a reader finds it.
pub struct Recorded {
    /// The set alone.
    pub evidence: Evidence,
    /// Link to its README.
    pub readme: String,
    /// Another file that may hold its tables, as a link, and the text of that file.
    pub tables: Option<(String, String)>,
}

impl Recorded {
    /// The row of a workload, or else the README of the set.
    fn link(&self, metric: Metric, workload: &str) -> String {
        let anchor = format!("{}-{workload}", metric.name());
        match &self.tables {
            Some((link, text)) if text.contains(&format!("<a id=\"{anchor}\"></a>")) => {
                format!("{link}#{anchor}")
            }
            _ => self.readme.clone(),
        }
    }
}

/// The sets of one kind of CPU.
pub(crate) struct Machine<'a> {
    /// Of the CPU.
    pub(crate) name: String,
    pub(crate) sets: Vec<Asked<'a>>,
}

/// A set with what was found in it.
pub(crate) struct Asked<'a> {
    pub(crate) recorded: &'a Recorded,
    pub(crate) findings: Findings<'a>,
}

impl<'a> Machine<'a> {
    /// All sets by their CPUs, in the order in which these are met.
    pub(crate) fn all(sets: &'a [Recorded]) -> Vec<Self> {
        let mut machines: Vec<Machine> = Vec::new();
        for recorded in sets {
            let name = cpu_name(recorded.evidence.machine.cpu_model.as_deref());
            let asked = Asked {
                recorded,
                findings: Findings::of(&recorded.evidence),
            };
            match machines.iter_mut().find(|it| it.name == name) {
                Some(machine) => machine.sets.push(asked),
                None => machines.push(Machine {
                    name,
                    sets: vec![asked],
                }),
            }
        }
        machines
    }

    /// Its sets with that workload.
    fn with<'b>(&'b self, workload: &'b str) -> impl Iterator<Item = &'b Asked<'a>> {
        (self.sets.iter()).filter(move |it| it.has(workload))
    }
}

/// As its maker writes it, without marks of law, as Markdown.
fn cpu_name(model: Option<&str>) -> String {
    let model = model.unwrap_or("an unknown CPU");
    let name = model.replace("(R)", "").replace("(TM)", "");
    escaped(name.trim_end_matches(" Processor").trim())
}

/// What a reader may be asking for.
struct Situation {
    /// As the reader puts it.
    words: &'static str,
    asks: Asks,
    /// Ratios are of the first that most machines were measured under.
    workloads: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Who takes the least CPU time.
    Cost,
    /// Who holds the highest rate, and who answers soonest.
    Rate,
    /// Who leaves nobody out.
    Service,
}

const SITUATIONS: [Situation; 9] = [
    Situation {
        words: "many busy connections that stay open",
        asks: Asks::Cost,
        workloads: &["keep-alive", "keep-alive-256", "keep-alive-1024"],
    },
    Situation {
        words: "one busy connection, or few requests",
        asks: Asks::Cost,
        workloads: &["keep-alive-1", "open-1k"],
    },
    Situation {
        words: "a connection for every request",
        asks: Asks::Cost,
        workloads: &["new-connection", "new-connection-16", "new-connection-256"],
    },
    Situation {
        words: "a connection for every request, from one client",
        asks: Asks::Cost,
        workloads: &["new-connection-1"],
    },
    Situation {
        words: "ten or a hundred requests on each connection",
        asks: Asks::Cost,
        workloads: &["ten-requests", "hundred-requests"],
    },
    Situation {
        words: "thousands of connections that are mostly idle",
        asks: Asks::Cost,
        workloads: &["idle-crowd"],
    },
    Situation {
        words: "clients that pipeline",
        asks: Asks::Cost,
        workloads: &["pipelined"],
    },
    Situation {
        words: "response times at a given rate",
        asks: Asks::Rate,
        workloads: &["open-20k"],
    },
    Situation {
        words: "peers that keep their connections",
        asks: Asks::Service,
        workloads: &["keep-alive"],
    },
];

/// What to take in a situation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The situation, as the reader puts it.
    pub(crate) situation: &'static str,
    /// The servers, as Markdown.
    pub(crate) take: String,
    /// What speaks for them, and where sets disagree.
    pub(crate) because: String,
    /// The workload that shows it.
    pub(crate) shown_by: String,
    /// Where it stands.
    pub(crate) link: String,
}

/// What to take in every situation that was measured.
pub(crate) fn choices(machines: &[Machine]) -> Vec<Choice> {
    let choice = |situation: &Situation| Question::of(situation, machines)?.answer();
    SITUATIONS.iter().filter_map(choice).collect()
}

/// A situation, and who was measured in it.
struct Question<'a> {
    situation: &'a Situation,
    /// The workload that ratios are of.
    lead: &'a str,
    /// Those with that workload.
    machines: Vec<&'a Machine<'a>>,
    /// Of how many.
    machines_all: usize,
}

impl<'a> Question<'a> {
    fn of(situation: &'a Situation, machines: &'a [Machine<'a>]) -> Option<Self> {
        let measured = |workload: &str| -> Vec<&Machine> {
            let has = |machine: &&Machine| machine.with(workload).next().is_some();
            machines.iter().filter(has).collect()
        };
        // Of several maxima `max_by_key` takes the last.
        let by_machines = situation.workloads.iter().rev();
        let lead = by_machines.max_by_key(|it| measured(it).len())?;
        let machines_all = machines.len();
        let machines = measured(lead);
        (!machines.is_empty()).then_some(Question {
            situation,
            lead,
            machines,
            machines_all,
        })
    }

    /// All sets with the lead, and the machine of each.
    fn sets(&self) -> impl Iterator<Item = (&'a Machine<'a>, &'a Asked<'a>)> {
        let lead = self.lead;
        let of_machine =
            move |machine: &'a Machine<'a>| machine.with(lead).map(move |set| (machine, set));
        self.machines.clone().into_iter().flat_map(of_machine)
    }

    fn answer(&self) -> Option<Choice> {
        let (take, mut because) = match self.situation.asks {
            Asks::Cost => self.cheapest()?,
            Asks::Rate => self.fastest()?,
            Asks::Service => self.servants()?,
        };
        if let [only] = self.machines[..]
            && self.machines_all > 1
        {
            because.push(format!("measured on {} only", only.name));
        }
        let metric = match self.situation.asks {
            Asks::Rate => Metric::P99,
            Asks::Cost | Asks::Service => Metric::Cpu,
        };
        let (_, newest) = self.sets().last()?;
        Some(Choice {
            situation: self.situation.words,
            take,
            because: because.join("; "),
            shown_by: self.lead.to_owned(),
            link: newest.recorded.link(metric, self.lead),
        })
    }

    fn cheapest(&self) -> Option<(String, Vec<String>)> {
        let firsts = self.firsts(|set| {
            let measured = |workload: &&&str| set.has(workload);
            (self.situation.workloads.iter().filter(measured))
                .map(|workload| first(&set.findings, Metric::Cpu, workload))
                .filter(|first| !first.is_empty())
                .collect()
        });
        let choice = Agreement::of(&firsts)?;
        let mut because = Vec::new();
        match choice.common.first() {
            Some(best) => {
                because.extend(self.disagreements(&choice.common, best));
                because.extend(self.ratios(&choice.common, best));
                because.extend(self.idle_memory());
            }
            None => because.extend(self.ratios_by_machine(&choice)),
        }
        because.extend(self.unresolved());
        because.extend(self.not_valid());
        Some((choice.take(), because))
    }

    /// The servers that are first, of each set of each machine; those of a set may be of several workloads.
    fn firsts(&self, of: impl Fn(&Asked<'a>) -> Vec<Vec<String>>) -> Vec<Firsts> {
        let firsts = self.machines.iter().map(|machine| Firsts {
            machine: machine.name.clone(),
            sets: (machine.with(self.lead).map(&of))
                .filter(|set| !set.is_empty())
                .collect(),
        });
        firsts.filter(|it| !it.sets.is_empty()).collect()
    }

    /// Where one machine has a server among the first and another has it behind them.
    fn disagreements(&self, common: &[String], best: &str) -> Vec<String> {
        let mut said = Vec::new();
        for server in self.others(common) {
            let sides = self.machines.iter();
            let sides: Vec<Side> = sides
                .filter_map(|machine| self.side(machine, &server, best))
                .collect();
            let (first, behind): (Vec<&Side>, Vec<&Side>) =
                (sides.iter().filter(|it| it.place.is_some())).partition(|it| it.place == FIRST);
            if first.is_empty() || behind.is_empty() {
                continue;
            }
            let apart = (first.iter()).all(|low| behind.iter().all(|high| high.low > low.high));
            let tied = listed(first.iter().map(|it| it.machine));
            let costs: Vec<String> = (behind.iter())
                .map(|it| format!("{} on {}", span(&it.ratios), it.machine))
                .collect();
            let costs = listed(costs);
            said.push(match apart {
                true => format!(
                    "**sets disagree**: {server} is first or tied on {tied}, and takes {costs}"
                ),
                false => format!("{server}: tied on {tied}, {costs}"),
            });
        }
        said
    }

    /// Where all sets of a machine agree about a server.
    fn side<'b>(&self, machine: &'b Machine, server: &str, best: &str) -> Option<Side<'b>> {
        let mut side = Side {
            machine: &machine.name,
            place: None,
            ratios: Vec::new(),
            low: f64::INFINITY,
            high: 0.0,
        };
        let mut places = BTreeSet::new();
        for set in machine.with(self.lead) {
            let entry = set.findings.entry(Metric::Cpu, self.lead, server)?;
            places.insert(is_first(entry)?);
            let evidence = &set.recorded.evidence;
            let ratio = evidence.ratio(server, best, self.lead, Metric::Cpu)?;
            let (low, high) = ratio.interval.unwrap_or((ratio.value, ratio.value));
            side.low = side.low.min(low);
            side.high = side.high.max(high);
            side.ratios.push(ratio);
        }
        side.place = match places.len() {
            1 => places.pop_first(),
            _ => None,
        };
        Some(side)
    }

    /// What the others take, except those about whom machines disagree. Who is among the first under the lead is
    /// shown where it is not.
    fn ratios(&self, common: &[String], best: &str) -> Option<String> {
        let is_said = |server: &String| {
            let sides = self.machines.iter();
            let places: BTreeSet<bool> = sides
                .filter_map(|machine| self.side(machine, server, best)?.place)
                .collect();
            places.len() > 1
        };
        let is_behind = |server: &String, workload: &str| {
            let findings = self.sets().map(|(_, set)| &set.findings);
            let mut entries = findings.filter_map(|it| it.entry(Metric::Cpu, workload, server));
            entries.any(|entry| is_first(entry) == Some(false))
        };
        let place = |server: &String| {
            let others = self.situation.workloads.iter().copied();
            let mut workloads = [self.lead].into_iter().chain(others);
            workloads.find(|it| is_behind(server, it))
        };
        let others = (self.others(common).into_iter()).filter(|server| !is_said(server));
        // By workload, the lead first.
        let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
        for server in others {
            let Some(workload) = place(&server) else {
                continue;
            };
            match groups.iter_mut().find(|(it, _)| *it == workload) {
                Some((_, servers)) => servers.push(server),
                None => groups.push((workload, vec![server])),
            }
        }
        groups.sort_by_key(|(workload, _)| *workload != self.lead);
        let texts: Vec<String> = (groups.into_iter())
            .filter_map(|(workload, servers)| {
                let sets: Vec<&Asked> = self.sets().map(|(_, set)| set).collect();
                let text = against(&sets, workload, &servers, best)?;
                Some(match workload == self.lead {
                    true => text,
                    false => format!("under {workload} {text}"),
                })
            })
            .collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// What all others take beside the first of each machine.
    fn ratios_by_machine(&self, choice: &Agreement) -> Vec<String> {
        let of_machine = |(name, first): &(String, Vec<String>)| {
            let machine = self.machines.iter().find(|it| it.name == *name)?;
            let sets: Vec<&Asked> = machine.with(self.lead).collect();
            let best = first.first()?;
            let others = self.others(first);
            Some(format!(
                "on {name} {}",
                against(&sets, self.lead, &others, best)?
            ))
        };
        choice.by_machine.iter().filter_map(of_machine).collect()
    }

    /// Ours that were measured, in the order of the newest set.
    fn others(&self, common: &[String]) -> Vec<String> {
        let mut others: Vec<String> = Vec::new();
        let sets: Vec<&Asked> = self.sets().map(|(_, set)| set).collect();
        for set in sets.into_iter().rev() {
            let evidence = &set.recorded.evidence;
            for server in evidence.servers.iter().filter(|it| evidence.competes(it)) {
                if !common.contains(server) && !others.contains(server) {
                    others.push(server.clone());
                }
            }
        }
        others
    }

    /// Whose ratio says nothing under the lead.
    fn unresolved(&self) -> Option<String> {
        let mut names = Vec::new();
        for (_, set) in self.sets() {
            let entries = set.findings.entries(Metric::Cpu, self.lead);
            let wide = entries.filter(|(server, entry)| {
                set.recorded.evidence.competes(server) && entry.is_unresolved
            });
            names.extend(wide.map(|(server, _)| format!("{server} in {}", set.name())));
        }
        (!names.is_empty()).then(|| format!("not resolved: {}", listed(names)))
    }

    /// Who cannot be ranked under the lead; and who can, but not under another workload of the situation.
    fn not_valid(&self) -> Option<String> {
        let mut names = BTreeSet::new();
        let mut elsewhere = Vec::new();
        for (_, set) in self.sets() {
            let evidence = &set.recorded.evidence;
            for server in evidence.servers.iter().filter(|it| evidence.competes(it)) {
                let fault = |workload: &str| {
                    let entry = set.findings.entry(Metric::Cpu, workload, server)?;
                    let is_bad = matches!(entry.standing, Standing::NotValid | Standing::Failed);
                    is_bad.then(|| {
                        set.findings
                            .remark(entry, server, workload)
                            .unwrap_or_default()
                    })
                };
                if fault(self.lead).is_some() {
                    names.insert(server.clone());
                    continue;
                }
                for workload in self.situation.workloads {
                    let Some(fault) = fault(workload) else {
                        continue;
                    };
                    let why = fault.trim_start_matches("not valid: ");
                    elsewhere.push(format!("{server} under {workload} ({why})"));
                }
            }
        }
        let names: Vec<String> = names.into_iter().chain(elsewhere).collect();
        (!names.is_empty()).then(|| format!("not valid: {}", listed(names)))
    }

    /// What an idle connection holds, in the newest set that says so.
    fn idle_memory(&self) -> Option<String> {
        let (_, set) = self.sets().last()?;
        let podium = Podium::of(&set.findings, Metric::IdleMemory, self.lead);
        let holders = podium.first.iter().chain(&podium.behind);
        let holders: Vec<String> = holders
            .filter_map(|(server, entry)| {
                Some(format!("{server} {}", bytes(entry.value.as_ref()?.value)))
            })
            .collect();
        let said = || format!("memory of an idle connection: {}", holders.join(", "));
        (!holders.is_empty()).then(said)
    }

    fn fastest(&self) -> Option<(String, Vec<String>)> {
        let rates = |set: &Asked<'a>| -> Vec<(String, f64)> {
            let held = Rates::of(&set.findings).map_or(Vec::new(), |it| it.held);
            (held.into_iter())
                .map(|(server, last)| (server.clone(), rate_of(last)))
                .collect()
        };
        let firsts = self.firsts(|set| {
            let held = rates(set);
            let top = held.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
            let first = held.into_iter().filter(|(_, rate)| *rate == top);
            let first: Vec<String> = first.map(|(server, _)| server).collect();
            (!first.is_empty()).then_some(first).into_iter().collect()
        });
        let choice = Agreement::of(&firsts)?;
        let (_, newest) = self.sets().last()?;
        let mut held: Vec<(f64, Vec<String>)> = Vec::new();
        for (server, rate) in rates(newest) {
            match held.iter_mut().find(|(it, _)| *it == rate) {
                Some((_, servers)) => servers.push(server),
                None => held.push((rate, vec![server])),
            }
        }
        held.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let held: Vec<String> = (held.into_iter())
            .map(|(rate, servers)| format!("{} {}/s", listed(servers), count(rate)))
            .collect();
        let mut because = vec![format!("highest rates held: {}", held.join(", "))];
        let lead = Podium::of(&newest.findings, Metric::P99, self.lead);
        because.push(match lead.first.is_empty() {
            true => format!("p99 under {} is not resolved", self.lead),
            false => format!("lowest p99 under {}: {}", self.lead, lead.names()),
        });
        Some((choice.take(), because))
    }

    /// Who leaves connections without an answer.
    fn servants(&self) -> Option<(String, Vec<String>)> {
        let starving = |set: &Asked<'a>| -> Vec<(String, f64, usize)> {
            let evidence = &set.recorded.evidence;
            let ours = evidence.servers.iter().filter(|it| evidence.competes(it));
            ours.filter_map(|server| {
                let starved = starved(&set.findings, server);
                let (workload, never) = starved.iter().find(|(it, _)| it.name == self.lead)?;
                Some((server.clone(), *never, workload.connections))
            })
            .collect()
        };
        let firsts = self.firsts(|set| {
            let names: Vec<String> = starving(set).into_iter().map(|it| it.0).collect();
            (!names.is_empty()).then_some(names).into_iter().collect()
        });
        let (_, newest) = self.sets().last()?;
        let Some(starvers) = Agreement::of(&firsts) else {
            // Some do not say how many were served.
            let is_known = self.sets().any(|(_, set)| {
                let servers = set.recorded.evidence.servers.iter();
                let mut costs = servers.map(|it| Costs::of(&set.findings, it, self.lead));
                costs.any(|it| it.never_served.is_some())
            });
            let text = format!("every connection was served under {}", self.lead);
            return is_known.then(|| ("any".to_owned(), vec![text]));
        };
        let mut figures: Vec<(String, Vec<String>)> = Vec::new();
        for (server, never, all) in starving(newest) {
            let text = format!("{} of {}", count(never), thousands(all as u64));
            match figures.iter_mut().find(|(it, _)| *it == text) {
                Some((_, servers)) => servers.push(server),
                None => figures.push((text, vec![server])),
            }
        }
        let figures: Vec<String> = (figures.into_iter())
            .map(|(text, servers)| {
                format!("{text} connections got no answer from {}", listed(servers))
            })
            .collect();
        let sets = self.sets().count();
        let silent = sets - firsts.iter().map(|it| it.sets.len()).sum::<usize>();
        let mut because = figures;
        if silent > 0 {
            because.push(format!("in {silent} of {sets} sets nobody did"));
        }
        let take = match starvers.common.is_empty() {
            true => starvers.take(),
            false => format!("not {}", bold(&starvers.common, "or")),
        };
        Some((take, because))
    }
}

impl Asked<'_> {
    pub(crate) fn name(&self) -> &str {
        self.recorded
            .evidence
            .sets
            .first()
            .map_or("", String::as_str)
    }

    fn has(&self, workload: &str) -> bool {
        let mut workloads = self.recorded.evidence.workloads.iter();
        workloads.any(|it| it.name == workload)
    }
}

/// What the cheapest of these servers take beside the best; nothing of those that cannot be compared.
fn against(sets: &[&Asked], workload: &str, servers: &[String], best: &str) -> Option<String> {
    let ratios = |server: &String| -> Vec<Estimate> {
        let evidences = sets.iter().map(|set| &set.recorded.evidence);
        evidences
            .filter_map(|it| it.ratio(server, best, workload, Metric::Cpu))
            .filter(Estimate::is_resolved)
            .collect()
    };
    let mut others: Vec<(&String, Vec<Estimate>)> = (servers.iter())
        .map(|server| (server, ratios(server)))
        .filter(|(_, ratios)| !ratios.is_empty())
        .collect();
    others.sort_by(|(_, a), (_, b)| ends(a).0.total_cmp(&ends(b).0));
    let others: Vec<String> = (others.iter())
        .take(BESIDE)
        .map(|(server, ratios)| format!("{server} {}", span(ratios)))
        .collect();
    (!others.is_empty()).then(|| others.join(", "))
}

/// Servers that are named beside a choice: a reason is short.
const BESIDE: usize = 2;

/// Those who are first or tied, the best median first.
fn first(findings: &Findings, metric: Metric, workload: &str) -> Vec<String> {
    let podium = Podium::of(findings, metric, workload);
    let ranked = podium.first.iter().chain(&podium.behind);
    ranked
        .filter(|(_, entry)| is_first(entry) == Some(true))
        .map(|(name, _)| (*name).clone())
        .collect()
}

/// Whether it has the first rank or is tied with the best; absent without a rank. A rank is that of its first
/// member, so one that is tied with the best may be ranked behind another that is not.
fn is_first(entry: &Entry) -> Option<bool> {
    let is_tied = |ratio: Estimate| ratio.is_resolved() && !ratio.tells_apart();
    let rank = entry.rank?;
    Some(rank == 1 || entry.ratio.is_some_and(is_tied))
}

const FIRST: Option<bool> = Some(true);

/// A server beside the choice on one machine.
struct Side<'a> {
    machine: &'a str,
    /// Whether it is among the first; absent where sets of this machine say both.
    place: Option<bool>,
    /// To the choice, one a set.
    ratios: Vec<Estimate>,
    /// The lower end of the lowest interval.
    low: f64,
    /// The upper end of the highest.
    high: f64,
}

/// Who is first on a machine: by set, and in each by workload.
struct Firsts {
    machine: String,
    sets: Vec<Vec<Vec<String>>>,
}

/// What is common to machines.
struct Agreement {
    /// First or tied in every set, under every workload.
    common: Vec<String>,
    /// The same of each machine.
    by_machine: Vec<(String, Vec<String>)>,
}

impl Agreement {
    /// Absent where nobody is first anywhere.
    fn of(firsts: &[Firsts]) -> Option<Self> {
        let by_machine: Vec<(String, Vec<String>)> = (firsts.iter())
            .map(|it| (it.machine.clone(), common(it.sets.iter().flatten())))
            .collect();
        (!by_machine.is_empty()).then(|| Agreement {
            common: common(by_machine.iter().map(|(_, names)| names)),
            by_machine,
        })
    }

    fn take(&self) -> String {
        if !self.common.is_empty() {
            return bold(&self.common, "or");
        }
        let sides: Vec<String> = (self.by_machine.iter())
            .map(|(machine, names)| match names.is_empty() {
                true => format!("none in all sets of {machine}"),
                false => format!("{} on {machine}", bold(names, "or")),
            })
            .collect();
        match sides.len() {
            1 => sides.join(""),
            _ => format!("**sets disagree**: {}", sides.join("; ")),
        }
    }
}

/// The names that are in all lists, in the order of the last.
fn common<'a>(lists: impl Iterator<Item = &'a Vec<String>>) -> Vec<String> {
    let lists: Vec<&Vec<String>> = lists.collect();
    let mut common = lists.last().map_or(Vec::new(), |last| (*last).clone());
    common.retain(|name| lists.iter().all(|list| list.contains(name)));
    common
}

/// `**a**, **b** or **c**`.
fn bold(names: &[String], last: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("**{name}**")).collect();
    match names.split_last() {
        Some((end, others)) if !others.is_empty() => {
            format!("{} {last} {end}", others.join(", "))
        }
        _ => names.join(""),
    }
}

/// `1.79x (1.64–1.97)` of one set; `1.57x to 1.61x`, the medians of several.
pub(crate) fn span(ratios: &[Estimate]) -> String {
    match ratios {
        [only] => times(only),
        _ => {
            let (low, high) = ends(ratios);
            let (low, high) = (format!("{low:.2}x"), format!("{high:.2}x"));
            match low == high {
                true => low,
                false => format!("{low} to {high}"),
            }
        }
    }
}

/// The lowest and the highest median.
fn ends(ratios: &[Estimate]) -> (f64, f64) {
    let medians = ratios.iter().map(|it| it.value);
    (
        medians.clone().fold(f64::INFINITY, f64::min),
        medians.fold(0.0, f64::max),
    )
}

fn bytes(value: f64) -> String {
    match value < 1024.0 {
        true => format!("{} bytes", figure(value)),
        false => format!("{} KiB", figure(value / 1024.0)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use lab::fixture::{cell, evidence};
    use lab::set::Cell;

    use super::*;

    /// A set of that CPU, with so many microseconds for each server under each workload.
    pub(crate) fn recorded(set: &str, cpu: &str, costs: &[(&str, &[(&str, f64)])]) -> Recorded {
        let mut cells: Vec<Cell> = Vec::new();
        for round in 1..=6_u32 {
            for (workload, servers) in costs {
                for (index, (server, us)) in servers.iter().enumerate() {
                    let noise = f64::from((round * 5 + index as u32 * 3) % 7) / 100.0;
                    cells.push(cell(server, workload, round, us * (1.0 + noise)));
                }
            }
        }
        let servers: Vec<&str> = costs[0].1.iter().map(|(server, _)| *server).collect();
        let workloads: Vec<&str> = costs.iter().map(|(workload, _)| *workload).collect();
        let mut evidence = evidence(&servers, &workloads, cells);
        evidence.sets = vec![set.to_owned()];
        evidence.machine.cpu_model = Some(cpu.to_owned());
        Recorded {
            evidence,
            readme: format!("results/{set}/README.md"),
            tables: Some((
                "results/README.md".to_owned(),
                "<a id=\"cpu-new-connection\"></a>".to_owned(),
            )),
        }
    }

    fn one_choice(sets: &[Recorded]) -> Choice {
        let machines = Machine::all(sets);
        let mut choices = choices(&machines);
        assert_eq!(choices.len(), 1, "{choices:?}");
        choices.remove(0)
    }

    #[test]
    fn machines_that_disagree_about_another_are_named() {
        let sets = [
            recorded(
                "1",
                "Old(R) Processor",
                &[(
                    "new-connection",
                    &[("loop", 10.0), ("iter", 10.0), ("threads", 18.0)],
                )],
            ),
            recorded(
                "2",
                "Old(R) Processor",
                &[(
                    "new-connection",
                    &[("loop", 11.0), ("iter", 11.0), ("threads", 22.0)],
                )],
            ),
            recorded(
                "3",
                "New",
                &[(
                    "new-connection",
                    &[("loop", 5.0), ("iter", 9.0), ("threads", 12.0)],
                )],
            ),
        ];
        let choice = one_choice(&sets);
        assert_eq!(choice.take, "**loop**");
        let (disagreement, others) = choice.because.split_once("; ").unwrap();
        let expected = "**sets disagree**: iter is first or tied on Old, and takes 1.79x (";
        assert!(disagreement.starts_with(expected), "{disagreement}");
        assert!(disagreement.ends_with(") on New"), "{disagreement}");
        assert_eq!(others, "threads 1.78x to 2.38x");
        assert_eq!(choice.link, "results/README.md#cpu-new-connection");
    }

    #[test]
    fn where_nobody_is_first_everywhere_each_machine_has_its_own() {
        let sets = [
            recorded(
                "1",
                "Old",
                &[("pipelined", &[("loop", 10.0), ("iter", 7.0)])],
            ),
            recorded(
                "2",
                "New",
                &[("pipelined", &[("loop", 5.0), ("iter", 9.0)])],
            ),
        ];
        let choice = one_choice(&sets);
        assert_eq!(
            choice.take,
            "**sets disagree**: **iter** on Old; **loop** on New"
        );
        assert!(
            choice.because.starts_with("on Old loop 1.4"),
            "{}",
            choice.because
        );
        assert!(
            choice.because.contains("; on New iter 1.79x ("),
            "{}",
            choice.because
        );
        assert_eq!(choice.link, "results/2/README.md", "no table has that row");
    }

    /// Who is first under one workload of a situation and behind under another is shown where it is behind.
    #[test]
    fn all_workloads_of_a_situation_count() {
        let sets = [recorded(
            "1",
            "A",
            &[
                ("keep-alive-1", &[("loop", 10.0), ("iter", 10.0)]),
                ("open-1k", &[("loop", 10.0), ("iter", 13.0)]),
            ],
        )];
        let choice = one_choice(&sets);
        assert_eq!(choice.take, "**loop**");
        assert!(
            choice.because.starts_with("under open-1k iter 1."),
            "{}",
            choice.because
        );
    }

    /// A wide interval is no tie.
    #[test]
    fn what_is_not_resolved_is_called_that() {
        let mut set = recorded(
            "1",
            "A",
            &[(
                "pipelined",
                &[("loop", 10.0), ("threads", 15.0), ("wild", 12.0)],
            )],
        );
        for cell in &mut set.evidence.cells {
            if cell.server == "wild" {
                let factor = [0.02, 9.0][cell.round as usize % 2];
                cell.server_cpu_us_per_request = Some(12.0 * factor);
            }
        }
        let choice = one_choice(&[set]);
        assert_eq!(choice.take, "**loop**");
        assert!(
            choice.because.contains("not resolved: wild in 1"),
            "{}",
            choice.because
        );
        assert!(!choice.because.contains("tied"), "{}", choice.because);
    }

    #[test]
    fn who_starves_is_not_taken() {
        let mut set = recorded(
            "1",
            "A",
            &[("keep-alive", &[("loop", 4.0), ("iter", 20.0)])],
        );
        for cell in &mut set.evidence.cells {
            let starves = cell.server == "iter";
            cell.connections_never_served = Some(if starves { 63 } else { 0 });
            if starves {
                cell.verdict = Some(engine::verdict::Status::Invalid);
                cell.reasons = Some("starved: 63 of 64".to_owned());
            }
        }
        let sets = [set];
        let machines = Machine::all(&sets);
        let choices = choices(&machines);
        let said: Vec<(&str, &str)> = (choices.iter())
            .map(|it| (it.take.as_str(), it.because.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("**loop**", "not valid: iter"),
                (
                    "not **iter**",
                    "63 of 64 connections got no answer from iter"
                ),
            ]
        );
    }

    #[test]
    fn of_nothing() {
        assert_eq!(choices(&Machine::all(&[])), []);
        let set = recorded("1", "A", &[("unheard-of", &[("loop", 4.0)])]);
        assert_eq!(choices(&Machine::all(&[set])), []);
    }
}
