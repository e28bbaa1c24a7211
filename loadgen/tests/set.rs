//! Sets on disk: never overwritten, readable after a kill at any time, and clear when they are damaged.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use engine::plan::Pace;
use engine::record::{ClientCost, Outcome, Record, record_ns};
use engine::verdict::{Status, Verdict};
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use lab::set::{Campaign, Cell, FILES, Key, SCHEMA, Set, Writer, check_parent, write_atomically};
use subject::catalogue::Workload;
use subject::machine::{Build, Machine};
use subject::process::ServerCost;

fn campaign() -> Campaign {
    let workload = |name: &str| Workload {
        name: name.to_owned(),
        connections: 2,
        idle: 0,
        requests_per_connection: 0,
        pipeline: 1,
        pace: Pace::Closed,
        duration: Duration::from_millis(1500),
        warmup: Duration::ZERO,
        groups: Vec::new(),
        analysis: "a \"quoted\" word,\nand a second line".to_owned(),
    };
    Campaign {
        schema: SCHEMA,
        command: "loadgen measure --seed 7".to_owned(),
        started: "2025-01-02T03:04:05.678Z".to_owned(),
        seed: 7,
        rounds: 3,
        servers: ["a", "b"].map(str::to_owned).to_vec(),
        aa: None,
        floor: None,
        references: Vec::new(),
        server_groups: Default::default(),
        ledger: false,
        server_args: Vec::new(),
        auto: None,
        workloads: vec![workload("x"), workload("y")],
    }
}

fn outcome() -> Outcome {
    let mut record = Record::new(2);
    (
        record.counts.requests,
        record.counts.responses,
        record.counts.good,
    ) = (500, 499, 499);
    record.counts.answered_in_window = 499;
    record.counts.in_flight_at_end = 1;
    record.responses_by_connection = vec![499, 0];
    for ns in 1..=499 {
        record_ns(&mut record.response, ns * 1_000);
    }
    Outcome {
        record,
        duration: Duration::from_millis(1500),
        interrupted: false,
        idle: None,
        client: ClientCost::default(),
        steal: None,
    }
}

fn measured(key: &Key) -> Cell {
    let cost = ServerCost {
        cpu_user_s: 0.001,
        cpu_system_s: 0.003,
        context_switches: None,
        threads_max: 3,
        rss_bytes_max: 4096,
        ..ServerCost::default()
    };
    let verdict = Verdict {
        status: Status::Invalid,
        reasons: vec![
            "starved: 1 of 2".to_owned(),
            "said \"no\",\nthen hung up".to_owned(),
        ],
        advice: Vec::new(),
        notes: Vec::new(),
    };
    Cell::measured(
        key,
        "2025-01-02T03:04:06Z".to_owned(),
        &outcome(),
        Some(&cost),
        &verdict,
    )
}

fn append(writer: &mut Writer, key: &Key) {
    let outcome = outcome();
    let histograms = [
        ("response", &outcome.record.response),
        ("connect", &outcome.record.connect),
    ];
    let begin = SystemTime::now();
    writer
        .append(&measured(key), &histograms, begin, outcome.duration)
        .unwrap();
}

fn create(parent: &Path) -> Writer {
    Writer::create(parent, &campaign(), &Machine::default(), &Build::default()).unwrap()
}

/// A set of which the first `count` cells are measured.
fn set_of(parent: &Path, count: usize) -> PathBuf {
    let mut writer = create(parent);
    for key in &campaign().cells()[..count] {
        append(&mut writer, key);
    }
    writer.path().to_owned()
}

