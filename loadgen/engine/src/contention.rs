//! Competition for the CPUs that a measurement needs: other processes, and the quotas of the
//! generator's control groups. What the system does not report is absent, never 0.

use std::fs;
use std::path::{Path, PathBuf};

use nix::time::ClockId;
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// What the generator was deprived of during a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Contention {
    /// The smallest CPU quota of its control groups, in CPUs; `None` without a quota.
    pub cpu_quota: Option<f64>,
    /// How often a quota stopped the processes of a group.
    pub throttled_times: Option<u64>,
    /// How long a quota stopped them, summed over CPUs, in seconds.
    pub throttled_s: Option<f64>,
    /// The share of the generator's pinned CPUs that other processes used, 0 to 1.
    pub cpus_used_by_others: Option<f64>,
    /// The share of their time that the hypervisor gave to others.
    pub cpus_steal: Option<f64>,
    /// The total time of these CPUs, in seconds.
    #[serde(skip)]
    pub cpus_s: Option<f64>,
}

impl Contention {
    /// Subtracts CPU time of a process that does not count as another, used wholly or partly on
    /// these CPUs.
    pub fn take_off(&mut self, used_s: f64) {
        if let (Some(others), Some(cpus_s)) = (&mut self.cpus_used_by_others, self.cpus_s) {
            *others = (*others - used_s / cpus_s).max(0.0);
        }
    }
}

/// Whether server and generator have no CPU in common, given the CPUs they are pinned to; an empty
/// list means not pinned.
pub fn are_apart(server: &[usize], client: &[usize]) -> bool {
    !server.is_empty() && !client.is_empty() && !server.iter().any(|cpu| client.contains(cpu))
}

/// The readings at the start of a period.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    groups: Vec<Group>,
    throttled: Option<Throttled>,
    cpus: Vec<usize>,
    times: Option<CpuTimes>,
    own_s: f64,
}

impl Watch {
    /// Starts a period. `cpus` are the CPUs that the generator is pinned to; empty if it is not
    /// pinned.
    pub fn start(cpus: &[usize]) -> Self {
        let groups = groups();
        Watch {
            throttled: throttled(&groups),
            groups,
            cpus: cpus.to_vec(),
            times: CpuTimes::of(cpus),
            own_s: own_cpu_s(),
        }
    }

    /// Ends the period.
    pub fn finish(&self) -> Contention {
        let throttled = throttled(&self.groups).zip(self.throttled);
        let throttled = throttled.map(|(end, begin)| end.since(begin));
        let own_s = own_cpu_s() - self.own_s;
        let times = CpuTimes::of(&self.cpus).zip(self.times);
        Contention {
            cpu_quota: quota_of(&self.groups),
            throttled_times: throttled.map(|it| it.times),
            throttled_s: throttled.map(|it| it.ns as f64 / 1e9),
            cpus_used_by_others: times.and_then(|(end, begin)| end.used_by_others(begin, own_s)),
            cpus_steal: times.and_then(|(end, begin)| end.stolen(begin)),
            cpus_s: times.and_then(|(end, begin)| end.seconds_since(begin)),
        }
    }
}

/// CPU time of this process so far, in seconds.
pub fn own_cpu_s() -> f64 {
    let own = ClockId::CLOCK_PROCESS_CPUTIME_ID.now();
    own.map_or(0.0, |own| std::time::Duration::from(own).as_secs_f64())
}

/// CPU time of some CPUs since boot, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    all: u64,
    /// Time of processes, in user mode or in the kernel; interrupts are not counted.
    used: u64,
    idle: u64,
    stolen: u64,
}

impl CpuTimes {
    /// The current values; `None` if none of these CPUs exists.
    pub fn of(cpus: &[usize]) -> Option<Self> {
        CpuTimes::parse(&fs::read_to_string("/proc/stat").ok()?, cpus)
    }

