use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::pipe::Tail;
use super::{Error, program};
use crate::catalogue::Server;

/// Runs the build command of `server` in `root`, with its output on stderr; does nothing when it has
/// none. Cargo is made to build into `root/target`, where the run commands look.
///
/// # Errors
///
/// When it cannot be run or fails; the error holds the end of its output.
pub fn build(server: &Server, root: &Path) -> Result<(), Error> {
    let Some(build) = &server.build else {
        return Ok(());
    };
    let failed = |cause| Error::Io {
        server: server.name.clone(),
        action: format!("building it with `{}`", build.join(" ")),
        cause,
    };
    let mut child = command(build, root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let stdout = child.stdout.take().expect("is piped");
    let stderr = child.stderr.take().expect("is piped");
    let mut stdout = Tail::of(stdout, Some(io::stderr()));
    let mut stderr = Tail::of(stderr, Some(io::stderr()));
    let status = child.wait().map_err(failed)?;
    let (stdout, stderr) = (stdout.finish(), stderr.finish());
    if status.success() {
        return Ok(());
    }
    Err(Error::Build {
        server: server.name.clone(),
        command: build.join(" "),
        status,
        tail: if stderr.trim().is_empty() {
            stdout
        } else {
            stderr
        },
    })
}

/// The first line of what the version command of `server` prints, on stdout or else on stderr; `None`
/// when it has none or does not succeed.
pub fn version(server: &Server, root: &Path) -> Option<String> {
    let output = command(server.version.as_ref()?, root).output().ok()?;
    let text = [output.stdout, output.stderr]
        .into_iter()
        .find(|text| !text.trim_ascii().is_empty())?;
    let text = String::from_utf8_lossy(&text);
    output
        .status
        .success()
        .then(|| text.trim().lines().next().unwrap_or_default().to_owned())
}

fn command(line: &[String], root: &Path) -> Command {
    let mut command = program(&line[0], root);
    command.args(&line[1..]).stdin(Stdio::null());
    command
}
