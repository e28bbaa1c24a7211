//! The processes that a server consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use super::proc::Stat;

/// The processes whose work counts as a server's, determined anew on each call: a process group and
/// everything that it has started, in whatever session or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processes(Root);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    /// The group that this process leads, and all descendants of its members.
    Group(i32),
    /// All descendants of this process, which inherits orphans and does no work itself.
    Keeper(i32),
}

impl From<u32> for Processes {
    /// The group that this process leads, and all descendants of its members.
    fn from(leader: u32) -> Self {
        Processes(Root::Group(leader.cast_signed()))
    }
}

impl Processes {
    pub(super) fn kept_by(keeper: i32) -> Self {
        Processes(Root::Keeper(keeper))
    }

    /// The process that waits for orphans, so that their CPU time is included in that of its
    /// children.
    pub(super) fn keeper(self) -> Option<i32> {
        match self.0 {
            Root::Group(_) => None,
            Root::Keeper(keeper) => Some(keeper),
        }
    }

    /// The running processes.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn members(self) -> io::Result<Vec<i32>> {
        Ok(self.running()?.into_keys().collect())
    }

    /// The running processes, by the IDs under which `/proc` shows their files and memory
    /// ([`Stat::speaker`]).
    ///
    /// # Errors
    ///
    /// If there are none.
    pub(super) fn speakers(self) -> io::Result<Vec<i32>> {
        let running = self.running()?.into_iter();
        Ok(running.map(|(pid, stat)| stat.speaker(pid)).collect())
    }

    fn running(self) -> io::Result<BTreeMap<i32, Stat>> {
        let mut found = self.found()?;
        found.retain(|_, stat| !stat.has_ended());
        match found.is_empty() {
            true => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no process of the server is left",
            )),
            false => Ok(found),
        }
    }

    /// Whether a process is one of the running ones.
    pub(super) fn contains(self, pid: i32) -> bool {
        self.members().is_ok_and(|members| members.contains(&pid))
    }

    /// All processes, including those that have ended but were not reaped.
    pub(super) fn found(self) -> io::Result<BTreeMap<i32, Stat>> {
        with_descendants(|_, stat| match self.0 {
            Root::Group(group) => stat.group == group,
            Root::Keeper(keeper) => stat.parent == keeper,
        })
    }
}

/// The processes that satisfy a condition, and all their descendants.
pub(super) fn with_descendants(
    is_root: impl Fn(i32, &Stat) -> bool,
) -> io::Result<BTreeMap<i32, Stat>> {
    let mut all: BTreeMap<i32, Stat> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| Some((pid, Stat::read(&format!("/proc/{pid}/stat"))?)))
        .collect();
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (&pid, stat) in &all {
        children.entry(stat.parent).or_default().push(pid);
    }
    let roots = all.iter().filter(|&(&pid, stat)| is_root(pid, stat));
    let mut to_visit: Vec<i32> = roots.map(|(&pid, _)| pid).collect();
    let mut found = BTreeSet::new();
    while let Some(pid) = to_visit.pop() {
        if found.insert(pid) {
            to_visit.extend(children.get(&pid).into_iter().flatten());
        }
    }
    all.retain(|pid, _| found.contains(pid));
    Ok(all)
}
