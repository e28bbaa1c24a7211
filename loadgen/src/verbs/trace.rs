//! `loadgen trace`: one request, seen as a whole.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::Usage;
use crate::common::{count, interruption, speaks_utf8};
use crate::output::{self, Written, is_stdout, say, to_stderr};
use crate::place::{Place, resolve};
use crate::request::Request;
use engine::http_url::HttpUrl;
use subject::process;
use subject::session::Session;
use subject::sockets;
use trace::client;
use trace::client::Plan;
use trace::live::{Job, Traced, Tracing};
use trace::model::{Record, Source, What};
use trace::output::{Heading, compare, html, json, mermaid, text};
use trace::packets;
use trace::story::{Story, tell};

#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub(crate) struct Arguments {
    /// URL of a server (http:// may be omitted), or a name from benches/servers.toml: that server is built,
    /// started and stopped
    #[arg(required_unless_present_any = ["read", "compare"], conflicts_with_all = ["read", "compare"])]
    target: Option<String>,
    /// Compare two servers, names or URLs: what differs for the same requests
    #[arg(long, value_name = "A,B", conflicts_with = "read")]
    compare: Option<String>,
    /// With --compare: also show all figures and both timelines, not only what differs
    #[arg(long)]
    full: bool,
    /// Explain a capture instead: pcap or pcapng, as written by tcpdump and Wireshark; - is stdin
    #[arg(long, value_name = "FILE.pcap|-")]
    read: Option<PathBuf>,
    /// With --read: only connections from or to this port
    #[arg(long, value_name = "N", requires = "read")]
    port: Option<u16>,
    #[command(flatten, next_help_heading = "Load")]
    load: Load,
    #[command(flatten, next_help_heading = "Request")]
    request: Request,
    #[command(flatten, next_help_heading = "What is seen")]
    seen: Seen,
    #[command(flatten, next_help_heading = "Output")]
    outputs: Outputs,
}

const ABOUT: &str = "\
Examples:
  loadgen trace iterative                   a server of this repository
  loadgen trace http://127.0.0.1:8000/ -n 3 -k   three requests, one connection
  loadgen trace iterative --close client --wait  watch TIME-WAIT end
  loadgen trace --compare iterative,event-loop
  loadgen trace iterative -w one.pcap --html one.html
  tcpdump -i lo -w other.pcap tcp port 80; loadgen trace --read other.pcap

Root sees everything, without any set-up. Packets need CAP_NET_RAW; system calls
and the kernel's own view of TCP states need CAP_PERFMON. Without them the trace
names what is missing and shows the rest.

--read takes pcap and pcapng in both byte orders, also from a pipe, and finds
segments behind VLAN tags, MPLS and PPP and within IP tunnels. It skips parts of
a file that it does not understand, and counts and names frames that it cannot
decode. It claims nothing that is not in the capture.

Exit code 0; 1 if a connection failed; 2 for a wrong command.";

#[derive(Debug, Args)]
struct Load {
    /// Total number of requests [default: one on each connection]
    #[arg(short = 'n', long, value_name = "N", value_parser = count::<NonZeroUsize>, conflicts_with = "read")]
    requests: Option<NonZeroUsize>,
    /// Connections open at once
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = count::<NonZeroUsize>, conflicts_with = "read")]
    connections: NonZeroUsize,
    /// Reuse connections, instead of a new one for each request
    #[arg(short = 'k', long, conflicts_with = "read")]
    keep_alive: bool,
    /// Who closes a connection, and how [default: server; with -k: client]
    #[arg(long, value_name = "WHO", conflicts_with = "read")]
    close: Option<Close>,
    /// One more argument for a server started by name; may be repeated
    #[arg(
        long,
        value_name = "ARG",
        allow_hyphen_values = true,
        conflicts_with = "read"
    )]
    server_arg: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Close {
    /// The server, because the last request says Connection: close; if it does not
    /// within half a second of its response, the client closes, with a message
    Server,
    /// The client, as soon as it has the last response
    Client,
    /// The client closes its half, right after the last request
    Half,
    /// The client, with a reset: no TIME-WAIT
    Rst,
}

