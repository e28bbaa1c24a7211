//! The ledger: what a request takes, by cause, for each server under each workload, and what an idle
//! connection takes in memory.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::table::{at_hyphens, wrapped};
use engine::figures::figure;
use engine::foreign::in_markdown as escaped;
use engine::verdict::Status;
use lab::compare::Evidence;
use lab::estimate::median;
use lab::set::Cell;
use lab::set::ledger;
use lab::set::ledger::Pass;
use subject::catalogue::Workload;
use subject::ledger::EVENTS;

/// For a terminal, no line wider than `width`; empty where nothing was counted.
pub fn text(evidence: &Evidence, width: usize) -> String {
    if evidence.ledger.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for account in accounts(evidence) {
        out += &wrapped(&account.title, "", width);
        out.push('\n');
        let servers = account.servers.len();
        let room = width.saturating_sub(LABEL_WIDTH) / (SERVER_WIDTH + 1);
        // So that none stands alone when they do not fit beside each other.
        let blocks = servers.div_ceil(room.max(1)).max(1);
        let at_once = servers.div_ceil(blocks).max(1);
        for first in (0..servers).step_by(at_once) {
            out += &block(&account, first..(first + at_once).min(servers));
            out.push('\n');
        }
    }
    for paragraph in notes(evidence) {
        out += &wrapped(&paragraph, "", width);
    }
    let gaps = gaps(evidence);
    if !gaps.is_empty() {
        out += &wrapped(GAPS, "", width);
    }
    out.extend(gaps.iter().map(|gap| wrapped(gap, "  ", width)));
    out
}

/// As Markdown, without a heading; empty where nothing was counted.
pub fn markdown(evidence: &Evidence) -> String {
    if evidence.ledger.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for account in accounts(evidence) {
        out += &format!("**{}**\n\n", account.title);
        out += &format!("| | {} |\n", account.servers.join(" | "));
        out += &format!("|---|{}\n", "---:|".repeat(account.servers.len()));
        for line in &account.lines {
            let label = match line.is_part {
                true => format!("&nbsp;&nbsp;{}", escaped(&line.label)),
                false => escaped(&line.label),
            };
            let values: Vec<String> = line.values.iter().map(|value| escaped(value)).collect();
            out += &format!("| {label} | {} |\n", values.join(" | "));
        }
        out.push('\n');
    }
    let notes: Vec<String> = notes(evidence).iter().map(|it| escaped(it)).collect();
    out += &notes.join("\n\n");
    out.push('\n');
    let gaps = gaps(evidence);
    if !gaps.is_empty() {
        out += &format!("\n{GAPS}\n\n");
    }
    for gap in gaps {
        out += &format!("- {}\n", escaped(&gap));
    }
    out
}

const LABEL_WIDTH: usize = 22;
const SERVER_WIDTH: usize = 10;

/// Fewer of a system call in a request are summed up: they are rests of something else.
const CALLS_SHOWN: f64 = 0.01;

const GAPS: &str = "Not counted:";

/// Marks a figure from the pass that counts.
const COUNTED: &str = "*";

/// A table: what something takes, by server.
struct Account {
    title: String,
    servers: Vec<String>,
    lines: Vec<Line>,
}

struct Line {
    label: String,
    /// Of the line before it that is none.
    is_part: bool,
    /// One a server.
    values: Vec<String>,
}

fn accounts(evidence: &Evidence) -> Vec<Account> {
    let workloads = evidence.workloads.iter();
    let mut accounts: Vec<Account> = workloads.map(|it| of_workload(evidence, it)).collect();
    accounts.extend(of_memory(evidence));
    accounts
}

/// What is known of one server under one workload.
struct Entry<'a> {
    cells: Vec<&'a Cell>,
    pass: Option<Pass>,
}

impl Entry<'_> {
    /// The median over rounds of what a cell says.
    fn cell(&self, of: impl Fn(&Cell) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.cells.iter().filter_map(|cell| of(cell)).collect();
        (!values.is_empty()).then(|| median(&mut values))
    }

    /// As above, for each response.
    fn per_request(&self, of: impl Fn(&Cell) -> Option<f64>) -> Option<f64> {
        self.cell(|cell| {
            let responses = cell.responses.filter(|&responses| responses > 0)?;
            Some(of(cell)? / responses as f64)
        })
    }

    fn event(&self, name: &str) -> Option<f64> {
        let pass = self.pass.as_ref()?;
        Some(pass.per_request(*pass.events.get(name)?))
    }

    fn calls(&self, of: impl Fn(&str, f64) -> bool) -> Option<f64> {
        let pass = self.pass.as_ref()?;
        let calls = pass
            .calls
            .iter()
            .map(|(name, &count)| (name, pass.per_request(count)));
        Some(calls.filter(|(name, n)| of(name, *n)).map(|it| it.1).sum())
    }
}

