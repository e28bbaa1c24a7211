//! What a run saw: counts, histograms, errors by phase and kind. Each thread keeps its own record and
//! they are merged at the end; histograms are merged, percentiles never averaged.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::contention::Contention;
use crate::response::Misread;
use crate::silence::Silences;

/// What one run, or one thread of it, saw of the requests that count: those meant to be sent between
/// the end of the warm-up and the end of the run.
#[derive(Debug, Clone)]
pub struct Record {
    /// Requests sent.
    pub requests: u64,
    /// Whole responses, of any status.
    pub responses: u64,
    /// Of these, the ones whose request was sent before the end of the run, and not only while it
    /// drained: throughput is this by the duration.
    pub responses_in_time: u64,
    /// Whole responses that came between the end of the warm-up and the end of the run, whenever their requests
    /// were sent: those left over from the warm-up are among them, those of the drain are not.
    pub answered_in_window: u64,
    /// Of these, the ones to requests of the warm-up.
    pub answered_of_warmup: u64,
    /// Whole responses that came during the warm-up.
    pub warmup_responses: u64,
    /// Responses with no fault at all.
    pub good: u64,
    /// Requests sent and not answered when the run was over.
    pub in_flight_at_end: u64,
    /// Requests due by the schedule of an open loop; 0 in closed loop.
    pub due: u64,
    /// Of these, the ones sent before the end of the run.
    pub sent_in_time: u64,
    /// Of these, the ones never sent.
    pub unsent: u64,
    /// Samples of [`Record::response`] of which only a lower bound is known: requests that timed out, were
    /// in flight or unsent when the run was over. They stand there with their age.
    pub lower_bounds: u64,
    /// Requests sent during the warm-up, which count for nothing else.
    pub warmup_requests: u64,
    /// Connections established, those of the warm-up included.
    pub connections_opened: u64,
    /// Of these, the ones established between the end of the warm-up and the end of the run.
    pub connections_in_time: u64,
    /// Most connections that were open at once, those of the warm-up included.
    pub connections_open_max: u64,
    /// Connections that the server was asked to close and kept open.
    pub close_ignored: u64,
    /// Bytes received, heads and bodies.
    pub bytes_received: u64,
    /// From the intended send of a request to the last byte of its response, nanoseconds.
    pub response: Histogram<u64>,
    /// From the actual send of a request to the last byte of its response, nanoseconds.
    pub service: Histogram<u64>,
    /// From the intended to the actual send, nanoseconds; of open loops alone.
    pub lag: Histogram<u64>,
    /// The generator's own part of [`Record::lag`]: without the time in which every connection was busy
    /// or being opened.
    pub lag_own: Histogram<u64>,
    /// From the actual send of a request to the first byte of its response, nanoseconds.
    pub first_byte: Histogram<u64>,
    /// From the start of a connect to the established connection, nanoseconds. Where connections stay
    /// open, those of the warm-up count.
    pub connect: Histogram<u64>,
    /// Response times in the order in which they came.
    pub serial: Serial,
    /// Responses over time.
    pub series: Series,
    /// How often each kind of error happened in each phase.
    pub errors: BTreeMap<(Phase, Kind), u64>,
    /// Responses by status.
    pub status: BTreeMap<u16, u64>,
    /// For each connection asked for, the responses it got; one that was opened anew counts on. An open
    /// loop lists those it needed.
    pub responses_by_connection: Vec<u64>,
    /// Sum over all requests of the time they were in flight, and over all connects of the time in
    /// which as many requests as a connection holds could not be; nanoseconds. Of closed loops alone.
    pub busy_ns: u64,
    /// Age of the oldest request unanswered at the end.
    pub oldest_unanswered: Option<Duration>,
    /// From the actual send to the last byte, the longest of all requests that were answered, those of the
    /// warm-up included; nanoseconds.
    pub answered_ns_max: u64,
    /// Times in which nothing came; absent in a record of no thread.
    pub silences: Option<Silences>,
    /// Connects that went on when the run was over.
    pub connecting_at_end: u64,
    /// Of these, the ones that had gone on for so long that their SYN must have been sent again.
    pub connecting_slowly_at_end: u64,
    /// For how long the oldest of them had.
    pub oldest_connecting: Option<Duration>,
    /// What the server said on connections on which nothing was asked, warm-up included.
    pub unsolicited: Unsolicited,
    /// The first bytes that were not understood where a response was due.
    pub misread: Option<Misread>,
    /// Connections of which a response said that it was the last.
    pub closes_announced: Closes,
    /// Connections that the server ended without that, with requests unanswered.
    pub closes_unannounced: Closes,
    /// Connections that a response switched to another protocol.
    pub switches: u64,
}

