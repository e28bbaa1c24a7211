//! `loadgen cmp`, `rank` and `diff` over sets that are made up: what is taken together, what is refused, and
//! what is printed in each format.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use engine::plan::Pace;
use engine::record::{ClientCost, Outcome, Record};
use engine::verdict::{Status, Verdict};
use lab::set::{Campaign, Cell, Key, SCHEMA, Writer};
use subject::catalogue::Workload;
use subject::machine::{Build, Machine, ServerBuild};
use subject::process::ServerCost;

fn workload(name: &str) -> Workload {
    Workload {
        groups: Vec::new(),
        name: name.to_owned(),
        connections: 2,
        idle: 0,
        requests_per_connection: 0,
        pipeline: 1,
        pace: Pace::Closed,
        duration: Duration::from_secs(1),
        warmup: Duration::ZERO,
        analysis: String::new(),
    }
}

fn campaign() -> Campaign {
    Campaign {
        schema: SCHEMA,
        command: "loadgen measure --seed 7".to_owned(),
        started: "2025-01-02T03:04:05Z".to_owned(),
        seed: 7,
        rounds: 2,
        servers: ["fast", "slow"].map(str::to_owned).to_vec(),
        floor: None,
        aa: None,
        references: Vec::new(),
        server_groups: Default::default(),
        ledger: false,
        server_args: Vec::new(),
        auto: None,
        workloads: vec![workload("stay")],
    }
}

/// Six rounds with the floor, under three workloads, one of them in open loop.
fn campaign_with_floor() -> Campaign {
    let mut workloads = ["stay", "stay-open", "leave"].map(workload);
    workloads[1].pace = "constant:5000/s".parse().unwrap();
    workloads[2].requests_per_connection = 1;
    workloads[2].groups = vec!["churn".to_owned()];
    Campaign {
        rounds: 6,
        servers: ["fast", "slow", "floor"].map(str::to_owned).to_vec(),
        floor: Some("floor".to_owned()),
        server_groups: [("fast", &["core"][..]), ("slow", &["core", "readiness"])]
            .map(|(server, groups)| {
                let groups = groups.iter().map(|&group| group.to_owned());
                (server.to_owned(), groups.collect())
            })
            .into(),
        workloads: workloads.to_vec(),
        ..campaign()
    }
}

fn machine(kernel: &str) -> Machine {
    Machine {
        cpu_model: Some("A CPU".to_owned()),
        cpus: 2,
        kernel: Some(kernel.to_owned()),
        mitigations: Some(BTreeMap::new()),
        ..Machine::default()
    }
}

fn build(revision: &str) -> Build {
    Build {
        revision: Some(revision.to_owned()),
        dirty: Some(false),
        rustc: Some("rustc 1.88.0".to_owned()),
        loadgen_sha256: Some("1".to_owned()),
        ..Build::default()
    }
}

/// What a request costs, by server: 5, 10 and 4 µs.
fn cost_us(key: &Key) -> f64 {
    match key.server.as_str() {
        "fast" => 5.0,
        "slow" => 10.0,
        _ => 4.0,
    }
}

/// A complete set; its name.
fn set(parent: &Path, campaign: &Campaign, machine: &Machine, build: &Build) -> String {
    set_with(parent, campaign, machine, build, cost_us)
}

