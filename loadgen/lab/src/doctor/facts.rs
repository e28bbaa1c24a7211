//! What the system reports about itself, and what a clock shows about it; without judgement.

use std::fs;
use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};

use engine::affinity::{CpuList, own_cpus};
use engine::cpu_time::CpuTime;
use subject::machine::Siblings;

/// A fact, or the reason why it is unknown.
pub type Fact<T> = Result<T, Unread>;

/// Why a fact is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The file with the fact does not exist.
    #[error("no {0}")]
    Absent(String),
    /// The file exists but cannot be read.
    #[error("{0}: {1}")]
    Refused(String, String),
    /// The file has unexpected content.
    #[error("{0} says {1:?}")]
    Strange(String, String),
}

/// All facts that are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The privileges of this process.
    pub privileges: Fact<Privileges>,

    /// The CPUs that are online.
    pub online: Fact<Vec<usize>>,
    /// The CPUs that this process may use; empty if unknown.
    pub allowed: Vec<usize>,
    /// For the known ones of these CPUs, the CPUs on the same core, including itself.
    pub siblings: Siblings,
    /// The CPU quota of the control group in whole CPUs, rounded down, if it is less than the
    /// number of CPUs.
    pub quota: Fact<Option<usize>>,
    /// The frequency governors of the CPUs, each once.
    pub governors: Fact<Vec<String>>,
    /// CPU time of all CPUs at the start and the end of a period in which this process did almost
    /// nothing.
    pub moment: Fact<(CpuTime, CpuTime)>,
    /// The load average over one minute.
    pub load_average: Fact<f64>,

    /// The clock source of the kernel.
    pub clock_source: Fact<String>,
    /// The other available clock sources.
    pub clock_sources: Fact<Vec<String>>,
    /// The time to read the monotonic clock.
    pub clock_read: Duration,
    /// How late short sleeps ended.
    pub lateness: Lateness,
    /// How much later than requested the kernel may wake this process, in ns.
    pub timer_slack_ns: Fact<u64>,

    /// Memory in KiB: total and available.
    pub memory_kib: Fact<(u64, u64)>,
    /// The soft and the hard limit on open files.
    pub open_files: Fact<(u64, u64)>,

    /// The first and the last local port.
    pub port_range: Fact<(u64, u64)>,
    /// `net.ipv4.tcp_tw_reuse`: 0 never, 1 always, 2 on loopback.
    pub time_wait_reuse: Fact<u64>,
    /// How long a port rests before reuse (`tcp_tw_reuse_delay`), in ms. Absent before Linux 6.14,
    /// where it is a second.
    pub time_wait_reuse_delay_ms: Fact<u64>,
    /// `net.ipv4.tcp_timestamps`: without timestamps nothing is reused.
    pub timestamps: Fact<u64>,
    /// The number of sockets in TIME_WAIT.
    pub time_wait: Fact<u64>,
    /// `net.ipv4.tcp_fin_timeout`, s.
    pub fin_timeout_s: Fact<u64>,
    /// `net.core.somaxconn`.
    pub accept_queue_max: Fact<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub syn_backlog_max: Fact<u64>,
    /// `net.ipv4.tcp_syncookies`: 0 never, 1 when a queue is full, 2 always.
    pub syn_cookies: Fact<u64>,
    /// The default congestion control.
    pub congestion_control: Fact<String>,
    /// The other available congestion controls.
    pub congestion_controls: Fact<Vec<String>>,
    /// The connections tracked by nf_conntrack while one was open over loopback, and their maximum.
    pub tracked: Fact<(u64, u64)>,
    /// The MTU of the loopback interface, in bytes.
    pub loopback_mtu: Fact<u64>,

    /// The state of `tracefs`.
    pub tracefs: Fact<Tracefs>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Fact<i64>,
    /// `kernel.io_uring_disabled`: 0 for no process, 1 for unprivileged processes, 2 for all.
    pub io_uring_disabled: Fact<u64>,
}

/// The privileges of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privileges {
    /// It is root, perhaps only of a container.
    pub root: bool,
    /// It has CAP_SYS_ADMIN for the machine itself.
    pub admin: bool,
    /// It has CAP_PERFMON for the machine itself, or CAP_SYS_ADMIN, which includes it.
    pub perfmon: bool,
    /// A seccomp filter restricts its system calls.
    pub filtered: bool,
}

