//! Limits for values on the command line and in files. Each is far beyond what a measurement needs,
//! and far below what would overflow arithmetic or exhaust memory.

use std::fmt;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The longest time.
pub const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Active connections of a workload; idle ones have the same limit.
pub const CONNECTIONS_MAX: usize = 10_000_000;
/// Requests in flight on a connection; more would only fill buffers.
pub const PIPELINE_MAX: usize = 1024;
/// Threads of the generator.
pub const THREADS_MAX: usize = 1024;
/// Rounds of a set.
pub const ROUNDS_MAX: u32 = 1_000;
/// Bytes in the name of a server, a workload or a group; names become file names.
pub const NAME_BYTES_MAX: usize = 64;
/// Files that the generator needs besides its connections.
pub const FILES_RESERVED: u64 = 64;

/// Raises the soft limit of open files to the hard one if `needed` files exceed it. Returns the limit that holds then.
///
/// # Errors
///
/// If the system does not tell the limit.
pub fn raise_files(needed: u64) -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    match needed > soft && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        true => Ok(hard),
        false => Ok(soft),
    }
}

/// Makes sure, before anything starts, that so many active and idle connections may be open at once. Raises the soft
/// limit of open files where the hard one allows it.
///
/// # Errors
///
/// A line that says what is needed and what the limit is.
pub fn allow_files(connections: usize, idle: usize) -> Result<(), String> {
    let needed = (connections as u64)
        .saturating_add(idle as u64)
        .saturating_add(FILES_RESERVED);
    let limit = raise_files(needed)
        .map_err(|error| format!("cannot read the limit of open files: {error}"))?;
    if needed <= limit {
        return Ok(());
    }
    let idle = match idle {
        0 => String::new(),
        idle => format!(" and {idle} idle ones"),
    };
    Err(format!(
        "{connections} connections{idle} need {needed} open files, the limit is {limit} \
         (ulimit -Hn); use fewer connections or raise the limit"
    ))
}

/// The rule for names, as errors state it.
pub const PLAIN: &str =
    "may contain letters, digits, `-`, `_` and `.`, and must not begin with `-` or `.`";

/// Checks a name, since names become file names and parts of tags and comma-separated lists.
///
/// # Errors
///
/// A description of the fault, to be printed after the name.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(is_plain) {
        return Err(PLAIN.to_owned());
    }
    match name.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(format!(
            "has {} characters; the maximum is {NAME_BYTES_MAX}",
            name.len()
        )),
    }
}

/// Rejects a value above a limit.
///
/// # Errors
///
/// A description with the value and the limit.
pub fn at_most<N: PartialOrd + fmt::Display>(value: N, most: N) -> Result<N, String> {
    match value <= most {
        true => Ok(value),
        false => Err(format!("{value} is too many; the maximum is {most}")),
    }
}

/// Parses a time such as `10s` or `1h 30m`, up to [`TIME_MAX`].
///
/// # Errors
///
/// One line that says what is wrong.
pub fn time(text: &str) -> Result<Duration, String> {
    let mut sum = Duration::ZERO;
    for part in parts(text) {
        let part = humantime::parse_duration(part).map_err(|error| error.to_string())?;
        sum = sum.saturating_add(part);
    }
    match sum <= TIME_MAX {
        true => Ok(sum),
        false => {
            let days = TIME_MAX.as_secs() / 86_400;
            Err(format!("too long; the maximum is {days} days"))
        }
    }
}

/// Splits a time into numbers with units. They are parsed one by one because humantime panics if
/// their sum overflows.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut has_unit) = (0, false);
    for (at, c) in text.char_indices() {
        if c.is_ascii_digit() && has_unit {
            parts.push(&text[start..at]);
            (start, has_unit) = (at, false);
        }
        has_unit |= c.is_alphabetic();
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("10s", Ok(10_000)),
            ("1h 30m", Ok(5_400_000)),
            ("1h30m5s", Ok(5_405_000)),
            ("2 hours 1 min", Ok(7_260_000)),
            ("1.5s", Ok(1_500)),
            ("365d", Ok(31_536_000_000)),
            ("366d", Err("the maximum is 365 days")),
            ("18446744073709551615s", Err("the maximum is 365 days")),
            (
                "18446744073709551615s 999999999ns 1ns",
                Err("the maximum is 365 days"),
            ),
            (
                "9223372036854775807s 9223372036854775808s 1000000000ns",
                Err("the maximum is 365 days"),
            ),
            ("18446744073709551616s", Err("too large")),
            ("9999999999999y", Err("too large")),
            ("1e300s", Err("time unit")),
            ("infs", Err("expected number")),
            ("", Err("empty")),
            ("-5s", Err("expected number")),
        ] {
            match (time(text), expected) {
                (Ok(found), Ok(ms)) => assert_eq!(found, Duration::from_millis(ms), "{text}"),
                (Err(found), Err(message)) => assert!(found.contains(message), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    proptest! {
        /// No text makes a panic, and what is read is what humantime reads.
        #[test]
        fn any_text(text in "([0-9]{1,20}(\\.[0-9]{1,3})? ?(ns|us|ms|s|m|h|d|w|M|y|x)? ?){0,4}") {
            if let Ok(read) = time(&text) {
                prop_assert_eq!(Ok(read), humantime::parse_duration(&text));
            }
        }
    }

    #[test]
    fn names() {
        for (name, fine) in [
            ("event-loop", true),
            ("a.b_c-1", true),
            ("README", true),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
            ("", false),
            (".", false),
            ("..", false),
            ("../x", false),
            ("a/b", false),
            ("-a", false),
            ("a b", false),
            ("a\nb", false),
            ("a\0", false),
            ("gr\u{f6}\u{df}e", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fine, "{name:?}");
        }
    }
}
