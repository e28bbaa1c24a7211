//! Where the output of every verb goes: into files, pipes and devices, to standard output, and what becomes of a
//! verb when nobody can be written to.

mod laboratory;
mod truth;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use truth::{Options, Server};

/// A set, a capture and a server, for verbs that need one.
struct Subjects {
    folder: tempfile::TempDir,
    set: String,
    server: Server,
}

impl Subjects {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let set = laboratory::write_small(folder.path());
        Subjects {
            set: set.to_str().unwrap().to_owned(),
            folder,
            server: Server::start(Options::default()).unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `loadgen` with the words of `line`, in which SET, URL and OUT stand for what they are called.
    fn words(&self, line: &str, out: &Path) -> Vec<String> {
        let url = format!("http://{}/", self.server.address());
        let word = |word: &str| match word {
            "SET" => self.set.clone(),
            "URL" => url.clone(),
            "URL,URL" => format!("{url},{url}"),
            "OUT" => out.to_str().unwrap().to_owned(),
            word => word.to_owned(),
        };
        line.split_whitespace().map(word).collect()
    }

    fn command(&self, line: &str, out: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(self.words(line, out)).stdin(Stdio::null());
        command.current_dir(self.folder.path());
        command
    }

    /// The same with redirections of a shell, such as `>&-`.
    fn redirected(&self, line: &str, redirection: &str) -> Output {
        let script = format!("exec \"$0\" \"$@\" {redirection}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_loadgen")]);
        command.args(self.words(line, Path::new("-")));
        command.current_dir(self.folder.path());
        command.stdin(Stdio::null()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Verbs that print, and the exit code that they have when all is fine.
const PRINTING: [(&str, i32); 14] = [
    ("--help", 0),
    ("--version", 0),
    ("run --help", 0),
    ("completions bash", 0),
    ("doctor", 0),
    ("doctor --json -", 0),
    ("cmp SET", 0),
    ("cmp SET --format json", 0),
    ("rank SET", 0),
    ("diff SET SET", 0),
    ("report SET", 0),
    ("trace URL --no-sockets", 0),
    ("trace URL --no-sockets --json -", 0),
    ("run URL -n 500 -c 1 --json -", 0),
];

#[test]
fn a_stdout_that_cannot_be_written_is_an_error() {
    let subjects = Subjects::new();
    for (line, _) in PRINTING {
        for (redirection, reason) in [
            (">/dev/full", "No space left on device"),
            (">&-", "Bad file descriptor"),
            ("1</dev/null", "Bad file descriptor"),
            (">&- 2>&-", ""),
            (">/dev/full 2>/dev/full", ""),
        ] {
            let output = subjects.redirected(line, redirection);
            let stderr = text(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{line} {redirection}: {stderr}"
            );
            assert!(
                !stderr.contains("panicked"),
                "{line} {redirection}: {stderr}"
            );
            let said = stderr.lines().last().unwrap_or_default();
            assert!(said.contains(reason), "{line} {redirection}: {stderr}");
        }
    }
}

#[test]
fn readers_that_stop_and_a_stderr_that_cannot_be_written_change_nothing() {
    let subjects = Subjects::new();
    for (line, code) in PRINTING {
        let mut child = subjects
            .command(line, Path::new("-"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Nobody reads.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
        assert!(!stderr.contains("panicked"), "{line}: {stderr}");
        for redirection in ["2>&-", "2>/dev/full"] {
            let output = subjects.redirected(line, redirection);
            assert_eq!(output.status.code(), Some(code), "{line} {redirection}");
            assert!(!output.stdout.is_empty(), "{line} {redirection}");
        }
    }
    for (line, code) in [
        ("", 2),
        ("no-such-verb", 2),
        ("run", 2),
        ("run http://127.0.0.1:99999/", 2),
        ("report /no/such/set", 1),
    ] {
        for redirection in ["", "2>&-", "2>/dev/full", ">&- 2>&-"] {
            let output = subjects.redirected(line, redirection);
            assert_eq!(output.status.code(), Some(code), "{line} {redirection}");
        }
    }
}

/// Output options, each in a command that writes nothing else to stdout when that is where it goes, and the
/// beginning of what it writes.
const WRITING: [(&str, &str); 8] = [
    ("run URL -n 500 -c 1 --json OUT", "{\n  \"schema\": 1"),
    ("run URL -n 500 -c 1 --hlog OUT", "#[Histogram log"),
    ("run URL -n 500 -c 1 --hgrm OUT", "       Value"),
    ("doctor --json OUT", "{\n"),
    ("report SET --html OUT", "<!doctype html>"),
    ("trace URL --no-sockets --json OUT", "{\n"),
    ("trace URL --no-sockets --html OUT", "<!doctype html>"),
    ("trace --compare URL,URL --no-sockets --json OUT", "[\n"),
];

fn begins(bytes: &[u8], expected: &str, about: &str) {
    let head = text(&bytes[..bytes.len().min(200)]);
    let fine = head.to_lowercase().starts_with(&expected.to_lowercase());
    assert!(fine, "{about}: {head:?}");
}

#[test]
fn output_goes_where_it_was_sent() {
    let subjects = Subjects::new();
    let (pipe, file, link) = (
        subjects.path("pipe"),
        subjects.path("file"),
        subjects.path("link"),
    );
    mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
    symlink("file", &link).unwrap();
    let before = fs::read_dir(subjects.folder.path()).unwrap().count() + 1;
    for (line, expected) in WRITING {
        let run = |out: &Path, code: i32| {
            let output = subjects.command(line, out).output().unwrap();
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{line} {out:?}: {stderr}");
            output
        };
        for stdout in ["-", "/dev/stdout"] {
            begins(&run(Path::new(stdout), 0).stdout, expected, line);
        }

        fs::write(&file, "old").unwrap();
        run(&link, 0);
        begins(&fs::read(&file).unwrap(), expected, line);
        assert!(link.is_symlink(), "{line}");

        let reader = pipe.clone();
        let reader = thread::spawn(move || fs::read(reader).unwrap());
        run(&pipe, 0);
        begins(&reader.join().unwrap(), expected, line);

        run(Path::new("/dev/null"), 0);
        let output = run(Path::new("/dev/full"), 1);
        let stderr = text(&output.stderr);
        let reason = "writing /dev/full: No space left on device";
        assert!(stderr.contains(reason), "{line}: {stderr}");

        for (out, reason) in [
            ("/no/such/file", "there is no folder /no/such"),
            (".", "it is a folder"),
            ("/dev/fd/0", "it is not open for writing"),
        ] {
            let stderr = text(&run(Path::new(out), 2).stderr);
            assert!(stderr.contains(reason), "{line}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
        }
    }
    assert!(fs::metadata("/dev/null").unwrap().len() == 0);
    let names = fs::read_dir(subjects.folder.path()).unwrap().count();
    assert_eq!(names, before, "nothing is left behind");
}

/// A shell has opened it, and has written to it before.
#[test]
fn what_a_shell_has_opened_is_written_into() {
    let subjects = Subjects::new();
    for (form, redirection) in [("/dev/stdout", ">>out"), ("/dev/fd/3", "3>>out >rest")] {
        let out = subjects.path("out");
        fs::write(&out, "before\n").unwrap();
        let output = subjects.redirected(&format!("report SET --html {form}"), redirection);
        assert!(output.status.success(), "{form}: {}", text(&output.stderr));
        let mut file = OpenOptions::new().append(true).open(&out).unwrap();
        file.write_all(b"after\n").unwrap();
        let written = text(&fs::read(&out).unwrap()).to_lowercase();
        assert!(written.starts_with("before\n<!doctype html>"), "{form}");
        assert!(written.ends_with("</html>after\n"), "{form}");
    }
}

#[test]
fn two_outputs_do_not_share_a_place() {
    let subjects = Subjects::new();
    for (line, message) in [
        (
            "run URL --json - --hlog -",
            "--json and --hlog both write to stdout",
        ),
        (
            "run URL --json /dev/stdout --hlog -",
            "--json and --hlog both write to stdout",
        ),
        (
            "run URL --hlog x --hgrm x",
            "--hlog and --hgrm both write to x",
        ),
        (
            "run URL --hgrm - --format github",
            "--hgrm - and --format both write to stdout",
        ),
        (
            "trace URL --json - --html -",
            "--json and --html both write to stdout",
        ),
        (
            "trace URL --mermaid --html -",
            "--mermaid and --html both write to stdout",
        ),
        (
            "trace URL --write x --json ./x",
            "--write and --json both write to ./x",
        ),
        (
            "report SET --html - --splice -",
            "--html and --splice both write to stdout",
        ),
    ] {
        let output = subjects.command(line, Path::new("-")).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {stderr}");
        assert!(stderr.contains(message), "{line}: {stderr}");
    }
    assert!(!subjects.path("x").exists());
}

/// There is nothing to bring to an orderly end while somebody has to read.
#[test]
fn a_signal_ends_the_wait_for_a_reader() {
    let subjects = Subjects::new();
    let pipe = subjects.path("pipe");
    mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
    for line in [
        "run URL -n 500 -c 1 --json OUT",
        "trace URL --no-sockets --json OUT",
    ] {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let mut command = subjects.command(line, &pipe);
            let mut child = command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let pid = child.id();
            // Nobody opens the other end: the call does not return.
            let mut times_seen = 0;
            while times_seen < 3 {
                let Ok(call) = fs::read_to_string(format!("/proc/{pid}/syscall")) else {
                    let why = "SKIPPED: a_signal_ends_the_wait_for_a_reader: /proc/PID/syscall cannot be read";
                    let _ = writeln!(std::io::stderr(), "{why}");
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return;
                };
                let is_opening = call.split(' ').next() == Some(&libc::SYS_openat.to_string());
                times_seen = if is_opening { times_seen + 1 } else { 0 };
                assert_eq!(child.try_wait().unwrap(), None, "{line}");
                thread::sleep(Duration::from_millis(20));
            }
            kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
            let ended = child.wait().unwrap();
            assert_eq!(ended.signal(), Some(signal as i32), "{line} {signal}");
        }
    }
}

/// One that cannot be written spoils no other.
#[test]
fn every_output_is_written_that_can_be() {
    let subjects = Subjects::new();
    let line = "run URL -n 500 -c 1 --json /dev/full --hlog /dev/full --hgrm kept";
    let output = subjects.redirected(line, ">/dev/full");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.matches("No space left").count(), 3, "{stderr}");
    let kept = fs::read(subjects.path("kept")).unwrap();
    begins(&kept, "       Value", line);
}

#[test]
fn markdown_is_renewed_from_stdin_to_stdout() {
    let subjects = Subjects::new();
    let page = subjects.path("page.md");
    let markers = "a\n<!-- loadgen:begin -->\n<!-- loadgen:end -->\nb\n";
    fs::write(&page, markers).unwrap();
    let mut command = subjects.command("report SET --splice OUT", Path::new("-"));
    let output = command.stdin(File::open(&page).unwrap()).output().unwrap();
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        printed.starts_with("a\n<!-- loadgen:begin -->\n"),
        "{printed}"
    );
    assert!(printed.ends_with("<!-- loadgen:end -->\nb\n"), "{printed}");
    assert!(printed.contains("keep-alive") && !printed.contains("pictures/"));
    assert!(!subjects.path("pictures").exists());
    assert_eq!(fs::read_to_string(&page).unwrap(), markers);

    let pipe = subjects.path("pipe");
    mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
    let output = subjects
        .command("report SET --splice OUT", &pipe)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not a regular file"));
}
