//! The servers and workloads that can be measured, from `benches/servers.toml` and
//! `benches/workloads.toml`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Spanned;

#[cfg(feature = "selection")]
use crate::names::{self, Named, distinct};
use crate::placeholders;
use crate::similar::{did_you_mean, nearest};
use engine::limits;
use engine::plan::{ConnectionLife, Limit, Pace, Plan};

/// All servers and workloads, in file order.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// The folder that contains `benches/`; the servers' commands run in it.
    pub root: PathBuf,
    /// From `benches/servers.toml`.
    pub servers: Vec<Server>,
    /// From `benches/workloads.toml`.
    pub workloads: Vec<Workload>,
}

/// A program that can be started and measured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The name; it can be a file name.
    pub name: String,
    /// A description in one line.
    pub about: String,
    /// The command that builds the server.
    pub build: Option<Vec<String>>,
    /// The command that starts the server, with the placeholders of [`crate::process`].
    pub run: Vec<String>,
    /// The command that prints the server's version.
    pub version: Option<Vec<String>>,
    /// How the server announces that it can accept.
    #[serde(default)]
    pub ready: Ready,
    /// A reference by other authors: measured only on request by name or group, never ranked with our
    /// servers.
    #[serde(default)]
    pub reference: bool,
    /// A floor: it answers without reading and is not an architecture; its cost is part of every
    /// server's.
    #[serde(default)]
    pub floor: bool,
    /// Names by which several are asked for at once.
    #[serde(default, rename = "group", deserialize_with = "one_or_more")]
    pub groups: Vec<String>,
    /// How many connections it serves at once.
    #[serde(default)]
    pub serves: Serves,
    /// It has a thread for each connection.
    #[serde(default)]
    pub thread_per_connection: bool,
}

impl Server {
    /// Whether this is one of the architectures that are compared.
    pub fn is_ours(&self) -> bool {
        !self.reference && !self.floor
    }
}

/// How a server announces that it can accept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// One line `listening on ADDR` on stdout, with the real port.
    #[default]
    Line,
    /// It accepts a connect.
    Connect,
}

/// How many connections a server serves at once, by its architecture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serves {
    /// Every connection, whatever the others do.
    #[default]
    All,
    /// A fixed number; the others wait until one of those is closed.
    Some,
    /// One; the others wait until it is closed.
    One,
}

/// The load on a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The name; it can be part of a tag: no colon, comma or space.
    pub name: String,
    /// Connections open at once.
    #[serde(deserialize_with = "connections")]
    pub connections: usize,
    /// Additional idle connections; each makes one request first.
    #[serde(default, deserialize_with = "connections")]
    pub idle: usize,
    /// Requests per connection; 0 is unlimited keep-alive.
    #[serde(default)]
    pub requests_per_connection: u64,
    /// Requests sent on a connection before the first of them is answered.
    #[serde(default = "one", deserialize_with = "pipeline")]
    pub pipeline: usize,
    /// When a request is sent.
    #[serde(default = "closed", deserialize_with = "pace")]
    pub pace: Pace,
    /// The counted time.
    #[serde(deserialize_with = "duration", serialize_with = "as_text")]
    pub duration: Duration,
    /// The duration of the load before the counted time.
    #[serde(default, deserialize_with = "duration", serialize_with = "as_text")]
    pub warmup: Duration,
    /// Names of groups. The workloads of [`DEFAULT_GROUP`] are measured if none are requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Prose: what the workload shows and how to read the results.
    #[serde(default)]
    pub analysis: String,
}

impl Workload {
    /// The plan of this workload. `base` supplies what a workload does not know: the server's address, the
    /// requests, threads and CPUs, timeouts, and the expected answer.
    pub fn plan(&self, base: Plan) -> Plan {
        Plan {
            connections: self.connections,
            idle: self.idle,
            life: ConnectionLife::from_requests(self.requests_per_connection),
            pipeline: self.pipeline,
            pace: self.pace,
            limit: Limit::For(self.duration),
            warmup: self.warmup,
            ..base
        }
    }

    /// Whether `other` puts the same load on a server, whatever its name and prose.
    pub fn asks_the_same(&self, other: &Workload) -> bool {
        self.differences(other).is_empty()
    }

