//! Reads the bytes of a connection as HTTP/1: which request each response answers, where the
//! response ends, and what is missing of an incomplete one (RFC 9112 §6.3, §9.2).
//!
//! Bytes that were sent but not captured count as sent. If they determine the end of a message,
//! that end is unknown, and the story does not claim anything about it.

use super::streams::{Missing, Stream};
use crate::model::{Packet, Side};
use engine::figures::count;
use engine::response::{Misread, Rule};

/// Both directions, parsed.
#[derive(Debug, Clone, Default)]
pub(super) struct Messages {
    /// Payload, each byte counted once.
    client_bytes: u64,
    server_bytes: u64,
    /// Sequence numbers at which requests begin.
    pub(super) requests_begun: Vec<u32>,
    /// Sequence numbers at which final responses begin whose head was captured.
    pub(super) responses_begun: Vec<u32>,
    /// Where client and server switch to another protocol.
    pub(super) tunnel: Option<Tunnel>,
    /// A request has a body.
    pub(super) request_has_body: bool,
    /// Responses that are complete, or whose end is unknown but that others follow.
    pub(super) responses: usize,
    /// How the last response is incomplete, if it is.
    pub(super) cut: Option<Cut>,
    /// Why the end of a response is unknown.
    pub(super) unknown: Option<Unknown>,
    /// The first fault in requests and in responses.
    pub(super) misread: [Option<Misread>; 2],
    /// The protocol, if it is not HTTP/1.
    pub(super) protocol: Option<&'static str>,
}

/// The bytes after a 101 or a successful CONNECT (RFC 9110 §7.8, §9.3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// Sequence numbers of client and server at which the tunnel begins.
    pub(super) from: [u32; 2],
    /// The tunnel was opened by CONNECT.
    pub(super) is_connected: bool,
}

/// How much of an incomplete response arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Part of the head.
    Head,
    /// Only interim responses.
    Interim,
    /// Bytes of the body, and how many bytes the head promises.
    Body { came: u64, promised: Option<u64> },
}

/// Why the end of a response is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The head or a chunk size was not captured.
    Missing(Missing),
    /// The framing breaks a rule.
    Misread(Rule),
    /// The request was not captured: it may be a HEAD.
    Request,
    /// More of the response may have been sent than was captured.
    Rest,
}

impl Messages {
    /// Parses both directions. `unseen_fins`: whether only an acknowledgement proves that client
    /// and server closed.
    pub(super) fn of(client: &[&Packet], server: &[&Packet], unseen_fins: [bool; 2]) -> Self {
        let sent = Stream::of(client, server, unseen_fins[0]);
        let got = Stream::of(server, client, unseen_fins[1]);
        let ended = unseen_fins[1] || server.iter().any(|packet| packet.flags.fin);
        let (requests, misread) = requests(&sent);
        let mut messages = Messages {
            misread: [misread, None],
            client_bytes: sent.bytes(),
            server_bytes: got.bytes(),
            ..Messages::default()
        };
        let known = messages.responses(&Dialogue {
            requests: &requests,
            sent: &sent,
            got: &got,
            ended,
        });
        messages.request_has_body = requests[..known].iter().any(|request| request.has_body);
        messages.requests_begun = (requests[..known].iter())
            .map(|request| sent.number(request.at))
            .collect();
        if requests.is_empty() && messages.responses == 0 {
            messages.protocol = protocol(&sent, &got);
        }
        messages
    }

    /// Payload bytes of one side.
    pub(super) fn bytes(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.client_bytes,
            Side::Server => self.server_bytes,
        }
    }

    /// Number of requests.
    pub(super) fn requests(&self) -> usize {
        self.requests_begun.len()
    }

    /// Parses all responses. Returns how many requests are HTTP; after a protocol switch they no
    /// longer are.
    fn responses(&mut self, dialogue: &Dialogue<'_>) -> usize {
        let Dialogue { requests, got, .. } = *dialogue;
        let mut waiting = requests.iter().enumerate().peekable();
        let mut at = match begins(got.text(0), Start::Status) {
            true => 0,
            // The capture begins in the middle of a response.
            false => match got.next_segment(0, is_status_line) {
                Some(next) => next,
                None => return requests.len(),
            },
        };
        while at < got.end() {
            let head = match Head::read(got.text(at), Start::Status) {
                Parsed::Whole(head) => head,
                Parsed::Incomplete => match got.missing_after(at) {
                    // The response ends there.
                    None => {
                        self.cut = Some(Cut::Head).filter(|_| !got.text(at).is_empty());
                        return requests.len();
                    }
                    Some(why) => match self.lost(got, at, Unknown::Missing(why)) {
                        Some(next) => {
                            waiting.next();
                            at = next;
                            continue;
                        }
                        None => return requests.len(),
                    },
                },
                Parsed::Malformed => {
                    let rule = match is_status_line(got.text(at)) {
                        true => Rule::HeadTooLong,
                        false => Rule::BytesBehind,
                    };
                    self.misread[1] = Some(Misread::new(rule, got.text(at)));
                    return requests.len();
                }
            };
            let body = at + head.bytes as u64;
            if head.status == 101 {
                let number = waiting.next().map_or(requests.len(), |(at, _)| at + 1);
                self.responses += 1;
                self.responses_begun.push(got.number(at));
                self.tunnel = dialogue.tunnel(number, body, false);
                return number;
            }
            if head.status < 200 {
                at = body;
                let is_last = at >= got.end() && (dialogue.ended || !got.has_unseen());
                self.cut = Some(Cut::Interim).filter(|_| is_last && waiting.peek().is_some());
                continue;
            }
            self.responses_begun.push(got.number(at));
            let answered = waiting.next_if(|(_, request)| dialogue.answers(at, request));
            let method = answered.map_or(Method::Unknown, |(_, request)| request.method);
            if let (Method::Connect, 200..300, Some((number, _))) = (method, head.status, answered)
            {
                self.responses += 1;
                self.tunnel = dialogue.tunnel(number + 1, body, true);
                return number + 1;
            }
            match dialogue.end_of(&head, method, body) {
                End::At(end) => {
                    self.responses += 1;
                    at = end;
                }
                End::Lost(place, why) => match self.lost(got, place, Unknown::Missing(why)) {
                    Some(next) => at = next,
                    None => return requests.len(),
                },
                End::Misread(place, misread) => {
                    let why = Unknown::Misread(misread.rule);
                    self.misread[1].get_or_insert(misread);
                    match self.lost(got, place, why) {
                        Some(next) => at = next,
                        None => return requests.len(),
                    }
                }
                End::Cut(cut) => {
                    self.cut_short(dialogue, cut, method);
                    return requests.len();
                }
            }
        }
        requests.len()
    }

    /// Continues after a response with an unknown end: at the next segment that begins a response.
    fn lost(&mut self, got: &Stream, at: u64, why: Unknown) -> Option<u64> {
        self.unknown = Some(why);
        let next = got.next_segment(at, is_status_line);
        self.responses += usize::from(next.is_some());
        next
    }

    fn cut_short(&mut self, dialogue: &Dialogue<'_>, cut: Cut, method: Method) {
        match cut {
            Cut::Body {
                came: 0,
                promised: Some(_),
            } if method == Method::Unknown => self.unknown = Some(Unknown::Request),
            _ if dialogue.got.has_unseen() && !dialogue.ended => {
                self.unknown = Some(Unknown::Rest);
            }
            cut => self.cut = Some(cut),
        }
    }
}

