//! A server whose truth is known, to try a load generator on by hand: this one, or another.
//!
//! ```text
//! cargo run --release --example truth-server -- --listen 127.0.0.1:8000 --delay exponential:5ms
//! cargo run --release --example truth-server -- --listen 127.0.0.1:8000 --stall 200ms/1s
//! cargo run --release --example truth-server -- --listen 127.0.0.1:8000 --fault reset --fault short-body
//! ```
//!
//! In another terminal, `loadgen run http://127.0.0.1:8000/`. Stopped with Ctrl-C, the server says what
//! it did: how many connections it accepted, how many requests it read, how it misbehaved, and the
//! quantiles of the time for which it held the requests. A load generator should have said the same. Of
//! a server that stalls for 200 ms in every second, for example, one that sends at a constant rate must
//! say that the 90th percentile is 100 ms and the 99th is 190 ms; one that waits for each answer before
//! it sends the next request will say nothing of the kind.

#[path = "../tests/truth/mod.rs"]
mod truth;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use truth::answer::{Fault, Framing};
use truth::delay::{Delay, Stall};
use truth::statistics::quantile;
use truth::{Options, Server, Serves, Truth, WhenAskedToClose};

/// An HTTP/1.1 server that delays, stalls and misbehaves exactly as told, and says what it did
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to listen at; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Delay of each answer: fixed:5ms, uniform:1ms..9ms, bimodal:1ms,20ms,0.1 or exponential:5ms
    #[arg(long, default_value = "fixed:0s")]
    delay: Delay,
    /// Seed of the delays
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// Answer nothing for so long in every so much time: 200ms/1s
    #[arg(long, value_name = "TIME/TIME")]
    stall: Option<Stall>,
    /// Misbehave so; several kinds take turns
    #[arg(long, value_name = "KIND")]
    fault: Vec<Fault>,
    /// Misbehave at every Nth request
    #[arg(long, value_name = "N", default_value = "100")]
    fault_every: NonZeroU64,
    /// How answers are framed
    #[arg(long, value_name = "KIND", default_value = "length")]
    framing: Framing,
    /// What to do when a request says `Connection: close`
    #[arg(long, value_name = "WHAT", default_value = "closes")]
    when_asked_to_close: WhenAskedToClose,
    /// Serve the first N connections only
    #[arg(long, value_name = "N")]
    serve_first: Option<u64>,
    /// Leave the others in the accept queue, instead of accepting and never reading them
    #[arg(long, requires = "serve_first")]
    leave_others: bool,
    /// Length of the accept queue
    #[arg(long, value_name = "N", default_value = "4096")]
    backlog: i32,
    /// Least time between two accepts
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    accept_every: Duration,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let server = Server::start(options(&arguments))?;
    println!("listening on {}", server.address());
    io::stdout().flush()?;
    signals.forever().next();
    report(&server.stop());
    Ok(())
}

fn options(arguments: &Arguments) -> Options {
    Options {
        listen: arguments.listen,
        backlog: arguments.backlog,
        accept_every: arguments.accept_every,
        serves: match (arguments.serve_first, arguments.leave_others) {
            (None, _) => Serves::All,
            (Some(first), true) => Serves::First(first),
            (Some(first), false) => Serves::FirstAndAccepts(first),
        },
        delay: arguments.delay,
        seed: arguments.seed,
        stall: arguments.stall,
        faults: arguments.fault.clone(),
        fault_every: arguments.fault_every.get(),
        framing: arguments.framing,
        when_asked_to_close: arguments.when_asked_to_close,
    }
}

fn report(truth: &Truth) {
    println!();
    println!("connections accepted   {:>10}", truth.connections);
    println!("  most at once         {:>10}", truth.connections_open_max);
    println!("requests read          {:>10}", truth.requests);
    println!("responses written      {:>10}", truth.responses);
    for (fault, count) in &truth.faults {
        println!("  {:<20} {count:>10}", format!("{fault:?}"));
    }
    if truth.answers.is_empty() {
        return;
    }
    println!();
    println!("microseconds    p50       p90       p99     p99.9       max");
    for (name, sorted) in [("held", truth.held_ns()), ("too long by", truth.late_ns())] {
        let figures = [0.5, 0.9, 0.99, 0.999, 1.0].map(|p| quantile(&sorted, p) as f64 / 1e3);
        let figures = figures.map(|figure| format!("{figure:>10.1}"));
        println!("{name:<11}{}", figures.concat());
    }
}
