//! Charts for plotly. What depends on the reader (light or dark, which servers are on) is left to the page.

use plotly::common::{
    DashType, ErrorData, ErrorType, HoverInfo, Line, Marker, MarkerSymbol, Mode, Orientation,
    TextPosition, Title,
};
use plotly::layout::{Axis as PlotlyAxis, AxisType, BarMode, HoverMode, Margin};
use plotly::{Bar, Layout, Plot, Scatter, Trace};

use crate::chart::style::{Colour, Dashes, PARTS, Shape, Style, hex};
use crate::chart::{Axis, Bars, Body, Chart, Series, number};
use lab::compare::Evidence;

/// Behind the name of a server whose bar is shown and not compared.
pub(super) const NOT_COMPARED: &str = " †";

/// The chart as JSON: `data` and `layout`. Every trace of lines or points has its server as `legendgroup`;
/// in bars the server is the category.
pub(super) fn json(chart: &Chart, evidence: &Evidence) -> String {
    let mut plot = Plot::new();
    for trace in traces(chart, evidence) {
        plot.add_trace(trace);
    }
    let height = match &chart.body {
        Body::Lines(_) | Body::Curves(_) => 340,
        Body::Dots(_) => 90 + 38 * chart.y.ticks.len().max(3),
        Body::Bars(bars) => 80 + 32 * bars.servers.len().max(2),
    };
    let is_flat = matches!(chart.body, Body::Dots(_) | Body::Bars(_));
    let mut y = axis(&chart.y);
    if let Body::Dots(_) = chart.body {
        // The first row on top, with room for what stands beside the rows' middles.
        y = y.range(vec![chart.y.ticks.len() as f64 - 0.5, -0.5]);
    }
    let mut x = axis(&chart.x);
    if let Body::Bars(_) = chart.body {
        x = x.range_mode(plotly::layout::RangeMode::ToZero);
    }
    plot.set_layout(
        Layout::new()
            .auto_size(true)
            .height(height)
            .margin(
                Margin::new()
                    .top(12)
                    .bottom(48)
                    .left(if is_flat { 12 } else { 58 })
                    // Beyond the bars stand their sums.
                    .right(match chart.body {
                        Body::Bars(_) => 48,
                        _ => 14,
                    })
                    .pad(2),
            )
            .show_legend(false)
            .bar_mode(BarMode::Stack)
            .bar_gap(0.35)
            .hover_mode(HoverMode::Closest)
            .x_axis(x)
            .y_axis(y),
    );
    plot.to_json()
}

fn axis(axis: &Axis) -> PlotlyAxis {
    let mut plotly = PlotlyAxis::new()
        .auto_margin(true)
        .fixed_range(true)
        .separate_thousands(true)
        .zero_line(false)
        .exponent_format(plotly::common::ExponentFormat::None);
    if !axis.title.is_empty() {
        plotly = plotly.title(Title::with_text(&axis.title));
    }
    if axis.is_log {
        plotly = plotly.type_(AxisType::Log);
        if let (Some((first, _)), Some((last, _))) = (axis.ticks.first(), axis.ticks.last()) {
            // Room for the points at the ends.
            let room = 0.03 * (last / first).log10();
            plotly = plotly.range(vec![first.log10() - room, last.log10() + room]);
        }
    } else if axis.ticks.is_empty() && !axis.title.is_empty() {
        plotly = plotly.range_mode(plotly::layout::RangeMode::ToZero);
    }
    if axis.ticks.is_empty() {
        return plotly;
    }
    let (values, texts) = axis.ticks.iter().cloned().unzip();
    plotly.tick_values(values).tick_text(texts)
}

