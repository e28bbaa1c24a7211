//! A request on an open connection allocates no memory, unless its head arrives in pieces.

#![allow(unsafe_code)] // A global allocator is an unsafe trait; this one only counts calls of the system's.

mod peer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use http1::{Limits, Next};
use peer::Peer;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged. The counter is a thread-local without initializer
// or destructor, so that using it does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract of this method, which is that of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of this method, which is that of the system's allocator.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller upholds the contract of this method, which is that of the system's allocator.
        unsafe { System.realloc(memory, layout, size) }
    }
}

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn no_allocation_per_request() {
    let plain = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
    let usual =
        b"GET /a?b HTTP/1.1\r\nHost: a:8000\r\nUser-Agent: b\r\nAccept: */*\r\n\r\n".as_slice();
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;e\r\nabc\r\n0\r\nA: b\r\n\r\n";
    let pipelined = [usual.repeat(16), post.to_vec()].concat();

    let mut peer = Peer::new(Limits::default());
    let mut exchange = |input: &[u8]| {
        peer.send_once(input);
        while peer.connection.next() == Next::Write {
            let n = peer.connection.output().len();
            peer.connection.sent(&mut peer.scratch, n, peer.now);
        }
        peer.now.wall += std::time::Duration::from_secs(1); // a new Date each time
    };
    assert!(
        allocations_of(|| exchange(&pipelined)) > 0,
        "the counter counts"
    );
    for (input, allocations) in [
        (plain, 0),
        (usual, 0),
        (post, 0),
        (&pipelined, 0),
        // The first piece is kept until the rest arrives; an idle connection holds no buffer.
        (&plain[..9], 1),
        (&plain[9..], 1),
        (plain, 0),
    ] {
        let what = input.escape_ascii();
        assert_eq!(allocations_of(|| exchange(input)), allocations, "{what}");
    }
}
