//! The source that was built: its revision, and a hash of the uncommitted changes.
//!
//! Git is only asked for lists of names, in a way that the user's settings and environment do not
//! affect; uncommitted files are then read here. The user's index is not used, so a flag in it
//! cannot hide a change.
//!
//! The state of the working tree is asked of a scratch repository: it uses the commit's objects and
//! the working tree of the user, but not the settings and attributes in `.git`. So only the commit,
//! `.gitignore` and `.gitattributes` decide which files count and how line ends are compared, and
//! git runs no filter program, since none is configured.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hmac_sha256::Hash as Sha256;
use tempfile::TempDir;

use super::ask::{Patience, ask};
use engine::foreign;

/// What is known about the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) revision: Option<String>,
    /// Whether there are uncommitted changes; `None` if that cannot be determined.
    pub(super) dirty: Option<bool>,
    /// A hash of those changes; `None` without changes.
    pub(super) changes: Option<String>,
    /// Why something is not known.
    pub(super) unknown: Option<String>,
}

/// Settings that would change what git lists or does. The user's `safe.directory`, which permits
/// repositories of other owners, still applies.
const SETTINGS: [&str; 14] = [
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.checkStat=default",
    "core.excludesFile=/dev/null",
    "core.fileMode=true",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.ignoreCase=false",
    "core.ignoreStat=false",
    "core.quotePath=true",
    "core.splitIndex=false",
    "core.symlinks=true",
    "core.untrackedCache=false",
    "index.sparse=false",
];

/// The ignore rules that apply: those of the working tree, but not `.git/info/exclude`.
const IGNORED: &str = "--exclude-per-directory=.gitignore";

/// The depth of nested repositories that are examined.
const DEPTH_MAX: usize = 8;

impl Source {
    /// Examines the repository that contains `root`, as far as it lies below `root`. `landmark` is
    /// a file of it: if git ignores that file, the repository is not that of `root`. `is_own`
    /// recognizes files that this program has written.
    pub(super) fn of(
        root: &Path,
        landmark: &Path,
        is_own: &dyn Fn(&Path) -> bool,
        patience: Patience<'_>,
    ) -> Self {
        let git = Git {
            root,
            is_own,
            patience,
            depth: 0,
        };
        let source = git.source();
        if source.revision.is_none() || !root.join(landmark).exists() {
            return source;
        }
        match git.knows(landmark) {
            Ok(true) => source,
            Ok(false) => Source {
                unknown: Some(format!(
                    "the repository around it ignores {}",
                    landmark.display()
                )),
                ..Source::default()
            },
            Err(why) => Source {
                unknown: Some(why),
                ..Source::default()
            },
        }
    }
}

struct Git<'a> {
    root: &'a Path,
    is_own: &'a dyn Fn(&Path) -> bool,
    patience: Patience<'a>,
    /// The number of repositories around it.
    depth: usize,
}

/// Uncommitted content, by path below the root.
type Changes = BTreeMap<PathBuf, Vec<u8>>;

