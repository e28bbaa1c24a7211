//! What the page and the pictures draw, as data: points with their intervals and what is said about them.
//! Nothing is drawn here.

pub(crate) mod ledger_bars;
mod loads;
mod spread;
pub(crate) mod style;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

pub(crate) use loads::{Load, Shape as LoadShape, rate_of};

use engine::figures::figure;
use engine::figures::thousands;
use engine::latency::samples_needed;
use lab::compare::Latencies;
use lab::compare::{Comparison, Entry, Estimate, Evidence, Fault, Metric, Row, Standing};
use subject::catalogue::Workload;

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chart {
    /// Unique within a page; good for an anchor and a file name.
    pub(crate) id: String,
    /// What is shown, of what.
    pub(crate) title: String,
    /// Along the bottom.
    pub(crate) x: Axis,
    /// Along the left side.
    pub(crate) y: Axis,
    /// What is drawn, and what is named beside it.
    pub(crate) body: Body,
    /// Servers that are named beside the chart and not drawn: they would stretch the axis until all
    /// others coincide.
    pub(crate) beside: Vec<String>,
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// With the unit.
    pub(crate) title: String,
    /// Whether equal ratios are equally far apart.
    pub(crate) is_log: bool,
    /// Where the ticks are and what stands at them; empty where any round number will do.
    pub(crate) ticks: Vec<(f64, String)>,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// A line for each server, with intervals along y.
    Lines(Vec<Series>),
    /// Lines of many points without intervals.
    Curves(Vec<Series>),
    /// Points without lines, in rows along y, and intervals along x.
    Dots(Vec<Series>),
    /// A bar for each server.
    Bars(Bars),
}

/// The points of a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// Whose.
    pub(crate) server: String,
    /// From left to right; of dots from the first row to the last.
    pub(crate) points: Vec<Point>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    /// Along the bottom.
    pub(crate) x: f64,
    /// Along the side.
    pub(crate) y: f64,
    /// Its place among all points that there could be. A line joins neighbours alone: across a cell that was
    /// left out there is a gap.
    pub(crate) place: usize,
    /// Where the value may lie.
    pub(crate) interval: Option<(f64, f64)>,
    /// Whether it is compared with others; it is hollow if not.
    pub(crate) is_sound: bool,
    /// What is said about it: at what, how much, and what is wrong with it.
    pub(crate) says: Vec<String>,
}

/// A bar for each server, of parts that add up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bars {
    /// From top to bottom.
    pub(crate) servers: Vec<String>,
    /// Whether each of them is compared with others.
    pub(crate) is_sound: Vec<bool>,
    /// From the axis outwards.
    pub(crate) parts: Vec<Part>,
}

/// The same part of every bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// What it is.
    pub(crate) name: String,
    /// In the order of the servers.
    pub(crate) values: Vec<f64>,
}

impl Axis {
    fn linear(title: &str) -> Self {
        Axis {
            title: title.to_owned(),
            is_log: false,
            ticks: Vec::new(),
        }
    }

    fn log(title: &str) -> Self {
        Axis {
            is_log: true,
            ..Axis::linear(title)
        }
    }

    /// With ticks at round numbers where plain ones would be hard to read: on a scale of ratios.
    fn over<'a>(self, points: impl Iterator<Item = &'a f64>) -> Self {
        let values = points.copied().filter(|&value| value > 0.0);
        let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let ticks = match self.is_log && low <= high {
            true => ticks_of_ratios(low, high),
            false => Vec::new(),
        };
        self.at(ticks.into_iter())
    }

    /// With a tick at every value that there is.
    fn at(mut self, values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        self.ticks = (values.into_iter())
            .map(|value| (value, count(value)))
            .collect();
        self
    }
}

