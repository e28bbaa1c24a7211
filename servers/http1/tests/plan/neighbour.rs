use http1::{Connection, Next};

use crate::peer::{Peer, hello};

/// Another connection of the same thread. The two connections must not affect each other.
pub(super) struct Neighbour {
    connection: Connection,
    /// The number of requests sent.
    pub(super) asked: u64,
    received: Vec<u8>,
}

impl Neighbour {
    pub(super) fn new(peer: &Peer) -> Self {
        Neighbour {
            connection: Connection::new(&peer.scratch, peer.now),
            asked: 0,
            received: Vec::new(),
        }
    }

    /// Sends a request, or takes part of the answer.
    pub(super) fn go_on(&mut self, peer: &mut Peer) {
        const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        match self.connection.next() {
            Next::Read => {
                peer.scratch.space()[..GET.len()].copy_from_slice(GET);
                self.connection
                    .received(&mut peer.scratch, GET.len(), peer.now);
                self.asked += 1;
            }
            Next::Write => {
                let n = self.connection.output().len().min(50);
                self.received.extend(&self.connection.output()[..n]);
                self.connection.sent(&mut peer.scratch, n, peer.now);
            }
            next => panic!("{next:?} for a neighbour that goes on"),
        }
    }

    /// Panics unless each request was answered.
    pub(super) fn check(&self) {
        let answer = hello("").into_bytes();
        let answered = [&self.received, self.connection.output()].concat();
        assert_eq!(answered, answer.repeat(self.asked as usize));
    }
}
