//! The round trips that every server is measured by.

fn main() {
    benches::serve("event-loop", event_loop::serve);
}
