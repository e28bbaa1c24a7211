//! Is this machine fit to measure? The facts are read and measured once ([`facts`]) and then judged
//! without touching the machine ([`judge`]), so every judgement can be tested on any machine.

pub mod facts;
pub mod judge;

use serde::Serialize;

use engine::affinity::own_cpus;
use facts::Facts;
use subject::machine::{Machine, Pinning};

/// Examines this machine; takes some 0.6 seconds.
pub fn examine() -> Examination {
    Examination {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here(own_cpus().len(), Pinning::default()).summary(),
        checks: judge::judge(&Facts::here()),
    }
}

/// Version of the JSON format.
pub const SCHEMA: u32 = 1;

/// The result, in the form of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the program.
    pub version: &'static str,
    /// The machine in one line.
    pub machine: String,
    /// One finding per check: always all checks, in the same order.
    pub checks: Vec<Finding>,
}

impl Examination {
    /// The number of checks with this status.
    pub fn count(&self, status: Status) -> usize {
        let with_status = self.checks.iter().filter(|check| check.status == status);
        with_status.count()
    }
}

/// The finding of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// The status of the check.
    pub status: Status,
    /// The value on this machine; absent if unknown.
    pub value: Option<String>,
    /// For a warning, why it matters; for an unknown value, why it is unknown.
    pub why: Option<String>,
    /// For a warning, what to change.
    pub mend: Option<Mend>,
}

/// The status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to change.
    Ok,
    /// It can spoil a measurement, or prevents part of it.
    Warn,
    /// It cannot be determined here.
    Unknown,
}

impl Status {
    /// The form used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Unknown => "unknown",
        }
    }
}

/// What to change after a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Mend {
    /// A shell command.
    Command(String),
    /// Other advice, as a sentence.
    Advice(String),
}
