//! Two servers side by side: how segments, calls and states differ for the same request.

use std::collections::BTreeMap;

use super::states::holders_of_time_wait;
use super::text::{Layout, Line, Page};
use super::words::{self, duration, printable};
use crate::model::{Side, State};
use crate::story::{Connection, EndingKind, Happening, Part, Phase, Segment, StateChange, Story};
use engine::figures::count;
use engine::figures::listed;
use engine::foreign::in_markdown as escaped;

/// What is compared, in the order of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// How the connection ended.
    Ending,
    /// The number of segments of the response.
    ResponseSegments,
    /// How the server acknowledges the request: with a separate segment or not.
    RequestAcknowledged,
    /// The side that closes first.
    ClosesFirst,
    /// The side that holds `TIME-WAIT`.
    TimeWait,
    /// The server's calls, by name.
    ServerCalls,
    /// Number of segments from the client.
    ClientSegments,
    /// Number of segments from the server.
    ServerSegments,
    /// Payload bytes from the client.
    ClientBytes,
    /// Payload bytes from the server.
    ServerBytes,
    /// Retransmitted segments of both sides.
    Retransmissions,
    /// The options that the server offers in its SYN+ACK.
    SynAckOptions,
    /// States that the client goes through.
    ClientStates,
    /// States that the server goes through.
    ServerStates,
    /// Time from the SYN to the client's ACK.
    ConnectTime,
    /// Time from the request to the first byte of the response.
    FirstByteTime,
    /// Time from the first FIN to the last segment.
    CloseTime,
}

impl Topic {
    /// The title of a table row.
    pub fn title(self) -> &'static str {
        match self {
            Topic::Ending => "ending",
            Topic::ResponseSegments => "response came in",
            Topic::RequestAcknowledged => "request acknowledged",
            Topic::ClosesFirst => "closes first",
            Topic::TimeWait => "holds TIME-WAIT",
            Topic::ServerCalls => "server calls",
            Topic::ClientSegments => "client segments",
            Topic::ServerSegments => "server segments",
            Topic::ClientBytes => "client payload",
            Topic::ServerBytes => "server payload",
            Topic::Retransmissions => "retransmissions",
            Topic::SynAckOptions => "SYN+ACK offers",
            Topic::ClientStates => "client states",
            Topic::ServerStates => "server states",
            Topic::ConnectTime => "time to connect",
            Topic::FirstByteTime => "time to the first byte",
            Topic::CloseTime => "time to close",
        }
    }

    /// Whether the figure is a time, which differs between two traces of the same server.
    fn is_time(self) -> bool {
        matches!(
            self,
            Topic::ConnectTime | Topic::FirstByteTime | Topic::CloseTime
        )
    }
}

/// A difference between two stories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The property that differs.
    pub topic: Topic,
    /// A whole sentence with the names of both servers.
    pub sentence: String,
    /// The value for the first server.
    pub a: String,
    /// The value for the second server.
    pub b: String,
}

/// The differences between the first connections of two stories, in the order of [`Topic`]. Times
/// are left out: a single sample of each does not show a difference.
pub fn differences(a: (&str, &Story), b: (&str, &Story)) -> Vec<Difference> {
    let (facts_a, facts_b) = (Facts::of(a.1), Facts::of(b.1));
    // The row about who closes first says the same.
    let both_close = [&facts_a, &facts_b]
        .iter()
        .all(|it| it.closes_first.is_some() && matches!(it.ending, Some(EndingKind::Closed(_))));
    let differing = (rows(a.1, b.1).into_iter())
        .filter(|it| it.differs() && !(both_close && it.topic == Topic::Ending));
    let difference = |row: Row| Difference {
        topic: row.topic,
        sentence: sentence(row.topic, (a.0, &facts_a), (b.0, &facts_b), &row),
        a: row.a,
        b: row.b,
    };
    differing.map(difference).collect()
}

/// The differences, as sentences and as a table.
pub fn differing(a: (&str, &Story), b: (&str, &Story), width: usize) -> String {
    let mut page = Page::new(width);
    let differing: Vec<Row> = rows(a.1, b.1).into_iter().filter(Row::differs).collect();
    in_sentences(&mut page, a, b);
    if !differing.is_empty() {
        page.gap();
        table(&mut page, a.0, b.0, &differing);
    }
    page.gap();
    if has_several(a.1, b.1) {
        page.paragraph(FIRST_CONNECTION);
    }
    page.paragraph("--full adds all figures and both timelines.");
    page.text()
}