    /// Parses the text of `/proc/stat`.
    fn parse(stat: &str, cpus: &[usize]) -> Option<Self> {
        let mut sum = CpuTimes::default();
        let mut found = 0;
        for line in stat.lines() {
            let mut fields = line.split_ascii_whitespace();
            let cpu = fields.next().and_then(|name| name.strip_prefix("cpu"));
            let Some(cpu) = cpu.and_then(|number| number.parse::<usize>().ok()) else {
                continue;
            };
            if !cpus.contains(&cpu) {
                continue;
            }
            let ticks: Vec<u64> = fields.map_while(|tick| tick.parse().ok()).collect();
            // user nice system idle iowait irq softirq steal; the guest times after them are
            // included in user.
            let &[user, nice, system, idle, iowait, _, _, steal] = ticks.get(..8)? else {
                return None;
            };
            found += 1;
            sum.all += ticks[..8].iter().sum::<u64>();
            sum.used += user + nice + system;
            sum.idle += idle + iowait;
            sum.stolen += steal;
        }
        (found > 0 && found == cpus.len()).then_some(sum)
    }

    /// The share of the time since `earlier` that processes used, apart from `own_s` seconds. The
    /// kernel samples the running process at each tick, so the sampling error is subtracted.
    pub fn used_by_others(&self, earlier: CpuTimes, own_s: f64) -> Option<f64> {
        let ticks_per_s = sysconf(SysconfVar::CLK_TCK).ok()??;
        self.used_by_others_at(earlier, own_s, ticks_per_s as f64)
    }

    fn used_by_others_at(&self, earlier: CpuTimes, own_s: f64, ticks_per_s: f64) -> Option<f64> {
        let all = self.all.checked_sub(earlier.all).filter(|&all| all > 0)? as f64;
        let used = self.used.saturating_sub(earlier.used) as f64;
        let busy = used / all;
        // Two standard deviations of this many samples.
        let chance = 2.0 * (all * busy * (1.0 - busy).max(0.0)).sqrt();
        Some(((used - own_s * ticks_per_s - chance) / all).clamp(0.0, 1.0))
    }

    /// The time since `earlier`, summed over the CPUs.
    fn seconds_since(&self, earlier: CpuTimes) -> Option<f64> {
        let ticks_per_s = sysconf(SysconfVar::CLK_TCK).ok()??;
        let all = self.all.checked_sub(earlier.all).filter(|&all| all > 0)?;
        Some(all as f64 / ticks_per_s as f64)
    }

    /// The share of the time since `earlier` that the hypervisor gave to others.
    fn stolen(&self, earlier: CpuTimes) -> Option<f64> {
        let all = self.all.checked_sub(earlier.all).filter(|&all| all > 0)?;
        Some(self.stolen.saturating_sub(earlier.stolen) as f64 / all as f64)
    }
}

/// The CPU quota of this process by its control groups, in CPUs; `None` without a quota.
pub fn cpu_quota() -> Option<f64> {
    quota_of(&groups())
}

fn quota_of(groups: &[Group]) -> Option<f64> {
    groups
        .iter()
        .filter_map(Group::quota)
        .min_by(f64::total_cmp)
}

/// The throttling of the group that was stopped most.
fn throttled(groups: &[Group]) -> Option<Throttled> {
    let all = groups.iter().filter_map(Group::throttled);
    all.max_by_key(|throttled| throttled.ns)
}

/// How often and how long a quota has stopped a group since its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Throttled {
    times: u64,
    ns: u64,
}

impl Throttled {
    fn since(self, earlier: Throttled) -> Throttled {
        Throttled {
            times: self.times.saturating_sub(earlier.times),
            ns: self.ns.saturating_sub(earlier.ns),
        }
    }

    /// Parses `cpu.stat`, whose names and units depend on the version.
    fn parse(stat: &str) -> Option<Self> {
        let number = |name: &str| {
            let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
            let (_, value) = lines.find(|(key, _)| *key == name)?;
            value.trim().parse::<u64>().ok()
        };
        let ns = number("throttled_time").or_else(|| Some(number("throttled_usec")? * 1000));
        Some(Throttled {
            times: number("nr_throttled")?,
            ns: ns?,
        })
    }
}

/// A control group with a CPU quota, cgroups(7).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    fn quota(&self) -> Option<f64> {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).ok();
        match self.version {
            Version::One => quota(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?),
            Version::Two => {
                let text = read("cpu.max")?;
                let (quota_us, period_us) = text.trim().split_once(' ')?;
                quota(quota_us, period_us)
            }
        }
    }

    fn throttled(&self) -> Option<Throttled> {
        self.quota()?;
        Throttled::parse(&fs::read_to_string(self.folder.join("cpu.stat")).ok()?)
    }
}

