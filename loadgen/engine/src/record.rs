//! What a run saw: counts, histograms, and errors by phase and kind. Each thread keeps its own
//! record, and the records are merged at the end. Histograms are merged; percentiles are never
//! averaged.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::contention::Contention;
use crate::response::Misread;
use crate::silence::Silences;

/// Declares [`Counts`]: a counter is declared here, once. Threads add theirs up, and the JSON of a run has each
/// under its name.
macro_rules! counts {
    ($($(#[$attribute:meta])* $counter:ident,)*) => {
        /// How much of everything a run, or one thread, saw.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counts {
            $($(#[$attribute])* pub $counter: u64,)*
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Counts) {
                $(self.$counter += other.$counter;)*
            }
        }
    };
}

counts! {
    /// Requests that were due by the schedule of an open loop; 0 in closed loop.
    #[serde(skip)]
    due,
    /// Requests sent.
    requests,
    /// Complete responses, of any status.
    responses,
    /// Complete responses whose request was sent before the end of the run, not during the drain.
    /// Throughput is this number divided by the duration.
    responses_in_time,
    /// Complete responses that arrived between the end of the warm-up and the end of the run,
    /// whenever their requests were sent. Responses to requests of the warm-up are included,
    /// responses during the drain are not.
    answered_in_window,
    /// Those of [`Counts::answered_in_window`] that answer requests of the warm-up.
    answered_of_warmup,
    /// Responses without any fault.
    good,
    /// Requests sent but unanswered at the end of the run.
    in_flight_at_end,
    /// Due requests that were sent before the end of the run.
    #[serde(skip)]
    sent_in_time,
    /// Due requests that were never sent.
    #[serde(skip)]
    unsent,
    /// Samples of [`Record::response`] that are only lower bounds: requests that timed out, or were
    /// in flight or unsent at the end of the run. Their value is their age.
    lower_bounds,
    /// Requests sent during the warm-up; they do not count elsewhere.
    warmup_requests,
    /// Complete responses that arrived during the warm-up.
    warmup_responses,
    /// Connections established, including the warm-up.
    connections_opened,
    /// Connections established between the end of the warm-up and the end of the run.
    connections_in_time,
    /// The largest number of connections open at once, including the warm-up.
    connections_open_max,
    /// Connections that the server kept open although it was asked to close them.
    close_ignored,
    /// Bytes received, heads and bodies.
    bytes_received,
    /// Connections that a response switched to another protocol.
    protocol_switches,
    /// Connects that were still in progress at the end of the run.
    connecting_at_end,
    /// Connects in progress at the end that had lasted so long that their SYN must have been sent
    /// again.
    connecting_slowly_at_end,
}

/// What a run, or one thread, saw of the requests that count: those intended between the end of the
/// warm-up and the end of the run.
#[derive(Debug, Clone)]
pub struct Record {
    /// The counters.
    pub counts: Counts,
    /// Time from the intended send of a request to the last byte of its response, in nanoseconds.
    pub response: Histogram<u64>,
    /// Time from the actual send of a request to the last byte of its response, in nanoseconds.
    pub service: Histogram<u64>,
    /// Time from the intended to the actual send, in nanoseconds; only in open loop.
    pub lag: Histogram<u64>,
    /// The generator's own share of [`Record::lag`]: without the time in which every connection was
    /// busy or being opened.
    pub lag_own: Histogram<u64>,
    /// Time from the actual send of a request to the first byte of its response, in nanoseconds.
    pub first_byte: Histogram<u64>,
    /// Time from the start of a connect to the established connection, in nanoseconds. If
    /// connections are kept open, those of the warm-up are included.
    pub connect: Histogram<u64>,
    /// Response times in order of arrival.
    pub serial: Serial,
    /// Responses over time.
    pub series: Series,
    /// The number of errors of each kind in each phase.
    pub errors: BTreeMap<(Phase, Kind), u64>,
    /// Responses by status.
    pub status: BTreeMap<u16, u64>,
    /// The number of responses for each connection; a connection that is opened again keeps its
    /// count. An open loop lists only the connections it needed.
    pub responses_by_connection: Vec<u64>,
    /// The sum of the times that requests were in flight, plus the time that connects kept as many
    /// requests from being in flight as a connection holds; in nanoseconds. The first connect of
    /// each slot includes the time from the start of counting. Only in closed loop.
    pub busy_ns: u64,
    /// Age of the oldest unanswered request at the end.
    pub oldest_unanswered: Option<Duration>,
    /// The longest time from actual send to last byte among all answered requests, including the
    /// warm-up; in nanoseconds.
    pub answered_ns_max: u64,
    /// The periods in which nothing arrived; `None` in a record that belongs to no thread.
    pub silences: Option<Silences>,
    /// How long the oldest connect in progress had lasted.
    pub oldest_connecting: Option<Duration>,
    /// What the server sent on idle connections, including the warm-up.
    pub unsolicited: Unsolicited,
    /// The first bytes that could not be parsed as a response.
    pub misread: Option<Misread>,
    /// Connections of which a response announced the close.
    pub closes_announced: Closes,
    /// Connections that the server closed without announcement, with requests unanswered.
    pub closes_unannounced: Closes,
}

/// What a server sent on idle connections. It answers no request (RFC 9112 §9.2) and is not an
/// error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsolicited {
    /// Well-formed responses by status, such as a 408 before an idle connection is closed.
    pub status: BTreeMap<u16, u64>,
    /// The 408s that crossed with a request; that request is lost.
    pub crossed: u64,
    /// Empty lines, which are ignored.
    pub empty_lines: u64,
    /// Connections with any other bytes, such as a TLS alert.
    pub other: u64,
    /// Connections that were reset without further bytes.
    pub resets: u64,
    /// The first of the other bytes.
    pub misread: Option<Misread>,
}

impl Unsolicited {
    /// The sum of all kinds.
    pub fn count(&self) -> u64 {
        self.status.values().sum::<u64>() + self.empty_lines + self.other + self.resets
    }

    fn merge(&mut self, other: Unsolicited) {
        for (status, count) in other.status {
            *self.status.entry(status).or_default() += count;
        }
        self.crossed += other.crossed;
        self.empty_lines += other.empty_lines;
        self.other += other.other;
        self.resets += other.resets;
        self.misread = self.misread.take().or(other.misread);
    }
}

/// Connections that the server closed, and the number of responses before that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Closes {
    /// The number of connections.
    pub connections: u64,
    /// The smallest number of responses on one of them.
    pub responses_min: u64,
    /// The largest number of responses on one of them.
    pub responses_max: u64,
}

