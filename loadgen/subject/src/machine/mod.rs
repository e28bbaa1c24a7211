//! Facts about this machine and the build, without which a figure is meaningless. Unknown facts are
//! absent. No fact names a host, a user or a path.

mod ask;
mod build;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use ask::output;
pub use build::{Build, ServerBuild};
use engine::affinity::CpuList;
use engine::{contention, foreign};

/// The CPUs that server and generator run on; empty means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinning {
    /// The CPUs of the server.
    pub server: Vec<usize>,
    /// The CPUs of the generator.
    pub client: Vec<usize>,
}

impl Pinning {
    /// Divides the cores of `cpus`: the first half for the server, the second (the larger one if
    /// the number is odd) for the generator. Threads of one core share its execution units and
    /// would affect each other, so they stay together unless there is a single core. A single CPU
    /// cannot be divided: then neither side is pinned.
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

/// For each CPU, the CPUs of the same core, itself included. A missing CPU is assumed to have no
/// siblings.
pub type Siblings = BTreeMap<usize, Vec<usize>>;

/// The siblings of these CPUs, as reported by the system.
pub fn siblings_of(cpus: &[usize]) -> Siblings {
    let siblings = |cpu: usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let CpuList(siblings) = line_of(&path)?.parse().ok()?;
        siblings.contains(&cpu).then_some((cpu, siblings))
    };
    cpus.iter().filter_map(|&cpu| siblings(cpu)).collect()
}

/// These CPUs grouped by core.
pub fn cores_of(cpus: &[usize], siblings: &Siblings) -> Vec<Vec<usize>> {
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

/// The content of `machine.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The model as in `/proc/cpuinfo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// CPUs that the generator could use when it started; 0 if unknown.
    pub cpus: usize,
    /// Name, release and architecture of the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The hypervisor; `unknown` if there is one that does not give its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// Memory in GiB, with one decimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gib: Option<f64>,
    /// The frequency governor of the first CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// The smallest CPU quota of the control groups of the generator and the processes it starts,
    /// in CPUs; absent without a quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<f64>,
    /// The generator's soft limit on open files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files_max: Option<u64>,
    /// The share of all CPUs' time that the hypervisor took during the measurement, in percent; the
    /// largest value if the measurement was resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steal_percent: Option<f64>,
    /// The CPUs of server and generator.
    pub pinning: Pinning,
    /// The relevant settings, by name.
    pub sysctls: BTreeMap<String, String>,
    /// The kernel's mitigation of each CPU vulnerability, in its own words; absent in the first
    /// sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mitigations: Option<BTreeMap<String, String>>,
}

/// The setting that affects the cost of a request: some algorithms use timers, others do not.
const CONGESTION_CONTROL: &str = "net.ipv4.tcp_congestion_control";

const SYSCTLS: [&str; 6] = [
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    CONGESTION_CONTROL,
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_tw_reuse",
    "fs.file-max",
];

