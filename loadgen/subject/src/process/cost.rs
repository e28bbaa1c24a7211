//! What a server consumes during a measurement. Its processes are read at the start and the end of
//! the counted time, and values that have peaks every 100 ms. The kernel keeps all of these values
//! anyway. Reading them takes no time from a server that has its own CPUs; at each end it takes a
//! millisecond, plus 35 µs per thread, from whatever else runs on the reader's CPU.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use super::memory::IdleCost;
use super::network::Network;
use super::proc::{Stat, named, status_number};
use super::processes::Processes;
use super::threads::{Threads, between, threads};

/// What a server consumed: the sum over all of its [`Processes`], including those that ended
/// meanwhile.
///
/// The kernel counts switches and delays per thread and forgets those of an ended thread. A sum
/// over the remaining threads would be too low, so these values are absent if threads started or
/// ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerCost {
    /// User CPU time, in seconds. The sum of user and system time has nanosecond resolution; its
    /// division into the two has only the resolution of the kernel's tick.
    pub cpu_user_s: f64,
    /// System CPU time, in seconds.
    pub cpu_system_s: f64,
    /// Voluntary and involuntary context switches of all threads; absent if threads started or
    /// ended.
    pub context_switches: Option<u64>,
    /// The largest number of threads at once; sampled every 100 ms.
    pub threads_max: u64,
    /// The peak of resident memory since the processes started, in bytes. Pages that processes
    /// share count once for each.
    pub rss_bytes_max: u64,
    /// The memory cost of idle connections; absent if the server had none, or had some before.
    pub idle: Option<IdleCost>,
    /// Context switches because a thread waited; absent if threads started or ended.
    #[serde(default)]
    pub context_switches_voluntary: Option<u64>,
    /// Context switches because another thread was scheduled; absent if threads started or ended.
    #[serde(default)]
    pub context_switches_involuntary: Option<u64>,
    /// How long threads were runnable without a CPU, in seconds; absent if threads started or
    /// ended.
    #[serde(default)]
    pub run_delay_s: Option<f64>,
    /// Page faults that needed no disk access.
    #[serde(default)]
    pub page_faults_minor: Option<u64>,
    /// Page faults that waited for a disk.
    #[serde(default)]
    pub page_faults_major: Option<u64>,
    /// The largest number of files open at once; sampled every 100 ms (before Linux 6.2 only at the
    /// start and the end).
    #[serde(default)]
    pub files_max: Option<u64>,
    /// Connections dropped because an accept queue was full; counted for the whole network
    /// namespace, like the next three.
    #[serde(default)]
    pub listen_overflows: Option<u64>,
    /// Connections dropped by listeners for any reason.
    #[serde(default)]
    pub listen_drops: Option<u64>,
    /// Retransmitted segments.
    #[serde(default)]
    pub tcp_retransmits: Option<u64>,
    /// Segments sent with RST, including the generator's.
    #[serde(default)]
    pub tcp_resets_sent: Option<u64>,
    /// The share of the server's pinned CPUs that other processes used, 0 to 1; absent without
    /// pinning.
    #[serde(default)]
    pub cpus_used_by_others: Option<f64>,
    /// How much the CPU time may be too low, in seconds.
    #[serde(skip)]
    pub cpu_grain_s: f64,
}

/// A lower bound for the CPU time, in seconds, in which any server can read requests from a
/// connection once and write the responses. The kernel alone needs about 3 µs for that where the
/// floor was measured.
const CPU_S_PER_BATCH_MIN: f64 = 0.2e-6;

/// How much the sum may be too low if processes ended: their time is known only to the tick, at
/// both ends.
const CPU_GRAIN_S: f64 = 0.02;

impl ServerCost {
    /// User and system CPU time, in seconds.
    pub fn cpu_s(&self) -> f64 {
        self.cpu_user_s + self.cpu_system_s
    }

    /// Whether this CPU time can have produced this many responses, with this many requests in
    /// flight on each connection. If not, other processes did the work, and the time is not the
    /// server's cost.
    pub fn can_have_answered(&self, responses: u64, pipeline: usize) -> bool {
        let needed_s = responses as f64 / pipeline.max(1) as f64 * CPU_S_PER_BATCH_MIN;
        responses == 0 || self.cpu_s() > 0.0 && self.cpu_s() + self.cpu_grain_s >= needed_s
    }
}

