//! What received bytes and closed connections reveal about the errors of a run.

use crate::figures::thousands;
use crate::plan::Plan;
use crate::record::{Closes, Kind, Phase, Record};
use crate::response::{Misread, Rule};

/// A reason and its advice.
pub(crate) type Reason = (String, String);

/// Why there was no response at all, if the received bytes say so.
pub(crate) fn on_silence(record: &Record) -> Option<Reason> {
    let (what, misread) = match (&record.misread, &record.unsolicited.misread) {
        (Some(misread), _) => ("the server sent", misread),
        (None, Some(misread)) if record.counts.warmup_responses == 0 => {
            ("on an idle connection, the server sent", misread)
        }
        (None, _) => return None,
    };
    let reason = format!("{}: {what} {misread}", none_answered(record));
    Some((reason, advice_on_bytes(misread)))
}

/// The start of a reason for a run without answers during the counted time: whether any came before
/// it.
pub(crate) fn none_answered(record: &Record) -> String {
    match record.counts.warmup_responses {
        0 => "no response at all".to_owned(),
        1 => "1 request of the warm-up was answered, none since".to_owned(),
        n => format!(
            "{} requests of the warm-up were answered, none since",
            thousands(n)
        ),
    }
}

/// A more precise reason for the most frequent error, if there is one.
pub(crate) fn on_errors(plan: &Plan, record: &Record, phase: Phase, kind: Kind) -> Option<Reason> {
    match kind {
        Kind::Malformed => {
            let misread = record.misread.as_ref()?;
            Some((misread.to_string(), advice_on_bytes(misread)))
        }
        Kind::BehindClose
            if record.counts.protocol_switches > record.closes_announced.connections =>
        {
            let reason = "a response switched the connection to another protocol, and the requests pipelined after it \
             were not answered";
            let advice = "Do not pipeline after such a request (-p 1).";
            Some((reason.to_owned(), advice.to_owned()))
        }
        Kind::BehindClose => on_announced(record.closes_announced),
        Kind::ClosedEarly | Kind::Reset if phase != Phase::Connect => on_unannounced(plan, record),
        _ => None,
    }
}

/// A note about malformed or unsolicited bytes that were too few to make the run doubtful.
pub(crate) fn note(record: &Record) -> Option<String> {
    let unsolicited = &record.unsolicited;
    if let Some(misread) = &unsolicited.misread {
        return Some(format!(
            "On idle connections the server sent something other than HTTP/1 ({misread}). It answers no request, and \
             no request failed because of it.",
        ));
    }
    let misread = record.misread.as_ref()?;
    Some(format!("The malformed bytes were {misread}."))
}

fn on_announced(closes: Closes) -> Option<Reason> {
    let limit = closes.responses_min;
    let reason = format!(
        "the server announced the close of a connection after {} and did not answer the requests pipelined \
         after it",
        responses(closes)
    );
    // A single connection, or connections that end at random, do not show a limit.
    let varies_by = closes.responses_max - closes.responses_min;
    let is_limit = closes.connections >= 2 && limit > 0 && varies_by <= limit / 4;
    let advice = match is_limit {
        true => format!(
            "Send no more requests than that per connection (-k {limit}), or do not pipeline (-p 1)."
        ),
        false => "Do not pipeline (-p 1).".to_owned(),
    };
    (closes.connections > 0).then_some((reason, advice))
}

fn on_unannounced(plan: &Plan, record: &Record) -> Option<Reason> {
    let crossed = record.unsolicited.crossed;
    if 2 * crossed > record.closes_unannounced.connections {
        let reason = format!(
            "the server timed out waiting for a request (408) {} while requests were on their way",
            match crossed {
                1 => "once".to_owned(),
                times => format!("{} times", thousands(times)),
            }
        );
        let advice =
            "Raise the server's timeout for idle connections, or send requests more often.";
        return Some((reason, advice.to_owned()));
    }
    let closes = record.closes_unannounced;
    let varies_by = closes.responses_max - closes.responses_min;
    // A reset may destroy responses that are still in flight.
    let is_limit = closes.connections >= 2
        && closes.responses_min > 0
        && (varies_by == 0 || varies_by < plan.pipeline as u64);
    let limit = closes.responses_min;
    is_limit.then(|| {
        let reason = format!(
            "the server closed {} connections after {}, without announcing it",
            thousands(closes.connections),
            responses(closes)
        );
        let advice = format!("Send no more requests than that per connection: -k {limit}.");
        (reason, advice)
    })
}

/// A number of responses: `100 responses`, `90 to 110 responses`.
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
            "Check how the server computes Content-Length: it is too small."
        }
        Rule::NoColon | Rule::ContentLength | Rule::ChunkedParameter => {
            "Look at the server's header fields: curl -v with the same URL."
        }
        Rule::ChunkSize | Rule::ChunkEnd | Rule::LineTooLong => {
            "Look at how the server frames its chunks: curl -v --raw with the same URL."
        }
        Rule::HeadTooLong | Rule::TooManyInterim => {
            "The server sends more than a client must accept: look at its header fields with curl -v."
        }
        Rule::StatusLine => "Check what listens on this port: is it an HTTP server?",
    }
    .to_owned()
}
