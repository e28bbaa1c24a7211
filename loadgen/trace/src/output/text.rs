//! The timeline for a terminal: one line per event, in microseconds since the first.
//!
//! Each side has its own column, so the eye can follow a segment from one side to the other:
//!
//! ```text
//!    15.1  client ──► server  Flags [S], seq 3053812901, win 65495, ...
//!    18.3             server  LISTEN → SYN-RECEIVED (derived)
//! ```

use anstyle::{AnsiColor, Style};

use super::states::held;
use super::words::{self, Kind, duration, printable, us, wrap};
use super::{Heading, sockets};
use crate::model::{Side, TcpOption};
use crate::story::{CallLine, Connection, Event, Happening, Origin, Phase, Segment, Story};

/// The whole trace, in lines of at most `width` columns; at least 40 are needed. The text contains
/// colours, which the caller removes where they are not wanted.
pub fn timeline(story: &Story, heading: &Heading, width: usize) -> String {
    let mut page = Page::new(width);
    let layout = Layout::of(story, page.width);
    page.heading(heading);
    legend(&mut page, &layout, story);
    for phase in &story.prologue {
        page.gap();
        page.lines.extend(layout.phase(phase));
    }
    for (index, connection) in story.connections.iter().enumerate() {
        page.gap();
        page.wrapped(
            BOLD,
            "",
            "",
            &name(connection, index, story.connections.len()),
        );
        for phase in &connection.phases {
            page.gap();
            page.lines.extend(layout.phase(phase));
        }
        page.gap();
        page.rule("How it ended");
        page.wrapped(PLAIN, "   ", "   ", &connection.ending.explanation);
        states(&mut page, connection);
    }
    if !story.others.is_empty() {
        page.gap();
        page.rule("Outside the connections");
        page.lines.extend(layout.events(&story.others));
    }
    if !story.notes.is_empty() {
        page.gap();
        page.rule("Notes");
        for note in &story.notes {
            page.wrapped(PLAIN, " · ", "   ", note);
        }
    }
    page.text()
}

/// Replaces everything outside ASCII; each line keeps its width.
pub fn ascii(text: &str) -> String {
    let ascii = |c: char| match c {
        '─' => '-',
        '►' | '→' => '>',
        '◄' | '←' => '<',
        '│' => '|',
        '┊' => ':',
        'µ' => 'u',
        '·' => '*',
        '≠' => '#',
        '–' | '—' | '‐' => '-',
        '…' => '~',
        other if other.is_ascii() => other,
        _ => '?',
    };
    text.chars().map(ascii).collect()
}

/// The minimum width of a terminal.
const WIDTH_MIN: usize = 40;
/// From this width on, segments are shown with all options; most of them still fit on one line.
const WIDTH_OF_ALL_OPTIONS: usize = 120;

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// A line and the number of columns it occupies.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    styled: String,
    columns: usize,
}

impl Line {
    pub(super) fn plain(text: &str) -> Self {
        let mut line = Line::default();
        line.push(PLAIN, text);
        line
    }

    fn push(&mut self, style: Style, text: &str) {
        self.columns += text.chars().count();
        match style.is_plain() || text.trim().is_empty() {
            true => self.styled += text,
            false => self.styled += &format!("{style}{text}{style:#}"),
        }
    }

    fn push_line(&mut self, line: &Line) {
        self.styled += &line.styled;
        self.columns += line.columns;
    }

    fn pad(&mut self, columns: usize) {
        let missing = columns.saturating_sub(self.columns);
        self.push(PLAIN, &" ".repeat(missing));
    }

    /// Puts two lines side by side, the second from column `at` on.
    pub(super) fn beside(left: &Line, right: &Line, at: usize) -> Line {
        let mut line = left.clone();
        if right.columns > 0 {
            line.pad(at);
            line.push_line(right);
        }
        line
    }
}

/// A column of lines.
pub(super) struct Page {
    pub(super) width: usize,
    pub(super) lines: Vec<Line>,
}

impl Page {
    pub(super) fn new(width: usize) -> Self {
        Page {
            width: width.max(WIDTH_MIN),
            lines: Vec::new(),
        }
    }

