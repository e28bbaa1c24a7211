//! For architectures that wait in the system calls themselves: connections as they are accepted, and
//! the conversation over one of them.

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

/// The connections of `listener`, each as soon as it is accepted; blocks in `accept`, or while
/// `--max-connections` are open. After the stop signal it yields what stood in the accept queue, and ends.
pub fn incoming(listener: TcpListener, host: &Arc<Host>) -> Incoming {
    let mut door = Door::blocking(listener, host);
    let thread = thread::current();
    door.on_room(move || thread.unpark());
    Incoming {
        door,
        of_this_thread: PhantomData,
    }
}

/// See [`incoming`].
#[derive(Debug)]
pub struct Incoming {
    door: Door,
    /// The one that is unparked.
    of_this_thread: PhantomData<*const ()>,
}

impl Iterator for Incoming {
    type Item = Stream;

    fn next(&mut self) -> Option<Stream> {
        loop {
            match self.door.accept() {
                Accept::Guest(socket, guest) => return Some(Stream::new(socket, guest)),
                // It is the listener's receive timeout, which is there for its connections; or the stop is
                // about to hand over its queue.
                Accept::Nobody => thread::yield_now(),
                Accept::Full => thread::park(),
                Accept::Later(at) => thread::sleep(at.saturating_duration_since(Instant::now())),
                Accept::Closed => return None,
            }
        }
    }
}

/// An accepted connection. It counts as open until it is dropped.
#[derive(Debug)]
pub struct Stream {
    peer: Arc<Peer>,
    key: usize,
    guest: Guest,
}

#[derive(Debug)]
struct Peer {
    socket: TcpStream,
    /// A thread serves it that does not know of a stop, and may be blocked in `recv`. Not while it waits
    /// for a thread, nor once it only waits for the peer to close: for those, a read of 0 would not do.
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

/// The connections that are open, so that a stop reaches those which are blocked in `recv`.
#[derive(Debug, Default)]
pub(crate) struct Open {
    peers: Mutex<Slab<Arc<Peer>>>,
}

impl Open {
    /// Wakes those who have been blocked in `recv` since before the stop signal.
    pub(crate) fn wake_idle(&self) {
        for (_, peer) in &*lock(&self.peers) {
            if peer.must_be_woken.load(SeqCst) {
                shut_reading(&peer.socket);
            }
        }
    }
}

/// The whole conversation with one peer, from its first byte to the close. Whatever goes wrong with it
/// ends it and nothing else.
pub fn converse(stream: Stream) {
    // An error is the peer's own doing; a panic has been told by the panic hook and drops the stream.
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
            // One that has waited for its turn so long may have sent its request long ago.
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
                    // Woken because the server stops: the time is up, though the peer is there.
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
            // By a signal, which must not give the peer its time anew.
            Err((io::ErrorKind::Interrupted, _)) => at = now(),
            // The socket's own timeout, which may be that of an earlier wait.
            Err((io::ErrorKind::WouldBlock, _)) => {
                at = now();
                match connection.next() {
                    Next::Read => {
                        patience
                            .set(connection.deadline().saturating_duration_since(at.instant))?;
                    }
                    // Not a byte was taken for the whole idle timeout.
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

/// How long a connection that waited for its turn beyond the drain's end is looked at for its request.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// The socket's receive timeout. It stands at the idle timeout from the listener on and is set anew
/// only for the rare wait that must be much shorter, so that a request costs a recv and a send.
///
/// The send timeout stays what it is: a peer that takes no answer is given its time anew when the kernel
/// has found room for a little more. After three times the idle timeout the kernel itself gives up.
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
