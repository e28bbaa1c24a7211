//! HTTP/1.1 for a hello-world server, as a state machine without I/O.
//!
//! Bytes go in and bytes come out. This crate uses no socket, no thread and no clock. An architecture owns a
//! [`Connection`] for each peer and does what [`Connection::next`] asks for, with its own way of waiting:
//!
//! ```
//! # use std::{io::{self, Read, Write}, sync::Arc, time::{Instant, SystemTime}};
//! # use http1::{Connection, Limits, Next, Now, Scratch, Tally};
//! # fn now() -> Now { Now { instant: Instant::now(), wall: SystemTime::now() } }
//! fn converse(mut stream: impl Read + Write) -> io::Result<()> {
//!     let mut scratch = Scratch::new(Limits::default(), Arc::new(Tally::default()));
//!     let mut connection = Connection::new(&scratch, now());
//!     loop {
//!         match connection.next() {
//!             Next::Read => {
//!                 let n = stream.read(scratch.space())?;
//!                 connection.received(&mut scratch, n, now());
//!             }
//!             Next::Write => {
//!                 let n = stream.write(connection.output())?;
//!                 connection.sent(&mut scratch, n, now());
//!             }
//!             // ... after shutdown(2) on a socket
//!             Next::ShutdownWrite => connection.write_is_shut(&scratch, now()),
//!             Next::Close => return Ok(()),
//!         }
//!     }
//! }
//! ```
//!
//! A [`Scratch`] serves any number of connections, one at a time. A [`Tally`] counts their answers.
//!
//! [`Connection::deadline`] is the time until which the peer may take over the next step. When it has passed,
//! [`Connection::timed_out`] decides what follows.
//!
//! References of the form `9112 §6.1` are to sections of RFC 9112 (HTTP/1.1) and RFC 9110 (HTTP
//! semantics).

#![forbid(unsafe_code)]

mod body;
mod connection;
mod limits;
mod request;
mod response;
mod scratch;
mod tally;

pub use connection::{Connection, Next, Now};
pub use limits::{Limits, PANIC_TARGET};
pub use scratch::Scratch;
pub use tally::{Tally, Timeout};