fn add(path: &Path, text: &str) {
    OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

/// Tags of a histogram log, which must parse as a whole.
fn tags(path: &Path) -> Vec<String> {
    let log = fs::read(path).unwrap();
    let tag = |entry| match entry {
        LogEntry::Interval(interval) => Some(interval.tag().unwrap().as_str().to_owned()),
        LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
    };
    IntervalLogIterator::new(&log)
        .map(Result::unwrap)
        .filter_map(tag)
        .collect()
}

#[test]
fn what_is_written_is_read_back() {
    let parent = tempfile::tempdir().unwrap();
    let mut writer = create(&parent.path().join("new/folder"));
    let keys = campaign().cells();
    append(&mut writer, &keys[0]);
    let failed = Cell::failed(
        &keys[1],
        "2025-01-02T03:04:07Z".to_owned(),
        "died,\n\"badly\"",
    );
    writer
        .append(&failed, &[], SystemTime::now(), Duration::ZERO)
        .unwrap();

    let set = Set::open(writer.path()).unwrap();
    assert_eq!(set.campaign, campaign());
    assert_eq!(set.cells, [measured(&keys[0]), failed]);
    assert_eq!(set.missing(), keys[2..]);
    let cell = &set.cells[0];
    assert_eq!(
        cell.reasons.as_deref(),
        Some("starved: 1 of 2; said \"no\",; then hung up")
    );
    assert_eq!(cell.server_cpu_us_per_request, Some(8.016));
    assert_eq!(
        (cell.response_us_p99.is_some(), cell.response_us_p99_9),
        (true, None)
    );
    assert_eq!(
        (cell.connect_us_p50, cell.connections_never_served),
        (None, Some(1))
    );
    assert_eq!(set.cells[1].error.as_deref(), Some("died,; \"badly\""));
    // Empty histograms are left out.
    let log = writer.path().join(format!("{}.hlog", keys[0].server));
    assert_eq!(tags(&log), [format!("{}:1:response", keys[0].workload)]);
}

#[test]
fn the_header_is_stable() {
    let parent = tempfile::tempdir().unwrap();
    let cells = fs::read_to_string(create(parent.path()).path().join("cells.csv")).unwrap();
    insta::assert_snapshot!(cells.trim().replace(',', "\n"));
}

#[test]
fn sets_are_numbered_and_never_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..3)
        .map(|_| {
            create(parent.path())
                .path()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let date = names[0].strip_suffix(".1").unwrap();
    assert_eq!(date.len(), "2025-01-02".len());
    assert_eq!(names[1..], [format!("{date}.2"), format!("{date}.3")]);
}

#[test]
fn rounds_are_whole_and_each_in_an_order_of_its_own() {
    let cells = campaign().cells();
    assert_eq!(cells, campaign().cells(), "the seed decides");
    let mut orders = Vec::new();
    for (index, round) in cells.chunks(4).enumerate() {
        assert!(round.iter().all(|key| key.round == index as u32 + 1));
        let order: Vec<_> = round
            .iter()
            .map(|key| (&key.server, &key.workload))
            .collect();
        let mut sorted = order.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 4);
        orders.push(order);
    }
    let mut other = campaign();
    other.seed += 1;
    assert_ne!(cells, other.cells());
    orders.dedup();
    assert!(orders.len() > 1);
}

#[test]
fn a_kill_loses_the_running_cell_only() {
    let parent = tempfile::tempdir().unwrap();
    let keys = campaign().cells();
    // Every length that the third row may have been cut to.
    let whole = set_of(parent.path(), 3);
    let text = fs::read(whole.join("cells.csv")).unwrap();
    let rows: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').collect();
    let start = text.len() - rows[3].len();
    for cut in [start, start + 1, start + rows[3].len() / 2, text.len() - 1] {
        fs::write(whole.join("cells.csv"), &text[..cut]).unwrap();
        let set = Set::open(&whole).unwrap();
        assert_eq!(set.cells.len(), 2, "cut at {cut}");
        assert_eq!(set.missing(), keys[2..]);
    }

    // The log has histograms of the lost cell, and a line that was cut.
    let log = whole.join(format!("{}.hlog", keys[2].server));
    add(&log, "Tag=x:3:resp");
    let set = Set::open(&whole).unwrap();
    let mut writer = Writer::resume(&set).unwrap();
    for key in &set.missing() {
        append(&mut writer, key);
    }
    let set = Set::open(&whole).unwrap();
    assert_eq!(set.cells.len(), 12);
    assert!(set.missing().is_empty());
    for server in ["a", "b"] {
        let mut tags = tags(&whole.join(format!("{server}.hlog")));
        tags.sort();
        let expected: Vec<String> = ["x", "y"]
            .iter()
            .flat_map(|workload| (1..=3).map(move |round| format!("{workload}:{round}:response")))
            .collect();
        assert_eq!(tags, expected, "each cell once");
    }
}

