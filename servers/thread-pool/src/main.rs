//! See the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    host::run(
        &host::architecture!(host::Threads::Configurable),
        thread_pool::serve,
    )
}
