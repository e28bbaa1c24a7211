use std::time::{Duration, Instant, SystemTime};

use crate::Limits;
use crate::body::{Body, Taken};
use crate::request::{self, Expectation, Head, Method, Parsed};
use crate::response::{self, Date, Persistence, Status};

/// One peer's conversation: its input so far, its answers not yet sent, and what follows.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    phase: Phase,
    /// Received and not yet taken: `input[start..end]`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// Answers, of which `output[..written]` is sent.
    output: Vec<u8>,
    written: usize,
    /// No more input will come: the peer has shut its side.
    ended: bool,
    /// The next answer is the last one.
    draining: bool,
    requests: u64,
    date: Date,
    /// When the phase began, and when the peer last took bytes of an answer.
    since: Instant,
    sent_at: Instant,
}

/// A moment on both clocks, read by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For the `Date` of answers.
    pub wall: SystemTime,
}

/// What the owner of a [`Connection`] does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read into [`Connection::space`], then tell [`Connection::received`].
    Read,
    /// Write from [`Connection::output`], then tell [`Connection::sent`].
    Write,
    /// `shutdown(SHUT_WR)`, then tell [`Connection::write_is_shut`]: closing at once would reset the
    /// connection and could destroy the answer before the peer has read it (9112 §9.6).
    ShutdownWrite,
    /// Close the socket; the conversation is over.
    Close,
}

/// What a peer did not do in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// No byte of a next request.
    Idle,
    /// A head or a body begun and not completed.
    Request,
    /// An answer not taken.
    Write,
    /// A closed connection not closed by the peer.
    Linger,
}

#[derive(Debug)]
enum Phase {
    /// Between requests, or within a head.
    Head,
    /// Within a body; the answer follows it.
    Body(Head, Body),
    /// The last answer stands in the output; the write side is shut after it.
    LastAnswer,
    /// Input is thrown away until the peer closes.
    Linger,
    /// Closed as soon as the output is sent.
    Closed,
}

/// The first size of the input buffer: larger than any usual request, so that a read which fills
/// less of it has emptied the socket.
const INPUT_BYTES: usize = 4096;

/// Answers to pipelined requests wait for each other up to so many bytes, then they are written.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

impl Connection {
    /// A connection just accepted.
    pub fn new(limits: Limits, now: Now) -> Self {
        Connection {
            phase: Phase::Head,
            input: vec![0; INPUT_BYTES.min(limits.head_bytes_max)],
            start: 0,
            end: 0,
            output: Vec::with_capacity(256),
            written: 0,
            ended: false,
            draining: false,
            requests: 0,
            date: Date::new(),
            since: now.instant,
            sent_at: now.instant,
            limits,
        }
    }

    /// What to do next. Changes only by what is told.
    #[inline]
    pub fn next(&self) -> Next {
        if self.written < self.output.len() {
            return Next::Write;
        }
        match self.phase {
            Phase::Head | Phase::Body(..) if self.ended => Next::Close,
            Phase::Head | Phase::Body(..) | Phase::Linger => Next::Read,
            Phase::LastAnswer => Next::ShutdownWrite,
            Phase::Closed => Next::Close,
        }
    }

