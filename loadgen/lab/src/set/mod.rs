//! A set on disk: the recorded outcome of one `measure`, written after every cell and read back.
//!
//! A set is a folder `<parent>/<YYYY-MM-DD>.<n>/`, never overwritten, with
//!
//! - `plan.toml`: the request, which also determines what is left to do after an interruption;
//! - `machine.toml`: the machine it was measured on;
//! - `build.toml`: the programs that were measured;
//! - `cells.csv`: one row per cell;
//! - `ledger.csv`: counts from separate passes, because counting disturbs;
//! - `calibration.json`: the limits of the generator on that machine;
//! - `<server>.hlog`: the histograms of its cells;
//! - `README.md`: generated from the above.
//!
//! The folder gets its name once it has its first files, so a kill leaves a whole set or none. A
//! row of `cells.csv` is written as a whole, or the cell was not measured: a last line without a
//! line end, left by a kill, is dropped, and so are histograms without a row. Space for all rows is
//! reserved beforehand: on a full disk, each cell still gets a row that says why it has no
//! histograms.

mod cell;
pub mod ledger_rows;
mod lines;
mod lock;
mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use cell::one_line;
pub use cell::{Cell, Key};
pub use lines::bytes_of;
use lines::{Lines, place};
pub use lock::Lock;

use crate::calibration;
use crate::calibration::Calibration;
use crate::hlog;
use engine::limits;
use engine::{destination, foreign};
use subject::catalogue;
use subject::catalogue::Workload;
use subject::machine::{Build, Machine};

/// Version of the files of a set; it grows when a column or a key changes its meaning or is
/// removed.
pub const SCHEMA: u32 = 1;

const PLAN: &str = "plan.toml";
const MACHINE: &str = "machine.toml";
const BUILD: &str = "build.toml";
const CELLS: &str = "cells.csv";
const LEDGER: &str = "ledger.csv";
const CALIBRATION: &str = "calibration.json";
const README: &str = "README.md";

const HISTOGRAMS: &str = "<server>.hlog";

/// A kind of file in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    /// The name; `<server>` stands for the name of each server.
    pub name: &'static str,
    /// The content, as described in the README.
    pub what: &'static str,
}

/// All files that a set can have.
pub const FILES: [FileKind; 8] = {
    const fn file(name: &'static str, what: &'static str) -> FileKind {
        FileKind { name, what }
    }
    [
        file(
            README,
            "this page: provenance, tables, results that are not valid",
        ),
        file(CELLS, "one row per server, workload and round"),
        file(
            LEDGER,
            "system calls and events by server and workload, memory by server",
        ),
        file(
            HISTOGRAMS,
            "histograms of nanoseconds, HdrHistogram V2 interval logs",
        ),
        file(PLAN, "the request: command, seed, servers, workloads"),
        file(MACHINE, "the machine: CPU, kernel, pinning, sysctls"),
        file(BUILD, "the programs: revision, compiler, versions"),
        file(
            CALIBRATION,
            "the limits of the generator on that machine, from `loadgen calibrate`",
        ),
    ]
};

/// The kinds of files in this folder, including the README, which lists them.
pub fn files_in(folder: &Path) -> Vec<&'static FileKind> {
    let names = fs::read_dir(folder).map(|entries| {
        let names = entries
            .filter_map(Result::ok)
            .map(|entry| entry.file_name());
        names.filter_map(|name| name.into_string().ok()).collect()
    });
    let names: Vec<String> = names.unwrap_or_default();
    let is_there = |file: &&FileKind| match file.name {
        README => true,
        HISTOGRAMS => names.iter().any(|name| name.ends_with(".hlog")),
        file => names.iter().any(|name| name == file),
    };
    FILES.iter().filter(is_there).collect()
}

/// The prefix of unfinished files and folders, which a kill leaves behind.
const UNFINISHED: &str = ".new-";

/// The space reserved for a row of `cells.csv`. Texts are bounded so that it fits: figures take up
/// to 700 bytes, and a row with an error has none.
const ROW_BYTES: i64 = 2048;

