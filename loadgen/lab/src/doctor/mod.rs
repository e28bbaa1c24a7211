//! Is this machine fit to measure? What is read and measured of it ([`facts`]) is judged without
//! touching it again ([`judge`]), so that every judgement can be tested on any machine.

pub mod facts;
pub mod judge;

use serde::Serialize;

use engine::affinity::own_cpus;
use facts::Facts;
use subject::machine::{Machine, Pinning};

/// What there is to say about this machine; takes some 0.6 seconds.
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

/// As in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of the program.
    pub version: &'static str,
    /// In one line.
    pub machine: String,
    /// One for each thing that was looked at, always all of them and in the same order.
    pub checks: Vec<Finding>,
}

impl Examination {
    /// How many checks came out so.
    pub fn count(&self, status: Status) -> usize {
        let with_status = self.checks.iter().filter(|check| check.status == status);
        with_status.count()
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub check: &'static str,
    /// How it came out.
    pub status: Status,
    /// What it is here; absent when that cannot be found out.
    pub value: Option<String>,
    /// For a warning, why it matters; for what is unknown, why it is.
    pub why: Option<String>,
    /// For a warning, what to change.
    pub mend: Option<Mend>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to change.
    Ok,
    /// It can spoil a measurement, or keeps something from being measured.
    Warn,
    /// It cannot be found out here.
    Unknown,
}

impl Status {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Unknown => "unknown",
        }
    }
}

/// What to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Mend {
    /// By this command of a shell.
    Command(String),
    /// By other means, said in a sentence.
    Advice(String),
}
