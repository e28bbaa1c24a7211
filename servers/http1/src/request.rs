//! The head of a request: request line and header section. httparse checks the syntax; this module checks the
//! rules beyond it.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use crate::body::Framing;
use crate::response::Status;
use crate::{Limits, PANIC_TARGET};

/// The most header fields in one request.
const HEADERS_MAX: usize = 100;

/// The longest method that this server knows.
const LONGEST_METHOD: &str = "OPTIONS";

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Options,
    /// A known method that is refused with 405 (9110 §15.5.6).
    Refused,
    /// An unknown method, refused with 501 (9110 §15.6.2).
    Unknown,
}

/// What the server keeps of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// The request is HTTP/1.0, not 1.1.
    pub(crate) one_dot_zero: bool,
    /// The connection may persist after the answer (9112 §9.3).
    pub(crate) persists: bool,
    /// `None` when there is no body.
    pub(crate) body: Option<Framing>,
    pub(crate) expectation: Expectation,
}

/// What the `Expect` header field asks for (9110 §10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    None,
    Continue,
    Unknown,
}

/// The outcome of [`parse`]. Missing bytes are not an error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A head, and its length in bytes.
    Request {
        head: Head,
        used: usize,
    },
    Incomplete,
    Invalid(Status),
}

/// Skips the empty lines before a request line (9112 §2.2).
pub(crate) fn skip_empty_lines(mut input: &[u8]) -> &[u8] {
    while let [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] = input {
        input = rest;
    }
    input
}

/// Parses the head at the start of `input`. The outcome depends on the bytes alone, not on how they were split
/// over several calls.
pub(crate) fn parse(input: &[u8], limits: &Limits) -> Parsed {
    let line_length = input.iter().position(|&byte| byte == b'\n');
    let line = &input[..line_length.unwrap_or(input.len())];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > limits.request_line_bytes_max {
        let method = line.split(|&byte| byte == b' ').next();
        return Parsed::Invalid(match method {
            Some(method) if method.len() <= LONGEST_METHOD.len() => Status::UriTooLong,
            _ => Status::NotImplemented, // 9112 §3
        });
    }
    let within = &input[..input.len().min(limits.head_bytes_max)];
    // Only whole lines are parsed, because part of a line could be judged differently from the whole.
    let Some(last) = within.iter().rposition(|&byte| byte == b'\n') else {
        return incomplete_or_too_large(within, limits);
    };
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&within[..=last], &mut headers) {
        Ok(httparse::Status::Complete(used)) => match judge(&request, limits) {
            Ok(head) => Parsed::Request { head, used },
            Err(status) => Parsed::Invalid(status),
        },
        Ok(httparse::Status::Partial) => incomplete_or_too_large(within, limits),
        Err(httparse::Error::TooManyHeaders) => Parsed::Invalid(Status::HeaderFieldsTooLarge),
        Err(httparse::Error::Version) => match version(line) {
            // A later minor version is answered like the latest known one (9110 §2.5).
            Some((b'1', b'2'..=b'9')) => {
                let mut latest = within.to_vec();
                latest[line.len() - 1] = b'1';
                parse(&latest, limits)
            }
            Some(_) => Parsed::Invalid(Status::VersionNotSupported),
            None => Parsed::Invalid(Status::BadRequest),
        },
        Err(_) => Parsed::Invalid(Status::BadRequest),
    }
}

fn incomplete_or_too_large(within: &[u8], limits: &Limits) -> Parsed {
    match within.len() < limits.head_bytes_max {
        true => Parsed::Incomplete,
        false => Parsed::Invalid(Status::HeaderFieldsTooLarge),
    }
}

/// The major and minor version of a request line of three words, if they are well-formed (9112 §2.3).
fn version(line: &[u8]) -> Option<(u8, u8)> {
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Some((*major, *minor))
        }
        _ => None,
    }
}

/// Checks a well-formed head against the rules of RFC 9110 and 9112.
fn judge(request: &httparse::Request<'_, '_>, limits: &Limits) -> Result<Head, Status> {
    const BAD: Status = Status::BadRequest;
    let one_dot_zero = request.version == Some(0);
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    if !is_target(method, target) {
        return Err(BAD);
    }
    let scheme = target.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
        // The connection is not secured (9110 §7.4).
        return Err(Status::MisdirectedRequest);
    }
    assert!(!limits.panics || target != PANIC_TARGET, "as asked for");

    let mut hosts = 0;
    let mut length: Option<&[u8]> = None;
    let mut coding: Option<Coding> = None;
    let mut close = false;
    let mut keep_alive = false;
    let mut expectation = Expectation::None;
    for header in &*request.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // The length is compared first, because most header fields are none of these.
        match header.name.len() {
            4 if is("host") => {
                hosts += 1;
                if hosts > 1 || !is_host(header.value) {
                    return Err(BAD);
                }
            }
            6 if is("expect") && !one_dot_zero => {
                for expected in list(header.value) {
                    let known = expected.eq_ignore_ascii_case(b"100-continue");
                    expectation = match (known, expectation) {
                        (true, Expectation::None) => Expectation::Continue,
                        (true, other) => other,
                        (false, _) => Expectation::Unknown,
                    };
                }
            }
            10 if is("connection") => {
                for option in list(header.value) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if is("content-length") => {
                // A repeated length is harmless if the value is the same, and an attack if it is not.
                if length.is_some_and(|earlier| earlier != header.value) {
                    return Err(BAD);
                }
                length = Some(header.value);
            }
            17 if is("transfer-encoding") => {
                coding.get_or_insert_default().extend(header.value);
            }
            _ => {}
        }
    }
    if hosts == 0 && !one_dot_zero {
        return Err(BAD);
    }

    let body = match (length, coding) {
        (None, None) => None,
        (Some(length), None) => Some(Framing::Length(content_length(length).ok_or(BAD)?)),
        // Both at once are the classic request smuggling; a transfer coding in HTTP/1.0 is similar (9112 §6.1).
        (Some(_), Some(_)) => return Err(BAD),
        (None, Some(_)) if one_dot_zero => return Err(BAD),
        (None, Some(coding)) => Some(coding.framing()?),
    };
    Ok(Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            "POST" | "PUT" | "DELETE" | "CONNECT" | "TRACE" | "PATCH" => Method::Refused,
            _ => Method::Unknown,
        },
        one_dot_zero,
        persists: !close && (!one_dot_zero || keep_alive),
        body: body.filter(|framing| *framing != Framing::Length(0)),
        expectation,
    })
}

