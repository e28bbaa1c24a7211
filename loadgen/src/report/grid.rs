//! A table that is first filled and then drawn: for a terminal, or as Markdown.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// Rows of texts, which may have several lines each.
pub(super) struct Grid {
    header: Vec<String>,
    /// So many columns, the first ones, are names; what follows are figures, which stand to the right.
    names: usize,
    /// So many columns, the last ones, are remarks.
    remarks: usize,
    /// No column is narrower than that in text.
    width_min: usize,
    /// `None` is a gap, in text.
    rows: Vec<Option<Vec<String>>>,
}

impl Grid {
    pub(super) fn new(header: Vec<String>, names: usize) -> Self {
        Grid {
            header,
            names,
            remarks: 0,
            width_min: 0,
            rows: Vec::new(),
        }
    }

    pub(super) fn at_least(self, width_min: usize) -> Self {
        Grid { width_min, ..self }
    }

    pub(super) fn with_remarks(self, remarks: usize) -> Self {
        Grid { remarks, ..self }
    }

    fn is_figure(&self, column: usize) -> bool {
        (self.names..self.header.len() - self.remarks).contains(&column)
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(Some(cells));
    }

    /// Unless nothing stands above it.
    pub(super) fn gap(&mut self) {
        if !self.rows.is_empty() {
            self.rows.push(None);
        }
    }

    /// For a terminal: a blank before each column.
    pub(super) fn text(&self) -> String {
        let columns = self.header.len();
        let width = |column: usize| {
            let cells = self.rows.iter().flatten().map(|row| &row[column]);
            let lines = cells
                .chain([&self.header[column]])
                .flat_map(|it| it.lines());
            let width = lines.map(|line| line.chars().count()).max();
            width.unwrap_or(0).max(self.width_min)
        };
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.add_row(&self.header);
        table.add_row((0..columns).map(|column| "─".repeat(width(column))));
        for row in &self.rows {
            match row {
                Some(cells) => table.add_row(cells),
                None => table.add_row(vec![""; columns]),
            };
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((1, 0));
            if self.is_figure(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines: Vec<String> = (table.lines())
            .map(|line| line.trim_end().to_owned())
            .collect();
        lines.join("\n") + "\n"
    }

    /// Texts must have no markup by accident; lines become breaks.
    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|it| it.replace('\n', "<br>")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let alignment = (0..self.header.len()).map(|column| match self.is_figure(column) {
            true => "---:|",
            false => "---|",
        });
        let mut out = line(&self.header);
        out += &format!("|{}\n", alignment.collect::<String>());
        out.extend(self.rows.iter().flatten().map(|row| line(row)));
        out
    }
}
