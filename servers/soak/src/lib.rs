//! Whether a server stays correct and bounded under a long mix of well- and ill-behaved peers.
//!
//! A server of `benches/servers.toml` is started as a process. A given number of [`peers`] visits it at any time,
//! each with a behaviour drawn at random. Their answers are checked to the byte; memory, descriptors and threads are
//! watched from outside. [`run`] is the course of one soak: the mix of peers for its time, then none, then the mix
//! again, with SIGTERM in the middle of it.
//!
//! The soak shares no code with the servers, because a shared fault would hide itself.

#![forbid(unsafe_code)]

mod answer;
mod cli;
mod connection;
mod counters;
mod crowd;
mod few;
mod memory;
mod pace;
pub mod peers;
mod process;
mod progress;
pub mod report;
pub mod run;
mod table;
mod tally;
mod world;

pub use cli::main;