/// The differences as sentences, all figures as a table, and the timelines: side by side from 120
/// columns on, otherwise one after the other.
pub fn side_by_side(a: (&str, &Story), b: (&str, &Story), width: usize) -> String {
    let mut page = Page::new(width);
    in_sentences(&mut page, a, b);
    page.gap();
    table(&mut page, a.0, b.0, &rows(a.1, b.1));
    page.gap();
    page.paragraph(ONE_SAMPLE);
    if has_several(a.1, b.1) {
        page.paragraph(FIRST_CONNECTION);
    }
    page.gap();
    match page.width >= WIDTH_OF_TWO {
        true => beside(&mut page, a, b),
        false => {
            for (name, story) in [a, b] {
                page.rule(name);
                let layout = Layout::of(story, page.width);
                for phase in phases(story) {
                    page.gap();
                    page.lines.extend(layout.phase(phase));
                }
                page.gap();
            }
        }
    }
    page.text()
}

fn in_sentences(page: &mut Page, a: (&str, &Story), b: (&str, &Story)) {
    page.rule(&format!("{} and {}: what differs", a.0, b.0));
    let differences = differences(a, b);
    for difference in &differences {
        page.item(&difference.sentence);
    }
    if differences.is_empty() {
        page.paragraph("Nothing among the properties compared here.");
    }
}

fn has_several(a: &Story, b: &Story) -> bool {
    [a, b].iter().any(|it| it.connections.len() > 1)
}

/// The differences as a list, and all figures as a table.
pub fn markdown(a: (&str, &Story), b: (&str, &Story)) -> String {
    let mut out = String::new();
    for difference in differences(a, b) {
        out += &format!("- {}\n", escaped(&difference.sentence));
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out += &format!("| | {} | {} |\n|---|---|---|\n", escaped(a.0), escaped(b.0));
    for row in rows(a.1, b.1) {
        let (title, a, b) = (row.topic.title(), escaped(&row.a), escaped(&row.b));
        out += &format!("| {title} | {a} | {b} |\n");
    }
    out + &format!("\n{ONE_SAMPLE}\n")
}

const ONE_SAMPLE: &str = "Each time is a single sample, not a measurement: times differ from one trace of the same \
 server to the next.";
const FIRST_CONNECTION: &str = "If there are several connections, the first is compared.";
/// Each timeline needs half of this width.
const WIDTH_OF_TWO: usize = 120;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) topic: Topic,
    pub(super) a: String,
    pub(super) b: String,
}

impl Row {
    /// Whether a property other than a time differs.
    pub(super) fn differs(&self) -> bool {
        self.a != self.b && !self.topic.is_time()
    }
}

/// Every property that at least one story has.
pub(super) fn rows(a: &Story, b: &Story) -> Vec<Row> {
    let (a, b) = (Facts::of(a).table(), Facts::of(b).table());
    let rows = a
        .into_iter()
        .zip(b)
        .map(|((topic, a), (_, b))| (topic, a, b));
    rows.filter(|(_, a, b)| a.is_some() || b.is_some())
        .map(|(topic, a, b)| {
            let shown = |text: Option<String>| text.unwrap_or_else(|| "not seen".to_owned());
            Row {
                topic,
                a: shown(a),
                b: shown(b),
            }
        })
        .collect()
}

/// The compared properties of a story's first connection.
#[derive(Debug, Default)]
struct Facts {
    ending: Option<EndingKind>,
    has_segments: bool,
    client: Sent,
    server: Sent,
    responses: usize,
    retransmissions: usize,
    request_acknowledged: Option<(Acknowledged, u64)>,
    closes_first: Option<Side>,
    time_wait: Vec<Side>,
    calls: BTreeMap<&'static str, usize>,
    offers: Option<String>,
    client_states: Vec<State>,
    server_states: Vec<State>,
    connect_ns: Option<u64>,
    first_byte_ns: Option<u64>,
    close_ns: Option<u64>,
}

