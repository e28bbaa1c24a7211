//! Servers as processes: port and command line.

use std::net::TcpListener;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::each;
use crate::subject::Subject;

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    each(
        subject,
        &[
            ("port in use", port_in_use),
            ("bad command lines", bad_command_lines),
            ("--threads", threads),
            ("--version and --help", version_and_help),
        ],
    )
}

fn port_in_use(subject: &Subject) -> Result<()> {
    let other = TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?.to_string();
    let output = subject.run(&["--listen", &address])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(
        stderr.lines().count() == 1 && stderr.contains(&address),
        "{output:?}"
    );
    ensure!(output.stdout.is_empty(), "{output:?}");
    Ok(())
}

fn bad_command_lines(subject: &Subject) -> Result<()> {
    for arguments in [
        &["--listen", "nowhere"][..],
        &["--listen", "127.0.0.1"],
        &["--listen", "127.0.0.1:65536"],
        &["--listen"],
        &["--backlog", "0"],
        &["--max-connections", "0"],
        &["--max-connections", "many"],
        &["--idle-timeout", "0s"],
        &["--idle-timeout", "10"],
        &["--header-timeout", "-1s"],
        &["--linger-timeout", "0s"],
        &["--grace", "long"],
        &["--threads", "0"],
        &["--unknown"],
        &["unknown"],
    ] {
        let output = subject.run(arguments)?;
        ensure!(output.status.code() == Some(2), "{arguments:?}: {output:?}");
        ensure!(!output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
    Ok(())
}

/// `--threads` either has an effect or is an error.
fn threads(subject: &Subject) -> Result<()> {
    if subject.has_threads()? {
        let server = subject.start(&["--threads", "3"])?;
        server.greet()?;
        server.stop()?;
    } else {
        let output = subject.run(&["--listen", "127.0.0.1:0", "--threads", "3"])?;
        ensure!(output.status.code() == Some(2), "{output:?}");
    }
    Ok(())
}

fn version_and_help(subject: &Subject) -> Result<()> {
    let output = subject.run(&["--version"])?;
    let expected = format!("{} {}\n", subject.name(), env!("CARGO_PKG_VERSION"));
    ensure!(output.status.success(), "{output:?}");
    ensure!(output.stdout == expected.as_bytes(), "{output:?}");
    let output = subject.run(&["--help"])?;
    let help = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    for option in [
        "--listen",
        "--backlog",
        "--idle-timeout",
        "--header-timeout",
        "--linger-timeout",
        "--max-connections",
        "--grace",
    ] {
        ensure!(help.contains(option), "no {option} in {help}");
    }
    Ok(())
}
