//! The station's own account: files in the layout of the reference, so that either can start on
//! what the other made.
//!
//! ```text
//! private/{ADDRESS}/secret.js        identity key, mode 0600
//! private/{ADDRESS}/secret_keys.js   message keys, newest first, mode 0600
//! public/{ADDRESS}/meta.js           meta
//! public/{ADDRESS}/documents.js      {"documents": […]}
//! station.id                         the ID, for a station whose settings name none
//! ```

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::client::account::Account;
use crate::crypto::error::CryptoError;
use crate::crypto::key::{OpenKey, SignKey};
use crate::proto::document::Document;
use crate::proto::id::Id;
use crate::proto::json as text;
use crate::proto::meta::{Meta, MetaKind};

/// Network byte of a station's address.
const STATION: u8 = 2;
/// Seed of a generated identity; the name in its ID.
const SEED: &str = "dims";
/// RSA bits of a generated message key.
const MESSAGE_KEY_BITS: usize = 2048;

/// Where an account's files are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Metas and documents.
    pub public: PathBuf,
    /// Keys.
    pub private: PathBuf,
    /// The file that names a generated identity.
    pub id_file: PathBuf,
}

impl Folders {
    /// The usual places below a data folder.
    pub fn below(data: &Path) -> Self {
        Self {
            public: data.join("public"),
            private: data.join("private"),
            id_file: data.join("station.id"),
        }
    }
}

/// Why the station has no identity to start with; the operator's to mend.
#[derive(Debug)]
pub enum IdentityError {
    /// A file cannot be read or written.
    File(PathBuf, io::Error),
    /// A file holds something else than it should.
    Content(PathBuf, &'static str),
    /// The ID is none, or not that of a station.
    Id(String),
    /// The keys, meta and documents do not belong together.
    Mixed(String, CryptoError),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Content(path, expected) => {
                write!(f, "{}: this should hold {expected}", path.display())
            }
            Self::Id(id) => write!(f, "\"{id}\" is not the ID of a station"),
            Self::Mixed(id, error) => {
                write!(f, "the keys, meta and documents of {id} do not belong together: {error}")
            }
        }
    }
}

impl std::error::Error for IdentityError {}

type Done<T> = Result<T, IdentityError>;

/// The station's account: the one named, the one in the folder, or a new one. Its visa is renewed,
/// so that clients see when the station started and what it is called now.
pub fn load_or_create(
    folders: &Folders,
    wanted: Option<&str>,
    profile: &Map<String, Value>,
    now_s: f64,
) -> Done<Account> {
    let known = match wanted {
        Some(id) => Some(id.to_owned()),
        None => read_optional(&folders.id_file)?.map(|id| id.trim().to_owned()),
    };
    let mut account = match known {
        Some(id) => load(folders, &id)?,
        None => return create(folders, profile, now_s),
    };
    let id = account.id().as_str().to_owned();
    let mut properties =
        account.document().map(|document| document.properties().clone()).unwrap_or_default();
    properties.extend(profile.clone());
    account.publish(properties, now_s).map_err(|error| IdentityError::Mixed(id, error))?;
    write_public(folders, &account)?;
    Ok(account)
}

fn create(folders: &Folders, profile: &Map<String, Value>, now_s: f64) -> Done<Account> {
    let made = || -> Result<Account, CryptoError> {
        let sign = SignKey::generate_ecc()?;
        let open = OpenKey::generate(MESSAGE_KEY_BITS)?;
        let seed = Some(SEED);
        Account::create(MetaKind::Mkm, STATION, seed, sign, open, now_s, profile.clone())
    };
    let account = made().map_err(|error| IdentityError::Mixed("a new identity".into(), error))?;
    let id = account.id().as_str().to_owned();
    let mixed = |error| IdentityError::Mixed(id.clone(), error);
    let private = folders.private.join(account.id().address());
    let secret = account.sign_key().to_map().map_err(mixed)?;
    write_file(&private.join("secret.js"), &Value::Object(secret), true)?;
    let mut keys = Vec::new();
    for key in account.message_keys() {
        keys.push(Value::Object(key.to_map().map_err(mixed)?));
    }
    write_file(&private.join("secret_keys.js"), &Value::Array(keys), true)?;
    write_public(folders, &account)?;
    // Written last: an ID without its files would stop the next start.
    write_bytes(&folders.id_file, format!("{id}\n").as_bytes(), false)?;
    Ok(account)
}

