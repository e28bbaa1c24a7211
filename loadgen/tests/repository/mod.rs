//! A repository in a folder of its own, with made-up servers, for tests of `loadgen measure`.

// Each file of tests uses some of it.
#![allow(dead_code)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Set in processes that are to serve: the port, and what to answer.
const SERVE: &str = "LOADGEN_TEST_SERVE";

/// The server that is measured: what the ignored test `serve` of each file does.
pub(crate) fn serve() {
    let Ok(wanted) = std::env::var(SERVE) else {
        return;
    };
    let (port, bodies) = wanted.split_once(' ').unwrap();
    // A body may have a status of its own, as in `302:hello world`.
    let answer = |body: &str| {
        let (status, body) = body.split_once(':').unwrap_or(("200", body));
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    // Of two bodies, the first answers the first request, which is the probe's.
    let (first, rest) = bodies.split_once('|').unwrap_or((bodies, bodies));
    let (first, rest) = (answer(first), answer(rest));
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    for stream in TcpListener::bind(format!("127.0.0.1:{port}"))
        .unwrap()
        .incoming()
    {
        let (mut stream, first, rest) = (stream.unwrap(), first.clone(), rest.clone());
        thread::spawn(move || {
            let mut seen = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..count]);
                while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                    seen.drain(..end + 4);
                    let answer = match REQUESTS.fetch_add(1, Relaxed) {
                        0 => &first,
                        _ => &rest,
                    };
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// A repository with these servers and two short workloads.
pub(crate) struct Repository(pub(crate) TempDir);

/// Durations of the workloads: long enough for a server that a busy machine keeps from its CPU for a while.
const STAY: &str = "450ms";
const LEAVE: &str = "400ms";
const WARMUP: &str = "20ms";

impl Repository {
    /// Of names and shell commands.
    pub(crate) fn new(servers: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("benches")).unwrap();
        let entry = |(name, run): &(&str, &str)| {
            // In files, as the hash of `sh` says nothing of what it is told to run.
            let script = run.replace("{port}", "$1").replace("{addr}", "$2");
            fs::write(folder.path().join(format!("{name}.sh")), script).unwrap();
            format!(
                "[[server]]\nname = '{name}'\nabout = ''\nready = 'connect'\n\
                 run = ['sh', '{name}.sh', '{{port}}', '{{addr}}']\nversion = ['echo', '{name} 1']\n"
            )
        };
        let servers: String = servers.iter().map(entry).collect();
        fs::write(folder.path().join("benches/servers.toml"), servers).unwrap();
        fs::write(
            folder.path().join("benches/workloads.toml"),
            format!(
                "[[workload]]\nname = 'stay'\nconnections = 2\nduration = '{STAY}'\nanalysis = 'Stays.'\n\
                 [[workload]]\nname = 'leave'\nconnections = 2\nrequests_per_connection = 1\n\
                 duration = '{LEAVE}'\nwarmup = '{WARMUP}'\n"
            ),
        )
        .unwrap();
        Repository(folder)
    }

    /// Shorter workloads, for tests of many cells.
    pub(crate) fn hurry(&self) {
        for (usual, short) in [(STAY, "40ms"), (LEAVE, "30ms"), (WARMUP, "5ms")] {
            self.replace_duration(usual, short);
        }
    }

    /// Another duration for the workload `stay`.
    pub(crate) fn stay_for(&self, duration: &str) {
        self.replace_duration(STAY, duration);
    }

    fn replace_duration(&self, usual: &str, other: &str) {
        let file = self.path("benches/workloads.toml");
        let text = fs::read_to_string(&file).unwrap();
        let (usual, other) = (format!("'{usual}'"), format!("'{other}'"));
        assert!(text.contains(&usual), "{text}");
        fs::write(file, text.replace(&usual, &other)).unwrap();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn loadgen(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    pub(crate) fn only_set(&self, parent: &str) -> PathBuf {
        let sets: Vec<_> = fs::read_dir(self.path(parent)).unwrap().collect();
        assert_eq!(sets.len(), 1, "{sets:?}");
        sets[0].as_ref().unwrap().path()
    }
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A command that runs this test binary as a server with such a body.
pub(crate) fn serving(body: &str) -> String {
    let own = std::env::current_exe().unwrap();
    format!(
        "{SERVE}=\"{{port}} {body}\" exec \"{}\" --ignored --exact serve --nocapture",
        own.display()
    )
}

pub(crate) fn soon(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not soon: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
