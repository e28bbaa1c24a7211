//! Per-thread counters of the kernel, which are lost when a thread ends.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use engine::schedstat::Schedule;

use super::proc::{Stat, status_number};

/// The counters of one thread since it began, or of several threads together during a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ThreadUse {
    /// Switches to another thread because this one waited.
    pub(super) voluntary: u64,
    /// Switches to another thread because it was that thread's turn.
    pub(super) involuntary: u64,
    /// CPU time and time in a run queue, if this kernel keeps them.
    pub(super) schedule: Option<Schedule>,
}

/// By ID and start time, since IDs are reused.
pub(super) type Threads = BTreeMap<(i32, u64), ThreadUse>;

/// Reading a thread takes some 35 µs of a CPU that may be the generator's. Beyond this number of threads their
/// counters are left out, so that at most some 10 ms are lost at the start of a run.
const THREADS_MAX: usize = 300;

/// The share of CPU time that may be missing from the sum over the threads present at both ends:
/// the kernel updates a thread's time only at switches and ticks.
const MISSING_SHARE: f64 = 0.02;
const MISSING: Duration = Duration::from_millis(10);

/// The threads of a process; `None` if there are too many to read.
pub(super) fn threads(pid: i32) -> Threads {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks: Vec<fs::DirEntry> = tasks.into_iter().flatten().flatten().collect();
    if tasks.len() > THREADS_MAX {
        return Threads::new();
    }
    let of_task = |task: &fs::DirEntry| {
        let read = |file| fs::read_to_string(task.path().join(file)).ok();
        let status = read("status")?;
        let id = task.file_name().to_str()?.parse().ok()?;
        let usage = ThreadUse {
            voluntary: status_number(&status, "voluntary_ctxt_switches:")?,
            involuntary: status_number(&status, "nonvoluntary_ctxt_switches:")?,
            schedule: read("schedstat").and_then(|text| Schedule::parse(&text)),
        };
        Some(((id, Stat::parse(&read("stat")?)?.started), usage))
    };
    tasks.iter().filter_map(of_task).collect()
}

/// The counters of all threads during a period in which their processes used at least `cpu_s`
/// seconds of CPU time; `None` if threads started or ended. Most such threads are missing at one of
/// the ends. Threads that lived in between are recognized by CPU time that no other thread has
/// used.
pub(super) fn between(begin: &Threads, end: &Threads, cpu_s: f64) -> Option<ThreadUse> {
    if begin.is_empty() || !begin.keys().eq(end.keys()) {
        return None;
    }
    let mut all = ThreadUse {
        schedule: Some(Schedule::default()),
        ..ThreadUse::default()
    };
    for (end, begin) in end.values().zip(begin.values()) {
        all.voluntary += end.voluntary.saturating_sub(begin.voluntary);
        all.involuntary += end.involuntary.saturating_sub(begin.involuntary);
        let both = end.schedule.zip(begin.schedule);
        all.schedule = all.schedule.zip(both).map(|(sum, (end, begin))| Schedule {
            ran_ns: sum.ran_ns + end.ran_ns.saturating_sub(begin.ran_ns),
            delayed_ns: sum.delayed_ns + end.delayed_ns.saturating_sub(begin.delayed_ns),
        });
    }
    if let Some(schedule) = all.schedule {
        let missing_s = cpu_s - Duration::from_nanos(schedule.ran_ns).as_secs_f64();
        if missing_s > MISSING.as_secs_f64() + MISSING_SHARE * cpu_s {
            return None;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ID, start time, voluntary switches, and the times that it ran and was delayed.
    type Sample = (i32, u64, u64, Option<(u64, u64)>);

    fn threads_of(rows: &[Sample]) -> Threads {
        let usage = |&(id, started, switches, schedule): &Sample| {
            let usage = ThreadUse {
                voluntary: switches,
                involuntary: 2 * switches,
                schedule: schedule.map(|(ran_ns, delayed_ns)| Schedule { ran_ns, delayed_ns }),
            };
            ((id, started), usage)
        };
        rows.iter().map(usage).collect()
    }

    #[test]
    fn figures_need_the_same_threads() {
        const MS: u64 = 1_000_000;
        let some = |switches, schedule: Option<(u64, u64)>| {
            Some(ThreadUse {
                voluntary: switches,
                involuntary: 2 * switches,
                schedule: schedule.map(|(ran_ns, delayed_ns)| Schedule { ran_ns, delayed_ns }),
            })
        };
        let begin = [(1, 5, 10, Some((MS, 7))), (2, 6, 20, Some((2 * MS, 8)))];
        let later = [
            (1, 5, 11, Some((201 * MS, 8))),
            (2, 6, 25, Some((202 * MS, 11))),
        ];
        let without = |rows: &[Sample]| -> Vec<_> {
            rows.iter().map(|&(a, b, c, _)| (a, b, c, None)).collect()
        };
        for (name, begin, end, cpu_s, expected) in [
            (
                "the same",
                &begin[..],
                &later[..],
                0.4,
                some(6, Some((400 * MS, 4))),
            ),
            ("one went", &begin[..], &later[..1], 0.4, None),
            ("one came", &begin[..1], &later[..], 0.4, None),
            (
                "another with its id",
                &[(2, 5, 20, None)],
                &[(2, 7, 25, None)],
                0.4,
                None,
            ),
            ("nobody", &[], &[], 0.0, None),
            ("some came and went", &begin[..], &later[..], 0.5, None),
            (
                "read a tick late",
                &begin[..],
                &later[..],
                0.41,
                some(6, Some((400 * MS, 4))),
            ),
            (
                "no schedstat",
                &without(&begin),
                &without(&later),
                9.9,
                some(6, None),
            ),
        ] {
            let found = between(&threads_of(begin), &threads_of(end), cpu_s);
            assert_eq!(found, expected, "{name}");
        }
    }
}
