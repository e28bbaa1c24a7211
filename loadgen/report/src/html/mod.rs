//! The page: one file that opens without a network, with charts drawn by plotly's own script.
//!
//! Everything drawn and said is decided here, from the evidence alone; `page.js` draws the charts that come
//! into view, and lets the reader choose servers and colours. It computes no figure.

mod answers;
mod groups;
mod plot;

use askama::Template;

use self::answers::Answer;
use self::groups::Group;
use super::chart::ledger_bars::{Costs, Ledger};
use super::chart::style::{self, Style};
use super::chart::{self, Body, Chart, Findings, Load, LoadShape};
use super::{Faults, plural};
use crate::format::html::{self, Hues, LINES_SHOWN};
use crate::grid::{self, Cell, Compared, Detail, Grid, Kind, Noted, Server, Tone};
use crate::situations::Podium;
use engine::figures::thousands;
use lab::compare::Latencies;
use lab::compare::{Evidence, Metric, Standing};
use lab::set::ledger_rows::Pass;
use subject::catalogue::Workload;
use subject::machine::Machine;

/// The page as HTML. `command` is the one that makes it.
pub fn page(evidence: &Evidence, latencies: &Latencies, command: &str) -> String {
    let script = plotly_script();
    let page = Page::of(evidence, latencies, command, &script);
    page.render()
        .expect("the template is filled by this type alone")
}

/// plotly's script without the one for formulas that comes with it.
fn plotly_script() -> String {
    let scripts = plotly::Plot::offline_js_sources();
    let begin = scripts.find('>').map_or(0, |at| at + 1);
    let end = scripts.find("</script>").unwrap_or(scripts.len());
    scripts[begin..end].to_owned()
}

/// Everything on the page.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    title: String,
    provenance: Vec<(&'static str, String)>,
    /// The server that answers without reading, if there is one.
    floor: Option<&'a str>,
    incomplete: Option<String>,
    looks: Vec<Look>,
    answers: Vec<Answer>,
    /// Of few servers.
    standings: Option<Grid>,
    /// Of many.
    groups: Vec<Group>,
    overview: Vec<Figure>,
    by_connections: Vec<Figure>,
    by_rate: Vec<Figure>,
    ledgers: Vec<LedgerSection>,
    has_calls: bool,
    call_errors: Vec<String>,
    fairness: Grid,
    workloads: Vec<Section>,
    verdicts: Vec<Verdicts>,
    machine: Grid,
    build: Grid,
    command: &'a str,
    commands: &'a [String],
    rounds: String,
    /// How servers look, for the script.
    servers: String,
    /// And in tables.
    hues: Hues,
    palette: String,
    css: &'static str,
    js: &'static str,
    plotly: &'a str,
}

/// A server as it looks in every chart.
#[derive(Debug)]
struct Look {
    server: String,
    about: &'static str,
    hue: usize,
    dashes: String,
    shape: &'static str,
}

/// A chart with its table.
#[derive(Debug)]
struct Figure {
    id: String,
    title: String,
    alt: String,
    /// What stands in place of a chart that would show no difference.
    sentence: Option<String>,
    /// Servers beyond the axis.
    beside: Option<String>,
    /// Names and colours of the parts of bars.
    parts: Vec<(String, usize)>,
    is_wide: bool,
    /// Names at the ends of lines take more than half a sheet of paper.
    is_dense: bool,
    has_marked: bool,
    table: Option<Grid>,
    /// Of the drawing, in pixels.
    height: usize,
    /// For the script.
    json: String,
}

/// The ledger of a workload.
#[derive(Debug)]
struct LedgerSection {
    figures: Vec<Figure>,
}

/// Cells with the same verdict.
#[derive(Debug)]
struct Verdicts {
    heading: &'static str,
    lines: Vec<String>,
    is_folded: bool,
}

/// A workload.
#[derive(Debug)]
struct Section {
    workload: String,
    load: String,
    analysis: String,
    /// Which server is first.
    first: String,
    servers: Grid,
    /// Of the response time.
    percentiles: Option<Grid>,
    figures: Vec<Figure>,
    /// Without histograms there is no curve.
    lacks_curve: bool,
}

