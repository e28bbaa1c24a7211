//! The command line.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use subject::catalogue::{Catalogue, Server};
use subject::process;

use crate::peers::{BEHAVIOURS, Behaviour, Nature};
use crate::progress::{Lines, Progress};
use crate::report::Report;
use crate::run::{Plan, soak};
use crate::table;

/// Whether servers stay correct and bounded under a long mix of well- and ill-behaved peers
///
/// Each server is started as benches/servers.toml says. Peers of many behaviours visit it for the given time. Then
/// all peers leave, come again, and the server gets SIGTERM while they are there. Every answer is checked; memory,
/// descriptors and threads are watched.
#[derive(Debug, Parser)]
#[command(name = "soak", version)]
struct Arguments {
    /// Servers by name, from benches/servers.toml [default: all of ours]
    servers: Vec<String>,
    /// How long peers visit each server
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    time: Duration,
    /// Peers alive at any time, for each server
    #[arg(short, long, value_name = "N", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Requests per second over all well-behaved peers of a server
    #[arg(long, value_name = "N", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Soak all servers at once instead of one after another
    #[arg(long)]
    together: bool,
    /// Write everything as JSON to a file, or to stdout (-), which moves the table to stderr
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Use existing binaries; do not build
    #[arg(long)]
    no_build: bool,
    /// Seed for all random choices; reuse it to repeat a soak, as far as timing allows [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only these behaviours, separated by commas; `--only list` lists them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Accept that peers wait in vain, even if the server was not seen to serve few at a time
    #[arg(long)]
    may_starve: bool,
    /// Idle timeout of our servers
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    idle_timeout: Duration,
    /// Header timeout of our servers
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    header_timeout: Duration,
    /// Grace period of our servers
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    grace: Duration,
    /// How long a peer waits for an answer or a close
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration)]
    patience: Duration,
    /// A further argument for our servers; may be given several times
    #[arg(long = "arg", value_name = "ARG", allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The command line is wrong; exit code 2.
#[derive(Debug)]
struct Usage(String);

/// Runs the program. The exit code is 0 if every server passed, 1 if something failed, and 2 for a wrong command
/// line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.only == ["list"] {
        return match list_behaviours() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let asked = || {
        let catalogue = catalogue()?;
        let servers = chosen(&catalogue, &arguments.servers)?;
        let plan = plan(&arguments)?;
        require_files(&arguments, servers.len())?;
        Ok((catalogue.root, servers, plan))
    };
    let (root, servers, plan) = match asked() {
        Ok(asked) => asked,
        Err(Usage(message)) => {
            eprintln!("soak: {message}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments, &root, &servers, &plan) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, root: &Path, servers: &[Server], plan: &Plan) -> Result<ExitCode> {
    if !arguments.no_build {
        for server in servers {
            process::build(server, root)?;
        }
    }
    let lines = Lines::new(servers.iter().map(|server| server.name.as_str()));
    eprintln!("seed {}", plan.seed);
    // Each server needs the thread that starts it to outlive it.
    let soak = |server: &Server, progress: &Progress| soak(server, root, plan, progress);
    let reports: Vec<Report> = thread::scope(|scope| {
        let mut reports = Vec::new();
        let mut running = Vec::new();
        for server in servers {
            let progress = lines.add(&server.name);
            let one = scope.spawn(move || soak(server, &progress));
            running.push(one);
            if !arguments.together {
                reports.extend(running.drain(..).map(join));
            }
        }
        reports.extend(running.drain(..).map(join));
        reports
    });
    lines.clear();
    let passed = reports.iter().all(|report| report.passed);
    let text = table::text(&reports);
    let json_to_stdout = arguments.json.as_deref() == Some(Path::new("-"));
    match json_to_stdout {
        true => eprint!("{text}"),
        false => write(io::stdout(), &text).context("writing the table")?,
    }
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&Json {
            schema: 1,
            version: env!("CARGO_PKG_VERSION"),
            seed: plan.seed,
            time_s: plan.time.as_secs_f64(),
            connections: plan.connections,
            rate_per_s: plan.rate_per_s,
            together: arguments.together,
            passed,
            servers: &reports,
        })? + "\n";
        match json_to_stdout {
            true => write(io::stdout(), &json),
            false => std::fs::write(path, json),
        }
        .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::from(u8::from(!passed)))
}

