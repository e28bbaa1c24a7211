//! For architectures that wait in the system calls themselves: connections as they are accepted, and
//! the conversation over one of them.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use http1::{Connection, Next};
use slab::Slab;

use crate::listen::shut_reading;
use crate::{ACCEPT_BACKOFF, AcceptError, Host, accept_error, now};

/// The connections of `listener`, each as soon as it is accepted; blocks in `accept`, or while as many
/// are open as there may be. After the stop signal it yields what stood in the accept queue, and ends.
pub fn incoming(listener: TcpListener, host: &Host) -> Incoming<'_> {
    // Without a duplicate of it, only the end of `--grace` ends the server.
    host.closes(&listener).unwrap_or_default();
    let open = Arc::clone(&host.open);
    host.on_stop(move || open.wake_who_waits_for_room());
    Incoming {
        listener,
        queue: None,
        host,
    }
}

/// See [`incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: TcpListener,
    /// What stood in the accept queue at the stop.
    queue: Option<VecDeque<TcpStream>>,
    host: &'a Host,
}

impl<'a> Iterator for Incoming<'a> {
    type Item = Stream<'a>;

    fn next(&mut self) -> Option<Stream<'a>> {
        loop {
            self.host.open.wait_for_room(self.host);
            if let Some(socket) = self.next_queued() {
                return Some(Stream::new(socket, self.host));
            }
            match self.listener.accept() {
                Ok((socket, _)) => return Some(Stream::new(socket, self.host)),
                Err(error) => match accept_error(&error) {
                    AcceptError::NothingWaits | AcceptError::NotListening => {
                        if self.queue.is_some() {
                            return None;
                        }
                        // It is the listener's receive timeout, which is there for its connections; or
                        // the stop is about to hand over its queue.
                        std::thread::yield_now();
                    }
                    AcceptError::ConnectionGone => {}
                    AcceptError::OutOfResources => {
                        self.host.counters.out_of_files();
                        std::thread::sleep(ACCEPT_BACKOFF);
                    }
                },
            }
        }
    }
}

impl Incoming<'_> {
    fn next_queued(&mut self) -> Option<TcpStream> {
        if self.queue.is_none() && self.host.stopping() {
            self.queue = self.host.queue();
        }
        self.queue.as_mut()?.pop_front()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under this lock")
}

/// An accepted connection. It counts as open until it is dropped.
#[derive(Debug)]
pub struct Stream<'a> {
    peer: Arc<Peer>,
    key: usize,
    host: &'a Host,
}

#[derive(Debug)]
struct Peer {
    socket: TcpStream,
    /// A thread serves it that does not know of a stop, and may be blocked in `recv`. Not while it waits
    /// for a thread, nor once it only waits for the peer to close: for those, a read of 0 would not do.
    must_be_woken: AtomicBool,
}

impl<'a> Stream<'a> {
    fn new(socket: TcpStream, host: &'a Host) -> Self {
        host.counters.accepted();
        let peer = Arc::new(Peer {
            socket,
            must_be_woken: AtomicBool::new(false),
        });
        let key = lock(&host.open.table).peers.insert(Arc::clone(&peer));
        Stream { peer, key, host }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.host.open.remove(self.key);
        self.host.counters.closed();
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
    peers: Slab<Arc<Peer>>,
    /// Somebody waits for there to be fewer. Waking nobody would be a system call all the same.
    awaited: bool,
}

impl Open {
    /// Waits while as many are open as there may be; not when the server stops, for then its queue is
    /// taken already.
    fn wait_for_room(&self, host: &Host) {
        let max = host.settings.connections_max;
        let draining = || host.drain_until().is_some();
        let mut table = lock(&self.table);
        if table.peers.len() >= max && !draining() {
            host.counters.full();
        }
        while table.peers.len() >= max && !draining() {
            table.awaited = true;
            table = (self.fewer.wait(table)).expect("nothing panics under this lock");
        }
    }

    fn wake_who_waits_for_room(&self) {
        // Locked, so that nobody is between looking at the stop flag and waiting.
        let _table = lock(&self.table);
        self.fewer.notify_all();
    }

    fn remove(&self, key: usize) {
        let mut table = lock(&self.table);
        table.peers.remove(key);
        if mem::take(&mut table.awaited) {
            self.fewer.notify_all();
        }
    }

    /// Wakes those who have been blocked in `recv` since before the stop signal.
    pub(crate) fn wake_idle(&self) {
        for (_, peer) in &lock(&self.table).peers {
            if peer.must_be_woken.load(SeqCst) {
                shut_reading(&peer.socket);
            }
        }
    }
}

/// The whole conversation with one peer, from its first byte to the close. Whatever goes wrong with it
/// ends it and nothing else.
pub fn converse(stream: Stream<'_>) {
    // An error is the peer's own doing, a panic has been told by the panic hook.
    if catch_unwind(AssertUnwindSafe(|| exchange(&stream.peer, stream.host))).is_err() {
        stream.host.counters.panicked();
    }
}

fn exchange(peer: &Peer, host: &Host) -> io::Result<()> {
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
                    if let Some(until) = host.drain_until() {
                        connection.drain(&scratch, until, at);
                    }
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
            // The kernel's limit, which lies behind that.
            Err((io::ErrorKind::TimedOut, _)) if connection.next() == Next::Write => {
                connection.timed_out(&mut scratch, at);
            }
            Err((_, error)) => return Err(error),
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
