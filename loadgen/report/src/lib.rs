//! What is measured, for people, as text on a terminal, as Markdown, as a page and as pictures, and for programs
//! that track results.
//!
//! **May know:** the lab, and through it the engine and the subject.
//!
//! **Deliberately absent:** measuring and judging. Every figure that stands in a table was computed in the `lab`
//! crate; what is decided here is how it looks. Nothing is read here but the sets that are given, and nothing is
//! printed: what comes out is text.

// These macros panic when nobody can be written to.
#![deny(clippy::print_stdout, clippy::print_stderr)]
// The tables of a calibration use a part of what those of sets need.
#![cfg_attr(not(feature = "sets"), allow(dead_code, unreachable_pub))]

#[cfg(feature = "sets")]
pub mod aa;
pub mod calibration;
#[cfg(feature = "page")]
pub mod chart;
#[cfg(feature = "sets")]
mod comparison;
#[cfg(feature = "sets")]
pub mod diff;
pub mod doctor;
pub mod document;
#[cfg(feature = "sets")]
pub mod explain;
pub mod format;
mod grid;
pub mod hgrm;
#[cfg(feature = "page")]
pub mod html;
#[cfg(feature = "sets")]
pub mod latencies;
#[cfg(feature = "sets")]
pub mod ledger;
#[cfg(feature = "sets")]
pub mod markdown;
#[cfg(feature = "page")]
pub mod pictures;
#[cfg(feature = "sets")]
pub mod ranking;
#[cfg(feature = "sets")]
pub mod rows;
pub mod run;
pub mod slo;
mod spectrum;
#[cfg(feature = "sets")]
pub mod table;
pub mod tracking;

#[cfg(feature = "sets")]
pub use comparison::INCOMPLETE;
#[cfg(feature = "sets")]
use comparison::*;