/// The content of `plan.toml`: the request of a `measure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The command that repeats the measurement.
    pub command: String,
    /// When the measurement began, UTC.
    pub started: String,
    /// Seed of the cell order.
    pub seed: u32,
    /// How often every cell is measured; the number so far if [`Campaign::auto`] decides when to
    /// end.
    pub rounds: u32,
    /// Names of the servers.
    pub servers: Vec<String>,
    /// The single server that all of these are, in an A/A measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aa: Option<String>,
    /// The server that is the floor, which is never ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<String>,
    /// The servers that are references, which are not ranked with ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Whether system calls and memory are also counted, in separate passes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ledger: bool,
    /// Additional arguments of each server, beyond its command in the catalogue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_args: Vec<String>,
    /// How the number of rounds is determined if it was not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
    /// The groups of each server that has some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_groups: BTreeMap<String, Vec<String>>,
    /// The workloads as they were run, durations included.
    #[serde(rename = "workload")]
    pub workloads: Vec<Workload>,
}

/// Settings for measuring rounds until the leading ratios are precise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Auto {
    /// The maximum distance of a leading ratio's interval ends, as a share of the ratio.
    pub precision: f64,
    /// No round begins that would end later than this.
    #[serde(
        deserialize_with = "catalogue::duration",
        serialize_with = "catalogue::as_text"
    )]
    pub time_limit: Duration,
    /// No further round will follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

impl Campaign {
    /// All cells in the order of measurement: by rounds, in each by workloads, and the servers of a workload one after
    /// another, so that compared cells are neighbours in time. The seed determines the order of workloads, and that
    /// of servers within each.
    pub fn cells(&self) -> Vec<Key> {
        let mut random = fastrand::Rng::with_seed(self.seed.into());
        let mut cells = Vec::new();
        for round in 1..=self.rounds {
            let mut workloads: Vec<&Workload> = self.workloads.iter().collect();
            random.shuffle(&mut workloads);
            for workload in workloads {
                let mut servers: Vec<&String> = self.servers.iter().collect();
                random.shuffle(&mut servers);
                cells.extend(servers.into_iter().map(|server| Key {
                    server: server.clone(),
                    workload: workload.name.clone(),
                    round,
                }));
            }
        }
        cells
    }

    /// The workload with this name.
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|workload| workload.name == name)
    }
}

/// A set that was read.
#[derive(Debug, Clone)]
pub struct Set {
    /// The folder.
    pub path: PathBuf,
    /// The request.
    pub campaign: Campaign,
    /// The machine it was measured on.
    pub machine: Machine,
    /// The programs that were measured.
    pub build: Build,
    /// The cells in the order of measurement.
    pub cells: Vec<Cell>,
    /// Counts from separate passes; absent in the first sets.
    pub ledger: Vec<ledger_rows::Row>,
    /// The interval log of each server that has one, checked: all of its histograms can be decoded.
    pub logs: BTreeMap<String, Vec<u8>>,
    /// One line for each part that was left out because a kill had cut it off.
    pub cut_off: Vec<String>,
}

/// Why a set cannot be read or written, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an action.
    #[error("{action} {}: {cause}", foreign::path(path))]
    Io {
        /// The action that was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The folder is not a set.
    #[error("{} is not a set: {missing} is missing", foreign::path(path))]
    NoSet {
        /// The folder.
        path: PathBuf,
        /// The missing file, which every set has.
        missing: &'static str,
    },
    /// Another process writes the set.
    #[error(
        "{} is being written by {}: wait until it has ended, or end it",
        foreign::path(path),
        holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Busy {
        /// The folder.
        path: PathBuf,
        /// The ID of that process, if known.
        holder: Option<u32>,
    },
    /// A file has unexpected content.
    #[error(
        "{}{}{}: {}",
        foreign::path(path),
        line.map(|line| format!(":{line}")).unwrap_or_default(),
        column.map(|column| format!(":{column}")).unwrap_or_default(),
        foreign::escaped(message)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: Option<u64>,
        /// Column number in characters, from 1.
        column: Option<u64>,
        /// What is wrong.
        message: String,
    },
    /// The set has the schema of another version of this program.
    #[error(
        "{}: the set has schema {found}, this program reads schema {SCHEMA}",
        foreign::path(path)
    )]
    Schema {
        /// The folder.
        path: PathBuf,
        /// The schema of the set.
        found: u32,
    },
}

