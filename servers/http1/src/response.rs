//! Answers, appended to a connection's output.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The statuses this server refuses with (9110 §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    BadRequest,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    UriTooLong,
    ExpectationFailed,
    HeaderFieldsTooLarge,
    NotImplemented,
    VersionNotSupported,
}

impl Status {
    /// Code and reason as they stand in a status line; also the body of an error answer.
    fn line(self) -> &'static str {
        match self {
            Status::BadRequest => "400 Bad Request",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Status::NotImplemented => "501 Not Implemented",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What is said about the connection beside the answer (9112 §9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// HTTP/1.1 without a word: the connection stays open.
    Implied,
    /// HTTP/1.0 asked for it and is told that it has it.
    KeepAlive,
    /// This is the last answer.
    Close,
}

impl Persistence {
    fn header(self) -> &'static [u8] {
        match self {
            Persistence::Implied => b"",
            Persistence::KeepAlive => b"Connection: keep-alive\r\n",
            Persistence::Close => b"Connection: close\r\n",
        }
    }
}

/// The interim answer to `Expect: 100-continue` (9110 §10.1.1).
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const HELLO: &[u8] = b"hello world";

/// `200 OK` with `hello world`, or with the head alone for HEAD (9110 §9.3.2).
pub(crate) fn hello(output: &mut Vec<u8>, date: &Date, persistence: Persistence, head_only: bool) {
    output.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nDate: ",
    );
    output.extend_from_slice(&date.text);
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(persistence.header());
    output.extend_from_slice(b"\r\n");
    if !head_only {
        output.extend_from_slice(HELLO);
    }
}

/// `204 No Content` with the methods there are, for OPTIONS (9110 §9.3.7).
pub(crate) fn options(output: &mut Vec<u8>, date: &Date, persistence: Persistence) {
    output.extend_from_slice(b"HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\nDate: ");
    output.extend_from_slice(&date.text);
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(persistence.header());
    output.extend_from_slice(b"\r\n");
}

/// A refusal, with its own status line as text. 405 names the methods there are (9110 §15.5.6).
pub(crate) fn refusal(output: &mut Vec<u8>, date: &Date, persistence: Persistence, status: Status) {
    let line = status.line();
    let length = line.len() + 1;
    write!(
        output,
        "HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nDate: "
    )
    .expect("writing to a Vec cannot fail");
    output.extend_from_slice(&date.text);
    output.extend_from_slice(b"\r\n");
    if status == Status::MethodNotAllowed {
        output.extend_from_slice(b"Allow: GET, HEAD, OPTIONS\r\n");
    }
    output.extend_from_slice(persistence.header());
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(line.as_bytes());
    output.push(b'\n');
}

/// The `Date` of answers as an IMF-fixdate (9110 §5.6.7), rendered anew when the second changes.
#[derive(Debug, Clone)]
pub(crate) struct Date {
    text: [u8; 29],
    second: u64,
}

impl Date {
    pub(crate) fn new() -> Self {
        Date {
            text: *b"Thu, 01 Jan 1970 00:00:00 GMT",
            second: 0,
        }
    }

    pub(crate) fn renew(&mut self, wall: SystemTime) {
        // httpdate writes the years 1970 to 9999; a clock outside them is shown as 1970.
        const YEAR_10000: u64 = 253_402_300_800;
        let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = match since_1970.as_secs() {
            s if s < YEAR_10000 => s,
            _ => 0,
        };
        if second != self.second {
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            write!(&mut self.text[..], "{date}").expect("an IMF-fixdate has 29 bytes");
            self.second = second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_an_imf_fixdate_and_follows_the_clock() {
        let mut date = Date::new();
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778, "Sun, 06 Nov 1994 08:49:38 GMT"),
            (u64::from(u32::MAX) * 100, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            date.renew(UNIX_EPOCH + Duration::from_secs(second));
            assert_eq!(std::str::from_utf8(&date.text), Ok(text));
        }
        date.renew(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(&date.text, b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
