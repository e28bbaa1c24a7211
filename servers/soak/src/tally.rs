//! Results of the peers: counts by behaviour, and faults by kind with the first few examples.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// How a peer's life ended early.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer was asked to leave, or the server stopped in a way that it may.
    Left,
    /// No byte of an answer came, from a server that serves few at a time.
    GaveUp,
    /// The peer came after the stop signal.
    Refused,
    /// The peer itself was late, and the server was allowed to close by then.
    Late,
    /// The server did something wrong.
    Fault(Fault),
}

/// What a server did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A connection could not be made.
    NoConnection,
    /// An answer is not the expected one.
    WrongAnswer,
    /// The server sent bytes that belong to no answer.
    BytesTooMany,
    /// The connection was reset.
    Reset,
    /// The server closed before the end of an answer, or when it must not.
    EarlyEnd,
    /// No complete answer came in a generous time.
    NoAnswer,
    /// The server did not close after its last answer.
    NotClosed,
    /// A peer that is slow beyond the limits was not dropped.
    NotDropped,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::NoConnection => "no connection",
            Kind::WrongAnswer => "wrong answer",
            Kind::BytesTooMany => "bytes too many",
            Kind::Reset => "reset",
            Kind::EarlyEnd => "early end",
            Kind::NoAnswer => "no answer",
            Kind::NotClosed => "not closed",
            Kind::NotDropped => "not dropped",
        })
    }
}

/// One fault and what led to it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// What was expected, sent and received.
    pub(crate) story: String,
}

/// The results of one behaviour.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct OfBehaviour {
    /// Lives that have ended.
    pub(crate) lives: u64,
    /// Final answers that were complete and correct.
    pub(crate) answers: u64,
    pub(crate) gave_up: u64,
    pub(crate) refused: u64,
    pub(crate) late: u64,
    pub(crate) faults: BTreeMap<Kind, Faults>,
}

/// The faults of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Faults {
    pub(crate) count: u64,
    /// The first few of them.
    pub(crate) examples: Vec<String>,
}

/// How many examples are kept for each kind and behaviour.
const EXAMPLES_MAX: usize = 3;

/// The results of all behaviours.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) by_behaviour: BTreeMap<&'static str, OfBehaviour>,
    /// Complete final answers, correct or not, by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Total correct answers and faults.
    answers: u64,
    faults: u64,
}

impl Tally {
    /// Counts a complete final answer.
    pub(crate) fn saw(&mut self, status: u16) {
        *self.statuses.entry(status).or_default() += 1;
    }

    /// Counts a correct answer.
    pub(crate) fn answered(&mut self, behaviour: &'static str) {
        self.answers += 1;
        self.by_behaviour.entry(behaviour).or_default().answers += 1;
    }

    /// Counts the end of a life.
    pub(crate) fn over(&mut self, behaviour: &'static str, outcome: Result<(), End>) {
        let of = self.by_behaviour.entry(behaviour).or_default();
        of.lives += 1;
        match outcome {
            Ok(()) | Err(End::Left) => {}
            Err(End::GaveUp) => of.gave_up += 1,
            Err(End::Refused) => of.refused += 1,
            Err(End::Late) => of.late += 1,
            Err(End::Fault(fault)) => {
                self.faults += 1;
                let faults = of.faults.entry(fault.kind).or_default();
                faults.count += 1;
                if faults.examples.len() < EXAMPLES_MAX {
                    faults.examples.push(fault.story);
                }
            }
        }
    }

    pub(crate) fn answers(&self) -> u64 {
        self.answers
    }

    pub(crate) fn faults(&self) -> u64 {
        self.faults
    }

    pub(crate) fn sum(&self, of: impl Fn(&OfBehaviour) -> u64) -> u64 {
        self.by_behaviour.values().map(of).sum()
    }
}

/// Escapes bytes for a message, and leaves out the middle if there are many.
pub(crate) fn abridged(bytes: &[u8]) -> String {
    const EDGE: usize = 120;
    match bytes {
        [] => "nothing".to_owned(),
        bytes if bytes.len() <= 3 * EDGE => format!("`{}`", bytes.escape_ascii()),
        bytes => {
            let (first, rest) = bytes.split_at(2 * EDGE);
            let (middle, last) = rest.split_at(rest.len() - EDGE);
            let (first, last) = (first.escape_ascii(), last.escape_ascii());
            format!("`{first}` ({} bytes) `{last}`", middle.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counted_and_few_are_kept() {
        let mut tally = Tally::default();
        for n in 0..10 {
            let story = format!("fault {n}");
            let kind = Kind::Reset;
            tally.over("keep-alive", Err(End::Fault(Fault { kind, story })));
        }
        tally.over("keep-alive", Err(End::GaveUp));
        tally.over("keep-alive", Ok(()));
        let of = &tally.by_behaviour["keep-alive"];
        assert_eq!((of.lives, of.gave_up, tally.faults()), (12, 1, 10));
        assert_eq!(of.faults[&Kind::Reset].count, 10);
        let kept = ["fault 0", "fault 1", "fault 2"];
        assert_eq!(of.faults[&Kind::Reset].examples, kept);
    }

    #[test]
    fn long_stories_lose_their_middle() {
        assert_eq!(abridged(b""), "nothing");
        assert_eq!(abridged(b"a\r\n\xff"), "`a\\r\\n\\xff`");
        let long = abridged(&[b'x'; 1000]);
        assert!(long.contains("(640 bytes)"), "{long}");
    }
}