/// How late short sleeps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lateness {
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

/// The state of `tracefs`, the file system that shows the kernel's tracepoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracefs {
    /// Mounted at this path, and system calls can be counted.
    Readable(String),
    /// Mounted, but not readable by this user.
    Forbidden,
    /// Mounted, but without the tracepoints of system calls.
    Incomplete,
    /// Not mounted.
    Unmounted,
    /// Not supported by the kernel.
    Unsupported,
}

/// How long other processes are watched and sleeps are timed. A 99th percentile needs at least 381
/// sleeps; there are fewer only if even their mean is too late.
const MOMENT: Duration = Duration::from_millis(600);

impl Facts {
    /// Examines this machine; takes 0.6 seconds.
    pub fn here() -> Self {
        Facts::gather(Path::new("/"), MOMENT)
    }

    /// Reads the files below `root`, over a period of this length.
    fn gather(root: &Path, moment: Duration) -> Self {
        let tree = Tree(root.to_owned());
        let before = cpu_time(&tree);
        let lateness = lateness(moment);
        let moment = before.and_then(|before| Ok((before, cpu_time(&tree)?)));

        let allowed = own_cpus();
        let ipv4 = |name: &str| tree.value(&format!("/proc/sys/net/ipv4/{name}"));
        let clocks = "/sys/devices/system/clocksource/clocksource0";
        Facts {
            privileges: privileges(&tree),
            online: tree
                .value("/sys/devices/system/cpu/online")
                .map(|CpuList(cpus)| cpus),
            siblings: (allowed.iter())
                .filter_map(|&cpu| Some((cpu, siblings(&tree, cpu)?)))
                .collect(),
            quota: quota(&tree, allowed.len()),
            governors: governors(&tree, &allowed),
            allowed,
            moment,
            load_average: tree.word("/proc/loadavg", 0),
            clock_source: tree.value(&format!("{clocks}/current_clocksource")),
            clock_sources: tree.words(&format!("{clocks}/available_clocksource")),
            clock_read: clock_read(),
            lateness,
            timer_slack_ns: tree.value("/proc/self/timerslack_ns"),
            memory_kib: memory_kib(&tree),
            open_files: open_files(),
            port_range: port_range(&tree),
            time_wait_reuse: ipv4("tcp_tw_reuse"),
            time_wait_reuse_delay_ms: ipv4("tcp_tw_reuse_delay"),
            timestamps: ipv4("tcp_timestamps"),
            time_wait: time_wait(&tree),
            fin_timeout_s: ipv4("tcp_fin_timeout"),
            accept_queue_max: tree.value("/proc/sys/net/core/somaxconn"),
            syn_backlog_max: ipv4("tcp_max_syn_backlog"),
            syn_cookies: ipv4("tcp_syncookies"),
            congestion_control: tree.value("/proc/sys/net/ipv4/tcp_congestion_control"),
            congestion_controls: tree.words("/proc/sys/net/ipv4/tcp_available_congestion_control"),
            tracked: tracked(&tree),
            loopback_mtu: loopback_mtu(&tree),
            tracefs: tracefs(&tree),
            perf_event_paranoid: tree.value("/proc/sys/kernel/perf_event_paranoid"),
            io_uring_disabled: tree.value("/proc/sys/kernel/io_uring_disabled"),
        }
    }
}

fn cpu_time(tree: &Tree) -> Fact<CpuTime> {
    let path = "/proc/stat";
    let text = tree.text(path)?;
    CpuTime::parse(&text).ok_or_else(|| strange(path, &text))
}

/// Sleeps a millisecond at a time for the whole period.
fn lateness(moment: Duration) -> Lateness {
    const SLEEP: Duration = Duration::from_millis(1);
    let end = Instant::now() + moment;
    let mut late = Vec::new();
    while late.is_empty() || Instant::now() < end {
        let started = Instant::now();
        thread::sleep(SLEEP);
        late.push(started.elapsed().saturating_sub(SLEEP));
    }
    late.sort_unstable();
    let rank = |percent: usize| late[(late.len() * percent).div_ceil(100) - 1];
    Lateness {
        p50: rank(50),
        p99: rank(99),
    }
}

