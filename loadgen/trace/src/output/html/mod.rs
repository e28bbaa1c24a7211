//! A sequence diagram as a page: a single file that opens without a network.
//!
//! Client and server are two lifelines, with coloured bands for their states and arrows between
//! them for segments; the programs' actions are on the outside. Each event is a row. The height of
//! a row has no meaning: times differ by orders of magnitude, so they are written beside the rows.
//! Rows are text, so they can be searched, copied, read aloud and wrapped on a phone. A row opens
//! to show everything known about its event.

#[cfg(test)]
mod contrast;

use askama::Template;

use super::compare::{self, Row as CompareRow};
use super::words::{self, Kind, duration, printable, us};
use super::{Heading, sockets, states};
use crate::model::{Side, State};
use crate::story::{
    CallLine, Connection, Event, Happening, Origin, Phase, Segment, StateChange, Story, labels,
};
use engine::figures::count;

/// The page as HTML.
pub fn page(story: &Story, heading: &Heading) -> String {
    rendered(heading, vec![Diagram::of(story, "", "")], None)
}

/// Two stories side by side, below their differences.
pub fn pair(a: (&str, &Story), b: (&str, &Story), heading: &Heading) -> String {
    let diagrams = vec![Diagram::of(a.1, a.0, "a-"), Diagram::of(b.1, b.0, "b-")];
    let comparison = Comparison {
        a: a.0.to_owned(),
        b: b.0.to_owned(),
        sentences: (compare::differences(a, b).into_iter())
            .map(|it| it.sentence)
            .collect(),
        rows: compare::rows(a.1, b.1),
    };
    rendered(heading, diagrams, Some(comparison))
}

fn rendered(heading: &Heading, diagrams: Vec<Diagram>, comparison: Option<Comparison>) -> String {
    let rows: Vec<&Row> = diagrams.iter().flat_map(Diagram::rows).collect();
    let arrows = || rows.iter().filter_map(|it| it.arrow.as_ref());
    let states = rows
        .iter()
        .flat_map(|it| [it.client_state, it.server_state]);
    let mut states: Vec<State> = states.flatten().collect();
    states.sort_by_key(|it| PATH.iter().position(|state| state == it));
    states.dedup();
    let mut kinds: Vec<Kind> = arrows().map(|it| it.kind).collect();
    kinds.sort();
    kinds.dedup();
    let is_shown = |kind: &str| rows.iter().any(|it| it.kind.filter() == kind);
    let page = Page {
        heading,
        comparison,
        has_whys: rows.iter().any(|it| !it.why.is_empty()),
        has_retransmissions: arrows().any(|it| it.is_again),
        filters: (FILTERS.into_iter())
            .filter(|(kind, _)| is_shown(kind))
            .collect(),
        arrows: kinds,
        states,
        diagrams: &diagrams,
        css: concat!(
            include_str!("../../../../page.css"),
            include_str!("trace.css")
        ),
        js: include_str!("trace.js"),
    };
    page.render()
        .expect("the template is filled by this type alone")
}

/// Kinds of rows that can be hidden, with their names.
const FILTERS: [(&str, &str); 4] = [
    ("call", "Calls"),
    ("state", "States"),
    ("segment", "Packets"),
    ("sockets", "Sockets"),
];

/// States in the order in which a connection goes through them.
const PATH: [State; 10] = [
    State::Listen,
    State::SynSent,
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::LastAck,
    State::Closing,
    State::TimeWait,
];

#[derive(Template)]
#[template(path = "trace.html")]
struct Page<'a> {
    heading: &'a Heading,
    comparison: Option<Comparison>,
    diagrams: &'a [Diagram],
    filters: Vec<(&'static str, &'static str)>,
    has_whys: bool,
    has_retransmissions: bool,
    /// The kinds of arrows that occur, for the legend.
    arrows: Vec<Kind>,
    states: Vec<State>,
    css: &'static str,
    js: &'static str,
}

impl Page<'_> {
    /// The CSS class of a band.
    fn band(&self, state: Option<&State>) -> String {
        match state {
            None => "none".to_owned(),
            Some(state) => state.name().to_ascii_lowercase(),
        }
    }
}