impl Machine {
    /// Examines this machine.
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
            cpu_model: field(&cpuinfo, "model name").or_else(|| {
                // Some architectures do not list the model in `/proc/cpuinfo`.
                let model = field(&output(Path::new("/"), "lscpu", &[])?, "Model name")?;
                (model != "-").then_some(model)
            }),
            cpus,
            kernel: kernel(),
            hypervisor: hypervisor(&cpuinfo),
            memory_gib: memory_kib.map(|kib| (kib / 1_048_576.0 * 10.0).round() / 10.0),
            governor: line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            cpu_quota: contention::cpu_quota(),
            open_files_max: getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| soft),
            steal_percent: None,
            pinning,
            sysctls: SYSCTLS.into_iter().filter_map(sysctl).collect(),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
        }
    }

    /// How `other` differs from this machine. Facts that affect its speed are differences; others
    /// are remarks.
    pub fn likeness(&self, other: &Machine) -> Likeness {
        let mut likeness = Likeness::default();
        likeness.known("CPU", self.cpu_model.as_ref(), other.cpu_model.as_ref());
        likeness.known("kernel", self.kernel.as_ref(), other.kernel.as_ref());
        likeness.fact(
            "hypervisor",
            self.hypervisor.as_ref(),
            other.hypervisor.as_ref(),
        );
        likeness.fact("governor", self.governor.as_ref(), other.governor.as_ref());
        let cpus = |machine: &Machine| (machine.cpus > 0).then_some(machine.cpus);
        likeness.known("number of CPUs", cpus(self).as_ref(), cpus(other).as_ref());
        self.compare_mitigations(other, &mut likeness);
        let (mine, theirs) = (&self.pinning, &other.pinning);
        // The order in which CPUs were listed does not matter.
        let set = |cpus: &[usize]| cpus.iter().copied().collect::<BTreeSet<usize>>();
        for (what, mine, theirs) in [
            ("server's CPUs", &mine.server, &theirs.server),
            ("generator's CPUs", &mine.client, &theirs.client),
        ] {
            if set(mine) != set(theirs) {
                likeness.fact(what, Some(mine), Some(theirs));
            }
        }
        for name in SYSCTLS {
            let (mine, theirs) = (self.sysctls.get(name), other.sysctls.get(name));
            match name == CONGESTION_CONTROL {
                true => likeness.fact(name, mine, theirs),
                false => likeness.remark(name, mine, theirs),
            }
        }
        let (mine, theirs) = (self.cpu_quota.as_ref(), other.cpu_quota.as_ref());
        likeness.fact("CPU quota", mine, theirs);
        // The kernel may reserve a little more or less memory for itself.
        let gib = |machine: &Machine| machine.memory_gib.map(f64::round);
        likeness.remark("memory, GiB", gib(self).as_ref(), gib(other).as_ref());
        let (mine, theirs) = (&self.open_files_max, &other.open_files_max);
        likeness.remark("open files", mine.as_ref(), theirs.as_ref());
        likeness
    }

    fn compare_mitigations(&self, other: &Machine, likeness: &mut Likeness) {
        let (Some(mine), Some(theirs)) = (&self.mitigations, &other.mitigations) else {
            let which = match (&self.mitigations, &other.mitigations) {
                (None, None) => "both",
                _ => "one of them",
            };
            likeness
                .remarks
                .push(format!("mitigations of the CPU: unknown in {which}"));
            return;
        };
        let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        for name in names {
            let what = format!("mitigation of {name}");
            likeness.fact(&what, mine.get(name), theirs.get(name));
        }
    }

    /// A summary in one line: CPU, count, kernel, hypervisor.
    pub fn summary(&self) -> String {
        let model = self.cpu_model.as_deref().unwrap_or("unknown CPU");
        let kernel = self.kernel.as_deref().unwrap_or("unknown kernel");
        let virtual_machine = match self.hypervisor.as_deref() {
            Some("unknown") => ", a virtual machine".to_owned(),
            Some(name) => format!(", a virtual machine ({name})"),
            None => String::new(),
        };
        let cpus = match self.cpus {
            0 => "an unknown number of CPUs".to_owned(),
            1 => "1 CPU".to_owned(),
            cpus => format!("{cpus} CPUs"),
        };
        // A record may contain anything, and this is shown on terminals.
        foreign::escaped(&format!("{model}, {cpus}, {kernel}{virtual_machine}"))
    }
}

/// How similar two machines or two builds are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Likeness {
    /// Differences that prevent a comparison of their measurements.
    pub differences: Vec<String>,
    /// Differences that affect no figure, and unknown facts, to be mentioned.
    pub remarks: Vec<String>,
}

impl Likeness {
    /// Compares a fact that must be equal. Absence is a fact as well.
    fn fact<T: PartialEq + Debug>(&mut self, what: &str, one: Option<&T>, other: Option<&T>) {
        if one != other {
            self.differences.push(both(what, one, other, "none"));
        }
    }

    /// Compares a fact that must be equal if it is known.
    fn known<T: PartialEq + Debug>(&mut self, what: &str, one: Option<&T>, other: Option<&T>) {
        match (one, other) {
            (None, None) => self.remarks.push(format!("{what}: unknown in both")),
            _ if one != other => self.differences.push(both(what, one, other, "unknown")),
            _ => {}
        }
    }

    /// Compares a fact that may differ.
    fn remark<T: PartialEq + Debug>(&mut self, what: &str, one: Option<&T>, other: Option<&T>) {
        if one != other {
            self.remarks.push(both(what, one, other, "none"));
        }
    }
}

fn both<T: Debug>(what: &str, one: Option<&T>, other: Option<&T>, absent: &str) -> String {
    let shown = |fact: Option<&T>| fact.map_or(absent.to_owned(), |fact| format!("{fact:?}"));
    let what = foreign::escaped(what);
    format!("{what}: {} and {}", shown(one), shown(other))
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

/// The value in the first line `key : value`.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// The first line of a file; `None` if it is empty.
fn line_of(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The kernel's reports in this folder, one file each.
fn mitigations(folder: &Path) -> Option<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        // A file that may not be read is unknown, not empty.
        let text = fs::read_to_string(entry.path()).ok()?;
        all.insert(name, text.trim().to_owned());
    }
    Some(all)
}

