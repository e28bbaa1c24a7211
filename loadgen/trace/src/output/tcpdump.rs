//! Segments and packets in tcpdump's notation.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::model::{Flags, Packet, TcpOption};
use crate::story::{METHODS, Relative, Segment, token};

/// A segment as `tcpdump -n` prints it, from `Flags` on.
///
/// A [`Packet`] does not contain everything that tcpdump prints: the urgent pointer is left out,
/// digests (MD5, TCP-AO) and MPTCP are shown as bytes, and HTTP is the only protocol that is
/// parsed.
pub fn line(segment: &Segment) -> String {
    let packet = &segment.packet;
    let Flags { fin, syn, rst, .. } = packet.flags;
    let mut text = format!("Flags [{}]", letters(packet.flags));
    let (first, _) = segment.sequence;
    if packet.payload_bytes > 0 {
        // tcpdump does not count the sequence number of a SYN or FIN here.
        let _ = write!(
            text,
            ", seq {first}:{}",
            first.wrapping_add(packet.payload_bytes)
        );
    } else if syn || fin || rst {
        let _ = write!(text, ", seq {first}");
    }
    if let Some(acknowledgement) = segment.acknowledgement {
        let _ = write!(text, ", ack {acknowledgement}");
    }
    let _ = write!(text, ", win {}", packet.window);
    if !packet.options.is_empty() || packet.malformed_options {
        let base = sack_base(segment);
        let options: Vec<String> = packet
            .options
            .iter()
            .map(|option| option_text(option, base))
            .collect();
        let options = options.join(",");
        // At a malformed option tcpdump stops, and omits a bracket if it had printed nothing.
        let _ = match (packet.malformed_options, &options[..]) {
            (false, options) => write!(text, ", options [{options}]"),
            (true, "") => write!(text, ", options [[bad opt]"),
            (true, options) => write!(text, ", options [{options},[bad opt]]"),
        };
        if packet.malformed_options {
            return text;
        }
    }
    let _ = write!(text, ", length {}", packet.payload_bytes);
    if packet.payload_bytes > 0
        && [packet.source, packet.destination]
            .iter()
            .any(|end| HTTP_PORTS.contains(&end.port()))
    {
        text.push_str(": HTTP");
        text.push_str(&http_text(&packet.payload, packet.payload_bytes));
    }
    text
}

/// Each packet as `tcpdump -n -t` prints it.
///
/// tcpdump prints more about packets with IPv6 extension headers, about fragments, and about
/// packets that are shorter than their IP header says.
pub fn lines(packets: &[Packet]) -> Vec<String> {
    let mut connections: HashMap<(SocketAddr, SocketAddr), Relative> = HashMap::new();
    (packets.iter())
        .map(|packet| {
            let (source, destination) = (packet.source, packet.destination);
            let ends = (source.min(destination), source.max(destination));
            let numbering = connections
                .entry(ends)
                .or_insert_with(|| Relative::new(source));
            let family = if source.is_ipv4() { "IP" } else { "IP6" };
            let text = line(&numbering.segment(packet));
            format!(
                "{family} {} > {}: {text}",
                end_text(source),
                end_text(destination)
            )
        })
        .collect()
}

/// An address in tcpdump's notation: `127.0.0.1.8000`.
fn end_text(end: SocketAddr) -> String {
    format!("{}.{}", end.ip(), end.port())
}

/// The flags in tcpdump's notation, ordered by their bits: `S.`.
fn letters(flags: Flags) -> String {
    let all = [
        (flags.fin, 'F'),
        (flags.syn, 'S'),
        (flags.rst, 'R'),
        (flags.psh, 'P'),
        (flags.ack, '.'),
        (flags.urg, 'U'),
        (flags.ece, 'E'),
        (flags.cwr, 'W'),
    ];
    let set: String = all
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, letter)| letter)
        .collect();
    if set.is_empty() {
        "none".to_owned()
    } else {
        set
    }
}

/// The number from which SACK blocks are counted: the peer's first, as far as acknowledgements
/// reveal it.
fn sack_base(segment: &Segment) -> u32 {
    let on_the_wire = segment.packet.acknowledgement;
    match segment.acknowledgement {
        None => 0,
        // The first segment of a connection shows an absolute number; tcpdump still counts its
        // blocks.
        Some(shown) if shown == on_the_wire => on_the_wire.wrapping_sub(1),
        Some(shown) => on_the_wire.wrapping_sub(shown),
    }
}

fn option_text(option: &TcpOption, sack_base: u32) -> String {
    match option {
        TcpOption::Nop => "nop".to_owned(),
        TcpOption::MaximumSegmentSize(bytes) => format!("mss {bytes}"),
        TcpOption::WindowScale(bits) => format!("wscale {bits}"),
        TcpOption::SackPermitted => "sackOK".to_owned(),
        TcpOption::Timestamps { value, echo } => format!("TS val {value} ecr {echo}"),
        TcpOption::Sack(blocks) => {
            let mut text = format!("sack {} ", blocks.len());
            for (from, to) in blocks {
                let (from, to) = (from.wrapping_sub(sack_base), to.wrapping_sub(sack_base));
                let _ = write!(text, "{{{from}:{to}}}");
            }
            text
        }
        TcpOption::Other(0, _) => "eol".to_owned(),
        TcpOption::Other(FAST_OPEN, data) if data.is_empty() => "tfo  cookiereq".to_owned(),
        TcpOption::Other(FAST_OPEN, data) => format!("tfo  cookie {}", hexadecimal(data)),
        TcpOption::Other(kind, data) => {
            let name = match kind {
                19 => "md5".to_owned(),
                28 => "uto".to_owned(),
                29 => "tcp-ao".to_owned(),
                30 => "mptcp".to_owned(),
                254 => "exp".to_owned(),
                kind => format!("unknown-{kind}"),
            };
            if data.is_empty() {
                name
            } else {
                format!("{name} 0x{}", hexadecimal(data))
            }
        }
    }
}

/// The option kind of TCP Fast Open (RFC 7413).
const FAST_OPEN: u8 = 34;

fn hexadecimal(data: &[u8]) -> String {
    data.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Ports on which tcpdump expects HTTP.
const HTTP_PORTS: [u16; 2] = [80, 8080];

/// What tcpdump prints about a payload on HTTP's ports, after `HTTP`: the first line, if it looks
/// like one.
fn http_text(payload: &[u8], payload_bytes: u32) -> String {
    let cut = (payload.len() as u64) < u64::from(payload_bytes);
    // A truncated word does not count.
    let word = |text| token(text).filter(|word| !(cut && word.len() == text.len()));
    let first = word(payload);
    let rest = first.map_or(&[][..], |first| after_blanks(&payload[first.len()..]));
    let is_request = first.is_some_and(|first| {
        METHODS
            .iter()
            .any(|method| method.as_bytes().eq_ignore_ascii_case(first))
    });
    let is_response =
        word(rest).is_some_and(|code| code.len() == 3 && code.iter().all(u8::is_ascii_digit));
    if !is_request && !is_response {
        return String::new();
    }
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let line_bytes = payload.iter().take_while(|byte| is_text(byte)).count();
    let line = String::from_utf8_lossy(&payload[..line_bytes]);
    match &payload[line_bytes..] {
        [b'\n', ..] | [b'\r', b'\n', ..] => format!(": {line}"),
        [] | [b'\r'] if cut => " [|http]".to_owned(),
        [] => format!(": {line} [|http]"),
        // A lone carriage return, or binary data.
        _ => String::new(),
    }
}

fn after_blanks(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| **byte == b' ').count()..]
}
