//! Puts the story together.

use super::calls::{About, Known, attribute};
use super::endings::ending;
use super::phases::{listening, phases};
use super::subject::{Subject, subjects};
use super::timeline::{Item, Thing, ends, happening, items, ordered};
use super::{Connection, Event, Happening, Phase, Story};
use crate::trace::model::{Record, Side, Snapshot, Source};

/// Orders what was seen by connection and phase, and says why it came about. Nothing but the record counts.
pub fn tell(record: &Record) -> Story {
    let record = &in_order(record);
    let (subjects, listeners, told_notes) = subjects(record);
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
                // What a client does before it connects is no part of how a server begins.
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

/// Calls that are about a connection, on entry or on leaving.
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

/// What a snapshot has of one connection, and the listeners; none if it has nothing of it.
fn of_one(subject: &Subject<'_>, snapshot: &Snapshot) -> Option<Snapshot> {
    subject.sockets(snapshot).next()?;
    let mut own = snapshot.clone();
    own.sockets.retain(|socket| match socket.remote {
        Some(remote) => subject.side(socket.local, remote).is_some(),
        None => true,
    });
    Some(own)
}

/// Files may be out of order: several interfaces, several queues.
fn in_order(record: &Record) -> Record {
    let mut record = record.clone();
    record.packets.sort_by_key(|packet| packet.at_ns);
    record.changes.sort_by_key(|change| change.at_ns);
    record
        .calls
        .sort_by_key(|call| call.entered_ns.or(call.left_ns));
    record.snapshots.sort_by_key(|snapshot| snapshot.at_ns);
    record.moments.sort_by_key(|moment| moment.at_ns);
    record
}

/// Turns times of the record into times since the first event.
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
