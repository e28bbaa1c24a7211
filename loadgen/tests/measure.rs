//! `loadgen measure` as its users meet it, in a catalogue of made-up servers.

mod repository;

use std::fs;
use std::path::Path;
use std::process::Child;

use lab::set::Set;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use repository::{Ended, Repository, serving, soon};

/// Not a test of its own: the server that the others measure.
#[test]
#[ignore = "run by other tests"]
fn serve() {
    repository::serve();
}

/// One that serves, one that does not start, one that answers something else: all get their rows, and
/// the measure goes on.
#[test]
fn failing_servers_become_rows() {
    let repository = Repository::new(&[
        ("good", &serving("hello world")),
        ("dead", "echo no luck >&2; exit 3"),
        ("wrong", &serving("goodbye")),
    ]);
    let ended = repository.loadgen(&["measure", "--rounds", "2", "--seed", "5"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");

    let set = Set::open(&repository.only_set("results")).unwrap();
    assert_eq!(set.cells.len(), 3 * 2 * 2);
    assert_eq!(set.campaign.command, "loadgen measure --rounds 2 --seed 5");
    for cell in &set.cells {
        let error = cell.error.as_deref();
        match cell.server.as_str() {
            "good" => {
                assert_eq!(error, None);
                assert!(cell.verdict.is_some());
                assert!(cell.requests_per_s.unwrap() > 0.0, "{cell:?}");
                assert!(cell.server_cpu_us_per_request.unwrap() > 0.1, "{cell:?}");
                assert!(cell.server_rss_bytes_max.unwrap() > 100_000, "{cell:?}");
                assert!(cell.server_threads_max.unwrap() >= 2, "{cell:?}");
            }
            "dead" => assert_eq!(
                error,
                Some("starting dead: it exited with status 3: no luck before it could accept")
            ),
            _ => assert_eq!(
                error,
                Some(
                    "it answers GET / with status 200 and \"goodbye\", not with status 200 and \
                     \"hello world\""
                )
            ),
        }
    }
    assert_eq!(set.build.servers["good"].version.as_deref(), Some("good 1"));
    assert!(set.machine.steal_percent.is_some());
    // In the ledger too.
    let mut dead = set.ledger.iter().filter(|row| row.server == "dead");
    let error = dead.next().and_then(|row| row.error.as_deref()).unwrap();
    assert!(error.starts_with("starting dead: it exited"), "{error}");
    assert!(set.missing_passes().is_empty());

    for metric in [
        "CPU microseconds per request",
        "Requests per second",
        "99th percentile",
    ] {
        assert!(ended.stdout.contains(metric), "{}", ended.stdout);
    }
    assert!(ended.stdout.contains("failed"), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("[12/12, 0s left] round 2 "),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("12 cells (3 servers x 2 workloads x 2 rounds): about ")
    );
    assert!(
        ended
            .stderr
            .ends_with(&format!("recorded in {}\n", set.path.display()))
    );
    let readme = fs::read_to_string(set.path.join("README.md")).unwrap();
    assert!(
        readme.contains("by `loadgen measure --rounds 2 --seed 5`"),
        "{readme}"
    );
    assert!(
        readme.contains("starting dead: it exited with status 3: no luck"),
        "{readme}"
    );
    assert!(readme.contains("- **stay**: Stays."), "{readme}");
    let records = [
        "machine.toml",
        "build.toml",
        "plan.toml",
        "cells.csv",
        "README.md",
        "good.hlog",
    ];
    for file in records {
        let text = fs::read_to_string(set.path.join(file)).unwrap();
        let root = repository.0.path().to_str().unwrap();
        assert!(!text.contains(root), "{file} names a path");
    }

    compare_and_report(&repository, &set.path);
}

/// The probe gets what is right, and each request after it another body of the same length, or another status.
#[test]
fn each_answer_is_compared() {
    let repository = Repository::new(&[
        ("good", &serving("hello world")),
        ("later", &serving("hello world|jello world")),
        ("created", &serving("hello world|201:hello world")),
        ("moved", &serving("hello world|302:hello world")),
    ]);
    let ended = repository.loadgen(&["measure", "--rounds", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let set = Set::open(&repository.only_set("results")).unwrap();
    for cell in &set.cells {
        let (good, errors) = (cell.good.unwrap(), cell.errors.unwrap());
        let is_right = cell.server == "good";
        assert_eq!((good > 0, errors == 0), (is_right, is_right), "{cell:?}");
        let reasons = cell.reasons.as_deref().unwrap_or_default();
        let fault = match cell.server.as_str() {
            "good" => continue,
            "later" => "wrong body",
            _ => "bad status",
        };
        assert!(reasons.contains(fault), "{cell:?}");
    }
    // The passes of the ledger refuse it too; where they cannot count, they say that instead.
    let wrong = set.ledger.iter().filter(|row| row.server != "good");
    for row in wrong {
        assert!(row.error.is_some(), "{row:?}");
    }
}

/// On the same CPU, each takes time from the other: that is said before anything is measured.
#[test]
fn pinned_to_the_same_cpu() {
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    repository.hurry();
    let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpu = (0..nix::sched::CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap());
    let cpu = cpu.unwrap().to_string();
    let ended = repository.loadgen(&[
        "measure",
        "--rounds",
        "1",
        "--no-ledger",
        "--pin-server",
        &cpu,
        "--pin-client",
        &cpu,
    ]);
    assert!(ended.stderr.contains("not pinned apart"), "{ended:?}");
    assert!(!ended.stderr.contains("server on CPUs"), "{ended:?}");
}

fn compare_and_report(repository: &Repository, set: &Path) {
    let set = set
        .strip_prefix(repository.0.path())
        .unwrap_or(set)
        .to_str()
        .unwrap();
    let cmp = repository.loadgen(&["cmp", set, "--metric", "p50"]);
    assert_eq!(cmp.code, Some(0), "{cmp:?}");
    assert!(
        cmp.stdout
            .starts_with("Response time, median, microseconds"),
        "{}",
        cmp.stdout
    );
    let markdown = repository.loadgen(&["cmp", set, "--format", "markdown"]);
    assert!(
        markdown.stdout.contains("| | good | dead | wrong |"),
        "{}",
        markdown.stdout
    );
    let twice = repository.loadgen(&["cmp", set, set]);
    assert_eq!(twice.code, Some(2), "{twice:?}");
    assert_eq!(twice.stderr, format!("loadgen: {set} is given twice\n"));

    let file = repository.path("PAGE.md");
    fs::write(
        &file,
        "before\n\n<!-- loadgen:begin -->\nold\n<!-- loadgen:end -->\nafter\n",
    )
    .unwrap();
    let splice = ["report", set, "--splice", "PAGE.md"];
    let ended = repository.loadgen(&splice);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    let page = fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("before\n\n<!-- loadgen:begin -->\n\nGenerated by `loadgen report "));
    assert!(
        page.contains(&format!("`loadgen report {set} --splice PAGE.md`")),
        "{page}"
    );
    assert!(
        page.ends_with("\n\n<!-- loadgen:end -->\nafter\n"),
        "{page}"
    );
    assert!(!page.contains("old\n"), "{page}");
    assert_eq!(repository.loadgen(&splice).code, Some(0));
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        page,
        "a second time changes nothing"
    );

    fs::write(&file, "no markers").unwrap();
    let ended = repository.loadgen(&splice);
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr,
        "loadgen: PAGE.md: no `<!-- loadgen:begin`: put the lines `<!-- loadgen:begin -->` and \
         `<!-- loadgen:end -->` where the table should stand\n"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "no markers");
}

/// What is wrong is said in one line before anything is built or measured.
#[test]
fn wrong_usage() {
    let repository = Repository::new(&[("event-loop", "exit 1")]);
    fs::write(repository.path("file"), "").unwrap();
    let rows: [(&[&str], i32, &str); 12] = [
        (
            &["--servers", "evnt-loop"],
            2,
            "no server or group `evnt-loop` in benches/servers.toml, did you mean `event-loop`?; servers: event-loop; groups: none",
        ),
        (
            &["--workloads", "stay,go"],
            2,
            "no workload or group `go` in benches/workloads.toml; workloads: stay, leave; groups: none",
        ),
        (&["--out", "file"], 1, "cannot write into file: "),
        (
            &["--out", "/proc/results"],
            1,
            "cannot write into /proc/results: ",
        ),
        (
            &["--resume", "benches"],
            1,
            "benches is not a set: plan.toml is missing",
        ),
        (
            &["--rounds", "0"],
            2,
            "error: invalid value '0' for '--rounds <N|auto>': expected a number from 1 to 1000, or `auto`",
        ),
        (
            &["--pin-server", "9999"],
            2,
            "error: invalid value '9999' for '--pin-server <CPUS>'",
        ),
        (
            &["--resume", "x", "--quick"],
            2,
            "error: the argument '--resume <SET>' cannot be used with",
        ),
        (
            &["--aa", "evnt-loop"],
            2,
            "no server `evnt-loop` in benches/servers.toml, did you mean `event-loop`?",
        ),
        (
            &["--aa", "event-loop", "--servers", "event-loop"],
            2,
            "error: the argument '--aa <SERVER>' cannot be used with '--servers <A,B>'",
        ),
        (
            &["--rounds", "5", "--time-limit", "1m"],
            2,
            "--precision and --time-limit need --rounds auto",
        ),
        (
            &["--rounds", "auto", "--precision", "3"],
            2,
            "error: invalid value '3' for '--precision <PERCENT>': expected a share from 0.1% to 100%",
        ),
    ];
    for (arguments, code, message) in rows {
        let ended = repository.loadgen(&[&["measure"], arguments].concat());
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let stderr = ended
            .stderr
            .strip_prefix("loadgen: ")
            .unwrap_or(&ended.stderr);
        assert!(stderr.starts_with(message), "{arguments:?}: {stderr}");
        assert_eq!(ended.stdout, "");
    }

    let file = repository.path("benches/servers.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("about", "abuot")).unwrap();
    let ended = repository.loadgen(&["measure"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .starts_with("loadgen: benches/servers.toml:3:1: unknown field `abuot`, ")
    );
    assert_eq!(ended.stderr.lines().count(), 1);

    fs::remove_file(file).unwrap();
    let ended = repository.loadgen(&["measure"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .starts_with("loadgen: no benches/servers.toml in "),
        "{ended:?}"
    );
}

/// Ctrl-C ends it with a set that is whole, and `--resume` completes it.
#[test]
fn interrupted_and_resumed() {
    let repository = Repository::new(&[("good", &serving("hello world"))]);
    let arguments = [
        "measure",
        "--rounds",
        "20",
        "--out",
        "sets",
        "--workloads",
        "stay",
    ];
    let running: Child = repository.command(&arguments).spawn().unwrap();
    let cells = || -> usize {
        let set = fs::read_dir(repository.path("sets"))
            .ok()
            .and_then(|mut sets| sets.next());
        set.and_then(|set| fs::read_to_string(set.unwrap().path().join("cells.csv")).ok())
            .map_or(0, |text| text.lines().count() - 1)
    };
    soon("two cells are measured", || cells() >= 2);
    kill(Pid::from_raw(running.id().cast_signed()), Signal::SIGINT).unwrap();
    let ended = Ended::of(running.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let path = repository.only_set("sets");
    let name = format!("sets/{}", path.file_name().unwrap().to_str().unwrap());
    let hint = format!("interrupted; to go on: loadgen measure --resume {name}\n");
    assert!(ended.stderr.ends_with(&hint), "{ended:?}");
    assert!(ended.stdout.contains("Incomplete: "), "{ended:?}");
    let before = Set::open(&path).unwrap();
    assert!(
        (2..20).contains(&before.cells.len()),
        "{}",
        before.cells.len()
    );
    let readme = fs::read_to_string(path.join("README.md")).unwrap();
    assert!(readme.contains("**Incomplete**"), "{readme}");

    // As a kill would have left it.
    let cells = path.join("cells.csv");
    let text = fs::read_to_string(&cells).unwrap();
    fs::write(&cells, &text[..text.len() - 10]).unwrap();

    let ended = repository.loadgen(&["measure", "--resume", &name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let after = Set::open(&path).unwrap();
    assert_eq!(after.cells.len(), 20);
    assert!(after.missing().is_empty());
    let kept = before.cells.len() - 1;
    assert_eq!(after.cells[..kept], before.cells[..kept]);
    assert!(
        !fs::read_to_string(path.join("README.md"))
            .unwrap()
            .contains("**Incomplete**")
    );

    let ended = repository.loadgen(&["measure", "--resume", &name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.starts_with(&format!("{name} is complete\n")),
        "{ended:?}"
    );

    // On another machine it must not go on.
    let machine = path.join("machine.toml");
    let text = fs::read_to_string(&machine).unwrap();
    fs::write(&machine, text.replace("kernel = \"", "kernel = \"Other ")).unwrap();
    let text = fs::read_to_string(&cells).unwrap();
    fs::write(&cells, &text[..text.len() - 10]).unwrap();
    let ended = repository.loadgen(&["measure", "--resume", &name]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let message = format!("{name} cannot be resumed here; these differ: kernel: ");
    assert!(ended.stderr.contains(&message), "{ended:?}");
}

/// A server that stands still under load, or dies of it, is found out.
/// The set records the groups, by which its servers are selected again.
#[test]
fn servers_are_selected_by_group() {
    let serving = serving("hello world");
    let repository = Repository::new(&[("a", &serving), ("b", &serving), ("c", &serving)]);
    let file = repository.path("benches/servers.toml");
    let text = fs::read_to_string(&file).unwrap();
    let grouped = |text: &str, server: &str, group: &str| {
        let name = format!("name = '{server}'\n");
        text.replace(&name, &format!("{name}group = {group}\n"))
    };
    let text = grouped(&grouped(&text, "a", "'few'"), "c", "['few', 'last']");
    fs::write(&file, text).unwrap();
    let ended = repository.loadgen(&[
        "measure",
        "--servers",
        "last,few",
        "--workloads",
        "leave",
        "--rounds",
        "1",
        "--no-ledger",
    ]);
    let set = Set::open(&repository.only_set("results")).unwrap();
    assert_eq!(set.campaign.servers, ["c", "a"], "{ended:?}");
    let path = set.path.to_str().unwrap();
    let arguments = ["cmp", path, "--servers", "last", "--format", "csv"];
    let ended = repository.loadgen(&arguments);
    let rows: Vec<&str> = ended.stdout.lines().skip(1).collect();
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row.contains(",c,")),
        "{ended:?}"
    );
}

#[test]
fn a_server_that_dies_during_the_run() {
    let dies = format!("(sleep 0.5; kill -9 $$) & {}", serving("hello world"));
    let repository = Repository::new(&[("dies", &dies)]);
    repository.stay_for("2s");
    let ended = repository.loadgen(&["measure", "--rounds", "1", "--workloads", "stay"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let set = Set::open(&repository.only_set("results")).unwrap();
    assert_eq!(
        set.cells[0].error.as_deref(),
        Some("it was ended by SIGKILL during the run")
    );
}

/// What is the same is told to be so often enough, and never makes the command fail.
#[test]
fn one_server_measured_as_two() {
    let repository = Repository::new(&[("good", &serving("hello world")), ("other", "exit 1")]);
    let arguments = ["measure", "--aa", "good", "--rounds", "2", "--seed", "9"];
    let ended = repository.loadgen(&arguments);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("A/A: good measured as two"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains(" comparisons"), "{ended:?}");
    let set = Set::open(&repository.only_set("results")).unwrap();
    assert_eq!(
        set.campaign.command,
        "loadgen measure --aa good --rounds 2 --seed 9"
    );
    assert_eq!(set.campaign.aa.as_deref(), Some("good"));
    assert_eq!(set.campaign.servers, ["good.a", "good.b"]);
    assert_eq!(set.cells.len(), 2 * 2 * 2);
    assert!(
        set.cells.iter().all(|cell| cell.error.is_none()),
        "{:?}",
        set.cells
    );
    let versions = ["good.a", "good.b"].map(|half| set.build.servers[half].version.clone());
    assert_eq!(
        versions,
        [Some("good 1".to_owned()), Some("good 1".to_owned())]
    );
    let readme = fs::read_to_string(set.path.join("README.md")).unwrap();
    assert!(readme.contains("A/A: good measured as two"), "{readme}");
    let name = set.path.display().to_string();
    assert_eq!(repository.loadgen(&["cmp", &name]).code, Some(0));
    let again = repository.loadgen(&["measure", "--resume", &name]);
    assert_eq!((again.code, again.stdout), (Some(0), ended.stdout));
}

/// Rounds are added while the leading ratio is too wide, until there is no time for another, by the process
/// that began and by one that goes on.
#[test]
fn rounds_until_enough_is_known() {
    let (one, other) = (serving("hello world"), serving("hello world"));
    let repository = Repository::new(&[("one", &one), ("other", &other)]);
    repository.hurry();
    let arguments = ["measure", "--workloads", "stay", "--rounds", "auto"];
    let limits = ["--precision", "100%", "--time-limit", "1ms", "--seed", "3"];
    let ended = repository.loadgen(&[&arguments[..], &limits[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("x 6 rounds or more)"), "{ended:?}");
    assert!(ended.stdout.contains("Rounds: 6. "), "{ended:?}");
    let path = repository.only_set("results");
    let set = Set::open(&path).unwrap();
    assert_eq!(
        set.campaign.command,
        "loadgen measure --workloads stay --rounds auto --precision 100% --time-limit 1ms --seed 3"
    );
    let auto = set.campaign.auto.clone().unwrap();
    assert_eq!(
        (set.campaign.rounds, auto.precision, auto.ended),
        (6, 1.0, true)
    );

    // As if it had been killed after the sixth round, which left much to be known, with time for some more.
    let noise = [1.0, 3.0, 2.0, 5.0, 1.5, 4.0];
    let mut rows = csv::Writer::from_path(path.join("cells.csv")).unwrap();
    for mut cell in set.cells.clone() {
        let noise = noise[cell.round as usize - 1];
        let cpu = if cell.server == "one" {
            10.0
        } else {
            11.0 * noise
        };
        cell.server_cpu_us_per_request = Some(cpu);
        cell.verdict = Some(engine::verdict::Status::Valid);
        rows.serialize(cell).unwrap();
    }
    rows.flush().unwrap();
    let plan = fs::read_to_string(path.join("plan.toml")).unwrap();
    let plan = plan
        .replace("ended = true\n", "")
        .replace("\"1ms\"", "\"1600ms\"");
    let plan = plan.replace("precision = 1.0", "precision = 0.001");
    fs::write(path.join("plan.toml"), plan).unwrap();
    let name = path.display().to_string();
    let ended = repository.loadgen(&["measure", "--resume", &name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let after = Set::open(&path).unwrap();
    assert!(after.campaign.rounds > 6, "{ended:?}");
    assert!(after.campaign.auto.as_ref().unwrap().ended);
    assert_eq!(after.missing(), []);
    let keys: Vec<_> = after.cells.iter().map(lab::set::Cell::key).collect();
    assert_eq!(
        keys,
        after.campaign.cells(),
        "the seed decides the order of all rounds"
    );
    let limit = "another round would have passed the limit of 1s 600ms:\n  stay: other to one, ";
    assert!(ended.stdout.contains(limit), "{ended:?}");
    let readme = fs::read_to_string(path.join("README.md")).unwrap();
    assert!(readme.contains(limit), "{readme}");
    let again = repository.loadgen(&["measure", "--resume", &name]);
    assert!(again.stderr.contains(" is complete\n"), "{again:?}");
}
