//! HdrHistogram V2 interval logs: one line a histogram, tagged. Values are nanoseconds.

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

/// Writes the head of a log whose times count from `start`. Both BaseTime and StartTime are set:
/// readers differ in which of them they heed.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn write_head(out: &mut impl Write, start: SystemTime) -> io::Result<()> {
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Values are nanoseconds. Tag=workload:round:kind of latency]")
        .with_start_time(start)
        .with_base_time(start)
        .begin_log_with(out, &mut V2DeflateSerializer::new())?;
    writeln!(
        out,
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
    )
}

/// Appends one histogram of nanoseconds, taken from `since_start` for so long.
///
/// # Errors
///
/// When `out` cannot be written, or `tag` holds a comma, a space or a line end.
pub fn append(
    out: &mut impl Write,
    since_start: Duration,
    length: Duration,
    tag: &str,
    histogram: &Histogram<u64>,
) -> io::Result<()> {
    let tag = Tag::new(tag).ok_or_else(|| {
        let message = format!("{tag:?} is no tag of an interval log");
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

/// One line of a log, not decoded yet: most readers want a few of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval<'a> {
    /// Under which workload.
    pub workload: &'a str,
    /// In which round of its set.
    pub round: u32,
    /// Of which latency: `response`, `connect`, ...
    pub kind: &'a str,
    encoded: &'a str,
}

impl<'a> Interval<'a> {
    fn of(line: &IntervalLogHistogram<'a>) -> Option<Self> {
        // A name may hold anything but a colon.
        let mut words = line.tag()?.as_str().split(':');
        let interval = Interval {
            workload: words.next()?,
            round: words.next()?.parse().ok()?,
            kind: words.next()?,
            encoded: line.encoded_histogram(),
        };
        words.next().is_none().then_some(interval)
    }

    /// Decodes it. How many digits of a value are kept is the writer's choice.
    ///
    /// # Errors
    ///
    /// When it is no histogram, with the reason.
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        let bytes = STANDARD.decode(self.encoded).map_err(|e| e.to_string())?;
        Deserializer::new()
            .deserialize(&mut Cursor::new(bytes))
            .map_err(|error| error.to_string())
    }
}

/// The histograms of a log, in order. A last line that was cut off by a kill is left out.
///
/// Each line that is no histogram with a tag of this program gives an error with what is wrong.
pub fn intervals(log: &[u8]) -> impl Iterator<Item = Result<Interval<'_>, String>> {
    let whole = log.iter().rposition(|&byte| byte == b'\n');
    let log = &log[..whole.map_or(0, |end| end + 1)];
    IntervalLogIterator::new(log).filter_map(|entry| match entry {
        Ok(LogEntry::Interval(line)) => {
            Some(Interval::of(&line).ok_or_else(|| "a tag is not workload:round:kind".to_owned()))
        }
        Ok(LogEntry::StartTime(_) | LogEntry::BaseTime(_)) => None,
        Err(error) => Some(Err(format!("{error:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{latency_histogram, record_ns};

    /// Appending cell after cell gives a log that the reader of the crate understands.
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

    /// Whatever a kill leaves of the last line, those before it are read.
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
