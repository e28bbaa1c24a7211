//! A set on disk: the recorded outcome of one `measure`, written after every cell and read back.
//!
//! A folder `<parent>/<YYYY-MM-DD>.<n>/`, never overwritten, with
//!
//! - `plan.toml`: what was asked for, and so what is left to do when it was interrupted;
//! - `machine.toml`: where it was measured;
//! - `build.toml`: what was measured;
//! - `cells.csv`: one row a cell;
//! - `ledger.csv`: what was counted in passes of their own, because counting disturbs;
//! - `calibration.json`: what the generator can do on that machine;
//! - `<server>.hlog`: the histograms of its cells;
//! - `README.md`: generated from the above.
//!
//! The folder gets its name when it has its first files, so that a kill leaves a set or none. A row of
//! `cells.csv` is written whole or the cell was not measured: a last line without an end, left by a kill, is
//! dropped, and so are histograms without a row. Room for all rows is reserved beforehand: on a disk that
//! fills up, each cell still gets a row that says why it has no histograms.

mod cell;
pub mod ledger;
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

/// Version of the files of a set; it grows when a column or a key changes its meaning or goes.
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
    /// Its name; `<server>` stands for that of each server.
    pub name: &'static str,
    /// What is in it.
    pub what: &'static str,
}

/// All files that a set can have.
pub const FILES: [FileKind; 8] = {
    const fn file(name: &'static str, what: &'static str) -> FileKind {
        FileKind { name, what }
    }
    [
        file(README, "this page: provenance, tables, what was not valid"),
        file(CELLS, "one row a server, workload and round"),
        file(
            LEDGER,
            "system calls and events by server and workload, memory by server",
        ),
        file(
            HISTOGRAMS,
            "histograms of nanoseconds, HdrHistogram V2 interval logs",
        ),
        file(
            PLAN,
            "what was asked for: command, seed, servers, workloads",
        ),
        file(
            MACHINE,
            "where it was measured: CPU, kernel, pinning, sysctls",
        ),
        file(BUILD, "what was measured: revision, compiler, versions"),
        file(
            CALIBRATION,
            "what the generator can do on that machine, by `loadgen calibrate`",
        ),
    ]
};

/// The kinds of files that a set in this folder has; its README, which lists them, is one of them.
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

/// What the names of files and folders begin with that are not whole yet; a kill leaves them behind.
const UNFINISHED: &str = ".new-";

/// Room that is reserved for a row of `cells.csv`, whose texts are bounded so that it fits: figures take up to
/// 700 bytes, an error stands without them.
const ROW_BYTES: i64 = 2048;

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
    /// How often every cell is measured; so far, where [`Campaign::auto`] says when to end.
    pub rounds: u32,
    /// Names.
    pub servers: Vec<String>,
    /// The one server that all of these are, in an A/A measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aa: Option<String>,
    /// Which of them is the floor, what every architecture pays: it is never ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<String>,
    /// Which of them are somebody else's, and so not ranked with ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Whether system calls and memory are counted too, in passes of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ledger: bool,
    /// What each of them was handed beside its command in the catalogue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_args: Vec<String>,
    /// How the number of rounds is found, where it was not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
    /// The groups of each server that has some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_groups: BTreeMap<String, Vec<String>>,
    /// As they were driven, durations included.
    #[serde(rename = "workload")]
    pub workloads: Vec<Workload>,
}

/// Rounds until the leading ratios are known well enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Auto {
    /// How far the interval of a leading ratio may reach from it, as a share of it.
    pub precision: f64,
    /// No round is begun that would end later than this.
    #[serde(
        deserialize_with = "catalogue::duration",
        serialize_with = "catalogue::as_text"
    )]
    pub time_limit: Duration,
    /// There will be no further round.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

impl Campaign {
    /// Every cell in the order in which it is measured: by rounds, in each by workloads, and the servers of a workload
    /// one after another, so that cells that are compared are neighbours in time. The seed decides the order of
    /// workloads, and that of servers within each.
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
    /// What was left out because a kill had cut it off, a line each.
    pub cut_off: Vec<String>,
}

