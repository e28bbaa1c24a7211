//! `loadgen completions`: a script with which a shell completes this command line.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::output::print;

#[derive(Debug, Args)]
#[command(after_help = PLACES)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// The place where each shell looks for the script.
const PLACES: &str = "\
Where to put it, once per user; then start a new shell:
  bash        mkdir -p ~/.local/share/bash-completion/completions
              loadgen completions bash \\
                > ~/.local/share/bash-completion/completions/loadgen
              (needs the package bash-completion; without it, in ~/.bashrc:
              source <(loadgen completions bash))
  zsh         mkdir -p ~/.zfunc
              loadgen completions zsh > ~/.zfunc/_loadgen
              and in ~/.zshrc, before compinit: fpath+=~/.zfunc
  fish        mkdir -p ~/.config/fish/completions
              loadgen completions fish > ~/.config/fish/completions/loadgen.fish
  elvish      mkdir -p ~/.config/elvish/lib
              loadgen completions elvish > ~/.config/elvish/lib/loadgen.elv
              and in ~/.config/elvish/rc.elv: use loadgen
  powershell  loadgen completions powershell >> $PROFILE";

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    let mut command = crate::Cli::command();
    let name = command.get_name().to_owned();
    generate(arguments.shell, &mut command, name, &mut script);
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}
