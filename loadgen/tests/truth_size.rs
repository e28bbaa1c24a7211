//! What the generator takes: memory, of a process of its own, against servers in this one.

mod truth;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use truth::delay::Delay;
use truth::{Options, Server, Truth};

const MIB: u64 = 1 << 20;

/// Runs `loadgen run` against a server. Returns what it reports, what the server did, and the most memory
/// that the process had at once, bytes.
fn run(options: Options, arguments: &[&str]) -> (Value, Truth, u64) {
    // One after another: two at once would have too many connections for this machine.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(options).unwrap();
    let json = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["run", &format!("http://{}/", server.address())])
        .args(arguments)
        .args(["--warmup", "0", "--json"])
        .arg(json.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
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
    for pace in [&[][..], &["--rate", "2000/s"]] {
        let [short, long] = ["1s", "3s"].map(|duration| {
            let arguments = [&["-d", duration][..], pace].concat();
            let options = Options {
                delay: Delay::Exponential(Duration::from_millis(5)),
                ..Options::default()
            };
            let (report, truth, memory) = run(options, &arguments);
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
    let options = Options {
        delay: Delay::Fixed(Duration::from_millis(300)),
        ..Options::default()
    };
    let (report, truth, memory) = run(options, &["-d", "2s", "-c", &connections.to_string()]);
    assert_eq!(report["connections_opened"], connections);
    assert_eq!(report["connections_open_max"], connections);
    assert_eq!(truth.connections, connections);
    assert_eq!(truth.connections_open_max, connections);
    assert_eq!(report["requests"], truth.requests);
    assert_eq!(report["errors"], Value::Array(Vec::new()));
    assert_eq!(report["fairness"]["connections_never_served"], 0);
    assert!(memory <= 64 * MIB, "{memory} bytes");
}
