//! Servers as processes: started, waited for, stopped, and never left behind.

use std::cell::RefCell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use engine::affinity::own_cpus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use subject::catalogue::{Ready, Server, Serves};
use subject::process::{Options, Target, build, probe, version};

fn server(run: &[&str]) -> Server {
    Server {
        name: "fake".to_owned(),
        about: String::new(),
        build: None,
        run: run.iter().map(|&arg| arg.to_owned()).collect(),
        version: None,
        ready: Ready::Line,
        reference: false,
        floor: false,
        groups: Vec::new(),
        serves: Serves::All,
        thread_per_connection: false,
    }
}

fn shell(script: &str) -> Server {
    server(&["sh", "-c", script])
}

/// A server that says it is ready, and goes on with `script`.
fn ready(script: &str) -> Server {
    shell(&format!("echo 'listening on 127.0.0.1:4242'; {script}"))
}

fn start(server: &Server, within: Duration) -> Result<Target, String> {
    let options = Options {
        ready_within: within,
        ..Options::default()
    };
    Target::start(server, Path::new("/"), &options).map_err(|error| error.to_string())
}

const PLENTY: Duration = Duration::from_secs(10);

fn soon(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PLENTY;
    while !condition() {
        assert!(Instant::now() < deadline, "not soon: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Neither running nor in a process group any more; what init has yet to reap is gone.
fn is_gone(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
    }
}

#[test]
fn starts_and_stops() {
    let target = start(&ready("exec sleep 100"), PLENTY).unwrap();
    assert_eq!(target.address().to_string(), "127.0.0.1:4242");
    assert!(!target.has_ended());
    let pid = target.pid();
    let ended = target.stop(PLENTY);
    assert_eq!(ended.to_string(), "was ended by SIGTERM");
    assert!(!ended.killed);
    assert!(is_gone(pid));
}

/// Each failure is one line that names the server and says what to do or what it said.
#[test]
fn failures_to_start() {
    let built = |run: &[&str]| Server {
        build: Some(vec!["make".to_owned(), "it".to_owned()]),
        ..server(run)
    };
    let rows = [
        (
            built(&["no/such/program"]),
            "starting fake: no/such/program not found; is it built? try `make it`",
        ),
        (
            server(&["no-such-program"]),
            "starting fake: no-such-program not found; is it installed?",
        ),
        (
            shell("echo one >&2; echo two >&2; exit 3"),
            "starting fake: it exited with status 3: one; two before it could accept",
        ),
        (
            shell("kill -9 $$"),
            "starting fake: it was ended by SIGKILL before it could accept",
        ),
        (
            shell("echo Listening on port 80; exec sleep 100"),
            "starting fake: its first line on stdout should be `listening on ADDRESS:PORT`, but is \
             \"Listening on port 80\"",
        ),
        (
            shell("echo listening on 127.0.0.1:0; exec sleep 100"),
            "starting fake: its first line on stdout should be `listening on ADDRESS:PORT`, but is \
             \"listening on 127.0.0.1:0\": 0 asks for any port, the line must tell which one it became",
        ),
        (
            shell("echo hm >&2; exec sleep 100"),
            "starting fake: not ready after 0.3 s: no line `listening on ADDRESS:PORT` on stdout: hm",
        ),
        (
            shell("exec >&-; exec sleep 100"),
            "starting fake: not ready after 0.3 s: no line `listening on ADDRESS:PORT` on stdout",
        ),
        (
            shell("echo {prt}"),
            "starting fake: `run` has an unknown placeholder {prt}; known: {addr}, {host}, {port}, \
             {empty_dir}",
        ),
    ];
    for (server, expected) in rows {
        // Those that do come to an end must not depend on how busy the machine is.
        let within = match expected.contains("not ready") {
            true => Duration::from_millis(300),
            false => PLENTY,
        };
        assert_eq!(start(&server, within).unwrap_err(), expected);
    }
}

#[test]
fn a_port_that_never_answers() {
    let silent = Server {
        ready: Ready::Connect,
        ..shell("exec sleep 100")
    };
    let error = start(&silent, Duration::from_millis(300)).unwrap_err();
    assert!(
        error.starts_with("starting fake: not ready after 0.3 s: 127.0.0.1:"),
        "{error}"
    );
    assert!(error.ends_with(" does not answer"), "{error}");
}

#[test]
fn a_full_pipe_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let script = format!(
        "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; echo end >&2; \
         : > '{}'; exec sleep 100",
        done.display()
    );
    let target = start(&ready(&script), PLENTY).unwrap();
    soon("the server goes on", || done.exists());
    let stderr = target.stop(PLENTY).stderr;
    assert!(
        stderr.len() <= 8 << 10 && stderr.ends_with("end\n"),
        "{}",
        stderr.len()
    );
}

#[test]
fn stderr_can_be_read_while_it_runs() {
    let script = "trap 'echo again >&2' USR1; echo first >&2; while :; do sleep 0.01; done";
    let target = start(&ready(script), PLENTY).unwrap();
    let said = |end: &str| {
        let said = RefCell::new(String::new());
        soon(end, || {
            said.borrow_mut().push_str(&target.take_stderr());
            said.borrow().ends_with(end)
        });
        said.into_inner()
    };
    assert_eq!(said("first\n"), "first\n");
    kill(Pid::from_raw(target.pid().cast_signed()), Signal::SIGUSR1).unwrap();
    assert_eq!(said("again\n"), "again\n");
    assert_eq!(target.stop(PLENTY).stderr, "", "all of it was taken");
}

#[test]
fn what_will_not_stop_is_killed_with_all_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let script = format!(
        "trap '' TERM; sleep 100 & echo $! > '{}'; while :; do wait; done",
        child.display()
    );
    let target = start(&ready(&script), PLENTY).unwrap();
    let child_pid = || fs::read_to_string(&child).ok()?.trim().parse::<u32>().ok();
    soon("the child runs", || child_pid().is_some());
    let pid = target.pid();
    let ended = target.stop(Duration::from_millis(100));
    assert!(ended.killed);
    assert_eq!(ended.to_string(), "was ended by SIGKILL");
    assert!(is_gone(pid));
    soon("the child is gone", || is_gone(child_pid().unwrap()));
}

