//! A set on disk: the recorded outcome of one `measure`, written after every cell and read back.
//!
//! A folder `<parent>/<YYYY-MM-DD>.<n>/`, never overwritten, with
//!
//! - `plan.toml`: what was asked for, and so what is left to do when it was interrupted;
//! - `machine.toml` and `build.toml`: where, and with what, it was measured;
//! - `cells.csv`: one row a cell;
//! - `ledger.csv`: what was counted in passes of their own, because counting disturbs;
//! - `<server>.hlog`: the histograms of its cells;
//! - `README.md`: generated from the above.
//!
//! A row of `cells.csv` is written whole or the cell was not measured: a last line without an end, left
//! by a kill, is dropped, and so are histograms without a row.

mod cell;
pub mod hlog;
pub mod ledger;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use cell::{Cell, Key};

use crate::calibration::Calibration;
use crate::catalogue::Workload;
use crate::machine::{Build, Machine};

/// Version of the files of a set; it grows when a column or a key changes its meaning or goes.
pub const SCHEMA: u32 = 1;

const PLAN: &str = "plan.toml";
const MACHINE: &str = "machine.toml";
const BUILD: &str = "build.toml";
const CELLS: &str = "cells.csv";
const LEDGER: &str = "ledger.csv";
const CALIBRATION: &str = "calibration.json";
const README: &str = "README.md";

/// `plan.toml`: what a `measure` was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The command that does the same again.
    pub command: String,
    /// When it began, UTC.
    pub started: String,
    /// Of the order of cells.
    pub seed: u32,
    /// How often every cell is measured.
    pub rounds: u32,
    /// Names.
    pub servers: Vec<String>,
    /// Which of them is the floor, what every architecture pays: it is never ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<String>,
    /// Which of them are somebody else's, and so not ranked with ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// What each of them was handed beside its command in the catalogue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_args: Vec<String>,
    /// As they were driven, durations included.
    #[serde(rename = "workload")]
    pub workloads: Vec<Workload>,
}

impl Campaign {
    /// Every cell in the order in which it is measured: by rounds, each in an order of its own that
    /// the seed decides.
    pub fn cells(&self) -> Vec<Key> {
        let mut random = fastrand::Rng::with_seed(self.seed.into());
        let mut cells = Vec::new();
        for round in 1..=self.rounds {
            let mut keys: Vec<Key> = self
                .workloads
                .iter()
                .flat_map(|workload| self.servers.iter().map(move |server| (server, workload)))
                .map(|(server, workload)| Key {
                    server: server.clone(),
                    workload: workload.name.clone(),
                    round,
                })
                .collect();
            random.shuffle(&mut keys);
            cells.append(&mut keys);
        }
        cells
    }

    /// The workload of that name.
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.name == name)
    }
}

/// What stands in a set.
#[derive(Debug, Clone)]
pub struct Set {
    /// Its folder.
    pub path: PathBuf,
    /// What was asked for.
    pub campaign: Campaign,
    /// Where it was measured.
    pub machine: Machine,
    /// What was measured.
    pub build: Build,
    /// In the order of measurement.
    pub cells: Vec<Cell>,
    /// What was counted in passes of their own; the first sets have none.
    pub ledger: Vec<ledger::Row>,
}

/// Why a set cannot be read or written. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A folder that is no set.
    #[error("{} is no set: it has no {missing}", path.display())]
    NoSet {
        /// The folder.
        path: PathBuf,
        /// A file that every set has.
        missing: &'static str,
    },
    /// A file that does not say what it should.
    #[error("{}{}: {message}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: Option<u64>,
        /// What is wrong with it.
        message: String,
    },
    /// A set of another version of this program.
    #[error("{}: the set is of schema {found}, this program reads {SCHEMA}", path.display())]
    Schema {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Set {
    /// Reads the set in the folder `path`.
    ///
    /// # Errors
    ///
    /// When it is no set, of another schema, or damaged. A last row that was cut off is no damage.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if let Some(missing) = [PLAN, MACHINE, BUILD, CELLS]
            .into_iter()
            .find(|file| !path.join(file).is_file())
        {
            return Err(Error::NoSet {
                path: path.to_owned(),
                missing,
            });
        }
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = read_toml(&path.join(PLAN))?;
        if schema != SCHEMA {
            return Err(Error::Schema {
                path: path.to_owned(),
                found: schema,
            });
        }
        Ok(Set {
            path: path.to_owned(),
            campaign: read_toml(&path.join(PLAN))?,
            machine: read_toml(&path.join(MACHINE))?,
            build: read_toml(&path.join(BUILD))?,
            cells: read_cells(&path.join(CELLS))?,
            ledger: ledger::read(&path.join(LEDGER))?,
        })
    }

    /// The name of its folder.
    pub fn name(&self) -> String {
        name_of(&self.path)
    }

    /// What is left to measure, in order.
    pub fn missing(&self) -> Vec<Key> {
        let done: BTreeSet<Key> = self.cells.iter().map(Cell::key).collect();
        let mut cells = self.campaign.cells();
        cells.retain(|key| !done.contains(key));
        cells
    }
}

