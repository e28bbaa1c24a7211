//! The generator's own reading of responses (RFC 9112 §4, §6, §7), shared with no server: a parser that
//! both sides used would hide its own faults.
//!
//! A [`Reader`] takes bytes as they come and tells where each response ends. It keeps no body, but can
//! hold it against what is [`Expected`].

use std::str::FromStr;
use std::sync::Arc;

use memchr::memchr;
use sha2::{Digest as _, Sha256};

/// A whole response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// Status code, 200 to 999.
    pub status: u16,
    /// Length of its content in bytes, without chunked framing.
    pub body_bytes: u64,
    /// The connection may be used again (9112 §9.3).
    pub persists: bool,
    /// Its content is what was expected, or nothing was.
    pub as_expected: bool,
}

/// What the content of a response must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// These bytes.
    Text(Vec<u8>),
    /// Bytes with this SHA-256 (FIPS 180-4).
    Sha256([u8; 32]),
}

/// `sha256:` and 64 hexadecimal digits, or those digits alone, are a hash; all else is the text itself.
impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, marked) = match text.strip_prefix("sha256:") {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let pairs = digits.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match bytes.map(<[u8; 32]>::try_from) {
            Some(Ok(hash)) if hex && digits.len() == 64 => Ok(Expected::Sha256(hash)),
            _ if marked => Err("expected 64 hexadecimal digits after sha256:".to_owned()),
            _ => Ok(Expected::Text(text.as_bytes().to_vec())),
        }
    }
}

/// Holds content against what is expected, as it comes.
#[derive(Debug)]
enum Check {
    Nothing,
    /// So many bytes were as expected; `None` when one was not.
    Text(Arc<Expected>, Option<usize>),
    Sha256(Arc<Expected>, Box<Sha256>),
}

impl Check {
    fn new(expected: &Arc<Expected>) -> Self {
        match **expected {
            Expected::Text(_) => Check::Text(Arc::clone(expected), Some(0)),
            Expected::Sha256(_) => Check::Sha256(Arc::clone(expected), Box::default()),
        }
    }

    #[inline]
    fn update(&mut self, content: &[u8]) {
        match self {
            Check::Nothing => {}
            Check::Text(expected, matched) => {
                let Expected::Text(text) = &**expected else {
                    return;
                };
                *matched = matched
                    .filter(|&at| text[at..].starts_with(content))
                    .map(|at| at + content.len());
            }
            Check::Sha256(_, hasher) => hasher.update(content),
        }
    }

    /// Whether the content was as expected; ready for the next.
    #[inline]
    fn finish(&mut self) -> bool {
        match self {
            Check::Nothing => true,
            Check::Text(expected, matched) => {
                let matched = matched.replace(0);
                matches!(&**expected, Expected::Text(text) if matched == Some(text.len()))
            }
            Check::Sha256(expected, hasher) => {
                let hash = hasher.finalize_reset();
                matches!(&**expected, Expected::Sha256(expected) if hash.as_slice() == expected)
            }
        }
    }
}

/// What [`Reader::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A response ends within the bytes given: so many of them belong to it.
    Complete(Response, usize),
    /// All bytes given belong to a response that goes on.
    Incomplete,
    /// This is not HTTP/1.
    Malformed,
}

/// Reads the responses of one connection, one after another.
#[derive(Debug)]
pub struct Reader {
    /// Responses to HEAD have no body, whatever their head says.
    head_only: bool,
    state: State,
    /// A head of which some bytes have come.
    partial: Vec<u8>,
    /// Of the response whose body is being read.
    response: Response,
    check: Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunk),
    /// The body ends with the connection.
    UntilClose,
}

/// Where in a chunked body the reader stands (9112 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// The size so far, and whether it has a digit yet.
    Size(u64, bool),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataEndLf,
    TrailerStart,
    Trailer,
    LastLf,
}

/// Longest head in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

const NOTHING: Response = Response {
    status: 0,
    body_bytes: 0,
    persists: false,
    as_expected: true,
};

impl Reader {
    /// A reader for a new connection.
    pub fn new(head_only: bool) -> Self {
        Reader {
            head_only,
            state: State::Head,
            partial: Vec::new(),
            response: NOTHING,
            check: Check::Nothing,
        }
    }

    /// The same, holding all content against what is expected.
    pub fn expecting(self, expected: Option<&Arc<Expected>>) -> Self {
        let check = expected.map_or(Check::Nothing, Check::new);
        Reader { check, ..self }
    }

    /// Forgets what it has read: the connection is a new one.
    pub fn reset(&mut self) {
        self.state = State::Head;
        self.partial.clear();
        self.check.finish();
    }

