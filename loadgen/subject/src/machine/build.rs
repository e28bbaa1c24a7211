//! What was built: the source, and the programs themselves.

use std::collections::BTreeMap;
use std::env;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hmac_sha256::Hash as Sha256;
use serde::{Deserialize, Serialize};

use super::Likeness;
use super::ask::{Patience, output};
use super::source::{Source, hash_of_file, hex};
use crate::catalogue;
use crate::catalogue::Server;
use engine::foreign;
use engine::shell::command_line;

/// How long the examination of the build may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The content of `build.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The commit of the measured repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whether there were uncommitted changes, apart from `results/` and sets; `None` if that
    /// cannot be determined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// A hash of those changes; `None` without changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
    /// The output of `rustc --version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rustc: Option<String>,
    /// Version of the generator.
    pub loadgen: String,
    /// The SHA-256 hash of the generator's program; absent in the first sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loadgen_sha256: Option<String>,
    /// Profile of the generator: `release` or `debug`.
    pub profile: String,
    /// The servers, by name.
    pub servers: BTreeMap<String, ServerBuild>,
    /// Why revision or changes are not known. Only in memory, since it may contain paths.
    #[serde(skip)]
    pub unknown: Option<String>,
}

/// What is known about a server's build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBuild {
    /// The output of its version command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The command that built it, which shows the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The SHA-256 hash of the words that start it, its program, and the files among its arguments;
    /// absent in the first sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The uncommitted changes.
#[derive(Debug, PartialEq, Eq)]
enum Changes<'a> {
    None,
    Hash(&'a str),
    Unknown,
}

impl Changes<'_> {
    fn shown(&self) -> String {
        match self {
            Changes::None => "none".to_owned(),
            Changes::Hash(hash) => format!("{hash:?}"),
            Changes::Unknown => "unknown".to_owned(),
        }
    }
}

