//! Which workloads share a chart: those that differ only in the number of connections or in the offered rate.
//! Their fields decide, never their names.

use engine::figures::thousands;
use engine::plan::{Pace, Rate};
use lab::compare::Evidence;
use subject::catalogue::Workload;

/// Workloads of one shape.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Load<'a> {
    /// What they have in common.
    pub(crate) shape: Shape,
    /// By connections, then by rate.
    pub(crate) workloads: Vec<&'a Workload>,
    /// In open loop: of the first.
    pub(crate) rate_per_s: Option<f64>,
}

/// What the workloads of a chart have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// 0 is keep-alive without end.
    pub(crate) requests_per_connection: u64,
    /// In flight on each.
    pub(crate) pipeline: usize,
    /// Idle connections beside those in use.
    pub(crate) idle: usize,
    /// When requests are sent.
    pub(crate) arrivals: Arrivals,
}

/// When requests are sent, apart from the rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// As soon as the last is answered.
    #[default]
    Closed,
    /// At equal intervals.
    Constant,
    /// At random.
    Poisson,
}

impl Shape {
    /// Of a workload.
    pub(crate) fn of(workload: &Workload) -> Self {
        Shape {
            requests_per_connection: workload.requests_per_connection,
            pipeline: workload.pipeline,
            idle: workload.idle,
            arrivals: match workload.pace {
                Pace::Closed => Arrivals::Closed,
                Pace::Constant(_) => Arrivals::Constant,
                Pace::Poisson(_) => Arrivals::Poisson,
            },
        }
    }

    /// Connections that stay open, each with one request at a time, in closed loop.
    pub(crate) const KEEP_ALIVE: Shape = Shape {
        requests_per_connection: 0,
        pipeline: 1,
        idle: 0,
        arrivals: Arrivals::Closed,
    };

    /// A connection for every request, in closed loop.
    pub(crate) const NEW_CONNECTION: Shape = Shape {
        requests_per_connection: 1,
        ..Shape::KEEP_ALIVE
    };

    /// In words.
    pub(crate) fn title(&self) -> String {
        let mut words = match self.requests_per_connection {
            0 => "keep-alive".to_owned(),
            1 => "a new connection for every request".to_owned(),
            n => format!("{n} requests per connection"),
        };
        if self.pipeline > 1 {
            words += &format!(", {} in flight on each", self.pipeline);
        }
        if self.idle > 0 {
            words += &format!(", {} idle beside", thousands(self.idle as u64));
        }
        words += match self.arrivals {
            Arrivals::Closed => "",
            Arrivals::Constant => ", open loop (constant)",
            Arrivals::Poisson => ", open loop (Poisson)",
        };
        words
    }

    /// For anchors and file names.
    pub(crate) fn id(&self) -> String {
        let mut words = match self.requests_per_connection {
            0 => "keep-alive".to_owned(),
            1 => "new-connection".to_owned(),
            n => format!("{n}-requests"),
        };
        if self.pipeline > 1 {
            words += &format!("-x{}", self.pipeline);
        }
        if self.idle > 0 {
            words += &format!("-idle-{}", self.idle);
        }
        words += match self.arrivals {
            Arrivals::Closed => "",
            Arrivals::Constant => "-constant",
            Arrivals::Poisson => "-poisson",
        };
        words
    }
}

/// Requests offered per second; 0 in closed loop.
pub(crate) fn rate_of(workload: &Workload) -> f64 {
    workload.pace.rate().map_or(0.0, Rate::per_s)
}

impl<'a> Load<'a> {
    /// All workloads, grouped by shape in the order of the evidence.
    pub(crate) fn all(evidence: &'a Evidence) -> Vec<Self> {
        let mut loads: Vec<Load> = Vec::new();
        for workload in &evidence.workloads {
            let shape = Shape::of(workload);
            match loads.iter_mut().find(|load| load.shape == shape) {
                Some(load) => load.workloads.push(workload),
                None => loads.push(Load {
                    shape,
                    workloads: vec![workload],
                    rate_per_s: workload.pace.rate().map(Rate::per_s),
                }),
            }
        }
        for load in &mut loads {
            (load.workloads).sort_by(|a, b| {
                rate_of(a)
                    .total_cmp(&rate_of(b))
                    .then(a.connections.cmp(&b.connections))
            });
        }
        loads
    }

    /// The workload of that shape whose number of connections is nearest to the one given.
    pub(crate) fn nearest(
        evidence: &'a Evidence,
        shape: Shape,
        connections: usize,
    ) -> Option<&'a Workload> {
        let alike = evidence
            .workloads
            .iter()
            .filter(|it| Shape::of(it) == shape);
        alike.min_by_key(|it| it.connections.abs_diff(connections))
    }

    /// In words.
    pub(crate) fn title(&self) -> String {
        self.shape.title()
    }

    /// For anchors and file names.
    pub(crate) fn id(&self) -> String {
        self.shape.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::fixture;

    /// Whatever they are called.
    #[test]
    fn workloads_are_grouped_by_what_they_ask_for() {
        let mut evidence = fixture::evidence(&[], &["a", "b", "c", "d", "e"], Vec::new());
        let set = |workload: &mut Workload, connections, requests, pace: &str| {
            workload.connections = connections;
            workload.requests_per_connection = requests;
            workload.pace = pace.parse().unwrap();
        };
        set(&mut evidence.workloads[0], 64, 0, "closed");
        set(&mut evidence.workloads[1], 64, 1, "closed");
        set(&mut evidence.workloads[2], 1, 0, "closed");
        set(&mut evidence.workloads[3], 64, 0, "poisson:5k");
        set(&mut evidence.workloads[4], 64, 0, "poisson:1k");
        let loads = Load::all(&evidence);
        let names: Vec<(String, Vec<&str>)> = (loads.iter())
            .map(|load| {
                let names = load.workloads.iter().map(|it| it.name.as_str());
                (load.id(), names.collect())
            })
            .collect();
        assert_eq!(
            names,
            [
                ("keep-alive".to_owned(), vec!["c", "a"]),
                ("new-connection".to_owned(), vec!["b"]),
                ("keep-alive-poisson".to_owned(), vec!["e", "d"]),
            ]
        );
        let nearest = Load::nearest(&evidence, Shape::KEEP_ALIVE, 50).unwrap();
        assert_eq!(nearest.name, "a");
        assert_eq!(
            Shape {
                idle: 5_000,
                pipeline: 16,
                ..Shape::KEEP_ALIVE
            }
            .title(),
            "keep-alive, 16 in flight on each, 5,000 idle beside"
        );
    }
}
