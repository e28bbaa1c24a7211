//! Whether there is anything to see in a chart: what all servers have alike is a sentence, and a server far
//! beyond the others is named beside them.

use super::{Bars, Body, Chart, Point, Series, number};
use engine::figures::listed;

/// A server with its smallest and largest value.
pub(super) type Extent = (String, f64, f64);

/// How many times as long an axis of ratios may become for the sake of one server.
const LONGER: f64 = 1.5;
/// On such an axis, a server that is nearer than this factor to the next one is drawn.
const NEAR: f64 = 2.0;
/// How many times as high an axis from zero may become.
const HIGHER: f64 = 8.0;

/// From the smallest to the largest value of each server.
pub(super) fn ranges(series: &[Series], value: fn(&Point) -> f64) -> Vec<Extent> {
    let range = |it: &Series| {
        let values = it.points.iter().map(value);
        let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (it.server.clone(), low, high)
    };
    series.iter().map(range).collect()
}

/// Whether values are so far apart that an axis from zero presses most of them together.
pub(super) fn is_wide(ranges: &[Extent]) -> bool {
    let beside = outliers(ranges, true);
    let drawn = || ranges.iter().filter(|it| !beside.contains(&it.0));
    let low = drawn().map(|it| it.1).fold(f64::INFINITY, f64::min);
    let high = drawn().map(|it| it.2).fold(0.0, f64::max);
    low > 0.0 && high > HIGHER * low
}

/// Servers whose values all lie so far outside those of the others that an axis which holds them shows little
/// else. Two others always remain, and two thirds of all.
pub(super) fn outliers(ranges: &[Extent], is_log: bool) -> Vec<String> {
    let mut left: Vec<&Extent> = ranges.iter().filter(|it| it.2 > 0.0 || !is_log).collect();
    let most = left.len() / 3;
    let mut outside = Vec::new();
    while outside.len() < most && left.len() > 2 {
        let highest = (0..left.len()).max_by(|&a, &b| left[a].1.total_cmp(&left[b].1));
        let lowest = (0..left.len()).min_by(|&a, &b| left[a].2.total_cmp(&left[b].2));
        let candidates = [highest, lowest.filter(|_| is_log)];
        let found = candidates.into_iter().flatten().find(|&at| {
            let others = || (0..left.len()).filter(|&it| it != at).map(|it| left[it]);
            let low = others().map(|it| it.1).fold(f64::INFINITY, f64::min);
            let high = others().map(|it| it.2).fold(0.0, f64::max);
            let (_, least, most) = left[at];
            let is_apart = *least > high || *most < low;
            let stretches = match is_log {
                true => {
                    let span = (high / low).ln().max(3_f64.ln());
                    let is_near = *least < NEAR * high && *most > low / NEAR;
                    !is_near && (high.max(*most) / low.min(*least)).ln() > LONGER * span
                }
                false => *most > HIGHER * high,
            };
            is_apart && stretches
        });
        let Some(at) = found else { break };
        outside.push(left.remove(at).0.clone());
    }
    outside
}

/// The smallest and the largest, or the one that there is.
fn from_to(low: f64, high: f64) -> String {
    match (number(low), number(high)) {
        (low, high) if low == high => low,
        (low, high) => format!("{low}–{high}"),
    }
}

impl Bars {
    /// All parts of a bar together.
    pub(crate) fn total(&self, at: usize) -> f64 {
        self.parts.iter().map(|part| part.values[at]).sum()
    }
}

impl Chart {
    /// The servers beside the chart, each with its values.
    pub(crate) fn named_beside(&self) -> Option<String> {
        let ranges = match &self.body {
            Body::Lines(series) | Body::Curves(series) => ranges(series, |it| it.y),
            Body::Dots(series) => ranges(series, |it| it.x),
            Body::Bars(bars) => (bars.servers.iter().enumerate())
                .map(|(at, server)| (server.clone(), bars.total(at), bars.total(at)))
                .collect(),
        };
        let named = ranges.iter().filter(|it| !self.draws(&it.0));
        let named: Vec<String> = named
            .map(|(server, low, high)| format!("{server} ({})", from_to(*low, *high)))
            .collect();
        (!named.is_empty()).then(|| listed(named.iter().map(String::as_str)))
    }

    /// What the chart would show, if that is nothing but the same value everywhere.
    pub(crate) fn sentence(&self) -> Option<String> {
        let drawn = self.servers().into_iter().filter(|it| self.draws(it));
        let drawn: Vec<&str> = drawn.collect();
        let who = match drawn.as_slice() {
            [] => return None,
            [one] => (*one).to_owned(),
            few if few.len() <= 6 => listed(few.iter().copied()),
            all => format!("all {} servers", all.len()),
        };
        let who = match (self.beside.is_empty(), drawn.len() > 6) {
            (false, true) => who.replace("all ", "the other "),
            _ => who,
        };
        let found = match &self.body {
            Body::Lines(series) | Body::Curves(series) => self.alike(series, |it| it.y)?,
            Body::Dots(series) => self.alike(series, |it| it.x)?,
            Body::Bars(bars) => self.alike_bars(bars)?,
        };
        let exceptions = match (self.beside.len(), self.named_beside()) {
            (_, None) => String::new(),
            (1, Some(one)) => format!(" Exception: {one}."),
            (_, Some(more)) => format!(" Exceptions: {more}."),
        };
        let axis = match self.body {
            Body::Lines(_) | Body::Curves(_) => &self.y.title,
            Body::Dots(_) | Body::Bars(_) => &self.x.title,
        };
        Some(match found {
            Alike::Same(value) => format!("{value} for {who} ({axis}).{exceptions}"),
            Alike::Noise(range) => format!(
                "No difference was shown between {who}: {range} ({axis}), and all intervals overlap.{exceptions}"
            ),
        })
    }

