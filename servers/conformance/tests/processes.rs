//! What a server is as a process: its ready line, its command line, its signals, and what it does when
//! connections, files or threads run out.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::client::Expected::{Hello, Refusal};
use crate::client::{Client, GET};
use crate::subject::{Running, SOON, Subject};
use crate::{Possible, trial, trial_if_possible};

pub(crate) fn trials(subject: &Subject) -> impl Iterator<Item = Trial> {
    type Body = fn(&Subject) -> Result<()>;
    let trials: &[(&str, Body)] = &[
        ("SIGTERM with nobody there", stop_alone),
        ("SIGINT is SIGTERM", stop_by_interrupt),
        ("SIGTERM closes idle connections", stop_while_idle),
        ("SIGTERM lets a request be completed", stop_within_a_request),
        (
            "SIGTERM does not wait long for the rest of a request",
            stop_within_a_request_for_ever,
        ),
        (
            "SIGTERM answers what waits in the accept queue",
            stop_with_a_queue,
        ),
        ("SIGTERM refuses others", stop_refuses),
        (
            "SIGTERM ends within --grace whatever a client does",
            stop_within_grace,
        ),
        ("a second SIGTERM ends at once", stop_twice),
        ("port in use", port_in_use),
        ("bad command lines", bad_command_lines),
        ("--threads", threads),
        ("--version and --help", version_and_help),
        ("--max-connections makes others wait", connections_max),
        ("out of files, then not", out_of_files),
    ];
    let trials = trials.iter().map(|&(name, body)| {
        let subject = subject.clone();
        trial(format!("{}::{name}", subject.name()), move || {
            body(&subject)
        })
    });
    let mine = subject.clone();
    let refused_threads = trial_if_possible(
        format!("{}::refused threads, then not", subject.name()),
        move || out_of_threads(&mine),
    );
    // Of the others, none makes a thread for a connection.
    let makes_threads = subject.name() == "thread-per-connection";
    trials.chain(makes_threads.then_some(refused_threads))
}

fn stop_alone(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let address = server.address();
    ensure!(address.port() != 0, "the ready line names {address}");
    server.greet()?;
    let counters = server.stop()?;
    ensure!(
        (counters.accepted, counters.closed, counters.requests) == (1, 1, 1),
        "{counters:?}"
    );
    ensure!(
        TcpStream::connect(address).is_err(),
        "somebody still listens"
    );
    Ok(())
}

fn stop_by_interrupt(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    server.signal(Signal::SIGINT)?;
    server.wait(SOON / 2)?;
    server.stop()?;
    Ok(())
}

fn stop_while_idle(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut client = server.connect()?;
    client.send(GET)?;
    client.expect(Hello, None)?;
    let counters = server.stop()?;
    client.expect_end()?;
    ensure!(counters.requests == 1, "{counters:?}");
    Ok(())
}

fn stop_within_a_request(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let mut client = server.connect()?;
    client.send(&GET[..10])?;
    thread::sleep(Duration::from_millis(20));
    server.signal(Signal::SIGTERM)?;
    thread::sleep(Duration::from_millis(200));
    client.send(&GET[10..])?;
    client.expect(Hello, Some("close"))?;
    client.expect_end()?;
    drop(client);
    let counters = server.stop()?;
    ensure!(counters.requests == 1, "{counters:?}");
    Ok(())
}

fn stop_within_a_request_for_ever(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--grace", "1s"])?;
    let mut client = server.connect()?;
    client.send(&GET[..10])?;
    thread::sleep(Duration::from_millis(20));
    server.signal(Signal::SIGTERM)?;
    client.expect(Refusal(408), Some("close"))?;
    client.expect_end()?;
    drop(client);
    server.wait(SOON / 2)?;
    server.stop()?;
    Ok(())
}

/// One connection is open, as many as there may be, and others wait with their requests sent.
fn stop_with_a_queue(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--max-connections", "1"])?;
    let mut first = server.connect()?;
    first.send(&GET[..10])?;
    thread::sleep(Duration::from_millis(20));
    let mut waiting = [server.connect()?, server.connect()?];
    for client in &mut waiting {
        client.send(GET)?;
    }
    server.signal(Signal::SIGTERM)?;
    thread::sleep(Duration::from_millis(200));
    first.send(&GET[10..])?;
    first.expect(Hello, Some("close"))?;
    drop(first);
    for mut client in waiting {
        client
            .expect(Hello, Some("close"))
            .context("a client in the accept queue")?;
        client.expect_end()?;
    }
    server.wait(SOON / 2)?;
    let counters = server.stop()?;
    ensure!(counters.requests == 3, "{counters:?}");
    Ok(())
}

/// Others are refused while a client is still waited for.
fn stop_refuses(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--grace", "10s", "--linger-timeout", "9s"])?;
    // Refused itself, and not closing: the server lingers for it.
    let mut client = server.connect()?;
    client.send(b"\n\n \n")?;
    client.expect(Refusal(400), Some("close"))?;
    let since = Instant::now();
    server.signal(Signal::SIGTERM)?;
    thread::sleep(Duration::from_millis(50));
    is_refused(server.address())?;
    if since.elapsed() < Duration::from_millis(500) {
        ensure!(server.wait(Duration::ZERO).is_err(), "ended at once");
    }
    drop(client);
    server.wait(SOON / 2)?;
    server.stop()?;
    Ok(())
}

