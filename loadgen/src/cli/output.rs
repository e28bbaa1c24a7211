//! What the verbs say and write: messages on stderr, and everything that the user asked for.

use std::fmt::Arguments;
use std::io::{self, Write as _};

/// Says a line on stderr, formatted as `println!` does. That it cannot be said (stderr is closed, full, or a
/// pipe that nobody reads) changes nothing else, least of all by a panic, as `eprintln!` would.
macro_rules! say {
    () => { $crate::cli::output::to_stderr(format_args!("\n")) };
    ($($text:tt)+) => {
        $crate::cli::output::to_stderr(format_args!("{}\n", format_args!($($text)+)))
    };
}
pub(crate) use say;

/// Writes to stderr in one piece, so that lines of several threads or processes stay whole; what cannot be
/// written is dropped. See [`say!`] for lines.
pub(crate) fn to_stderr(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_all(text.to_string().as_bytes());
}
