//! Charts as SVG beside a Markdown file: the same data and the same looks as on the page, on a white ground
//! that is read in light and dark themes alike. The same evidence gives the same bytes.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::element::ComposedElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::ledger::Ledger;
use super::chart::style::{Colour, PARTS, Shape, Style};
use super::chart::{
    self, Axis, Bars, Body, Chart, Findings, Load, LoadShape, Point, Series, count, number,
    ticks_from_zero,
};
use lab::compare::{Evidence, Metric};

/// A picture of the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Of the file, without a folder.
    pub file: String,
    /// For who cannot see it.
    pub alt: String,
    /// SVG.
    pub svg: String,
}

/// The pictures that the evidence has the figures for: what a request costs, against connections and under
/// every workload; how latency grows with the rate; what a request takes in system calls.
pub fn all(evidence: &Evidence) -> Vec<Picture> {
    let findings = Findings::of(evidence);
    let loads = Load::all(evidence);
    let keep_alive = loads
        .iter()
        .find(|load| load.shape == LoadShape::KEEP_ALIVE);
    let open = loads
        .iter()
        .find(|load| load.rate_per_s.is_some() && load.workloads.len() > 1);
    let calls = [LoadShape::KEEP_ALIVE, LoadShape::NEW_CONNECTION].map(|shape| {
        let workload = Load::nearest(evidence, shape, 64)?;
        chart::ledger::chart(&findings, workload, Ledger::Calls)
    });
    let charts = [
        keep_alive.and_then(|load| chart::by_connections(&findings, load, Metric::Cpu)),
        chart::by_workload(&findings, Metric::Cpu),
        open.and_then(|load| chart::by_rate(&findings, load, Metric::P99)),
    ];
    (charts.into_iter().chain(calls).flatten())
        .map(|chart| picture(&chart, evidence))
        .collect()
}

/// The one of what a request costs under every workload.
pub(crate) fn by_workload(evidence: &Evidence) -> Option<Picture> {
    let chart = chart::by_workload(&Findings::of(evidence), Metric::Cpu)?;
    Some(picture(&chart, evidence))
}

fn picture(chart: &Chart, evidence: &Evidence) -> Picture {
    Picture {
        file: format!("{}.svg", chart.id),
        alt: chart.alt(),
        svg: svg(chart, evidence),
    }
}

const WIDTH: u32 = 760;
const INK: RGBColor = RGBColor(27, 31, 36);
const SOFT: RGBColor = RGBColor(87, 96, 106);
const GRID: RGBColor = RGBColor(226, 229, 234);
const TEXT_HEIGHT: u32 = 13;
/// Of a letter, about: no font is at hand to measure it with.
const LETTER_WIDTH: u32 = 7;

/// What is drawn with cannot fail: it writes to memory.
const INFALLIBLE: &str = "writing to memory does not fail";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn svg(chart: &Chart, evidence: &Evidence) -> String {
    let rows = match &chart.body {
        Body::Lines(_) | Body::Curves(_) => 11,
        Body::Dots(_) => chart.y.ticks.len(),
        Body::Bars(bars) => bars.servers.len(),
    };
    let entries = entries(chart, evidence);
    let lines = legend_lines(&entries);
    let head = 36 + 20 * lines.len() as u32;
    let height = head + 28 * rows as u32 + 60;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).expect(INFALLIBLE);
        text(&root, &chart.title, (14, 18), HPos::Left, INK, 16);
        for (line, entries) in lines.into_iter().enumerate() {
            let mut x = 14;
            for entry in entries {
                draw_entry(&root, entry, (x, 44 + 20 * line as i32));
                x += entry.width() as i32;
            }
        }
        let (_, below) = root.split_vertically(head);
        match &chart.body {
            Body::Lines(series) | Body::Curves(series) => {
                draw_lines(&below, chart, series, evidence);
            }
            Body::Dots(series) => draw_dots(&below, chart, series, evidence),
            Body::Bars(bars) => draw_bars(&below, chart, bars),
        }
        root.present().expect(INFALLIBLE);
    }
    svg
}

fn colour((red, green, blue): Colour) -> RGBColor {
    RGBColor(red, green, blue)
}

fn text(area: &Area, text: &str, at: (i32, i32), h: HPos, ink: RGBColor, size: u32) {
    let style = ("sans-serif", size)
        .into_font()
        .color(&ink)
        .pos(Pos::new(h, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))
        .expect(INFALLIBLE);
}

