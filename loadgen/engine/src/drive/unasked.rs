//! Unsolicited messages on a connection with no request in flight: they answer no later request
//! (RFC 9112 §9.2), and no request is lost to them. Unless they are empty lines, the connection is
//! not used again.

use crate::record::{Kind, Phase};
use crate::response::{Misread, Reader, Response, Rule, Taken};

use super::worker::Worker;

/// What happens to the connection after an unsolicited message.
pub(super) enum Unasked {
    /// It continues as before.
    Skipped,
    /// It waits for the rest of the message.
    Waits,
    /// It was replaced.
    Replaced,
}

impl Worker<'_> {
    /// Handles unsolicited bytes. `is_behind`: they arrived together with a response.
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
                // In open loop it is in the queue of free connections.
                connection.idle = false;
                return Unasked::Waits;
            }
            Taken::Complete(response, _) => self.unasked_response(response.status),
            // A body that exceeds its stated length, not a message of its own.
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

    /// The rest of the message will not arrive, or is not awaited any longer.
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

    /// The connection ended with no request in flight, which a server may do at any time.
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

    /// Handles what arrived together with a response that ended its connection.
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

    /// Whether a 408 means that the request was not read. On a connection that was used before, it
    /// ends the wait for another request (RFC 9110 §15.5.9) and crossed with the one just sent.
    /// Browsers resend such a request on another connection; here it is lost, as if the connection
    /// had been closed without a response.
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

/// The number of empty lines, however their bytes are split.
fn lines(input: &[u8]) -> u64 {
    input.iter().filter(|&&byte| byte == b'\n').count() as u64
}
