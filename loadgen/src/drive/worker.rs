//! One thread of a run: a mio poll and the connections that fell to it.
//!
//! A request is written at once and only its response is waited for: two system calls a request, and
//! its share of a wait that many connections have in common. Readiness for writing is watched only
//! after a socket has taken no more.

use std::io::{self, Read as _, Write as _};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::machine::pin_thread;
use crate::plan::{ConnectionLife, Limit};
use crate::record::{ClientCost, Kind, Phase, Record, record_ns};
use crate::response::{Response, Taken};

use super::connection::{Connection, Sent, State, connect, kind_of};
use super::{Part, Share, Shared};

pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    share: Share,
    poll: Poll,
    connections: Vec<Connection>,
    /// As many requests as may be in flight on one connection, one after another.
    requests: Vec<u8>,
    /// Requests that may still be sent.
    budget: u64,
    /// What one read takes at the most. A read that takes less has emptied the socket.
    buffer: Vec<u8>,
    record: Record,
    /// Whole responses by status; the map of the record is too slow to be kept up here.
    status: Vec<u64>,
    /// Length of the first body, which all others are held against.
    body_bytes: Option<u64>,
    open: u64,
    /// From when on requests count, nanoseconds since the start.
    begin: u64,
    /// When a response last came.
    progress: u64,
}

const BUFFER_BYTES: usize = 64 * 1024;
const STATUSES: usize = 1000;

/// How often connections are looked through for timeouts, and for those that wait to be opened.
const SWEEP: Duration = Duration::from_millis(100);
const SWEEP_WHILE_WAITING: Duration = Duration::from_millis(5);

/// With no connection established by then, nobody is there.
const REACH_WITHIN: Duration = Duration::from_millis(500);

impl<'a> Worker<'a> {
    /// To be called on the thread that runs it, which it pins.
    pub(super) fn new(shared: &'a Shared<'a>, share: Share) -> io::Result<Self> {
        let plan = shared.plan;
        if !plan.cpus.is_empty() {
            pin_thread(&[plan.cpus[share.index % plan.cpus.len()]])?;
        }
        Ok(Worker {
            shared,
            share,
            poll: Poll::new()?,
            connections: (0..share.connections)
                .map(|_| Connection::new(plan))
                .collect(),
            requests: plan.requests[0].repeat(plan.pipeline),
            budget: share.requests,
            buffer: vec![0; BUFFER_BYTES],
            record: Record::new(share.connections),
            status: vec![0; STATUSES],
            body_bytes: None,
            open: 0,
            begin: (shared.begin - shared.start).as_nanos() as u64,
            progress: 0,
        })
    }

