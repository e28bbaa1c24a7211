//! Two servers side by side.
use crate::trace::story::Story;

/// What differs, and both timelines.
pub fn side_by_side(a: (&str, &Story), b: (&str, &Story), width: usize) -> String {
    let _ = (a, b, width);
    String::new()
}
