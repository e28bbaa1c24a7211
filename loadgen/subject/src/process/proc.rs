//! What `/proc` tells of a process.

use std::fs;

use engine::foreign;

/// The needed fields of `/proc/PID/stat`, proc_pid_stat(5). Times are in ticks.
#[derive(Debug, PartialEq)]
pub(super) struct Stat {
    /// The state: `R`, `S`, `Z`, ...
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) faults_minor: u64,
    pub(super) children_faults_minor: u64,
    pub(super) faults_major: u64,
    pub(super) children_faults_major: u64,
    pub(super) user: u64,
    pub(super) system: u64,
    pub(super) children_user: u64,
    pub(super) children_system: u64,
    /// Threads that have not ended; the main thread always counts.
    pub(super) threads: u64,
    pub(super) started: u64,
}

impl Stat {
    pub(super) fn read(path: &str) -> Option<Self> {
        Stat::parse(&fs::read_to_string(path).ok()?)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        // The program's name, in parentheses, may contain anything, so fields are counted after it.
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // proc_pid_stat(5) counts from 1 and the state behind the name is field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            parent: fields.get(4 - 3)?.parse().ok()?,
            group: fields.get(5 - 3)?.parse().ok()?,
            faults_minor: field(10)?,
            children_faults_minor: field(11)?,
            faults_major: field(12)?,
            children_faults_major: field(13)?,
            user: field(14)?,
            system: field(15)?,
            children_user: field(16)?,
            children_system: field(17)?,
            threads: field(20)?,
            started: field(22)?,
        })
    }

    /// Whether the process has ended but was not reaped. A process whose main thread has ended runs
    /// on as long as another thread does.
    pub(super) fn has_ended(&self) -> bool {
        self.has_main_ended() && self.threads <= 1
    }

    fn has_main_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// The ID under which `/proc` shows the files and memory of process `pid`. Once the main thread
    /// has ended, it shows neither; another thread's ID is used then.
    pub(super) fn speaker(&self, pid: i32) -> i32 {
        if !self.has_main_ended() || self.has_ended() {
            return pid;
        }
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        let tasks = tasks.into_iter().flatten().flatten();
        let mut ids = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
        ids.find(|&id| id != pid).unwrap_or(pid)
    }
}

/// The number after `key` in `/proc/PID/status` and similar files.
pub(super) fn status_number(status: &str, key: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// A process as shown to the user: `NUMBER (COMMAND)`.
pub(super) fn named(pid: i32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = foreign::quoted(foreign::text(&name).trim_end());
    format!("{pid} ({name})")
}
