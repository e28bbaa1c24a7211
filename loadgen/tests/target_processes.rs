//! Which processes a server consists of: all are counted, none is left behind, and others are named.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use subject::catalogue::{Ready, Server, Serves};
use subject::process::{CostError, Options, Owner, Sampler, ServerCost, Target, build, version};

const PLENTY: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Server {
    Server {
        name: "fake".to_owned(),
        about: String::new(),
        build: None,
        run: ["sh", "-c", script].map(str::to_owned).to_vec(),
        version: None,
        ready: Ready::Line,
        reference: false,
        floor: false,
        groups: Vec::new(),
        serves: Serves::All,
        thread_per_connection: false,
    }
}

/// A server that says it is ready, and goes on with `script`.
fn ready(script: &str) -> Server {
    shell(&format!("echo 'listening on 127.0.0.1:4242'; {script}"))
}

fn start(server: &Server) -> Result<Target, String> {
    Target::start(server, Path::new("/"), &Options::default()).map_err(|error| error.to_string())
}

fn soon(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PLENTY;
    while !condition() {
        assert!(Instant::now() < deadline, "not soon: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Neither running nor to be waited for by one who runs.
fn is_gone(pid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')),
    }
}

/// The number that is in this file, once it is.
fn number_in(file: &Path) -> i32 {
    let number = || fs::read_to_string(file).ok()?.trim().parse::<i32>().ok();
    soon("a process tells its number", || number().is_some());
    number().unwrap()
}

/// The generator's responder: it answers, and prints the address that it listens on.
const RESPONDER: &str = concat!(env!("CARGO_BIN_EXE_loadgen"), " responder --listen {addr}");

/// Ways to leave the group of the process that was started; `{}` is the script of the one that leaves.
const WAYS: [(&str, &str); 7] = [
    ("a child", "sh -c '{}' & wait"),
    ("another session", "setsid sh -c '{}' & wait"),
    ("an orphan", "(sh -c '{}' &); sleep 1000"),
    (
        "an orphan of another session",
        "(setsid sh -c '{}' &) & sleep 1000",
    ),
    (
        "without the environment",
        "(env -i setsid sh -c '{}' &) & exec sleep 1000",
    ),
    (
        "deaf to signals",
        "trap '' TERM HUP INT; setsid sh -c '{}' & wait",
    ),
    (
        "its parent becomes another program",
        "setsid sh -c '{}' & exec sleep 1000",
    ),
];

#[test]
fn whoever_leaves_is_known_and_ends_with_the_target() {
    let folder = tempfile::tempdir().unwrap();
    for (index, (name, way)) in WAYS.iter().enumerate() {
        let file = folder.path().join(index.to_string());
        let leaver = format!(
            "echo $$ >\"{}\"; while :; do sleep 1000; done",
            file.display()
        );
        let target = start(&ready(&way.replace("{}", &leaver))).unwrap();
        let leaver = number_in(&file);
        soon(name, || {
            target.processes().members().unwrap().contains(&leaver)
        });
        assert!(!target.has_ended(), "{name}");
        let ended = target.stop(Duration::from_millis(200));
        assert!(ended.left.is_empty(), "{name}: {ended:?}");
        assert!(is_gone(leaver), "{name}");
    }
}

#[test]
fn whoever_leaves_ends_with_a_target_that_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ >\"{}\"; sleep 1000' & wait",
        file.display()
    );
    let target = start(&ready(&script)).unwrap();
    let leaver = number_in(&file);
    drop(target);
    assert!(is_gone(leaver));
}

/// Set in the process that is killed below; names the file that a process of the server tells its number in.
const TELL: &str = "LOADGEN_TEST_TELL";

/// Not a test of its own: the process that [`nothing_outlives_its_loadgen`] kills.
#[test]
#[ignore = "run by another test"]
fn starts_a_server_and_waits() {
    let Ok(file) = std::env::var(TELL) else {
        return;
    };
    let leaver = format!("trap \"\" TERM; echo $$ >\"{file}\"; while :; do sleep 1000; done");
    let target = start(&ready(&format!(
        "(env -i setsid sh -c '{leaver}' &); wait; exec sleep 1000"
    )));
    thread::sleep(PLENTY * 3);
    drop(target);
}

