//! Bytes that arrived instead of a response, and what they may be.

use std::fmt;

use serde::Serialize;

/// Bytes that could not be parsed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// The rule that they break.
    pub rule: Rule,
    /// The first bytes, at most [`Misread::BYTES_MAX`], of the response or of the faulty line or
    /// chunk.
    pub bytes: Vec<u8>,
}

/// The rule that a malformed response breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The status line is malformed (RFC 9112 §4).
    StatusLine,
    /// A header field has no colon (RFC 9112 §5).
    NoColon,
    /// Content-Length is not a number, or several values differ (RFC 9112 §6.3).
    ContentLength,
    /// The chunked coding has a parameter (RFC 9112 §7.1).
    ChunkedParameter,
    /// A chunk size is not hexadecimal, or exceeds 64 bits (RFC 9112 §7.1).
    ChunkSize,
    /// The data of a chunk is not followed by a line end (RFC 9112 §7.1).
    ChunkEnd,
    /// The head exceeds a limit of this program.
    HeadTooLong,
    /// A chunk size line or trailer section exceeds a limit of this program.
    LineTooLong,
    /// The number of interim responses exceeds a limit of this program.
    TooManyInterim,
    /// Bytes follow the end of the response.
    BytesBehind,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Rule::StatusLine => "not an HTTP/1 status line",
            Rule::NoColon => "a header field without a colon",
            Rule::ContentLength => "an invalid Content-Length",
            Rule::ChunkedParameter => "a parameter of the chunked coding",
            Rule::ChunkSize => "an invalid chunk size",
            Rule::ChunkEnd => "a chunk that is longer than its size",
            Rule::HeadTooLong => "a head of more than 64 KiB",
            Rule::LineTooLong => "a chunk's size line or trailer section of more than 64 KiB",
            Rule::TooManyInterim => "more than 100 interim responses",
            Rule::BytesBehind => "more bytes than the response has",
        })
    }
}

/// The likely identity of bytes that are not HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// A noun phrase that completes "it sent ...".
    pub name: &'static str,
    /// Advice, as a sentence.
    pub advice: &'static str,
}

impl Misread {
    /// The number of bytes that are kept.
    pub const BYTES_MAX: usize = 64;

    /// Keeps the first of `bytes`.
    pub fn new(rule: Rule, bytes: &[u8]) -> Self {
        Misread {
            rule,
            bytes: bytes[..bytes.len().min(Self::BYTES_MAX)].to_vec(),
        }
    }

    /// The first bytes in quotation marks; everything except printable ASCII is escaped.
    pub fn quoted(&self) -> String {
        const QUOTED_MAX: usize = 32;
        let shown = &self.bytes[..self.bytes.len().min(QUOTED_MAX)];
        let more = if shown.len() < self.bytes.len() {
            "..."
        } else {
            ""
        };
        format!("\"{}\"{more}", shown.escape_ascii())
    }

    /// The protocol that the bytes resemble; `None` for faulty HTTP/1, and if it is unknown.
    pub fn protocol(&self) -> Option<Protocol> {
        (self.rule == Rule::StatusLine)
            .then(|| Protocol::of(&self.bytes))
            .flatten()
    }
}

/// In words: `not an HTTP/1 status line: "SSH-2.0-..."`, with the protocol's name if known.
impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol() {
            Some(protocol) => write!(f, "{}, {}", protocol.name, self.quoted()),
            None => write!(f, "{}, {}", self.rule, self.quoted()),
        }
    }
}

const WELL_FORMED: &str =
    "The status line should read `HTTP/1.1 200 OK` (RFC 9112 §4): check the server.";
const OTHER_PORT: &str = "Use the port on which the server speaks HTTP/1.1.";

