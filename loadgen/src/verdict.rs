//! Whether a run's numbers can be believed.

use serde::{Deserialize, Serialize};

use crate::plan::{Limit, Plan};
use crate::record::{Kind, Outcome, Phase};

/// A status, and the reasons for anything but `valid`, in plain words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether to believe.
    pub status: Status,
    /// Why not.
    pub reasons: Vec<String>,
}

/// Whether a run's numbers can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// They say something about the server.
    Valid,
    /// They say something about the generator, which was the bottleneck.
    ClientBound,
    /// They say nothing that can be compared.
    Invalid,
}

impl Status {
    /// What follows from it, for whoever reads the reasons.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Status::ClientBound => Some(
                "The server can do more than this: use more threads, if there are CPUs for them.",
            ),
            Status::Valid | Status::Invalid => None,
        }
    }

    /// As in JSON and CSV.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Valid => "valid",
            Status::ClientBound => "client-bound",
            Status::Invalid => "invalid",
        }
    }
}

/// Share of a thread's time from which on the generator is the bottleneck.
pub(crate) const CLIENT_BUSY_MAX: f64 = 0.95;
/// Share of requests that may fail.
const ERROR_SHARE_MAX: f64 = 0.001;
/// By how much Little's law may be off.
const LITTLE_MAX: f64 = 0.05;

/// Judges the outcome of `plan`.
pub fn judge(plan: &Plan, outcome: &Outcome) -> Verdict {
    let record = &outcome.record;
    let mut reasons = Vec::new();
    if outcome.interrupted {
        reasons.push(format!(
            "interrupted after {:.1} s",
            outcome.duration.as_secs_f64()
        ));
    }
    let refused = record.errors.get(&(Phase::Connect, Kind::Refused));
    match (record.connections_open_max, refused) {
        (0, Some(times)) => reasons.push(format!(
            "nobody listens at {}: connection refused {times} times",
            plan.target
        )),
        _ if record.responses == 0 => reasons.push("no response at all".to_owned()),
        _ => {}
    }
    let errors = record.errors_count();
    let attempts = record.requests.max(errors);
    if record.responses > 0 && errors as f64 > ERROR_SHARE_MAX * attempts as f64 {
        reasons.push(format!("{errors} errors for {} requests", record.requests));
    }
    let by_connection = &record.responses_by_connection;
    let unserved = by_connection
        .iter()
        .filter(|&&responses| responses == 0)
        .count();
    // A run of fewer requests than connections leaves some without one by its own plan.
    if unserved > 0 && record.responses > 0 && record.requests >= by_connection.len() as u64 {
        reasons.push(format!(
            "starved: {unserved} of {} connections were never served",
            by_connection.len()
        ));
    } else if let Limit::For(_) = plan.limit
        && record.responses > 0
    {
        // Little's law: requests in flight = throughput x mean time in flight. Those that were in
        // flight at either end of the run are missing in it, for the longest response at the most.
        let duration_ns = outcome.duration.as_secs_f64() * 1e9;
        let asked = (plan.connections * plan.pipeline) as f64;
        let in_flight = record.busy_ns as f64 / duration_ns;
        let at_the_ends = 2.0 * record.response.max() as f64 / duration_ns;
        if (in_flight / asked - 1.0).abs() > LITTLE_MAX + at_the_ends {
            reasons.push(format!(
                "Little's law is off: {in_flight:.1} requests were in flight on average, \
                 {asked} should have been"
            ));
        }
    }
    if !reasons.is_empty() {
        return Verdict {
            status: Status::Invalid,
            reasons,
        };
    }
    let busy = outcome.client.busiest_thread;
    if busy > CLIENT_BUSY_MAX {
        return Verdict {
            status: Status::ClientBound,
            reasons: vec![format!(
                "the generator's busiest thread was busy {:.0}% of the time",
                busy * 100.0
            )],
        };
    }
    Verdict {
        status: Status::Valid,
        reasons,
    }
}