    pub(super) fn gap(&mut self) {
        if !self.lines.is_empty() {
            self.lines.push(Line::default());
        }
    }

    fn wrapped(&mut self, style: Style, first: &str, rest: &str, text: &str) {
        let lines = wrap(&printable(text), self.width, first, rest);
        self.lines.extend(lines.iter().map(|text| {
            let mut line = Line::default();
            line.push(style, text);
            line
        }));
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.wrapped(PLAIN, "", "", text);
    }

    pub(super) fn item(&mut self, text: &str) {
        self.wrapped(PLAIN, " · ", "   ", text);
    }

    /// A name and its explanation.
    fn entry(&mut self, name: &str, columns: usize, text: &str) {
        let first = format!("  {name:<columns$}");
        let rest = " ".repeat(columns + 2);
        let lines = wrap(&printable(text), self.width, &first, &rest);
        self.lines.extend(lines.iter().map(|text| {
            let mut line = Line::default();
            line.push(DIM, text);
            line
        }));
    }

    pub(super) fn rule(&mut self, heading: &str) {
        self.lines.extend(rule(heading, self.width));
    }

    pub(super) fn heading(&mut self, heading: &Heading) {
        self.wrapped(BOLD, "", "", &heading.title);
        for line in std::iter::once(&heading.target).chain(&heading.lines) {
            if !line.is_empty() {
                self.wrapped(PLAIN, "", "  ", line);
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            out += &line.styled;
            out.push('\n');
        }
        out
    }
}

/// A heading followed by a rule that fills the width.
fn rule(heading: &str, width: usize) -> Vec<Line> {
    let texts = wrap(&printable(heading), width, "── ", "   ");
    let mut lines: Vec<Line> = (texts.iter())
        .map(|text| {
            let mut line = Line::default();
            line.push(BOLD, text);
            line
        })
        .collect();
    if let Some(last) = lines.last_mut() {
        let left = width.saturating_sub(last.columns + 1);
        if left > 0 {
            last.push(DIM, &format!(" {}", "─".repeat(left)));
        }
    }
    lines
}

/// The heading of a connection: `Connection 1 of 2: client 127.0.0.1:40000, server 127.0.0.1:8000`.
pub(super) fn name(connection: &Connection, index: usize, connections: usize) -> String {
    let ends = connection.endpoints;
    let ends = format!("client {}, server {}", ends.client, ends.server);
    match connections {
        1 => format!("The connection: {ends}"),
        _ => format!("Connection {} of {connections}: {ends}", index + 1),
    }
}

/// Explains the columns and the sources of lines, as far as they occur.
fn legend(page: &mut Page, layout: &Layout, story: &Story) {
    const COLUMNS: usize = 9;
    let has = |what: fn(&Happening) -> bool| words::events(story).any(|event| what(&event.what));
    page.gap();
    let mut entry = |name: &str, text: &str| page.entry(name, COLUMNS, text);
    entry("time_us", "microseconds since the first event");
    if has(|it| matches!(it, Happening::Call(_))) {
        let text = "system calls: the request, the kernel's answer, and the time in between; `...` if something \
         else happens during the call";
        entry("name()", text);
    }
    if has(|it| matches!(it, Happening::Segment(_))) {
        let mut text = "a segment on the interface, in tcpdump's notation: sequence numbers are relative to each \
         side's first, except in a SYN"
            .to_owned();
        text += "; below it, the IP packet that carries it";
        if !layout.all_options {
            text += &format!(
                " (shown for all segments, like their timestamps, from {WIDTH_OF_ALL_OPTIONS} columns on)"
            );
        }
        entry(
            if layout.is_narrow {
                "C ─► S"
            } else {
                "──►"
            },
            &text,
        );
    }
    if has(|it| matches!(it, Happening::State(_))) {
        let is = |origin: Origin| {
            words::events(story)
                .any(|event| matches!(&event.what, Happening::State(it) if it.origin == origin))
        };
        let text = match (is(Origin::Kernel), is(Origin::Derived)) {
            (true, true) => {
                "a change of state, reported by the kernel; `derived` if it follows from the segments \
                 (RFC 9293)"
            }
            (true, false) => "a change of state, reported by the kernel",
            (false, _) => "a change of state, derived from the segments (RFC 9293)",
        };
        let likely = match is(Origin::Likely) {
            true => "; `likely` if the segments that would prove it were not captured",
            false => "",
        };
        entry("A → B", &format!("{text}{likely}"));
    }
    if has(|it| matches!(it, Happening::Sockets(_))) {
        entry(
            "sockets",
            "the kernel's list of sockets, as ss and lsof -i show it",
        );
    }
    if words::events(story).any(|event| event.why.is_some()) {
        entry("·", "the reason for a line, or its meaning");
    }
}

/// Whether the only options are timestamps, which every segment has and which add little to the
/// line's own time.
fn has_only_timestamps(event: &Event) -> bool {
    let Happening::Segment(segment) = &event.what else {
        return false;
    };
    let packet = &segment.packet;
    let is_timestamp = |it: &TcpOption| matches!(it, TcpOption::Nop | TcpOption::Timestamps { .. });
    !packet.flags.syn && !packet.options.is_empty() && packet.options.iter().all(is_timestamp)
}

/// The states of both ends, and how long each lasted.
fn states(page: &mut Page, connection: &Connection) {
    let held = held(connection);
    if held.is_empty() {
        return;
    }
    page.gap();
    page.rule("States and their durations");
    let mut header = Line::default();
    header.push(
        DIM,
        &format!("   {:<7} {:<13} {:>12} {:>12}", "", "", "from_us", "for"),
    );
    page.lines.push(header);
    let mut before = None;
    for it in &held {
        let side = match before == Some(it.side) {
            true => "",
            false => it.side.name(),
        };
        before = Some(it.side);
        let lasted = it.for_ns.map_or("to the end".to_owned(), duration);
        let known = match it.origin {
            Origin::Kernel => "",
            Origin::Derived => "  derived",
            Origin::Likely => "  likely",
        };
        let mut line = Line::default();
        line.push(colour(it.side), &format!("   {side:<7} "));
        line.push(
            PLAIN,
            &format!(
                "{:<13} {:>12} {lasted:>12}",
                it.state.name(),
                us(it.from_ns)
            ),
        );
        line.push(DIM, known);
        page.lines.push(line);
    }
}

fn colour(side: Side) -> Style {
    match side {
        Side::Client => AnsiColor::Cyan.on_default(),
        Side::Server => AnsiColor::Magenta.on_default(),
    }
}

fn colour_of(kind: Kind) -> Style {
    match kind {
        Kind::Reset => AnsiColor::Red.on_default().bold(),
        Kind::Syn => AnsiColor::Green.on_default(),
        Kind::Fin => AnsiColor::Yellow.on_default(),
        Kind::Data => AnsiColor::Blue.on_default().bold(),
        Kind::Ack => PLAIN,
    }
}

/// The positions of the timeline's columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    width: usize,
    /// Width of the longest time.
    time_columns: usize,
    /// Sides are abbreviated to letters.
    is_narrow: bool,
    all_options: bool,
    /// A side has several threads, so calls show their thread.
    threads: bool,
}