/// Why a set cannot be read or written. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{action} {}: {cause}", foreign::path(path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A folder that is not a set.
    #[error("{} is not a set: {missing} is missing", foreign::path(path))]
    NoSet {
        /// The folder.
        path: PathBuf,
        /// A file that every set has.
        missing: &'static str,
    },
    /// Somebody else writes the set.
    #[error(
        "{} is being written by {}: wait until it has ended, or end it",
        foreign::path(path),
        holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Busy {
        /// The folder.
        path: PathBuf,
        /// Which process, if that can be told.
        holder: Option<u32>,
    },
    /// A file that does not say what it should.
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
        /// From 1.
        line: Option<u64>,
        /// From 1, in characters.
        column: Option<u64>,
        /// What is wrong with it.
        message: String,
    },
    /// A set of another version of this program.
    #[error(
        "{}: the set is of schema {found}, this program reads {SCHEMA}",
        foreign::path(path)
    )]
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
    /// When it is not a set, of another schema, or damaged. A last row that was cut off is no damage.
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
        // While it is being written, what is written last is read first: rows of a round that the plan does
        // not have yet would be damage.
        let logs = read_logs(path)?;
        let rows = ledger::read(&path.join(LEDGER))?;
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
        for (log, bytes) in logs {
            let server = log.file_stem().and_then(OsStr::to_str);
            if campaign
                .servers
                .iter()
                .any(|it| Some(it.as_str()) == server)
            {
                let bytes = bytes?;
                cut_off.extend(logs::check(&log, &bytes, &campaign)?);
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
            cut_off,
        })
    }

    /// The name of its folder.
    pub fn name(&self) -> String {
        name_of(&self.path)
    }

    /// What is left to count in passes of their own, in order.
    pub fn missing_passes(&self) -> Vec<ledger::PassKey> {
        ledger::missing(&self.campaign, &self.ledger)
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
    /// Nobody else writes it meanwhile.
    _lock: Lock,
}

/// Whether this is a file that [`Writer`] has written: in a set, or in one that is not finished.
pub fn is_own_output(file: &Path) -> bool {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name().and_then(OsStr::to_str))
    else {
        return false;
    };
    is_name_of_a_set(name) && (is_set(folder) || is_unfinished(folder))
}

/// Whether files of this name stand in sets.
fn is_name_of_a_set(name: &str) -> bool {
    FILES.iter().any(|file| file.name == name)
        || name.ends_with(".hlog")
        || name.starts_with(UNFINISHED)
}

/// By its plan, and by the first columns of its rows.
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
    // Any folder of a source may have such a name: a pipe would not end.
    let has_rows = cells.is_file()
        && File::open(cells)
            .and_then(|mut cells| cells.read_exact(&mut start))
            .is_ok_and(|()| &start == b"server,workload,round,");
    has_rows && read_toml::<Begin>(&folder.join(PLAN)).is_ok()
}

/// A folder that a kill has left before it got its name: nothing stands in it that no set has.
fn is_unfinished(folder: &Path) -> bool {
    let name = folder.file_name().and_then(OsStr::to_str);
    let is_of_a_set = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|it| it.file_name().to_str().is_some_and(is_name_of_a_set))
    };
    name.is_some_and(|name| name.starts_with(UNFINISHED))
        && fs::read_dir(folder).is_ok_and(|mut entries| entries.all(is_of_a_set))
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
        Writer::create_calibrated(parent, campaign, machine, build, None)
    }

    /// As [`Writer::create`], and keeps what the generator can do on this machine with the set.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
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
            // As any new folder: the umask takes away what the user does not want.
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
        // It is not there any more by that name, and is not to be removed.
        let _ = unfinished.keep();
        Ok(writer)
    }

    /// Goes on with `set`: what a kill has left half written is removed first.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or somebody else does.
    pub fn resume(set: &Set) -> Result<Self, Error> {
        let lock = Lock::take(&set.path)?;
        Writer::resume_locked(set, lock)
    }

    /// As [`Writer::resume`], with the lock that was held while the set was read.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn resume_locked(set: &Set, lock: Lock) -> Result<Self, Error> {
        let cells = set.path.join(CELLS);
        let bytes = fs::read(&cells).map_err(io_error("reading", &cells))?;
        let lines = Lines::of(&cells, &bytes)?;
        if lines.text().lines().next() != Some(&columns().join(",")) {
            let message = "it lacks columns that are written now: it can be read, and not resumed";
            return Err(lines::damaged(&cells, 1, 1, message));
        }
        if lines.cut_off > 0 {
            write_atomically(&cells, lines.text())?;
        }
        ledger::drop_cut_off(&set.path.join(LEDGER))?;
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

    /// Records that there are more rounds now, or will be no more, and reserves room for so many more cells.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn renew_plan(&self, campaign: &Campaign, cells_more: usize) -> Result<(), Error> {
        self.reserve(cells_more)?;
        write_toml(&self.path.join(PLAN), campaign)
    }

    /// Makes sure that so many more rows can be written, whatever else fills up the disk.
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
            // Not every file system can; rows are then written for as long as there is room.
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

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a cell, and its histograms of nanoseconds by kind of latency; empty ones are left out, and
    /// those that [`hlog::stand_in`] says. When this returns, it is on the disk.
    ///
    /// # Errors
    ///
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

    /// Appends to the log of a server, and returns it with the length that it had before.
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

