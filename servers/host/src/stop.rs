use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::Host;

/// A flag, and those who must be woken to see it.
#[derive(Default)]
pub(crate) struct Stop {
    stopping: AtomicBool,
    /// Set before the flag.
    drain_until: OnceLock<Instant>,
    wakers: Mutex<Vec<Waker>>,
}

type Waker = Box<dyn FnOnce() + Send>;

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop")
            .field("stopping", &self.stopping)
            .finish_non_exhaustive()
    }
}

impl Stop {
    #[inline]
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    #[inline]
    pub(crate) fn drain_until(&self) -> Option<Instant> {
        match self.stopping() {
            false => None,
            true => self.drain_until.get().copied(),
        }
    }

    pub(crate) fn stop(&self, drain_until: Instant) {
        let wakers = {
            let mut wakers = self.wakers.lock().expect("no waker panics");
            self.drain_until.get_or_init(|| drain_until);
            self.stopping.store(true, SeqCst);
            std::mem::take(&mut *wakers)
        };
        wakers.into_iter().for_each(|wake| wake());
    }

    pub(crate) fn on_stop(&self, wake: Waker) {
        let mut wakers = self.wakers.lock().expect("no waker panics");
        if self.stopping() {
            drop(wakers);
            wake();
        } else {
            wakers.push(wake);
        }
    }
}

/// Turns the first SIGTERM or SIGINT into `host.stop()`. A second one exits at once with 128 + its
/// number; when `grace` is over, the process exits with what is still open. SIGUSR1 prints the counters.
///
/// One thread does it all, started before there is anything to serve: a server that is out of threads
/// must still be able to stop.
pub(crate) fn on_signals(host: Arc<Host>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1])?;
    let handle = move || {
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => host.counters.print(),
                _ => break,
            }
        }
        let stopped = Instant::now();
        host.stop();
        while stopped.elapsed() < host.settings.grace.saturating_sub(EXIT_MARGIN) {
            for signal in signals.pending() {
                match signal {
                    SIGUSR1 => host.counters.print(),
                    _ => std::process::exit(128 + signal),
                }
            }
            if stopped.elapsed() >= host.drain_time() {
                host.stop_waiting();
            }
            std::thread::sleep(SECOND_SIGNAL_EVERY);
        }
        host.counters.print();
        std::process::exit(0);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(handle)?;
    Ok(())
}

/// How often a stopping server looks for a second signal.
const SECOND_SIGNAL_EVERY: Duration = Duration::from_millis(10);

/// How long `--grace` leaves for the counters and the exit itself.
const EXIT_MARGIN: Duration = Duration::from_millis(100);
