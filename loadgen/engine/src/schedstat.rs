//! The scheduler's counters of a thread: `/proc/PID/schedstat`.

/// CPU time of a thread, and its time waiting for a CPU, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schedule {
    /// CPU time.
    pub ran_ns: u64,
    /// Time in which the thread was runnable but had no CPU.
    pub delayed_ns: u64,
}

impl Schedule {
    /// Parses the text of `/proc/PID/schedstat`; `None` if the kernel does not keep these times and
    /// writes zeros.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        let schedule = Schedule {
            ran_ns: next()?,
            delayed_ns: next()?,
        };
        (schedule.ran_ns > 0).then_some(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat() {
        let of = |ran_ns, delayed_ns| Some(Schedule { ran_ns, delayed_ns });
        for (text, expected) in [
            ("123456 789 12\n", of(123_456, 789)),
            ("5 0 1\n", of(5, 0)),
            ("0 0 0\n", None),
            ("5\n", None),
            ("a b c\n", None),
            ("", None),
        ] {
            assert_eq!(Schedule::parse(text), expected, "{text:?}");
        }
    }
}
