//! Facts about this machine and what was built on it, without which a number says nothing. What cannot
//! be found out is absent. Nothing here names a host, a user or a path.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use crate::catalogue::Server;
use crate::target;

/// CPUs that the calling thread may run on, in order; empty when the system does not tell.
pub fn own_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    let is_set = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    (0..CpuSet::count()).filter(is_set).collect()
}

/// CPUs that the system has switched on; `None` when it does not tell.
pub(crate) fn online_cpus() -> Option<usize> {
    let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok()??;
    usize::try_from(count).ok()
}

/// Makes the calling thread, and those it starts from now on, run on these CPUs only.
///
/// # Errors
///
/// When there is no such CPU, or it may not be used.
pub fn pin_thread(cpus: &[usize]) -> nix::Result<()> {
    sched_setaffinity(Pid::from_raw(0), &cpu_set(cpus)?)
}

/// Files that the generator needs beside its connections.
pub(crate) const FILES_RESERVED: u64 = 64;

/// A set of these CPUs.
pub(crate) fn cpu_set(cpus: &[usize]) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    Ok(set)
}

/// Which CPUs the server and the generator run on; empty for all there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinning {
    /// The server's.
    pub server: Vec<usize>,
    /// The generator's.
    pub client: Vec<usize>,
}

impl Pinning {
    /// The first half of the cores that `cpus` belong to for the server, the second, and larger when they
    /// are odd in number, for the generator: threads of one core share its units, and would measure each
    /// other. Only where there is a single core are its threads divided. One CPU cannot be divided: then
    /// neither is pinned.
    pub fn split(cpus: &[usize], siblings: &Siblings) -> Self {
        let cores = match cores_of(cpus, siblings) {
            cores if cores.len() > 1 => cores,
            _ => cpus.iter().map(|&cpu| vec![cpu]).collect(),
        };
        if cores.len() < 2 {
            return Pinning::default();
        }
        let (server, client) = cores.split_at(cores.len() / 2);
        let cpus = |cores: &[Vec<usize>]| {
            let mut cpus = cores.concat();
            cpus.sort_unstable();
            cpus
        };
        Pinning {
            server: cpus(server),
            client: cpus(client),
        }
    }
}

/// For each CPU, itself and those that are threads of the same core. One that is missing is supposed to
/// have none.
pub type Siblings = BTreeMap<usize, Vec<usize>>;

/// What the system tells of these CPUs.
pub fn siblings_of(cpus: &[usize]) -> Siblings {
    let siblings = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let CpuList(siblings) = line_of(&path)?.parse().ok()?;
        siblings.contains(&cpu).then_some((cpu, siblings))
    };
    cpus.iter().filter_map(|&cpu| siblings(cpu)).collect()
}

/// These CPUs by the cores they are threads of.
pub(crate) fn cores_of(cpus: &[usize], siblings: &Siblings) -> Vec<Vec<usize>> {
    let mut cores: Vec<Vec<usize>> = Vec::new();
    for &cpu in cpus {
        let shares = |core: &&mut Vec<usize>| {
            let siblings = siblings.get(&cpu);
            siblings.is_some_and(|siblings| siblings.contains(&core[0]))
        };
        match cores.iter_mut().find(shares) {
            Some(core) => core.push(cpu),
            None => cores.push(vec![cpu]),
        }
    }
    cores
}

/// `0-3,8`, as options and taskset take it.
pub(crate) fn list_of(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let text = |(first, last)| match first == last {
        true => format!("{first}"),
        false => format!("{first}-{last}"),
    };
    let texts: Vec<String> = ranges.into_iter().map(text).collect();
    texts.join(",")
}

/// CPUs as the kernel lists them: `0-3,8`.
pub(crate) struct CpuList(pub(crate) Vec<usize>);

impl FromStr for CpuList {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((first, last)) => cpus.extend(first.parse()?..=last.parse::<usize>()?),
                None => cpus.push(part.parse()?),
            }
        }
        Ok(CpuList(cpus))
    }
}

/// `machine.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// As in `/proc/cpuinfo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// CPUs that the generator could use when it started.
    pub cpus: usize,
    /// Name, release and architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Whose; `unknown` when there is one that does not tell its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// GiB, rounded to one digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gib: Option<f64>,
    /// Frequency governor of the first CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Soft limit of open files for the generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files_max: Option<u64>,
    /// Time that the hypervisor took from all CPUs during the measurement, percent; the largest when it
    /// was resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steal_percent: Option<f64>,
    /// Who ran where.
    pub pinning: Pinning,
    /// Those that matter, by name.
    pub sysctls: BTreeMap<String, String>,
}

const SYSCTLS: [&str; 6] = [
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_tw_reuse",
    "fs.file-max",
];

