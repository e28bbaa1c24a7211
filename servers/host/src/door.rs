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

/// A listening socket, and the rules by which its connections are accepted: no more than
/// `--max-connections` at once, a pause while files or memory have run out, and at a stop those that stood
/// in the accept queue.
///
/// A host may have several. Libraries for readiness register a door by its descriptor, edge- or
/// level-triggered, for reading.
#[derive(Debug)]
pub struct Door {
    listening: Arc<Listening>,
    host: Arc<Host>,
    /// What stood in the accept queue at the stop.
    queue: Option<VecDeque<TcpStream>>,
    /// Files or memory had run out.
    not_before: Option<Instant>,
    /// `--max-connections` are open, which has been counted.
    full: bool,
    /// The key in the host's [`Room`](crate::room::Room).
    waiter: Option<usize>,
}

/// What [`Door::accept`] found.
#[derive(Debug)]
pub enum Accept {
    /// A connection. It is open until both are dropped.
    Guest(TcpStream, Guest),
    /// No connection waits. The descriptor becomes readable when one does.
    Nobody,
    /// `--max-connections` are open. Try again when one of them is closed; see [`Door::on_room`].
    Full,
    /// Files or memory have run out. Try again at this time, not before.
    Later(Instant),
    /// The server stops and all that waited have been accepted: drop the door.
    Closed,
}

impl Door {
    /// A door whose [`accept`](Self::accept) blocks until a connection comes.
    pub fn blocking(listener: TcpListener, host: &Arc<Host>) -> Self {
        Door::new(listener, SocketFlags::CLOEXEC, host)
    }

    /// A door whose [`accept`](Self::accept) never waits, and whose connections are non-blocking.
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

    /// Calls `wake` when a connection is closed after this door has said [`Accept::Full`], and when the server
    /// stops after that. On another thread, so `wake` must not call the door. A loop that closes all
    /// connections of the host itself knows without.
    pub fn on_room(&mut self, wake: impl Fn() + Send + 'static) {
        let room = &self.host.room;
        if let Some(former) = self.waiter.replace(room.add_waiter(Box::new(wake))) {
            room.remove_waiter(former);
        }
    }

    /// Accepts a connection if the rules let it in. A door that blocks here holds a place for the connection
    /// that it waits for.
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

    /// Takes a place. A server that stops lets everybody in who is left: nobody else follows.
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

/// An accepted connection as the host sees it: counted as accepted, holding one of `--max-connections`
/// places; when dropped, counted as closed, and as panicked if a panic drops it.
///
/// Dropped after the socket, so that no more sockets are open than places are held.
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

    /// The host that it is a guest of.
    #[inline]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Runs `work` for this connection, and catches its panic: the guest counts it when it is dropped, which
    /// the caller does on `None`.
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

/// The socket of a door, which a stop empties and closes from another thread.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: TcpListener,
    /// For the sockets that it accepts, which saves a system call for each.
    flags: SocketFlags,
    /// What stood in the accept queue at the stop.
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

    /// Takes all that stands in the accept queue, and then ends the listening: that ends a blocked `accept`
    /// too, and later peers are refused at once, however long those taken wait for their turn.
    fn empty(&self) {
        let mut queue = lock(&self.queue);
        // Heard by the next `accept`, not by one that blocks already.
        let mut has_more = self.socket.set_nonblocking(true).is_ok();
        while has_more {
            match self.accept() {
                Ok(socket) => queue.push_back(socket),
                // The door accepts the rest when files are given back.
                Err(AcceptError::OutOfResources) => return,
                Err(AcceptError::NobodyWaits) => has_more = false,
            }
        }
        shut_reading(&self.socket);
    }
}

/// Closes doors that may share an address, with nobody lost between them: none lets further handshakes begin
/// before the first is emptied.
pub(crate) fn close(doors: &[Arc<Listening>]) {
    if doors.is_empty() {
        return;
    }
    doors.iter().for_each(|door| refuse_more(&door.socket));
    thread::sleep(HANDSHAKE_TIME);
    doors.iter().for_each(|door| door.empty());
}

/// How long after [`refuse_more`] a connection may still join the accept queue: a handshake needs no more
/// than a round trip. Not longer, because who connects meanwhile has to ask twice.
const HANDSHAKE_TIME: Duration = Duration::from_millis(5);

/// How long a door leaves the accept queue alone when files or memory have run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);

/// Why `accept` returned no connection.
#[derive(Debug, PartialEq, Eq)]
enum AcceptError {
    /// The queue is empty (EAGAIN), or the socket does not listen any more (EINVAL).
    NobodyWaits,
    /// Files or memory have run out (EMFILE, ENFILE, ENOBUFS, ENOMEM). The connection stays in the
    /// accept queue.
    OutOfResources,
}

/// Sorts an error of `accept` (accept(2), "Error handling"). `None`: this connection is gone (ECONNABORTED,
/// or an error its network had), or a signal came; take the next.
fn accept_error(errno: Errno) -> Option<AcceptError> {
    match errno {
        Errno::AGAIN | Errno::INVAL => Some(AcceptError::NobodyWaits),
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
            Some(AcceptError::OutOfResources)
        }
        _ => None,
    }
}
