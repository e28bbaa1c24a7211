//! Tables and what is said about them, before any format draws them.

use super::grid::Grid;

/// Blocks, one below the other. A format draws them: [`crate::format::TableFormat`].
#[derive(Debug, Clone, Default)]
pub struct Document(Vec<Block>);

#[derive(Debug, Clone)]
pub(crate) enum Block {
    Table {
        title: String,
        /// Stands behind the title in parentheses, where there is any.
        note: String,
        grid: Grid,
    },
    Paragraph(Vec<Piece>),
    /// A word that must not be missed, and its explanation.
    Warning(&'static str, String),
    List {
        heading: String,
        items: Vec<String>,
    },
}

/// A part of a paragraph.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// Formats do not escape it: it must not contain markup by accident.
    Text(String),
    /// Behind "with its 95% interval": how the format writes intervals.
    Intervals,
    /// A sentence: how the format writes multiples of the floor.
    Floor,
}

impl Document {
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.0
    }

    pub(crate) fn table(&mut self, title: &str, note: &str, grid: Grid) {
        self.0.push(Block::Table {
            title: title.to_owned(),
            note: note.to_owned(),
            grid,
        });
    }

    pub(crate) fn append(&mut self, mut other: Document) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn paragraph(&mut self, text: impl Into<String>) {
        self.pieces(vec![Piece::Text(text.into())]);
    }

    pub(crate) fn pieces(&mut self, pieces: Vec<Piece>) {
        self.0.push(Block::Paragraph(pieces));
    }

    pub(crate) fn warning(&mut self, word: &'static str, text: String) {
        self.0.push(Block::Warning(word, text));
    }

    /// Adds nothing if there are no items. Items may be texts of servers: formats escape them.
    pub(crate) fn list(&mut self, heading: &str, items: Vec<String>) {
        if !items.is_empty() {
            self.0.push(Block::List {
                heading: heading.to_owned(),
                items,
            });
        }
    }
}
