//! What a request is made of, by cause: stacked bars of CPU time, of system calls and of context switches.

use super::{Axis, Bars, Body, Chart, Findings, Part, spread};
use lab::compare::{Metric, Standing};
use lab::estimate::median;
use lab::set::Cell;
use lab::set::ledger_rows::Pass;
use subject::catalogue::Workload;

/// How much of what.
type Amounts = Vec<(String, f64)>;

/// System calls that get a part of their own; the others share one.
const CALLS_SHOWN: usize = 7;

/// What one request of a server takes under a workload; absent where it was not counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Costs {
    /// Whether the server is compared with others.
    pub(crate) is_sound: bool,
    /// Microseconds.
    pub(crate) cpu_us: Option<f64>,
    /// Of these, the share outside of the kernel, 0 to 1.
    pub(crate) user_share: Option<f64>,
    /// Because a thread waited for something.
    pub(crate) switches_voluntary: Option<f64>,
    /// Because the kernel gave the CPU to another thread.
    pub(crate) switches_involuntary: Option<f64>,
    /// Of both kinds together.
    pub(crate) switches: Option<f64>,
    /// By name, the most frequent first.
    pub(crate) calls: Option<Amounts>,
    /// Most that it had at once; not of one request.
    pub(crate) threads: Option<f64>,
    /// Connections without a single response; not of one request.
    pub(crate) never_served: Option<f64>,
    /// Jain's index; not of one request.
    pub(crate) jain: Option<f64>,
}

impl Costs {
    /// Of that server under that workload.
    pub(crate) fn of(findings: &Findings, server: &str, workload: &str) -> Self {
        let evidence = findings.evidence;
        let rounds = evidence.rounds_shown(server, workload, Metric::Cpu);
        let cells: Vec<&Cell> = (evidence.cells.iter())
            .filter(|it| it.server == server && it.workload == workload)
            .filter(|it| rounds.contains(&it.round))
            .collect();
        let over_rounds = |of: &dyn Fn(&Cell) -> Option<f64>| {
            let mut values: Vec<f64> = cells.iter().filter_map(|cell| of(cell)).collect();
            (!values.is_empty()).then(|| median(&mut values))
        };
        let per_request = |of: fn(&Cell) -> Option<u64>| {
            over_rounds(&|cell: &Cell| {
                let responses = cell.responses.filter(|&count| count > 0)?;
                Some(of(cell)? as f64 / responses as f64)
            })
        };
        let plain = |of: fn(&Cell) -> Option<u64>| over_rounds(&|cell| of(cell).map(|n| n as f64));
        let pass = Pass::of(&evidence.ledger, server, workload);
        let counted = (pass.as_ref()).and_then(|pass| {
            let count = *pass.events.get("context-switches")?;
            Some(pass.per_request(count))
        });
        let calls = pass.map(|pass| {
            let calls = pass.calls.iter();
            let mut calls: Amounts = calls
                .map(|(name, &count)| (name.clone(), pass.per_request(count)))
                .collect();
            calls.sort_by(|a, b| b.1.total_cmp(&a.1));
            calls
        });
        let entry = findings.entry(Metric::Cpu, workload, server);
        let standing = entry.map(|entry| entry.standing);
        Costs {
            is_sound: standing == Some(Standing::Ranked),
            cpu_us: over_rounds(&|cell| cell.server_cpu_us_per_request),
            user_share: over_rounds(&|cell| {
                let (user, system) = (cell.server_cpu_user_s?, cell.server_cpu_system_s?);
                (user + system > 0.0).then(|| user / (user + system))
            }),
            switches_voluntary: per_request(|cell| cell.server_context_switches_voluntary),
            switches_involuntary: per_request(|cell| cell.server_context_switches_involuntary),
            // Cells miss the switches of threads that have ended; the pass counts them.
            switches: per_request(|cell| cell.server_context_switches).or(counted),
            calls: calls.filter(|calls| !calls.is_empty()),
            threads: plain(|cell| cell.server_threads_max),
            never_served: plain(|cell| cell.connections_never_served),
            jain: over_rounds(&|cell| cell.fairness_jain),
        }
    }

    /// System calls of all kinds.
    pub(crate) fn calls_all(&self) -> Option<f64> {
        Some(
            self.calls
                .as_ref()?
                .iter()
                .fold(0.0, |sum, (_, count)| sum + count),
        )
    }

    /// Threads and processes that were started.
    pub(crate) fn threads_started(&self) -> Option<f64> {
        let is_clone = |name: &str| matches!(name, "clone" | "clone3" | "fork" | "vfork");
        let calls = self.calls.as_ref()?.iter();
        let starts = calls.filter(|(name, _)| is_clone(name));
        Some(starts.fold(0.0, |sum, (_, count)| sum + count))
    }
}

/// Which of the three charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// CPU time, user and system.
    Cpu,
    /// System calls by name.
    Calls,
    /// Context switches by kind.
    Switches,
}

