//! What a run does, decided before it starts.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// One workload against one server.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the server listens.
    pub target: SocketAddr,
    /// The bytes of one request.
    pub request: Vec<u8>,
    /// Answers to this request carry no body (HEAD).
    pub head_only: bool,
    /// Connections open at once.
    pub connections: usize,
    /// Threads that share them.
    pub threads: usize,
    /// When a connection ends.
    pub life: ConnectionLife,
    /// Requests sent on a connection before the first of them is answered.
    pub pipeline: usize,
    /// When a request is sent.
    pub pace: Pace,
    /// When the run ends.
    pub limit: Limit,
    /// Load before the first request that counts.
    pub warmup: Duration,
    /// How long a connect or an answer may take.
    pub timeout: Duration,
    /// CPUs that the generator's threads are pinned to, one after another; empty for none.
    pub cpus: Vec<usize>,
}

impl Plan {
    /// 64 connections kept alive by one thread, one request in flight on each, in closed loop for ten
    /// seconds after one second of warm-up; a connect or an answer may take five seconds.
    pub fn new(target: SocketAddr, request: Vec<u8>) -> Self {
        Plan {
            target,
            request,
            head_only: false,
            connections: 64,
            threads: 1,
            life: ConnectionLife::KeepAlive,
            pipeline: 1,
            pace: Pace::Closed,
            limit: Limit::For(Duration::from_secs(10)),
            warmup: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            cpus: Vec::new(),
        }
    }
}

/// When a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionLife {
    /// With the run.
    KeepAlive,
    /// When so many requests were answered on it; then a new one takes its place.
    Requests(u64),
}

impl ConnectionLife {
    /// From the number that stands on command lines and in workloads: 0 is keep-alive without end.
    pub fn from_requests(requests: u64) -> Self {
        match requests {
            0 => ConnectionLife::KeepAlive,
            n => ConnectionLife::Requests(n),
        }
    }

    /// The number for command lines and workloads.
    pub fn requests(self) -> u64 {
        match self {
            ConnectionLife::KeepAlive => 0,
            ConnectionLife::Requests(n) => n,
        }
    }
}

/// When a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// When the one before it on its connection is answered.
    Closed,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After this time.
    For(Duration),
    /// When so many requests were sent and answered.
    Requests(u64),
}
