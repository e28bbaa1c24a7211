//! The sum of an explanation: how often, times how much.

use serde::{Deserialize, Serialize};

use crate::primitives::{ANSWER_BYTES, Primitive, Primitives, REQUEST_BYTES};
use crate::set::ledger_rows::Pass;

/// The items that a request can be charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The server's own code.
    OwnCode,
    /// Reads of sockets.
    Receive,
    /// Writes to sockets.
    Send,
    /// Waking the generator by sending.
    WakePeer,
    /// Waits for events.
    EpollWait,
    /// Changes to the set of awaited events.
    EpollControl,
    /// Context switches from one thread to another.
    Switch,
    /// Context switches from a thread to idle, and back.
    SwitchIdle,
    /// Threads waiting for each other.
    Futex,
    /// Voluntary yields.
    Yield,
    /// Threads created and ended.
    Thread,
    /// Connections taken from the accept queue.
    Accept,
    /// Accepts from an empty queue.
    AcceptNothing,
    /// The extra cost of a connection's first request.
    FirstExchange,
    /// Connections closed.
    Close,
    /// Connections shut.
    Shutdown,
    /// Options set.
    SetOption,
    /// Writes to an eventfd.
    WakerWrite,
    /// First touches of pages.
    PageFault,
    /// System calls without a price; that of a bare call is used.
    OtherCalls,
}

impl What {
    /// The title in tables.
    pub fn title(self) -> &'static str {
        match self {
            What::OwnCode => "its own code (measured)",
            What::Receive => "recv",
            What::Send => "send and delivery",
            What::WakePeer => "waking the generator",
            What::EpollWait => "epoll_wait and its events",
            What::EpollControl => "epoll_ctl",
            What::Switch => "context switches, to a thread",
            What::SwitchIdle => "context switches, to idle",
            What::Futex => "futex",
            What::Yield => "sched_yield",
            What::Thread => "threads created and ended",
            What::Accept => "accept4",
            What::AcceptNothing => "accept4 on an empty queue",
            What::FirstExchange => "first request of a connection",
            What::Close => "close",
            What::Shutdown => "shutdown",
            What::SetOption => "setsockopt",
            What::WakerWrite => "write to an eventfd",
            What::PageFault => "page faults",
            What::OtherCalls => "other calls, priced as bare calls",
        }
    }
}

/// The origin of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Counts times prices.
    Predicted,
    /// Measured in the set, because nothing predicts it.
    Taken,
}

/// One line of the sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The item.
    pub what: What,
    /// The origin of its figure.
    pub source: Source,
    /// How often a request needs it.
    pub per_request: f64,
    /// CPU microseconds for each.
    pub each_us: f64,
    /// The product of both.
    pub us: f64,
}

/// Facts beyond the ledger that determine the sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Connections per request.
    pub connections: f64,
    /// Length of an answer.
    pub answer_bytes: f64,
    /// How often the answer to a request finds the generator asleep: each of its context switches
    /// is a sleep that an answer ended.
    pub client_sleeps: f64,
    /// Context switches per request in the timed rounds; if they are not known, the ledger's are
    /// used.
    pub switches: Option<f64>,
    /// A single thread serves: whenever it waits, its CPU is idle.
    pub serves_alone: bool,
    /// CPUs that the server is pinned to; 0 without pinning.
    pub server_cpus: usize,
    /// CPU time of the server's own code, in microseconds per request.
    pub user_us: f64,
}

const RECEIVES: [&str; 3] = ["recvfrom", "recvmsg", "readv"];
const SENDS: [&str; 4] = ["sendto", "sendmsg", "writev", "sendfile"];
const ACCEPTS: [&str; 2] = ["accept4", "accept"];
const EPOLL_WAITS: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];
const THREADS: [&str; 2] = ["clone3", "clone"];

/// The calls of glibc and std that create and end a thread; they are part of the price of a thread.
const CALLS_OF_THREADS: [&str; 13] = [
    "mmap",
    "munmap",
    "mprotect",
    "madvise",
    "rt_sigprocmask",
    "sigaltstack",
    "rseq",
    "set_robust_list",
    "gettid",
    "sched_getaffinity",
    "exit",
    "clone3",
    "clone",
];

