//! `loadgen trace`, as a user calls it, against servers within this process.

mod skipped;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use skipped::skipped;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";

/// A server that does this with each connection, one after another, for as long as the test lasts.
fn serve(converse: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            converse(stream.unwrap());
        }
    });
    address
}

/// Answers each request, until the peer closes or asks to.
fn answers(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while let Ok(received @ 1..) = stream.read(&mut request) {
        stream.write_all(ANSWER).unwrap();
        if request[..received].windows(5).any(|five| five == b"close") {
            return;
        }
    }
}

fn trace(arguments: &[&str]) -> (Option<i32>, String, String) {
    text_of(
        Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .arg("trace")
            .args(arguments),
    )
}

fn text_of(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

/// As `--json -` gives it.
fn traced(address: SocketAddr, arguments: &[&str]) -> Value {
    let url = url(address);
    let arguments = [&[&*url, "--json", "-"], arguments].concat();
    let (code, stdout, stderr) = trace(&arguments);
    assert!(matches!(code, Some(0 | 1)), "{stderr}");
    serde_json::from_str(&stdout).expect(&stdout)
}

/// Whether packets can be seen here.
fn sees_packets() -> bool {
    let probe = trace::packets::Live::open(Default::default());
    if let Err(missing) = &probe {
        skipped(missing);
    }
    probe.is_ok()
}

#[test]
fn a_request_is_told_from_beginning_to_end() {
    let begun = Instant::now();
    let (code, stdout, stderr) = trace(&[&url(serve(answers))]);
    let took = begun.elapsed();
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    for line in stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(
            !line.contains('\x1b'),
            "colour where there is no terminal: {line:?}"
        );
    }
    // Not gated on time: it is seen in the log.
    println!("took {took:?}");
    if sees_packets() {
        for heading in ["handshake", "The request", "The response", "close"] {
            assert!(stdout.contains(heading), "{heading}: {stdout}");
        }
        for part in [
            "Flags [S]",
            "Flags [S.]",
            "TIME-WAIT",
            "GET / HTTP/1.1",
            "HTTP/1.1 200 OK",
        ] {
            assert!(stdout.contains(part), "{part}: {stdout}");
        }
    }
}

/// `localhost` has two addresses where there is IPv6, and most servers listen at one.
#[test]
fn a_name_is_where_somebody_listens() {
    let port = serve(answers).port();
    let (code, stdout, stderr) = trace(&[&format!("http://localhost:{port}/")]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (code, stdout, stderr) = trace(&[&url(address)]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stdout.contains("refused"), "{stdout}");
    if sees_packets() {
        assert!(stdout.contains("Flags [R.]"), "{stdout}");
    }
}

#[test]
fn an_answer_that_is_cut_short_is_a_failure() {
    let address = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(&ANSWER[..ANSWER.len() - 3]).unwrap();
    });
    let (code, stdout, stderr) = trace(&[&url(address)]);
    assert_eq!(code, Some(1), "{stderr}");
    let told = "loadgen: connection 1: recv: the server closed the connection before the response";
    assert!(stderr.starts_with(told), "{stderr}");
    assert!(stdout.contains("How it ended"), "{stdout}");
}

#[test]
fn several_requests_and_connections() {
    let address = serve(|stream| {
        thread::spawn(move || answers(stream));
    });
    let connections = |arguments: &[&str]| {
        let story = traced(address, arguments);
        story["connections"].as_array().unwrap().len()
    };
    assert_eq!(connections(&["-n", "3"]), 3);
    assert_eq!(connections(&["-n", "3", "-k"]), 1);
    assert_eq!(connections(&["-n", "4", "-k", "-c", "2"]), 2);
    assert_eq!(connections(&["-c", "3"]), 3);
}

