//! Service level objectives in their usual notation: `p99<5ms`, `p50<300us and errors<1%`.

use std::fmt;
use std::str::FromStr;

use hdrhistogram::Histogram;

use engine::latency;
use engine::plan::plain_number;
use engine::record::Record;

/// The objectives of a run: one or several, each for a different measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo(Vec<Objective>);

impl Slo {
    /// The objectives that were given.
    pub fn named(&self) -> &[Objective] {
        &self.0
    }

    /// All objectives: those that were given, and [`Objective::FEW_ERRORS`] unless one of them is
    /// about errors.
    pub fn all(&self) -> impl Iterator<Item = Objective> {
        let of_errors = |objective: &Objective| objective.measure == Measure::Errors;
        let few_errors = (!self.0.iter().any(of_errors)).then_some(Objective::FEW_ERRORS);
        self.0.iter().copied().chain(few_errors)
    }

    /// The longest time that an objective allows, in nanoseconds; 0 if none is about time.
    pub fn longest_ns(&self) -> f64 {
        let times = self
            .0
            .iter()
            .filter(|objective| objective.measure.is_time());
        times.map(|objective| objective.limit).fold(0.0, f64::max)
    }

    /// The number of requests that a run needs so that the sample supports every percentile, and a
    /// single error does not exceed a limit on errors.
    pub fn samples_needed(&self) -> u64 {
        let needed = self.0.iter().map(|objective| match objective.measure {
            Measure::Percentile(p) => latency::samples_needed(p),
            Measure::Errors if objective.limit > 0.0 => (100.0 / objective.limit).ceil() as u64,
            Measure::Mean | Measure::Max | Measure::Errors => 1,
        });
        needed.max().unwrap_or(1)
    }
}

/// A measure and its limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// The measure.
    pub measure: Measure,
    /// The limit: nanoseconds, or for [`Measure::Errors`] percent of the requests.
    pub limit: f64,
    /// Whether the limit itself is allowed: `<=`.
    pub inclusive: bool,
}

impl Objective {
    /// The default error limit, `errors<=0.1%`: a server that refuses half of the requests could
    /// answer the others fast.
    pub const FEW_ERRORS: Objective = Objective {
        measure: Measure::Errors,
        limit: 0.1,
        inclusive: true,
    };

    /// Whether `value` is within the limit.
    pub fn is_met_by(&self, value: f64) -> bool {
        value < self.limit || (self.inclusive && value == self.limit)
    }

    /// The limit as printed: `5ms`, `0.1%`.
    pub fn limit_text(&self) -> String {
        if !self.measure.is_time() {
            return format!("{}%", self.limit);
        }
        let fits = |(_, unit_ns): &&(&str, f64)| self.limit >= *unit_ns;
        let (unit, unit_ns) = UNITS.iter().find(fits).unwrap_or(&("ns", 1.0));
        format!("{}{unit}", self.limit / unit_ns)
    }
}

/// A property of a run that can have a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// A percentile of the response times; between 0 and 100, exclusive.
    Percentile(f64),
    /// The mean response time.
    Mean,
    /// The longest response time.
    Max,
    /// The share of requests that failed.
    Errors,
}

impl Measure {
    /// The value in a run: nanoseconds or percent, as for [`Objective::limit`]. `None` if the
    /// sample is too small.
    pub fn of(self, record: &Record) -> Option<f64> {
        match self {
            Measure::Errors => {
                let errors = record.errors_count();
                let attempts = record.counts.requests.max(record.counts.due).max(errors);
                (attempts > 0).then(|| errors as f64 / attempts as f64 * 100.0)
            }
            Measure::Percentile(p) if record.response.len() < latency::samples_needed(p) => None,
            _ => self.of_times(&record.response),
        }
    }

    /// The value in a histogram of nanoseconds, however small; `None` for an empty one, and for
    /// errors.
    pub fn of_times(self, histogram: &Histogram<u64>) -> Option<f64> {
        if histogram.is_empty() {
            return None;
        }
        match self {
            Measure::Percentile(p) => Some(histogram.value_at_percentile(p) as f64),
            Measure::Mean => Some(histogram.mean()),
            Measure::Max => Some(histogram.max() as f64),
            Measure::Errors => None,
        }
    }

    /// Whether it is a time rather than a share.
    pub fn is_time(self) -> bool {
        self != Measure::Errors
    }
}

/// The notation: `p99.9`, `mean`, `max`, `errors`.
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measure::Percentile(p) => write!(f, "p{p}"),
            Measure::Mean => f.write_str("mean"),
            Measure::Max => f.write_str("max"),
            Measure::Errors => f.write_str("errors"),
        }
    }
}

/// The notation that can be parsed: `p99<5ms`, `errors<=0.1%`.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.inclusive { "<=" } else { "<" };
        write!(f, "{}{operator}{}", self.measure, self.limit_text())
    }
}

/// The notation that can be parsed: `p99<5ms,max<50ms`.
impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, objective) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{objective}")?;
        }
        Ok(())
    }
}

