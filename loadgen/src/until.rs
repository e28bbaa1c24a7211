//! The precision requested for a percentile, as on command lines: `p99±5%`.

use std::ops::RangeInclusive;
use std::str::FromStr;

use engine::plan::plain_number;

/// A percentile, and how far its interval may reach from it, as a share of its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Until {
    pub(crate) percentile: f64,
    pub(crate) within: f64,
}

/// Percentiles that can be requested: `p50` to `p99.99`.
const PERCENTILES: RangeInclusive<f64> = 50.0..=99.99;
/// A histogram's resolution is 0.1%, so an interval is wider than that.
const WITHIN_PERCENT: RangeInclusive<f64> = 0.5..=50.0;

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, within) = text
            .split_once('±')
            .or_else(|| text.split_once("+-"))
            .or_else(|| text.split_once("+/-"))
            .ok_or("expected a percentile and its precision, such as 'p99±5%' or 'p99+-5%'")?;
        let percentile = percentile(name.trim())?;
        let percent = within.trim().strip_suffix('%');
        let percent = percent.ok_or("expected a precision in percent, such as 'p99±5%'")?;
        let percent: f64 =
            plain_number(percent).ok_or_else(|| format!("{percent:?} is not a number"))?;
        match WITHIN_PERCENT.contains(&percent) {
            true => Ok(Until {
                percentile,
                within: percent / 100.0,
            }),
            false => Err(format!(
                "{percent}%: a precision must be from {}% to {}%",
                WITHIN_PERCENT.start(),
                WITHIN_PERCENT.end()
            )),
        }
    }
}

/// A percentile by its name, such as `p99.9`.
pub(crate) fn percentile(name: &str) -> Result<f64, String> {
    name.strip_prefix('p')
        .and_then(plain_number)
        .filter(|percentile| PERCENTILES.contains(percentile))
        .ok_or_else(|| format!("{name:?}: expected a percentile from p50 to p99.99"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions() {
        for (text, percentile, within) in [
            ("p99±5%", 99.0, 0.05),
            ("p99+-5%", 99.0, 0.05),
            ("p99 +/- 5%", 99.0, 0.05),
            ("p50±0.5%", 50.0, 0.005),
            ("p99.99±50%", 99.99, 0.5),
            ("p99.9 ± 2.5%", 99.9, 0.025),
        ] {
            let until: Until = text.parse().unwrap();
            assert_eq!(until, Until { percentile, within }, "{text}");
        }
        for (text, message) in [
            ("", "such as 'p99±5%'"),
            ("p99", "such as 'p99±5%'"),
            ("5%", "such as 'p99±5%'"),
            ("p99±5", "in percent"),
            ("p99±5ms", "in percent"),
            ("p99±x%", "\"x\" is not a number"),
            ("p99±-5%", "is not a number"),
            ("p99±0.1%", "from 0.5% to 50%"),
            ("p99±60%", "from 0.5% to 50%"),
            ("99±5%", "from p50 to p99.99"),
            ("p49±5%", "from p50 to p99.99"),
            ("p100±5%", "from p50 to p99.99"),
            ("pNaN±5%", "from p50 to p99.99"),
        ] {
            let error = text.parse::<Until>().unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
