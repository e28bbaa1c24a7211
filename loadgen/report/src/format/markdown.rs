//! Tables as Markdown.

use crate::document::{Block, Document, Piece};
#[cfg(feature = "sets")]
use crate::grid::Compared;
use crate::grid::{Cell, Grid, Layout, Line, Load, Noted, Tone};
#[cfg(feature = "sets")]
use crate::{absent, with_interval};
use engine::figures::thousands;
use engine::foreign::in_markdown as escaped;
#[cfg(feature = "sets")]
use lab::compare::Standing;

/// The most columns of figures side by side, where there may be many.
const FIGURES_MAX: usize = 6;

pub(crate) fn render(document: &Document) -> String {
    let block = |block: &Block| match block {
        Block::Table { title, note, grid } => {
            let note = match note.is_empty() {
                true => String::new(),
                false => format!(" ({note})"),
            };
            format!("**{title}**{note}\n\n{}", table(grid))
        }
        Block::Paragraph(pieces) => pieces.iter().map(piece).collect::<String>() + "\n",
        Block::Warning(word, text) => format!("**{word}**: {text}\n"),
        Block::List { heading, items } => {
            let items = items.iter().map(|it| format!("- {}\n", escaped(it)));
            let heading = match heading.is_empty() {
                true => String::new(),
                false => format!("{heading}\n\n"),
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
        Piece::Intervals => " in parentheses",
        Piece::Floor => "1.25 *floor* is a multiple of the floor's.",
    }
}

/// One table, or several of so few columns that they can be read.
pub(crate) fn table(grid: &Grid) -> String {
    let figures_max = match grid.layout {
        Layout::Natural { .. } => usize::MAX,
        Layout::Blocks(_) => FIGURES_MAX,
    };
    let parts = grid.parts(figures_max).into_iter().map(|columns| {
        let (part, folded) = grid.part(columns);
        match &grid.fold {
            Some(fold) if folded > 0 => format!("{}\n{}.\n", drawn(&part), fold.line(folded)),
            _ => drawn(&part),
        }
    });
    parts.collect::<Vec<_>>().join("\n")
}

fn drawn(grid: &Grid) -> String {
    let line = |cells: Vec<String>| {
        let mut cells = cells;
        cells.resize(grid.header.len(), String::new());
        let cells = cells.iter().map(|cell| match cell.replace('\n', "<br>") {
            empty if empty.is_empty() => " |".to_owned(),
            cell => format!(" {cell} |"),
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let row = |cells: &[Cell]| line(cells.iter().map(written).collect());
    let alignment = (0..grid.header.len()).map(|column| match grid.is_figure(column) {
        true => "---:|",
        false => "---|",
    });
    let mut out = row(&grid.header);
    out += &format!("|{}\n", alignment.collect::<String>());
    out.extend(grid.lines.iter().map(|it| match it {
        Line::Row { cells, .. } => row(cells),
        Line::Heading(text) => line(vec![format!("**{}**", escaped(text))]),
        Line::Gap => String::new(),
    }));
    out
}

/// Line breaks become `<br>` when a row is drawn.
fn written(cell: &Cell) -> String {
    match cell {
        Cell::Markup(text) => text.clone(),
        Cell::Text(text) | Cell::Name(text) => {
            let lines: Vec<String> = text.split('\n').map(escaped).collect();
            lines.join("\n")
        }
        Cell::Part(text) => format!("&nbsp;&nbsp;{}", escaped(text)),
        Cell::Noted(it) => noted(it),
        Cell::Workload(load) => workload(load),
        #[cfg(feature = "sets")]
        Cell::Server(server) => escaped(&server.name),
        #[cfg(feature = "sets")]
        Cell::Ratio(ratio) => (ratio.as_ref()).map_or(String::new(), |it| with_interval(it, "x")),
        #[cfg(feature = "sets")]
        Cell::Compared(compared) => entry(compared),
    }
}

fn noted(noted: &Noted) -> String {
    let text = escaped(&noted.text);
    let text = match noted.tone {
        Tone::Neutral => text,
        Tone::First | Tone::Bad => format!("**{text}**"),
    };
    match noted.note.is_empty() {
        true => text,
        false => format!("{text}\n*{}*", escaped(&noted.note)),
    }
}

fn workload(load: &Load) -> String {
    let mut text = escaped(&load.name);
    if let Some(place) = &load.described_at {
        text = format!("[{text}](#{place})");
    }
    if let Some(anchor) = &load.anchor {
        text = format!("<a id=\"{anchor}\"></a>{text}");
    }
    if let Some(rate) = load.rate {
        text += &format!("\n*open loop, {rate}*");
    }
    if load.idle > 0 {
        let idle = thousands(load.idle as u64);
        text += &format!("\n*{} conns + {idle} idle*", load.connections);
    }
    if !load.note.is_empty() {
        text += &format!("\n*{}*", escaped(&load.note));
    }
    text
}

#[cfg(feature = "sets")]
/// The value, the rank with the ratio to the best, and the multiple of the floor.
fn entry(compared: &Compared) -> String {
    let entry = &compared.entry;
    let mut lines = vec![match &entry.value {
        Some(value) => with_interval(value, ""),
        None => absent(entry, compared.metric),
    }];
    let ratio = match (entry.standing, &entry.ratio) {
        (Standing::NotValid, _) => Some("*not valid*".to_owned()),
        (Standing::ClientBound, _) => Some("*client-bound*".to_owned()),
        _ if entry.is_sparse => Some("*too few rounds*".to_owned()),
        _ if entry.is_best => Some("**best**".to_owned()),
        (_, Some(ratio)) if entry.is_unresolved => {
            Some(format!("*not resolved*: {}", with_interval(ratio, "x")))
        }
        (_, ratio) => ratio.as_ref().map(|ratio| with_interval(ratio, "x")),
    };
    let ranked: Vec<String> = compared.rank.clone().into_iter().chain(ratio).collect();
    if !ranked.is_empty() {
        lines.push(ranked.join(" "));
    }
    lines.retain(|line| !line.is_empty());
    if entry.left_out > 0 && !lines.is_empty() {
        let last = lines.last_mut().expect("there is the value");
        last.push('†');
    }
    let of_floor = entry.of_floor.filter(|_| !compared.is_floor);
    lines.extend(of_floor.map(|of_floor| with_interval(&of_floor, " *floor*")));
    lines.join("\n")
}
