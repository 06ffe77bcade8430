//! `dims bot`: a bot's account, its connection, its notes. What it answers is decided in `crate::bot`.

mod debts;
mod http2;
mod keys;
mod line;
mod metrics;
mod notes;
mod push;
mod settings;
mod trade;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Map;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Refusal, now_s, say};
use crate::bot::{Bot, Heard, Post};
use crate::client::account::Account;
use crate::client::blocking::Client;
use crate::client::directory::Directory;
use crate::client::folder::{Folder, read_bytes, write_bytes};
use crate::client::keys::KeyStore;
use crate::client::outbox::OUTBOX_MESSAGES_MAX;
use crate::client::say as contents;
use crate::client::source::People;
use crate::client::terminal::{Event, Settings};
use crate::crypto::key::{OpenKey, SignKey};
use crate::proto::address::EntityKind;
use crate::proto::id::Id;
use crate::proto::meta::MetaKind;
use crate::server::config::{Log, PORT};
use crate::server::lock::{FolderLock, LockError};
use crate::server::log;
use debts::Debts;
use notes::Notes;
use trade::Trade;

/// Names the bot's account, in its folder.
const ID_FILE: &str = "bot.id";
/// RSA bits of the key that others write to.
const MESSAGE_KEY_BITS: usize = 2048;
/// How often it looks whether it is to stop, when nothing comes.
const TURN: Duration = Duration::from_millis(200);
/// Events that are answered with one writing to the disk.
const EVENTS_PER_TURN: usize = 256;
/// Answers that wait for the station; beyond them what comes is left to the next login. It cannot
/// be left unread, or the acknowledgements behind it would not be read either.
const POSTS_MAX: usize = 16_384;

const NOTES: &str = "\
A bot is an ordinary client. It makes its account at the first start and prints the line that lets the
station know it:

  dims bot archivist --station 127.0.0.1:9394
  dims run --ans archivist=ID";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct BotArgs {
    /// Which one
    #[arg(value_name = "NAME")]
    name: Name,
    /// Its station
    #[arg(long, value_name = "HOST:PORT", default_value_t = format!("127.0.0.1:{PORT}"))]
    station: String,
    /// An account that is in the folder already
    #[arg(long = "as", value_name = "ID")]
    id: Option<String>,
    /// Folder of its account and its notes [default: NAME]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Archivist: lets the accounts of this folder be found too: a Python station's data, or what
    /// `dims export` wrote
    #[arg(long, value_name = "DIR")]
    import: Option<PathBuf>,
    /// Archivist: answers bring the metas of those who are found, for clients of before August 2023
    #[arg(long)]
    metas: bool,
    /// Its settings [default: NAME.toml in its folder, if that is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log level: off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Finds users by words, and keeps address books
    Archivist,
    /// Passes messages to a group on to its members, and cannot read them
    Assistant,
    /// Wakes devices of users who are away, by the push services of Apple and Google
    Announcer,
    /// Keeps what stations count and clients measure, and passes it on
    Monitor,
}

impl Name {
    const fn text(self) -> &'static str {
        match self {
            Self::Archivist => "archivist",
            Self::Assistant => "assistant",
            Self::Announcer => "announcer",
            Self::Monitor => "monitor",
        }
    }
}

pub(super) fn bot(args: &BotArgs) -> Result<(), Refusal> {
    let name = args.name.text();
    if args.name != Name::Archivist && (args.import.is_some() || args.metas) {
        return Err(Refusal::usage("--import and --metas are the archivist's"));
    }
    let dir = args.data_dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let settings = settings(&args.station)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone()).map_err(Refusal::here)?;
    }
    let _log =
        log::start(&Log { level: args.log.clone(), ..Log::default() }).map_err(Refusal::usage)?;
    let account = account(&dir, name, args.id.as_deref())?;
    let _lock = FolderLock::take(&dir).map_err(|error| match error {
        LockError::Running(_) => Refusal::here(format!("{}: a bot runs in it", dir.display())),
        LockError::File(error) => Refusal::here(format!("{}: {error}", dir.display())),
    })?;
    let config = args.config.clone().unwrap_or_else(|| dir.join(name).with_extension("toml"));
    let source = settings::Source { path: &config, named: args.config.is_some() };
    let mut trade = trade::make(args.name, account.id(), &source, dir.clone(), args.metas)?;
    let path = dir.join(name).with_extension("notes");
    let refused = |error| Refusal::here(format!("{}: {error}", path.display()));
    let mut notes = Notes::open(&path, trade.bot()).map_err(refused)?;
    if let Some(from) = &args.import {
        import(&Folder::below(from), trade.bot())?;
        notes.take(trade.bot()).map_err(refused)?;
    }
    say(format_args!("bot      {}\n[ans]    {name} = \"{}\"", account.id(), account.id()));
    if let Some(note) = trade.note() {
        say(format_args!("{note}"));
    }
    let client = Client::start(settings, account, Directory::default(), KeyStore::default())
        .map_err(Refusal::here)?;
    let done =
        serve(&client, &mut *trade, &mut notes, &stop).and_then(|()| trade.end()).map_err(refused);
    client.close();
    tracing::info!("stopped");
    done
}

