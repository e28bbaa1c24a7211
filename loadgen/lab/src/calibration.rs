//! The limits of the generator on a machine: its ceilings, its cost per request, and the shortest
//! time that it can measure. A server's figure that comes close to one of these describes the
//! generator.
//!
//! One thread of the generator on one CPU measures everything against the
//! [`responder`](crate::responder), in rounds; values are medians over rounds. In the file format
//! the responder is called the floor (`floor_*`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::against::Run;
use engine::figures::thousands;
use engine::plan::{ConnectionLife, Plan};
use engine::record::Outcome;
use engine::verdict::CLIENT_BUSY_MAX;
use subject::machine::{Machine, Pinning};

/// The version of the schema; it grows when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// The rate at which the generator's own lag is measured: one that it reaches with ease.
pub const LAG_RATE_PER_S: f64 = 5_000.0;

/// A server whose rate exceeds this share of a ceiling was measured at the generator's limit.
pub const NEAR_CEILING: f64 = 0.9;

/// A calibration as stored: rates per second, times in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The date, RFC 3339 in UTC.
    pub date: String,
    /// Version of the generator.
    pub loadgen: String,
    /// Profile of the generator: `release` or `debug`.
    pub profile: String,
    /// The machine.
    pub machine: Place,
    /// The CPUs of the responder and the generator. The generator's thread runs on the first of its
    /// own.
    pub pinning: Pinning,
    /// The share of all CPUs' time that the hypervisor took meanwhile, in percent.
    pub steal_percent: Option<f64>,
    /// The counted time of each round, in seconds.
    pub duration_s: f64,
    /// Connections used for both ceilings.
    pub connections: usize,
    /// The ceiling with keep-alive connections, for one thread.
    pub requests_per_s: f64,
    /// What limited the rate of requests.
    pub requests_limited_by: Limit,
    /// The ceiling with a new connection for every request, for one thread.
    pub connections_per_s: f64,
    /// What limited the rate of connections.
    pub connections_limited_by: Limit,
    /// CPU time of the generator per request on a keep-alive connection.
    pub client_cpu_us_per_request: f64,
    /// CPU time of the generator per connection with one request.
    pub client_cpu_us_per_connection: f64,
    /// CPU time of the responder per request on a keep-alive connection.
    pub floor_cpu_us_per_request: f64,
    /// CPU time of the responder per connection with one request.
    pub floor_cpu_us_per_connection: f64,
    /// Response time without other load: one connection in closed loop.
    pub latency_us: Latency,
    /// The generator's own lag, in open loop at [`LAG_RATE_PER_S`].
    pub lag_us: Latency,
    /// The rounds behind the medians.
    pub rounds: Vec<Round>,
    /// This generator and others against the same responder, this one first; empty if not
    /// requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<Standing>,
}

/// The facts of a machine that must be equal for a calibration to apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The model as in `/proc/cpuinfo`.
    pub cpu_model: Option<String>,
    /// CPUs that the generator could use.
    pub cpus: usize,
    /// Name, release and architecture of the kernel.
    pub kernel: Option<String>,
    /// The hypervisor, if there is one.
    pub hypervisor: Option<String>,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// With keep-alive connections.
    pub requests: Ceiling,
    /// With a new connection for every request.
    pub connections: Ceiling,
    /// With one connection.
    pub latency_us: Latency,
    /// In open loop at [`LAG_RATE_PER_S`].
    pub lag_us: Latency,
    /// Reasons for doubt; empty on a quiet machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

/// What one thread of the generator achieved against the responder, and how busy both were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Responses per second.
    pub per_s: f64,
    /// CPU time of the generator's thread per response, in microseconds.
    pub client_cpu_us: f64,
    /// CPU time of the responder per response, in microseconds.
    pub floor_cpu_us: f64,
    /// The share of its time that the generator's thread was running, 0 to 1.
    pub client_busy: f64,
    /// The share of its time that the responder was running, 0 to 1.
    pub floor_busy: f64,
}

/// Response times or lags, in microseconds; absent if the sample is too small.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
}

/// Which of the two reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The generator's thread was busy without a pause: this is its ceiling.
    Generator,
    /// The responder was busy and the generator was not: the generator can do more.
    Floor,
    /// Neither was busy: something else took the CPUs.
    Neither,
}

