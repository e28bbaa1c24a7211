//! `ledger.csv`: the kernel's counts for a server under a workload in a separate pass, because
//! counting takes time that must not affect the figures in `cells.csv`; and the memory of each
//! server with a number of idle connections open. One row per count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lines::{Lines, bytes_of};
use super::{Campaign, Error, append_whole, io_error, one_line, write_atomically};
use engine::foreign;
use subject::ledger::{EVENTS, Kind, MEMORY};
use subject::process::{IdleCost, Memory};

/// One count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the server; empty if counting was not possible for any server.
    pub server: String,
    /// Name of the workload; empty for memory, which is read without one.
    pub workload: String,
    /// When the pass began, UTC.
    pub started: String,
    /// Why nothing was counted; the rest is then empty or 0.
    pub error: Option<String>,
    /// Responses during the pass.
    pub responses: u64,
    /// Connections established during the pass; for memory, the open idle connections.
    pub connections: u64,
    /// The kind of count.
    pub kind: Option<Kind>,
    /// For a system call its name, such as `recvfrom`; for an event one of [`EVENTS`]; for memory
    /// one of [`MEMORY`].
    pub name: String,
    /// The number of occurrences over all threads of the server; for memory, the bytes.
    pub count: u64,
}

/// The index of the column [`Row::error`].
const ERROR: usize = 3;

/// Memory readings in a pass: without, with half and with all of the idle connections.
const READINGS: usize = 3;

/// Identifies a pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassKey {
    /// Name of the server.
    pub server: String,
    /// Name of the workload; `None` for a pass that reads memory.
    pub workload: Option<String>,
}

impl PassKey {
    /// The row of a pass in which nothing could be counted.
    pub fn failed(&self, started: String, error: &str) -> Row {
        Row {
            error: Some(one_line(error)),
            ..self.empty(started)
        }
    }

    /// The rows of a pass that counted.
    pub fn counted<'a>(
        &self,
        started: &str,
        (responses, connections): (u64, u64),
        counts: impl IntoIterator<Item = (Kind, &'a str, u64)>,
    ) -> Vec<Row> {
        let row = |(kind, name, count): (Kind, &str, u64)| Row {
            responses,
            connections,
            kind: Some(kind),
            name: name.to_owned(),
            count,
            ..self.empty(started.to_owned())
        };
        counts.into_iter().map(row).collect()
    }

    /// The rows of a pass that read memory.
    pub fn read(&self, started: &str, readings: &[Memory]) -> Vec<Row> {
        let rows = readings.iter().flat_map(|memory| {
            let counts = [memory.bytes, memory.kernel_bytes];
            let counts = MEMORY.into_iter().zip(counts);
            let counts = counts.map(|(name, bytes)| (Kind::Memory, name, bytes));
            self.counted(started, (0, memory.connections), counts)
        });
        rows.collect()
    }

    fn empty(&self, started: String) -> Row {
        Row {
            server: self.server.clone(),
            workload: self.workload.clone().unwrap_or_default(),
            started,
            error: None,
            responses: 0,
            connections: 0,
            kind: None,
            name: String::new(),
            count: 0,
        }
    }
}

/// The row that says why nothing can be counted on this machine.
pub fn impossible(started: String, error: &str) -> Row {
    let of_all = PassKey {
        server: String::new(),
        workload: None,
    };
    of_all.failed(started, error)
}

/// Why nothing could be counted, if that holds for all servers.
pub fn is_impossible(rows: &[Row]) -> Option<&str> {
    let row = rows.iter().find(|row| row.server.is_empty())?;
    row.error.as_deref()
}

/// The passes of a campaign that these rows lack, in order. If counting is not possible, only those
/// that read memory.
pub(super) fn missing(campaign: &Campaign, rows: &[Row]) -> Vec<PassKey> {
    if !campaign.ledger {
        return Vec::new();
    }
    let done: BTreeSet<(&str, &str)> = rows
        .iter()
        .map(|row| (row.server.as_str(), row.workload.as_str()))
        .collect();
    let counts = is_impossible(rows).is_none();
    let workloads = campaign.workloads.iter().filter(|_| counts);
    let workloads = workloads.map(|workload| Some(workload.name.clone()));
    let workloads: Vec<_> = [None].into_iter().chain(workloads).collect();
    let passes = campaign.servers.iter().flat_map(|server| {
        workloads.iter().map(move |workload| PassKey {
            server: server.clone(),
            workload: workload.clone(),
        })
    });
    passes
        .filter(|pass| {
            let workload = pass.workload.as_deref().unwrap_or_default();
            !done.contains(&(&pass.server, workload))
        })
        .collect()
}

/// The memory cost of this server's idle connections, from the first pass that read it.
pub fn idle_cost(rows: &[Row], server: &str) -> Option<IdleCost> {
    let of_server = |row: &&Row| row.server == server && row.kind == Some(Kind::Memory);
    let mut started = None;
    let mut readings: BTreeMap<u64, Memory> = BTreeMap::new();
    for row in rows.iter().filter(of_server) {
        if *started.get_or_insert(&row.started) != &row.started {
            continue;
        }
        let reading = readings.entry(row.connections).or_insert(Memory {
            connections: row.connections,
            bytes: 0,
            kernel_bytes: 0,
        });
        if row.name == MEMORY[0] {
            reading.bytes = row.count;
        } else if row.name == MEMORY[1] {
            reading.kernel_bytes = row.count;
        }
    }
    let readings: Vec<Memory> = readings.into_values().collect();
    (!readings.is_empty()).then(|| IdleCost::of(readings))
}

