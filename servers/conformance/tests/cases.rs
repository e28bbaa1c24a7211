//! The table of cases against one server: each case over real sockets, in every way to send it.

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

/// A closing server waits for its peer longer than any case takes, so that none depends on the time.
const ARGUMENTS: &[&str] = &[];

fn holds(subject: &Subject, case: &Case) -> Result<()> {
    let server = subject.start(ARGUMENTS)?;
    let mut answers = 0;
    for &way in case.ways {
        answers += converse(server.address(), case, way)
            .with_context(|| format!("{}, {way}", abridged(&case.sent)))?;
    }
    let counters = server.stop()?;
    ensure!(
        counters.requests == answers,
        "{answers} answers, {counters:?}"
    );
    let connections = case.ways.len() as u64;
    ensure!(
        (counters.accepted, counters.closed) == (connections, connections),
        "{counters:?}"
    );
    Ok(())
}

/// The number of answers.
fn converse(address: SocketAddr, case: &Case, way: Way) -> Result<u64> {
    let mut client = Client::connect(address)?;
    match way {
        Way::Whole => client.send(&case.sent)?,
        Way::ByteByByte => client.send_bytewise(&case.sent)?,
        Way::AfterAnother => {
            client.send(&[GET, &case.sent].concat())?;
            client.expect(Expected::Hello, None)?;
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
        }
    }
    Ok(client.answers)
}

/// An interim answer depends on whether the body was there already; HTTP/1.0 has none (9110 §10.1.1).
fn may_be_continued(sent: &[u8]) -> bool {
    let sent = sent.to_ascii_lowercase();
    let has = |part: &[u8]| sent.windows(part.len()).any(|window| window == part);
    has(b"100-continue") && !has(b"http/1.0")
}