/// The differences between two stories.
struct Comparison {
    a: String,
    b: String,
    sentences: Vec<String>,
    rows: Vec<CompareRow>,
}

/// One story as a diagram.
struct Diagram {
    /// Name of the server, if there are two diagrams.
    name: String,
    sections: Vec<Section>,
    notes: Vec<String>,
}

/// A part with its own lifelines: a connection, the events before the first, or events that belong
/// to none.
struct Section {
    id: String,
    heading: String,
    client: String,
    server: String,
    phases: Vec<PhaseBand>,
    ending: String,
    held: Vec<HeldRow>,
}

struct PhaseBand {
    heading: String,
    explanation: String,
    /// The states in which it begins, where known.
    begins: Vec<(&'static str, State)>,
    rows: Vec<Row>,
}

/// A row of the table of states.
struct HeldRow {
    side: &'static str,
    state: State,
    from: String,
    lasted: String,
    known: &'static str,
}

/// The kind of an event, which determines its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowKind {
    Segment,
    State,
    Call,
    Moment,
    Info,
    Sockets,
    Silence,
}

impl RowKind {
    fn class(self) -> &'static str {
        match self {
            RowKind::Segment => "segment",
            RowKind::State => "state",
            RowKind::Call => "call",
            RowKind::Moment => "moment",
            RowKind::Info => "info",
            RowKind::Sockets => "sockets",
            RowKind::Silence => "silence",
        }
    }

    /// The filter that hides this kind.
    fn filter(self) -> &'static str {
        match self {
            RowKind::Moment => "call",
            RowKind::Info => "sockets",
            other => other.class(),
        }
    }
}

/// One event.
struct Row {
    id: String,
    time: String,
    /// The time without an event before this one, if long.
    gap: Option<String>,
    kind: RowKind,
    /// The column: `client`, `server`, or `both`.
    place: &'static str,
    /// The state of each band after the event; `None` if unknown or `CLOSED`.
    client_state: Option<State>,
    server_state: Option<State>,
    /// The main text.
    label: String,
    /// Figures below the label.
    figures: String,
    /// The first line of an HTTP message.
    http: String,
    is_derived: bool,
    why: String,
    /// The tooltip.
    hint: String,
    arrow: Option<Arrow>,
    /// Everything known about the event.
    facts: Vec<(&'static str, String)>,
    sockets: Vec<sockets::Row>,
}

struct Arrow {
    kind: Kind,
    from: Side,
    is_again: bool,
}

/// Pauses from this many ns on are marked.
const GAP_NS: u64 = 1_000_000;

impl Diagram {
    fn of(story: &Story, name: &str, prefix: &str) -> Self {
        let mut numbers = 1..;
        let mut id = || format!("{prefix}e{}", numbers.next().unwrap_or(0));
        let mut sections = Vec::new();
        let section = |heading: String, (client, server): (String, String)| Section {
            id: String::new(),
            heading,
            client,
            server,
            phases: Vec::new(),
            ending: String::new(),
            held: Vec::new(),
        };
        let nobody = || ("client".to_owned(), "server".to_owned());
        if !story.prologue.is_empty() {
            let mut before = section("Before the first connection".to_owned(), nobody());
            before.phases = bands(&story.prologue, Lifelines::default(), &mut id);
            sections.push(before);
        }
        let connections = story.connections.len();
        for (index, connection) in story.connections.iter().enumerate() {
            let heading = match connections {
                1 => "The connection".to_owned(),
                _ => format!("Connection {} of {connections}", index + 1),
            };
            let ends = connection.endpoints;
            let ends = (
                format!("client {}", ends.client),
                format!("server {}", ends.server),
            );
            let mut it = section(heading, ends);
            it.phases = bands(&connection.phases, Lifelines::of(connection), &mut id);
            it.ending = printable(&connection.ending.explanation);
            it.held = held_rows(connection);
            sections.push(it);
        }
        if !story.others.is_empty() {
            let mut beside = section("Outside the connections".to_owned(), nobody());
            let phase = Phase {
                kind: crate::story::PhaseKind::Aftermath,
                heading: "Events that belong to no connection".to_owned(),
                explanation: String::new(),
                events: story.others.clone(),
            };
            beside.phases = bands(&[phase], Lifelines::default(), &mut id);
            sections.push(beside);
        }
        for (index, section) in sections.iter_mut().enumerate() {
            section.id = format!("{prefix}part-{}", index + 1);
        }
        Diagram {
            name: name.to_owned(),
            sections,
            notes: story.notes.iter().map(|note| printable(note)).collect(),
        }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        let phases = self.sections.iter().flat_map(|it| &it.phases);
        phases.flat_map(|it| &it.rows)
    }
}

fn held_rows(connection: &Connection) -> Vec<HeldRow> {
    let row = |it: &states::Held| HeldRow {
        side: it.side.name(),
        state: it.state,
        from: us(it.from_ns),
        lasted: it.for_ns.map_or("to the end".to_owned(), duration),
        known: match it.origin {
            Origin::Kernel => "reported by the kernel",
            Origin::Derived => "derived from the segments",
            Origin::Likely => "likely, judging by the captured segments",
        },
    };
    states::held(connection).iter().map(row).collect()
}

/// The states of both ends while the events are written.
#[derive(Debug, Clone, Copy, Default)]
struct Lifelines {
    client: Option<State>,
    server: Option<State>,
}

impl Lifelines {
    /// The states before the first event.
    fn of(connection: &Connection) -> Self {
        let first = |side: Side| {
            let change = connection.states.iter().find(|it| it.side == side);
            change.map(|it| it.old).filter(|it| *it != State::Closed)
        };
        Lifelines {
            client: first(Side::Client),
            server: first(Side::Server),
        }
    }