/// Nobody listens there any more, or soon will not.
fn is_refused(address: SocketAddr) -> Result<()> {
    let since = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, SOON) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(()),
            _ if since.elapsed() < SOON => {}
            outcome => bail!("{outcome:?} instead of a refusal"),
        }
    }
}

fn stop_within_grace(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--grace", "300ms"])?;
    let _client = server.stall()?;
    let since = Instant::now();
    server.stop()?;
    ensure!(
        since.elapsed() < Duration::from_secs(2),
        "after {:?}",
        since.elapsed()
    );
    Ok(())
}

fn stop_twice(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--grace", "1m"])?;
    let _client = server.stall()?;
    server.signal(Signal::SIGTERM)?;
    thread::sleep(Duration::from_millis(100));
    let (status, stderr) = server.terminate(SOON / 2)?;
    ensure!(
        status == 128 + Signal::SIGTERM as i32,
        "exit status {status}: {stderr}"
    );
    Ok(())
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

/// Means something, or is an error: never a silence.
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
        "--max-connections",
        "--grace",
    ] {
        ensure!(help.contains(option), "no {option} in {help}");
    }
    Ok(())
}

fn connections_max(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--max-connections", "1"])?;
    let mut first = server.connect()?;
    first.send(GET)?;
    first.expect(Hello, None)?;
    let mut second = server.connect()?;
    second.send(GET)?;
    second
        .expect_silence(Duration::from_millis(100))
        .context("it is not its turn")?;
    first.send(GET)?;
    first.expect(Hello, None)?;
    drop(first);
    second.expect(Hello, None).context("its turn has come")?;
    server.stop()?;
    Ok(())
}

/// `accept` fails for want of files: the server waits without spinning, and goes on when it can.
fn out_of_files(subject: &Subject) -> Result<()> {
    let prefix = ["sh", "-c", "ulimit -n 24 && exec \"$0\" \"$@\""];
    let server = subject.start_under(&prefix, &["--max-connections", "1000"])?;
    let clients: Vec<Client> = (0..30).map(|_| server.connect()).collect::<Result<_>>()?;
    thread::sleep(Duration::from_millis(100));
    let before = server.cpu_ticks()?;
    thread::sleep(Duration::from_millis(500));
    let ticks = server.cpu_ticks()? - before;
    ensure!(
        ticks <= 15,
        "{ticks} of 50 clock ticks spent on waiting for a file"
    );
    drop(clients);
    server.greet()?;
    server.stop()?;
    Ok(())
}

/// Threads are refused: clients are shed, the server goes on, and serves again when it can.
fn out_of_threads(subject: &Subject) -> Result<Possible> {
    const CLIENTS: usize = 60;
    // The limit is on all tasks of a user, and not heard by root.
    let Ok(tasks) = tasks_of_user() else {
        return Ok(Possible::Not("ps is not installed".to_owned()));
    };
    let limit = format!("--nproc={}", tasks + CLIENTS / 3);
    let mut prefix = vec!["prlimit", &limit, "--"];
    if Uid::effective().is_root() {
        prefix.splice(
            0..0,
            [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ],
        );
    }
    let server = match subject.start_under(&prefix, &[]) {
        Ok(server) => server,
        Err(error) => return Ok(Possible::Not(format!("no server under {limit}: {error:#}"))),
    };
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| server.connect())
        .collect::<Result<_>>()?;
    let mut served = 0;
    for client in &mut clients {
        served += usize::from(client.send(GET).is_ok() && client.expect(Hello, None).is_ok());
    }
    drop(clients);
    greet_in_time(&server).context("when threads are to be had again")?;
    // Stopped while none is to be had: that must not need one.
    let _clients: Vec<Client> = (0..CLIENTS)
        .map(|_| server.connect())
        .collect::<Result<_>>()?;
    thread::sleep(Duration::from_millis(100));
    let counters = server.stop().context("stopping without threads")?;
    if counters.limits.threads == 0 {
        return Ok(Possible::Not(format!(
            "{limit} was not enforced: {counters:?}"
        )));
    }
    ensure!(served > 0, "nobody was served: {counters:?}");
    ensure!(counters.open == 0, "{counters:?}");
    Ok(Possible::Held)
}

/// The threads of former clients may take a moment to end.
fn greet_in_time(server: &Running) -> Result<()> {
    let since = Instant::now();
    while let Err(error) = server.greet() {
        if since.elapsed() > SOON {
            bail!(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Threads that the user under whom a server is tested has already.
fn tasks_of_user() -> Result<usize> {
    let user = match Uid::effective() {
        root if root.is_root() => "65534".to_owned(),
        user => user.to_string(),
    };
    let output = Command::new("ps")
        .args(["-L", "-o", "lwp=", "-u", &user])
        .output();
    let output = output.context("ps")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().count())
}