impl Set {
    /// Reads the set in the folder `path`.
    ///
    /// # Errors
    ///
    /// If it is not a set, has another schema, or is damaged. A truncated last row is not damage.
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
        // Another process may be writing the set. Files that are written last are read first;
        // otherwise rows of a round that the plan does not have yet would be damage.
        let logs = read_logs(path)?;
        let rows = ledger_rows::read(&path.join(LEDGER))?;
        let cells_path = path.join(CELLS);
        let cells_bytes = read_file(&cells_path)?;
        let Version { schema } = read_toml(&path.join(PLAN))?;
        if schema != SCHEMA {
            return Err(Error::Schema {
                path: path.to_owned(),
                found: schema,
            });
        }
        let campaign: Campaign = read_toml(&path.join(PLAN))?;
        check_plan(&path.join(PLAN), &campaign)?;
        let lines = Lines::of(&cells_path, &cells_bytes)?;
        let cells = read_cells(&lines, &campaign)?;
        let mut cut_off: Vec<String> = lines.remark().into_iter().collect();
        let (ledger, remark) = rows.checked(&campaign)?;
        cut_off.extend(remark);
        let mut checked = BTreeMap::new();
        for (log, bytes) in logs {
            let server = log.file_stem().and_then(OsStr::to_str);
            let server = (campaign.servers.iter()).find(|it| Some(it.as_str()) == server);
            if let Some(server) = server {
                let bytes = bytes?;
                cut_off.extend(logs::check(&log, &bytes, &campaign)?);
                checked.insert(server.clone(), bytes);
            }
        }
        check_calibration(&path.join(CALIBRATION))?;
        Ok(Set {
            path: path.to_owned(),
            campaign,
            machine: read_toml(&path.join(MACHINE))?,
            build: read_toml(&path.join(BUILD))?,
            cells,
            ledger,
            logs: checked,
            cut_off,
        })
    }

    /// The name of the set's folder.
    pub fn name(&self) -> String {
        name_of(&self.path)
    }

    /// The passes that are left to make, in order.
    pub fn missing_passes(&self) -> Vec<ledger_rows::PassKey> {
        ledger_rows::missing(&self.campaign, &self.ledger)
    }

    /// The cells that are left to measure, in order.
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
    /// Times in the histogram logs count from here.
    start: SystemTime,
    cells: File,
    /// No other process writes the set meanwhile.
    _lock: Lock,
}

/// Whether [`Writer`] has written this file, in a set or in an unfinished one.
pub fn is_own_output(file: &Path) -> bool {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(OsStr::to_str))
    else {
        return false;
    };
    is_name_of_a_set(name) && (is_set(folder) || is_unfinished(folder))
}

/// Whether sets contain files with this name.
fn is_name_of_a_set(name: &str) -> bool {
    FILES.iter().any(|file| file.name == name)
        || name.ends_with(".hlog")
        || name.starts_with(UNFINISHED)
}

/// Whether a folder is a set, by its plan and the first columns of its rows.
fn is_set(folder: &Path) -> bool {
    #[derive(Deserialize)]
    struct Begin {
        #[serde(rename = "schema")]
        _schema: u32,
        #[serde(rename = "command")]
        _command: String,
    }
    let mut start = [0; 22];
    let cells = folder.join(CELLS);
    // Any source folder may contain such a name: reading a pipe would not end.
    let has_rows = cells.is_file()
        && File::open(cells)
            .and_then(|mut cells| cells.read_exact(&mut start))
            .is_ok_and(|()| &start == b"server,workload,round,");
    has_rows && read_toml::<Begin>(&folder.join(PLAN)).is_ok()
}

