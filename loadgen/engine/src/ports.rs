//! Local addresses and ports: where connections come from, and how long these last.
//!
//! A connection is identified by the addresses and ports of both ends. From one address to one
//! server there are as many connections as local ports, some 28,000. The side that closes first
//! keeps its port in TIME_WAIT for a minute (RFC 9293 §3.3.2), or for a second where the kernel may
//! reuse it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::plan::{Close, ConnectionLife, Limit, Pace, Plan};

/// The number of loopback addresses that connections use in turn.
pub const LOOPBACK_SOURCES: u8 = 32;

/// How long a closed connection stays in `TIME-WAIT` on Linux and keeps its port. RFC 9293 asks for twice
/// the maximum segment lifetime, which Linux assumes to be 30 s. The kernel's source fixes it
/// (`TCP_TIMEWAIT_LEN`): no setting changes it, and `tcp_fin_timeout` is unrelated.
pub const TIME_WAIT: Duration = Duration::from_secs(60);

/// The addresses that the connections of `plan` use in turn; empty if the kernel chooses. On
/// loopback, connections that come and go are spread over 127.0.0.1 to 127.0.0.32.
pub fn sources(plan: &Plan) -> Vec<IpAddr> {
    if !plan.sources.is_empty() {
        return plan.sources.clone();
    }
    let come_and_go = plan.life != ConnectionLife::KeepAlive;
    let many = open_at_once(plan) > Budget::here().ports / 2;
    match plan.target {
        SocketAddr::V4(target) if target.ip().is_loopback() && (come_and_go || many) => {
            let last = 1..=LOOPBACK_SOURCES;
            last.map(|last| Ipv4Addr::new(127, 0, 0, last).into())
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The number of connections of `plan` that are open at the same time.
fn open_at_once(plan: &Plan) -> u64 {
    plan.connections.saturating_add(plan.idle) as u64
}

/// The number of ports, and what shortens the time for which a closed connection keeps one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Local ports for each source address (`ip_local_port_range`).
    pub ports: u64,
    /// The setting `tcp_tw_reuse`: 0 never, 1 always, 2 on loopback.
    pub reuse: u64,
    /// The setting `tcp_timestamps`: without timestamps, old packets cannot be told from new ones,
    /// and nothing is reused.
    pub timestamps: bool,
    /// The time after which a port may be reused (`tcp_tw_reuse_delay`).
    pub reuse_delay: Duration,
}

impl Budget {
    /// The values of this machine, or Linux's defaults if they cannot be read.
    pub fn here() -> Self {
        let read = |name: &str| -> Option<Vec<u64>> {
            let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
            let numbers = text.split_ascii_whitespace().map(|n| n.parse().ok());
            numbers.collect()
        };
        let number = |name, default| {
            read(name)
                .and_then(|n| n.first().copied())
                .unwrap_or(default)
        };
        let range = read("ip_local_port_range");
        Budget {
            ports: match range.as_deref() {
                Some(&[first, last]) => (last + 1).saturating_sub(first),
                _ => 28_232,
            },
            reuse: number("tcp_tw_reuse", 2),
            timestamps: number("tcp_timestamps", 1) != 0,
            reuse_delay: Duration::from_millis(number("tcp_tw_reuse_delay", 1000)),
        }
    }

    /// How long a connection that was closed here keeps its port from another connection to the
    /// same server.
    pub fn rest(&self, on_loopback: bool) -> Duration {
        match self.reuse {
            _ if !self.timestamps => TIME_WAIT,
            0 => TIME_WAIT,
            2 if !on_loopback => TIME_WAIT,
            // Immediate reuse sets no limit, but no rate is infinite.
            _ => self.reuse_delay.max(Duration::from_millis(1)),
        }
    }
}

/// Warns before the start if a run will, or may, use up its local ports. A warning is one or two
/// sentences, with advice.
pub fn forecast(plan: &Plan, budget: Budget) -> Option<String> {
    let sources = sources(plan).len().max(1) as u64;
    let ports = budget.ports * sources;
    let left = ports.saturating_sub(plan.idle as u64);
    let from = match sources {
        1 => "one source address has".to_owned(),
        n => format!("{n} source addresses have"),
    };
    let more = match plan.target.ip().is_loopback() {
        true => "spread them with --source 127.0.0.0/27, against a server on an IPv4 address",
        false => "spread them with --source over more addresses of this machine",
    };
    if open_at_once(plan) > ports {
        let idle = match plan.idle {
            0 => String::new(),
            idle => format!(" and {idle} idle ones"),
        };
        return Some(format!(
            "{} connections{idle} need more than the {ports} local ports that {from}: {more}",
            plan.connections
        ));
    }
    let per_connection = match plan.life {
        ConnectionLife::KeepAlive => return None,
        ConnectionLife::Requests(n) => n,
    };
    // A reset leaves no TIME_WAIT, and connections that the server closes first leave it on the
    // server's side.
    if plan.close == Close::Rst || plan.server_closes {
        return None;
    }
    let rest = budget.rest(plan.target.ip().is_loopback());
    let lasting = left as f64 / rest.as_secs_f64();
    let rate = plan.pace.rate().map(|rate| match plan.life {
        ConnectionLife::Requests(1) | ConnectionLife::KeepAlive => rate.per_s(),
        ConnectionLife::Requests(n) => rate.per_s() / n as f64,
    });
    let all = match (plan.limit, rate) {
        (Limit::Requests(requests), _) => Some(requests.div_ceil(per_connection) as f64),
        (Limit::For(duration), Some(rate)) => Some(rate * (plan.warmup + duration).as_secs_f64()),
        _ => None,
    };
    if all.is_some_and(|all| all <= left as f64) || rate.is_some_and(|rate| rate <= lasting) {
        return None;
    }
    let idle = match plan.idle {
        0 => String::new(),
        idle => format!(", of which idle connections take {idle}"),
    };
    let each = format!(
        "{from} {ports} local ports{idle}, and a closed connection keeps its port for {} s",
        rest.as_secs_f64()
    );
    match rate {
        Some(rate) => Some(format!(
            "{rate:.0} new connections per second will use up the local ports: {each}, enough for \
             {lasting:.0} per second; {more}"
        )),
        // In closed loop the server determines the rate; only loopback is this fast.
        None if rest == TIME_WAIT || (plan.pace == Pace::Closed && lasting < 50_000.0) => {
            Some(format!(
                "local ports may run out: {each}, enough for {lasting:.0} new connections per second; \
                 {more}"
            ))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(target: &str, change: impl Fn(&mut Plan)) -> Plan {
        let mut plan = Plan::new(target.parse().unwrap(), Vec::new());
        change(&mut plan);
        plan
    }

    const USUAL: Budget = Budget {
        ports: 28_232,
        reuse: 2,
        timestamps: true,
        reuse_delay: Duration::from_secs(1),
    };

    #[test]
    fn loopback_has_many_addresses() {
        let new_each = |plan: &mut Plan| plan.life = ConnectionLife::Requests(1);
        let own = |plan: &mut Plan| plan.sources = vec!["10.0.0.7".parse().unwrap()];
        assert_eq!(sources(&plan("127.0.0.1:80", new_each)).len(), 32);
        assert_eq!(sources(&plan("127.0.0.1:80", |_| {})).len(), 0);
        let idle = |plan: &mut Plan| plan.idle = 60_000;
        assert_eq!(sources(&plan("127.0.0.1:80", idle)).len(), 32);
        assert_eq!(sources(&plan("[::1]:80", new_each)).len(), 0);
        assert_eq!(sources(&plan("10.0.0.1:80", new_each)).len(), 0);
        assert_eq!(sources(&plan("10.0.0.1:80", own)).len(), 1);
    }

    #[test]
    fn forecasts() {
        let rate = |rate: f64| Pace::Constant(crate::plan::Rate::per_second(rate).unwrap());
        type Change<'a> = &'a dyn Fn(&mut Plan);
        let cases: [(&str, Change<'_>, Option<&str>); 14] = [
            ("10.0.0.1:80", &|_| {}, None),
            (
                "10.0.0.1:80",
                &|p| p.connections = 30_000,
                Some("30000 connections need more than the 28232 local ports"),
            ),
            ("10.0.0.1:80", &|p| p.idle = 28_000, None),
            (
                "10.0.0.1:80",
                &|p| p.idle = 28_200,
                Some("64 connections and 28200 idle ones need more than the 28232 local ports"),
            ),
            (
                "10.0.0.1:80",
                &|p| (p.idle, p.life) = (10_000, ConnectionLife::Requests(1)),
                Some(
                    "28232 local ports, of which idle connections take 10000, and a closed \
                     connection keeps its port for 60 s, enough for 304 new",
                ),
            ),
            ("127.0.0.1:80", &|p| p.idle = 500_000, None),
            (
                "10.0.0.1:80",
                &|p| p.life = ConnectionLife::Requests(1),
                Some("enough for 471 new connections per second"),
            ),
            (
                "10.0.0.1:80",
                &|p| (p.life, p.limit) = (ConnectionLife::Requests(1), Limit::Requests(28_000)),
                None,
            ),
            (
                "10.0.0.1:80",
                &|p| (p.life, p.close) = (ConnectionLife::Requests(1), Close::Rst),
                None,
            ),
            (
                "10.0.0.1:80",
                &|p| (p.life, p.pace) = (ConnectionLife::Requests(1), rate(5_000.0)),
                Some("5000 new connections per second will use up"),
            ),
            (
                "10.0.0.1:80",
                &|p| (p.life, p.pace) = (ConnectionLife::Requests(100), rate(5_000.0)),
                None,
            ),
            (
                "127.0.0.1:80",
                &|p| (p.life, p.limit) = (ConnectionLife::Requests(1), Limit::Requests(200_000)),
                None,
            ),
            (
                "[::1]:80",
                &|p| p.life = ConnectionLife::Requests(1),
                Some("against a server on an IPv4 address"),
            ),
            (
                "127.0.0.1:80",
                &|p| p.life = ConnectionLife::Requests(1),
                None,
            ),
        ];
        for (target, change, expected) in cases {
            let found = forecast(&plan(target, change), USUAL);
            match (&found, expected) {
                (Some(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
                (None, None) => {}
                _ => panic!("{target}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