impl<'a> Page<'a> {
    fn of(
        evidence: &'a Evidence,
        latencies: &Latencies,
        command: &'a str,
        plotly: &'a str,
    ) -> Self {
        let findings = Findings::of(evidence);
        let figure = |chart: Chart| Figure::of(&chart, evidence);
        let loads = Load::all(evidence);
        let per_load = |metrics: [Metric; 2], of: fn(&Findings, &Load, Metric) -> Option<Chart>| {
            let pairs = loads
                .iter()
                .flat_map(|load| metrics.map(|metric| (load, metric)));
            let charts = pairs.filter_map(|(load, metric)| of(&findings, load, metric));
            charts.map(figure).collect::<Vec<Figure>>()
        };
        let main: Vec<&Workload> = [LoadShape::KEEP_ALIVE, LoadShape::NEW_CONNECTION]
            .into_iter()
            .filter_map(|shape| Load::nearest(evidence, shape, 64))
            .collect();
        let is_main = |workload: &Workload| main.iter().any(|it| it.name == workload.name);
        let ledger = |workload: &Workload| -> Vec<Figure> {
            [Ledger::Cpu, Ledger::Calls, Ledger::Switches]
                .into_iter()
                .filter_map(|kind| chart::ledger_bars::chart(&findings, workload, kind))
                .map(figure)
                .collect()
        };
        let ledgers: Vec<LedgerSection> = (main.iter())
            .map(|workload| LedgerSection {
                figures: ledger(workload),
            })
            .collect();
        let workloads = evidence.workloads.iter().map(|workload| {
            let mut section = Section::of(&findings, latencies, workload);
            if !is_main(workload) {
                section.figures.extend(ledger(workload));
            }
            section
        });
        let mut call_errors: Vec<String> = (evidence.ledger.iter())
            .filter_map(|row| row.error.clone())
            .collect();
        call_errors.sort();
        call_errors.dedup();
        let faults = evidence.faults();
        Page {
            title: evidence.sets.join(", "),
            provenance: provenance(evidence),
            floor: evidence
                .floor
                .as_deref()
                .filter(|floor| evidence.servers.iter().any(|it| it == floor)),
            incomplete: (evidence.missing > 0).then(|| {
                let cells = plural(evidence.missing.try_into().unwrap_or(u32::MAX), "cell");
                format!("This set is incomplete: {cells} not measured yet.")
            }),
            looks: (evidence.servers.iter())
                .map(|it| Look::of(evidence, it))
                .collect(),
            answers: answers::all(&findings),
            standings: (!groups::is_large(&findings) && !evidence.workloads.is_empty())
                .then(|| standings(&findings)),
            groups: match groups::is_large(&findings) {
                true => groups::all(&findings),
                false => Vec::new(),
            },
            overview: chart::by_workload(&findings, Metric::Cpu)
                .into_iter()
                .map(figure)
                .collect(),
            by_connections: per_load([Metric::Cpu, Metric::Throughput], chart::by_connections),
            by_rate: per_load([Metric::P50, Metric::P99], chart::by_rate),
            has_calls: (evidence.servers.iter()).any(|server| {
                (evidence.workloads.iter())
                    .any(|it| Pass::of(&evidence.ledger, server, &it.name).is_some())
            }),
            call_errors,
            ledgers,
            fairness: fairness(&findings),
            workloads: workloads.collect(),
            verdicts: verdicts(&Faults::sorted(&faults)),
            machine: machine(&evidence.machine),
            hues: (evidence.servers.iter())
                .map(|it| (it.clone(), Style::of(evidence, it).hue))
                .collect(),
            build: build(evidence),
            command,
            commands: &evidence.commands,
            rounds: plural(evidence.rounds, "round"),
            servers: plot::servers(evidence),
            palette: style::css(),
            css: include_str!("../../../page.css"),
            js: include_str!("page.js"),
            plotly,
        }
    }

    /// A table with the colours of servers.
    fn table(&self, grid: &Grid) -> String {
        html::table(grid, &self.hues)
    }

    /// A table beside a chart, which shows the colours.
    fn figures_of(&self, grid: &Grid) -> String {
        html::table(grid, &Hues::new())
    }

    fn facts(&self, caption: &str, grid: &Grid) -> String {
        html::facts(caption, grid)
    }
}