/// What one side sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sent {
    segments: usize,
    with_payload: usize,
    bytes: u64,
}

/// The kind of segment with which the server acknowledges the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acknowledged {
    Alone,
    WithData,
    WithFin,
}

impl Facts {
    fn of(story: &Story) -> Self {
        let Some(connection) = story.connections.first() else {
            return Facts::default();
        };
        let events = || connection.phases.iter().flat_map(|it| &it.events);
        let segments: Vec<(u64, &Segment)> = events()
            .filter_map(|event| match &event.what {
                Happening::Segment(it) => Some((event.at_ns, it)),
                _ => None,
            })
            .collect();
        let sent = |side: Side| {
            let mut sent = Sent::default();
            for (_, segment) in segments.iter().filter(|(_, it)| it.from == side) {
                sent.segments += 1;
                // A retransmission carries nothing new.
                if segment.packet.payload_bytes > 0 && !segment.retransmission {
                    sent.with_payload += 1;
                    sent.bytes += u64::from(segment.packet.payload_bytes);
                }
            }
            sent
        };
        let first = |is: &dyn Fn(&Segment) -> bool| segments.iter().find(|(_, it)| is(it)).copied();
        let has_data = |it: &Segment, from: Side| it.from == from && it.packet.payload_bytes > 0;
        let syn = first(&|it| it.from == Side::Client && it.packet.flags.syn);
        let syn_ack = first(&|it| it.from == Side::Server && it.packet.flags.syn);
        let request = first(&|it| has_data(it, Side::Client));
        let response = first(&|it| has_data(it, Side::Server));
        let end = first(&|it| it.packet.flags.fin);
        let since = |from: Option<(u64, &Segment)>, to: Option<(u64, &Segment)>| {
            Some(to?.0.saturating_sub(from?.0))
        };
        // The client's first ACK completes the connection, with data or without.
        let connected = syn_ack.and(first(&|it| {
            it.from == Side::Client && it.packet.flags.ack && !it.packet.flags.rst
        }));
        let is_response = |it: &Segment| {
            it.from == Side::Server
                && !it.retransmission
                && it
                    .http
                    .as_ref()
                    .is_some_and(|http| http.starts_with("HTTP/"))
        };
        Facts {
            ending: Some(connection.ending.kind),
            has_segments: !segments.is_empty(),
            client: sent(Side::Client),
            server: sent(Side::Server),
            responses: segments.iter().filter(|(_, it)| is_response(it)).count(),
            retransmissions: (segments.iter())
                .filter(|(_, it)| it.retransmission)
                .count(),
            request_acknowledged: request.and_then(|it| acknowledged(&segments, it)),
            closes_first: end.map(|(_, it)| it.from),
            time_wait: holders_of_time_wait(connection),
            calls: calls(connection),
            offers: syn_ack.map(|(_, it)| words::offers(&it.packet.options)),
            client_states: passed(&connection.states, Side::Client),
            server_states: passed(&connection.states, Side::Server),
            connect_ns: since(syn, connected),
            first_byte_ns: since(request, response),
            close_ns: since(end, segments.last().copied()),
        }
    }

    /// The values in the order of [`Topic`]; `None` if not known.
    fn table(&self) -> Vec<(Topic, Option<String>)> {
        let seen = |text: String| self.has_segments.then_some(text);
        let segments = |sent: Sent| seen(sent.segments.to_string());
        let bytes = |sent: Sent| seen(count(sent.bytes, "byte"));
        let names = |states: &[State]| {
            let names: Vec<&str> = states.iter().map(|it| it.name()).collect();
            (!names.is_empty()).then(|| names.join(" → "))
        };
        let time_wait: Vec<String> = (self.time_wait.iter())
            .map(|it| it.name().to_owned())
            .collect();
        let calls: Vec<String> = (self.calls.iter())
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let has_states = !self.client_states.is_empty() || !self.server_states.is_empty();
        let nobody = || "nobody".to_owned();
        vec![
            (Topic::Ending, self.ending.map(ending)),
            (
                Topic::ResponseSegments,
                seen(count(self.server.with_payload as u64, "segment")),
            ),
            (
                Topic::RequestAcknowledged,
                self.request_acknowledged
                    .map(|(how, _)| how.words().to_owned()),
            ),
            (
                Topic::ClosesFirst,
                seen(
                    self.closes_first
                        .map_or_else(nobody, |it| it.name().to_owned()),
                ),
            ),
            (
                Topic::TimeWait,
                has_states.then(|| match time_wait.is_empty() {
                    true => nobody(),
                    false => listed(&time_wait),
                }),
            ),
            (
                Topic::ServerCalls,
                (!calls.is_empty()).then(|| calls.join(", ")),
            ),
            (Topic::ClientSegments, segments(self.client)),
            (Topic::ServerSegments, segments(self.server)),
            (Topic::ClientBytes, bytes(self.client)),
            (Topic::ServerBytes, bytes(self.server)),
            (
                Topic::Retransmissions,
                seen(count(self.retransmissions as u64, "segment")),
            ),
            (Topic::SynAckOptions, self.offers.clone()),
            (Topic::ClientStates, names(&self.client_states)),
            (Topic::ServerStates, names(&self.server_states)),
            (Topic::ConnectTime, self.connect_ns.map(duration)),
            (Topic::FirstByteTime, self.first_byte_ns.map(duration)),
            (Topic::CloseTime, self.close_ns.map(duration)),
        ]
    }

