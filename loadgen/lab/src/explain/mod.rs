//! What a request should cost, added up from the operations and their costs on this machine, and
//! compared with the measured cost. Pure functions.
//!
//! A [`ledger`](crate::set::ledger_rows) says how often a server performed each operation per request,
//! and [`crate::primitives`] what one of each costs: together they form the [`prediction`](model)
//! of the kernel's share. No price list contains the server's own code, so its time is taken from
//! the measurement; every item says which of the two it is. The rest is the residual, which is as
//! much a part of the result as the items.

#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod model;
pub mod words;

use serde::{Deserialize, Serialize};

pub use model::{Item, Source, What};

use crate::compare::Evidence;
use crate::estimate::median;
use crate::primitives::Primitives;
use crate::set::Cell;
use crate::set::ledger_rows::{Pass, Row};
use engine::verdict::Status;
use model::Load;
use subject::machine::Pinning;

/// Version of the JSON; it grows when a key changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// A residual above this share of the measured cost is pointed out.
pub const AIM: f64 = 0.2;

/// The explanation of sets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Names of the sets.
    pub sets: Vec<String>,
    /// Measured over predicted cost of the floor, without its own code, the median over workloads:
    /// how much more expensive everything was when the set was measured than when the primitives
    /// were. Absent without a floor.
    pub floor_ratio: Option<f64>,
    /// The workloads, in the order of the sets.
    pub workloads: Vec<Workload>,
    /// Servers under workloads without a ledger or a measurement.
    pub left_out: Vec<LeftOut>,
    /// The prices behind the sums.
    pub primitives: Primitives,
}

/// All servers under one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Name of the workload.
    pub workload: String,
    /// The servers, in the order of the sets.
    pub servers: Vec<Server>,
    /// Each server compared with the cheapest one, in words.
    pub comparisons: Vec<String>,
}

/// One server under one workload. Times are CPU microseconds per request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Name of the server.
    pub server: String,
    /// Whether it is the floor.
    pub is_floor: bool,
    /// The worst verdict of its rounds.
    pub status: Status,
    /// The median over rounds.
    pub measured_us: f64,
    /// The sum of the items.
    pub predicted_us: f64,
    /// The measured cost that is not predicted.
    pub residual_us: f64,
    /// The residual as a share of the measured cost.
    pub residual: f64,
    /// The residual as a share of the measured cost, with all prices scaled by the floor's ratio.
    pub residual_scaled: Option<f64>,
    /// The items of the sum, the most expensive first.
    pub items: Vec<Item>,
}

impl Server {
    /// The part of the sum that was measured in the set, and so has no price that may have drifted.
    fn taken_us(&self) -> f64 {
        let taken = self
            .items
            .iter()
            .filter(|item| item.source == Source::Taken);
        taken.map(|item| item.us).sum()
    }
}

/// A cell that cannot be explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Name of the server.
    pub server: String,
    /// Name of the workload.
    pub workload: String,
    /// The reason.
    pub reason: String,
}

/// Explains every cell that `chosen` selects by server and workload.
pub fn explain(
    evidence: &Evidence,
    primitives: Primitives,
    chosen: impl Fn(&str, &str) -> bool,
) -> Explanation {
    let mut left_out = Vec::new();
    let mut workloads = Vec::new();
    for workload in evidence.workloads.iter().map(|workload| &workload.name) {
        let mut servers = Vec::new();
        for server in evidence.servers.iter().filter(|it| chosen(it, workload)) {
            match explained(evidence, &primitives, server, workload) {
                Ok(explained) => servers.push(explained),
                Err(reason) => left_out.push(LeftOut {
                    server: server.clone(),
                    workload: workload.clone(),
                    reason,
                }),
            }
        }
        if !servers.is_empty() {
            workloads.push(Workload {
                workload: workload.clone(),
                servers,
                comparisons: Vec::new(),
            });
        }
    }
    let floors = workloads.iter().flat_map(|it| &it.servers);
    let floors = floors.filter(|server| server.is_floor);
    let ratio = |floor: &Server| {
        let taken_us = floor.taken_us();
        (floor.measured_us - taken_us) / (floor.predicted_us - taken_us)
    };
    let mut ratios: Vec<f64> = floors.map(ratio).filter(|it| it.is_finite()).collect();
    let floor_ratio = (!ratios.is_empty()).then(|| median(&mut ratios));
    for workload in &mut workloads {
        for server in &mut workload.servers {
            let taken_us = server.taken_us();
            let priced_us = server.predicted_us - taken_us;
            let share = |ratio: f64| 1.0 - (taken_us + ratio * priced_us) / server.measured_us;
            server.residual_scaled = floor_ratio.map(share);
        }
        workload.comparisons = words::comparisons(workload);
    }
    Explanation {
        schema: SCHEMA,
        sets: evidence.sets.clone(),
        floor_ratio,
        workloads,
        left_out,
        primitives,
    }
}

