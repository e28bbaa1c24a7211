//! Captures of whose every segment it is known what is right to say: `loadgen trace --read` says it, and
//! Wireshark's tshark says the same, but for what `scenarios/disagreements.toml` lists.
//!
//! `SCENARIOS=/tmp/scenarios cargo test -p loadgen --test trace_scenarios` leaves the captures in that folder.

mod scenarios;
mod skipped;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use scenarios::builder::{Frame, S};
use scenarios::claims::Claims;
use scenarios::list::List;
use scenarios::said::{Said, by_loadgen, differences, expected, not_called};
use scenarios::table::{Scenario, scenarios};
use scenarios::tshark::{by_tshark, by_tshark_at_once, version};
use skipped::skipped;

/// Where captures are written; the folder is gone at the end, unless somebody asked for them.
fn folder() -> (TempDir, PathBuf) {
    let scratch = TempDir::new().unwrap();
    let kept = std::env::var_os("SCENARIOS").map(PathBuf::from);
    let folder = kept.unwrap_or_else(|| scratch.path().to_owned());
    fs::create_dir_all(&folder).unwrap();
    (scratch, folder)
}

/// Does this for each of these scenarios, with its file, on as many threads as there are CPUs. Returns what it
/// said, in the order of the table.
fn each<'a>(
    scenarios: impl Iterator<Item = &'a Scenario>,
    check: impl Fn(&Scenario, &Path) -> Vec<String> + Sync,
) -> Vec<String> {
    let (_scratch, folder) = folder();
    let all: Vec<&Scenario> = scenarios.collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = all.get(number) else {
                        break;
                    };
                    let file = folder.join(format!("{}.pcap", scenario.name));
                    fs::write(&file, scenario.written(&scenario.frames)).unwrap();
                    let said = named(scenario, check(scenario, &file));
                    found.lock().unwrap().insert(number, said);
                }
            });
        }
    });
    found
        .into_inner()
        .unwrap()
        .into_values()
        .flatten()
        .collect()
}

fn named(scenario: &Scenario, lines: Vec<String>) -> Vec<String> {
    let name = |line: String| format!("{}: {line}", scenario.name);
    lines.into_iter().map(name).collect()
}

