//! Charts as JSON, as small as may be: `page.js` makes plotly's traces of it, in the colours of the reader's
//! theme.

use serde_json::{Value, json};

use crate::chart::style::{Dashes, Shape, Style};
use crate::chart::{Axis, Bars, Body, Chart, Series};
use lab::compare::Evidence;

/// A chart by what [`json`] wrote. Servers are indices into [`servers`].
///
/// - Lines: `series` with `x`, `y`, `low` and `high` (where there are intervals), `hollow` (places of points
///   that are shown and not compared) and `says`; where a cell was left out, `null` breaks the line.
/// - Dots: the same, without lines.
/// - Curves: `grid` has x and percentile of every point that there could be; `series` have `y`, as far as the
///   sample supports it.
/// - Bars: `servers`, `hollow`, and `parts`, each with a name and a value for each server.
pub(super) fn json(chart: &Chart, evidence: &Evidence) -> String {
    let index = |server: &str| evidence.servers.iter().position(|it| it == server);
    let mut value = json!({ "x": axis(&chart.x), "y": axis(&chart.y) });
    let drawn = |all: &[Series]| -> Vec<Series> {
        let drawn = all.iter().filter(|it| chart.draws(&it.server));
        drawn.cloned().collect()
    };
    match &chart.body {
        Body::Lines(all) | Body::Dots(all) => {
            let is_line = matches!(chart.body, Body::Lines(_));
            value["kind"] = json!(if is_line { "lines" } else { "dots" });
            let series = drawn(all)
                .into_iter()
                .map(|it| points(&it, index(&it.server), is_line));
            value["series"] = series.collect();
        }
        Body::Curves(all) => {
            value["kind"] = json!("curves");
            let all = drawn(all);
            let longest = all.iter().max_by_key(|it| it.points.len());
            let grid = longest.into_iter().flat_map(|it| &it.points).map(|point| {
                let percentile = point.says.first().and_then(|it| it.split(':').next());
                json!([short(point.x), percentile.unwrap_or_default()])
            });
            value["grid"] = grid.collect();
            let series = all.iter().map(|it| curve(it, index(&it.server)));
            value["series"] = series.collect();
        }
        Body::Bars(all) => bars(&mut value, all, |server| {
            index(server).filter(|_| chart.draws(server))
        }),
    }
    // It stands in a script element.
    value.to_string().replace('<', "\\u003c")
}

/// How each server looks: name, hue, symbol of plotly, dashes, and a word on what is not ranked.
pub(super) fn servers(evidence: &Evidence) -> String {
    let server = |server: &String| {
        let style = Style::of(evidence, server);
        json!([server, style.hue, symbol(style.shape), dash(style.dashes)])
    };
    let all: Value = evidence.servers.iter().map(server).collect();
    all.to_string().replace('<', "\\u003c")
}

/// Five significant digits: more than a screen shows.
fn short(value: f64) -> Value {
    if value == 0.0 || !value.is_finite() {
        return json!(0);
    }
    let digits = 4 - value.abs().log10().floor() as i32;
    let factor = 10_f64.powi(digits.clamp(-300, 300));
    let rounded = (value * factor).round() / factor;
    // Whole numbers need no ".0".
    match rounded.fract() == 0.0 && rounded.abs() < 1e15 {
        true => json!(rounded as i64),
        false => json!(rounded),
    }
}

fn axis(axis: &Axis) -> Value {
    let ticks = axis.ticks.iter();
    json!({
        "title": axis.title,
        "log": axis.is_log,
        "ticks": ticks.map(|(at, text)| json!([short(*at), text])).collect::<Value>(),
    })
}

fn points(series: &Series, server: Option<usize>, is_line: bool) -> Value {
    let (mut x, mut y, mut says) = (Vec::new(), Vec::new(), Vec::new());
    let (mut low, mut high) = (Vec::new(), Vec::new());
    let mut hollow = Vec::new();
    let mut next = None;
    for point in &series.points {
        if is_line && next.is_some_and(|next| next != point.place) {
            for list in [&mut x, &mut y, &mut low, &mut high, &mut says] {
                list.push(Value::Null);
            }
        }
        next = Some(point.place + 1);
        if !point.is_sound {
            hollow.push(x.len());
        }
        x.push(short(point.x));
        y.push(short(point.y));
        let ends = point.interval;
        low.push(ends.map_or(Value::Null, |(low, _)| short(low)));
        high.push(ends.map_or(Value::Null, |(_, high)| short(high)));
        says.push(json!(point.says.join("\n")));
    }
    let mut value = json!({ "server": server, "x": x, "y": y, "says": says });
    if low.iter().any(|it| !it.is_null()) {
        value["low"] = json!(low);
        value["high"] = json!(high);
    }
    if !hollow.is_empty() {
        value["hollow"] = json!(hollow);
    }
    value
}

