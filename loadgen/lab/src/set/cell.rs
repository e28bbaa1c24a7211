use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use engine::fairness::Fairness;
use engine::foreign;
use engine::latency::{Latency, percentile};
use engine::record::Outcome;
use engine::verdict::{Status, Verdict};
use subject::process::ServerCost;

/// One server under one workload in one round: a row of `cells.csv`, whose columns are these
/// fields.
///
/// Times are in microseconds if the name contains `us`, in seconds if it ends in `s`. Values that
/// were not measured, or that the sample is too small to support, are absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Whether the figures can be believed.
    pub verdict: Option<Status>,
    /// The reasons why not, joined by `; `.
    pub reasons: Option<String>,
    /// The counted time.
    pub duration_s: Option<f64>,
    /// Requests sent.
    pub requests: Option<u64>,
    /// Complete responses, of any status.
    pub responses: Option<u64>,
    /// Responses without any fault.
    pub good: Option<u64>,
    /// Requests sent but unanswered at the end of the run.
    pub in_flight_at_end: Option<u64>,
    /// The number of all errors.
    pub errors: Option<u64>,
    /// The number of errors of each kind, joined by `; `.
    pub errors_by_kind: Option<String>,
    /// Responses per second of the counted time, whenever their requests were sent; in sets of
    /// earlier versions, only responses to requests sent in that time.
    pub requests_per_s: Option<f64>,
    /// Connections established per second of the counted time.
    pub connections_per_s: Option<f64>,
    /// Connections established, including the warm-up.
    pub connections_opened: Option<u64>,
    /// The largest number of connections open at once.
    pub connections_open_max: Option<u64>,
    /// Connections without a single response.
    pub connections_never_served: Option<u64>,
    /// Jain's index of the responses per connection.
    pub fairness_jain: Option<f64>,
    /// Bytes of heads and bodies received.
    pub bytes_received: Option<u64>,
    /// Minimum response time: from the intended send (in closed loop, the send) to the last byte.
    pub response_us_min: Option<f64>,
    /// Mean response time.
    pub response_us_mean: Option<f64>,
    /// Median response time.
    pub response_us_p50: Option<f64>,
    /// 90th percentile of the response time.
    pub response_us_p90: Option<f64>,
    /// 99th percentile of the response time.
    pub response_us_p99: Option<f64>,
    /// 99.9th percentile of the response time.
    pub response_us_p99_9: Option<f64>,
    /// 99.99th percentile of the response time.
    pub response_us_p99_99: Option<f64>,
    /// Maximum response time.
    pub response_us_max: Option<f64>,
    /// Median time from the send to the first byte.
    pub first_byte_us_p50: Option<f64>,
    /// 99th percentile of the time from the send to the first byte.
    pub first_byte_us_p99: Option<f64>,
    /// Median time from the start of a connect to the established connection.
    pub connect_us_p50: Option<f64>,
    /// 99th percentile of the time from the start of a connect to the established connection.
    pub connect_us_p99: Option<f64>,
    /// CPU time of the server per response.
    pub server_cpu_us_per_request: Option<f64>,
    /// User CPU time of the server.
    pub server_cpu_user_s: Option<f64>,
    /// System CPU time of the server.
    pub server_cpu_system_s: Option<f64>,
    /// Context switches of all threads of the server; absent if threads started or ended.
    pub server_context_switches: Option<u64>,
    /// The largest number of the server's threads at once.
    pub server_threads_max: Option<u64>,
    /// The peak of the server's resident memory.
    pub server_rss_bytes_max: Option<u64>,
    /// CPU time of the generator per response.
    pub client_cpu_us_per_request: Option<f64>,
    /// The share of its time that the generator's busiest thread was running.
    pub client_busiest_thread: Option<f64>,
    /// Context switches of all threads of the generator.
    pub client_context_switches: Option<u64>,
    /// Idle connections, each served once before the run.
    pub idle_connections: Option<u64>,
    /// Idle connections that the server had closed by the end.
    pub idle_closed_by_server: Option<u64>,
    /// Memory of the server per idle connection.
    pub server_bytes_per_idle_connection: Option<f64>,
    /// Memory of the kernel per idle connection: thread stacks and page tables, without sockets.
    pub kernel_bytes_per_idle_connection: Option<f64>,
    /// Context switches of all the server's threads because they waited; absent if threads started
    /// or ended.
    pub server_context_switches_voluntary: Option<u64>,
    /// Context switches of all the server's threads because others were scheduled; absent if
    /// threads started or ended.
    pub server_context_switches_involuntary: Option<u64>,
    /// How long the server's threads were runnable without a CPU; absent if threads started or
    /// ended.
    pub server_run_delay_s: Option<f64>,
    /// Page faults that needed no disk access.
    pub server_page_faults_minor: Option<u64>,
    /// Page faults that waited for a disk.
    pub server_page_faults_major: Option<u64>,
    /// The largest number of files that the server had open.
    pub server_files_max: Option<u64>,
    /// Connections dropped because an accept queue of this machine was full.
    pub listen_overflows: Option<u64>,
    /// Connections dropped by listeners of this machine for any reason.
    pub listen_drops: Option<u64>,
    /// Segments that this machine sent again.
    pub tcp_retransmits: Option<u64>,
    /// Segments with RST that this machine sent.
    pub tcp_resets_sent: Option<u64>,
    /// Complete responses between the end of the warm-up and the end of the run, whenever their
    /// requests were sent; the basis of `requests_per_s`.
    pub answered_in_window: Option<u64>,
    /// Responses among `answered_in_window` to requests of the warm-up.
    pub answered_of_warmup: Option<u64>,
    /// Requests that were due by the schedule but never sent; absent in closed loop.
    pub unsent: Option<u64>,
    /// Age of the oldest unanswered request at the end of the run; absent if all were answered.
    pub oldest_unanswered_s: Option<f64>,
    /// The longest period in which something was awaited and nothing arrived.
    pub longest_silence_s: Option<f64>,
    /// How long the generator's threads were runnable without a CPU, summed over threads.
    pub client_run_delay_s: Option<f64>,
    /// The share of its time that a generator thread was running or waiting for a CPU; the largest
    /// of all threads.
    pub client_busiest_thread_wanting: Option<f64>,
    /// How long a generator thread should have been awake but neither ran nor waited for a CPU.
    pub client_stopped_s: Option<f64>,
    /// The smallest CPU quota of the generator's control groups, in CPUs; absent without a quota.
    pub cpu_quota: Option<f64>,
    /// How often a quota stopped the control groups.
    pub throttled_times: Option<u64>,
    /// How long a quota stopped them, summed over CPUs.
    pub throttled_s: Option<f64>,
    /// The share of the generator's CPUs that other processes used; absent without pinning.
    pub client_cpus_used_by_others: Option<f64>,
    /// The share of the generator's CPUs that the hypervisor gave to others.
    pub client_cpus_steal: Option<f64>,
    /// The share of the server's CPUs that other processes used; absent without pinning.
    pub server_cpus_used_by_others: Option<f64>,
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
        let record = &outcome.record;
        let duration_s = outcome.duration.as_secs_f64();
        let per_s = |count: u64| (duration_s > 0.0).then(|| digits(count as f64 / duration_s, 1));
        let us_per_response = |cpu_s: f64| {
            let answered = record.answered_in_window;
            (answered > 0).then(|| digits(cpu_s * 1e6 / answered as f64, 3))
        };
        let response = Latency::of(&record.response);
        let fairness = Fairness::of(outcome);
        let idle = outcome.idle.as_ref();
        let contention = &outcome.client.contention;
        let memory = cost.and_then(|cost| cost.idle.as_ref());
        let client_cpu_s = outcome.client.cpu_user_s + outcome.client.cpu_system_s;
        let text =
            |text: String, bytes_max| (!text.is_empty()).then(|| one_line_within(&text, bytes_max));
        Cell {
            verdict: Some(verdict.status),
            reasons: text(verdict.reasons.join("; "), REASONS_BYTES_MAX),
            duration_s: Some(digits(duration_s, 6)),
            requests: Some(record.requests),
            responses: Some(record.responses),
            good: Some(record.good),
            in_flight_at_end: Some(record.in_flight_at_end),
            errors: Some(record.errors_count()),
            errors_by_kind: text(errors_by_kind(outcome), KINDS_BYTES_MAX),
            requests_per_s: per_s(record.answered_in_window),
            connections_per_s: per_s(record.connections_in_time),
            connections_opened: Some(record.connections_opened),
            connections_open_max: Some(record.connections_open_max),
            connections_never_served: Some(fairness.connections_never_served),
            fairness_jain: fairness.jain.map(|jain| digits(jain, 4)),
            bytes_received: Some(record.bytes_received),
            response_us_min: response.min,
            response_us_mean: response.mean,
            response_us_p50: response.p50,
            response_us_p90: response.p90,
            response_us_p99: response.p99,
            response_us_p99_9: response.p99_9,
            response_us_p99_99: response.p99_99,
            response_us_max: response.max,
            first_byte_us_p50: percentile(&record.first_byte, 50.0),
            first_byte_us_p99: percentile(&record.first_byte, 99.0),
            connect_us_p50: percentile(&record.connect, 50.0),
            connect_us_p99: percentile(&record.connect, 99.0),
            server_cpu_us_per_request: cost.and_then(|cost| us_per_response(cost.cpu_s())),
            server_cpu_user_s: cost.map(|cost| digits(cost.cpu_user_s, 6)),
            server_cpu_system_s: cost.map(|cost| digits(cost.cpu_system_s, 6)),
            server_context_switches: cost.and_then(|cost| cost.context_switches),
            server_threads_max: cost.map(|cost| cost.threads_max),
            server_rss_bytes_max: cost.map(|cost| cost.rss_bytes_max),
            client_cpu_us_per_request: us_per_response(client_cpu_s),
            client_busiest_thread: outcome.client.busiest_thread.map(|it| digits(it, 4)),
            client_context_switches: Some(outcome.client.context_switches),
            idle_connections: idle.map(|idle| idle.served),
            idle_closed_by_server: idle.map(|idle| idle.closed_by_server),
            server_bytes_per_idle_connection: memory
                .and_then(|memory| memory.bytes_per_connection)
                .map(|bytes| digits(bytes, 1)),
            kernel_bytes_per_idle_connection: memory
                .and_then(|memory| memory.kernel_bytes_per_connection)
                .map(|bytes| digits(bytes, 1)),
            server_context_switches_voluntary: cost
                .and_then(|cost| cost.context_switches_voluntary),
            server_context_switches_involuntary: cost
                .and_then(|cost| cost.context_switches_involuntary),
            server_run_delay_s: cost
                .and_then(|cost| cost.run_delay_s)
                .map(|seconds| digits(seconds, 6)),
            server_page_faults_minor: cost.and_then(|cost| cost.page_faults_minor),
            server_page_faults_major: cost.and_then(|cost| cost.page_faults_major),
            server_files_max: cost.and_then(|cost| cost.files_max),
            listen_overflows: cost.and_then(|cost| cost.listen_overflows),
            listen_drops: cost.and_then(|cost| cost.listen_drops),
            tcp_retransmits: cost.and_then(|cost| cost.tcp_retransmits),
            tcp_resets_sent: cost.and_then(|cost| cost.tcp_resets_sent),
            answered_in_window: Some(record.answered_in_window),
            answered_of_warmup: Some(record.answered_of_warmup),
            unsent: (record.due > 0).then_some(record.unsent),
            oldest_unanswered_s: record
                .oldest_unanswered
                .map(|age| digits(age.as_secs_f64(), 6)),
            longest_silence_s: (record.silences.as_ref())
                .map(|silences| digits(silences.longest_ns() as f64 / 1e9, 6)),
            client_run_delay_s: outcome.client.run_delay_s.map(|seconds| digits(seconds, 6)),
            client_busiest_thread_wanting: outcome
                .client
                .busiest_thread_wanting
                .map(|it| digits(it, 4)),
            client_stopped_s: Some(digits(outcome.client.stopped_s, 6)),
            cpu_quota: contention.cpu_quota,
            throttled_times: contention.throttled_times,
            throttled_s: contention.throttled_s.map(|seconds| digits(seconds, 6)),
            client_cpus_used_by_others: contention.cpus_used_by_others.map(|it| digits(it, 4)),
            client_cpus_steal: contention.cpus_steal.map(|it| digits(it, 4)),
            server_cpus_used_by_others: cost
                .and_then(|cost| cost.cpus_used_by_others)
                .map(|it| digits(it, 4)),
            ..Cell::empty(key, started)
        }
    }

    /// A cell of which only the key is known.
    pub fn empty(key: &Key, started: String) -> Self {
        Cell {
            server: key.server.clone(),
            workload: key.workload.clone(),
            round: key.round,
            started,
            error: None,
            verdict: None,
            reasons: None,
            duration_s: None,
            requests: None,
            responses: None,
            good: None,
            in_flight_at_end: None,
            errors: None,
            errors_by_kind: None,
            requests_per_s: None,
            connections_per_s: None,
            connections_opened: None,
            connections_open_max: None,
            connections_never_served: None,
            fairness_jain: None,
            bytes_received: None,
            response_us_min: None,
            response_us_mean: None,
            response_us_p50: None,
            response_us_p90: None,
            response_us_p99: None,
            response_us_p99_9: None,
            response_us_p99_99: None,
            response_us_max: None,
            first_byte_us_p50: None,
            first_byte_us_p99: None,
            connect_us_p50: None,
            connect_us_p99: None,
            server_cpu_us_per_request: None,
            server_cpu_user_s: None,
            server_cpu_system_s: None,
            server_context_switches: None,
            server_threads_max: None,
            server_rss_bytes_max: None,
            client_cpu_us_per_request: None,
            client_busiest_thread: None,
            client_context_switches: None,
            idle_connections: None,
            idle_closed_by_server: None,
            server_bytes_per_idle_connection: None,
            kernel_bytes_per_idle_connection: None,
            server_context_switches_voluntary: None,
            server_context_switches_involuntary: None,
            server_run_delay_s: None,
            server_page_faults_minor: None,
            server_page_faults_major: None,
            server_files_max: None,
            listen_overflows: None,
            listen_drops: None,
            tcp_retransmits: None,
            tcp_resets_sent: None,
            answered_in_window: None,
            answered_of_warmup: None,
            unsent: None,
            oldest_unanswered_s: None,
            longest_silence_s: None,
            client_run_delay_s: None,
            client_busiest_thread_wanting: None,
            client_stopped_s: None,
            cpu_quota: None,
            throttled_times: None,
            throttled_s: None,
            client_cpus_used_by_others: None,
            client_cpus_steal: None,
            server_cpus_used_by_others: None,
        }
    }
}

fn errors_by_kind(outcome: &Outcome) -> String {
    let mut text = String::new();
    for ((phase, kind), count) in &outcome.record.errors {
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

/// Rounds to this many decimals: more would be noise in the file.
fn digits(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
