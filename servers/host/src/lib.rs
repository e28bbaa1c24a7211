//! What all servers share besides their architecture: arguments, doors (listening sockets and the rules for
//! accepting), limits, the stop signal and counters; and, for the blocking architectures, the conversation over
//! one stream.
//!
//! A server's `main` hands its `serve` to [`run`]. Tests and benches make a [`Host`] themselves and
//! call `serve` in their own process:
//!
//! ```
//! # use std::sync::Arc;
//! # fn serve(listener: std::net::TcpListener, host: &Arc<host::Host>) -> std::io::Result<()> {
//! #     for stream in host::blocking::incoming(listener, host) {
//! #         host::blocking::converse(stream);
//! #     }
//! #     Ok(())
//! # }
//! let host = Arc::new(host::Host::new(host::Settings::default()));
//! let listener = host::listen("127.0.0.1:0".parse().unwrap(), &host.settings)?;
//! std::thread::scope(|scope| {
//!     let server = scope.spawn(|| serve(listener, &host));
//!     // ... send it requests, then:
//!     host.stop();
//!     server.join().unwrap()
//! })?;
//! # std::io::Result::Ok(())
//! ```

#![forbid(unsafe_code)]

mod arguments;
pub mod blocking;
mod counters;
mod deadlines;
mod door;
mod listen;
mod room;
mod stop;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use http1::{Connection, Next, Now, Scratch};

pub use arguments::{Architecture, Settings, Threads};
pub use counters::Counters;
pub use deadlines::Deadlines;
pub use door::{Accept, Door, Guest};
pub use listen::listen;

/// What the `serve` of every server is given besides its listener.
#[derive(Debug)]
pub struct Host {
    /// From the command line.
    pub settings: Settings,
    /// What has happened so far.
    pub counters: Counters,
    stop: stop::Stop,
    room: room::Room,
    open: blocking::Open,
}

impl Host {
    /// A host that runs until [`stop`](Self::stop) is called.
    pub fn new(settings: Settings) -> Self {
        Host {
            settings,
            counters: Counters::default(),
            stop: stop::Stop::default(),
            room: room::Room::default(),
            open: blocking::Open::default(),
        }
    }

    /// Buffers for one thread, with the limits and counters of this host.
    pub fn scratch(&self) -> Scratch {
        Scratch::new(self.settings.limits, Arc::clone(&self.counters.tally))
    }

    /// Asks the server to stop. It accepts the connections that wait in the accept queue, and no others. On each
    /// connection it answers what has arrived; if nothing has, it waits up to
    /// [`drain_time`](Self::drain_time) for one more request.
    pub fn stop(&self) {
        self.stop.stop(self.drain_time());
        self.room.wake_waiters();
    }

    /// Whether [`stop`](Self::stop) was called. Open connections go on until [`drain_until`](Self::drain_until)
    /// returns a time.
    pub fn stopping(&self) -> bool {
        self.stop.stopping()
    }

    /// Opens a further listening socket on the address of `listener`; the kernel spreads connections over
    /// both. This needs [`Architecture::with_reuse_port`], or [`Settings::reuse_port`] where there is no `main`.
    ///
    /// # Errors
    ///
    /// Those of [`listen`], and `InvalidInput` without `reuse_port`.
    pub fn listen_again(&self, listener: &TcpListener) -> io::Result<TcpListener> {
        if !self.settings.reuse_port {
            let message = "a further listener needs SO_REUSEPORT on the first: set reuse_port";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        listen(listener.local_addr()?, &self.settings)
    }

    /// The time until which a stopping server waits for further requests; `None` while the server is not stopping.
    #[inline]
    pub fn drain_until(&self) -> Option<Instant> {
        self.stop.drain_until()
    }

    /// How long a stopping server waits for one more request on an open connection. If it closed the connection at
    /// once, a request that is on its way would be lost.
    pub fn drain_time(&self) -> Duration {
        (self.settings.grace / 2).min(Duration::from_secs(1))
    }

    /// Wakes the threads that have been blocked in `recv` since before the stop. Called when the drain time is
    /// over.
    pub fn stop_waiting(&self) {
        self.open.wake_idle();
    }

    /// Tells a connection that the server is stopping, if it is.
    #[inline]
    pub fn tell_stop(&self, connection: &mut Connection, scratch: &Scratch, now: Now) {
        if let Some(until) = self.drain_until() {
            connection.drain(scratch, until, now);
        }
    }

    /// Calls `wake` once when the server stops, on the thread that stops it, or at once if the server is stopping
    /// already. By then the accept queues have been taken and [`drain_until`](Self::drain_until) is set. The host
    /// keeps `wake`, and what it owns, until the host itself is dropped. `wake` must not call the host.
    pub fn on_stop(&self, wake: impl Fn() + Send + 'static) {
        self.stop.on_stop(Box::new(wake));
    }
}

/// The present time on both clocks.
pub fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// Notes the I/O error that ends a connection. If the peer took no byte of an answer for so long that the kernel
/// gave up (TCP_USER_TIMEOUT), that counts as a write timeout, as it does when [`Connection::deadline`] passes.
pub fn note_failure(
    connection: &mut Connection,
    scratch: &mut Scratch,
    error: &io::Error,
    now: Now,
) {
    if error.kind() == io::ErrorKind::TimedOut && connection.next() == Next::Write {
        connection.timed_out(scratch, now);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under this lock")
}

/// The whole `main` of a server: reads the arguments, listens, prints `listening on ADDR` on stdout, serves
/// until SIGTERM or SIGINT, and prints the counters as one line of JSON on stderr. SIGUSR1 prints them too.
///
/// A second SIGTERM or SIGINT ends the process at once. Connections that are open after `--grace` are cut off.
pub fn run<S>(architecture: &Architecture, serve: S) -> ExitCode
where
    S: FnOnce(TcpListener, &Arc<Host>) -> io::Result<()>,
{
    let (address, settings) = arguments::parse(architecture);
    match listen_and_serve(address, settings, serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", architecture.name);
            ExitCode::FAILURE
        }
    }
}

fn listen_and_serve<S>(address: SocketAddr, settings: Settings, serve: S) -> io::Result<()>
where
    S: FnOnce(TcpListener, &Arc<Host>) -> io::Result<()>,
{
    let host = Arc::new(Host::new(settings));
    stop::on_signals(Arc::clone(&host))?;
    let listener = listen(address, &host.settings)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    drop(stdout);
    serve(listener, &host)?;
    host.counters.print();
    Ok(())
}
