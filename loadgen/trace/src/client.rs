//! The client of a trace. It makes blocking calls, one thread per connection, so that each step is
//! one system call and the thread makes no other calls.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::gettid;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::clock;
use super::model::{Moment, What};
use engine::figures::count;
use engine::response::{Asked, Expected, Misread, Reader, Response, Taken};

/// Which side closes the connection, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The server, which `Connection: close` asks to close (RFC 9112 §9.6); the client waits for
    /// it.
    Server,
    /// The client, with `close` as soon as the last response is complete.
    Client,
    /// The client shuts down its sending side after the last request, and reads on.
    Half,
    /// The client, with a reset: `SO_LINGER` with a time of zero.
    Reset,
}

/// The work of one connection.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Address of the server.
    pub server: SocketAddr,
    /// The bytes of each request, in order.
    pub requests: Vec<Vec<u8>>,
    /// The body that every response must have.
    pub expect: Option<Arc<Expected>>,
    /// Which side closes, and how.
    pub close: Close,
    /// Time limit for a connect, a send or a response.
    pub timeout: Duration,
}

/// The sockets of running conversations, so that another thread can end their waits.
///
/// A signal reaches an arbitrary thread, seldom the one that waits. A timeout short enough to poll
/// would show up in the trace.
#[derive(Debug, Default)]
pub struct Sockets(Mutex<Vec<Weak<Socket>>>);

impl Sockets {
    fn add(&self, socket: &Arc<Socket>) {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|it| it.strong_count() > 0);
        sockets.push(Arc::downgrade(socket));
    }

    /// Makes every call return that waits on one of these sockets.
    pub fn shut_down(&self) {
        let sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// The share of its time limit after which a response gets only the remaining time. Before that,
/// the timeout is not adjusted: the extra call would show up in the trace.
const SLOW: f64 = 0.1;

/// How long the client waits for a server that was asked to close, once the response is complete. A
/// server that closes does so at once.
pub const GRACE: Duration = Duration::from_millis(500);

/// A pause of the conversation at which the sockets may be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The connection is established.
    Connected,
    /// The first response is complete.
    Answered,
}

/// Makes the requests of one connection and notes what the client sees. `pause` is called at
/// moments when nothing moves. `interrupted` ends the conversation, as soon as `sockets` are shut
/// down.
///
/// A failure is the last of the moments, [`What::Failed`].
pub fn converse(
    plan: &Plan,
    connection: usize,
    interrupted: &AtomicBool,
    sockets: &Sockets,
    mut pause: impl FnMut(Pause),
) -> Vec<Moment> {
    let mut log = Log {
        connection,
        tid: gettid().as_raw().cast_unsigned(),
        local: None,
        moments: Vec::new(),
    };
    let why = |error: String| match interrupted.load(Ordering::Relaxed) {
        true => "interrupted".to_owned(),
        false => error,
    };
    let stream = match connect(plan, sockets, &mut log) {
        Ok(stream) => stream,
        Err(error) => {
            log.note(What::Failed("connect", why(plain(&error))));
            return log.moments;
        }
    };
    pause(Pause::Connected);
    if let Err((call, error)) = exchange(plan, &stream, interrupted, &mut log, pause) {
        log.note(What::Failed(call, why(error)));
    }
    drop(stream);
    log.note(What::Closed);
    log.moments
}

struct Log {
    connection: usize,
    tid: u32,
    local: Option<SocketAddr>,
    moments: Vec<Moment>,
}

impl Log {
    fn note(&mut self, what: What) {
        self.moments.push(Moment {
            at_ns: clock::now_ns(),
            connection: self.connection,
            tid: self.tid,
            local: self.local,
            what,
        });
    }
}