/// Units of time in nanoseconds, the printed ones first; the micro sign is one of two characters.
const UNITS: [(&str, f64); 6] = [
    ("s", 1e9),
    ("ms", 1e6),
    ("us", 1e3),
    ("µs", 1e3),
    ("\u{3bc}s", 1e3),
    ("ns", 1.0),
];

/// The longest time that a run can measure, in nanoseconds: one hour.
const TIME_NS_MAX: f64 = 3.6e12;

/// Objectives joined by `,` or `and`: `p99<5ms, errors<=0.5%`.
impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut objectives: Vec<Objective> = Vec::new();
        for part in text.split(',').flat_map(|part| part.split(" and ")) {
            let objective: Objective = part.parse()?;
            let measure = objective.measure;
            if objectives.iter().any(|other| other.measure == measure) {
                return Err(format!(
                    "{text:?}: {measure} has two limits; keep the lower"
                ));
            }
            objectives.push(objective);
        }
        Ok(Slo(objectives))
    }
}

/// Parses one objective: `p99<5ms`, `p99.9<=20ms`, `mean<1ms`, `max<50ms`, `errors<0.1%`.
impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, rest) = text.split_once(['<', '≤']).ok_or_else(|| {
            format!("{text:?}: expected an objective such as 'p99<5ms', in quotes for the shell")
        })?;
        let after = rest.strip_prefix('=');
        let inclusive = after.is_some() || text.contains('≤');
        let limit = after.unwrap_or(rest).trim();

        let measure = measure(name.trim()).map_err(|what| format!("{text:?}: {what}"))?;
        let (limit, example) = match measure.is_time() {
            true => (time_ns(limit), "5ms"),
            false => (percent(limit), "0.1%"),
        };
        let limit =
            limit.map_err(|what| format!("{text:?}: {what}, such as {measure}<{example}"))?;
        if limit == 0.0 && !(inclusive && measure == Measure::Errors) {
            let hint = match measure {
                Measure::Errors => "errors<=0% allows none",
                _ => "the limit must be above zero",
            };
            return Err(format!("{text:?}: nothing is below zero; {hint}"));
        }
        Ok(Objective {
            measure,
            limit,
            inclusive,
        })
    }
}

fn measure(name: &str) -> Result<Measure, String> {
    match name.to_ascii_lowercase().as_str() {
        "mean" => Ok(Measure::Mean),
        "max" => Ok(Measure::Max),
        "errors" => Ok(Measure::Errors),
        name => {
            let percentile = name.strip_prefix('p').and_then(plain_number);
            match percentile.ok_or_else(|| {
                format!("unknown measure {name:?}; known: p50, p99.9, mean, max, errors")
            })? {
                p if p > 0.0 && p < 100.0 => Ok(Measure::Percentile(p)),
                _ => Err(
                    "percentiles lie between p0 and p100; for the largest value, write max".into(),
                ),
            }
        }
    }
}

