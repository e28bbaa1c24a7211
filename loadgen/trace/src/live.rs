//! A live trace: switches on all sources, runs the clients, and selects the facts that belong to
//! their connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::gettid;

use super::client::{self, Pause, Plan, Sockets};
use super::clock;
use super::kernel::{self, Tracer, Watch};
use super::model::{
    Call, Change, Moment, Record, Side, Snapshot, Socket, Source, State, TimeWaits, What,
};
use super::packets::{Capture, Live, Ports};
use engine::ports::TIME_WAIT;
use subject::process::Processes;
use subject::sockets;

/// What to trace.
#[derive(Debug, Clone)]
pub struct Job {
    /// Lanes run concurrently; the connections of a lane run one after another. All use one server.
    pub lanes: Vec<Vec<Plan>>,
    /// Whether to list sockets while the first connection pauses, which takes some hundred
    /// microseconds each time.
    pub sockets: bool,
    /// Keep every system call, not only those about sockets, waits and threads.
    pub all_calls: bool,
    /// Watch until `TIME-WAIT` is over.
    pub wait: bool,
}

/// All sources, switched on.
#[derive(Debug)]
pub struct Tracing {
    tracer: Result<Tracer, String>,
    live: Result<Live, String>,
}

/// The outcome of a trace.
#[derive(Debug)]
pub struct Traced {
    /// The facts.
    pub record: Record,
    /// The captured frames of these connections only.
    pub capture: Option<Capture>,
}

/// How long a freshly started server may take to come to rest.
const AT_REST: Duration = Duration::from_millis(5);
/// How long to wait for the last segments of a connection; if both sides close, they arrive at
/// once.
const SETTLE: Duration = Duration::from_secs(1);
/// Interval between looks at the sockets while segments settle.
const POLL: Duration = Duration::from_millis(2);
/// Interval between looks at the sockets while waiting for `TIME-WAIT` to end.
const POLL_WAIT: Duration = Duration::from_millis(100);

impl Tracing {
    /// Switches on every permitted source. Call this before the server is started if its start
    /// should be traced.
    pub fn begin() -> Self {
        Tracing {
            tracer: Tracer::begin().map_err(|error| error.to_string()),
            ..Tracing::of_packets()
        }
    }

    /// Watches only packets and sockets, which does not slow down other processes.
    pub fn of_packets() -> Self {
        Tracing {
            tracer: Err("system calls were not requested".to_owned()),
            live: Live::open(Ports::default()).map_err(|error| error.to_string()),
        }
    }

