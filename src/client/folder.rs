//! Accounts as files, in the layout that the reference reads and writes, so that either can go on
//! with what the other made.
//!
//! ```text
//! private/{ADDRESS}/secret.js           identity key           (2019: private_key.js)
//! private/{ADDRESS}/secret_keys.js      message keys, newest first
//! private/{ADDRESS}/contacts.js         IDs
//! public/{ADDRESS}/meta.js              meta
//! public/{ADDRESS}/documents.js         {"documents": […]}     (1.x: a list; before: document.js,
//!                                                               profile.js, one document each)
//! public/{ADDRESS}/login_commands.js    {"records": [{"cmd", "msg"}]}
//! ```
//!
//! What is read is proven against its ID before it is given out; what is written is there whole or
//! not at all. Nothing is created by reading.
#![expect(clippy::disallowed_methods, reason = "it reads and writes the files of accounts")]

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use super::account::Account;
use crate::crypto::error::CryptoError;
use crate::crypto::identity::{Proven, prove_document, prove_meta};
use crate::crypto::key::{OpenKey, SignKey};
use crate::proto::address::Address;
use crate::proto::command::List;
use crate::proto::document::Document;
use crate::proto::error::ProtoError;
use crate::proto::id::Id;
use crate::proto::json::{self as text, JsonError};
use crate::proto::meta::Meta;

/// Longest file that is read, in bytes: eight documents with a picture each are far below.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

const META: &str = "meta.js";
/// Newest layout first; the first one that exists counts.
const DOCUMENTS: [&str; 3] = ["documents.js", "document.js", "profile.js"];
const LOGINS: &str = "login_commands.js";
const SECRET: [&str; 2] = ["secret.js", "private_key.js"];
const SECRET_KEYS: &str = "secret_keys.js";

/// Folders are their owner's alone: private keys lie beside what is public.
const FOLDER_MODE: u32 = 0o700;
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

/// A file that cannot be used, and why.
#[derive(Debug)]
pub struct FolderError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a file.
#[derive(Debug)]
pub enum Fault {
    /// The system does not give or take it. The operator's to mend.
    Io(io::Error),
    /// It is not there.
    Missing,
    /// It is a folder, a pipe or another thing that is no file.
    NotAFile,
    /// It is longer than [`FILE_BYTES_MAX`].
    TooLong,
    /// It is not JSON, perhaps cut off. The fault of who wrote it, or of the disk.
    Json(JsonError),
    /// It is JSON of something else; says what was expected.
    Shape(&'static str),
    /// A field in it is wrong.
    Field(ProtoError),
    /// It does not prove itself.
    Proof(CryptoError),
    /// One of its entries, counted from 1, is not usable.
    Entry(usize, Box<Self>),
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Missing => write!(f, "no such file"),
            Self::NotAFile => write!(f, "not a file"),
            Self::TooLong => write!(f, "longer than {} MiB", FILE_BYTES_MAX >> 20),
            Self::Json(error) => error.fmt(f),
            Self::Shape(expected) => write!(f, "this should hold {expected}"),
            Self::Field(error) => error.fmt(f),
            Self::Proof(error) => error.fmt(f),
            Self::Entry(number, fault) => write!(f, "entry {number}: {fault}"),
        }
    }
}

impl std::error::Error for FolderError {}

impl From<CryptoError> for Fault {
    fn from(error: CryptoError) -> Self {
        Self::Proof(error)
    }
}

type Done<T> = Result<T, FolderError>;

fn at(path: &Path) -> impl Fn(Fault) -> FolderError + '_ {
    |fault| FolderError { path: path.to_owned(), fault }
}

/// Where accounts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Metas, documents and login records.
    pub public: PathBuf,
    /// What is known of groups.
    pub protected: PathBuf,
    /// Private keys and contacts.
    pub private: PathBuf,
    sync: bool,
}

