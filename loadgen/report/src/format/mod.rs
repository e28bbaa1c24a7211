//! The formats of tables, a file each. All of them get the same input: a [`Document`] of tables and sentences, and
//! the rows of figures behind it.
//!
//! A new format is a file here and an entry in [`TableFormat`], whose `render` names the file.

#[cfg(feature = "sets")]
mod csv;
#[cfg(feature = "page")]
pub(crate) mod html;
#[cfg(feature = "sets")]
mod json;
pub(crate) mod markdown;
pub(crate) mod text;

#[cfg(feature = "sets")]
use clap::ValueEnum;
#[cfg(feature = "sets")]
use serde::Serialize;

use crate::document::Document;

#[cfg(feature = "sets")]
/// How tables are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For a terminal, as wide as it is, or of 80 columns
    Text,
    /// For a file, with whole intervals
    Markdown,
    /// For a browser: a page in one file, with whole intervals
    #[cfg(feature = "page")]
    Html,
    /// One row for each figure, with a stable header
    Csv,
    /// The same, and where it comes from
    Json,
}

#[cfg(feature = "sets")]
/// Why tables could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// As CSV.
    #[error("printing as CSV: {0}")]
    Csv(#[from] ::csv::Error),
    /// As JSON.
    #[error("printing as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

#[cfg(feature = "sets")]
impl TableFormat {
    /// Whether it draws a document; the others write rows of figures.
    pub fn is_for_people(self) -> bool {
        !matches!(self, TableFormat::Csv | TableFormat::Json)
    }

    /// The text. Formats for people draw `document`, in lines of at most `width` where that applies; formats for programs
    /// write `rows`, which have all figures, and `head`, which says where they come from.
    ///
    /// # Errors
    ///
    /// When rows cannot be serialized.
    pub fn render(
        self,
        document: impl FnOnce() -> Document,
        width: usize,
        head: impl Serialize,
        rows: &[impl Serialize],
    ) -> Result<String, RenderError> {
        match self {
            TableFormat::Text => Ok(text::render(&document(), width)),
            TableFormat::Markdown => Ok(markdown::render(&document())),
            #[cfg(feature = "page")]
            TableFormat::Html => Ok(html::page(&document())),
            TableFormat::Csv => csv::render(rows),
            TableFormat::Json => json::render(head, rows),
        }
    }
}

impl Document {
    /// For a terminal, in lines of at most `width` as far as the tables allow.
    pub fn text(&self, width: usize) -> String {
        text::render(self, width)
    }

    /// For a file.
    pub fn markdown(&self) -> String {
        markdown::render(self)
    }
}
