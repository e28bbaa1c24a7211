//! Whether a server stays correct and bounded under a long mix of well- and ill-behaved peers.
//!
//! A server of `benches/servers.toml` is started as a process and visited by [`peers`], as many at a time
//! as asked for, each of a behaviour drawn at random. What they are answered is held against the rules to
//! the byte; memory, descriptors and threads are watched from outside. The course of one soak is
//! [`run`]: the mix for its time, then quiet, then the mix again and SIGTERM in the midst of it.
//!
//! It shares no code with the servers, so that no fault of theirs is hidden by the same fault here.

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
