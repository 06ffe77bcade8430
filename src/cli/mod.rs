//! The command line: what was typed, one subcommand a file, and the exit code. It never looks into a
//! message or a socket; a station's work begins in `server::start`.
#![expect(clippy::disallowed_methods, reason = "a command line reads and writes files")]

mod args;
mod check;
mod init;
mod run;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Command, Typed};

/// Exit code of a station or a check that cannot go on, for a reason that was said.
const CANNOT_RUN: u8 = 1;
/// Exit code of a command line that says nothing meaningful.
const WRONG_USAGE: u8 = 2;

/// Does what the command line says. Exit codes: 0 fine, 1 cannot run, 2 wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    let typed = match Typed::try_parse() {
        Ok(typed) => typed,
        Err(said) => {
            // Nobody is left to tell when the terminal itself is gone.
            let _ = said.print();
            return u8::try_from(said.exit_code())
                .map_or(ExitCode::from(WRONG_USAGE), ExitCode::from);
        }
    };
    match typed.command {
        None => run::run(&typed.config.into()),
        Some(Command::Run(config)) => run::run(&config.into()),
        Some(Command::Init { dir }) => init::init(&dir),
        Some(Command::Check(config)) => check::check(&config.into()),
    }
}

/// A line for the person who started us; a closed terminal must not end a station.
fn complain(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "dims: {text}");
}

/// A line of the answer; `dims check | head` must not panic.
fn say(text: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
