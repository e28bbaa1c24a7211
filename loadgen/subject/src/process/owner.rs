//! Which processes answer at an address: the holders of its sockets, from the kernel's lists.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use super::proc::named;
use super::processes::Processes;
use crate::sockets;
use crate::sockets::Socket;

/// The holder of the sockets at an address: the listeners, and the connections that were accepted
/// there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The processes of the server, as far as can be seen.
    Server,
    /// Other processes, as `NUMBER (COMMAND), ...`.
    Others(String),
    /// No holder can be seen; the reason in words that follow "because".
    Unknown(&'static str),
}

/// The pause before other holders are looked up again: a list read while processes come and go may
/// miss one.
const AGAIN_AFTER: Duration = Duration::from_millis(5);
/// How many times other holders are looked up again.
const AGAIN_MAX: u32 = 10;

/// The holder of the sockets at `address`, where these processes are expected.
pub(super) fn owner(address: SocketAddr, processes: Processes) -> Owner {
    let mut found = owner_now(address, processes);
    for _ in 0..AGAIN_MAX {
        if !matches!(found, Owner::Others(_)) {
            break;
        }
        thread::sleep(AGAIN_AFTER);
        found = owner_now(address, processes);
    }
    found
}

fn owner_now(address: SocketAddr, processes: Processes) -> Owner {
    let Ok(all) = sockets::serving(address.port()) else {
        return Owner::Unknown("the kernel does not list sockets");
    };
    let mut serving: Vec<Socket> = of_address(address, all);
    if serving.is_empty() {
        return Owner::Unknown("no socket of this machine listens there");
    }
    sockets::holders(Some(&speakers(processes)), &mut serving);
    let is_all_held = serving.iter().all(|socket| !socket.holders.is_empty());
    let own = pids(processes);
    // Another process may serve the server's sockets too, if it was handed a listener or a
    // connection. Our own process is skipped once every socket has a holder: it hands out nothing,
    // and has as many files as there are connections.
    let this = std::process::id();
    let elsewhere: Vec<u32> = everybody()
        .filter(|pid| !own.contains(pid) && (*pid != this || !is_all_held))
        .collect();
    sockets::holders(Some(&elsewhere), &mut serving);
    // Some processes may have begun or ended since they were looked up. After another lookup,
    // running processes that do not belong to the server are others.
    let own = pids(processes);
    let holders = serving.iter().flat_map(|socket| &socket.holders);
    let others: BTreeSet<u32> = (holders.map(|holder| holder.pid))
        .filter(|pid| !own.contains(pid) && is_there(*pid))
        .collect();
    if !others.is_empty() {
        let names = others.into_iter().map(|pid| named(pid.cast_signed()));
        return Owner::Others(names.collect::<Vec<_>>().join(", "));
    }
    // The holder ended a moment ago, or is hidden; the visible holders still decide.
    serving.retain(|socket| socket.holders.is_empty());
    match !serving.is_empty() && serving.iter().all(is_still_there) {
        true => {
            Owner::Unknown("its sockets are held by processes that this user may not look into")
        }
        false => Owner::Server,
    }
}

/// Whether one of these processes listens at `address`.
pub(super) fn is_listening(address: SocketAddr, processes: Processes) -> bool {
    let all = sockets::serving(address.port()).unwrap_or_default();
    let mut listeners = of_address(address, all);
    listeners.retain(|socket| socket.remote.is_none());
    sockets::holders(Some(&speakers(processes)), &mut listeners);
    listeners.iter().any(|socket| !socket.holders.is_empty())
}

/// The listeners that receive connections to `address`, and the accepted connections. Connections
/// in an accept queue have no file yet, and no holder.
fn of_address(address: SocketAddr, sockets: Vec<Socket>) -> Vec<Socket> {
    let is_exact = |socket: &Socket| socket.local.ip() == address.ip();
    // The kernel prefers a listener at the exact address.
    let has_exact = sockets.iter().any(|it| it.remote.is_none() && is_exact(it));
    let reaches = |local: IpAddr| local.is_unspecified() && (local.is_ipv6() || address.is_ipv4());
    let is_wanted = |socket: &Socket| match socket.remote {
        None if has_exact => is_exact(socket),
        None => reaches(socket.local.ip()),
        Some(_) => is_exact(socket),
    };
    let mut wanted = sockets;
    wanted.retain(|socket| socket.inode != 0 && is_wanted(socket));
    wanted
}

/// The IDs of the processes, including unreaped ones, and the threads that represent processes
/// among [`speakers`].
fn pids(processes: Processes) -> BTreeSet<u32> {
    let found = processes.found().unwrap_or_default();
    let with_threads = found
        .into_iter()
        .flat_map(|(pid, stat)| [pid, stat.speaker(pid)]);
    with_threads.map(i32::cast_unsigned).collect()
}

/// The IDs under which the files of running processes are listed.
fn speakers(processes: Processes) -> Vec<u32> {
    let speakers = processes.speakers().unwrap_or_default();
    speakers.into_iter().map(i32::cast_unsigned).collect()
}

/// All processes of the machine.
fn everybody() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn is_still_there(socket: &Socket) -> bool {
    let now = sockets::serving(socket.local.port()).unwrap_or_default();
    now.iter().any(|it| it.inode == socket.inode)
}
