//! The course of conversations: batches of answers, the staged close, a peer that shuts its side, the drain, and
//! deadlines.

mod peer;

use std::time::Duration;

use http1::{Limits, Next, Timeout};
use peer::{Peer, hello, last_refusal};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_AND_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const CLOSE: &str = "Connection: close\r\n";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Limits whose times are all different.
fn limits() -> Limits {
    Limits {
        idle_timeout: seconds(5),
        header_timeout: seconds(7),
        linger_timeout: seconds(2),
        bytes_per_s_min: 100,
        ..Limits::default()
    }
}

fn peer() -> Peer {
    Peer::new(limits())
}

#[track_caller]
fn assert_received(peer: &Peer, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&peer.received), expected);
}

#[test]
fn pipelined_requests_are_answered_in_one_batch() {
    let mut peer = peer();
    let rest = peer.send_once(&GET.repeat(20)).len();
    assert_eq!(rest, 0);
    assert_eq!(peer.connection.output(), hello("").repeat(20).as_bytes());
}

#[test]
fn answers_to_one_read_are_bounded() {
    let shortest = b"GET / HTTP/1.1\nHost:\n\n";
    for request in [&shortest[..], b"PUT / HTTP/1.1\nHost:\n\n"] {
        let mut peer = peer();
        let requests = request.repeat(10_000);
        let rest = peer.send_once(&requests).len();
        assert_eq!(requests.len() - rest, 4096);
        let batch = peer.connection.output().len();
        assert!(batch <= 32 * 1024, "{batch}");
        peer.take_output(batch - 1);
        assert_eq!(peer.connection.next(), Next::Write, "no read before");
    }
}

#[test]
fn rfc9112_9_6_staged_close_after_a_refusal() {
    let mut peer = peer();
    peer.send_once(b"GET / HTTP/1.1\r\n\r\n and more");
    assert_eq!(peer.connection.next(), Next::Write);
    peer.take_output(usize::MAX);
    assert_received(&peer, &last_refusal("400 Bad Request"));
    assert_eq!(peer.connection.next(), Next::ShutdownWrite);
    peer.connection.write_is_shut(&peer.scratch, peer.now);
    for _ in 0..100 {
        assert_eq!(peer.connection.next(), Next::Read);
        peer.send_once(&[b'x'; 4096]); // read and discarded
    }
    peer.end();
    assert_eq!(peer.connection.next(), Next::Close);
    assert_received(&peer, &last_refusal("400 Bad Request"));
}

#[test]
fn a_full_buffer_behind_the_last_request_does_not_stop_the_lingering() {
    let mut peer = peer();
    let tail = [b'x'; 4096];
    peer.send(&[GET_AND_CLOSE, &tail[GET_AND_CLOSE.len()..], &tail].concat());
    assert!(peer.shut);
    assert_eq!(peer.connection.next(), Next::Read);
    peer.end();
    assert_eq!(peer.connection.next(), Next::Close);
}

#[test]
fn rfc9112_9_6_a_half_closed_peer_gets_its_answers() {
    let mut peer = peer();
    peer.write_bytes_max = 10;
    peer.send_once(&GET.repeat(2));
    peer.connection.received(&mut peer.scratch, 0, peer.now);
    assert_eq!(peer.connection.next(), Next::Write);
    peer.settle();
    assert_eq!(peer.connection.next(), Next::Close);
    assert_received(&peer, &hello("").repeat(2));
}

#[test]
fn an_end_within_a_request_closes_without_an_answer() {
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab";
    for input in [&b""[..], b"\r\n", &GET[..10], &GET[..GET.len() - 1], post] {
        let mut peer = peer();
        peer.send(input);
        peer.end();
        assert_eq!(
            peer.connection.next(),
            Next::Close,
            "{}",
            input.escape_ascii()
        );
        assert_received(&peer, "");
        assert_eq!(peer.requests(), 0);
    }
}