/// What a request should cost, item by item, the most expensive first; empty items are left out.
pub fn items(pass: &Pass, load: &Load, primitives: &Primitives) -> Vec<Item> {
    let mut sum = Sum {
        calls: Calls::of(pass),
        load,
        primitives,
        items: Vec::new(),
    };
    sum.add(What::OwnCode, 1.0, load.user_us);
    sum.transfers();
    sum.connections();
    sum.threads();
    sum.waits(pass);
    sum.rest(pass);
    sum.items.sort_by(|a, b| b.us.total_cmp(&a.us));
    sum.items
}

/// System calls per request that are not accounted for yet.
struct Calls(Vec<(String, f64)>);

impl Calls {
    fn of(pass: &Pass) -> Self {
        let per_request = |(name, count): (&String, &u64)| (name.clone(), pass.per_request(*count));
        Calls(pass.calls.iter().map(per_request).collect())
    }

    fn has(&self, names: &[&str]) -> bool {
        self.0.iter().any(|(name, _)| names.contains(&&**name))
    }

    /// Takes these calls out and returns their sum.
    fn take(&mut self, names: &[&str]) -> f64 {
        let mut taken = 0.0;
        self.0.retain(|(name, count)| {
            let is_it = names.contains(&&**name);
            taken += if is_it { *count } else { 0.0 };
            !is_it
        });
        taken
    }
}

struct Sum<'a> {
    calls: Calls,
    load: &'a Load,
    primitives: &'a Primitives,
    items: Vec<Item>,
}

impl Sum<'_> {
    fn us(&self, primitive: Primitive) -> f64 {
        self.primitives.us(primitive)
    }

    fn add(&mut self, what: What, per_request: f64, each_us: f64) {
        let source = match what {
            What::OwnCode => Source::Taken,
            _ => Source::Predicted,
        };
        if per_request * each_us > 0.0 {
            self.items.push(Item {
                what,
                source,
                per_request,
                each_us,
                us: per_request * each_us,
            });
        }
    }

    /// Adds an item, part of whose count has another price.
    fn add_two(&mut self, what: What, one: (f64, Primitive), other: (f64, Primitive)) {
        let us = one.0 * self.us(one.1) + other.0 * self.us(other.1);
        let count = one.0 + other.0;
        self.add(what, count, if count > 0.0 { us / count } else { 0.0 });
    }

    /// Requests and answers, and the wait for them.
    fn transfers(&mut self) {
        // A server that calls neither on sockets reads and writes them as files.
        let reads = match self.calls.has(&RECEIVES) {
            true => self.calls.take(&RECEIVES),
            false => self.calls.take(&["read"]),
        };
        let sends = match self.calls.has(&SENDS) {
            true => self.calls.take(&SENDS),
            false => self.calls.take(&["write"]),
        };
        let ends = self.load.connections.min(reads);
        let receives = reads - ends;
        let further_kib = |bytes: f64, first: usize| (bytes - first as f64) / 1024.0;
        if reads > 0.0 {
            // If there are more reads than requests, some found nothing.
            let bytes = REQUEST_BYTES as f64 / receives.clamp(f64::MIN_POSITIVE, 1.0);
            let kib = further_kib(bytes.min(MESSAGE_BYTES_MAX), REQUEST_BYTES);
            let each = self.us(Primitive::Receive) + kib * self.us(Primitive::ReceiveKib);
            let us = receives * each + ends * self.us(Primitive::ReceiveEnd);
            self.add(What::Receive, reads, us / reads);
        }
        if sends > 0.0 {
            let kib = further_kib(self.load.answer_bytes / sends, ANSWER_BYTES);
            let each = self.us(Primitive::Send) + kib * self.us(Primitive::SendKib);
            self.add(What::Send, sends, each);
        }
        let wake = self.us(Primitive::WakePeer);
        self.add(What::WakePeer, self.load.client_sleeps, wake);
        let waits = self.calls.take(&EPOLL_WAITS);
        if waits > 0.0 {
            // A read follows an event and empties the socket, so there are as many of both.
            let us = self.us(Primitive::EpollWait) + reads / waits * self.us(Primitive::EpollEvent);
            self.add(What::EpollWait, waits, us);
        }
        let writes = self.calls.take(&["write"]);
        self.add(What::WakerWrite, writes, self.us(Primitive::WakerWrite));
    }

    fn connections(&mut self) {
        let connections = self.load.connections;
        let accepts = self.calls.take(&ACCEPTS);
        let found = accepts.min(connections);
        self.add(What::Accept, found, self.us(Primitive::Accept));
        let nothing = self.us(Primitive::AcceptNothing);
        self.add(What::AcceptNothing, accepts - found, nothing);
        let first = self.us(Primitive::FirstExchange);
        self.add(What::FirstExchange, connections, first);
        let closes = self.calls.take(&["close"]);
        let closed = closes.min(connections);
        self.add_two(
            What::Close,
            (closed, Primitive::Close),
            (closes - closed, Primitive::BareCall),
        );
        let controls = self.calls.take(&["epoll_ctl"]);
        let added = controls.min(connections);
        self.add_two(
            What::EpollControl,
            (added, Primitive::EpollAdd),
            (controls - added, Primitive::EpollRemove),
        );
        let shutdowns = self.calls.take(&["shutdown"]);
        self.add(What::Shutdown, shutdowns, self.us(Primitive::Shutdown));
        let options = self.calls.take(&["setsockopt"]);
        self.add(What::SetOption, options, self.us(Primitive::SetOption));
    }

    fn threads(&mut self) {
        let threads = self.calls.take(&THREADS);
        if threads > 0.0 {
            self.calls.take(&CALLS_OF_THREADS);
        }
        self.add(What::Thread, threads, self.us(Primitive::Thread));
    }

    fn waits(&mut self, pass: &Pass) {
        let yields = self.calls.take(&["sched_yield"]);
        self.add(What::Yield, yields, self.us(Primitive::Yield));
        // Each waiting thread is woken by a call of another.
        let futexes = self.calls.take(&["futex"]);
        let counted = || event(pass, "context-switches");
        let switches = self.load.switches.unwrap_or_else(counted);
        let waits = (futexes / 2.0).min(switches);
        let wake = match self.load.server_cpus {
            1 => Primitive::FutexWake,
            _ => Primitive::FutexWakeRemote,
        };
        self.add_two(
            What::Futex,
            (futexes - waits, wake),
            (waits, Primitive::FutexWait),
        );
        let switches = switches - waits;
        // The server is idle while the generator works. With several threads, the best estimate is
        // that it sleeps as often as the generator.
        let idle = match self.load.serves_alone {
            true => switches,
            false => switches.min(self.load.client_sleeps),
        };
        self.add(What::SwitchIdle, idle, self.us(Primitive::SwitchIdle));
        self.add(What::Switch, switches - idle, self.us(Primitive::Switch));
    }

    fn rest(&mut self, pass: &Pass) {
        let faults = event(pass, "page-faults");
        self.add(What::PageFault, faults, self.us(Primitive::PageFault));
        let others: f64 = self.calls.0.drain(..).map(|(_, count)| count).sum();
        self.add(What::OtherCalls, others, self.us(Primitive::BareCall));
    }
}