fn curve(series: &Series, server: Option<usize>) -> Value {
    let values: Value = series.points.iter().map(|point| short(point.y)).collect();
    let mut value = json!({ "server": server, "y": values });
    if let Some(point) = series.points.first() {
        if !point.is_sound {
            value["hollow"] = json!(true);
        }
        if let Some(remark) = point.says.get(1) {
            value["remark"] = json!(remark);
        }
    }
    value
}

fn bars(value: &mut Value, bars: &Bars, index: impl Fn(&str) -> Option<usize>) {
    let drawn: Vec<(usize, usize)> = (bars.servers.iter().enumerate())
        .filter_map(|(at, server)| Some((at, index(server)?)))
        .collect();
    value["kind"] = json!("bars");
    value["servers"] = drawn.iter().map(|&(_, index)| json!(index)).collect();
    let hollow = (drawn.iter().enumerate()).filter(|(_, (at, _))| !bars.is_sound[*at]);
    value["hollow"] = hollow.map(|(place, _)| json!(place)).collect();
    let parts = bars.parts.iter().map(|part| {
        let values: Value = drawn
            .iter()
            .map(|&(at, _)| short(part.values[at]))
            .collect();
        json!({ "name": part.name, "values": values })
    });
    value["parts"] = parts.collect();
}

fn symbol(shape: Shape) -> &'static str {
    match shape {
        Shape::Circle => "circle",
        Shape::Square => "square",
        Shape::Diamond => "diamond",
        Shape::Triangle => "triangle-up",
        Shape::TriangleDown => "triangle-down",
        Shape::Cross => "cross",
        Shape::Saltire => "x",
        Shape::Star => "star",
    }
}

/// As plotly reads it.
fn dash(dashes: Dashes) -> String {
    let lengths: Vec<String> = dashes.iter().map(|length| format!("{length}px")).collect();
    match lengths.is_empty() {
        true => "solid".to_owned(),
        false => lengths.join(","),
    }
}

/// Dashes as SVG has them.
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
        Shape::Saltire => {
            "M13.5 1.4l3.5 3.5 3.5-3.5 2.1 2.1-3.5 3.5 3.5 3.5-2.1 2.1-3.5-3.5-3.5 3.5-2.1-2.1 3.5-3.5-3.5-3.5z"
        }
        Shape::Star => "M17 0.5l1.6 4.6h4.9l-3.9 3 1.4 4.7-4-2.8-4 2.8 1.4-4.7-3.9-3h4.9z",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Point;

    /// The line of a server whose second cell was left out, and whose fourth is not compared.
    #[test]
    fn gaps_stay_gaps() {
        let point = |place: usize, is_sound| Point {
            x: place as f64,
            y: 7.654_321,
            place,
            interval: None,
            is_sound,
            says: vec!["at".to_owned(), "value".to_owned()],
        };
        let series = Series {
            server: "a".to_owned(),
            points: vec![point(0, true), point(2, true), point(3, false)],
        };
        assert_eq!(
            points(&series, Some(4), true),
            json!({
                "server": 4,
                "x": [0, null, 2, 3],
                "y": [7.6543, null, 7.6543, 7.6543],
                "says": ["at\nvalue", null, "at\nvalue", "at\nvalue"],
                "hollow": [3],
            })
        );
    }

    #[test]
    fn five_digits_are_enough() {
        for (value, expected) in [
            (0.0, "0"),
            (1_234_567.0, "1234600"),
            (7.654_321, "7.6543"),
            (0.000_123_456_7, "0.00012346"),
            (64.0, "64"),
        ] {
            assert_eq!(short(value).to_string(), expected);
        }
    }
}
