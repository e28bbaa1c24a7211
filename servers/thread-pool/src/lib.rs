//! A fixed pool of threads (rayon): a connection waits in a queue for a worker, instead of getting a new
//! thread. No thread is created while serving, and memory is bounded.
//!
//! A worker holds its connection until that is closed. As many keep-alive connections as there are workers
//! therefore starve all others, which wait in the pool's queue. Rayon's pools are made for computation, with
//! one worker per core; a connection that waits for its peer blocks a worker all the same. `--idle-timeout`
//! ends that for peers that fall silent; nothing ends it for peers that keep sending requests. `--threads`
//! sets how many connections it takes.

#![forbid(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use host::Host;
use host::blocking::{converse, incoming};
use rayon::ThreadPoolBuilder;

/// Serves until the host is stopped and all connections are closed.
///
/// # Errors
///
/// When the pool's threads cannot be created.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(host.settings.threads.get())
        .build()
        .map_err(io::Error::other)?;
    // This thread accepts, and the pool holds the conversations.
    pool.in_place_scope(|scope| {
        for stream in incoming(listener, host) {
            scope.spawn(|_| converse(stream));
        }
    });
    Ok(())
}
