//! What the bytes that came, and the ends of connections, say about the errors of a run.

use crate::figures::thousands;
use crate::plan::Plan;
use crate::record::{Closes, Kind, Phase, Record};
use crate::response::{Misread, Rule};

/// A reason, and what to try.
pub(crate) type Reason = (String, String);

/// Why there was no response at all, if the bytes that came say so.
pub(crate) fn on_silence(record: &Record) -> Option<Reason> {
    let (what, misread) = match (&record.misread, &record.unsolicited.misread) {
        (Some(misread), _) => ("what came is", misread),
        (None, Some(misread)) if record.warmup_responses == 0 => {
            ("on an idle connection came", misread)
        }
        (None, _) => return None,
    };
    let reason = format!("{}: {what} {misread}", none_answered(record));
    Some((reason, advice_on_bytes(misread)))
}

/// Of a run without an answer in the time that counts: whether there was one before.
pub(crate) fn none_answered(record: &Record) -> String {
    match record.warmup_responses {
        0 => "no response at all".to_owned(),
        1 => "1 request of the warm-up was answered, none since".to_owned(),
        n => format!(
            "{} requests of the warm-up were answered, none since",
            thousands(n)
        ),
    }
}

/// Says more of the most frequent error, where there is more to say.
pub(crate) fn on_errors(plan: &Plan, record: &Record, phase: Phase, kind: Kind) -> Option<Reason> {
    match kind {
        Kind::Malformed => {
            let misread = record.misread.as_ref()?;
            Some((misread.to_string(), advice_on_bytes(misread)))
        }
        Kind::BehindClose if record.switches > record.closes_announced.connections => {
            let reason = "a response switched the connection to another protocol, and the requests pipelined \
                          behind were not answered";
            let advice = "Do not pipeline behind such a request (-p 1).";
            Some((reason.to_owned(), advice.to_owned()))
        }
        Kind::BehindClose => on_announced(record.closes_announced),
        Kind::ClosedEarly | Kind::Reset if phase != Phase::Connect => on_unannounced(plan, record),
        _ => None,
    }
}

/// What is worth a note: bytes that were not understood, or that nobody asked for, and were too few to doubt
/// the run.
pub(crate) fn note(record: &Record) -> Option<String> {
    let unsolicited = &record.unsolicited;
    if let Some(misread) = &unsolicited.misread {
        return Some(format!(
            "On idle connections the server sent what is not HTTP/1 ({misread}): it answers no request and \
             costs none.",
        ));
    }
    let misread = record.misread.as_ref()?;
    Some(format!("What was malformed is {misread}."))
}

fn on_announced(closes: Closes) -> Option<Reason> {
    let limit = closes.responses_min;
    let reason = format!(
        "the server announced the close of a connection after {} and did not answer the requests \
         pipelined behind",
        responses(closes)
    );
    // One connection, or connections that end at random, are no limit.
    let varies_by = closes.responses_max - closes.responses_min;
    let is_limit = closes.connections >= 2 && limit > 0 && varies_by <= limit / 4;
    let advice = match is_limit {
        true => format!(
            "Send no more than that on a connection (-k {limit}), or do not pipeline (-p 1)."
        ),
        false => "Do not pipeline (-p 1).".to_owned(),
    };
    (closes.connections > 0).then_some((reason, advice))
}

fn on_unannounced(plan: &Plan, record: &Record) -> Option<Reason> {
    let crossed = record.unsolicited.crossed;
    if 2 * crossed > record.closes_unannounced.connections {
        let reason = format!(
            "the server's wait for a request ended with a 408 {} as requests were on their way",
            match crossed {
                1 => "once".to_owned(),
                times => format!("{} times", thousands(times)),
            }
        );
        let advice =
            "Raise the server's timeout for idle connections, or send more often than that.";
        return Some((reason, advice.to_owned()));
    }
    let closes = record.closes_unannounced;
    let varies_by = closes.responses_max - closes.responses_min;
    // A reset may destroy responses that are on their way.
    let is_limit = closes.connections >= 2
        && closes.responses_min > 0
        && (varies_by == 0 || varies_by < plan.pipeline as u64);
    let limit = closes.responses_min;
    is_limit.then(|| {
        let reason = format!(
            "the server closed {} connections after {}, without saying so before",
            thousands(closes.connections),
            responses(closes)
        );
        let advice = format!("Send no more than that on a connection: -k {limit}.");
        (reason, advice)
    })
}

/// `100 responses`, `90 to 110 responses`.
fn responses(closes: Closes) -> String {
    let (min, max) = (closes.responses_min, closes.responses_max);
    match (min == max, max) {
        (true, 1) => "1 response".to_owned(),
        (true, _) => format!("{} responses", thousands(max)),
        (false, _) => format!("{} to {} responses", thousands(min), thousands(max)),
    }
}

fn advice_on_bytes(misread: &Misread) -> String {
    if let Some(protocol) = misread.protocol() {
        return protocol.advice.to_owned();
    }
    match misread.rule {
        Rule::BytesBehind => {
            "See what the server says about the length of its responses: Content-Length is too small."
        }
        Rule::NoColon | Rule::ContentLength | Rule::ChunkedParameter => {
            "See which header fields the server sends: curl -v, with the same URL."
        }
        Rule::ChunkSize | Rule::ChunkEnd | Rule::LineTooLong => {
            "See how the server frames its chunks: curl -v --raw, with the same URL."
        }
        Rule::HeadTooLong | Rule::TooManyInterim => {
            "The server sends more than a client need take: see its header fields with curl -v."
        }
        Rule::StatusLine => "See what listens on this port: is it an HTTP server?",
    }
    .to_owned()
}