#[test]
fn rfc9112_9_6_staged_close_after_the_last_answer() {
    let mut peer = peer();
    peer.send(GET_AND_CLOSE);
    assert!(peer.shut);
    peer.send(GET); // the peer must not do this, and gets no answer
    assert_received(&peer, &hello(CLOSE));
    peer.end();
    assert_eq!(peer.connection.next(), Next::Close);
}

#[test]
fn a_drained_connection_gets_one_more_answer() {
    let mut peer = peer();
    peer.send(GET);
    peer.drain(seconds(1));
    assert_eq!(peer.connection.next(), Next::Read);
    assert_eq!(peer.patience(), seconds(1));
    peer.send(GET);
    assert_received(&peer, &(hello("") + &hello(CLOSE)));
    assert!(peer.shut);
    peer.end();
    assert_eq!(peer.connection.next(), Next::Close);
}

#[test]
fn draining_answers_all_that_has_arrived_and_closes_with_the_last() {
    let mut peer = peer();
    peer.drain(seconds(1));
    peer.send(&GET.repeat(3));
    assert_received(&peer, &(hello("").repeat(2) + &hello(CLOSE)));
    assert!(peer.shut);
}

#[test]
fn draining_waits_for_the_rest_of_a_request_that_has_begun() {
    let mut peer = peer();
    peer.drain(seconds(1));
    peer.send(&[GET, &GET[..6]].concat());
    assert_received(&peer, &hello(""));
    assert!(!peer.shut);
    peer.send(&GET[6..]);
    assert_received(&peer, &(hello("") + &hello(CLOSE)));
    assert!(peer.shut);
}

#[test]
fn draining_does_not_cut_a_batch_where_a_read_ends() {
    let mut peer = peer();
    peer.drain(seconds(1));
    let request = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "a".repeat(4096 / 4 - GET.len())
    );
    assert_eq!(4096 % request.len(), 0, "requests end where a read does");
    peer.send(&request.as_bytes().repeat(6));
    assert_received(&peer, &(hello("").repeat(5) + &hello(CLOSE)));
}

#[test]
fn draining_waits_for_nothing_beyond_its_time() {
    let mut peer = peer();
    peer.drain(seconds(1));
    assert_eq!(peer.time_out(), Timeout::Idle);
    assert_eq!(peer.connection.next(), Next::Close);
    assert_eq!(
        peer.tally.timeouts(Timeout::Idle),
        0,
        "it has missed nothing"
    );

    let mut peer = self::peer();
    peer.send(&GET[..6]);
    peer.drain(seconds(1));
    assert_eq!(peer.patience(), seconds(1));
    assert_eq!(peer.time_out(), Timeout::Header);
    peer.settle();
    assert_received(&peer, &last_refusal("408 Request Timeout"));
}

#[test]
fn idle_connections_close_without_a_word() {
    let mut peer = peer();
    assert_eq!(peer.patience(), seconds(5));
    peer.wait(seconds(4));
    peer.send(GET);
    assert_eq!(peer.patience(), seconds(5), "counted from the last answer");
    assert_eq!(peer.time_out(), Timeout::Idle);
    assert_eq!(peer.connection.next(), Next::Close);
    assert_received(&peer, &hello(""));
}

#[test]
fn rfc9110_15_5_9_a_head_has_a_deadline_that_trickling_does_not_move() {
    let mut peer = peer();
    peer.wait(seconds(3));
    for byte in GET[..6].chunks(1) {
        peer.send(byte);
        peer.wait(seconds(1));
    }
    assert_eq!(peer.patience(), seconds(1), "seven from the first byte on");
    assert_eq!(peer.time_out(), Timeout::Header);
    peer.settle();
    assert_received(&peer, &last_refusal("408 Request Timeout"));
    assert!(peer.shut);
    assert_eq!(peer.time_out(), Timeout::Linger);
    assert_eq!(peer.connection.next(), Next::Close);
}

