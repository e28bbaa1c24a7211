//! Invented results for tests, always with the same numbers.

#![expect(missing_docs, reason = "names say what each is")]

mod ladder;

use std::time::Duration;

pub use ladder::ladder;

use crate::compare::Evidence;
use crate::run::Run;
use crate::set::{Cell, Key};
use engine::plan::{Close, ConnectionLife, Limit, Pace, Plan, Rate};
use engine::record::{ClientCost, Kind, Outcome, Phase, Record, record_ns};
use engine::verdict::{Status, Verdict};
use subject::catalogue::Workload;
use subject::machine::{Build, Machine, Pinning};
use subject::process::ServerCost;

/// A valid cell with this CPU time per request in microseconds; the other figures are derived from
/// it.
pub fn cell(server: &str, workload: &str, round: u32, cpu_us: f64) -> Cell {
    let key = Key {
        server: server.to_owned(),
        workload: workload.to_owned(),
        round,
    };
    Cell {
        verdict: Some(Status::Valid),
        requests_per_s: Some(1e6 / cpu_us),
        response_us_p50: Some(60.0 * cpu_us),
        response_us_p99: Some(200.0 * cpu_us),
        server_cpu_us_per_request: Some(cpu_us),
        ..Cell::empty(&key, "2025-01-02T03:04:05Z".to_owned())
    }
}

pub fn workload(name: &str) -> Workload {
    Workload {
        name: name.to_owned(),
        connections: 64,
        idle: 0,
        requests_per_connection: 0,
        pipeline: 1,
        pace: Pace::Closed,
        duration: Duration::from_secs(2),
        warmup: Duration::from_millis(250),
        groups: Vec::new(),
        analysis: format!("What {name} shows."),
    }
}

pub fn evidence(servers: &[&str], workloads: &[&str], cells: Vec<Cell>) -> Evidence {
    Evidence {
        sets: vec!["2025-01-02.1".to_owned()],
        commands: vec!["loadgen measure --seed 7".to_owned()],
        started: "2025-01-02T03:04:05Z".to_owned(),
        servers: servers.iter().map(|&name| name.to_owned()).collect(),
        workloads: workloads.iter().map(|name| workload(name)).collect(),
        rounds: cells.iter().map(|cell| cell.round).max().unwrap_or(0),
        cells,
        missing: 0,
        machine: Machine {
            cpu_model: Some("A CPU".to_owned()),
            cpus: 2,
            kernel: Some("Linux 6.18 x86_64".to_owned()),
            hypervisor: Some("KVM".to_owned()),
            steal_percent: Some(0.25),
            pinning: Pinning {
                server: vec![0],
                client: vec![1],
            },
            ..Machine::default()
        },
        build: Build {
            revision: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            dirty: Some(false),
            rustc: Some("rustc 1.88.0".to_owned()),
            profile: "release".to_owned(),
            ..Build::default()
        },
        server_args: Vec::new(),
        floor: None,
        references: Vec::new(),
        server_groups: Default::default(),
        ledger: Vec::new(),
        logs: Vec::new(),
        remarks: Vec::new(),
    }
}

/// The servers and workloads of the repository, with one fault of every kind.
pub fn five_servers() -> Evidence {
    let servers = [
        ("iterative", 7.5),
        ("thread-per-connection", 12.5),
        ("thread-pool", 9.25),
        ("event-loop", 7.8),
        ("async-tasks", 8.9),
    ];
    let workloads = [
        ("keep-alive", 1.0),
        ("ten-requests", 2.2),
        ("new-connection", 5.5),
        ("pipelined", 0.2),
    ];
    let mut cells = Vec::new();
    for round in 1..=5 {
        for (server, cost) in servers {
            for (workload, factor) in workloads {
                let drift = 1.0 + 0.01 * f64::from((round * 7 + server.len() as u32) % 5);
                let mut cell = cell(server, workload, round, cost * factor * drift);
                match (server, workload, round) {
                    ("iterative" | "thread-pool", "keep-alive", _) => {
                        let served = if server == "iterative" { 1 } else { 2 };
                        let starved = 64 - served;
                        cell.verdict = Some(Status::Invalid);
                        cell.reasons = Some(format!(
                            "starved: {starved} of 64 connections were never served"
                        ));
                    }
                    ("async-tasks", "pipelined", 2) => {
                        cell.verdict = Some(Status::ClientBound);
                        cell.reasons =
                            Some("the generator's busiest thread was busy 97%".to_owned());
                    }
                    ("event-loop" | "async-tasks", "new-connection", _) if round > 1 => {
                        cell.verdict = Some(Status::ClientBound);
                        cell.reasons =
                            Some("the generator's busiest thread was busy 98%".to_owned());
                    }
                    ("thread-per-connection", "pipelined", _) => {
                        let error = "starting thread-per-connection: it exited with status 1";
                        cell = Cell::failed(&cell.key(), cell.started, error);
                    }
                    ("thread-pool", "pipelined", _) => cell.response_us_p99 = None,
                    _ => {}
                }
                cells.push(cell);
            }
        }
    }
    let servers = servers.map(|(name, _)| name);
    let workloads = workloads.map(|(name, _)| name);
    evidence(&servers, &workloads, cells)
}

