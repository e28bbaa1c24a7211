use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::door::{Listening, close};
use crate::{Host, lock};

/// The stop of a server, in stages: its doors are closed and their accept queues taken, `drain_until` is set, and
/// the architecture is woken.
#[derive(Default)]
pub(crate) struct Stop {
    stopping: AtomicBool,
    doors: Mutex<Vec<Weak<Listening>>>,
    drain_until: OnceLock<Instant>,
    wakers: Mutex<Vec<Waker>>,
}

type Waker = Box<dyn Fn() + Send>;

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

    #[inline]
    pub(crate) fn drain_until(&self) -> Option<Instant> {
        self.drain_until.get().copied()
    }

    pub(crate) fn close_on_stop(&self, door: &Arc<Listening>) {
        let mut doors = lock(&self.doors);
        match self.stopping() {
            false => doors.push(Arc::downgrade(door)),
            true => close(&[Arc::clone(door)]),
        }
    }

    pub(crate) fn stop(&self, drain_time: Duration) {
        {
            let mut doors = lock(&self.doors);
            self.stopping.store(true, SeqCst);
            let open: Vec<_> = doors.drain(..).filter_map(|door| door.upgrade()).collect();
            close(&open);
        }
        let wakers = lock(&self.wakers);
        self.drain_until.get_or_init(|| Instant::now() + drain_time);
        wakers.iter().for_each(|wake| wake());
    }

    pub(crate) fn on_stop(&self, wake: Waker) {
        let mut wakers = lock(&self.wakers);
        if self.drain_until().is_some() {
            wake();
        }
        wakers.push(wake);
    }
}

/// Starts a thread that handles signals. The first SIGTERM or SIGINT calls `host.stop()`. A second one exits at
/// once with status 128 + its number. When `--grace` is over, the process exits even if connections are open.
/// SIGUSR1 prints the counters.
///
/// The thread is started before the server serves, because a server that cannot create threads must still be
/// able to stop.
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
            if (host.drain_until()).is_some_and(|until| until <= Instant::now()) {
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

/// How often a stopping server checks for a second signal.
const SECOND_SIGNAL_EVERY: Duration = Duration::from_millis(10);

/// The part of `--grace` that is kept for printing the counters and exiting.
const EXIT_MARGIN: Duration = Duration::from_millis(100);
