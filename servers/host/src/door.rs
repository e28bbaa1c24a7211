use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::listen::{refuse_more, shut_reading};
use crate::{Host, lock};

/// A listening socket with the rules for accepting: at most `--max-connections` are open at once, accepting
/// pauses while files or memory have run out, and a stop accepts the connections that wait in the accept queue
/// and no others.
///
/// A host may have several doors. A readiness library registers a door by its descriptor, for reading, edge- or
/// level-triggered.
#[derive(Debug)]
pub struct Door {
    listening: Arc<Listening>,
    host: Arc<Host>,
    /// What was in the accept queue at the stop.
    queue: Option<VecDeque<TcpStream>>,
    /// When to accept again after files or memory have run out.
    not_before: Option<Instant>,
    /// At `--max-connections`; already counted.
    full: bool,
    /// The key in the host's [`Room`](crate::room::Room).
    waiter: Option<usize>,
}

/// What [`Door::accept`] found.
#[derive(Debug)]
pub enum Accept {
    /// A connection, which counts as open until its guest is dropped.
    Guest(TcpStream, Guest),
    /// No connection waits. The descriptor becomes readable when one does.
    Nobody,
    /// `--max-connections` are open. Try again when one of them is closed; see [`Door::on_room`].
    Full,
    /// Files or memory have run out. Try again at this time, not before.
    Later(Instant),
    /// The server is stopping and the accept queue is empty: drop the door.
    Closed,
}

impl Door {
    /// Makes a door whose [`accept`](Self::accept) blocks until a connection comes.
    pub fn blocking(listener: TcpListener, host: &Arc<Host>) -> Self {
        Door::new(listener, SocketFlags::CLOEXEC, host)
    }

    /// Makes a door whose [`accept`](Self::accept) never blocks, and whose connections are non-blocking.
    ///
    /// # Errors
    ///
    /// When the listener cannot be made non-blocking.
    pub fn nonblocking(listener: TcpListener, host: &Arc<Host>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Door::new(listener, flags, host))
    }

    fn new(socket: TcpListener, flags: SocketFlags, host: &Arc<Host>) -> Self {
        let listening = Arc::new(Listening {
            socket,
            flags,
            queue: Mutex::default(),
        });
        host.stop.close_on_stop(&listening);
        Door {
            listening,
            host: Arc::clone(host),
            queue: None,
            not_before: None,
            full: false,
            waiter: None,
        }
    }

    /// After [`Accept::Full`], calls `wake` once: when a connection is closed, or when the server stops. The call
    /// comes from whichever thread does that, and must not use the door. A single loop that closes all
    /// connections of the host itself does not need this.
    pub fn on_room(&mut self, wake: impl Fn() + Send + 'static) {
        let room = &self.host.room;
        if let Some(former) = self.waiter.replace(room.add_waiter(Box::new(wake))) {
            room.remove_waiter(former);
        }
    }

    /// Accepts a connection if the rules allow it. While a blocking door waits here, the connection that it waits
    /// for counts against `--max-connections`.
    pub fn accept(&mut self) -> Accept {
        if let Some(at) = self.not_before {
            if Instant::now() < at {
                return Accept::Later(at);
            }
            self.not_before = None;
        }
        let draining = self.host.drain_until().is_some();
        if !self.enter(draining) {
            return Accept::Full;
        }
        let error = match self.next(draining) {
            Ok(stream) => return Accept::Guest(stream, Guest::new(&self.host)),
            Err(error) => error,
        };
        self.host.room.leave();
        match error {
            AcceptError::OutOfResources => {
                self.host.counters.out_of_files();
                let at = Instant::now() + ACCEPT_BACKOFF;
                self.not_before = Some(at);
                Accept::Later(at)
            }
            _ if draining => Accept::Closed,
            _ => Accept::Nobody,
        }
    }

    /// Takes a place. A stopping server ignores the limit, because no further connections can follow.
    fn enter(&mut self, draining: bool) -> bool {
        let (room, max) = (&self.host.room, self.host.settings.connections_max);
        if draining {
            room.enter(usize::MAX);
            return true;
        }
        let is_in = room.enter(max) || {
            if !self.full {
                self.full = true;
                self.host.counters.full();
            }
            let is_stopping = || self.host.drain_until().is_some();
            (self.waiter).is_some_and(|waiter| room.enter_or_wait(max, waiter, is_stopping))
        };
        self.full &= !is_in;
        is_in
    }

    fn next(&mut self, draining: bool) -> Result<TcpStream, AcceptError> {
        if draining {
            let listening = &self.listening;
            let queue = self.queue.get_or_insert_with(|| listening.take_queue());
            if let Some(stream) = queue.pop_front() {
                return Ok(stream);
            }
        }
        self.listening.accept()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.host.room.remove_waiter(waiter);
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listening.socket.as_fd()
    }
}

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        self.listening.socket.as_raw_fd()
    }
}

