//! System calls that fail in ways that the kernel allows: `accept` for many reasons, the calls that end a
//! connection for some, and waits that signals interrupt. strace injects the failures; one trial sends real signals
//! under load.

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

/// The system calls that fail in one run of a server.
struct Faults {
    name: &'static str,
    /// In strace's terms: the call, the error, and which calls of each thread fail.
    injected: &'static [(&'static str, &'static str, &'static str)],
    /// What the server's counters must show after these failures.
    counted: fn(&Counters) -> bool,
}

const FAULTS: &[Faults] = &[
    Faults {
        name: "every other system call interrupted",
        injected: &[
            ("accept4", "EINTR", "1+2"),
            ("recvfrom", "EINTR", "1+2"),
            // The second and the fourth of each thread, which send answers. Another one wakes the thread that
            // waits for signals; it does not block, so the kernel never interrupts it.
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
        // In the signal thread the shutdown of the listener fails. A thread that blocks in accept is then not
        // woken, and the server ends with the grace period.
        injected: &[("shutdown", "ENOTCONN", "1+2")],
        counted: |_| true,
    },
];

/// All clients are served in spite of the failures, and the server stops in good order.
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
    let counters = trace.stop(server)?;
    let counted = counters.accepted == CLIENTS
        && counters.requests == 3 * CLIENTS
        && (faults.counted)(&counters);
    ensure!(counted, "{counters:?}");
    trace.has_injected(faults.injected)
}

/// Sends two requests, and a last one.
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

/// Every second thread is refused. Its client is shed, and the others are served.
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
    let counters = trace.stop(server)?;
    ensure!(counters.accepted == CLIENTS, "{counters:?}");
    ensure!(counters.limits.threads == CLIENTS - served, "{counters:?}");
    let possible = trace.has_injected(&injected)?;
    ensure!(served == CLIENTS / 2, "{served} served: {counters:?}");
    Ok(possible)
}

/// Every second `close` fails. This is worse than what a kernel does: strace skips the call, so the file stays
/// open, and the peer sees the end of its connection only because it was shut down before.
fn failing_close(subject: &Subject) -> Result<Possible> {
    const CLIENTS: u64 = 12;
    if let Err(reason) = strace_works() {
        return Ok(Possible::Not(reason));
    }
    // The loader closes files too and fails on an error, so strace attaches after it.
    let injected = [("close", "EIO", "1+2")];
    let server = subject.start(&[])?;
    let trace = Trace::new()?;
    if let Err(reason) = trace.attach(&server, &injected)? {
        return Ok(Possible::Not(reason));
    }
    for at in 0..CLIENTS {
        converse(&server).with_context(|| format!("client {at} of {CLIENTS}"))?;
    }
    let counters = trace.stop(server)?;
    ensure!(
        counters.accepted == CLIENTS && counters.requests == 3 * CLIENTS,
        "{counters:?}"
    );
    trace.has_injected(&injected)
}

/// Whether strace is installed and may trace. This is checked first, because in the background strace would run
/// the server untraced.
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

    /// Starts a server whose calls fail. strace goes into the background, not the server.
    fn start(
        &self,
        subject: &Subject,
        injected: &[(&str, &str, &str)],
        arguments: &[&str],
    ) -> Result<Running> {
        let strace = self.command(injected)?;
        // strace gets a process group of its own. The server's group is killed when its leader has ended, and
        // strace may need longer to write what it saw.
        let mut prefix = vec!["strace", "-DD"];
        prefix.extend(strace.iter().map(String::as_str));
        subject.start_under(&prefix, arguments)
    }

    /// Makes the calls of a running server fail from now on, or returns why strace may not attach to it.
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
        // strace prints "strace: Process 123 attached with 3 threads", and ends when the server does.
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

    /// The arguments that make strace inject these faults.
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

    /// Stops the server. strace learns of its end before anybody else does, and writes that into the trace; only
    /// then is the server taken down, because whatever was started with it, such as strace, is killed at that moment.
    fn stop(&self, server: Running) -> Result<Counters> {
        server.signal(Signal::SIGTERM)?;
        eventually(|| {
            let ended = has_end(&self.read()?, server.pid());
            ensure!(ended, "the trace does not end with the end of the server");
            Ok(())
        })?;
        server.stop()
    }

    fn read(&self) -> Result<String> {
        Ok(fs::read_to_string(self.file.path())?)
    }

    /// Checks that each of these calls has failed, if the server made it.
    fn has_injected(&self, injected: &[(&str, &str, &str)]) -> Result<Possible> {
        let trace = self.read()?;
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

/// Whether a trace has the line about the end of this process, `123 +++ exited with 0 +++`: its last line, while those
/// of other threads may come earlier.
fn has_end(trace: &str, pid: u32) -> bool {
    let pid = pid.to_string();
    (trace.lines()).any(|line| {
        (line.split_once(' ')).is_some_and(|(of, what)| of == pid && what.trim().starts_with("+++"))
    })
}

/// Sends signals that the server handles, and signals that stop and continue the process. Both kinds interrupt
/// system calls.
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
        seen.errors.is_empty() && seen.counts.responses > 0,
        "{:?}",
        seen.errors
    );
    ensure!(
        counters.requests == seen.counts.requests,
        "{} requests, {counters:?}",
        seen.counts.requests
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