    /// The keys in which the load of `other` differs, each with both values.
    pub fn differences(&self, other: &Workload) -> Vec<String> {
        // Every field is listed here, so that a new one is not forgotten.
        let Workload {
            name: _,
            connections,
            idle,
            requests_per_connection,
            pipeline,
            pace,
            duration,
            warmup,
            groups: _,
            analysis: _,
        } = self;
        let time = |time: &Duration| humantime::format_duration(*time).to_string();
        let facts = [
            (
                "connections",
                connections.to_string(),
                other.connections.to_string(),
            ),
            ("idle", idle.to_string(), other.idle.to_string()),
            (
                "requests_per_connection",
                requests_per_connection.to_string(),
                other.requests_per_connection.to_string(),
            ),
            ("pipeline", pipeline.to_string(), other.pipeline.to_string()),
            ("pace", pace.to_string(), other.pace.to_string()),
            ("duration", time(duration), time(&other.duration)),
            ("warmup", time(warmup), time(&other.warmup)),
        ];
        let differing = facts.into_iter().filter(|(_, mine, theirs)| mine != theirs);
        differing
            .map(|(key, mine, theirs)| format!("{key}: {mine} and {theirs}"))
            .collect()
    }
}

/// Why the catalogue or an entry could not be used, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder from `start` upwards contains `benches/servers.toml`.
    #[error(
        "no benches/servers.toml in {} or a folder above it; run loadgen within the repository",
        start.display()
    )]
    NotFound {
        /// The folder where the search began.
        start: PathBuf,
    },
    /// A file could not be read.
    #[error("{file}: {cause}")]
    Io {
        /// The path relative to the root.
        file: &'static str,
        /// The operating system's error.
        cause: std::io::Error,
    },
    /// A file contains an error.
    #[error("{file}:{line}:{column}: {message}")]
    Wrong {
        /// The path relative to the root.
        file: &'static str,
        /// Line number, from 1.
        line: usize,
        /// Column number in characters, from 1.
        column: usize,
        /// What is wrong, with the key.
        message: String,
    },
    /// A name is in no file.
    #[error("no {kind} `{name}` in {file}{}; known: {}", did_you_mean(nearest.as_deref()), known.join(", "))]
    Unknown {
        /// `server` or `workload`.
        kind: &'static str,
        /// The requested name.
        name: String,
        /// The file that was searched.
        file: &'static str,
        /// A similar known name.
        nearest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A request matches no server and no group of servers.
    #[error(
        "no server or group `{wanted}` in {SERVERS}{}; servers: {}; groups: {}",
        did_you_mean(nearest.as_deref()), servers.join(", "), listed(groups)
    )]
    NoServer {
        /// The requested name.
        wanted: String,
        /// A similar known name.
        nearest: Option<String>,
        /// The names of all servers.
        servers: Vec<String>,
        /// The names of all groups.
        groups: Vec<String>,
    },
    /// A request matches no workload, no group, and no glob.
    #[error(
        "no workload or group `{wanted}` in {WORKLOADS}{}; workloads: {}; groups: {}",
        did_you_mean(nearest.as_deref()), workloads.join(", "), listed(groups)
    )]
    NoWorkload {
        /// The requested name or glob.
        wanted: String,
        /// A similar known name.
        nearest: Option<String>,
        /// The names of all workloads.
        workloads: Vec<String>,
        /// The names of all groups.
        groups: Vec<String>,
    },
    /// A glob is malformed.
    #[error("workloads `{wanted}`: {cause}")]
    Glob {
        /// The requested glob.
        wanted: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// The group of workloads that are measured if none are requested.
pub const DEFAULT_GROUP: &str = "default";

/// The file in which a repository lists its servers.
pub const SERVERS: &str = "benches/servers.toml";
const WORKLOADS: &str = "benches/workloads.toml";

impl Catalogue {
    /// Reads the catalogue of the nearest folder, from `start` upwards, that contains
    /// `benches/servers.toml`.
    ///
    /// # Errors
    ///
    /// If there is none, or it contains an error.
    pub fn find(start: &Path) -> Result<Self, Error> {
        start
            .ancestors()
            .find(|folder| folder.join(SERVERS).is_file())
            .ok_or_else(|| Error::NotFound {
                start: start.to_owned(),
            })
            .and_then(Catalogue::read)
    }

    /// Reads `benches/servers.toml` and `benches/workloads.toml` below `root`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or contains an error.
    pub fn read(root: &Path) -> Result<Self, Error> {
        let text =
            |file| fs::read_to_string(root.join(file)).map_err(|cause| Error::Io { file, cause });
        Ok(Catalogue {
            root: root.to_owned(),
            servers: parse_servers(&text(SERVERS)?)?,
            workloads: parse_workloads(&text(WORKLOADS)?)?,
        })
    }

    /// The server with this name.
    ///
    /// # Errors
    ///
    /// If there is none; the error lists the known names.
    pub fn server(&self, name: &str) -> Result<&Server, Error> {
        let server = self.servers.iter().find(|server| server.name == name);
        server.ok_or_else(|| {
            let known = self.servers.iter().map(|server| server.name.clone());
            unknown("server", SERVERS, name, known.collect())
        })
    }

    /// The servers that match these names, groups and globs, each once, in the order of the request; those of
    /// a group or a glob in file order.
    ///
    /// # Errors
    ///
    /// If one of them matches nothing; the error lists the known names.
    #[cfg(feature = "selection")]
    pub fn servers(&self, wanted: &[String]) -> Result<Vec<&Server>, Error> {
        let named: Vec<Named<'_>> = (self.servers.iter())
            .map(|it| Named {
                name: &it.name,
                groups: &it.groups,
            })
            .collect();
        let mut chosen: Vec<usize> = Vec::new();
        for wanted in wanted {
            let matching = matching(wanted, &named)?;
            if matching.is_empty() {
                let servers: Vec<String> =
                    (self.servers.iter().map(|it| it.name.clone())).collect();
                let groups = distinct(self.servers.iter().flat_map(|it| &it.groups));
                return Err(Error::NoServer {
                    wanted: wanted.clone(),
                    nearest: nearest(wanted, &[servers.clone(), groups.clone()].concat()),
                    servers,
                    groups,
                });
            }
            chosen.extend(matching);
        }
        let mut seen = BTreeSet::new();
        chosen.retain(|at| seen.insert(*at));
        Ok(chosen.into_iter().map(|at| &self.servers[at]).collect())
    }

    /// The workloads that match these names, groups and globs (`new-connection*`), each once and in
    /// file order. Without any: those of [`DEFAULT_GROUP`], or all if the file has no such group.
    ///
    /// # Errors
    ///
    /// If one of them matches nothing; the error lists the known names.
    #[cfg(feature = "selection")]
    pub fn workloads(&self, wanted: &[String]) -> Result<Vec<&Workload>, Error> {
        let groups = distinct(self.workloads.iter().flat_map(|it| &it.groups));
        let named: Vec<Named<'_>> = (self.workloads.iter())
            .map(|it| Named {
                name: &it.name,
                groups: &it.groups,
            })
            .collect();
        let mut chosen = BTreeSet::new();
        for wanted in wanted {
            let matching = matching(wanted, &named)?;
            if matching.is_empty() {
                let workloads: Vec<String> =
                    (self.workloads.iter().map(|it| it.name.clone())).collect();
                let known = [workloads.clone(), groups.clone()].concat();
                return Err(Error::NoWorkload {
                    wanted: wanted.clone(),
                    nearest: nearest(wanted, &known),
                    workloads,
                    groups,
                });
            }
            chosen.extend(matching);
        }
        if wanted.is_empty() {
            let has_default = groups.iter().any(|name| name == DEFAULT_GROUP);
            let is_default =
                |it: &Workload| !has_default || it.groups.iter().any(|name| name == DEFAULT_GROUP);
            let places = self.workloads.iter().enumerate();
            chosen.extend(places.filter(|(_, it)| is_default(it)).map(|(at, _)| at));
        }
        Ok(chosen.into_iter().map(|at| &self.workloads[at]).collect())
    }
}

/// The positions that a name, a group or a glob asks for.
#[cfg(feature = "selection")]
fn matching(wanted: &str, known: &[Named<'_>]) -> Result<Vec<usize>, Error> {
    names::matching(wanted, known).map_err(|cause| Error::Glob {
        wanted: wanted.to_owned(),
        cause: cause.to_string(),
    })
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServersFile {
    #[serde(default)]
    server: Vec<Spanned<Server>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadsFile {
    #[serde(default)]
    workload: Vec<Spanned<Workload>>,
}

fn parse_servers(text: &str) -> Result<Vec<Server>, Error> {
    let file: ServersFile = toml::from_str(text).map_err(|error| syntax(SERVERS, text, &error))?;
    let names_all: BTreeSet<String> = (file.server.iter())
        .map(|server| server.get_ref().name.clone())
        .collect();
    let mut names = BTreeSet::new();
    let check = |server: &Server| {
        check_name(&server.name, &mut names)?;
        check_groups("group", &server.groups, "server", &server.name, &names_all)?;
        for (key, command) in [
            ("run", Some(&server.run)),
            ("build", server.build.as_ref()),
            ("version", server.version.as_ref()),
        ] {
            if command.is_some_and(|command| command.first().is_none_or(String::is_empty)) {
                return Err(format!("`{key}` of `{}` names no program", server.name));
            }
        }
        server
            .run
            .iter()
            .try_for_each(|arg| placeholders::check(arg))
    };
    checked(SERVERS, text, file.server, check)
}

fn parse_workloads(text: &str) -> Result<Vec<Workload>, Error> {
    let file: WorkloadsFile =
        toml::from_str(text).map_err(|error| syntax(WORKLOADS, text, &error))?;
    let names_all: BTreeSet<String> = (file.workload.iter())
        .map(|workload| workload.get_ref().name.clone())
        .collect();
    let mut names = BTreeSet::new();
    let check = |workload: &Workload| {
        check_name(&workload.name, &mut names)?;
        let groups = &workload.groups;
        check_groups("groups", groups, "workload", &workload.name, &names_all)?;
        for (key, is_zero) in [
            ("connections", workload.connections == 0),
            ("pipeline", workload.pipeline == 0),
            ("duration", workload.duration.is_zero()),
        ] {
            if is_zero {
                return Err(format!("`{key}` of `{}` must be above zero", workload.name));
            }
        }
        let each = workload.requests_per_connection;
        if each > 0 && workload.pipeline as u64 > each {
            return Err(format!(
                "`pipeline` of `{}`: {} requests cannot be in flight on a connection limited to {each}",
                workload.name, workload.pipeline
            ));
        }
        if workload.pace != Pace::Closed && workload.pipeline > 1 {
            return Err(format!(
                "`pipeline` of `{}`: in open loop each request waits for a free connection, so it must be 1",
                workload.name
            ));
        }
        Ok(())
    };
    checked(WORKLOADS, text, file.workload, check)
}

fn check_name(name: &str, seen: &mut BTreeSet<String>) -> Result<(), String> {
    limits::check_name(name).map_err(|why| format!("`name` {name:?} {why}"))?;
    if !seen.insert(name.to_owned()) {
        return Err(format!("`name` `{name}` is used twice"));
    }
    Ok(())
}

/// A group has a name of its own: `names` are those of all entries, which are of this `kind`.
fn check_groups(
    key: &str,
    groups: &[String],
    kind: &str,
    name: &str,
    names: &BTreeSet<String>,
) -> Result<(), String> {
    for group in groups {
        if names.contains(group) {
            return Err(format!(
                "`{key}` of `{name}`: `{group}` is already the name of a {kind}"
            ));
        }
        limits::check_name(group).map_err(|why| format!("`{key}` of `{name}`: {group:?} {why}"))?;
    }
    Ok(())
}

fn checked<T>(
    file: &'static str,
    text: &str,
    entries: Vec<Spanned<T>>,
    mut check: impl FnMut(&T) -> Result<(), String>,
) -> Result<Vec<T>, Error> {
    let mut values = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Err(message) = check(entry.get_ref()) {
            return Err(wrong(file, text, entry.span(), message));
        }
        values.push(entry.into_inner());
    }
    if values.is_empty() {
        return Err(wrong(file, text, 0..0, "has no entry".to_owned()));
    }
    Ok(values)
}

fn syntax(file: &'static str, text: &str, error: &toml::de::Error) -> Error {
    // toml may print several lines of explanation.
    let message = error.message().lines().map(str::trim).collect::<Vec<_>>();
    let mut message = message.join("; ");
    let span = error.span().unwrap_or(0..0);
    if let Some(key) = key_at(text, span.start)
        && !message.contains(&format!("`{key}`"))
    {
        message = format!("`{key}`: {message}");
    }
    wrong(file, text, span, message)
}

/// The key in whose line a position of a TOML text lies.
pub fn key_at(text: &str, at: usize) -> Option<&str> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next()?;
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let is_key = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    (!key.is_empty() && key.chars().all(is_key)).then_some(key)
}

fn wrong(file: &'static str, text: &str, span: Range<usize>, message: String) -> Error {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Error::Wrong {
        file,
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message,
    }
}

fn unknown(kind: &'static str, file: &'static str, name: &str, known: Vec<String>) -> Error {
    Error::Unknown {
        kind,
        name: name.to_owned(),
        file,
        nearest: nearest(name, &known),
        known,
    }
}

fn one() -> usize {
    1
}

fn closed() -> Pace {
    Pace::Closed
}

fn connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let count = usize::deserialize(deserializer)?;
    limits::at_most(count, limits::CONNECTIONS_MAX).map_err(serde::de::Error::custom)
}

