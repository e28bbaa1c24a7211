//! Header lines: names, colons, values, and white space in wrong places.

use crate::case::{Case, hello, refused, sections};
use crate::requests::get;

pub(crate) fn cases() -> Vec<Case> {
    sections([
        (
            "9112 §5",
            vec![
                hello(
                    "names in any case",
                    "GET / HTTP/1.1\r\nhOST: localhost\r\naccept: */*\r\n\r\n",
                ),
                hello("value without white space before it", get("A:b\r\n")),
                hello("value between white space", get("A: \t b \t \r\n")),
                hello("white space within a value", get("A: b \t c\r\n")),
                hello("empty value", get("A:\r\n")),
                hello("value of white space alone", get("A: \t \r\n")),
                hello("value with colons", get("A: b:c::d\r\n")),
                hello("value that begins with a colon", get("A::b\r\n")),
                hello(
                    "headers of a browser",
                    get(
                        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n\
                         Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n\
                         Accept-Language: en-US,en;q=0.5\r\n\
                         Accept-Encoding: gzip, deflate, br\r\n\
                         Cookie: a=b; c=\"d e\"\r\n\
                         Sec-Fetch-Mode: navigate\r\n\
                         Upgrade-Insecure-Requests: 1\r\n\
                         Cache-Control: max-age=0\r\n",
                    ),
                ),
                refused("header without a colon", 400, get("A\r\n")),
                refused("header without a colon, with a value", 400, get("A b\r\n")),
                refused("header without a name", 400, get(": b\r\n")),
                refused("colon alone", 400, get(":\r\n")),
            ],
        ),
        (
            "9112 §5.1",
            vec![
                refused("space before the colon", 400, get("A : b\r\n")),
                refused("spaces before the colon", 400, get("A   : b\r\n")),
                refused("tab before the colon", 400, get("A\t: b\r\n")),
                refused(
                    "space before the colon of Host",
                    400,
                    "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
                ),
                refused(
                    "space before the colon of a second Host",
                    400,
                    get("Host : localhost\r\n"),
                ),
            ],
        ),
        (
            "9112 §5.2",
            vec![
                refused("line folded with a space", 400, get("A: b\r\n c\r\n")),
                refused("line folded with a tab", 400, get("A: b\r\n\tc\r\n")),
                refused("line folded after its colon", 400, get("A:\r\n b\r\n")),
                refused("line folded twice", 400, get("A: b\r\n c\r\n d\r\n")),
                refused("line folded with nothing behind", 400, get("A: b\r\n \r\n")),
                refused("line folded behind LF", 400, get("A: b\n c\r\n")),
                refused(
                    "folded Host",
                    400,
                    "GET / HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n",
                ),
            ],
        ),
        (
            "9112 §2.2",
            vec![
                refused(
                    "space before the first header",
                    400,
                    "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
                ),
                refused(
                    "tab before the first header",
                    400,
                    "GET / HTTP/1.1\r\n\tHost: localhost\r\n\r\n",
                ),
                refused(
                    "line of white space before the first header",
                    400,
                    "GET / HTTP/1.1\r\n \r\nHost: localhost\r\n\r\n",
                ),
                refused("CR in a name", 400, get("A\rB: c\r\n")),
                refused("CR in a value", 400, get("A: b\rC: d\r\n")),
                refused("CR CR LF behind a value", 400, get("A: b\r\r\n")),
                refused(
                    "CR CR LF at the end",
                    400,
                    "GET / HTTP/1.1\r\nHost: localhost\r\n\r\r\n",
                ),
            ],
        ),
        ("9110 §5.1", names()),
        ("9110 §5.5", values()),
        (
            "9110 §14.2",
            vec![hello("Range is passed over", get("Range: bytes=0-1\r\n"))],
        ),
    ])
}

fn names() -> Vec<Case> {
    let mut cases = vec![
        hello(
            "name of all that a token may have",
            get("!#$%&'*+-.^_`|~09AZaz: b\r\n"),
        ),
        hello("name of digits", get("0: b\r\n")),
        refused("space in a name", 400, get("A B: c\r\n")),
        refused("tab in a name", 400, get("A\tB: c\r\n")),
        refused("NUL in a name", 400, get("A\0: b\r\n")),
        refused("control byte in a name", 400, get("A\x01: b\r\n")),
        refused("DEL in a name", 400, get("A\x7f: b\r\n")),
        refused("UTF-8 in a name", 400, get("\u{c4}: b\r\n")),
        refused("Latin-1 in a name", 400, get(b"\xc4: b\r\n")),
    ];
    cases.extend(b"\"(),/;<=>?@[\\]{}".map(|byte| {
        let name = format!("`{}` in a name", char::from(byte));
        refused(&name, 400, get([b'A', byte, b':', b'b', b'\r', b'\n']))
    }));
    cases
}

fn values() -> Vec<Case> {
    let visible: Vec<u8> = (b'!'..=b'~').collect();
    let mut cases = vec![
        hello(
            "all of ASCII that can be seen",
            get([b"A: ", &visible[..], b"\r\n"].concat()),
        ),
        hello("UTF-8", get("A: \u{e4}\u{20ac}\r\n")),
        hello("Latin-1", get(b"A: \xe4\xff\r\n")),
    ];
    let refused =
        |name, byte| refused(name, 400, get([b'A', b':', b'b', byte, b'c', b'\r', b'\n']));
    cases.extend([
        refused("NUL", 0),
        refused("SOH", 0x01),
        refused("BEL", 0x07),
        refused("BS", 0x08),
        refused("VT", 0x0b),
        refused("FF", 0x0c),
        refused("ESC", 0x1b),
        refused("US", 0x1f),
        refused("DEL", 0x7f),
    ]);
    cases
}
