//! Predicted against measured, for a terminal and as Markdown.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::table::wrapped;
use engine::verdict::Status;
use lab::explain::words::us;
use lab::explain::{AIM, Explanation, Item, Server, Source, What, Workload};
use lab::primitives::{ALL, Primitive, Primitives};

/// Tables and sentences for a terminal of so many columns.
pub fn text(explanation: &Explanation, width: usize) -> String {
    let mut out =
        String::from("Predicted against measured: CPU microseconds per request, server side\n");
    for workload in &explanation.workloads {
        out += &format!("\n{}\n\n", workload.workload);
        out += &plain(&residuals(workload), &[0]);
        if !workload.comparisons.is_empty() {
            out.push('\n');
        }
        for comparison in &workload.comparisons {
            out += &wrapped(comparison, "  ", width);
        }
    }
    for paragraph in notes(explanation) {
        out.push('\n');
        out += &wrapped(&paragraph, "", width);
    }
    out
}

/// What each server's figure is added up of, for a terminal.
pub fn items_text(explanation: &Explanation) -> String {
    let mut out = String::new();
    for workload in &explanation.workloads {
        for server in &workload.servers {
            out += &format!("\n{} under {}\n\n", server.server, workload.workload);
            out += &plain(&items(server), &[0]);
        }
    }
    out
}

/// The price list, for a terminal.
pub fn primitives_text(primitives: &Primitives) -> String {
    let heading = "\nPrimitives of this machine: CPU microseconds each, median and quartiles\n\n";
    heading.to_owned() + &plain(&prices(primitives), &[0])
}

/// The same as a file.
pub fn markdown(explanation: &Explanation) -> String {
    let mut out =
        String::from("CPU microseconds per request, server side: predicted against measured.\n");
    for workload in &explanation.workloads {
        out += &format!("\n**{}**\n\n", workload.workload);
        out += &piped(&residuals(workload));
        if !workload.comparisons.is_empty() {
            out.push('\n');
        }
        for comparison in &workload.comparisons {
            out += &format!("- {comparison}\n");
        }
    }
    for paragraph in notes(explanation) {
        out += &format!("\n{paragraph}\n");
    }
    out
}

type Rows = Vec<Vec<String>>;

fn residuals(workload: &Workload) -> Rows {
    let header = ["server", "measured", "predicted", "residual", "", "scaled"];
    let percent = |share: f64| format!("{:+.0}%", share * 100.0);
    let row = |server: &Server| {
        let mark = match server.status {
            Status::Valid => "",
            Status::ClientBound => " ‡",
            Status::Invalid => " †",
        };
        let missed = if server.residual.abs() > AIM { "!" } else { "" };
        vec![
            format!("{}{mark}", server.server),
            us(server.measured_us),
            us(server.predicted_us),
            format!(
                "{}{}",
                sign(server.residual_us),
                us(server.residual_us.abs())
            ),
            format!("{}{missed}", percent(server.residual)),
            server.residual_scaled.map_or("-".to_owned(), percent),
        ]
    };
    with_header(&header, workload.servers.iter().map(row))
}

fn items(server: &Server) -> Rows {
    let header = ["item", "a request", "each", "us", "share"];
    let share = |us: f64| format!("{:.0}%", us / server.measured_us * 100.0);
    let row = |item: &Item| {
        let (count, each) = match item.source {
            Source::Taken => (String::new(), String::new()),
            Source::Predicted => (per_request(item.per_request), us(item.each_us)),
        };
        vec![
            item.what.title().to_owned(),
            count,
            each,
            us(item.us),
            share(item.us),
        ]
    };
    let residual = vec![
        "not explained".to_owned(),
        String::new(),
        String::new(),
        us(server.residual_us),
        share(server.residual_us),
    ];
    let sum = vec![
        "measured".to_owned(),
        String::new(),
        String::new(),
        us(server.measured_us),
        share(server.measured_us),
    ];
    let shown = server.items.iter().filter(|item| item.us >= SHOWN_US);
    let few: f64 = (server.items.iter().filter(|item| item.us < SHOWN_US))
        .map(|item| item.us)
        .sum();
    let few = (few > 0.0).then(|| {
        let empty = String::new;
        vec!["all else".to_owned(), empty(), empty(), us(few), share(few)]
    });
    let rows = shown.map(row).chain(few).chain([residual, sum]);
    with_header(&header, rows)
}

/// Items of less are shown together.
const SHOWN_US: f64 = 0.005;

fn prices(primitives: &Primitives) -> Rows {
    let header = ["primitive", "us", "p25", "p75", "samples"];
    let row = |primitive| {
        let cost = primitives.costs.get(primitive)?;
        Some(vec![
            primitive.title().to_owned(),
            fine(cost.us),
            fine(cost.us_p25),
            fine(cost.us_p75),
            cost.samples.to_string(),
        ])
    };
    with_header(&header, ALL.iter().filter_map(row))
}

fn with_header(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Rows {
    let header = header.iter().map(|&name| name.to_owned()).collect();
    [header].into_iter().chain(rows).collect()
}

fn sign(value: f64) -> &'static str {
    if value < 0.0 { "-" } else { "+" }
}

fn per_request(count: f64) -> String {
    match count {
        ..0.01 => format!("{count:.4}"),
        _ => format!("{count:.2}"),
    }
}

