//! The generator's own parser of responses (RFC 9112 §4 to §7). It shares no code with the servers:
//! a common parser would hide its own faults.
//!
//! A [`Reader`] takes bytes as they arrive and reports where each response ends; the result does
//! not depend on how the bytes were split. It keeps no body but can compare it with what is
//! [`Expected`]. If bytes are not HTTP/1, it keeps the first ones and the rule that they break: a
//! [`Misread`].

mod chunked;
mod expected;
mod head;
mod misread;

use std::sync::Arc;

use chunked::Chunk;
use expected::Check;
pub use expected::Expected;
use head::{Coding, Head, Length};
pub use misread::{Misread, Protocol, Rule, is_token};

/// A complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// Status code, 101 or 200 to 999.
    pub status: u16,
    /// Length of the content in bytes, without chunked framing.
    pub body_bytes: u64,
    /// The connection may be reused (RFC 9112 §9.3).
    pub persists: bool,
    /// After it, the connection carries another protocol: a 101, or a successful CONNECT.
    pub switches: bool,
    /// The content is as expected, or nothing was expected.
    pub as_expected: bool,
}

/// How the request's method determines the end of the response (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asked {
    /// Determined by the framing.
    #[default]
    Content,
    /// HEAD: after the head, whatever the head says.
    Head,
    /// CONNECT: after the head, if successful; what follows is not HTTP.
    Connect,
}

impl Asked {
    /// Chooses by method, which is case-sensitive.
    pub fn by(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Asked::Head,
            b"CONNECT" => Asked::Connect,
            _ => Asked::Content,
        }
    }

    /// Chooses by the bytes of a request.
    pub fn of_request(request: &[u8]) -> Self {
        let method = request.split(|&byte| byte == b' ').next();
        Asked::by(method.unwrap_or_default())
    }
}

/// The result of [`Reader::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A response ends within the input; the number of input bytes that belong to it.
    Complete(Response, usize),
    /// The whole input belongs to a response that continues.
    Incomplete,
    /// The input is not HTTP/1; [`Reader::misread`] says why.
    Malformed,
}

/// Parses the responses of one connection, one after another.
#[derive(Debug)]
pub struct Reader {
    asked: Asked,
    state: State,
    /// The fields of an unfinished head so far.
    head: Head,
    /// The part of the head's next line that has arrived.
    partial: Vec<u8>,
    /// The number of interim responses before the current one.
    interim: usize,
    /// Bytes of the current chunk size line or trailer section.
    line_bytes: usize,
    /// The response whose body is being read.
    response: Response,
    check: Check,
    misread: Option<Misread>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunk),
    /// The body ends with the connection.
    UntilClose,
}

/// The longest head in bytes, including empty lines before it; also the longest chunk size line and
/// the longest trailer section.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The maximum number of interim responses before a final one.
const INTERIM_MAX: usize = 100;

const NOTHING: Response = Response {
    status: 0,
    body_bytes: 0,
    persists: false,
    switches: false,
    as_expected: true,
};

impl Reader {
    /// A reader for a new connection. Responses to HEAD have no body, whatever their head says.
    pub fn new(head_only: bool) -> Self {
        Reader {
            asked: if head_only {
                Asked::Head
            } else {
                Asked::Content
            },
            state: State::Head,
            head: Head::default(),
            partial: Vec::new(),
            interim: 0,
            line_bytes: 0,
            response: NOTHING,
            check: Check::Nothing,
            misread: None,
        }
    }

    /// Compares all content with what is expected.
    pub fn expecting(self, expected: Option<&Arc<Expected>>) -> Self {
        let check = expected.map_or(Check::Nothing, Check::new);
        Reader { check, ..self }
    }

    /// Sets the kind of request that the responses from the next one on answer.
    pub fn answers(&mut self, asked: Asked) {
        self.asked = asked;
    }

    /// Resets the reader for a new connection.
    pub fn reset(&mut self) {
        self.state = State::Head;
        self.head = Head::default();
        self.partial.clear();
        self.interim = 0;
        self.check.finish();
    }

    /// Whether the current response's head is complete but its body is not.
    pub fn in_body(&self) -> bool {
        self.state != State::Head
    }

