//! `loadgen run`: one workload against one server, at a URL or from the catalogue.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum};

use super::slo;
use crate::Usage;
use crate::common::{Cpus, count, duration, duration_or_zero, interruption, require_files};
use crate::output::say;
use crate::outputs::Outputs;
use crate::place::{Place, resolve};
use crate::request::Request;
use crate::run_progress::RunProgress;
use crate::sources::Sources;
use crate::until::Until;
use engine::drive;
use engine::drive::Moment;
use engine::http_url::HttpUrl;
use engine::limits::{CONNECTIONS_MAX, PIPELINE_MAX, THREADS_MAX};
use engine::plan::{Close, ConnectionLife, Limit, Pace, Plan, Precision, Rate};
use engine::ports;
use engine::ports::Budget;
use engine::record::Outcome;
use engine::verdict;
use engine::verdict::Status;
use lab::calibration::Calibration;
use lab::json;
use lab::run::Run;
use lab::slo::{Confirmation, Slo};
use report::screen::with_arguments;
use subject::catalogue::{Catalogue, Server};
use subject::fault::Fault;
use subject::meter::Metered;
use subject::process;
use subject::process::ServerCost;
use subject::session::Session;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// URL (http:// may be omitted), or several URLs of one server, requested in turn; or a name from
    /// benches/servers.toml: that server is built, started and stopped. `user:password@` sends Authorization:
    /// Basic, and is shown as `****`
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<String>,
    #[command(flatten, next_help_heading = "Load")]
    load: Load,
    #[command(flatten, next_help_heading = "Search")]
    slo: slo::Options,
    #[command(flatten, next_help_heading = "Connections")]
    connections: Connections,
    #[command(flatten, next_help_heading = "Request")]
    request: Request,
    #[command(flatten, next_help_heading = "Output")]
    outputs: Outputs,
    #[command(flatten, next_help_heading = "Placement")]
    placement: Placement,
}

const EXAMPLES: &str = "\
Examples:
  loadgen run http://localhost:8000/ -d 30s        closed loop: the maximum
  loadgen run http://localhost:8000/ -r 5k         open loop: latency at 5,000/s
  loadgen run http://localhost:8000/ -r 5k --until 'p99±5%'
  loadgen run http://localhost:8000/ -k 1 -n 100000   a new connection each time
  loadgen run event-loop --json run.json           a server of this repository
  loadgen run event-loop --idle 10000 --server-arg=--idle-timeout=10m

In closed loop each request waits for the response to the one before, so a slow
server gets fewer requests and its queue stays hidden. To measure latency as
users see it, use -r.

Exit code 0; 1 if the numbers are not valid; 2 for a wrong command.";

#[derive(Debug, Args)]
struct Load {
    /// Open loop: requests per second, such as 5000, 5k/s or 300/m
    #[arg(short, long, value_name = "RATE")]
    rate: Option<Rate>,
    /// constant (equal intervals) or poisson (random, as from many users) [default: constant]
    #[arg(long, value_name = "KIND", hide_possible_values = true)]
    arrivals: Option<Arrivals>,
    /// Seed for Poisson arrivals; reuse it to repeat a run [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Counted time
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Number of requests, instead of a duration
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "duration", value_parser = count::<NonZeroU64>)]
    requests: Option<NonZeroU64>,
    /// Run until a percentile is this precise: 'p99±5%', or p99+-5%
    #[arg(long, value_name = "PRECISION", conflicts_with_all = ["duration", "requests"])]
    until: Option<Until>,
    /// Time limit for --until [default: 60s]
    #[arg(long, value_name = "TIME", requires = "until", value_parser = duration)]
    max_duration: Option<Duration>,
    /// Warm-up before requests count [default: 1s, with -n 0s]
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero)]
    warmup: Option<Duration>,
    /// How long to wait, after the end, for requests that were due
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration_or_zero)]
    drain: Duration,
}

