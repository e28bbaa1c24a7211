//! A server seen from outside, through /proc.

use std::fs;
use std::io;

use serde::Serialize;

/// What a server process holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sample {
    /// The process's own resident memory: heap and stacks.
    pub(crate) rss_anon_kib: u64,
    /// All resident memory.
    pub(crate) rss_kib: u64,
    /// Open descriptors.
    pub(crate) files: u64,
    pub(crate) threads: u64,
    /// CPU time so far, in hundredths of a second.
    pub(crate) cpu_ticks: u64,
}

impl Sample {
    /// # Errors
    ///
    /// If the process no longer exists.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        let number = |key| {
            number(&status, key).ok_or_else(|| io::Error::other(format!("no {key} of {pid}")))
        };
        Ok(Sample {
            rss_anon_kib: number("RssAnon:")?,
            rss_kib: number("VmRSS:")?,
            files,
            threads: number("Threads:")?,
            cpu_ticks: cpu_ticks(&stat).ok_or_else(|| io::Error::other("no CPU time"))?,
        })
    }
}

/// The number after `key` in `/proc/PID/status`.
fn number(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The sum of utime and stime in `/proc/PID/stat`, the 12th and 13th field after the name. The name may contain
/// anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_ascii_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_seen() {
        let pid = std::process::id();
        let before = Sample::of(pid).unwrap();
        assert!(before.rss_anon_kib > 0 && before.rss_kib >= before.rss_anon_kib);
        assert!(before.threads > 0 && before.files >= 3);
        // Other tests open and close files meanwhile, but not this many.
        let files: Vec<_> = (0..200)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        assert!(Sample::of(pid).unwrap().files > before.files + 100);
        drop(files);
        assert!(Sample::of(u32::MAX >> 1).is_err());
    }

    #[test]
    fn what_proc_says() {
        let status = "Name:\tx\nVmRSS:\t     184 kB\nRssAnon:\t      92 kB\nThreads:\t2\n";
        assert_eq!(number(status, "RssAnon:"), Some(92));
        assert_eq!(number(status, "Threads:"), Some(2));
        assert_eq!(number(status, "VmSwap:"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4 5 0 0 0 30 12 0 0 20 0 2 0 99";
        assert_eq!(cpu_ticks(stat), Some(42));
    }
}
