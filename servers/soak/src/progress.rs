//! Progress on stderr: a line for each server, redrawn on a terminal and repeated now and then elsewhere.

use std::cell::Cell;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::process::Sample;
use crate::table::thousands;

/// The progress of one server.
#[derive(Debug)]
pub struct Progress {
    name: String,
    bar: Option<ProgressBar>,
    said: Cell<Option<Instant>>,
}

/// The lines of all servers.
#[derive(Debug)]
pub(crate) struct Lines {
    bars: Option<MultiProgress>,
    name_width: usize,
}

/// How often a line is repeated if stderr is not a terminal.
const REPEAT_EVERY: Duration = Duration::from_secs(30);

/// The state of a mix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) elapsed: Duration,
    pub(crate) time: Duration,
    pub(crate) answers: u64,
    pub(crate) gave_up: u64,
    pub(crate) faults: u64,
    pub(crate) sample: Sample,
}

impl Lines {
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Lines {
            bars: io::stderr().is_terminal().then(MultiProgress::new),
            name_width: names.map(str::len).max().unwrap_or_default(),
        }
    }

    pub(crate) fn add(&self, name: &str) -> Progress {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(ProgressStyle::with_template("{wide_msg}").expect("a valid template"));
            bar
        });
        Progress {
            name: format!("{name:<width$}", width = self.name_width),
            bar,
            said: Cell::new(None),
        }
    }

    /// Removes the lines.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.bars {
            let _ = bars.clear(); // Fails only if stderr does.
        }
    }
}

impl Progress {
    /// Shows what is done next.
    pub(crate) fn say(&self, what: &str) {
        let line = format!("{} {what}", self.name);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => eprintln!("{line}"),
        }
        self.said.set(Some(Instant::now()));
    }

    pub(crate) fn show(&self, moment: Moment) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{} {}", self.name, figures(&moment))),
            None => {
                let said = self.said.get();
                if said.is_none_or(|said| said.elapsed() >= REPEAT_EVERY) {
                    self.say(&figures(&moment));
                }
            }
        }
    }

    pub(crate) fn over(&self, passed: bool) {
        self.say(if passed { "passed" } else { "FAILED" });
    }
}

/// Formats a state, such as `  3:20/10:00 398,112 answers 0 faults 9,216 KiB 2,007 files`.
fn figures(moment: &Moment) -> String {
    let clock = |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
    let gave_up = match moment.gave_up {
        0 => String::new(),
        gave_up => format!(" {} gave up", thousands(gave_up)),
    };
    format!(
        "{}/{} {} answers{gave_up} {} faults {} KiB {} files",
        clock(moment.elapsed),
        clock(moment.time),
        thousands(moment.answers),
        thousands(moment.faults),
        thousands(moment.sample.rss_anon_kib),
        thousands(moment.sample.files),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fit_a_terminal() {
        let moment = Moment {
            elapsed: Duration::from_secs(599),
            time: Duration::from_secs(600),
            answers: 1_200_000,
            gave_up: 0,
            faults: 0,
            sample: Sample {
                rss_anon_kib: 12_345,
                files: 2_007,
                ..Sample::default()
            },
        };
        let expected = "9:59/10:00 1,200,000 answers 0 faults 12,345 KiB 2,007 files";
        assert_eq!(figures(&moment), expected);
        assert!("thread-per-connection ".len() + expected.len() <= 84);
    }
}
