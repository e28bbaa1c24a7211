//! The requests that cases are made of. They are valid except for what a case is about.

/// `GET` with further header lines, each with its line end.
pub(crate) fn get(lines: impl AsRef<[u8]>) -> Vec<u8> {
    let line = b"GET / HTTP/1.1\r\nHost: localhost\r\n";
    [line, lines.as_ref(), b"\r\n"].concat()
}

/// `HEAD` with further header lines.
pub(crate) fn head(lines: impl AsRef<[u8]>) -> Vec<u8> {
    let line = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n";
    [line, lines.as_ref(), b"\r\n"].concat()
}

/// `POST` with one or more header lines, the last without its line end, and a body.
pub(crate) fn post(lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    let line = b"POST / HTTP/1.1\r\nHost: localhost\r\n";
    [line, lines.as_ref(), b"\r\n\r\n", body.as_ref()].concat()
}

/// `POST` with a body in chunks.
pub(crate) fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

/// A request line, followed by a valid rest of the head.
pub(crate) fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: localhost\r\n\r\n"].concat()
}

/// `GET` of a target.
pub(crate) fn target(target: impl AsRef<[u8]>) -> Vec<u8> {
    line([b"GET ", target.as_ref(), b" HTTP/1.1"].concat())
}

/// `GET` with a value for `Host`.
pub(crate) fn host(value: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: ", value.as_ref(), b"\r\n\r\n"].concat()
}

/// `GET` in HTTP/1.0 with header lines.
pub(crate) fn old(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET / HTTP/1.0\r\n", lines.as_ref(), b"\r\n"].concat()
}

/// A request and what follows it.
pub(crate) fn followed(request: impl AsRef<[u8]>, by: impl AsRef<[u8]>) -> Vec<u8> {
    [request.as_ref(), by.as_ref()].concat()
}
