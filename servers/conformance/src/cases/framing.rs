//! Where a body ends: `Content-Length` and `Transfer-Encoding`, valid and disguised.

use crate::Expected::{Hello, Refusal};
use crate::Then::{Closes, Persists};
use crate::case::{Case, hello, not_allowed, one, refused, sections, several};
use crate::requests::{chunked, followed, get, post};

pub(crate) fn cases() -> Vec<Case> {
    sections([
        ("9112 §6.2", lengths()),
        ("9110 §8.6", no_lengths()),
        ("9112 §6.1", codings()),
        ("9112 §6.3", both()),
        (
            "9110 §5.6.1.2",
            vec![
                not_allowed(
                    "empty element behind chunked",
                    post("Transfer-Encoding: chunked ,", "0\r\n\r\n"),
                ),
                not_allowed(
                    "empty elements before chunked",
                    post("Transfer-Encoding: , ,chunked", "0\r\n\r\n"),
                ),
            ],
        ),
    ])
}

fn lengths() -> Vec<Case> {
    vec![
        not_allowed("length", post("Content-Length: 3", "abc")),
        not_allowed("length in any case", post("cONTENT-lENGTH: 3", "abc")),
        not_allowed("length of zero", post("Content-Length: 0", "")),
        not_allowed("length of zeros", post("Content-Length: 000", "")),
        not_allowed(
            "length with zeros before it",
            post("Content-Length: 003", "abc"),
        ),
        not_allowed(
            "length with more zeros than digits fit a number",
            post(format!("Content-Length: {}3", "0".repeat(40)), "abc"),
        ),
        not_allowed(
            "length between white space",
            post("Content-Length:\t 3 \t", "abc"),
        ),
        not_allowed(
            "length without white space",
            post("Content-Length:3", "abc"),
        ),
        not_allowed(
            "body of 10,000 bytes",
            post("Content-Length: 10000", "a".repeat(10_000)),
        ),
        not_allowed("body of line ends", post("Content-Length: 4", "\r\n\r\n")),
        not_allowed(
            "body of any bytes",
            post("Content-Length: 4", b"\0\xff\r\n"),
        ),
        not_allowed("no length is no body", post("A: b", "")),
        not_allowed(
            "Content_Length is another name",
            post("Content_Length: 3", ""),
        ),
        not_allowed(
            "Content-Length- is another name",
            post("Content-Length-: 3", ""),
        ),
        not_allowed(
            "X-Content-Length is another name",
            post("X-Content-Length: 3", ""),
        ),
        several(
            "requests between bodies",
            &[
                post("Content-Length: 3", "abc"),
                get(""),
                chunked("3\r\nabc\r\n0\r\n\r\n"),
                get(""),
            ],
            &[Refusal(405), Hello, Refusal(405), Hello],
            Persists,
        ),
        one(
            "HTTP/1.0 with a length",
            "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
            Refusal(405),
            Closes,
        ),
    ]
}

fn no_lengths() -> Vec<Case> {
    let refused =
        |name, value: &str| refused(name, 400, post(format!("Content-Length:{value}"), "abc"));
    vec![
        not_allowed(
            "the same length twice",
            post("Content-Length: 3\r\nContent-Length: 3", "abc"),
        ),
        refused("lengths that differ", " 3\r\nContent-Length: 4"),
        refused(
            "lengths that differ, the longer first",
            " 4\r\nContent-Length: 3",
        ),
        refused(
            "lengths that differ, one of zero",
            " 0\r\nContent-Length: 3",
        ),
        refused("length and an empty one", " 3\r\nContent-Length:"),
        refused("length and one that is none", " 3\r\nContent-Length: a"),
        refused(
            "three lengths, of which one differs",
            " 3\r\nContent-Length: 3\r\nContent-Length: 4",
        ),
        refused("list of lengths that differ", " 3, 4"),
        refused("list of the same length", " 3, 3"),
        refused("list with an empty element", " 3,"),
        refused("empty length", ""),
        refused("length of white space", " \t "),
        refused("negative length", " -3"),
        refused("length with a sign", " +3"),
        refused("negative zero", " -0"),
        refused("hexadecimal length", " 0x3"),
        refused("hexadecimal digits", " A"),
        refused("octal length", " 0o3"),
        refused("length with a fraction", " 3.0"),
        refused("length with an exponent", " 3e0"),
        refused("length with an underscore", " 1_0"),
        refused("length with a space within", " 1 0"),
        refused("length with a tab within", " 1\t0"),
        refused("two lengths in one", " 3 4"),
        refused("length and a semicolon", " 3;"),
        refused("length and a letter", " 3b"),
        refused("length in words", " three"),
        refused("length in quotes", " \"3\""),
        refused("length in digits above ASCII", " \u{ff13}"),
        refused("length with a vertical tab before it", " \x0b3"),
        refused("length with a form feed behind it", " 3\x0c"),
        refused("length with NUL behind it", " 3\0"),
        refused("length with CR within", " 3\r0"),
        refused("folded length", " 1\r\n 0"),
        refused("2^64", " 18446744073709551616"),
        refused("2^64 + 3", " 18446744073709551619"),
        refused(
            "length of a hundred digits",
            &format!(" {}", "9".repeat(100)),
        ),
    ]
}