impl Look {
    fn of(evidence: &Evidence, server: &str) -> Self {
        let style = Style::of(evidence, server);
        Look {
            server: server.to_owned(),
            about: match (evidence.is_floor(server), evidence.competes(server)) {
                (true, _) => "the floor: not ranked",
                (_, false) => "a reference: not ranked",
                _ => "",
            },
            hue: style.hue,
            dashes: plot::dash_array(style.dashes),
            shape: plot::shape_path(style.shape),
        }
    }
}

impl Figure {
    fn of(chart: &Chart, evidence: &Evidence) -> Self {
        let is_marked = |is_sound: &bool| !is_sound;
        let sentence = chart.sentence();
        Figure {
            id: chart.id.clone(),
            title: chart.title.clone(),
            alt: chart.alt(),
            beside: match sentence {
                Some(_) => None,
                None => chart.named_beside(),
            },
            parts: match &chart.body {
                Body::Bars(bars) => (bars.parts.iter().enumerate())
                    .map(|(at, part)| (part.name.clone(), at % style::PARTS.len()))
                    .collect(),
                _ => Vec::new(),
            },
            is_wide: matches!(chart.body, Body::Dots(_)),
            is_dense: chart.servers().len() > 8 && !matches!(chart.body, Body::Bars(_)),
            has_marked: match &chart.body {
                Body::Bars(bars) => bars.is_sound.iter().any(is_marked),
                Body::Lines(series) | Body::Curves(series) | Body::Dots(series) => series
                    .iter()
                    .flat_map(|it| &it.points)
                    .any(|point| !point.is_sound),
            },
            table: table(chart, evidence),
            height: height(chart),
            json: match sentence {
                Some(_) => String::new(),
                None => plot::json(chart, evidence),
            },
            sentence,
        }
    }
}

/// Pixels; many servers need room for their names at the ends of lines.
fn height(chart: &Chart) -> usize {
    let servers = chart.servers().len() - chart.beside.len();
    match &chart.body {
        Body::Lines(_) | Body::Curves(_) => (70 + 12 * servers).max(340),
        Body::Dots(_) => 90 + chart.y.ticks.len().max(3) * if servers > 8 { 22 } else { 36 },
        Body::Bars(_) => 80 + servers.max(2) * if servers > 8 { 17 } else { 32 },
    }
}

/// The same as a table. A curve has one of percentiles beside it.
fn table(chart: &Chart, evidence: &Evidence) -> Option<Grid> {
    let row = |server: &str, texts: Vec<String>| {
        let texts = texts.into_iter().map(Cell::from);
        [Cell::Server(Server::of(evidence, server))]
            .into_iter()
            .chain(texts)
    };
    match &chart.body {
        Body::Curves(_) => None,
        Body::Lines(series) | Body::Dots(series) => {
            let mut grid = Grid::new(["server", "at", "value", "remark"], 1).with_remark();
            for it in series {
                for point in &it.points {
                    let mut texts: Vec<String> = point.says.iter().take(2).cloned().collect();
                    texts.push(point.says.get(2..).unwrap_or_default().join("; "));
                    grid.row(row(&it.server, texts));
                }
            }
            Some(grid)
        }
        Body::Bars(bars) => {
            let parts = bars.parts.iter().map(|part| part.name.as_str());
            let mut grid = Grid::new(["server"].into_iter().chain(parts).chain(["total"]), 1);
            for (at, server) in bars.servers.iter().enumerate() {
                let values = bars.parts.iter().map(|part| chart::number(part.values[at]));
                let total = chart::number(bars.total(at));
                grid.row(row(server, values.chain([total]).collect()));
            }
            Some(grid)
        }
    }
}

/// A workload with a link to its section; `note` says in what it differs from the others.
fn described(workload: &Workload, note: String) -> Cell {
    Cell::Workload(grid::Load {
        name: workload.name.clone(),
        anchor: None,
        described_at: Some(format!("workload-{}", workload.name)),
        note,
        // The note says these.
        rate: None,
        is_titled: false,
        connections: workload.connections,
        idle: 0,
    })
}

/// A server under a workload; with `leads` its row is shown.
fn compared(
    findings: &Findings,
    metric: Metric,
    workload: &str,
    server: &str,
    detail: Detail,
    leads: bool,
) -> Cell {
    let evidence = findings.evidence;
    let column = evidence.servers.iter().position(|it| it == server);
    let Some((row, column)) = findings.row(metric, workload).zip(column) else {
        return Cell::from("-");
    };
    Cell::Compared(Box::new(Compared {
        entry: row.entries[column].clone(),
        rank: row.rank_mark(column),
        is_floor: evidence.is_floor(server),
        metric,
        leads,
        detail,
    }))
}

