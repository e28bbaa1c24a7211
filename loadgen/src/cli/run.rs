//! `loadgen run`: one workload against one server, somebody's at a URL or one of the catalogue's.

use std::env;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use indicatif::{ProgressBar, ProgressStyle};

use super::Usage;
use super::common::{Cpus, count, duration, duration_or_zero, interruption, require_files};
use crate::catalogue::{Catalogue, Server};
use crate::drive::{self, Moment};
use crate::json;
use crate::plan::{ConnectionLife, Limit, Pace, Plan};
use crate::record::Outcome;
use crate::report::run as report;
use crate::set::hlog;
use crate::target::{self, Sampler, ServerCost, Target};
use crate::verdict::{self, Status};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// URL of a server (http://127.0.0.1:8000/), or the name of one in benches/servers.toml, which is
    /// then built, started and stopped
    target: String,
    /// Connections open at once
    #[arg(short, long, value_name = "N", default_value = "64", value_parser = count::<NonZeroUsize>)]
    connections: NonZeroUsize,
    /// Threads that share the connections
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = count::<NonZeroUsize>)]
    threads: NonZeroUsize,
    /// How long requests are counted
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Number of requests, instead of a duration
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "duration", value_parser = count::<NonZeroU64>)]
    requests: Option<NonZeroU64>,
    /// Requests on each connection: 1 = a new connection for every request, 0 = keep-alive
    #[arg(short = 'k', long, value_name = "N", default_value = "0")]
    requests_per_connection: u64,
    /// Requests in flight on each connection
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = count::<NonZeroUsize>)]
    pipeline: NonZeroUsize,
    /// Method of the requests
    #[arg(short, long, default_value = "GET")]
    method: Method,
    /// Header field to add, `Name: value`; may be repeated
    #[arg(short = 'H', long, value_name = "FIELD", value_parser = field)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Body of the requests
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// How long a connect or a response may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    /// Load before the first request that counts [default: 1s, or none with --requests]
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero)]
    warmup: Option<Duration>,
    /// Write the outcome as JSON to a file, or to stdout (-) instead of the table
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
    /// Write the histograms as an HdrHistogram V2 interval log, in nanoseconds
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// CPUs for the generator's threads, such as 1 or 2-3
    #[arg(long, value_name = "CPUS")]
    pin_client: Option<Cpus>,
    /// CPUs for a server started by name
    #[arg(long, value_name = "CPUS")]
    pin_server: Option<Cpus>,
}

/// Requests on one connection that may be in flight; more would only fill buffers.
const PIPELINE_MAX: usize = 1024;

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let place = Place::find(&arguments)?;
    check(&arguments, &place)?;
    let interrupted = interruption()?;

    let target = match &place {
        Place::Url(_) => None,
        Place::Server(catalogue, server) => Some(start(&arguments, catalogue, server)?),
    };
    let (uri, address) = match (&place, &target) {
        (Place::Url(uri), _) => (uri.clone(), resolve(uri)?),
        (_, Some(target)) => (url_of(target.address())?, target.address()),
        (Place::Server(..), None) => unreachable!("a server of the catalogue was started"),
    };
    let plan = plan(&arguments, &uri, address);
    let started = SystemTime::now() + plan.warmup;
    let (outcome, cost) = drive(&plan, target.as_ref(), &interrupted)?;
    let server_fault = target.and_then(|target| {
        let died = target.has_ended();
        let ended = target.stop(target::STOP_WITHIN);
        died.then(|| format!("the server {ended}"))
    });

    let mut verdict = verdict::judge(&plan, &outcome);
    if let Some(fault) = server_fault {
        verdict.status = Status::Invalid;
        verdict.reasons.push(fault);
    }
    let status = verdict.status;
    let server = match &place {
        Place::Server(_, server) => Some(server.name.clone()),
        Place::Url(_) => None,
    };
    if let Some(path) = &arguments.hlog {
        write_hlog(path, started, &outcome)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let text = report::text(
        &uri.to_string(),
        server.as_deref(),
        &plan,
        &outcome,
        &verdict,
        cost.as_ref(),
    );
    let json = json::Run::new(uri.to_string(), server, &plan, &outcome, verdict, cost);
    match &arguments.json {
        Some(path) if path.as_os_str() == "-" => {
            let mut stdout = io::stdout().lock();
            serde_json::to_writer_pretty(&mut stdout, &json)?;
            writeln!(stdout)?;
        }
        Some(path) => {
            fs::write(path, serde_json::to_string_pretty(&json)? + "\n")
                .with_context(|| format!("writing {}", path.display()))?;
            print!("{text}");
        }
        None => print!("{text}"),
    }
    Ok(match status {
        Status::Valid | Status::ClientBound => ExitCode::SUCCESS,
        Status::Invalid => ExitCode::FAILURE,
    })
}