/// A load generator compared with this one: medians over rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Name of the program.
    pub program: String,
    /// The version that it reports.
    pub version: Option<String>,
    /// CPU time of its process per request that the responder has seen, in microseconds.
    pub client_cpu_us_per_request: f64,
    /// That time divided by loadgen's in the same round.
    pub ratio: f64,
    /// The rate that it reports.
    pub requests_per_s: f64,
    /// The runs behind the medians, one per round.
    pub runs: Vec<Run>,
}

/// Why there is no calibration, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not exist.
    #[error("no calibration at {}; `loadgen calibrate --json {}` makes one", path.display(), engine::shell::quoted_path(path))]
    NotFound {
        /// The requested path.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The requested path.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The file is not a calibration.
    #[error("{} is not a calibration: {cause}; `loadgen calibrate --json FILE` makes one", path.display())]
    Wrong {
        /// The requested path.
        path: PathBuf,
        /// The first deviation from the format.
        cause: serde_json::Error,
    },
    /// The file has the schema of another loadgen.
    #[error(
        "{} has schema {schema}, and this loadgen reads schema {SCHEMA}; calibrate again",
        path.display()
    )]
    Schema {
        /// The requested path.
        path: PathBuf,
        /// The schema of the file.
        schema: u64,
    },
}

impl Calibration {
    /// Reads the output of `loadgen calibrate --json`.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is not a calibration.
    pub fn read(path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            schema: u64,
        }

        let path = path.to_owned();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { path });
            }
            Err(cause) => return Err(Error::Io { path, cause }),
        };
        // The schema is checked first, because another one may have other fields.
        match serde_json::from_str(&text) {
            Ok(Version { schema }) if schema == u64::from(SCHEMA) => {}
            Ok(Version { schema }) => return Err(Error::Schema { path, schema }),
            Err(cause) => return Err(Error::Wrong { path, cause }),
        }
        serde_json::from_str(&text).map_err(|cause| Error::Wrong { path, cause })
    }

    /// A note about a run that came close to a ceiling.
    pub fn note(&self, plan: &Plan, outcome: &Outcome) -> Option<String> {
        let (ceiling, what) = match plan.life {
            ConnectionLife::Requests(1) => (self.connections_per_s, "connections"),
            _ if plan.pipeline == 1 => (self.requests_per_s, "requests"),
            // There is no ceiling for such runs.
            _ => return None,
        };
        if outcome.is_too_short() {
            return None;
        }
        let responses = outcome.record.counts.answered_in_window as f64;
        let per_s = responses / outcome.duration.as_secs_f64() / plan.threads as f64;
        (per_s > NEAR_CEILING * ceiling).then(|| {
            format!(
                "At {:.0}% of the {} {what} per second that one thread of the generator can reach on this \
                 machine: the server may be capable of more.",
                100.0 * per_s / ceiling,
                thousands(ceiling.round() as u64)
            )
        })
    }

    /// How `machine`, or the running generator, differs from what was calibrated; empty if the
    /// calibration applies.
    pub fn fits(&self, machine: &Machine) -> Vec<String> {
        let here = Place::of(machine);
        let number = |cpus: usize| Some(cpus.to_string());
        let text = |text: &str| Some(text.to_owned());
        let facts = [
            ("CPU", self.machine.cpu_model.clone(), here.cpu_model),
            (
                "number of CPUs",
                number(self.machine.cpus),
                number(here.cpus),
            ),
            ("kernel", self.machine.kernel.clone(), here.kernel),
            (
                "hypervisor",
                self.machine.hypervisor.clone(),
                here.hypervisor,
            ),
            (
                "loadgen",
                text(&self.loadgen),
                text(env!("CARGO_PKG_VERSION")),
            ),
            ("profile of loadgen", text(&self.profile), text(profile())),
        ];
        let differences = facts.into_iter().filter(|(_, then, now)| then != now);
        let shown = |fact: Option<String>| fact.unwrap_or_else(|| "none".to_owned());
        differences
            .map(|(what, then, now)| {
                format!(
                    "{what}: calibrated with {}, here {}",
                    shown(then),
                    shown(now)
                )
            })
            .collect()
    }

    /// Summarizes rounds; there must be at least one.
    pub fn of(setup: Setup, rounds: Vec<Round>) -> Self {
        let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value)).unwrap_or(f64::NAN);
        let latency = |value: fn(&Round) -> Option<f64>| median(rounds.iter().filter_map(value));
        let limit = |ceiling: fn(&Round) -> &Ceiling| {
            let busy = |value: fn(&Ceiling) -> f64| {
                median(rounds.iter().map(|round| value(ceiling(round)))).unwrap_or(0.0)
            };
            match (busy(|it| it.client_busy), busy(|it| it.floor_busy)) {
                (CLIENT_BUSY_MAX.., _) => Limit::Generator,
                (_, CLIENT_BUSY_MAX..) => Limit::Floor,
                _ => Limit::Neither,
            }
        };
        Calibration {
            schema: SCHEMA,
            date: setup.date,
            loadgen: env!("CARGO_PKG_VERSION").to_owned(),
            profile: profile().to_owned(),
            machine: Place::of(&setup.machine),
            pinning: setup.machine.pinning,
            steal_percent: setup.machine.steal_percent,
            duration_s: setup.duration_s,
            connections: setup.connections,
            requests_per_s: of(|round| round.requests.per_s),
            requests_limited_by: limit(|round| &round.requests),
            connections_per_s: of(|round| round.connections.per_s),
            connections_limited_by: limit(|round| &round.connections),
            client_cpu_us_per_request: of(|round| round.requests.client_cpu_us),
            client_cpu_us_per_connection: of(|round| round.connections.client_cpu_us),
            floor_cpu_us_per_request: of(|round| round.requests.floor_cpu_us),
            floor_cpu_us_per_connection: of(|round| round.connections.floor_cpu_us),
            latency_us: Latency {
                p50: latency(|round| round.latency_us.p50),
                p99: latency(|round| round.latency_us.p99),
            },
            lag_us: Latency {
                p50: latency(|round| round.lag_us.p50),
                p99: latency(|round| round.lag_us.p99),
            },
            rounds,
            against: Vec::new(),
        }
    }
}