impl Closes {
    /// Adds a connection with this number of responses.
    pub fn add(&mut self, responses: u64) {
        self.merge(Closes {
            connections: 1,
            responses_min: responses,
            responses_max: responses,
        });
    }

    fn merge(&mut self, other: Closes) {
        if self.connections == 0 {
            *self = other;
        } else if other.connections > 0 {
            self.connections += other.connections;
            self.responses_min = self.responses_min.min(other.responses_min);
            self.responses_max = self.responses_max.max(other.responses_max);
        }
    }
}

/// Sums over a series that yield the correlation of each sample with the next.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Serial {
    n: f64,
    sum: f64,
    squares: f64,
    /// Sum of the products of each sample with the previous one.
    products: f64,
    pairs: f64,
    last: Option<f64>,
}

impl Serial {
    /// Adds the next sample.
    #[inline]
    pub fn push(&mut self, value: f64) {
        self.n += 1.0;
        self.sum += value;
        self.squares += value * value;
        if let Some(last) = self.last {
            self.products += last * value;
            self.pairs += 1.0;
        }
        self.last = Some(value);
    }

    /// Adds another series; its first sample does not follow the last of this one.
    pub fn merge(&mut self, other: Serial) {
        self.n += other.n;
        self.sum += other.sum;
        self.squares += other.squares;
        self.products += other.products;
        self.pairs += other.pairs;
    }

    /// Autocorrelation at lag 1, between -1 and 1; `None` if all samples are equal or there are
    /// fewer than three.
    pub fn autocorrelation(&self) -> Option<f64> {
        let mean = self.sum / self.n;
        let variance = self.squares / self.n - mean * mean;
        if self.pairs < 2.0 || variance <= 0.0 {
            return None;
        }
        let covariance = self.products / self.pairs - mean * mean;
        Some((covariance / variance).clamp(-1.0, 1.0))
    }
}

