//! Lines for people, on standard error or in one file a day. Never a key, a session key or a
//! message's content: nothing that is logged anywhere has them.

use std::io::IsTerminal;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::config::{Color, Log};

/// Keeps the log going; what is still to be written is written when it is dropped.
pub struct Lines {
    _guard: WorkerGuard,
}

/// Starts the log. Lines are written by a thread of their own, so that a full pipe stops no shard;
/// when it cannot keep up, lines are dropped. An error says which setting is wrong.
pub fn start(log: &Log) -> Result<Lines, String> {
    let filter = EnvFilter::try_new(&log.level)
        .map_err(|error| format!("log.level \"{}\": {error}", log.level))?;
    let (writer, guard) = match &log.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .map_err(|error| format!("log.dir {}: {error}", dir.display()))?;
            tracing_appender::non_blocking(tracing_appender::rolling::daily(dir, "dims.log"))
        }
        None => tracing_appender::non_blocking(std::io::stderr()),
    };
    let color = match log.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => log.dir.is_none() && std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(color)
        .with_file(log.location)
        .with_line_number(log.location)
        .with_writer(BoxMakeWriter::new(writer));
    // Only a test starts two stations in one process; the first one's log serves both.
    let _ = lines.try_init();
    Ok(Lines { _guard: guard })
}
