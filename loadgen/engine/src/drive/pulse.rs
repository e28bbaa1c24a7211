//! Detects periods in which a thread of the generator should have been awake but did not run.
//!
//! A thread knows until when it meant to sleep. If it wakes much later and has used no CPU time
//! meanwhile, it had no CPU or was stopped (SIGSTOP, a debugger, a suspended virtual machine). The
//! kernel distinguishes these: a thread that waits for a CPU has a run delay.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nix::time::ClockId;

use crate::schedstat::Schedule;

/// The pulse of one thread, on which it must be created. Times are nanoseconds since the start of
/// the run.
pub(super) struct Pulse {
    schedstat: Option<File>,
    /// The latest time at which the thread should be awake; `u64::MAX` while it is awake.
    planned: u64,
    /// The time since which the thread is awake.
    awake: u64,
    /// The readings at the last check.
    checked: Reading,
    checked_at: u64,
    pauses: Vec<Pause>,
}

/// A period in which a thread should have run but did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) from: u64,
    pub(super) to: u64,
    /// The part of the period in which it waited for a CPU.
    pub(super) delayed_ns: u64,
}

/// The CPU time that a thread used and waited for since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    ran_ns: u64,
    /// `None` if the kernel does not report it.
    pub(super) delayed_ns: Option<u64>,
}

/// Shorter pauses occur on any machine now and then.
const PAUSE_NS_MIN: u64 = 20_000_000;

/// Interval between checks of the clocks, so that earlier CPU use does not hide a pause; a check
/// takes two system calls.
const CHECK_EVERY_NS: u64 = 10_000_000;

/// The maximum number of pauses kept, the same as of silences; more of them would take more than
/// five minutes together.
const PAUSES_MAX: usize = 16_384;

impl Pulse {
    pub(super) fn new() -> Self {
        let mut pulse = Pulse {
            schedstat: File::open("/proc/thread-self/schedstat").ok(),
            planned: u64::MAX,
            awake: 0,
            checked: Reading::default(),
            checked_at: 0,
            pauses: Vec::new(),
        };
        pulse.checked = pulse.read();
        pulse
    }

    /// Records that the thread sleeps until this time at the latest.
    #[inline]
    pub(super) fn sleeps(&mut self, now: u64, until: u64) {
        let round = now.saturating_sub(self.awake);
        if round >= PAUSE_NS_MIN {
            // The thread may have lost its CPU in the middle of its work.
            self.look(now, round);
        }
        // Overdue work was noticed by this time.
        self.planned = until.max(now);
    }

    /// Records that the thread is awake and handles events.
    #[inline]
    pub(super) fn beat(&mut self, now: u64) {
        let late = now.saturating_sub(self.planned);
        self.planned = u64::MAX;
        self.awake = now;
        if late >= PAUSE_NS_MIN || now >= self.checked_at + CHECK_EVERY_NS {
            self.look(now, late);
        }
    }

    fn look(&mut self, now: u64, late: u64) {
        let reading = self.read();
        let earlier = std::mem::replace(&mut self.checked, reading);
        let earlier_at = std::mem::replace(&mut self.checked_at, now);
        // A thread that is late because it was busy has not paused.
        let still = late.saturating_sub(reading.ran_ns.saturating_sub(earlier.ran_ns));
        let delayed_ns = reading.delayed_since(&earlier).unwrap_or(0);
        // An answer may have woken it long before it meant to wake up; it has waited since then.
        let still = still.max(delayed_ns.min(now.saturating_sub(earlier_at)));
        if still >= PAUSE_NS_MIN && self.pauses.len() < PAUSES_MAX {
            self.pauses.push(Pause {
                from: now - still,
                to: now,
                delayed_ns: delayed_ns.min(still),
            });
        }
    }

    /// The CPU time that the thread used and waited for so far.
    pub(super) fn read(&self) -> Reading {
        let ran = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
        let ran = ran.map_or(Duration::ZERO, Duration::from);
        Reading {
            ran_ns: ran.as_nanos() as u64,
            delayed_ns: self.schedule().map(|schedule| schedule.delayed_ns),
        }
    }