/// Responses over time, in at most [`Series::SLICES_MAX`] slices of equal width. When the slices
/// are full, pairs are merged.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Width of a slice, in nanoseconds.
    pub width_ns: u64,
    /// The slices, starting at the end of the warm-up.
    pub slices: Vec<Slice>,
}

/// The responses of one slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slice {
    /// The number of responses.
    pub responses: u64,
    /// The sum of their response times, in nanoseconds.
    pub response_ns: u64,
}

impl Default for Series {
    fn default() -> Self {
        Series {
            width_ns: 10_000_000,
            slices: Vec::new(),
        }
    }
}

impl Series {
    /// The maximum number of slices, so that a run of any length takes the same memory.
    pub const SLICES_MAX: usize = 1024;

    /// Adds a response that arrived `at` nanoseconds after the end of the warm-up.
    #[inline]
    pub fn push(&mut self, at: u64, response_ns: u64) {
        let mut index = (at / self.width_ns) as usize;
        while index >= Self::SLICES_MAX {
            self.widen();
            index = (at / self.width_ns) as usize;
        }
        if index >= self.slices.len() {
            self.slices.resize(index + 1, Slice::default());
        }
        let slice = &mut self.slices[index];
        slice.responses += 1;
        slice.response_ns += response_ns;
    }

    /// Adds what another thread saw at the same time.
    pub fn merge(&mut self, mut other: Series) {
        while self.width_ns < other.width_ns {
            self.widen();
        }
        while other.width_ns < self.width_ns {
            other.widen();
        }
        if self.slices.len() < other.slices.len() {
            self.slices.resize(other.slices.len(), Slice::default());
        }
        for (mine, theirs) in self.slices.iter_mut().zip(other.slices) {
            mine.responses += theirs.responses;
            mine.response_ns += theirs.response_ns;
        }
    }

    fn widen(&mut self) {
        self.width_ns *= 2;
        let pairs = self.slices.chunks(2).map(|pair| Slice {
            responses: pair.iter().map(|slice| slice.responses).sum(),
            response_ns: pair.iter().map(|slice| slice.response_ns).sum(),
        });
        self.slices = pairs.collect();
    }
}

/// The phase of an exchange in which an error happened.
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

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nobody listens (ECONNREFUSED).
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The timeout of the plan expired.
    Timeout,
    /// The peer closed before the response's head was complete.
    ClosedEarly,
    /// The request was pipelined after one whose response announced the close of the connection.
    BehindClose,
    /// The peer closed within the body of a response.
    ShortBody,
    /// The bytes are not HTTP/1.1.
    Malformed,
    /// A complete response whose status is 400 or above, or not the one that the plan expects.
    BadStatus,
    /// The body differs from the expected one or, without expectation, in length from the first.
    WrongBody,
    /// No local port was free (EADDRNOTAVAIL).
    AddressExhausted,
    /// The limit of open files was reached (EMFILE, ENFILE).
    TooManyFiles,
    /// No route to the target's network or host.
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
            Kind::BehindClose => "lost behind an announced close",
            Kind::ShortBody => "short body",
            Kind::Malformed => "malformed response",
            Kind::BadStatus => "bad status",
            Kind::WrongBody => "wrong body",
            Kind::AddressExhausted => "local addresses exhausted",
            Kind::TooManyFiles => "too many open files",
            Kind::Unreachable => "unreachable",
            Kind::Other => "other",
        })
    }
}

/// The longest time that a histogram holds, in nanoseconds: one hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// A connect that takes longer than this had its SYN sent again; Linux does so after 1, 3, 7, ...
/// seconds.
pub const SLOW_CONNECT: Duration = Duration::from_millis(900);

/// An empty histogram of nanoseconds up to one hour, with 3 significant digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds are valid")
}

/// Adds a time of `ns` nanoseconds; longer ones count as an hour.
#[inline]
pub fn record_ns(histogram: &mut Histogram<u64>, ns: u64) {
    histogram.saturating_record(ns.max(1));
}