/// Watches the processes of a server from [`start`](Sampler::start) to [`finish`](Sampler::finish).
#[derive(Debug)]
pub struct Sampler {
    processes: Processes,
    begin: Usage,
    stop: Sender<()>,
    peaks: JoinHandle<Peaks>,
}

/// Why the cost is not known.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// There is no process, or it could not be watched.
    #[error("reading what the server used: {0}")]
    Io(#[from] io::Error),
    /// CPU time was used that the kernel has forgotten.
    #[error(
        "the CPU time of some of its processes is lost: their parent, process {0}, ignores SIGCHLD, and the \
         kernel forgets them when they end"
    )]
    Lost(String),
}

/// The sampling interval: short enough to see brief threads, long enough to cost nothing.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Searching for new processes takes at most one part in this many of the time: it reads all
/// processes of the machine, on a CPU that may be the generator's.
const SEARCH_SHARE: u32 = 50;

impl Sampler {
    /// Starts to count the cost of these processes, or of the group that a process leads, with
    /// everything that they have started.
    ///
    /// # Errors
    ///
    /// If there is no such process, or no thread to watch it.
    pub fn start(processes: impl Into<Processes>) -> io::Result<Self> {
        let processes = processes.into();
        let (stop, stopped) = mpsc::channel();
        let begin = Usage::of(processes)?;
        let mut family = Family::default();
        family.look(processes);
        let watch = move || {
            let mut peaks = Peaks {
                family,
                ..Peaks::default()
            };
            peaks.count_files(&peaks.family.speakers());
            loop {
                peaks.sample();
                match stopped.recv_timeout(SAMPLE_EVERY) {
                    Err(RecvTimeoutError::Timeout) => peaks.family.look_again(processes),
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return peaks,
                }
            }
        };
        Ok(Sampler {
            processes,
            begin,
            stop,
            peaks: thread::Builder::new()
                .name("sampler".to_owned())
                .spawn(watch)?,
        })
    }

    /// The cost from the start until now.
    ///
    /// # Errors
    ///
    /// If no process is left, or CPU time is known to be lost.
    pub fn finish(self) -> Result<ServerCost, CostError> {
        // Read first, so that what follows is not counted.
        let end = Usage::of(self.processes)?;
        drop(self.stop);
        let mut peaks = self.peaks.join().expect("the sampler does not panic");
        peaks.family.look(self.processes);
        peaks.sample();
        peaks.count_files(&peaks.family.speakers());
        if let Some(parent) = peaks.family.loses {
            return Err(CostError::Lost(named(parent)));
        }

        let begin = self.begin;
        let cpu_s = (end.cpu_s - begin.cpu_s).max(0.0);
        let user = end.ticks.0.saturating_sub(begin.ticks.0) as f64;
        let system = end.ticks.1.saturating_sub(begin.ticks.1) as f64;
        let user_share = if user + system > 0.0 {
            user / (user + system)
        } else {
            0.5
        };
        // The time at which all were read; the first ones had used at least this much.
        let cpu_s_of_threads = end.cpu_s - begin.cpu_s_after_threads;
        let threads = between(&begin.threads, &end.threads, cpu_s_of_threads);
        let schedule = threads.and_then(|threads| threads.schedule);
        let network = end.network.since(begin.network);
        Ok(ServerCost {
            cpu_user_s: cpu_s * user_share,
            cpu_system_s: cpu_s * (1.0 - user_share),
            context_switches: threads.map(|threads| threads.voluntary + threads.involuntary),
            threads_max: peaks.threads,
            rss_bytes_max: peaks.rss_bytes,
            idle: None,
            context_switches_voluntary: threads.map(|threads| threads.voluntary),
            context_switches_involuntary: threads.map(|threads| threads.involuntary),
            run_delay_s: schedule.map(|it| Duration::from_nanos(it.delayed_ns).as_secs_f64()),
            page_faults_minor: Some(end.faults.0.saturating_sub(begin.faults.0)),
            page_faults_major: Some(end.faults.1.saturating_sub(begin.faults.1)),
            files_max: (peaks.files > 0).then_some(peaks.files),
            listen_overflows: network.listen_overflows,
            listen_drops: network.listen_drops,
            tcp_retransmits: network.retransmits,
            tcp_resets_sent: network.resets_sent,
            cpus_used_by_others: None,
            // Every process has page faults.
            cpu_grain_s: match end.ended_faults == begin.ended_faults {
                true => 0.0,
                false => CPU_GRAIN_S,
            },
        })
    }
}

