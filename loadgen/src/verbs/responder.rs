//! `loadgen responder`: the responder of [`lab::responder`] as a server process. Its command line, ready line
//! and stop follow the contract for measured servers.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::common::interruption;
use crate::output::say;
use lab::responder;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // A second signal ends the process at once.
    interruption()?;
    let (stop, stopped) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        pipe::register(signal, stop.try_clone()?)?;
    }
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // If this fails, fewer connections can be open at once.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap_or_default();
    }

    let listener = responder::listen(arguments.listen)
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    drop(stdout);

    let counts = responder::serve(listener, stopped)?;
    say!("{}", serde_json::to_string(&counts)?);
    Ok(ExitCode::SUCCESS)
}