impl Record {
    /// An empty record for this many connections.
    pub fn new(connections: usize) -> Self {
        Record {
            counts: Counts::default(),
            response: latency_histogram(),
            service: latency_histogram(),
            lag: latency_histogram(),
            lag_own: latency_histogram(),
            first_byte: latency_histogram(),
            connect: latency_histogram(),
            serial: Serial::default(),
            series: Series::default(),
            errors: BTreeMap::new(),
            status: BTreeMap::new(),
            responses_by_connection: vec![0; connections],
            busy_ns: 0,
            oldest_unanswered: None,
            unsolicited: Unsolicited::default(),
            misread: None,
            closes_announced: Closes::default(),
            closes_unannounced: Closes::default(),
            answered_ns_max: 0,
            silences: None,
            oldest_connecting: None,
        }
    }

    /// Counts errors of a kind.
    pub fn errors(&mut self, phase: Phase, kind: Kind, count: u64) {
        if count > 0 {
            *self.errors.entry((phase, kind)).or_default() += count;
        }
    }

    /// Counts unanswered requests by their age since the intended and the actual send; they would
    /// have taken longer still. An unsent request has no service time.
    pub fn lower_bound(&mut self, response_ns: u64, service_ns: Option<u64>, count: u64) {
        self.counts.lower_bounds += count;
        self.response.saturating_record_n(response_ns.max(1), count);
        if let Some(service_ns) = service_ns {
            self.service.saturating_record_n(service_ns.max(1), count);
        }
    }

    /// The number of all errors.
    pub fn errors_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The meaningful histograms, by their names in JSON and interval logs. A closed loop has no
    /// lag, and its service time equals the response time.
    pub fn histograms(&self) -> Vec<(&'static str, &Histogram<u64>)> {
        let all = [
            ("response", &self.response),
            ("service", &self.service),
            ("lag", &self.lag),
            ("lag_own", &self.lag_own),
            ("first_byte", &self.first_byte),
            ("connect", &self.connect),
        ];
        let open_loop = !self.lag.is_empty();
        let says = |(name, histogram): &(&str, &Histogram<u64>)| {
            !histogram.is_empty() && (open_loop || *name != "service")
        };
        all.into_iter().filter(says).collect()
    }

    /// Adds what another thread saw.
    pub fn merge(&mut self, other: Record) {
        self.counts += other.counts;
        for (mine, theirs) in [
            (&mut self.response, &other.response),
            (&mut self.service, &other.service),
            (&mut self.lag, &other.lag),
            (&mut self.lag_own, &other.lag_own),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.connect, &other.connect),
        ] {
            mine.add(theirs).expect("both have the same bounds");
        }
        self.serial.merge(other.serial);
        self.series.merge(other.series);
        for ((phase, kind), count) in other.errors {
            self.errors(phase, kind, count);
        }
        for (status, count) in other.status {
            *self.status.entry(status).or_default() += count;
        }
        self.responses_by_connection
            .extend(other.responses_by_connection);
        self.busy_ns += other.busy_ns;
        self.oldest_unanswered = self.oldest_unanswered.max(other.oldest_unanswered);
        self.unsolicited.merge(other.unsolicited);
        self.misread = self.misread.take().or(other.misread);
        self.closes_announced.merge(other.closes_announced);
        self.closes_unannounced.merge(other.closes_unannounced);
        self.answered_ns_max = self.answered_ns_max.max(other.answered_ns_max);
        self.silences = match (self.silences.take(), other.silences) {
            (Some(mine), Some(theirs)) => Some(mine.and(&theirs)),
            (one, other) => one.or(other),
        };
        self.oldest_connecting = self.oldest_connecting.max(other.oldest_connecting);
    }
}

impl ClientCost {
    /// User and system CPU time in seconds.
    pub fn cpu_s(&self) -> f64 {
        self.cpu_user_s + self.cpu_system_s
    }

    /// Removes the shares of a period that is too short for them.
    pub fn has_no_shares(&mut self) {
        self.busy_by_thread.clear();
        self.busiest_thread = None;
        self.busiest_thread_wanting = None;
        self.longest_waiting_thread = None;
        self.contention.cpus_used_by_others = None;
        self.contention.cpus_steal = None;
    }

