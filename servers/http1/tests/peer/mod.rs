//! A peer in memory: it drives a [`Connection`] as a server would, and keeps the answers.

#![allow(dead_code)] // Each test file uses its own part of this.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http1::{Connection, Limits, Next, Now, Scratch, Tally, Timeout};

/// The `Date` of every answer in these tests (the example of 9110 §5.6.7).
pub(crate) const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) scratch: Scratch,
    pub(crate) tally: Arc<Tally>,
    /// All bytes of answers so far.
    pub(crate) received: Vec<u8>,
    /// The server has shut its side.
    pub(crate) shut: bool,
    /// The most bytes that one write takes.
    pub(crate) write_bytes_max: usize,
    /// The largest output that was waiting at any time.
    pub(crate) output_bytes_max: usize,
    pub(crate) now: Now,
}

impl Peer {
    pub(crate) fn new(limits: Limits) -> Self {
        let now = Now {
            instant: Instant::now(),
            wall: wall(),
        };
        let tally = Arc::new(Tally::default());
        let scratch = Scratch::new(limits, Arc::clone(&tally));
        Peer {
            connection: Connection::new(&scratch, now),
            scratch,
            tally,
            received: Vec::new(),
            shut: false,
            write_bytes_max: usize::MAX,
            output_bytes_max: 0,
            now,
        }
    }

    /// Lets this much time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now.instant += time;
    }

    /// Sends bytes while the server reads, and takes its answers.
    pub(crate) fn send(&mut self, mut bytes: &[u8]) {
        self.settle();
        while !bytes.is_empty() && self.connection.next() == Next::Read {
            bytes = self.send_once(bytes);
            self.settle();
        }
    }

    /// Lets the server read once; returns the bytes that did not fit.
    pub(crate) fn send_once<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let space = self.scratch.space();
        let n = space.len().min(bytes.len());
        space[..n].copy_from_slice(&bytes[..n]);
        // Bytes that another connection left in the buffer must not matter.
        let left = space.len().min(n + 64);
        space[n..left].fill(b'\n');
        self.connection.received(&mut self.scratch, n, self.now);
        &bytes[n..]
    }

    /// Shuts the peer's side.
    pub(crate) fn end(&mut self) {
        self.settle();
        if self.connection.next() == Next::Read {
            self.connection.received(&mut self.scratch, 0, self.now);
            self.settle();
        }
    }

    /// Does everything that does not wait for the peer.
    pub(crate) fn settle(&mut self) {
        loop {
            match self.connection.next() {
                Next::Write => self.take_output(self.write_bytes_max),
                Next::ShutdownWrite => {
                    assert!(!self.shut, "shut twice");
                    self.shut = true;
                    self.connection.write_is_shut(&self.scratch, self.now);
                }
                Next::Read | Next::Close => return,
            }
        }
    }

    /// Lets the server write once, at most this many bytes.
    pub(crate) fn take_output(&mut self, bytes_max: usize) {
        let output = self.connection.output();
        assert!(!output.is_empty(), "a write of nothing");
        assert!(!self.shut, "a write after the shutdown");
        self.output_bytes_max = self.output_bytes_max.max(output.len());
        let n = output.len().min(bytes_max);
        self.received.extend_from_slice(&output[..n]);
        self.connection.sent(&mut self.scratch, n, self.now);
    }

    /// How much longer the server waits for this peer.
    pub(crate) fn patience(&self) -> Duration {
        self.connection.deadline() - self.now.instant
    }

    /// Lets the deadline pass.
    pub(crate) fn time_out(&mut self) -> Timeout {
        self.now.instant = self.now.instant.max(self.connection.deadline());
        self.connection.timed_out(&mut self.scratch, self.now)
    }

    /// Stops the server, which waits this long for a further request.
    pub(crate) fn drain(&mut self, time: Duration) {
        let until = self.now.instant + time;
        self.connection.drain(&self.scratch, until, self.now);
    }

    /// The number of requests answered so far, including refusals.
    pub(crate) fn requests(&self) -> u64 {
        self.tally.responses().map(|(_, count)| count).sum()
    }

    /// Whether no further request will be answered.
    pub(crate) fn is_over(&self) -> bool {
        self.shut || self.connection.next() == Next::Close
    }
}

fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// The head of an answer with its `Date` and the given header lines.
pub(crate) fn head(status: &str, headers: &str) -> String {
    match status {
        "204 No Content" => {
            format!(
                "HTTP/1.1 {status}\r\nAllow: GET, HEAD, OPTIONS\r\nDate: {DATE}\r\n{headers}\r\n"
            )
        }
        _ => {
            let length = match status {
                "200 OK" => "hello world".len(),
                _ => status.len() + 1,
            };
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
                 Date: {DATE}\r\n{headers}\r\n"
            )
        }
    }
}

/// `200 OK` with its body.
pub(crate) fn hello(headers: &str) -> String {
    head("200 OK", headers) + "hello world"
}

/// A refusal with its body.
pub(crate) fn refusal(status: &str, headers: &str) -> String {
    head(status, headers) + status + "\n"
}

/// A refusal after which the server closes.
pub(crate) fn last_refusal(status: &str) -> String {
    refusal(status, "Connection: close\r\n")
}

/// The status codes in `answers`, split by their framing. Panics if they are malformed.
pub(crate) fn statuses(mut answers: &[u8], head_only: impl Fn(usize) -> bool) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !answers.is_empty() {
        let text = String::from_utf8_lossy(answers);
        let (head, _) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status: u16 = head["HTTP/1.1 ".len()..][..3].parse().expect("a status");
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("Content-Length: "));
        let length = match (status, length) {
            (100 | 204, None) => 0,
            (_, Some(_)) if head_only(statuses.len()) => 0,
            (_, Some(length)) => length.parse().expect("a length"),
            _ => panic!("no length: {head}"),
        };
        answers = &answers[head.len() + 4 + length..];
        statuses.push(status);
    }
    statuses
}
