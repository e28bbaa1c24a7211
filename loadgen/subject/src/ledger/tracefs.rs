//! Finds the kernel's list of tracepoints.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::unistd::getgid;

use super::Error;

/// Where `tracefs` is mounted, or can be.
const MOUNT_POINT: &str = "/sys/kernel/tracing";
/// Where `tracefs` appears in `debugfs`.
const WITHIN_DEBUGFS: &str = "/sys/kernel/debug/tracing";

/// The system calls that get their own counter: those that a working server plausibly makes. Every
/// counter makes thread switches slower, so not all calls have one.
const CALLS: [&str; 60] = [
    "accept",
    "accept4",
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd2",
    "exit",
    "exit_group",
    "fcntl",
    "futex",
    "getpeername",
    "getrandom",
    "getsockname",
    "getsockopt",
    "gettid",
    "io_uring_enter",
    "ioctl",
    "madvise",
    "membarrier",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstat",
    "newfstatat",
    "openat",
    "poll",
    "ppoll",
    "prctl",
    "pselect6",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "select",
    "sendfile64",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "splice",
    "tgkill",
    "timerfd_settime",
    "write",
    "writev",
];

/// The value to which `kernel.perf_event_paranoid` must be lowered for an unprivileged user to
/// count.
pub(super) const PARANOID: i8 = 1;

/// The IDs with which tracepoints are opened.
#[derive(Debug)]
pub(super) struct Numbers {
    /// The tracepoint of every system call.
    pub(super) all_calls: u64,
    /// The tracepoints of some system calls, by name.
    pub(super) calls: Vec<(&'static str, u64)>,
}

impl Numbers {
    /// Looks up the tracepoints, and mounts `tracefs` if it is not mounted and this process may
    /// mount it.
    pub(super) fn find() -> Result<Self, Error> {
        let events = events(PARANOID)?;
        let number = |name: &str| number(&events.join(name).join("id"));
        let mut calls = Vec::new();
        for name in CALLS {
            match number(&format!("syscalls/sys_enter_{name}")) {
                Ok(id) => calls.push((name, id)),
                // The call does not exist on this architecture or in this kernel.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(refused(&error, PARANOID)),
            }
        }
        if calls.is_empty() {
            return Err(Error::NotSupported(
                "this kernel has no tracepoints of system calls (CONFIG_FTRACE_SYSCALLS)"
                    .to_owned(),
            ));
        }
        let all_calls =
            number("raw_syscalls/sys_enter").map_err(|error| refused(&error, PARANOID))?;
        Ok(Numbers { all_calls, calls })
    }
}

/// The folder of events, mounted if necessary. If this user may not, the error advises to lower
/// `perf_event_paranoid` to this value.
pub fn events(paranoid: i8) -> Result<PathBuf, Error> {
    let within = |path: &str| Path::new(path).join("events");
    for path in [MOUNT_POINT, WITHIN_DEBUGFS] {
        match fs::read_dir(within(path)) {
            Ok(_) => return Ok(within(path)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(refused(&error, paranoid));
            }
            Err(_) => {}
        }
    }
    if !Path::new(MOUNT_POINT).is_dir() {
        return Err(Error::NotSupported(format!(
            "this kernel has no tracepoints: there is no {MOUNT_POINT}"
        )));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("nodev"),
        MOUNT_POINT,
        Some("tracefs"),
        flags,
        None::<&str>,
    )
    .map_err(|errno| refused(&errno.into(), paranoid))?;
    Ok(within(MOUNT_POINT))
}

fn number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let number = text.trim().parse();
    number.map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("{text:?} is not a number")))
}

/// The kernel's error, and what would help.
pub fn refused(cause: &io::Error, paranoid: i8) -> Error {
    let remount = match is_mounted() {
        true => "mount -o remount,",
        false => "mount -t tracefs -o ",
    };
    let device = if is_mounted() { "" } else { "nodev " };
    Error::NotPermitted {
        cause: cause.to_string(),
        // The mode lets other users in; the files inside can be read only by the group.
        advice: format!(
            "`sudo sysctl kernel.perf_event_paranoid={paranoid}` and \
             `sudo {remount}mode=755,gid={} {device}{MOUNT_POINT}`",
            getgid()
        ),
    }
}

fn is_mounted() -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    points.any(|point| point == MOUNT_POINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_listed_once_and_in_order() {
        assert!(CALLS.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn the_advice_is_complete() {
        let error = refused(&io::Error::from(ErrorKind::PermissionDenied), PARANOID).to_string();
        for part in [
            "run as root",
            "perf_event_paranoid=1",
            "tracefs",
            "mode=755,gid=",
        ] {
            // If it is mounted already, the advice is to remount it.
            let part = if part == "tracefs" { MOUNT_POINT } else { part };
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}
