//! `dims run`, and `dims` alone: the configuration, then the station until it is told to stop.

use std::process::ExitCode;

use super::{CANNOT_RUN, WRONG_USAGE, complain};
use crate::server::config::{Args, Config, ConfigError, Origin};
use crate::server::start;

pub(super) fn run(args: &Args) -> ExitCode {
    let loaded = match Config::load(args) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error);
            return ExitCode::from(code_of(&error));
        }
    };
    for warning in &loaded.warnings {
        complain(format_args!("warning: {warning}"));
    }
    match start::run(args.clone(), loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// A flag with a wrong value is wrong usage; a file or a variable is the machine's state.
pub(super) fn code_of(error: &ConfigError) -> u8 {
    match error.origin {
        Origin::Flag(_) => WRONG_USAGE,
        _ => CANNOT_RUN,
    }
}
