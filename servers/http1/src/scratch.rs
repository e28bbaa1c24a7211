use std::sync::Arc;

use crate::response::Responder;
use crate::{Limits, Tally};

/// What a thread has once for all the connections that it serves: room to read into, a spare buffer for
/// answers, the present `Date`, and what goes for every connection.
///
/// A connection is handed it for the length of a call and keeps nothing of it while it waits, so that
/// an idle connection costs no buffer.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) limits: Limits,
    pub(crate) input: Box<[u8; INPUT_BYTES]>,
    pub(crate) spare: Vec<u8>,
    pub(crate) responder: Responder,
}

/// Larger than any usual request, so that a read which fills less of it has emptied the socket. It also
/// bounds the answers that one read may bring forth: the shortest request has 22 bytes, and the longest
/// answer that keeps the connection some 170, which makes 32 KiB.
const INPUT_BYTES: usize = 4096;

impl Scratch {
    /// Fresh scratch space; what happens is counted in `tally`.
    pub fn new(limits: Limits, tally: Arc<Tally>) -> Self {
        Scratch {
            limits,
            input: Box::new([0; INPUT_BYTES]),
            spare: Vec::with_capacity(256),
            responder: Responder::new(tally),
        }
    }

    /// Where the next input goes.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.input[..]
    }
}
