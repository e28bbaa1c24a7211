//! What one row of the table says, and the short ways to write one.

use std::fmt;

/// One row: bytes, the answers to them, and what becomes of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Number of the RFC and of the section that decides, such as `9112 §3.2`.
    pub section: &'static str,
    /// What is special about the request; no other case of the section has the same.
    pub name: String,
    /// One request or several pipelined ones.
    pub sent: Vec<u8>,
    /// In this order; interim answers are not among them.
    pub answers: Vec<Expected>,
    /// What the connection does after them.
    pub then: Then,
    /// The ways to send it, which must make no difference.
    pub ways: &'static [Way],
}

/// The section and the name: how tests call the case.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.section, self.name)
    }
}

/// An answer, as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// 200 with `hello world`.
    Hello,
    /// The head of that alone.
    Head,
    /// 204 with the methods there are.
    Options,
    /// This status.
    Refusal(u16),
    /// This status for HEAD: without a body, whatever Content-Length says (9110 §9.3.2).
    HeadRefusal(u16),
    /// 100, and then another answer.
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

    /// It ends with its head, because the request was HEAD.
    pub fn is_head_only(self) -> bool {
        matches!(self, Expected::Head | Expected::HeadRefusal(_))
    }
}

/// What the connection does after the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Persists: a further request is answered.
    Persists,
    /// The same, and the last answer says so, as HTTP/1.0 needs it.
    KeepAlive,
    /// The last answer announces it, and nothing that follows is answered.
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

/// Cases by the sections that decide them.
pub(crate) fn sections<const N: usize>(sections: [(&'static str, Vec<Case>); N]) -> Vec<Case> {
    let cases = sections.into_iter().flat_map(|(section, cases)| {
        let of_section = move |case| Case { section, ..case };
        cases.into_iter().map(of_section)
    });
    cases.collect()
}

/// Requests sent together; the section is given by [`sections`].
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

/// Answered with `hello world`, and the connection persists.
pub(crate) fn hello(name: &str, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::Hello, Then::Persists)
}

/// Answered with this status, and the connection closes: where a next request would begin is not known.
pub(crate) fn refused(name: &str, status: u16, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::Refusal(status), Then::Closes)
}

/// The same for HEAD.
pub(crate) fn head_refused(name: &str, status: u16, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::HeadRefusal(status), Then::Closes)
}

/// A method that is known, and not served.
pub(crate) fn not_allowed(name: &str, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::Refusal(405), Then::Persists)
}

/// A method that is not known.
pub(crate) fn not_implemented(name: &str, sent: impl AsRef<[u8]>) -> Case {
    one(name, sent, Expected::Refusal(501), Then::Persists)
}

impl Case {
    /// For so many bytes that a write for each would take too long.
    pub(crate) fn in_large_writes(self) -> Self {
        Case {
            ways: &[Way::Whole, Way::AfterAnother],
            ..self
        }
    }
}
