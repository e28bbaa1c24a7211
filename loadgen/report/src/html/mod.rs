//! The page: one file that opens without a network, with charts drawn by plotly's own script.
//!
//! Everything drawn and said is decided here, from the evidence alone; `page.js` draws the charts that come
//! into view, and lets the reader choose servers and colours. It computes no figure.

mod answers;
mod groups;
mod plot;

use askama::Template;

use self::answers::Answer;
use self::groups::{Folded, Group};
use super::chart::ledger_bars::{Costs, Ledger};
use super::chart::style::{self, Style};
use super::chart::{self, Body, Chart, Findings, Load, LoadShape};
use super::{Faults, plural};
use crate::situations::{Podium, times};
use engine::figures::thousands;
use lab::compare::Latencies;
use lab::compare::{Entry, Evidence, Metric, Standing};
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
    standings: Vec<StandingsRow>,
    /// Of many.
    groups: Vec<Group>,
    overview: Vec<Figure>,
    by_connections: Vec<Figure>,
    by_rate: Vec<Figure>,
    ledgers: Vec<LedgerSection>,
    has_calls: bool,
    call_errors: Vec<String>,
    fairness: Fairness,
    workloads: Vec<Section>,
    verdicts: Vec<Verdicts>,
    machine: Vec<(String, String)>,
    build: Vec<(String, String)>,
    command: &'a str,
    commands: &'a [String],
    rounds: String,
    /// How servers look, for the script.
    servers: String,
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
    head: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
    /// Of the drawing, in pixels.
    height: usize,
    /// For the script.
    json: String,
}

/// Which server is first under a workload, and by how much.
#[derive(Debug)]
struct StandingsRow {
    workload: String,
    load: String,
    cpu: String,
    cpu_lead: String,
    /// Of throughput in closed loop, of p99 in open loop.
    by: &'static str,
    other: String,
    other_lead: String,
    is_decided: bool,
}

/// The ledger of a workload.
#[derive(Debug)]
struct LedgerSection {
    figures: Vec<Figure>,
}

/// How evenly servers served connections, under each workload whose connections stay open.
#[derive(Debug)]
struct Fairness {
    /// Workloads, each with its connections.
    head: Vec<(String, String)>,
    rows: Folded<FairnessRow>,
}

/// A server.
#[derive(Debug)]
struct FairnessRow {
    server: String,
    hue: usize,
    shares: Vec<Share>,
}

/// A server under a workload.
#[derive(Debug)]
struct Share {
    jain: String,
    never_served: String,
    starves: bool,
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
    rows: Folded<ServerRow>,
    percentiles: Vec<(String, Vec<String>)>,
    figures: Vec<Figure>,
    /// Without histograms there is no curve.
    lacks_curve: bool,
    has_floor: bool,
}

/// A server under a workload.
#[derive(Debug)]
struct ServerRow {
    server: String,
    hue: usize,
    is_ranked: bool,
    is_shown: bool,
    cpu: Value,
    of_floor: String,
    throughput: Value,
    p50: Value,
    p99: Value,
    verdict: String,
}

/// A figure with what it is compared by.
#[derive(Debug)]
struct Value {
    text: String,
    ratio: String,
    /// The ratio with its interval, where only a part of it is shown.
    whole: String,
    /// `#1=`.
    rank: String,
    is_first: bool,
}

/// More rows than this are folded.
const LINES_SHOWN: usize = 12;

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
            standings: match groups::is_large(&findings) {
                true => Vec::new(),
                false => standings(&findings),
            },
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
        let (head, rows) = table(chart);
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
            head,
            rows,
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

/// The same as a table: head, and rows by server. A curve has one of percentiles beside it.
fn table(chart: &Chart) -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match &chart.body {
        Body::Curves(_) => (Vec::new(), Vec::new()),
        Body::Lines(series) | Body::Dots(series) => {
            let rows = series.iter().flat_map(|it| {
                it.points.iter().map(|point| {
                    let mut row: Vec<String> = point.says.iter().take(2).cloned().collect();
                    row.push(point.says.get(2..).unwrap_or_default().join("; "));
                    (it.server.clone(), row)
                })
            });
            (words(&["server", "at", "value", "remark"]), rows.collect())
        }
        Body::Bars(bars) => {
            let mut head = words(&["server"]);
            head.extend(bars.parts.iter().map(|part| part.name.clone()));
            head.push("total".to_owned());
            let rows = bars.servers.iter().enumerate().map(|(at, server)| {
                let values = bars.parts.iter().map(|part| chart::number(part.values[at]));
                let total = chart::number(bars.total(at));
                (server.clone(), values.chain([total]).collect())
            });
            (head, rows.collect())
        }
    }
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

