//! What every server shares around its architecture: arguments, the listening socket, limits, the
//! stop signal, counters; and, for the blocking architectures, the conversation over one stream.
//!
//! A server's `main` hands its `serve` to [`run`]. Tests and benches make a [`Host`] themselves and
//! call `serve` in their own process:
//!
//! ```
//! # use std::sync::{Arc, Mutex, MutexGuard};
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
//!     // ... speak with it, then:
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

/// All that a `serve` needs to know beside its listener.
#[derive(Debug)]
pub struct Host {
    /// As given on the command line.
    pub settings: Settings,
    /// What happened so far.
    pub counters: Counters,
    stop: stop::Stop,
    room: room::Room,
    open: blocking::Open,
}

impl Host {
    /// A host that nobody has asked to stop.
    pub fn new(settings: Settings) -> Self {
        Host {
            settings,
            counters: Counters::default(),
            stop: stop::Stop::default(),
            room: room::Room::default(),
            open: blocking::Open::default(),
        }
    }

    /// What a thread needs to serve connections by.
    pub fn scratch(&self) -> Scratch {
        Scratch::new(self.settings.limits, Arc::clone(&self.counters.tally))
    }

    /// Asks the server to stop: no more connections beyond those in the accept queue; on each, what has
    /// arrived is answered, or else one more request if it comes within [`drain_time`](Self::drain_time).
    pub fn stop(&self) {
        self.stop.stop(self.drain_time());
        self.room.wake_waiters();
    }

    /// Whether it was asked to stop. Connections that were accepted go on until
    /// [`drain_until`](Self::drain_until) says otherwise.
    pub fn stopping(&self) -> bool {
        self.stop.stopping()
    }

    /// Opens a further listening socket on the address of `listener`; the kernel spreads connections over
    /// both. The architecture must have asked for it by [`Architecture::with_reuse_port`].
    ///
    /// # Errors
    ///
    /// Those of [`listen`], and that nobody has asked.
    pub fn listen_again(&self, listener: &TcpListener) -> io::Result<TcpListener> {
        if !self.settings.reuse_port {
            let message = "a further listener needs SO_REUSEPORT on the first: set reuse_port";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        listen(listener.local_addr()?, &self.settings)
    }

    /// Until when further requests are waited for; `None` while nobody needs to hurry.
    #[inline]
    pub fn drain_until(&self) -> Option<Instant> {
        self.stop.drain_until()
    }

    /// How long a stopping server waits for one more request on an open connection: closing one at once
    /// could meet a request that is on its way.
    pub fn drain_time(&self) -> Duration {
        (self.settings.grace / 2).min(Duration::from_secs(1))
    }

    /// Wakes threads that have been blocked in `recv` since before the stop, once the drain time is
    /// over.
    pub fn stop_waiting(&self) {
        self.open.wake_idle();
    }

    /// Tells a connection that the server stops, if it does.
    #[inline]
    pub fn tell_stop(&self, connection: &mut Connection, scratch: &Scratch, now: Now) {
        if let Some(until) = self.drain_until() {
            connection.drain(scratch, until, now);
        }
    }

    /// Runs `wake` when the accept queues have been taken and [`drain_until`](Self::drain_until) is set, on
    /// the thread that does so; at once if that has been done. The host keeps `wake` and what it owns.
    pub fn on_stop(&self, wake: impl Fn() + Send + 'static) {
        self.stop.on_stop(Box::new(wake));
    }
}

/// Both clocks.
pub fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: SystemTime::now(),
    }
}

/// Takes note of the error that ends a connection: TCP_USER_TIMEOUT, by which the kernel gives up a peer that
/// takes no byte of an answer, is a timeout like that of [`Connection::deadline`] and counted as one.
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

/// The whole `main` of a server: reads the arguments, listens, says so in one line on stdout, serves
/// until SIGTERM or SIGINT, and prints the counters as one line of JSON on stderr; on SIGUSR1 too.
///
/// A second signal ends the process at once; what has not ended within `--grace` is cut off.
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
