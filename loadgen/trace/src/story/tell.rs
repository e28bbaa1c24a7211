//! Assembles the story from the record.

use super::calls::{About, Known, attribute};
use super::endings::ending;
use super::phases::{listening, phases};
use super::subject::{Subject, subjects};
use super::timeline::{Item, Thing, ends, happening, items, ordered};
use super::{Connection, Event, Happening, Phase, Story, order, weak};
use crate::model::{Record, Side, Snapshot, Source};

/// Orders the events by connection and phase and explains them. Only the record counts.
pub fn tell(record: &Record) -> Story {
    let order::Ordered {
        record,
        copies,
        notes: notes_of_order,
    } = order::ordered(record);
    let record = &*record;
    let (subjects, listeners, told_notes) = subjects(record, &copies);
    let mut notes = record.notes.clone();
    let sources = &record.sources;
    for source in [
        &sources.packets,
        &sources.changes,
        &sources.calls,
        &sources.sockets,
    ] {
        if let Source::Missing(why) = source
            && !notes.contains(why)
        {
            notes.push(why.clone());
        }
    }
    notes.extend(notes_of_order);
    notes.extend(weak::notes(&subjects));
    notes.extend(told_notes);

    let mut timelines: Vec<Vec<Item<'_>>> = subjects.iter().map(|it| items(record, it)).collect();
    let (mut before, mut others) = (Vec::new(), Vec::new());
    let known: Vec<Known> = (subjects.iter().zip(&timelines))
        .map(|(subject, timeline)| Known {
            endpoints: subject.endpoints,
            begun_ns: begin(timeline).unwrap_or(subject.begun_ns()),
            ready_ns: subject.ready_ns(),
        })
        .collect();
    let about = attribute(record, &known);
    place_own(record, &about, &mut timelines);
    let begun_ns: Vec<u64> = (timelines.iter().zip(&known))
        .map(|(timeline, known)| begin(timeline).unwrap_or(known.begun_ns))
        .collect();
    let first_ns = begun_ns.iter().copied().min().unwrap_or(u64::MAX);
    for (call, about) in record.calls.iter().zip(&about) {
        let Some(about) = about else { continue };
        let [entered, left] = ends(call, false);
        let shared = match about {
            About::Connection(_) => continue,
            About::Accepted(number) => {
                if entered
                    .as_ref()
                    .is_some_and(|it| it.at_ns >= begun_ns[*number])
                {
                    timelines[*number].extend(entered);
                    continue;
                }
                [entered, None]
            }
            About::Listener | About::None => [entered, left],
        };
        for item in shared.into_iter().flatten() {
            if item.at_ns < first_ns {
                // Calls of a client before it connects do not belong to the server's start.
                if call.side == Side::Server || *about == About::Listener {
                    before.push(item);
                }
            } else if let [timeline] = timelines.as_mut_slice() {
                timeline.push(item);
            } else {
                others.push(item);
            }
        }
    }
    for change in listeners {
        let item = Item {
            at_ns: change.at_ns,
            what: Thing::State(change),
        };
        match change.at_ns < first_ns {
            true => before.push(item),
            false => others.push(item),
        }
    }
    for snapshot in &record.snapshots {
        let item = |snapshot: Snapshot| Item {
            at_ns: snapshot.at_ns,
            what: Thing::Sockets(snapshot),
        };
        if snapshot.at_ns < first_ns {
            before.push(item(snapshot.clone()));
            continue;
        }
        if let [timeline] = timelines.as_mut_slice() {
            timeline.push(item(snapshot.clone()));
            continue;
        }
        let mut placed = false;
        for (subject, timeline) in subjects.iter().zip(&mut timelines) {
            if let Some(own) = of_one(subject, snapshot) {
                timeline.push(item(own));
                placed = true;
            }
        }
        if !placed {
            others.push(item(snapshot.clone()));
        }
    }

    let connections = (subjects.iter().zip(timelines))
        .enumerate()
        .map(|(number, (subject, timeline))| {
            let own = |(call, of): (_, &Option<About>)| {
                matches!(of, Some(About::Connection(it) | About::Accepted(it)) if *it == number)
                    .then_some(call)
            };
            let calls: Vec<_> = record.calls.iter().zip(&about).filter_map(own).collect();
            let ending = ending(record, subject, &calls);
            let timeline = ordered(timeline);
            Connection {
                endpoints: subject.endpoints,
                phases: phases(record, subject, &calls, &timeline, &ending),
                ending,
                states: subject.states.clone(),
                lacks_times: record.lacks_times,
            }
        })
        .collect();
    let prologue = listening(record, &ordered(before)).into_iter().collect();
    let event = |item: &Item<'_>| {
        Some(Event {
            at_ns: item.at_ns,
            what: happening(item, None)?,
            why: None,
        })
    };
    let mut story = Story {
        origin_ns: 0,
        prologue,
        connections,
        others: ordered(others).iter().filter_map(event).collect(),
        notes,
    };
    count_from_first(&mut story);
    story
}