/// Whether a folder was left by a kill before it got its name: it contains only files that sets
/// have.
fn is_unfinished(folder: &Path) -> bool {
    let name = folder.file_name().and_then(OsStr::to_str);
    let is_of_a_set = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|it| it.file_name().to_str().is_some_and(is_name_of_a_set))
    };
    name.is_some_and(|name| name.starts_with(UNFINISHED))
        && fs::read_dir(folder).is_ok_and(|mut entries| entries.all(is_of_a_set))
}

/// Checks that sets can be created in `parent`, which is created if necessary.
///
/// # Errors
///
/// If they cannot.
pub fn check_parent(parent: &Path) -> Result<(), Error> {
    fs::create_dir_all(parent)
        .and_then(|()| tempfile::tempdir_in(parent))
        .and_then(tempfile::TempDir::close)
        .map_err(io_error("cannot write into", parent))
}

impl Writer {
    /// Creates a new set in `parent`, named by the date and the first free number.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn create(
        parent: &Path,
        campaign: &Campaign,
        machine: &Machine,
        build: &Build,
    ) -> Result<Self, Error> {
        Writer::create_calibrated(parent, campaign, machine, build, None)
    }

    /// Creates a new set like [`Writer::create`], and stores a calibration of the generator with
    /// it.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn create_calibrated(
        parent: &Path,
        campaign: &Campaign,
        machine: &Machine,
        build: &Build,
        calibration: Option<&Calibration>,
    ) -> Result<Self, Error> {
        fs::create_dir_all(parent).map_err(io_error("creating", parent))?;
        let unfinished = tempfile::Builder::new()
            .prefix(UNFINISHED)
            // The permissions of any new folder, which the umask reduces.
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .tempdir_in(parent)
            .map_err(io_error("creating a folder in", parent))?;
        let folder = unfinished.path();
        write_toml(&folder.join(PLAN), campaign)?;
        write_toml(&folder.join(MACHINE), machine)?;
        write_toml(&folder.join(BUILD), build)?;
        write_atomically(&folder.join(CELLS), &(columns().join(",") + "\n"))?;
        if let Some(calibration) = calibration {
            let path = folder.join(CALIBRATION);
            let text = serde_json::to_string_pretty(calibration).map_err(io::Error::from);
            let text = text.map_err(io_error("writing", &path))?;
            write_atomically(&path, &(text + "\n"))?;
        }
        let lock = Lock::take(folder)?;
        let mut writer = Writer::open(folder.to_owned(), campaign, lock)?;
        writer.reserve(campaign.cells().len())?;
        writer.path = name_set(folder, parent)?;
        // The folder no longer exists under that name and must not be removed.
        let _ = unfinished.keep();
        Ok(writer)
    }

    /// Continues `set`: what a kill left half written is removed first.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or another process writes it.
    pub fn resume(set: &Set) -> Result<Self, Error> {
        let lock = Lock::take(&set.path)?;
        Writer::resume_locked(set, lock)
    }

    /// Continues `set` like [`Writer::resume`], with the lock that was held while the set was read.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn resume_locked(set: &Set, lock: Lock) -> Result<Self, Error> {
        let cells = set.path.join(CELLS);
        let bytes = fs::read(&cells).map_err(io_error("reading", &cells))?;
        let lines = Lines::of(&cells, &bytes)?;
        if lines.text().lines().next() != Some(&columns().join(",")) {
            let message = "it lacks columns of this version: it can be read but not resumed";
            return Err(lines::damaged(&cells, 1, 1, message));
        }
        if lines.cut_off > 0 {
            write_atomically(&cells, lines.text())?;
        }
        ledger_rows::drop_cut_off(&set.path.join(LEDGER))?;
        drop_unfinished(&set.path)?;
        for server in &set.campaign.servers {
            let rows = set.cells.iter().filter(|cell| cell.server == *server);
            let tags = rows.map(|cell| tag(&cell.key(), "")).collect::<Vec<_>>();
            drop_histograms_without_row(&set.path.join(format!("{server}.hlog")), &tags)?;
        }
        let writer = Writer::open(set.path.clone(), &set.campaign, lock)?;
        writer.reserve(set.missing().len())?;
        Ok(writer)
    }

    /// Records that there are more rounds, or that no more will follow, and reserves space for
    /// additional cells.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn renew_plan(&self, campaign: &Campaign, cells_more: usize) -> Result<(), Error> {
        self.reserve(cells_more)?;
        write_toml(&self.path.join(PLAN), campaign)
    }

    /// Ensures that this many more rows can be written, whatever else fills the disk.
    fn reserve(&self, rows: usize) -> Result<(), Error> {
        let path = self.path.join(CELLS);
        let io_error = io_error("reserving room for", &path);
        let length = self.cells.metadata().map_err(&io_error)?.len();
        let (offset, room) = (length.cast_signed(), rows as i64 * ROW_BYTES);
        if room == 0 {
            return Ok(());
        }
        match fallocate(
            &self.cells,
            FallocateFlags::FALLOC_FL_KEEP_SIZE,
            offset,
            room,
        ) {
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => Err(io_error(errno.into())),
            // Some file systems cannot reserve space; rows are then written as long as there is
            // room.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn open(path: PathBuf, campaign: &Campaign, lock: Lock) -> Result<Self, Error> {
        let plan = path.join(PLAN);
        let start: jiff::Timestamp = campaign.started.parse().map_err(|error| Error::Damaged {
            path: plan,
            line: None,
            column: None,
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
            _lock: lock,
        })
    }

    /// The folder of the set.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a cell, and its histograms of nanoseconds by kind of latency; empty ones are left
    /// out, and those that [`hlog::stand_in`] replaces. On return, they are on the disk.
    ///
    /// # Errors
    ///
    /// If it cannot be written. The set then contains nothing of the cell.
    /// When it cannot be written. Nothing of the cell is in the set then.
    pub fn append(
        &mut self,
        cell: &Cell,
        histograms: &[(&str, &Histogram<u64>)],
        begin: SystemTime,
        duration: Duration,
    ) -> Result<(), Error> {
        let lines = self
            .lines(cell, histograms, begin, duration)
            .map_err(io_error("writing the histograms of", &self.path))?;
        let mut row = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(Vec::new());
        row.serialize(cell).expect("a cell is a flat row");
        let row = row.into_inner().expect("writing to memory does not fail");

        // The row comes last: it says that the cell is complete.
        let log = match lines.is_empty() {
            true => None,
            false => Some(self.append_histograms(&cell.server, &lines)?),
        };
        append_whole(&mut self.cells, &row).map_err(|error| {
            if let Some((log, length)) = log {
                let _ = log.set_len(length);
            }
            io_error("writing", &self.path.join(CELLS))(error)
        })
    }

    /// The lines of an interval log for these histograms.
    fn lines(
        &self,
        cell: &Cell,
        histograms: &[(&str, &Histogram<u64>)],
        begin: SystemTime,
        duration: Duration,
    ) -> io::Result<Vec<u8>> {
        // A clock that was set back must not lose the cell.
        let since_start = begin.duration_since(self.start).unwrap_or_default();
        let mut lines = Vec::new();
        for (kind, histogram) in hlog::worth_writing(histograms) {
            let tag = tag(&cell.key(), kind);
            hlog::append(&mut lines, since_start, duration, &tag, &histogram)?;
        }
        Ok(lines)
    }

    /// Appends to the log of a server, and returns the log with its previous length.
    fn append_histograms(&self, server: &str, lines: &[u8]) -> Result<(File, u64), Error> {
        let path = self.path.join(format!("{server}.hlog"));
        let append = || {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            let length = file.metadata()?.len();
            let mut text = Vec::new();
            if length == 0 {
                hlog::write_head(&mut text, self.start)?;
            }
            text.extend_from_slice(lines);
            append_whole(&mut file, &text)?;
            Ok((file, length))
        };
        append().map_err(io_error("writing", &path))
    }

    /// Appends the counts of a server under a workload. On return, they are on the disk.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn append_ledger(&self, rows: &[ledger_rows::Row]) -> Result<(), Error> {
        let path = self.path.join(LEDGER);
        ledger_rows::append(&path, rows).map_err(io_error("writing", &path))
    }

    /// Rewrites `machine.toml`.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write_machine(&self, machine: &Machine) -> Result<(), Error> {
        write_toml(&self.path.join(MACHINE), machine)
    }

    /// Rewrites `README.md`.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write_readme(&self, text: &str) -> Result<(), Error> {
        write_atomically(&self.path.join(README), text)
    }
}

