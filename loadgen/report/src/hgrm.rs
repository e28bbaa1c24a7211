//! A histogram as the text that HdrHistogram, wrk2 and their plotter call a percentile distribution
//! (`.hgrm`).

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Lines for each halving of the distance to 100%, as in HdrHistogram.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
const NS_PER_MS: f64 = 1e6;

/// Writes a histogram of nanoseconds; the values of the text are milliseconds, to the nanosecond.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn write(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / NS_PER_MS;
        let quantile = step.quantile_iterated_to();
        write!(out, "{value:12.6} {quantile:2.12} {total:10}")?;
        // 1/(1-percentile) is infinite in the last line, which has no such column.
        match quantile < 1.0 {
            true => writeln!(out, " {:14.2}", 1.0 / (1.0 - quantile))?,
            false => writeln!(out)?,
        }
    }
    writeln!(
        out,
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]",
        histogram.mean() / NS_PER_MS,
        histogram.stdev() / NS_PER_MS
    )?;
    writeln!(
        out,
        "#[Max     = {:12.6}, Total count    = {:12}]",
        histogram.max() as f64 / NS_PER_MS,
        histogram.len()
    )?;
    // Each bucket but the first shares the lower half of its sub-buckets with the one before.
    let buckets = usize::from(histogram.buckets());
    let sub_buckets = histogram.distinct_values() / (buckets + 1) * 2;
    writeln!(
        out,
        "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::record::{latency_histogram, record_ns};

    fn text(histogram: &Histogram<u64>) -> String {
        let mut out = Vec::new();
        write(&mut out, histogram).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn of_a_few_samples() {
        let mut histogram = latency_histogram();
        for ms in [1, 2, 2, 3, 5, 8, 13, 21, 34, 55] {
            record_ns(&mut histogram, ms * 1_000_000);
        }
        insta::assert_snapshot!(text(&histogram));
    }

    /// Read as the plotter does: what is no comment and has numbers in it.
    #[test]
    fn lines_rise_to_the_maximum() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut histogram = latency_histogram();
        for _ in 0..10_000 {
            record_ns(&mut histogram, random.u64(1_000..1_000_000_000));
        }
        let text = text(&histogram);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|n| n.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(rows.len() > 50, "{text}");
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let (last, others) = rows.split_last().unwrap();
        assert!(others.iter().all(|row| row.len() == 4));
        assert_eq!(last[1..], [1.0, 10_000.0]);
        assert!((last[0] - histogram.max() as f64 / 1e6).abs() < 1e-5);
        for row in others {
            let at_most = histogram.quantile_below((row[0] * 1e6).round() as u64);
            assert!((at_most - row[2] / 1e4).abs() < 1e-9, "{row:?}");
            assert!(at_most >= row[1] - 1e-9, "{row:?}");
        }
    }

    #[test]
    fn of_nothing() {
        let text = text(&latency_histogram());
        assert!(text.contains("Total count    =            0"), "{text}");
    }
}
