//! The memory cost of idle connections: how much a server grows as their number increases.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::proc::status_number;
use super::processes::Processes;

/// The memory cost of idle connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IdleCost {
    /// The server's memory per additional connection, in bytes: the slope between half and all of the connections,
    /// because the first half also fills pools and caches. Absent with too few connections, or if it was not read.
    pub bytes_per_connection: Option<f64>,
    /// Kernel memory for the server's threads and page tables per additional connection, in bytes.
    /// Sockets are not included: they cost every server the same, and the kernel reuses memory of
    /// earlier ones, so their growth is not visible.
    pub kernel_bytes_per_connection: Option<f64>,
    /// The readings with none, half and all of the connections.
    pub memory: Vec<Memory>,
}

/// Memory while a number of idle connections is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The number of idle connections, each served once.
    pub connections: u64,
    /// Resident anonymous memory (heap and stacks, not code) in bytes: the sum over all processes
    /// of the server. Shared pages count once for each process.
    pub bytes: u64,
    /// Page tables of these processes, and the kernel stacks of all threads of the machine, in
    /// bytes.
    pub kernel_bytes: u64,
}

/// The minimum number of connections between two readings for a slope. Memory grows by pages and
/// arenas, which would dominate a smaller number.
const CONNECTIONS_MIN: u64 = 100;

/// A server's memory has settled when two readings this far apart agree; see [`SETTLE_WITHIN`].
const SETTLE_EVERY: Duration = Duration::from_millis(20);
/// A server's memory is assumed to have settled after this time.
const SETTLE_WITHIN: Duration = Duration::from_millis(500);

impl IdleCost {
    /// Computes the cost from readings with none, half and all of the connections; with fewer
    /// readings nothing is known.
    pub fn of(memory: Vec<Memory>) -> Self {
        let slope = |of: fn(&Memory) -> u64| match memory[..] {
            [_, before, after]
                if after.connections >= before.connections.saturating_add(CONNECTIONS_MIN) =>
            {
                let grown = of(&after) as f64 - of(&before) as f64;
                Some(grown / (after.connections - before.connections) as f64)
            }
            _ => None,
        };
        IdleCost {
            bytes_per_connection: slope(|memory| memory.bytes),
            kernel_bytes_per_connection: slope(|memory| memory.kernel_bytes),
            memory,
        }
    }
}

impl Memory {
    /// Reads the memory of these processes, or of the group that a process leads with everything
    /// that it has started, once it has settled with this many idle connections.
    ///
    /// # Errors
    ///
    /// If there is no such process, or the kernel does not report its memory.
    pub fn settled(processes: impl Into<Processes>, connections: u64) -> io::Result<Self> {
        let processes = processes.into();
        let end = Instant::now() + SETTLE_WITHIN;
        let mut last = Memory::now(processes, connections)?;
        loop {
            thread::sleep(SETTLE_EVERY);
            let memory = Memory::now(processes, connections)?;
            if memory.bytes == last.bytes || Instant::now() >= end {
                return Ok(memory);
            }
            last = memory;
        }
    }

    fn now(processes: Processes, connections: u64) -> io::Result<Self> {
        let machine = fs::read_to_string("/proc/meminfo")?;
        let (mut bytes, mut kernel_bytes) = (0, kib(&machine, "KernelStack:")?);
        for member in processes.speakers()? {
            let read = |file: &str| fs::read_to_string(format!("/proc/{member}/{file}"));
            // The resident sizes in `status` are unsuitable: the kernel keeps them per CPU and adds
            // them up in batches.
            match (read("smaps_rollup"), read("status")) {
                (Ok(maps), Ok(status)) => {
                    bytes += kib(&maps, "Anonymous:")?;
                    kernel_bytes += kib(&status, "VmPTE:")?;
                }
                (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(error);
                }
                // The process has just ended and has no memory.
                _ => {}
            }
        }
        Ok(Memory {
            connections,
            bytes,
            kernel_bytes,
        })
    }
}

/// The value of `key`, given in KiB, in bytes.
fn kib(text: &str, key: &str) -> io::Result<u64> {
    match status_number(text, key) {
        Some(kib) => Ok(kib << 10),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no {key}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(connections: u64, bytes: u64, kernel_bytes: u64) -> Memory {
        Memory {
            connections,
            bytes,
            kernel_bytes,
        }
    }

    /// The slope leaves out what the first half fills.
    #[test]
    fn the_slope_is_that_of_the_second_half() {
        let cost = IdleCost::of(vec![
            memory(0, 1_000_000, 9_000_000),
            memory(500, 9_000_000, 10_000_000),
            memory(1_000, 11_000_000, 9_750_000),
        ]);
        assert_eq!(cost.bytes_per_connection, Some(4_000.0));
        assert_eq!(cost.kernel_bytes_per_connection, Some(-500.0));
        assert_eq!(cost.memory.len(), 3);
    }

    #[test]
    fn too_few_make_no_slope() {
        for memory in [
            vec![],
            vec![memory(0, 1, 1)],
            vec![memory(0, 1, 1), memory(500, 2, 2)],
            vec![memory(0, 1, 1), memory(99, 2, 2), memory(198, 3, 3)],
        ] {
            assert_eq!(IdleCost::of(memory).bytes_per_connection, None);
        }
    }

    /// A written mebibyte shows up, exact to the page.
    #[test]
    fn memory_of_a_process_that_grows() {
        use std::io::{Read as _, Write as _};
        use std::os::unix::process::CommandExt as _;
        use std::process::{Command, Stdio};

        // `read` is a builtin, so only the shell's own variable grows.
        let script = "echo ready; read x; y=$(printf '%01048576d' 0); echo ready; read x";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let mut stdout = child.stdout.take().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdout.read_exact(&mut ready).unwrap();
        let before = Memory::settled(child.id(), 0).unwrap();
        stdin.write_all(b"\n").unwrap();
        stdout.read_exact(&mut ready).unwrap();
        let after = Memory::settled(child.id(), 1).unwrap();
        stdin.write_all(b"\n").unwrap();
        child.wait().unwrap();
        assert!(before.bytes > 0 && before.kernel_bytes > 0, "{before:?}");
        assert!(
            after.bytes >= before.bytes + (1 << 20),
            "{before:?} {after:?}"
        );
        assert!(
            after.bytes <= before.bytes + (16 << 20),
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn nobody() {
        assert!(Memory::settled(0x3fff_fff0, 0).is_err());
    }
}