/// The events of one request: the counts of one server under one workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pass {
    /// Responses during the pass.
    pub responses: u64,
    /// Connections established during the pass.
    pub connections: u64,
    /// System calls by name.
    pub calls: BTreeMap<String, u64>,
    /// Events by name.
    pub events: BTreeMap<String, u64>,
}

impl Pass {
    /// The pass of this server under this workload; the sum if there are several. `None` if nothing
    /// was counted.
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

    /// System calls per response, all together.
    pub fn calls_per_request(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.responses as f64
    }

    /// A count divided by the responses.
    pub fn per_request(&self, count: u64) -> f64 {
        count as f64 / self.responses as f64
    }
}

/// The bytes of the file, read but not checked yet; `None` if it does not exist.
pub(super) struct Unchecked {
    path: PathBuf,
    bytes: Option<Vec<u8>>,
}

/// Reads the file; without it there are no rows.
pub(super) fn read(path: &Path) -> Result<Unchecked, Error> {
    let bytes = bytes_of(path)?;
    Ok(Unchecked {
        path: path.to_owned(),
        bytes,
    })
}

impl Unchecked {
    /// The rows, which must belong to servers and workloads of this plan, and a message if a last
    /// line was left out.
    pub(super) fn checked(self, campaign: &Campaign) -> Result<(Vec<Row>, Option<String>), Error> {
        let is_known = |row: &Row| {
            if let Err(error) = row.started.parse::<jiff::Timestamp>() {
                return Err((2, format!("`started`: {error}")));
            }
            let knows_server = row.server.is_empty() || campaign.servers.contains(&row.server);
            let knows_workload =
                row.workload.is_empty() || campaign.workload(&row.workload).is_some();
            match (knows_server, knows_workload) {
                (false, _) => Err((0, format!("no server `{}` in the plan", row.server))),
                (_, false) => Err((1, format!("no workload `{}` in the plan", row.workload))),
                _ => Ok(()),
            }
        };
        self.rows(is_known)
    }

    /// The rows of complete passes: a truncated last pass is dropped.
    fn rows(
        self,
        check: impl Fn(&Row) -> Result<(), (usize, String)>,
    ) -> Result<(Vec<Row>, Option<String>), Error> {
        let Some(bytes) = self.bytes.filter(|bytes| !bytes.is_empty()) else {
            return Ok((Vec::new(), None));
        };
        let lines = Lines::of(&self.path, &bytes)?;
        if lines.text().is_empty() {
            // Even the header is truncated.
            return Ok((Vec::new(), lines.remark()));
        }
        let header = lines.header()?;
        let expected = columns();
        if !header.iter().eq(expected.iter()) {
            let message = format!("the columns are not {}", expected.join(", "));
            return Err(lines.damage(1, 0, message));
        }
        let mut rows = Vec::new();
        for (line, row) in lines.rows::<Row>(&header, &[])? {
            check(&row).map_err(|(field, message)| lines.damage(line, field, message))?;
            if row.error.is_some()
                && let Some(field) = lines.first_after(line, ERROR, &["0"])?
            {
                let message = "a row with an error cannot have a count";
                return Err(lines.damage(line, field, message));
            }
            rows.push(Row {
                error: row.error.as_deref().map(foreign::escaped),
                name: foreign::escaped(&row.name),
                ..row
            });
        }
        let last = rows.chunk_by(Row::is_of_pass).last();
        if let Some(last) = last
            && !is_complete(last)
        {
            rows.truncate(rows.len() - last.len());
        }
        Ok((rows, lines.remark()))
    }
}

/// The names of the columns, in order.
fn columns() -> Vec<String> {
    let row = impossible(String::new(), "");
    let text = lines(&[row], true).expect("a row is flat");
    let text = String::from_utf8(text).expect("names are ASCII");
    let header = text.lines().next().expect("the header comes first");
    header.split(',').map(str::to_owned).collect()
}

impl Row {
    fn is_of_pass(&self, other: &Row) -> bool {
        let pass = |row: &Row| {
            (
                row.server.clone(),
                row.workload.clone(),
                row.started.clone(),
            )
        };
        pass(self) == pass(other)
    }
}

/// Whether these are all rows of a pass: it ends with its events, or has all of its readings.
fn is_complete(pass: &[Row]) -> bool {
    let Some(last) = pass.last() else {
        return false;
    };
    match last.kind {
        None => last.error.is_some(),
        Some(Kind::Call) => false,
        Some(Kind::Event) => EVENTS.last() == Some(&last.name.as_str()),
        Some(Kind::Memory) => pass.len() == READINGS * MEMORY.len(),
    }
}

