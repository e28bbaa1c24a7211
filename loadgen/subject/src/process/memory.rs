//! What idle connections cost a server in memory: by how much it grows while they become more.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::proc::status_number;
use super::processes::Processes;

/// What idle connections cost in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IdleCost {
    /// Memory of the server that grew with each connection, bytes: the slope between half and all of them,
    /// because the first ones also fill pools and caches. Absent when that is too few, or was not read.
    pub bytes_per_connection: Option<f64>,
    /// The same of what the kernel holds for the server's threads and memory. The sockets are not in it:
    /// they cost every server the same, and the kernel keeps for the next ones what it had for others, so
    /// that they are not seen to grow.
    pub kernel_bytes_per_connection: Option<f64>,
    /// As it was read: with none, half and all of the connections.
    pub memory: Vec<Memory>,
}

/// Memory while so many idle connections were open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Idle connections, each served.
    pub connections: u64,
    /// Anonymous memory that is resident (heap and stacks, not code), bytes: the sum over all processes of
    /// the server. Pages that they share are counted once for each.
    pub bytes: u64,
    /// Page tables of these processes, and the kernel stacks of all threads of the machine, bytes.
    pub kernel_bytes: u64,
}

/// Connections between two readings that make a slope. Memory comes in pages and arenas: with fewer, that
/// is what would be seen.
const CONNECTIONS_MIN: u64 = 100;

/// A server has settled when two readings so far apart agree...
const SETTLE_EVERY: Duration = Duration::from_millis(20);
/// ... or by then.
const SETTLE_WITHIN: Duration = Duration::from_millis(500);

impl IdleCost {
    /// From readings with none, half and all of the connections; of fewer, nothing follows.
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
    /// Of these processes, or of the group that a process leads with all that it has started, once they have
    /// settled with so many idle connections.
    ///
    /// # Errors
    ///
    /// When there is no such process, or the kernel does not tell.
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
            // The resident sizes in `status` would not do: they are kept by CPU and added up in batches.
            match (read("smaps_rollup"), read("status")) {
                (Ok(maps), Ok(status)) => {
                    bytes += kib(&maps, "Anonymous:")?;
                    kernel_bytes += kib(&status, "VmPTE:")?;
                }
                (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(error);
                }
                // It has just ended, and has no memory.
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

/// The bytes behind `key`, which stand there in KiB.
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

    /// What the first half fills up is in no slope.
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

    /// A mebibyte that is written is seen, to the page.
    #[test]
    fn memory_of_a_process_that_grows() {
        use std::io::{Read as _, Write as _};
        use std::os::unix::process::CommandExt as _;
        use std::process::{Command, Stdio};

        // `read` is a builtin, so that only the shell's own variable grows.
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
