//! A client that reads strictly and shares no code with the servers.

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, SockRef, Socket, Type};

use crate::subject::SOON;

pub(crate) use conformance::{Expected, GET};

/// A request with `Connection: close`.
pub(crate) const LAST_GET: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A response as received.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What a server does, for callers that expect nothing in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// An answer with this status.
    Answer(u16),
    /// Nothing, or part of an answer.
    NotYet,
    /// Bytes that are not an answer, or part of one followed by the end.
    Stray,
    /// The end of the stream or a reset.
    End,
}

pub(crate) struct Client {
    stream: TcpStream,
    /// All bytes received; `received[..read]` have been read as answers.
    received: Vec<u8>,
    read: usize,
    /// Bytes sent by [`send_until_blocked`](Self::send_until_blocked).
    sent: usize,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        Client::connect_by(socket, address)
    }

    /// Connects with a receive buffer for only a few unread answers.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        Client::connect_by(socket, address)
    }

    fn connect_by(socket: Socket, address: SocketAddr) -> Result<Self> {
        (socket.connect_timeout(&address.into(), SOON)).context("connecting")?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(SOON))?;
        socket.set_write_timeout(Some(SOON))?;
        Ok(Client {
            stream: socket.into(),
            received: Vec::new(),
            read: 0,
            sent: 0,
        })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// A second handle of the connection, to send while answers are read.
    pub(crate) fn sender(&self) -> Result<TcpStream> {
        self.stream.try_clone().context("a second handle")
    }

    /// Sends each byte in a write of its own.
    pub(crate) fn send_bytewise(&mut self, bytes: &[u8]) -> Result<()> {
        bytes.chunks(1).try_for_each(|byte| self.send(byte))
    }

    /// Sends requests without reading answers until the server takes no more for a while.
    pub(crate) fn send_until_blocked(&mut self) -> Result<()> {
        let requests = GET.repeat(100);
        self.stream
            .set_write_timeout(Some(Duration::from_millis(100)))?;
        loop {
            match self.stream.write(&requests[self.sent % GET.len()..]) {
                Ok(n) => self.sent += n,
                Err(error) if is_timeout(&error) => return Ok(()),
                Err(error) => return Err(error).context("sending without reading"),
            }
            ensure!(self.sent < 1 << 30, "a server that buffers without limit");
        }
    }

    /// Shuts the client's side.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("shutting")
    }

    /// Sends bytes; the server may have closed, so errors are ignored.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Shuts the client's side; the connection may be gone, so errors are ignored.
    pub(crate) fn try_end(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads what comes next within this time.
    pub(crate) fn reply(&mut self, head_only: bool, within: Duration) -> Result<Reply> {
        self.stream.set_read_timeout(Some(within))?;
        loop {
            match Answer::parse(self.unread(), head_only) {
                Ok(Some((answer, used))) => {
                    self.read += used;
                    return Ok(Reply::Answer(answer.status));
                }
                Ok(None) => {}
                Err(_) => return Ok(Reply::Stray),
            }
            match self.receive() {
                Ok(1..) => {}
                Err(error) if is_timeout(&error) => return Ok(Reply::NotYet),
                Ok(0) | Err(_) if self.unread().is_empty() => return Ok(Reply::End),
                Ok(0) | Err(_) => return Ok(Reply::Stray),
            }
        }
    }

    /// Closes with RST.
    pub(crate) fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Reads the next answer. It must be `expected`, with this value of `Connection`.
    pub(crate) fn expect(&mut self, expected: Expected, connection: Option<&str>) -> Result<()> {
        let answer = self.answer(expected.is_head_only());
        answer
            .and_then(|answer| answer.check(expected, connection))
            .with_context(|| self.story(&format!("{expected:?}, Connection {connection:?}")))
    }

    /// Like [`expect`](Self::expect), but an interim answer may come first.
    pub(crate) fn expect_after_continue(
        &mut self,
        expected: Expected,
        connection: Option<&str>,
    ) -> Result<()> {
        const CONTINUE: &[u8] = b"HTTP/1.1 100 ";
        while self.unread().len() < CONTINUE.len() {
            let n = self.receive().with_context(|| self.story("an answer"))?;
            ensure!(n > 0, self.story("an answer"));
        }
        if self.unread().starts_with(CONTINUE) {
            self.expect(Expected::Continue, None)?;
        }
        self.expect(expected, connection)
    }

    /// Expects an orderly close: the end of the stream, not a reset.
    pub(crate) fn expect_end(&mut self) -> Result<()> {
        let end = match self.unread() {
            b"" => self.receive(),
            rest => bail!("more than the answers expected: {}", rest.escape_ascii()),
        };
        match end {
            Ok(0) => Ok(()),
            Ok(_) => bail!(self.story("the end")),
            Err(error) => Err(error).with_context(|| self.story("the end")),
        }
    }

    /// Expects the server to drop the connection with output unsent: a write finds it reset.
    pub(crate) fn expect_reset(&mut self) -> Result<()> {
        let since = Instant::now();
        while since.elapsed() < SOON {
            match self.stream.write(b"x") {
                Ok(_) => thread::sleep(Duration::from_millis(20)),
                Err(error) if is_timeout(&error) => {}
                Err(_) => return Ok(()),
            }
        }
        bail!("still there after {SOON:?}")
    }

    /// Expects that nothing comes for this time.
    pub(crate) fn expect_silence(&mut self, time: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(time))?;
        let outcome = self.receive();
        self.stream.set_read_timeout(Some(SOON))?;
        match outcome {
            Err(error) if is_timeout(&error) => Ok(()),
            Ok(_) => bail!(self.story("nothing")),
            Err(error) => Err(error).with_context(|| self.story("nothing")),
        }
    }

    fn story(&self, expected: &str) -> String {
        let received = abridged(&self.received);
        format!(
            "expected {expected} after byte {}, received {received}",
            self.read
        )
    }

    fn unread(&self) -> &[u8] {
        &self.received[self.read..]
    }

    /// Reads once; 0 is the end.
    fn receive(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(n) => {
                    self.received.extend_from_slice(&buffer[..n]);
                    return Ok(n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&mut self, head_only: bool) -> Result<Answer> {
        loop {
            if let Some((answer, used)) = Answer::parse(self.unread(), head_only)? {
                self.read += used;
                return Ok(answer);
            }
            ensure!(self.receive()? > 0, "the end came before a whole answer");
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Answer {
    /// The answer at the start of `bytes` and its length; `None` if it is incomplete.
    fn parse(bytes: &[u8], head_only: bool) -> Result<Option<(Answer, usize)>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&bytes[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(status).context("not a status line")?;
        let headers = lines.map(header).collect::<Option<Vec<_>>>();
        let mut answer = Answer {
            status,
            headers: headers.context("not a header line")?,
            body: Vec::new(),
        };
        let length = match (answer.header("content-length")?, status) {
            (None, 100 | 204) => 0,
            (Some(length), 200..) if status != 204 => length.parse()?,
            (length, _) => bail!("Content-Length {length:?} with status {status}"),
        };
        let used = end + 4 + if head_only { 0 } else { length };
        Ok(bytes.get(end + 4..used).map(|body| {
            answer.body = body.to_vec();
            (answer, used)
        }))
    }

    /// The value of a header field, which must not occur twice.
    fn header(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        ensure!(values.next().is_none(), "{name} twice");
        Ok(value)
    }

    fn check(&self, expected: Expected, connection: Option<&str>) -> Result<()> {
        ensure!(self.status == expected.status(), "status {}", self.status);
        if expected == Expected::Continue {
            return Ok(());
        }
        ensure!(
            self.header("connection")? == connection,
            "{:?}",
            self.headers
        );
        if matches!(self.status, 204 | 405) {
            let allow = self.header("allow")?;
            ensure!(allow == Some("GET, HEAD, OPTIONS"), "Allow: {allow:?}");
        }
        match expected {
            Expected::Hello => ensure!(self.body == b"hello world", "another body"),
            Expected::Head => ensure!(self.header("content-length")? == Some("11"), "not as GET"),
            Expected::HeadRefusal(_) => ensure!(
                self.header("content-length")?.is_some_and(|n| n != "0"),
                "not as for GET: {:?}",
                self.headers
            ),
            _ => {}
        }
        let date = self.header("date")?.context("no Date")?;
        ensure!(date.len() == 29 && date.ends_with(" GMT"), "Date: {date}");
        let date = httpdate::parse_http_date(date)?;
        let now = SystemTime::now();
        let off = now
            .duration_since(date)
            .or_else(|_| date.duration_since(now))?;
        ensure!(off < Duration::from_secs(30), "a Date {off:?} off");
        Ok(())
    }
}

/// Parses a status line such as `HTTP/1.1 200 OK` (9112 §4).
fn status(line: &str) -> Option<u16> {
    let (code, reason) = line.strip_prefix("HTTP/1.1 ")?.split_once(' ')?;
    let is_text = reason.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    (is_text && is_code).then(|| code.parse().ok())?
}

/// Parses a header line `Name: value` (9112 §5).
fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_value = value
        .bytes()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    (is_name && is_value).then(|| (name.to_owned(), value.trim().to_owned()))
}

/// Escapes bytes for a message, and leaves out the middle if there are many.
pub(crate) fn abridged(bytes: &[u8]) -> impl fmt::Display + '_ {
    struct Abridged<'a>(&'a [u8]);
    impl fmt::Display for Abridged<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            const EDGE: usize = 400;
            match self.0 {
                bytes if bytes.len() <= 2 * EDGE => write!(f, "`{}`", bytes.escape_ascii()),
                bytes => {
                    let (first, rest) = bytes.split_at(EDGE);
                    let (middle, last) = rest.split_at(rest.len() - EDGE);
                    let (first, last) = (first.escape_ascii(), last.escape_ascii());
                    write!(f, "`{first}` ({} bytes) `{last}`", middle.len())
                }
            }
        }
    }
    Abridged(bytes)
}
