//! The program; its library is the architecture.

use std::process::ExitCode;

fn main() -> ExitCode {
    host::run(&host::architecture!(host::Threads::Fixed), iterative::serve)
}