fn privileges(tree: &Tree) -> Fact<Privileges> {
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON: u64 = 1 << 38;
    let path = "/proc/self/status";
    let text = tree.text(path)?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        // Of the user IDs, the first is the real and the second the effective one.
        line.map(|values| values.split_ascii_whitespace().collect::<Vec<_>>())
            .ok_or_else(|| strange(path, &text))
    };
    let capabilities = field("CapEff:")?.first().copied().unwrap_or_default();
    let capabilities = u64::from_str_radix(capabilities, 16).map_err(|_| strange(path, &text))?;
    // In a user namespace, capabilities apply to the namespace and not to the machine.
    let everybody = |map: String| {
        map.split_ascii_whitespace()
            .eq(["0", "0", &u32::MAX.to_string()])
    };
    let of_machine = tree.text("/proc/self/uid_map").is_ok_and(everybody);
    let has = |capability: u64| of_machine && capabilities & capability != 0;
    Ok(Privileges {
        root: field("Uid:")?.get(1) == Some(&"0"),
        admin: has(SYS_ADMIN),
        perfmon: has(PERFMON | SYS_ADMIN),
        filtered: field("Seccomp:").is_ok_and(|mode| mode == ["2"]),
    })
}

fn siblings(tree: &Tree, cpu: usize) -> Option<Vec<usize>> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let CpuList(siblings) = tree.value(&path).ok()?;
    siblings.contains(&cpu).then_some(siblings)
}

fn quota(tree: &Tree, cpus: usize) -> Fact<Option<usize>> {
    // The standard library reads the quota of all groups around this process, but does not report
    // whether it found any.
    tree.text("/proc/self/cgroup")?;
    tree.exists("/sys/fs/cgroup/cgroup.controllers")
        .or_else(|_| tree.exists("/sys/fs/cgroup/cpu"))?;
    let usable = thread::available_parallelism();
    let usable = usable
        .map_err(|error| Unread::Refused("/sys/fs/cgroup".to_owned(), plain(&error)))?
        .get();
    Ok((usable < cpus).then_some(usable))
}

fn governors(tree: &Tree, cpus: &[usize]) -> Fact<Vec<String>> {
    let governor = |cpu: &usize| {
        tree.value::<String>(&format!(
            "/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
        ))
    };
    // If the usable CPUs are unknown, the first one represents all.
    let cpus = if cpus.is_empty() { &[0] } else { cpus };
    let mut governors = cpus.iter().map(governor).collect::<Fact<Vec<_>>>()?;
    governors.sort_unstable();
    governors.dedup();
    Ok(governors)
}

/// The least of several means: other activity can only add to them.
fn clock_read() -> Duration {
    const BATCHES: usize = 20;
    const READS: u32 = 500;
    let batch = |_| {
        let started = Instant::now();
        for _ in 0..READS {
            black_box(Instant::now());
        }
        started.elapsed() / READS
    };
    (0..BATCHES).map(batch).min().unwrap_or_default()
}

fn memory_kib(tree: &Tree) -> Fact<(u64, u64)> {
    let path = "/proc/meminfo";
    let text = tree.text(path)?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_ascii_whitespace().next()?.parse().ok()
    };
    match (field("MemTotal:"), field("MemAvailable:")) {
        (Some(all), Some(available)) => Ok((all, available)),
        _ => Err(strange(path, &text)),
    }
}

fn open_files() -> Fact<(u64, u64)> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|error| Unread::Refused("getrlimit".to_owned(), plain(&error.into())))
}

fn port_range(tree: &Tree) -> Fact<(u64, u64)> {
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    Ok((tree.word(path, 0)?, tree.word(path, 1)?))
}

fn time_wait(tree: &Tree) -> Fact<u64> {
    let path = "/proc/net/sockstat";
    let text = tree.text(path)?;
    let count = || {
        let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        let mut words = line.split_ascii_whitespace();
        words.find(|&word| word == "tw")?;
        words.next()?.parse().ok()
    };
    count().ok_or_else(|| strange(path, &text))
}

