//! What a run saw: counts, histograms, errors by phase and kind. Each thread keeps its own record and
//! they are merged at the end; histograms are merged, percentiles never averaged.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What one run, or one thread of it, saw in the time that counts.
#[derive(Debug, Clone)]
pub struct Record {
    /// Requests sent.
    pub requests: u64,
    /// Whole responses, of any status.
    pub responses: u64,
    /// Responses with no fault at all.
    pub good: u64,
    /// Requests sent and not answered when the time was up.
    pub in_flight_at_end: u64,
    /// Requests sent during the warm-up, which count for nothing else.
    pub warmup_requests: u64,
    /// Connections established.
    pub connections_opened: u64,
    /// Most connections that were open at once, those of the warm-up included.
    pub connections_open_max: u64,
    /// Bytes received, heads and bodies.
    pub bytes_received: u64,
    /// From the send of a request to the last byte of its response, nanoseconds.
    pub response: Histogram<u64>,
    /// From the send of a request to the first byte of its response, nanoseconds.
    pub first_byte: Histogram<u64>,
    /// From the start of a connect to the established connection, nanoseconds.
    pub connect: Histogram<u64>,
    /// How often each kind of error happened in each phase.
    pub errors: BTreeMap<(Phase, Kind), u64>,
    /// Responses by status.
    pub status: BTreeMap<u16, u64>,
    /// For each connection asked for, the responses it got; one that was opened anew counts on.
    pub responses_by_connection: Vec<u64>,
    /// Sum over all requests of the time they were in flight, and over all connects of the time in
    /// which as many requests as a connection holds could not be; nanoseconds.
    pub busy_ns: u64,
    /// Age of the oldest request unanswered at the end.
    pub oldest_unanswered: Option<Duration>,
}

/// In which phase of an exchange an error happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the connection was established.
    Connect,
    /// While the request was sent.
    Send,
    /// Between the request and the first byte of its response.
    FirstByte,
    /// Within a response.
    Body,
    /// After the last response of a connection.
    Close,
}

/// What kind of error it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nobody listens (ECONNREFUSED).
    Refused,
    /// The peer reset the connection.
    Reset,
    /// Not within the timeout of the plan.
    Timeout,
    /// The peer closed before a response was whole.
    ClosedEarly,
    /// Not HTTP/1.1.
    Malformed,
    /// A whole response with a status of 400 or above.
    BadStatus,
    /// A body whose length is not that of the first one.
    LengthChanged,
    /// No local port was free (EADDRNOTAVAIL).
    AddressExhausted,
    /// The limit of open files was reached (EMFILE, ENFILE).
    TooManyFiles,
    /// No way to the target's network or host.
    Unreachable,
    /// Any other error of the operating system.
    Other,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Connect => "connect",
            Phase::Send => "send",
            Phase::FirstByte => "first byte",
            Phase::Body => "body",
            Phase::Close => "close",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Refused => "refused",
            Kind::Reset => "reset",
            Kind::Timeout => "timeout",
            Kind::ClosedEarly => "closed early",
            Kind::Malformed => "malformed response",
            Kind::BadStatus => "bad status",
            Kind::LengthChanged => "length changed",
            Kind::AddressExhausted => "local addresses exhausted",
            Kind::TooManyFiles => "too many open files",
            Kind::Unreachable => "unreachable",
            Kind::Other => "other",
        })
    }
}

/// Longest time a histogram holds, nanoseconds: an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// An empty histogram of nanoseconds up to an hour with 3 significant digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds are valid")
}

/// Adds a time of `ns` nanoseconds.
#[inline]
pub fn record_ns(histogram: &mut Histogram<u64>, ns: u64) {
    histogram.saturating_record(ns.max(1));
}

impl Record {
    /// A record of nothing, for so many connections.
    pub fn new(connections: usize) -> Self {
        Record {
            requests: 0,
            responses: 0,
            good: 0,
            in_flight_at_end: 0,
            warmup_requests: 0,
            connections_opened: 0,
            connections_open_max: 0,
            bytes_received: 0,
            response: latency_histogram(),
            first_byte: latency_histogram(),
            connect: latency_histogram(),
            errors: BTreeMap::new(),
            status: BTreeMap::new(),
            responses_by_connection: vec![0; connections],
            busy_ns: 0,
            oldest_unanswered: None,
        }
    }

    /// Counts one error.
    pub fn error(&mut self, phase: Phase, kind: Kind) {
        *self.errors.entry((phase, kind)).or_default() += 1;
    }

    /// All errors together.
    pub fn errors_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Adds what another thread saw.
    pub fn merge(&mut self, other: Record) {
        self.requests += other.requests;
        self.responses += other.responses;
        self.good += other.good;
        self.in_flight_at_end += other.in_flight_at_end;
        self.warmup_requests += other.warmup_requests;
        self.connections_opened += other.connections_opened;
        self.connections_open_max += other.connections_open_max;
        self.bytes_received += other.bytes_received;
        for (mine, theirs) in [
            (&mut self.response, other.response),
            (&mut self.first_byte, other.first_byte),
            (&mut self.connect, other.connect),
        ] {
            mine.add(theirs).expect("both have the same bounds");
        }
        for (key, count) in other.errors {
            *self.errors.entry(key).or_default() += count;
        }
        for (status, count) in other.status {
            *self.status.entry(status).or_default() += count;
        }
        self.responses_by_connection
            .extend(other.responses_by_connection);
        self.busy_ns += other.busy_ns;
        self.oldest_unanswered = self.oldest_unanswered.max(other.oldest_unanswered);
    }
}

/// The outcome of a run: what was seen, in which time, at what cost to the generator.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was seen.
    pub record: Record,
    /// The time that counts, from the end of the warm-up to the end of the run.
    pub duration: Duration,
    /// Stopped by the user before its limit.
    pub interrupted: bool,
    /// The generator's own cost over that time.
    pub client: ClientCost,
}

/// What the generator itself consumed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClientCost {
    /// User CPU time of all its threads, seconds.
    pub cpu_user_s: f64,
    /// System CPU time of all its threads, seconds.
    pub cpu_system_s: f64,
    /// CPUs its threads were pinned to; absent when they were not.
    pub cpus: Option<Vec<usize>>,
    /// Voluntary and involuntary context switches of all its threads.
    pub context_switches: u64,
    /// Share of its time that the busiest thread was running, 0 to 1.
    pub busiest_thread: f64,
}
