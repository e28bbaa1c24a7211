//! One thread per connection. As simple as the iterative server, and nobody waits for anybody: the
//! kernel's scheduler does the switching. Memory, thread creation and context switches grow with the
//! number of connections.

#![forbid(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use host::Host;
use host::blocking::{converse, incoming};

/// A conversation takes some ten kilobytes of stack, the default is 2 MiB. Either is only address space
/// until it is touched, but so much of it for each of thousands of threads may be refused.
const STACK_BYTES: usize = 128 * 1024;

/// Serves until the host is stopped and every connection accepted by then is over.
///
/// # Errors
///
/// None: what goes wrong with a connection ends that connection.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    thread::scope(|scope| {
        for stream in incoming(listener, host) {
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            // Refused a thread (EAGAIN), the stream is dropped with the closure that holds it: one
            // peer is shed, the others go on.
            if thread.spawn_scoped(scope, || converse(stream)).is_err() {
                host.counters.out_of_threads();
            }
        }
    });
    Ok(())
}