impl Load {
    /// The pace that a rate results in.
    fn pace(&self) -> fn(Rate) -> Pace {
        match self.arrivals {
            Some(Arrivals::Poisson) => Pace::Poisson,
            Some(Arrivals::Constant) | None => Pace::Constant,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Arrivals {
    Constant,
    Poisson,
}

#[derive(Debug, Args)]
struct Connections {
    /// Connections open at once; with --rate, the maximum
    #[arg(short, long, value_name = "N", default_value = "64", value_parser = count::<NonZeroUsize>)]
    connections: NonZeroUsize,
    /// Also open N idle connections; each makes one request first
    #[arg(long, value_name = "N", default_value = "0")]
    idle: usize,
    /// Requests on each connection: 1 = a new connection each time, 0 = keep-alive
    #[arg(short = 'k', long, value_name = "N", default_value = "0")]
    requests_per_connection: u64,
    /// Requests in flight on each connection
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = count::<NonZeroUsize>)]
    pipeline: NonZeroUsize,
    /// How to close: fin (orderly), or rst (no TIME_WAIT; unread data is lost)
    #[arg(
        long,
        value_name = "HOW",
        default_value = "fin",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(["fin", "rst"]).map(|how| close(&how))
    )]
    close: Close,
    /// Source addresses, used in turn: 127.0.0.1,127.0.0.2 or 127.0.0.0/28
    #[arg(long, value_name = "ADDR,...")]
    source: Option<Sources>,
}

fn close(how: &str) -> Close {
    match how {
        "rst" => Close::Rst,
        _ => Close::Fin,
    }
}

#[derive(Debug, Args)]
struct Placement {
    /// Threads among which connections are divided
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = count::<NonZeroUsize>)]
    threads: NonZeroUsize,
    /// CPUs for the generator's threads, such as 1 or 2-3
    #[arg(long, value_name = "CPUS")]
    pin_client: Option<Cpus>,
    /// CPUs for a server started by name
    #[arg(long, value_name = "CPUS")]
    pin_server: Option<Cpus>,
    /// One more argument for a server started by name; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    server_arg: Vec<String>,
}

/// The default time limit for `--until`.
const MAX_DURATION: Duration = Duration::from_secs(60);

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let place = Place::find(&arguments.targets)?;
    check(&arguments, &place)?;
    let calibration = arguments.outputs.calibration()?;
    let interrupted = interruption()?;

    let session = match &place {
        Place::Urls(_) => None,
        Place::Server(catalogue, server) => Some(start(&arguments, catalogue, server)?),
    };
    let sources = arguments.connections.source.clone().unwrap_or_default();
    let (urls, addresses) = match (&place, &session) {
        (Place::Urls(urls), _) => (urls.clone(), resolve(&urls[0], &sources.0)?),
        (_, Some(session)) => {
            let address = session.target().address();
            (vec![HttpUrl::at(address)], vec![address])
        }
        (Place::Server(..), None) => unreachable!("a server of the catalogue was started"),
    };
    sources.check_target(addresses[0])?;
    let plan = Plan {
        requests: urls
            .iter()
            .map(|url| arguments.request.bytes(url))
            .collect(),
        sources: sources.0,
        ..plan(&arguments, Plan::new(addresses[0], Vec::new()))
    };
    if let Some(warning) = ports::forecast(&plan, Budget::here()) {
        say!("{}", textwrap::fill(&format!("warning: {warning}"), 80));
    }
    let subject = Subject {
        urls: urls.iter().map(ToString::to_string).collect(),
        name: match &place {
            Place::Server(_, server) => Some(&server.name),
            Place::Urls(_) => None,
        },
        arguments: &arguments.placement.server_arg,
        session,
        began: Cell::new(SystemTime::now()),
        addresses: RefCell::new(addresses),
        calibration: calibration.as_ref(),
        interrupted: &interrupted,
    };
    match arguments.slo.objective() {
        Some(objective) => subject.search(objective, &arguments, &plan),
        None => subject.once(&arguments, &plan),
    }
}

