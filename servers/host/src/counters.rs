use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http1::{Tally, Timeout};

/// What has happened so far. Every accepted connection is either open or closed. Every request that was read to
/// its end, or refused, has its answer counted.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) tally: Arc<Tally>,
    accepted: AtomicU64,
    closed: AtomicU64,
    panics: AtomicU64,
    full: AtomicU64,
    out_of_files: AtomicU64,
    out_of_threads: AtomicU64,
}

impl Counters {
    /// A connection was taken from the accept queue.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// An accepted connection is over.
    pub(crate) fn closed(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    /// A panic ended a connection.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// `--max-connections` are open: from here on, others wait in the accept queue.
    pub(crate) fn full(&self) {
        self.full.fetch_add(1, Relaxed);
    }

    /// A connection stays in the accept queue because files or memory have run out.
    pub(crate) fn out_of_files(&self) {
        self.out_of_files.fetch_add(1, Relaxed);
    }

    /// An accepted connection was closed without being served, because no thread could be created.
    pub fn out_of_threads(&self) {
        self.out_of_threads.fetch_add(1, Relaxed);
    }

    /// Writes one line of JSON to stderr in a single write, because stderr has no buffer.
    pub(crate) fn print(&self) {
        let line = format!("{self}\n");
        // It does not matter if stderr is closed.
        io::stderr().write_all(line.as_bytes()).unwrap_or_default();
    }
}

/// As one line of JSON.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `closed` is read first, so that it never exceeds `accepted`.
        let closed = self.closed.load(Relaxed);
        let accepted = self.accepted.load(Relaxed).max(closed);
        let responses: Vec<(u16, u64)> = self.tally.responses().collect();
        let requests: u64 = responses.iter().map(|(_, count)| count).sum();
        let with_status = |status: u16| {
            let mut all = responses.iter();
            all.find_map(|&(code, count)| (code == status).then_some(count))
                .unwrap_or_default()
        };
        let occurred = responses.iter().filter(|(_, count)| *count > 0);
        let open = accepted - closed;
        let panics = self.panics.load(Relaxed);
        write!(
            f,
            r#"{{"accepted":{accepted},"closed":{closed},"open":{open},"panics":{panics},"requests":{requests}"#
        )?;
        object(f, "responses", occurred.map(|&(code, count)| (code, count)))?;
        let limits = [
            ("connections", self.full.load(Relaxed)),
            ("files", self.out_of_files.load(Relaxed)),
            ("threads", self.out_of_threads.load(Relaxed)),
            ("request_line", with_status(414)),
            ("head", with_status(431)),
            ("body", with_status(413)),
        ];
        object(f, "limits", limits)?;
        let timeouts = Timeout::ALL.map(|timeout| {
            let kind = match timeout {
                Timeout::Idle => "idle",
                Timeout::Header => "header",
                Timeout::Body => "body",
                Timeout::Write => "write",
                Timeout::Linger => "linger",
            };
            (kind, self.tally.timeouts(timeout))
        });
        object(f, "timeouts", timeouts)?;
        f.write_char('}')
    }
}

/// Writes a further member of a JSON object: an object of numbers.
fn object<K: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    members: impl IntoIterator<Item = (K, u64)>,
) -> fmt::Result {
    write!(f, r#","{name}":{{"#)?;
    for (at, (key, count)) in members.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(f, r#"{comma}"{key}":{count}"#)?;
    }
    f.write_char('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_one_line_of_json() {
        let counters = Counters::default();
        counters.accepted();
        counters.accepted();
        counters.closed();
        counters.full();
        assert_eq!(
            counters.to_string(),
            r#"{"accepted":2,"closed":1,"open":1,"panics":0,"requests":0,"responses":{},"limits":{"connections":1,"files":0,"threads":0,"request_line":0,"head":0,"body":0},"timeouts":{"idle":0,"header":0,"body":0,"write":0,"linger":0}}"#
        );
    }
}
