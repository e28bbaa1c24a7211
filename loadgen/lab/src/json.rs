//! One run as JSON, schema version 1: times in microseconds unless a name says otherwise, rates per
//! second; an absent value is `null`, never 0.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use hmac_sha256::Hash as Sha256;

use crate::calibration::Calibration;
use crate::run;
use engine::fairness::Fairness;
use engine::latency::Latency;
use engine::plan::{Close, Limit, Pace, Plan, Rate};
use engine::record::{ClientCost, Closes, Counts, Idle, Kind, Phase, Record};
use engine::response::{Expected, Misread, Rule};
use engine::verdict::Verdict;
use subject::process::ServerCost;

/// The version of the schema; it grows when a field changes its meaning or is removed.
pub const SCHEMA: u32 = 1;

/// One run.
#[derive(Debug, Serialize)]
pub struct Run<'a> {
    schema: u32,
    version: &'static str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    /// Additional arguments of the server.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    server_args: &'a [String],
    plan: PlanFacts<'a>,
    verdict: &'a Verdict,
    /// The user stopped the run before its limit.
    interrupted: bool,
    duration_s: f64,
    /// Requests due by the schedule of an open loop.
    due: Option<u64>,
    /// Requests due by a schedule but never sent; `null` in closed loop.
    unsent: Option<u64>,
    /// Each counter under its name. `requests_per_s` comes from `answered_in_window`.
    #[serde(flatten)]
    counts: Counts,
    /// The idle connections, which are not part of other counts.
    idle: Option<&'a Idle>,
    requests_per_s: Option<f64>,
    connections_per_s: Option<f64>,
    latency_us: Latencies,
    errors: Vec<Error>,
    status: &'a BTreeMap<u16, u64>,
    fairness: Fairness,
    /// The longest period in which something was awaited and nothing arrived, in milliseconds.
    longest_silence_ms: Option<f64>,
    client: &'a ClientCost,
    server_cost: Option<&'a ServerCost>,
    /// The share of all CPUs' time that the hypervisor gave to others, 0 to 1.
    steal: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<&'a Calibration>,
    /// What the server sent on idle connections, which is not an error.
    unsolicited: Unsolicited<'a>,
    /// The first bytes that could not be parsed as a response.
    malformed: Option<Bytes>,
    closes: ClosesByServer,
}

/// What the server sent on idle connections, including the warm-up.
#[derive(Debug, Serialize)]
struct Unsolicited<'a> {
    count: u64,
    /// Well-formed responses by status.
    status: &'a BTreeMap<u16, u64>,
    empty_lines: u64,
    /// Connections with any other bytes.
    other: u64,
    /// Connections that were reset.
    resets: u64,
    /// The first of the other bytes.
    bytes: Option<Bytes>,
}

/// Bytes that are not HTTP/1.
#[derive(Debug, Serialize)]
struct Bytes {
    /// The rule that they break.
    rule: Rule,
    /// The protocol that they resemble; absent if unknown.
    protocol: Option<&'static str>,
    /// The first bytes: printable ASCII unchanged, everything else and backslashes escaped.
    bytes: String,
}

impl Bytes {
    fn of(misread: &Misread) -> Self {
        Bytes {
            rule: misread.rule,
            protocol: misread.protocol().map(|protocol| protocol.name),
            bytes: misread.bytes.escape_ascii().to_string(),
        }
    }
}

/// After how many responses the server closed connections.
#[derive(Debug, Serialize)]
struct ClosesByServer {
    /// A response announced the close.
    announced: Option<Closes>,
    /// The close was not announced, and requests were unanswered.
    unannounced: Option<Closes>,
}

impl ClosesByServer {
    fn of(record: &Record) -> Self {
        let some = |closes: Closes| (closes.connections > 0).then_some(closes);
        ClosesByServer {
            announced: some(record.closes_announced),
            unannounced: some(record.closes_unannounced),
        }
    }
}

#[derive(Debug, Serialize)]
struct PlanFacts<'a> {
    urls: &'a [String],
    connections: usize,
    idle: usize,
    threads: usize,
    requests_per_connection: u64,
    pipeline: usize,
    pace: Pace,
    arrivals: Option<&'static str>,
    rate_per_s: Option<f64>,
    /// Seed of the arrivals of an open loop.
    seed: Option<u64>,
    close: Close,
    /// The server is asked to close each connection.
    server_closes: bool,
    duration_s: Option<f64>,
    requests: Option<u64>,
    until: Option<Until>,
    warmup_s: f64,
    drain_s: f64,
    timeout_s: f64,
    sources: &'a [IpAddr],
    /// `sha256:` and the hash of the expected body.
    expect: Option<String>,
}

