//! Made-up results for tests: always the same numbers.

use std::time::Duration;

use crate::catalogue::Workload;
use crate::compare::Evidence;
use crate::machine::{Build, Machine, Pinning};
use crate::plan::Pace;
use crate::set::{Cell, Key};
use crate::verdict::Status;

/// A valid cell with so many CPU microseconds per request; the other figures follow from that.
pub(crate) fn cell(server: &str, workload: &str, round: u32, cpu_us: f64) -> Cell {
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

pub(crate) fn workload(name: &str) -> Workload {
    Workload {
        name: name.to_owned(),
        connections: 64,
        requests_per_connection: 0,
        pipeline: 1,
        pace: Pace::Closed,
        duration: Duration::from_secs(2),
        warmup: Duration::from_millis(250),
        analysis: format!("What {name} shows."),
    }
}

pub(crate) fn evidence(servers: &[&str], workloads: &[&str], cells: Vec<Cell>) -> Evidence {
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
    }
}

/// The servers and workloads of the repository, with one of every kind of fault.
pub(crate) fn five_servers() -> Evidence {
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