    /// Whether nothing of a response has arrived, except empty lines before it.
    pub fn is_between(&self) -> bool {
        self.state == State::Head
            && self.head.status == 0
            && self.interim == 0
            && self
                .partial
                .iter()
                .all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// The status of a partly received response, or of the last interim response before it; `None`
    /// before a status line.
    pub fn status(&self) -> Option<u16> {
        let status = match self.state {
            State::Head if self.head.status != 0 || self.interim == 0 => self.head.status,
            _ => self.response.status,
        };
        (status != 0).then_some(status)
    }

    /// The last malformed bytes.
    pub fn misread(&self) -> Option<&Misread> {
        self.misread.as_ref()
    }

    /// The bytes of an incomplete response, as far as they were kept.
    pub fn unread(&self) -> &[u8] {
        &self.partial
    }

    #[inline]
    fn complete(&mut self, used: usize) -> Taken {
        self.interim = 0;
        self.response.as_expected = self.check.finish();
        Taken::Complete(self.response, used)
    }

    #[cold]
    fn malformed(&mut self, rule: Rule, bytes: &[u8]) -> Taken {
        self.misread = Some(Misread::new(rule, bytes));
        Taken::Malformed
    }

    /// Parses `input`, at most to the end of the next response.
    pub fn take(&mut self, input: &[u8]) -> Taken {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Head => match self.take_head(rest) {
                    Ok(Some(used)) => {
                        at += used;
                        if self.state == State::Head && !is_interim(self.response.status) {
                            return self.complete(at);
                        }
                    }
                    Ok(None) => return Taken::Incomplete,
                    Err(Malformed) => return Taken::Malformed,
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
                    self.line_bytes = 0;
                    self.state = State::Chunked(match left - n {
                        0 => Chunk::DataEnd,
                        left => Chunk::Data(left),
                    });
                }
                State::Chunked(chunk) => {
                    at += 1;
                    self.line_bytes += 1;
                    match chunk.step(rest[0]) {
                        _ if self.line_bytes > HEAD_BYTES_MAX => {
                            return self.malformed(Rule::LineTooLong, rest);
                        }
                        Ok(Some(next)) => self.state = State::Chunked(next),
                        Ok(None) => {
                            self.state = State::Head;
                            return self.complete(at);
                        }
                        Err(rule) => return self.malformed(rule, rest),
                    }
                }
            }
        }
    }

    /// Ends the connection. Returns the response that ends with it, if any.
    pub fn end(&mut self) -> Option<Response> {
        let ended = self.state == State::UntilClose;
        self.response.as_expected = self.check.finish();
        self.reset();
        ended.then_some(self.response)
    }

    /// Parses a head, of which earlier bytes may be in `partial`. Returns the number of bytes of
    /// `input` used once the head is complete; the state is then that of the body, or
    /// [`State::Head`] without a body.
    fn take_head(&mut self, input: &[u8]) -> Result<Option<usize>, Malformed> {
        if input.is_empty() {
            return Ok(None);
        }
        let mut head = self.head;
        let kept = self.partial.len();
        let bytes = match kept {
            0 => input,
            _ => {
                self.partial.extend_from_slice(input);
                &self.partial
            }
        };
        let used = match head.read(bytes) {
            Ok((used, true)) if head.bytes + used <= HEAD_BYTES_MAX => used,
            Ok((used, _)) => return self.unfinished(head, used, input),
            Err(fault) => {
                self.misread = Some(Misread::new(fault.rule, &bytes[fault.at..]));
                return Err(Malformed);
            }
        };
        self.partial.clear();
        if self.head.bytes > 0 {
            self.head = Head::default();
        }
        self.response = Response {
            status: head.status,
            persists: head.persists(),
            ..NOTHING
        };
        match self.body_of(&head) {
            Ok(state) => self.state = state,
            Err(rule) => {
                self.malformed(rule, input);
                return Err(Malformed);
            }
        }
        Ok(Some(used - kept))
    }

    /// Keeps the unfinished rest of a head; its complete lines took `used` bytes of the kept bytes
    /// and `input`.
    #[cold]
    fn unfinished(
        &mut self,
        head: Head,
        used: usize,
        input: &[u8],
    ) -> Result<Option<usize>, Malformed> {
        match self.partial.len() {
            0 => self.partial.extend_from_slice(&input[used..]),
            _ => drop(self.partial.drain(..used)),
        }
        self.head = head;
        self.head.bytes += used;
        // A complete head may also be too long.
        if self.head.bytes + self.partial.len() >= HEAD_BYTES_MAX {
            let beginning = std::mem::take(&mut self.partial);
            self.malformed(Rule::HeadTooLong, &beginning);
            return Err(Malformed);
        }
        Ok(None)
    }

    /// How the body after a head ends; [`State::Head`] if there is no body. Applies the rules of
    /// RFC 9112 §6.3 in order.
    #[inline]
    fn body_of(&mut self, head: &Head) -> Result<State, Rule> {
        if head.status < 200 {
            return self.body_of_informational(head.status);
        }
        match self.asked {
            Asked::Content => {}
            Asked::Head => return Ok(State::Head),
            Asked::Connect if head.status < 300 => {
                self.switched();
                return Ok(State::Head);
            }
            Asked::Connect => {}
        }
        if matches!(head.status, 204 | 304) {
            return Ok(State::Head);
        }
        Ok(match (head.coding, head.length) {
            (Coding::Absent, Length::Bytes(0)) => State::Head,
            (Coding::Absent, Length::Bytes(length)) => {
                self.response.body_bytes = length;
                State::Length(length)
            }
            (Coding::Absent, Length::Invalid) => return Err(Rule::ContentLength),
            (Coding::Invalid, _) => return Err(Rule::ChunkedParameter),
            (Coding::Chunked, _) => {
                self.line_bytes = 0;
                State::Chunked(Chunk::FIRST)
            }
            (Coding::Other, _) | (Coding::Absent, Length::Absent) => {
                self.response.persists = false;
                State::UntilClose
            }
        })
    }

    /// A 101 is the final answer; other interim responses precede it.
    #[cold]
    fn body_of_informational(&mut self, status: u16) -> Result<State, Rule> {
        if !is_interim(status) {
            self.switched();
            return Ok(State::Head);
        }
        self.interim += 1;
        match self.interim > INTERIM_MAX {
            true => Err(Rule::TooManyInterim),
            false => Ok(State::Head),
        }
    }

    fn switched(&mut self) {
        self.response.persists = false;
        self.response.switches = true;
    }
}

fn is_interim(status: u16) -> bool {
    status < 200 && status != 101
}

struct Malformed;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses all responses of `input` given in pieces; the last is `None` if the input is
    /// malformed.
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

    /// The bytes on the wire, whether they answer HEAD, whether the peer then closes, and the
    /// expected responses.
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
            &[Some((101, 0, false))],
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
                        // Twice, because the check must not carry over to the next response.
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
