//! The table of cases against other people's servers.
//!
//! If a server disagrees with a case, `disagreements.toml` says what the server does, and which side is stricter by
//! which section. An unlisted disagreement fails, and so does a listed one that does not occur. The list is for
//! certain versions; with another version, differences from the list are printed and count as ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use conformance::{Case, Expected, GET, Then, Way};
use libtest_mimic::Trial;
use serde::Deserialize;
use subject::catalogue::{Catalogue, Ready, Server, Serves};
use subject::process;
use subject::process::{Options, Target};

use crate::client::{Client, Reply, abridged};
use crate::subject::{SOON, output};
use crate::{Possible, trial, trial_if_possible};

/// Other people's servers. Each is started once for all cases, and killed when dropped.
pub(crate) struct Peers {
    peers: Vec<(&'static str, Result<Peer, Absence>)>,
    list: Result<List>,
}

struct Peer {
    version: String,
    target: Target,
}

/// Why a peer is missing.
enum Absence {
    NotInstalled(String),
    Broken(String),
}

const LIST: &str = "disagreements.toml";

impl Peers {
    /// Starts the peers that are installed. It must run on the main thread, because that outlives them.
    pub(crate) fn start(catalogue: &Catalogue) -> Self {
        let start = |(name, server): (_, Result<Server>)| {
            let server = server.map_err(|reason| Absence::NotInstalled(reason.to_string()));
            let peer = server.and_then(|server| {
                Peer::start(&server, catalogue).map_err(|e| Absence::Broken(format!("{e:#}")))
            });
            (name, peer)
        };
        Peers {
            peers: [("nginx", nginx()), ("h11", h11())].map(start).into(),
            list: List::read(),
        }
    }

    pub(crate) fn trials(&self) -> Vec<Trial> {
        let list = match &self.list {
            Ok(list) => Arc::new(list.clone()),
            Err(error) => {
                let error = format!("{error:#}");
                return vec![trial(format!("peers::{LIST}"), move || bail!(error))];
            }
        };
        let mut trials = Vec::new();
        for (name, peer) in &self.peers {
            let all = format!("{name}::all cases");
            match peer {
                Ok(peer) => trials.extend(peer.trials(name, &list)),
                Err(Absence::NotInstalled(reason)) => {
                    let reason = reason.clone();
                    trials.push(trial_if_possible(all, || Ok(Possible::Not(reason))));
                }
                Err(Absence::Broken(error)) => {
                    let error = error.clone();
                    trials.push(trial(all, || bail!(error)));
                }
            }
        }
        trials.push(trial(format!("peers::{LIST}"), move || list.check()));
        trials
    }
}

impl Peer {
    fn start(server: &Server, catalogue: &Catalogue) -> Result<Self> {
        let version = process::version(server, &catalogue.root);
        Ok(Peer {
            version: version.context("it does not say its version")?,
            target: Target::start(server, &catalogue.root, &Options::default())?,
        })
    }

    fn trials(&self, name: &'static str, list: &Arc<List>) -> impl Iterator<Item = Trial> {
        conformance::cases().into_iter().map(move |case| {
            let (address, version) = (self.target.address(), self.version.clone());
            let list = Arc::clone(list);
            trial_if_possible(format!("{name}::{case}"), move || {
                compare(name, &version, address, &case, &list)
            })
        })
    }
}

fn nginx() -> Result<Server> {
    let version = ["nginx", "-v"];
    output(Command::new(version[0]).arg(version[1])).context("nginx is not installed")?;
    let run = "sed -e 's|@ADDR@|{addr}|g' -e 's|@DIR@|{empty_dir}|g' \
         servers/conformance/tests/nginx.conf > '{empty_dir}/nginx.conf' && \
         exec nginx -p '{empty_dir}' -c '{empty_dir}/nginx.conf' -e stderr";
    Ok(server(
        "nginx",
        &["sh", "-c", run],
        &version,
        Ready::Connect,
    ))
}

/// h11, with the first Python that has it.
fn h11() -> Result<Server> {
    const VERSION: &str = "import h11; print('h11', h11.__version__)";
    for python in ["python3", "/usr/bin/python3"] {
        let version = [python, "-c", VERSION];
        if output(Command::new(python).args(&version[1..])).is_ok_and(|out| out.status.success()) {
            let script = "servers/conformance/tests/h11_server.py";
            let run = [python, script, "--listen", "{addr}"];
            return Ok(server("h11", &run, &version, Ready::Line));
        }
    }
    bail!("no python3 here has h11")
}

fn server(name: &str, run: &[&str], version: &[&str], ready: Ready) -> Server {
    let owned = |words: &[&str]| words.iter().copied().map(String::from).collect();
    Server {
        name: name.to_owned(),
        about: String::new(),
        build: None,
        run: owned(run),
        version: Some(owned(version)),
        ready,
        reference: true,
        floor: false,
        groups: Vec::new(),
        serves: Serves::All,
        thread_per_connection: false,
    }
}

/// The contents of `disagreements.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// The version of each peer that the list is for.
    versions: BTreeMap<String, String>,
    disagreement: Vec<Disagreement>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disagreement {
    peer: String,
    /// What the peer does, in the form that [`Outcome`] is printed.
    outcome: String,
    reason: String,
    /// The titles of the cases.
    cases: Vec<String>,
}

impl List {
    fn read() -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIST);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        toml::from_str(&text).context(LIST)
    }

    fn outcome(&self, peer: &str, title: &str) -> Option<&str> {
        let mut listed = self.disagreement.iter().filter(|entry| entry.peer == peer);
        let entry = listed.find(|entry| entry.cases.iter().any(|case| case == title))?;
        Some(&entry.outcome)
    }

    /// Checks that every entry has a reason and lists existing cases, each once.
    fn check(&self) -> Result<()> {
        let titles: BTreeSet<String> = conformance::cases().iter().map(Case::to_string).collect();
        let mut named = BTreeSet::new();
        for entry in &self.disagreement {
            let peer = &entry.peer;
            ensure!(self.versions.contains_key(peer), "no version of {peer}");
            ensure!(
                !entry.reason.trim().is_empty(),
                "{entry:?} without a reason"
            );
            ensure!(!entry.cases.is_empty(), "{entry:?} without a case");
            for title in &entry.cases {
                ensure!(titles.contains(title), "{peer}: no case `{title}`");
                ensure!(named.insert((peer, title)), "{peer}: `{title}` twice");
            }
        }
        Ok(())
    }
}