impl Cut {
    /// In words: `its head promises 500 bytes, but 20 bytes arrived`.
    pub(super) fn text(self) -> String {
        let bytes = |bytes| count(bytes, "byte");
        match self {
            Cut::Head => "only part of its head arrived".to_owned(),
            Cut::Interim => "only an interim response arrived, no final one".to_owned(),
            Cut::Body {
                came,
                promised: Some(promised),
            } => format!(
                "its head promises {}, but {} arrived",
                bytes(promised),
                bytes(came)
            ),
            Cut::Body {
                came,
                promised: None,
            } => format!("{} of its body arrived, but not its end", bytes(came)),
        }
    }
}

/// Notes that say once how gaps in the capture limit what is known about responses.
pub(super) fn notes(connections: &[&Messages]) -> Vec<String> {
    let reasons = [
        (
            Unknown::Missing(Missing::CutOff),
            "the head of a response or the size of a chunk lies beyond the snap length",
        ),
        (
            Unknown::Missing(Missing::Unseen),
            "the head of a response or the size of a chunk is in a segment that was not captured",
        ),
        (
            Unknown::Request,
            "the request was not captured: it may be a HEAD, whose response has no body",
        ),
        (
            Unknown::Rest,
            "segments were not captured that may contain more of a response",
        ),
    ];
    let counted = reasons.into_iter().map(|(what, why)| {
        let few = connections.iter().filter(|it| it.unknown == Some(what));
        (why, few.count())
    });
    let told = counted.filter(|(_, few)| *few > 0);
    let told = told.map(|(why, few)| {
        format!(
            "In {}, {why}: it is not known whether that response is complete.",
            count(few as u64, "connection")
        )
    });
    told.chain(misread(connections)).collect()
}

/// Notes about malformed messages, one for each kind of fault; the first of each kind is quoted.
fn misread(connections: &[&Messages]) -> Vec<String> {
    let mut kinds: Vec<(Side, &Misread, u64)> = Vec::new();
    for messages in connections {
        for (side, misread) in [Side::Client, Side::Server]
            .into_iter()
            .zip(&messages.misread)
        {
            let Some(misread) = misread else { continue };
            let same = |it: &&mut (Side, &Misread, u64)| it.0 == side && it.1.rule == misread.rule;
            match kinds.iter_mut().find(same) {
                Some((.., times)) => *times += 1,
                None => kinds.push((side, misread, 1)),
            }
        }
    }
    let told = kinds.into_iter().map(|(side, misread, times)| {
        let connections = count(times, "connection");
        let what = match side {
            Side::Client => "request",
            Side::Server => "response",
        };
        let quoted = misread.quoted();
        match misread.rule {
            Rule::BytesBehind => format!(
                "In {connections}, bytes after a {what} belong neither to it nor to another: {quoted}."
            ),
            rule => format!(
                "In {connections}, a {what} has {rule}, {quoted}: it is not known where that {what} ends."
            ),
        }
    });
    told.collect()
}

/// The facts that determine where a response ends.
struct Dialogue<'a> {
    requests: &'a [Request],
    sent: &'a Stream,
    got: &'a Stream,
    /// The server has sent its FIN, which may end a response.
    ended: bool,
}

/// Where a body ends.
enum End {
    At(u64),
    /// The framing was not captured from this position on.
    Lost(u64, Missing),
    /// The framing breaks a rule at this position.
    Misread(u64, Misread),
    Cut(Cut),
}

impl Dialogue<'_> {
    /// Whether a response at this position may answer a request: the server must have acknowledged
    /// part of the request by then. An earlier response answers a request from before the capture,
    /// or none.
    fn answers(&self, at: u64, request: &Request) -> bool {
        let acknowledged = self.got.acknowledges(at);
        let place = acknowledged.and_then(|number| self.sent.place(number));
        place.is_some_and(|place| request.at < place)
    }

    /// The tunnel after `requests` requests, whose head ends at `body`.
    fn tunnel(&self, requests: usize, body: u64, is_connected: bool) -> Option<Tunnel> {
        let last = self.requests.get(requests.checked_sub(1)?)?;
        Some(Tunnel {
            from: [self.sent.number(last.end?), self.got.number(body)],
            is_connected,
        })
    }

    /// Applies the rules of RFC 9112 §6.3, in their order.
    fn end_of(&self, head: &Head, method: Method, body: u64) -> End {
        let end = self.got.end();
        let no_body = matches!(head.status, 204 | 304) || method == Method::Head;
        match (head.chunked, head.length) {
            _ if no_body => End::At(body),
            (Some(true), _) => chunks(self.got, body),
            (None, _) if head.misread.is_some() => misread_at(body, head),
            (None, Some(length)) if body.saturating_add(length) <= end => End::At(body + length),
            (None, Some(length)) => {
                // If the request is unknown, another response directly after the head proves that
                // there is no body.
                if method == Method::Unknown && is_status_line(self.got.text(body)) {
                    return End::At(body);
                }
                End::Cut(Cut::Body {
                    came: end.saturating_sub(body),
                    promised: Some(length),
                })
            }
            // The end of the connection ends the body.
            _ if self.ended => End::At(end),
            _ => End::Cut(Cut::Body {
                came: end.saturating_sub(body),
                promised: None,
            }),
        }
    }
}

