//! Writes answers to the end of a connection's output.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Tally;
use crate::request::Method;

/// The status codes of this server's answers (9110 §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    NoContent,
    BadRequest,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    UriTooLong,
    ExpectationFailed,
    MisdirectedRequest,
    HeaderFieldsTooLarge,
    NotImplemented,
    VersionNotSupported,
}

impl Status {
    pub(crate) const ALL: [Status; 12] = [
        Status::Ok,
        Status::NoContent,
        Status::BadRequest,
        Status::MethodNotAllowed,
        Status::RequestTimeout,
        Status::ContentTooLarge,
        Status::UriTooLong,
        Status::ExpectationFailed,
        Status::MisdirectedRequest,
        Status::HeaderFieldsTooLarge,
        Status::NotImplemented,
        Status::VersionNotSupported,
    ];

    /// Code and reason as in a status line; also the body of an error answer.
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::NoContent => "204 No Content",
            Status::BadRequest => "400 Bad Request",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::MisdirectedRequest => "421 Misdirected Request",
            Status::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Status::NotImplemented => "501 Not Implemented",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    pub(crate) fn code(self) -> u16 {
        self.line()[..3]
            .parse()
            .expect("a status line begins with its code")
    }
}

/// What an answer says about the connection (9112 §9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Nothing: in HTTP/1.1 the connection stays open by default.
    Implied,
    /// `keep-alive`, because an HTTP/1.0 request asked for it.
    KeepAlive,
    /// `close`: this is the last answer.
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

/// Writes answers, and counts them.
#[derive(Debug)]
pub(crate) struct Responder {
    pub(crate) tally: Arc<Tally>,
    date: Date,
}

const HELLO: &[u8] = b"hello world";

impl Responder {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Responder {
            tally,
            date: Date::new(),
        }
    }

    /// Sets the `Date` of the following answers.
    #[inline]
    pub(crate) fn renew_date(&mut self, wall: SystemTime) {
        self.date.renew(wall);
    }

    /// Writes the interim answer to `Expect: 100-continue` (9110 §10.1.1).
    pub(crate) fn go_on(output: &mut Vec<u8>) {
        output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Writes the answer to a valid request.
    pub(crate) fn answer(&self, output: &mut Vec<u8>, method: Method, persistence: Persistence) {
        match method {
            Method::Get => self.hello(output, persistence, false),
            Method::Head => self.hello(output, persistence, true),
            Method::Options => self.options(output, persistence),
            Method::Refused => self.refuse(output, Status::MethodNotAllowed, persistence, false),
            Method::Unknown => self.refuse(output, Status::NotImplemented, persistence, false),
        }
    }

    /// Writes `200 OK` with `hello world`, or only its head for HEAD (9110 §9.3.2).
    fn hello(&self, output: &mut Vec<u8>, persistence: Persistence, head_only: bool) {
        self.tally.answered(Status::Ok);
        output.extend_from_slice(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nDate: ",
        );
        output.extend_from_slice(&self.date.text);
        output.extend_from_slice(b"\r\n");
        output.extend_from_slice(persistence.header());
        output.extend_from_slice(b"\r\n");
        if !head_only {
            output.extend_from_slice(HELLO);
        }
    }

    /// Writes `204 No Content` with the supported methods, for OPTIONS (9110 §9.3.7).
    fn options(&self, output: &mut Vec<u8>, persistence: Persistence) {
        self.tally.answered(Status::NoContent);
        output.extend_from_slice(b"HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\nDate: ");
        output.extend_from_slice(&self.date.text);
        output.extend_from_slice(b"\r\n");
        output.extend_from_slice(persistence.header());
        output.extend_from_slice(b"\r\n");
    }

    /// Writes a refusal, with its status as the body. 405 lists the supported methods (9110 §15.5.6).
    pub(crate) fn refuse(
        &self,
        output: &mut Vec<u8>,
        status: Status,
        persistence: Persistence,
        head_only: bool,
    ) {
        self.tally.answered(status);
        let line = status.line();
        let length = line.len() + 1;
        write!(
            output,
            "HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nDate: "
        )
        .expect("writing to a Vec cannot fail");
        output.extend_from_slice(&self.date.text);
        output.extend_from_slice(b"\r\n");
        if status == Status::MethodNotAllowed {
            output.extend_from_slice(b"Allow: GET, HEAD, OPTIONS\r\n");
        }
        output.extend_from_slice(persistence.header());
        output.extend_from_slice(b"\r\n");
        if !head_only {
            output.extend_from_slice(line.as_bytes());
            output.push(b'\n');
        }
    }
}

/// The `Date` of answers as an IMF-fixdate (9110 §5.6.7), formatted again when the second changes.
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
        // httpdate handles the years 1970 to 9999; for a clock outside them the date is that of 1970.
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