/// Writes a set.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    /// The times in the histogram logs count from here.
    start: SystemTime,
    cells: File,
}

/// Makes sure that sets can be created in `parent`, which is created if need be.
///
/// # Errors
///
/// When they cannot.
pub fn check_parent(parent: &Path) -> Result<(), Error> {
    fs::create_dir_all(parent)
        .and_then(|()| tempfile::tempdir_in(parent))
        .and_then(tempfile::TempDir::close)
        .map_err(io_error("cannot write into", parent))
}

impl Writer {
    /// Creates a new set in `parent`, named by the date and the first number that is free.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(
        parent: &Path,
        campaign: &Campaign,
        machine: &Machine,
        build: &Build,
    ) -> Result<Self, Error> {
        fs::create_dir_all(parent).map_err(io_error("creating", parent))?;
        let date = jiff::Zoned::now().date();
        let mut n = 1;
        let path = loop {
            let path = parent.join(format!("{date}.{n}"));
            // Not `create_dir_all`: that would be content with a set that is there.
            match fs::create_dir(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
                Err(error) => return Err(io_error("creating", &path)(error)),
            }
        };
        write_toml(&path.join(PLAN), campaign)?;
        write_toml(&path.join(MACHINE), machine)?;
        write_toml(&path.join(BUILD), build)?;
        write_atomically(&path.join(CELLS), &(columns().join(",") + "\n"))?;
        Writer::open(path, campaign)
    }

    /// Keeps what the generator can do on this machine with the set.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn keep(&self, calibration: &Calibration) -> Result<(), Error> {
        let path = self.path.join(CALIBRATION);
        let text = serde_json::to_string_pretty(calibration).map_err(io::Error::from);
        let text = text.map_err(io_error("writing", &path))?;
        write_atomically(&path, &(text + "\n"))
    }

    /// Goes on with `set`: what a kill has left half written is removed first.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn resume(set: &Set) -> Result<Self, Error> {
        let cells = set.path.join(CELLS);
        let text = fs::read_to_string(&cells).map_err(io_error("reading", &cells))?;
        let whole = whole_lines(&text);
        if whole.lines().next() != Some(&columns().join(",")) {
            return Err(Error::Damaged {
                path: cells,
                line: Some(1),
                message: "it lacks columns that are written now: it can be read, and not resumed"
                    .to_owned(),
            });
        }
        if whole.len() < text.len() {
            write_atomically(&cells, whole)?;
        }
        for server in &set.campaign.servers {
            let rows = set.cells.iter().filter(|cell| cell.server == *server);
            let tags = rows.map(|cell| tag(&cell.key(), "")).collect::<Vec<_>>();
            drop_histograms_without_row(&set.path.join(format!("{server}.hlog")), &tags)?;
        }
        Writer::open(set.path.clone(), &set.campaign)
    }

    fn open(path: PathBuf, campaign: &Campaign) -> Result<Self, Error> {
        let plan = path.join(PLAN);
        let start: jiff::Timestamp = campaign.started.parse().map_err(|error| Error::Damaged {
            path: plan,
            line: None,
            message: format!("`started`: {error}"),
        })?;
        let file = path.join(CELLS);
        let cells = OpenOptions::new()
            .append(true)
            .open(&file)
            .map_err(io_error("opening", &file))?;
        Ok(Writer {
            path,
            start: start.into(),
            cells,
        })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a cell, and its histograms of nanoseconds by kind of latency; empty ones are left out.
    /// When this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn append(
        &mut self,
        cell: &Cell,
        histograms: &[(&str, &Histogram<u64>)],
        begin: SystemTime,
        duration: Duration,
    ) -> Result<(), Error> {
        // The row comes last: it says that the cell is complete.
        if histograms
            .iter()
            .any(|(_, histogram)| !histogram.is_empty())
        {
            let path = self.path.join(format!("{}.hlog", cell.server));
            self.append_histograms(&path, cell, histograms, begin, duration)
                .map_err(io_error("writing", &path))?;
        }
        let mut row = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(Vec::new());
        row.serialize(cell).expect("a cell is a flat row");
        let row = row.into_inner().expect("writing to memory does not fail");
        // In one write, so that a kill leaves a row or a part of one, never a mixture.
        self.cells
            .write_all(&row)
            .and_then(|()| self.cells.sync_data())
            .map_err(io_error("writing", &self.path.join(CELLS)))
    }

    fn append_histograms(
        &self,
        path: &Path,
        cell: &Cell,
        histograms: &[(&str, &Histogram<u64>)],
        begin: SystemTime,
        duration: Duration,
    ) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let mut lines = Vec::new();
        if file.metadata()?.len() == 0 {
            hlog::write_head(&mut lines, self.start)?;
        }
        // A clock that was set back must not lose the cell.
        let since_start = begin.duration_since(self.start).unwrap_or_default();
        for (kind, histogram) in histograms {
            if !histogram.is_empty() {
                hlog::append(
                    &mut lines,
                    since_start,
                    duration,
                    &tag(&cell.key(), kind),
                    histogram,
                )?;
            }
        }
        file.write_all(&lines)?;
        file.sync_data()
    }

    /// Appends what was counted of a server under a workload. When this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn append_ledger(&self, rows: &[ledger::Row]) -> Result<(), Error> {
        let path = self.path.join(LEDGER);
        ledger::append(&path, rows).map_err(io_error("writing", &path))
    }

    /// Renews `machine.toml`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_machine(&self, machine: &Machine) -> Result<(), Error> {
        write_toml(&self.path.join(MACHINE), machine)
    }

    /// Renews `README.md`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_readme(&self, text: &str) -> Result<(), Error> {
        write_atomically(&self.path.join(README), text)
    }
}