impl Folder {
    /// The usual places below one folder.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let [public, protected, private] = ["public", "protected", "private"].map(|n| root.join(n));
        Self::new(public, protected, private)
    }

    /// Three places anywhere.
    #[must_use]
    pub const fn new(public: PathBuf, protected: PathBuf, private: PathBuf) -> Self {
        Self { public, protected, private, sync: true }
    }

    /// The same, for writing many accounts in one go: files are not synced one by one, and the caller
    /// syncs all of them at the end.
    #[must_use]
    pub fn without_sync(self) -> Self {
        Self { sync: false, ..self }
    }

    fn write_json(&self, path: &Path, value: &Value, secret: bool) -> Done<()> {
        write(path, text::write(value).as_bytes(), secret, self.sync)
    }

    /// The addresses that have files here, each once, in no order.
    pub fn addresses(&self) -> Done<impl Iterator<Item = Done<Address>> + '_> {
        let private = addresses_in(&self.private)?.filter(|found| match found {
            Ok(address) => !self.public.join(address.as_str()).is_dir(),
            Err(_) => true,
        });
        Ok(addresses_in(&self.public)?.chain(private))
    }

    /// The meta at an address, and by it the ID. None if there is none.
    pub fn meta_at(&self, address: &Address) -> Done<Option<Proven<Meta>>> {
        let path = self.public.join(address.as_str()).join(META);
        let Some(map) = read_object(&path)? else {
            return Ok(None);
        };
        let proven = Meta::from_map(&map).map_err(Fault::Field).and_then(|meta| {
            let id = Id::build(meta.seed(), address).map_err(Fault::Field)?;
            Ok(prove_meta(&id, meta)?)
        });
        proven.map(Some).map_err(at(&path))
    }

    /// The meta of an ID. None if there is none.
    pub fn meta(&self, id: &Id) -> Done<Option<Proven<Meta>>> {
        let path = self.meta_path(id);
        let Some(map) = read_object(&path)? else {
            return Ok(None);
        };
        let proven = Meta::from_map(&map).map_err(Fault::Field);
        let proven = proven.and_then(|meta| Ok(prove_meta(id, meta)?));
        proven.map(Some).map_err(at(&path))
    }

    /// Where the meta of an ID is kept.
    #[must_use]
    pub fn meta_path(&self, id: &Id) -> PathBuf {
        self.public.join(id.address()).join(META)
    }

    /// The documents of the owner of `meta`, as they stand in the file, each proven or refused.
    /// The file as a whole is refused only if it cannot be read as a list.
    pub fn documents(&self, meta: &Proven<Meta>) -> Done<Vec<Done<Proven<Document>>>> {
        let path = self.documents_path(meta.id());
        let Some(value) = read_json(&path)? else {
            return Ok(Vec::new());
        };
        let entries = entries_of(value, "documents", "data")
            .ok_or(Fault::Shape("documents"))
            .map_err(at(&path))?;
        Ok(proven_each(&path, entries, |map| {
            let map = with_old_names(map);
            let document = Document::from_map(&map).map_err(Fault::Field)?;
            Ok(prove_document(meta, meta.id(), document)?)
        }))
    }

    /// Where the documents of an ID are kept: the newest layout that is there.
    #[must_use]
    pub fn documents_path(&self, id: &Id) -> PathBuf {
        let folder = self.public.join(id.address());
        let [newest, ..] = DOCUMENTS;
        let found = DOCUMENTS.iter().find(|name| folder.join(name).exists());
        folder.join(found.copied().unwrap_or(newest))
    }

    /// The login records of an ID as they stand in the file: objects with `cmd` and `msg`, not
    /// proven here.
    pub fn logins(&self, id: &Id) -> Done<Vec<Done<Map<String, Value>>>> {
        let path = self.logins_path(id);
        let Some(value) = read_json(&path)? else {
            return Ok(Vec::new());
        };
        let entries = entries_of(value, "records", "cmd")
            .ok_or(Fault::Shape("login records"))
            .map_err(at(&path))?;
        Ok(proven_each(&path, entries, |map| {
            let whole =
                ["cmd", "msg"].iter().all(|key| map.get(*key).is_some_and(Value::is_object));
            if whole { Ok(map) } else { Err(Fault::Shape("cmd and msg")) }
        }))
    }

    /// Where the login records of an ID are kept.
    #[must_use]
    pub fn logins_path(&self, id: &Id) -> PathBuf {
        self.public.join(id.address()).join(LOGINS)
    }

    /// A list that the owner of an ID has left: the command as it came. None if there is no file.
    pub fn list(&self, id: &Id, which: List) -> Done<Option<Map<String, Value>>> {
        let path = self.list_path(id, which);
        let Some(map) = read_object(&path)? else {
            return Ok(None);
        };
        match map.get("list") {
            Some(Value::Array(_)) => Ok(Some(map)),
            _ => Err(at(&path)(Fault::Shape("a command with a list"))),
        }
    }

    /// Where a list of an ID is kept.
    #[must_use]
    pub fn list_path(&self, id: &Id, which: List) -> PathBuf {
        self.protected.join(id.address()).join(format!("{}_stored.js", which.name()))
    }

    /// The identity key of an ID. None if it is not here.
    pub fn sign_key(&self, id: &Id) -> Done<Option<SignKey>> {
        for name in SECRET {
            let path = self.private.join(id.address()).join(name);
            if let Some(map) = read_object(&path)? {
                let key = SignKey::from_map(&map).map_err(Fault::Proof);
                return key.map(Some).map_err(at(&path));
            }
        }
        Ok(None)
    }

    /// The message keys of an ID, newest first, each usable or refused.
    pub fn message_keys(&self, id: &Id) -> Done<Vec<Done<OpenKey>>> {
        let path = self.private.join(id.address()).join(SECRET_KEYS);
        let Some(value) = read_json(&path)? else {
            return Ok(Vec::new());
        };
        let entries = entries_of(value, "keys", "data")
            .ok_or(Fault::Shape("a list of RSA keys"))
            .map_err(at(&path))?;
        Ok(proven_each(&path, entries, |map| Ok(OpenKey::from_map(&map)?)))
    }

    /// The whole account of an ID that can sign: keys, meta and documents, all of them sound. A
    /// group is signed for by its founder: the one given, or the one in its bulletin.
    pub fn account(&self, id: &Id, founder: Option<&Id>) -> Done<Account> {
        let missing = |path: PathBuf| FolderError { path, fault: Fault::Missing };
        let meta = self.meta(id)?.ok_or_else(|| missing(self.meta_path(id)))?;
        let documents = self.documents(&meta)?.into_iter().collect::<Done<Vec<_>>>()?;
        let signer = match (id.is_group(), founder) {
            (false, _) => id.clone(),
            (true, Some(founder)) => founder.clone(),
            (true, None) => founder_in(&documents).ok_or_else(|| {
                at(&self.documents_path(id))(Fault::Shape("a bulletin that names the founder"))
            })?,
        };
        let secret = self.private.join(signer.address()).join(SECRET[0]);
        let sign = self.sign_key(&signer)?.ok_or_else(|| missing(secret.clone()))?;
        let message_keys = match id.is_group() {
            true => Vec::new(),
            false => self.message_keys(id)?.into_iter().collect::<Done<Vec<_>>>()?,
        };
        let documents = documents.into_iter().map(Proven::into_inner).collect();
        Account::restore(id, meta.into_inner(), documents, sign, message_keys)
            .map_err(|error| at(&secret)(Fault::Proof(error)))
    }

    /// Writes an account down: private keys (of a group: none), then what is public.
    pub fn save(&self, account: &Account) -> Done<()> {
        if !account.id().is_group() {
            self.save_keys(account.id(), account.sign_key(), account.message_keys())?;
        }
        self.save_meta(account.meta())?;
        self.save_documents(account.id(), account.documents())
    }

    /// Writes private keys down.
    pub fn save_keys(&self, id: &Id, sign: &SignKey, message_keys: &[OpenKey]) -> Done<()> {
        let folder = self.private.join(id.address());
        let path = folder.join(SECRET_KEYS);
        let keys = message_keys.iter().map(|key| key.to_map().map(Value::Object));
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(Fault::Proof).map_err(at(&path))?;
        if !keys.is_empty() {
            self.write_json(&path, &keys.into(), true)?;
        }
        // Last: an account is one that has this file.
        let path = folder.join(SECRET[0]);
        let map = sign.to_map().map_err(Fault::Proof).map_err(at(&path))?;
        self.write_json(&path, &map.into(), true)
    }

    /// Writes a meta down.
    pub fn save_meta(&self, meta: &Proven<Meta>) -> Done<()> {
        self.write_json(&self.meta_path(meta.id()), &meta.to_map().into(), false)
    }

    /// Writes documents down, in place of those that were there.
    pub fn save_documents(&self, id: &Id, documents: &[Proven<Document>]) -> Done<()> {
        let list: Vec<Value> = documents.iter().map(|d| Value::Object(d.to_map())).collect();
        let path = self.public.join(id.address()).join(DOCUMENTS[0]);
        self.write_json(&path, &json!({ "documents": list }), false)
    }

    /// Writes login records down, in place of those that were there.
    pub fn save_logins(&self, id: &Id, records: &[Value]) -> Done<()> {
        let path = self.logins_path(id);
        self.write_json(&path, &json!({ "records": records }), false)
    }

    /// Writes a list down as the command that it came by.
    pub fn save_list(&self, id: &Id, which: List, command: Map<String, Value>) -> Done<()> {
        self.write_json(&self.list_path(id, which), &command.into(), true)
    }
}

