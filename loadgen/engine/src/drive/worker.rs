//! One thread of a run: a mio poll and the thread's share of the connections.
//!
//! A request is written at once, and only its response is waited for. That takes two system calls per request,
//! and a share of a wait for many connections. Writability is watched only after a write was incomplete. The
//! [`Pacer`] decides when a request is sent.

use std::io::{self, Read as _, Write as _};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::affinity::pin_thread;
use crate::plan::ConnectionLife;
use crate::record::{ClientCost, Kind, Phase, Record, SLOW_CONNECT, record_ns};
use crate::response::{Response, Taken};
use crate::silence::Silences;

use super::connection::{self, Connection, Sent, State, connect, kind_of};
use super::live::Tally;
use super::pacer::{Offer, Pacer, Step, Times};
use super::pulse::{Pulse, Reading};
use super::requests::Rotation;
use super::unasked::{self, Unasked};
use super::{CLOSE_WITHIN, Part, Share, Shared};

pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    share: Share,
    poll: Poll,
    connections: Vec<Connection>,
    requests: Rotation,
    pacer: Pacer,
    /// The size limits a read. A shorter read has emptied the socket.
    buffer: Vec<u8>,
    record: Record,
    /// Complete responses by status; updating the map of the record for each would be too slow.
    status: Vec<u64>,
    /// Counted requests in flight.
    in_flight: u64,
    open: u64,
    /// Sockets opened so far; chooses the next source address.
    sockets: usize,
    /// The server has closed at least once when asked to.
    close_honoured: bool,
    /// All responses, including the warm-up.
    responses: u64,
    /// Connections that are no longer needed. They are closed after [`Moment::End`](super::Moment::End) was
    /// reported, so that closing them is not part of the server's cost.
    leaving: Vec<usize>,
    /// The time from which requests count, in nanoseconds since the start.
    begin: u64,
    /// When the last response arrived.
    progress: u64,
    /// When anything last arrived.
    heard: u64,
    /// Requests in flight, including the warm-up.
    outstanding: u64,
    silences: Silences,
    pulse: Pulse,
    usage_at_begin: Option<Used>,
    usage_at_end: Option<Used>,
}

/// The CPU time that the thread used and waited for so far, and when it was read.
struct Used {
    at: u64,
    usage: Usage,
    reading: Reading,
}

const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS: usize = 1024;
const STATUSES: usize = 1000;

/// Interval between checks of all connections for timeouts and for connections to open.
const SWEEP: Duration = Duration::from_millis(100);
const SWEEP_WHILE_WAITING: Duration = Duration::from_millis(5);

/// The longest sleep while responses are awaited in closed loop. In open loop, requests that are due wake the
/// thread.
const BEAT: Duration = Duration::from_millis(10);

/// Interval between checks whether the end was reported, while connections wait to be closed.
const LOOK_WHETHER_TOLD: Duration = Duration::from_millis(1);

/// Connections opened before other work is done: a burst of thousands would overflow the server's accept queue
/// and delay the open connections.
const OPENED_AT_ONCE: usize = 128;

/// If no connection is established within this time, nothing listens.
const REACH_WITHIN: Duration = Duration::from_millis(500);

/// Ignored closes tolerated before we stop waiting.
const CLOSES_AWAITED: u64 = 16;

impl<'a> Worker<'a> {
    /// Must be called on the thread that runs the worker; pins that thread.
    pub(super) fn new(shared: &'a Shared<'a>, share: Share) -> io::Result<Self> {
        let plan = shared.plan;
        if !plan.cpus.is_empty() {
            pin_thread(&[plan.cpus[share.index % plan.cpus.len()]])?;
        }
        let poll = Poll::new()?;
        let pacer = Pacer::new(shared, share, poll.registry())?;
        let connection = || Connection::new(plan, pacer.first_state());
        Ok(Worker {
            shared,
            share,
            connections: (0..share.connections).map(|_| connection()).collect(),
            poll,
            requests: Rotation::new(&plan.requests, plan.pipeline, share.index),
            pacer,
            buffer: vec![0; BUFFER_BYTES],
            record: Record::new(share.connections),
            status: vec![0; STATUSES],
            in_flight: 0,
            open: 0,
            sockets: share.first_slot,
            close_honoured: false,
            responses: 0,
            leaving: Vec::new(),
            begin: shared.begin,
            progress: 0,
            heard: 0,
            outstanding: 0,
            silences: Silences::default(),
            pulse: Pulse::new(),
            usage_at_begin: None,
            usage_at_end: None,
        })
    }

