//! What is said of a test that cannot be held here.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Prints one line, of tests that pass too: the output of macros is captured then.
pub(crate) fn skipped(why: impl Display) {
    let mut stderr = io::stderr();
    writeln!(stderr, "SKIPPED: {why}").expect("stderr is open");
}