impl Git<'_> {
    fn source(&self) -> Source {
        let revision = match self.revision() {
            Ok(revision) => revision,
            Err(why) => {
                return Source {
                    unknown: Some(why),
                    ..Source::default()
                };
            }
        };
        let source = Source {
            revision: Some(revision.clone()),
            ..Source::default()
        };
        match self.changes(&revision) {
            Ok(changes) => Source {
                dirty: Some(!changes.is_empty()),
                changes: hash_of(&changes),
                ..source
            },
            Err(why) => Source {
                unknown: Some(why),
                ..source
            },
        }
    }

    fn revision(&self) -> Result<String, String> {
        let said = self.ask(&["rev-parse", "--verify", "HEAD^{commit}"])?;
        let revision = String::from_utf8_lossy(&said).trim().to_owned();
        let is_hash = matches!(revision.len(), 40 | 64)
            && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        match is_hash {
            true => Ok(revision),
            false => Err(format!(
                "git rev-parse: {:?} is not a commit",
                foreign::quoted(&revision)
            )),
        }
    }

    /// Whether git would consider this file, committed or not.
    fn knows(&self, file: &Path) -> Result<bool, String> {
        let arguments = ["ls-files", "-z", "--cached", "--others", IGNORED, "--"];
        let path = file.to_str().ok_or("its name is not UTF-8")?;
        let literal = format!(":(literal){path}");
        let found = self.ask(&[&arguments[..], &[literal.as_str()]].concat())?;
        Ok(!found.is_empty())
    }

    fn changes(&self, revision: &str) -> Result<Changes, String> {
        let scratch = self.scratch()?;
        scratch.ask(self, &["read-tree", "--no-sparse-checkout", revision])?;
        // The command fails if a file has changed, which the next question is about.
        let _ = scratch.ask(self, &["update-index", "-q", "--really-refresh"]);
        if let Some(why) = self.patience.end() {
            return Err(why.to_owned());
        }
        let changed = [
            "diff-files",
            "--name-only",
            "-z",
            "--relative",
            "--ignore-submodules=all",
        ];
        let untracked = ["ls-files", "-z", "--others", IGNORED];
        // An ignored file that was added anyway appears only in the user's index.
        let added = [
            "diff-index",
            "--cached",
            "--diff-filter=A",
            "--no-renames",
            "--name-only",
            "-z",
            "--relative",
            "--ignore-submodules=all",
            revision,
        ];
        let mut names: BTreeSet<PathBuf> = BTreeSet::new();
        names.extend(paths(&scratch.ask(self, &changed)?));
        names.extend(paths(&scratch.ask(self, &untracked)?));
        names.extend(paths(&self.ask(&added)?));
        let (inner, files): (Vec<PathBuf>, Vec<PathBuf>) = (names.into_iter())
            .filter(|path| self.counts(path))
            .partition(|path| path.as_os_str().as_bytes().ends_with(b"/"));
        let mut changes = Changes::new();
        for file in files {
            let content = self.content(&file)?;
            changes.insert(file, content);
        }
        for repository in inner {
            let found = self.repository(&repository)?;
            changes.insert(repository, found.concat().into_bytes());
        }
        for (commit, path) in links(&scratch.ask(self, &["ls-files", "-s", "-z"])?) {
            if !self.counts(&path) {
                continue;
            }
            match self.submodule(&path)? {
                Submodule::Fetched => {}
                Submodule::Absent => continue,
                Submodule::Replaced => {
                    let content = self.content(&path)?;
                    changes.insert(path, content);
                    continue;
                }
            }
            let found = self.repository(&path)?;
            if found != [commit, String::new()] {
                changes.insert(path, found.concat().into_bytes());
            }
        }
        Ok(changes)
    }

    /// A repository with the objects and the working tree of this one, and nothing else of it.
    fn scratch(&self) -> Result<Scratch, String> {
        let line = |arguments: &[&str]| {
            let mut said = self.ask(arguments)?;
            if said.last() == Some(&b'\n') {
                said.pop();
            }
            Ok::<_, String>(self.root.join(OsStr::from_bytes(&said)))
        };
        let work_tree = line(&["rev-parse", "--show-toplevel"])?;
        let root = self.root.canonicalize().map_err(|it| it.to_string())?;
        if !root.starts_with(&work_tree) {
            return Err("its working tree is in another place (core.worktree)".to_owned());
        }
        let objects = line(&["rev-parse", "--git-path", "objects"])?;
        let objects = objects.canonicalize().map_err(|it| it.to_string())?;
        let format = self.ask(&["rev-parse", "--show-object-format"])?;
        let format = format!(
            "--object-format={}",
            String::from_utf8_lossy(&format).trim()
        );
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut init = self.git();
        without_settings(&mut init);
        init.args(["init", "--quiet", "--bare", "--template=", &format])
            .arg(folder.path());
        ask(&mut init, self.patience).map_err(|why| format!("git init: {why}"))?;
        Ok(Scratch {
            folder,
            objects,
            work_tree,
        })
    }

    /// What is at the place of a submodule. Its files cannot be compared without a repository.
    fn submodule(&self, path: &Path) -> Result<Submodule, String> {
        let folder = self.root.join(path);
        if folder.join(".git").exists() {
            return Ok(Submodule::Fetched);
        }
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        match fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => {
                match fs::read_dir(&folder).map_err(failed)?.next() {
                    None => Ok(Submodule::Absent),
                    Some(_) => Err(format!("{}: its .git is missing", path.display())),
                }
            }
            Ok(_) => Ok(Submodule::Replaced),
            Err(error) if is_absent(&error) => Ok(Submodule::Absent),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether a change of this file is a change of the source.
    fn counts(&self, path: &Path) -> bool {
        let is_result = self.depth == 0 && path.starts_with("results");
        !is_result && !(self.is_own)(&self.root.join(path))
    }

    /// The revision and the changes of a nested repository.
    fn repository(&self, path: &Path) -> Result<[String; 2], String> {
        let shown = path.display();
        if self.depth >= DEPTH_MAX {
            return Err(format!("{shown}: repositories are nested too deeply"));
        }
        let inner = Git {
            root: &self.root.join(path),
            depth: self.depth + 1,
            ..*self
        };
        let source = inner.source();
        match (source.revision, source.dirty) {
            (Some(revision), Some(_)) => Ok([revision, source.changes.unwrap_or_default()]),
            _ => Err(format!("{shown}: {}", source.unknown.unwrap_or_default())),
        }
    }

    /// A digest of what is at this path: its kind and a hash.
    fn content(&self, path: &Path) -> Result<Vec<u8>, String> {
        let whole = self.root.join(path);
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let metadata = match fs::symlink_metadata(&whole) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => return Ok(b"absent".to_vec()),
            Err(error) => return Err(failed(error)),
        };
        if metadata.is_symlink() {
            let target = fs::read_link(&whole).map_err(failed)?;
            return Ok([b"link ", target.as_os_str().as_bytes()].concat());
        }
        if !metadata.is_file() {
            return Ok(b"no file".to_vec());
        }
        let hash = hash_of_file(&whole, self.patience).map_err(failed)?;
        let is_program = metadata.permissions().mode() & 0o111 != 0;
        let kind: &[u8] = if is_program { b"program " } else { b"file " };
        Ok([kind, hash.as_slice()].concat())
    }

    fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = self.git();
        command.args(arguments);
        ask(&mut command, self.patience).map_err(|why| format!("git {}: {why}", arguments[0]))
    }

    /// A git command in this folder, without the user's git environment.
    fn git(&self) -> Command {
        let mut command = Command::new("git");
        for (name, _) in env::vars_os() {
            if name.as_bytes().starts_with(b"GIT_") {
                command.env_remove(name);
            }
        }
        command.envs([
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_LITERAL_PATHSPECS", "0"),
            ("LC_ALL", "C"),
        ]);
        command.arg("--no-pager");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.current_dir(self.root);
        command
    }
}

