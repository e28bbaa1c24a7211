//! The table of cases against one server: each case over real sockets, sent in each of its ways.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use conformance::{Case, Expected, GET, Then, Way};
use libtest_mimic::Trial;

use crate::client::{Client, abridged};
use crate::subject::Subject;
use crate::trial;

pub(crate) fn trials(subject: &Subject) -> impl Iterator<Item = Trial> {
    conformance::cases().into_iter().map(|case| {
        let name = format!("{}::{case}", subject.name());
        let subject = subject.clone();
        trial(name, move || holds(&subject, &case))
    })
}

/// Checks what the client sees, then what the server counted.
fn holds(subject: &Subject, case: &Case) -> Result<()> {
    // The server lingers longer than any case takes, so that no case depends on time.
    let server = subject.start(&["--linger-timeout", "10s"])?;
    let mut responses = BTreeMap::new();
    for &way in case.ways {
        for expected in converse(server.address(), case, way)
            .with_context(|| format!("{}, {way}", abridged(&case.sent)))?
        {
            *responses.entry(expected.status()).or_default() += 1;
        }
    }
    let counters = server.stop()?;
    ensure!(
        counters.responses == responses,
        "{responses:?} received, {counters:?}"
    );
    let with_status = |status| responses.get(&status).copied().unwrap_or_default();
    let limits = &counters.limits;
    ensure!(
        [limits.request_line, limits.head, limits.body] == [414, 431, 413].map(with_status),
        "{counters:?}"
    );
    ensure!(counters.panics == 0, "{counters:?}");
    let connections = case.ways.len() as u64;
    ensure!(
        (counters.accepted, counters.closed) == (connections, connections),
        "{counters:?}"
    );
    Ok(())
}

/// Sends a case in one way, checks its answers, and returns the final ones.
fn converse(address: SocketAddr, case: &Case, way: Way) -> Result<Vec<Expected>> {
    let mut client = Client::connect(address)?;
    let mut answers = case.answers.clone();
    match way {
        Way::Whole => client.send(&case.sent)?,
        Way::ByteByByte => client.send_bytewise(&case.sent)?,
        Way::AfterAnother => {
            client.send(&[GET, &case.sent].concat())?;
            client.expect(Expected::Hello, None)?;
            answers.push(Expected::Hello);
        }
    }
    let last = case.answers.len() - 1;
    for (at, &expected) in case.answers.iter().enumerate() {
        let connection = match case.then {
            _ if at < last => None,
            Then::Persists => None,
            Then::KeepAlive => Some("keep-alive"),
            Then::Closes => Some("close"),
        };
        match may_be_continued(&case.sent) {
            true => client.expect_after_continue(expected, connection)?,
            false => client.expect(expected, connection)?,
        }
    }
    match case.then {
        Then::Closes => client.expect_end()?,
        Then::Persists | Then::KeepAlive => {
            client.send(GET)?;
            client
                .expect(Expected::Hello, None)
                .context("a further request")?;
            answers.push(Expected::Hello);
        }
    }
    Ok(answers)
}

/// Whether an interim answer may come: it depends on whether the body has arrived; HTTP/1.0 has none
/// (9110 §10.1.1).
fn may_be_continued(sent: &[u8]) -> bool {
    let sent = sent.to_ascii_lowercase();
    let has = |part: &[u8]| sent.windows(part.len()).any(|window| window == part);
    has(b"100-continue") && !has(b"http/1.0")
}