    fn schedule(&self) -> Option<Schedule> {
        let mut text = [0; 128];
        let length = self.schedstat.as_ref()?.read_at(&mut text, 0).ok()?;
        Schedule::parse(std::str::from_utf8(&text[..length]).ok()?)
    }

    /// The pauses between two times.
    pub(super) fn pauses(&self, begin: u64, end: u64) -> Vec<Pause> {
        let within = |pause: &Pause| {
            let (from, to) = (pause.from.max(begin), pause.to.min(end));
            let share = to.saturating_sub(from) as f64 / (pause.to - pause.from) as f64;
            (from < to).then_some(Pause {
                from,
                to,
                delayed_ns: (pause.delayed_ns as f64 * share) as u64,
            })
        };
        self.pauses.iter().filter_map(within).collect()
    }
}

impl Reading {
    pub(super) fn delayed_since(&self, earlier: &Reading) -> Option<u64> {
        Some(self.delayed_ns?.saturating_sub(earlier.delayed_ns?))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_sleeps_as_long_as_it_means_to_has_no_pause() {
        let mut pulse = Pulse::new();
        for n in 1..10 {
            pulse.sleeps((n - 1) * CHECK_EVERY_NS, n * CHECK_EVERY_NS);
            pulse.beat(n * CHECK_EVERY_NS + PAUSE_NS_MIN - 1);
        }
        assert_eq!(pulse.pauses, []);
    }

    /// Sleeping simulates being stopped: the thread neither runs nor waits for a CPU.
    #[test]
    fn a_thread_that_is_woken_late_was_stopped() {
        let mut pulse = Pulse::new();
        pulse.sleeps(0, 1_000);
        thread::sleep(Duration::from_millis(1));
        pulse.beat(1_000 + 2_000_000_000);
        let [pause] = pulse.pauses[..] else {
            panic!("{:?}", pulse.pauses);
        };
        assert_eq!(pause.to, 2_000_001_000);
        assert!(pause.to - pause.from > 1_000_000_000, "{pause:?}");
        assert!(pause.delayed_ns <= pause.to - pause.from, "{pause:?}");
        let half = pulse.pauses(0, 1_000_000_000);
        assert_eq!(half[0].to, 1_000_000_000);
        assert_eq!(pulse.pauses(2_000_001_000, 9_000_000_000), []);
    }

    /// A thread that has noticed its delay is not late again for the same reason.
    #[test]
    fn a_pause_counts_once() {
        let mut pulse = Pulse::new();
        pulse.sleeps(0, 1_000);
        pulse.beat(2_000_000_000);
        pulse.beat(2_000_050_000);
        pulse.beat(2_200_000_000);
        assert_eq!(pulse.pauses.len(), 1, "{:?}", pulse.pauses);
    }

    /// Pauses also occur between a wake-up and the next sleep. Sleeping simulates the lack of a
    /// CPU.
    #[test]
    fn a_thread_may_be_kept_from_its_work() {
        let mut pulse = Pulse::new();
        pulse.beat(1_000);
        // The thread meant to act long ago.
        pulse.sleeps(1_000 + 2_000_000_000, 5_000);
        pulse.beat(2_000_010_000);
        let [pause] = pulse.pauses[..] else {
            panic!("{:?}", pulse.pauses);
        };
        assert_eq!(pause.to, 2_000_001_000);
        assert!(pause.to - pause.from > 1_000_000_000, "{pause:?}");
    }

    /// Spins until the thread has used this much CPU time, however long it takes.
    #[test]
    fn a_thread_that_has_much_to_do_has_no_pause() {
        let mut pulse = Pulse::new();
        // The thread may really wait for a CPU meanwhile, which counts as a pause.
        pulse.schedstat = None;
        let before = pulse.read().ran_ns;
        let start = Instant::now();
        while pulse.read().ran_ns < before + 2 * PAUSE_NS_MIN {
            std::hint::spin_loop();
        }
        assert!(start.elapsed() >= Duration::from_nanos(2 * PAUSE_NS_MIN));
        pulse.sleeps(0, 0);
        pulse.beat(2 * PAUSE_NS_MIN);
        assert_eq!(pulse.pauses, []);
    }
}