fn traces(chart: &Chart, evidence: &Evidence) -> Vec<Box<dyn Trace>> {
    match &chart.body {
        Body::Lines(series) => points(series, |it, part| scatter(it, part, evidence, true)),
        Body::Dots(series) => points(series, |it, part| scatter(it, part, evidence, false)),
        Body::Curves(series) => points(series, |it, part| {
            let style = Style::of(evidence, &it.server);
            let marker = marker(style, part == Part::Sound).max_displayed(MARKERS_OF_A_CURVE);
            scatter(it, part, evidence, true).marker(marker)
        }),
        Body::Bars(bars) => bar_traces(bars),
    }
}

/// More would hide the line.
const MARKERS_OF_A_CURVE: usize = 9;

/// Which points of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Those that are compared.
    Sound,
    /// Those that are only shown.
    Marked,
}

fn points(
    series: &[Series],
    trace: impl Fn(&Series, Part) -> Box<Scatter<f64, f64>>,
) -> Vec<Box<dyn Trace>> {
    let mut traces: Vec<Box<dyn Trace>> = Vec::new();
    for it in series {
        for part in [Part::Sound, Part::Marked] {
            let has_any = (it.points.iter()).any(|it| it.is_sound == (part == Part::Sound));
            if has_any {
                traces.push(trace(it, part));
            }
        }
    }
    traces
}

fn scatter(
    series: &Series,
    part: Part,
    evidence: &Evidence,
    is_line: bool,
) -> Box<Scatter<f64, f64>> {
    let style = Style::of(evidence, &series.server);
    let is_sound = part == Part::Sound;
    let points: Vec<_> = (series.points.iter())
        .filter(|point| point.is_sound == is_sound)
        .collect();
    let hover = points.iter().map(|point| {
        let lines: Vec<String> = point.says.iter().map(|line| folded(line)).collect();
        format!(
            "<b>{}</b><br>{}",
            escaped(&series.server),
            lines.join("<br>")
        )
    });
    // An error bar needs a length for every point.
    let length = |of: fn(f64, (f64, f64)) -> f64| -> Vec<f64> {
        let value = |point: &&crate::chart::Point| {
            let value = if is_line { point.y } else { point.x };
            point
                .interval
                .map_or(0.0, |interval| of(value, interval).max(0.0))
        };
        points.iter().map(value).collect()
    };
    let error = ErrorData::new(ErrorType::Data)
        .symmetric(false)
        .array(length(|value, (_, high)| high - value))
        .array_minus(length(|value, (low, _)| value - low))
        .thickness(1.3)
        .width(0)
        .color(hex(style.colour));
    let has_interval = points.iter().any(|point| point.interval.is_some());
    let mut trace = Scatter::new(
        points.iter().map(|point| point.x).collect(),
        points.iter().map(|point| point.y).collect(),
    )
    .name(&series.server)
    .legend_group(&series.server)
    .mode(if is_line {
        Mode::LinesMarkers
    } else {
        Mode::Markers
    })
    .marker(marker(style, is_sound))
    .hover_text_array(hover.collect())
    .hover_info(HoverInfo::Text);
    if is_line {
        let width = if is_sound { 2.0 } else { 1.5 };
        let dash = if is_sound {
            dash(style.dashes)
        } else {
            DashType::Dot
        };
        trace = trace.line(Line::new().color(hex(style.colour)).width(width).dash(dash));
    }
    if has_interval {
        trace = if is_line {
            trace.error_y(error)
        } else {
            trace.error_x(error)
        };
    }
    trace
}

fn marker(style: Style, is_sound: bool) -> Marker {
    let symbol = match (style.shape, is_sound) {
        (Shape::Circle, true) => MarkerSymbol::Circle,
        (Shape::Circle, false) => MarkerSymbol::CircleOpen,
        (Shape::Square, true) => MarkerSymbol::Square,
        (Shape::Square, false) => MarkerSymbol::SquareOpen,
        (Shape::Diamond, true) => MarkerSymbol::Diamond,
        (Shape::Diamond, false) => MarkerSymbol::DiamondOpen,
        (Shape::Triangle, true) => MarkerSymbol::TriangleUp,
        (Shape::Triangle, false) => MarkerSymbol::TriangleUpOpen,
        (Shape::TriangleDown, true) => MarkerSymbol::TriangleDown,
        (Shape::TriangleDown, false) => MarkerSymbol::TriangleDownOpen,
        (Shape::Cross, true) => MarkerSymbol::Cross,
        (Shape::Cross, false) => MarkerSymbol::CrossOpen,
    };
    Marker::new()
        .symbol(symbol)
        .size(9)
        .color(hex(style.colour))
}

