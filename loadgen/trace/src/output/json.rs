//! A trace as JSON.

use serde_json::{Value, json};

use super::words;
use crate::model::{Flags, Info, Socket, TcpOption};
use crate::story::{
    Connection, EndingKind, Event, Happening, Origin, Part, Phase, PhaseKind, Segment, StateChange,
    Story,
};

/// Schema version of [`value`].
pub const SCHEMA: u32 = 1;

/// The whole story. Times are microseconds since the first event; unknown values are null.
pub fn value(story: &Story) -> Value {
    json!({
        "schema": SCHEMA,
        "prologue": story.prologue.iter().map(phase).collect::<Vec<_>>(),
        "connections": story.connections.iter().map(connection).collect::<Vec<_>>(),
        "others": story.others.iter().map(event).collect::<Vec<_>>(),
        "notes": story.notes,
    })
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn connection(connection: &Connection) -> Value {
    let (ending, side) = match connection.ending.kind {
        EndingKind::Open => ("open", None),
        EndingKind::Unknown => ("unknown", None),
        EndingKind::Closed(side) => ("closed", Some(side)),
        EndingKind::Simultaneous => ("simultaneous", None),
        EndingKind::Refused => ("refused", None),
        EndingKind::Unreachable => ("unreachable", None),
        EndingKind::NoAnswer => ("no-answer", None),
        EndingKind::Reset(side) => ("reset", Some(side)),
        EndingKind::HalfClosed(side) => ("half-closed", Some(side)),
        EndingKind::Silent => ("silent", None),
    };
    json!({
        "client": connection.endpoints.client,
        "server": connection.endpoints.server,
        "phases": connection.phases.iter().map(phase).collect::<Vec<_>>(),
        "ending": {
            "kind": ending,
            "side": side,
            "explanation": connection.ending.explanation,
        },
        "states": connection.states.iter().map(state).collect::<Vec<_>>(),
    })
}

fn phase(phase: &Phase) -> Value {
    let kind = match phase.kind {
        PhaseKind::Listening => "listening",
        PhaseKind::Handshake => "handshake",
        PhaseKind::Request => "request",
        PhaseKind::Response => "response",
        PhaseKind::Close => "close",
        PhaseKind::Aftermath => "aftermath",
    };
    json!({
        "kind": kind,
        "heading": phase.heading,
        "explanation": phase.explanation,
        "events": phase.events.iter().map(event).collect::<Vec<_>>(),
    })
}

fn event(event: &Event) -> Value {
    let (kind, what) = match &event.what {
        Happening::Segment(it) => ("segment", segment(it)),
        Happening::State(it) => ("state", state(it)),
        Happening::Call(it) => (
            "call",
            json!({
                "side": it.side,
                "tid": it.tid,
                "name": it.name,
                "arguments": it.arguments,
                "part": match it.part {
                    Part::Whole => "whole",
                    Part::Enter => "enter",
                    Part::Leave => "leave",
                },
                "result": it.result,
                "took_us": it.took_ns.map(us),
                "peer": it.peer,
            }),
        ),
        Happening::Sockets(it) => (
            "sockets",
            json!({
                "moment": it.moment,
                "sockets": it.sockets.iter().map(socket).collect::<Vec<_>>(),
            }),
        ),
        Happening::Info(it) => ("info", info(it)),
        Happening::Icmp(it) => (
            "icmp",
            json!({
                "by": it.by,
                "error": it.why.name(),
                "source": it.source,
                "destination": it.destination,
                "sequence_on_the_wire": it.sequence,
            }),
        ),
        Happening::Moment(it) => ("moment", json!({ "text": it })),
        Happening::Silence(ns) => ("silence", json!({ "lasts_us": us(*ns) })),
    };
    let mut value = json!({ "at_us": us(event.at_ns), "kind": kind, "why": event.why });
    if let (Value::Object(value), Value::Object(what)) = (&mut value, what) {
        // The time of an event is also the time of what happened.
        value.extend(what.into_iter().filter(|(name, _)| name != "at_us"));
    }
    value
}

fn segment(segment: &Segment) -> Value {
    let packet = &segment.packet;
    json!({
        "from": segment.from,
        "source": packet.source,
        "destination": packet.destination,
        "interface": packet.interface,
        "hops": packet.hops,
        "ip_bytes": packet.ip_bytes,
        "flags": flags(packet.flags),
        "sequence": segment.sequence.0,
        "sequence_next": segment.sequence.1,
        "acknowledgement": segment.acknowledgement,
        "sequence_on_the_wire": packet.sequence,
        "window": packet.window,
        "window_bytes": segment.window_bytes,
        "options": packet.options.iter().map(option).collect::<Vec<_>>(),
        "payload_bytes": packet.payload_bytes,
        "retransmission": segment.retransmission,
        "http": segment.http,
        "line": words::segment(segment),
        "copies": segment.copies,
        "remarks": segment.remarks.iter().map(|it| it.name()).collect::<Vec<_>>(),
    })
}

fn flags(flags: Flags) -> Vec<&'static str> {
    let all = [
        (flags.fin, "fin"),
        (flags.syn, "syn"),
        (flags.rst, "rst"),
        (flags.psh, "psh"),
        (flags.ack, "ack"),
        (flags.urg, "urg"),
        (flags.ece, "ece"),
        (flags.cwr, "cwr"),
    ];
    let set = all.into_iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, name)| name).collect()
}

