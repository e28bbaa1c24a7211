//! Tables for a terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::document::{Block, Document, Piece};
#[cfg(feature = "sets")]
use crate::grid::Compared;
use crate::grid::{Blocks, Cell, Grid, Layout, Line, Load};
#[cfg(feature = "sets")]
use crate::{absent, with_interval};
#[cfg(feature = "sets")]
use engine::figures::figure;
use engine::figures::thousands;
#[cfg(feature = "sets")]
use lab::compare::Standing;

/// Columns of a terminal of the usual size.
pub const WIDTH: usize = 80;

/// Longer lines of text are hard to read, however wide the terminal is.
const SENTENCE_WIDTH: usize = 100;

/// In lines of at most `width`, as far as the tables allow.
pub(crate) fn render(document: &Document, width: usize) -> String {
    let sentence = width.min(SENTENCE_WIDTH);
    let block = |block: &Block| match block {
        Block::Table { title, note, grid } => {
            let title = match note.is_empty() {
                true => title.clone(),
                false => format!("{title} ({note})"),
            };
            wrapped(&title, "", sentence) + "\n" + &table(grid, width)
        }
        Block::Paragraph(pieces) => {
            let text: String = pieces.iter().map(piece).collect();
            wrapped(&text, "", sentence)
        }
        Block::Warning(word, text) => wrapped(&format!("{word}: {text}"), "", sentence),
        Block::List { heading, items } => {
            let items = items.iter().map(|item| wrapped(item, "  ", sentence));
            let heading = match heading.is_empty() {
                true => String::new(),
                false => wrapped(heading, "", sentence),
            };
            heading + &items.collect::<String>()
        }
    };
    let blocks: Vec<String> = document.blocks().iter().map(block).collect();
    blocks.join("\n")
}

fn piece(piece: &Piece) -> &str {
    match piece {
        Piece::Text(text) => text,
        Piece::Intervals => " (± is its farther end)",
        Piece::Floor => "1.25fl is a multiple of the floor's.",
    }
}

/// One table, or several below each other where `width` leaves no room for all columns.
fn table(grid: &Grid, width: usize) -> String {
    let Layout::Blocks(blocks) = grid.layout else {
        let (whole, folded) = grid.part(grid.names..grid.header.len());
        return drawn(&whole, None) + &fold_line(grid, folded, width);
    };
    let room = width.saturating_sub(blocks.margin + blocks.name);
    let figures_max = |figure: usize| (room / (figure + 1)).max(1);
    let figures = grid.header.len() - grid.names;
    let figure = (blocks.figures.iter().copied())
        .find(|&figure| figures_max(figure) >= figures)
        .unwrap_or(blocks.figures[0]);
    let parts = grid.parts(figures_max(figure)).into_iter();
    let tables = parts.map(|columns| {
        let (part, folded) = grid.part(columns);
        drawn(&part, Some((blocks, figure))) + &fold_line(grid, folded, width)
    });
    tables.collect::<Vec<_>>().join("\n")
}

/// The line below a table that says how many rows are folded.
fn fold_line(grid: &Grid, folded: usize, width: usize) -> String {
    match &grid.fold {
        Some(fold) if folded > 0 => "\n".to_owned() + &wrapped(&fold.line(folded), " ", width),
        _ => String::new(),
    }
}