    /// Whether the head of a response has come, and its body not wholly.
    pub fn in_body(&self) -> bool {
        self.state != State::Head
    }

    fn complete(&mut self, used: usize) -> Taken {
        self.response.as_expected = self.check.finish();
        Taken::Complete(self.response, used)
    }

    /// Reads on over `input`, to the end of the next response at most.
    pub fn take(&mut self, input: &[u8]) -> Taken {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Head => match self.take_head(rest) {
                    Ok(Some(used)) => {
                        at += used;
                        if self.state == State::Head && self.response.status >= 200 {
                            return self.complete(at);
                        }
                    }
                    Ok(None) => return Taken::Incomplete,
                    Err(NotHttp) => return Taken::Malformed,
                },
                _ if rest.is_empty() => return Taken::Incomplete,
                State::UntilClose => {
                    self.response.body_bytes += rest.len() as u64;
                    self.check.update(rest);
                    return Taken::Incomplete;
                }
                State::Length(left) => {
                    let n = left.min(rest.len() as u64);
                    self.check.update(&rest[..n as usize]);
                    at += n as usize;
                    if n == left {
                        self.state = State::Head;
                        return self.complete(at);
                    }
                    self.state = State::Length(left - n);
                }
                State::Chunked(Chunk::Data(left)) => {
                    let n = left.min(rest.len() as u64);
                    self.check.update(&rest[..n as usize]);
                    at += n as usize;
                    self.response.body_bytes += n;
                    self.state = State::Chunked(match left - n {
                        0 => Chunk::DataEnd,
                        left => Chunk::Data(left),
                    });
                }
                State::Chunked(chunk) => {
                    at += 1;
                    match chunk.step(rest[0]) {
                        Ok(Some(next)) => self.state = State::Chunked(next),
                        Ok(None) => {
                            self.state = State::Head;
                            return self.complete(at);
                        }
                        Err(NotHttp) => return Taken::Malformed,
                    }
                }
            }
        }
    }

    /// The connection has ended. Returns the response that ended with it, if one did.
    pub fn end(&mut self) -> Option<Response> {
        let ended = self.state == State::UntilClose;
        self.response.as_expected = self.check.finish();
        self.reset();
        ended.then_some(self.response)
    }

    /// Reads a head, of which earlier bytes may have been kept. Returns how many bytes of `input` it
    /// took once it is whole; the state is then that of its body, or [`State::Head`] without one.
    fn take_head(&mut self, input: &[u8]) -> Result<Option<usize>, NotHttp> {
        if input.is_empty() {
            return Ok(None);
        }
        let kept = self.partial.len();
        let head = match kept {
            0 => Head::parse(input)?,
            _ => {
                self.partial.extend_from_slice(input);
                Head::parse(&self.partial)?
            }
        };
        let Some(head) = head else {
            if kept == 0 {
                self.partial.extend_from_slice(input);
            }
            return match self.partial.len() {
                ..=HEAD_BYTES_MAX => Ok(None),
                _ => Err(NotHttp),
            };
        };
        self.partial.clear();
        self.response = Response {
            status: head.status,
            persists: head.persists,
            ..NOTHING
        };
        // 9112 §6.3, in its order.
        self.state = match head {
            // We never ask for another protocol.
            Head { status: 101, .. } => return Err(NotHttp),
            // An interim response: the final one follows.
            Head {
                status: 100..200, ..
            } => State::Head,
            Head {
                status: 204 | 304, ..
            } => State::Head,
            _ if self.head_only => State::Head,
            Head {
                chunked: Some(true),
                ..
            } => State::Chunked(Chunk::Size(0, false)),
            Head {
                chunked: Some(false),
                ..
            } => State::UntilClose,
            Head {
                length: Some(0), ..
            } => State::Head,
            Head {
                length: Some(length),
                ..
            } => {
                self.response.body_bytes = length;
                State::Length(length)
            }
            Head { length: None, .. } => State::UntilClose,
        };
        if self.state == State::UntilClose {
            self.response.persists = false;
        }
        Ok(Some(head.bytes - kept))
    }
}

struct NotHttp;

struct Head {
    status: u16,
    persists: bool,
    length: Option<u64>,
    /// There is a Transfer-Encoding, and whether it ends in chunked.
    chunked: Option<bool>,
    /// Length of the head itself.
    bytes: usize,
}

