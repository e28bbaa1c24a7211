//! The laboratory: measurements made, kept, compared and explained.
//!
//! - one run with everything known about it ([`run`]), as JSON ([`json`]); the search for the
//!   largest rate that keeps an objective ([`slo`]);
//! - many runs: the [`experiment`], the [`set`] that it writes, comparisons of sets ([`compare`]) with
//!   medians and intervals over rounds ([`estimate`]), and explanations of differences between servers ([`explain`], from
//!   the costs of [`primitives`]);
//! - the limits of the generator ([`calibration`] against the [`responder`], together with other
//!   generators: [`against`]) and of the machine ([`doctor`]).
//!
//! **May know:** the engine and the subject.
//!
//! **Deliberately absent:** the command line, and tables, pages and pictures: the results here are
//! values, which the `report` crate presents.

// These macros panic when stdout or stderr is closed.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod against;
pub mod calibration;
#[cfg(feature = "sets")]
pub mod compare;
pub mod doctor;
#[cfg(feature = "sets")]
pub mod estimate;
#[cfg(feature = "sets")]
pub mod experiment;
#[cfg(feature = "sets")]
pub mod explain;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod hlog;
pub mod json;
pub mod median;
#[cfg(feature = "sets")]
pub mod primitives;
pub mod responder;
pub mod run;
#[cfg(feature = "sets")]
pub mod set;
pub mod slo;
