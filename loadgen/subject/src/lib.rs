//! A server as a process: which servers exist, how one is started and stopped, what it costs, and
//! what the kernel reports about it.
//!
//! - [`catalogue`]: servers and workloads, from `benches/servers.toml` and
//!   `benches/workloads.toml`; [`names`] selects among them;
//! - [`process`]: a server's process, with everything that it started; [`meter`]: what a load costs
//!   it; [`session`]: its life from start to stop, and whether its figures count ([`fault`]);
//! - [`machine`]: facts about the machine and the build, which every figure needs;
//! - [`ledger`]: system calls and events, counted by the kernel's tracepoints; [`sockets`]: which
//!   process holds which TCP socket, by `sock_diag`.
//!
//! **May know:** the engine, `/proc`, `tracefs`, and the programs that a catalogue names.
//!
//! **Deliberately absent:** what is measured and in which order, files of sets, statistics, output.
//! Servers are processes reached over TCP: the crate links none of them.

// These macros panic when stdout or stderr is closed.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod catalogue;
pub mod fault;
#[cfg(feature = "ledger")]
pub mod ledger;
pub mod machine;
pub mod meter;
#[cfg(feature = "selection")]
pub mod names;
mod placeholders;
pub mod process;
pub mod session;
pub mod similar;
pub mod sockets;
