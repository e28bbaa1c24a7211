//! The plan of a run, which is fixed before the run starts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::response::Expected;

/// One workload against one server.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server's address.
    pub target: SocketAddr,
    /// The bytes of the requests, sent in rotation; at least one.
    pub requests: Vec<Vec<u8>>,
    /// Responses have no body because the requests are HEAD.
    pub head_only: bool,
    /// The requests ask the server to close the connection after its answer (`Connection: close`),
    /// and the generator waits for it to do so; requires [`ConnectionLife::Requests`] of 1.
    pub server_closes: bool,
    /// The body that every response must have. Without it, each body must be as long as that of the
    /// first answer to its request.
    pub expect: Option<Arc<Expected>>,
    /// The status that every response must have. Without it, any status below 400 is accepted.
    pub expect_status: Option<u16>,
    /// Connections open at once: exactly this many in closed loop, at most this many in open loop.
    pub connections: usize,
    /// Additional connections that are opened before the run, make one request each, and then stay
    /// open and idle until its end.
    pub idle: usize,
    /// Threads that share [`Plan::connections`].
    pub threads: usize,
    /// When a connection ends: with the run, or after a number of requests.
    pub life: ConnectionLife,
    /// How a connection ends.
    pub close: Close,
    /// Requests sent on a connection before the first of them is answered.
    pub pipeline: usize,
    /// When a request is sent.
    pub pace: Pace,
    /// Seed of the random arrivals.
    pub seed: u64,
    /// When the run ends.
    pub limit: Limit,
    /// Duration of the load before the first request that counts.
    pub warmup: Duration,
    /// How long, after the end, requests that were due before it may still be sent and answered.
    pub drain: Duration,
    /// Time limit for a connect or a response.
    pub timeout: Duration,
    /// Local addresses that connections use in turn; if empty, they are chosen to suit the target,
    /// see `crate::ports`.
    pub sources: Vec<IpAddr>,
    /// CPUs that the generator's threads are pinned to, one after another; empty for no pinning.
    pub cpus: Vec<usize>,
}

impl Plan {
    /// Requests one after another over 64 persistent connections, for 10 s after 1 s of warm-up.
    pub fn new(target: SocketAddr, request: Vec<u8>) -> Self {
        Plan {
            target,
            requests: vec![request],
            head_only: false,
            server_closes: false,
            expect: None,
            expect_status: None,
            connections: 64,
            idle: 0,
            threads: 1,
            life: ConnectionLife::KeepAlive,
            close: Close::Fin,
            pipeline: 1,
            pace: Pace::Closed,
            seed: 0,
            limit: Limit::For(Duration::from_secs(10)),
            warmup: Duration::from_secs(1),
            drain: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            sources: Vec::new(),
            cpus: Vec::new(),
        }
    }

    /// Whether a response may have this status.
    #[inline]
    pub fn is_good_status(&self, status: u16) -> bool {
        match self.expect_status {
            Some(expected) => status == expected,
            None => status < 400,
        }
    }
}

/// When a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionLife {
    /// With the run.
    KeepAlive,
    /// After this many answered requests; then a new connection takes its place.
    Requests(u64),
}

impl ConnectionLife {
    /// Converts the number used on command lines and in workloads, where 0 is unlimited keep-alive.
    pub fn from_requests(requests: u64) -> Self {
        match requests {
            0 => ConnectionLife::KeepAlive,
            n => ConnectionLife::Requests(n),
        }
    }

    /// The number for command lines and workloads.
    pub fn requests(self) -> u64 {
        match self {
            ConnectionLife::KeepAlive => 0,
            ConnectionLife::Requests(n) => n,
        }
    }
}

/// How the generator ends a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Close {
    /// With a FIN (RFC 9293 §3.6): the port then stays in TIME_WAIT on this side.
    #[default]
    Fin,
    /// With a reset: this leaves no TIME_WAIT and may destroy what the peer has not read.
    Rst,
}

/// When a request is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Closed loop: when the previous request on the connection is answered.
    Closed,
    /// Open loop: at equal intervals, whether or not earlier requests are answered.
    Constant(Rate),
    /// Open loop: at random times, as from many independent users (a Poisson process).
    Poisson(Rate),
}