/// Round numbers from the first below `low` to the first above `high`: of each power of ten 1, 2 and 5, or 1
/// alone where these would be too many.
pub(crate) fn ticks_of_ratios(low: f64, high: f64) -> Vec<f64> {
    // Farther apart no ratio stands that says anything.
    let power = |value: f64| value.log10().clamp(-30.0, 30.0);
    let (first, last) = (power(low).floor() as i32, power(high).ceil() as i32);
    let factors: &[f64] = if last - first > 3 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let all =
        (first..=last).flat_map(|power| factors.iter().map(move |it| it * 10_f64.powi(power)));
    let all: Vec<f64> = all.collect();
    // A little less than the tick may well stand at it.
    let begin = all
        .iter()
        .rposition(|&tick| tick <= low * 1.001)
        .unwrap_or(0);
    let end = all
        .iter()
        .position(|&tick| tick >= high * 0.999)
        .unwrap_or(all.len() - 1);
    all[begin..=end.max(begin)].to_vec()
}

/// Round numbers from 0 to the first above `high`, some five of them.
pub(crate) fn ticks_from_zero(high: f64) -> Vec<f64> {
    let high = if high > 0.0 { high } else { 1.0 };
    let power = 10_f64.powf((high / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = steps
        .into_iter()
        .find(|step| high / step <= 6.0)
        .unwrap_or(10.0 * power);
    let count = (high / step * 0.999).ceil().max(1.0) as u32;
    (0..=count).map(|n| f64::from(n) * step).collect()
}

/// The ends of the intervals, and the values without one, of what is drawn.
fn extent(series: &[Series], beside: &[String], value: fn(&Point) -> f64) -> Vec<f64> {
    let drawn = series.iter().filter(|it| !beside.contains(&it.server));
    drawn
        .flat_map(|it| &it.points)
        .flat_map(|point| match point.interval {
            Some((low, high)) => [low, high],
            None => [value(point); 2],
        })
        .collect()
}

impl Body {
    fn is_empty(&self) -> bool {
        match self {
            Body::Lines(series) | Body::Curves(series) | Body::Dots(series) => series.is_empty(),
            Body::Bars(bars) => bars.servers.is_empty() || bars.parts.is_empty(),
        }
    }
}

impl Chart {
    fn unless_empty(self) -> Option<Self> {
        (!self.body.is_empty()).then_some(self)
    }

    /// Whether a server is drawn, and not named beside the chart.
    pub(crate) fn draws(&self, server: &str) -> bool {
        !self.beside.iter().any(|it| it == server)
    }

    /// The servers in it.
    pub(crate) fn servers(&self) -> Vec<&str> {
        match &self.body {
            Body::Lines(series) | Body::Curves(series) | Body::Dots(series) => {
                series.iter().map(|it| it.server.as_str()).collect()
            }
            Body::Bars(bars) => bars.servers.iter().map(String::as_str).collect(),
        }
    }

    /// For readers who cannot see it.
    pub(crate) fn alt(&self) -> String {
        let kind = match self.body {
            Body::Lines(_) | Body::Curves(_) => "Lines",
            Body::Dots(_) => "Points",
            Body::Bars(_) => "Stacked bars",
        };
        let mut drawn = self.servers();
        drawn.retain(|server| self.draws(server));
        format!("{kind}: {}. For {}.", self.title, drawn.join(", "))
    }
}

/// Three significant digits, and from a thousand on whole numbers with commas.
pub(crate) fn number(value: f64) -> String {
    match value {
        999.5.. => thousands(value.round() as u64),
        _ => figure(value),
    }
}

/// The same of what is counted, as long as it is whole.
pub(crate) fn count(value: f64) -> String {
    match value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        true => thousands(value as u64),
        false => number(value),
    }
}

/// The same where there is little room: `20k`.
fn compact(value: f64) -> String {
    match value {
        1e3.. => format!("{}k", count(value / 1e3)),
        _ => count(value),
    }
}

/// `7.66 (7.58–7.81)`.
pub(crate) fn with_interval(estimate: &Estimate, format: fn(f64) -> String) -> String {
    match estimate.interval {
        Some((low, high)) => {
            format!(
                "{} ({}–{})",
                format(estimate.value),
                format(low),
                format(high)
            )
        }
        None => format(estimate.value),
    }
}

/// All comparisons of the evidence, made once: each resamples every cell.
pub(crate) struct Findings<'a> {
    /// What they are made from.
    pub(crate) evidence: &'a Evidence,
    comparisons: Vec<Comparison>,
    faults: BTreeMap<(String, String), Fault>,
}

