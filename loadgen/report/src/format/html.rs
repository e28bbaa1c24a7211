//! Tables as HTML: for the page of sets, which has them in its sections, and as a page of their own.
//!
//! Class names and attributes are those that `page.css` and `page.js` use.

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::absent;
use crate::chart::number;
use crate::document::{Block, Document, Piece};
use crate::grid::{Cell, Compared, Detail, Grid, Kind, Line, Load, Noted, Server, Tone};
use crate::rows::Role;
use crate::situations::times;
use engine::figures::thousands;
use lab::compare::{Entry, Estimate, Standing};

/// Places of the colours of servers in [`crate::chart::style::HUES`]. A server without one has no swatch.
pub(crate) type Hues = BTreeMap<String, usize>;

/// Longer lists and tables of facts are folded.
pub(crate) const LINES_SHOWN: usize = 12;

/// A page of its own.
pub(crate) fn page(document: &Document) -> String {
    let title = "Server architectures compared";
    let (css, body) = (include_str!("../../../page.css"), render(document));
    format!(
        "<!doctype html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n\
         <style>\n{css}</style>\n\
         </head>\n\
         <body>\n\
         <main>\n<h1>{title}</h1>\n{body}</main>\n\
         </body>\n\
         </html>\n"
    )
}

/// A part of a page.
pub(crate) fn render(document: &Document) -> String {
    document.blocks().iter().map(block).collect()
}

fn block(block: &Block) -> String {
    match block {
        Block::Table { title, note, grid } => {
            let note = match note.is_empty() {
                true => String::new(),
                false => format!(" <small>{}</small>", escaped(note)),
            };
            let table = table(grid, &Hues::new());
            format!("<h2>{}{note}</h2>\n{table}\n", escaped(title))
        }
        Block::Paragraph(pieces) => {
            let text: String = pieces.iter().map(piece).collect();
            format!("<p>{}</p>\n", prose(&text))
        }
        Block::Warning(word, text) => {
            let (word, text) = (escaped(word), escaped(text));
            format!("<p class=\"warning\" role=\"status\"><b>{word}</b>: {text}</p>\n")
        }
        Block::List { heading, items } => {
            let heading = match heading.is_empty() {
                true => String::new(),
                false => format!("<p>{}</p>\n", prose(heading)),
            };
            let items = items.iter().map(|it| format!("<li>{}</li>", escaped(it)));
            format!("{heading}<ul>{}</ul>\n", items.collect::<String>())
        }
    }
}

fn piece(piece: &Piece) -> &str {
    match piece {
        Piece::Text(text) => text,
        Piece::Intervals => " in parentheses",
        Piece::Floor => "1.25 floor is a multiple of the floor's.",
    }
}