/// What a server, or a part of a bar, looks like.
struct Entry {
    name: String,
    colour: RGBColor,
    /// Of a server; a part has none.
    shape: Option<Shape>,
}

impl Entry {
    fn width(&self) -> u32 {
        36 + LETTER_WIDTH * self.name.chars().count() as u32
    }
}

fn entries(chart: &Chart, evidence: &Evidence) -> Vec<Entry> {
    match &chart.body {
        Body::Bars(bars) => (bars.parts.iter().zip(PARTS.iter().cycle()))
            .map(|(part, &of)| Entry {
                name: part.name.clone(),
                colour: colour(of),
                shape: None,
            })
            .collect(),
        Body::Lines(series) | Body::Curves(series) | Body::Dots(series) => (series.iter())
            .map(|it| {
                let style = Style::of(evidence, &it.server);
                Entry {
                    name: it.server.clone(),
                    colour: colour(style.colour),
                    shape: Some(style.shape),
                }
            })
            .collect(),
    }
}

/// The entries in lines that fit.
fn legend_lines(entries: &[Entry]) -> Vec<Vec<&Entry>> {
    let mut lines: Vec<Vec<&Entry>> = Vec::new();
    let mut room = 0;
    for entry in entries {
        let width = entry.width();
        match lines.last_mut() {
            Some(line) if width <= room => line.push(entry),
            _ => {
                lines.push(vec![entry]);
                room = WIDTH - 28;
            }
        }
        room = room.saturating_sub(width);
    }
    lines
}

fn draw_entry(area: &Area, entry: &Entry, (x, y): (i32, i32)) {
    match entry.shape {
        Some(shape) => {
            let line = PathElement::new(vec![(x, y), (x + 20, y)], entry.colour.stroke_width(2));
            area.draw(&line).expect(INFALLIBLE);
            area.draw(&mark((x + 10, y), shape, entry.colour, true))
                .expect(INFALLIBLE);
        }
        None => {
            let square = Rectangle::new([(x + 6, y - 6), (x + 18, y + 6)], entry.colour.filled());
            area.draw(&square).expect(INFALLIBLE);
        }
    }
    text(area, &entry.name, (x + 25, y), HPos::Left, INK, TEXT_HEIGHT);
}

type Mark<'a, C> = ComposedElement<C, SVGBackend<'a>, Polygon<(i32, i32)>, PathElement<(i32, i32)>>;

/// A point: full where it is compared, hollow where it is only shown.
fn mark<'a, C>(at: C, shape: Shape, of: RGBColor, is_sound: bool) -> Mark<'a, C> {
    let outline: Vec<(i32, i32)> = match shape {
        // Enough corners to look round.
        Shape::Circle => (0..12)
            .map(|n| {
                let angle = f64::from(n) * std::f64::consts::TAU / 12.0;
                (
                    (angle.cos() * 5.0).round() as i32,
                    (angle.sin() * 5.0).round() as i32,
                )
            })
            .collect(),
        Shape::Square => vec![(-4, -4), (4, -4), (4, 4), (-4, 4)],
        Shape::Diamond => vec![(0, -6), (6, 0), (0, 6), (-6, 0)],
        Shape::Triangle => vec![(0, -6), (6, 4), (-6, 4)],
        Shape::TriangleDown => vec![(0, 6), (6, -4), (-6, -4)],
        Shape::Cross => vec![
            (-2, -6),
            (2, -6),
            (2, -2),
            (6, -2),
            (6, 2),
            (2, 2),
            (2, 6),
            (-2, 6),
            (-2, 2),
            (-6, 2),
            (-6, -2),
            (-2, -2),
        ],
    };
    let mut closed = outline.clone();
    closed.push(outline[0]);
    let (inside, edge) = match is_sound {
        true => (of, TRANSPARENT.stroke_width(0)),
        false => (WHITE, of.to_rgba().stroke_width(2)),
    };
    EmptyElement::at(at) + Polygon::new(outline, inside.filled()) + PathElement::new(closed, edge)
}

/// Labels of ticks are at least so far apart, as a share of the axis.
const LABELS_APART: f64 = 0.05;

