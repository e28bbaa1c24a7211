use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// When to look at which connection again, for event loops. Keys are small numbers, such as a slab's.
///
/// A connection's deadline moves with every request, but the heap need not: an entry that comes due
/// is held against the connection's real deadline, which may have moved on, and then watched anew.
/// So a key has one entry as long as its deadlines move forward, also when another connection has
/// taken it over, and the heap is touched once a timeout instead of once a request.
#[derive(Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    /// For each key, the earliest entry in the heap.
    armed: Vec<Option<Instant>>,
}

impl Deadlines {
    /// Makes sure that `key` comes due no later than at `deadline`.
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

    /// Takes out a key that is due, the oldest first.
    pub fn pop_due(&mut self, now: Instant) -> Option<usize> {
        loop {
            let &Reverse((when, key)) = self.heap.peek()?;
            if when > now {
                return None;
            }
            self.heap.pop();
            // An entry that is not the earliest of its key was overtaken by an earlier one.
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
