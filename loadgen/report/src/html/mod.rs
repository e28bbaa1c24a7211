//! The page: one file that opens without a network, with the charts drawn by plotly's own script.
//!
//! What is drawn and said is made here, from the evidence alone; `page.js` draws the charts and lets the
//! reader switch servers and colours, and knows no figure.

mod answers;
mod plot;

use askama::Template;

use self::answers::Answer;
use super::chart::ledger::{Costs, Ledger};
use super::chart::style::{Style, hex};
use super::chart::{self, Body, Chart, Findings, Load, LoadShape};
use super::latencies::Latencies;
use super::{Faults, plural};
use crate::situations::{Podium, times};
use engine::figures::thousands;
use lab::compare::{Entry, Evidence, Metric, Standing};
use lab::set::ledger::Pass;
use subject::catalogue::Workload;
use subject::machine::Machine;

/// The page as HTML. `command` is the one that makes it.
pub fn page(evidence: &Evidence, latencies: &Latencies, command: &str) -> String {
    let script = plotly_script();
    let page = Page::of(evidence, latencies, command, &script);
    page.render()
        .expect("the template is filled by this type alone")
}

/// plotly's script without that for formulas, which comes with it and is larger than all the rest.
fn plotly_script() -> String {
    let scripts = plotly::Plot::offline_js_sources();
    let begin = scripts.find('>').map_or(0, |at| at + 1);
    let end = scripts.find("</script>").unwrap_or(scripts.len());
    scripts[begin..end].to_owned()
}

/// All that stands on the page.
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
    standings: Vec<StandingsRow>,
    overview: Vec<Figure>,
    by_connections: Vec<Figure>,
    by_rate: Vec<Figure>,
    ledgers: Vec<LedgerSection>,
    has_calls: bool,
    call_errors: Vec<String>,
    fairness: Vec<FairnessRow>,
    workloads: Vec<Section>,
    verdicts: Vec<(&'static str, Vec<String>)>,
    machine: Vec<(String, String)>,
    build: Vec<(String, String)>,
    command: &'a str,
    commands: &'a [String],
    rounds: String,
    plots: String,
    css: &'static str,
    js: &'static str,
    plotly: &'a str,
}

/// A server as it looks in every chart.
#[derive(Debug)]
struct Look {
    server: String,
    about: &'static str,
    colour: String,
    dashes: String,
    shape: &'static str,
}

/// A chart with its table.
#[derive(Debug)]
struct Figure {
    id: String,
    title: String,
    alt: String,
    /// Names and colours of the parts of bars.
    parts: Vec<(String, String)>,
    is_wide: bool,
    has_marked: bool,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    /// For plotly.
    json: String,
}

/// Who is first under a workload, and by how much.
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
    workload: String,
    figures: Vec<Figure>,
}

/// Who was served under a workload, by server.
#[derive(Debug)]
struct FairnessRow {
    workload: String,
    connections: String,
    /// Jain's index, connections never served, and whether any was not.
    servers: Vec<(String, String, bool)>,
}

/// A workload.
#[derive(Debug)]
struct Section {
    workload: String,
    load: String,
    analysis: String,
    rows: Vec<ServerRow>,
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
    colour: String,
    is_ranked: bool,
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
    rank: Option<u32>,
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
                .filter_map(|kind| chart::ledger::chart(&findings, workload, kind))
                .map(figure)
                .collect()
        };
        let ledgers: Vec<LedgerSection> = (main.iter())
            .map(|workload| LedgerSection {
                workload: workload.name.clone(),
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
        let mut page = Page {
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
            standings: standings(&findings),
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
            verdicts: Faults::sorted(&faults).paragraphs(),
            machine: machine(&evidence.machine),
            build: build(evidence),
            command,
            commands: &evidence.commands,
            rounds: plural(evidence.rounds, "round"),
            plots: String::new(),
            css: include_str!("../../../page.css"),
            js: include_str!("page.js"),
            plotly,
        };
        page.plots = page.plots();
        page
    }

    fn figures(&self) -> impl Iterator<Item = &Figure> {
        let groups = [&self.overview, &self.by_connections, &self.by_rate];
        let ledgers = self.ledgers.iter().map(|it| &it.figures);
        let workloads = self.workloads.iter().map(|it| &it.figures);
        groups.into_iter().chain(ledgers).chain(workloads).flatten()
    }

    /// All plots by the id of their figure, as JSON that may stand in a script element.
    fn plots(&self) -> String {
        let plots = self.figures().map(|figure| {
            let id = serde_json::to_string(&figure.id).expect("text becomes JSON");
            format!("{id}:{}", figure.json)
        });
        let plots: Vec<String> = plots.collect();
        format!("{{{}}}", plots.join(",\n")).replace('<', "\\u003c")
    }
}

impl Look {
    fn of(evidence: &Evidence, server: &str) -> Self {
        let style = Style::of(evidence, server);
        Look {
            server: server.to_owned(),
            about: match (evidence.is_floor(server), evidence.competes(server)) {
                (true, _) => "the floor: not ranked",
                (_, false) => "not ours: not ranked",
                _ => "",
            },
            colour: hex(style.colour),
            dashes: plot::dash_array(style.dashes),
            shape: plot::shape_path(style.shape),
        }
    }
}