impl Layout {
    pub(super) fn of(story: &Story, width: usize) -> Self {
        let mut threads: Vec<(Side, u32)> = words::events(story)
            .filter_map(|event| match &event.what {
                Happening::Call(CallLine { side, tid, .. }) => Some((*side, *tid)),
                _ => None,
            })
            .collect();
        threads.sort();
        threads.dedup();
        Layout {
            width,
            time_columns: us(words::end_ns(story)).len().max("time_us".len()),
            is_narrow: width < 72,
            all_options: width >= WIDTH_OF_ALL_OPTIONS,
            threads: threads.windows(2).any(|pair| pair[0].0 == pair[1].0),
        }
    }

    /// A phase: heading, explanation and events.
    pub(super) fn phase(&self, phase: &Phase) -> Vec<Line> {
        let mut page = Page::new(self.width);
        page.rule(&phase.heading);
        if !phase.explanation.is_empty() {
            page.wrapped(PLAIN, "   ", "   ", &phase.explanation);
        }
        if !phase.events.is_empty() {
            page.lines.push(self.header());
        }
        page.lines.extend(self.events(&phase.events));
        page.lines
    }

    pub(super) fn events(&self, events: &[Event]) -> Vec<Line> {
        events.iter().flat_map(|it| self.event(it)).collect()
    }