#[test]
fn each_request_has_the_whole_time_for_its_head() {
    let mut peer = peer();
    for _ in 0..3 {
        peer.send(&GET[..6]);
        peer.wait(seconds(6));
        peer.send(&GET[6..]);
    }
    peer.send(&[GET, &GET[..6]].concat());
    assert_eq!(peer.patience(), seconds(7));
    assert_received(&peer, &hello("").repeat(4));
}

#[test]
fn a_body_has_a_minimum_rate() {
    let mut peer = peer();
    peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(peer.patience(), seconds(7));
    peer.wait(seconds(6));
    peer.send(&[b'x'; 99]);
    assert_eq!(peer.patience(), seconds(1), "99 bytes buy nothing");
    peer.send(&[b'x'; 201]);
    assert_eq!(peer.patience(), seconds(4), "each hundred buys a second");
    assert_eq!(peer.time_out(), Timeout::Body);
    peer.settle();
    assert_received(&peer, &last_refusal("408 Request Timeout"));
}

#[test]
fn chunk_framing_buys_no_time() {
    let mut peer = peer();
    peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    peer.send(format!("1;{}\r\nx\r\n", "e".repeat(1000)).as_bytes());
    assert_eq!(peer.patience(), seconds(7));
}

#[test]
fn a_peer_that_takes_no_answer_is_dropped() {
    let mut peer = peer();
    peer.send_once(&GET.repeat(20));
    peer.wait(seconds(4));
    peer.take_output(1);
    assert_eq!(
        peer.patience(),
        seconds(5),
        "counted from the last byte taken"
    );
    assert_eq!(peer.time_out(), Timeout::Write);
    assert_eq!(peer.connection.next(), Next::Close);
}

#[test]
fn answers_have_a_minimum_rate() {
    let mut peer = peer();
    peer.send_once(&GET.repeat(20));
    let bytes = peer.connection.output().len() as u64;
    let time = 5 + bytes / 100;
    for _ in 1..time {
        peer.wait(seconds(1));
        peer.take_output(1);
        assert!(peer.patience() > Duration::ZERO);
    }
    assert_eq!(
        peer.patience(),
        seconds(1),
        "however steadily they are taken"
    );
    assert_eq!(peer.time_out(), Timeout::Write);
    assert_eq!(peer.connection.next(), Next::Close);
}

#[test]
fn empty_lines_buy_no_time() {
    let mut peer = peer();
    for byte in b"\r\n\n\r\n" {
        peer.wait(seconds(1));
        peer.send(&[*byte]);
    }
    assert_eq!(peer.time_out(), Timeout::Idle);
    assert_received(&peer, "");
}

#[test]
fn empty_lines_in_halves_buy_no_time() {
    let mut peer = peer();
    peer.send(b"\r");
    for second in (1..5).rev() {
        peer.wait(seconds(1));
        peer.send(b"\n\r");
        assert_eq!(peer.patience(), seconds(second));
    }
    assert_eq!(peer.time_out(), Timeout::Idle);
    assert_received(&peer, "");
}

#[test]
fn the_time_to_take_an_answer_begins_with_the_answer() {
    for idle in [seconds(4), seconds(400)] {
        let mut peer = peer();
        peer.send(GET);
        peer.wait(idle);
        peer.send_once(GET);
        assert_eq!(
            (peer.connection.next(), peer.patience()),
            (Next::Write, seconds(5))
        );
    }
    let mut peer = peer();
    peer.send(&GET[..6]);
    peer.time_out();
    assert_eq!(
        (peer.connection.next(), peer.patience()),
        (Next::Write, seconds(5))
    );
}

#[test]
fn lingering_has_a_deadline_that_the_peer_cannot_move() {
    let mut peer = peer();
    peer.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(peer.patience(), seconds(2));
    peer.wait(seconds(1));
    peer.send(GET);
    assert_eq!(peer.patience(), seconds(1));
    assert_eq!(peer.time_out(), Timeout::Linger);
    assert_eq!(peer.connection.next(), Next::Close);
}