impl Build {
    /// Examines the repository at `root` and these servers after they are built, each with the
    /// version that it reports. `is_own` recognizes files that this program has written, which do
    /// not change the source.
    pub fn here(
        root: &Path,
        servers: &[(Server, Option<String>)],
        is_own: &dyn Fn(&Path) -> bool,
        interrupted: &AtomicBool,
    ) -> Self {
        let patience = Patience {
            deadline: Instant::now() + PATIENCE,
            interrupted,
        };
        let servers = servers.iter().map(|(server, version)| {
            let build = ServerBuild {
                version: version.clone(),
                command: server.build.as_ref().map(command_line),
                sha256: hash_of_program(&server.run, root, patience),
            };
            (server.name.clone(), build)
        });
        let servers = servers.collect();
        let source = Source::of(root, Path::new(catalogue::SERVERS), is_own, patience);
        Build {
            revision: source.revision,
            dirty: source.dirty,
            changes: source.changes,
            rustc: output(root, "rustc", &["--version"]),
            loadgen: env!("CARGO_PKG_VERSION").to_owned(),
            loadgen_sha256: hash_of_file(Path::new("/proc/self/exe"), patience)
                .ok()
                .map(|hash| hex(&hash)),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            }
            .to_owned(),
            servers,
            unknown: source.unknown,
        }
    }

    /// How `other` differs from this build, or may differ. Only servers in both builds count.
    ///
    /// If revisions are not known, equal hashes of all programs decide; a remark says so, since a
    /// program may read files that are not known. Uncommitted changes that cannot be determined are
    /// never equal.
    pub fn likeness(&self, other: &Build) -> Likeness {
        let mut likeness = Likeness::default();
        let programs = self.programs(other, &mut likeness);
        likeness.fact("loadgen", Some(&self.loadgen), Some(&other.loadgen));
        likeness.fact("profile", Some(&self.profile), Some(&other.profile));
        match (&self.revision, &other.revision) {
            (Some(mine), Some(theirs)) => {
                likeness.fact("revision", Some(mine), Some(theirs));
                let (mine, theirs) = (self.changes(), other.changes());
                if mine != theirs || mine == Changes::Unknown {
                    likeness.differences.push(format!(
                        "uncommitted changes: {} and {}",
                        mine.shown(),
                        theirs.shown()
                    ));
                }
            }
            (mine, theirs) => {
                let shown = |revision: &Option<String>| match revision {
                    Some(revision) => format!("{revision:?}"),
                    None => "unknown".to_owned(),
                };
                let fact = format!("revision: {} and {}", shown(mine), shown(theirs));
                match programs {
                    Programs::Same => likeness
                        .remarks
                        .push(format!("{fact}; the hashes of all programs are equal")),
                    Programs::Unknown | Programs::Other => likeness.differences.push(fact),
                }
            }
        }
        match (&self.rustc, &other.rustc) {
            (Some(_), Some(_)) => {
                likeness.fact("rustc", self.rustc.as_ref(), other.rustc.as_ref());
            }
            (None, None) => likeness.remarks.push("rustc: unknown in both".to_owned()),
            _ => likeness
                .remarks
                .push("rustc: unknown in one of them".to_owned()),
        }
        likeness
    }

    /// Compares the programs of both builds.
    fn programs(&self, other: &Build, likeness: &mut Likeness) -> Programs {
        let mut all = Programs::of(self.loadgen_sha256.as_ref(), other.loadgen_sha256.as_ref());
        if all == Programs::Other {
            likeness
                .differences
                .push("program of loadgen: its hashes differ".to_owned());
        }
        for (name, mine) in &self.servers {
            let Some(theirs) = other.servers.get(name) else {
                continue;
            };
            let known = Programs::of(mine.sha256.as_ref(), theirs.sha256.as_ref());
            let what = format!("version of {name}");
            match (&mine.version, &theirs.version) {
                (Some(_), Some(_)) => {
                    likeness.fact(&what, mine.version.as_ref(), theirs.version.as_ref());
                }
                // The hash covers the version, and a missing hash gets its own remark.
                (None, None) => {}
                _ => likeness
                    .remarks
                    .push(format!("{what}: unknown in one of them")),
            }
            let what = format!("build of {name}");
            likeness.fact(&what, mine.command.as_ref(), theirs.command.as_ref());
            if known == Programs::Other {
                likeness
                    .differences
                    .push(format!("program of {name}: its hashes differ"));
            }
            all = all.max(known);
        }
        self.remark_unknown_hashes(other, likeness);
        all
    }

    /// Without a hash, nothing proves that a program was built from the recorded revision.
    fn remark_unknown_hashes(&self, other: &Build, likeness: &mut Likeness) {
        let servers = self.servers.iter().filter_map(|(name, mine)| {
            let theirs = other.servers.get(name)?;
            Some((name.as_str(), &mine.sha256, &theirs.sha256))
        });
        let loadgen = ("loadgen", &self.loadgen_sha256, &other.loadgen_sha256);
        let all: Vec<_> = iter::once(loadgen).chain(servers).collect();
        for (which, known) in [("both", 0), ("one of them", 1)] {
            let count = |hash: &Option<String>| usize::from(hash.is_some());
            let names = all
                .iter()
                .filter(|(_, mine, theirs)| count(mine) + count(theirs) == known)
                .map(|(name, ..)| *name);
            let names: Vec<&str> = names.collect();
            if !names.is_empty() {
                let names = names.join(", ");
                likeness
                    .remarks
                    .push(format!("hashes of programs: unknown in {which} ({names})"));
            }
        }
    }

    fn changes(&self) -> Changes<'_> {
        match (self.dirty, &self.changes) {
            (_, Some(hash)) => Changes::Hash(hash),
            (Some(false), None) => Changes::None,
            (Some(true) | None, None) => Changes::Unknown,
        }
    }

    /// What a set with this build lacks to be compared with others, and why; `None` if it lacks
    /// nothing.
    pub fn lacks(&self) -> Option<String> {
        let why = self.unknown.as_deref().unwrap_or("git was not asked");
        match (&self.revision, self.changes()) {
            (None, _) => Some(format!(
                "the revision is unknown ({why}): this set is only combined with sets whose programs have \
                 the same hashes"
            )),
            (Some(_), Changes::Unknown) => Some(format!(
                "uncommitted changes cannot be determined ({why}): this set will not be combined with any \
                 other"
            )),
            _ => None,
        }
    }

    /// The shortened revision, and whether there are uncommitted changes.
    pub fn summary(&self) -> String {
        let revision = self.revision.as_deref().unwrap_or("unknown");
        let revision: String = revision.chars().take(12).collect();
        let revision = foreign::escaped(&revision);
        match (&self.revision, self.changes()) {
            (Some(_), Changes::Hash(_)) => format!("{revision} with uncommitted changes"),
            (Some(_), Changes::Unknown) => {
                format!("{revision} with unknown uncommitted changes")
            }
            _ => revision,
        }
    }
}