impl Protocol {
    /// Guesses from the first bytes that a server sent.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let named = |name, advice| Some(Protocol { name, advice });
        let other = |name| named(name, OTHER_PORT);
        let first_line = bytes.split(|&byte| byte == b'\n').next().unwrap_or(bytes);
        let says = |word: &[u8]| {
            let mut parts = first_line.windows(word.len());
            parts.any(|part| part.eq_ignore_ascii_case(word))
        };
        match bytes {
            [kind @ 0x14..=0x18, 3, 0..=4, ..] => named(
                match kind {
                    0x15 => "a TLS alert",
                    0x16 => "a TLS handshake",
                    _ => "a TLS record",
                },
                "This port speaks TLS, which is not supported: use the server's plain-text port, or a proxy that \
                 terminates TLS.",
            ),
            // A frame header has nine bytes: length, type, flags, stream (RFC 9113 §4.1).
            [0, _, _, kind @ 0..=9, _, 0 | 0x80, 0, 0, _, ..] => named(
                match kind {
                    4 => "an HTTP/2 SETTINGS frame",
                    7 => "an HTTP/2 GOAWAY frame",
                    _ => "an HTTP/2 frame",
                },
                "This port speaks only HTTP/2: use a port on which the server speaks HTTP/1.1.",
            ),
            [b'H', b'T', b'T', b'P', b'/', b'0' | b'2' | b'3', ..]
            | [b'P', b'R', b'I', b' ', b'*', ..] => named(
                "another version of HTTP",
                "Configure the server to answer with HTTP/1.1.",
            ),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', ..] => {
                named("a status line that is not well-formed", WELL_FORMED)
            }
            [b'S', b'S', b'H', b'-', ..] => other("an SSH banner"),
            [b'R', b'T', b'S', b'P', b'/', ..] => other("an RTSP response"),
            [b'S', b'I', b'P', b'/', ..] => other("a SIP response"),
            [b'I', b'C', b'Y', b' ', ..] => other("an ICY (Shoutcast) response"),
            [b'R', b'F', b'B', b' ', ..] => other("a VNC banner"),
            [b'A', b'M', b'Q', b'P', ..] => other("an AMQP header"),
            [b'*', b' ', ..] if says(b"* ok") || says(b"* bye") || says(b"imap") => {
                other("an IMAP greeting")
            }
            [b':', _, ..] if is_irc(first_line) => other("an IRC message"),
            [b'N', b'O', b'T', b'I', b'C', b'E', b' ', ..] => other("an IRC message"),
            [
                b'1'..=b'5',
                b'0'..=b'9',
                b'0'..=b'9',
                b' ' | b'-' | b'\r' | b'\n',
                ..,
            ] => other(match () {
                () if says(b"smtp") => "an SMTP greeting",
                () if says(b"ftp") => "an FTP greeting",
                () if says(b"nntp") || says(b"news") => "an NNTP greeting",
                () => "a reply of a mail, news or file server (SMTP, NNTP, FTP)",
            }),
            [b'+', b'O', b'K', b' ' | b'\r' | b'\n', ..] => other("a POP3 greeting"),
            [b'-' | b'+', b'A'..=b'Z', ..]
                if says(b"-err")
                    || says(b"-denied")
                    || says(b"-noauth")
                    || says(b"+pong")
                    || says(b"-wrongtype") =>
            {
                other("a Redis or POP3 reply")
            }
            [b'E', b'R', b'R', b'O', b'R', b'\r' | b'\n', ..] => other("a memcached reply"),
            // A PostgreSQL error begins with its length and severity.
            [b'E', 0, 0, _, _, b'S', ..] => other("a PostgreSQL error"),
            // A MySQL packet begins with its length and number, followed by the protocol version or
            // an error.
            [_, _, 0, _, 0x0a, b'0'..=b'9', ..] | [_, _, 0, 0 | 1, 0xff, _, ..] => {
                other("a MySQL packet")
            }
            [0x1f, 0x8b, ..] => named(
                "gzip data without a head",
                "The server must send a status line and header fields before the body.",
            ),
            [b'G', b'E', b'T' | b' ', ..]
            | [b'H', b'E', b'A', b'D', b' ', ..]
            | [b'P', b'O', b'S' | b'U', ..]
                if says(b" http/1.") =>
            {
                other("a request: the port echoes what it receives")
            }
            _ => Self::of_text(bytes),
        }
    }

    /// HTTP/0.9 answers with a bare body (RFC 1945 §1.1, RFC 9112 §1).
    fn of_text(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let bytes = bytes.trim_ascii_start();
        let has_a_head = |name| {
            Some(Protocol {
                name,
                advice: WELL_FORMED,
            })
        };
        let is_http = |(name, rest): (&[u8], &[u8])| {
            name.eq_ignore_ascii_case(b"HTTP")
                && matches!(rest, [] | [b'/' | b' ' | b'0'..=b'9', ..])
        };
        if bytes.split_at_checked(4).is_some_and(is_http) {
            return has_a_head("a status line that is not well-formed");
        }
        if is_field(bytes) {
            return has_a_head("header fields without a status line");
        }
        let name = match bytes {
            [b'<', b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z', ..] => {
                "HTML or XML without a head, as in HTTP/0.9"
            }
            [b'{' | b'[', ..] if is_text(bytes) => "JSON without a head, as in HTTP/0.9",
            [_, _, ..] if is_text(bytes) => "text without a head, as in HTTP/0.9",
            _ => return None,
        };
        Some(Protocol {
            name,
            advice: "The server must send a status line and header fields before the body: HTTP/0.9 and plain \
             text are not supported.",
        })
    }
}