/// Where values are along an axis.
#[derive(Clone)]
struct Scale {
    is_log: bool,
    ends: (f64, f64),
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// Of an axis that has to hold these values.
    fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let ticks = match axis.ticks.is_empty() {
            false => axis.ticks.clone(),
            true => {
                let ticks = ticks_from_zero(values.fold(0.0, f64::max));
                // As many digits as the step needs, and the same for all.
                let step: f64 = ticks.get(1).copied().unwrap_or(1.0);
                let digits = (-step.log10().floor()).max(0.0) as usize;
                let label = |tick: f64| match digits {
                    0 => count(tick),
                    _ => format!("{tick:.digits$}"),
                };
                ticks.into_iter().map(|tick| (tick, label(tick))).collect()
            }
        };
        let first = ticks.first().map_or(0.0, |tick| tick.0);
        let last = ticks.last().map_or(1.0, |tick| tick.0);
        // Room for the points at the ends.
        let ends = match axis.is_log {
            true => {
                let room = (last / first).max(1.2).powf(0.03);
                (first / room, last * room)
            }
            false => (first, last + 0.03 * (last - first)),
        };
        let mut scale = Scale {
            is_log: axis.is_log,
            ends,
            ticks,
        };
        scale.thin();
        scale
    }

    /// Takes the labels off ticks that are so close to the next that both could not be read.
    fn thin(&mut self) {
        let shares: Vec<f64> = self.ticks.iter().map(|tick| self.share(tick.0)).collect();
        let mut next = f64::INFINITY;
        for ((_, label), share) in self.ticks.iter_mut().zip(shares).rev() {
            match next - share < LABELS_APART {
                true => label.clear(),
                false => next = share,
            }
        }
    }

    /// Where a value is between the ends, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let stretched = |value: f64| if self.is_log { value.ln() } else { value };
        let (low, high) = (stretched(self.ends.0), stretched(self.ends.1));
        (stretched(value) - low) / (high - low)
    }

    /// Rows below each other, the first on top.
    fn rows(names: Vec<String>) -> Self {
        let count = names.len() as f64;
        let ticks = (0..).zip(names).map(|(at, name)| (f64::from(at), name));
        Scale {
            is_log: false,
            ends: (count - 0.5, -0.5),
            ticks: ticks.collect(),
        }
    }

    /// Letters of the longest label.
    fn longest(&self) -> u32 {
        let lengths = self.ticks.iter().map(|tick| tick.1.chars().count() as u32);
        lengths.max().unwrap_or(0)
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (begin, end): (i32, i32)) -> i32 {
        begin + (self.share(*value) * f64::from(end - begin)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.0).collect()
    }

    fn range(&self) -> Range<f64> {
        self.ends.0..self.ends.1
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        let label = self.ticks.iter().find(|tick| tick.0 == *value);
        label.map_or(String::new(), |tick| tick.1.clone())
    }
}

/// Axes and grid.
fn frame<'a, 'b>(
    area: &'b Area<'a>,
    chart: &Chart,
    x: &Scale,
    y: &Scale,
) -> ChartContext<'b, SVGBackend<'a>, Cartesian2d<Scale, Scale>> {
    let y_title = if chart.y.title.is_empty() { 0 } else { 22 };
    let mut context = ChartBuilder::on(area)
        .margin(10)
        .margin_right(30)
        .x_label_area_size(42)
        .y_label_area_size(12 + LETTER_WIDTH * y.longest() + y_title)
        .build_cartesian_2d(x.clone(), y.clone())
        .expect(INFALLIBLE);
    let font = |size| ("sans-serif", size).into_font();
    context
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(SOFT)
        .label_style(font(TEXT_HEIGHT).color(&SOFT))
        .axis_desc_style(font(TEXT_HEIGHT).color(&INK))
        .x_desc(&chart.x.title)
        .y_desc(&chart.y.title)
        .x_labels(x.ticks.len())
        .y_labels(y.ticks.len())
        .draw()
        .expect(INFALLIBLE);
    context
}

fn ends(point: &Point, value: f64) -> [f64; 2] {
    point.interval.map_or([value; 2], |(low, high)| [low, high])
}

fn draw_lines(area: &Area, chart: &Chart, series: &[Series], evidence: &Evidence) {
    let points = || series.iter().flat_map(|it| &it.points);
    let x = Scale::of(&chart.x, points().map(|point| point.x));
    let y = Scale::of(&chart.y, points().flat_map(|point| ends(point, point.y)));
    let mut context = frame(area, chart, &x, &y);
    for it in series {
        let style = Style::of(evidence, &it.server);
        let of = colour(style.colour);
        let place = |point: &Point| (point.x, point.y);
        // Points that are compared are joined; towards the others the line is thin.
        for pair in it.points.windows(2) {
            let both_sound = pair.iter().all(|point| point.is_sound);
            let line = of.stroke_width(if both_sound { 2 } else { 1 });
            let path = PathElement::new(vec![place(&pair[0]), place(&pair[1])], line);
            context.plotting_area().draw(&path).expect(INFALLIBLE);
        }
        let intervals = it.points.iter().map(|point| {
            let [low, high] = ends(point, point.y);
            PathElement::new(vec![(point.x, low), (point.x, high)], of)
        });
        context.draw_series(intervals).expect(INFALLIBLE);
        let marks = it
            .points
            .iter()
            .map(|point| mark(place(point), style.shape, of, point.is_sound));
        context.draw_series(marks).expect(INFALLIBLE);
    }
}

