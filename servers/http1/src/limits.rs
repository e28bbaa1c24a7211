use std::time::Duration;

/// See [`Limits::panics`].
pub const PANIC_TARGET: &str = "/panic";

/// What one peer may cost: bytes and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request line in bytes, without its line end; a longer one is answered 414 (9112 §3).
    pub request_line_bytes_max: usize,
    /// Longest head (request line and header section) in bytes; a longer one is answered 431
    /// (RFC 6585 §5). Also the most that is buffered of a peer's input.
    pub head_bytes_max: usize,
    /// Longest request body in bytes that is read and thrown away to keep the connection; a longer
    /// one is answered 413 and the connection closed.
    pub body_bytes_max: u64,
    /// How long a connection may stay open without a byte of a next request, and how long a peer may
    /// take no byte of an answer.
    pub idle_timeout: Duration,
    /// How long a whole head may take from its first byte on, however it trickles in.
    pub header_timeout: Duration,
    /// A body has `header_timeout` plus one second for each so many bytes received. Answers have
    /// `idle_timeout` plus one second for each so many bytes to be taken, however steadily they are.
    pub bytes_per_s_min: u64,
    /// How long a closing connection waits for the peer to have read the last answer (9112 §9.6).
    pub linger_timeout: Duration,
    /// A request for [`PANIC_TARGET`] panics in the thread or task that serves it: for tests of what a
    /// panic may harm.
    pub panics: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_line_bytes_max: 8 * 1024,
            head_bytes_max: 16 * 1024,
            body_bytes_max: 1024 * 1024,
            idle_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            bytes_per_s_min: 1024,
            linger_timeout: Duration::from_secs(1),
            panics: false,
        }
    }
}
