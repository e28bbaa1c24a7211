//! The bytes to send: the requests of a plan in rotation.

use std::ops::Range;

/// Concatenated requests, so that any number of them, from any position on, is one contiguous
/// range.
pub(super) struct Rotation {
    bytes: Vec<u8>,
    /// Where each request in `bytes` starts; the last entry is the end.
    starts: Vec<usize>,
    /// The number of different requests.
    requests: usize,
    next: usize,
}

impl Rotation {
    /// Starts with request `first`; at most `batch` are taken at once.
    pub(super) fn new(requests: &[Vec<u8>], batch: usize, first: usize) -> Self {
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for request in requests.iter().cycle().take(requests.len() + batch) {
            bytes.extend_from_slice(request);
            starts.push(bytes.len());
        }
        Rotation {
            bytes,
            starts,
            requests: requests.len(),
            next: first % requests.len(),
        }
    }

    /// Takes the next `count` requests: their range in [`Rotation::bytes`], and the number of the
    /// first.
    pub(super) fn take(&mut self, count: usize) -> (Range<usize>, usize) {
        let first = self.next;
        self.next = (first + count) % self.requests;
        (self.starts[first]..self.starts[first + count], first)
    }

    /// The number of the request after `number`.
    pub(super) fn after(&self, number: usize) -> usize {
        (number + 1) % self.requests
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_take_turns() {
        let requests = ["a", "bb", "ccc"].map(|text| text.as_bytes().to_vec());
        let mut rotation = Rotation::new(&requests, 5, 4);
        for (count, bytes, first) in [
            (1, "bb", 1),
            (5, "cccabbccca", 2),
            (0, "", 1),
            (3, "bbccca", 1),
        ] {
            let (range, number) = rotation.take(count);
            assert_eq!(rotation.bytes(range), bytes.as_bytes());
            assert_eq!(number, first);
        }
        assert_eq!(rotation.after(2), 0);
    }
}