/// The elements of a comma-separated list, trimmed, without empty ones (9110 §5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let elements = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty())
}

/// Whether a target has one of the four forms, and one that its method allows (9112 §3.2).
fn is_target(method: &str, target: &str) -> bool {
    match (method, target.as_bytes()) {
        ("CONNECT", target) => is_authority(target),
        ("OPTIONS", b"*") => true,
        (_, origin @ [b'/', ..]) => is_path_and_query(origin),
        _ => is_absolute(target),
    }
}

/// Whether a target is a host and a port above zero (9112 §3.2.3, 9110 §9.3.6).
fn is_authority(target: &[u8]) -> bool {
    let Some((host, Some(port))) = split_port(target) else {
        return false;
    };
    let port = std::str::from_utf8(port).map(str::parse::<u16>);
    !host.is_empty() && is_host(target) && matches!(port, Ok(Ok(1..)))
}

/// Whether a target is `http` or `https`, a host, and what an origin-form may hold (9112 §3.2.2). An empty host is
/// an error (9110 §4.2.1), and so is a user name (9110 §4.2.4): a host cannot contain `@`.
fn is_absolute(target: &str) -> bool {
    let Some((scheme, rest)) = target.split_once("://") else {
        return false;
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let authority = authority.as_bytes();
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        && split_port(authority).is_some_and(|(host, _)| !host.is_empty())
        && is_host(authority)
        && is_path_and_query(path.as_bytes())
}

/// Whether a text may be a path and query (RFC 3986 §3.3, §3.4).
fn is_path_and_query(text: &[u8]) -> bool {
    is_uri_text(text, |byte| matches!(byte, b'/' | b'?' | b':' | b'@'))
}

/// Whether a text holds only unreserved characters, sub-delimiters, complete percent-encoded bytes, and the
/// bytes that `is_other` allows (RFC 3986 §2).
fn is_uri_text(text: &[u8], is_other: fn(u8) -> bool) -> bool {
    let percent_encoded = |at: usize| {
        let digits = text.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.iter().enumerate().all(|(at, &byte)| match byte {
        b'%' => percent_encoded(at),
        b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' => true,
        b'+' | b',' | b';' | b'=' => true,
        _ => byte.is_ascii_alphanumeric() || is_other(byte),
    })
}

/// Splits off the port after the colon. `None` if brackets are not closed or followed by something else.
fn split_port(value: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let end = match value {
        [b'[', ..] => value.iter().position(|&byte| byte == b']')? + 1,
        _ => (value.iter().position(|&byte| byte == b':')).unwrap_or(value.len()),
    };
    match value.split_at(end) {
        (host, []) => Some((host, None)),
        (host, [b':', port @ ..]) => Some((host, Some(port))),
        _ => None,
    }
}

/// Whether a text is `uri-host [ ":" port ]`, or empty (9112 §3.2, RFC 3986 §3.2.2).
fn is_host(value: &[u8]) -> bool {
    let Some((host, port)) = split_port(value) else {
        return false;
    };
    let host_is_fine = match host {
        [b'[', b'v' | b'V', address @ .., b']'] => is_ip_future(address),
        [b'[', address @ .., b']'] => {
            (std::str::from_utf8(address)).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        name => is_uri_text(name, |_| false),
    };
    host_is_fine && port.unwrap_or_default().iter().all(u8::is_ascii_digit)
}

/// Whether a text may follow the `v`: a hexadecimal version, a dot, and what that version allows.
fn is_ip_future(address: &[u8]) -> bool {
    let Some(dot) = address.iter().position(|&byte| byte == b'.') else {
        return false;
    };
    let (version, rest) = (&address[..dot], &address[dot + 1..]);
    let is_hexadecimal = !version.is_empty() && version.iter().all(u8::is_ascii_hexdigit);
    let is_text = !rest.is_empty() && !rest.contains(&b'%');
    is_hexadecimal && is_text && is_uri_text(rest, |byte| byte == b':')
}

/// Parses a number that has only digits and does not overflow (9110 §8.6).
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The transfer codings of a message; they may be spread over several lines (9110 §5.3).
#[derive(Debug, Default)]
struct Coding {
    all: usize,
    chunked: usize,
    ends_in_chunked: bool,
}

impl Coding {
    fn extend(&mut self, value: &[u8]) {
        for coding in list(value) {
            self.ends_in_chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.all += 1;
            self.chunked += usize::from(self.ends_in_chunked);
        }
    }

    /// Only `chunked` is implemented: other codings before it get 501. If the last coding is not `chunked`, both
    /// sides cannot agree where the body ends (9112 §6.1, §6.3).
    fn framing(&self) -> Result<Framing, Status> {
        match (self.ends_in_chunked, self.chunked, self.all) {
            (true, 1, 1) => Ok(Framing::Chunked),
            (true, 1, _) => Err(Status::NotImplemented),
            _ => Err(Status::BadRequest),
        }
    }
}