/// With three digits behind the point, as bytes cost little.
fn fine(us: f64) -> String {
    match us {
        ..9.9995 => format!("{us:.3}"),
        _ => format!("{us:.1}"),
    }
}

fn plain(rows: &Rows, left: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    for row in rows {
        table.add_row(row);
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        if !left.contains(&number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        column.set_padding((2, 0));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

fn piped(rows: &Rows) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        out += &line(row);
        if number == 0 {
            let rule = |column: usize| if column == 0 { "---" } else { "---:" };
            let rules: Vec<String> = (0..row.len()).map(|it| rule(it).to_owned()).collect();
            out += &line(&rules);
        }
    }
    out
}

/// Quartiles so far apart are of two kinds of costs, not of one that varies.
const UNSTEADY: f64 = 2.0;

/// What a residual comes to.
fn missing(server: &Server) -> String {
    let residual = us(server.residual_us.abs());
    let switch = server.items.iter().find(|item| item.what == What::Switch);
    match switch {
        _ if server.residual_us < 0.0 => format!("{residual} us too much"),
        // What a server with many threads does most, and what depends most on how busy the machine is.
        Some(switch) => {
            let switches = server.residual_us / switch.each_us;
            format!("{residual} us, as much as {switches:.2} more context switches between threads")
        }
        None => format!("{residual} us"),
    }
}

/// How to read it.
fn notes(explanation: &Explanation) -> Vec<String> {
    let mut notes = Vec::new();
    let servers = || explanation.workloads.iter().flat_map(|it| &it.servers);
    let mut legend = "Predicted: system calls and context switches by the ledger, each at its price on this \
                      machine, and the measured time of the server's own code. Residual: measured less \
                      predicted, and its share of the measured."
        .to_owned();
    match explanation.floor_ratio {
        Some(ratio) => {
            legend += &format!(
                " Scaled: the same, were every price {ratio:.2}x what it is now: so much did the floor cost in \
                 the set against its own prediction, which is the drift of the machine and what the \
                 prediction lacks for all alike."
            );
        }
        None => legend += " The set has no floor to scale by.",
    }
    notes.push(legend);
    let unsteady = [
        Primitive::SwitchIdle,
        Primitive::Switch,
        Primitive::WakePeer,
    ];
    notes.extend(unsteady.iter().filter_map(|&primitive| {
        let cost = explanation.primitives.costs.get(&primitive)?;
        (cost.us_p75 > UNSTEADY * cost.us_p25).then(|| {
            format!(
                "The price of one primitive was not steady: {}, {} to {} us (quartiles). Other programs had the \
                 CPUs for a part of the time, and whoever is woken on one that is idle pays less: measure again \
                 on a quiet machine before believing a residual.",
                primitive.title(),
                us(cost.us_p25),
                us(cost.us_p75)
            )
        })
    }));
    if servers().any(|server| server.status == Status::Invalid) {
        notes.push("† Not a valid measurement; explained all the same.".to_owned());
    }
    if servers().any(|server| server.status == Status::ClientBound) {
        notes.push("‡ The generator was the bottleneck.".to_owned());
    }
    let missed: Vec<String> = (explanation.workloads.iter())
        .flat_map(|workload| workload.servers.iter().map(move |it| (workload, it)))
        .filter(|(_, server)| server.residual.abs() > AIM)
        .map(|(workload, server)| {
            let (server, missing) = (&server.server, missing(server));
            format!("{server} under {} ({missing})", workload.workload)
        })
        .collect();
    if !missed.is_empty() {
        notes.push(format!(
            "! Not explained within {:.0}%: {}. What no item holds: caches that other threads or an idle time \
             have left cold, threads that were interrupted by other programs, timers, and interrupts that \
             were meant for somebody else.",
            AIM * 100.0,
            missed.join("; ")
        ));
    }
    for left_out in &explanation.left_out {
        notes.push(format!(
            "Left out: {} under {}: {}.",
            left_out.server, left_out.workload, left_out.reason
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::WIDTH;
    use lab::explain::{explain, fixture};

    fn all() -> Explanation {
        explain(&fixture::evidence(), fixture::primitives(), |_, _| true)
    }

    #[test]
    fn a_terminal_has_80_columns() {
        let explanation = all();
        let mut text = text(&explanation, WIDTH);
        text += &items_text(&explanation);
        text += &primitives_text(&explanation.primitives);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_price_of_two_kinds_is_told() {
        let mut explanation = all();
        let told = |explanation: &Explanation| text(explanation, 1_000).contains("was not steady");
        assert!(!told(&explanation));
        let cost = explanation.primitives.costs.get_mut(&Primitive::SwitchIdle);
        cost.unwrap().us_p25 = 3.0;
        assert!(told(&explanation));
    }

    #[test]
    fn as_markdown() {
        insta::assert_snapshot!(markdown(&all()));
    }

    /// Floating-point numbers may lose their last digit, which no output shows.
    #[test]
    fn json_can_be_read_again() {
        let explanation = all();
        let json = serde_json::to_string(&explanation).unwrap();
        let again: Explanation = serde_json::from_str(&json).unwrap();
        let shown = |explanation: &Explanation| {
            text(explanation, 80)
                + &items_text(explanation)
                + &primitives_text(&explanation.primitives)
        };
        assert_eq!(shown(&again), shown(&explanation));
    }
}
