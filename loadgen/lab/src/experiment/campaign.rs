//! What is measured: a request, completed from the catalogue.

use std::time::Duration;

use engine::affinity::list_of;
use engine::shell::quoted;
use subject::catalogue::{Catalogue, Error, Server, Workload};

use super::now;
use super::rounds::{PRECISION, ROUNDS_MIN, TIME_LIMIT, percent};
use crate::set::{self, Auto, Campaign};

/// A request for a measurement.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Servers by name or group; if empty, ours and the floor.
    pub servers: Vec<String>,
    /// Workloads by name, group or glob; if empty, the group `default`.
    pub workloads: Vec<String>,
    /// The number of rounds.
    pub rounds: Option<Rounds>,
    /// With [`Rounds::Auto`]: how far the interval of the leading ratio may reach from it.
    pub precision: Option<f64>,
    /// With [`Rounds::Auto`]: no round starts that would end later.
    pub time_limit: Option<Duration>,
    /// A server to measure as two.
    pub aa: Option<String>,
    /// Shorter cells and fewer rounds.
    pub quick: bool,
    /// Use existing binaries; do not build.
    pub no_build: bool,
    /// Do not count system calls and memory.
    pub no_ledger: bool,
    /// CPUs of the server, if chosen.
    pub pin_server: Option<Vec<usize>>,
    /// CPUs of the generator, if chosen.
    pub pin_client: Option<Vec<usize>>,
    /// Further arguments for every server.
    pub server_args: Vec<String>,
    /// Seed for the order of cells; random if absent.
    pub seed: Option<u32>,
}

/// The number of rounds, each of which measures every cell once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// This many.
    Count(u32),
    /// As many as it takes until the leading ratios are precise enough.
    Auto,
}

/// The reason that a request is refused, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// The catalogue has no such server or workload.
    #[error(transparent)]
    Unknown(#[from] Error),
    /// A limit for automatic rounds, although their number is given.
    #[error("--precision and --time-limit need --rounds auto")]
    NotAuto,
}

const ROUNDS: u32 = 6;
const ROUNDS_QUICK: u32 = 3;

/// The factor of `--quick` for each duration and warm-up.
const QUICK_SCALE: f64 = 0.4;

/// The campaign for a request.
///
/// # Errors
///
/// If it names something that is not in the catalogue, or contradicts itself.
pub fn campaign(request: Request, catalogue: &Catalogue) -> Result<Campaign, Invalid> {
    let seed = request.seed.unwrap_or_else(|| fastrand::u32(..));
    let command = command(&request, seed);
    let mut servers = request.servers;
    if let Some(server) = &request.aa {
        catalogue.server(server)?;
        servers = ["a", "b"].map(|half| format!("{server}.{half}")).to_vec();
    } else if servers.is_empty() {
        let ours = catalogue.servers.iter().filter(|server| !server.reference);
        servers.extend(ours.map(|server| server.name.clone()));
    } else {
        let asked = catalogue.servers(&servers)?;
        servers = asked.iter().map(|server| server.name.clone()).collect();
    }
    // Empty in an A/A measurement: no server has the names of the two halves.
    let servers_that = |is: &dyn Fn(&Server) -> bool| -> Vec<String> {
        let known = servers
            .iter()
            .filter_map(|name| catalogue.server(name).ok());
        let names = known.filter(|server| is(server));
        names.map(|server| server.name.clone()).collect()
    };
    let floor = servers_that(&|server| server.floor).into_iter().next();
    let references = servers_that(&|server| server.reference);
    let in_groups = servers_that(&|server| !server.groups.is_empty());
    let server_groups = in_groups.into_iter().filter_map(|name| {
        let groups = catalogue.server(&name).ok()?.groups.clone();
        Some((name, groups))
    });
    let server_groups = server_groups.collect();
    let workloads = catalogue.workloads(&request.workloads)?;
    let workloads = workloads.into_iter().map(|workload| match request.quick {
        true => quick(workload),
        false => workload.clone(),
    });
    let auto = match request.rounds {
        Some(Rounds::Auto) => Some(Auto {
            precision: request.precision.unwrap_or(PRECISION),
            time_limit: request.time_limit.unwrap_or(TIME_LIMIT),
            ended: false,
        }),
        _ if request.precision.is_some() || request.time_limit.is_some() => {
            return Err(Invalid::NotAuto);
        }
        _ => None,
    };
    // An A/A measurement is only about the difference of the two halves.
    let ledger = !request.no_ledger && request.aa.is_none();
    Ok(Campaign {
        schema: set::SCHEMA,
        command,
        started: now(),
        seed,
        rounds: match request.rounds {
            Some(Rounds::Auto) => ROUNDS_MIN,
            Some(Rounds::Count(rounds)) => rounds,
            None if request.quick => ROUNDS_QUICK,
            None => ROUNDS,
        },
        servers,
        aa: request.aa,
        floor,
        references,
        ledger,
        server_args: request.server_args,
        auto,
        server_groups,
        workloads: workloads.collect(),
    })
}

/// The servers of a campaign, by their names in it.
///
/// # Errors
///
/// If one of them is not in the catalogue.
pub fn servers(campaign: &Campaign, catalogue: &Catalogue) -> Result<Vec<Server>, Error> {
    let server = |name: &String| {
        let entry = catalogue.server(campaign.aa.as_ref().unwrap_or(name))?;
        Ok(Server {
            name: name.clone(),
            ..entry.clone()
        })
    };
    let servers = campaign.servers.iter().map(server);
    servers.collect()
}

/// The command that repeats the measurement, without the place of its set.
fn command(request: &Request, seed: u32) -> String {
    let mut command = "loadgen measure".to_owned();
    if let Some(server) = &request.aa {
        command += &format!(" --aa {}", quoted(server));
    }
    if !request.servers.is_empty() {
        command += &format!(" --servers {}", quoted(request.servers.join(",")));
    }
    if !request.workloads.is_empty() {
        command += &format!(" --workloads {}", quoted(request.workloads.join(",")));
    }
    match request.rounds {
        Some(Rounds::Count(rounds)) => command += &format!(" --rounds {rounds}"),
        Some(Rounds::Auto) => command += " --rounds auto",
        None => {}
    }
    if let Some(precision) = request.precision {
        command += &format!(" --precision {}", percent(precision));
    }
    if let Some(limit) = request.time_limit {
        let limit = humantime::format_duration(limit).to_string();
        command += &format!(" --time-limit {}", limit.replace(' ', ""));
    }
    for (name, given) in [
        ("--quick", request.quick),
        ("--no-build", request.no_build),
        ("--no-ledger", request.no_ledger),
    ] {
        if given {
            command += &format!(" {name}");
        }
    }
    for (name, cpus) in [
        ("--pin-server", &request.pin_server),
        ("--pin-client", &request.pin_client),
    ] {
        if let Some(cpus) = cpus {
            command += &format!(" {name} {}", list_of(cpus));
        }
    }
    for argument in &request.server_args {
        command += &format!(" --server-arg={}", quoted(argument));
    }
    command + &format!(" --seed {seed}")
}

fn quick(workload: &Workload) -> Workload {
    let scale = |time: Duration| {
        // Rounded to milliseconds, for a readable record.
        Duration::from_millis((time.as_secs_f64() * QUICK_SCALE * 1e3).ceil() as u64)
    };
    Workload {
        duration: scale(workload.duration),
        warmup: scale(workload.warmup),
        ..workload.clone()
    }
}