/// Releases reserved space that is not needed.
impl Drop for Writer {
    fn drop(&mut self) {
        let length = self.cells.metadata().map(|metadata| metadata.len());
        let _ = length.and_then(|length| self.cells.set_len(length));
    }
}

/// Names a folder as a set, by the date and the first free number.
fn name_set(folder: &Path, parent: &Path) -> Result<PathBuf, Error> {
    let date = jiff::Zoned::now().date();
    let mut n = 1;
    loop {
        let path = parent.join(format!("{date}.{n}"));
        // A folder can replace nothing, or an empty folder.
        match fs::rename(folder, &path) {
            Ok(()) => return Ok(path),
            Err(error) if path.symlink_metadata().is_err() => {
                return Err(io_error("creating", &path)(error));
            }
            Err(_) => n += 1,
        }
    }
}

/// Appends all of `bytes` to a file opened for appending, durably, or nothing.
fn append_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    // A single write, so that a kill leaves whole lines or a part of one, never a mixture.
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    if written.is_err() {
        // The written part must not become the start of the next line.
        file.set_len(length)?;
    }
    written
}

/// Replaces or creates a file as a whole: a reader sees the old text or the new one. An existing
/// file keeps its permissions, and a symbolic link its target.
///
/// # Errors
///
/// If it cannot be written.
/// When it cannot be written.
pub fn write_atomically(path: &Path, text: &str) -> Result<(), Error> {
    destination::write(path, text.as_bytes()).map_err(io_error("writing", path))
}

fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    foreign::path(Path::new(path.file_name().unwrap_or_default()))
}

/// The tag that identifies a histogram in the log of its server.
fn tag(key: &Key, kind: &str) -> String {
    format!("{}:{}:{kind}", key.workload, key.round)
}

/// Removes files of a set that a kill left half written.
fn drop_unfinished(path: &Path) -> Result<(), Error> {
    let drop_all = || {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    drop_all().map_err(io_error("removing what is not finished in", path))
}

fn drop_histograms_without_row(path: &Path, tags: &[String]) -> Result<(), Error> {
    let Some(bytes) = bytes_of(path)? else {
        return Ok(());
    };
    let has_row = |line: &&str| match line.strip_prefix("Tag=") {
        Some(tagged) => tags.iter().any(|tag| tagged.starts_with(tag)),
        None => true,
    };
    let lines = Lines::of(path, &bytes)?;
    let kept: String = (lines.text().split_inclusive('\n'))
        .filter(has_row)
        .collect();
    if !kept.contains("\nTag=") {
        // The head may be truncated as well; the first histogram gets a new one.
        return fs::remove_file(path).map_err(io_error("removing", path));
    }
    match kept.len() < bytes.len() {
        true => write_atomically(path, &kept),
        false => Ok(()),
    }
}

/// The last column of the first sets; later columns were added since.
const LAST_OF_THE_FIRST: &str = "client_context_switches";

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

/// The index of the column [`Cell::error`].
const ERROR: usize = 4;

/// Columns that may be negative: memory may have decreased.
const SIGNED: [&str; 2] = [
    "server_bytes_per_idle_connection",
    "kernel_bytes_per_idle_connection",
];

fn read_cells(lines: &Lines<'_>, campaign: &Campaign) -> Result<Vec<Cell>, Error> {
    let header = lines.header()?;
    let expected = columns();
    let first = expected.iter().position(|name| name == LAST_OF_THE_FIRST);
    let required = first.map_or(&expected[..], |last| &expected[..=last]);
    if let Some(missing) = required
        .iter()
        .find(|name| !header.iter().any(|h| h == *name))
    {
        return Err(lines.damage(1, 0, format!("column `{missing}` is missing")));
    }
    if let Some((at, unknown)) = header
        .iter()
        .enumerate()
        .find(|(_, name)| !expected.iter().any(|e| e == name))
    {
        return Err(lines.damage(1, at, format!("unknown column `{unknown}`")));
    }
    if !header.iter().eq(expected.iter().take(header.len())) {
        return Err(lines.damage(1, 0, "the columns are in another order"));
    }
    let rows: Vec<(u64, Cell)> = lines.rows(&header, &SIGNED)?;
    let mut seen = BTreeMap::new();
    for (line, cell) in &rows {
        let wrong = |field: usize, message: String| Err(lines.damage(*line, field, message));
        if !campaign.servers.contains(&cell.server) {
            return wrong(0, format!("no server `{}` in {PLAN}", cell.server));
        }
        if campaign.workload(&cell.workload).is_none() {
            return wrong(1, format!("no workload `{}` in {PLAN}", cell.workload));
        }
        if !(1..=campaign.rounds).contains(&cell.round) {
            let message = format!("round {} of {} in {PLAN}", cell.round, campaign.rounds);
            return wrong(2, message);
        }
        if let Err(error) = cell.started.parse::<jiff::Timestamp>() {
            return wrong(3, format!("`started`: {error}"));
        }
        if cell.error.is_some()
            && let Some(field) = lines.first_after(*line, ERROR, &[])?
        {
            let name = header.get(field).unwrap_or_default();
            let message = format!("column `{name}`: there is an error, so it should be empty");
            return wrong(field, message);
        }
        if cell.error.is_none() && cell.verdict.is_none() {
            return wrong(0, "there is neither an error nor a verdict".to_owned());
        }
        if let Some(first) = seen.insert(cell.key(), line) {
            return wrong(0, format!("the same cell as in line {first}"));
        }
    }
    // Texts from servers are shown in many places.
    let escaped = |text: Option<String>| text.map(|text| foreign::escaped(&text));
    let cells = rows.into_iter().map(|(_, cell)| Cell {
        error: escaped(cell.error),
        reasons: escaped(cell.reasons),
        errors_by_kind: escaped(cell.errors_by_kind),
        ..cell
    });
    Ok(cells.collect())
}

/// The path of a log, and its content.
type Log = (PathBuf, Result<Vec<u8>, Error>);

/// The histogram logs in a set, one per server by name. A faulty log is a fault of the set only if
/// its server is in the plan.
fn read_logs(path: &Path) -> Result<Vec<Log>, Error> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(path).map_err(io_error("reading", path))? {
        let log = entry.map_err(io_error("reading", path))?.path();
        if log.extension().is_some_and(|it| it == "hlog") {
            // A log that was just removed is empty.
            if let Some(bytes) = bytes_of(&log).transpose() {
                logs.push((log, bytes));
            }
        }
    }
    logs.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(logs)
}

