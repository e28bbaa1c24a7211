//! What the bytes of a connection say, as far as they are HTTP/1.

use std::collections::BTreeMap;

use crate::response::{Reader, Taken};
use crate::trace::model::{Packet, Side};

/// Both directions, read.
#[derive(Debug, Clone, Default)]
pub(super) struct Messages {
    /// Payload, each byte counted once.
    pub(super) client_bytes: u64,
    pub(super) server_bytes: u64,
    /// Heads of requests.
    pub(super) requests: usize,
    /// A request announces a body.
    pub(super) request_has_body: bool,
    /// Responses that are there wholly.
    pub(super) responses: usize,
    /// Of the last one, if it is not: bytes of its body that came, and those that its head promises.
    pub(super) cut: Option<(u64, Option<u64>)>,
    /// Not all could be read: segments are missing or were captured in part, or it is no HTTP.
    pub(super) unread: bool,
}

impl Messages {
    pub(super) fn bytes(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.client_bytes,
            Side::Server => self.server_bytes,
        }
    }
}

/// `ended`: the server has sent its FIN, by which a response may end.
pub(super) fn messages(client: &[&Packet], server: &[&Packet], ended: bool) -> Messages {
    let (sent, sent_bytes, sent_whole) = stream(client);
    let (got, got_bytes, got_whole) = stream(server);
    let requests = request_heads(&sent);
    let mut messages = Messages {
        client_bytes: sent_bytes,
        server_bytes: got_bytes,
        requests,
        request_has_body: header(&sent, "content-length").is_some_and(|length| length > 0)
            || find(&sent, b"chunked").is_some(),
        unread: !sent_whole || !got_whole,
        ..Messages::default()
    };
    let mut reader = Reader::new(sent.starts_with(b"HEAD "));
    let mut rest = got.as_slice();
    while !rest.is_empty() {
        match reader.take(rest) {
            Taken::Complete(_, used) => {
                messages.responses += 1;
                rest = &rest[used.clamp(1, rest.len())..];
            }
            Taken::Incomplete if ended && got_whole && reader.end().is_some() => {
                messages.responses += 1;
                return messages;
            }
            Taken::Incomplete => {
                let body = find(rest, b"\r\n\r\n").map_or(0, |at| rest.len() - at - 4);
                // The part that was not captured came all the same.
                let body = body as u64 + (got_bytes - got.len() as u64);
                messages.cut = Some((body, header(rest, "content-length")));
                return messages;
            }
            Taken::Malformed => {
                messages.unread = true;
                return messages;
            }
        }
    }
    messages
}

/// The captured bytes of one direction in order, how many went by, and whether the former are all.
fn stream(packets: &[&Packet]) -> (Vec<u8>, u64, bool) {
    let carries = |packet: &&&Packet| packet.payload_bytes > 0 && !packet.flags.rst;
    let syn = packets.iter().find(|packet| packet.flags.syn);
    let base = match (syn, packets.iter().find(carries)) {
        (_, None) => return (Vec::new(), 0, true),
        (Some(syn), _) => syn.sequence.wrapping_add(1),
        (None, Some(first)) => first.sequence,
    };
    let mut parts: BTreeMap<u32, &Packet> = BTreeMap::new();
    for packet in packets.iter().filter(carries) {
        let offset = packet
            .sequence
            .wrapping_add(u32::from(packet.flags.syn))
            .wrapping_sub(base);
        // Before the beginning, as a keepalive probe is.
        if offset > u32::MAX / 2 {
            continue;
        }
        let part = parts.entry(offset).or_insert(packet);
        if part.payload_bytes < packet.payload_bytes {
            *part = packet;
        }
    }
    let (mut bytes, mut counted, mut next, mut whole) = (Vec::new(), 0, 0u64, true);
    for (offset, packet) in parts {
        let (offset, length) = (u64::from(offset), u64::from(packet.payload_bytes));
        let new = (offset + length).saturating_sub(next.max(offset));
        counted += new;
        if offset > next || (packet.payload.len() as u64) < length {
            if whole && offset <= next {
                let skip = usize::try_from(next - offset).unwrap_or(usize::MAX);
                bytes.extend(packet.payload.iter().skip(skip));
            }
            whole = false;
        }
        if whole {
            let skip = usize::try_from(length - new).unwrap_or(usize::MAX);
            bytes.extend(packet.payload.iter().skip(skip));
        }
        next = next.max(offset + length);
    }
    (bytes, counted, whole)
}

/// How many heads of requests there are: lines that end with a version of HTTP/1.
pub(super) fn request_heads(bytes: &[u8]) -> usize {
    let ends = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let begins = line.first().is_some_and(u8::is_ascii_uppercase);
        begins && (line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0"))
    };
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| ends(line))
        .count()
}

/// A header of the first head, as a number.
fn header(bytes: &[u8], name: &str) -> Option<u64> {
    let head = &bytes[..find(bytes, b"\r\n\r\n")?];
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let line = lines
        .filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    line.1.trim().parse().ok()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}