impl Machine {
    /// This one.
    pub fn here(cpus: usize, pinning: Pinning) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = field(&meminfo, "MemTotal").and_then(|text| {
            let number = text.split_ascii_whitespace().next()?;
            number.parse::<f64>().ok()
        });
        let sysctl = |name: &str| {
            let value = line_of(&format!("/proc/sys/{}", name.replace('.', "/")))?;
            let words: Vec<_> = value.split_ascii_whitespace().collect();
            Some((name.to_owned(), words.join(" ")))
        };
        Machine {
            cpu_model: field(&cpuinfo, "model name"),
            cpus,
            kernel: kernel(),
            hypervisor: hypervisor(&cpuinfo),
            memory_gib: memory_kib.map(|kib| (kib / 1_048_576.0 * 10.0).round() / 10.0),
            governor: line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            open_files_max: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| soft),
            steal_percent: None,
            pinning,
            sysctls: SYSCTLS.into_iter().filter_map(sysctl).collect(),
        }
    }

    /// In what `other` is another machine, or one set up in another way; empty when it is the same.
    pub fn differences(&self, other: &Machine) -> Vec<String> {
        let mut differences = Differences::default();
        let mut note = |what: &str, fact: fn(&Machine) -> Option<&String>| {
            differences.note(what, fact(self), fact(other));
        };
        note("CPU", |machine| machine.cpu_model.as_ref());
        note("kernel", |machine| machine.kernel.as_ref());
        note("hypervisor", |machine| machine.hypervisor.as_ref());
        note("governor", |machine| machine.governor.as_ref());
        for name in SYSCTLS {
            differences.note(name, self.sysctls.get(name), other.sysctls.get(name));
        }
        differences.note("number of CPUs", Some(&self.cpus), Some(&other.cpus));
        // The kernel may keep a little more or less for itself.
        let gib = |machine: &Machine| machine.memory_gib.map(f64::round);
        differences.note("memory, GiB", gib(self).as_ref(), gib(other).as_ref());
        let (mine, theirs) = (&self.pinning, &other.pinning);
        differences.note("server's CPUs", Some(&mine.server), Some(&theirs.server));
        differences.note("generator's CPUs", Some(&mine.client), Some(&theirs.client));
        differences.0
    }

    /// In one line: CPU, count, kernel, hypervisor.
    pub fn summary(&self) -> String {
        let model = self.cpu_model.as_deref().unwrap_or("unknown CPU");
        let kernel = self.kernel.as_deref().unwrap_or("unknown kernel");
        let virtual_machine = match self.hypervisor.as_deref() {
            Some("unknown") => ", a virtual machine".to_owned(),
            Some(name) => format!(", a virtual machine ({name})"),
            None => String::new(),
        };
        let plural = if self.cpus == 1 { "" } else { "s" };
        format!(
            "{model}, {} CPU{plural}, {kernel}{virtual_machine}",
            self.cpus
        )
    }
}

/// `build.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Commit of the repository that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whether there were changes that are in no commit, `results/` aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// Hash of those changes; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
    /// `rustc --version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rustc: Option<String>,
    /// Version of the generator.
    pub loadgen: String,
    /// Profile of the generator: `release` or `debug`.
    pub profile: String,
    /// By name.
    pub servers: BTreeMap<String, ServerBuild>,
}

/// What is known of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBuild {
    /// What its version command prints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The command that built it, which tells its profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Build {
    /// Of the repository at `root` and of these servers, once they are built.
    pub fn here(root: &Path, servers: &[Server]) -> Self {
        let servers = servers.iter().map(|server| {
            let build = ServerBuild {
                version: target::version(server, root),
                command: server.build.as_ref().map(|command| command.join(" ")),
            };
            (server.name.clone(), build)
        });
        let git = |arguments: &[&str]| output(root, "git", arguments);
        let dirty = git(&["status", "--porcelain", "--", ".", ":!results"])
            .map(|changes| !changes.is_empty());
        Build {
            revision: git(&["rev-parse", "HEAD"]),
            dirty,
            changes: dirty.filter(|&dirty| dirty).and_then(|_| changes(root)),
            rustc: output(root, "rustc", &["--version"]),
            loadgen: env!("CARGO_PKG_VERSION").to_owned(),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            }
            .to_owned(),
            servers: servers.collect(),
        }
    }

    /// In what `other` is another build; empty when it is the same. Of servers, those in both count.
    pub fn differences(&self, other: &Build) -> Vec<String> {
        let mut differences = Differences::default();
        differences.note("revision", self.revision.as_ref(), other.revision.as_ref());
        differences.note(
            "changes in no commit",
            self.changes.as_ref(),
            other.changes.as_ref(),
        );
        differences.note("rustc", self.rustc.as_ref(), other.rustc.as_ref());
        differences.note("loadgen", Some(&self.loadgen), Some(&other.loadgen));
        differences.note("profile", Some(&self.profile), Some(&other.profile));
        for (name, mine) in &self.servers {
            if let Some(theirs) = other.servers.get(name) {
                let what = format!("version of {name}");
                differences.note(&what, mine.version.as_ref(), theirs.version.as_ref());
                let what = format!("build of {name}");
                differences.note(&what, mine.command.as_ref(), theirs.command.as_ref());
            }
        }
        differences.0
    }

    /// The revision, shortened, and whether it is dirty.
    pub fn summary(&self) -> String {
        let revision = self.revision.as_deref().unwrap_or("unknown");
        let revision = revision.get(..12).unwrap_or(revision);
        match self.dirty {
            Some(true) => format!("{revision} with changes in no commit"),
            _ => revision.to_owned(),
        }
    }
}

