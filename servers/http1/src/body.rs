//! Request bodies. They are read to their end and discarded, so that the next request can be answered.

use crate::response::Status;

/// How a head announces the length of its body (9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// The position of the reader in a body.
#[derive(Debug)]
pub(crate) struct Body {
    state: State,
    /// Bytes of content seen, and the most that are allowed.
    content: u64,
    content_max: u64,
    /// Bytes of chunk extensions, leading zeros and trailers seen; their limit is that of a head.
    overhead: usize,
    overhead_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    /// In a chunk-size: its value so far, and whether it has a digit yet (9112 §7.1).
    Size(u64, bool),
    /// In the chunk extensions, which are ignored.
    Extension(u64, Extension),
    /// After the CR that ends a chunk-size line.
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line; an empty one ends the body (9112 §7.1.2).
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// The position in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (9112 §7.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    /// In white space that may be followed only by another extension.
    Space,
    /// After a `;`.
    NameStart,
    Name,
    /// In white space after a name.
    NameEnd,
    /// After a `=`.
    ValueStart,
    Value,
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
    /// After a quoted string.
    QuotedEnd,
}

/// The outcome of [`Body::take`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The body ends within the given bytes; this many of them belong to it.
    Complete(usize),
    /// All given bytes belong to the body, and more must follow.
    Incomplete,
    Invalid(Status),
}

impl Body {
    /// Makes a reader for a body, or returns the status with which to refuse it at once.
    pub(crate) fn new(
        framing: Framing,
        content_max: u64,
        overhead_max: usize,
    ) -> Result<Body, Status> {
        let state = match framing {
            Framing::Length(length) if length > content_max => return Err(Status::ContentTooLarge),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(0, false),
        };
        Ok(Body {
            state,
            content: 0,
            content_max,
            overhead: 0,
            overhead_max,
        })
    }

    /// Bytes of content seen so far.
    pub(crate) fn content(&self) -> u64 {
        self.content
    }

    /// Reads the next bytes of the body from `input`.
    pub(crate) fn take(&mut self, input: &[u8]) -> Taken {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Done | State::Length(0) => return Taken::Complete(at),
                _ if rest.is_empty() => return Taken::Incomplete,
                State::Length(left) => {
                    let n = self.skip(rest, left);
                    at += n as usize;
                    self.state = State::Length(left - n);
                }
                State::Data(left) => {
                    let n = self.skip(rest, left);
                    at += n as usize;
                    self.state = match left - n {
                        0 => State::DataCr,
                        left => State::Data(left),
                    };
                }
                _ => match self.step(rest[0]) {
                    Ok(state) => {
                        at += 1;
                        self.state = state;
                    }
                    Err(status) => return Taken::Invalid(status),
                },
            }
        }
    }

    /// Skips at most `left` bytes of content in `input`. Returns how many.
    fn skip(&mut self, rest: &[u8], left: u64) -> u64 {
        let n = left.min(rest.len() as u64);
        self.content += n;
        n
    }

    /// Reads one byte of chunked framing. Lines end in CR LF only: recipients disagree about a lone LF, which
    /// attackers use to smuggle requests past one of them.
    fn step(&mut self, byte: u8) -> Result<State, Status> {
        const BAD: Status = Status::BadRequest;
        match self.state {
            State::Extension(..) | State::TrailerName | State::TrailerValue => {
                self.count_overhead()?;
            }
            // Leading zeros count, so that they cannot go on without end.
            State::Size(0, _) if byte == b'0' => self.count_overhead()?,
            _ => {}
        }
        Ok(match (self.state, byte) {
            (State::Size(size, _), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).expect("a hexadecimal digit");
                State::Size(size.checked_mul(16).ok_or(BAD)? + u64::from(digit), true)
            }
            (State::Size(size, true), b'\r') => State::SizeEnd(self.admit(size)?),
            (State::Size(size, true), b';') => {
                State::Extension(self.admit(size)?, Extension::NameStart)
            }
            (State::Size(size, true), b' ' | b'\t') => {
                State::Extension(self.admit(size)?, Extension::Space)
            }
            (State::Extension(size, extension), b'\r') if extension.may_end() => {
                State::SizeEnd(size)
            }
            (State::Extension(size, extension), _) => {
                State::Extension(size, extension.step(byte).ok_or(BAD)?)
            }
            (State::SizeEnd(0), b'\n') => State::TrailerStart,
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0, false),
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(BAD),
        })
    }

    /// Begins a chunk of `size` bytes if the whole body stays within its limit.
    fn admit(&self, size: u64) -> Result<u64, Status> {
        match self.content.checked_add(size) {
            Some(total) if total <= self.content_max => Ok(size),
            _ => Err(Status::ContentTooLarge),
        }
    }

    fn count_overhead(&mut self) -> Result<(), Status> {
        self.overhead += 1;
        if self.overhead > self.overhead_max {
            return Err(Status::HeaderFieldsTooLarge);
        }
        Ok(())
    }
}

