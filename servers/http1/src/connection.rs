use std::mem;
use std::time::{Duration, Instant, SystemTime};

use crate::body::{Body, Taken};
use crate::request::{self, Expectation, Head, Method, Parsed};
use crate::response::{Persistence, Responder, Status};
use crate::scratch::Scratch;
use crate::{Limits, Timeout};

/// One peer's conversation: what it has begun to ask, the answers not yet sent, and what follows.
///
/// Between requests it holds no buffer at all: input is read into the [`Scratch`] of the thread that
/// serves it, and an answer goes back there once it is sent.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// The beginning of a head whose rest has not come yet.
    pending: Vec<u8>,
    /// Answers, of which `output[..written]` is sent.
    output: Vec<u8>,
    written: usize,
    /// No more input will come: the peer has shut its side.
    ended: bool,
    /// The server is stopping: the answer to the last request that has arrived is the last one, and
    /// further input is waited for until then.
    drain_until: Option<Instant>,
    /// When the phase began, `pending`, and `output`.
    since: Instant,
    pending_since: Instant,
    output_since: Instant,
    deadline: Instant,
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
    /// Read into [`Scratch::space`], then tell [`Connection::received`].
    Read,
    /// Write from [`Connection::output`], then tell [`Connection::sent`].
    Write,
    /// `shutdown(SHUT_WR)`, then tell [`Connection::write_is_shut`]: closing at once would reset the
    /// connection if the peer still sends, and could destroy the answer before it has read it
    /// (9112 §9.6).
    ShutdownWrite,
    /// Close the socket; the conversation is over.
    Close,
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

impl Connection {
    /// A connection just accepted.
    pub fn new(scratch: &Scratch, now: Now) -> Self {
        Connection {
            phase: Phase::Head,
            pending: Vec::new(),
            output: Vec::new(),
            written: 0,
            ended: false,
            drain_until: None,
            since: now.instant,
            pending_since: now.instant,
            output_since: now.instant,
            deadline: now.instant + scratch.limits.idle_timeout,
        }
    }

    /// What to do next. Changes only by what is told.
    #[inline]
    pub fn next(&self) -> Next {
        if self.is_writing() {
            return Next::Write;
        }
        match self.phase {
            Phase::Head | Phase::Body(..) | Phase::LastAnswer if self.ended => Next::Close,
            Phase::Head | Phase::Body(..) | Phase::Linger => Next::Read,
            Phase::LastAnswer => Next::ShutdownWrite,
            Phase::Closed => Next::Close,
        }
    }

    /// Until when the peer may take over what [`next`](Self::next) asks for.
    #[inline]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes the first `n` bytes of [`Scratch::space`], just read; 0 says that the peer shut its side.
    pub fn received(&mut self, scratch: &mut Scratch, n: usize, now: Now) {
        let Scratch {
            limits,
            input,
            spare,
            responder,
        } = scratch;
        if n == 0 {
            self.ended = true;
            if matches!(self.phase, Phase::Linger) {
                self.phase = Phase::Closed;
            }
            return;
        }
        responder.renew_date(now.wall);
        if self.output.capacity() == 0 {
            self.output = mem::take(spare);
        }
        let fresh = &input[..n];
        let desk = Desk {
            limits,
            responder,
            now: now.instant,
            // A read that filled all the space may have left something behind.
            may_be_more: n == input.len(),
        };
        if self.pending.is_empty() {
            let rest = self.take(fresh, &desk);
            if !rest.is_empty() {
                self.pending.extend_from_slice(rest);
                self.pending_since = now.instant;
            }
        } else {
            self.take_more_of_a_head(fresh, &desk);
        }
        if self.output.is_empty() {
            *spare = mem::take(&mut self.output);
        } else {
            self.output_since = now.instant;
        }
        self.renew_deadline(limits, now.instant);
    }

    /// The bytes to write; never empty after [`Next::Write`].
    #[inline]
    pub fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// Takes note that `n` bytes of [`output`](Self::output) were written.
    pub fn sent(&mut self, scratch: &mut Scratch, n: usize, now: Now) {
        self.written += n;
        if !self.is_writing() {
            self.drop_output(scratch);
            // The peer's time to go on begins when it has been told all.
            (self.since, self.pending_since) = (now.instant, now.instant);
        }
        self.renew_deadline(&scratch.limits, now.instant);
    }

