//! A fixed pool of threads (rayon): connections queue for a worker instead of getting a thread made
//! for them. No thread is created while serving, and memory is bounded.
//!
//! A worker holds its connection until that is over, so as many keep-alive connections as there are
//! workers starve all others, who wait in the pool's queue: rayon's pools are made for computing, one
//! worker a core, and a connection that waits for its peer blocks a worker all the same. It is bounded
//! by `--idle-timeout` for peers that fall silent, by nothing for peers that keep asking; `--threads`
//! moves the point where it begins.

#![forbid(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use host::Host;
use host::blocking::{converse, incoming};
use rayon::ThreadPoolBuilder;

/// Serves until the host is stopped and every connection accepted by then is over.
///
/// # Errors
///
/// When the pool's threads cannot be created.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(host.settings.threads.get())
        .build()
        .map_err(io::Error::other)?;
    // This thread accepts; the pool converses.
    pool.in_place_scope(|scope| {
        for stream in incoming(listener, host) {
            scope.spawn(|_| converse(stream));
        }
    });
    Ok(())
}
