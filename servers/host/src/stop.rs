use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Host;

/// A flag, and those who must be woken to see it.
#[derive(Default)]
pub(crate) struct Stop {
    stopping: AtomicBool,
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
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    pub(crate) fn stop(&self) {
        let wakers = {
            let mut wakers = self.wakers.lock().expect("no waker panics");
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
/// number; when `grace` is over, the process exits with what is still open.
///
/// One thread does it all, started before there is anything to serve: a server that is out of threads
/// must still be able to stop.
pub(crate) fn on_signals(host: Arc<Host>, grace: Duration) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let handle = move || {
        if signals.forever().next().is_none() {
            return;
        }
        let deadline = Instant::now() + grace.saturating_sub(EXIT_MARGIN);
        host.stop();
        while Instant::now() < deadline {
            if let Some(signal) = signals.pending().next() {
                std::process::exit(128 + signal);
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