/// Tells the bot whom the files of a folder prove.
fn import(folder: &Folder, bot: &mut dyn Bot) -> Result<(), Refusal> {
    let mut known = 0_u64;
    for address in folder.addresses()? {
        let Some(meta) = folder.meta_at(&address?)? else { continue };
        let (id, mut one) = (meta.id().clone(), Directory::default());
        for document in folder.documents(&meta)? {
            match document {
                Ok(document) => drop(one.save_document(document, now_s())),
                Err(error) => tracing::warn!(%id, %error, "a document is left out"),
            }
        }
        one.save_meta(meta);
        bot.learned(&id, &one, now_s());
        known += 1;
    }
    tracing::info!(accounts = known, "imported");
    Ok(())
}

/// Answers until it is to stop. What cannot be written down ends it: the answers would be lies.
/// A message is acknowledged when what it changed is written down and the station has the answers;
/// until then the station would bring it again.
fn serve(
    client: &Client<Directory>,
    trade: &mut dyn Trade,
    notes: &mut Notes,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut debts = Debts::default();
    while !stop.load(Ordering::Relaxed) {
        let mut patience = TURN;
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = client.next_event(patience) else { break };
            patience = Duration::ZERO;
            let asks = matches!(event, Event::Received(_) | Event::Sealed(_));
            if asks && debts.posts() >= POSTS_MAX {
                tracing::warn!("too many answers wait for the station: a message has to");
                debts.leave();
                continue;
            }
            match event {
                Event::Whole { package } => debts.close(Some(package)),
                Event::Acknowledged { token } => debts.paid(token),
                Event::Failed { token, ref why } => {
                    tracing::warn!(?why, "an answer was not sent");
                    debts.failed(token, why);
                }
                event => {
                    // These come between packages.
                    let between = matches!(event, Event::Learned(_) | Event::LoggedIn { .. });
                    let posts = answers(client, trade.bot(), event);
                    debts.add(posts, trade.bot().take_ending());
                    if between {
                        debts.close(None);
                    }
                }
            }
        }
        trade.turn()?;
        let settled = debts.take_settled();
        settled.iter().flat_map(|debt| &debt.things).for_each(|thing| trade.bot().end(*thing));
        notes.take(trade.bot())?;
        client.confirm(settled.iter().filter_map(|debt| debt.package));
        while client.with(|terminal| terminal.unacknowledged()) < OUTBOX_MESSAGES_MAX / 2
            && let Some((debt, Post { to, content })) = debts.next_post()
        {
            debts.sent(debt, client.send(&to, content));
        }
    }
    Ok(())
}

fn answers(client: &Client<Directory>, bot: &mut dyn Bot, event: Event) -> Vec<Post> {
    let now_s = now_s();
    match event {
        Event::Received(came) => client.with(|terminal| {
            let heard = Heard { message: &came.message, content: &came.content, now_s };
            bot.hear(heard, terminal.messenger().source())
        }),
        Event::Sealed(message) => {
            client.with(|terminal| bot.pass(&message, terminal.messenger().source(), now_s))
        }
        Event::Learned(id) => {
            client.with(|terminal| bot.learned(&id, terminal.messenger().source(), now_s))
        }
        // Too many strangers at once: asked for here, since what they said is gone.
        Event::Dropped(id) => [contents::meta_query(&id), contents::documents_query(&id)]
            .map(|content| Post { to: Id::station_any(), content })
            .into(),
        Event::LoggedIn { station } => {
            tracing::info!(%station, "logged in");
            bot.logged_in(&station);
            client.with(|terminal| bot.resume(terminal.messenger().source(), now_s))
        }
        Event::Disconnected { pause_ms } => {
            tracing::warn!(?pause_ms, "no connection to the station");
            Vec::new()
        }
        Event::Refused(why) => {
            tracing::debug!(%why, "a message was refused");
            Vec::new()
        }
        Event::Packed { .. }
        | Event::Acknowledged { .. }
        | Event::Failed { .. }
        | Event::Whole { .. } => Vec::new(),
    }
}

fn settings(station: &str) -> Result<Settings, Refusal> {
    let (host, port) = station.rsplit_once(':').unwrap_or((station, ""));
    let port = match port {
        "" => Ok(PORT),
        port => port.parse(),
    };
    let Ok(port) = port else {
        return Err(Refusal::usage(format!("--station {station}: expected HOST:PORT")));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(Settings { receipts: false, confirms: true, ..Settings::new(host, port) })
}

/// The account that was asked for, the one in the folder, or a new one.
fn account(dir: &Path, name: &str, id: Option<&str>) -> Result<Account, Refusal> {
    let (folder, id_file) = (Folder::below(dir), dir.join(ID_FILE));
    let kept = read_bytes(&id_file)?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    if let Some(id) = id.map(str::to_owned).or(kept) {
        let id = Id::parse(&id).map_err(|_| Refusal::usage(format!("\"{id}\" is no ID")))?;
        return Ok(folder.account(&id, None)?);
    }
    let made = || {
        let (sign, message) = (SignKey::generate_ecc()?, OpenKey::generate(MESSAGE_KEY_BITS)?);
        let properties = Map::from_iter([("name".to_owned(), name.into())]);
        let network = EntityKind::Bot.code();
        Account::create(MetaKind::Mkm, network, Some(name), sign, message, now_s(), properties)
    };
    let account = made().map_err(Refusal::here)?;
    folder.save(&account)?;
    write_bytes(&id_file, format!("{}\n", account.id()).as_bytes(), false)?;
    Ok(account)
}
