//! One thread per connection. It is as simple as the iterative server, and no connection waits for another,
//! because the kernel's scheduler switches between them. Memory, thread creation and context switches grow
//! with the number of connections.

#![forbid(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use host::Host;
use host::blocking::{converse, incoming};

/// The stack of a thread. A conversation uses about ten kilobytes; the default is 2 MiB. Unused stack is only
/// address space, but 2 MiB for each of thousands of threads may be refused.
const STACK_BYTES: usize = 128 * 1024;

/// Serves until the host is stopped and all connections are closed.
///
/// # Errors
///
/// None: an error on a connection ends only that connection.
pub fn serve(listener: TcpListener, host: &Arc<Host>) -> io::Result<()> {
    thread::scope(|scope| {
        for stream in incoming(listener, host) {
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            // If the thread is refused (EAGAIN), the closure is dropped and the stream with it: this peer
            // is shed, and the others go on.
            if thread.spawn_scoped(scope, || converse(stream)).is_err() {
                host.counters.out_of_threads();
            }
        }
    });
    Ok(())
}