/// The circumstances under which rounds were measured.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The date, RFC 3339 in UTC.
    pub date: String,
    /// The machine, with pinning and with the steal during the rounds.
    pub machine: Machine,
    /// The counted time of each measurement, in seconds.
    pub duration_s: f64,
    /// Connections used for both ceilings.
    pub connections: usize,
}

impl Place {
    fn of(machine: &Machine) -> Self {
        Place {
            cpu_model: machine.cpu_model.clone(),
            cpus: machine.cpus,
            kernel: machine.kernel.clone(),
            hypervisor: machine.hypervisor.clone(),
        }
    }
}

impl Standing {
    /// Compares the runs of a program with those of loadgen in the same rounds; `None` without
    /// runs.
    pub fn of(
        program: &str,
        version: Option<String>,
        runs: Vec<Run>,
        loadgens: &[Run],
    ) -> Option<Self> {
        let cpu = || runs.iter().map(Run::client_cpu_us_per_request);
        let loadgens = loadgens.iter().map(Run::client_cpu_us_per_request);
        Some(Standing {
            program: program.to_owned(),
            version,
            client_cpu_us_per_request: median(cpu())?,
            ratio: median(cpu().zip(loadgens).map(|(its, loadgens)| its / loadgens))?,
            requests_per_s: median(runs.iter().map(|run| run.claim.requests_per_s))?,
            runs,
        })
    }
}

fn profile() -> &'static str {
    match cfg!(debug_assertions) {
        true => "debug",
        false => "release",
    }
}

/// The median with three decimals; `None` without values.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| thousandths(crate::median::median(&mut values)))
}