/// The five servers with the floor, and a workload in open loop.
pub fn with_floor() -> Evidence {
    let mut evidence = five_servers();
    for round in 1..=5 {
        for workload in ["keep-alive", "ten-requests", "new-connection"] {
            evidence.cells.push(cell(
                "floor",
                workload,
                round,
                6.0 + f64::from(round) / 50.0,
            ));
        }
    }
    evidence.servers.push("floor".to_owned());
    evidence.floor = Some("floor".to_owned());
    evidence.workloads[1].pace = "constant:5000/s".parse().expect("a pace");
    evidence
}

/// More servers than can stand side by side, with the floor and a reference, from the cheapest to the dearest in no
/// workload the same. Under the last workload the generator is the bottleneck for all.
pub fn many_servers() -> Evidence {
    let servers = [
        "iterative",
        "fork-per-connection",
        "prefork",
        "thread-per-connection",
        "prethreaded",
        "thread-pool",
        "bounded-queue",
        "parking-pool",
        "poll-loop",
        "level-loop",
        "event-loop",
        "acceptor-loops",
        "shared-loops",
        "reuseport-loops",
        "io-uring",
        "async-tasks",
        "async-per-core",
        "coroutines",
        "completion-tasks",
        "hyper",
        "nginx",
        "floor",
    ];
    let workloads = [
        "keep-alive-1",
        "keep-alive-16",
        "keep-alive",
        "ten-requests",
        "new-connection",
        "open-5k",
        "pipelined",
        "limited-by-generator",
    ];
    let mut cells = Vec::new();
    for round in 1..=5 {
        for (at, server) in (0_u32..).zip(servers) {
            for (load, workload) in (1_u32..).zip(workloads) {
                let place = match server {
                    "floor" => 0,
                    // Another one leads in each workload.
                    _ => 1 + (at * 5 + load) % 21,
                };
                let noise = 0.01 * f64::from((round * 7 + at * 3 + load) % 5);
                let cpu_us = 3.0 * f64::from(load) * (1.0 + 0.06 * f64::from(place) + noise);
                let mut cell = cell(server, workload, round, cpu_us);
                match (server, workload) {
                    ("iterative", "keep-alive") => {
                        cell.verdict = Some(Status::Invalid);
                        let reason = "starved: 63 of 64 connections were never served";
                        cell.reasons = Some(reason.to_owned());
                    }
                    (_, "limited-by-generator") => {
                        cell.verdict = Some(Status::ClientBound);
                        let reason = "the generator's busiest thread was busy 98%";
                        cell.reasons = Some(reason.to_owned());
                    }
                    _ => {}
                }
                cells.push(cell);
            }
        }
    }
    let mut evidence = evidence(&servers, &workloads, cells);
    evidence.floor = Some("floor".to_owned());
    evidence.references = vec!["nginx".to_owned()];
    evidence.workloads[5].pace = "constant:5000/s".parse().expect("a pace");
    evidence
}

/// An invented run.
pub struct Example {
    pub urls: Vec<String>,
    pub server: Option<String>,
    pub server_args: Vec<String>,
    pub plan: Plan,
    pub outcome: Outcome,
    pub verdict: Verdict,
    pub cost: Option<ServerCost>,
}

