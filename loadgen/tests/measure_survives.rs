//! `loadgen measure` when the world is against it: killed at any moment, on a disk that is full, with servers
//! that die and hang.

mod repository;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use lab::set::{Key, Set};
use repository::{Ended, Repository, serving, soon};

/// Not a test of its own: the server that the others measure.
#[test]
#[ignore = "run by other tests"]
fn serve() {
    repository::serve();
}

/// The sets in a folder; what is not finished has another name.
fn sets(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_set = |path: &PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with('.');
    paths.filter(is_set).collect()
}

/// Whether a process has its working folder there: the servers of a repository do.
fn is_populated(root: &Path) -> bool {
    let root = root.canonicalize().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut folders =
        processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    folders.any(|folder| folder == root)
}

/// Tags of a histogram log, which must parse as a whole.
fn tags(path: &Path) -> Vec<String> {
    let log = fs::read(path).unwrap_or_default();
    let tag = |entry| match entry {
        LogEntry::Interval(interval) => Some(interval.tag().unwrap().as_str().to_owned()),
        LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
    };
    let entries = IntervalLogIterator::new(&log).map(Result::unwrap);
    entries.filter_map(tag).collect()
}

/// Every cell once and in order, its histograms once and in order, and nothing else.
fn assert_complete(path: &Path) -> Set {
    let set = Set::open(path).unwrap();
    let keys: Vec<Key> = set.cells.iter().map(lab::set::Cell::key).collect();
    assert_eq!(keys, set.campaign.cells());
    for server in &set.campaign.servers {
        let log = path.join(format!("{server}.hlog"));
        let of_server = set.cells.iter().filter(|cell| cell.server == *server);
        let tags = tags(&log);
        let mut found = tags.iter();
        for cell in of_server {
            let tag = format!("{}:{}:response", cell.workload, cell.round);
            // In order: what is left behind the one of the last cell.
            let is_answered = cell.responses.is_some_and(|count| count > 0);
            assert!(
                !is_answered || found.any(|it| *it == tag),
                "{tag} in {tags:?}"
            );
        }
        let once: BTreeSet<&String> = tags.iter().collect();
        assert_eq!(once.len(), tags.len(), "{tags:?}");
        let heads = fs::read_to_string(&log).unwrap_or_default();
        let heads = heads.matches("StartTimestamp").count();
        assert_eq!(heads, usize::from(!tags.is_empty()));
    }
    let mut files: Vec<String> = (fs::read_dir(path).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.retain(|file| !file.ends_with(".hlog"));
    files.sort();
    assert_eq!(
        files,
        [
            "README.md",
            "build.toml",
            "cells.csv",
            "machine.toml",
            "plan.toml"
        ]
    );
    let readme = fs::read_to_string(path.join("README.md")).unwrap();
    assert!(!readme.contains("**Incomplete**"), "{readme}");
    set
}

/// Starts a measure and kills it; returns what it has said until then.
fn killed(repository: &Repository, arguments: &[&str], when: impl FnOnce()) -> (bool, String) {
    let mut child = repository.command(arguments).spawn().unwrap();
    when();
    let has_ended = child.try_wait().unwrap().is_some();
    // SIGKILL: nothing of it has a chance to tidy up.
    child.kill().unwrap();
    let ended = Ended::of(child.wait_with_output().unwrap());
    soon("no server is left", || !is_populated(repository.0.path()));
    (has_ended, ended.stderr)
}

/// However often it is killed, at most the running cell is lost, and in the end the set is what it would have
/// been.
#[test]
fn killed_at_any_moment() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (one, other) = (serving("hello world"), serving("hello world"));
    let repository = Repository::new(&[("one", &one), ("other", &other)]);
    repository.hurry();
    let parent = repository.path("sets");
    let new = [
        "measure",
        "--out",
        "sets",
        "--rounds",
        "8",
        "--seed",
        "1",
        "--no-ledger",
    ];
    let (mut kills, mut rows) = (0, 0);
    // On a busy machine no cell may be over so soon.
    let (mut patience_ms_max, mut fruitless) = (700, 0);
    loop {
        let found = sets(&parent);
        assert!(found.len() <= 1, "{found:?}");
        let name = found.first().map(|set| set.display().to_string());
        let resume = name.as_deref().map(|name| ["measure", "--resume", name]);
        let arguments = resume.as_ref().map_or(&new[..], |resume| &resume[..]);
        let patience = Duration::from_millis(random.u64(0..patience_ms_max));
        let (has_ended, said) = killed(&repository, arguments, || thread::sleep(patience));
        if let [set] = &sets(&parent)[..] {
            let set = Set::open(set).unwrap();
            let told = said.lines().filter(|line| line.starts_with('[')).count();
            let new = set.cells.len() - rows;
            assert!(
                (told..=told + 1).contains(&new),
                "{new} new rows after {said}"
            );
            fruitless = if new > 0 { 0 } else { fruitless + 1 };
            rows = set.cells.len();
        } else {
            fruitless += 1;
        }
        if has_ended {
            break;
        }
        kills += 1;
        if fruitless == 10 {
            (patience_ms_max, fruitless) = (2 * patience_ms_max, 0);
        }
        assert!(kills < 300, "{rows} cells after 300 kills");
    }
    println!("{kills} kills");
    assert!(kills >= 5, "{kills} kills");
    let set = assert_complete(&sets(&parent)[0]);
    assert_eq!(set.cells.len(), 2 * 2 * 8);
}

