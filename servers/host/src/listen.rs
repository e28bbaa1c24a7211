use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::Settings;

/// A listening socket, blocking, with everything set that its connections need too: Linux hands
/// `TCP_NODELAY`, `SO_RCVTIMEO` and `SO_SNDTIMEO` down from a listener to what it accepts, which saves
/// three system calls a connection.
///
/// # Errors
///
/// Those of `socket`, `setsockopt`, `bind` and `listen`, with the address named.
pub fn listen(address: SocketAddr, settings: &Settings) -> io::Result<TcpListener> {
    let listener = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restart need not wait for the last run's connections to leave TIME_WAIT.
        socket.set_reuse_address(true)?;
        // Answers are written whole; Nagle's algorithm could only delay them.
        socket.set_tcp_nodelay(true)?;
        // Heard by blocking architectures alone: how long one recv or send may take.
        socket.set_read_timeout(Some(settings.limits.idle_timeout))?;
        socket.set_write_timeout(Some(settings.limits.idle_timeout))?;
        socket.bind(&address.into())?;
        // std's own listener would ask for 128.
        socket.listen(i32::try_from(settings.backlog.get()).unwrap_or(i32::MAX))?;
        io::Result::Ok(TcpListener::from(socket))
    };
    listener().map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another program listens there: choose another port",
            io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need privilege",
            _ => "",
        };
        io::Error::new(
            error.kind(),
            format!("cannot listen on {address}: {error}{hint}"),
        )
    })
}

/// Files that a server needs beside its connections: standard streams, listener, epoll, wakers.
const FILES_RESERVED: u64 = 32;

/// Raises the soft limit of open files to the hard one and returns how many connections fit, with
/// something left so that accept never meets the limit.
pub(crate) fn connections_max() -> usize {
    let Ok((mut files, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024 - FILES_RESERVED as usize;
    };
    if files < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        files = hard;
    }
    let connections = files.saturating_sub(FILES_RESERVED).max(files / 2).max(1);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

/// What a failed `accept` means for the loop around it.
#[derive(Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// Nothing waits (EAGAIN).
    NothingWaits,
    /// This connection is gone (ECONNABORTED, or an error its network had); take the next.
    ConnectionGone,
    /// Files or memory have run out (EMFILE, ENFILE, ENOBUFS, ENOMEM). The connection stays in the
    /// accept queue: try again after [`ACCEPT_BACKOFF`], not at once, which would spin.
    OutOfResources,
    /// The socket does not listen any more (EINVAL).
    NotListening,
}

/// How long to leave the accept queue alone when files or memory have run out.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);

/// Sorts an error of `accept` (accept(2), "Error handling").
pub fn accept_error(error: &io::Error) -> AcceptError {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => AcceptError::NothingWaits,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
            AcceptError::OutOfResources
        }
        Some(Errno::EINVAL) => AcceptError::NotListening,
        _ => AcceptError::ConnectionGone,
    }
}

/// Lets no further connection reach a listener, so that its accept queue can be emptied and the listener
/// closed with nobody lost in between.
///
/// A filter (socket(7), `SO_ATTACH_FILTER`) drops whatever is sent to the listener itself; connections in
/// its queue are sockets of their own already. Who connects meanwhile asks again after a second, and is
/// refused by a port that is closed by then.
pub fn refuse_more(listener: &impl AsFd) {
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const NO_BYTE: u32 = 0;
    let drop_all = [SockFilter::new(RETURN, 0, 0, NO_BYTE)];
    // Where that is not permitted, connections may be lost as with any server.
    (SockRef::from(listener).attach_filter(&drop_all)).unwrap_or_default();
}