/// Adds each call that is about a connection, on entry or on return, to that connection's items.
fn place_own<'a>(record: &'a Record, about: &[Option<About>], timelines: &mut [Vec<Item<'a>>]) {
    for (call, about) in record.calls.iter().zip(about) {
        match about {
            Some(About::Connection(number)) => {
                timelines[*number].extend(ends(call, true).into_iter().flatten());
            }
            Some(About::Accepted(number)) => {
                let [_, left] = ends(call, true);
                timelines[*number].extend(left);
            }
            _ => {}
        }
    }
}

fn begin(timeline: &[Item<'_>]) -> Option<u64> {
    timeline.iter().map(|item| item.at_ns).min()
}

/// The part of a snapshot that shows one connection, and the listeners; `None` if it does not show
/// the connection.
fn of_one(subject: &Subject<'_>, snapshot: &Snapshot) -> Option<Snapshot> {
    subject.sockets(snapshot).next()?;
    let mut own = snapshot.clone();
    own.sockets.retain(|socket| match socket.remote {
        Some(remote) => subject.side(socket.local, remote).is_some(),
        None => true,
    });
    Some(own)
}

/// Converts record times to times since the first event.
fn count_from_first(story: &mut Story) {
    let phases = |story: &Story| -> Vec<u64> {
        let connections = story.connections.iter().flat_map(|it| &it.phases);
        let events = (story.prologue.iter().chain(connections)).flat_map(|it| &it.events);
        let states = story.connections.iter().flat_map(|it| &it.states);
        (events.chain(&story.others).map(|event| event.at_ns))
            .chain(states.map(|change| change.at_ns))
            .collect()
    };
    let origin_ns = phases(story).into_iter().min().unwrap_or(0);
    let rebase = |event: &mut Event| {
        event.at_ns -= origin_ns;
        if let Happening::State(change) = &mut event.what {
            change.at_ns -= origin_ns;
        }
    };
    let in_phases = |phases: &mut Vec<Phase>| {
        phases
            .iter_mut()
            .flat_map(|phase| &mut phase.events)
            .for_each(rebase);
    };
    story.origin_ns = origin_ns;
    in_phases(&mut story.prologue);
    story.others.iter_mut().for_each(rebase);
    for connection in &mut story.connections {
        in_phases(&mut connection.phases);
        for change in &mut connection.states {
            change.at_ns -= origin_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::states::arrow;
    use super::super::why::WHY_MAX;
    use super::super::{EndingKind, Part, PhaseKind, StateChange};
    use super::*;
    use crate::model::{Call, Change, Flags, Holder, Moment, Packet, Socket, Sources, State, What};

    fn end(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    const SERVER: u16 = 8000;

    /// A small range of numbers, so that segments often match each other.
    fn packet() -> impl Strategy<Value = Packet> {
        let numbers = (0..400u64, 40_000..40_002u16, any::<bool>(), 0..64u8);
        let payload = prop_oneof![
            Just(Vec::new()),
            Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            Just(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel".to_vec()),
            vec(any::<u8>(), 0..9),
        ];
        (numbers, 0..9u32, 0..9u32, payload).prop_map(
            |((at_ms, port, up, bits), sequence, acknowledgement, payload)| Packet {
                at_ns: at_ms * 1_000_000,
                interface: None,
                source: end(if up { port } else { SERVER }),
                destination: end(if up { SERVER } else { port }),
                identification: None,
                hops: 64,
                ip_bytes: 52,
                flags: Flags {
                    fin: bits & 3 == 3,
                    syn: bits & 12 == 12,
                    rst: bits & 28 == 16,
                    ack: bits & 32 != 0,
                    ..Flags::default()
                },
                // Sequence numbers wrap.
                sequence: sequence.wrapping_sub(4),
                acknowledgement: acknowledgement.wrapping_sub(4),
                window: 64,
                options: Vec::new(),
                malformed_options: false,
                payload_bytes: payload.len() as u32,
                payload,
            },
        )
    }

    fn change() -> impl Strategy<Value = Change> {
        let state = || (1..=12i32).prop_filter_map("a state", State::from_linux);
        let port = prop_oneof![Just(0u16), 40_000..40_002u16];
        (0..400u64, port, any::<bool>(), 0..3u64, state(), state()).prop_map(
            |(at_ms, port, up, socket, old, new)| Change {
                at_ns: at_ms * 1_000_000,
                local: end(if up { port } else { SERVER }),
                remote: end(if up { SERVER } else { port }),
                socket,
                old,
                new,
            },
        )
    }

    fn call() -> impl Strategy<Value = Call> {
        let name = prop::sample::select(vec![
            "socket",
            "bind",
            "listen",
            "accept4",
            "connect",
            "sendto",
            "recvfrom",
            "close",
            "shutdown",
            "epoll_wait",
            "read",
            "openat",
            "dup2",
            "setsockopt",
        ]);
        let times = (
            prop::option::of(0..400u64),
            prop::option::of(0..400u64),
            any::<bool>(),
        );
        let registers = prop::array::uniform6(0..6u64);
        (times, name, registers, prop::option::of(-115..9i64)).prop_map(
            |((entered, left, client), name, arguments, result)| Call {
                entered_ns: entered.map(|ms| ms * 1_000_000),
                left_ns: left.map(|ms| ms * 1_000_000),
                side: if client { Side::Client } else { Side::Server },
                pid: 1,
                tid: 1,
                name,
                arguments,
                result,
            },
        )
    }

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let state = (1..=12i32).prop_filter_map("a state", State::from_linux);
        (0..400u64, 40_000..40_002u16, any::<bool>(), state, 0..6i32).prop_map(
            |(at_ms, port, up, state, fd)| Snapshot {
                at_ns: at_ms * 1_000_000,
                moment: "answered",
                sockets: vec![Socket {
                    holders: vec![Holder {
                        command: "server".to_owned(),
                        pid: 1,
                        fd,
                    }],
                    local: end(if up { port } else { SERVER }),
                    remote: (state != State::Listen).then(|| end(if up { SERVER } else { port })),
                    state,
                    receive_queue: 2,
                    send_queue: 1,
                    timer: None,
                    inode: 7,
                    info: None,
                }],
            },
        )
    }

    fn moment() -> impl Strategy<Value = Moment> {
        let what = prop_oneof![
            Just(What::Connecting),
            Just(What::Connected),
            Just(What::Sent(9)),
            Just(What::Received(9)),
            Just(What::EndOfFile),
            Just(What::Closed),
            Just(What::Failed("connect", "connection refused".to_owned())),
        ];
        (
            0..400u64,
            0..3usize,
            prop::option::of(40_000..40_002u16),
            what,
        )
            .prop_map(|(at_ms, connection, port, what)| Moment {
                tid: 7,
                at_ns: at_ms * 1_000_000,
                connection,
                local: port.map(end),
                what,
            })
    }

    fn record() -> impl Strategy<Value = Record> {
        (
            vec(packet(), 0..24),
            vec(change(), 0..12),
            vec(call(), 0..16),
            vec(snapshot(), 0..4),
            vec(moment(), 0..6),
            any::<bool>(),
        )
            .prop_map(
                |(packets, changes, calls, snapshots, moments, known)| Record {
                    lacks_times: false,
                    packets,
                    errors: Vec::new(),
                    changes,
                    calls,
                    snapshots,
                    moments,
                    time_waits: None,
                    server: known.then(|| end(SERVER)),
                    sources: Sources {
                        calls: Source::Seen,
                        changes: Source::Seen,
                        ..Sources::default()
                    },
                    notes: Vec::new(),
                },
            )
    }

    fn check_phase(phase: &Phase) -> Result<(), TestCaseError> {
        let times: Vec<u64> = phase.events.iter().map(|event| event.at_ns).collect();
        prop_assert!(times.is_sorted(), "{:?}: {times:?}", phase.kind);
        for event in &phase.events {
            let why = event.why.as_deref().unwrap_or_default();
            prop_assert!(why.chars().count() <= WHY_MAX, "{why}");
        }
        Ok(())
    }

    fn check_states(states: &[StateChange]) -> Result<(), TestCaseError> {
        for side in [Side::Client, Side::Server] {
            let own: Vec<&StateChange> = states.iter().filter(|it| it.side == side).collect();
            for change in &own {
                prop_assert!(arrow(change.old, change.new), "{change:?}");
            }
            for pair in own.windows(2) {
                prop_assert_eq!(pair[0].new, pair[1].old);
                prop_assert!(pair[0].at_ns <= pair[1].at_ns);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_was_seen_is_told_in_order(record in record()) {
            let story = tell(&record);
            let mut segments = 0;
            for connection in &story.connections {
                check_states(&connection.states)?;
                let mut last_ns: Option<u64> = None;
                for phase in &connection.phases {
                    check_phase(phase)?;
                    for event in &phase.events {
                        prop_assert!(last_ns.is_none_or(|last_ns| last_ns <= event.at_ns));
                        last_ns = Some(event.at_ns);
                        if let Happening::Segment(segment) = &event.what {
                            segments += 1 + segment.copies as usize;
                        }
                    }
                }
            }
            for phase in &story.prologue {
                check_phase(phase)?;
            }
            prop_assert!(story.others.is_sorted_by_key(|event| event.at_ns));
            prop_assert_eq!(segments, record.packets.len());
        }
    }

    /// A single-threaded server serves two connections with the same descriptor, one after the
    /// other.
    #[test]
    fn calls_find_their_connections() {
        let call = |at_us: (u64, u64), side, name, fd: u64, result| Call {
            entered_ns: Some(at_us.0 * 1000),
            left_ns: Some(at_us.1 * 1000),
            side,
            pid: if side == Side::Client { 10 } else { 20 },
            tid: 1,
            name,
            arguments: [fd, 4096, 4096, 0, 0, 0],
            result: Some(result),
        };
        let mut record = Record::default();
        record
            .calls
            .push(call((0, 1), Side::Server, "socket", 2, 3));
        record
            .calls
            .push(call((1, 2), Side::Server, "listen", 3, 0));
        record
            .calls
            .push(call((2, 3), Side::Server, "read", 9, 100));
        for (number, start_us) in [(0u16, 100u64), (1, 300)] {
            let at = |us: u64| start_us + us;
            let mut packet =
                |us: u64, up: bool, letters: &str, sequence, acknowledgement, payload: &[u8]| {
                    let client = end(40_000 + number);
                    record.packets.push(Packet {
                        at_ns: at(us) * 1000,
                        interface: None,
                        source: if up { client } else { end(SERVER) },
                        destination: if up { end(SERVER) } else { client },
                        identification: None,
                        hops: 64,
                        ip_bytes: 52,
                        flags: Flags {
                            syn: letters.contains('S'),
                            fin: letters.contains('F'),
                            ack: letters.contains('.'),
                            ..Flags::default()
                        },
                        sequence,
                        acknowledgement,
                        window: 64,
                        options: Vec::new(),
                        malformed_options: false,
                        payload_bytes: payload.len() as u32,
                        payload: payload.to_vec(),
                    });
                };
            packet(2, true, "S", 0, 0, b"");
            packet(3, false, "S.", 0, 1, b"");
            packet(4, true, ".", 1, 1, b"");
            packet(11, true, ".", 1, 1, b"GET / HTTP/1.1\r\n\r\n");
            let calls = [
                call((at(0), at(1)), Side::Client, "socket", 2, 5),
                call((at(1), at(5)), Side::Client, "connect", 5, 0),
                call(
                    (if number == 0 { 3 } else { 150 }, at(7)),
                    Side::Server,
                    "accept4",
                    3,
                    4,
                ),
                call((at(8), at(14)), Side::Server, "recvfrom", 4, 18),
                call((at(10), at(12)), Side::Client, "sendto", 5, 18),
                call((at(40), at(41)), Side::Server, "close", 4, 0),
                call((at(42), at(43)), Side::Client, "close", 5, 0),
            ];
            record.calls.extend(calls);
        }
        let story = tell(&record);
        let names = |events: &mut dyn Iterator<Item = &Event>| -> Vec<(&'static str, Part)> {
            events
                .filter_map(|event| match &event.what {
                    Happening::Call(line) => Some((line.name, line.part)),
                    _ => None,
                })
                .collect()
        };
        let prologue = names(&mut story.prologue.iter().flat_map(|it| &it.events));
        assert_eq!(
            prologue,
            [
                ("socket", Part::Whole),
                ("listen", Part::Whole),
                ("accept4", Part::Enter)
            ],
            "a read of a file is none of it"
        );
        assert_eq!(story.connections.len(), 2);
        for connection in &story.connections {
            let own = names(&mut connection.phases.iter().flat_map(|it| &it.events));
            assert_eq!(
                own,
                [
                    ("socket", Part::Whole),
                    ("connect", Part::Enter),
                    ("connect", Part::Leave),
                    ("accept4", Part::Leave),
                    ("recvfrom", Part::Enter),
                    ("sendto", Part::Enter),
                    ("sendto", Part::Leave),
                    ("recvfrom", Part::Leave),
                    ("close", Part::Whole),
                    ("close", Part::Whole),
                ],
                "{:?}",
                connection.endpoints
            );
        }
        assert_eq!(names(&mut story.others.iter()), [("accept4", Part::Enter)]);
    }

    /// Without privileges, the client's own notes and the list of sockets are enough for a story.
    #[test]
    fn a_client_alone_tells_it_too() {
        let client = end(40_000);
        let moment = |at_us: u64, what| Moment {
            tid: 7,
            at_ns: at_us * 1000,
            connection: 0,
            local: Some(client),
            what,
        };
        let socket = |local, remote, state| Socket {
            holders: Vec::new(),
            local,
            remote: Some(remote),
            state,
            receive_queue: 0,
            send_queue: 0,
            timer: None,
            inode: 1,
            info: None,
        };
        let snapshot = |at_us: u64, sockets| Snapshot {
            at_ns: at_us * 1000,
            moment: "closed",
            sockets,
        };
        let record = Record {
            moments: vec![
                moment(10, What::Connecting),
                moment(20, What::Connected),
                moment(40, What::Sent(60)),
                moment(50, What::Received(100)),
                moment(60, What::Answered(200)),
                moment(70, What::EndOfFile),
                moment(80, What::Closed),
            ],
            snapshots: vec![
                snapshot(
                    30,
                    vec![
                        socket(end(SERVER), client, State::Established),
                        socket(client, end(SERVER), State::Established),
                    ],
                ),
                snapshot(90, vec![socket(end(SERVER), client, State::TimeWait)]),
                snapshot(60_000_100, Vec::new()),
            ],
            server: Some(end(SERVER)),
            ..Record::default()
        };
        let story = tell(&record);
        let connection = &story.connections[0];
        assert_eq!(connection.ending.kind, EndingKind::Closed(Side::Server));
        let states = |side| -> Vec<(u64, State)> {
            let own = connection.states.iter().filter(|it| it.side == side);
            own.map(|it| (it.at_ns / 1000, it.new)).collect()
        };
        assert_eq!(
            states(Side::Client),
            [
                (0, State::SynSent),
                (10, State::Established),
                (60, State::CloseWait),
                (70, State::LastAck)
            ]
        );
        assert_eq!(
            states(Side::Server),
            [
                (20, State::SynReceived),
                (20, State::Established),
                (80, State::FinWait1),
                (80, State::TimeWait),
                (60_000_090, State::Closed)
            ]
        );
        let kinds: Vec<PhaseKind> = connection.phases.iter().map(|it| it.kind).collect();
        assert_eq!(
            kinds,
            [
                PhaseKind::Handshake,
                PhaseKind::Request,
                PhaseKind::Response,
                PhaseKind::Close,
                PhaseKind::Aftermath
            ]
        );
    }
}
