//! The clock of live traces.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in ns, the clock that the kernel's tracepoints are set to. Reading it needs no
/// system call (`vdso(7)`).
///
/// # Panics
///
/// Never on Linux, which has this clock.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
}