impl Head {
    /// `None` when its end has not come yet.
    fn parse(input: &[u8]) -> Result<Option<Head>, NotHttp> {
        let mut lines = Lines { input, at: 0 };
        let Some(line) = lines.next() else {
            // Garbage need not be waited for until it has a line end.
            let start = &input[..input.len().min(7)];
            return match b"HTTP/1.".starts_with(start) {
                true => Ok(None),
                false => Err(NotHttp),
            };
        };
        let (minor, status) = status_line(line)?;
        let mut length = None;
        let mut chunked = None;
        let (mut close, mut keep_alive) = (false, false);
        loop {
            let Some(line) = lines.next() else {
                return Ok(None);
            };
            if line.is_empty() {
                break;
            }
            // Told apart by length first: most header fields are none of these.
            let Some(colon) = memchr(b':', line) else {
                return Err(NotHttp);
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            match colon {
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let value = decimal(value).ok_or(NotHttp)?;
                    if length.is_some_and(|earlier| earlier != value) {
                        return Err(NotHttp);
                    }
                    length = Some(value);
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    let last = list(value).last().unwrap_or_default();
                    chunked = Some(last.eq_ignore_ascii_case(b"chunked"));
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    for option in list(value) {
                        close |= option.eq_ignore_ascii_case(b"close");
                        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                _ => {}
            }
        }
        Ok(Some(Head {
            status,
            persists: !close && (minor > 0 || keep_alive),
            length,
            chunked,
            bytes: lines.at,
        }))
    }
}

/// Lines without their ends, which are CR LF or a lone LF (9112 §2.2).
struct Lines<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.input[self.at..];
        let end = memchr(b'\n', rest)?;
        self.at += end + 1;
        let line = &rest[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// `HTTP/1.x SSS reason`: the minor version and the status.
fn status_line(line: &[u8]) -> Result<(u8, u16), NotHttp> {
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        minor,
        b' ',
        a,
        b,
        c,
        rest @ ..,
    ] = line
    else {
        return Err(NotHttp);
    };
    let digits = [minor, a, b, c];
    if !digits.iter().all(|byte| byte.is_ascii_digit()) || !matches!(rest, [] | [b' ', ..]) {
        return Err(NotHttp);
    }
    let [minor, a, b, c] = digits.map(|byte| byte - b'0');
    match u16::from(a) * 100 + u16::from(b) * 10 + u16::from(c) {
        status @ 100.. => Ok((minor, status)),
        _ => Err(NotHttp),
    }
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

impl Chunk {
    /// The state after one byte; `None` behind the last.
    fn step(self, byte: u8) -> Result<Option<Chunk>, NotHttp> {
        Ok(Some(match (self, byte) {
            (Chunk::Size(size, _), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let size = size.checked_mul(16).ok_or(NotHttp)?;
                Chunk::Size(size + u64::from(digit), true)
            }
            (Chunk::Size(size, true), b'\r') => Chunk::SizeEnd(size),
            (Chunk::Size(size, true), b';' | b' ' | b'\t') => Chunk::Extension(size),
            (Chunk::Extension(size), b'\r') => Chunk::SizeEnd(size),
            (Chunk::Extension(size), byte) if byte != b'\n' => Chunk::Extension(size),
            (Chunk::SizeEnd(0), b'\n') => Chunk::TrailerStart,
            (Chunk::SizeEnd(size), b'\n') => Chunk::Data(size),
            (Chunk::DataEnd, b'\r') => Chunk::DataEndLf,
            (Chunk::DataEndLf, b'\n') => Chunk::Size(0, false),
            (Chunk::TrailerStart, b'\r') => Chunk::LastLf,
            (Chunk::LastLf, b'\n') => return Ok(None),
            (Chunk::Trailer, b'\n') => Chunk::TrailerStart,
            (Chunk::TrailerStart | Chunk::Trailer, byte) if byte != b'\n' => Chunk::Trailer,
            _ => return Err(NotHttp),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads all responses of `input` given in pieces; `None` at the end for something malformed.
    fn read<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
        head_only: bool,
        closed: bool,
    ) -> Vec<Option<(u16, u64, bool)>> {
        let mut reader = Reader::new(head_only);
        let mut found = Vec::new();
        let seen = |r: Response| Some((r.status, r.body_bytes, r.persists));
        for mut piece in pieces {
            loop {
                match reader.take(piece) {
                    Taken::Complete(response, used) => {
                        found.push(seen(response));
                        piece = &piece[used..];
                    }
                    Taken::Incomplete => break,
                    Taken::Malformed => {
                        found.push(None);
                        return found;
                    }
                }
            }
        }
        if closed && let Some(response) = reader.end() {
            found.push(seen(response));
        }
        found
    }

    type Found = &'static [Option<(u16, u64, bool)>];

    /// What stands on the wire, whether it answers HEAD, whether the peer then closes, what is in it.
    const CASES: &[(&str, bool, bool, Found)] = &[
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            false,
            false,
            &[Some((200, 3, true))],
        ),
        (
            "HTTP/1.1 200\r\ncontent-length:3\r\n\r\nabc",
            false,
            false,
            &[Some((200, 3, true))],
        ),
        (
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            false,
            false,
            &[Some((200, 0, true))],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
            false,
            true,
            &[],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            false,
            false,
            &[Some((200, 3, true)), Some((404, 0, true))],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
            true,
            false,
            &[Some((200, 0, true))],
        ),
        (
            "HTTP/1.1 204 No Content\r\n\r\n",
            false,
            false,
            &[Some((204, 0, true))],
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            false,
            false,
            &[Some((304, 0, true))],
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\nto the end",
            false,
            true,
            &[Some((200, 10, false))],
        ),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", false, false, &[]),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
            false,
            false,
            &[Some((200, 1, false))],
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na",
            false,
            false,
            &[Some((200, 1, true))],
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 1\r\n\r\na",
            false,
            false,
            &[Some((200, 1, false))],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
            false,
            false,
            &[Some((200, 13, true)), Some((204, 0, true))],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
            false,
            true,
            &[Some((200, 3, false))],
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            false,
            false,
            &[Some((200, 2, true))],
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            false,
            false,
            &[None],
        ),
        ("HTTP/2 200 OK\r\n\r\n", false, false, &[None]),
        ("SSH-2.0-OpenSSH\r\n", false, false, &[None]),
        ("HTTP/1.1 20 OK\r\n\r\n", false, false, &[None]),
        ("HTTP/1.1 2000 OK\r\n\r\n", false, false, &[None]),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", false, false, &[None]),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            false,
            false,
            &[None],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            false,
            false,
            &[None],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
            false,
            false,
            &[None],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz",
            false,
            false,
            &[None],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd",
            false,
            false,
            &[None],
        ),
    ];

    #[test]
    fn responses_end_where_their_framing_says() {
        for (wire, head_only, closed, expected) in CASES {
            let found = read([wire.as_bytes()], *head_only, *closed);
            assert_eq!(found, *expected, "{wire:?}");
        }
    }

    #[test]
    fn split_at_every_byte_they_are_the_same() {
        for (wire, head_only, closed, expected) in CASES {
            let found = read(wire.as_bytes().chunks(1), *head_only, *closed);
            assert_eq!(found, *expected, "{wire:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let mut reader = Reader::new(false);
        assert_eq!(reader.take(b"HTTP/1.1 200 OK\r\n"), Taken::Incomplete);
        let line = [b"X: ".as_slice(), &[b'x'; 997], b"\r\n"].concat();
        let outcomes: Vec<_> = (0..70).map(|_| reader.take(&line)).collect();
        assert_eq!(outcomes.last(), Some(&Taken::Malformed));
    }

    #[test]
    fn content_is_held_against_what_is_expected() {
        let hello = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
        let marked = format!("sha256:{hello}");
        assert!("sha256:12".parse::<Expected>().is_err());
        let answer = |body: &str| {
            let length = body.len();
            let chunks: String = body.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
            [
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"),
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"),
                format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
            ]
        };
        for expected in ["hello world", hello, &marked] {
            let expected: Arc<Expected> = Arc::new(expected.parse().unwrap());
            for (body, matches) in [
                ("hello world", true),
                ("hello worlds", false),
                ("hello worl", false),
                ("hello_world", false),
                ("", false),
            ] {
                for wire in answer(body) {
                    for size in [1, 7, wire.len()] {
                        let mut reader = Reader::new(false).expecting(Some(&expected));
                        // Twice, as a check must not carry over to the next response.
                        for _ in 0..2 {
                            let mut found = None;
                            for piece in wire.as_bytes().chunks(size) {
                                if let Taken::Complete(response, _) = reader.take(piece) {
                                    found = Some(response);
                                }
                            }
                            let found = found.or_else(|| reader.end()).unwrap();
                            assert_eq!(found.as_expected, matches, "{wire:?} by {size}");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn anything_can_come_in_any_pieces(
            input in proptest::collection::vec(any::<u8>(), 0..200),
            size in 1..50usize,
        ) {
            let input = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &input[..]].concat();
            prop_assert_eq!(
                read([&input[..]], false, true),
                read(input.chunks(size), false, true)
            );
        }
    }
}
