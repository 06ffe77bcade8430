//! `dims import`: what the reference has kept, in files and in Redis, becomes ours. Everything is proven before it is
//! stored; what is not sound is named and left, and the rest goes on. One account at a time, so the
//! number of accounts does not matter. May be repeated: what is known already is not written again.

mod account;
mod files;
mod logins;
mod mail;
mod redis;

use std::fmt;
use std::path::PathBuf;

use clap::Args;

use super::args::PlaceArgs;
use super::{Refusal, complain, now_s, say};
use crate::client::folder::{Folder, FolderError};
use crate::proto::directory::Names;
use crate::proto::json::Parser;
use crate::server::config::Config;
use crate::server::identity::folder_of;
use crate::server::lock::FolderLock;
use crate::server::start::{open_store, own_folder};
use crate::store::rocks::RocksStore;
use crate::store::{Store, StoreAnswer, StoreError, StoreOp};

pub(super) use account::save_if_newer;
pub(super) use files::copy_all;

/// Bounds of one commit, by ops and by the bytes in them.
const BATCH_OPS_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Read after the flags.
const NOTES: &str = "\
DIR is the reference's root, with public/, protected/ and private/ in it; without it, the folders that
the reference's config.ini names are read:

  dims import /var/.dim --data-dir=dim-data
  dims import --config=/etc/dim/config.ini --redis=redis://localhost:6379

No station may run on the data folder meanwhile. Each damaged or forged file is named on standard error
and left out, and then the exit code is 1; all others are imported.";

#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(super) struct ImportArgs {
    /// The reference's root
    dir: Option<PathBuf>,
    /// Take over the mail of absent users, which the reference keeps in Redis, database 8
    #[arg(long, value_name = "redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]")]
    redis: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// How many of one kind there were, by what became of them.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) new: u64,
    known: u64,
    /// There is something newer in its place.
    old: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} new, {} known, {} outdated", self.new, self.known, self.old)
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    metas: Count,
    documents: Count,
    logins: Count,
    lists: Count,
    mail: Count,
    keys: Count,
    pub(super) files: Count,
    pub(super) damaged: u64,
    left_out: u64,
}

impl Tally {
    fn report(&self) {
        for (name, count) in [
            ("metas", &self.metas),
            ("documents", &self.documents),
            ("logins", &self.logins),
            ("lists", &self.lists),
            ("mail", &self.mail),
            ("private keys", &self.keys),
            ("other files", &self.files),
        ] {
            say(format_args!("{name:<14}{count}"));
        }
        if self.left_out > 0 {
            say(format_args!("{:<14}{} files of unknown kinds", "left out", self.left_out));
        }
        say(format_args!("{:<14}{}", "damaged", self.damaged));
    }

    fn damaged(&mut self, error: &FolderError) {
        self.damaged += 1;
        complain(error);
    }
}

/// An import under way.
struct Import<'a> {
    source: &'a Folder,
    target: &'a Folder,
    store: &'a RocksStore,
    batch: Vec<StoreOp>,
    batch_bytes: usize,
    tally: Tally,
    parser: Parser,
    names: Names,
    now_s: f64,
}

pub(super) fn import(args: &ImportArgs) -> Result<(), Refusal> {
    let config = Config::load(&(&args.place).into())?.config;
    let target = folder_of(&config);
    let source = source(args, &config, &target)?;
    let (_folder, store) = own_store(&config)?;
    let mut import = Import {
        source: &source,
        target: &target,
        store: &store,
        batch: Vec::new(),
        batch_bytes: 0,
        tally: Tally::default(),
        parser: Parser::new(),
        names: Names::default(),
        now_s: now_s(),
    };
    import.files()?;
    if let Some(url) = &args.redis {
        import.mail(url, &config.mail)?;
    }
    import.commit()?;
    store.settle().map_err(refused)?;
    import.tally.report();
    match import.tally.damaged {
        0 => Ok(()),
        damaged => Err(Refusal::here(format!("{damaged} damaged, all others imported"))),
    }
}

/// The folder to read; none that exists if only mail is wanted.
fn source(args: &ImportArgs, config: &Config, target: &Folder) -> Result<Folder, Refusal> {
    let source = match (&args.dir, &config.reference, &args.redis) {
        (Some(dir), ..) => Folder::below(dir),
        (None, Some(_), _) | (None, None, Some(_)) => target.clone(),
        (None, None, None) => {
            let said = "name the reference's folder, or its config.ini with --config";
            return Err(Refusal::usage(said));
        }
    };
    if args.redis.is_none() && !source.public.is_dir() && !source.private.is_dir() {
        return Err(Refusal::here(format!(
            "neither {} nor {} is a folder",
            source.public.display(),
            source.private.display()
        )));
    }
    Ok(source)
}

/// The store of a data folder that no station runs on meanwhile.
pub(super) fn own_store(config: &Config) -> Result<(FolderLock, RocksStore), Refusal> {
    let folder = own_folder(config).map_err(Refusal::here)?;
    Ok((folder, open_store(config).map_err(refused)?))
}

pub(super) fn refused(error: StoreError) -> Refusal {
    Refusal::here(error)
}

impl Import<'_> {
    fn files(&mut self) -> Result<(), Refusal> {
        for address in self.source.addresses()? {
            match address {
                Ok(address) => self.account(&address)?,
                Err(error) => self.tally.damaged(&error),
            }
        }
        self.commit()?;
        if self.source != self.target {
            copy_all(self.source, self.target, &mut self.tally)?;
        }
        Ok(())
    }

    fn put(&mut self, op: StoreOp) -> Result<(), Refusal> {
        self.batch_bytes = self.batch_bytes.saturating_add(op.payload_bytes());
        self.batch.push(op);
        if self.batch.len() >= BATCH_OPS_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Refusal> {
        self.batch_bytes = 0;
        let ops = std::mem::take(&mut self.batch);
        for answer in self.store.commit(&ops).map_err(refused)? {
            if let StoreAnswer::Failed(error) = answer {
                return Err(refused(error));
            }
        }
        Ok(())
    }
}