impl Example {
    pub fn run(&self) -> Run<'_> {
        Run {
            urls: &self.urls,
            server: self.server.as_deref(),
            server_args: &self.server_args,
            plan: &self.plan,
            outcome: &self.outcome,
            verdict: &self.verdict,
            server_cost: self.cost.as_ref(),
            calibration: None,
        }
    }

    /// A foreign server that does not answer.
    pub fn unanswered() -> Self {
        let address = "127.0.0.1:8000".parse().expect("an address");
        let mut record = Record::new(64);
        record.errors(Phase::Connect, Kind::Refused, 3_840);
        Example {
            urls: vec!["http://127.0.0.1:8000/".to_owned()],
            server: None,
            server_args: Vec::new(),
            plan: Plan::new(address, Vec::new()),
            outcome: Outcome {
                record,
                duration: Duration::from_secs(10),
                interrupted: false,
                idle: None,
                client: ClientCost {
                    cpu_user_s: 0.2,
                    cpu_system_s: 0.3,
                    busiest_thread: Some(0.05),
                    ..ClientCost::default()
                },
                steal: None,
            },
            verdict: Verdict {
                status: Status::Invalid,
                reasons: vec![
                    "nobody listens at 127.0.0.1:8000: connection refused 3840 times".to_owned(),
                ],
                advice: vec!["start the server, or give the URL it listens at".to_owned()],
                notes: Vec::new(),
            },
            cost: None,
        }
    }

    /// A server of the catalogue without faults, in closed loop.
    pub fn closed() -> Self {
        let mut example = Example {
            server: Some("event-loop".to_owned()),
            cost: Some(ServerCost {
                cpu_user_s: 2.2,
                cpu_system_s: 6.1,
                context_switches: Some(1_200),
                threads_max: 1,
                rss_bytes_max: 5_400_000,
                ..ServerCost::default()
            }),
            ..Example::unanswered()
        };
        let record = &mut example.outcome.record;
        *record = Record::new(64);
        let mut random = fastrand::Rng::with_seed(1);
        let mut queue = 0.0;
        for index in 0..1_000_000_usize {
            queue = 0.7 * queue + 0.7 * normal(&mut random);
            let ns = (600e3 * (0.25 * queue).exp()) as u64;
            answered(record, ns, ns);
            record.responses_by_connection[index % 64] += 1;
        }
        record.counts.warmup_requests = 98_433;
        record.counts.connections_opened = 64;
        record.counts.connections_open_max = 64;
        record.counts.bytes_received = 114 * 1_000_000;
        for index in 0..64 {
            record_ns(&mut record.connect, 90_000 + 1_500 * index);
        }
        example.outcome.client.cpu_system_s = 6.4;
        example.outcome.client.busiest_thread = Some(0.66);
        example.outcome.steal = Some(0.0002);
        example.verdict = Verdict {
            status: Status::Valid,
            reasons: Vec::new(),
            advice: Vec::new(),
            notes: Vec::new(),
        };
        example
    }

    /// The closed-loop run with a new connection for every request, closed by resets.
    pub fn new_connections() -> Self {
        let mut example = Example::closed();
        example.plan.life = ConnectionLife::Requests(1);
        example.plan.close = Close::Rst;
        let record = &mut example.outcome.record;
        record.counts.connections_opened = 1_098_433;
        record.counts.connections_in_time = 1_000_000;
        example
    }

    /// Random arrivals at two paths of a server that stalls now and then, so that requests queue.
    pub fn open_with_faults() -> Self {
        let mut example = Example::unanswered();
        let rate = Rate::per_second(5_000.0).expect("a rate");
        example.urls.push("http://127.0.0.1:8000/b".to_owned());
        example.plan.pace = Pace::Poisson(rate);
        example.plan.seed = 3_141_592;
        example.plan.threads = 2;
        example.plan.limit = Limit::For(Duration::from_secs(10));
        let record = &mut example.outcome.record;
        *record = Record::new(41);
        let mut random = fastrand::Rng::with_seed(2);
        for index in 0..50_000_usize {
            let service = (220e3 * (0.3 * normal(&mut random)).exp()) as u64;
            let own = random.u64(2_000..9_000);
            // A stall of 60 ms each second.
            let waited = match index % 5_000 {
                at @ ..300 => (300 - at as u64) * 200_000,
                _ => 0,
            };
            answered(record, waited + own + service, service);
            record_ns(&mut record.lag, waited + own);
            record_ns(&mut record.lag_own, own);
            record.responses_by_connection[random.usize(0..41)] += 1;
        }
        record.counts.due = 50_030;
        record.counts.requests = 50_018;
        record.counts.in_flight_at_end = 6;
        record.counts.unsent = 12;
        record.counts.lower_bounds = 18;
        record.response.saturating_record_n(1_000_000_000, 18);
        record.service.saturating_record_n(1_000_000_000, 6);
        record.counts.good = 49_940;
        record.errors(Phase::FirstByte, Kind::Timeout, 12);
        record.errors(Phase::Body, Kind::BadStatus, 48);
        record.status.insert(200, 49_952);
        record.status.insert(503, 48);
        record.counts.warmup_requests = 5_031;
        record.counts.connections_opened = 53;
        record.counts.connections_open_max = 41;
        record.counts.bytes_received = 5_702_736;
        for index in 0..41 {
            record_ns(&mut record.connect, 90_000 + 1_500 * index);
        }
        example.outcome.client.spin_s = 0.12;
        example.outcome.steal = Some(0.031);
        example.verdict = Verdict {
            status: Status::Invalid,
            reasons: vec![
                "60 errors for 50018 requests".to_owned(),
                "12 of 50030 requests that were due were never sent, as all 64 connections were busy"
                    .to_owned(),
            ],
            advice: vec![
                "look at the server's log for the time of the run".to_owned(),
                "offer less (--rate), or allow more connections (-c)".to_owned(),
            ],
            notes: vec![
                "3.1% of CPU time was stolen by other guests of the host; expect long tails".to_owned(),
            ],
        };
        example
    }
}

fn answered(record: &mut Record, response_ns: u64, service_ns: u64) {
    record.counts.requests += 1;
    record.counts.responses += 1;
    record.counts.responses_in_time += 1;
    record.counts.answered_in_window += 1;
    record.counts.good += 1;
    *record.status.entry(200).or_default() += 1;
    record_ns(&mut record.response, response_ns);
    record_ns(&mut record.service, service_ns);
    record_ns(&mut record.first_byte, service_ns - service_ns / 50);
    record.serial.push(response_ns as f64);
}

/// An approximately normal value, as a sum of twelve uniform ones.
fn normal(random: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}