/// A complete set in which a request costs so many microseconds; its name.
fn set_with(
    parent: &Path,
    campaign: &Campaign,
    machine: &Machine,
    build: &Build,
    cost_us: impl Fn(&Key) -> f64,
) -> String {
    // Each begins a second later than the one before: the same measurement twice is refused.
    let second = 5 + fs::read_dir(parent).unwrap().count();
    let campaign = &Campaign {
        started: format!("2025-01-02T03:04:{second:02}Z"),
        ..campaign.clone()
    };
    let mut writer = Writer::create(parent, campaign, machine, build).unwrap();
    for key in campaign.cells() {
        let mut record = Record::new(2);
        record.counts.responses = 1_000_000;
        record.counts.responses_in_time = 1_000_000;
        record.counts.answered_in_window = 1_000_000;
        record.counts.connections_opened = 1_500;
        record.counts.connections_in_time = 1_000;
        let response_ns = (cost_us(&key) * 10_000.0) as u64;
        record.response.record_n(response_ns, 1_000_000).unwrap();
        let outcome = Outcome {
            record,
            duration: Duration::from_secs(1),
            interrupted: false,
            idle: None,
            client: ClientCost::default(),
            steal: None,
        };
        let cost = ServerCost {
            cpu_user_s: cost_us(&key),
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
        let started = campaign.started.clone();
        let cell = Cell::measured(&key, started, &outcome, Some(&cost), &verdict);
        writer
            .append(&cell, &[], SystemTime::now(), outcome.duration)
            .unwrap();
    }
    let name = writer.path().file_name().unwrap();
    name.to_str().unwrap().to_owned()
}

fn loadgen(parent: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .current_dir(parent)
        .output()
        .unwrap()
}

fn cmp(parent: &Path, sets: &[&str]) -> Output {
    loadgen(parent, &[&["cmp", "--metric", "cpu"], sets].concat())
}

fn stdout(output: Output) -> String {
    String::from_utf8(output.stdout).unwrap()
}

fn stderr(output: Output) -> String {
    String::from_utf8(output.stderr).unwrap()
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
    let text = stdout(output).replace(&one, "ONE").replace(&two, "TWO");
    insta::assert_snapshot!(text);
}

/// A build whose server `slow` says that it is of this version.
fn build_of_slow(version: &str) -> Build {
    let server = ServerBuild {
        version: Some(version.to_owned()),
        command: None,
        sha256: None,
    };
    let mut build = build("abc");
    build.servers.insert("slow".to_owned(), server);
    build
}

#[test]
fn mixed_sets_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let one = set(
        parent.path(),
        &campaign(),
        &machine("6.18"),
        &build_of_slow("1.0"),
    );
    let mut shorter = campaign();
    shorter.workloads[0].duration /= 2;
    let with_floor = |servers: [&str; 2], floor: &str| Campaign {
        servers: servers.map(str::to_owned).to_vec(),
        floor: Some(floor.to_owned()),
        ..campaign()
    };
    let with_reference = Campaign {
        references: vec!["fast".to_owned()],
        ..campaign()
    };
    let mut other_changes = build("abc");
    other_changes.changes = Some("def".to_owned());
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
            "workload stay: different load (duration: 1s and 500ms)",
        ),
        (
            campaign(),
            machine("6.18"),
            other_changes,
            "uncommitted changes: none and \"def\"",
        ),
        (
            campaign(),
            machine("6.18"),
            build_of_slow("2.0"),
            "version of slow: \"1.0\" and \"2.0\"",
        ),
        (
            with_floor(["slow", "floor"], "slow"),
            machine("6.18"),
            build("abc"),
            "role of slow: ranked and the floor",
        ),
        (
            with_reference,
            machine("6.18"),
            build("abc"),
            "role of fast: ranked and a reference",
        ),
    ];
    for (campaign, machine, build, difference) in rows {
        let two = set(parent.path(), &campaign, &machine, &build);
        for verb in ["cmp", "rank", "report"] {
            let output = loadgen(parent.path(), &[verb, &one, &two]);
            assert_eq!(output.status.code(), Some(1));
            assert_eq!(
                stderr(output),
                format!("loadgen: {one} and {two} cannot be combined: {difference}\n")
            );
        }
    }
}

/// Two sets that were measured with two floors have no common multiple of the floor.
#[test]
fn two_floors_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let set_with_floor = |floor: &str| {
        let campaign = Campaign {
            servers: vec!["fast".to_owned(), floor.to_owned()],
            floor: Some(floor.to_owned()),
            ..campaign()
        };
        set(parent.path(), &campaign, &machine("6.18"), &build("abc"))
    };
    let (one, two) = (set_with_floor("floor"), set_with_floor("ground"));
    let output = cmp(parent.path(), &[&one, &two]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "cannot be combined: floor: \"floor\" and \"ground\"\n";
    let said = stderr(output);
    assert!(said.ends_with(expected), "{said}");
}

