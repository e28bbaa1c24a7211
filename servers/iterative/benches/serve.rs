//! The round trips that every server is measured by.

fn main() {
    benches::serve("iterative", iterative::serve);
}
