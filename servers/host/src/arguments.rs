use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Command, FromArgMatches as _};
use http1::Limits;

/// How a server presents itself on the command line. [`architecture!`](crate::architecture) fills in name, about
/// and version from the server's manifest.
#[derive(Debug, Clone, Copy)]
pub struct Architecture {
    /// The name of the program.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// What `--version` prints after the name.
    pub version: &'static str,
    /// Whether `--threads` sets the number of threads.
    pub threads: Threads,
    /// Whether the server opens further listening sockets on its address.
    pub reuse_port: bool,
}

impl Architecture {
    /// The same with SO_REUSEPORT on its listening socket, for [`Host::listen_again`](crate::Host::listen_again).
    pub const fn with_reuse_port(mut self) -> Self {
        self.reuse_port = true;
        self
    }
}

/// Whether the number of an architecture's threads can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The architecture fixes it: `--threads` is an error.
    Fixed,
    /// `--threads` sets it; the default is the number of cores the process may run on.
    Configurable,
}

/// An [`Architecture`] with the name, description and version of the calling package.
#[macro_export]
macro_rules! architecture {
    ($threads:expr) => {
        $crate::Architecture {
            name: env!("CARGO_PKG_NAME"),
            about: env!("CARGO_PKG_DESCRIPTION"),
            version: env!("CARGO_PKG_VERSION"),
            threads: $threads,
            reuse_port: false,
        }
    };
}

/// The options of the command line, with the same defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Limits on what one peer may cost.
    pub limits: Limits,
    /// Number of threads, for architectures with [`Threads::Configurable`].
    pub threads: NonZeroUsize,
    /// Whether further sockets may listen on the same address (SO_REUSEPORT).
    pub reuse_port: bool,
    /// Connections that may wait in the accept queue.
    pub backlog: NonZeroU32,
    /// Connections open at once; further ones wait in the accept queue.
    pub connections_max: usize,
    /// The longest that a stop may take.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            limits: Limits::default(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            reuse_port: false,
            backlog: NonZeroU32::new(4096).expect("not zero"),
            connections_max: crate::listen::connections_max(),
            grace: Duration::from_secs(5),
        }
    }
}

#[derive(Args)]
struct Arguments {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000", value_parser = address)]
    listen: SocketAddr,
    /// Number of threads [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Connections that may wait in the accept queue (the kernel caps it at net.core.somaxconn)
    #[arg(long, value_name = "N", default_value = "4096")]
    backlog: NonZeroU32,
    /// How long a connection may stay idle, and how long a peer may leave an answer unread
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    idle_timeout: Duration,
    /// How long a whole request head may take to arrive
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    header_timeout: Duration,
    /// How long a closing connection waits for the peer to read the last answer and close
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    linger_timeout: Duration,
    /// Connections open at once; further ones wait in the accept queue [default: the limit of open files
    /// minus a reserve]
    #[arg(long, value_name = "N")]
    max_connections: Option<NonZeroUsize>,
    /// How long the server may take to stop after SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    grace: Duration,
    /// For tests: a request for /panic makes the server panic
    #[arg(long, hide = true)]
    panics: bool,
}

/// Reads the command line. If it is wrong, prints why and exits with status 2.
pub(crate) fn parse(architecture: &Architecture) -> (SocketAddr, Settings) {
    let has_threads = architecture.threads == Threads::Configurable;
    let command = Command::new(architecture.name)
        .about(architecture.about)
        .version(architecture.version);
    let mut command =
        Arguments::augment_args(command).mut_arg("threads", |arg| arg.hide(!has_threads));
    let matches = command.get_matches_mut();
    let given = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if given.threads.is_some() && !has_threads {
        let message = format!(
            "'--threads' does not apply to {}: its architecture fixes the number of threads",
            architecture.name
        );
        command.error(ErrorKind::ArgumentConflict, message).exit();
    }
    let defaults = Settings::default();
    let settings = Settings {
        limits: Limits {
            idle_timeout: given.idle_timeout,
            header_timeout: given.header_timeout,
            linger_timeout: given.linger_timeout,
            panics: given.panics,
            ..Limits::default()
        },
        threads: given.threads.unwrap_or(defaults.threads),
        reuse_port: architecture.reuse_port,
        backlog: given.backlog,
        connections_max: match given.max_connections {
            Some(max) => max.get(),
            None => defaults.connections_max,
        },
        grace: given.grace,
    };
    (given.listen, settings)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:8000 or [::1]:8000".to_owned())
}

/// A duration above zero and up to a year, such as `10s`, `1m 30s` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than zero".to_owned()),
        Ok(duration) if duration > YEAR => Err("must be a year at most".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; expected a time such as 10s or 500ms")),
    }
}