/// What a server said on idle connections. It answers no request (RFC 9112 §9.2) and is no error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsolicited {
    /// Well-formed responses by status, such as a 408 before an idle connection is closed.
    pub status: BTreeMap<u16, u64>,
    /// Of these, the 408s that crossed with a request on its way, which was lost.
    pub crossed: u64,
    /// Empty lines, which are skipped.
    pub empty_lines: u64,
    /// All other bytes, once for each connection: a TLS alert, say.
    pub other: u64,
    /// Connections reset, without a word.
    pub resets: u64,
    /// The first of the other bytes.
    pub misread: Option<Misread>,
}

impl Unsolicited {
    /// All together.
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

/// Connections that the server ended, and after how many responses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Closes {
    /// How many there were.
    pub connections: u64,
    /// Fewest responses on one of them.
    pub responses_min: u64,
    /// Most responses on one of them.
    pub responses_max: u64,
}

impl Closes {
    /// Adds a connection with so many responses.
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

/// Sums over a series from which the correlation of each sample with the next follows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Serial {
    n: f64,
    sum: f64,
    squares: f64,
    /// Of each sample with the one before it.
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

    /// Adds another series, whose first sample does not follow the last of this one.
    pub fn merge(&mut self, other: Serial) {
        self.n += other.n;
        self.sum += other.sum;
        self.squares += other.squares;
        self.products += other.products;
        self.pairs += other.pairs;
    }

    /// Autocorrelation at lag 1, between -1 and 1; `None` when all samples are equal, or there are
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

/// Responses over time, in at most [`Series::SLICES_MAX`] slices of equal width; when they are full, each
/// two become one.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Width of a slice, nanoseconds.
    pub width_ns: u64,
    /// From the end of the warm-up on.
    pub slices: Vec<Slice>,
}

/// What came within one slice of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slice {
    /// Responses.
    pub responses: u64,
    /// Sum of their response times, nanoseconds.
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
    /// Most slices; so a run of any length takes the same memory.
    pub const SLICES_MAX: usize = 1024;

    /// Adds a response that came `at` nanoseconds after the end of the warm-up.
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
    /// The peer closed before the head of a response was whole.
    ClosedEarly,
    /// Sent behind a request whose response said that it was the last of its connection.
    BehindClose,
    /// The peer closed within the body of a response.
    ShortBody,
    /// Not HTTP/1.1.
    Malformed,
    /// A whole response with a status of 400 or above, or another than the plan expects.
    BadStatus,
    /// A body that is not what it should be: as the plan expects, or as long as the first one.
    WrongBody,
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

/// Longest time a histogram holds, nanoseconds: an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// A connect that takes longer had its SYN sent again, which Linux does after 1, 3, 7, ... seconds.
pub const SLOW_CONNECT: Duration = Duration::from_millis(900);

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
            responses_in_time: 0,
            answered_in_window: 0,
            answered_of_warmup: 0,
            warmup_responses: 0,
            good: 0,
            in_flight_at_end: 0,
            due: 0,
            sent_in_time: 0,
            unsent: 0,
            lower_bounds: 0,
            warmup_requests: 0,
            connections_opened: 0,
            connections_in_time: 0,
            connections_open_max: 0,
            close_ignored: 0,
            bytes_received: 0,
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
            switches: 0,
            answered_ns_max: 0,
            silences: None,
            connecting_at_end: 0,
            connecting_slowly_at_end: 0,
            oldest_connecting: None,
        }
    }

    /// Counts so many errors of a kind.
    pub fn errors(&mut self, phase: Phase, kind: Kind, count: u64) {
        if count > 0 {
            *self.errors.entry((phase, kind)).or_default() += count;
        }
    }

    /// Counts requests that are unanswered since so long after their intended and their actual send, and
    /// would have taken longer still. An unsent one has no service time.
    pub fn lower_bound(&mut self, response_ns: u64, service_ns: Option<u64>, count: u64) {
        self.lower_bounds += count;
        self.response.saturating_record_n(response_ns.max(1), count);
        if let Some(service_ns) = service_ns {
            self.service.saturating_record_n(service_ns.max(1), count);
        }
    }

    /// All errors together.
    pub fn errors_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The histograms that say something, by the names they have in JSON and interval logs. In closed loop
    /// there is no lag, and the service time is the response time.
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
        self.requests += other.requests;
        self.responses += other.responses;
        self.responses_in_time += other.responses_in_time;
        self.answered_in_window += other.answered_in_window;
        self.answered_of_warmup += other.answered_of_warmup;
        self.warmup_responses += other.warmup_responses;
        self.good += other.good;
        self.in_flight_at_end += other.in_flight_at_end;
        self.due += other.due;
        self.sent_in_time += other.sent_in_time;
        self.unsent += other.unsent;
        self.lower_bounds += other.lower_bounds;
        self.warmup_requests += other.warmup_requests;
        self.connections_opened += other.connections_opened;
        self.connections_in_time += other.connections_in_time;
        self.connections_open_max += other.connections_open_max;
        self.close_ignored += other.close_ignored;
        self.bytes_received += other.bytes_received;
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
        self.switches += other.switches;
        self.answered_ns_max = self.answered_ns_max.max(other.answered_ns_max);
        self.silences = match (self.silences.take(), other.silences) {
            (Some(mine), Some(theirs)) => Some(mine.and(&theirs)),
            (one, other) => one.or(other),
        };
        self.connecting_at_end += other.connecting_at_end;
        self.connecting_slowly_at_end += other.connecting_slowly_at_end;
        self.oldest_connecting = self.oldest_connecting.max(other.oldest_connecting);
    }
}

