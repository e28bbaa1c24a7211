//! The protocol core in memory: bytes in, bytes out, no system call.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ::http1::{Connection, Limits, Next, Now, Scratch, Tally};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

const BROWSER: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nPriority: u=0, i\r\n\r\n";

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
    20\r\n0123456789abcdef0123456789abcdef\r\n8;name=value\r\n01234567\r\n0\r\nTrailer: x\r\n\r\n";

fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: SystemTime::now(),
    }
}

fn scratch() -> Scratch {
    Scratch::new(Limits::default(), Arc::new(Tally::default()))
}

/// Gives `input` to a connection in pieces of at most `piece` bytes and takes all its answers.
fn exchange(
    connection: &mut Connection,
    scratch: &mut Scratch,
    input: &[u8],
    piece: usize,
    now: Now,
) {
    for piece in input.chunks(piece) {
        let mut rest = piece;
        while !rest.is_empty() {
            let space = scratch.space();
            let n = space.len().min(rest.len());
            space[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            connection.received(scratch, n, now);
            while connection.next() == Next::Write {
                let n = black_box(connection.output()).len();
                connection.sent(scratch, n, now);
            }
        }
    }
}

fn http1(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http1");
    for (name, input, requests, piece) in [
        ("one request", GET.to_vec(), 1, usize::MAX),
        ("a browser's request", BROWSER.to_vec(), 1, usize::MAX),
        ("16 pipelined requests", GET.repeat(16), 16, usize::MAX),
        ("a chunked body", CHUNKED.to_vec(), 1, usize::MAX),
        ("one request byte by byte", GET.to_vec(), 1, 1),
    ] {
        group.throughput(Throughput::Elements(requests));
        group.bench_function(name, |bencher| {
            let now = now();
            let mut scratch = scratch();
            let mut connection = Connection::new(&scratch, now);
            bencher.iter(|| {
                exchange(&mut connection, &mut scratch, black_box(&input), piece, now);
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("a new connection with one request", |bencher| {
        let now = now();
        let mut scratch = scratch();
        bencher.iter(|| {
            let mut connection = Connection::new(&scratch, now);
            exchange(
                &mut connection,
                &mut scratch,
                black_box(GET),
                usize::MAX,
                now,
            );
        });
    });
    group.finish();
}

criterion_group! {
    name = all;
    config = benches::criterion();
    targets = http1
}
criterion_main!(all);
