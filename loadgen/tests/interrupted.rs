//! Every wait of `loadgen measure` for somebody else's command hears the user's signals.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

mod repository;

use repository::{Ended, Repository, serving, soon};

/// Not a test of its own: the server that is measured.
#[test]
#[ignore = "run by other tests"]
fn serve() {
    repository::serve();
}

/// Longer than any of these takes on a busy machine, and shorter than what is waited for.
const PLENTY: Duration = Duration::from_secs(60);

/// Says that it is there, and stays.
const STAY: &str = "touch here; while :; do sleep 1000; done";

/// A repository whose only server has this build, or this version, or this script, and serves if it has none.
fn repository(build: Option<&str>, version: Option<&str>, run: Option<&str>) -> Repository {
    let repository = Repository::new(&[("slow", run.unwrap_or(&serving("hello world")))]);
    repository.hurry();
    let file = repository.path("benches/servers.toml");
    let mut text = fs::read_to_string(&file).unwrap();
    if let Some(build) = build {
        text += &format!("build = ['sh', '-c', '''{build}''']\n");
    }
    if let Some(version) = version {
        let version = format!("version = ['sh', '-c', '''{version}''']");
        text = text.replace("version = ['echo', 'slow 1']", &version);
    }
    fs::write(file, text).unwrap();
    repository
}

const MEASURE: [&str; 7] = [
    "measure",
    "--out",
    "sets",
    "--rounds",
    "2",
    "--no-ledger",
    "--seed=1",
];

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Whether a process has this folder as its own.
fn is_populated(root: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let folders = processes.map(|entry| fs::read_link(entry.path().join("cwd")));
    folders.flatten().any(|folder| folder.starts_with(root))
}

#[test]
fn every_wait_hears_signals() {
    let stubborn = format!(
        "trap 'touch here' TERM; {} & while :; do wait; done",
        serving("hello world")
    );
    for (name, repository, sig, said) in [
        (
            "build",
            repository(Some(STAY), None, None),
            Signal::SIGINT,
            "interrupted before",
        ),
        (
            "build",
            repository(Some(&format!("setsid sh -c \"{STAY}\"")), None, None),
            Signal::SIGHUP,
            "interrupted before",
        ),
        (
            "version",
            repository(None, Some(STAY), None),
            Signal::SIGTERM,
            "interrupted before",
        ),
        (
            "start",
            repository(None, None, Some(STAY)),
            Signal::SIGHUP,
            "to go on: loadgen measure --resume",
        ),
        (
            "stop",
            repository(None, None, Some(&stubborn)),
            Signal::SIGINT,
            "to go on: loadgen measure --resume",
        ),
    ] {
        let begin = Instant::now();
        let child = repository.command(&MEASURE).spawn().unwrap();
        soon(name, || repository.path("here").exists());
        signal(&child, sig);
        let ended = Ended::of(child.wait_with_output().unwrap());
        assert!(begin.elapsed() < PLENTY, "{name}");
        assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
        assert!(ended.stderr.contains(said), "{name}: {ended:?}");
        soon("nothing is left", || !is_populated(repository.0.path()));
    }
}

/// As `nohup` does.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let repository = repository(
        Some("touch here; while [ ! -e go ]; do sleep 0.05; done"),
        None,
        None,
    );
    let line = format!(
        "trap '' HUP; exec '{}' {}",
        env!("CARGO_BIN_EXE_loadgen"),
        MEASURE.join(" ")
    );
    let child = Command::new("sh")
        .args(["-c", &line])
        .current_dir(repository.0.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    soon("it builds", || repository.path("here").exists());
    signal(&child, Signal::SIGHUP);
    thread::sleep(Duration::from_millis(100));
    fs::write(repository.path("go"), "").unwrap();
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert!(!ended.stderr.contains("interrupted"), "{ended:?}");
    assert!(ended.stderr.contains("[4/4"), "{ended:?}");
}

/// Whoever starts us may ignore that children end, which is inherited.
#[test]
fn children_are_waited_for_whatever_is_inherited() {
    use std::os::unix::process::CommandExt as _;
    let repository = repository(Some("true"), None, None);
    let mut command = repository.command(&MEASURE);
    let ignore = || {
        use nix::sys::signal::{SigHandler, signal};
        // SAFETY: to ignore a signal is no code of ours.
        #[allow(unsafe_code)]
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }?;
        Ok(())
    };
    // SAFETY: one system call, and nothing is allocated.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(ignore);
    }
    let ended = Ended::of(command.output().unwrap());
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    assert!(ended.stderr.contains("[4/4"), "{ended:?}");
    assert!(!ended.stderr.contains("failed"), "{ended:?}");
}
