//! System calls in the style of strace, as far as registers show: memory is not read.

use nix::errno::Errno;
use nix::libc;

use crate::model::Call;

/// The arguments: `3, 128` for `listen`, `5, 38 bytes` for `read`, `5, SHUT_WR` for `shutdown`.
/// Addresses and buffers are left out; may be empty.
pub fn describe(call: &Call) -> String {
    let [a, b, c, d, ..] = call.arguments;
    let fd = int(a);
    match call.name {
        // The registers were not recorded.
        _ if call.entered_ns.is_none() => String::new(),
        "socket" | "socketpair" => {
            let family = constant(a, &FAMILIES);
            // The type argument may contain flags.
            let kind = constant(b & 0xf, &TYPES);
            let kind = match b & !0xf {
                0 => kind,
                bits => format!("{kind}|{}", flags(bits, &SOCKET_FLAGS)),
            };
            // 0 is the type's default protocol.
            let protocol = constant(c, &[(libc::IPPROTO_TCP as u64, "IPPROTO_TCP")]);
            format!("{family}, {kind}, {protocol}")
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
        "io_uring_setup" => format!("{} entries", a & WORD),
        "io_uring_enter" => format!("{fd}, {} to submit, {} to wait for", b & WORD, c & WORD),
        name if descriptor_argument(name) == Some(0) => format!("{fd}"),
        _ => String::new(),
    }
}

/// The result: `5`, `-1 ECONNRESET`; `None` if the call did not return.
pub fn result(call: &Call) -> Option<String> {
    let result = call.result?;
    let error = match result {
        -4095..=-1 => i32::try_from(-result).ok(),
        _ => None,
    };
    Some(match (error, call.name) {
        (None, "mmap" | "mremap" | "brk" | "shmat") => format!("{result:#x}"),
        (None, _) => format!("{result}"),
        // The program never sees these: the kernel restarts the call or returns EINTR.
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

/// The descriptor that a call is about, which may be a socket: the listener for `accept`, the
/// watched descriptor for `epoll_ctl`. `None` for calls about several or no descriptors, such as
/// `epoll_wait`, and if the trace began within the call.
pub fn descriptor(call: &Call) -> Option<i32> {
    call.entered_ns?;
    Some(int(call.arguments[descriptor_argument(call.name)?]))
}

/// The descriptor that a call creates, if it is a socket or a copy of one.
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

/// The index of the argument that is the call's descriptor.
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

/// The value of a C `int`: the upper half of the register is meaningless.
fn int(register: u64) -> i32 {
    (register as u32).cast_signed()
}

/// A constant by name, or its number.
fn constant(register: u64, names: &[(u64, &str)]) -> String {
    let value = register & WORD;
    match names.iter().find(|(other, _)| *other == value) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{}", int(register)),
    }
}

/// Flags by name: `MSG_NOSIGNAL|MSG_MORE`; unknown ones as a number, no flags as `0`.
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

/// The status flags of an open file: the access mode and the rest.
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

/// A table of C constants by name.
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

/// These flags say how memory is shared and which clock is used.
const FUTEX_FLAGS: u64 = (libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Side;

    fn call(name: &'static str, arguments: &[i64]) -> Call {
        let mut registers = [0; 6];
        for (register, argument) in registers.iter_mut().zip(arguments) {
            *register = argument.cast_unsigned();
        }
        Call {
            entered_ns: Some(1),
            left_ns: Some(2),
            side: Side::Server,
            pid: 1,
            tid: 1,
            name,
            arguments: registers,
            result: Some(0),
        }
    }

    #[test]
    fn arguments_are_told_as_strace_does() {
        // -1 as a C `int`, in the lower half of a register.
        const MINUS_ONE: i64 = 0xffff_ffff;
        const POINTER: i64 = 0x7fff_1234_5678;
        for (name, arguments, expected) in [
            (
                "socket",
                &[2, 0x8_0001, 0][..],
                "AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0",
            ),
            (
                "socket",
                &[10, 0x8_0801, 6],
                "AF_INET6, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_TCP",
            ),
            ("socket", &[99, 1, 0], "99, SOCK_STREAM, 0"),
            ("bind", &[3, POINTER, 16], "3"),
            ("connect", &[3, POINTER, 16], "3"),
            ("listen", &[3, 128], "3, 128"),
            ("accept", &[3, POINTER, POINTER], "3"),
            ("accept4", &[3, 0, 0, 0], "3"),
            (
                "accept4",
                &[3, 0, 0, 0x8_0800],
                "3, SOCK_CLOEXEC|SOCK_NONBLOCK",
            ),
            ("shutdown", &[5, 0], "5, SHUT_RD"),
            ("shutdown", &[5, 1], "5, SHUT_WR"),
            ("shutdown", &[5, 9], "5, 9"),
            ("close", &[MINUS_ONE], "-1"),
            ("read", &[5, POINTER, 38], "5, 38 bytes"),
            ("writev", &[5, POINTER, 2], "5, 2 buffers"),
            ("writev", &[5, POINTER, 1], "5, 1 buffer"),
            (
                "sendto",
                &[5, POINTER, 38, 0x4000],
                "5, 38 bytes, MSG_NOSIGNAL",
            ),
            ("recvfrom", &[5, POINTER, 38, 0], "5, 38 bytes"),
            (
                "recvfrom",
                &[5, POINTER, 1, 0x42],
                "5, 1 bytes, MSG_PEEK|MSG_DONTWAIT",
            ),
            (
                "sendmsg",
                &[5, POINTER, 0x4000_8000],
                "5, MSG_MORE|MSG_CMSG_CLOEXEC",
            ),
            ("sendmsg", &[5, POINTER, 0x1000_0000], "5, 0x10000000"),
            ("recvmmsg", &[5, POINTER, 3, 0], "5, 3 messages"),
            (
                "setsockopt",
                &[5, 6, 1, POINTER, 4],
                "5, IPPROTO_TCP, TCP_NODELAY",
            ),
            (
                "setsockopt",
                &[5, 1, 2, POINTER, 4],
                "5, SOL_SOCKET, SO_REUSEADDR",
            ),
            (
                "setsockopt",
                &[5, 41, 26, POINTER, 4],
                "5, IPPROTO_IPV6, IPV6_V6ONLY",
            ),
            ("getsockopt", &[5, 1, 999], "5, SOL_SOCKET, 999"),
            ("getsockopt", &[5, 77, 1], "5, 77, 1"),
            ("fcntl", &[5, 3], "5, F_GETFL"),
            ("fcntl", &[5, 4, 0x802], "5, F_SETFL, O_RDWR|O_NONBLOCK"),
            ("fcntl", &[5, 2, 1], "5, F_SETFD, FD_CLOEXEC"),
            ("fcntl", &[5, 1030, 3], "5, F_DUPFD_CLOEXEC, 3"),
            ("ioctl", &[5, 0x5421, POINTER], "5, FIONBIO"),
            ("dup2", &[5, 1], "5, 1"),
            ("sendfile", &[5, 4, 0, 100], "5, 4, 100 bytes"),
            ("epoll_create1", &[0], "0"),
            ("epoll_create1", &[0x8_0000], "EPOLL_CLOEXEC"),
            ("epoll_ctl", &[4, 1, 5, POINTER], "4, EPOLL_CTL_ADD, 5"),
            (
                "epoll_wait",
                &[4, POINTER, 1024, MINUS_ONE],
                "4, 1024 events, no timeout",
            ),
            ("epoll_wait", &[4, POINTER, 1, 250], "4, 1 event, 250 ms"),
            ("poll", &[POINTER, 1, 500], "1 descriptor, 500 ms"),
            ("futex", &[POINTER, 0x80], "FUTEX_WAIT"),
            ("futex", &[POINTER, 0x189], "FUTEX_WAIT_BITSET"),
            ("exit_group", &[1], "1"),
            ("io_uring_setup", &[256, POINTER], "256 entries"),
            (
                "io_uring_enter",
                &[6, 2, 1, 1],
                "6, 2 to submit, 1 to wait for",
            ),
            ("mmap", &[0, 4096], ""),
            ("unknown", &[1, 2], ""),
        ] {
            assert_eq!(
                describe(&call(name, arguments)),
                expected,
                "{name}{arguments:x?}"
            );
        }
        let unseen = Call {
            entered_ns: None,
            ..call("read", &[0, 0, 0])
        };
        assert_eq!(describe(&unseen), "");
        assert_eq!(descriptor(&unseen), None);
    }

    #[test]
    fn results_have_the_names_of_errors() {
        for (name, value, expected) in [
            ("read", Some(5), Some("5")),
            ("read", Some(0), Some("0")),
            ("read", Some(-104), Some("-1 ECONNRESET")),
            ("accept4", Some(-11), Some("-1 EAGAIN")),
            ("poll", Some(-516), Some("? ERESTART_RESTARTBLOCK")),
            ("accept", Some(-512), Some("? ERESTARTSYS")),
            ("read", Some(-4000), Some("-1 error 4000")),
            ("mmap", Some(0x7f00_0000_0000), Some("0x7f0000000000")),
            ("mmap", Some(-12), Some("-1 ENOMEM")),
            ("exit_group", None, None),
        ] {
            let call = Call {
                result: value,
                ..call(name, &[])
            };
            assert_eq!(result(&call).as_deref(), expected, "{name} {value:?}");
        }
    }

    #[test]
    fn descriptors() {
        for (name, arguments, value, about, made) in [
            ("socket", &[2, 1, 0][..], 3, None, Some(3)),
            ("socket", &[2, 1, 0], -24, None, None),
            ("accept4", &[3, 0, 0, 0], 4, Some(3), Some(4)),
            ("read", &[4, 0, 10], 10, Some(4), None),
            ("epoll_ctl", &[5, 1, 4, 0], 0, Some(4), None),
            ("epoll_wait", &[5, 0, 8, 0], 1, None, None),
            ("dup3", &[4, 9, 0], 9, Some(4), Some(9)),
            ("fcntl", &[4, 1030, 3], 8, Some(4), Some(8)),
            ("fcntl", &[4, 3, 0], 2, Some(4), None),
            ("futex", &[4, 0, 0], 0, None, None),
        ] {
            let call = Call {
                result: Some(value),
                ..call(name, arguments)
            };
            assert_eq!(descriptor(&call), about, "{name}{arguments:?}");
            assert_eq!(makes_descriptor(&call), made, "{name}{arguments:?}");
        }
    }

    #[test]
    fn every_constant_is_there_once() {
        for table in [
            &FAMILIES[..],
            &TYPES,
            &SOCKET_FLAGS,
            &SHUTDOWNS,
            &MESSAGE_FLAGS,
            &LEVELS,
            &SOCKET_OPTIONS,
            &TCP_OPTIONS,
            &IP_OPTIONS,
            &IPV6_OPTIONS,
            &FCNTL_COMMANDS,
            &STATUS_FLAGS,
            &IOCTLS,
            &EPOLL_OPERATIONS,
            &FUTEX_OPERATIONS,
        ] {
            for (index, (value, name)) in table.iter().enumerate() {
                let twin = table[..index].iter().find(|(other, _)| other == value);
                assert_eq!(twin, None, "{name}");
            }
        }
    }
}
