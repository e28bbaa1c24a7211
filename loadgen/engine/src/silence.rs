//! Periods in which something was awaited and nothing arrived, and how those of several threads
//! overlap.

/// Gaps between the moments at which anything arrived from the server. Times are nanoseconds since
/// the end of the warm-up.
///
/// The gaps of one thread say little about a server that other threads hear from, so they are kept
/// and [intersected](Silences::and). Only the longest gaps are kept, so a run of any length needs
/// the same memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silences {
    /// Sorted and without overlaps.
    gaps: Vec<Gap>,
    /// Shorter gaps are not kept.
    least_ns: u64,
}

/// The time from one arrival to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    from: u64,
    to: u64,
    /// The time from which something was awaited; `to` if nothing was.
    awaited: u64,
}

impl Default for Silences {
    fn default() -> Self {
        Silences {
            gaps: Vec::new(),
            least_ns: 100_000,
        }
    }
}

impl Silences {
    /// The maximum number of gaps kept: 20 minutes of a CPU quota that stops a server for most of
    /// each period of 100 ms.
    const KEPT: usize = 16_384;

    /// Shorter gaps need not be reported.
    #[inline]
    pub fn least_ns(&self) -> u64 {
        self.least_ns
    }

    /// Adds a gap from `from` to `to` in which something was awaited from `awaited` on. Gaps must
    /// be added in order.
    pub fn push(&mut self, from: u64, to: u64, awaited: u64) {
        if to.saturating_sub(from) < self.least_ns {
            return;
        }
        let awaited = awaited.clamp(from, to);
        self.gaps.push(Gap { from, to, awaited });
        while self.gaps.len() > Self::KEPT {
            self.least_ns *= 2;
            let least_ns = self.least_ns;
            self.gaps.retain(|gap| gap.to - gap.from >= least_ns);
        }
    }

    /// The periods in which neither this nor the other threads received anything, although at least
    /// one awaited it.
    #[must_use]
    pub fn and(&self, other: &Silences) -> Silences {
        let mut both = Silences {
            gaps: Vec::new(),
            least_ns: self.least_ns.max(other.least_ns),
        };
        let (mut mine, mut theirs) = (self.gaps.iter().peekable(), other.gaps.iter().peekable());
        while let (Some(one), Some(two)) = (mine.peek(), theirs.peek()) {
            let (from, to) = (one.from.max(two.from), one.to.min(two.to));
            if from < to {
                both.push(from, to, one.awaited.min(two.awaited));
            }
            match one.to < two.to {
                true => mine.next(),
                false => theirs.next(),
            };
        }
        both
    }

    /// The start and end of each period in which something was awaited and nothing arrived, in
    /// order.
    pub fn times(&self) -> impl Iterator<Item = (u64, u64)> {
        let times = self.gaps.iter().map(|gap| (gap.awaited, gap.to));
        times.filter(|(from, to)| from < to)
    }

    /// The length of the longest gap in nanoseconds; 0 if none was kept.
    pub fn longest_ns(&self) -> u64 {
        self.times().map(|(from, to)| to - from).max().unwrap_or(0)
    }
}

/// How much of the time from `from` to `to` lies within these spans, which do not overlap.
pub fn overlap_ns(from: u64, to: u64, spans: impl IntoIterator<Item = (u64, u64)>) -> u64 {
    let within = |(start, end): (u64, u64)| end.min(to).saturating_sub(start.max(from));
    spans.into_iter().map(within).sum()
}

/// Merges overlapping spans and sorts them.
pub fn union(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut union: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans {
        match union.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => union.push((from, to)),
        }
    }
    union
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// From, to and since when something was awaited, milliseconds.
    fn silences(gaps: &[(u64, u64, u64)]) -> Silences {
        let mut silences = Silences::default();
        for (from, to, awaited) in gaps {
            silences.push(from * MS, to * MS, awaited * MS);
        }
        silences
    }

    fn times(silences: &Silences) -> Vec<(u64, u64)> {
        let times = silences.times().map(|(from, to)| (from / MS, to / MS));
        times.collect()
    }

    #[test]
    fn only_what_was_awaited_is_a_silence() {
        for (gap, seen) in [
            ((10, 90, 0), Some((10, 90))),
            ((10, 90, 10), Some((10, 90))),
            ((10, 90, 60), Some((60, 90))),
            ((10, 90, 90), None),
            ((10, 90, 500), None),
        ] {
            let silences = silences(&[gap]);
            assert_eq!(times(&silences).first().copied(), seen, "{gap:?}");
            let longest = seen.map_or(0, |(from, to)| (to - from) * MS);
            assert_eq!(silences.longest_ns(), longest, "{gap:?}");
        }
    }

    #[test]
    fn several_threads_are_silent_when_all_of_them_are() {
        type Gaps = &'static [(u64, u64, u64)];
        type Row = (Gaps, Gaps, &'static [(u64, u64)]);
        let rows: [Row; 7] = [
            (&[(0, 100, 0)], &[(0, 100, 0)], &[(0, 100)]),
            (&[(0, 100, 0)], &[], &[]),
            (&[(0, 60, 0)], &[(40, 100, 40)], &[(40, 60)]),
            (&[(0, 40, 0)], &[(40, 100, 40)], &[]),
            (
                &[(0, 100, 0)],
                &[(10, 20, 10), (30, 90, 30)],
                &[(10, 20), (30, 90)],
            ),
            // One waits, the other has nothing to wait for.
            (&[(0, 100, 100)], &[(10, 90, 20)], &[(20, 90)]),
            (&[(0, 100, 100)], &[(10, 90, 90)], &[]),
        ];
        for (one, two, seen) in rows {
            let (one, two) = (silences(one), silences(two));
            assert_eq!(times(&one.and(&two)), seen, "{one:?} {two:?}");
            assert_eq!(times(&two.and(&one)), seen, "{two:?} {one:?}");
        }
    }

    #[test]
    fn the_longest_are_kept() {
        let mut silences = Silences::default();
        let mut at = 0;
        for n in 0..100_000_u64 {
            let length = match n {
                77_777 => 900 * MS,
                n => MS + n % 7,
            };
            silences.push(at, at + length, at);
            at += length;
        }
        assert!(silences.gaps.len() <= Silences::KEPT);
        assert_eq!(silences.longest_ns(), 900 * MS);
    }

    #[test]
    fn spans_overlap() {
        let spans = union(vec![(50, 70), (10, 20), (15, 30), (70, 80)]);
        assert_eq!(spans, [(10, 30), (50, 80)]);
        for (from, to, within) in [(0, 100, 50), (0, 10, 0), (25, 60, 15), (55, 60, 5)] {
            assert_eq!(overlap_ns(from, to, spans.iter().copied()), within);
        }
    }
}
