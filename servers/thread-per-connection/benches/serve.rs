//! The benches that every server has.

fn main() {
    benches::serve("thread-per-connection", thread_per_connection::serve);
}