impl<'a> Findings<'a> {
    /// Of all of it.
    pub(crate) fn of(evidence: &'a Evidence) -> Self {
        let faults = evidence.faults().into_iter();
        let metrics = evidence.metrics().into_iter().chain([Metric::P50]);
        Findings {
            evidence,
            comparisons: metrics.map(|metric| evidence.compare(metric)).collect(),
            faults: faults
                .map(|fault| ((fault.server.clone(), fault.workload.clone()), fault))
                .collect(),
        }
    }

    /// All servers under a workload, in the order of the evidence.
    pub(crate) fn row(&self, metric: Metric, workload: &str) -> Option<&Row> {
        let comparison = self.comparisons.iter().find(|it| it.metric == metric)?;
        comparison.rows.iter().find(|row| row.workload == workload)
    }

    /// The servers under a workload with what was found of each.
    pub(crate) fn entries(
        &self,
        metric: Metric,
        workload: &str,
    ) -> impl Iterator<Item = (&'a String, &Entry)> {
        let entries = self.row(metric, workload).map(|row| row.entries.iter());
        self.evidence
            .servers
            .iter()
            .zip(entries.into_iter().flatten())
    }

    /// A server under a workload.
    pub(crate) fn entry(&self, metric: Metric, workload: &str, server: &str) -> Option<&Entry> {
        let mut entries = self.entries(metric, workload);
        entries
            .find(|(name, _)| *name == server)
            .map(|(_, entry)| entry)
    }

    /// What is to be said about an entry, if it is not an ordinary one.
    pub(crate) fn remark(&self, entry: &Entry, server: &str, workload: &str) -> Option<String> {
        let fault = self.faults.get(&(server.to_owned(), workload.to_owned()));
        let reason = fault.map_or("", |fault| &fault.reason);
        match entry.standing {
            Standing::NotValid => Some(format!("not valid: {reason}")),
            Standing::Failed => Some(format!("failed: {reason}")),
            Standing::ClientBound => Some(format!("client-bound: {reason}")),
            Standing::Ranked if entry.left_out > 0 => Some(format!(
                "without {} of {} rounds: {reason}",
                entry.left_out,
                fault.map_or(entry.left_out, |fault| fault.rounds_all)
            )),
            Standing::Ranked | Standing::Missing => None,
        }
    }
}

/// What a metric is called.
struct Words {
    /// In a title.
    name: &'static str,
    /// In the name of a chart.
    id: &'static str,
    /// On an axis.
    axis: &'static str,
    /// Behind a value.
    unit: &'static str,
}

impl Words {
    fn of(metric: Metric) -> Self {
        let (name, id, axis, unit) = match metric {
            Metric::Cpu => (
                "CPU per request",
                "cpu",
                "server CPU, µs per request",
                "µs CPU per request",
            ),
            Metric::Throughput => (
                "Throughput",
                "throughput",
                "requests per second",
                "requests/s",
            ),
            Metric::P50 => (
                "Median response time",
                "p50",
                "median response time, µs",
                "µs",
            ),
            Metric::P99 => ("p99 response time", "p99", "p99 response time, µs", "µs"),
            Metric::P99_9 => (
                "p99.9 response time",
                "p99-9",
                "p99.9 response time, µs",
                "µs",
            ),
            Metric::Connections => (
                "New connections",
                "connections",
                "connections per second",
                "connections/s",
            ),
            Metric::Rss => ("Memory", "rss", "bytes resident at most", "bytes"),
            Metric::IdleMemory => (
                "Memory per idle connection",
                "idle-memory",
                "bytes per idle connection",
                "bytes",
            ),
        };
        Words {
            name,
            id,
            axis,
            unit,
        }
    }
}

