//! The station's own identity: every file that the start needs, and whether they belong together.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Finding, fine, found};
use crate::client::folder::Folder;
use crate::crypto::identity::{Proven, prove_document, prove_meta};
use crate::crypto::key::{OpenKey, SignKey, VerifyKey};
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::meta::Meta;
use crate::server::config::Config;
use crate::server::identity::{ID_FILE, folder_of};
use crate::server::lock;
use crate::server::trouble::Trouble;

/// Others may read a file.
const MODE_OTHERS: u32 = 0o077;
/// When this was written: 2026-01-01. A clock before it was never set.
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);

/// What was wrong has been put down.
struct Said;

type Part<T> = Result<T, Said>;

/// One look at one identity.
struct Look<'a> {
    id: &'a Id,
    now: Duration,
    findings: &'a mut Vec<Finding>,
}

/// The station's ID, where there is one already.
pub(super) fn look(config: &Config, findings: &mut Vec<Finding>) -> Option<Id> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let last = std::fs::metadata(config.data_dir.join(lock::FILE_NAME));
    let last = last.and_then(|facts| facts.modified()).ok();
    findings.extend(of_clock(now, last.and_then(|last| last.duration_since(UNIX_EPOCH).ok())));
    let folder = folder_of(config);
    let id = match wanted(config) {
        Ok(Some(id)) => id,
        Ok(None) => {
            findings.push(fine("identity will be made at the first start"));
            return None;
        }
        Err(finding) => {
            findings.push(*finding);
            return None;
        }
    };
    let mut look = Look { id: &id, now, findings };
    if look.files(&folder).is_ok() {
        findings.push(fine(format!("identity {id} is whole")));
    }
    Some(id)
}

fn of_clock(now: Duration, last_start: Option<Duration>) -> Option<Finding> {
    if now < WRITTEN {
        let what = format!("the clock stands at {} s since 1970", now.as_secs());
        return Some(found(Trouble::ClockAbsurd, what));
    }
    let ahead = last_start?.checked_sub(now).filter(|ahead| !ahead.is_zero())?;
    let what = format!("the clock stands {} s before the last start", ahead.as_secs());
    Some(found(Trouble::ClockBehind, what))
}

