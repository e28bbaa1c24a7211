//! A server as a process: what can be measured, how it is started and stopped, what it costs, and what the kernel
//! tells of it.
//!
//! - [`catalogue`]: servers and workloads, from `benches/servers.toml` and `benches/workloads.toml`; [`names`]
//!   picks among them;
//! - [`process`]: a server's process with all that it starts; [`meter`]: what a load costs it; [`session`]: its life
//!   from start to stop, and whether its figures count ([`fault`]);
//! - [`machine`]: facts of the machine and of what was built, without which a figure says nothing;
//! - [`ledger`]: system calls and events, counted by the kernel's tracepoints; [`sockets`]: who holds which TCP
//!   socket, by `sock_diag`.
//!
//! **May know:** the engine, `/proc`, `tracefs`, and the programs that a catalogue names.
//!
//! **Deliberately absent:** what is measured and in which order, files of sets, statistics, output. Servers are
//! processes reached over TCP: the crate links none of them.

// These macros panic when nobody can be written to.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod catalogue;
pub mod fault;
#[cfg(feature = "ledger")]
pub mod ledger;
pub mod machine;
pub mod meter;
pub mod names;
mod placeholders;
pub mod process;
pub mod session;
pub mod sockets;