fn verdicts(faults: &Faults) -> Vec<Verdicts> {
    let paragraphs = faults.paragraphs().into_iter();
    let some = paragraphs.filter(|(_, lines)| !lines.is_empty());
    some.map(|(heading, lines)| Verdicts {
        heading,
        is_folded: lines.len() > LINES_SHOWN,
        lines,
    })
    .collect()
}

fn connections_of(workload: &Workload) -> String {
    let plural = if workload.connections == 1 { "" } else { "s" };
    format!(
        "{} connection{plural}",
        thousands(workload.connections as u64)
    )
}

fn load_of(workload: &Workload) -> String {
    let connections = connections_of(workload);
    let shape = LoadShape::of(workload).title();
    match workload.pace.rate() {
        Some(rate) => format!("{shape} at {}/s, {connections}", chart::count(rate.per_s())),
        None => format!("{connections}, {shape}"),
    }
}

fn standings(findings: &Findings) -> Grid {
    let header = [
        "workload",
        "least CPU per request",
        "runner-up",
        "highest throughput (open loop: lowest p99)",
        "runner-up",
    ];
    let mut grid = Grid::new(header, 1).of_kind(Kind::Podiums);
    for workload in &findings.evidence.workloads {
        let name = &workload.name;
        let cpu = Podium::of(findings, Metric::Cpu, name);
        let (note, metric) = match workload.pace.rate() {
            Some(_) => ("lowest p99", Metric::P99),
            None => ("", Metric::Throughput),
        };
        let other = Podium::of(findings, metric, name);
        grid.row([
            described(workload, load_of(workload)),
            Cell::Noted(Noted {
                text: cpu.names(),
                note: String::new(),
                tone: Tone::First,
            }),
            Cell::from(cpu.lead()),
            Cell::Noted(Noted {
                text: other.names(),
                note: note.to_owned(),
                tone: match other.first.is_empty() {
                    true => Tone::Neutral,
                    false => Tone::First,
                },
            }),
            Cell::from(other.lead()),
        ]);
    }
    grid
}

fn fairness(findings: &Findings) -> Grid {
    let evidence = findings.evidence;
    // In open loop, and with new connections all the time, equal shares are not to be expected.
    let stays = |it: &&Workload| it.pace.rate().is_none() && it.requests_per_connection == 0;
    let workloads: Vec<&Workload> = evidence.workloads.iter().filter(stays).collect();
    let head = workloads.iter().map(|it| described(it, connections_of(it)));
    let mut grid = Grid::new([Cell::from("server")].into_iter().chain(head), 1)
        .of_kind(Kind::Fairness)
        .folded(groups::fold(findings, "which served every connection"));
    for server in &evidence.servers {
        let mut starves = false;
        let mut cells = vec![Cell::Server(Server::of(evidence, server))];
        for workload in &workloads {
            let costs = Costs::of(findings, server, &workload.name);
            let jain = costs.jain.map_or("n/a".to_owned(), |it| format!("{it:.3}"));
            cells.push(match costs.never_served.filter(|&it| it > 0.0) {
                Some(never_served) => {
                    starves = true;
                    Cell::Noted(Noted {
                        text: jain,
                        note: format!("{} unserved", chart::count(never_served)),
                        tone: Tone::Bad,
                    })
                }
                None => Cell::from(jain),
            });
        }
        grid.row_kept(cells, starves || !groups::competes(findings, server));
    }
    grid
}