fn option(option: &TcpOption) -> Value {
    match option {
        TcpOption::Nop => json!({ "kind": "nop" }),
        TcpOption::MaximumSegmentSize(bytes) => json!({ "kind": "mss", "bytes": bytes }),
        TcpOption::WindowScale(bits) => json!({ "kind": "window-scale", "bits": bits }),
        TcpOption::SackPermitted => json!({ "kind": "sack-permitted" }),
        TcpOption::Sack(ranges) => json!({ "kind": "sack", "ranges": ranges }),
        TcpOption::Timestamps { value, echo } => {
            json!({ "kind": "timestamps", "value": value, "echo": echo })
        }
        TcpOption::Other(kind, data) => json!({ "kind": kind, "data": data }),
    }
}

fn state(change: &StateChange) -> Value {
    json!({
        "at_us": us(change.at_ns),
        "side": change.side,
        "old": change.old,
        "new": change.new,
        "origin": match change.origin {
            Origin::Kernel => "kernel",
            Origin::Derived => "derived",
            Origin::Likely => "likely",
        },
    })
}

fn socket(socket: &Socket) -> Value {
    let holders: Vec<Value> = (socket.holders.iter())
        .map(|it| json!({ "command": it.command, "pid": it.pid, "fd": it.fd }))
        .collect();
    json!({
        "holders": holders,
        "local": socket.local,
        "remote": socket.remote,
        "state": socket.state,
        "receive_queue": socket.receive_queue,
        "send_queue": socket.send_queue,
        "timer": socket.timer.map(|it| json!({ "kind": it.kind, "left_ms": it.left_ms, "tries": it.tries })),
        "inode": socket.inode,
        "info": socket.info.as_ref().map(info),
    })
}

fn info(info: &Info) -> Value {
    json!({
        "rtt_us": info.rtt_us,
        "rto_us": info.rto_us,
        "congestion_window": info.congestion_window,
        "retransmitted": info.retransmitted,
        "mss_bytes": info.mss_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn one_request() {
        let json = serde_json::to_string_pretty(&value(&fixture::refused()));
        insta::assert_snapshot!(json.unwrap());
    }

    #[test]
    fn every_event_is_there() {
        for (name, story) in fixture::all() {
            let text = value(&story).to_string();
            let events = words::events(&story).count();
            assert_eq!(text.matches("\"why\":").count(), events, "{name}");
        }
    }
}
