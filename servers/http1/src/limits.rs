use std::time::Duration;

/// The target that makes a server panic if [`Limits::panics`] is set.
pub const PANIC_TARGET: &str = "/panic";

/// Limits on what one peer may cost, in bytes and in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request line in bytes, without its line end; a longer one is answered with 414 (9112 §3).
    pub request_line_bytes_max: usize,
    /// Longest head (request line and header section) in bytes; a longer one is answered with 431
    /// (RFC 6585 §5). Also the most input of a peer that is buffered.
    pub head_bytes_max: usize,
    /// Longest request body in bytes. A body is read and discarded; a longer one is answered with 413 and the
    /// connection is closed.
    pub body_bytes_max: u64,
    /// How long a connection may stay open without a byte of the next request, and how long a peer may leave an
    /// answer unread.
    pub idle_timeout: Duration,
    /// How long a whole head may take, from its first byte to its last.
    pub header_timeout: Duration,
    /// The lowest rate of transfer. A body may take `header_timeout` plus its size at this rate; answers may take
    /// `idle_timeout` plus their size at this rate, even if the peer reads steadily.
    pub bytes_per_s_min: u64,
    /// How long a closing connection waits for the peer to read the last answer and close (9112 §9.6).
    pub linger_timeout: Duration,
    /// Whether a request for [`PANIC_TARGET`] panics in the thread or task that serves it, for tests.
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
