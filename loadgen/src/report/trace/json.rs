//! A trace for programs.
use crate::trace::story::Story;

/// Schema 1; times in microseconds.
pub fn value(story: &Story) -> serde_json::Value {
    serde_json::json!({ "schema": 1, "notes": story.notes })
}
