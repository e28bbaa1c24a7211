//! From what the kernel wrote to who did what.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use nix::libc;
use syscalls::Sysno;

use super::format::{Field, Format};
use super::rings::Gathered;
use super::{Traced, Watch};
use crate::trace::model::{Call, Change, Side, State};

/// Which tracepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `raw_syscalls:sys_enter`
    Enter,
    /// `raw_syscalls:sys_exit`
    Exit,
    /// `sock:inet_sock_set_state`
    Change,
}

/// Half of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at_ns: u64,
    pub(super) tid: u32,
    /// By which it is called; on leaving, -1 where the kernel has forgotten it.
    pub(super) number: i64,
    pub(super) half: Half,
}

/// Which half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// With its arguments.
    Enter([u64; 6]),
    /// With its result.
    Exit(i64),
}

/// A socket changes its state; of any protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateChange {
    protocol: u16,
    change: Change,
}

/// Where the tracepoints have what is used of them.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    enter: Enter,
    exit: Exit,
    change: ChangeLayout,
}

#[derive(Debug, Clone)]
struct Enter {
    id: u64,
    number: Field,
    arguments: Field,
}

#[derive(Debug, Clone)]
struct Exit {
    id: u64,
    number: Field,
    result: Field,
}

#[derive(Debug, Clone)]
struct ChangeLayout {
    id: u64,
    socket: Field,
    old: Field,
    new: Field,
    local_port: Field,
    remote_port: Field,
    family: Field,
    protocol: Field,
    local: Field,
    remote: Field,
    local_v6: Field,
    remote_v6: Field,
}

impl Layout {
    /// Reads it in the folder of events.
    pub(super) fn read(events: &Path) -> io::Result<Self> {
        let enter = Format::read(events, "raw_syscalls/sys_enter")?;
        let exit = Format::read(events, "raw_syscalls/sys_exit")?;
        let change = Format::read(events, "sock/inet_sock_set_state")?;
        Ok(Layout {
            enter: Enter {
                id: enter.id,
                number: enter.field("id", 8)?,
                arguments: enter.field("args", 48)?,
            },
            exit: Exit {
                id: exit.id,
                number: exit.field("id", 8)?,
                result: exit.field("ret", 8)?,
            },
            change: ChangeLayout {
                id: change.id,
                socket: change.field("skaddr", 8)?,
                old: change.field("oldstate", 4)?,
                new: change.field("newstate", 4)?,
                local_port: change.field("sport", 2)?,
                remote_port: change.field("dport", 2)?,
                family: change.field("family", 2)?,
                protocol: change.field("protocol", 2)?,
                local: change.field("saddr", 4)?,
                remote: change.field("daddr", 4)?,
                local_v6: change.field("saddr_v6", 16)?,
                remote_v6: change.field("daddr_v6", 16)?,
            },
        })
    }

    /// By which the tracepoint is asked for.
    pub(super) fn id(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Enter => self.enter.id,
            Kind::Exit => self.exit.id,
            Kind::Change => self.change.id,
        }
    }

    /// Of a record of `sys_enter` or `sys_exit`; absent where it is too short.
    pub(super) fn call(&self, kind: Kind, at_ns: u64, tid: u32, record: &[u8]) -> Option<Event> {
        let (number, half) = match kind {
            Kind::Enter => {
                let bytes: [u8; 48] = self.enter.arguments.bytes(record)?;
                let (words, _) = bytes.as_chunks();
                let mut arguments = [0; 6];
                for (argument, word) in arguments.iter_mut().zip(words) {
                    *argument = u64::from_ne_bytes(*word);
                }
                (self.enter.number, Half::Enter(arguments))
            }
            _ => {
                let result = i64::from_ne_bytes(self.exit.result.bytes(record)?);
                (self.exit.number, Half::Exit(result))
            }
        };
        Some(Event {
            at_ns,
            tid,
            number: i64::from_ne_bytes(number.bytes(record)?),
            half,
        })
    }

    /// Of a record of `inet_sock_set_state`; absent where it is too short or has a state that there was not.
    pub(super) fn change(&self, at_ns: u64, record: &[u8]) -> Option<StateChange> {
        let layout = &self.change;
        let half = |field: Field| Some(u16::from_ne_bytes(field.bytes(record)?));
        let state = |field: Field| State::from_linux(i32::from_ne_bytes(field.bytes(record)?));
        let v6 = i32::from(half(layout.family)?) == libc::AF_INET6;
        let address = |v4: Field, long: Field| {
            Some(match v6 {
                // An IPv6 socket that talks to IPv4 sends packets of IPv4.
                true => Ipv6Addr::from(long.bytes::<16>(record)?).to_canonical(),
                false => IpAddr::V4(Ipv4Addr::from(v4.bytes::<4>(record)?)),
            })
        };
        let local = address(layout.local, layout.local_v6)?;
        let remote = address(layout.remote, layout.remote_v6)?;
        Some(StateChange {
            protocol: half(layout.protocol)?,
            change: Change {
                at_ns,
                local: SocketAddr::new(local, half(layout.local_port)?),
                remote: SocketAddr::new(remote, half(layout.remote_port)?),
                socket: u64::from_ne_bytes(layout.socket.bytes(record)?),
                old: state(layout.old)?,
                new: state(layout.new)?,
            },
        })
    }
}