fn tracked(tree: &Tree) -> Fact<(u64, u64)> {
    // A loaded module may be inactive. If it is active, it counts at least the open connection.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.as_ref().map(TcpListener::local_addr);
    let _connection = match address {
        Ok(Ok(address)) => TcpStream::connect(address).ok(),
        _ => None,
    };
    let value = |name: &str| tree.value(&format!("/proc/sys/net/netfilter/nf_conntrack_{name}"));
    Ok((value("count")?, value("max")?))
}

fn loopback_mtu(tree: &Tree) -> Fact<u64> {
    // This file belongs to this process's network namespace, while /sys belongs to the one it was
    // mounted in; but it exists only with IPv6.
    tree.value("/proc/sys/net/ipv6/conf/lo/mtu")
        .or_else(|_| tree.value("/sys/class/net/lo/mtu"))
}

fn tracefs(tree: &Tree) -> Fact<Tracefs> {
    let mounts = tree.text("/proc/self/mounts");
    // Fields: device, mount point, type, options.
    let mounted = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let at = words.next()?;
        (words.next()? == "tracefs").then(|| at.to_owned())
    };
    let mounted = mounts.as_ref().map(|text| text.lines().find_map(mounted));
    let at = match &mounted {
        Ok(Some(at)) => at.clone(),
        _ => "/sys/kernel/tracing".to_owned(),
    };
    let tracepoint = tree.text(&format!("{at}/events/raw_syscalls/sys_enter/id"));
    match (tracepoint, mounted) {
        (Ok(_), _) => Ok(Tracefs::Readable(at)),
        (Err(Unread::Absent(_)), Ok(Some(_))) => Ok(Tracefs::Incomplete),
        (Err(_), Ok(Some(_))) => Ok(Tracefs::Forbidden),
        (Err(_), Ok(None)) => match tree.text("/proc/filesystems") {
            Ok(text) if !text.contains("tracefs") => Ok(Tracefs::Unsupported),
            _ => Ok(Tracefs::Unmounted),
        },
        (Err(_), Err(unread)) => Err(unread.clone()),
    }
}

/// The files of a system, below a folder.
struct Tree(PathBuf);

impl Tree {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn exists(&self, path: &str) -> Fact<()> {
        match fs::metadata(self.path(path)) {
            Ok(_) => Ok(()),
            Err(error) => Err(unread(path, &error)),
        }
    }

    fn text(&self, path: &str) -> Fact<String> {
        fs::read_to_string(self.path(path)).map_err(|error| unread(path, &error))
    }

    /// The whole text as one value.
    fn value<T: FromStr>(&self, path: &str) -> Fact<T> {
        let text = self.text(path)?;
        let text = text.trim();
        let value = if text.is_empty() {
            None
        } else {
            text.parse().ok()
        };
        value.ok_or_else(|| strange(path, text))
    }

    /// The word at position `index` of the text.
    fn word<T: FromStr>(&self, path: &str, index: usize) -> Fact<T> {
        let text = self.text(path)?;
        let word = text.split_ascii_whitespace().nth(index);
        let value = word.and_then(|word| word.parse().ok());
        value.ok_or_else(|| strange(path, &text))
    }

    fn words(&self, path: &str) -> Fact<Vec<String>> {
        let text = self.text(path)?;
        Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
    }
}

fn unread(path: &str, error: &io::Error) -> Unread {
    match error.kind() {
        io::ErrorKind::NotFound => Unread::Absent(path.to_owned()),
        _ => Unread::Refused(path.to_owned(), plain(error)),
    }
}

/// An error without its number: `Permission denied` instead of `Permission denied (os error 13)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}

fn strange(path: &str, text: &str) -> Unread {
    const SHOWN_MAX: usize = 20;
    let shown = text.trim().chars().take(SHOWN_MAX).collect();
    Unread::Strange(path.to_owned(), shown)
}

