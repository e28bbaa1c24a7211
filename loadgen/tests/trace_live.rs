//! What `loadgen trace` says of servers that do not do what was asked for, and of kernels that do not either.

mod skipped;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use skipped::skipped;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";

/// A server that does this with each connection, each on a thread of its own.
fn serve(converse: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || converse(stream));
        }
    });
    address
}

/// Answers one request, and closes.
fn answers(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(ANSWER);
}

/// Answers, and goes on to wait for requests until the client closes.
fn never_closes(mut stream: TcpStream) {
    while let Ok(1..) = stream.read(&mut [0; 4096]) {
        let _ = stream.write_all(ANSWER);
    }
}

/// Says that it will close, and does not.
fn promises_to_close(mut stream: TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello world";
    while let Ok(1..) = stream.read(&mut [0; 4096]) {
        let _ = stream.write_all(ANSWER);
    }
}

struct Seen {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn trace(arguments: &[&str]) -> Seen {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("trace")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Seen {
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

fn json(seen: &Seen) -> Value {
    serde_json::from_str(&seen.stdout).expect(&seen.stdout)
}

/// In one line, whatever was wrapped.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn states(story: &Value, side: &str) -> Vec<Vec<String>> {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let of = |connection: Value| {
        let own = array(&connection["states"])
            .into_iter()
            .filter(|it| it["side"] == side);
        own.map(|it| it["new"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    array(&story["connections"]).into_iter().map(of).collect()
}

/// The timeout is a minute: whoever waited for it three times would be seen.
#[test]
fn a_server_that_does_not_close_is_reported_at_once() {
    for converse in [never_closes as fn(TcpStream), promises_to_close] {
        let begun = Instant::now();
        let seen = trace(&[&url(serve(converse)), "-n", "3", "--timeout", "60s"]);
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(seen.code, Some(1), "{}", seen.stderr);
        let told = "the server did not close within 500 ms, as requested; the client closed";
        assert_eq!(seen.stderr.matches(told).count(), 3, "{}", seen.stderr);
        let said = "the server does not close although asked to: the client closes instead";
        assert_eq!(
            flat(&seen.stdout).matches(said).count(),
            3,
            "{}",
            seen.stdout
        );
        for line in seen.stdout.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

/// Nobody asked it to.
#[test]
fn a_server_that_need_not_close_is_not_reported() {
    for arguments in [&["--close", "client"][..], &["-k", "-n", "2"]] {
        let seen = trace(&[&[&*url(serve(never_closes))], arguments].concat());
        assert_eq!((seen.code, &*seen.stderr), (Some(0), ""), "{}", seen.stdout);
        assert!(!seen.stdout.contains("though asked to"), "{}", seen.stdout);
    }
}

#[test]
fn times_above_a_second_keep_their_microseconds() {
    let address = serve(|stream| {
        thread::sleep(Duration::from_millis(1_100));
        answers(stream);
    });
    let seen = trace(&[&url(address), "--close", "client"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let times = seen
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let late: Vec<&str> = times
        .filter(|time| time.parse::<f64>().is_ok_and(|us| us > 1e6))
        .collect();
    assert!(!late.is_empty(), "{}", seen.stdout);
    for time in late {
        let decimals = time.split_once('.').map(|(_, decimals)| decimals.len());
        assert_eq!(decimals, Some(1), "{time}: {}", seen.stdout);
    }
    for line in seen.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

/// Two URLs, or a URL and a server of this repository, which is not built here.
#[test]
fn differences_alone_unless_all_is_asked_for() {
    let (one, other) = (serve(answers), serve(never_closes));
    let pair = format!("{},{}", url(one), url(other));
    let brief = trace(&["--compare", &pair]);
    let full = trace(&["--compare", &pair, "--full"]);
    for seen in [&brief, &full] {
        assert_eq!(seen.code, Some(1), "{}", seen.stderr);
        assert!(seen.stdout.contains("what differs"), "{}", seen.stdout);
    }
    assert!(brief.stdout.len() < full.stdout.len());
    let timeline = "time_us";
    assert!(!brief.stdout.contains(timeline), "{}", brief.stdout);
    assert!(full.stdout.contains(timeline), "{}", full.stdout);
    assert!(brief.stdout.contains("--full"), "{}", brief.stdout);
    let alone = trace(&[&url(one), "--full"]);
    assert_eq!(alone.code, Some(2), "{}", alone.stdout);
}

/// Socket lists stand where they were read: what they show is not later than they are.
#[test]
fn lists_of_sockets_are_not_ahead_of_their_time() {
    let seen = trace(&[&url(serve(answers)), "--json", "-"]);
    let story = json(&seen);
    let events = story["connections"][0]["phases"].as_array().unwrap().iter();
    let events: Vec<&Value> = events
        .flat_map(|it| it["events"].as_array().unwrap())
        .collect();
    let connected = events
        .iter()
        .find(|it| it["kind"] == "sockets" && it["moment"] == "connected");
    let listed_us = connected.expect("they were listed")["at_us"]
        .as_f64()
        .unwrap();
    let state = |it: &&&Value| it["kind"] == "state" && it["side"] == "client";
    let established = events
        .iter()
        .filter(state)
        .find(|it| it["new"] == "ESTABLISHED");
    let established_us = established.expect("it was established")["at_us"]
        .as_f64()
        .unwrap();
    assert!(listed_us > established_us, "{listed_us} {established_us}");
}

/// A network of its own whose kernel keeps no connection in TIME-WAIT.
fn in_a_network_without_time_wait(check: impl FnOnce() + Send + 'static) {
    let outcome = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return skipped(format!("no network namespace can be made here: {error}"));
        }
        // That of this thread and of what it starts.
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        if !up.is_ok_and(|status| status.success()) {
            return skipped("ip(8) cannot bring up a loopback interface here");
        }
        let set = fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0");
        if let Err(error) = set {
            return skipped(format!("tcp_max_tw_buckets cannot be set here: {error}"));
        }
        check();
    });
    outcome.join().unwrap();
}

#[test]
fn a_kernel_without_room_keeps_nothing_in_time_wait() {
    in_a_network_without_time_wait(|| {
        let address = serve(answers);
        for close in ["server", "client"] {
            let seen = trace(&[&url(address), "--close", close, "--wait", "--json", "-"]);
            let story = json(&seen);
            for side in ["client", "server"] {
                let of = &states(&story, side)[0];
                assert!(!of.iter().any(|it| it == "TIME-WAIT"), "{side}: {of:?}");
            }
            let notes = story["notes"].to_string();
            assert!(notes.contains("TCPTimeWaitOverflow rose by"), "{notes}");
            assert!(notes.contains("tcp_max_tw_buckets is 0"), "{notes}");
            assert!(notes.contains("--wait had nothing to wait for"), "{notes}");
            let ending = story["connections"][0]["ending"]["explanation"]
                .as_str()
                .unwrap();
            assert!(!ending.contains("holds TIME-WAIT"), "{ending}");
        }
    });
}

#[test]
fn where_there_is_room_it_is_listed() {
    let seen = trace(&[&url(serve(answers)), "--json", "-"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let story = json(&seen);
    let of = &states(&story, "server")[0];
    assert_eq!(of.last().map(String::as_str), Some("TIME-WAIT"), "{of:?}");
    let notes = story["notes"].to_string();
    assert!(!notes.contains("listed no such socket"), "{notes}");
}

/// A RST leaves none.
#[test]
fn to_wait_for_what_never_was_is_said() {
    let seen = trace(&[
        &url(serve(never_closes)),
        "--close",
        "rst",
        "--wait",
        "--json",
        "-",
    ]);
    let notes = json(&seen)["notes"].to_string();
    assert!(notes.contains("--wait had nothing to wait for"), "{notes}");
}

/// The timeout is an hour, and none of these servers comes to the end of an answer.
#[test]
fn a_signal_ends_every_wait() {
    let says_nothing = |mut stream: TcpStream| while let Ok(1..) = stream.read(&mut [0; 4096]) {};
    let never_ends = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    };
    for (about, converse) in [
        ("says nothing", says_nothing as fn(TcpStream)),
        ("never ends", never_ends),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["trace", &url(address), "--no-sockets", "--timeout", "1h"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        let server = thread::spawn(move || converse(stream));
        kill(
            Pid::from_raw(child.id().try_into().unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{about}: {stderr}");
        assert!(stderr.contains("interrupted"), "{about}: {stderr}");
        server.join().unwrap();
    }
}
