//! The answers do not depend on how the bytes are split into reads and writes (9112 §2.2), and no peer can make the
//! server hold or send more than its limits allow.

mod peer;
mod plan;
mod reference;

use std::time::Duration;

use http1::Limits;
use peer::{Peer, statuses};
use plan::{Ending, Plan, Step};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// A request with its correct answer.
#[derive(Debug, Clone)]
struct Request {
    bytes: Vec<u8>,
    status: u16,
    head_only: bool,
    last: bool,
}

fn valid() -> impl Strategy<Value = Request> {
    let method = select(vec![
        ("GET", 200),
        ("HEAD", 200),
        ("OPTIONS", 204),
        ("POST", 405),
        ("BREW", 501),
    ]);
    let connection = select(vec![
        "",
        "close",
        "keep-alive",
        "te, Close",
        ",KEEP-alive ,",
    ]);
    let framing = prop_oneof![
        4 => Just(Vec::new()),
        2 => vec(any::<u8>(), 0..60).prop_map(with_length),
        2 => chunked(),
    ];
    let parts = (
        (method, any::<bool>(), connection, framing),
        select(vec!["", "\r\n", "\n", "\r\n\r\n"]),
        select(vec![
            "",
            "Expect: 100-continue\r\n",
            "eXPECT: 100-Continue\r\n",
        ]),
        vec("[A-Za-z-]{1,12}:[ \t]*[ -~]{0,20}\r\n", 0..4),
        select(vec!["/", "/a/b?c=d", "http://localhost/", "HTTP://x"]),
    );
    parts.prop_map(|(what, before, expect, others, target)| {
        let ((method, status), one_dot_zero, connection, framing) = what;
        let chunked = framing.starts_with(b"Transfer-Encoding");
        let version = u8::from(!one_dot_zero);
        let known = [
            "host",
            "connection",
            "expect",
            "content-length",
            "transfer-encoding",
        ];
        let others = others.into_iter().filter(|line| {
            let name = line.split(':').next().unwrap_or_default();
            !known.iter().any(|known| name.eq_ignore_ascii_case(known))
        });
        let head = format!(
            "{before}{method} {target} HTTP/1.{version}\r\nHost: localhost\r\n\
             Connection: {connection}\r\n{expect}{}",
            others.collect::<String>()
        );
        let refused = one_dot_zero && chunked; // 9112 §6.1
        let options = connection.to_ascii_lowercase();
        Request {
            bytes: [
                head.as_bytes(),
                &framing,
                if framing.is_empty() { b"\r\n" } else { b"" },
            ]
            .concat(),
            status: if refused { 400 } else { status },
            head_only: method == "HEAD",
            last: refused
                || options.contains("close")
                || one_dot_zero && !options.contains("keep-alive"),
        }
    })
}

fn with_length(body: Vec<u8>) -> Vec<u8> {
    let head = format!("Content-Length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

fn chunked() -> impl Strategy<Value = Vec<u8>> {
    let extension = select(vec!["", ";a", "; a=b", " ;a=\"b;c\""]);
    let chunk = (vec(any::<u8>(), 1..20), extension, any::<bool>());
    let trailers = select(vec!["", "A: b\r\n", "A: b\r\nContent-Length: 3\r\n"]);
    (vec(chunk, 0..4), trailers).prop_map(|(chunks, trailers)| {
        let mut bytes = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
        for (data, extension, upper) in chunks {
            let size = match upper {
                true => format!("{:X}{extension}\r\n", data.len()),
                false => format!("0{:x}{extension}\r\n", data.len()),
            };
            bytes.extend([size.as_bytes(), &data, b"\r\n"].concat());
        }
        bytes.extend([b"0\r\n", trailers.as_bytes(), b"\r\n"].concat());
        bytes
    })
}

fn invalid() -> impl Strategy<Value = Request> {
    select(vec![
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n",
            413,
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc",
            400,
        ),
        ("\u{1}\u{2}\n", 400),
    ])
    .prop_map(|(text, status)| Request {
        bytes: text.as_bytes().to_vec(),
        status,
        head_only: false,
        last: true,
    })
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    vec(prop_oneof![9 => valid(), 1 => invalid()], 0..8)
}

/// The bytes after the last complete request.
fn tail() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        (valid(), any::<Index>()).prop_map(|(r, at)| r.bytes[..at.index(r.bytes.len())].to_vec()),
        (invalid(), any::<Index>()).prop_map(|(r, at)| r.bytes[..at.index(r.bytes.len())].to_vec()),
        vec(any::<u8>(), 0..80),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![4 => 1usize..60, 1 => 1usize..4096];
    let time = (0u64..80).prop_map(|tenths| Duration::from_millis(100 * tenths));
    prop_oneof![
        8 => bytes.clone().prop_map(Step::Read),
        1 => (1usize..200).prop_map(Step::Again),
        4 => bytes.prop_map(Step::Write),
        2 => time.clone().prop_map(Step::Wait),
        1 => Just(Step::TimeOut),
        1 => Just(Step::End),
        1 => time.prop_map(Step::Drain),
        1 => Just(Step::Neighbour),
    ]
}

fn plan(text: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Plan> {
    let ending = select(vec![Ending::Shut, Ending::Silent, Ending::Dead]);
    let parts = (any::<bool>(), vec(step(), 0..30), text, ending);
    parts.prop_map(|(narrow, steps, text, ending)| Plan {
        limits: plan::limits(narrow),
        steps,
        text,
        ending,
    })
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    (requests(), tail()).prop_map(|(requests, tail)| {
        let requests = requests.into_iter().flat_map(|request| request.bytes);
        requests.chain(tail).collect()
    })
}

/// Random bytes, mixed with some parts of requests.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![select(b"\r\n :/0G".to_vec()), any::<u8>()];
    vec(byte, 0..1500)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::with_cases(250)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn requests_are_answered_alike_however_they_come(plan in plan(conversation())) {
        plan.check();
    }

    #[test]
    fn no_bytes_are_too_much(plan in plan(noise())) {
        plan.check();
    }

    #[test]
    fn every_request_gets_its_answer_in_order_up_to_the_last(requests in requests()) {
        let input: Vec<u8> = requests.iter().flat_map(|r| r.bytes.clone()).collect();
        let last = requests.iter().position(|r| r.last).map_or(requests.len(), |at| at + 1);
        let answered = &requests[..last];
        let mut peer = Peer::new(Limits::default());
        peer.send(&input);
        let answers = String::from_utf8_lossy(&peer.received).replace(CONTINUE, "");
        let expected: Vec<u16> = answered.iter().map(|r| r.status).collect();
        let got = statuses(answers.as_bytes(), |at| answered.get(at).is_some_and(|r| r.head_only));
        prop_assert_eq!(got, expected);
        prop_assert_eq!(peer.requests(), answered.len() as u64);
        prop_assert_eq!(peer.is_over(), answered.last().is_some_and(|r| r.last));
    }
}