/// In the moments in which the first files come into being, a kill leaves a set that can be resumed, or none.
#[test]
fn killed_at_birth() {
    let mut random = fastrand::Rng::new();
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    repository.hurry();
    let mut last = None;
    for attempt in 1..=25 {
        let name = format!("sets-{attempt}");
        let parent = repository.path(&name);
        let arguments = ["measure", "--out", &name, "--rounds", "1", "--no-ledger"];
        killed(&repository, &arguments, || {
            let deadline = Instant::now() + Duration::from_secs(20);
            // It is made sure of with a folder that is removed again, before anything is built.
            let is_begun = || {
                let entries = fs::read_dir(&parent).into_iter().flatten().flatten();
                let names = entries.map(|entry| entry.file_name().into_string().unwrap());
                names.into_iter().any(|name| !name.starts_with(".tmp"))
            };
            while !is_begun() {
                assert!(Instant::now() < deadline, "no set is begun");
            }
            let begun = Instant::now();
            // Later each time: how long it takes to be there is a matter of the disk.
            let moment = Duration::from_micros(random.u64(0..2_000 * attempt));
            while begun.elapsed() < moment {}
        });
        for set in sets(&parent) {
            Set::open(&set).unwrap();
            last = Some(set);
        }
        for entry in fs::read_dir(&parent).unwrap() {
            let path = entry.unwrap().path();
            if !sets(&parent).contains(&path) {
                let ended = repository.loadgen(&["cmp", &path.display().to_string()]);
                // It may have been whole already, and been killed before it got its name.
                let is_told = match Set::open(&path) {
                    Ok(_) => matches!(ended.code, Some(0..=2)),
                    Err(_) => matches!(ended.code, Some(1 | 2)),
                };
                assert!(is_told, "{ended:?}");
            }
        }
    }
    let set = last.expect("some of them have come so far");
    let ended = repository.loadgen(&["measure", "--resume", &set.display().to_string()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_complete(&set);
}

/// Each ends its own cells, and nobody else's.
#[test]
fn servers_that_die_and_hang() {
    let good = serving("hello world");
    let repository = Repository::new(&[
        ("good", &good),
        ("dead-at-start", "echo no luck >&2; exit 3"),
        ("dead-midway", &format!("(sleep 1; kill -9 $$) & {good}")),
        ("hung-midway", &format!("(sleep 1; kill -STOP $$) & {good}")),
        ("deaf", &format!("trap \"\" TERM; {good}")),
    ]);
    repository.stay_for("2s");
    let ended = repository.loadgen(&[
        "measure",
        "--rounds",
        "1",
        "--workloads",
        "stay",
        "--no-ledger",
    ]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let set = assert_complete(&sets(&repository.path("results"))[0]);
    let mut errors: Vec<(&str, Option<&str>)> = (set.cells.iter())
        .map(|cell| (cell.server.as_str(), cell.error.as_deref()))
        .collect();
    errors.sort_unstable();
    let does_not_stop = Some("it did not stop within 6 s of SIGTERM");
    assert_eq!(
        errors,
        [
            (
                "dead-at-start",
                Some(
                    "starting dead-at-start: it exited with status 3: no luck before it could accept"
                )
            ),
            (
                "dead-midway",
                Some("it was ended by SIGKILL during the run")
            ),
            ("deaf", does_not_stop),
            ("good", None),
            ("hung-midway", does_not_stop),
        ]
    );
    assert!(!is_populated(repository.0.path()));
}

/// Of the rows of a set, how many say that their histograms had no room.
fn without_histograms(set: &Set, cause: &str) -> usize {
    let expected = format!("its histograms could not be written: {cause}");
    let errors = set.cells.iter().filter_map(|cell| cell.error.as_deref());
    errors.filter(|error| error.starts_with(&expected)).count()
}

/// A real disk that fills up: every cell gets its row, since room for rows was reserved.
#[test]
fn on_a_full_disk_every_cell_gets_its_row() {
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    repository.hurry();
    let (small, out) = (repository.path("small"), repository.path("out"));
    fs::create_dir(&small).unwrap();
    fs::create_dir(&out).unwrap();
    let mount = "mount -t tmpfs -o size=1m tmpfs small";
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        let command = command.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_loadgen")]);
        command
            .current_dir(repository.0.path())
            .stdin(Stdio::null())
            .output()
    };
    if !unshared(mount).is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no file system can be mounted here (unshare -rm, mount -t tmpfs)");
        return;
    }
    // Something else fills the disk once some cells are measured.
    let measure = "\
        (until [ $(cat small/*/cells.csv | wc -l) -gt 3 ]; do sleep 0.02; done 2> /dev/null
         cat /dev/zero > small/other) 2> /dev/null &
        timeout 60 \"$0\" measure --rounds 20 --out small
        echo $? > code
        cp -r small/2* out/";
    let ended = Ended::of(unshared(&format!("{mount}\n{measure}")).unwrap());
    let code = fs::read_to_string(repository.path("code")).unwrap();
    assert_eq!(code.trim(), "1", "{ended:?}");
    let set = Set::open(&sets(&out)[0]).unwrap();
    assert_eq!(set.missing(), [], "{ended:?}");
    let without = without_histograms(&set, "No space left on device");
    assert!((1..40).contains(&without), "{without} of 40: {ended:?}");
    let answered = set
        .cells
        .iter()
        .filter(|cell| cell.responses.is_some_and(|it| it > 0));
    let tags = tags(&set.path.join("good.hlog"));
    for cell in answered {
        let tag = format!("{}:{}:response", cell.workload, cell.round);
        assert!(tags.contains(&tag), "{tag} in {tags:?}");
    }
    assert!(
        ended.stderr.contains("the summary could not be updated: "),
        "{ended:?}"
    );
}