/// Under another name, the same rounds would count twice.
#[test]
fn a_copy_of_a_set_is_refused() {
    let (parent, one) = one_set();
    let copy = parent.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(parent.path().join(&one)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    for verb in ["cmp", "rank", "report", "explain"] {
        let output = loadgen(parent.path(), &[verb, &one, "copy"]);
        assert_eq!(output.status.code(), Some(1), "{verb}");
        let said = stderr(output);
        let names = format!("{one} and copy cannot be combined: they are the same");
        assert!(said.contains(&names), "{verb}: {said}");
    }
}

/// Records hold whatever somebody has put into them: nothing of it reaches a terminal or a page as it is.
#[test]
fn records_do_nothing_to_terminals_and_pages() {
    let (parent, _) = one_set();
    let evil = "\u{1b}[31m\u{202e}\u{200b}`<b>|<!-- loadgen:end -->";
    let (mut machine, mut build) = (machine("6.18"), build("abc"));
    machine.cpu_model = Some(evil.to_owned());
    build.rustc = Some(evil.to_owned());
    build.revision = Some(evil.to_owned());
    let mut campaign = campaign_with_floor();
    campaign.command = evil.to_owned();
    campaign.workloads[0].analysis = format!("a\n{evil}");
    let set = set(parent.path(), &campaign, &machine, &build);
    let named = "o\u{1b}[31m\u{202e}";
    fs::rename(parent.path().join(&set), parent.path().join(named)).unwrap();
    let page = format!("{}\n{}\n", "<!-- loadgen:begin -->", "<!-- loadgen:end -->");
    fs::write(parent.path().join("page.md"), &page).unwrap();
    let is_harmless = |text: &str, what: &str| {
        let bad = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
        assert!(!text.contains(bad), "{what}: {text:?}");
    };
    for arguments in [
        &["cmp", named][..],
        &["cmp", "--format", "markdown", named],
        &["rank", named],
        &["diff", "--across-machines", named, named],
        &["report", named],
        &["report", "--splice", "page.md", named],
        &["cmp", named, named],
        &["cmp", "\u{1b}absent\u{202e}"],
        &["cmp", named, "--servers", "\u{1b}\u{202e}"],
    ] {
        let output = loadgen(parent.path(), arguments);
        for bytes in [&output.stdout, &output.stderr] {
            is_harmless(&String::from_utf8_lossy(bytes), &format!("{arguments:?}"));
        }
    }
    let page = fs::read_to_string(parent.path().join("page.md")).unwrap();
    is_harmless(&page, "the page");
    assert_eq!(
        page.lines().filter(|it| it.contains("<b>")).count(),
        2,
        "{page}"
    );
    assert!(page.contains("- Machine: \\\\u{1b}"), "{page}");
}

/// One set of a folder of its own.
fn one_set() -> (tempfile::TempDir, String) {
    let parent = tempfile::tempdir().unwrap();
    let set = set(
        parent.path(),
        &campaign_with_floor(),
        &machine("6.18"),
        &build("abc"),
    );
    (parent, set)
}

/// Snapshots must not hold the day on which sets were made up.
fn without_name(text: &str, set: &str) -> String {
    text.replace(set, "SET")
}

#[test]
fn every_format_of_cmp() {
    let (parent, set) = one_set();
    for format in ["text", "markdown", "csv", "json"] {
        let output = loadgen(
            parent.path(),
            &["cmp", &set, "--format", format, "--units", "cpu,requests"],
        );
        assert!(output.status.success(), "{output:?}");
        insta::assert_snapshot!(format!("cmp_{format}"), without_name(&stdout(output), &set));
    }
}

#[test]
fn every_format_of_rank() {
    let (parent, set) = one_set();
    for format in ["text", "markdown", "csv", "json"] {
        let output = loadgen(
            parent.path(),
            &["rank", &set, "--format", format, "--metric", "cpu,p99"],
        );
        assert!(output.status.success(), "{output:?}");
        insta::assert_snapshot!(
            format!("rank_{format}"),
            without_name(&stdout(output), &set)
        );
    }
}

/// The tables of the page, in the style of the page.
#[test]
fn tables_for_a_browser() {
    let (parent, set) = one_set();
    for (verb, row) in [
        ("cmp", "<th scope=\"row\">"),
        ("rank", "\"><th scope=\"row\">#1</th><th scope=\"row\">"),
    ] {
        let html = stdout(loadgen(parent.path(), &[verb, &set, "--format", "html"]));
        assert!(html.starts_with("<!doctype html>\n"), "{html}");
        assert!(
            html.contains(row) && html.contains(".scroll > table"),
            "{html}"
        );
        let markdown = stdout(loadgen(
            parent.path(),
            &[verb, &set, "--format", "markdown"],
        ));
        let titles: Vec<&str> = (markdown.split("**").skip(1).step_by(2))
            .filter(|title| title.starts_with("CPU micro"))
            .collect();
        assert!(!titles.is_empty(), "{markdown}");
        for title in titles {
            assert!(
                html.contains(&format!("<h2>{title} <small>")),
                "{title}: {html}"
            );
        }
    }
}

/// The same figures in other words.
#[test]
fn csv_and_json_have_the_same_rows() {
    let (parent, set) = one_set();
    for verb in ["cmp", "rank"] {
        let print = |format| stdout(loadgen(parent.path(), &[verb, &set, "--format", format]));
        let (csv, json) = (print("csv"), print("json"));
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let names: Vec<String> = reader
            .headers()
            .unwrap()
            .iter()
            .map(str::to_owned)
            .collect();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["schema"], 1);
        let rows = json["rows"].as_array().unwrap();
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert!(!rows.is_empty() && rows.len() == records.len());
        for (row, record) in rows.iter().zip(&records) {
            for (name, field) in names.iter().zip(record) {
                match &row[name] {
                    serde_json::Value::Null => assert_eq!(field, "", "{name}"),
                    serde_json::Value::Bool(is) => assert_eq!(field, is.to_string(), "{name}"),
                    serde_json::Value::String(text) => assert_eq!(field, text, "{name}"),
                    number => assert_eq!(
                        field.parse::<f64>().unwrap(),
                        number.as_f64().unwrap(),
                        "{name}"
                    ),
                }
            }
        }
    }
}

