//! `loadgen explain`: its prices are of this machine, its sums are of the set.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use engine::affinity::own_cpus;
use engine::plan::Pace;
use engine::record::{ClientCost, Outcome, Record};
use engine::verdict::{Status, Verdict};
use lab::explain::Explanation;
use lab::primitives::{ALL, Primitive, Primitives};
use lab::set::ledger_rows::Row;
use lab::set::{Campaign, Key, Writer};
use lab::set::{Cell, SCHEMA};
use subject::catalogue::Workload;
use subject::ledger::{EVENTS, Kind};
use subject::machine::{Machine, Pinning, siblings_of};
use subject::process::ServerCost;

const SERVERS: [&str; 2] = ["quick", "slow"];

/// A set measured where `machine` says, of two servers; `slow` has twice the calls and three times the cost.
fn set(parent: &Path, machine: &Machine, ledger: &[Row]) -> String {
    let campaign = Campaign {
        schema: SCHEMA,
        command: "loadgen measure --seed 7".to_owned(),
        started: "2025-01-02T03:04:05Z".to_owned(),
        seed: 7,
        rounds: 1,
        servers: SERVERS.map(str::to_owned).to_vec(),
        aa: None,
        floor: None,
        references: Vec::new(),
        server_groups: Default::default(),
        ledger: false,
        server_args: Vec::new(),
        auto: None,
        workloads: vec![Workload {
            groups: Vec::new(),
            name: "stay".to_owned(),
            connections: 2,
            idle: 0,
            requests_per_connection: 0,
            pipeline: 1,
            pace: Pace::Closed,
            duration: Duration::from_secs(1),
            warmup: Duration::ZERO,
            analysis: String::new(),
        }],
    };
    let build = subject::machine::Build::default();
    let mut writer = Writer::create(parent, &campaign, machine, &build).unwrap();
    for key in campaign.cells() {
        writer
            .append(&cell(&key), &[], SystemTime::now(), Duration::from_secs(1))
            .unwrap();
    }
    if !ledger.is_empty() {
        writer.append_ledger(ledger).unwrap();
    }
    let name = writer.path().file_name().unwrap();
    name.to_str().unwrap().to_owned()
}

fn cell(key: &Key) -> Cell {
    let mut record = Record::new(2);
    record.counts.responses = 1_000_000;
    record.counts.answered_in_window = 1_000_000;
    record.counts.bytes_received = 130_000_000;
    let outcome = Outcome {
        record,
        duration: Duration::from_secs(1),
        interrupted: false,
        idle: None,
        client: ClientCost::default(),
        steal: None,
    };
    let cost = ServerCost {
        cpu_user_s: 1.0,
        cpu_system_s: if key.server == "quick" { 3.0 } else { 11.0 },
        context_switches: Some(1),
        threads_max: 2,
        rss_bytes_max: 1,
        ..ServerCost::default()
    };
    let verdict = Verdict {
        status: Status::Valid,
        reasons: Vec::new(),
        advice: Vec::new(),
        notes: Vec::new(),
    };
    Cell::measured(
        key,
        "2025-01-02T03:04:06Z".to_owned(),
        &outcome,
        Some(&cost),
        &verdict,
    )
}

fn ledger() -> Vec<Row> {
    let row = |server: &str, name: &str, count| Row {
        server: server.to_owned(),
        workload: "stay".to_owned(),
        started: "2025-01-02T03:04:06Z".to_owned(),
        error: None,
        responses: 1_000,
        connections: 0,
        kind: Some(Kind::Call),
        name: name.to_owned(),
        count,
    };
    // Events come last: a pass without them was cut off.
    let events = |server: &str| {
        EVENTS.map(|name| Row {
            kind: Some(Kind::Event),
            ..row(server, name, 0)
        })
    };
    let mut rows = vec![
        row("quick", "recvfrom", 1_000),
        row("quick", "sendto", 1_000),
    ];
    rows.extend(events("quick"));
    rows.extend([row("slow", "recvfrom", 2_000), row("slow", "sendto", 2_000)]);
    rows.extend(events("slow"));
    rows
}

fn here() -> Machine {
    let cpus = own_cpus();
    Machine::here(cpus.len(), Pinning::split(&cpus, &siblings_of(&cpus)))
}