    fn header(&self) -> Line {
        let mut line = Line::default();
        let sides = match self.is_narrow {
            true => "C    S",
            false => "client     server",
        };
        let time = "time_us";
        let width = self.time_columns;
        line.push(DIM, &format!("{time:>width$}  {sides}"));
        line
    }

    fn lane(&self, who: Who) -> &'static str {
        match (who, self.is_narrow) {
            (Who::Calls(Side::Client), false) => "client           ",
            (Who::Calls(Side::Server), false) => "           server",
            (Who::Sends(Side::Client), false) => "client ──► server",
            (Who::Sends(Side::Server), false) => "client ◄── server",
            (Who::Nobody, false) => "                 ",
            (Who::Time, false) => "   ┊         ┊   ",
            (Who::Calls(Side::Client), true) => "C     ",
            (Who::Calls(Side::Server), true) => "     S",
            (Who::Sends(Side::Client), true) => "C ─► S",
            (Who::Sends(Side::Server), true) => "C ◄─ S",
            (Who::Nobody, true) => "      ",
            (Who::Time, true) => "┊    ┊",
        }
    }

    fn event(&self, event: &Event) -> Vec<Line> {
        let mut start = Line::default();
        let width = self.time_columns;
        start.push(DIM, &format!("{:>width$}  ", us(event.at_ns)));
        let (who, lane_style, content, style) = match &event.what {
            Happening::Segment(it) => {
                let style = colour_of(Kind::of(it));
                (Who::Sends(it.from), style, self.segment(it), style)
            }
            Happening::State(it) => {
                let side = colour(it.side);
                let text = [words::change(it)].to_vec();
                (Who::Calls(it.side), side, text, BOLD)
            }
            Happening::Call(it) => (
                Who::Calls(it.side),
                colour(it.side),
                [self.call(it)].to_vec(),
                PLAIN,
            ),
            Happening::Sockets(it) => {
                let text = format!("sockets, {}:", it.moment);
                (Who::Nobody, DIM, [text].to_vec(), BOLD)
            }
            Happening::Info(it) => (
                Who::Calls(Side::Client),
                DIM,
                [format!("TCP_INFO: {}", words::info(it))].to_vec(),
                DIM,
            ),
            Happening::Icmp(it) => (Who::Nobody, DIM, [words::icmp(it)].to_vec(), BOLD),
            Happening::Moment(it) => {
                let side = Side::Client;
                (Who::Calls(side), colour(side), [it.clone()].to_vec(), PLAIN)
            }
            Happening::Silence(ns) => {
                let text = format!("{} pass without an event", duration(*ns));
                (Who::Time, DIM, [text].to_vec(), DIM)
            }
        };
        start.push(lane_style, self.lane(who));
        start.push(PLAIN, "  ");
        let at = start.columns;
        let mut content: Vec<(String, Style)> = (content.iter().enumerate())
            .flat_map(|(index, part)| {
                let first = if index == 0 { "" } else { "  " };
                let lines = wrap(printable(part).trim_end(), self.width - at, first, "  ");
                lines.into_iter().map(|line| (line, style))
            })
            .collect();
        if let Happening::Segment(it) = &event.what
            && (self.all_options || it.packet.flags.syn || it.http.is_some())
        {
            let lines = wrap(
                &words::layers_below(&it.packet),
                self.width - at,
                "  ",
                "  ",
            );
            content.extend(lines.into_iter().map(|line| (line, DIM)));
        }
        let mut behind = None;
        if let Some(why) = &event.why {
            let why = format!("· {}", printable(why));
            let last = content.last().map_or(0, |(text, _)| text.chars().count());
            match at + last + 2 + why.chars().count() <= self.width {
                true => behind = Some(why),
                false => {
                    let lines = wrap(&why, self.width - at, "", "  ");
                    content.extend(lines.into_iter().map(|line| (line, DIM)));
                }
            }
        }
        let mut lines = Vec::new();
        let mut line = start;
        for (text, style) in content {
            line.push(style, &text);
            lines.push(std::mem::take(&mut line));
            line.pad(at);
        }
        if let (Some(why), Some(last)) = (behind, lines.last_mut()) {
            last.push(DIM, &format!("  {why}"));
        }
        if let Happening::Sockets(snapshot) = &event.what {
            const INDENT: usize = 4;
            let table = sockets::text(&snapshot.sockets, self.width - INDENT);
            lines.extend(table.iter().enumerate().map(|(index, text)| {
                let mut line = Line::plain(&" ".repeat(INDENT));
                line.push(if index == 0 { DIM } else { PLAIN }, text);
                line
            }));
        }
        lines
    }

    fn call(&self, call: &CallLine) -> String {
        let thread = match self.threads {
            true => format!("[{}] ", call.tid),
            false => String::new(),
        };
        thread + &words::call(call)
    }

    /// A segment in parts; each begins a line if the whole does not fit on one.
    fn segment(&self, segment: &Segment) -> Vec<String> {
        let mut shown = segment.clone();
        let only_timestamps = has_only_timestamps(&Event {
            at_ns: 0,
            what: Happening::Segment(segment.clone()),
            why: None,
        });
        if only_timestamps && !self.all_options {
            shown.packet.options.clear();
        }
        let mut line = words::segment(&shown);
        line += &words::remarks(segment);
        let at = self.time_columns + self.lane(Who::Nobody).len() + 4;
        if at + line.chars().count() <= self.width {
            return vec![line];
        }
        let room = self.width - at;
        // A line of HTTP starts a new line; so do options if everything before them fits on one.
        let (fields, http) = match line.find("HTTP: ") {
            Some(at) => line.split_at(at),
            None => (line.as_str(), ""),
        };
        let (head, options) = match fields.find("options [") {
            Some(at) if fields[..at].trim_end().chars().count() <= room => fields.split_at(at),
            _ => (fields, ""),
        };
        let mut parts = at_commas(head, room);
        parts.extend(at_commas(options, room - 2));
        parts.extend((!http.is_empty()).then(|| http.to_owned()));
        parts
    }
}