/// The bytes of a file that every set has.
fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let absent = || io_error("reading", path)(io::ErrorKind::NotFound.into());
    bytes_of(path)?.ok_or_else(absent)
}

/// A calibration may have another schema, but must be one.
fn check_calibration(path: &Path) -> Result<(), Error> {
    #[derive(Deserialize)]
    #[serde(expecting = "a calibration")]
    struct Version {
        schema: u64,
    }
    let Some(bytes) = bytes_of(path)? else {
        return Ok(());
    };
    let text = lines::text(path, &bytes)?;
    let checked = match serde_json::from_str(text) {
        Ok(Version { schema }) if schema != u64::from(calibration::SCHEMA) => return Ok(()),
        Ok(_) => serde_json::from_str::<Calibration>(text).map(|_| ()),
        Err(error) => Err(error),
    };
    checked.map_err(|error| {
        // serde's message ends with the position, which is reported separately.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        lines::damaged(path, error.line() as u64, error.column().max(1), message)
    })
}

/// Checks that a plan is plausible, since it determines file names, loops and sums.
fn check_plan(path: &Path, campaign: &Campaign) -> Result<(), Error> {
    let bytes = read_file(path)?;
    let text = lines::text(path, &bytes)?;
    let wrong = |key: &str, message: String| {
        let (line, column) = place(text, value_of(text, key).unwrap_or_default());
        Err(lines::damaged(
            path,
            line,
            column,
            format!("`{key}`: {message}"),
        ))
    };
    if !(1..=limits::ROUNDS_MAX).contains(&campaign.rounds) {
        let (rounds, most) = (campaign.rounds, limits::ROUNDS_MAX);
        return wrong("rounds", format!("{rounds} is not between 1 and {most}"));
    }
    if let Err(error) = campaign.started.parse::<jiff::Timestamp>() {
        return wrong("started", error.to_string());
    }
    let workloads = campaign.workloads.iter().map(|it| &it.name);
    let names = [
        ("servers", campaign.servers.iter().collect::<Vec<_>>()),
        ("name", workloads.collect()),
    ];
    for (key, names) in names {
        let mut seen = BTreeSet::new();
        for name in &names {
            // The names of the two sides of an A/A measurement are two bytes longer.
            let stem = name
                .strip_suffix(".a")
                .or(name.strip_suffix(".b"))
                .unwrap_or(name);
            if let Err(why) = limits::check_name(stem) {
                return wrong(key, format!("{name:?} {why}"));
            }
            if !seen.insert(name) {
                return wrong(key, format!("`{name}` is listed twice"));
            }
        }
        if names.is_empty() {
            return wrong(key, "the list is empty".to_owned());
        }
    }
    let roles = [
        ("floor", campaign.floor.iter().collect::<Vec<_>>()),
        ("references", campaign.references.iter().collect()),
    ];
    for (key, names) in roles {
        let unknown = names.into_iter().find(|it| !campaign.servers.contains(it));
        if let Some(name) = unknown {
            return wrong(key, format!("{name:?} is not among `servers`"));
        }
    }
    for workload in &campaign.workloads {
        for (key, is_zero) in [
            ("connections", workload.connections == 0),
            ("pipeline", workload.pipeline == 0),
            ("duration", workload.duration.is_zero()),
        ] {
            if is_zero {
                return wrong(key, format!("zero in `{}`", workload.name));
            }
        }
    }
    Ok(())
}