/// A metric against the number of connections, for loads in closed loop that were measured at several.
pub(crate) fn by_connections(findings: &Findings, load: &Load, metric: Metric) -> Option<Chart> {
    let connections = |workload: &Workload| workload.connections as f64;
    if load.rate_per_s.is_some() || !differ(load.workloads.iter().map(|it| connections(it))) {
        return None;
    }
    let words = Words::of(metric);
    let lines = series(findings, load, metric, connections, |workload| {
        format!("{} connections", thousands(workload.connections as u64))
    });
    let is_latency = matches!(metric, Metric::P50 | Metric::P99);
    let ranges = spread::ranges(&lines, |it| it.y);
    let is_log = is_latency || spread::is_wide(&ranges);
    let beside = spread::outliers(&ranges, is_log);
    Chart {
        id: format!("{}-by-connections-{}", words.id, load.id()),
        title: format!("{}, {}", words.name, load.title()),
        x: Axis::log("connections").at(load.workloads.iter().map(|it| connections(it))),
        y: match is_log {
            true => Axis::log(words.axis).over(extent(&lines, &beside, |it| it.y).iter()),
            false => Axis::linear(words.axis),
        },
        body: Body::Lines(lines),
        beside,
    }
    .unless_empty()
}

/// Whether there are at least two places on an axis.
fn differ(mut values: impl Iterator<Item = f64>) -> bool {
    let first = values.next();
    values.any(|value| Some(value) != first)
}

/// A latency against the rate that was offered, for loads in open loop that were offered at several.
pub(crate) fn by_rate(findings: &Findings, load: &Load, metric: Metric) -> Option<Chart> {
    if load.rate_per_s.is_none() || !differ(load.workloads.iter().map(|it| rate_of(it))) {
        return None;
    }
    let words = Words::of(metric);
    let mut lines = series(findings, load, metric, rate_of, |workload| {
        format!("{} requests/s offered", count(rate_of(workload)))
    });
    // What was reached is not part of what is compared, and must not be overlooked.
    for line in &mut lines {
        for point in &mut line.points {
            let workload = load.workloads.iter().find(|it| rate_of(it) == point.x);
            let Some(reached) =
                workload.and_then(|it| reached(findings.evidence, &line.server, it))
            else {
                continue;
            };
            if reached < REACHED * point.x {
                point.is_sound = false;
                point
                    .says
                    .push(format!("reached {}/s only", number(reached)));
            }
        }
    }
    let beside = spread::outliers(&spread::ranges(&lines, |it| it.y), true);
    Chart {
        id: format!("{}-by-rate-{}", words.id, load.id()),
        title: format!("{}, {}", words.name, load.title()),
        x: Axis {
            ticks: (load.workloads.iter())
                .map(|it| (rate_of(it), compact(rate_of(it))))
                .collect(),
            ..Axis::log("offered rate, requests per second")
        },
        y: Axis::log(words.axis).over(extent(&lines, &beside, |it| it.y).iter()),
        body: Body::Lines(lines),
        beside,
    }
    .unless_empty()
}

/// The rate was reached if at least this share of it was.
pub(crate) const REACHED: f64 = 0.98;

/// Responses per second of a server under a workload, whatever the verdict.
pub(crate) fn reached(evidence: &Evidence, server: &str, workload: &Workload) -> Option<f64> {
    let cells = evidence.cells.iter();
    let mut rates: Vec<f64> = cells
        .filter(|cell| cell.server == server && cell.workload == workload.name)
        .filter_map(|cell| cell.requests_per_s)
        .collect();
    (!rates.is_empty()).then(|| lab::estimate::median(&mut rates))
}