/// A chart of the ledger of a workload; `None` where nothing of that kind was recorded.
pub(crate) fn chart(findings: &Findings, workload: &Workload, ledger: Ledger) -> Option<Chart> {
    let servers: Vec<(&String, Costs)> = (findings.evidence.servers.iter())
        .map(|server| (server, Costs::of(findings, server, &workload.name)))
        .collect();
    let (id, title, axis) = match ledger {
        Ledger::Cpu => (
            "cpu-parts",
            "CPU time of a request",
            "server CPU, µs per request",
        ),
        Ledger::Calls => (
            "calls",
            "System calls of a request",
            "system calls per request",
        ),
        Ledger::Switches => (
            "switches",
            "Context switches of a request",
            "context switches per request",
        ),
    };
    let parts_of: fn(&Costs) -> Option<Amounts> = match ledger {
        Ledger::Cpu => |costs| {
            let (cpu, share) = (costs.cpu_us?, costs.user_share?);
            Some(vec![
                ("user".to_owned(), cpu * share),
                ("system".to_owned(), cpu * (1.0 - share)),
            ])
        },
        Ledger::Calls => |costs| costs.calls.clone(),
        Ledger::Switches => |costs| match (costs.switches_voluntary, costs.switches_involuntary) {
            (Some(waited), Some(pushed)) => Some(vec![
                ("voluntary (waiting)".to_owned(), waited),
                ("involuntary (preempted)".to_owned(), pushed),
            ]),
            _ => Some(vec![("both kinds".to_owned(), costs.switches?)]),
        },
    };
    let known: Vec<(&String, &Costs, Amounts)> = (servers.iter())
        .filter_map(|(server, costs)| Some((*server, costs, parts_of(costs)?)))
        .collect();
    let bars = Bars {
        servers: known.iter().map(|(server, ..)| (*server).clone()).collect(),
        is_sound: known.iter().map(|(_, costs, _)| costs.is_sound).collect(),
        parts: parts(
            &known
                .iter()
                .map(|(.., parts)| parts.as_slice())
                .collect::<Vec<_>>(),
            ledger == Ledger::Calls,
        ),
    };
    let totals: Vec<(String, f64, f64)> = (bars.servers.iter().enumerate())
        .map(|(at, server)| (server.clone(), bars.total(at), bars.total(at)))
        .collect();
    Chart {
        id: format!("{id}-{}", workload.name),
        title: format!("{title}, {}", workload.name),
        x: Axis::linear(axis),
        y: Axis::linear(""),
        body: Body::Bars(bars),
        beside: spread::outliers(&totals, false),
    }
    .unless_empty()
}

/// The parts of all bars by name, in the order of the first bar or the largest first; the smallest are added
/// up where there are too many.
fn parts(bars: &[&[(String, f64)]], largest_first: bool) -> Vec<Part> {
    let mut names: Vec<(&str, f64)> = Vec::new();
    for (name, value) in bars.iter().copied().flatten() {
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += value,
            None => names.push((name, *value)),
        }
    }
    if largest_first {
        names.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    let value_in = |bar: &[(String, f64)], name: &str| -> f64 {
        let found = bar.iter().find(|(known, _)| known == name);
        found.map_or(0.0, |(_, value)| *value)
    };
    let shown = match names.len() {
        // One more part is as good as one for the rest.
        n if n <= CALLS_SHOWN + 1 => n,
        _ => CALLS_SHOWN,
    };
    let (large, small) = names.split_at(shown);
    let mut parts: Vec<Part> = (large.iter())
        .map(|(name, _)| Part {
            name: (*name).to_owned(),
            values: bars.iter().map(|bar| value_in(bar, name)).collect(),
        })
        .collect();
    if !small.is_empty() {
        let rest = |bar: &&[(String, f64)]| small.iter().map(|(name, _)| value_in(bar, name)).sum();
        parts.push(Part {
            name: format!("{} others", small.len()),
            values: bars.iter().map(rest).collect(),
        });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_are_put_together() {
        let bar = |values: &[f64]| -> Amounts {
            let named = values.iter().enumerate();
            named
                .map(|(n, &value)| (format!("call-{n}"), value))
                .collect()
        };
        let (one, two) = (
            bar(&[1.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]),
            bar(&[0.5, 1.0]),
        );
        let found = parts(&[&one, &two], true);
        assert_eq!(found.len(), CALLS_SHOWN + 1);
        assert_eq!(
            (found[0].name.as_str(), &found[0].values),
            ("call-1", &vec![9.0, 1.0])
        );
        assert_eq!(
            (found[7].name.as_str(), &found[7].values),
            ("2 others", &vec![3.0, 0.5])
        );
        let sum: f64 = found.iter().map(|part| part.values[0]).sum();
        assert_eq!(sum, 45.0, "no part is lost");
        let few = bar(&[1.0, 2.0]);
        assert_eq!(parts(&[&few], false)[0].name, "call-0", "in their order");
    }
}
