//! One order of servers over several workloads: by the geometric mean of their ratios to the best.
//!
//! The geometric mean gives the same order whatever the reference of the ratios, and the same
//! weight to each workload. It is taken within each round; over rounds it is estimated like any
//! ratio.
//! same weight. It is taken within each round; over rounds there is an estimate, as of any ratio.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Column, Estimate, Evidence, Loop, Metric, ranks, ratios};
use crate::estimate::{estimate, median};
use subject::catalogue::Workload;

/// A ranking by one metric, over the workloads that all ranked servers completed.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// The metric.
    pub metric: Metric,
    /// The loop of its workloads, if restricted to one.
    pub only: Option<Loop>,
    /// The workloads that count.
    pub workloads: Vec<String>,
    /// The workloads that do not count, and why.
    pub left_out: Vec<LeftOut>,
    /// The number of ranked servers.
    pub ranked: usize,
    /// From the best on, followed by servers that are shown but not ranked.
    pub places: Vec<Place>,
}

/// A workload that not all ranked servers completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Name of the workload.
    pub workload: String,
    /// The servers that did not complete it; empty if the metric is meaningless for the workload.
    pub stopped: Vec<Stopped>,
    /// The reason in a few words, if no server caused it.
    pub reason: Option<&'static str>,
}

/// A server that did not complete a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Name of the server.
    pub server: String,
    /// The reason.
    pub reason: String,
}

/// One server over all workloads that count.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Name of the server.
    pub server: String,
    /// The rank from 1; absent for the floor, for references, and if not resolved.
    pub rank: Option<u32>,
    /// Its ratio is too uncertain to be informative.
    pub is_unresolved: bool,
    /// Geometric mean of its ratios to the best under each workload; absent if it has not completed
    /// them.
    pub ratio: Option<Estimate>,
    /// Geometric mean of its multiples of the floor, if there is a floor and the metric is CPU.
    pub of_floor: Option<Estimate>,
}

impl Ranking {
    /// The servers that caused workloads to be left out, and the number of these workloads; `None`
    /// if all servers did.
    pub fn obstacles(&self) -> Option<(Vec<&str>, usize)> {
        let stopped = self.left_out.iter().filter(|it| !it.stopped.is_empty());
        let mut servers: Vec<&str> = Vec::new();
        for stopped in stopped.clone().flat_map(|it| &it.stopped) {
            if !servers.contains(&stopped.server.as_str()) {
                servers.push(&stopped.server);
            }
        }
        let is_some = !servers.is_empty() && servers.len() + 1 < self.ranked.max(1);
        is_some.then_some((servers, stopped.count()))
    }
}

impl Evidence {
    /// The rankings by one metric: one, or one per loop if the metric differs in kind between them.
    /// Rates are not ranked in open loop, where they are prescribed.
    pub fn rankings(&self, metric: Metric, with_references: bool) -> Vec<Ranking> {
        let loops = match (metric.depends_on_pace(), metric.is_rate()) {
            (false, _) => vec![None],
            (true, false) => vec![Some(Loop::Closed), Some(Loop::Open)],
            (true, true) => vec![Some(Loop::Closed)],
        };
        let rankings = (loops.into_iter()).map(|only| self.ranking(metric, only, with_references));
        let has_any = |ranking: &Ranking| {
            !ranking.workloads.is_empty() || ranking.left_out.iter().any(|it| it.reason.is_none())
        };
        rankings.filter(has_any).collect()
    }

