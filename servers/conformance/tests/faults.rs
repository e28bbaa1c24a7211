//! System calls that fail as they may: accept for many reasons, the end of a connection for some, those that
//! wait for signals. Injected by strace, and done for real by signals under load.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use engine::plan::{Limit, Plan};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::client::Expected::Hello;
use crate::client::{Client, GET};
use crate::subject::{Counters, Running, SOON, Subject, eventually, output};
use crate::{Possible, each, trial_if_possible};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    let mut trials = each(
        subject,
        &[("signals under load harm nobody", signals_under_load)],
    );
    for faults in FAULTS {
        let subject = subject.clone();
        let name = format!("{}::{}", subject.name(), faults.name);
        trials.push(trial_if_possible(name, move || injected(&subject, faults)));
    }
    let name = format!("{}::errors of closing a connection", subject.name());
    let closing = subject.clone();
    trials.push(trial_if_possible(name, move || failing_close(&closing)));
    if subject.makes_threads() {
        let name = format!("{}::threads that cannot be made", subject.name());
        let subject = subject.clone();
        trials.push(trial_if_possible(name, move || no_thread(&subject)));
    }
    trials
}

/// What fails in one run of a server.
struct Faults {
    name: &'static str,
    /// As strace takes them: call, error, and which calls of a thread fail.
    injected: &'static [(&'static str, &'static str, &'static str)],
    /// What else must be so of a server that was served these.
    counted: fn(&Counters) -> bool,
}

const FAULTS: &[Faults] = &[
    Faults {
        name: "every other system call interrupted",
        injected: &[
            ("accept4", "EINTR", "1+2"),
            ("recvfrom", "EINTR", "1+2"),
            // Of each thread the second and the fourth, which are answers. One of the others wakes whoever
            // waits for signals; it does not block, so that it is never interrupted.
            ("sendto", "EINTR", "2..4+2"),
            ("epoll_wait", "EINTR", "1+2"),
        ],
        counted: |_| true,
    },
    Faults {
        name: "connections gone before they are accepted",
        injected: &[("accept4", "ECONNABORTED", "1+2")],
        counted: |counters| counters.limits.files == 0,
    },
    Faults {
        name: "network errors of those who connect",
        injected: &[("accept4", "EPROTO", "1+3")],
        counted: |counters| counters.limits.files == 0,
    },
    Faults {
        name: "connections that a firewall forbids",
        injected: &[("accept4", "EPERM", "2+3")],
        counted: |counters| counters.limits.files == 0,
    },
    Faults {
        name: "no file for a connection",
        injected: &[("accept4", "EMFILE", "2..7")],
        counted: |counters| counters.limits.files > 0,
    },
    Faults {
        name: "no file in the whole system",
        injected: &[("accept4", "ENFILE", "2+3")],
        counted: |counters| counters.limits.files > 0,
    },
    Faults {
        name: "no memory for a connection",
        injected: &[("accept4", "ENOBUFS", "2+3")],
        counted: |counters| counters.limits.files > 0,
    },
    Faults {
        name: "peers gone before their connection is shut",
        // Of the signal thread it is the listener that is not shut: whoever blocks in accept is not woken
        // then, and the end of the grace period has to do.
        injected: &[("shutdown", "ENOTCONN", "1+2")],
        counted: |_| true,
    },
];

/// All clients are served, whatever fails, and the server stops in good order.
fn injected(subject: &Subject, faults: &Faults) -> Result<Possible> {
    const CLIENTS: u64 = 12;
    if let Err(reason) = strace_works() {
        return Ok(Possible::Not(reason));
    }
    let trace = Trace::new()?;
    let server = trace.start(subject, faults.injected, &["--grace", "1s"])?;
    for at in 0..CLIENTS {
        converse(&server).with_context(|| format!("client {at} of {CLIENTS}"))?;
    }
    let counters = server.stop()?;
    let counted = counters.accepted == CLIENTS
        && counters.requests == 3 * CLIENTS
        && (faults.counted)(&counters);
    ensure!(counted, "{counters:?}");
    trace.has_injected(faults.injected)
}

/// Two requests, and a last one.
fn converse(server: &Running) -> Result<()> {
    let mut client = server.connect()?;
    for _ in 0..2 {
        client.send(GET)?;
        client.expect(Hello, None)?;
    }
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    client.expect(Hello, Some("close"))?;
    client.expect_end()
}

/// Every second thread is refused: its client is shed, the others are served.
fn no_thread(subject: &Subject) -> Result<Possible> {
    const CLIENTS: u64 = 12;
    if let Err(reason) = strace_works() {
        return Ok(Possible::Not(reason));
    }
    let injected = [("clone3", "EAGAIN", "3+2")];
    let trace = Trace::new()?;
    let server = trace.start(subject, &injected, &[])?;
    let mut clients = (0..CLIENTS)
        .map(|_| server.connect())
        .collect::<Result<Vec<Client>>>()?;
    let mut served = 0;
    for client in &mut clients {
        served += u64::from(client.send(GET).is_ok() && client.expect(Hello, None).is_ok());
    }
    drop(clients);
    let counters = server.stop()?;
    ensure!(counters.accepted == CLIENTS, "{counters:?}");
    ensure!(counters.limits.threads == CLIENTS - served, "{counters:?}");
    let possible = trace.has_injected(&injected)?;
    ensure!(served == CLIENTS / 2, "{served} served: {counters:?}");
    Ok(possible)
}

