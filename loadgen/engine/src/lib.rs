//! Sends the HTTP/1.1 requests of one [`plan::Plan`] to a server, and judges the result.
//!
//! In the order in which data flows:
//!
//! - the request: a [`plan`], its URL ([`http_url`]), the local addresses it needs ([`ports`]),
//!   within [`limits`];
//! - the load: [`drive::run`] sends and receives on its own threads, on assigned CPUs
//!   ([`affinity`]), and reads every [`response`] completely;
//! - the result: a [`record::Outcome`] in memory, its [`latency`] with intervals, [`fairness`],
//!   whether it was [`steady`], its [`silence`]s, and the competition for CPUs ([`contention`],
//!   [`cpu_time`], [`schedstat`]);
//! - the judgement: a [`verdict`], with what received bytes say about errors (`heard`);
//! - what every crate above needs to address the outside consistently: [`figures`], quoting of
//!   foreign text ([`foreign`], [`shell`]), output files ([`destination`]), and [`signals`].
//!
//! **May know:** sockets, clocks, `/proc` of its own process, and the CPUs of this machine.
//!
//! **Deliberately absent:** how a server is started, its name and its cost; files of sets; the
//! command line; all forms of output. Here, a server is an address. The crate shares no code with
//! the servers, not even a parser: a shared parser would hide a shared fault.

// These macros panic when stdout or stderr is closed; `destination` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod affinity;
pub mod contention;
pub mod cpu_time;
pub mod destination;
pub mod drive;
pub mod fairness;
pub mod figures;
pub mod foreign;
mod heard;
pub mod http_url;
pub mod latency;
pub mod limits;
pub mod plan;
pub mod ports;
pub mod record;
pub mod response;
pub mod schedstat;
pub mod shell;
pub mod signals;
pub mod silence;
pub mod steady;
pub mod verdict;
