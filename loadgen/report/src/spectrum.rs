//! The spectrum of response times, drawn in characters: how often each time occurred, over a logarithmic
//! axis of time. It shows two humps, a long tail or a wall at 40 ms, which percentiles hide.

use hdrhistogram::Histogram;

use engine::figures::percent;
use engine::latency::percentile;

/// Columns of the drawing, and of the margin to its left.
const WIDTH: usize = 64;
const MARGIN: usize = 8;
/// Rows of the drawing; each has eight steps.
const HEIGHT: usize = 4;
const STEPS: usize = 8;
/// The axis covers at least this factor, so that a few equal times do not fill it.
const RANGE_MIN: f64 = 8.0;

/// Percentiles that are marked below the axis, if the sample is large enough.
const MARKS: [(f64, &str); 4] = [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9")];

/// Draws a histogram of nanoseconds: some rows, an axis of time with its labels, and the percentiles
/// below. Nothing for an empty one. The highest column is as high as the drawing, and its share of all
/// samples is on the left; a column with any sample has at least one step.
pub(super) fn draw(histogram: &Histogram<u64>) -> Vec<String> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let axis = Axis::of(histogram);
    let mut columns = [0_u64; WIDTH];
    for bucket in histogram.iter_recorded() {
        let ns = histogram.median_equivalent(bucket.value_iterated_to());
        columns[axis.column(ns as f64)] += bucket.count_at_value();
    }
    let peak = columns.iter().copied().max().unwrap_or(1);
    let steps = columns.map(|count| {
        let height = count as f64 / peak as f64 * (HEIGHT * STEPS) as f64;
        (height.round() as usize).max(usize::from(count > 0))
    });

    let mut lines = Vec::new();
    for row in (0..HEIGHT).rev() {
        let blocks = steps.map(|steps| BLOCKS[steps.saturating_sub(row * STEPS).min(STEPS)]);
        let margin = match row + 1 {
            HEIGHT => format!("{} ┤", percent(peak as f64 / histogram.len() as f64)),
            _ => "│".to_owned(),
        };
        lines.push(format!("{margin:>MARGIN$}{}", String::from_iter(blocks)));
    }
    let (ticks, labels) = axis.ticks();
    lines.push(format!("{:>MARGIN$}{ticks}", "└"));
    lines.push(labels);
    lines.push(axis.marks(histogram));
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines.retain(|line| !line.is_empty());
    lines
}

const BLOCKS: [char; STEPS + 1] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// In ASCII, for terminals that show nothing else.
pub(super) fn ascii(c: char) -> char {
    match c {
        '▁' | '▂' => '.',
        '▃' | '▄' | '▅' => ':',
        '▆' | '▇' | '█' => '#',
        '│' => '|',
        '└' | '┴' | '┤' => '+',
        '─' => '-',
        other => other,
    }
}

/// A logarithmic axis of time.
struct Axis {
    low: f64,
    range: f64,
}

impl Axis {
    fn of(histogram: &Histogram<u64>) -> Self {
        let low = (histogram.min().max(1) as f64).ln();
        let high = (histogram.max().max(1) as f64).ln();
        let range = (high - low).max(RANGE_MIN.ln());
        let middle = f64::midpoint(low, high);
        Axis {
            low: middle - range / 2.0,
            range,
        }
    }

    fn column(&self, ns: f64) -> usize {
        let at = (ns.max(1.0).ln() - self.low) / self.range * WIDTH as f64;
        (at.max(0.0) as usize).min(WIDTH - 1)
    }

    /// The axis with its ticks, and their labels below. Ticks are at 1, 2 and 5 times a power of ten, as far
    /// as there is room for their labels.
    fn ticks(&self) -> (String, String) {
        let mut ticks = ['─'; WIDTH];
        let mut labels = Row::new();
        for factor in [1.0, 2.0, 5.0] {
            for power in 0..13 {
                let ns = factor * 10_f64.powi(power);
                if !(self.low..=self.low + self.range).contains(&ns.ln()) {
                    continue;
                }
                let column = self.column(ns);
                let label = round_time(ns);
                let start = (MARGIN + column).saturating_sub(label.chars().count() / 2);
                if labels.put(start, &label) {
                    ticks[column] = '┴';
                }
            }
        }
        (ticks.iter().collect(), labels.text())
    }

