//! System calls in strace's words, as far as registers tell: what lies in memory is not seen.

use nix::errno::Errno;
use nix::libc;

use crate::trace::model::Call;

/// The arguments: `3, 128` of `listen`, `5, 38 bytes` of `read`, `5, SHUT_WR` of `shutdown`. Addresses and
/// buffers are left out; where nothing is known to be worth a word it is empty.
pub fn describe(call: &Call) -> String {
    let [a, b, c, d, ..] = call.arguments;
    let fd = int(a);
    match call.name {
        // Its registers were not seen.
        _ if call.entered_ns.is_none() => String::new(),
        "socket" | "socketpair" => {
            let family = constant(a, &FAMILIES);
            // The kernel takes flags in with the type.
            let kind = constant(b & 0xf, &TYPES);
            let kind = match b & !0xf {
                0 => kind,
                bits => format!("{kind}|{}", flags(bits, &SOCKET_FLAGS)),
            };
            format!("{family}, {kind}, {}", int(c))
        }
        "listen" => format!("{fd}, {}", int(b)),
        "accept4" => match d {
            0 => format!("{fd}"),
            bits => format!("{fd}, {}", flags(bits, &SOCKET_FLAGS)),
        },
        "shutdown" => format!("{fd}, {}", constant(b, &SHUTDOWNS)),
        "read" | "write" | "pread64" | "pwrite64" => format!("{fd}, {c} bytes"),
        "readv" | "writev" | "preadv" | "pwritev" | "preadv2" | "pwritev2" => {
            format!("{fd}, {}", counted(c, "buffer"))
        }
        "sendto" | "recvfrom" => format!("{fd}, {c} bytes{}", message_flags(d)),
        "sendmsg" | "recvmsg" => format!("{fd}{}", message_flags(c)),
        "sendmmsg" | "recvmmsg" => {
            format!("{fd}, {}{}", counted(c, "message"), message_flags(d))
        }
        "setsockopt" | "getsockopt" => {
            let options: &[(u64, &str)] = match int(b) {
                libc::SOL_SOCKET => &SOCKET_OPTIONS,
                libc::IPPROTO_TCP => &TCP_OPTIONS,
                libc::IPPROTO_IP => &IP_OPTIONS,
                libc::IPPROTO_IPV6 => &IPV6_OPTIONS,
                _ => &[],
            };
            format!("{fd}, {}, {}", constant(b, &LEVELS), constant(c, options))
        }
        "fcntl" => {
            let command = constant(b, &FCNTL_COMMANDS);
            match int(b) {
                libc::F_GETFD | libc::F_GETFL => format!("{fd}, {command}"),
                libc::F_SETFL => format!("{fd}, {command}, {}", status_flags(c)),
                libc::F_SETFD => format!("{fd}, {command}, {}", flags(c, &[(1, "FD_CLOEXEC")])),
                _ => format!("{fd}, {command}, {}", int(c)),
            }
        }
        "ioctl" => format!("{fd}, {}", constant(b, &IOCTLS)),
        "dup2" => format!("{fd}, {}", int(b)),
        "dup3" => format!("{fd}, {}, {}", int(b), status_flags(c)),
        "sendfile" => format!("{fd}, {}, {d} bytes", int(b)),
        "splice" => format!("{fd}, {}, {} bytes", int(c), call.arguments[4]),
        "tee" => format!("{fd}, {}, {c} bytes", int(b)),
        "close_range" => format!("{a}, {b}"),
        "epoll_create1" => flags(a, &[(libc::EPOLL_CLOEXEC as u64, "EPOLL_CLOEXEC")]),
        "epoll_ctl" => format!("{fd}, {}, {}", constant(b, &EPOLL_OPERATIONS), int(c)),
        "epoll_wait" | "epoll_pwait" => format!("{fd}, {}, {}", counted(c, "event"), timeout(d)),
        "epoll_pwait2" => format!("{fd}, {}", counted(c, "event")),
        "poll" => format!("{}, {}", counted(b, "descriptor"), timeout(c)),
        "ppoll" => counted(b, "descriptor"),
        "futex" => constant(b & !FUTEX_FLAGS, &FUTEX_OPERATIONS),
        "exit" | "exit_group" => format!("{}", int(a)),
        "io_uring_setup" => counted(a, "entry").replace("entrys", "entries"),
        "io_uring_enter" => format!("{fd}, {} to submit, {} to wait for", b & WORD, c & WORD),
        name if descriptor_argument(name) == Some(0) => format!("{fd}"),
        _ => String::new(),
    }
}

