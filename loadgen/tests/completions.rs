//! `loadgen completions` as its users meet it: scripts that their shells take.

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn script(shell: &str) -> String {
    let output = loadgen(&["completions", shell]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// As `loadgen --help` lists them.
fn verbs() -> Vec<String> {
    let output = loadgen(&["--help"]).output().unwrap();
    let help = text(&output.stdout);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    // What is indented more goes on with the line above.
    let lines = list.lines().filter_map(|line| line.strip_prefix("  "));
    let verb = |line: &str| Some(line.split_once(' ')?.0.to_owned());
    lines
        .filter_map(verb)
        .filter(|verb| !verb.is_empty())
        .collect()
}

#[test]
fn scripts_know_every_verb() {
    let verbs = verbs();
    for verb in ["run", "measure", "doctor", "completions"] {
        assert!(verbs.iter().any(|listed| listed == verb), "{verbs:?}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = script(shell);
        for verb in &verbs {
            assert!(script.contains(verb.as_str()), "{verb} for {shell}");
        }
    }
}

/// Gives `input` to a program; `None` when that is not installed, which is said.
fn feed(test: &str, program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Past the capture of test output, so that it is seen.
            let mut stderr = io::stderr().lock();
            writeln!(stderr, "SKIPPED: {test}: no {program}").unwrap();
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    Some(child.wait_with_output().unwrap())
}

#[test]
fn shells_accept_their_scripts() {
    for (shell, arguments) in [
        ("bash", ["-n"]),
        ("zsh", ["-n"]),
        ("fish", ["--no-execute"]),
    ] {
        let test = "shells_accept_their_scripts";
        let Some(output) = feed(test, shell, &arguments, &script(shell)) else {
            continue;
        };
        let said = text(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{shell}: {said}"
        );
    }
}

/// What bash offers for a word that was begun.
#[test]
fn bash_completes_verbs_and_options() {
    for (words, completed) in [
        ("loadgen doc", "doctor"),
        ("loadgen doctor --str", "--strict"),
    ] {
        let last = words.split(' ').count() - 1;
        let ask = format!(
            "\nCOMP_WORDS=({words}); COMP_CWORD={last}\n\
             _loadgen loadgen \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last} - 1]}}\"\n\
             echo \"${{COMPREPLY[@]}}\"\n"
        );
        let input = script("bash") + &ask;
        let test = "bash_completes_verbs_and_options";
        let Some(output) = feed(test, "bash", &["--norc"], &input) else {
            return;
        };
        assert_eq!(
            text(&output.stdout).trim(),
            completed,
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn an_unknown_shell_is_refused_with_those_there_are() {
    let output = loadgen(&["completions", "tcsh"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("bash") && said.contains("powershell"),
        "{said}"
    );
}

#[test]
fn help_says_where_the_script_goes() {
    let output = loadgen(&["completions", "--help"]).output().unwrap();
    let help = text(&output.stdout);
    for place in [
        "~/.local/share/bash-completion/completions/loadgen",
        "~/.zfunc/_loadgen",
        "~/.config/fish/completions/loadgen.fish",
        "~/.config/elvish/lib/loadgen.elv",
        "$PROFILE",
    ] {
        assert!(help.contains(place), "{place} in {help}");
    }
}
