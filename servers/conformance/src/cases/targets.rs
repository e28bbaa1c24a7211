//! Request targets: the four forms, the methods that allow each, and the characters of a target.

use crate::Expected::Hello;
use crate::Then::Closes;
use crate::case::{Case, hello, one, refused, sections};
use crate::requests::{get, line, target};

pub(crate) fn cases() -> Vec<Case> {
    let mut invalid = vec![
        refused("space in the target", 400, target("/a b")),
        refused("NUL in the target", 400, target("/\0")),
        refused("control byte in the target", 400, target("/\x01")),
        refused("DEL in the target", 400, target("/\x7f")),
        refused("UTF-8 in the target", 400, target("/\u{e4}")),
        refused("Latin-1 in the target", 400, target(b"/\xe4")),
    ];
    invalid.extend(b"\"<>\\^`{|}".map(|byte| {
        let name = format!("`{}` in the target", char::from(byte));
        refused(&name, 400, target([b'/', byte]))
    }));
    sections([
        (
            "9112 §3.2.1",
            vec![
                hello("path", target("/a/b.c")),
                hello("path of many slashes", target("//a///b/")),
                hello("path of dots", target("/a/./../..")),
                hello("path with percent-encoding", target("/%20%c3%a4%2F")),
                hello(
                    "path of all that a path may have",
                    target("/09AZaz-._~!$&'()*+,;=:@"),
                ),
                hello("query", target("/?a=b&c")),
                hello("empty query", target("/?")),
                hello("query with slashes and question marks", target("/?a/b?c")),
                refused("path without a slash", 400, target("index.html")),
                refused("query without a path", 400, target("?a=b")),
                refused("fragment", 400, target("/#a")),
                refused("fragment behind a query", 400, target("/?a#b")),
                refused("fragment alone", 400, target("#")),
            ],
        ),
        (
            "9112 §3.2.2",
            vec![
                hello("absolute-form", target("http://localhost/")),
                hello(
                    "absolute-form in capitals",
                    target("HTTP://LOCALHOST:80/a?b"),
                ),
                hello("absolute-form without a path", target("http://localhost")),
                hello(
                    "absolute-form with a query and no path",
                    target("http://localhost?a"),
                ),
                hello(
                    "absolute-form with an IPv6 address",
                    target("http://[::1]:80/"),
                ),
                hello(
                    "absolute-form with another Host",
                    target("http://example.com/"),
                ),
                hello(
                    "absolute-form with an empty Host",
                    "GET http://localhost/ HTTP/1.1\r\nHost:\r\n\r\n",
                ),
                one(
                    "absolute-form in HTTP/1.0",
                    "GET http://localhost/ HTTP/1.0\r\n\r\n",
                    Hello,
                    Closes,
                ),
                refused(
                    "absolute-form without Host",
                    400,
                    "GET http://localhost/ HTTP/1.1\r\n\r\n",
                ),
                refused(
                    "absolute-form with Host twice",
                    400,
                    line("GET http://localhost/ HTTP/1.1\r\nHost: localhost"),
                ),
                refused(
                    "absolute-form with an invalid Host",
                    400,
                    "GET http://localhost/ HTTP/1.1\r\nHost: a b\r\n\r\n",
                ),
                refused(
                    "absolute-form with a port that is none",
                    400,
                    target("http://localhost:http/"),
                ),
                refused(
                    "absolute-form with half an IPv6 address",
                    400,
                    target("http://[::1/"),
                ),
                refused(
                    "absolute-form with a backslash",
                    400,
                    target("http://localhost\\@a/"),
                ),
                refused(
                    "absolute-form with a fragment",
                    400,
                    target("http://localhost/#a"),
                ),
                refused(
                    "absolute-form with one slash",
                    400,
                    target("http:/localhost/"),
                ),
                refused(
                    "absolute-form without slashes",
                    400,
                    target("http:localhost"),
                ),
                refused(
                    "absolute-form without a scheme",
                    400,
                    target("://localhost/"),
                ),
                refused(
                    "absolute-form of another scheme",
                    400,
                    target("ftp://localhost/"),
                ),
            ],
        ),
        (
            "9110 §4.2.1",
            vec![
                refused("empty host", 400, target("http:///")),
                refused("empty host and no path", 400, target("http://")),
                refused("empty host with a port", 400, target("http://:80/")),
                refused("empty host with a query", 400, target("http://?a")),
            ],
        ),
        (
            "9110 §4.2.4",
            vec![
                refused("user", 400, target("http://user@localhost/")),
                refused(
                    "user and password",
                    400,
                    target("http://user:password@localhost/"),
                ),
                refused("empty user", 400, target("http://@localhost/")),
            ],
        ),
        (
            "9110 §7.4",
            vec![refused(
                "https over a connection that is not secured",
                421,
                target("https://localhost/"),
            )],
        ),
        (
            "9112 §3.2.3",
            vec![
                refused("authority-form with GET", 400, target("localhost:80")),
                refused(
                    "authority-form with OPTIONS",
                    400,
                    line("OPTIONS localhost:80 HTTP/1.1"),
                ),
                refused(
                    "authority-form with POST",
                    400,
                    line("POST localhost:80 HTTP/1.1"),
                ),
            ],
        ),
        (
            "9112 §3.2.4",
            vec![
                refused("asterisk-form with GET", 400, target("*")),
                refused("asterisk-form with POST", 400, line("POST * HTTP/1.1")),
                refused(
                    "asterisk-form with a query",
                    400,
                    line("OPTIONS *?a HTTP/1.1"),
                ),
                refused("two asterisks", 400, line("OPTIONS ** HTTP/1.1")),
            ],
        ),
        ("9112 §3.2", invalid),
        (
            "3986 §2.1",
            vec![
                refused("percent-encoding without digits", 400, target("/%")),
                refused("percent-encoding of one digit", 400, target("/%2")),
                refused("percent-encoding of no digits", 400, target("/%zz")),
                refused(
                    "percent-encoding within a percent-encoding",
                    400,
                    target("/?%%41"),
                ),
            ],
        ),
        (
            "9110 §7.8",
            vec![
                hello(
                    "Upgrade to WebSocket is passed over",
                    get("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
                ),
                hello(
                    "Upgrade to HTTP/2 is passed over",
                    get(
                        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
                    ),
                ),
            ],
        ),
    ])
}