    pub(super) fn run(mut self) -> io::Result<Part> {
        let mut events = Events::with_capacity(1024);
        let end = self.shared.end.map(|end| self.since_start(end));
        let mut usage_at_begin = None;
        let mut next_sweep = 0;
        loop {
            let now = self.now();
            if usage_at_begin.is_none() && now >= self.begin {
                usage_at_begin = Some(getrusage(UsageWho::RUSAGE_THREAD)?);
            }
            if end.is_some_and(|end| now >= end) || self.shared.is_interrupted() {
                break;
            }
            if now >= next_sweep {
                self.sweep(now);
                if self.is_over(now) {
                    break;
                }
                let waiting = |c: &Connection| matches!(c.state, State::Waiting(_));
                let pause = match self.connections.iter().any(waiting) {
                    true => SWEEP_WHILE_WAITING,
                    false => SWEEP.min(self.shared.plan.timeout / 4),
                };
                next_sweep = now + pause.as_nanos() as u64;
            }
            let until = [
                Some(next_sweep),
                end,
                usage_at_begin.is_none().then_some(self.begin),
            ];
            let until = until.into_iter().flatten().min().unwrap_or(next_sweep);
            match self.poll.poll(
                &mut events,
                Some(Duration::from_nanos(until.saturating_sub(now))),
            ) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => outcome?,
            }
            for event in &events {
                self.ready(event.token().0, event);
            }
            if self.budget == 0 && self.is_over(now) {
                break;
            }
        }
        let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
        Ok(self.finish(&usage, &usage_at_begin.unwrap_or(usage)))
    }

    fn now(&self) -> u64 {
        self.shared.start.elapsed().as_nanos() as u64
    }

    fn since_start(&self, time: std::time::Instant) -> u64 {
        (time - self.shared.start).as_nanos() as u64
    }

    /// Whether nothing more can come of going on.
    fn is_over(&self, now: u64) -> bool {
        let all = |test: fn(&Connection) -> bool| self.connections.iter().all(test);
        if self.shared.failed.load(Relaxed) || all(|c| matches!(c.state, State::Finished)) {
            return true;
        }
        if !all(Connection::cannot_connect) {
            return false;
        }
        let within = match (self.shared.reached.load(Relaxed), self.shared.plan.limit) {
            (false, _) => REACH_WITHIN,
            (true, Limit::Requests(_)) => self.shared.plan.timeout,
            (true, Limit::For(_) | Limit::Until(_)) => return false,
        };
        now.saturating_sub(self.progress) > within.as_nanos() as u64
    }

    /// Opens what waits to be opened and ends what has waited too long.
    fn sweep(&mut self, now: u64) {
        let timeout = self.shared.plan.timeout.as_nanos() as u64;
        for slot in 0..self.connections.len() {
            let connection = &self.connections[slot];
            match connection.state {
                State::Waiting(until) if until <= now => self.open(slot),
                _ => {
                    let since = connection.waits_since();
                    if since.is_some_and(|since| now.saturating_sub(since) > timeout) {
                        self.fail(slot, connection.phase(), Kind::Timeout);
                    }
                }
            }
        }
    }

    /// Gives a connection a new socket, and the socket its first requests.
    fn open(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        connection.reset();
        if self.budget == 0 {
            connection.state = State::Finished;
            return;
        }
        let start = self.now();
        let outcome = connect(self.shared.plan, self.share.first_slot + slot).and_then(
            |(mut stream, connected)| {
                let interest = match connected {
                    true => Interest::READABLE,
                    false => Interest::READABLE | Interest::WRITABLE,
                };
                let registry = self.poll.registry();
                registry.register(&mut stream, Token(slot), interest)?;
                Ok((stream, connected))
            },
        );
        match outcome {
            Ok((stream, true)) => self.established(slot, stream, start),
            Ok((stream, false)) => {
                self.connections[slot].state = State::Connecting(stream, start);
            }
            Err(error) => self.fail(slot, Phase::Connect, kind_of(&error)),
        }
    }

    fn established(&mut self, slot: usize, stream: TcpStream, since: u64) {
        let connect_ns = self.now() - since;
        self.shared.reached.store(true, Relaxed);
        self.open += 1;
        self.record.connections_open_max = self.record.connections_open_max.max(self.open);
        let connection = &mut self.connections[slot];
        connection.state = State::Open(stream);
        connection.connect_ns = Some(connect_ns);
        self.send(slot);
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

    /// A connect that was in progress has ended. Linux says how in the event itself: while it goes on
    /// the socket is not writable, and an error comes with its own bit.
    fn connecting(&mut self, slot: usize, event: &Event) {
        let connection = &mut self.connections[slot];
        match std::mem::replace(&mut connection.state, State::Finished) {
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

    /// Sends as many requests as may be in flight on this connection.
    fn send(&mut self, slot: usize) {
        let plan = self.shared.plan;
        let now = self.now();
        let connection = &mut self.connections[slot];
        if !connection.unsent.is_empty() {
            return;
        }
        let room = plan.pipeline as u64 - connection.in_flight_count();
        let life = match plan.life {
            ConnectionLife::KeepAlive => u64::MAX,
            ConnectionLife::Requests(all) => all - connection.sent,
        };
        let count = room.min(life).min(self.budget);
        if count == 0 {
            if connection.in_flight.is_empty() {
                // The budget is spent; waiting servers get on with other connections.
                self.close(slot);
            }
            return;
        }
        connection.sent += count;
        connection.in_flight.push_back(Sent { at: now, count });
        if now >= self.begin {
            self.budget -= count;
            self.record.requests += count;
            if let Some(connect_ns) = connection.connect_ns.take() {
                self.record.connections_opened += 1;
                record_ns(&mut self.record.connect, connect_ns);
                self.record.busy_ns += connect_ns * plan.pipeline as u64;
            }
        } else {
            self.record.warmup_requests += count;
        }
        connection.unsent = 0..count as usize * plan.requests[0].len();
        self.flush(slot);
    }

    fn flush(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let State::Open(stream) = &mut connection.state else {
            return;
        };
        while !connection.unsent.is_empty() {
            match stream.write(&self.requests[connection.unsent.clone()]) {
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

    /// Reads what has come. `ends`: the peer has shut its side, which no further event will say.
    fn receive(&mut self, slot: usize, ends: bool) {
        // Out of the way, so that what is in it can be handled by methods of this worker.
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
                    self.fail(slot, self.connections[slot].phase(), kind_of(&error));
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Takes the responses in `input` and sends the next requests. Says whether the socket is still
    /// the same.
    fn received(&mut self, slot: usize, mut input: &[u8]) -> bool {
        let now = self.now();
        self.progress = now;
        if now >= self.begin {
            self.record.bytes_received += input.len() as u64;
        }
        while !input.is_empty() {
            let connection = &mut self.connections[slot];
            if connection.in_flight.is_empty() {
                // More than was asked for.
                self.fail(slot, Phase::Close, Kind::Malformed);
                return false;
            }
            connection.first_byte_at.get_or_insert(now);
            match connection.reader.take(input) {
                Taken::Complete(response, used) => {
                    input = &input[used..];
                    if !self.response_complete(slot, response, now) {
                        return false;
                    }
                }
                Taken::Incomplete => break,
                Taken::Malformed => {
                    self.fail(slot, Phase::Body, Kind::Malformed);
                    return false;
                }
            }
        }
        self.send(slot);
        true
    }

    /// The peer has shut its side.
    fn ended(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        match connection.reader.end() {
            Some(response) => {
                let now = self.now();
                self.response_complete(slot, response, now);
            }
            // Between two requests a server may close as it likes.
            None if connection.in_flight.is_empty() => self.reopen(slot),
            None => {
                let phase = connection.phase();
                self.fail(slot, phase, Kind::ClosedEarly);
            }
        }
    }

    /// Counts a response. Says whether its connection goes on; if not, it has been replaced.
    fn response_complete(&mut self, slot: usize, response: Response, now: u64) -> bool {
        let connection = &mut self.connections[slot];
        connection.succeeded();
        connection.answered += 1;
        let first_byte_at = connection.first_byte_at.take().unwrap_or(now);
        let Some(sent) = connection.in_flight.front_mut() else {
            return true;
        };
        let sent_at = sent.at;
        sent.count -= 1;
        if sent.count == 0 {
            connection.in_flight.pop_front();
        }
        let answered = connection.answered;
        if sent_at >= self.begin {
            self.record.responses += 1;
            self.record.responses_by_connection[slot] += 1;
            self.record.busy_ns += now - sent_at;
            record_ns(&mut self.record.response, now - sent_at);
            record_ns(&mut self.record.first_byte, first_byte_at - sent_at);
            self.status[usize::from(response.status)] += 1;
            self.judge(response);
        }
        let life_is_over = self.shared.plan.life == ConnectionLife::Requests(answered);
        if !response.persists || life_is_over {
            // Requests pipelined behind an answer that ends its connection are lost.
            if self.connections[slot].in_flight.is_empty() {
                self.reopen(slot);
            } else {
                self.fail(slot, Phase::FirstByte, Kind::ClosedEarly);
            }
            return false;
        }
        true
    }

    fn judge(&mut self, response: Response) {
        if response.status >= 400 {
            self.record.errors(Phase::Body, Kind::BadStatus, 1);
        } else if *self.body_bytes.get_or_insert(response.body_bytes) != response.body_bytes {
            self.record.errors(Phase::Body, Kind::WrongBody, 1);
        } else {
            self.record.good += 1;
        }
    }

    /// Counts a failure, once for each request that it cost, and gives the connection a new socket in
    /// good time.
    fn fail(&mut self, slot: usize, phase: Phase, kind: Kind) {
        let connection = &self.connections[slot];
        let counted = (connection.in_flight.iter()).filter(|sent| sent.at >= self.begin);
        let lost: u64 = counted.map(|sent| sent.count).sum();
        let costs_no_request = matches!(phase, Phase::Connect | Phase::Close);
        let count = lost.max(u64::from(costs_no_request));
        self.record.errors(phase, kind, count);
        self.close(slot);
        let delay = self.connections[slot].back_off(phase);
        match delay {
            Duration::ZERO => self.open(slot),
            delay => {
                let until = self.now() + delay.as_nanos() as u64;
                self.connections[slot].state = State::Waiting(until);
            }
        }
    }

    /// Ends a connection in good order and gives it a new socket.
    fn reopen(&mut self, slot: usize) {
        self.close(slot);
        self.open(slot);
    }

    /// Closes the socket, which sends a FIN: the generator is the one to keep TIME_WAIT.
    fn close(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if let State::Open(_) = connection.state {
            self.open -= 1;
        }
        connection.reset();
        connection.state = State::Finished;
    }

    fn finish(mut self, usage: &Usage, usage_at_begin: &Usage) -> Part {
        let now = self.now();
        for connection in &self.connections {
            let counted = (connection.in_flight.iter()).filter(|sent| sent.at >= self.begin);
            self.record.in_flight_at_end += counted.map(|sent| sent.count).sum::<u64>();
            // Those of the warm-up too: who starves since then starves.
            let oldest = connection.in_flight.front();
            let age = oldest.map(|sent| Duration::from_nanos(now - sent.at));
            self.record.oldest_unanswered = self.record.oldest_unanswered.max(age);
        }
        for (status, &count) in (0..).zip(&self.status) {
            if count > 0 {
                self.record.status.insert(status, count);
            }
        }
        let duration = Duration::from_nanos(now.saturating_sub(self.begin));
        let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
        let switches = |usage: &Usage| {
            (usage.voluntary_context_switches() + usage.involuntary_context_switches()) as u64
        };
        let cpu_user_s = seconds(usage.user_time() - usage_at_begin.user_time());
        let cpu_system_s = seconds(usage.system_time() - usage_at_begin.system_time());
        let busy = (cpu_user_s + cpu_system_s) / duration.as_secs_f64();
        Part {
            record: self.record,
            duration,
            cost: ClientCost {
                cpu_user_s,
                cpu_system_s,
                cpus: None,
                context_switches: switches(usage) - switches(usage_at_begin),
                busiest_thread: if busy.is_finite() { busy } else { 0.0 },
                ..ClientCost::default()
            },
        }
    }
}
