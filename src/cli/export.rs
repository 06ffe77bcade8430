//! `dims export`: what is kept, in the layout of the reference: a backup that anyone can read, and the
//! way back. Mail is not part of that layout.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::args::PlaceArgs;
use super::import::{Tally, copy_all, own_store, refused, save_if_newer};
use super::{Refusal, complain, say};
use crate::client::folder::{Fault, Folder, FolderError};
use crate::crypto::identity::{Proven, is_made_by, prove_document, prove_meta};
use crate::proto::address::Address;
use crate::proto::command::List;
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json as text;
use crate::proto::meta::Meta;
use crate::server::config::Config;
use crate::server::identity::folder_of;
use crate::store::{Store, StoreAnswer, StoreOp, UserRecord};

/// Users whose names are read at once.
const PAGE_USERS: usize = 256;
/// Private keys will lie in it.
const FOLDER_MODE: u32 = 0o700;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A new or empty folder, which becomes the reference's root
    dir: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Default)]
struct Written {
    metas: u64,
    documents: u64,
    logins: u64,
    lists: u64,
    keys: u64,
    damaged: u64,
}

pub(super) fn export(args: &ExportArgs) -> Result<(), Refusal> {
    let config = Config::load(&(&args.place).into())?.config;
    let dir = args.dir.display();
    if fs::read_dir(&args.dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Refusal::here(format!("{dir} is not empty; name a new or an empty folder")));
    }
    let failed = |error: io::Error| Refusal::here(format!("{dir}: {error}"));
    let to = Folder::below(&args.dir).without_sync();
    let (_folder, store) = own_store(&config)?;
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&args.dir).map_err(failed)?;
    let mut written = Written::default();
    let mut last: Option<Arc<str>> = None;
    loop {
        let page = store.users(last.as_deref(), PAGE_USERS).map_err(refused)?;
        for user in &page {
            match store.read(&StoreOp::LoadUser { user: user.clone() }) {
                StoreAnswer::User(record) => account(&to, user, &record, &mut written)?,
                StoreAnswer::Failed(error) => return Err(refused(error)),
                _ => {}
            }
        }
        match page.last() {
            Some(user) => last = Some(user.clone()),
            None => break,
        }
    }
    let from = folder_of(&config);
    own_accounts(&from, &to, &mut written)?;
    let mut carried = Tally::default();
    copy_all(&from, &to, &mut carried)?;
    let synced = fs::File::open(&args.dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
    synced.map_err(failed)?;
    if let Some(error) = store.damage().last {
        complain(error);
    }
    written.damaged += carried.damaged + store.damage().count;
    for (name, count) in [
        ("metas", written.metas),
        ("documents", written.documents),
        ("logins", written.logins),
        ("lists", written.lists),
        ("private keys", written.keys),
        ("other files", carried.files.new),
        ("damaged", written.damaged),
    ] {
        say(format_args!("{name:<14}{count}"));
    }
    match written.damaged {
        0 => Ok(()),
        damaged => Err(Refusal::here(format!("{damaged} damaged, all others exported"))),
    }
}

fn account(
    to: &Folder,
    user: &str,
    record: &UserRecord,
    written: &mut Written,
) -> Result<(), Refusal> {
    let Some(bytes) = &record.meta else {
        // Mail may wait for somebody who has not introduced themselves.
        return Ok(());
    };
    let meta = Id::parse(user).ok().and_then(|id| {
        let meta = Meta::from_map(&text::parse_object(bytes).ok()?).ok()?;
        prove_meta(&id, meta).ok()
    });
    let Some(meta) = meta else {
        written.damaged += 1;
        complain(format_args!("{user}: the stored meta does not prove itself"));
        return Ok(());
    };
    if to.meta_path(meta.id()).exists() {
        // Whoever makes two metas with one fingerprint has two names at one address.
        written.damaged += 1;
        complain(format_args!("{user}: another account has this address, and so its files"));
        return Ok(());
    }
    to.save_meta(&meta)?;
    written.metas += 1;
    let mut documents: Vec<Proven<Document>> = Vec::new();
    for value in list(record.documents.as_deref()) {
        let document = value.as_object().and_then(|map| Document::from_map(map).ok());
        match document.and_then(|d| prove_document(&meta, meta.id(), d).ok()) {
            Some(document) => documents.push(document),
            None => {
                written.damaged += 1;
                complain(format_args!("{user}: a stored document does not prove itself"));
            }
        }
    }
    if !documents.is_empty() {
        to.save_documents(meta.id(), &documents)?;
        written.documents += documents.len() as u64;
    }
    for (which, json) in [(List::Block, &record.blocked), (List::Mute, &record.muted)] {
        if let Some(Ok(command)) = json.as_deref().map(text::parse_object) {
            to.save_list(meta.id(), which, command)?;
            written.lists += 1;
        }
    }
    let logins = list(record.logins.as_deref());
    if !logins.is_empty() {
        to.save_logins(meta.id(), &logins)?;
        written.logins += logins.len() as u64;
    }
    Ok(())
}

fn list(bytes: Option<&[u8]>) -> Vec<Value> {
    match bytes.map(text::parse) {
        Some(Ok(Value::Array(list))) => list,
        _ => Vec::new(),
    }
}

/// Accounts whose private keys are here. The station's own is not in the store.
fn own_accounts(from: &Folder, to: &Folder, written: &mut Written) -> Result<(), Refusal> {
    for address in from.addresses()? {
        let address = address?;
        match own_account(from, to, &address) {
            Ok(true) => written.keys += 1,
            Ok(false) => {}
            Err(error) => {
                written.damaged += 1;
                complain(error);
            }
        }
    }
    Ok(())
}

fn own_account(from: &Folder, to: &Folder, address: &Address) -> Result<bool, FolderError> {
    let Some(meta) = from.meta_at(address)? else {
        return Ok(false);
    };
    let id = meta.id();
    let Some(sign) = from.sign_key(id)? else {
        return Ok(false);
    };
    let keys = from.message_keys(id)?.into_iter().collect::<Result<Vec<_>, _>>()?;
    if !sign.verify_key().is_ok_and(|key| is_made_by(&meta, &key)) {
        let path = from.private.join(id.address()).join("secret.js");
        return Err(FolderError { path, fault: Fault::Shape("the key of the meta") });
    }
    to.save_keys(id, &sign, &keys)?;
    let documents = from.documents(&meta)?.into_iter().collect::<Result<Vec<_>, _>>()?;
    save_if_newer(to, &meta, &documents)?;
    Ok(true)
}
