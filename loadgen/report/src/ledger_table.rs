//! The ledger: what a request takes, by cause, for each server under each workload, and what an idle
//! connection takes in memory.

use super::by_workload;
use super::document::Document;
use super::grid::{Blocks, Cell, Grid};
use super::table::Shown;
use engine::figures::figure;
use engine::verdict::Status;
use lab::compare::Evidence;
use lab::estimate::median;
use lab::set::Cell as Measured;
use lab::set::ledger_rows;
use lab::set::ledger_rows::Pass;
use subject::catalogue::Workload;
use subject::ledger::EVENTS;

const BLOCKS: Blocks = Blocks {
    margin: 0,
    name: 21,
    name_min: 21,
    figures: &[10],
};

/// For any format; empty where nothing was counted. Of many servers, a table has those that cost least.
pub fn document(evidence: &Evidence, shown: &Shown) -> Document {
    let mut document = Document::default();
    if evidence.ledger.is_empty() {
        return document;
    }
    for account in accounts(evidence) {
        let columns = account.columns(evidence, shown);
        let servers = columns.iter().map(|&at| &account.servers[at]);
        let servers = servers.map(|server| Cell::Name(server.clone()));
        let header = [Cell::from("")].into_iter().chain(servers);
        let mut grid = Grid::new(header, 1).in_blocks(BLOCKS);
        for line in &account.lines {
            let label = match line.is_part {
                true => Cell::Part(line.label.clone()),
                false => Cell::from(line.label.clone()),
            };
            let values = columns.iter().map(|&at| Cell::from(&*line.values[at]));
            grid.row([label].into_iter().chain(values));
        }
        document.table(&account.title, "", grid);
        let folded = account.servers.len() - columns.len();
        if let Some(fold) = shown.fold(evidence).filter(|_| folded > 0) {
            document.paragraph(fold.line(folded) + ".");
        }
    }
    document.paragraph(
        "Medians over the rounds that count. Switches and delay are known only where no threads come and go.",
    );
    let marks = MARKS.map(|(mark, meaning)| format!("{mark} {meaning}"));
    document.list("Marks:", marks.to_vec());
    let error = ledger_rows::is_impossible(&evidence.ledger);
    document.list(
        "System calls were not counted:",
        error.map(str::to_owned).into_iter().collect(),
    );
    document.list("Not counted:", gaps(evidence));
    document
}

/// System calls that are rarer than this per request are summed up.
const CALLS_SHOWN: f64 = 0.01;

/// Marks a figure from the pass that counts.
const COUNTED: &str = "*";

const MARKS: [(&str, &str); 3] = [
    (
        COUNTED,
        "counted in a separate pass, because counting disturbs",
    ),
    (
        "**",
        "during a run, for the whole network namespace, the generator included",
    ),
    ("***", "kernel stacks and page tables, without sockets"),
];

/// A table: what something takes, by server.
struct Account {
    title: String,
    servers: Vec<String>,
    /// What each server costs in all, as far as that is known.
    costs: Vec<Option<f64>>,
    lines: Vec<Line>,
}

struct Line {
    label: String,
    /// It is a part of the last line that is not a part.
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

/// How many of many servers have a column.
const LEAST: usize = 3;

impl Account {
    /// Which servers have a column.
    fn columns(&self, evidence: &Evidence, shown: &Shown) -> Vec<usize> {
        let all = 0..self.servers.len();
        if shown.fold(evidence).is_none() {
            return all.collect();
        }
        let competes = |at: &usize| evidence.competes(&self.servers[*at]);
        let mut order: Vec<(f64, usize)> = (all.clone().filter(competes))
            .filter_map(|at| Some((self.costs[at]?, at)))
            .collect();
        order.sort_by(|one, other| one.0.total_cmp(&other.0));
        order.truncate(LEAST);
        let is_shown = |at: &usize| {
            order.iter().any(|(_, least)| least == at)
                || shown.is_kept(evidence, &self.servers[*at])
        };
        all.filter(is_shown).collect()
    }
}

/// What is known of one server under one workload.
struct Entry<'a> {
    cells: Vec<&'a Measured>,
    pass: Option<Pass>,
}

