//! Segments from an interface or from a capture file, and into one.