/// The founder that the newest bulletin names.
#[must_use]
pub fn founder_in(documents: &[Proven<Document>]) -> Option<Id> {
    let named = documents.iter().find_map(|document| document.properties().get("founder"));
    named.and_then(Value::as_str).and_then(|text| Id::parse(text).ok())
}

/// Folders that are called like an address; a missing parent has none.
fn addresses_in(parent: &Path) -> Done<impl Iterator<Item = Done<Address>>> {
    let parent = parent.to_owned();
    let entries = match fs::read_dir(&parent) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(&parent)(Fault::Io(error))),
    };
    Ok(entries.into_iter().flatten().filter_map(move |entry| match entry {
        Ok(entry) => {
            let name = entry.file_name();
            let address = Address::parse(name.to_str()?).ok()?;
            (!address.is_broadcast() && entry.path().is_dir()).then_some(Ok(address))
        }
        Err(error) => Some(Err(at(&parent)(Fault::Io(error)))),
    }))
}

/// The list in `value`: under `key`, as a whole, or the one object that has `sign`.
fn entries_of(value: Value, key: &str, sign: &str) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        Value::Object(mut map) => match map.remove(key) {
            Some(Value::Array(list)) => Some(list),
            _ => {
                ["profile", sign].iter().any(|key| map.contains_key(*key)).then(|| vec![map.into()])
            }
        },
        _ => None,
    }
}

