//! Connections that only stay open: all are served once, none is lost sight of, and what they cost in
//! memory is what the server took for them.

mod truth;

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use engine::drive;
use engine::drive::Moment;
use engine::plan::{ConnectionLife, Limit, Pace, Plan};
use engine::record::{Fault, Idle, Kind, Outcome, Phase};
use engine::verdict::{Status, judge};
use lab::set::Set;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use truth::Options;
use truth::against::{books_balance, connections_agree, constant, lasting, run};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
const MS: Duration = Duration::from_millis(1);

/// A server that gives each connection to `converse`, with its number, on a thread of its own, for as long as
/// the test runs. Tells how many it has accepted.
fn server<F>(converse: F) -> (SocketAddr, Arc<AtomicU64>)
where
    F: Fn(u64, &mut TcpStream) -> io::Result<()> + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&accepted);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let number = count.fetch_add(1, SeqCst);
            let converse = converse.clone();
            // What a client does to its connection is its own affair.
            thread::spawn(move || converse(number, &mut stream?));
        }
    });
    (address, accepted)
}

/// Answers requests until the client closes, or the time to read one is over.
fn answer_all(stream: &mut TcpStream) -> io::Result<()> {
    let mut request = vec![0; REQUEST.len()];
    loop {
        stream.read_exact(&mut request)?;
        stream.write_all(HELLO)?;
    }
}

fn plan(target: SocketAddr, idle: usize) -> Plan {
    Plan {
        connections: 4,
        idle,
        limit: Limit::Requests(1_000),
        warmup: Duration::ZERO,
        ..Plan::new(target, REQUEST.to_vec())
    }
}

fn drive(plan: &Plan) -> Outcome {
    drive::run(plan, &AtomicBool::new(false)).unwrap()
}

fn all_well(idle: u64) -> Option<Idle> {
    Some(Idle {
        connections: idle,
        requests: idle,
        served: idle,
        ..Idle::default()
    })
}

#[test]
fn they_are_counted_apart() {
    for (idle, pace, life, threads) in [
        (1, Pace::Closed, 0, 1),
        (500, Pace::Closed, 0, 1),
        (501, Pace::Closed, 1, 2),
        (500, constant(2_000.0), 0, 2),
        (500, constant(2_000.0), 1, 1),
        (0, Pace::Closed, 0, 1),
    ] {
        let (plan, outcome, truth) = run(Options::default(), |plan| Plan {
            idle,
            pace,
            life: ConnectionLife::from_requests(life),
            threads,
            warmup: 50 * MS,
            limit: Limit::Requests(1_000),
            ..plan
        });
        books_balance(&plan, &outcome, &truth, 0);
        connections_agree(&outcome, &truth);
        let expected = all_well(idle as u64).filter(|_| idle > 0);
        assert_eq!(outcome.idle, expected, "{plan:?}");
        assert_eq!(outcome.record.counts.good, 1_000, "{plan:?}");
        let open_max = truth.connections_open_max;
        assert!(open_max > idle as u64, "{open_max} at once: {plan:?}");
        let verdict = judge(&plan, &outcome);
        let reasons = verdict.reasons.concat();
        assert!(!reasons.contains("idle connections"), "{reasons}");
    }
}

/// While they are opened nothing else is: that is when memory is read.
#[test]
fn they_are_told_of_by_halves() {
    for (idle, expected) in [(7, &[0, 3, 7][..]), (2, &[0, 1, 2]), (1, &[0, 1]), (0, &[])] {
        let (address, accepted) = server(|_, stream| answer_all(stream));
        let plan = plan(address, idle);
        let mut told = Vec::new();
        let mut has_begun = false;
        let interrupted = AtomicBool::new(false);
        drive::run_observed(&plan, &interrupted, &mut |moment| match moment {
            Moment::Idle(open) => {
                assert!(!has_begun);
                assert_eq!(accepted.load(SeqCst), open as u64);
                told.push(open);
            }
            Moment::Begin(_) => has_begun = true,
            Moment::Tick(_) | Moment::End(_) => {}
        })
        .unwrap();
        assert_eq!(told, expected, "of {idle}");
    }
}