impl Gathered {
    /// What of it is of those who are watched.
    pub(super) fn seen_by(mut self, watch: &Watch) -> Traced {
        let mut calls = Vec::new();
        let mut lost = self.lost;
        for (pid, process) in &mut self.processes {
            let is_client = |event: &Event| watch.client_tids.contains(&event.tid);
            let is_server = watch.server_pids.contains(pid);
            let side = |event: &Event| match is_client(event) {
                true => Some(Side::Client),
                false => is_server.then_some(Side::Server),
            };
            if is_server || process.events.iter().any(is_client) {
                lost += process.lost;
                // Each CPU has its own buffers.
                process.events.sort_by_key(|event| event.at_ns);
                calls.extend(pair(*pid, &process.events, side));
            }
        }
        calls.retain(|call| watch.all_calls || is_kept(call.name));
        calls.sort_by_key(|call| (call.entered_ns, call.left_ns));
        Traced {
            changes: changes(self.changes, &watch.ports),
            calls,
            lost,
        }
    }
}

/// Those of TCP sockets with one of these ports, in the order of time.
fn changes(mut all: Vec<StateChange>, ports: &[u16]) -> Vec<Change> {
    all.retain(|change| i32::from(change.protocol) == libc::IPPROTO_TCP);
    let mut changes: Vec<Change> = all.into_iter().map(|change| change.change).collect();
    changes.sort_by_key(|change| change.at_ns);
    complete(&mut changes);
    changes.retain(|change| {
        let ends = [change.local, change.remote];
        ends.iter().any(|end| ports.contains(&end.port()))
    });
    changes
}

/// A socket's first change is told before it has its addresses: a client's before its port is picked, a
/// server's before the peer is entered. Its next change has them.
fn complete(changes: &mut [Change]) {
    let mut known: HashMap<u64, (SocketAddr, SocketAddr)> = HashMap::new();
    for change in changes.iter_mut().rev() {
        if !matches!(change.new, State::SynSent | State::SynReceived) {
            known.insert(change.socket, (change.local, change.remote));
            continue;
        }
        // What comes before is another socket at the same place.
        if let Some((local, remote)) = known.remove(&change.socket) {
            (change.local, change.remote) = (local, remote);
        }
    }
}

/// Calls of a process from their halves, which are in the order of time.
fn pair(pid: u32, events: &[Event], side: impl Fn(&Event) -> Option<Side>) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    // By thread, the call that it is within; none where it is within none.
    let mut within: HashMap<u32, Option<usize>> = HashMap::new();
    for event in events {
        let Some(side) = side(event) else { continue };
        let call = |entered_ns, left_ns, arguments, result| Call {
            entered_ns,
            left_ns,
            side,
            pid,
            tid: event.tid,
            name: name(event.number),
            arguments,
            result,
        };
        match event.half {
            Half::Enter(arguments) => {
                within.insert(event.tid, Some(calls.len()));
                calls.push(call(Some(event.at_ns), None, arguments, None));
            }
            Half::Exit(result) => {
                let is_new = !within.contains_key(&event.tid);
                let entered = within.insert(event.tid, None).flatten();
                let forgotten = event.number < 0;
                match entered.map(|index| &mut calls[index]) {
                    Some(call) if forgotten || call.name == name(event.number) => {
                        call.left_ns = Some(event.at_ns);
                        call.result = Some(result);
                    }
                    // A new thread or process comes out of the call that made it, which is its parent's.
                    _ if is_new && result == 0 && is_birth(name(event.number)) => {}
                    _ if forgotten => {}
                    _ => calls.push(call(None, Some(event.at_ns), [0; 6], Some(result))),
                }
            }
        }
    }
    calls
}

/// `recvfrom`
fn name(number: i64) -> &'static str {
    let number = usize::try_from(number).ok().and_then(Sysno::new);
    number.map_or("unknown", |number| number.name())
}

fn is_birth(name: &str) -> bool {
    matches!(name, "clone" | "clone3" | "fork" | "vfork")
}

/// Whether it has to do with descriptors that may be sockets, with waiting, or with threads.
fn is_kept(name: &str) -> bool {
    super::describe::descriptor_argument(name).is_some()
        || is_birth(name)
        || matches!(
            name,
            "socket"
                | "socketpair"
                | "epoll_create"
                | "epoll_create1"
                | "epoll_wait"
                | "epoll_pwait"
                | "epoll_pwait2"
                | "poll"
                | "ppoll"
                | "select"
                | "pselect6"
                | "futex"
                | "futex_waitv"
                | "nanosleep"
                | "clock_nanosleep"
                | "restart_syscall"
                | "execve"
                | "exit"
                | "exit_group"
                | "close_range"
                | "io_uring_setup"
                | "io_uring_enter"
                | "io_uring_register"
        )
}