fn standings(findings: &Findings) -> Vec<StandingsRow> {
    let row = |workload: &Workload| {
        let name = &workload.name;
        let cpu = Podium::of(findings, Metric::Cpu, name);
        let (by, metric) = match workload.pace.rate() {
            Some(_) => ("lowest p99", Metric::P99),
            None => ("highest throughput", Metric::Throughput),
        };
        let other = Podium::of(findings, metric, name);
        StandingsRow {
            workload: name.clone(),
            load: load_of(workload),
            cpu: cpu.names(),
            cpu_lead: cpu.lead(),
            by,
            other: other.names(),
            other_lead: other.lead(),
            is_decided: !other.first.is_empty(),
        }
    };
    findings.evidence.workloads.iter().map(row).collect()
}

fn fairness(findings: &Findings) -> Fairness {
    let evidence = findings.evidence;
    // In open loop, and with new connections all the time, equal shares are not to be expected.
    let stays = |it: &&Workload| it.pace.rate().is_none() && it.requests_per_connection == 0;
    let workloads: Vec<&Workload> = evidence.workloads.iter().filter(stays).collect();
    let row = |server: &String| {
        let shares = workloads.iter().map(|workload| {
            let costs = Costs::of(findings, server, &workload.name);
            let never = costs.never_served;
            Share {
                jain: costs.jain.map_or("n/a".to_owned(), |it| format!("{it:.3}")),
                never_served: never.map_or("n/a".to_owned(), chart::count),
                starves: never.is_some_and(|it| it > 0.0),
            }
        });
        FairnessRow {
            server: server.clone(),
            hue: Style::of(evidence, server).hue,
            shares: shares.collect(),
        }
    };
    let rows = evidence.servers.iter().map(row).collect();
    Fairness {
        head: (workloads.iter())
            .map(|it| (it.name.clone(), connections_of(it)))
            .collect(),
        rows: Folded::of(findings, rows, |row| {
            let starves = row.shares.iter().any(|it| it.starves);
            starves || !groups::role(findings, &row.server).is_empty()
        }),
    }
}

impl Section {
    fn of(findings: &Findings, latencies: &Latencies, workload: &Workload) -> Self {
        let evidence = findings.evidence;
        let curve = chart::curve(findings, latencies, workload);
        let percentiles = evidence.servers.iter().filter_map(|server| {
            let histogram = latencies.get(server, &workload.name)?;
            Some((server.clone(), chart::percentiles(histogram)))
        });
        let mut rows: Vec<ServerRow> = (evidence.servers.iter())
            .map(|server| ServerRow::of(findings, workload, server))
            .collect();
        if groups::is_large(findings) {
            rows.sort_by_key(|row| {
                let entry = findings.entry(Metric::Cpu, &workload.name, &row.server);
                let is_other = !groups::role(findings, &row.server).is_empty();
                (is_other, entry.and_then(|it| it.rank).unwrap_or(u32::MAX))
            });
        }
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
            rows: Folded::of(findings, rows, |row| row.is_shown),
            percentiles: percentiles.collect(),
            lacks_curve: curve.is_none(),
            figures: curve.iter().map(|it| Figure::of(it, evidence)).collect(),
            has_floor: evidence.floor.is_some(),
        }
    }
}

impl ServerRow {
    fn of(findings: &Findings, workload: &Workload, server: &str) -> Self {
        let entry = |metric| findings.entry(metric, &workload.name, server);
        let value = |metric| Value::of(findings, metric, &workload.name, server);
        let by = [Metric::Cpu, Metric::P99];
        let is_on_podium = groups::is_on_podium(findings, &by, &workload.name, server);
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
        let cpu = entry(Metric::Cpu);
        ServerRow {
            server: server.to_owned(),
            hue: Style::of(findings.evidence, server).hue,
            is_shown: is_on_podium || !groups::role(findings, server).is_empty(),
            is_ranked: cpu.is_some_and(|entry| entry.standing == Standing::Ranked),
            cpu: value(Metric::Cpu),
            of_floor: (cpu.and_then(|entry| entry.of_floor.as_ref())).map_or(String::new(), times),
            throughput: value(Metric::Throughput),
            p50: value(Metric::P50),
            p99: value(Metric::P99),
            verdict: match (remarks.is_empty(), cpu.map(|it| it.standing)) {
                (true, Some(Standing::Ranked)) => "valid".to_owned(),
                (true, _) => "not measured".to_owned(),
                (false, _) => remarks.join("; "),
            },
        }
    }
}