#[derive(Debug, Args)]
struct Seen {
    /// Watch TIME-WAIT until it ends, a minute on Linux; you are told if there was none
    #[arg(long, conflicts_with = "read")]
    wait: bool,
    /// Do not list sockets: each listing delays the client
    #[arg(long, conflicts_with = "read")]
    no_sockets: bool,
    /// Show all system calls of the server, not only those on sockets, waits and threads
    #[arg(long, conflicts_with = "read")]
    all_calls: bool,
}

#[derive(Debug, Args)]
struct Outputs {
    /// Write the packets for Wireshark or tcpdump -r, with times in nanoseconds; - is stdout
    #[arg(short, long, value_name = "FILE.pcap|-", conflicts_with_all = ["read", "compare"])]
    write: Option<PathBuf>,
    /// Write a page with a sequence diagram; it needs no network; - is stdout
    #[arg(long, value_name = "FILE|-")]
    html: Option<PathBuf>,
    /// Print a Mermaid sequence diagram, for a README, instead of the timeline
    #[arg(long)]
    mermaid: bool,
    /// Write the trace as JSON to a file, or to stdout (-) instead of the timeline
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// Width of the timeline in columns [default: that of the terminal, or 80]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(40..=400))]
    width: Option<u16>,
}

/// More would be a load, too long to read.
const REQUESTS_MAX: usize = 1_000;
/// Each connection has a thread.
const CONNECTIONS_MAX: usize = 200;
/// The number of failed connections that are reported one by one.
const FAILURES_TOLD_MAX: usize = 5;
/// The default width.
const WIDTH: usize = 80;

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    check(&arguments)?;
    if let Some(path) = &arguments.read {
        return read(&arguments, path);
    }
    let interrupted = interruption()?;
    if let Some(names) = &arguments.compare {
        return compare_two(&arguments, names, &interrupted);
    }
    let target = arguments.target.as_deref().expect("clap requires one");
    let place = Place::find(&[target.to_owned()])?;
    arguments.request.check(place.urls())?;
    let seen = Observed::make(&arguments, &place, &interrupted)?;
    seen.print(&arguments)?;
    let failed = tell_failures(&seen.traced);
    let stopped = seen.stop();
    Ok(match failed || !stopped {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// What can be known to fail before anything is started.
fn check(arguments: &Arguments) -> Result<(), Usage> {
    let Arguments {
        load,
        outputs,
        request,
        ..
    } = arguments;
    let connections = load.connections.get();
    let requests = load.requests.map_or(connections, NonZeroUsize::get);
    if requests < connections {
        return Err(Usage(format!(
            "{connections} connections need a request each: --requests {connections} or more"
        )));
    }
    if requests > REQUESTS_MAX || connections > CONNECTIONS_MAX {
        return Err(Usage(format!(
            "a trace has at most {REQUESTS_MAX} requests on {CONNECTIONS_MAX} connections; \
             for load there is `loadgen run`"
        )));
    }
    if load.keep_alive && requests > connections && request.server_closes() {
        return Err(Usage(
            "the header field Connection: close allows one request on each connection: \
             it cannot be combined with -k"
                .to_owned(),
        ));
    }
    if load.close.is_some_and(|close| close != Close::Server) && request.server_closes() {
        return Err(Usage(
            "the header field Connection: close asks the server to close; leave out --close"
                .to_owned(),
        ));
    }
    if arguments.full && arguments.compare.is_none() {
        return Err(Usage(
            "--full compares two servers: it needs --compare A,B".to_owned(),
        ));
    }
    request.check(&[])?;
    output::check(&outputs.files())?;
    if outputs.mermaid
        && let Some(option) = outputs.printed()
    {
        return Err(Usage(format!(
            "--mermaid and {option} both write to stdout"
        )));
    }
    if outputs.mermaid && arguments.compare.is_some() {
        return Err(Usage(
            "--mermaid draws one server: it cannot be combined with --compare".to_owned(),
        ));
    }
    Ok(())
}

impl Outputs {
    fn files(&self) -> [(&'static str, Option<&Path>); 3] {
        [
            ("--write", self.write.as_deref()),
            ("--json", self.json.as_deref()),
            ("--html", self.html.as_deref()),
        ]
    }

    /// The option that writes to stdout, which then receives nothing else.
    fn printed(&self) -> Option<&'static str> {
        let files = self.files();
        let mut printed = files.into_iter().filter(|(_, path)| is_stdout(*path));
        printed.next().map(|(option, _)| option)
    }
}

/// A server that was traced, and runs until it is stopped.
struct Observed {
    name: String,
    heading: Heading,
    story: Story,
    traced: Traced,
    server: Option<Session>,
}

impl Observed {
    fn make(
        arguments: &Arguments,
        place: &Place,
        interrupted: &AtomicBool,
    ) -> anyhow::Result<Self> {
        if let Place::Server(catalogue, server) = place {
            process::build(server, &catalogue.root)?;
        }
        let tracing = Tracing::begin();
        let (url, address, server, name) = match place {
            Place::Urls(urls) => {
                let url = urls[0].clone();
                if !arguments.load.server_arg.is_empty() {
                    let message =
                        "--server-arg needs a server that loadgen starts: a name, not a URL";
                    return Err(Usage(message.to_owned()).into());
                }
                let address = served(&resolve(&url, &[])?);
                (url.clone(), address, None, url.to_string())
            }
            Place::Server(catalogue, server) => {
                let options = process::Options {
                    arguments: arguments.load.server_arg.clone(),
                    ..process::Options::default()
                };
                let session = Session::start(server, &catalogue.root, &options)?;
                let address = session.target().address();
                (
                    HttpUrl::at(address),
                    address,
                    Some(session),
                    server.name.clone(),
                )
            }
        };
        let job = Job {
            lanes: lanes(arguments, &url, address),
            sockets: !arguments.seen.no_sockets,
            all_calls: arguments.seen.all_calls,
            wait: arguments.seen.wait,
        };
        let started = (server.as_ref()).map(|session| session.target().processes());
        let mut waited = false;
        let traced = tracing.follow(&job, started, interrupted, |left| {
            tell_wait(left, !waited);
            waited = true;
        });
        if waited && io::stderr().is_terminal() {
            say!();
        }
        let story = tell(&traced.record);
        let heading = Heading {
            title: title(&job),
            target: match &server {
                Some(_) => format!("{name} at {url}"),
                None => name.clone(),
            },
            lines: vec![kernel()],
        };
        Ok(Observed {
            name,
            heading,
            story,
            traced,
            server,
        })
    }

    fn print(&self, arguments: &Arguments) -> anyhow::Result<()> {
        let mut written = Written::default();
        written.add(show(&arguments.outputs, &self.heading, &self.story));
        if let Some(path) = &arguments.outputs.write {
            written.add(self.write_packets(path));
        }
        written.end()
    }

    fn write_packets(&self, path: &Path) -> anyhow::Result<()> {
        let name = path.display();
        match (&self.traced.capture, &self.traced.record.sources.packets) {
            (Some(capture), _) => {
                packets::write(path, capture).with_context(|| format!("writing {name}"))
            }
            (None, Source::Missing(why)) => anyhow::bail!("{name}: no packets to write: {why}"),
            (None, _) => anyhow::bail!("{name}: no packets to write"),
        }
    }

    /// Stops the server; returns whether it ended as it should.
    fn stop(self) -> bool {
        let Some(server) = self.server else {
            return true;
        };
        let (_, ended) = server.end();
        if let Err(fault) = ended {
            say!("loadgen: warning: {}: it {fault}", self.name);
            return false;
        }
        true
    }
}

/// The first of a name's addresses on which a socket of this machine listens, as a client would find by trying
/// them in order; if there is none, the first address.
fn served(addresses: &[SocketAddr]) -> SocketAddr {
    let port = addresses[0].port();
    let sockets = sockets::list(&[port]).unwrap_or_default();
    let is_served = |address: &&SocketAddr| {
        sockets.iter().any(|socket| {
            let local = socket.local;
            let reaches = local.ip() == address.ip()
                || local.ip().is_unspecified() && (local.is_ipv6() || address.is_ipv4());
            socket.remote.is_none() && local.port() == port && reaches
        })
    };
    let found = addresses.iter().find(is_served);
    *found.unwrap_or(&addresses[0])
}

/// The requests of each connection.
fn lanes(arguments: &Arguments, url: &HttpUrl, server: SocketAddr) -> Vec<Vec<Plan>> {
    let Arguments { load, request, .. } = arguments;
    let connections = load.connections.get();
    let requests = load.requests.map_or(connections, NonZeroUsize::get);
    let close = load.close.unwrap_or(match load.keep_alive {
        true if !request.server_closes() => Close::Client,
        _ => Close::Server,
    });
    let plan = |requests: usize| {
        let mut bytes = vec![request.bytes(url); requests];
        if close == Close::Server
            && let Some(last) = bytes.last_mut()
        {
            *last = request.bytes_to_close(url);
        }
        Plan {
            server,
            requests: bytes,
            expect: request.expected().as_ref().map(Arc::clone),
            close: match close {
                Close::Server => client::Close::Server,
                Close::Client => client::Close::Client,
                Close::Half => client::Close::Half,
                Close::Rst => client::Close::Reset,
            },
            timeout: request.timeout,
        }
    };
    let lane = |index: usize| {
        let own = requests / connections + usize::from(index < requests % connections);
        match load.keep_alive {
            true => vec![plan(own)],
            false => (0..own).map(|_| plan(1)).collect(),
        }
    };
    (0..connections).map(lane).collect()
}

/// `3 requests on 2 connections, seen whole`
fn title(job: &Job) -> String {
    let plans = || job.lanes.iter().flatten();
    let requests: usize = plans().map(|plan| plan.requests.len()).sum();
    let requests = match requests {
        1 => "One request".to_owned(),
        requests => format!("{requests} requests"),
    };
    match plans().count() {
        1 if job.lanes[0][0].requests.len() > 1 => {
            format!("{requests} on one connection, seen whole")
        }
        1 => format!("{requests}, seen whole"),
        connections => format!("{requests} on {connections} connections, seen whole"),
    }
}

/// The kernel whose TCP is seen.
fn kernel() -> String {
    match nix::sys::utsname::uname() {
        Ok(name) => {
            let (system, release) = (name.sysname(), name.release());
            format!("{} {}", system.to_string_lossy(), release.to_string_lossy())
        }
        Err(error) => format!("the kernel does not report its version: {error}"),
    }
}

/// Prints the failures of clients to stderr; returns whether there were any.
fn tell_failures(traced: &Traced) -> bool {
    let failures = traced
        .record
        .moments
        .iter()
        .filter_map(|moment| match &moment.what {
            What::Failed(call, error) => Some((moment.connection, format!("{call}: {error}"))),
            What::KeptOpen => Some((moment.connection, kept_open())),
            _ => None,
        });
    let mut count = 0;
    for (connection, failure) in failures {
        count += 1;
        if count <= FAILURES_TOLD_MAX {
            say!("loadgen: connection {}: {failure}", connection + 1);
        }
    }
    if count > FAILURES_TOLD_MAX {
        let more = count - FAILURES_TOLD_MAX;
        say!("loadgen: {more} more connections failed");
    }
    count > 0
}

/// RFC 9112 §9.6: a server that is asked to close must.
fn kept_open() -> String {
    format!(
        "the response is complete, but the server did not close within {} ms, as requested; the client closed",
        client::GRACE.as_millis()
    )
}

/// Repeatedly on a terminal, otherwise once.
fn tell_wait(left: Duration, is_first: bool) {
    let left_s = left.as_secs_f64();
    if io::stderr().is_terminal() {
        to_stderr(format_args!(
            "\rTIME-WAIT lasts for another {left_s:>4.1} s ..."
        ));
    } else if is_first {
        say!("waiting for TIME-WAIT to end, another {left_s:.0} s ...");
    }
}

fn read(arguments: &Arguments, path: &Path) -> anyhow::Result<ExitCode> {
    let capture = packets::read(path)?;
    let (mut packets, notes) = capture.packets();
    let mut errors = capture.errors();
    if let Some(port) = arguments.port {
        packets.retain(|packet| [packet.source.port(), packet.destination.port()].contains(&port));
        errors.retain(|error| [error.source.port(), error.destination.port()].contains(&port));
        if packets.is_empty() {
            anyhow::bail!("{}: no segment from or to port {port}", path.display());
        }
    }
    let mut record = Record {
        packets,
        lacks_times: capture.without_time > 0,
        errors,
        notes,
        ..Record::default()
    };
    record.sources.packets = Source::Seen;
    if record.packets.is_empty() {
        record.notes.push("it has no TCP segment".to_owned());
    }
    let name = match is_stdout(Some(path)) {
        true => "stdin".to_owned(),
        false => path.display().to_string(),
    };
    let heading = Heading {
        title: format!("{name}, explained"),
        target: name,
        lines: Vec::new(),
    };
    let story = tell(&record);
    show(&arguments.outputs, &heading, &story)?;
    Ok(ExitCode::SUCCESS)
}

fn compare_two(
    arguments: &Arguments,
    names: &str,
    interrupted: &AtomicBool,
) -> anyhow::Result<ExitCode> {
    let Some((one, other)) = names.split_once(',') else {
        return Err(Usage(format!("--compare {names}: expected two servers, A,B")).into());
    };
    let place = |name: &str| Place::find(&[name.trim().to_owned()]);
    let (one, other) = (place(one)?, place(other)?);
    for place in [&one, &other] {
        arguments.request.check(place.urls())?;
    }
    let a = Observed::make(arguments, &one, interrupted)?;
    let failed = tell_failures(&a.traced);
    let b = Observed::make(arguments, &other, interrupted)?;
    let failed = tell_failures(&b.traced) || failed;
    let pair = ((a.name.as_str(), &a.story), (b.name.as_str(), &b.story));
    let outputs = &arguments.outputs;
    let mut written = Written::default();
    if outputs.printed().is_none() {
        let text = match arguments.full {
            true => compare::side_by_side,
            false => compare::differing,
        };
        written.add(print_text(text(pair.0, pair.1, width(outputs))));
    }
    if let Some(path) = &outputs.json {
        let values = [json::value(&a.story), json::value(&b.story)];
        written.add(output::write_json(path, &values));
    }
    if let Some(path) = &outputs.html {
        let heading = Heading {
            title: format!("{} and {}, side by side", a.name, b.name),
            target: format!("{} and {}", a.heading.target, b.heading.target),
            lines: Vec::new(),
        };
        written.add(output::write(path, html::pair(pair.0, pair.1, &heading)));
    }
    let stopped = [a.stop(), b.stop()] == [true, true];
    written.end()?;
    Ok(match failed || !stopped {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Writes all requested outputs.
fn show(outputs: &Outputs, heading: &Heading, story: &Story) -> anyhow::Result<()> {
    let mut written = Written::default();
    if outputs.mermaid {
        written.add(output::print(mermaid::diagram(story)));
    } else if outputs.printed().is_none() {
        written.add(print_text(text::timeline(story, heading, width(outputs))));
    }
    if let Some(path) = &outputs.json {
        written.add(output::write_json(path, &json::value(story)));
    }
    if let Some(path) = &outputs.html {
        written.add(output::write(path, html::page(story, heading)));
    }
    written.end()
}

/// With colour on a terminal, and with arrows if the locale supports them.
fn print_text(text: String) -> anyhow::Result<()> {
    let text = match speaks_utf8() {
        true => text,
        false => text::ascii(&text),
    };
    output::print_styled(&text)
}

fn width(outputs: &Outputs) -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    match (outputs.width, terminal) {
        (Some(width), _) => width.into(),
        (None, Some((terminal_size::Width(columns), _))) => usize::from(columns).max(40),
        (None, None) => WIDTH,
    }
}
