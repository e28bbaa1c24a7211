//! The ledger that `loadgen measure` makes behind its rounds.

mod repository;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lab::set::{Set, ledger_rows};
use repository::{Ended, Repository, serving};

/// Not a test of its own: the server that the others measure.
#[test]
#[ignore = "run by other tests"]
fn serve() {
    repository::serve();
}

/// System calls and memory are counted behind the rounds, a kill loses at most the pass that runs, and the
/// cells stay as they were.
#[test]
fn the_ledger() {
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    let ended = repository.loadgen(&["measure", "--rounds", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let path = repository.only_set("results");
    let set = Set::open(&path).unwrap();
    assert!(set.missing_passes().is_empty(), "{:?}", set.ledger);

    let memory = ledger_rows::idle_cost(&set.ledger, "good").unwrap();
    // A thread for each, with its stacks.
    assert!(memory.bytes_per_connection.unwrap() > 4096.0, "{memory:?}");
    if let Some(error) = ledger_rows::is_impossible(&set.ledger) {
        eprintln!("SKIPPED: {error}");
        assert!(ended.stderr.contains(error), "{ended:?}");
        return;
    }
    for (workload, connections) in [("stay", 0), ("leave", 1)] {
        let pass = ledger_rows::Pass::of(&set.ledger, "good", workload);
        let pass = pass.unwrap_or_else(|| panic!("{workload}: {:?} {ended:?}", set.ledger));
        assert!(pass.responses >= 100, "{pass:?}");
        // Without a warm-up the connections that stay are opened within the pass.
        let expected = connections * pass.responses;
        assert!(pass.connections.abs_diff(expected) <= 2, "{pass:?}");
        for (name, expected) in [
            ("recvfrom", 1 + connections),
            ("sendto", 1),
            ("accept4", connections),
            ("clone3", connections),
        ] {
            let count = pass.calls.get(name).copied().unwrap_or(0);
            let off = count.abs_diff(expected * pass.responses);
            assert!(off * 10 <= pass.responses, "{name} in {workload}: {pass:?}");
        }
    }
    let readme = fs::read_to_string(path.join("README.md")).unwrap();
    assert!(readme.contains("## Ledger"), "{readme}");
    assert!(
        readme.contains("| recvfrom") || readme.contains(";recvfrom"),
        "{readme}"
    );

    let set_path = path.to_str().unwrap();
    let cmp = |arguments: &[&str]| {
        let ended = repository.loadgen(&[&["cmp", set_path, "--ledger"], arguments].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let text = cmp(&["--workloads", "leave"]);
    assert!(text.starts_with("leave: for each connection"), "{text}");
    assert!(text.contains("accept4") && !text.contains("stay"), "{text}");
    assert!(cmp(&["--format", "markdown"]).contains("**stay: for each request**"));
    let csv = cmp(&["--format", "csv", "--workloads", "stay"]);
    assert!(
        csv.starts_with("server,workload,started,error,responses,"),
        "{csv}"
    );
    assert!(
        csv.contains(",call,recvfrom,") && !csv.contains("leave"),
        "{csv}"
    );

    // As a kill would have left it, in the midst of the last pass.
    let cells = fs::read(path.join("cells.csv")).unwrap();
    let file = path.join("ledger.csv");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() - 40]).unwrap();
    let name = format!("results/{}", path.file_name().unwrap().to_str().unwrap());
    let ended = repository.loadgen(&["measure", "--resume", &name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let after = Set::open(&path).unwrap();
    assert!(after.missing_passes().is_empty());
    let of_leave = |set: &Set| {
        set.ledger
            .iter()
            .filter(|row| row.workload == "leave")
            .count()
    };
    let kept = set.ledger.len() - of_leave(&set);
    assert_eq!(after.ledger[..kept], set.ledger[..kept]);
    assert_eq!(fs::read(path.join("cells.csv")).unwrap(), cells);
}

/// However often it is killed meanwhile, at most the running pass is lost.
#[test]
fn killed_at_any_moment() {
    let mut random = fastrand::Rng::new();
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    repository.hurry();
    let ended = repository.loadgen(&["measure", "--rounds", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let path = repository.only_set("results");
    let cells = fs::read(path.join("cells.csv")).unwrap();
    let wanted = passes(&Set::open(&path).unwrap());
    fs::remove_file(path.join("ledger.csv")).unwrap();

    let name = path.display().to_string();
    let mut done = 0;
    for kills in 0.. {
        assert!(kills < 100, "{done} passes after {kills} kills");
        let mut child = repository
            .command(&["measure", "--resume", &name])
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(random.u64(0..3_000)));
        let has_ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        let said = Ended::of(child.wait_with_output().unwrap()).stderr;
        let now = passes(&Set::open(&path).unwrap()).len();
        let told = said.lines().filter(|line| line.starts_with('[')).count();
        assert!(
            (told..=told + 1).contains(&(now - done)),
            "{done} to {now} passes: {said}"
        );
        done = now;
        if has_ended {
            break;
        }
    }
    assert_eq!(passes(&Set::open(&path).unwrap()), wanted);
    assert_eq!(fs::read(path.join("cells.csv")).unwrap(), cells);
}

/// Server and workload of every pass, in order.
fn passes(set: &Set) -> Vec<(String, String)> {
    let mut passes: Vec<_> = (set.ledger.iter())
        .map(|row| (row.server.clone(), row.workload.clone()))
        .collect();
    passes.dedup();
    passes
}

#[test]
fn without_a_ledger() {
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    let arguments = [
        "measure",
        "--rounds",
        "1",
        "--workloads",
        "stay",
        "--no-ledger",
    ];
    let ended = repository.loadgen(&arguments);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let path = repository.only_set("results");
    let ended = repository.loadgen(&["cmp", path.to_str().unwrap(), "--ledger"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("no ledger; "), "{ended:?}");
    let set = Set::open(&path).unwrap();
    assert!(!path.join("ledger.csv").exists());
    assert!(set.missing_passes().is_empty());
    assert!(
        set.campaign.command.contains(" --no-ledger"),
        "{:?}",
        set.campaign
    );
}

/// Where counting is not permitted, that is said once, with what to do, and all else is done.
#[test]
fn a_ledger_without_the_right_to_count() {
    let may_not = ["--bounding-set=-all", "--inh-caps=-all"];
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    let is_there = Command::new("setpriv").args(may_not).arg("true").status();
    if !is_there.is_ok_and(|status| status.success()) || paranoid.trim().parse().unwrap_or(0) < 2 {
        eprintln!("SKIPPED: no setpriv, no right to use it, or everybody may count here");
        return;
    }
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    let mut command = Command::new("setpriv");
    command
        .args(may_not)
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .args(["measure", "--rounds", "1"])
        .current_dir(repository.0.path());
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let set = Set::open(&repository.only_set("results")).unwrap();
    let error = ledger_rows::is_impossible(&set.ledger).unwrap();
    for part in ["not permitted", "run as root", "perf_event_paranoid=1"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(ended.stderr.matches(error).count(), 1, "{ended:?}");
    assert!(ledger_rows::idle_cost(&set.ledger, "good").is_some());
    assert!(set.missing_passes().is_empty());
}