impl<'a> PlanFacts<'a> {
    fn of(plan: &'a Plan, urls: &'a [String]) -> Self {
        let open_loop = plan.pace.rate().is_some();
        let (duration, requests, until) = match plan.limit {
            Limit::For(duration) => (Some(duration), None, None),
            Limit::Requests(requests) => (None, Some(requests), None),
            Limit::Until(precision) => (None, None, Some(precision)),
        };
        PlanFacts {
            urls,
            connections: plan.connections,
            idle: plan.idle,
            threads: plan.threads,
            requests_per_connection: plan.life.requests(),
            pipeline: plan.pipeline,
            pace: plan.pace,
            arrivals: match plan.pace {
                Pace::Closed => None,
                Pace::Constant(_) => Some("constant"),
                Pace::Poisson(_) => Some("poisson"),
            },
            rate_per_s: plan.pace.rate().map(Rate::per_s),
            seed: open_loop.then_some(plan.seed),
            close: plan.close,
            server_closes: plan.server_closes,
            duration_s: duration.map(|duration| duration.as_secs_f64()),
            requests,
            until: until.map(|precision| Until {
                percentile: precision.percentile,
                within: precision.within,
                max_duration_s: precision.at_most.as_secs_f64(),
            }),
            warmup_s: plan.warmup.as_secs_f64(),
            drain_s: plan.drain.as_secs_f64(),
            timeout_s: plan.timeout.as_secs_f64(),
            sources: &plan.sources,
            expect: plan.expect.as_deref().map(fingerprint),
        }
    }
}

/// The requested precision of a percentile.
#[derive(Debug, Serialize)]
struct Until {
    percentile: f64,
    /// The share of the percentile that the interval may extend.
    within: f64,
    max_duration_s: f64,
}

