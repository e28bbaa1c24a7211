//! Looks up which processes hold a socket.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;

use crate::sockets::{Holder, Socket};

/// Adds the holders of these sockets: among the given processes, or all that we may inspect.
/// Processes that may not be inspected, or end meanwhile, are left out.
pub fn holders(pids: Option<&[u32]>, sockets: &mut [Socket]) {
    let mut by_inode: HashMap<u32, Vec<&mut Socket>> = HashMap::new();
    for socket in sockets.iter_mut().filter(|socket| socket.inode != 0) {
        by_inode.entry(socket.inode).or_default().push(socket);
    }
    if by_inode.is_empty() {
        return;
    }
    let all;
    let pids = match pids {
        Some(pids) => pids,
        None => {
            all = numbers("/proc");
            &all
        }
    };
    for &pid in pids {
        let mut command = None;
        for fd in numbers(&format!("/proc/{pid}/fd")) {
            let inode = inode(pid, fd);
            let held = inode.and_then(|inode| by_inode.get_mut(&inode));
            for socket in held.into_iter().flatten() {
                let command = command.get_or_insert_with(|| name(pid));
                socket.holders.push(Holder {
                    command: command.clone(),
                    pid,
                    fd,
                });
            }
        }
    }
}

/// File names that are numbers, in order; empty if the folder may not be read.
fn numbers<T: std::str::FromStr + Ord>(folder: &str) -> Vec<T> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &OsStr| name.to_str()?.parse().ok();
    let mut numbers: Vec<T> = entries
        .filter_map(|entry| number(&entry.file_name()))
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The inode of a socket: its file is a link to `socket:[12345]`.
fn inode(pid: u32, fd: i32) -> Option<u32> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}
