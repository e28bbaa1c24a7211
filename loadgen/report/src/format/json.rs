//! Tables as JSON: where the figures come from, then a row a figure.

use serde::Serialize;

use super::RenderError;
use crate::rows::SCHEMA;

pub(super) fn render(head: impl Serialize, rows: &[impl Serialize]) -> Result<String, RenderError> {
    #[derive(Serialize)]
    struct Whole<'a, H, R> {
        schema: u32,
        #[serde(flatten)]
        head: H,
        rows: &'a [R],
    }
    let whole = Whole {
        schema: SCHEMA,
        head,
        rows,
    };
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}
