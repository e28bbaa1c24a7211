//! Unsolicited messages on a connection with no request in flight: they answer no later request
//! (RFC 9112 §9.2), and no request is lost to them. Unless they are empty lines, the connection is
//! not used again.

use crate::record::{Kind, Phase, Record};
use crate::response::{Misread, Reader, Response, Rule, Taken};

use super::connection::Connection;

/// What happens to the connection after an unsolicited message.
pub(super) enum Unasked {
    /// It continues as before.
    Skipped,
    /// It waits for the rest of the message.
    Waits,
    /// It is not used again.
    Ended,
}

/// Handles unsolicited bytes. `is_behind`: they arrived together with a response.
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
            // In open loop it is in the queue of free connections.
            connection.idle = false;
            return Unasked::Waits;
        }
        Taken::Complete(response, _) => count_response(record, response.status),
        // A body that exceeds its stated length, not a message of its own.
        Taken::Malformed if is_behind => count_bytes_behind(record, input),
        Taken::Malformed => count_bytes(record, connection.reader.misread().cloned()),
    }
    Unasked::Ended
}

/// The rest of the message will not arrive, or is not awaited any longer.
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

/// Handles what arrived together with a response that ended its connection.
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

/// Whether a 408 means that the request was not read. On a connection that was used before, it ends
/// the wait for another request (RFC 9110 §15.5.9) and crossed with the one just sent. Browsers
/// resend such a request on another connection; here it is lost, as if the connection had been
/// closed without a response.
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

/// The number of empty lines, however their bytes are split.
fn lines(input: &[u8]) -> u64 {
    input.iter().filter(|&&byte| byte == b'\n').count() as u64
}