/// A hash over what differs from the last commit, files in no commit included.
fn changes(root: &Path) -> Option<String> {
    let diff = output(root, "git", &["diff", "HEAD", "--", ".", ":!results"])?;
    let others = [
        "ls-files",
        "--others",
        "--exclude-standard",
        "--",
        ".",
        ":!results",
    ];
    let others = output(root, "git", &others)?;
    let mut all = diff + "\n" + &others;
    for file in others.lines() {
        all += "\n";
        all += &output(root, "git", &["hash-object", "--", file])?;
    }
    let mut file = tempfile::NamedTempFile::new().ok()?;
    file.write_all(all.as_bytes()).ok()?;
    output(
        root,
        "git",
        &["hash-object", "--no-filters", "--", file.path().to_str()?],
    )
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn note<T: PartialEq + Debug>(&mut self, what: &str, one: Option<&T>, other: Option<&T>) {
        let shown = |fact: Option<&T>| fact.map_or("none".to_owned(), |fact| format!("{fact:?}"));
        if one != other {
            let difference = format!("{what}: {} and {}", shown(one), shown(other));
            self.0.push(difference);
        }
    }
}

/// Time of all CPUs since the machine started, ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl CpuTime {
    /// When the machine started.
    pub const BOOT: Self = CpuTime {
        all: 0,
        idle: 0,
        stolen: 0,
    };

    /// As of now.
    pub fn now() -> Option<Self> {
        CpuTime::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// From the text of `/proc/stat`.
    pub(crate) fn parse(stat: &str) -> Option<Self> {
        // user nice system idle iowait irq softirq steal; guest times, behind, are within user's.
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line
            .split_ascii_whitespace()
            .map_while(|t| t.parse().ok())
            .collect();
        Some(CpuTime {
            all: ticks.get(..8)?.iter().sum(),
            idle: ticks[3] + ticks[4],
            stolen: ticks[7],
        })
    }

    /// Share of the time since `earlier` that the hypervisor took, percent with two digits.
    pub fn steal_percent_since(&self, earlier: &CpuTime) -> Option<f64> {
        self.percent_since(earlier, |time| time.stolen)
    }

    /// Share of the time since `earlier` in which the CPUs worked here, percent with two digits.
    pub fn busy_percent_since(&self, earlier: &CpuTime) -> Option<f64> {
        self.percent_since(earlier, |time| {
            time.all.saturating_sub(time.idle + time.stolen)
        })
    }

    fn percent_since(&self, earlier: &CpuTime, part: fn(&CpuTime) -> u64) -> Option<f64> {
        let all = self.all.checked_sub(earlier.all).filter(|&all| all > 0)?;
        let part = part(self).saturating_sub(part(earlier));
        Some((part as f64 / all as f64 * 10_000.0).round() / 100.0)
    }
}

fn kernel() -> Option<String> {
    let os = line_of("/proc/sys/kernel/ostype")?;
    let release = line_of("/proc/sys/kernel/osrelease")?;
    Some(format!("{os} {release} {}", std::env::consts::ARCH))
}

fn hypervisor(cpuinfo: &str) -> Option<String> {
    let flags = field(cpuinfo, "flags").unwrap_or_default();
    let named = || {
        let lscpu = output(Path::new("/"), "lscpu", &[])?;
        field(&lscpu, "Hypervisor vendor")
    };
    let vendor = || {
        let vendor = line_of("/sys/class/dmi/id/sys_vendor")?;
        let product = line_of("/sys/class/dmi/id/product_name").unwrap_or_default();
        Some(format!("{vendor} {product}").trim().to_owned())
    };
    flags
        .split_ascii_whitespace()
        .any(|flag| flag == "hypervisor")
        .then(|| {
            named()
                .or_else(vendor)
                .unwrap_or_else(|| "unknown".to_owned())
        })
}

