//! The reader's first questions, answered in words from the evidence.

use crate::chart::ledger_bars::Costs;
use crate::chart::{Findings, Load, LoadShape, count, number, rate_of, with_interval};
use crate::situations::{Podium, Rates, few, starved, times};
use engine::figures::figure;
use engine::figures::thousands;
use lab::compare::{Metric, Standing};
use subject::catalogue::Workload;

/// A question and what the evidence says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// In a newcomer's words.
    pub(super) question: String,
    /// In a few words.
    pub(super) short: String,
    /// Sentences with figures.
    pub(super) sentences: Vec<String>,
    /// The anchor of what shows it.
    pub(super) shown_by: String,
}

/// Connections of the loads that are asked about.
const CONNECTIONS: usize = 64;
/// More of the same kind are summed up.
const SENTENCES: usize = 3;

/// Every question that the evidence answers.
pub(super) fn all(findings: &Findings) -> Vec<Answer> {
    let keep_alive = Load::nearest(findings.evidence, LoadShape::KEEP_ALIVE, CONNECTIONS);
    let churn = Load::nearest(findings.evidence, LoadShape::NEW_CONNECTION, CONNECTIONS);
    let mut answers = Vec::new();
    answers.extend(keep_alive.map(|it| {
        let question = format!(
            "Which server wins at {} keep-alive connections?",
            thousands(it.connections as u64)
        );
        who_wins(findings, it, question)
    }));
    answers.extend(churn.map(|it| {
        let question = "Which server wins when every request comes on a new connection?".to_owned();
        who_wins(findings, it, question)
    }));
    answers.extend(keep_alive.and_then(|it| threads(findings, it, churn)));
    answers.push(starving(findings));
    answers.extend(open_loop(findings));
    answers.extend(idle(findings));
    answers
}

fn who_wins(findings: &Findings, workload: &Workload, question: String) -> Answer {
    let name = &workload.name;
    let cpu = Podium::of(findings, Metric::Cpu, name);
    let throughput = Podium::of(findings, Metric::Throughput, name);
    let mut sentences = Vec::new();
    sentences.extend(first_sentence(&cpu, "least CPU per request", "µs"));
    sentences.extend(behind_sentence(&cpu));
    sentences.extend(first_sentence(
        &throughput,
        "highest throughput",
        "requests/s",
    ));
    sentences.extend(behind_sentence(&throughput));
    if throughput.first.is_empty() && throughput.is_hidden() {
        let bound = (throughput.unranked.iter())
            .filter(|(_, entry)| entry.standing == Standing::ClientBound)
            .map(|(server, _)| server.as_str());
        sentences.push(format!(
            "No server is first by throughput: the generator was the bottleneck of {}, which can do more.",
            few(bound)
        ));
    }
    let invalid = (cpu.unranked.iter()).filter(|(_, entry)| entry.standing != Standing::Ranked);
    let invalid: Vec<_> = invalid.collect();
    if invalid.len() > SENTENCES {
        let names = few(invalid.iter().map(|(server, _)| server.as_str()));
        sentences.push(format!("Not ranked: {names}; the verdicts say why."));
    } else {
        for (server, entry) in invalid {
            let remark = findings.remark(entry, server, name).unwrap_or_default();
            sentences.push(format!("Not ranked: {server}, {remark}."));
        }
    }
    let short = match (cpu.first.len(), cpu.behind.first()) {
        (0, _) => "None: no server can be compared.".to_owned(),
        (1, Some((server, entry))) => match entry.ratio.as_ref().and_then(|it| it.interval) {
            Some((low, high)) => format!(
                "{}, by CPU per request: {server}, the next, takes {:.0}% more ({}).",
                cpu.names(),
                100.0 * (entry.ratio.map_or(1.0, |it| it.value) - 1.0),
                percent_more(low, high)
            ),
            None => format!("{}, by CPU per request.", cpu.names()),
        },
        (1, None) => format!("{}, the only server that can be compared.", cpu.names()),
        (_, next) => {
            let next = next.and_then(|(server, entry)| Some((server, entry.ratio.as_ref()?)));
            let next = next.map_or(String::new(), |(server, ratio)| {
                format!("; the next is {server} with {}", times(ratio))
            });
            format!(
                "{} share the first rank by CPU per request{next}.",
                cpu.names()
            )
        }
    };
    Answer {
        question,
        short,
        sentences,
        shown_by: format!("workload-{name}"),
    }
}

