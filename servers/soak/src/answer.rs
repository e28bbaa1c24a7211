//! Answers, read strictly. Those of our servers are checked to the byte. Those of other servers must be well-formed
//! HTTP/1.1 and keep the contract of `benches/servers.toml` (`GET /` is `hello world`).

use std::time::{Duration, SystemTime};

/// An answer that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// 200 with `hello world`.
    Hello,
    /// Only the head of [`Expected::Hello`].
    HelloHead,
    /// 204 with the supported methods.
    Options,
    /// A refusal with this status, and its status line as the body.
    Refusal(u16),
    /// An interim 100, followed by another answer.
    Continue,
}

/// Whether the connection stays open after an answer, and what the answer must say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Open, which is the default of HTTP/1.1 and not announced.
    Stays,
    /// Open, which the answer announces to HTTP/1.0.
    KeepAlive,
    /// This answer is the last.
    Closes,
}

/// How strict to be with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    /// A server of ours: everything that `servers/README.md` says must hold.
    Ours,
    /// A server of ours after the stop signal: any answer may be the last one.
    OursStopping,
    /// A server of others: what every server must do. Only the statuses of `GET` and `HEAD` are checked.
    Foreign,
}

/// A complete answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    one_dot_zero: bool,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What is at the start of the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// An answer, and its length in bytes.
    Whole(Answer, usize),
    Incomplete,
    /// Not an answer, whatever follows.
    Wrong(String),
}

/// The longest head of an answer. No server has a reason to send a longer one.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Reads the answer at the start of `bytes`. `head_only` means that the request was HEAD.
pub(crate) fn read(bytes: &[u8], head_only: bool) -> Read {
    const BEGIN: &[u8] = b"HTTP/1.";
    let begun = bytes.len().min(BEGIN.len());
    if bytes[..begun] != BEGIN[..begun] {
        return Read::Wrong("does not begin as an answer".to_owned());
    }
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return match bytes.len() > HEAD_BYTES_MAX {
            true => Read::Wrong(format!("a head longer than {HEAD_BYTES_MAX} bytes")),
            false => Read::Incomplete,
        };
    };
    match head(&bytes[..end]) {
        Ok((mut answer, length)) => {
            let length = if head_only { 0 } else { length };
            match bytes.get(end + 4..end + 4 + length) {
                Some(body) => {
                    answer.body = body.to_vec();
                    Read::Whole(answer, end + 4 + length)
                }
                None => Read::Incomplete,
            }
        }
        Err(why) => Read::Wrong(why),
    }
}

/// Parses a head, and the length of the body that it announces.
fn head(bytes: &[u8]) -> Result<(Answer, usize), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a head that is not ASCII")?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let (one_dot_zero, status) =
        status(line).ok_or_else(|| format!("{line:?} is no status line"))?;
    let header = |line: &str| header(line).ok_or_else(|| format!("{line:?} is no header line"));
    let answer = Answer {
        status,
        one_dot_zero,
        headers: lines.map(header).collect::<Result<_, _>>()?,
        body: Vec::new(),
    };
    if answer.header("transfer-encoding")?.is_some() {
        return Err("a transfer coding, where a length is known".to_owned());
    }
    let length = match (answer.header("content-length")?, status) {
        (None, 100..200 | 204) => 0,
        (Some(length), 200..) if status != 204 => {
            let digits = length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            length.ok_or("a Content-Length that is no number")?
        }
        (length, _) => return Err(format!("Content-Length {length:?} with status {status}")),
    };
    Ok((answer, length))
}

/// Parses a status line such as `HTTP/1.1 200 OK` (9112 §4): whether it is HTTP/1.0, and the status.
fn status(line: &str) -> Option<(bool, u16)> {
    let (version, rest) = line.split_once(' ')?;
    let (code, reason) = rest.split_once(' ')?;
    let one_dot_zero = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return None,
    };
    let is_text = reason.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let code = code.parse().ok().filter(|code| (100..600).contains(code))?;
    (is_text && is_code).then_some((one_dot_zero, code))
}

/// Parses a header line `Name: value` (9112 §5).
fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_value = (value.bytes()).all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    (is_name && is_value).then(|| (name.to_owned(), value.trim().to_owned()))
}