#[test]
fn a_target_that_is_dropped_is_gone() {
    let target = start(&ready("exec sleep 100"), PLENTY).unwrap();
    let pid = target.pid();
    drop(target);
    assert!(is_gone(pid));
}

#[test]
fn one_that_ended_by_itself_tells_how() {
    let target = start(&ready("sleep 0.5; echo oh >&2; exit 7"), PLENTY).unwrap();
    soon("it ends", || target.has_ended());
    let ended = target.stop(PLENTY);
    assert_eq!(ended.to_string(), "exited with status 7: oh");
    assert!(!ended.killed);
}

#[test]
fn the_empty_folder_is_fresh_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let script = format!(
        "ls -A '{{empty_dir}}' | wc -l > '{0}'; echo '{{empty_dir}}' >> '{0}'",
        told.display()
    );
    let server = shell(&format!(
        "{script}; echo 'listening on 127.0.0.1:1'; exec sleep 100"
    ));
    let target = start(&server, PLENTY).unwrap();
    let told = fs::read_to_string(&told).unwrap();
    let (count, path) = told.trim().split_once('\n').unwrap();
    assert_eq!(count.trim(), "0");
    assert!(Path::new(path).is_dir());
    drop(target);
    assert!(!Path::new(path).exists());
}

#[test]
fn pinned_to_one_cpu() {
    let cpu = *own_cpus().last().unwrap();
    let options = Options {
        cpus: vec![cpu],
        ..Options::default()
    };
    let target = Target::start(&ready("exec sleep 100"), Path::new("/"), &options).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", target.pid())).unwrap();
    assert!(
        status.contains(&format!("Cpus_allowed_list:\t{cpu}\n")),
        "{status}"
    );
    assert!(own_cpus().contains(&cpu));
}

/// Set in the process that is killed below; names the file that it tells the server's pid in.
const TELL: &str = "LOADGEN_TEST_TELL";