impl Entry<'_> {
    /// The median over rounds of what a cell says.
    fn cell(&self, of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.cells.iter().filter_map(|cell| of(cell)).collect();
        (!values.is_empty()).then(|| median(&mut values))
    }

    /// The median over rounds of what a cell says, divided by its responses.
    fn per_request(&self, of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
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
    let counts =
        |cell: &&Measured| matches!(cell.verdict, Some(Status::Valid | Status::ClientBound));
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
        let us = |cell: &Measured| Some(cell.server_cpu_user_s? * 1e6);
        entry.per_request(us).map(figure)
    });
    line(true, "system", &|entry| {
        let us = |cell: &Measured| Some(cell.server_cpu_system_s? * 1e6);
        entry.per_request(us).map(figure)
    });
    line(false, "run-queue delay, µs", &|entry| {
        let us = |cell: &Measured| Some(cell.server_run_delay_s? * 1e6);
        entry.per_request(us).map(figure)
    });
    line(false, "context switches", &|entry| {
        let of_cells = entry.per_request(|cell| whole(cell.server_context_switches));
        let counted = || Some(figure(entry.event(EVENTS[0])?) + COUNTED);
        of_cells.map(figure).or_else(counted)
    });
    line(true, "voluntary", &|entry| {
        let of = |cell: &Measured| whole(cell.server_context_switches_voluntary);
        entry.per_request(of).map(figure)
    });
    line(true, "involuntary", &|entry| {
        let of = |cell: &Measured| whole(cell.server_context_switches_involuntary);
        entry.per_request(of).map(figure)
    });
    line(false, "page faults", &|entry| {
        let of = |cell: &Measured| {
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
        let mib = |cell: &Measured| Some(cell.server_rss_bytes_max? as f64 / f64::from(1 << 20));
        entry.cell(mib).map(figure)
    });
    type OfCell = fn(&Measured) -> Option<u64>;
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
        costs: (entries.iter())
            .map(|entry| entry.cell(|cell| cell.server_cpu_us_per_request))
            .collect(),
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

/// System calls that some server makes often enough, the most frequent first.
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

/// A dot for zero: calls that never happen stand out.
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
        .map(|server| ledger_rows::idle_cost(&evidence.ledger, server))
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
        costs: (costs.iter())
            .map(|cost| cost.as_ref()?.bytes_per_connection)
            .collect(),
        lines: vec![
            line("of the server", values(|cost| cost.bytes_per_connection)),
            line(
                "of the kernel***",
                values(|cost| cost.kernel_bytes_per_connection),
            ),
        ],
    })
}

/// The counts of these servers under these workloads, and their memory, for programs.
pub fn rows(evidence: &Evidence) -> Vec<&ledger_rows::Row> {
    let is_shown = |row: &&ledger_rows::Row| {
        let mut workloads = evidence.workloads.iter();
        let is_known = row.workload.is_empty() || workloads.any(|it| it.name == row.workload);
        is_known && evidence.servers.contains(&row.server)
    };
    evidence.ledger.iter().filter(is_shown).collect()
}

/// What was not counted, and why.
fn gaps(evidence: &Evidence) -> Vec<String> {
    let gap = |row: &&ledger_rows::Row| -> Option<(String, String, String)> {
        let workload = match row.workload.as_str() {
            "" => "memory",
            name => name,
        };
        let error = row.error.clone()?;
        Some((workload.to_owned(), row.server.clone(), error))
    };
    let mut gaps: Vec<_> = rows(evidence).iter().filter_map(gap).collect();
    gaps.sort();
    gaps.dedup();
    let said = gaps
        .iter()
        .map(|(workload, server, error)| (workload.as_str(), server.as_str(), error.clone()));
    by_workload(said, ": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::WIDTH;
    use lab::fixture;
    use lab::set::ledger_rows::{PassKey, impossible};
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
        let text = document(&evidence(), &Shown::default()).text(WIDTH);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn six_servers_in_markdown() {
        let document = document(&evidence(), &Shown::default());
        insta::assert_snapshot!(document.markdown());
    }

    /// Of many servers, the three with the least CPU time under a workload, the floor, and those asked for.
    #[test]
    fn many_servers_fold_to_the_cheapest() {
        let mut evidence = fixture::many_servers();
        evidence.workloads.truncate(1);
        evidence.ledger = vec![impossible(NOW.to_owned(), "not permitted")];
        let shown = Shown {
            also: vec!["nginx".to_owned()],
            ..Shown::podium("--all")
        };
        let account = of_workload(&evidence, &evidence.workloads[0]);
        let names = |shown: &Shown| -> Vec<&str> {
            let columns = account.columns(&evidence, shown).into_iter();
            columns.map(|at| account.servers[at].as_str()).collect()
        };
        let expected = ["iterative", "prethreaded", "coroutines", "nginx", "floor"];
        assert_eq!(names(&shown), expected);
        assert_eq!(names(&Shown::default()).len(), evidence.servers.len());
        let text = document(&evidence, &shown).text(WIDTH);
        assert!(
            text.contains("17 more servers: `--all` shows them.\n"),
            "{text}"
        );
    }

    #[test]
    fn nothing_counted() {
        let mut evidence = fixture::five_servers();
        let document = |evidence: &Evidence| document(evidence, &Shown::default());
        assert_eq!(document(&evidence).text(WIDTH), "");
        evidence.ledger = vec![impossible(NOW.to_owned(), "not permitted: do x")];
        let document = document(&evidence);
        for form in [document.text(WIDTH), document.markdown()] {
            let words: Vec<&str> = form.split_ascii_whitespace().collect();
            let form = words.join(" ");
            assert!(form.contains("System calls were not counted:"), "{form}");
            assert!(form.contains("not permitted: do x"), "{form}");
            assert!(form.contains("CPU, µs"), "{form}");
        }
    }
}
