//! Targets from the command line to the wire: what each verb asks for, and what it refuses before it sends
//! anything. Each form of a URL has its test beside `http_url`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn loadgen(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let command = command.args(arguments).current_dir(ROOT);
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that notes the head of every request, and closes behind its answer.
fn server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            while !bytes.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                }
            }
            heads.lock().unwrap().push(text(&bytes));
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
        }
    });
    (address, seen)
}

/// The request line and the fields beside `Connection`, which verbs choose for themselves.
fn without_connection(head: &str) -> Vec<&str> {
    let lines = head.lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("Connection:"))
        .collect()
}

#[test]
fn a_target_is_asked_for_as_it_was_written() {
    let (address, seen) = server();
    let port = address.port();
    let host = format!("Host: {address}");
    let basic = "Authorization: Basic dXNlcjpzZWNyZXQ=";
    let forms: [(&str, &[&str], Vec<&str>); 9] = [
        ("http://ADDR", &[], vec!["GET / HTTP/1.1", &host]),
        ("ADDR/a/b", &[], vec!["GET /a/b HTTP/1.1", &host]),
        ("ADDR?q#part", &[], vec!["GET /?q HTTP/1.1", &host]),
        (
            "http://127.1:PORT/ä",
            &[],
            vec!["GET /%C3%A4 HTTP/1.1", &host],
        ),
        (
            "http://user:secret@ADDR/",
            &[],
            vec!["GET / HTTP/1.1", &host, basic],
        ),
        (
            "user:secret@ADDR/",
            &["-H", "Authorization: mine"],
            vec!["GET / HTTP/1.1", &host, "Authorization: mine"],
        ),
        ("ADDR", &["-m", "get"], vec!["get / HTTP/1.1", &host]),
        ("ADDR", &["-m", "head"], vec!["head / HTTP/1.1", &host]),
        ("ADDR", &["-m", "BREW"], vec!["BREW / HTTP/1.1", &host]),
    ];
    for (form, options, expected) in forms {
        let url = form
            .replace("ADDR", &address.to_string())
            .replace("PORT", &port.to_string());
        for verb in [
            &[
                "run",
                "-n",
                "1",
                "-c",
                "1",
                "-k",
                "1",
                "--timeout",
                "2s",
                "--json",
                "-",
            ][..],
            &["trace", "--no-sockets", "--timeout", "2s"],
        ] {
            seen.lock().unwrap().clear();
            let output = loadgen(&[verb, &[&url], options].concat());
            let said = text(&output.stdout) + &text(&output.stderr);
            let heads = seen.lock().unwrap().clone();
            assert_eq!(heads.len(), 1, "{} {url}: {said}", verb[0]);
            assert_eq!(without_connection(&heads[0]), expected, "{} {url}", verb[0]);
            assert!(!said.contains("secret"), "{} {url}: {said}", verb[0]);
        }
    }
}

#[test]
fn connect_asks_for_an_authority() {
    let (address, seen) = server();
    let url = format!("http://{address}");
    let arguments = ["-m", "CONNECT", "--timeout", "2s"];
    loadgen(
        &[
            &["run", &url, "-n", "1", "-c", "1", "-k", "1"],
            &arguments[..],
        ]
        .concat(),
    );
    let heads = seen.lock().unwrap().clone();
    let expected = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    assert_eq!(heads, [expected]);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let (address, seen) = server();
    for (form, message) in [
        ("https://ADDR/", "scheme: HTTPS is not supported"),
        (
            "ftp://ADDR/",
            "scheme: \"ftp\" is not supported; write http://",
        ),
        (
            "http://127.0.0.1:99999/",
            "port: 99999 is not a port; write a number from 1 to 65535",
        ),
        ("127.0.0.1:-1", "port: -1 is not a port"),
        ("http://ADDRx/", "is not a port"),
        (
            "http://256.0.0.1/",
            "host: 256.0.0.1 is not an IPv4 address",
        ),
        ("http://:80/", "host: it is missing"),
        ("http://[::1/", "host: the bracket is not closed"),
        (
            "http://[fe80::1%no-such]/",
            "zone: there is no network interface \"no-such\"",
        ),
        (
            "http://user:secret%@ADDR/",
            "userinfo: % must be followed by two hexadecimal digits",
        ),
        ("ADDR/a b", "path: a blank; write %20"),
        ("ADDR/a\r\nX: y", "path: a control character"),
        (
            "ADDR?a\tb",
            "query: a control character (\\u{9}); write %09",
        ),
    ] {
        let url = form.replace("ADDR", &address.to_string());
        let compared = format!("{url},{address}");
        for verb in [
            &["run", &url, "-n", "1"][..],
            &["run", &address.to_string(), &url, "-n", "1"],
            &["trace", &url],
            &["trace", "--compare", &compared],
        ] {
            let output = loadgen(verb);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{verb:?}: {stderr}");
            assert!(stderr.contains(message), "{verb:?}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{verb:?}: {stderr}");
            assert!(!stderr.contains("secret"), "{verb:?}: {stderr}");
            assert_eq!(text(&output.stdout), "", "{verb:?}");
        }
    }
    assert_eq!(*seen.lock().unwrap(), [""; 0]);
}

/// A word is the name of a server that the catalogue has, or has not.
#[test]
fn words_are_names() {
    for word in ["localhost", "no-such-server"] {
        let output = loadgen(&["run", word]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let hint = format!("a host is written as http://{word}/");
        assert!(stderr.contains(&hint), "{stderr}");
    }
}
