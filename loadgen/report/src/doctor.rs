//! The findings about a machine, as text for a terminal of 80 columns.

use anstyle::{AnsiColor, Style};
use textwrap::{Options, WordSplitter};

use super::format::text::WIDTH as COLUMNS;
use lab::doctor::{Examination, Finding, Mend, Status};

/// A line for each check, with what to change below it where there is something. It has colours;
/// the caller removes them where they are not wanted.
pub fn text(examination: &Examination) -> String {
    let mut text = fill(&examination.machine, "", "");
    text += "\n";
    for finding in &examination.checks {
        text += &lines(finding);
    }
    text += "\n";
    text += &fill(&summary(examination), "", "");
    text
}

/// Width of the name of a check, with the space after it.
const NAME_COLUMNS: usize = 17;
/// As wide as the status with the space behind it.
const INDENT: &str = "         ";

fn lines(finding: &Finding) -> String {
    let style = match finding.status {
        Status::Ok => AnsiColor::Green.on_default(),
        Status::Warn => AnsiColor::Yellow.on_default().bold(),
        Status::Unknown => AnsiColor::Cyan.on_default(),
    };
    let status = finding.status.as_str();
    let value = match &finding.value {
        Some(value) => value,
        None => finding.why.as_deref().unwrap_or_default(),
    };
    let start = format!("{INDENT}{:<NAME_COLUMNS$}", finding.check);
    let under = " ".repeat(start.len());
    let first = match finding.value {
        // A path must not be broken, and has more room below.
        None if start.len() + value.len() > COLUMNS => {
            start.trim_end().to_owned() + "\n" + &fill(value, INDENT, INDENT)
        }
        _ => fill(value, &start, &under),
    };
    // Replaces the indent, so that escape sequences do not count towards the width.
    let rest = &first[status.len()..];
    let mut lines = format!("{style}{status}{style:#}{rest}");
    if finding.status == Status::Warn {
        if let Some(why) = &finding.why {
            lines += &fill(why, INDENT, INDENT);
        }
        match &finding.mend {
            Some(Mend::Advice(advice)) => lines += &fill(advice, INDENT, INDENT),
            Some(Mend::Command(command)) => lines += &shell(command),
            None => {}
        }
    }
    lines
}

/// A command as it can be copied, on several lines when it is long.
fn shell(command: &str) -> String {
    let (prompt, under, continued) = ("$ ", "    ", " \\");
    let width = COLUMNS - INDENT.len() - under.len() - continued.len();
    let options = Options::new(width)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    let lines = textwrap::wrap(command, options);
    let bold = Style::new().bold();
    let between = format!("{continued}{bold:#}\n{INDENT}{under}{bold}");
    format!("{INDENT}{prompt}{bold}{}{bold:#}\n", lines.join(&between))
}

/// Is this machine fit to measure?
fn summary(examination: &Examination) -> String {
    let (ok, unknown) = (
        examination.count(Status::Ok),
        examination.count(Status::Unknown),
    );
    let counts = match unknown {
        0 => format!("{ok} ok"),
        _ => format!("{ok} ok, {unknown} unknown"),
    };
    match examination.count(Status::Warn) {
        0 if unknown == 0 => format!("{counts}: fit to measure."),
        0 => format!("{counts}: fit to measure, as far as can be seen."),
        1 => format!("{counts}, 1 warning: fix this before trusting measurements made here."),
        warnings => format!(
            "{counts}, {warnings} warnings: fix these before trusting measurements made here."
        ),
    }
}

/// Wrapped, with a new line at the end.
fn fill(text: &str, first: &str, others: &str) -> String {
    let options = Options::new(COLUMNS)
        .word_splitter(WordSplitter::NoHyphenation)
        .initial_indent(first)
        .subsequent_indent(others);
    textwrap::fill(text, options) + "\n"
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use lab::doctor::facts::{Facts, Tracefs, Unread, sound};
    use lab::doctor::judge::judge;

    fn examination(facts: &Facts) -> Examination {
        Examination {
            schema: lab::doctor::SCHEMA,
            version: "0.0.0",
            machine: "Some CPU, 16 CPUs, Linux 6.18.1 x86_64".to_owned(),
            checks: judge(facts),
        }
    }

    /// Of sixteen CPUs, those which are one core are far from each other in number.
    fn troubled() -> Facts {
        let mut facts = sound();
        facts.allowed = (0..16).collect();
        facts.online = Ok((0..16).collect());
        facts.siblings = (0..16)
            .map(|cpu| (cpu, vec![cpu % 8, cpu % 8 + 8]))
            .collect();
        facts.governors = Ok(vec!["powersave".to_owned()]);
        facts.congestion_control = Ok("bbr".to_owned());
        facts.tracefs = Ok(Tracefs::Unmounted);
        facts.clock_source = Err(Unread::Absent(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource".to_owned(),
        ));
        facts.privileges.as_mut().unwrap().filtered = true;
        facts
    }

    #[test]
    fn report_of_a_troubled_machine() {
        let text = text(&examination(&troubled()));
        insta::assert_snapshot!(strip_str(&text));
    }

    #[test]
    fn a_sound_machine_takes_a_line_a_check() {
        let examination = examination(&sound());
        let text = text(&examination);
        let text = strip_str(&text).to_string();
        // Above and below stand the machine and the summary, each with an empty line between.
        assert_eq!(text.lines().count(), examination.checks.len() + 4);
        assert!(text.ends_with("\n24 ok: fit to measure.\n"), "{text}");
    }

    #[test]
    fn only_the_status_and_what_to_change_stand_out() {
        let text = text(&examination(&troubled()));
        for part in [
            "\u{1b}[32mok\u{1b}[0m       cores ",
            "\u{1b}[1m\u{1b}[33mwarn\u{1b}[0m     congestion ",
            "\u{1b}[36munknown\u{1b}[0m  clock source\n",
            "$ \u{1b}[1msudo mount -t tracefs nodev /sys/kernel/tracing\u{1b}[0m\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
    }

    /// So that it can be copied from the terminal, line by line or as a whole.
    #[test]
    fn a_long_command_is_continued() {
        let cpus: Vec<String> = (0..12).map(|cpu| (4 * cpu).to_string()).collect();
        let cpus = cpus.join(",");
        let command = format!("loadgen measure --pin-server {cpus} --pin-client {cpus}");
        let shown = shell(&command);
        let shown = strip_str(&shown).to_string();
        assert!(shown.lines().count() > 1 && shown.lines().all(|line| line.len() <= COLUMNS));
        let joined = shown.replace("\\\n", "").replace("$ ", "");
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&joined), words(&command), "{shown}");
    }
}
