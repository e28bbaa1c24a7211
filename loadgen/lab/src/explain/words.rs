//! Why one server costs more than another, in a sentence.

use engine::figures::listed;

use super::{Item, Server, What, Workload};

/// Each server compared with the cheapest one that is not a floor, ordered by cost.
pub fn comparisons(workload: &Workload) -> Vec<String> {
    let mut servers: Vec<&Server> = workload.servers.iter().filter(|it| !it.is_floor).collect();
    servers.sort_by(|a, b| a.measured_us.total_cmp(&b.measured_us));
    let Some((best, others)) = servers.split_first() else {
        return Vec::new();
    };
    let sentence = |other: &&Server| comparison(other, best, &workload.workload);
    others.iter().map(sentence).collect()
}

/// The maximum number of reasons in a sentence.
const REASONS_MAX: usize = 3;

/// A reason is mentioned from this share of the difference on.
const WORTH_NAMING: f64 = 0.1;

/// Below this share of the cheaper server's cost there is no difference to explain.
const DIFFERENCE_MIN: f64 = 0.05;

/// Why `dear` costs more than `cheap` under `workload`.
pub fn comparison(dear: &Server, cheap: &Server, workload: &str) -> String {
    let difference = dear.measured_us - cheap.measured_us;
    let (one, other) = (&dear.server, &cheap.server);
    if difference < DIFFERENCE_MIN * cheap.measured_us {
        return format!(
            "{one} costs about as much as {other} under {workload}: {} and {} us.",
            us(dear.measured_us),
            us(cheap.measured_us)
        );
    }
    let mut reasons = reasons(dear, cheap);
    let explained: f64 = reasons.iter().map(|reason| reason.us).sum();
    reasons.retain(|reason| reason.us >= WORTH_NAMING * difference);
    reasons.truncate(REASONS_MAX);
    let named: f64 = reasons.iter().map(|reason| reason.us).sum();
    let mut parts: Vec<String> = reasons.iter().map(|it| it.text.clone()).collect();
    let others = explained - named;
    let is_worth_it = |us: f64| us.abs() >= WORTH_NAMING * difference;
    if is_worth_it(others) {
        let sign = if others < 0.0 { "less " } else { "" };
        parts.push(format!("{} us {sign}for everything else", us(others.abs())));
    }
    let residual = difference - explained;
    let head = format!(
        "{one} costs {:.1}x {other} under {workload}, {} us more per request",
        dear.measured_us / cheap.measured_us,
        us(difference)
    );
    let tail = match (is_worth_it(residual), residual > 0.0) {
        (false, _) => String::new(),
        (true, true) => format!("{} us of this is not explained", us(residual)),
        (true, false) => format!(
            "these add up to {} us more than was measured",
            us(-residual)
        ),
    };
    match (parts.is_empty(), tail.is_empty()) {
        (true, true) => format!("{head}."),
        (true, false) => format!("{head}; {tail}."),
        (false, true) => format!("{head}: {}.", listed(&parts)),
        (false, false) => format!("{head}: {}; {tail}.", listed(&parts)),
    }
}

/// An item that one server needs more often, or at a higher price.
struct Reason {
    us: f64,
    text: String,
}

/// The items that make one server more expensive, largest first, followed by what makes it cheaper.
fn reasons(dear: &Server, cheap: &Server) -> Vec<Reason> {
    let mut kinds: Vec<What> = Vec::new();
    for item in dear.items.iter().chain(&cheap.items) {
        if !kinds.contains(&item.what) {
            kinds.push(item.what);
        }
    }
    let of = |server: &'_ Server, what: What| -> Option<Item> {
        server.items.iter().find(|it| it.what == what).cloned()
    };
    let reason = |what: What| {
        let (more, less) = (of(dear, what), of(cheap, what));
        let us_of = |item: &Option<Item>| item.as_ref().map_or(0.0, |item| item.us);
        let us = us_of(&more) - us_of(&less);
        let text = reason_text(what, us, more.as_ref(), less.as_ref());
        Reason { us, text }
    };
    let mut reasons: Vec<Reason> = kinds.into_iter().map(reason).collect();
    reasons.sort_by(|a, b| b.us.total_cmp(&a.us));
    reasons
}

fn reason_text(what: What, us_more: f64, more: Option<&Item>, less: Option<&Item>) -> String {
    let (one, many) = noun(what);
    if what == What::OwnCode {
        return format!("{} us for more time in {many}", us(us_more));
    }
    let count_of = |item: Option<&Item>| item.map_or(0.0, |item| item.per_request);
    let difference = count_of(more) - count_of(less);
    let for_more = difference * more.map_or(0.0, |item| item.each_us);
    let us_more_text = us(us_more);
    if for_more < us_more / 2.0 {
        return format!("{us_more_text} us for more expensive {many}");
    }
    let count = count(difference);
    let noun = if count == "1.00" { one } else { many };
    match less {
        None => format!("{us_more_text} us for {count} {noun}"),
        Some(_) => format!("{us_more_text} us for {count} more {noun}"),
    }
}

