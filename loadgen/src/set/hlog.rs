//! HdrHistogram V2 interval logs: one line a histogram, tagged. Values are nanoseconds.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use base64::Engine as _;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

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
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(second.encoded_histogram())
            .unwrap();
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut Cursor::new(bytes))
            .unwrap();
        assert_eq!(
            (histogram.len(), histogram.value_at_quantile(0.5)),
            (1, 5_003)
        );
        assert_eq!(entries.len(), 4);
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
