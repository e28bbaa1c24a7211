//! Other load generators, run against the same responder as this one, so that their costs per
//! request can be compared.
//!
//! The responder counts what each generator did, and the kernel what it cost; the generator's own
//! report ([`Claim`]) is compared with both.

mod claim;
mod invocation;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use claim::Claim;
pub use invocation::{Failure, run};

/// A known load generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// This program.
    #[value(skip)]
    Loadgen,
    /// <https://github.com/wg/wrk>
    Wrk,
    /// <https://github.com/hatoo/oha>
    Oha,
    /// From <https://nghttp2.org>
    H2load,
    /// <https://github.com/rakyll/hey>
    Hey,
    /// ApacheBench.
    Ab,
}

impl Program {
    /// The name of its command.
    pub fn name(self) -> &'static str {
        match self {
            Program::Loadgen => "loadgen",
            Program::Wrk => "wrk",
            Program::Oha => "oha",
            Program::H2load => "h2load",
            Program::Hey => "hey",
            Program::Ab => "ab",
        }
    }

    /// A command that installs it.
    pub fn install(self) -> &'static str {
        match self {
            Program::Loadgen => "cargo install --path loadgen",
            Program::Wrk => "apt install wrk",
            Program::Oha => "cargo install oha --locked",
            Program::H2load => "apt install nghttp2-client",
            Program::Hey => "apt install hey",
            Program::Ab => "apt install apache2-utils",
        }
    }
}

/// The load, the same for all generators: keep-alive connections with one request in flight on
/// each, in closed loop, from one thread if that can be chosen.
#[derive(Debug, Clone)]
pub struct Load {
    /// URL of the responder.
    pub url: String,
    /// Connections open at once.
    pub connections: usize,
    /// Duration in whole seconds, since wrk and ab accept no others.
    pub seconds: u64,
}

/// A load generator that is installed on this machine.
#[derive(Debug, Clone)]
pub struct Generator {
    /// The program.
    pub program: Program,
    /// The version that it reports.
    pub version: Option<String>,
    path: PathBuf,
    /// Options that make it print JSON, if it can; for oha they depend on the version.
    json: &'static [&'static str],
}

impl Generator {
    /// This program.
    ///
    /// # Errors
    ///
    /// If the system does not report the path of this program.
    pub fn own() -> std::io::Result<Self> {
        Ok(Generator {
            program: Program::Loadgen,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            path: env::current_exe()?,
            json: &["--json", "-"],
        })
    }

    /// Looks for a program on the search path.
    pub fn find(program: Program) -> Option<Self> {
        let path = on_path(program.name())?;
        let output = |option: &str| {
            let mut command = Command::new(&path);
            let output = command.arg(option).stdin(Stdio::null()).output().ok()?;
            // Some programs exit with an error when asked for their version, but print it.
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let version = match program {
            Program::Ab => output("-V"),
            // The program has no such option.
            Program::Hey => None,
            _ => output("--version"),
        };
        let json: &[&str] = match program {
            Program::Oha if output("--help")?.contains("--output-format") => {
                &["--output-format", "json"]
            }
            Program::Oha => &["--json"],
            _ => &[],
        };
        Some(Generator {
            program,
            version: version.as_deref().and_then(version_in),
            path,
            json,
        })
    }

    /// The command that puts `load` on the target and prints what [`claim`](Self::claim) reads.
    pub fn command(&self, load: &Load) -> Vec<String> {
        let Load {
            url,
            connections,
            seconds,
        } = load;
        let options = match self.program {
            Program::Loadgen => {
                format!("run {url} -c {connections} -t 1 -d {seconds}s --warmup 0s")
            }
            Program::Wrk => format!("-t1 -c{connections} -d{seconds}s {url}"),
            // oha has no option for threads; it starts one for each CPU that it may use.
            Program::Oha => format!("-z {seconds}s -c {connections} --no-tui {url}"),
            Program::H2load => format!("--h1 -t 1 -c {connections} -D {seconds} {url}"),
            Program::Hey => format!("-z {seconds}s -c {connections} -cpus 1 {url}"),
            // ab also stops at this number of requests, and reserves memory for them.
            Program::Ab => {
                let enough = seconds * 1_000_000;
                format!("-k -q -c {connections} -t {seconds} -n {enough} {url}")
            }
        };
        let path = self.path.to_string_lossy().into_owned();
        let words = options.split(' ').chain(self.json.iter().copied());
        [path].into_iter().chain(words.map(str::to_owned)).collect()
    }

    /// Parses the program's report in `stdout`.
    ///
    /// # Errors
    ///
    /// If `stdout` is not what the program prints after a run.
    pub fn claim(&self, stdout: &str) -> Result<Claim, String> {
        claim::parse(self.program, stdout)
    }
}

/// One run of a load generator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// User and system CPU time of its process, from start to end, in seconds.
    pub client_cpu_s: f64,
    /// Requests that the responder has seen.
    pub requests: u64,
    /// The generator's own report.
    pub claim: Claim,
}