/// Gives back what was reserved and is not needed.
impl Drop for Writer {
    fn drop(&mut self) {
        let length = self.cells.metadata().map(|metadata| metadata.len());
        let _ = length.and_then(|length| self.cells.set_len(length));
    }
}

/// Gives a folder the name of a set, by the date and the first number that is free.
fn name_set(folder: &Path, parent: &Path) -> Result<PathBuf, Error> {
    let date = jiff::Zoned::now().date();
    let mut n = 1;
    loop {
        let path = parent.join(format!("{date}.{n}"));
        // A folder takes the place of nothing, or of an empty folder.
        match fs::rename(folder, &path) {
            Ok(()) => return Ok(path),
            Err(error) if path.symlink_metadata().is_err() => {
                return Err(io_error("creating", &path)(error));
            }
            Err(_) => n += 1,
        }
    }
}

/// Appends all of `bytes` to a file that was opened for appending, on the disk, or nothing.
fn append_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    // In one write, so that a kill leaves lines or a part of one, never a mixture.
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    if written.is_err() {
        // What was written of it must not become the beginning of the next line.
        file.set_len(length)?;
    }
    written
}

/// Replaces or creates a file as a whole: whoever reads it sees the old text or the new one. A file
/// that is there keeps its permissions, and a symbolic link its target.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_atomically(path: &Path, text: &str) -> Result<(), Error> {
    destination::write(path, text.as_bytes()).map_err(io_error("writing", path))
}

fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    foreign::path(Path::new(path.file_name().unwrap_or_default()))
}

/// What a histogram is known by within the log of its server.
fn tag(key: &Key, kind: &str) -> String {
    format!("{}:{}:{kind}", key.workload, key.round)
}

/// Removes files of a set that a kill has left half written.
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
        // Its head may be cut as well; with the first histogram it gets a new one.
        return fs::remove_file(path).map_err(io_error("removing", path));
    }
    match kept.len() < bytes.len() {
        true => write_atomically(path, &kept),
        false => Ok(()),
    }
}

/// The last of the columns that the first sets have; those behind it were added later.
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

/// The column of [`Cell::error`].
const ERROR: usize = 4;

/// Columns that may be below zero: memory that became less.
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
        return Err(lines.damage(1, 0, format!("no column `{missing}`")));
    }
    if let Some((at, unknown)) = header
        .iter()
        .enumerate()
        .find(|(_, name)| !expected.iter().any(|e| e == name))
    {
        return Err(lines.damage(1, at, format!("unknown column `{unknown}`")));
    }
    if !header.iter().eq(expected.iter().take(header.len())) {
        return Err(lines.damage(1, 0, "its columns are in another order"));
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
            return wrong(0, "neither an error nor a verdict".to_owned());
        }
        if let Some(first) = seen.insert(cell.key(), line) {
            return wrong(0, format!("the same cell as in line {first}"));
        }
    }
    // What servers said is shown in many places.
    let escaped = |text: Option<String>| text.map(|text| foreign::escaped(&text));
    let cells = rows.into_iter().map(|(_, cell)| Cell {
        error: escaped(cell.error),
        reasons: escaped(cell.reasons),
        errors_by_kind: escaped(cell.errors_by_kind),
        ..cell
    });
    Ok(cells.collect())
}

/// A file, and what it holds.
type Log = (PathBuf, Result<Vec<u8>, Error>);

/// The histogram logs in a set, which are of servers by their names.
/// What is wrong with one is wrong with the set only if it is of a server of the plan.
fn read_logs(path: &Path) -> Result<Vec<Log>, Error> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(path).map_err(io_error("reading", path))? {
        let log = entry.map_err(io_error("reading", path))?.path();
        if log.extension().is_some_and(|it| it == "hlog") {
            // One that has just been removed holds nothing.
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

/// A calibration may be of another schema, but must be one.
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
        // It ends with the place, which is told in its own way.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        lines::damaged(path, error.line() as u64, error.column().max(1), message)
    })
}

/// What a plan says must be possible: it makes file names, loops and sums.
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
        return wrong("rounds", format!("{rounds} is not from 1 to {most}"));
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
            // Halves of an A/A measurement have two bytes more.
            let stem = name
                .strip_suffix(".a")
                .or(name.strip_suffix(".b"))
                .unwrap_or(name);
            if let Err(why) = limits::check_name(stem) {
                return wrong(key, format!("{name:?} {why}"));
            }
            if !seen.insert(name) {
                return wrong(key, format!("`{name}` is there twice"));
            }
        }
        if names.is_empty() {
            return wrong(key, "there is none".to_owned());
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

/// The key of a number that no file of a set holds: below zero, infinite, or none.
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