/// A quota in CPUs: `60000` of `100000` microseconds are 0.6 CPUs; `max` and `-1` mean no quota.
fn quota(quota_us: &str, period_us: &str) -> Option<f64> {
    let quota_us: f64 = quota_us.trim().parse().ok()?;
    let period_us: f64 = period_us.trim().parse().ok()?;
    (quota_us > 0.0 && period_us > 0.0).then(|| (quota_us / period_us * 1000.0).round() / 1000.0)
}

/// The groups of this process, from its own up to the root.
fn groups() -> Vec<Group> {
    let read = |name| fs::read_to_string(name).unwrap_or_default();
    groups_from(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// Finds the groups in the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn groups_from(cgroup: &str, mountinfo: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in cgroup.lines() {
        // Lines are NUMBER:CONTROLLERS:PATH; in version 2, 0::PATH.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = match controllers {
            "" => Version::Two,
            _ if controllers.split(',').any(|it| it == "cpu") => Version::One,
            _ => continue,
        };
        // A later mount hides an earlier one at the same place.
        let mut mounts = mountinfo.lines().rev().filter_map(Mount::parse);
        let Some(mount) = mounts.find(|mount| mount.version == version) else {
            continue;
        };
        // A container may see its own group as the root, or only part of the tree.
        let within = Path::new(path)
            .strip_prefix(&mount.root)
            .unwrap_or(Path::new(""));
        let mut folder = mount.point.join(within.strip_prefix("/").unwrap_or(within));
        loop {
            groups.push(Group {
                folder: folder.clone(),
                version,
            });
            if folder == mount.point || !folder.pop() {
                break;
            }
        }
    }
    groups
}

/// The mount point of a control group hierarchy with the cpu controller.
struct Mount {
    version: Version,
    /// The part of the tree that is mounted.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Parses a line of `/proc/self/mountinfo`, proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1).unwrap_or_default());
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if options.split(',').any(|it| it == "cpu") => Version::One,
            _ => return None,
        };
        Some(Mount {
            version,
            root: PathBuf::from(unescaped(root)),
            point: PathBuf::from(unescaped(point)),
        })
    }
}

