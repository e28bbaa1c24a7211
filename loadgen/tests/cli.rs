//! `loadgen run` as its users meet it: exit codes, messages, JSON.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
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
    server(|_, _| {})
}

/// The same, which shows each head to `seen` with the address that it comes from, and closes when it is
/// asked to.
fn server<F>(seen: F) -> SocketAddr
where
    F: Fn(SocketAddr, &str) + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let seen = seen.clone();
            thread::spawn(move || {
                let peer = stream.peer_addr().unwrap();
                let mut bytes = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => return,
                        Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                    }
                    while let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                        let head = text(&bytes[..end + 4]);
                        bytes.drain(..end + 4);
                        seen(peer, &head);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
                        if stream.write_all(answer).is_err() || head.contains("Connection: close") {
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

/// Each error of each flag has its test beside the flag; here is what they all have in common.
#[test]
fn wrong_command_lines_are_refused_in_plain_words() {
    let url = "http://127.0.0.1:8000/";
    for (arguments, message) in [
        (&["run"][..], "<TARGET>"),
        (&["run", "https://127.0.0.1/"], "HTTPS is not supported"),
        (
            &["run", "ftp://127.0.0.1/"],
            "\"ftp\" is not supported; write http://",
        ),
        (&["run", "127.0.0.1:80000"], "80000 is not a port"),
        (
            &["run", url, "http://127.0.0.1:9000/"],
            "must share host and port",
        ),
        (
            &["run", url, "event-loop"],
            "a server's name must be the only target",
        ),
        (&["run", url, "-c", "0"], "expected a number of 1 or more"),
        (&["run", url, "-d", "30"], "did you mean 30s?"),
        (&["run", url, "-r", "5k", "-p", "2"], "a free connection"),
        (&["run", url, "-c", "2", "-t", "3"], "3 threads cannot"),
        (&["run", url, "-c", "9000000"], "open files"),
        (
            &["run", url, "-m", "HEAD", "--expect-body", "x"],
            "has no body",
        ),
        (
            &["run", url, "--source", "::1"],
            "::1 is an IPv6 address and cannot reach 127.0.0.1:8000, an IPv4 address",
        ),
        (
            &["run", "event-loop", "--source", "::1"],
            "event-loop listens on IPv4",
        ),
        (&["run", url, "--pin-server", "0"], "a name, not a URL"),
        (
            &[
                "run",
                "http://127.0.0.1:8000/",
                "--calibration",
                "/no/such/file",
            ],
            "loadgen calibrate --json /no/such/file",
        ),
        (&["run", "event-lop"], "event-loop"),
        (&["measure", "--out", "-"], "a set cannot go to stdout"),
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
        "due",
        "responses_in_time",
        "lower_bounds",
        "connections_in_time",
        "close_ignored",
        "interrupted",
        "steal",
        "answered_in_window",
        "answered_of_warmup",
        "warmup_responses",
        "longest_silence_ms",
    ] {
        assert!(json.as_object().unwrap().contains_key(key), "{key}");
    }
    assert_eq!(json["plan"]["connections"], 5);
    assert_eq!(json["plan"]["pace"], "closed");
    assert_eq!(json["status"]["200"], 2000);
    assert_eq!(json["connections_opened"], 5);
    assert_eq!(json["server_cost"], Value::Null);
    for absent in ["lag", "lag_own"] {
        assert_eq!(json["latency_us"][absent], Value::Null, "{absent}");
    }
    assert_eq!(json["due"], Value::Null);
    assert_eq!(json["plan"]["seed"], Value::Null);
    assert_eq!(json["plan"]["close"], "fin");
    assert!(json["requests_per_s"].as_f64().unwrap() > 0.0);
    let response = &json["latency_us"]["response"];
    assert_eq!(response["count"], 2000);
    assert_eq!(response["p99_9"], Value::Null, "2000 are too few");
    assert!(response["p99"].as_f64().unwrap() >= response["p50"].as_f64().unwrap());
    assert!(response["n_effective"].as_f64().unwrap() >= 1.0);
    let p50 = response["intervals"]["p50"].as_array().unwrap();
    assert!(p50[0].as_f64() <= response["p50"].as_f64(), "{response}");
    assert_eq!(&json["latency_us"]["service"], response);
    assert_eq!(json["fairness"]["connections_never_served"], 0);
}

#[test]
fn outcomes_go_to_files_and_the_table_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, hlog, hgrm) = (path("run.json"), path("run.hlog"), path("run.hgrm"));
    let url = format!("http://{}/", hello());
    let arguments = [
        "run", &url, "-n", "500", "-c", "2", "--json", &json, "--hlog", &hlog, "--hgrm", &hgrm,
    ];
    let output = loadgen(&arguments).output().unwrap();
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    assert!(stdout.contains("requests/s"), "{stdout}");
    assert!(stdout.contains("too few"), "{stdout}");
    assert!(stdout.contains('█'), "{stdout}");
    assert!(
        stdout.lines().all(|line| line.chars().count() <= 80),
        "{stdout}"
    );
    assert!(!stdout.contains('\u{1b}'), "no colours in a pipe: {stdout}");
    let json: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(json["good"], 500);
    let hlog = std::fs::read_to_string(hlog).unwrap();
    for tag in ["response", "first_byte", "connect"] {
        assert!(hlog.contains(&format!("Tag={tag},")), "{hlog}");
    }
    assert!(!hlog.contains("Tag=lag"), "closed loop: {hlog}");
    let hgrm = std::fs::read_to_string(hgrm).unwrap();
    assert!(hgrm.contains("Total count    =          500]"), "{hgrm}");
}