/// Checks the options before anything starts.
fn check(arguments: &Arguments, place: &Place) -> Result<(), Usage> {
    let connections = arguments.connections.connections.get();
    let refuse = |message: &str| Err(Usage(message.to_owned()));
    let threads = arguments.placement.threads.get();
    if threads > THREADS_MAX {
        return Err(Usage(format!("--threads: at most {THREADS_MAX}")));
    }
    for (flag, count) in [
        ("--connections", connections),
        ("--idle", arguments.connections.idle),
    ] {
        if count > CONNECTIONS_MAX {
            return Err(Usage(format!("{flag}: at most {CONNECTIONS_MAX}")));
        }
    }
    if threads > connections {
        return Err(Usage(format!(
            "{threads} threads cannot share {connections} connections: each needs at least one"
        )));
    }
    let pipeline = arguments.connections.pipeline.get();
    if pipeline > PIPELINE_MAX {
        return Err(Usage(format!("--pipeline: at most {PIPELINE_MAX}")));
    }
    let open_loop = arguments.load.rate.is_some() || arguments.slo.objective().is_some();
    for (flag, given) in [
        ("--arrivals", arguments.load.arrivals.is_some()),
        ("--seed", arguments.load.seed.is_some()),
    ] {
        if given && !open_loop {
            return Err(Usage(format!(
                "{flag} sets when requests are due: it needs --rate or --slo"
            )));
        }
    }
    if arguments.slo.objective().is_some() && arguments.outputs.is_about_one_run() {
        return refuse(
            "--slo makes many runs: it can be combined with --json, but not with --format, --hlog or --hgrm",
        );
    }
    if pipeline > 1 && arguments.load.rate.is_some() {
        return refuse(
            "--pipeline cannot be combined with --rate: in open loop a request waits for a free connection",
        );
    }
    let each = arguments.connections.requests_per_connection;
    if arguments.request.server_closes() && (each > 1 || pipeline > 1) {
        return refuse(
            "the header field Connection: close allows one request on each connection: \
             it cannot be combined with -k or -p above 1",
        );
    }
    if each > 0 && pipeline as u64 > each {
        return Err(Usage(format!(
            "--pipeline: {pipeline} requests cannot be in flight on a connection that has {each}"
        )));
    }
    if arguments.request.server_closes() && arguments.connections.idle > 0 {
        return refuse(
            "the header field Connection: close leaves no connection idle: it cannot be combined with --idle",
        );
    }
    let Placement {
        pin_server,
        server_arg,
        ..
    } = &arguments.placement;
    for (flag, given) in [
        ("--pin-server", pin_server.is_some()),
        ("--server-arg", !server_arg.is_empty()),
    ] {
        if given && matches!(place, Place::Urls(_)) {
            return Err(Usage(format!(
                "{flag} needs a server that loadgen starts: a name, not a URL"
            )));
        }
    }
    arguments.request.check(place.urls())?;
    arguments.outputs.check()?;
    if let Some(sources) = &arguments.connections.source {
        sources.check()?;
        if let Place::Server(_, server) = place {
            sources.check_server(&server.name)?;
        }
    }
    require_files(connections, arguments.connections.idle)
}

fn start(arguments: &Arguments, catalogue: &Catalogue, server: &Server) -> anyhow::Result<Session> {
    process::build(server, &catalogue.root)?;
    let cpus = arguments.placement.pin_server.clone();
    let options = process::Options {
        cpus: cpus.map(|Cpus(cpus)| cpus).unwrap_or_default(),
        arguments: arguments.placement.server_arg.clone(),
        ..process::Options::default()
    };
    Ok(Session::start(server, &catalogue.root, &options)?)
}