fn explained(
    evidence: &Evidence,
    primitives: &Primitives,
    server: &str,
    workload: &str,
) -> Result<Server, String> {
    let is_it = |cell: &&Cell| cell.server == server && cell.workload == workload;
    let cells: Vec<&Cell> = evidence.cells.iter().filter(is_it).collect();
    let measured = Measured::of(&cells).ok_or("no round has measured its CPU time")?;
    let pass = Pass::of(&evidence.ledger, server, workload);
    let pass = pass.ok_or_else(|| not_counted(evidence, server, workload))?;
    let load = measured.load(&pass, &evidence.machine.pinning);
    let items = model::items(&pass, &load, primitives);
    let predicted_us: f64 = items.iter().map(|item| item.us).sum();
    let residual_us = measured.cpu_us - predicted_us;
    Ok(Server {
        server: server.to_owned(),
        is_floor: evidence.is_floor(server),
        status: measured.status,
        measured_us: measured.cpu_us,
        predicted_us,
        residual_us,
        residual: residual_us / measured.cpu_us,
        residual_scaled: None,
        items,
    })
}

/// Why a cell has no ledger.
fn not_counted(evidence: &Evidence, server: &str, workload: &str) -> String {
    let is_it = |row: &&Row| row.server == server && row.workload == workload;
    let row = evidence.ledger.iter().find(is_it);
    match row.and_then(|row| row.error.as_deref()) {
        Some(error) => format!("no system calls were counted: {error}"),
        None => "no system calls were counted".to_owned(),
    }
}

/// What the timed rounds add to the ledger.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    status: Status,
    cpu_us: f64,
    user_us: f64,
    bytes: f64,
    client_sleeps: f64,
    /// Context switches, if known: the kernel forgets those of ended threads.
    switches: Option<f64>,
    threads: u64,
}

impl Measured {
    /// Rounds that are not valid count too: starved connections do not make the cost of the served
    /// requests wrong.
    fn of(cells: &[&Cell]) -> Option<Self> {
        let per_request = |fact: fn(&Cell) -> Option<f64>| {
            let value = |cell: &&Cell| Some(fact(cell)? / cell.responses? as f64);
            let mut values: Vec<f64> = cells.iter().filter_map(value).collect();
            (!values.is_empty()).then(|| median(&mut values))
        };
        let cpu_us = |cell: &&Cell| cell.server_cpu_us_per_request;
        let mut cpu_us: Vec<f64> = cells.iter().filter_map(cpu_us).collect();
        if cpu_us.is_empty() {
            return None;
        }
        // Ticks are few, so all rounds are added up instead of taking a median.
        let sum =
            |fact: fn(&Cell) -> Option<f64>| cells.iter().filter_map(|it| fact(it)).sum::<f64>();
        let user_s = sum(|cell| cell.server_cpu_user_s);
        let responses = sum(|cell| cell.responses.map(|count| count as f64));
        let badness = |status: &Status| match status {
            Status::Valid => 0,
            Status::ClientBound => 1,
            Status::Invalid => 2,
        };
        let statuses = cells.iter().filter_map(|cell| cell.verdict);
        let threads = cells.iter().filter_map(|cell| cell.server_threads_max);
        Some(Measured {
            status: statuses.max_by_key(badness)?,
            cpu_us: median(&mut cpu_us),
            user_us: user_s * 1e6 / responses,
            bytes: per_request(|cell| cell.bytes_received.map(|count| count as f64))?,
            client_sleeps: per_request(|cell| {
                cell.client_context_switches.map(|count| count as f64)
            })?,
            switches: per_request(|cell| cell.server_context_switches.map(|count| count as f64)),
            threads: threads.max().unwrap_or(1),
        })
    }