/// The ID of the settings, or that of the file that the first start writes.
fn wanted(config: &Config) -> Result<Option<Id>, Box<Finding>> {
    let file = config.data_dir.join(ID_FILE);
    let (text, place) = match &config.station.id {
        Some(id) => (id.clone(), "station.id".to_owned()),
        None => match std::fs::read_to_string(&file) {
            Ok(text) => (text.trim().to_owned(), format!("{}:1", file.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let what = format!("{}: {error}", file.display());
                return Err(Box::new(found(Trouble::KeyUnreadable, what)));
            }
        },
    };
    match Id::parse(&text) {
        Ok(id) if !id.is_group() && !id.is_broadcast() => Ok(Some(id)),
        _ => {
            let what = format!("{place}: \"{text}\" is not the ID of a station");
            Err(Box::new(found(Trouble::StationId, what)))
        }
    }
}

impl Look<'_> {
    fn files(&mut self, folder: &Folder) -> Part<()> {
        let private = folder.private.join(self.id.address());
        let (now, of_2019) = (private.join("secret.js"), private.join("private_key.js"));
        let key = self.key(if now.exists() || !of_2019.exists() { &now } else { &of_2019 });
        let meta = self.meta(&folder.meta_path(self.id));
        let messages = private.join("secret_keys.js");
        // The accounts of 2019 have one key for everything.
        let one_key = !messages.exists() && matches!(key, Ok(SignKey::Rsa(_)));
        let messages = if one_key { Ok(()) } else { self.message_keys(&messages) };
        let (key, meta) = (key?, meta?);
        let theirs = meta.key().and_then(|key| VerifyKey::from_map(key).ok());
        if theirs.is_none() || theirs != key.verify_key().ok() {
            let path = private.join("secret.js");
            return self.say(Trouble::KeyForeign, &path, "not the key of the meta");
        }
        self.documents(&folder.documents_path(self.id), &meta)?;
        messages
    }

    fn say<T>(&mut self, kind: Trouble, path: &Path, what: &str) -> Part<T> {
        self.findings.push(found(kind, format!("{}: {what}", path.display())));
        Err(Said)
    }

    fn key(&mut self, path: &Path) -> Part<SignKey> {
        let value = self.secret(path)?;
        match value.as_object().and_then(|map| SignKey::from_map(map).ok()) {
            Some(key) => Ok(key),
            None => self.say(Trouble::KeyBroken, path, "not a private key"),
        }
    }

    fn message_keys(&mut self, path: &Path) -> Part<()> {
        let value = self.secret(path)?;
        let is_key =
            |key: &Value| key.as_object().is_some_and(|map| OpenKey::from_map(map).is_ok());
        match value.as_array() {
            Some(list) if !list.is_empty() && list.iter().all(is_key) => Ok(()),
            _ => self.say(Trouble::KeyBroken, path, "not a list of RSA keys"),
        }
    }

    fn secret(&mut self, path: &Path) -> Part<Value> {
        let value = self.json(path, Trouble::KeyMissing, Trouble::KeyBroken)?;
        let mode = std::fs::metadata(path).map_or(0, |facts| facts.mode());
        if mode & MODE_OTHERS != 0 {
            let what = format!("{} (mode {:o})", path.display(), mode & 0o777);
            let remedy = format!("chmod 600 {}", path.display());
            self.findings.push(found(Trouble::KeyReadable, what).by(remedy));
        }
        Ok(value)
    }

    fn meta(&mut self, path: &Path) -> Part<Proven<Meta>> {
        let value = self.json(path, Trouble::MetaMissing, Trouble::MetaBroken)?;
        let Some(meta) = value.as_object().and_then(|map| Meta::from_map(map).ok()) else {
            return self.say(Trouble::MetaBroken, path, "not a meta");
        };
        match prove_meta(self.id, meta) {
            Ok(meta) => Ok(meta),
            Err(_) => {
                let what = format!("not the meta of {}", self.id);
                self.say(Trouble::MetaForeign, path, &what)
            }
        }
    }

    fn documents(&mut self, path: &Path, meta: &Proven<Meta>) -> Part<()> {
        let value = self.json(path, Trouble::VisaMissing, Trouble::VisaBroken)?;
        let list = value.as_array().or_else(|| value.get("documents")?.as_array());
        for (index, value) in list.into_iter().flatten().enumerate() {
            let document = value.as_object().and_then(|map| Document::from_map(map).ok());
            let document =
                document.and_then(|document| prove_document(meta, self.id, document).ok());
            let Some(document) = document else {
                let what = format!("number {} is not a document of {}", index + 1, self.id);
                return self.say(Trouble::VisaBroken, path, &what);
            };
            if document.time().is_some_and(|time| time > self.now.as_secs_f64()) {
                let what = format!("number {} is of later than now", index + 1);
                return self.say(Trouble::ClockBehind, path, &what);
            }
        }
        Ok(())
    }

    fn json(&mut self, path: &Path, missing: Trouble, broken: Trouble) -> Part<Value> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let what = format!("not there, but the ID is {}", self.id);
                return self.say(missing, path, &what);
            }
            Err(error) => return self.say(Trouble::KeyUnreadable, path, &error.to_string()),
        };
        serde_json::from_slice(&bytes).or_else(|error| {
            let place = format!("{}:{}:{}", path.display(), error.line(), error.column());
            self.say(broken, Path::new(&place), "not JSON")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_or_went_back_is_said() {
        let code = |now, last| of_clock(now, last).and_then(|said| Some(said.trouble?.code()));
        let now = WRITTEN + Duration::from_secs(100);
        assert_eq!(code(Duration::ZERO, None), Some("clock-absurd"));
        assert_eq!(code(now, Some(now + Duration::from_secs(9))), Some("clock-behind"));
        assert_eq!(code(now, Some(now)), None);
        assert_eq!(code(now, None), None);
    }
}
