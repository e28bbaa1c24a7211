//! Output of the verbs: messages on stderr, and all requested output.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::Usage;
use engine::{destination, foreign};

/// Prints a line to stderr, formatted like `println!`. If stderr cannot be written to (it is closed, full, or a
/// pipe without a reader), the line is dropped; `eprintln!` would panic.
macro_rules! say {
    () => { $crate::output::to_stderr(format_args!("\n")) };
    ($($text:tt)+) => {
        $crate::output::to_stderr(format_args!("{}\n", format_args!($($text)+)))
    };
}
pub(crate) use say;

/// Writes to stderr in one piece, so that lines of several threads or processes are not mixed. Text that cannot
/// be written is dropped. See [`say!`] for lines.
pub(crate) fn to_stderr(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_all(text.to_string().as_bytes());
}

/// Prints an error to stderr. Control characters in quoted paths, names and texts are escaped, so that they do
/// not affect the terminal.
pub(crate) fn say_error(error: &anyhow::Error) {
    let text = format!("{error:#}");
    let lines: Vec<String> = text.split('\n').map(foreign::escaped).collect();
    say!("loadgen: {}", lines.join("\n"));
}

/// Whether an output option means standard output, which then receives nothing else.
pub(crate) fn is_stdout(path: Option<&Path>) -> bool {
    path.is_some_and(destination::is_stdout)
}

/// Checks output options and their paths before anything starts.
pub(crate) fn check(options: &[(&str, Option<&Path>)]) -> Result<(), Usage> {
    let given = options
        .iter()
        .filter_map(|&(option, path)| Some((option, path?)));
    let given: Vec<(&str, &Path)> = given.collect();
    for (index, &(option, path)) in given.iter().enumerate() {
        let shown = path.display();
        destination::check(path).map_err(|error| Usage(format!("{option} {shown}: {error}")))?;
        let mut earlier = given[..index].iter();
        if let Some((other, _)) = earlier.find(|(_, it)| destination::is_same(it, path)) {
            let place = match destination::is_stdout(path) {
                true => "stdout".to_owned(),
                false => shown.to_string(),
            };
            return Err(Usage(format!("{other} and {option} both write to {place}")));
        }
    }
    Ok(())
}

/// Prints to standard output. A reader that stops early, as `head` does, is not an error.
pub(crate) fn print(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    destination::print(text.as_ref()).context("writing to standard output")
}

/// Prints text with colours, which only a terminal receives.
pub(crate) fn print_styled(text: &str) -> anyhow::Result<()> {
    let choice = anstream::AutoStream::choice(&io::stdout());
    let mut shown = anstream::AutoStream::new(Vec::new(), choice);
    shown.write_all(text.as_bytes())?;
    print(shown.into_inner())
}

/// Writes `bytes` to the destination of an output option.
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    match destination::is_stdout(path) {
        true => print(bytes),
        false => destination::write(path, bytes.as_ref())
            .with_context(|| format!("writing {}", path.display())),
    }
}

/// Writes `value` as JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    write(path, serde_json::to_string_pretty(value)? + "\n")
}

/// Several outputs: each is written even if another fails.
#[derive(Debug, Default)]
pub(crate) struct Written {
    failure: Option<anyhow::Error>,
}

impl Written {
    /// Adds the outcome of one output.
    pub(crate) fn add(&mut self, outcome: anyhow::Result<()>) {
        let Err(error) = outcome else { return };
        match &self.failure {
            Some(_) => say_error(&error),
            None => self.failure = Some(error),
        }
    }

    /// The first failure; the others were printed.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}

/// Standard output for a long task: a failure does not stop the task, and is reported at its end.
#[derive(Debug, Default)]
pub(crate) struct Stdout(Written);

impl Stdout {
    /// The first failure.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.0.end()
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.failure.is_none() {
            self.0.add(print(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error as a writer; text that cannot be written is dropped.
#[derive(Debug)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