#[test]
fn filters() {
    let (parent, set) = one_set();
    let shown = |arguments: &[&str]| {
        let arguments = [
            &["cmp", &set, "--format", "csv", "--metric", "cpu"],
            arguments,
        ]
        .concat();
        let text = stdout(loadgen(parent.path(), &arguments));
        let rows = text.lines().skip(1).map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            format!("{} {} {}", fields[0], fields[4], fields[14])
        });
        rows.collect::<Vec<_>>()
    };
    // The floor goes on being what others are multiples of.
    assert_eq!(
        shown(&["--servers", "slow", "--workloads", "stay*"]),
        ["stay slow 2.5", "stay-open slow 2.5"]
    );
    assert_eq!(
        shown(&["--servers", "core", "--workloads", "churn"]),
        ["leave fast 1.25", "leave slow 2.5"]
    );
    assert_eq!(
        shown(&["--servers", "readiness", "--workloads", "churn"]),
        ["leave slow 2.5"]
    );
    assert_eq!(
        shown(&["--servers", "f*t,slow", "--workloads", "churn"]),
        ["leave fast 1.25", "leave slow 2.5"]
    );
    for (arguments, expected) in [
        (
            ["--workloads", "stay-opn"],
            "no workload `stay-opn` in SET, did you mean `stay-open`?; known: stay, stay-open, leave; groups: churn",
        ),
        (
            ["--servers", "x*"],
            "no server `x*` in SET; known: fast, slow, floor; groups: core, readiness",
        ),
    ] {
        for verb in ["cmp", "rank"] {
            let output = loadgen(parent.path(), &[&[verb, &set][..], &arguments].concat());
            assert_eq!(output.status.code(), Some(2));
            let message = without_name(&stderr(output), &set);
            assert_eq!(message, format!("loadgen: {expected}\n"));
        }
    }
}

/// Where they are not limited there is no rate of them; those of the warm-up are in no rate.
#[test]
fn connections_per_second() {
    let (parent, set) = one_set();
    let arguments = ["cmp", &set, "--units", "connections", "--format", "csv"];
    let text = stdout(loadgen(parent.path(), &arguments));
    let rows = text.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        format!("{} {} {}", fields[0], fields[4], fields[8])
    });
    let expected = [
        "leave fast 1000.0",
        "leave slow 1000.0",
        "leave floor 1000.0",
    ];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

