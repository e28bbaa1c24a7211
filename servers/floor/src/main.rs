//! The program; its library is the server.

use std::process::ExitCode;

fn main() -> ExitCode {
    host::run(&host::architecture!(host::Threads::Fixed), floor::serve)
}