fn compare(
    peer: &str,
    version: &str,
    address: SocketAddr,
    case: &Case,
    list: &List,
) -> Result<Possible> {
    let table = Outcome::expected(case);
    let mut outcomes = Vec::new();
    for way in [Way::Whole, Way::AfterAnother] {
        let outcome = Outcome::observe(address, case, way)
            .with_context(|| format!("{}, {way}", abridged(&case.sent)))?;
        outcomes.push(outcome.to_string());
    }
    let observed = match &outcomes[..] {
        [alone, behind] if alone == behind => alone.clone(),
        outcomes => outcomes.join("; behind another request: "),
    };
    let table = table.to_string();
    let agrees = observed == table;
    let new = match list.outcome(peer, &case.to_string()) {
        None if agrees => return Ok(Possible::Held),
        Some(listed) if listed == observed && !agrees => return Ok(Possible::Held),
        None => format!("`{observed}`, which is not listed"),
        Some(listed) => format!("`{observed}`, listed as `{listed}`"),
    };
    let sent = abridged(&case.sent);
    let new = format!("{version} does {new}; the table says `{table}`; to {sent}");
    match list.versions.get(peer) {
        Some(recorded) if recorded != version => {
            Ok(Possible::Not(format!("{new}; listed is {recorded}")))
        }
        _ => bail!(new),
    }
}

/// The visible behaviour of a server: its final answers, and whether it answers a further request.
#[derive(Debug)]
struct Outcome {
    statuses: Vec<u16>,
    /// The server sent bytes that are not an answer.
    stray: bool,
    persists: bool,
}

/// Prints, for example, `200 405, persists` or `nothing, closes`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self.statuses.iter().map(u16::to_string).collect();
        if self.stray {
            words.push("no head".to_owned());
        }
        if words.is_empty() {
            words.push("nothing".to_owned());
        }
        let then = if self.persists { "persists" } else { "closes" };
        write!(f, "{}, {then}", words.join(" "))
    }
}

impl Outcome {
    fn expected(case: &Case) -> Self {
        Outcome {
            statuses: case.answers.iter().map(|answer| answer.status()).collect(),
            stray: false,
            persists: case.then != Then::Closes,
        }
    }

    /// Sends the case, reads its answers, then sends a further request and shuts the client's side. If answers are
    /// missing, the further request is sent after a while anyway. Time does not decide the outcome: a slow peer
    /// sends its answers before the further one, and a peer that waits for more input closes at its end.
    fn observe(address: SocketAddr, case: &Case, way: Way) -> Result<Self> {
        const FURTHER: &[u8] = b"GET /further HTTP/1.1\r\nHost: localhost\r\n\r\n";
        const FURTHER_STATUS: u16 = 299;
        const A_WHILE: Duration = Duration::from_millis(20);

        let mut client = Client::connect(address)?;
        let mut expected = case.answers.clone();
        let mut sent = case.sent.clone();
        if way == Way::AfterAnother {
            expected.insert(0, Expected::Hello);
            sent.splice(0..0, GET.iter().copied());
        }
        client.try_send(&sent);
        let mut observed = Outcome {
            statuses: Vec::new(),
            stray: false,
            persists: false,
        };
        let mut asked_further = false;
        loop {
            let next = expected.get(observed.statuses.len());
            if next.is_none() && !asked_further {
                client.try_send(FURTHER);
                client.try_end();
                asked_further = true;
            }
            let patience = if asked_further { SOON } else { A_WHILE };
            match client.reply(next.is_some_and(|next| next.is_head_only()), patience)? {
                Reply::Answer(100..=199) => {}
                Reply::Answer(FURTHER_STATUS) => observed.persists = true,
                Reply::Answer(status) => observed.statuses.push(status),
                Reply::NotYet if asked_further => {
                    bail!("neither an answer nor the end: {observed}")
                }
                Reply::NotYet => {
                    client.try_send(FURTHER);
                    client.try_end();
                    asked_further = true;
                }
                Reply::Stray => {
                    observed.stray = true;
                    break;
                }
                Reply::End => break,
            }
        }
        if way == Way::AfterAnother && observed.statuses.first() == Some(&200) {
            observed.statuses.remove(0);
        }
        Ok(observed)
    }
}
