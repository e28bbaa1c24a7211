//! Wording shared by all output formats.

use std::net::{IpAddr, SocketAddr};

use super::tcpdump;
use crate::model::{Flags, IcmpError, Info, Packet, TcpOption};
use crate::story::{CallLine, Event, Happening, Origin, Part, Segment, StateChange, Story, labels};
use engine::figures::count;

/// Microseconds with one decimal.
pub(super) fn us(ns: u64) -> String {
    let tenths = (ns + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A duration with a fitting unit: `3.2 µs`, `204 ms`; from a second on, with microseconds:
/// `60.012345 s`.
pub(super) fn duration(ns: u64) -> String {
    match ns {
        ..999_950_000 => rough(ns),
        _ => format!("{:.6} s", ns as f64 / 1e9),
    }
}

/// A duration that is not known precisely, such as that of a timer: `60.0 s`.
pub(super) fn rough(ns: u64) -> String {
    // A value that would be rounded to 1000 is written in the next unit.
    let (value, unit) = match ns {
        ..999_950 => (ns as f64 / 1e3, "µs"),
        999_950..999_950_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = match value {
        ..9.995 if unit != "µs" => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// The packet that carries a segment: `IPv4, 112 bytes, 52 of headers, TTL 64, over lo`.
pub(super) fn layers_below(packet: &Packet) -> String {
    let (version, hops) = match packet.source {
        SocketAddr::V4(_) => ("IPv4", "TTL"),
        SocketAddr::V6(_) => ("IPv6", "hop limit"),
    };
    let headers = match packet.ip_bytes.saturating_sub(packet.payload_bytes) {
        all if all == packet.ip_bytes => ", all headers".to_owned(),
        headers => format!(", {headers} of headers"),
    };
    let over = match &packet.interface {
        Some(interface) => format!(", over {}", printable(interface)),
        None => String::new(),
    };
    let bytes = count(packet.ip_bytes.into(), "byte");
    format!("{version}, {bytes}{headers}, {hops} {}{over}", packet.hops)
}

/// Makes foreign text safe to print: it cannot steer a terminal, and each character takes one
/// column.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' | '¡'..='¬' | '®'..='ÿ' | '‐'..='‧' | '←'..='↓' => out.push(c),
            _ => out.extend(c.escape_default()),
        }
    }
    out
}

/// Wraps a text to at most `width` columns. Figures stay with their units and their names.
pub(super) fn wrap(text: &str, width: usize, first: &str, rest: &str) -> Vec<String> {
    const NO_BREAK: &str = "\u{a0}";
    const TOGETHER: [&str; 7] = [
        " µs",
        " ms",
        " = ",
        "rtt ",
        "cwnd ",
        "mss ",
        " retransmitted",
    ];
    let together = (TOGETHER.iter()).fold(text.to_owned(), |text, words| {
        text.replace(words, &words.replace(' ', NO_BREAK))
    });
    let options = textwrap::Options::new(width)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .initial_indent(first)
        .subsequent_indent(rest);
    let lines = textwrap::wrap(&together, options);
    (lines.iter())
        .map(|line| line.replace(NO_BREAK, " "))
        .collect()
}

/// A call in the style of strace. `...` marks the halves of a call during which something else
/// happened.
pub(super) fn call(call: &CallLine) -> String {
    let CallLine {
        name, arguments, ..
    } = call;
    let mut out = match call.part {
        Part::Whole => format!("{name}({arguments})"),
        Part::Enter => format!("{name}({arguments}) ..."),
        Part::Leave => format!("... {name}"),
    };
    if let Some(result) = &call.result {
        out += &format!(" = {result}");
    }
    match (call.part, call.took_ns) {
        (Part::Leave, Some(ns)) => out += &format!(" after {}", duration(ns)),
        (_, Some(ns)) => out += &format!(" in {}", duration(ns)),
        (_, None) => {}
    }
    out
}

/// A state change: `LISTEN → SYN-RECEIVED (derived)`.
pub(super) fn change(change: &StateChange) -> String {
    let derived = match change.origin {
        Origin::Kernel => "",
        Origin::Derived => " (derived)",
        Origin::Likely => " (likely)",
    };
    format!("{} → {}{derived}", change.old, change.new)
}

/// The labels of a segment and the number of its captures: ` (keep-alive)`; may be empty.
pub(super) fn remarks(segment: &Segment) -> String {
    let mut words = labels(&segment.remarks);
    if segment.copies > 0 {
        let separator = if words.is_empty() { "" } else { ", " };
        words += &format!("{separator}captured {} times", segment.copies + 1);
    }
    match words.is_empty() {
        true => words,
        false => format!(" ({words})"),
    }
}

/// An ICMP error: `ICMP from 10.0.0.254: host unreachable, about the segment from 10.0.0.1:40000 to
/// 10.0.0.2:8000`.
pub(super) fn icmp(error: &IcmpError) -> String {
    let version = match error.by {
        IpAddr::V4(_) => "ICMP",
        IpAddr::V6(_) => "ICMPv6",
    };
    format!(
        "{version} from {}: {}, about a segment from {} to {}",
        error.by,
        error.why.name(),
        error.source,
        error.destination
    )
}

/// The kernel's figures about a path, in the terms of `ss -i`.
pub(super) fn info(info: &Info) -> String {
    format!(
        "rtt {}, rto {}, cwnd {}, mss {}, {} retransmitted",
        rough(u64::from(info.rtt_us) * 1000),
        rough(u64::from(info.rto_us) * 1000),
        info.congestion_window,
        info.mss_bytes,
        info.retransmitted,
    )
}

/// The flags in words: `SYN+ACK`.
pub(super) fn flags(flags: Flags) -> String {
    let names = [
        (flags.syn, "SYN"),
        (flags.fin, "FIN"),
        (flags.rst, "RST"),
        (flags.psh, "PSH"),
        (flags.ack, "ACK"),
        (flags.urg, "URG"),
        (flags.ece, "ECE"),
        (flags.cwr, "CWR"),
    ];
    let names: Vec<&str> = (names.into_iter())
        .filter_map(|(is_set, name)| is_set.then_some(name))
        .collect();
    match names.is_empty() {
        true => "no flags".to_owned(),
        false => names.join("+"),
    }
}

/// The purpose of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Syn,
    Data,
    Ack,
    Fin,
    Reset,
}

impl Kind {
    pub(super) fn of(segment: &Segment) -> Self {
        let flags = segment.packet.flags;
        match () {
            () if flags.rst => Kind::Reset,
            () if flags.syn => Kind::Syn,
            () if flags.fin => Kind::Fin,
            () if segment.packet.payload_bytes > 0 => Kind::Data,
            () => Kind::Ack,
        }
    }

    /// The name for people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Kind::Reset => "RST",
            Kind::Syn => "SYN",
            Kind::Fin => "FIN",
            Kind::Data => "data",
            Kind::Ack => "ACK alone",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Reset => "rst",
            Kind::Syn => "syn",
            Kind::Fin => "fin",
            Kind::Data => "data",
            Kind::Ack => "ack",
        }
    }
}

