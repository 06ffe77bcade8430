//! The command line: what was typed, one subcommand a file, and the exit code. A station's work
//! begins in `server::start`, a chat's in `client::blocking`.
#![expect(clippy::disallowed_methods, reason = "a command line reads and writes files")]

mod args;
mod bot;
mod bridge;
mod chat;
mod check;
mod export;
mod id;
mod import;
mod init;
mod run;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Command, Typed};

use crate::client::folder::FolderError;
use crate::server::config::ConfigError;

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
        Some(Command::Check { config, json }) => check::check(&config.into(), json),
        Some(Command::Id(args)) => conclude(id::id(&args)),
        Some(Command::Import(args)) => conclude(import::import(&args)),
        Some(Command::Export(args)) => conclude(export::export(&args)),
        Some(Command::Chat(args)) => conclude(chat::chat(&args)),
        Some(Command::Bot(args)) => conclude(bot::bot(&args)),
        Some(Command::Bridge(args)) => conclude(bridge::bridge(args)),
    }
}

/// Why a command did not do what was asked: nothing was changed unless it says so.
#[derive(Debug)]
struct Refusal {
    code: u8,
    said: String,
}

impl Refusal {
    /// Something is missing or damaged here.
    fn here(said: impl fmt::Display) -> Self {
        Self { code: CANNOT_RUN, said: said.to_string() }
    }

    /// The command line contradicts itself.
    fn usage(said: impl fmt::Display) -> Self {
        Self { code: WRONG_USAGE, said: said.to_string() }
    }
}

impl From<FolderError> for Refusal {
    fn from(error: FolderError) -> Self {
        Self::here(error)
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Self { code: run::code_of(&error), said: error.to_string() }
    }
}

fn conclude(done: Result<(), Refusal>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            complain(refusal.said);
            ExitCode::from(refusal.code)
        }
    }
}

fn now_s() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// A line for the person who started us; a closed terminal must not end a station.
fn complain(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "dims: {text}");
}

/// A line of the answer; `dims check | head` must not panic.
fn say(text: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
