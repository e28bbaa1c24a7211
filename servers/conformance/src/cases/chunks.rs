//! Bodies in chunks: sizes, extensions, line ends, trailers.

use crate::case::{Case, not_allowed, refused, sections};
use crate::requests::chunked;

pub(crate) fn cases() -> Vec<Case> {
    let fine = |name, body: &str| not_allowed(name, chunked(body));
    let bad = |name, body: &str| refused(name, 400, chunked(body));
    // A valid rest after the chunk-size line, so that only that line can be wrong.
    let sized = |name, size: &str| bad(name, &format!("{size}\r\nabc\r\n0\r\n\r\n"));
    let extended = |name, extension: &str| bad(name, &format!("3{extension}\r\nabc\r\n0\r\n\r\n"));
    let trailed = |name, trailer: &str| bad(name, &format!("3\r\nabc\r\n0\r\n{trailer}\r\n\r\n"));
    sections([
        (
            "9112 §7.1",
            vec![
                fine("two chunks", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
                fine("no chunk but the last", "0\r\n\r\n"),
                fine(
                    "last chunk of many zeros",
                    "3\r\nabc\r\n00000000000000000000\r\n\r\n",
                ),
                fine("size with zeros before it", "0003\r\nabc\r\n0\r\n\r\n"),
                fine(
                    "size with more zeros than digits fit a number",
                    &format!("{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(40)),
                ),
                fine("size in capitals", "0A\r\n0123456789\r\n0\r\n\r\n"),
                fine("size in small letters", "f\r\n0123456789abcde\r\n0\r\n\r\n"),
                fine(
                    "size of two digits",
                    "1f\r\n0123456789abcdef0123456789abcde\r\n0\r\n\r\n",
                ),
                fine(
                    "chunk that looks like chunks",
                    "9\r\n0\r\n\r\n1\r\na\r\n0\r\n\r\n",
                ),
                sized("size that is none", "x"),
                sized("size with a letter too far", "g"),
                bad("empty size", "\r\nabc\r\n0\r\n\r\n"),
                sized("negative size", "-3"),
                sized("size with a sign", "+3"),
                sized("size with 0x", "0x3"),
                sized("size with an underscore", "0_3"),
                sized("size with a comma", "3,"),
                sized("size in quotes", "\"3\""),
                sized("size with a space before it", " 3"),
                sized("size with a tab before it", "\t3"),
                sized("size with a space behind it", "3 "),
                sized("size with a tab behind it", "3\t"),
                sized("size with a space within", "0 3"),
                sized("size with a word behind it", "3 a"),
                sized("size with NUL behind it", "3\0"),
                sized("size with a vertical tab behind it", "3\x0b"),
                sized("size with CR behind it", "3\r"),
                sized("size above ASCII", "\u{ff13}"),
                sized("2^64", "10000000000000000"),
                sized("2^64 + 3", "10000000000000003"),
                sized("size of a hundred digits", &"f".repeat(100)),
                bad("size line that ends in LF", "3\nabc\r\n0\r\n\r\n"),
                bad("size line that ends in CR", "3\rabc\r\n0\r\n\r\n"),
                bad("size line that ends in LF CR", "3\n\rabc\r\n0\r\n\r\n"),
                bad("last size line that ends in LF", "3\r\nabc\r\n0\n\r\n"),
                bad("last size line that ends in CR", "3\r\nabc\r\n0\r\r\n"),
                bad("chunk that ends in LF", "3\r\nabc\n0\r\n\r\n"),
                bad("chunk that ends in CR", "3\r\nabc\r0\r\n\r\n"),
                bad("chunk without an end", "3\r\nabc0\r\n\r\n"),
                bad("chunk longer than its size", "3\r\nabcd\r\n0\r\n\r\n"),
                bad(
                    "chunk longer than its size by a line end",
                    "3\r\nabc\r\n\r\n0\r\n\r\n",
                ),
                bad("chunk shorter than its size", "4\r\nabc\r\n0\r\n\r\n"),
                bad(
                    "second size that is none",
                    "3\r\nabc\r\nx\r\nabc\r\n0\r\n\r\n",
                ),
            ],
        ),
        (
            "9112 §7.1.1",
            vec![
                fine("extension", "3;a=b\r\nabc\r\n0\r\n\r\n"),
                fine("extension without a value", "3;a\r\nabc\r\n0\r\n\r\n"),
                fine("several extensions", "3;a;b=c;d=\"e\"\r\nabc\r\n0\r\n\r\n"),
                fine("extension of the last chunk", "3\r\nabc\r\n0;a=b\r\n\r\n"),
                fine(
                    "extension with a quoted semicolon",
                    "3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n",
                ),
                fine(
                    "extension with a quoted quote",
                    "3;a=\"b\\\"c\"\r\nabc\r\n0\r\n\r\n",
                ),
                fine(
                    "extension with an empty quoted value",
                    "3;a=\"\"\r\nabc\r\n0\r\n\r\n",
                ),
                fine(
                    "extension with quoted bytes above ASCII",
                    "3;a=\"\u{e4}\"\r\nabc\r\n0\r\n\r\n",
                ),
                fine(
                    "extension with white space around",
                    "3 ; a = b\r\nabc\r\n0\r\n\r\n",
                ),
                fine(
                    "extension with tabs around",
                    "3\t;\ta\t=\t\"b\"\r\nabc\r\n0\r\n\r\n",
                ),
                extended("extension without a name", ";"),
                extended("extension without a name, with a value", ";=b"),
                extended("extension without the value it promises", ";a="),
                extended("extension with a name that is no token", ";a(b)=c"),
                extended("extension with a value that is no token", ";a=b,c"),
                extended("extension of two words", ";a b"),
                extended("extension with a quote that does not end", ";a=\"b"),
                extended("extension with a word behind a quote", ";a=\"b\"c"),
                extended("extension with NUL", ";a=b\0"),
                extended("extension with NUL in quotes", ";a=\"b\0\""),
                extended("extension with DEL", ";a=\"\x7f\""),
                extended("extension with CR", ";a=b\rc"),
                extended("extension with CR in quotes", ";a=\"b\rc\""),
                extended("extension with LF", ";a=b\nc"),
                extended("extension with LF in quotes", ";a=\"b\nc\""),
                bad("extension that ends in LF", "3;a=b\nabc\r\n0\r\n\r\n"),
            ],
        ),
        (
            "9112 §7.1.2",
            vec![
                fine("trailer", "3\r\nabc\r\n0\r\nA: b\r\n\r\n"),
                fine("trailers", "3\r\nabc\r\n0\r\nA: b\r\nC:\r\nD:e\r\n\r\n"),
                fine("trailer behind no chunk", "0\r\nA: b\r\n\r\n"),
                fine("trailer with bytes above ASCII", "0\r\nA: \u{e4}\r\n\r\n"),
                trailed("trailer without a colon", "A"),
                trailed("trailer without a name", ": b"),
                trailed("trailer with a space before its colon", "A : b"),
                trailed("trailer with a space before it", " A: b"),
                trailed("trailer with a tab before it", "\tA: b"),
                trailed("trailer with a name that is no token", "A(b): c"),
                trailed("folded trailer", "A: b\r\n c"),
                trailed("trailer with NUL", "A: b\0"),
                trailed("trailer with a control byte", "A: b\x01"),
                trailed("trailer with CR", "A: b\rC: d"),
                trailed(
                    "trailer that is a request",
                    "GET / HTTP/1.1\r\nHost: localhost",
                ),
            ],
        ),
        (
            "9110 §6.5.1",
            vec![
                fine(
                    "Content-Length in a trailer is passed over",
                    "0\r\nContent-Length: 9\r\n\r\n",
                ),
                fine(
                    "Transfer-Encoding in a trailer is passed over",
                    "0\r\nTransfer-Encoding: gzip\r\n\r\n",
                ),
                fine(
                    "Host in a trailer is passed over",
                    "0\r\nHost: example.com\r\n\r\n",
                ),
                fine(
                    "Connection in a trailer is passed over",
                    "0\r\nConnection: close\r\n\r\n",
                ),
                fine(
                    "Expect in a trailer is passed over",
                    "0\r\nExpect: tea\r\n\r\n",
                ),
            ],
        ),
    ])
}
