//! HTTP/1.1 for a hello-world server, as a state machine without I/O.
//!
//! Bytes go in, bytes come out; no socket, no thread and no clock is touched here. An architecture
//! owns a [`Connection`] for each peer and does what [`Connection::next`] asks for, in its own way of
//! waiting:
//!
//! ```
//! # use std::{io::{self, Read, Write}, time::{Instant, SystemTime}};
//! # use http1::{Connection, Limits, Next, Now};
//! # fn now() -> Now { Now { instant: Instant::now(), wall: SystemTime::now() } }
//! fn converse(mut stream: impl Read + Write) -> io::Result<()> {
//!     let mut connection = Connection::new(Limits::default(), now());
//!     loop {
//!         match connection.next() {
//!             Next::Read => {
//!                 let n = stream.read(connection.space())?;
//!                 connection.received(n, now());
//!             }
//!             Next::Write => {
//!                 let n = stream.write(connection.output())?;
//!                 connection.sent(n, now());
//!             }
//!             Next::ShutdownWrite => connection.write_is_shut(now()), // and shutdown(2) on a socket
//!             Next::Close => return Ok(()),
//!         }
//!     }
//! }
//! ```
//!
//! The time until which the peer may take over that step is [`Connection::deadline`]; when it has
//! passed, [`Connection::timed_out`] decides what follows.
//!
//! References of the form `9112 §6.1` are to sections of RFC 9112 (HTTP/1.1) and RFC 9110 (HTTP
//! semantics).

#![forbid(unsafe_code)]

mod body;
mod connection;
mod limits;
mod request;
mod response;

pub use connection::{Connection, Next, Now, Timeout};
pub use limits::Limits;