/// The longest read or write of a server.
const MESSAGE_BYTES_MAX: f64 = 16.0 * 1024.0;

fn event(pass: &Pass, name: &str) -> f64 {
    let count = pass.events.get(name).copied().unwrap_or(0);
    pass.per_request(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::fixture;

    const LOAD: Load = Load {
        connections: 0.0,
        answer_bytes: 130.0,
        client_sleeps: 0.0,
        switches: None,
        serves_alone: true,
        server_cpus: 1,
        user_us: 0.0,
    };

    /// Counts for ten requests.
    fn pass(counts: &[(&str, u64)]) -> Pass {
        let mut pass = Pass {
            responses: 10,
            ..Pass::default()
        };
        for &(name, count) in counts {
            let of = match name.contains('-') {
                true => &mut pass.events,
                false => &mut pass.calls,
            };
            of.insert(name.to_owned(), count);
        }
        pass
    }

    #[test]
    fn counts_times_prices() {
        let connections = Load {
            connections: 1.0,
            ..LOAD
        };
        let several = Load {
            serves_alone: false,
            client_sleeps: 0.25,
            ..LOAD
        };
        let timed = Load {
            switches: Some(0.5),
            ..LOAD
        };
        let two_cpus = Load {
            server_cpus: 2,
            ..LOAD
        };
        type Counts = &'static [(&'static str, u64)];
        type Items = &'static [(What, f64, f64)];
        let rows: &[(&str, Counts, &Load, Items)] = &[
            ("nothing", &[], &LOAD, &[]),
            (
                "a request",
                &[("recvfrom", 10), ("sendto", 10)],
                &LOAD,
                &[(What::Send, 1.0, 2.4), (What::Receive, 1.0, 0.8)],
            ),
            (
                "files are sockets to whoever knows no other call",
                &[("read", 10), ("write", 10)],
                &LOAD,
                &[(What::Send, 1.0, 2.4), (What::Receive, 1.0, 0.8)],
            ),
            (
                "a write beside sends wakes a thread",
                &[("sendto", 10), ("write", 10)],
                &LOAD,
                &[(What::Send, 1.0, 2.4), (What::WakerWrite, 1.0, 0.2)],
            ),
            (
                "ten answers in one send, of ten requests in one recv",
                &[("recvfrom", 1), ("sendto", 1)],
                &LOAD,
                &[
                    (What::Send, 0.1, 2.4 + 9.0 * 130.0 / 1024.0 * 0.2),
                    (What::Receive, 0.1, 0.8 + 9.0 * 41.0 / 1024.0 * 0.1),
                ],
            ),
            (
                "a wait with four events",
                &[("recvfrom", 40), ("epoll_wait", 10)],
                &LOAD,
                &[(What::Receive, 4.0, 0.8), (What::EpollWait, 1.0, 2.2)],
            ),
            (
                "a connection, and an accept on an empty queue",
                &[
                    ("accept4", 15),
                    ("close", 10),
                    ("epoll_ctl", 20),
                    ("shutdown", 10),
                    ("setsockopt", 10),
                ],
                &connections,
                &[
                    (What::Close, 1.0, 5.7),
                    (What::Shutdown, 1.0, 1.9),
                    (What::Accept, 1.0, 1.7),
                    (What::EpollControl, 2.0, 0.55),
                    (What::FirstExchange, 1.0, 1.0),
                    (What::AcceptNothing, 0.5, 1.2),
                    (What::SetOption, 1.0, 0.15),
                ],
            ),
            (
                "the calls of a thread are in its price",
                &[("clone3", 10), ("mmap", 10), ("rt_sigprocmask", 40)],
                &LOAD,
                &[(What::Thread, 1.0, 9.0)],
            ),
            (
                "without a thread they are calls",
                &[("mmap", 10), ("getrandom", 5)],
                &LOAD,
                &[(What::OtherCalls, 1.5, 0.1)],
            ),
            (
                "whoever serves alone leaves its CPU idle",
                &[("context-switches", 10), ("page-faults", 1)],
                &LOAD,
                &[(What::SwitchIdle, 1.0, 22.0), (What::PageFault, 0.1, 1.5)],
            ),
            (
                "switches of the timed rounds are nearer than those of another pass",
                &[("context-switches", 10)],
                &timed,
                &[(What::SwitchIdle, 0.5, 22.0)],
            ),
            (
                "of several threads one runs, unless the generator runs",
                &[("context-switches", 10)],
                &several,
                &[
                    (What::Switch, 0.75, 10.0),
                    (What::SwitchIdle, 0.25, 22.0),
                    (What::WakePeer, 0.25, 14.0),
                ],
            ),
            (
                "a wait for a thread has its switch in its price",
                &[("futex", 20), ("context-switches", 10), ("sched_yield", 10)],
                &LOAD,
                &[(What::Futex, 2.0, 3.5), (What::Yield, 1.0, 0.2)],
            ),
            (
                "on another CPU it costs more to wake one",
                &[("futex", 20), ("context-switches", 10)],
                &two_cpus,
                &[(What::Futex, 2.0, 9.5)],
            ),
        ];
        for (name, counts, load, expected) in rows {
            let items = items(&pass(counts), load, &fixture::primitives());
            let found: Vec<What> = items.iter().map(|item| item.what).collect();
            let mut expected: Vec<_> = expected.to_vec();
            expected.sort_by(|a, b| (b.1 * b.2).total_cmp(&(a.1 * a.2)));
            let kinds: Vec<What> = expected.iter().map(|(what, ..)| *what).collect();
            assert_eq!(found, kinds, "{name}");
            for (item, (_, per_request, each_us)) in items.iter().zip(expected) {
                assert!(
                    (item.per_request - per_request).abs() < 1e-9,
                    "{name}: {item:?}"
                );
                assert!((item.each_us - each_us).abs() < 1e-9, "{name}: {item:?}");
                assert_eq!(item.source, Source::Predicted, "{name}: {item:?}");
            }
        }
    }

    #[test]
    fn the_time_of_its_own_code_is_taken_as_it_is() {
        let load = Load {
            user_us: 0.7,
            ..LOAD
        };
        let items = items(&pass(&[]), &load, &fixture::primitives());
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].source, Source::Taken);
        assert_eq!((items[0].what, items[0].us), (What::OwnCode, 0.7));
    }
}