    fn apply(&mut self, change: &StateChange) {
        let state = Some(change.new).filter(|it| *it != State::Closed);
        match change.side {
            Side::Client => self.client = state,
            Side::Server => self.server = state,
        }
    }
}

fn bands(
    phases: &[Phase],
    mut lifelines: Lifelines,
    id: &mut impl FnMut() -> String,
) -> Vec<PhaseBand> {
    let mut before_ns: Option<u64> = None;
    let mut bands = Vec::new();
    for phase in phases {
        let begins = [("client", lifelines.client), ("server", lifelines.server)];
        let begins = begins
            .into_iter()
            .filter_map(|(side, state)| Some((side, state?)));
        let begins = begins.collect();
        let mut rows = Vec::new();
        for event in &phase.events {
            if let Happening::State(change) = &event.what {
                lifelines.apply(change);
            }
            let mut row = Row::of(event, id(), lifelines);
            let gap_ns = before_ns.map_or(0, |before| event.at_ns.saturating_sub(before));
            row.gap = (gap_ns >= GAP_NS).then(|| duration(gap_ns));
            before_ns = Some(match event.what {
                Happening::Silence(ns) => event.at_ns + ns,
                _ => event.at_ns,
            });
            rows.push(row);
        }
        bands.push(PhaseBand {
            heading: printable(&phase.heading),
            explanation: printable(&phase.explanation),
            begins,
            rows,
        });
    }
    bands
}

impl Row {
    fn of(event: &Event, id: String, lifelines: Lifelines) -> Self {
        let mut row = Row {
            id,
            time: us(event.at_ns),
            gap: None,
            kind: RowKind::Moment,
            place: "client",
            client_state: lifelines.client,
            server_state: lifelines.server,
            label: String::new(),
            figures: String::new(),
            http: String::new(),
            is_derived: false,
            why: event.why.clone().unwrap_or_default(),
            hint: String::new(),
            arrow: None,
            facts: vec![(
                "time",
                format!("{} µs since the first event", us(event.at_ns)),
            )],
            sockets: Vec::new(),
        };
        match &event.what {
            Happening::Segment(it) => row.segment(it),
            Happening::State(it) => row.state(it),
            Happening::Call(it) => row.call(it),
            Happening::Sockets(it) => {
                row.kind = RowKind::Sockets;
                row.place = "both";
                row.label = format!("Sockets, {}", it.moment);
                row.figures = populations(it.sockets.iter().map(|it| it.state));
                row.sockets = it.sockets.iter().map(sockets::Row::of).collect();
            }
            Happening::Info(it) => {
                row.kind = RowKind::Info;
                row.label = "TCP_INFO".to_owned();
                row.figures = words::info(it);
                for (name, text) in [
                    ("rtt", "smoothed round-trip time"),
                    (
                        "rto",
                        "retransmission timeout: bytes not acknowledged by then are sent again",
                    ),
                    ("cwnd", "congestion window: segments that may be in flight"),
                    ("mss", "the largest segment that is sent, in bytes"),
                ] {
                    row.facts.push((name, text.to_owned()));
                }
            }
            Happening::Icmp(it) => {
                row.kind = RowKind::Segment;
                row.place = "both";
                row.label = words::icmp(it);
            }
            Happening::Moment(it) => row.label = printable(it),
            Happening::Silence(ns) => {
                row.kind = RowKind::Silence;
                row.place = "both";
                row.label = format!("{} pass without an event", duration(*ns));
            }
        }
        row
    }

