//! The benches that every server has.

fn main() {
    benches::serve("thread-pool", thread_pool::serve);
}