/// Breaks a text after commas only, as long as the parts fit. Continuation lines are narrower by
/// their indent of two.
fn at_commas(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for field in text.split_inclusive(',') {
        let room = if lines.len() > 1 { width - 2 } else { width };
        match lines.last_mut() {
            Some(line) if line.chars().count() + field.trim_end().chars().count() <= room => {
                line.push_str(field);
            }
            _ => lines.push(field.trim_start().to_owned()),
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// The acting side of an event.
#[derive(Debug, Clone, Copy)]
enum Who {
    Calls(Side),
    Sends(Side),
    Nobody,
    Time,
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::super::fixture;
    use super::*;

    fn plain(story: &Story, width: usize) -> String {
        strip_str(&timeline(story, &fixture::heading(), width)).to_string()
    }

    #[test]
    fn as_wide_as_asked() {
        for (name, story) in fixture::all() {
            for width in 60..=140 {
                for line in plain(&story, width).lines() {
                    let columns = line.chars().count();
                    assert!(columns <= width, "{name} at {width}: {columns}\n{line}");
                }
            }
        }
    }

    #[test]
    fn of_80_columns() {
        for (name, story) in fixture::all() {
            insta::assert_snapshot!(format!("{name}-80"), plain(&story, 80));
        }
    }

    #[test]
    fn of_other_widths() {
        for width in [60, 120] {
            insta::assert_snapshot!(format!("normal-{width}"), plain(&fixture::normal(), width));
        }
    }

    #[test]
    fn ascii_alone() {
        for (name, story) in fixture::all() {
            let text = plain(&story, 80);
            let ascii = ascii(&text);
            assert!(ascii.is_ascii() && !ascii.contains('?'), "{name}: {ascii}");
            assert_eq!(ascii.len(), text.chars().count());
        }
    }

    /// The output contains only escape sequences that this program writes.
    #[test]
    fn nothing_captured_steers_the_terminal() {
        let text = plain(&fixture::unprivileged(), 80);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        assert!(text.contains("\\u{1b}[2J"), "{text}");
    }
}
