//! A sequence diagram in Mermaid, for README files: GitHub draws it.
//!
//! Segments are arrows. Calls and state changes are notes; those between two segments share a note.
//! Sockets are left out because they are tables.

use super::words::{self, duration, printable};
use crate::model::Side;
use crate::story::{Event, Happening, Origin, Phase, Segment, Story, labels};
use engine::figures::count;

/// The diagram, without a code fence.
pub fn diagram(story: &Story) -> String {
    let several = story.connections.len() > 1;
    let client = |index: usize| match several {
        true => format!("C{}", index + 1),
        false => "C".to_owned(),
    };
    let mut out = "sequenceDiagram\n".to_owned();
    for (index, connection) in story.connections.iter().enumerate() {
        let (name, ends) = (client(index), connection.endpoints);
        out += &format!("    participant {name} as client<br/>{}\n", ends.client);
    }
    if story.connections.is_empty() {
        out += "    participant C as client\n";
    }
    let server = (story.connections.first())
        .map_or(String::new(), |it| format!("<br/>{}", it.endpoints.server));
    out += &format!("    participant S as server{server}\n");
    let first = client(0);
    for phase in &story.prologue {
        out += &self::phase(phase, &first);
    }
    for (index, connection) in story.connections.iter().enumerate() {
        let client = client(index);
        for phase in &connection.phases {
            out += &self::phase(phase, &client);
        }
        let ending = text(&connection.ending.explanation, COLUMNS_OVER_BOTH);
        out += &format!("    Note over {client},S: {ending}\n");
    }
    if !story.others.is_empty() {
        out += &lines(&story.others, &first);
    }
    out
}

/// The background of a phase; it suits light and dark pages.
const BEHIND: &str = "rgba(128, 128, 128, 0.12)";

fn phase(phase: &Phase, client: &str) -> String {
    let heading = text(&phase.heading, COLUMNS_OVER_BOTH);
    format!("    rect {BEHIND}\n    Note over {client},S: {heading}\n")
        + &lines(&phase.events, client)
        + "    end\n"
}

fn lines(events: &[Event], client: &str) -> String {
    let mut out = String::new();
    let mut notes = Notes::default();
    for event in events {
        match &event.what {
            Happening::Segment(it) => {
                out += &notes.flushed(client);
                out += &arrow(it, client);
            }
            Happening::Silence(ns) => {
                out += &notes.flushed(client);
                out += &format!(
                    "    Note over {client},S: {} pass\n",
                    escaped(&duration(*ns))
                );
            }
            Happening::State(it) => {
                let derived = match it.origin {
                    Origin::Kernel => "",
                    Origin::Derived => " (derived)",
                    Origin::Likely => " (likely)",
                };
                notes.push(it.side, format!("{}{derived}", it.new));
            }
            Happening::Call(it) => {
                let mut call = it.clone();
                call.took_ns = None;
                notes.push(it.side, words::call(&call));
            }
            Happening::Icmp(it) => {
                out += &notes.flushed(client);
                out += &format!("    Note over {client},S: {}\n", escaped(&words::icmp(it)));
            }
            Happening::Moment(it) => notes.push(Side::Client, it.clone()),
            Happening::Sockets(_) | Happening::Info(_) => {}
        }
    }
    out + &notes.flushed(client)
}

/// What both sides did since the last segment.
#[derive(Default)]
struct Notes {
    client: Vec<String>,
    server: Vec<String>,
}

impl Notes {
    fn push(&mut self, side: Side, text: String) {
        let notes = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        notes.push(self::text(&text, COLUMNS_AT_SIDE));
    }

    fn flushed(&mut self, client: &str) -> String {
        let mut out = String::new();
        let places = [
            (&mut self.client, format!("left of {client}")),
            (&mut self.server, "right of S".to_owned()),
        ];
        for (notes, place) in places {
            if !notes.is_empty() {
                out += &format!("    Note {place}: {}\n", notes.join("<br/>"));
                notes.clear();
            }
        }
        out
    }
}

fn arrow(segment: &Segment, client: &str) -> String {
    let packet = &segment.packet;
    let (from, to) = match segment.from {
        Side::Client => (client, "S"),
        Side::Server => ("S", client),
    };
    let arrow = match (packet.flags.rst, segment.retransmission) {
        (true, _) => "-x",
        (_, true) => "-->>",
        (false, false) => "->>",
    };
    let mut parts = vec![words::flags(packet.flags)];
    let (first, next) = segment.sequence;
    match packet.payload_bytes {
        0 if packet.flags.syn || packet.flags.fin => parts.push(format!("seq {first}")),
        0 => {}
        bytes => {
            parts.push(count(bytes.into(), "byte"));
            parts.push(format!("seq {first}:{next}"));
        }
    }
    parts.extend(segment.acknowledgement.map(|it| format!("ack {it}")));
    parts.extend(Some(labels(&segment.remarks)).filter(|it| !it.is_empty()));
    let text = parts.join(", ");
    let http = segment.http.as_ref();
    let http = http.map_or(String::new(), |it| {
        format!("<br/>{}", self::text(it, COLUMNS_AT_SIDE))
    });
    format!("    {from}{arrow}{to}: {}{http}\n", escaped(&text))
}

/// Mermaid does not wrap notes, so the text is wrapped to this many columns.
const COLUMNS_OVER_BOTH: usize = 34;
const COLUMNS_AT_SIDE: usize = 40;

/// Wraps a text to `columns`.
fn text(text: &str, columns: usize) -> String {
    let text = printable(text);
    let lines = textwrap::wrap(&text, columns);
    let lines: Vec<String> = lines.iter().map(|line| escaped(line)).collect();
    lines.join("<br/>")
}

/// Escapes everything that Mermaid or Markdown would interpret: a semicolon ends a statement, `#`
/// begins an entity, `%%` a comment, `<` markup, `$$` a formula.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '#' | ';' | '<' | '>' | '&' | '"' | '%' | '$' | '`' | '\\' => {
                out += &format!("#{};", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn of_each_story() {
        for (name, story) in fixture::all() {
            let diagram = diagram(&story);
            // Writes the diagrams to files, for inspection with Mermaid.
            if let Some(folder) = std::env::var_os("LOADGEN_TEST_MERMAID") {
                let file = std::path::Path::new(&folder).join(format!("{name}.mmd"));
                std::fs::write(file, &diagram).unwrap();
            }
            insta::assert_snapshot!(name, diagram);
        }
    }

    #[test]
    fn what_is_syntax_is_escaped() {
        assert_eq!(
            escaped("a;b #1 <b> 100%\n\u{1b}: \u{202e}c"),
            "a#59;b #35;1 #60;b#62; 100#37;#92;n#92;u{1b}: #92;u{202e}c"
        );
    }

    /// Each arrow and each note has its own line, and blocks are closed.
    #[test]
    fn every_segment_is_an_arrow() {
        for (name, story) in fixture::all() {
            let diagram = diagram(&story);
            let is_arrow = |line: &&str| {
                let ends = line.split_once(": ").map_or("", |(ends, _)| ends);
                ends.contains(">>") || ends.contains("-x")
            };
            let arrows = diagram.lines().filter(is_arrow).count();
            let is_segment = |event: &&Event| matches!(event.what, Happening::Segment(_));
            assert_eq!(
                arrows,
                words::events(&story).filter(is_segment).count(),
                "{name}"
            );
            let count = |word: &str| diagram.lines().filter(|it| it.trim() == word).count();
            assert_eq!(count(&format!("rect {BEHIND}")), count("end"), "{name}");
        }
    }
}
