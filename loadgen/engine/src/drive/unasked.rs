//! What a server says on a connection on which nothing is in flight: it answers no request that may follow
//! (RFC 9112 §9.2), and costs none. But for empty lines, the connection is not used again.

use crate::record::{Kind, Phase};
use crate::response::{Misread, Reader, Response, Rule, Taken};

use super::worker::Worker;

/// What becomes of the connection.
pub(super) enum Unasked {
    /// It stays as it was.
    Skipped,
    /// It waits for the rest of what is being said.
    Waits,
    /// It has been replaced.
    Replaced,
}

impl Worker<'_> {
    /// Takes bytes that nobody asked for. `is_behind`: they came in one go with a response.
    #[cold]
    pub(super) fn unasked(
        &mut self,
        slot: usize,
        input: &[u8],
        is_behind: bool,
        now: u64,
    ) -> Unasked {
        let connection = &mut self.connections[slot];
        match connection.reader.take(input) {
            Taken::Incomplete if connection.reader.is_between() => {
                self.record.unsolicited.empty_lines += lines(input);
                return Unasked::Skipped;
            }
            Taken::Incomplete => {
                connection.unasked_since.get_or_insert(now);
                // In open loop it is in the queue of those that can take a request.
                connection.idle = false;
                return Unasked::Waits;
            }
            Taken::Complete(response, _) => self.unasked_response(response.status),
            // A body that is longer than it says, not something that the server says by itself.
            Taken::Malformed if is_behind => {
                self.bytes_behind(input);
                self.reopen(slot);
                return Unasked::Replaced;
            }
            Taken::Malformed => {
                let misread = connection.reader.misread().cloned();
                self.unasked_bytes(misread);
            }
        }
        self.reopen(slot);
        Unasked::Replaced
    }

    /// The rest of what was being said will not come, or is no longer waited for.
    #[cold]
    pub(super) fn unasked_ends(&mut self, slot: usize) {
        let reader = &self.connections[slot].reader;
        match reader.status() {
            Some(status) => self.unasked_response(status),
            None => {
                let misread = Misread::new(Rule::StatusLine, reader.unread());
                self.unasked_bytes(Some(misread));
            }
        }
    }

    /// The connection has ended with nothing in flight, which a server may do as it likes.
    pub(super) fn ended_unasked(&mut self, slot: usize, is_reset: bool) {
        let now = self.now();
        let connection = &self.connections[slot];
        if let Some(since) = connection.closing_since {
            self.close_honoured = true;
            self.record.busy_ns += now - since;
        } else if connection.unasked_since.is_some() {
            self.unasked_ends(slot);
        } else if is_reset {
            self.record.unsolicited.resets += 1;
        }
        self.reopen(slot);
    }

    /// What came in one go with a response that ended its connection.
    #[cold]
    pub(super) fn left_over(&mut self, input: &[u8]) {
        let mut reader = Reader::new(false);
        match (reader.take(input), reader.status()) {
            (Taken::Complete(Response { status, .. }, _), _)
            | (Taken::Incomplete, Some(status)) => {
                self.unasked_response(status);
            }
            (Taken::Incomplete, None) if reader.is_between() => {
                self.record.unsolicited.empty_lines += lines(input);
            }
            _ => self.bytes_behind(input),
        }
    }

    /// Whether a 408 says that the request was not read: on a connection that was used before, it ends the
    /// wait for another request (RFC 9110 §15.5.9), and crossed with the one just sent. Browsers send that
    /// again on another connection; here it is lost, as if the connection had been closed without a word.
    #[cold]
    pub(super) fn answers_nothing(&mut self, slot: usize, response: Response) -> bool {
        let connection = &self.connections[slot];
        if response.persists || connection.answered == 0 {
            return false;
        }
        self.unasked_response(response.status);
        self.record.unsolicited.crossed += 1;
        self.fail(slot, Phase::FirstByte, Kind::ClosedEarly);
        true
    }

    fn unasked_response(&mut self, status: u16) {
        let by_status = &mut self.record.unsolicited.status;
        *by_status.entry(status).or_default() += 1;
    }

    fn unasked_bytes(&mut self, misread: Option<Misread>) {
        let unsolicited = &mut self.record.unsolicited;
        unsolicited.other += 1;
        unsolicited.misread = unsolicited.misread.take().or(misread);
    }

    fn bytes_behind(&mut self, input: &[u8]) {
        self.record.errors(Phase::Close, Kind::Malformed, 1);
        let misread = &mut self.record.misread;
        misread.get_or_insert_with(|| Misread::new(Rule::BytesBehind, input));
    }
}

/// Empty lines, however their bytes are split.
fn lines(input: &[u8]) -> u64 {
    input.iter().filter(|&&byte| byte == b'\n').count() as u64
}