fn proven_each<T>(
    path: &Path,
    entries: Vec<Value>,
    prove: impl Fn(Map<String, Value>) -> Result<T, Fault>,
) -> Vec<Done<T>> {
    let numbered = entries.into_iter().zip(1..);
    numbered
        .map(|(entry, number)| {
            let found = match entry {
                Value::Object(map) => prove(map),
                _ => Err(Fault::Shape("an object")),
            };
            found.map_err(|fault| at(path)(Fault::Entry(number, Box::new(fault))))
        })
        .collect()
}

/// The first version called the signed text `profile`.
fn with_old_names(mut map: Map<String, Value>) -> Map<String, Value> {
    if !map.contains_key("data")
        && let Some(text) = map.remove("profile")
    {
        map.insert("data".into(), text);
    }
    map
}

fn read_object(path: &Path) -> Done<Option<Map<String, Value>>> {
    match read_json(path)? {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(at(path)(Fault::Shape("a JSON object"))),
    }
}

/// The JSON in a file. None if there is no such file.
pub fn read_json(path: &Path) -> Done<Option<Value>> {
    match read_bytes(path)? {
        None => Ok(None),
        Some(bytes) => text::parse(&bytes).map(Some).map_err(|e| at(path)(Fault::Json(e))),
    }
}