/// What is at the place of a submodule.
enum Submodule {
    Fetched,
    /// An empty folder: the submodule was never fetched.
    Absent,
    /// A file or a link.
    Replaced,
}

/// The repository made by [`Git::scratch`].
struct Scratch {
    folder: TempDir,
    objects: PathBuf,
    work_tree: PathBuf,
}

impl Scratch {
    fn ask(&self, git: &Git<'_>, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = git.git();
        without_settings(&mut command);
        command
            .env("GIT_DIR", self.folder.path())
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .env("GIT_WORK_TREE", &self.work_tree)
            .args(arguments);
        ask(&mut command, git.patience).map_err(|why| format!("git {}: {why}", arguments[0]))
    }
}

/// Removes the settings of the user and of the system.
fn without_settings(command: &mut Command) {
    command.envs([
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
    ]);
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The paths that git prints with `-z`, in arbitrary bytes.
fn paths(text: &[u8]) -> impl Iterator<Item = PathBuf> {
    let names = text
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names.map(|name| PathBuf::from(OsString::from(OsStr::from_bytes(name))))
}

/// The commits and paths of submodules in the output of `ls-files -s -z`.
fn links(text: &[u8]) -> Vec<(String, PathBuf)> {
    let link = |entry: &[u8]| {
        let entry = entry.strip_prefix(b"160000 ")?;
        let tab = entry.iter().position(|&byte| byte == b'\t')?;
        let commit = entry[..tab].split(|&byte| byte == b' ').next()?;
        let path = PathBuf::from(OsStr::from_bytes(&entry[tab + 1..]));
        Some((String::from_utf8_lossy(commit).into_owned(), path))
    };
    text.split(|&byte| byte == 0).filter_map(link).collect()
}

fn hash_of(changes: &Changes) -> Option<String> {
    if changes.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    for (path, content) in changes {
        for bytes in [path.as_os_str().as_bytes(), content] {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
    }
    Some(hex(&hash.finalize()))
}

/// The SHA-256 hash of a file.
pub(super) fn hash_of_file(path: &Path, patience: Patience<'_>) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 18];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hash.finalize()),
            length => hash.update(&chunk[..length]),
        }
        if let Some(why) = patience.end() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