/// Every second file is closed with an error. This is worse than what a kernel does: a call that is not
/// run releases no file, and the peer sees the end of its connection only because it was shut before.
fn failing_close(subject: &Subject) -> Result<Possible> {
    const CLIENTS: u64 = 12;
    if let Err(reason) = strace_works() {
        return Ok(Possible::Not(reason));
    }
    // The loader closes files too, and does not take an error for an answer: strace comes later.
    let injected = [("close", "EIO", "1+2")];
    let server = subject.start(&[])?;
    let trace = Trace::new()?;
    if let Err(reason) = trace.attach(&server, &injected)? {
        return Ok(Possible::Not(reason));
    }
    for at in 0..CLIENTS {
        converse(&server).with_context(|| format!("client {at} of {CLIENTS}"))?;
    }
    let counters = server.stop()?;
    ensure!(
        counters.accepted == CLIENTS && counters.requests == 3 * CLIENTS,
        "{counters:?}"
    );
    trace.has_injected(&injected)
}

/// Whether strace is there, and may trace. In the background it would run what it may not trace.
fn strace_works() -> Result<(), String> {
    let mut strace = Command::new("strace");
    let Ok(output) = output(strace.args(["-f", "-o", "/dev/null", "true"])) else {
        return Err("strace is not installed".to_owned());
    };
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "strace may not trace: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// What strace saw of a server.
struct Trace {
    file: NamedTempFile,
}

impl Trace {
    fn new() -> Result<Self> {
        let file = NamedTempFile::new()?;
        Ok(Trace { file })
    }

    /// Starts a server whose calls fail. It is strace that goes into the background, not the server.
    fn start(
        &self,
        subject: &Subject,
        injected: &[(&str, &str, &str)],
        arguments: &[&str],
    ) -> Result<Running> {
        let strace = self.command(injected)?;
        // In a process group of its own: that of the server is killed when its leader has ended, which may be
        // before strace has written what it saw of that.
        let mut prefix = vec!["strace", "-DD"];
        prefix.extend(strace.iter().map(String::as_str));
        subject.start_under(&prefix, arguments)
    }

    /// From here on calls of a server fail; or why strace may not attach itself to one.
    fn attach(
        &self,
        server: &Running,
        injected: &[(&str, &str, &str)],
    ) -> Result<Result<(), String>> {
        let mut strace = Command::new("strace")
            .args(self.command(injected)?)
            .args(["-p", &server.pid().to_string()])
            .stderr(Stdio::piped())
            .spawn()?;
        // "strace: Process 123 attached with 3 threads"; it ends by itself when the server does.
        let stderr = strace.stderr.take().context("is piped")?;
        let mut said = BufReader::new(stderr);
        let mut line = String::new();
        said.read_line(&mut line)?;
        thread::spawn(move || {
            io::copy(&mut said, &mut io::sink()).ok();
            strace.wait().ok();
        });
        Ok(match line.contains(" attached") {
            true => Ok(()),
            false => Err(line.trim().to_owned()),
        })
    }

    /// The arguments by which strace injects these faults.
    fn command(&self, injected: &[(&str, &str, &str)]) -> Result<Vec<String>> {
        let calls: Vec<&str> = injected.iter().map(|(call, ..)| *call).collect();
        let path = self.file.path().to_str().context("a path in UTF-8")?;
        let trace = format!("trace={}", calls.join(","));
        let mut arguments = ["-f", "-o", path, "-e", &trace].map(str::to_owned).to_vec();
        for (call, error, when) in injected {
            arguments.push("-e".to_owned());
            arguments.push(format!("inject={call}:error={error}:when={when}"));
        }
        Ok(arguments)
    }

    /// Each call that the server makes at all has failed.
    fn has_injected(&self, injected: &[(&str, &str, &str)]) -> Result<Possible> {
        let trace = eventually(|| {
            let trace = fs::read_to_string(self.file.path())?;
            // The last that strace tells, which may be after the server has ended.
            ensure!(trace.contains("+++ exited with"), "strace has not ended");
            Ok(trace)
        })?;
        let mut made = 0;
        for (call, error, _) in injected {
            let mut calls = trace.lines().filter(|line| {
                line.contains(&format!("{call}(")) || line.contains(&format!("{call} resumed"))
            });
            let Some(first) = calls.next() else {
                continue;
            };
            made += 1;
            let failed = |line: &str| line.contains(error) && line.contains("INJECTED");
            ensure!(
                failed(first) || calls.any(failed),
                "no {error} injected into {call}:\n{trace}"
            );
        }
        Ok(match made {
            0 => Possible::Not(format!("it makes no such call: {injected:?}")),
            _ => Possible::Held,
        })
    }
}

/// Signals that are handled, and such that stop and continue the whole process: each interrupts system
/// calls, wherever they are.
fn signals_under_load(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let plan = Plan {
        connections: 8,
        limit: Limit::For(10 * SOON),
        warmup: Duration::ZERO,
        timeout: 2 * SOON,
        ..Plan::new(server.address(), GET.to_vec())
    };
    let over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let load = scope.spawn(|| engine::drive::run(&plan, &over));
        let outcome = interrupt(&server);
        over.store(true, SeqCst);
        let seen = load.join().expect("the generator does not panic")?.record;
        outcome.map(|()| seen)
    })?;
    let counters = server.stop_loudly()?;
    ensure!(
        seen.errors.is_empty() && seen.responses > 0,
        "{:?}",
        seen.errors
    );
    ensure!(
        counters.requests == seen.requests,
        "{} requests, {counters:?}",
        seen.requests
    );
    Ok(())
}

fn interrupt(server: &Running) -> Result<()> {
    let mut requests = 0;
    for _ in 0..20 {
        for _ in 0..10 {
            server.signal(Signal::SIGUSR1)?;
        }
        server.signal(Signal::SIGSTOP)?;
        server.signal(Signal::SIGCONT)?;
        let counters = server.counters()?;
        ensure!(
            counters.requests >= requests,
            "{requests} before, {counters:?}"
        );
        requests = counters.requests;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