fn time_ns(text: &str) -> Result<f64, String> {
    let (value, unit) = text.split_at(text.find(char::is_alphabetic).unwrap_or(text.len()));
    let unit_ns = UNITS.iter().find(|(name, _)| *name == unit);
    let ns = match (plain_number(value.trim()), unit_ns) {
        (Some(value), Some((_, unit_ns))) => (value * unit_ns).round(),
        (Some(_), None) if unit.is_empty() => return Err("the limit needs a unit".to_owned()),
        _ => return Err("expected a time in s, ms or us".to_owned()),
    };
    match ns {
        ..=TIME_NS_MAX => Ok(ns),
        _ => Err("expected a time of at most one hour".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let value = text.strip_suffix('%').map(str::trim).and_then(plain_number);
    value
        .filter(|value| *value <= 100.0)
        .ok_or_else(|| "expected a share of the requests".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn objectives_as_people_write_them() {
        use Measure::{Errors, Max, Mean, Percentile};
        for (text, measure, limit, inclusive) in [
            ("p99<5ms", Percentile(99.0), 5e6, false),
            ("p99.9<=20ms", Percentile(99.9), 20e6, true),
            (" P99 < 5 ms ", Percentile(99.0), 5e6, false),
            ("p99≤5ms", Percentile(99.0), 5e6, true),
            ("p50<300us", Percentile(50.0), 300e3, false),
            ("p50<300µs", Percentile(50.0), 300e3, false),
            ("p50<300\u{3bc}s", Percentile(50.0), 300e3, false),
            ("p50<1500ns", Percentile(50.0), 1500.0, false),
            ("mean<1.5ms", Mean, 1.5e6, false),
            ("max<2s", Max, 2e9, false),
            ("errors<0.1%", Errors, 0.1, false),
            ("errors<=0%", Errors, 0.0, true),
        ] {
            let objective = Objective {
                measure,
                limit,
                inclusive,
            };
            assert_eq!(text.parse(), Ok(objective), "{text}");
        }
    }

    #[test]
    fn several_must_all_hold() {
        for (text, named) in [
            ("p99<5ms", "p99<5ms"),
            ("p99<5ms,p50<300us", "p99<5ms,p50<300us"),
            (
                "p99<5ms, max<=1.5s and mean<1ms",
                "p99<5ms,max<=1.5s,mean<1ms",
            ),
            ("errors<1% and p99<5ms", "errors<1%,p99<5ms"),
        ] {
            let slo: Slo = text.parse().unwrap();
            assert_eq!(slo.to_string(), named);
        }
        let all = |text: &str| text.parse::<Slo>().unwrap().all().collect::<Vec<_>>();
        assert_eq!(all("p99<5ms")[1..], [Objective::FEW_ERRORS]);
        assert_eq!(all("errors<5%")[1..], []);
    }

    #[test]
    fn what_is_wrong_is_said_in_plain_words() {
        for (text, message) in [
            (
                "",
                r#""": expected an objective such as 'p99<5ms', in quotes for the shell"#,
            ),
            (
                "p99",
                r#""p99": expected an objective such as 'p99<5ms', in quotes for the shell"#,
            ),
            (
                "p99>5ms",
                r#""p99>5ms": expected an objective such as 'p99<5ms', in quotes for the shell"#,
            ),
            (
                "p99<5ms,",
                r#""": expected an objective such as 'p99<5ms', in quotes for the shell"#,
            ),
            (
                "p99<5",
                r#""p99<5": the limit needs a unit, such as p99<5ms"#,
            ),
            (
                "p99<",
                r#""p99<": expected a time in s, ms or us, such as p99<5ms"#,
            ),
            (
                "p99<-5ms",
                r#""p99<-5ms": expected a time in s, ms or us, such as p99<5ms"#,
            ),
            (
                "p99<5parsec",
                r#""p99<5parsec": expected a time in s, ms or us, such as p99<5ms"#,
            ),
            (
                "p99<1e9s",
                r#""p99<1e9s": expected a time in s, ms or us, such as p99<5ms"#,
            ),
            (
                "p99<9999s",
                r#""p99<9999s": expected a time of at most one hour, such as p99<5ms"#,
            ),
            (
                "p99<0ms",
                r#""p99<0ms": nothing is below zero; the limit must be above zero"#,
            ),
            (
                "p100<5ms",
                r#""p100<5ms": percentiles lie between p0 and p100; for the largest value, write max"#,
            ),
            (
                "p0<5ms",
                r#""p0<5ms": percentiles lie between p0 and p100; for the largest value, write max"#,
            ),
            (
                "p<5ms",
                r#""p<5ms": unknown measure "p"; known: p50, p99.9, mean, max, errors"#,
            ),
            (
                "latency<5ms",
                r#""latency<5ms": unknown measure "latency"; known: p50, p99.9, mean, max, errors"#,
            ),
            (
                "errors<1",
                r#""errors<1": expected a share of the requests, such as errors<0.1%"#,
            ),
            (
                "errors<101%",
                r#""errors<101%": expected a share of the requests, such as errors<0.1%"#,
            ),
            (
                "errors<0%",
                r#""errors<0%": nothing is below zero; errors<=0% allows none"#,
            ),
            (
                "p99<5ms,p99<6ms",
                r#""p99<5ms,p99<6ms": p99 has two limits; keep the lower"#,
            ),
        ] {
            assert_eq!(text.parse::<Slo>(), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_limit_is_met_below_it_and_with_equality_at_it() {
        for (text, value, met) in [
            ("p99<5ms", 4.999e6, true),
            ("p99<5ms", 5e6, false),
            ("p99<=5ms", 5e6, true),
            ("p99<=5ms", 5.001e6, false),
            ("errors<=0%", 0.0, true),
        ] {
            let objective: Objective = text.parse().unwrap();
            assert_eq!(objective.is_met_by(value), met, "{text} by {value}");
        }
    }

    #[test]
    fn the_largest_percentile_says_how_many_requests_are_needed() {
        for (text, needed) in [
            ("p50<1ms", 4),
            ("p50<1ms,p99<5ms", 381),
            ("p99.9<5ms,p99<1ms", 3_838),
            ("max<5ms", 1),
            ("errors<=0%", 1),
            ("errors<0.1%,p99<5ms", 1_000),
        ] {
            assert_eq!(
                text.parse::<Slo>().unwrap().samples_needed(),
                needed,
                "{text}"
            );
        }
    }

    proptest! {
        /// The printed text means what was parsed.
        #[test]
        fn text_and_back(
            // Thousandths of a percent.
            p in 1..100_000_u32,
            ns in 1..3_600_000_000_000_u64,
            permille in 1..1000_u32,
            inclusive: bool,
        ) {
            let objective = |measure, limit| Objective { measure, limit, inclusive };
            let slo = Slo(vec![
                objective(Measure::Percentile(f64::from(p) / 1000.0), ns as f64),
                objective(Measure::Mean, ns as f64),
                objective(Measure::Errors, f64::from(permille) / 10.0),
            ]);
            prop_assert_eq!(slo.to_string().parse(), Ok(slo));
        }

        #[test]
        fn no_text_is_too_strange(text in "[pmaxerosn0-9.<=,% µ≤]{0,20}|.{0,20}") {
            if let Ok(slo) = text.parse::<Slo>() {
                prop_assert_eq!(slo.to_string().parse(), Ok(slo));
            }
        }
    }
}
