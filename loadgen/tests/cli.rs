//! `loadgen run` as its users meet it: exit codes, messages, JSON.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(arguments)
        .current_dir(ROOT)
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)))
}

/// A server that answers `hello world` for as long as the test runs.
fn hello() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => return,
                        Ok(n) => seen.extend_from_slice(&buffer[..n]),
                    }
                    while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                        seen.drain(..end + 4);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn wrong_command_lines_are_refused_in_plain_words() {
    for (arguments, message) in [
        (&["run", "https://127.0.0.1/"][..], "https is not spoken"),
        (&["run", "ftp://127.0.0.1/"], "only http://"),
        (
            &["run", "127.0.0.1:8000"],
            "did you mean http://127.0.0.1:8000",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "-c", "0"],
            "expected a number of 1 or more",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "-t", "0"],
            "expected a number of 1 or more",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "-p", "0"],
            "expected a number of 1 or more",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "-n", "0"],
            "expected a number of 1 or more",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "-d", "0s"],
            "longer than zero",
        ),
        (&["run", "http://127.0.0.1:8000/", "-d", "5"], "such as 10s"),
        (
            &["run", "http://127.0.0.1:8000/", "-d", "1s", "-n", "1"],
            "cannot be used with",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "-c", "2", "-t", "3"],
            "3 threads cannot share 2",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "-c", "100000000"],
            "open files",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "-H", "nonsense"],
            "expected `Name: value`",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "--pin-client", "9999"],
            "no CPU 9999",
        ),
        (
            &["run", "http://127.0.0.1:8000/", "--pin-server", "0"],
            "a name, not a URL",
        ),
        (&["run", "event-lop"], "event-loop"),
        (&["run", "nothing-like-it"], "iterative"),
    ] {
        let output = loadgen(arguments).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn the_limit_of_open_files_is_said_before_the_start() {
    let program = env!("CARGO_BIN_EXE_loadgen");
    let script = format!("ulimit -n 200 && exec {program} run http://127.0.0.1:9/ -c 300");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("300 connections need 364 open files, the limit is 200"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn nobody_listening_is_an_invalid_run_and_fast() {
    let url = format!("http://{}/", free_address());
    let start = Instant::now();
    let output = loadgen(&["run", &url, "--json", "-"]).output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(output.status.code(), Some(1));
    let json = json(&output);
    assert_eq!(json["verdict"]["status"], "invalid");
    assert_eq!(json["errors"][0]["phase"], "connect");
    assert_eq!(json["errors"][0]["kind"], "refused");
    assert!(json["errors"][0]["count"].as_u64().unwrap() >= 64);
    assert_eq!(json["latency_us"]["response"], Value::Null);
    assert_eq!(json["connections_opened"], 0);
}

#[test]
fn a_run_as_json_holds_the_schema() {
    let url = format!("http://{}/", hello());
    let arguments = [
        "run", &url, "-n", "2000", "-c", "5", "-t", "2", "--json", "-",
    ];
    let output = loadgen(&arguments).output().unwrap();
    let json = json(&output);
    assert_eq!(json["schema"], 1);
    assert_eq!(json["target"], Value::String(url));
    for count in ["requests", "responses", "good"] {
        assert_eq!(json[count], 2000, "{count}");
    }
    for key in [
        "version",
        "plan",
        "verdict",
        "duration_s",
        "in_flight_at_end",
        "unsent",
        "connections_opened",
        "connections_open_max",
        "bytes_received",
        "requests_per_s",
        "connections_per_s",
        "latency_us",
        "errors",
        "status",
        "fairness",
        "client",
        "server_cost",
    ] {
        assert!(json.as_object().unwrap().contains_key(key), "{key}");
    }
    assert_eq!(json["plan"]["connections"], 5);
    assert_eq!(json["plan"]["pace"], "closed");
    assert_eq!(json["status"]["200"], 2000);
    assert_eq!(json["connections_opened"], 5);
    assert_eq!(json["server_cost"], Value::Null);
    assert_eq!(json["latency_us"]["lag"], Value::Null);
    let response = &json["latency_us"]["response"];
    assert_eq!(response["count"], 2000);
    assert_eq!(response["p99_9"], Value::Null, "2000 are too few");
    assert!(response["p99"].as_f64().unwrap() >= response["p50"].as_f64().unwrap());
    assert_eq!(&json["latency_us"]["service"], response);
    assert_eq!(json["fairness"]["connections_never_served"], 0);
}

#[test]
fn outcomes_go_to_files_and_the_table_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, hlog) = (path("run.json"), path("run.hlog"));
    let url = format!("http://{}/", hello());
    let arguments = [
        "run", &url, "-n", "500", "-c", "2", "--json", &json, "--hlog", &hlog,
    ];
    let output = loadgen(&arguments).output().unwrap();
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    assert!(stdout.contains("requests/s"), "{stdout}");
    assert!(stdout.contains("n<3838"), "{stdout}");
    assert!(
        stdout.lines().all(|line| line.chars().count() <= 80),
        "{stdout}"
    );
    let json: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(json["good"], 500);
    let hlog = std::fs::read_to_string(hlog).unwrap();
    for tag in ["response", "first_byte", "connect"] {
        assert!(hlog.contains(&format!("Tag={tag},")), "{hlog}");
    }
}

#[test]
fn methods_are_sent_and_their_answers_understood() {
    let url = format!("http://{}/", hello());
    // This server sends a body with its answer to HEAD too: more than there may be.
    let arguments = [
        "run", &url, "-n", "1", "-c", "1", "-m", "HEAD", "--json", "-",
    ];
    let json = json(&loadgen(&arguments).output().unwrap());
    assert_eq!(json["responses"], 1);
    assert_eq!(json["errors"][0]["phase"], "close");
    assert_eq!(json["errors"][0]["kind"], "malformed");
    let arguments = [
        "run", &url, "-n", "10", "-c", "1", "-m", "POST", "--json", "-",
    ];
    let json = self::json(&loadgen(&arguments).output().unwrap());
    assert_eq!(json["good"], 10);
}

#[test]
fn ctrl_c_prints_what_was_seen() {
    let url = format!("http://{}/", hello());
    let child = loadgen(&["run", &url, "-d", "60s", "--warmup", "0s", "-c", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(1500));
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let stdout = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{stdout}{}",
        text(&output.stderr)
    );
    assert!(stdout.contains("interrupted after"), "{stdout}");
    assert!(stdout.contains("requests/s"), "{stdout}");
}
