//! Turns at a steady rate, given to peers in the order in which they ask.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// A fixed number of turns per second, shared by all peers.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next: Cell<Instant>,
}

impl Pace {
    pub(crate) fn new(per_s: f64, now: Instant) -> Self {
        Pace {
            interval: Duration::from_secs_f64(1.0 / per_s),
            next: Cell::new(now),
        }
    }

    /// How long the next peer that asks would wait.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.next.get().saturating_duration_since(now)
    }

    /// Takes `turns` at once. They begin at the returned time. Turns that nobody took are lost, so that no burst
    /// makes up for them.
    pub(crate) fn take(&self, turns: u32, now: Instant) -> Instant {
        let at = self.next.get().max(now);
        self.next.set(at + self.interval * turns);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other_and_are_not_saved_up() {
        let begin = Instant::now();
        let ms = Duration::from_millis;
        let pace = Pace::new(100.0, begin);
        assert_eq!(pace.take(1, begin), begin);
        assert_eq!(pace.take(3, begin), begin + ms(10));
        assert_eq!(pace.wait(begin), ms(40));
        assert_eq!(pace.take(1, begin), begin + ms(40));
        let later = begin + ms(1000);
        assert_eq!(pace.wait(later), ms(0));
        assert_eq!(pace.take(1, later), later);
        assert_eq!(pace.take(1, later), later + ms(10));
    }
}