/// The points of every server under the workloads of a load.
fn series(
    findings: &Findings,
    load: &Load,
    metric: Metric,
    x: impl Fn(&Workload) -> f64,
    at: impl Fn(&Workload) -> String,
) -> Vec<Series> {
    let of_server = |server: &String| {
        let points = load
            .workloads
            .iter()
            .enumerate()
            .filter_map(|(place, workload)| {
                let entry = findings.entry(metric, &workload.name, server)?;
                let value = entry.value?;
                let mut says = vec![
                    at(workload),
                    format!(
                        "{} {}",
                        with_interval(&value, number),
                        Words::of(metric).unit
                    ),
                ];
                says.extend(findings.remark(entry, server, &workload.name));
                Some(Point {
                    x: x(workload),
                    y: value.value,
                    place,
                    interval: value.interval,
                    is_sound: entry.standing == Standing::Ranked,
                    says,
                })
            });
        Series {
            server: server.clone(),
            points: points.collect(),
        }
    };
    let mut series: Vec<Series> = findings.evidence.servers.iter().map(of_server).collect();
    series.retain(|it| !it.points.is_empty());
    series
}

/// What a request costs under every workload in closed loop, one row each.
pub(crate) fn by_workload(findings: &Findings, metric: Metric) -> Option<Chart> {
    let evidence = findings.evidence;
    let closed = |workload: &&Workload| workload.pace.rate().is_none();
    let workloads: Vec<&Workload> = evidence.workloads.iter().filter(closed).collect();
    let load = Load {
        workloads: workloads.clone(),
        ..Load::default()
    };
    let row = |workload: &Workload| {
        let place = workloads.iter().position(|it| it.name == workload.name);
        place.unwrap_or_default() as f64
    };
    let servers = evidence.servers.len() as f64;
    let lines = series(findings, &load, metric, row, |it| it.name.clone());
    let dots = lines.into_iter().map(|line| {
        let place = evidence.servers.iter().position(|it| *it == line.server);
        // Beside each other within the row.
        let aside = (place.unwrap_or_default() as f64 + 0.5) / servers - 0.5;
        let across = |point: Point| Point {
            x: point.y,
            y: point.x + 0.6 * aside,
            ..point
        };
        Series {
            points: line.points.into_iter().map(across).collect(),
            ..line
        }
    });
    let dots: Vec<Series> = dots.collect();
    let beside = spread::outliers(&spread::ranges(&dots, |it| it.x), true);
    let words = Words::of(metric);
    let ticks = (0..).zip(&workloads);
    Chart {
        id: format!("{}-by-workload", words.id),
        title: format!("{} under every workload in closed loop", words.name),
        x: Axis::log(words.axis).over(extent(&dots, &beside, |it| it.x).iter()),
        y: Axis {
            ticks: ticks
                .map(|(at, it)| (f64::from(at), it.name.clone()))
                .collect(),
            ..Axis::linear("")
        },
        body: Body::Dots(dots),
        beside,
    }
    .unless_empty()
}

/// Percentiles that a reader looks for.
pub(crate) const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// Points of a curve for each factor of ten in 1/(1-p).
const POINTS_PER_DECADE: i32 = 12;

/// Response time by percentile. The axis is that of 1/(1-p), so that each nine more has the same room; a
/// curve ends where the sample does not support more.
pub(crate) fn curve(
    findings: &Findings,
    latencies: &Latencies,
    workload: &Workload,
) -> Option<Chart> {
    let series = findings.entries(Metric::P99, &workload.name);
    let series = series.filter_map(|(server, entry)| {
        let histogram = latencies.get(server, &workload.name)?;
        let remark = findings.remark(entry, server, &workload.name);
        let points = (0..)
            .zip(curve_points(histogram))
            .map(|(place, (x, percentile, us))| {
                let mut says = vec![format!("p{percentile}: {} µs", number(us))];
                says.extend(remark.clone());
                Point {
                    x,
                    y: us,
                    place,
                    interval: None,
                    is_sound: entry.standing == Standing::Ranked,
                    says,
                }
            });
        Some(Series {
            server: server.clone(),
            points: points.collect(),
        })
    });
    let series: Vec<Series> = series.filter(|it| !it.points.is_empty()).collect();
    let beside = spread::outliers(&spread::ranges(&series, |it| it.y), true);
    let ticks = PERCENTILES.map(|p| (100.0 / (100.0 - p), format!("{p}%")));
    let loop_kind = match workload.pace.rate() {
        Some(rate) => format!("open loop at {}/s", count(rate.per_s())),
        None => "closed loop".to_owned(),
    };
    Chart {
        id: format!("latency-{}", workload.name),
        title: format!(
            "Response time by percentile, {} ({loop_kind})",
            workload.name
        ),
        x: Axis {
            ticks: ticks.to_vec(),
            ..Axis::log("percentile")
        },
        y: Axis::log("response time, µs").over(extent(&series, &beside, |it| it.y).iter()),
        body: Body::Curves(series),
        beside,
    }
    .unless_empty()
}