/// Where the value of the first such key begins.
fn value_of(text: &str, key: &str) -> Option<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(value) = line.trim_start().strip_prefix(key)
            && let Some(value) = value.trim_start().strip_prefix('=')
        {
            return Some(start + line.len() - value.trim_start().len());
        }
        start += line.len();
    }
    None
}

fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = read_file(path)?;
    let text = lines::text(path, &bytes)?;
    let damaged = |error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let (line, column) = place(text, at);
        let message = error.message().lines().map(str::trim).collect::<Vec<_>>();
        let mut message = message.join("; ");
        if let Some(key) = catalogue::key_at(text, at)
            && !message.contains(&format!("`{key}`"))
        {
            message = format!("`{key}`: {message}");
        }
        lines::damaged(path, line, column, message)
    };
    let table: toml::Table = toml::from_str(text).map_err(|error| damaged(&error))?;
    if let Some(key) = impossible_number(&table) {
        let (line, column) = place(text, value_of(text, &key).unwrap_or_default());
        let message = format!("`{key}`: below zero, or not a finite number");
        return Err(lines::damaged(path, line, column, message));
    }
    toml::from_str(text).map_err(|error| damaged(&error))
}

/// The key of a number that no file of a set contains: negative, infinite or NaN.
fn impossible_number(table: &toml::Table) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let of_value = |value: &toml::Value| match value {
            toml::Value::Integer(number) if *number < 0 => Some(key.clone()),
            toml::Value::Float(number) if !number.is_finite() || number.is_sign_negative() => {
                Some(key.clone())
            }
            toml::Value::Table(table) => impossible_number(table),
            _ => None,
        };
        match value {
            toml::Value::Array(values) => values.iter().find_map(of_value),
            value => of_value(value),
        }
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