fn connect(plan: &Plan, sockets: &Sockets, log: &mut Log) -> io::Result<Arc<Socket>> {
    log.note(What::Connecting);
    let socket = Socket::new(
        Domain::for_address(plan.server),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    let socket = Arc::new(socket);
    sockets.add(&socket);
    // On Linux, the send timeout also bounds `connect`.
    socket.set_write_timeout(Some(plan.timeout))?;
    socket.set_read_timeout(Some(plan.timeout))?;
    if plan.close == Close::Reset {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    let outcome = socket.connect(&SockAddr::from(plan.server));
    let local = socket.local_addr().ok().and_then(|it| it.as_socket());
    log.local = local.map(on_the_wire);
    outcome?;
    log.note(What::Connected);
    Ok(socket)
}

/// An address as packets have it: without the interface of a link-local address, which only sockets
/// know.
pub(super) fn on_the_wire(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

type Failure = (&'static str, String);

fn exchange(
    plan: &Plan,
    mut stream: &Socket,
    interrupted: &AtomicBool,
    log: &mut Log,
    mut pause: impl FnMut(Pause),
) -> Result<(), Failure> {
    let mut reader = Reader::new(false).expecting(plan.expect.as_ref());
    let mut answers = Answers {
        buffer: vec![0; 64 << 10],
        from: 0,
        to: 0,
        timeout: plan.timeout,
        patience: plan.timeout,
    };
    let last = plan.requests.len().saturating_sub(1);
    let mut is_http = true;
    for (number, request) in plan.requests.iter().enumerate() {
        stream.write_all(request).map_err(failed("send"))?;
        log.note(What::Sent(request.len()));
        if plan.close == Close::Half && number == last {
            stream
                .shutdown(Shutdown::Write)
                .map_err(failed("shutdown"))?;
            log.note(What::ShutDown);
        }
        reader.answers(Asked::of_request(request));
        let response = answers.next(stream, &mut reader, interrupted, log)?;
        if number == 0 {
            pause(Pause::Answered);
        }
        is_http = !response.switches;
        if !response.persists && number < last {
            let why = match response.switches {
                true => "the connection no longer carries HTTP",
                false => "the server ends the connection",
            };
            let left = count((last - number) as u64, "request");
            return Err(("send", format!("{why} with {left} to go")));
        }
    }
    match plan.close {
        // The expectations about HTTP bodies do not apply to other protocols.
        Close::Server if !is_http => Ok(()),
        Close::Server | Close::Half => answers.end(plan, stream, interrupted, log),
        Close::Client | Close::Reset => Ok(()),
    }
}

/// Received bytes, and how many of them were parsed.
struct Answers {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// Time limit for a response.
    timeout: Duration,
    /// The current receive timeout of the socket.
    patience: Duration,
}

impl Answers {
    /// Reads one response.
    fn next(
        &mut self,
        stream: &Socket,
        reader: &mut Reader,
        interrupted: &AtomicBool,
        log: &mut Log,
    ) -> Result<Response, Failure> {
        let start = Instant::now();
        loop {
            if self.from == self.to {
                self.wait_until(start, stream)?;
                self.fill(stream, interrupted, log)?;
            }
            let response = if self.to == 0 {
                log.note(What::EndOfFile);
                let closed = || "the server closed the connection before the response was complete";
                Some(reader.end().ok_or_else(|| ("recv", closed().to_owned()))?)
            } else {
                match reader.take(&self.buffer[self.from..self.to]) {
                    Taken::Complete(response, used) => {
                        self.from += used;
                        Some(response)
                    }
                    Taken::Incomplete => {
                        self.from = self.to;
                        None
                    }
                    Taken::Malformed => {
                        let why = reader.misread().map(Misread::to_string);
                        let why = why.unwrap_or_default();
                        return Err(("recv", format!("the response is not valid HTTP/1: {why}")));
                    }
                }
            };
            if let Some(response) = response {
                log.note(What::Answered(response.status));
                return match response.as_expected {
                    true => Ok(response),
                    false => Err(("recv", "the body is not what was expected".to_owned())),
                };
            }
        }
    }

    /// Limits the next call to the time that remains of a response awaited since `start`.
    fn wait_until(&mut self, start: Instant, stream: &Socket) -> Result<(), Failure> {
        let elapsed = start.elapsed();
        let patience = match elapsed > self.timeout.mul_f64(SLOW) {
            true => self.timeout.saturating_sub(elapsed),
            false => self.timeout,
        };
        if patience.is_zero() {
            return Err(("recv", "timeout".to_owned()));
        }
        if patience != self.patience {
            // A timeout of zero would mean no timeout.
            let patience = patience.max(Duration::from_millis(1));
            (stream.set_read_timeout(Some(patience))).map_err(failed("setsockopt"))?;
            self.patience = patience;
        }
        Ok(())
    }

    /// Makes one receiving call. If the user has interrupted, an end of file may come from the
    /// shutdown of the socket.
    fn receive(&mut self, mut stream: &Socket, interrupted: &AtomicBool) -> io::Result<usize> {
        loop {
            let outcome = stream.read(&mut self.buffer);
            if interrupted.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted"));
            }
            match outcome {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// Waits for more bytes; returns 0 at the end of the connection.
    fn fill(
        &mut self,
        stream: &Socket,
        interrupted: &AtomicBool,
        log: &mut Log,
    ) -> Result<(), Failure> {
        (self.from, self.to) = (0, 0);
        self.to = (self.receive(stream, interrupted)).map_err(failed("recv"))?;
        if self.to > 0 {
            log.note(What::Received(self.to));
        }
        Ok(())
    }

    /// Waits briefly for the server to close, and discards what it still sends.
    fn end(
        &mut self,
        plan: &Plan,
        stream: &Socket,
        interrupted: &AtomicBool,
        log: &mut Log,
    ) -> Result<(), Failure> {
        // A response that ends with the connection has already reported the end.
        let is_told = log.moments.last().map(|it| &it.what) == Some(&What::EndOfFile);
        let patience = GRACE.min(plan.timeout);
        let deadline = Instant::now() + patience;
        if !is_told {
            stream
                .set_read_timeout(Some(patience))
                .map_err(failed("setsockopt"))?;
        }
        loop {
            match self.receive(stream, interrupted) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    log.note(What::KeptOpen);
                    return Ok(());
                }
                Err(error) => return Err(failed("recv")(error)),
                Ok(0) => break,
                Ok(read) => log.note(What::Received(read)),
            }
            if Instant::now() >= deadline {
                log.note(What::KeptOpen);
                return Ok(());
            }
        }
        if !is_told {
            log.note(What::EndOfFile);
        }
        Ok(())
    }
}

fn failed(call: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| (call, plain(&error))
}

/// A socket error in words.
fn plain(error: &io::Error) -> String {
    // A blocking socket reports its timeout as EAGAIN, or as EINPROGRESS in `connect`.
    if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) {
        return "timeout".to_owned();
    }
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "timeout".to_owned(),
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset by the server".to_owned(),
        ErrorKind::BrokenPipe => "the server has closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What a client sees of a server that runs `serve` on one connection.
    fn seen(close: Close, requests: usize, serve: fn(std::net::TcpStream)) -> Vec<What> {
        let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        seen_of(close, vec![request.to_vec(); requests], serve)
    }

    fn seen_of(close: Close, requests: Vec<Vec<u8>>, serve: fn(std::net::TcpStream)) -> Vec<What> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let thread = thread::spawn(move || serve(listener.accept().unwrap().0));
        let plan = Plan {
            server,
            requests,
            expect: None,
            close,
            timeout: Duration::from_secs(5),
        };
        let mut pauses = 0;
        let moments = converse(
            &plan,
            3,
            &AtomicBool::new(false),
            &Sockets::default(),
            |_| pauses += 1,
        );
        thread.join().unwrap();
        assert!(pauses >= 1);
        assert!(moments.is_sorted_by_key(|moment| moment.at_ns));
        assert!(moments.iter().all(|moment| moment.connection == 3));
        assert_eq!(moments[0].local, None);
        assert!(moments[1..].iter().all(|moment| moment.local.is_some()));
        moments.into_iter().map(|moment| moment.what).collect()
    }

    fn read_request(stream: &mut std::net::TcpStream) {
        let mut bytes = [0; 1024];
        assert!(stream.read(&mut bytes).unwrap() > 0);
    }

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    #[test]
    fn an_exchange_that_each_side_ends() {
        use What::*;
        let begin = [Connecting, Connected, Sent(27), Received(40), Answered(200)];
        let found = seen(Close::Client, 1, |mut stream| {
            read_request(&mut stream);
            stream.write_all(ANSWER).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        });
        assert_eq!(found[..5], begin);
        assert_eq!(found[5..], [Closed]);
        let found = seen(Close::Server, 1, |mut stream| {
            read_request(&mut stream);
            stream.write_all(ANSWER).unwrap();
        });
        assert_eq!(found[..5], begin);
        assert_eq!(found[5..], [EndOfFile, Closed]);
        let found = seen(Close::Half, 1, |mut stream| {
            read_request(&mut stream);
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            stream.write_all(ANSWER).unwrap();
        });
        assert_eq!(found[2..4], [Sent(27), ShutDown]);
        assert_eq!(found[6..], [EndOfFile, Closed]);
        let found = seen(Close::Reset, 1, |mut stream| {
            read_request(&mut stream);
            stream.write_all(ANSWER).unwrap();
            let error = stream.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
        assert_eq!(found[5..], [Closed]);
    }

    /// The client's own clock decides: a wait for the timeout of 5 s would show.
    #[test]
    fn a_server_that_does_not_close_is_left() {
        use What::*;
        fn waits(mut stream: std::net::TcpStream) {
            read_request(&mut stream);
            stream.write_all(ANSWER).unwrap();
            // The client closes first.
            while stream.read(&mut [0; 64]).unwrap() > 0 {}
            thread::sleep(Duration::from_millis(1));
        }
        let found = seen(Close::Server, 1, waits);
        assert_eq!(found[4..], [Answered(200), KeptOpen, Closed]);
        let found = seen(Close::Half, 1, |mut stream| {
            read_request(&mut stream);
            stream.write_all(ANSWER).unwrap();
            // The server receives the FIN and keeps its own half open until the client is gone.
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 0);
            while stream.write_all(b"?").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(found[found.len() - 2..], [KeptOpen, Closed]);
    }

    /// The server keeps the tunnel open: a client that waits for a body would run into the timeout.
    #[test]
    fn answers_end_as_their_requests_say() {
        use What::*;
        let connect = b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n";
        let opens = |mut stream: std::net::TcpStream| {
            read_request(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        };
        for close in [Close::Client, Close::Server] {
            let found = seen_of(close, vec![connect.to_vec()], opens);
            assert_eq!(found[3..], [Received(19), Answered(200), Closed]);
        }
        let found = seen_of(Close::Client, vec![connect.to_vec(); 2], opens);
        let failed = "the connection no longer carries HTTP with 1 request to go";
        assert_eq!(found[5..], [Failed("send", failed.to_owned()), Closed]);
        let found = seen_of(
            Close::Client,
            vec![b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()],
            |mut stream| {
                read_request(&mut stream);
                stream.write_all(&ANSWER[..ANSWER.len() - 2]).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            },
        );
        assert_eq!(found[3..], [Received(38), Answered(200), Closed]);
    }

    #[test]
    fn answers_that_come_together_are_told_apart() {
        let found = seen(Close::Client, 2, |mut stream| {
            read_request(&mut stream);
            stream.write_all(&ANSWER.repeat(2)).unwrap();
            read_request(&mut stream);
        });
        use What::*;
        assert_eq!(
            found[3..],
            [Received(80), Answered(200), Sent(27), Answered(200), Closed]
        );
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let failure = |requests, serve| {
            let found = seen(Close::Client, requests, serve);
            let failed = found.iter().find_map(|what| match what {
                What::Failed(call, error) => Some(format!("{call}: {error}")),
                _ => None,
            });
            assert_eq!(found.last(), Some(&What::Closed));
            failed.unwrap()
        };
        let cut = failure(1, |mut stream| {
            read_request(&mut stream);
            stream.write_all(&ANSWER[..39]).unwrap();
        });
        assert_eq!(
            cut,
            "recv: the server closed the connection before the response was complete"
        );
        let wrong = failure(1, |mut stream| {
            read_request(&mut stream);
            stream.write_all(b"SSH-2.0\r\n\r\n").unwrap();
        });
        assert_eq!(
            wrong,
            "recv: the response is not valid HTTP/1: an SSH banner, \"SSH-2.0\\r\\n\\r\\n\""
        );
        let early = failure(2, |mut stream| {
            read_request(&mut stream);
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).unwrap();
        });
        assert_eq!(
            early,
            "send: the server ends the connection with 1 request to go"
        );
    }

    /// The limit applies although each piece of the response arrives in time.
    #[test]
    fn an_answer_as_a_whole_has_a_time_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let plan = Plan {
            server,
            requests: vec![b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()],
            expect: None,
            close: Close::Client,
            timeout: Duration::from_millis(300),
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                read_request(&mut stream);
                stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
                while stream.write_all(b"X: y\r\n").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let (go, sockets) = (AtomicBool::new(false), Sockets::default());
            let moments = converse(&plan, 0, &go, &sockets, |_| ());
            let ended = What::Failed("recv", "timeout".to_owned());
            assert_eq!(moments[moments.len() - 2].what, ended);
        });
    }

    #[test]
    fn nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        drop(listener);
        let plan = Plan {
            server,
            requests: vec![Vec::new()],
            expect: None,
            close: Close::Client,
            timeout: Duration::from_secs(5),
        };
        let moments = converse(
            &plan,
            0,
            &AtomicBool::new(false),
            &Sockets::default(),
            |_| panic!("no pause"),
        );
        let refused = What::Failed("connect", "connection refused".to_owned());
        assert_eq!(moments.last().unwrap().what, refused);
    }
}