impl ClientCost {
    /// Of a time that was too short to tell.
    pub fn has_no_shares(&mut self) {
        self.busy_by_thread.clear();
        self.busiest_thread = None;
        self.busiest_thread_wanting = None;
        self.longest_waiting_thread = None;
        self.contention.cpus_used_by_others = None;
        self.contention.cpus_steal = None;
    }

    /// Share of its time that the busiest thread was running or, where the kernel tells, waiting for a CPU.
    pub fn busiest(&self) -> f64 {
        let running = self.busiest_thread.unwrap_or(0.0);
        self.busiest_thread_wanting
            .map_or(running, |wanting| wanting.max(running))
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
    /// What became of the idle connections; absent when none were asked for.
    pub idle: Option<Idle>,
    /// The generator's own cost over that time.
    pub client: ClientCost,
    /// Share of the time of all CPUs, over that time, that the hypervisor gave to others; absent when
    /// the system does not tell.
    pub steal: Option<f64>,
}

impl Outcome {
    /// A shorter time says nothing about a rate or a share of a CPU...
    const TIME_MIN: Duration = Duration::from_millis(1);
    /// ... nor does one that the user has ended at any moment, when it is shorter than this.
    const TIME_INTERRUPTED_MIN: Duration = Duration::from_millis(100);

    /// The time that counts was too short for rates, shares of CPUs and, when the user ended it, percentiles.
    pub fn is_too_short(&self) -> bool {
        self.is_cut_short() || self.duration < Self::TIME_MIN
    }

    /// The user ended it before the warm-up was over, or so soon after it that nothing can be said.
    pub fn is_cut_short(&self) -> bool {
        self.interrupted && self.duration < Self::TIME_INTERRUPTED_MIN
    }

    /// The user ended it before anything counted.
    pub fn ended_in_warmup(&self) -> bool {
        self.interrupted && self.duration.is_zero()
    }
}

/// What became of the connections that were to stay open beside those of a [`Record`], which knows nothing
/// of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Idle {
    /// Connections established: as many as the server accepted beside [`Record::connections_opened`].
    pub connections: u64,
    /// Requests sent on them, one each.
    pub requests: u64,
    /// Of the connections, those that were answered, and left open with that answer.
    pub served: u64,
    /// Of these, the ones that the server had closed when the time that counts was over.
    pub closed_by_server: u64,
    /// Why no more were opened, if they are fewer than asked for.
    pub fault: Option<Fault>,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// When.
    pub phase: Phase,
    /// How.
    pub kind: Kind,
}

/// What the generator itself consumed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClientCost {
    /// User CPU time of all its threads, seconds.
    pub cpu_user_s: f64,
    /// System CPU time of all its threads, seconds.
    pub cpu_system_s: f64,
    /// Of both, the time it spun, waiting for the next send with nothing else to do; seconds.
    pub spin_s: f64,
    /// CPUs its threads were pinned to; absent when they were not.
    pub cpus: Option<Vec<usize>>,
    /// Voluntary and involuntary context switches of all its threads.
    pub context_switches: u64,
    /// Share of its time that the busiest thread was running, 0 to 1, without the time it spun; absent when the
    /// run was too short to tell.
    pub busiest_thread: Option<f64>,
    /// The same for each thread.
    pub busy_by_thread: Vec<f64>,
    /// How long its threads could have run and had no CPU, seconds, the sum over all of them; absent where the
    /// kernel does not tell, as are the following.
    pub run_delay_s: Option<f64>,
    /// Share of its time that the thread which wanted a CPU most was running or waiting for one, 0 to 1.
    pub busiest_thread_wanting: Option<f64>,
    /// Share of its time that the thread which had to wait most waited for a CPU, 0 to 1.
    pub longest_waiting_thread: Option<f64>,
    /// How long a thread neither ran nor waited for a CPU though it was to be awake, seconds: it was stopped,
    /// or the machine was. Of the thread of which that is most.
    pub stopped_s: f64,
    /// Times in which a thread was to be awake and did not run, nanoseconds from the end of the warm-up on.
    #[serde(skip)]
    pub pauses: Vec<(u64, u64)>,
    /// Who else used its CPUs, and what the system kept from it.
    #[serde(flatten)]
    pub contention: Contention,
}