impl Run {
    /// CPU time per request, in microseconds.
    pub fn client_cpu_us_per_request(&self) -> f64 {
        self.client_cpu_s * 1e6 / self.requests as f64
    }

    /// How much its own count exceeds the responder's, as a share of the latter; `None` if it is
    /// within 1%, or within the number of `connections`, each of which may have had a request in
    /// flight at the end.
    pub fn false_share(&self, connections: usize) -> Option<f64> {
        let excess = self.claim.requests as f64 - self.requests as f64;
        let share = excess / self.requests as f64;
        (share.abs() > 0.01 && excess.abs() > connections as f64).then_some(share)
    }
}

/// An executable file with this name in the folders of `PATH`.
fn on_path(name: &str) -> Option<PathBuf> {
    let is_executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&env::var_os("PATH")?)
        .filter_map(|folder| std::path::absolute(folder.join(name)).ok())
        .find(is_executable)
}

/// The first word of the first line that looks like a version.
fn version_in(text: &str) -> Option<String> {
    let looks_like_one = |word: &&str| {
        word.contains('.') && word.contains(|c: char| c.is_ascii_digit()) && !word.contains("://")
    };
    let word = text.lines().next()?.split_whitespace().find(looks_like_one);
    word.map(|word| word.trim_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, expected) in [
            (
                "wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\nUsage: wrk",
                Some("debian/4.1.0-3+b2"),
            ),
            ("h2load nghttp2/1.52.0\n", Some("nghttp2/1.52.0")),
            (
                "This is ApacheBench, Version 2.3 <$Revision$>\nCopyright 1996",
                Some("2.3"),
            ),
            ("oha 1.16.0", Some("1.16.0")),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(version_in(text).as_deref(), expected, "for {text:?}");
        }
    }

    #[test]
    fn commands() {
        let load = Load {
            url: "http://127.0.0.1:80/".to_owned(),
            connections: 64,
            seconds: 2,
        };
        for (program, json, expected) in [
            (
                Program::Wrk,
                &[][..],
                "/x/wrk -t1 -c64 -d2s http://127.0.0.1:80/",
            ),
            (
                Program::Oha,
                &["--output-format", "json"],
                "/x/oha -z 2s -c 64 --no-tui http://127.0.0.1:80/ --output-format json",
            ),
            (
                Program::H2load,
                &[],
                "/x/h2load --h1 -t 1 -c 64 -D 2 http://127.0.0.1:80/",
            ),
            (
                Program::Hey,
                &[],
                "/x/hey -z 2s -c 64 -cpus 1 http://127.0.0.1:80/",
            ),
            (
                Program::Ab,
                &[],
                "/x/ab -k -q -c 64 -t 2 -n 2000000 http://127.0.0.1:80/",
            ),
        ] {
            let generator = Generator {
                program,
                version: None,
                path: format!("/x/{}", program.name()).into(),
                json,
            };
            assert_eq!(generator.command(&load).join(" "), expected);
        }
    }

    #[test]
    fn claims_are_held_against_the_truth() {
        for (claimed, requests, expected) in [
            (1000, 1000, None),
            (10_000, 10_064, None),
            (1_009_000, 1_000_000, None),
            (1_020_000, 1_000_000, Some(0.02)),
            (950_000, 1_000_000, Some(-0.05)),
            // Requests in flight are tolerated, however large their share.
            (900, 964, None),
        ] {
            let run = Run {
                client_cpu_s: 1.0,
                requests,
                claim: Claim {
                    requests: claimed,
                    requests_per_s: 1.0,
                    errors: 0,
                },
            };
            assert_eq!(run.false_share(64), expected, "{claimed} of {requests}");
        }
    }
}
