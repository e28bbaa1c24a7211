//! A row of the table, and short ways to write one.

use std::fmt;

/// One row: the bytes to send, their answers, and whether the connection persists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The RFC and the section that decide, such as `9112 §3.2`.
    pub section: &'static str,
    /// What is special about the request; unique within its section.
    pub name: String,
    /// One request or several pipelined ones.
    pub sent: Vec<u8>,
    /// The final answers in order, without interim ones.
    pub answers: Vec<Expected>,
    /// What the connection does after the answers.
    pub then: Then,
    /// The ways to send the bytes; all must have the same outcome.
    pub ways: &'static [Way],
}

/// The section and the name, as in the names of tests.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.section, self.name)
    }
}

/// An answer that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// 200 with `hello world`.
    Hello,
    /// Only the head of [`Expected::Hello`].
    Head,
    /// 204 with the supported methods.
    Options,
    /// A refusal with this status.
    Refusal(u16),
    /// A refusal of a HEAD request with this status: it has no body, whatever Content-Length says (9110 §9.3.2).
    HeadRefusal(u16),
    /// An interim 100, followed by another answer.
    Continue,
}

impl Expected {
    /// The status code.
    pub fn status(self) -> u16 {
        match self {
            Expected::Hello | Expected::Head => 200,
            Expected::Options => 204,
            Expected::Refusal(status) | Expected::HeadRefusal(status) => status,
            Expected::Continue => 100,
        }
    }

    /// Whether the answer has only a head, because the request was HEAD.
    pub fn is_head_only(self) -> bool {
        matches!(self, Expected::Head | Expected::HeadRefusal(_))
    }
}

/// What the connection does after the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It persists: a further request is answered.
    Persists,
    /// It persists, and the last answer says `keep-alive`, as HTTP/1.0 needs it.
    KeepAlive,
    /// It closes: the last answer says `close`, and nothing after it is answered.
    Closes,
}

/// How the bytes of a case are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In one write.
    Whole,
    /// In a write for each byte.
    ByteByByte,
    /// In one write with another request before them.
    AfterAnother,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Whole => "sent whole",
            Way::ByteByByte => "sent byte by byte",
            Way::AfterAnother => "pipelined behind another request",
        })
    }
}

/// Makes cases from sections, each with its cases.
pub(crate) fn sections<const N: usize>(sections: [(&'static str, Vec<Case>); N]) -> Vec<Case> {
    let cases = sections.into_iter().flat_map(|(section, cases)| {
        let of_section = move |case| Case { section, ..case };
        cases.into_iter().map(of_section)
    });
    cases.collect()
}

/// Makes a case; [`sections`] fills in its section.
pub(crate) fn several(
    name: &str,
    sent: &[impl AsRef<[u8]>],
    answers: &[Expected],
    then: Then,
) -> Case {
    let sent: Vec<&[u8]> = sent.iter().map(AsRef::as_ref).collect();
    Case {
        section: "",
        name: name.to_owned(),
        sent: sent.concat(),
        answers: answers.to_vec(),
        then,
        ways: &[Way::Whole, Way::ByteByByte, Way::AfterAnother],
    }
}

pub(crate) fn one(name: &str, sent: impl AsRef<[u8]>, answer: Expected, then: Then) -> Case {
    several(name, &[sent], &[answer], then)
}

/// A request that is answered with `hello world` and keeps the connection open.
pub(crate) fn hello(name: &str, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::Hello, Then::Persists)
}

/// A request that is answered with this status. The connection closes, because the start of the next request is
/// unknown.
pub(crate) fn refused(name: &str, status: u16, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::Refusal(status), Then::Closes)
}

/// A HEAD request that is answered with this status, after which the connection closes.
pub(crate) fn head_refused(name: &str, status: u16, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::HeadRefusal(status), Then::Closes)
}

/// A request with a known method that is not served.
pub(crate) fn not_allowed(name: &str, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::Refusal(405), Then::Persists)
}

/// A request with an unknown method.
pub(crate) fn not_implemented(name: &str, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::Refusal(501), Then::Persists)
}

impl Case {
    /// Leaves out the way of one write per byte, which would take too long for so many bytes.
    pub(crate) fn in_large_writes(self) -> Self {
        Case {
            ways: &[Way::Whole, Way::AfterAnother],
            ..self
        }
    }
}
