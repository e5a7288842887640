//! The `upprof` command.
//!
//! Owns the way from arguments to an exit code: `cli` parses, `plan` validates, `session` wires the
//! rooms and acts, `failure` says in three parts what went wrong. Nothing depends on it, and it holds
//! no knowledge of processes, memory or formats of its own.

mod cli;
mod failure;
mod inspect;
mod plan;
mod session;
mod ui;

use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A bug must look like one, with the contract's exit code, not like a crash of the runtime.
    let run = || cli::parse().and_then(|request| session::run(&request));
    let result = std::panic::catch_unwind(run).unwrap_or_else(|_| Err(Failure::bug()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui::say_failure(&failure);
            failure.exit.into()
        }
    }
}
