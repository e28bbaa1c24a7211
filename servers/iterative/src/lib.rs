//! One connection after another, on one thread. This is the simplest server: it has no hand-off, no switching
//! and no state except the stack. While it serves one peer, all others wait in the accept queue.
//!
//! A peer that keeps its connection open starves the others. `--idle-timeout` ends that if the peer falls
//! silent; nothing ends it if the peer keeps sending requests. This belongs to the architecture, and the
//! numbers show it. With one request per connection the server is hard to beat on one core.

#![forbid(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use host::Host;
use host::blocking::{converse, incoming};

/// Serves until the host is stopped and all connections are closed.
///
/// # Errors
///
/// None: an error on a connection ends only that connection.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    for stream in incoming(listener, host) {
        converse(stream);
    }
    Ok(())
}