    fn alike(&self, series: &[Series], value: fn(&Point) -> f64) -> Option<Alike> {
        let drawn = series.iter().filter(|it| self.draws(&it.server));
        let points: Vec<&Point> = drawn.flat_map(|it| &it.points).collect();
        let texts = || points.iter().map(|it| number(value(it)));
        let first = texts().next()?;
        if texts().all(|it| it == first) {
            return Some(Alike::Same(first));
        }
        let ends: Option<Vec<(f64, f64)>> = points.iter().map(|it| it.interval).collect();
        let ends = ends?;
        let low = ends.iter().map(|it| it.0).fold(0.0, f64::max);
        let high = ends.iter().map(|it| it.1).fold(f64::INFINITY, f64::min);
        let values = || points.iter().map(|it| value(it));
        let (least, most) = (
            values().fold(f64::INFINITY, f64::min),
            values().fold(0.0, f64::max),
        );
        (low <= high).then(|| Alike::Noise(from_to(least, most)))
    }

    /// Bars have no intervals: only what is written alike is alike.
    fn alike_bars(&self, bars: &Bars) -> Option<Alike> {
        let drawn: Vec<usize> = (0..bars.servers.len())
            .filter(|&at| self.draws(&bars.servers[at]))
            .collect();
        let is_same = |of: &dyn Fn(usize) -> f64| {
            let mut texts = drawn.iter().map(|&at| number(of(at)));
            let first = texts.next();
            texts.all(|it| Some(it) == first)
        };
        let all_same = bars.parts.iter().all(|part| is_same(&|at| part.values[at]));
        let first = *drawn.first()?;
        (all_same && is_same(&|at| bars.total(at))).then(|| Alike::Same(number(bars.total(first))))
    }
}

/// How values are alike.
enum Alike {
    /// They are written the same.
    Same(String),
    /// From where to where they lie; their intervals all hold one common value.
    Noise(String),
}

#[cfg(test)]
mod tests {
    use super::super::Axis;
    use super::*;

    fn extents(values: &[(f64, f64)]) -> Vec<Extent> {
        let named = values.iter().enumerate();
        named
            .map(|(n, &(low, high))| (format!("s{n}"), low, high))
            .collect()
    }

    #[test]
    fn one_far_from_the_others_is_named() {
        let near = [(7.0, 9.0), (7.5, 12.0), (8.0, 14.0)];
        let with = |more: (f64, f64)| extents(&[&near[..], &[more]].concat());
        for (more, is_log, expected) in [
            ((350.0, 500.0), true, true),
            ((350.0, 500.0), false, true),
            ((0.1, 0.2), true, true),
            ((3.6, 4.0), true, false),
            // An axis from zero holds what is small anyway.
            ((0.1, 0.2), false, false),
            ((20.0, 30.0), true, false),
            ((20.0, 30.0), false, false),
            // It meets the others: without it, much would be missing.
            ((10.0, 5e4), true, false),
            ((10.0, 5e4), false, false),
        ] {
            let found = outliers(&with(more), is_log);
            let expected: &[&str] = if expected { &["s3"] } else { &[] };
            assert_eq!(found, expected, "{more:?}, {is_log}");
        }
        assert!(outliers(&extents(&[(1.0, 1.0), (900.0, 900.0)]), true).is_empty());
        assert!(outliers(&[], true).is_empty());
    }

    fn lines(values: &[(f64, Option<(f64, f64)>)]) -> Chart {
        let point = |&(y, interval)| Point {
            x: 1.0,
            y,
            place: 0,
            interval,
            is_sound: true,
            says: Vec::new(),
        };
        let series = values.iter().enumerate().map(|(n, value)| Series {
            server: format!("s{n}"),
            points: vec![point(value)],
        });
        Chart {
            id: String::new(),
            title: String::new(),
            x: Axis::linear(""),
            y: Axis::linear("µs"),
            body: Body::Lines(series.collect()),
            beside: Vec::new(),
        }
    }

    #[test]
    fn what_is_alike_is_a_sentence() {
        let same = lines(&[(7.661, None), (7.664, None)]);
        assert_eq!(same.sentence().unwrap(), "7.66 for s0 and s1 (µs).");
        let noise = lines(&[(7.0, Some((6.0, 8.0))), (7.5, Some((6.8, 8.2)))]);
        assert_eq!(
            noise.sentence().unwrap(),
            "No difference was shown between s0 and s1: 7.00–7.50 (µs), and all intervals overlap."
        );
        assert_eq!(
            lines(&[(7.0, Some((6.0, 7.2))), (7.5, Some((7.3, 8.0)))]).sentence(),
            None
        );
        assert_eq!(
            lines(&[(7.0, None), (7.5, Some((6.0, 8.0)))]).sentence(),
            None
        );
        let mut beside = lines(&[(7.0, None), (7.0, None), (400.0, None)]);
        beside.beside = vec!["s2".to_owned()];
        assert_eq!(
            beside.sentence().unwrap(),
            "7.00 for s0 and s1 (µs). Exception: s2 (400)."
        );
    }
}
