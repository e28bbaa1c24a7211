use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::waiting::Waiting;
use crate::http_url::HttpUrl;
use crate::response::{Reader, Response, Taken};
use crate::signals;

/// Why a server is not the one that is to be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection, no request, or no response.
    #[error("it does not answer GET /: {0}")]
    Io(io::Error),
    /// The response is no HTTP/1, or ends early.
    #[error("its answer to GET / is no HTTP/1.1: {0:?}")]
    Malformed(String),
    /// Another response than all servers give.
    #[error(
        "it answers GET / with status {status} and {body:?}, not with status 200 and {HELLO:?}"
    )]
    Wrong {
        /// Of the response.
        status: u16,
        /// Its body, or its beginning.
        body: String,
    },
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        ProbeError::Io(error)
    }
}

/// What all servers of a catalogue answer `GET /` with.
pub const HELLO: &str = "hello world";

/// How long the connect, and then the answer, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether the user has interrupted.
const LISTEN_EVERY: Duration = Duration::from_millis(50);

/// Asks for `/` once and makes sure that the answer is `hello world`: what a wrong answer costs is of no
/// interest.
///
/// # Errors
///
/// When it is anything else.
pub fn probe(address: SocketAddr) -> Result<(), ProbeError> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(LISTEN_EVERY))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(&HttpUrl::at(address).get("Connection: close\r\n"))?;

    let mut reader = Reader::new(false);
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
            let response = reader.end();
            return response.map_or_else(|| Err(malformed(&bytes)), |it| check(it, &bytes));
        }
        bytes.extend_from_slice(&chunk[..read]);
        match reader.take(&chunk[..read]) {
            Taken::Complete(response, _) => return check(response, &bytes),
            Taken::Incomplete if bytes.len() < 64 << 10 => {}
            Taken::Incomplete | Taken::Malformed => return Err(malformed(&bytes)),
        }
    }
}

/// `bytes` are all that came, so that the body may still be in chunks: its length tells the rest.
fn check(response: Response, bytes: &[u8]) -> Result<(), ProbeError> {
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = &bytes[head_end.map_or(bytes.len(), |end| end + 4)..];
    let says_hello = body
        .windows(HELLO.len())
        .any(|part| part == HELLO.as_bytes());
    if response.status == 200 && response.body_bytes == HELLO.len() as u64 && says_hello {
        return Ok(());
    }
    Err(ProbeError::Wrong {
        status: response.status,
        body: beginning(body),
    })
}

fn malformed(bytes: &[u8]) -> ProbeError {
    ProbeError::Malformed(beginning(bytes))
}

fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
}
