use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use engine::fairness::Fairness;
use engine::foreign;
use engine::latency::{Latency, percentile};
use engine::record::{ClientCost, Counts, Idle, Outcome, Record};
use engine::verdict::{Status, Verdict};
use subject::process::{IdleCost, ServerCost};

/// Declares [`Cell`]: a column of `cells.csv` is declared here, once, with its value in a cell that was measured.
macro_rules! columns {
    ($seen:ident: $($(#[$attribute:meta])* $column:ident: $kind:ty = $value:expr,)*) => {
        /// One server under one workload in one round: a row of `cells.csv`, whose columns are these
        /// fields.
        ///
        /// Times are in microseconds if the name contains `us`, in seconds if it ends in `s`. Values
        /// that were not measured, or that the sample is too small to support, are absent.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        pub struct Cell {
            /// Name of the server.
            pub server: String,
            /// Name of the workload.
            pub workload: String,
            /// Number of the round, from 1.
            pub round: u32,
            /// When the cell began, UTC.
            pub started: String,
            /// Why there is no measurement; all further fields are then absent.
            pub error: Option<String>,
            $($(#[$attribute])* pub $column: Option<$kind>,)*
        }

        impl Cell {
            /// Fills in what a run showed.
            fn with(self, $seen: &Seen<'_>) -> Self {
                Cell { $($column: $value,)* ..self }
            }
        }
    };
}

// A new column comes last, because a set that is resumed keeps the columns that it began with.
columns! { seen:
    /// Whether the figures can be believed.
    verdict: Status = Some(seen.verdict.status),
    /// The reasons why not, joined by `; `.
    reasons: String = text(seen.verdict.reasons.join("; "), REASONS_BYTES_MAX),
    /// The counted time.
    duration_s: f64 = Some(seconds(seen.duration_s)),
    /// Requests sent.
    requests: u64 = Some(seen.counts.requests),
    /// Complete responses, of any status.
    responses: u64 = Some(seen.counts.responses),
    /// Responses without any fault.
    good: u64 = Some(seen.counts.good),
    /// Requests sent but unanswered at the end of the run.
    in_flight_at_end: u64 = Some(seen.counts.in_flight_at_end),
    /// The number of all errors.
    errors: u64 = Some(seen.record.errors_count()),
    /// The number of errors of each kind, joined by `; `.
    errors_by_kind: String = text(errors_by_kind(seen.record), KINDS_BYTES_MAX),
    /// Responses per second of the counted time, whenever their requests were sent; in sets of
    /// earlier versions, only responses to requests sent in that time.
    requests_per_s: f64 = seen.per_s(seen.counts.answered_in_window),
    /// Connections established per second of the counted time.
    connections_per_s: f64 = seen.per_s(seen.counts.connections_in_time),
    /// Connections established, including the warm-up.
    connections_opened: u64 = Some(seen.counts.connections_opened),
    /// The largest number of connections open at once.
    connections_open_max: u64 = Some(seen.counts.connections_open_max),
    /// Connections without a single response.
    connections_never_served: u64 = Some(seen.fairness.connections_never_served),
    /// Jain's index of the responses per connection.
    fairness_jain: f64 = seen.fairness.jain.map(share),
    /// Bytes of heads and bodies received.
    bytes_received: u64 = Some(seen.counts.bytes_received),
    /// Minimum response time: from the intended send (in closed loop, the send) to the last byte.
    response_us_min: f64 = seen.response.min,
    /// Mean response time.
    response_us_mean: f64 = seen.response.mean,
    /// Median response time.
    response_us_p50: f64 = seen.response.p50,
    /// 90th percentile of the response time.
    response_us_p90: f64 = seen.response.p90,
    /// 99th percentile of the response time.
    response_us_p99: f64 = seen.response.p99,
    /// 99.9th percentile of the response time.
    response_us_p99_9: f64 = seen.response.p99_9,
    /// 99.99th percentile of the response time.
    response_us_p99_99: f64 = seen.response.p99_99,
    /// Maximum response time.
    response_us_max: f64 = seen.response.max,
    /// Median time from the send to the first byte.
    first_byte_us_p50: f64 = percentile(&seen.record.first_byte, 50.0),
    /// 99th percentile of the time from the send to the first byte.
    first_byte_us_p99: f64 = percentile(&seen.record.first_byte, 99.0),
    /// Median time from the start of a connect to the established connection.
    connect_us_p50: f64 = percentile(&seen.record.connect, 50.0),
    /// 99th percentile of the time from the start of a connect to the established connection.
    connect_us_p99: f64 = percentile(&seen.record.connect, 99.0),
    /// CPU time of the server per response.
    server_cpu_us_per_request: f64 = seen.cost.and_then(|cost| seen.us_per_response(cost.cpu_s())),
    /// User CPU time of the server.
    server_cpu_user_s: f64 = seen.cost.map(|cost| seconds(cost.cpu_user_s)),
    /// System CPU time of the server.
    server_cpu_system_s: f64 = seen.cost.map(|cost| seconds(cost.cpu_system_s)),
    /// Context switches of all threads of the server; absent if threads started or ended.
    server_context_switches: u64 = seen.cost.and_then(|cost| cost.context_switches),
    /// The largest number of the server's threads at once.
    server_threads_max: u64 = seen.cost.map(|cost| cost.threads_max),
    /// The peak of the server's resident memory.
    server_rss_bytes_max: u64 = seen.cost.map(|cost| cost.rss_bytes_max),
    /// CPU time of the generator per response.
    client_cpu_us_per_request: f64 = seen.us_per_response(seen.client.cpu_s()),
    /// The share of its time that the generator's busiest thread was running.
    client_busiest_thread: f64 = seen.client.busiest_thread.map(share),
    /// Context switches of all threads of the generator.
    client_context_switches: u64 = Some(seen.client.context_switches),
    /// Idle connections, each served once before the run.
    idle_connections: u64 = seen.idle.map(|idle| idle.served),
    /// Idle connections that the server had closed by the end.
    idle_closed_by_server: u64 = seen.idle.map(|idle| idle.closed_by_server),
    /// Memory of the server per idle connection.
    server_bytes_per_idle_connection: f64 =
        seen.memory.and_then(|memory| memory.bytes_per_connection).map(tenths),
    /// Memory of the kernel per idle connection: thread stacks and page tables, without sockets.
    kernel_bytes_per_idle_connection: f64 =
        seen.memory.and_then(|memory| memory.kernel_bytes_per_connection).map(tenths),
    /// Context switches of all the server's threads because they waited; absent if threads started
    /// or ended.
    server_context_switches_voluntary: u64 =
        seen.cost.and_then(|cost| cost.context_switches_voluntary),
    /// Context switches of all the server's threads because others were scheduled; absent if
    /// threads started or ended.
    server_context_switches_involuntary: u64 =
        seen.cost.and_then(|cost| cost.context_switches_involuntary),
    /// How long the server's threads were runnable without a CPU; absent if threads started or
    /// ended.
    server_run_delay_s: f64 = seen.cost.and_then(|cost| cost.run_delay_s).map(seconds),
    /// Page faults that needed no disk access.
    server_page_faults_minor: u64 = seen.cost.and_then(|cost| cost.page_faults_minor),
    /// Page faults that waited for a disk.
    server_page_faults_major: u64 = seen.cost.and_then(|cost| cost.page_faults_major),
    /// The largest number of files that the server had open.
    server_files_max: u64 = seen.cost.and_then(|cost| cost.files_max),
    /// Connections dropped because an accept queue of this machine was full.
    listen_overflows: u64 = seen.cost.and_then(|cost| cost.listen_overflows),
    /// Connections dropped by listeners of this machine for any reason.
    listen_drops: u64 = seen.cost.and_then(|cost| cost.listen_drops),
    /// Segments that this machine sent again.
    tcp_retransmits: u64 = seen.cost.and_then(|cost| cost.tcp_retransmits),
    /// Segments with RST that this machine sent.
    tcp_resets_sent: u64 = seen.cost.and_then(|cost| cost.tcp_resets_sent),
    /// Complete responses between the end of the warm-up and the end of the run, whenever their
    /// requests were sent; the basis of `requests_per_s`.
    answered_in_window: u64 = Some(seen.counts.answered_in_window),
    /// Responses among `answered_in_window` to requests of the warm-up.
    answered_of_warmup: u64 = Some(seen.counts.answered_of_warmup),
    /// Requests that were due by the schedule but never sent; absent in closed loop.
    unsent: u64 = (seen.counts.due > 0).then_some(seen.counts.unsent),
    /// Age of the oldest unanswered request at the end of the run; absent if all were answered.
    oldest_unanswered_s: f64 =
        seen.record.oldest_unanswered.map(|age| seconds(age.as_secs_f64())),
    /// The longest period in which something was awaited and nothing arrived.
    longest_silence_s: f64 =
        (seen.record.silences.as_ref()).map(|silences| seconds(silences.longest_ns() as f64 / 1e9)),
    /// How long the generator's threads were runnable without a CPU, summed over threads.
    client_run_delay_s: f64 = seen.client.run_delay_s.map(seconds),
    /// The share of its time that a generator thread was running or waiting for a CPU; the largest
    /// of all threads.
    client_busiest_thread_wanting: f64 = seen.client.busiest_thread_wanting.map(share),
    /// How long a generator thread should have been awake but neither ran nor waited for a CPU.
    client_stopped_s: f64 = Some(seconds(seen.client.stopped_s)),
    /// The smallest CPU quota of the generator's control groups, in CPUs; absent without a quota.
    cpu_quota: f64 = seen.client.contention.cpu_quota,
    /// How often a quota stopped the control groups.
    throttled_times: u64 = seen.client.contention.throttled_times,
    /// How long a quota stopped them, summed over CPUs.
    throttled_s: f64 = seen.client.contention.throttled_s.map(seconds),
    /// The share of the generator's CPUs that other processes used; absent without pinning.
    client_cpus_used_by_others: f64 = seen.client.contention.cpus_used_by_others.map(share),
    /// The share of the generator's CPUs that the hypervisor gave to others.
    client_cpus_steal: f64 = seen.client.contention.cpus_steal.map(share),
    /// The share of the server's CPUs that other processes used; absent without pinning.
    server_cpus_used_by_others: f64 =
        seen.cost.and_then(|cost| cost.cpus_used_by_others).map(share),
}

/// What the columns of a measured cell are taken from.
struct Seen<'a> {
    record: &'a Record,
    counts: Counts,
    client: &'a ClientCost,
    cost: Option<&'a ServerCost>,
    idle: Option<&'a Idle>,
    memory: Option<&'a IdleCost>,
    verdict: &'a Verdict,
    response: Latency,
    fairness: Fairness,
    duration_s: f64,
}

impl<'a> Seen<'a> {
    fn of(outcome: &'a Outcome, cost: Option<&'a ServerCost>, verdict: &'a Verdict) -> Self {
        Seen {
            record: &outcome.record,
            counts: outcome.record.counts,
            client: &outcome.client,
            cost,
            idle: outcome.idle.as_ref(),
            memory: cost.and_then(|cost| cost.idle.as_ref()),
            verdict,
            response: Latency::of(&outcome.record.response),
            fairness: Fairness::of(outcome),
            duration_s: outcome.duration.as_secs_f64(),
        }
    }

    fn per_s(&self, count: u64) -> Option<f64> {
        (self.duration_s > 0.0).then(|| rounded(count as f64 / self.duration_s, 1))
    }

    fn us_per_response(&self, cpu_s: f64) -> Option<f64> {
        let answered = self.counts.answered_in_window;
        (answered > 0).then(|| rounded(cpu_s * 1e6 / answered as f64, 3))
    }
}

/// Identifies a cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Name of the server.
    pub server: String,
    /// Name of the workload.
    pub workload: String,
    /// Number of the round, from 1.
    pub round: u32,
}

impl Cell {
    /// The key of this cell.
    pub fn key(&self) -> Key {
        Key {
            server: self.server.clone(),
            workload: self.workload.clone(),
            round: self.round,
        }
    }

    /// A cell that could not be measured.
    pub fn failed(key: &Key, started: String, error: &str) -> Self {
        Cell {
            error: Some(one_line(error)),
            ..Cell::empty(key, started)
        }
    }

    /// A cell that was measured, whatever its verdict.
    pub fn measured(
        key: &Key,
        started: String,
        outcome: &Outcome,
        cost: Option<&ServerCost>,
        verdict: &Verdict,
    ) -> Self {
        Cell::empty(key, started).with(&Seen::of(outcome, cost, verdict))
    }

    /// A cell of which only the key is known.
    pub fn empty(key: &Key, started: String) -> Self {
        Cell {
            server: key.server.clone(),
            workload: key.workload.clone(),
            round: key.round,
            started,
            ..Cell::default()
        }
    }
}

fn errors_by_kind(record: &Record) -> String {
    let mut text = String::new();
    for ((phase, kind), count) in &record.errors {
        let separator = if text.is_empty() { "" } else { "; " };
        write!(text, "{separator}{phase} {kind}: {count}")
            .expect("writing to a String cannot fail");
    }
    text
}

/// The longest error in bytes. With this limit, a row fits into its reserved space: a row with an
/// error has no figures, and one with figures has shorter texts.
const ERROR_BYTES_MAX: usize = 400;
const REASONS_BYTES_MAX: usize = 800;
const KINDS_BYTES_MAX: usize = 200;

/// Makes a text one line without escape sequences and bounds it, so that a line of the file is a
/// row, and a truncated line is recognized by its missing end.
pub(super) fn one_line(text: &str) -> String {
    one_line_within(text, ERROR_BYTES_MAX)
}

fn one_line_within(text: &str, bytes_max: usize) -> String {
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    foreign::shortened(&foreign::escaped(&line), bytes_max).into_owned()
}

/// A text of bounded length on one line; absent if it is empty.
fn text(text: String, bytes_max: usize) -> Option<String> {
    (!text.is_empty()).then(|| one_line_within(&text, bytes_max))
}

/// Seconds, to the microsecond.
fn seconds(value: f64) -> f64 {
    rounded(value, 6)
}

/// A share of 1, to a hundredth of a percent.
fn share(value: f64) -> f64 {
    rounded(value, 4)
}

fn tenths(value: f64) -> f64 {
    rounded(value, 1)
}

/// Rounds to this many decimals: more would be noise in the file.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}
