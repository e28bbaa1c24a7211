//! Merges all events of one connection into one sequence.

use super::states::Derived;
use super::subject::Subject;
use super::{CallLine, Happening, Part, StateChange};
use crate::kernel::{describe, result};
use crate::model::{Call, IcmpError, Record, Side, Snapshot, Source, What};

/// An event that will become a line.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub(super) at_ns: u64,
    pub(super) what: Thing<'a>,
}

/// The source of an item.
#[derive(Debug, Clone)]
pub(super) enum Thing<'a> {
    /// A segment, by its position in the connection.
    Segment(usize),
    State(StateChange),
    Call {
        call: &'a Call,
        part: Part,
        /// It belongs to this connection, rather than merely happening at the same time.
        own: bool,
    },
    Sockets(Snapshot),
    Icmp(&'a IcmpError),
    Moment(&'a What),
}

/// The client's notes, the segments with the states derived from them, and everything that has its
/// own timestamp.
pub(super) fn items<'a>(record: &'a Record, subject: &Subject<'a>) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    let seen = |source: &Source| *source == Source::Seen;
    let alone = subject.packets.is_empty() && !seen(&record.sources.calls);
    for moment in &subject.moments {
        let shown = match moment.what {
            What::Info(_) => true,
            What::KeptOpen => true,
            What::Failed(..) => !seen(&record.sources.calls),
            _ => alone,
        };
        if shown {
            items.push(Item {
                at_ns: moment.at_ns,
                what: Thing::Moment(&moment.what),
            });
        }
    }
    // Of several segments with the same timestamp, each has its own state changes.
    let packet_of = |change: &StateChange| {
        let follows = |it: &&Derived| {
            (it.side, it.old, it.new) == (change.side, change.old, change.new)
                && subject.packets[it.packet].at_ns == change.at_ns
        };
        subject.derived.iter().find(follows).map(|it| it.packet)
    };
    let mut placed: Vec<(Option<usize>, &StateChange)> = (subject.states.iter())
        .map(|change| (packet_of(change), change))
        .collect();
    let state = |change: &StateChange| Item {
        at_ns: change.at_ns,
        what: Thing::State(*change),
    };
    for (number, packet) in subject.packets.iter().enumerate() {
        items.push(Item {
            at_ns: packet.at_ns,
            what: Thing::Segment(number),
        });
        let own = placed.extract_if(.., |(after, _)| *after == Some(number));
        let mut own: Vec<&StateChange> = own.map(|(_, change)| change).collect();
        // The sender's change comes first: it is the cause.
        own.sort_by_key(|change| change.side != subject.segments[number].from);
        items.extend(own.into_iter().map(state));
    }
    items.extend(subject.errors.iter().map(|error| Item {
        at_ns: error.at_ns,
        what: Thing::Icmp(error),
    }));
    items.extend(placed.into_iter().map(|(_, change)| state(change)));
    items
}

/// Entry and return of a call; `None` for an end that was not seen.
pub(super) fn ends<'a>(call: &'a Call, own: bool) -> [Option<Item<'a>>; 2] {
    let item = |at_ns: Option<u64>, part| {
        at_ns.map(|at_ns| Item {
            at_ns,
            what: Thing::Call { call, part, own },
        })
    };
    let left_ns = call
        .left_ns
        .map(|left_ns| left_ns.max(call.entered_ns.unwrap_or(0)));
    [
        item(call.entered_ns, Part::Enter),
        item(left_ns, Part::Leave),
    ]
}

/// Sorts the items and joins entry and return of a call if nothing happened in between.
pub(super) fn ordered(mut items: Vec<Item<'_>>) -> Vec<Item<'_>> {
    items.sort_by_key(|item| item.at_ns);
    let mut at = 0;
    while at + 1 < items.len() {
        if let (
            Thing::Call {
                call,
                part: part @ Part::Enter,
                ..
            },
            Thing::Call {
                call: next,
                part: Part::Leave,
                own: theirs,
            },
        ) = split(&mut items, at)
            && std::ptr::eq(*call, *next)
        {
            *part = Part::Whole;
            let own_on_leaving = *theirs;
            items.remove(at + 1);
            if let Thing::Call { own, .. } = &mut items[at].what {
                *own |= own_on_leaving;
            }
        }
        at += 1;
    }
    items
}

fn split<'i, 'a>(items: &'i mut [Item<'a>], at: usize) -> (&'i mut Thing<'a>, &'i mut Thing<'a>) {
    let (before, after) = items.split_at_mut(at + 1);
    (&mut before[at].what, &mut after[0].what)
}

/// What is printed for an item.
pub(super) fn happening(item: &Item<'_>, subject: Option<&Subject<'_>>) -> Option<Happening> {
    Some(match &item.what {
        Thing::Segment(number) => Happening::Segment(subject?.segments[*number].clone()),
        Thing::State(change) => Happening::State(*change),
        Thing::Call { call, part, own } => {
            let peer = subject.filter(|_| *own).map(|subject| match call.side {
                Side::Client => subject.endpoints.server,
                Side::Server => subject.endpoints.client,
            });
            Happening::Call(call_line(call, *part, peer))
        }
        Thing::Sockets(snapshot) => Happening::Sockets(snapshot.clone()),
        Thing::Icmp(error) => Happening::Icmp((*error).clone()),
        Thing::Moment(What::Info(info)) => Happening::Info(*info),
        Thing::Moment(what) => Happening::Moment(in_words(what)),
    })
}

fn call_line(call: &Call, part: Part, peer: Option<std::net::SocketAddr>) -> CallLine {
    let leaves = part != Part::Enter;
    CallLine {
        side: call.side,
        tid: call.tid,
        name: call.name,
        arguments: match peer {
            // The registers contain only a pointer to the address.
            Some(peer) if call.name == "connect" => format!("{}, {peer}", describe(call)),
            _ => describe(call),
        },
        part,
        result: result(call).filter(|_| leaves),
        took_ns: (call.entered_ns.zip(call.left_ns))
            .filter(|_| leaves)
            .map(|(entered_ns, left_ns)| left_ns.saturating_sub(entered_ns)),
        peer,
    }
}

fn in_words(what: &What) -> String {
    match what {
        What::Connecting => "the client requests a connection".to_owned(),
        What::Connected => "the client has its connection".to_owned(),
        What::Sent(bytes) => format!("the client hands {bytes} bytes of a request to its kernel"),
        What::Received(bytes) => format!("{bytes} bytes of a response reach the client"),
        What::Answered(status) => format!("the response is complete: status {status}"),
        What::EndOfFile => "end of file: the server has closed".to_owned(),
        What::KeptOpen => {
            "the response is complete, but the server does not close although asked to: the client \
             closes instead"
                .to_owned()
        }
        What::ShutDown => "the client closes its half of the connection".to_owned(),
        What::Closed => "the client closes the connection".to_owned(),
        What::Failed(at, error) => format!("the client gives up at {at}: {error}"),
        What::Info(_) => String::new(),
    }
}
