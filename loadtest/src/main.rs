//! A load generator for DIM stations: see `docs/loadtest.md`.

mod args;
mod checker;
mod compare;
mod corpus;
mod error;
mod files;
mod fleet;
mod light;
mod machine;
mod meter;
mod outcome;
mod people;
mod phases;
mod report;
mod scenario;
mod schedule;
mod traffic;

use std::process::ExitCode;

fn main() -> ExitCode {
    args::main()
}