/// Not even what has left its group, its session and its environment, and is deaf to signals.
#[test]
fn nothing_outlives_its_loadgen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut loadgen = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "starts_a_server_and_waits"])
        .env(TELL, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let leaver = number_in(&file);
    assert!(!is_gone(leaver));
    // SIGKILL: it cannot tidy up.
    loadgen.kill().unwrap();
    loadgen.wait().unwrap();
    soon("the server is gone", || is_gone(leaver));
}

/// Asks `requests` times on one connection.
fn ask(address: SocketAddr, requests: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PLENTY)).unwrap();
    let mut answer = [0; 4096];
    for _ in 0..requests {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert!(stream.read(&mut answer).unwrap() > 0);
    }
}

/// What so many requests cost.
fn cost_of(target: &Target, requests: usize) -> ServerCost {
    let sampler = Sampler::start(target.processes()).unwrap();
    ask(target.address(), requests);
    sampler.finish().unwrap()
}

/// The process that was started exits with 0 once the daemon is ready.
#[test]
fn a_daemon_is_measured_and_stopped() {
    let server = shell(&format!("setsid {RESPONDER} & sleep 0.2; exit 0"));
    let target = start(&server).unwrap();
    let leader = target.pid().cast_signed();
    soon("the one that was started ends", || is_gone(leader));
    assert!(!target.has_ended());
    assert_eq!(target.owner(), Owner::Server);
    let cost = cost_of(&target, 500);
    assert!(
        cost.cpu_s() > 0.0 && cost.can_have_answered(500, 1),
        "{cost:?}"
    );
    let daemons = target.processes().members().unwrap();
    assert_eq!(daemons.len(), 1);
    let ended = target.stop(PLENTY);
    assert!(!ended.killed && is_gone(daemons[0]), "{ended:?}");
}

/// It may be ready only after the process that was started has exited.
#[test]
fn a_daemon_that_takes_its_time() {
    let server = shell(&format!("(sleep 0.3; exec setsid {RESPONDER}) & exit 0"));
    let target = start(&server).unwrap();
    ask(target.address(), 1);
    assert!(!target.has_ended());
    // It dies: nobody listens any more.
    let daemon = target.processes().members().unwrap()[0];
    let pid = nix::unistd::Pid::from_raw(daemon);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGABRT).unwrap();
    soon("it is gone", || target.has_ended());
    let ended = target.stop(PLENTY).to_string();
    assert!(ended.starts_with("was ended by SIGABRT"), "{ended}");
}

#[test]
fn a_daemon_that_never_comes() {
    let error = start(&shell("echo no config >&2; exit 0")).unwrap_err();
    let expected = "starting fake: it exited with status 0: no config before it could accept";
    assert_eq!(error, expected);
}

#[test]
fn somebody_else_at_the_address_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let expected = format!(
        "starting fake: {address} is served by a process that loadgen did not start: {} (",
        std::process::id()
    );
    // As an IPv6 socket has it, the address is the same.
    let mapped = format!("[::ffff:127.0.0.1]:{}", address.port());
    for said in [address.to_string(), mapped] {
        let script = format!("echo listening on {said}; exec sleep 1000");
        let error = start(&shell(&script)).unwrap_err();
        assert!(error.starts_with(&expected), "{said}: {error}");
    }
}

/// Its own listener is there too, but the kernel may give connections to either.
#[test]
fn a_shared_port_is_named() {
    use socket2::{Domain, Socket, Type};
    let sharing = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(1).unwrap();
        TcpListener::from(socket)
    };
    let ours = sharing("127.0.0.1:0".parse().unwrap());
    let address = ours.local_addr().unwrap();
    let theirs = sharing(address);
    // The server inherits one of them, so that only the other is nobody's but ours.
    let script = format!("echo listening on {address}; exec sleep 1000");
    nix::fcntl::fcntl(
        &theirs,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let error = start(&shell(&script)).unwrap_err();
    assert!(
        error.contains("is served by a process that loadgen did not start"),
        "{error}"
    );
}

