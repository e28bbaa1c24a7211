//! The user's requests by signal, which every wait observes.
//!
//! SIGINT, SIGTERM and SIGHUP request an orderly end. A second SIGINT or SIGTERM ends the process
//! at once; a second SIGHUP does not, because a terminal that disappears sends more than one. A
//! SIGHUP that is ignored when the process starts (`nohup`) stays ignored. If there is nothing to
//! end in an orderly way ([`act_at_once`]), the first signal ends the process.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Whether even the first signal ends the process at once.
static AT_ONCE: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// While this exists, a signal ends the process.
pub struct AtOnce(bool);

/// Lets signals end the process while the returned value exists.
#[must_use]
pub fn act_at_once() -> AtOnce {
    AtOnce(AT_ONCE.swap(true, Relaxed))
}

impl Drop for AtOnce {
    fn drop(&mut self) {
        AT_ONCE.store(self.0, Relaxed);
    }
}

/// Starts to handle signals. The first one sets the flag.
///
/// # Errors
///
/// If the operating system refuses.
pub fn watch() -> io::Result<Arc<AtomicBool>> {
    if let Some(interrupted) = INTERRUPTED.get() {
        return Ok(Arc::clone(interrupted));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
        flag::register_conditional_default(signal, Arc::clone(&AT_ONCE))?;
        flag::register(signal, Arc::clone(&interrupted))?;
    }
    if !is_ignored(SIGHUP) {
        flag::register_conditional_default(SIGHUP, Arc::clone(&AT_ONCE))?;
        flag::register(SIGHUP, Arc::clone(&interrupted))?;
    }
    Ok(Arc::clone(INTERRUPTED.get_or_init(|| interrupted)))
}

/// Makes children wait to be reaped, even if the process that started us ignores SIGCHLD, which is
/// inherited: the kernel would then drop their exit status.
pub fn expect_children() {
    // SAFETY: the default action runs no code of ours.
    #[allow(unsafe_code)]
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Whether the user has requested the end; always false before [`watch`].
pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|it| it.load(Relaxed))
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: without a new action the call only writes the current one, for which there is room;
    // all zeros are a valid value of that C structure.
    #[allow(unsafe_code)]
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