/// The requested plan, except for target and sources.
fn plan(arguments: &Arguments, base: Plan) -> Plan {
    let Arguments {
        load,
        connections,
        request,
        placement,
        ..
    } = arguments;
    let limit = match (load.requests, load.until) {
        (Some(requests), _) => Limit::Requests(requests.get()),
        (None, Some(until)) => Limit::Until(Precision {
            percentile: until.percentile,
            within: until.within,
            at_most: load.max_duration.unwrap_or(MAX_DURATION),
        }),
        (None, None) => Limit::For(load.duration),
    };
    let server_closes = request.server_closes();
    let cpus = placement.pin_client.clone().map(|Cpus(cpus)| cpus);
    Plan {
        head_only: request.method == "HEAD",
        server_closes,
        expect: request.expected(),
        connections: connections.connections.get(),
        idle: connections.idle,
        threads: placement.threads.get(),
        life: match server_closes {
            true => ConnectionLife::Requests(1),
            false => ConnectionLife::from_requests(connections.requests_per_connection),
        },
        close: connections.close,
        pipeline: connections.pipeline.get(),
        pace: load.rate.map_or(Pace::Closed, load.pace()),
        // Short enough to type again.
        seed: load.seed.unwrap_or_else(|| fastrand::u32(..).into()),
        limit,
        warmup: load.warmup.unwrap_or(match limit {
            Limit::For(_) | Limit::Until(_) => Duration::from_secs(1),
            Limit::Requests(_) => Duration::ZERO,
        }),
        drain: load.drain,
        timeout: request.timeout,
        cpus: cpus.unwrap_or_default(),
        ..base
    }
}

/// A server, and the facts that are reported for every run against it.
struct Subject<'a> {
    urls: Vec<String>,
    /// Its name in the catalogue.
    name: Option<&'a str>,
    /// Its arguments, in addition to those of the catalogue.
    arguments: &'a [String],
    /// Present if it was started for this command.
    session: Option<Session>,
    /// When the first counted request of the last run was due.
    began: Cell<SystemTime>,
    /// Addresses of the server. If nothing listens at the first, the next is tried: a name such as
    /// `localhost` often has an IPv6 address too. The run itself tries them, because a connection made only to
    /// find out would not be counted.
    addresses: RefCell<Vec<SocketAddr>>,
    calibration: Option<&'a Calibration>,
    interrupted: &'a AtomicBool,
}

/// A finished run, with its cost if the server was started by loadgen.
type Measured = Confirmation<Option<ServerCost>>;