/// The columns of idle connections, of the ledger, and of what did not happen, were added later.
#[test]
fn sets_with_the_first_columns_are_read() {
    let parent = tempfile::tempdir().unwrap();
    let path = set_of(parent.path(), 2);
    let now = Set::open(&path).unwrap();
    let text = fs::read_to_string(path.join("cells.csv")).unwrap();
    let header = text.lines().next().unwrap();
    let last = header
        .split(',')
        .position(|name| name == "client_context_switches");
    let later = header.split(',').count() - 1 - last.unwrap();
    // Reasons, before these, may hold commas.
    let first_columns = |line: &str| {
        let columns: Vec<&str> = line.split(',').collect();
        columns[..columns.len() - later].join(",") + "\n"
    };
    let text: String = text.lines().map(first_columns).collect();
    assert!(
        text.lines()
            .next()
            .unwrap()
            .ends_with(",client_context_switches")
    );
    fs::write(path.join("cells.csv"), text).unwrap();
    let then = Set::open(&path).unwrap();
    let without = |cell: &Cell| Cell {
        answered_in_window: None,
        answered_of_warmup: None,
        client_stopped_s: None,
        ..cell.clone()
    };
    let first: Vec<Cell> = now.cells.iter().map(without).collect();
    assert_eq!(then.cells, first);
    let error = Writer::resume(&then).unwrap_err().to_string();
    assert!(error.ends_with("it can be read but not resumed"), "{error}");
}

#[test]
fn what_is_no_set_or_damaged_is_said_in_one_line() {
    let parent = tempfile::tempdir().unwrap();
    let error = |path: &Path| {
        let error = Set::open(path).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "SET")
    };
    assert_eq!(
        error(parent.path()),
        "SET is not a set: plan.toml is missing"
    );
    assert_eq!(
        error(&parent.path().join("none")),
        "SET is not a set: plan.toml is missing"
    );

    let damaged = |file: &str, change: &dyn Fn(String) -> String| {
        let path = set_of(parent.path(), 2);
        let text = fs::read_to_string(path.join(file)).unwrap();
        fs::write(path.join(file), change(text)).unwrap();
        error(&path)
    };
    let cells = |change: &dyn Fn(String) -> String| damaged("cells.csv", change);
    assert_eq!(
        cells(&|text| text.replace("invalid", "doubtful")),
        "SET/cells.csv:2:29: column `verdict`: unknown variant `doubtful`, expected one of `valid`, \
         `client-bound`, `invalid`"
    );
    assert_eq!(
        cells(&|text| text.replacen(",499,499,", ",499,x,", 1)),
        "SET/cells.csv:2:95: column `good`: invalid digit found in string"
    );
    assert_eq!(
        cells(&|text| text + "a,b\n"),
        "SET/cells.csv:4:1: 2 columns instead of 70"
    );
    assert_eq!(
        cells(&|text| text.replacen("verdict", "opinion", 1)),
        "SET/cells.csv:1:1: column `verdict` is missing"
    );
    assert_eq!(
        cells(&|text| text.replacen("server,workload", "workload,server", 1)),
        "SET/cells.csv:1:1: the columns are in another order"
    );
    assert_eq!(
        damaged("plan.toml", &|text| text
            .replace("schema = 1", "schema = 9")),
        "SET: the set has schema 9, this program reads schema 1"
    );
    assert_eq!(
        damaged("plan.toml", &|text| text
            .replace("rounds = 3", "rounds = \"three\"")),
        "SET/plan.toml:5:10: `rounds`: invalid type: string \"three\", expected u32"
    );
}