    pub(super) fn run(mut self) -> io::Result<Part> {
        let mut events = Events::with_capacity(EVENTS);
        let mut next_sweep = 0;
        loop {
            let now = self.now();
            self.pulse.beat(now);
            if self.usage_at_begin.is_none() && now >= self.begin {
                self.usage_at_begin = Some(self.used()?);
            }
            if self.usage_at_end.is_none() && now >= self.end() {
                self.usage_at_end = Some(self.used()?);
            }
            if self.is_done(now) {
                break;
            }
            if now >= next_sweep {
                next_sweep = now + self.sweep(now).as_nanos() as u64;
                if self.is_hopeless(now) {
                    break;
                }
                self.tell();
            }
            self.send_due();
            self.wait(&mut events, next_sweep)?;
            for event in &events {
                // The token of an open loop's timer follows those of all connections.
                if event.token().0 < self.connections.len() {
                    self.ready(event.token().0, event);
                    self.send_due();
                }
            }
            self.shared.mailboxes[self.share.index].tell_responses(self.responses);
            if !self.leaving.is_empty() && self.shared.end_told.load(Relaxed) {
                self.leave();
            }
        }
        self.finish()
    }

    fn used(&self) -> io::Result<Used> {
        Ok(Used {
            usage: getrusage(UsageWho::RUSAGE_THREAD)?,
            reading: self.pulse.read(),
            at: self.now(),
        })
    }