#[test]
fn last_words_and_signal_of_one_that_was_ready() {
    for (script, expected) in [
        (
            "echo oh no >&2; kill -SEGV $$",
            "was ended by SIGSEGV: oh no",
        ),
        (
            "printf 'a\\033[31m\\000\\r\\nb\\377' >&2; kill -ABRT $$",
            "was ended by SIGABRT: a\\u{1b}[31m\\0; b\\xff",
        ),
        ("echo on stdout; exit 9", "exited with status 9: on stdout"),
        (
            "echo out; echo err >&2; exit 9",
            "exited with status 9: err",
        ),
        ("kill -34 $$", "was ended by signal 34"),
    ] {
        let target = start(&ready(&format!("sleep 0.1; {script}"))).unwrap();
        soon("it ends", || target.has_ended());
        assert_eq!(target.stop(PLENTY).to_string(), expected);
    }
    let target = start(&ready(
        "head -c 300000 /dev/zero | tr '\\0' w >&2; echo ' the end' >&2; exit 1",
    ));
    let target = target.unwrap();
    soon("it ends", || target.has_ended());
    let said = target.stop(PLENTY).to_string();
    assert!(said.len() < 400 && said.ends_with("www the end"), "{said}");
}

/// The command dies with it, and nobody can tell how that ended: it is said at once, and what is left of it
/// ends too.
#[test]
fn a_keeper_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let name = file.display();
    let target = start(&shell(&format!(
        "(setsid sh -c 'echo $$ >\"{name}\"; exec sleep 1000' &); while [ ! -s \"{name}\" ]; do sleep 0.01; done; \
         echo 'listening on 127.0.0.1:4242'; exec sleep 1000"
    )))
    .unwrap();
    let orphan = number_in(&file);
    let parent_of = |pid: u32| -> i32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        rest.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let keeper = nix::unistd::Pid::from_raw(parent_of(target.pid()));
    assert!(!target.has_ended() && !is_gone(orphan));
    nix::sys::signal::kill(keeper, nix::sys::signal::Signal::SIGKILL).unwrap();
    soon("it is known", || target.has_ended());
    let ended = target.stop(PLENTY);
    assert!(!ended.killed && ended.lost, "{ended:?}");
    assert_eq!(
        ended.to_string(),
        "was killed because its loadgen-keeper process was killed"
    );
    assert!(is_gone(orphan));
}

/// It says what it is in pieces, or never, or dies in between.
#[test]
fn ready_lines_however_they_come() {
    let target = start(&shell(
        "printf 'listening on '; sleep 0.1; printf '127.0.0.1:4242'; sleep 0.1; echo; exec sleep 1000",
    ));
    assert_eq!(target.unwrap().address().port(), 4242);
    let error = start(&shell("printf 'listening on 127.'; echo died >&2; exit 3")).unwrap_err();
    let (died, line) = (
        "it exited with status 3: died",
        "but is \"listening on 127.\"",
    );
    assert!(error.contains(died) || error.contains(line), "{error}");
    // What follows is read, however much it is.
    let target = start(&ready("while :; do echo more; echo more >&2; done")).unwrap();
    thread::sleep(Duration::from_millis(50));
    assert!(!target.has_ended());
    target.stop(PLENTY);
}

/// A tick of a CPU and more.
const BUSY: &str = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";

/// Of processes that begin and end while they are counted, whoever waits for them.
#[test]
fn the_time_of_short_lived_processes_counts() {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in [
        ("children", "while :; do sh -c '{}'; done"),
        ("orphans", "while :; do (sh -c '{}' &); sleep 0.05; done"),
    ] {
        let file = folder.path().join(name);
        let done = || fs::read(&file).map_or(0, |file| file.len());
        let busy = format!("{BUSY}; printf x >>\"{}\"", file.display());
        let target = start(&ready(&script.replace("{}", &busy))).unwrap();
        let sampler = Sampler::start(target.processes()).unwrap();
        let begin = done();
        soon("many have come and gone", || done() >= begin + 20);
        let cost = sampler.finish().unwrap();
        // Less than the shell takes for a quarter of them.
        assert!(cost.cpu_s() > 0.05, "{name}: {cost:?}");
        assert!(cost.threads_max >= 2, "{name}: {cost:?}");
        assert_eq!(
            cost.context_switches, None,
            "{name}: processes came and went"
        );
    }
}

/// Set in a process that starts others and does not care when they end.
const FORGET: &str = "LOADGEN_TEST_FORGET";