fn of_workload(evidence: &Evidence, workload: &Workload) -> Account {
    let counts = |cell: &&Cell| matches!(cell.verdict, Some(Status::Valid | Status::ClientBound));
    let entries: Vec<Entry<'_>> = (evidence.servers.iter())
        .map(|server| Entry {
            cells: (evidence.cells.iter())
                .filter(|cell| cell.server == *server && cell.workload == workload.name)
                .filter(counts)
                .collect(),
            pass: Pass::of(&evidence.ledger, server, &workload.name),
        })
        .collect();

    let mut lines = Vec::new();
    let mut line = |is_part: bool, label: &str, value: &dyn Fn(&Entry<'_>) -> Option<String>| {
        lines.push(Line {
            label: label.to_owned(),
            is_part,
            values: (entries.iter())
                .map(|entry| value(entry).unwrap_or_else(|| "-".to_owned()))
                .collect(),
        });
    };
    let whole = |count: Option<u64>| count.map(|count| count as f64);

    line(false, "CPU, µs", &|entry| {
        entry
            .cell(|cell| cell.server_cpu_us_per_request)
            .map(figure)
    });
    line(true, "user", &|entry| {
        let us = |cell: &Cell| Some(cell.server_cpu_user_s? * 1e6);
        entry.per_request(us).map(figure)
    });
    line(true, "system", &|entry| {
        let us = |cell: &Cell| Some(cell.server_cpu_system_s? * 1e6);
        entry.per_request(us).map(figure)
    });
    line(false, "run-queue delay, µs", &|entry| {
        let us = |cell: &Cell| Some(cell.server_run_delay_s? * 1e6);
        entry.per_request(us).map(figure)
    });
    line(false, "context switches", &|entry| {
        let of_cells = entry.per_request(|cell| whole(cell.server_context_switches));
        let counted = || Some(figure(entry.event(EVENTS[0])?) + COUNTED);
        of_cells.map(figure).or_else(counted)
    });
    line(true, "voluntary", &|entry| {
        let of = |cell: &Cell| whole(cell.server_context_switches_voluntary);
        entry.per_request(of).map(figure)
    });
    line(true, "involuntary", &|entry| {
        let of = |cell: &Cell| whole(cell.server_context_switches_involuntary);
        entry.per_request(of).map(figure)
    });
    line(false, "page faults", &|entry| {
        let of = |cell: &Cell| {
            whole(Some(
                cell.server_page_faults_minor? + cell.server_page_faults_major?,
            ))
        };
        entry.per_request(of).map(figure)
    });
    line(false, "system calls*", &|entry| {
        entry.calls(|_, _| true).map(figure)
    });
    for name in names(&entries) {
        line(true, &name, &|entry| {
            let count = entry.calls(|its, _| its == name)?;
            Some(shown(count))
        });
    }
    let named = names(&entries);
    let is_rest = |name: &str| !named.iter().any(|its| its == name);
    if entries
        .iter()
        .any(|entry| entry.calls(|name, _| is_rest(name)) > Some(0.0))
    {
        line(true, "further ones", &|entry| {
            entry.calls(|name, _| is_rest(name)).map(shown)
        });
    }
    line(false, "threads at once", &|entry| {
        entry.cell(|cell| whole(cell.server_threads_max)).map(count)
    });
    line(false, "files at once", &|entry| {
        entry.cell(|cell| whole(cell.server_files_max)).map(count)
    });
    line(false, "RSS at once, MiB", &|entry| {
        let mib = |cell: &Cell| Some(cell.server_rss_bytes_max? as f64 / f64::from(1 << 20));
        entry.cell(mib).map(figure)
    });
    type OfCell = fn(&Cell) -> Option<u64>;
    let network: [(&str, OfCell); 4] = [
        ("queue overflows**", |cell| cell.listen_overflows),
        ("listener drops**", |cell| cell.listen_drops),
        ("retransmits**", |cell| cell.tcp_retransmits),
        ("resets sent**", |cell| cell.tcp_resets_sent),
    ];
    for (label, of) in network {
        if entries
            .iter()
            .any(|entry| entry.cell(|cell| whole(of(cell))) > Some(0.0))
        {
            line(false, label, &|entry| {
                entry.cell(|cell| whole(of(cell))).map(count)
            });
        }
    }
    Account {
        title: format!("{}: {}", workload.name, unit(workload)),
        servers: evidence.servers.clone(),
        lines,
    }
}