/// Replaces or creates a file as a whole: whoever reads it sees the old text or the new one. A file
/// that is there keeps its permissions, and a symbolic link its target.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_atomically(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::Builder::new()
            .permissions(match path.metadata() {
                Ok(metadata) => metadata.permissions(),
                // As any new file: the umask takes away what the user does not want.
                Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o666),
            })
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(io_error("writing", path))
}

fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What a histogram is known by within the log of its server.
fn tag(key: &Key, kind: &str) -> String {
    format!("{}:{}:{kind}", key.workload, key.round)
}

fn drop_histograms_without_row(path: &Path, tags: &[String]) -> Result<(), Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("reading", path)(error)),
    };
    let has_row = |line: &&str| match line.strip_prefix("Tag=") {
        Some(tagged) => tags.iter().any(|tag| tagged.starts_with(tag)),
        None => true,
    };
    let kept: String = whole_lines(&text)
        .split_inclusive('\n')
        .filter(has_row)
        .collect();
    match kept.len() < text.len() {
        true => write_atomically(path, &kept),
        false => Ok(()),
    }
}

/// `text` up to its last line end.
fn whole_lines(text: &str) -> &str {
    &text[..text.rfind('\n').map_or(0, |end| end + 1)]
}

/// Columns at the end that the first sets lack.
const COLUMNS_ADDED: usize = 14;

/// The names of the columns of `cells.csv`, in order.
fn columns() -> Vec<String> {
    let key = Key {
        server: String::new(),
        workload: String::new(),
        round: 0,
    };
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.serialize(Cell::empty(&key, String::new()))
        .expect("a cell is a flat row");
    let text = rows.into_inner().expect("writing to memory does not fail");
    let text = String::from_utf8(text).expect("names are ASCII");
    let header = text.lines().next().expect("the header comes first");
    header.split(',').map(str::to_owned).collect()
}

fn read_cells(path: &Path) -> Result<Vec<Cell>, Error> {
    let damaged = |line, message| Error::Damaged {
        path: path.to_owned(),
        line,
        message,
    };
    let bytes = fs::read(path).map_err(io_error("reading", path))?;
    // A character that was cut is in the line that is dropped.
    let text = String::from_utf8_lossy(&bytes);
    let mut rows = csv::Reader::from_reader(whole_lines(&text).as_bytes());
    let header = rows
        .headers()
        .map_err(|error| damaged(Some(1), error.to_string()))?;
    let expected = columns();
    let (required, _) = expected.split_at(expected.len() - COLUMNS_ADDED);
    if let Some(missing) = required
        .iter()
        .find(|name| !header.iter().any(|h| h == *name))
    {
        return Err(damaged(Some(1), format!("no column `{missing}`")));
    }
    if let Some(unknown) = header
        .iter()
        .find(|name| !expected.iter().any(|e| e == name))
    {
        return Err(damaged(Some(1), format!("unknown column `{unknown}`")));
    }
    if !header.iter().eq(expected.iter().take(header.len())) {
        return Err(damaged(
            Some(1),
            "its columns are in another order".to_owned(),
        ));
    }
    rows.deserialize()
        .map(|row| {
            row.map_err(|error: csv::Error| {
                let line = error.position().map(csv::Position::line);
                damaged(line, reason_of_row(&error, &expected))
            })
        })
        .collect()
}

/// What is wrong with a row of these columns, without its position, which csv would give in its own way.
fn reason_of_row(error: &csv::Error, columns: &[String]) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => {
            let field = err.field().and_then(|field| columns.get(field as usize));
            match field {
                Some(column) => format!("column `{column}`: {}", err.kind()),
                None => err.kind().to_string(),
            }
        }
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} columns instead of {expected_len}"),
        _ => error.to_string(),
    }
}

fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(io_error("reading", path))?;
    toml::from_str(&text).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        line: error
            .span()
            .map(|span| text[..span.start].matches('\n').count() as u64 + 1),
        message: error.message().to_owned(),
    })
}

fn write_toml(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = toml::to_string(value)
        .map_err(io::Error::other)
        .map_err(io_error("writing", path))?;
    write_atomically(path, &text)
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::Io {
        action,
        path: path.clone(),
        cause,
    }
}