    /// Makes the connections of `job` and collects the facts. `started` are the processes of a
    /// server that was started for this trace. `waiting` is told how much longer `TIME-WAIT` will
    /// last.
    ///
    /// # Panics
    ///
    /// If `job` has no connection.
    pub fn follow(
        mut self,
        job: &Job,
        started: Option<Processes>,
        interrupted: &AtomicBool,
        waiting: impl FnMut(Duration),
    ) -> Traced {
        let reached_at = job.lanes[0][0].server;
        let server = client::on_the_wire(reached_at);
        if let Ok(live) = &mut self.live {
            let begun = live
                .set_ports(Ports::from([server.port()]))
                .and_then(|()| live.begin());
            if let Err(error) = begun {
                self.live = Err(format!("capturing packets: {error}"));
            }
        }
        let rest_ns = started.map(|_| come_to_rest(server));
        let pids = server_pids(started, server);
        let overflows = sockets::time_wait_overflows().ok();
        let mut view = View {
            server,
            pids,
            missing: None,
            snapshots: Vec::new(),
            time_waits: TimeWaits::default(),
        };
        if job.sockets {
            view.take("before");
        }
        let (mut moments, client_tids, refused) = run_lanes(job, interrupted, |pause| {
            view.take(match pause {
                Pause::Connected => "connected",
                Pause::Answered => "answered",
            });
        });
        name_the_refused(&mut moments, reached_at);
        let own: Own = moments.iter().filter_map(|it| it.local).collect();
        view.time_waits.here.extend(&own);
        if job.sockets {
            view.take("closed");
        }
        view.settle(&own);
        let overflown = sockets::time_wait_overflows().ok();
        view.time_waits.overflows = overflown
            .zip(overflows)
            .map(|(after, before)| after.saturating_sub(before));
        view.time_waits.room = sockets::time_wait_room().ok();
        let waited = match job.wait {
            true => view.wait(&own, interrupted, waiting),
            false => Waited::InVain,
        };
        let mut record = Record {
            server: Some(server),
            moments,
            notes: refused.into_iter().collect(),
            ..Record::default()
        };
        if matches!(waited, Waited::NeverThere) {
            record.notes.push(
                "--wait had nothing to wait for: the kernel listed no socket of this trace in TIME-WAIT"
                    .to_owned(),
            );
        }
        let capture = self.live.map(|live| add_packets(&mut record, live, &own));
        if let Err(why) = &capture {
            record.sources.packets = Source::Missing(why.clone());
        }
        let mut server_pids = view.pids.clone();
        // Includes processes that the server has started meanwhile.
        server_pids.extend(started.into_iter().flat_map(pids_of));
        let watch = Watch {
            client_tids,
            server_pids,
            ports: vec![server.port()],
            all_calls: job.all_calls,
        };
        let traced =
            (self.tracer).and_then(|tracer| tracer.end(&watch).map_err(|error| error.to_string()));
        let seen = match traced {
            Ok(traced) => {
                add_events(&mut record, traced, &own);
                let is_connected = |moment: &Moment| moment.what == What::Connected;
                if view.pids.is_empty() && record.moments.iter().any(is_connected) {
                    record.notes.push(format!(
                        "no process listening at {server} is visible from here, so only the client's calls are shown"
                    ));
                }
                if let Some(rest_ns) = rest_ns {
                    drop_probe(&mut record.calls, rest_ns);
                }
                Source::Seen
            }
            Err(why) => Source::Missing(why),
        };
        record.sources.changes = seen.clone();
        record.sources.calls = seen;
        if let Waited::Over(change) = waited {
            record.changes.push(change);
        }
        view.add_to(&mut record, job.sockets, &own);
        Traced {
            record,
            capture: capture.ok(),
        }
    }
}

/// The result of waiting for the end of `TIME-WAIT`.
#[derive(Debug)]
enum Waited {
    /// `TIME-WAIT` ended.
    Over(Change),
    /// The wait was not requested, or `TIME-WAIT` outlasted it.
    InVain,
    /// There was no `TIME-WAIT`.
    NeverThere,
}

/// Calls that the client makes because it is traced: it waits during inspections, asks for its
/// address so that its packets are found, and ends its thread. A debug build of std adds a check.
const OWN_DOING: [&str; 8] = [
    "exit",
    "fcntl",
    "futex",
    "getsockname",
    "madvise",
    "munmap",
    "rt_sigprocmask",
    "sigaltstack",
];

/// A connected client sets no socket options except the time it waits for the server to close.
fn drop_own_doing(calls: &mut Vec<Call>) {
    let mut connected: BTreeSet<u32> = BTreeSet::new();
    calls.retain(|call| {
        if call.side == Side::Server {
            return true;
        }
        match call.name {
            "socket" => drop(connected.remove(&call.tid)),
            "connect" => drop(connected.insert(call.tid)),
            _ => {}
        }
        let is_patience = call.name == "setsockopt" && connected.contains(&call.tid);
        !is_patience && !OWN_DOING.contains(&call.name)
    });
}

/// A program started within the trace does much before it uses the network or threads.
fn drop_start(calls: &mut Vec<Call>) {
    let is = |call: &Call, names: &[&str]| call.side == Side::Server && names.contains(&call.name);
    let Some(start) = calls.iter().position(|call| is(call, &["execve"])) else {
        return;
    };
    let begins = |call| is(call, &["socket", "clone", "clone3"]);
    let begin = calls[start..].iter().position(begins).map(|at| start + at);
    let mut index = 0;
    calls.retain(|call| {
        index += 1;
        call.side == Side::Client || begin.is_none_or(|begin| index > begin)
    });
}