    /// Waits for events, or until something is due without one.
    fn wait(&mut self, events: &mut Events, next_sweep: u64) -> io::Result<()> {
        let now = self.now();
        let end = self.end();
        let until = [
            next_sweep,
            self.begin,
            end,
            end.saturating_add(self.shared.drain),
        ];
        let until = until.into_iter().filter(|&time| time > now).min();
        let mut until = until.unwrap_or(now).min(next_sweep);
        if !self.leaving.is_empty() {
            until = until.min(now + LOOK_WHETHER_TOLD.as_nanos() as u64);
        }
        if !self.pacer.is_open() && self.outstanding > 0 {
            // So that a short stop of this thread is not attributed to the server.
            until = until.min(now + BEAT.as_nanos() as u64);
        }
        self.pulse.sleeps(now, until);
        let until = (self.pacer).wait(self.shared, &mut self.poll, events, until)?;
        let Some(until) = until else {
            return Ok(());
        };
        let wait = Duration::from_nanos(until.saturating_sub(self.now()));
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            outcome => outcome?,
        }
        self.pacer.woken(self.shared);
        Ok(())
    }

    fn now(&self) -> u64 {
        self.shared.now()
    }

    /// The time up to which requests count.
    #[inline]
    fn end(&self) -> u64 {
        self.shared.end()
    }

    fn is_done(&self, now: u64) -> bool {
        if self.shared.failed.load(Relaxed) || self.shared.enough.load(Relaxed) {
            return true;
        }
        let end = self.end();
        if now < end {
            return self.pacer.is_spent() && self.in_flight == 0;
        }
        (self.in_flight == 0 && !self.pacer.has_to_send(end))
            || now >= end.saturating_add(self.shared.drain)
    }

    /// Whether nothing listens, or nothing listens any longer.
    fn is_hopeless(&self, now: u64) -> bool {
        let mut connections = self.connections.iter();
        let empty = |c: &Connection| matches!(c.state, State::Empty);
        if !connections.clone().any(Connection::cannot_connect)
            || !connections.all(|c| c.cannot_connect() || empty(c))
        {
            return false;
        }
        let within = match (self.shared.reached.load(Relaxed), self.end()) {
            (false, _) => REACH_WITHIN,
            // The requested number of responses will never arrive.
            (true, u64::MAX) => self.shared.plan.timeout,
            (true, _) => return false,
        };
        now.saturating_sub(self.progress) > within.as_nanos() as u64
    }

    /// Opens connections that wait to be opened and ends those that have waited too long. Returns the time until the
    /// next sweep.
    fn sweep(&mut self, now: u64) -> Duration {
        let timeout = self.shared.plan.timeout.as_nanos() as u64;
        let mut opened = 0;
        let mut waiting = false;
        for slot in 0..self.connections.len() {
            let connection = &self.connections[slot];
            match connection.state {
                State::Waiting(until) if until <= now && opened < OPENED_AT_ONCE => {
                    opened += 1;
                    self.open(slot);
                }
                State::Waiting(_) => waiting = true,
                _ => {
                    let since = connection.waits_since();
                    if since.is_some_and(|since| now.saturating_sub(since) > timeout) {
                        self.fail(slot, connection.phase(), Kind::Timeout);
                    } else if let Some(since) = connection.closing_since
                        && now.saturating_sub(since) > CLOSE_WITHIN.as_nanos() as u64
                    {
                        self.record.counts.close_ignored += 1;
                        self.reopen(slot);
                    } else if let Some(since) = connection.unasked_since
                        && now.saturating_sub(since) > CLOSE_WITHIN.as_nanos() as u64
                    {
                        unasked::ends(connection, &mut self.record);
                        self.reopen(slot);
                    }
                }
            }
        }
        match (opened == OPENED_AT_ONCE, waiting) {
            (true, true) => Duration::ZERO,
            (false, true) => SWEEP_WHILE_WAITING,
            _ => SWEEP.min(self.shared.plan.timeout / 4),
        }
    }

    /// Leaves the tally for the observer.
    fn tell(&mut self) {
        let tally = Tally {
            errors: self.record.errors_count(),
            connections_open: self.open,
            serial: self.record.serial,
        };
        self.shared.mailboxes[self.share.index].leave(tally, &mut self.record.response);
    }

    /// Gives a connection a new socket, and sends its first requests.
    fn open(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        connection.reset();
        let start = self.shared.now();
        if !self.pacer.wants_socket(start >= self.end()) {
            self.connections[slot].state = State::Empty;
            return;
        }
        let sources = &self.shared.sources;
        let source = (!sources.is_empty()).then(|| sources[self.sockets % sources.len()]);
        self.sockets += 1;
        let outcome = connect(self.shared.plan, source).and_then(|(mut stream, connected)| {
            let interest = match connected {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let registry = self.poll.registry();
            registry.register(&mut stream, Token(slot), interest)?;
            Ok((stream, connected))
        });
        match outcome {
            Ok((stream, true)) => self.established(slot, stream, start),
            Ok((stream, false)) => {
                self.connections[slot].state = State::Connecting(stream, start);
            }
            Err(error) => self.fail(slot, Phase::Connect, kind_of(&error)),
        }
    }

    fn established(&mut self, slot: usize, stream: TcpStream, since: u64) {
        let now = self.now();
        let plan = self.shared.plan;
        self.shared.reached.store(true, Relaxed);
        self.open += 1;
        self.record.counts.connections_opened += 1;
        self.record.counts.connections_open_max =
            self.record.counts.connections_open_max.max(self.open);
        let in_time = now >= self.begin && now < self.end();
        if in_time {
            self.record.counts.connections_in_time += 1;
            // In a run without a warm-up, the server is not to blame for connections that the generator has not opened yet.
            let from = match self.connections[slot].is_first_try() {
                true => since.min(self.begin),
                false => since,
            };
            self.record.busy_ns += (now - from) * plan.pipeline as u64;
        }
        if in_time || plan.life == ConnectionLife::KeepAlive {
            record_ns(&mut self.record.connect, now - since);
        }
        let connection = &mut self.connections[slot];
        connection.state = State::Open(stream);
        connection.used = true;
        connection.free_since = now;
        let times = self.times(now);
        let connection = &mut self.connections[slot];
        let offer = (self.pacer).established(plan, slot, connection, times, self.outstanding);
        self.take(slot, offer, times);
    }

    fn ready(&mut self, slot: usize, event: &Event) {
        let connection = &mut self.connections[slot];
        if let State::Connecting(..) = connection.state {
            return self.connecting(slot, event);
        }
        if event.is_writable() && !connection.unsent.is_empty() {
            self.flush(slot);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.receive(slot, event.is_read_closed() || event.is_error());
        }
    }

    /// A connect may have ended. On Linux the event itself shows the outcome: while the connect is in progress, the
    /// socket is not writable, and an error sets its own bit.
    fn connecting(&mut self, slot: usize, event: &Event) {
        let connection = &mut self.connections[slot];
        match std::mem::replace(&mut connection.state, State::Empty) {
            State::Connecting(stream, _) if event.is_error() => {
                let error = stream.take_error().unwrap_or_else(Some);
                let kind = error.map_or(Kind::Other, |error| kind_of(&error));
                self.fail(slot, Phase::Connect, kind);
            }
            State::Connecting(stream, since) if event.is_writable() => {
                self.established(slot, stream, since);
            }
            state => connection.state = state,
        }
    }

    /// A connection can take requests: sends what the pacer has for it.
    #[inline]
    fn offer(&mut self, slot: usize, now: u64) {
        let times = self.times(now);
        let connection = &mut self.connections[slot];
        let offer = (self.pacer).offer(self.shared.plan, slot, connection, times, self.outstanding);
        self.take(slot, offer, times);
    }

    fn take(&mut self, slot: usize, offer: Offer, times: Times) {
        match offer {
            Offer::Now(count) => self.write(slot, count, times.now, times.now, times.counts()),
            Offer::Later => {}
            // A server that waits for this close can serve other connections.
            Offer::NothingMore if !times.is_over() || self.shared.end_told.load(Relaxed) => {
                self.close(slot);
            }
            Offer::NothingMore => self.leaving.push(slot),
        }
    }

    /// The times for an offer to a connection on which something happened at `now`.
    #[inline]
    fn times(&self, now: u64) -> Times {
        Times {
            begin: self.begin,
            end: self.end(),
            // In closed loop, the time taken to handle responses must not count for the server.
            now: match self.pacer.is_open() {
                true => now,
                false => self.now(),
            },
        }
    }

    /// Sends the requests that are due, as far as connections are free.
    #[inline]
    fn send_due(&mut self) {
        while let Some(step) = self.pacer.step(&mut self.connections, self.shared) {
            match step {
                Step::Send { slot, intended } => self.send_late(slot, intended),
                Step::Open(slot) => self.open(slot),
            }
        }
    }

    /// Sends the request that was due at `intended`.
    fn send_late(&mut self, slot: usize, intended: u64) {
        let now = self.now();
        let lag = now - intended;
        let connection = &mut self.connections[slot];
        let possible_at = intended.max(connection.free_since);
        let own = std::mem::take(&mut connection.opened_late) + (now - possible_at);
        let counts = intended >= self.begin;
        if counts {
            record_ns(&mut self.record.lag, lag);
            record_ns(&mut self.record.lag_own, own.min(lag));
            self.record.counts.sent_in_time += u64::from(now < self.end());
        }
        self.write(slot, 1, intended, now, counts);
    }

    /// Writes the next `count` requests, meant to be sent at `intended`.
    fn write(&mut self, slot: usize, count: u64, intended: u64, now: u64, counts: bool) {
        let (unsent, number) = self.requests.take(count as usize);
        let connection = &mut self.connections[slot];
        connection.sent += count;
        self.outstanding += count;
        connection.unsent = unsent;
        connection.in_flight.push_back(Sent {
            intended,
            at: now,
            count,
            number,
            counts,
        });
        if counts {
            self.record.counts.requests += count;
            self.in_flight += count;
        } else {
            self.record.counts.warmup_requests += count;
        }
        self.flush(slot);
    }

    fn flush(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let State::Open(stream) = &mut connection.state else {
            return;
        };
        while !connection.unsent.is_empty() {
            match stream.write(self.requests.bytes(connection.unsent.clone())) {
                Ok(n) => connection.unsent.start += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let registry = self.poll.registry();
                    if let Err(error) = registry.reregister(stream, Token(slot), interest) {
                        self.fail(slot, Phase::Send, kind_of(&error));
                    }
                    return;
                }
                Err(error) => return self.fail(slot, Phase::Send, kind_of(&error)),
            }
        }
    }

    /// Reads what has arrived. `ends`: the peer has shut down its side, and no further event will report it.
    fn receive(&mut self, slot: usize, ends: bool) {
        // Taken out, so that methods of this worker can process its contents.
        let mut buffer = std::mem::take(&mut self.buffer);
        while let State::Open(stream) = &mut self.connections[slot].state {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.ended(slot);
                    break;
                }
                Ok(n) => {
                    let goes_on = self.received(slot, &buffer[..n]);
                    if !goes_on || (n < buffer.len() && !ends) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    match self.connections[slot].in_flight.is_empty() {
                        true => self.ended_unasked(slot, kind_of(&error) == Kind::Reset),
                        false => self.fail(slot, self.connections[slot].phase(), kind_of(&error)),
                    }
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes the responses in `input` and sends the next requests. Returns whether the socket is still the same.
    fn received(&mut self, slot: usize, mut input: &[u8]) -> bool {
        let now = self.now();
        self.progress = now;
        self.hear(now);
        if now >= self.begin {
            self.record.counts.bytes_received += input.len() as u64;
        }
        let mut is_behind = false;
        while !input.is_empty() {
            let connection = &mut self.connections[slot];
            if connection.in_flight.is_empty() {
                match unasked::take(connection, &mut self.record, input, is_behind, now) {
                    Unasked::Skipped if is_behind => break,
                    Unasked::Skipped | Unasked::Waits => return true,
                    Unasked::Ended => {
                        self.reopen(slot);
                        return false;
                    }
                }
            }
            match connection.reader.take(input) {
                Taken::Complete(response, used) => {
                    input = &input[used..];
                    is_behind = true;
                    if !self.response_complete(slot, response, now) {
                        if !input.is_empty() && !response.switches {
                            unasked::left_over(&mut self.record, input);
                        }
                        return false;
                    }
                }
                Taken::Incomplete => {
                    // Empty lines before a response are not part of it.
                    if !connection.reader.is_between() {
                        connection.first_byte_at.get_or_insert(now);
                    }
                    break;
                }
                Taken::Malformed => {
                    if self.record.misread.is_none() {
                        self.record.misread = connection.reader.misread().cloned();
                    }
                    self.fail(slot, Phase::Body, Kind::Malformed);
                    return false;
                }
            }
        }
        self.offer(slot, now);
        true
    }

    /// Something arrived, or the run is over.
    #[inline]
    fn hear(&mut self, now: u64) {
        if now.saturating_sub(self.heard) >= self.silences.least_ns() {
            self.silence_ends(now);
        }
        self.heard = now;
    }

    #[cold]
    fn silence_ends(&mut self, now: u64) {
        let awaited = (self.pacer).awaited_since(self.heard, now, self.outstanding);
        let since_begin = |time: u64| time.clamp(self.begin, self.end()) - self.begin;
        if self.begin < self.end() && now > self.begin && self.heard < self.end() {
            let (from, to) = (since_begin(self.heard), since_begin(now));
            self.silences.push(from, to, since_begin(awaited));
        }
    }

    /// The peer has shut down its side.
    fn ended(&mut self, slot: usize) {
        let now = self.now();
        self.hear(now);
        let connection = &mut self.connections[slot];
        if connection.in_flight.is_empty() {
            return self.ended_unasked(slot, false);
        }
        let in_body = connection.reader.in_body();
        match connection.reader.end() {
            Some(response) => {
                self.response_complete(slot, response, now);
            }
            None if in_body => self.fail(slot, Phase::Body, Kind::ShortBody),
            None => {
                let phase = connection.phase();
                self.fail(slot, phase, Kind::ClosedEarly);
            }
        }
    }

    /// The connection has ended with no request in flight, which a server may do at any time.
    fn ended_unasked(&mut self, slot: usize, is_reset: bool) {
        let now = self.now();
        let connection = &self.connections[slot];
        if let Some(since) = connection.closing_since {
            self.close_honoured = true;
            self.record.busy_ns += now - since;
        } else if connection.unasked_since.is_some() {
            unasked::ends(connection, &mut self.record);
        } else if is_reset {
            self.record.unsolicited.resets += 1;
        }
        self.reopen(slot);
    }

    /// Counts a response. Returns whether its connection continues; if not, it has been replaced.
    fn response_complete(&mut self, slot: usize, response: Response, now: u64) -> bool {
        if response.status == 408
            && unasked::answers_nothing(&self.connections[slot], &mut self.record, response)
        {
            self.fail(slot, Phase::FirstByte, Kind::ClosedEarly);
            return false;
        }
        self.responses += 1;
        let in_window = now >= self.begin && now < self.shared.end();
        self.record.counts.answered_in_window += u64::from(in_window);
        let connection = &mut self.connections[slot];
        connection.succeeded();
        connection.answered += 1;
        let first_byte_at = connection.first_byte_at.take().unwrap_or(now);
        let Some(front) = connection.in_flight.front_mut() else {
            return true;
        };
        let sent = *front;
        front.count -= 1;
        front.number = self.requests.after(sent.number);
        if front.count == 0 {
            connection.in_flight.pop_front();
        }
        let answered = connection.answered;
        self.outstanding -= 1;
        self.record.answered_ns_max = self.record.answered_ns_max.max(now - sent.at);
        if !sent.counts {
            self.record.counts.answered_of_warmup += u64::from(in_window);
            self.record.counts.warmup_responses += u64::from(now < self.begin);
        }
        if sent.counts {
            self.in_flight -= 1;
            self.count(slot, sent, response, first_byte_at, now);
        }
        let plan = self.shared.plan;
        let life_is_over = plan.life == ConnectionLife::Requests(answered);
        if response.persists && !life_is_over {
            return true;
        }
        if response.switches {
            self.record.counts.protocol_switches += 1;
        } else if !life_is_over {
            self.record.closes_announced.add(answered);
        }
        let connection = &mut self.connections[slot];
        if !connection.in_flight.is_empty() {
            // Requests pipelined after a response that ends its connection are lost.
            self.fail(slot, Phase::FirstByte, Kind::BehindClose);
        } else if plan.server_closes
            && matches!(connection.state, State::Open(_))
            && (self.close_honoured || self.record.counts.close_ignored < CLOSES_AWAITED)
        {
            connection.closing_since = Some(now);
            return true;
        } else {
            self.reopen(slot);
        }
        false
    }

    /// Counts a response to a counted request.
    #[inline]
    fn count(&mut self, slot: usize, sent: Sent, response: Response, first_byte_at: u64, now: u64) {
        let record = &mut self.record;
        let response_ns = now - sent.intended;
        record.counts.responses += 1;
        record_ns(&mut record.response, response_ns);
        record_ns(&mut record.first_byte, first_byte_at - sent.at);
        record.serial.push(response_ns as f64);
        record.series.push(now - self.begin, response_ns);
        record.busy_ns += now - sent.at;
        if self.pacer.is_open() {
            record_ns(&mut record.service, now - sent.at);
        }
        let end = self.shared.end();
        record.counts.responses_in_time += u64::from(sent.at < end);
        // A connection that is served only after the others are gone has starved.
        record.responses_by_connection[slot] += u64::from(now < end);
        self.status[usize::from(response.status)] += 1;
        if !self.shared.plan.is_good_status(response.status) {
            record.errors(Phase::Body, Kind::BadStatus, 1);
        } else if !response.as_expected || !self.shared.has_usual_length(sent.number, response) {
            record.errors(Phase::Body, Kind::WrongBody, 1);
        } else {
            record.counts.good += 1;
        }
    }

    /// Counts a failure, once for each request that it cost, and gives the connection a new socket, if necessary
    /// after a delay.
    fn fail(&mut self, slot: usize, phase: Phase, kind: Kind) {
        let now = self.now();
        let connection = &self.connections[slot];
        if matches!(kind, Kind::ClosedEarly | Kind::Reset) && !connection.in_flight.is_empty() {
            self.record.closes_unannounced.add(connection.answered);
        }
        let mut lost = 0;
        for sent in connection.in_flight.iter().filter(|sent| sent.counts) {
            lost += sent.count;
            self.record.busy_ns += sent.count * (now - sent.at);
            if kind == Kind::Timeout {
                // The response would have taken even longer. If it were left out, the slowest server would look best.
                let service_ns = Some(now - sent.at);
                self.record
                    .lower_bound(now - sent.intended, service_ns, sent.count);
            }
        }
        self.in_flight -= lost;
        if kind != Kind::Timeout {
            self.hear(now);
        }
        let costs_no_request = matches!(phase, Phase::Connect | Phase::Close);
        self.record
            .errors(phase, kind, lost.max(u64::from(costs_no_request)));
        self.close(slot);
        if phase != Phase::Connect && !self.vacate(slot) {
            return;
        }
        let delay = self.connections[slot].back_off(phase);
        match delay {
            Duration::ZERO => self.open(slot),
            delay => {
                let until = self.now() + delay.as_nanos() as u64;
                self.connections[slot].state = State::Waiting(until);
            }
        }
    }

    /// Closes a connection and gives it a new socket, if one is needed.
    fn reopen(&mut self, slot: usize) {
        self.close(slot);
        if self.vacate(slot) {
            self.open(slot);
        }
    }

    /// Returns whether the slot of a closed connection gets a new socket at once.
    fn vacate(&mut self, slot: usize) -> bool {
        let connection = &mut self.connections[slot];
        (self.pacer).vacated(slot, connection, self.shared, self.outstanding)
    }

    /// Closes the connections that waited until the end was reported.
    fn leave(&mut self) {
        for slot in std::mem::take(&mut self.leaving) {
            if self.connections[slot].in_flight.is_empty() {
                self.close(slot);
            }
        }
    }

    /// Closes the socket and leaves the slot empty.
    fn close(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        self.outstanding -= connection.in_flight_count();
        connection.reset();
        if let State::Open(stream) = std::mem::replace(&mut connection.state, State::Empty) {
            self.open -= 1;
            connection::close(stream, self.shared.plan.close);
        }
    }

    fn finish(mut self) -> io::Result<Part> {
        let now = self.now();
        let at_end = match self.usage_at_end.take() {
            Some(used) => used,
            None => self.used()?,
        };
        let at_begin = self.usage_at_begin.take();
        self.pulse.beat(now);
        let end = self.end().min(now);
        self.hear(now);
        if now < self.end() && now > self.begin {
            // From now on this thread awaits nothing, however long other threads continue.
            self.silences.push(now - self.begin, u64::MAX, u64::MAX);
        }
        self.record.silences = Some(std::mem::take(&mut self.silences));
        for connection in &self.connections {
            for sent in connection.in_flight.iter().filter(|sent| sent.counts) {
                self.record.counts.in_flight_at_end += sent.count;
                self.record.busy_ns += sent.count * end.saturating_sub(sent.at);
                let service_ns = Some(now - sent.at);
                self.record
                    .lower_bound(now - sent.intended, service_ns, sent.count);
            }
            // Includes the warm-up: a connection that has starved since then starves.
            let oldest = connection.in_flight.front();
            let age = oldest.map(|sent| Duration::from_nanos(now - sent.at));
            self.record.oldest_unanswered = self.record.oldest_unanswered.max(age);
            // The server may have accepted a connection that was not reported here in time.
            if let State::Connecting(stream, since) = &connection.state {
                match stream.peer_addr() {
                    Ok(_) => self.record.counts.connections_opened += 1,
                    Err(_) => {
                        let age = Duration::from_nanos(now - since);
                        self.record.counts.connecting_at_end += 1;
                        self.record.counts.connecting_slowly_at_end +=
                            u64::from(age >= SLOW_CONNECT);
                        self.record.oldest_connecting =
                            self.record.oldest_connecting.max(Some(age));
                    }
                }
            }
        }
        let times = Times {
            begin: self.begin,
            end,
            now,
        };
        let spin_s = (self.pacer).finish(&mut self.record, &self.connections, times);
        for (status, &count) in (0..).zip(&self.status) {
            if count > 0 {
                self.record.status.insert(status, count);
            }
        }
        let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
        let switches = |usage: &Usage| {
            (usage.voluntary_context_switches() + usage.involuntary_context_switches()) as u64
        };
        // A run that ended during the warm-up has used nothing in the counted time.
        let at_begin = at_begin.as_ref().unwrap_or(&at_end);
        let (used, before) = (&at_end.usage, &at_begin.usage);
        let pauses = self.pulse.pauses(self.begin, end);
        let begin = self.begin;
        Ok(Part {
            record: self.record,
            finished: now,
            connections: self.connections,
            span: Duration::from_nanos(at_end.at - at_begin.at),
            cost: ClientCost {
                cpu_user_s: seconds(used.user_time() - before.user_time()),
                cpu_system_s: seconds(used.system_time() - before.system_time()),
                spin_s,
                context_switches: switches(used) - switches(before),
                run_delay_s: (at_end.reading.delayed_since(&at_begin.reading))
                    .map(|ns| ns as f64 / 1e9),
                stopped_s: (pauses.iter())
                    .map(|pause| (pause.to - pause.from - pause.delayed_ns) as f64 / 1e9)
                    .sum(),
                // Includes pauses after the end: during these, nothing was read.
                pauses: (self.pulse.pauses(begin, now).iter())
                    .map(|pause| (pause.from - begin, pause.to - begin))
                    .collect(),
                ..ClientCost::default()
            },
        })
    }
}