/// The options that a side offers in its SYN: `mss 65495, sackOK, timestamps, wscale 7`. Timestamp
/// values are left out, since they always differ.
pub(super) fn offers(options: &[TcpOption]) -> String {
    let option = |option: &TcpOption| match option {
        TcpOption::Nop | TcpOption::Sack(_) => None,
        TcpOption::MaximumSegmentSize(bytes) => Some(format!("mss {bytes}")),
        TcpOption::WindowScale(bits) => Some(format!("wscale {bits}")),
        TcpOption::SackPermitted => Some("sackOK".to_owned()),
        TcpOption::Timestamps { .. } => Some("timestamps".to_owned()),
        TcpOption::Other(kind, _) => Some(format!("option {kind}")),
    };
    let options: Vec<String> = options.iter().filter_map(option).collect();
    match options.is_empty() {
        true => "none".to_owned(),
        false => options.join(", "),
    }
}

/// A segment in tcpdump's notation, without addresses; the first line of HTTP is shown for any
/// port.
pub(super) fn segment(segment: &Segment) -> String {
    let line = tcpdump::line(segment);
    match &segment.http {
        Some(http) if !line.contains(": HTTP") => format!("{line}: HTTP: {http}"),
        _ => line,
    }
}

/// All events of a story in printing order: the prologue's, each connection's, and the rest.
pub(super) fn events(story: &Story) -> impl Iterator<Item = &Event> {
    let phases = (story.prologue.iter()).chain(story.connections.iter().flat_map(|it| &it.phases));
    phases.flat_map(|it| &it.events).chain(&story.others)
}

/// Time of the last event, since the origin.
pub(super) fn end_ns(story: &Story) -> u64 {
    let end = |event: &Event| match event.what {
        Happening::Silence(ns) => event.at_ns + ns,
        _ => event.at_ns,
    };
    events(story).map(end).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_the_unit_that_suits() {
        for (ns, expected) in [
            (0, "0.0 µs"),
            (3_240, "3.2 µs"),
            (99_960, "100 µs"),
            (999_949, "1000 µs"),
            (999_950, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (204_000_000, "204 ms"),
            (999_950_000, "0.999950 s"),
            (1_000_000_400, "1.000000 s"),
            (60_000_012_345, "60.000012 s"),
        ] {
            assert_eq!(duration(ns), expected, "{ns}");
        }
        assert_eq!(rough(60_000_012_345), "60.0 s");
        assert_eq!(us(1_049), "1.0");
        assert_eq!(us(1_950), "2.0");
    }

    #[test]
    fn what_a_stranger_wrote_steers_no_terminal() {
        assert_eq!(
            printable("GET /\u{1b}[2J\r\n µ → 漢\u{202e}"),
            "GET /\\u{1b}[2J\\r\\n µ → \\u{6f22}\\u{202e}"
        );
    }
}
