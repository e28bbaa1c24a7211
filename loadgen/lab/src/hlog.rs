//! HdrHistogram V2 interval logs: one tagged line per histogram. Values are nanoseconds with two
//! significant digits; a third is only useful for percentiles, which `cells.csv` contains, and
//! takes four times the space. Lags have one digit, because they are only compared with limits.

use std::io::{self, Cursor, Write};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogHistogram, IntervalLogIterator, IntervalLogWriterBuilder, IntervalLogWriterError,
    LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

/// Writes the head of a log whose times count from `start`. Both BaseTime and StartTime are set,
/// because readers differ in which they use.
///
/// # Errors
///
/// If `out` cannot be written.
/// When `out` cannot be written.
pub fn write_head(out: &mut impl Write, start: SystemTime) -> io::Result<()> {
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Values are nanoseconds, 2 significant digits, 1 of lags. Tag=workload:round:kind of latency]")
        .add_comment("[A kind that is missing equals another: service the response, first_byte the service]")
        .with_start_time(start)
        .with_base_time(start)
        .begin_log_with(out, &mut V2DeflateSerializer::new())?;
    writeln!(
        out,
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
    )
}

/// The kind of latency that a reader uses if one is missing.
pub fn stand_in(kind: &str) -> Option<&'static str> {
    match kind {
        "service" => Some("response"),
        "first_byte" => Some("service"),
        _ => None,
    }
}

/// The significant digits of a kind of latency.
fn digits(kind: &str) -> u8 {
    match kind {
        "lag" => 1,
        _ => 2,
    }
}

/// The histograms in their written form: with fewer significant digits, without empty ones and
/// without those that equal their [`stand_in`]. The generator's own part of the lag is left out,
/// since it is already part of the verdict.
pub fn worth_writing<'a>(
    histograms: &[(&'a str, &Histogram<u64>)],
) -> Vec<(&'a str, Histogram<u64>)> {
    let mut all: Vec<(&str, Histogram<u64>)> = (histograms.iter())
        .filter(|(kind, histogram)| !histogram.is_empty() && *kind != "lag_own")
        .map(|&(kind, histogram)| (kind, coarse(histogram, digits(kind))))
        .collect();
    let find = |kind: &str| all.iter().find(|(name, _)| *name == kind);
    let is_repeated = |(kind, histogram): &(&str, Histogram<u64>)| {
        // A closed loop has no separate service time.
        let mut other = stand_in(kind);
        while let Some(name) = other {
            match find(name) {
                Some((_, standing_in)) => return standing_in == histogram,
                None => other = stand_in(name),
            }
        }
        false
    };
    let repeated: Vec<bool> = all.iter().map(is_repeated).collect();
    let mut repeated = repeated.into_iter();
    all.retain(|_| !repeated.next().unwrap_or_default());
    all
}

/// The same samples with fewer significant digits. Each bucket consists of whole buckets of the
/// finer histogram.
fn coarse(histogram: &Histogram<u64>, digits: u8) -> Histogram<u64> {
    let mut coarse = Histogram::new_with_bounds(histogram.low(), histogram.high(), digits)
        .expect("bounds that did for more digits do for fewer");
    coarse.add(histogram).expect("the bounds are the same");
    coarse
}

/// Appends one histogram of nanoseconds, recorded from `since_start` on.
///
/// # Errors
///
/// If `out` cannot be written, or `tag` contains a comma, a space or a line end.
pub fn append(
    out: &mut impl Write,
    since_start: Duration,
    length: Duration,
    tag: &str,
    histogram: &Histogram<u64>,
) -> io::Result<()> {
    let tag = Tag::new(tag).ok_or_else(|| {
        let message = format!("{tag:?} cannot be a tag of an interval log");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })?;
    let mut serializer = V2DeflateSerializer::new();
    IntervalLogWriterBuilder::new()
        .begin_log_with(out, &mut serializer)?
        .write_histogram(histogram, since_start, length, Some(tag))
        .map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            other => io::Error::other(other.to_string()),
        })
}

