//! `Expect`: a list with one known member (9110 §10.1.1).

use crate::Expected::{Hello, Refusal};
use crate::Then::{Closes, Persists};
use crate::case::{Case, hello, not_allowed, one, refused, sections, several};
use crate::requests::{get, old, post};

pub(crate) fn cases() -> Vec<Case> {
    let met =
        |name, lines: &str| not_allowed(name, post(format!("{lines}\r\nContent-Length: 3"), "abc"));
    let failed = |name, value: &str| refused(name, 417, get(format!("Expect: {value}\r\n")));
    sections([(
        "9110 §10.1.1",
        vec![
            met("100-continue", "Expect: 100-continue"),
            met("100-continue in any case", "eXPECT: 100-cONTINUE"),
            met(
                "100-continue among empty elements",
                "Expect: , 100-continue ,",
            ),
            met(
                "100-continue twice in a list",
                "Expect: 100-continue, 100-continue",
            ),
            met(
                "100-continue in two lines",
                "Expect: 100-continue\r\nExpect: 100-continue",
            ),
            not_allowed(
                "100-continue with chunks",
                post(
                    "Expect: 100-continue\r\nTransfer-Encoding: chunked",
                    "3\r\nabc\r\n0\r\n\r\n",
                ),
            ),
            not_allowed(
                "100-continue with a body of no length",
                post("Expect: 100-continue\r\nContent-Length: 0", ""),
            ),
            hello(
                "100-continue without a body",
                get("Expect: 100-continue\r\n"),
            ),
            hello("empty Expect", get("Expect:\r\n")),
            one(
                "100-continue with close",
                post(
                    "Expect: 100-continue\r\nConnection: close\r\nContent-Length: 3",
                    "abc",
                ),
                Refusal(405),
                Closes,
            ),
            several(
                "100-continue and a request behind it",
                &[
                    post("Expect: 100-continue\r\nContent-Length: 3", "abc"),
                    get(""),
                ],
                &[Refusal(405), Hello],
                Persists,
            ),
            failed("unknown expectation", "tea"),
            failed("expectation that begins like 100-continue", "100-continued"),
            failed("100-continue with a value", "100-continue=tea"),
            failed("100-continue with a parameter", "100-continue;tea"),
            failed("100-continue in quotes", "\"100-continue\""),
            failed(
                "100-continue and an unknown expectation",
                "100-continue, tea",
            ),
            failed("unknown expectation and 100-continue", "tea, 100-continue"),
            failed(
                "100-continue and an unknown expectation in two lines",
                "100-continue\r\nExpect: tea",
            ),
            failed(
                "unknown expectation and 100-continue in two lines",
                "tea\r\nExpect: 100-continue",
            ),
            refused(
                "unknown expectation with a body",
                417,
                post("Expect: tea\r\nContent-Length: 3", "abc"),
            ),
            refused(
                "100-continue with a body too large",
                413,
                post("Expect: 100-continue\r\nContent-Length: 1048577", ""),
            ),
            refused(
                "100-continue with a length that is none",
                400,
                post("Expect: 100-continue\r\nContent-Length: a", ""),
            ),
            one(
                "100-continue in HTTP/1.0 is passed over",
                "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
                Refusal(405),
                Closes,
            ),
            one(
                "unknown expectation in HTTP/1.0 is passed over",
                old("Expect: tea\r\n"),
                Hello,
                Closes,
            ),
        ],
    )])
}
