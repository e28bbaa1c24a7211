//! The verbs of the command line, one file each.

pub(crate) mod calibrate;
#[cfg(feature = "laboratory")]
pub(crate) mod cmp;
#[cfg(feature = "laboratory")]
pub(crate) mod completions;
#[cfg(feature = "laboratory")]
pub(crate) mod diff;
pub(crate) mod doctor;
#[cfg(feature = "laboratory")]
pub(crate) mod explain;
#[cfg(feature = "laboratory")]
pub(crate) mod measure;
#[cfg(feature = "laboratory")]
pub(crate) mod rank;
#[cfg(feature = "laboratory")]
pub(crate) mod report;
pub(crate) mod responder;
pub(crate) mod run;
mod slo;
#[cfg(feature = "trace")]
pub(crate) mod trace;