/// Whether this is a token (RFC 9110 §5.6.2), such as a method or the name of a field.
pub fn is_token(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_part)
}

/// Whether the first line is `name: value` (RFC 9112 §5), as from a CGI program without a status
/// line.
fn is_field(bytes: &[u8]) -> bool {
    let first_line = bytes.split(|&byte| byte == b'\n').next().unwrap_or(bytes);
    let name = first_line.split(|&byte| byte == b':').next();
    let name = name.filter(|name| name.len() < first_line.len());
    name.is_some_and(is_token) && is_text(first_line)
}

/// Whether a line is `:server NOTICE ...`, or its second word is a number of three digits (RFC 1459
/// §2.3).
fn is_irc(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| byte == b' ').skip(1);
    words.next().is_some_and(|word| {
        matches!(word, b"NOTICE" | b"PING" | b"ERROR")
            || (word.len() == 3 && word.iter().all(u8::is_ascii_digit))
    })
}

/// Whether this is UTF-8 without control characters; the last character may be truncated.
fn is_text(bytes: &[u8]) -> bool {
    let is_whole = |error: std::str::Utf8Error| error.error_len().is_none();
    let is_utf8 = std::str::from_utf8(bytes).map_or_else(is_whole, |_| true);
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    is_utf8 && !bytes.iter().any(is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> &'static str {
        Protocol::of(bytes).map_or("", |protocol| protocol.name)
    }

    #[test]
    fn protocols_are_known_by_their_first_bytes() {
        let rows: &[(&[u8], &str)] = &[
            (b"\x15\x03\x03\0\x02\x02\x46", "a TLS alert"),
            (b"\x15\x03\x01\0\x02\x01\0", "a TLS alert"),
            (b"\x16\x03\x03\0\x7a\x02", "a TLS handshake"),
            (b"\x17\x03\x03\0\x20", "a TLS record"),
            (
                b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64",
                "an HTTP/2 SETTINGS frame",
            ),
            (b"\0\0\0\x04\0\0\0\0\0", "an HTTP/2 SETTINGS frame"),
            (
                b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01",
                "an HTTP/2 GOAWAY frame",
            ),
            (b"HTTP/2 200\r\n", "another version of HTTP"),
            (b"HTTP/0.9 200 OK\r\n", "another version of HTTP"),
            (b"PRI * HTTP/2.0\r\n", "another version of HTTP"),
            (b"HTTP/1.1 OK\r\n", "a status line that is not well-formed"),
            (
                b"http/1.1 200 OK\r\n",
                "a status line that is not well-formed",
            ),
            (
                b" HTTP/1.1 200 OK\r\n",
                "a status line that is not well-formed",
            ),
            (
                b"\xef\xbb\xbfHTTP/1.1 200 OK\r\n",
                "a status line that is not well-formed",
            ),
            (b"HTTP/11 200\r\n", "a status line that is not well-formed"),
            (b"HTTP 200 OK\r\n", "a status line that is not well-formed"),
            (
                b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n",
                "header fields without a status line",
            ),
            (
                b"hello world: that is all",
                "text without a head, as in HTTP/0.9",
            ),
            (
                b":irc.example.com NOTICE * :*** Looking up your hostname\r\n",
                "an IRC message",
            ),
            (
                b":irc.example.com 451 * :Not registered\r\n",
                "an IRC message",
            ),
            (
                b"NOTICE AUTH :*** Looking up your hostname\r\n",
                "an IRC message",
            ),
            (b"SSH-2.0-OpenSSH_9.9\r\n", "an SSH banner"),
            (
                b"220\r\n",
                "a reply of a mail, news or file server (SMTP, NNTP, FTP)",
            ),
            (
                b"220 mail.example.com ESMTP Postfix\r\n",
                "an SMTP greeting",
            ),
            (b"220-FTP server ready\r\n", "an FTP greeting"),
            (b"220 (vsFTPd 3.0.5)\r\n", "an FTP greeting"),
            (
                b"200 news.example.com InterNetNews ready\r\n",
                "an NNTP greeting",
            ),
            (
                b"421 Service not available\r\n",
                "a reply of a mail, news or file server (SMTP, NNTP, FTP)",
            ),
            (b"+OK Dovecot ready.\r\n", "a POP3 greeting"),
            (b"* OK IMAP4rev1 ready\r\n", "an IMAP greeting"),
            (
                b"-ERR wrong number of arguments for 'get' command\r\n",
                "a Redis or POP3 reply",
            ),
            (
                b"-DENIED Redis is running in protected mode",
                "a Redis or POP3 reply",
            ),
            (b"ERROR\r\n", "a memcached reply"),
            (b"\x4a\0\0\0\x0a8.0.36\0", "a MySQL packet"),
            (b"\x45\0\0\0\xff\x6a\x04Host", "a MySQL packet"),
            (b"E\0\0\0\x5dSFATAL\0", "a PostgreSQL error"),
            (b"RTSP/1.0 400 Bad Request\r\n", "an RTSP response"),
            (b"SIP/2.0 400 Bad Request\r\n", "a SIP response"),
            (b"ICY 200 OK\r\n", "an ICY (Shoutcast) response"),
            (b"RFB 003.008\n", "a VNC banner"),
            (b"AMQP\0\0\x09\x01", "an AMQP header"),
            (b"\x1f\x8b\x08\0\0", "gzip data without a head"),
            (
                b"GET / HTTP/1.1\r\nHost: x\r\n",
                "a request: the port echoes what it receives",
            ),
            (
                b"<html><body>hello</body></html>",
                "HTML or XML without a head, as in HTTP/0.9",
            ),
            (
                b"\n <!doctype html>",
                "HTML or XML without a head, as in HTTP/0.9",
            ),
            (b"{\"hello\": 1}", "JSON without a head, as in HTTP/0.9"),
            (b"hello world", "text without a head, as in HTTP/0.9"),
            (
                "Gr\u{fc}\u{df}e".as_bytes(),
                "text without a head, as in HTTP/0.9",
            ),
            (b"\x01\x02\x03\x04", ""),
            (b"\xde\xad\xbe\xef", ""),
            (b"\0", ""),
            (b"", ""),
        ];
        for (bytes, name) in rows {
            assert_eq!(of(bytes), *name, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_quoted_is_short_and_escaped() {
        let misread = Misread::new(Rule::StatusLine, &[0x1b; 1000]);
        assert_eq!(misread.bytes.len(), Misread::BYTES_MAX);
        assert_eq!(misread.quoted(), format!("\"{}\"...", "\\x1b".repeat(32)));
        let banner = Misread::new(Rule::StatusLine, b"SSH-2.0-\"x\"\r\n");
        assert_eq!(banner.to_string(), r#"an SSH banner, "SSH-2.0-\"x\"\r\n""#);
        let field = Misread::new(Rule::NoColon, b"no colon\r\n");
        assert_eq!(
            field.to_string(),
            r#"a header field without a colon, "no colon\r\n""#
        );
        // A header field is HTTP/1, whatever it resembles.
        assert_eq!(Misread::new(Rule::NoColon, b"SSH-2.0").protocol(), None);
    }

    #[test]
    fn anything_can_be_named() {
        for first in 0..=255u8 {
            for length in 0..12 {
                let bytes: Vec<u8> = (0..length).map(|n| first.wrapping_add(n)).collect();
                let _ = Protocol::of(&bytes);
            }
        }
    }
}
