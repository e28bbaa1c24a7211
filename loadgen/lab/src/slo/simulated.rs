//! A simulated server with a known capacity and a simulated generator: outcomes for tests.

use std::convert::Infallible;
use std::time::Duration;

use super::{Report, Search, Slo};
use engine::plan::{Limit, Pace, Plan};
use engine::record::{ClientCost, Kind, Outcome, Phase, Record};

/// A server with a queue and random service times (M/M/1): response times follow an exponential
/// distribution with mean `1 / (capacity - rate)`. Above its capacity the queue grows.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// What the server can serve per second.
    pub capacity_per_s: f64,
    /// What the generator can send per second.
    pub generator_per_s: f64,
    /// The runs, counted from 0, in which the machine stalls for 50 ms.
    pub stalled: Vec<usize>,
    /// Errors per request.
    pub errors: f64,
}

impl Default for Simulated {
    fn default() -> Self {
        Simulated {
            capacity_per_s: 42_000.0,
            generator_per_s: 1e12,
            stalled: Vec::new(),
            errors: 0.0,
        }
    }
}

/// The number of response times that represent a run.
const SAMPLES: u32 = 5_000;
/// The generator's own lag while it keeps up.
const LAG_OWN_S: f64 = 20e-6;

impl Simulated {
    /// The rate at which a share `q` of the response times is below `limit_s`.
    pub fn truth_per_s(&self, q: f64, limit_s: f64) -> f64 {
        self.capacity_per_s + (1.0 - q).ln() / (limit_s - LAG_OWN_S)
    }

    /// The outcome of the search's run number `index`.
    pub fn drive(&self, index: usize, plan: &Plan) -> Outcome {
        let Limit::For(duration) = plan.limit else {
            panic!("steps have a duration: {plan:?}");
        };
        let seconds = duration.as_secs_f64();
        let rate = plan.pace.rate().expect("steps are open loops").per_s();
        let offered = rate.min(self.generator_per_s);
        let due = rate * seconds;
        let weight = (due / f64::from(SAMPLES)).ceil() as u64;
        let mut record = Record::new(plan.connections);
        for sample in 0..SAMPLES {
            let q = (f64::from(sample) + 0.5) / f64::from(SAMPLES);
            // How much of the run is late at its end, because of the generator and of the server.
            let lag_own = LAG_OWN_S + q * seconds * (rate / self.generator_per_s - 1.0).max(0.0);
            let queue = q * seconds * (offered / self.capacity_per_s - 1.0).max(0.0);
            // A queue without growth wanders no farther than this within a run.
            let least_per_s = (self.capacity_per_s / seconds).sqrt();
            let spare_per_s = (self.capacity_per_s - offered).max(least_per_s);
            let wait = queue - (1.0 - q).ln() / spare_per_s;
            let stall = match self.stalled.contains(&index) {
                true => 0.05 * f64::from(sample.is_multiple_of(20)),
                false => 0.0,
            };
            for (histogram, s) in [
                (&mut record.response, lag_own + wait + stall),
                (&mut record.lag, lag_own + queue),
                (&mut record.lag_own, lag_own),
            ] {
                histogram.saturating_record_n((s * 1e9) as u64, weight);
            }
        }
        let sent = offered.min(self.capacity_per_s) * seconds;
        record.counts.due = due as u64;
        record.counts.sent_in_time = sent as u64;
        record.counts.requests = sent as u64;
        record.counts.unsent = record.counts.due - record.counts.sent_in_time;
        record.counts.responses = sent as u64;
        record.counts.responses_in_time = sent as u64;
        record.counts.answered_in_window = sent as u64;
        record.counts.connections_open_max = plan.connections as u64;
        record.responses_by_connection.fill(1);
        let errors = (sent * self.errors).ceil() as u64;
        record.errors(Phase::Body, Kind::BadStatus, errors);
        Outcome {
            record,
            duration,
            interrupted: false,
            idle: None,
            client: ClientCost::default(),
            steal: None,
        }
    }

    /// Runs the whole search against this server.
    pub fn run(&self, search: &Search) -> Report<()> {
        let mut index = 0;
        let report = search.run(
            |plan| {
                let outcome = self.drive(index, plan);
                index += 1;
                Ok::<_, Infallible>((outcome, ()))
            },
            |_| Ok(()),
        );
        report.unwrap()
    }
}

/// A search for `slo` with 64 connections, confirmed over 10 s.
pub fn search(slo: &str) -> Search {
    let plan = Plan {
        limit: Limit::For(Duration::from_secs(10)),
        ..Plan::new(
            ([127, 0, 0, 1], 8000).into(),
            b"GET / HTTP/1.1\r\n".to_vec(),
        )
    };
    let slo: Slo = slo.parse().unwrap();
    Search::new(slo, plan, Pace::Constant, None, super::PRECISION).unwrap()
}