/// Waits until a freshly started server waits itself, and until the connection that probed its
/// readiness is over. Returns the time.
fn come_to_rest(server: SocketAddr) -> u64 {
    let deadline = Instant::now() + SETTLE;
    let busy = |socket: &Socket| !matches!(socket.state, State::Listen | State::TimeWait);
    let list = || sockets::list(&[server.port()]).unwrap_or_default();
    thread::sleep(AT_REST);
    while list().iter().any(busy) && Instant::now() < deadline {
        thread::sleep(AT_REST);
    }
    clock::now_ns()
}

/// Drops what a server did for the readiness probe: everything from the first connection accepted
/// before `rest_ns`, except a call that is still waiting.
fn drop_probe(calls: &mut Vec<Call>, rest_ns: u64) {
    let is_over = |call: &Call| call.left_ns.is_some_and(|left_ns| left_ns <= rest_ns);
    let accepted = |call: &&Call| {
        call.side == Side::Server
            && matches!(call.name, "accept" | "accept4")
            && call.result.is_some_and(|fd| fd >= 0)
            && is_over(call)
    };
    let Some(first_ns) = calls.iter().find(accepted).and_then(|call| call.entered_ns) else {
        return;
    };
    calls.retain(|call| {
        let later = call
            .entered_ns
            .is_none_or(|entered_ns| entered_ns >= first_ns);
        call.side == Side::Client || !(later && is_over(call))
    });
}

/// The addresses of the clients.
type Own = BTreeSet<SocketAddr>;

/// Whether this trace made a connection. A failed connection may have an address that its client
/// never learned.
fn is_ours(own: &Own, one: SocketAddr, other: SocketAddr) -> bool {
    own.is_empty() || own.contains(&one) || own.contains(&other)
}

fn add_packets(record: &mut Record, live: Live, own: &Own) -> Capture {
    let mut capture = live.end();
    capture.frames.retain(|frame| {
        let packet = frame.packet();
        packet.is_none_or(|packet| is_ours(own, packet.source, packet.destination))
    });
    let (packets, notes) = capture.packets();
    record.packets = packets;
    record.notes.extend(notes);
    record.sources.packets = Source::Seen;
    capture
}

fn add_events(record: &mut Record, traced: kernel::Traced, own: &Own) {
    record.changes = traced.changes;
    record.changes.retain(|change| {
        let Change { local, remote, .. } = *change;
        // A listener has no peer.
        remote.port() == 0 || is_ours(own, local, remote)
    });
    record.calls = traced.calls;
    drop_start(&mut record.calls);
    drop_own_doing(&mut record.calls);
    if traced.lost > 0 {
        record.notes.push(format!(
            "{} kernel events were lost: calls or state changes are missing",
            traced.lost
        ));
    }
}

/// How soon an interruption ends waiting calls.
const HEARING: Duration = Duration::from_millis(50);

