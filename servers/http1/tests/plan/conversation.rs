//! A running conversation, together with its expected outcome.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use http1::{Limits, Next, Timeout};

use super::neighbour::Neighbour;
use super::{Ending, Step};
use crate::peer::{Peer, head, hello, refusal};
use crate::reference::{Persistence, Request};

pub(super) struct Conversation<'i> {
    peer: Peer,
    neighbour: Neighbour,
    limits: Limits,
    input: &'i [u8],
    requests: &'i [Request],
    /// How many bytes of the input were read.
    read: usize,
    /// The request that is being read.
    current: usize,
    /// All expected answers up to here, and the number of final ones among them.
    due: Vec<u8>,
    answers: u64,
    stage: Stage,
    /// The peer has shut its side.
    ended: bool,
    drain_until: Option<Instant>,
    /// When the peer had been sent all answers; at first, when it was accepted.
    told: Instant,
    /// When the current request began, and its body.
    begun: Instant,
    body_begun: Instant,
    /// When output began to wait and how much, and when the connection was last called.
    output_since: Instant,
    output_bytes: usize,
    touched: Instant,
    shut: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The last answer has been given.
    Last,
    Lingering,
    Closed,
}

/// What a connection waits for.
#[derive(Debug, PartialEq, Eq)]
enum Within {
    Nothing,
    /// A request, after a CR that may be half of an empty line: no head has begun yet.
    LoneCr,
    Head,
    /// The rest of a body, and how many bytes of it have arrived.
    Body(u64),
}

impl<'i> Conversation<'i> {
    pub(super) fn new(limits: Limits, input: &'i [u8], requests: &'i [Request]) -> Self {
        let peer = Peer::new(limits);
        let now = peer.now.instant;
        let this = Conversation {
            neighbour: Neighbour::new(&peer),
            peer,
            limits,
            input,
            requests,
            read: 0,
            current: 0,
            due: Vec::new(),
            answers: 0,
            stage: Stage::Open,
            ended: false,
            drain_until: None,
            told: now,
            begun: now,
            body_begun: now,
            output_since: now,
            output_bytes: 0,
            touched: now,
            shut: now,
        };
        this.check();
        this
    }

    pub(super) fn go_on(&mut self, step: Step) {
        match step {
            Step::Read(bytes) => {
                while self.peer.connection.next() == Next::Write {
                    self.write(usize::MAX);
                }
                if self.peer.connection.next() == Next::Read {
                    self.read(bytes);
                }
            }
            Step::Again(_) => unreachable!("unfolded"),
            Step::Write(bytes_max) => {
                if self.peer.connection.next() == Next::Write {
                    self.write(bytes_max);
                }
            }
            Step::Wait(time) => self.peer.wait(time),
            Step::TimeOut => {
                if self.peer.connection.next() != Next::Close {
                    self.time_out();
                }
            }
            Step::End => {
                if self.peer.connection.next() == Next::Read {
                    self.shut_side_of_peer();
                }
            }
            Step::Drain(time) => self.drain(time),
            Step::Neighbour => self.neighbour.go_on(&mut self.peer),
        }
    }

    /// Continues until the connection is closed, and returns all answers.
    pub(super) fn end(mut self, ending: Ending) -> Vec<u8> {
        let mut timeouts = 0;
        loop {
            match self.peer.connection.next() {
                Next::Write if ending != Ending::Dead => self.write(usize::MAX),
                Next::Read if ending == Ending::Shut => self.shut_side_of_peer(),
                Next::Close => break,
                _ => {
                    timeouts += 1;
                    assert!(timeouts <= 2, "time has no end");
                    self.time_out();
                }
            }
        }
        self.neighbour.check();
        let answers = self.answers + self.neighbour.asked;
        assert_eq!(self.peer.requests(), answers, "answers are counted");
        self.peer.received
    }

    fn read(&mut self, bytes: usize) {
        let piece = self.read..self.input.len().min(self.read + bytes);
        if piece.is_empty() {
            return;
        }
        let full = piece.len() == self.peer.scratch.space().len();
        let rest = self.peer.send_once(&self.input[piece.clone()]);
        assert!(rest.is_empty(), "a read is no larger than the space for it");
        self.read = piece.end;
        self.touched = self.peer.now.instant;
        if self.stage == Stage::Open {
            self.owe_answers(piece.start, full);
        }
        self.output_begins();
        self.after();
    }

