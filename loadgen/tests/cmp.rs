//! `loadgen cmp` over several sets: more rounds of the same, or a refusal that says what differs.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use loadgen::catalogue::Workload;
use loadgen::machine::{Build, Machine};
use loadgen::plan::Pace;
use loadgen::record::{ClientCost, Outcome, Record};
use loadgen::set::{Campaign, Cell, SCHEMA, Writer};
use loadgen::target::ServerCost;
use loadgen::verdict::{Status, Verdict};

fn campaign() -> Campaign {
    Campaign {
        schema: SCHEMA,
        command: "loadgen measure --seed 7".to_owned(),
        started: "2025-01-02T03:04:05Z".to_owned(),
        seed: 7,
        rounds: 2,
        servers: ["fast", "slow"].map(str::to_owned).to_vec(),
        aa: None,
        floor: None,
        references: Vec::new(),
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
    }
}

fn machine(kernel: &str) -> Machine {
    Machine {
        kernel: Some(kernel.to_owned()),
        ..Machine::default()
    }
}

fn build(revision: &str) -> Build {
    Build {
        revision: Some(revision.to_owned()),
        dirty: Some(false),
        ..Build::default()
    }
}

/// A complete set in which `slow` costs twice as much as `fast`; its name.
fn set(parent: &Path, campaign: &Campaign, machine: &Machine, build: &Build) -> String {
    let mut writer = Writer::create(parent, campaign, machine, build).unwrap();
    for key in campaign.cells() {
        let mut record = Record::new(2);
        record.responses = 1_000_000;
        let outcome = Outcome {
            record,
            duration: Duration::from_secs(1),
            interrupted: false,
            idle: None,
            client: ClientCost::default(),
            steal: None,
        };
        let cost = ServerCost {
            cpu_user_s: if key.server == "fast" { 5.0 } else { 10.0 },
            cpu_system_s: 0.0,
            context_switches: Some(1),
            threads_max: 1,
            rss_bytes_max: 1,
            ..ServerCost::default()
        };
        let verdict = Verdict {
            status: Status::Valid,
            reasons: Vec::new(),
            advice: Vec::new(),
            notes: Vec::new(),
        };
        let cell = Cell::measured(&key, String::new(), &outcome, Some(&cost), &verdict);
        writer
            .append(&cell, &[], SystemTime::now(), outcome.duration)
            .unwrap();
    }
    writer
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

fn cmp(parent: &Path, sets: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["cmp", "--metric", "cpu"])
        .args(sets)
        .current_dir(parent)
        .output()
        .unwrap()
}

#[test]
fn sets_of_one_build_are_taken_together() {
    let parent = tempfile::tempdir().unwrap();
    let (machine, build) = (machine("6.18"), build("abc"));
    let one = set(parent.path(), &campaign(), &machine, &build);
    let mut quiet = machine.clone();
    // How it went on the day makes no other machine.
    quiet.steal_percent = Some(3.5);
    let two = set(parent.path(), &campaign(), &quiet, &build);
    let output = cmp(parent.path(), &[&one, &two]);
    assert!(output.status.success(), "{output:?}");
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn mixed_sets_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let one = set(parent.path(), &campaign(), &machine("6.18"), &build("abc"));
    let mut shorter = campaign();
    shorter.workloads[0].duration /= 2;
    let mut other_server = build("abc");
    other_server.changes = Some("def".to_owned());
    let rows = [
        (
            campaign(),
            machine("6.1"),
            build("abc"),
            "kernel: \"6.18\" and \"6.1\"",
        ),
        (
            campaign(),
            machine("6.18"),
            build("def"),
            "revision: \"abc\" and \"def\"",
        ),
        (
            shorter,
            machine("6.18"),
            build("abc"),
            "workload stay: another load",
        ),
        (
            campaign(),
            machine("6.18"),
            other_server,
            "changes in no commit: none and \"def\"",
        ),
    ];
    for (campaign, machine, build, difference) in rows {
        let two = set(parent.path(), &campaign, &machine, &build);
        let output = cmp(parent.path(), &[&one, &two]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            format!("loadgen: {one} and {two} cannot be taken together: {difference}\n")
        );
    }
}