/// `blocks`: the widths of columns and of figures, if they are given.
fn drawn(grid: &Grid, blocks: Option<(Blocks, usize)>) -> String {
    let columns = grid.header.len();
    let widths = |column: usize| match blocks {
        Some((blocks, _)) if column < grid.names => (blocks.name, blocks.name_min),
        Some((_, figure)) => (figure, figure),
        None => (usize::MAX, 0),
    };
    let cells = |cells: &[Cell]| -> Vec<String> {
        let texts = cells.iter().enumerate().map(|(column, cell)| {
            let is_remark = column >= columns - grid.remarks;
            match (cell, grid.layout) {
                (Cell::Text(text), Layout::Natural { remark, .. }) if is_remark => {
                    wrapped(text, "", remark).trim_end().to_owned()
                }
                _ => written(cell, widths(column).0),
            }
        });
        let mut texts: Vec<String> = texts.collect();
        texts.resize(columns, String::new());
        texts
    };
    let header = cells(&grid.header);
    let rows: Vec<Vec<String>> = (grid.lines.iter())
        .map(|line| match line {
            Line::Row { cells: row, .. } => cells(row),
            Line::Heading(text) => cells(&[Cell::Text(text.clone())]),
            Line::Gap => cells(&[]),
        })
        .collect();
    let width = |column: usize| {
        let texts = rows.iter().chain([&header]).map(|row| &row[column]);
        let lines = texts.flat_map(|text| text.lines());
        let width = lines.map(|line| line.chars().count()).max();
        width.unwrap_or(0).max(widths(column).1)
    };
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.add_row(&header);
    let (margin, gap, has_rule) = match grid.layout {
        Layout::Natural {
            margin, gap, rule, ..
        } => (margin, gap, rule),
        Layout::Blocks(blocks) => (blocks.margin, 1, true),
    };
    if has_rule {
        table.add_row((0..columns).map(|column| "─".repeat(width(column))));
    }
    for row in &rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        let blanks = if index == 0 { margin } else { gap };
        column.set_padding((blanks as u16, 0));
        if grid.is_figure(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = (table.lines())
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

/// A cell in lines of at most `width`, as far as its words allow.
fn written(cell: &Cell, width: usize) -> String {
    match cell {
        Cell::Text(text) | Cell::Markup(text) => text.clone(),
        Cell::Name(name) => at_hyphens(name, width),
        Cell::Part(text) => format!("  {text}"),
        Cell::Noted(noted) if noted.note.is_empty() => noted.text.clone(),
        Cell::Noted(noted) => format!("{}\n{}", noted.text, noted.note),
        Cell::Workload(load) => workload(load, width),
        #[cfg(feature = "sets")]
        Cell::Server(server) => at_hyphens(&server.name, width),
        #[cfg(feature = "sets")]
        Cell::Ratio(ratio) => (ratio.as_ref()).map_or(String::new(), |it| with_interval(it, "x")),
        #[cfg(feature = "sets")]
        Cell::Compared(compared) => entry(compared, width),
    }
}

fn workload(load: &Load, width: usize) -> String {
    let mut text = at_hyphens(&load.name, width);
    if let Some(rate) = load.rate {
        text += match load.is_titled {
            true => "\n",
            false => "\nopen loop,\n",
        };
        text += &rate.to_string();
    }
    if load.idle > 0 {
        let idle = thousands(load.idle as u64);
        text += &format!("\n{} conns +\n{idle} idle", load.connections);
    }
    if !load.note.is_empty() {
        text += &format!("\n{}", load.note);
    }
    text
}

#[cfg(feature = "sets")]
/// Three lines: the value, how it compares, and the rank with the multiple of the floor.
fn entry(compared: &Compared, width: usize) -> String {
    let entry = &compared.entry;
    let with_spread = |text: String, spread: Option<f64>| match spread {
        // The number itself says nothing any more.
        Some(spread) if spread >= 999.5 => format!("{text} ±>999x"),
        Some(spread) if spread >= 0.995 => format!("{text} ±{spread:.0}x"),
        Some(spread) => format!("{text} ±{:.0}%", spread * 100.0),
        None => text,
    };
    let value = match &entry.value {
        Some(value) => with_spread(figure(value.value), value.spread()),
        None => absent(entry, compared.metric),
    };
    let ratio = match (entry.standing, &entry.ratio) {
        (Standing::NotValid, _) => "not valid".to_owned(),
        // It has no rank, so there is room below.
        (Standing::ClientBound, _) => at_hyphens("client-bound", width),
        _ if entry.is_sparse => match width >= "too few rounds".len() {
            true => "too few rounds".to_owned(),
            false => "too few\nrounds".to_owned(),
        },
        _ if entry.is_best => "best".to_owned(),
        (_, Some(ratio)) if entry.is_unresolved => {
            let words = match width >= "not resolved".len() {
                true => "not resolved",
                false => "not\nresolved",
            };
            let ratio = with_spread(format!("{}x", figure(ratio.value)), ratio.spread());
            format!("{words}\n{ratio}")
        }
        (_, Some(ratio)) => with_spread(format!("{}x", figure(ratio.value)), ratio.spread()),
        (_, None) => String::new(),
    };
    let of_floor = entry.of_floor.filter(|_| !compared.is_floor);
    let of_floor = of_floor.map(|of_floor| format!("{}fl", figure(of_floor.value)));
    let below: Vec<String> = compared.rank.clone().into_iter().chain(of_floor).collect();
    let mut lines = vec![value, ratio, below.join(" ")];
    lines.retain(|line| !line.is_empty());
    if entry.left_out > 0 && !lines.is_empty() {
        // On the line with the ratio, if there is one.
        let compared = lines.len().min(2) - 1;
        lines[compared] = marked(&lines[compared], width);
    }
    lines.join("\n")
}

/// `text` with a mark behind it, or before its spread if that is how it fits into `width`.
fn marked(text: &str, width: usize) -> String {
    match text.chars().count() < width {
        true => format!("{text}†"),
        false => text.replacen(" ±", "†±", 1),
    }
}

/// `text` in lines of at most `width`; the first begins with `indent`, the others with two blanks more
/// if there is one.
pub(crate) fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let further = indent.repeat(2);
    let options = textwrap::Options::new(width)
        .initial_indent(indent)
        .subsequent_indent(&further)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(text, options) + "\n"
}

/// `name` in lines of at most `width`, broken behind hyphens where there are any.
pub(crate) fn at_hyphens(name: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for part in name.split_inclusive('-') {
        let line = lines.last_mut().expect("there is one at least");
        if line.is_empty() || line.len() + part.len() <= width {
            line.push_str(part);
        } else {
            lines.push(part.to_owned());
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_break_behind_hyphens() {
        for (name, expected) in [
            ("event-loop", "event-loop"),
            ("thread-per-connection", "thread-per-\nconnection"),
            ("python-http-server", "python-http-\nserver"),
            ("averyveryverylongname", "averyveryverylongname"),
        ] {
            assert_eq!(at_hyphens(name, 12), expected);
        }
    }

    #[test]
    fn marks_take_no_room() {
        for (text, expected) in [
            ("best", "best†"),
            ("2.62x ±4%", "2.62x ±4%†"),
            ("2.62x ±14%", "2.62x†±14%"),
        ] {
            assert_eq!(marked(text, 10), expected);
        }
    }

    #[test]
    fn wrapping() {
        assert_eq!(
            wrapped("a bb ccc dddd", "  ", 8),
            "  a bb\n    ccc\n    dddd\n"
        );
        assert_eq!(wrapped("a bb ccc dddd", "", 8), "a bb ccc\ndddd\n");
    }
}
