//! What a child writes, read by a thread each, so that a full pipe never blocks it.

use std::io::{self, Read, Write as _};
use std::mem;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How much of an output is kept.
const TAIL_BYTES_MAX: usize = 8 << 10;

/// How much of a first line is kept.
const LINE_BYTES_MAX: usize = 1 << 10;

/// How long a source may take to end once its process has: it is over at once, unless a process that left
/// the group still holds the other end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The last of an output.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl Tail {
    /// Reads `source` to its end; copies it to `copy`, if given, as it comes.
    pub(super) fn of(source: impl Read + Send + 'static, copy: Option<io::Stderr>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (at_end, end) = mpsc::channel();
        let mine = Arc::clone(&bytes);
        thread::spawn(move || {
            read_all(source, |chunk| {
                if let Some(mut copy) = copy.as_ref() {
                    let _ = copy.write_all(chunk);
                }
                let mut bytes = mine.lock().expect("no holder panics");
                bytes.extend_from_slice(chunk);
                let excess = bytes.len().saturating_sub(TAIL_BYTES_MAX);
                bytes.drain(..excess);
            });
            drop(at_end);
        });
        Tail { bytes, end }
    }

    /// What was kept of what has come since this was last called.
    pub(super) fn take(&self) -> String {
        let bytes = mem::take(&mut *self.bytes.lock().expect("no holder panics"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The rest, when its process has ended.
    pub(super) fn finish(&mut self) -> String {
        let _ = self.end.recv_timeout(END_WITHIN);
        self.take()
    }
}

/// The first line of `source`, or its beginning when it is long or does not end; disconnected when
/// there is none. What follows is read and dropped.
pub(super) fn first_line(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut sender = Some(sender);
        let send = |line: &[u8], sender: &mut Option<mpsc::SyncSender<String>>| {
            if let Some(sender) = sender.take() {
                let _ = sender.send(String::from_utf8_lossy(line).into_owned());
            }
        };
        read_all(source, |chunk| {
            if sender.is_none() {
                return;
            }
            line.extend_from_slice(chunk);
            if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
                send(&line[..end], &mut sender);
            } else if line.len() > LINE_BYTES_MAX {
                send(&line[..LINE_BYTES_MAX], &mut sender);
            }
        });
        if !line.is_empty() {
            send(&line, &mut sender);
        }
    });
    receiver
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