fn misread_at(body: u64, head: &Head) -> End {
    match head.misread.clone() {
        Some(misread) => End::Misread(body, misread),
        None => End::At(body),
    }
}

/// Walks the chunks (RFC 9112 §7.1); only their sizes must have been captured.
fn chunks(stream: &Stream, body: u64) -> End {
    let (mut at, mut came) = (body, 0);
    loop {
        let text = stream.text(at);
        let cut = || match stream.missing_after(at) {
            Some(why) => End::Lost(at, why),
            None => End::Cut(Cut::Body {
                came,
                promised: None,
            }),
        };
        let Some(line_bytes) = memchr::memchr(b'\n', text) else {
            return cut();
        };
        let line = &text[..line_bytes];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let digits = line.split(|byte| b"; \t".contains(byte));
        let size = digits.take(1).find_map(hexadecimal);
        at += line_bytes as u64 + 1;
        match size {
            None => return End::Misread(at, Misread::new(Rule::ChunkSize, line)),
            Some(0) => return trailer(stream, at, came),
            Some(size) => {
                let after = at.saturating_add(size);
                if after > stream.end() {
                    came += stream.end().saturating_sub(at);
                    return End::Cut(Cut::Body {
                        came,
                        promised: None,
                    });
                }
                came += size;
                at = after;
                // The line end after the data.
                let line_end = match stream.text(at) {
                    [b'\r', b'\n', ..] => 2,
                    [b'\n', ..] => 1,
                    [] | [b'\r'] => match stream.missing_after(at) {
                        Some(why) => return End::Lost(at, why),
                        None => {
                            return End::Cut(Cut::Body {
                                came,
                                promised: None,
                            });
                        }
                    },
                    behind => return End::Misread(at, Misread::new(Rule::ChunkEnd, behind)),
                };
                at += line_end;
            }
        }
    }
}

/// Skips the fields after the last chunk, up to an empty line.
fn trailer(stream: &Stream, mut at: u64, came: u64) -> End {
    loop {
        let text = stream.text(at);
        match (memchr::memchr(b'\n', text), stream.missing_after(at)) {
            (Some(bytes), _) => {
                at += bytes as u64 + 1;
                if matches!(&text[..bytes], b"" | b"\r") {
                    return End::At(at);
                }
            }
            (None, Some(why)) => return End::Lost(at, why),
            (None, None) => {
                return End::Cut(Cut::Body {
                    came,
                    promised: None,
                });
            }
        }
    }
}

/// What a response's end depends on in its request.
#[derive(Debug, Clone, Copy)]
struct Request {
    at: u64,
    method: Method,
    has_body: bool,
    /// The position after its last byte, if known.
    end: Option<u64>,
}

/// Methods that affect where the response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Connect,
    Other,
    /// The request was not captured.
    Unknown,
}

impl Method {
    /// Method names are case-sensitive (RFC 9110 §9.1).
    fn of(line: &[u8]) -> Self {
        match line.iter().position(|byte| *byte == b' ') {
            Some(bytes) if line[..bytes] == *b"HEAD" => Method::Head,
            Some(bytes) if line[..bytes] == *b"CONNECT" => Method::Connect,
            Some(_) => Method::Other,
            None => Method::Unknown,
        }
    }
}

fn requests(sent: &Stream) -> (Vec<Request>, Option<Misread>) {
    let mut requests = Vec::new();
    let mut misread = None;
    let proxy_bytes = proxy_header_bytes(sent.text(0));
    let begin = proxy_bytes as u64;
    let mut at = match begins(sent.text(begin), Start::Request) {
        true => begin,
        // The capture begins in the middle of a request.
        false => match sent.next_segment(0, is_request_line) {
            Some(next) => next,
            None => return (requests, misread),
        },
    };
    while at < sent.end() {
        let text = sent.text(at);
        let mut request = Request {
            at: at + blank_lines(text) as u64,
            method: Method::of(&text[blank_lines(text)..]),
            has_body: false,
            end: None,
        };
        let end = match Head::read(text, Start::Request) {
            Parsed::Whole(head) => {
                let body = at + head.bytes as u64;
                request.has_body = head.chunked.is_some() || head.length > Some(0);
                match (head.chunked, head.length) {
                    (Some(_), _) => chunks(sent, body),
                    (None, _) if head.misread.is_some() => misread_at(body, &head),
                    (None, length) => End::At(body.saturating_add(length.unwrap_or(0))),
                }
            }
            Parsed::Incomplete if text.is_empty() => break,
            Parsed::Incomplete => match sent.missing_after(at) {
                Some(why) => End::Lost(at, why),
                None => End::At(sent.end()),
            },
            Parsed::Malformed => break,
        };
        if let End::At(end) = end {
            request.end = Some(end);
        }
        requests.push(request);
        let lost = match end {
            End::At(end) => {
                at = end;
                continue;
            }
            End::Lost(place, _) => place,
            End::Misread(place, what) => {
                misread.get_or_insert(what);
                place
            }
            End::Cut(_) => break,
        };
        match sent.next_segment(lost, is_request_line) {
            Some(next) => at = next,
            None => break,
        }
    }
    (requests, misread)
}

