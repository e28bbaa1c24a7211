//! A process between ours and a command. Its only task is to ensure that no process of the command
//! is left behind.
//!
//! It is forked before the command is executed and is a child subreaper (`prctl(2)`): every process
//! that the command starts stays its descendant, in whatever session or process group, because the
//! kernel gives orphans to their nearest subreaper. So these processes are known as long as any of
//! them runs ([`super::Processes`]). The keeper reaps the processes that become its children, whose
//! CPU time the kernel adds to its own sum, and it ends when none is left.
//!
//! When our end of its pipe is closed, even by SIGKILL, it kills its children until there are no
//! more. Processes that a command asks another program to start, such as a service manager, are out
//! of reach.
//!
//! If another program kills the keeper, the command dies with it, and other processes of the
//! command become children of `init`. Those that were seen before ([`Kept::remember`]) are then
//! killed from here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pipe2, setpgid};

use super::proc::named;
use super::processes::{Processes, with_descendants};
use super::waiting::tell;
use engine::affinity::cpu_set;

/// How long killed processes may take to disappear. Processes that the kernel cannot end because
/// they wait for a device take longer.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How many processes ended by a signal are reported, besides the command itself.
const CRASHED_MAX: u32 = 100;

/// A started command, and everything that it has started since.
#[derive(Debug)]
pub(super) struct Kept {
    /// The keeper process.
    keeper: Mutex<std::process::Child>,
    /// The command itself, which leads a process group.
    leader: Pid,
    /// Nothing is ever written to it; closing it makes the keeper kill all processes.
    control: Option<OwnedFd>,
    heard: Mutex<Heard>,
    /// Processes that were seen, with their start times, since process IDs are reused.
    seen: Mutex<BTreeMap<i32, u64>>,
}

/// What the keeper has reported.
#[derive(Debug)]
struct Heard {
    reports: File,
    leader: Option<ExitStatus>,
    /// The first other process that was ended by a signal.
    crashed: Option<ExitStatus>,
}

/// A report: a process ID, and a status as from `waitpid(2)`. The first report is about the leader
/// and says that it was started.
type Report = [i32; 2];

impl Kept {
    /// Starts `command` with empty stdin and pipes for its output, on these CPUs if given, as the
    /// leader of a process group.
    pub(super) fn start(command: &mut Command, cpus: &[usize]) -> io::Result<Kept> {
        let (control_theirs, control) = pipe2(OFlag::O_CLOEXEC)?;
        let (reports, reports_theirs) = pipe2(OFlag::O_CLOEXEC)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let affinity = (!cpus.is_empty()).then(|| cpu_set(cpus)).transpose()?;
        let ends = (control_theirs.as_raw_fd(), reports_theirs.as_raw_fd());
        let parent = getpid();
        let in_child = move || divide(parent, affinity.as_ref(), ends);
        // A process can be inserted only between fork and exec. SAFETY: the closure and the
        // functions it calls only make system calls, and allocate nothing.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(in_child);
        }
        let mut keeper = command.spawn()?;
        drop((control_theirs, reports_theirs));
        let mut reports = File::from(reports);
        let Ok(Some((leader, _))) = read_report(&mut reports) else {
            // The keeper reports before it gets this far.
            let _ = keeper.kill();
            let _ = keeper.wait();
            return Err(io::Error::other("the process that keeps it has ended"));
        };
        fcntl(&reports, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let kept = Kept {
            keeper: Mutex::new(keeper),
            leader: Pid::from_raw(leader),
            control: Some(control),
            heard: Mutex::new(Heard {
                reports,
                leader: None,
                crashed: None,
            }),
            seen: Mutex::default(),
        };
        kept.remember();
        Ok(kept)
    }