/// `10–15%`, of the interval of a ratio.
fn percent_more(low: f64, high: f64) -> String {
    format!("{:.0}–{:.0}%", 100.0 * (low - 1.0), 100.0 * (high - 1.0))
}

fn first_sentence(podium: &Podium, what: &str, unit: &str) -> Option<String> {
    let (server, best) = podium.first.first()?;
    let value = with_interval(&best.value?, number);
    let of_floor = match &best.of_floor {
        Some(ratio) => format!(", {} the floor", times(ratio)),
        None => String::new(),
    };
    let ending = match podium.first.len() {
        1 => ".".to_owned(),
        _ => format!(
            "; tied with it: {}.",
            few(podium.first[1..].iter().map(|(server, _)| server.as_str()))
        ),
    };
    Some(format!(
        "{server} has the {what}: {value} {unit}{of_floor}{ending}"
    ))
}

fn behind_sentence(podium: &Podium) -> Option<String> {
    let behind = podium.behind.iter();
    let texts: Vec<String> = behind
        .filter_map(|(server, entry)| Some(format!("{server} {}", times(entry.ratio.as_ref()?))))
        .collect();
    match texts.len() {
        0 => None,
        1..=5 => Some(format!("Behind it: {}.", texts.join(", "))),
        more => Some(format!(
            "Behind it: {}, and {} more, the last of them {}.",
            texts[..3].join(", "),
            more - 3,
            texts[more - 1]
        )),
    }
}

/// Why a server that has a thread for every connection costs more than the cheapest, if there is one.
fn threads(findings: &Findings, stay: &Workload, churn: Option<&Workload>) -> Option<Answer> {
    let evidence = findings.evidence;
    let threaded = (evidence.servers.iter())
        .filter(|server| evidence.competes(server))
        .find(|server| {
            let costs = Costs::of(findings, server, &stay.name);
            costs.is_sound
                && costs
                    .threads
                    .is_some_and(|it| it >= stay.connections as f64)
        })?;
    let mut sentences = Vec::new();
    let threads = Costs::of(findings, threaded, &stay.name).threads?;
    sentences.push(format!(
        "{threaded} runs {} threads for {} connections.",
        count(threads),
        count(stay.connections as f64)
    ));
    let mut ratios = Vec::new();
    let mut causes = Vec::new();
    for workload in [Some(stay), churn].into_iter().flatten() {
        let podium = Podium::of(findings, Metric::Cpu, &workload.name);
        let Some((lean, _)) = podium.first.first() else {
            continue;
        };
        let entry = findings.entry(Metric::Cpu, &workload.name, threaded)?;
        let Some(ratio) = entry.ratio.filter(|_| lean != &threaded) else {
            continue;
        };
        let (mine, theirs) = (
            Costs::of(findings, threaded, &workload.name),
            Costs::of(findings, lean, &workload.name),
        );
        let mut counts = Vec::new();
        let mut beside = |what: &str, of: fn(&Costs) -> Option<f64>| -> Option<(f64, f64)> {
            let pair = (of(&mine)?, of(&theirs)?);
            if pair.0.max(pair.1) < 0.005 {
                return None;
            }
            counts.push(format!(
                "{} {what} (against {})",
                figure(pair.0),
                figure(pair.1)
            ));
            Some(pair)
        };
        let switches = beside("context switches", |it| it.switches);
        beside("system calls", Costs::calls_all);
        let starts = beside("threads started", Costs::threads_started);
        if switches.is_some_and(|(mine, theirs)| mine > 1.5 * theirs && mine > 0.1) {
            causes.push("a context switch for each request");
        }
        if starts.is_some_and(|(mine, theirs)| mine > theirs + 0.1) {
            causes.push("a new thread for each connection");
        }
        let counts = match counts.is_empty() {
            true => "what a request takes was not counted".to_owned(),
            false => format!("each request takes {}", counts.join(", ")),
        };
        sentences.push(format!(
            "Under {} it needs {} the CPU of {lean}: {counts}.",
            workload.name,
            times(&ratio)
        ));
        ratios.push((workload, ratio));
    }
    let calls_counted = !evidence.ledger.is_empty();
    if !calls_counted {
        sentences.push("System calls were not counted in this set.".to_owned());
    }
    let costs_more = (ratios.iter()).any(|(_, ratio)| ratio.tells_apart() && ratio.value > 1.0);
    causes.dedup();
    let by = (ratios.iter())
        .map(|(workload, ratio)| format!("{:.2}x under {}", ratio.value, workload.name))
        .collect::<Vec<_>>()
        .join(", ");
    Some(Answer {
        question: match costs_more {
            true => "Why do threads cost more?".to_owned(),
            false => "Do threads cost more?".to_owned(),
        },
        short: match (costs_more, causes.is_empty()) {
            (true, false) => format!(
                "They pay for {}. CPU against the best: {by}.",
                causes.join(" and ")
            ),
            (true, true) => format!("They do ({by}); what they pay for was not counted."),
            (false, _) if by.is_empty() => "No: no server is cheaper.".to_owned(),
            (false, _) => format!("No difference was shown ({by})."),
        },
        sentences,
        shown_by: "ledger".to_owned(),
    })
}

