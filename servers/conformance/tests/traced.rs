//! Traces of a server agree with what tcpdump shows of the same packets, and tshark can read them.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use trace::client::{Close, Plan};
use trace::live::{Job, Tracing};
use trace::model::{Side, Source, State, What};
use trace::output::tcpdump;
use trace::packets;
use trace::story::{EndingKind, StateChange, tell};

use crate::subject::{SOON, Subject, eventually};
use crate::{Possible, trial_if_possible};

/// Who closes, and the ending that the trace must report.
const CLOSES: [(&str, Close, EndingKind); 4] = [
    (
        "closed by the server",
        Close::Server,
        EndingKind::Closed(Side::Server),
    ),
    (
        "closed by the client",
        Close::Client,
        EndingKind::Closed(Side::Client),
    ),
    ("half-closed", Close::Half, EndingKind::Closed(Side::Client)),
    ("reset", Close::Reset, EndingKind::Reset(Side::Client)),
];

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    let trials = CLOSES.iter().map(|&(name, close, ending)| {
        let subject = subject.clone();
        let name = format!("{}::traced, {name}", subject.name());
        // A busy machine may not close within a second, and then the trace ends differently.
        trial_if_possible(name, move || {
            eventually(|| is_seen(&subject, close, ending))
        })
    });
    trials.collect()
}

fn is_seen(subject: &Subject, close: Close, expected: EndingKind) -> Result<Possible> {
    let server = subject.start(&[])?;
    let field = match close {
        Close::Server => "Connection: close\r\n",
        Close::Client | Close::Half | Close::Reset => "",
    };
    let plan = Plan {
        server: server.address(),
        requests: vec![format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n").into_bytes()],
        expect: None,
        close,
        timeout: SOON,
    };
    let job = Job {
        lanes: vec![vec![plan]],
        sockets: true,
        all_calls: false,
        wait: false,
    };
    // Without tracepoints, which would report the other trials too.
    let traced =
        Tracing::of_packets().follow(&job, None, &AtomicBool::new(false), |_: Duration| {});
    let record = &traced.record;
    if let Source::Missing(why) = &record.sources.packets {
        return Ok(Possible::Not(why.clone()));
    }
    ensure!(record.notes.is_empty(), "{:?}", record.notes);
    let answered = |what: &What| *what == What::Answered(200);
    ensure!(
        record.moments.iter().any(|moment| answered(&moment.what)),
        "{:?}",
        record.moments
    );

    let story = tell(record);
    let [connection] = &story.connections[..] else {
        bail!("{} connections", story.connections.len());
    };
    let ending = &connection.ending;
    ensure!(ending.kind == expected, "{ending:?}");
    for side in [Side::Client, Side::Server] {
        let found = states(&connection.states, side);
        let expected = path(side, expected);
        ensure!(
            found == expected,
            "{side:?}: {found:?}, expected {expected:?}"
        );
    }

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("trace.pcap");
    let capture = traced.capture.context("packets were seen")?;
    packets::write(&file, &capture)?;
    let Some(theirs) = tool("tcpdump", &["-n", "-t", "-r"], &file)? else {
        return Ok(Possible::Not("tcpdump is not installed".to_owned()));
    };
    let ours = tcpdump::lines(&record.packets);
    let theirs: Vec<&str> = theirs.lines().collect();
    ensure!(ours == theirs, "{ours:#?}\ntcpdump: {theirs:#?}");
    let Some(theirs) = tool("tshark", &["-n", "-r"], &file)? else {
        return Ok(Possible::Not("tshark is not installed".to_owned()));
    };
    ensure!(theirs.lines().count() == ours.len(), "tshark: {theirs}");
    server.stop()?;
    Ok(Possible::Held)
}

fn states(changes: &[StateChange], side: Side) -> Vec<State> {
    let changes = changes.iter().filter(|change| change.side == side);
    changes.map(|change| change.new).collect()
}

/// The states of one side (RFC 9293 §3.3.2, figure 5).
fn path(side: Side, ending: EndingKind) -> Vec<State> {
    use State::*;
    let mut states = match side {
        Side::Client => vec![SynSent, Established],
        Side::Server => vec![SynReceived, Established],
    };
    states.extend_from_slice(match ending {
        EndingKind::Closed(first) if first == side => &[FinWait1, FinWait2, TimeWait][..],
        EndingKind::Closed(_) => &[CloseWait, LastAck, Closed],
        _ => &[Closed],
    });
    states
}

/// What a program prints about a file; warnings are errors. `None` if the program is not installed.
fn tool(program: &str, arguments: &[&str], file: &Path) -> Result<Option<String>> {
    let Ok(output) = Command::new(program).args(arguments).arg(file).output() else {
        return Ok(None);
    };
    let stderr = String::from_utf8(output.stderr)?;
    let complaints = stderr.lines().filter(|line| {
        // Lines that these programs print for every file, and for root.
        !line.starts_with("reading from file") && !line.starts_with("Running as user \"root\"")
    });
    let complaints: Vec<&str> = complaints.collect();
    ensure!(
        output.status.success() && complaints.is_empty(),
        "{program}: {}, {complaints:?}",
        output.status
    );
    Ok(Some(String::from_utf8(output.stdout)?))
}
