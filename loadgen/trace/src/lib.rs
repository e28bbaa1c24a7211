//! One connection seen on all layers: the system calls, the TCP states, the packets on the
//! interface, and the sockets that exist meanwhile.
//!
//! A [`client`] sends requests while everything is watched ([`live`]). A [`Record`](model::Record)
//! collects the facts: packets from an interface or a capture file ([`packets`]), system calls and
//! state changes from the kernel's tracepoints ([`kernel`]), sockets from the kernel's lists, and
//! what the client saw, timed by [`clock`]. [`story`] sorts the facts by connection and phase and
//! explains them; [`output`] prints the story as text, HTML, JSON and Mermaid.
//!
//! **May know:** the engine, and from `subject` what the kernel reports: processes, sockets,
//! `tracefs`.
//!
//! **Deliberately absent:** load, rates, statistics and sets. A trace explains one connection; it
//! does not measure anything that could be compared.

// These macros panic when stdout or stderr is closed.
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

// The integration tests include a fixture of this crate; with this alias its paths are the same in
// both.
#[cfg(test)]
extern crate self as trace;