/// Which servers leave connections without an answer.
fn starving(findings: &Findings) -> Answer {
    let evidence = findings.evidence;
    let mut sentences = Vec::new();
    let mut names = Vec::new();
    for server in &evidence.servers {
        let starved = starved(findings, server);
        // The first of the worst.
        let Some((worst, never)) = (starved.iter().rev()).max_by(|a, b| a.1.total_cmp(&b.1)) else {
            continue;
        };
        names.push(server.as_str());
        let further = match starved.len() - 1 {
            0 => String::new(),
            1 => ", and some under another workload".to_owned(),
            n => format!(", and some under {n} other workloads"),
        };
        sentences.push(format!(
            "{server} leaves {} of {} connections without a single answer under {}{further}.",
            count(*never),
            count(worst.connections as f64),
            worst.name
        ));
    }
    if sentences.len() > SENTENCES + 1 {
        let more = sentences.split_off(SENTENCES).len();
        sentences.push(format!(
            "{more} more do so; the table of fairness has them."
        ));
    }
    Answer {
        question: "Which servers starve connections?".to_owned(),
        short: match names.is_empty() {
            true => "None: every connection was served.".to_owned(),
            false => format!("{}.", few(names.into_iter())),
        },
        sentences,
        shown_by: "fairness".to_owned(),
    }
}

/// Which server answers soonest at the highest rate that all competing servers can take.
fn open_loop(findings: &Findings) -> Option<Answer> {
    let rates = Rates::of(findings)?;
    let top = rates.decided?;
    let podium = Podium::of(findings, Metric::P99, &top.name);
    let rate = |it: &Workload| count(rate_of(it));
    let mut sentences = Vec::new();
    sentences.extend(first_sentence(&podium, "lowest p99", "µs"));
    sentences.extend(behind_sentence(&podium));
    let mut by_rate: Vec<(&Workload, Vec<&str>)> = Vec::new();
    for (server, last) in &rates.held {
        match by_rate.iter_mut().find(|(it, _)| it.name == last.name) {
            Some((_, servers)) => servers.push(server),
            None => by_rate.push((*last, vec![server])),
        }
    }
    by_rate.sort_by(|(a, _), (b, _)| rate_of(b).total_cmp(&rate_of(a)));
    let limits: Vec<String> = (by_rate.iter())
        .map(|(last, servers)| format!("{}/s by {}", rate(last), few(servers.iter().copied())))
        .collect();
    sentences.push(format!("Highest rates held: {}.", limits.join("; ")));
    Some(Answer {
        question: "Which server answers soonest under a given load?".to_owned(),
        short: match podium.first.len() {
            0 | 1 => format!("{}, by p99 at {} requests/s.", podium.names(), rate(top)),
            _ => format!(
                "{} share the first rank by p99 at {} requests/s.",
                podium.names(),
                rate(top)
            ),
        },
        sentences,
        shown_by: "rates".to_owned(),
    })
}

/// Which server pays least for idle connections.
fn idle(findings: &Findings) -> Option<Answer> {
    let evidence = findings.evidence;
    let workload = evidence
        .workloads
        .iter()
        .max_by_key(|it| it.idle)
        .filter(|it| it.idle > 0)?;
    let podium = Podium::of(findings, Metric::IdleMemory, &workload.name);
    let mut sentences = Vec::new();
    sentences.extend(first_sentence(&podium, "smallest memory for each", "bytes"));
    sentences.extend(behind_sentence(&podium));
    (!podium.first.is_empty()).then(|| Answer {
        question: format!(
            "Which server holds {} idle connections most cheaply?",
            thousands(workload.idle as u64)
        ),
        short: format!("{}.", podium.names()),
        sentences,
        shown_by: format!("workload-{}", workload.name),
    })
}