#[test]
fn those_that_the_server_closes_are_told() {
    let (address, accepted) = server(|_, stream| {
        stream.set_read_timeout(Some(200 * MS))?;
        answer_all(stream)
    });
    let plan = Plan {
        limit: lasting(1_000),
        ..plan(address, 50)
    };
    let outcome = drive(&plan);
    let idle = outcome.idle.clone().unwrap();
    assert_eq!((idle.served, idle.closed_by_server), (50, 50), "{idle:?}");
    let opened = outcome.record.counts.connections_opened + idle.connections;
    assert_eq!(opened, accepted.load(SeqCst));
    let verdict = judge(&plan, &outcome);
    assert_eq!(verdict.status, Status::Invalid);
    let reason = "the server closed 50 of 50 idle connections";
    let at = verdict.reasons.iter().position(|it| it == reason);
    let advice = &verdict.advice[at.unwrap_or_else(|| panic!("{verdict:?}"))];
    assert!(advice.contains("--idle-timeout"), "{advice}");
}

/// The run goes on with those that were served.
#[test]
fn those_that_cannot_be_opened_are_told() {
    type Converse = fn(u64, &mut TcpStream) -> io::Result<()>;
    let cases: [(&str, Converse, Phase, Kind, u64); 7] = [
        (
            "serves three, and the four of the run",
            |number, stream| match number {
                3..17 => stream.read_to_end(&mut Vec::new()).map(drop),
                _ => answer_all(stream),
            },
            Phase::FirstByte,
            Kind::Timeout,
            3,
        ),
        (
            "says that it closes, and does",
            |_, stream| {
                stream.read_exact(&mut [0; REQUEST.len()])?;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            },
            Phase::Close,
            Kind::ClosedEarly,
            0,
        ),
        (
            "has another status than is expected",
            |_, stream| {
                stream.read_exact(&mut [0; REQUEST.len()])?;
                stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            },
            Phase::Body,
            Kind::BadStatus,
            0,
        ),
        (
            "ends its answer by closing",
            |_, stream| {
                stream.read_exact(&mut [0; REQUEST.len()])?;
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello world")
            },
            Phase::Close,
            Kind::ClosedEarly,
            0,
        ),
        (
            "closes without an answer",
            |_, stream| stream.read_exact(&mut [0; REQUEST.len()]),
            Phase::FirstByte,
            Kind::ClosedEarly,
            0,
        ),
        (
            "says more than it was asked",
            |_, stream| {
                stream.read_exact(&mut [0; REQUEST.len()])?;
                stream.write_all(&[HELLO, b"!"].concat())?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            },
            Phase::Close,
            Kind::Malformed,
            0,
        ),
        (
            "speaks another protocol",
            |_, stream| {
                stream.write_all(b"220 mail.example.com ESMTP\r\n")?;
                stream.read_to_end(&mut Vec::new()).map(drop)
            },
            Phase::Body,
            Kind::Malformed,
            0,
        ),
    ];
    thread::scope(|scope| {
        for (name, converse, phase, kind, served) in cases {
            scope.spawn(move || {
                let (address, accepted) = server(converse);
                let plan = Plan {
                    expect_status: Some(200),
                    timeout: 500 * MS,
                    limit: Limit::Requests(20),
                    // The first half is asked at once.
                    ..self::plan(address, 34)
                };
                let outcome = drive(&plan);
                let idle = outcome.idle.clone().unwrap();
                assert_eq!(idle.fault, Some(Fault { phase, kind }), "{name}");
                assert_eq!(idle.served, served, "{name}");
                assert_eq!(idle.closed_by_server, 0, "{name}");
                let opened = outcome.record.counts.connections_opened + idle.connections;
                assert_eq!(opened, accepted.load(SeqCst), "{name}");
                if served > 0 {
                    assert_eq!(outcome.record.counts.good, 20, "{name}");
                }
                let verdict = judge(&plan, &outcome);
                assert_eq!(verdict.status, Status::Invalid, "{name}");
                let expected = format!(
                    "only {served} of 34 idle connections were served and left open ({phase}: {kind})"
                );
                assert!(verdict.reasons.contains(&expected), "{name}: {verdict:?}");
            });
        }
    });
}