    /// Takes note that the write side is shut.
    pub fn write_is_shut(&mut self, scratch: &Scratch, now: Now) {
        self.since = now.instant;
        self.phase = Phase::Linger;
        self.renew_deadline(&scratch.limits, now.instant);
    }

    /// The server is stopping. What has arrived is answered, the last of it with `Connection: close`;
    /// where nothing has, one more request may come, but is not waited for beyond `until`.
    pub fn drain(&mut self, scratch: &Scratch, until: Instant, now: Now) {
        if self.drain_until.is_none() {
            self.drain_until = Some(until);
            self.renew_deadline(&scratch.limits, now.instant);
        }
    }

    /// Called when the deadline has passed: a request that was begun is answered 408 (9110 §15.5.9),
    /// everything else ends without a word. Says what was missed.
    pub fn timed_out(&mut self, scratch: &mut Scratch, now: Now) -> Timeout {
        let timeout = if self.is_writing() {
            Timeout::Write
        } else {
            match self.phase {
                Phase::Head if !self.has_begun() => Timeout::Idle,
                Phase::Head => Timeout::Header,
                Phase::Body(..) => Timeout::Body,
                Phase::LastAnswer | Phase::Linger | Phase::Closed => Timeout::Linger,
            }
        };
        match timeout {
            Timeout::Header | Timeout::Body => {
                scratch.responder.renew_date(now.wall);
                let head_only = match &self.phase {
                    Phase::Body(head, _) => head.method == Method::Head,
                    _ => is_head(&self.pending),
                };
                self.refuse(Status::RequestTimeout, head_only, &scratch.responder);
                self.output_since = now.instant;
                self.renew_deadline(&scratch.limits, now.instant);
            }
            Timeout::Idle | Timeout::Write | Timeout::Linger => {
                self.drop_output(scratch);
                self.phase = Phase::Closed;
            }
        }
        // One that is idle while the server stops has missed nothing.
        if timeout != Timeout::Idle || self.drain_until.is_none() {
            scratch.responder.tally.timed_out(timeout);
        }
        timeout
    }

    /// Bytes of heap that it holds; none while it waits for a next request.
    #[doc(hidden)]
    pub fn bytes_held(&self) -> usize {
        self.pending.capacity() + self.output.capacity()
    }

    fn is_writing(&self) -> bool {
        self.written < self.output.len()
    }

    /// Part of a head is here. Half of an empty line before it is none.
    fn has_begun(&self) -> bool {
        !matches!(self.pending[..], [] | [b'\r'])
    }

    fn drop_output(&mut self, scratch: &mut Scratch) {
        self.output.clear();
        self.written = 0;
        scratch.spare = mem::take(&mut self.output);
    }

    fn renew_deadline(&mut self, limits: &Limits, now: Instant) {
        self.deadline = if self.is_writing() {
            let all = limits.idle_timeout + limits.time_for(self.output.len() as u64);
            (now + limits.idle_timeout).min(self.output_since + all)
        } else {
            let waited_for = match &self.phase {
                Phase::Head if !self.has_begun() => self.since + limits.idle_timeout,
                Phase::Head => self.pending_since + limits.header_timeout,
                Phase::Body(_, body) => {
                    self.since + limits.header_timeout + limits.time_for(body.content())
                }
                Phase::LastAnswer | Phase::Linger | Phase::Closed => {
                    self.since + limits.linger_timeout
                }
            };
            match (self.drain_until, &self.phase) {
                (Some(until), Phase::Head | Phase::Body(..)) => waited_for.min(until),
                _ => waited_for,
            }
        };
    }

    /// Goes on with a head that was incomplete before. Unless something was decided it still is, and is
    /// not read anew for every byte that trickles in.
    fn take_more_of_a_head(&mut self, fresh: &[u8], desk: &Desk<'_>) {
        let before = self.pending.len();
        self.pending.extend_from_slice(fresh);
        let after = self.pending.len();
        let line_ended = fresh.contains(&b'\n');
        // Behind the longest request line may stand the CR LF that ends it.
        let line_bytes_max = desk.limits.request_line_bytes_max;
        let line_too_long = after > line_bytes_max && before <= line_bytes_max + 2;
        if line_ended || line_too_long || after >= desk.limits.head_bytes_max {
            let mut pending = mem::take(&mut self.pending);
            let rest = self.take(&pending, desk).len();
            if rest > 0 {
                if rest < after {
                    pending.drain(..after - rest);
                    self.pending_since = desk.now;
                }
                self.pending = pending;
            }
        }
    }

