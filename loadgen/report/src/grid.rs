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
    rows: Vec<Line>,
}

enum Line {
    Row(Vec<String>),
    /// Above the rows that it is about.
    Heading(String),
    /// In text only.
    Gap,
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
        self.rows.push(Line::Row(cells));
    }

    /// Unless nothing stands above it.
    pub(super) fn gap(&mut self) {
        if !self.rows.is_empty() {
            self.rows.push(Line::Gap);
        }
    }

    /// In the first column.
    pub(super) fn heading(&mut self, text: &str) {
        self.rows.push(Line::Heading(text.to_owned()));
    }

    /// The cells of each row; a gap has none.
    fn cells(&self, heading: impl Fn(&str) -> String) -> impl Iterator<Item = Option<Vec<String>>> {
        self.rows.iter().map(move |row| {
            let mut cells = match row {
                Line::Row(cells) => cells.clone(),
                Line::Heading(text) => vec![heading(text)],
                Line::Gap => return None,
            };
            cells.resize(self.header.len(), String::new());
            Some(cells)
        })
    }

    /// For a terminal: a blank before each column.
    pub(super) fn text(&self) -> String {
        let columns = self.header.len();
        let rows: Vec<Vec<String>> = (self.cells(str::to_owned))
            .map(|cells| cells.unwrap_or_else(|| vec![String::new(); columns]))
            .collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| &row[column]);
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
        for row in &rows {
            table.add_row(row);
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
            let cells = cells.iter().map(|cell| match cell.replace('\n', "<br>") {
                empty if empty.is_empty() => " |".to_owned(),
                cell => format!(" {cell} |"),
            });
            format!("|{}\n", cells.collect::<String>())
        };
        let alignment = (0..self.header.len()).map(|column| match self.is_figure(column) {
            true => "---:|",
            false => "---|",
        });
        let mut out = line(&self.header);
        out += &format!("|{}\n", alignment.collect::<String>());
        let rows = self.cells(|heading| format!("**{heading}**")).flatten();
        out.extend(rows.map(|row| line(&row)));
        out
    }
}