/// The nearest of those that plotly has.
fn dash(dashes: Dashes) -> DashType {
    match dashes {
        [] => DashType::Solid,
        [8, 4] => DashType::Dash,
        [8, 4, 2, 4] => DashType::DashDot,
        [14, ..] => DashType::LongDash,
        _ => DashType::Dot,
    }
}

fn bar_traces(bars: &Bars) -> Vec<Box<dyn Trace>> {
    // plotly begins at the bottom.
    let names = || -> Vec<String> {
        let named = bars.servers.iter().zip(&bars.is_sound);
        let name = |(server, is_sound): (&String, &bool)| match is_sound {
            true => server.clone(),
            false => format!("{server}{NOT_COMPARED}"),
        };
        named.map(name).rev().collect()
    };
    let totals: Vec<f64> = (0..bars.servers.len())
        .map(|index| bars.parts.iter().map(|part| part.values[index]).sum())
        .collect();
    let mut traces: Vec<Box<dyn Trace>> = Vec::new();
    for (part, &colour) in bars.parts.iter().zip(PARTS.iter().cycle()) {
        let hover = part.values.iter().zip(&totals).zip(&bars.servers);
        let hover = hover.map(|((value, total), server)| {
            format!(
                "<b>{}</b><br>{}: {} of {}",
                escaped(server),
                escaped(&part.name),
                number(*value),
                number(*total)
            )
        });
        traces.push(
            Bar::new(part.values.iter().copied().rev().collect(), names())
                .name(&part.name)
                .orientation(Orientation::Horizontal)
                .marker(Marker::new().color(hex(colour)))
                .hover_text_array(hover.rev().collect())
                .hover_info(HoverInfo::Text),
        );
    }
    // Nothing but the sums at the ends.
    let texts = totals.iter().map(|total| number(*total));
    traces.push(
        Bar::new(vec![0.0; totals.len()], names())
            .orientation(Orientation::Horizontal)
            .text_array(texts.rev().collect())
            .text_position(TextPosition::Outside)
            .clip_on_axis(false)
            .hover_info(HoverInfo::Skip),
    );
    traces
}

/// A line to draw beside what a style says: colour and dashes as in SVG.
pub(super) fn dash_array(dashes: Dashes) -> String {
    let lengths: Vec<String> = dashes.iter().map(u32::to_string).collect();
    lengths.join(" ")
}

/// As SVG path of about 10 units around the middle of a 34 by 14 box.
pub(super) fn shape_path(shape: Shape) -> &'static str {
    match shape {
        Shape::Circle => "M17 2.5a4.5 4.5 0 1 0 .01 0z",
        Shape::Square => "M12.5 2.5h9v9h-9z",
        Shape::Diamond => "M17 1l6 6-6 6-6-6z",
        Shape::Triangle => "M17 1.5l5.5 10h-11z",
        Shape::TriangleDown => "M17 12.5l5.5-10h-11z",
        Shape::Cross => "M15 2h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
    }
}

/// The colour of the part at that place.
pub(super) fn part_colour(place: usize) -> Colour {
    PARTS[place % PARTS.len()]
}

/// plotly reads some markup in texts, and what a server says must be none.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// In lines that fit on a phone.
fn folded(text: &str) -> String {
    let lines: Vec<String> = textwrap::wrap(text, 42)
        .into_iter()
        .map(|line| escaped(&line))
        .collect();
    lines.join("<br>")
}
