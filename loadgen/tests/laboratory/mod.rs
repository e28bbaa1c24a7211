//! A set of made-up figures on disk, as large as a real one and of every kind of cell: always the same.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use engine::plan::{Pace, Rate};
use engine::verdict::Status;
use hdrhistogram::Histogram;
use lab::set::ledger_rows::Row;
use lab::set::{Campaign, Cell, Key, SCHEMA, Writer};
use subject::catalogue::Workload;
use subject::ledger::Kind;
use subject::machine::{Build, Machine, Pinning};

const SERVERS: [&str; 6] = [
    "iterative",
    "thread-per-connection",
    "thread-pool",
    "event-loop",
    "async-tasks",
    "floor",
];
const ROUNDS: u32 = 5;
const STARTED: &str = "2025-01-02T03:04:05Z";

fn workload(name: &str, connections: usize, requests_per_connection: u64) -> Workload {
    Workload {
        name: name.to_owned(),
        connections,
        idle: 0,
        requests_per_connection,
        pipeline: 1,
        pace: Pace::Closed,
        duration: Duration::from_secs(2),
        warmup: Duration::from_millis(250),
        groups: vec!["curated".to_owned()],
        analysis: format!("What {name} shows, and how to read it: <b>this is no markup</b>."),
    }
}

fn workloads() -> Vec<Workload> {
    let mut workloads = Vec::new();
    for (suffix, connections) in [
        ("-1", 1),
        ("-16", 16),
        ("", 64),
        ("-256", 256),
        ("-1024", 1_024),
    ] {
        workloads.push(workload(&format!("keep-alive{suffix}"), connections, 0));
    }
    for (suffix, connections) in [("-1", 1), ("-16", 16), ("", 64), ("-256", 256)] {
        workloads.push(workload(&format!("new-connection{suffix}"), connections, 1));
    }
    workloads.push(workload("ten-requests", 64, 10));
    workloads.push(workload("hundred-requests", 64, 100));
    workloads.push(Workload {
        pipeline: 16,
        ..workload("pipelined", 64, 0)
    });
    for rate in [10_000, 20_000, 40_000, 60_000, 80_000, 100_000] {
        let pace = Pace::Constant(Rate::per_second(f64::from(rate)).unwrap());
        workloads.push(Workload {
            pace,
            ..workload(&format!("rate-{}k", rate / 1_000), 64, 0)
        });
    }
    workloads.push(Workload {
        idle: 5_000,
        ..workload("idle-crowd", 64, 0)
    });
    workloads
}

/// Microseconds of CPU that a request takes, before the noise of a round.
fn cpu_us(server: &str, workload: &Workload) -> f64 {
    let connections = workload.connections as f64;
    let (request, connection) = match server {
        "floor" => (5.6, 22.0),
        "iterative" => (6.0, 26.0),
        "event-loop" => (7.6 - 1.2 * connections.log2() / 10.0, 29.0),
        "async-tasks" => (8.7 - 1.1 * connections.log2() / 10.0, 32.0),
        "thread-pool" => (9.4, 34.0),
        _ => (12.4 + 0.2 * connections.log2(), 51.0),
    };
    let shared = match workload.requests_per_connection {
        0 => 0.0,
        n => connection / n as f64,
    };
    request * if workload.pipeline > 1 { 0.21 } else { 1.0 } + shared
}

fn starves(server: &str, workload: &Workload) -> Option<u64> {
    let served = match server {
        "iterative" => 1,
        "thread-pool" => 2,
        _ => return None,
    };
    let connections = workload.connections as u64;
    (workload.requests_per_connection == 0 && connections > served).then(|| connections - served)
}

fn cell(key: &Key, workload: &Workload) -> Cell {
    let server = key.server.as_str();
    let failed = Cell::failed(
        key,
        STARTED.to_owned(),
        "starting it: it exited with status 1",
    );
    if (server, workload.name.as_str()) == ("thread-pool", "hundred-requests") {
        return failed;
    }
    // Of a few percent, and another one for every cell.
    let seed = key.round as usize * 31 + server.len() * 17 + workload.name.len() * 7;
    let noise = 1.0 + (seed % 11) as f64 / 300.0;
    let cpu = cpu_us(server, workload) * noise;
    let capacity = 0.95e6 / cpu;
    let offered = workload.pace.rate().map(Rate::per_s);
    let requests_per_s = offered.map_or(capacity, |rate| rate.min(capacity));
    let responses = (requests_per_s * workload.duration.as_secs_f64()) as u64;
    let starved = starves(server, workload);
    let missed = offered.is_some_and(|rate| rate > requests_per_s);
    let bound = (server, workload.name.as_str()) == ("event-loop", "pipelined") && key.round > 1;
    let (verdict, reasons) = match starved {
        Some(starved) => (
            Status::Invalid,
            Some(format!(
                "starved: {starved} of {} connections were never served",
                workload.connections
            )),
        ),
        None if missed => (
            Status::Invalid,
            Some("the offered rate was not reached".to_owned()),
        ),
        None if bound => (
            Status::ClientBound,
            Some("the generator's busiest thread was busy 98% of the time".to_owned()),
        ),
        None => (Status::Valid, None),
    };
    let threaded = server == "thread-per-connection";
    let stays = workload.requests_per_connection == 0;
    let p50 = p50_us(server, workload) * noise;
    let switches = |per_request: f64| Some((responses as f64 * per_request) as u64);
    Cell {
        error: None,
        verdict: Some(verdict),
        reasons,
        duration_s: Some(workload.duration.as_secs_f64()),
        requests: Some(responses),
        responses: Some(responses),
        requests_per_s: Some(requests_per_s),
        connections_never_served: Some(starved.unwrap_or(0)),
        fairness_jain: Some(match starved {
            Some(starved) => 1.0 - starved as f64 / workload.connections as f64,
            None => 0.999,
        }),
        response_us_p50: Some(p50),
        response_us_p99: Some(3.1 * p50),
        server_cpu_us_per_request: Some(cpu),
        server_cpu_user_s: Some(0.22 * cpu),
        server_cpu_system_s: Some(0.78 * cpu),
        server_context_switches: if threaded && !stays {
            None
        } else {
            switches(if threaded { 0.98 } else { 0.04 })
        },
        server_context_switches_voluntary: if threaded && !stays {
            None
        } else {
            switches(if threaded { 0.95 } else { 0.01 })
        },
        server_context_switches_involuntary: if threaded && !stays {
            None
        } else {
            switches(0.03)
        },
        server_threads_max: Some(if threaded {
            workload.connections as u64 + 1
        } else {
            2
        }),
        server_bytes_per_idle_connection: (workload.idle > 0).then_some(400.0 * cpu),
        ..failed
    }
}

