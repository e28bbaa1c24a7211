//! A load generator for HTTP/1.1 servers, and the laboratory that compares them.
//!
//! As a library it drives one [`plan::Plan`] at a server and returns a [`record::Outcome`]:
//! [`drive::run`]. Everything else is built around that, in the order in which the data flows:
//!
//! - what is asked for: a [`plan`], the URL it is for ([`http_url`]), the local addresses it needs ([`ports`]); a [`catalogue`] of servers
//!   and workloads, a [`target`] started as a process;
//! - what came of it: [`record`], [`latency`] with its intervals, whether it was [`steady`], its
//!   [`silence`]s, who else wanted its CPUs ([`contention`]), a [`verdict`];
//!   together a [`run`], as [`json`] or by [`report`]; what the kernel counted of a server meanwhile, its
//!   [`ledger`];
//! - many runs: a search for the largest rate ([`slo`]), a [`set`] on disk and what is made of sets
//!   ([`compare`]);
//! - what to think of it: the generator's own limits ([`calibration`] against a [`floor`], beside others:
//!   [`against`]) and the machine's ([`machine`], [`doctor`]);
//! - one connection instead of many: a [`trace`];
//! - where all of it goes: a [`destination`].

#![deny(unsafe_code)]
// These macros panic when nobody can be written to; `destination` and `cli::output` do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

// So that what tests of the library and of its programs share names things alike.
#[cfg(test)]
extern crate self as loadgen;

pub mod against;
pub mod calibration;
pub mod catalogue;
pub mod cli;
pub mod compare;
pub mod contention;
pub mod destination;
pub mod doctor;
pub mod drive;
pub mod explain;
pub mod floor;
mod foreign;
mod heard;
pub mod http_url;
pub mod json;
pub mod latency;
pub mod ledger;
pub mod limits;
pub mod machine;
mod names;
pub mod plan;
pub mod ports;
pub mod primitives;
pub mod record;
pub mod report;
pub mod response;
pub mod run;
pub mod set;
mod shell;
mod signals;
pub mod silence;
pub mod slo;
pub mod steady;
pub mod target;
pub mod trace;
pub mod verdict;
