//! The request that a run repeats: its options, and the bytes that they result in.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Usage;
use super::common::duration;
use engine::http_url::HttpUrl;
use engine::response::{Expected, is_token};

#[derive(Debug, Args)]
pub(crate) struct Request {
    /// Method, sent as written
    #[arg(short, long, default_value = "GET", value_parser = token)]
    pub(crate) method: String,
    /// Header field to add, `Name: value`; may be repeated
    #[arg(short = 'H', long, value_name = "FIELD", value_parser = field)]
    header: Vec<Field>,
    /// Body, or @ and the file that contains it (@@ for a text that begins with @)
    #[arg(long, value_name = "TEXT|@FILE", value_parser = text_or_file)]
    body: Option<Bytes>,
    /// Body that every response must have; any other is an error
    #[arg(long, value_name = "TEXT|@FILE|sha256:HEX", value_parser = expectation)]
    expect_body: Option<Expected>,
    /// Time limit for a connect or a response
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

impl Request {
    /// Checks the options before anything starts; `urls` are the requested ones.
    pub(crate) fn check(&self, urls: &[HttpUrl]) -> Result<(), Usage> {
        if self.method == "HEAD" && self.expect_body.is_some() {
            let message = "--expect-body: a response to HEAD has no body";
            return Err(Usage(message.to_owned()));
        }
        let has_more = |url: &&HttpUrl| url.request_target() != "/";
        if self.method == "CONNECT"
            && let Some(url) = urls.iter().find(has_more)
        {
            return Err(Usage(format!(
                "{url}: CONNECT takes only host and port; leave out path and query"
            )));
        }
        Ok(())
    }

    /// The requests ask the server to close the connection (RFC 9112 §9.6).
    pub(crate) fn server_closes(&self) -> bool {
        let fields = self.header.iter();
        let mut options = fields
            .filter(|field| field.is("Connection"))
            .flat_map(|field| field.value.as_bytes().split(|&b| b == b','));
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }

    /// The body that every response must have.
    pub(crate) fn expected(&self) -> Option<Arc<Expected>> {
        self.expect_body.clone().map(Arc::new)
    }

    /// The bytes of one request (RFC 9112 §3).
    pub(crate) fn bytes(&self, url: &HttpUrl) -> Vec<u8> {
        self.bytes_with(url, "")
    }

    /// The bytes of a request that asks the server to close the connection after its response (RFC 9112 §9.6).
    #[cfg(feature = "trace")]
    pub(crate) fn bytes_to_close(&self, url: &HttpUrl) -> Vec<u8> {
        match self.server_closes() {
            true => self.bytes(url),
            false => self.bytes_with(url, "Connection: close\r\n"),
        }
    }