/// Not a test of its own: the process that [`no_server_outlives_its_loadgen`] kills.
#[test]
#[ignore = "run by another test"]
fn starts_a_server_and_waits() {
    let Some(tell) = std::env::var_os(TELL) else {
        return;
    };
    let target = start(&ready("exec sleep 100"), PLENTY).unwrap();
    fs::write(tell, target.pid().to_string()).unwrap();
    thread::sleep(PLENTY * 3);
}

#[test]
fn no_server_outlives_its_loadgen() {
    let folder = tempfile::tempdir().unwrap();
    let tell = folder.path().join("pid");
    let mut loadgen = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "starts_a_server_and_waits"])
        .env(TELL, &tell)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = || fs::read_to_string(&tell).ok()?.parse::<u32>().ok();
    soon("the server runs", || pid().is_some());
    let pid = pid().unwrap();
    assert!(!is_gone(pid));
    loadgen.kill().unwrap();
    loadgen.wait().unwrap();
    soon("the server is gone", || is_gone(pid));
}

/// A listener that gives this answer to one connection, then closes it.
fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(answer).unwrap();
    });
    address
}

#[test]
fn only_hello_world_is_measured() {
    let rows: [(&[u8], Option<&str>); 12] = [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
            None,
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nhello world", None),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            None,
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
            None,
        ),
        // It stands there, but is not the content.
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\njello world\r\n0\r\nX: hello world\r\n\r\n",
            Some(
                "it answers GET / with status 200 and \"b\\r\\njello world\\r\\n0\\r\\nX: hello world\\r\\n\\r\\n\", \
                 not with status 200 and \"hello world\"",
            ),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb;a=\"hello world\"\r\njello world\r\n0\r\n\r\n",
            Some(
                "it answers GET / with status 200 and \"b;a=\\\"hello world\\\"\\r\\njello world\\r\\n0\\r\\n\\r\\n\", \
                 not with status 200 and \"hello world\"",
            ),
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nX: hello world\r\nContent-Length: 11\r\n\r\njello world",
            Some(
                "it answers GET / with status 200 and \"jello world\", not with status 200 and \
                 \"hello world\"",
            ),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
            None,
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\nhello world",
            Some(
                "it answers GET / with status 404 and \"hello world\", not with status 200 and \"hello world\"",
            ),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Some(
                "it answers GET / with status 200 and \"hi\", not with status 200 and \"hello world\"",
            ),
        ),
        (
            b"SSH-2.0-x\r\n",
            Some("its answer to GET / is not HTTP/1.1: \"SSH-2.0-x\\r\\n\""),
        ),
        (b"", Some("its answer to GET / is not HTTP/1.1: \"\"")),
    ];
    for (answer, expected) in rows {
        let error = probe(answering(answer))
            .err()
            .map(|error| error.to_string());
        assert_eq!(
            error.as_deref(),
            expected,
            "for {:?}",
            String::from_utf8_lossy(answer)
        );
    }
}

#[test]
fn builds_and_versions() {
    let command = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
    let of = |build: &[&str], version: &[&str]| Server {
        build: command(build),
        version: command(version),
        ..shell("")
    };
    let root = tempfile::tempdir().unwrap();
    let fine = of(
        &["sh", "-c", "test \"$CARGO_TARGET_DIR\" = \"$PWD/target\""],
        &["sh", "-c", "echo fake 1.2; echo more"],
    );
    build(&fine, &root.path().canonicalize().unwrap()).unwrap();
    assert_eq!(version(&fine, root.path()).as_deref(), Some("fake 1.2"));

    let bad = of(
        &["sh", "-c", "echo broken >&2; exit 1"],
        &["sh", "-c", "echo 1 >&2; exit 1"],
    );
    assert_eq!(
        build(&bad, root.path()).unwrap_err().to_string(),
        "building fake: `sh -c echo broken >&2; exit 1` exit status: 1: broken"
    );
    assert_eq!(version(&bad, root.path()), None);
    let on_stderr = of(&["true"], &["sh", "-c", "echo fake version: 3 >&2"]);
    assert_eq!(
        version(&on_stderr, root.path()).as_deref(),
        Some("fake version: 3")
    );
}
