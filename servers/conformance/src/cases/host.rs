//! `Host`: exactly one, and with a valid value.

use crate::Expected::Hello;
use crate::Then::Closes;
use crate::case::{Case, hello, one, refused, sections};
use crate::requests::{get, host, old};

pub(crate) fn cases() -> Vec<Case> {
    sections([
        (
            "9112 §3.2",
            vec![
                hello(
                    "Host in capitals",
                    "GET / HTTP/1.1\r\nHOST: LOCALHOST\r\n\r\n",
                ),
                hello(
                    "Host as the last header",
                    "GET / HTTP/1.1\r\nA: b\r\nC: d\r\nHost: localhost\r\n\r\n",
                ),
                hello("empty Host", host("")),
                hello("Host between white space", host(" \t localhost \t ")),
                one(
                    "HTTP/1.0 with Host",
                    old("Host: localhost\r\n"),
                    Hello,
                    Closes,
                ),
                refused("no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
                refused(
                    "no Host among others",
                    400,
                    "GET / HTTP/1.1\r\nA: b\r\nX-Host: c\r\n\r\n",
                ),
                refused("no Host in HTTP/1.2", 400, "GET / HTTP/1.2\r\n\r\n"),
                refused("Host twice", 400, get("Host: example.com\r\n")),
                refused("the same Host twice", 400, get("Host: localhost\r\n")),
                refused(
                    "Host twice in different case",
                    400,
                    get("hOST: localhost\r\n"),
                ),
                refused("Host, and an empty one", 400, get("Host:\r\n")),
                refused(
                    "Host twice with another header between",
                    400,
                    get("A: b\r\nHost: localhost\r\n"),
                ),
                refused("Host twice in HTTP/1.0", 400, old("Host: a\r\nHost: a\r\n")),
                refused("invalid Host in HTTP/1.0", 400, old("Host: a b\r\n")),
            ],
        ),
        (
            "9110 §7.2",
            vec![
                hello("port", host("localhost:8000")),
                hello("empty port", host("localhost:")),
                refused("port that is none", 400, host("localhost:http")),
                refused("port with a sign", 400, host("localhost:+80")),
                refused("negative port", 400, host("localhost:-80")),
                refused("two ports", 400, host("localhost:80:80")),
                refused("space before the port", 400, host("localhost: 80")),
                refused("space in the host", 400, host("a b")),
                refused("tab in the host", 400, host("a\tb")),
                refused("list of hosts", 400, host("a, b")),
                refused("user", 400, host("user@localhost")),
                refused("path", 400, host("localhost/")),
                refused("query", 400, host("localhost?a")),
                refused("fragment", 400, host("localhost#a")),
                refused("URI", 400, host("http://localhost/")),
                refused("backslash", 400, host("localhost\\")),
                refused("quoted host", 400, host("\"localhost\"")),
                refused("angle brackets", 400, host("<localhost>")),
                refused("curly brackets", 400, host("{localhost}")),
                refused("vertical bar", 400, host("a|b")),
                refused("circumflex", 400, host("a^b")),
                refused("grave accent", 400, host("a`b")),
                refused("UTF-8", 400, host("l\u{f6}calhost")),
                refused("Latin-1", 400, host(b"l\xf6calhost")),
            ],
        ),
        (
            "3986 §3.2.2",
            vec![
                hello("IPv4 address", host("127.0.0.1:8000")),
                hello("IPv6 address", host("[::1]")),
                hello("IPv6 address with a port", host("[::1]:8000")),
                hello("IPv6 address with an empty port", host("[::1]:")),
                hello(
                    "IPv6 address in full",
                    host("[2001:DB8:0:0:8:800:200C:417A]"),
                ),
                hello(
                    "IPv6 address that ends in an IPv4 address",
                    host("[::ffff:127.0.0.1]"),
                ),
                hello("address of a version to come", host("[v1.fe80::a+en1]")),
                hello("name with a dot at its end", host("localhost.")),
                hello("name with percent-encoding", host("%6cocalhost")),
                hello("name with an underscore", host("local_host")),
                hello("name with a comma", host("a,b")),
                hello(
                    "name of all that a name may have",
                    host("09AZaz-._~!$&'()*+,;="),
                ),
                hello("name of 250 bytes", host("a".repeat(250))),
                refused(
                    "name with half a percent-encoding",
                    400,
                    host("localhost%2"),
                ),
                refused(
                    "name with a percent-encoding of no digits",
                    400,
                    host("%zzlocalhost"),
                ),
                refused("IPv6 address without brackets", 400, host("::1")),
                refused("IPv6 address that is not closed", 400, host("[::1")),
                refused("IPv6 address that is not opened", 400, host("::1]")),
                refused("name behind an IPv6 address", 400, host("[::1]a")),
                refused("nothing in brackets", 400, host("[]")),
                refused("name in brackets", 400, host("[localhost]")),
                refused("IPv4 address in brackets", 400, host("[127.0.0.1]")),
                refused("number in brackets", 400, host("[1]")),
                refused("colons in brackets", 400, host("[:::]")),
                refused(
                    "IPv6 address of nine groups",
                    400,
                    host("[1:2:3:4:5:6:7:8:9]"),
                ),
                refused("IPv6 address with a gap twice", 400, host("[1::2::3]")),
                refused(
                    "IPv6 address with a group of five digits",
                    400,
                    host("[::12345]"),
                ),
                refused("IPv6 address with a letter too far", 400, host("[::g]")),
                refused("IPv6 address with a zone", 400, host("[fe80::1%25lo]")),
            ],
        ),
    ])
}