#[cfg(test)]
mod tests {
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
    fn this_machine_is_the_same_as_itself() {
        let here = Machine::here(
            2,
            Pinning::split(&engine::affinity::own_cpus(), &Siblings::new()),
        );
        assert_eq!(here.likeness(&here).differences, [""; 0]);
        let text = toml::to_string(&here).unwrap();
        assert_eq!(toml::from_str::<Machine>(&text).unwrap(), here);
        let other = Machine {
            cpus: 64,
            ..here.clone()
        };
        assert_eq!(
            here.likeness(&other).differences,
            ["number of CPUs: 2 and 64"]
        );
    }

    /// Facts that affect speed are differences; unknown ones are remarks.
    #[test]
    fn what_makes_another_machine() {
        let table = |rows: &[(&str, &str)]| -> BTreeMap<String, String> {
            let rows = rows.iter();
            rows.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let machine = Machine {
            cpu_model: Some("A CPU".to_owned()),
            cpus: 2,
            kernel: Some("Linux 6.18".to_owned()),
            memory_gib: Some(23.5),
            pinning: Pinning {
                server: Vec::new(),
                client: vec![1, 3],
            },
            sysctls: table(&[("fs.file-max", "1"), (CONGESTION_CONTROL, "bbr")]),
            mitigations: Some(table(&[
                ("meltdown", "Mitigation: PTI"),
                ("mds", "Not affected"),
            ])),
            ..Machine::default()
        };
        let sysctl = |name: &'static str| {
            move |machine: &mut Machine| {
                machine.sysctls.insert(name.to_owned(), "cubic".to_owned());
            }
        };
        /// The change, the way it is made, the differences and the remarks.
        type Row<'a> = (&'a str, &'a dyn Fn(&mut Machine), &'a str, &'a str);
        let rows: [Row<'_>; 12] = [
            ("nothing", &|_| {}, "", ""),
            (
                "a CPU quota",
                &|it| it.cpu_quota = Some(0.6),
                "CPU quota: none and 0.6",
                "",
            ),
            (
                "mitigations",
                &|it| {
                    it.mitigations
                        .as_mut()
                        .unwrap()
                        .insert("meltdown".to_owned(), "Vulnerable".to_owned());
                },
                "mitigation of meltdown: \"Mitigation: PTI\" and \"Vulnerable\"",
                "",
            ),
            (
                "mitigations that are unknown",
                &|it| it.mitigations = None,
                "",
                "mitigations of the CPU: unknown in one of them",
            ),
            (
                "kernel",
                &|it| it.kernel = None,
                "kernel: \"Linux 6.18\" and unknown",
                "",
            ),
            (
                "hypervisor",
                &|it| it.hypervisor = Some("KVM".to_owned()),
                "hypervisor: none and \"KVM\"",
                "",
            ),
            (
                "pinning",
                &|it| it.pinning.server = vec![0],
                "server's CPUs: [] and [0]",
                "",
            ),
            (
                "the same pinning in other words",
                &|it| it.pinning.client = vec![3, 1, 1],
                "",
                "",
            ),
            (
                "congestion control",
                &sysctl(CONGESTION_CONTROL),
                "net.ipv4.tcp_congestion_control: \"bbr\" and \"cubic\"",
                "",
            ),
            (
                "another sysctl",
                &sysctl("net.core.somaxconn"),
                "",
                "net.core.somaxconn: none and \"cubic\"",
            ),
            (
                "memory",
                &|it| it.memory_gib = Some(31.0),
                "",
                "memory, GiB: 24.0 and 31.0",
            ),
            (
                "open files",
                &|it| it.open_files_max = Some(9),
                "",
                "open files: none and 9",
            ),
        ];
        for (what, change, difference, remark) in rows {
            let mut other = machine.clone();
            change(&mut other);
            let likeness = machine.likeness(&other);
            assert_eq!(likeness.differences.join("; "), difference, "{what}");
            assert_eq!(likeness.remarks.join("; "), remark, "{what}");
        }
        let nothing = Machine::default();
        assert_eq!(
            nothing.likeness(&nothing).remarks,
            [
                "CPU: unknown in both",
                "kernel: unknown in both",
                "number of CPUs: unknown in both",
                "mitigations of the CPU: unknown in both"
            ]
        );
    }
}