    /// `^` below the column of each percentile, and which it is.
    fn marks(&self, histogram: &Histogram<u64>) -> String {
        let columns = MARKS.map(|(p, name)| {
            percentile(histogram, p).map(|us| (MARGIN + self.column(us * 1e3), name))
        });
        let mut row = Row::new();
        let mut columns = columns.into_iter().flatten().peekable();
        while let Some((column, name)) = columns.next() {
            let mut names = name.to_owned();
            // Right of its mark, or left of it where the next one is too near, or the next ones join it.
            let near = |next: usize, names: &str| next <= column + names.len() + 1;
            if let Some(&(next, _)) = columns.peek()
                && near(next, &names)
                && next >= column + 2
                && row.put_before(column, &names)
            {
                continue;
            }
            while let Some(&(next, name)) = columns.peek()
                && near(next, &names)
            {
                names = format!("{names} {name}");
                columns.next();
            }
            if !row.put(column, &format!("^{names}")) {
                row.put_before(column, &names);
            }
        }
        row.text()
    }
}

/// `20 µs`, `1 ms`: a round time needs no decimals.
fn round_time(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        1e3..1e6 => format!("{:.0} µs", ns / 1e3),
        1e6..1e9 => format!("{:.0} ms", ns / 1e6),
        _ => format!("{:.0} s", ns / 1e9),
    }
}

/// A line to which texts are added where there is room.
struct Row([char; 80]);

impl Row {
    fn new() -> Self {
        Row([' '; 80])
    }

    /// Puts a text with a space to either side, and says whether there was room.
    fn put(&mut self, start: usize, text: &str) -> bool {
        let end = start + text.chars().count();
        let around = start.saturating_sub(1)..(end + 1).min(self.0.len());
        if end > self.0.len() || self.0[around].iter().any(|&c| c != ' ') {
            return false;
        }
        for (place, c) in self.0[start..end].iter_mut().zip(text.chars()) {
            *place = c;
        }
        true
    }

    /// Puts names that end with a mark at `column`.
    fn put_before(&mut self, column: usize, names: &str) -> bool {
        match column.checked_sub(names.len()) {
            Some(start) => self.put(start, &format!("{names}^")),
            None => false,
        }
    }

    fn text(&self) -> String {
        self.0.iter().collect::<String>().trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::record::{latency_histogram, record_ns};

    fn of(samples: impl IntoIterator<Item = (f64, u64)>) -> String {
        let mut histogram = latency_histogram();
        for (ns, count) in samples {
            histogram.record_n(ns as u64, count).unwrap();
        }
        let text = draw(&histogram).join("\n");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        format!("\n{text}\n")
    }

    /// A hump around `mean`, as its logarithm is normally distributed.
    fn hump(mean: f64, deviation: f64, count: f64) -> impl Iterator<Item = (f64, u64)> {
        (-300..=300).map(move |step| {
            let z = f64::from(step) / 100.0;
            let density = (-z * z / 2.0).exp();
            (
                mean * (z * deviation).exp(),
                (density * count / 250.0).round() as u64,
            )
        })
    }

    #[test]
    fn one_hump() {
        insta::assert_snapshot!(of(hump(1.2e6, 0.5, 1e5)));
    }

    #[test]
    fn a_second_hump_far_away() {
        insta::assert_snapshot!(of(hump(70e3, 0.3, 1e5).chain(hump(40e6, 0.1, 3e3))));
    }

    #[test]
    fn all_the_same() {
        insta::assert_snapshot!(of([(5e6, 5000)]));
    }

    #[test]
    fn one_sample() {
        insta::assert_snapshot!(of([(1.5e9, 1)]));
    }

    #[test]
    fn from_a_nanosecond_to_an_hour() {
        insta::assert_snapshot!(of([(1.0, 10), (1e3, 10), (3.6e12, 10)]));
    }

    #[test]
    fn nothing() {
        assert!(draw(&latency_histogram()).is_empty());
    }

    #[test]
    fn in_ascii() {
        let drawn = of(hump(1.2e6, 0.5, 1e5)).replace('µ', "u");
        let drawn: String = drawn.chars().map(ascii).collect();
        assert!(drawn.is_ascii(), "{drawn}");
        assert!(drawn.contains('#') && drawn.contains('.'), "{drawn}");
    }

    /// Wherever the samples lie, all of them are drawn, within 80 columns.
    #[test]
    fn any_histogram_fits() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut histogram = latency_histogram();
            let (low, range) = (random.f64() * 20.0, random.f64() * 9.0);
            for _ in 0..random.u32(1..3000) {
                record_ns(&mut histogram, (low + random.f64() * range).exp() as u64);
            }
            let lines = draw(&histogram);
            let fits = lines.iter().all(|line| line.chars().count() <= 80);
            assert!(fits && lines.len() >= HEIGHT + 2, "{lines:#?}");
        }
    }
}
