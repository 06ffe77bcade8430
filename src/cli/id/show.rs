//! `dims id show` and `dims id list`: accounts for people to look at. Never a secret.

use serde_json::Value;

use super::super::{Refusal, complain, say};
use super::{describe, name_of, parse_id};
use crate::base::time::utc;
use crate::client::folder::{Folder, FolderError};
use crate::crypto::identity::{Proven, is_made_by};
use crate::crypto::key::SignKey;
use crate::proto::address::Address;
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::meta::{Meta, MetaKind};

/// Longest value that is shown, in characters; pictures are longer.
const SHOWN_CHARS_MAX: usize = 120;

/// Lines about an account, and whether something in it is damaged.
#[derive(Default)]
struct Sheet {
    damaged: usize,
}

impl Sheet {
    fn line(&self, name: &str, text: impl std::fmt::Display) {
        say(format_args!("{name:<16}{text}"));
    }

    fn fault(&mut self, error: &FolderError) {
        self.damaged += 1;
        self.line("DAMAGED", error);
    }
}

pub(super) fn show(folder: &Folder, text: &str) -> Result<(), Refusal> {
    let id = match Address::parse(text) {
        Ok(address) => folder.meta_at(&address)?.map(|meta| meta.id().clone()),
        Err(_) => None,
    };
    let id = id.map_or_else(|| parse_id(text), Ok)?;
    let mut sheet = Sheet::default();
    let Some(meta) = folder.meta(&id)? else {
        let path = folder.meta_path(&id);
        return Err(Refusal::here(format!("{id} is not known here: no {}", path.display())));
    };
    sheet.line("id", &id);
    sheet.line("type", name_of(id.kind()));
    sheet.line("meta", format_args!("{}, proven", of_meta(&meta)));
    documents(folder, &meta, &mut sheet);
    private(folder, &meta, &mut sheet);
    match sheet.damaged {
        0 => Ok(()),
        _ => Err(Refusal::here(format!("{id} is damaged, see above"))),
    }
}

fn of_meta(meta: &Meta) -> String {
    let kind = match meta.kind() {
        MetaKind::Mkm => "MKM".to_owned(),
        MetaKind::Btc => "BTC".to_owned(),
        MetaKind::Eth => "ETH".to_owned(),
        MetaKind::Other { code, .. } => code.to_string(),
    };
    let key = meta.key().map(describe).unwrap_or_default();
    format!("{kind}, {key} key")
}

fn documents(folder: &Folder, meta: &Proven<Meta>, sheet: &mut Sheet) {
    let found = match folder.documents(meta) {
        Ok(found) => found,
        Err(error) => return sheet.fault(&error),
    };
    if found.is_empty() {
        sheet.line("documents", "none");
    }
    for document in found {
        match document {
            Ok(document) => of_document(&document, sheet),
            Err(error) => sheet.fault(&error),
        }
    }
}

fn of_document(document: &Document, sheet: &Sheet) {
    let time = document.time().map_or_else(|| "no date".to_owned(), utc);
    let terminal = document.terminal().map(|t| format!(" for /{t}")).unwrap_or_default();
    sheet.line("document", format_args!("{}{terminal}, {time}, proven", document.kind_text()));
    for (name, value) in document.properties() {
        match (name.as_str(), value) {
            ("type", _) => {}
            ("key", Value::Object(key)) => sheet.line("  key", describe(key)),
            ("time" | "created_time", Value::Number(at)) => {
                sheet.line(&format!("  {name}"), at.as_f64().map(utc).unwrap_or_default());
            }
            _ => {
                // As JSON, since a name may hold what a terminal obeys.
                let mut text = value.to_string();
                if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS_MAX) {
                    text.truncate(end);
                    text.push('…');
                }
                sheet.line(&format!("  {} ", name.escape_debug()), text.escape_debug_controls());
            }
        }
    }
}

fn private(folder: &Folder, meta: &Proven<Meta>, sheet: &mut Sheet) {
    let id = meta.id();
    match folder.sign_key(id) {
        Ok(None) => sheet.line("secret", "no identity key here"),
        Ok(Some(key)) => {
            let fits = key.verify_key().is_ok_and(|key| is_made_by(meta, &key));
            let fits = if fits { "fits the meta" } else { "DOES NOT FIT the meta" };
            sheet.line("secret", format_args!("identity key, {}, {fits}", of_sign(&key)));
        }
        Err(error) => sheet.fault(&error),
    }
    match folder.message_keys(id) {
        Ok(keys) => {
            for key in keys {
                match key.map(|key| key.public_map()) {
                    Ok(Ok(map)) => {
                        sheet.line("secret", format_args!("message key, {}", describe(&map)));
                    }
                    Ok(Err(error)) => complain(error),
                    Err(error) => sheet.fault(&error),
                }
            }
        }
        Err(error) => sheet.fault(&error),
    }
}

fn of_sign(key: &SignKey) -> String {
    key.public_map().map_or_else(|_| "unusable".to_owned(), |map| describe(&map))
}

pub(super) fn list(folder: &Folder) -> Result<(), Refusal> {
    let mut addresses = folder.addresses()?.collect::<Result<Vec<_>, _>>()?;
    addresses.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    let mut damaged = 0_usize;
    for address in &addresses {
        match folder.meta_at(address) {
            Ok(Some(meta)) => say(of_account(folder, &meta)),
            Ok(None) => {
                damaged += 1;
                complain(format_args!(
                    "{}: no meta",
                    folder.public.join(address.as_str()).display()
                ));
            }
            Err(error) => {
                damaged += 1;
                complain(error);
            }
        }
    }
    match damaged {
        0 => Ok(()),
        damaged => Err(Refusal::here(format!("{damaged} of {} are damaged", addresses.len()))),
    }
}

fn of_account(folder: &Folder, meta: &Proven<Meta>) -> String {
    let id: &Id = meta.id();
    let secret = match folder.sign_key(id) {
        Ok(Some(_)) => "own",
        Ok(None) => "-",
        Err(_) => "DAMAGED",
    };
    let name = folder.documents(meta).ok().and_then(|documents| {
        let newest = documents.into_iter().find_map(Result::ok)?;
        newest.properties().get("name").map(Value::to_string)
    });
    let name = name.unwrap_or_default();
    format!("{id}  {}  {secret}  {}", name_of(id.kind()), name.escape_debug_controls())
}

/// Texts for a terminal: no character in them that it obeys.
trait Tame {
    fn escape_debug_controls(&self) -> String;
}

impl Tame for str {
    fn escape_debug_controls(&self) -> String {
        self.chars()
            .flat_map(|letter| match letter.is_control() {
                true => letter.escape_default().collect::<Vec<_>>(),
                false => vec![letter],
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!("a\u{1b}[2J\u{9b}é".escape_debug_controls(), "a\\u{1b}[2J\\u{9b}é");
    }
}