    /// The responses in words: `the response`, `its 3 responses`.
    fn responses(&self) -> String {
        match self.responses {
            0 | 1 => "the response".to_owned(),
            n => format!("its {n} responses"),
        }
    }

    /// How often the server calls a function that sends.
    fn sends(&self) -> usize {
        let sends = self
            .calls
            .iter()
            .filter(|(name, _)| SENDING.contains(*name));
        sends.map(|(_, count)| count).sum()
    }
}

/// Calls that hand bytes to the kernel.
const SENDING: [&str; 8] = [
    "send", "sendfile", "sendmmsg", "sendmsg", "sendto", "splice", "write", "writev",
];

impl Acknowledged {
    fn words(self) -> &'static str {
        match self {
            Acknowledged::Alone => "by a separate ACK",
            Acknowledged::WithData => "with the response",
            Acknowledged::WithFin => "with a FIN",
        }
    }
}

/// How the server acknowledges the first segment of the request, and how long after it.
fn acknowledged(
    segments: &[(u64, &Segment)],
    (at_ns, request): (u64, &Segment),
) -> Option<(Acknowledged, u64)> {
    let next = request.sequence.1;
    let (when_ns, segment) = segments.iter().find(|(when_ns, it)| {
        // Relative numbers wrap after 4 GiB, far beyond any request.
        *when_ns >= at_ns
            && it.from == Side::Server
            && it.acknowledgement.is_some_and(|ack| ack >= next)
            && !it.packet.flags.syn
    })?;
    let how = match () {
        () if segment.packet.payload_bytes > 0 => Acknowledged::WithData,
        () if segment.packet.flags.fin => Acknowledged::WithFin,
        () => Acknowledged::Alone,
    };
    Some((how, when_ns - at_ns))
}

/// The server's calls during a connection. A call that began earlier counts if it returns during
/// the connection.
fn calls(connection: &Connection) -> BTreeMap<&'static str, usize> {
    let mut halves: BTreeMap<&'static str, [usize; 3]> = BTreeMap::new();
    for event in connection.phases.iter().flat_map(|it| &it.events) {
        if let Happening::Call(call) = &event.what
            && call.side == Side::Server
        {
            halves.entry(call.name).or_default()[match call.part {
                Part::Whole => 0,
                Part::Enter => 1,
                Part::Leave => 2,
            }] += 1;
        }
    }
    (halves.into_iter())
        .map(|(name, [whole, enter, leave])| (name, whole + enter.max(leave)))
        .collect()
}

/// The states that a side went through, without the initial `CLOSED`.
fn passed(states: &[StateChange], side: Side) -> Vec<State> {
    (states.iter())
        .filter(|it| it.side == side)
        .map(|it| it.new)
        .collect()
}