/// All servers under a workload.
fn servers(findings: &Findings, workload: &Workload) -> Grid {
    let evidence = findings.evidence;
    let has_floor = evidence.floor.is_some();
    let mut header = vec!["server", "CPU, µs per request"];
    header.extend(has_floor.then_some("of the floor"));
    header.extend(["requests/s", "p50, µs", "p99, µs", "verdict"]);
    let mut grid = Grid::new(header, 1)
        .with_remark()
        .of_kind(Kind::Servers)
        .folded(groups::fold(findings, ""));
    let cpu = |server: &str| findings.entry(Metric::Cpu, &workload.name, server);
    let mut servers: Vec<&String> = evidence.servers.iter().collect();
    if groups::is_large(findings) {
        servers.sort_by_key(|server| {
            let rank = cpu(server).and_then(|it| it.rank).unwrap_or(u32::MAX);
            (!groups::competes(findings, server), rank)
        });
    }
    for server in servers {
        let value = |metric| {
            // The first by these two have a row.
            let leads = matches!(metric, Metric::Cpu | Metric::P99)
                && groups::is_on_podium(findings, metric, &workload.name, server);
            compared(
                findings,
                metric,
                &workload.name,
                server,
                Detail::Figures,
                leads,
            )
        };
        let mut cells = vec![
            Cell::Server(Server::of(evidence, server)),
            value(Metric::Cpu),
        ];
        let of_floor = || Cell::Ratio(cpu(server).and_then(|entry| entry.of_floor));
        cells.extend(has_floor.then(of_floor));
        cells.extend([Metric::Throughput, Metric::P50, Metric::P99].map(value));
        cells.push(Cell::from(verdict(findings, workload, server)));
        grid.row_kept(cells, !groups::competes(findings, server));
    }
    grid
}

fn verdict(findings: &Findings, workload: &Workload, server: &str) -> String {
    let entry = |metric| findings.entry(metric, &workload.name, server);
    let remarks = [Metric::Cpu, Metric::Throughput]
        .into_iter()
        .filter_map(|metric| {
            let remark = findings.remark(entry(metric)?, server, &workload.name)?;
            // What holds for one metric alone says so.
            Some(match (metric, entry(metric)?.standing) {
                (Metric::Throughput, Standing::ClientBound) => remark,
                (Metric::Cpu, _) => remark,
                _ => return None,
            })
        });
    let remarks: Vec<String> = remarks.collect();
    match (remarks.is_empty(), entry(Metric::Cpu).map(|it| it.standing)) {
        (true, Some(Standing::Ranked)) => "valid".to_owned(),
        (true, _) => "not measured".to_owned(),
        (false, _) => remarks.join("; "),
    }
}

/// Of the response time, all rounds merged; `None` where no histogram was recorded.
fn percentiles(findings: &Findings, latencies: &Latencies, workload: &Workload) -> Option<Grid> {
    let evidence = findings.evidence;
    let mut grid = Grid::new(["µs", "p50", "p90", "p99", "p99.9", "p99.99"], 1);
    for server in &evidence.servers {
        if let Some(histogram) = latencies.get(server, &workload.name) {
            let values = chart::percentiles(histogram).into_iter().map(Cell::from);
            let server = Cell::Server(Server::of(evidence, server));
            grid.row([server].into_iter().chain(values));
        }
    }
    (!grid.lines.is_empty()).then_some(grid)
}

impl Section {
    fn of(findings: &Findings, latencies: &Latencies, workload: &Workload) -> Self {
        let evidence = findings.evidence;
        let curve = chart::curve(findings, latencies, workload);
        let (what, by) = match workload.pace.rate() {
            Some(_) => ("lowest p99", Metric::P99),
            None => ("least CPU", Metric::Cpu),
        };
        let podium = Podium::of(findings, by, &workload.name);
        Section {
            first: match podium.first.is_empty() {
                true => String::new(),
                false => format!("{what}: {}", podium.names()),
            },
            workload: workload.name.clone(),
            load: load_of(workload),
            analysis: workload.analysis.trim().to_owned(),
            servers: servers(findings, workload),
            percentiles: percentiles(findings, latencies, workload),
            lacks_curve: curve.is_none(),
            figures: curve.iter().map(|it| Figure::of(it, evidence)).collect(),
        }
    }
}

fn provenance(evidence: &Evidence) -> Vec<(&'static str, String)> {
    let date = evidence.started.get(..10).unwrap_or(&evidence.started);
    vec![
        (
            "Measured",
            format!("{date}, {}", plural(evidence.rounds, "round")),
        ),
        ("Machine", evidence.machine.summary()),
        ("Revision", evidence.build.summary()),
    ]
}

fn machine(machine: &Machine) -> Grid {
    facts(&toml::Value::try_from(machine).expect("a machine is a table"))
}

fn build(evidence: &Evidence) -> Grid {
    facts(&toml::Value::try_from(&evidence.build).expect("a build is a table"))
}

/// A row for each value.
fn facts(value: &toml::Value) -> Grid {
    let mut grid = Grid::new(["", ""], 1).with_remark();
    for (path, text) in rows_of(value) {
        grid.row([path, text]);
    }
    grid
}

