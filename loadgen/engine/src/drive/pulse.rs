//! Whether the generator itself ran: times in which a thread should have been awake and was not.
//!
//! A thread knows until when it meant to sleep. When it wakes much later and has used no CPU time meanwhile, it
//! had no CPU, or was stopped (SIGSTOP, a debugger, a virtual machine that was suspended). The kernel tells
//! these two apart: who waits for a CPU has a run delay.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nix::time::ClockId;

use crate::schedstat::Schedule;

/// Of one thread, which it is made on. Times are nanoseconds since the start of the run.
pub(super) struct Pulse {
    schedstat: Option<File>,
    /// When the thread is to be awake at the latest; `u64::MAX` while it is.
    planned: u64,
    /// Since when it is awake.
    awake: u64,
    /// As of the last look.
    checked: Reading,
    checked_at: u64,
    pauses: Vec<Pause>,
}

/// A time in which a thread should have run and did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Of this, the time it waited for a CPU.
    pub(super) delayed_ns: u64,
}

/// What a thread has had and wanted of the CPUs since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    ran_ns: u64,
    /// Absent where the kernel does not tell.
    pub(super) delayed_ns: Option<u64>,
}

/// Shorter ones are what any machine does now and then.
const PAUSE_NS_MIN: u64 = 20_000_000;

/// How often the clocks are looked at, so that a pause is not hidden by what was used before it; two system calls.
const CHECK_EVERY_NS: u64 = 10_000_000;

/// Pauses that are kept at the most, as many as silences; more than that take five minutes together.
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

    /// The thread sleeps, from now until this time at the latest.
    #[inline]
    pub(super) fn sleeps(&mut self, now: u64, until: u64) {
        let round = now.saturating_sub(self.awake);
        if round >= PAUSE_NS_MIN {
            // It may have lost its CPU in the middle of its work.
            self.look(now, round);
        }
        // What is overdue was seen to be so by now.
        self.planned = until.max(now);
    }

    /// The thread is awake and goes round.
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
        // Late because it had much to do is not late.
        let still = late.saturating_sub(reading.ran_ns.saturating_sub(earlier.ran_ns));
        let delayed_ns = reading.delayed_since(&earlier).unwrap_or(0);
        // An answer may have woken it long before it was to wake up by itself: from then on it waited.
        let still = still.max(delayed_ns.min(now.saturating_sub(earlier_at)));
        if still >= PAUSE_NS_MIN && self.pauses.len() < PAUSES_MAX {
            self.pauses.push(Pause {
                from: now - still,
                to: now,
                delayed_ns: delayed_ns.min(still),
            });
        }
    }

    /// What the thread has had and wanted so far.
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

    /// Those between two times.
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

    /// Sleeping stands for being stopped: the thread neither runs nor wants to.
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

    /// Who has noticed that it was late is not late for the same reason once more.
    #[test]
    fn a_pause_counts_once() {
        let mut pulse = Pulse::new();
        pulse.sleeps(0, 1_000);
        pulse.beat(2_000_000_000);
        pulse.beat(2_000_050_000);
        pulse.beat(2_200_000_000);
        assert_eq!(pulse.pauses.len(), 1, "{:?}", pulse.pauses);
    }

    /// Between waking up and the next sleep, too. Sleeping stands for having no CPU.
    #[test]
    fn a_thread_may_be_kept_from_its_work() {
        let mut pulse = Pulse::new();
        pulse.beat(1_000);
        // It wanted to do something else long ago.
        pulse.sleeps(1_000 + 2_000_000_000, 5_000);
        pulse.beat(2_000_010_000);
        let [pause] = pulse.pauses[..] else {
            panic!("{:?}", pulse.pauses);
        };
        assert_eq!(pause.to, 2_000_001_000);
        assert!(pause.to - pause.from > 1_000_000_000, "{pause:?}");
    }

    /// However long it takes to get so much CPU time.
    #[test]
    fn a_thread_that_has_much_to_do_has_no_pause() {
        let mut pulse = Pulse::new();
        // It may really wait for a CPU meanwhile, which is a pause.
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