/// Whatever file of a set it is in, and whoever reads it.
#[test]
fn damage_is_told_by_every_reader() {
    type Damage<'a> = (&'a str, &'a dyn Fn(Vec<u8>) -> Vec<u8>, &'a str);
    let replaced = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{from} in {text}");
            text.replacen(from, to, 1).into_bytes()
        }
    };
    let rows: [Damage<'_>; 30] = [
        (
            "cells.csv",
            &replaced(",1.5,", ",inf,"),
            "column `duration_s`: not a finite number",
        ),
        (
            "cells.csv",
            &replaced(",1.5,", ",-1.5,"),
            "column `duration_s`: `-1.5` is below zero",
        ),
        (
            "cells.csv",
            &|bytes| [bytes, b"\xff\n".to_vec()].concat(),
            "SET/cells.csv:5:1: bytes that are not UTF-8",
        ),
        (
            "cells.csv",
            &|bytes| [bytes, b"\0\0\n".to_vec()].concat(),
            "SET/cells.csv:5:1: zero bytes",
        ),
        (
            "cells.csv",
            &|bytes| {
                let last = bytes
                    .split_inclusive(|&it| it == b'\n')
                    .next_back()
                    .unwrap()
                    .to_vec();
                [bytes, last].concat()
            },
            "SET/cells.csv:5:1: the same cell as in line 4",
        ),
        (
            "cells.csv",
            &replaced(",1,2025", ",9,2025"),
            "SET/cells.csv:2:5: round 9 of 3 in plan.toml",
        ),
        ("cells.csv", &replaced("\n", "\r\n"), "SET/cells.csv:1:"),
        (
            "cells.csv",
            &replaced(",invalid,", "boom,invalid,"),
            "column `verdict`: there is an error, so it should be empty",
        ),
        (
            "cells.csv",
            &replaced("2025-01-02T03:04:06Z", "yesterday"),
            "SET/cells.csv:2:7: `started`: ",
        ),
        (
            "cells.csv",
            &replaced(",1.5,", ",1e-300,"),
            "column `duration_s`: `1e-300` is too small to have been measured",
        ),
        (
            "ledger.csv",
            &replaced(",,1,1,", ",boom,1,1,"),
            "SET/ledger.csv:2:31: a row with an error cannot have a count",
        ),
        (
            "ledger.csv",
            &replaced("2025-01-02T03:04:05Z", "today"),
            "SET/ledger.csv:2:5: `started`: ",
        ),
        (
            "calibration.json",
            &|_| Vec::new(),
            "SET/calibration.json:1:",
        ),
        (
            "calibration.json",
            &|_| b"{\"schema\":1,".to_vec(),
            "SET/calibration.json:1:12: EOF while parsing",
        ),
        (
            "calibration.json",
            &|_| b"{\n\xff".to_vec(),
            "SET/calibration.json:2:1: bytes that are not UTF-8",
        ),
        (
            "a.hlog",
            &replaced(":response,", ":response,-"),
            "the start of an interval: `-",
        ),
        (
            "a.hlog",
            &replaced(":response,", ":response,inf,"),
            "SET/a.hlog:",
        ),
        (
            "a.hlog",
            &replaced(":response,", ":response,9999999999999"),
            "the start of an interval: `9999999999999",
        ),
        (
            "a.hlog",
            &replaced("#[StartTime: ", "#[StartTime: 9999999999999999"),
            "is not a time in seconds",
        ),
        (
            "plan.toml",
            &replaced("servers = ", "floor = \"nobody\"\nservers = "),
            "SET/plan.toml:6:9: `floor`: \"nobody\" is not among `servers`",
        ),
        (
            "plan.toml",
            &replaced("servers = ", "references = [\"nobody\"]\nservers = "),
            "SET/plan.toml:6:14: `references`: \"nobody\" is not among `servers`",
        ),
        (
            "ledger.csv",
            &replaced(",7\n", ",-7\n"),
            "SET/ledger.csv:2:",
        ),
        (
            "ledger.csv",
            &replaced("\na,", "\nnobody,"),
            "SET/ledger.csv:2:1: no server `nobody`",
        ),
        (
            "a.hlog",
            &replaced("\nTag=", "\nTug="),
            "not a line of an interval log",
        ),
        (
            "a.hlog",
            &replaced(":1:response", ":8:response"),
            "round 8 is not in the plan",
        ),
        ("a.hlog", &replaced("HIST", "HISS"), "a histogram: "),
        (
            "plan.toml",
            &replaced("rounds = 3", "rounds = 4000000000"),
            "SET/plan.toml:5:10: `rounds`: 4000000000 is not between 1 and 1000",
        ),
        (
            "plan.toml",
            &replaced("\"a\"", "\"../a\""),
            "`servers`: \"../a\" may contain letters",
        ),
        (
            "machine.toml",
            &replaced("cpus = 0", "cpus = 0\nsteal_percent = nan"),
            "SET/machine.toml:2:17: `steal_percent`: below zero, or not a finite number",
        ),
        (
            "build.toml",
            &replaced("profile = \"\"", "profile = 3"),
            "`profile`: invalid type",
        ),
    ];
    for (file, damage, expected) in rows {
        let parent = tempfile::tempdir().unwrap();
        let path = set_of(parent.path(), 3);
        let row = "server,workload,started,error,responses,connections,kind,name,count\n\
                   a,x,2025-01-02T03:04:05Z,,1,1,event,page-faults,7\n";
        fs::write(path.join("ledger.csv"), row).unwrap();
        fs::write(path.join("calibration.json"), "{\"schema\":2}").unwrap();
        Set::open(&path).unwrap();
        let bytes = fs::read(path.join(file)).unwrap();
        fs::write(path.join(file), damage(bytes)).unwrap();
        let error = match Set::open(&path) {
            Ok(_) => panic!("{file}: no {expected}"),
            Err(error) => error.to_string(),
        };
        let error = error.replace(&path.display().to_string(), "SET");
        let expected = expected.strip_suffix(" column").unwrap_or(expected);
        assert!(error.contains(expected), "{file}: {error}");
        assert!(error.starts_with(&format!("SET/{file}:")), "{error}");
        for arguments in [
            &["cmp"][..],
            &["rank"],
            &["report"],
            &["explain"],
            &["measure", "--resume"],
        ] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen"))
                .args(arguments)
                .arg(&path)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.replace(&path.display().to_string(), "SET");
            assert!(said.contains(&error), "{arguments:?}: {said}");
            assert!(!output.status.success());
        }
    }
}