/// The processes of a server as they come and go.
#[derive(Debug, Default)]
struct Family {
    now: BTreeMap<i32, Stat>,
    /// The last process that had been created on this machine at the last search.
    last_made: Option<String>,
    /// The time of the next search.
    next: Option<Instant>,
    /// A process that ignores SIGCHLD and whose children came or went.
    loses: Option<i32>,
}

impl Family {
    fn speakers(&self) -> Vec<i32> {
        let speakers = self.now.iter().map(|(&pid, stat)| stat.speaker(pid));
        speakers.collect()
    }

    /// Searches again, unless no process was created since.
    fn look_again(&mut self, processes: Processes) {
        let is_early = self.next.is_some_and(|next| Instant::now() < next);
        if !is_early && (self.last_made.is_none() || last_made() != self.last_made) {
            self.look(processes);
        }
    }

    fn look(&mut self, processes: Processes) {
        let begin = Instant::now();
        self.last_made = last_made();
        let Ok(found) = processes.found() else {
            return;
        };
        let is_same = |one: &Stat, other: Option<&Stat>| {
            other.is_some_and(|other| one.started == other.started)
        };
        let before = std::mem::replace(&mut self.now, found);
        let is_first = self.next.is_none();
        let went = before
            .iter()
            .filter(|(pid, it)| !is_same(it, self.now.get(pid)));
        let came = self
            .now
            .iter()
            .filter(|(pid, it)| !is_same(it, before.get(pid)));
        let parents: BTreeSet<i32> = went.chain(came).map(|(_, stat)| stat.parent).collect();
        if !is_first && self.loses.is_none() {
            let is_ours = |pid: &i32| self.now.contains_key(pid);
            self.loses = parents
                .into_iter()
                .filter(is_ours)
                .find(|&pid| ignores_children(pid));
        }
        self.next = Some(Instant::now() + begin.elapsed() * SEARCH_SHARE);
    }
}

/// The ID of the last created process or thread, from the last field of `/proc/loadavg`.
fn last_made() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split_ascii_whitespace().next_back()?.to_owned())
}

/// Whether a process ignores SIGCHLD, so that the kernel reaps its children and drops their CPU
/// time. The same effect of `SA_NOCLDWAIT` is not visible.
fn ignores_children(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (nix::libc::SIGCHLD - 1)) != 0)
}

/// What the processes of a server have used since they started.
#[derive(Debug, Default)]
struct Usage {
    pids: Vec<i32>,
    /// CPU time of living processes with nanosecond resolution, and of their reaped children by the
    /// tick, in seconds. A child's time moves to its parent when it is reaped, so the sum never
    /// decreases.
    cpu_s: f64,
    /// User and system CPU time, in ticks.
    ticks: (u64, u64),
    /// Minor and major page faults.
    faults: (u64, u64),
    /// Minor page faults of processes that have ended and were reaped.
    ended_faults: u64,
    threads: Threads,
    /// The CPU time after the threads were read, which may have taken a while.
    cpu_s_after_threads: f64,
    network: Network,
}

impl Usage {
    fn of(processes: Processes) -> io::Result<Self> {
        let ticks_per_s = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        let mut usage = Usage::default();
        let found = processes.found()?;
        let mut is_alive = false;
        for pid in found.into_keys() {
            // A process that just ended has no clock and no values, unless it has not been reaped
            // yet.
            let Some(clock_s) = clock_s(pid) else {
                continue;
            };
            let Some(stat) = Stat::read(&format!("/proc/{pid}/stat")) else {
                continue;
            };
            is_alive |= !stat.has_ended();
            usage.pids.push(pid);
            usage.cpu_s +=
                clock_s + (stat.children_user + stat.children_system) as f64 / ticks_per_s;
            usage.cpu_s_after_threads -= clock_s;
            usage.ticks.0 += stat.user + stat.children_user;
            usage.ticks.1 += stat.system + stat.children_system;
            usage.faults.0 += stat.faults_minor + stat.children_faults_minor;
            usage.ended_faults += stat.children_faults_minor;
            usage.faults.1 += stat.faults_major + stat.children_faults_major;
        }
        if !is_alive {
            let message = "no process of the server is left";
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let keeper = processes.keeper();
        if let Some(stat) = keeper.and_then(|keeper| Stat::read(&format!("/proc/{keeper}/stat"))) {
            usage.cpu_s += (stat.children_user + stat.children_system) as f64 / ticks_per_s;
            usage.ticks.0 += stat.children_user;
            usage.ticks.1 += stat.children_system;
            usage.faults.0 += stat.children_faults_minor;
            usage.ended_faults += stat.children_faults_minor;
            usage.faults.1 += stat.children_faults_major;
        }
        // Read after the clocks at both ends, so that the period is the same.
        for &pid in &usage.pids {
            usage.threads.extend(threads(pid));
            usage.cpu_s_after_threads += clock_s(pid).unwrap_or(0.0);
        }
        usage.cpu_s_after_threads += usage.cpu_s;
        usage.network = Network::now();
        Ok(usage)
    }
}

/// CPU time of a process and its threads, including ended ones, in seconds.
fn clock_s(pid: i32) -> Option<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).and_then(ClockId::now);
    Some(Duration::from(clock.ok()?).as_secs_f64())
}