impl Value {
    fn of(findings: &Findings, metric: Metric, workload: &str, server: &str) -> Self {
        let row = findings.row(metric, workload);
        let column = (findings.evidence.servers.iter()).position(|it| it == server);
        let entry = findings.entry(metric, workload, server);
        let mark = row.zip(column).and_then(|(row, at)| row.rank_mark(at));
        Value {
            text: entry.map_or("-".to_owned(), |entry| chart::value_text(entry, metric)),
            ratio: entry.map_or(String::new(), ratio_text),
            whole: String::new(),
            rank: mark.unwrap_or_default(),
            is_first: entry.is_some_and(|it| it.rank == Some(1)),
        }
    }

    /// Without intervals, which the table of the workload has, and with a word on why it is not compared.
    fn short(findings: &Findings, metric: Metric, workload: &str, server: &str) -> Self {
        let mut value = Value::of(findings, metric, workload, server);
        let Some(entry) = findings.entry(metric, workload, server) else {
            return value;
        };
        if let Some(estimate) = &entry.value {
            value.text = chart::number(estimate.value);
        }
        if let (Some(ratio), false) = (&entry.ratio, entry.is_best || entry.is_sparse) {
            value.whole = std::mem::take(&mut value.ratio);
            value.ratio = match entry.is_unresolved {
                true => "not resolved".to_owned(),
                false => format!("{}x", chart::number(ratio.value)),
            };
        }
        let word = match entry.standing {
            Standing::ClientBound => "client-bound",
            Standing::NotValid => "not valid",
            Standing::Ranked | Standing::Failed | Standing::Missing => "",
        };
        if !word.is_empty() && value.ratio.is_empty() {
            value.ratio = word.to_owned();
        }
        value
    }
}

fn ratio_text(entry: &Entry) -> String {
    let ratio = || entry.ratio.as_ref().map_or(String::new(), times);
    match () {
        () if entry.is_sparse => "too few rounds".to_owned(),
        () if entry.is_best => "best".to_owned(),
        () if entry.is_unresolved => format!("not resolved: {}", ratio()),
        () => ratio(),
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

fn machine(machine: &Machine) -> Vec<(String, String)> {
    rows_of(&toml::Value::try_from(machine).expect("a machine is a table"))
}

fn build(evidence: &Evidence) -> Vec<(String, String)> {
    rows_of(&toml::Value::try_from(&evidence.build).expect("a build is a table"))
}

/// A table of values with the path to each.
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

    /// Every server stands in every table, and the page stays small.
    #[test]
    fn a_long_ladder_loses_nothing() {
        let evidence = fixture::ladder();
        assert_eq!((evidence.servers.len(), evidence.workloads.len()), (22, 40));
        let page = Page::of(&evidence, &Latencies::default(), "loadgen", "");
        assert!(page.standings.is_empty());
        let mut columns = 0;
        for table in page.groups.iter().flat_map(|it| &it.tables) {
            let rows = || table.rows.shown.iter().chain(&table.rows.rest);
            let mut names: Vec<&str> = rows().map(|it| it.server.as_str()).collect();
            assert!(rows().all(|it| it.values.len() == table.head.len()));
            assert!(table.head.len() <= 9, "{}", table.title);
            names.sort_unstable();
            let mut all: Vec<&str> = evidence.servers.iter().map(String::as_str).collect();
            all.sort_unstable();
            assert_eq!(names, all, "{}", table.title);
            let shown: Vec<&str> = table
                .rows
                .shown
                .iter()
                .map(|it| it.server.as_str())
                .collect();
            for server in ["floor", "nginx", "python-http-server"] {
                assert!(shown.contains(&server), "{}: {shown:?}", table.title);
            }
        }
        for group in &page.groups {
            let lead = &group.tables[0];
            columns += lead.head.len();
            assert!(
                lead.rows.shown.len() < 16,
                "{}: {}",
                group.title,
                lead.rows.shown.len()
            );
        }
        assert_eq!(columns, 40, "every workload stands in one group");
        for section in &page.workloads {
            assert_eq!(section.rows.shown.len() + section.rows.rest.len(), 22);
            assert!(section.rows.shown.iter().any(|it| it.cpu.is_first));
        }
        assert_eq!(
            page.fairness.rows.shown.len() + page.fairness.rows.rest.len(),
            22
        );
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
        assert!(
            of.rows
                .iter()
                .any(|(server, _)| server == "python-http-server")
        );
        // Not compared under its third workload.
        let event_loop = series.iter().find(|it| it["server"] == 10).unwrap();
        assert_eq!(event_loop["hollow"], serde_json::json!([2]));
    }

    #[test]
    fn answers_in_words() {
        let (evidence, latencies) = evidence();
        let page = Page::of(&evidence, &latencies, "loadgen", "");
        insta::assert_debug_snapshot!(page.answers);
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