/// A machine without faults: two CPUs of a virtual machine, an ordinary user.
#[cfg(any(test, feature = "fixture"))]
pub fn sound() -> Facts {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    let cpu_time = |text: &str| CpuTime::parse(text).unwrap();
    Facts {
        privileges: Ok(Privileges {
            root: false,
            admin: false,
            perfmon: false,
            filtered: false,
        }),
        online: Ok(vec![0, 1]),
        allowed: vec![0, 1],
        siblings: Siblings::from([(0, vec![0]), (1, vec![1])]),
        quota: Ok(None),
        governors: Err(Unread::Absent("/governor".to_owned())),
        moment: Ok((
            cpu_time("cpu  1000 0 0 9000 0 0 0 0"),
            cpu_time("cpu  1002 0 0 9098 0 0 0 0"),
        )),
        load_average: Ok(0.25),
        clock_source: Ok("tsc".to_owned()),
        clock_sources: Ok(words("tsc kvm-clock acpi_pm")),
        clock_read: Duration::from_nanos(26),
        lateness: Lateness {
            p50: Duration::from_micros(57),
            p99: Duration::from_micros(93),
        },
        timer_slack_ns: Ok(50_000),
        memory_kib: Ok((8 << 20, 7 << 20)),
        open_files: Ok((1024, 524_288)),
        port_range: Ok((32_768, 60_999)),
        time_wait_reuse: Ok(2),
        time_wait_reuse_delay_ms: Ok(1000),
        timestamps: Ok(1),
        time_wait: Ok(0),
        fin_timeout_s: Ok(60),
        accept_queue_max: Ok(4096),
        syn_backlog_max: Ok(2048),
        syn_cookies: Ok(1),
        congestion_control: Ok("cubic".to_owned()),
        congestion_controls: Ok(words("reno cubic")),
        tracked: Err(Unread::Absent("/conntrack".to_owned())),
        loopback_mtu: Ok(65_536),
        tracefs: Ok(Tracefs::Readable("/sys/kernel/tracing".to_owned())),
        perf_event_paranoid: Ok(1),
        io_uring_disabled: Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn gather(files: &[(&str, &str)]) -> Facts {
        Facts::gather(tree(files).path(), Duration::ZERO)
    }

    #[test]
    fn files_are_read() {
        let cpu = own_cpus()[0];
        let of_cpu = |name: &str| format!("sys/devices/system/cpu/cpu{cpu}/{name}");
        let clocks = "sys/devices/system/clocksource/clocksource0";
        let mut files = vec![
            (
                "proc/self/status".to_owned(),
                "Uid:\t1000\t0\t0\t0\nCapEff:\t0000004000000000\nSeccomp:\t2\n",
            ),
            (
                "proc/self/uid_map".to_owned(),
                "         0          0 4294967295\n",
            ),
            ("sys/devices/system/cpu/online".to_owned(), "0-3,8\n"),
            (of_cpu("topology/thread_siblings_list"), "0-1023\n"),
            (
                "proc/stat".to_owned(),
                "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n",
            ),
            ("proc/loadavg".to_owned(), "0.42 0.27 1.14 1/83 10229\n"),
            (format!("{clocks}/current_clocksource"), "hpet\n"),
            (format!("{clocks}/available_clocksource"), "hpet acpi_pm \n"),
            ("proc/self/timerslack_ns".to_owned(), "50000\n"),
            (
                "proc/meminfo".to_owned(),
                "MemTotal:  24684092 kB\nMemFree: 1 kB\nMemAvailable:  24197700 kB\n",
            ),
            (
                "proc/sys/net/ipv4/ip_local_port_range".to_owned(),
                "32768\t60999\n",
            ),
            ("proc/sys/net/ipv4/tcp_tw_reuse".to_owned(), "2\n"),
            ("proc/sys/net/ipv4/tcp_tw_reuse_delay".to_owned(), "1000\n"),
            ("proc/sys/net/ipv4/tcp_timestamps".to_owned(), "1\n"),
            (
                "proc/net/sockstat".to_owned(),
                "sockets: used 11\nTCP: inuse 1 orphan 0 tw 17 alloc 1 mem 0\nUDP: inuse 0\n",
            ),
            ("proc/sys/net/ipv4/tcp_fin_timeout".to_owned(), "60\n"),
            ("proc/sys/net/core/somaxconn".to_owned(), "4096\n"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog".to_owned(), "2048\n"),
            ("proc/sys/net/ipv4/tcp_syncookies".to_owned(), "1\n"),
            (
                "proc/sys/net/ipv4/tcp_congestion_control".to_owned(),
                "bbr\n",
            ),
            (
                "proc/sys/net/ipv4/tcp_available_congestion_control".to_owned(),
                "reno bbr cubic\n",
            ),
            (
                "proc/sys/net/netfilter/nf_conntrack_count".to_owned(),
                "5\n",
            ),
            (
                "proc/sys/net/netfilter/nf_conntrack_max".to_owned(),
                "262144\n",
            ),
            ("sys/class/net/lo/mtu".to_owned(), "65536\n"),
            ("proc/sys/kernel/perf_event_paranoid".to_owned(), "-1\n"),
            ("proc/sys/kernel/io_uring_disabled".to_owned(), "2\n"),
        ];
        for cpu in own_cpus() {
            let governor = match cpu % 2 {
                0 => "powersave\n",
                _ => "performance\n",
            };
            let path = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
            files.push((path, governor));
        }
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        let facts = gather(&files);

        let privileges = facts.privileges.unwrap();
        assert!(privileges.root && privileges.perfmon && privileges.filtered);
        assert!(!privileges.admin);
        assert_eq!(facts.online, Ok(vec![0, 1, 2, 3, 8]));
        assert_eq!(facts.siblings.keys().copied().collect::<Vec<_>>(), [cpu]);
        assert_eq!(facts.siblings[&cpu].len(), 1024);
        assert_eq!(
            facts.moment.unwrap().0.steal_percent_since(&CpuTime::BOOT),
            Some(22.22)
        );
        assert_eq!(facts.load_average, Ok(0.42));
        assert_eq!(facts.clock_source, Ok("hpet".to_owned()));
        assert_eq!(facts.clock_sources.unwrap(), ["hpet", "acpi_pm"]);
        assert_eq!(facts.timer_slack_ns, Ok(50_000));
        assert_eq!(facts.memory_kib, Ok((24_684_092, 24_197_700)));
        assert_eq!(facts.port_range, Ok((32_768, 60_999)));
        assert_eq!(facts.time_wait_reuse, Ok(2));
        assert_eq!(facts.time_wait_reuse_delay_ms, Ok(1000));
        assert_eq!(facts.timestamps, Ok(1));
        assert_eq!(facts.time_wait, Ok(17));
        assert_eq!(facts.fin_timeout_s, Ok(60));
        assert_eq!(facts.accept_queue_max, Ok(4096));
        assert_eq!(facts.syn_backlog_max, Ok(2048));
        assert_eq!(facts.syn_cookies, Ok(1));
        assert_eq!(facts.congestion_control, Ok("bbr".to_owned()));
        assert_eq!(facts.congestion_controls.unwrap(), ["reno", "bbr", "cubic"]);
        assert_eq!(facts.tracked, Ok((5, 262_144)));
        assert_eq!(facts.loopback_mtu, Ok(65_536));
        assert_eq!(facts.perf_event_paranoid, Ok(-1));
        assert_eq!(facts.io_uring_disabled, Ok(2));
        let governors = facts.governors.unwrap();
        assert!(
            governors.is_sorted() && governors.len() <= 2,
            "{governors:?}"
        );
    }

    /// Facts that are measured, or requested from the kernel by system call, are known even without
    /// any file.
    #[test]
    fn without_files_there_are_reasons() {
        let facts = gather(&[]);
        assert_eq!(facts.allowed, own_cpus());
        assert!(facts.open_files.is_ok());
        assert!(facts.clock_read > Duration::ZERO);
        assert!(facts.lateness.p50 <= facts.lateness.p99);
        let reasons = [
            (facts.moment.unwrap_err(), "no /proc/stat"),
            (facts.quota.unwrap_err(), "no /proc/self/cgroup"),
            (facts.tracefs.unwrap_err(), "no /proc/self/mounts"),
            (facts.privileges.unwrap_err(), "no /proc/self/status"),
        ];
        for (unread, expected) in reasons {
            assert_eq!(unread.to_string(), expected);
        }
    }

    #[test]
    fn what_is_not_understood_is_shown() {
        let facts = gather(&[
            ("proc/sys/net/core/somaxconn", "many, many, very many\n"),
            ("proc/sys/net/ipv4/tcp_syncookies", ""),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768"),
            ("proc/net/sockstat", "sockets: used 11\n"),
            ("proc/stat", "cpu 1 2"),
            ("proc/meminfo", "MemTotal: 1 kB"),
            ("sys/devices/system/cpu/online", "a-b"),
            ("proc/self/status", "Name: x"),
            // A folder is not a file.
            ("sys/class/net/lo/mtu/x", ""),
        ]);
        let of = |path: &str, shown: &str| Unread::Strange(path.to_owned(), shown.to_owned());
        assert_eq!(
            facts.accept_queue_max,
            Err(of("/proc/sys/net/core/somaxconn", "many, many, very man"))
        );
        assert_eq!(
            facts.syn_cookies.unwrap_err().to_string(),
            "/proc/sys/net/ipv4/tcp_syncookies says \"\""
        );
        assert_eq!(
            facts.port_range,
            Err(of("/proc/sys/net/ipv4/ip_local_port_range", "32768"))
        );
        assert_eq!(
            facts.time_wait,
            Err(of("/proc/net/sockstat", "sockets: used 11"))
        );
        assert_eq!(facts.moment, Err(of("/proc/stat", "cpu 1 2")));
        assert_eq!(facts.memory_kib, Err(of("/proc/meminfo", "MemTotal: 1 kB")));
        assert_eq!(
            facts.online,
            Err(of("/sys/devices/system/cpu/online", "a-b"))
        );
        assert_eq!(facts.privileges, Err(of("/proc/self/status", "Name: x")));
        assert_eq!(
            facts.loopback_mtu.unwrap_err().to_string(),
            "/sys/class/net/lo/mtu: is a directory"
        );
    }

    #[test]
    fn the_mtu_is_that_of_this_network_namespace() {
        let other = ("sys/class/net/lo/mtu", "65536\n");
        let own = ("proc/sys/net/ipv6/conf/lo/mtu", "1500\n");
        assert_eq!(gather(&[own, other]).loopback_mtu, Ok(1500));
        assert_eq!(gather(&[other]).loopback_mtu, Ok(65_536));
    }

    /// Root of a user namespace is not root of the machine.
    #[test]
    fn capabilities_count_in_the_first_user_namespace() {
        let status = "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n";
        for (map, admin) in [("0 0 4294967295", true), ("0 1000 1", false)] {
            let facts = gather(&[("proc/self/status", status), ("proc/self/uid_map", map)]);
            let privileges = facts.privileges.unwrap();
            assert!(privileges.root && !privileges.filtered);
            assert_eq!(
                (privileges.admin, privileges.perfmon),
                (admin, admin),
                "{map}"
            );
        }
    }

    #[test]
    fn tracefs_is_found_where_it_is_mounted() {
        const MOUNTED: (&str, &str) = (
            "proc/self/mounts",
            "proc /proc proc rw 0 0\nnodev /t tracefs rw 0 0\n",
        );
        const NOT_MOUNTED: (&str, &str) = ("proc/self/mounts", "proc /proc proc rw 0 0\n");
        let id = "t/events/raw_syscalls/sys_enter/id";
        for (files, expected) in [
            (
                &[MOUNTED, (id, "21")][..],
                Tracefs::Readable("/t".to_owned()),
            ),
            (&[MOUNTED], Tracefs::Incomplete),
            // Reading a folder as a file fails for every user.
            (
                &[MOUNTED, ("t/events/raw_syscalls/sys_enter/id/x", "")],
                Tracefs::Forbidden,
            ),
            (&[NOT_MOUNTED], Tracefs::Unmounted),
            (
                &[NOT_MOUNTED, ("proc/filesystems", "nodev\ttracefs\n")],
                Tracefs::Unmounted,
            ),
            (
                &[NOT_MOUNTED, ("proc/filesystems", "nodev\tproc\n")],
                Tracefs::Unsupported,
            ),
        ] {
            assert_eq!(gather(files).tracefs, Ok(expected), "{files:?}");
        }
    }

    /// Without readable groups, the quota is unknown.
    #[test]
    fn quota_needs_groups() {
        let cgroup = ("proc/self/cgroup", "0::/\n");
        assert!(gather(&[cgroup]).quota.is_err());
        for groups in [
            "sys/fs/cgroup/cgroup.controllers",
            "sys/fs/cgroup/cpu/tasks",
        ] {
            assert!(gather(&[cgroup, (groups, "")]).quota.is_ok(), "{groups}");
        }
    }
}
