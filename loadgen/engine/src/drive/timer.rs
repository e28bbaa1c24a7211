//! Timers with microsecond precision. The timeout of `epoll_wait` counts whole milliseconds, and
//! the kernel adds 50 us of slack; a timerfd has neither limitation.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// A timer that wakes a poll.
pub(super) struct Timer {
    timer: TimerFd,
    /// When the timer expires, in nanoseconds since the start of the run.
    armed: Option<u64>,
}

impl Timer {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let fd = timer.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        Ok(Timer { timer, armed: None })
    }

    /// Sets the timer to expire at `at`; `now` and `at` are nanoseconds since the start of the run.
    /// The timer need not be read: readiness is edge-triggered, and each setting makes a new edge.
    pub(super) fn set(&mut self, now: u64, at: u64) -> io::Result<()> {
        if self.armed == Some(at) && at > now {
            return Ok(());
        }
        let wait = Duration::from_nanos(at.saturating_sub(now).max(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
        self.timer.set(expiration, TimerSetTimeFlags::empty())?;
        self.armed = Some(at);
        Ok(())
    }

    /// If the timer has expired since the last call: how long ago, in nanoseconds.
    pub(super) fn late(&mut self, now: u64) -> Option<u64> {
        let at = self.armed.filter(|&at| at <= now)?;
        self.armed = None;
        Some(now - at)
    }
}