/// The value of the first line `key : value`.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// The first line of a file; none when that is empty.
fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// What a program prints, if it succeeds.
fn output(folder: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write as _};

    use super::*;

    #[test]
    fn pinning_splits_in_halves() {
        type Cpus = &'static [usize];
        let rows: [(Cpus, &[Cpus], Cpus, Cpus); 9] = [
            (&[], &[], &[], &[]),
            (&[3], &[], &[], &[]),
            (&[0, 1], &[], &[0], &[1]),
            (&[0, 2, 4], &[], &[0], &[2, 4]),
            (&[0, 1, 2, 3], &[], &[0, 1], &[2, 3]),
            (&[0, 1, 2, 3], &[&[0, 2], &[1, 3]], &[0, 2], &[1, 3]),
            (&[0, 1, 2, 3], &[&[0, 1], &[2, 3]], &[0, 1], &[2, 3]),
            (&[0, 1, 2], &[&[0, 2], &[1, 3]], &[0, 2], &[1]),
            (&[0, 4], &[&[0, 4]], &[0], &[4]),
        ];
        for (cpus, cores, server, client) in rows {
            let of = |core: &Cpus| {
                core.iter()
                    .map(|&cpu| (cpu, core.to_vec()))
                    .collect::<Vec<_>>()
            };
            let siblings = cores.iter().flat_map(of).collect();
            let pinning = Pinning::split(cpus, &siblings);
            assert_eq!(
                (&*pinning.server, &*pinning.client),
                (server, client),
                "for {cpus:?}"
            );
        }
    }

    #[test]
    fn steal_and_load() {
        let earlier = CpuTime::parse("cpu  100 0 100 800 0 0 0 0 50 0\ncpu0 1").unwrap();
        let later = CpuTime::parse("cpu  200 0 200 1590 0 0 0 10 90 0\ncpu0 1").unwrap();
        assert_eq!(later.steal_percent_since(&earlier), Some(1.0));
        assert_eq!(later.busy_percent_since(&earlier), Some(20.0));
        assert_eq!(later.steal_percent_since(&CpuTime::BOOT), Some(0.5));
        assert_eq!(later.steal_percent_since(&later), None);
        assert!(CpuTime::parse("cpu0 1 2").is_none());
    }

    #[test]
    fn this_machine_is_the_same_as_itself() {
        let here = Machine::here(2, Pinning::split(&own_cpus(), &Siblings::new()));
        assert_eq!(here.differences(&here), [""; 0]);
        let text = toml::to_string(&here).unwrap();
        assert_eq!(toml::from_str::<Machine>(&text).unwrap(), here);
        let other = Machine {
            cpus: 64,
            ..here.clone()
        };
        assert_eq!(here.differences(&other), ["number of CPUs: 2 and 64"]);
    }

    #[test]
    fn changes_make_another_build() {
        let clean = Build {
            revision: Some("abc".to_owned()),
            dirty: Some(false),
            ..Build::default()
        };
        assert_eq!(clean.differences(&clean), [""; 0]);
        let dirty = |hash: &str| Build {
            dirty: Some(true),
            changes: Some(hash.to_owned()),
            ..clean.clone()
        };
        assert_eq!(dirty("1").differences(&dirty("1")), [""; 0]);
        assert_eq!(dirty("1").differences(&dirty("2")).len(), 1);
        assert_eq!(clean.differences(&dirty("2")).len(), 1);
    }

    /// The hash tells changes apart, also those of a file that git does not know.
    #[test]
    fn changes_have_a_hash() {
        let folder = tempfile::tempdir().unwrap();
        if output(folder.path(), "git", &["--version"]).is_none() {
            // Past the capture of test output, so that it is seen.
            writeln!(io::stderr(), "SKIPPED: changes_have_a_hash: no git").unwrap();
            return;
        }
        let git = |arguments: &[&str]| {
            output(folder.path(), "git", arguments).expect("git works");
        };
        git(&["init", "--quiet"]);
        let identity = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "commit.gpgsign=false",
        ];
        git(&[
            &identity[..],
            &["commit", "--quiet", "--allow-empty", "-m", "a"],
        ]
        .concat());
        assert_eq!(Build::here(folder.path(), &[]).changes, None);
        let mut hashes = Vec::new();
        for text in ["1", "2", "1"] {
            fs::write(folder.path().join("a b"), text).unwrap();
            let build = Build::here(folder.path(), &[]);
            assert_eq!(build.dirty, Some(true));
            hashes.push(build.changes.unwrap());
        }
        assert_ne!(hashes[0], hashes[1]);
        assert_eq!(hashes[0], hashes[2]);
        fs::create_dir(folder.path().join("results")).unwrap();
        fs::write(folder.path().join("results/x"), "x").unwrap();
        fs::remove_file(folder.path().join("a b")).unwrap();
        assert_eq!(Build::here(folder.path(), &[]).dirty, Some(false));
    }
}