/// What a figure is for.
fn unit(workload: &Workload) -> String {
    match workload.requests_per_connection {
        0 => "for each request".to_owned(),
        1 => "for each connection, which has one request".to_owned(),
        n => format!("for each request, with {n} on each connection"),
    }
}

/// System calls of which some server makes enough, those made most first.
fn names(entries: &[Entry<'_>]) -> Vec<String> {
    let mut most: std::collections::BTreeMap<&str, f64> = std::collections::BTreeMap::new();
    for pass in entries.iter().filter_map(|entry| entry.pass.as_ref()) {
        for (name, &count) in &pass.calls {
            let most = most.entry(name).or_default();
            *most = most.max(pass.per_request(count));
        }
    }
    let mut names: Vec<(&str, f64)> = most.into_iter().collect();
    names.retain(|&(name, n)| n >= CALLS_SHOWN && name != subject::ledger::OTHER);
    names.sort_by(|one, other| other.1.total_cmp(&one.1));
    names.into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// What never happens is easier to tell from what does.
fn shown(count: f64) -> String {
    match count {
        0.0 => "·".to_owned(),
        count => figure(count),
    }
}

fn count(value: f64) -> String {
    engine::figures::thousands(value.round() as u64)
}

/// Where memory was read.
fn of_memory(evidence: &Evidence) -> Option<Account> {
    let costs: Vec<_> = (evidence.servers.iter())
        .map(|server| ledger::idle_cost(&evidence.ledger, server))
        .collect();
    costs.iter().flatten().next()?;
    let value = |slope: Option<f64>| slope.map_or("-".to_owned(), |bytes| format!("{bytes:.0}"));
    let values = |of: fn(&subject::process::IdleCost) -> Option<f64>| {
        costs
            .iter()
            .map(|cost| value(cost.as_ref().and_then(of)))
            .collect()
    };
    let line = |label: &str, values| Line {
        label: label.to_owned(),
        is_part: false,
        values,
    };
    Some(Account {
        title: "Memory for each idle connection, bytes".to_owned(),
        servers: evidence.servers.clone(),
        lines: vec![
            line("of the server", values(|cost| cost.bytes_per_connection)),
            line(
                "of the kernel***",
                values(|cost| cost.kernel_bytes_per_connection),
            ),
        ],
    })
}

fn notes(evidence: &Evidence) -> Vec<String> {
    let mut notes = vec![
        "Medians over the rounds that count. * Counted in a pass of its own, because counting disturbs."
            .to_owned(),
        "** In a run, of the whole network namespace, the generator included. *** Kernel stacks and page \
         tables, without sockets. Switches and delay are only known where no threads come and go."
            .to_owned(),
    ];
    if let Some(error) = ledger::is_impossible(&evidence.ledger) {
        notes.push(format!("System calls were not counted: {error}"));
    }
    notes
}

/// The counts of these servers under these workloads, and their memory, for programs.
pub fn rows(evidence: &Evidence) -> Vec<&ledger::Row> {
    let is_shown = |row: &&ledger::Row| {
        let mut workloads = evidence.workloads.iter();
        let is_known = row.workload.is_empty() || workloads.any(|it| it.name == row.workload);
        is_known && evidence.servers.contains(&row.server)
    };
    evidence.ledger.iter().filter(is_shown).collect()
}

/// What was not counted, and why.
fn gaps(evidence: &Evidence) -> Vec<String> {
    let gap = |row: &ledger::Row| {
        let workload = match row.workload.as_str() {
            "" => "memory",
            name => name,
        };
        let error = row.error.as_ref()?;
        Some(format!("{workload}, {}: {error}", row.server))
    };
    let mut gaps: Vec<String> = rows(evidence).into_iter().filter_map(gap).collect();
    gaps.sort();
    gaps.dedup();
    gaps
}

fn block(account: &Account, columns: std::ops::Range<usize>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let names = account.servers[columns.clone()].iter();
    let names = names.map(|name| at_hyphens(name, SERVER_WIDTH));
    table.add_row([String::new()].into_iter().chain(names));
    let rule = "─".repeat(SERVER_WIDTH);
    let rules = columns.clone().map(|_| rule.clone());
    table.add_row(["─".repeat(LABEL_WIDTH - 1)].into_iter().chain(rules));
    for line in &account.lines {
        let label = match line.is_part {
            true => format!("  {}", line.label),
            false => line.label.clone(),
        };
        let values = line.values[columns.clone()].iter().cloned();
        table.add_row([label].into_iter().chain(values));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((1, 0));
    }
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 0));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::WIDTH;
    use lab::fixture;
    use lab::set::ledger::{PassKey, impossible};
    use subject::ledger::Kind;
    use subject::process::Memory;

    const NOW: &str = "2025-01-02T03:04:05Z";

    fn key(server: &str, workload: Option<&str>) -> PassKey {
        PassKey {
            server: server.to_owned(),
            workload: workload.map(str::to_owned),
        }
    }

    /// Six servers, two of which show what can be missing.
    fn evidence() -> Evidence {
        let servers = [
            "floor",
            "event-loop",
            "thread-per-connection",
            "thread-pool",
            "async-tasks",
            "nginx",
        ];
        let mut cells = Vec::new();
        for round in 1..=3 {
            for (index, server) in servers.into_iter().enumerate() {
                for (workload, factor) in [("keep-alive", 1.0), ("new-connection", 5.0)] {
                    let cpu_us = factor * (5.0 + index as f64 + 0.1 * f64::from(round));
                    let mut cell = fixture::cell(server, workload, round, cpu_us);
                    cell.responses = Some(100_000);
                    cell.server_cpu_user_s = Some(0.1 * cpu_us / 4.0);
                    cell.server_cpu_system_s = Some(0.1 * cpu_us * 3.0 / 4.0);
                    cell.server_page_faults_minor = Some(20);
                    cell.server_page_faults_major = Some(0);
                    cell.server_threads_max = Some(1);
                    cell.server_files_max = Some(1_070);
                    cell.server_rss_bytes_max = Some(5_400_000);
                    cell.tcp_resets_sent = Some(u64::from(workload == "new-connection") * 7);
                    cell.listen_overflows = Some(0);
                    if (server, workload) != ("thread-per-connection", "new-connection") {
                        cell.server_context_switches = Some(5_000);
                        cell.server_context_switches_voluntary = Some(4_900);
                        cell.server_context_switches_involuntary = Some(100);
                        cell.server_run_delay_s = Some(0.012);
                    }
                    if (server, workload) == ("thread-pool", "keep-alive") {
                        cell.verdict = Some(Status::Invalid);
                        cell.reasons = Some("starved".to_owned());
                    }
                    cells.push(cell);
                }
            }
        }
        let mut evidence = fixture::evidence(&servers, &["keep-alive", "new-connection"], cells);
        evidence.workloads[1].requests_per_connection = 1;
        for server in servers {
            let readings = [0, 500, 1_000].map(|connections| Memory {
                connections,
                bytes: 1_000_000 + 410 * connections,
                kernel_bytes: 2_000_000,
            });
            let memory = key(server, None);
            match server {
                "thread-pool" => {
                    let error = "only 1 of 1000 idle connections were served: first byte timeout";
                    evidence.ledger.push(memory.failed(NOW.to_owned(), error));
                    let error = "starved: 63 of 64 connections were never served";
                    let pass = key(server, Some("keep-alive"));
                    evidence.ledger.push(pass.failed(NOW.to_owned(), error));
                }
                _ => evidence.ledger.extend(memory.read(NOW, &readings)),
            }
            let events = EVENTS.map(|name| (Kind::Event, name, 1_500));
            for (workload, calls) in [
                (
                    "keep-alive",
                    &[("epoll_wait", 220), ("recvfrom", 1_000), ("sendto", 1_000)][..],
                ),
                (
                    "new-connection",
                    &[
                        ("accept4", 1_000),
                        (
                            "clone3",
                            u64::from(server.starts_with("thread-per")) * 1_000,
                        ),
                        ("close", 1_000),
                        ("mmap", 3),
                        ("other", 2),
                        ("recvfrom", 2_000),
                        ("sendto", 1_000),
                    ][..],
                ),
            ] {
                if (server, workload) == ("thread-pool", "keep-alive") {
                    continue;
                }
                let calls = calls.iter().map(|&(name, count)| (Kind::Call, name, count));
                let rows =
                    key(server, Some(workload)).counted(NOW, (1_000, 0), calls.chain(events));
                evidence.ledger.extend(rows);
            }
        }
        evidence
    }

    #[test]
    fn six_servers_on_a_terminal() {
        let text = text(&evidence(), WIDTH);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn six_servers_in_markdown() {
        insta::assert_snapshot!(markdown(&evidence()));
    }

    #[test]
    fn nothing_counted() {
        let mut evidence = fixture::five_servers();
        assert_eq!(text(&evidence, WIDTH), "");
        assert_eq!(markdown(&evidence), "");
        evidence.ledger = vec![impossible(NOW.to_owned(), "not permitted: do x")];
        for form in [text(&evidence, WIDTH), markdown(&evidence)] {
            assert!(
                form.contains("were not counted: not permitted: do x"),
                "{form}"
            );
            assert!(form.contains("CPU, µs"), "{form}");
        }
    }
}