    fn load(&self, pass: &Pass, pinning: &Pinning) -> Load {
        Load {
            connections: pass.per_request(pass.connections),
            answer_bytes: self.bytes,
            client_sleeps: self.client_sleeps,
            switches: self.switches,
            serves_alone: self.threads <= SERVES_AND_HEARS_SIGNALS,
            server_cpus: pinning.server.len(),
            user_us: self.user_us,
        }
    }
}

/// The number of threads of a server with a single serving thread: the other one waits for signals.
const SERVES_AND_HEARS_SIGNALS: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Explanation {
        explain(&fixture::evidence(), fixture::primitives(), |_, _| true)
    }

    #[test]
    fn everything_sums_up() {
        for workload in all().workloads {
            for server in workload.servers {
                let sum: f64 = server.items.iter().map(|item| item.us).sum();
                assert!(
                    (sum - server.predicted_us).abs() < 1e-9,
                    "{}",
                    server.server
                );
                let whole = server.predicted_us + server.residual_us;
                assert!(
                    (whole - server.measured_us).abs() < 1e-9,
                    "{}",
                    server.server
                );
                for item in &server.items {
                    let product = item.per_request * item.each_us;
                    assert!((product - item.us).abs() < 1e-9, "{item:?}");
                }
            }
        }
    }

    #[test]
    fn a_cell_without_a_ledger_is_left_out() {
        let left_out = all().left_out;
        let reason = |server: &str, workload: &str| {
            let is_it = |it: &&LeftOut| it.server == server && it.workload == workload;
            left_out.iter().find(is_it).map(|it| &*it.reason)
        };
        let (nothing, no_round) = (
            "no system calls were counted",
            "no round has measured its CPU time",
        );
        assert_eq!(reason("iterative", "new-connection"), Some(nothing));
        assert_eq!(reason("floor", "new-connection"), Some(no_round));
        assert_eq!(left_out.len(), 2);
    }

    #[test]
    fn why_nothing_was_counted_is_told() {
        let mut evidence = fixture::evidence();
        let mut row = evidence.ledger[0].clone();
        row.server = "iterative".to_owned();
        row.workload = "new-connection".to_owned();
        row.error = Some("starved".to_owned());
        evidence.ledger.push(row);
        let explanation = explain(&evidence, fixture::primitives(), |_, _| true);
        let reasons: Vec<&str> = explanation.left_out.iter().map(|it| &*it.reason).collect();
        assert!(
            reasons.contains(&"no system calls were counted: starved"),
            "{reasons:?}"
        );
    }

    /// A set measured when everything cost a tenth more has residuals that the floor's ratio
    /// removes.
    #[test]
    fn the_floor_takes_out_a_drift() {
        let mut evidence = fixture::evidence();
        for server in all().workloads.iter().flat_map(|it| &it.servers) {
            for cell in &mut evidence.cells {
                if cell.server == server.server && server.is_floor {
                    let taken_us = server.taken_us();
                    let priced_us = server.predicted_us - taken_us;
                    cell.server_cpu_us_per_request = Some(taken_us + priced_us * 1.1);
                }
            }
        }
        let explanation = explain(&evidence, fixture::primitives(), |_, _| true);
        assert!((explanation.floor_ratio.unwrap() - 1.1).abs() < 1e-9);
        let floor = &explanation.workloads[0].servers[0];
        let priced_us = floor.predicted_us - floor.taken_us();
        assert!((floor.residual_us - 0.1 * priced_us).abs() < 1e-9);
        assert!(floor.residual_scaled.unwrap().abs() < 1e-9);
        evidence.floor = None;
        let explanation = explain(&evidence, fixture::primitives(), |_, _| true);
        assert_eq!(explanation.floor_ratio, None);
        assert_eq!(explanation.workloads[0].servers[0].residual_scaled, None);
    }

    #[test]
    fn only_what_is_chosen_is_explained() {
        let is_chosen =
            |server: &str, workload: &str| server == "event-loop" && workload == "new-connection";
        let explanation = explain(&fixture::evidence(), fixture::primitives(), is_chosen);
        let workloads = explanation.workloads;
        assert_eq!(workloads.len(), 1);
        assert_eq!(workloads[0].servers.len(), 1);
        assert_eq!(explanation.left_out, []);
    }
}
