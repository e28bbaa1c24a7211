//! `ledger.csv`: what the kernel counted of a server under a workload in a pass of its own, because counting
//! takes time that must not be in any figure of `cells.csv`. One row an event.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, io_error, reason_of_row, whole_lines};

/// A count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the server.
    pub server: String,
    /// Name of the workload.
    pub workload: String,
    /// When the pass began, UTC.
    pub started: String,
    /// Why nothing was counted; the rest is empty or 0 then.
    pub error: Option<String>,
    /// Answered within the pass.
    pub responses: u64,
    /// Established within the pass.
    pub connections: u64,
    /// Of what.
    pub kind: Option<Kind>,
    /// Of a system call its name, such as `recvfrom`; of an event one of [`EVENTS`].
    pub name: String,
    /// How often, over all threads of the server.
    pub count: u64,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A system call.
    Call,
    /// Something that happens to threads.
    Event,
    /// Memory of the server while [`Row::connections`] idle connections are open; nothing was answered.
    Memory,
}

/// Names of events.
pub const EVENTS: [&str; 3] = ["context-switches", "cpu-migrations", "page-faults"];

/// What one request takes, by event: the counts of one server under one workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pass {
    /// Answered within the pass.
    pub responses: u64,
    /// Established within the pass.
    pub connections: u64,
    /// System calls by name.
    pub calls: BTreeMap<String, u64>,
    /// Events by name.
    pub events: BTreeMap<String, u64>,
}

impl Pass {
    /// The pass of this server under this workload; of several, the sum. `None` when nothing was counted.
    pub fn of(rows: &[Row], server: &str, workload: &str) -> Option<Self> {
        let mut passes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let mut pass = Pass::default();
        for row in rows {
            let Some(kind) = row.kind else { continue };
            if row.server != server || row.workload != workload || row.error.is_some() {
                continue;
            }
            let counts = match kind {
                Kind::Call => &mut pass.calls,
                Kind::Event => &mut pass.events,
                Kind::Memory => continue,
            };
            passes.insert(&row.started, (row.responses, row.connections));
            *counts.entry(row.name.clone()).or_default() += row.count;
        }
        for (responses, connections) in passes.values() {
            pass.responses += responses;
            pass.connections += connections;
        }
        (pass.responses > 0).then_some(pass)
    }

    /// System calls for each response, all together.
    pub fn calls_per_request(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.responses as f64
    }

    /// So many of one kind for each response.
    pub fn per_request(&self, count: u64) -> f64 {
        count as f64 / self.responses as f64
    }
}

/// Reads the file; without one there are no rows. A last line that was cut off is dropped.
pub(super) fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes.map_err(io_error("reading", path))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut rows = csv::Reader::from_reader(whole_lines(&text).as_bytes());
    rows.deserialize()
        .map(|row| {
            row.map_err(|error: csv::Error| Error::Damaged {
                path: path.to_owned(),
                line: error.position().map(csv::Position::line),
                message: reason_of_row(&error, &[]),
            })
        })
        .collect()
}

/// Writes all rows at once, so that a kill leaves whole ones and at most a part of one.
pub(super) fn append(path: &Path, rows: &[Row]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let is_new = file.metadata()?.len() == 0;
    let mut text = csv::WriterBuilder::new()
        .has_headers(is_new)
        .from_writer(Vec::new());
    for row in rows {
        text.serialize(row).map_err(io::Error::other)?;
    }
    let text = text.into_inner().map_err(csv::IntoInnerError::into_error)?;
    file.write_all(&text)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(server: &str, kind: Kind, name: &str, count: u64) -> Row {
        Row {
            server: server.to_owned(),
            workload: "w".to_owned(),
            started: "2025-01-02T03:04:05Z".to_owned(),
            error: None,
            responses: 100,
            connections: 10,
            kind: Some(kind),
            name: name.to_owned(),
            count,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.csv");
        assert_eq!(read(&path).unwrap(), []);
        let first = [
            row("a", Kind::Call, "recvfrom", 101),
            row("a", Kind::Event, "context-switches", 7),
        ];
        let failed = Row {
            error: Some("not permitted, \"do\" x".to_owned()),
            kind: None,
            ..row("b", Kind::Call, "", 0)
        };
        append(&path, &first).unwrap();
        append(&path, std::slice::from_ref(&failed)).unwrap();
        let mut expected = first.to_vec();
        expected.push(failed);
        assert_eq!(read(&path).unwrap(), expected);
        // A kill in the midst of a row.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 3]).unwrap();
        assert_eq!(read(&path).unwrap(), first);
    }

    #[test]
    fn counts_by_request() {
        let mut rows = vec![
            row("a", Kind::Call, "recvfrom", 100),
            row("a", Kind::Call, "sendto", 50),
            row("b", Kind::Call, "sendto", 9),
        ];
        let pass = Pass::of(&rows, "a", "w").unwrap();
        assert_eq!((pass.responses, pass.connections), (100, 10));
        assert_eq!(pass.calls_per_request(), 1.5);
        assert_eq!(Pass::of(&rows, "a", "x"), None);
        // A second pass, of another set.
        let mut again = row("a", Kind::Call, "recvfrom", 300);
        again.started = "2025-01-02T03:04:06Z".to_owned();
        rows.push(again);
        let pass = Pass::of(&rows, "a", "w").unwrap();
        assert_eq!((pass.responses, pass.calls["recvfrom"]), (200, 400));
    }
}
