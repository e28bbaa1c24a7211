//! A second parser: what a peer's bytes request and how they must be answered, by the grammar of RFC 9112, 9110 and
//! 3986. It reads the whole input at once, slowly, and shares no code with the parser that it checks.
//!
//! Where the RFCs leave a choice, *Policy* marks the one that this server has made.

mod body;
mod target;

use http1::Limits;

const BAD: &str = "400 Bad Request";
const TOO_LARGE: &str = "431 Request Header Fields Too Large";

/// One request, possibly incomplete.
#[derive(Debug)]
pub(crate) struct Request {
    /// Where the request begins, after empty lines.
    pub(crate) begins: usize,
    /// The body that is read before the answer.
    pub(crate) body: Option<Body>,
    /// `None` if bytes are missing.
    pub(crate) answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Body {
    pub(crate) begins: usize,
    /// The length, if the head gives it.
    pub(crate) length: Option<u64>,
    /// The peer waits for `100 Continue` before it sends the body.
    pub(crate) awaited: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// How many bytes of the input determine the answer: up to the end of the request, or to the wrong byte.
    pub(crate) at: usize,
    /// The allowed status lines. A head with several faults may be refused for any of them.
    pub(crate) statuses: Vec<&'static str>,
    pub(crate) persistence: Persistence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    Implied,
    KeepAlive,
    Close,
}

/// The requests in a peer's whole input, up to the one with the last answer or an incomplete one.
pub(crate) fn requests(input: &[u8], limits: &Limits) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut at = 0;
    loop {
        at += empty_lines(&input[at..]);
        if matches!(input[at..], [] | [b'\r']) {
            return requests;
        }
        let request = request(input, at, limits);
        let next = match &request.answer {
            Some(answer) if answer.persistence != Persistence::Close => Some(answer.at),
            _ => None,
        };
        requests.push(request);
        match next {
            Some(next) => at = next,
            None => return requests,
        }
    }
}

/// A refusal. It closes the connection, because the start of the next request is unknown.
fn refusal(at: usize, statuses: Vec<&'static str>) -> Answer {
    Answer {
        at,
        statuses,
        persistence: Persistence::Close,
    }
}

/// The number of bytes in empty lines before a request line, which are ignored (9112 §2.2).
fn empty_lines(input: &[u8]) -> usize {
    let lines = input.split_inclusive(|&byte| byte == b'\n');
    let empty = lines.take_while(|line| matches!(line, [b'\n'] | [b'\r', b'\n']));
    empty.map(<[u8]>::len).sum()
}

fn request(input: &[u8], begins: usize, limits: &Limits) -> Request {
    let only = |answer| Request {
        begins,
        body: None,
        answer,
    };
    let head = match read_head(&input[begins..], limits) {
        Ok(head) => head,
        Err(Stop::Missing) => return only(None),
        Err(Stop::Fault(at, statuses)) => return only(Some(refusal(begins + at, statuses))),
    };
    let body_begins = begins + head.length;
    let (ends, body) = match head.framing {
        Framing::Nothing => (Ok(body_begins), None),
        Framing::Length(length) => {
            let all = usize::try_from(length).ok();
            let end = all.and_then(|length| body_begins.checked_add(length));
            let end = end.filter(|&end| end <= input.len());
            (end.ok_or(Stop::Missing), Some(Some(length)))
        }
        Framing::Chunked => (body::chunked(input, body_begins, limits), Some(None)),
    };
    Request {
        begins,
        body: body.map(|length| Body {
            begins: body_begins,
            length,
            awaited: head.awaits_continue,
        }),
        answer: match ends {
            Ok(at) => Some(Answer {
                at,
                statuses: vec![head.status],
                persistence: head.persistence,
            }),
            Err(Stop::Missing) => None,
            Err(Stop::Fault(at, statuses)) => Some(refusal(at, statuses)),
        },
    }
}