/// What a file holds. None if there is no such file.
pub fn read_bytes(path: &Path) -> Done<Option<Vec<u8>>> {
    let bytes = || -> Result<Vec<u8>, Fault> {
        // Before the opening, which would wait at a pipe.
        if !fs::metadata(path).map_err(Fault::Io)?.is_file() {
            return Err(Fault::NotAFile);
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(Fault::Io)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Fault::Io)?;
        match u64::try_from(bytes.len()) {
            Ok(..=FILE_BYTES_MAX) => Ok(bytes),
            _ => Err(Fault::TooLong),
        }
    };
    match bytes() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Fault::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(at(path)(fault)),
    }
}

/// Writes a file whole or not at all: beside it, synced, then renamed over it. A secret one is
/// readable by its owner only, and so is its folder from then on.
pub fn write_bytes(path: &Path, bytes: &[u8], secret: bool) -> Done<()> {
    write(path, bytes, secret, true)
}

fn write(path: &Path, bytes: &[u8], secret: bool, sync: bool) -> Done<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    // A name of its own: a station and a command may write the same file at the same time.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}-{number}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let done = replace(path, &beside, bytes, secret, sync);
    if done.is_err() {
        // It may not even have been made; what failed is said below.
        let _ = fs::remove_file(&beside);
    }
    done.map_err(|error| at(path)(Fault::Io(error)))
}