    /// The share of time that the busiest thread was running or, if the kernel reports it, waiting
    /// for a CPU.
    pub fn busiest(&self) -> f64 {
        let running = self.busiest_thread.unwrap_or(0.0);
        self.busiest_thread_wanting
            .map_or(running, |wanting| wanting.max(running))
    }
}

/// The outcome of a run: what was seen, how long it took, and what it cost the generator.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was seen.
    pub record: Record,
    /// The time that counts, from the end of the warm-up to the end of the run.
    pub duration: Duration,
    /// The user stopped the run before its limit.
    pub interrupted: bool,
    /// What happened to the idle connections; `None` if none were requested.
    pub idle: Option<Idle>,
    /// The generator's own cost during the counted time.
    pub client: ClientCost,
    /// The share of all CPUs' time during the counted time that the hypervisor gave to others;
    /// `None` if unknown.
    pub steal: Option<f64>,
}

impl Outcome {
    /// A shorter time does not yield rates or CPU shares.
    const TIME_MIN: Duration = Duration::from_millis(1);
    /// If the user interrupted a run, a counted time shorter than this shows nothing.
    const TIME_INTERRUPTED_MIN: Duration = Duration::from_millis(100);

    /// Whether the counted time was too short for rates, CPU shares and, if the user interrupted
    /// it, percentiles.
    pub fn is_too_short(&self) -> bool {
        self.is_cut_short() || self.duration < Self::TIME_MIN
    }

    /// Whether the user ended the run before the end of the warm-up, or too soon after it to show
    /// anything.
    pub fn is_cut_short(&self) -> bool {
        self.interrupted && self.duration < Self::TIME_INTERRUPTED_MIN
    }

    /// Whether the user ended the run before anything counted.
    pub fn ended_in_warmup(&self) -> bool {
        self.interrupted && self.duration.is_zero()
    }
}

/// What happened to the idle connections, which are not part of a [`Record`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Idle {
    /// Connections established, in addition to [`Counts::connections_opened`].
    pub connections: u64,
    /// Requests sent on them, one on each.
    pub requests: u64,
    /// Connections that were answered and left open after that.
    pub served: u64,
    /// Served connections that the server had closed by the end of the counted time.
    pub closed_by_server: u64,
    /// Why no more were opened, if they are fewer than requested.
    pub fault: Option<Fault>,
}

/// A failure: its phase and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The phase in which it happened.
    pub phase: Phase,
    /// The kind of error.
    pub kind: Kind,
}

/// The generator's own consumption.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClientCost {
    /// User CPU time of all its threads, seconds.
    pub cpu_user_s: f64,
    /// System CPU time of all its threads, seconds.
    pub cpu_system_s: f64,
    /// The part of both CPU times in which threads spun until the next send; in seconds.
    pub spin_s: f64,
    /// The CPUs that its threads were pinned to; `None` without pinning.
    pub cpus: Option<Vec<usize>>,
    /// Voluntary and involuntary context switches of all its threads.
    pub context_switches: u64,
    /// The share of time that the busiest thread was running, 0 to 1, without spinning; `None` if
    /// the run was too short.
    pub busiest_thread: Option<f64>,
    /// The share of time that each thread was running, without spinning.
    pub busy_by_thread: Vec<f64>,
    /// How long its threads were runnable without a CPU, summed over threads, in seconds; `None` if
    /// the kernel does not report it, like the next two.
    pub run_delay_s: Option<f64>,
    /// The share of time that the thread with the highest demand was running or waiting for a CPU,
    /// 0 to 1.
    pub busiest_thread_wanting: Option<f64>,
    /// The share of time that the thread with the longest waits was waiting for a CPU, 0 to 1.
    pub longest_waiting_thread: Option<f64>,
    /// How long a thread should have been awake but neither ran nor waited for a CPU, in seconds,
    /// because it or the machine was stopped. The largest value of all threads.
    pub stopped_s: f64,
    /// Periods in which a thread should have been awake but did not run, in nanoseconds since the
    /// end of the warm-up.
    #[serde(skip)]
    pub pauses: Vec<(u64, u64)>,
    /// Competition for its CPUs.
    #[serde(flatten)]
    pub contention: Contention,
}
