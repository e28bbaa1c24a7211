//! Charts as SVG beside a Markdown file: the same data and the same styles as on the page, on white, which
//! can be read in light and dark themes alike. The same evidence gives the same bytes.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::element::ComposedElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::ledger_bars::Ledger;
use super::chart::style::{Colour, DASHES, PARTS, Shape, Style};
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
    /// For readers who cannot see it.
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
        chart::ledger_bars::chart(&findings, workload, Ledger::Calls)
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

/// The backend writes to memory, which does not fail.
const INFALLIBLE: &str = "writing to memory does not fail";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Between names of lines, in pixels.
const NAMES_APART: i32 = 14;
/// plotters has no dash patterns: a line that is this wide and one more has the second of [`DASHES`], and so
/// on, until the SVG is complete.
const DASHED: u32 = 1_000;
/// Of lines.
const LINE_WIDTH: u32 = 2;

fn svg(chart: &Chart, evidence: &Evidence) -> String {
    let servers = chart.servers().len() - chart.beside.len();
    let sentence = chart.sentence();
    let body = match (&sentence, &chart.body) {
        (Some(_), _) => 0,
        (None, Body::Lines(_) | Body::Curves(_)) => (NAMES_APART as u32 * servers as u32).max(308),
        (None, Body::Dots(_)) => 28 * chart.y.ticks.len() as u32,
        (None, Body::Bars(_)) => 28 * servers as u32,
    };
    // Names at the ends of lines need no legend.
    let entries = match (&sentence, &chart.body) {
        (Some(_), _) | (None, Body::Lines(_) | Body::Curves(_)) => Vec::new(),
        (None, Body::Dots(_) | Body::Bars(_)) => entries(chart, evidence),
    };
    let lines = legend_lines(&entries);
    let head = 36 + 20 * lines.len() as u32;
    let said = match sentence {
        Some(sentence) => Some(sentence),
        None => (chart.named_beside()).map(|beside| format!("Beyond the axis: {beside}.")),
    };
    let said: Vec<String> = said.map_or(Vec::new(), |said| {
        let wrapped = textwrap::wrap(&said, (WIDTH - 28) as usize / LETTER_WIDTH as usize);
        wrapped
            .into_iter()
            .map(std::borrow::Cow::into_owned)
            .collect()
    });
    let foot = 18 * said.len() as u32;
    let height = head + foot + if body > 0 { body + 60 } else { 0 };
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
        let (above, below) = root.split_vertically(height - foot);
        for (line, said) in (0..).zip(&said) {
            text(
                &below,
                said,
                (14, 4 + 18 * line),
                HPos::Left,
                SOFT,
                TEXT_HEIGHT,
            );
        }
        let (_, area) = above.split_vertically(head);
        if body > 0 {
            match &chart.body {
                Body::Lines(series) | Body::Curves(series) => {
                    draw_lines(&root, &area, chart, series, evidence);
                }
                Body::Dots(series) => draw_dots(&area, chart, series, evidence),
                Body::Bars(bars) => draw_bars(&area, chart, bars),
            }
        }
        root.present().expect(INFALLIBLE);
    }
    for (width, dashes) in (DASHED..).zip(DASHES) {
        let lengths: Vec<String> = dashes.iter().map(u32::to_string).collect();
        let dashes = match lengths.is_empty() {
            true => String::new(),
            false => format!(" stroke-dasharray=\"{}\"", lengths.join(" ")),
        };
        let coded = format!("stroke-width=\"{width}\"");
        svg = svg.replace(&coded, &format!("stroke-width=\"{LINE_WIDTH}\"{dashes}"));
    }
    svg
}