/// The host's record of an accepted connection. It counts the connection as accepted and takes one of the
/// `--max-connections` places. When it is dropped, it counts the connection as closed, counts a panic if there
/// was one, and gives the place back.
///
/// Drop the socket first, so that open sockets never exceed `--max-connections`.
#[derive(Debug)]
pub struct Guest {
    host: Arc<Host>,
    panicked: bool,
}

impl Guest {
    fn new(host: &Arc<Host>) -> Self {
        host.counters.accepted();
        Guest {
            host: Arc::clone(host),
            panicked: false,
        }
    }

    /// The host that accepted this connection.
    #[inline]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Runs `work` for this connection. `None` means that it panicked; the caller then drops the guest, which
    /// counts the panic.
    pub fn contain<T>(&mut self, work: impl FnOnce() -> T) -> Option<T> {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        self.panicked |= outcome.is_err();
        outcome.ok()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.panicked || thread::panicking() {
            self.host.counters.panicked();
        }
        self.host.counters.closed();
        self.host.room.leave();
    }
}

/// The socket of a door. A stop empties its queue and closes it from another thread.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: TcpListener,
    /// Flags for accepted sockets; setting them in `accept4` saves a system call for each.
    flags: SocketFlags,
    /// What was in the accept queue at the stop, until the door takes it.
    queue: Mutex<VecDeque<TcpStream>>,
}

impl Listening {
    fn accept(&self) -> Result<TcpStream, AcceptError> {
        loop {
            match accept_with(&self.socket, self.flags) {
                Ok(socket) => return Ok(TcpStream::from(socket)),
                Err(errno) => {
                    if let Some(error) = accept_error(errno) {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn take_queue(&self) -> VecDeque<TcpStream> {
        std::mem::take(&mut lock(&self.queue))
    }

    /// Accepts everything in the accept queue, then stops listening. That ends a blocked `accept`, and later
    /// clients are refused at once, however long the accepted ones wait for their turn.
    fn empty(&self) {
        let mut queue = lock(&self.queue);
        // This affects later calls of `accept`, not one that is blocked already.
        let mut has_more = self.socket.set_nonblocking(true).is_ok();
        while has_more {
            match self.accept() {
                Ok(socket) => queue.push_back(socket),
                // The door accepts the rest itself when files are free again.
                Err(AcceptError::OutOfResources) => return,
                Err(AcceptError::NobodyWaits) => has_more = false,
            }
        }
        shut_reading(&self.socket);
    }
}

/// Closes doors that may share an address without losing a connection: all of them stop taking handshakes
/// before the first is emptied.
pub(crate) fn close(doors: &[Arc<Listening>]) {
    if doors.is_empty() {
        return;
    }
    doors.iter().for_each(|door| refuse_more(&door.socket));
    thread::sleep(HANDSHAKE_TIME);
    doors.iter().for_each(|door| door.empty());
}

/// How long connections may still join the accept queue after [`refuse_more`]: a handshake takes one round trip.
/// It is short, because clients that connect meanwhile have to try twice.
const HANDSHAKE_TIME: Duration = Duration::from_millis(5);

/// How long a door pauses when files or memory have run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);

/// Why `accept` returned no connection.
#[derive(Debug, PartialEq, Eq)]
enum AcceptError {
    /// The queue is empty (EAGAIN), or the socket no longer listens (EINVAL).
    NobodyWaits,
    /// Files or memory have run out (EMFILE, ENFILE, ENOBUFS, ENOMEM). The connection stays in the
    /// accept queue.
    OutOfResources,
}

/// Sorts the errors of `accept` (accept(2), "Error handling"). `None` means to try again at once: this connection
/// is gone (ECONNABORTED or a network error), or a signal interrupted the call.
fn accept_error(errno: Errno) -> Option<AcceptError> {
    match errno {
        Errno::AGAIN | Errno::INVAL => Some(AcceptError::NobodyWaits),
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
            Some(AcceptError::OutOfResources)
        }
        _ => None,
    }
}