/// The verdict of the hashes on programs, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Programs {
    Same,
    Unknown,
    Other,
}

impl Programs {
    fn of(mine: Option<&String>, theirs: Option<&String>) -> Self {
        match (mine, theirs) {
            (Some(mine), Some(theirs)) if mine == theirs => Programs::Same,
            (Some(_), Some(_)) => Programs::Other,
            _ => Programs::Unknown,
        }
    }
}

/// A hash over the words of a command, its program, and the files that its arguments name; `None`
/// if one of them cannot be read, or if the first word is not the serving program.
fn hash_of_program(run: &[String], root: &Path, patience: Patience<'_>) -> Option<String> {
    let (program, arguments) = run.split_first()?;
    if hides_its_program(program, arguments) {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update(command_line(run));
    hash.update(hash_of_file(&find(program, root)?, patience).ok()?);
    for argument in arguments {
        let value = argument
            .split_once('=')
            .map_or(argument.as_str(), |it| it.1);
        let file = root.join(value);
        if !value.is_empty() && file.is_file() {
            hash.update(hash_of_file(&file, patience).ok()?);
        }
    }
    Some(hex(&hash.finalize()))
}

/// Programs that start another program, which is among their arguments.
const WRAPPERS: [&str; 33] = [
    "busybox",
    "cargo",
    "chroot",
    "chrt",
    "docker",
    "doas",
    "env",
    "flatpak",
    "gdb",
    "ionice",
    "ltrace",
    "make",
    "nice",
    "nohup",
    "npm",
    "npx",
    "nsenter",
    "numactl",
    "perf",
    "podman",
    "prlimit",
    "setarch",
    "setpriv",
    "setsid",
    "ssh",
    "stdbuf",
    "strace",
    "sudo",
    "systemd-run",
    "taskset",
    "timeout",
    "unshare",
    "uv",
];

/// Interpreters without their versions, and the options with which they run something other than a
/// file.
const INTERPRETERS: [(&[&str], &[&str]); 6] = [
    (
        &["ash", "bash", "dash", "fish", "ksh", "mksh", "sh", "zsh"],
        &["-c"],
    ),
    (&["pypy", "python"], &["-c", "-m"]),
    (&["lua", "luajit", "perl", "ruby"], &["-e", "-E"]),
    (
        &["bun", "deno", "node", "nodejs"],
        &["-e", "-p", "--eval", "--print", "run"],
    ),
    (&["php"], &["-r"]),
    (
        &["java"],
        &["-m", "--module", "-cp", "-classpath", "--class-path"],
    ),
];

/// Whether these words start a program other than the first word, whose hash would then prove
/// nothing.
fn hides_its_program(program: &str, arguments: &[String]) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    if WRAPPERS.contains(&name) {
        return true;
    }
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let Some((_, options)) = (INTERPRETERS.iter()).find(|(names, _)| names.contains(&name)) else {
        return false;
    };
    // Short options may be combined, as in `-ec`, and joined with their value, as in
    // `-mhttp.server`. Arguments after the script belong to the script.
    let is_such = |argument: &&String| {
        let is_short = argument.starts_with('-') && !argument.starts_with("--");
        options.iter().any(|option| match option.strip_prefix('-') {
            Some(letter) if is_short && letter.len() == 1 => argument.contains(letter),
            _ => {
                let value = argument.strip_prefix(option);
                value.is_some_and(|value| value.is_empty() || value.starts_with('='))
            }
        })
    };
    arguments
        .iter()
        .take_while(|it| it.starts_with('-') || *it == "run")
        .any(|it| is_such(&it))
}