    fn bytes_with(&self, url: &HttpUrl, more_fields: &str) -> Vec<u8> {
        let (target, host) = match self.method == "CONNECT" {
            // The authority-form (RFC 9112 §3.2.3), in both places.
            true => (url.authority(), url.authority()),
            false => (url.request_target().to_owned(), url.host_field()),
        };
        let mut request = format!("{} {target} HTTP/1.1\r\n", self.method).into_bytes();
        let given = |name: &str| self.header.iter().any(|field| field.is(name));
        if !given("Host") {
            request.extend_from_slice(format!("Host: {host}\r\n").as_bytes());
        }
        if let Some(value) = url.authorization()
            && !given("Authorization")
        {
            request.extend_from_slice(format!("Authorization: {value}\r\n").as_bytes());
        }
        for field in &self.header {
            request.extend_from_slice(format!("{}: ", field.name).as_bytes());
            request.extend_from_slice(field.value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(more_fields.as_bytes());
        let body: &[u8] = self.body.as_ref().map_or(b"", |Bytes(bytes)| bytes);
        // Methods that usually have a body must state its absence (RFC 9110 §8.6).
        let usual = ["POST", "PUT", "PATCH"].contains(&self.method.as_str());
        let framed = given("Content-Length") || given("Transfer-Encoding");
        if (self.body.is_some() || usual) && !framed {
            request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        request
    }
}

/// A header field; its name is sent as spelled on the command line.
#[derive(Debug, Clone)]
struct Field {
    name: String,
    value: String,
}

impl Field {
    /// Names are case-insensitive (RFC 9110 §5.1).
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bytes(Vec<u8>);

/// A text, or `@` and the file that contains it.
fn text_or_file(text: &str) -> Result<Bytes, String> {
    match text.strip_prefix('@') {
        Some(escaped) if escaped.starts_with('@') => Ok(Bytes(escaped.as_bytes().to_vec())),
        Some(path) => fs::read(path)
            .map(Bytes)
            .map_err(|error| format!("{path}: {error} (for a text that begins with @, write @@)")),
        None => Ok(Bytes(text.as_bytes().to_vec())),
    }
}

fn expectation(text: &str) -> Result<Expected, String> {
    match text.starts_with('@') {
        true => text_or_file(text).map(|Bytes(bytes)| Expected::Text(bytes)),
        false => text.parse(),
    }
}

/// A token (RFC 9110 §5.6.2), such as a method or the name of a field.
fn token(text: &str) -> Result<String, String> {
    match is_token(text.as_bytes()) {
        true => Ok(text.to_owned()),
        false => Err("expected letters, digits or any of !#$%&'*+-.^_`|~".to_owned()),
    }
}

/// A header field from the command line. Its value has visible ASCII, blanks and tabs (RFC 9110 §5.5).
fn field(text: &str) -> Result<Field, String> {
    let (name, value) = text.split_once(':').ok_or("expected `Name: value`")?;
    let name = token(name).map_err(|_| format!("{name:?} is not a header field name"))?;
    let value = value.trim();
    match value
        .chars()
        .any(|c| c != '\t' && !(' '..='~').contains(&c))
    {
        true => Err(format!("{value:?} is not a header field value")),
        false => Ok(Field {
            name,
            value: value.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        request: Request,
    }

    fn parse(arguments: &[&str]) -> Result<Request, String> {
        let arguments = ["test"].iter().chain(arguments);
        let line = Line::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Ok(line.request)
    }

    #[test]
    fn header_fields_have_a_name_and_a_value() {
        for (text, fine) in [
            ("Accept: */*", true),
            ("X-Empty:", true),
            ("no colon", false),
            ("bad name: x", false),
            ("X: a\r\nY: b", false),
        ] {
            assert_eq!(field(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn requests_are_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        fs::write(&path, b"\x00\xff").unwrap();
        let file = format!("@{}", path.display());
        let cases: [(&[&str], &str, &[u8]); 14] = [
            (
                &[],
                "http://h:8000",
                b"GET / HTTP/1.1\r\nHost: h:8000\r\n\r\n",
            ),
            (
                &["-m", "DELETE"],
                "http://user:secret@[::1]/a?b=c",
                b"DELETE /a?b=c HTTP/1.1\r\nHost: [::1]\r\nAuthorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n",
            ),
            (
                &["-H", "authorization: Bearer x"],
                "user:secret@h",
                b"GET / HTTP/1.1\r\nHost: h\r\nauthorization: Bearer x\r\n\r\n",
            ),
            (
                &["-m", "get"],
                "h?q",
                b"get /?q HTTP/1.1\r\nHost: h\r\n\r\n",
            ),
            (
                &["-m", "post"],
                "h:80/",
                b"post / HTTP/1.1\r\nHost: h\r\n\r\n",
            ),
            (
                &["-m", "M-SEARCH!#$%&'*+.^_`|~"],
                "h:81/",
                b"M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1\r\nHost: h:81\r\n\r\n",
            ),
            (
                &["-m", "CONNECT"],
                "[::1]",
                b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            ),
            (
                &["-H", "Host: other", "-H", "accept: */*"],
                "http://h/",
                b"GET / HTTP/1.1\r\nHost: other\r\naccept: */*\r\n\r\n",
            ),
            (
                &["--body", "hi"],
                "http://h/",
                b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
            ),
            (
                &["--body", "@@home"],
                "http://h/",
                b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n@home",
            ),
            (
                &["-m", "PUT", "--body", &file],
                "http://h/",
                b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n\x00\xff",
            ),
            (
                &["-m", "POST"],
                "http://h/",
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                &["-H", "Content-Length: 7", "--body", "hi"],
                "http://h/",
                b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\nhi",
            ),
            (
                &[
                    "-m",
                    "POST",
                    "-H",
                    "Transfer-Encoding: chunked",
                    "--body",
                    "0\r\n\r\n",
                ],
                "http://h/",
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ];
        for (arguments, url, expected) in cases {
            let request = parse(arguments).unwrap();
            let bytes = request.bytes(&url.parse().unwrap());
            assert_eq!(bytes, expected, "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn expectations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        // A hash in a file is text, as all else in it.
        let hash = format!("sha256:{}", "0f".repeat(32));
        fs::write(&path, &hash).unwrap();
        let text = |text: &str| Ok(Expected::Text(text.as_bytes().to_vec()));
        for (argument, expected) in [
            ("hello world", text("hello world")),
            ("", text("")),
            ("@@home", text("@home")),
            (&hash, Ok(Expected::Sha256([0x0f; 32]))),
            (&format!("@{}", path.display()), text(&hash)),
            ("sha256:0f", Err("64 hexadecimal digits")),
            ("@/no/such/file", Err("/no/such/file: No such file")),
        ] {
            let found = parse(&["--expect-body", argument]);
            let found = found.map(|request| (*request.expected().unwrap()).clone());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{argument}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn wishes_to_close_are_seen() {
        for (fields, expected) in [
            (&[][..], false),
            (&["-H", "Connection: close"], true),
            (&["-H", "connection: Keep-Alive, CLOSE"], true),
            (&["-H", "Connection: closed"], false),
            (&["-H", "X-Connection: close"], false),
        ] {
            assert_eq!(
                parse(fields).unwrap().server_closes(),
                expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_wish_to_close_is_added_once() {
        let url = "http://h/".parse().unwrap();
        for (fields, expected) in [
            (
                &[][..],
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            ),
            (
                &["-H", "connection: close"],
                "GET / HTTP/1.1\r\nHost: h\r\nconnection: close\r\n\r\n",
            ),
        ] {
            let bytes = parse(fields).unwrap().bytes_to_close(&url);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn what_a_method_has_no_use_for() {
        let check = |arguments: &[&str], url: &str| {
            let urls = [url.parse().unwrap()];
            parse(arguments)
                .unwrap()
                .check(&urls)
                .map_err(|Usage(it)| it)
        };
        for (arguments, url, expected) in [
            (&["-m", "HEAD"][..], "h/x", None),
            (
                &["-m", "HEAD", "--expect-body", "x"],
                "h/",
                Some("HEAD has no body"),
            ),
            // It is another method, of which nothing is known.
            (&["-m", "head", "--expect-body", "x"], "h/", None),
            (&["-m", "CONNECT"], "h:80", None),
            (
                &["-m", "CONNECT"],
                "h/x",
                Some("http://h/x: CONNECT takes only host and port"),
            ),
            (&["-m", "CONNECT"], "h/?x", Some("leave out path and query")),
        ] {
            match (check(arguments, url), expected) {
                (Ok(()), None) => {}
                (Err(found), Some(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{arguments:?} {url}: {found:?}"),
            }
        }
    }

    #[test]
    fn methods_are_tokens() {
        for (method, fine) in [
            ("GET", true),
            ("get", true),
            ("X", true),
            ("", false),
            ("GET /", false),
            ("GET\r\n", false),
            ("G(T", false),
            ("GÉT", false),
        ] {
            let parsed = parse(&["-m", method]);
            assert_eq!(parsed.is_ok(), fine, "{method:?}");
            if let Ok(request) = parsed {
                assert_eq!(request.method.as_str(), method);
                assert_eq!(request.method == "HEAD", method == "HEAD");
            }
        }
    }
}