/// Length of a proxy's introduction before the first request: a line of text, or 16 bytes that
/// include the length of the rest (HAProxy's PROXY protocol, §2.1 and §2.2).
fn proxy_header_bytes(text: &[u8]) -> usize {
    if text.starts_with(b"PROXY ") {
        return memchr::memchr(b'\n', text).map_or(0, |end| end + 1);
    }
    match text.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        Some([_, _, high, low, ..]) => 16 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    }
}

/// What the end of a message depends on in its head.
#[derive(Debug)]
struct Head {
    /// 0 for a request.
    status: u16,
    length: Option<u64>,
    /// Whether a Transfer-Encoding ends in `chunked`; `None` without the field.
    chunked: Option<bool>,
    /// The Content-Length is not a number, or several values differ.
    misread: Option<Misread>,
    /// Length of the head.
    bytes: usize,
}

/// Which message a head begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    Request,
    Status,
}

enum Parsed {
    Whole(Head),
    /// The end of the head is missing.
    Incomplete,
    /// The bytes are not a head.
    Malformed,
}

/// The longest head that is searched for.
const HEAD_BYTES_MAX: usize = 256 << 10;

impl Head {
    fn read(text: &[u8], start: Start) -> Parsed {
        let blank = blank_lines(text);
        if !is_start_line(text, start) {
            return match begins(text, start) {
                true => Parsed::Incomplete,
                false => Parsed::Malformed,
            };
        }
        let mut at = blank;
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        loop {
            let Some(bytes) = memchr::memchr(b'\n', &text[at..]) else {
                return match text.len() - blank > HEAD_BYTES_MAX {
                    true => Parsed::Malformed,
                    false => Parsed::Incomplete,
                };
            };
            let line = &text[at..at + bytes];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_first = at == blank;
            at += bytes + 1;
            match line {
                _ if is_first => {}
                [] => break,
                // A field value may continue in a line that begins with a blank (RFC 9112 §5.2).
                [b' ' | b'\t', more @ ..] => {
                    if let Some((_, value)) = fields.last_mut() {
                        value.push(b' ');
                        value.extend_from_slice(more.trim_ascii());
                    }
                }
                line => {
                    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
                    let value = line.get(colon + 1..).unwrap_or_default();
                    let name = line[..colon].trim_ascii().to_ascii_lowercase();
                    fields.push((name, value.trim_ascii().to_vec()));
                }
            }
        }
        let mut head = Head {
            status: match start {
                Start::Request => 0,
                Start::Status => status(&text[blank..]),
            },
            length: None,
            chunked: None,
            misread: None,
            bytes: at,
        };
        for (name, value) in &fields {
            let items = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            match &name[..] {
                b"content-length" => {
                    for item in items() {
                        match (decimal(item), head.length) {
                            (Some(length), None) => head.length = Some(length),
                            (Some(length), Some(earlier)) if length == earlier => {}
                            _ => {
                                let misread = Misread::new(Rule::ContentLength, value);
                                head.misread.get_or_insert(misread);
                            }
                        }
                    }
                }
                b"transfer-encoding" => {
                    let last = items().next_back().unwrap_or_default();
                    head.chunked = Some(last.eq_ignore_ascii_case(b"chunked"));
                }
                _ => {}
            }
        }
        Parsed::Whole(head)
    }
}

/// Empty lines before a message are ignored (RFC 9112 §2.2).
fn blank_lines(text: &[u8]) -> usize {
    let is_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    text.iter().take_while(is_end).count()
}

/// Whether a line begins like `HTTP/1.1 200`.
fn is_status_line(text: &[u8]) -> bool {
    let text = &text[blank_lines(text)..];
    matches!(
        text,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', a, b, c, rest @ ..]
            if [minor, a, b, c].iter().all(|digit| digit.is_ascii_digit())
                && matches!(rest, [] | [b' ' | b'\r' | b'\n', ..])
    )
}

fn status(line: &[u8]) -> u16 {
    let digits = line.get(9..12).unwrap_or_default();
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
}

/// Whether a line begins with a method and a blank; a whole line must also end in a version of
/// HTTP/1.
fn is_request_line(text: &[u8]) -> bool {
    const METHOD_BYTES_MAX: usize = 32;
    let text = &text[blank_lines(text)..];
    // RFC 9110 §5.6.2
    let is_token = |byte: &&u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let method = text.iter().take_while(is_token).count();
    if !(1..=METHOD_BYTES_MAX).contains(&method) || text.get(method) != Some(&b' ') {
        return false;
    }
    match memchr::memchr(b'\n', text) {
        Some(end) => {
            let line = text[..end].strip_suffix(b"\r").unwrap_or(&text[..end]);
            line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0")
        }
        // The line continues in the next segment or beyond the snap length; other text should not
        // be mistaken for a request.
        None => {
            let is_known = |byte: &u8| byte.is_ascii_uppercase() || b"-_".contains(byte);
            let is_text = |byte: &u8| !byte.is_ascii_control() || *byte == b'\r';
            text[..method].iter().all(is_known) && text.iter().all(is_text)
        }
    }
}

fn is_start_line(text: &[u8], start: Start) -> bool {
    match start {
        Start::Status => is_status_line(text),
        Start::Request => is_request_line(text),
    }
}

/// Whether a text begins a head, or may begin one if it is too short to tell.
fn begins(text: &[u8], start: Start) -> bool {
    let rest = &text[blank_lines(text)..];
    let may_become = || match start {
        Start::Status if rest.len() < b"HTTP/1.1 200".len() => {
            b"HTTP/1.".starts_with(&rest[..rest.len().min(7)])
        }
        Start::Status => false,
        Start::Request => rest.len() < 32 && rest.iter().all(u8::is_ascii_uppercase),
    };
    is_start_line(text, start) || may_become()
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    text.parse().ok()
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    u64::from_str_radix(text, 16).ok()
}