fn ending(kind: EndingKind) -> String {
    match kind {
        EndingKind::Open => "open at the end of the record".to_owned(),
        EndingKind::Unknown => "not known".to_owned(),
        EndingKind::Closed(who) => format!("closed by the {} first", who.name()),
        EndingKind::Simultaneous => "closed by both at once".to_owned(),
        EndingKind::Refused => "refused".to_owned(),
        EndingKind::Unreachable => "unreachable".to_owned(),
        EndingKind::NoAnswer => "no answer".to_owned(),
        EndingKind::Reset(who) => format!("reset by the {}", who.name()),
        EndingKind::HalfClosed(who) => format!("half closed by the {}", who.name()),
        EndingKind::Silent => "silent".to_owned(),
    }
}

/// A difference in words.
fn sentence(topic: Topic, a: (&str, &Facts), b: (&str, &Facts), row: &Row) -> String {
    let (name_a, name_b) = (a.0, b.0);
    let (text_a, text_b) = (&row.a, &row.b);
    let each = |of: &dyn Fn((&str, &Facts)) -> String| format!("{}; {}.", of(a), of(b));
    match topic {
        Topic::Ending => {
            format!("The connection ends differently: {text_a} ({name_a}), {text_b} ({name_b}).")
        }
        Topic::ResponseSegments => each(&|(name, facts)| {
            let segments = count(facts.server.with_payload as u64, "segment");
            let calls = match facts.sends() {
                0 => String::new(),
                n => format!(", written in {}", count(n as u64, "call")),
            };
            format!("{name} sends {} in {segments}{calls}", facts.responses())
        }),
        Topic::RequestAcknowledged => each(&|(name, facts)| match facts.request_acknowledged {
            Some((how, after_ns)) => {
                let (how, after) = (how.words(), duration(after_ns));
                format!("{name} acknowledges the request {how}, {after} later")
            }
            None => format!("no acknowledgement of the request by {name} was captured"),
        }),
        Topic::ClosesFirst => each(&|(name, facts)| match facts.closes_first {
            Some(Side::Server) => format!("{name} closes first"),
            Some(Side::Client) => format!("{name} waits until the client closes"),
            None => format!("neither side closes the connection to {name}"),
        }),
        Topic::TimeWait => {
            // If the kernel has no room, there is no `TIME-WAIT`, no matter who closes first.
            let why = match [a.1, b.1].iter().all(|facts| !facts.time_wait.is_empty()) {
                true => ": the side that closes first holds it",
                false => "",
            };
            format!(
                "TIME-WAIT is held by {} with {name_a}, by {} with {name_b}{why}.",
                the(text_a),
                the(text_b)
            )
        }
        Topic::ServerCalls => calls_told(a, b),
        Topic::ClientSegments => {
            format!("The client sends {text_a} segments to {name_a}, {text_b} to {name_b}.")
        }
        Topic::ServerSegments => {
            format!("{name_a} sends {text_a} segments in all, {name_b} {text_b}.")
        }
        Topic::ClientBytes => {
            format!("The client sends {text_a} to {name_a}, {text_b} to {name_b}.")
        }
        Topic::ServerBytes => format!("{name_a} sends {text_a}, {name_b} {text_b}."),
        Topic::Retransmissions => {
            format!("Retransmissions: {text_a} with {name_a}, {text_b} with {name_b}.")
        }
        Topic::SynAckOptions => {
            format!("The SYN+ACK of {name_a} offers {text_a}; that of {name_b} {text_b}.")
        }
        Topic::ClientStates => states_told("client", a, b, |it| &it.client_states),
        Topic::ServerStates => states_told("server", a, b, |it| &it.server_states),
        Topic::ConnectTime | Topic::FirstByteTime | Topic::CloseTime => {
            format!(
                "{}: {text_a} with {name_a}, {text_b} with {name_b}.",
                topic.title()
            )
        }
    }
}

/// Calls that only one server makes, and calls that the servers make in different numbers.
fn calls_told(a: (&str, &Facts), b: (&str, &Facts)) -> String {
    let only = |more: &Facts, less: &Facts| -> Vec<String> {
        let names = more
            .calls
            .keys()
            .filter(|name| !less.calls.contains_key(*name));
        names.map(|&name| name.to_owned()).collect()
    };
    let times = |n: usize| match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    };
    let mut parts = Vec::new();
    for (name, names) in [(a.0, only(a.1, b.1)), (b.0, only(b.1, a.1))] {
        if !names.is_empty() {
            parts.push(format!("only {name} calls {}", listed(&names)));
        }
    }
    for (call, &n) in &a.1.calls {
        let of_b = b.1.calls.get(call).copied().unwrap_or(0);
        if of_b > 0 && of_b != n {
            let (n, of_b) = (times(n), times(of_b));
            parts.push(format!("{} calls {call} {n}, {} {of_b}", a.0, b.0));
        }
    }
    let mut text = parts.join("; ") + ".";
    if text.starts_with("only ") {
        text.replace_range(..1, "O");
    }
    text
}

