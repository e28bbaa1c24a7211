//! The benches that every server has.

fn main() {
    benches::serve("event-loop", event_loop::serve);
}