/// Not a test of its own: the server of [`time_that_is_lost_is_said_to_be`]. A shell would not do, as it
/// handles SIGCHLD whatever it is told.
#[test]
#[ignore = "run by another test"]
fn starts_others_and_forgets_them() {
    if std::env::var_os(FORGET).is_none() {
        return;
    }
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: to ignore a signal is no code of ours.
    #[allow(unsafe_code)]
    unsafe {
        signal(Signal::SIGCHLD, SigHandler::SigIgn).unwrap();
    }
    loop {
        let child = Command::new("sh").args(["-c", BUSY]).spawn().unwrap();
        // Its exit status is nobody's: the kernel reaps it.
        drop(child);
        thread::sleep(Duration::from_millis(100));
    }
}

/// The kernel drops the time of children whose parent ignores that they end.
#[test]
fn time_that_is_lost_is_said_to_be() {
    let program = std::env::current_exe().unwrap();
    let script = format!(
        "{FORGET}=1 exec '{}' --ignored --exact starts_others_and_forgets_them",
        program.display()
    );
    let target = start(&ready(&script)).unwrap();
    let has_begun = || target.processes().members().unwrap().len() > 1;
    soon("it has started others", has_begun);
    let sampler = Sampler::start(target.processes()).unwrap();
    thread::sleep(Duration::from_millis(1500));
    let error = sampler.finish().unwrap_err();
    assert!(matches!(error, CostError::Lost(_)), "{error}");
    assert!(error.to_string().contains("ignores SIGCHLD"), "{error}");
}

#[test]
fn a_time_that_is_too_short_is_no_cost() {
    let cost = |cpu_user_s, cpu_grain_s| ServerCost {
        cpu_user_s,
        cpu_grain_s,
        ..ServerCost::default()
    };
    for (cpu_s, grain_s, responses, pipeline, expected) in [
        (0.3, 0.0, 100_000, 1, true),
        (0.000_001, 0.0, 1, 1, true),
        (0.0, 0.0, 0, 1, true),
        (0.0, 0.0, 1, 1, false),
        (0.0, 0.02, 1, 1, false),
        // 0.1 µs for each: not even the system calls.
        (0.01, 0.0, 100_000, 1, false),
        (0.01, 0.0, 100_000, 16, true),
        // Time that is known by the tick only.
        (0.001, 0.02, 100_000, 1, true),
        (0.001, 0.02, 1_000_000, 1, false),
    ] {
        let found = cost(cpu_s, grain_s).can_have_answered(responses, pipeline);
        assert_eq!(
            found, expected,
            "{cpu_s} s, {grain_s} s, {responses}, {pipeline}"
        );
    }
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|&word| word.to_owned()).collect())
}

#[test]
fn versions_whatever_the_command_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let stays = format!(
        "setsid sh -c 'echo $$ >\"{}\"; exec sleep 1000' & sleep 0.3; echo v1",
        file.display()
    );
    for (script, expected) in [
        // It holds the pipe open.
        (stays.as_str(), Some("v1")),
        ("sleep 1000 & echo v2", Some("v2")),
        ("echo v3; head -c 5000000 /dev/zero", Some("v3")),
        ("printf 'v4 \\033[31m\\377\\n'", Some("v4 \\u{1b}[31m\\xff")),
        ("kill -9 $$", None),
        ("exit 0", None),
    ] {
        let server = Server {
            version: words(&["sh", "-c", script]),
            ..shell("")
        };
        assert_eq!(
            version(&server, folder.path()).as_deref(),
            expected,
            "{script}"
        );
    }
    let leaver = number_in(&file);
    assert!(is_gone(leaver));
    let long = Server {
        version: words(&["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' v"]),
        ..shell("")
    };
    let found = version(&long, folder.path()).unwrap();
    assert!(found.len() <= 300 && found.starts_with("vvv"), "{found}");
}

#[test]
fn a_version_that_does_not_come_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "trap '' TERM; echo $$ >'{}'; while :; do sleep 1000; done",
        file.display()
    );
    let server = Server {
        version: words(&["sh", "-c", &script]),
        ..shell("")
    };
    assert_eq!(version(&server, folder.path()), None);
    assert!(is_gone(number_in(&file)));
}

#[test]
fn a_build_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ >\"{}\"; exec sleep 1000' & sleep 0.3",
        file.display()
    );
    let server = Server {
        build: words(&["sh", "-c", &script]),
        ..shell("")
    };
    build(&server, folder.path()).unwrap();
    assert!(is_gone(number_in(&file)));
}
