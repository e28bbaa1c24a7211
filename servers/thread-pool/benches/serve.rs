//! The round trips that every server is measured by.

fn main() {
    benches::serve("thread-pool", thread_pool::serve);
}