/// The values of a table, with the path to each.
fn rows_of(value: &toml::Value) -> Vec<(String, String)> {
    match value {
        toml::Value::Table(table) => (table.iter())
            .flat_map(|(key, value)| {
                let rows = rows_of(value).into_iter();
                rows.map(move |(below, text)| match below.is_empty() {
                    true => (key.clone(), text),
                    false => (format!("{key} › {below}"), text),
                })
            })
            .collect(),
        toml::Value::String(text) => vec![(String::new(), text.clone())],
        toml::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            vec![(String::new(), items.join(", "))]
        }
        other => vec![(String::new(), other.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use crate::format::text::WIDTH;
    use crate::grid::Line;
    use engine::record::{latency_histogram, record_ns};
    use lab::fixture;
    use lab::set::ledger_rows::Row;
    use subject::ledger::Kind;

    /// The servers and workloads of the repository in little, with every kind of chart and fault.
    fn evidence() -> (Evidence, Latencies) {
        let mut evidence = fixture::five_servers();
        let mut more = fixture::workload("keep-alive-256");
        more.connections = 256;
        evidence.workloads.push(more);
        for (name, rate) in [("rate-10k", "constant:10k"), ("rate-20k", "constant:20k")] {
            let mut open = fixture::workload(name);
            open.pace = rate.parse().unwrap();
            evidence.workloads.push(open);
        }
        evidence.workloads[2].requests_per_connection = 1;
        evidence.workloads[1].requests_per_connection = 10;
        evidence.workloads[3].pipeline = 16;
        evidence.workloads[0].analysis = "What <it> shows & \"how\".".to_owned();
        for round in 1..=5 {
            for (server, cpu) in [("event-loop", 7.0), ("thread-per-connection", 13.0)] {
                let drift = 1.0 + 0.002 * f64::from(round);
                for (workload, rate) in [
                    ("keep-alive-256", None),
                    ("rate-10k", Some(1e4)),
                    ("rate-20k", Some(2e4)),
                ] {
                    let mut cell = fixture::cell(server, workload, round, cpu * drift);
                    let limit = if cpu > 10.0 { 15e3 } else { 1e6 };
                    cell.requests_per_s = rate
                        .map(|rate: f64| rate.min(limit))
                        .or(cell.requests_per_s);
                    evidence.cells.push(cell);
                }
            }
        }
        for cell in &mut evidence.cells {
            cell.responses = Some(100_000);
            cell.server_cpu_user_s = Some(0.25);
            cell.server_cpu_system_s = Some(0.75);
            let threaded = cell.server == "thread-per-connection";
            cell.server_threads_max = Some(if threaded { 65 } else { 2 });
            cell.server_context_switches = Some(if threaded { 98_000 } else { 1_000 });
            let starves = cell
                .reasons
                .as_ref()
                .is_some_and(|it| it.contains("starved"));
            cell.connections_never_served = Some(if starves { 63 } else { 0 });
            cell.fairness_jain = Some(if starves { 0.0156 } else { 1.0 });
        }
        let row = |server: &str, workload: &str, name: &str, count| Row {
            server: server.to_owned(),
            workload: workload.to_owned(),
            started: String::new(),
            error: None,
            responses: 100,
            connections: 100,
            kind: Some(Kind::Call),
            name: name.to_owned(),
            count,
        };
        for workload in ["keep-alive", "new-connection"] {
            evidence.ledger.extend([
                row("event-loop", workload, "epoll_wait", 9),
                row("event-loop", workload, "recvfrom", 100),
                row("event-loop", workload, "sendto", 100),
                row("thread-per-connection", workload, "recvfrom", 101),
                row("thread-per-connection", workload, "sendto", 100),
            ]);
        }
        evidence.ledger.push(row(
            "thread-per-connection",
            "new-connection",
            "clone3",
            100,
        ));
        let mut latencies = Latencies::default();
        for (server, us) in [("event-loop", 300), ("iterative", 20)] {
            let mut histogram = latency_histogram();
            for n in 1..=500_u64 {
                record_ns(&mut histogram, us * 1_000 + us * n * n);
            }
            latencies.insert(server, "keep-alive", &histogram);
        }
        (evidence, latencies)
    }

    #[test]
    fn the_page_without_what_draws_it() {
        let (evidence, latencies) = evidence();
        let mut page = Page::of(&evidence, &latencies, "loadgen report x --html y", "");
        (page.css, page.js) = ("", "");
        page.palette.clear();
        let mut text = page.render().unwrap();
        for figure in page.figures() {
            text = text.replace(&figure.json, "{}");
        }
        insta::assert_snapshot!(text);
    }

    impl Page<'_> {
        fn figures(&self) -> impl Iterator<Item = &Figure> {
            let groups = [&self.overview, &self.by_connections, &self.by_rate];
            let ledgers = self.ledgers.iter().map(|it| &it.figures);
            let workloads = self.workloads.iter().map(|it| &it.figures);
            let all = groups.into_iter().chain(ledgers).chain(workloads).flatten();
            all.filter(|it| it.sentence.is_none())
        }
    }

    /// One of each kind.
    #[test]
    fn what_is_drawn() {
        let (evidence, latencies) = evidence();
        let page = Page::of(&evidence, &latencies, "loadgen", "");
        let wanted = [
            "cpu-by-connections-keep-alive",
            "p99-by-rate-keep-alive-constant",
            "cpu-by-workload",
            "calls-keep-alive",
            "latency-keep-alive",
        ];
        let drawn = wanted.map(|id| {
            let figure = page.figures().find(|it| it.id == id);
            let json = &figure.unwrap_or_else(|| panic!("{id} is not drawn")).json;
            assert!(!json.contains('<'), "it stands in a script element");
            let _: serde_json::Value = serde_json::from_str(json).unwrap();
            // A line for each list of series.
            format!("{id}\n{}", json.replace("},{", "},\n  {"))
        });
        insta::assert_snapshot!(drawn.join("\n\n"));
    }

    /// Servers with their cells: those that are shown, and those that are folded.
    type Rows<'a> = Vec<(&'a str, &'a [Cell])>;

    fn rows(grid: &Grid) -> (Rows<'_>, Rows<'_>) {
        let (mut shown, mut rest) = (Vec::new(), Vec::new());
        for line in &grid.lines {
            let Line::Row { cells, is_kept } = line else {
                panic!("{line:?} is no row");
            };
            let row = (line.server().unwrap().name.as_str(), cells.as_slice());
            match grid.folds(cells, *is_kept) {
                true => rest.push(row),
                false => shown.push(row),
            }
        }
        (shown, rest)
    }

    /// Every server stands in every table, and the page stays small.
    #[test]
    fn a_long_ladder_loses_nothing() {
        let evidence = fixture::ladder();
        assert_eq!((evidence.servers.len(), evidence.workloads.len()), (22, 40));
        let page = Page::of(&evidence, &Latencies::default(), "loadgen", "");
        assert!(page.standings.is_none());
        let mut columns = 0;
        for table in page.groups.iter().flat_map(|it| &it.tables) {
            let (shown, rest) = rows(&table.grid);
            let all_rows = || shown.iter().chain(&rest);
            let mut names: Vec<&str> = all_rows().map(|(server, _)| *server).collect();
            let columns = table.grid.header.len();
            assert!(all_rows().all(|(_, cells)| cells.len() == columns));
            assert!(columns - 1 <= 9, "{}", table.title);
            names.sort_unstable();
            let mut all: Vec<&str> = evidence.servers.iter().map(String::as_str).collect();
            all.sort_unstable();
            assert_eq!(names, all, "{}", table.title);
            let shown: Vec<&str> = shown.iter().map(|(server, _)| *server).collect();
            for server in ["floor", "nginx", "python-http-server"] {
                assert!(shown.contains(&server), "{}: {shown:?}", table.title);
            }
        }
        for group in &page.groups {
            let lead = &group.tables[0].grid;
            columns += lead.header.len() - 1;
            let (shown, _) = rows(lead);
            assert!(shown.len() < 16, "{}: {}", group.title, shown.len());
        }
        assert_eq!(columns, 40, "every workload stands in one group");
        for section in &page.workloads {
            let (shown, rest) = rows(&section.servers);
            assert_eq!(shown.len() + rest.len(), 22);
            let is_first = |cells: &[Cell]| match &cells[1] {
                Cell::Compared(cpu) => cpu.entry.rank == Some(1),
                other => panic!("{other:?} is no entry"),
            };
            assert!(shown.iter().any(|(_, cells)| is_first(cells)));
        }
        let (shown, rest) = rows(&page.fairness);
        assert_eq!(shown.len() + rest.len(), 22);
        let size = page.render().unwrap().len();
        assert!(size < 2_000_000, "{size} bytes beside plotly's");

        // Far beyond the others, it is named; a cell that is not compared is hollow.
        let figure = |id: &str| page.figures().find(|it| it.id == id).unwrap();
        let of = figure("cpu-by-connections-keep-alive");
        let beside = of.beside.as_deref().unwrap();
        assert!(beside.starts_with("python-http-server ("), "{beside}");
        let json: serde_json::Value = serde_json::from_str(&of.json).unwrap();
        let series = json["series"].as_array().unwrap();
        assert_eq!(series.len(), 21);
        let (shown, _) = rows(of.table.as_ref().unwrap());
        let mut servers = shown.iter().map(|(server, _)| *server);
        assert!(servers.any(|server| server == "python-http-server"));
        // Not compared under its third workload.
        let event_loop = series.iter().find(|it| it["server"] == 10).unwrap();
        assert_eq!(event_loop["hollow"], serde_json::json!([2]));
    }

    /// A table is drawn from a grid, as in every other format.
    #[test]
    fn the_template_draws_no_table() {
        let template = include_str!("page.html");
        for element in ["<table", "<thead", "<tbody", "<tr", "<th", "<td"] {
            assert!(!template.contains(element), "{element}");
        }
    }

    #[test]
    fn answers_in_words() {
        let (evidence, latencies) = evidence();
        let page = Page::of(&evidence, &latencies, "loadgen", "");
        insta::assert_debug_snapshot!(page.answers);
    }

    /// What the page shows can be printed, too.
    #[test]
    fn tables_in_other_formats() {
        let (evidence, latencies) = evidence();
        let page = Page::of(&evidence, &latencies, "loadgen", "");
        let section = &page.workloads[0];
        for (name, grid, in_text, in_markdown) in [
            (
                "ranks",
                page.standings.as_ref().unwrap(),
                "rate-10k",
                "| [rate-10k](#workload-rate-10k)<br>*keep-alive, open loop (constant) at 10,000/s, 64 connections* | \
                 **event-loop** | thread-per-connection has 1.86x (1.86–1.86) | **event-loop**<br>*lowest p99* |",
            ),
            (
                "fairness",
                &page.fairness,
                "63 unserved",
                "| iterative | **0.016**<br>*63 unserved* | 1.000 | n/a |",
            ),
            (
                "servers",
                &section.servers,
                "starved: 63 of 64 connections",
                "| event-loop | 7.96 (7.80–8.11)<br>#1 **best** |",
            ),
            (
                "percentiles",
                section.percentiles.as_ref().unwrap(),
                "p99.99",
                "| event-loop | 19,055 |",
            ),
            (
                "a chart",
                page.overview[0].table.as_ref().unwrap(),
                "not valid: starved",
                "| event-loop | keep-alive | 7.96 (7.80–8.11) µs CPU per request | |",
            ),
            ("a machine", &page.machine, "cpu_model", "| cpus | 2 |"),
        ] {
            let mut document = Document::default();
            document.table(name, "", grid.clone());
            let (text, markdown) = (document.text(WIDTH), document.markdown());
            assert!(text.contains(in_text), "{text}");
            assert!(markdown.contains(in_markdown), "{markdown}");
        }
    }

    /// Whatever is missing, there is a page.
    #[test]
    fn of_nothing() {
        for evidence in [
            fixture::evidence(&[], &[], Vec::new()),
            fixture::evidence(&["a"], &["w"], Vec::new()),
            fixture::evidence(&["a"], &["w"], vec![fixture::cell("a", "w", 1, 10.0)]),
        ] {
            let page = Page::of(&evidence, &Latencies::default(), "loadgen", "");
            assert!(
                page.render()
                    .unwrap()
                    .contains("System calls were not counted")
            );
        }
    }

    #[test]
    fn the_script_is_plotly_alone() {
        let script = plotly_script();
        assert!(script.contains("plotly.js v"), "{}", &script[..100]);
        assert!(!script.contains("</script"));
        // With what is for formulas it would be 6.7 MB.
        assert!(script.len() < 5_500_000, "{} bytes", script.len());
    }
}