#[test]
fn what_is_written_can_be_read_again() {
    if !sees_packets() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (pcap, html) = (path("one.pcap"), path("one.html"));
    let address = serve(answers);
    let live = traced(address, &["-w", &pcap, "--html", &html, "--no-sockets"]);
    let (code, stdout, stderr) = trace(&["--read", &pcap, "--json", "-"]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    let read: Value = serde_json::from_str(&stdout).unwrap();
    let ending = |story: &Value| story["connections"][0]["ending"].clone();
    assert_eq!(ending(&read)["kind"], ending(&live)["kind"]);
    assert!(is_alone(&fs::read_to_string(&html).unwrap()));

    let (code, text, _) = trace(&["--read", &pcap]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("Flags [S.]") && text.contains("TIME-WAIT"),
        "{text}"
    );
    // Cut short within its last packet.
    let bytes = fs::read(&pcap).unwrap();
    fs::write(&pcap, &bytes[..bytes.len() - 7]).unwrap();
    let (code, text, _) = trace(&["--read", &pcap]);
    assert_eq!(code, Some(0));
    assert!(text.contains("Flags [S.]"), "{text}");
    assert_eq!(text.matches("in the middle of packet").count(), 1, "{text}");
    // Of another port, or of nothing.
    let port = address.port().to_string();
    let (code, text, _) = trace(&["--read", &pcap, "--port", &port]);
    assert_eq!(code, Some(0));
    assert!(text.contains("Flags [S.]"), "{text}");
    let (code, _, stderr) = trace(&["--read", &pcap, "--port", "1"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no segment from or to port 1"), "{stderr}");
    // The header of the file alone.
    fs::write(&pcap, &bytes[..24]).unwrap();
    let (code, text, _) = trace(&["--read", &pcap]);
    assert_eq!(code, Some(0));
    assert!(text.contains("it has no TCP segment"), "{text}");
}

/// A page that loads nothing.
fn is_alone(page: &str) -> bool {
    let loads = ["src=\"http", "href=\"http", "url(http", "@import"];
    page.starts_with("<!") && !loads.iter().any(|load| page.contains(load))
}

#[test]
fn other_forms() {
    let (one, other) = (serve(answers), serve(answers));
    let (code, mermaid, _) = trace(&[&url(one), "--mermaid"]);
    assert_eq!(code, Some(0));
    assert!(mermaid.starts_with("sequenceDiagram\n"), "{mermaid}");

    let folder = TempDir::new().unwrap();
    let html = folder.path().join("two.html");
    let pair = format!("{},{}", url(one), url(other));
    let html_name = html.display().to_string();
    let (code, text, stderr) = trace(&["--compare", &pair, "--html", &html_name]);
    assert_eq!(code, Some(0), "{stderr}");
    for name in [one, other] {
        assert!(text.contains(&name.to_string()), "{text}");
    }
    assert!(is_alone(&fs::read_to_string(&html).unwrap()));
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let (empty, text) = (file("empty", b""), file("text", b"GET / HTTP/1.1\r\n\r\n"));
    let missing = folder.path().join("missing").display().to_string();
    fn usage<'a>(arguments: &[&'a str]) -> (Vec<&'a str>, i32) {
        (arguments.to_vec(), 2)
    }
    for ((arguments, expected), message) in [
        (usage(&[]), "required"),
        (usage(&["no-such-server"]), "no-such-server"),
        (
            usage(&["http://127.0.0.1:1/", "--read", "x"]),
            "cannot be used with",
        ),
        (
            usage(&["http://127.0.0.1:1/", "-n", "2", "-c", "3"]),
            "3 connections need a request each",
        ),
        (usage(&["http://127.0.0.1:1/", "-n", "5000"]), "loadgen run"),
        (
            usage(&["http://127.0.0.1:1/", "--html", "/no/such/folder/x"]),
            "no folder",
        ),
        (usage(&["--read", "x", "-k"]), "cannot be used with"),
        (
            usage(&["http://127.0.0.1:1/", "--mermaid", "--json", "-"]),
            "both write to stdout",
        ),
        (usage(&["--compare", "one"]), "expected two servers"),
        (
            usage(&["http://127.0.0.1:1/", "--server-arg=-x"]),
            "--server-arg needs",
        ),
        ((vec!["--read", &*missing], 1), "missing"),
        ((vec!["--read", &*empty], 1), "empty"),
        ((vec!["--read", &*text], 1), "is text, not a capture file"),
    ] {
        let (code, stdout, stderr) = trace(&arguments);
        assert_eq!(code, Some(expected), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
    }
}

/// What needs a privilege is said to be missing, what it would take is said, and the rest is shown.
#[test]
fn without_privilege() {
    if !nix::unistd::geteuid().is_root() {
        // This is how all other tests are run.
        return;
    }
    // Where anybody may run it.
    let folder = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    let program = folder.path().join("loadgen");
    fs::copy(env!("CARGO_BIN_EXE_loadgen"), &program).unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), all).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["trace", &url(serve(answers))])
        .current_dir(Path::new("/"));
    if Command::new("setpriv").arg("--version").output().is_err() {
        return skipped("setpriv is not installed");
    }
    let (code, stdout, stderr) = text_of(&mut command);
    assert_eq!(code, Some(0), "{stderr}");
    for part in ["root", "ESTABLISHED", "connect"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(!stdout.contains("Flags ["), "{stdout}");
}

/// As servers/README.md shows it.
#[test]
fn a_client_in_a_dozen_lines() {
    let address = serve(answers);
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let client = path.join("examples/client");
    if !client.exists() {
        return skipped("examples are not built, as `cargo test` does when no test is named");
    }
    let output = Command::new(client).arg(address.to_string()).output();
    let stdout = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(stdout.ends_with("hello world\n"), "{stdout}");
}
