//! The benches that every server is measured by, in the process of the bench itself.
//!
//! They show what a change costs, quickly and on one machine. Client and server share the process and
//! its cores, so they say nothing about one architecture against another: that is what
//! `loadgen measure` is for.

#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use engine::drive;
use engine::plan::{Limit, Plan};
use engine::response::{Reader, Taken};
use host::{Host, Settings};
use socket2::{Domain, Socket, Type};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Connections of the bench with many, and requests in one iteration of it.
const CONNECTIONS: usize = 64;
const REQUESTS: u64 = 50 * CONNECTIONS as u64;

/// Criterion with times that let all benches of the workspace run in a few minutes; arguments on the
/// command line go before.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
}

/// Benches `serve` under the name `name`: one keep-alive round trip, one new connection with one
/// request, and 64 connections driven by the load generator. Takes criterion's arguments from the
/// command line.
///
/// # Panics
///
/// When the server cannot listen, or answers anything but `hello world`.
pub fn serve<S>(name: &str, serve: S)
where
    S: FnOnce(TcpListener, &Arc<Host>) -> io::Result<()> + Send,
{
    serve_with(Settings::default(), name, serve);
}

/// Like [`serve`](fn@serve), for an architecture that needs other settings, such as `reuse_port`.
///
/// # Panics
///
/// When the server cannot listen, or answers anything but `hello world`.
pub fn serve_with<S>(settings: Settings, name: &str, serve: S)
where
    S: FnOnce(TcpListener, &Arc<Host>) -> io::Result<()> + Send,
{
    let host = Arc::new(Host::new(settings));
    let any_port = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = host::listen(any_port, &host.settings).expect("a free port to listen on");
    let address = listener.local_addr().expect("the address of a listener");
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(listener, &host));
        bench(name, address);
        host.stop();
        let outcome = server.join().expect("the server does not panic");
        outcome.expect("the server serves to the end");
    });
}

fn bench(name: &str, address: SocketAddr) {
    let mut criterion = criterion().configure_from_args();
    let mut group = criterion.benchmark_group(name);

    group.bench_function("keep-alive round trip", |bencher| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        bencher.iter(|| round_trip(&mut stream));
    });

    let mut sources = (1..=32u8).cycle();
    group.bench_function("new connection", |bencher| {
        bencher.iter(|| {
            let source = Ipv4Addr::new(127, 0, 0, sources.next().unwrap_or(1));
            round_trip(&mut connect_from(source, address).expect("a connection"));
        });
    });

    group.throughput(Throughput::Elements(REQUESTS));
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.bench_function("64 connections", |bencher| {
        bencher.iter_custom(|iterations| drive_many(address, iterations * REQUESTS));
    });

    group.finish();
    criterion.final_summary();
}

/// Sends a request and reads its response.
fn round_trip(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    let mut reader = Reader::new(false);
    stream.write_all(REQUEST).expect("a request is taken");
    loop {
        let n = stream.read(&mut buffer).expect("a response comes");
        assert_ne!(n, 0, "the server closed before its response was whole");
        match reader.take(&buffer[..n]) {
            Taken::Complete(response, _) => return assert_eq!(response.status, 200),
            Taken::Incomplete => {}
            Taken::Malformed => panic!("malformed: {}", buffer[..n].escape_ascii()),
        }
    }
}

/// From several addresses, because closed connections keep their ports in TIME_WAIT.
fn connect_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(source, 0).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// How long so many requests take over [`CONNECTIONS`] connections.
fn drive_many(address: SocketAddr, requests: u64) -> Duration {
    let plan = Plan {
        connections: CONNECTIONS,
        limit: Limit::Requests(requests),
        warmup: Duration::ZERO,
        timeout: Duration::from_secs(60),
        ..Plan::new(address, REQUEST.to_vec())
    };
    let outcome = drive::run(&plan, &AtomicBool::new(false)).expect("the load runs");
    assert_eq!(
        outcome.record.counts.good, requests,
        "every request gets its answer"
    );
    outcome.duration
}