    fn segment(&mut self, segment: &Segment) {
        let packet = &segment.packet;
        self.kind = RowKind::Segment;
        self.place = "both";
        let kind = Kind::of(segment);
        let flags = words::flags(packet.flags);
        let bytes = count(packet.payload_bytes.into(), "byte");
        let mut figures = Vec::new();
        self.label = match (kind, packet.payload_bytes) {
            (Kind::Data, _) => {
                figures.push(flags);
                bytes
            }
            (_, 0) => flags,
            _ => format!("{flags}, {bytes}"),
        };
        let labels = labels(&segment.remarks);
        if !labels.is_empty() {
            self.label += &format!(", {labels}");
        }
        let (first, next) = segment.sequence;
        match packet.payload_bytes {
            0 if packet.flags.syn || packet.flags.fin || packet.flags.rst => {
                figures.push(format!("seq {first}"));
            }
            0 => {}
            _ => figures.push(format!("seq {first}:{next}")),
        }
        figures.extend(segment.acknowledgement.map(|it| format!("ack {it}")));
        figures.push(format!("win {}", packet.window));
        self.figures = figures.join(", ");
        self.http = segment.http.as_deref().map(printable).unwrap_or_default();
        self.arrow = Some(Arrow {
            kind,
            from: segment.from,
            is_again: segment.retransmission,
        });
        let mut fact = |name: &'static str, text: String| self.facts.push((name, text));
        fact("from", format!("{} {}", segment.from.name(), packet.source));
        fact("to", packet.destination.to_string());
        if let Some(interface) = &packet.interface {
            fact("interface", interface.clone());
        }
        fact(
            "IP packet",
            format!(
                "{}, hop limit {}",
                count(packet.ip_bytes.into(), "byte"),
                packet.hops
            ),
        );
        fact("flags", words::flags(packet.flags));
        fact("sequence", format!("{} on the wire", packet.sequence));
        if packet.flags.ack {
            fact(
                "acknowledges",
                format!("{} on the wire", packet.acknowledgement),
            );
        }
        fact(
            "window",
            format!(
                "{}, scaled: {}",
                packet.window,
                count(segment.window_bytes.into(), "byte")
            ),
        );
        fact("payload", count(packet.payload_bytes.into(), "byte"));
        if !packet.options.is_empty() {
            fact("options", words::offers(&packet.options));
        }
        if let Some(http) = &segment.http {
            fact("HTTP", printable(http));
        }
        self.hint = printable(&words::segment(segment));
        self.facts.push(("tcpdump", self.hint.clone()));
    }

    fn state(&mut self, change: &StateChange) {
        self.kind = RowKind::State;
        self.place = change.side.name();
        self.label = format!("{} → {}", change.old, change.new);
        self.is_derived = change.origin != Origin::Kernel;
        let known = match change.origin {
            Origin::Kernel => "reported by the kernel (sock:inet_sock_set_state)",
            Origin::Derived => "derived from the segments (RFC 9293, section 3.10)",
            Origin::Likely => "likely, judging by the captured segments; others were not captured",
        };
        self.facts.push(("side", self.place.to_owned()));
        self.facts.push(("source", known.to_owned()));
    }

