//! For architectures that wait in the system calls themselves: connections as they are accepted, and
//! the conversation over one of them.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use http1::{Connection, Next};
use slab::Slab;
use socket2::{Domain, Socket, Type};

use crate::{ACCEPT_BACKOFF, AcceptError, Host, accept_error, now, shut_reading};

/// The connections of `listener`, each as soon as it is accepted; blocks in `accept`, or while as many
/// are open as there may be. After the stop signal it yields what stood in the accept queue, and ends.
pub fn incoming(listener: TcpListener, host: &Host) -> Incoming<'_> {
    let waker = Arc::new(OnceLock::new());
    let address = listener.local_addr();
    host.on_stop({
        let (open, waker) = (Arc::clone(&host.open), Arc::clone(&waker));
        move || {
            open.shut_reading();
            if let Ok(address) = address {
                wake(address, &waker);
            }
        }
    });
    Incoming {
        listener,
        host,
        waker,
    }
}

/// See [`incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: TcpListener,
    host: &'a Host,
    /// Where the connection comes from that only wakes `accept`.
    waker: Arc<OnceLock<SocketAddr>>,
}

impl<'a> Iterator for Incoming<'a> {
    type Item = Stream<'a>;

    fn next(&mut self) -> Option<Stream<'a>> {
        loop {
            self.host
                .open
                .wait_below(self.host.settings.connections_max);
            if self.host.stopping() {
                // Only what is there already; no more waiting.
                self.listener.set_nonblocking(true).ok()?;
            }
            match self.listener.accept() {
                Ok((_, peer)) if self.waker.get() == Some(&peer) => {}
                Ok((stream, _)) => {
                    self.host.counters.accepted();
                    return Some(Stream::new(stream, self.host));
                }
                Err(error) => match accept_error(&error) {
                    AcceptError::NothingWaits if self.host.stopping() => return None,
                    // The listener's receive timeout, which is there for its connections.
                    AcceptError::NothingWaits | AcceptError::ConnectionGone => {}
                    AcceptError::OutOfResources => std::thread::sleep(ACCEPT_BACKOFF),
                },
            }
        }
    }
}

/// Ends a blocked `accept` by giving it something to accept: no signal, no timeout, no second system
/// call a connection. Where the accept queue is full nothing need be woken.
fn wake(listener: SocketAddr, from: &OnceLock<SocketAddr>) {
    let loopback = |ip: IpAddr| match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let target = SocketAddr::new(loopback(listener.ip()), listener.port());
    let connect = || {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(target.ip(), 0).into())?;
        if let Some(address) = socket.local_addr()?.as_socket() {
            from.set(address).ok();
        }
        socket.connect_timeout(&target.into(), Duration::from_millis(100))
    };
    // If even that fails, accept returns when the listener's receive timeout is over.
    connect().unwrap_or_default();
}

/// An accepted connection. It counts as open until it is dropped.
#[derive(Debug)]
pub struct Stream<'a> {
    socket: Arc<TcpStream>,
    key: usize,
    host: &'a Host,
}

impl<'a> Stream<'a> {
    fn new(socket: TcpStream, host: &'a Host) -> Self {
        let socket = Arc::new(socket);
        let key = host.open.insert(Arc::clone(&socket), host);
        Stream { socket, key, host }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.host.open.remove(self.key);
    }
}

/// The connections that are open, so that there are not too many and that a stop reaches those which
/// are blocked in `recv`.
#[derive(Debug, Default)]
pub(crate) struct Open {
    table: Mutex<Table>,
    fewer: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    sockets: Slab<Arc<TcpStream>>,
    /// Somebody waits for there to be fewer. Waking nobody would be a system call all the same.
    awaited: bool,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics under this lock")
    }

    fn wait_below(&self, max: usize) {
        let mut table = self.lock();
        while table.sockets.len() >= max {
            table.awaited = true;
            table = (self.fewer.wait(table)).expect("nothing panics under this lock");
        }
    }

    fn insert(&self, socket: Arc<TcpStream>, host: &Host) -> usize {
        let mut table = self.lock();
        if host.stopping() {
            shut_reading(&*socket);
        }
        table.sockets.insert(socket)
    }

    fn remove(&self, key: usize) {
        let mut table = self.lock();
        table.sockets.remove(key);
        if std::mem::take(&mut table.awaited) {
            self.fewer.notify_all();
        }
    }

    fn shut_reading(&self) {
        for (_, socket) in &self.lock().sockets {
            shut_reading(&**socket);
        }
    }
}

/// The whole conversation with one peer, from its first byte to the close. Whatever goes wrong with it
/// ends it and nothing else.
pub fn converse(stream: Stream<'_>) {
    let host = stream.host;
    let mut connection = Connection::new(host.settings.limits, now());
    // An error is the peer's own doing, a panic has been told by the panic hook.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        exchange(&stream.socket, &mut connection, host)
    }));
    host.counters.closed(&connection);
}

fn exchange(mut socket: &TcpStream, connection: &mut Connection, host: &Host) -> io::Result<()> {
    let mut patience = Patience::of(socket, host);
    let mut at = now();
    loop {
        if host.stopping() {
            connection.drain();
        }
        let outcome = match connection.next() {
            // A peer that sends a little all the time never makes recv time out.
            Next::Read if connection.deadline() <= at.instant => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Next::Read => {
                patience.expect(connection.deadline() - at.instant)?;
                socket.read(connection.space()).map(|n| {
                    at = now();
                    connection.received(n, at);
                })
            }
            Next::Write => socket.write(connection.output()).map(|n| {
                at = now();
                connection.sent(n, at);
            }),
            Next::ShutdownWrite => socket.shutdown(Shutdown::Write).map(|()| {
                at = now();
                connection.write_is_shut(at);
            }),
            Next::Close => return Ok(()),
        };
        match outcome.map_err(|error| (error.kind(), error)) {
            Ok(()) | Err((io::ErrorKind::Interrupted, _)) => {}
            Err((io::ErrorKind::WouldBlock, _)) => {
                at = now();
                match connection.deadline().checked_duration_since(at.instant) {
                    None | Some(Duration::ZERO) => {
                        host.counters.timed_out(connection.timed_out(at));
                    }
                    Some(left) if connection.next() == Next::Read => patience.set(left)?,
                    // A send may be given its time once more: twice the idle timeout at the most.
                    Some(_) => {}
                }
            }
            Err((_, error)) => return Err(error),
        }
    }
}

/// The socket's receive timeout. It stands at the idle timeout from the listener on and is set anew
/// only for the rare wait that must be much shorter, so that a request costs a recv and a send.
struct Patience<'a> {
    socket: &'a TcpStream,
    timeout: Duration,
}

impl<'a> Patience<'a> {
    fn of(socket: &'a TcpStream, host: &Host) -> Self {
        let timeout = host.settings.limits.idle_timeout;
        Patience { socket, timeout }
    }

    fn expect(&mut self, wait: Duration) -> io::Result<()> {
        if wait < self.timeout - self.timeout / 8 {
            self.set(wait)?;
        }
        Ok(())
    }

    fn set(&mut self, wait: Duration) -> io::Result<()> {
        // The kernel counts in microseconds, and takes 0 for "for ever".
        self.timeout = wait.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(self.timeout))
    }
}