#[test]
fn nobody_listening_is_found_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let start = Instant::now();
    let outcome = drive(&plan(address, 1_000));
    assert!(start.elapsed() < Duration::from_secs(30));
    let (phase, kind) = (Phase::Connect, Kind::Refused);
    let fault = Some(Fault { phase, kind });
    let expected = Idle {
        fault,
        ..Idle::default()
    };
    assert_eq!(outcome.idle, Some(expected));
}

#[test]
fn the_user_may_stop_while_they_are_opened() {
    // Of four, one is served.
    let (address, _) = server(|number, stream| match number {
        0 => answer_all(stream),
        _ => stream.read_to_end(&mut Vec::new()).map(drop),
    });
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let user = thread::spawn(move || {
        thread::sleep(300 * MS);
        flag.store(true, SeqCst);
    });
    let plan = Plan {
        timeout: Duration::from_secs(60),
        limit: lasting(60_000),
        ..plan(address, 4)
    };
    let start = Instant::now();
    let outcome = drive::run(&plan, &interrupted).unwrap();
    user.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(outcome.interrupted);
    let idle = outcome.idle.unwrap();
    assert_eq!((idle.served, idle.fault), (1, None));
}

/// A server as a process of its own, which ends with the test.
struct Process(Child, SocketAddr);

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        let address = address.parse().unwrap();
        Process(child, address)
    }

    /// Stops it, and takes the counts that it prints.
    fn counts(mut self) -> Value {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.0.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        let last = stderr.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {stderr}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

fn loadgen(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)))
}

/// What the generator says of a run with 2,000 idle connections, and what the server says of it.
fn both_sides(server: Process, more: &[&str]) -> (Value, Value) {
    let url = format!("http://{}/", server.1);
    let arguments = ["run", &url, "-c", "8", "--idle", "2000", "--json", "-"];
    let arguments = [&arguments, more].concat();
    let json = json(&loadgen(Path::new("/"), &arguments));
    (json, server.counts())
}

fn both_agree(json: &Value, counts: &Value) {
    let count = |key: &Value| key.as_u64().unwrap_or_else(|| panic!("{json} {counts}"));
    let idle = &json["idle"];
    let opened = count(&json["connections_opened"]) + count(&idle["connections"]);
    assert_eq!(count(&counts["accepted"]), opened, "{json} {counts}");
    let sent = ["requests", "warmup_requests"].map(|key| count(&json[key]));
    let sent = sent[0] + sent[1] + count(&idle["requests"]);
    assert_eq!(count(&counts["requests"]), sent, "{json} {counts}");
}

#[test]
fn the_responder_counts_the_same() {
    let responder = Process::start(Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("responder"));
    let (json, counts) = both_sides(responder, &["-n", "3000", "-k", "10", "-t", "2"]);
    both_agree(&json, &counts);
    assert_eq!(json["plan"]["idle"], 2_000);
    let expected = serde_json::json!({
        "connections": 2_000,
        "requests": 2_000,
        "served": 2_000,
        "closed_by_server": 0,
        "fault": null,
    });
    assert_eq!(json["idle"], expected);
    assert_eq!(json["good"], 3_000);
    // Somebody else started it.
    assert_eq!(json["server_cost"], Value::Null);
}

