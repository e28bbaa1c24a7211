//! One file for each verb of the command line.

pub(crate) mod calibrate;
pub(crate) mod cmp;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod measure;
pub(crate) mod rank;
pub(crate) mod report;
pub(crate) mod responder;
pub(crate) mod run;
mod slo;
pub(crate) mod trace;