/// Runs every lane to its end. Returns what the clients saw, their threads, and why connections are
/// missing, if any are.
fn run_lanes(
    job: &Job,
    interrupted: &AtomicBool,
    mut look: impl FnMut(Pause),
) -> (Vec<Moment>, Vec<u32>, Option<String>) {
    /// A client pauses here until the sockets were inspected.
    type Stop = (Pause, SyncSender<()>);
    let (stop, stops): (Sender<Stop>, Receiver<Stop>) = mpsc::channel();
    let (mut moments, mut tids, mut refused) = (Vec::new(), Vec::new(), None);
    let sockets = &Sockets::default();
    let (at_work, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // Without this thread, an interruption would take effect only between two calls.
        let _ = thread::Builder::new().spawn_scoped(scope, move || {
            while is_over.recv_timeout(HEARING) == Err(RecvTimeoutError::Timeout) {
                if interrupted.load(Ordering::Relaxed) {
                    sockets.shut_down();
                }
            }
        });
        let mut number = 0;
        let mut stop = Some(stop);
        let lanes: Vec<_> = (job.lanes.iter())
            .map(|plans| {
                let first = number;
                number += plans.len();
                // The number of the first lane's connection.
                let stop = stop.take().filter(|_| job.sockets);
                thread::Builder::new().spawn_scoped(scope, move || {
                    let mut moments = Vec::new();
                    for (index, plan) in plans.iter().enumerate() {
                        if interrupted.load(Ordering::Relaxed) {
                            break;
                        }
                        let pause = |pause| {
                            let stop = stop.as_ref().filter(|_| index == 0);
                            let (go, wait) = mpsc::sync_channel(0);
                            if stop.is_some_and(|stop| stop.send((pause, go)).is_ok()) {
                                // A failed answer also means that nobody inspects the sockets any
                                // more.
                                let _ = wait.recv();
                            }
                        };
                        let seen =
                            client::converse(plan, first + index, interrupted, sockets, pause);
                        moments.extend(seen);
                    }
                    (moments, gettid().as_raw().cast_unsigned())
                })
            })
            .collect();
        // Until the pausing lane has ended.
        for (pause, go) in stops {
            look(pause);
            let _ = go.send(());
        }
        for lane in lanes {
            match lane {
                Ok(lane) => {
                    let (seen, tid) = lane.join().expect("clients do not panic");
                    moments.extend(seen);
                    tids.push(tid);
                }
                Err(error) => {
                    refused = Some(format!(
                        "connections are missing: no thread could be started for them: {error}"
                    ));
                }
            }
        }
        drop(at_work);
    });
    moments.sort_by_key(|moment| moment.at_ns);
    (moments, tids, refused)
}

