//! What servers do when connections, files or threads run out.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::unistd::Uid;

use crate::client::Expected::Hello;
use crate::client::{Client, GET};
use crate::subject::{Running, Subject, eventually};
use crate::{Possible, each, trial_if_possible};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    let mut trials = each(
        subject,
        &[
            ("--max-connections makes others wait", one_at_a_time),
            ("more clients than --max-connections", connections_max),
            ("more clients than files", out_of_files),
        ],
    );
    if subject.makes_threads() {
        let name = format!("{}::refused threads, then not", subject.name());
        let subject = subject.clone();
        trials.push(trial_if_possible(name, move || out_of_threads(&subject)));
    }
    trials
}

fn one_at_a_time(subject: &Subject) -> Result<()> {
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
    drop(second);
    server.stop()?;
    Ok(())
}

/// `--max-connections`, and how many clients connect.
const ROOM: usize = 20;
const CLIENTS: usize = 100;

fn connections_max(subject: &Subject) -> Result<()> {
    let server = subject.start(&["--max-connections", &ROOM.to_string()])?;
    let clients = clients_with_requests(&server)?;
    let most = if subject.converses_in_turn() { 1 } else { ROOM };
    server.counters_become(|counters| counters.open == most as u64)?;
    does_not_spin(&server)?;
    let full = server.counters()?.limits.connections;
    all_are_answered(clients)?;
    let counters = server.stop()?;
    ensure!((full > 0) == (most == ROOM), "{counters:?}");
    ensure!(counters.accepted == CLIENTS as u64, "{counters:?}");
    ensure!(counters.requests == CLIENTS as u64, "{counters:?}");
    Ok(())
}

/// `accept` fails because files have run out: the server waits without spinning, and goes on when it can.
fn out_of_files(subject: &Subject) -> Result<()> {
    let prefix = ["sh", "-c", "ulimit -n 64 && exec \"$0\" \"$@\""];
    let server = subject.start_under(&prefix, &["--max-connections", "1000"])?;
    let clients = clients_with_requests(&server)?;
    let runs_out = !subject.converses_in_turn();
    if runs_out {
        server.counters_become(|counters| counters.limits.files > 0)?;
    }
    does_not_spin(&server)?;
    let open = server.counters()?.open;
    ensure!((1..64).contains(&open), "{open} open");
    all_are_answered(clients)?;
    let counters = server.stop()?;
    ensure!((counters.limits.files > 0) == runs_out, "{counters:?}");
    ensure!(counters.accepted == CLIENTS as u64, "{counters:?}");
    ensure!(counters.requests == CLIENTS as u64, "{counters:?}");
    Ok(())
}

fn clients_with_requests(server: &Running) -> Result<Vec<Client>> {
    let client = || {
        let mut client = server.connect()?;
        client.send(GET)?;
        Ok(client)
    };
    (0..CLIENTS).map(|_| client()).collect()
}

/// Each client that leaves makes room for another, which must be served.
fn all_are_answered(clients: Vec<Client>) -> Result<()> {
    for (at, mut client) in clients.into_iter().enumerate() {
        client
            .expect(Hello, None)
            .with_context(|| format!("client {at} of {CLIENTS}"))?;
    }
    Ok(())
}

/// Checks that the server uses little CPU: it only waits for clients to leave, and tries again now and then.
fn does_not_spin(server: &Running) -> Result<()> {
    let (before, tries_before) = (server.cpu_ticks()?, server.counters()?.limits.files);
    thread::sleep(Duration::from_millis(500));
    let ticks = server.cpu_ticks()? - before;
    let tries = server.counters()?.limits.files - tries_before;
    ensure!(ticks <= 15, "{ticks} of 50 clock ticks spent on waiting");
    ensure!(tries <= 100, "{tries} tries to accept");
    Ok(())
}

/// Threads are refused: the server sheds clients, goes on, and serves again when it can.
fn out_of_threads(subject: &Subject) -> Result<Possible> {
    const CLIENTS: usize = 60;
    // The limit counts all tasks of a user, and root ignores it.
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
    // The threads of former clients may need a moment to end.
    eventually(|| server.greet()).context("when threads are to be had again")?;
    // The server stops while no thread can be created: a stop must not need one.
    let shed = server.counters()?.limits.threads;
    let _clients: Vec<Client> = (0..CLIENTS)
        .map(|_| server.connect())
        .collect::<Result<_>>()?;
    let enforced = server.counters_become(|counters| counters.limits.threads > shed);
    let counters = server.stop().context("stopping without threads")?;
    if enforced.is_err() {
        return Ok(Possible::Not(format!(
            "{limit} was not enforced: {counters:?}"
        )));
    }
    ensure!(served > 0, "nobody was served: {counters:?}");
    ensure!(counters.open == 0, "{counters:?}");
    Ok(Possible::Held)
}

/// The number of threads that the tested server's user has already.
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
