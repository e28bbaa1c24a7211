//! A set with a ledger, and a price list with round figures.

use crate::compare::Evidence;
use crate::primitives::{ALL, Cost, Primitive, Primitives, SCHEMA};
use crate::set::ledger_rows::Row;
use crate::set::{Cell, Key};
use engine::plan::Pace;
use engine::verdict::Status;
use subject::catalogue::Workload;
use subject::ledger::Kind;
use subject::machine::{Build, Machine, Pinning};

/// The price list.
pub fn primitives() -> Primitives {
    let us = |primitive| match primitive {
        Primitive::BareCall => 0.1,
        Primitive::Yield => 0.2,
        Primitive::PageFault => 1.5,
        Primitive::Receive | Primitive::ReceiveEnd => 0.8,
        Primitive::ReceiveKib => 0.1,
        Primitive::Send => 2.4,
        Primitive::SendKib => 0.2,
        Primitive::WakePeer => 14.0,
        Primitive::EpollWait => 0.6,
        Primitive::EpollEvent => 0.4,
        Primitive::EpollAdd => 0.6,
        Primitive::EpollRemove => 0.5,
        Primitive::WakerWrite => 0.2,
        Primitive::SwitchIdle => 22.0,
        Primitive::Switch => 10.0,
        Primitive::FutexWake => 1.0,
        Primitive::FutexWakeRemote => 13.0,
        Primitive::FutexWait => 6.0,
        Primitive::Thread => 9.0,
        Primitive::Accept => 1.7,
        Primitive::AcceptNothing => 1.2,
        Primitive::FirstExchange => 1.0,
        Primitive::Close => 5.7,
        Primitive::Shutdown => 1.9,
        Primitive::SetOption => 0.15,
    };
    let cost = |primitive| {
        let us = us(primitive);
        let cost = Cost {
            us,
            us_p25: us * 0.9,
            us_p75: us * 1.2,
            samples: 60,
        };
        (primitive, cost)
    };
    Primitives {
        schema: SCHEMA,
        started: "2025-01-02T04:05:06Z".to_owned(),
        machine: machine(),
        costs: ALL.into_iter().map(cost).collect(),
    }
}

fn machine() -> Machine {
    Machine {
        pinning: Pinning {
            server: vec![0],
            client: vec![1],
        },
        ..Machine::default()
    }
}

/// A server under a workload: CPU time, that of its own code, how often the generator slept,
/// threads, verdict, and its counts for 1,000 requests.
struct Facts {
    server: &'static str,
    workload: &'static str,
    cpu_us: f64,
    user_us: f64,
    client_sleeps: f64,
    threads: u64,
    status: Status,
    connections: u64,
    counts: &'static [(&'static str, u64)],
}

/// Two workloads; one server has no ledger in one of them.
pub fn evidence() -> Evidence {
    let facts = facts();
    let workload = |name: &str, requests_per_connection| Workload {
        name: name.to_owned(),
        groups: Vec::new(),
        connections: 64,
        idle: 0,
        requests_per_connection,
        pipeline: 1,
        pace: Pace::Closed,
        duration: std::time::Duration::from_secs(1),
        warmup: std::time::Duration::ZERO,
        analysis: String::new(),
    };
    let servers = ["floor", "event-loop", "thread-per-connection", "iterative"];
    Evidence {
        sets: vec!["2025-01-02.1".to_owned()],
        commands: vec!["loadgen measure --seed 7".to_owned()],
        started: "2025-01-02T03:04:05Z".to_owned(),
        servers: servers.map(str::to_owned).to_vec(),
        workloads: vec![workload("keep-alive", 0), workload("new-connection", 1)],
        rounds: 1,
        cells: facts.iter().map(cell).collect(),
        missing: 0,
        machine: machine(),
        build: Build::default(),
        server_args: Vec::new(),
        floor: Some("floor".to_owned()),
        references: Vec::new(),
        server_groups: Default::default(),
        ledger: facts.iter().flat_map(rows).collect(),
        logs: Vec::new(),
        remarks: Vec::new(),
    }
}

fn facts() -> Vec<Facts> {
    let threads_calls: &[(&str, u64)] = &[
        ("recvfrom", 2000),
        ("sendto", 1000),
        ("accept4", 1000),
        ("close", 1000),
        ("clone3", 1000),
        ("rt_sigprocmask", 4000),
        ("mmap", 1000),
        ("context-switches", 1300),
        ("page-faults", 100),
    ];
    let row = |server, workload, cpu_us, user_us, client_sleeps, threads| Facts {
        server,
        workload,
        cpu_us,
        user_us,
        client_sleeps,
        threads,
        status: Status::Valid,
        connections: if workload == "keep-alive" { 0 } else { 1000 },
        counts: &[],
    };
    vec![
        Facts {
            counts: &[("recvfrom", 1000), ("sendto", 1000), ("epoll_wait", 60)],
            ..row("floor", "keep-alive", 3.9, 0.1, 0.01, 2)
        },
        Facts {
            counts: &[
                ("recvfrom", 1000),
                ("sendto", 1000),
                ("epoll_wait", 60),
                ("context-switches", 10),
            ],
            ..row("event-loop", "keep-alive", 4.3, 0.3, 0.01, 2)
        },
        Facts {
            counts: &[
                ("recvfrom", 1000),
                ("sendto", 1000),
                ("context-switches", 1000),
            ],
            ..row("thread-per-connection", "keep-alive", 15.6, 0.8, 0.02, 66)
        },
        Facts {
            status: Status::Invalid,
            counts: &[
                ("recvfrom", 1000),
                ("sendto", 1000),
                ("context-switches", 1000),
            ],
            ..row("iterative", "keep-alive", 60.0, 1.0, 1.0, 2)
        },
        Facts {
            counts: &[
                ("recvfrom", 2000),
                ("sendto", 1000),
                ("epoll_wait", 500),
                ("accept4", 1200),
                ("epoll_ctl", 1000),
                ("close", 1000),
            ],
            ..row("event-loop", "new-connection", 17.9, 0.6, 0.02, 2)
        },
        Facts {
            counts: threads_calls,
            ..row(
                "thread-per-connection",
                "new-connection",
                56.0,
                3.0,
                0.2,
                66,
            )
        },
        row("iterative", "new-connection", 54.0, 2.0, 0.9, 2),
    ]
}

fn cell(facts: &Facts) -> Cell {
    const RESPONSES: u64 = 100_000;
    let key = Key {
        server: facts.server.to_owned(),
        workload: facts.workload.to_owned(),
        round: 1,
    };
    Cell {
        verdict: Some(facts.status),
        responses: Some(RESPONSES),
        bytes_received: Some(130 * RESPONSES),
        server_cpu_us_per_request: Some(facts.cpu_us),
        server_cpu_user_s: Some(facts.user_us * RESPONSES as f64 / 1e6),
        server_threads_max: Some(facts.threads),
        client_context_switches: Some((facts.client_sleeps * RESPONSES as f64) as u64),
        ..Cell::empty(&key, String::new())
    }
}

fn rows(facts: &Facts) -> Vec<Row> {
    let row = |(name, count): &(&str, u64)| Row {
        server: facts.server.to_owned(),
        workload: facts.workload.to_owned(),
        started: "2025-01-02T03:04:06Z".to_owned(),
        error: None,
        responses: 1000,
        connections: facts.connections,
        kind: Some(match name.contains('-') {
            true => Kind::Event,
            false => Kind::Call,
        }),
        name: (*name).to_owned(),
        count: *count,
    };
    facts.counts.iter().map(row).collect()
}
