//! The kernel's list of sockets, through `sock_diag`. It needs no privilege.

#[cfg(feature = "sock-diag")]
mod diag;
mod holders;
mod model;
#[cfg(any(test, not(feature = "sock-diag")))]
mod proc_net;

use std::fs;
use std::io;
use std::net::SocketAddr;
#[cfg(any(test, feature = "sock-diag"))]
use std::net::TcpStream;

pub use holders::holders;

pub use model::{Holder, Info, Socket, State, Timer};

/// How long an orphaned socket, which its program has closed, waits in `FIN-WAIT-2` for the peer's
/// FIN, in seconds (`net.ipv4.tcp_fin_timeout`). A socket that was only shut down waits without
/// limit.
///
/// # Errors
///
/// If the kernel does not report it.
pub fn fin_timeout_s() -> io::Result<u32> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_fin_timeout")?;
    let number = text.trim().parse();
    number.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// How often since boot the kernel had no room for a socket in `TIME-WAIT` and closed the
/// connection at once (`TCPTimeWaitOverflow`), in the network namespace of this process.
///
/// # Errors
///
/// If the kernel does not report it.
pub fn time_wait_overflows() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    counter(&text, "TcpExt:", "TCPTimeWaitOverflow")
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no TCPTimeWaitOverflow"))
}

/// A counter from a text in which names are on one line and values on the next, both after the same
/// word.
fn counter(text: &str, of: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(of));
    let (names, figures) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|it| it == name)?;
    figures.split_whitespace().nth(at)?.parse().ok()
}

/// How many sockets in `TIME-WAIT` fit (`net.ipv4.tcp_max_tw_buckets`).
///
/// # Errors
///
/// If the kernel does not report it.
pub fn time_wait_room() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_max_tw_buckets")?;
    let number = text.trim().parse();
    number.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// All TCP sockets of IPv4 and IPv6 whose local or remote port is among these: listeners first,
/// then by address. Their [`holders`] are not looked up.
///
/// Queues are as in `ss`: the peer's FIN counts as one byte received, ours as one sent. A
/// connection of an IPv6 socket with an IPv4 peer has IPv4 addresses. The tables change while the
/// kernel walks through them: a socket that changes its state meanwhile may be missing or appear
/// twice.
///
/// # Errors
///
/// If the kernel has no `sock_diag` (`CONFIG_INET_DIAG`), or refuses.
#[cfg(feature = "sock-diag")]
pub fn list(ports: &[u16]) -> io::Result<Vec<Socket>> {
    let mut sockets = diag::dump(|local, remote| {
        ports.contains(&local.port()) || ports.contains(&remote.port())
    })?;
    sockets.sort_by_key(|socket| (socket.state != State::Listen, socket.local, socket.remote));
    Ok(sockets)
}

/// The TCP sockets at this local port that serve: listeners, and connections whose end at that port
/// is open. Path figures are not read and sockets in `TIME-WAIT` are left out, so that many sockets
/// take little time.
///
/// # Errors
///
/// The same as for [`list`].
pub(crate) fn serving(port: u16) -> io::Result<Vec<Socket>> {
    #[cfg(feature = "sock-diag")]
    return diag::dump_serving(|local, _| local.port() == port);
    #[cfg(not(feature = "sock-diag"))]
    return proc_net::serving(port);
}

/// The kernel's figures about the path of a connection.
///
/// # Errors
///
/// If the socket has no peer, or the kernel refuses.
#[cfg(feature = "sock-diag")]
pub fn info_of(stream: &TcpStream) -> io::Result<Info> {
    diag::info(stream.local_addr()?, stream.peer_addr()?)
}

/// An IPv6 socket that is connected over IPv4 sends IPv4 packets.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_below_their_names() {
        let text = "TcpExt: SyncookiesSent TW TCPTimeWaitOverflow\nTcpExt: 0 12 7\n\
                    IpExt: InNoRoutes TW\nIpExt: 3 4\n";
        for (of, name, expected) in [
            ("TcpExt:", "TCPTimeWaitOverflow", Some(7)),
            ("TcpExt:", "TW", Some(12)),
            ("IpExt:", "TW", Some(4)),
            ("TcpExt:", "InNoRoutes", None),
            ("MPTcpExt:", "TW", None),
        ] {
            assert_eq!(counter(text, of, name), expected, "{of} {name}");
        }
    }

    /// Both ways to ask the kernel tell of the same sockets.
    #[cfg(feature = "sock-diag")]
    #[test]
    fn two_lists_agree() {
        use std::net::TcpListener;

        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let to = match listener.local_addr().unwrap().ip() {
                ip if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], port)),
                ip => SocketAddr::new(ip, port),
            };
            let client = TcpStream::connect(to).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let seen = |sockets: Vec<Socket>| {
                let mut seen: Vec<_> = (sockets.iter())
                    .map(|it| (it.local, it.remote, it.state.name(), it.inode))
                    .collect();
                seen.sort_unstable();
                seen
            };
            let listed = seen(serving(port).unwrap());
            assert_eq!(listed.len(), 2, "{listed:?}");
            assert_eq!(seen(proc_net::serving(port).unwrap()), listed, "{address}");
            drop((client, accepted));
        }
    }
}