/// The event loop of this repository, in whichever profile it was built.
fn event_loop(arguments: &[&str]) -> Option<Process> {
    let own = env::current_exe().unwrap();
    let builds = own.ancestors().nth(3).unwrap();
    let programs = ["release", "debug"].map(|profile| builds.join(profile).join("event-loop"));
    let Some(program) = programs.iter().find(|program| program.is_file()) else {
        // Past the capture of test output, so that it is seen.
        let mut stderr = io::stderr().lock();
        let builds = builds.display();
        writeln!(
            stderr,
            "SKIPPED: idle connections of an event loop: none was built in {builds}"
        )
        .unwrap();
        return None;
    };
    let listen = ["--listen", "127.0.0.1:0"];
    Some(Process::start(
        Command::new(program).args(listen).args(arguments),
    ))
}

#[test]
fn an_event_loop_counts_the_same() {
    let Some(server) = event_loop(&[]) else {
        return;
    };
    let (json, counts) = both_sides(server, &["-n", "3000"]);
    both_agree(&json, &counts);
    assert_eq!(json["idle"]["served"], 2_000);
    assert_eq!(json["idle"]["closed_by_server"], 0);
}

#[test]
fn an_event_loop_that_closes_them_is_found_out() {
    let Some(server) = event_loop(&["--idle-timeout", "200ms"]) else {
        return;
    };
    let (json, counts) = both_sides(server, &["-d", "1500ms", "--warmup", "0s"]);
    let accepted = counts["accepted"].as_u64().unwrap();
    let connections = json["idle"]["connections"].as_u64().unwrap();
    let opened = json["connections_opened"].as_u64().unwrap();
    assert_eq!(accepted, opened + connections, "{json} {counts}");
    assert_eq!(json["idle"]["closed_by_server"], 2_000);
    let reasons = json["verdict"]["reasons"].to_string();
    let expected = "the server closed 2,000 of 2,000 idle connections";
    assert!(reasons.contains(expected), "{reasons}");
}

#[test]
fn the_limit_of_open_files_is_said_before_the_start() {
    let program = env!("CARGO_BIN_EXE_loadgen");
    let run = "run http://127.0.0.1:9/ --idle 300";
    let script = format!("ulimit -n 200 && exec {program} {run}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    let expected = "64 connections and 300 idle ones need 428 open files, the limit is 200";
    assert!(stderr.contains(expected), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// Set in processes that are to serve: the port, and how many bytes to take for a connection.
const SERVE: &str = "LOADGEN_TEST_HOARD";

/// Not a test of its own: a server that takes so much memory for each connection.
#[test]
#[ignore = "run by other tests"]
fn hoard() {
    let Ok(wanted) = env::var(SERVE) else {
        return;
    };
    let (port, bytes) = wanted.split_once(' ').unwrap();
    let bytes: usize = bytes.parse().unwrap();
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let serve = move || {
            // It is there once it is written to.
            let memory = vec![1_u8; bytes];
            let mut seen = Vec::new();
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
                while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                    seen.drain(..end + 4);
                    if stream.write_all(HELLO).is_err() {
                        return memory;
                    }
                }
            }
            memory
        };
        thread::spawn(serve);
    }
}

/// A repository with that server, and a workload of it. What it takes for a connection is an argument.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = env::current_exe().unwrap();
    let run = format!(
        "{SERVE}=\"{{port}} $1\" exec \"{}\" --ignored --exact hoard --nocapture",
        own.display()
    );
    fs::create_dir(folder.path().join("benches")).unwrap();
    fs::write(
        folder.path().join("benches/servers.toml"),
        format!(
            "[[server]]\nname = 'hoarder'\nabout = ''\nready = 'connect'\n\
             run = ['sh', '-c', '''{run}''', 'sh']\n"
        ),
    )
    .unwrap();
    fs::write(
        folder.path().join("benches/workloads.toml"),
        "[[workload]]\nname = 'crowd'\nconnections = 2\nidle = 240\nduration = '150ms'\n\
         [[workload]]\nname = 'alone'\nconnections = 2\nduration = '150ms'\n",
    )
    .unwrap();
    folder
}

