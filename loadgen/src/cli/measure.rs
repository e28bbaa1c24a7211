use std::process::ExitCode;

/// Filled in shortly.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: Arguments) -> anyhow::Result<ExitCode> {
    todo!()
}