#[test]
fn a_file_that_cannot_be_written_spoils_nothing_else() {
    let url = format!("http://{}/", hello());
    let arguments = ["run", &url, "-n", "500", "-c", "2", "--hgrm", "/dev/full"];
    let output = loadgen(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("writing /dev/full"));
    assert!(text(&output.stdout).contains("verdict"));
}

#[test]
fn terminals_without_utf8_get_ascii() {
    let url = format!("http://{}/", hello());
    let output = loadgen(&["run", &url, "-n", "500", "-c", "2"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let stdout = text(&output.stdout);
    assert!(stdout.is_ascii() && stdout.contains(" us"), "{stdout}");
}

#[test]
fn formats_of_trackers_are_printed() {
    let url = format!("http://{}/", hello());
    let printed = |form: &str| {
        let arguments = ["run", &url, "-n", "500", "-c", "2", "--format", form];
        json(&loadgen(&arguments).output().unwrap())
    };
    let name = format!("{url}, closed loop, -c 2");
    for (form, what) in [
        ("github", "response p99"),
        ("github", "errors"),
        ("github-bigger", "throughput"),
    ] {
        let entries = printed(form);
        let mut entries = entries.as_array().unwrap().iter();
        let entry = entries.find(|entry| entry["name"] == format!("{name}: {what}"));
        let entry = entry.unwrap_or_else(|| panic!("no {what}"));
        assert!(entry["value"].is_number() && entry["unit"].is_string());
        assert!(entry["extra"].as_str().unwrap().contains("verdict: "));
    }
    let bencher = printed("bencher");
    let value = |measure: &str| bencher[&name][measure]["value"].as_f64().unwrap();
    assert!(value("latency") > 0.0 && value("throughput") > 0.0);
    assert!(value("latency-p99") >= value("latency"));
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let url = format!("http://{}/", hello());
    let run = |arguments: &[&str]| {
        let common = ["run", &url, "-r", "1k", "-d", "500ms", "--warmup", "0"];
        let common = common.iter().chain(&["--json", "-"]).chain(arguments);
        let arguments: Vec<&str> = common.copied().collect();
        json(&loadgen(&arguments).output().unwrap())
    };
    let constant = run(&[]);
    assert_eq!(constant["plan"]["pace"], "constant:1000/s");
    assert_eq!(constant["plan"]["arrivals"], "constant");
    assert_eq!(constant["plan"]["rate_per_s"], 1000.0);
    assert_eq!(constant["due"], 500);
    let sent = constant["requests"].as_u64().unwrap() + constant["unsent"].as_u64().unwrap();
    assert_eq!(sent, 500);
    for latency in ["response", "service", "lag", "lag_own"] {
        let count = &constant["latency_us"][latency]["count"];
        assert!(count.as_u64() > Some(0), "{latency}: {count}");
    }
    // Once more by the seed that was printed.
    let poisson = run(&["--arrivals", "poisson"]);
    let seed = poisson["plan"]["seed"].to_string();
    let again = run(&["--arrivals", "poisson", "--seed", &seed]);
    let other = run(&["--arrivals", "poisson", "--seed", "17"]);
    assert_eq!(poisson["due"], again["due"]);
    assert_ne!(poisson["plan"]["seed"], other["plan"]["seed"]);
}

#[test]
fn a_run_ends_when_it_knows_enough() {
    let url = format!("http://{}/", hello());
    let arguments = [
        "run",
        &url,
        "-c",
        "2",
        "--warmup",
        "0",
        "--until",
        "p50±50%",
        "--max-duration",
        "60s",
        "--json",
        "-",
    ];
    let json = json(&loadgen(&arguments).output().unwrap());
    assert!(json["duration_s"].as_f64().unwrap() < 30.0, "{json}");
    assert_eq!(json["plan"]["until"]["percentile"], 50.0);
    assert_eq!(json["plan"]["until"]["max_duration_s"], 60.0);
    assert_eq!(json["interrupted"], false);
    let response = &json["latency_us"]["response"];
    let (p50, high) = (&response["p50"], &response["intervals"]["p50"][1]);
    assert!(
        high.as_f64() <= p50.as_f64().map(|p50| 2.0 * p50),
        "{response}"
    );
}

#[test]
fn urls_are_requested_in_turn() {
    let (paths, seen) = mpsc::channel();
    let address = server(move |_, head| {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        paths.send(path).unwrap_or_default();
    });
    let url = |path: &str| format!("http://{address}/{path}");
    let (a, b, c) = (url("a"), url("b"), url("c?d=e"));
    let arguments = ["run", &a, &b, &c, "-n", "300", "-c", "2", "--json", "-"];
    let json = json(&loadgen(&arguments).output().unwrap());
    assert_eq!(json["good"], 300);
    assert_eq!(json["target"], *a);
    assert_eq!(json["plan"]["urls"].as_array().unwrap().len(), 3);
    let paths: Vec<String> = seen.try_iter().collect();
    for path in ["/a", "/b", "/c?d=e"] {
        let count = paths.iter().filter(|seen| *seen == path).count();
        assert!((90..=110).contains(&count), "{path}: {count}");
    }
}

#[test]
fn connections_come_from_the_sources_in_turn() {
    let (peers, seen) = mpsc::channel();
    let address = server(move |peer, _| peers.send(peer.ip().to_string()).unwrap_or_default());
    let url = format!("http://{address}/");
    let arguments = [
        "run",
        &url,
        "-n",
        "400",
        "-c",
        "4",
        "--source",
        "127.0.0.4/31,127.0.0.9",
        "--json",
        "-",
    ];
    let json = json(&loadgen(&arguments).output().unwrap());
    assert_eq!(json["good"], 400);
    assert_eq!(json["plan"]["sources"].as_array().unwrap().len(), 3);
    let seen: BTreeSet<String> = seen.try_iter().collect();
    let expected = ["127.0.0.4", "127.0.0.5", "127.0.0.9"];
    assert_eq!(Vec::from_iter(&seen), expected);
}

#[test]
fn bodies_are_held_against_what_is_expected() {
    let url = format!("http://{}/", hello());
    let hash = "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
    for (expected, good) in [("hello world", 400), (hash, 400), ("hello werld", 0)] {
        let arguments = [
            "run",
            &url,
            "-n",
            "400",
            "-c",
            "2",
            "--expect-body",
            expected,
            "--json",
            "-",
        ];
        let output = loadgen(&arguments).output().unwrap();
        let json = json(&output);
        assert_eq!(json["good"], good, "{expected}");
        if good == 0 {
            assert_eq!(output.status.code(), Some(1));
            assert_eq!(json["errors"][0]["kind"], "wrong_body");
        } else {
            assert_eq!(json["plan"]["expect"], hash);
        }
    }
}

#[test]
fn the_server_may_be_asked_to_close() {
    let url = format!("http://{}/", hello());
    let arguments = [
        "run",
        &url,
        "-n",
        "400",
        "-c",
        "2",
        "-H",
        "Connection: close",
        "--json",
        "-",
    ];
    let json = json(&loadgen(&arguments).output().unwrap());
    assert_eq!(json["good"], 400, "{json}");
    assert_eq!(json["connections_opened"], 400);
    assert_eq!(json["close_ignored"], 0);
    assert_eq!(json["plan"]["server_closes"], true);
    assert_eq!(json["plan"]["requests_per_connection"], 1);
}

#[test]
fn resets_are_labelled() {
    let url = format!("http://{}/", hello());
    let run = |form: &[&str]| {
        let common = [
            "run", &url, "-n", "400", "-c", "2", "-k", "1", "--close", "rst",
        ];
        let arguments: Vec<&str> = common.iter().chain(form).copied().collect();
        text(&loadgen(&arguments).output().unwrap().stdout)
    };
    let page = run(&[]).replace('\n', " ");
    assert!(page.contains("connections are reset, not closed"), "{page}");
    for form in ["github", "github-bigger", "bencher"] {
        let printed = run(&["--format", form]);
        assert!(printed.contains("--close rst"), "{printed}");
    }
    assert!(run(&["--json", "-"]).contains(r#""close": "rst""#));
    let folder = tempfile::tempdir().unwrap();
    for flag in ["--hlog", "--hgrm"] {
        let path = folder.path().join("histograms");
        run(&[flag, path.to_str().unwrap()]);
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains("--close rst"), "{flag}: {written}");
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

/// What is seen of a run of a minute that is interrupted.
fn interrupted(form: &[&str]) -> Output {
    let (requests, seen) = mpsc::channel();
    let address = server(move |_, _| requests.send(()).unwrap_or_default());
    let url = format!("http://{address}/");
    let arguments = ["run", &url, "-d", "60s", "--warmup", "0s", "-c", "2"];
    let child = loadgen(&arguments)
        .args(form)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    seen.recv_timeout(Duration::from_secs(30)).unwrap();
    thread::sleep(Duration::from_secs(1));
    let pid = child.id().to_string();
    let kill = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(kill.success());
    child.wait_with_output().unwrap()
}

#[test]
fn ctrl_c_prints_what_was_seen() {
    let output = interrupted(&[]);
    let stdout = text(&output.stdout);
    assert!(
        stdout.contains("stopped early by the user after"),
        "{stdout}"
    );
    assert!(stdout.contains("requests/s"), "{stdout}");
    assert!(stdout.contains("p99"), "{stdout}");
}

#[test]
fn an_interrupted_run_is_judged_as_the_shorter_run_it_is() {
    let output = interrupted(&["--json", "-"]);
    let json = json(&output);
    assert_eq!(json["interrupted"], true);
    let seconds = json["duration_s"].as_f64().unwrap();
    assert!((0.5..30.0).contains(&seconds), "{seconds}");
    // A busy machine may be no steady one; that it was interrupted is no reason.
    let invalid = json["verdict"]["status"] == "invalid";
    assert_eq!(output.status.code(), Some(i32::from(invalid)), "{json}");
    let reasons = json["verdict"]["reasons"].to_string();
    assert!(!reasons.contains("interrupted"), "{reasons}");
}
