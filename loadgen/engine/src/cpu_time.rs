//! How the CPUs of this machine spend their time: the sums in `/proc/stat`.

use std::fs;

/// Time of all CPUs since boot, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl CpuTime {
    /// The values at boot.
    pub const BOOT: Self = CpuTime {
        all: 0,
        idle: 0,
        stolen: 0,
    };

    /// The current values.
    pub fn now() -> Option<Self> {
        CpuTime::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Parses the text of `/proc/stat`.
    pub fn parse(stat: &str) -> Option<Self> {
        // user nice system idle iowait irq softirq steal; the guest times after them are included
        // in user.
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

    /// The share of the time since `earlier` that the hypervisor took, in percent with two
    /// decimals.
    pub fn steal_percent_since(&self, earlier: &CpuTime) -> Option<f64> {
        self.percent_since(earlier, |time| time.stolen)
    }

    /// The share of the time since `earlier` in which the CPUs were busy, in percent with two
    /// decimals.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
