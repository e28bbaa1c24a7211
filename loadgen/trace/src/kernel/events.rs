//! Turns the kernel's records into calls and state changes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use nix::libc;
use syscalls::Sysno;

use super::format::{Field, Format};
use super::gathered::{Event, Gathered, Half, StateChange};
use super::{Traced, Watch};
use crate::model::{Call, Change, Side, State};

/// The tracepoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `raw_syscalls:sys_enter`
    Enter,
    /// `raw_syscalls:sys_exit`
    Exit,
    /// `sock:inet_sock_set_state`
    Change,
}

/// The offsets of the tracepoints' fields that are used.
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
    /// Reads the offsets from the folder of events.
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

    /// The ID with which a tracepoint is opened.
    pub(super) fn id(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Enter => self.enter.id,
            Kind::Exit => self.exit.id,
            Kind::Change => self.change.id,
        }
    }

    /// Parses a record of `sys_enter` or `sys_exit`; `None` if it is too short.
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

    /// Parses a record of `inet_sock_set_state`; `None` if it is too short.
    pub(super) fn change(&self, at_ns: u64, record: &[u8]) -> Option<StateChange> {
        let layout = &self.change;
        let half = |field: Field| Some(u16::from_ne_bytes(field.bytes(record)?));
        let int = |field: Field| Some(i32::from_ne_bytes(field.bytes(record)?));
        let is_v6 = i32::from(half(layout.family)?) == libc::AF_INET6;
        let address = |v4: Field, v6: Field| {
            Some(match is_v6 {
                // An IPv6 socket that is connected over IPv4 sends IPv4 packets.
                true => Ipv6Addr::from(v6.bytes::<16>(record)?).to_canonical(),
                false => IpAddr::V4(Ipv4Addr::from(v4.bytes::<4>(record)?)),
            })
        };
        let local = address(layout.local, layout.local_v6)?;
        let remote = address(layout.remote, layout.remote_v6)?;
        Some(StateChange {
            at_ns,
            protocol: half(layout.protocol)?,
            local: SocketAddr::new(local, half(layout.local_port)?),
            remote: SocketAddr::new(remote, half(layout.remote_port)?),
            socket: u64::from_ne_bytes(layout.socket.bytes(record)?),
            old: int(layout.old)?,
            new: int(layout.new)?,
        })
    }
}

impl StateChange {
    /// The change as one of a TCP socket; `None` for other protocols, whose states have the same
    /// numbers.
    fn of_tcp(&self) -> Option<Change> {
        if i32::from(self.protocol) != libc::IPPROTO_TCP {
            return None;
        }
        Some(Change {
            at_ns: self.at_ns,
            local: self.local,
            remote: self.remote,
            socket: self.socket,
            old: State::from_linux(self.old)?,
            new: State::from_linux(self.new)?,
        })
    }
}

impl Gathered {
    /// The calls and changes of the watched processes and ports.
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
                // Each CPU has its own rings.
                process.events.sort_by_key(|event| event.at_ns);
                calls.extend(pair(*pid, &process.events, side));
            }
        }
        calls.retain(|call| watch.all_calls || is_kept(call.name));
        calls.sort_by_key(|call| (call.entered_ns, call.left_ns));
        Traced {
            changes: changes(&self.changes, &watch.ports),
            calls,
            lost,
        }
    }
}

/// Changes of TCP sockets with one of these ports, sorted by time.
fn changes(all: &[StateChange], ports: &[u16]) -> Vec<Change> {
    let mut changes: Vec<Change> = all.iter().filter_map(StateChange::of_tcp).collect();
    changes.sort_by_key(|change| change.at_ns);
    complete(&mut changes);
    changes.retain(|change| {
        let ends = [change.local, change.remote];
        ends.iter().any(|end| ports.contains(&end.port()))
    });
    changes
}

/// Fills in missing addresses. A socket's first change is reported before a client's port is chosen
/// or a server's peer is entered; its next change has both.
fn complete(changes: &mut [Change]) {
    let mut known: HashMap<u64, (SocketAddr, SocketAddr)> = HashMap::new();
    for change in changes.iter_mut().rev() {
        match change.new {
            State::SynSent | State::SynReceived => {
                if let Some((local, remote)) = known.get(&change.socket) {
                    (change.local, change.remote) = (*local, *remote);
                }
            }
            _ => {
                known.insert(change.socket, (change.local, change.remote));
            }
        }
        // Earlier changes belong to another socket at the same kernel address.
        if matches!(change.old, State::Closed | State::Listen) {
            known.remove(&change.socket);
        }
    }
}

