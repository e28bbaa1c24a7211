//! The outcome of the soak of one server.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::memory::Memory;
use crate::process::Sample;
use crate::tally::{OfBehaviour, Tally};

/// The outcome for one server, as `--json` writes it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The server's name in the catalogue.
    pub server: String,
    /// Whether nothing failed.
    pub passed: bool,
    /// The failures, one line each, beginning with the name of the check.
    pub failures: Vec<String>,
    /// Whether peers may wait in vain for a first byte; absent if that could not be found out.
    pub starves: Option<bool>,
    /// Duration of the mix in seconds.
    pub time_s: f64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) peers: BTreeMap<&'static str, OfBehaviour>,
    pub(crate) memory: Option<Memory>,
    pub(crate) files: Levels,
    pub(crate) threads: Levels,
    /// A sample of the quiet server, after all peers had left.
    pub(crate) quiet: Option<Sample>,
    /// CPU time during the mix in seconds.
    pub(crate) cpu_s: f64,
    pub(crate) stop: Option<Stop>,
    /// The counters that the server printed.
    pub(crate) counters: Option<Value>,
    pub(crate) samples: Vec<At>,
}

/// Levels of something that must return to its first level.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Levels {
    /// Before the first peer.
    pub(crate) before: u64,
    pub(crate) max: u64,
    /// After all peers had left.
    pub(crate) after: u64,
}

/// How the server stopped with peers around it.
#[derive(Debug, Serialize)]
pub(crate) struct Stop {
    /// Seconds from SIGTERM to the end of the process.
    pub(crate) took_s: f64,
    /// How the process ended.
    pub(crate) ended: String,
    /// Final answers that came after the signal.
    pub(crate) answers: u64,
    /// Peers that came after the signal and were not served.
    pub(crate) refused: u64,
}

/// A sample with its time since the mix began.
#[derive(Debug, Serialize)]
pub(crate) struct At {
    pub(crate) s: f64,
    #[serde(flatten)]
    pub(crate) sample: Sample,
}

impl Report {
    /// What the server's peers saw.
    pub(crate) fn take(&mut self, tally: &Tally) {
        self.statuses = tally.statuses.clone();
        self.peers = tally.by_behaviour.clone();
    }

    pub(crate) fn sum(&self, of: impl Fn(&OfBehaviour) -> u64) -> u64 {
        self.peers.values().map(of).sum()
    }

    pub(crate) fn faults(&self) -> u64 {
        self.sum(|of| of.faults.values().map(|faults| faults.count).sum())
    }
}
