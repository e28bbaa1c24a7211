//! Figures for people: counts, rates, times, sizes, shares and lists.
//!
//! Every sentence, table and picture formats its numbers with these functions, so a number looks
//! the same everywhere.

/// A count with its noun: `1 connection`, `64 connections`.
pub fn count(n: u64, one: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{} {one}s", thousands(n)),
    }
}

/// A rate: `5,000`, `0.5`; without decimals if it is large enough.
pub fn per_s(rate: f64) -> String {
    match rate {
        ..9.995 if rate.fract() != 0.0 => format!("{rate:.2}"),
        ..99.95 if rate.fract() != 0.0 => format!("{rate:.1}"),
        _ => thousands(rate.round() as u64),
    }
}

/// A share: `4.8%`, `12%`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let rounded = (percent * 10.0).round() / 10.0;
    match percent {
        ..9.95 => format!("{rounded}%"),
        _ => format!("{percent:.0}%"),
    }
}

/// A share that the user has chosen, with up to two decimal places: `5%`, `2.25%`.
pub fn percent_set(share: f64) -> String {
    format!("{}%", (share * 1e4).round() / 1e2)
}

/// A time given in microseconds, with three digits and a unit.
pub fn time(us: f64) -> String {
    // A value that would be rounded to 1000 is written in the next unit.
    let (value, unit) = match us {
        ..999.5 => (us, "µs"),
        999.5..999.5e3 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    match value {
        ..9.995 => format!("{value:.2} {unit}"),
        9.995..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A number with separators: `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in powers of 1,024: `1023 B`, `1.5 KiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (n.max(1).ilog2() / 10).min(4);
    match power {
        0 => format!("{n} B"),
        _ => format!(
            "{:.1} {}",
            n as f64 / f64::from(1 << 10).powi(power as i32),
            UNITS[power as usize]
        ),
    }
}

/// Three significant digits, with `k` or `M` for thousands or millions.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "∞".to_owned();
    }
    let (value, unit) = match value {
        999_500.0.. => (value / 1e6, "M"),
        // A value that would be rounded to 1000 is written as 1.00k.
        999.5.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    match value {
        ..9.995 => format!("{value:.2}{unit}"),
        ..99.95 => format!("{value:.1}{unit}"),
        _ => format!("{value:.0}{unit}"),
    }
}

/// Words as a list: `a`, `a and b`, `a, b and c`.
pub fn listed<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> String {
    let words: Vec<W> = words.into_iter().collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.as_ref().to_owned(),
        Some((last, others)) => {
            let others: Vec<&str> = others.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", others.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        for (us, text) in [
            (0.5, "0.50 µs"),
            (12.34, "12.3 µs"),
            (9.996, "10.0 µs"),
            (999.0, "999 µs"),
            (999.6, "1.00 ms"),
            (1234.0, "1.23 ms"),
            (5_000_000.0, "5.00 s"),
        ] {
            assert_eq!(time(us), text);
        }
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(n), text);
        }
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn lists_have_one_and() {
        for (words, text) in [
            (&[][..], ""),
            (&["a"], "a"),
            (&["a", "b"], "a and b"),
            (&["a", "b", "c"], "a, b and c"),
        ] {
            assert_eq!(listed(words), text);
        }
    }

    #[test]
    fn figures_have_three_digits() {
        for (value, expected) in [
            (0.0, "0.00"),
            (7.814, "7.81"),
            (9.996, "10.0"),
            (45.25, "45.2"),
            (391.4, "391"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (142_318.0, "142k"),
            (999_600.0, "1.00M"),
            (1_234_567.0, "1.23M"),
        ] {
            assert_eq!(figure(value), expected, "for {value}");
        }
    }
}
