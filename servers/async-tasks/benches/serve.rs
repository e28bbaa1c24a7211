//! The benches that every server has.

fn main() {
    benches::serve("async-tasks", async_tasks::serve);
}
