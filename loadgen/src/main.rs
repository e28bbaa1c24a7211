//! The program: verbs, progress, output and exit codes. Each verb is a file under `verbs/`.
//!
//! **May know:** every crate of the generator and the laboratory.
//!
//! **Deliberately absent:** measuring, judging and drawing, which those crates do.

#![deny(unsafe_code)]
// These macros panic if the output cannot be written; `output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod common;
mod output;
mod outputs;
mod place;
mod request;
mod run_progress;
#[cfg(feature = "laboratory")]
mod selection;
mod sources;
mod until;
mod verbs;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::to_stderr;
#[cfg(feature = "trace")]
use verbs::trace;
use verbs::{calibrate, doctor, responder, run};
#[cfg(feature = "laboratory")]
use verbs::{cmp, completions, diff, explain, measure, rank, report};

/// A load generator for HTTP/1.1 servers, and the laboratory that compares them.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run one workload against one server: a URL, or a name from benches/servers.toml
    Run(Box<run::Arguments>),
    /// Measure every server under every workload, in rounds; record a set under results/
    #[cfg(feature = "laboratory")]
    Measure(measure::Arguments),
    /// Compare servers: values and ratios to the best, from one or more sets
    #[cfg(feature = "laboratory")]
    Cmp(cmp::Arguments),
    /// Compare the same servers in two sets: what changed; exit code 1 for a regression
    #[cfg(feature = "laboratory")]
    Diff(diff::Arguments),
    /// Rank servers over several workloads, by geometric means of ratios
    #[cfg(feature = "laboratory")]
    Rank(rank::Arguments),
    /// Compare what a request should cost on this machine with what it did cost; why servers differ
    #[cfg(feature = "laboratory")]
    Explain(explain::Arguments),
    /// Write a page with charts from one or more sets, or their tables and pictures into a Markdown file
    #[cfg(feature = "laboratory")]
    Report(report::Arguments),
    /// Show one request on the wire, with system calls, TCP states and sockets, each line explained
    #[cfg(feature = "trace")]
    Trace(Box<trace::Arguments>),
    /// Check whether this machine is fit to measure, and say what to change
    Doctor(doctor::Arguments),
    /// Print a script that completes verbs and options in a shell
    #[cfg(feature = "laboratory")]
    Completions(completions::Arguments),
    /// Measure the generator's own limits, costs and shortest response time on this machine
    Calibrate(calibrate::Arguments),
    /// Answer every request with a constant: the server that calibrate measures against
    #[command(hide = true, alias = "floor")]
    Responder(responder::Arguments),
}

/// Runs the program. Exit code 0: success; 1: the measurement is not valid, or a server failed; 2: a wrong
/// command line.
fn main() -> ExitCode {
    engine::signals::expect_children();
    let verb = match Cli::try_parse() {
        Ok(Cli { verb }) => verb,
        Err(told) => return tell(&told),
    };
    let outcome = match verb {
        Verb::Run(arguments) => run::run(*arguments),
        #[cfg(feature = "laboratory")]
        Verb::Measure(arguments) => measure::run(arguments),
        #[cfg(feature = "laboratory")]
        Verb::Cmp(arguments) => cmp::run(arguments),
        #[cfg(feature = "laboratory")]
        Verb::Diff(arguments) => diff::run(arguments),
        #[cfg(feature = "laboratory")]
        Verb::Rank(arguments) => rank::run(arguments),
        #[cfg(feature = "laboratory")]
        Verb::Explain(arguments) => explain::run(arguments),
        #[cfg(feature = "laboratory")]
        Verb::Report(arguments) => report::run(arguments),
        #[cfg(feature = "trace")]
        Verb::Trace(arguments) => trace::run(*arguments),
        Verb::Doctor(arguments) => doctor::run(arguments),
        #[cfg(feature = "laboratory")]
        Verb::Completions(arguments) => completions::run(arguments),
        Verb::Calibrate(arguments) => calibrate::run(arguments),
        Verb::Responder(arguments) => responder::run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::say_error(&error);
            match error.downcast_ref::<Usage>() {
                Some(_) => ExitCode::from(2),
                None => ExitCode::FAILURE,
            }
        }
    }
}

/// Prints help, the version, or what is wrong with the command line.
fn tell(told: &clap::Error) -> ExitCode {
    let text = told.render();
    if told.use_stderr() {
        let choice = anstream::AutoStream::choice(&io::stderr());
        match choice {
            anstream::ColorChoice::Never => to_stderr(format_args!("{text}")),
            _ => to_stderr(format_args!("{}", text.ansi())),
        }
        return ExitCode::from(2);
    }
    match output::print_styled(&text.ansi().to_string()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::say_error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The command line requests something impossible; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);