#[derive(Debug, Default)]
struct Peaks {
    family: Family,
    threads: u64,
    rss_bytes: u64,
    files: u64,
}

impl Peaks {
    fn sample(&mut self) {
        let mut threads = 0;
        let mut rss_kib = 0;
        let mut files = 0;
        for (&pid, stat) in &self.family.now {
            let pid = stat.speaker(pid);
            // Since Linux 6.2 the size of that folder is the number of open files, which the kernel
            // knows without counting; before that it is 0.
            let folder = fs::metadata(format!("/proc/{pid}/fd"));
            files += folder.map_or(0, |folder| folder.size());
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
                continue;
            };
            threads += status_number(&status, "Threads:").unwrap_or(0);
            rss_kib += status_number(&status, "VmHWM:").unwrap_or(0);
        }
        self.threads = self.threads.max(threads);
        self.rss_bytes = self.rss_bytes.max(rss_kib << 10);
        self.files = self.files.max(files);
    }

    /// Counts open files one by one if the kernel does not report their number; this takes a
    /// millisecond per some thousand files.
    fn count_files(&mut self, pids: &[i32]) {
        let tells = |pid: &i32| {
            fs::metadata(format!("/proc/{pid}/fd")).is_ok_and(|folder| folder.size() > 0)
        };
        if pids.iter().any(tells) {
            return;
        }
        let folders = pids
            .iter()
            .map(|pid| fs::read_dir(format!("/proc/{pid}/fd")));
        let files: usize = folders.flatten().map(Iterator::count).sum();
        self.files = self.files.max(files as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn stat_with_a_name_that_misleads() {
        let text = "17 (a) b (c)) S 1 42 17 0 -1 4194560 9 8 7 6 11 12 13 14 20 0 3 0 999 0 0";
        let expected = Stat {
            state: 'S',
            parent: 1,
            group: 42,
            faults_minor: 9,
            children_faults_minor: 8,
            faults_major: 7,
            children_faults_major: 6,
            user: 11,
            system: 12,
            children_user: 13,
            children_system: 14,
            threads: 3,
            started: 999,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("17 (a"), None);
    }

    /// A process that computes, and a child that computes too: both count.
    #[test]
    fn a_group_that_is_busy() {
        use std::os::unix::process::CommandExt as _;
        let busy = "i=0; while :; do i=$((i+1)); done";
        let mut child = Command::new("sh")
            .args(["-c", &format!("({busy}) & {busy}")])
            .process_group(0)
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(50));
        let sampler = Sampler::start(child.id()).unwrap();
        thread::sleep(Duration::from_millis(300));
        let cost = sampler.finish();
        nix::sys::signal::killpg(
            Pid::from_raw(child.id().cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        child.wait().unwrap();
        let cost = cost.unwrap();
        assert!(cost.cpu_s() > 0.02 && cost.cpu_s() < 2.0, "{cost:?}");
        assert_eq!(cost.threads_max, 2, "{cost:?}");
        assert!(cost.rss_bytes_max > 100_000, "{cost:?}");
        let sum =
            cost.context_switches_voluntary.unwrap() + cost.context_switches_involuntary.unwrap();
        assert_eq!(cost.context_switches, Some(sum), "{cost:?}");
        assert!(cost.run_delay_s.is_some_and(|s| s < 2.0), "{cost:?}");
        assert!(cost.page_faults_minor.is_some() && cost.page_faults_major.is_some());
        // Their standard streams, whatever else they inherited.
        assert!(
            cost.files_max
                .is_some_and(|files| (6..100).contains(&files)),
            "{cost:?}"
        );
        assert!(cost.listen_overflows <= cost.listen_drops, "{cost:?}");
    }

    #[test]
    fn nobody() {
        assert!(Sampler::start(0x3fff_fff0).is_err());
    }
}
