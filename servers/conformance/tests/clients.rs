//! Clients written by others, and the laboratory's own.

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Result, ensure};
use engine::plan::{ConnectionLife, Limit, Plan};
use libtest_mimic::Trial;

use crate::client::GET;
use crate::subject::{Subject, output};
use crate::{Possible, trial, trial_if_possible};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    let name = |what: &str| format!("{}::{what}", subject.name());
    let foreign = |program: &'static str, body: fn(&Subject) -> Result<()>| {
        let subject = subject.clone();
        trial_if_possible(name(program), move || {
            if Command::new(program).arg("--version").output().is_err() {
                return Ok(Possible::Not(format!("{program} is not installed")));
            }
            body(&subject).map(|()| Possible::Held)
        })
    };
    let counted = |what: &str, plan: Plan| {
        let subject = subject.clone();
        trial(name(what), move || counts(&subject, plan))
    };
    let requests = Limit::Requests(2000);
    let time = Limit::For(Duration::from_millis(300));
    vec![
        foreign("curl", curl),
        foreign("python3", python),
        counted(
            "counts as loadgen does, keep-alive",
            plan(1, ConnectionLife::KeepAlive, 1, requests),
        ),
        counted(
            "counts as loadgen does, pipelined",
            plan(1, ConnectionLife::KeepAlive, 16, requests),
        ),
        counted(
            "counts as loadgen does, new connections",
            plan(4, ConnectionLife::Requests(1), 1, requests),
        ),
        counted(
            "counts as loadgen does, stopped by the clock",
            plan(4, ConnectionLife::Requests(10), 4, time),
        ),
    ]
}

/// Sends two requests on one connection.
fn curl(subject: &Subject) -> Result<()> {
    let server = subject.start(&[])?;
    let url = format!("http://{}/", server.address());
    let format = "|%{http_code} %{num_connects}\n";
    let output = output(
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--max-time",
                "5",
            ])
            .args(["--write-out", format, &url, &url]),
    )?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(
        output.stdout == b"hello world|200 1\nhello world|200 0\n",
        "{output:?}"
    );
    let counters = server.stop()?;
    ensure!(
        (counters.accepted, counters.requests) == (1, 2),
        "{counters:?}"
    );
    Ok(())
}

/// Sends two requests on one connection, with a chunked POST between them.
fn python(subject: &Subject) -> Result<()> {
    const SCRIPT: &str = "
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
def ask(method, **more):
    connection.request(method, '/', **more)
    response = connection.getresponse()
    print(response.status, response.read().decode().strip())
    return connection.sock
first = ask('GET')
ask('POST', body=iter([b'abc', b'de']), encode_chunked=True, headers={'Transfer-Encoding': 'chunked'})
assert ask('GET') is first, 'another connection'
";
    let server = subject.start(&[])?;
    let address = server.address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let output = output(Command::new("python3").args(["-c", SCRIPT, &host, &port]))?;
    ensure!(output.status.success(), "{output:?}");
    let expected = b"200 hello world\n405 405 Method Not Allowed\n200 hello world\n";
    ensure!(output.stdout == expected, "{output:?}");
    let counters = server.stop()?;
    ensure!(
        (counters.accepted, counters.requests) == (1, 3),
        "{counters:?}"
    );
    Ok(())
}

fn plan(connections: usize, life: ConnectionLife, pipeline: usize, limit: Limit) -> Plan {
    Plan {
        connections,
        life,
        pipeline,
        limit,
        warmup: Duration::ZERO,
        ..Plan::new(([127, 0, 0, 1], 0).into(), GET.to_vec())
    }
}

/// The generator's counts match the server's, except for requests in flight at the end.
fn counts(subject: &Subject, plan: Plan) -> Result<()> {
    let server = subject.start(&[])?;
    let plan = Plan {
        target: server.address(),
        ..plan
    };
    let seen = engine::drive::run(&plan, &AtomicBool::new(false))?.record;
    let counters = server.stop()?;
    ensure!(seen.errors.is_empty(), "{:?}", seen.errors);
    ensure!(
        seen.counts.responses > 0 && seen.counts.good == seen.counts.responses,
        "{seen:?}"
    );
    ensure!(
        seen.counts.requests == seen.counts.responses + seen.counts.in_flight_at_end,
        "{seen:?}"
    );
    ensure!(
        (seen.counts.responses..=seen.counts.requests).contains(&counters.requests),
        "{} requests sent, {} answered, and {counters:?}",
        seen.counts.requests,
        seen.counts.responses,
    );
    if let Limit::Requests(requests) = plan.limit {
        ensure!(
            counters.requests == requests,
            "{requests} sent, and {counters:?}"
        );
    }
    Ok(())
}