/// Escaped, with code between backticks.
fn prose(text: &str) -> String {
    let text = escaped(text);
    let parts: Vec<&str> = text.split('`').collect();
    // A backtick without a second one is a character.
    if parts.len().is_multiple_of(2) {
        return text;
    }
    let part = |(at, part): (usize, &&str)| match at % 2 {
        0 => (*part).to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    parts.iter().enumerate().map(part).collect()
}

/// A table that scrolls by itself where the window is narrow; folded rows are a table that is opened by a click.
pub(crate) fn table(grid: &Grid, hues: &Hues) -> String {
    let is_folded = |line: &&Line| match line {
        Line::Row { cells, is_kept } => grid.folds(cells, *is_kept),
        Line::Heading(_) | Line::Gap => false,
    };
    let (mut folded, mut shown): (Vec<&Line>, Vec<&Line>) = grid.lines.iter().partition(is_folded);
    let has_rows = shown.iter().any(|line| matches!(line, Line::Row { .. }));
    // A line that says that one more is folded takes its room.
    if folded.len() == 1 || !has_rows {
        (folded, shown) = (Vec::new(), grid.lines.iter().collect());
    }
    let scrolling = |inner: &str| format!("<div class=\"scroll\">{inner}</div>");
    let table = drawn(grid, &shown, hues);
    let Some(fold) = grid.fold.as_ref().filter(|_| !folded.is_empty()) else {
        return scrolling(&table);
    };
    let summary = format!("<summary>{}</summary>", escaped(fold.summary(folded.len())));
    let rest = drawn(grid, &folded, hues);
    match grid.kind {
        // The summaries of a group and of its other tables share a line.
        Kind::Group => format!(
            "{}<details class=\"further\">{summary}{}</details>",
            scrolling(&table),
            scrolling(&rest)
        ),
        _ => scrolling(&format!(
            "{table}<details class=\"rest\">{summary}{rest}</details>"
        )),
    }
}

/// Facts with their names, below a caption.
pub(crate) fn facts(caption: &str, grid: &Grid) -> String {
    let caption = escaped(caption);
    let lines: Vec<&Line> = grid.lines.iter().collect();
    let body = body(grid, &lines, &Hues::new());
    let table = format!("<table><caption>{caption}</caption>{body}</table>");
    match lines.len() > LINES_SHOWN {
        true => {
            let summary = format!("<summary>{caption}: {} lines</summary>", lines.len());
            format!("<details>{summary}{table}</details>")
        }
        false => table,
    }
}

fn drawn(grid: &Grid, lines: &[&Line], hues: &Hues) -> String {
    let class = match grid.kind {
        Kind::Plain => "",
        Kind::Podiums => " class=\"ranks\"",
        Kind::Group => " class=\"group\"",
        Kind::Fairness => " class=\"group fair\"",
        Kind::Servers => " class=\"servers\"",
    };
    // Their columns are of one width.
    let columns = match grid.kind {
        Kind::Group | Kind::Fairness => {
            let columns = grid.header.len() - grid.names;
            format!(" style=\"--columns:{columns}\"")
        }
        Kind::Plain | Kind::Podiums | Kind::Servers => String::new(),
    };
    let head = grid.header.iter().map(|cell| {
        let text = Drawn::of(cell, hues).inner;
        format!("<th scope=\"col\">{text}</th>")
    });
    let head: String = head.collect();
    let body = body(grid, lines, hues);
    format!("<table{class}{columns}>\n<thead><tr>{head}</tr></thead>\n{body}</table>")
}

fn body(grid: &Grid, lines: &[&Line], hues: &Hues) -> String {
    let rows = lines.iter().map(|line| match line {
        Line::Row { cells, .. } => {
            let server = line.server().map(|server| &server.name);
            let server = server.map_or(String::new(), |it| attribute("data-of", it));
            let class = match grid.kind == Kind::Servers && !is_ranked(cells) {
                true => " class=\"unranked\"",
                false => "",
            };
            let cells = cells
                .iter()
                .enumerate()
                .map(|(at, it)| cell(grid, at, it, hues));
            format!("<tr{server}{class}>{}</tr>\n", cells.collect::<String>())
        }
        Line::Heading(text) => {
            let (columns, text) = (grid.header.len(), escaped(text));
            format!("<tr><th scope=\"rowgroup\" colspan=\"{columns}\">{text}</th></tr>\n")
        }
        // Rows have borders.
        Line::Gap => String::new(),
    });
    format!("<tbody>{}</tbody>", rows.collect::<String>())
}

/// Whether the first figure of a row takes part in the comparison.
fn is_ranked(cells: &[Cell]) -> bool {
    let entry = cells.iter().find_map(|cell| match cell {
        Cell::Compared(compared) => Some(&compared.entry),
        _ => None,
    });
    entry.is_some_and(|entry| entry.standing == Standing::Ranked)
}

fn cell(grid: &Grid, column: usize, cell: &Cell, hues: &Hues) -> String {
    let Drawn {
        mut attributes,
        inner,
    } = Drawn::of(cell, hues);
    if column < grid.names {
        return format!("<th scope=\"row\"{attributes}>{inner}</th>");
    }
    if grid.kind == Kind::Servers && !grid.is_figure(column) {
        attributes += " class=\"verdict\"";
    }
    format!("<td{attributes}>{inner}</td>")
}

/// A cell without the element around it.
struct Drawn {
    /// Each with a blank before it.
    attributes: String,
    inner: String,
}

impl Drawn {
    fn of(cell: &Cell, hues: &Hues) -> Self {
        let plain = |inner: String| Drawn {
            attributes: String::new(),
            inner,
        };
        match cell {
            Cell::Text(text) | Cell::Name(text) | Cell::Markup(text) => plain(lines(text)),
            Cell::Part(text) => plain(format!("&nbsp;&nbsp;{}", lines(text))),
            Cell::Workload(load) => plain(workload(load)),
            Cell::Noted(it) => noted(it),
            Cell::Server(it) => server(it, hues),
            Cell::Ratio(ratio) => Drawn {
                attributes: " class=\"value\"".to_owned(),
                inner: ratio.as_ref().map_or(String::new(), |it| {
                    let two = |value: f64| format!("{value:.2}");
                    with_interval(it, two, "x")
                }),
            },
            Cell::Compared(it) => compared(it),
        }
    }
}

fn workload(load: &Load) -> String {
    let mut text = escaped(&load.name);
    if let Some(place) = &load.described_at {
        text = format!("<a href=\"#{}\">{text}</a>", escaped(place));
    }
    if let Some(anchor) = &load.anchor {
        text = format!("<span id=\"{}\">{text}</span>", escaped(anchor));
    }
    let mut notes = Vec::new();
    notes.extend(load.rate.map(|rate| format!("open loop, {rate}")));
    if load.idle > 0 {
        let idle = thousands(load.idle as u64);
        notes.push(format!("{} conns + {idle} idle", load.connections));
    }
    notes.extend((!load.note.is_empty()).then(|| load.note.clone()));
    let notes = notes
        .iter()
        .map(|it| format!("<small>{}</small>", escaped(it)));
    text + &notes.collect::<String>()
}

fn noted(noted: &Noted) -> Drawn {
    let text = escaped(&noted.text);
    let note = match noted.note.is_empty() {
        true => String::new(),
        false => format!("<small>{}</small>", escaped(&noted.note)),
    };
    let (class, inner) = match noted.tone {
        Tone::Neutral => ("", format!("{text}{note}")),
        Tone::First => ("", format!("<b>{text}</b>{note}")),
        Tone::Bad => (" class=\"bad\"", format!("{text} {note}")),
    };
    Drawn {
        attributes: class.to_owned(),
        inner,
    }
}

fn server(server: &Server, hues: &Hues) -> Drawn {
    let mut attributes = String::new();
    let mut inner = escaped(&server.name);
    if let Some(hue) = hues.get(&server.name) {
        attributes += &attribute("data-name", &server.name);
        inner = format!("<i style=\"background:var(--c{hue})\"></i>{inner}");
    }
    attributes += match server.role {
        Role::Floor => " title=\"floor: not ranked\"",
        Role::Reference => " title=\"reference: not ranked\"",
        Role::Ranked => "",
    };
    Drawn { attributes, inner }
}

fn compared(compared: &Compared) -> Drawn {
    let entry = &compared.entry;
    let is_short = compared.detail == Detail::Short;
    let value = match &entry.value {
        Some(value) if is_short => number(value.value),
        Some(value) => with_interval(value, number, ""),
        None => escaped(absent(entry, compared.metric)),
    };
    let mut ratio = comparison(entry);
    let mut title = String::new();
    if let (true, Some(estimate), false) =
        (is_short, &entry.ratio, entry.is_best || entry.is_sparse)
    {
        title = attribute("title", &ratio);
        ratio = match entry.is_unresolved {
            true => "not resolved".to_owned(),
            false => format!("{}x", number(estimate.value)),
        };
    }
    if ratio.is_empty() && compared.detail != Detail::Figures {
        ratio = match entry.standing {
            Standing::ClientBound => "client-bound",
            Standing::NotValid => "not valid",
            Standing::Ranked | Standing::Failed | Standing::Missing => "",
        }
        .to_owned();
    }
    let is_whole = compared.detail == Detail::Whole;
    if is_whole && entry.left_out > 0 && !(value.is_empty() && ratio.is_empty()) {
        ratio += "†";
    }
    let rank = compared.rank.as_ref();
    let rank = rank.map_or(String::new(), |it| {
        format!("<span class=\"rank\">{}</span>", escaped(it))
    });
    let small = |text: &str| match text.is_empty() {
        true => String::new(),
        false => format!("<small>{text}</small>"),
    };
    let ratio = escaped(ratio);
    let mut inner = match (is_short, rank.is_empty()) {
        // On one line, as far as there is room.
        (true, _) => {
            let parts = [value, rank, small(&ratio)];
            let parts: Vec<String> = parts.into_iter().filter(|it| !it.is_empty()).collect();
            parts.join(" ")
        }
        (false, true) => value + &small(&ratio),
        (false, false) => value + &small(&format!("{rank} {ratio}")),
    };
    if let (true, Some(of_floor), false) = (is_whole, &entry.of_floor, compared.is_floor) {
        inner += &small(&with_interval(of_floor, number, " floor"));
    }
    let class = match entry.rank {
        Some(1) => " class=\"value first\"",
        _ => " class=\"value\"",
    };
    Drawn {
        attributes: format!("{class}{title}"),
        inner,
    }
}

/// How an entry compares with the best.
fn comparison(entry: &Entry) -> String {
    let ratio = || entry.ratio.as_ref().map_or(String::new(), times);
    match () {
        () if entry.is_sparse => "too few rounds".to_owned(),
        () if entry.is_best => "best".to_owned(),
        () if entry.is_unresolved => format!("not resolved: {}", ratio()),
        () => ratio(),
    }
}

/// The interval can be laid out as a part of its own.
fn with_interval(estimate: &Estimate, format: impl Fn(f64) -> String, unit: &str) -> String {
    let value = format(estimate.value);
    match estimate.interval {
        Some((low, high)) => {
            let (low, high) = (format(low), format(high));
            format!("{value}{unit} <span>({low}–{high})</span>")
        }
        None => format!("{value}{unit}"),
    }
}

/// Escaped, with its lines, and indented where it is.
fn lines(text: &str) -> String {
    let bare = text.trim_start_matches(' ');
    let indent = "&nbsp;".repeat(text.len() - bare.len());
    indent + &escaped(bare).replace('\n', "<br>")
}

fn attribute(name: &str, value: &str) -> String {
    format!(" {name}=\"{}\"", escaped(value))
}

fn escaped(text: impl Display) -> String {
    match askama::filters::escape(text, askama::filters::Html) {
        Ok(escaped) => escaped.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Fold;
    use engine::plan::Rate;
    use lab::compare::Metric;
    use lab::fixture;

    fn server(name: &str, role: Role) -> Cell {
        Cell::Server(Server {
            name: name.to_owned(),
            role,
        })
    }

    fn noted(text: &str, note: &str, tone: Tone) -> Cell {
        let (text, note) = (text.to_owned(), note.to_owned());
        Cell::Noted(Noted { text, note, tone })
    }

    /// The entry of a server under the first workload, by CPU.
    fn entry(of: &str, detail: Detail) -> Cell {
        let evidence = fixture::with_floor();
        let comparison = evidence.compare(Metric::Cpu);
        let column = comparison.servers.iter().position(|it| it == of).unwrap();
        let row = &comparison.rows[0];
        Cell::Compared(Box::new(Compared {
            entry: row.entries[column].clone(),
            rank: row.rank_mark(column),
            is_floor: of == "floor",
            metric: Metric::Cpu,
            leads: row.entries[column].rank == Some(1),
            detail,
        }))
    }

    fn load() -> Load {
        Load {
            name: "keep-alive".to_owned(),
            anchor: None,
            described_at: None,
            note: String::new(),
            rate: None,
            is_titled: false,
            connections: 64,
            idle: 0,
        }
    }

    #[test]
    fn cells() {
        let ratio = Estimate {
            value: 1.25,
            interval: Some((1.2, 1.304)),
        };
        for (cell, expected) in [
            (
                Cell::from("<script>\n'&'\""),
                "<td>&#60;script&#62;<br>&#39;&#38;&#39;&#34;</td>",
            ),
            (Cell::Part("user".to_owned()), "<td>&nbsp;&nbsp;user</td>"),
            (Cell::from("  b "), "<td>&nbsp;&nbsp;b </td>"),
            (noted("none", "", Tone::Neutral), "<td>none</td>"),
            (
                noted("<a>", "by <b>", Tone::First),
                "<td><b>&#60;a&#62;</b><small>by &#60;b&#62;</small></td>",
            ),
            (
                noted("0.016", "63 unserved", Tone::Bad),
                "<td class=\"bad\">0.016 <small>63 unserved</small></td>",
            ),
            (
                Cell::Workload(Load {
                    described_at: Some("workload-keep-alive".to_owned()),
                    note: "64 connections".to_owned(),
                    ..load()
                }),
                "<td><a href=\"#workload-keep-alive\">keep-alive</a><small>64 connections</small></td>",
            ),
            (
                Cell::Workload(Load {
                    anchor: Some("cpu-keep-alive".to_owned()),
                    rate: Rate::per_second(5_000.0),
                    idle: 1_000,
                    ..load()
                }),
                "<td><span id=\"cpu-keep-alive\">keep-alive</span><small>open loop, 5000/s</small>\
                 <small>64 conns + 1,000 idle</small></td>",
            ),
            (Cell::Ratio(None), "<td class=\"value\"></td>"),
            (
                Cell::Ratio(Some(ratio)),
                "<td class=\"value\">1.25x <span>(1.20–1.30)</span></td>",
            ),
            (
                entry("event-loop", Detail::Short),
                "<td class=\"value first\">7.96 <span class=\"rank\">#1</span> <small>best</small></td>",
            ),
            (
                entry("async-tasks", Detail::Short),
                "<td class=\"value\" title=\"1.15x (1.10–1.17)\">9.08 <span class=\"rank\">#2</span> \
                 <small>1.15x</small></td>",
            ),
            (
                entry("async-tasks", Detail::Figures),
                "<td class=\"value\">9.08 <span>(8.90–9.26)</span><small><span class=\"rank\">#2</span> \
                 1.15x (1.10–1.17)</small></td>",
            ),
            (
                entry("async-tasks", Detail::Whole),
                "<td class=\"value\">9.08 <span>(8.90–9.26)</span><small><span class=\"rank\">#2</span> \
                 1.15x (1.10–1.17)</small><small>1.50 floor <span>(1.47–1.53)</span></small></td>",
            ),
            (
                entry("iterative", Detail::Figures),
                "<td class=\"value\">7.65 <span>(7.50–7.80)</span></td>",
            ),
            (
                entry("iterative", Detail::Whole),
                "<td class=\"value\">7.65 <span>(7.50–7.80)</span><small>not valid</small></td>",
            ),
        ] {
            let mut grid = Grid::new(["", ""], 1);
            grid.row([Cell::from("it"), cell.clone()]);
            let html = table(&grid, &Hues::new());
            let expected = format!("<th scope=\"row\">it</th>{expected}</tr>");
            assert!(html.contains(&expected), "{cell:?}: {html}");
        }
    }

    #[test]
    fn rows() {
        let hues = Hues::from([("<a>".to_owned(), 3)]);
        let mut plain = Grid::new(["server", "value"], 1);
        plain.heading("<b>");
        plain.row([server("<a>", Role::Ranked), Cell::from("1")]);
        plain.gap();
        plain.row([server("floor", Role::Floor), Cell::from("2")]);
        let mut of_servers = Grid::new(["server", "CPU", "verdict"], 1)
            .with_remark()
            .of_kind(Kind::Servers);
        for (name, verdict) in [("event-loop", "valid"), ("iterative", "starved")] {
            of_servers.row([
                server(name, Role::Ranked),
                entry(name, Detail::Figures),
                Cell::from(verdict),
            ]);
        }
        for (name, grid, expected) in [
            (
                "a heading, a gap, a colour and a role",
                plain,
                "<div class=\"scroll\"><table>\n\
                 <thead><tr><th scope=\"col\">server</th><th scope=\"col\">value</th></tr></thead>\n\
                 <tbody><tr><th scope=\"rowgroup\" colspan=\"2\">&#60;b&#62;</th></tr>\n\
                 <tr data-of=\"&#60;a&#62;\"><th scope=\"row\" data-name=\"&#60;a&#62;\">\
                 <i style=\"background:var(--c3)\"></i>&#60;a&#62;</th><td>1</td></tr>\n\
                 <tr data-of=\"floor\"><th scope=\"row\" title=\"floor: not ranked\">floor</th><td>2</td></tr>\n\
                 </tbody></table></div>",
            ),
            (
                "one that is not ranked",
                of_servers,
                "<div class=\"scroll\"><table class=\"servers\">\n\
                 <thead><tr><th scope=\"col\">server</th><th scope=\"col\">CPU</th><th scope=\"col\">verdict</th>\
                 </tr></thead>\n\
                 <tbody><tr data-of=\"event-loop\"><th scope=\"row\">event-loop</th><td class=\"value first\">\
                 7.96 <span>(7.80–8.11)</span><small><span class=\"rank\">#1</span> best</small></td>\
                 <td class=\"verdict\">valid</td></tr>\n\
                 <tr data-of=\"iterative\" class=\"unranked\"><th scope=\"row\">iterative</th><td class=\"value\">\
                 7.65 <span>(7.50–7.80)</span></td><td class=\"verdict\">starved</td></tr>\n\
                 </tbody></table></div>",
            ),
        ] {
            assert_eq!(table(&grid, &hues), expected, "{name}");
        }
    }

    /// Servers by name; the first leads, `kept` is kept.
    fn folded(kind: Kind, names: &[&str]) -> String {
        let mut grid = Grid::new(["server", "CPU"], 1)
            .of_kind(kind)
            .folded(Some(Fold {
                noun: "server",
                which: "which <lag>",
                all: Some("`--all`".to_owned()),
            }));
        for &name in names {
            let cell = match name {
                "event-loop" => entry(name, Detail::Short),
                _ => Cell::from("1"),
            };
            grid.row_kept([server(name, Role::Ranked), cell], name == "kept");
        }
        table(&grid, &Hues::new())
    }

    #[test]
    fn folded_rows() {
        let head = "<table class=\"group\" style=\"--columns:1\">\n<thead>";
        for (name, kind, names, summaries, before, behind) in [
            (
                "below the table",
                Kind::Plain,
                &["event-loop", "b", "kept", "c"][..],
                1,
                "</table><details class=\"rest\"><summary>2 more servers, which &#60;lag&#62;</summary><table>\n",
                "</table></details></div>",
            ),
            (
                "beside other tables of a group",
                Kind::Group,
                &["b", "event-loop", "c"],
                1,
                &format!(
                    "</table></div><details class=\"further\"><summary>2 more servers, which &#60;lag&#62;\
                     </summary><div class=\"scroll\">{head}"
                ),
                "</table></div></details>",
            ),
            (
                "one alone is shown",
                Kind::Plain,
                &["event-loop", "b"],
                0,
                "data-of=\"b\"",
                "</table></div>",
            ),
            (
                "so are all where none leads",
                Kind::Plain,
                &["b", "c", "d"],
                0,
                "data-of=\"d\"",
                "</table></div>",
            ),
        ] {
            let html = folded(kind, names);
            assert_eq!(
                html.matches("<summary>").count(),
                summaries,
                "{name}: {html}"
            );
            assert!(html.contains(before), "{name}: {html}");
            assert!(html.ends_with(behind), "{name}: {html}");
            for server in names {
                let row = format!("<tr data-of=\"{server}\">");
                assert_eq!(html.matches(&row).count(), 1, "{name}: {html}");
            }
            if let Some((shown, rest)) = html.split_once("<details") {
                assert!(shown.contains("data-of=\"event-loop\""), "{name}: {shown}");
                assert!(!rest.contains("kept"), "{name}: {rest}");
            }
        }
    }

    #[test]
    fn facts_are_folded_where_there_are_many() {
        for (lines, begin, end) in [
            (
                12,
                "<table><caption>a.toml</caption><tbody><tr><th scope=\"row\">key</th><td>&#60;0&#62;</td></tr>\n",
                "</tbody></table>",
            ),
            (
                13,
                "<details><summary>a.toml: 13 lines</summary><table><caption>",
                "</table></details>",
            ),
        ] {
            let mut grid = Grid::new(["", ""], 1);
            for line in 0..lines {
                grid.row(["key".to_owned(), format!("<{line}>")]);
            }
            let html = facts("a.toml", &grid);
            assert!(html.starts_with(begin) && html.ends_with(end), "{html}");
        }
    }

    #[test]
    fn a_document() {
        let mut document = Document::default();
        let mut grid = Grid::new(["", "<x>"], 1);
        grid.row(["a", "1"]);
        document.table("Costs & more", "less is better", grid);
        document.pieces(vec![
            Piece::Text("Use `--a <b>`".to_owned()),
            Piece::Intervals,
        ]);
        document.paragraph("a ` alone");
        document.warning("Incomplete", "<1> missing".to_owned());
        document.list("Left out:", vec!["<script>".to_owned()]);
        let expected = "<h2>Costs &#38; more <small>less is better</small></h2>\n\
            <div class=\"scroll\"><table>\n\
            <thead><tr><th scope=\"col\"></th><th scope=\"col\">&#60;x&#62;</th></tr></thead>\n\
            <tbody><tr><th scope=\"row\">a</th><td>1</td></tr>\n\
            </tbody></table></div>\n\
            <p>Use <code>--a &#60;b&#62;</code> in parentheses</p>\n\
            <p>a ` alone</p>\n\
            <p class=\"warning\" role=\"status\"><b>Incomplete</b>: &#60;1&#62; missing</p>\n\
            <p>Left out:</p>\n\
            <ul><li>&#60;script&#62;</li></ul>\n";
        assert_eq!(render(&document), expected);
        let page = page(&document);
        assert!(
            page.starts_with("<!doctype html>") && page.contains(expected),
            "{page}"
        );
        let title = "Server architectures compared";
        for tag in ["title", "h1"] {
            assert!(page.contains(&format!("<{tag}>{title}</{tag}>")), "{page}");
        }
    }
}
