//! A calibration as text for a terminal of 80 columns: what was found, and what it means.

use std::time::Duration;

use super::document::Document;
use super::format::text::WIDTH;
use super::grid::Grid;
use engine::affinity::list_of;
use engine::figures::{count, figure, thousands, time};
use engine::latency::TOO_FEW;
use lab::calibration::{Calibration, Ceiling, Limit, NEAR_CEILING, Round, Standing};

/// A table of medians with their range over rounds, a paragraph for each ceiling, and a further table if
/// other generators were measured.
pub fn text(calibration: &Calibration) -> String {
    document(calibration).text(WIDTH)
}

fn document(calibration: &Calibration) -> Document {
    let mut document = Document::default();
    document.table(&circumstances(calibration), "", limits(calibration));
    for meaning in meanings(calibration) {
        document.paragraph(meaning);
    }
    if !calibration.against.is_empty() {
        against(calibration, &mut document);
    }
    document
}

/// What the generator can do.
fn limits(calibration: &Calibration) -> Grid {
    let header = ["", "median", "range over rounds", "limited by"];
    let mut grid = Grid::new(header, 1).wide(0).with_remark();
    let ceilings = [
        (
            format!("requests/s, {} kept alive", calibration.connections),
            "request",
            calibration.requests_limited_by,
            ceiling_of_requests as fn(&Round) -> &Ceiling,
        ),
        (
            "connections/s, 1 request on each".to_owned(),
            "connection",
            calibration.connections_limited_by,
            ceiling_of_connections,
        ),
    ];
    for (what, unit, limit, ceiling) in ceilings {
        let values = |value: fn(&Ceiling) -> f64| {
            let values = calibration.rounds.iter().map(ceiling).map(value);
            values.collect::<Vec<_>>()
        };
        grid.row(measure(what, &values(|it| it.per_s), figure, name(limit)));
        for (who, cpu) in [
            ("client", values(|it| it.client_cpu_us)),
            ("responder", values(|it| it.floor_cpu_us)),
        ] {
            let what = format!("  {who} CPU for each {unit}");
            grid.row(measure(what, &cpu, time, ""));
        }
    }
    for (what, value) in [
        (
            "response time, 1 connection, p50",
            (|round| round.latency_us.p50) as fn(&Round) -> Option<f64>,
        ),
        ("response time, 1 connection, p99", |round| {
            round.latency_us.p99
        }),
        ("own lag, open loop, 5,000/s, p50", |round| round.lag_us.p50),
        ("own lag, open loop, 5,000/s, p99", |round| round.lag_us.p99),
    ] {
        let values: Vec<f64> = calibration.rounds.iter().filter_map(value).collect();
        grid.row(match values.is_empty() {
            true => [
                what.to_owned(),
                TOO_FEW.to_owned(),
                String::new(),
                String::new(),
            ],
            false => measure(what.to_owned(), &values, time, ""),
        });
    }
    grid
}

/// What the limits say about measurements, and what makes them doubtful.
fn meanings(calibration: &Calibration) -> Vec<String> {
    let mut meanings = Vec::new();
    for (what, limit, ceiling, per_s) in [
        (
            "Requests",
            calibration.requests_limited_by,
            ceiling_of_requests as fn(&Round) -> &Ceiling,
            calibration.requests_per_s,
        ),
        (
            "Connections",
            calibration.connections_limited_by,
            ceiling_of_connections,
            calibration.connections_per_s,
        ),
    ] {
        let ceilings: Vec<&Ceiling> = calibration.rounds.iter().map(ceiling).collect();
        let meaning = format!("{what}: {}", meaning(calibration, limit, &ceilings, per_s));
        meanings.push(meaning);
    }
    for (number, round) in (1..).zip(&calibration.rounds) {
        for doubt in &round.doubts {
            meanings.push(format!("Doubtful in round {number}: {doubt}."));
        }
    }
    meanings
}

fn ceiling_of_requests(round: &Round) -> &Ceiling {
    &round.requests
}

fn ceiling_of_connections(round: &Round) -> &Ceiling {
    &round.connections
}