/// Pairs the sorted halves of a process's calls.
fn pair(pid: u32, events: &[Event], side: impl Fn(&Event) -> Option<Side>) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    // The call that each thread is in, or `None`.
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
                    // A new thread or process returns from a call that its parent made.
                    _ if is_new && result == 0 && is_birth(name(event.number)) => {}
                    _ if forgotten => {}
                    _ => calls.push(call(None, Some(event.at_ns), [0; 6], Some(result))),
                }
            }
        }
    }
    calls
}

/// The name of a call: `recvfrom`.
fn name(number: i64) -> &'static str {
    let number = usize::try_from(number).ok().and_then(Sysno::new);
    number.map_or("unknown", |number| number.name())
}

fn is_birth(name: &str) -> bool {
    matches!(name, "clone" | "clone3" | "fork" | "vfork")
}

/// Whether a call concerns descriptors that may be sockets, waiting, or threads.
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

#[cfg(test)]
mod tests {
    use super::super::gathered::Process;
    use super::*;

    const fn number(call: Sysno) -> i64 {
        call.id() as i64
    }

    fn enter(at_ns: u64, tid: u32, call: Sysno) -> Event {
        Event {
            at_ns,
            tid,
            number: number(call),
            half: Half::Enter([tid.into(), 0, 0, 0, 0, 0]),
        }
    }

    fn exit(at_ns: u64, tid: u32, call: Sysno, result: i64) -> Event {
        Event {
            at_ns,
            tid,
            number: number(call),
            half: Half::Exit(result),
        }
    }

    /// A return whose number the kernel has forgotten.
    fn exit_of_any(at_ns: u64, tid: u32, result: i64) -> Event {
        Event {
            number: -1,
            ..exit(at_ns, tid, Sysno::read, result)
        }
    }