fn replace(path: &Path, beside: &Path, bytes: &[u8], secret: bool, sync: bool) -> io::Result<()> {
    let synced = |file: &fs::File| if sync { file.sync_all() } else { Ok(()) };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
            synced(&fs::File::open(parent)?)?;
        }
    } else if secret && fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER_MODE))?;
    }
    let mode = if secret { SECRET_MODE } else { PUBLIC_MODE };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
    file.write_all(bytes)?;
    synced(&file)?;
    fs::rename(beside, path)?;
    synced(&fs::File::open(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::meta::MetaKind;

    fn bot() -> Account {
        let (sign, open) = (SignKey::generate_ecc().unwrap(), OpenKey::generate(1024).unwrap());
        Account::create(MetaKind::Mkm, 4, Some("bot"), sign, open, 1000.0, Map::new()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_account_comes_back_and_its_secrets_are_its_owners() {
        let place = tempfile::tempdir().unwrap();
        let (folder, made) = (Folder::below(place.path()), bot());
        let private = folder.private.join(made.id().address());
        fs::create_dir_all(&private).unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o755)).unwrap();
        folder.save(&made).unwrap();
        let read = folder.account(made.id(), None).unwrap();
        assert_eq!((read.id(), read.documents()), (made.id(), made.documents()));
        assert_eq!(read.message_keys().len(), 1);
        assert_eq!((mode(&private), mode(&private.join(SECRET[0]))), (0o700, 0o600));
        assert_eq!(mode(&folder.meta_path(made.id())), 0o644);
        let found: Vec<_> = folder.addresses().unwrap().map(Result::unwrap).collect();
        assert_eq!(found.iter().map(Address::as_str).collect::<Vec<_>>(), [made.id().address()]);
        assert_eq!(folder.meta_at(&found[0]).unwrap().unwrap().id(), made.id());
        assert_eq!(fs::read_dir(private).unwrap().count(), 2);
    }

    #[test]
    fn every_layout_of_documents_is_read() {
        let place = tempfile::tempdir().unwrap();
        let (folder, made) = (Folder::below(place.path()), bot());
        folder.save_meta(made.meta()).unwrap();
        let public = folder.public.join(made.id().address());
        let visa = made.document().unwrap().to_map();
        let mut first = visa.clone();
        let text = first.remove("data").unwrap();
        first.insert("profile".into(), text);
        for (name, value) in [
            ("profile.js", json!(first)),
            ("document.js", json!(visa)),
            ("documents.js", json!([visa])),
            ("documents.js", json!({"documents": [visa]})),
        ] {
            folder.write_json(&public.join(name), &value, false).unwrap();
            let read: Vec<_> =
                folder.documents(made.meta()).unwrap().into_iter().map(Result::unwrap).collect();
            assert_eq!(read.len(), 1, "{name}");
            assert!(read[0].is_same_as(made.document().unwrap()), "{name}");
        }
    }

    #[test]
    fn an_old_key_file_is_read_and_the_new_one_counts_more() {
        let place = tempfile::tempdir().unwrap();
        let (folder, made) = (Folder::below(place.path()), bot());
        let private = folder.private.join(made.id().address());
        let old = SignKey::generate_rsa(1024).unwrap().to_map().unwrap();
        folder.write_json(&private.join(SECRET[1]), &old.into(), true).unwrap();
        assert!(matches!(folder.sign_key(made.id()).unwrap(), Some(SignKey::Rsa(_))));
        folder.save(&made).unwrap();
        assert!(matches!(folder.sign_key(made.id()).unwrap(), Some(SignKey::Ecc(_))));
    }

    #[test]
    fn a_damaged_file_is_named_with_what_is_wrong() {
        let place = tempfile::tempdir().unwrap();
        let (folder, made) = (Folder::below(place.path()), bot());
        folder.save(&made).unwrap();
        let said = |error: FolderError| error.fault.to_string();
        let public = folder.public.join(made.id().address());
        let mut forged = made.document().unwrap().to_map();
        forged.insert("data".into(), "{\"name\": \"Eve\"}".into());
        let list = json!([made.document().unwrap().to_map(), forged, 7]);
        folder.write_json(&public.join("documents.js"), &list, false).unwrap();
        let read = folder.documents(made.meta()).unwrap();
        let said_of: Vec<_> = read.into_iter().map(|d| d.err().map(said)).collect();
        let forged = "entry 2: signature does not match".to_owned();
        let number = "entry 3: this should hold an object".to_owned();
        assert_eq!(said_of, [None, Some(forged), Some(number)]);
        assert!(folder.account(made.id(), None).is_err());

        for (bytes, expected) in [
            (&b"{\"type\": 1, "[..], "not valid json"),
            (b"[]", "this should hold a JSON object"),
            (b"{}", "meta.type: expected 1, 2 or 4, or its name"),
        ] {
            fs::write(public.join(META), bytes).unwrap();
            let error = folder.meta(made.id()).unwrap_err();
            assert_eq!(error.path, public.join(META));
            assert!(error.fault.to_string().contains(expected), "{error}");
        }
        fs::remove_file(public.join(META)).unwrap();
        fs::create_dir(public.join(META)).unwrap();
        assert_eq!(said(folder.meta(made.id()).unwrap_err()), "not a file");
        let long = fs::File::create(public.join(LOGINS)).unwrap();
        long.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(said(folder.logins(made.id()).unwrap_err()), "longer than 16 MiB");
    }

    #[test]
    fn keys_of_somebody_else_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let (folder, one, two) = (Folder::below(place.path()), bot(), bot());
        folder.save(&one).unwrap();
        folder.save_keys(one.id(), two.sign_key(), &[]).unwrap();
        let error = folder.account(one.id(), None).unwrap_err();
        assert!(matches!(error.fault, Fault::Proof(CryptoError::Identity)), "{error}");
    }
}
