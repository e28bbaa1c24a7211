//! The metrics that are compared.

use clap::ValueEnum;

use crate::set::Cell;
use engine::verdict::Status;
use subject::catalogue::Workload;

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// CPU microseconds per request, server side
    Cpu,
    /// Requests per second
    Throughput,
    /// Connections per second, where they are limited to a number of requests
    Connections,
    /// Median response time
    P50,
    /// 99th percentile of the response time
    P99,
    /// 99.9th percentile of the response time
    #[value(name = "p99.9")]
    P99_9,
    /// Most memory that the server had resident
    Rss,
    /// Memory per idle connection, server side
    IdleMemory,
}

/// Groups of metrics, as selected on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Units {
    /// Requests per second
    Requests,
    /// Connections per second
    Connections,
    /// CPU microseconds per request
    Cpu,
    /// Percentiles of the response time: median, 99th and 99.9th
    Latency,
    /// Most memory, and memory per idle connection
    Memory,
}

impl Units {
    /// The metrics of a group, in display order.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Units::Requests => &[Metric::Throughput],
            Units::Connections => &[Metric::Connections],
            Units::Cpu => &[Metric::Cpu],
            Units::Latency => &[Metric::P50, Metric::P99, Metric::P99_9],
            Units::Memory => &[Metric::Rss, Metric::IdleMemory],
        }
    }
}

impl Metric {
    /// The title for headings.
    pub fn title(self) -> &'static str {
        match self {
            Metric::Cpu => "CPU microseconds per request, server side",
            Metric::Throughput => "Requests per second",
            Metric::Connections => "Connections per second",
            Metric::P50 => "Response time, median, microseconds",
            Metric::P99 => "Response time, 99th percentile, microseconds",
            Metric::P99_9 => "Response time, 99.9th percentile, microseconds",
            Metric::Rss => "Most bytes of memory resident, server side",
            Metric::IdleMemory => "Bytes of memory per idle connection, server side",
        }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu",
            Metric::Throughput => "throughput",
            Metric::Connections => "connections",
            Metric::P50 => "p50",
            Metric::P99 => "p99",
            Metric::P99_9 => "p99.9",
            Metric::Rss => "rss",
            Metric::IdleMemory => "idle-memory",
        }
    }

    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::Cpu => "us/request",
            Metric::Throughput => "requests/s",
            Metric::Connections => "connections/s",
            Metric::P50 | Metric::P99 | Metric::P99_9 => "us",
            Metric::Rss => "bytes",
            Metric::IdleMemory => "bytes/connection",
        }
    }

    /// Why a value is missing, if its cells do not say.
    pub fn missing(self) -> &'static str {
        match self {
            Metric::Cpu => "the server's CPU time is not known",
            Metric::Throughput => "nothing was answered in the counted time",
            Metric::Connections => "no connection was established in the counted time",
            Metric::P50 | Metric::P99 | Metric::P99_9 => "too few responses",
            Metric::Rss | Metric::IdleMemory => "the server's memory was not read",
        }
    }

    /// Whether less is better.
    pub fn less_is_better(self) -> bool {
        !self.is_rate()
    }

    /// The percentile, if the metric is one.
    pub fn percentile(self) -> Option<f64> {
        match self {
            Metric::P50 => Some(50.0),
            Metric::P99 => Some(99.0),
            Metric::P99_9 => Some(99.9),
            _ => None,
        }
    }

    /// Whether it is a rate, which an open loop prescribes rather than measures.
    pub fn is_rate(self) -> bool {
        matches!(self, Metric::Throughput | Metric::Connections)
    }

    /// Whether it is memory, which a slower machine does not change.
    pub fn is_memory(self) -> bool {
        matches!(self, Metric::Rss | Metric::IdleMemory)
    }

    /// Whether it differs in kind between open and closed loop, so that the two must not be in one
    /// table.
    pub fn depends_on_pace(self) -> bool {
        self.is_rate() || self.percentile().is_some()
    }

    /// Whether it is meaningful for a workload.
    pub fn says(self, workload: &Workload) -> bool {
        match self {
            Metric::Connections => workload.requests_per_connection > 0,
            Metric::IdleMemory => workload.idle > 0,
            _ => true,
        }
    }

    /// Whether a cell with this verdict counts. If the generator is the bottleneck, throughput and
    /// latency are the generator's. The cost of a request is still the server's, and rather too
    /// high than too low, because a server that is not busy shares less work. Memory depends on
    /// connections, and the cost of idle ones was determined before the load.
    pub(super) fn counts(self, verdict: Option<Status>) -> bool {
        match verdict {
            Some(Status::Valid) => true,
            Some(Status::ClientBound) => !self.depends_on_pace(),
            Some(Status::Invalid) | None => false,
        }
    }

    /// The value of a cell. Zero is not a value where nothing is free: the server's responses or
    /// CPU time were not seen. Memory need not grow.
    pub(super) fn of(self, cell: &Cell) -> Option<f64> {
        let value = self.field(cell)?;
        (value > 0.0 || self == Metric::IdleMemory).then_some(value)
    }

    fn field(self, cell: &Cell) -> Option<f64> {
        match self {
            Metric::Cpu => cell.server_cpu_us_per_request,
            Metric::Throughput => cell.requests_per_s,
            Metric::Connections => cell.connections_per_s,
            Metric::P50 => cell.response_us_p50,
            Metric::P99 => cell.response_us_p99,
            Metric::P99_9 => cell.response_us_p99_9,
            Metric::Rss => cell.server_rss_bytes_max.map(|bytes| bytes as f64),
            Metric::IdleMemory => cell.server_bytes_per_idle_connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for metric in Metric::value_variants() {
            let value = metric.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), metric.name());
        }
    }
}