fn explain(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("explain")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// One run that measures, as that takes seconds; all others use its prices.
#[test]
fn prices_are_measured_kept_and_used_again() {
    let parent = tempfile::tempdir().unwrap();
    let set = set(parent.path(), &here(), &ledger());
    let output = explain(parent.path(), &[&set, "--json", "prices.json"]);
    let text = stdout(&output);
    let json = std::fs::read_to_string(parent.path().join("prices.json")).unwrap();
    let first: Explanation = serde_json::from_str(&json).unwrap();
    assert!(!stderr(&output).contains("warning"), "{output:?}");
    relations_hold(&first.primitives);
    sums_are_of_the_set(&first);

    let again = explain(parent.path(), &[&set, "--primitives", "prices.json"]);
    assert_eq!(stdout(&again), text);
    assert!(!stderr(&again).contains("measuring"), "{again:?}");

    // Alone in a file too.
    let alone = serde_json::to_string(&first.primitives).unwrap();
    std::fs::write(parent.path().join("alone.json"), alone).unwrap();
    let again = explain(parent.path(), &[&set, "--primitives", "alone.json"]);
    assert_eq!(stdout(&again), text);

    let json = explain(
        parent.path(),
        &[&set, "--primitives", "alone.json", "--json", "-"],
    );
    let json: Explanation = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(json.workloads[0].servers.len(), 2);

    let one = ["--primitives", "alone.json", "--servers", "slow", "--items"];
    let one = stdout(&explain(parent.path(), &[&[&*set], &one[..]].concat()));
    assert!(
        one.contains("slow under stay") && !one.contains("quick"),
        "{one}"
    );
    assert!(one.contains("bare system call"), "{one}");

    let markdown = ["--primitives", "alone.json", "--format", "markdown"];
    let markdown = stdout(&explain(parent.path(), &[&[&*set], &markdown[..]].concat()));
    assert!(markdown.contains("| slow |"), "{markdown}");

    let html = ["--primitives", "alone.json", "--format", "html"];
    let html = stdout(&explain(parent.path(), &[&[&*set], &html[..]].concat()));
    assert!(html.contains("<th scope=\"row\">slow</th>"), "{html}");

    another_machine_is_warned_of(parent.path());
    damage_is_named(parent.path(), &set, &first.primitives);
}

/// What holds on any machine, however busy.
fn relations_hold(primitives: &Primitives) {
    primitives.check().unwrap();
    for primitive in ALL {
        let cost = primitives.costs[&primitive];
        assert!(cost.us > 0.0 && cost.samples > 0, "{primitive:?}: {cost:?}");
        assert!(
            cost.us_p25 <= cost.us && cost.us <= cost.us_p75,
            "{primitive:?}: {cost:?}"
        );
    }
    for (dear, cheap) in [
        (Primitive::Thread, Primitive::BareCall),
        (Primitive::Send, Primitive::BareCall),
        (Primitive::Receive, Primitive::BareCall),
        (Primitive::Close, Primitive::BareCall),
        (Primitive::Accept, Primitive::BareCall),
        (Primitive::PageFault, Primitive::BareCall),
        (Primitive::FutexWait, Primitive::BareCall),
        (Primitive::Send, Primitive::SetOption),
    ] {
        assert!(
            primitives.us(dear) > primitives.us(cheap),
            "{dear:?} costs {}, {cheap:?} {}",
            primitives.us(dear),
            primitives.us(cheap)
        );
    }
}

fn sums_are_of_the_set(explanation: &Explanation) {
    let servers = &explanation.workloads[0].servers;
    let [quick, slow] = &servers[..] else {
        panic!("{servers:?}");
    };
    assert_eq!((quick.measured_us, slow.measured_us), (4.0, 12.0));
    // Both take 1 us for their own code.
    let kernel = |predicted_us: f64| predicted_us - 1.0;
    let ratio = kernel(slow.predicted_us) / kernel(quick.predicted_us);
    assert!((1.5..2.1).contains(&ratio), "{ratio}: {servers:?}");
    let sentences = &explanation.workloads[0].comparisons;
    assert_eq!(sentences.len(), 1);
    let begin = "slow costs 3.0x quick under stay, 8.0 us more per request";
    assert!(sentences[0].starts_with(begin), "{sentences:?}");
}

fn another_machine_is_warned_of(parent: &Path) {
    let other = Machine {
        kernel: Some("Linux 2.4".to_owned()),
        ..here()
    };
    let set = set(parent, &other, &ledger());
    let output = explain(parent, &[&set, "--primitives", "alone.json"]);
    assert!(output.status.success(), "{output:?}");
    let warning = stderr(&output);
    assert!(
        warning.contains("warning") && warning.contains("Linux 2.4"),
        "{warning}"
    );
}

fn damage_is_named(parent: &Path, set: &str, primitives: &Primitives) {
    let mut without = primitives.clone();
    without.costs.remove(&Primitive::Thread);
    let later = Primitives {
        schema: 99,
        ..primitives.clone()
    };
    for (name, text, expected) in [
        ("cut.json", "{".to_owned(), "cut.json"),
        ("empty.json", "{}".to_owned(), "primitives"),
        (
            "without.json",
            serde_json::to_string(&without).unwrap(),
            "the cost of `thread, creation to end` is missing",
        ),
        (
            "later.json",
            serde_json::to_string(&later).unwrap(),
            "schema 99",
        ),
    ] {
        std::fs::write(parent.join(name), text).unwrap();
        let output = explain(parent, &[set, "--primitives", name]);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        let message = stderr(&output);
        assert!(message.contains(expected), "{name}: {message}");
    }
}

#[test]
fn a_set_without_a_ledger_says_how_to_get_one() {
    let parent = tempfile::tempdir().unwrap();
    let without = set(parent.path(), &here(), &[]);
    let refused = Row {
        error: Some("not permitted".to_owned()),
        responses: 0,
        connections: 0,
        kind: None,
        name: String::new(),
        count: 0,
        ..ledger().remove(0)
    };
    let refused = set(parent.path(), &here(), &[refused]);
    for (set, expected) in [(without, "no ledger.csv"), (refused, "not permitted")] {
        let output = explain(parent.path(), &[&set]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let message = stderr(&output);
        assert!(message.contains(expected), "{message}");
        assert!(
            message.contains("as root") && message.contains("loadgen measure"),
            "{message}"
        );
    }
}

#[test]
fn names_that_are_not_in_the_set() {
    let parent = tempfile::tempdir().unwrap();
    let set = set(parent.path(), &here(), &ledger());
    for (option, there) in [("--servers", "quick, slow"), ("--workloads", "stay")] {
        let output = explain(parent.path(), &[&set, option, "nobody"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = stderr(&output);
        assert!(
            message.contains("nobody") && message.contains(there),
            "{message}"
        );
    }
}

/// Prices cannot be measured on CPUs that this machine does not have.
#[test]
fn cpus_that_are_not_there() {
    let parent = tempfile::tempdir().unwrap();
    let elsewhere = Machine {
        pinning: Pinning {
            server: vec![1_000],
            client: vec![1_001],
        },
        ..here()
    };
    let set = set(parent.path(), &elsewhere, &ledger());
    let output = explain(parent.path(), &[&set]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("--primitives"), "{output:?}");
}
