//! What is measured, from what stands on the command line and in the catalogue.

use std::collections::BTreeSet;
use std::time::Duration;

use super::auto::{PRECISION, ROUNDS_MIN, TIME_LIMIT};
use super::laboratory::now;
use super::{Arguments, Rounds};
use crate::catalogue::{Catalogue, Server, Workload};
use crate::cli::Usage;
use crate::cli::common::Cpus;
use crate::set::{self, Auto, Campaign};
use crate::shell::quoted;

const ROUNDS: u32 = 6;
const ROUNDS_QUICK: u32 = 3;

/// What `--quick` makes of each duration and warm-up.
const QUICK_SCALE: f64 = 0.4;

pub(super) fn campaign(arguments: Arguments, catalogue: &Catalogue) -> Result<Campaign, Usage> {
    let usage = |error: crate::catalogue::Error| Usage(error.to_string());
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u32(..));
    let command = command(&arguments, seed);
    let mut servers = arguments.servers;
    if let Some(server) = &arguments.aa {
        catalogue.server(server).map_err(usage)?;
        servers = ["a", "b"].map(|half| format!("{server}.{half}")).to_vec();
    } else if servers.is_empty() {
        let ours = catalogue.servers.iter().filter(|server| !server.reference);
        servers.extend(ours.map(|server| server.name.clone()));
    } else {
        let asked = catalogue.servers(&servers).map_err(usage)?;
        servers = asked.iter().map(|server| server.name.clone()).collect();
    }
    without_repetition(&mut servers);
    // In an A/A measurement there is none of these: the two halves have names that no server has.
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
    let workloads = catalogue.workloads(&arguments.workloads).map_err(usage)?;
    let workloads = workloads.into_iter().map(|workload| match arguments.quick {
        true => quick(workload),
        false => workload.clone(),
    });
    let auto = match arguments.rounds {
        Some(Rounds::Auto) => Some(Auto {
            precision: arguments.precision.unwrap_or(PRECISION),
            time_limit: arguments.time_limit.unwrap_or(TIME_LIMIT),
            ended: false,
        }),
        _ if arguments.precision.is_some() || arguments.time_limit.is_some() => {
            let message = "--precision and --time-limit say when to end: they need --rounds auto";
            return Err(Usage(message.to_owned()));
        }
        _ => None,
    };
    // Where one server is measured as two, only their difference is asked for.
    let ledger = !arguments.no_ledger && arguments.aa.is_none();
    Ok(Campaign {
        schema: set::SCHEMA,
        command,
        started: now(),
        seed,
        rounds: match arguments.rounds {
            Some(Rounds::Auto) => ROUNDS_MIN,
            Some(Rounds::Count(rounds)) => rounds.get(),
            None if arguments.quick => ROUNDS_QUICK,
            None => ROUNDS,
        },
        servers,
        aa: arguments.aa,
        floor,
        references,
        ledger,
        server_args: arguments.server_arg,
        auto,
        server_groups,
        workloads: workloads.collect(),
    })
}

/// The servers of a campaign, by the names they have in it.
pub(super) fn servers(campaign: &Campaign, catalogue: &Catalogue) -> Result<Vec<Server>, Usage> {
    let server = |name: &String| {
        let entry = catalogue.server(campaign.aa.as_ref().unwrap_or(name))?;
        Ok(Server {
            name: name.clone(),
            ..entry.clone()
        })
    };
    let servers = campaign.servers.iter().map(server);
    let servers: Result<_, crate::catalogue::Error> = servers.collect();
    servers.map_err(|error| Usage(error.to_string()))
}

/// The command that does the same again, wherever its set may go.
fn command(arguments: &Arguments, seed: u32) -> String {
    let mut command = "loadgen measure".to_owned();
    if let Some(server) = &arguments.aa {
        command += &format!(" --aa {}", quoted(server));
    }
    if !arguments.servers.is_empty() {
        command += &format!(" --servers {}", quoted(arguments.servers.join(",")));
    }
    if !arguments.workloads.is_empty() {
        command += &format!(" --workloads {}", quoted(arguments.workloads.join(",")));
    }
    match arguments.rounds {
        Some(Rounds::Count(rounds)) => command += &format!(" --rounds {rounds}"),
        Some(Rounds::Auto) => command += " --rounds auto",
        None => {}
    }
    if let Some(precision) = arguments.precision {
        command += &format!(" --precision {}", super::auto::percent(precision));
    }
    if let Some(limit) = arguments.time_limit {
        let limit = humantime::format_duration(limit).to_string();
        command += &format!(" --time-limit {}", limit.replace(' ', ""));
    }
    for (name, given) in [
        ("--quick", arguments.quick),
        ("--no-build", arguments.no_build),
        ("--no-ledger", arguments.no_ledger),
    ] {
        if given {
            command += &format!(" {name}");
        }
    }
    for (name, cpus) in [
        ("--pin-server", &arguments.pin_server),
        ("--pin-client", &arguments.pin_client),
    ] {
        if let Some(Cpus(cpus)) = cpus {
            let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
            command += &format!(" {name} {}", cpus.join(","));
        }
    }
    for argument in &arguments.server_arg {
        command += &format!(" --server-arg={}", quoted(argument));
    }
    command + &format!(" --seed {seed}")
}

fn quick(workload: &Workload) -> Workload {
    let scale = |time: Duration| {
        // To the millisecond, so that it reads well in the record.
        Duration::from_millis((time.as_secs_f64() * QUICK_SCALE * 1e3).ceil() as u64)
    };
    Workload {
        duration: scale(workload.duration),
        warmup: scale(workload.warmup),
        ..workload.clone()
    }
}

fn without_repetition(names: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
}