impl Pace {
    /// The rate at which requests are due in open loop.
    pub fn rate(self) -> Option<Rate> {
        match self {
            Pace::Closed => None,
            Pace::Constant(rate) | Pace::Poisson(rate) => Some(rate),
        }
    }
}

/// The form used in workloads and JSON: `closed`, `constant:5000/s`, `poisson:5000/s`.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Closed => f.write_str("closed"),
            Pace::Constant(rate) => write!(f, "constant:{rate}"),
            Pace::Poisson(rate) => write!(f, "poisson:{rate}"),
        }
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "closed" => Ok(Pace::Closed),
            Some(("constant", rate)) => Ok(Pace::Constant(rate.parse()?)),
            Some(("poisson", rate)) => Ok(Pace::Poisson(rate.parse()?)),
            _ => Err(format!(
                "{text:?}: expected closed, constant:RATE or poisson:RATE, such as constant:5000/s"
            )),
        }
    }
}

impl Serialize for Pace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A rate per second: above zero, at most [`Rate::MAX_PER_S`].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// One event per nanosecond.
    pub const MAX_PER_S: f64 = 1e9;
    /// One event in eleven days.
    pub const MIN_PER_S: f64 = 1e-6;

    /// Makes a rate; `None` outside the bounds.
    pub fn per_second(rate: f64) -> Option<Self> {
        (Self::MIN_PER_S..=Self::MAX_PER_S)
            .contains(&rate)
            .then_some(Rate(rate))
    }

    /// Events per second.
    pub fn per_s(self) -> f64 {
        self.0
    }
}

/// Parses `5000`, `5k`, `5k/s`, `1.5M/s`, `300/m`, `10/h`.
impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, seconds) = match text.split_once('/') {
            None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
            Some((number, "m" | "min")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some(_) => ("", 1.0),
        };
        let number = number.trim();
        let (number, factor) = match number.as_bytes().last() {
            Some(b'k' | b'K') => (&number[..number.len() - 1], 1e3),
            Some(b'M') => (&number[..number.len() - 1], 1e6),
            _ => (number, 1.0),
        };
        plain_number(number)
            .and_then(|value| Rate::per_second(value * factor / seconds))
            .ok_or_else(|| format!("{text:?}: expected a rate such as 5000/s, 5k/s or 300/m"))
    }
}

/// Parses digits with at most one decimal point: no sign, no exponent, no infinity.
pub fn plain_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| plain)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// After this time.
    For(Duration),
    /// When this many requests have been sent and answered.
    Requests(u64),
    /// When a percentile is known with this precision.
    Until(Precision),
}

/// A percentile of the response time, and the precision to reach: `p99±5%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Precision {
    /// From 0 to 100, exclusive.
    pub percentile: f64,
    /// The maximum distance of the 95% interval's ends from the percentile, as a share of it: 0.05.
    pub within: f64,
    /// The time after which the run ends in any case.
    pub at_most: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units() {
        for (text, per_s) in [
            ("5000", Some(5e3)),
            ("5000/s", Some(5e3)),
            ("5k", Some(5e3)),
            ("5K/s", Some(5e3)),
            ("1.5M/s", Some(1.5e6)),
            ("300/m", Some(5.0)),
            ("300/min", Some(5.0)),
            ("3.6k/h", Some(1.0)),
            ("0.5", Some(0.5)),
            ("0", None),
            ("", None),
            ("k", None),
            ("-5", None),
            ("+5", None),
            ("1e3", None),
            ("inf", None),
            ("5/d", None),
            ("5//s", None),
            ("5G", None),
            ("10000M", None),
        ] {
            let rate = text.parse::<Rate>();
            assert_eq!(
                rate.clone().ok().map(Rate::per_s),
                per_s,
                "{text}: {rate:?}"
            );
        }
    }

    #[test]
    fn paces_read_as_they_are_written() {
        for text in ["closed", "constant:5000/s", "poisson:0.5/s"] {
            assert_eq!(text.parse::<Pace>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "open",
            "constant",
            "constant:",
            "poisson:x",
            "closed:5/s",
        ] {
            assert!(text.parse::<Pace>().is_err(), "{text}");
        }
    }
}