/// Reading a pipe would not end. One that no server of the plan has is nobody's log.
#[test]
fn pipes_are_not_waited_for() {
    let parent = tempfile::tempdir().unwrap();
    let path = set_of(parent.path(), 3);
    let pipe = |name: &str| {
        let file = path.join(name);
        let _ = fs::remove_file(&file);
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        file
    };
    pipe("nobody.hlog");
    Set::open(&path).unwrap();
    for name in ["a.hlog", "ledger.csv", "calibration.json"] {
        let file = pipe(name);
        let error = Set::open(&path).unwrap_err().to_string();
        let expected = format!("{}: not a regular file", file.display());
        assert_eq!(error, expected);
        fs::remove_file(file).unwrap();
    }
    for name in ["cells.csv", "plan.toml"] {
        pipe(name);
        assert!(Set::open(&path).is_err(), "{name}");
    }
}

/// Wherever a kill cuts the last line, also within a character, the set is read and resumed.
#[test]
fn a_line_is_cut_anywhere() {
    let parent = tempfile::tempdir().unwrap();
    let path = set_of(parent.path(), 2);
    let cells = path.join("cells.csv");
    let text = fs::read(&cells).unwrap();
    let key = &campaign().cells()[2];
    let line = format!(
        "{},{},{},2025,3 \u{b5}s \u{65e5},",
        key.server, key.workload, key.round
    );
    for cut in 1..=line.len() {
        fs::write(&cells, [&text[..], &line.as_bytes()[..cut]].concat()).unwrap();
        let set = Set::open(&path).unwrap();
        assert_eq!((set.cells.len(), set.cut_off.len()), (2, 1), "cut at {cut}");
        drop(Writer::resume(&set).unwrap());
        assert_eq!(fs::read(&cells).unwrap(), text, "cut at {cut}");
    }
    assert!(Set::open(&path).unwrap().cut_off.is_empty());
}