fn join(soak: thread::ScopedJoinHandle<'_, Report>) -> Report {
    soak.join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What `--json` writes.
#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    version: &'static str,
    seed: u64,
    time_s: f64,
    connections: usize,
    rate_per_s: f64,
    together: bool,
    passed: bool,
    servers: &'a [Report],
}

fn catalogue() -> Result<Catalogue, Usage> {
    let here = std::env::current_dir().map_err(|error| Usage(error.to_string()))?;
    Catalogue::find(&here).map_err(|error| Usage(error.to_string()))
}

fn chosen(catalogue: &Catalogue, names: &[String]) -> Result<Vec<Server>, Usage> {
    if names.is_empty() {
        let ours = catalogue.servers.iter().filter(|server| server.is_ours());
        return Ok(ours.cloned().collect());
    }
    let server = |name: &String| {
        let server = catalogue.server(name);
        server.cloned().map_err(|error| Usage(error.to_string()))
    };
    names.iter().map(server).collect()
}

fn plan(arguments: &Arguments) -> Result<Plan, Usage> {
    let behaviour = |name: &String| {
        let known = BEHAVIOURS.iter().find(|behaviour| behaviour.name == name);
        known.ok_or_else(|| {
            Usage(format!(
                "--only {name}: `--only list` lists those there are"
            ))
        })
    };
    if let Some(path) = &arguments.json {
        check_file(path)?;
    }
    Ok(Plan {
        time: arguments.time,
        connections: arguments.connections as usize,
        rate_per_s: f64::from(arguments.rate),
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
        only: (arguments.only.iter().map(behaviour)).collect::<Result<_, _>>()?,
        may_starve: arguments.may_starve,
        idle_timeout: arguments.idle_timeout,
        header_timeout: arguments.header_timeout,
        grace: arguments.grace,
        patience: arguments.patience,
        arguments: arguments.arguments.clone(),
    })
}

/// Checks, before anything is measured, that a file can be written there.
fn check_file(path: &Path) -> Result<(), Usage> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let shown = path.display();
    if path.is_dir() {
        return Err(Usage(format!("--json {shown}: is a folder")));
    }
    if !folder.is_dir() {
        return Err(Usage(format!("--json {shown}: there is no folder for it")));
    }
    Ok(())
}

/// Open files needed besides connections, by this program for each server and by a server.
const FILES_RESERVED: u64 = 64;

/// Checks, before anything starts, that the limit of open files allows all connections. Raises the soft limit to
/// the hard one. The servers inherit the limit, and each needs fewer files than this program.
fn require_files(arguments: &Arguments, servers: usize) -> Result<(), Usage> {
    let at_once = if arguments.together { servers } else { 1 } as u64;
    let needed = (u64::from(arguments.connections) + FILES_RESERVED) * at_once;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|error| Usage(format!("cannot read the limit of open files: {error}")))?;
    if needed > hard {
        return Err(Usage(format!(
            "{} connections to {at_once} servers at once need {needed} open files, the limit is {hard} \
             (ulimit -Hn); use fewer connections or raise the limit",
            arguments.connections
        )));
    }
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .map_err(|error| Usage(format!("raising the limit of open files: {error}")))?;
    }
    Ok(())
}

fn list_behaviours() -> io::Result<()> {
    let mut text = String::new();
    for behaviour in &BEHAVIOURS {
        let nature = match behaviour.nature {
            Nature::Honest => "honest",
            Nature::Rude => "rude",
            Nature::Slow => "slow",
        };
        let Behaviour {
            name, share, about, ..
        } = behaviour;
        let percent = f64::from(*share) / 10.0;
        text += &format!("{name:<16} {percent:>4}%  {nature:<7} {about}\n");
    }
    write(io::stdout(), &text)
}

/// Writes the whole text. It is not an error if the reader stops early, as `head` does.
fn write(mut out: impl io::Write, text: &str) -> io::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// A time above zero, such as `10m` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; expected a time such as 10m or 30s")),
    }
}