/// What no workload has is said, and is an error when nothing is left.
#[test]
fn metrics_that_no_workload_has() {
    let (parent, set) = one_set();
    let arguments = ["cmp", &set, "--units", "memory", "--format", "csv"];
    let output = loadgen(parent.path(), &arguments);
    assert!(output.status.success(), "{output:?}");
    assert!(stderr(output).starts_with("SKIPPED: Bytes of memory per idle connection"));
    let output = loadgen(parent.path(), &["cmp", &set, "--metric", "idle-memory"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(output).ends_with("loadgen: no metric is left to compare\n"));
    let arguments = ["cmp", &set, "--metric", "cpu", "--units", "cpu"];
    assert_eq!(loadgen(parent.path(), &arguments).status.code(), Some(2));
}

#[test]
fn the_floor_alone_is_no_ranking() {
    let (parent, set) = one_set();
    let output = loadgen(parent.path(), &["rank", &set, "--servers", "floor"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// A noise of 2% that is the same in each set.
fn noisy(key: &Key) -> f64 {
    let noise = (key.round * 7 + key.server.len() as u32 + key.workload.len() as u32) % 5;
    cost_us(key) * (1.0 + 0.01 * f64::from(noise))
}

/// Two builds on a machine that has become a third slower; `slow` costs more by `factor` now.
fn before_and_after(parent: &Path, factor: f64) -> (String, String) {
    let mut dirty = build("def");
    dirty.dirty = Some(true);
    dirty.changes = Some("012".to_owned());
    let (campaign, machine) = (campaign_with_floor(), machine("6.18"));
    let before = set_with(parent, &campaign, &machine, &build("abc"), noisy);
    let after = set_with(parent, &campaign, &machine, &dirty, |key| {
        let factor = if key.server == "slow" { factor } else { 1.0 };
        noisy(key) * 1.33 * factor
    });
    (before, after)
}

#[test]
fn every_format_of_diff() {
    let parent = tempfile::tempdir().unwrap();
    let (before, after) = before_and_after(parent.path(), 1.2);
    for format in ["text", "markdown", "csv", "json"] {
        let output = loadgen(
            parent.path(),
            &["diff", &before, &after, "--format", format],
        );
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = stdout(output)
            .replace(&before, "OLD")
            .replace(&after, "NEW");
        insta::assert_snapshot!(format!("diff_{format}"), text);
    }
}

#[test]
fn only_a_certain_regression_fails() {
    for (factor, threshold, expected) in [
        (1.0, "5%", 0),
        (0.8, "5%", 0),
        (1.2, "5%", 1),
        (1.2, "30%", 0),
        (1.04, "0%", 1),
    ] {
        let parent = tempfile::tempdir().unwrap();
        let (before, after) = before_and_after(parent.path(), factor);
        let arguments = ["diff", &before, &after, "--threshold", threshold];
        let output = loadgen(parent.path(), &arguments);
        assert_eq!(output.status.code(), Some(expected), "{factor}: {output:?}");
    }
}

/// The machine's drift is in throughput and latency where the floor does not count, and that is said.
#[test]
fn without_a_floor_drift_is_warned_of() {
    let parent = tempfile::tempdir().unwrap();
    let before = set(parent.path(), &campaign(), &machine("6.18"), &build("abc"));
    let after = set(parent.path(), &campaign(), &machine("6.18"), &build("def"));
    let output = loadgen(parent.path(), &["diff", &before, &after]);
    assert_eq!(output.status.code(), Some(0));
    let warning = stderr(output).replace('\n', " ");
    assert!(
        warning.contains("2 of 2 cells are compared as measured"),
        "{warning}"
    );
    let (before, after) = before_and_after(parent.path(), 1.0);
    let output = loadgen(parent.path(), &["diff", &before, &after]);
    assert_eq!(stderr(output), "");
}

#[test]
fn other_machines_and_other_loads() {
    let parent = tempfile::tempdir().unwrap();
    let before = set(parent.path(), &campaign(), &machine("6.18"), &build("abc"));
    let mut other = campaign();
    other.workloads[0].connections = 3;
    let elsewhere = set(parent.path(), &campaign(), &machine("6.1"), &build("abc"));
    let otherwise = set(parent.path(), &other, &machine("6.18"), &build("abc"));
    let output = loadgen(parent.path(), &["diff", &before, &elsewhere]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(output),
        format!(
            "loadgen: {before} and {elsewhere} are of different machines: kernel: \"6.18\" and \"6.1\"; \
             measure both on one machine, or use --across-machines\n"
        )
    );
    let arguments = ["diff", &before, &elsewhere, "--across-machines"];
    let output = loadgen(parent.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stderr(output).starts_with("warning: different machines: kernel"));
    // A comparison of nothing must not pass.
    let output = loadgen(parent.path(), &["diff", &before, &otherwise]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = stdout(output.clone());
    assert!(
        text.contains("different load under the same name (connections: 2 and 3): stay"),
        "{text}"
    );
    assert!(stderr(output).contains("could be compared"));
}

/// Exit code 1 is a certain regression: whatever else stands in the way is 2.
#[test]
fn only_a_regression_has_exit_code_1() {
    let parent = tempfile::tempdir().unwrap();
    let (before, after) = before_and_after(parent.path(), 1.2);
    let damaged = set(parent.path(), &campaign(), &machine("6.18"), &build("abc"));
    let file = parent.path().join(&damaged).join("cells.csv");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen(",valid,", ",vali,", 1)).unwrap();
    for (arguments, expected) in [
        (vec![before.as_str(), &after], 1),
        (vec![&before, "nowhere"], 2),
        (vec!["nowhere", &after], 2),
        (vec![&before, &damaged], 2),
        (vec![&damaged, &after], 2),
        (vec![&before, "--workloads", "stay"], 2),
        (vec![&before, &after, "--servers", "nobody"], 2),
        (vec![&before, &after, "--metric", "idle-memory"], 2),
        (vec![&before, &after, "--threshold", "5"], 2),
    ] {
        let output = loadgen(parent.path(), &[&["diff"], &arguments[..]].concat());
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{arguments:?}: {output:?}"
        );
    }
}

/// A fact that changes no figure, or that one of them does not know, is said and keeps no sets apart.
#[test]
fn what_is_not_known_of_machines_is_said() {
    let parent = tempfile::tempdir().unwrap();
    let mut first = machine("6.18");
    first.mitigations = None;
    let mut second = machine("6.18");
    second
        .sysctls
        .insert("fs.file-max".to_owned(), "7".to_owned());
    let one = set(parent.path(), &campaign(), &first, &build("abc"));
    let two = set(parent.path(), &campaign(), &second, &build("abc"));
    let expected = [
        "mitigations of the CPU: unknown in one of them",
        "fs.file-max: none and",
    ];
    for verb in ["cmp", "rank", "diff"] {
        let output = loadgen(parent.path(), &[verb, &one, &two]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = stderr(output).replace('\n', " ");
        assert!(
            expected.iter().all(|it| said.contains(it)),
            "{verb}: {said}"
        );
    }
}

/// Whatever the figures are, nothing is printed that is not a number.
#[test]
fn nothing_but_numbers_is_printed() {
    let parent = tempfile::tempdir().unwrap();
    let wild = [0.0, 0.01, 40.0, 0.3, 1e4, 3.0];
    let made = set_with(
        parent.path(),
        &campaign_with_floor(),
        &machine("6.18"),
        &build("abc"),
        |key| match key.server.as_str() {
            "slow" => wild[key.round as usize - 1],
            "floor" => 0.0,
            _ => 5.0,
        },
    );
    let page = parent.path().join("page.html");
    let page = page.to_str().unwrap();
    for arguments in [
        &["cmp"][..],
        &["cmp", "--format", "markdown"],
        &["cmp", "--format", "html"],
        &["cmp", "--format", "csv"],
        &["cmp", "--format", "json"],
        &["rank"],
        &["rank", "--format", "html"],
        &["rank", "--format", "csv"],
        &["rank", "--format", "json"],
        &["report"],
        &["report", "--html", page],
    ] {
        let arguments = [&arguments[..1], &[&made], &arguments[1..]].concat();
        let output = loadgen(parent.path(), &arguments);
        assert!(output.status.success(), "{output:?}");
        let text = stdout(output);
        for word in ["NaN", "inf,", "infx", "infM", ",inf"] {
            assert!(!text.contains(word), "{word} in {arguments:?}: {text}");
        }
    }
    let text = stdout(loadgen(parent.path(), &["cmp", &made, "--metric", "cpu"]));
    assert!(text.contains("not resolved"), "{text}");
    assert!(
        text.contains("stay, floor, cpu: the server's CPU time is not known"),
        "{text}"
    );
}

/// Eight servers, of which each costs more than the one before, beside the floor; one does not complete `leave`.
fn many(parent: &Path) -> String {
    let servers = ["a", "b", "c", "d", "e", "f", "g", "h", "floor"];
    let campaign = Campaign {
        servers: servers.map(str::to_owned).to_vec(),
        ..campaign_with_floor()
    };
    let cost_us = |key: &Key| match key.server.as_str() {
        "floor" => 4.0,
        name => 5.0 + f64::from(name.as_bytes()[0] - b'a'),
    };
    let set = set_with(parent, &campaign, &machine("6.18"), &build("abc"), cost_us);
    let file = parent.join(&set).join("cells.csv");
    let cells = fs::read_to_string(&file).unwrap();
    let cells = cells
        .lines()
        .map(|line| match line.starts_with("h,leave,") {
            true => line.replacen(",valid,", ",invalid,starved", 1) + "\n",
            false => line.to_owned() + "\n",
        });
    fs::write(&file, cells.collect::<String>()).unwrap();
    set
}

/// Names of servers that begin a row of a table in text.
fn rows_of(text: &str) -> Vec<&str> {
    let names = text.lines().filter_map(|line| {
        let name = line.strip_prefix(' ')?.split(' ').next()?;
        (name == "floor" || name.len() == 1).then_some(name)
    });
    names
        .filter(|name| name.starts_with(char::is_alphabetic))
        .collect()
}

#[test]
fn many_servers_fold_for_people_and_not_for_programs() {
    let parent = tempfile::tempdir().unwrap();
    let set = many(parent.path());
    let print = |arguments: &[&str]| {
        let arguments = [&["cmp", &set, "--metric", "cpu"], arguments].concat();
        let output = loadgen(parent.path(), &arguments);
        assert!(output.status.success(), "{output:?}");
        stdout(output)
    };
    let text = print(&[]);
    assert_eq!(rows_of(&text), ["a", "b", "c", "floor"], "{text}");
    assert!(
        text.contains(" 5 more servers: `--servers '*'` shows them\n"),
        "{text}"
    );
    let text = print(&["--also", "g"]);
    assert_eq!(rows_of(&text), ["a", "b", "c", "g", "floor"], "{text}");
    let text = print(&["--servers", "*"]);
    assert_eq!(rows_of(&text).len(), 9, "{text}");
    assert!(!text.contains("more server"), "{text}");
    let markdown = print(&["--format", "markdown"]);
    let rows = markdown.lines().filter(|line| line.starts_with("| "));
    assert_eq!(rows.count(), 5, "header, podium and floor: {markdown}");
    assert!(
        markdown.contains("\n5 more servers: `--servers '*'` shows them.\n"),
        "{markdown}"
    );
    // A header, and nine servers under three workloads.
    assert_eq!(print(&["--format", "csv"]).lines().count(), 1 + 9 * 3);
    let json: serde_json::Value = serde_json::from_str(&print(&["--format", "json"])).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 9 * 3);
    for (arguments, expected) in [
        (&["--also", "nobody"][..], "no server `nobody`"),
        (&["--also", "a", "--servers", "b"], "cannot be used with"),
        (&["--width", "39"], "39"),
    ] {
        let output = loadgen(parent.path(), &[&["cmp", &set], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = stderr(output);
        assert!(said.contains(expected), "{said}");
    }
}

/// Columns are as many as there is room for.
#[test]
fn tables_are_as_wide_as_asked_for() {
    let parent = tempfile::tempdir().unwrap();
    let set = many(parent.path());
    let print = |width: &str| {
        let arguments = ["cmp", &set, "--metric", "cpu", "--width", width];
        stdout(loadgen(parent.path(), &arguments))
    };
    for (width, tables) in [("40", 2), ("80", 1), ("200", 1)] {
        let text = print(width);
        let columns: usize = width.parse().unwrap();
        let (table, _) = text.split_once("Medians").unwrap();
        for line in table.lines() {
            assert!(line.chars().count() <= columns, "{width}: {line}");
        }
        assert_eq!(text.matches("────\n").count(), tables, "{width}: {text}");
    }
}

#[test]
fn what_a_ranking_leaves_out_is_listed_when_asked_for() {
    let parent = tempfile::tempdir().unwrap();
    let set = many(parent.path());
    let rank = |arguments: &[&str]| {
        stdout(loadgen(
            parent.path(),
            &[&["rank", &set], arguments].concat(),
        ))
    };
    let text = rank(&[]);
    assert!(
        text.contains("1 workload is left out: `--left-out` says why.\n"),
        "{text}"
    );
    assert!(
        text.contains("Leaving out h adds 1 workload: use `--servers`.\n"),
        "{text}"
    );
    assert!(!text.contains("starved"), "{text}");
    let text = rank(&["--left-out"]);
    assert!(
        text.contains("Left out:\n  leave: h: not valid: starved\n"),
        "{text}"
    );
    assert!(rank(&["--format", "json"]).contains("not valid: starved"));
}