/// What it returned: `5`, `-1 ECONNRESET`; absent where it did not.
pub fn result(call: &Call) -> Option<String> {
    let result = call.result?;
    let error = match result {
        -4095..=-1 => i32::try_from(-result).ok(),
        _ => None,
    };
    Some(match (error, call.name) {
        (None, "mmap" | "mremap" | "brk" | "shmat") => format!("{result:#x}"),
        (None, _) => format!("{result}"),
        // Of these the program learns nothing: the call is begun again, or EINTR is made of it.
        (Some(512), _) => "? ERESTARTSYS".to_owned(),
        (Some(513), _) => "? ERESTARTNOINTR".to_owned(),
        (Some(514), _) => "? ERESTARTNOHAND".to_owned(),
        (Some(516), _) => "? ERESTART_RESTARTBLOCK".to_owned(),
        (Some(number), _) => match Errno::from_raw(number) {
            Errno::UnknownErrno => format!("-1 error {number}"),
            errno => format!("-1 {errno:?}"),
        },
    })
}

/// The descriptor that it is about, which may be a socket: of `accept` the listener, of `epoll_ctl` the one
/// that is watched. Absent of those that are about several or none, such as `epoll_wait`, and where the
/// trace began within it.
pub fn descriptor(call: &Call) -> Option<i32> {
    call.entered_ns?;
    Some(int(call.arguments[descriptor_argument(call.name)?]))
}

/// The descriptor that it made, where that is a socket or the copy of another.
pub fn makes_descriptor(call: &Call) -> Option<i32> {
    let makes = match call.name {
        "socket" | "accept" | "accept4" | "dup" | "dup2" | "dup3" => true,
        "fcntl" => {
            let command = int(call.arguments[1]);
            command == libc::F_DUPFD || command == libc::F_DUPFD_CLOEXEC
        }
        _ => false,
    };
    let result = call.result.filter(|&result| makes && result >= 0)?;
    i32::try_from(result).ok()
}

/// Which argument is the descriptor that a call is about.
pub(super) fn descriptor_argument(name: &str) -> Option<usize> {
    Some(match name {
        "bind" | "connect" | "listen" | "accept" | "accept4" | "shutdown" | "close" => 0,
        "getsockname" | "getpeername" | "getsockopt" | "setsockopt" => 0,
        "read" | "readv" | "pread64" | "preadv" | "preadv2" => 0,
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => 0,
        "recvfrom" | "recvmsg" | "recvmmsg" | "sendto" | "sendmsg" | "sendmmsg" => 0,
        "sendfile" | "splice" | "tee" | "vmsplice" => 0,
        "dup" | "dup2" | "dup3" | "fcntl" | "ioctl" => 0,
        "epoll_ctl" => 2,
        _ => return None,
    })
}

const WORD: u64 = u32::MAX as u64;

/// As C has it: the upper half of the register says nothing.
fn int(register: u64) -> i32 {
    (register as u32).cast_signed()
}

/// By its name, or its number.
fn constant(register: u64, names: &[(u64, &str)]) -> String {
    let value = register & WORD;
    match names.iter().find(|(other, _)| *other == value) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{}", int(register)),
    }
}

/// `MSG_NOSIGNAL|MSG_MORE`; those without a name as a number, none as `0`.
fn flags(register: u64, names: &[(u64, &str)]) -> String {
    let mut rest = register & WORD;
    let mut parts = Vec::new();
    for &(bits, name) in names {
        if rest & bits == bits {
            rest &= !bits;
            parts.push(name.to_owned());
        }
    }
    if rest != 0 || parts.is_empty() {
        let rest = if rest == 0 {
            "0".to_owned()
        } else {
            format!("{rest:#x}")
        };
        parts.push(rest);
    }
    parts.join("|")
}