    /// The pipes of the command's output; each can be taken once.
    pub(super) fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        let keeper = self.keeper.get_mut().expect("no holder panics");
        (keeper.stdout.take(), keeper.stderr.take())
    }

    /// The command's process.
    pub(super) fn leader(&self) -> Pid {
        self.leader
    }

    /// The command and everything that it has started.
    pub(super) fn processes(&self) -> Processes {
        Processes::kept_by(self.keeper().id().cast_signed())
    }

    /// How the command itself has ended; `None` while it runs.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.hear().leader
    }

    /// How the first other process that was ended by a signal has ended.
    pub(super) fn crashed(&self) -> Option<ExitStatus> {
        self.hear().crashed
    }

    /// Whether no process is left.
    pub(super) fn is_over(&self) -> bool {
        // An error would mean that another part of this process has reaped it.
        !matches!(self.keeper().try_wait(), Ok(None))
    }

    /// Whether the keeper was killed, so that the end of the command will not be reported.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.keeper().try_wait(), Ok(Some(status)) if !status.success())
    }

    /// Records the current processes.
    pub(super) fn remember(&self) {
        let found = self.processes().found().unwrap_or_default();
        let found = found.into_iter().map(|(pid, stat)| (pid, stat.started));
        self.seen.lock().expect("no holder panics").extend(found);
    }

    /// Requests an orderly end (SIGTERM) from the command, or from the processes it has left if it
    /// has ended.
    pub(super) fn terminate(&mut self) {
        if self.is_over() {
            return;
        }
        match self.status() {
            // The keeper reaps the process before it reports, so its ID may be reused for a moment.
            None if self.processes().contains(self.leader.as_raw()) => {
                let _ = kill(self.leader, Signal::SIGTERM);
            }
            _ => {
                for pid in self.processes().members().unwrap_or_default() {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                }
            }
        }
    }

    /// Kills everything. Returns the processes that still exist after some seconds, as `NUMBER
    /// (COMMAND)`.
    pub(super) fn end(&mut self) -> Vec<String> {
        self.control = None;
        let deadline = Instant::now() + GONE_WITHIN;
        loop {
            let left = match (self.is_over(), self.is_lost()) {
                (false, _) => None,
                (true, false) => return Vec::new(),
                (true, true) => Some(self.kill_seen()),
            };
            if left.as_ref().is_some_and(Vec::is_empty) {
                return Vec::new();
            }
            if Instant::now() >= deadline {
                let left = left.or_else(|| self.processes().members().ok());
                return left.into_iter().flatten().map(named).collect();
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the recorded processes that still run, with everything that they have started. Returns
    /// them.
    fn kill_seen(&self) -> Vec<i32> {
        let seen = self.seen.lock().expect("no holder panics");
        let found =
            with_descendants(|pid, stat| seen.get(&pid).is_some_and(|&it| it == stat.started));
        let mut left = found.unwrap_or_default();
        left.retain(|_, stat| !stat.has_ended());
        for &pid in left.keys() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        left.into_keys().collect()
    }

    fn keeper(&self) -> std::sync::MutexGuard<'_, std::process::Child> {
        self.keeper.lock().expect("no holder panics")
    }

    fn hear(&self) -> std::sync::MutexGuard<'_, Heard> {
        let mut heard = self.heard.lock().expect("no holder panics");
        while let Ok(Some((pid, status))) = read_report(&mut heard.reports) {
            let status = ExitStatus::from_raw(status);
            match pid == self.leader.as_raw() {
                true => heard.leader = Some(status),
                false if heard.crashed.is_none() => heard.crashed = Some(status),
                false => {}
            }
        }
        heard
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.control.is_some() {
            for left in self.end() {
                tell(&format!(
                    "warning: process {left} cannot be killed and is still running"
                ));
            }
        }
    }
}

/// Reads a report; `None` if none is available now, or none will follow.
fn read_report(reports: &mut File) -> io::Result<Option<(i32, i32)>> {
    let mut bytes = [0; size_of::<Report>()];
    match reports.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    }
    let (pid, status) = bytes.split_at(size_of::<i32>());
    let number = |bytes: &[u8]| i32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    Ok(Some((number(pid), number(status))))
}

// The rest runs between fork and exec: it makes only system calls and does not allocate.

/// Forks once more. Returns in the process that is to execute the command, and never in the keeper.
fn divide(parent: Pid, affinity: Option<&CpuSet>, ends: (RawFd, RawFd)) -> io::Result<()> {
    // If the process that started us ignores SIGCHLD, children would disappear without a trace.
    // SAFETY: the default action runs no code of ours.
    #[allow(unsafe_code)]
    unsafe {
        signal(Signal::SIGCHLD, SigHandler::SigDfl)?;
    }
    prctl::set_child_subreaper(true)?;
    let keeper = getpid();
    // SAFETY: there is a single thread here, and both processes only make system calls.
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Parent { child } => keep(parent, child, ends),
        ForkResult::Child => {
            setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have ended earlier.
            if getppid() != keeper {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if let Some(affinity) = affinity {
                sched_setaffinity(Pid::from_raw(0), affinity)?;
            }
            Ok(())
        }
    }
}

