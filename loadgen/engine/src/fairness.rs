//! How evenly a run served its connections.

use serde::Serialize;

use crate::record::Outcome;

/// How evenly the connections were served.
#[derive(Debug, Serialize)]
pub struct Fairness {
    /// Jain's index of the responses per connection: 1 if all connections got the same number, 1/n
    /// if one of n got all (Jain, Chiu and Hawe 1984).
    pub jain: Option<f64>,
    /// Connections without a single response.
    pub connections_never_served: u64,
    /// Age in milliseconds of the oldest unanswered request at the end of the run.
    pub oldest_unanswered_ms: Option<f64>,
    /// Responses per connection; a connection that is opened again keeps its count.
    pub requests_per_connection: Option<Spread>,
}

/// Minimum, median and maximum.
#[derive(Debug, Serialize)]
pub struct Spread {
    /// The minimum.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// The maximum.
    pub max: u64,
}

impl Fairness {
    /// Computes the fairness of a run.
    pub fn of(outcome: &Outcome) -> Self {
        let mut counts = outcome.record.responses_by_connection.clone();
        counts.sort_unstable();
        let sum: f64 = counts.iter().map(|&count| count as f64).sum();
        let squares: f64 = counts.iter().map(|&count| (count as f64).powi(2)).sum();
        let oldest = outcome.record.oldest_unanswered;
        Fairness {
            jain: (squares > 0.0).then(|| sum * sum / (counts.len() as f64 * squares)),
            connections_never_served: counts.iter().filter(|&&count| count == 0).count() as u64,
            oldest_unanswered_ms: oldest.map(|age| age.as_secs_f64() * 1e3),
            requests_per_connection: match counts[..] {
                [min, .., max] => Some((min, max)),
                [only] => Some((only, only)),
                [] => None,
            }
            .map(|(min, max)| Spread {
                min,
                p50: counts[(counts.len() - 1) / 2],
                max,
            }),
        }
    }
}
