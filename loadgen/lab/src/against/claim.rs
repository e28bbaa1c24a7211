//! Parses the reports of load generators for the few values that all of them print.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Program;

/// What a generator reports about its run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Completed requests.
    pub requests: u64,
    /// Requests per second.
    pub requests_per_s: f64,
    /// Failed requests, and answers with an error status.
    pub errors: u64,
}

/// Parses the output of `program`.
pub(super) fn parse(program: Program, stdout: &str) -> Result<Claim, String> {
    match program {
        Program::Loadgen => loadgen(stdout),
        Program::Wrk => wrk(stdout),
        Program::Oha => oha(stdout),
        Program::H2load => h2load(stdout),
        Program::Hey => hey(stdout),
        Program::Ab => ab(stdout),
    }
}

/// Parses the JSON of `loadgen run`.
fn loadgen(stdout: &str) -> Result<Claim, String> {
    #[derive(Deserialize)]
    struct Output {
        requests: u64,
        requests_per_s: Option<f64>,
        errors: Vec<Errors>,
    }
    #[derive(Deserialize)]
    struct Errors {
        count: u64,
    }
    let output: Output = json(stdout)?;
    Ok(Claim {
        requests: output.requests,
        requests_per_s: output.requests_per_s.unwrap_or(0.0),
        errors: output.errors.iter().map(|errors| errors.count).sum(),
    })
}

/// Parses `144522 requests in 1.00s, 10.20MB read`, and lines about errors if there are any.
fn wrk(stdout: &str) -> Result<Claim, String> {
    let mut lines = stdout.lines();
    let requests = lines.find_map(|line| line.split_once(" requests in "));
    let (requests, _) = requests.ok_or_else(|| missing("requests in", stdout))?;
    let of_sockets = behind("Socket errors:", stdout).unwrap_or("");
    let of_sockets = of_sockets.split_terminator(", ").map(|part| {
        let (_, count) = part.split_once(' ').unwrap_or(("", part));
        number::<u64>(count)
    });
    let of_status = behind("Non-2xx or 3xx responses:", stdout).map(number);
    Ok(Claim {
        requests: number(requests)?,
        requests_per_s: number(required("Requests/sec:", stdout)?)?,
        errors: of_sockets.chain(of_status).sum::<Result<u64, _>>()?,
    })
}

/// Parses oha's JSON, which is the same for `--output-format json` and, in earlier versions,
/// `--json`.
fn oha(stdout: &str) -> Result<Claim, String> {
    #[derive(Deserialize)]
    struct Output {
        summary: Summary,
        #[serde(rename = "statusCodeDistribution")]
        status: BTreeMap<String, u64>,
        #[serde(rename = "errorDistribution", default)]
        errors: BTreeMap<String, u64>,
    }
    #[derive(Deserialize)]
    struct Summary {
        #[serde(rename = "requestsPerSec")]
        requests_per_s: f64,
    }
    let output: Output = json(stdout)?;
    let of_status = (output.status.iter()).filter(|(status, _)| is_failure(status));
    // Requests in flight at the end are listed with the errors, but are not errors.
    let others = (output.errors.iter()).filter(|(what, _)| !what.contains("deadline"));
    Ok(Claim {
        requests: output.status.values().sum(),
        requests_per_s: output.summary.requests_per_s,
        errors: of_status.chain(others).map(|(_, count)| count).sum(),
    })
}

/// Parses `finished in 1.00s, 132189.00 req/s, 9.33MB/s` and `requests: 132189 total, 132253
/// started, 132189 done, 132189 succeeded, 0 failed, ..`. Errored and timed-out requests count as
/// failed.
fn h2load(stdout: &str) -> Result<Claim, String> {
    let part = |line: &'static str, unit: &str| -> Result<&str, String> {
        let mut parts = behind(line, stdout).unwrap_or("").split(", ");
        let value = parts.find_map(|part| part.strip_suffix(unit));
        value.ok_or_else(|| missing(unit.trim(), stdout))
    };
    Ok(Claim {
        requests: number(part("requests:", " done")?)?,
        requests_per_s: number(part("finished in", " req/s")?)?,
        errors: number(part("requests:", " failed")?)?,
    })
}

/// Parses `Total: 1.0008 secs`, `Requests/sec: 47174.0398`, then `[404] 15 responses` and `[10] Get
/// ..: EOF` under headings. hey keeps at most a million answers to count by status, so the number
/// of requests is computed from the rate.
fn hey(stdout: &str) -> Result<Claim, String> {
    let seconds: f64 = number(required("Total:", stdout)?.trim_end_matches(" secs"))?;
    let requests_per_s: f64 = number(required("Requests/sec:", stdout)?)?;
    let rows = |heading: &'static str| {
        let lines = stdout.lines().skip_while(move |line| *line != heading);
        let rows = lines.skip(1).take_while(|line| !line.trim().is_empty());
        rows.filter_map(|row| row.trim().strip_prefix('[')?.split_once(']'))
    };
    let of_status = rows("Status code distribution:")
        .filter(|(status, _)| is_failure(status))
        .map(|(_, count)| number::<u64>(count.trim_end_matches(" responses")));
    let others = rows("Error distribution:").map(|(count, _)| number(count));
    Ok(Claim {
        requests: (requests_per_s * seconds).round() as u64,
        requests_per_s,
        errors: of_status.chain(others).sum::<Result<_, _>>()?,
    })
}

