//! CPU time of threads.

use std::io;
use std::time::{Duration, Instant};

use nix::time::ClockId;

use crate::estimate::median;

/// CPU time that the calling thread has used.
pub(super) fn thread_cpu() -> io::Result<Duration> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.into())
}

/// CPU time that all threads of this process have used.
pub(super) fn process_cpu() -> io::Result<Duration> {
    Ok(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into())
}

/// Microseconds of `time` divided by `count`.
pub(super) fn us_each(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// Measures the time of work, minus the cost of reading the clock.
pub(super) struct Stopwatch {
    own: Duration,
}

impl Stopwatch {
    pub(super) fn new() -> io::Result<Self> {
        let mut readings = Vec::new();
        for _ in 0..101 {
            let begin = thread_cpu()?;
            readings.push((thread_cpu()? - begin).as_secs_f64());
        }
        let own = Duration::from_secs_f64(median(&mut readings));
        Ok(Stopwatch { own })
    }

    /// CPU time of the calling thread for `work`.
    pub(super) fn time<T>(
        &self,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Duration)> {
        let begin = thread_cpu()?;
        let made = work()?;
        let took = thread_cpu()?.saturating_sub(begin);
        Ok((made, took.saturating_sub(self.own)))
    }
}

/// Lets time pass without giving up the CPU, which would be a wait.
pub(super) fn spin(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}
