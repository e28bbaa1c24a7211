use std::mem;
use std::time::{Duration, Instant, SystemTime};

use crate::body::{Body, Taken};
use crate::request::{self, Expectation, Head, Method, Parsed};
use crate::response::{Persistence, Responder, Status};
use crate::scratch::Scratch;
use crate::{Limits, Timeout};

/// The conversation with one peer: its incomplete request, the answers not yet sent, and what comes next.
///
/// Between requests it holds no buffer: input is read into the [`Scratch`] of the thread that serves it, and the
/// buffer of an answer returns there once the answer is sent.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// The start of a head that is incomplete.
    pending: Vec<u8>,
    /// Answers; `output[..written]` has been sent.
    output: Vec<u8>,
    written: usize,
    /// The peer has shut its side: no more input will come.
    ended: bool,
    /// The server is stopping and waits for input until this time. The answer to the last request that has
    /// arrived is the last answer.
    drain_until: Option<Instant>,
    /// When the phase began; `pending_since` and `output_since` say when those buffers were last filled.
    since: Instant,
    pending_since: Instant,
    output_since: Instant,
    deadline: Instant,
}

/// The present time on both clocks, as read by the caller.
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
    /// Read into [`Scratch::space`], then call [`Connection::received`].
    Read,
    /// Write from [`Connection::output`], then call [`Connection::sent`].
    Write,
    /// Call `shutdown(SHUT_WR)`, then [`Connection::write_is_shut`]. Closing at once would reset the connection if
    /// the peer still sends, and the peer could lose the answer before reading it (9112 §9.6).
    ShutdownWrite,
    /// Close the socket; the conversation is over.
    Close,
}

#[derive(Debug)]
enum Phase {
    /// Between requests, or inside a head.
    Head,
    /// Inside a body; its request is answered after it.
    Body(Head, Body),
    /// The last answer is in the output; the write side is shut after it.
    LastAnswer,
    /// Input is discarded until the peer closes.
    Linger,
    /// To be closed as soon as the output is sent.
    Closed,
}

impl Connection {
    /// The state of a newly accepted connection.
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

    /// What the owner has to do next. Only the methods that take `&mut self` change it.
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

    /// The time until which the peer may take over what [`next`](Self::next) asks for.
    #[inline]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Processes `n` bytes that were read into [`Scratch::space`]; 0 means that the peer shut its side.
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
            // A read that filled the buffer may have left bytes in the socket.
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

    /// Notes that `n` bytes of [`output`](Self::output) were written.
    pub fn sent(&mut self, scratch: &mut Scratch, n: usize, now: Now) {
        self.written += n;
        if !self.is_writing() {
            self.drop_output(scratch);
            // The peer's time for its next request begins when it has been sent all answers.
            (self.since, self.pending_since) = (now.instant, now.instant);
        }
        self.renew_deadline(&scratch.limits, now.instant);
    }

    /// Notes that the write side is shut.
    pub fn write_is_shut(&mut self, scratch: &Scratch, now: Now) {
        self.since = now.instant;
        self.phase = Phase::Linger;
        self.renew_deadline(&scratch.limits, now.instant);
    }

    /// Notes that the server is stopping. Requests that have arrived are answered, the last of them with
    /// `Connection: close`. If none has, the connection waits for one more request until `until`.
    pub fn drain(&mut self, scratch: &Scratch, until: Instant, now: Now) {
        if self.drain_until.is_none() {
            self.drain_until = Some(until);
            self.renew_deadline(&scratch.limits, now.instant);
        }
    }

    /// Handles a deadline that has passed. An incomplete request is answered with 408 (9110 §15.5.9); in all other
    /// cases the connection is closed without an answer. Returns which timeout it was.
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
        // An idle connection that ends because the server stops has not timed out.
        if timeout != Timeout::Idle || self.drain_until.is_none() {
            scratch.responder.tally.timed_out(timeout);
        }
        timeout
    }

    /// Bytes of heap that this connection holds; none while it waits for the next request.
    #[doc(hidden)]
    pub fn bytes_held(&self) -> usize {
        self.pending.capacity() + self.output.capacity()
    }

    fn is_writing(&self) -> bool {
        self.written < self.output.len()
    }

    /// Whether part of a head has arrived. A CR may be half of an empty line, which does not count.
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

    /// Continues a head that was incomplete. It is parsed again only when a line has ended or a limit is reached,
    /// not for every byte that trickles in.
    fn take_more_of_a_head(&mut self, fresh: &[u8], desk: &Desk<'_>) {
        let before = self.pending.len();
        self.pending.extend_from_slice(fresh);
        let after = self.pending.len();
        let line_ended = fresh.contains(&b'\n');
        // The longest request line may be followed by the CR LF that ends it.
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

    /// Answers the requests in `input`. Returns the rest: the start of a head, or nothing.
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

    /// Handles a complete head, which `rest` follows: answers it, or reads its body first.
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
                // Not needed if the body has arrived already (9110 §10.1.1).
                if head.expectation == Expectation::Continue && rest.is_empty() {
                    Responder::go_on(&mut self.output);
                }
                self.since = desk.now;
                self.phase = Phase::Body(*head, body);
            }
            Err(status) => self.refuse(status, head_only, desk.responder),
        }
    }

    /// Handles a complete request, which `rest` follows: appends its answer to the output.
    fn answer(&mut self, head: &Head, rest: &[u8], desk: &Desk<'_>) {
        // While draining, only the answer to the last request that has arrived says `close`.
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

    /// Answers with an error and ends the conversation, because the start of the next request is unknown.
    fn refuse(&mut self, status: Status, head_only: bool, responder: &Responder) {
        responder.refuse(&mut self.output, status, Persistence::Close, head_only);
        self.pending = Vec::new();
        self.phase = Phase::LastAnswer;
    }
}

/// What is needed to answer, besides the connection.
struct Desk<'a> {
    limits: &'a Limits,
    responder: &'a Responder,
    now: Instant,
    /// The socket may hold input that was not read.
    may_be_more: bool,
}

/// Whether a request is a HEAD: its answer has no body, even if it is a refusal (9112 §6.3).
fn is_head(input: &[u8]) -> bool {
    input.starts_with(b"HEAD ")
}

impl Limits {
    /// The time that this many bytes may take at the lowest allowed rate.
    fn time_for(&self, bytes: u64) -> Duration {
        Duration::from_secs(bytes / self.bytes_per_s_min.max(1))
    }
}