impl Answer {
    /// The value of a header field, which must not occur twice.
    fn header(&self, name: &str) -> Result<Option<&str>, String> {
        let mut values =
            (self.headers.iter()).filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            Some(_) => Err(format!("{name} twice")),
            None => Ok(value),
        }
    }

    /// Compares the answer with what is expected. Returns whether the connection stays open.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub(crate) fn check(
        &self,
        expected: Expected,
        after: After,
        rules: Rules,
    ) -> Result<bool, String> {
        match rules {
            Rules::Foreign => self.check_foreign(expected),
            Rules::Ours => self.check_ours(expected, after),
            Rules::OursStopping if self.header("connection")? == Some("close") => {
                self.check_ours(expected, After::Closes)
            }
            Rules::OursStopping => self.check_ours(expected, after),
        }
    }

    fn check_ours(&self, expected: Expected, after: After) -> Result<bool, String> {
        let (status, reason) = match expected {
            Expected::Hello | Expected::HelloHead => (200, ""),
            Expected::Options => (204, ""),
            Expected::Refusal(status) => (status, reason(status)),
            Expected::Continue => (100, ""),
        };
        equal("status", &self.status, &status)?;
        equal("HTTP/1.0", &self.one_dot_zero, &false)?;
        if expected == Expected::Continue {
            return Ok(true);
        }
        let connection = match after {
            After::Stays => None,
            After::KeepAlive => Some("keep-alive"),
            After::Closes => Some("close"),
        };
        equal("Connection", &self.header("connection")?, &connection)?;
        let allow = (matches!(status, 204 | 405)).then_some("GET, HEAD, OPTIONS");
        equal("Allow", &self.header("allow")?, &allow)?;
        let text = (status != 204).then_some("text/plain");
        equal("Content-Type", &self.header("content-type")?, &text)?;
        let date = self.header("date")?.ok_or("no Date")?;
        if !is_now(date) {
            return Err(format!("Date: {date}"));
        }
        match expected {
            Expected::Hello => equal("body", &self.text(), &"hello world")?,
            Expected::HelloHead => {
                equal(
                    "Content-Length",
                    &self.header("content-length")?,
                    &Some("11"),
                )?;
            }
            Expected::Refusal(_) => equal("body", &self.text(), &format!("{reason}\n").as_str())?,
            Expected::Options | Expected::Continue => {}
        }
        Ok(after != After::Closes)
    }

    fn check_foreign(&self, expected: Expected) -> Result<bool, String> {
        match expected {
            Expected::Hello | Expected::HelloHead => equal("status", &self.status, &200)?,
            _ => {}
        }
        if expected == Expected::Hello {
            equal("body", &self.text(), &"hello world")?;
        }
        let connection = self.header("connection")?.unwrap_or_default();
        let says = |option: &str| {
            let mut options = connection.split(',');
            options.any(|one| one.trim().eq_ignore_ascii_case(option))
        };
        Ok(!says("close") && (!self.one_dot_zero || says("keep-alive")))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("(not text)")
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, must: &T) -> Result<(), String> {
    match is == must {
        true => Ok(()),
        false => Err(format!("{what} is {is:?}, not {must:?}")),
    }
}

/// The body of a refusal.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "400 Bad Request",
        405 => "405 Method Not Allowed",
        408 => "408 Request Timeout",
        413 => "413 Content Too Large",
        414 => "414 URI Too Long",
        417 => "417 Expectation Failed",
        431 => "431 Request Header Fields Too Large",
        501 => "501 Not Implemented",
        505 => "505 HTTP Version Not Supported",
        _ => "",
    }
}

/// Whether a text is an IMF-fixdate (9110 §5.6.7) close to the present.
fn is_now(date: &str) -> bool {
    let is_fixdate = date.len() == 29 && date.ends_with(" GMT");
    let Some(date) = httpdate::parse_http_date(date).ok().filter(|_| is_fixdate) else {
        return false;
    };
    let now = SystemTime::now();
    let off = now
        .duration_since(date)
        .or_else(|_| date.duration_since(now));
    off.is_ok_and(|off| off < Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(headers: &str) -> Vec<u8> {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11";
        format!("{head}\r\nDate: {date}\r\n{headers}\r\nhello world").into_bytes()
    }

    fn checked(bytes: &[u8], after: After, rules: Rules) -> Result<bool, String> {
        match read(bytes, false) {
            Read::Whole(answer, used) if used == bytes.len() => {
                answer.check(Expected::Hello, after, rules)
            }
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn every_prefix_is_incomplete_and_the_whole_is_right() {
        let bytes = hello("");
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end], false), Read::Incomplete, "{end}");
        }
        assert_eq!(checked(&bytes, After::Stays, Rules::Ours), Ok(true));
        assert_eq!(checked(&bytes, After::Stays, Rules::Foreign), Ok(true));
    }

    #[test]
    fn every_byte_that_matters_is_looked_at() {
        let bytes = hello("");
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x08;
            let text = String::from_utf8_lossy(&wrong[..at + 1]).into_owned();
            // The reason phrase is for humans (9112 §4), and a Date may be a few seconds off.
            let last_line = text.rsplit("\r\n").next().unwrap_or_default();
            if last_line.starts_with("HTTP/1.1 200 ") || last_line.starts_with("Date: ") {
                continue;
            }
            let outcome = checked(&wrong, After::Stays, Rules::Ours);
            assert!(outcome.is_err(), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn what_the_answer_says_of_the_connection() {
        let close = hello("Connection: close\r\n");
        assert_eq!(checked(&close, After::Closes, Rules::Ours), Ok(false));
        assert!(checked(&close, After::Stays, Rules::Ours).is_err());
        assert_eq!(
            checked(&close, After::Stays, Rules::OursStopping),
            Ok(false)
        );
        assert_eq!(checked(&close, After::Stays, Rules::Foreign), Ok(false));
        assert!(checked(&hello(""), After::Closes, Rules::Ours).is_err());
        let old = String::from_utf8(hello(""))
            .unwrap()
            .replace("/1.1", "/1.0");
        assert_eq!(
            checked(old.as_bytes(), After::Stays, Rules::Foreign),
            Ok(false)
        );
        assert!(checked(old.as_bytes(), After::Stays, Rules::Ours).is_err());
    }

    #[test]
    fn what_is_no_answer() {
        for bytes in [
            "HTTP/2 200 OK\r\n\r\n",
            "hello world",
            "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        ] {
            let outcome = read(bytes.as_bytes(), false);
            assert!(matches!(outcome, Read::Wrong(_)), "{bytes:?}: {outcome:?}");
        }
        let endless = "HTTP/1.1 200 OK\r\n".to_owned() + &"A: b\r\n".repeat(2000);
        assert!(matches!(read(endless.as_bytes(), false), Read::Wrong(_)));
    }
}