fn fingerprint(expected: &Expected) -> String {
    let hash: [u8; 32] = match expected {
        Expected::Text(text) => Sha256::hash(text),
        Expected::Sha256(hash) => *hash,
    };
    let digits = hash.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

#[derive(Debug, Serialize)]
struct Latencies {
    response: Option<Latency>,
    service: Option<Latency>,
    connect: Option<Latency>,
    first_byte: Option<Latency>,
    /// Only in open loop.
    lag: Option<Latency>,
    /// The generator's own part of the lag.
    lag_own: Option<Latency>,
}

#[derive(Debug, Serialize)]
struct Error {
    phase: Phase,
    kind: Kind,
    count: u64,
}

impl<'a> Run<'a> {
    /// Everything about one run.
    pub fn of(run: &run::Run<'a>) -> Self {
        let record = &run.outcome.record;
        let open_loop = run.is_open_loop();
        let latency = |histogram: &hdrhistogram::Histogram<u64>| {
            let says = !histogram.is_empty() && !run.outcome.is_cut_short();
            says.then(|| Latency::of(histogram))
        };
        Run {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            target: run.urls.first().map_or("", String::as_str),
            server: run.server,
            server_args: run.server_args,
            plan: PlanFacts::of(run.plan, run.urls),
            verdict: run.verdict,
            interrupted: run.outcome.interrupted,
            duration_s: run.outcome.duration.as_secs_f64(),
            due: open_loop.then_some(record.counts.due),
            unsent: open_loop.then_some(record.counts.unsent),
            counts: record.counts,
            idle: run.outcome.idle.as_ref(),
            requests_per_s: run.requests_per_s(),
            connections_per_s: run.connections_per_s(),
            latency_us: Latencies {
                response: run.response(),
                service: run.service(),
                connect: latency(&record.connect),
                first_byte: latency(&record.first_byte),
                lag: latency(&record.lag).filter(|_| open_loop),
                lag_own: latency(&record.lag_own).filter(|_| open_loop),
            },
            errors: (record.errors.iter())
                .map(|(&(phase, kind), &count)| Error { phase, kind, count })
                .collect(),
            status: &record.status,
            fairness: Fairness::of(run.outcome),
            longest_silence_ms: (record.silences.as_ref())
                .filter(|_| !run.outcome.is_cut_short())
                .map(|silences| silences.longest_ns() as f64 / 1e6),
            client: &run.outcome.client,
            server_cost: run.server_cost,
            steal: run.outcome.steal,
            calibration: run.calibration,
            unsolicited: Unsolicited {
                count: record.unsolicited.count(),
                status: &record.unsolicited.status,
                empty_lines: record.unsolicited.empty_lines,
                other: record.unsolicited.other,
                resets: record.unsolicited.resets,
                bytes: record.unsolicited.misread.as_ref().map(Bytes::of),
            },
            malformed: record.misread.as_ref().map(Bytes::of),
            closes: ClosesByServer::of(record),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::fixture::Example;
    use engine::plan::Precision;

    /// Shortens long values.
    fn json(example: &Example) -> Value {
        let mut json = serde_json::to_value(Run::of(&example.run())).unwrap();
        for latency in json["latency_us"].as_object_mut().unwrap().values_mut() {
            if let Some(histogram) = latency.get_mut("histogram") {
                let text = histogram.as_str().unwrap();
                assert!(text.starts_with("HISTFAAA"), "{text}");
                *histogram = "...".into();
            }
        }
        json
    }

    #[test]
    fn an_open_loop() {
        let mut example = Example::open_with_faults();
        example.plan.expect = Some(Arc::new("hello world".parse().unwrap()));
        example.plan.sources = vec!["127.0.0.2".parse().unwrap()];
        let json = serde_json::to_string_pretty(&json(&example)).unwrap();
        insta::assert_snapshot!(json);
    }

    #[test]
    fn a_closed_loop_has_no_schedule() {
        let json = json(&Example::new_connections());
        for absent in ["due", "unsent"] {
            assert_eq!(json[absent], Value::Null, "{absent}");
        }
        for absent in [
            "arrivals",
            "rate_per_s",
            "seed",
            "until",
            "expect",
            "requests",
        ] {
            assert_eq!(json["plan"][absent], Value::Null, "{absent}");
        }
        for absent in ["lag", "lag_own"] {
            assert_eq!(json["latency_us"][absent], Value::Null, "{absent}");
        }
        assert_eq!(
            json["latency_us"]["service"],
            json["latency_us"]["response"]
        );
        assert_eq!(json["plan"]["close"], "rst");
        assert!(!json.as_object().unwrap().contains_key("calibration"));
    }

    #[test]
    fn what_was_said_beside_responses() {
        let mut example = Example::closed();
        let record = &mut example.outcome.record;
        record.unsolicited.status.insert(408, 5);
        record.unsolicited.other = 1;
        record.unsolicited.misread = Some(Misread::new(Rule::StatusLine, b"SSH-2.0-\x1b\r\n"));
        record.misread = Some(Misread::new(Rule::NoColon, b"no \"colon\"\r\n"));
        record.closes_announced.add(100);
        record.closes_announced.add(90);
        let json = json(&example);
        let unsolicited = &json["unsolicited"];
        assert_eq!(unsolicited["count"], 6);
        assert_eq!(unsolicited["status"]["408"], 5);
        assert_eq!(unsolicited["bytes"]["protocol"], "an SSH banner");
        assert_eq!(unsolicited["bytes"]["bytes"], "SSH-2.0-\\x1b\\r\\n");
        let malformed = r#"{"bytes":"no \\\"colon\\\"\\r\\n","protocol":null,"rule":"no_colon"}"#;
        assert_eq!(json["malformed"].to_string(), malformed);
        let closes = r#"{"announced":{"connections":2,"responses_max":100,"responses_min":90},"unannounced":null}"#;
        assert_eq!(json["closes"].to_string(), closes);
    }

    #[test]
    fn a_run_until_something_is_known() {
        let mut example = Example::closed();
        example.plan.limit = Limit::Until(Precision {
            percentile: 99.9,
            within: 0.05,
            at_most: Duration::from_secs(60),
        });
        let json = json(&example);
        assert_eq!(
            json["plan"]["until"].to_string(),
            r#"{"max_duration_s":60.0,"percentile":99.9,"within":0.05}"#
        );
        assert_eq!(json["plan"]["duration_s"], Value::Null);
    }

    #[test]
    fn nothing_is_null_and_not_zero() {
        let mut example = Example::unanswered();
        example.outcome.duration = Duration::ZERO;
        let json = json(&example);
        for absent in [
            "requests_per_s",
            "connections_per_s",
            "server_cost",
            "steal",
        ] {
            assert_eq!(json[absent], Value::Null, "{absent}");
        }
        let latencies = json["latency_us"].as_object().unwrap();
        assert!(latencies.values().all(Value::is_null), "{latencies:?}");
    }
}