/// Where the server is: already running somewhere, or to be started.
enum Place {
    Url(Uri),
    Server(Catalogue, Server),
}

impl Place {
    fn find(arguments: &Arguments) -> anyhow::Result<Self> {
        let target = arguments.target.as_str();
        if target.contains("://") {
            return Ok(Place::Url(url(target)?));
        }
        if target.contains([':', '/', '.']) {
            let message = format!("{target} is no URL: did you mean http://{target} ?");
            return Err(Usage(message).into());
        }
        let here = env::current_dir().context("finding the current folder")?;
        let catalogue = Catalogue::find(&here).map_err(|error| {
            let hint = "a target is a URL such as http://127.0.0.1:8000/, or a server's name";
            anyhow::Error::new(Usage(format!("{target}: {error} ({hint})")))
        })?;
        let server = catalogue
            .server(target)
            .map_err(|error| Usage(error.to_string()))?
            .clone();
        Ok(Place::Server(catalogue, server))
    }
}

/// What can be known to fail before anything is started.
fn check(arguments: &Arguments, place: &Place) -> Result<(), Usage> {
    let connections = arguments.connections.get();
    if arguments.threads > arguments.connections {
        return Err(Usage(format!(
            "{} threads cannot share {connections} connections: each needs one at least",
            arguments.threads
        )));
    }
    if arguments.pipeline.get() > PIPELINE_MAX {
        return Err(Usage(format!("--pipeline: {PIPELINE_MAX} at the most")));
    }
    if arguments.pin_server.is_some() && matches!(place, Place::Url(_)) {
        let message = "--pin-server needs a server that loadgen starts: a name, not a URL";
        return Err(Usage(message.to_owned()));
    }
    require_files(connections)
}

fn start(arguments: &Arguments, catalogue: &Catalogue, server: &Server) -> anyhow::Result<Target> {
    target::build(server, &catalogue.root)?;
    let cpus = arguments.pin_server.clone().map(|Cpus(cpus)| cpus);
    let options = target::Options {
        cpus: cpus.unwrap_or_default(),
        ..target::Options::default()
    };
    Ok(Target::start(server, &catalogue.root, &options)?)
}

fn plan(arguments: &Arguments, uri: &Uri, address: SocketAddr) -> Plan {
    let limit = match arguments.requests {
        Some(requests) => Limit::Requests(requests.get()),
        None => Limit::For(arguments.duration),
    };
    let cpus = arguments.pin_client.clone().map(|Cpus(cpus)| cpus);
    Plan {
        head_only: arguments.method == Method::HEAD,
        connections: arguments.connections.get(),
        threads: arguments.threads.get(),
        life: ConnectionLife::from_requests(arguments.requests_per_connection),
        pipeline: arguments.pipeline.get(),
        pace: Pace::Closed,
        limit,
        warmup: arguments.warmup.unwrap_or(match limit {
            Limit::For(_) | Limit::Until(_) => Duration::from_secs(1),
            Limit::Requests(_) => Duration::ZERO,
        }),
        timeout: arguments.timeout,
        cpus: cpus.unwrap_or_default(),
        ..Plan::new(address, request(arguments, uri))
    }
}

/// The bytes of one request (RFC 9112 §3).
fn request(arguments: &Arguments, uri: &Uri) -> Vec<u8> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = format!("{} {target} HTTP/1.1\r\n", arguments.method).into_bytes();
    let given = |name: HeaderName| arguments.header.iter().any(|(given, _)| *given == name);
    if !given(header::HOST) {
        let host = uri.authority().map_or("", |authority| authority.as_str());
        // Without the user information that may stand before it.
        let host = host.rsplit('@').next().unwrap_or(host);
        request.extend_from_slice(format!("Host: {host}\r\n").as_bytes());
    }
    for (name, value) in &arguments.header {
        request.extend_from_slice(format!("{name}: ").as_bytes());
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    if let Some(body) = &arguments.body
        && !given(header::CONTENT_LENGTH)
    {
        request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(arguments.body.as_deref().unwrap_or_default().as_bytes());
    request
}

/// A header field from the command line.
fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected `Name: value`")?;
    let name = name
        .parse()
        .map_err(|_| format!("{name:?} is no name of a header field"))?;
    let value = value.trim();
    let value = (value.parse()).map_err(|_| format!("{value:?} is no value of a header field"))?;
    Ok((name, value))
}

