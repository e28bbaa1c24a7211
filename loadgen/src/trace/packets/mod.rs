//! Segments from an interface or from a capture file, and into one.

mod line;

pub use line::{Relative, line, tcpdump_lines};