    fn call(&mut self, call: &CallLine) {
        self.kind = RowKind::Call;
        self.place = call.side.name();
        self.label = printable(&words::call(call));
        let mut fact = |name: &'static str, text: String| self.facts.push((name, text));
        fact("side", format!("{}, thread {}", call.side.name(), call.tid));
        fact("call", call.name.to_owned());
        if !call.arguments.is_empty() {
            fact("arguments", printable(&call.arguments));
        }
        if let Some(result) = &call.result {
            fact("result", printable(result));
        }
        if let Some(took_ns) = call.took_ns {
            fact("took", duration(took_ns));
        }
        if let Some(peer) = call.peer {
            fact("peer", peer.to_string());
        }
    }

    /// The acting side in words, for readers who do not see the layout.
    fn who(&self) -> String {
        match &self.arrow {
            Some(arrow) if arrow.from == Side::Client => "client to server".to_owned(),
            Some(_) => "server to client".to_owned(),
            None if self.place == "both" => String::new(),
            None => self.place.to_owned(),
        }
    }
}

/// The number of sockets in each state: `1 LISTEN, 2 ESTABLISHED`.
fn populations(states: impl Iterator<Item = State>) -> String {
    let mut counts: Vec<(State, usize)> = Vec::new();
    for state in states {
        match counts.iter_mut().find(|(it, _)| *it == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    match counts.is_empty() {
        true => "none".to_owned(),
        false => {
            let counts = counts
                .iter()
                .map(|(state, count)| format!("{count} {state}"));
            counts.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn what_was_captured_is_no_markup() {
        let html = page(&fixture::unprivileged(), &fixture::heading());
        assert!(!html.contains("<script>alert"), "a script came through");
        assert_eq!(html.matches("&#60;script&#62;alert(1)").count(), 1);
        // Once in the diagram and once in the table.
        assert_eq!(html.matches("&#60;script&#62;alert(2)").count(), 2);
        assert!(html.chars().all(|c| c == '\n' || !c.is_control()));
    }

    #[test]
    fn what_steers_text_is_escaped_wherever_it_stands() {
        let steering = ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}'];
        let hostile: String = steering.iter().collect();
        let mut story = fixture::normal();
        story.notes.push(hostile.clone());
        for connection in &mut story.connections {
            connection.ending.explanation += &hostile;
            for phase in &mut connection.phases {
                phase.explanation += &hostile;
                for event in &mut phase.events {
                    if let Happening::Segment(segment) = &mut event.what {
                        segment.http = Some(format!("GET /{hostile} HTTP/1.1"));
                    }
                }
            }
        }
        let html = page(&story, &fixture::heading());
        let diagram = super::super::mermaid::diagram(&story);
        for text in [&html, &diagram] {
            assert!(!text.contains(steering));
            assert!(text.contains("u{202e}"));
        }
    }

    #[test]
    fn every_event_has_an_anchor_of_its_own() {
        for (name, story) in fixture::all() {
            let html = page(&story, &fixture::heading());
            let events = words::events(&story).count();
            for number in 1..=events {
                let anchor = format!("id=\"e{number}\"");
                assert_eq!(html.matches(&anchor).count(), 1, "{name}: {anchor}");
            }
        }
    }

    #[test]
    fn bands_follow_the_states() {
        let diagram = Diagram::of(&fixture::normal(), "", "");
        let states = |of: fn(&Row) -> Option<State>| {
            let mut states: Vec<Option<State>> = diagram.sections[1]
                .phases
                .iter()
                .flat_map(|it| it.rows.iter().map(of))
                .collect();
            states.dedup();
            states
        };
        assert_eq!(
            states(|it| it.client_state),
            [
                None,
                Some(State::SynSent),
                Some(State::Established),
                Some(State::CloseWait),
                Some(State::LastAck),
                None
            ]
        );
        assert_eq!(
            states(|it| it.server_state),
            [
                Some(State::Listen),
                Some(State::SynReceived),
                Some(State::Established),
                Some(State::FinWait1),
                Some(State::FinWait2),
                Some(State::TimeWait),
                None
            ]
        );
    }

    #[test]
    fn long_gaps_are_marked() {
        let html = page(&fixture::kept_alive(), &fixture::heading());
        assert_eq!(html.matches("class=\"gap\"").count(), 1);
        assert!(html.contains("204 ms"));
    }
}