/// Why parsing stops early.
enum Stop {
    Missing,
    /// It is refused after this many bytes, with any of these statuses.
    Fault(usize, Vec<&'static str>),
}

enum Framing {
    Nothing,
    Length(u64),
    Chunked,
}

struct Head {
    length: usize,
    status: &'static str,
    framing: Framing,
    persistence: Persistence,
    awaits_continue: bool,
}

/// Parses a head. *Policy*: each line is judged when it is complete; rules about the whole head when that is
/// complete. A lone LF ends a line too (9112 §2.2). At most 100 header fields are allowed.
fn read_head(input: &[u8], limits: &Limits) -> Result<Head, Stop> {
    let mut lines = input.split_inclusive(|&byte| byte == b'\n');
    let first = lines.next().expect("a request has a byte");
    line_within_limit(first, limits)?;
    let mut length = first.len();
    let first = end_of_line(first).ok_or_else(|| missing(input, limits))?;
    let request_line = request_line(first).map_err(|faults| Stop::Fault(length, faults))?;
    let mut fields = Vec::new();
    for line in lines {
        length += line.len();
        if length > limits.head_bytes_max {
            break;
        }
        match end_of_line(line) {
            None => break,
            Some([]) => return judge(length, &request_line, &fields, limits),
            Some(line) => fields.push(field(line).ok_or(Stop::Fault(length, vec![BAD]))?),
        }
        if fields.len() > 100 {
            return Err(Stop::Fault(length, vec![TOO_LARGE]));
        }
    }
    Err(missing(input, limits))
}

/// The outcome for an incomplete head: more is needed, unless the head is too long already.
fn missing(input: &[u8], limits: &Limits) -> Stop {
    match input.len() >= limits.head_bytes_max {
        true => Stop::Fault(limits.head_bytes_max, vec![TOO_LARGE]),
        false => Stop::Missing,
    }
}

/// A line without its end; `None` if the end is missing.
fn end_of_line(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n")?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// The refusal of a long line: 414 if the target is too long, 501 if the method is longer than any known one
/// (9112 §3).
fn line_within_limit(line: &[u8], limits: &Limits) -> Result<(), Stop> {
    let max = limits.request_line_bytes_max;
    let over = match line.get(max..).unwrap_or_default() {
        [] | [b'\n'] | [b'\r'] | [b'\r', b'\n'] => return Ok(()),
        [b'\r', ..] => max + 2,
        _ => max + 1,
    };
    let status = match line.iter().take_while(|&&byte| byte != b' ').count() {
        ..=7 => "414 URI Too Long",
        _ => "501 Not Implemented",
    };
    Err(Stop::Fault(over, vec![status]))
}

struct RequestLine<'i> {
    method: &'i str,
    target: &'i str,
    one_dot_zero: bool,
}

/// method SP request-target SP HTTP-version (9112 §3).
fn request_line(line: &[u8]) -> Result<RequestLine<'_>, Vec<&'static str>> {
    // *Policy*: a target that is not UTF-8 is refused with its line, other bad targets with the whole head.
    let line = str::from_utf8(line).map_err(|_| vec![BAD])?;
    let words: Vec<&str> = line.split(' ').collect();
    let &[method, target, version] = &words[..] else {
        return Err(vec![BAD]);
    };
    let mut faults = Vec::new();
    if !is_token(method) || target.is_empty() || target.contains(|c: char| c.is_ascii_control()) {
        faults.push(BAD);
    }
    let one_dot_zero = match version.as_bytes() {
        b"HTTP/1.0" => true,
        // A later minor version is answered like the latest known one (9110 §2.5).
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => false,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            faults.push("505 HTTP Version Not Supported");
            false
        }
        _ => return Err(vec![BAD]),
    };
    match faults.is_empty() {
        true => Ok(RequestLine {
            method,
            target,
            one_dot_zero,
        }),
        false => Err(faults),
    }
}

/// 1*tchar (9110 §5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_tchar)
}

fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A field line (9112 §5): its name in lower case and its value.
fn field(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let name = str::from_utf8(&line[..colon]).ok()?;
    let mut value = &line[colon + 1..];
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    // field-vchar, SP and HTAB (9110 §5.5)
    let allowed = |&byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    (is_token(name) && value.iter().all(allowed)).then(|| (name.to_ascii_lowercase(), value))
}