const HOARD: f64 = 262_144.0;
/// What a thread with its stack takes beside that, and what is uncertain.
const BESIDE: f64 = 65_536.0;

#[test]
fn their_memory_is_what_the_server_takes_for_them() {
    let repository = repository();
    let arguments = [
        "run",
        "hoarder",
        "--server-arg",
        "262144",
        "--idle",
        "240",
        "-c",
        "2",
        // So many that the server's CPU time is more than a tick of the kernel's clock.
        "-n",
        "20000",
    ];
    let output = loadgen(
        repository.path(),
        &[&arguments[..], &["--json", "-"]].concat(),
    );
    let json = json(&output);
    assert_eq!(json["server_args"], serde_json::json!(["262144"]));
    let cost = &json["server_cost"]["idle"];
    let bytes = cost["bytes_per_connection"].as_f64().unwrap();
    assert!((HOARD..HOARD + BESIDE).contains(&bytes), "{cost}");
    assert!(cost["kernel_bytes_per_connection"].is_number(), "{cost}");
    let memory = cost["memory"].as_array().unwrap();
    let connections: Vec<_> = memory.iter().map(|it| it["connections"].as_u64()).collect();
    assert_eq!(connections, [Some(0), Some(120), Some(240)], "{cost}");

    let page = text(&loadgen(repository.path(), &arguments).stdout);
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "hoarder 262144 at http://",
        "closed loop, 2 connections + 240 idle, 1 thread",
        "idle 240 connections, served once, all open to the end",
        "KiB for each idle connection; kernel stacks and page tables:",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

#[test]
fn without_them_there_is_no_such_memory() {
    let arguments = [
        "run",
        "hoarder",
        "--server-arg=1",
        "-n",
        "500",
        "-c",
        "2",
        "--json",
        "-",
    ];
    let json = json(&loadgen(repository().path(), &arguments));
    assert!(json["server_cost"].is_object(), "{json}");
    assert_eq!(json["server_cost"]["idle"], Value::Null);
    assert_eq!(json["idle"], Value::Null);
    assert_eq!(json["plan"]["idle"], 0);
}

#[test]
fn a_set_holds_them() {
    let repository = repository();
    let arguments = [
        "measure",
        "--rounds",
        "1",
        "--seed",
        "3",
        "--server-arg=262144",
    ];
    let output = loadgen(repository.path(), &arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let sets: Vec<PathBuf> = fs::read_dir(repository.path().join("results"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let set = Set::open(&sets[0]).unwrap();
    let command = "loadgen measure --rounds 1 --server-arg=262144 --seed 3";
    assert_eq!(set.campaign.command, command);
    assert_eq!(set.campaign.server_args, ["262144"]);
    for cell in &set.cells {
        let bytes = cell.server_bytes_per_idle_connection;
        match cell.workload.as_str() {
            "crowd" => {
                assert_eq!(cell.idle_connections, Some(240), "{cell:?}");
                assert_eq!(cell.idle_closed_by_server, Some(0), "{cell:?}");
                assert!(
                    (HOARD..HOARD + BESIDE).contains(&bytes.unwrap()),
                    "{cell:?}"
                );
                assert!(cell.kernel_bytes_per_idle_connection.is_some(), "{cell:?}");
                assert_eq!(cell.connections_opened, Some(2), "{cell:?}");
            }
            _ => assert_eq!((cell.idle_connections, bytes), (None, None), "{cell:?}"),
        }
    }
    let table = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        table.contains("2 conns + ") && table.contains("240 idle"),
        "{stdout}"
    );
    assert!(
        table.contains("Bytes of memory per idle connection"),
        "{stdout}"
    );
    let readme = fs::read_to_string(sets[0].join("README.md")).unwrap();
    assert!(
        readme.contains("| crowd<br>*2 conns + 240 idle* |"),
        "{readme}"
    );
}