/// The protocol of a connection that is not HTTP/1, by the first bytes of either side.
fn protocol(sent: &Stream, got: &Stream) -> Option<&'static str> {
    let begins = |text: &[u8], start: &[u8]| text.starts_with(start);
    let (client, server) = (sent.text(0), got.text(0));
    let is_tls = |text: &[u8]| {
        matches!(text, [20..=24, 3, 0..=4, high, low, ..]
            if u16::from_be_bytes([*high, *low]) <= (1 << 14) + 2048)
    };
    let either = |is: &dyn Fn(&[u8]) -> bool| is(client) || is(server);
    if either(&is_tls) {
        return Some("TLS");
    }
    if begins(client, b"PRI * HTTP/2.0\r\n") || is_http_2(server) {
        return Some("HTTP/2");
    }
    if either(&|text| begins(text, b"SSH-")) {
        return Some("SSH");
    }
    if begins(client, b"PROXY TCP") || begins(client, b"\r\n\r\n\0\r\nQUIT\n") {
        return Some("the PROXY protocol");
    }
    let is_greeting = |text: &[u8]| matches!(text, [b'2', b'2', b'0', b' ' | b'-', ..]);
    if is_greeting(server) {
        return Some("a mail or file server's protocol (SMTP, FTP)");
    }
    let is_request_0_9 = |text: &[u8]| {
        begins(text, b"GET /") && {
            let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            line.len() < text.len() && !line[4..].trim_ascii_end().contains(&b' ')
        }
    };
    is_request_0_9(client).then_some("HTTP/0.9")
}