/// Two would write each other's lines; reading is free.
#[test]
fn a_set_has_one_writer() {
    let parent = tempfile::tempdir().unwrap();
    let writer = create(parent.path());
    let path = writer.path().to_owned();
    let set = Set::open(&path).unwrap();
    let error = Writer::resume(&set).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(
        error.contains(&format!("is being written by process {pid}")),
        "{error}"
    );
    drop(writer);
    drop(Writer::resume(&set).unwrap());
}

#[test]
fn a_parent_that_cannot_hold_sets() {
    let folder = tempfile::tempdir().unwrap();
    check_parent(&folder.path().join("a/b")).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0);
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [&file, Path::new("/proc/results")] {
        let error = check_parent(path).unwrap_err().to_string();
        let expected = format!("cannot write into {}: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn files_are_replaced_as_a_whole() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("file", &link).unwrap();
    write_atomically(&link, "new").unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o604);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "nothing is left behind"
    );
}

/// A kill leaves files that were to replace others, and the beginning of a log.
#[test]
fn what_is_half_written_is_dropped() {
    let parent = tempfile::tempdir().unwrap();
    let path = set_of(parent.path(), 0);
    let key = &campaign().cells()[0];
    let log = path.join(format!("{}.hlog", key.server));
    for left in ["#[Histogram log format version 1.3]\n#[Val", "Tag=", ""] {
        fs::write(&log, left).unwrap();
        fs::write(path.join(".new-README"), "half").unwrap();
        drop(Writer::resume(&Set::open(&path).unwrap()).unwrap());
        assert!(!log.exists(), "{left:?}");
        assert!(!path.join(".new-README").exists());
    }
    let mut writer = Writer::resume(&Set::open(&path).unwrap()).unwrap();
    append(&mut writer, key);
    assert_eq!(tags(&log), [format!("{}:1:response", key.workload)]);
    // Not even a folder that is not named yet is left behind by one that was.
    let names: Vec<_> = fs::read_dir(parent.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

/// Room for rows is beyond the end of the file, and given back.
#[test]
fn room_for_rows_is_reserved() {
    use std::os::unix::fs::MetadataExt as _;
    let parent = tempfile::tempdir().unwrap();
    let writer = create(parent.path());
    let cells = writer.path().join("cells.csv");
    let blocks = |path: &Path| path.metadata().unwrap().blocks() * 512;
    let (length, reserved) = (cells.metadata().unwrap().len(), blocks(&cells));
    if reserved < length + 12 * 1024 {
        println!("SKIPPED: this file system reserves no room");
        return;
    }
    drop(writer);
    assert_eq!(cells.metadata().unwrap().len(), length);
    assert!(blocks(&cells) < reserved, "{reserved} bytes still");
}

/// Each list of a set's files, wherever it stands, names all that a set can have.
#[test]
fn all_files_of_a_set_are_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lists = [
        (root.join("lab/src/set/mod.rs"), "//! - `", "`: "),
        (root.join("../results/README.md"), "| `", "` |"),
        (root.join("../results/METHODOLOGY.md"), "**`", "`**"),
    ];
    for (path, before, behind) in lists {
        let text = fs::read_to_string(&path).unwrap();
        for file in &FILES {
            let entry = format!("{before}{}{behind}", file.name);
            assert!(text.contains(&entry), "{}: no {entry}", path.display());
        }
    }
}