fn codings() -> Vec<Case> {
    let coded = |coding: &str| {
        post(
            format!("Transfer-Encoding:{coding}"),
            "3\r\nabc\r\n0\r\n\r\n",
        )
    };
    let understood = |name, coding| not_allowed(name, coded(coding));
    let faulty = |name, coding| refused(name, 400, coded(coding));
    let not_understood = |name, coding| refused(name, 501, coded(coding));
    let old = |name, lines: &str| {
        let request = format!("POST / HTTP/1.0\r\n{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        refused(name, 400, request)
    };
    vec![
        understood("chunked", " chunked"),
        understood("chunked in any case", " cHUNKED"),
        understood("chunked without white space", "chunked"),
        understood("chunked behind a tab", "\tchunked\t"),
        not_allowed(
            "Transfer-Encoding in any case",
            post("tRANSFER-eNCODING: chunked", "0\r\n\r\n"),
        ),
        not_allowed(
            "Transfer_Encoding is another name",
            post("Transfer_Encoding: chunked", ""),
        ),
        not_allowed(
            "Content-Encoding is not Transfer-Encoding",
            post("Content-Encoding: chunked", ""),
        ),
        hello("TE is not Transfer-Encoding", get("TE: chunked\r\n")),
        not_understood("gzip within chunked", " gzip, chunked"),
        not_understood(
            "deflate within chunked, without white space",
            " deflate,chunked",
        ),
        not_understood("three codings, chunked last", " gzip, deflate, chunked"),
        not_understood("identity within chunked", " identity, chunked"),
        not_understood("unknown coding within chunked", " x, chunked"),
        faulty("gzip alone", " gzip"),
        faulty("identity", " identity"),
        faulty("unknown coding", " xchunked"),
        faulty("coding that begins like chunked", " chunkedx"),
        faulty("chunked and then gzip", " chunked, gzip"),
        faulty("chunked and then identity", " chunked, identity"),
        faulty("chunked twice", " chunked, chunked"),
        faulty("chunked twice around another", " chunked, gzip, chunked"),
        faulty(
            "chunked twice in two lines",
            " chunked\r\nTransfer-Encoding: chunked",
        ),
        faulty(
            "chunked and then identity in two lines",
            " chunked\r\nTransfer-Encoding: identity",
        ),
        faulty("empty coding", ""),
        faulty("list of nothing", " ,"),
        faulty("chunked in quotes", " \"chunked\""),
        faulty("chunked in single quotes", " 'chunked'"),
        faulty("chunked with a parameter", " chunked;a=b"),
        faulty("chunked with an empty parameter", " chunked;"),
        faulty("two words", " chunked chunked"),
        faulty("a word before chunked", " x chunked"),
        faulty("space within chunked", " chun ked"),
        faulty("vertical tab before chunked", " \x0bchunked"),
        faulty("form feed behind chunked", " chunked\x0c"),
        faulty("NUL behind chunked", " chunked\0"),
        faulty("CR before chunked", " \rchunked"),
        faulty("folded line before chunked", "\r\n chunked"),
        faulty("line folded with LF before chunked", "\n chunked"),
        faulty("byte above ASCII before chunked", " \u{a0}chunked"),
        refused(
            "space before the colon of Transfer-Encoding",
            400,
            post("Transfer-Encoding : chunked", "0\r\n\r\n"),
        ),
        old("HTTP/1.0", "Transfer-Encoding: chunked"),
        old(
            "HTTP/1.0 with keep-alive",
            "Connection: keep-alive\r\nTransfer-Encoding: chunked",
        ),
        old(
            "HTTP/1.0 with a length",
            "Content-Length: 13\r\nTransfer-Encoding: chunked",
        ),
        old("HTTP/1.0 and identity", "Transfer-Encoding: identity"),
    ]
}

fn both() -> Vec<Case> {
    let both = |name, lines: &str| refused(name, 400, post(lines, "3\r\nabc\r\n0\r\n\r\n"));
    vec![
        both(
            "length and chunked",
            "Content-Length: 13\r\nTransfer-Encoding: chunked",
        ),
        both(
            "chunked and length",
            "Transfer-Encoding: chunked\r\nContent-Length: 13",
        ),
        both(
            "length of zero and chunked",
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
        ),
        both(
            "length and identity",
            "Content-Length: 13\r\nTransfer-Encoding: identity",
        ),
        both(
            "length and an empty coding",
            "Content-Length: 13\r\nTransfer-Encoding:",
        ),
        both(
            "chunked and a length that is none",
            "Transfer-Encoding: chunked\r\nContent-Length: a",
        ),
        both(
            "length and chunked with keep-alive",
            "Connection: keep-alive\r\nContent-Length: 13\r\nTransfer-Encoding: chunked",
        ),
        refused(
            "GET with length and chunked",
            400,
            followed(
                get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
                b"0\r\n\r\n",
            ),
        ),
    ]
}
