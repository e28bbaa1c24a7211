use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::Settings;

/// A listening socket, blocking, with everything set that its connections need too: Linux hands all these
/// options down from a listener to what it accepts, which saves a system call each a connection.
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
        if settings.reuse_port {
            socket.set_reuse_port(true)?;
        }
        // Answers are written whole; Nagle's algorithm could only delay them.
        socket.set_tcp_nodelay(true)?;
        // Grown by themselves, they would hold megabytes of answers for a peer that reads none.
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        // Answers that nobody takes would outlive their closed connection by minutes. Later than the server's
        // own timeout, which is the one that counts.
        socket.set_tcp_user_timeout(Some(3 * settings.limits.idle_timeout))?;
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

/// What the kernel may hold of a peer's input, and of the answers to it; it takes twice as much memory
/// (socket(7), `SO_SNDBUF`). More than is read or written at once.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

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

/// Lets no further handshake begin, so that the accept queue can be emptied and the listener closed with
/// nobody lost in between.
///
/// A filter (socket(7), `SO_ATTACH_FILTER`) drops the SYN segments sent to the listener; what stands in
/// its queue are sockets of their own already. Who connects meanwhile asks again after a second, and is
/// refused by a port that is closed by then.
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
    // Where that is not permitted, connections may be lost as with any server.
    (SockRef::from(listener).attach_filter(&drop_syn)).unwrap_or_default();
}

/// On a connection: reads return what has arrived, then 0, and whoever waits for more is woken. On a
/// listener: it listens no more.
pub(crate) fn shut_reading(socket: &impl AsFd) {
    // Fails where the peer has gone already, which ends its conversation as well.
    (SockRef::from(socket).shutdown(Shutdown::Read)).unwrap_or_default();
}
