use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::waiting::Waiting;
use engine::http_url::HttpUrl;
use engine::response::{Expected, Reader, Response, Taken};
use engine::signals;

/// Why a server is not fit to be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There was no connection, no request, or no response.
    #[error("it does not answer GET /: {0}")]
    Io(io::Error),
    /// The response is not HTTP/1, or ends early.
    #[error("its answer to GET / is not HTTP/1.1: {0:?}")]
    Malformed(String),
    /// The response differs from the one that all servers give.
    #[error(
        "it answers GET / with status {status} and {body:?}, not with status 200 and {HELLO:?}"
    )]
    Wrong {
        /// The status of the response.
        status: u16,
        /// The body of the response, possibly shortened.
        body: String,
    },
    /// Other processes hold sockets at the address, as `NUMBER (COMMAND), ...`.
    #[error("another process has sockets at its address and was not started by loadgen: {0}")]
    Foreign(String),
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        ProbeError::Io(error)
    }
}

/// The body with which all servers of a catalogue answer `GET /`.
pub const HELLO: &str = "hello world";

/// The time limit for the connect, and again for the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between checks whether the user has interrupted.
const LISTEN_EVERY: Duration = Duration::from_millis(50);

/// Requests `/` once, and checks that the answer is `hello world`.
///
/// # Errors
///
/// If the answer is anything else.
pub fn probe(address: SocketAddr) -> Result<(), ProbeError> {
    ask(address).map(drop)
}

/// Probes like [`probe`], and returns the connection, which the request does not ask the server to
/// close.
pub(super) fn ask(address: SocketAddr) -> Result<TcpStream, ProbeError> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(LISTEN_EVERY))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(&HttpUrl::at(address).get(""))?;

    let hello = Arc::new(Expected::Text(HELLO.as_bytes().to_vec()));
    let mut reader = Reader::new(false).expecting(Some(&hello));
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let mut waiting = Waiting::begin("the answer to GET /");
    loop {
        if signals::interrupted() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted").into());
        }
        if waiting.elapsed() >= TIMEOUT {
            let message = format!("no whole answer within {} s", TIMEOUT.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message).into());
        }
        waiting.go_on(Some(TIMEOUT));
        let read = match stream.read(&mut chunk) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                continue;
            }
            read => read?,
        };
        if read == 0 {
            let response = reader.end().ok_or_else(|| malformed(&bytes))?;
            return check(response, &bytes).map(|()| stream);
        }
        bytes.extend_from_slice(&chunk[..read]);
        match reader.take(&chunk[..read]) {
            Taken::Complete(response, _) => return check(response, &bytes).map(|()| stream),
            Taken::Incomplete if bytes.len() < 64 << 10 => {}
            Taken::Incomplete | Taken::Malformed => return Err(malformed(&bytes)),
        }
    }
}

/// `bytes` are all received bytes.
fn check(response: Response, bytes: &[u8]) -> Result<(), ProbeError> {
    if response.status == 200 && response.as_expected {
        return Ok(());
    }
    Err(ProbeError::Wrong {
        status: response.status,
        body: beginning(behind_heads(bytes)),
    })
}

/// The bytes after the head of the final response: the body as sent, possibly chunked.
fn behind_heads(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    loop {
        let is_interim = rest.starts_with(b"HTTP/1.1 1");
        let head_end = rest.windows(4).position(|four| four == b"\r\n\r\n");
        rest = &rest[head_end.map_or(rest.len(), |end| end + 4)..];
        if !is_interim {
            return rest;
        }
    }
}

fn malformed(bytes: &[u8]) -> ProbeError {
    ProbeError::Malformed(beginning(bytes))
}

fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
}