/// Rounds to three decimals: more would be noise in any value kept here.
pub fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::against::Claim;

    fn ceiling(per_s: f64, client_busy: f64, floor_busy: f64) -> Ceiling {
        Ceiling {
            per_s,
            client_cpu_us: thousandths(client_busy * 1e6 / per_s),
            floor_cpu_us: thousandths(floor_busy * 1e6 / per_s),
            client_busy,
            floor_busy,
        }
    }

    fn machine() -> Machine {
        Machine {
            cpu_model: Some("A CPU".to_owned()),
            cpus: 2,
            kernel: Some("Linux 6 x86_64".to_owned()),
            pinning: Pinning::split(&[0, 1], &subject::machine::Siblings::new()),
            ..Machine::default()
        }
    }

    fn calibration() -> Calibration {
        let setup = Setup {
            date: "2026-01-01T00:00:00Z".to_owned(),
            machine: machine(),
            duration_s: 2.0,
            connections: 64,
        };
        let round = |per_s: f64, p99| Round {
            requests: ceiling(per_s, 0.99, 0.99),
            connections: ceiling(per_s / 7.0, 0.7, 0.96),
            latency_us: Latency {
                p50: Some(20.5),
                p99,
            },
            lag_us: Latency {
                p50: Some(5.0),
                p99: Some(20.0),
            },
            doubts: Vec::new(),
        };
        let rounds = vec![
            round(150_000.0, Some(31.0)),
            round(170_000.0, None),
            round(160_000.0, Some(33.0)),
        ];
        Calibration::of(setup, rounds)
    }

    #[test]
    fn medians_over_rounds() {
        let calibration = calibration();
        assert_eq!(calibration.requests_per_s, 160_000.0);
        assert_eq!(calibration.connections_per_s, 22_857.143);
        assert_eq!(calibration.client_cpu_us_per_request, 6.188);
        // Both were busy: then the generator was at its limit, whatever the responder could do.
        assert_eq!(calibration.requests_limited_by, Limit::Generator);
        assert_eq!(calibration.connections_limited_by, Limit::Floor);
        // The median of the available values.
        assert_eq!(calibration.latency_us.p99, Some(32.0));
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let run = |client_cpu_s, requests| Run {
            client_cpu_s,
            requests,
            claim: Claim {
                requests,
                requests_per_s: requests as f64,
                errors: 0,
            },
        };
        // The second round was slow for both.
        let ours = [run(1.0, 200_000), run(1.0, 100_000), run(1.0, 200_000)];
        let theirs = vec![run(1.0, 100_000), run(1.0, 50_000), run(1.0, 80_000)];
        let standing = Standing::of("wrk", None, theirs, &ours).unwrap();
        assert_eq!(standing.ratio, 2.0);
        assert_eq!(standing.client_cpu_us_per_request, 12.5);
        assert_eq!(standing.requests_per_s, 80_000.0);
    }

    #[test]
    fn written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calibration.json");
        let mut calibration = calibration();
        let read = |calibration: &Calibration| {
            fs::write(&path, serde_json::to_string_pretty(calibration).unwrap()).unwrap();
            Calibration::read(&path).unwrap()
        };
        assert_eq!(read(&calibration), calibration);
        let run = Run {
            client_cpu_s: 0.973_125,
            requests: 150_001,
            claim: Claim {
                requests: 150_000,
                requests_per_s: 149_999.123,
                errors: 1,
            },
        };
        calibration.against = vec![Standing::of("wrk", None, vec![run], &[run]).unwrap()];
        calibration.steal_percent = Some(0.25);
        assert_eq!(read(&calibration), calibration);
    }

    #[test]
    fn what_is_no_calibration_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        let error = || Calibration::read(&path).unwrap_err().to_string();
        let shown = path.display();
        assert_eq!(
            error(),
            format!("no calibration at {shown}; `loadgen calibrate --json {shown}` makes one")
        );
        let rows = [
            (
                "{}",
                "is not a calibration: missing field `schema` at line 1 column 2; \
                 `loadgen calibrate --json FILE` makes one",
            ),
            (
                "{\"schema\": 1}",
                "is not a calibration: missing field `date` at line 1 column 13; \
                 `loadgen calibrate --json FILE` makes one",
            ),
            (
                "{\"schema\": 2, \"other\": 0}",
                "has schema 2, and this loadgen reads schema 1; calibrate again",
            ),
        ];
        for (text, expected) in rows {
            fs::write(&path, text).unwrap();
            assert_eq!(error(), format!("{shown} {expected}"));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(error(), format!("{shown}: Is a directory (os error 21)"));
    }

    #[test]
    fn it_fits_the_machine_and_the_program_that_made_it() {
        let mut calibration = calibration();
        assert_eq!(calibration.fits(&machine()), [""; 0]);
        // The pinning is not a property of the machine.
        let unpinned = Machine {
            pinning: Pinning::default(),
            ..machine()
        };
        assert_eq!(calibration.fits(&unpinned), [""; 0]);
        let other = Machine {
            cpus: 64,
            hypervisor: Some("KVM".to_owned()),
            ..machine()
        };
        calibration.loadgen = "0.0.1".to_owned();
        assert_eq!(
            calibration.fits(&other),
            [
                "number of CPUs: calibrated with 2, here 64".to_owned(),
                "hypervisor: calibrated with none, here KVM".to_owned(),
                format!(
                    "loadgen: calibrated with 0.0.1, here {}",
                    env!("CARGO_PKG_VERSION")
                ),
            ]
        );
    }
}
