//! Reports of measurements: for people as text on a terminal, Markdown, a page and pictures; for programs as CSV,
//! JSON and the formats of services that track results.
//!
//! **May know:** the lab, and through it the engine and the subject.
//!
//! **Deliberately absent:** measuring and judging. The `lab` crate computes every figure in a table; this crate
//! decides how it looks. It reads only the sets that it is given, and prints nothing: it returns text.
//!
//! Tables are filled once, as a [`document::Document`] of grids, and drawn by the formats in [`mod@format`], a file
//! each; the page, too, has its tables from there.

// These macros panic when the stream is closed.
#![deny(clippy::print_stdout, clippy::print_stderr)]
// The tables of a calibration use a part of what those of sets need, and these a part of what the page needs.
#![cfg_attr(not(feature = "page"), allow(dead_code))]
#![cfg_attr(not(feature = "sets"), allow(unreachable_pub))]

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
#[cfg(feature = "page")]
pub mod front;
mod grid;
pub mod hgrm;
#[cfg(feature = "page")]
pub mod html;
#[cfg(feature = "sets")]
pub mod ledger_table;
#[cfg(feature = "sets")]
pub mod markdown;
#[cfg(feature = "page")]
pub mod pictures;
#[cfg(feature = "sets")]
pub mod ranking;
#[cfg(feature = "sets")]
pub mod rows;
pub mod screen;
#[cfg(feature = "page")]
pub mod situations;
pub mod slo;
mod spectrum;
#[cfg(feature = "sets")]
pub mod table;
pub mod tracking;

#[cfg(feature = "sets")]
pub use comparison::INCOMPLETE;
#[cfg(feature = "sets")]
use comparison::*;
