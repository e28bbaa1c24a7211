//! Turns at a steady rate, handed out to whoever asks first.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// So many turns a second over all peers, however many of them there are.
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

    /// How long the next one who asks would wait.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.next.get().saturating_duration_since(now)
    }

    /// Takes `turns` at once; they begin at the time returned, if the taker waits for them at all. Turns that nobody took are lost: there is no
    /// burst to make up for them.
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
