//! The output of a child, read by one thread per pipe so that a full pipe never blocks the child.

use std::io::{self, Read, Write as _};
use std::mem;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use engine::foreign;

/// How much of an output is kept.
const BYTES_MAX: usize = 8 << 10;

/// How much of the first line is kept.
const LINE_BYTES_MAX: usize = 1 << 10;

/// How long a pipe may take to end after its process: it ends at once unless a process that was not started here
/// holds the other end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// The part of an output to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Beginning,
    End,
}

/// An output, of which a bounded part is kept.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl Output {
    /// Reads `source` to its end; also copies it to `copy`, if given.
    ///
    /// # Errors
    ///
    /// If no thread can be created.
    pub(super) fn of(
        source: impl Read + Send + 'static,
        keep: Keep,
        copy: Option<io::Stderr>,
    ) -> io::Result<Self> {
        Output::watched(source, keep, move |chunk| {
            if let Some(mut copy) = copy.as_ref() {
                let _ = copy.write_all(chunk);
            }
            chunk.len()
        })
    }

    /// Reads `source` like [`of`](Output::of) and keeps the end. The receiver gets the first line,
    /// shortened if it is long or does not end; it is disconnected if there is none. The first line
    /// is not part of the kept output.
    ///
    /// # Errors
    ///
    /// If no thread can be created.
    pub(super) fn with_first_line(
        source: impl Read + Send + 'static,
    ) -> io::Result<(Self, Receiver<String>)> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let mut first = FirstLine {
            line: Vec::new(),
            sender: Some(sender),
        };
        let output = Output::watched(source, Keep::End, move |chunk| first.take(chunk))?;
        Ok((output, receiver))
    }

    /// `watch` returns how many bytes at the end of the chunk may be kept.
    fn watched(
        source: impl Read + Send + 'static,
        keep: Keep,
        mut watch: impl FnMut(&[u8]) -> usize + Send + 'static,
    ) -> io::Result<Self> {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (at_end, end) = mpsc::channel();
        let mine = Arc::clone(&bytes);
        let read = move || {
            read_all(source, |chunk| {
                let chunk = &chunk[chunk.len() - watch(chunk)..];
                keep.add(&mut mine.lock().expect("no holder panics"), chunk);
            });
            drop(watch);
            drop(at_end);
        };
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(read)?;
        Ok(Output { bytes, end })
    }

    /// The kept output that has arrived since the last call.
    pub(super) fn take(&self) -> String {
        let bytes = mem::take(&mut *self.bytes.lock().expect("no holder panics"));
        foreign::text(&bytes)
    }

    /// The remaining output, once the process has ended.
    pub(super) fn finish(&self) -> String {
        let _ = self.end.recv_timeout(END_WITHIN);
        self.take()
    }
}

impl Keep {
    fn add(self, kept: &mut Vec<u8>, chunk: &[u8]) {
        match self {
            Keep::Beginning => {
                let room = BYTES_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&chunk[..room.min(chunk.len())]);
            }
            Keep::End => {
                kept.extend_from_slice(chunk);
                let excess = kept.len().saturating_sub(BYTES_MAX);
                kept.drain(..excess);
            }
        }
    }
}

struct FirstLine {
    line: Vec<u8>,
    /// The sender, until the line has been sent.
    sender: Option<mpsc::SyncSender<String>>,
}

impl FirstLine {
    /// Returns how many bytes at the end of the chunk do not belong to the first line.
    fn take(&mut self, chunk: &[u8]) -> usize {
        if self.sender.is_none() {
            return chunk.len();
        }
        let before = self.line.len();
        self.line.extend_from_slice(chunk);
        if let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
            self.send(end);
            return before + chunk.len() - (end + 1);
        }
        if self.line.len() > LINE_BYTES_MAX {
            self.send(LINE_BYTES_MAX);
        }
        0
    }

    fn send(&mut self, end: usize) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(foreign::text(&self.line[..end]));
        }
    }
}

impl Drop for FirstLine {
    /// The output has ended.
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.send(self.line.len());
        }
    }
}

fn read_all(mut source: impl Read, mut on_chunk: impl FnMut(&[u8])) {
    let mut chunk = [0; 4096];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => return,
            Ok(read) => on_chunk(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_part_is_kept() {
        let long = [b'a'; BYTES_MAX].into_iter().chain(*b"end");
        let long: Vec<u8> = long.collect();
        for (keep, starts, ends) in [(Keep::Beginning, "aaa", "aaa"), (Keep::End, "aaa", "aend")] {
            let output = Output::of(io::Cursor::new(long.clone()), keep, None).unwrap();
            let kept = output.finish();
            assert_eq!(kept.len(), BYTES_MAX);
            assert!(kept.starts_with(starts) && kept.ends_with(ends), "{keep:?}");
        }
    }

    /// Yields one byte per read.
    struct Slow(Vec<u8>);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            into[0] = self.0.remove(0);
            Ok(1)
        }
    }

    #[test]
    fn first_lines_however_they_come() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        for (text, expected) in [
            ("one\ntwo\n", Some("one")),
            ("no end", Some("no end")),
            ("\n", Some("")),
            ("", None),
            (&long, Some(&long[..LINE_BYTES_MAX])),
        ] {
            for whole in [true, false] {
                let bytes = text.as_bytes().to_vec();
                let (output, line) = match whole {
                    true => Output::with_first_line(io::Cursor::new(bytes)).unwrap(),
                    false => Output::with_first_line(Slow(bytes)).unwrap(),
                };
                assert_eq!(line.recv().ok().as_deref(), expected, "{whole}");
                if text.starts_with("one") {
                    assert_eq!(output.finish(), "two\n");
                }
            }
        }
    }
}