impl Figure {
    fn of(chart: &Chart, evidence: &Evidence) -> Self {
        let (head, rows) = table(chart);
        let is_marked = |is_sound: &bool| !is_sound;
        Figure {
            id: chart.id.clone(),
            title: chart.title.clone(),
            alt: chart.alt(),
            parts: match &chart.body {
                Body::Bars(bars) => (bars.parts.iter().enumerate())
                    .map(|(at, part)| (part.name.clone(), hex(plot::part_colour(at))))
                    .collect(),
                _ => Vec::new(),
            },
            is_wide: matches!(chart.body, Body::Dots(_)),
            has_marked: match &chart.body {
                Body::Bars(bars) => bars.is_sound.iter().any(is_marked),
                Body::Lines(series) | Body::Curves(series) | Body::Dots(series) => series
                    .iter()
                    .flat_map(|it| &it.points)
                    .any(|point| !point.is_sound),
            },
            head,
            rows,
            json: plot::json(chart, evidence),
        }
    }
}

/// The same as a table; of a curve there is one beside it already.
fn table(chart: &Chart) -> (Vec<String>, Vec<Vec<String>>) {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match &chart.body {
        Body::Curves(_) => (Vec::new(), Vec::new()),
        Body::Lines(series) | Body::Dots(series) => {
            let rows = series.iter().flat_map(|it| {
                it.points.iter().map(|point| {
                    let mut row = vec![it.server.clone()];
                    row.extend(point.says.iter().take(2).cloned());
                    row.push(point.says.get(2..).unwrap_or_default().join("; "));
                    row
                })
            });
            (words(&["server", "at", "value", "remark"]), rows.collect())
        }
        Body::Bars(bars) => {
            let mut head = words(&["server"]);
            head.extend(bars.parts.iter().map(|part| part.name.clone()));
            head.push("together".to_owned());
            let rows = bars.servers.iter().enumerate().map(|(at, server)| {
                let values = bars.parts.iter().map(|part| part.values[at]);
                let mut row = vec![server.clone()];
                row.extend(values.clone().map(chart::number));
                row.push(chart::number(values.sum()));
                row
            });
            (head, rows.collect())
        }
    }
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

fn fairness(findings: &Findings) -> Vec<FairnessRow> {
    let evidence = findings.evidence;
    let row = |workload: &Workload| {
        let servers = evidence.servers.iter().map(|server| {
            let costs = Costs::of(findings, server, &workload.name);
            let jain = costs.jain.map_or("n/a".to_owned(), |it| format!("{it:.3}"));
            let never = costs.never_served;
            (
                jain,
                never.map_or("n/a".to_owned(), chart::count),
                never.is_some_and(|it| it > 0.0),
            )
        });
        FairnessRow {
            workload: workload.name.clone(),
            connections: connections_of(workload),
            servers: servers.collect(),
        }
    };
    // In open loop, and with new ones all the time, connections are not meant to have equal shares.
    let stays = |it: &&Workload| it.pace.rate().is_none() && it.requests_per_connection == 0;
    evidence.workloads.iter().filter(stays).map(row).collect()
}

impl Section {
    fn of(findings: &Findings, latencies: &Latencies, workload: &Workload) -> Self {
        let evidence = findings.evidence;
        let curve = chart::curve(findings, latencies, workload);
        let percentiles = evidence.servers.iter().filter_map(|server| {
            let histogram = latencies.of(server, &workload.name)?;
            Some((server.clone(), chart::percentiles(histogram)))
        });
        Section {
            workload: workload.name.clone(),
            load: load_of(workload),
            analysis: workload.analysis.trim().to_owned(),
            rows: (evidence.servers.iter())
                .map(|server| ServerRow::of(findings, workload, server))
                .collect(),
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
        let value = |metric| Value::of(entry(metric), metric);
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
            colour: hex(Style::of(findings.evidence, server).colour),
            is_ranked: cpu.is_some_and(|entry| entry.standing == Standing::Ranked),
            cpu: value(Metric::Cpu),
            of_floor: (cpu.and_then(|entry| entry.of_floor.as_ref())).map_or(String::new(), times),
            throughput: value(Metric::Throughput),
            p50: value(Metric::P50),
            p99: value(Metric::P99),
            verdict: match (remarks.is_empty(), cpu.map(|it| it.standing)) {
                (true, Some(Standing::Ranked)) => "valid".to_owned(),
                (true, _) => "never tried".to_owned(),
                (false, _) => remarks.join("; "),
            },
        }
    }
}

impl Value {
    fn of(entry: Option<&Entry>, metric: Metric) -> Self {
        Value {
            text: entry.map_or("-".to_owned(), |entry| chart::value_text(entry, metric)),
            ratio: match entry {
                Some(entry) if entry.is_sparse => "too few rounds".to_owned(),
                Some(entry) if entry.is_best => "best".to_owned(),
                Some(entry) if entry.is_unresolved => {
                    format!(
                        "not resolved: {}",
                        entry.ratio.as_ref().map_or(String::new(), times)
                    )
                }
                Some(entry) => entry.ratio.as_ref().map_or(String::new(), times),
                None => String::new(),
            },
            rank: entry.and_then(|entry| entry.rank),
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
    use lab::set::ledger::Row;
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
        (page.plots, page.css, page.js) = ("{}".to_owned(), "", "");
        insta::assert_snapshot!(page.render().unwrap());
    }

    /// One of each kind.
    #[test]
    fn what_is_drawn() {
        let (evidence, latencies) = evidence();
        let page = Page::of(&evidence, &latencies, "loadgen", "");
        let plots: serde_json::Value = serde_json::from_str(&page.plots).unwrap();
        let wanted = [
            "cpu-by-connections-keep-alive",
            "p99-by-rate-keep-alive-constant",
            "calls-keep-alive",
            "latency-keep-alive",
        ];
        let plots = wanted.map(|id| (id, plots[id].clone()));
        insta::assert_snapshot!(serde_json::to_string_pretty(&plots).unwrap());
        assert!(!page.plots.contains('<'), "it stands in a script element");
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