#[test]
fn the_table_is_long_and_every_name_stands_once() {
    let all = scenarios();
    let names: BTreeSet<&str> = all.iter().map(|it| it.name).collect();
    assert_eq!(names.len(), all.len());
    assert!(all.len() >= 60, "{}", all.len());
    let faults = List::read().faults(&names);
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn loadgen_says_what_is_right() {
    let all = scenarios();
    let faults = each(all.iter(), |scenario, file| {
        match by_loadgen(scenario, file) {
            Ok((said, story)) => {
                let mut faults = differences(&said, &expected(scenario));
                faults.extend(not_called(scenario, &said));
                faults.extend(of_connections(scenario, &story));
                faults
            }
            Err(error) => vec![error],
        }
    });
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

fn of_connections(scenario: &Scenario, story: &Value) -> Vec<String> {
    let connections = story["connections"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let kinds = |values: &[Value], of: fn(&Value) -> &Value| -> Vec<String> {
        let kinds = values.iter().map(|it| of(it)["kind"].as_str());
        kinds
            .map(|kind| kind.unwrap_or_default().to_owned())
            .collect()
    };
    let mut faults = Vec::new();
    let endings = kinds(connections, |it| &it["ending"]);
    if !scenario.endings.is_empty() && endings != scenario.endings {
        faults.push(format!("it ends {endings:?}, not {:?}", scenario.endings));
    }
    let first = connections.first().and_then(|it| it["phases"].as_array());
    let phases = kinds(first.map_or(&[][..], Vec::as_slice), |it| it);
    if !scenario.phases.is_empty() && phases != scenario.phases {
        faults.push(format!(
            "its phases are {phases:?}, not {:?}",
            scenario.phases
        ));
    }
    let notes = story["notes"].to_string();
    if !notes.contains(scenario.noted) {
        faults.push(format!("no note says `{}`: {notes}", scenario.noted));
    }
    faults
}

/// Whatever is cut off at the end, what was told of the beginning stays: each segment, its connection, and
/// that the connection was over.
#[test]
fn an_earlier_end_claims_no_more() {
    let mut faults = Vec::new();
    for scenario in scenarios() {
        let whole = Claims::of(&scenario, scenario.frames.len());
        let ends = (0..scenario.frames.len()).filter(|&frames| is_an_end(&scenario, frames));
        for frames in ends {
            let more = Claims::of(&scenario, frames).beyond(&whole);
            let name = |claim| format!("{}, frames 1 to {frames}: {claim}", scenario.name);
            faults.extend(more.into_iter().map(name));
        }
    }
    assert!(
        faults.is_empty(),
        "{} claims that more frames refute:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// The same for a file that ends anywhere, be it within a header.
#[test]
fn a_file_cut_at_any_byte_claims_no_more() {
    let files = ["the client closes first", "pcapng", "five tags", "VXLAN"];
    let of = |name| {
        scenarios()
            .into_iter()
            .find(|it| it.name == name)
            .expect(name)
    };
    for scenario in files.map(of) {
        let whole = scenario.written(&scenario.frames);
        let claims = Claims::of_file(&whole).expect("it is a capture file");
        for bytes in 0..whole.len() {
            let more = Claims::of_file(&whole[..bytes]).map(|cut| cut.beyond(&claims));
            assert_eq!(
                more.unwrap_or_default(),
                Vec::<String>::new(),
                "{bytes} bytes"
            );
        }
    }
}

/// Where frames stand in the wrong order by a little, a file that ends among them lacks some in its midst.
fn is_an_end(scenario: &Scenario, frames: usize) -> bool {
    let (before, behind) = scenario.frames.split_at(frames);
    let last_ns = before.iter().map(|frame| frame.at_ns).max().unwrap_or(0);
    let is_late = |frame: &Frame| frame.at_ns < last_ns && last_ns - frame.at_ns < S;
    !behind.iter().any(is_late)
}

#[test]
fn tshark_says_the_same_but_for_what_is_listed() {
    let Some(version) = version() else {
        return skipped("tshark is not installed: what it would say is not compared");
    };
    let list = List::read();
    let all = scenarios();
    let (frames, alike) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let compare = |scenario: &Scenario, said: Result<Vec<Said>, String>| match said {
        Ok(said) => {
            let expected = expected(scenario);
            let is_alike = |(one, other): &(&Said, &Said)| one.agrees(other);
            frames.fetch_add(said.len(), Ordering::Relaxed);
            alike.fetch_add(
                expected.iter().zip(&said).filter(is_alike).count(),
                Ordering::Relaxed,
            );
            differences(&expected, &said)
        }
        Err(error) => vec![error],
    };
    let (usual, other): (Vec<&Scenario>, Vec<&Scenario>) = all.iter().partition(|it| it.is_usual());
    let (_scratch, folder) = folder();
    let at_once = by_tshark_at_once(&usual, &folder.join("at once.pcap")).unwrap();
    let mut found: Vec<String> = (usual.iter().zip(at_once))
        .flat_map(|(scenario, said)| named(scenario, compare(scenario, Ok(said))))
        .collect();
    found.extend(each(other.into_iter(), |scenario, file| {
        compare(scenario, by_tshark(scenario, file))
    }));
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let listed = list.cases();
    let report = |title: &str, cases: Vec<&&str>| match cases.is_empty() {
        true => String::new(),
        false => {
            let lines: Vec<String> = cases.iter().map(|case| format!("    {case:?},")).collect();
            format!("{title}\n{}\n", lines.join("\n"))
        }
    };
    println!(
        "tshark {version}: {} of {} frames in {} scenarios are told alike; {} disagreements are listed",
        alike.into_inner(),
        frames.into_inner(),
        all.len(),
        listed.len()
    );
    let new = report("not listed:", found.difference(&listed).collect());
    let gone = report(
        "listed, and not there:",
        listed.difference(&found).collect(),
    );
    let different = new + &gone;
    if version != list.versions.tshark {
        if !different.is_empty() {
            println!("{different}");
            skipped(format!(
                "tshark is {version}, and the list is of {}: what differs is printed alone",
                list.versions.tshark
            ));
        }
        return;
    }
    assert!(different.is_empty(), "{different}");
}
