//! What is said of a capture, frame by frame: the form in which `loadgen trace`, tshark and the table are
//! compared.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::builder::Frame;
use super::table::Scenario;
use super::tshark::NAMES;

/// Of one frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// In which connection its segment is, counted from 0; nothing if no segment is seen in it.
    pub(crate) connection: Option<usize>,
    /// Those of [`NAMES`] that are said of it.
    pub(crate) remarks: BTreeSet<&'static str>,
    /// Names that tshark does not have.
    pub(crate) called: BTreeSet<String>,
}

impl Said {
    /// In what both know of.
    pub(crate) fn agrees(&self, other: &Said) -> bool {
        self.connection == other.connection && self.remarks == other.remarks
    }
}

/// As the table has it.
pub(crate) fn expected(scenario: &Scenario) -> Vec<Said> {
    let said = |(index, frame): (usize, &Frame)| {
        let number = index + 1;
        let is_told = frame.segment().is_some() && !scenario.untold.contains(&number);
        Said {
            connection: is_told.then_some(frame.connection),
            remarks: scenario.remarks_of(number).into_iter().collect(),
            called: BTreeSet::new(),
        }
    };
    scenario.frames.iter().enumerate().map(said).collect()
}

/// What `loadgen trace --read FILE --json -` says, and the JSON itself.
pub(crate) fn by_loadgen(scenario: &Scenario, file: &Path) -> Result<(Vec<Said>, Value), String> {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["trace", "--json", "-", "--read"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        return Err(format!(
            "loadgen: {}: {}",
            output.status,
            text(&output.stderr)
        ));
    }
    let story: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", text(&output.stdout)))?;
    let said = of_story(scenario, &story)?;
    Ok((said, story))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Segments of the JSON are found again among the frames by their addresses, numbers and flags; of several that
/// have the same, the one of the same time, else the first that is left.
fn of_story(scenario: &Scenario, story: &Value) -> Result<Vec<Said>, String> {
    let mut said = vec![Said::default(); scenario.frames.len()];
    let first_us = scenario
        .frames
        .iter()
        .map(|frame| frame.at_ns / 1_000)
        .min();
    for (connection, told) in array(&story["connections"]).iter().enumerate() {
        let events = array(&told["phases"])
            .iter()
            .flat_map(|it| array(&it["events"]));
        for segment in events.filter(|event| event["kind"] == "segment") {
            let at_us = segment["at_us"].as_f64().map(|us| us.round() as u64);
            let at_us = at_us
                .zip(first_us)
                .map(|(at_us, first_us)| at_us + first_us);
            let fits = |index: &usize| {
                said[*index].connection.is_none() && is_same(&scenario.frames[*index], segment)
            };
            let fitting: Vec<usize> = (0..said.len()).filter(fits).collect();
            let at = |index: &&usize| Some(scenario.frames[**index].at_ns / 1_000) == at_us;
            let index = fitting.iter().find(at).or(fitting.first());
            let index = *index.ok_or_else(|| format!("no frame has this segment: {segment}"))?;
            let names = array(&segment["remarks"]).iter().filter_map(Value::as_str);
            let mut found = Said {
                connection: Some(connection),
                ..Said::default()
            };
            for name in names {
                match NAMES.iter().find(|(_, ours)| *ours == name) {
                    Some((_, ours)) => found.remarks.insert(ours),
                    None => found.called.insert(name.to_owned()),
                };
            }
            said[index] = found;
        }
    }
    Ok(said)
}

fn is_same(frame: &Frame, told: &Value) -> bool {
    let Some(segment) = frame.segment() else {
        return false;
    };
    let address = |key: &str| {
        told[key]
            .as_str()
            .and_then(|it| it.parse::<SocketAddr>().ok())
    };
    let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let bit = |name: &str| {
        names
            .iter()
            .position(|it| *it == name)
            .map_or(0, |at| 1 << at)
    };
    let flags = array(&told["flags"])
        .iter()
        .filter_map(Value::as_str)
        .map(bit)
        .sum::<u32>();
    address("source") == Some(segment.source())
        && address("destination") == Some(segment.destination())
        && told["sequence_on_the_wire"].as_u64() == Some(segment.sequence.into())
        && flags == u32::from(segment.flags)
        && told["window"].as_u64() == Some(segment.window.into())
        && told["payload_bytes"].as_u64() == Some(segment.payload.len() as u64)
}

/// Names without a counterpart in tshark that the table has and a frame was not given.
pub(crate) fn not_called(scenario: &Scenario, said: &[Said]) -> Vec<String> {
    let lacks = |(number, name): &&(usize, &str)| !said[number - 1].called.contains(*name);
    let line = |(number, name): &(usize, &str)| {
        let called = &said[number - 1].called;
        format!("frame {number} is not called {name}, but {called:?}")
    };
    scenario.called.iter().filter(lacks).map(line).collect()
}

/// What differs, a line for each kind: `frame 7: keep-alive, not duplicate-ack`; `frame 2 4 6: ...`.
pub(crate) fn differences(one: &[Said], other: &[Said]) -> Vec<String> {
    let mut kinds: Vec<(String, Vec<String>)> = Vec::new();
    let pairs = one.iter().zip(other).enumerate();
    for (index, (a, b)) in pairs.filter(|(_, (a, b))| !a.agrees(b)) {
        let (number, kind) = ((index + 1).to_string(), difference(a, b));
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, numbers)) => numbers.push(number),
            None => kinds.push((kind, vec![number])),
        }
    }
    let line =
        |(kind, numbers): (String, Vec<String>)| format!("frame {}: {kind}", numbers.join(" "));
    kinds.into_iter().map(line).collect()
}

fn difference(one: &Said, other: &Said) -> String {
    let connection = |said: &Said| {
        let named = said
            .connection
            .map(|number| format!("connection {}", number + 1));
        named.unwrap_or_else(|| "no segment".to_owned())
    };
    let words = |said: &Said| match said.remarks.is_empty() {
        true => "nothing".to_owned(),
        false => said
            .remarks
            .iter()
            .copied()
            .collect::<Vec<_>>()
            .join(" and "),
    };
    let (one, other) = match one.connection == other.connection {
        true => (words(one), words(other)),
        false => (connection(one), connection(other)),
    };
    format!("{one}, not {other}")
}
