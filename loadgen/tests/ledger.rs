//! Counting a server's system calls, held against a server whose system calls are known.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt as _, parent_id};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use engine::drive;
use engine::plan::{ConnectionLife, Limit, Plan};
use engine::record::Outcome;
use subject::ledger::{AtLeast, Counted, Counters, Counts, OTHER, Pass, Tracepoints};

/// Set in processes that are to serve.
const SERVE: &str = "LOADGEN_TEST_COUNTED";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Not a test of its own: a thread for each connection; for each request one `recvfrom`, one `sendto`, and
/// one `getppid`, which no counter has a name for.
#[test]
#[ignore = "run by other tests"]
fn serve() {
    if std::env::var(SERVE).is_err() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        thread::spawn(move || {
            let mut request = [0; REQUEST.len()];
            while stream.read(&mut request).is_ok_and(|n| n == request.len()) {
                std::hint::black_box(parent_id());
                stream.write_all(ANSWER).unwrap();
            }
        });
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "serve", "--nocapture"])
            .env(SERVE, "")
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness speaks first.
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("listening on ")?.1.parse().unwrap()))
            .unwrap();
        Server { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn plan(&self) -> Plan {
        Plan {
            connections: 1,
            limit: Limit::For(Duration::from_secs(20)),
            // On a busy machine, connections open late.
            warmup: Duration::from_millis(500),
            ..Plan::new(self.address, REQUEST.to_vec())
        }
    }

    /// Counts while a load runs, until it is enough, and the machine was not too busy.
    fn under_load(&self, tracepoints: &Tracepoints, plan: &Plan) -> (Counted, Outcome) {
        for _ in 0..20 {
            let counters = Counters::attach(tracepoints, self.child.id()).unwrap();
            let at_least = AtLeast {
                time: Duration::from_millis(100),
                responses: 300,
            };
            let mut pass = Pass::new(counters, at_least);
            let enough = AtomicBool::new(false);
            let outcome = drive::run_observed(plan, &enough, &mut |moment| {
                pass.on(moment);
                enough.store(pass.is_over(), Relaxed);
            });
            let counted = pass.finish().unwrap();
            if counted.is_certain() {
                return (counted, outcome.unwrap());
            }
        }
        panic!("the machine is too busy to count");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None`, said aloud, where counting is not permitted.
fn tracepoints() -> Option<Tracepoints> {
    match Tracepoints::open() {
        Ok(tracepoints) => Some(tracepoints),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

fn ask(stream: &mut TcpStream, times: usize) {
    let mut answer = [0; ANSWER.len()];
    for _ in 0..times {
        stream.write_all(REQUEST).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, ANSWER);
    }
}

/// Whatever is still on its way has happened by then: the server has nothing left to do.
fn settle() {
    thread::sleep(Duration::from_millis(200));
}

fn call(counts: &Counts, name: &str) -> u64 {
    counts.calls.get(name).copied().unwrap_or(0)
}

/// Every one is counted, and none that came before or after.
#[test]
fn counts_are_exact() {
    let Some(tracepoints) = tracepoints() else {
        return;
    };
    let server = Server::start();
    let mut stays = server.connect();
    ask(&mut stays, 10);
    settle();

    let mut counters = Counters::attach(&tracepoints, server.child.id()).unwrap();
    ask(&mut stays, 10);
    settle();
    counters.begin().unwrap();
    // By a thread that was there before...
    ask(&mut stays, 500);
    // ... by some that come and go, and by some that stay.
    for _ in 0..30 {
        ask(&mut server.connect(), 2);
    }
    let mut others: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    others.iter_mut().for_each(|stream| ask(stream, 3));
    settle();
    let counts = counters.end().unwrap();
    ask(&mut stays, 10);

    let requests = 500 + 30 * 2 + 20 * 3;
    let connections = 30 + 20;
    for (name, expected) in [
        // One waits from before to after; each of those that went has read an end, and each new one that
        // stays waits for more.
        ("recvfrom", requests + 30 + 20),
        ("sendto", requests),
        (OTHER, requests),
        ("accept4", connections),
        ("clone3", connections),
        ("exit", 30),
        // The C library opens a file when it first needs a second heap.
        ("close", 30 + call(&counts, "openat")),
        ("epoll_wait", 0),
    ] {
        assert_eq!(call(&counts, name), expected, "{name}: {counts:?}");
    }
    assert!(
        counts.events["context-switches"] >= connections,
        "{counts:?}"
    );
    // The stack of each new thread, or a part of it.
    assert!(counts.events["page-faults"] > 0, "{counts:?}");
}

/// But for what happened while counters and responses were read one after the other, however long the thread
/// that does so had to wait for a CPU in between.
fn is_about(count: u64, responses: u64) -> bool {
    count.abs_diff(responses) <= 10 + responses / 20
}

/// A keep-alive request is one read and one write; what is in flight at the ends is all that is uncertain.
#[test]
fn a_request_under_load() {
    let Some(tracepoints) = tracepoints() else {
        return;
    };
    let server = Server::start();
    let (counted, outcome) = server.under_load(&tracepoints, &server.plan());
    assert!(counted.responses >= 300, "{counted:?}");
    assert!(
        counted.responses
            <= outcome.record.counts.responses + outcome.record.counts.warmup_requests
    );
    for name in ["recvfrom", "sendto", OTHER] {
        let count = call(&counted.counts, name);
        assert!(is_about(count, counted.responses), "{name}: {counted:?}");
    }
    assert_eq!(call(&counted.counts, "accept4"), 0, "{counted:?}");
    assert_eq!(call(&counted.counts, "close"), 0, "{counted:?}");
}

/// A thread for each connection is one `clone3` for each.
#[test]
fn a_connection_under_load() {
    let Some(tracepoints) = tracepoints() else {
        return;
    };
    let server = Server::start();
    let plan = Plan {
        life: ConnectionLife::Requests(1),
        ..server.plan()
    };
    let (counted, _) = server.under_load(&tracepoints, &plan);
    for name in ["accept4", "clone3", "sendto", OTHER, "exit", "close"] {
        let count = call(&counted.counts, name);
        assert!(is_about(count, counted.responses), "{name}: {counted:?}");
    }
}

#[test]
fn nobody_to_count() {
    let Some(tracepoints) = tracepoints() else {
        return;
    };
    assert!(Counters::attach(&tracepoints, 0x3fff_fff0).is_err());
}
