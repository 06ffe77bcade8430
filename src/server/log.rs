//! Lines for people, on standard error or in one file a day. Never a key, a session key or a
//! message's content: nothing that is logged anywhere has them.
//!
//! Where the lines go and what they look like may change while the station runs. When standard error
//! is the journal, a line begins with its priority and has no time: the journal has its own.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::config::{Color, Log};

/// How the files of a log folder begin; the day follows.
pub const FILE_PREFIX: &str = "dims.log";

/// Keeps the log going; what is still to be written is written when it is dropped.
pub struct Lines {
    _guard: WorkerGuard,
    filter: reload::Handle<EnvFilter, Registry>,
    outlet: Outlet,
    look: Look,
}

/// Starts the log. Lines are written by a thread of their own, so that a full pipe stops no shard;
/// when it cannot keep up, lines are dropped. An error says which setting is wrong.
pub fn start(log: &Log) -> Result<Lines, String> {
    let (filter, filter_handle) = reload::Layer::new(filter(log)?);
    let outlet = Outlet(Arc::new(Mutex::new(open(log)?)));
    let look = Look::default();
    look.set(log);
    let (writer, guard) = tracing_appender::non_blocking(outlet.clone());
    let lines = tracing_subscriber::fmt::layer()
        .event_format(look.clone())
        .with_ansi(true)
        .with_writer(writer);
    // Only a test starts two stations in one process; the first one's log serves both.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(Lines { _guard: guard, filter: filter_handle, outlet, look })
}

impl Lines {
    /// Takes other settings, and opens the file of the day anew: it may have been moved away. After
    /// an error everything is as it was.
    pub fn reload(&self, log: &Log) -> Result<(), String> {
        let (filter, outlet) = (filter(log)?, open(log)?);
        self.filter.reload(filter).map_err(|error| error.to_string())?;
        *self.outlet.lock() = outlet;
        self.look.set(log);
        Ok(())
    }
}

fn filter(log: &Log) -> Result<EnvFilter, String> {
    EnvFilter::try_new(&log.level).map_err(|error| format!("log.level \"{}\": {error}", log.level))
}

fn open(log: &Log) -> Result<Box<dyn Write + Send>, String> {
    let Some(dir) = &log.dir else { return Ok(Box::new(io::stderr())) };
    let file = file_of(dir).map_err(|error| format!("log.dir {}: {error}", dir.display()))?;
    Ok(Box::new(file))
}

fn file_of(dir: &Path) -> Result<RollingFileAppender, Box<dyn std::error::Error>> {
    std::fs::create_dir_all(dir)?;
    let builder = RollingFileAppender::builder().rotation(Rotation::DAILY);
    Ok(builder.filename_prefix(FILE_PREFIX).build(dir)?)
}

/// What the writing thread writes to; another one may be put in its place between two lines.
#[derive(Clone)]
struct Outlet(Arc<Mutex<Box<dyn Write + Send>>>);

impl Outlet {
    fn lock(&self) -> std::sync::MutexGuard<'_, Box<dyn Write + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }
}

const COLORED: u8 = 1;
const LOCATED: u8 = 2;
const JOURNAL: u8 = 4;

/// How a line looks, as a few bits that every thread reads.
#[derive(Clone, Default)]
struct Look(Arc<AtomicU8>);

impl Look {
    fn set(&self, log: &Log) {
        let to_stderr = log.dir.is_none();
        let colored = match log.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => to_stderr && io::stderr().is_terminal(),
        };
        let bits = [(colored, COLORED), (log.location, LOCATED)];
        let bits = bits.into_iter().chain([(to_stderr && stderr_is_journal(), JOURNAL)]);
        let bits = bits.filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit);
        self.0.store(bits, Ordering::Relaxed);
    }
}

/// systemd names device and inode of the stream that it has connected to the journal; a shell that
/// redirects standard error leaves the variable behind.
fn stderr_is_journal() -> bool {
    let Some((device, inode)) = std::env::var("JOURNAL_STREAM")
        .ok()
        .and_then(|stream| stream.split_once(':').map(|(d, i)| (d.to_owned(), i.to_owned())))
    else {
        return false;
    };
    rustix::fs::fstat(rustix::stdio::stderr())
        .is_ok_and(|at| at.st_dev.to_string() == device && at.st_ino.to_string() == inode)
}

impl<S, N> FormatEvent<S, N> for Look
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let bits = self.0.load(Ordering::Relaxed);
        let located = bits & LOCATED != 0;
        let line = Format::default().with_file(located).with_line_number(located);
        // A writer that is made of another one has no colours.
        let mut plain = Writer::new(&mut writer);
        if bits & JOURNAL != 0 {
            write!(plain, "<{}>", priority(*event.metadata().level()))?;
            return line.without_time().with_level(false).format_event(context, plain, event);
        }
        match bits & COLORED {
            0 => line.format_event(context, plain, event),
            _ => line.format_event(context, writer, event),
        }
    }
}

/// As in syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}
