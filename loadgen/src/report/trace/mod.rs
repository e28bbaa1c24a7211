//! A trace for people: a timeline as text, a sequence diagram as a page and as Mermaid, two side by side;
//! and for programs as JSON.
//!
//! All of them print a [`Story`](crate::trace::story::Story) and make nothing up: what is known of an event
//! stands in it already.

pub mod compare;
#[cfg(test)]
mod fixture;
pub mod html;
pub mod json;
pub mod mermaid;
mod sockets;
mod states;
pub mod text;
mod words;

/// What was traced, to stand above it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heading {
    /// In a few words: `One request, traced`.
    pub title: String,
    /// Whom: `iterative at http://127.0.0.1:8000/`.
    pub target: String,
    /// What else is to be known: the command, the kernel, the day.
    pub lines: Vec<String>,
}
