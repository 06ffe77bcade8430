//! What bots need done besides talking: pushes said to services, logs written.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::metrics::{self, Shown};
use super::now_s;
use super::push::Pusher;
use super::settings::{self, Source};
use super::{Name, Refusal};
use crate::bot::monitor::{Monitor, Subject};
use crate::bot::{Announcer, Archivist, Assistant, Bot};
use crate::client::folder::{read_bytes, write_bytes};
use crate::proto::id::Id;

/// A bot, and its trade.
pub(super) trait Trade {
    fn bot(&mut self) -> &mut dyn Bot;

    /// What operators are told at the start, besides who it is.
    fn note(&self) -> Option<String> {
        None
    }

    /// Done after each turn.
    fn turn(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Done at the end.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Talking<B>(B);

impl<B: Bot> Trade for Talking<B> {
    fn bot(&mut self) -> &mut dyn Bot {
        &mut self.0
    }
}

struct Announcing {
    bot: Announcer,
    pusher: Pusher,
}

impl Trade for Announcing {
    fn bot(&mut self) -> &mut dyn Bot {
        &mut self.bot
    }

    fn turn(&mut self) -> io::Result<()> {
        self.pusher.turn(&mut self.bot);
        Ok(())
    }
}

struct Monitoring {
    bot: Monitor,
    dir: PathBuf,
    /// What is shown, and where.
    shown: Option<(Shown, SocketAddr)>,
}

impl Trade for Monitoring {
    fn bot(&mut self) -> &mut dyn Bot {
        &mut self.bot
    }

    fn note(&self) -> Option<String> {
        self.shown.as_ref().map(|(_, at)| format!("metrics  http://{at}/metrics"))
    }

    fn turn(&mut self) -> io::Result<()> {
        if let Some((shown, _)) = &self.shown {
            shown.set(self.bot.metrics());
        }
        self.write(false)
    }

    fn end(&mut self) -> io::Result<()> {
        self.write(true)
    }
}

impl Monitoring {
    fn write(&mut self, end: bool) -> io::Result<()> {
        for log in self.bot.take_logs(now_s(), end) {
            write_bytes(&self.dir.join(&log.name), log.text.as_bytes(), false)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(())
    }

    fn recall(&mut self) -> Result<(), Refusal> {
        let now_s = now_s();
        for subject in Subject::ALL {
            let path = self.dir.join(Monitor::log_name(subject, now_s));
            let bytes = read_bytes(&path)?;
            if bytes.is_some_and(|bytes| !self.bot.recall_log(subject, &bytes, now_s)) {
                let why = "it is no log of this bot: move it away";
                return Err(Refusal::here(format!("{}: {why}", path.display())));
            }
        }
        Ok(())
    }
}

/// Makes a bot, with its settings.
pub(super) fn make(
    name: Name,
    me: &Id,
    source: &Source<'_>,
    dir: PathBuf,
    metas: bool,
) -> Result<Box<dyn Trade>, Refusal> {
    Ok(match name {
        Name::Archivist => {
            let mut archivist = Archivist::new(me).map_err(Refusal::here)?;
            if metas {
                archivist.bring_metas();
            }
            Box::new(Talking(archivist))
        }
        Name::Assistant => Box::new(Talking(Assistant::new().map_err(Refusal::here)?)),
        Name::Announcer => {
            let (bot, pusher) = settings::announcer(source)?;
            Box::new(Announcing { bot, pusher })
        }
        Name::Monitor => {
            let (rules, address) = settings::monitor(source)?;
            let shown = address.map(|address| {
                let shown = Shown::default();
                let at = metrics::serve(address, shown.clone())
                    .map_err(|error| Refusal::here(format!("metrics at {address}: {error}")))?;
                Ok::<_, Refusal>((shown, at))
            });
            let mut trade = Monitoring { bot: Monitor::new(rules), dir, shown: shown.transpose()? };
            trade.recall()?;
            Box::new(trade)
        }
    })
}