    fn ranking(&self, metric: Metric, only: Option<Loop>, with_references: bool) -> Ranking {
        let of_this_loop =
            |it: &&Workload| metric.is_rate() || only.is_none_or(|only| only == Loop::of(it.pace));
        let mut ranking = Ranking {
            metric,
            only,
            workloads: Vec::new(),
            left_out: Vec::new(),
            ranked: (self.servers.iter())
                .filter(|server| self.competes(server))
                .count(),
            places: Vec::new(),
        };
        let mut races = Vec::new();
        for workload in self.workloads.iter().filter(of_this_loop) {
            match self.race(workload, metric) {
                Ok(race) => {
                    ranking.workloads.push(workload.name.clone());
                    races.push(race);
                }
                Err(left_out) => ranking.left_out.push(left_out),
            }
        }
        let (mut ranked, mut others): (Vec<&String>, Vec<&String>) =
            (self.servers.iter()).partition(|server| self.competes(server));
        others.retain(|server| with_references || self.is_floor(server));
        if races.is_empty() {
            return ranking;
        }
        let mut estimates: BTreeMap<&String, Option<Estimate>> = BTreeMap::new();
        for server in ranked.iter().chain(&others) {
            let mean = geometric_mean(&races, |race| Some((race.column(server)?, &race.best)));
            estimates.insert(server, mean);
        }
        let value = |server: &&String| estimates[server].map_or(f64::INFINITY, |it| it.value);
        let goodness = |server: &&String| match metric.less_is_better() {
            true => value(server),
            false => -value(server),
        };
        ranked.sort_by(|a, b| goodness(a).total_cmp(&goodness(b)));
        // Unresolved servers come last, so that none leads by chance.
        ranked.sort_by_key(|server| estimates[server].is_some_and(|it| !it.is_resolved()));
        let order: Vec<usize> = (0..ranked.len()).collect();
        let ranks = ranks(&order, 0, |first, other| {
            geometric_mean(&races, |race| {
                Some((race.column(ranked[other])?, race.column(ranked[first])?))
            })
        });
        let competitors = ranked.len();
        let place = |(index, server): (usize, &&String)| Place {
            server: (*server).clone(),
            rank: ranks.get(&index).copied(),
            is_unresolved: (index < competitors && !ranks.contains_key(&index))
                || estimates[*server].is_some_and(|it| !it.is_resolved()),
            ratio: estimates[*server],
            of_floor: geometric_mean(&races, |race| {
                Some((race.column(server)?, race.floor.as_ref()?))
            }),
        };
        ranking.places = (ranked.iter().chain(&others))
            .enumerate()
            .map(place)
            .collect();
        ranking
    }

    /// All servers under one workload, if all ranked servers completed it.
    fn race(&self, workload: &Workload, metric: Metric) -> Result<Race, LeftOut> {
        let left_out = |stopped, reason| LeftOut {
            workload: workload.name.clone(),
            stopped,
            reason,
        };
        if !metric.says(workload) {
            return Err(left_out(Vec::new(), Some("it has no such figure")));
        }
        if metric.is_rate() && Loop::of(workload.pace) == Loop::Open {
            return Err(left_out(Vec::new(), Some("its rate is given (open loop)")));
        }
        let columns: BTreeMap<String, Column> = (self.servers.iter())
            .map(|server| (server.clone(), self.column(server, &workload.name, metric)))
            .collect();
        let completed = |column: &Column| column.is_compared() && column.is_positive();
        let stopped: Vec<Stopped> = (self.servers.iter())
            .filter(|server| self.competes(server) && !completed(&columns[*server]))
            .map(|server| {
                let column = &columns[server];
                let reason = self.reason(server, &workload.name, metric, column);
                Stopped {
                    server: server.clone(),
                    reason,
                }
            })
            .collect();
        if !stopped.is_empty() {
            return Err(left_out(stopped, None));
        }
        // A server that leads by chance, with an unknown value, must not be the reference for
        // others.
        let is_narrow = |server: &&String| {
            columns[*server]
                .estimate()
                .is_some_and(|value| value.is_narrow())
        };
        let has_narrow = (self.servers.iter()).any(|it| self.competes(it) && is_narrow(&it));
        let middle = |server: &&String| {
            let values = columns[*server].by_round.values();
            let middle = median(&mut values.copied().collect::<Vec<_>>());
            if metric.less_is_better() {
                middle
            } else {
                -middle
            }
        };
        let best = (self.servers.iter())
            .filter(|server| self.competes(server) && (!has_narrow || is_narrow(server)))
            .min_by(|a, b| middle(a).total_cmp(&middle(b)));
        let Some(best) = best.map(|best| columns[best].clone()) else {
            return Err(left_out(Vec::new(), Some("no server to rank")));
        };
        let floor = (self.floor.as_ref())
            .filter(|_| metric == Metric::Cpu)
            .map(|floor| self.column(floor, &workload.name, metric));
        Ok(Race {
            best,
            floor: floor.filter(completed),
            columns: columns
                .into_iter()
                .filter(|(_, it)| completed(it))
                .collect(),
        })
    }
}