/// Reaps all children, including inherited ones, until there are none; kills them when the other
/// end of the pipe is closed.
fn keep(parent: Pid, leader: Pid, (control, reports): (RawFd, RawFd)) -> ! {
    // A signal to all processes of our name must not leave the others without a keeper.
    for ignored in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        // SAFETY: ignoring a signal runs no code of ours.
        #[allow(unsafe_code)]
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    let _ = prctl::set_name(c"loadgen-keeper");
    // The keeper must first watch the other end of the pipe.
    let mut is_to_end = getppid() != parent;
    // SAFETY: the descriptors are ours, nothing else uses them in this process, and only these
    // three are open; the buffers have the stated lengths.
    #[allow(unsafe_code)]
    unsafe {
        libc::dup2(control, 0);
        libc::dup2(reports, 1);
        libc::fcntl(1, libc::F_SETFL, libc::O_NONBLOCK);
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigaddset(&raw mut mask, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut());
        let children = libc::signalfd(-1, &raw const mask, libc::SFD_NONBLOCK);
        libc::dup2(children, 2);
        close_from_3();
        report(leader.as_raw(), 0);
        let mut crashed = 0;
        loop {
            loop {
                let mut status = 0;
                match libc::waitpid(-1, &raw mut status, libc::WNOHANG) {
                    0 => break,
                    -1 if Errno::last() == Errno::ECHILD => libc::_exit(0),
                    -1 => {}
                    pid if pid == leader.as_raw() => report(pid, status),
                    // There are few enough reports that the pipe keeps room for the leader's.
                    pid if libc::WIFSIGNALED(status) && crashed < CRASHED_MAX => {
                        crashed += 1;
                        report(pid, status);
                    }
                    _ => {}
                }
            }
            if is_to_end {
                kill_children(leader);
            }
            let wait = |fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            };
            // The poll returns immediately once the pipe is closed; killed processes are checked
            // again soon.
            let (mut fds, timeout_ms) = match is_to_end {
                true => ([wait(-1), wait(2)], 2),
                false => ([wait(0), wait(2)], -1),
            };
            libc::poll(fds.as_mut_ptr(), 2, timeout_ms);
            is_to_end |= fds[0].revents != 0;
            let mut drained = [0_u8; size_of::<libc::signalfd_siginfo>()];
            while libc::read(2, drained.as_mut_ptr().cast(), drained.len()) > 0 {}
        }
    }
}

/// Closes the pipes of others and of the command's output, which must not be held open here.
#[allow(unsafe_code)]
unsafe fn close_from_3() {
    // SAFETY: nothing in this process uses the closed descriptors. Before Linux 5.9 they are closed
    // one by one.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) == 0 {
            return;
        }
        let last = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 1 << 20);
        for fd in 3..last {
            libc::close(fd as RawFd);
        }
    }
}

#[allow(unsafe_code)]
unsafe fn report(pid: i32, status: i32) {
    let report: Report = [pid, status];
    // SAFETY: the buffer has this many bytes. An error, if there is no reader any more, is ignored.
    unsafe {
        libc::write(1, report.as_ptr().cast(), size_of::<Report>());
    }
}

/// Kills every child. Grandchildren then become children, and are killed by the next call.
#[allow(unsafe_code)]
unsafe fn kill_children(leader: Pid) {
    let mut text = [0_u8; 4096];
    // SAFETY: the path ends in a zero byte, and the buffer has the stated length.
    let read = unsafe {
        let fd = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY);
        let read = libc::read(fd, text.as_mut_ptr().cast(), text.len());
        libc::close(fd);
        read
    };
    if read <= 0 {
        // The kernel lacks the list of children (`CONFIG_PROC_CHILDREN`), so only the group is
        // known. SAFETY: the call concerns no memory, and neither do those below.
        unsafe { libc::kill(-leader.as_raw(), libc::SIGKILL) };
        return;
    }
    let mut pid = 0_i32;
    for &byte in &text[..read.unsigned_abs().min(text.len())] {
        match byte {
            b'0'..=b'9' => pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte - b'0')),
            // A truncated number is not followed by a blank.
            _ => {
                if pid > 1 {
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
                pid = 0;
            }
        }
    }
}
