//! A server as a process: what can be measured, how it is started and stopped, what it costs, and what the kernel
//! tells of it.
//!
//! - [`catalogue`]: servers and workloads, from `benches/servers.toml` and `benches/workloads.toml`; [`names`]
//!   picks among them;
//! - [`process`]: one server from its start to its end, probed, sampled, and stopped with all that it started;
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
pub mod ledger;
pub mod machine;
pub mod names;
pub mod process;
pub mod sockets;