/// An `http` URL with a host.
fn url(text: &str) -> Result<Uri, Usage> {
    let uri: Uri = text
        .parse()
        .map_err(|error| Usage(format!("{text}: {error}")))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            let message = "https is not spoken; terminate TLS elsewhere and give an http:// URL";
            return Err(Usage(format!("{text}: {message}")));
        }
        scheme => {
            let scheme = scheme.unwrap_or("nothing");
            return Err(Usage(format!(
                "{text}: {scheme} is not spoken, only http://"
            )));
        }
    }
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(uri),
        _ => Err(Usage(format!("{text}: no host in this URL"))),
    }
}

fn url_of(address: SocketAddr) -> anyhow::Result<Uri> {
    Ok(format!("http://{address}/").parse()?)
}

/// The address behind the host of `uri`. Of several, the first that accepts: a name such as
/// `localhost` often stands for an IPv6 address too, where nobody listens.
fn resolve(uri: &Uri) -> anyhow::Result<SocketAddr> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(80);
    // Brackets belong to the URL, not to the address.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (name, port)
        .to_socket_addrs()
        .with_context(|| format!("looking up {host}"))?
        .collect();
    match addresses[..] {
        [] => anyhow::bail!("looking up {host}: no address"),
        [address] => Ok(address),
        [first, ..] => {
            let accepts = |address: &&SocketAddr| {
                TcpStream::connect_timeout(address, Duration::from_secs(1)).is_ok()
            };
            Ok(*addresses.iter().find(accepts).unwrap_or(&first))
        }
    }
}

/// Drives the plan; with a server of ours, says what it cost too.
fn drive(
    plan: &Plan,
    target: Option<&Target>,
    interrupted: &AtomicBool,
) -> anyhow::Result<(Outcome, Option<ServerCost>)> {
    let progress = Progress::start(plan);
    let mut sampler = None;
    let mut cost = None;
    let outcome = drive::run_observed(plan, interrupted, &mut |moment| match moment {
        // A server that has died has no cost; the verdict says why.
        Moment::Begin => sampler = target.and_then(|target| Sampler::start(target.pid()).ok()),
        Moment::Progress(_) => {}
        Moment::End => cost = sampler.take().and_then(|sampler| sampler.finish().ok()),
    });
    progress.clear();
    Ok((outcome.context("running the load")?, cost))
}

/// One interval, the run, for each kind of latency.
fn write_hlog(path: &Path, started: SystemTime, outcome: &Outcome) -> io::Result<()> {
    let mut out = Vec::new();
    hlog::write_head(&mut out, started)?;
    for (tag, histogram) in [
        ("response", &outcome.record.response),
        ("first_byte", &outcome.record.first_byte),
        ("connect", &outcome.record.connect),
    ] {
        hlog::append(&mut out, Duration::ZERO, outcome.duration, tag, histogram)?;
    }
    fs::write(path, out)
}

/// A bar that fills with time, on a terminal.
struct Progress(Option<(ProgressBar, std::thread::JoinHandle<()>)>);

impl Progress {
    fn start(plan: &Plan) -> Self {
        let Limit::For(duration) = plan.limit else {
            return Progress(None);
        };
        if !io::stderr().is_terminal() {
            return Progress(None);
        }
        let whole = plan.warmup + duration;
        let bar = ProgressBar::new(whole.as_millis() as u64);
        let style = ProgressStyle::with_template("{wide_bar} {msg}").expect("a valid template");
        bar.set_style(style);
        let ticking = bar.clone();
        let warmup = plan.warmup;
        let ticker = std::thread::spawn(move || {
            while !ticking.is_finished() {
                let elapsed = ticking.elapsed();
                ticking.set_position(elapsed.as_millis() as u64);
                ticking.set_message(match elapsed < warmup {
                    true => "warming up".to_owned(),
                    false => format!("{:.0} s left", whole.saturating_sub(elapsed).as_secs_f64()),
                });
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        Progress(Some((bar, ticker)))
    }

    fn clear(self) {
        if let Some((bar, ticker)) = self.0 {
            bar.finish_and_clear();
            ticker.thread().unpark();
            // It only draws.
            ticker.join().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_http_with_a_host() {
        for (text, fine) in [
            ("http://127.0.0.1:8000/", true),
            ("http://[::1]:8000/a?b", true),
            ("http://localhost", true),
            ("https://localhost/", false),
            ("ftp://localhost/", false),
            ("http:///path", false),
            ("http://a b/", false),
        ] {
            assert_eq!(url(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn header_fields_have_a_name_and_a_value() {
        for (text, fine) in [
            ("Accept: */*", true),
            ("X-Empty:", true),
            ("no colon", false),
            ("bad name: x", false),
            ("X: a\r\nY: b", false),
        ] {
            assert_eq!(field(text).is_ok(), fine, "{text}");
        }
    }
}