/// Parses `Complete requests: 174687`, `Failed requests: 0`, `Requests per second: 174635.66
/// [#/sec] (mean)`. To ab, an answer whose length differs from the first has failed, whatever its
/// status; an error status with the same length has not, and is only listed as non-2xx.
fn ab(stdout: &str) -> Result<Claim, String> {
    let rate = required("Requests per second:", stdout)?;
    let rate = rate.split(' ').next().unwrap_or(rate);
    let failed: u64 = number(required("Failed requests:", stdout)?)?;
    let of_status = behind("Non-2xx responses:", stdout).map_or(Ok(0), number)?;
    Ok(Claim {
        requests: number(required("Complete requests:", stdout)?)?,
        requests_per_s: number(rate)?,
        errors: failed.max(of_status),
    })
}

/// The text after `label` in the first line that begins with it.
fn behind<'a>(label: &str, text: &'a str) -> Option<&'a str> {
    let mut lines = text.lines();
    let rest = lines.find_map(|line| line.trim_start().strip_prefix(label));
    rest.map(str::trim)
}

/// The text after a label that is always printed.
fn required<'a>(label: &str, text: &'a str) -> Result<&'a str, String> {
    behind(label, text).ok_or_else(|| missing(label, text))
}

fn number<N: FromStr>(text: &str) -> Result<N, String> {
    let text = text.trim();
    text.parse()
        .map_err(|_| format!("its output has {text:?} where a number should be"))
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("its output is not as expected: {error}"))
}

fn missing(what: &str, text: &str) -> String {
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    match last {
        Some(last) => format!("its output has no {what:?}; it ends with {last:?}"),
        None => "it printed nothing".to_owned(),
    }
}

fn is_failure(status: &str) -> bool {
    status.starts_with(['4', '5'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs recorded against the responder, and against a server that now and then closed
    /// connections or answered 404; for oha, outputs made up from its schema and source.
    #[test]
    fn samples() {
        let rows = [
            (
                Program::Wrk,
                include_str!("samples/wrk.txt"),
                144_522,
                144_303.09,
                0,
            ),
            (
                Program::Wrk,
                include_str!("samples/wrk-errors.txt"),
                73_792,
                67_124.22,
                7_528,
            ),
            (
                Program::Oha,
                include_str!("samples/oha.json"),
                172_344,
                86_164.475,
                5,
            ),
            (
                Program::Oha,
                include_str!("samples/oha-first.json"),
                70_507,
                70_412.488,
                0,
            ),
            (
                Program::H2load,
                include_str!("samples/h2load.txt"),
                132_189,
                132_189.0,
                0,
            ),
            (
                Program::H2load,
                include_str!("samples/h2load-errors.txt"),
                196,
                196.0,
                16,
            ),
            (
                Program::Hey,
                include_str!("samples/hey.txt"),
                47_212,
                47_174.039_8,
                0,
            ),
            (
                Program::Hey,
                include_str!("samples/hey-errors.txt"),
                40,
                5_899.638,
                25,
            ),
            (
                Program::Ab,
                include_str!("samples/ab.txt"),
                174_687,
                174_635.66,
                0,
            ),
            (
                Program::Ab,
                include_str!("samples/ab-errors.txt"),
                71_532,
                71_530.78,
                7_151,
            ),
            (
                Program::Loadgen,
                r#"{"schema":1,"requests":100,"requests_per_s":50.5,"errors":[{"phase":"send","kind":"reset","count":3},{"count":4}]}"#,
                100,
                50.5,
                7,
            ),
        ];
        for (program, stdout, requests, requests_per_s, errors) in rows {
            let expected = Claim {
                requests,
                requests_per_s,
                errors,
            };
            assert_eq!(parse(program, stdout), Ok(expected), "{program:?}");
        }
    }

    /// Anything else is refused with a line of it, wherever it breaks off.
    #[test]
    fn nonsense() {
        let rows = [
            (Program::Wrk, "", "it printed nothing"),
            (
                Program::Wrk,
                "unable to connect to 127.0.0.1:1 Connection refused\n",
                "its output has no \"requests in\"; it ends with \
                 \"unable to connect to 127.0.0.1:1 Connection refused\"",
            ),
            (
                Program::Wrk,
                "  12 requests in 1.00s, 1MB read\nRequests/sec: many\n",
                "its output has \"many\" where a number should be",
            ),
            (
                Program::H2load,
                "finished in 1.00s, 1.00 req/s, 9B/s\nrequests: 4 total, 4 done\n",
                "its output has no \"failed\"; it ends with \"requests: 4 total, 4 done\"",
            ),
            (
                Program::Oha,
                "{}",
                "its output is not as expected: missing field `summary` at line 1 column 2",
            ),
            (
                Program::Hey,
                "\nSummary:\n  Total:\t1.0 secs\n",
                "its output has no \"Requests/sec:\"; it ends with \"  Total:\\t1.0 secs\"",
            ),
            (
                Program::Ab,
                "Requests per second:    1.5 [#/sec] (mean)\nFailed requests: 0",
                "its output has no \"Complete requests:\"; it ends with \"Failed requests: 0\"",
            ),
        ];
        for (program, stdout, expected) in rows {
            assert_eq!(parse(program, stdout).unwrap_err(), expected, "{program:?}");
        }
    }
}