impl Extension {
    fn step(self, byte: u8) -> Option<Extension> {
        use Extension::*;
        Some(match (self, byte) {
            (Space | Name | NameEnd | Value | QuotedEnd, b';') => NameStart,
            (NameStart | Name, _) if is_token(byte) => Name,
            (Name | NameEnd, b'=') => ValueStart,
            (ValueStart | Value, _) if is_token(byte) => Value,
            (ValueStart, b'"') => Quoted,
            (Space | NameStart | NameEnd | ValueStart, b' ' | b'\t') => self,
            (Name, b' ' | b'\t') => NameEnd,
            (Value | QuotedEnd, b' ' | b'\t') => Space,
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            _ => return None,
        })
    }

    /// Whether the chunk-size line may end here.
    fn may_end(self) -> bool {
        matches!(
            self,
            Extension::Name | Extension::Value | Extension::QuotedEnd
        )
    }
}

/// Whether a byte may be in a token (9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
        )
        || matches!(byte, b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(framing: Framing, input: &[u8]) -> Taken {
        Body::new(framing, 1000, 100).unwrap().take(input)
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        use Framing::{Chunked, Length};
        for (framing, input, expected) in [
            (Length(0), &b"GET"[..], Taken::Complete(0)),
            (Length(3), b"abcGET", Taken::Complete(3)),
            (Length(3), b"abc", Taken::Complete(3)),
            (Length(4), b"abc", Taken::Incomplete),
            (Chunked, b"0\r\n\r\nGET", Taken::Complete(5)),
            (Chunked, b"3\r\nabc\r\n0\r\n\r\nGET", Taken::Complete(13)),
            (
                Chunked,
                b"3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n",
                Taken::Complete(23),
            ),
            (
                Chunked,
                b"3 ; a=\"b\"\r\nabc\r\n0\r\n\r\n",
                Taken::Complete(21),
            ),
            (
                Chunked,
                b"00A\r\n0123456789\r\n0\r\n\r\n",
                Taken::Complete(22),
            ),
            (
                Chunked,
                b"3;a;b = c\t;d=\"e\\\";f\"\r\nabc\r\n0\r\n\r\n",
                Taken::Complete(32),
            ),
            // The chunks themselves do not count as overhead, however many there are.
            (Chunked, &b"1\r\na\r\n".repeat(900), Taken::Incomplete),
            (Chunked, b"3\r\nabc\r\n", Taken::Incomplete),
            (Chunked, b"0\r\n", Taken::Incomplete),
            (Chunked, b"0\r\n\r", Taken::Incomplete),
        ] {
            assert_eq!(taken(framing, input), expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for input in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"0x3\r\nabc",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd",
            b"3\r\nabc\n0\r\n\r\n",
            b"3;a\nabc",
            b"0\r\n\n",
            b"0\r\n: b\n",
            b"0\r\n a: b\r\n\r\n",
            b"10000000000000000\r\n",
            b"3 \r\nabc\r\n",
            b"3 3\r\nabc\r\n",
            b"3;\r\nabc\r\n",
            b"3;a=\r\nabc\r\n",
            b"3;a b\r\nabc\r\n",
            b"3;a=b \r\nabc\r\n",
            b"3;a=\"b\r\nabc\r\n",
            b"3;a=\"b\"c\r\nabc\r\n",
            b"0\r\nA\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nA(b): c\r\n\r\n",
        ] {
            assert_eq!(
                taken(Framing::Chunked, input),
                Taken::Invalid(Status::BadRequest),
                "{}",
                input.escape_ascii()
            );
        }
    }

    #[test]
    fn large_bodies_are_refused_before_they_are_read() {
        assert_eq!(
            Body::new(Framing::Length(1001), 1000, 100).unwrap_err(),
            Status::ContentTooLarge
        );
        for (input, status) in [
            (&b"3e9\r\n"[..], Status::ContentTooLarge),
            (b"ffffffffffffffff\r\n", Status::ContentTooLarge),
            (&[b'0'; 200], Status::HeaderFieldsTooLarge),
        ] {
            assert_eq!(taken(Framing::Chunked, input), Taken::Invalid(status));
        }
    }
}