fn message_flags(register: u64) -> String {
    match register & WORD {
        0 => String::new(),
        bits => format!(", {}", flags(bits, &MESSAGE_FLAGS)),
    }
}

/// Of an open file: how it may be used, and the rest.
fn status_flags(register: u64) -> String {
    let access = constant(register & libc::O_ACCMODE as u64, &ACCESS_MODES);
    match register & !(libc::O_ACCMODE as u64) & WORD {
        0 => access,
        bits => format!("{access}|{}", flags(bits, &STATUS_FLAGS)),
    }
}

fn counted(register: u64, what: &str) -> String {
    match register & WORD {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn timeout(register: u64) -> String {
    match int(register) {
        ..0 => "no timeout".to_owned(),
        ms => format!("{ms} ms"),
    }
}

/// A table of constants of C by their names.
macro_rules! names {
    ($name:ident: $($constant:ident)*) => {
        const $name: [(u64, &str); [$(stringify!($constant)),*].len()] =
            [$((libc::$constant as u32 as u64, stringify!($constant))),*];
    };
}

names!(FAMILIES: AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK);
names!(TYPES: SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET);
names!(SOCKET_FLAGS: SOCK_CLOEXEC SOCK_NONBLOCK);
names!(SHUTDOWNS: SHUT_RD SHUT_WR SHUT_RDWR);
names!(MESSAGE_FLAGS: MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_CONFIRM
    MSG_ERRQUEUE MSG_NOSIGNAL MSG_MORE MSG_WAITFORONE MSG_ZEROCOPY MSG_FASTOPEN MSG_CMSG_CLOEXEC);
names!(LEVELS: SOL_SOCKET IPPROTO_TCP IPPROTO_IP IPPROTO_IPV6);
names!(SOCKET_OPTIONS: SO_DEBUG SO_REUSEADDR SO_TYPE SO_ERROR SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF
    SO_KEEPALIVE SO_OOBINLINE SO_PRIORITY SO_LINGER SO_REUSEPORT SO_RCVLOWAT SO_SNDLOWAT SO_RCVTIMEO SO_SNDTIMEO
    SO_BINDTODEVICE SO_ATTACH_FILTER SO_ACCEPTCONN SO_SNDBUFFORCE SO_RCVBUFFORCE SO_MARK SO_PROTOCOL SO_DOMAIN
    SO_INCOMING_CPU SO_ATTACH_REUSEPORT_CBPF SO_ATTACH_REUSEPORT_EBPF SO_BUSY_POLL SO_ZEROCOPY);
names!(TCP_OPTIONS: TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2
    TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_INFO TCP_QUICKACK TCP_CONGESTION TCP_USER_TIMEOUT TCP_FASTOPEN
    TCP_TIMESTAMP TCP_NOTSENT_LOWAT TCP_FASTOPEN_CONNECT TCP_ULP);
names!(IP_OPTIONS: IP_TOS IP_TTL IP_RECVERR IP_MTU_DISCOVER IP_TRANSPARENT IP_FREEBIND IP_BIND_ADDRESS_NO_PORT);
names!(IPV6_OPTIONS: IPV6_V6ONLY IPV6_UNICAST_HOPS IPV6_TCLASS IPV6_RECVERR IPV6_MTU_DISCOVER);
names!(FCNTL_COMMANDS: F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN
    F_DUPFD_CLOEXEC);
names!(ACCESS_MODES: O_RDONLY O_WRONLY O_RDWR);
names!(STATUS_FLAGS: O_APPEND O_NONBLOCK O_ASYNC O_DIRECT O_CLOEXEC);
names!(IOCTLS: FIONBIO FIONREAD FIOCLEX TIOCOUTQ TCGETS TIOCGWINSZ);
names!(EPOLL_OPERATIONS: EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD);
names!(FUTEX_OPERATIONS: FUTEX_WAIT FUTEX_WAKE FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI
    FUTEX_UNLOCK_PI FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET);

/// They say how memory is shared and which clock is meant.
const FUTEX_FLAGS: u64 = (libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u64;
