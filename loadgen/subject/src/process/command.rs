//! Commands of the catalogue that run to completion: builds and versions.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use super::keeper::Kept;
use super::pipe::{Keep, Output};
use super::waiting::{Waiting, tell};
use super::{Error, program};
use crate::catalogue::Server;
use engine::{foreign, signals};

/// How long a version command may take. A build has no limit other than Ctrl-C.
pub const VERSION_WITHIN: Duration = Duration::from_secs(5);

/// Runs the build command of `server` in `root`, with its output on stderr; does nothing without
/// one. Cargo builds into `root/target`, where the run commands look. No process that it starts is
/// left behind.
///
/// # Errors
///
/// If it cannot be run or fails, with the end of its output; if the user interrupts.
pub fn build(server: &Server, root: &Path) -> Result<(), Error> {
    let Some(build) = &server.build else {
        return Ok(());
    };
    let line = foreign::quoted(&build.join(" "));
    let mut command = command(build, root);
    command.env("CARGO_TARGET_DIR", root.join("target"));
    let job = Job {
        what: &format!("the build of {}, `{line}`", server.name),
        within: None,
        keep: Keep::End,
        is_shown: true,
    };
    let finished = job.run(command).map_err(|failure| match failure {
        Failure::Io(cause) => Error::Io {
            server: server.name.clone(),
            action: format!("building it with `{line}`"),
            cause,
        },
        Failure::Interrupted | Failure::Late => Error::Interrupted {
            server: server.name.clone(),
            action: "building",
        },
    })?;
    if finished.status.success() {
        return Ok(());
    }
    Err(Error::Build {
        server: server.name.clone(),
        command: line,
        status: finished.status,
        tail: match finished.stderr.trim().is_empty() {
            true => finished.stdout,
            false => finished.stderr,
        },
    })
}

/// The first line that the version command of `server` prints, on stdout or else on stderr, in printable form.
/// `None` without a command, if it fails, or if it takes longer than [`VERSION_WITHIN`], which prints a warning.
/// No process that it starts is left behind.
pub fn version(server: &Server, root: &Path) -> Option<String> {
    let line = server.version.as_ref()?;
    let shown = foreign::quoted(&line.join(" "));
    let job = Job {
        what: &format!("the version of {}, `{shown}`", server.name),
        within: Some(VERSION_WITHIN),
        keep: Keep::Beginning,
        is_shown: false,
    };
    let finished = match job.run(command(line, root)) {
        Ok(finished) => finished,
        Err(Failure::Late) => {
            tell(&format!(
                "warning: the version of {} is unknown: `{shown}` did not end within {} s",
                server.name,
                VERSION_WITHIN.as_secs()
            ));
            return None;
        }
        Err(Failure::Io(_) | Failure::Interrupted) => return None,
    };
    let output = [finished.stdout, finished.stderr];
    let text = output.iter().find(|text| !text.trim().is_empty())?;
    let first = text.trim().lines().next().unwrap_or_default();
    (finished.status.success()).then(|| foreign::quoted(first.trim()))
}

fn command(line: &[String], root: &Path) -> Command {
    let mut command = program(&line[0], root);
    command.args(&line[1..]);
    command
}

/// A command to run to completion.
struct Job<'a> {
    /// A description for the user.
    what: &'a str,
    within: Option<Duration>,
    /// The part of its output to keep.
    keep: Keep,
    /// The output is also copied to stderr.
    is_shown: bool,
}

/// A completed command.
struct Finished {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

enum Failure {
    Io(io::Error),
    Late,
    Interrupted,
}

impl Job<'_> {
    /// Runs the command; everything that it started ends with it.
    fn run(&self, mut command: Command) -> Result<Finished, Failure> {
        const POLL: Duration = Duration::from_millis(5);

        let mut kept = Kept::start(&mut command, &[]).map_err(Failure::Io)?;
        let (stdout, stderr) = kept.output();
        let copy = || self.is_shown.then(io::stderr);
        let output = |it: Option<_>| {
            it.map(|pipe| Output::of(pipe, self.keep, copy()))
                .transpose()
        };
        let stdout = output(stdout).map_err(Failure::Io)?;
        let output = |it: Option<_>| {
            it.map(|pipe| Output::of(pipe, self.keep, copy()))
                .transpose()
        };
        let stderr = output(stderr).map_err(Failure::Io)?;
        let mut waiting = Waiting::begin(self.what);
        let status = loop {
            if let Some(status) = kept.status() {
                break status;
            }
            if kept.is_lost() {
                let message = "its loadgen-keeper process was killed";
                return Err(Failure::Io(io::Error::other(message)));
            }
            if signals::interrupted() {
                return Err(Failure::Interrupted);
            }
            if self
                .within
                .is_some_and(|within| waiting.elapsed() >= within)
            {
                return Err(Failure::Late);
            }
            waiting.go_on(self.within);
            thread::sleep(POLL);
        };
        // Processes that it has left behind may hold the pipes open.
        for left in kept.end() {
            tell(&format!(
                "warning: process {left}, left by {}, is still running",
                self.what
            ));
        }
        let text = |output: Option<Output>| output.map_or_else(String::new, |it| it.finish());
        Ok(Finished {
            status,
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }
}
