//! Conversations that are planned to the byte and the second, and the checks of each: the answers, what the owner of
//! the connection is asked to do, the memory held, and the deadlines. `reference` and the earlier events determine
//! the expected answers.

#![allow(dead_code)] // Each test file uses its own part of this.

mod conversation;
mod neighbour;

use std::fmt;
use std::time::Duration;

use http1::Limits;

use crate::reference;
use conversation::Conversation;

/// A conversation: what the peer sends and what happens meanwhile. Text that the steps do not send is sent after
/// them.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) limits: Limits,
    pub(crate) steps: Vec<Step>,
    pub(crate) text: Vec<u8>,
    pub(crate) ending: Ending,
}

/// A step of a conversation. A step that does not fit the state of the connection does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A read returns this many bytes of the text, after all answers were taken.
    Read(usize),
    /// The bytes of the last read arrive this many times more, all at once.
    Again(usize),
    /// A write takes at most this many bytes.
    Write(usize),
    Wait(Duration),
    /// The deadline passes.
    TimeOut,
    /// The peer shuts its side.
    End,
    /// The server stops, and waits this long for a further request.
    Drain(Duration),
    /// Another connection is served in the same scratch space.
    Neighbour,
}

/// What the peer does at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It takes all answers and shuts its side.
    Shut,
    /// It takes all answers and sends nothing more.
    Silent,
    /// It neither reads nor sends any more.
    Dead,
}

/// The most bytes that a peer sends: more than any limit on buffered bytes.
const INPUT_BYTES_MAX: usize = 20 * 1024;

/// The most bytes that one read returns.
const READ_BYTES_MAX: usize = 4096;

/// The whole input, read in as few pieces as possible.
const AT_ONCE: [Step; INPUT_BYTES_MAX / READ_BYTES_MAX] =
    [Step::Read(READ_BYTES_MAX); INPUT_BYTES_MAX / READ_BYTES_MAX];

impl Plan {
    /// Decodes a conversation. The file holds one byte for limits and ending, one for the number of steps, two for
    /// each step, and then the text.
    pub(crate) fn decode(file: &[u8]) -> Plan {
        let (&[manner, steps], rest) = file.split_first_chunk().unwrap_or((&[0, 0], file));
        let (pairs, _) = rest.as_chunks::<2>();
        let pairs = &pairs[..pairs.len().min(usize::from(steps % 64))];
        Plan {
            limits: limits(manner & 1 == 1),
            steps: pairs.iter().copied().map(Step::decode).collect(),
            text: rest[2 * pairs.len()..].to_vec(),
            ending: match manner & 6 {
                0 | 2 => Ending::Shut,
                4 => Ending::Silent,
                _ => Ending::Dead,
            },
        }
    }

    /// Decodes a head, and adds the body that it announces and a further request. That shows where the head ends,
    /// which body follows it and whether the connection persists. The file holds one byte for the limits, and the
    /// head.
    pub(crate) fn decode_head(file: &[u8]) -> Plan {
        let (&manner, head) = file.split_first().unwrap_or((&0, &[]));
        let limits = limits(manner & 1 == 1);
        let mut text = head.to_vec();
        if let Some(first) = reference::requests(head, &limits).first() {
            if let Some(body) = first.body {
                text.truncate(body.begins);
                match body.length {
                    Some(length) => text.resize(body.begins + length.min(4096) as usize, b'x'),
                    None => text.extend_from_slice(b"2\r\nxx\r\n0\r\n\r\n"),
                }
            } else if let Some(answer) = &first.answer {
                text.truncate(answer.at);
            }
            text.extend_from_slice(b"HEAD / HTTP/1.1\nHost:\n\n");
        }
        Plan {
            limits,
            steps: Vec::new(),
            text,
            ending: Ending::Shut,
        }
    }

    /// Checks the conversation as planned, with the same input read at once, and byte by byte. Panics if a check
    /// fails.
    pub(crate) fn check(&self) {
        let (steps, input) = self.unfolded();
        let requests = reference::requests(&input, &self.limits);
        let converse = |steps: &[Step], ending| {
            let mut conversation = Conversation::new(self.limits, &input, &requests);
            for &step in steps {
                conversation.go_on(step);
            }
            conversation.end(ending)
        };
        if !self.steps.is_empty() || self.ending != Ending::Shut {
            converse(&steps, self.ending);
        }
        let whole = converse(&AT_ONCE, Ending::Shut);
        let piece = match input.len() {
            ..=2048 => 1,
            _ => 61,
        };
        let split = vec![Step::Read(piece); input.len().div_ceil(piece)];
        assert_eq!(plain(&converse(&split, Ending::Shut)), plain(&whole));
    }

    /// The steps with plain reads only, and all bytes that they read.
    fn unfolded(&self) -> (Vec<Step>, Vec<u8>) {
        let mut steps = Vec::new();
        let mut input: Vec<u8> = Vec::new();
        let mut text = &self.text[..];
        let mut last = 0;
        for &step in self.steps.iter().chain(&AT_ONCE) {
            let room = INPUT_BYTES_MAX - input.len();
            match step {
                Step::Read(bytes) => {
                    last = bytes.min(text.len()).min(room).min(READ_BYTES_MAX);
                    let (piece, others) = text.split_at(last);
                    input.extend_from_slice(piece);
                    text = others;
                    steps.push(Step::Read(last));
                }
                Step::Again(times) => {
                    let times = times.min(room.checked_div(last).unwrap_or(0));
                    let piece = input[input.len() - last..].repeat(times);
                    input.extend_from_slice(&piece);
                    let reads = piece
                        .chunks(READ_BYTES_MAX)
                        .map(|read| Step::Read(read.len()));
                    steps.extend(reads);
                }
                other => steps.push(other),
            }
        }
        (steps, input)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let narrow = self.limits == limits(true);
        write!(f, "b\"{}\" ", self.text.escape_ascii())?;
        write!(f, "(narrow: {narrow}; {:?}, {:?})", self.steps, self.ending)
    }
}

impl Step {
    fn decode([kind, argument]: [u8; 2]) -> Step {
        let times = Duration::from_millis(100) * u32::from(argument);
        match kind % 8 {
            0 => Step::Read(size(argument)),
            1 => Step::Again(argument.into()),
            2 => Step::Write(size(argument)),
            3 => Step::Wait(times),
            4 => Step::TimeOut,
            5 => Step::End,
            6 => Step::Drain(times),
            _ => Step::Neighbour,
        }
    }
}

/// Decodes a size: 1 to 128 in steps of 1, then up to 4096 in steps of 31.
fn size(argument: u8) -> usize {
    match usize::from(argument) {
        small @ ..128 => small + 1,
        large => 128 + (large - 127) * 31,
    }
}

/// The usual limits, or limits so narrow that a few bytes reach them. All times are different.
pub(crate) fn limits(narrow: bool) -> Limits {
    let limits = Limits {
        idle_timeout: Duration::from_secs(5),
        header_timeout: Duration::from_secs(7),
        linger_timeout: Duration::from_secs(2),
        bytes_per_s_min: 100,
        ..Limits::default()
    };
    match narrow {
        false => limits,
        true => Limits {
            request_line_bytes_max: 40,
            head_bytes_max: 160,
            body_bytes_max: 50,
            bytes_per_s_min: 10,
            ..limits
        },
    }
}

/// Answers for comparison, without `100 Continue`: whether that is sent depends on how the body arrived
/// (9110 §10.1.1).
fn plain(answers: &[u8]) -> String {
    String::from_utf8_lossy(answers).replace("HTTP/1.1 100 Continue\r\n\r\n", "")
}
