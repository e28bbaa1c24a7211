//! Waits that tell the user, once they are long, what they wait for.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// A wait is reported to the user after this time.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// A wait that has begun.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    /// What is awaited, such as `event-loop to stop`.
    what: &'a str,
    since: Instant,
    is_told: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn begin(what: &'a str) -> Self {
        Waiting {
            what,
            since: Instant::now(),
            is_told: false,
        }
    }

    /// Must be called repeatedly; says once what is awaited, and for how long at most.
    pub(super) fn go_on(&mut self, within: Option<Duration>) {
        if self.is_told || self.since.elapsed() < TOLD_AFTER {
            return;
        }
        self.is_told = true;
        let limit = match within {
            Some(within) => format!("for up to {} s", within.as_secs_f64()),
            None => "until Ctrl-C".to_owned(),
        };
        tell(&format!("waiting {limit} for {} ...", self.what));
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

/// Prints a line on stderr, ignoring errors.
pub(super) fn tell(line: &str) {
    let _ = io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}