fn pipeline<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let depth = usize::deserialize(deserializer)?;
    limits::at_most(depth, limits::PIPELINE_MAX).map_err(serde::de::Error::custom)
}

fn pace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pace, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error| serde::de::Error::custom(format_args!("`pace` {error}")))
}

/// A name, or a list of names.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Names;
    impl<'de> serde::de::Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name or a list of names")
        }

        fn visit_str<E>(self, name: &str) -> Result<Vec<String>, E> {
            Ok(vec![name.to_owned()])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut names: A,
        ) -> Result<Vec<String>, A::Error> {
            std::iter::from_fn(|| names.next_element().transpose()).collect()
        }
    }
    deserializer.deserialize_any(Names)
}

/// Parses a duration such as `10s`, for serde.
///
/// # Errors
///
/// If it has no unit, or exceeds the maximum.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;
    impl serde::de::Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time such as \"10s\" or \"250ms\"")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            limits::time(text).map_err(|error| {
                E::custom(format_args!(
                    "{text:?}: {error}; expected a time such as \"10s\" or \"250ms\""
                ))
            })
        }
    }
    deserializer.deserialize_str(Text)
}

/// Serializes a duration in the form that [`duration`] parses, for serde.
///
/// # Errors
///
/// If the serializer fails.
pub fn as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "[[server]]\nname = 'a'\nabout = 'A'\nrun = ['a']\n";
    const WORKLOAD: &str = "[[workload]]\nname = 'w'\nconnections = 1\nduration = '1s'\n";

    #[test]
    fn defaults() {
        let servers = parse_servers(SERVER).unwrap();
        assert_eq!(servers[0].ready, Ready::Line);
        assert!(!servers[0].reference);
        assert_eq!(servers[0].serves, Serves::All);
        assert!(!servers[0].thread_per_connection);
        assert!(servers[0].groups.is_empty());
        let workloads = parse_workloads(WORKLOAD).unwrap();
        assert_eq!(workloads[0].idle, 0);
        assert_eq!(workloads[0].pipeline, 1);
        assert_eq!(workloads[0].requests_per_connection, 0);
        assert_eq!(workloads[0].warmup, Duration::ZERO);
    }

    #[test]
    fn workloads_may_have_idle_connections() {
        let workloads = parse_workloads(&format!("{WORKLOAD}idle = 5000\n")).unwrap();
        assert_eq!((workloads[0].connections, workloads[0].idle), (1, 5_000));
        // A workload is written to the record of a set and read back.
        let text = toml::to_string(&workloads[0]).unwrap();
        assert_eq!(toml::from_str::<Workload>(&text).unwrap(), workloads[0]);
        let without = parse_workloads(WORKLOAD).unwrap();
        assert!(!workloads[0].asks_the_same(&without[0]));
    }

    /// Each file has one faulty line; the message is one line that names file, line and key.
    #[test]
    fn wrong_servers() {
        let rows = [
            (
                "bild = ['b']",
                "benches/servers.toml:5:1: unknown field `bild`, expected one of `name`, `about`, `build`, `run`, `version`, `ready`, `reference`, `floor`, `group`, `serves`, `thread_per_connection`",
            ),
            (
                "ready = 'soon'",
                "benches/servers.toml:5:9: `ready`: unknown variant `soon`, expected `line` or `connect`",
            ),
            (
                "reference = 1",
                "benches/servers.toml:5:13: `reference`: invalid type: integer `1`, expected a boolean",
            ),
            (
                "serves = 'few'",
                "benches/servers.toml:5:10: `serves`: unknown variant `few`, expected one of `all`, `some`, `one`",
            ),
            (
                "thread_per_connection = 'yes'",
                "benches/servers.toml:5:25: `thread_per_connection`: invalid type: string \"yes\", expected a boolean",
            ),
            (
                "group = 1",
                "benches/servers.toml:5:9: `group`: invalid type: integer `1`, expected a name or a list of names",
            ),
            (
                "group = ['x', 1]",
                "benches/servers.toml:5:15: `group`: invalid type: integer `1`, expected a string",
            ),
            (
                "group = 'a'",
                "benches/servers.toml:1:1: `group` of `a`: `a` is already the name of a server",
            ),
            (
                "group = ['b']\n[[server]]\nname='b'\nabout=''\nrun=['x']",
                "benches/servers.toml:1:1: `group` of `a`: `b` is already the name of a server",
            ),
            (
                "group = ['a b']",
                "benches/servers.toml:1:1: `group` of `a`: \"a b\" may contain letters, digits, `-`, `_` and `.`, and must not begin with `-` or `.`",
            ),
            (
                "build = []",
                "benches/servers.toml:1:1: `build` of `a` names no program",
            ),
            (
                "build = ['']",
                "benches/servers.toml:1:1: `build` of `a` names no program",
            ),
            (
                "about = 'again'",
                "benches/servers.toml:5:1: `about`: duplicate key",
            ),
            (
                "version =",
                "benches/servers.toml:5:10: `version`: string values must be quoted, expected literal string",
            ),
            (
                "[[server]]\nname='a'\nabout=''\nrun=['x']",
                "benches/servers.toml:5:1: `name` `a` is used twice",
            ),
            (
                "[[server]]\nname='../x'\nabout=''\nrun=['x']",
                "benches/servers.toml:5:1: `name` \"../x\" may contain letters, digits, `-`, `_` and `.`, and must not begin with `-` or `.`",
            ),
            (
                "[[server]]\nname='b'\nabout=''\nrun=[]",
                "benches/servers.toml:5:1: `run` of `b` names no program",
            ),
            (
                "[[server]]\nname='b'\nabout=''",
                "benches/servers.toml:5:1: missing field `run`",
            ),
        ];
        for (line, expected) in rows {
            let error = parse_servers(&format!("{SERVER}{line}\n")).unwrap_err();
            assert_eq!(error.to_string(), expected, "for {line}");
        }
    }

    #[test]
    fn wrong_workloads() {
        let rows = [
            (
                "pace = 'often'",
                "benches/workloads.toml:5:8: `pace` \"often\": expected closed, constant:RATE or poisson:RATE, such as constant:5000/s",
            ),
            (
                "pace = 'constant:5/s'\npipeline = 2",
                "benches/workloads.toml:1:1: `pipeline` of `w`: in open loop each request waits for a free connection, so it must be 1",
            ),
            (
                "idle = -1",
                "benches/workloads.toml:5:8: `idle`: invalid value: integer `-1`, expected usize",
            ),
            (
                "groups = ['few', 'w']",
                "benches/workloads.toml:1:1: `groups` of `w`: `w` is already the name of a workload",
            ),
            (
                "groups = ['a b']",
                "benches/workloads.toml:1:1: `groups` of `w`: \"a b\" may contain letters, digits, `-`, `_` and `.`, and must not begin with `-` or `.`",
            ),
            (
                "pipeline = 0",
                "benches/workloads.toml:1:1: `pipeline` of `w` must be above zero",
            ),
            (
                "warmup = 'soon'",
                "benches/workloads.toml:5:10: `warmup`: \"soon\": expected number at 0; expected a time such as \"10s\" or \"250ms\"",
            ),
            (
                "warmup = 3",
                "benches/workloads.toml:5:10: `warmup`: invalid type: integer `3`, expected a time such as \"10s\" or \"250ms\"",
            ),
            (
                "pipeline = -1",
                "benches/workloads.toml:5:12: `pipeline`: invalid value: integer `-1`, expected usize",
            ),
            (
                "pipeline = 1025",
                "benches/workloads.toml:5:12: `pipeline`: 1025 is too many; the maximum is 1024",
            ),
            (
                "pipeline = 3\nrequests_per_connection = 2",
                "benches/workloads.toml:1:1: `pipeline` of `w`: 3 requests cannot be in flight on a connection limited to 2",
            ),
            (
                "idle = 1000000000000",
                "benches/workloads.toml:5:8: `idle`: 1000000000000 is too many; the maximum is 10000000",
            ),
            (
                "idle = 1e12",
                "benches/workloads.toml:5:8: `idle`: invalid type: floating point `1000000000000.0`, expected usize",
            ),
            (
                "idle = 99999999999999999999",
                "benches/workloads.toml:5:8: `idle`: invalid type: integer `99999999999999999999` as i128, expected usize",
            ),
            (
                "warmup = '18446744073709551615s 999999999ns 1ns'",
                "benches/workloads.toml:5:10: `warmup`: \"18446744073709551615s 999999999ns 1ns\": too long; the maximum is 365 days; expected a time such as \"10s\" or \"250ms\"",
            ),
            (
                "warmup = inf",
                "benches/workloads.toml:5:10: `warmup`: invalid type: floating point `inf`, expected a time such as \"10s\" or \"250ms\"",
            ),
            (
                "pace = 'constant:inf/s'",
                "benches/workloads.toml:5:8: `pace` \"inf/s\": expected a rate such as 5000/s, 5k/s or 300/m",
            ),
            (
                "pace = 'poisson:1e300/s'",
                "benches/workloads.toml:5:8: `pace` \"1e300/s\": expected a rate such as 5000/s, 5k/s or 300/m",
            ),
            (
                "[[workload]]\nname='x'\nconnections=0\nduration='1s'",
                "benches/workloads.toml:5:1: `connections` of `x` must be above zero",
            ),
            (
                "[[workload]]\nname='x'\nconnections=1\nduration='0s'",
                "benches/workloads.toml:5:1: `duration` of `x` must be above zero",
            ),
            (
                "[[workload]]\nname='a b'\nconnections=1\nduration='1s'",
                "benches/workloads.toml:5:1: `name` \"a b\" may contain letters, digits, `-`, `_` and `.`, and must not begin with `-` or `.`",
            ),
        ];
        for (line, expected) in rows {
            let error = parse_workloads(&format!("{WORKLOAD}{line}\n")).unwrap_err();
            assert_eq!(error.to_string(), expected, "for {line}");
        }
        assert_eq!(
            parse_workloads("").unwrap_err().to_string(),
            "benches/workloads.toml:1:1: has no entry"
        );
    }

    #[test]
    fn unknown_names() {
        let catalogue = Catalogue {
            root: PathBuf::new(),
            servers: parse_servers(&format!(
                "{SERVER}{}",
                SERVER.replace("'a'", "'event-loop'")
            ))
            .unwrap(),
            workloads: parse_workloads(WORKLOAD).unwrap(),
        };
        assert_eq!(
            catalogue.server("evnt-loop").unwrap_err().to_string(),
            "no server `evnt-loop` in benches/servers.toml, did you mean `event-loop`?; known: a, event-loop"
        );
        assert_eq!(catalogue.server("a").unwrap().name, "a");
    }

    /// By names and groups: each once, in the order in which they are asked for.
    #[test]
    fn servers_are_chosen() {
        let entry = |name: &str, more: &str| SERVER.replace("'a'", &format!("'{name}'")) + more;
        let file = [
            entry("one", "group = ['core', 'blocking']\nserves = 'one'\n"),
            entry("loop", "group = 'core'\n"),
            entry("other", "thread_per_connection = true\n"),
        ];
        let catalogue = Catalogue {
            root: PathBuf::new(),
            servers: parse_servers(&file.concat()).unwrap(),
            workloads: Vec::new(),
        };
        assert_eq!(catalogue.servers[0].serves, Serves::One);
        assert!(catalogue.servers[2].thread_per_connection);
        let known = "servers: one, loop, other; groups: core, blocking";
        let none = |wanted: &str, hint: &str| {
            format!("no server or group `{wanted}` in benches/servers.toml{hint}; {known}")
        };
        for (wanted, expected) in [
            ("", Ok("")),
            ("other", Ok("other")),
            ("core", Ok("one loop")),
            ("other,blocking,core,other", Ok("other one loop")),
            ("loop,crore", Err(none("crore", ", did you mean `core`?"))),
            ("othr", Err(none("othr", ", did you mean `other`?"))),
            ("o*", Ok("one other")),
            ("x*", Err(none("x*", ""))),
        ] {
            let wanted: Vec<String> = wanted.split_terminator(',').map(str::to_owned).collect();
            let chosen = catalogue.servers(&wanted).map(|chosen| {
                let names: Vec<&str> = chosen.iter().map(|it| it.name.as_str()).collect();
                names.join(" ")
            });
            let chosen = chosen.map_err(|error| error.to_string());
            assert_eq!(chosen, expected.map(str::to_owned), "{wanted:?}");
        }
    }

    /// Any mixture of names, groups and globs yields each workload once, in file order.
    #[test]
    fn workloads_are_chosen() {
        let entry = |name: &str, groups: &str| {
            WORKLOAD.replace("'w'", &format!("'{name}'")) + &format!("groups = {groups}\n")
        };
        let file = [
            entry("stay", "['default', 'all']"),
            entry("leave-1", "['all']"),
            entry("leave-2", "['all', 'few']"),
            entry("crowd", "[]"),
        ];
        let catalogue = Catalogue {
            root: PathBuf::new(),
            servers: Vec::new(),
            workloads: parse_workloads(&file.concat()).unwrap(),
        };
        let known = "workloads: stay, leave-1, leave-2, crowd; groups: default, all, few";
        let none = |wanted: &str, hint: &str| {
            format!("no workload or group `{wanted}` in benches/workloads.toml{hint}; {known}")
        };
        for (wanted, expected) in [
            ("", Ok("stay")),
            ("leave-1", Ok("leave-1")),
            ("few", Ok("leave-2")),
            ("few,all", Ok("stay leave-1 leave-2")),
            ("leave*", Ok("leave-1 leave-2")),
            ("*-[2-9]", Ok("leave-2")),
            ("*", Ok("stay leave-1 leave-2 crowd")),
            ("crowd,few,leave-?,crowd", Ok("leave-1 leave-2 crowd")),
            ("laeve-1", Err(none("laeve-1", ", did you mean `leave-1`?"))),
            (
                "stay,defualt",
                Err(none("defualt", ", did you mean `default`?")),
            ),
            ("x*", Err(none("x*", ""))),
            (
                "a[",
                Err(
                    "workloads `a[`: Pattern syntax error near position 1: invalid range pattern"
                        .to_owned(),
                ),
            ),
        ] {
            let wanted: Vec<String> = wanted.split_terminator(',').map(str::to_owned).collect();
            let chosen = catalogue.workloads(&wanted).map(|chosen| {
                let names: Vec<&str> = chosen.iter().map(|it| it.name.as_str()).collect();
                names.join(" ")
            });
            let chosen = chosen.map_err(|error| error.to_string());
            assert_eq!(chosen, expected.map(str::to_owned), "{wanted:?}");
        }
        let without_groups = Catalogue {
            workloads: parse_workloads(WORKLOAD).unwrap(),
            ..catalogue
        };
        assert_eq!(without_groups.workloads(&[]).unwrap().len(), 1);
    }

    /// The files of this repository.
    #[test]
    fn ours() {
        let catalogue = Catalogue::find(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(catalogue.server("event-loop").unwrap().build.is_some());
        assert!(catalogue.server("nginx").unwrap().reference);
        let core = catalogue.servers(&["core".to_owned()]).unwrap();
        assert!(core.len() > 1 && core.iter().all(|server| server.is_ours()));
        assert!(
            catalogue
                .workloads
                .iter()
                .all(|workload| !workload.analysis.is_empty())
        );
        let count = |wanted: &str| catalogue.workloads(&[wanted.to_owned()]).unwrap().len();
        assert_eq!(catalogue.workloads(&[]).unwrap().len(), 4);
        assert_eq!(count("curated"), catalogue.workloads.len());
    }

    #[test]
    fn nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let error = Catalogue::find(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no benches/servers.toml in "), "{error}");
        std::fs::create_dir(folder.path().join("benches")).unwrap();
        std::fs::write(folder.path().join(SERVERS), SERVER).unwrap();
        let error = Catalogue::find(&folder.path().join("benches"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("benches/workloads.toml: No such file"),
            "{error}"
        );
    }
}