/// Removes what a kill has left half written.
pub(super) fn drop_cut_off(path: &Path) -> Result<(), Error> {
    let length = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(io_error("reading", path))?.len(),
    };
    let (rows, _) = read(path)?.rows(|_| Ok(()))?;
    let whole = lines(&rows, true).map_err(io_error("writing", path))?;
    match whole.len() as u64 == length {
        true => Ok(()),
        false => write_atomically(path, &String::from_utf8_lossy(&whole)),
    }
}

/// Writes all rows at once, so that a kill leaves whole ones and at most a part of one.
pub(super) fn append(path: &Path, rows: &[Row]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let is_new = file.metadata()?.len() == 0;
    append_whole(&mut file, &lines(rows, is_new)?)
}

fn lines(rows: &[Row], with_header: bool) -> io::Result<Vec<u8>> {
    let mut text = csv::WriterBuilder::new()
        .has_headers(with_header)
        .from_writer(Vec::new());
    for row in rows {
        text.serialize(row).map_err(io::Error::other)?;
    }
    text.into_inner().map_err(csv::IntoInnerError::into_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(path: &Path) -> Vec<Row> {
        read(path).unwrap().rows(|_| Ok(())).unwrap().0
    }

    fn key(server: &str, workload: Option<&str>) -> PassKey {
        PassKey {
            server: server.to_owned(),
            workload: workload.map(str::to_owned),
        }
    }

    const NOW: &str = "2025-01-02T03:04:05Z";

    fn counted(server: &str, started: &str, calls: &[(&str, u64)]) -> Vec<Row> {
        let calls = (calls.iter()).map(|&(name, count)| (Kind::Call, name, count));
        let events = EVENTS.map(|name| (Kind::Event, name, 7));
        key(server, Some("w")).counted(started, (100, 10), calls.chain(events))
    }

    fn memory(connections: u64) -> Memory {
        Memory {
            connections,
            bytes: 1_000_000 + 300 * connections,
            kernel_bytes: 2_000_000 + 8_000 * connections,
        }
    }

    fn readings(server: &str) -> Vec<Row> {
        key(server, None).read(NOW, &[memory(0), memory(500), memory(1_000)])
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.csv");
        assert_eq!(rows_of(&path), []);
        drop_cut_off(&path).unwrap();
        let mut expected = Vec::new();
        for rows in [
            counted("a", NOW, &[("recvfrom", 101)]),
            vec![key("b", Some("w")).failed(NOW.to_owned(), "said \"no\",\nand went")],
            readings("a"),
            vec![impossible(NOW.to_owned(), "not permitted: do x")],
            counted("a", "2025-01-02T03:04:06Z", &[("recvfrom", 102)]),
        ] {
            append(&path, &rows).unwrap();
            expected.extend(rows);
            assert_eq!(rows_of(&path), expected);
        }
        assert_eq!(is_impossible(&expected), Some("not permitted: do x"));
        assert_eq!(is_impossible(&expected[..5]), None);
    }

    /// Wherever a kill cuts a pass, the passes before it are read, and written on.
    #[test]
    fn a_pass_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.csv");
        let first = counted("a", NOW, &[("recvfrom", 101)]);
        for second in [counted("b", NOW, &[("sendto", 5)]), readings("a")] {
            fs::write(&path, "").unwrap();
            append(&path, &first).unwrap();
            let length = fs::read(&path).unwrap().len();
            append(&path, &second).unwrap();
            let whole = fs::read(&path).unwrap();
            for cut in length..whole.len() {
                fs::write(&path, &whole[..cut]).unwrap();
                assert_eq!(rows_of(&path), first, "cut at {cut}");
                drop_cut_off(&path).unwrap();
                assert_eq!(fs::read(&path).unwrap(), &whole[..length], "cut at {cut}");
            }
            append(&path, &second).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
            drop_cut_off(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn counts_by_request() {
        let mut rows = counted("a", NOW, &[("recvfrom", 100), ("sendto", 50)]);
        rows.extend(counted("b", NOW, &[("sendto", 9)]));
        rows.extend(readings("a"));
        let pass = Pass::of(&rows, "a", "w").unwrap();
        assert_eq!((pass.responses, pass.connections), (100, 10));
        assert_eq!(pass.calls_per_request(), 1.5);
        assert_eq!(Pass::of(&rows, "a", "x"), None);
        // That of memory is none.
        assert_eq!(Pass::of(&rows, "a", ""), None);
        // A second pass, of another set.
        rows.extend(counted("a", "2025-01-02T03:04:06Z", &[("recvfrom", 300)]));
        let pass = Pass::of(&rows, "a", "w").unwrap();
        assert_eq!((pass.responses, pass.calls["recvfrom"]), (200, 400));
    }

    #[test]
    fn memory_by_connection() {
        let mut rows = counted("a", NOW, &[("recvfrom", 100)]);
        rows.extend(readings("a"));
        let cost = idle_cost(&rows, "a").unwrap();
        assert_eq!(cost.bytes_per_connection, Some(300.0));
        assert_eq!(cost.kernel_bytes_per_connection, Some(8_000.0));
        assert_eq!(idle_cost(&rows, "b"), None);
    }
}
