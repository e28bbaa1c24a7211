//! A process between ours and a command: it has nothing to do but to see that nothing of the command is
//! left behind.
//!
//! It is forked before the command is executed, and is a child subreaper (`prctl(2)`): every process that
//! the command starts stays its descendant, whatever session or process group it makes its own, because
//! the kernel gives orphans to their nearest subreaper. So these processes are known as long as any of them
//! runs ([`super::Processes`]). It waits for those that become its children, whose CPU time the kernel adds
//! to its own sum, and it ends when none is left.
//!
//! When our end of its pipe is closed, be it by SIGKILL, it kills its children until there are no more. What
//! a command asks somebody else to start, such as a service manager, is not in its reach.
//!
//! When it is itself killed by somebody else, the command dies with it, and others that the command has started
//! become children of `init`. Those that were seen before ([`Kept::remember`]) are killed from here then.

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

/// How long killed processes may take to be gone. Those that the kernel does not let go, as they wait for a
/// device, take longer.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How many processes that were ended by a signal are reported, beside the command itself.
const CRASHED_MAX: u32 = 100;

/// A command that was started, and all that it has started since.
#[derive(Debug)]
pub(super) struct Kept {
    /// The process in between.
    keeper: Mutex<std::process::Child>,
    /// The command itself, which leads a process group.
    leader: Pid,
    /// Nothing is ever written to it; that it is closed says that all are to be killed.
    control: Option<OwnedFd>,
    heard: Mutex<Heard>,
    /// Processes that were seen, with their start times: a number may be used again.
    seen: Mutex<BTreeMap<i32, u64>>,
}

/// What the keeper has reported.
#[derive(Debug)]
struct Heard {
    reports: File,
    leader: Option<ExitStatus>,
    /// Other processes that were ended by a signal, the first of them.
    crashed: Option<ExitStatus>,
}

/// A report: the number of a process, and its status as `waitpid(2)` has it. The first is about the leader
/// and says that it was started.
type Report = [i32; 2];

impl Kept {
    /// Starts `command` with nothing on stdin and pipes for its output, on these CPUs if there are any, as
    /// the leader of a process group.
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
        // Only between fork and exec can a process be put between.
        // SAFETY: the closure, and what it calls, makes system calls only, and allocates nothing.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(in_child);
        }
        let mut keeper = command.spawn()?;
        drop((control_theirs, reports_theirs));
        let mut reports = File::from(reports);
        let Ok(Some((leader, _))) = read_report(&mut reports) else {
            // It cannot have come so far without a word.
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

    /// The pipes of its output; each can be taken once.
    pub(super) fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        let keeper = self.keeper.get_mut().expect("no holder panics");
        (keeper.stdout.take(), keeper.stderr.take())
    }

    /// The command itself.
    pub(super) fn leader(&self) -> Pid {
        self.leader
    }

    /// The command and all that it has started.
    pub(super) fn processes(&self) -> Processes {
        Processes::kept_by(self.keeper().id().cast_signed())
    }

    /// How the command itself has ended; nothing while it runs.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.hear().leader
    }

    /// How the first of the other processes that were ended by a signal was ended.
    pub(super) fn crashed(&self) -> Option<ExitStatus> {
        self.hear().crashed
    }

    /// Whether nothing of it is left.
    pub(super) fn is_over(&self) -> bool {
        // An error would be that somebody else has waited for it.
        !matches!(self.keeper().try_wait(), Ok(None))
    }

    /// Whether the process in between was killed, so that nobody will tell how the command has ended.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.keeper().try_wait(), Ok(Some(status)) if !status.success())
    }

    /// Takes note of the processes that there are now.
    pub(super) fn remember(&self) {
        let found = self.processes().found().unwrap_or_default();
        let found = found.into_iter().map(|(pid, stat)| (pid, stat.started));
        self.seen.lock().expect("no holder panics").extend(found);
    }

    /// Asks for an orderly end (SIGTERM): the command itself, or what it has left when it has ended.
    pub(super) fn terminate(&mut self) {
        if self.is_over() {
            return;
        }
        match self.status() {
            // The keeper waits for it before it tells, so its number may be somebody else's for a moment.
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

    /// Kills all of it. Returns those that are still there after some seconds, as `NUMBER (COMMAND)`.
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

    /// Kills those that were seen and run, with all that they have started. Returns them.
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
                    "warning: process {left} cannot be killed, and still runs"
                ));
            }
        }
    }
}

/// Nothing when there is none now, or there will be none.
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

// What follows runs between fork and exec: system calls only, and nothing that allocates.

/// Forks once more: returns in the process that is to execute the command, and never in the one that keeps
/// it.
fn divide(parent: Pid, affinity: Option<&CpuSet>, ends: (RawFd, RawFd)) -> io::Result<()> {
    // Where whoever started us ignores it, children would end without a trace.
    // SAFETY: the default action is no code of ours.
    #[allow(unsafe_code)]
    unsafe {
        signal(Signal::SIGCHLD, SigHandler::SigDfl)?;
    }
    prctl::set_child_subreaper(true)?;
    let keeper = getpid();
    // SAFETY: there is one thread here, and both processes make system calls only.
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Parent { child } => keep(parent, child, ends),
        ForkResult::Child => {
            setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // It may have ended before that.
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

/// Waits for all children, for those that it inherits too, until there are no more; kills them when the pipe
/// is closed at the other end.
fn keep(parent: Pid, leader: Pid, (control, reports): (RawFd, RawFd)) -> ! {
    // What is sent to all processes of our name must not leave the others alone.
    for ignored in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        // SAFETY: to ignore is no code of ours.
        #[allow(unsafe_code)]
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    let _ = prctl::set_name(c"loadgen-keeper");
    // Until the other end of the pipe is known to be watched.
    let mut is_to_end = getppid() != parent;
    // SAFETY: the descriptors are ours, nothing else uses them in this process, and all that is left open
    // are these three; the buffers are as long as is said.
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
                    // Few enough that the pipe keeps room for the leader's.
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
            // Once the pipe is closed it would not wait any more; killed ones are looked after soon.
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

/// Pipes of others, and those of the command's output, must not be held open here.
#[allow(unsafe_code)]
unsafe fn close_from_3() {
    // SAFETY: nothing in this process uses what is closed. Before Linux 5.9 they are closed one by one.
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
    // SAFETY: so many bytes are there. That nobody reads them any more changes nothing.
    unsafe {
        libc::write(1, report.as_ptr().cast(), size_of::<Report>());
    }
}

/// Kills every child. Their children become ours, and have their turn when this is called again.
#[allow(unsafe_code)]
unsafe fn kill_children(leader: Pid) {
    let mut text = [0_u8; 4096];
    // SAFETY: the path ends in a zero, and the buffer is as long as is said.
    let read = unsafe {
        let fd = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY);
        let read = libc::read(fd, text.as_mut_ptr().cast(), text.len());
        libc::close(fd);
        read
    };
    if read <= 0 {
        // A kernel without that list (`CONFIG_PROC_CHILDREN`): the group is what is known.
        // SAFETY: no memory is concerned; so below.
        unsafe { libc::kill(-leader.as_raw(), libc::SIGKILL) };
        return;
    }
    let mut pid = 0_i32;
    for &byte in &text[..read.unsigned_abs().min(text.len())] {
        match byte {
            b'0'..=b'9' => pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte - b'0')),
            // A number that was cut off has no blank behind it.
            _ => {
                if pid > 1 {
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
                pid = 0;
            }
        }
    }
}
