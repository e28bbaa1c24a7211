//! One connection after another, on one thread. The simplest server there is: no hand-off, no
//! switching, no state beside the stack; and nobody else is heard while one peer is served.
//!
//! A peer that keeps its connection open starves all others, who wait in the accept queue. It is
//! bounded by `--idle-timeout` if the peer falls silent, and by nothing if it keeps asking: that is
//! the architecture, and the numbers show it. With one request per connection it is hard to beat on
//! one core.

#![forbid(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use host::Host;
use host::blocking::{converse, incoming};

/// Serves until the host is stopped and every connection accepted by then is over.
///
/// # Errors
///
/// None: what goes wrong with a connection ends that connection.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    for stream in incoming(listener, host) {
        converse(stream);
    }
    Ok(())
}