fn draw_dots(area: &Area, chart: &Chart, series: &[Series], evidence: &Evidence) {
    let points = series.iter().flat_map(|it| &it.points);
    let x = Scale::of(&chart.x, points.flat_map(|point| ends(point, point.x)));
    let y = Scale::rows(chart.y.ticks.iter().map(|tick| tick.1.clone()).collect());
    let mut context = frame(area, chart, &x, &y);
    for it in series {
        let style = Style::of(evidence, &it.server);
        let of = colour(style.colour);
        let intervals = it.points.iter().map(|point| {
            let [low, high] = ends(point, point.x);
            PathElement::new(vec![(low, point.y), (high, point.y)], of)
        });
        context.draw_series(intervals).expect(INFALLIBLE);
        let marks = (it.points.iter())
            .map(|point| mark((point.x, point.y), style.shape, of, point.is_sound));
        context.draw_series(marks).expect(INFALLIBLE);
    }
}

fn draw_bars(area: &Area, chart: &Chart, bars: &Bars) {
    let total = |at: usize| bars.parts.iter().map(|part| part.values[at]).sum::<f64>();
    let totals: Vec<f64> = (0..bars.servers.len()).map(total).collect();
    let x = Scale::of(&chart.x, totals.iter().copied());
    let named = bars.servers.iter().zip(&bars.is_sound);
    let names = named.map(|(server, is_sound)| match is_sound {
        true => server.clone(),
        false => format!("{server} †"),
    });
    let y = Scale::rows(names.collect());
    let mut context = frame(area, chart, &x, &y);
    for (at, total) in totals.iter().enumerate() {
        let row = at as f64;
        let mut from = 0.0;
        let parts = bars
            .parts
            .iter()
            .zip(PARTS.iter().cycle())
            .map(|(part, &of)| {
                let begin = from;
                from += part.values[at];
                Rectangle::new(
                    [(begin, row - 0.34), (from, row + 0.34)],
                    colour(of).filled(),
                )
            });
        let parts: Vec<_> = parts.collect();
        context.draw_series(parts).expect(INFALLIBLE);
        let style = ("sans-serif", TEXT_HEIGHT)
            .into_font()
            .color(&INK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        let sum = EmptyElement::at((*total, row)) + Text::new(number(*total), (5, 0), style);
        context.plotting_area().draw(&sum).expect(INFALLIBLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::fixture;

    #[test]
    fn values_along_an_axis() {
        let axis = |is_log, ticks: &[f64]| Axis {
            title: String::new(),
            is_log,
            ticks: ticks.iter().map(|&tick| (tick, tick.to_string())).collect(),
        };
        let log = Scale::of(&axis(true, &[1.0, 10.0, 100.0]), std::iter::empty());
        let at = |scale: &Scale, value: f64| scale.map(&value, (0, 1_000));
        assert_eq!(at(&log, 10.0), 500);
        assert!(at(&log, 1.0) > 0 && at(&log, 100.0) < 1_000);
        let linear = Scale::of(&axis(false, &[]), [7.0, 13.8].into_iter());
        assert_eq!(linear.ticks.last().unwrap().1, "15");
        assert_eq!(at(&linear, 0.0), 0);
        let fine = Scale::of(&axis(false, &[]), [0.98].into_iter());
        assert_eq!(fine.ticks[1].1, "0.2");
        let rows = Scale::rows(vec!["a".to_owned(), "b".to_owned()]);
        assert!(
            at(&rows, 0.0) > at(&rows, 1.0),
            "the first is on top, where y ends"
        );
    }

    #[test]
    fn the_same_evidence_gives_the_same_bytes() {
        let evidence = fixture::five_servers();
        let pictures = all(&evidence);
        assert_eq!(pictures, all(&evidence));
        let files: Vec<&str> = pictures.iter().map(|it| it.file.as_str()).collect();
        assert_eq!(
            files,
            ["cpu-by-workload.svg"],
            "there are no figures for others"
        );
        assert!(all(&fixture::evidence(&[], &[], Vec::new())).is_empty());
    }
}