    #[test]
    fn halves_are_paired_by_thread() {
        use Sysno::{
            accept4, clone3, execve, exit_group, futex, ppoll, read, restart_syscall, write,
        };
        for (case, events, expected) in [
            ("none", vec![], vec![]),
            (
                "two threads",
                vec![
                    enter(1, 7, read),
                    enter(2, 8, write),
                    exit(3, 7, read, 5),
                    exit(4, 8, write, -32),
                ],
                vec![
                    ("read", Some(1), Some(3), Some(5)),
                    ("write", Some(2), Some(4), Some(-32)),
                ],
            ),
            (
                "begun before the trace, and not over at its end",
                vec![exit(1, 7, accept4, 4), enter(2, 7, accept4)],
                vec![
                    ("accept4", None, Some(1), Some(4)),
                    ("accept4", Some(2), None, None),
                ],
            ),
            (
                "a thread is born and ends with its process",
                vec![
                    enter(1, 7, clone3),
                    exit(2, 8, clone3, 0),
                    exit(3, 7, clone3, 8),
                    enter(4, 8, futex),
                    enter(5, 7, exit_group),
                ],
                vec![
                    ("clone3", Some(1), Some(3), Some(8)),
                    ("futex", Some(4), None, None),
                    ("exit_group", Some(5), None, None),
                ],
            ),
            (
                "a program begins, with its number forgotten",
                vec![
                    enter(1, 7, execve),
                    exit_of_any(2, 7, 0),
                    exit_of_any(3, 7, 0),
                ],
                vec![("execve", Some(1), Some(2), Some(0))],
            ),
            (
                "one that never returned",
                vec![enter(1, 7, futex), enter(2, 7, read), exit(3, 7, read, 0)],
                vec![
                    ("futex", Some(1), None, None),
                    ("read", Some(2), Some(3), Some(0)),
                ],
            ),
            (
                "the entry was lost",
                vec![enter(1, 7, futex), exit(3, 7, read, 0)],
                vec![
                    ("futex", Some(1), None, None),
                    ("read", None, Some(3), Some(0)),
                ],
            ),
            (
                "begun again after a signal",
                vec![
                    enter(1, 7, ppoll),
                    exit(2, 7, ppoll, -516),
                    enter(3, 7, restart_syscall),
                    exit(4, 7, restart_syscall, 1),
                ],
                vec![
                    ("ppoll", Some(1), Some(2), Some(-516)),
                    ("restart_syscall", Some(3), Some(4), Some(1)),
                ],
            ),
        ] {
            let calls = pair(7, &events, |_| Some(Side::Server));
            let found: Vec<_> = (calls.iter())
                .map(|call| (call.name, call.entered_ns, call.left_ns, call.result))
                .collect();
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn only_those_who_are_watched() {
        use Sysno::{mmap, read};
        let events = |tids: &[u32]| {
            let of = |&tid| {
                [
                    enter(1, tid, read),
                    exit(2, tid, read, 0),
                    enter(3, tid, mmap),
                ]
            };
            tids.iter().flat_map(of).collect()
        };
        let process = |tids: &[u32], lost| Process {
            events: events(tids),
            lost,
        };
        let seen = |all_calls| {
            let gathered = Gathered {
                processes: HashMap::from([
                    (10, process(&[10, 11], 1)),
                    (20, process(&[20, 21], 2)),
                    (30, process(&[30], 4)),
                ]),
                lost: 8,
                ..Gathered::default()
            };
            gathered.seen_by(&Watch {
                client_tids: vec![11],
                server_pids: vec![20],
                all_calls,
                ..Watch::default()
            })
        };
        let traced = seen(false);
        let mut found: Vec<_> = (traced.calls.iter())
            .map(|call| (call.side, call.pid, call.tid, call.name))
            .collect();
        found.sort_unstable();
        let expected = [
            (Side::Client, 10, 11, "read"),
            (Side::Server, 20, 20, "read"),
            (Side::Server, 20, 21, "read"),
        ];
        assert_eq!(found, expected);
        // Lost events of processes that are not watched do not count.
        assert_eq!(traced.lost, 8 + 1 + 2);
        assert_eq!(seen(true).calls.len(), 6);
    }

    fn change(
        at_ns: u64,
        socket: u64,
        (old, new): (i32, i32),
        (local_port, remote_port): (u16, u16),
    ) -> StateChange {
        let address = |port| match port {
            0 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            port => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        };
        StateChange {
            at_ns,
            protocol: libc::IPPROTO_TCP as u16,
            local: address(local_port),
            remote: address(remote_port),
            socket,
            old,
            new,
        }
    }

    const ESTABLISHED: i32 = 1;
    const SYN_SENT: i32 = 2;
    const SYN_RECV: i32 = 3;
    const CLOSE: i32 = 7;
    const LISTEN: i32 = 10;

    #[test]
    fn addresses_come_from_the_next_change() {
        let connect = |at_ns, socket, local| {
            [
                change(at_ns, socket, (CLOSE, SYN_SENT), (0, 80)),
                change(at_ns + 1, socket, (SYN_SENT, ESTABLISHED), (local, 80)),
                change(at_ns + 2, socket, (ESTABLISHED, CLOSE), (local, 80)),
            ]
        };
        let accept = [
            change(20, 5, (LISTEN, SYN_RECV), (80, 0)),
            change(21, 5, (SYN_RECV, ESTABLISHED), (80, 40_001)),
        ];
        let simultaneous = [
            change(30, 6, (CLOSE, SYN_SENT), (0, 80)),
            change(31, 6, (SYN_SENT, SYN_RECV), (40_003, 80)),
            change(32, 6, (SYN_RECV, ESTABLISHED), (40_003, 80)),
        ];
        let unanswered = [change(40, 5, (CLOSE, SYN_SENT), (0, 80))];
        // A later socket at the same address; events from several rings are out of order.
        let all = [
            &accept[..],
            &unanswered,
            &simultaneous,
            &connect(10, 5, 40_002),
            &connect(1, 5, 40_001),
        ];
        let found: Vec<_> = changes(&all.concat(), &[80])
            .iter()
            .map(|change| (change.at_ns, change.local.port(), change.remote.port()))
            .collect();
        let expected = [
            (1, 40_001, 80),
            (2, 40_001, 80),
            (3, 40_001, 80),
            (10, 40_002, 80),
            (11, 40_002, 80),
            (12, 40_002, 80),
            (20, 80, 40_001),
            (21, 80, 40_001),
            (30, 40_003, 80),
            (31, 40_003, 80),
            (32, 40_003, 80),
            (40, 0, 80),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn other_protocols_states_and_ports_are_left_out() {
        let tcp = change(1, 1, (CLOSE, LISTEN), (80, 0));
        let sctp = StateChange {
            protocol: 132,
            ..tcp
        };
        let unknown = change(1, 1, (CLOSE, 99), (80, 0));
        let other = change(1, 1, (CLOSE, LISTEN), (81, 0));
        assert_eq!(
            changes(&[sctp, unknown, other, tcp], &[80]),
            [tcp.of_tcp().unwrap()]
        );
    }
}
