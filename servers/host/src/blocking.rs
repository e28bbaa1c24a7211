//! For architectures that wait in blocking system calls: an iterator over accepted connections, and the
//! conversation over one connection.

use std::io::{self, Read as _, Write as _};
use std::marker::PhantomData;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http1::{Connection, Next};
use slab::Slab;

use crate::listen::shut_reading;
use crate::{Accept, Door, Guest, Host, lock, note_failure, now};

/// Iterates over the connections of `listener` as they are accepted. `next` blocks until a connection comes, and
/// while `--max-connections` are open. After the stop signal the iterator yields the connections that were in the
/// accept queue, and ends.
pub fn incoming(listener: TcpListener, host: &Arc<Host>) -> Incoming {
    let mut door = Door::blocking(listener, host);
    let thread = thread::current();
    door.on_room(move || thread.unpark());
    Incoming {
        door,
        of_this_thread: PhantomData,
    }
}

/// The iterator that [`incoming`] returns.
#[derive(Debug)]
pub struct Incoming {
    door: Door,
    /// The door unparks the thread that called [`incoming`].
    of_this_thread: PhantomData<*const ()>,
}

impl Iterator for Incoming {
    type Item = Stream;

    fn next(&mut self) -> Option<Stream> {
        loop {
            match self.door.accept() {
                Accept::Guest(socket, guest) => return Some(Stream::new(socket, guest)),
                // Either the listener's receive timeout has passed, which is set for the sake of its
                // connections, or the stop signal has closed the listener and is about to set `drain_until`.
                Accept::Nobody => thread::yield_now(),
                Accept::Full => thread::park(),
                Accept::Later(at) => thread::sleep(at.saturating_duration_since(Instant::now())),
                Accept::Closed => return None,
            }
        }
    }
}

/// An accepted connection, which counts as open until it is dropped.
#[derive(Debug)]
pub struct Stream {
    peer: Arc<Peer>,
    key: usize,
    guest: Guest,
}

#[derive(Debug)]
struct Peer {
    socket: TcpStream,
    /// A thread that has not seen the stop may be blocked in `recv` on this socket. False while the connection
    /// waits for a thread, and while it only waits for the peer to close: there a read of 0 would be wrong.
    must_be_woken: AtomicBool,
}

impl Stream {
    fn new(socket: TcpStream, guest: Guest) -> Self {
        let peer = Arc::new(Peer {
            socket,
            must_be_woken: AtomicBool::new(false),
        });
        let key = lock(&guest.host().open.peers).insert(Arc::clone(&peer));
        Stream { peer, key, guest }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.guest.host().open.peers).remove(self.key);
    }
}

/// The open connections, so that a stop can wake the threads that are blocked in `recv`.
#[derive(Debug, Default)]
pub(crate) struct Open {
    peers: Mutex<Slab<Arc<Peer>>>,
}

impl Open {
    /// Wakes the threads that have been blocked in `recv` since before the stop signal.
    pub(crate) fn wake_idle(&self) {
        for (_, peer) in &*lock(&self.peers) {
            if peer.must_be_woken.load(SeqCst) {
                shut_reading(&peer.socket);
            }
        }
    }
}

/// Holds the whole conversation with one peer, from its first byte to the close. An error or a panic ends this
/// conversation and nothing else.
pub fn converse(stream: Stream) {
    // Errors are caused by the peer. A panic has been reported by the panic hook, and is counted when it drops
    // the stream.
    _ = catch_unwind(AssertUnwindSafe(move || exchange(&stream)));
}

fn exchange(stream: &Stream) -> io::Result<()> {
    let (peer, host) = (&*stream.peer, stream.guest.host());
    let mut socket = &peer.socket;
    let mut scratch = host.scratch();
    let mut at = now();
    let mut connection = Connection::new(&scratch, at);
    let mut patience = Patience::of(socket, host);
    peer.must_be_woken.store(true, SeqCst);
    loop {
        if let Some(until) = host.drain_until() {
            peer.must_be_woken.store(false, SeqCst);
            // A connection may have waited past `until` for its turn, with its request sent long ago.
            connection.drain(&scratch, until.max(at.instant + LAST_LOOK), at);
        }
        if connection.deadline() <= at.instant && connection.next() != Next::Close {
            connection.timed_out(&mut scratch, at);
        }
        let outcome = match connection.next() {
            Next::Read => {
                patience.expect(connection.deadline() - at.instant)?;
                socket.read(scratch.space()).map(|n| {
                    at = now();
                    host.tell_stop(&mut connection, &scratch, at);
                    // A read of 0 may come from the stop, not from the peer; then the deadline has passed.
                    if n > 0 || connection.deadline() > at.instant {
                        connection.received(&mut scratch, n, at);
                    }
                })
            }
            Next::Write => socket.write(connection.output()).map(|n| {
                at = now();
                connection.sent(&mut scratch, n, at);
            }),
            Next::ShutdownWrite => socket.shutdown(Shutdown::Write).map(|()| {
                at = now();
                peer.must_be_woken.store(false, SeqCst);
                connection.write_is_shut(&scratch, at);
            }),
            Next::Close => return Ok(()),
        };
        match outcome.map_err(|error| (error.kind(), error)) {
            Ok(()) => {}
            // A signal must not restart the peer's time.
            Err((io::ErrorKind::Interrupted, _)) => at = now(),
            // The socket's timeout has passed, which may have been set for an earlier, shorter wait.
            Err((io::ErrorKind::WouldBlock, _)) => {
                at = now();
                match connection.next() {
                    Next::Read => {
                        patience
                            .set(connection.deadline().saturating_duration_since(at.instant))?;
                    }
                    // The peer took no byte for the whole idle timeout.
                    _ => _ = connection.timed_out(&mut scratch, at),
                }
            }
            Err((_, error)) => {
                note_failure(&mut connection, &mut scratch, &error, at);
                return Err(error);
            }
        }
    }
}

/// How long a stopping server waits for the request of a connection whose turn comes after the drain time.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// The socket's receive timeout. The socket inherits the idle timeout from the listener. It is changed only for
/// waits that must be much shorter, so that a request costs one recv and one send.
///
/// The send timeout is never changed, so it restarts whenever the kernel takes a little more of an answer that
/// the peer does not read. After three times the idle timeout the kernel itself gives up.
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
        // The kernel counts in microseconds, and 0 means no timeout.
        self.timeout = wait.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(self.timeout))
    }
}