/// The servers that completed one workload.
struct Race {
    columns: BTreeMap<String, Column>,
    best: Column,
    floor: Option<Column>,
}

impl Race {
    fn column(&self, server: &str) -> Option<&Column> {
        self.columns.get(server)
    }
}

impl Column {
    fn is_positive(&self) -> bool {
        !self.by_round.is_empty() && self.by_round.values().all(|&value| value > 0.0)
    }
}

/// The geometric mean over races of one server's values divided by another's, over rounds; `None`
/// if one of them is missing in a race. If a round lacks a race that others have (it did not
/// count), that race's median is used, shifted by the round's deviation in the other races.
/// Otherwise a round without the race in which a server is worst would make the server look better.
fn geometric_mean<'a>(
    races: &'a [Race],
    pair: impl Fn(&'a Race) -> Option<(&'a Column, &'a Column)>,
) -> Option<Estimate> {
    let logs = |race| {
        let (of, to) = pair(race)?;
        let ratios = ratios(of, to).into_iter();
        let logs: BTreeMap<u32, f64> = ratios.map(|(round, ratio)| (round, ratio.ln())).collect();
        (!logs.is_empty()).then_some(logs)
    };
    let races: Vec<BTreeMap<u32, f64>> = races.iter().map(logs).collect::<Option<_>>()?;
    let middles: Vec<f64> = (races.iter())
        .map(|race| median(&mut race.values().copied().collect::<Vec<_>>()))
        .collect();
    let middle = middles.iter().sum::<f64>() / middles.len() as f64;
    let rounds: BTreeSet<u32> = races.iter().flat_map(BTreeMap::keys).copied().collect();
    let mean = |round: u32| {
        let off: Vec<f64> = (races.iter().zip(&middles))
            .filter_map(|(race, middle)| Some(race.get(&round)? - middle))
            .collect();
        // A deviation shown by half of the races or fewer is not the round's.
        let enough = 2 * off.len() > races.len();
        enough.then(|| (middle + off.iter().sum::<f64>() / off.len() as f64).exp())
    };
    estimate(&rounds.into_iter().filter_map(mean).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{cell, evidence};
    use crate::set::Cell;
    use engine::verdict::Status;

    /// `a` is best under `w`, `b` under `v`; the machine drifts. Under `x`, `b` starves
    /// connections.
    fn two_workloads() -> Evidence {
        let mut cells = Vec::new();
        for round in 1..=6 {
            let drift = 1.0 + f64::from(round) / 10.0;
            for (server, w, v) in [
                ("a", 4.0, 6.0),
                ("b", 8.0, 3.0),
                ("c", 16.0, 12.0),
                ("floor", 2.0, 3.0),
                ("theirs", 4.0, 3.0),
            ] {
                cells.push(cell(server, "w", round, w * drift));
                cells.push(cell(server, "v", round, v * drift));
                cells.push(Cell {
                    verdict: Some(if server == "b" {
                        Status::Invalid
                    } else {
                        Status::Valid
                    }),
                    reasons: (server == "b").then(|| "starved".to_owned()),
                    ..cell(server, "x", round, 1.0)
                });
            }
        }
        let servers = ["floor", "c", "b", "a", "theirs"];
        let mut evidence = evidence(&servers, &["w", "v", "x"], cells);
        evidence.floor = Some("floor".to_owned());
        evidence.references = vec!["theirs".to_owned()];
        evidence
    }

    /// Name, rank, ratio and multiple of the floor, with three digits.
    type Summary<'a> = (&'a str, Option<u32>, Option<f64>, Option<f64>);

    fn summary(ranking: &Ranking) -> Vec<Summary<'_>> {
        let rounded = |estimate: Option<Estimate>| Some((estimate?.value * 1e3).round() / 1e3);
        (ranking.places.iter())
            .map(|it| {
                (
                    it.server.as_str(),
                    it.rank,
                    rounded(it.ratio),
                    rounded(it.of_floor),
                )
            })
            .collect()
    }

    #[test]
    fn geometric_means_over_what_all_completed() {
        let evidence = two_workloads();
        let [ranking] = &evidence.rankings(Metric::Cpu, false)[..] else {
            panic!("one ranking");
        };
        assert_eq!(ranking.workloads, ["w", "v"]);
        let starved = Stopped {
            server: "b".to_owned(),
            reason: "not valid: starved".to_owned(),
        };
        assert_eq!(
            ranking.left_out,
            [LeftOut {
                workload: "x".to_owned(),
                stopped: vec![starved],
                reason: None
            }]
        );
        assert_eq!(ranking.obstacles(), Some((vec!["b"], 1)));
        // sqrt(1 * 2), sqrt(2 * 1), sqrt(4 * 4); of the floor sqrt(2 * 2), sqrt(4 * 1), sqrt(8 * 4).
        assert_eq!(
            summary(ranking),
            [
                ("b", Some(1), Some(1.414), Some(2.0)),
                ("a", Some(1), Some(1.414), Some(2.0)),
                ("c", Some(3), Some(4.0), Some(5.657)),
                ("floor", None, Some(0.707), Some(1.0)),
            ]
        );
        let [ranking] = &evidence.rankings(Metric::Cpu, true)[..] else {
            panic!("one ranking");
        };
        let last = summary(ranking).pop();
        assert_eq!(last, Some(("theirs", None, Some(1.0), Some(1.414))));
    }

    /// If a round of one workload does not count, the server must not look better for it.
    #[test]
    fn a_round_that_does_not_count_moves_nothing() {
        let mut evidence = two_workloads();
        for cell in &mut evidence.cells {
            if (cell.server.as_str(), cell.workload.as_str()) == ("c", "w") && cell.round < 3 {
                cell.verdict = Some(Status::Invalid);
            }
        }
        let ranking = &evidence.rankings(Metric::Cpu, false)[0];
        let c = ranking
            .places
            .iter()
            .find(|it| it.server == "c")
            .unwrap()
            .ratio
            .unwrap();
        assert!((c.value - 4.0).abs() < 1e-9, "{c:?}");
        let (low, high) = c.interval.unwrap();
        assert!(high - low < 1e-9, "{c:?}");
    }

    /// An open loop prescribes the rate, and its latency differs in kind.
    #[test]
    fn loops_are_ranked_apart() {
        let mut evidence = two_workloads();
        evidence.workloads[1].pace = "constant:5000/s".parse().unwrap();
        evidence.workloads.truncate(2);
        let taken = |metric| -> Vec<(Option<Loop>, Vec<String>)> {
            let rankings = evidence.rankings(metric, false).into_iter();
            rankings.map(|it| (it.only, it.workloads)).collect()
        };
        let (w, v) = (vec!["w".to_owned()], vec!["v".to_owned()]);
        let (closed, open) = (Some(Loop::Closed), Some(Loop::Open));
        assert_eq!(taken(Metric::P99), [(closed, w.clone()), (open, v.clone())]);
        assert_eq!(taken(Metric::Throughput), [(closed, w.clone())]);
        assert_eq!(taken(Metric::Cpu), [(None, [w, v].concat())]);
    }

    #[test]
    fn what_is_not_resolved_has_no_rank() {
        let mut evidence = two_workloads();
        let wild = [0.01, 30.0, 0.02, 50.0, 0.01, 80.0];
        for cell in &mut evidence.cells {
            if cell.server == "c" && cell.workload != "x" {
                let cpu = cell.server_cpu_us_per_request.unwrap();
                cell.server_cpu_us_per_request = Some(cpu * wild[cell.round as usize - 1]);
            }
        }
        let ranking = &evidence.rankings(Metric::Cpu, false)[0];
        let places: Vec<_> = (ranking.places.iter())
            .map(|it| (it.server.as_str(), it.rank, it.is_unresolved))
            .collect();
        assert_eq!(
            places[..3],
            [
                ("b", Some(1), false),
                ("a", Some(1), false),
                ("c", None, true)
            ]
        );
    }

    #[test]
    fn nothing_that_all_completed() {
        let mut evidence = two_workloads();
        evidence.workloads.drain(..2);
        let rankings = evidence.rankings(Metric::Cpu, false);
        assert_eq!((rankings.len(), &rankings[0].places[..]), (1, &[][..]));
    }
}