impl Subject<'_> {
    /// Makes one run of the plan.
    fn once(mut self, arguments: &Arguments, plan: &Plan) -> anyhow::Result<ExitCode> {
        let (plan, outcome, metered) = self.drive(plan)?;
        let mut verdict = verdict::judge(&plan, &outcome);
        let used_by_others = (metered.cost.as_ref()).and_then(|cost| cost.cpus_used_by_others);
        verdict::server_cpus(used_by_others, &mut verdict);
        verdict.notes.extend(metered.unknown);
        for fault in [metered.fault, self.stop()].into_iter().flatten() {
            let reason = format!("the server {fault}");
            verdict.object(Status::Invalid, reason, fault.advice());
        }
        if let Some(calibration) = self.calibration {
            verdict.notes.extend(calibration.note(&plan, &outcome));
        }
        let measured = Measured {
            plan,
            outcome,
            verdict,
            cost: metered.cost,
        };
        arguments
            .outputs
            .write(&self.run(&measured), self.began.get())?;
        Ok(match measured.verdict.status {
            Status::Valid | Status::ClientBound => ExitCode::SUCCESS,
            Status::Invalid => ExitCode::FAILURE,
        })
    }

    /// Makes runs until the largest rate that meets an objective is found.
    fn search(
        mut self,
        objective: &Slo,
        arguments: &Arguments,
        plan: &Plan,
    ) -> anyhow::Result<ExitCode> {
        let target = match self.name {
            Some(name) => {
                let server = with_arguments(name, self.arguments);
                format!("{server} at {}", self.urls[0])
            }
            None => self.urls.join(" "),
        };
        let request = slo::Request {
            target: &target,
            plan,
            rate: arguments.load.rate,
            arrivals: arguments.load.pace(),
            json: arguments.outputs.json(),
        };
        let drive = &mut |plan: &Plan| {
            let (_, outcome, metered) = self.drive(plan)?;
            if let Some(fault) = metered.fault {
                anyhow::bail!("the server {fault}");
            }
            Ok((outcome, metered.cost))
        };
        let to_json =
            &|measured: Measured| Ok(serde_json::to_value(json::Run::of(&self.run(&measured)))?);
        let code = arguments.slo.run(objective, &request, drive, to_json);
        match self.stop() {
            // This is the cause of anything else that was seen.
            Some(fault) => anyhow::bail!("the server {fault}"),
            None => code,
        }
    }

    /// Stops a server that was started for this command, and returns what was wrong with how it ended.
    fn stop(&mut self) -> Option<Fault> {
        let (_, ended) = self.session.take()?.end();
        ended.err()
    }

    fn run<'m>(&'m self, measured: &'m Measured) -> Run<'m> {
        Run {
            urls: &self.urls,
            server: self.name,
            server_args: self.arguments,
            plan: &measured.plan,
            outcome: &measured.outcome,
            verdict: &measured.verdict,
            server_cost: measured.cost.as_ref(),
            calibration: self.calibration,
        }
    }

    /// Drives a plan, and returns it with the address that was used.
    fn drive(&self, plan: &Plan) -> anyhow::Result<(Plan, Outcome, Metered)> {
        loop {
            let (address, others) = {
                let addresses = self.addresses.borrow();
                (addresses[0], addresses.len() - 1)
            };
            let plan = Plan {
                target: address,
                ..plan.clone()
            };
            let (outcome, metered) = self.drive_once(&plan)?;
            let idle = outcome.idle.as_ref().map_or(0, |idle| idle.connections);
            let reached = outcome.record.counts.connections_opened + idle > 0;
            if reached || outcome.interrupted || others == 0 {
                return Ok((plan, outcome, metered));
            }
            self.addresses.borrow_mut().remove(0);
        }
    }

    fn drive_once(&self, plan: &Plan) -> anyhow::Result<(Outcome, Metered)> {
        let progress = RunProgress::start(plan, self.interrupted);
        let mut meter = self.session.as_ref().map(Session::meter);
        let outcome = drive::run_observed(plan, self.interrupted, &mut |moment| {
            progress.on(moment);
            if let Some(meter) = &mut meter {
                meter.on(moment);
            }
            if let Moment::Begin(_) = moment {
                self.began.set(SystemTime::now());
            }
        });
        progress.clear();
        let mut outcome = outcome.context("running the load")?;
        let metered = meter.map(|meter| meter.finish(Some(&mut outcome), plan.pipeline));
        Ok((outcome, metered.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use engine::response::Expected;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// What a command line makes of a plan, or why it is refused.
    fn parse(line: &str) -> Result<Plan, String> {
        let words = format!("run http://127.0.0.1:9/ {line}");
        let line = Line::try_parse_from(words.split_whitespace()).map_err(|e| e.to_string())?;
        let place = Place::find(&line.arguments.targets).map_err(|e| e.to_string())?;
        check(&line.arguments, &place).map_err(|e| e.to_string())?;
        let base = Plan::new("127.0.0.1:9".parse().unwrap(), Vec::new());
        Ok(plan(&line.arguments, base))
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn without_flags() {
        let plan = parse("").unwrap();
        assert_eq!((plan.connections, plan.threads, plan.pipeline), (64, 1, 1));
        assert_eq!(plan.idle, 0);
        assert_eq!(plan.pace, Pace::Closed);
        assert_eq!(plan.life, ConnectionLife::KeepAlive);
        assert_eq!(plan.close, Close::Fin);
        assert_eq!(plan.limit, Limit::For(seconds(10)));
        assert_eq!(
            (plan.warmup, plan.drain, plan.timeout),
            (seconds(1), seconds(1), seconds(5))
        );
        assert!(!plan.head_only && !plan.server_closes && plan.expect.is_none());
    }

    #[test]
    fn each_flag_is_in_the_plan() {
        let rate = |rate| Rate::per_second(rate).unwrap();
        let until = |percentile, within, at_most| {
            Limit::Until(Precision {
                percentile,
                within,
                at_most,
            })
        };
        type Check<'a> = &'a dyn Fn(&Plan) -> bool;
        let cases: &[(&str, Check<'_>)] = &[
            ("-r 5k", &|p| p.pace == Pace::Constant(rate(5e3))),
            ("--rate 300/m", &|p| p.pace == Pace::Constant(rate(5.0))),
            ("-r 5 --arrivals constant", &|p| {
                p.pace == Pace::Constant(rate(5.0))
            }),
            ("-r 5 --arrivals poisson", &|p| {
                p.pace == Pace::Poisson(rate(5.0))
            }),
            ("-r 5 --seed 42", &|p| p.seed == 42),
            ("-d 1m30s", &|p| p.limit == Limit::For(seconds(90))),
            ("-d 500ms", &|p| {
                p.limit == Limit::For(Duration::from_millis(500))
            }),
            ("-n 7", &|p| {
                p.limit == Limit::Requests(7) && p.warmup.is_zero()
            }),
            ("-n 7 --warmup 2s", &|p| p.warmup == seconds(2)),
            ("--until p99+-5%", &|p| {
                p.limit == until(99.0, 0.05, seconds(60))
            }),
            ("--until p99.9±2% --max-duration 5m", &|p| {
                p.limit == until(99.9, 0.02, seconds(300)) && p.warmup == seconds(1)
            }),
            ("--warmup 0", &|p| p.warmup.is_zero()),
            ("--drain 250ms", &|p| p.drain == Duration::from_millis(250)),
            ("--drain 0s", &|p| p.drain.is_zero()),
            ("-c 3 -t 2", &|p| (p.connections, p.threads) == (3, 2)),
            ("--idle 10000", &|p| (p.connections, p.idle) == (64, 10_000)),
            ("-k 1", &|p| p.life == ConnectionLife::Requests(1)),
            ("-k 0", &|p| p.life == ConnectionLife::KeepAlive),
            ("-p 16", &|p| p.pipeline == 16),
            ("-k 16 -p 16", &|p| p.pipeline == 16),
            ("--close fin", &|p| p.close == Close::Fin),
            ("--close rst", &|p| p.close == Close::Rst),
            ("-H Connection:close", &|p| {
                p.server_closes && p.life == ConnectionLife::Requests(1)
            }),
            ("-H Connection:close -k 1 -r 5", &|p| p.server_closes),
            ("-m HEAD", &|p| p.head_only),
            ("--timeout 30s", &|p| p.timeout == seconds(30)),
            ("--expect-body hi", &|p| {
                p.expect.as_deref() == Some(&Expected::Text(b"hi".to_vec()))
            }),
        ];
        for (line, check) in cases {
            let plan = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(check(&plan), "{line}: {plan:?}");
        }
    }

    #[test]
    fn seeds_differ_unless_given() {
        let seeds = [(); 8].map(|()| parse("-r 5").unwrap().seed);
        assert!(seeds.iter().any(|seed| *seed != seeds[0]), "{seeds:?}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (line, message) in [
            ("-c 0", "expected a number of 1 or more"),
            ("-t 0", "expected a number of 1 or more"),
            ("-p 0", "expected a number of 1 or more"),
            ("-n 0", "expected a number of 1 or more"),
            ("-n x", "expected a number of 1 or more"),
            ("-k -1", "unexpected argument"),
            ("-d 0s", "longer than zero"),
            ("-d 30", "did you mean 30s?"),
            ("--warmup 2", "did you mean 2s?"),
            ("--drain 1.5", "such as 10s"),
            ("--timeout never", "such as 10s"),
            ("-d 1s -n 1", "cannot be used with"),
            ("-d 1s --until p99+-5%", "cannot be used with"),
            ("-n 1 --until p99+-5%", "cannot be used with"),
            ("--max-duration 5s", "--until"),
            ("--until p99", "such as 'p99±5%'"),
            ("--until p101+-5%", "from p50 to p99.99"),
            ("-r 0", "expected a rate"),
            ("-r -5", "unexpected argument"),
            ("-r fast", "such as 5000/s, 5k/s or 300/m"),
            ("--arrivals poisson", "--rate"),
            ("--slo p99<5ms --hgrm x", "makes many runs"),
            ("--slo p99<5ms --format github", "makes many runs"),
            ("--slo p99", "such as 'p99<5ms'"),
            ("--seed 1", "--rate"),
            (
                "-r 5 --arrivals bursts",
                "[possible values: constant, poisson]",
            ),
            ("-r 5 -p 2", "waits for a free connection"),
            ("-c 2 -t 3", "3 threads cannot share 2"),
            ("-p 1025", "at most 1024"),
            (
                "-k 2 -p 3",
                "3 requests cannot be in flight on a connection that has 2",
            ),
            ("-H Connection:close -k 2", "one request"),
            ("-H Connection:close -p 2", "one request"),
            ("-c 9000000", "open files"),
            ("-c 10000001", "--connections: at most 10000000"),
            ("-c 18446744073709551616", "expected a number"),
            ("-t 100000", "--threads: at most 1024"),
            ("-d 18446744073709551615s", "the maximum is 365 days"),
            ("--warmup 366d", "the maximum is 365 days"),
            (
                "--timeout 18446744073709551615s1000000000ns",
                "the maximum is 365 days",
            ),
            ("--close abort", "[possible values: fin, rst]"),
            ("--source here", "expected addresses such as"),
            ("--source 10.0.0.0/8", "at most 256"),
            ("--source 192.0.2.1", "not an address of this machine"),
            ("-H nonsense", "expected `Name: value`"),
            ("--body @/no/such/file", "No such file"),
            ("--expect-body sha256:0", "64 hexadecimal digits"),
            ("-m HEAD --expect-body x", "HEAD has no body"),
            (
                "--format xml",
                "[possible values: text, github, github-bigger, bencher]",
            ),
            ("--format github --json -", "both write to stdout"),
            (
                "--json /no/such/folder/run.json",
                "there is no folder /no/such/folder",
            ),
            ("--hgrm /", "is a folder"),
            ("--pin-client 9999", "CPU 9999 is not available here"),
            (
                "--idle 9000000",
                "64 connections and 9000000 idle ones need 9000128 open files",
            ),
            ("--idle 18446744073709551615", "at most 10000000"),
            ("--idle -1", "unexpected argument"),
            ("--idle 1 -H Connection:close", "no connection idle"),
            ("--pin-server 0", "a name, not a URL"),
            ("--server-arg --idle-timeout", "a name, not a URL"),
            ("http://127.0.0.1:10/", "must share host and port"),
            ("event-loop", "a server's name must be the only target"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(message), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_fits_80_columns() {
        use clap::CommandFactory as _;
        let help = Line::command().term_width(80).render_help().to_string();
        // An example that is broken cannot be copied.
        for line in help.lines().chain(EXAMPLES.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for heading in [
            "Load:",
            "Connections:",
            "Request:",
            "Output:",
            "Placement:",
            "Examples:",
        ] {
            assert!(help.contains(heading), "{help}");
        }
    }
}