/// A line of a log, not decoded yet, because most readers need only a few of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval<'a> {
    /// Name of the workload.
    pub workload: &'a str,
    /// The round of the set.
    pub round: u32,
    /// The kind of latency: `response`, `connect`, ...
    pub kind: &'a str,
    encoded: &'a str,
}

impl<'a> Interval<'a> {
    fn of(line: &IntervalLogHistogram<'a>) -> Option<Self> {
        // A name may contain anything except a colon.
        let mut words = line.tag()?.as_str().split(':');
        let interval = Interval {
            workload: words.next()?,
            round: words.next()?.parse().ok()?,
            kind: words.next()?,
            encoded: line.encoded_histogram(),
        };
        words.next().is_none().then_some(interval)
    }

    /// Decodes the histogram. The writer chose the number of digits.
    ///
    /// # Errors
    ///
    /// The reason, if it is not a histogram.
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        let bytes = STANDARD.decode(self.encoded).map_err(|e| e.to_string())?;
        Deserializer::new()
            .deserialize(&mut Cursor::new(bytes))
            .map_err(|error| error.to_string())
    }
}

/// The histograms of a log, in order. A last line that was cut off by a kill is left out.
///
/// Each line that is not a histogram with a tag of this program yields an error that says what is
/// wrong.
pub fn intervals(log: &[u8]) -> impl Iterator<Item = Result<Interval<'_>, String>> {
    let whole = log.iter().rposition(|&byte| byte == b'\n');
    let log = &log[..whole.map_or(0, |end| end + 1)];
    IntervalLogIterator::new(log).filter_map(|entry| match entry {
        Ok(LogEntry::Interval(line)) => {
            Some(Interval::of(&line).ok_or_else(|| "a tag is not workload:round:kind".to_owned()))
        }
        Ok(LogEntry::StartTime(_) | LogEntry::BaseTime(_)) => None,
        Err(_) => Some(Err("not a line of an interval log".to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::record::{latency_histogram, record_ns};

    /// Appending cell after cell produces a log that the crate's reader understands.
    #[test]
    fn appended_logs_parse() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let mut log = Vec::new();
        write_head(&mut log, start).unwrap();
        for (second, tag) in [(1, "keep-alive:1:response"), (5, "keep-alive:2:response")] {
            let mut histogram = latency_histogram();
            record_ns(&mut histogram, second * 1_000);
            let at = Duration::from_secs(second);
            append(&mut log, at, Duration::from_secs(2), tag, &histogram).unwrap();
        }
        let entries: Vec<_> = IntervalLogIterator::new(&log).map(Result::unwrap).collect();
        let epoch = Duration::from_millis(1_700_000_000_250);
        assert_eq!(entries[0], LogEntry::StartTime(epoch));
        assert_eq!(entries[1], LogEntry::BaseTime(epoch));
        let LogEntry::Interval(second) = &entries[3] else {
            panic!("{entries:?}");
        };
        assert_eq!(second.tag().unwrap().as_str(), "keep-alive:2:response");
        assert_eq!(second.start_timestamp(), Duration::from_secs(5));
        assert_eq!(second.duration(), Duration::from_secs(2));
        let bytes = STANDARD.decode(second.encoded_histogram()).unwrap();
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut Cursor::new(bytes))
            .unwrap();
        assert_eq!(
            (histogram.len(), histogram.value_at_quantile(0.5)),
            (1, 5_003)
        );
        assert_eq!(entries.len(), 4);
    }

    /// A histogram that is left out equals its replacement, and every sample is within 1% of its
    /// value.
    #[test]
    fn what_is_repeated_is_left_out() {
        let of = |values: &[u64]| {
            let mut histogram = latency_histogram();
            values.iter().for_each(|&ns| record_ns(&mut histogram, ns));
            histogram
        };
        let (fast, slow) = (of(&[10_000, 123_456]), of(&[10_001, 223_456]));
        let (close, none) = (of(&[10_010, 123_400]), of(&[]));
        for (histograms, expected) in [
            (vec![("response", &fast), ("first_byte", &fast)], "response"),
            (
                vec![("response", &fast), ("first_byte", &close)],
                "response",
            ),
            (
                vec![("response", &fast), ("first_byte", &slow)],
                "response first_byte",
            ),
            (
                vec![("response", &fast), ("connect", &fast)],
                "response connect",
            ),
            (vec![("response", &fast), ("first_byte", &none)], "response"),
            (
                vec![
                    ("response", &slow),
                    ("service", &fast),
                    ("first_byte", &fast),
                ],
                "response service",
            ),
            (
                vec![
                    ("response", &slow),
                    ("service", &fast),
                    ("first_byte", &slow),
                ],
                "response service first_byte",
            ),
            (
                vec![("response", &slow), ("lag", &fast), ("lag_own", &fast)],
                "response lag",
            ),
        ] {
            let kinds: Vec<_> = worth_writing(&histograms).iter().map(|it| it.0).collect();
            assert_eq!(kinds.join(" "), expected);
        }
        for (kind, precision) in [("response", 0.01), ("lag", 0.1)] {
            let written = worth_writing(&[(kind, &fast)]);
            for (quantile, ns) in [(0.5, 10_000.0), (1.0, 123_456.0)] {
                let off = written[0].1.value_at_quantile(quantile) as f64 / ns - 1.0;
                assert!((0.0..precision).contains(&off), "{kind}: {off}");
            }
        }
    }

    /// Whatever a kill leaves of the last line, the lines before it are read.
    #[test]
    fn what_is_written_is_read() {
        let mut log = Vec::new();
        write_head(&mut log, SystemTime::UNIX_EPOCH).unwrap();
        let head = log.len();
        let mut ends = Vec::new();
        for (round, digits) in [(1, 2), (2, 3)] {
            let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, digits).unwrap();
            histogram.record_n(5_000, round).unwrap();
            let tag = format!("keep-alive:{round}:response");
            append(&mut log, Duration::ZERO, Duration::ZERO, &tag, &histogram).unwrap();
            ends.push(log.len());
        }
        let read = |log: &[u8]| -> Vec<_> {
            let intervals = intervals(log).map(Result::unwrap);
            let summary = |it: Interval| (it.round, it.histogram().unwrap().len());
            intervals
                .inspect(|it| assert_eq!((it.workload, it.kind), ("keep-alive", "response")))
                .map(summary)
                .collect()
        };
        assert_eq!(read(&log), [(1, 1), (2, 2)]);
        for end in [0, head, head + 1, ends[0] - 1] {
            assert_eq!(read(&log[..end]), [], "cut at {end}");
        }
        for end in [ends[0], ends[0] + 9, ends[1] - 1] {
            assert_eq!(read(&log[..end]), [(1, 1)], "cut at {end}");
        }
    }

    #[test]
    fn damage_is_told() {
        let log = |line: &str| format!("Tag={line}\n").into_bytes();
        let first = |log: &[u8]| intervals(log).next().unwrap().map(|it| it.histogram());
        assert!(first(&log("w:1,0.0,1.0,2.0,HIST")).is_err());
        assert!(first(&log("w:x:response,0.0,1.0,2.0,HIST")).is_err());
        assert!(first(&log("w:1:response,0.0")).is_err());
        assert!(
            first(&log("w:1:response,0.0,1.0,2.0,HIST"))
                .unwrap()
                .is_err()
        );
    }

    #[test]
    fn tags_are_one_word() {
        let histogram = latency_histogram();
        let append = |tag| {
            append(
                &mut Vec::new(),
                Duration::ZERO,
                Duration::ZERO,
                tag,
                &histogram,
            )
        };
        assert!(append("a,b").is_err());
        assert!(append("a:b").is_ok());
    }
}
