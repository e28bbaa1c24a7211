//! Tables and what is said about them, drawn for a terminal or as Markdown.

use super::grid::Grid;
use super::table::wrapped;
use engine::foreign::in_markdown as escaped;

/// Blocks, one below the other.
#[derive(Default)]
pub(super) struct Document(Vec<Block>);

enum Block {
    Table {
        title: String,
        /// Stands behind the title in parentheses.
        note: String,
        grid: Grid,
    },
    Paragraph(String),
    /// A word that must not be missed, and what is to be said about it.
    Warning(&'static str, String),
    List {
        heading: String,
        items: Vec<String>,
    },
}

impl Document {
    pub(super) fn table(&mut self, title: &str, note: &str, grid: Grid) {
        self.0.push(Block::Table {
            title: title.to_owned(),
            note: note.to_owned(),
            grid,
        });
    }

    pub(super) fn append(&mut self, mut other: Document) {
        self.0.append(&mut other.0);
    }

    pub(super) fn paragraph(&mut self, text: impl Into<String>) {
        self.0.push(Block::Paragraph(text.into()));
    }

    pub(super) fn warning(&mut self, word: &'static str, text: String) {
        self.0.push(Block::Warning(word, text));
    }

    /// Nothing where there are no items, which may be what a server wrote: no markup.
    pub(super) fn list(&mut self, heading: &str, items: Vec<String>) {
        if !items.is_empty() {
            self.0.push(Block::List {
                heading: heading.to_owned(),
                items,
            });
        }
    }

    /// In lines of at most `width`, as far as the tables allow.
    pub(super) fn text(&self, width: usize) -> String {
        let block = |block: &Block| match block {
            Block::Table { title, note, grid } => {
                wrapped(&format!("{title} ({note})"), "", width) + "\n" + &grid.text()
            }
            Block::Paragraph(text) => wrapped(text, "", width),
            Block::Warning(word, text) => wrapped(&format!("{word}: {text}"), "", width),
            Block::List { heading, items } => {
                let items: String = items
                    .iter()
                    .map(|item| wrapped(item, "  ", width))
                    .collect();
                wrapped(heading, "", width) + &items
            }
        };
        self.0.iter().map(block).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn markdown(&self) -> String {
        let block = |block: &Block| match block {
            Block::Table { title, note, grid } => {
                format!("**{title}** ({note})\n\n{}", grid.markdown())
            }
            Block::Paragraph(text) => format!("{text}\n"),
            Block::Warning(word, text) => format!("**{word}**: {text}\n"),
            Block::List { heading, items } => {
                let items: String = items
                    .iter()
                    .map(|it| format!("- {}\n", escaped(it)))
                    .collect();
                format!("{heading}\n\n{items}")
            }
        };
        self.0.iter().map(block).collect::<Vec<_>>().join("\n")
    }
}
