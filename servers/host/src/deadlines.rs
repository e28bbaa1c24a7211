use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The deadlines of an event loop's connections. Keys are small numbers, such as those of a slab.
///
/// A connection's deadline moves with every request; the heap does not. When an entry comes due, the caller
/// compares it with the connection's real deadline, and watches the key again if that has moved. So a key has
/// one entry as long as its deadlines only move forward, even if another connection reuses the key, and the heap
/// changes once per timeout instead of once per request.
#[derive(Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The earliest entry in the heap for each key.
    armed: Vec<Option<Instant>>,
}

impl Deadlines {
    /// Makes `key` come due at `deadline` or earlier.
    #[inline]
    pub fn watch(&mut self, key: usize, deadline: Instant) {
        match self.armed.get(key) {
            Some(Some(armed)) if *armed <= deadline => {}
            _ => self.arm(key, deadline),
        }
    }

    fn arm(&mut self, key: usize, deadline: Instant) {
        if key >= self.armed.len() {
            self.armed.resize(key + 1, None);
        }
        self.armed[key] = Some(deadline);
        self.heap.push(Reverse((deadline, key)));
    }

    /// When the next key comes due.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((when, _))| *when)
    }

    /// Removes and returns a key that is due, the earliest first.
    pub fn pop_due(&mut self, now: Instant) -> Option<usize> {
        loop {
            let &Reverse((when, key)) = self.heap.peek()?;
            if when > now {
                return None;
            }
            self.heap.pop();
            // An entry that is not the earliest of its key is obsolete: an earlier one was pushed later.
            if self.armed[key] == Some(when) {
                self.armed[key] = None;
                return Some(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn clock() -> impl Fn(u64) -> Instant {
        let start = Instant::now();
        move |seconds| start + Duration::from_secs(seconds)
    }

    #[test]
    fn keys_come_due_in_order_of_time() {
        let at = clock();
        let mut deadlines = Deadlines::default();
        deadlines.watch(7, at(2));
        deadlines.watch(8, at(1));
        deadlines.watch(9, at(3));
        assert_eq!(deadlines.next(), Some(at(1)));
        assert_eq!(deadlines.pop_due(at(0)), None);
        assert_eq!(deadlines.pop_due(at(2)), Some(8));
        assert_eq!(deadlines.pop_due(at(2)), Some(7));
        assert_eq!(deadlines.pop_due(at(2)), None);
        assert_eq!(deadlines.next(), Some(at(3)));
    }

    #[test]
    fn later_deadlines_cost_no_entry_and_earlier_ones_win() {
        let at = clock();
        let mut deadlines = Deadlines::default();
        for second in 10..1000 {
            deadlines.watch(0, at(second));
        }
        assert_eq!(deadlines.heap.len(), 1);
        deadlines.watch(0, at(5));
        assert_eq!(deadlines.pop_due(at(5)), Some(0));
        assert_eq!(deadlines.pop_due(at(1000)), None, "overtaken");
        assert!(deadlines.heap.is_empty());
    }
}