    /// Answers what stands in `input`. Returns the rest: the beginning of a head, or nothing.
    fn take<'i>(&mut self, mut input: &'i [u8], desk: &Desk<'_>) -> &'i [u8] {
        loop {
            match &mut self.phase {
                Phase::Head => {
                    input = request::skip_empty_lines(input);
                    if input.is_empty() {
                        return input;
                    }
                    match request::parse(input, desk.limits) {
                        Parsed::Request { head, used } => {
                            input = &input[used..];
                            self.begin(&head, input, desk);
                        }
                        Parsed::Incomplete => return input,
                        Parsed::Invalid(status) => {
                            self.refuse(status, is_head(input), desk.responder);
                        }
                    }
                }
                Phase::Body(head, body) => match body.take(input) {
                    Taken::Complete(used) => {
                        let head = *head;
                        input = &input[used..];
                        self.answer(&head, input, desk);
                    }
                    Taken::Incomplete => return &[],
                    Taken::Invalid(status) => {
                        let head_only = head.method == Method::Head;
                        self.refuse(status, head_only, desk.responder);
                    }
                },
                Phase::LastAnswer | Phase::Linger | Phase::Closed => return &[],
            }
        }
    }

    /// A head is complete, and `rest` follows it: answers it, or reads its body first.
    fn begin(&mut self, head: &Head, rest: &[u8], desk: &Desk<'_>) {
        let head_only = head.method == Method::Head;
        if head.expectation == Expectation::Unknown {
            return self.refuse(Status::ExpectationFailed, head_only, desk.responder);
        }
        let Some(framing) = head.body else {
            return self.answer(head, rest, desk);
        };
        let (content_max, overhead_max) = (desk.limits.body_bytes_max, desk.limits.head_bytes_max);
        match Body::new(framing, content_max, overhead_max) {
            Ok(body) => {
                // Needless where the body is here already (9110 §10.1.1).
                if head.expectation == Expectation::Continue && rest.is_empty() {
                    Responder::go_on(&mut self.output);
                }
                self.since = desk.now;
                self.phase = Phase::Body(*head, body);
            }
            Err(status) => self.refuse(status, head_only, desk.responder),
        }
    }

    /// A request is complete, and `rest` follows it: its answer joins the output.
    fn answer(&mut self, head: &Head, rest: &[u8], desk: &Desk<'_>) {
        // Draining, whatever has arrived is answered; only then the peer is told.
        let drained = self.drain_until.is_some() && rest.is_empty() && !desk.may_be_more;
        let persists = head.persists && !drained;
        let persistence = match (persists, head.one_dot_zero) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::Implied,
        };
        desk.responder
            .answer(&mut self.output, head.method, persistence);
        self.since = desk.now;
        self.phase = match persists {
            true => Phase::Head,
            false => Phase::LastAnswer,
        };
    }

    /// Answers with an error and ends the conversation: where the next request would begin is not
    /// known.
    fn refuse(&mut self, status: Status, head_only: bool, responder: &Responder) {
        responder.refuse(&mut self.output, status, Persistence::Close, head_only);
        self.pending = Vec::new();
        self.phase = Phase::LastAnswer;
    }
}

/// What answering takes, beside the connection.
struct Desk<'a> {
    limits: &'a Limits,
    responder: &'a Responder,
    now: Instant,
    /// The socket may hold more input than was read.
    may_be_more: bool,
}

/// An answer to HEAD has no body, be it a refusal (9112 §6.3).
fn is_head(input: &[u8]) -> bool {
    input.starts_with(b"HEAD ")
}

impl Limits {
    /// The time that so many bytes may take at the lowest rate.
    fn time_for(&self, bytes: u64) -> Duration {
        Duration::from_secs(bytes / self.bytes_per_s_min.max(1))
    }
}
