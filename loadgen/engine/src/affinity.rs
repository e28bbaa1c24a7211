//! The CPUs that a thread may run on, and lists of CPUs in the notation of people and kernels.

use std::num::ParseIntError;
use std::ops::RangeInclusive;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The CPUs that the calling thread may run on, in order; empty if unknown.
pub fn own_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    let is_set = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    (0..CpuSet::count()).filter(is_set).collect()
}

/// The number of CPUs that are online; `None` if unknown.
pub fn online_cpus() -> Option<usize> {
    let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok()??;
    usize::try_from(count).ok()
}

/// Restricts the calling thread, and threads that it starts from now on, to these CPUs.
///
/// # Errors
///
/// If a CPU does not exist or may not be used.
pub fn pin_thread(cpus: &[usize]) -> nix::Result<()> {
    sched_setaffinity(Pid::from_raw(0), &cpu_set(cpus)?)
}

/// A set of these CPUs.
pub fn cpu_set(cpus: &[usize]) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)?;
    }
    Ok(set)
}

/// A list in the notation of options and taskset: `0-3,8`.
pub fn list_of(cpus: &[usize]) -> String {
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

/// The ranges in a list of CPUs such as `0`, `0,2` or `0-3,8`; a range whose end precedes its start
/// is empty.
///
/// # Errors
///
/// If a part is neither a number nor two numbers joined by `-`.
pub fn ranges_of(text: &str) -> Result<Vec<RangeInclusive<usize>>, ParseIntError> {
    let number = |text: &str| text.trim().parse::<usize>();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Ok(number(first)?..=number(last)?)
    };
    text.split(',').map(range).collect()
}

/// A list of CPUs in the kernel's notation: `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl FromStr for CpuList {
    type Err = ParseIntError;

    /// CPUs that do not fit into an affinity mask are left out.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let within = |range: RangeInclusive<usize>| {
            let last = *range.end().min(&(CpuSet::count() - 1));
            *range.start()..=last
        };
        Ok(CpuList(
            ranges_of(text)?.into_iter().flat_map(within).collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_listed_as_ranges() {
        for (cpus, text) in [
            (&[][..], ""),
            (&[3], "3"),
            (&[0, 1, 2, 5, 7, 8], "0-2,5,7-8"),
        ] {
            assert_eq!(list_of(cpus), text);
        }
    }

    #[test]
    fn lists_of_cpus() {
        for (text, expected) in [("0", &[0][..]), ("0-2,5", &[0, 1, 2, 5]), ("3,1", &[3, 1])] {
            assert_eq!(text.parse::<CpuList>().unwrap().0, expected);
        }
        for wrong in ["", "x", "1-", "-1", "1,,2"] {
            assert!(wrong.parse::<CpuList>().is_err(), "{wrong:?}");
        }
        let all: CpuList = "0-18446744073709551615".parse().unwrap();
        assert_eq!(all.0.len(), CpuSet::count());
    }
}
