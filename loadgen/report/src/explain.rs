//! Predicted against measured, for any format.

use super::document::Document;
use super::grid::{Cell, Grid};
use engine::verdict::Status;
use lab::explain::words::us;
use lab::explain::{AIM, Explanation, Item, Server, Source, What, Workload};
use lab::primitives::{ALL, Primitive, Primitives};

/// Tables and sentences; with `items` also the items of each server's sum, and the price list.
pub fn document(explanation: &Explanation, items: bool) -> Document {
    let mut document = Document::default();
    document.paragraph("Predicted against measured: CPU microseconds per request, server side");
    for workload in &explanation.workloads {
        document.table(&workload.workload, "", residuals(workload));
        document.list("", workload.comparisons.clone());
    }
    for paragraph in notes(explanation) {
        document.paragraph(paragraph);
    }
    if !items {
        return document;
    }
    for workload in &explanation.workloads {
        for server in &workload.servers {
            let title = format!("{} under {}", server.server, workload.workload);
            document.table(&title, "", sum(server));
        }
    }
    let title = "Primitives of this machine: CPU microseconds each, median and quartiles";
    document.table(title, "", prices(&explanation.primitives));
    document
}

fn residuals(workload: &Workload) -> Grid {
    let header = ["server", "measured", "predicted", "residual", "", "scaled"];
    let mut grid = Grid::new(header, 1).wide(2);
    let percent = |share: f64| format!("{:+.0}%", share * 100.0);
    for server in &workload.servers {
        let mark = match server.status {
            Status::Valid => "",
            Status::ClientBound => " ‡",
            Status::Invalid => " †",
        };
        let missed = if server.residual.abs() > AIM { "!" } else { "" };
        grid.row([
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
        ]);
    }
    grid
}

fn sum(server: &Server) -> Grid {
    let mut grid = Grid::new(["item", "per request", "each", "us", "share"], 1).wide(2);
    let mut row = |what: &str, [count, each]: [String; 2], its_us: f64| {
        let share = format!("{:.0}%", its_us / server.measured_us * 100.0);
        grid.row([what.to_owned(), count, each, us(its_us), share]);
    };
    let none = || [String::new(), String::new()];
    let is_shown = |item: &&Item| item.us >= SHOWN_US;
    for item in server.items.iter().filter(is_shown) {
        let figures = match item.source {
            Source::Taken => none(),
            Source::Predicted => [per_request(item.per_request), us(item.each_us)],
        };
        row(item.what.title(), figures, item.us);
    }
    let few = server.items.iter().filter(|item| !is_shown(item));
    let few: f64 = few.map(|item| item.us).sum();
    if few > 0.0 {
        row("all else", none(), few);
    }
    row("not explained", none(), server.residual_us);
    row("measured", none(), server.measured_us);
    grid
}

/// Smaller items are shown as one.
const SHOWN_US: f64 = 0.005;

fn prices(primitives: &Primitives) -> Grid {
    let mut grid = Grid::new(["primitive", "us", "p25", "p75", "samples"], 1).wide(2);
    for primitive in ALL {
        let Some(cost) = primitives.costs.get(&primitive) else {
            continue;
        };
        let samples = cost.samples.to_string();
        let figures = [fine(cost.us), fine(cost.us_p25), fine(cost.us_p75), samples];
        let figures = figures.into_iter().map(Cell::from);
        grid.row([Cell::from(primitive.title())].into_iter().chain(figures));
    }
    grid
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

/// With three decimals, because the cost of a byte is small.
fn fine(us: f64) -> String {
    match us {
        ..9.9995 => format!("{us:.3}"),
        _ => format!("{us:.1}"),
    }
}

/// Quartiles further apart than this belong to two kinds of cost, not to one that varies.
const UNSTEADY: f64 = 2.0;

/// A residual in words.
fn missing(server: &Server) -> String {
    let residual = us(server.residual_us.abs());
    let switch = server.items.iter().find(|item| item.what == What::Switch);
    match switch {
        _ if server.residual_us < 0.0 => format!("{residual} us more predicted than measured"),
        // A server with many threads does these most, and their price depends most on the load of the machine.
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
                      machine, and the measured time of the server's own code. Residual: measured minus \
                      predicted, and its share of the measured time."
        .to_owned();
    match explanation.floor_ratio {
        Some(ratio) => {
            legend += &format!(
                " Scaled: that share if every price were {ratio:.2}x. So much did the floor cost in the set relative \
                 to its own prediction: the machine's drift, and what the prediction lacks for every server."
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
                "The price of one primitive was not steady: {}, {} to {} us (quartiles). Other programs used the \
                 CPUs for part of the time, and waking a thread on an idle CPU costs less: measure again on a quiet \
                 machine before trusting a residual.",
                primitive.title(),
                us(cost.us_p25),
                us(cost.us_p75)
            )
        })
    }));
    if servers().any(|server| server.status == Status::Invalid) {
        notes.push("† The measurement was not valid; it is explained anyway.".to_owned());
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
            "! Not explained within {:.0}%: {}. No item covers: caches left cold by other threads or by idle \
             time, threads interrupted by other programs, timers, and interrupts meant for other programs.",
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
        let text = document(&explanation, true).text(WIDTH);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_price_of_two_kinds_is_told() {
        let mut explanation = all();
        let told = |explanation: &Explanation| {
            let text = document(explanation, false).text(WIDTH);
            text.replace('\n', " ").contains("was not steady")
        };
        assert!(!told(&explanation));
        let cost = explanation.primitives.costs.get_mut(&Primitive::SwitchIdle);
        cost.unwrap().us_p25 = 3.0;
        assert!(told(&explanation));
    }

    #[test]
    fn as_markdown() {
        insta::assert_snapshot!(document(&all(), false).markdown());
    }

    /// Floating-point numbers may lose their last digit, which no output shows.
    #[test]
    fn json_can_be_read_again() {
        let explanation = all();
        let json = serde_json::to_string(&explanation).unwrap();
        let again: Explanation = serde_json::from_str(&json).unwrap();
        let shown = |explanation: &Explanation| document(explanation, true).text(WIDTH);
        assert_eq!(shown(&again), shown(&explanation));
    }
}