fn circumstances(calibration: &Calibration) -> String {
    let pinning = &calibration.pinning;
    let places = match (pinning.client.first(), pinning.server.is_empty()) {
        (Some(cpu), false) => format!(
            "one thread on CPU {cpu}, responder on {}",
            list_of(&pinning.server)
        ),
        _ => "one thread, not pinned apart from the responder".to_owned(),
    };
    let rounds = calibration.rounds.len();
    let duration = Duration::from_secs_f64(calibration.duration_s);
    format!(
        "Limits of the generator: {places}; {} of {}{}",
        count(rounds as u64, "round"),
        humantime::format_duration(duration),
        match calibration.steal_percent {
            Some(percent) if percent >= 0.5 =>
                format!("; the hypervisor took {percent:.1}% of all CPU time"),
            _ => String::new(),
        }
    )
}

/// A row with the median of values and their range; the latter only if there are several.
fn measure(what: String, values: &[f64], shown: fn(f64) -> String, limit: &str) -> [String; 4] {
    let median = lab::median::median(&mut values.to_vec());
    [what, shown(median), range(values, shown), limit.to_owned()]
}

/// `4.81 to 5.02`; nothing for a single value.
fn range(values: &[f64], shown: fn(f64) -> String) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        0 | 1 => String::new(),
        _ => format!("{} to {}", shown(least), shown(most)),
    }
}

fn name(limit: Limit) -> &'static str {
    match limit {
        Limit::Generator => "generator",
        Limit::Floor => "responder",
        Limit::Neither => "neither",
    }
}

/// What a ceiling says about measurements on this machine.
fn meaning(calibration: &Calibration, limit: Limit, ceilings: &[&Ceiling], per_s: f64) -> String {
    let busy = |value: fn(&Ceiling) -> f64| {
        let mut shares: Vec<f64> = ceilings.iter().copied().map(value).collect();
        format!("{:.0}%", lab::median::median(&mut shares) * 100.0)
    };
    let (client, responder) = (busy(|it| it.client_busy), busy(|it| it.floor_busy));
    match limit {
        Limit::Generator => format!(
            "this is the generator's own ceiling: its thread was busy {client} of the time. A server \
             that reaches more than {:.0}% of it, {}/s for each thread of the generator, was measured \
             at the generator's limit.",
            NEAR_CEILING * 100.0,
            figure(NEAR_CEILING * per_s)
        ),
        Limit::Floor => format!(
            "the responder was the limit, busy {responder} of the time, and the generator's thread only \
             {client}. The generator can do more than this; how much more, the responder cannot show."
        ),
        Limit::Neither => {
            let pinning = &calibration.pinning;
            let why = match pinning.client.is_empty() || pinning.server.is_empty() {
                true => "They share CPUs, so this is what both can do together.",
                false => {
                    "Something else takes their CPUs, or keeps them waiting: calibrate again when \
                     the machine is quiet."
                }
            };
            format!(
                "neither the generator's thread, busy {client} of the time, nor the responder, busy \
                 {responder}, was at its limit. {why}"
            )
        }
    }
}