/// The width that stands for the dashes of a server.
fn dashed(style: Style) -> u32 {
    let pattern = DASHES.iter().position(|it| *it == style.dashes);
    DASHED + pattern.unwrap_or_default() as u32
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

/// A server, or a part of a bar, in a legend.
struct Entry {
    name: String,
    colour: RGBColor,
    /// Of a server; a part has none.
    style: Option<Style>,
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
                colour: colour(of.light),
                style: None,
            })
            .collect(),
        Body::Lines(series) | Body::Curves(series) | Body::Dots(series) => (series.iter())
            .filter(|it| chart.draws(&it.server))
            .map(|it| {
                let style = Style::of(evidence, &it.server);
                Entry {
                    name: it.server.clone(),
                    colour: colour(style.light()),
                    style: Some(style),
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
    match entry.style {
        Some(style) => {
            let line = entry.colour.stroke_width(dashed(style));
            let line = PathElement::new(vec![(x, y), (x + 20, y)], line);
            area.draw(&line).expect(INFALLIBLE);
            area.draw(&mark((x + 10, y), style.shape, entry.colour, true))
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
        Shape::Saltire => vec![
            (-3, -6),
            (0, -3),
            (3, -6),
            (6, -3),
            (3, 0),
            (6, 3),
            (3, 6),
            (0, 3),
            (-3, 6),
            (-6, 3),
            (-3, 0),
            (-6, -3),
        ],
        Shape::Star => (0..10)
            .map(|n| {
                let angle = f64::from(n) * std::f64::consts::TAU / 10.0;
                let radius = if n % 2 == 0 { 7.0 } else { 3.0 };
                (
                    (angle.sin() * radius).round() as i32,
                    (-angle.cos() * radius).round() as i32,
                )
            })
            .collect(),
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

/// Axes and grid, with so many pixels on the right.
fn frame<'a, 'b>(
    area: &'b Area<'a>,
    chart: &Chart,
    x: &Scale,
    y: &Scale,
    room: u32,
) -> ChartContext<'b, SVGBackend<'a>, Cartesian2d<Scale, Scale>> {
    let y_title = if chart.y.title.is_empty() { 0 } else { 22 };
    let mut context = ChartBuilder::on(area)
        .margin(10)
        .margin_right(room)
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

fn draw_lines(root: &Area, area: &Area, chart: &Chart, series: &[Series], evidence: &Evidence) {
    let series: Vec<&Series> = series.iter().filter(|it| chart.draws(&it.server)).collect();
    let points = || series.iter().flat_map(|it| &it.points);
    let x = Scale::of(&chart.x, points().map(|point| point.x));
    let y = Scale::of(&chart.y, points().flat_map(|point| ends(point, point.y)));
    let longest = series
        .iter()
        .map(|it| it.server.chars().count() as u32)
        .max();
    let room = 24 + LETTER_WIDTH * longest.unwrap_or(0);
    let mut context = frame(area, chart, &x, &y, room);
    let mut names: Vec<Name> = Vec::new();
    for it in &series {
        let style = Style::of(evidence, &it.server);
        let of = colour(style.light());
        let place = |point: &Point| (point.x, point.y);
        for run in joined(&it.points) {
            let line = PathElement::new(
                run.iter().map(place).collect::<Vec<_>>(),
                of.stroke_width(dashed(style)),
            );
            context.plotting_area().draw(&line).expect(INFALLIBLE);
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
        names.extend(it.points.last().map(|last| Name {
            server: &it.server,
            colour: of,
            end: context.plotting_area().map_coordinate(&place(last)),
        }));
    }
    let (across, down) = context.plotting_area().get_pixel_range();
    draw_names(root, &mut names, across.end, down);
}

/// Points that a line joins: neighbours that are compared. Across what was left out there is a gap.
fn joined(points: &[Point]) -> impl Iterator<Item = &[Point]> {
    points
        .chunk_by(|a, b| a.is_sound && b.is_sound && b.place == a.place + 1)
        .filter(|run| run.len() > 1)
}

/// A server at the end of its line.
struct Name<'a> {
    server: &'a str,
    colour: RGBColor,
    /// In pixels.
    end: (i32, i32),
}

/// Names beside the ends of lines, without overlaps.
fn draw_names(root: &Area, names: &mut [Name], right: i32, down: Range<i32>) {
    names.sort_by_key(|name| name.end.1);
    let mut rows: Vec<i32> = names.iter().map(|name| name.end.1).collect();
    let mut least = down.start;
    for row in &mut rows {
        *row = (*row).max(least);
        least = *row + NAMES_APART;
    }
    let mut most = down
        .end
        .max(down.start + NAMES_APART * (rows.len() as i32 - 1));
    for row in rows.iter_mut().rev() {
        *row = (*row).min(most);
        most = *row - NAMES_APART;
    }
    for (name, row) in names.iter().zip(rows) {
        let (x, y) = name.end;
        // From the point, past the end of the axis, to the name.
        let path = vec![(x + 7, y), (right.max(x + 7), y), (right + 12, row)];
        let leader = PathElement::new(path, name.colour.mix(0.6).stroke_width(1));
        root.draw(&leader).expect(INFALLIBLE);
        text(
            root,
            name.server,
            (right + 16, row),
            HPos::Left,
            INK,
            TEXT_HEIGHT,
        );
    }
}

fn draw_dots(area: &Area, chart: &Chart, series: &[Series], evidence: &Evidence) {
    let series: Vec<&Series> = series.iter().filter(|it| chart.draws(&it.server)).collect();
    let points = series.iter().flat_map(|it| &it.points);
    let x = Scale::of(&chart.x, points.flat_map(|point| ends(point, point.x)));
    let y = Scale::rows(chart.y.ticks.iter().map(|tick| tick.1.clone()).collect());
    let mut context = frame(area, chart, &x, &y, 30);
    for it in series {
        let style = Style::of(evidence, &it.server);
        let of = colour(style.light());
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
    let drawn: Vec<usize> = (0..bars.servers.len())
        .filter(|&at| chart.draws(&bars.servers[at]))
        .collect();
    let x = Scale::of(&chart.x, drawn.iter().map(|&at| bars.total(at)));
    let names = drawn.iter().map(|&at| match bars.is_sound[at] {
        true => bars.servers[at].clone(),
        false => format!("{} †", bars.servers[at]),
    });
    let y = Scale::rows(names.collect());
    let mut context = frame(area, chart, &x, &y, 30);
    for (row, &at) in drawn.iter().enumerate() {
        let row = row as f64;
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
                    colour(of.light).filled(),
                )
            });
        let parts: Vec<_> = parts.collect();
        context.draw_series(parts).expect(INFALLIBLE);
        let style = ("sans-serif", TEXT_HEIGHT)
            .into_font()
            .color(&INK)
            .pos(Pos::new(HPos::Left, VPos::Center));
        let sum = EmptyElement::at((bars.total(at), row))
            + Text::new(number(bars.total(at)), (5, 0), style);
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

    /// A long ladder under those workloads alone whose names begin like this, which is quicker.
    fn ladder(workloads: &str) -> Evidence {
        let mut evidence = fixture::ladder();
        evidence
            .workloads
            .retain(|it| it.name.starts_with(workloads));
        evidence
            .cells
            .retain(|it| it.workload.starts_with(workloads));
        evidence
    }

    fn drawn(evidence: &Evidence, file: &str) -> Picture {
        let mut pictures = all(evidence).into_iter();
        let found = pictures.find(|it| it.file.starts_with(file));
        found.unwrap_or_else(|| panic!("no picture {file}"))
    }

    /// An attribute of an element; empty if it has none.
    fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
        let found = element.split_once(&format!(" {name}=\""));
        found.map_or("", |(_, rest)| rest.split('"').next().unwrap_or_default())
    }

    fn points(element: &str) -> Vec<(i32, i32)> {
        let point = |it: &str| {
            let (x, y) = it.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        let points = attribute(element, "points");
        points.split_whitespace().map(point).collect()
    }

    /// The elements of a kind, with what stands in them.
    fn elements<'a>(svg: &'a str, kind: &'static str) -> impl Iterator<Item = &'a str> {
        svg.split('<').filter(move |it| it.starts_with(kind))
    }

    /// Where texts stand.
    fn texts(svg: &str) -> Vec<(i32, i32, &str)> {
        let text = |it| {
            let place = |name| attribute(it, name).parse().unwrap();
            let (_, text) = it.split_once('>').unwrap();
            (place("x"), place("y"), text.trim())
        };
        elements(svg, "text ").map(text).collect()
    }

    #[test]
    fn names_at_the_ends_of_many_lines_do_not_overlap() {
        for (workloads, file) in [
            ("keep-alive", "cpu-by-connections"),
            ("poisson", "p99-by-rate"),
        ] {
            let evidence = ladder(workloads);
            let svg = drawn(&evidence, file).svg;
            let height: i32 = attribute(&svg, "height").parse().unwrap();
            let is_name = |it: &(i32, i32, &str)| evidence.servers.iter().any(|name| name == it.2);
            let mut names: Vec<_> = texts(&svg).into_iter().filter(is_name).collect();
            names.sort_by_key(|it| it.1);
            let beside = usize::from(svg.contains("Beyond the axis: python-http-server"));
            assert_eq!(names.len() + beside, 22, "{file}: {names:?}");
            for pair in names.windows(2) {
                assert_eq!(pair[0].0, pair[1].0, "{file}: they stand in a column");
                let apart = pair[1].1 - pair[0].1;
                assert!(apart >= TEXT_HEIGHT as i32, "{file}: {pair:?}");
            }
            assert!(names.iter().all(|it| (0..height).contains(&it.1)), "{file}");
        }
    }

    /// From which tick to which the lines of a server go, in the words at the ticks.
    fn joins(svg: &str, evidence: &Evidence, server: &str) -> Vec<String> {
        let texts = texts(svg);
        let tick = |x: i32| {
            // Labels of the axis stand on one line, the lowest but for its title.
            let found = texts.iter().filter(|it| it.0 == x);
            let (_, _, label) = found.max_by_key(|it| it.1).unwrap();
            label.to_string()
        };
        let style = Style::of(evidence, server);
        let dashes: Vec<String> = style.dashes.iter().map(u32::to_string).collect();
        let lines = elements(svg, "polyline ").filter(|it| {
            attribute(it, "stroke").eq_ignore_ascii_case(&chart::style::hex(style.light()))
                && attribute(it, "stroke-width") == LINE_WIDTH.to_string()
                && attribute(it, "stroke-dasharray") == dashes.join(" ")
        });
        // The outline of a hollow point is closed.
        let lines = lines.map(points).filter(|it| it.first() != it.last());
        lines
            .flat_map(|it| {
                let ticks: Vec<String> = it.iter().map(|point| tick(point.0)).collect();
                let pairs = ticks.windows(2).map(|pair| pair.join(" to "));
                pairs.collect::<Vec<_>>()
            })
            .collect()
    }

    /// No line goes across a cell that is not valid, nor across one that is missing.
    #[test]
    fn gaps_stay_gaps() {
        let mut evidence = ladder("keep-alive");
        let is_missing =
            |server: &str, workload: &str| (server, workload) == ("io-uring", "keep-alive-256");
        (evidence.cells).retain(|it| !is_missing(&it.server, &it.workload));
        let svg = drawn(&evidence, "cpu-by-connections").svg;
        let ticks = ["1", "4", "16", "64", "256", "1,024", "4,096", "9,000"];
        for (server, gap) in [
            ("event-loop", Some("16")),
            ("prefork", Some("4,096")),
            ("io-uring", Some("256")),
            ("async-tasks", None),
        ] {
            let expected: Vec<String> = ticks
                .windows(2)
                .filter(|pair| gap.is_none_or(|gap| !pair.contains(&gap)))
                .map(|pair| pair.join(" to "))
                .collect();
            assert_eq!(joins(&svg, &evidence, server), expected, "{server}");
        }
    }

    #[test]
    fn without_variation_a_picture_is_a_sentence() {
        let mut evidence = ladder("keep-alive");
        for cell in &mut evidence.cells {
            cell.server_cpu_us_per_request = Some(7.66);
        }
        let svg = drawn(&evidence, "cpu-by-connections").svg;
        let said: Vec<&str> = texts(&svg).into_iter().map(|it| it.2).collect();
        let said = said.join(" ");
        assert!(
            said.ends_with("7.66 for all 22 servers (server CPU, µs per request)."),
            "{said}"
        );
        for mark in ["polyline ", "polygon "] {
            assert_eq!(elements(&svg, mark).count(), 0, "{mark}");
        }
    }

    /// As the legend shows them.
    #[test]
    fn no_two_of_24_servers_look_alike() {
        let mut evidence = ladder("keep-alive-1");
        for name in ["hyper", "axum"] {
            let like = evidence.cells.iter().filter(|it| it.server == "event-loop");
            let mut cells: Vec<_> = like.cloned().collect();
            for cell in &mut cells {
                cell.server = name.to_owned();
            }
            evidence.cells.extend(cells);
            evidence.servers.push(name.to_owned());
        }
        let svg = drawn(&evidence, "cpu-by-workload").svg;
        let mut looks = Vec::new();
        for (before, name) in svg.split("<text ").zip(svg.split("<text ").skip(1)) {
            let (_, name) = name.split_once('>').unwrap();
            let name = name.split('<').next().unwrap().trim();
            if !evidence.servers.iter().any(|it| it == name) {
                continue;
            }
            let line = elements(before, "polyline ").next().unwrap();
            let shape = points(elements(before, "polygon ").next().unwrap());
            let (x, y) = points(line)[0];
            let shape: Vec<_> = shape.iter().map(|it| (it.0 - x, it.1 - y)).collect();
            let colour = attribute(line, "stroke");
            looks.push((colour, attribute(line, "stroke-dasharray"), shape));
        }
        // One is named beside the chart.
        assert_eq!(looks.len(), 23);
        for (at, one) in looks.iter().enumerate() {
            assert!(!looks[..at].contains(one), "{one:?}");
        }
    }
}
