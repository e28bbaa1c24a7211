use std::sync::Arc;

use crate::response::Responder;
use crate::{Limits, Tally};

/// What a thread shares among all connections that it serves: a buffer to read into, a spare buffer for answers,
/// the present `Date`, the limits and the counters.
///
/// A connection borrows it for one call at a time and keeps no part of it while it waits, so that an idle
/// connection costs no buffer.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) limits: Limits,
    pub(crate) input: Box<[u8; INPUT_BYTES]>,
    pub(crate) spare: Vec<u8>,
    pub(crate) responder: Responder,
}

/// The size of the read buffer. It is larger than any usual request; a read that does not fill it has emptied the
/// socket. It also bounds the answers to one read: the shortest request has 22 bytes and the longest answer that
/// keeps the connection open about 170, so they are at most 32 KiB.
const INPUT_BYTES: usize = 4096;

impl Scratch {
    /// New buffers; answers and timeouts are counted in `tally`.
    pub fn new(limits: Limits, tally: Arc<Tally>) -> Self {
        Scratch {
            limits,
            input: Box::new([0; INPUT_BYTES]),
            spare: Vec::with_capacity(256),
            responder: Responder::new(tally),
        }
    }

    /// The buffer for the next read.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.input[..]
    }
}
