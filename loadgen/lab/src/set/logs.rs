//! Whether the interval logs of a set hold what its plan asks for.

use std::collections::BTreeMap;
use std::path::Path;

use engine::foreign;

use super::lines::Lines;
use super::{Campaign, Error};
use crate::hlog::{Interval, intervals};

/// No measurement begins at, or lasts, this many seconds: some three thousand years.
const TIME_MAX_S: f64 = 1e11;

/// Checks that a log contains what its plan requires, each histogram once, and that all can be
/// decoded. Returns a message if a last line was left out.
///
/// # Errors
///
/// If it is damaged, with line and column.
pub(super) fn check(
    path: &Path,
    bytes: &[u8],
    campaign: &Campaign,
) -> Result<Option<String>, Error> {
    let lines = Lines::of(path, bytes)?;
    let mut seen = BTreeMap::new();
    for (number, line) in lines.iter() {
        if !line.starts_with("Tag=") {
            // Comments and column names are for other readers.
            if line.starts_with(['#', '"']) {
                check_origin(&lines, number, line)?;
                continue;
            }
            return Err(lines.damage(number, 0, "not a line of an interval log"));
        }
        check_times(&lines, number, line)?;
        let ended = format!("{line}\n");
        let interval = match intervals(ended.as_bytes()).next() {
            Some(Ok(interval)) => interval,
            Some(Err(message)) => return Err(lines.damage(number, 0, message)),
            None => return Err(lines.damage(number, 0, "no histogram in this line")),
        };
        let Interval {
            workload,
            round,
            kind,
            ..
        } = interval;
        if campaign.workload(workload).is_none() {
            return Err(lines.damage(number, 0, format!("no workload `{workload}` in the plan")));
        }
        if !(1..=campaign.rounds).contains(&round) {
            return Err(lines.damage(number, 0, format!("round {round} is not in the plan")));
        }
        if let Err(message) = interval.histogram() {
            return Err(lines.damage(number, 4, format!("a histogram: {message}")));
        }
        let key = (workload.to_owned(), round, kind.to_owned());
        if let Some(first) = seen.insert(key, number) {
            return Err(lines.damage(number, 0, format!("the same as in line {first}")));
        }
    }
    Ok(lines.remark())
}

/// Checks start, length and largest value of a line, which follow its tag; they are seconds and
/// milliseconds.
fn check_times(lines: &Lines<'_>, number: u64, line: &str) -> Result<(), Error> {
    let fields: Vec<&str> = line.split(',').collect();
    let [_, start, length, largest, _] = fields[..] else {
        let message = format!("{} columns instead of 5", fields.len());
        return Err(lines.damage(number, 0, message));
    };
    for (field, what, text) in [
        (1, "start", start),
        (2, "length", length),
        (3, "largest value", largest),
    ] {
        if !is_time(text) {
            let text = foreign::quoted(text);
            let message = format!("the {what} of an interval: `{text}` is not a time");
            return Err(lines.damage(number, field, message));
        }
    }
    Ok(())
}

/// Checks the comments that times count from.
fn check_origin(lines: &Lines<'_>, number: u64, line: &str) -> Result<(), Error> {
    for name in ["#[StartTime: ", "#[BaseTime: "] {
        let Some(rest) = line.strip_prefix(name) else {
            continue;
        };
        let text = rest.split([' ', ']']).next().unwrap_or_default();
        if !is_time(text) {
            let text = foreign::quoted(text);
            let message = format!("`{text}` is not a time in seconds");
            let place = super::lines::damaged(lines.path(), number, name.len() + 1, message);
            return Err(place);
        }
    }
    Ok(())
}

/// Whether this is a time or a duration as programs write it: digits, possibly with decimals.
fn is_time(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    is_digits(whole) && is_digits(rest) && text.parse().is_ok_and(|time: f64| time < TIME_MAX_S)
}
