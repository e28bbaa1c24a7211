//! `loadgen calibrate` as its users meet it: what it prints and records, what it does with other
//! generators, and that it leaves nothing behind. Nothing here depends on how fast anything is.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use engine::affinity::{own_cpus, pin_thread};
use lab::calibration::Calibration;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use subject::machine::{Machine, Pinning};
use tempfile::TempDir;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

/// Of each measurement. A machine that does much else lets a generator wait for a tenth of a second.
const TIME: &str = "500ms";

fn calibrate(arguments: &[&str]) -> Command {
    let mut command = Command::new(LOADGEN);
    command
        .arg("calibrate")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

fn soon(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not soon: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Processes that `pid` has started and that are not yet over.
fn children(pid: u32) -> Vec<u32> {
    let is_child = |stat: &str| {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let lives = fields.next()? != "Z";
        let parent: u32 = fields.next()?.parse().ok()?;
        (lives && parent == pid).then_some(())
    };
    let pids = fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let stat = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    pids.filter(|pid| stat(pid).is_some_and(|stat| is_child(&stat).is_some()))
        .collect()
}

fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// A folder of made-up load generators, to be the whole search path.
struct Programs(TempDir);

impl Programs {
    fn new() -> Self {
        Programs(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A shell script of that name.
    fn add(&self, name: &str, script: &str) {
        let path = self.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn calibrate(&self, arguments: &[&str]) -> Command {
        let mut command = calibrate(arguments);
        command.env("PATH", self.path());
        command
    }
}

#[test]
fn a_record_on_stdout() {
    let arguments = ["--rounds", "2", "-d", TIME, "--json", "-"];
    let output = succeeds(&mut calibrate(&arguments));
    let calibration: Calibration = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(calibration.schema, 1);
    assert_eq!(calibration.duration_s, 0.5);
    assert_eq!(calibration.rounds.len(), 2);
    let here = Machine::here(own_cpus().len(), Pinning::default());
    let differences = calibration.fits(&here);
    // The profile is that of this test, not of the program.
    let rest = differences.iter().filter(|it| !it.contains("profile"));
    assert_eq!(rest.count(), 0, "{differences:?}");
    for (what, value) in [
        ("requests/s", calibration.requests_per_s),
        ("connections/s", calibration.connections_per_s),
        ("a request", calibration.client_cpu_us_per_request),
        ("a connection", calibration.client_cpu_us_per_connection),
        (
            "the responder, a request",
            calibration.floor_cpu_us_per_request,
        ),
        (
            "the responder, a connection",
            calibration.floor_cpu_us_per_connection,
        ),
        ("p50", calibration.latency_us.p50.unwrap()),
    ] {
        assert!(value > 0.0 && value.is_finite(), "{what}: {value}");
    }
    for round in &calibration.rounds {
        for ceiling in [&round.requests, &round.connections] {
            for share in [ceiling.client_busy, ceiling.floor_busy] {
                assert!(share > 0.0 && share < 2.0, "{ceiling:?}");
            }
            let busy = ceiling.per_s * ceiling.client_cpu_us / 1e6;
            assert!((busy - ceiling.client_busy).abs() < 0.01, "{ceiling:?}");
        }
    }
    assert!(calibration.against.is_empty());
}

#[test]
fn a_table_on_stdout_and_the_record_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calibration.json");
    let arguments = ["--rounds", "1", "-d", TIME, "--json"];
    let output = succeeds(calibrate(&arguments).arg(&path));
    let stdout = text(&output.stdout);
    for part in [
        "Limits of the generator: ",
        &*format!("1 round of {TIME}"),
        "requests/s, 64 kept alive",
        "connections/s, 1 request on each",
        "response time, 1 connection, p50",
        "\nRequests: ",
        "\nConnections: ",
    ] {
        assert!(stdout.contains(part), "no {part:?} in {stdout}");
    }
    let too_wide = stdout.lines().find(|line| line.chars().count() > 80);
    assert_eq!(too_wide, None, "{stdout}");
    let calibration = Calibration::read(&path).unwrap();
    assert_eq!(calibration.rounds.len(), 1);

    // Runs and sets carry it along.
    let kept = path.to_str().unwrap();
    let responder = Responder::start();
    let run = [
        "run",
        &responder.url,
        "-n",
        "500",
        "--calibration",
        kept,
        "--json",
        "-",
    ];
    let output = Command::new(LOADGEN).args(run).output().unwrap();
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let carried: Calibration = serde_json::from_value(run["calibration"].clone()).unwrap();
    assert_eq!(carried, calibration);

    let benches = folder.path().join("benches");
    fs::create_dir(&benches).unwrap();
    let server = format!(
        "[[server]]\nname = 'floor'\nabout = ''\n\
         run = ['{LOADGEN}', 'responder', '--listen', '{{addr}}']\n"
    );
    fs::write(benches.join("servers.toml"), server).unwrap();
    let workload = "[[workload]]\nname = 'w'\nconnections = 2\nduration = '100ms'\n";
    fs::write(benches.join("workloads.toml"), workload).unwrap();
    let measure = [
        "measure",
        "--rounds",
        "1",
        "--out",
        "sets",
        "--calibration",
        kept,
    ];
    let mut measure = Command::new(LOADGEN)
        .args(measure)
        .current_dir(&folder)
        .spawn()
        .unwrap();
    assert!(measure.wait().unwrap().success());
    let set = fs::read_dir(folder.path().join("sets"))
        .unwrap()
        .next()
        .unwrap();
    let set = set.unwrap().path();
    let path = set.join("calibration.json");
    assert_eq!(Calibration::read(&path).unwrap(), calibration);
    // The README names each file of the set, and no other.
    let readme = fs::read_to_string(set.join("README.md")).unwrap();
    let (_, list) = readme.split_once("\n## Files\n").unwrap();
    let named = list
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split('`').next());
    let mut named: Vec<_> = named
        .map(|name| name.replace("<server>", "floor"))
        .collect();
    let files = fs::read_dir(&set).unwrap();
    let mut files: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    named.sort();
    files.sort();
    assert_eq!(named, files);
}

/// A responder that runs as long as this is held.
struct Responder {
    child: Child,
    url: String,
}

impl Responder {
    fn start() -> Self {
        let mut child = Command::new(LOADGEN)
            .arg("responder")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap();
        let url = format!("http://{address}/");
        Responder { child, url }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn without_a_second_cpu_it_says_so() {
    pin_thread(&own_cpus()[..1]).unwrap();
    let output = succeeds(&mut calibrate(&["--rounds", "1", "-d", TIME]));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("not pinned apart"), "{stderr}");
    let stdout = text(&output.stdout);
    assert!(stdout.contains("not pinned apart"), "{stdout}");
}

#[test]
fn wrong_command_lines() {
    for (arguments, message) in [
        (&["--against", "wrk,siege"][..], "'siege'"),
        (&["--rounds", "0"], "1 or more"),
        (&["-d", "0s"], "longer than zero"),
        (&["--quick", "-d", "1s"], "cannot be used with"),
        (&["--pin-server", "9999"], "CPU 9999 is not available here"),
        (&["--json", "/no/such/c.json"], "no folder /no/such"),
    ] {
        let output = calibrate(arguments).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}

/// One that claims more than it did, one that fails, and three that are not there.
#[test]
fn made_up_generators() {
    let programs = Programs::new();
    // Called as `oha -z 1s -c 64 --no-tui URL --json`.
    programs.add(
        "oha",
        &format!(
            "case $1 in --help) echo '-j, --json';; --version) echo oha 0.6.5;;\n\
             *) {LOADGEN} run $6 -n 500 -c 1 > /dev/null && echo '{{\"summary\": \
             {{\"requestsPerSec\": 1234.5}}, \"statusCodeDistribution\": {{\"200\": 600}}}}'\n\
             test \"$7\" = --json;; esac"
        ),
    );
    programs.add("wrk", "echo unable to connect >&2; exit 1");
    let json = programs.file("c.json");
    let arguments = ["--rounds", "2", "-d", TIME, "--against"];
    let output = programs
        .calibrate(&arguments)
        .args(["wrk,oha,h2load,hey,ab,oha", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for line in [
        "SKIPPED: h2load is not installed (apt install nghttp2-client)",
        "SKIPPED: hey is not installed (apt install hey)",
        "SKIPPED: ab is not installed (apt install apache2-utils)",
        "wrk failed: it ended with exit status: 1: unable to connect",
    ] {
        let count = stderr.lines().filter(|it| *it == line).count();
        assert_eq!(count, 1, "{line:?} in {stderr}");
    }
    for part in [
        "1.23k  0.6.5\n",
        "oha reports 600 requests in round 1; the responder counted 500, so the report",
        "in round 2; the responder counted 500",
    ] {
        assert!(stdout.contains(part), "no {part:?} in {stdout}");
    }
    assert!(!stdout.contains("wrk"), "{stdout}");

    let calibration = Calibration::read(&json).unwrap();
    let names: Vec<_> = (calibration.against.iter())
        .map(|standing| standing.program.as_str())
        .collect();
    assert_eq!(names, ["loadgen", "oha"]);
    let [loadgen, oha] = &calibration.against[..] else {
        unreachable!("there are two");
    };
    assert_eq!(loadgen.ratio, 1.0);
    for run in &oha.runs {
        assert_eq!((run.requests, run.claim.requests), (500, 600));
        assert!(run.client_cpu_s > 0.0);
    }
    for run in &loadgen.runs {
        // What was under way at the end may not have been counted by either.
        let apart = run.requests.abs_diff(run.claim.requests);
        assert!(apart <= 64, "{run:?}");
    }
}

#[test]
fn none_of_them_installed() {
    let programs = Programs::new();
    let arguments = ["--rounds", "1", "-d", TIME, "--against", "oha"];
    let output = succeeds(&mut programs.calibrate(&arguments));
    let stderr = text(&output.stderr);
    let line = "SKIPPED: oha is not installed (cargo install oha --locked)\n";
    assert!(stderr.contains(line), "{stderr}");
    assert!(!text(&output.stdout).contains("Beside"));
}

/// Those that there are do run, and what they print is understood.
#[test]
fn real_generators() {
    let names = ["wrk", "oha", "h2load", "hey", "ab"];
    let arguments = ["--rounds", "1", "-d", TIME, "--json", "-", "--against"];
    let output = succeeds(calibrate(&arguments).arg(names.join(",")));
    let calibration: Calibration = serde_json::from_slice(&output.stdout).unwrap();
    let stderr = text(&output.stderr);
    for name in names {
        let skipped = format!("SKIPPED: {name} is not installed");
        if let Some(line) = stderr.lines().find(|line| line.starts_with(&skipped)) {
            // Past the capture of test output, so that it is seen.
            writeln!(io::stderr(), "{line}").unwrap();
            continue;
        }
        let standing = calibration.against.iter().find(|it| it.program == name);
        let standing = standing.unwrap_or_else(|| panic!("no {name}: {stderr}"));
        let run = standing.runs[0];
        assert!(run.requests > 100, "{name}: {run:?}");
        assert!(run.claim.requests > 100, "{name}: {run:?}");
        assert!(run.client_cpu_s > 0.001, "{name}: {run:?}");
        assert_eq!(run.claim.errors, 0, "{name}: {run:?}");
        // What it did in a second and a bit.
        let rate = run.claim.requests_per_s / run.claim.requests as f64;
        assert!(rate > 0.2 && rate < 2.0, "{name}: {run:?}");
    }
}

#[test]
fn ctrl_c_in_the_first_round_leaves_nothing() {
    let child = calibrate(&["-d", "60s"]).spawn().unwrap();
    soon("the responder runs", || !children(child.id()).is_empty());
    let started = children(child.id());
    // With the load on, as far as can be told from outside.
    thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let message = "loadgen: interrupted before the first round was complete\n";
    assert!(stderr.ends_with(message), "{stderr}");
    assert_eq!(text(&output.stdout), "");
    for pid in started {
        assert!(is_gone(pid), "{pid} is left");
    }
}

/// In the second round, while another generator runs: what the first round has shown is shown, but not
/// recorded.
#[test]
fn ctrl_c_in_a_later_round_shows_the_rounds_before() {
    let programs = Programs::new();
    let (pid, json) = (programs.file("pid"), programs.file("c.json"));
    // Called as `hey -z 1s -c 64 -cpus 1 URL`.
    programs.add(
        "hey",
        &format!(
            "if test -e {0}.first; then echo $$ > {0}.new; /bin/mv {0}.new {0}; exec /bin/sleep 100; fi\n\
             : > {0}.first; {LOADGEN} run $7 -n 500 -c 1 > /dev/null\n\
             printf 'Total:\\t0.5 secs\\nRequests/sec:\\t1000.0\\n'",
            pid.display()
        ),
    );
    let arguments = ["--rounds", "3", "-d", TIME, "--against", "hey", "--json"];
    let child = programs.calibrate(&arguments).arg(&json).spawn().unwrap();
    soon("the generator sleeps", || pid.exists());
    let started = children(child.id());
    assert_eq!(started.len(), 2, "the responder and the generator");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stdout.contains(&format!("1 round of {TIME}")), "{stdout}");
    assert!(stdout.contains("1.00k  -\n"), "{stdout}");
    let message = "interrupted: no record of these rounds was written\n";
    assert!(stderr.ends_with(message), "{stderr}");
    assert!(!json.exists());
    for pid in started {
        assert!(is_gone(pid), "{pid} is left");
    }
}
