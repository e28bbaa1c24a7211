//! The lock that gives a set a single writer.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Error;

/// The right to write a set, for as long as it is held. The kernel releases it when its holder
/// ends, in any way. Reading needs no lock.
///
/// It is a lock on the folder (flock(2)). If the file system has none, like some network file
/// systems, nothing is locked and other writers are not prevented.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] Option<Flock<File>>);

impl Lock {
    /// Locks the set in this folder.
    ///
    /// # Errors
    ///
    /// If another process holds the lock.
    pub fn take(folder: &Path) -> Result<Self, Error> {
        let file = File::open(folder).map_err(super::io_error("opening", folder))?;
        let inode = file.metadata().map(|metadata| metadata.ino()).ok();
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(Some(lock))),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Busy {
                path: folder.to_owned(),
                holder: inode.and_then(holder),
            }),
            Err(_) => Ok(Lock(None)),
        }
    }
}

/// The process that has locked the file with this inode.
fn holder(inode: u64) -> Option<u32> {
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// Searches the text of `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, number) = words.get(5)?.rsplit_once(':')?;
        let is_it = words.get(1) == Some(&"FLOCK") && number.parse() == Ok(inode);
        // A process outside this PID namespace has no ID here.
        is_it.then(|| words[4].parse().ok().filter(|&pid| pid > 0))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        let own = format!("is being written by process {}", std::process::id());
        assert!(error.contains(&own), "{error}");
        drop(lock);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn holders() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE -1 08:01:132 0 EOF\n";
        assert_eq!(holder_in(locks, 131), Some(1234));
        assert_eq!(holder_in(locks, 132), None);
        assert_eq!(holder_in(locks, 133), None);
    }
}