/// The file that a program is started from.
fn find(program: &str, root: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(root.join(program));
    }
    let path = env::var_os("PATH")?;
    let mut files = env::split_paths(&path).map(|folder| root.join(folder).join(program));
    files.find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{self, Write as _};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;

    use super::*;

    /// A repository in its own folder, examined as by a user with interfering settings.
    struct Repository(tempfile::TempDir);

    /// Whether a file is in a folder named `own`.
    fn is_own(file: &Path) -> bool {
        file.parent().is_some_and(|folder| folder.ends_with("own"))
    }

    impl Repository {
        /// A repository with one commit; `None`, with a visible message, if git is missing.
        fn new(test: &str) -> Option<Self> {
            if Command::new("git").arg("--version").output().is_err() {
                // Written past the capture of test output, so that it is seen.
                writeln!(io::stderr(), "SKIPPED: {test}: no git").unwrap();
                return None;
            }
            let repository = Repository(tempfile::tempdir().unwrap());
            repository.write(".gitignore", "/target\n");
            repository.write(catalogue::SERVERS, "");
            repository.write("main.rs", "fn main() {}\n");
            repository.commit(".");
            Some(repository)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn git(&self, folder: &str, arguments: &[&str]) {
            let mut command = Command::new("git");
            let identity = [
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "-c",
                "commit.gpgsign=false",
            ];
            command
                .args(identity)
                .args(arguments)
                .current_dir(self.path(folder));
            let output = command.output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
        }

        /// Commits everything in a folder, which becomes a repository first if needed.
        fn commit(&self, folder: &str) {
            if !self.path(folder).join(".git").exists() {
                self.git(folder, &["init", "--quiet"]);
            }
            self.git(folder, &["add", "--all"]);
            self.git(folder, &["commit", "--quiet", "--allow-empty", "-m", "a"]);
        }

        fn build(&self) -> Build {
            let never = AtomicBool::new(false);
            Build::here(self.0.path(), &[], &is_own, &never)
        }
    }

    /// Any uncommitted change makes a different build, and equal changes make equal builds.
    #[test]
    fn every_change_is_seen() {
        let Some(repository) = Repository::new("every_change_is_seen") else {
            return;
        };
        let clean = repository.build();
        assert_eq!(
            (clean.dirty, &clean.changes),
            (Some(false), &None),
            "{clean:?}"
        );
        let names = [
            "a b",
            "gr\u{f6}\u{df}e.rs",
            "two\nlines",
            "\"quoted\"",
            "-x",
            "main.rs",
            "deep/er/file",
        ];
        for name in names {
            let mut hashes = Vec::new();
            for text in ["one", "two", "one"] {
                repository.write(name, text);
                let build = repository.build();
                assert_eq!(build.dirty, Some(true), "{name}: {build:?}");
                hashes.push(build.changes.unwrap());
            }
            assert!(hashes[0] != hashes[1] && hashes[0] == hashes[2], "{name}");
            match name {
                "main.rs" => repository.git(".", &["checkout", "--quiet", "main.rs"]),
                _ => fs::remove_file(repository.path(name)).unwrap(),
            }
            assert_eq!(repository.build(), clean, "{name}");
        }
    }

    /// Ways to hide a change from `git status`.
    #[test]
    fn no_setting_hides_a_change() {
        let Some(repository) = Repository::new("no_setting_hides_a_change") else {
            return;
        };
        type Hide = fn(&Repository);
        let rows: [(&str, Hide); 17] = [
            ("untracked files are not shown", |it| {
                it.git(".", &["config", "status.showUntrackedFiles", "no"]);
                it.write("new.rs", "");
            }),
            ("ignored by the user", |it| {
                it.write("target/ignore", "*.rs\n");
                let file = it.path("target/ignore");
                it.git(
                    ".",
                    &["config", "core.excludesFile", file.to_str().unwrap()],
                );
                it.write("new.rs", "");
            }),
            ("assumed to be unchanged", |it| {
                it.git(".", &["update-index", "--assume-unchanged", "main.rs"]);
                it.write("main.rs", "changed");
            }),
            ("not looked at in the working tree", |it| {
                it.git(".", &["update-index", "--skip-worktree", "main.rs"]);
                it.write("main.rs", "changed");
            }),
            ("a hook and a monitor that lie", |it| {
                it.git(".", &["config", "core.fsmonitor", "/bin/true"]);
                it.write("main.rs", "changed");
            }),
            ("ignored, and added all the same", |it| {
                it.write("target/new.rs", "");
                it.git(".", &["add", "--force", "target/new.rs"]);
            }),
            ("a program now", |it| {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(it.path("main.rs"), mode).unwrap();
            }),
            ("a link now", |it| {
                fs::remove_file(it.path("main.rs")).unwrap();
                symlink("/dev/null", it.path("main.rs")).unwrap();
            }),
            ("another line end, as git is told to convert it", |it| {
                it.git(".", &["config", "core.autocrlf", "input"]);
                it.write("main.rs", "fn main() {}\r\n");
            }),
            ("a filter of the user", |it| {
                it.git(".", &["config", "filter.f.clean", "echo 'fn main() {}'"]);
                it.write("target/attributes", "*.rs filter=f\n");
                let file = it.path("target/attributes");
                it.git(
                    ".",
                    &["config", "core.attributesFile", file.to_str().unwrap()],
                );
                it.write("main.rs", "changed");
            }),
            ("a filter for attributes within .git", |it| {
                it.git(".", &["config", "filter.f.clean", "echo 'fn main() {}'"]);
                it.write(".git/info/attributes", "*.rs filter=f\n");
                it.write("main.rs", "changed");
            }),
            ("a program now, where git heeds no modes", |it| {
                it.git(".", &["config", "core.fileMode", "false"]);
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(it.path("main.rs"), mode).unwrap();
            }),
            ("a name that differs in case", |it| {
                it.git(".", &["config", "core.ignoreCase", "true"]);
                it.write("MAIN.rs", "");
            }),
            ("ignored within .git", |it| {
                it.write(".git/info/exclude", "new.rs\n");
                it.write("new.rs", "");
            }),
            ("a file in place of a link, where git makes none", |it| {
                symlink("main.rs", it.path("link")).unwrap();
                it.commit(".");
                it.git(".", &["config", "core.symlinks", "false"]);
                fs::remove_file(it.path("link")).unwrap();
                it.write("link", "main.rs");
            }),
            ("deleted", |it| fs::remove_file(it.path("main.rs")).unwrap()),
            ("beside a set, and no file of one", |it| {
                it.write("sets/1/plan.toml", "schema = 1\ncommand = 'x'\n");
                it.write("sets/1/cells.csv", "server,workload,round,started\n");
                it.write("sets/1/main.rs", "");
            }),
        ];
        for (what, hide) in rows {
            let copy = Repository::new(what).unwrap();
            let clean = copy.build();
            hide(&copy);
            let build = copy.build();
            assert_eq!(build.dirty, Some(true), "{what}: {build:?}");
            assert!(build.changes.is_some(), "{what}");
            assert!(!clean.likeness(&build).differences.is_empty(), "{what}");
        }
        drop(repository);
    }

    /// Line-end conversions requested by a commit are not changes, others are. A filter is not run
    /// even if it is committed: the content that it would hide counts.
    #[test]
    fn committed_attributes_hold_and_run_nothing() {
        let Some(repository) = Repository::new("committed_attributes_hold_and_run_nothing") else {
            return;
        };
        let attributes = "*.txt text eol=crlf\n*.rs filter=f\n";
        repository.write(".gitattributes", attributes);
        repository.write("a.txt", "a\r\n");
        repository.commit(".");
        let ran = repository.path("target/ran");
        fs::create_dir_all(repository.path("target")).unwrap();
        let touch = format!("touch {}; cat", command_line(&[ran.display().to_string()]));
        repository.git(".", &["config", "filter.f.clean", &touch]);
        repository.git(".", &["config", "filter.f.required", "true"]);
        assert_eq!(repository.build().dirty, Some(false));
        repository.write("main.rs", "changed");
        assert_eq!(repository.build().dirty, Some(true));
        assert!(!ran.exists(), "git has run a program");
    }

    /// Nested repositories: another commit, a change, one without a commit.
    #[test]
    fn repositories_within() {
        let Some(repository) = Repository::new("repositories_within") else {
            return;
        };
        repository.write("inner/a", "a");
        repository.commit("inner");
        let mut seen = vec![repository.build()];
        repository.write("inner/a", "b");
        seen.push(repository.build());
        repository.commit("inner");
        seen.push(repository.build());
        for (at, build) in seen.iter().enumerate() {
            assert_eq!(build.dirty, Some(true), "{build:?}");
            let others = seen[..at].iter();
            assert!(others.into_iter().all(|it| it.changes != build.changes));
        }
        // The nested repository as a submodule of a commit.
        repository.commit(".");
        assert_eq!(repository.build().dirty, Some(false));
        repository.write("inner/a", "c");
        assert_eq!(repository.build().dirty, Some(true));
        repository.write("inner/a", "b");
        assert_eq!(repository.build().dirty, Some(false));
        // Without its .git, changes cannot be determined; a submodule that was never fetched is
        // empty.
        let (git, aside) = (repository.path("inner/.git"), repository.path("target"));
        fs::rename(&git, &aside).unwrap();
        let build = repository.build();
        assert_eq!((build.dirty, &build.changes), (None, &None), "{build:?}");
        assert!(
            build
                .lacks()
                .unwrap()
                .contains("inner: its .git is missing")
        );
        fs::rename(repository.path("inner"), aside.join("inner")).unwrap();
        assert_eq!(repository.build().dirty, Some(false));
        fs::create_dir(repository.path("inner")).unwrap();
        assert_eq!(repository.build().dirty, Some(false));
        fs::remove_dir(repository.path("inner")).unwrap();
        repository.write("inner", "a file");
        assert_eq!(repository.build().dirty, Some(true));
        fs::remove_file(repository.path("inner")).unwrap();
        fs::create_dir(repository.path("newborn")).unwrap();
        repository.git("newborn", &["init", "--quiet"]);
        let build = repository.build();
        assert_eq!((build.dirty, &build.changes), (None, &None), "{build:?}");
        assert!(!build.likeness(&build).differences.is_empty());
        assert!(build.lacks().unwrap().contains("newborn"), "{build:?}");
    }

    /// Files that the caller calls its own, wherever they are, and everything below `results/`.
    #[test]
    fn own_output_does_not_change_the_source() {
        let Some(repository) = Repository::new("own_output_does_not_change_the_source") else {
            return;
        };
        let clean = repository.build();
        for folder in ["sets/own", "own", "results/x/own"] {
            repository.write(&format!("{folder}/cells.csv"), "server,workload\n");
        }
        repository.write("results/notes", "");
        assert_eq!(repository.build(), clean);
        repository.write("crate/cells.csv", "a,b\n");
        assert_eq!(repository.build().dirty, Some(true));
    }

    #[test]
    fn what_git_does_not_tell_is_unknown() {
        let Some(repository) = Repository::new("what_git_does_not_tell_is_unknown") else {
            return;
        };
        // A folder that the surrounding repository ignores does not belong to its revision.
        repository.write("target/project/benches/servers.toml", "");
        let never = AtomicBool::new(false);
        let inner = |folder: &Path| Build::here(folder, &[], &|_| false, &never);
        let build = inner(&repository.path("target/project"));
        assert_eq!(build.revision, None, "{build:?}");
        assert!(
            build
                .lacks()
                .unwrap()
                .contains("ignores benches/servers.toml")
        );
        // There is no repository.
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(inner(folder.path()).revision, None);
        // The working tree is in another place.
        repository.git(".", &["config", "core.worktree", "/proc/self"]);
        let build = repository.build();
        assert_eq!(build.dirty, None, "{build:?}");
        assert!(build.lacks().unwrap().contains("core.worktree"));
        repository.git(".git", &["config", "--unset", "core.worktree"]);
        fs::write(repository.path(".git/index"), "damaged").unwrap();
        let build = repository.build();
        assert!(build.lacks().is_some(), "{build:?}");
        assert!(!build.likeness(&build).differences.is_empty() || build.revision.is_none());
    }

    #[test]
    fn likeness_of_builds() {
        let known = Build {
            revision: Some("abc".to_owned()),
            dirty: Some(false),
            rustc: Some("1".to_owned()),
            loadgen_sha256: Some("1".to_owned()),
            ..Build::default()
        };
        let with_server = |build: &Build, version: Option<&str>, sha256: Option<&str>| {
            let server = ServerBuild {
                version: version.map(str::to_owned),
                command: None,
                sha256: sha256.map(str::to_owned),
            };
            let mut build = build.clone();
            build.servers.insert("a".to_owned(), server);
            build
        };
        let dirty = |changes: Option<&str>| Build {
            dirty: Some(true),
            changes: changes.map(str::to_owned),
            ..known.clone()
        };
        let unknown = Build {
            revision: None,
            dirty: None,
            ..known.clone()
        };
        let without_hash = Build {
            loadgen_sha256: None,
            ..unknown.clone()
        };
        for (what, one, other, differences, remarks) in [
            ("the same", known.clone(), known.clone(), 0, 0),
            ("the same changes", dirty(Some("1")), dirty(Some("1")), 0, 0),
            ("other changes", dirty(Some("1")), dirty(Some("2")), 1, 0),
            ("changes in one", known.clone(), dirty(Some("2")), 1, 0),
            ("unknown changes", dirty(None), dirty(None), 1, 0),
            ("unknown changes in one", known.clone(), dirty(None), 1, 0),
            (
                "unknown, the same programs",
                unknown.clone(),
                unknown.clone(),
                0,
                1,
            ),
            (
                "unknown in one, the same programs",
                known.clone(),
                unknown.clone(),
                0,
                1,
            ),
            (
                "unknown, also the programs",
                without_hash.clone(),
                without_hash,
                1,
                1,
            ),
            (
                "another program",
                with_server(&unknown, None, Some("1")),
                with_server(&unknown, None, Some("2")),
                2,
                0,
            ),
            (
                "another program of one revision",
                with_server(&known, Some("1.0"), Some("1")),
                with_server(&known, Some("1.0"), Some("2")),
                1,
                0,
            ),
            (
                "another version",
                with_server(&known, Some("1.0"), None),
                with_server(&known, Some("1.1"), None),
                1,
                1,
            ),
            (
                "a program of which nothing is known",
                with_server(&known, None, None),
                with_server(&known, None, None),
                0,
                1,
            ),
            (
                "the same, with an unknown program",
                with_server(&unknown, Some("1.0"), None),
                with_server(&unknown, Some("1.0"), None),
                1,
                1,
            ),
            (
                "a hash in one of them",
                with_server(&known, Some("1.0"), Some("1")),
                with_server(&known, Some("1.0"), None),
                0,
                1,
            ),
            (
                "no compiler",
                Build {
                    rustc: None,
                    ..known.clone()
                },
                Build {
                    rustc: None,
                    ..known.clone()
                },
                0,
                1,
            ),
        ] {
            let likeness = one.likeness(&other);
            let found = (likeness.differences.len(), likeness.remarks.len());
            assert_eq!(found, (differences, remarks), "{what}: {likeness:?}");
        }
    }

    /// The content behind the name counts, through links and among arguments.
    #[test]
    fn programs_have_a_hash() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let never = AtomicBool::new(false);
        let patience = Patience {
            deadline: Instant::now() + PATIENCE,
            interrupted: &never,
        };
        let hash = |run: &[&str]| {
            let run: Vec<String> = run.iter().map(|&word| word.to_owned()).collect();
            hash_of_program(&run, root, patience)
        };
        fs::write(root.join("one"), "1").unwrap();
        fs::write(root.join("two"), "2").unwrap();
        symlink("one", root.join("link")).unwrap();
        let before = hash(&["./link", "--listen", "{addr}"]);
        assert!(before.is_some());
        assert_eq!(hash(&["./link", "--listen", "{addr}"]), before);
        fs::remove_file(root.join("link")).unwrap();
        symlink("two", root.join("link")).unwrap();
        assert_ne!(hash(&["./link", "--listen", "{addr}"]), before);
        let script = hash(&["sh", "one", "--config=two"]);
        assert!(script.is_some());
        fs::write(root.join("two"), "3").unwrap();
        assert_ne!(hash(&["sh", "one", "--config=two"]), script);
        assert_eq!(hash(&["./absent"]), None);
        // The serving program is not the first word.
        for run in [
            &["sh", "-c", "exec ./one"][..],
            &["/bin/sh", "-ec", "exec ./one"],
            &["env", "A=1", "./one"],
            &["nice", "-n", "5", "./one"],
            &["taskset", "-c", "0", "./one"],
        ] {
            assert_eq!(hash(run), None, "{run:?}");
        }
        for (program, arguments, is_hidden) in [
            ("python3", "-m http.server", true),
            ("/usr/bin/python3.12", "-mhttp.server", true),
            ("python3", "-u -c print()", true),
            ("python3", "one -m x -c y", false),
            ("node", "--eval=1", true),
            ("node", "one run", false),
            ("java", "-jar one -cp x", false),
            ("./server", "-c config -m 3", false),
        ] {
            let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
            assert_eq!(
                hides_its_program(program, &arguments),
                is_hidden,
                "{program} {arguments:?}"
            );
        }
        assert_eq!(hash(&["no-such-program-anywhere"]), None);
    }
}