/// The same without any privilege, by a limit on the size of files, which rows meet as well: what is not
/// recorded is said, the measure goes on, and `--resume` completes the set.
#[test]
fn what_cannot_be_recorded_is_measured_again() {
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    // A schedule has as many samples on a busy machine: histograms of a cell take twice the room of its row,
    // and so meet the limit first.
    let workload = "[[workload]]\nname = 'open'\nconnections = 16\nrequests_per_connection = 1\n\
                    pace = 'poisson:2000/s'\nduration = '150ms'\nwarmup = '0s'\n";
    fs::write(repository.path("benches/workloads.toml"), workload).unwrap();
    // Blocks of 512 bytes (POSIX, ulimit). The signal would end the process.
    let limited =
        "trap '' XFSZ; ulimit -f 20; exec \"$0\" measure --rounds 60 --out sets --no-ledger";
    let mut command = Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_loadgen")]);
    command
        .current_dir(repository.0.path())
        .stdin(Stdio::null());
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let path = &sets(&repository.path("sets"))[0];
    let set = Set::open(path).unwrap();
    let missing = set.missing().len();
    assert!((1..60).contains(&missing), "{missing} of 60: {ended:?}");
    assert_eq!(ended.stderr.matches(": NOT RECORDED: ").count(), missing);
    assert!(without_histograms(&set, "File too large") > 0, "{ended:?}");
    let name = path.file_name().unwrap().to_str().unwrap();
    let advice = format!(
        "incomplete, because not everything could be written; to go on: loadgen measure --resume sets/{name}\n"
    );
    assert!(ended.stderr.ends_with(&advice), "{ended:?}");

    let ended = repository.loadgen(&["measure", "--resume", &format!("sets/{name}")]);
    // There are rows that say what failed.
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let after = assert_complete(path);
    assert_eq!(after.cells[..set.cells.len()], set.cells[..]);
}