/// A row for each generator, then which of its own reports are wrong.
fn against(calibration: &Calibration, document: &mut Document) {
    let header = [
        "",
        "client CPU\nper request",
        "ratio to loadgen's\n(range over rounds)",
        "requests/s\nreported",
        "version",
    ];
    let mut grid = Grid::new(header, 1).wide(0).with_remark();
    let ratio = |value: f64| format!("{value:.2}");
    let loadgens = (calibration.against.first()).map_or(&[][..], |loadgen| &loadgen.runs);
    for standing in &calibration.against {
        let ratios: Vec<f64> = (standing.runs.iter().zip(loadgens))
            .map(|(its, ours)| its.client_cpu_us_per_request() / ours.client_cpu_us_per_request())
            .collect();
        let range = match range(&ratios, ratio) {
            range if range.is_empty() || standing.runs == loadgens => String::new(),
            range => format!(" ({range})"),
        };
        grid.row([
            standing.program.clone(),
            time(standing.client_cpu_us_per_request),
            format!("{}{range}", ratio(standing.ratio)),
            figure(standing.requests_per_s),
            standing.version.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let title = format!(
        "Compared with other generators, with {} connections kept alive",
        calibration.connections
    );
    document.table(&title, "", grid);
    for standing in &calibration.against {
        for note in notes(standing, calibration.connections) {
            document.paragraph(note);
        }
    }
    document.paragraph(
        "Requests are counted by the responder. CPU time is that of the whole process, including its start and \
         its report.",
    );
}

/// In which rounds a generator reports a wrong count, or errors.
fn notes(standing: &Standing, connections: usize) -> Vec<String> {
    let mut notes = Vec::new();
    for (round, run) in (1..).zip(&standing.runs) {
        let program = &standing.program;
        if let Some(share) = run.false_share(connections) {
            notes.push(format!(
                "{program} reports {} requests in round {round}; the responder counted {}, so the report is \
                 {:.1}% too {}.",
                thousands(run.claim.requests),
                thousands(run.requests),
                share.abs() * 100.0,
                if share > 0.0 { "high" } else { "low" }
            ));
        }
        if run.claim.errors > 0 {
            let errors = thousands(run.claim.errors);
            notes.push(format!(
                "{program} reports {errors} errors in round {round}."
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::against::{Claim, Run};
    use lab::calibration::{Latency, Setup};
    use subject::machine::{Machine, Pinning, Siblings};

    fn ceiling(per_s: f64, client_busy: f64, floor_busy: f64) -> Ceiling {
        Ceiling {
            per_s,
            client_cpu_us: client_busy * 1e6 / per_s,
            floor_cpu_us: floor_busy * 1e6 / per_s,
            client_busy,
            floor_busy,
        }
    }

    fn calibration(pinning: Pinning, rounds: &[(f64, f64, f64)]) -> Calibration {
        let setup = Setup {
            date: "2026-01-01T00:00:00Z".to_owned(),
            machine: Machine {
                cpus: 2,
                pinning,
                ..Machine::default()
            },
            duration_s: 0.5,
            connections: 64,
        };
        let round = |&(per_s, client_busy, floor_busy): &(f64, f64, f64)| Round {
            requests: ceiling(per_s, client_busy, floor_busy),
            connections: ceiling(per_s / 8.0, floor_busy, client_busy),
            latency_us: Latency {
                p50: Some(2.1e6 / per_s),
                p99: None,
            },
            lag_us: Latency {
                p50: Some(5.0),
                p99: Some(20.0),
            },
            doubts: Vec::new(),
        };
        Calibration::of(setup, rounds.iter().map(round).collect())
    }

    fn run(client_cpu_s: f64, requests: u64, claimed: u64, errors: u64) -> Run {
        Run {
            client_cpu_s,
            requests,
            claim: Claim {
                requests: claimed,
                requests_per_s: claimed as f64,
                errors,
            },
        }
    }

    fn within_80_columns(text: &str) {
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn three_rounds_beside_others() {
        let halves = Pinning::split(&[0, 1], &Siblings::new());
        let rounds = [
            (190_000.0, 0.99, 0.88),
            (183_000.0, 0.98, 0.87),
            (196_000.0, 0.99, 0.9),
        ];
        let mut calibration = calibration(halves, &rounds);
        calibration.steal_percent = Some(2.25);
        calibration.rounds[1].doubts = vec![
            "connections/s: Little's law is off: 0.9 requests were in flight on average, 1 should \
             have been"
                .to_owned(),
        ];
        let ours = [190_000, 180_000, 200_000].map(|n| run(0.98, n, n, 0));
        let theirs = [
            run(0.99, 140_000, 139_990, 0),
            run(0.98, 150_000, 165_000, 12),
            run(0.99, 144_000, 144_000, 0),
        ];
        let standing = |name: &str, version: Option<&str>, runs: &[Run]| {
            let version = version.map(str::to_owned);
            Standing::of(name, version, runs.to_vec(), &ours)
        };
        (calibration.against).extend(standing("loadgen", Some("0.1.0"), &ours));
        let wrk = standing("wrk", Some("debian/4.1.0-3+b2"), &theirs);
        calibration.against.extend(wrk);
        calibration
            .against
            .extend(standing("hey", None, &theirs[..1]));
        let text = text(&calibration);
        within_80_columns(&text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn one_round_with_nobody_at_the_limit() {
        let apart = calibration(
            Pinning::split(&[0, 1], &Siblings::new()),
            &[(190_000.0, 0.8, 0.7)],
        );
        let text_apart = text(&apart);
        within_80_columns(&text_apart);
        insta::assert_snapshot!(text_apart);
        let shared = calibration(Pinning::default(), &[(190_000.0, 0.5, 0.4)]);
        let text_shared = text(&shared);
        within_80_columns(&text_shared);
        assert!(text_shared.contains("They share CPUs"), "{text_shared}");
    }
}
