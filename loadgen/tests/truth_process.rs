//! The program against servers whose truth is known: what it reports, and the memory it takes.

mod truth;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use truth::answer::Fault;
use truth::delay::Delay;
use truth::{Options, Server, Truth};

const MIB: u64 = 1 << 20;

/// One test after another: two at once would have too many connections for this machine.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `loadgen run` against a server, with its report in `json`.
fn loadgen(server: &Server, arguments: &[&str], json: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(["run", &format!("http://{}/", server.address())])
        .args(arguments)
        .args(["--warmup", "0", "--json", json])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn reports_what_the_server_did() {
    let _alone = alone();
    for pace in [
        &[][..],
        &["--rate", "1000"],
        &["--rate", "1k/s", "--arrivals", "poisson", "--seed", "7"],
        &["--rate", "60k/m", "-t", "2", "-k", "1"],
    ] {
        let options = Options {
            faults: Fault::ALL.to_vec(),
            fault_every: 10,
            ..Options::default()
        };
        let server = Server::start(options).unwrap();
        let arguments = [
            // Longer than a busy machine keeps any other answer; those that time out are waited for.
            &["-n", "600", "--timeout", "2s", "--drain", "20s"][..],
            &["--expect-body", "hello world"],
            pace,
        ]
        .concat();
        let output = loadgen(&server, &arguments, "-").output().unwrap();
        let truth = server.stop();
        let context = format!("{pace:?}: {}", String::from_utf8_lossy(&output.stdout));
        let report: Value = serde_json::from_slice(&output.stdout).expect(&context);
        assert_eq!(output.status.code(), Some(1), "{context}");
        assert_eq!(report["verdict"]["status"], "invalid", "{context}");

        // Each of ten kinds six times; bytes too many are the only one that leaves a good response.
        assert_eq!((truth.requests, truth.faults_count()), (600, 60));
        for (field, count) in [
            ("requests", 600),
            ("responses", truth.responses),
            ("good", 600 - 60 + 6),
            ("in_flight_at_end", 0),
            ("lower_bounds", 6),
            ("connections_opened", truth.connections),
        ] {
            assert_eq!(report[field], count, "{field}, {context}");
        }
        let open_loop = !pace.is_empty();
        let due = [Value::Null, Value::from(600)][usize::from(open_loop)].clone();
        assert_eq!(report["due"], due, "{context}");
        let mut errors = BTreeMap::new();
        for error in report["errors"].as_array().unwrap() {
            let [phase, kind] = ["phase", "kind"].map(|field| error[field].as_str().unwrap());
            errors.insert((phase, kind), error["count"].as_u64().unwrap());
        }
        let expected = [
            (("body", "bad_status"), 6),
            (("body", "closed_early"), 6),
            (("body", "malformed"), 6),
            (("body", "short_body"), 6),
            (("body", "wrong_body"), 12),
            (("close", "malformed"), 6),
            (("first_byte", "closed_early"), 6),
            (("first_byte", "reset"), 6),
            (("first_byte", "timeout"), 6),
        ];
        assert_eq!(errors, BTreeMap::from(expected), "{context}");
    }
}

#[test]
fn reports_a_stall() {
    let _alone = alone();
    let options = Options {
        stall: Some("200ms/1s".parse().unwrap()),
        ..Options::default()
    };
    let server = Server::start(options).unwrap();
    let arguments = ["--rate", "1000", "-d", "2s"];
    let output = loadgen(&server, &arguments, "-").output().unwrap();
    let truth = server.stop();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (report["due"].as_u64(), truth.requests),
        (Some(2_000), 2_000)
    );
    // The closed form is 190 ms. A busy machine makes it longer, never shorter; the tests of times are strict.
    let p99_us = report["latency_us"]["response"]["p99"].as_f64().unwrap();
    assert!(p99_us >= 184_300.0, "{p99_us} us");
}

/// Runs it. Returns what it reports, what the server did, and the most memory that the process had at
/// once, bytes.
fn measured_run(options: Options, arguments: &[&str]) -> (Value, Truth, u64) {
    let server = Server::start(options).unwrap();
    let json = tempfile::NamedTempFile::new().unwrap();
    let path = json.path().to_str().unwrap();
    let mut child = loadgen(&server, arguments, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut memory = 0;
    // The kernel keeps the most; it is gone with the process.
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = most.and_then(|most| most.trim().trim_end_matches(" kB").parse().ok());
        memory = kib.map_or(memory, |kib: u64| kib * 1024);
        thread::sleep(Duration::from_millis(2));
    }
    let json = fs::read_to_string(json.path()).unwrap();
    let report = serde_json::from_str(&json).expect("it reports, whatever it thinks of the run");
    assert!(memory > 0, "the process was never seen");
    (report, server.stop(), memory)
}

#[test]
fn a_longer_run_takes_no_more_memory() {
    let _alone = alone();
    for pace in [&[][..], &["--rate", "2000/s"]] {
        let [short, long] = ["1s", "3s"].map(|duration| {
            let arguments = [&["-d", duration][..], pace].concat();
            let options = Options {
                delay: Delay::Exponential(Duration::from_millis(5)),
                ..Options::default()
            };
            let (report, truth, memory) = measured_run(options, &arguments);
            assert_eq!(report["requests"], truth.requests, "{arguments:?}");
            assert_eq!(report["connections_opened"], truth.connections);
            memory
        });
        assert!(
            long <= short + MIB,
            "{pace:?}: {short} bytes in 1 s, {long} in 3 s"
        );
    }
}

#[test]
fn ten_thousand_connections_fit_into_64_mib() {
    let _alone = alone();
    const WANTED: u64 = 10_000;
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, files, files).unwrap();
    let connections = WANTED.min(files.saturating_sub(200));
    if connections < WANTED {
        // Not by a macro, whose output would be captured.
        writeln!(
            std::io::stderr(),
            "SKIPPED: {WANTED} connections; the limit of {files} open files leaves {connections}"
        )
        .unwrap();
    }
    let run = |seconds: u64| {
        let options = Options {
            delay: Delay::Fixed(Duration::from_millis(300)),
            ..Options::default()
        };
        let (duration, connections) = (format!("{seconds}s"), connections.to_string());
        let arguments = ["-d", &duration, "-c", &connections, "--timeout", "30s"];
        measured_run(options, &arguments)
    };
    // A busy machine takes its time to open them.
    let mut ran = run(2);
    for seconds in [4, 8, 16] {
        if ran.0["connections_opened"].as_u64() >= Some(connections) {
            break;
        }
        ran = run(seconds);
    }
    let (report, truth, memory) = ran;
    assert_eq!(report["connections_opened"], connections);
    assert_eq!(report["connections_open_max"], connections);
    assert_eq!(truth.connections, connections);
    assert_eq!(truth.connections_open_max, connections);
    assert_eq!(report["requests"], truth.requests);
    assert_eq!(report["errors"], Value::Array(Vec::new()));
    assert_eq!(report["fairness"]["connections_never_served"], 0);
    assert!(memory <= 64 * MIB, "{memory} bytes");
}