/// Checks the head against the rules beyond its grammar.
fn judge(
    length: usize,
    line: &RequestLine<'_>,
    fields: &[(String, &[u8])],
    limits: &Limits,
) -> Result<Head, Stop> {
    let values = |wanted: &str| -> Vec<&[u8]> {
        let fields = fields.iter().filter(|(name, _)| name == wanted);
        fields.map(|(_, value)| *value).collect()
    };
    let mut faults = Vec::new();
    if !target::may_stand(line.method, line.target) {
        faults.push(BAD);
    }
    if line.target.to_ascii_lowercase().starts_with("https://") {
        faults.push("421 Misdirected Request"); // 9110 §7.4: the connection is not secured
    }
    // Exactly one, and valid (9112 §3.2).
    match values("host")[..] {
        [] if line.one_dot_zero => {}
        [host] if target::is_host_and_port(host) => {}
        _ => faults.push(BAD),
    }
    let expectations = match line.one_dot_zero {
        true => Vec::new(), // 9110 §10.1.1: ignored
        false => elements(&values("expect")),
    };
    if expectations.iter().any(|word| word != "100-continue") {
        faults.push("417 Expectation Failed");
    }
    let framing = match (
        &values("content-length")[..],
        &values("transfer-encoding")[..],
    ) {
        ([], []) => Framing::Nothing,
        // *Policy*: repeated lengths must be identical to the byte; a list of lengths is refused (9110 §8.6).
        ([first, others @ ..], []) if others.iter().all(|other| other == first) => {
            match content_length(first) {
                Some(0) => Framing::Nothing,
                Some(length) => {
                    if length > limits.body_bytes_max {
                        faults.push("413 Content Too Large");
                    }
                    Framing::Length(length)
                }
                None => {
                    faults.push(BAD);
                    Framing::Nothing
                }
            }
        }
        // If the final coding is not chunked, the length is unknown (9112 §6.3). *Policy*: codings before it are
        // not implemented, and none may have parameters.
        ([], codings) if !line.one_dot_zero => {
            let codings = elements(codings);
            let chunked = codings.iter().filter(|coding| *coding == "chunked").count();
            match codings.last() {
                Some(last) if last == "chunked" && chunked == 1 => {
                    if codings.len() > 1 {
                        faults.push("501 Not Implemented");
                    }
                }
                _ => faults.push(BAD),
            }
            Framing::Chunked
        }
        _ => {
            faults.push(BAD);
            Framing::Nothing
        }
    };
    if !faults.is_empty() {
        return Err(Stop::Fault(length, faults));
    }
    let options = elements(&values("connection"));
    let has = |wanted: &str| options.iter().any(|option| option == wanted);
    Ok(Head {
        length,
        status: match line.method {
            "GET" | "HEAD" => "200 OK",
            "OPTIONS" => "204 No Content",
            "POST" | "PUT" | "DELETE" | "CONNECT" | "TRACE" | "PATCH" => "405 Method Not Allowed",
            _ => "501 Not Implemented",
        },
        framing,
        // 9112 §9.3
        persistence: match line.one_dot_zero {
            _ if has("close") => Persistence::Close,
            false => Persistence::Implied,
            true if has("keep-alive") => Persistence::KeepAlive,
            true => Persistence::Close,
        },
        awaits_continue: !expectations.is_empty(),
    })
}

/// The elements of a list field in lower case (9110 §5.6.1). The fields checked here have no quoted commas.
fn elements(values: &[&[u8]]) -> Vec<String> {
    let values = values.iter().map(|value| String::from_utf8_lossy(value));
    let all = values.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    let elements = all.split(',').map(|word| word.trim_matches([' ', '\t']));
    elements
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// 1*DIGIT. *Policy*: a number that does not fit in 64 bits is malformed.
fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    digits.then(|| value.iter().try_fold(0, add))?
}
