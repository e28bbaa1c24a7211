//! Drives one [`plan::Plan`] of HTTP/1.1 requests at a server, and judges what came of it.
//!
//! In the order in which the data flows:
//!
//! - what is asked for: a [`plan`], the URL that it is for ([`http_url`]), the local addresses that it needs
//!   ([`ports`]), within [`limits`];
//! - the load itself: [`drive::run`] sends and receives on threads of its own, on the CPUs that it is given
//!   ([`affinity`]), and reads every [`response`] whole;
//! - what came of it: a [`record::Outcome`] in memory, its [`latency`] with intervals, [`fairness`], whether it was
//!   [`steady`], its [`silence`]s, and who else wanted its CPUs ([`contention`], [`cpu_time`], [`schedstat`]);
//! - whether to believe it: a [`verdict`], with what the bytes that came say about errors (`heard`);
//! - what every crate above needs to speak to the outside in the same way: [`figures`], quoting of text that
//!   somebody else wrote ([`foreign`], [`shell`]), output files ([`destination`]), and [`signals`].
//!
//! **May know:** sockets, clocks, `/proc` of its own process, and the CPUs of this machine.
//!
//! **Deliberately absent:** how a server is started, what it is called, and what it costs; files of sets; the
//! command line; every form of output. A server is an address here. The crate shares no code with the servers,
//! not even a parser: a shared parser would hide a shared fault.

// These macros panic when nobody can be written to; `destination` does not.
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