/// States that a side goes through with only one of the servers.
fn states_told(
    side: &str,
    a: (&str, &Facts),
    b: (&str, &Facts),
    of: fn(&Facts) -> &Vec<State>,
) -> String {
    let only = |of_one: &[State], of_other: &[State]| -> Vec<String> {
        let states = of_one.iter().filter(|it| !of_other.contains(it));
        states.map(State::to_string).collect()
    };
    let (states_a, states_b) = (of(a.1), of(b.1));
    let mut parts = Vec::new();
    for (name, states) in [
        (a.0, only(states_a, states_b)),
        (b.0, only(states_b, states_a)),
    ] {
        if !states.is_empty() {
            parts.push(format!("through {} only with {name}", listed(&states)));
        }
    }
    match parts.is_empty() {
        true => format!("The {side} goes through its states in a different order."),
        false => format!("The {side} goes {}.", parts.join("; ")),
    }
}

/// A side with its article: `nobody`, `the server`.
fn the(who: &str) -> String {
    match who {
        "client" | "server" => format!("the {who}"),
        _ => who.to_owned(),
    }
}

/// The table of properties; both value columns wrap.
fn table(page: &mut Page, a: &str, b: &str, rows: &[Row]) {
    let titles = rows.iter().map(|it| it.topic.title().len());
    let first = titles.max().unwrap_or(0).min(page.width / 3) + 2;
    let column = (page.width - first - 2) / 2;
    let mut line = |title: &str, a: &[String], b: &[String]| {
        let title = textwrap::wrap(title, first - 2);
        for index in 0..title.len().max(a.len()).max(b.len()) {
            let cell = |cells: &[String]| cells.get(index).cloned().unwrap_or_default();
            let title = title.get(index).map_or("", |it| it.as_ref());
            let text = format!("{title:<first$}{:<column$}  {}", cell(a), cell(b));
            page.lines.push(Line::plain(text.trim_end()));
        }
    };
    line("", &wrapped(a, column), &wrapped(b, column));
    let rule = ["─".repeat(column)];
    line("", &rule, &rule);
    for row in rows {
        line(
            row.topic.title(),
            &wrapped(&row.a, column),
            &wrapped(&row.b, column),
        );
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let options = textwrap::Options::new(width)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .subsequent_indent(" ");
    let text = printable(text);
    let lines = textwrap::wrap(&text, options);
    lines
        .into_iter()
        .map(std::borrow::Cow::into_owned)
        .collect()
}

fn phases(story: &Story) -> impl Iterator<Item = &Phase> {
    let first = story.connections.first();
    (story.prologue.iter()).chain(first.into_iter().flat_map(|it| &it.phases))
}

/// Both timelines, aligned so that phases of the same kind begin on the same line.
fn beside(page: &mut Page, a: (&str, &Story), b: (&str, &Story)) {
    let column = (page.width - 3) / 2;
    let at = column + 3;
    let layouts = (Layout::of(a.1, column), Layout::of(b.1, column));
    page.lines
        .push(Line::beside(&Line::plain(a.0), &Line::plain(b.0), at));
    let phases_a: Vec<&Phase> = phases(a.1).collect();
    let phases_b: Vec<&Phase> = phases(b.1).collect();
    for (left, right) in aligned(&phases_a, &phases_b) {
        page.gap();
        let left = left.map_or(Vec::new(), |it| layouts.0.phase(it));
        let right = right.map_or(Vec::new(), |it| layouts.1.phase(it));
        for index in 0..left.len().max(right.len()) {
            let of = |lines: &[Line]| lines.get(index).cloned().unwrap_or_default();
            page.lines.push(Line::beside(&of(&left), &of(&right), at));
        }
    }
}

/// Pairs phases of the same kind, keeping both orders; a phase without a counterpart stands alone.
fn aligned<'a>(a: &[&'a Phase], b: &[&'a Phase]) -> Vec<(Option<&'a Phase>, Option<&'a Phase>)> {
    let (mut a, mut b) = (a, b);
    let mut pairs = Vec::new();
    loop {
        match (a, b) {
            ([], []) => return pairs,
            ([left, rest_a @ ..], [right, rest_b @ ..]) if left.kind == right.kind => {
                pairs.push((Some(*left), Some(*right)));
                (a, b) = (rest_a, rest_b);
            }
            // A later phase of the other side has to wait for this one.
            ([left, rest @ ..], others) if !others.iter().any(|it| it.kind == left.kind) => {
                pairs.push((Some(*left), None));
                a = rest;
            }
            (_, [right, rest @ ..]) => {
                pairs.push((None, Some(*right)));
                b = rest;
            }
            ([left, rest @ ..], []) => {
                pairs.push((Some(*left), None));
                a = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::super::fixture;
    use super::*;

    fn plain(width: usize) -> String {
        let (a, b) = (fixture::normal(), fixture::two_writes());
        let text = side_by_side(("iterative", &a), ("python", &b), width);
        strip_str(&text).to_string()
    }

    #[test]
    fn one_write_against_two() {
        insta::assert_snapshot!("side-by-side-80", plain(80));
        insta::assert_snapshot!("side-by-side-140", plain(140));
    }

    #[test]
    fn differences_alone() {
        let (a, b) = (fixture::normal(), fixture::two_writes());
        let text = differing(("iterative", &a), ("python", &b), 80);
        insta::assert_snapshot!("differences-80", strip_str(&text).to_string());
        let text = differing(("iterative", &a), ("the same", &a), 80);
        let text = strip_str(&text).to_string();
        assert!(
            text.contains("Nothing among the properties compared here."),
            "{text}"
        );
        assert!(!text.contains("closes first"), "{text}");
    }

    #[test]
    fn as_markdown() {
        let (a, b) = (fixture::normal(), fixture::two_writes());
        insta::assert_snapshot!(markdown(("iterative", &a), ("python", &b)));
    }

    #[test]
    fn as_wide_as_asked() {
        for width in 60..=160 {
            for line in plain(width).lines() {
                let columns = line.chars().count();
                assert!(columns <= width, "{columns} at {width}\n{line}");
            }
        }
        // This holds for any pair of stories.
        let stories = fixture::all();
        for (name_a, a) in &stories {
            for (name_b, b) in &stories {
                for width in [60, 80, 120] {
                    for form in [differing, side_by_side] {
                        let text = form((name_a, a), (name_b, b), width);
                        let text = strip_str(&text).to_string();
                        let widest = text.lines().map(|it| it.chars().count()).max();
                        assert!(widest <= Some(width), "{name_a} and {name_b}: {widest:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_story_does_not_differ_from_itself() {
        for (name, story) in fixture::all() {
            assert_eq!(
                differences((name, &story), ("the same", &story)),
                [],
                "{name}"
            );
        }
    }

    #[test]
    fn what_differs_is_found() {
        let (a, b) = (fixture::normal(), fixture::two_writes());
        let found: Vec<Topic> = (differences(("a", &a), ("b", &b)).into_iter())
            .map(|it| it.topic)
            .collect();
        for topic in [
            Topic::ResponseSegments,
            Topic::RequestAcknowledged,
            Topic::ClosesFirst,
            Topic::TimeWait,
            Topic::ServerCalls,
            Topic::ServerBytes,
            Topic::ServerStates,
        ] {
            assert!(found.contains(&topic), "{topic:?} is not in {found:?}");
        }
        for topic in [
            Topic::Ending,
            Topic::SynAckOptions,
            Topic::ClientBytes,
            Topic::Retransmissions,
        ] {
            assert!(!found.contains(&topic), "{topic:?} is in {found:?}");
        }
    }

    #[test]
    fn a_call_that_began_before_the_connection_counts_once() {
        let story = fixture::normal();
        let calls = calls(&story.connections[0]);
        assert_eq!(calls.get("accept4"), Some(&1));
        assert_eq!(calls.get("sendto"), Some(&1));
        assert_eq!(calls.get("connect"), None);
    }
}