/// Decodes blanks, which names contain as `\040`.
fn unescaped(name: &str) -> String {
    name.replace("\\040", " ").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_in_cpus() {
        for (quota_us, period_us, cpus) in [
            ("60000\n", "100000\n", Some(0.6)),
            ("150000", "100000", Some(1.5)),
            ("max", "100000", None),
            ("-1", "100000", None),
            ("", "", None),
            ("60000", "0", None),
        ] {
            assert_eq!(quota(quota_us, period_us), cpus, "{quota_us} {period_us}");
        }
    }

    #[test]
    fn throttling_by_both_versions() {
        let two =
            "usage_usec 5\nuser_usec 3\nnr_periods 40\nnr_throttled 18\nthrottled_usec 720000\n";
        let one = "nr_periods 40\nnr_throttled 18\nthrottled_time 720000000\n";
        for stat in [two, one] {
            let throttled = Throttled::parse(stat).unwrap();
            assert_eq!((throttled.times, throttled.ns), (18, 720_000_000), "{stat}");
            let earlier = Throttled {
                times: 8,
                ns: 20_000_000,
            };
            let since = throttled.since(earlier);
            assert_eq!((since.times, since.ns), (10, 700_000_000), "{stat}");
        }
        // A kernel without quotas counts none.
        assert_eq!(Throttled::parse("usage_usec 5\nuser_usec 3\n"), None);
    }

    #[test]
    fn groups_up_to_the_root() {
        let v2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let container = "31 23 0:28 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw";
        let v1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                  32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
                  33 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset";
        let rows: [(&str, &str, &[&str]); 6] = [
            (
                "0::/a.slice/b c",
                v2,
                &[
                    "/sys/fs/cgroup/a.slice/b c",
                    "/sys/fs/cgroup/a.slice",
                    "/sys/fs/cgroup",
                ],
            ),
            ("0::/", v2, &["/sys/fs/cgroup"]),
            ("0::/docker/abc", container, &["/sys/fs/cgroup"]),
            (
                "0::/docker/abc/in",
                container,
                &["/sys/fs/cgroup/in", "/sys/fs/cgroup"],
            ),
            (
                "3:cpuset:/x\n1:cpu,cpuacct:/x\n0::/y",
                v1,
                &["/sys/fs/cgroup/cpu,cpuacct/x", "/sys/fs/cgroup/cpu,cpuacct"],
            ),
            ("0::/", "", &[]),
        ];
        for (cgroup, mountinfo, folders) in rows {
            let groups = groups_from(cgroup, mountinfo);
            let folders: Vec<_> = folders.iter().map(PathBuf::from).collect();
            let seen: Vec<_> = groups.into_iter().map(|group| group.folder).collect();
            assert_eq!(seen, folders, "{cgroup}");
        }
    }

    #[test]
    fn the_least_quota_of_all_groups_is_the_one_that_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        for (folder, max, stat) in [
            ("outer", "60000 100000", "nr_throttled 7\nthrottled_usec 9"),
            (
                "outer/inner",
                "150000 100000",
                "nr_throttled 0\nthrottled_usec 0",
            ),
        ] {
            fs::write(root.path().join(folder).join("cpu.max"), max).unwrap();
            fs::write(root.path().join(folder).join("cpu.stat"), stat).unwrap();
        }
        let mountinfo = format!("31 23 0:28 / {} rw - cgroup2 c rw", root.path().display());
        let groups = groups_from("0::/outer/inner", &mountinfo);
        assert_eq!(groups.len(), 3);
        assert_eq!(quota_of(&groups), Some(0.6));
        let stopped = throttled(&groups).unwrap();
        assert_eq!((stopped.times, stopped.ns), (7, 9_000));
        // Without a quota nothing is throttled, which is not the same as never.
        assert_eq!(throttled(&groups_from("0::/", &mountinfo)), None);
    }

    const STAT: &str = "cpu  300 0 100 600 0 0 0 0 0 0\n\
                        cpu0 200 0 50 250 0 5 5 0 0 0\n\
                        cpu1 100 0 50 300 0 0 0 50 0 0\n\
                        intr 5";

    #[test]
    fn times_of_some_cpus() {
        let times = |cpus: &[usize]| CpuTimes::parse(STAT, cpus);
        let one = times(&[0]).unwrap();
        assert_eq!(
            (one.all, one.used, one.idle, one.stolen),
            (510, 250, 250, 0)
        );
        let both = times(&[0, 1]).unwrap();
        assert_eq!((both.used, both.stolen), (400, 50));
        assert_eq!(times(&[]), None);
        assert_eq!(times(&[7]), None);
        assert_eq!(times(&[0, 7]), None);
    }

    #[test]
    fn others_are_who_used_what_we_did_not() {
        let begin = CpuTimes::default();
        let end = |used, stolen| CpuTimes {
            all: 1000,
            used,
            idle: 1000 - used - stolen,
            stolen,
        };
        // All of ten seconds was used.
        for (own_s, share) in [(10.0, 0.0), (6.0, 0.4), (11.0, 0.0), (0.0, 1.0)] {
            let others = end(1000, 0).used_by_others_at(begin, own_s, 100.0).unwrap();
            assert!((others - share).abs() < 1e-9, "{own_s}: {others}");
        }
        // Half of it: three percent by other processes may be chance.
        let half = |own_s| end(500, 0).used_by_others_at(begin, own_s, 100.0).unwrap();
        assert_eq!(half(4.7), 0.0);
        assert!(half(3.0) > 0.15, "{}", half(3.0));
        assert_eq!(end(0, 60).stolen(begin), Some(0.06));
        assert_eq!(begin.stolen(begin), None);
    }

    #[test]
    fn a_server_on_the_same_cpus_is_nobody_else() {
        for (server, client, apart) in [
            (&[0][..], &[1][..], true),
            (&[0, 1], &[2, 3], true),
            (&[0, 1], &[1, 2], false),
            (&[0], &[0], false),
            (&[0], &[], false),
            (&[], &[1], false),
            (&[], &[], false),
        ] {
            assert_eq!(are_apart(server, client), apart, "{server:?} {client:?}");
        }
        for (others, server_s, left) in [(0.5, 2.0, 0.25), (0.5, 0.0, 0.5), (0.5, 9.0, 0.0)] {
            let mut contention = Contention {
                cpus_used_by_others: Some(others),
                cpus_s: Some(8.0),
                ..Contention::default()
            };
            contention.take_off(server_s);
            assert_eq!(contention.cpus_used_by_others, Some(left));
        }
        let mut unknown = Contention::default();
        unknown.take_off(1.0);
        assert_eq!(unknown, Contention::default());
    }
}
