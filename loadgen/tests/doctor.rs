//! `loadgen doctor` as its users meet it, whatever machine this is.

use std::process::{Command, Stdio};

use serde_json::Value;

const CHECKS: [&str; 24] = [
    "cores",
    "pinning",
    "CPU quota",
    "governor",
    "steal",
    "other load",
    "clock source",
    "clock read",
    "wake-up",
    "memory",
    "open files",
    "port range",
    "new connections",
    "TIME_WAIT",
    "FIN timeout",
    "accept queue",
    "SYN queue",
    "SYN cookies",
    "congestion",
    "tracking",
    "loopback MTU",
    "tracefs",
    "perf events",
    "io_uring",
];

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Status and name of each check, from the lines that are no details of another.
fn rows(report: &str) -> Vec<(&str, &str)> {
    let row = |line| {
        let (status, rest): (&str, &str) = str::split_once(line, ' ')?;
        let is_status = ["ok", "warn", "unknown"].contains(&status);
        // Behind the name come two spaces, a value, or nothing.
        let rest = rest.trim_start();
        let name = CHECKS.into_iter().find(|name| rest.starts_with(name));
        is_status.then(|| (status, name.unwrap_or(rest)))
    };
    report.lines().filter_map(row).collect()
}

fn findings(json: &[u8]) -> Vec<Value> {
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["machine"].is_string());
    json["checks"].as_array().unwrap().clone()
}

#[test]
fn text_and_json_hold_the_same_checks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("doctor.json");
    let output = loadgen(&["doctor", "--json", path.to_str().unwrap()])
        .output()
        .unwrap();
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    assert!(
        !report.contains('\u{1b}'),
        "no colour in a pipe: {report:?}"
    );
    for line in report.lines() {
        assert!(line.chars().count() <= 80, "too wide: {line}");
    }

    let findings = findings(&std::fs::read(&path).unwrap());
    let of_json: Vec<_> = (findings.iter())
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap();
            (text("status"), text("check"))
        })
        .collect();
    assert_eq!(rows(report), of_json, "{report}");
    assert_eq!(of_json.iter().map(|row| row.1).collect::<Vec<_>>(), CHECKS);

    // However the lines are wrapped.
    let words = report.split_whitespace().collect::<Vec<_>>().join(" ");
    for finding in &findings {
        let shown = match finding["status"].as_str().unwrap() {
            "ok" => vec!["value"],
            "warn" => vec!["value", "why"],
            _ => vec!["why"],
        };
        for key in ["value", "why", "mend"] {
            let given = finding[key].as_str();
            match key {
                _ if shown.contains(&key) => {
                    assert!(words.contains(given.unwrap()), "{finding} in {report}");
                }
                "mend" => assert_eq!(given.is_some(), finding["status"] == "warn", "{finding}"),
                _ => assert_eq!(given, None, "{finding}"),
            }
        }
    }
}

/// Such as a service or a container starts it in.
#[test]
fn an_empty_environment_is_enough() {
    let output = loadgen(&["doctor", "--json", "-"])
        .env_clear()
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(findings(&output.stdout).len(), CHECKS.len());
}

#[test]
fn strict_fails_when_there_is_a_warning() {
    let output = loadgen(&["doctor", "--strict", "--json", "-"])
        .output()
        .unwrap();
    let findings = findings(&output.stdout);
    let warns = findings.iter().any(|finding| finding["status"] == "warn");
    assert_eq!(output.status.code(), Some(i32::from(warns)), "{findings:?}");
}

#[test]
fn colour_can_be_had_and_refused() {
    for (variables, colour) in [
        (&["CLICOLOR_FORCE"][..], true),
        (&["CLICOLOR_FORCE", "NO_COLOR"], false),
    ] {
        let mut command = loadgen(&["doctor"]);
        command.env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR");
        command.envs(variables.iter().map(|name| (name, "1")));
        let output = command.output().unwrap();
        let report = text(&output.stdout);
        assert_eq!(
            report.contains("\u{1b}["),
            colour,
            "{variables:?}: {report:?}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let output = loadgen(&["doctor", "--json", "/nowhere/doctor.json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected = "--json /nowhere/doctor.json: there is no folder /nowhere";
    assert!(text(&output.stderr).contains(expected));
}