/// 1/(1-p), the percentile, and its value in microseconds.
fn curve_points(histogram: &Histogram<u64>) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
    let last = 4 * POINTS_PER_DECADE;
    let grid = (0..=last).map(|step| 10_f64.powf(f64::from(step) / f64::from(POINTS_PER_DECADE)));
    // The axis begins at the median. What is below it is not drawn, and must not stretch the other axis.
    let median = 2.0;
    let grid = [median]
        .into_iter()
        .chain(grid.filter(move |&x| x > median));
    grid.filter_map(|x| {
        let p = 100.0 - 100.0 / x;
        // As many digits as tell it from its neighbours.
        let digits = x.log10().floor().max(0.0) as i32 + 1;
        let shown = (p * 10_f64.powi(digits)).round() / 10_f64.powi(digits);
        let supported = histogram.len() >= samples_needed(p).max(1);
        supported.then(|| (x, shown, histogram.value_at_percentile(p) as f64 / 1e3))
    })
}

/// Percentiles of a server under a workload; `too few` where the sample does not support one.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> Vec<String> {
    let cell = |p| match engine::latency::percentile(histogram, p) {
        Some(us) => number(us),
        None => "too few".to_owned(),
    };
    PERCENTILES.map(cell).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratios that are next to nothing, or next to no limit, make no axis of a thousand ticks.
    #[test]
    fn ticks_of_ratios_are_few() {
        for (low, high) in [(5e-324, 1.0), (1.0, f64::MAX), (1e-300, 1e300), (0.5, 2.0)] {
            let ticks = ticks_of_ratios(low, high);
            assert!(
                (1..=61).contains(&ticks.len()),
                "{low} to {high}: {ticks:?}"
            );
            assert!(ticks.iter().all(|it| it.is_finite() && *it > 0.0));
        }
    }

    #[test]
    fn numbers() {
        for (value, expected, counted) in [
            (0.0, "0.00", "0"),
            (0.5, "0.50", "0.50"),
            (7.814, "7.81", "7.81"),
            (64.0, "64.0", "64"),
            (999.4, "999", "999"),
            (1_234.4, "1,234", "1,234"),
            (1_234_567.0, "1,234,567", "1,234,567"),
        ] {
            assert_eq!(
                (number(value).as_str(), count(value).as_str()),
                (expected, counted)
            );
        }
    }

    #[test]
    fn rates_have_little_room() {
        for (value, expected) in [
            (500.0, "500"),
            (1e3, "1k"),
            (2_500.0, "2.50k"),
            (120e3, "120k"),
        ] {
            assert_eq!(compact(value), expected);
        }
    }

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        for (low, high, expected) in [
            (7.0, 13.0, &[5.0, 10.0, 20.0][..]),
            (1.0, 1.0, &[1.0]),
            (1.0, 10.0, &[1.0, 2.0, 5.0, 10.0]),
            (30.0, 250_000.0, &[10.0, 100.0, 1e3, 1e4, 1e5, 1e6]),
        ] {
            assert_eq!(ticks_of_ratios(low, high), expected, "{low} to {high}");
        }
        for (high, expected) in [
            (0.0, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0][..]),
            (13.8, &[0.0, 5.0, 10.0, 15.0]),
            (100.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
            (101.0, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0]),
        ] {
            let ticks: Vec<f64> = (ticks_from_zero(high).iter())
                .map(|it| (it * 1e6).round() / 1e6)
                .collect();
            assert_eq!(ticks, expected, "to {high}");
        }
    }
}
