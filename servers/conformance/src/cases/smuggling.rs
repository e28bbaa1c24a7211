//! Requests hidden inside requests, which must not be answered (9112 §11.2).

use crate::Expected::{Head, Hello, Refusal};
use crate::GET;
use crate::Then::{Closes, Persists};
use crate::case::{Case, not_allowed, one, refused, sections, several};
use crate::requests::{chunked, followed, get, head, line, post};

pub(crate) fn cases() -> Vec<Case> {
    let inner = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = inner.len();
    let bad = |name, lines: &str, body: &str| refused(name, 400, post(lines, body));
    sections([(
        "9112 §11.2",
        vec![
            bad(
                "CL.TE",
                &format!(
                    "Content-Length: {}\r\nTransfer-Encoding: chunked",
                    5 + length
                ),
                &format!("0\r\n\r\n{inner}"),
            ),
            bad(
                "TE.CL",
                "Transfer-Encoding: chunked\r\nContent-Length: 4",
                &format!("{length:x}\r\n{inner}\r\n0\r\n\r\n"),
            ),
            not_allowed("CL.0", post(format!("Content-Length: {length}"), inner)),
            one(
                "0.CL",
                followed(get(format!("Content-Length: {length}\r\n")), GET),
                Hello,
                Persists,
            ),
            not_allowed(
                "TE.0",
                chunked(format!("{length:x}\r\n{inner}\r\n0\r\n\r\n")),
            ),
            one(
                "request in the body of HEAD",
                followed(head(format!("Content-Length: {length}\r\n")), GET),
                Head,
                Persists,
            ),
            several(
                "request behind a body of no length",
                &[post("Content-Length: 0", ""), GET.to_vec()],
                &[Refusal(405), Hello],
                Persists,
            ),
            several(
                "request behind no body",
                &[post("A: b", ""), GET.to_vec()],
                &[Refusal(405), Hello],
                Persists,
            ),
            several(
                "request behind chunks",
                &[chunked("3\r\nabc\r\n0\r\n\r\n"), GET.to_vec()],
                &[Refusal(405), Hello],
                Persists,
            ),
            bad(
                "request behind lengths that differ",
                &format!("Content-Length: 0\r\nContent-Length: {length}"),
                inner,
            ),
            bad(
                "request behind an unknown coding",
                "Transfer-Encoding: xchunked",
                inner,
            ),
            bad(
                "length, and chunked behind a space before the colon",
                "Content-Length: 5\r\nTransfer-Encoding : chunked",
                "0\r\n\r\n",
            ),
            bad(
                "length, and chunked behind CR",
                "Content-Length: 5\r\nA: b\rTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            bad(
                "length, and chunked behind LF",
                "Content-Length: 5\r\nA: b\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            bad(
                "length, and chunked on a folded line",
                "Content-Length: 5\r\nTransfer-Encoding:\r\n chunked",
                "0\r\n\r\n",
            ),
            bad(
                "length, and Transfer-Encoding with a control byte",
                "Content-Length: 5\r\nTransfer-Encoding\x0b: chunked",
                "0\r\n\r\n",
            ),
            bad(
                "length, and Transfer-Encoding without a colon",
                "Content-Length: 5\r\nTransfer-Encoding chunked",
                "0\r\n\r\n",
            ),
            bad(
                "length on a folded line",
                &format!("A: b\r\n Content-Length: {length}"),
                inner,
            ),
            refused(
                "Host behind CR",
                400,
                "GET / HTTP/1.1\r\nA: b\rHost: localhost\r\n\r\n",
            ),
            refused(
                "request in a target",
                400,
                line("GET / HTTP/1.1\r\rHost: localhost\r\r HTTP/1.1"),
            ),
            not_allowed(
                "Connection names Content-Length",
                post("Connection: Content-Length\r\nContent-Length: 3", "abc"),
            ),
            not_allowed(
                "Connection names Transfer-Encoding",
                post(
                    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
                    "0\r\n\r\n",
                ),
            ),
            several(
                "request behind a malformed one",
                &[b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", GET],
                &[Refusal(400)],
                Closes,
            ),
            several(
                "request behind a malformed chunk",
                &[&chunked("x\r\n")[..], GET],
                &[Refusal(400)],
                Closes,
            ),
        ],
    )])
}
