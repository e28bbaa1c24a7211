use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::Settings;

/// A blocking listening socket, with the options that its connections need. On Linux an accepted socket inherits
/// these options from its listener, which saves a system call for each option of each connection.
///
/// # Errors
///
/// Those of `socket`, `setsockopt`, `bind` and `listen`. The message names the address.
pub fn listen(address: SocketAddr, settings: &Settings) -> io::Result<TcpListener> {
    let listener = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // Lets the server restart while connections of its last run are in TIME_WAIT.
        socket.set_reuse_address(true)?;
        if settings.reuse_port {
            socket.set_reuse_port(true)?;
        }
        // Answers are written whole; Nagle's algorithm could only delay them.
        socket.set_tcp_nodelay(true)?;
        // By default these buffers grow, and would hold megabytes of answers for a peer that reads none.
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        // Without it, unread answers would stay in the kernel for minutes after their connection is closed. It is
        // longer than the server's own timeout, which should come first.
        socket.set_tcp_user_timeout(Some(3 * settings.limits.idle_timeout))?;
        // Only blocking sockets heed these: the longest that one recv or send may take.
        socket.set_read_timeout(Some(settings.limits.idle_timeout))?;
        socket.set_write_timeout(Some(settings.limits.idle_timeout))?;
        socket.bind(&address.into())?;
        // A listener of std has a backlog of 128.
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

/// The most that the kernel holds of a peer's input, and of the answers to it. It uses twice as much memory
/// (socket(7), `SO_SNDBUF`). A server reads and writes less than this at once.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// Open files that a server needs besides its connections: standard streams, listeners, epoll, wakers.
const FILES_RESERVED: u64 = 32;

/// Raises the soft limit of open files to the hard limit. Returns how many connections fit below it, with a
/// reserve so that accept does not reach the limit.
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

/// Lets no further handshake begin, so that no connection is lost between emptying the accept queue and closing
/// the listener.
///
/// A filter (socket(7), `SO_ATTACH_FILTER`) drops the SYN segments sent to the listener. Connections in its queue
/// have sockets of their own and are not affected. A client that connects meanwhile sends its SYN again after a
/// second; by then the port is closed and refuses it.
pub(crate) fn refuse_more(listener: &TcpListener) {
    // Classic BPF over the TCP header, whose byte 13 holds the flags (9293 §3.1).
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let drop_syn = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    // Without the filter, connections may be lost at a stop, as with any server.
    (SockRef::from(listener).attach_filter(&drop_syn)).unwrap_or_default();
}

/// Shuts the reading side. On a connection, reads return what has arrived and then 0, and a thread that waits
/// for more is woken. A listener stops listening.
pub(crate) fn shut_reading(socket: &impl AsFd) {
    // An error means that the peer is gone, which ends the conversation as well.
    (SockRef::from(socket).shutdown(Shutdown::Read)).unwrap_or_default();
}