/// The SETTINGS frame that a server sends first (RFC 9113 §3.4).
fn is_http_2(text: &[u8]) -> bool {
    matches!(text, [0, 0, length, 4, 0, 0, 0, 0, 0, ..] if length % 6 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::streams::tests::segment;
    use super::*;

    /// A conversation, segment by segment.
    #[derive(Default, Clone)]
    struct Talk {
        client: Vec<Packet>,
        server: Vec<Packet>,
        /// Payloads are captured up to this many bytes.
        snap: Option<usize>,
    }

    impl Talk {
        fn say(&mut self, is_client: bool, text: &[u8]) -> &mut Self {
            let end = |packets: &[Packet]| {
                packets.last().map_or(1000, |it| {
                    it.sequence + it.payload_bytes + u32::from(it.flags.fin)
                })
            };
            let (own, peer) = match is_client {
                true => (end(&self.client), end(&self.server)),
                false => (end(&self.server), end(&self.client)),
            };
            let captured = self.snap.unwrap_or(usize::MAX).min(text.len());
            let mut packet = segment(own, text.len() as u32, &text[..captured]);
            packet.acknowledgement = peer;
            match is_client {
                true => self.client.push(packet),
                false => self.server.push(packet),
            }
            self
        }

        fn ask(&mut self, text: &str) -> &mut Self {
            self.say(true, text.as_bytes())
        }

        fn answer(&mut self, text: &str) -> &mut Self {
            self.say(false, text.as_bytes())
        }

        fn snap(&mut self, bytes: usize) -> &mut Self {
            self.snap = Some(bytes);
            self
        }

        /// The messages after the server closes, with both SYNs in front.
        fn read(&self) -> Messages {
            let mut talk = self.clone();
            talk.answer("");
            talk.server.last_mut().expect("the last").flags.fin = true;
            talk.with_syns().messages(false)
        }

        fn with_syns(mut self) -> Self {
            for packets in [&mut self.client, &mut self.server] {
                let mut syn = segment(999, 0, b"");
                syn.flags.syn = true;
                packets.insert(0, syn);
            }
            self
        }

        fn messages(&self, unseen_fin: bool) -> Messages {
            let refs = |packets: &'_ [Packet]| -> Vec<Packet> { packets.to_vec() };
            let (client, server) = (refs(&self.client), refs(&self.server));
            Messages::of(
                &client.iter().collect::<Vec<_>>(),
                &server.iter().collect::<Vec<_>>(),
                [false, unseen_fin],
            )
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
    const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn body(came: u64, promised: impl Into<Option<u64>>) -> Option<Cut> {
        Some(Cut::Body {
            came,
            promised: promised.into(),
        })
    }

    /// A case: its name; what each side says in turn (`>` the client, `<` the server); how many
    /// requests and complete responses there are; how the last response is cut.
    type Row<'a> = (&'a str, &'a [(char, &'a str)], (usize, usize), Option<Cut>);

    fn rows() -> Vec<Row<'static>> {
        vec![
            ("one", &[('>', GET), ('<', HELLO)], (1, 1), None),
            (
                "GET, HEAD",
                &[('>', GET), ('<', HELLO), ('>', HEAD), ('<', LONG)],
                (2, 2),
                None,
            ),
            (
                "HEAD, HEAD",
                &[('>', HEAD), ('<', LONG), ('>', HEAD), ('<', LONG)],
                (2, 2),
                None,
            ),
            (
                "HEAD, GET that is cut",
                &[
                    ('>', HEAD),
                    ('<', LONG),
                    ('>', GET),
                    ('<', LONG),
                    ('<', "xxxxxxxxxxxxxxxxxxxx"),
                ],
                (2, 1),
                body(20, 500),
            ),
            (
                "GET that is cut at its head",
                &[('>', GET), ('<', LONG)],
                (1, 0),
                body(0, 500),
            ),
            (
                "head is not HEAD",
                &[('>', "head / HTTP/1.1\r\n\r\n"), ('<', LONG)],
                (1, 0),
                body(0, 500),
            ),
            (
                "pipelined",
                &[
                    (
                        '>',
                        "HEAD /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nHEAD /c HTTP/1.1\r\n\r\n",
                    ),
                    (
                        '<',
                        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
                    ),
                ],
                (3, 3),
                None,
            ),
            (
                "interim",
                &[
                    (
                        '>',
                        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
                    ),
                    ('<', "HTTP/1.1 100 Continue\r\n\r\n"),
                    ('>', "abc"),
                    ('<', "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
                    ('<', HELLO),
                    ('>', GET),
                    ('<', HELLO),
                ],
                (2, 2),
                None,
            ),
            (
                "interim alone",
                &[
                    ('>', GET),
                    ('<', "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
                ],
                (1, 0),
                Some(Cut::Interim),
            ),
            (
                "early answer",
                &[
                    ('>', "POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc"),
                    ('<', "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"),
                    ('>', "def"),
                ],
                (1, 1),
                None,
            ),
            (
                "a body that looks like a request",
                &[
                    (
                        '>',
                        "POST / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                    ),
                    ('<', HELLO),
                ],
                (1, 1),
                None,
            ),
            (
                "204",
                &[
                    ('>', GET),
                    ('<', "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n"),
                ],
                (1, 1),
                None,
            ),
            (
                "304",
                &[
                    ('>', GET),
                    (
                        '<',
                        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                    ),
                ],
                (1, 1),
                None,
            ),
            (
                "101",
                &[
                    ('>', "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
                    (
                        '<',
                        "HTTP/1.1 101 Switching Protocols\r\n\r\n\u{1}\u{5}hello",
                    ),
                    ('>', "\u{1}\u{2}GET / HTTP/1.1\r\n\r\n"),
                ],
                (1, 1),
                None,
            ),
            (
                "CONNECT",
                &[
                    ('>', "CONNECT x:443 HTTP/1.1\r\n\r\n"),
                    ('<', "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
                    ('>', "\u{16}\u{3}\u{1}"),
                    ('<', "xy"),
                ],
                (1, 1),
                None,
            ),
            (
                "CONNECT that is refused",
                &[
                    ('>', "CONNECT x:443 HTTP/1.1\r\n\r\n"),
                    ('<', "HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nno"),
                ],
                (1, 0),
                body(2, 9),
            ),
            (
                "a folded field",
                &[
                    ('>', GET),
                    (
                        '<',
                        "HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 9\r\nContent-Length:\r\n\t5\r\n\r\nhello",
                    ),
                ],
                (1, 1),
                None,
            ),
            (
                "empty lines between",
                &[
                    ('>', GET),
                    ('<', HELLO),
                    ('>', GET),
                    ('<', "\r\n\r\n"),
                    ('<', HELLO),
                ],
                (2, 2),
                None,
            ),
            (
                "lone line feeds",
                &[
                    ('>', "GET / HTTP/1.1\n\n"),
                    ('<', "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
                ],
                (1, 1),
                None,
            ),
            (
                "chunked",
                &[
                    ('>', GET),
                    ('<', CHUNKED),
                    ('<', "5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n"),
                    ('>', GET),
                    ('<', HELLO),
                ],
                (2, 2),
                None,
            ),
            (
                "chunked, cut in a chunk",
                &[('>', GET), ('<', CHUNKED), ('<', "5\r\nhel")],
                (1, 0),
                body(3, None),
            ),
            (
                "chunked, cut before a size",
                &[('>', GET), ('<', CHUNKED), ('<', "5\r\nhello\r\n")],
                (1, 0),
                body(5, None),
            ),
            (
                "chunked, cut before the end",
                &[('>', GET), ('<', CHUNKED), ('<', "5\r\nhello\r\n0\r\n")],
                (1, 0),
                body(5, None),
            ),
            (
                "both framings",
                &[
                    ('>', GET),
                    (
                        '<',
                        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n0\r\n\r\n",
                    ),
                ],
                (1, 1),
                None,
            ),
            (
                "to the end",
                &[('>', GET), ('<', "HTTP/1.1 200 OK\r\n\r\nto the end")],
                (1, 1),
                None,
            ),
            (
                "coded otherwise, to the end",
                &[
                    ('>', GET),
                    ('<', "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxyz"),
                ],
                (1, 1),
                None,
            ),
            (
                "a head that is cut",
                &[('>', GET), ('<', "HTTP/1.1 200 OK\r\nContent-Le")],
                (1, 0),
                Some(Cut::Head),
            ),
            (
                "a head that is cut at once",
                &[('>', GET), ('<', "HTT")],
                (1, 0),
                Some(Cut::Head),
            ),
            (
                "an answer to nobody",
                &[('<', "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")],
                (0, 1),
                None,
            ),
            (
                "the same length twice",
                &[
                    ('>', GET),
                    ('<', "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx"),
                ],
                (1, 1),
                None,
            ),
            (
                "behind a proxy",
                &[
                    (
                        '>',
                        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nHEAD / HTTP/1.1\r\n\r\n",
                    ),
                    ('<', LONG),
                ],
                (1, 1),
                None,
            ),
        ]
    }

    fn talk(said: &[(char, &str)]) -> Talk {
        let mut talk = Talk::default();
        for (who, text) in said {
            talk.say(*who == '>', text.as_bytes());
        }
        talk
    }

    #[test]
    fn each_response_ends_as_its_request_and_its_head_say() {
        for (what, said, counts, cut) in rows() {
            let messages = talk(said).read();
            assert_eq!((messages.requests(), messages.responses), counts, "{what}");
            assert_eq!((messages.cut, messages.unknown), (cut, None), "{what}");
        }
    }

    /// The result does not depend on segment boundaries, repeated segments or capture order.
    #[test]
    fn segments_make_no_difference() {
        for (what, said, counts, cut) in rows() {
            for bytes in [1, 2, 3, 7, 1000] {
                let mut split = Talk::default();
                for (who, text) in said {
                    for piece in text.as_bytes().chunks(bytes) {
                        split.say(*who == '>', piece);
                    }
                }
                let mut again = split.clone();
                again.client.extend(split.client.clone());
                let answered_twice = split.server.iter().flat_map(|it| [it.clone(), it.clone()]);
                again.server = answered_twice.collect();
                for talk in [split, again] {
                    let messages = talk.read();
                    assert_eq!(
                        (messages.requests(), messages.responses),
                        counts,
                        "{what} {bytes}"
                    );
                    assert_eq!(
                        (messages.cut, messages.unknown),
                        (cut, None),
                        "{what} {bytes}"
                    );
                }
            }
        }
    }

    #[test]
    fn faults_are_quoted() {
        let fault = |request: &str, answer: &str| {
            let messages = talk(&[('>', request), ('<', answer)]).read();
            let shown = |it: &Option<Misread>| it.as_ref().map(Misread::to_string);
            assert_eq!(messages.cut, None, "{answer}");
            (messages.misread.each_ref().map(shown), messages.unknown)
        };
        let long = format!("{}\r\nhello", "1".repeat(17));
        let sizes = [
            ("zz\r\nhello\r\n0\r\n\r\n", "zz"),
            ("0x5\r\nhello\r\n0\r\n\r\n", "0x5"),
            (" 5;x\r\nhello\r\n0\r\n\r\n", " 5;x"),
            (&long, "11111111111111111"),
            ("\u{1b}[2J\r\n", "\\x1b[2J"),
        ];
        for (chunks, quoted) in sizes {
            let (misread, unknown) = fault(GET, &format!("{CHUNKED}{chunks}"));
            let expected = format!("an invalid chunk size, \"{quoted}\"");
            assert_eq!(misread, [None, Some(expected)]);
            assert_eq!(unknown, Some(Unknown::Misread(Rule::ChunkSize)));
        }
        let (misread, _) = fault(GET, &format!("{CHUNKED}5\r\nhelloXX0\r\n\r\n"));
        let expected = r#"a chunk that is longer than its size, "XX0\r\n\r\n""#;
        assert_eq!(misread[1].as_deref(), Some(expected));
        for length in ["-5", "5, 6", "five"] {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello");
            let (misread, unknown) = fault(GET, &answer);
            let expected = format!("an invalid Content-Length, \"{length}\"");
            assert_eq!(misread, [None, Some(expected.clone())]);
            assert_eq!(unknown, Some(Unknown::Misread(Rule::ContentLength)));
            // Without a body, the length does not matter.
            assert_eq!(fault(HEAD, &answer.replace("hello", "")).0[1], None);
            let request = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\nhello");
            assert_eq!(fault(&request, HELLO).0, [Some(expected), None]);
        }
        let (misread, unknown) = fault(GET, &format!("{HELLO}what?"));
        let expected = r#"more bytes than the response has, "what?""#;
        assert_eq!((misread[1].as_deref(), unknown), (Some(expected), None));
    }

    #[test]
    fn what_the_snap_length_cut_off_was_sent() {
        let large = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
            "x".repeat(1000)
        );
        // The head was captured, and only part of the body.
        let messages = Talk::default()
            .snap(60)
            .ask(GET)
            .answer(&large)
            .ask(GET)
            .answer(HELLO)
            .read();
        assert_eq!((messages.requests(), messages.responses), (2, 2));
        assert_eq!((messages.cut, messages.unknown), (None, None));
        // The response is really cut, and the capture proves it.
        let short = &large[..large.len() - 100];
        let messages = Talk::default().snap(60).ask(GET).answer(short).read();
        assert_eq!((messages.cut, messages.unknown), (body(900, 1000), None));
        // All chunk sizes were captured.
        let mut talk = Talk::default();
        talk.ask(GET)
            .answer(CHUNKED)
            .snap(8)
            .answer("3e8\r\n")
            .answer(&"x".repeat(1000));
        let messages = talk.answer("\r\n0\r\n\r\n").read();
        assert_eq!(
            (messages.responses, messages.cut, messages.unknown),
            (1, None, None)
        );
        // A chunk size was not captured.
        let off = Some(Unknown::Missing(Missing::CutOff));
        let chunks = format!("3e8\r\n{}\r\n0\r\n\r\n", "x".repeat(1000));
        let messages = Talk::default()
            .ask(GET)
            .answer(CHUNKED)
            .snap(8)
            .answer(&chunks)
            .read();
        assert_eq!(
            (messages.responses, messages.cut, messages.unknown),
            (0, None, off)
        );
        // The head was not captured.
        for bytes in [0, 8, 20] {
            let messages = Talk::default().snap(bytes).ask(GET).answer(&large).read();
            assert_eq!((messages.cut, messages.unknown), (None, off), "{bytes}");
        }
        // A response that begins with a segment is found, and answers the next request.
        let mut talk = Talk::default();
        talk.snap(20)
            .ask(GET)
            .answer(&large)
            .snap(60)
            .ask(HEAD)
            .answer(LONG);
        let messages = talk.read();
        assert_eq!((messages.requests(), messages.responses), (2, 2));
        assert_eq!((messages.cut, messages.unknown), (None, off));
    }

    #[test]
    fn what_was_not_captured_is_not_what_was_not_sent() {
        let part = "x".repeat(250);
        let mut talk = Talk::default();
        talk.ask(GET)
            .answer(LONG)
            .answer(&part)
            .answer(&part)
            .ask(GET)
            .answer(HELLO);
        // Part of the body is missing; its end is known all the same.
        for lost in [1, 2] {
            let mut talk = talk.clone();
            talk.server.remove(lost);
            let messages = talk.read();
            assert_eq!(
                (messages.responses, messages.cut, messages.unknown),
                (2, None, None)
            );
        }
        // The head is missing.
        let mut headless = talk.clone();
        headless.server.remove(0);
        let messages = headless.read();
        assert_eq!((messages.responses, messages.cut), (2, None));
        assert_eq!(messages.unknown, Some(Unknown::Missing(Missing::Unseen)));
        // Everything from the server is missing.
        let mut deaf = talk.clone();
        deaf.server.clear();
        let messages = deaf.with_syns().messages(false);
        assert_eq!((messages.requests(), messages.cut), (2, None));
        // Everything from the client is missing, so a response may answer a HEAD.
        let mut mute = Talk::default();
        mute.ask(GET).answer(LONG);
        mute.client.clear();
        let messages = mute.with_syns().messages(true);
        assert_eq!(
            (messages.cut, messages.unknown),
            (None, Some(Unknown::Request))
        );
        // The end of the record is missing: more may have been sent.
        let mut early = Talk::default();
        early
            .ask(GET)
            .answer(LONG)
            .answer("x")
            .answer("x")
            .answer("x");
        early.server.remove(2);
        let messages = early.clone().with_syns().messages(false);
        assert_eq!(
            (messages.cut, messages.unknown),
            (None, Some(Unknown::Rest))
        );
        // Only an acknowledgement proves the FIN that ends the response.
        let mut closed = Talk::default();
        closed.ask(GET).answer("HTTP/1.1 200 OK\r\n\r\nall");
        closed.client.push(Packet {
            acknowledgement: 1000 + 23,
            ..segment(1000 + GET.len() as u32, 0, b"")
        });
        let closed = closed.with_syns();
        assert_eq!(closed.messages(true).responses, 1);
        assert_eq!(closed.messages(false).cut, body(3, None));
        // With a captured FIN the end is certain.
        assert_eq!(early.read().cut, body(3, 500));
    }

    #[test]
    fn a_capture_that_begins_late_answers_no_request_that_it_has_not_seen() {
        let mut talk = Talk::default();
        talk.ask(HEAD).answer(LONG).ask(GET).answer(HELLO);
        let late = |client: usize, server: usize| {
            let mut talk = talk.clone();
            talk.client.drain(..client);
            talk.server.drain(..server);
            talk.messages(true)
        };
        assert_eq!(late(0, 0).responses, 2);
        // The response to a HEAD, without its request: the next response proves that it has no
        // body.
        let messages = late(1, 0);
        assert_eq!((messages.requests(), messages.responses), (1, 2));
        assert_eq!((messages.cut, messages.unknown), (None, None));
        assert_eq!((late(1, 1).requests(), late(1, 1).responses), (1, 1));
        // The middle of a body is missing.
        let mut midst = Talk::default();
        midst
            .ask(GET)
            .answer(LONG)
            .answer("abc")
            .answer(&"x".repeat(497))
            .ask(HEAD)
            .answer(LONG);
        midst.server.remove(0);
        midst.client.remove(0);
        let messages = midst.messages(true);
        assert_eq!(
            (messages.requests(), messages.responses, messages.cut),
            (1, 1, None)
        );
    }

    #[test]
    fn what_is_not_http_is_named() {
        let rows: [(&[u8], &[u8], Option<&str>); 9] = [
            (b"\x16\x03\x01\x02\x00\x01", b"", Some("TLS")),
            (GET.as_bytes(), HELLO.as_bytes(), None),
            (b"\x01\x02", b"\x15\x03\x03\x00\x02\x02\x46", Some("TLS")),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"", Some("HTTP/2")),
            (b"", b"\0\0\x12\x04\0\0\0\0\0\0\0", Some("HTTP/2")),
            (b"", b"SSH-2.0-OpenSSH_9\r\n", Some("SSH")),
            (
                b"",
                b"220 mail ESMTP\r\n",
                Some("a mail or file server's protocol (SMTP, FTP)"),
            ),
            (b"GET /\r\n", b"hello", Some("HTTP/0.9")),
            (b"\x01\x02\x03", b"\x04", None),
        ];
        for (client, server, expected) in rows {
            let mut talk = Talk::default();
            talk.say(true, client).say(false, server);
            let messages = talk.read();
            assert_eq!(messages.protocol, expected);
            assert_eq!(
                (messages.responses, messages.cut),
                (usize::from(client == GET.as_bytes()), None)
            );
        }
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let known = [
            GET,
            HEAD,
            HELLO,
            LONG,
            CHUNKED,
            "5\r\nhello\r\n",
            "0\r\n\r\n",
            "\r\n",
            "HTTP/1.1 100 C\r\n\r\n",
        ];
        prop_oneof![
            prop::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..20),
        ]
    }

    proptest! {
        /// Arbitrary segments, bytes and numbers, cut anywhere.
        #[test]
        fn any_segments_are_taken(
            parts in prop::collection::vec((any::<bool>(), 0..300_u32, piece(), 0..60_usize, 0..300_u32), 0..20),
            is_late in any::<bool>(),
            unseen_fin in any::<bool>(),
        ) {
            let mut talk = Talk::default();
            for (is_client, sequence, payload, captured, acknowledgement) in parts {
                let captured = &payload[..captured.min(payload.len())];
                let mut packet = segment(1000 + sequence, payload.len() as u32, captured);
                packet.acknowledgement = 1000 + acknowledgement;
                if is_client { talk.client.push(packet) } else { talk.server.push(packet) }
            }
            let talk = if is_late { talk } else { talk.with_syns() };
            let messages = talk.messages(unseen_fin);
            let sent: u64 = talk.client.iter().map(|it| u64::from(it.payload_bytes)).sum();
            prop_assert!(messages.bytes(Side::Client) <= sent);
        }

        /// A conversation reads the same however it is cut into segments.
        #[test]
        fn splits_make_no_difference(
            row in 0..rows().len(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let (what, said, counts, cut) = rows().swap_remove(row);
            let mut split = Talk::default();
            for (who, text) in said {
                let mut places: Vec<usize> = cuts.iter().map(|it| it.index(text.len() + 1)).collect();
                places.extend([0, text.len()]);
                places.sort_unstable();
                for ends in places.windows(2) {
                    split.say(*who == '>', &text.as_bytes()[ends[0]..ends[1]]);
                }
            }
            let messages = split.read();
            prop_assert_eq!((messages.requests(), messages.responses), counts, "{}", what);
            prop_assert_eq!((messages.cut, messages.unknown), (cut, None), "{}", what);
        }
    }
}
