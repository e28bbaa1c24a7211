//! Tables as CSV: a row a figure, with a stable header.

use serde::Serialize;

use super::RenderError;

pub(super) fn render(rows: &[impl Serialize]) -> Result<String, RenderError> {
    let mut out = Vec::new();
    let mut writer = ::csv::Writer::from_writer(&mut out);
    for row in rows {
        writer.serialize(row)?;
    }
    writer.flush().map_err(::csv::Error::from)?;
    drop(writer);
    Ok(String::from_utf8(out).expect("strings and numbers were written"))
}
