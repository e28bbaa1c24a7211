//! System calls that do not involve another thread.

use std::io;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::getppid;

use super::clock::{Stopwatch, us_each};
use super::pair::alone;
use super::{Primitive, Samples};
use subject::machine::Pinning;

const ROUNDS: usize = 40;
const CALLS: usize = 500;

pub(super) fn measure(pinning: &Pinning, samples: &mut Samples) -> io::Result<()> {
    alone(pinning, || {
        let stopwatch = Stopwatch::new()?;
        for _ in 0..ROUNDS {
            let ((), took) = stopwatch.time(|| {
                for _ in 0..CALLS {
                    std::hint::black_box(getppid());
                }
                Ok(())
            })?;
            samples.add(Primitive::BareCall, us_each(took, CALLS));
            let ((), took) = stopwatch.time(|| {
                for _ in 0..CALLS {
                    std::thread::yield_now();
                }
                Ok(())
            })?;
            samples.add(Primitive::Yield, us_each(took, CALLS));
        }
        page_faults(&stopwatch, samples)
    })
}

/// Allocations that come straight from the kernel: larger than the allocator's own pools serve, and
/// smaller than a huge page.
fn page_faults(stopwatch: &Stopwatch, samples: &mut Samples) -> io::Result<()> {
    const BLOCK_BYTES: usize = 256 * 1024;
    const STEP_BYTES: usize = 4096;
    // All allocations are kept to the end: freed ones would be reused with their pages in place.
    let mut blocks = Vec::new();
    for _ in 0..ROUNDS {
        let mut block = vec![0_u8; BLOCK_BYTES];
        let before = faults()?;
        let ((), took) = stopwatch.time(|| {
            for at in (0..BLOCK_BYTES).step_by(STEP_BYTES) {
                block[at] = 1;
            }
            std::hint::black_box(&mut block);
            Ok(())
        })?;
        let count = faults()? - before;
        blocks.push(block);
        if count > 0 {
            samples.add(Primitive::PageFault, us_each(took, count));
        }
    }
    Ok(())
}

/// Page faults of the calling thread.
fn faults() -> io::Result<usize> {
    Ok(getrusage(UsageWho::RUSAGE_THREAD)?.minor_page_faults() as usize)
}