    /// Where the next input goes; never empty after [`Next::Read`].
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        if self.end == self.input.len() {
            self.make_space();
        }
        &mut self.input[self.end..]
    }

    /// Takes `n` bytes just read into [`space`](Self::space); 0 says that the peer shut its side.
    pub fn received(&mut self, n: usize, now: Now) {
        if n == 0 {
            self.ended = true;
            if matches!(self.phase, Phase::Linger) {
                self.phase = Phase::Closed;
            }
            return;
        }
        let fresh = self.end;
        self.end += n;
        match self.phase {
            Phase::Head if fresh > self.start => {
                // More of a head that was incomplete before. Unless a line ended or the buffer is
                // full, it still is: a head that trickles in is not read anew for every byte.
                let line_ended = self.input[fresh..self.end].contains(&b'\n');
                if line_ended || self.end - self.start >= self.limits.request_line_bytes_max {
                    self.process(now);
                }
            }
            Phase::Head => {
                self.since = now.instant;
                self.process(now);
            }
            _ => self.process(now),
        }
    }

    /// The bytes to write; never empty after [`Next::Write`].
    #[inline]
    pub fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// Takes note that `n` bytes of [`output`](Self::output) were written.
    pub fn sent(&mut self, n: usize, now: Now) {
        self.written += n;
        self.sent_at = now.instant;
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            if self.start < self.end {
                self.process(now);
            }
        }
    }

    /// Takes note that the write side is shut.
    pub fn write_is_shut(&mut self, now: Now) {
        self.since = now.instant;
        self.phase = match self.ended {
            true => Phase::Closed,
            false => Phase::Linger,
        };
    }

    /// From here on the next answer is the last one, and says so: the server is stopping.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Until when the peer may take over what [`next`](Self::next) asks for.
    pub fn deadline(&self) -> Instant {
        let limits = &self.limits;
        if self.written < self.output.len() {
            return self.sent_at.max(self.since) + limits.idle_timeout;
        }
        match &self.phase {
            Phase::Head if self.start == self.end => self.since + limits.idle_timeout,
            Phase::Head => self.since + limits.header_timeout,
            Phase::Body(_, body) => {
                let seconds = body.content() / limits.body_bytes_per_s_min.max(1);
                self.since + limits.header_timeout + Duration::from_secs(seconds)
            }
            Phase::LastAnswer | Phase::Linger | Phase::Closed => self.since + limits.linger_timeout,
        }
    }

    /// Called when the deadline has passed: a request that was begun is answered 408 (9110 §15.5.9),
    /// everything else ends without a word. Says what was missed.
    pub fn timed_out(&mut self, now: Now) -> Timeout {
        if self.written < self.output.len() {
            self.output.clear();
            self.written = 0;
            self.phase = Phase::Closed;
            return Timeout::Write;
        }
        match self.phase {
            Phase::Head if self.start == self.end => {
                self.phase = Phase::Closed;
                Timeout::Idle
            }
            Phase::Head | Phase::Body(..) => {
                self.date.renew(now.wall);
                self.refuse(Status::RequestTimeout, now);
                Timeout::Request
            }
            Phase::LastAnswer | Phase::Linger | Phase::Closed => {
                self.phase = Phase::Closed;
                Timeout::Linger
            }
        }
    }

    /// Requests answered so far, refusals among them.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Answers everything that stands in the input.
    fn process(&mut self, now: Now) {
        self.date.renew(now.wall);
        while self.start < self.end && self.output.len() < OUTPUT_BYTES_MAX {
            let input = &self.input[self.start..self.end];
            match &mut self.phase {
                Phase::Head => match request::parse(input, &self.limits) {
                    Parsed::Request { head, used } => {
                        self.start += used;
                        self.begin(head, now);
                    }
                    Parsed::Incomplete => break,
                    Parsed::Invalid(status) => self.refuse(status, now),
                },
                Phase::Body(head, body) => match body.take(input) {
                    Taken::Complete(used) => {
                        let head = *head;
                        self.start += used;
                        self.answer(&head, now);
                    }
                    Taken::Incomplete => self.start = self.end,
                    Taken::Invalid(status) => self.refuse(status, now),
                },
                Phase::LastAnswer => break,
                Phase::Linger | Phase::Closed => self.start = self.end,
            }
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// A head is complete: answers it, or reads its body first.
    fn begin(&mut self, head: Head, now: Now) {
        if head.expectation == Expectation::Unknown {
            return self.refuse(Status::ExpectationFailed, now);
        }
        let Some(framing) = head.body else {
            return self.answer(&head, now);
        };
        let (content_max, overhead_max) = (self.limits.body_bytes_max, self.limits.head_bytes_max);
        match Body::new(framing, content_max, overhead_max) {
            Ok(body) => {
                // Needless where the body is here already (9110 §10.1.1).
                if head.expectation == Expectation::Continue && self.start == self.end {
                    self.output.extend_from_slice(response::CONTINUE);
                }
                self.since = now.instant;
                self.phase = Phase::Body(head, body);
            }
            Err(status) => self.refuse(status, now),
        }
    }

    /// A request is complete: its answer joins the output.
    fn answer(&mut self, head: &Head, now: Now) {
        self.requests += 1;
        let persists = head.persists && !self.draining;
        let persistence = match (persists, head.one_dot_zero) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::Implied,
        };
        let (output, date) = (&mut self.output, &self.date);
        match head.method {
            Method::Get => response::hello(output, date, persistence, false),
            Method::Head => response::hello(output, date, persistence, true),
            Method::Options => response::options(output, date, persistence),
            Method::Refused => {
                response::refusal(output, date, persistence, Status::MethodNotAllowed);
            }
            Method::Unknown => {
                response::refusal(output, date, persistence, Status::NotImplemented);
            }
        }
        self.since = now.instant;
        self.phase = match persists {
            true => Phase::Head,
            // The peer said that it sends nothing after this request and all of that is read, so
            // closing resets nothing.
            false if !head.persists && self.start == self.end => Phase::Closed,
            false => Phase::LastAnswer,
        };
    }

    /// Answers with an error and ends the conversation: where the next request would begin is not
    /// known.
    fn refuse(&mut self, status: Status, now: Now) {
        self.requests += 1;
        response::refusal(&mut self.output, &self.date, Persistence::Close, status);
        self.since = now.instant;
        self.start = 0;
        self.end = 0;
        self.phase = Phase::LastAnswer;
    }

    /// Moves what is left to the front, else lets the buffer grow up to the longest head.
    #[cold]
    fn make_space(&mut self) {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else {
            let size = (self.input.len() * 2).min(self.limits.head_bytes_max.max(INPUT_BYTES));
            self.input.resize(size, 0);
        }
    }
}