fn write_public(folders: &Folders, account: &Account) -> Done<()> {
    let public = folders.public.join(account.id().address());
    write_file(&public.join("meta.js"), &Value::Object(account.meta().to_map()), false)?;
    let documents: Vec<Value> =
        account.documents().iter().map(|d| Value::Object(d.to_map())).collect();
    write_file(&public.join("documents.js"), &json!({"documents": documents}), false)
}

fn load(folders: &Folders, id: &str) -> Done<Account> {
    let parsed = Id::parse(id).map_err(|_| IdentityError::Id(id.to_owned()))?;
    if parsed.is_group() || parsed.is_broadcast() {
        return Err(IdentityError::Id(id.to_owned()));
    }
    let private = folders.private.join(parsed.address());
    let public = folders.public.join(parsed.address());
    let path = private.join("secret.js");
    let sign = SignKey::from_map(&object(&path)?)
        .map_err(|_| IdentityError::Content(path, "a private key"))?;
    let path = private.join("secret_keys.js");
    let mut open = Vec::new();
    for key in list(&path)? {
        let key = key.as_object().and_then(|map| OpenKey::from_map(map).ok());
        open.push(key.ok_or_else(|| IdentityError::Content(path.clone(), "a list of RSA keys"))?);
    }
    if open.is_empty() {
        return Err(IdentityError::Content(path, "at least one RSA key"));
    }
    let path = public.join("meta.js");
    let meta =
        Meta::from_map(&object(&path)?).map_err(|_| IdentityError::Content(path, "a meta"))?;
    let path = public.join("documents.js");
    let mut documents = Vec::new();
    for document in documents_of(read_json(&path)?) {
        let document = document.as_object().and_then(|map| Document::from_map(map).ok());
        let document =
            document.ok_or_else(|| IdentityError::Content(path.clone(), "a list of documents"))?;
        documents.push(document);
    }
    Account::restore(&parsed, meta, documents, sign, open)
        .map_err(|error| IdentityError::Mixed(id.to_owned(), error))
}

/// 2.x writes an object with a list, 1.x the list alone.
fn documents_of(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        Value::Object(mut map) => match map.remove("documents") {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn read_optional(path: &Path) -> Done<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IdentityError::File(path.to_owned(), error)),
    }
}

fn read_json(path: &Path) -> Done<Value> {
    let bytes = fs::read(path).map_err(|error| IdentityError::File(path.to_owned(), error))?;
    text::parse(&bytes).map_err(|_| IdentityError::Content(path.to_owned(), "JSON"))
}

fn object(path: &Path) -> Done<Map<String, Value>> {
    match read_json(path)? {
        Value::Object(map) => Ok(map),
        _ => Err(IdentityError::Content(path.to_owned(), "a JSON object")),
    }
}

fn list(path: &Path) -> Done<Vec<Value>> {
    match read_json(path)? {
        Value::Array(list) => Ok(list),
        _ => Err(IdentityError::Content(path.to_owned(), "a JSON list")),
    }
}

fn write_file(path: &Path, value: &Value, secret: bool) -> Done<()> {
    write_bytes(path, text::write(value).as_bytes(), secret)
}

/// Writes a file whole or not at all: beside it, synced, then renamed over it.
fn write_bytes(path: &Path, bytes: &[u8], secret: bool) -> Done<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let beside = path.with_extension("new");
        let mode = if secret { 0o600 } else { 0o644 };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| IdentityError::File(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_identity_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = Folders::below(folder.path());
        let profile = Map::from_iter([("name".to_owned(), "Test".into())]);
        let first = load_or_create(&folders, None, &profile, 1e9).expect("made");
        let again = load_or_create(&folders, None, &profile, 1e9 + 5.0).expect("found");
        assert_eq!(first.id(), again.id());
        assert_eq!(again.document().and_then(|d| d.time()), Some(1e9 + 5.0));
        let named = load_or_create(&folders, Some(first.id().as_str()), &profile, 1e9 + 6.0);
        assert_eq!(named.expect("named").id(), first.id());
        let secret = folders.private.join(first.id().address()).join("secret.js");
        let mode = fs::metadata(&secret).expect("the key file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(&secret).expect("removed");
        let error = load_or_create(&folders, None, &profile, 1e9 + 7.0).expect_err("no key");
        assert!(error.to_string().contains("secret.js"), "{error}");
    }
}
