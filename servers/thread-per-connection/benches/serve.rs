//! The round trips that every server is measured by.

fn main() {
    benches::serve("thread-per-connection", thread_per_connection::serve);
}
