//! Code that several verbs share.

use std::env;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Usage;
use engine::limits;
use engine::signals;
use subject::machine::Pinning;
use subject::machine::siblings_of;

/// A flag that the first SIGINT, SIGTERM or SIGHUP sets; see [`signals`].
pub(crate) fn interruption() -> io::Result<Arc<AtomicBool>> {
    signals::watch()
}

/// [`limits::allow_files`] for a command line.
pub(crate) fn require_files(connections: usize, idle: usize) -> Result<(), Usage> {
    limits::allow_files(connections, idle).map_err(Usage)
}

/// Whether the locale (POSIX, "Internationalization Variables") supports UTF-8. If none is set, as in
/// containers, the terminal probably does.
pub(crate) fn speaks_utf8() -> bool {
    is_utf8(|name| env::var(name).ok())
}

fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let mut variables = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable);
    match variables.find(|value| !value.is_empty()) {
        Some(locale) => {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        }
        None => true,
    }
}

/// CPUs as on command lines: `0`, `0,2`, `0-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cpus(pub(super) Vec<usize>);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            (text.trim().parse::<usize>()).map_err(|_| "expected CPUs such as 0, 0,2 or 0-3")
        };
        let there = engine::affinity::own_cpus();
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            // Checked before the range is expanded: it may span billions.
            if let Some(cpu) = (first..=last).find(|cpu| !there.contains(cpu)) {
                return Err(format!("CPU {cpu} is not available here, only {there:?}"));
            }
            cpus.extend(first..=last);
        }
        match cpus.is_empty() {
            true => Err("the range of CPUs is empty".to_owned()),
            false => Ok(Cpus(cpus)),
        }
    }
}

/// Assigns `cpus` to server and generator as requested. If neither is given, each gets half; if one is
/// given, the other gets the rest.
pub(crate) fn pinning(server: Option<&Cpus>, client: Option<&Cpus>, cpus: &[usize]) -> Pinning {
    let others = |taken: &[usize]| -> Vec<usize> {
        cpus.iter()
            .copied()
            .filter(|cpu| !taken.contains(cpu))
            .collect()
    };
    match (server, client) {
        (None, None) => Pinning::split(cpus, &siblings_of(cpus)),
        (Some(Cpus(server)), None) => Pinning {
            server: server.clone(),
            client: others(server),
        },
        (None, Some(Cpus(client))) => Pinning {
            server: others(client),
            client: client.clone(),
        },
        (Some(Cpus(server)), Some(Cpus(client))) => Pinning {
            server: server.clone(),
            client: client.clone(),
        },
    }
}

/// A number of 1 or more.
pub(crate) fn count<N: FromStr>(text: &str) -> Result<N, String> {
    (text.parse()).map_err(|_| "expected a number of 1 or more".to_owned())
}

/// A duration above zero, such as `10s`, `1m 30s` or `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration, which may be zero.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    limits::time(text).map_err(|error| match text.parse::<u64>() {
        Ok(number) => format!("a time needs a unit; did you mean {number}s?"),
        Err(_) => format!("{error}; expected a time such as 10s or 500ms"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbers_and_ranges() {
        assert_eq!("0".parse(), Ok(Cpus(vec![0])));
        assert_eq!("0-0".parse(), Ok(Cpus(vec![0])));
        for wrong in [
            "",
            "x",
            "1-",
            "3-1",
            "0,",
            "99999",
            "0-18446744073709551615",
        ] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn locales() {
        for (variables, expected) in [
            (&[][..], true),
            (&[("LANG", "C.UTF-8")], true),
            (&[("LANG", "en_US.utf8")], true),
            (&[("LANG", "C")], false),
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "POSIX")], false),
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "")], true),
            (&[("LANG", "C"), ("LC_CTYPE", "de_DE.UTF-8")], true),
        ] {
            let variable = |name: &str| {
                let mut found = variables.iter().filter(|(key, _)| *key == name);
                found.next().map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(is_utf8(variable), expected, "{variables:?}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (text, expected) in [
            ("10s", Ok(10_000)),
            ("1m", Ok(60_000)),
            ("1m30s", Ok(90_000)),
            ("500ms", Ok(500)),
            ("30", Err("did you mean 30s?")),
            ("1.5", Err("such as 10s or 500ms")),
            ("-1s", Err("such as 10s or 500ms")),
            ("", Err("such as 10s or 500ms")),
            ("0", Err("longer than zero")),
            ("0s", Err("longer than zero")),
            ("18446744073709551615s", Err("the maximum is 365 days")),
        ] {
            match (duration(text), expected) {
                (Ok(found), Ok(ms)) => assert_eq!(found, Duration::from_millis(ms), "{text}"),
                (Err(found), Err(message)) => assert!(found.contains(message), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
    }
}
