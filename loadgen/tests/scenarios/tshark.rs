//! What tshark says of a capture: its numbers of streams, and its analysis of sequence numbers.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::builder::Content;
use super::said::Said;
use super::table::Scenario;

/// Fields of tshark's analysis, and what `loadgen trace` calls the same.
pub(crate) const NAMES: [(&str, &str); 15] = [
    ("tcp.analysis.keep_alive", "keep-alive"),
    ("tcp.analysis.keep_alive_ack", "keep-alive-ack"),
    ("tcp.analysis.zero_window", "zero-window"),
    ("tcp.analysis.zero_window_probe", "zero-window-probe"),
    (
        "tcp.analysis.zero_window_probe_ack",
        "zero-window-probe-ack",
    ),
    ("tcp.analysis.window_full", "window-full"),
    ("tcp.analysis.window_update", "window-update"),
    ("tcp.analysis.duplicate_ack", "duplicate-ack"),
    ("tcp.analysis.retransmission", "retransmission"),
    ("tcp.analysis.fast_retransmission", "fast-retransmission"),
    (
        "tcp.analysis.spurious_retransmission",
        "spurious-retransmission",
    ),
    ("tcp.analysis.out_of_order", "out-of-order"),
    ("tcp.analysis.lost_segment", "lost-segment"),
    ("tcp.analysis.ack_lost_segment", "ack-of-unseen"),
    ("tcp.analysis.reused_ports", "ports-reused"),
];

/// `4.0.17`; nothing where it is not installed.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("tshark")
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.trim_end_matches('.').to_owned())
}

/// What it says of each frame of a file; streams are counted as they come.
fn said_of(file: &Path) -> Result<Vec<Said>, String> {
    let mut command = Command::new("tshark");
    command.args([
        "-n",
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "occurrence=f",
    ]);
    for preference in [
        "tcp.analyze_sequence_numbers:TRUE",
        "tcp.relative_sequence_numbers:TRUE",
        "tcp.desegment_tcp_streams:FALSE",
        "tcp.track_bytes_in_flight:TRUE",
    ] {
        command.args(["-o", preference]);
    }
    for field in ["frame.encap_type", "tcp.stream"]
        .into_iter()
        .chain(NAMES.map(|(field, _)| field))
    {
        command.args(["-e", field]);
    }
    let folder = file.parent().ok_or("the file is in no folder")?;
    let output = (command.arg("-r").arg(file))
        // Nobody's own settings.
        .env("WIRESHARK_CONFIG_DIR", folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("tshark: {}: {why}", output.status));
    }
    let said = |line: &str| {
        let mut columns = line.split('\t').skip(1);
        let connection = columns.next().and_then(|stream| stream.parse().ok());
        let names = NAMES
            .iter()
            .zip(columns)
            .filter(|(_, value)| !value.is_empty());
        let remarks = names.map(|((_, ours), _)| *ours).collect();
        Said {
            connection,
            remarks,
            ..Said::default()
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A custom block counts as a frame there, without a link layer.
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('\t'))
        .map(said)
        .collect())
}

/// An ICMP error quotes the header of a segment, and is none.
fn of_segments(scenario: &Scenario, mut said: Vec<Said>) -> Result<Vec<Said>, String> {
    if said.len() != scenario.frames.len() {
        return Err(format!(
            "tshark sees {} frames of {}",
            said.len(),
            scenario.frames.len()
        ));
    }
    for (said, frame) in said.iter_mut().zip(&scenario.frames) {
        if frame.segment().is_none() {
            *said = Said::default();
        }
    }
    Ok(said)
}

pub(crate) fn by_tshark(scenario: &Scenario, file: &Path) -> Result<Vec<Said>, String> {
    of_segments(scenario, said_of(file)?)
}

/// The same for many at once, which takes a fraction of the time: in one file, with addresses of their own.
pub(crate) fn by_tshark_at_once(
    scenarios: &[&Scenario],
    file: &Path,
) -> Result<Vec<Vec<Said>>, String> {
    let mut frames = Vec::new();
    for (number, scenario) in scenarios.iter().enumerate() {
        frames.extend(scenario.frames.iter().cloned().map(|mut frame| {
            if let Content::Segment(segment) = &mut frame.content {
                for end in &mut segment.ends {
                    let IpAddr::V4(ip) = end.ip() else { continue };
                    let [first, _, third, last] = ip.octets();
                    end.set_ip(IpAddr::from([first, number as u8, third, last]));
                }
            }
            frame
        }));
    }
    fs::write(file, scenarios[0].written(&frames)).map_err(|error| error.to_string())?;
    let mut said = said_of(file)?.into_iter();
    let own = |scenario: &&Scenario| {
        let mut own: Vec<Said> = said.by_ref().take(scenario.frames.len()).collect();
        // Its first stream is number 0.
        let first = own
            .iter()
            .filter_map(|said| said.connection)
            .min()
            .unwrap_or(0);
        for said in &mut own {
            said.connection = said.connection.map(|stream| stream - first);
        }
        of_segments(scenario, own)
    };
    scenarios.iter().map(own).collect()
}
