//! What a server says on a connection on which nothing is in flight: it answers no request that may follow
//! (RFC 9112 §9.2), and costs none. Except after empty lines, the connection is not used again.

use crate::record::{Kind, Phase, Record};
use crate::response::{Misread, Reader, Response, Rule, Taken};

use super::connection::Connection;

/// What becomes of the connection.
pub(super) enum Unasked {
    /// It stays as it was.
    Skipped,
    /// It waits for the rest of what is being said.
    Waits,
    /// It is not used again.
    Ended,
}

/// Takes bytes that nobody asked for. `is_behind`: they came in one go with a response.
#[cold]
pub(super) fn take(
    connection: &mut Connection,
    record: &mut Record,
    input: &[u8],
    is_behind: bool,
    now: u64,
) -> Unasked {
    match connection.reader.take(input) {
        Taken::Incomplete if connection.reader.is_between() => {
            record.unsolicited.empty_lines += lines(input);
            return Unasked::Skipped;
        }
        Taken::Incomplete => {
            connection.unasked_since.get_or_insert(now);
            // In open loop it is in the queue of those that can take a request.
            connection.idle = false;
            return Unasked::Waits;
        }
        Taken::Complete(response, _) => count_response(record, response.status),
        // A body that is longer than it says, not something that the server says by itself.
        Taken::Malformed if is_behind => count_bytes_behind(record, input),
        Taken::Malformed => count_bytes(record, connection.reader.misread().cloned()),
    }
    Unasked::Ended
}

/// The rest of what was being said will not come, or is no longer waited for.
#[cold]
pub(super) fn ends(connection: &Connection, record: &mut Record) {
    let reader = &connection.reader;
    match reader.status() {
        Some(status) => count_response(record, status),
        None => {
            let misread = Misread::new(Rule::StatusLine, reader.unread());
            count_bytes(record, Some(misread));
        }
    }
}

/// What came in one go with a response that ended its connection.
#[cold]
pub(super) fn left_over(record: &mut Record, input: &[u8]) {
    let mut reader = Reader::new(false);
    match (reader.take(input), reader.status()) {
        (Taken::Complete(Response { status, .. }, _), _) | (Taken::Incomplete, Some(status)) => {
            count_response(record, status);
        }
        (Taken::Incomplete, None) if reader.is_between() => {
            record.unsolicited.empty_lines += lines(input);
        }
        _ => count_bytes_behind(record, input),
    }
}

/// Whether a 408 says that the request was not read: on a connection that was used before, it ends the wait for
/// another request (RFC 9110 §15.5.9), and crossed with the one just sent. Browsers send that again on another
/// connection; here it is lost, as if the connection had been closed without a word.
#[cold]
pub(super) fn answers_nothing(
    connection: &Connection,
    record: &mut Record,
    response: Response,
) -> bool {
    if response.persists || connection.answered == 0 {
        return false;
    }
    count_response(record, response.status);
    record.unsolicited.crossed += 1;
    true
}

fn count_response(record: &mut Record, status: u16) {
    *record.unsolicited.status.entry(status).or_default() += 1;
}

fn count_bytes(record: &mut Record, misread: Option<Misread>) {
    let unsolicited = &mut record.unsolicited;
    unsolicited.other += 1;
    unsolicited.misread = unsolicited.misread.take().or(misread);
}

fn count_bytes_behind(record: &mut Record, input: &[u8]) {
    record.errors(Phase::Close, Kind::Malformed, 1);
    (record.misread).get_or_insert_with(|| Misread::new(Rule::BytesBehind, input));
}

/// Empty lines, however their bytes are split.
fn lines(input: &[u8]) -> u64 {
    input.iter().filter(|&&byte| byte == b'\n').count() as u64
}