/// Singular and plural of an item.
fn noun(what: What) -> (&'static str, &'static str) {
    match what {
        What::OwnCode => ("its own code", "its own code"),
        What::Receive => ("recv", "recvs"),
        What::Send => ("send", "sends"),
        What::WakePeer => ("wake-up of the generator", "wake-ups of the generator"),
        What::EpollWait => ("epoll_wait", "epoll_waits"),
        What::EpollControl => ("epoll_ctl", "epoll_ctls"),
        What::Switch => (
            "context switch between threads",
            "context switches between threads",
        ),
        What::SwitchIdle => (
            "context switch to idle and back",
            "context switches to idle and back",
        ),
        What::Futex => ("futex call", "futex calls"),
        What::Yield => ("sched_yield", "sched_yields"),
        What::Thread => ("thread created and ended", "threads created and ended"),
        What::Accept => ("accept4", "accept4s"),
        What::AcceptNothing => ("accept4 on an empty queue", "accept4s on an empty queue"),
        What::FirstExchange => (
            "first request of a connection",
            "first requests of a connection",
        ),
        What::Close => ("close", "closes"),
        What::Shutdown => ("shutdown", "shutdowns"),
        What::SetOption => ("setsockopt", "setsockopts"),
        What::WakerWrite => ("write to an eventfd", "writes to an eventfd"),
        What::PageFault => ("page fault", "page faults"),
        What::OtherCalls => ("other system call", "other system calls"),
    }
}

/// Microseconds with two significant digits.
pub fn us(us: f64) -> String {
    match us.abs() {
        ..0.995 => format!("{us:.2}"),
        ..99.95 => format!("{us:.1}"),
        _ => format!("{us:.0}"),
    }
}

fn count(count: f64) -> String {
    match count {
        ..0.01 => format!("{count:.4}"),
        ..9.995 => format!("{count:.2}"),
        _ => format!("{count:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Source, explain, fixture};
    use engine::verdict::Status;

    #[test]
    fn reasons_in_a_sentence() {
        let explanation = explain(&fixture::evidence(), fixture::primitives(), |_, _| true);
        let sentences: Vec<&str> = (explanation.workloads.iter())
            .flat_map(|workload| &workload.comparisons)
            .map(String::as_str)
            .collect();
        insta::assert_snapshot!(sentences.join("\n"));
    }

    fn server(name: &str, measured_us: f64, items: &[(What, f64, f64)]) -> Server {
        let item = |&(what, per_request, each_us): &(What, f64, f64)| Item {
            what,
            source: Source::Predicted,
            per_request,
            each_us,
            us: per_request * each_us,
        };
        let items: Vec<Item> = items.iter().map(item).collect();
        let predicted_us = items.iter().map(|item| item.us).sum();
        Server {
            server: name.to_owned(),
            is_floor: false,
            status: Status::Valid,
            measured_us,
            predicted_us,
            residual_us: measured_us - predicted_us,
            residual: 1.0 - predicted_us / measured_us,
            residual_scaled: None,
            items,
        }
    }

    #[test]
    fn sentences() {
        let cheap = server(
            "b",
            10.0,
            &[(What::Send, 1.0, 5.0), (What::Receive, 1.0, 5.0)],
        );
        type Items = &'static [(What, f64, f64)];
        let rows: &[(f64, Items, &str)] = &[
            (
                10.2,
                &[(What::Send, 1.0, 5.2), (What::Receive, 1.0, 5.0)],
                "a costs about as much as b under w: 10.2 and 10.0 us.",
            ),
            (
                20.0,
                &[(What::Send, 3.0, 5.0), (What::Receive, 1.0, 5.0)],
                "a costs 2.0x b under w, 10.0 us more per request: 10.0 us for 2.00 more sends.",
            ),
            (
                20.0,
                &[
                    (What::Send, 1.0, 9.0),
                    (What::Receive, 1.0, 5.0),
                    (What::Switch, 1.0, 6.0),
                ],
                "a costs 2.0x b under w, 10.0 us more per request: 6.0 us for 1.00 context switch between \
                 threads and 4.0 us for more expensive sends.",
            ),
            (
                20.0,
                &[
                    (What::Send, 1.0, 5.0),
                    (What::Receive, 1.0, 5.0),
                    (What::Thread, 0.002, 5000.0),
                ],
                "a costs 2.0x b under w, 10.0 us more per request: 10.0 us for 0.0020 threads created and ended.",
            ),
            (
                20.0,
                &[],
                "a costs 2.0x b under w, 10.0 us more per request: 10.0 us less for everything else; 20.0 us of this is \
                 not explained.",
            ),
            (
                20.0,
                &[(What::Send, 1.0, 5.0), (What::Receive, 1.0, 5.0)],
                "a costs 2.0x b under w, 10.0 us more per request; 10.0 us of this is not explained.",
            ),
            (
                20.0,
                &[
                    (What::Send, 1.0, 5.0),
                    (What::Receive, 1.0, 5.0),
                    (What::Thread, 0.5, 24.0),
                ],
                "a costs 2.0x b under w, 10.0 us more per request: 12.0 us for 0.50 threads created and ended; these \
                 add up to 2.0 us more than was measured.",
            ),
        ];
        for (measured_us, items, expected) in rows {
            let dear = server("a", *measured_us, items);
            assert_eq!(comparison(&dear, &cheap, "w"), *expected);
        }
    }

    #[test]
    fn lists() {
        for (parts, expected) in [
            (&["a"][..], "a"),
            (&["a", "b"], "a and b"),
            (&["a", "b", "c"], "a, b and c"),
        ] {
            let parts: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
            assert_eq!(listed(&parts), expected);
        }
    }
}