fn p50_us(server: &str, workload: &Workload) -> f64 {
    let cpu = cpu_us(server, workload);
    match workload.pace.rate() {
        // A queue that grows as the server has less and less time left.
        Some(rate) => {
            let busy = (rate.per_s() * cpu / 0.95e6).min(0.98);
            30.0 + cpu / (1.0 - busy)
        }
        None => cpu * (workload.connections * workload.pipeline) as f64,
    }
}

/// 120,000 samples whose tail is as long as tails are.
fn histogram(p50_us: f64) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 10_000_000_000, 2).unwrap();
    let mut left = 120_000;
    let mut factor = 0.6;
    while left > 0 {
        let count = (left / 6).max(1);
        histogram
            .record_n((p50_us * factor * 1_000.0) as u64, count)
            .unwrap();
        left -= count;
        factor *= 1.12;
    }
    histogram
}

fn ledger(server: &str, workload: &Workload) -> Vec<Row> {
    const RESPONSES: u64 = 20_000;
    let connections = match workload.requests_per_connection {
        0 => workload.connections as u64,
        n => RESPONSES / n,
    };
    let threaded = server == "thread-per-connection";
    let mut calls = vec![
        ("recvfrom", RESPONSES + connections),
        ("sendto", RESPONSES),
        ("accept4", connections),
        ("close", connections),
    ];
    match server {
        "thread-per-connection" => calls.extend([
            ("clone3", connections),
            ("mmap", 2 * connections),
            ("munmap", 2 * connections),
            ("madvise", connections),
            ("rt_sigprocmask", 3 * connections),
            ("set_robust_list", connections),
        ]),
        "iterative" => {}
        _ => calls.extend([
            ("epoll_wait", RESPONSES / 9),
            ("epoll_ctl", 2 * connections),
            ("fcntl", connections),
        ]),
    }
    let row = |kind, name: &str, count| Row {
        server: server.to_owned(),
        workload: workload.name.clone(),
        started: STARTED.to_owned(),
        error: None,
        responses: RESPONSES,
        connections,
        kind: Some(kind),
        name: name.to_owned(),
        count,
    };
    let switches = if threaded {
        RESPONSES * 21 / 20
    } else {
        RESPONSES / 40
    };
    (calls.into_iter())
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| row(Kind::Call, name, count))
        .chain([row(Kind::Event, "context-switches", switches)])
        .collect()
}

/// Writes the set below `parent`; its folder.
#[allow(dead_code, reason = "each program of tests takes what it needs")]
pub(crate) fn write(parent: &Path) -> PathBuf {
    write_of(parent, workloads())
}

/// The same with a single workload.
#[allow(dead_code, reason = "each program of tests takes what it needs")]
pub(crate) fn write_small(parent: &Path) -> PathBuf {
    write_of(parent, vec![workload("keep-alive", 64, 0)])
}

fn write_of(parent: &Path, workloads: Vec<Workload>) -> PathBuf {
    let campaign = Campaign {
        schema: SCHEMA,
        command: "loadgen measure --workloads curated --seed 7".to_owned(),
        started: STARTED.to_owned(),
        seed: 7,
        rounds: ROUNDS,
        servers: SERVERS.map(str::to_owned).to_vec(),
        aa: None,
        auto: None,
        ledger: true,
        floor: Some("floor".to_owned()),
        references: Vec::new(),
        server_groups: Default::default(),
        server_args: Vec::new(),
        workloads: workloads.clone(),
    };
    let machine = Machine {
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
    };
    let build = Build {
        revision: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        dirty: Some(false),
        rustc: Some("rustc 1.88.0".to_owned()),
        profile: "release".to_owned(),
        ..Build::default()
    };
    let mut writer = Writer::create(parent, &campaign, &machine, &build).unwrap();
    for key in campaign.cells() {
        let workload = campaign.workload(&key.workload).unwrap();
        let cell = cell(&key, workload);
        let histogram = (cell.response_us_p50).map(histogram);
        let histograms: Vec<_> = histogram.iter().map(|it| ("response", it)).collect();
        writer
            .append(
                &cell,
                &histograms,
                SystemTime::UNIX_EPOCH,
                workload.duration,
            )
            .unwrap();
    }
    for server in SERVERS {
        for workload in &workloads {
            writer.append_ledger(&ledger(server, workload)).unwrap();
        }
    }
    writer.path().to_owned()
}