    /// The expected answers to the bytes from `start`, which were just read.
    fn owe_answers(&mut self, start: usize, full: bool) {
        let end = self.read;
        while let Some(request) = self.requests.get(self.current) {
            if request.begins >= start {
                self.begun = self.touched;
            }
            if let Some(body) = request.body
                && (start + 1..=end).contains(&body.begins)
            {
                self.body_begun = self.touched;
                if body.awaited && body.begins == end {
                    self.due.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
            }
            let answer = request.answer.as_ref();
            let Some(answer) = answer.filter(|answer| answer.at <= end) else {
                return;
            };
            // While draining, the last request that has arrived gets the last answer.
            let drained = self.drain_until.is_some() && answer.at == end && !full;
            let persistence = match drained {
                true => Persistence::Close,
                false => answer.persistence,
            };
            self.owe(&answer.statuses, persistence);
            self.current += 1;
            if persistence == Persistence::Close {
                self.stage = Stage::Last;
                return;
            }
        }
    }

    /// The answer with one of these statuses, the one that was given.
    fn owe(&mut self, statuses: &[&'static str], persistence: Persistence) {
        let before = self.due.len() - self.peer.received.len();
        let given = self.peer.connection.output().get(before..);
        let line = given.and_then(|given| given.strip_prefix(b"HTTP/1.1 "));
        let is_given =
            |status: &&&str| line.is_some_and(|line| line.starts_with(status.as_bytes()));
        let status = *statuses.iter().find(is_given).unwrap_or(&statuses[0]);
        let connection = match persistence {
            Persistence::Implied => "",
            Persistence::KeepAlive => "Connection: keep-alive\r\n",
            Persistence::Close => "Connection: close\r\n",
        };
        let head_only = self.request().is_some_and(|request| {
            let begun = self.input.get(request.begins..self.read);
            begun.is_some_and(|begun| begun.starts_with(b"HEAD "))
        });
        let answer = match status {
            _ if head_only => head(status, connection),
            "200 OK" => hello(connection),
            "204 No Content" => head(status, connection),
            "405 Method Not Allowed" => refusal(
                status,
                &format!("Allow: GET, HEAD, OPTIONS\r\n{connection}"),
            ),
            _ => refusal(status, connection),
        };
        self.due.extend(answer.into_bytes());
        self.answers += 1;
    }

    fn output_begins(&mut self) {
        self.output_bytes = self.peer.connection.output().len();
        if self.output_bytes > 0 {
            self.output_since = self.touched;
        }
    }

    fn write(&mut self, bytes_max: usize) {
        self.peer.take_output(bytes_max);
        self.touched = self.peer.now.instant;
        if self.peer.connection.output().is_empty() {
            self.told = self.touched;
        }
        self.after();
    }

    fn shut_side_of_peer(&mut self) {
        let Peer {
            connection,
            scratch,
            now,
            ..
        } = &mut self.peer;
        connection.received(scratch, 0, *now);
        self.ended = true;
        if self.stage == Stage::Lingering {
            self.stage = Stage::Closed;
        }
        self.after();
    }

    fn drain(&mut self, time: Duration) {
        self.peer.drain(time);
        if self.drain_until.is_none() {
            self.touched = self.peer.now.instant;
            self.drain_until = Some(self.touched + time);
        }
        self.after();
    }

    fn time_out(&mut self) {
        let writing = !self.peer.connection.output().is_empty();
        let expected = match (self.stage, self.within()) {
            _ if writing => Timeout::Write,
            (Stage::Open, Within::Nothing | Within::LoneCr) => Timeout::Idle,
            (Stage::Open, Within::Head) => Timeout::Header,
            (Stage::Open, Within::Body(_)) => Timeout::Body,
            _ => Timeout::Linger,
        };
        let count = |this: &Self| Timeout::ALL.map(|kind| this.peer.tally.timeouts(kind));
        let before = count(self);
        let timeout = self.peer.time_out();
        self.touched = self.peer.now.instant;
        assert_eq!(timeout, expected);
        let counted = u64::from(timeout != Timeout::Idle || self.drain_until.is_none());
        let mut after = before;
        after[timeout as usize] += counted;
        assert_eq!(count(self), after, "{timeout:?} is counted once");
        match timeout {
            Timeout::Header | Timeout::Body => {
                self.owe(&["408 Request Timeout"], Persistence::Close);
                self.stage = Stage::Last;
                self.output_begins();
            }
            Timeout::Idle | Timeout::Write | Timeout::Linger => {
                self.due.truncate(self.peer.received.len());
                self.stage = Stage::Closed;
            }
        }
        self.after();
    }

    /// Does what the owner does without waiting for the peer, and checks the outcome.
    fn after(&mut self) {
        self.check();
        if self.peer.connection.next() == Next::ShutdownWrite {
            let (scratch, now) = (&self.peer.scratch, self.peer.now);
            self.peer.connection.write_is_shut(scratch, now);
            self.peer.shut = true;
            self.shut = self.peer.now.instant;
            self.stage = Stage::Lingering;
            self.check();
        }
    }

    fn check(&self) {
        let connection = &self.peer.connection;
        let output = connection.output();
        // The received bytes were in the output before.
        let due = &self.due[self.peer.received.len()..];
        assert!(
            output.len() == due.len() && (due.is_empty() || output == due),
            "answered\n{}\ninstead of\n{}",
            String::from_utf8_lossy(output),
            String::from_utf8_lossy(due)
        );
        let next = match self.stage {
            _ if !output.is_empty() => Next::Write,
            Stage::Open | Stage::Last if self.ended => Next::Close,
            Stage::Open | Stage::Lingering => Next::Read,
            Stage::Last => Next::ShutdownWrite,
            Stage::Closed => Next::Close,
        };
        assert_eq!(connection.next(), next, "{:?}", self.stage);

        assert!(
            output.len() <= 32 * 1024,
            "{} bytes of output",
            output.len()
        );
        // A buffer that grows may be twice as large as its contents.
        let held_max = match self.within() {
            _ if self.stage == Stage::Closed => usize::MAX,
            _ if !output.is_empty() => 2 * 32 * 1024,
            Within::Head | Within::LoneCr if self.stage == Stage::Open => {
                2 * (self.limits.head_bytes_max + 4096)
            }
            _ => 0,
        };
        let held = connection.bytes_held();
        assert!(held <= held_max, "{held} bytes held in {:?}", self.within());
        if matches!(next, Next::Read | Next::Write) {
            let (deadline, due) = (connection.deadline(), self.deadlines());
            assert!(
                due.contains(&deadline),
                "{:?} from now instead of {:?} within {:?}",
                deadline - self.peer.now.instant,
                *due.end() - self.peer.now.instant,
                self.within()
            );
        }
    }

    /// The allowed range of the deadline; usually it is a single moment.
    fn deadlines(&self) -> RangeInclusive<Instant> {
        let limits = &self.limits;
        let at_rate = |bytes: u64| Duration::from_secs(bytes / limits.bytes_per_s_min);
        if self.peer.connection.next() == Next::Write {
            let all = limits.idle_timeout + at_rate(self.output_bytes as u64);
            let at = (self.output_since + all).min(self.touched + limits.idle_timeout);
            return at..=at;
        }
        if self.stage == Stage::Lingering {
            let at = self.shut + limits.linger_timeout;
            return at..=at;
        }
        let idle = self.told + limits.idle_timeout;
        let (earliest, latest) = match self.within() {
            Within::Nothing | Within::LoneCr => (idle, idle),
            Within::Head => {
                let at = self.begun.max(self.told) + limits.header_timeout;
                (at, at)
            }
            Within::Body(bytes) => {
                let at = self.body_begun.max(self.told) + limits.header_timeout;
                let body = self.request().and_then(|request| request.body);
                match body.and_then(|body| body.length) {
                    Some(_) => (at + at_rate(bytes), at + at_rate(bytes)),
                    // Only content extends the deadline, but this count includes the framing.
                    None => (at, at + at_rate(bytes)),
                }
            }
        };
        let until = self.drain_until.unwrap_or(latest);
        earliest.min(until)..=latest.min(until)
    }

    fn within(&self) -> Within {
        match self.request().filter(|request| request.begins < self.read) {
            Some(Request {
                body: Some(body), ..
            }) if body.begins <= self.read => Within::Body((self.read - body.begins) as u64),
            Some(request) if self.input[request.begins..self.read] != *b"\r" => Within::Head,
            _ if self.input[self.answered()..self.read].ends_with(b"\r") => Within::LoneCr,
            _ => Within::Nothing,
        }
    }

    /// The request that is being read, or will be read next.
    fn request(&self) -> Option<&'i Request> {
        self.requests.get(self.current)
    }

    /// Where the last request that was answered ends.
    fn answered(&self) -> usize {
        let answered = self.requests[..self.current].last();
        let answer = answered.and_then(|request| request.answer.as_ref());
        answer.map_or(0, |answer| answer.at)
    }
}
