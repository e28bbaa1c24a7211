//! One table of requests and their correct answers, for every server and every way to send them.
//!
//! The tests check the table against our servers over real sockets, against other people's servers, and against
//! the protocol core in memory. The table itself knows no server and needs no library.
//!
//! ```
//! for case in conformance::cases() {
//!     println!("{case}: {} bytes, {} answers", case.sent.len(), case.answers.len());
//! }
//! ```
//!
//! Sections are those of RFC 9112 (HTTP/1.1) and RFC 9110 (HTTP semantics); `3986` is RFC 3986 (URIs),
//! `5789` RFC 5789 (PATCH) and `6585` RFC 6585 (431). Where an RFC leaves a choice, the table
//! takes the stricter side. Limits are those of our servers.

#![forbid(unsafe_code)]

mod case;
mod cases;
mod requests;

pub use case::{Case, Expected, Then, Way};
pub use cases::cases;

/// A request that is answered with `hello world` and keeps the connection open.
pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
