//! One connection seen on all layers: what programs call, what TCP makes of it, what crosses the interface, and
//! which sockets exist meanwhile.
//!
//! A [`client`] sends requests while everything is watched ([`live`]). Facts are gathered into a
//! [`Record`](model::Record): packets from the interface or from a capture file ([`packets`]), system calls and
//! state changes from the kernel's tracepoints ([`kernel`]), sockets from its lists, and what the client saw by
//! its own [`clock`]. [`story`] orders them by connection and phase and says why each came about; [`output`]
//! prints that as text, HTML, JSON and Mermaid.
//!
//! **May know:** the engine, and of the subject what the kernel tells: processes, sockets, `tracefs`.
//!
//! **Deliberately absent:** load, rates, statistics and sets. A trace explains one connection; it measures nothing
//! that could be compared.

// These macros panic when nobody can be written to.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod client;
pub mod clock;
pub mod kernel;
pub mod live;
pub mod model;
pub mod output;
pub mod packets;
pub mod sequence;
pub mod story;

// So that a fixture that a test of the program includes too can name things alike in both.
#[cfg(test)]
extern crate self as trace;