/// Fills in the address of refused connections: their sockets still have a port but no address.
fn name_the_refused(moments: &mut [Moment], server: SocketAddr) {
    let any = SocketAddr::new(unspecified(server), 0);
    // Connecting a UDP socket sends nothing: the kernel chooses a route, and with it an address.
    let own = UdpSocket::bind(any)
        .and_then(|socket| socket.connect(server).and_then(|()| socket.local_addr()));
    let Ok(own) = own else { return };
    let locals = moments.iter_mut().filter_map(|it| it.local.as_mut());
    for local in locals.filter(|local| local.ip().is_unspecified()) {
        local.set_ip(own.ip());
    }
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The lists of sockets, taken repeatedly.
struct View {
    server: SocketAddr,
    /// Possible holders of the sockets, besides this process.
    pids: Vec<u32>,
    missing: Option<String>,
    snapshots: Vec<Snapshot>,
    time_waits: TimeWaits,
}

impl View {
    fn list(&mut self) -> Vec<Socket> {
        match sockets::list(&[self.server.port()]) {
            Ok(sockets) => {
                let ends = |it: &Socket| Some((it.local, it.remote?));
                let waiting = sockets.iter().filter(|it| it.state == State::TimeWait);
                self.time_waits.listed.extend(waiting.filter_map(ends));
                self.time_waits
                    .here
                    .extend(sockets.iter().map(|it| it.local));
                sockets
            }
            Err(error) => {
                self.missing = Some(format!("the kernel's list of sockets: {error}"));
                Vec::new()
            }
        }
    }

    fn take(&mut self, moment: &'static str) {
        let mut list = self.list();
        // The list shows the sockets at the time of the kernel's answer. The holders are looked up
        // afterwards; they do not change while their client waits.
        let at_ns = clock::now_ns();
        let mut pids = self.pids.clone();
        pids.push(std::process::id());
        sockets::holders(Some(&pids), &mut list);
        self.snapshots.push(Snapshot {
            at_ns,
            moment,
            sockets: list,
        });
    }

    /// Waits until no segment is in flight any more, as far as the sockets show.
    fn settle(&mut self, own: &Own) {
        let deadline = Instant::now() + SETTLE;
        while Instant::now() < deadline {
            let busy = self.list().into_iter().any(|socket| {
                is_of(&socket, own) && !matches!(socket.state, State::TimeWait | State::FinWait2)
            });
            if !busy {
                break;
            }
            thread::sleep(POLL);
        }
        // A segment that a socket has sent may still be on its way to the capturing thread.
        thread::sleep(POLL);
        // The kernel may have missed a socket that entered TIME-WAIT during its walk through the
        // tables.
        self.list();
    }

    /// Waits until no socket is in `TIME-WAIT`.
    fn wait(
        &mut self,
        own: &Own,
        interrupted: &AtomicBool,
        mut waiting: impl FnMut(Duration),
    ) -> Waited {
        let was_there = (self.time_waits.listed.iter())
            .any(|(local, remote)| own.contains(local) || own.contains(remote));
        let deadline = Instant::now() + 2 * TIME_WAIT;
        let mut last = None;
        loop {
            let list = self.list();
            let socket = list
                .into_iter()
                .find(|socket| is_of(socket, own) && socket.state == State::TimeWait);
            let Some(socket) = socket else { break };
            let left_ms = socket.timer.map_or(0, |timer| timer.left_ms);
            waiting(Duration::from_millis(left_ms.into()));
            last = Some(socket);
            if interrupted.load(Ordering::Relaxed) || Instant::now() > deadline {
                return Waited::InVain;
            }
            thread::sleep(POLL_WAIT);
        }
        let Some((local, remote)) = last.and_then(|last| Some((last.local, last.remote?))) else {
            return match was_there || self.missing.is_some() {
                true => Waited::InVain,
                false => Waited::NeverThere,
            };
        };
        let change = Change {
            at_ns: clock::now_ns(),
            local,
            remote,
            socket: 0,
            old: State::TimeWait,
            new: State::Closed,
        };
        self.take("TIME-WAIT is over");
        Waited::Over(change)
    }

    /// Adds the snapshots, reduced to listeners and the trace's own connections.
    fn add_to(self, record: &mut Record, asked_for: bool, own: &Own) {
        record.time_waits = self.missing.is_none().then_some(self.time_waits);
        record.sources.sockets = match self.missing {
            Some(error) => Source::Missing(error),
            None if asked_for => Source::Seen,
            None => Source::None,
        };
        record.snapshots = self.snapshots;
        let mut others = 0;
        for snapshot in &mut record.snapshots {
            let keep = |socket: &Socket| socket.remote.is_none() || is_of(socket, own);
            // Finished connections are irrelevant, and so are sockets with the same port at other
            // addresses.
            let server = self.server;
            let is_at_server = |it: &Socket| it.local == server || it.remote == Some(server);
            let other = |it: &&Socket| !keep(it) && is_at_server(it) && it.state != State::TimeWait;
            others = others.max(snapshot.sockets.iter().filter(other).count());
            snapshot.sockets.retain(keep);
        }
        if others > 0 {
            record.notes.push(match others {
                1 => "1 connection to the server's port that this trace did not make is left out"
                    .to_owned(),
                others => format!(
                    "{others} connections to the server's port that this trace did not make are left out"
                ),
            });
        }
    }
}

/// The processes that may be the server: those started for the trace, or those that listen at its
/// address.
fn server_pids(started: Option<Processes>, server: SocketAddr) -> Vec<u32> {
    if let Some(started) = started {
        return pids_of(started);
    }
    let mut list = sockets::list(&[server.port()]).unwrap_or_default();
    list.retain(|socket| socket.remote.is_none() && socket.local.port() == server.port());
    sockets::holders(None, &mut list);
    let holders = list.iter().flat_map(|socket| &socket.holders);
    let pids: BTreeSet<u32> = holders.map(|holder| holder.pid).collect();
    pids.into_iter().collect()
}

fn pids_of(processes: Processes) -> Vec<u32> {
    let members = processes.members().unwrap_or_default();
    members.into_iter().map(i32::cast_unsigned).collect()
}

fn is_of(socket: &Socket, own: &Own) -> bool {
    own.contains(&socket.local) || socket.remote.is_some_and(|remote| own.contains(&remote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_begins_with_its_first_socket_or_thread() {
        let call = |side, name| Call {
            entered_ns: Some(1),
            left_ns: Some(2),
            side,
            pid: 1,
            tid: 1,
            name,
            arguments: [0; 6],
            result: Some(0),
        };
        let left = |calls: &[(Side, &'static str)]| -> Vec<&'static str> {
            let mut calls: Vec<Call> = calls.iter().map(|&(side, name)| call(side, name)).collect();
            drop_start(&mut calls);
            calls.iter().map(|call| call.name).collect()
        };
        use Side::{Client, Server};
        let started = [
            (Server, "dup2"),
            (Client, "socket"),
            (Server, "execve"),
            (Server, "read"),
            (Server, "clone3"),
            (Server, "socket"),
            (Server, "read"),
        ];
        assert_eq!(left(&started), ["socket", "clone3", "socket", "read"]);
        // The server runs already: everything it does is part of its work.
        let running = [(Server, "read"), (Server, "socket")];
        assert_eq!(left(&running), ["read", "socket"]);
        // A call that never returned has nothing else to show.
        assert_eq!(left(&started[..4]).len(), 4);
    }

    #[test]
    fn what_a_client_does_because_it_is_watched_is_left_out() {
        let call = |(side, tid, name)| Call {
            entered_ns: Some(1),
            left_ns: Some(2),
            side,
            pid: 1,
            tid,
            name,
            arguments: [0; 6],
            result: Some(0),
        };
        use Side::{Client, Server};
        let mut calls = [
            (Client, 1, "socket"),
            (Client, 1, "setsockopt"),
            (Client, 1, "connect"),
            (Client, 2, "socket"),
            (Client, 1, "setsockopt"),
            (Client, 2, "setsockopt"),
            (Server, 3, "setsockopt"),
            (Client, 1, "getsockname"),
            (Client, 1, "socket"),
            (Client, 1, "setsockopt"),
        ]
        .map(call)
        .to_vec();
        drop_own_doing(&mut calls);
        let left: Vec<(u32, &str)> = calls.iter().map(|call| (call.tid, call.name)).collect();
        let expected = [
            (1, "socket"),
            (1, "setsockopt"),
            (1, "connect"),
            (2, "socket"),
            (2, "setsockopt"),
            (3, "setsockopt"),
            (1, "socket"),
            (1, "setsockopt"),
        ];
        assert_eq!(left, expected);
    }

    #[test]
    fn what_was_done_for_a_probe_is_left_out() {
        let call = |name, entered_ns, left_ns, result| Call {
            entered_ns: Some(entered_ns),
            left_ns,
            side: Side::Server,
            pid: 1,
            tid: 1,
            name,
            arguments: [0; 6],
            result,
        };
        let left = |mut calls: Vec<Call>| -> Vec<&'static str> {
            drop_probe(&mut calls, 100);
            calls.iter().map(|call| call.name).collect()
        };
        let listen = call("listen", 1, Some(2), Some(0));
        let wait = call("epoll_wait", 90, Some(150), Some(1));
        let probed = vec![
            listen.clone(),
            call("accept4", 10, Some(11), Some(6)),
            call("recvfrom", 12, Some(13), Some(0)),
            call("close", 14, Some(15), Some(0)),
            wait.clone(),
            call("accept4", 151, Some(152), Some(6)),
        ];
        assert_eq!(left(probed), ["listen", "epoll_wait", "accept4"]);
        let empty = call("accept4", 10, Some(11), Some(-11));
        assert_eq!(left(vec![listen, empty, wait]).len(), 3);
    }
}
