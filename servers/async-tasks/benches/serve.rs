//! The round trips that every server is measured by.

fn main() {
    benches::serve("async-tasks", async_tasks::serve);
}
