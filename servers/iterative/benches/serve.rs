//! The benches that every server has.

fn main() {
    benches::serve("iterative", iterative::serve);
}
